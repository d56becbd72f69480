package control_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
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

// One number that is not finite spoils the whole chunk: the error names it, and
// what is left cannot move an arm.
func TestConvertRefusesNumbersThatAreNotFinite(t *testing.T) {
	for _, dims := range [][]control.Dim{toolDims(true, "left", "right"), jointDims("joint_delta", "left", "right"), jointDims("joint", "left", "right")} {
		dims = append(dims, control.Dim{Name: "base_linear_x"}, control.Dim{Name: "base_angular_z"})
		m := newMapper(t, dims, nil)
		rapid.Check(t, func(t *rapid.T) {
			bad := rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1)}).Draw(t, "bad")
			chunk, from, hold := make([]float64, len(dims)*5), both(), both()
			where := rapid.SampledFrom([]string{"chunk", "from", "hold"}).Draw(t, "where")
			says := where
			switch where {
			case "chunk":
				i := rapid.IntRange(0, len(chunk)-1).Draw(t, "at")
				chunk[i], says = bad, dims[i%len(dims)].Name
			case "from":
				i := rapid.IntRange(0, 13).Draw(t, "at")
				from[i], says = bad, "pose"
			default:
				i := rapid.IntRange(0, 13).Draw(t, "at")
				hold[i], says = bad, "pose"
			}
			var out control.Mapped
			err := m.Convert(chunk, 20, from, hold, &out)
			if !errors.Is(err, control.ErrNonFinite) || !strings.Contains(err.Error(), says) {
				t.Fatalf("%v; want it to name %s", err, says)
			}
			for _, v := range out.Values {
				if !math.IsNaN(v) {
					t.Fatalf("a position of %v is left", v)
				}
			}
			for _, b := range out.Base {
				if b != (control.Twist{}) {
					t.Fatalf("the base goes on at %v", b)
				}
			}
		})
	}
}

// Millimetres for metres would be 20 m/s.
func TestConvertRefusesImplausibleToolMotion(t *testing.T) {
	m := newMapper(t, toolDims(true, "left"), nil)
	for name, row := range map[string][]float64{
		"millimetres": {1, 0, 0, 0, 0, 0, 0.02},
		"degrees":     {0, 0, 0, 0, 3, 0, 0.02},
		"huge":        {1e200, 0, 0, 0, 0, 0, 0.02},
	} {
		var out control.Mapped
		if err := m.Convert(row, 20, both(), both(), &out); !errors.Is(err, control.ErrImplausible) || !strings.Contains(err.Error(), "left") || !math.IsNaN(out.Values[0]) {
			t.Errorf("%s: %v, %v", name, err, out.Values)
		}
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

func TestNewMapperNamesWhatIsWrong(t *testing.T) {
	replace := func(dims []control.Dim, i int, d control.Dim) []control.Dim { dims[i] = d; return dims }
	for name, c := range map[string]struct {
		dims   []control.Dim
		change func(*control.SpaceConfig)
		says   []string
	}{
		"unknown arm":     {replace(jointDims("joint", "left"), 0, control.Dim{Name: "middle_joint1", Space: "joint"}), nil, []string{"middle_joint1", "left, right"}},
		"unknown joint":   {replace(jointDims("joint", "left"), 0, control.Dim{Name: "left_joint9", Space: "joint"}), nil, []string{"left_joint9", "ee_delta"}},
		"missing joint":   {jointDims("joint", "left")[1:], nil, []string{`"left"`, "joint1"}},
		"twice":           {append(jointDims("joint", "left"), control.Dim{Name: "left_joint1", Space: "joint"}), nil, []string{"left_joint1", "twice"}},
		"mixed spaces":    {replace(jointDims("joint", "left"), 3, control.Dim{Name: "left_joint4", Space: "joint_delta"}), nil, []string{"left_joint4", "all joint_delta"}},
		"joint in ee":     {replace(jointDims("joint", "left"), 3, control.Dim{Name: "left_joint4", Space: "ee_delta"}), nil, []string{"left_joint4", `"ee_delta"`}},
		"axis in joint":   {[]control.Dim{{Name: "left_x", Space: "joint"}}, nil, []string{"left_x", `"joint"`}},
		"unknown axis":    {[]control.Dim{{Name: "left_w", Space: "ee_delta"}}, nil, []string{"left_w", "roll, pitch, yaw"}},
		"mixed rotations": {[]control.Dim{{Name: "left_roll", Space: "ee_delta"}, {Name: "left_ry", Space: "ee_delta"}}, nil, []string{"left_ry", "mixed"}},
		"no gripper":      {replace(jointDims("joint", "left"), 3, control.Dim{Name: "left_joint4", Space: "joint", Gripper: true}), nil, []string{"left_joint4", "gripper"}},
		"base axis":       {[]control.Dim{{Name: "base_linear_y"}}, nil, []string{"base_linear_y", "base_linear_x"}},
		"no kinematics":   {toolDims(true, "right"), func(c *control.SpaceConfig) { c.IK[1] = nil }, []string{`"right"`, "kinematics"}},
		"no columns":      {nil, nil, []string{"no columns"}},
		"scale":           {toolDims(true, "right"), func(c *control.SpaceConfig) { c.MetresPerUnit = 0 }, []string{"metres_per_unit"}},
		"tools":           {toolDims(true, "right"), func(c *control.SpaceConfig) { c.IK = nil }, []string{"0 tools"}},
		"layout":          {toolDims(true, "right"), func(c *control.SpaceConfig) { c.Layout = nil; c.IK = nil }, []string{"no arms"}},
	} {
		cfg := control.DefaultSpaceConfig(twoArms(t), c.dims)
		for a := range cfg.IK {
			cfg.IK[a], _ = newIK(t, "fl_tool0", nil)
		}
		if c.change != nil {
			c.change(&cfg)
		}
		_, err := control.NewMapper(cfg)
		for _, s := range c.says {
			if err == nil || !strings.Contains(err.Error(), s) {
				t.Errorf("%s: %v; want it to say %s", name, err, s)
			}
		}
	}
}

func TestConvertRefusesShapes(t *testing.T) {
	m := newMapper(t, jointDims("joint", "left", "right"), nil)
	var out control.Mapped
	for name, err := range map[string]error{
		"empty":      m.Convert(nil, 20, both(), both(), &out),
		"half a row": m.Convert(make([]float64, 21), 20, both(), both(), &out),
		"short pose": m.Convert(make([]float64, 14), 20, both()[:7], both(), &out),
		"no hold":    m.Convert(make([]float64, 14), 20, both(), nil, &out),
		"no rate":    m.Convert(make([]float64, 14), 0, both(), both(), &out),
	} {
		if err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestConvertAllocatesNothing(t *testing.T) {
	m := newMapper(t, toolDims(true, "left", "right"), nil)
	chunk, from := toolChunk(12), both()
	var out control.Mapped
	if n := testing.AllocsPerRun(10, func() {
		if err := m.Convert(chunk, 20, from, from, &out); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// toolChunk goes down and forward with both arms, turning a little.
func toolChunk(rows int) []float64 {
	var chunk []float64
	for range rows {
		for range 2 {
			chunk = append(chunk, 0.004, 0.002, -0.003, 0.01, -0.02, 0.015, 0.03)
		}
	}
	return chunk
}

// A chunk of 12 rows for both tools.
func BenchmarkConvert(b *testing.B) {
	m := newMapper(b, toolDims(true, "left", "right"), nil)
	chunk, from := toolChunk(12), both()
	var out control.Mapped
	b.ReportAllocs()
	for b.Loop() {
		if err := m.Convert(chunk, 20, from, from, &out); err != nil {
			b.Fatal(err)
		}
	}
}

// A policy that moves the right tool, as BridgeData V2 has it: along and about
// the base's axes. The left arm holds.
func ExampleMapper() {
	robot, err := urdf.CobotMagic()
	if err != nil {
		panic(err)
	}
	var layout control.Layout
	for _, side := range []string{"left", "right"} {
		arm := control.Arm{Name: side}
		for i := 1; i <= 6; i++ {
			j, err := robot.Joint(fmt.Sprintf("f%c_joint%d", side[0], i))
			if err != nil {
				panic(err)
			}
			arm.Joints = append(arm.Joints, control.Joint{Name: fmt.Sprintf("joint%d", i), Limits: control.RevoluteLimits(j.Lower, j.Upper)})
		}
		arm.Joints = append(arm.Joints, control.Joint{Name: "gripper", Gripper: true, Limits: control.GripperLimits(0.07)})
		layout = append(layout, arm)
	}
	cfg := control.DefaultSpaceConfig(layout, []control.Dim{
		{Name: "right_x", Space: "ee_delta"}, {Name: "right_y", Space: "ee_delta"}, {Name: "right_z", Space: "ee_delta"},
		{Name: "right_roll", Space: "ee_delta"}, {Name: "right_pitch", Space: "ee_delta"}, {Name: "right_yaw", Space: "ee_delta"},
		{Name: "right_gripper", Space: "ee_delta", Gripper: true},
	})
	chain, err := robot.Chain("fr_base_link", "fr_tool0")
	if err != nil {
		panic(err)
	}
	if cfg.IK[1], err = control.NewIK(chain, control.DefaultIKConfig(chain)); err != nil {
		panic(err)
	}
	mapper, err := control.NewMapper(cfg)
	if err != nil {
		panic(err)
	}
	measured := []float64{0, 1.35, -1.15, 0, 1.1, 0, 0.03, 0, 1.35, -1.15, 0, 1.1, 0, 0.03}
	commanded := measured
	var out control.Mapped
	chunk := []float64{
		0.01, 0, 0, 0, 0, 0, 0.05,
		0.01, 0, 0, 0, 0, 0, 0.05,
	}
	if err := mapper.Convert(chunk, 20, measured, commanded, &out); err != nil {
		panic(err)
	}
	before, after := chain.Forward(measured[7:13]), chain.Forward(out.Values[21:27])
	fmt.Printf("%d rows of %d joints, %d reached; the right tool goes %.0f mm forward, its gripper to %.2f m, left joint2 stays at %.2f\n",
		len(out.Values)/14, 14, out.Count(control.Reached), 1e3*(after.P[0]-before.P[0]), out.Values[27], out.Values[15])
	// Output: 2 rows of 14 joints, 4 reached; the right tool goes 20 mm forward, its gripper to 0.05 m, left joint2 stays at 1.35
}
