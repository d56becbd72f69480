package sim

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// Inverse kinematics runs in two passes of damped least squares. The first
// weighs position, direction of the tool and nearness to a posture, which
// picks one smooth solution among many; the second moves on from there with
// steps of least norm until the position is exact.
const (
	ikIterations = 60
	ikPolish     = 20
	ikDamping    = 1e-3
	ikDirection  = 0.06  // metres that a unit error of direction is worth
	ikPosture    = 0.004 // metres that a radian off the posture is worth
	ikTolerance  = 1e-4  // metres
	ikMargin     = 0.03  // kept from joint limits, rad
	ikSettled    = 1e-5  // a step that ends the first pass, rad
)

// reachPosture is the posture that solutions stay near: elbow up, gripper down.
var reachPosture = [6]float64{0, 1.35, -1.15, 0, 1.1, 0}

// reachDirection is where the tool's z axis should point in body_Link: down
// and a little forward, which keeps joint 5 off its limit.
var reachDirection = r3.Unit(r3.Vec{X: 0.3, Z: -1})

// solveIK writes joint positions to q with which the chain's tip is at target.
func solveIK(c *urdf.Chain, target r3.Vec, q []float64) error {
	copy(q, reachPosture[:])
	n := len(q)
	jac := mat.NewDense(6, n, nil)
	full := mat.NewDense(6+n, n, nil)
	residual := mat.NewVecDense(6+n, nil)
	for range ikIterations {
		tip := c.Forward(q)
		c.Jacobian(q, jac)
		full.Zero()
		position := r3.Sub(target, r3.Vec{X: tip.P[0], Y: tip.P[1], Z: tip.P[2]})
		z := r3.Vec{X: tip.R[2], Y: tip.R[5], Z: tip.R[8]}
		direction := r3.Scale(ikDirection, r3.Sub(reachDirection, z))
		for i, v := range []float64{position.X, position.Y, position.Z, direction.X, direction.Y, direction.Z} {
			residual.SetVec(i, v)
		}
		for j := range n {
			w := r3.Vec{X: jac.At(3, j), Y: jac.At(4, j), Z: jac.At(5, j)}
			dz := r3.Scale(ikDirection, r3.Cross(w, z))
			for i, v := range []float64{jac.At(0, j), jac.At(1, j), jac.At(2, j), dz.X, dz.Y, dz.Z} {
				full.Set(i, j, v)
			}
			full.Set(6+j, j, ikPosture)
			residual.SetVec(6+j, ikPosture*(reachPosture[j]-q[j]))
		}
		moved, err := dampedStep(c, full, residual, q)
		if err != nil {
			return err
		}
		if moved < ikSettled {
			break
		}
	}
	for range ikPolish {
		tip := c.Forward(q)
		e := [3]float64{target.X - tip.P[0], target.Y - tip.P[1], target.Z - tip.P[2]}
		if math.Hypot(math.Hypot(e[0], e[1]), e[2]) < ikTolerance {
			return nil
		}
		c.Jacobian(q, jac)
		if _, err := dampedStep(c, jac.Slice(0, 3, 0, n).(*mat.Dense), mat.NewVecDense(3, e[:]), q); err != nil {
			return err
		}
	}
	return fmt.Errorf("sim: %s does not reach (%.3f, %.3f, %.3f)", c.Tip, target.X, target.Y, target.Z)
}

// dampedStep adds (J^T J + damping^2)^-1 J^T r to q, within the limits, and
// returns the largest change.
func dampedStep(c *urdf.Chain, j *mat.Dense, r *mat.VecDense, q []float64) (moved float64, err error) {
	n := len(q)
	var normal mat.SymDense
	normal.SymOuterK(1, j.T())
	for i := range n {
		normal.SetSym(i, i, normal.At(i, i)+ikDamping*ikDamping)
	}
	var right, step mat.VecDense
	right.MulVec(j.T(), r)
	var factor mat.Cholesky
	if !factor.Factorize(&normal) {
		return 0, fmt.Errorf("sim: %s: inverse kinematics met a singular system", c.Tip)
	}
	if err := factor.SolveVecTo(&step, &right); err != nil {
		return 0, fmt.Errorf("sim: %s: inverse kinematics: %w", c.Tip, err)
	}
	for i := range n {
		limit := c.Joints[i]
		next := q[i] + min(max(step.AtVec(i), -0.3), 0.3)
		next = min(max(next, limit.Lower+ikMargin), limit.Upper-ikMargin)
		moved = max(moved, math.Abs(next-q[i]))
		q[i] = next
	}
	return moved, nil
}
