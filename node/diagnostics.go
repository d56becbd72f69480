package node

import (
	"fmt"
	"strconv"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
)

// publishDiagnostics publishes one status each for the cameras, the joints, the
// policy and the arms.
func (n *Node) publishDiagnostics() {
	now := n.ros.Now()
	n.publish(n.diagnostics, n.topics.diagnostics, &msgs.DiagnosticArray{
		Header: msgs.Header{Stamp: msgs.TimeOf(now)},
		Status: []msgs.DiagnosticStatus{n.cameraStatus(now), n.jointStatus(now), n.policyStatus(), n.armStatus()},
	})
}

// status starts a DiagnosticStatus that belongs to this node.
func (n *Node) status(part string) msgs.DiagnosticStatus {
	return msgs.DiagnosticStatus{Name: n.ros.Name()[1:] + ": " + part, HardwareID: "cobot_magic", Message: "ok"}
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
	s := n.status("cameras")
	maxAge := n.currentLive().MaxAge
	for _, c := range n.observer.cameras {
		c.mu.Lock()
		stamp, refusal, sequence, refused, hz := c.stamp, c.last, c.sequence, c.refused, c.rate.hertz(now)
		c.mu.Unlock()
		n.inputStatus(&s, c.name, c.topic, now, stamp, maxAge, refusal, sequence, refused, hz)
	}
	return s
}

func (n *Node) jointStatus(now time.Time) msgs.DiagnosticStatus {
	s := n.status("joints")
	maxAge := n.settings.Control.FeedbackTimeout
	for _, j := range n.observer.joints {
		stamp, refusal := j.head()
		j.mu.Lock()
		count, refused, hz := j.count, j.refused, j.rate.hertz(now)
		j.mu.Unlock()
		n.inputStatus(&s, j.arm, j.topic, now, stamp, maxAge, refusal, count, refused, hz)
	}
	return s
}

// inputStatus adds one topic to a status.
func (n *Node) inputStatus(s *msgs.DiagnosticStatus, name, topic string, now, stamp time.Time, maxAge time.Duration, refusal error, count, refused uint64, hz float64) {
	value(s, name+".topic", "%s", topic)
	value(s, name+".rate", "%.1f", hz)
	value(s, name+".messages", "%d", count)
	value(s, name+".refused", "%d", refused)
	switch {
	case refusal != nil:
		worsen(s, msgs.DiagnosticError, "%v", refusal)
	case stamp.IsZero():
		worsen(s, msgs.DiagnosticStale, "%s: nothing received on %s", name, topic)
	case now.Sub(stamp) > maxAge:
		worsen(s, msgs.DiagnosticError, "%s: silent for %.2f s", name, now.Sub(stamp).Seconds())
	}
	if !stamp.IsZero() {
		value(s, name+".age", "%.3f", now.Sub(stamp).Seconds())
	}
}

func (n *Node) policyStatus() msgs.DiagnosticStatus {
	s := n.status("policy")
	instruction, _ := n.observer.current()
	r := n.Report()
	n.mu.Lock()
	reason, prompt, confidence := n.reason, n.stats.prompt, n.stats.confidence
	n.mu.Unlock()
	if reason != "" {
		worsen(&s, msgs.DiagnosticWarn, "no chunk: %s", reason)
	}
	value(&s, "instruction", "%s", instruction)
	value(&s, "prompt", "%s", prompt)
	value(&s, "chunks", "%d", r.Chunks)
	value(&s, "chunk_rate", "%.2f", r.ChunkRate)
	value(&s, "rounds", "%.2f", r.MeanRounds)
	value(&s, "confidence", "%.3f", confidence)
	value(&s, "failed", "%d", r.Failed)
	value(&s, "over_budget", "%d", r.OverBudget)
	for stage := range numStages {
		p := r.Latency[stage]
		value(&s, "latency."+stage.String(), "p50 %.1f ms, p95 %.1f ms, p99 %.1f ms", ms(p.P50), ms(p.P95), ms(p.P99))
	}
	return s
}

func (n *Node) armStatus() msgs.DiagnosticStatus {
	s := n.status("arms")
	e := n.executor.Status()
	switch {
	case e.Code.Latched():
		worsen(&s, msgs.DiagnosticError, "%s", e.Code.Sentence())
	case e.Mode == control.Disabled:
		s.Message = "disabled; call ~/enable"
	case e.Code != control.OK:
		worsen(&s, msgs.DiagnosticWarn, "%s", e.Code.Sentence())
	}
	value(&s, "mode", "%s", e.Mode)
	value(&s, "code", "%s", e.Code)
	value(&s, "plan_left", "%.3f", e.Left.Seconds())
	value(&s, "commands", "%d", e.Counters.Commands)
	value(&s, "chunks_taken", "%d", e.Counters.Chunks)
	value(&s, "chunks_dropped", "%d", e.Counters.Dropped())
	for code := control.Code(0); int(code) < control.Codes(); code++ {
		if c := e.Counters.ByCode[code]; c > 0 {
			value(&s, "count."+code.String(), "%s", strconv.FormatUint(c, 10))
		}
	}
	return s
}

func ms(d time.Duration) float64 { return d.Seconds() * 1e3 }
