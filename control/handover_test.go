package control

import (
	"math"
	"testing"
	"time"
)

func TestHandOverSkipsTheRowsAlreadyExecuted(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(40, 20, 0.01), OK) // 0.2 rad/s
	r.run(800 * time.Millisecond)

	// The next chunk sees this moment, continues the same motion, and takes
	// 200 ms to compute: its first 4 rows are then in the past.
	next := r.chunk(20, 20, 0.01)
	r.run(200 * time.Millisecond)
	before := r.e.Status().Counters.RowsSkipped
	r.give(next, OK)
	if got := r.e.Status().Counters.RowsSkipped - before; got != 4 {
		t.Fatalf("skipped %d rows", got)
	}
	v := r.c.Velocities[0]
	for range 20 {
		r.tick(r.e.Period())
		if math.Abs(r.c.Velocities[0]-v) > 1e-6 {
			t.Fatalf("the seam shows: %v after %v", r.c.Velocities[0], v)
		}
	}
}

func TestTimeTheArmsStoodDoesNotSkipRows(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.run(100 * time.Millisecond)
	c := r.chunk(8, 20, 0.01)
	r.run(time.Second)
	r.give(c, OK)
	if got := r.e.Status().Counters.RowsSkipped; got != 0 {
		t.Fatalf("skipped %d rows though nothing was executed", got)
	}
	r.run(400 * time.Millisecond)
	if got := r.c.Positions[0]; math.Abs(got-(home[0]+0.08)) > 1e-4 {
		t.Fatalf("came to %v", got)
	}
}

func TestASlowModelHaltsSmoothlyBetweenChunksAndGoesOn(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	halts, moved := 0, r.pose()[0]
	mode := Holding
	for range 10 { // 1.2 s a chunk, 8 rows at 20 Hz: 0.4 s
		c := r.chunk(8, 20, 0.01)
		for range 60 {
			r.tick(r.e.Period())
			if m := r.e.Status().Mode; m != mode {
				if mode = m; m == Holding {
					halts++
				}
			}
		}
		switch code := r.e.Replace(c, r.now); code {
		case OK, DroppedLate: // the part of the last chunk that it repeats was executed
		default:
			t.Fatal(code)
		}
	}
	moved = r.pose()[0] - moved
	if halts < 4 || moved < 4*0.08 {
		t.Fatalf("%d halts, moved %v", halts, moved)
	}
}

func TestAChunkIsDroppedAndCountedWithItsReason(t *testing.T) {
	moving := func(change func(*Config)) *rig {
		r := newRig(t, change)
		r.enable()
		r.give(r.chunk(40, 20, 0.01), OK)
		r.run(time.Second)
		return r
	}
	for _, c := range []struct {
		want  Code
		make  func(*rig) Trajectory
		setup func(*Config)
	}{
		{want: DroppedLate, make: func(r *rig) Trajectory {
			c := r.chunk(8, 20, 0.01)
			r.run(400 * time.Millisecond)
			return c
		}},
		{want: DroppedReordered, make: func(r *rig) Trajectory {
			a, b := r.chunk(8, 20, 0.01), r.chunk(8, 20, 0.01)
			b.Stamp = b.Stamp.Add(50 * time.Millisecond)
			r.run(100 * time.Millisecond)
			r.give(b, OK)
			return a
		}},
		{want: DroppedReordered, make: func(r *rig) Trajectory {
			a := r.chunk(8, 20, 0.01)
			r.give(a, OK)
			return a // a copy
		}},
		{want: DroppedEpoch, make: func(r *rig) Trajectory {
			a := r.chunk(8, 20, 0.01)
			r.e.Flush(r.now)
			r.tick(r.e.Period())
			return a
		}},
		{want: DroppedFuture, make: func(r *rig) Trajectory {
			a := r.chunk(8, 20, 0.01)
			a.Stamp = r.now.Add(time.Second)
			return a
		}},
		{want: DroppedStale, make: func(r *rig) Trajectory {
			a := r.chunk(100, 20, 0)
			r.run(400 * time.Millisecond)
			return a
		}, setup: func(c *Config) { c.MaxObservationAge = 300 * time.Millisecond }},
		{want: DroppedStale, make: func(r *rig) Trajectory {
			a := r.chunk(100, 20, 0)
			r.cameras = false
			r.run(600 * time.Millisecond)
			return a
		}},
		{want: DroppedShape, make: func(r *rig) Trajectory {
			a := r.chunk(8, 20, 0.01)
			a.Values = a.Values[1:]
			return a
		}},
		{want: DroppedShape, make: func(r *rig) Trajectory { return Trajectory{Stamp: r.now, Rate: 20, Epoch: r.e.Epoch()} }},
		{want: DroppedShape, make: func(r *rig) Trajectory {
			a := r.chunk(8, 20, 0.01)
			a.Rate = math.NaN()
			return a
		}},
	} {
		t.Run(c.want.String(), func(t *testing.T) {
			r := moving(c.setup)
			bad := c.make(r)
			dropped, taken := r.e.Status().Counters.Dropped(), r.e.Status().Counters.Chunks
			r.give(bad, c.want)
			k := r.e.Status().Counters
			if k.Dropped() != dropped+1 || k.ByCode[c.want] != 1 || k.Chunks != taken {
				t.Fatalf("counted %d dropped, %d of %v, %d taken", k.Dropped()-dropped, k.ByCode[c.want], c.want, k.Chunks-taken)
			}
			r.run(time.Second)
		})
	}
}

func TestChunksBegunBeforeEnableOrAStopDoNotMoveTheArms(t *testing.T) {
	r := newRig(t, nil)
	r.sense()
	c := r.chunk(8, 20, 0.02)
	r.enable()
	r.give(c, DroppedEpoch)
	c = r.chunk(40, 20, 0.02)
	r.e.Disable(r.now)
	r.run(time.Second)
	r.enable()
	r.give(c, DroppedEpoch)
}

func TestMaxChunkAgeHaltsBeforeTheRowsEnd(t *testing.T) {
	r := newRig(t, func(c *Config) { c.MaxChunkAge = 500 * time.Millisecond })
	r.enable()
	r.give(r.chunk(40, 20, 0.01), OK)
	r.run(500 * time.Millisecond)
	if r.c.Mode != Moving {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.tick(r.e.Period())
	if r.c.Mode != Stopping || r.c.Code != ChunkStale {
		t.Fatal(r.c.Mode, r.c.Code)
	}
}

func TestAHandOverThatDisagreesIsJoinedWithinTheLimits(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	for i := range 40 {
		c := r.chunk(16, 20, 0.03)
		if i%2 == 1 { // the other way, from 0.4 rad off
			c = r.chunk(16, 20, -0.03)
			for k := range c.Values {
				if k%7 != 6 {
					c.Values[k] -= 0.3
				}
			}
		}
		r.give(c, OK)
		r.run(100 * time.Millisecond) // checked at every tick
		if r.e.Status().Mode != Moving {
			t.Fatal(r.e.Status())
		}
	}
}

func TestProgressIsWhatTheArmsWentThrough(t *testing.T) {
	at := func(s float64) time.Time { return epoch0.Add(seconds(s)) }
	p := newProgress(2 * time.Second)
	p.mark(at(1))
	p.advance(at(1.5), 0.5)
	p.advance(at(2), 0.25) // at half the pace
	p.mark(at(2))
	p.mark(at(5))
	p.advance(at(6), 1)
	for _, w := range []struct{ from, want float64 }{
		{0, 1.75}, {1.25, 1.5}, {1.75, 1.125}, {2, 1}, {3, 1}, {5, 1}, {5.5, 0.5}, {6, 0}, {7, 0},
	} {
		if got := p.total - p.when(at(w.from)); math.Abs(got-w.want) > 1e-9 {
			t.Errorf("since %v: %v, want %v s", w.from, got, w.want)
		}
	}
	for i := range 2000 { // what is forgotten counts as moving
		p.mark(at(10 + float64(i)))
		p.advance(at(10.5+float64(i)), 0.5)
	}
	if got := p.total - p.when(at(10)); got < 1000 {
		t.Errorf("forgot that the arms moved: %v", got)
	}
}

// A policy that sees where the arm is and heads for a goal, with chunks of 0.4 s ten
// times a second, gets it there about as soon as it means to, whatever the latency,
// the driver's lag and the rule: nothing in the hand-over holds the loop back or
// drives it past the goal.
func TestAClosedLoopReachesItsGoal(t *testing.T) {
	const goal, speed, rate, rows = 0.9, 0.6, 20.0, 8
	for _, h := range []HandOver{Replace, Blend, Ensemble, Infill, OpenLoop} {
		for _, latency := range []int{3, 5, 10} { // ticks
			for _, lag := range []float64{0, 0.5, 0.8} {
				r := newRig(t, func(c *Config) { c.Live.HandOver, c.Live.OpenLoopRows = h, 2 })
				r.lag = lag
				r.enable()
				type made struct {
					c   Trajectory
					due int
				}
				var pending []made
				reached, past := math.Inf(1), 0.0
				for i := range 300 {
					if i%5 == 0 {
						c := r.chunk(rows, rate, 0)
						for k := range rows {
							way := min(speed*float64(k+1)/rate, math.Abs(goal-r.measured[0]))
							c.Values[k*14] = r.measured[0] + math.Copysign(way, goal-r.measured[0])
						}
						pending = append(pending, made{c, i + latency})
					}
					for len(pending) > 0 && pending[0].due <= i {
						r.e.Replace(pending[0].c, r.now)
						pending = pending[1:]
					}
					r.tick(r.e.Period())
					if math.Abs(r.measured[0]-goal) < 0.01 {
						reached = min(reached, float64(i)*0.02)
					}
					past = max(past, r.measured[0]-goal)
				}
				least := (goal - home[0]) / speed
				if reached > 1.8*least+0.3 || past > 0.05 || math.Abs(r.measured[0]-goal) > 0.01 {
					t.Errorf("%v, latency %d ms, lag %v: reached after %.2f s, %.3f rad past, ends at %.3f", h, 20*latency, lag, reached, past, r.measured[0])
				}
			}
		}
	}
}
