package ros

import (
	"fmt"
	"strings"
)

// RemapKind is what a rule renames.
type RemapKind uint8

// What a remap rule renames.
const (
	RemapAny       RemapKind = iota // topics and services
	RemapTopic                      // rostopic://from:=to
	RemapService                    // rosservice://from:=to
	RemapNode                       // __node:=to
	RemapNamespace                  // __ns:=to
)

// A Remap is one rule given with -r on the command line.
type Remap struct {
	Node     string // base name of the only node it is for, "" for every node
	Kind     RemapKind
	From, To string // From is empty for RemapNode and RemapNamespace
}

const (
	topicScheme   = "rostopic://"
	serviceScheme = "rosservice://"
)

// ParseRemap reads "[node:]from:=to", where from may be __node, __name, __ns, or carry the prefix
// rostopic:// or rosservice://.
func ParseRemap(s string) (Remap, error) {
	left, to, ok := strings.Cut(s, ":=")
	if !ok {
		return Remap{}, fmt.Errorf("remap rule %q has no \":=\"; write from:=to", s)
	}
	r := Remap{To: to}
	if i := strings.Index(left, ":"); i >= 0 && !strings.HasPrefix(left[i:], "://") {
		r.Node, left = left[:i], left[i+1:]
		if err := ValidateNode(r.Node); err != nil {
			return Remap{}, fmt.Errorf("remap rule %q: %w", s, err)
		}
	}
	var err error
	switch {
	case left == "__node" || left == "__name":
		r.Kind, err = RemapNode, ValidateNode(to)
	case left == "__ns":
		r.Kind, err = RemapNamespace, ValidateNamespace(to)
	default:
		if name, ok := strings.CutPrefix(left, topicScheme); ok {
			r.Kind, left = RemapTopic, name
		} else if name, ok := strings.CutPrefix(left, serviceScheme); ok {
			r.Kind, left = RemapService, name
		}
		r.From = left
		if err = ValidateName(left); err == nil {
			err = ValidateName(to)
		}
	}
	if err != nil {
		return Remap{}, fmt.Errorf("remap rule %q: %w", s, err)
	}
	return r, nil
}

// String writes the rule as it is given on the command line.
func (r Remap) String() string {
	s := ""
	if r.Node != "" {
		s = r.Node + ":"
	}
	switch r.Kind {
	case RemapNode:
		s += "__node"
	case RemapNamespace:
		s += "__ns"
	case RemapTopic:
		s += topicScheme + r.From
	case RemapService:
		s += serviceScheme + r.From
	default:
		s += r.From
	}
	return s + ":=" + r.To
}

func (r Remap) concerns(node string) bool { return r.Node == "" || r.Node == node }
