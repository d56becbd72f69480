package control

import "time"

// Commanded writes the newest command (rad, m, in the order of the Layout) to dst,
// which it returns, and reports whether there is one: it is false while disabled.
func (e *Executor) Commanded(dst []float64) ([]float64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(dst[:0], e.position...), e.phase != silent
}

// Refuse stops the arms at time now, since the policy asked for something that no
// Trajectory can be made of: why is Implausible, such as a tool motion in the wrong
// unit, or NonFinite.
func (e *Executor) Refuse(why Code, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stop(now, Event{Code: why})
}
