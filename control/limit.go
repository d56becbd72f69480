package control

import "math"

// clamp returns p within the position limits.
func (l *Limits) clamp(p float64) float64 { return math.Min(math.Max(p, l.Lower), l.Upper) }

// excess returns how far p lies outside, negative below Lower, positive above
// Upper, else 0.
func (l *Limits) excess(p float64) float64 { return p - l.clamp(p) }

// fastest returns the largest speed that keeps the velocity limit and, at one
// command a period (s), the step limit.
func (l *Limits) fastest(period float64) float64 { return math.Min(l.Velocity, l.Step/period) }

// brakeable reports whether a joint that is at p now may be in state next dt
// later, at its next command: from there the fastest stop stays within the position
// limits and the given speed. Stopping is then always among the allowed
// choices, whatever happens. A joint outside its limits may stay or move in, but
// not turn around there.
func (l *Limits) brakeable(p float64, next motion, fastest, dt float64) bool {
	const rounding = 1e-12
	b := brakeFrom(next, l.Acceleration, l.Jerk)
	lo, hi, speed := b.extent()
	speed = math.Max(speed, math.Abs(next.p-p)/dt)
	if speed > fastest*(1+rounding) || math.Abs(next.a) > l.Acceleration*(1+rounding) {
		return false
	}
	end := b.at(b.duration()).p
	above := next.p <= math.Max(l.Upper, p)+rounding && hi <= math.Max(l.Upper, next.p)+rounding &&
		(next.p <= l.Upper || end <= math.Max(l.Upper, lo)+rounding)
	below := next.p >= math.Min(l.Lower, p)-rounding && lo >= math.Min(l.Lower, next.p)-rounding &&
		(next.p >= l.Lower || end >= math.Min(l.Lower, hi)-rounding)
	return above && below
}

// settle takes away what rounding carried a joint beyond a limit.
func (l *Limits) settle(p, next float64) float64 {
	if p >= l.Lower && p <= l.Upper {
		return l.clamp(next)
	}
	return next
}
