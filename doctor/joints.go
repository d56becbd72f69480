package doctor

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/action"
)

// ArmReport is what was heard of one arm.
type ArmReport struct {
	Arm   string   `json:"arm"`
	Topic string   `json:"topic"`
	Names []string `json:"names"` // of the newest message, in its order
	TimingReport
	Refused int `json:"refused,omitempty"`
	// CommandTopic is where commands go, and Commands how many others sent there.
	CommandTopic string        `json:"command_topic"`
	Commands     int           `json:"commands"`
	Joints       []JointReport `json:"joints"`
}

// JointReport compares a joint with the statistics.
type JointReport struct {
	Name   string  `json:"name"`
	Unit   string  `json:"unit"` // rad, or m of opening
	Low    float64 `json:"low"`  // measured
	Median float64 `json:"median"`
	High   float64 `json:"high"`
	// Q01 and Q99 are the statistics' of Source ("proprio", "action"); without are none.
	Source string   `json:"source,omitempty"`
	Q01    *float64 `json:"q01,omitempty"`
	Q99    *float64 `json:"q99,omitempty"`
	// Outside is the share of the measurements outside of them, 0 to 1.
	Outside *float64 `json:"outside,omitempty"`
}

// mostlyOutside is the share of measurements outside q01..q99 that is told.
const mostlyOutside = 0.5

// joints judges the joint states.
func (c *Case) joints(r *Report) {
	l := c.Listener
	var known []action.JointStatistics
	if c.Statistics != nil {
		known = c.Statistics.Joints(c.Manifest)
	}
	names := node.ArmJoints()
	pose := map[string]float64{}
	for a, side := range sides {
		heard := l.states[a]
		report := ArmReport{
			Arm: side, Topic: heard.topic, Names: slices.Clone(heard.names), TimingReport: heard.timing.report(), Refused: heard.refused,
			CommandTopic: l.commands[a].topic, Commands: l.commands[a].timing.count,
		}
		c.arm(r, side, heard)
		for j := range armJoints {
			if heard.positions == 0 {
				break
			}
			name := names[a*armJoints+j]
			joint := JointReport{Name: name, Unit: "rad"}
			if j == armJoints-1 {
				joint.Unit = "m"
			}
			values := heard.column(j)
			joint.Low, joint.Median, joint.High = slices.Min(values), quantile(0.5, values), slices.Max(values)
			pose[name] = joint.Median
			wrongUnit := c.unit(r, name, j, heard, values)
			if at := slices.IndexFunc(known, func(s action.JointStatistics) bool { return s.Name == name }); at >= 0 {
				s := known[at]
				outside := outside(&s, values)
				joint.Source, joint.Q01, joint.Q99, joint.Outside = s.Source, &s.Q01, &s.Q99, &outside
			}
			report.Joints = append(report.Joints, joint)
			if wrongUnit {
				delete(pose, name)
			}
		}
		r.Arms = append(r.Arms, report)
		c.signs(r, side, a)
		if side := sideOf(heard.topic); side >= 0 && side != a && heard.positions > 0 {
			r.add(Warning, "arm-side", sides[a], "exchange arms.left.state_topic and arms.right.state_topic if they are wrong: move one arm by hand and look again",
				"the %s arm's states come from %s, by its name the %s one's", sides[a], heard.topic, sides[side])
		}
	}
	// The node's own rule. It is held against the statistics alone too, since an arm
	// may be silent.
	for _, found := range action.Contradictions(known, c.Settings.Reach(), pose) {
		r.add(Error, "statistics-contradict", found.Joint, found.Mend, "%s: %s; the node refuses to enable the arms", found.Joint, found.Reason)
	}
	swapped := c.swapped(r, known)
	for _, arm := range r.Arms {
		for _, j := range arm.Joints {
			if j.Outside == nil || *j.Outside <= mostlyOutside || swapped || r.has("statistics-contradict", j.Name) || r.has("joint-unit", j.Name) {
				continue
			}
			r.add(Warning, "joint-outside", j.Name, "compare the arm's pose, unit and zero point with the data's; ~/home goes to the middle of the data",
				"%s is outside the data's q01..q99 (%.3f to %.3f %s) in %.0f %% of the measurements, which are %.3f to %.3f",
				j.Name, *j.Q01, *j.Q99, j.Unit, 100**j.Outside, j.Low, j.High)
		}
	}
	if c.Statistics == nil {
		return
	}
	if len(known) == 0 {
		r.add(Note, "statistics-none", "joints", "compare the contact sheet and a dry run with the data instead",
			"the statistics hold no absolute joint positions to compare the arms with")
	}
}

// column is one joint of the kept samples.
func (a *arm) column(j int) []float64 {
	values := make([]float64, len(a.samples.values))
	for i, s := range a.samples.values {
		values[i] = s.positions[j]
	}
	return values
}

// outside is the share of values outside the quantiles, with a hundredth of their
// distance to spare for noise.
func outside(s *action.JointStatistics, values []float64) float64 {
	spare := 0.01 * (s.Q99 - s.Q01)
	n := 0
	for _, v := range values {
		if v < s.Q01-spare || v > s.Q99+spare {
			n++
		}
	}
	return float64(n) / float64(max(len(values), 1))
}

// arm judges the messages of one arm.
func (c *Case) arm(r *Report, side string, a *arm) {
	parameter := "arms." + side + ".state_topic"
	switch {
	case a.positions == 0 && a.refusal != nil:
		r.add(Error, "arm-unreadable", side, "choose the topic of one arm's joints ("+parameter+"), with names joint0..6, joint1..7 or joint1..6 and gripper; command.output joint_trajectory has names of its own",
			"no joint state of the %s arm on %s can be used: %v", side, a.topic, a.refusal)
		return
	case a.positions == 0:
		r.add(Error, "arm-silent", side, c.mendSilence(parameter, a.topic, "sensor_msgs/msg/JointState"),
			"%s arm: nothing came on %s (sensor_msgs/msg/JointState)", side, a.topic)
		return
	case a.refused > 0:
		r.add(Warning, "arm-refused", side, "look at the driver; the node skips such messages",
			"%d of %d joint states of the %s arm cannot be used, the last because: %v", a.refused, a.refused+a.positions, side, a.refusal)
	}
	timeout := c.Settings.Control.FeedbackTimeout
	c.timing(r, "arm", "the "+side+" arm", side, &a.timing, timeout, "stops the arms (limits.feedback_timeout)")
	if report := a.timing.report(); report.Count > 1 && report.Rate < 20 {
		r.add(Warning, "arm-slow", side, "raise the rate of the arm's driver",
			"the %s arm tells its joints %.1f times a second; AgileX's drivers do 200 times, and the node pairs them with pictures", side, report.Rate)
	}
	if order := ordered(a.names); !order {
		r.add(Note, "joint-order", side, "nothing: the node goes by the names",
			"the joints of the %s arm come as %s", side, strings.Join(a.names, ", "))
	}
}

// ordered tells whether names are in the order of the arm's joints.
func ordered(names []string) bool {
	last := ""
	for _, n := range names {
		if n == "gripper" {
			n = "joint7"
		}
		if strings.HasPrefix(n, "joint") {
			if n < last {
				return false
			}
			last = n
		}
	}
	return true
}

// unit looks for values that are no radians, or no metres of opening, by their size.
func (c *Case) unit(r *Report, name string, j int, a *arm, values []float64) (wrong bool) {
	sizes := make([]float64, len(values))
	for i, v := range values {
		sizes[i] = math.Abs(v)
	}
	large := quantile(0.9, sizes)
	if j == armJoints-1 {
		return c.gripperUnit(r, name, a, values)
	}
	reach, ok := c.Settings.Reach()[name]
	if !ok {
		return false
	}
	if large > 7 {
		r.add(Error, "joint-unit", name, "have the driver tell radians",
			"%s is measured as up to %.4g, more than a turn in rad; is it in degrees?", name, large)
		return true
	}
	const tolerance = 0.1
	beyond := 0
	for _, v := range values {
		if v < reach.Lower-tolerance || v > reach.Upper+tolerance {
			beyond++
		}
	}
	if share := float64(beyond) / float64(max(len(values), 1)); share > 0.1 && !c.contradicts(name) {
		r.add(Error, "joint-limits", name, "compare unit, sign and zero point with the arm's description (urdf); is it another arm model?",
			"%s is measured as %.3f to %.3f rad, beyond its limits %.3f to %.3f in %.0f %% of the measurements",
			name, slices.Min(values), slices.Max(values), reach.Lower, reach.Upper, 100*share)
	}
	return false
}

// contradicts tells whether the statistics are of another arm, which says more than
// that measurements are beyond limits.
func (c *Case) contradicts(name string) bool {
	if c.Statistics == nil {
		return false
	}
	found := action.Contradictions(c.Statistics.Joints(c.Manifest), c.Settings.Reach(), nil)
	return slices.ContainsFunc(found, func(c *action.Contradiction) bool { return c.Joint == name })
}

// widestOpening is the widest that a gripper of these arms opens, in m, and a bit.
const widestOpening = 0.12

// gripperUnit looks at how a gripper's opening is told.
func (c *Case) gripperUnit(r *Report, name string, a *arm, values []float64) (wrong bool) {
	units := c.Settings.Gripper
	if units.Scale == 0 {
		units.Scale = 1
	}
	raw := make([]float64, len(values))
	for i, v := range values {
		raw[i] = v*units.Scale + units.Offset
	}
	large, most := quantile(0.99, values), quantile(0.99, raw)
	if large <= widestOpening && quantile(0.01, values) >= -0.02 {
		return false
	}
	open := c.Settings.Reach()[name].Upper
	guess, scale := "", 0.0
	switch {
	case most > 1000:
		guess, scale = "micrometres, as in the arm's own protocol", 1e6
	case most > 72:
		guess, scale = "percent (0 to 100)", 100/open
	case most > 20:
		guess, scale = "millimetres (0 to 70) or percent", 1000
	case most > 1.2:
		guess = "a motor's angle, as of an ARX5 (0 to 5)"
	case most > widestOpening:
		guess, scale = "the share of the way (0 to 1)", 1/open
	default:
		guess = "measured from another zero"
	}
	mend := "set gripper.driver_scale and gripper.driver_offset to what the driver tells for a metre and when closed"
	if scale != 0 {
		mend = fmt.Sprintf("set gripper.driver_scale to %.5g if it is, and look again", scale)
	}
	r.add(Error, "joint-unit", name, mend, "the driver tells %.4g to %.4g on %s, which is no opening in metres (0 to %.3g): it looks like %s",
		slices.Min(raw), slices.Max(raw), a.topic, open, guess)
	return true
}

// signs compares how an arm moves with what it is commanded, where that is heard.
func (c *Case) signs(r *Report, side string, a int) {
	l := c.Listener
	own, other := paired(l.states[a], l.commands[a]), paired(l.states[a], l.commands[1-a])
	if len(own) >= leastLooks && len(other) >= leastLooks {
		if straight, crossed := distance(own), distance(other); straight > 0.15 && crossed < straight/4 {
			r.add(Error, "arms-crossed", side, "exchange arms.left.command_topic and arms.right.command_topic, or the state topics",
				"the %s arm is where the other arm's commands are (%.2f rad apart on average, its own %.2f)", side, crossed, straight)
			return // signs of the other arm's joints say nothing
		}
	}
	names := node.ArmJoints()
	if len(own) >= 2*leastLooks {
		for j := range armJoints {
			state, command := make([]float64, len(own)), make([]float64, len(own))
			for i, p := range own {
				state[i], command[i] = p[0][j], p[1][j]
			}
			least, name := 0.02, names[a*armJoints+j]
			if j == armJoints-1 {
				least = 0.004
			}
			if stat.StdDev(state, nil) < least || stat.StdDev(command, nil) < least {
				continue
			}
			if k := correlation(state, command); k < -0.5 {
				if j == armJoints-1 {
					r.add(Error, "gripper-inverted", name, "set gripper.driver_scale to a negative value and gripper.driver_offset to the opening when closed, or mend the driver",
						"%s opens when it is commanded to close (correlation %.2f with %s): it is inverted", name, k, l.commands[a].topic)
					continue
				}
				r.add(Error, "joint-sign", name, "compare the signs of state and command in the driver",
					"%s moves against what it is commanded (correlation %.2f with %s): its sign differs", name, k, l.commands[a].topic)
			}
		}
	}
}

// paired pairs samples of a state with the newest command before each, at most half a
// second old.
func paired(state, command *arm) (out [][2][armJoints]float64) {
	commands := command.samples.values
	at := 0
	for _, s := range state.samples.values {
		for at+1 < len(commands) && !commands[at+1].stamp.After(s.stamp) {
			at++
		}
		if at < len(commands) && !commands[at].stamp.After(s.stamp) && s.stamp.Sub(commands[at].stamp).Seconds() < 0.5 {
			out = append(out, [2][armJoints]float64{s.positions, commands[at].positions})
		}
	}
	return out
}

// distance is the mean over the pairs of the joints' largest difference, in rad.
func distance(pairs [][2][armJoints]float64) float64 {
	sum := 0.0
	for _, p := range pairs {
		largest := 0.0
		for j := range armJoints - 1 {
			largest = max(largest, math.Abs(p[0][j]-p[1][j]))
		}
		sum += largest
	}
	return sum / float64(len(pairs))
}

// swapped tells whether the arms fit the statistics the other way round much better.
func (c *Case) swapped(r *Report, known []action.JointStatistics) bool {
	l := c.Listener
	if l.states[0].positions == 0 || l.states[1].positions == 0 {
		return false
	}
	names := node.ArmJoints()
	// strayed is how far the measurements of one arm lie beyond the quantiles of
	// another: the mean over time of the sum over joints, in units of q99 - q01.
	strayed := func(measured, of int) (sum float64) {
		for j := range armJoints - 1 {
			at := slices.IndexFunc(known, func(s action.JointStatistics) bool { return s.Name == names[of*armJoints+j] })
			if at < 0 {
				continue
			}
			s := known[at]
			width := max(s.Q99-s.Q01, 0.05)
			values := l.states[measured].column(j)
			for _, v := range values {
				sum += max(0, v-s.Q99, s.Q01-v) / width / float64(len(values))
			}
		}
		return sum
	}
	straight, crossed := strayed(0, 0)+strayed(1, 1), strayed(0, 1)+strayed(1, 0)
	if straight < 0.05 || crossed > straight/4 {
		return false
	}
	r.add(Error, "arms-swapped", "arms", "exchange arms.left.state_topic and arms.right.state_topic (and the command topics): move one arm by hand and look again",
		"the arms fit the data exchanged: the left one is where the data has the right one (%.2f ranges beyond it, exchanged %.2f)", straight, crossed)
	return true
}
