package report

import "github.com/ddvla/ddvla/control"

// CountsOf lists what an executor did, without what belongs to every run.
func CountsOf(c control.Counters) []Count {
	var counts []Count
	for code := control.Code(0); int(code) < control.Codes(); code++ {
		if n := c.ByCode[code]; n > 0 && !usual(code) {
			counts = append(counts, Count{Code: code.String(), Sentence: code.Sentence(), Kind: kindOf(code), Count: n, Share: unknown()})
		}
	}
	return counts
}

// usual tells of codes that say nothing about the policy.
func usual(c control.Code) bool {
	switch c {
	case control.OK, control.Waiting, control.Homing, control.Disabling, control.ShuttingDown, control.Enabled, control.Silent, control.HomeReached, control.DryRun:
		return true
	}
	return false
}

func kindOf(c control.Code) Kind {
	switch {
	case c == control.ClampedPosition, c == control.LimitedVelocity, c == control.LimitedAcceleration, c == control.LimitedJerk,
		c == control.LimitedStep, c == control.LimitedBrake:
		return Limit
	case c.Latched():
		return Stop
	case c.Halts():
		return Halt
	case c.Drops():
		return Drop
	}
	return Other
}
