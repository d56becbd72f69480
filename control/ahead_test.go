package control

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// jtc is ros2_control's joint_trajectory_controller as ROBOT.md has it (Humble,
// open loop): points with positions and velocities are joined by cubics, a new
// message replaces the old one and starts from where the controller is. It knows
// nothing of this package.
type jtc struct {
	from   time.Time
	start  [2][]float64 // position, velocity
	points []Point
}

// accept takes a message with stamp 0, or says why the controller would not.
func (c *jtc) accept(points []Point, now time.Time) error {
	if len(points) == 0 {
		return fmt.Errorf("no points")
	}
	before := time.Duration(0)
	for i, p := range points {
		if p.After <= before {
			return fmt.Errorf("time_from_start of point %d is %v after %v", i, p.After, before)
		}
		before = p.After
	}
	for j, v := range points[len(points)-1].Velocities {
		if v != 0 {
			return fmt.Errorf("joint %d ends at velocity %v", j, v)
		}
	}
	if c.points == nil { // it holds the first pose
		c.start = [2][]float64{append([]float64(nil), points[0].Positions...), make([]float64, len(points[0].Positions))}
	} else {
		p, v, _ := c.sample(now)
		c.start = [2][]float64{p, v}
	}
	c.from, c.points = now, nil
	for _, p := range points {
		c.points = append(c.points, Point{p.After, append([]float64(nil), p.Positions...), append([]float64(nil), p.Velocities...)})
	}
	return nil
}

// sample returns position, velocity and acceleration at a time.
func (c *jtc) sample(now time.Time) (p, v, a []float64) {
	n := len(c.start[0])
	p, v, a = make([]float64, n), make([]float64, n), make([]float64, n)
	t := now.Sub(c.from).Seconds()
	p0, v0, t0 := c.start[0], c.start[1], 0.0
	for _, to := range c.points {
		t1 := to.After.Seconds()
		if t < t1 {
			for j := range n {
				h := t1 - t0
				s := t - t0
				c2 := (3*(to.Positions[j]-p0[j])/h - 2*v0[j] - to.Velocities[j]) / h
				c3 := (-2*(to.Positions[j]-p0[j])/h + v0[j] + to.Velocities[j]) / (h * h)
				p[j], v[j], a[j] = p0[j]+s*(v0[j]+s*(c2+s*c3)), v0[j]+s*(2*c2+3*c3*s), 2*c2+6*c3*s
			}
			return p, v, a
		}
		p0, v0, t0 = to.Positions, to.Velocities, t1
	}
	copy(p, p0)
	return p, v, a
}

// through runs the controller on the messages of every tick for d, looks at it
// every millisecond and reports the farthest it was from a command when that was
// due, a period after it was given, and the largest acceleration.
func (r *rig) through(c *jtc, a *Ahead, d, horizon time.Duration) (off, accel float64) {
	r.t.Helper()
	last, before := (*[]float64)(nil), r.pose()
	for end := r.now.Add(d); r.now.Before(end); {
		r.tick(r.e.Period())
		if !r.sent || !r.e.Ahead(a, horizon) {
			continue
		}
		if first, last := a.Points[0].After, a.Points[len(a.Points)-1].After; first != r.e.Period() || last > horizon {
			r.t.Fatalf("points from %v to %v", first, last)
		}
		if c.points != nil { // it follows one period behind
			p, _, _ := c.sample(r.now)
			for j := range p {
				off = max(off, math.Abs(p[j]-before[j]))
			}
		}
		before = append(before[:0], r.c.Positions...)
		if err := c.accept(a.Points, r.now); err != nil {
			r.t.Fatal(err)
		}
		for s := time.Duration(0); s < r.e.Period(); s += time.Millisecond {
			accel = max(accel, r.look(c, r.now.Add(s), &last))
		}
	}
	return off, accel
}

// look holds the controller's state against the limits and returns its largest
// acceleration, of joints in rad.
func (r *rig) look(c *jtc, at time.Time, last **[]float64) (accel float64) {
	r.t.Helper()
	p, v, a := c.sample(at)
	for j := range p {
		l := r.e.joints[j].Limits
		if math.Abs(v[j]) > l.Velocity*1.05 {
			r.t.Fatalf("%s: the controller moves at %v", r.e.names[j], v[j])
		}
		if l.excess(p[j]) > 1e-6 || l.excess(p[j]) < -1e-6 {
			r.t.Fatalf("%s: the controller goes to %v", r.e.names[j], p[j])
		}
		if *last != nil && math.Abs(p[j]-(**last)[j]) > l.Velocity*1.1e-3 {
			r.t.Fatalf("%s: the controller jumps from %v to %v", r.e.names[j], (**last)[j], p[j])
		}
		if !r.e.joints[j].Gripper {
			accel = max(accel, math.Abs(a[j]))
		}
	}
	*last = &p
	return accel
}

const jtcHorizon = 300 * time.Millisecond

func TestAheadIsATrajectoryThatTheControllerTakesAndFollows(t *testing.T) {
	for _, rate := range []float64{25, 50, 125, 200} {
		t.Run(fmt.Sprint(rate), func(t *testing.T) {
			r := newRig(t, func(c *Config) { c.CommandRate = rate })
			if err := r.cfg.CheckAhead(jtcHorizon); err != nil {
				t.Fatal(err)
			}
			r.enable()
			var c jtc
			var a Ahead
			r.through(&c, &a, 200*time.Millisecond, jtcHorizon)
			r.give(r.chunk(40, 20, 0.03), OK)
			off, accel := r.through(&c, &a, 1500*time.Millisecond, jtcHorizon)
			if off > 1e-12 || accel > 6 {
				t.Errorf("off by %v rad, accelerating at %v rad/s²", off, accel)
			}
			// New chunks that disagree come in between.
			worst := 0.0
			for i := range 10 {
				n := r.chunk(16, 20, 0.03*float64(1-i%3))
				for k := range n.Values {
					n.Values[k] += 0.02 * float64(i%2)
				}
				r.give(n, OK)
				off, accel := r.through(&c, &a, 200*time.Millisecond, jtcHorizon)
				worst = max(worst, off)
				if accel > 7 {
					t.Errorf("accelerating at %v rad/s²", accel)
				}
			}
			if worst > 1e-12 {
				t.Errorf("off by %v rad", worst)
			}
			t.Logf("%v Hz: %.2g rad off, with hand-overs %.2g; %.3g rad/s²", rate, off, worst, accel)
		})
	}
}

// Silence does not stop that controller; the trajectory itself must.
func TestAControllerThatHearsNothingMoreComesToRest(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(40, 20, 0.045), OK)
	var c jtc
	var a Ahead
	r.through(&c, &a, time.Second, jtcHorizon)
	if r.speed() < 0.85 {
		t.Fatalf("moves at %v only", r.speed())
	}
	var last *[]float64
	for s := time.Duration(0); s < jtcHorizon; s += time.Millisecond {
		if accel := r.look(&c, r.now.Add(s), &last); accel > 7 {
			t.Fatalf("decelerates at %v rad/s²", accel)
		}
	}
	rest, _, _ := c.sample(r.now.Add(jtcHorizon))
	for s := range 10 {
		p, v, _ := c.sample(r.now.Add(jtcHorizon + time.Duration(s)*time.Second))
		for j := range p {
			if v[j] != 0 || p[j] != rest[j] {
				t.Fatalf("joint %d is at %v moving at %v", j, p[j], v[j])
			}
		}
	}
}

func TestAStopIsADecelerationTrajectory(t *testing.T) {
	for name, stop := range map[string]func(*rig){
		"estop":   func(r *rig) { r.e.Estop(r.now) },
		"disable": func(r *rig) { r.e.Disable(r.now) },
		"cameras": func(r *rig) { r.cameras = false; r.e.observed = time.Time{} },
	} {
		r := newRig(t, nil)
		r.enable()
		r.give(r.chunk(40, 20, 0.04), OK)
		var c jtc
		var a Ahead
		r.through(&c, &a, 800*time.Millisecond, jtcHorizon)
		stop(r)
		if off, accel := r.through(&c, &a, 600*time.Millisecond, jtcHorizon); off > 1e-12 || accel > 7 {
			t.Errorf("%s: off by %v rad, decelerating at %v rad/s²", name, off, accel)
		}
		if p, v, _ := c.sample(r.now); math.Abs(p[0]-r.pose()[0]) > 1e-9 || v[0] != 0 {
			t.Errorf("%s: the controller is at %v moving at %v, the arms hold %v", name, p[0], v[0], r.pose()[0])
		}
	}
}

func TestAheadChangesNothingAndDoesNotAllocate(t *testing.T) {
	run := func(look bool) []float64 {
		r := newRig(t, nil)
		r.enable()
		r.give(r.chunk(40, 20, 0.04), OK)
		var a Ahead
		for range 60 {
			r.tick(r.e.Period())
			if look {
				r.e.Ahead(&a, jtcHorizon)
			}
		}
		if look {
			if n := testing.AllocsPerRun(100, func() { r.e.Ahead(&a, jtcHorizon) }); n != 0 {
				t.Errorf("%v allocations", n)
			}
		}
		return append(r.pose(), float64(r.count(LimitedVelocity)))
	}
	plain, looked := run(false), run(true)
	for j := range plain {
		if plain[j] != looked[j] {
			t.Fatalf("%d: %v, looked at %v", j, plain[j], looked[j])
		}
	}
}

func TestAHorizonTooShortToStopInIsRefused(t *testing.T) {
	c := DefaultConfig(cobotMagic())
	if err := c.CheckAhead(150 * time.Millisecond); err == nil {
		t.Error("taken")
	}
	c.Layout[0].Joints[0].Limits.Velocity, c.Layout[0].Joints[0].Limits.Step = 3, 0.1
	if err := c.CheckAhead(jtcHorizon); err == nil {
		t.Error("taken")
	}
}

func TestNothingIsAheadWhileDisabled(t *testing.T) {
	r := newRig(t, nil)
	var a Ahead
	if r.e.Ahead(&a, jtcHorizon) || len(a.Points) != 0 {
		t.Error(a.Points)
	}
}

func BenchmarkAhead(b *testing.B) {
	r := busy(b)
	for range 20 {
		r.step()
	}
	var a Ahead
	b.ReportAllocs()
	for b.Loop() {
		r.e.Ahead(&a, jtcHorizon)
	}
}
