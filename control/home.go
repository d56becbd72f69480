package control

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// Home takes the arms from rest to a pose, slowly (Live.HomeSpeed) and within
// all limits, straight in joint space, and holds it. target is in the order of
// the Layout (rad, m). Enabled arms that rest, or come to rest after a halt, may
// go; while they follow chunks Home is refused: Flush halts them. Chunks are
// dropped until the arms are there, and those begun before Home for good. Every
// halt and stop ends it, as does Flush; Disabled and stopped arms need Enable.
func (e *Executor) Home(target []float64, now time.Time) error {
	if len(target) != e.dims {
		return fmt.Errorf("control: start pose of %d values; the arms have %d joints", len(target), e.dims)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for j, p := range target {
		l := &e.joints[j].Limits
		if math.IsNaN(p) || math.Abs(l.excess(p)) > e.cfg.LimitTolerance {
			return fmt.Errorf("control: start pose has %s at %v; its limits are %v to %v", e.names[j], p, l.Lower, l.Upper)
		}
	}
	switch {
	case e.phase == silent:
		return errors.New("control: the arms are disabled; enable them before they go to the start pose")
	case e.phase == following:
		return errors.New("control: the arms follow the policy; halt them before they go to the start pose")
	case e.cause.Latched():
		return fmt.Errorf("control: the arms are stopped (%v); enable them before they go to the start pose", e.cause)
	case e.released(now):
		return errors.New("control: the deadman is not held")
	}
	if e.phase == homing {
		// To another pose: from rest, as every way home.
		e.phase = braking
	}
	for j, p := range target {
		e.home[j] = e.joints[j].Limits.clamp(p)
	}
	e.newEpoch()
	e.cause = Homing
	e.tell(Event{Time: now, Code: Homing})
	if e.phase == resting {
		e.setOut()
	}
	return nil
}

// setOut begins the way home from rest.
func (e *Executor) setOut() {
	copy(e.hold, e.home)
	e.phase = homing
	e.restart()
}

// goHome takes a step towards the start pose.
func (e *Executor) goHome(now time.Time, dt float64) {
	e.goToHold(dt, min(e.scale, e.live.HomeSpeed))
	e.take(now, dt)
	if e.phase == homing && e.arrived() {
		e.phase, e.cause = resting, Waiting
		e.tell(Event{Time: now, Code: HomeReached})
	}
}

// goingHome reports whether the arms are on their way home or about to set out.
func (e *Executor) goingHome() bool {
	return e.phase == homing || e.phase == braking && e.cause == Homing
}
