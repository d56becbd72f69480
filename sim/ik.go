package sim

import (
	"fmt"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/urdf"
)

// Inverse kinematics runs in two passes. The first weighs position, direction
// of the tool and nearness to a posture, which picks one smooth solution among
// many; the second moves on from there with steps of least norm until the
// position is exact.
const (
	ikDirection = 0.06  // metres that a radian off the direction is worth
	ikPosture   = 0.004 // metres that a radian off the posture is worth
	ikMargin    = 0.03  // kept from joint limits, rad
)

// reachPosture returns the posture that solutions stay near: elbow up, gripper down.
func reachPosture() []float64 { return []float64{0, 1.35, -1.15, 0, 1.1, 0} }

// reachPitch turns a tool so that its z axis points in body_Link where it
// should: down and a little forward, which keeps joint 5 off its limit.
const reachPitch = 2.850135859111926 // pi - atan(0.3)

// solveIK writes joint positions to q with which the chain's tip is at target,
// a point in metres in the frame of its base.
func solveIK(c *urdf.Chain, target [3]float64, q []float64) error {
	cfg := control.DefaultIKConfig(c)
	for i, j := range c.Joints {
		cfg.Lower[i], cfg.Upper[i] = j.Lower+ikMargin, j.Upper-ikMargin
	}
	exact := cfg
	cfg.RotationLength, cfg.FreeRoll = ikDirection, true
	cfg.Posture, cfg.PostureWeight = reachPosture(), ikPosture
	exact.RotationLength = 0
	copy(q, cfg.Posture)
	goal := urdf.FromRPY(target, [3]float64{0, reachPitch, 0})
	var result control.IKResult
	for _, pass := range []control.IKConfig{cfg, exact} {
		k, err := control.NewIK(c, pass)
		if err != nil {
			return fmt.Errorf("sim: %s: %w", c.Tip, err)
		}
		result = k.Solve(goal, q)
	}
	if result.Fit != control.Reached {
		return fmt.Errorf("sim: %s does not reach %.3f: %v, %.1f mm off", c.Tip, target, result.Fit, 1e3*result.Position)
	}
	return nil
}
