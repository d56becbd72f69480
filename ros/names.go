package ros

import (
	"fmt"
	"strings"
)

// Longest names that rmw lets through, so that a DDS topic name with its prefix stays below 256
// (rmw/validate_full_topic_name.h, validate_node_name.h, validate_namespace.h).
const (
	maxTopicName = 247
	maxNodeName  = 255
	maxNamespace = 245
)

// Names expands, remaps and checks the names of one node as rcl does. Back ends without an rcl share it.
type Names struct {
	node, namespace string
	rules           []Remap // those that concern this node's topics and services
}

// NewNames applies the node's own remap rules (__node, __ns) and checks the result.
func NewNames(o Options) (*Names, error) {
	n := &Names{node: o.Name, namespace: o.Namespace}
	for _, r := range o.Remaps {
		if r.Kind == RemapNode && r.concerns(o.Name) {
			n.node = r.To
			break
		}
	}
	for _, r := range o.Remaps {
		if r.Kind == RemapNamespace && r.concerns(n.node) {
			n.namespace = r.To
			break
		}
	}
	if !strings.HasPrefix(n.namespace, "/") {
		n.namespace = "/" + n.namespace
	}
	if err := ValidateNode(n.node); err != nil {
		return nil, err
	}
	if err := ValidateNamespace(n.namespace); err != nil {
		return nil, err
	}
	for _, r := range o.Remaps {
		if r.Kind != RemapNode && r.Kind != RemapNamespace && r.concerns(n.node) {
			n.rules = append(n.rules, r)
		}
	}
	return n, nil
}

// Node is the base name, "ddvla".
func (n *Names) Node() string { return n.node }

// Namespace is "/" or "/robot".
func (n *Names) Namespace() string { return n.namespace }

// FullyQualified is "/ddvla" or "/robot/ddvla".
func (n *Names) FullyQualified() string {
	if n.namespace == "/" {
		return "/" + n.node
	}
	return n.namespace + "/" + n.node
}

// Topic is the fully qualified name of a topic after remapping.
func (n *Names) Topic(name string) (string, error) { return n.resolve(name, RemapTopic) }

// Service is the fully qualified name of a service after remapping.
func (n *Names) Service(name string) (string, error) { return n.resolve(name, RemapService) }

func (n *Names) resolve(name string, kind RemapKind) (string, error) {
	full, err := n.expand(name)
	if err != nil {
		return "", err
	}
	for _, r := range n.rules {
		if r.Kind != RemapAny && r.Kind != kind {
			continue
		}
		from, err := n.expand(r.From)
		if err != nil {
			return "", fmt.Errorf("remap rule %q: %w", r, err)
		}
		if from != full {
			continue
		}
		if full, err = n.expand(r.To); err != nil {
			return "", fmt.Errorf("remap rule %q: %w", r, err)
		}
		break // rules do not chain
	}
	return full, nil
}

// expand makes a name absolute: "~" is the node, a relative name belongs to the namespace.
func (n *Names) expand(name string) (string, error) {
	if err := ValidateName(name); err != nil {
		return "", err
	}
	full := name
	if full == "~" || strings.HasPrefix(full, "~/") {
		full = n.FullyQualified() + full[1:]
	}
	if strings.Contains(full, "{") {
		full = strings.NewReplacer("{node}", n.node, "{ns}", n.namespace, "{namespace}", n.namespace).Replace(full)
	}
	if !strings.HasPrefix(full, "/") {
		full = strings.TrimSuffix(n.namespace, "/") + "/" + full
	}
	if err := ValidateFullName(full); err != nil {
		if full != name {
			return "", fmt.Errorf("%q expands to an invalid name: %w", name, err)
		}
		return "", err
	}
	return full, nil
}

// ValidateFullName checks an absolute topic or service name by rmw_validate_full_topic_name's rules.
func ValidateFullName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("name is empty")
	case name[0] != '/':
		return fmt.Errorf("name %q does not start with a slash", name)
	case strings.HasSuffix(name, "/"):
		return fmt.Errorf("name %q ends with a slash", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("name %.20q... has %d characters; at most %d are allowed", name, len(name), maxTopicName)
	}
	return validateTokens("name", name)
}

// ValidateName checks a name as a program or a user writes it: absolute, relative, or with "~" and the
// substitutions {node}, {ns}, {namespace} (rcl_validate_topic_name).
func ValidateName(name string) error {
	if name == "" {
		return fmt.Errorf("name is empty")
	}
	rest := name
	if rest[0] == '~' {
		if rest == "~" {
			return nil
		}
		if rest[1] != '/' {
			return fmt.Errorf("name %q: \"~\" must be followed by a slash", name)
		}
		rest = rest[1:]
	}
	if strings.HasSuffix(rest, "/") {
		return fmt.Errorf("name %q ends with a slash", name)
	}
	for strings.Contains(rest, "{") {
		before, after, _ := strings.Cut(rest, "{")
		sub, tail, closed := strings.Cut(after, "}")
		if !closed {
			return fmt.Errorf("name %q: \"{\" is not closed", name)
		}
		if sub != "node" && sub != "ns" && sub != "namespace" {
			return fmt.Errorf("name %q: unknown substitution {%s}; there are {node}, {ns} and {namespace}", name, sub)
		}
		// A letter stands for what is put in; {ns} brings a slash of its own.
		if rest = before + "x" + tail; sub != "node" && before == "" {
			rest = "/x" + tail
		}
	}
	return validateTokens("name", rest)
}

// ValidateNode checks a node's base name (rmw_validate_node_name).
func ValidateNode(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("node name is empty")
	case len(name) > maxNodeName:
		return fmt.Errorf("node name %.20q... has %d characters; at most %d are allowed", name, len(name), maxNodeName)
	case strings.Contains(name, "/"):
		return fmt.Errorf("node name %q contains a slash; give the namespace with __ns", name)
	}
	return validateTokens("node name", name)
}

// ValidateNamespace checks a namespace with its leading slash (rmw_validate_namespace).
func ValidateNamespace(ns string) error {
	switch {
	case ns == "/":
		return nil
	case ns == "" || ns[0] != '/':
		return fmt.Errorf("namespace %q does not start with a slash", ns)
	case strings.HasSuffix(ns, "/"):
		return fmt.Errorf("namespace %q ends with a slash", ns)
	case len(ns) > maxNamespace:
		return fmt.Errorf("namespace %.20q... has %d characters; at most %d are allowed", ns, len(ns), maxNamespace)
	}
	return validateTokens("namespace", ns)
}

// validateTokens checks the characters and that no part between slashes is empty or starts with a digit.
func validateTokens(what, name string) error {
	start := true // of a token
	for i := 0; i < len(name); i++ {
		c := name[i]
		switch {
		case c == '/':
			if i > 0 && start {
				return fmt.Errorf("%s %q has two slashes in a row", what, name)
			}
			start = true
			continue
		case c >= '0' && c <= '9':
			if start {
				return fmt.Errorf("%s %q: a part of it starts with a digit", what, name)
			}
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_':
		default:
			return fmt.Errorf("%s %q: character %q is not allowed; use letters, digits and _", what, name, c)
		}
		start = false
	}
	return nil
}

// SplitType splits "sensor_msgs/msg/Image" into its three parts; kind is "msg" or "srv".
func SplitType(typ, kind string) (pkg, name string, err error) {
	parts := strings.Split(typ, "/")
	if len(parts) != 3 || parts[1] != kind {
		return "", "", fmt.Errorf("type %q is not of the form package/%s/Name", typ, kind)
	}
	for _, p := range parts {
		if p == "" || validateTokens("type", p) != nil {
			return "", "", fmt.Errorf("type %q is not of the form package/%s/Name", typ, kind)
		}
	}
	return parts[0], parts[2], nil
}
