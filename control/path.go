package control

import (
	"fmt"
	"math"
	"time"
)

// Trajectory is an action chunk in the robot's units: rows of joint positions,
// due one after the other at Rate.
type Trajectory struct {
	// Stamp is when the observation was made that the chunk answers to, by the
	// clock that Tick is called with. Row k is due at Stamp + (k+1)/Rate, less the
	// time for which the arms stood or were slowed meanwhile.
	Stamp time.Time
	// Rate of the rows in Hz.
	Rate float64
	// Epoch is what Executor.Epoch returned before the observation was taken.
	Epoch uint64
	// Values holds the rows one after the other, each of Layout.Dims() joint
	// positions (rad, m). It is copied.
	Values []float64
}

// Interpolation is how the path runs between the rows of a chunk.
type Interpolation uint8

// The interpolations.
const (
	// Cubic is the cubic Hermite spline whose tangents are the central
	// differences of the rows (Catmull-Rom), for grippers those of Fritsch and
	// Butland, which never leave the range of the two rows: an opening in between
	// is never wider or narrower than both. Joints are not kept monotone, since
	// that would halt them at each small reversal that quantisation makes; where
	// the spline leaves the position limits, it is clamped.
	Cubic Interpolation = iota
	// Linear has corners at the rows, which the limits round.
	Linear
	// Quintic is the quintic Hermite spline with the central differences as
	// tangents and the second differences as accelerations, which it keeps
	// continuous. It follows noise in the rows more than Cubic does.
	Quintic
)

// String returns the name that ParseInterpolation takes.
func (i Interpolation) String() string {
	switch i {
	case Cubic:
		return "cubic"
	case Linear:
		return "linear"
	case Quintic:
		return "quintic"
	}
	return fmt.Sprintf("interpolation_%d", uint8(i))
}

// ParseInterpolation is the inverse of String.
func ParseInterpolation(name string) (Interpolation, error) {
	for i := Cubic; i <= Quintic; i++ {
		if name == i.String() {
			return i, nil
		}
	}
	return 0, fmt.Errorf("control: interpolation %q is none of cubic, linear and quintic", name)
}

// plan is the chunk in execution, after its hand-over. Its buffers are reused.
// A place in it is x, in rows: row k lies at x = k.
type plan struct {
	active bool
	stamp  time.Time // of the observation
	base   float64   // the progress at the stamp
	began  float64   // the progress at the hand-over
	period float64   // s of progress between rows
	rows   int
	values []float64 // rows as they are to be executed
	within []float64 // the same, within the position limits: the path
	pace   []float64 // from row k to k+1: how fast progress may run, 1 as planned
	slow   []Code    // what limits the pace, or OK
	enter  float64   // the pace from the seam to row 0
	// Before row 0 the path comes from where the arms were commanded at the
	// hand-over.
	seamX        float64
	seam, seamed []float64 // position, and velocity per row
}

// x returns the place of a progress.
func (p *plan) x(progress float64) float64 { return (progress-p.base)/p.period - 1 }

// due returns the progress of a row.
func (p *plan) due(row int) float64 { return p.base + float64(row+1)*p.period }

// value returns joint j of the rows at x, linear in between, and the first and
// the last row outside. n is the number of joints.
func (p *plan) value(x float64, j, n int) float64 {
	switch {
	case x <= 0:
		return p.values[j]
	case x >= float64(p.rows-1):
		return p.values[(p.rows-1)*n+j]
	}
	k := int(x)
	f := x - float64(k)
	return (1-f)*p.values[k*n+j] + f*p.values[(k+1)*n+j]
}

// place is a place on the path, with the weights of what lies around it:
// position, tangent and second difference of the row before and after.
type place struct {
	x              float64
	row            int     // the row before, -1 for the seam
	width          float64 // of the segment, in rows
	beyond         float64 // rows after the last
	value, tangent [6]float64
	f              float64
}

// extrapolated is how long the path goes on straight after its last row, in s.
// The arms halt at the last row, but until then they are not to slow down for
// the end of a plan that the next chunk will carry on.
const extrapolated = 0.1

// place returns the weights for x.
func (p *plan) place(x float64, kind Interpolation) place {
	at := place{x: x, width: 1}
	last := float64(p.rows - 1)
	switch {
	case x >= last:
		at.row, at.beyond = p.rows-1, x-last
		return at
	case x < 0:
		at.row, at.width = -1, math.Max(-p.seamX, 1e-9)
		at.f = math.Min(math.Max((x-p.seamX)/at.width, 0), 1)
	default:
		at.row = int(x)
		at.f = x - float64(at.row)
	}
	f := at.f
	switch f2, f3 := f*f, f*f*f; kind {
	case Linear:
		at.value = [6]float64{1 - f, 0, 0, f, 0, 0}
		at.tangent = [6]float64{-1, 0, 0, 1, 0, 0}
	case Quintic:
		f4, f5 := f2*f2, f2*f3
		at.value = [6]float64{
			1 - 10*f3 + 15*f4 - 6*f5, f - 6*f3 + 8*f4 - 3*f5, (f2 - 3*f3 + 3*f4 - f5) / 2,
			10*f3 - 15*f4 + 6*f5, -4*f3 + 7*f4 - 3*f5, (f3 - 2*f4 + f5) / 2,
		}
		at.tangent = [6]float64{
			-30*f2 + 60*f3 - 30*f4, 1 - 18*f2 + 32*f3 - 15*f4, (2*f - 9*f2 + 12*f3 - 5*f4) / 2,
			30*f2 - 60*f3 + 30*f4, -12*f2 + 28*f3 - 15*f4, (3*f2 - 8*f3 + 5*f4) / 2,
		}
	default:
		at.value = [6]float64{1 - 3*f2 + 2*f3, f - 2*f2 + f3, 0, 3*f2 - 2*f3, f3 - f2, 0}
		at.tangent = [6]float64{6*f2 - 6*f, 1 - 4*f + 3*f2, 0, 6*f - 6*f2, 3*f2 - 2*f, 0}
	}
	return at
}

// state returns position, velocity and acceleration of joint j there, per row.
// The acceleration is that of the rows, not of the spline, which jumps.
func (p *plan) state(at *place, j, n int, monotone bool) motion {
	q := p.within
	if at.beyond > 0 || at.row == p.rows-1 {
		m := p.tangent(p.rows-1, j, n, monotone)
		straight := extrapolated / p.period
		if at.beyond >= straight {
			return motion{p: q[(p.rows-1)*n+j] + m*straight}
		}
		return motion{p: q[(p.rows-1)*n+j] + m*at.beyond, v: m}
	}
	var around [6]float64
	if at.row < 0 {
		around = [6]float64{p.seam[j], p.seamed[j] * at.width, 0, q[j], p.tangent(0, j, n, monotone) * at.width, 0}
	} else {
		k := at.row
		around = [6]float64{
			q[k*n+j], p.tangent(k, j, n, monotone), p.second(k, j, n),
			q[(k+1)*n+j], p.tangent(k+1, j, n, monotone), p.second(k+1, j, n),
		}
	}
	var m motion
	for i, w := range at.value {
		m.p += w * around[i]
		m.v += at.tangent[i] * around[i]
	}
	m.v /= at.width
	m.a = (1-at.f)*around[2] + at.f*around[5]
	return m
}

// tangent returns the slope of the path at a row, per row.
func (p *plan) tangent(row, j, n int, monotone bool) float64 {
	q := p.within
	switch {
	case p.rows == 1:
		return 0
	case row == 0:
		return q[n+j] - q[j]
	case row == p.rows-1:
		return q[row*n+j] - q[(row-1)*n+j]
	}
	before, after := q[row*n+j]-q[(row-1)*n+j], q[(row+1)*n+j]-q[row*n+j]
	switch {
	case !monotone:
		return (before + after) / 2
	case before*after <= 0:
		return 0
	}
	return 2 * before * after / (before + after)
}

// second returns the second difference of the rows at a row.
func (p *plan) second(row, j, n int) float64 {
	if row == 0 || row == p.rows-1 {
		return 0
	}
	q := p.within
	return q[(row+1)*n+j] - 2*q[row*n+j] + q[(row-1)*n+j]
}

// paceChange is how fast the pace of progress may change, per s: at 1 rad/s
// along the path that is an acceleration of 3 rad/s².
const paceChange = 3.0

// setPace finds how fast the path may be gone through so that every joint keeps
// its limits; the same for all joints, which keeps the path's shape. The
// acceleration is taken over two rows on either side, since quantisation makes
// noise. Ahead of a slow part the pace falls in time.
func (p *plan) setPace(joints []Joint, period float64) {
	n := len(joints)
	for k := range p.rows {
		p.pace[k], p.slow[k] = fastestPace, OK
		for j := range joints {
			if joints[j].Gripper {
				continue
			}
			l := &joints[j].Limits
			if k+1 < p.rows {
				v := math.Abs(p.within[(k+1)*n+j]-p.within[k*n+j]) / p.period
				// A little is left for staying on the path.
				if fastest := 0.98 * l.fastest(period); v*p.pace[k] > fastest {
					p.pace[k], p.slow[k] = fastest/v, LimitedVelocity
					if l.Step/period < l.Velocity {
						p.slow[k] = LimitedStep
					}
				}
			}
			if k >= 2 && k+2 < p.rows {
				a := math.Abs(p.within[(k+2)*n+j]-2*p.within[k*n+j]+p.within[(k-2)*n+j]) / (4 * p.period * p.period)
				if a*p.pace[k]*p.pace[k] > 0.9*l.Acceleration {
					p.pace[k], p.slow[k] = math.Sqrt(0.9*l.Acceleration/a), LimitedAcceleration
				}
			}
		}
	}
	p.enter = fastestPace
	for j := range joints {
		if v := math.Abs(p.within[j]-p.seam[j]) / (max(-p.seamX, 1e-3) * p.period); p.seamX < 0 && !joints[j].Gripper {
			p.enter = min(p.enter, 0.98*joints[j].Limits.fastest(period)/v)
		}
	}
	for k := p.rows - 2; k >= 0; k-- {
		if top := math.Sqrt(p.pace[k+1]*p.pace[k+1] + 2*paceChange*p.period); top < p.pace[k] {
			p.pace[k], p.slow[k] = top, p.slow[k+1]
		}
	}
}

// paceAt returns the pace at x and what limits it below 1.
func (p *plan) paceAt(x float64) (float64, Code) {
	if x < 0 && p.enter < p.pace[0] {
		if p.enter >= 1 {
			return p.enter, OK
		}
		return p.enter, LimitedVelocity
	}
	k := min(max(int(math.Floor(x)), 0), p.rows-1)
	if p.pace[k] >= 1 {
		return p.pace[k], OK
	}
	return p.pace[k], p.slow[k]
}
