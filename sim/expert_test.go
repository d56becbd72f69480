package sim_test

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

func newArms(t testing.TB) *sim.Arms {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	return arms
}

// failer is what testing.T and rapid.T share.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

func withinLimits(t failer, arms *sim.Arms, q *sim.State) {
	t.Helper()
	for _, s := range []sim.Side{sim.Left, sim.Right} {
		for i, j := range arms.Chain(s).Joints {
			if v := q.Joints(s)[i]; !(v >= j.Lower && v <= j.Upper) {
				t.Fatalf("%s is %g, limits are %g to %g", j.Name, v, j.Lower, j.Upper)
			}
		}
		if g := *q.Gripper(s); !(g >= 0 && g <= sim.GripperOpen) {
			t.Fatalf("%s gripper is %g", s, g)
		}
	}
}

// Following the expert's chunks from home ends within 1 cm above every cube of
// 200 scenes, within all limits and no faster than it says.
func TestExpertReachesEveryCube(t *testing.T) {
	arms := newArms(t)
	for seed := range uint64(200) {
		scene := sim.NewScene(sim.NewRand(seed, 7))
		expert, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for _, cube := range scene.Cubes {
			goal, ok := expert.Goal(cube.Colour)
			if !ok {
				t.Fatalf("seed %d: no goal for the %s cube", seed, cube.Colour)
			}
			q := sim.Home()
			for range 15 {
				before := q
				for _, row := range sim.Plan(q, goal) {
					withinLimits(t, arms, &row)
					for i := range row {
						if v := math.Abs(row[i]-before[i]) * sim.ChunkRate; v > 0.9+1e-9 {
							t.Fatalf("seed %d: column %d moves at %g a second", seed, i, v)
						}
					}
					before = row
				}
				q = before
			}
			if d := sim.Distance(arms, &q, cube); d > 0.01 {
				t.Errorf("seed %d: %.1f mm from the %s cube", seed, d*1e3, cube.Colour)
			}
			tool := arms.Tool(&q, cube.Side())
			if down := -tool.R[8]; down < 0.7 {
				t.Errorf("seed %d: the gripper at the %s cube points down by %.2f only", seed, cube.Colour, down)
			}
			// The other arm stays.
			other := sim.Left
			if cube.Side() == sim.Left {
				other = sim.Right
			}
			home := sim.Home()
			for i, v := range q.Joints(other) {
				if math.Abs(v-home.Joints(other)[i]) > 1e-9 {
					t.Fatalf("seed %d: the %s arm moved", seed, other)
				}
			}
		}
	}
}

// A chunk is a function of pose and goal alone: planning again from any of its
// rows gives the rest of it.
func TestPlanContinuesItself(t *testing.T) {
	arms := newArms(t)
	rapid.Check(t, func(t *rapid.T) {
		seed := rapid.Uint64().Draw(t, "seed")
		rng := sim.NewRand(seed, 0)
		scene := sim.NewScene(rng)
		expert, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatal(err)
		}
		goal, _ := expert.Goal(scene.Cubes[0].Colour)
		q := expert.Sample(rng, arms, goal)
		chunk := sim.Plan(q, goal)
		k := rapid.IntRange(0, sim.ChunkRows-2).Draw(t, "row")
		again := sim.Plan(chunk[k], goal)
		for i := k + 1; i < sim.ChunkRows; i++ {
			for d := range chunk[i] {
				if math.Abs(chunk[i][d]-again[i-k-1][d]) > 1e-9 {
					t.Fatalf("row %d column %d: %g, planned again %g", i, d, chunk[i][d], again[i-k-1][d])
				}
			}
		}
		// Every row is nearer the goal than the one before, on a line per arm.
		before := q
		for _, row := range chunk {
			for d := range row {
				was, is := goal[d]-before[d], goal[d]-row[d]
				if math.Abs(is) > math.Abs(was) || is*was < 0 {
					t.Fatalf("column %d went from %g to %g off the goal", d, was, is)
				}
			}
			before = row
		}
	})
}

// Advance solves d' = -pace tanh(d/ease): compared with small Euler steps.
func TestAdvanceFollowsItsLaw(t *testing.T) {
	goal := sim.Home()
	rapid.Check(t, func(t *rapid.T) {
		d := rapid.Float64Range(0, 1.5).Draw(t, "way")
		q := goal
		q.Joints(sim.Left)[1] += d
		after := sim.Advance(q, goal, 0.4)
		got := after.Joints(sim.Left)[1] - goal.Joints(sim.Left)[1]
		const steps = 4000
		for range steps {
			d -= 0.9 * math.Tanh(d/0.8) * 0.4 / steps
		}
		if math.Abs(got-d) > 1e-4 {
			t.Fatalf("%g left, small steps leave %g", got, d)
		}
	})
}

func TestSampleStaysWithinLimits(t *testing.T) {
	arms := newArms(t)
	rapid.Check(t, func(t *rapid.T) {
		rng := sim.NewRand(rapid.Uint64().Draw(t, "seed"), 1)
		scene := sim.NewScene(rng)
		expert, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatal(err)
		}
		goal, _ := expert.Goal(scene.Cubes[0].Colour)
		for range 20 {
			q := expert.Sample(rng, arms, goal)
			withinLimits(t, arms, &q)
		}
	})
}

func BenchmarkNewExpert(b *testing.B) {
	arms := newArms(b)
	scene := sim.NewScene(sim.NewRand(1, 0))
	for b.Loop() {
		if _, err := sim.NewExpert(arms, scene); err != nil {
			b.Fatal(err)
		}
	}
}

// A loop as slow as the real one still arrives: a new chunk every 100 ms, made
// from a pose 150 ms old, followed by a servo that lags.
func TestExpertReachesThroughLatency(t *testing.T) {
	const (
		tick    = 10 * time.Millisecond
		period  = 10 // ticks between chunks
		latency = 15 // ticks from pose to command
		row     = 5  // ticks between rows
	)
	arms := newArms(t)
	for seed := range uint64(20) {
		scene := sim.NewScene(sim.NewRand(seed, 9))
		expert, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatal(err)
		}
		cube := scene.Cubes[0]
		goal, _ := expert.Goal(cube.Colour)
		world := sim.NewWorld(arms, scene)
		var past []sim.State
		var chunk sim.Chunk
		seen := -1 // the tick that chunk was seen at
		for n := range 500 {
			past = append(past, world.State())
			if n >= latency && (n-latency)%period == 0 {
				seen = n - latency
				chunk = sim.Plan(past[seen], goal)
			}
			if seen >= 0 {
				world.Command(chunk[min((n-seen)/row, sim.ChunkRows-1)])
			}
			world.Step(tick)
		}
		q := world.State()
		if d := sim.Distance(arms, &q, cube); d > 0.01 {
			t.Errorf("seed %d: %.1f mm from the %s cube after 5 s", seed, d*1e3, cube.Colour)
		}
	}
}
