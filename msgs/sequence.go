package msgs

import (
	"encoding/binary"
	"fmt"
	"math"
)

// length visits a sequence's length. It writes n, or reads a length and checks
// that the rest of the data can hold that many elements of at least size bytes,
// the first of them aligned to align. It returns 0 after a failure.
func (s *Stream) length(n, size, align int) int {
	if s.writing && n > maxLength/size {
		s.fail(fmt.Sprintf("sequence of %d elements is too long for CDR", n))
		return 0
	}
	u := uint32(n)
	s.Uint32(&u)
	if s.reason != "" {
		return 0
	}
	if s.writing || u == 0 {
		return int(u)
	}
	pad := -(s.pos - s.base) & (align - 1)
	// 64-bit arithmetic: u is below 2^32 and size a small constant.
	if need, left := int64(pad)+int64(u)*int64(size), int64(len(s.buf)-s.pos); need > left {
		s.pos -= 4
		s.fail(fmt.Sprintf("length %d needs at least %d bytes, %d left", u, need, left))
		return 0
	}
	return int(u)
}

// resize makes *v have n elements, in the memory it has if that suffices. What
// the elements hold is for the caller to overwrite.
func resize[T any](v *[]T, n int) []T {
	if n > cap(*v) {
		*v = make([]T, n)
	}
	*v = (*v)[:n]
	return *v
}

// Bytes visits a sequence of uint8, byte or char. When reading, *v aliases the
// data.
func (s *Stream) Bytes(v *[]byte) {
	n := s.length(len(*v), 1, 1)
	p := s.next(n, 1)
	switch {
	case p == nil:
	case s.writing:
		copy(p, *v)
	default:
		*v = p
	}
}

// ByteArray visits a uint8[N], byte[N] or char[N].
func (s *Stream) ByteArray(v []byte) {
	p := s.next(len(v), 1)
	switch {
	case p == nil:
	case s.writing:
		copy(p, v)
	default:
		copy(v, p)
	}
}

// Float64Array visits a float64[N].
func (s *Stream) Float64Array(v []float64) {
	if len(v) == 0 {
		return
	}
	p := s.next(8*len(v), 8)
	switch {
	case p == nil:
	case s.writing:
		for i, f := range v {
			binary.LittleEndian.PutUint64(p[8*i:], math.Float64bits(f))
		}
	default:
		for i := range v {
			v[i] = math.Float64frombits(s.uint64(p[8*i:]))
		}
	}
}

// Float64s visits a sequence of float64.
func (s *Stream) Float64s(v *[]float64) {
	n := s.length(len(*v), 8, 8)
	if s.reason == "" {
		s.Float64Array(resize(v, n))
	}
}

// Int64s visits a sequence of int64.
func (s *Stream) Int64s(v *[]int64) {
	elements(s, v, 8, 8, (*Stream).Int64)
}

// Bools visits a sequence of bool.
func (s *Stream) Bools(v *[]bool) {
	elements(s, v, 1, 1, (*Stream).Bool)
}

// Strings visits a sequence of string.
func (s *Stream) Strings(v *[]string) {
	elements(s, v, 4, 4, (*Stream).String)
}

// Sequence visits a sequence of messages. Each takes at least size bytes on the
// wire, which is what a hostile length is held against: the sum over its fields
// with empty strings and sequences taken as their four bytes of length, without
// padding.
func Sequence[T any, P interface {
	*T
	Message
}](s *Stream, v *[]T, size int) {
	elements(s, v, size, 1, func(s *Stream, e *T) { P(e).CDR(s) })
}

// BoundedSequence visits a sequence of at most bound messages; size as for
// [Sequence].
func BoundedSequence[T any, P interface {
	*T
	Message
}](s *Stream, v *[]T, size, bound int) {
	Sequence[T, P](s, v, size)
	if len(*v) > bound {
		s.fail(fmt.Sprintf("%d elements in a sequence bounded to %d", len(*v), bound))
	}
}

// elements visits a sequence one element at a time.
func elements[T any](s *Stream, v *[]T, size, align int, visit func(*Stream, *T)) {
	n := s.length(len(*v), size, align)
	if s.reason != "" {
		return
	}
	if !s.writing {
		resize(v, n)
	}
	for i := range *v {
		if visit(s, &(*v)[i]); s.reason != "" {
			return
		}
	}
}
