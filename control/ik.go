package control

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ddvla/ddvla/urdf"
)

// IKConfig sets up an IK. DefaultIKConfig fills it for a chain.
type IKConfig struct {
	// Lower and Upper bound the joints, rad; Velocity bounds their speeds in
	// Follow, rad/s. One entry per joint of the chain; defaults: its own limits,
	// the positions drawn in by 0.01 rad. A joint that starts beyond may stay
	// or move in.
	Lower, Upper, Velocity []float64

	// RotationLength is how many metres off are as bad as a radian off; default
	// 0.15 m, about the length of a gripper. 0 leaves the rotation free.
	RotationLength float64
	// FreeRoll leaves the rotation about the tool's own z axis free.
	FreeRoll bool

	// PositionTolerance and RotationTolerance are the residuals at which a
	// target counts as reached; defaults 1e-4 m and 1e-3 rad.
	PositionTolerance, RotationTolerance float64

	// Singular is the smallest singular value of the Jacobian (rotation rows
	// times RotationLength, in m) below which motions are damped and slowed;
	// default 0.01 m, which the Piper's wrist has with joint 5 about 0.3 rad off
	// straight. MaxDamping is the damping at 0; default 0.01 m: more makes Solve
	// creep, less lets joints rush.
	Singular, MaxDamping float64
	// Slowest is the factor on a motion that ends at a singular value of 0, in
	// Follow only; default 0.2. Motions away from a singularity are not slowed.
	Slowest float64

	// Posture and PostureWeight pull the joints to a posture where the target
	// leaves them a choice: metres that a radian off it is worth. Default 0: none.
	Posture       []float64
	PostureWeight float64

	// Iterations bounds the steps of Solve; default 200. Follow takes at most 16.
	Iterations int
}

// followIterations bounds the steps of Follow, whose way is short: more are used
// up only where damping holds it back.
const followIterations = 16

// ikMargin is kept from the chain's joint limits by default, rad: measured
// positions lie up to 0.003 rad beyond them.
const ikMargin = 0.01

// DefaultIKConfig returns the defaults named at the fields.
func DefaultIKConfig(chain *urdf.Chain) IKConfig {
	c := IKConfig{
		RotationLength:    0.15,
		PositionTolerance: 1e-4,
		RotationTolerance: 1e-3,
		Singular:          0.01,
		MaxDamping:        0.01,
		Slowest:           0.2,
		Iterations:        200,
	}
	for _, j := range chain.Joints {
		c.Lower = append(c.Lower, j.Lower+ikMargin)
		c.Upper = append(c.Upper, j.Upper-ikMargin)
		c.Velocity = append(c.Velocity, j.Velocity)
	}
	return c
}

// Validate names the first field that cannot be right for a chain of n joints.
func (c *IKConfig) Validate(n int) error {
	if n == 0 {
		return errors.New("control: ik: the chain has no movable joints")
	}
	if len(c.Lower) != n || len(c.Upper) != n || len(c.Velocity) != n {
		return fmt.Errorf("control: ik: lower, upper and velocity have %d, %d and %d entries; the chain has %d joints",
			len(c.Lower), len(c.Upper), len(c.Velocity), n)
	}
	for i := range n {
		if !(c.Lower[i] < c.Upper[i]) || !(c.Velocity[i] > 0) {
			return fmt.Errorf("control: ik: joint %d has limits %v to %v and speed %v; want lower < upper and speed > 0",
				i+1, c.Lower[i], c.Upper[i], c.Velocity[i])
		}
	}
	if c.PostureWeight != 0 && len(c.Posture) != n {
		return fmt.Errorf("control: ik: posture has %d entries; the chain has %d joints", len(c.Posture), n)
	}
	for _, f := range [...]struct {
		name     string
		value    float64
		positive bool
	}{
		{"rotation_length", c.RotationLength, false}, {"position_tolerance", c.PositionTolerance, true},
		{"rotation_tolerance", c.RotationTolerance, true}, {"singular", c.Singular, true},
		{"max_damping", c.MaxDamping, true}, {"slowest", c.Slowest, true}, {"posture_weight", c.PostureWeight, false},
	} {
		if !(f.value >= 0) || math.IsInf(f.value, 0) || f.positive && f.value == 0 {
			return fmt.Errorf("control: ik: %s is %v; it must be finite and not negative%s", f.name, f.value,
				map[bool]string{true: " or 0"}[f.positive])
		}
	}
	if c.Slowest > 1 {
		return fmt.Errorf("control: ik: slowest is %v; it must be at most 1", c.Slowest)
	}
	if c.Iterations < 1 {
		return fmt.Errorf("control: ik: iterations is %d; it must be at least 1", c.Iterations)
	}
	return nil
}

// Fit is how well joint positions realise what was asked for.
type Fit uint8

// Fits, the better first.
const (
	// Reached: within the tolerances.
	Reached Fit = iota
	// SpeedLimited: the motion was shortened so that no joint exceeds its speed.
	SpeedLimited
	// Singular: the motion was damped and slowed near a singularity.
	Singular
	// AtLimit: joint position limits hold the arm back.
	AtLimit
	// Unreachable: the target is out of reach, or no shortest way leads to it.
	Unreachable
)

// String returns the fit's name as diagnostics show it: "speed_limited".
func (f Fit) String() string {
	return [...]string{"reached", "speed_limited", "singular", "at_limit", "unreachable"}[min(f, Unreachable)]
}

// IKResult tells how an inverse kinematics call ended.
type IKResult struct {
	Fit Fit
	// Position (m) and Rotation (rad) are how far the tool is from the target
	// that was asked for.
	Position, Rotation float64
	// Sigma is the smallest singular value of the Jacobian at the result, in
	// the units of IKConfig.Singular.
	Sigma float64
	// Joint is the joint (from 0) that a limit holds where Fit is AtLimit, else -1.
	Joint int
	// Iterations counts the steps.
	Iterations int
}

// IK is inverse kinematics of one chain by damped least squares: from where the
// joints are it goes downhill, so it stays on the branch (elbow up, wrist
// unflipped) that it starts on and, where a target is out of reach, ends as
// near as it came and says so.
//
// Each step solves J dq = e through the singular values s of J, every component
// multiplied by s / (s² + damping² + mu). The damping rises from 0 at s =
// Singular to MaxDamping at 0, per component, as in Chiaverini, Siciliano and
// Egeland, "Review of the Damped Least-Squares Inverse Kinematics with
// Experiments on an Industrial Robot Manipulator", IEEE Trans. Control Systems
// Technology 2(2), 1994 (after Nakamura and Hanafusa, "Inverse Kinematic
// Solutions with Singularity Robustness for Robot Manipulator Control", J.
// Dynamic Systems, Measurement, and Control 108, 1986, who measure
// manipulability instead). mu is Levenberg-Marquardt's: it grows until a step
// brings the tool nearer, so no step leaps.
//
// Joints that a step would take beyond a limit are put there and the others
// solve for what is left (an active set, after the clamping loop of Baerlocher
// and Boulic, "An inverse kinematics architecture enforcing an arbitrary number
// of strict priority levels", The Visual Computer 20, 2004). Weights that keep
// joints away from limits (Chan and Dubey, IEEE Trans. Robotics and Automation
// 11(2), 1995) act on the null space only, and six joints have none for the six
// coordinates of a tool.
//
// An IK belongs to one goroutine; Solve and Follow do not allocate.
type IK struct {
	chain *urdf.Chain
	cfg   IKConfig
	step  ikStep

	lo, hi, from, next []float64 // bounds, start and trial of a call
}

// NewIK returns the inverse kinematics of a chain, whose tip is the tool that
// targets are for (fl_link6 or fl_tool0) and whose base is the frame they are in.
func NewIK(chain *urdf.Chain, cfg IKConfig) (*IK, error) {
	n := len(chain.Joints)
	if err := cfg.Validate(n); err != nil {
		return nil, err
	}
	for _, s := range []*[]float64{&cfg.Lower, &cfg.Upper, &cfg.Velocity, &cfg.Posture} {
		*s = slices.Clone(*s)
	}
	k := &IK{chain: chain, cfg: cfg}
	k.step.init(&k.cfg, n)
	for _, v := range []*[]float64{&k.lo, &k.hi, &k.from, &k.next} {
		*v = make([]float64, n)
	}
	return k, nil
}

// Chain returns the chain that k solves for.
func (k *IK) Chain() *urdf.Chain { return k.chain }

// Solve moves q, joint positions in rad, to where the tool is at target, or as
// near as the way downhill from q leads. q stays within the limits, or where it
// was beyond them. It panics if q has the wrong length; where a number is not
// finite, the result is Unreachable and q is left alone.
func (k *IK) Solve(target urdf.Transform, q []float64) IKResult {
	return k.Follow(target, math.Inf(1), q)
}

// Follow is Solve for a motion that has dt seconds. A motion whose first step
// asks a joint for more than its speed is shortened along the straight line to
// the target; in any case no joint moves further than its speed allows. One
// that ends nearer a singularity than it began, below IKConfig.Singular, is
// slowed.
func (k *IK) Follow(target urdf.Transform, dt float64, q []float64) IKResult {
	s := &k.step
	tip := k.chain.Jacobian(q, s.jac)
	if !finiteTransform(&target) || notFinite(q) >= 0 || !(dt > 0) {
		return IKResult{Fit: Unreachable, Position: math.Inf(1), Rotation: math.Inf(1), Joint: -1}
	}
	copy(k.from, q)
	for i, v := range k.cfg.Velocity {
		k.lo[i] = math.Max(math.Min(k.cfg.Lower[i], q[i]), q[i]-v*dt)
		k.hi[i] = math.Min(math.Max(k.cfg.Upper[i], q[i]), q[i]+v*dt)
	}
	timed := !math.IsInf(dt, 1)
	goal, share, before, iterations := target, 1.0, 0.0, k.cfg.Iterations
	if timed {
		iterations = min(iterations, followIterations)
		s.linearise(&tip, &target, q)
		before = s.sigma
		s.solve(0)
		for i, v := range k.cfg.Velocity {
			share = math.Min(share, v*dt/math.Abs(s.dq[i]))
		}
		if share < 1 {
			goal = s.between(&tip, &target, share)
		}
	}
	result := k.descend(&goal, q, iterations)
	switch {
	case timed && result.Sigma < math.Min(k.cfg.Singular, before):
		slow := math.Max(k.cfg.Slowest, result.Sigma/k.cfg.Singular)
		for i := range q {
			q[i] = k.from[i] + slow*(q[i]-k.from[i])
		}
		result.Fit, result.Joint = Singular, -1
	case share < 1 && result.Fit == Reached:
		result.Fit = SpeedLimited
	}
	tip = k.chain.Forward(q)
	result.Position, result.Rotation = s.residual(&tip, &target)
	if k.within(result.Position, result.Rotation) {
		result.Fit, result.Joint = Reached, -1
	}
	return result
}

// ikSettled is the step (rad) and the share of the squared error won by one
// that end the descent.
const ikSettled = 1e-7

// descend moves q towards target, within k.lo and k.hi, until it is there, no
// step brings it nearer, or so many were taken. It leaves Position and Rotation
// of the result to the caller.
func (k *IK) descend(target *urdf.Transform, q []float64, iterations int) IKResult {
	s := &k.step
	result := IKResult{Joint: -1}
	for mu := 0.0; ; {
		tip := k.chain.Jacobian(q, s.jac)
		cost := s.linearise(&tip, target, q)
		result.Sigma = s.sigma
		if k.cfg.PostureWeight == 0 && k.within(s.residual(&tip, target)) {
			return result
		}
		for nearer := false; !nearer; {
			if result.Iterations == iterations {
				result.Fit, result.Joint = k.stuck()
				if s.sigma < k.cfg.Singular {
					result.Fit, result.Joint = Singular, -1
				}
				return result
			}
			result.Iterations++
			moved := s.within(k.lo, k.hi, q, mu, k.next)
			tip = k.chain.Forward(k.next)
			after := s.error(&tip, target, k.next, s.trial)
			nearer = after < cost
			if moved < ikSettled || nearer && after > cost*(1-ikSettled) {
				result.Fit, result.Joint = k.stuck()
				return result
			}
			if nearer {
				mu /= 8
			} else {
				mu = math.Max(4*mu, 0.01*cost)
			}
		}
		copy(q, k.next)
	}
}

// stuck tells why the descent ended off its target, from the last step it tried.
func (k *IK) stuck() (Fit, int) {
	fit := Unreachable
	for i, fixed := range k.step.fixed {
		switch {
		case !fixed:
		case k.next[i] <= k.cfg.Lower[i] || k.next[i] >= k.cfg.Upper[i]:
			return AtLimit, i
		default:
			fit = SpeedLimited
		}
	}
	return fit, -1
}

// within reports whether residuals are within the tolerances.
func (k *IK) within(position, rotation float64) bool {
	return position <= k.cfg.PositionTolerance && rotation <= k.cfg.RotationTolerance
}

// finiteTransform reports whether every number of t is finite.
func finiteTransform(t *urdf.Transform) bool {
	return notFinite(t.R[:]) < 0 && notFinite(t.P[:]) < 0
}
