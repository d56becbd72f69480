// Package doctor looks at a robot, or at a recording of one, with the eyes of a
// policy, before anything moves: do pictures, joints, words, machine and network fit
// what the checkpoint was trained with?
//
// A [Listener] hears the topics that a node with the same settings would hear, on any
// ros.Node; [Examine] judges what it heard. Every [Finding] is a sentence with a mend.
// Nothing is published. `ddvla doctor` is the command around it.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Severity says what a finding means for the robot.
type Severity int

// Severities, from good to bad.
const (
	// Note is worth knowing and nothing to mend.
	Note Severity = iota
	// Warning may be meant, and should be looked at before the arms move.
	Warning
	// Error must be mended before the arms move.
	Error
)

func (s Severity) String() string {
	switch s {
	case Note:
		return "note"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return fmt.Sprintf("Severity(%d)", int(s))
}

// MarshalText writes "note", "warning" or "error".
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(text []byte) error {
	for _, known := range []Severity{Note, Warning, Error} {
		if known.String() == string(text) {
			*s = known
			return nil
		}
	}
	return fmt.Errorf("there is no severity %q", text)
}

// A Finding is one thing that was noticed.
type Finding struct {
	// Code stays the same from version to version: "camera-silent".
	Code     string   `json:"code"`
	Severity Severity `json:"severity"`
	// About is the camera, arm, joint, topic or file.
	About string `json:"about"`
	// Sentence says what is the matter, Mend what to do.
	Sentence string `json:"sentence"`
	Mend     string `json:"mend"`
}

// Report is what an examination gives, and its JSON form. Times are in seconds,
// rates in Hz, joints in rad and m.
type Report struct {
	// Source is the bag, or "live".
	Source   string          `json:"source"`
	Seconds  float64         `json:"seconds"` // that were listened to
	Policy   string          `json:"policy"`
	Bundle   string          `json:"bundle"`
	Cameras  []CameraReport  `json:"cameras"`
	Arms     []ArmReport     `json:"arms"`
	Sets     SetsReport      `json:"sets"`
	Prompts  []PromptReport  `json:"prompts"`
	Chunk    ChunkReport     `json:"chunk"`
	Machine  *MachineReport  `json:"machine,omitempty"`
	Topics   []TopicReport   `json:"topics,omitempty"` // live
	Findings []Finding       `json:"findings"`         // worst first
	Counts   map[string]int  `json:"counts"`           // of findings by severity
	told     map[string]bool // codes with what they are about
}

func (r *Report) add(s Severity, code, about, mend, format string, args ...any) {
	if r.told == nil {
		r.told = map[string]bool{}
	}
	if key := code + " " + about; !r.told[key] {
		r.told[key] = true
		r.Findings = append(r.Findings, Finding{Code: code, Severity: s, About: about, Sentence: fmt.Sprintf(format, args...), Mend: mend})
	}
}

// has tells whether a finding was made.
func (r *Report) has(code, about string) bool { return r.told[code+" "+about] }

// Worst is the worst severity of the findings, Note where there are none.
func (r *Report) Worst() Severity {
	worst := Note
	for _, f := range r.Findings {
		worst = max(worst, f.Severity)
	}
	return worst
}

// finish orders the findings and counts them.
func (r *Report) finish() {
	slices.SortStableFunc(r.Findings, func(a, b Finding) int { return cmp.Compare(b.Severity, a.Severity) })
	r.Counts = map[string]int{}
	for _, f := range r.Findings {
		r.Counts[f.Severity.String()]++
	}
	if r.Findings == nil {
		r.Findings = []Finding{}
	}
}

// count is "1 camera", "2 cameras".
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// list is "a", "a and b", "a, b and c".
func list(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " and " + words[len(words)-1]
}
