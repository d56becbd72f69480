package urdf_test

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/diff/fd"
	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/urdf"
)

func chain(t testing.TB, base, tip string) *urdf.Chain {
	t.Helper()
	r, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	c, err := r.Chain(base, tip)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// pose draws joint positions within the limits.
func pose(joints []urdf.Joint) *rapid.Generator[[]float64] {
	return rapid.Custom(func(t *rapid.T) []float64 {
		q := make([]float64, len(joints))
		for i, j := range joints {
			q[i] = rapid.Float64Range(j.Lower, j.Upper).Draw(t, j.Name)
		}
		return q
	})
}

func distance(a, b [3]float64) float64 {
	return math.Hypot(math.Hypot(a[0]-b[0], a[1]-b[1]), a[2]-b[2])
}

// The joint table multiplied out by hand-written Python, to 0.01 mm.
func TestForwardReferencePoses(t *testing.T) {
	for _, base := range []string{"fl", "fr"} {
		c := chain(t, base+"_base_link", base+"_link6")
		for _, v := range []struct {
			q []float64
			p [3]float64
		}{
			{make([]float64, 6), [3]float64{0.05614, 0, 0.21319}},
			{[]float64{.2, .5, -.6, .3, -.2, .4}, [3]float64{0.09652, 0.01414, 0.39404}},
		} {
			if got := c.Forward(v.q).P; distance(got, v.p) > 1e-5 {
				t.Errorf("%s q=%v: %v, want %v", base, v.q, got, v.p)
			}
		}
	}
}

// dhForward is the arm by the modified Denavit-Hartenberg table of AgileX's
// SDK (piper_sdk/kinematics/piper_fk.py), which was made independently of the
// URDF: lengths in metres, angles in degrees.
func dhForward(q []float64) urdf.Transform {
	table := []struct{ a, alpha, d, offset float64 }{
		{0, 0, 0.123, 0},
		{0, -90, 0, -172.22},
		{0.28503, 0, 0, -102.78},
		{-0.02198, 90, 0.25075, 0},
		{0, -90, 0, 0},
		{0, 90, 0.091, 0},
	}
	out := urdf.Identity()
	for i, r := range table {
		sa, ca := math.Sincos(r.alpha * math.Pi / 180)
		st, ct := math.Sincos(q[i] + r.offset*math.Pi/180)
		out = out.Mul(urdf.Transform{
			R: [9]float64{ct, -st, 0, st * ca, ct * ca, -sa, st * sa, ct * sa, ca},
			P: [3]float64{r.a, -sa * r.d, ca * r.d},
		})
	}
	return out
}

func TestForwardAgreesWithSDKTable(t *testing.T) {
	c := chain(t, "fl_base_link", "fl_link6")
	rapid.Check(t, func(t *rapid.T) {
		// Several poses a draw: 100 draws are 400 poses.
		for range 4 {
			q := pose(c.Joints).Draw(t, "q")
			got, want := c.Forward(q), dhForward(q)
			if d := distance(got.P, want.P); d > 2e-4 {
				t.Fatalf("position differs by %.3g mm at %v", d*1e3, q)
			}
			if a := got.AngleTo(want); a > 0.02*math.Pi/180 {
				t.Fatalf("orientation differs by %.3g degrees at %v", a*180/math.Pi, q)
			}
		}
	})
}

func TestJacobianAgreesWithDifferences(t *testing.T) {
	// The head camera's chain has a prismatic joint, the tools' are revolute.
	for _, tip := range []string{"fl_tool0", "fr_link7", "camera_f_color_optical_frame"} {
		c := chain(t, "body_Link", tip)
		n := len(c.Joints)
		rapid.Check(t, func(t *rapid.T) {
			q := pose(c.Joints).Draw(t, "q")
			jac := mat.NewDense(6, n, nil)
			c.Jacobian(q, jac)
			const h = 1e-5
			for i := range n {
				lo, hi := append([]float64(nil), q...), append([]float64(nil), q...)
				lo[i] -= h
				hi[i] += h
				a, b := c.Forward(lo), c.Forward(hi)
				// R(b) R(a)^T is close to 1 + skew(w 2h).
				d := b.Mul(a.Inverse()).R
				want := [6]float64{
					b.P[0] - a.P[0], b.P[1] - a.P[1], b.P[2] - a.P[2],
					(d[7] - d[5]) / 2, (d[2] - d[6]) / 2, (d[3] - d[1]) / 2,
				}
				for k := range want {
					if got := jac.At(k, i); math.Abs(got-want[k]/(2*h)) > 1e-7 {
						t.Fatalf("%s: row %d column %d: %g, differences give %g", tip, k, i, got, want[k]/(2*h))
					}
				}
			}
		})
	}
}

// gonum's central differences of position and of the rotation
// away from where the tool is.
func TestJacobianAgreesWithGonum(t *testing.T) {
	c := chain(t, "fl_base_link", "fl_tool0")
	n := len(c.Joints)
	rapid.Check(t, func(t *rapid.T) {
		q := pose(c.Joints).Draw(t, "q")
		jac, want := mat.NewDense(6, n, nil), mat.NewDense(6, n, nil)
		inverse := c.Jacobian(q, jac).Inverse()
		fd.Jacobian(want, func(y, x []float64) {
			tip := c.Forward(x)
			turned := tip.Mul(inverse).R // R(x) R(q)^T: its derivative at q is skew(w)
			copy(y, tip.P[:])
			y[3], y[4], y[5] = turned[7], turned[2], turned[3]
		}, q, &fd.JacobianSettings{Formula: fd.Central})
		if !mat.EqualApprox(jac, want, 1e-8) {
			t.Fatalf("Jacobian at %v is\n%v\ndifferences give\n%v", q, mat.Formatted(jac), mat.Formatted(want))
		}
	})
}

func TestLinkTransformsEndAtForward(t *testing.T) {
	c := chain(t, "body_Link", "fr_tool0")
	rapid.Check(t, func(t *rapid.T) {
		q := pose(c.Joints).Draw(t, "q")
		links := c.LinkTransforms(q, nil)
		if len(links) != len(c.Links) || links[len(links)-1] != c.Forward(q) {
			t.Fatalf("%d frames for %d links, last %v", len(links), len(c.Links), links[len(links)-1])
		}
		for i, l := range links {
			if d := l.Mul(l.Inverse()); d.AngleTo(urdf.Identity()) > 1e-12 || distance(d.P, [3]float64{}) > 1e-12 {
				t.Fatalf("frame %s is no rigid motion: %v", c.Links[i], l)
			}
		}
	})
}

func TestMounting(t *testing.T) {
	c := chain(t, "body_Link", "fl_base_link")
	if got := c.Forward(nil); got.P != [3]float64{0.23875, 0.3, 0.775} {
		t.Errorf("left base at %v", got.P)
	}
	if len(c.Joints) != 0 {
		t.Errorf("%d joints above the base", len(c.Joints))
	}
	// With the stand level and down, the camera looks forward, 0.5 rad down.
	head := chain(t, "body_Link", "camera_f_color_optical_frame").Forward([]float64{0, 0})
	if d := distance(head.P, [3]float64{0.24, 0.001, 0.866}); d > 1e-9 {
		t.Errorf("head camera at %v", head.P)
	}
	want := [3]float64{math.Cos(0.5), 0, -math.Sin(0.5)}
	if view := head.Rotate([3]float64{0, 0, 1}); distance(view, want) > 1e-6 {
		t.Errorf("head camera looks along %v, want %v", view, want)
	}
	if right := head.Rotate([3]float64{1, 0, 0}); distance(right, [3]float64{0, -1, 0}) > 1e-6 {
		t.Errorf("the picture's right is %v", right)
	}
}

// A wrist camera sees its own tool in the middle of the lower half of the
// picture, and its upper edge is away from the gripper.
func TestWristCameraSeesTool(t *testing.T) {
	for _, side := range []struct{ arm, camera string }{{"fl", "camera_l"}, {"fr", "camera_r"}} {
		q := make([]float64, 6)
		camera := chain(t, "body_Link", side.camera+"_color_optical_frame").Forward(q)
		tool := chain(t, "body_Link", side.arm+"_tool0").Forward(q)
		p := camera.Inverse().Apply(tool.P)
		if p[2] < 0.1 || math.Abs(p[0]/p[2]) > 0.15 || p[1]/p[2] < 0.1 || p[1]/p[2] > 0.4 {
			t.Errorf("%s: tool at %v in the camera's frame", side.arm, p)
		}
	}
}

func TestForwardAllocatesNothing(t *testing.T) {
	c := chain(t, "body_Link", "fl_tool0")
	q := make([]float64, 6)
	dst := make([]urdf.Transform, 0, len(c.Links))
	jac := mat.NewDense(6, 6, nil)
	if n := testing.AllocsPerRun(100, func() {
		c.Forward(q)
		dst = c.LinkTransforms(q, dst)
		c.Jacobian(q, jac)
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func BenchmarkForward(b *testing.B) {
	c := chain(b, "body_Link", "fl_tool0")
	q := []float64{.2, .5, -.6, .3, -.2, .4}
	b.ReportAllocs()
	for b.Loop() {
		c.Forward(q)
	}
}

func BenchmarkJacobian(b *testing.B) {
	c := chain(b, "body_Link", "fl_tool0")
	q := []float64{.2, .5, -.6, .3, -.2, .4}
	jac := mat.NewDense(6, 6, nil)
	b.ReportAllocs()
	for b.Loop() {
		c.Jacobian(q, jac)
	}
}
