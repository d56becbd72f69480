// Package param gives a node parameters as rclcpp has them, over any [ros.Node]: a table of descriptors,
// the six parameter services, /parameter_events, use_sim_time, params files and the --ros-args flags.
//
// A program declares a table of [Descriptor]s, makes a [Set] from it and the command line ([ParseArgs]),
// and calls [Serve]. Readers take a [Values] snapshot, which never changes and costs no lock.
package param

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/msgs"
)

// Kind is the type of a parameter, numbered as rcl_interfaces/msg/ParameterType.
type Kind uint8

// The kinds of parameters.
const (
	KindNone    Kind = msgs.ParameterNotSet
	KindBool    Kind = msgs.ParameterBool
	KindInt     Kind = msgs.ParameterInteger
	KindDouble  Kind = msgs.ParameterDouble
	KindString  Kind = msgs.ParameterString
	KindBytes   Kind = msgs.ParameterByteArray
	KindBools   Kind = msgs.ParameterBoolArray
	KindInts    Kind = msgs.ParameterIntegerArray
	KindDoubles Kind = msgs.ParameterDoubleArray
	KindStrings Kind = msgs.ParameterStringArray
)

func (k Kind) String() string {
	names := [...]string{"not set", "bool", "integer", "double", "string", "byte array", "bool array",
		"integer array", "double array", "string array"}
	if int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("Kind(%d)", uint8(k))
}

func (k Kind) list() bool { return k >= KindBytes && k <= KindStrings }

// A Value is one parameter's value. The zero Value is "not set". Values are not to be changed: the slices
// of array values are shared.
type Value struct {
	kind    Kind
	b       bool
	i       int64
	f       float64
	s       string
	bytes   []byte
	bools   []bool
	ints    []int64
	doubles []float64
	strings []string
}

// Bool makes a bool.
func Bool(b bool) Value { return Value{kind: KindBool, b: b} }

// Int makes an integer.
func Int(i int64) Value { return Value{kind: KindInt, i: i} }

// Double makes a double.
func Double(f float64) Value { return Value{kind: KindDouble, f: f} }

// String makes a string.
func String(s string) Value { return Value{kind: KindString, s: s} }

// Bytes makes a byte array.
func Bytes(v ...byte) Value { return Value{kind: KindBytes, bytes: v} }

// Bools makes a bool array.
func Bools(v ...bool) Value { return Value{kind: KindBools, bools: v} }

// Ints makes an integer array.
func Ints(v ...int64) Value { return Value{kind: KindInts, ints: v} }

// Doubles makes a double array.
func Doubles(v ...float64) Value { return Value{kind: KindDoubles, doubles: v} }

// Strings makes a string array.
func Strings(v ...string) Value { return Value{kind: KindStrings, strings: v} }

// Kind is the value's type.
func (v Value) Kind() Kind { return v.kind }

// Equal tells whether both have the same kind and value; NaN equals NaN.
func (v Value) Equal(o Value) bool {
	same := func(a, b float64) bool { return a == b || math.IsNaN(a) && math.IsNaN(b) }
	return v.kind == o.kind && v.b == o.b && v.i == o.i && same(v.f, o.f) && v.s == o.s &&
		slices.Equal(v.bytes, o.bytes) && slices.Equal(v.bools, o.bools) && slices.Equal(v.ints, o.ints) &&
		slices.EqualFunc(v.doubles, o.doubles, same) && slices.Equal(v.strings, o.strings)
}

// String writes the value as it is given with -p.
func (v Value) String() string {
	switch v.kind {
	case KindBool:
		return strconv.FormatBool(v.b)
	case KindInt:
		return strconv.FormatInt(v.i, 10)
	case KindDouble:
		return formatDouble(v.f)
	case KindString:
		return formatString(v.s)
	case KindBytes:
		return list(v.bytes, func(b byte) string { return strconv.Itoa(int(b)) })
	case KindBools:
		return list(v.bools, strconv.FormatBool)
	case KindInts:
		return list(v.ints, func(i int64) string { return strconv.FormatInt(i, 10) })
	case KindDoubles:
		return list(v.doubles, formatDouble)
	case KindStrings:
		return list(v.strings, formatString)
	}
	return "not set"
}

func list[T any](v []T, format func(T) string) string {
	parts := make([]string, len(v))
	for i := range v {
		parts[i] = format(v[i])
	}
	return "[" + strings.Join(parts, ", ") + "]"
}

// formatDouble writes a number that reads back as a double: 1 becomes 1.0.
func formatDouble(f float64) string {
	switch {
	case math.IsNaN(f):
		return ".nan"
	case math.IsInf(f, 1):
		return ".inf"
	case math.IsInf(f, -1):
		return "-.inf"
	}
	s := strconv.FormatFloat(f, 'g', -1, 64)
	if e := strings.IndexByte(s, 'e'); e >= 0 {
		if !strings.Contains(s[:e], ".") { // YAML 1.1 wants the point
			s = s[:e] + ".0" + s[e:]
		}
	} else if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// formatString quotes what would not read back as the same string.
func formatString(s string) string {
	if v, err := parseScalar(s); err == nil && v.kind == KindString && plain(s) {
		return s
	}
	return strconv.Quote(s)
}

func plain(s string) bool {
	for _, r := range s {
		if !(r == '_' || r == '-' || r == '/' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return false
		}
	}
	return s != "" && s[0] != '-'
}

// message is the value as ROS sends it.
func (v Value) message() msgs.ParameterValue {
	return msgs.ParameterValue{Type: uint8(v.kind), BoolValue: v.b, IntegerValue: v.i, DoubleValue: v.f, StringValue: v.s,
		ByteArrayValue: v.bytes, BoolArrayValue: v.bools, IntegerArrayValue: v.ints, DoubleArrayValue: v.doubles,
		StringArrayValue: v.strings}
}

// fromMessage copies what counts of a received value, which refers to memory that will be reused.
func fromMessage(m *msgs.ParameterValue) (Value, error) {
	switch Kind(m.Type) {
	case KindNone:
		return Value{}, nil
	case KindBool:
		return Bool(m.BoolValue), nil
	case KindInt:
		return Int(m.IntegerValue), nil
	case KindDouble:
		return Double(m.DoubleValue), nil
	case KindString:
		return String(m.StringValue), nil
	case KindBytes:
		return Bytes(slices.Clone(m.ByteArrayValue)...), nil
	case KindBools:
		return Bools(slices.Clone(m.BoolArrayValue)...), nil
	case KindInts:
		return Ints(slices.Clone(m.IntegerArrayValue)...), nil
	case KindDoubles:
		return Doubles(slices.Clone(m.DoubleArrayValue)...), nil
	case KindStrings:
		return Strings(slices.Clone(m.StringArrayValue)...), nil
	}
	return Value{}, fmt.Errorf("unknown parameter type %d", m.Type)
}
