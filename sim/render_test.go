package sim_test

import (
	"bytes"
	"flag"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

var update = flag.Bool("update", false, "write the golden pictures anew")

// reaching is a scene and the pose above its first cube.
func reaching(t testing.TB, arms *sim.Arms) (sim.Scene, sim.State) {
	t.Helper()
	scene := sim.NewScene(sim.NewRand(3, 0))
	expert, err := sim.NewExpert(arms, scene)
	if err != nil {
		t.Fatal(err)
	}
	goal, _ := expert.Goal(scene.Cubes[0].Colour)
	return scene, goal
}

// The pictures are those in testdata, whichever was drawn before. Compilers may
// fuse a multiplication into an addition, which moves edges by a rounding, so a
// few pixels may differ on another processor.
func TestRenderGolden(t *testing.T) {
	arms := newArms(t)
	scene, goal := reaching(t, arms)
	const width, height = 160, 120
	r := sim.NewRenderer(arms, width, height)
	for _, c := range []sim.CameraID{sim.WristRight, sim.Head, sim.WristLeft} {
		name := filepath.Join("testdata", c.String()+".png")
		got, again := make([]byte, r.Size()), make([]byte, r.Size())
		for _, dst := range [][]byte{again, got} {
			if err := r.Render(&goal, scene, c, dst); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, again) {
			t.Errorf("%s: drawn twice, two pictures", c)
		}
		if *update {
			writePNG(t, name, got, width, height)
		}
		want := readPNG(t, name, width, height)
		differ := 0
		for i := 0; i < len(got); i += 3 {
			if !bytes.Equal(got[i:i+3], want[i:i+3]) {
				differ++
			}
		}
		if differ > width*height/500 {
			t.Errorf("%s: %d of %d pixels differ from %s", c, differ, width*height, name)
		}
	}
}

func writePNG(t testing.TB, name string, rgb []byte, width, height int) {
	t.Helper()
	m := image.NewNRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(m.Pix[4*i:], rgb[3*i:3*i+3])
		m.Pix[4*i+3] = 255
	}
	var b bytes.Buffer
	if err := png.Encode(&b, m); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readPNG(t testing.TB, name string, width, height int) []byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	m, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if m.Bounds() != image.Rect(0, 0, width, height) {
		t.Fatalf("%s is %v", name, m.Bounds())
	}
	var out []byte
	for y := range height {
		for x := range width {
			r, g, b, _ := m.At(x, y).RGBA()
			out = append(out, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
	return out
}

// 640x480, 60 degrees wide: a focal length of 320/tan(30 degrees) = 554.256
// pixels. A point 0.1 m right, 0.2 m down, 1 m ahead is 55.4256 and 110.851
// pixels from the middle.
func TestProjectByHand(t *testing.T) {
	k := sim.NewIntrinsics(640, 480)
	u, v, ok := k.Project(r3.Vec{X: 0.1, Y: 0.2, Z: 1})
	if !ok || math.Abs(u-375.4256) > 1e-3 || math.Abs(v-350.8513) > 1e-3 {
		t.Errorf("(%g, %g, %v)", u, v, ok)
	}
	if u, v, _ := sim.NewIntrinsics(64, 64).Project(r3.Vec{X: 0.1, Y: 0.2, Z: 1}); math.Abs(u-37.54256) > 1e-4 || math.Abs(v-46.78018) > 1e-4 {
		t.Errorf("scaled: (%g, %g)", u, v)
	}
	if _, _, ok := k.Project(r3.Vec{Z: -1}); ok {
		t.Error("a point behind the camera has a place in the picture")
	}
}

// The middle of a cube's top is where the head camera's pose and pinhole say,
// in the cube's colour, unless an arm is before it (at home none is).
func TestCubesAppearWhereTheyAre(t *testing.T) {
	arms := newArms(t)
	r := sim.NewRenderer(arms, sim.PictureWidth, sim.PictureHeight)
	k := sim.NewIntrinsics(sim.PictureWidth, sim.PictureHeight)
	dst := make([]byte, r.Size())
	home := sim.Home()
	camera := arms.CameraPose(&home, sim.Head)
	rapid.Check(t, func(t *rapid.T) {
		scene := sim.NewScene(sim.NewRand(rapid.Uint64().Draw(t, "seed"), 0))
		if err := r.Render(&home, scene, sim.Head, dst); err != nil {
			t.Fatal(err)
		}
		for _, c := range scene.Cubes {
			p := camera.Inverse().Apply([3]float64{c.X, c.Y, sim.TableHeight + sim.CubeSize})
			u, v, ok := k.Project(r3.Vec{X: p[0], Y: p[1], Z: p[2]})
			// The margin is what a centre crop of 90 % of the area removes.
			if !ok || u < 17 || u > 623 || v < 13 || v > 467 {
				t.Fatalf("the %s cube at (%.2f, %.2f) is at pixel (%.0f, %.0f)", c.Colour, c.X, c.Y, u, v)
			}
			pixel := dst[3*(int(v)*sim.PictureWidth+int(u)):][:3]
			if got := name(pixel); got != c.Colour {
				t.Fatalf("the %s cube looks %s (%v)", c.Colour, got, pixel)
			}
		}
	})
}

// name is a colour by its strongest channels.
func name(p []byte) sim.Colour {
	r, g, b := int(p[0]), int(p[1]), int(p[2])
	switch {
	case r > 2*b && g > 2*b && r < 2*g:
		return "yellow"
	case r > 2*g && r > 2*b:
		return "red"
	case g > 2*r && g > 2*b:
		return "green"
	case b > 2*r && b > 2*g:
		return "blue"
	}
	return "none"
}

// A cube covers the pixels that independent ray casting gives it, within the
// rounding of its outline; no face is missing or drawn through. An arm may stand
// before a corner of it, so a few pixels more may be missing.
func TestCubeCoversWhatRaysHit(t *testing.T) {
	arms := newArms(t)
	const width, height = 160, 120
	r := sim.NewRenderer(arms, width, height)
	k := sim.NewIntrinsics(width, height)
	dst := make([]byte, r.Size())
	home := sim.Home()
	camera := arms.CameraPose(&home, sim.Head)
	rapid.Check(t, func(t *rapid.T) {
		scene := sim.NewScene(sim.NewRand(rapid.Uint64().Draw(t, "seed"), 0))
		scene.Cubes = scene.Cubes[:1]
		if err := r.Render(&home, scene, sim.Head, dst); err != nil {
			t.Fatal(err)
		}
		cube := scene.Cubes[0]
		drawn, missed, extra := 0, 0, 0
		for y := range height {
			for x := range width {
				ray := camera.Rotate([3]float64{(float64(x) + 0.5 - k.CX) / k.FX, (float64(y) + 0.5 - k.CY) / k.FY, 1})
				hit := hits(cube, camera, ray)
				is := name(dst[3*(y*width+x):][:3]) == cube.Colour
				if is {
					drawn++
				}
				if hit && !is {
					missed++
				}
				if is && !hit {
					extra++
				}
			}
		}
		if drawn < 80 || extra > drawn/50+2 || missed > drawn/10 {
			t.Fatalf("%s cube: %d pixels drawn, %d too few, %d too many", cube.Colour, drawn, missed, extra)
		}
	})
}

// hits says whether a ray from the camera meets the cube (slab method).
func hits(c sim.Cube, camera urdf.Transform, ray [3]float64) bool {
	sin, cos := math.Sincos(-c.Yaw)
	at := urdf.Transform{R: [9]float64{cos, -sin, 0, sin, cos, 0, 0, 0, 1}}
	from := at.Rotate([3]float64{camera.P[0] - c.X, camera.P[1] - c.Y, camera.P[2] - sim.TableHeight - sim.CubeSize/2})
	dir := at.Rotate(ray)
	near, far := 0.0, math.Inf(1)
	for i := range 3 {
		a, b := (-sim.CubeSize/2-from[i])/dir[i], (sim.CubeSize/2-from[i])/dir[i]
		near, far = max(near, min(a, b)), min(far, max(a, b))
	}
	return near <= far
}

// Nothing that a camera can meet makes the renderer fail: an arm in its face,
// things behind it, any posture, any picture size.
func TestRenderTakesAnyPosture(t *testing.T) {
	arms := newArms(t)
	rapid.Check(t, func(t *rapid.T) {
		scene := sim.NewScene(sim.NewRand(rapid.Uint64().Draw(t, "seed"), 0))
		r := sim.NewRenderer(arms, rapid.IntRange(1, 90).Draw(t, "width"), rapid.IntRange(1, 70).Draw(t, "height"))
		dst := make([]byte, r.Size())
		var q sim.State
		for i := range q {
			q[i] = rapid.Float64Range(-3.2, 3.2).Draw(t, "q")
		}
		for c := range sim.CameraID(sim.Cameras) {
			if err := r.Render(&q, scene, c, dst); err != nil {
				t.Fatal(err)
			}
		}
	})
	r := sim.NewRenderer(arms, 8, 8)
	home := sim.Home()
	if err := r.Render(&home, sim.Scene{}, sim.Head, make([]byte, 5)); err == nil {
		t.Error("a buffer of 5 bytes was taken")
	}
}

func TestRenderAllocatesNothing(t *testing.T) {
	arms := newArms(t)
	scene, goal := reaching(t, arms)
	r := sim.NewRenderer(arms, 64, 64)
	dst := make([]byte, r.Size())
	if n := testing.AllocsPerRun(20, func() {
		for c := range sim.CameraID(sim.Cameras) {
			if err := r.Render(&goal, scene, c, dst); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations for three pictures", n)
	}
}

func BenchmarkRender(b *testing.B) {
	arms := newArms(b)
	scene, goal := reaching(b, arms)
	for _, size := range []struct {
		name          string
		width, height int
	}{{"640x480", 640, 480}, {"64x64", 64, 64}} {
		r := sim.NewRenderer(arms, size.width, size.height)
		dst := make([]byte, r.Size())
		for c := range sim.CameraID(sim.Cameras) {
			b.Run(size.name+"/"+c.String(), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if err := r.Render(&goal, scene, c, dst); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
