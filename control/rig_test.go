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

	measured     []float64
	lag          float64 // share of the gap to the command that is left after a period
	feedback     bool    // the arms report
	cameras      bool    // observations come in
	stuck        []bool  // joints that do not move
	last         []float64
	lastVelocity []float64
	lastAt       time.Time
	commands     int
	sent         bool // the last tick gave a command
	c            Command
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

// check holds every command against the limits: within position limits, or on
// the way back from where it started, no faster than velocity and step allow,
// and changing speed no faster than the acceleration (an e-stop, deceleration).
func (r *rig) check(c Command) {
	r.t.Helper()
	const eps = 1e-9
	r.commands++
	if len(c.Positions) != r.e.dims {
		r.t.Fatalf("command has %d positions", len(c.Positions))
	}
	if c.First || r.last == nil {
		r.last = append([]float64(nil), c.Positions...)
		r.lastVelocity = make([]float64, len(c.Positions))
		r.lastAt = r.now
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
	dt := r.now.Sub(r.lastAt)
	if dt > r.e.gap {
		clear(r.lastVelocity) // the arm stands at the last command
	}
	if dt <= 0 || dt > r.e.Period() {
		dt = r.e.Period()
	}
	for j, p := range c.Positions {
		l, name := r.e.joints[j].Limits, r.e.names[j]
		step := p - r.last[j]
		v := step / dt.Seconds()
		switch {
		case math.IsNaN(p) || math.IsInf(p, 0):
			r.t.Fatalf("%s: command %v", name, p)
		case (p < l.Lower-eps || p > l.Upper+eps) && math.Abs(l.excess(p)) > math.Abs(l.excess(r.last[j]))+eps:
			r.t.Fatalf("%s: command %v moves out of %v..%v (from %v)", name, p, l.Lower, l.Upper, r.last[j])
		case math.Abs(step) > l.Step+eps:
			r.t.Fatalf("%s: step %v beyond %v", name, step, l.Step)
		case math.Abs(v) > l.Velocity+eps:
			r.t.Fatalf("%s: velocity %v beyond %v", name, v, l.Velocity)
		case math.Abs(v-c.Velocities[j]) > 1e-6:
			r.t.Fatalf("%s: moved at %v, command says %v", name, v, c.Velocities[j])
		}
		a := l.Acceleration
		if c.Code == Estop || c.Code == ShuttingDown {
			a = l.Deceleration
		}
		if got := math.Abs(v-r.lastVelocity[j]) / dt.Seconds(); got > a+1e-6 {
			r.t.Fatalf("%s: acceleration %v beyond %v (%v, %v)", name, got, a, c.Mode, c.Code)
		}
		r.last[j], r.lastVelocity[j] = p, v
	}
	r.lastAt = r.now
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

// pose copies the last commanded positions.
func (r *rig) pose() []float64 { return append([]float64(nil), r.e.position...) }

// count returns how often a code happened.
func (r *rig) count(c Code) uint64 { return r.e.Status().Counters.ByCode[c] }
