package action

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/policy/bundle"
)

// piper is where some joints of a Piper can be, by its driver's own table
// (piper_sdk's parameter manager).
func piper() map[string]Reach {
	return map[string]Reach{
		"left_joint2": {0, 3.14}, "left_joint3": {-2.967, 0}, "left_joint5": {-1.22, 1.22}, "left_gripper": {0, 0.07},
	}
}

func joint(name string, q01, q99 float64) JointStatistics {
	return JointStatistics{Name: name, Source: "proprio", Q01: q01, Q99: q99, Min: q01, Max: q99, Gripper: strings.HasSuffix(name, "gripper")}
}

func TestContradictionsAreMistakesAndNotRarePoses(t *testing.T) {
	for name, c := range map[string]struct {
		joint JointStatistics
		pose  float64
		want  []string // of the error; nil is none
	}{
		"within the data":                       {joint("left_joint3", -1.3, -0.46), -0.8, nil},
		"parked at zero":                        {joint("left_joint3", -1.3, -0.46), 0, nil},
		"sagging on the stop":                   {joint("left_joint2", 0.17, 1.9), -0.03, nil},
		"parked beyond all of the data":         {joint("left_joint5", 0.6, 1.2), -0.8, nil},
		"constant, and a little off":            {joint("left_joint5", 0.3, 0.3), 0.9, nil},
		"data a little beyond the limit":        {joint("left_joint2", -0.05, 1.9), 0.2, nil},
		"ARX5's joint3":                         {joint("left_joint3", 0, 1.24), -0.5, []string{"left_joint3", "another arm model", "ARX5"}},
		"ARX5's joint3, constant":               {joint("left_joint3", 1.1, 1.1), 0, []string{"another arm model"}},
		"joint2 that turns the other way":       {joint("left_joint2", -2, -0.1), 0, []string{"another arm model"}},
		"an arm whose joint3 is positive":       {joint("left_joint3", -1.3, -0.46), 0.9, []string{"measured at 0.9", "turns the other way"}},
		"an arm whose joint2 is negative":       {joint("left_joint2", 0.17, 1.9), -0.7, []string{"turns the other way"}},
		"far beyond":                            {joint("left_joint5", 0.6, 1.2), -1.2, []string{"far beyond", "left and right"}},
		"openings of 0 to 1 as metres":          {joint("left_gripper", 0, 1), 0.03, []string{"gripper's own unit", "mode=normalised"}},
		"an opening in percent":                 {joint("left_gripper", 0.01, 0.065), 50, []string{"measured as 50 m", "gripper.driver_scale"}},
		"a gripper wide open where data is not": {joint("left_gripper", 0, 0.02), 0.1, nil},
		"a gripper a little below zero":         {joint("left_gripper", 0.01, 0.065), -0.003, nil},
	} {
		t.Run(name, func(t *testing.T) {
			found := Contradictions([]JointStatistics{c.joint}, piper(), map[string]float64{c.joint.Name: c.pose})
			if c.want == nil {
				if len(found) > 0 {
					t.Errorf("found %v", found[0])
				}
				return
			}
			if len(found) != 1 {
				t.Fatalf("found %v", found)
			}
			for _, want := range c.want {
				if !strings.Contains(found[0].Error(), want) {
					t.Errorf("%v\ndoes not say %q", found[0], want)
				}
			}
		})
	}
}

// Whatever the statistics are, a pose that they have and that the joint can be in is
// no contradiction where most of them lie within its reach; and with all of them on
// the other side of a joint that turns one way only there is one, wherever the arm is.
func TestContradictionsFollowTheStatistics(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := piper()["left_joint3"]
		a, b := rapid.Float64Range(r.Lower, r.Upper).Draw(t, "a"), rapid.Float64Range(r.Lower, r.Upper).Draw(t, "b")
		v := min(a, b) + rapid.Float64Range(0, 1).Draw(t, "share")*(max(a, b)-min(a, b))
		inside := joint("left_joint3", min(a, b), max(a, b))
		if found := Contradictions([]JointStatistics{inside}, piper(), map[string]float64{"left_joint3": v}); len(found) > 0 {
			t.Fatalf("%v", found[0])
		}
		if a > -0.3 || b > -0.3 {
			return // by the tolerance it may be this arm's
		}
		mirrored := joint("left_joint3", -max(a, b), -min(a, b))
		if found := Contradictions([]JointStatistics{mirrored}, piper(), map[string]float64{"left_joint3": v}); len(found) != 1 {
			t.Fatalf("%v is not noticed", mirrored)
		}
	})
}

func TestStatisticsOfJointsAreInTheRobotsUnits(t *testing.T) {
	m := &bundle.Manifest{
		Proprio: &bundle.Proprio{Dims: []bundle.ProprioDim{{Name: "left_joint1", Unit: "rad"}, {Name: "left_gripper", Unit: "m"}, {Name: "x", Unit: "1"}}},
		Action: bundle.Action{Dims: []bundle.ActionDim{
			{Name: "left_joint1", Space: bundle.Joint, Unit: "rad"},
			{Name: "left_joint2", Space: bundle.JointDelta, Unit: "rad"},
			{Name: "left_gripper", Space: bundle.Joint, Unit: "1", Gripper: &bundle.Gripper{Mode: bundle.GripperNormalised}},
			{Name: "right_gripper", Space: bundle.Joint, Unit: "m", Gripper: &bundle.Gripper{Mode: bundle.GripperMetres}},
		}},
	}
	s := &Statistics{
		Action:  Columns{Q01: []float64{-1, -2, -3, 0}, Q99: []float64{1, 2, 3, 0.06}},
		Proprio: &States{Columns: Columns{Q01: []float64{-0.5, 0, 0}, Q99: []float64{0.5, 0.05, 1}, Min: []float64{-0.7, 0, 0}, Max: []float64{0.6, 0.07, 1}}},
	}
	want := []JointStatistics{
		{Name: "left_joint1", Source: "proprio", Q01: -0.5, Q99: 0.5, Min: -0.7, Max: 0.6},
		{Name: "left_gripper", Source: "proprio", Q01: 0, Q99: 0.05, Min: 0, Max: 0.07, Gripper: true},
		{Name: "left_joint1", Source: "action", Q01: -1, Q99: 1, Min: -1, Max: 1},
		{Name: "right_gripper", Source: "action", Q01: 0, Q99: 0.06, Min: 0, Max: 0.06, Gripper: true},
	}
	if got := s.Joints(m); !slices.Equal(got, want) {
		t.Errorf("%+v\nwant\n%+v", got, want)
	}
}
