package control

import (
	"math"
	"time"

	"gonum.org/v1/gonum/floats"
)

// tooFast reports whether a joint is much faster than the speed scale allows,
// as it is while the scale falls.
func (e *Executor) tooFast(g *group, scale float64) bool {
	for _, j := range g.joints {
		if math.Abs(e.velocity[j]) > 1.1*scale*e.joints[j].Limits.fastest(e.period.Seconds()) {
			return true
		}
	}
	return false
}

// ease takes a group's acceleration away, of all joints by the same share, and
// reports whether that leaves room to brake.
func (e *Executor) ease(g *group, dt float64) bool {
	share := 1.0
	for _, j := range g.joints {
		share = min(share, e.joints[j].Limits.Jerk*dt/math.Abs(e.accel[j]))
	}
	for _, j := range g.joints {
		l, from := &e.joints[j].Limits, motion{e.position[j], e.velocity[j], e.accel[j]}
		next := from.coast(-share*from.a/dt, dt)
		next.a = (1 - share) * from.a
		if !l.brakeable(from.p, next, l.fastest(e.period.Seconds()), dt) {
			return false
		}
		e.chase.next[j] = next
	}
	return true
}

// stopGroup takes a step of a stop of a group that keeps its direction: first the
// acceleration is taken away where a joint still gains speed, then a polynomial
// brings all joints to rest in the same time. Where that leaves no room to brake,
// or takes much longer than the fastest stop, each joint takes its fastest stop.
func (e *Executor) stopGroup(g *group, dt float64) {
	if h := g.meeting - dt; g.goal == anyRest && h > 1e-6 && e.try(g, h, dt, anyRest, 1) == OK {
		e.accept(g, h, anyRest)
		return
	}
	g.meeting = 0
	if g.goal == eachRest {
		e.stopEach(g, dt)
		return
	}
	h := 0.0
	for _, j := range g.joints {
		b := e.brakeOf(j)
		h = max(h, b.duration())
	}
	gains := false // speed, one way or, by turning around, the other
	for _, j := range g.joints {
		b := e.brakeOf(j)
		v, a := b.sign*e.velocity[j], b.sign*e.accel[j]
		little := 0.01 * e.joints[j].Limits.Acceleration
		gains = gains || a > little || a < -little-2*v/(1.12*h)
	}
	if gains && e.ease(g, dt) {
		return
	}
	for range 4 {
		if h *= 1.12; h > 1e-6 && e.try(g, h, dt, anyRest, 1) == OK {
			e.accept(g, h, anyRest)
			return
		}
	}
	e.stopEach(g, dt)
}

// stopEach takes a step of the fastest stop of each joint of a group, and lets it
// stay with that.
func (e *Executor) stopEach(g *group, dt float64) {
	g.goal = eachRest
	for _, j := range g.joints {
		b := e.brakeOf(j)
		e.chase.next[j] = b.at(dt)
	}
}

// brakeOf returns the fastest stop of a joint.
func (e *Executor) brakeOf(j int) brakePath {
	l := &e.joints[j].Limits
	return brakeFrom(motion{e.position[j], e.velocity[j], e.accel[j]}, l.Acceleration, l.Jerk)
}

// restart forgets how the groups were going to meet their targets.
func (e *Executor) restart() {
	for g := range e.groups {
		e.groups[g].meeting, e.groups[g].goal = 0, theHold
	}
}

// brake takes one step of deceleration and, once every joint stands, latches
// the hold pose.
func (e *Executor) brake(now time.Time, dt float64) {
	e.stopStep(dt)
	for j := range e.position {
		e.set(j, e.chase.next[j])
	}
	switch {
	case !e.atRest():
	case e.cause == Homing:
		e.setOut()
	case e.latchHold(now):
		e.phase, e.settle = resting, settleCommands
		e.restart()
	}
}

// stopStep finds the next states on the way to rest.
func (e *Executor) stopStep(dt float64) {
	if e.cause == Estop || e.cause == ShuttingDown {
		for j, l := range e.joints {
			m := motion{e.position[j], e.velocity[j], 0}
			e.chase.next[j] = emergency(m, l.Limits.Deceleration, dt)
		}
	} else {
		for g := range e.groups {
			e.stopGroup(&e.groups[g], dt)
		}
	}
}

// atRest reports whether every joint is commanded to rest.
func (e *Executor) atRest() bool {
	return floats.Norm(e.velocity, math.Inf(1)) == 0 && floats.Norm(e.accel, math.Inf(1)) == 0
}

// rest goes to the hold pose, within limits, and stays there.
func (e *Executor) rest(dt float64) {
	if e.arrived() {
		return
	}
	e.goToHold(dt, e.scale)
	for j := range e.position {
		e.set(j, e.chase.next[j])
	}
}

// goToHold finds the next states on the way to the hold pose.
func (e *Executor) goToHold(dt, scale float64) {
	for g := range e.groups {
		e.step(&e.groups[g], dt, theHold, scale)
	}
}

// arrived reports whether the arms stand at the hold pose.
func (e *Executor) arrived() bool { return floats.Equal(e.position, e.hold) && e.atRest() }
