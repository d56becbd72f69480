package node

import (
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
)

// commandMessage is the pair of JointState messages that commands go out as. It
// is filled and sent without allocating.
type commandMessage struct {
	messages [2]msgs.JointState
	raw      [2][]byte
}

// The ways to name the joints of a command, values of command.joint_names. The
// first suits every driver of AgileX's that goes by name: Piper_ros takes the
// gripper from the seventh position whatever its name, agx_arm_ros looks for
// "gripper". The second is what AgileX's openpi, ACT and RDT clients send.
const (
	namesGripper = "joint1..6,gripper"
	namesJoint7  = "joint1..7"
)

// init sets what never changes. The drivers of the Cobot Magic want exactly
// seven names: one that is missing or spelled otherwise moves that joint to zero
// at full speed. Velocity and effort stay empty, since the drivers read their
// seventh entry as a speed in percent and a force in newton; where the operator
// sets those, only the seventh entry is set.
func (m *commandMessage) init(s Settings) {
	for a := range m.messages {
		message := &m.messages[a]
		message.Name = []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"}
		if s.JointNames == namesJoint7 {
			message.Name[armJoints-1] = "joint7"
		}
		message.Position = make([]float64, armJoints)
		if s.SpeedPercent > 0 {
			message.Velocity = make([]float64, armJoints)
			message.Velocity[armJoints-1] = s.SpeedPercent
		}
		if s.GripperEffort > 0 {
			message.Effort = make([]float64, armJoints)
			message.Effort[armJoints-1] = s.GripperEffort
		}
	}
}

// send publishes a command that passed the safety filter, one message per arm.
func (n *Node) send(c control.Command) {
	if c.Dry {
		return
	}
	n.gaps.tick(time.Now())
	if n.settings.Trajectories {
		n.sendTrajectories()
		return
	}
	for a := range n.act.messages {
		m := &n.act.messages[a]
		m.Header.Stamp = msgs.TimeOf(c.Stamp)
		copy(m.Position, c.Positions[a*armJoints:(a+1)*armJoints])
		m.Position[armJoints-1] = n.settings.Gripper.ToDriver(m.Position[armJoints-1])
		raw, err := msgs.AppendMarshal(n.act.raw[a][:0], m)
		if err != nil {
			n.publishFailed(n.topics.targets[a], err)
			continue
		}
		n.act.raw[a] = raw
		if err := n.targets[a].Publish(raw); err != nil {
			n.publishFailed(n.topics.targets[a], err)
			continue
		}
		n.recorder.message(n.topics.targets[a], raw)
	}
}
