package control

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// adversary makes chunks as no sane policy would.
func (r *rig) adversary(kind int, random *rand.Rand) Trajectory {
	rows := 1 + random.IntN(24)
	t := Trajectory{Stamp: r.now, Rate: []float64{5, 10, 20, 50, 200}[random.IntN(5)], Epoch: r.e.Epoch()}
	for k := range rows {
		for j := range r.e.joints {
			l := r.e.joints[j].Limits
			p := r.e.position[j]
			switch kind {
			case 0: // a smooth motion
				p += 0.02 * float64(k+1) * (random.Float64() - 0.3)
			case 1: // anywhere
				p = l.Lower + random.Float64()*(l.Upper-l.Lower)
			case 2: // alternating extremes
				p = l.Lower
				if k%2 == 1 {
					p = l.Upper
				}
			case 3: // just beyond
				p = l.Upper + 0.04
			case 4: // far beyond
				p = l.Upper + 3*random.Float64()
			case 5: // the largest numbers there are
				p = math.Copysign(math.MaxFloat64, random.Float64()-0.5)
			case 6:
				if random.IntN(10) == 0 {
					p = math.NaN()
				}
			case 7: // zeros
				p = 0
			}
			t.Values = append(t.Values, p)
		}
	}
	return t
}

// Whatever chunks come, late, twice or out of order, whatever sensors stop,
// whatever the clock does and whoever presses what: the checker of the rig
// holds every command against position, velocity, acceleration and step limits,
// and an e-stop or silence has its effect on the very next command.
func TestNoCommandEverViolatesALimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRigIn(t, func(c *Config) {
			c.CommandRate = rapid.SampledFrom([]float64{10, 50, 125, 200}).Draw(t, "rate")
			if rapid.Bool().Draw(t, "fast") {
				for _, a := range c.Layout {
					for j := range a.Joints {
						a.Joints[j].Limits.Velocity *= 3
					}
				}
			}
		})
		r.lag = rapid.Float64Range(0, 0.99).Draw(t, "lag")
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		for j := range r.measured { // start anywhere, even somewhat outside
			l := r.e.joints[j].Limits
			r.measured[j] = l.Lower - 0.05 + random.Float64()*(l.Upper-l.Lower+0.1)
		}
		r.sense()
		_ = r.e.Enable(r.now)
		var kept []Trajectory // to come late, twice, or out of order
		for range rapid.IntRange(20, 250).Draw(t, "ticks") {
			estop := false
			switch event := rapid.IntRange(0, 39).Draw(t, "event"); {
			case event < 8:
				r.e.Replace(r.adversary(event, random), r.now)
			case event < 16:
				kept = append(kept, r.adversary(rapid.SampledFrom([]int{0, 0, 1, 2, 3, 7}).Draw(t, "kind"), random))
			case event < 22 && len(kept) > 0:
				r.e.Replace(kept[random.IntN(len(kept))], r.now)
			case event == 22:
				r.cameras = !r.cameras
			case event == 23:
				r.feedback = !r.feedback
			case event == 24:
				r.e.Estop(r.now)
				estop = true
			case event == 25:
				r.e.Disable(r.now)
			case event == 26:
				r.e.Flush(r.now)
			case event == 27:
				j := random.IntN(len(r.stuck))
				r.stuck[j] = !r.stuck[j]
			case event < 31:
				r.cameras, r.feedback = true, true
				clear(r.stuck)
				_ = r.e.Enable(r.now)
			}
			d := r.e.Period()
			switch rapid.IntRange(0, 29).Draw(t, "clock") {
			case 0:
				d = -time.Hour
			case 1:
				d = time.Hour
			case 2:
				d = time.Duration(random.Int64N(int64(10 * r.e.Period())))
			case 3:
				d = 0
			case 4:
				d = r.e.Period() / 7
			}
			speed, sent, following := r.speed(), r.commands > 0, r.e.Status().Mode == Moving
			velocity, accel := r.moving()
			r.tick(d)
			if estop && r.sent && !r.c.First && (r.c.Code != Estop || r.speed() > speed && speed > 0) {
				t.Fatalf("after an e-stop: %v at speed %v after %v", r.c.Code, r.speed(), speed)
			}
			if following && sent && r.sent && !r.c.First {
				silence := !r.cameras && r.now.Sub(r.e.observed) > r.cfg.ObservationTimeout ||
					!r.feedback && r.now.Sub(r.e.fed[0]) > r.cfg.FeedbackTimeout
				if silence && (r.c.Mode == Moving || !r.brakes(velocity, accel)) {
					t.Fatalf("in silence: %v, accelerating at %v after %v", r.c.Mode, r.e.accel, accel)
				}
			}
		}
		// Left alone, the arms come to rest and stay.
		r.cameras, r.feedback = false, false
		r.lag = 0
		clear(r.stuck)
		r.run(4 * time.Second)
		rest := r.pose()
		r.run(time.Second)
		for j, p := range r.pose() {
			if p != rest[j] {
				t.Fatalf("%s rests at %v, then %v", r.e.names[j], rest[j], p)
			}
		}
	})
}
