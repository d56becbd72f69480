package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Layout is what the numbers of a chunk and of the robot state mean for one robot
// or data set. No file of a checkpoint tells it.
type Layout struct {
	// Name is what --action-dims takes, Meaning a line for people.
	Name, Meaning string
	// Action are the columns of a chunk, Proprio the entries of the robot state.
	Action  []bundle.ActionDim
	Proprio []bundle.ProprioDim
}

// defaultLayout is that of the robot which the node drives.
const defaultLayout = "cobot_magic"

// piperOpening is that of the Piper's gripper in metres (piper_sdk's parameter
// manager).
const piperOpening = 0.07

// Layouts returns the layouts that have names.
func Layouts() []Layout {
	metres := bundle.Gripper{Mode: bundle.GripperMetres, Open: piperOpening}
	normalised := bundle.Gripper{Mode: bundle.GripperNormalised, Open: piperOpening}
	magic := Layout{Name: defaultLayout, Meaning: "absolute joints and gripper opening in metres, left arm then right"}
	aloha := Layout{Name: "aloha", Meaning: "the same with grippers from 0, closed, to 1, open, as in ALOHA and RoboTwin"}
	for _, side := range []string{"left", "right"} {
		magic.addArm(side, "m", metres)
		// Neither binarised nor inverted (openvla-oft run_aloha_eval.py).
		aloha.addArm(side, "1", normalised)
	}
	left := Layout{Name: "left_arm", Meaning: "cobot_magic's left arm alone"}
	left.addArm("left", "m", metres)
	right := Layout{Name: "right_arm", Meaning: "cobot_magic's right arm alone"}
	right.addArm("right", "m", metres)

	// Both data sets have 1 for open and 0 for closed, not normalised (openvla-oft
	// prismatic/vla/datasets/rlds/oxe/transforms.py), so larger values open here. That
	// run_libero_eval.py turns the sign around is for the simulator, whose -1 is open.
	binary := bundle.Gripper{Mode: bundle.GripperBinary, Open: piperOpening, Threshold: 0.5}
	// LIBERO's numbers are what robosuite's OSC_POSE controller takes, of which 1 is
	// 0.05 m or 0.5 rad.
	libero := Layout{Name: "libero", Meaning: "changes of the tool's pose in the simulator's -1..1, binary gripper"}
	libero.addTool("1", "1", binary)
	for _, axis := range []string{"x", "y", "z"} {
		libero.addProprio(axis, "m")
	}
	for _, axis := range []string{"x", "y", "z"} {
		libero.addProprio("axis_angle_"+axis, "rad")
	}
	libero.addProprio("finger1", "m")
	libero.addProprio("finger2", "m")
	// bridge_orig_dataset_transform takes differences of the measured pose.
	bridge := Layout{Name: "bridge", Meaning: "changes of the tool's pose in metres and radians, binary gripper"}
	bridge.addTool("m", "rad", binary)
	for _, d := range bridge.Action {
		bridge.addProprio(d.Name, d.Unit)
	}
	return []Layout{magic, aloha, left, right, libero, bridge}
}

// addArm adds an arm of six absolute joints and a gripper.
func (l *Layout) addArm(side, unit string, gripper bundle.Gripper) {
	for i := 1; i <= 6; i++ {
		l.addJoint(side, fmt.Sprintf("joint%d", i), "rad", nil)
	}
	l.addJoint(side, "gripper", unit, &gripper)
}

func (l *Layout) addJoint(side, joint, unit string, gripper *bundle.Gripper) {
	name := side + "_" + joint
	l.Action = append(l.Action, bundle.ActionDim{Name: name, Space: bundle.Joint, Arm: side, Unit: unit, Gripper: gripper})
	l.Proprio = append(l.Proprio, bundle.ProprioDim{Name: name, Arm: side, Unit: unit})
}

// oneArm is what arm the robots of the data sets with one arm are.
const oneArm = "right"

// addTool adds the columns of a data set of one arm that moves its tool.
func (l *Layout) addTool(length, angle string, gripper bundle.Gripper) {
	for i, name := range []string{"x", "y", "z", "roll", "pitch", "yaw"} {
		unit := length
		if i >= 3 {
			unit = angle
		}
		l.Action = append(l.Action, bundle.ActionDim{Name: name, Space: bundle.EEDelta, Arm: oneArm, Unit: unit})
	}
	l.Action = append(l.Action, bundle.ActionDim{Name: "gripper", Space: bundle.Joint, Arm: oneArm, Unit: "1", Gripper: &gripper})
}

func (l *Layout) addProprio(name, unit string) {
	l.Proprio = append(l.Proprio, bundle.ProprioDim{Name: name, Arm: oneArm, Unit: unit})
}

func findLayout(name string) (Layout, bool) {
	all := Layouts()
	i := slices.IndexFunc(all, func(l Layout) bool { return l.Name == name })
	if i < 0 {
		return Layout{}, false
	}
	return all[i], true
}

// layoutNames lists the layouts that keep accepts.
func layoutNames(keep func(Layout) bool) string {
	var names []string
	for _, l := range Layouts() {
		if keep(l) {
			names = append(names, l.Name)
		}
	}
	return strings.Join(names, ", ")
}

// SetColumns sets ActionDims and ProprioDims. action is the name of a layout or
// the path of a JSON file with a list of the manifest's entries of action.dims;
// proprio is the same with entries of proprio.dims, or empty for what the layout
// of action has. gripper, where it is not empty, changes the rule of all gripper
// columns: fields of bundle.Gripper with their new values, such as
// "mode=binary,open=0.07,close=0,threshold=0.5,invert". What was given is recorded
// in the manifest.
func (o *Options) SetColumns(action, proprio, gripper string) error {
	given := map[string]string{"action-dims": filepath.Base(action)}
	layout, named := findLayout(action)
	if !named {
		var err error
		if layout.Action, err = readDims[bundle.ActionDim](action, func(d bundle.ActionDim) string { return d.Name }); err != nil {
			return fmt.Errorf("%w action-dims: %w", ErrOption, err)
		}
	}
	if proprio != "" {
		given["proprio-dims"] = filepath.Base(proprio)
		if other, ok := findLayout(proprio); ok {
			layout.Proprio = other.Proprio
		} else {
			var err error
			if layout.Proprio, err = readDims[bundle.ProprioDim](proprio, func(d bundle.ProprioDim) string { return d.Name }); err != nil {
				return fmt.Errorf("%w proprio-dims: %w", ErrOption, err)
			}
		}
	}
	if gripper != "" {
		given["gripper"] = gripper
		if err := changeGrippers(layout.Action, gripper); err != nil {
			return fmt.Errorf("%w gripper: %w", ErrOption, err)
		}
	}
	o.ActionDims, o.ProprioDims = layout.Action, layout.Proprio
	o.given = maps.Clone(o.given)
	if o.given == nil {
		o.given = map[string]string{}
	}
	for _, key := range []string{"action-dims", "proprio-dims", "gripper"} {
		delete(o.given, key)
	}
	maps.Copy(o.given, given)
	return nil
}

// readDims reads a list of a manifest's entries. A field that the manifest does
// not have is an error, as it is there.
func readDims[T interface{ Validate() error }](path string, name func(T) string) ([]T, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%q is neither a layout (%s) nor a file", path, layoutNames(func(Layout) bool { return true }))
	} else if err != nil {
		return nil, err
	}
	var list []json.RawMessage
	if err := json.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%s is no JSON list of dimensions: %w", path, err)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s is an empty list", path)
	}
	dims := make([]T, len(list))
	at := map[string]int{}
	for i, entry := range list {
		decoder := json.NewDecoder(bytes.NewReader(entry))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&dims[i]); err != nil {
			return nil, fmt.Errorf("%s, entry %d of %d: %w", path, i+1, len(list), err)
		}
		name := name(dims[i])
		if err := dims[i].Validate(); err != nil {
			return nil, fmt.Errorf("%s, entry %d of %d, %q: %w", path, i+1, len(list), name, err)
		}
		if first, ok := at[name]; ok {
			return nil, fmt.Errorf("%s, entry %d of %d, %q: entry %d has this name", path, i+1, len(list), name, first)
		}
		at[name] = i + 1
	}
	return dims, nil
}

// changeGrippers changes the rule of the gripper columns as text says.
func changeGrippers(dims []bundle.ActionDim, text string) error {
	changed := false
	for i, d := range dims {
		if d.Gripper == nil {
			continue
		}
		rule := *d.Gripper
		if err := parseGripper(text, &rule); err != nil {
			return err
		}
		dims[i].Gripper = &rule
		if err := dims[i].Validate(); err != nil {
			return fmt.Errorf("%q makes %q wrong: %w", text, d.Name, err)
		}
		changed = true
	}
	if !changed {
		return errors.New("no column of action-dims has a gripper rule that it could change; give one in a JSON file")
	}
	return nil
}

// parseGripper changes the fields of rule that text names: FIELD=VALUE with commas
// between, or invert alone.
func parseGripper(text string, rule *bundle.Gripper) error {
	mode := rule.Mode
	seen := map[string]bool{}
	for part := range strings.SplitSeq(text, ",") {
		key, value, hasValue := strings.Cut(strings.TrimSpace(part), "=")
		if seen[key] {
			return fmt.Errorf("%q has %s twice", text, key)
		}
		seen[key] = true
		numbers := map[string]*float64{"open": &rule.Open, "close": &rule.Close, "threshold": &rule.Threshold, "offset": &rule.Offset}
		switch number := numbers[key]; {
		case number != nil:
			v, err := strconv.ParseFloat(value, 64)
			if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
				return fmt.Errorf("%q: %s is %q, must be a number", text, key, value)
			}
			*number = v
		case key == "mode":
			rule.Mode = bundle.GripperMode(value)
		case key == "invert" && !hasValue:
			rule.Invert = true
		case key == "invert":
			v, err := strconv.ParseBool(value)
			if err != nil {
				return fmt.Errorf("%q: invert is %q, must be true or false", text, value)
			}
			rule.Invert = v
		default:
			return fmt.Errorf("%q: there is no %q; it takes mode=metres, normalised or binary, open=METRES, close=METRES, threshold=NUMBER (of mode binary), invert, offset=METRES", text, key)
		}
	}
	switch {
	case rule.Mode == bundle.GripperBinary && mode != bundle.GripperBinary && !seen["threshold"]:
		return fmt.Errorf("%q: mode binary needs a threshold, such as threshold=0.5 where 0 is closed and 1 open", text)
	case rule.Mode != bundle.GripperBinary && seen["threshold"]:
		return fmt.Errorf("%q: threshold is for mode binary, the mode is %s", text, rule.Mode)
	case rule.Mode != bundle.GripperBinary:
		rule.Threshold = 0
	}
	return nil
}

// gripperDoubt says why the rule of a gripper column hardly fits what the column
// can say, low to high in the data set's units, or nothing. A gripper that the data
// set never moves tells nothing.
func gripperDoubt(d bundle.ActionDim, low, high float64) string {
	g := d.Gripper
	if g == nil || !(low < high) {
		return ""
	}
	doubt := false
	switch g.Mode {
	case bundle.GripperMetres:
		doubt = high <= g.Close || high > 2*g.Open
	case bundle.GripperNormalised:
		doubt = high < 0.5 || high > 2
	case bundle.GripperBinary:
		doubt = g.Threshold < low || g.Threshold >= high
	}
	if !doubt {
		return ""
	}
	rule := fmt.Sprintf("%s, closed %g m, open %g m", g.Mode, g.Close, g.Open)
	if g.Mode == bundle.GripperBinary {
		rule = fmt.Sprintf("%s at %g", g.Mode, g.Threshold)
	}
	return fmt.Sprintf("%s goes from %.4g to %.4g in the data set, which hardly fits its rule (%s); --gripper changes it", d.Name, low, high, rule)
}
