package node

import (
	"fmt"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
)

// The values of command.output.
const (
	outputJointState      = "joint_state"
	outputJointTrajectory = "joint_trajectory"
)

// trajectoryTopic is where an arm's trajectories go.
func trajectoryTopic(arm int) string { return "~/" + arms[arm] + "/joint_trajectory" }

// trajectoryMessage is the pair of JointTrajectory messages that go out for
// ros2_control's joint_trajectory_controller. It is filled and sent without
// allocating, once it has grown.
type trajectoryMessage struct {
	horizon  time.Duration
	gripper  control.GripperUnits
	ahead    control.Ahead
	messages [2]msgs.JointTrajectory
	raw      [2][]byte
}

// init sets what never changes. The stamp stays 0, which the controller reads as now.
func (m *trajectoryMessage) init(s Settings) {
	m.horizon, m.gripper = s.TrajectoryHorizon, s.Gripper
	if m.gripper.Scale == 0 {
		m.gripper.Scale = 1
	}
	for a := range m.messages {
		m.messages[a].JointNames = s.TrajectoryJoints[a]
	}
}

// fill writes one arm's part of what is ahead.
func (m *trajectoryMessage) fill(arm int) {
	out := &m.messages[arm]
	lo, joints := arm*armJoints, len(out.JointNames)
	for len(out.Points) < len(m.ahead.Points) {
		out.Points = append(out.Points, msgs.JointTrajectoryPoint{})
	}
	out.Points = out.Points[:len(m.ahead.Points)]
	for i := range m.ahead.Points {
		p, q := &m.ahead.Points[i], &out.Points[i]
		q.Positions = append(q.Positions[:0], p.Positions[lo:lo+joints]...)
		q.Velocities = append(q.Velocities[:0], p.Velocities[lo:lo+joints]...)
		if joints == armJoints {
			opening := &q.Positions[armJoints-1]
			*opening = m.gripper.ToDriver(*opening)
			q.Velocities[armJoints-1] *= m.gripper.Scale
		}
		q.TimeFromStart = msgs.DurationOf(p.After)
	}
}

// sendTrajectories publishes the command that passed the safety filter and how the
// arms go on from there, ending at rest, so that a controller that hears nothing more
// stops.
func (n *Node) sendTrajectories() {
	m := &n.trajectories
	if !n.executor.Ahead(&m.ahead, m.horizon) {
		return
	}
	for a := range m.messages {
		m.fill(a)
		raw, err := msgs.AppendMarshal(m.raw[a][:0], &m.messages[a])
		if err == nil {
			m.raw[a] = raw
			err = n.targets[a].Publish(raw)
		}
		if err != nil {
			n.publishFailed(n.topics.targets[a], err)
			continue
		}
		n.recorder.message(n.topics.targets[a], raw)
	}
}

// checkTrajectories refuses what a controller could not follow or would not come to
// rest within.
func (s Settings) checkTrajectories() error {
	if !s.Trajectories {
		return nil
	}
	for a, names := range s.TrajectoryJoints {
		if n := len(names); n != armJoints && n != armJoints-1 {
			return fmt.Errorf("parameter arms.%s.trajectory_joints has %d names; it takes those of six joints, and the gripper's if the controller has it", arms[a], n)
		}
	}
	return s.Control.CheckAhead(s.TrajectoryHorizon)
}
