package control

import (
	"fmt"
	"math"
	"time"
)

// fresh reports whether a stamp is set and no older than timeout, nor from further
// ahead than clocks may differ: that is no better than an old one.
func fresh(stamp, now time.Time, timeout time.Duration) bool {
	age := now.Sub(stamp)
	return !stamp.IsZero() && age <= timeout && age >= -maxFuture
}

// age returns the age of a stamp in seconds, +Inf if it was never set.
func age(stamp, now time.Time) float64 {
	if stamp.IsZero() {
		return math.Inf(1)
	}
	return now.Sub(stamp).Seconds()
}

// Feedback stores the measured joint positions of one arm, in the order of the
// Layout, and when they were measured or received, at time now. A message of
// the wrong length, with a number that is not finite, from the future or no
// newer than the one before is refused, counted and does not keep the arm alive.
func (e *Executor) Feedback(arm int, positions []float64, stamp, now time.Time) error {
	if arm < 0 || arm >= len(e.arms) {
		return fmt.Errorf("control: feedback for arm %d of %d", arm, len(e.arms))
	}
	s, name := e.arms[arm], e.cfg.Layout[arm].Name
	e.mu.Lock()
	defer e.mu.Unlock()
	var err error
	if len(positions) != s.hi-s.lo {
		err = fmt.Errorf("control: arm %q: %d joint positions measured; it has %d joints", name, len(positions), s.hi-s.lo)
	} else if j := notFinite(positions); j >= 0 {
		err = fmt.Errorf("control: %s: measured position is %v", e.names[s.lo+j], positions[j])
	} else if ahead := stamp.Sub(now); ahead > maxFuture {
		err = fmt.Errorf("control: arm %q: joint message is stamped %v ahead of the clock", name, ahead)
	} else if !stamp.After(e.fed[arm]) && e.fed[arm].Sub(now) <= maxFuture {
		err = fmt.Errorf("control: arm %q: joint message of %v is no newer than the one before, of %v", name, stamp, e.fed[arm])
	}
	if err != nil {
		e.counters.ByCode[FeedbackRefused]++
		e.refusal[arm] = err
		return err
	}
	e.refusal[arm] = nil
	copy(e.measured[s.lo:s.hi], positions)
	e.fed[arm] = stamp
	return nil
}

// Observed tells at time now that a complete observation (every camera, every
// arm) of the given stamp exists; the stamp is that of its oldest part. It is to
// be called as images come in, not only when the policy takes one: the arms
// halt when the newest is older than ObservationTimeout, whether or not a chunk
// is left. A stamp from the future is ignored.
func (e *Executor) Observed(stamp, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if stamp.Sub(now) > maxFuture {
		return
	}
	if stamp.After(e.observed) || e.observed.Sub(now) > maxFuture {
		e.observed = stamp
	}
}

// notFinite returns the index of the first NaN or infinity, or -1.
func notFinite(values []float64) int {
	for i, v := range values {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return i
		}
	}
	return -1
}

// watch checks what must hold at every tick, whatever the plan says.
func (e *Executor) watch(now time.Time) {
	worst := e.watchFollowing(now)
	if e.cause.Latched() && e.phase != following {
		return
	}
	for a, stamp := range e.fed {
		if !fresh(stamp, now, e.cfg.FeedbackTimeout) {
			e.stop(now, Event{Code: FeedbackStale, Joint: e.cfg.Layout[a].Name, Value: age(stamp, now), Limit: e.cfg.FeedbackTimeout.Seconds()})
			return
		}
	}
	if a := e.driverFault(now); a >= 0 {
		e.stop(now, e.drivers[a].event(e.cfg.Layout[a].Name, now, e.cfg.DriverTimeout))
		return
	}
	if worst >= 0 {
		e.stop(now, Event{Code: FollowingError, Joint: e.names[worst],
			Value: e.position[worst] - e.measured[worst], Limit: e.cfg.FollowingTolerance})
		return
	}
	if a, moved := e.watchStill(now); a >= 0 {
		e.stop(now, Event{Code: NotMoving, Joint: e.cfg.Layout[a].Name, Value: moved, Limit: e.cfg.StillTolerance / 20})
		return
	}
	if e.phase == homing && e.released(now) {
		e.halt(now, e.deadmanEvent(now))
		return
	}
	if e.phase != following {
		return
	}
	if !fresh(e.observed, now, e.cfg.ObservationTimeout) {
		e.halt(now, Event{Code: ObservationStale, Value: age(e.observed, now), Limit: e.cfg.ObservationTimeout.Seconds()})
		return
	}
	if e.released(now) {
		e.halt(now, e.deadmanEvent(now))
		return
	}
	if limit := e.cfg.MaxChunkAge; limit > 0 && now.Sub(e.plan.stamp) > limit {
		e.halt(now, Event{Code: ChunkStale, Value: age(e.plan.stamp, now), Limit: limit.Seconds()})
	}
}

// watchFollowing keeps time of joints that are off their command and returns
// one that has been for longer than FollowingTime, or -1.
func (e *Executor) watchFollowing(now time.Time) int {
	worst := -1
	for j := range e.position {
		if e.cfg.DryRun || e.joints[j].Gripper || math.Abs(e.position[j]-e.measured[j]) <= e.cfg.FollowingTolerance {
			e.deviating[j] = time.Time{}
			continue
		}
		if e.deviating[j].IsZero() {
			e.deviating[j] = now
		}
		if now.Sub(e.deviating[j]) > e.cfg.FollowingTime {
			worst = j
		}
	}
	return worst
}

// agrees reports whether the hold pose is also where the arms are: every arm's
// feedback is fresh and no joint is off its command. Otherwise a stopped arm is
// sent nothing, so that one that was powered off, moved and powered on again
// does not jump back.
func (e *Executor) agrees(now time.Time) bool {
	for _, stamp := range e.fed {
		if !fresh(stamp, now, e.cfg.FeedbackTimeout) {
			return false
		}
	}
	for _, since := range e.deviating {
		if !since.IsZero() {
			return false
		}
	}
	return true
}

// limitStop returns how far beyond a limit of joint j is never plausible.
func (e *Executor) limitStop(j int) float64 {
	if e.joints[j].Gripper {
		return e.cfg.GripperLimitStop
	}
	return e.cfg.LimitStop
}

// checkTargets holds the rows at x against the position limits. It reports false
// after it had to stop the arms. What counts as beyond is measured from where the
// joint is, if that is outside itself: it may always move back.
func (e *Executor) checkTargets(now time.Time, x float64) bool {
	for j := range e.joints {
		l := &e.joints[j].Limits
		target := e.plan.value(x, j, e.dims)
		excess := l.excess(target)
		if excess == 0 {
			e.clamped[j], e.beyond[j] = false, time.Time{}
			continue
		}
		e.counters.ByCode[ClampedPosition]++
		limit := l.clamp(target)
		if !e.clamped[j] {
			e.clamped[j] = true
			e.note(Event{Time: now, Code: ClampedPosition, Joint: e.names[j], Value: target, Limit: limit})
		}
		further := math.Abs(excess)
		if own := l.excess(e.position[j]); own*excess > 0 {
			further -= math.Abs(own)
		}
		if further <= e.cfg.LimitTolerance || e.joints[j].Gripper {
			e.beyond[j] = time.Time{}
		} else if e.beyond[j].IsZero() {
			e.beyond[j] = now
		}
		if further > e.limitStop(j) || !e.beyond[j].IsZero() && now.Sub(e.beyond[j]) > e.cfg.LimitTime {
			e.stop(now, Event{Code: PositionLimit, Joint: e.names[j], Value: target, Limit: limit})
			return false
		}
	}
	return true
}

// leavesWorkspace reports whether chase.next is further outside the workspace than
// the last command, or would come to rest there, and the stop that follows.
func (e *Executor) leavesWorkspace() (v Event, leaves bool) {
	g := e.cfg.Guard
	if g == nil {
		return Event{}, false
	}
	copy(e.was, e.position)
	for j := range e.ref {
		e.ref[j] = e.chase.next[j].p
	}
	worst, leaves := g.Leaves(e.was, e.ref)
	if !leaves {
		for j := range e.ref {
			l := &e.joints[j].Limits
			b := brakeFrom(e.chase.next[j], l.Acceleration, l.Jerk)
			e.ref[j] = b.at(b.duration()).p
		}
		worst, leaves = g.Leaves(e.was, e.ref)
	}
	return Event{Code: OutsideWorkspace, Joint: worst.A + " to " + worst.B, Value: worst.Distance, Limit: worst.Margin}, leaves
}

// clockWentBack forgets what belonged to the clock's former time: the plan and
// the observations. Feedback keeps the age it had.
func (e *Executor) clockWentBack(now time.Time, step time.Duration) {
	for a := range e.fed {
		if e.fed[a].After(now) {
			e.fed[a] = now.Add(e.fed[a].Sub(e.lastTick))
		}
	}
	e.observed = time.Time{}
	// A stamp ahead of the clock would hold for longer than its timeout.
	e.deadman = time.Time{}
	clear(e.deviating)
	clear(e.beyond)
	e.newEpoch()
	e.halt(now, Event{Code: ClockJump, Value: step.Seconds()})
	e.progress.clear()
	e.advanced = now
	e.forgetStill()
	e.driversWentBack(now)
}
