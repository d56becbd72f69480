package sim_test

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/sim"
)

// driver runs the committed policy on tables that it never saw.
type driver struct {
	testing.TB
	policy   *policy.Policy
	arms     *sim.Arms
	renderer *sim.Renderer
	o        policy.Observation
}

func newDriver(t testing.TB) *driver {
	t.Helper()
	d := &driver{TB: t}
	var err error
	if d.policy, err = policy.Open(t.Context(), testbundle.Dir(t), policy.Options{Runtime: ort.Config{Threads: 2}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.policy.Close(); err != nil {
			t.Error(err)
		}
	})
	d.arms = newArms(t)
	d.renderer = sim.NewRenderer(d.arms, sim.PictureWidth, sim.PictureHeight)
	d.o.Images = make([]policy.Image, sim.Cameras)
	for i := range d.o.Images {
		d.o.Images[i].Raw = vision.Raw{
			Encoding: "rgb8", Width: sim.PictureWidth, Height: sim.PictureHeight, Step: 3 * sim.PictureWidth,
			Data: make([]byte, d.renderer.Size()),
		}
	}
	return d
}

// see takes pictures and posture of a world into the observation.
func (d *driver) see(world *sim.World) {
	d.Helper()
	q := world.State()
	d.o.Stamp, d.o.Proprio = time.Unix(1000, 0).Add(world.Now()), q[:]
	for id := range d.o.Images {
		if err := d.renderer.Render(&q, world.Scene, sim.CameraID(id), d.o.Images[id].Raw.Data); err != nil {
			d.Fatal(err)
		}
	}
}

func (d *driver) infer(p decode.Params, previous *policy.Result) *policy.Result {
	d.Helper()
	if err := d.policy.SetDecode(p); err != nil {
		d.Fatal(err)
	}
	d.o.Previous = previous
	r, err := d.policy.Infer(d.Context(), &d.o)
	if err != nil {
		d.Fatal(err)
	}
	return r
}

// run is how well a decoding drives the arms.
type run struct {
	given, reached int // instructions
	chunks, warm   int
	rounds         int
	took           time.Duration // for the rounds
	// Differences from what the expert would do from the same posture (rad), over
	// joints and rows.
	fault, worst float64
	values       int
	// The same against a cold decoding of the same observations.
	tokens, equal int
	apart         float64 // largest, rad
}

// drive follows two instructions on each of some tables, and begins a new chunk
// after every rows rows. Each chunk is compared with one that cold decodes, unless
// that has no rounds.
func (d *driver) drive(p, cold decode.Params, scenes uint64, duration time.Duration, rows int) (out run) {
	d.Helper()
	for i := range scenes {
		rng := sim.NewRand(closedLoopSeed, i)
		scene := sim.NewScene(rng)
		expert, err := sim.NewExpert(d.arms, scene)
		if err != nil {
			d.Fatal(err)
		}
		world := sim.NewWorld(d.arms, scene)
		cubes := slices.Clone(scene.Cubes)
		rng.Shuffle(len(cubes), func(i, j int) { cubes[i], cubes[j] = cubes[j], cubes[i] })
		var last *policy.Result
		for _, cube := range cubes[:2] {
			d.o.Instruction = sim.Instruction(rng, cube.Colour)
			goal, _ := expert.Goal(cube.Colour)
			for end := world.Now() + duration; world.Now() < end; {
				d.see(world)
				r := d.infer(p, last)
				out.chunks++
				out.rounds += r.Rounds
				out.took += r.Timings.Inference
				if r.Warm > 0 {
					out.warm++
				}
				if want := p.WarmStart && last != nil && last.Prompt == r.Prompt; (r.Warm > 0) != want {
					d.Fatalf("%d tokens were taken over, %s", r.Warm, r.Cold)
				}
				plan := sim.Plan(world.State(), goal)
				for k, v := range r.Chunk.Values {
					if off := math.Abs(v - plan[k/sim.Dims][k%sim.Dims]); !gripperColumn(k) {
						out.fault += off
						out.worst = max(out.worst, off)
						out.values++
					}
				}
				if cold.Rounds > 0 {
					c := d.infer(cold, nil)
					for k, bin := range r.Bins {
						out.tokens++
						if bin == c.Bins[k] {
							out.equal++
						}
						if !gripperColumn(k) {
							out.apart = max(out.apart, math.Abs(r.Chunk.Values[k]-c.Chunk.Values[k]))
						}
					}
				}
				last = r
				for k := range rows {
					world.Command(sim.State(r.Chunk.At(k)))
					world.Step(time.Second / sim.ChunkRate)
				}
			}
			out.given++
			if q := world.State(); sim.Distance(d.arms, &q, cube) <= sim.Reached {
				out.reached++
			}
		}
	}
	return out
}

// gripperColumn reports whether value k of a chunk is a gripper's.
func gripperColumn(k int) bool { return k%(sim.Dims/2) == sim.Dims/2-1 }

// A warm start saves rounds and still gets the arm there. The figures in the
// README are BenchmarkWarmStart's.
func TestWarmStartReachesToo(t *testing.T) {
	d := newDriver(t)
	p := decode.Params{Preset: decode.Greedy, Rounds: 4, WarmStart: true}
	r := d.drive(p, decode.Params{}, 1, 4*time.Second, 2)
	t.Log(r)
	// All but the first chunk of each instruction.
	if want := r.chunks - r.given; r.warm != want {
		t.Errorf("%d of %d chunks began warm, want %d", r.warm, r.chunks, want)
	}
	if most := 4*r.given + 2*r.warm; r.rounds > most {
		t.Errorf("%d rounds, at most %d were to be", r.rounds, most)
	}
	// The committed policy is 0.002 rad off the expert and reaches both;
	// another machine's rounding may cost one.
	if off := r.fault / float64(r.values); r.reached < r.given/2 || off > 0.004 {
		t.Errorf("%d of %d instructions reached, %.4f rad off the expert", r.reached, r.given, off)
	}
}

// BenchmarkWarmStart drives the simulated arms with and without a warm start, a
// new chunk after every other row (10 Hz), and prints a table:
//
//	go test ./sim -run xxx -bench WarmStart -benchtime 1x
//
// The lines without a warm start and with few rounds say what the rounds alone do.
func BenchmarkWarmStart(b *testing.B) {
	d := newDriver(b)
	greedy := func(rounds int, change func(p *decode.Params)) decode.Params {
		p := decode.Params{Preset: decode.Greedy, Rounds: rounds}
		if change != nil {
			change(&p)
		}
		return p
	}
	warm := func(p *decode.Params) { p.WarmStart = true }
	for range b.N {
		b.Log("decoding: reached, rounds, ms a chunk; error against the expert, mean and largest; tokens as cold, largest difference")
		for _, c := range []struct {
			name string
			p    decode.Params
		}{
			{"T = 12", greedy(12, nil)},
			{"T = 4", greedy(4, nil)},
			{"T = 3", greedy(3, nil)},
			{"T = 2", greedy(2, nil)},
			{"T = 1", greedy(1, nil)},
			{"T = 12, warm", greedy(12, warm)},
			{"T = 4, warm", greedy(4, warm)},
			{"T = 12, warm, 12 rounds", greedy(12, func(p *decode.Params) { warm(p); p.WarmStartRounds = 12 })},
			{"T = 12, warm, 2 rounds", greedy(12, func(p *decode.Params) { warm(p); p.WarmStartRounds = 2 })},
			{"T = 12, warm from 0.3", greedy(12, func(p *decode.Params) { warm(p); p.WarmStartConfidence = 0.3 })},
			{"T = 12, warm, nothing masked again", greedy(12, func(p *decode.Params) { warm(p); p.Threshold = []float64{0} })},
		} {
			cold := c.p
			cold.WarmStart, cold.WarmStartRounds = false, 0
			if !c.p.WarmStart {
				cold.Rounds = 12
			}
			b.Logf("%-36s %v", c.name+":", d.drive(c.p, cold, 4, 4*time.Second, 2))
		}
	}
}

func (r run) String() string {
	n := float64(r.chunks)
	return fmt.Sprintf("%2d of %d, %5.2f, %5.1f; %.4f and %.3f rad; %5.1f %%, %.3f rad", r.reached, r.given,
		float64(r.rounds)/n, 1e3*r.took.Seconds()/n, r.fault/float64(r.values), r.worst,
		100*float64(r.equal)/float64(max(r.tokens, 1)), r.apart)
}
