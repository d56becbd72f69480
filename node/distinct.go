package node

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// use is a topic with its type and the parameter that chooses it, or the name that
// remapping does.
type use struct{ chosenBy, topic, typ string }

// uses lists what a node with these settings takes from the graph and sends to it, but
// for what is only looked at.
func (s Settings) uses() []use {
	text, flag := (*msgs.String)(nil).ROSType(), (*msgs.Bool)(nil).ROSType()
	states, trajectories := (*msgs.JointState)(nil).ROSType(), (*msgs.JointTrajectory)(nil).ROSType()
	all := []use{
		{"~/instruction", "~/instruction", text}, {episodeTopic, episodeTopic, text}, {inferenceTopic, inferenceTopic, text},
		{"~/estop", "~/estop", flag}, {"deadman.topic", s.Deadman, flag},
		{"~/action_chunk", "~/action_chunk", trajectories},
	}
	for name, topic := range s.Cameras {
		all = append(all, use{"cameras." + name + ".topic", topic, newCamera(name, topic).rosType()})
	}
	for a, side := range arms {
		all = append(all, use{stateParameter(a), s.States[a], states},
			use{"arms." + side + ".status_topic", s.Drivers[a], (*msgs.PiperStatusMsg)(nil).ROSType()})
		if s.Trajectories {
			all = append(all, use{trajectoryTopic(a), trajectoryTopic(a), trajectories})
		} else {
			all = append(all, use{"arms." + side + ".command_topic", s.Targets[a], states})
		}
	}
	slices.SortFunc(all, func(a, b use) int { return strings.Compare(a.chosenBy, b.chosenBy) })
	return all
}

func stateParameter(arm int) string { return "arms." + arms[arm] + ".state_topic" }

// checkTopics refuses a topic that serves two ends: one driver would get the commands
// for both arms in turn, or one arm be driven by the other's measurement. Those of
// different types do not meet.
func (s Settings) checkTopics(names *ros.Names) error {
	served := map[string]string{}
	for _, u := range s.uses() {
		if u.topic == "" {
			continue // there is none, or New refuses it
		}
		full, err := names.Topic(u.topic)
		if err != nil {
			return fmt.Errorf("%s: %w", u.chosenBy, err)
		}
		other, twice := served[full+" "+u.typ]
		states := other == stateParameter(0) && u.chosenBy == stateParameter(1)
		switch {
		case !twice:
			served[full+" "+u.typ] = u.chosenBy
		case !states:
			return fmt.Errorf("%s and %s are both topic %s; each needs one of its own", other, u.chosenBy, full)
		case !s.toldApart():
			return fmt.Errorf("%s and %s are both topic %s; give each arm its own, or with command.output joint_trajectory names in arms.*.trajectory_joints that are of one arm alone", other, u.chosenBy, full)
		}
	}
	return nil
}

// toldApart reports whether joint states of both arms may come on one topic: where
// each arm's joints have names that the other's have not.
func (s Settings) toldApart() bool {
	return s.Trajectories && !slices.ContainsFunc(s.TrajectoryJoints[0], func(name string) bool {
		return slices.Contains(s.TrajectoryJoints[1], name)
	})
}
