package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

func read(t *testing.T, dir, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func floats(t *testing.T, dir, name string) []float64 {
	t.Helper()
	raw := read(t, dir, name)
	out := make([]float64, len(raw)/4)
	for i := range out {
		out[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:])))
	}
	return out
}

func decode[T any](t *testing.T, dir, name string) (v T) {
	t.Helper()
	if err := json.Unmarshal(read(t, dir, name), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The files have the sizes that meta.json says, samples agree with the expert,
// and the number of workers changes nothing.
func TestDataSet(t *testing.T) {
	const n, size = 40, 16 // more than one batch
	one, two := t.TempDir(), t.TempDir()
	for dir, workers := range map[string]int{one: 1, two: 2} {
		if err := write(config{out: dir, n: n, seed: 4, size: size, workers: workers}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"meta.json", "images.u8", "proprio.f32", "actions.f32", "alternatives.f32", "instructions.json", "colours.json"} {
		if !bytes.Equal(read(t, one, name), read(t, two, name)) {
			t.Errorf("%s depends on the number of workers", name)
		}
	}
	m := decode[meta](t, one, "meta.json")
	if m.N != n || m.Size != size || m.Dims != 14 || m.Chunk != 8 || m.ActionRate != 20 || len(m.Cameras) != 3 || len(m.Names) != 14 {
		t.Errorf("meta %+v", m)
	}
	if got := len(read(t, one, "images.u8")); got != n*3*size*size*3 {
		t.Errorf("images.u8 holds %d bytes", got)
	}
	proprio, actions, others := floats(t, one, "proprio.f32"), floats(t, one, "actions.f32"), floats(t, one, "alternatives.f32")
	goals := floats(t, one, "goals.f32")
	if len(proprio) != n*14 || len(goals) != n*4*14 || len(actions) != n*8*14 || len(others) != n*3*8*14 {
		t.Fatalf("%d, %d, %d numbers", len(proprio), len(actions), len(others))
	}
	instructions, colours := decode[[]string](t, one, "instructions.json"), decode[[]sim.Colour](t, one, "colours.json")
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		// The scene is the first draw of the sample's stream.
		scene := sim.NewScene(sim.NewRand(4, uint64(i)))
		expert, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatal(err)
		}
		if named, _ := sim.NamedColour(instructions[i]); named != colours[i] {
			t.Errorf("sample %d: %q, colour %s", i, instructions[i], colours[i])
		}
		state := sim.State(proprio[14*i : 14*i+14])
		other := 0
		for at, c := range sim.Colours() {
			aim := goals[14*(4*i+at):][:14]
			chunk := actions[112*i : 112*i+112]
			if c != colours[i] {
				chunk = others[112*(3*i+other):][:112]
				other++
			}
			goal, ok := expert.Goal(c)
			if !ok {
				if !math.IsNaN(chunk[0]) || !math.IsNaN(chunk[111]) || !math.IsNaN(aim[0]) {
					t.Fatalf("sample %d: a chunk for the %s cube, which is not there", i, c)
				}
				continue
			}
			for d, want := range goal {
				if math.Abs(aim[d]-want) > 1e-5 {
					t.Fatalf("sample %d, %s: goal %g in column %d, the expert says %g", i, c, aim[d], d, want)
				}
			}
			for k, row := range sim.Plan(state, goal) {
				for d, want := range row {
					if math.Abs(chunk[14*k+d]-want) > 1e-5 {
						t.Fatalf("sample %d, %s: row %d column %d is %g, the expert says %g", i, c, k, d, chunk[14*k+d], want)
					}
				}
			}
		}
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := config{out: "x", n: 1, size: 64, workers: 1}
	for flag, change := range map[string]func(*config){
		"--out":     func(c *config) { c.out = "" },
		"--n":       func(c *config) { c.n = 0 },
		"--size":    func(c *config) { c.size = 1 },
		"--workers": func(c *config) { c.workers = 0 },
	} {
		c := good
		change(&c)
		if err := write(c); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("want an error that names %s, have %v", flag, err)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		b.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		b.Fatal(err)
	}
	m, err := newMaker(arms, 1, 64)
	if err != nil {
		b.Fatal(err)
	}
	var s sample
	for i := uint64(0); b.Loop(); i++ {
		if err := m.make(i, &s); err != nil {
			b.Fatal(err)
		}
	}
}
