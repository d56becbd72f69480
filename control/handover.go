package control

import (
	"math"
	"time"
)

// maxFuture is how far ahead of the clock a chunk's stamp may lie: the stamps of
// cameras on another machine, synchronised by NTP, stay well within it.
const maxFuture = 100 * time.Millisecond

// Replace hands a new chunk over at time now. It replaces the rest of the one
// in execution, minus the rows that were already executed since the chunk's
// observation by the clock; time for which the arms stood and waited does not
// count. It returns OK, or why the chunk was dropped; NonFinite also stops the
// arms. The seam is closed within the limits, from the last commanded state.
func (e *Executor) Replace(t Trajectory, now time.Time) Code {
	e.mu.Lock()
	defer e.mu.Unlock()
	v := e.inspect(&t, now)
	if v.Code != OK {
		e.drop(v, now)
		return v.Code
	}
	e.lastDrop = OK

	executed := e.consumed.since(t.Stamp, now)
	p := &e.plan
	p.active, p.stamp, p.start = true, t.Stamp, now.Add(-executed)
	p.period = 1 / t.Rate
	p.values = append(p.values[:0], t.Values...)
	p.rows = len(t.Values) / e.dims
	p.seamAt = now
	copy(p.seam, e.position)
	e.lastStamp = t.Stamp
	e.counters.Chunks++
	e.counters.RowsSkipped += uint64(math.Floor(executed.Seconds() * t.Rate))
	if e.phase != following {
		e.phase = following
		e.consumed.set(true, now)
		clear(e.beyond)
	}
	return OK
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
	case n == 0 || n%e.dims != 0 || !(t.Rate >= 0.1 && t.Rate <= 1000):
		return Event{Code: DroppedShape, Value: float64(n), Limit: float64(e.dims)}
	case notFinite(t.Values) >= 0:
		i := notFinite(t.Values)
		return Event{Code: NonFinite, Joint: e.names[i%e.dims], Value: t.Values[i]}
	case e.phase == silent || e.phase != following && e.cause.Latched():
		return Event{Code: DroppedNotEnabled}
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
	if executed := e.consumed.since(t.Stamp, now).Seconds(); executed >= length {
		return Event{Code: DroppedLate, Value: executed, Limit: length}
	}
	return Event{Code: OK}
}

// halt brings the arms to rest until the next good chunk. It changes nothing
// where they are at rest or being stopped already.
func (e *Executor) halt(now time.Time, v Event) {
	e.dropPlan(now)
	if e.phase != following {
		return
	}
	v.Time = now
	e.phase, e.cause = braking, v.Code
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
	stopped := e.phase != following && e.cause.Latched()
	switch {
	case e.phase == silent && v.Code != Estop, stopped && v.Code.rank() <= e.cause.rank():
		return false
	case e.phase == silent, stopped && e.arrived():
		// The hold pose stays the one that was latched.
	default:
		e.phase = braking
	}
	e.cause = v.Code
	e.dropPlan(now)
	e.tell(v)
	return true
}

// dropPlan ends the plan.
func (e *Executor) dropPlan(now time.Time) {
	e.plan.active = false
	e.consumed.set(false, now)
}

// newEpoch makes chunks begun before it unwelcome.
func (e *Executor) newEpoch() {
	e.epoch++
	e.lastStamp = time.Time{}
	e.lastDrop = OK
}
