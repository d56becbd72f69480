package control_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/urdf"
)

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
