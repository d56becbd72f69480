package action

import "github.com/ddvla/ddvla/policy/bundle"

// opening turns a gripper column's value into the distance between the fingers
// in metres, always within [g.Close, g.Open]: drivers of the Piper arm take the
// absolute value of a negative opening and so would open.
func opening(g *bundle.Gripper, v float64) float64 {
	var metres float64
	switch g.Mode {
	case bundle.GripperMetres:
		metres = v
		if g.Invert {
			metres = g.Open + g.Close - v
		}
	case bundle.GripperBinary:
		metres = g.Close
		if (v > g.Threshold) != g.Invert {
			metres = g.Open
		}
	case bundle.GripperNormalised:
		if g.Invert {
			v = 1 - v
		}
		metres = g.Close + float64(v*(g.Open-g.Close))
	}
	return min(max(metres+g.Offset, g.Close), g.Open)
}
