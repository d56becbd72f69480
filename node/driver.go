package node

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// The values of PiperStatusMsg that mean that an arm takes commands: piper_sdk,
// arm_feedback_status.py. A Piper that was enabled is in standby until its driver
// is sent the first command, which puts it into CAN mode.
const (
	ctrlStandby = 0
	ctrlCAN     = 1
	armNormal   = 0
)

// armFault says what an arm's status means, and whether it takes commands.
func armFault(m *msgs.PiperStatusMsg) (text string, ok bool) {
	states := [...]string{"normal", "emergency stop", "no solution", "singularity", "target beyond a limit", "joint communication error",
		"brake not released", "collision", "dragged too fast", "joint abnormal", "other error", "teaching recording", "teaching executing",
		"teaching paused", "main controller too hot", "release resistor too hot"}
	state := fmt.Sprintf("arm status %d", m.ArmStatus)
	if int(m.ArmStatus) < len(states) {
		state = states[m.ArmStatus]
	}
	switch {
	case m.ArmStatus != armNormal:
		return state, false
	case m.CtrlMode == 2:
		return "teach mode", false
	case m.CtrlMode != ctrlCAN && m.CtrlMode != ctrlStandby:
		return fmt.Sprintf("control mode %d, which is not CAN", m.CtrlMode), false
	}
	return state, true
}

// resolveDrivers finds the full names of the topics that watchDrivers subscribes.
func (n *Node) resolveDrivers() (err error) {
	for a, topic := range n.settings.Drivers {
		if topic == "" {
			continue
		}
		if n.topics.drivers[a], err = n.ros.Resolve(topic); err != nil {
			return fmt.Errorf("arms.%s.status_topic: %w", arms[a], err)
		}
	}
	if n.settings.Deadman != "" {
		if n.topics.deadman, err = n.ros.Resolve(n.settings.Deadman); err != nil {
			return fmt.Errorf("deadman.topic: %w", err)
		}
	}
	return nil
}

// watchDrivers subscribes the status of the arms' drivers and the deadman, where
// the operator named their topics. ROS may not know the type of a status: the arms
// are watched without it then, and that is told.
func (n *Node) watchDrivers() error {
	for a, topic := range n.settings.Drivers {
		if topic == "" {
			continue
		}
		var m msgs.PiperStatusMsg
		if _, err := n.subscribe(topic, m.ROSType(), ros.SensorDataQoS(), func(raw []byte, _ time.Time) { n.onDriver(a, raw, &m) }); err != nil {
			n.drivers[a] = "not watched: " + err.Error()
			n.log.Warn("the driver's status is not watched; source the workspace that has piper_msgs, or leave the topic empty",
				zap.String("parameter", "arms."+arms[a]+".status_topic"), zap.Error(err))
		}
	}
	return n.watchDeadman()
}

// onDriver takes a driver's status, on the subscription's goroutine. One that cannot
// be read is none: the executor notices when they all are.
func (n *Node) onDriver(arm int, raw []byte, m *msgs.PiperStatusMsg) {
	now := n.ros.Now()
	n.recorder.heard(n.topics.drivers[arm], now, raw)
	if now.IsZero() || msgs.Unmarshal(raw, m) != nil {
		return
	}
	text, ok := armFault(m)
	code := int(m.ArmStatus)
	if m.ArmStatus == armNormal {
		code = int(m.ErrCode)
	}
	if err := n.executor.DriverStatus(arm, ok, code, text, now); err != nil {
		n.log.Error("driver status refused", zap.Error(err))
	}
	n.mu.Lock()
	n.drivers[arm] = text
	n.mu.Unlock()
}
