package node

import (
	"fmt"
	"sync"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// deadman is what was heard on the deadman's topic.
type deadman struct {
	heard ros.Subscription // nil where none is asked for

	mu   sync.Mutex
	said time.Time // when its newest message came, zero before the first
	held bool      // what that one says
}

// watchDeadman subscribes the deadman, where the operator named its topic.
func (n *Node) watchDeadman() (err error) {
	if n.settings.Deadman == "" {
		return nil
	}
	var m msgs.Bool
	n.deadman.heard, err = n.subscribe(n.settings.Deadman, m.ROSType(), ros.SensorDataQoS(), func(raw []byte, _ time.Time) {
		n.recorder.message(n.topics.deadman, raw)
		now := n.ros.Now()
		// What cannot be read, or says false, releases it at once.
		held, at := msgs.Unmarshal(raw, &m) == nil && m.Data, time.Time{}
		if held {
			at = now
		}
		n.executor.Deadman(at)
		n.deadman.note(held, now)
	})
	return err
}

func (d *deadman) note(held bool, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.said, d.held = now, held
}

// released says why a deadman that is asked for does not let the arms move, or nothing.
func (n *Node) released(now time.Time) string {
	d, timeout := &n.deadman, n.executor.Live().DeadmanTimeout
	if d.heard == nil {
		return ""
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch age := now.Sub(d.said); {
	case d.said.IsZero():
		return fmt.Sprintf("deadman.topic: nothing received on %s%s", n.topics.deadman, keptAway(d.heard))
	case !d.held:
		return fmt.Sprintf("deadman.topic: %s says that it is released", n.topics.deadman)
	case age.Abs() > timeout:
		return fmt.Sprintf("deadman.topic: %s is silent for %.2f s, longer than deadman.timeout%s", n.topics.deadman, age.Seconds(), keptAway(d.heard))
	}
	return ""
}
