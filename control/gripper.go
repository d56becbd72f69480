package control

import (
	"fmt"
	"math"
)

// GripperRule makes steady decisions from a policy's gripper column, in metres
// of opening. What 0..1, inverted or binary columns of a checkpoint mean in
// metres says its bundle; what the robot can do says Joint.Limits. The zero
// value follows the policy as it is.
type GripperRule struct {
	// Binary opens to Open or closes to Close (m) and knows nothing in between.
	Binary      bool
	Open, Close float64
	// Threshold (default 0.5) and Hysteresis (default 0.2) are shares of the way
	// from Close to Open: it opens above Threshold + Hysteresis/2 and closes below
	// Threshold - Hysteresis/2.
	Threshold, Hysteresis float64
	// Dwell is how many rows in a row must agree on a change, 1 (default) to 100.
	// It is what steadies columns that are open or closed and nothing else.
	Dwell int
}

// BinaryGripper is the rule with its defaults, for the given openings in m.
func BinaryGripper(open, closed float64) GripperRule {
	return GripperRule{Binary: true, Open: open, Close: closed, Threshold: 0.5, Hysteresis: 0.2, Dwell: 1}
}

// Validate names the first field that cannot be right.
func (g GripperRule) Validate() error {
	if !g.Binary {
		return nil
	}
	switch {
	case !(g.Close >= 0) || !(g.Open > g.Close) || math.IsInf(g.Open, 0):
		return fmt.Errorf("gripper opens to %v m and closes to %v m; want 0 <= close < open", g.Open, g.Close)
	case !(g.Hysteresis >= 0 && g.Hysteresis < 1):
		return fmt.Errorf("gripper hysteresis is %v; it must be 0 to 1", g.Hysteresis)
	case !(g.Threshold-g.Hysteresis/2 >= 0 && g.Threshold+g.Hysteresis/2 <= 1):
		return fmt.Errorf("gripper threshold %v with hysteresis %v leaves the range 0 to 1", g.Threshold, g.Hysteresis)
	case g.Dwell < 1 || g.Dwell > 100:
		return fmt.Errorf("gripper dwell is %d rows; it must be 1 to 100", g.Dwell)
	}
	return nil
}

// decide runs along column j of rows, n wide, from row first on and makes each
// value an opening, beginning with the decision that stands.
func (g *GripperRule) decide(values []float64, j, n, first int, open bool) {
	rows := len(values) / n
	share := func(k int) float64 { return (values[k*n+j] - g.Close) / (g.Open - g.Close) }
	// differs reports whether a row asks for the other decision.
	differs := func(k int) bool {
		if open {
			return share(k) < g.Threshold-g.Hysteresis/2
		}
		return share(k) > g.Threshold+g.Hysteresis/2
	}
	for k := max(first, 0); k < rows; k++ {
		if differs(k) {
			agree := 1
			for agree < g.Dwell && k+agree < rows && differs(k+agree) {
				agree++
			}
			// At the end of a chunk there may be too few rows to tell: the next one will.
			if agree >= g.Dwell {
				open = !open
			}
		}
		// Written only now: the rows ahead are still the policy's.
		values[k*n+j] = g.Close
		if open {
			values[k*n+j] = g.Open
		}
	}
}

// isOpen is the decision that an opening stands for.
func (g *GripperRule) isOpen(opening float64) bool { return opening > (g.Open+g.Close)/2 }

// GripperUnits converts between metres of total opening, which this package
// reckons in, and what a robot's driver takes and reports.
type GripperUnits struct {
	// Scale and Offset: driver = Scale*metres + Offset. The zero value is metres.
	// 0.5 is the way of one finger, as in the URDF; 1/0.07 is 0..1; a negative
	// scale is a driver in which more is narrower.
	Scale, Offset float64
}

// ToDriver converts an opening. A negative one is taken as 0 first: the Piper's
// driver takes the absolute value, which would open.
func (u GripperUnits) ToDriver(metres float64) float64 {
	if u.Scale == 0 {
		u.Scale = 1
	}
	return u.Scale*math.Max(0, metres) + u.Offset
}

// FromDriver converts what a driver reports. It may be a little negative.
func (u GripperUnits) FromDriver(v float64) float64 {
	if u.Scale == 0 {
		u.Scale = 1
	}
	return (v - u.Offset) / u.Scale
}
