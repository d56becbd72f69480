package control

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy/action"
)

// ride is what a hand-over rule makes of the same policy at one latency.
type ride struct {
	acceleration, jerk       float64 // peaks of joint commands, rad/s² and rad/s³
	rmsAcceleration, rmsJerk float64
	path                     float64 // rms distance from the motion, whatever the time, rad
	delay                    float64 // s behind it
	still                    float64 // share of time at rest
}

// rideWith drives for 20 s with chunks of 2 s at 20 Hz, at most ten a second, each
// from what was seen latency ago. Chunks disagree: each has an error of its own,
// 0.02 rad of every joint, that it keeps, and 2 mrad in every value.
//
// The decoder of Infill is simulated: rows that it is given come back as the
// centres of their bins (256 over 3.3 rad); from there it goes over to what the
// policy would have said with the falling confidence of the soft rows, which is
// what it is for, but no network was asked.
func rideWith(t failer, h HandOver, latency time.Duration) ride {
	r := newRigIn(t, func(c *Config) { c.Live.HandOver = h })
	r.sense()
	if err := r.e.Enable(r.now); err != nil {
		t.Fatal(err)
	}
	random := rand.New(rand.NewPCG(11, 12))
	bins := action.NewBins(256)
	var (
		next     Trajectory
		ready    time.Time // when it will be; zero while none is made
		begin    = r.now
		earliest = r.now
		commit   Commitment
		record   [][]float64
		out      ride
		n        float64
	)
	for r.now.Sub(begin) < 20*time.Second {
		if ready.IsZero() && !r.now.Before(earliest) && !r.e.NextInference(r.now).After(r.now) {
			next = r.predicted(40, 20, 0.02, 0.002, random)
			if h == Infill {
				r.e.Commit(&commit, r.now, r.now, latency+20*time.Millisecond, 20, 40)
				for i, v := range commit.Values {
					if i%7 == 6 {
						continue
					}
					c := commit.Confidence[i/14]
					if i/14 < commit.Frozen {
						v = -1.6 + (bins.Centre(bins.Of(2*(v+1.6)/3.3-1))+1)/2*3.3
					}
					next.Values[i] = c*v + (1-c)*next.Values[i]
				}
			}
			ready, earliest = r.now.Add(latency), r.now.Add(100*time.Millisecond)
		}
		if !ready.IsZero() && !r.now.Before(ready) {
			r.e.Replace(next, r.now)
			ready = time.Time{}
		}
		r.tick(r.e.Period())
		if r.now.Sub(begin) < 3*time.Second || !r.sent {
			continue // the start is not of interest
		}
		record = append(record, append([]float64{r.now.Sub(epoch0).Seconds()}, r.c.Positions...))
		if r.speed() < 1e-9 {
			out.still++
		}
		for j := range r.c.Positions {
			if j%7 == 6 {
				continue
			}
			a, jerk := math.Abs(r.divided(j, 2)), math.Abs(r.divided(j, 3))
			out.acceleration, out.jerk = max(out.acceleration, a), max(out.jerk, jerk)
			out.rmsAcceleration += a * a
			out.rmsJerk += jerk * jerk
			n++
		}
	}
	out.rmsAcceleration, out.rmsJerk = math.Sqrt(out.rmsAcceleration/n), math.Sqrt(out.rmsJerk/n)
	out.still /= float64(len(record))
	off := func(row []float64, delay float64) float64 {
		sum := 0.0
		for j := range 14 {
			if j%7 != 6 {
				d := row[1+j] - wave(j, row[0]-delay)
				sum += d * d
			}
		}
		return sum / 12
	}
	best := math.Inf(1)
	for d := -0.2; d < 2; d += 0.005 {
		sum := 0.0
		for _, row := range record {
			sum += off(row, d)
		}
		if sum < best {
			best, out.delay = sum, d
		}
	}
	for _, row := range record {
		nearest := math.Inf(1)
		for d := -1.0; d < 2; d += 0.01 {
			nearest = min(nearest, off(row, d))
		}
		out.path += nearest
	}
	out.path = math.Sqrt(out.path / float64(len(record)))
	return out
}

// The table that docs/motion.md shows: go test ./control -run Smoothness -v.
func TestSmoothnessOfTheHandOvers(t *testing.T) {
	var table strings.Builder
	table.WriteString("| latency | hand-over | peak acceleration, rad/s² | rms | peak jerk, rad/s³ | rms | off the path, mrad rms | delay, ms | at rest |\n|---|---|---|---|---|---|---|---|---|\n")
	rides := map[string]ride{}
	latencies := []int{50, 100, 300, 1000}
	if raced {
		latencies = latencies[1:2]
	}
	for _, ms := range latencies {
		for h := Replace; h <= OpenLoop; h++ {
			r := rideWith(t, h, time.Duration(ms)*time.Millisecond)
			rides[fmt.Sprint(h, ms)] = r
			fmt.Fprintf(&table, "| %d ms | %v | %.2f | %.2f | %.1f | %.1f | %.1f | %.0f | %.0f %% |\n",
				ms, h, r.acceleration, r.rmsAcceleration, r.jerk, r.rmsJerk, 1000*r.path, 1000*r.delay, 100*r.still)
		}
	}
	t.Logf("joints of both arms, limits 4 rad/s² and 50 rad/s³\n%s", table.String())
	for _, ms := range latencies {
		if ms > 300 {
			continue // more than a chunk can cover
		}
		replace := rides[fmt.Sprint(Replace, ms)]
		// Blend is not among these: the way to meet the new path is as smooth as its fade.
		for _, h := range []HandOver{Ensemble, Infill} {
			if r := rides[fmt.Sprint(h, ms)]; r.rmsAcceleration > 0.8*replace.rmsAcceleration {
				t.Errorf("%v at %d ms: %v rad/s² rms, replace %v", h, ms, r.rmsAcceleration, replace.rmsAcceleration)
			}
		}
		// Rows already executed are dropped, so that latency does not become delay.
		if math.Abs(replace.delay) > 0.05 || replace.still > 0 {
			t.Errorf("at %d ms the arms are %v s behind, %v of the time at rest", ms, replace.delay, replace.still)
		}
	}
}
