package ros

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// A Clock is a node's time: the wall clock, or /clock once Follow was called. It is the part of a back
// end that is the same for all of them; its zero value is the wall clock.
type Clock struct {
	mu  sync.Mutex
	sub Subscription
	sim atomic.Bool
	now atomic.Int64 // ns since the epoch, 0 before the first /clock
}

// Now is described at [Node].
func (c *Clock) Now() time.Time {
	if !c.sim.Load() {
		return time.Now()
	}
	if ns := c.now.Load(); ns != 0 {
		return time.Unix(0, ns)
	}
	return time.Time{}
}

// Follow subscribes n to /clock, or with on false goes back to the wall clock. The back end's
// UseSimTime calls it with itself.
func (c *Clock) Follow(n Node, on bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if on == (c.sub != nil) {
		return nil
	}
	if !on {
		c.sim.Store(false)
		sub := c.sub
		c.sub = nil
		return sub.Close()
	}
	c.now.Store(0)
	sub, err := n.Subscribe("/clock", "rosgraph_msgs/msg/Clock", ClockQoS(), func(raw []byte, _ time.Time) {
		if ns, ok := clockTime(raw); ok {
			c.now.Store(ns)
		}
	})
	if err != nil {
		return fmt.Errorf("use_sim_time: %w", err)
	}
	c.sub = sub
	c.sim.Store(true)
	return nil
}

// clockTime reads a rosgraph_msgs/msg/Clock: int32 seconds and uint32 nanoseconds behind the
// encapsulation header, whose second byte tells the byte order.
func clockTime(raw []byte) (ns int64, ok bool) {
	if len(raw) < 12 || raw[0] != 0 || raw[1] > 1 {
		return 0, false
	}
	var order binary.ByteOrder = binary.LittleEndian
	if raw[1] == 0 {
		order = binary.BigEndian
	}
	return int64(int32(order.Uint32(raw[4:])))*1e9 + int64(order.Uint32(raw[8:])), true
}
