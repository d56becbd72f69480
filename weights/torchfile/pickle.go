package torchfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/ddvla/ddvla/weights/safetensors"
)

// Limits of a pickle that torch.save writes stay far below these: items are set in
// batches of 1000, names are paths of modules, sizes are a handful.
const (
	maxStack = 1 << 14
	maxMarks = 64
	maxText  = 4096
	maxRank  = 32
)

// errCode ends what is said of anything that a dict of tensors has no use for.
var errCode = errors.New("a state_dict of tensors has no such thing, the file may hold code: do not load it, ask for a safetensors file")

// The values of the machine are nil, bool, int64, string, tuple, *dict, global,
// *storage and *view.
type (
	tuple  []any
	global struct{ module, name string }
	// dict is a dict or, ordered, a collections.OrderedDict.
	dict struct {
		ordered bool
		items   map[string]any
	}
)

func (g global) String() string { return g.module + "." + g.name }

var (
	orderedDict      = global{"collections", "OrderedDict"}
	rebuildTensor    = global{"torch._utils", "_rebuild_tensor_v2"}
	rebuildParameter = global{"torch._utils", "_rebuild_parameter"}
)

// element is a type of values and how many bytes one takes.
type element struct {
	dtype safetensors.DType
	width int64
}

// storageTypes are the classes that stand for element types in a storage's id.
// PyTorch reads an untyped storage as bytes.
var storageTypes = map[global]element{
	{"torch", "DoubleStorage"}:          {"F64", 8},
	{"torch", "FloatStorage"}:           {safetensors.F32, 4},
	{"torch", "HalfStorage"}:            {safetensors.F16, 2},
	{"torch", "BFloat16Storage"}:        {safetensors.BF16, 2},
	{"torch", "LongStorage"}:            {"I64", 8},
	{"torch", "IntStorage"}:             {"I32", 4},
	{"torch", "ShortStorage"}:           {"I16", 2},
	{"torch", "CharStorage"}:            {"I8", 1},
	{"torch", "ByteStorage"}:            {"U8", 1},
	{"torch", "BoolStorage"}:            {"BOOL", 1},
	{"torch", "UntypedStorage"}:         {"U8", 1},
	{"torch.storage", "UntypedStorage"}: {"U8", 1},
}

// refused names the instructions of Python's pickle that are not interpreted, for
// the error.
var refused = map[byte]string{
	'0': "POP", '1': "POP_MARK", '2': "DUP", 'F': "FLOAT", 'I': "INT", 'L': "LONG", 'P': "PERSID", 'S': "STRING",
	'T': "BINSTRING", 'U': "SHORT_BINSTRING", 'V': "UNICODE", 'a': "APPEND", 'd': "DICT", 'e': "APPENDS", 'g': "GET",
	'i': "INST", 'l': "LIST", ']': "EMPTY_LIST", 'o': "OBJ", 'p': "PUT", 'G': "BINFLOAT", 'B': "BINBYTES",
	'C': "SHORT_BINBYTES", 0x80: "PROTO", 0x81: "NEWOBJ", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4", 0x8b: "LONG4",
	0x8d: "BINUNICODE8", 0x8e: "BINBYTES8", 0x8f: "EMPTY_SET", 0x90: "ADDITEMS", 0x91: "FROZENSET",
	0x92: "NEWOBJ_EX", 0x96: "BYTEARRAY8", 0x97: "NEXT_BUFFER", 0x98: "READONLY_BUFFER",
}

// machine interprets a pickle. The first error stays in err; what reads after it
// gets zero values.
type machine struct {
	raw     []byte
	at      int
	stack   []any
	marks   []int // heights of the stack
	memo    []any
	storage func(of element, key string, count int64) (*storage, error)
	err     error
}

// unpickle returns the value of a pickle of protocol 2 to 5 and asks storage for
// those that it names.
func unpickle(raw []byte, storage func(element, string, int64) (*storage, error)) (any, error) {
	m := &machine{raw: raw, storage: storage}
	head := m.take(2)
	if m.err == nil && (head[0] != 0x80 || head[1] < 2 || head[1] > 5) {
		return nil, fmt.Errorf("starts with % x, not as a pickle of protocol 2 to 5", head)
	}
	for m.err == nil {
		start := m.at
		op := m.take(1)[0]
		if m.err == nil && op == '.' {
			if m.at == len(raw) && len(m.stack) == 1 && len(m.marks) == 0 {
				return m.stack[0], nil
			}
			return nil, fmt.Errorf("it stops at byte %d of %d with %d values and %d marks, not at the end with one", start, len(raw), len(m.stack), len(m.marks))
		}
		if m.step(op); m.err != nil {
			return nil, fmt.Errorf("byte %d: %w", start, m.err)
		}
	}
	return nil, m.err
}

func (m *machine) fail(format string, args ...any) {
	if m.err == nil {
		m.err = fmt.Errorf(format, args...)
	}
}

func (m *machine) step(op byte) {
	switch op {
	case 'N': // NONE
		m.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		m.push(op == 0x88)
	case 'K': // BININT1
		m.push(int64(m.uint(1)))
	case 'M': // BININT2
		m.push(int64(m.uint(2)))
	case 'J': // BININT
		m.push(int64(int32(m.uint(4))))
	case 0x8a: // LONG1: two's complement
		n := int(m.uint(1))
		if n < 1 || n > 8 {
			m.fail("an integer of %d bytes", n)
			return
		}
		m.push(int64(m.uint(n)<<(64-8*n)) >> (64 - 8*n))
	case 'X': // BINUNICODE
		m.text(m.uint(4))
	case 0x8c: // SHORT_BINUNICODE
		m.text(m.uint(1))
	case '}': // EMPTY_DICT
		m.push(&dict{})
	case ')': // EMPTY_TUPLE
		m.push(tuple{})
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		m.push(tuple(m.pop(int(op - 0x84))))
	case 't': // TUPLE
		m.push(tuple(m.popMark()))
	case '(': // MARK
		if len(m.marks) == maxMarks {
			m.fail("more than %d open marks", maxMarks)
		}
		m.marks = append(m.marks, len(m.stack))
	case 'q': // BINPUT
		m.put(m.uint(1))
	case 'r': // LONG_BINPUT
		m.put(m.uint(4))
	case 0x94: // MEMOIZE
		m.put(uint64(len(m.memo)))
	case 'h': // BINGET
		m.get(m.uint(1))
	case 'j': // LONG_BINGET
		m.get(m.uint(4))
	case 0x95: // FRAME
		if n := m.uint(8); n > uint64(len(m.raw)-m.at) {
			m.fail("a frame of %d bytes goes beyond the end", n)
		}
	case 'c': // GLOBAL
		module := m.line()
		m.global(module, m.line())
	case 0x93: // STACK_GLOBAL
		v := m.pop(2)
		module, ok := v[0].(string)
		name, also := v[1].(string)
		if m.err == nil && !(ok && also) {
			m.fail("STACK_GLOBAL of %s and %s: %w", kind(v[0]), kind(v[1]), errCode)
		}
		m.global(module, name)
	case 'R': // REDUCE
		m.reduce()
	case 'b': // BUILD
		m.build()
	case 's': // SETITEM
		m.set(m.pop(2))
	case 'u': // SETITEMS
		m.set(m.popMark())
	case 'Q': // BINPERSID
		m.persistent()
	default:
		name := refused[op]
		if name == "" {
			name = "unknown"
		}
		m.fail("instruction %#02x (%s): %w", op, name, errCode)
	}
}

// global pushes one of the known classes and functions.
func (m *machine) global(module, name string) {
	g := global{module, name}
	if _, ok := storageTypes[g]; m.err == nil && !ok && g != orderedDict && g != rebuildTensor && g != rebuildParameter {
		m.fail("global %q: %w", g, errCode)
	}
	m.push(g)
}

// reduce calls a global, which none but these three have a meaning for.
func (m *machine) reduce() {
	v := m.pop(2)
	args, ok := v[1].(tuple)
	callee, also := v[0].(global)
	if m.err != nil {
		return
	}
	if !ok || !also {
		m.fail("REDUCE calls %s with %s: %w", kind(v[0]), kind(v[1]), errCode)
		return
	}
	switch callee {
	case orderedDict:
		if len(args) != 0 {
			m.fail("OrderedDict with arguments: %w", errCode)
		}
		m.push(&dict{ordered: true})
	case rebuildTensor:
		t, err := newView(args)
		if err != nil {
			m.fail("a tensor: %w", err)
		}
		m.push(t)
	case rebuildParameter:
		if len(args) != 3 || !isKind[*view](args[0]) || !isKind[bool](args[1]) || !noHooks(args[2]) {
			m.fail("a parameter of other arguments than (tensor, requires_grad, no hooks): %w", errCode)
			return
		}
		m.push(args[0])
	default:
		m.fail("REDUCE calls %s: %w", callee, errCode)
	}
}

// build takes the state of an OrderedDict that torch.nn.Module.state_dict made: the
// versions of its modules, of which nothing here depends.
func (m *machine) build() {
	state := m.pop(1)[0]
	if m.err != nil {
		return
	}
	top := m.pop(1)[0]
	d, ok := top.(*dict)
	s, also := state.(*dict)
	if !ok || !also || !d.ordered || len(s.items) != 1 || !isKind[*dict](s.items["_metadata"]) {
		m.fail("BUILD of %s from other than _metadata: %w", kind(top), errCode)
	}
	m.push(top)
}

// set puts pairs of names and values into the dict on top of the stack.
func (m *machine) set(pairs []any) {
	top := m.pop(1)[0]
	if m.err != nil {
		return
	}
	d, ok := top.(*dict)
	if !ok || len(pairs)%2 != 0 {
		m.fail("SETITEMS of %d names and values in %s: %w", len(pairs), kind(top), errCode)
		return
	}
	for i := 0; i < len(pairs); i += 2 {
		key, ok := pairs[i].(string)
		if !ok {
			m.fail("a key of a dict is %s, not a name", kind(pairs[i]))
			return
		}
		if _, ok := d.items[key]; ok {
			m.fail("the name %q occurs twice", key)
			return
		}
		if d.items == nil {
			d.items = map[string]any{}
		}
		d.items[key] = pairs[i+1]
	}
	m.push(top)
}

// persistent turns ('storage', type, key, location, count) into a storage.
func (m *machine) persistent() {
	id, ok := m.pop(1)[0].(tuple)
	if m.err != nil {
		return
	}
	if ok = ok && len(id) == 5 && id[0] == "storage" && isKind[string](id[3]); ok {
		class, isGlobal := id[1].(global)
		of, known := storageTypes[class]
		key, isText := id[2].(string)
		count, isInt := id[4].(int64)
		if ok = isGlobal && known && isText && isInt; ok {
			s, err := m.storage(of, key, count)
			if err != nil {
				m.fail("%w", err)
			}
			m.push(s)
		}
	}
	if !ok {
		m.fail("a persistent id that is not of a storage: %w", errCode)
	}
}

func (m *machine) put(index uint64) {
	// Python numbers without gaps, so the memo grows by no more than the file.
	v := m.pop(1)
	if m.err == nil && index > uint64(len(m.memo)) {
		m.fail("memo %d is put before %d", index, len(m.memo))
	}
	if m.err != nil {
		return
	}
	if index == uint64(len(m.memo)) {
		m.memo = append(m.memo, nil)
	}
	m.memo[index] = v[0]
	m.push(v[0])
}

func (m *machine) get(index uint64) {
	if m.err == nil && index >= uint64(len(m.memo)) {
		m.fail("memo %d of %d", index, len(m.memo))
	}
	if m.err == nil {
		m.push(m.memo[index])
	}
}

func (m *machine) push(v any) {
	if len(m.stack) == maxStack {
		m.fail("more than %d values at a time", maxStack)
	}
	if m.err == nil {
		m.stack = append(m.stack, v)
	}
}

// pop returns a copy of the top n values; values below the last mark stay.
func (m *machine) pop(n int) []any {
	base := 0
	if len(m.marks) > 0 {
		base = m.marks[len(m.marks)-1]
	}
	out := make([]any, n)
	if len(m.stack)-base < n {
		m.fail("the stack is empty")
	}
	if m.err == nil {
		copy(out, m.stack[len(m.stack)-n:])
		m.stack = m.stack[:len(m.stack)-n]
	}
	return out
}

// popMark returns a copy of the values above the last mark and removes it.
func (m *machine) popMark() []any {
	if len(m.marks) == 0 {
		m.fail("there is no mark")
		return nil
	}
	out := m.pop(len(m.stack) - m.marks[len(m.marks)-1])
	m.marks = m.marks[:len(m.marks)-1]
	return out
}

// take returns the next n bytes; n zeros after an error.
func (m *machine) take(n int) []byte {
	if len(m.raw)-m.at < n {
		m.fail("data.pkl ends early: %w", io.ErrUnexpectedEOF)
	}
	if m.err != nil {
		return make([]byte, n)
	}
	m.at += n
	return m.raw[m.at-n : m.at]
}

// uint reads n <= 8 bytes.
func (m *machine) uint(n int) uint64 {
	var raw [8]byte
	copy(raw[:], m.take(n))
	return binary.LittleEndian.Uint64(raw[:])
}

func (m *machine) text(n uint64) {
	if n > maxText {
		m.fail("a text of %d bytes, at most %d are read", n, maxText)
		return
	}
	raw := m.take(int(n))
	if !utf8.Valid(raw) {
		m.fail("the text %q is not UTF-8", raw)
	}
	m.push(string(raw))
}

// line reads to the end of a line.
func (m *machine) line() string {
	rest := m.raw[m.at:]
	n := bytes.IndexByte(rest[:min(len(rest), maxText)], '\n')
	if n < 0 {
		m.fail("a global without an end: %w", io.ErrUnexpectedEOF)
		return ""
	}
	return string(m.take(n + 1)[:n])
}

func isKind[T any](v any) bool { _, ok := v.(T); return ok }

func noHooks(v any) bool { d, ok := v.(*dict); return ok && len(d.items) == 0 }

// kind names a value in errors.
func kind(v any) string {
	switch v := v.(type) {
	case bool:
		return "a bool"
	case int64:
		return "an integer"
	case string:
		return "a text"
	case tuple:
		return "a tuple"
	case *dict:
		return "a dict"
	case *storage:
		return "a storage"
	case *view:
		return "a tensor"
	case global:
		return v.String()
	}
	return "None"
}
