package control

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// planOf makes a plan of one joint within its limits.
func planOf(l Limits, gripper bool, rows ...float64) *plan {
	p := &plan{active: true, period: 0.05, rows: len(rows), seam: make([]float64, 1), seamed: make([]float64, 1)}
	p.values, p.within = rows, append([]float64(nil), rows...)
	p.pace, p.slow = make([]float64, len(rows)), make([]Code, len(rows))
	p.setPace([]Joint{{Name: "joint1", Gripper: gripper, Limits: l}}, 0.02)
	return p
}

// at is the position, velocity and acceleration of a plan of one joint.
func (p *plan) testAt(x float64, kind Interpolation, monotone bool) motion {
	at := p.place(x, kind)
	return p.state(&at, 0, 1, monotone)
}

func TestEveryInterpolationPassesThroughTheRowsWithoutAJump(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Float64Range(-1, 1), 1, 12).Draw(t, "rows")
		p := planOf(RevoluteLimits(-2, 2), false, rows...)
		p.seamX, p.seam[0] = -0.7, rapid.Float64Range(-1, 1).Draw(t, "seam")
		monotone := rapid.Bool().Draw(t, "monotone")
		for kind := Cubic; kind <= Quintic; kind++ {
			for k, want := range rows {
				if got := p.testAt(float64(k), kind, monotone).p; math.Abs(got-want) > 1e-9 {
					t.Fatalf("%v: row %d is %v, not %v", kind, k, got, want)
				}
			}
			if got := p.testAt(p.seamX, kind, monotone).p; math.Abs(got-p.seam[0]) > 1e-9 {
				t.Fatalf("%v: begins at %v, not %v", kind, got, p.seam[0])
			}
			// Velocities are the path's: compared with differences, in small steps.
			const d = 1e-5
			for x := p.seamX + 0.01; x < float64(len(rows)-1)-0.01; x += 0.037 {
				if kind == Linear && math.Abs(x-math.Round(x)) < 2*d {
					continue
				}
				v := (p.testAt(x+d, kind, monotone).p - p.testAt(x-d, kind, monotone).p) / (2 * d)
				if got := p.testAt(x, kind, monotone).v; math.Abs(got-v) > 1e-3 {
					t.Fatalf("%v: velocity %v at %v, by differences %v", kind, got, x, v)
				}
			}
		}
	})
}

func TestCubicIsSmoothAtTheRowsAndQuinticIsSmootherStill(t *testing.T) {
	p := planOf(RevoluteLimits(-2, 2), false, 0, 0.1, 0.4, 0.3, -0.2, 0, 0.5)
	const d = 1e-6
	for k := 1; k < 6; k++ {
		for _, kind := range []Interpolation{Cubic, Quintic} {
			before, after := p.testAt(float64(k)-d, kind, false), p.testAt(float64(k)+d, kind, false)
			if math.Abs(before.v-after.v) > 1e-4 {
				t.Errorf("%v: velocity jumps from %v to %v at row %d", kind, before.v, after.v, k)
			}
			if change := (after.v - before.v) / (2 * d); kind == Quintic && math.Abs(change-p.second(k, 0, 1)) > 1e-2 {
				t.Errorf("acceleration %v at row %d, want the second difference %v", change, k, p.second(k, 0, 1))
			}
		}
	}
	// A parabola's tangents are its central differences, so the cubic is exact on it.
	square := planOf(RevoluteLimits(-2, 2), false, 0, 0.01, 0.04, 0.09, 0.16, 0.25)
	for x := 1.0; x < 4; x += 0.1 {
		if got := square.testAt(x, Cubic, false); math.Abs(got.p-0.01*x*x) > 1e-12 || math.Abs(got.a-0.02) > 1e-12 {
			t.Errorf("at %v: %+v", x, got)
		}
	}
}

// What lies between two openings of a gripper is never wider or narrower than
// both, which plain central differences do not promise.
func TestAGripperNeverOvershootsBetweenRows(t *testing.T) {
	overshoots := 0
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.SliceOfN(rapid.Float64Range(0, 0.07), 2, 10).Draw(t, "rows")
		p := planOf(GripperLimits(0.07), true, rows...)
		for x := 0.0; x < float64(len(rows)-1); x += 0.05 {
			k := int(x)
			lo, hi := min(rows[k], rows[k+1])-1e-12, max(rows[k], rows[k+1])+1e-12
			if got := p.testAt(x, Cubic, true).p; got < lo || got > hi {
				t.Fatalf("%v between %v and %v", got, lo, hi)
			}
			if got := p.testAt(x, Cubic, false).p; got < lo || got > hi {
				overshoots++
			}
		}
	})
	if overshoots == 0 {
		t.Error("the comparison shows nothing: central differences never overshot either")
	}
}

// The rows swing between the limits; a spline would leave them.
func TestInterpolationDoesNotLeaveTheLimits(t *testing.T) {
	for kind := Cubic; kind <= Quintic; kind++ {
		r := newRig(t, func(c *Config) { c.Live.Interpolation = kind })
		r.measured[1], r.measured[6] = 0.02, 0.002
		r.enable()
		c := r.chunk(60, 10, 0)
		overshoots := false
		for k := range 60 {
			c.Values[k*14+1] = []float64{0, 0, 0.1, 0.1}[k%4]
			c.Values[k*14+6] = []float64{0, 0, 0.02, 0.02}[k%4]
		}
		r.give(c, OK)
		for range 250 {
			r.tick(r.e.Period()) // the checker holds it against the limits
			at := r.e.plan.place(r.e.plan.x(r.e.progress.total), kind)
			overshoots = overshoots || r.e.plan.state(&at, 1, 14, false).p < -1e-4
		}
		if kind != Linear && !overshoots {
			t.Errorf("%v: the spline itself stays inside, which tests nothing", kind)
		}
		if r.c.Mode != Moving {
			t.Errorf("%v: %v by %v", kind, r.c.Mode, r.c.Code)
		}
	}
}

func TestInterpolationsAreParsedByTheirNames(t *testing.T) {
	for i := Cubic; i <= Quintic; i++ {
		if got, err := ParseInterpolation(i.String()); got != i || err != nil {
			t.Errorf("%v: %v, %v", i, got, err)
		}
	}
	for h := Replace; h <= OpenLoop; h++ {
		if got, err := ParseHandOver(h.String()); got != h || err != nil {
			t.Errorf("%v: %v, %v", h, got, err)
		}
	}
	if _, err := ParseInterpolation("bezier"); err == nil {
		t.Error("bezier taken")
	}
	if _, err := ParseHandOver("hope"); err == nil {
		t.Error("hope taken")
	}
	if Interpolation(9).String() != "interpolation_9" || HandOver(9).String() != "hand_over_9" {
		t.Error(Interpolation(9), HandOver(9))
	}
}

func TestThePaceFallsInTimeForAPartThatIsTooFast(t *testing.T) {
	rows := make([]float64, 60)
	for k := range rows {
		rows[k] = 0.01 * float64(k) // 0.2 rad/s
		if k > 30 {
			rows[k] += 0.1 * float64(min(k, 40)-30) // 2.2 rad/s for half a second
		}
	}
	p := planOf(RevoluteLimits(-9, 9), false, rows...)
	if pace, why := p.paceAt(35); math.Abs(pace-0.98/2.2) > 1e-6 || why != LimitedVelocity {
		t.Errorf("pace %v by %v where the path is fast", pace, why)
	}
	if pace, why := p.paceAt(5); pace != fastestPace || why != OK {
		t.Errorf("pace %v by %v far ahead of it", pace, why)
	}
	for k := range rows[1:] {
		if before, after := p.pace[k], p.pace[k+1]; before*before > after*after+2*paceChange*p.period+1e-9 {
			t.Errorf("pace falls from %v to %v in one row", before, after)
		}
	}
}

// A plan slower than its clock is caught up with where the path allows it.
func TestTheArmsCatchUpAfterASlowPart(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.tick(r.e.Period())
	start := r.pose()[0]
	c := r.chunk(100, 20, 0)
	for k := range 100 {
		way := 0.01 * float64(k)
		if k > 20 {
			way += 0.06 * float64(min(k, 30)-20) // 1.4 rad/s for half a second
		}
		c.Values[k*14] += way
	}
	r.give(c, OK)
	slowest, farthest := 1.0, 0.0
	for range 200 { // to row 80
		r.tick(r.e.Period())
		clock := int(r.now.Sub(c.Stamp).Seconds()*20) - 1
		if clock > 0 {
			farthest = max(farthest, c.Values[min(clock, 99)*14]-r.c.Positions[0])
		}
		slowest = min(slowest, r.e.Status().Pace)
	}
	if slowest > 0.75 || farthest < 0.05 {
		t.Fatalf("pace %v, %v rad behind: nothing to catch up with", slowest, farthest)
	}
	want := start + 0.01*79 + 0.6
	if got := r.c.Positions[0]; math.Abs(got-want) > farthest/5 || math.Abs(r.e.Status().Pace-1) > 0.1 {
		t.Errorf("at %v of %v, pace %v", got, want, r.e.Status().Pace)
	}
}

func TestSpeedScaleSlowsTheSamePath(t *testing.T) {
	run := func(scale float64) (path [][2]float64, fastest float64, r *rig) {
		r = newRig(t, func(c *Config) { c.Live.SpeedScale = scale })
		r.enable()
		r.tick(r.e.Period())
		c := r.chunk(40, 20, 0)
		for k := range 40 {
			s := float64(k+1) / 20
			c.Values[k*14] += 0.2 * (1 - math.Cos(2*s))
			c.Values[k*14+1] += 0.15 * math.Sin(2*s) * math.Sin(2*s)
		}
		r.give(c, OK)
		for range int(2 / scale / r.e.Period().Seconds()) {
			r.tick(r.e.Period())
			path = append(path, [2]float64{r.c.Positions[0], r.c.Positions[1]})
			fastest = max(fastest, r.speed())
		}
		return path, fastest, r
	}
	full, fast, _ := run(1)
	slow, crawl, r := run(0.25)
	if ratio := crawl / fast; ratio < 0.2 || ratio > 0.3 {
		t.Errorf("speed falls to %v of it", ratio)
	}
	// Every pose on the slow way lies on the fast one.
	worst := 0.0
	for _, p := range slow {
		nearest := math.Inf(1)
		for i := range full[1:] {
			a, b := full[i], full[i+1]
			dx, dy := b[0]-a[0], b[1]-a[1]
			s := 0.0
			if l := dx*dx + dy*dy; l > 0 {
				s = min(max(((p[0]-a[0])*dx+(p[1]-a[1])*dy)/l, 0), 1)
			}
			nearest = min(nearest, math.Hypot(p[0]-a[0]-s*dx, p[1]-a[1]-s*dy))
		}
		worst = max(worst, nearest)
	}
	if worst > 5e-3 {
		t.Errorf("the slow way leaves the fast one by %v rad", worst)
	}
	if m := r.e.Status().Mode; m != Moving {
		t.Error(m)
	}
}

func TestSpeedScaleChangesWhileMovingWithoutAJump(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	c := r.chunk(200, 20, 0)
	for k := range 200 {
		c.Values[k*14] += 0.03 * float64(min(k+1, 80)) // 0.6 rad/s
	}
	r.give(c, OK)
	r.run(time.Second)
	live := r.e.Live()
	live.SpeedScale = 0.2
	if err := r.e.SetLive(live); err != nil {
		t.Fatal(err)
	}
	r.run(time.Second) // under the checker's eyes
	if v := r.c.Velocities[0]; math.Abs(v-0.12) > 1e-3 {
		t.Errorf("moves at %v, want a fifth of 0.6", v)
	}
	live.SpeedScale = 1
	if err := r.e.SetLive(live); err != nil {
		t.Fatal(err)
	}
	r.run(1500 * time.Millisecond)
	if v := r.c.Velocities[0]; math.Abs(v-0.6) > 1e-2 {
		t.Errorf("moves at %v again, want 0.6", v)
	}
	live.SpeedScale = 0
	if err := r.e.SetLive(live); err == nil || r.e.Live().SpeedScale != 1 {
		t.Error("a speed scale of 0 was taken")
	}
}

// A scale that falls while the arms move, and is overtaken by a stop, is not left on
// its way for the next motion.
func TestASpeedScaleSetAtRestHoldsFromTheFirstCommandOn(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(100, 20, 0.01), OK)
	r.run(500 * time.Millisecond)
	live := r.e.Live()
	live.SpeedScale = 0.05
	if err := r.e.SetLive(live); err != nil {
		t.Fatal(err)
	}
	r.e.Disable(r.now)
	r.run(time.Second)
	r.enable()
	r.tick(r.e.Period())
	r.give(r.chunk(100, 20, 0.03), OK)
	for range 50 {
		r.tick(r.e.Period())
		if v := r.speed(); v > 0.05*1.05 {
			t.Fatalf("moves at %v", v)
		}
	}
}
