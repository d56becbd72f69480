package sim_test

import (
	"cmp"
	"slices"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/sim"
)

// The committed policy does what the words say: on tables that it never saw, with
// pictures drawn from where its own motion brought the arms, it is told of one
// cube and then, from there, of another. Chunks are executed whole, without the
// node's limits. It prints every instruction's outcome with -v.
func TestPolicyFollowsTheInstruction(t *testing.T) {
	const (
		scenes   = 6
		duration = 5 * time.Second // for each instruction
	)
	ctx := t.Context()
	p, err := policy.Open(ctx, testbundle.Dir(t), policy.Options{Runtime: ort.Config{Threads: 2}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	arms := newArms(t)
	renderer := sim.NewRenderer(arms, sim.PictureWidth, sim.PictureHeight)
	o := policy.Observation{Images: make([]policy.Image, sim.Cameras)}
	for i := range o.Images {
		o.Images[i].Raw = vision.Raw{
			Encoding: "rgb8", Width: sim.PictureWidth, Height: sim.PictureHeight, Step: 3 * sim.PictureWidth,
			Data: make([]byte, renderer.Size()),
		}
	}
	var reached, nearest, given int
	chance := 0.0
	for i := range uint64(scenes) {
		rng := sim.NewRand(closedLoopSeed, i)
		scene := sim.NewScene(rng)
		world := sim.NewWorld(arms, scene)
		cubes := slices.Clone(scene.Cubes)
		rng.Shuffle(len(cubes), func(i, j int) { cubes[i], cubes[j] = cubes[j], cubes[i] })
		for _, cube := range cubes[:2] {
			o.Instruction = sim.Instruction(rng, cube.Colour)
			for end := world.Now() + duration; world.Now() < end; {
				q := world.State()
				o.Proprio = q[:]
				for id := range o.Images {
					if err := renderer.Render(&q, scene, sim.CameraID(id), o.Images[id].Raw.Data); err != nil {
						t.Fatal(err)
					}
				}
				result, err := p.Infer(ctx, &o)
				if err != nil {
					t.Fatal(err)
				}
				for k := range sim.ChunkRows {
					world.Command(sim.State(result.Chunk.At(k)))
					world.Step(time.Second / sim.ChunkRate)
				}
			}
			q := world.State()
			near := slices.MinFunc(scene.Cubes, func(a, b sim.Cube) int {
				return cmp.Compare(sim.Distance(arms, &q, a), sim.Distance(arms, &q, b))
			})
			d := sim.Distance(arms, &q, cube)
			t.Logf("scene %d, %d cubes, %-26q: %4.1f cm from the %s cube", i, len(cubes), o.Instruction, 100*d, cube.Colour)
			given++
			chance += 1 / float64(len(cubes))
			if d <= sim.Reached {
				reached++
			}
			if near == cube {
				nearest++
			}
		}
	}
	t.Logf("%d of %d instructions: the tool ends within %.0f cm of its place above the named cube; "+
		"%d nearer to it than to any other, where %.1f would be by chance",
		reached, given, 100*sim.Reached, nearest, chance)
	// The committed checkpoint does all twelve; another machine's rounding may cost one.
	if nearest < given-1 || reached < given*3/4 {
		t.Errorf("%d of %d instructions were followed, %d reached", nearest, given, reached)
	}
}

// closedLoopSeed draws tables that are in no training data; see policies/tiny-reach.
const closedLoopSeed = 77
