package control

import (
	"fmt"
	"math"
	"time"
)

// driver is what an arm's driver last told of itself.
type driver struct {
	told time.Time // zero if it never did
	ok   bool
	code int
	text string
}

// DriverStatus tells at time now what the driver of an arm says of itself,
// where it says anything: whether the arm takes commands (for the Piper,
// ctrl_mode 1, CAN, and arm_status 0, normal, piper_sdk's arm_feedback_status),
// the driver's own code and its meaning. An arm that does not take commands
// stops and is not enabled; neither is one whose driver told its status once and
// has been silent since for longer than Config.DriverTimeout.
func (e *Executor) DriverStatus(arm int, ok bool, code int, text string, now time.Time) error {
	if arm < 0 || arm >= len(e.arms) {
		return fmt.Errorf("control: driver status of arm %d of %d", arm, len(e.arms))
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.drivers[arm] = driver{now, ok, code, text}
	return nil
}

// stale reports whether the driver fell silent.
func (d *driver) stale(now time.Time, timeout time.Duration) bool {
	return !d.told.IsZero() && !fresh(d.told, now, timeout)
}

// describe says what is wrong.
func (d *driver) describe(now time.Time, timeout time.Duration) string {
	if d.stale(now, timeout) {
		return fmt.Sprintf("no status for %.1f s", age(d.told, now))
	}
	return fmt.Sprintf("%q (code %d)", d.text, d.code)
}

// event is the stop that follows.
func (d *driver) event(arm string, now time.Time, timeout time.Duration) Event {
	if d.stale(now, timeout) {
		return Event{Code: DriverStale, Joint: arm, Value: age(d.told, now), Limit: timeout.Seconds()}
	}
	return Event{Code: DriverFault, Joint: arm, Value: float64(d.code)}
}

// driverFault returns the first arm whose driver does not take commands, or -1.
func (e *Executor) driverFault(now time.Time) int {
	for a := range e.drivers {
		if d := &e.drivers[a]; !d.told.IsZero() && (!d.ok || d.stale(now, e.cfg.DriverTimeout)) {
			return a
		}
	}
	return -1
}

// driversWentBack keeps the age of the drivers' status where the clock went back.
func (e *Executor) driversWentBack(now time.Time) {
	for a := range e.drivers {
		if d := &e.drivers[a]; d.told.After(now) {
			d.told = now
		}
	}
}

// still remembers where an arm was commanded and measured when it last moved.
type still struct {
	commanded, measured []float64
	since               time.Time // of the first command too far from there; zero if none
	moved               float64   // how far that was
}

// watchStill returns an arm that does not move though its commands do, and how
// far they did; or -1. Grippers grasp, and are not asked.
func (e *Executor) watchStill(now time.Time) (arm int, moved float64) {
	if e.cfg.DryRun || e.cfg.FollowingTolerance > 100 || e.phase == silent {
		return -1, 0
	}
	for a, s := range e.arms {
		was := &e.still[a]
		moved, measured := 0.0, 0.0
		for j := s.lo; j < s.hi; j++ {
			if !e.joints[j].Gripper {
				moved = math.Max(moved, math.Abs(e.position[j]-was.commanded[j]))
				measured = math.Max(measured, math.Abs(e.measured[j]-was.measured[j]))
			}
		}
		switch {
		case measured > e.cfg.StillTolerance/20:
			copy(was.commanded[s.lo:s.hi], e.position[s.lo:s.hi])
			copy(was.measured[s.lo:s.hi], e.measured[s.lo:s.hi])
			was.since = time.Time{}
		case was.since.IsZero():
			if moved > e.cfg.StillTolerance {
				was.since, was.moved = now, moved
			}
		case now.Sub(was.since) > e.cfg.StillTime:
			moved = was.moved
			return a, moved
		}
	}
	return -1, 0
}

// forgetStill begins anew from where the arms are.
func (e *Executor) forgetStill() {
	for a := range e.still {
		copy(e.still[a].commanded, e.position)
		copy(e.still[a].measured, e.measured)
		e.still[a].since = time.Time{}
	}
}

// Deadman tells at time now that the operator holds the deadman. Where
// Live.DeadmanTimeout is set, arms that follow a chunk or go home halt when it
// was not called for longer, and chunks are dropped until it is again.
func (e *Executor) Deadman(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.deadman = now
}

// released reports whether a deadman is asked for and not held.
func (e *Executor) released(now time.Time) bool {
	return e.live.DeadmanTimeout > 0 && !fresh(e.deadman, now, e.live.DeadmanTimeout)
}

// deadmanEvent is the halt that follows.
func (e *Executor) deadmanEvent(now time.Time) Event {
	return Event{Code: DeadmanReleased, Value: age(e.deadman, now), Limit: e.live.DeadmanTimeout.Seconds()}
}
