package control

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// A judge that acquits everybody proves nothing. Each fault here is planted in the
// executor's limits, in the calls it gets or in the commands it gave, as a filter
// that is broken in this way would give them; within a few hundred scenarios, most within ten, the
// judge must find it, and name the right promise.
func TestTheJudgeNoticesEveryPlantedFault(t *testing.T) {
	widen := func(change func(*Limits)) func(*Config) {
		return func(c *Config) {
			for a := range c.Layout {
				for j := range c.Layout[a].Joints {
					change(&c.Layout[a].Joints[j].Limits)
				}
			}
		}
	}
	held := make([]float64, 14)
	for name, c := range map[string]struct {
		sab     sabotage
		promise string
		from    uint64 // the first scenario
	}{
		"velocity 5 % too high": {sabotage{config: widen(func(l *Limits) { l.Velocity *= 1.05 })}, "no joint faster than its limit", 1},
		"step limit too high": {sabotage{config: func(c *Config) {
			c.CommandRate = 10
			widen(func(l *Limits) { l.Step *= 1.5 })(c)
		}}, "no step beyond its limit", 1},
		"acceleration 10 % too high": {sabotage{config: widen(func(l *Limits) { l.Acceleration *= 1.1 })}, "no acceleration beyond its limit", 1},
		"jerk 10 % too high":         {sabotage{config: widen(func(l *Limits) { l.Jerk *= 1.1 })}, "no jerk beyond its limit", 1},
		"position limits 1 mrad too wide": {sabotage{config: widen(func(l *Limits) {
			l.Upper += 1e-3
			if l.Lower != 0 { // a gripper's is never below
				l.Lower -= 1e-3
			}
		})}, "no command outside the limits", 1},
		"images may be older":       {sabotage{config: func(c *Config) { c.ObservationTimeout *= 2 }}, "silence is noticed within one period", 1},
		"joints may be older":       {sabotage{config: func(c *Config) { c.FeedbackTimeout *= 2 }}, "silence is noticed within one period", 1},
		"drivers may be silent":     {sabotage{config: func(c *Config) { c.DriverTimeout *= 3 }}, "silence is noticed within one period", 1},
		"following error too large": {sabotage{config: func(c *Config) { c.FollowingTolerance *= 10; c.StillTolerance = 100 }}, "silence is noticed within one period", 1200},
		"old chunks are taken":      {sabotage{config: func(c *Config) { c.MaxObservationAge = time.Hour }}, "stale chunks are dropped", 1},
		"the deadman is ignored":    {sabotage{config: func(c *Config) { c.Live.DeadmanTimeout *= 5 }, deadman: 300 * time.Millisecond}, "silence is noticed within one period", 1},
		"epochs are ignored":        {sabotage{hurried: true}, "chunks begun before a reset are dropped", 1},
		"NaN is taken for 0":        {sabotage{unchecked: true}, "nothing follows a chunk that is not finite", 1},
		"an e-stop is lost":         {sabotage{estop: true}, "an e-stop wins on the next command", 1},
		"a disable is lost":         {sabotage{disable: true}, "silence is noticed within one period", 1},
		"an e-stop is soft": {sabotage{config: widen(func(l *Limits) { l.Deceleration = l.Acceleration })},
			"an e-stop wins on the next command", 1},
		"zeros instead of a hold": {sabotage{command: func(p, _ []float64, s Status, _ *rand.Rand) {
			if s.Counters.Commands > 9 && (s.Mode == Held || s.Mode == Holding) {
				clear(p)
			}
		}}, "no step beyond its limit", 1},
		"the hold pose follows the measurement": {sabotage{command: func(p, measured []float64, s Status, _ *rand.Rand) {
			if s.Mode == Held || s.Mode == Estopped {
				copy(p, measured)
			}
		}}, "the hold pose stays", 1},
		"one command in a hundred is lost and made up for": {sabotage{command: func(p, _ []float64, _ Status, random *rand.Rand) {
			if random.IntN(100) > 0 {
				copy(held, p)
			}
			copy(p, held)
		}}, "no jerk beyond its limit", 1},
		"a number that is not finite": {sabotage{command: func(p, _ []float64, _ Status, random *rand.Rand) {
			if random.IntN(1000) == 0 {
				p[3] = math.NaN()
			}
		}}, "commands are finite", 1},
		"arms start from the last command": {sabotage{command: func(p, _ []float64, s Status, _ *rand.Rand) {
			if s.Counters.Commands == 1 {
				for j := range p {
					p[j] += 0.1
				}
			}
		}}, "arms start from where they are", 1},
	} {
		t.Run(name, func(t *testing.T) {
			var faults []string
			for seed := c.from; seed < c.from+400; seed++ {
				faults = append(faults, play(seed, c.sab, &tally{})...)
				if slices.ContainsFunc(faults, func(f string) bool { return strings.Contains(f, c.promise) }) {
					t.Logf("found by scenario %d", seed-c.from+1)
					return
				}
			}
			t.Errorf("400 scenarios did not break %q; they broke %q", c.promise, faults[:min(len(faults), 3)])
		})
	}
}
