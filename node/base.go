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

// baseZeros is how often a velocity of 0 is sent, come what may, before disabled arms
// send nothing: a base goes on with the last velocity that it was told.
const baseZeros = 4

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
	zeros   int           // left to send
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
// is to be sent: not where the arms are disabled and the base has come to rest.
func (b *base) step(mode control.Mode, now time.Time, scale float64, dt time.Duration) (v control.Twist, ok bool) {
	if b.stood += dt; !now.Equal(b.seen) {
		b.seen, b.stood = now, 0
	}
	var want control.Twist
	if mode == control.Moving && b.stood < baseStands {
		want = b.wanted(now)
		want.Linear, want.Angular = want.Linear*scale, want.Angular*scale
	}
	b.now.Linear = towards(b.now.Linear, want.Linear, baseAcceleration*dt.Seconds())
	b.now.Angular = towards(b.now.Angular, want.Angular, baseAngularAcceleration*dt.Seconds())
	if mode != control.Disabled || b.now != (control.Twist{}) {
		b.zeros = baseZeros
		return b.now, true
	}
	b.zeros = max(b.zeros-1, -1)
	return b.now, b.zeros >= 0
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
		mode := n.executor.Status().Mode
		if ctx.Err() != nil {
			mode = control.Disabled
		}
		if sent := n.drive(mode, n.ros.Now()); !sent && ctx.Err() != nil {
			return
		}
	}
}

// drive sends the base's velocity, if one is to be sent.
func (n *Node) drive(mode control.Mode, now time.Time) (sent bool) {
	b := &n.base
	if b.pub == nil || n.settings.Control.DryRun {
		return false
	}
	v, ok := b.step(mode, now, n.executor.Live().SpeedScale, n.executor.Period())
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
