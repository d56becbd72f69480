package control

import (
	"math"
	"time"
)

// maxFuture is how far ahead of the clock a chunk's stamp may lie: the stamps of
// cameras on another machine, synchronised by NTP, stay well within it.
const maxFuture = 100 * time.Millisecond

// maxRows bounds the rows of a chunk, and with them how long a hand-over takes.
const maxRows = 1 << 17

// Replace hands a new chunk over at time now, by the rule that Live.HandOver
// says. It takes the place of the one in execution, minus the rows that were
// already executed since the chunk's observation; time for which the arms stood
// and waited does not count. It returns OK, or why the chunk was dropped;
// NonFinite also stops the arms. The seam is closed within the limits, from the
// last commanded state.
func (e *Executor) Replace(t Trajectory, now time.Time) Code {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase == following && now.Sub(e.advanced) < e.gap {
		e.advance(now)
	}
	v := e.inspect(&t, now)
	if v.Code != OK {
		e.drop(v, now)
		return v.Code
	}
	e.lastDrop = OK

	e.plan, e.old = e.old, e.plan
	p := &e.plan
	p.active, p.stamp, p.base = true, t.Stamp, e.progress.when(t.Stamp)
	p.period, p.rows = 1/t.Rate, len(t.Values)/e.dims
	p.values = append(p.values[:0], t.Values...)
	p.within, p.pace, p.slow = sized(p.within, len(t.Values)), sized(p.pace, p.rows), sized(p.slow, p.rows)
	x := p.x(e.progress.total)
	e.tame(p)
	e.join(p, x)
	e.decideGrippers(p, x)
	for i, v := range p.values {
		p.within[i] = e.joints[i%e.dims].Limits.clamp(v)
	}
	p.began, p.seamX = e.progress.total, min(x, 0)
	copy(p.seam, e.position)
	for j, v := range e.velocity {
		p.seamed[j] = v * p.period
	}
	p.setPace(e.joints, e.period.Seconds())

	e.lastStamp = t.Stamp
	e.counters.Chunks++
	e.counters.RowsSkipped += uint64(max(0, math.Floor(x+1+1e-9)))
	e.behind, e.old.active = 0, false
	if e.phase != following {
		e.phase = following
		e.advanced = now
		e.progress.mark(now)
		e.startPace()
		e.restart()
		clear(e.beyond)
	}
	return OK
}

// sized returns a slice of length n, s itself where it is long enough.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// tame keeps values that are beyond all measure from overflowing in sums.
func (e *Executor) tame(p *plan) {
	const absurd = 1e6
	for i, v := range p.values {
		p.values[i] = min(max(v, -absurd), absurd)
	}
}

// decideGrippers applies the grippers' rules, from what the old plan or else the
// last command had decided.
func (e *Executor) decideGrippers(p *plan, x float64) {
	for j := range e.joints {
		rule := &e.joints[j].Rule
		if !rule.Binary {
			continue
		}
		opening := e.position[j]
		if e.old.active {
			opening = e.old.value(e.old.x(e.progress.total), j, e.dims)
		}
		rule.decide(p.values, j, e.dims, int(math.Floor(x)), rule.isOpen(opening))
	}
}

// drop counts a chunk that is not taken. Of several in a row for the same
// reason the first is told. One that is not finite stops the arms.
func (e *Executor) drop(v Event, now time.Time) {
	v.Time = now
	if v.Code == NonFinite && e.stop(now, v) {
		e.lastDrop = v.Code
		return
	}
	e.counters.ByCode[v.Code]++
	if v.Code != e.lastDrop {
		e.note(v)
	}
	e.lastDrop = v.Code
}

// inspect returns the reason for dropping a chunk, or an Event with Code OK.
func (e *Executor) inspect(t *Trajectory, now time.Time) Event {
	n := len(t.Values)
	switch {
	case n == 0 || n%e.dims != 0 || n/e.dims > maxRows || !(t.Rate >= 0.1 && t.Rate <= 1000):
		return Event{Code: DroppedShape, Value: float64(n), Limit: float64(e.dims)}
	case notFinite(t.Values) >= 0:
		i := notFinite(t.Values)
		return Event{Code: NonFinite, Joint: e.names[i%e.dims], Value: t.Values[i]}
	case e.phase == silent || e.phase != following && e.cause.Latched():
		return Event{Code: DroppedNotEnabled}
	case e.goingHome():
		return Event{Code: DroppedHoming}
	case e.released(now):
		return Event{Code: DroppedDeadman}
	case t.Epoch != e.epoch:
		return Event{Code: DroppedEpoch, Value: float64(t.Epoch), Limit: float64(e.epoch)}
	case t.Stamp.Sub(now) > maxFuture:
		return Event{Code: DroppedFuture, Value: t.Stamp.Sub(now).Seconds(), Limit: maxFuture.Seconds()}
	case !e.lastStamp.IsZero() && !t.Stamp.After(e.lastStamp):
		return Event{Code: DroppedReordered, Value: e.lastStamp.Sub(t.Stamp).Seconds()}
	}
	oldest := e.cfg.MaxObservationAge
	if e.cfg.MaxChunkAge > 0 {
		oldest = min(oldest, e.cfg.MaxChunkAge)
	}
	if now.Sub(t.Stamp) > oldest {
		return Event{Code: DroppedStale, Value: age(t.Stamp, now), Limit: oldest.Seconds()}
	}
	if !fresh(e.observed, now, e.cfg.ObservationTimeout) {
		return Event{Code: DroppedStale, Value: age(e.observed, now), Limit: e.cfg.ObservationTimeout.Seconds()}
	}
	length := float64(n/e.dims) / t.Rate
	if executed := e.progress.total - e.progress.when(t.Stamp); executed >= length {
		return Event{Code: DroppedLate, Value: executed, Limit: length}
	}
	return Event{Code: OK}
}

// halt brings the arms to rest until the next good chunk. It changes nothing
// where they are at rest or being stopped already.
func (e *Executor) halt(now time.Time, v Event) {
	e.dropPlan(now)
	if e.phase != following && !e.goingHome() {
		return
	}
	v.Time = now
	e.phase, e.cause = braking, v.Code
	e.restart()
	e.tell(v)
}

// rank orders the causes of a stop: one gives way only to a higher one.
func (c Code) rank() int {
	switch {
	case c == Estop:
		return 3
	case c == ShuttingDown:
		return 2
	case c.Latched():
		return 1
	}
	return 0
}

// stop brings the arms to rest until Enable and reports whether v is news. The
// first reason stays, except that the end of the program and, above all, an
// e-stop override it. While nothing is sent there is nothing to stop, but an
// e-stop latches all the same.
func (e *Executor) stop(now time.Time, v Event) bool {
	v.Time = now
	e.advance(now)
	stopped := e.phase != following && e.cause.Latched()
	switch {
	case e.phase == silent && v.Code != Estop, stopped && v.Code.rank() <= e.cause.rank():
		return false
	case e.phase == silent, stopped && e.arrived():
		// The hold pose stays the one that was latched.
	default:
		e.phase = braking
		e.restart()
	}
	e.cause = v.Code
	e.dropPlan(now)
	e.tell(v)
	return true
}

// dropPlan ends the plan.
func (e *Executor) dropPlan(now time.Time) {
	e.advance(now)
	e.plan.active, e.fade = false, false
	e.kept = e.kept[:0] // nobody means it any more once the arms go on
	e.progress.mark(now)
}

// newEpoch makes chunks begun before it unwelcome.
func (e *Executor) newEpoch() {
	e.epoch++
	e.lastStamp = time.Time{}
	e.lastDrop = OK
	e.kept = e.kept[:0]
}
