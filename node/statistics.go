package node

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
)

// ErrStatistics is why arms are not enabled whose joints contradict the statistics
// of the checkpoint; see action.Contradictions for the rule.
var ErrStatistics = errors.New("the policy's statistics do not fit this robot")

// ArmJoints are the names of the robot's joints as bundles call them, left arm first:
// left_joint1..left_joint6, left_gripper, right_joint1..., right_gripper.
func ArmJoints() []string {
	var names []string
	for _, side := range arms {
		for j := range armJoints {
			names = append(names, jointName(side, j))
		}
	}
	return names
}

// Reach is where each joint can be by the robot's description, by ArmJoints' names;
// rad, and m of opening.
func (s Settings) Reach() map[string]action.Reach {
	reach := map[string]action.Reach{}
	for a, arm := range s.Control.Layout {
		for j, joint := range arm.Joints {
			reach[jointName(arms[a], j)] = action.Reach{Lower: joint.Limits.Lower, Upper: joint.Limits.Upper}
		}
	}
	return reach
}

// loadStatistics reads what the data set says of the arms' joints.
func loadStatistics(dir string, m *bundle.Manifest) ([]action.JointStatistics, error) {
	s, err := action.LoadStatistics(filepath.Join(dir, bundle.StatisticsFile), m.Action.UnnormKey)
	if err != nil {
		return nil, err
	}
	return s.Joints(m), nil
}

// fits refuses arms that the statistics are not of, by the description and by where
// they are measured now. An arm that has told nothing, or something far beyond its
// limits, is the executor's to refuse.
func (n *Node) fits() error {
	if !n.settings.CheckStatistics {
		return nil
	}
	pose, reach := map[string]float64{}, n.settings.Reach()
	for a, j := range n.observer.joints {
		state, ok := j.newest()
		for k := range armJoints {
			name, v := jointName(arms[a], k), state.positions[k]
			if r := reach[name]; ok && max(v-r.Upper, r.Lower-v) <= n.settings.Control.LimitStop {
				pose[name] = v
			}
		}
	}
	found := action.Contradictions(n.statistics, reach, pose)
	if len(found) == 0 {
		return nil
	}
	more := ""
	if len(found) > 1 {
		more = fmt.Sprintf(" (and %d more, which `ddvla doctor` lists)", len(found)-1)
	}
	return fmt.Errorf("%w: %w%s; check_statistics:=false enables all the same", ErrStatistics, found[0], more)
}
