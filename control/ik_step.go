package control

import (
	"math"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/lapack"
	"gonum.org/v1/gonum/lapack/lapack64"
	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// ikLongest is the longest step of a joint, rad: beyond it the Jacobian says
// little.
const ikLongest = 0.4

// ikStep is one linear step of an IK: the error as a vector e of rows, its
// Jacobian as rows by joints, and their damped least squares.
type ikStep struct {
	cfg      *IKConfig
	turns, n int     // rotation rows, joints
	sigma    float64 // smallest singular value of the rows, none fixed

	jac            *mat.Dense     // 6 x n, as the chain gives it
	rows           blas64.General // m x n
	e, trial, rest []float64      // m
	dq             []float64      // n
	fixed          []bool         // joints that the last step put on a bound

	a, u, vt blas64.General // of the decomposition
	s, work  []float64
	masked   bool // the decomposition leaves fixed joints out
}

func (k *ikStep) init(cfg *IKConfig, n int) {
	k.cfg, k.n, k.turns = cfg, n, 3
	switch {
	case cfg.RotationLength == 0:
		k.turns = 0
	case cfg.FreeRoll:
		k.turns = 2
	}
	m := 3 + k.turns
	if cfg.PostureWeight > 0 {
		m += n
	}
	r := min(m, n)
	general := func(rows, cols int) blas64.General {
		return blas64.General{Rows: rows, Cols: cols, Stride: cols, Data: make([]float64, rows*cols)}
	}
	k.jac = mat.NewDense(6, n, nil)
	k.rows, k.a, k.u, k.vt = general(m, n), general(m, n), general(m, r), general(r, n)
	k.e, k.trial, k.rest = make([]float64, m), make([]float64, m), make([]float64, m)
	k.s, k.dq, k.fixed = make([]float64, r), make([]float64, n), make([]bool, n)
	size := make([]float64, 1)
	lapack64.Gesvd(lapack.SVDStore, lapack.SVDStore, k.a, k.u, k.vt, k.s, size, -1)
	k.work = make([]float64, int(size[0]))
}

// turn returns the rotation from tip to target as a vector in the base's frame;
// with FreeRoll the shortest one that brings their z axes together.
func (k *ikStep) turn(tip, target *urdf.Transform) r3.Vec {
	if !k.cfg.FreeRoll {
		return vec(target.Mul(tip.Inverse()).RotationVector())
	}
	from, to := axis(tip, 2), axis(target, 2)
	w := r3.Cross(from, to)
	sine := r3.Norm(w)
	angle := math.Atan2(sine, r3.Dot(from, to))
	if sine < 1e-12 { // together, or opposite: any axis across will do
		return r3.Scale(angle, axis(tip, 0))
	}
	return r3.Scale(angle/sine, w)
}

// residual returns how far tip is from target, in m and rad.
func (k *ikStep) residual(tip, target *urdf.Transform) (position, rotation float64) {
	position = r3.Norm(r3.Sub(vec(target.P), vec(tip.P)))
	if k.turns > 0 {
		rotation = r3.Norm(k.turn(tip, target))
	}
	return position, rotation
}

// between returns the frame a share of the straight way from tip to target.
func (k *ikStep) between(tip, target *urdf.Transform, share float64) urdf.Transform {
	w := r3.Scale(share, k.turn(tip, target))
	out := urdf.FromRotationVector([3]float64{w.X, w.Y, w.Z}).Mul(*tip)
	for i := range out.P {
		out.P[i] = tip.P[i] + share*(target.P[i]-tip.P[i])
	}
	return out
}

// turned writes the rotation rows of a rotation vector to dst.
func (k *ikStep) turned(tip *urdf.Transform, w r3.Vec, dst []float64) {
	w = r3.Scale(k.cfg.RotationLength, w)
	switch k.turns {
	case 3:
		dst[0], dst[1], dst[2] = w.X, w.Y, w.Z
	case 2:
		dst[0], dst[1] = r3.Dot(w, axis(tip, 0)), r3.Dot(w, axis(tip, 1))
	}
}

// error writes the error of tip at q to dst and returns its square.
func (k *ikStep) error(tip, target *urdf.Transform, q, dst []float64) float64 {
	for i := range target.P {
		dst[i] = target.P[i] - tip.P[i]
	}
	k.turned(tip, k.turn(tip, target), dst[3:])
	if k.cfg.PostureWeight > 0 {
		for i, v := range k.cfg.Posture {
			dst[3+k.turns+i] = k.cfg.PostureWeight * (v - q[i])
		}
	}
	return floats.Dot(dst, dst)
}

// linearise sets up the error at q and its Jacobian from k.jac, decomposes it,
// and returns the square of the error.
func (k *ikStep) linearise(tip, target *urdf.Transform, q []float64) float64 {
	cost := k.error(tip, target, q, k.e)
	var column [6]float64
	for j := range k.n {
		for i := range column {
			column[i] = k.jac.At(i, j)
		}
		k.turned(tip, r3.Vec{X: column[3], Y: column[4], Z: column[5]}, column[3:])
		for i, v := range column[:3+k.turns] {
			k.rows.Data[i*k.rows.Stride+j] = v
		}
		if k.cfg.PostureWeight > 0 {
			k.rows.Data[(3+k.turns+j)*k.rows.Stride+j] = k.cfg.PostureWeight
		}
	}
	clear(k.fixed)
	k.decompose()
	k.sigma = k.s[len(k.s)-1]
	copy(k.rest, k.e)
	return cost
}

// decompose finds the singular values and vectors of the rows without the
// joints that are fixed.
func (k *ikStep) decompose() {
	copy(k.a.Data, k.rows.Data)
	k.masked = false
	for j, fixed := range k.fixed {
		if fixed {
			k.masked = true
			for i := range k.a.Rows {
				k.a.Data[i*k.a.Stride+j] = 0
			}
		}
	}
	if !lapack64.Gesvd(lapack.SVDStore, lapack.SVDStore, k.a, k.u, k.vt, k.s, k.work, len(k.work)) {
		clear(k.s) // not converged: no step
	}
}

// solve writes the damped least squares solution for what is left of the error, k.rest, to those
// entries of k.dq that are not fixed.
func (k *ikStep) solve(mu float64) {
	for j, fixed := range k.fixed {
		if !fixed {
			k.dq[j] = 0
		}
	}
	for i, s := range k.s {
		damping := 0.0
		if x := s / k.cfg.Singular; x < 1 {
			damping = k.cfg.MaxDamping * k.cfg.MaxDamping * (1 - x*x)
		}
		along := 0.0
		for r, v := range k.rest {
			along += k.u.Data[r*k.u.Stride+i] * v
		}
		along *= s / (s*s + damping + mu)
		for j, fixed := range k.fixed {
			if !fixed {
				k.dq[j] += along * k.vt.Data[i*k.vt.Stride+j]
			}
		}
	}
}

// within writes to next the pose one step from q, no joint beyond its bounds,
// and returns the longest way that a joint goes.
func (k *ikStep) within(lo, hi, q []float64, mu float64, next []float64) (moved float64) {
	clear(k.fixed)
	if k.masked {
		k.decompose()
	}
	copy(k.rest, k.e)
	for beyond := true; beyond; {
		k.solve(mu)
		beyond = false
		for j, d := range k.dq {
			if k.fixed[j] || q[j]+d >= lo[j] && q[j]+d <= hi[j] {
				continue
			}
			beyond, k.fixed[j] = true, true
			k.dq[j] = math.Min(math.Max(q[j]+d, lo[j]), hi[j]) - q[j]
			for i := range k.rest {
				k.rest[i] -= k.rows.Data[i*k.rows.Stride+j] * k.dq[j]
			}
		}
		if beyond {
			k.decompose()
		}
	}
	longest := math.Max(math.Abs(floats.Max(k.dq)), math.Abs(floats.Min(k.dq)))
	share := math.Min(1, ikLongest/longest)
	for j, d := range k.dq {
		next[j] = math.Min(math.Max(q[j]+share*d, lo[j]), hi[j])
		moved = math.Max(moved, math.Abs(next[j]-q[j]))
	}
	return moved
}

func vec(p [3]float64) r3.Vec { return r3.Vec{X: p[0], Y: p[1], Z: p[2]} }

// axis returns the direction of t's x, y or z axis: i is 0, 1 or 2.
func axis(t *urdf.Transform, i int) r3.Vec { return r3.Vec{X: t.R[i], Y: t.R[3+i], Z: t.R[6+i]} }
