package control

import "math"

// reach returns the largest speed at which a joint may move for dt and, after
// that, still come to rest within distance when it brakes at a, whatever the
// lengths of the intervals that follow: v dt + v²/(2a) = distance. It is 0 for
// a distance that is not positive.
func reach(distance, a, dt float64) float64 {
	if !(distance > 0) {
		return 0
	}
	return a * (math.Sqrt(dt*dt+2*distance/a) - dt)
}

// approach returns the velocity that closes the gap as fast as a allows and
// ends at rest without overshoot; within one interval if the gap is small.
func approach(gap, a, dt float64) float64 {
	return math.Copysign(reach(math.Abs(gap), a, dt), gap)
}

// brake returns the velocity after braking from v at a for dt.
func brake(v, a, dt float64) float64 {
	return math.Copysign(math.Max(0, math.Abs(v)-a*dt), v)
}

// bounded is the result of limiting one joint for one command.
type bounded struct {
	velocity                     float64
	speedHit, stepHit, changeHit bool
}

// bound limits the velocity that a joint at position p, moving at v, takes for
// the next dt (at most period) to what its limits allow. The result differs
// from v by at most Acceleration*dt, and leaves the joint able to brake before
// its position limits, so that braking is always among the allowed choices. A
// joint outside its limits may stay or move in. A want that is NaN brakes.
func (l *Limits) bound(p, v, want, dt, period float64) bounded {
	var b bounded
	fastest := math.Min(l.Velocity, l.Step/period)
	if math.Abs(want) > fastest*(1+1e-9) {
		b.speedHit = l.Velocity <= l.Step/period
		b.stepHit = !b.speedHit
	}
	change := l.Acceleration * dt
	lo := math.Max(-fastest, -reach(p-l.Lower, l.Acceleration, dt))
	hi := math.Min(fastest, reach(l.Upper-p, l.Acceleration, dt))
	b.changeHit = math.Min(math.Max(want, lo), hi) > v+change*(1+1e-9) ||
		math.Min(math.Max(want, lo), hi) < v-change*(1+1e-9)
	lo, hi = math.Max(lo, v-change), math.Min(hi, v+change)
	switch {
	case !(lo <= hi) || math.IsNaN(want): // empty only by rounding
		b.velocity = brake(v, l.Acceleration, dt)
	default:
		b.velocity = math.Min(math.Max(want, lo), hi)
	}
	return b
}

// clamp returns p within the position limits.
func (l *Limits) clamp(p float64) float64 { return math.Min(math.Max(p, l.Lower), l.Upper) }

// excess returns how far p lies outside, negative below Lower, positive above
// Upper, else 0.
func (l *Limits) excess(p float64) float64 { return p - l.clamp(p) }

// advance returns p moved by v for dt. Rounding does not carry a joint that is
// inside beyond a limit.
func (l *Limits) advance(p, v, dt float64) float64 {
	next := p + v*dt
	if p >= l.Lower && p <= l.Upper {
		next = l.clamp(next)
	}
	return next
}
