package control

// Commanded writes the newest command (rad, m, in the order of the Layout) to dst,
// which it returns, and reports whether there is one: it is false while disabled.
func (e *Executor) Commanded(dst []float64) ([]float64, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append(dst[:0], e.position...), e.phase != silent
}
