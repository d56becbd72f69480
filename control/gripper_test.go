package control

import (
	"math"
	"testing"
	"time"
)

func TestABinaryGripperDoesNotFlicker(t *testing.T) {
	const open, closed = 0.07, 0.0
	for _, c := range []struct {
		name  string
		rule  func(*GripperRule)
		shape func(row int) float64 // share of open
		opens int                   // changes of decision, begun closed
	}{
		{"around the threshold", nil, func(k int) float64 { return 0.5 + 0.09*float64(1-2*(k%2)) }, 0},
		{"a clear change", nil, func(k int) float64 { return float64(k / 20) }, 1},
		{"open, then closed", nil, func(k int) float64 { return float64(k / 8 % 2) }, 3},
		{"one row", func(g *GripperRule) { g.Dwell = 2 }, func(k int) float64 { return float64(1 - min(1, max(k-15, 15-k))) }, 0},
		{"alternating", func(g *GripperRule) { g.Dwell = 2 }, func(k int) float64 { return float64(k % 2) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(cfg *Config) {
				rule := BinaryGripper(open, closed)
				if c.rule != nil {
					c.rule(&rule)
				}
				for a := range cfg.Layout {
					cfg.Layout[a].Joints[6].Rule = rule
				}
			})
			r.measured[6], r.measured[13] = 0.001, 0.001
			r.enable()
			r.tick(r.e.Period())
			changes, was := 0, closed
			for at := 0; at < 28; at += 4 { // re-planned every 4 rows
				ch := r.chunk(12, 20, 0)
				for k := range 12 {
					ch.Values[k*14+6] = open * c.shape(at+k)
				}
				r.give(ch, OK)
				for range 10 {
					r.tick(r.e.Period())
					now := r.e.plan.value(r.e.plan.x(r.e.progress.total), 6, 14)
					if now != was && (now == open || now == closed) {
						changes, was = changes+1, now
					}
				}
			}
			if changes != c.opens {
				t.Errorf("changed its mind %d times, want %d", changes, c.opens)
			}
		})
	}
}

func TestAGripperRuleWithoutSenseIsRefused(t *testing.T) {
	for name, change := range map[string]func(*GripperRule){
		"close":      func(g *GripperRule) { g.Close = -0.01 },
		"order":      func(g *GripperRule) { g.Open = 0 },
		"infinite":   func(g *GripperRule) { g.Open = math.Inf(1) },
		"hysteresis": func(g *GripperRule) { g.Hysteresis = 1.2 },
		"threshold":  func(g *GripperRule) { g.Threshold = 0.95 },
		"dwell":      func(g *GripperRule) { g.Dwell = 0 },
		"nan":        func(g *GripperRule) { g.Threshold = math.NaN() },
	} {
		c := DefaultConfig(cobotMagic())
		rule := BinaryGripper(0.07, 0)
		change(&rule)
		c.Layout[0].Joints[6].Rule = rule
		if _, err := New(c); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
	if err := BinaryGripper(0.07, 0).Validate(); err != nil {
		t.Error(err)
	}
}

func TestGripperUnitsConvertBothWaysAndAreNeverSentNegative(t *testing.T) {
	for _, c := range []struct {
		units         GripperUnits
		metres, there float64
	}{
		{GripperUnits{}, 0.05, 0.05},
		{GripperUnits{Scale: 0.5}, 0.07, 0.035},              // one finger, as in the URDF
		{GripperUnits{Scale: 1 / 0.07}, 0.035, 0.5},          // 0 to 1
		{GripperUnits{Scale: -1 / 0.07, Offset: 1}, 0.07, 0}, // 1 is closed
		{GripperUnits{Offset: -0.003}, 0.01, 0.007},          // a zero point that is off
		{GripperUnits{Scale: -1 / 0.07, Offset: 1}, 0, 1},    //
		{GripperUnits{Scale: 1e6}, 0.07, 70000},              // micrometres
	} {
		if got := c.units.ToDriver(c.metres); math.Abs(got-c.there) > 1e-9 {
			t.Errorf("%+v: %v m is %v, want %v", c.units, c.metres, got, c.there)
		}
		if got := c.units.FromDriver(c.there); math.Abs(got-c.metres) > 1e-9 {
			t.Errorf("%+v: %v is %v m, want %v", c.units, c.there, got, c.metres)
		}
	}
	if got := (GripperUnits{}).ToDriver(-0.003); got != 0 {
		t.Errorf("-3 mm is sent as %v, which would open", got)
	}
}

// An offset or an L1 head may give a little less than closed; the driver would
// take its absolute value.
func TestANegativeOpeningIsNeverCommanded(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	for range 20 {
		c := r.chunk(8, 20, 0)
		for k := range 8 {
			c.Values[k*14+6] = -0.02
		}
		r.give(c, OK)
		for range 5 {
			r.tick(r.e.Period())
			if r.sent && r.c.Positions[6] < 0 {
				t.Fatalf("commanded %v", r.c.Positions[6])
			}
		}
	}
	r.run(time.Second)
}
