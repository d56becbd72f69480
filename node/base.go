package node

import (
	"math"
	"slices"
	"sync"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
)

// The fastest changes of a mobile base's velocity. Nobody publishes the Tracer's own
// limits; these take it from rest to pi0_CobotMagic's clip of 0.2 m/s and 0.6 rad/s in
// 0.4 and 0.6 s.
const (
	baseAcceleration        = 0.5 // m/s²
	baseAngularAcceleration = 1.0 // rad/s²
)

// base drives the mobile base of policies that have its velocities in their chunks:
// while the arms follow a chunk it sends the row that is due, else it brakes to 0. The
// zero value sends nothing.
type base struct {
	pub   ros.Publisher
	topic string

	mu     sync.Mutex
	rows   []control.Twist
	began  time.Time // of the first row
	period time.Duration

	now     control.Twist // of the executor goroutine, as is what follows
	message msgs.Twist
	raw     []byte
}

// drivesBase tells whether a policy has velocities of a mobile base in its chunks.
func drivesBase(m *bundle.Manifest) bool {
	return slices.ContainsFunc(m.Action.Dims, func(d bundle.ActionDim) bool { return d.Arm == "base" })
}

// take begins the rows of a chunk, of which row k is driven until its time.
func (b *base) take(rows []control.Twist, stamp time.Time, rate float64) {
	if b.pub == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rows, b.began, b.period = append(b.rows[:0], rows...), stamp, seconds(1/rate)
}

// wanted is what the chunk asks for at a time: nothing before and after it.
func (b *base) wanted(now time.Time) control.Twist {
	b.mu.Lock()
	defer b.mu.Unlock()
	since := now.Sub(b.began)
	if since < 0 || b.period <= 0 {
		return control.Twist{}
	}
	if k := int(since / b.period); k < len(b.rows) {
		return b.rows[k]
	}
	return control.Twist{}
}

// step returns the velocity to send with a command, dt seconds after the last one.
func (b *base) step(c control.Command, scale, dt float64) control.Twist {
	var want control.Twist
	if c.Mode == control.Moving {
		want = b.wanted(c.Stamp)
		want.Linear, want.Angular = want.Linear*scale, want.Angular*scale
	}
	b.now.Linear = towards(b.now.Linear, want.Linear, baseAcceleration*dt)
	b.now.Angular = towards(b.now.Angular, want.Angular, baseAngularAcceleration*dt)
	return b.now
}

func towards(from, to, most float64) float64 {
	return from + math.Max(-most, math.Min(most, to-from))
}

// drive sends the base's velocity with each command.
func (n *Node) drive(c control.Command) {
	b := &n.base
	if b.pub == nil {
		return
	}
	v := b.step(c, n.executor.Live().SpeedScale, n.executor.Period().Seconds())
	b.message.Linear.X, b.message.Angular.Z = v.Linear, v.Angular
	raw, err := msgs.AppendMarshal(b.raw[:0], &b.message)
	if err == nil {
		b.raw = raw
		err = b.pub.Publish(raw)
	}
	if err != nil {
		n.publishFailed(b.topic, err)
		return
	}
	n.recorder.message(b.topic, raw)
}
