package report

import (
	"fmt"
	"strings"

	"github.com/ddvla/ddvla/control"
)

// Level is how good something is.
type Level string

// Levels, the worst first.
const (
	Bad  Level = "bad"
	Warn Level = "warn"
	Note Level = "note" // cannot be judged
	Good Level = "good"
)

// Verdict is a finding in a sentence, with what to do about it.
type Verdict struct {
	Level Level  `json:"level"`
	Text  string `json:"text"`
	Mend  string `json:"mend,omitempty"`
}

// Where verdicts change. They are rules of thumb, for the eye to be drawn to; a replay
// that must not pass says so by conditions of its own.
const (
	poorPercent  = 10.0 // of the range
	fairPercent  = 5.0
	smallPercent = 1.0  // below it a still scene is no reproach
	opposite     = -0.3 // correlation of motion
	goodAccuracy = 0.95
	poorAccuracy = 0.8
	doubtful     = 0.1 // mean confidence
	farOff       = 0.8 // share of a joint's error that is a constant offset
)

// judge writes the verdicts, the worst first.
func (r *Report) judge(j *Judge) {
	var all []Verdict
	say := func(level Level, mend, format string, args ...any) {
		all = append(all, Verdict{level, fmt.Sprintf(format, args...), mend})
	}
	for _, o := range r.Conditions {
		switch {
		case o.Failed && o.Reason != "":
			say(Bad, "", "Fails on %s: %s.", o.Condition, o.Reason)
		case o.Failed:
			say(Bad, "", "Fails on %s: it is %.4g%s.", o.Condition, float64(o.Value), space(o.Unit))
		}
	}
	if r.Ended != "" {
		say(Bad, "", "All of this is of a part: the replay ended early, since %s.", r.Ended)
	}
	if r.Failed > 0 {
		say(Bad, "See the log.", "%d inferences failed.", r.Failed)
	}
	r.judgeErrors(j, say)
	r.judgeGrippers(say)
	r.judgeSeams(j, say)
	r.judgeLimits(say)
	r.judgeLatency(say)
	if d := r.Decoding; d != nil && d.Confidence < doubtful {
		say(Warn, "The policy may never have seen such pictures or words: compare cameras and prompt with the training data.",
			"The policy is in doubt: tokens are committed with a mean confidence of %.2f.", float64(d.Confidence))
	}
	for _, level := range []Level{Bad, Warn, Note, Good} {
		for _, v := range all {
			if v.Level == level {
				r.Verdicts = append(r.Verdicts, v)
			}
		}
	}
}

type saying func(level Level, mend, format string, args ...any)

func (r *Report) judgeErrors(j *Judge, say saying) {
	e := j.overall()
	if e.Count == 0 {
		why := "The recording has no commands at the times of the chunks' rows."
		if !r.Recorded {
			why = r.Why
		}
		say(Note, "Record the arms' commands too, or name their topics with arms.*.command_topic.", "Errors cannot be told. %s", why)
		return
	}
	skill, percent := e.skill(), e.Percent
	text := fmt.Sprintf("Chunks are %.4f rad from the recorded commands on average", float64(e.MAE))
	if percent.Known() {
		text += fmt.Sprintf(", %.1f %% of the range", float64(percent))
	}
	if e.Hold.Known() {
		text += fmt.Sprintf("; standing still would be %.4f rad", float64(e.Hold))
	}
	switch {
	case skill.Known() && skill < 0 && !(percent < smallPercent):
		say(Bad, "Check cameras, joint order and units, statistics, action_rate and the instruction before the arms move.", "%s: worse than standing still.", text)
	case percent > poorPercent:
		say(Bad, "Check cameras, joint order and units, statistics, action_rate and the instruction before the arms move.", "%s.", text)
	case percent > fairPercent, skill.Known() && skill < 0.3 && !(percent < smallPercent):
		say(Warn, "", "%s.", text)
	default:
		say(Good, "", "%s.", text)
	}
	var against, offset []string
	for i, g := range r.Joints {
		if !r.Dims[i].turns() || g.Count == 0 {
			continue
		}
		if g.Direction < opposite {
			against = append(against, fmt.Sprintf("%s (%.2f)", g.Name, float64(g.Direction)))
		}
		if b := max(g.Bias, -g.Bias); g.Percent > fairPercent && b > farOff*g.MAE {
			offset = append(offset, fmt.Sprintf("%s (%+.3f rad)", g.Name, float64(g.Bias)))
		}
	}
	if len(against) > 0 {
		say(Bad, "A sign, or the order of joints or arms, may be wrong.", "Predicted motion goes against the recorded one: %s.", strings.Join(against, ", "))
	}
	if len(offset) > 0 {
		say(Warn, "A zero point may differ between the training data and this robot.", "Nearly all of the error is a constant offset: %s.", strings.Join(offset, ", "))
	}
}

func (r *Report) judgeGrippers(say saying) {
	flicker := 0
	for _, g := range r.Grippers {
		flicker += g.Flicker
		if !g.Accuracy.Known() {
			continue
		}
		text := fmt.Sprintf("%s is open or closed as recorded in %.1f %% of the rows", g.Name, 100*float64(g.Accuracy))
		c := g.Confusion
		switch open, closed := c[0][1]+c[1][1], c[0][0]+c[1][0]; {
		case g.Accuracy < 0.5 && open > 0 && closed > 0:
			say(Bad, "The gripper may be inverted, or in another unit.", "%s.", text)
		case g.Accuracy < poorAccuracy:
			say(Bad, "", "%s.", text)
		case g.Accuracy < goodAccuracy:
			say(Warn, "", "%s.", text)
		default:
			say(Good, "", "%s.", text)
		}
	}
	if flicker > 0 {
		say(Warn, "gripper.binary opens and closes with hysteresis.", "Grippers flicker: %d changes are taken back within %v.", flicker, flickerTime)
	}
}

func (r *Report) judgeSeams(j *Judge, say saying) {
	if len(j.largest) == 0 {
		return
	}
	text := fmt.Sprintf("From chunk to chunk the plan jumps by %.4f rad at most, 95 %% by less than %.4f", float64(quantile(j.largest, 1)), float64(quantile(j.largest, 0.95)))
	// A step that an arm makes from row to row at its velocity limit.
	var step Figure
	for _, d := range r.Dims {
		if d.turns() && d.Velocity > 0 {
			step = max(step, Figure(d.Velocity/r.ActionRate))
		}
	}
	if step > 0 && quantile(j.largest, 0.95) > step {
		say(Warn, "motion.hand_over blend, ensemble or infill smooths it; a chunk or rate other than in training causes it.",
			"%s, which is more than the joints can go in a row (%.4f rad).", text, float64(step))
		return
	}
	say(Good, "", "%s.", text)
}

func (r *Report) judgeLimits(say saying) {
	var stops, halts, limits []string
	for _, c := range r.Counts {
		line := fmt.Sprintf("%d x %s", c.Count, c.Code)
		switch c.Kind {
		case Stop:
			stops = append(stops, line)
		case Halt:
			halts = append(halts, line)
		case Limit:
			if c.Code == control.ClampedPosition.String() || c.Share > 0.05 {
				limits = append(limits, line)
			}
		}
	}
	if len(stops) > 0 {
		say(Bad, "See the events below.", "The arms would have stopped: %s.", strings.Join(stops, ", "))
	}
	if len(halts) > 0 {
		say(Note, "", "The arms would have halted, until the next chunk: %s.", strings.Join(halts, ", "))
	}
	if len(limits) > 0 {
		say(Warn, "Commands stay within the limits, so the arms would not quite have gone where the policy wants.", "Limits would have acted: %s of %d commands.", strings.Join(limits, ", "), r.Commands)
	}
	if len(stops)+len(limits) == 0 && r.Commands > 0 {
		say(Good, "", "No stop, no clamped position, and hardly a limit in %d commands.", r.Commands)
	}
}

func (r *Report) judgeLatency(say saying) {
	for _, s := range r.Latency {
		if s.Name != "chunk" || s.Count == 0 || !(r.Budget > 0) {
			continue
		}
		text := fmt.Sprintf("A chunk took %.0f ms here in the median, 95 %% less than %.0f ms", float64(s.P50), float64(s.P95))
		if float64(s.P95) > 1e3*r.Budget {
			say(Warn, "On the robot: fewer rounds, a faster machine, or a lower rate.", "%s, more than the %.0f ms between two chunks.", text, 1e3*r.Budget)
		} else {
			say(Good, "", "%s, of the %.0f ms between two chunks.", text, 1e3*r.Budget)
		}
	}
}
