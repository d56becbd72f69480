package control

import (
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// Mode is the state of the arms as an operator sees it. The package comment
// has the transitions.
type Mode uint8

// The modes.
const (
	Disabled  Mode = iota // nothing is sent
	Holding               // enabled, at rest, waiting for a chunk
	Moving                // following a chunk
	Stopping              // decelerating, for a halt or a stop
	Held                  // at rest after a stop; needs Enable
	Estopped              // e-stop latched; needs Enable
	GoingHome             // on the way to the pose that Home was given
)

// String returns the mode's name: "holding".
func (m Mode) String() string {
	switch m {
	case Disabled:
		return "disabled"
	case Holding:
		return "holding"
	case Moving:
		return "moving"
	case Stopping:
		return "stopping"
	case Held:
		return "held"
	case Estopped:
		return "estopped"
	case GoingHome:
		return "homing"
	}
	return fmt.Sprintf("mode_%d", uint8(m))
}

// Command is one setpoint for all joints of all arms.
type Command struct {
	Stamp time.Time // the time given to Tick
	// Positions (rad, m) and Velocities (per s) in the order of the Layout.
	// They are the executor's own and valid until the next Tick.
	Positions, Velocities []float64
	Mode                  Mode
	Code                  Code // why the arms do not follow the policy, else OK
	// First marks the first command after an Enable that did not continue
	// from the commands before.
	First bool
	// Dry marks a command that is not to be sent, of a dry run.
	Dry bool
}

// Status is a snapshot of the executor.
type Status struct {
	Mode     Mode
	Code     Code          // why the arms do not follow the policy, else OK
	Silent   bool          // nothing is sent
	Epoch    uint64        // for the next observation's Trajectory
	Left     time.Duration // until the plan's last row is due; 0 without a plan
	Dropped  Code          // why the newest chunk of this epoch was not taken, else OK
	Pace     float64       // how fast the path is gone through, 1 as planned; 0 while not moving
	Counters Counters
}

// phase is what Tick does; Mode is derived from it and from the cause.
type phase uint8

const (
	silent    phase = iota // sends nothing
	following              // tracks the plan
	braking                // brings all joints to rest
	resting                // goes to, then keeps, the hold pose
	homing                 // goes to the start pose, which then is the hold pose
)

// settleCommands is how often the hold pose is sent, come what may, once the
// arms rest: moveit_servo's num_outgoing_halt_msgs_to_publish is also 4.
const settleCommands = 4

// Executor runs chunks. All methods may be called from any goroutine; none
// blocks for longer than a hand-over takes: tens of microseconds, with Ensemble
// and many chunks of many rows half a millisecond.
type Executor struct {
	cfg    Config
	dims   int
	period time.Duration
	gap    time.Duration // a pause between ticks after which the arms stand
	joints []Joint       // flat
	names  []string      // "left/joint1"
	arms   []span

	mu           sync.Mutex
	phase        phase
	cause        Code // while not following
	release      bool // go silent once at rest
	ended        bool // after Shutdown
	freeze       bool // hold where the arms come to rest, wherever that is
	quiet        bool // nothing is sent to stopped arms, which did not agree once
	settle       int  // commands left to send once at rest, come what may
	first        bool
	epoch        uint64
	lastTick     time.Time
	position     []float64 // last commanded
	velocity     []float64 // last commanded
	accel        []float64 // last commanded
	hold         []float64
	home         []float64 // where Home goes
	ref          []float64 // scratch: the plan now
	was          []float64 // scratch: the pose before
	groups       []group   // all arms together, then each gripper
	chase        chase
	saved, tried saved // scratch of Ahead

	live      Live
	scale     float64   // the speed scale on its way to live.SpeedScale
	pace      float64   // of progress, in seconds of plan a second
	behind    float64   // seconds of plan that slowing cost and that are to be caught up
	plan, old plan      // old: the one that the newest hand-over replaced
	fade      bool      // the next hand-over blends, whatever live says
	kept      []kept    // chunks since the last halt, for Ensemble, oldest first
	lastStamp time.Time // of the newest chunk taken in this epoch
	lastDrop  Code      // of the newest chunk of this epoch; OK if it was taken
	progress  progress
	advanced  time.Time // when progress was last advanced

	measured  []float64
	fed       []time.Time // per arm: stamp of the newest feedback
	refusal   []error     // per arm: why the newest feedback was refused, else nil
	observed  time.Time
	deviating []time.Time // per joint: since when it is off its command; zero if not
	beyond    []time.Time // per joint: since when its target is beyond tolerance
	clamped   []bool      // per joint: its target is beyond a limit
	still     []still     // per arm
	drivers   []driver    // per arm
	deadman   time.Time   // when it was last held

	counters Counters
	events   eventRing
	changed  chan struct{}
}

// span is the part of a flat slice that belongs to an arm.
type span struct{ lo, hi int }

// New returns a disabled Executor.
func New(cfg Config) (*Executor, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	n := cfg.Layout.Dims()
	e := &Executor{
		cfg: cfg, dims: n,
		period:  seconds(1 / cfg.CommandRate),
		changed: make(chan struct{}, 1),
		fed:     make([]time.Time, len(cfg.Layout)),
		refusal: make([]error, len(cfg.Layout)),
		clamped: make([]bool, n), deviating: make([]time.Time, n), beyond: make([]time.Time, n),
	}
	// After five missed commands a driver has reached its last target.
	e.gap = max(5*e.period, 100*time.Millisecond)
	for _, f := range []*[]float64{&e.position, &e.velocity, &e.accel, &e.hold, &e.home, &e.ref, &e.was, &e.measured,
		&e.plan.seam, &e.plan.seamed, &e.old.seam, &e.old.seamed} {
		*f = make([]float64, n)
	}
	e.live, e.scale = cfg.Live, cfg.Live.SpeedScale
	e.progress = newProgress(cfg.MaxObservationAge)
	e.drivers = make([]driver, len(cfg.Layout))
	for range cfg.Layout {
		e.still = append(e.still, still{commanded: make([]float64, n), measured: make([]float64, n)})
	}
	for _, a := range cfg.Layout {
		e.arms = append(e.arms, span{len(e.joints), len(e.joints) + len(a.Joints)})
		for _, j := range a.Joints {
			e.joints = append(e.joints, j)
			e.names = append(e.names, a.Name+"/"+j.Name)
		}
	}
	e.groups = groupsOf(e.joints)
	e.chase = newChase(n)
	return e, nil
}

// Period returns the time between two commands.
func (e *Executor) Period() time.Duration { return e.period }

// Epoch returns the current epoch. A chunk begun in an earlier one is dropped:
// note it before taking the observation. Enable, Flush and a clock that went
// back begin a new one.
func (e *Executor) Epoch() uint64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.epoch
}

// Status returns a snapshot for diagnostics.
func (e *Executor) Status() Status {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := Status{Mode: e.mode(), Code: e.code(), Silent: e.phase == silent || e.quiet, Epoch: e.epoch, Dropped: e.lastDrop, Counters: e.counters}
	if e.plan.active {
		s.Left = e.left()
	}
	if e.phase == following {
		s.Pace = e.pace
	}
	return s
}

// Events appends the events since the last call to dst, oldest first.
func (e *Executor) Events(dst []Event) []Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.events.take(dst)
}

// Changed is sent to, without blocking, when there are new events.
func (e *Executor) Changed() <-chan struct{} { return e.changed }

// Enable lets the arms move. They must be at rest, every arm's feedback must be
// fresh and its pose plausible. It clears an e-stop and every other stop, and
// does nothing where the arms are enabled already. After Shutdown, and while there
// is no time, it is refused.
func (e *Executor) Enable(now time.Time) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case e.ended:
		return errors.New("control: the program is ending")
	case now.IsZero():
		return errors.New("control: there is no time yet; with use_sim_time set, /clock has to come first")
	case e.phase == following, e.phase != silent && !e.cause.Latched():
		return nil
	case e.driverFault(now) >= 0:
		a := e.driverFault(now)
		return fmt.Errorf("control: arm %q: its driver reports %s", e.cfg.Layout[a].Name, e.drivers[a].describe(now, e.cfg.DriverTimeout))
	case e.phase == braking, e.phase == resting && !e.arrived():
		return fmt.Errorf("control: the arms are still coming to rest (%v); enable again in a second", e.cause)
	}
	for a, s := range e.arms {
		arm := &e.cfg.Layout[a]
		switch stale := !fresh(e.fed[a], now, e.cfg.FeedbackTimeout); {
		case stale && e.refusal[a] != nil:
			return fmt.Errorf("%w; such messages are refused", e.refusal[a])
		case stale:
			return fmt.Errorf("control: arm %q: no joint feedback within %v; is its driver running, and its state topic the right one?", arm.Name, e.cfg.FeedbackTimeout)
		}
		for j := s.lo; j < s.hi; j++ {
			l := &e.joints[j].Limits
			if x := math.Abs(l.excess(e.measured[j])); x > e.limitStop(j) {
				return fmt.Errorf("control: %s is measured at %.4g, beyond its limits %.4g to %.4g by more than %.4g; check its unit and zero point", e.names[j], e.measured[j], l.Lower, l.Upper, e.limitStop(j))
			}
		}
	}
	e.watchFollowing(now)
	if e.phase == silent {
		// The clock may have gone back while nobody ticked.
		e.progress.clear()
	}
	if e.phase == silent || e.quiet || !e.agrees(now) {
		e.startFromMeasured()
	}
	copy(e.hold, e.position)
	clear(e.deviating)
	clear(e.beyond)
	clear(e.clamped)
	e.forgetStill()
	e.release, e.freeze, e.quiet, e.lastTick = false, false, false, now
	e.scale = e.live.SpeedScale
	e.phase, e.cause = resting, Waiting
	e.newEpoch()
	e.tell(Event{Time: now, Code: Enabled})
	return nil
}

// startFromMeasured makes the measured pose the last commanded one. Where it is
// outside the limits by less than one command may move, as arms resting on a
// stop measure it, it is clamped. A gripper's never lies below its range: the
// driver would take the absolute value.
func (e *Executor) startFromMeasured() {
	for j := range e.position {
		l := &e.joints[j].Limits
		p := e.measured[j]
		if math.Abs(l.excess(p)) <= math.Min(l.Step, l.Velocity*e.period.Seconds()) ||
			e.joints[j].Gripper && p < l.Lower {
			p = l.clamp(p)
		}
		e.position[j], e.velocity[j], e.accel[j] = p, 0, 0
	}
	e.first = true
}

// Disable brings the arms to rest and then sends nothing more. It does not
// clear an e-stop.
func (e *Executor) Disable(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release = true
	e.stop(now, Event{Code: Disabling})
}

// Estop stops the arms at the maximum deceleration from the next Tick on, and
// latches until Enable. Arms that are on their way to a hold pose, after another
// stop, do not go on to it.
func (e *Executor) Estop(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	onTheWay := e.phase == resting && !e.arrived() || e.phase == homing
	e.stop(now, Event{Code: Estop})
	if onTheWay {
		e.phase, e.freeze = braking, true
	}
}

// Shutdown stops the arms at the maximum deceleration and then sends nothing
// more, for good.
func (e *Executor) Shutdown(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.release, e.ended = true, true
	e.stop(now, Event{Code: ShuttingDown})
}

// Flush throws the plan away, as a new instruction may ask for: the arms halt,
// and only chunks of the new epoch move them again.
func (e *Executor) Flush(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.newEpoch()
	if e.phase != silent {
		e.halt(now, Event{Code: Flushed})
	}
}

// Tick returns the command for time now, or false where nothing is to be sent:
// while disabled, less than a tenth of a Period after the last Tick, and while now
// is the zero Time. It is to be called every Period; after a shorter time it takes
// a shorter step, after a longer one no longer step. It does not allocate.
func (e *Executor) Tick(now time.Time) (Command, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.IsZero() {
		return Command{}, false
	}
	elapsed := now.Sub(e.lastTick)
	// Stamps know only the wall clock, which may be set back while the monotonic
	// one, where now has it, goes on.
	back := now.Round(0).Sub(e.lastTick.Round(0))
	if e.phase == silent {
		// Nothing is sent, but what was heard must not pass for fresh later.
		if back <= -e.period {
			e.clockWentBack(now, back)
		}
		e.lastTick = now
		return Command{}, false
	}
	if elapsed < e.period/10 && back > -e.period {
		return Command{}, false
	}
	if back <= -e.period {
		e.clockWentBack(now, back)
		elapsed = e.period
	}
	e.lastTick = now
	if elapsed > e.gap {
		e.tell(Event{Time: now, Code: TickGap, Value: elapsed.Seconds(), Limit: e.gap.Seconds()})
		clear(e.velocity)
		clear(e.accel)
		e.restart()
	}
	dt := min(elapsed, e.period).Seconds()

	if e.phase == resting && e.arrived() {
		e.scale = e.live.SpeedScale
	} else {
		e.scale += min(max(e.live.SpeedScale-e.scale, -2*dt), 2*dt)
	}

	e.watch(now)
	if e.first {
		return e.begin(now)
	}
	switch e.phase {
	case following:
		e.follow(now, dt)
	case resting:
		e.rest(dt)
	case homing:
		e.goHome(now, dt)
	}
	if e.phase == braking { // or has just begun to
		e.brake(now, dt)
	}
	return e.emit(now)
}

// begin makes the first command after an Enable that started from the measured
// pose: that pose, as it is now, before any motion. Where a stop came first
// there is nothing to decelerate, and nothing is sent.
func (e *Executor) begin(now time.Time) (Command, bool) {
	if e.phase != following && e.cause.Latched() {
		e.phase, e.first = silent, false
		return Command{}, false
	}
	e.startFromMeasured()
	copy(e.hold, e.position)
	return e.emit(now)
}

// emit makes the command of this tick, if one is to be sent.
func (e *Executor) emit(now time.Time) (Command, bool) {
	if e.phase == resting && e.arrived() {
		switch {
		case e.settle > 0:
			e.settle--
		case e.release:
			e.phase = silent
			e.tell(Event{Time: now, Code: Silent})
			return Command{}, false
		case e.cause.Latched() && (e.quiet || !e.agrees(now)):
			if !e.quiet {
				e.quiet = true
				e.tell(Event{Time: now, Code: Silent})
			}
			return Command{}, false
		}
	}
	c := Command{Stamp: now, Positions: e.position, Velocities: e.velocity, Mode: e.mode(), Code: e.code(), First: e.first, Dry: e.cfg.DryRun}
	e.first = false
	if c.Dry {
		e.counters.ByCode[DryRun]++
	}
	e.counters.Commands++
	return c, true
}

// latchHold sets the hold pose from the last command, or from the measurement
// for joints that have been off their command for FollowingTime. Where the arms are
// outside their limits they stay: a stop or an Enable moves nothing by itself.
// It reports false while it is too early to tell which: a driver that lags is
// still arriving.
func (e *Executor) latchHold(now time.Time) bool {
	copy(e.hold, e.position)
	if e.freeze {
		return true
	}
	for a, s := range e.arms {
		if !fresh(e.fed[a], now, e.cfg.FeedbackTimeout) {
			continue
		}
		for j := s.lo; j < s.hi; j++ {
			switch {
			case e.deviating[j].IsZero():
			case now.Sub(e.deviating[j]) > e.cfg.FollowingTime:
				e.hold[j] = e.allowed(j, e.measured[j])
			default:
				return false
			}
		}
	}
	return true
}

// allowed brings a position of joint j within its limits, or those and the last
// command where that is outside.
func (e *Executor) allowed(j int, p float64) float64 {
	l := &e.joints[j].Limits
	return min(max(p, min(l.Lower, e.position[j])), max(l.Upper, e.position[j]))
}

// mode derives the Mode.
func (e *Executor) mode() Mode {
	switch {
	case e.phase == following:
		return Moving
	case e.phase == braking:
		return Stopping
	case e.phase == homing:
		return GoingHome
	case e.cause == Estop:
		return Estopped
	case e.phase == silent:
		return Disabled
	case e.cause.Latched():
		return Held
	}
	return Holding
}

// code is the cause, or OK while following.
func (e *Executor) code() Code {
	if e.phase == following {
		return OK
	}
	return e.cause
}

// tell counts an event and keeps it for Events.
func (e *Executor) tell(v Event) {
	e.counters.ByCode[v.Code]++
	e.note(v)
}

// note keeps an event for Events.
func (e *Executor) note(v Event) {
	if e.events.add(v) {
		e.counters.EventsLost++
	}
	select {
	case e.changed <- struct{}{}:
	default:
	}
}
