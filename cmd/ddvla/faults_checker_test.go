package main

import (
	"fmt"
	"math"
	"slices"
	"sort"
	"strings"
	"time"
)

// history is what was recorded of a robot and done to its node. It is all that the checker knows: of node and
// executor it knows nothing but what docs and parameters promise.
type history struct {
	simulated bool // stamps are of /clock, which clock lists
	lives     []life
	asked     []span // calls of ~/enable
	sent      [2][]setpoint
	felt      []felt
	looks     []look
	chunks    []thought
	clock     []beat
}

// span is a time, to the zero time where it has not ended.
type span struct{ from, to time.Time }

// life is one process, from its start until it was dead, and when it was stopped.
type life struct {
	span
	stops []span
}

// setpoint is one command of one arm.
type setpoint struct {
	names           []string
	p               []float64
	others          int // entries of velocity and effort
	stamp, received time.Time
}

// felt is where the arms were, and said.
type felt struct {
	stamp, published time.Time
	p                [14]float64
	silent           [2]bool // the arm did not say it
}

// look is a set of pictures of all cameras.
type look struct{ stamp, published time.Time }

// thought is a chunk.
type thought struct {
	stamp, received time.Time // of its pictures; of itself
	length          time.Duration
}

// beat is a value of /clock. elapsed is the time of the simulated world, which does not jump; epoch counts jumps
// backward.
type beat struct {
	value, published time.Time
	elapsed          float64
	epoch            int
}

// jointLimit is a row of the robot's data sheet, as the node's parameters leave it by default.
type jointLimit struct {
	name                                          string
	lower, upper, velocity, accel, jerk, stepping float64
}

func faultLimits() (all []jointLimit) {
	for _, side := range []string{"left", "right"} {
		for i, l := range [][2]float64{{-2.618, 2.618}, {0, 3.14}, {-2.967, 0}, {-1.745, 1.745}, {-1.22, 1.22}, {-2.0944, 2.0944}} {
			all = append(all, jointLimit{fmt.Sprintf("%s joint%d", side, i+1), l[0], l[1], 1, 4, 50, 0.05})
		}
		all = append(all, jointLimit{side + " gripper", 0, 0.07, 0.1, 0.5, 10, 0.01})
	}
	return all
}

// The other numbers of what is promised.
const (
	faultPeriod   = 0.02 // s between commands
	faultGap      = 0.1  // s without a command after which the arms stand
	freshJoints   = 0.2
	freshPictures = 0.5
	farAhead      = 0.1 // s that pictures may be ahead of the clock
	oldestPicture = 2.0 // s that a chunk may take
	slowest       = 20  // times its length that a chunk may be followed
	followingFar  = 0.25
)

// Figures that are compared with limits.
const (
	figureStep = iota
	figureVelocity
	figureAcceleration
	figureJerk
	figures
)

var figureNames = [figures]string{"step", "velocity", "acceleration", "jerk"}

// verdict is what a check found.
type verdict struct {
	faults                     []string
	commands, moving           int
	starts                     int // from the measured pose
	pauses                     int // after which the arms stood
	back                       int // times that the clock went back between two commands
	silent                     int // commands without a reason to move
	restamped                  int
	aheadOfClock               int // commands that only a picture from before a jump explains
	halfway                    int // outages that met moving arms
	worst                      [figures]float64
	worstJoint                 [figures]string
	outages                    int
	outageError, outageLongest float64
}

func (v *verdict) String() string {
	s := fmt.Sprintf("%d commands, %d moving, %d without a reason to move; %d starts from the measured pose, %d after a pause, %d after the clock went back;",
		v.commands, v.moving, v.silent, v.starts, v.pauses, v.back)
	for i, name := range figureNames {
		s += fmt.Sprintf(" %s %.1f%% (%s)", name, 100*v.worst[i], v.worstJoint[i])
	}
	return s + fmt.Sprintf(" of the limit at most; %d stamps corrected, %d commands for chunks from pictures ahead of the clock; %d outages of up to %.1f s, %d of them of moving arms, which kept the last command within %.1e",
		v.restamped, v.aheadOfClock, v.outages, v.outageLongest, v.halfway, v.outageError)
}

// checker holds a history against the promises.
type checker struct {
	*history
	verdict
	limits []jointLimit
	beats  map[int64]int
	epochs []time.Time // when they began, by publication

	now     *life
	samples []sample
	last    *posture
	usedAsk int // calls of enable that explain a start
	since   int // epoch from which chunks count

	unlicensed float64
	before     []float64 // accelerations when there was no reason to move any more
	fastest    []float64 // what speeds could still become then
	forgiven   []bool
	resting    bool
}

// sample is a command as a point of a motion, whose time runs no faster than the commands' period.
type sample struct {
	at float64
	p  []float64
}

// posture is one command of both arms.
type posture struct {
	stamp, received time.Time
	p               []float64
}

// judge checks everything.
func (h *history) judge() *verdict {
	c := &checker{history: h, limits: faultLimits(), beats: make(map[int64]int)}
	for i, b := range h.clock {
		c.beats[b.value.UnixNano()] = i
		if b.epoch == len(c.epochs) {
			c.epochs = append(c.epochs, b.published)
		}
	}
	from := [2]int{}
	for i := range h.lives {
		c.now = &h.lives[i]
		c.samples, c.last, c.resting, c.unlicensed = nil, nil, false, 0
		c.forgiven = make([]bool, len(c.limits))
		var mine [2][]setpoint
		for a := range mine {
			to := len(h.sent[a])
			if i+1 < len(h.lives) {
				next := h.lives[i+1].from
				to = from[a] + sort.Search(to-from[a], func(k int) bool { return h.sent[a][from[a]+k].stamp.After(next) })
			}
			mine[a], from[a] = h.sent[a][from[a]:to], to
		}
		for _, p := range c.pair(mine) {
			c.command(&p)
		}
		var after time.Time
		if from[0] < len(h.sent[0]) {
			after = h.sent[0][from[0]].received
		}
		c.outagesOf(mine, after)
	}
	if most := 4 + c.commands/1000; c.restamped > most {
		c.fault(nil, "the commands' stamps fit", "%d of %d do only if corrected", c.restamped, c.commands)
	}
	return &c.verdict
}

// fault notes a broken promise, each at most twice.
func (c *checker) fault(p *posture, promise, format string, args ...any) {
	same := 0
	for _, f := range c.faults {
		if strings.Contains(f, promise) {
			same++
		}
	}
	if same == 2 {
		return
	}
	at := ""
	if p != nil {
		at = fmt.Sprintf("command %d of %s: ", c.commands, p.stamp.Format("15:04:05.000000"))
	}
	c.faults = append(c.faults, at+promise+": "+fmt.Sprintf(format, args...))
}

// pair joins the commands of the arms. Only the last one of a dead process may miss its other half.
func (c *checker) pair(arms [2][]setpoint) (all []posture) {
	n := min(len(arms[0]), len(arms[1]))
	for k := range n {
		l, r := arms[0][k], arms[1][k]
		p := posture{l.stamp, l.received, append(slices.Clone(l.p), r.p...)}
		if r.received.After(p.received) {
			p.received = r.received
		}
		if !l.stamp.Equal(r.stamp) {
			c.fault(&p, "the arms are commanded together", "the other one at %v", r.stamp)
			return all
		}
		for _, s := range []setpoint{l, r} {
			if !slices.Equal(s.names, []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"}) || len(s.p) != 7 || s.others != 0 {
				c.fault(&p, "commands have the driver's shape", "%q, %d positions, %d others", s.names, len(s.p), s.others)
				return all
			}
		}
		all = append(all, p)
	}
	most := 1
	if c.now.to.IsZero() {
		most = 50 // one arm's may still be on their way
	}
	if more := max(len(arms[0]), len(arms[1])) - n; more > most {
		c.fault(nil, "the arms are commanded together", "%d commands of one arm are left", more)
	}
	return all
}

// command checks one.
func (c *checker) command(p *posture) {
	c.commands++
	for j, v := range p.p {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			c.fault(p, "commands are finite", "%s is sent to %v", c.limits[j].name, v)
			return
		}
	}
	c.when(p)
	dt := c.place(p)
	c.stops(p, dt)
	c.last = p
}

// when checks that a command may come at that time at all.
func (c *checker) when(p *posture) {
	if !slices.ContainsFunc(c.asked, func(s span) bool {
		return !s.from.Before(c.now.from) && !p.received.Before(s.from) && (c.simulated || !p.stamp.Before(s.from.Round(0)))
	}) {
		c.fault(p, "nothing is sent before enable", "the process began at %v", c.now.from)
	}
	if c.simulated {
		i, ok := c.beats[p.stamp.UnixNano()]
		switch {
		case !ok:
			c.fault(p, "commands are of the clock's time", "/clock was never at %v", p.stamp)
		case p.received.Before(c.clock[i].published):
			c.fault(p, "commands are of the clock's time", "/clock came there %v later", c.clock[i].published.Sub(p.received))
		case c.last != nil && i <= c.beats[c.last.stamp.UnixNano()]:
			c.fault(p, "no command while the clock stands", "there was one for this value of /clock, or a later one")
		}
		return
	}
	if p.stamp.Before(c.now.from.Round(0)) || !c.now.to.IsZero() && p.stamp.After(c.now.to.Round(0)) {
		c.fault(p, "a dead process sends nothing", "it lived from %v to %v", c.now.from, c.now.to)
	}
	for _, s := range c.now.stops {
		if p.stamp.After(s.from.Round(0)) && p.stamp.Before(s.to.Round(0)) {
			c.fault(p, "a stopped process sends nothing", "it was stopped from %v to %v", s.from, s.to)
		}
	}
}

// place adds a command to the motion by the way of doing so that breaks no limit, and returns how much time of
// motion it took.
func (c *checker) place(p *posture) (dt float64) {
	if c.last == nil {
		c.begin(p)
		return faultPeriod
	}
	d := p.stamp.Sub(c.last.stamp).Seconds()
	newest := c.samples[len(c.samples)-1]
	var ways [][]sample
	switch {
	case c.simulated && d <= -faultPeriod:
		// A node that sleeps through a little jump never sees the clock go back.
		c.back++
		c.since = c.epoch(p.stamp)
		ways = append(ways, append(slices.Clone(c.samples), sample{newest.at + faultPeriod, p.p}))
	case d <= 0:
		c.fault(p, "commands come in order", "%v after the last", d)
		d = faultPeriod / 10
		fallthrough
	case d <= faultGap:
		ways = append(ways, append(slices.Clone(c.samples), sample{newest.at + min(d, faultPeriod), p.p}))
	}
	if slack := 0.005; d > faultGap || !c.simulated && d > faultGap-slack {
		ways = append(ways, append(standing(newest.p), sample{faultPeriod, p.p}))
		c.pauses++
	}
	for i, way := range ways {
		if c.bounds(way) == nil {
			c.samples = way
			break
		}
		if i < len(ways)-1 {
			continue
		}
		if c.measured(p) && c.mayBegin(p) {
			c.starts++
			c.samples = append(standing(p.p), sample{faultPeriod, p.p})
			break
		}
		if way := c.restamp(ways[0], p); way != nil {
			c.restamped++
			c.samples = way
			break
		}
		for _, b := range c.bounds(ways[0]) {
			c.fault(p, b.promise, "%s needs %.2f of it, %.4f s after the last command", b.joint, b.share, d)
		}
		c.samples = ways[0]
	}
	for f := range figures {
		for j := range c.limits {
			if share := c.share(c.samples, f, j); share > c.worst[f] {
				c.worst[f], c.worstJoint[f] = share, c.limits[j].name
			}
		}
	}
	n := len(c.samples)
	c.samples = c.samples[max(0, n-6):]
	n = len(c.samples)
	return c.samples[n-1].at - c.samples[n-2].at
}

// standing are arms that stood at p until now.
func standing(p []float64) (all []sample) {
	for i := range 4 {
		all = append(all, sample{float64(i-3) * faultPeriod, p})
	}
	return all
}

// begin takes the first command of a process.
func (c *checker) begin(p *posture) {
	if !c.measured(p) {
		c.fault(p, "the first command is the measured pose", "%v was sent", p.p)
	}
	c.starts++
	c.samples = append(standing(p.p), sample{faultPeriod, p.p})
}

// mayBegin reports whether a call of enable explains that the motion begins anew, and takes that call for it.
func (c *checker) mayBegin(p *posture) bool {
	for i := c.usedAsk; i < len(c.asked); i++ {
		s := c.asked[i]
		if !s.from.Before(c.now.from) && !p.received.Before(s.from) && (s.to.IsZero() || c.last == nil || c.simulated || !c.last.stamp.After(s.to.Round(0))) {
			c.usedAsk = i + 1
			return true
		}
	}
	return false
}

// measured reports whether a command is the pose that both arms measured not long before, within limits.
func (c *checker) measured(p *posture) bool {
	now := c.elapsed(p.stamp)
	for a := range 2 {
		found := false
		for i := len(c.felt) - 1; i >= 0 && !found; i-- {
			f := &c.felt[i]
			if f.published.After(p.received) || f.silent[a] {
				continue
			}
			if c.elapsed(f.stamp) < now-freshJoints {
				break
			}
			found = true
			for j := 7 * a; j < 7*a+7; j++ {
				l := c.limits[j]
				found = found && math.Abs(p.p[j]-min(max(f.p[j], l.lower), l.upper)) < 1e-9
			}
		}
		if !found {
			return false
		}
	}
	return true
}

// elapsed is the time of a stamp in seconds, of a world whose clock does not jump. A stamp that the clock never
// showed is that of a picture or state between two of its values.
func (c *checker) elapsed(stamp time.Time) float64 {
	if !c.simulated {
		return float64(stamp.UnixNano()) / 1e9
	}
	if i, ok := c.beats[stamp.UnixNano()]; ok {
		return c.clock[i].elapsed
	}
	return math.Inf(-1)
}

// share is how much of a limit the newest samples need.
func (c *checker) share(s []sample, figure, j int) float64 {
	n, l := len(s), &c.limits[j]
	switch figure {
	case figureStep:
		return math.Abs(s[n-1].p[j]-s[n-2].p[j]) / l.stepping
	case figureVelocity:
		return math.Abs(difference(s, j, 1)) / l.velocity
	case figureAcceleration:
		return math.Abs(difference(s, j, 2)) / l.accel
	default:
		return math.Abs(difference(s, j, 3)) / l.jerk
	}
}

// difference is the n-th derivative that the n+1 newest samples show: n! times their divided difference.
func difference(s []sample, j, n int) float64 {
	s = s[len(s)-n-1:]
	var d [4]float64
	for i := range s {
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

// slack is what stamps in nanoseconds and rounding may add to each share of a limit: a microsecond of 20 ms.
var slack = [figures]float64{1e-7, 1e-4, 5e-3, 2e-2}

// excess is a limit that is broken, and how much of it was needed.
type excess struct {
	promise, joint string
	share          float64
}

// bounds returns the limits that the newest sample breaks.
func (c *checker) bounds(s []sample) (broken []excess) {
	now, was := s[len(s)-1].p, s[len(s)-2].p
	outside := func(l *jointLimit, p float64) float64 { return max(0, l.lower-p, p-l.upper) }
	for j := range c.limits {
		l := &c.limits[j]
		if out := outside(l, now[j]); out > 1e-9 && out > outside(l, was[j])+1e-9 {
			broken = append(broken, excess{"no command outside the limits", l.name, now[j] / max(-l.lower, l.upper)})
		}
		for f := range figures {
			if share := c.share(s, f, j); share > 1+slack[f] {
				broken = append(broken, excess{fmt.Sprintf("no %s beyond its limit", figureNames[f]), l.name, share})
			}
		}
	}
	return broken
}

// restamp corrects one of the newest stamps, if that explains a motion. A program reads the clock that it stamps
// with a moment before the one that it measures time with. Where it loses the processor in between, that
// command's time is later than its stamp, though not later than it came.
func (c *checker) restamp(s []sample, p *posture) []sample {
	if c.simulated {
		return nil
	}
	most := min(faultPeriod, p.received.Round(0).Sub(p.stamp).Seconds())
	for k := range 4 {
		for shift := most / 64; shift <= most; shift += most / 64 {
			way := slices.Clone(s)
			at := len(way) - 1 - k
			way[at].at += shift
			if k > 0 && way[at].at > way[at+1].at-faultPeriod/10 {
				break
			}
			if k == 0 && way[at].at-way[at-1].at > faultPeriod {
				break
			}
			if c.bounds(way) == nil {
				return way
			}
		}
	}
	return nil
}

// licence returns why the arms must not be moving on purpose, or nothing.
func (c *checker) licence(p *posture) string {
	now := c.elapsed(p.stamp)
	for a := range 2 {
		if c.feltAt(a, now) == nil {
			return "an arm's joint state is old"
		}
	}
	i := sort.Search(len(c.looks), func(i int) bool { return c.elapsed(c.looks[i].stamp) > now }) - 1
	if i < 0 || now-c.elapsed(c.looks[i].stamp) > freshPictures {
		return "no pictures are fresh"
	}
	ahead := false
	for i := len(c.chunks) - 1; i >= 0; i-- {
		k := &c.chunks[i]
		if k.received.Before(c.now.from) {
			break
		}
		longest := slowest*k.length.Seconds() + oldestPicture
		if age := now - c.elapsed(k.stamp); age >= 0 && age <= longest && c.epoch(k.stamp) >= c.since {
			return ""
		}
		// Begun after the clock went back by a little, from pictures that were not ahead of it by much.
		if age := p.stamp.Sub(k.stamp).Seconds(); age > -farAhead && age <= longest && c.simulated && k.received.After(c.epochs[c.since]) {
			ahead = true
		}
	}
	if ahead {
		c.aheadOfClock++
		return ""
	}
	return "no chunk is there"
}

func (c *checker) epoch(stamp time.Time) int {
	if i, ok := c.beats[stamp.UnixNano()]; ok {
		return c.clock[i].epoch
	}
	return 0
}

// stops checks that arms without a reason to move come to rest and stay there.
func (c *checker) stops(p *posture, dt float64) {
	n := len(c.samples)
	was := c.samples[n-2]
	speed := func(j int) float64 { return (p.p[j] - was.p[j]) / dt }
	for j := range c.limits {
		if math.Abs(speed(j)) > 0.01*c.limits[j].velocity {
			c.moving++
			break
		}
	}
	why := c.licence(p)
	// What is off its command, or outside, may be given a hold pose elsewhere.
	for j, l := range c.limits {
		if outside := was.p[j] < l.lower || was.p[j] > l.upper; outside || c.off(p, j) {
			c.forgiven[j] = true
		} else if why == "" {
			c.forgiven[j] = false
		}
	}
	if why == "" {
		c.unlicensed, c.resting = 0, false
		return
	}
	c.silent++
	if c.unlicensed == 0 {
		c.before, c.fastest = make([]float64, len(c.limits)), make([]float64, len(c.limits))
		for j, l := range c.limits {
			a := difference(c.samples[:n-1], j, 2)
			c.before[j], c.fastest[j] = a, math.Abs(difference(c.samples[:n-1], j, 1))+a*a/(2*l.jerk)
		}
	}
	c.unlicensed += dt
	rest := true
	for j, l := range c.limits {
		v := speed(j)
		switch {
		case v == 0, c.forgiven[j]:
			continue
		case c.resting:
			c.fault(p, "the hold pose stays", "%s moves at %v, %.2f s after %s", l.name, v, c.unlicensed, why)
		case c.unlicensed > 2*(l.velocity/l.accel+l.accel/l.jerk)+0.1+3*faultPeriod:
			c.fault(p, "silence ends at rest", "%s moves at %v, %.2f s after %s", l.name, v, c.unlicensed, why)
		case c.unlicensed > l.velocity/l.accel && math.Abs(v) > 0.9*c.fastest[j]+0.01*l.velocity:
			c.fault(p, "silence decelerates", "%s still moves at %v, %.2f s after %s", l.name, v, c.unlicensed, why)
		case math.Abs(v) > 0.01*l.velocity && !c.turned(j) && c.unlicensed > 2*faultPeriod:
			along := math.Copysign(1, v)
			most := max(0, along*c.before[j]) + 1.5*l.jerk*faultPeriod + 0.05*l.accel
			if c.unlicensed > l.accel/l.jerk+4*faultPeriod {
				most = 0.02 * l.accel
			}
			if a := along * difference(c.samples, j, 2); a > most {
				c.fault(p, "silence decelerates", "%s accelerates at %v, %.2f s after %s", l.name, a, c.unlicensed, why)
			}
		}
		rest = false
	}
	if c.unlicensed > 2*faultPeriod && rest {
		c.resting = true
	}
}

// off reports whether a joint was far from its command; grippers grasp.
func (c *checker) off(p *posture, j int) bool {
	f := c.feltAt(j/7, c.elapsed(p.stamp))
	return f != nil && j%7 != 6 && c.last != nil && math.Abs(f.p[j]-c.last.p[j]) > followingFar
}

// feltAt is the newest that an arm had said by a time, nil if that is old.
func (c *checker) feltAt(arm int, now float64) *felt {
	i := sort.Search(len(c.felt), func(i int) bool { return c.elapsed(c.felt[i].stamp) > now }) - 1
	for ; i >= 0 && c.elapsed(c.felt[i].stamp) >= now-freshJoints; i-- {
		if f := &c.felt[i]; !f.silent[arm] {
			return f
		}
	}
	return nil
}

// turned reports whether a joint changed its direction in the newest samples.
func (c *checker) turned(j int) bool {
	up, down := false, false
	for i := range c.samples[1:] {
		d := c.samples[i+1].p[j] - c.samples[i].p[j]
		up, down = up || d > 0, down || d < 0
	}
	return up && down
}

// outagesOf checks that the arms kept the last command while the process was stopped, or dead and the next one had
// sent nothing yet.
func (c *checker) outagesOf(sent [2][]setpoint, next time.Time) {
	outages := slices.Clone(c.now.stops)
	if !c.now.to.IsZero() && !next.IsZero() {
		outages = append(outages, span{c.now.to, next})
	}
	for _, o := range outages {
		i := sort.Search(len(c.felt), func(i int) bool { return !c.felt[i].published.Before(o.to) }) - 1
		moving, settled := false, o.to.Sub(o.from) >= time.Second
		for a, all := range sent {
			k := sort.Search(len(all), func(k int) bool { return !all[k].received.Before(o.to) }) - 1
			if i < 0 || k < 1 {
				continue
			}
			for j, p := range all[k].p {
				l := &c.limits[7*a+j]
				moving = moving || math.Abs(p-all[k-1].p[j]) > 0.05*l.velocity*faultPeriod
				off := math.Abs(c.felt[i].p[7*a+j] - p)
				if !settled {
					continue
				}
				if c.outageError = max(c.outageError, off); off > 1e-3 {
					c.fault(nil, "the drivers hold the last command", "%s is %v off after %v", l.name, off, o.to.Sub(o.from))
				}
			}
		}
		if moving {
			c.halfway++
		}
		c.outages++
		c.outageLongest = max(c.outageLongest, o.to.Sub(o.from).Seconds())
	}
}
