package report

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/control"
)

// Condition is one under which a replay fails: a metric, a comparison and a number.
type Condition struct {
	Metric string // "mae", "mae.left_joint1", "limits.limited_velocity"
	Op     string // ">", ">=", "<", "<=", "==", "!="
	Value  float64
}

// String is what ParseCondition reads.
func (c Condition) String() string {
	return c.Metric + c.Op + strconv.FormatFloat(c.Value, 'g', -1, 64)
}

// Outcome is a condition held against a report.
type Outcome struct {
	Condition string `json:"condition"`
	Value     Figure `json:"value"`
	Unit      string `json:"unit,omitempty"`
	Failed    bool   `json:"failed"`
	// Reason is set where there is no value, which fails too.
	Reason string `json:"reason,omitempty"`
}

// ErrCondition is what every error of ParseCondition and Condition.Check is.
var ErrCondition = errors.New("no condition")

// ParseCondition reads METRIC OP NUMBER, such as "mae > 0.05". It knows the metrics, and
// the codes of limits; whether there is a joint of a name, [Condition.Check] tells.
func ParseCondition(text string) (Condition, error) {
	wrong := func(format string, args ...any) (Condition, error) {
		return Condition{}, fmt.Errorf("%w: %q: %s", ErrCondition, text, fmt.Sprintf(format, args...))
	}
	at := strings.IndexAny(text, "<>=!")
	if at < 0 {
		return wrong("it must be METRIC OP NUMBER with one of > >= < <= == != for OP, such as mae>0.05")
	}
	c := Condition{Metric: strings.TrimSpace(text[:at]), Op: text[at : at+1]}
	rest := text[at+1:]
	if strings.HasPrefix(rest, "=") {
		c.Op, rest = c.Op+"=", rest[1:]
	}
	if !slices.Contains([]string{">", ">=", "<", "<=", "==", "!="}, c.Op) {
		return wrong("%q is no comparison; there are > >= < <= == !=", c.Op)
	}
	m, which, err := findMetric(c.Metric)
	if err != nil {
		return wrong("%v", err)
	}
	if m.of == "code" && which != "" && !isCode(which) {
		return wrong("there is no code %q of the arms' executor", which)
	}
	if c.Value, err = strconv.ParseFloat(strings.TrimSpace(rest), 64); err != nil || math.IsNaN(c.Value) || math.IsInf(c.Value, 0) {
		return wrong("%q is no number", strings.TrimSpace(rest))
	}
	return c, nil
}

// findMetric finds a metric and what it is asked of.
func findMetric(name string) (m metric, which string, err error) {
	base, which, dotted := strings.Cut(name, ".")
	var names []string
	for _, m := range metrics() {
		if m.name != base {
			names = append(names, m.name)
			continue
		}
		switch {
		case dotted && m.of == "":
			return m, "", fmt.Errorf("%s is of nothing in particular", base)
		case dotted && which == "":
			return m, "", fmt.Errorf("a %s is missing after the dot", m.of)
		}
		return m, which, nil
	}
	return m, "", fmt.Errorf("there is no metric %q; there are %s", base, strings.Join(names, ", "))
}

// isCode tells whether the executor has a code of that name.
func isCode(name string) bool {
	for c := range control.Codes() {
		if control.Code(c).String() == name {
			return true
		}
	}
	return false
}

// Check tells whether the metric can have a value with a setup: the joint or stage that it
// names is there, and the recording holds what it compares with.
func (c Condition) Check(s Setup) error {
	m, which, err := findMetric(c.Metric)
	if err != nil {
		return fmt.Errorf("%w: %q: %w", ErrCondition, c, err)
	}
	r := Report{Setup: s}
	if names := r.ones(m.of); which != "" && m.of != "code" && !slices.Contains(names, which) {
		return fmt.Errorf("%w: %q: there is no %s %q, only %s", ErrCondition, c, m.of, which, strings.Join(names, ", "))
	}
	if !s.Recorded && needsRecorded(m.name) {
		return fmt.Errorf("%w: %q cannot be told: %s", ErrCondition, c, s.Why)
	}
	return nil
}

func needsRecorded(name string) bool {
	switch name {
	case "mae", "rmse", "max_error", "bias", "mae_percent", "mae_hold", "skill", "direction", "gripper_accuracy":
		return true
	}
	return false
}

// hold holds a condition against the metrics of a report. A value that is not known
// fails: what was to be shown was not.
func (c Condition) hold(r *Report) Outcome {
	o := Outcome{Condition: c.String(), Value: unknown()}
	m, which, err := findMetric(c.Metric)
	switch {
	case err != nil:
		o.Failed, o.Reason = true, err.Error()
		return o
	case m.of == "code" && which != "":
		// Codes that never happened have no line of their own.
		o.Value = m.value(r, nil, which)
	default:
		if v, ok := r.Metrics[c.Metric]; ok {
			o.Value = v
		}
	}
	o.Unit = r.unitOf(m, which)
	if !o.Value.Known() {
		o.Failed, o.Reason = true, "there is no value: nothing in this replay could be measured for it"
		return o
	}
	v := float64(o.Value)
	o.Failed = map[string]bool{
		">": v > c.Value, ">=": v >= c.Value, "<": v < c.Value, "<=": v <= c.Value, "==": v == c.Value, "!=": v != c.Value,
	}[c.Op]
	return o
}

// unitOf is a metric's, of a joint that may be a gripper.
func (r *Report) unitOf(m metric, which string) string {
	for _, d := range r.Dims {
		if d.Name == which && m.unit == "rad" {
			return d.Unit
		}
	}
	return m.unit
}

// Err is the conditions that a report fails, as an error; nil without any.
func (r *Report) Err() error {
	var failed []string
	for _, o := range r.Conditions {
		switch {
		case !o.Failed:
		case o.Reason != "":
			failed = append(failed, fmt.Sprintf("%s: %s", o.Condition, o.Reason))
		default:
			failed = append(failed, fmt.Sprintf("%s: it is %.4g", o.Condition, float64(o.Value))+space(o.Unit))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return fmt.Errorf("failed on %s", strings.Join(failed, "; "))
}

func space(unit string) string {
	if unit == "" {
		return ""
	}
	return " " + unit
}
