package param

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// fileParameters is the key below a node's name under which its parameters stand.
const fileParameters = "ros__parameters"

// A rule is what a params file or -p says about the nodes that a pattern fits.
type rule struct {
	node        string // fully qualified, with * and **
	assignments []Assignment
}

// parseFile reads a params file: node names, possibly nested in namespaces, each with ros__parameters.
func parseFile(data []byte) ([]rule, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil // an empty file says nothing
		}
		return nil, err
	}
	if len(doc.Content) != 1 || doc.Content[0].Kind != yaml.MappingNode {
		return nil, fmt.Errorf("line %d: a params file starts with node names, such as \"/**:\"", doc.Line)
	}
	var rules []rule
	err := walkNodes(doc.Content[0], "", &rules)
	return rules, err
}

// walkNodes goes down through namespaces.
func walkNodes(m *yaml.Node, prefix string, rules *[]rule) error {
	return eachPair(m, func(key, value *yaml.Node) error {
		if key.Value == fileParameters {
			if prefix == "" {
				return fmt.Errorf("line %d: %s must stand below a node's name, such as \"/**:\"", key.Line, fileParameters)
			}
			r := rule{node: prefix}
			if value.Kind == yaml.ScalarNode && value.Tag == "!!null" {
				return nil // declared and left empty
			}
			if value.Kind != yaml.MappingNode {
				return fmt.Errorf("line %d: %s must be a mapping of names to values", value.Line, fileParameters)
			}
			if err := walkParameters(value, "", &r.assignments); err != nil {
				return err
			}
			*rules = append(*rules, r)
			return nil
		}
		if value.Kind != yaml.MappingNode {
			return fmt.Errorf("line %d: %q: there must be %s between a node's name and its parameters", key.Line, key.Value, fileParameters)
		}
		name := prefix + "/" + strings.Trim(key.Value, "/")
		if _, err := nodePattern(name); err != nil {
			return fmt.Errorf("line %d: %w", key.Line, err)
		}
		return walkNodes(value, name, rules)
	})
}

// walkParameters joins the keys of nested mappings with ".".
func walkParameters(m *yaml.Node, prefix string, out *[]Assignment) error {
	return eachPair(m, func(key, value *yaml.Node) error {
		name := prefix + key.Value
		if err := validName(name); err != nil {
			return fmt.Errorf("line %d: %w", key.Line, err)
		}
		if value.Kind == yaml.MappingNode {
			return walkParameters(value, name+".", out)
		}
		v, err := parseNode(value)
		if err != nil {
			return fmt.Errorf("line %d: parameter %q: %w", value.Line, name, err)
		}
		*out = append(*out, Assignment{name, v})
		return nil
	})
}

func eachPair(m *yaml.Node, f func(key, value *yaml.Node) error) error {
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: a name must be a plain word", key.Line)
		}
		if err := f(key, value); err != nil {
			return err
		}
	}
	return nil
}

// parseValue reads the right side of -p name:=value, which is YAML.
func parseValue(s string) (Value, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(s), &doc); err != nil {
		return Value{}, fmt.Errorf("value %q: %w", s, err)
	}
	if len(doc.Content) != 1 {
		return Value{}, fmt.Errorf("value is empty; write \"\" for an empty string")
	}
	return parseNode(doc.Content[0])
}

// parseNode gives a YAML value the type that rcl gives it (rcl_yaml_param_parser).
func parseNode(n *yaml.Node) (Value, error) {
	switch n.Kind {
	case yaml.ScalarNode:
		if n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0 || n.Style&yaml.TaggedStyle != 0 && n.Tag == "!!str" {
			return String(n.Value), nil
		}
		return parseScalar(n.Value)
	case yaml.SequenceNode:
		return parseSequence(n)
	case yaml.AliasNode:
		return Value{}, fmt.Errorf("aliases are not allowed in parameters")
	}
	return Value{}, fmt.Errorf("a mapping is not a value")
}

func parseSequence(n *yaml.Node) (Value, error) {
	out := Value{kind: KindStrings, strings: []string{}} // when empty; Set gives it the declared kind
	for i, item := range n.Content {
		v, err := parseNode(item)
		if err != nil {
			return Value{}, err
		}
		var kind Kind
		switch v.kind {
		case KindBool:
			kind, out.bools = KindBools, append(out.bools, v.b)
		case KindInt:
			kind, out.ints = KindInts, append(out.ints, v.i)
		case KindDouble:
			kind, out.doubles = KindDoubles, append(out.doubles, v.f)
		case KindString:
			kind, out.strings = KindStrings, append(out.strings, v.s)
		default:
			return Value{}, fmt.Errorf("lists in lists are not allowed")
		}
		if i > 0 && kind != out.kind {
			return Value{}, fmt.Errorf("a list must be of one type; its element %d (%s) is a %s in a %s", i, v, v.kind, out.kind)
		}
		out.kind = kind
	}
	if len(n.Content) > 0 && out.kind != KindStrings {
		out.strings = nil
	}
	return out, nil
}

// parseScalar types a word without quotes: YAML 1.1's booleans, C's integers, then doubles; else a string.
func parseScalar(s string) (Value, error) {
	switch s {
	case "true", "True", "TRUE", "y", "Y", "yes", "Yes", "YES", "on", "On", "ON":
		return Bool(true), nil
	case "false", "False", "FALSE", "n", "N", "no", "No", "NO", "off", "Off", "OFF":
		return Bool(false), nil
	case ".nan", ".NaN", ".NAN":
		return Double(math.NaN()), nil
	case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF":
		return Double(math.Inf(1)), nil
	case "-.inf", "-.Inf", "-.INF":
		return Double(math.Inf(-1)), nil
	case "", "~", "null", "Null", "NULL": // strings for rcl, but nobody means one
		return Value{}, fmt.Errorf("value is empty; write \"\" for an empty string")
	}
	switch strings.ToLower(strings.TrimLeft(s, "+-")) {
	case "inf", "infinity", "nan": // as C reads doubles
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return String(s), nil
		}
		return Double(f), nil
	}
	if c := strings.TrimLeft(s, "+-"); c == "" || !(c[0] >= '0' && c[0] <= '9' || c[0] == '.') || strings.Contains(s, "_") {
		return String(s), nil
	}
	if i, err := strconv.ParseInt(s, 0, 64); err == nil {
		return Int(i), nil
	} else if errors.Is(err, strconv.ErrRange) {
		return Value{}, fmt.Errorf("integer %s does not fit 64 bits", s)
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil {
		return Double(f), nil
	} else if errors.Is(err, strconv.ErrRange) {
		return Value{}, fmt.Errorf("number %s does not fit a double", s)
	}
	return String(s), nil
}

// nodePattern compiles a node name with wildcards: * is one part of a name, ** any number of parts.
func nodePattern(name string) (*regexp.Regexp, error) {
	var b strings.Builder
	b.WriteString("^")
	parts := strings.Split(strings.Trim(name, "/"), "/")
	for i, part := range parts {
		switch {
		case part == "**":
			b.WriteString(`(/\w+)*`)
		case part == "*":
			b.WriteString(`/\w+`)
		case wordPattern(part):
			b.WriteString("/" + part)
		case part == "" && i == 0 && len(parts) == 1:
			return nil, fmt.Errorf("node name is empty")
		default:
			return nil, fmt.Errorf("node name %q: %q is neither a name nor * or **", name, part)
		}
	}
	b.WriteString("$")
	return regexp.Compile(b.String())
}

func wordPattern(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !(c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z') {
			return false
		}
	}
	return s != ""
}
