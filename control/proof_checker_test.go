package control

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// judge holds what was recorded of a scenario against the promises of
// docs/safety.md. It knows the robot's limits, the commands, what was measured and
// what happened, each with its time; of the executor that made the commands it
// knows nothing.
type judge struct {
	limits []jointLimits
	period float64 // s
	faults []string

	// What the arms were given, as motion: newest last.
	samples []given
	ticks   int

	// The state of affairs, as an outsider can tell.
	enabled   bool // by a call that was granted
	estop     bool
	disabling bool
	spoilt    bool // a chunk that is not finite came
	ended     bool
	homing    bool
	planned   bool // a chunk was taken and nothing ended it since
	fed       [2]time.Time
	measured  []float64
	observed  time.Time
	deadman   time.Time
	timeout   time.Duration // of the deadman
	driverBad [2]bool
	driver    [2]time.Time
	scale     float64
	scaled    float64 // seconds for which the scale has stood
	epochs    int
	stamp     time.Time // of the newest chunk taken in this epoch

	deviating []float64 // per joint, s for which it is off its command
	forgiven  []bool    // per joint: its hold pose may be elsewhere
	unlicensed,
	sinceEstop float64 // s
	resting  bool      // and not licensed: nothing may move
	silentIn float64   // s since disable
	before   []float64 // accelerations when the licence ended
	turned   []bool    // since then
}

// The numbers of the promises.
const (
	feedbackFresh    = 200 * time.Millisecond
	observationFresh = 500 * time.Millisecond
	oldestChunk      = 2 * time.Second
	farthestAhead    = 100 * time.Millisecond
	driverFresh      = time.Second
	offBy            = 0.25
	offFor           = 0.3
)

// given is one command as a point of a motion.
type given struct {
	at   float64 // s of motion
	p    []float64
	hard bool // braking at the maximum
}

func newJudge(rate float64) *judge {
	l := dataSheet()
	j := &judge{limits: l, period: 1 / rate, measured: make([]float64, len(l)), scale: 1, scaled: 100,
		turned: make([]bool, len(l)), deviating: make([]float64, len(l)), forgiven: make([]bool, len(l))}
	return j
}

// fault records a broken promise.
func (w *judge) fault(promise, format string, args ...any) {
	if len(w.faults) < 5 {
		w.faults = append(w.faults, fmt.Sprintf("tick %d: %s: ", w.ticks, promise)+fmt.Sprintf(format, args...))
	}
}

// near reports whether a stamp is recent by the clock.
func near(stamp, now time.Time, d time.Duration) bool {
	age := now.Sub(stamp)
	return !stamp.IsZero() && age <= d && age >= -d
}

// What is recorded besides commands.

// wasEnabled tells of a call of Enable; news is whether the executor then said so.
func (w *judge) wasEnabled(now time.Time, err error, news bool) {
	if err != nil {
		return
	}
	if w.ended {
		w.fault("nothing is enabled after the end", "it was")
	}
	if !news {
		return // they were
	}
	for a := range w.fed {
		if !near(w.fed[a], now, feedbackFresh) {
			w.fault("enable needs fresh joints", "arm %d was heard %v ago", a, now.Sub(w.fed[a]))
		}
		if w.driverBad[a] {
			w.fault("a driver that is not ready is not enabled", "arm %d was", a)
		}
	}
	w.newEpoch()
	w.homing = false
	w.enabled, w.estop, w.disabling, w.spoilt = true, false, false, false
	w.resting = false
	clear(w.deviating)
}

func (w *judge) newEpoch() { w.epochs++; w.stamp = time.Time{}; w.planned = false }

func (w *judge) wasFlushed() { w.newEpoch(); w.homing = false }

func (w *judge) wasInstructed(keep bool) {
	planned := w.planned && keep
	w.newEpoch()
	w.planned = planned
}

func (w *judge) wasEstopped() {
	w.estop, w.planned, w.homing = true, false, false
	w.sinceEstop = 0
}

func (w *judge) wasDisabled() {
	if w.enabled {
		w.disabling, w.planned, w.homing, w.silentIn = true, false, false, 0
	}
}

func (w *judge) wasFed(arm int, p []float64, stamp time.Time, err error) {
	for _, v := range p {
		if err == nil && (math.IsNaN(v) || math.IsInf(v, 0)) {
			w.fault("a measurement that is not finite is refused", "%v was taken", v)
		}
	}
	if err == nil {
		w.fed[arm] = stamp
		copy(w.measured[arm*7:], p)
	}
}

// chunk is one that was handed over.
type chunk struct {
	stamp, now time.Time
	epochs     int // the epochs' number when it was begun
	finite     bool
	code       string
	taken      bool
}

func (w *judge) wasHandedOver(c chunk) {
	if !c.finite {
		if c.taken {
			w.fault("nothing follows a chunk that is not finite", "it was taken")
		}
		if w.enabled && !w.estop && !w.disabling {
			w.spoilt, w.planned, w.homing = true, false, false
		}
		return
	}
	if !c.taken {
		return
	}
	switch {
	case !w.enabled, w.estop, w.disabling, w.spoilt:
		w.fault("no motion without enable", "a chunk was taken")
	case c.epochs != w.epochs:
		w.fault("chunks begun before a reset are dropped", "one of %d epochs ago was taken", w.epochs-c.epochs)
	case c.now.Sub(c.stamp) > oldestChunk:
		w.fault("stale chunks are dropped", "one of %v ago was taken", c.now.Sub(c.stamp))
	case c.stamp.Sub(c.now) > farthestAhead:
		w.fault("chunks from the future are dropped", "one of %v ahead was taken", c.stamp.Sub(c.now))
	case !w.stamp.IsZero() && !c.stamp.After(w.stamp):
		w.fault("late and repeated chunks are dropped", "one of %v before the last was taken", w.stamp.Sub(c.stamp))
	case !near(w.observed, c.now, observationFresh):
		w.fault("no command without fresh images", "a chunk was taken %v after the last", c.now.Sub(w.observed))
	case w.homing:
		w.fault("chunks are dropped on the way home", "one was taken")
	}
	w.stamp, w.planned = c.stamp, true
}

// fitToMove reports whether arms and drivers are in a state to move at all.
func (w *judge) fitToMove(now time.Time) bool {
	for a := range w.fed {
		if !near(w.fed[a], now, feedbackFresh) || w.driverBad[a] || !w.driver[a].IsZero() && !near(w.driver[a], now, driverFresh) {
			return false
		}
	}
	for _, s := range w.deviating {
		if s > offFor+2*w.period {
			return false
		}
	}
	return w.enabled && !w.estop && !w.disabling && !w.spoilt && !w.ended
}

// licensed reports whether the arms may be moving on purpose.
func (w *judge) licensed(now time.Time) bool {
	held := w.timeout == 0 || near(w.deadman, now, w.timeout)
	return w.fitToMove(now) && held && (w.homing || w.planned && near(w.observed, now, observationFresh))
}

// wentBack tells that the clock did.
func (w *judge) wentBack(from, to time.Time) {
	w.newEpoch()
	w.homing = false
	w.observed = time.Time{}
	clear(w.deviating) // since when, is forgotten too
	for a := range w.fed {
		if w.fed[a].After(to) {
			w.fed[a] = to.Add(w.fed[a].Sub(from))
		}
		if w.driver[a].After(to) {
			w.driver[a] = to
		}
	}
}

// tick is one call of Tick, dt s of motion after the last one that did something;
// paused after a pause in which the arms came to stand. p is nil where nothing was
// sent.
func (w *judge) tick(now time.Time, dt float64, paused bool, p []float64, moving, first bool) {
	w.ticks++
	w.scaled += dt
	for j := range w.limits {
		switch last := w.newest(); {
		case last == nil || w.limits[j].gripper || math.Abs(last.p[j]-w.measured[j]) <= offBy:
			w.deviating[j] = 0
		default:
			w.deviating[j] += dt
		}
	}
	licensed := w.licensed(now)
	if p == nil {
		w.silentIn += dt
		return
	}
	if !w.enabled {
		w.fault("no command before enable", "%v was sent", p)
	}
	if w.silentIn += dt; w.disabling && w.silentIn > 3 && !slices.Contains(w.forgiven, true) {
		w.fault("disable ends in silence", "a command was sent %.1f s after it", w.silentIn)
	}
	for j, v := range p {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			w.fault("commands are finite", "%s is sent to %v", w.limits[j].name, v)
			return
		}
	}
	w.place(p, dt, paused, first)
	w.bounds(dt)
	w.stops(now, dt, licensed, moving)
}

func (w *judge) newest() *given {
	if len(w.samples) == 0 {
		return nil
	}
	return &w.samples[len(w.samples)-1]
}

// place adds a command to the motion.
func (w *judge) place(p []float64, dt float64, paused, first bool) {
	p = append([]float64(nil), p...)
	last := w.newest()
	switch {
	case first || last == nil:
		for j, l := range w.limits {
			most := math.Min(l.step, l.velocity*w.period) + 1e-9
			if off := math.Abs(p[j] - w.measured[j]); off > most && !(l.gripper && w.measured[j] < 0) {
				w.fault("arms start from where they are", "%s is sent to %v, measured %v", l.name, p[j], w.measured[j])
			}
		}
		w.samples = w.samples[:0]
		for i := 3; i >= 0; i-- {
			w.samples = append(w.samples, given{-float64(i) * w.period, p, false})
		}
		return
	case paused: // it stands at the last command
		stood := last.p
		w.samples = w.samples[:0]
		for i := 4; i > 0; i-- {
			w.samples = append(w.samples, given{-float64(i) * w.period, stood, false})
		}
		dt = w.period
		last = w.newest()
	}
	w.samples = append(w.samples, given{last.at + dt, p, w.estop || w.ended})
	if len(w.samples) > 6 {
		w.samples = w.samples[1:]
	}
}

// difference is n! times the divided difference of the n+1 newest samples but skip.
func (w *judge) difference(j, n, skip int) float64 {
	s := w.samples[len(w.samples)-n-1-skip : len(w.samples)-skip]
	d := make([]float64, n+1)
	for i := range d {
		d[i] = s[i].p[j]
	}
	factorial := 1.0
	for k := 1; k <= n; k++ {
		factorial *= float64(k)
		for i := range n + 1 - k {
			d[i] = (d[i+1] - d[i]) / (s[i+k].at - s[i].at)
		}
	}
	return factorial * d[0]
}

// bounds holds the newest command against the limits.
func (w *judge) bounds(dt float64) {
	now, last := w.samples[len(w.samples)-1], w.samples[len(w.samples)-2]
	outside := func(l jointLimits, p float64) float64 { return math.Max(0, math.Max(l.lower-p, p-l.upper)) }
	hard, soft := false, true
	for _, s := range w.samples[len(w.samples)-4:] {
		hard = hard || s.hard
		soft = soft && !s.hard
	}
	for j, l := range w.limits {
		step := now.p[j] - last.p[j]
		v := step / (now.at - last.at)
		if out := outside(l, now.p[j]); out > 1e-9 && out > outside(l, last.p[j])+1e-9 {
			w.fault("no command outside the limits", "%s goes to %v", l.name, now.p[j])
		}
		if math.Abs(step) > l.step+1e-9 {
			w.fault("no step beyond its limit", "%s by %v", l.name, step)
		}
		if math.Abs(v) > l.velocity+1e-7 {
			w.fault("no joint faster than its limit", "%s at %v", l.name, v)
		}
		if w.scaled > 1.5 && math.Abs(v) > w.scale*l.velocity*1.05+1e-7 {
			w.fault("no joint faster than the speed scale allows", "%s at %v, scale %v", l.name, v, w.scale)
		}
		a, most := w.difference(j, 2, 0), l.accel
		if hard {
			most = l.hard
		}
		if math.Abs(a) > most*(1+1e-6)+1e-4 {
			w.fault("no acceleration beyond its limit", "%s at %v", l.name, a)
		}
		if jerk := w.difference(j, 3, 0); soft && math.Abs(jerk) > l.jerk*1.001+0.05 {
			w.fault("no jerk beyond its limit", "%s at %v", l.name, jerk)
		}
	}
}

// stops holds a motion that nothing allows, or no longer, to an end.
func (w *judge) stops(now time.Time, dt float64, licensed, moving bool) {
	n := len(w.samples)
	last := w.samples[n-2]
	speed := func(j int) float64 { return (w.samples[n-1].p[j] - last.p[j]) / (w.samples[n-1].at - last.at) }
	for j, l := range w.limits {
		// What stops outside its limits, or off its command, may go to a hold pose
		// elsewhere, until it follows a chunk again.
		if outside := last.p[j] < l.lower || last.p[j] > l.upper; outside || w.deviating[j] > 0 {
			w.forgiven[j] = true
		} else if moving {
			w.forgiven[j] = false
		}
	}
	if w.estop {
		w.sinceEstop += dt
		for j, l := range w.limits {
			if w.forgiven[j] {
				continue
			}
			// Its speed when the last command was due, at most, and from there the mean
			// of this interval at the maximum deceleration.
			was := (last.p[j] - w.samples[n-3].p[j]) / (last.at - w.samples[n-3].at)
			from, dt := math.Abs(was)+l.accel*(last.at-w.samples[n-3].at)/2, w.samples[n-1].at-last.at
			if last.hard { // already braking
				from = math.Abs(was)
			}
			most := from - l.hard*dt/2
			if from < l.hard*dt {
				most = from * from / (2 * l.hard * dt)
			}
			if last.hard {
				most = from
			}
			if v := math.Abs(speed(j)); v > most+1e-6 {
				w.fault("an e-stop wins on the next command", "%s at %v after %v", l.name, v, was)
			}
			if w.sinceEstop > l.velocity/l.hard+3*w.period+0.02 && speed(j) != 0 {
				w.fault("an e-stop brings the arms to rest and latches", "%s at %v after %.2f s", l.name, speed(j), w.sinceEstop)
			}
		}
	}
	if licensed {
		w.unlicensed, w.resting = 0, false
		return
	}
	if w.unlicensed == 0 {
		w.before = make([]float64, len(w.limits))
		for j := range w.before {
			w.before[j] = w.difference(j, 2, 1)
			w.turned[j] = false
		}
	}
	for j := range w.turned {
		was := last.p[j] - w.samples[n-3].p[j]
		w.turned[j] = w.turned[j] || was*speed(j) < 0
	}
	w.unlicensed += dt
	if moving {
		w.fault("silence is noticed within one period", "the arms still follow a chunk: %v", w.why(now))
	}
	rest := true
	for j, l := range w.limits {
		v := speed(j)
		switch {
		case v == 0:
		case w.forgiven[j]:
		case w.resting:
			w.fault("the hold pose stays", "%s moves at %v, %.2f s after there was no reason to", l.name, v, w.unlicensed)
		case w.unlicensed > 2*(l.velocity/l.accel+l.accel/l.jerk)+0.1+3*w.period:
			w.fault("silence ends at rest", "%s at %v after %.2f s", l.name, v, w.unlicensed)
		case w.turned[j]:
			// It was accelerating against its motion, which was over first.
			if most := l.accel*l.accel/(2*l.jerk) + l.accel*w.period; math.Abs(v) > most+1e-6 {
				w.fault("silence decelerates", "%s at %v after it turned", l.name, v)
			}
		case math.Abs(v) > 0.01*l.velocity:
			// What a joint gains is taken away at once, and is over soon.
			along := math.Copysign(1, v)
			most := math.Max(0, along*w.before[j]) + 1.5*l.jerk*w.period + 0.05*l.accel
			if w.unlicensed > l.accel/l.jerk+4*w.period {
				most = 0.02 * l.accel
			}
			if a := along * w.difference(j, 2, 0); w.unlicensed > 2*w.period && a > most {
				w.fault("silence decelerates", "%s accelerates at %v, %.2f s after", l.name, a, w.unlicensed)
			}
		}
		rest = rest && (v == 0 || w.forgiven[j])
	}
	if w.unlicensed > 2*w.period+1e-9 && rest {
		w.resting = true
	}
}

// why tells what a licence lacks.
func (w *judge) why(now time.Time) string {
	return fmt.Sprintf("enabled %v, e-stop %v, disabling %v, not finite %v, ended %v, planned %v, homing %v, joints %v and %v ago, drivers %v %v and %v ago, images %v ago, deadman %v ago of %v, deviating %v",
		w.enabled, w.estop, w.disabling, w.spoilt, w.ended, w.planned, w.homing, now.Sub(w.fed[0]), now.Sub(w.fed[1]), w.driverBad,
		now.Sub(w.driver[0]), now.Sub(w.driver[1]), now.Sub(w.observed), now.Sub(w.deadman), w.timeout, w.deviating)
}
