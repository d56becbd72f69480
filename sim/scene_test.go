package sim_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/sim"
)

func TestScenesAreFair(t *testing.T) {
	seen := map[sim.Colour][2]bool{}
	for seed := range uint64(300) {
		scene := sim.NewScene(sim.NewRand(seed, 0))
		again := sim.NewScene(sim.NewRand(seed, 0))
		var sides [2]int
		colours := map[sim.Colour]bool{}
		for i, c := range scene.Cubes {
			if c != again.Cubes[i] {
				t.Fatalf("seed %d gives two scenes", seed)
			}
			colours[c.Colour] = true
			sides[c.Side()]++
			both := seen[c.Colour]
			both[c.Side()] = true
			seen[c.Colour] = both
			for _, o := range scene.Cubes[:i] {
				if math.Hypot(c.X-o.X, c.Y-o.Y) < math.Sqrt2*sim.CubeSize {
					t.Errorf("seed %d: the %s and %s cubes may touch", seed, c.Colour, o.Colour)
				}
			}
		}
		if len(colours) != len(scene.Cubes) || sides[0] < 1 || sides[0] > 2 || sides[1] < 1 || sides[1] > 2 {
			t.Errorf("seed %d: %+v", seed, scene)
		}
	}
	for _, c := range sim.Colours() {
		if seen[c] != [2]bool{true, true} {
			t.Errorf("%s cubes lie on sides %v", c, seen[c])
		}
	}
}

// Goals vary smoothly with the cube, as a policy must learn them: a millimetre
// on the table is nowhere more than 0.02 rad.
func TestGoalsAreSmooth(t *testing.T) {
	arms := newArms(t)
	rapid.Check(t, func(t *rapid.T) {
		scene := sim.NewScene(sim.NewRand(rapid.Uint64().Draw(t, "seed"), 0))
		moved := sim.Scene{Cubes: append([]sim.Cube(nil), scene.Cubes...)}
		angle := rapid.Float64Range(0, 2*math.Pi).Draw(t, "direction")
		for i := range moved.Cubes {
			moved.Cubes[i].X += 1e-3 * math.Cos(angle)
			moved.Cubes[i].Y += 1e-3 * math.Sin(angle)
		}
		a, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatal(err)
		}
		b, err := sim.NewExpert(arms, moved)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range scene.Cubes {
			was, _ := a.Goal(c.Colour)
			is, _ := b.Goal(c.Colour)
			for i := range was {
				if math.Abs(is[i]-was[i]) > 0.02 {
					t.Fatalf("%s: column %d jumps from %g to %g", c.Colour, i, was[i], is[i])
				}
			}
		}
	})
}

func TestInstructionsNameTheirColour(t *testing.T) {
	rng := sim.NewRand(1, 0)
	for _, c := range sim.Colours() {
		said := map[string]bool{}
		for range 500 {
			text := sim.Instruction(rng, c)
			said[text] = true
			if got, ok := sim.NamedColour(text); !ok || got != c {
				t.Errorf("%q names %s", text, got)
			}
			if text != strings.ToLower(text) || strings.Contains(text, "%") {
				t.Errorf("%q", text)
			}
		}
		if len(said) != len(sim.Phrases()) {
			t.Errorf("%s: %d of %d phrases were drawn", c, len(said), len(sim.Phrases()))
		}
	}
	if c, ok := sim.NamedColour("Please touch the RED, not the blue one."); !ok || c != "red" {
		t.Errorf("%q %v", c, ok)
	}
	if _, ok := sim.NamedColour("hundred"); ok {
		t.Error("a colour inside a word")
	}
}
