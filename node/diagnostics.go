package node

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// diagnosticsTopic is where diagnostics go, of all nodes of a robot.
const diagnosticsTopic = "/diagnostics"

// publishDiagnostics publishes one status each for the cameras, the joints, the
// policy, the executor and safety, and for the recorder where there is one.
func (n *Node) publishDiagnostics() {
	now := n.ros.Now()
	m := &msgs.DiagnosticArray{
		Header: msgs.Header{Stamp: msgs.TimeOf(now)},
		Status: []msgs.DiagnosticStatus{
			n.cameraStatus(now), n.jointStatus(now), n.policyStatus(now), n.executorStatus(now), n.safetyStatus(now),
		},
	}
	if n.recorder.on() {
		m.Status = append(m.Status, n.recorderStatus())
	}
	n.publish(n.diagnostics, n.topics.diagnostics, m)
}

// publishStatus publishes on ~/status, in one line, what an operator's display
// shows: the instruction, what the arms do and why, the newest chunk.
func (n *Node) publishStatus() {
	now := n.ros.Now()
	e := n.executor.Status()
	n.mu.Lock()
	reason, busy, stats := n.reason, n.busy, n.stats
	n.mu.Unlock()
	s := newStatus(n.ros, "status")
	switch {
	case !n.active.Load():
		s.Message = inactive
	case fault(e.Code):
		worsen(&s, msgs.DiagnosticError, "%s", e.Code.Sentence())
	case e.Mode == control.Disabled:
		s.Message = disabled
	case reason != "":
		worsen(&s, msgs.DiagnosticWarn, "no chunk: %s", reason)
	case e.Code != control.OK:
		worsen(&s, msgs.DiagnosticWarn, "%s", n.halted(e, now))
	default:
		s.Message = e.Code.Sentence()
	}
	failure := n.recorder.failure()
	if failure != nil && s.Level == msgs.DiagnosticOK {
		worsen(&s, msgs.DiagnosticWarn, "recording ended: %v", failure)
	}
	value(&s, "instruction", "%s", n.observer.current())
	if n.recorder.on() {
		recording := "on"
		if failure != nil {
			recording = "ended: " + failure.Error()
		}
		value(&s, "recording", "%s", recording)
	}
	value(&s, "mode", "%s", e.Mode)
	value(&s, "code", "%s", e.Code)
	value(&s, "inference", "%s", map[bool]string{true: "idle", false: "running"}[busy.IsZero()])
	value(&s, "chunks", "%d", stats.chunks)
	if stats.chunks > 0 {
		value(&s, "latency_ms", "%.1f", ms(stats.latency))
		value(&s, "chunk_age", "%.3f", now.Sub(stats.last).Seconds())
		if !math.IsNaN(stats.confidence) { // an L1 head has none
			value(&s, "confidence", "%.3f", stats.confidence)
		}
	}
	n.publish(n.statuses, n.topics.status, &msgs.DiagnosticArray{
		Header: msgs.Header{Stamp: msgs.TimeOf(now)}, Status: []msgs.DiagnosticStatus{s},
	})
}

// What is told of a node that is inactive, and of arms that are not enabled.
const (
	inactive = "inactive: `ros2 lifecycle set` it to activate"
	disabled = "disabled; call ~/enable"
)

// newStatus starts a DiagnosticStatus that belongs to a node.
func newStatus(rn ros.Node, part string) msgs.DiagnosticStatus {
	return msgs.DiagnosticStatus{Name: rn.Name()[1:] + ": " + part, HardwareID: "cobot_magic", Message: "ok"}
}

// status is newStatus, which tells where nothing is judged since nothing is taken.
func (n *Node) status(part string) (s msgs.DiagnosticStatus, active bool) {
	s, active = newStatus(n.ros, part), n.active.Load()
	if !active {
		s.Message = inactive
	}
	return s, active
}

// worsen raises a status to a level and says why, unless it is worse already.
func worsen(s *msgs.DiagnosticStatus, level byte, format string, args ...any) {
	if level > s.Level {
		s.Level, s.Message = level, fmt.Sprintf(format, args...)
	}
}

func value(s *msgs.DiagnosticStatus, key, format string, args ...any) {
	s.Values = append(s.Values, msgs.KeyValue{Key: key, Value: fmt.Sprintf(format, args...)})
}

func (n *Node) cameraStatus(now time.Time) msgs.DiagnosticStatus {
	s, active := n.status("cameras")
	maxAge := n.currentLive().MaxAge
	for _, c := range n.observer.cameras {
		c.mu.Lock()
		sequence, refused, hz := c.sequence, c.refusals.count, c.rate.hertz(now)
		c.mu.Unlock()
		n.inputStatus(&s, active, c, c.name, c.topic, c.heard, now, maxAge, sequence, refused, hz)
	}
	return s
}

func (n *Node) jointStatus(now time.Time) msgs.DiagnosticStatus {
	s, active := n.status("joints")
	maxAge := n.settings.Control.FeedbackTimeout
	for _, j := range n.observer.joints {
		j.mu.Lock()
		count, refused, hz := j.count, j.refusals.count, j.rate.hertz(now)
		j.mu.Unlock()
		n.inputStatus(&s, active, j, j.arm, j.topic, j.heard, now, maxAge, count, refused, hz)
	}
	return s
}

// inputStatus adds one topic to a status.
func (n *Node) inputStatus(s *msgs.DiagnosticStatus, active bool, in input, name, topic string, heard ros.Subscription, now time.Time, maxAge time.Duration, count, refused uint64, hz float64) {
	stamp, refusal := in.head()
	value(s, name+".topic", "%s", topic)
	value(s, name+".rate", "%.1f", hz)
	value(s, name+".messages", "%d", count)
	value(s, name+".refused", "%d", refused)
	value(s, name+".malformed", "%d", heard.Malformed())
	value(s, name+".dropped", "%d", heard.Dropped())
	value(s, name+".lost", "%d", heard.Lost())
	switch {
	case !active:
		return
	case refusal != nil:
		worsen(s, msgs.DiagnosticError, "%v", refusal)
	case stamp.IsZero():
		worsen(s, msgs.DiagnosticStale, "%s: nothing received on %s%s", name, topic, keptAway(heard))
	case late(in, now, maxAge) != "":
		worsen(s, msgs.DiagnosticError, "%s: %s", name, late(in, now, maxAge))
	case now.Sub(stamp) > maxAge:
		worsen(s, msgs.DiagnosticError, "%s: silent for %.2f s", name, now.Sub(stamp).Seconds())
	}
	if !stamp.IsZero() && !now.IsZero() {
		value(s, name+".age", "%.3f", now.Sub(stamp).Seconds())
	}
}

func (n *Node) policyStatus(now time.Time) msgs.DiagnosticStatus {
	s, active := n.status("policy")
	instruction := n.observer.current()
	r := n.Report()
	n.mu.Lock()
	reason, busy, prompt, confidence := n.reason, n.busy, n.stats.prompt, n.stats.confidence
	n.mu.Unlock()
	if instruction == "" {
		reason += keptAway(n.instructed)
	}
	if took := now.Sub(busy); !busy.IsZero() && took > n.settings.Control.MaxObservationAge {
		worsen(&s, msgs.DiagnosticWarn, "inference has been running for %.1f s; its chunk will be dropped as older than limits.max_observation_age", took.Seconds())
	}
	if active && reason != "" {
		worsen(&s, msgs.DiagnosticWarn, "no chunk: %s", reason)
	}
	if err := n.decoding.fault(); err != nil {
		worsen(&s, msgs.DiagnosticWarn, "parameters decode.* are not in force: %v", err)
		value(&s, "decode", "not in force: %v", err)
	}
	if n.lock != nil {
		lost := n.losses()
		if lost > 0 {
			worsen(&s, msgs.DiagnosticWarn, "lock_step: %d messages of the inputs were lost; chunks may differ from those of a replay", lost)
		}
		value(&s, "lock_step_lost", "%d", lost)
	}
	value(&s, "instruction", "%s", instruction)
	value(&s, "prompt", "%s", prompt)
	value(&s, "chunks", "%d", r.Chunks)
	value(&s, "chunk_rate", "%.2f", r.ChunkRate)
	value(&s, "rounds", "%.2f", r.MeanRounds)
	if !math.IsNaN(confidence) { // an L1 head has none
		value(&s, "confidence", "%.3f", confidence)
	}
	value(&s, "failed", "%d", r.Failed)
	value(&s, "superseded", "%d", r.Superseded)
	value(&s, "terminated", "%d", r.Terminated)
	value(&s, "over_budget", "%d", r.OverBudget)
	for stage := range numStages {
		p := r.Latency[stage]
		value(&s, "latency."+stage.String(), "p50 %.1f ms, p95 %.1f ms, p99 %.1f ms", ms(p.P50), ms(p.P95), ms(p.P99))
	}
	n.loading.values(&s)
	return s
}

// executorStatus is about how commands go out.
func (n *Node) executorStatus(now time.Time) msgs.DiagnosticStatus {
	s, active := n.status("executor")
	e := n.executor.Status()
	n.mu.Lock()
	unsent := n.unsent
	n.mu.Unlock()
	if active && e.Mode == control.Disabled {
		s.Message = disabled
	}
	if unsent.count > 0 && now.Sub(unsent.at).Abs() < 2*time.Second {
		worsen(&s, msgs.DiagnosticError, "publishing on %s fails: %v", unsent.topic, unsent.err)
	}
	for a, p := range n.targets {
		if active && p.MatchedSubscriptions() == 0 {
			worsen(&s, msgs.DiagnosticWarn, "nobody takes commands from %s; is the arm's driver running and the topic's name right?%s", n.topics.targets[a], keptAway(p))
		}
	}
	if e.Mode != control.Disabled && e.Code != control.OK && lost(e.Dropped) {
		worsen(&s, msgs.DiagnosticWarn, "%s", e.Dropped.Sentence())
	}
	value(&s, "mode", "%s", e.Mode)
	value(&s, "plan_left", "%.3f", e.Left.Seconds())
	value(&s, "commands", "%d", e.Counters.Commands)
	value(&s, "chunks_taken", "%d", e.Counters.Chunks)
	value(&s, "chunks_dropped", "%d", e.Counters.Dropped())
	value(&s, "publish_failures", "%d", unsent.count)
	p := n.gaps.percentiles()
	value(&s, "command_interval", "p50 %.1f ms, p95 %.1f ms, p99 %.1f ms, max %.1f ms; %.1f ms is wanted", ms(p.P50), ms(p.P95), ms(p.P99), ms(p.Max), ms(n.executor.Period()))
	return s
}

// safetyStatus is about what keeps the arms from following the policy.
func (n *Node) safetyStatus(now time.Time) msgs.DiagnosticStatus {
	s, active := n.status("safety")
	e := n.executor.Status()
	n.mu.Lock()
	waiting, drivers := n.waiting, n.drivers
	n.mu.Unlock()
	if active && e.Mode == control.Disabled {
		s.Message = disabled
	}
	if fault(e.Code) {
		worsen(&s, msgs.DiagnosticError, "%s", e.Code.Sentence())
	}
	if stands := n.clockFault(now); stands != "" {
		level := byte(msgs.DiagnosticWarn)
		if e.Mode != control.Disabled {
			level = msgs.DiagnosticError
		}
		worsen(&s, level, "%s", stands)
	}
	switch {
	case waiting != "":
		worsen(&s, msgs.DiagnosticWarn, "start_enabled does not enable: %s", waiting)
	case e.Mode == control.Disabled, e.Code == control.OK:
	default:
		worsen(&s, msgs.DiagnosticWarn, "%s", n.halted(e, now))
	}
	n.tellUnheard(&s, now)
	value(&s, "mode", "%s", e.Mode)
	value(&s, "code", "%s", e.Code)
	for a, says := range drivers {
		if says != "" {
			value(&s, arms[a]+".driver", "%s", says)
		}
	}
	for code := control.Code(0); int(code) < control.Codes(); code++ {
		if c := e.Counters.ByCode[code]; c > 0 {
			value(&s, "count."+code.String(), "%s", strconv.FormatUint(c, 10))
		}
	}
	return s
}

// halted says why enabled arms do not follow the policy, and what keeps them from it.
func (n *Node) halted(e control.Status, now time.Time) string {
	says := e.Code.Sentence()
	if lost(e.Dropped) && !(e.Dropped == control.DroppedDeadman && e.Code == control.DeadmanReleased) {
		says += " " + e.Dropped.Sentence()
	}
	if e.Dropped == control.DroppedDeadman || e.Code == control.DeadmanReleased {
		if released := n.released(now); released != "" {
			says += " (" + released + ")"
		}
	}
	return says
}

// tellUnheard tells of buttons that stop nothing, and of a deadman that holds nothing,
// since QoS keeps them away.
func (n *Node) tellUnheard(s *msgs.DiagnosticStatus, now time.Time) {
	if unheard := keptAway(n.stops.any); unheard != "" {
		worsen(s, msgs.DiagnosticError, "a stop on %s is not heard%s", n.topics.estop, unheard)
	} else if unsure := keptAway(n.stops.reliable); unsure != "" {
		worsen(s, msgs.DiagnosticWarn, "a stop on %s that gets lost is not sent again%s; publish it reliably", n.topics.estop, unsure)
	}
	if n.deadman.heard == nil {
		return
	}
	released := n.released(now)
	if unheard := keptAway(n.deadman.heard); unheard != "" && released != "" {
		worsen(s, msgs.DiagnosticError, "the deadman is not heard; %s", released)
	}
	value(s, "deadman", "%s", map[bool]string{true: "held", false: released}[released == ""])
}

// recorderStatus is about the bag. That it ended is no error of what controls the arms:
// nobody is to restart the node for it.
func (n *Node) recorderStatus() msgs.DiagnosticStatus {
	s := newStatus(n.ros, "recorder")
	written, dropped := n.recorder.counts()
	if err := n.recorder.failure(); err != nil {
		worsen(&s, msgs.DiagnosticWarn, "recording ended; control goes on: %v", err)
	} else if dropped > n.recorder.told {
		lost := dropped - n.recorder.told
		worsen(&s, msgs.DiagnosticWarn, "the disk is too slow: %d messages were not recorded in the last second", lost)
		n.log.Warn("the disk is too slow: messages were not recorded", zap.Uint64("messages", lost), zap.Uint64("of them all", dropped))
	}
	n.recorder.told = dropped
	value(&s, "bag", "%s", n.settings.Record)
	value(&s, "written", "%d", written)
	value(&s, "dropped", "%d", dropped)
	return s
}

// keptAway tells of peers whose QoS does not fit, or nothing.
func keptAway(p interface{ Mismatch() ros.Mismatch }) string {
	if m := p.Mismatch(); m.Count > 0 {
		return "; " + m.String()
	}
	return ""
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
