package node

import (
	"context"
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

// A base goes on with the last velocity that it was told. So 0 is sent for a while once
// it has braked, or so often where the arms are sent nothing more; then another
// publisher may take over.
const (
	baseStops = time.Second
	baseZeros = 4
)

// baseStands is how long a clock may stand, as simulated time does between two messages,
// before the base brakes.
const baseStands = 100 * time.Millisecond

// base drives the mobile base of policies that have its velocities in their chunks:
// while the arms follow a chunk it sends the row that is due, else it brakes to 0. It
// does so by itself, not with the arms' commands, which end before a base has come to
// rest. The zero value sends nothing.
type base struct {
	pub   ros.Publisher
	topic string

	mu     sync.Mutex
	rows   []control.Twist
	began  time.Time // of the first row
	period time.Duration

	now     control.Twist // of the goroutine that drives, as is what follows
	seen    time.Time     // what the clock showed last
	stood   time.Duration // for which it has shown that
	left    time.Duration // for which velocities are to be sent, at rest too
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

// step returns the velocity to send at a time, dt after the last one, and whether it
// is to be sent: not where the arms were stopped a while ago, or never enabled, and the
// base rests.
func (b *base) step(state control.Status, now time.Time, scale float64, dt time.Duration) (v control.Twist, ok bool) {
	if b.stood += dt; !now.Equal(b.seen) {
		b.seen, b.stood = now, 0
	}
	var want control.Twist
	if state.Mode == control.Moving && b.stood < baseStands {
		want = b.wanted(now)
		want.Linear, want.Angular = want.Linear*scale, want.Angular*scale
	}
	b.now.Linear = towards(b.now.Linear, want.Linear, baseAcceleration*dt.Seconds())
	b.now.Angular = towards(b.now.Angular, want.Angular, baseAngularAcceleration*dt.Seconds())
	last := baseZeros * dt
	switch b.left -= dt; {
	case !state.Silent && !state.Code.Latched(), b.now != control.Twist{}: // driven, or braking
		b.left = baseStops
	case state.Silent:
		b.left = min(b.left, last)
	}
	return b.now, b.left >= 0
}

func towards(from, to, most float64) float64 {
	return from + math.Max(-most, math.Min(most, to-from))
}

// driveBase drives the base once a period until ctx ends, and then until it rests:
// from its fastest in 0.6 s.
func (n *Node) driveBase(ctx context.Context) {
	ticker := time.NewTicker(n.executor.Period())
	defer ticker.Stop()
	for range ticker.C {
		state := n.executor.Status()
		if ctx.Err() != nil {
			state = control.Status{Silent: true}
		}
		if sent := n.drive(state, n.ros.Now()); !sent && ctx.Err() != nil {
			return
		}
	}
}

// drive sends the base's velocity, if one is to be sent.
func (n *Node) drive(state control.Status, now time.Time) (sent bool) {
	b := &n.base
	if b.pub == nil || n.settings.Control.DryRun {
		return false
	}
	v, ok := b.step(state, now, n.executor.Live().SpeedScale, n.executor.Period())
	if !ok {
		return false
	}
	b.message.Linear.X, b.message.Angular.Z = v.Linear, v.Angular
	raw, err := msgs.AppendMarshal(b.raw[:0], &b.message)
	if err == nil {
		b.raw = raw
		err = b.pub.Publish(raw)
	}
	if err != nil {
		n.publishFailed(b.topic, err)
		return true
	}
	n.recorder.message(b.topic, raw)
	return true
}
