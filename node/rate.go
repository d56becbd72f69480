package node

import "time"

// rate estimates how often something happens: an exponential mean of the gaps
// with a time constant of about 20 of them. The zero value is ready.
type rate struct {
	last time.Time
	gap  float64 // seconds
}

func (r *rate) tick(now time.Time) {
	if !r.last.IsZero() {
		if d := now.Sub(r.last).Seconds(); d > 0 {
			if r.gap == 0 {
				r.gap = d
			}
			r.gap += (d - r.gap) / 20
		}
	}
	r.last = now
}

// hertz is the rate at a time; it falls when nothing has come for longer than
// the mean gap.
func (r *rate) hertz(now time.Time) float64 {
	if r.gap == 0 {
		return 0
	}
	return 1 / max(r.gap, now.Sub(r.last).Seconds())
}
