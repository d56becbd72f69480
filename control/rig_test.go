package control

import (
	"math"
	"testing"
	"time"
)

// rig is a robot in simulated time: an Executor, arms that follow their
// commands with a lag, sensors that can fail, and a checker of every command.
type rig struct {
	t   failer
	e   *Executor
	cfg Config
	now time.Time

	measured []float64
	lag      float64  // share of the gap to the command that is left after a period
	feedback bool     // the arms report
	cameras  bool     // observations come in
	stuck    []bool   // joints that do not move
	history  []sample // the newest four commands, in the time of motion
	commands int
	sent     bool // the last tick gave a command
	c        Command
}

// epoch0 is when simulated time begins.
var epoch0 = time.Unix(1_700_000_000, 0)

// cobotMagic is the layout of two Piper arms (limits of piper_description.urdf).
func cobotMagic() Layout {
	arm := func(name string) Arm {
		a := Arm{Name: name}
		for i, l := range [][2]float64{{-2.618, 2.618}, {0, 3.14}, {-2.967, 0}, {-1.745, 1.745}, {-1.22, 1.22}, {-2.0944, 2.0944}} {
			a.Joints = append(a.Joints, Joint{Name: "joint" + string(rune('1'+i)), Limits: RevoluteLimits(l[0], l[1])})
		}
		a.Joints = append(a.Joints, Joint{Name: "gripper", Gripper: true, Limits: GripperLimits(0.07)})
		return a
	}
	return Layout{arm("left"), arm("right")}
}

// home is a pose well within the limits of one arm.
var home = []float64{0.1, 1.2, -1.0, 0.1, 0.3, -0.2, 0.03}

func newRig(t *testing.T, change func(*Config)) *rig { t.Helper(); return newRigIn(t, change) }

// failer is what *testing.T and *rapid.T share.
type failer interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

func newRigIn(t failer, change func(*Config)) *rig {
	t.Helper()
	cfg := DefaultConfig(cobotMagic())
	if change != nil {
		change(&cfg)
	}
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := cfg.Layout.Dims()
	r := &rig{t: t, e: e, cfg: cfg, now: epoch0, feedback: true, cameras: true, lag: 0.5,
		measured: make([]float64, n), stuck: make([]bool, n)}
	copy(r.measured, home)
	copy(r.measured[7:], home)
	return r
}

// sense lets the sensors report.
func (r *rig) sense() {
	if r.feedback {
		for a := range r.cfg.Layout {
			// A stamp that repeats, after a jump of the clock, is refused; so be it.
			_ = r.e.Feedback(a, r.cfg.Layout.Of(a, r.measured), r.now, r.now)
		}
	}
	if r.cameras {
		r.e.Observed(r.now, r.now)
	}
}

// enable enables or fails the test.
func (r *rig) enable() {
	r.t.Helper()
	r.sense()
	if err := r.e.Enable(r.now); err != nil {
		r.t.Fatal(err)
	}
}

// tick lets d pass, ticks, checks the command and moves the arms.
func (r *rig) tick(d time.Duration) {
	r.t.Helper()
	r.now = r.now.Add(d)
	r.sense()
	c, ok := r.e.Tick(r.now)
	r.sent = ok
	if !ok {
		return
	}
	r.c = c
	r.check(c)
	for j, p := range c.Positions {
		if !r.stuck[j] {
			r.measured[j] = p + (r.measured[j]-p)*r.lag
		}
	}
}

// run ticks for the given simulated time at the command rate.
func (r *rig) run(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); {
		r.tick(r.e.Period())
	}
}

// sample is a command in the time of motion: what the arms were given to move.
type sample struct {
	at        float64
	wall      time.Time
	positions []float64
	hard      bool // of an e-stop or shutdown, which know no jerk limit
}

// divided returns n! times the divided difference of the newest n+1 commands: a
// value that the n-th derivative of the motion takes in between.
func (r *rig) divided(j, n int) float64 {
	h := r.history[len(r.history)-n-1:]
	d := make([]float64, n+1)
	for i := range d {
		d[i] = h[i].positions[j]
	}
	factorial := 1.0
	for k := 1; k <= n; k++ {
		factorial *= float64(k)
		for i := range n + 1 - k {
			d[i] = (d[i+1] - d[i]) / (h[i+k].at - h[i].at)
		}
	}
	return factorial * d[0]
}

// check holds every command against the limits: within position limits, or on
// the way back from where it started, no faster than velocity and step allow,
// changing speed no faster than the acceleration (an e-stop, deceleration) and
// the acceleration no faster than the jerk.
func (r *rig) check(c Command) {
	r.t.Helper()
	const eps = 1e-9
	r.commands++
	if len(c.Positions) != r.e.dims {
		r.t.Fatalf("command has %d positions", len(c.Positions))
	}
	now := sample{wall: r.now, positions: append([]float64(nil), c.Positions...), hard: c.Code == Estop || c.Code == ShuttingDown}
	if c.First || len(r.history) == 0 {
		r.history = nil
		r.rested(now)
		for j, p := range c.Positions {
			// The first command is the measured pose, give or take one step.
			l := r.e.joints[j].Limits
			m := r.e.measured[j]
			if math.Abs(p-m) > math.Min(l.Velocity*r.e.Period().Seconds(), l.Step)+eps && !(r.e.joints[j].Gripper && m < 0) {
				r.t.Fatalf("%s: first command %v, measured %v", r.e.names[j], p, m)
			}
		}
		return
	}
	last := r.history[len(r.history)-1]
	dt := r.now.Sub(last.wall)
	if dt > r.e.gap {
		last.wall = r.now.Add(-r.e.Period())
		r.rested(last) // the arm stands at the last command
		last = r.history[len(r.history)-1]
	}
	if dt <= 0 || dt > r.e.Period() {
		dt = r.e.Period()
	}
	now.at = last.at + dt.Seconds()
	r.history = append(r.history[1:], now)
	for j, p := range c.Positions {
		l, name := r.e.joints[j].Limits, r.e.names[j]
		step := p - last.positions[j]
		v := step / dt.Seconds()
		switch {
		case math.IsNaN(p) || math.IsInf(p, 0):
			r.t.Fatalf("%s: command %v", name, p)
		case (p < l.Lower-eps || p > l.Upper+eps) && math.Abs(l.excess(p)) > math.Abs(l.excess(last.positions[j]))+eps:
			r.t.Fatalf("%s: command %v moves out of %v..%v (from %v)", name, p, l.Lower, l.Upper, last.positions[j])
		case math.Abs(step) > l.Step+eps:
			r.t.Fatalf("%s: step %v beyond %v", name, step, l.Step)
		case math.Abs(v) > l.Velocity+1e-7:
			r.t.Fatalf("%s: velocity %v beyond %v", name, v, l.Velocity)
		case math.Abs(v-c.Velocities[j]) > l.Deceleration*dt.Seconds()+1e-6:
			r.t.Fatalf("%s: moved at %v, command says %v", name, v, c.Velocities[j])
		}
		a, soft := l.Acceleration, true
		for _, h := range r.history {
			if h.hard {
				a, soft = l.Deceleration, false
			}
		}
		if got := math.Abs(r.divided(j, 2)); got > a+1e-4 {
			r.t.Fatalf("%s: acceleration %v beyond %v (%v, %v)", name, got, a, c.Mode, c.Code)
		}
		if got := math.Abs(r.divided(j, 3)); soft && got > l.Jerk*1.001+0.05 {
			r.t.Fatalf("%s: jerk %v beyond %v (%v, %v)", name, got, l.Jerk, c.Mode, c.Code)
		}
	}
}

// rested makes the history of an arm that has been resting at a command.
func (r *rig) rested(s sample) {
	for i := 3; i >= 0; i-- {
		s.at = -float64(i) * r.e.Period().Seconds()
		s.hard = false
		r.history = append(r.history, s)
	}
	r.history = r.history[len(r.history)-4:]
}

// chunk makes a trajectory of rows, each the same offset further from the last
// command for every joint of the arms (grippers stay).
func (r *rig) chunk(rows int, rate, step float64) Trajectory {
	t := Trajectory{Stamp: r.now, Rate: rate, Epoch: r.e.Epoch()}
	for k := range rows {
		for j := range r.e.joints {
			p := r.e.position[j]
			if !r.e.joints[j].Gripper {
				p += step * float64(k+1)
			}
			t.Values = append(t.Values, p)
		}
	}
	return t
}

// give hands a chunk over and requires the given answer.
func (r *rig) give(t Trajectory, want Code) {
	r.t.Helper()
	if got := r.e.Replace(t, r.now); got != want {
		r.t.Fatalf("chunk: %v (%s), want %v", got, got.Sentence(), want)
	}
}

// speed is the largest commanded speed of all joints.
func (r *rig) speed() float64 {
	v := 0.0
	for _, x := range r.c.Velocities {
		v = math.Max(v, math.Abs(x))
	}
	return v
}

// brakes reports whether the last tick began to take speed away, given the
// speeds and accelerations before it: no joint that was not braking already may
// have accelerated more. Its speed may grow a little all the same, since the jerk
// is limited.
func (r *rig) brakes(velocity, accel []float64) bool {
	for j := range velocity {
		along := math.Copysign(1, velocity[j])
		if was, is := along*accel[j], along*r.e.accel[j]; was >= 0 && velocity[j] != 0 && is > was+1e-9 {
			return false
		}
	}
	return true
}

// moving copies the commanded velocities and accelerations.
func (r *rig) moving() (velocity, accel []float64) {
	return append([]float64(nil), r.e.velocity...), append([]float64(nil), r.e.accel...)
}

// pose copies the last commanded positions.
func (r *rig) pose() []float64 { return append([]float64(nil), r.e.position...) }

// count returns how often a code happened.
func (r *rig) count(c Code) uint64 { return r.e.Status().Counters.ByCode[c] }
