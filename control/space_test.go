package control_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/num/quat"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/urdf"
)

// twoArms is the Cobot Magic's layout.
func twoArms(t testing.TB) control.Layout {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	var layout control.Layout
	for _, side := range [][2]string{{"left", "fl_joint"}, {"right", "fr_joint"}} {
		arm := control.Arm{Name: side[0]}
		for i := 1; i <= 6; i++ {
			j, err := robot.Joint(fmt.Sprintf("%s%d", side[1], i))
			if err != nil {
				t.Fatal(err)
			}
			arm.Joints = append(arm.Joints, control.Joint{Name: fmt.Sprintf("joint%d", i), Limits: control.RevoluteLimits(j.Lower, j.Upper)})
		}
		arm.Joints = append(arm.Joints, control.Joint{Name: "gripper", Gripper: true, Limits: control.GripperLimits(0.07)})
		layout = append(layout, arm)
	}
	return layout
}

func jointDims(space string, arms ...string) []control.Dim {
	var dims []control.Dim
	for _, arm := range arms {
		for i := 1; i <= 6; i++ {
			dims = append(dims, control.Dim{Name: fmt.Sprintf("%s_joint%d", arm, i), Space: space})
		}
		dims = append(dims, control.Dim{Name: arm + "_gripper", Space: space, Gripper: true})
	}
	return dims
}

func toolDims(rpy bool, arms ...string) []control.Dim {
	axes := []string{"x", "y", "z", "rx", "ry", "rz"}
	if rpy {
		axes = []string{"x", "y", "z", "roll", "pitch", "yaw"}
	}
	var dims []control.Dim
	for _, arm := range arms {
		for _, axis := range axes {
			dims = append(dims, control.Dim{Name: arm + "_" + axis, Space: "ee_delta"})
		}
		dims = append(dims, control.Dim{Name: arm + "_gripper", Space: "ee_delta", Gripper: true})
	}
	return dims
}

func newMapper(t testing.TB, dims []control.Dim, change func(*control.SpaceConfig)) *control.Mapper {
	t.Helper()
	cfg := control.DefaultSpaceConfig(twoArms(t), dims)
	for a := range cfg.IK {
		cfg.IK[a], _ = newIK(t, "fl_tool0", nil)
	}
	if change != nil {
		change(&cfg)
	}
	m, err := control.NewMapper(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// both is a pose of two arms at work, grippers a little open.
func both() []float64 {
	return append(append(working(), 0.03), append(working(), 0.04)...)
}

// rotationColumns returns the rotation r as three numbers: fixed-axis roll,
// pitch, yaw, or a rotation vector by gonum's quaternion logarithm.
func rotationColumns(r *mat.Dense, rpy bool) [3]float64 {
	roll := math.Atan2(r.At(2, 1), r.At(2, 2))
	pitch := math.Atan2(-r.At(2, 0), math.Hypot(r.At(0, 0), r.At(1, 0)))
	yaw := math.Atan2(r.At(1, 0), r.At(0, 0))
	if rpy {
		return [3]float64{roll, pitch, yaw}
	}
	about := func(angle float64, axis quat.Number) quat.Number {
		return quat.Add(quat.Number{Real: math.Cos(angle / 2)}, quat.Scale(math.Sin(angle/2), axis))
	}
	q := quat.Mul(about(yaw, quat.Number{Kmag: 1}), quat.Mul(about(pitch, quat.Number{Jmag: 1}), about(roll, quat.Number{Imag: 1})))
	w := quat.Scale(2, quat.Log(q))
	return [3]float64{w.Imag, w.Jmag, w.Kmag}
}

// Tool deltas worked out of a smooth joint path of both arms, with gonum's
// matrices and quaternions, give that path back, in every convention.
func TestToolDeltasReturnTheJointPath(t *testing.T) {
	const rows, rate = 25, 20.0
	worst, worstTool := 0.0, 0.0
	for convention := range 8 {
		rpy, toolFrame, fromStart := convention&1 > 0, convention&2 > 0, convention&4 > 0
		m := newMapper(t, toolDims(rpy, "left", "right"), func(c *control.SpaceConfig) { c.ToolFrame, c.FromStart = toolFrame, fromStart })
		k, cfg := newIK(t, "fl_tool0", nil)
		rng := rand.New(rand.NewPCG(11, uint64(convention)))
		for range 20 {
			paths := [2][][]float64{smooth(rng, &cfg, working(), 0.35, rate, rows), smooth(rng, &cfg, working(), 0.35, rate, rows)}
			from := both()
			var chunk []float64
			for a := range paths {
				copy(from[7*a:], paths[a][0])
			}
			for r := 1; r <= rows; r++ {
				for a := range paths {
					base := paths[a][r-1]
					if fromStart {
						base = paths[a][0]
					}
					was, is := k.Chain().Forward(base), k.Chain().Forward(paths[a][r])
					d := mat.NewVecDense(3, []float64{is.P[0] - was.P[0], is.P[1] - was.P[1], is.P[2] - was.P[2]})
					before, after, turn := mat.NewDense(3, 3, was.R[:]), mat.NewDense(3, 3, is.R[:]), &mat.Dense{}
					if toolFrame {
						turn.Mul(before.T(), after)
						d.MulVec(before.T(), mat.VecDenseCopyOf(d))
					} else {
						turn.Mul(after, before.T())
					}
					angles := rotationColumns(turn, rpy)
					chunk = append(chunk, d.AtVec(0), d.AtVec(1), d.AtVec(2), angles[0], angles[1], angles[2], 0.05)
				}
			}
			var out control.Mapped
			if err := m.Convert(chunk, rate, from, both(), &out); err != nil {
				t.Fatal(err)
			}
			if n := out.Count(control.Reached); n != 2*rows {
				t.Fatalf("%d of %d reached", n, 2*rows)
			}
			for r := range rows {
				for a := range paths {
					got, want := out.Values[14*r+7*a:][:6], paths[a][r+1]
					worst = max(worst, chebyshev(got, want))
					p, _ := off(k.Chain(), got, k.Chain().Forward(want))
					worstTool = max(worstTool, p)
				}
				if g := out.Values[14*r+6]; g != 0.05 {
					t.Fatalf("gripper at %g", g)
				}
			}
		}
	}
	t.Logf("a joint at most %.1e rad off its path, a tool %.1e m", worst, worstTool)
	if worst > 0.01 || worstTool > 2e-4 {
		t.Errorf("a joint is %g rad off its path, a tool %g m", worst, worstTool)
	}
}

// Joint deltas of a path within limits give the path back.
func TestJointDeltasReturnThePath(t *testing.T) {
	layout := twoArms(t)
	rapid.Check(t, func(rt *rapid.T) {
		fromStart := rapid.Bool().Draw(rt, "from start")
		m := newMapper(t, jointDims("joint_delta", "left", "right"), func(c *control.SpaceConfig) { c.FromStart = fromStart })
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		rows := rapid.IntRange(1, 40).Draw(rt, "rows")
		pose := func() []float64 {
			var q []float64
			for _, a := range layout {
				for _, j := range a.Joints {
					q = append(q, j.Limits.Lower+rng.Float64()*(j.Limits.Upper-j.Limits.Lower))
				}
			}
			return q
		}
		from := pose()
		before := from
		var path, chunk []float64
		for range rows {
			q := pose()
			for j := range q {
				switch {
				case j%7 == 6:
					chunk = append(chunk, q[j])
				case fromStart:
					chunk = append(chunk, q[j]-from[j])
				default:
					chunk = append(chunk, q[j]-before[j])
				}
			}
			path = append(path, q...)
			before = q
		}
		var out control.Mapped
		if err := m.Convert(chunk, 30, from, pose(), &out); err != nil {
			rt.Fatal(err)
		}
		if len(out.Values) != len(path) || chebyshev(out.Values, path) > 1e-12 {
			rt.Fatalf("%v, want %v", out.Values, path)
		}
	})
}

// Deltas that lead beyond a limit end there and turn back at once; a pose
// measured a little beyond may stay, and is not pushed in.
func TestJointDeltasDoNotWindUp(t *testing.T) {
	m := newMapper(t, []control.Dim{
		{Name: "left_joint1", Space: "joint_delta"}, {Name: "left_joint2", Space: "joint_delta"}, {Name: "left_joint3", Space: "joint_delta"},
		{Name: "left_joint4", Space: "joint_delta"}, {Name: "left_joint5", Space: "joint_delta"}, {Name: "left_joint6", Space: "joint_delta"},
		{Name: "left_gripper", Space: "joint_delta"}, // without a gripper rule it is a change too
	}, nil)
	from := both()
	from[1] = -0.003
	var out control.Mapped
	if err := m.Convert([]float64{
		2, -0.1, 0, 0, 0, 0, 0.03,
		2, -0.1, 0, 0, 0, 0, 0.03,
		-0.5, 0.1, 0, 0, 0, 0, -0.02,
	}, 10, from, both(), &out); err != nil {
		t.Fatal(err)
	}
	for r, want := range [][3]float64{{2, -0.003, 0.06}, {2.618, -0.003, 0.07}, {2.118, 0.097, 0.05}} {
		if got := out.Values[14*r:]; chebyshev([]float64{got[0], got[1], got[6]}, want[:]) > 1e-12 {
			t.Errorf("row %d: %v, want %v", r, got[:7], want)
		}
	}
	if out.Arms[2].Fit != control.AtLimit || out.Arms[2].Joint < 0 || out.Arms[4].Fit != control.Reached || out.Arms[1].Fit != control.Reached {
		t.Errorf("%+v", out.Arms)
	}
}

// Absolute joints go through untouched, in the robot's order, whatever theirs
// is, also beyond limits: that is for the Executor to judge.
func TestAbsoluteJointsPassThrough(t *testing.T) {
	dims := jointDims("joint", "right", "left")
	slices.Reverse(dims)
	m := newMapper(t, dims, nil)
	chunk := make([]float64, 14*3)
	for i := range chunk {
		chunk[i] = float64(i)
	}
	var out control.Mapped
	if err := m.Convert(chunk, 20, both(), both(), &out); err != nil {
		t.Fatal(err)
	}
	for i, v := range out.Values {
		r, j := i/14, i%14
		// right reversed is first: column 0 is left_gripper, 6 left_joint1, 13 right_joint1.
		want := float64(14*r + 6 - j)
		if j >= 7 {
			want = float64(14*r + 13 - (j - 7))
		}
		if v != want {
			t.Fatalf("row %d joint %d: %v, want %v", r, j, v, want)
		}
	}
}

// An arm without columns stays at the commanded pose, bit for bit, whatever the
// other does and wherever it was measured; so does a gripper.
func TestHoldingArmNeverMoves(t *testing.T) {
	for _, dims := range [][]control.Dim{toolDims(true, "right"), jointDims("joint_delta", "right"), jointDims("joint", "right"), toolDims(false, "right")[:6]} {
		m := newMapper(t, dims, nil)
		rapid.Check(t, func(t *rapid.T) {
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
			from, hold := both(), both()
			for i := range hold {
				from[i] += 0.02 * rng.NormFloat64()
			}
			chunk := make([]float64, len(dims)*8)
			for i := range chunk {
				chunk[i] = 0.02 * rng.NormFloat64()
			}
			var out control.Mapped
			if err := m.Convert(chunk, 20, from, hold, &out); err != nil {
				t.Fatal(err)
			}
			for r := range 8 {
				if got := out.Values[14*r : 14*r+7]; !slices.Equal(got, hold[:7]) {
					t.Fatalf("row %d: %v, want %v", r, got, hold[:7])
				}
				if out.Arms[2*r].Fit != control.Reached {
					t.Fatalf("%+v", out.Arms[2*r])
				}
				if len(dims) == 6 && out.Values[14*r+13] != hold[13] {
					t.Fatalf("gripper at %v", out.Values[14*r+13])
				}
			}
		})
	}
}

// LIBERO's units: a 1 is 5 cm, about and along the base's axes.
func TestScaledToolDeltas(t *testing.T) {
	m := newMapper(t, toolDims(false, "left"), func(c *control.SpaceConfig) { c.MetresPerUnit, c.RadiansPerUnit = 0.05, 0.5 })
	k, _ := newIK(t, "fl_tool0", nil)
	var out control.Mapped
	if err := m.Convert([]float64{0, 0, -0.5, 0, 0, 0.2, 0}, 5, both(), both(), &out); err != nil {
		t.Fatal(err)
	}
	was, is := k.Chain().Forward(working()), k.Chain().Forward(out.Values[:6])
	if d := is.P[2] - was.P[2]; math.Abs(d+0.025) > 1e-4 {
		t.Errorf("went up by %g m, want -0.025", d)
	}
	if a := is.AngleTo(was); math.Abs(a-0.1) > 2e-3 {
		t.Errorf("turned by %g rad, want 0.1", a)
	}
}

// A tool sent away for good stays where it got to, tells that it is held back,
// and comes back with the first rows that lead back: nothing has wound up.
func TestToolDeltasDoNotWindUp(t *testing.T) {
	m := newMapper(t, toolDims(true, "left"), nil)
	k, _ := newIK(t, "fl_tool0", nil)
	const out, back = 60, 5
	var chunk []float64
	for r := range out + back {
		dx := 0.02
		if r >= out {
			dx = -0.02
		}
		chunk = append(chunk, dx, 0, 0, 0, 0, 0, 0.02)
	}
	var mapped control.Mapped
	if err := m.Convert(chunk, 20, both(), both(), &mapped); err != nil {
		t.Fatal(err)
	}
	tool := func(r int) [3]float64 { return k.Chain().Forward(mapped.Values[14*r : 14*r+6]).P }
	if mapped.Arms[2*(out-1)].Fit == control.Reached {
		t.Errorf("%.3f m away and reached", tool(out - 1)[0])
	}
	gone := tool(out - 1)[0] - tool(out + back - 1)[0]
	t.Logf("out to x = %.3f m, %v; back by %.3f m in %d rows of 0.02 m", tool(out - 1)[0], mapped.Arms[2*(out-1)].Fit, gone, back)
	if gone < 0.03 { // wound up, it would not have moved
		t.Errorf("came back by %g m only", gone)
	}
}

func TestBaseVelocitiesAreClamped(t *testing.T) {
	m := newMapper(t, append(jointDims("joint", "left", "right"), control.Dim{Name: "base_linear_x"}, control.Dim{Name: "base_angular_z"}), nil)
	chunk := append(append(both(), 0.1, -0.3), append(both(), -5, 7)...)
	var out control.Mapped
	if err := m.Convert(chunk, 20, both(), both(), &out); err != nil {
		t.Fatal(err)
	}
	if want := []control.Twist{{Linear: 0.1, Angular: -0.3}, {Linear: -0.2, Angular: 0.6}}; !slices.Equal(out.Base, want) || out.BaseLimited != 2 {
		t.Errorf("%v, %d limited; want %v", out.Base, out.BaseLimited, want)
	}
}
