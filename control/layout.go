package control

import (
	"errors"
	"fmt"
	"math"
)

// Layout is the robot as control sees it: arms in a fixed order, each with its
// joints. Every flat slice of this package (a row of a Trajectory, the
// positions of a Command) has the joints of the first arm, then those of the
// second: for the Cobot Magic left joint1..joint6, gripper, then the right ones.
type Layout []Arm

// Arm is a chain of joints that is commanded, and reports, as one.
type Arm struct {
	Name   string // "left"
	Joints []Joint
}

// Joint is one position-controlled joint.
type Joint struct {
	Name    string // as the driver calls it: "joint1"
	Gripper bool   // metres of total opening instead of radians
	Limits  Limits
	Rule    GripperRule // of a gripper; zero follows the policy as it is
}

// Limits bound one joint; radians and seconds, or metres for a gripper.
type Limits struct {
	Lower, Upper float64
	Velocity     float64 // largest speed, per s
	Acceleration float64 // largest change of speed, per s²
	Deceleration float64 // the same in an e-stop and at shutdown; >= Acceleration
	Jerk         float64 // largest change of acceleration, per s³; e-stop and shutdown know none
	Step         float64 // largest change from one command to the next
}

// RevoluteLimits returns the default limits of a Piper arm joint that turns
// from lower to upper (rad). The firmware's own maxima are 3.0 rad/s and
// 5 rad/s² (piper_sdk, CAN 0x474 and 0x475), which the e-stop uses in full.
// The default speed is a third of that: AgileX's ROS 2 client for openpi slows
// large jumps to 0.3 rad/s, while a 0.05 rad clip at 20 Hz, which
// pi0_CobotMagic drives this robot with, is 1.0 rad/s; the same clip is the step limit.
// At the default jerk, 50 rad/s³, full acceleration is reached in 0.08 s.
func RevoluteLimits(lower, upper float64) Limits {
	return Limits{Lower: lower, Upper: upper, Velocity: 1.0, Acceleration: 4.0, Deceleration: 5.0, Jerk: 50, Step: 0.05}
}

// GripperLimits returns the default limits of a gripper that opens from 0 to
// widest (m): 0.07 for the standard Piper gripper, 0.1 for the newer one
// (piper_sdk's gripper parameter, 70 or 100 mm). The driver takes the absolute
// value of what it is sent, so a negative command would open it: Lower is 0.
// 0.1 m/s closes it in 0.7 s, half of what pi0_CobotMagic's clip of 0.01 m at
// 20 Hz allows; the URDF's 1 m/s per finger is nominal.
func GripperLimits(widest float64) Limits {
	return Limits{Lower: 0, Upper: widest, Velocity: 0.1, Acceleration: 0.5, Deceleration: 1.0, Jerk: 10, Step: 0.01}
}

// maxStopTime is how long a stop at Deceleration may take from full speed, so
// that Run can end within a second.
const maxStopTime = 0.7

// Validate checks that the limits are finite, ordered and stop in time.
func (l Limits) Validate() error {
	for _, f := range [...]struct {
		name     string
		value    float64
		positive bool
	}{
		{"lower", l.Lower, false}, {"upper", l.Upper, false}, {"velocity", l.Velocity, true},
		{"acceleration", l.Acceleration, true}, {"deceleration", l.Deceleration, true}, {"jerk", l.Jerk, true}, {"step", l.Step, true},
	} {
		if math.IsNaN(f.value) || math.IsInf(f.value, 0) || f.positive && f.value <= 0 {
			return fmt.Errorf("limit %s is %v; it must be finite%s", f.name, f.value,
				map[bool]string{true: " and positive"}[f.positive])
		}
	}
	if l.Lower >= l.Upper {
		return fmt.Errorf("lower limit %v is not below the upper one %v", l.Lower, l.Upper)
	}
	if l.Deceleration < l.Acceleration {
		return fmt.Errorf("deceleration %v is below acceleration %v", l.Deceleration, l.Acceleration)
	}
	if t := l.Velocity / l.Deceleration; t > maxStopTime {
		return fmt.Errorf("velocity %v takes %.2f s to stop at deceleration %v; at most %v s", l.Velocity, t, l.Deceleration, maxStopTime)
	}
	return nil
}

// Dims returns the number of joints of all arms together.
func (l Layout) Dims() int {
	n := 0
	for _, a := range l {
		n += len(a.Joints)
	}
	return n
}

// Of returns the part of a flat slice that belongs to the given arm.
func (l Layout) Of(arm int, flat []float64) []float64 {
	lo := Layout(l[:arm]).Dims()
	return flat[lo : lo+len(l[arm].Joints)]
}

// Validate checks names and limits.
func (l Layout) Validate() error {
	if len(l) == 0 {
		return errors.New("layout has no arms")
	}
	arms := map[string]bool{}
	for _, a := range l {
		if a.Name == "" || arms[a.Name] {
			return fmt.Errorf("arm name %q is empty or used twice", a.Name)
		}
		arms[a.Name] = true
		if len(a.Joints) == 0 {
			return fmt.Errorf("arm %q has no joints", a.Name)
		}
		joints := map[string]bool{}
		for _, j := range a.Joints {
			if j.Name == "" || joints[j.Name] {
				return fmt.Errorf("arm %q: joint name %q is empty or used twice", a.Name, j.Name)
			}
			joints[j.Name] = true
			if err := j.Limits.Validate(); err != nil {
				return fmt.Errorf("arm %q joint %q: %w", a.Name, j.Name, err)
			}
			if err := j.Rule.Validate(); err != nil {
				return fmt.Errorf("arm %q joint %q: %w", a.Name, j.Name, err)
			}
			if j.Gripper && j.Limits.Lower < 0 {
				return fmt.Errorf("arm %q joint %q: a gripper's lower limit is %v, but openings are not negative", a.Name, j.Name, j.Limits.Lower)
			}
		}
	}
	return nil
}
