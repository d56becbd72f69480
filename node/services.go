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
//	~/estop    stop at the maximum deceleration and latch until ~/enable
//	~/reset    throw the chunk being executed away and halt until the next one
//
// and subscribes to ~/estop (std_msgs/msg/Bool, true stops), for buttons that
// publish.
func (n *Node) serve() error {
	for _, s := range []struct {
		name string
		do   func() (string, error)
	}{
		{"~/enable", func() (string, error) {
			return "enabled: the arms follow the policy", n.Enable()
		}},
		{"~/disable", func() (string, error) {
			n.executor.Disable(n.ros.Now())
			return "disabled: the arms come to rest", nil
		}},
		{"~/estop", func() (string, error) {
			n.executor.Estop(n.ros.Now())
			return "stopped: call ~/enable to go on", nil
		}},
		{"~/reset", func() (string, error) {
			n.executor.Flush(n.ros.Now())
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
	estop, err := ros.Subscribe(n.ros, "~/estop", ros.DefaultQoS(), func(m *msgs.Bool, _ time.Time) {
		if m.Data {
			n.executor.Estop(n.ros.Now())
		}
	})
	if err != nil {
		return err
	}
	n.closers = append(n.closers, estop)
	return nil
}
