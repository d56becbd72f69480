package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/urdf"
)

// prefixes are what the links and joints of the two follower arms begin with in the
// robot's description.
var prefixes = [2]string{"fl_", "fr_"}

// spaceParameters are those of action spaces other than absolute joints, and of where
// the arms may be.
func spaceParameters() []param.Descriptor {
	guard := control.DefaultGuardConfig(nil, nil)
	table := []param.Descriptor{
		{Name: "space.metres_per_unit", Default: param.Double(0), Range: param.Between(0, 10), ReadOnly: true,
			Meaning: "Metres that 1 stands for in tool deltas without a unit (LIBERO's: 0.05); 0 refuses such policies."},
		{Name: "space.radians_per_unit", Default: param.Double(0), Range: param.Between(0, 10), ReadOnly: true,
			Meaning: "Radians that 1 stands for in tool deltas without a unit (LIBERO's: 0.5); 0 refuses such policies."},
		{Name: "space.from_start", Default: param.Bool(false), ReadOnly: true,
			Meaning: "Deltas of a row are from the pose at the observation, as openpi makes them; false is from the row before, as OpenVLA's data sets have them."},
		{Name: "space.tool_frame", Default: param.Bool(false), ReadOnly: true,
			Meaning: "Tool deltas are along the tool's own axes; false is along those of the arm's base."},
		{Name: "workspace.arm_margin", Default: param.Double(guard.ArmMargin), Unit: "m", Range: param.Between(0, 0.99), ReadOnly: true,
			Meaning: "Least distance between the two arms."},
		{Name: "workspace.self_margin", Default: param.Double(guard.SelfMargin), Unit: "m", Range: param.Between(0, 0.99), ReadOnly: true,
			Meaning: "Least distance between an arm's gripper and its own base and first links."},
		{Name: "workspace.table_height", Default: param.Double(-1), Unit: "m", Range: param.Between(-1, 3), ReadOnly: true,
			Meaning: "Height of the table above the floor, under which no link may go; below 0 there is none."},
		{Name: "workspace.table_margin", Default: param.Double(0), Unit: "m", Range: param.Between(0, 0.99), ReadOnly: true,
			Meaning: "Least distance to the table; fingers end 1.4 mm short of their shape, so that 0 lets a gripper pick up from it."},
	}
	for _, side := range arms {
		table = append(table,
			param.Descriptor{Name: "workspace." + side + "_boxes", Default: param.Doubles(), Unit: "m", ReadOnly: true,
				Meaning: "Where the " + side + " arm's tool0 may be: boxes of min x, y, z, max x, y, z in body_Link (x forward, z up from the floor), one after the other; empty is anywhere."},
			param.Descriptor{Name: "arms." + side + ".mount", Default: param.Doubles(), ReadOnly: true,
				Meaning: "Where the " + side + " arm's base is in body_Link: x, y, z (m), roll, pitch, yaw (rad); empty is as in the description."})
	}
	return table
}

// Space is how columns that are no absolute joints are to be understood.
type Space struct {
	MetresPerUnit, RadiansPerUnit float64 // 0: not said
	FromStart, ToolFrame          bool
}

func spaceFrom(v param.Values) Space {
	return Space{
		MetresPerUnit: v.Double("space.metres_per_unit"), RadiansPerUnit: v.Double("space.radians_per_unit"),
		FromStart: v.Bool("space.from_start"), ToolFrame: v.Bool("space.tool_frame"),
	}
}

// guardFrom makes the guard of the workspace.
func guardFrom(v param.Values, robot *urdf.Robot, layout control.Layout) (*control.Guard, error) {
	var mounts []control.ArmMount
	for a, side := range arms {
		base := prefixes[a] + "base_link"
		mount := control.ArmMount{Base: base, Tool: prefixes[a] + "tool0"}
		var err error
		if given := v.Doubles("arms." + side + ".mount"); len(given) == 6 {
			mount.Mount = urdf.FromRPY([3]float64(given[:3]), [3]float64(given[3:]))
		} else if len(given) != 0 {
			return nil, fmt.Errorf("parameter arms.%s.mount has %d values; it takes x, y, z (m), roll, pitch, yaw (rad), or none", side, len(given))
		} else if mount.Mount, err = control.MountOf(robot, base); err != nil {
			return nil, err
		}
		boxes := v.Doubles("workspace." + side + "_boxes")
		if len(boxes)%6 != 0 {
			return nil, fmt.Errorf("parameter workspace.%s_boxes has %d values; it takes six for each box", side, len(boxes))
		}
		for ; len(boxes) > 0; boxes = boxes[6:] {
			mount.Regions = append(mount.Regions, control.Region{Min: [3]float64(boxes[:3]), Max: [3]float64(boxes[3:6])})
		}
		mounts = append(mounts, mount)
	}
	cfg := control.DefaultGuardConfig(robot, layout, mounts...)
	cfg.ArmMargin, cfg.SelfMargin = v.Double("workspace.arm_margin"), v.Double("workspace.self_margin")
	if height := v.Double("workspace.table_height"); height >= 0 {
		cfg.Planes = []control.Plane{{Name: "table", Normal: [3]float64{0, 0, 1}, Offset: height, Margin: v.Double("workspace.table_margin")}}
	}
	guard, err := control.NewGuard(cfg)
	if err != nil {
		return nil, fmt.Errorf("parameters workspace.*: %w", err)
	}
	return guard, nil
}

// mapping turns chunks of a policy into joint positions of the robot.
type mapping struct {
	mapper *control.Mapper
	mapped control.Mapped
	hold   []float64
	from   []float64
}

// newMapping checks that a policy's columns drive this robot.
func newMapping(s Settings, m *bundle.Manifest) (*mapping, error) {
	var dims []control.Dim
	var deltas []string // the units of tool deltas
	for _, d := range m.Action.Dims {
		name := d.Name
		if !strings.HasPrefix(name, d.Arm+"_") {
			name = d.Arm + "_" + name // "x" of data sets with one arm
		}
		dims = append(dims, control.Dim{Name: name, Space: string(d.Space), Gripper: d.Gripper != nil})
		if d.Gripper != nil {
			continue // its rule makes metres of it
		}
		unitless := d.Space == bundle.EEDelta && d.Unit == "1"
		if want := unitOf(name); d.Unit != want && !unitless {
			return nil, fmt.Errorf("action dimension %q is in %q; this robot takes it in %q", d.Name, d.Unit, want)
		}
		if d.Space == bundle.EEDelta {
			if deltas = append(deltas, d.Unit); unitless != (deltas[0] == "1") {
				return nil, fmt.Errorf("action dimension %q is in %q, the first tool delta in %q; all of them have a unit or none has", d.Name, d.Unit, deltas[0])
			}
		}
	}
	cfg := control.DefaultSpaceConfig(s.Control.Layout, dims)
	cfg.FromStart, cfg.ToolFrame = s.Space.FromStart, s.Space.ToolFrame
	if slices.Contains(deltas, "1") {
		cfg.MetresPerUnit, cfg.RadiansPerUnit = s.Space.MetresPerUnit, s.Space.RadiansPerUnit
		if cfg.MetresPerUnit == 0 || cfg.RadiansPerUnit == 0 {
			return nil, fmt.Errorf("its tool deltas have no unit: set space.metres_per_unit and space.radians_per_unit (0.05 and 0.5 for LIBERO)")
		}
	}
	if len(deltas) > 0 {
		robot, err := loadRobot(s.URDF)
		if err != nil {
			return nil, err
		}
		for a, prefix := range prefixes {
			chain, err := robot.Chain(prefix+"base_link", prefix+"tool0")
			if err != nil {
				return nil, err
			}
			ik := control.DefaultIKConfig(chain)
			for j := range ik.Velocity {
				ik.Velocity[j] = s.Control.Layout[a].Joints[j].Limits.Velocity
			}
			if cfg.IK[a], err = control.NewIK(chain, ik); err != nil {
				return nil, err
			}
		}
	}
	mapper, err := control.NewMapper(cfg)
	if err != nil {
		return nil, err
	}
	return &mapping{mapper: mapper}, nil
}

// unitOf is the unit of what a column drives, by its name with the arm.
func unitOf(name string) string {
	switch _, what, _ := strings.Cut(name, "_"); what {
	case "linear_x":
		return "m/s"
	case "angular_z":
		return "rad/s"
	case "gripper", "x", "y", "z":
		return "m"
	}
	return "rad"
}

// trajectory is a chunk as rows of joint positions. states are those of the chunk's
// observation; joints without columns stay where they are commanded to be.
func (n *Node) trajectory(c *action.Chunk, states *[2]jointState, epoch uint64) (control.Trajectory, error) {
	g := n.mapping
	g.from = g.from[:0]
	for a := range states {
		g.from = append(g.from, states[a].positions[:]...)
	}
	return g.trajectory(c, n.executor, epoch)
}

// trajectory does the same from g.from, the joints at the chunk's observation.
func (g *mapping) trajectory(c *action.Chunk, e *control.Executor, epoch uint64) (control.Trajectory, error) {
	var commanded bool
	if g.hold, commanded = e.Commanded(g.hold); !commanded {
		g.hold = append(g.hold[:0], g.from...)
	}
	// Where it fails the rows are NaN, which the executor stops for and tells.
	err := g.mapper.Convert(c.Values, c.Rate, g.from, g.hold, &g.mapped)
	return control.Trajectory{Stamp: c.Stamp, Rate: c.Rate, Epoch: epoch, Values: g.mapped.Values}, err
}
