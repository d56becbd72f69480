package sim

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/spatial/r2"
	"gonum.org/v1/gonum/spatial/r3"
	"pgregory.net/rapid"
)

// Scenes are what they should be, for every task and seed: things apart, within
// reach of the arm on their side and in the head camera's picture after the
// centre crop; not done before anybody moved; the same from the same seed, and
// under every perturbation but distractors, which come last.
func TestEpisodesAreFair(t *testing.T) {
	arms := testArms(t)
	k := NewIntrinsics(PictureWidth, PictureHeight)
	rapid.Check(t, func(t *rapid.T) {
		e := drawEpisode(t, arms)
		again, err := NewEpisode(arms, e.Task, e.Seed, e.Perturbation)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := NewEpisode(arms, e.Task, e.Seed, Perturbation{Language: true, Light: true, Texture: true, Camera: true})
		if err != nil {
			t.Fatal(err)
		}
		n := len(plain.World.Objects)
		if !slices.Equal(e.World.Objects, again.World.Objects) || e.Instruction != again.Instruction || e.Wrong != again.Wrong ||
			!slices.Equal(e.World.Objects[:n], plain.World.Objects) || e.Goal != plain.Goal {
			t.Fatal("the same seed gives two scenes")
		}
		if e.Success() {
			t.Fatal("done before it began")
		}
		home := e.World.State()
		camera := arms.CameraPose(&home, Head).Inverse()
		for i := range e.World.Objects {
			o := &e.World.Objects[i]
			for j := range e.World.Objects[:i] {
				var a, b outline
				a.of(o)
				b.of(&e.World.Objects[j])
				if apart(&a, &b) != (r2.Vec{}) {
					t.Fatalf("%s and %s stand in each other", o.Kind, e.World.Objects[j].Kind)
				}
			}
			c := o.Centre()
			u, v, ok := k.Project(apply(&camera, c))
			if !ok || u < 17 || u > 623 || v < 13 || v > 467 {
				t.Fatalf("the %s is at pixel (%.0f, %.0f)", o.Kind, u, v)
			}
			s := Left
			if c.Y < 0 {
				s = Right
			}
			grip, yaw := gripPoint(o, s), 0.0
			if o.Kind == MatKind { // as the bar that lies on it
				grip.Y += math.Copysign(barGrip, c.Y)
			}
			if o.long() {
				yaw = math.Copysign(math.Pi/2, -c.Y)
			}
			for _, up := range []float64{0, approachHeight} {
				p := r3.Add(grip, r3.Vec{Z: up})
				if _, ok := arms.planar[s].solve(p, yaw); !ok {
					t.Fatalf("the %s arm does not reach the %s at %.3f", s, o.Kind, p)
				}
			}
		}
	})
}

// What is told in training and what is held out are different words for the same;
// every phrasing names what it needs to.
func TestPhrasings(t *testing.T) {
	arms := testArms(t)
	seen := map[string]string{} // phrasing without colours to task
	for _, task := range Tasks() {
		if len(task.Train) < 6 || len(task.HeldOut) < 3 {
			t.Errorf("%s has %d and %d phrasings", task.Name, len(task.Train), len(task.HeldOut))
		}
		for i, phrase := range append(slices.Clone(task.Train), task.HeldOut...) {
			if other, ok := seen[phrase]; ok {
				t.Errorf("%q is said for %s and for %s", phrase, other, task.Name)
			}
			seen[phrase] = task.Name
			if strings.Contains(phrase, "{a}") != strings.Contains(task.Train[0], "{a}") || strings.Contains(phrase, "{b}") != strings.Contains(task.Train[0], "{b}") {
				t.Errorf("%s: phrasing %d, %q, names other things than the first", task.Name, i, phrase)
			}
		}
		for seed := range uint64(20) {
			e, err := NewEpisode(arms, task, seed, Perturbation{})
			if err != nil {
				t.Fatal(err)
			}
			held, err := NewEpisode(arms, task, seed, Perturbation{Language: true})
			if err != nil {
				t.Fatal(err)
			}
			c, err := e.Counterpart()
			if err != nil {
				t.Fatal(err)
			}
			for what, bad := range map[string]bool{
				"a training instruction that is none of its paraphrases": !slices.Contains(e.Paraphrases, e.Instruction),
				"a held-out instruction that is among the paraphrases":   slices.Contains(e.Paraphrases, held.Instruction),
				"an unfilled place":                    strings.ContainsAny(e.Instruction+held.Instruction+e.Wrong, "{}"),
				"a wrong instruction is right":         slices.Contains(e.Paraphrases, e.Wrong),
				"a counterpart that asks for the same": c.Instruction != e.Wrong || !slices.Contains(c.Paraphrases, c.Instruction) || c.Goal == e.Goal,
			} {
				if bad {
					t.Errorf("%s, seed %d: %s: %q, %q, wrong %q", task.Name, seed, what, e.Instruction, held.Instruction, e.Wrong)
				}
			}
		}
	}
	if _, err := TaskNamed("juggle"); !errors.Is(err, ErrTask) {
		t.Errorf("want ErrTask, have %v", err)
	}
}

func TestPerturbationNames(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var p Perturbation
		for _, f := range p.fields() {
			*f = rapid.Bool().Draw(t, "on")
		}
		if got, err := ParsePerturbation(p.String()); err != nil || got != p {
			t.Fatalf("%q is read as %+v, %v", p, got, err)
		}
	})
	if p, err := ParsePerturbation("all"); err != nil || p.String() != strings.Join(Perturbations(), "+") {
		t.Errorf("all: %v, %v", p, err)
	}
	if p, err := ParsePerturbation(Vision); err != nil || p.String() != "light+texture+camera" {
		t.Errorf("%s: %v, %v", Vision, p, err)
	}
	if _, err := ParsePerturbation("light+wind"); err == nil || !strings.Contains(err.Error(), "wind") {
		t.Errorf("want an error that names wind, have %v", err)
	}
}

// What a demonstrator commands is continuous in where the arms are: a posture a
// little off changes the command by a little, all along an episode.
func TestDemonstratorIsContinuous(t *testing.T) {
	arms := testArms(t)
	rapid.Check(t, func(t *rapid.T) {
		e := drawEpisode(t, arms)
		expert := e.Expert()
		for range rapid.IntRange(0, 150).Draw(t, "frames") {
			e.World.Command(expert.Act(e.World))
			e.World.Step(RowTime)
		}
		base := expert.Act(e.World)
		const step = 1e-5
		near := e.World.Clone()
		for i := range near.servo.Position {
			if i%armDims < armDims-1 {
				near.servo.Position[i] += step * rapid.Float64Range(-1, 1).Draw(t, "off")
			}
		}
		near.findTools()
		for i, v := range expert.Act(near) {
			// Openings change by 0.055 m over 0.01 m of the tool's way, 0.5 m a rad;
			// joints by the funnel's slope.
			if d := math.Abs(v - base[i]); d > 100*step {
				t.Fatalf("%s: column %d changes by %g for %g", e.Task.Name, i, d, step)
			}
		}
	})
}

// Shoved, with the gripper opened against its will and things moved, the
// demonstrator still does the task.
func TestDemonstratorRecovers(t *testing.T) {
	arms := testArms(t)
	for _, task := range Tasks() {
		failed := 0
		const seeds = 10
		for seed := range uint64(seeds) {
			e, err := NewEpisode(arms, task, seed+500, Perturbation{})
			if err != nil {
				t.Fatal(err)
			}
			expert := e.Expert()
			rng := NewRand(seed, 77)
			for n := 0; e.World.Now() < 2*e.Limit && !e.Success(); n++ {
				q := expert.Act(e.World)
				if n%40 >= 30 && n < 160 {
					for i := range q {
						q[i] += 0.15 * rng.NormFloat64()
					}
					*q.Gripper(Left), *q.Gripper(Right) = GripperOpen, GripperOpen
				}
				if n == 50 {
					e.World.Nudge(e.Goal.Object, 0.02, -0.02)
				}
				e.World.Command(q)
				e.World.Step(RowTime)
			}
			if !e.Success() {
				failed++
				t.Logf("%s, seed %d: not done", task.Name, seed)
			}
		}
		if failed > 1 {
			t.Errorf("%s: %d of %d not done", task.Name, failed, seeds)
		}
	}
}

// The chunk of a demonstrator is what it commands while its commands are followed.
func TestChunkIsARollOut(t *testing.T) {
	arms := testArms(t)
	e, err := NewEpisode(arms, cupTask(), 3, Perturbation{})
	if err != nil {
		t.Fatal(err)
	}
	expert := e.Expert()
	for range 16 {
		chunk := expert.Chunk(e.World)
		for k, row := range chunk {
			if got := expert.Act(e.World); got != row {
				t.Fatalf("row %d is %v, then commanded %v", k, row, got)
			}
			e.World.Command(row)
			e.World.Step(RowTime)
		}
	}
	if !e.Success() {
		t.Error("16 chunks do not do it")
	}
}
