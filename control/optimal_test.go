package control

import (
	"math"
	"testing"
	"time"
)

// fastestAlong returns the least time from rest to rest along a path, s from 0 to 1,
// within the joints' velocity and acceleration limits: the classic phase-plane method
// (Bobrow, Dubowsky, Gibson 1985), forwards at the largest and backwards at the
// smallest acceleration that all joints allow. It knows no jerk limits, so nothing that
// keeps those can be as fast.
func fastestAlong(path func(s float64) []float64, velocity, acceleration float64) float64 {
	const n = 4000
	const h = 1.0 / n
	type slope struct{ first, second []float64 }
	slopes := make([]slope, n+1)
	limit := make([]float64, n+1) // of the square of ds/dt
	for i := range slopes {
		s := min(max(float64(i)*h, 1e-4), 1-1e-4)
		a, b, c := path(s-1e-4), path(s), path(s+1e-4)
		limit[i] = math.Inf(1)
		for j := range b {
			d, dd := (c[j]-a[j])/2e-4, (c[j]-2*b[j]+a[j])/1e-8
			slopes[i].first, slopes[i].second = append(slopes[i].first, d), append(slopes[i].second, dd)
			if d != 0 {
				limit[i] = min(limit[i], velocity*velocity/(d*d))
			}
			if math.Abs(d) < 1e-6 && dd != 0 {
				limit[i] = min(limit[i], acceleration/math.Abs(dd))
			}
		}
	}
	// between returns the accelerations along the path that all joints allow.
	between := func(i int, square float64) (lo, hi float64) {
		lo, hi = math.Inf(-1), math.Inf(1)
		for j, d := range slopes[i].first {
			if math.Abs(d) < 1e-6 {
				continue
			}
			bend := slopes[i].second[j] * square
			x, y := (-acceleration-bend)/d, (acceleration-bend)/d
			lo, hi = max(lo, min(x, y)), min(hi, max(x, y))
		}
		return lo, hi
	}
	// Where no acceleration is allowed at all the arm is too fast for the bend.
	for i := range limit {
		for range 200 {
			if lo, hi := between(i, limit[i]); lo <= hi || limit[i] < 1e-9 {
				break
			}
			limit[i] *= 0.97
		}
	}
	square := make([]float64, n+1)
	for i := range n {
		_, hi := between(i, square[i])
		square[i+1] = min(limit[i+1], max(square[i]+2*h*hi, 1e-9))
	}
	square[n] = 0
	for i := n; i > 0; i-- {
		lo, _ := between(i, square[i])
		square[i-1] = min(square[i-1], max(square[i]-2*h*lo, 1e-9))
	}
	time := 0.0
	for i := range n {
		time += 2 * h / (math.Sqrt(square[i]) + math.Sqrt(square[i+1]))
	}
	return time
}

// How near the arms come to the least time in which a path that is asked for three
// times too fast can be driven: go test ./control -run LeastTime -v.
func TestPathsAreDrivenInLittleMoreThanTheLeastTime(t *testing.T) {
	smooth := func(s float64) float64 { return s * s * (3 - 2*s) }
	for name, shape := range map[string]func(s float64) (left1, left4, right2 float64){
		"a line": func(s float64) (a, b, c float64) { return 1.2 * s, -0.4 * s, 0.6 * s },
		"an arc": func(s float64) (a, b, c float64) { return 0.8 * math.Sin(2*s), 0.8 * (1 - math.Cos(2*s)), 0.3 * s },
		"an S": func(s float64) (a, b, c float64) {
			return 1.0 * s, 0.25 * math.Sin(2*math.Pi*s), -0.25 * math.Sin(2*math.Pi*s)
		},
		"a return": func(s float64) (a, b, c float64) {
			return 0.6 * math.Sin(math.Pi*s), 0.3 * s, 0.6 * math.Sin(math.Pi*s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, nil)
			r.enable()
			r.tick(r.e.Period())
			begin := r.now
			// In a third of the time that it takes at the limits.
			least := fastestAlong(func(s float64) []float64 { a, b, c := shape(s); return []float64{a, b, c} },
				r.e.joints[0].Limits.Velocity, r.e.joints[0].Limits.Acceleration)
			const rows, rest = 60, 20 // and then the end, at which the arms are to be
			chunk := r.chunk(rows+rest, rows/(least/3), 0)
			for k := range rows + rest {
				a, b, c := shape(smooth(min(1, float64(k+1)/rows)))
				chunk.Values[k*14+0] += a
				chunk.Values[k*14+3] += b
				chunk.Values[k*14+8] += c
			}
			end := chunk.Values[(rows+rest-1)*14:]
			r.give(chunk, OK)
			arrived := func() bool {
				for j, p := range r.c.Positions {
					if math.Abs(p-end[j]) > 1e-3 {
						return false
					}
				}
				return true
			}
			for !arrived() {
				r.tick(r.e.Period())
				if r.now.Sub(begin) > time.Minute {
					t.Fatalf("never arrived: %v, %v, joints %v, want %v", r.c.Code, r.c.Mode, r.c.Positions, end)
				}
			}
			took := r.now.Sub(begin).Seconds()
			t.Logf("%s: least time %.2f s, without jerk limits; driven in %.2f s, %.2f times as long", name, least, took, took/least)
			if took < least {
				t.Errorf("driven in %v s, faster than %v s, which is possible: the bound is wrong, or the limits are broken", took, least)
			}
			if took > 2*least {
				t.Errorf("driven in %v s, more than twice %v s", took, least)
			}
		})
	}
}
