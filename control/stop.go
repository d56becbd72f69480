package control

import (
	"math"
	"time"

	"gonum.org/v1/gonum/floats"
)

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

// stopStep finds the next states on the way to rest: of each joint by its own
// fastest stop, which ends where leavesWorkspace and brakeable foresaw it.
func (e *Executor) stopStep(dt float64) {
	for j := range e.joints {
		if e.cause == Estop || e.cause == ShuttingDown {
			m := motion{e.position[j], e.velocity[j], 0}
			e.chase.next[j] = emergency(m, e.joints[j].Limits.Deceleration, dt)
			continue
		}
		b := e.brakeOf(j)
		e.chase.next[j] = b.at(dt)
	}
}

// brakeOf returns the fastest stop of a joint.
func (e *Executor) brakeOf(j int) brakePath {
	l := &e.joints[j].Limits
	return brakeFrom(motion{e.position[j], e.velocity[j], e.accel[j]}, l.Acceleration, l.Jerk)
}

// atRest reports whether every joint is commanded to rest.
func (e *Executor) atRest() bool {
	return floats.Norm(e.velocity, math.Inf(1)) == 0 && floats.Norm(e.accel, math.Inf(1)) == 0
}

// rest goes to the hold pose, no faster than the limits allow, and stays there.
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
