package sim_test

import (
	"bytes"
	"math"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/sim"
)

// pixelOf is where a point of body_Link appears in a camera's picture.
func pixelOf(arms *sim.Arms, e *sim.Episode, c sim.CameraID, k sim.Intrinsics, p r3.Vec) (x, y int, ok bool) {
	home := e.World.State()
	camera := arms.CameraPose(&home, c).Mul(e.Look.Mount[c]).Inverse()
	q := camera.Apply([3]float64{p.X, p.Y, p.Z})
	u, v, ok := k.Project(r3.Vec{X: q[0], Y: q[1], Z: q[2]})
	x, y = int(math.Floor(u)), int(math.Floor(v))
	return x, y, ok && x >= 0 && y >= 0 && x < k.Width && y < k.Height
}

// Cubes of tasks appear in their colour where the head camera's pose and pinhole
// say, under every look.
func TestObjectsAppearWhereTheyAre(t *testing.T) {
	arms := newArms(t)
	const width, height = 320, 240
	r := sim.NewRenderer(arms, width, height)
	k := sim.NewIntrinsics(width, height)
	dst := make([]byte, r.Size())
	rapid.Check(t, func(t *rapid.T) {
		tasks := sim.Tasks()
		p := sim.Perturbation{Texture: rapid.Bool().Draw(t, "texture"), Camera: rapid.Bool().Draw(t, "camera")}
		e, err := sim.NewEpisode(arms, tasks[rapid.IntRange(0, len(tasks)-1).Draw(t, "task")], rapid.Uint64().Draw(t, "seed"), p)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.RenderWorld(e.World, &e.Look, sim.Head, dst); err != nil {
			t.Fatal(err)
		}
		for i := range e.World.Objects {
			o := &e.World.Objects[i]
			if o.Kind != sim.CubeKind {
				continue
			}
			c := o.Centre()
			c.Z += o.Half().Z
			x, y, ok := pixelOf(arms, e, sim.Head, k, c)
			if !ok {
				t.Fatalf("the %s cube is not in the picture", o.Colour)
			}
			if got := name(dst[3*(y*width+x):][:3]); got != o.Colour {
				t.Fatalf("the %s cube looks %s", o.Colour, got)
			}
		}
	})
}

// Shadows are where rays from the table to the lamp meet a cube, and, under a
// lamp straight above, nowhere beside the cubes.
func TestShadowsAreWhereRaysMeetCubes(t *testing.T) {
	arms := newArms(t)
	const width, height = 320, 240
	r := sim.NewRenderer(arms, width, height)
	k := sim.NewIntrinsics(width, height)
	dst := make([]byte, r.Size())
	rapid.Check(t, func(t *rapid.T) {
		var objects []sim.Object
		for i, colour := range []sim.Colour{"red", "blue"} {
			x, y := rapid.Float64Range(0.55, 0.7).Draw(t, "x"), rapid.Float64Range(-0.2, -0.05).Draw(t, "y")+0.3*float64(i)
			objects = append(objects, sim.NewObject(sim.CubeKind, colour, x, y, rapid.Float64Range(-1, 1).Draw(t, "yaw")))
		}
		look := sim.StandardLook()
		look.Pattern = sim.Plain
		above := rapid.Bool().Draw(t, "above")
		if look.Light = r3.Unit(r3.Vec{X: rapid.Float64Range(-0.7, 0.7).Draw(t, "light x"), Y: rapid.Float64Range(-0.7, 0.7).Draw(t, "light y"), Z: 1}); above {
			look.Light = r3.Vec{Z: 1}
		}
		e := &sim.Episode{World: sim.NewTableWorld(arms, objects), Look: look}
		if err := r.RenderWorld(e.World, &look, sim.Head, dst); err != nil {
			t.Fatal(err)
		}
		lit, dark := look.Ambient+look.Direct*float32(look.Light.Z), look.Ambient
		checked := 0
		for range 60 {
			p := r3.Vec{X: rapid.Float64Range(0.5, 0.8).Draw(t, "px"), Y: rapid.Float64Range(-0.3, 0.4).Draw(t, "py"), Z: sim.TableHeight}
			x, y, ok := pixelOf(arms, e, sim.Head, k, p)
			if !ok {
				continue
			}
			// Clearly in or out: all points a little around give the same.
			in, out := true, true
			for _, d := range [][2]float64{{0, 0}, {0.006, 0}, {-0.006, 0}, {0, 0.006}, {0, -0.006}} {
				met := false
				for i := range objects {
					met = met || meets(&objects[i], r3.Vec{X: p.X + d[0], Y: p.Y + d[1], Z: p.Z}, look.Light)
				}
				in, out = in && met, out && !met
			}
			isTable := func(light float32) bool {
				for c, got := range dst[3*(y*width+x):][:3] {
					if v := byte(255 * look.Table[0][c] * light); max(got, v)-min(got, v) > 2 {
						return false // of all colours: a red cube can be as red as the table
					}
				}
				return true
			}
			if !isTable(lit) && !isTable(dark) {
				continue // a cube hides it
			}
			if in && !isTable(dark) {
				t.Fatalf("at %.3f the table is lit through a cube", p)
			}
			if out && above && !isTable(lit) {
				t.Fatalf("at %.3f the table is dark under the open sky", p)
			}
			checked++
		}
		if checked < 10 {
			t.Fatalf("only %d points were seen", checked)
		}
	})
}

// meets says whether a ray from p along d meets a cube (slab method).
func meets(o *sim.Object, p, d r3.Vec) bool {
	inverse := o.Pose.Inverse()
	from := inverse.Apply([3]float64{p.X, p.Y, p.Z})
	dir := inverse.Rotate([3]float64{d.X, d.Y, d.Z})
	h := o.Half()
	near, far := 0.0, math.Inf(1)
	for i, half := range [3]float64{h.X, h.Y, h.Z} {
		low, high := -half, half
		if i == 2 {
			low, high = 0, 2*half
		}
		a, b := (low-from[i])/dir[i], (high-from[i])/dir[i]
		near, far = max(near, min(a, b)), min(far, max(a, b))
	}
	return near <= far
}

// A smooth picture is the mean of a fine one.
func TestSmoothIsTheMeanOfFine(t *testing.T) {
	arms := newArms(t)
	e, err := sim.NewEpisode(arms, sim.Tasks()[0], 1, sim.Perturbation{})
	if err != nil {
		t.Fatal(err)
	}
	const size, n = 24, 3
	fine, smooth := sim.NewRenderer(arms, size*n, size*n), sim.NewSmoothRenderer(arms, size, size, n)
	a, b := make([]byte, fine.Size()), make([]byte, smooth.Size())
	for c := range sim.CameraID(sim.Cameras) {
		if err := fine.RenderWorld(e.World, &e.Look, c, a); err != nil {
			t.Fatal(err)
		}
		if err := smooth.RenderWorld(e.World, &e.Look, c, b); err != nil {
			t.Fatal(err)
		}
		for i, got := range b {
			y, x, channel := i/(3*size), i/3%size, i%3
			sum := 0.0
			for v := range n {
				for u := range n {
					sum += float64(a[3*((y*n+v)*size*n+x*n+u)+channel])
				}
			}
			if math.Abs(sum/(n*n)-float64(got)) > 0.5 {
				t.Fatalf("%s: byte %d is %d, the mean is %.2f", c, i, got, sum/(n*n))
			}
		}
	}
}

// A look and a posture decide a picture, nothing drawn before does; drawing takes
// any posture and no memory.
func TestRenderWorldTakesAnyPosture(t *testing.T) {
	arms := newArms(t)
	r := sim.NewSmoothRenderer(arms, 40, 30, 2)
	a, b := make([]byte, r.Size()), make([]byte, r.Size())
	tasks := sim.Tasks()
	rapid.Check(t, func(t *rapid.T) {
		all := sim.Perturbation{Light: true, Texture: true, Camera: true, Distractors: true}
		e, err := sim.NewEpisode(arms, tasks[rapid.IntRange(0, len(tasks)-1).Draw(t, "task")], rapid.Uint64().Draw(t, "seed"), all)
		if err != nil {
			t.Fatal(err)
		}
		var q sim.State
		for i := range q {
			q[i] = rapid.Float64Range(-3.2, 3.2).Draw(t, "q")
		}
		e.World.Place(q)
		for c := range sim.CameraID(sim.Cameras) {
			for _, dst := range [][]byte{a, b} {
				if err := r.RenderWorld(e.World, &e.Look, c, dst); err != nil {
					t.Fatal(err)
				}
			}
			if !bytes.Equal(a, b) {
				t.Fatalf("%s: drawn twice, two pictures", c)
			}
		}
	})
	e, err := sim.NewEpisode(arms, tasks[4], 1, sim.Perturbation{})
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() {
		for c := range sim.CameraID(sim.Cameras) {
			if err := r.RenderWorld(e.World, &e.Look, c, a); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for three pictures", n)
	}
	if err := r.RenderWorld(e.World, &e.Look, sim.Head, a[:5]); err == nil {
		t.Error("a buffer of 5 bytes was taken")
	}
}

// BenchmarkRenderWorld is three pictures of a task's world. Real time at 30 Hz
// allows 33 ms.
func BenchmarkRenderWorld(b *testing.B) {
	arms := newArms(b)
	e, err := sim.NewEpisode(arms, sim.Tasks()[4], 1, sim.Perturbation{})
	if err != nil {
		b.Fatal(err)
	}
	for _, size := range []struct {
		name                   string
		width, height, samples int
	}{{"640x480", 640, 480, 1}, {"224x224x2", 224, 224, 2}, {"96x96x2", 96, 96, 2}} {
		r := sim.NewSmoothRenderer(arms, size.width, size.height, size.samples)
		dst := make([]byte, r.Size())
		b.Run(size.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				for c := range sim.CameraID(sim.Cameras) {
					if err := r.RenderWorld(e.World, &e.Look, c, dst); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// BenchmarkWorldStep is one row's time, 50 ms, with the expert's decision.
func BenchmarkWorldStep(b *testing.B) {
	arms := newArms(b)
	for _, task := range sim.Tasks() {
		b.Run(task.Name, func(b *testing.B) {
			e, err := sim.NewEpisode(arms, task, 1, sim.Perturbation{})
			if err != nil {
				b.Fatal(err)
			}
			expert := e.Expert()
			for b.Loop() {
				e.World.Command(expert.Act(e.World))
				e.World.Step(sim.RowTime)
			}
		})
	}
}

// Every task, seen by each camera in a row at the start of the episode of seed 2
// and half way through it, is as in testdata/tasks.png but for roundings.
func TestTasksGolden(t *testing.T) {
	arms := newArms(t)
	const width, height = 128, 96
	tasks := sim.Tasks()
	const columns = 2 * sim.Cameras
	sheet := make([]byte, 3*columns*width*len(tasks)*height)
	r := sim.NewSmoothRenderer(arms, width, height, 2)
	dst := make([]byte, r.Size())
	for row, task := range tasks {
		e, err := sim.NewEpisode(arms, task, 2, sim.Perturbation{})
		if err != nil {
			t.Fatal(err)
		}
		_, took := attempt(e, e.Expert().Act)
		if e, err = sim.NewEpisode(arms, task, 2, sim.Perturbation{}); err != nil {
			t.Fatal(err)
		}
		for half := range 2 {
			for c := range sim.CameraID(sim.Cameras) {
				if err := r.RenderWorld(e.World, &e.Look, c, dst); err != nil {
					t.Fatal(err)
				}
				for y := range height {
					at := ((row*height+y)*columns + half*sim.Cameras + int(c)) * width
					copy(sheet[3*at:], dst[3*y*width:3*(y+1)*width])
				}
			}
			for e.World.Now() < took*6/10 {
				e.World.Command(e.Expert().Act(e.World))
				e.World.Step(sim.RowTime)
			}
		}
	}
	const file = "testdata/tasks.png"
	if *update {
		writePNG(t, file, sheet, columns*width, len(tasks)*height)
	}
	want := readPNG(t, file, columns*width, len(tasks)*height)
	differ := 0
	for i := 0; i < len(sheet); i += 3 {
		for k := range 3 {
			if d := int(sheet[i+k]) - int(want[i+k]); d > 8 || d < -8 {
				differ++
				break
			}
		}
	}
	if differ > len(sheet)/3/200 {
		t.Errorf("%d of %d pixels differ from %s", differ, len(sheet)/3, file)
	}
}
