package action

import (
	"fmt"
	"math"

	"github.com/ddvla/ddvla/policy/bundle"
)

// JointStatistics is what the data set says of one joint's absolute position, in
// the robot's units (rad, m of opening).
type JointStatistics struct {
	// Name is the manifest's: "left_joint3", "right_gripper".
	Name string
	// Source is the part of dataset_statistics.json: "proprio" or "action".
	Source string
	// Q01 and Q99 are the 1st and the 99th percentile, Min and Max the extremes; where
	// the file has only one of the two pairs, both are that one.
	Q01, Q99, Min, Max float64
	Gripper            bool
}

// Joints lists the absolute positions that the data set has statistics of: the
// manifest's proprio, then its action columns of space joint. Gripper columns whose
// values are no metres are left out.
func (s *Statistics) Joints(m *bundle.Manifest) []JointStatistics {
	var out []JointStatistics
	add := func(source, name, unit string, gripper bool, c *Columns, i int) {
		low, high, least, most := at(c.Q01, i), at(c.Q99, i), at(c.Min, i), at(c.Max, i)
		if math.IsNaN(low) || math.IsNaN(high) {
			low, high = least, most
		}
		if math.IsNaN(least) || math.IsNaN(most) {
			least, most = low, high
		}
		if finite(low) && finite(high) && finite(least) && finite(most) && (unit == "rad" || unit == "m") {
			out = append(out, JointStatistics{
				Name: name, Source: source, Q01: low, Q99: high, Min: min(least, low), Max: max(most, high), Gripper: gripper,
			})
		}
	}
	grippers := map[string]bool{}
	for _, d := range m.Action.Dims {
		grippers[d.Name] = d.Gripper != nil
	}
	if m.Proprio != nil && s.Proprio != nil {
		for i, d := range m.Proprio.Dims {
			add("proprio", d.Name, d.Unit, grippers[d.Name] || d.Unit == "m", &s.Proprio.Columns, i)
		}
	}
	for i, d := range m.Action.Dims {
		switch {
		case d.Space != bundle.Joint:
		case d.Gripper != nil && d.Gripper.Mode != bundle.GripperMetres:
		case d.Gripper != nil && d.Gripper.Invert: // distances from open
		default:
			add("action", d.Name, d.Unit, d.Gripper != nil, &s.Action, i)
		}
	}
	return out
}

// at is v[i], or NaN where there is none.
func at(v []float64, i int) float64 {
	if i < len(v) {
		return v[i]
	}
	return math.NaN()
}

// Reach is where a joint can be by the robot's description, rad or m.
type Reach struct{ Lower, Upper float64 }

// A Contradiction says that statistics and robot cannot belong together.
type Contradiction struct {
	Joint  string // the manifest's name
	Reason string // a sentence
	Mend   string
}

// Error implements error.
func (c *Contradiction) Error() string { return c.Joint + ": " + c.Reason + "; " + c.Mend }

const (
	// beyondLimit is how far statistics and measurements may lie beyond a limit: arms
	// sag on their stops, and zero points differ by 2 degrees between firmwares. 0.1 rad.
	beyondLimit = 0.1
	// openingBeyond is the same for openings, in m: a measured one is a few mm below 0.
	openingBeyond = 0.02
	// straying is how far beyond all of the data set's states a joint may be when the
	// arms are enabled, in rad: arms are parked in poses that no demonstration has.
	straying = math.Pi / 2
)

// Contradictions holds the statistics of the joints against the robot: reach is
// where its joints can be, pose where they are measured (either may lack joints), by
// name and in rad and m. What it finds are mistakes and not rare poses:
//
//   - statistics more than half of which lie where the joint cannot be, as those of
//     another arm model: a Piper's joint3 is never positive (-2.967 to 0 rad), an
//     ARX5's never negative;
//   - a joint measured on the side of zero where neither the statistics nor the
//     description ever have it;
//   - a joint measured further beyond all of the data set's states than these are
//     apart, and than a quarter of a turn; an opening, than 0.1 m.
//
// Of each joint the first is returned.
func Contradictions(joints []JointStatistics, reach map[string]Reach, pose map[string]float64) []*Contradiction {
	var out []*Contradiction
	told := map[string]bool{}
	for _, j := range joints {
		if told[j.Name] {
			continue
		}
		c := j.misplaced(reach)
		if c == nil {
			c = j.astray(reach, pose)
		}
		if c != nil {
			told[j.Name] = true
			out = append(out, c)
		}
	}
	return out
}

const otherArm = "use a checkpoint of this robot's arms, or name the data set's own description (urdf) and statistics"

// misplaced holds the statistics against where the joint can be.
func (j *JointStatistics) misplaced(reach map[string]Reach) *Contradiction {
	r, ok := reach[j.Name]
	if !ok {
		return nil
	}
	tolerance := beyondLimit
	if j.Gripper {
		tolerance = openingBeyond
	}
	low, high := max(j.Q01, r.Lower-tolerance), min(j.Q99, r.Upper+tolerance)
	if inside, width := high-low, j.Q99-j.Q01; inside >= 0 && inside >= width/2 {
		return nil
	}
	c := &Contradiction{Joint: j.Name, Mend: otherArm}
	c.Reason = fmt.Sprintf("the data set's %s is mostly from %.4g to %.4g %s, this robot's joint reaches from %.4g to %.4g",
		j.Source, j.Q01, j.Q99, j.unit(), r.Lower, r.Upper)
	switch {
	case j.Gripper:
		c.Mend = "export again with the gripper's own unit (--gripper mode=normalised, --proprio-dims), or use statistics in metres of opening"
	case r.Upper <= 0 && j.Q01 >= -beyondLimit:
		c.Reason += ": the statistics are of another arm model (a Piper's joint3 is never positive, an ARX5's never negative)"
	case r.Lower >= 0 && j.Q99 <= beyondLimit:
		c.Reason += ": the statistics are of another arm model, whose joint turns the other way"
	}
	return c
}

// astray holds a measurement against the statistics.
func (j *JointStatistics) astray(reach map[string]Reach, pose map[string]float64) *Contradiction {
	v, ok := pose[j.Name]
	if !ok {
		return nil
	}
	r, known := reach[j.Name]
	c := &Contradiction{Joint: j.Name}
	beyond := max(v-j.Max, j.Min-v)
	switch far := max(straying, j.Max-j.Min); {
	case j.Gripper:
		// The widest gripper of these arms opens 0.1 m.
		if beyond <= max(0.1, j.Max-j.Min) {
			return nil
		}
		c.Reason = fmt.Sprintf("the opening is measured as %.4g m, the data set has %.4g to %.4g", v, j.Min, j.Max)
		c.Mend = "set gripper.driver_scale and gripper.driver_offset to what the driver tells"
	case known && (r.Upper <= 0 && j.Max <= beyondLimit && v > 2*beyondLimit || r.Lower >= 0 && j.Min >= -beyondLimit && v < -2*beyondLimit):
		c.Reason = fmt.Sprintf("it is measured at %.4g rad, where neither the data set (%.4g to %.4g) nor the robot's description (%.4g to %.4g) has it: it turns the other way, as on another arm model",
			v, j.Min, j.Max, r.Lower, r.Upper)
		c.Mend = otherArm
	case beyond > far:
		c.Reason = fmt.Sprintf("it is measured at %.4g rad, far beyond the data set's %.4g to %.4g", v, j.Min, j.Max)
		c.Mend = "check arms.*.state_topic (are left and right exchanged?), unit and zero point; or bring the arm near the poses of the data"
	default:
		return nil
	}
	return c
}

func (j *JointStatistics) unit() string {
	if j.Gripper {
		return "m"
	}
	return "rad"
}
