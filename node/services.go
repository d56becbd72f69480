package node

import (
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// serve makes the node's services, all std_srvs/srv/Trigger:
//
//	~/enable   let the arms move; clears an e-stop or another stop
//	~/disable  come to rest, hold the pose a moment, then send nothing
//	~/home     forget the instruction, go slowly to the start pose and hold it
//	~/estop    stop at the maximum deceleration and latch until ~/enable
//	~/reset    throw the chunk being executed away and halt until the next one
//
// All but ~/enable also end the inference that is running, whose chunk would only
// be dropped. Buttons that publish are heard on ~/estop too.
func (n *Node) serve() error {
	for _, s := range []struct {
		name string
		do   func() (string, error)
	}{
		{"~/enable", func() (string, error) {
			return "enabled: the arms follow the policy", n.Enable()
		}},
		{"~/disable", func() (string, error) {
			n.startDone()
			n.executor.Disable(n.ros.Now())
			n.terminate()
			return "disabled: the arms come to rest", nil
		}},
		{"~/home", func() (string, error) {
			return "homing: the instruction is forgotten, the arms go slowly to their start pose", n.home()
		}},
		{"~/estop", func() (string, error) {
			n.estop()
			return "stopped: call ~/enable to go on", nil
		}},
		{"~/reset", func() (string, error) {
			n.flush()
			return "reset: waiting for a new chunk", nil
		}},
	} {
		server, err := ros.Serve[msgs.TriggerRequest, msgs.TriggerResponse](n.ros, s.name, func(context.Context, *msgs.TriggerRequest) (*msgs.TriggerResponse, error) {
			message, err := s.do()
			if err != nil {
				n.log.Warn("service refused", zap.String("service", s.name), zap.Error(err))
				return &msgs.TriggerResponse{Message: err.Error()}, nil
			}
			n.log.Info("service", zap.String("service", s.name), zap.String("result", message))
			return &msgs.TriggerResponse{Success: true, Message: message}, nil
		})
		if err != nil {
			return err
		}
		n.closers = append(n.closers, server)
	}
	return n.hearStops()
}

// hearStops subscribes ~/estop (std_msgs/msg/Bool, true stops) twice: reliably, so that
// a stop that gets lost on the way is sent again, and best effort, since a button that
// publishes so is not heard otherwise. To stop twice is to stop.
func (n *Node) hearStops() (err error) {
	topic, typ := "~/estop", (*msgs.Bool)(nil).ROSType()
	if n.stops.reliable, err = n.subscribe(topic, typ, ros.DefaultQoS(), n.stopHearer(false)); err != nil {
		return err
	}
	// Not as an operator overrides the topic's QoS: this one takes from everybody.
	n.stops.any, err = n.hear(topic, typ, ros.SensorDataQoS(), n.stopHearer(true))
	return err
}

// stopHearer is the callback of one subscription of ~/estop, of which one records.
func (n *Node) stopHearer(records bool) func([]byte, time.Time) {
	var stop msgs.Bool
	var unread limiter
	return func(raw []byte, _ time.Time) {
		if records {
			n.recorder.message(n.topics.estop, raw)
		}
		// Whoever sent something unreadable did not mean that all is well.
		if err := msgs.Unmarshal(raw, &stop); err != nil {
			if unread.due(n.ros.Now()) {
				n.log.Error("message on ~/estop cannot be read; taken for a stop", zap.Error(err))
			}
		} else if !stop.Data {
			return
		}
		n.estop()
	}
}

// estop stops the arms, and start_enabled too.
func (n *Node) estop() {
	n.startDone()
	n.executor.Estop(n.ros.Now())
	n.terminate()
}
