package param

import (
	"bytes"
	"encoding/base64"
	"slices"
	"strconv"
	"strings"
)

// Dump writes a node's parameters as `ros2 param dump NODE` of ROS 2 Humble prints them, to the byte: names
// nested at their dots and sorted, below the fully qualified name of the node. The parts of a name must have
// fewer than 123 characters and no line breaks.
//
// That command hands Python's values to PyYAML's yaml.dump with default_flow_style=False and prints the result
// with one more line break (ros2cli, ros2param/verb/dump.py).
func Dump(node string, v Values) []byte {
	w := dumper{}
	w.key(node, 0)
	w.newline(2)
	w.key(fileParameters, 2)
	if len(v.m) == 0 {
		w.text(" {}\n")
	} else {
		root := branch{}
		for name, value := range v.m {
			root.insert(name, value)
		}
		w.branch(root, 4)
		w.text("\n")
	}
	w.text("\n")
	return w.out.Bytes()
}

// A branch is a level of the tree of names: each part is a leaf or another branch.
type branch map[string]any // Value or branch

func (b branch) insert(name string, v Value) {
	head, rest, nested := strings.Cut(name, ".")
	if !nested {
		b[head] = v
		return
	}
	next, ok := b[head].(branch)
	if !ok {
		next = branch{}
		b[head] = next
	}
	next.insert(rest, v)
}

// dumper writes block-style YAML as PyYAML's Emitter does (yaml/emitter.py): lines fold at spaces beyond
// column 80, lists in mappings are not indented, everything but ASCII is escaped.
type dumper struct {
	out    bytes.Buffer
	column int // in characters
}

func (w *dumper) text(s string) {
	w.out.WriteString(s)
	w.column += len([]rune(s))
}

func (w *dumper) newline(indent int) {
	w.out.WriteByte('\n')
	w.out.WriteString(strings.Repeat(" ", indent))
	w.column = indent
}

// branch writes the entries of a mapping, each on a line of its own.
func (w *dumper) branch(b branch, indent int) {
	names := make([]string, 0, len(b))
	for name := range b {
		names = append(names, name)
	}
	slices.SortFunc(names, strings.Compare) // UTF-8 sorts as code points do, and those as Python's strings
	for _, name := range names {
		w.newline(indent)
		w.key(name, indent)
		switch x := b[name].(type) {
		case branch:
			w.branch(x, indent+2)
		case Value:
			w.value(x, indent)
		}
	}
}

func (w *dumper) key(name string, indent int) {
	w.scalar(name, indent, true)
	w.text(":")
}

// value writes what stands behind the colon of a key at the given column.
func (w *dumper) value(v Value, indent int) {
	one := func(v Value) { w.text(" "); w.item(v, indent+2) }
	switch v.kind {
	case KindBytes:
		dumpList(w, v.bytes, indent, func(b byte) {
			// rclpy gives a list of bytes objects, one of each byte.
			w.text(" !!binary |")
			w.newline(indent + 2)
			w.text(base64.StdEncoding.EncodeToString([]byte{b}))
		})
	case KindBools:
		dumpList(w, v.bools, indent, func(x bool) { one(Bool(x)) })
	case KindInts:
		dumpList(w, v.ints, indent, func(x int64) { one(Int(x)) })
	case KindDoubles:
		dumpList(w, v.doubles, indent, func(x float64) { one(Double(x)) })
	case KindStrings:
		dumpList(w, v.strings, indent, func(x string) { one(String(x)) })
	default:
		one(v)
	}
}

func dumpList[T any](w *dumper, list []T, indent int, write func(T)) {
	if len(list) == 0 {
		w.text(" []")
		return
	}
	for _, x := range list {
		w.newline(indent)
		w.text("-")
		write(x)
	}
}

// item writes a value that is no list; lines after the first begin at indent.
func (w *dumper) item(v Value, indent int) {
	switch v.kind {
	case KindBool:
		w.text(strconv.FormatBool(v.b))
	case KindInt:
		w.text(strconv.FormatInt(v.i, 10))
	case KindDouble:
		w.text(pythonDouble(v.f))
	case KindString:
		w.scalar(v.s, indent, false)
	default: // not set
		w.text("null")
	}
}

// pythonDouble writes a number as PyYAML writes repr's result: the shortest digits that read back, with an
// exponent below 1e-4 and from 1e16 on.
func pythonDouble(f float64) string {
	e := strconv.FormatFloat(f, 'e', -1, 64)
	i := strings.IndexByte(e, 'e')
	if i < 0 {
		return formatDouble(f) // .nan and .inf are the same
	}
	if exponent, _ := strconv.Atoi(e[i+1:]); exponent >= -4 && exponent < 16 {
		s := strconv.FormatFloat(f, 'f', -1, 64)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	if !strings.Contains(e[:i], ".") {
		e = e[:i] + ".0" + e[i:]
	}
	return e
}
