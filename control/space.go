package control

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/urdf"
)

// Errors of chunks that no motion can be made of; each is wrapped with the row,
// the column and the number.
var (
	// ErrNonFinite says that a chunk or a pose holds a NaN or an infinity.
	ErrNonFinite = errors.New("number is not finite")
	// ErrImplausible says that a tool would have to move faster than
	// SpaceConfig.MaxSpeed or MaxTurn: units or scale cannot be right.
	ErrImplausible = errors.New("tool motion is implausible; check the units of the columns and metres_per_unit, radians_per_unit")
)

// Dim is one column of a chunk, in the words of a policy bundle's manifest.
type Dim struct {
	// Name is the arm's and the joint's in the Layout ("left_joint1"), or the
	// arm's and an axis of its tool: "left_x", "left_y", "left_z"; "left_roll",
	// "left_pitch", "left_yaw" or "left_rx", "left_ry", "left_rz"; or of a
	// mobile base "base_linear_x" and "base_angular_z".
	Name string
	// Space is "joint", "joint_delta" or "ee_delta"; of a base it is not read.
	Space string
	// Gripper says that the column is an opening in m, whatever its Space.
	Gripper bool
}

// SpaceConfig sets up a Mapper. DefaultSpaceConfig fills it.
type SpaceConfig struct {
	Layout Layout
	// Dims are the columns of a chunk. An arm without columns holds still.
	Dims []Dim

	// IK solves for the tool of each arm of the Layout, whose other joints but
	// the grippers are its chain's, in order. nil for an arm without ee_delta
	// columns. Deltas along base axes are along those of the chain's base.
	IK []*IK

	// FromStart: the delta of each row is from the pose at the observation, as
	// openpi's DeltaActions make them and UMI's relative trajectories are;
	// default false: from the row before, as OpenVLA's data sets have it.
	FromStart bool
	// ToolFrame: tool deltas are along and about the tool's axes (UMI);
	// default false: along and about the base's, the rotation about the tool's
	// place (robosuite's OSC_POSE, hence LIBERO; BridgeData V2's
	// action2transform_local).
	ToolFrame bool
	// MetresPerUnit and RadiansPerUnit scale tool deltas; default 1. LIBERO's
	// actions are -1 to 1 and need 0.05 and 0.5 (robosuite, osc_pose.json).
	MetresPerUnit, RadiansPerUnit float64
	// MaxSpeed (m/s) and MaxTurn (rad/s) of a tool are not plausible beyond;
	// defaults 2.5, a stretched arm turning at the firmware's 3 rad/s, and 15:
	// robosuite's largest delta is 0.5 rad at 20 Hz.
	MaxSpeed, MaxTurn float64

	// BaseLinear (m/s) and BaseAngular (rad/s) clamp the base's velocities;
	// defaults 0.2 and 0.6, as pi0_CobotMagic drives this robot.
	BaseLinear, BaseAngular float64
}

// DefaultSpaceConfig returns the defaults named at the fields.
func DefaultSpaceConfig(layout Layout, dims []Dim) SpaceConfig {
	return SpaceConfig{
		Layout: layout, Dims: dims, IK: make([]*IK, len(layout)),
		MetresPerUnit: 1, RadiansPerUnit: 1, MaxSpeed: 2.5, MaxTurn: 15,
		BaseLinear: 0.2, BaseAngular: 0.6,
	}
}

// Twist is a velocity of a mobile base, linear.x and angular.z of a
// geometry_msgs/Twist.
type Twist struct{ Linear, Angular float64 }

// Mapped is a chunk in the robot's joints. Its slices are reused by the next
// Convert into it.
type Mapped struct {
	// Values are rows of Layout.Dims() joint positions, for Trajectory.Values.
	Values []float64
	// Arms tells, row after row, how each arm of the Layout fared: Reached
	// where there was nothing to solve.
	Arms []IKResult
	// Base are the base's velocities for each row; empty without such columns.
	// Whoever sends them sends zeros as soon as no row is being followed.
	Base []Twist
	// BaseLimited counts the velocities that were clamped.
	BaseLimited int
}

// Count returns how many rows of how many arms have a Fit.
func (m *Mapped) Count(f Fit) int {
	n := 0
	for i := range m.Arms {
		if m.Arms[i].Fit == f {
			n++
		}
	}
	return n
}

// armSpace is what the columns of one arm mean.
type armSpace uint8

const (
	armHolds armSpace = iota
	armJoints
	armJointDeltas
	armTool
)

// toolAxes are the columns of a tool's delta; -1: none, the delta is 0.
type toolAxes struct {
	linear, angular [3]int
	rpy             bool // roll, pitch, yaw instead of a rotation vector
}

// mappedArm is how one arm's joints come out of a row.
type mappedArm struct {
	space         armSpace
	lo            int   // where its part of a pose begins
	columns       []int // of its joints, -1: holds; not for a tool
	opening       []bool
	tool          toolAxes
	ik            *IK
	chained       []int // the IK's joints in a pose
	joints        []float64
	start, before urdf.Transform
}

// Mapper turns chunks in any action space into rows of joint positions. It
// belongs to one goroutine; Convert allocates only to grow the Mapped.
type Mapper struct {
	cfg    SpaceConfig
	arms   []mappedArm
	base   [2]int // columns of linear_x and angular_z, -1: none
	bounds []Joint
}

// NewMapper checks that the columns drive the robot, and only it. Errors name
// the column.
func NewMapper(cfg SpaceConfig) (*Mapper, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	cfg.Dims = slices.Clone(cfg.Dims)
	m := &Mapper{cfg: cfg, base: [2]int{-1, -1}}
	for a, arm := range cfg.Layout {
		lo := len(m.bounds)
		m.bounds = append(m.bounds, arm.Joints...)
		mapped := mappedArm{lo: lo, ik: cfg.IK[a], opening: make([]bool, len(arm.Joints)),
			tool: toolAxes{linear: [3]int{-1, -1, -1}, angular: [3]int{-1, -1, -1}}}
		for j, joint := range arm.Joints {
			mapped.columns = append(mapped.columns, -1)
			if !joint.Gripper {
				mapped.chained = append(mapped.chained, lo+j)
			}
		}
		mapped.joints = make([]float64, len(mapped.chained))
		m.arms = append(m.arms, mapped)
	}
	seen := map[string]bool{}
	for c, d := range cfg.Dims {
		err := m.place(c, d)
		if seen[d.Name] {
			err = errors.New("the name is used twice")
		}
		if err != nil {
			return nil, fmt.Errorf("control: action column %d %q: %w", c, d.Name, err)
		}
		seen[d.Name] = true
	}
	for a := range m.arms {
		if err := m.complete(a); err != nil {
			return nil, fmt.Errorf("control: arm %q: %w", cfg.Layout[a].Name, err)
		}
	}
	return m, nil
}

func (c *SpaceConfig) validate() error {
	if err := c.Layout.Validate(); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if len(c.Dims) == 0 {
		return errors.New("control: a chunk has no columns")
	}
	if len(c.IK) != len(c.Layout) {
		return fmt.Errorf("control: %d tools for %d arms", len(c.IK), len(c.Layout))
	}
	for _, f := range [...]struct {
		name  string
		value float64
	}{
		{"metres_per_unit", c.MetresPerUnit}, {"radians_per_unit", c.RadiansPerUnit},
		{"max_speed", c.MaxSpeed}, {"max_turn", c.MaxTurn},
		{"base_linear", c.BaseLinear}, {"base_angular", c.BaseAngular},
	} {
		if !(f.value > 0) || math.IsInf(f.value, 0) {
			return fmt.Errorf("control: %s is %v; it must be positive and finite", f.name, f.value)
		}
	}
	return nil
}

// place finds what column c drives.
func (m *Mapper) place(c int, d Dim) error {
	arm, rest, _ := strings.Cut(d.Name, "_")
	if arm == "base" {
		switch rest {
		case "linear_x":
			m.base[0] = c
		case "angular_z":
			m.base[1] = c
		default:
			return errors.New("a base has base_linear_x and base_angular_z only")
		}
		return nil
	}
	for a := range m.arms {
		name, ok := strings.CutPrefix(d.Name, m.cfg.Layout[a].Name+"_")
		if !ok {
			continue
		}
		to := &m.arms[a]
		for j, joint := range m.cfg.Layout[a].Joints {
			if joint.Name == name {
				return to.placeJoint(c, j, joint, d)
			}
		}
		return to.placeAxis(c, name, d)
	}
	return fmt.Errorf("no arm of the robot is called so: it has %s", armNames(m.cfg.Layout))
}

func armNames(l Layout) string {
	var names []string
	for _, a := range l {
		names = append(names, a.Name)
	}
	return strings.Join(names, ", ")
}

func (a *mappedArm) placeJoint(c, j int, joint Joint, d Dim) error {
	a.columns[j] = c
	if d.Gripper || d.Space == "joint" && joint.Gripper {
		if !joint.Gripper {
			return errors.New("the joint is no gripper")
		}
		a.opening[j] = true
		return nil
	}
	switch d.Space {
	case "joint":
		return a.become(armJoints)
	case "joint_delta":
		return a.become(armJointDeltas)
	}
	return fmt.Errorf("a joint's space is joint or joint_delta, not %q", d.Space)
}

func (a *mappedArm) placeAxis(c int, name string, d Dim) error {
	if d.Space != "ee_delta" {
		return fmt.Errorf("the arm has no joint of that name, and a tool's space is ee_delta, not %q", d.Space)
	}
	for i, names := range [3][3]string{{"x", "roll", "rx"}, {"y", "pitch", "ry"}, {"z", "yaw", "rz"}} {
		switch name {
		case names[0]:
			a.tool.linear[i] = c
			return a.become(armTool)
		case names[1], names[2]:
			rpy := name == names[1]
			for _, other := range a.tool.angular {
				if other >= 0 && rpy != a.tool.rpy {
					return errors.New("roll, pitch, yaw and rx, ry, rz cannot be mixed")
				}
			}
			a.tool.angular[i], a.tool.rpy = c, rpy
			return a.become(armTool)
		}
	}
	return errors.New("a tool has x, y, z; roll, pitch, yaw or rx, ry, rz")
}

func (a *mappedArm) become(space armSpace) error {
	if a.space != armHolds && a.space != space {
		return errors.New("an arm's columns are all joint, all joint_delta or all ee_delta")
	}
	a.space = space
	return nil
}

// complete checks that an arm's columns are all there.
func (m *Mapper) complete(arm int) error {
	a, joints := &m.arms[arm], m.cfg.Layout[arm].Joints
	for j, c := range a.columns {
		if c < 0 && !joints[j].Gripper && (a.space == armJoints || a.space == armJointDeltas) {
			return fmt.Errorf("no column for %s; an arm driven by joints needs all of them", joints[j].Name)
		}
	}
	if a.space != armTool {
		return nil
	}
	if a.ik == nil {
		return errors.New("ee_delta columns need its kinematics; there is none")
	}
	if n := len(a.ik.chain.Joints); n != len(a.chained) {
		return fmt.Errorf("its kinematics have %d joints, the layout %d", n, len(a.chained))
	}
	return nil
}
