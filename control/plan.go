package control

import (
	"math"
	"time"

	"gonum.org/v1/gonum/floats"
)

// Trajectory is an action chunk in the robot's units: rows of joint positions,
// due one after the other at Rate.
type Trajectory struct {
	// Stamp is when the observation was made that the chunk answers to, by the
	// clock that Tick is called with. Row k is due at Stamp + (k+1)/Rate.
	Stamp time.Time
	// Rate of the rows in Hz.
	Rate float64
	// Epoch is what Executor.Epoch returned before the observation was taken.
	Epoch uint64
	// Values holds the rows one after the other, each of Layout.Dims() joint
	// positions (rad, m). It is copied.
	Values []float64
}

// plan is the trajectory in execution. Its buffers are reused.
type plan struct {
	active bool
	stamp  time.Time // of the observation
	start  time.Time // row k is due at start + (k+1) period
	period float64   // s
	rows   int
	values []float64
	seamAt time.Time // when it was taken over
	seam   []float64 // the pose commanded then
}

// end returns when the last row is due.
func (p *plan) end() time.Time { return p.start.Add(seconds(float64(p.rows) * p.period)) }

// at writes the pose planned for time t to dst: linear between rows; from the
// seam to row 0 before that is due; the last row after the end.
func (p *plan) at(t time.Time, dst []float64) {
	n := len(dst)
	x := t.Sub(p.start).Seconds()/p.period - 1 // row k is at x = k
	switch k := math.Floor(x); {
	case x < 0:
		span := p.start.Add(seconds(p.period)).Sub(p.seamAt).Seconds()
		s := 0.0
		if span > 0 {
			s = math.Min(math.Max(t.Sub(p.seamAt).Seconds()/span, 0), 1)
		}
		mix(dst, p.seam, p.values[:n], s)
	case int(k) >= p.rows-1:
		copy(dst, p.values[(p.rows-1)*n:p.rows*n])
	default:
		i := int(k) * n
		mix(dst, p.values[i:i+n], p.values[i+n:i+2*n], x-k)
	}
}

// mix writes (1-s) a + s b to dst. The products cannot overflow.
func mix(dst, a, b []float64, s float64) {
	floats.ScaleTo(dst, 1-s, a)
	floats.AddScaled(dst, s, b)
}

// consumption remembers when the arms were moving along a chunk, so that a new
// chunk skips the steps that were really executed since its observation: the
// time for which the arms stood and waited does not count.
type consumption struct {
	from, to [32]time.Time // spans, a ring; the newest is open while moving
	first, n int
	moving   bool
}

// set records that moving along a chunk begins or ends at now.
func (c *consumption) set(moving bool, now time.Time) {
	switch {
	case moving == c.moving:
		return
	case moving:
		if c.n == len(c.from) {
			c.first = (c.first + 1) % len(c.from)
			c.n--
		}
		c.from[(c.first+c.n)%len(c.from)] = now
		c.n++
	default:
		c.to[(c.first+c.n-1)%len(c.from)] = now
	}
	c.moving = moving
}

// since returns how long the arms have been moving from t to now. Before the
// oldest span that is remembered they are taken to have been moving.
func (c *consumption) since(t, now time.Time) time.Duration {
	var sum time.Duration
	for i := range c.n {
		k := (c.first + i) % len(c.from)
		from, to := c.from[k], c.to[k]
		if i == c.n-1 && c.moving {
			to = now
		}
		if i == 0 && c.n == len(c.from) && t.Before(from) {
			sum += from.Sub(t)
		}
		if from.Before(t) {
			from = t
		}
		if to.After(from) {
			sum += to.Sub(from)
		}
	}
	return sum
}

// clear forgets everything, after a jump of the clock.
func (c *consumption) clear() { *c = consumption{} }

// seconds converts to a Duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
