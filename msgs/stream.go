package msgs

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Stream carries a message's fields to or from CDR bytes. It is handed to
// [Message.CDR] and has one visiting method per kind of field; after the first
// failure all of them do nothing.
//
// Numbers are aligned to their own size, counted from the first byte after the
// encapsulation header (XCDR1: eight-byte numbers to eight).
type Stream struct {
	buf     []byte
	base    int    // index in buf of the byte after the encapsulation header
	pos     int    // index in buf of the next byte
	writing bool   // encode (always little endian), else decode
	big     bool   // decode big endian
	reason  string // why the stream stopped, empty while all is well
}

// fail stops the stream with a reason, which names what was being visited.
func (s *Stream) fail(reason string) {
	if s.reason == "" {
		s.reason = reason
	}
}

// next aligns to align, a power of two, and returns the following n bytes: to be
// read, or to be filled. It returns nil after a failure, and never for n > 0
// otherwise.
func (s *Stream) next(n, align int) []byte {
	if s.reason != "" {
		return nil
	}
	pad := -(s.pos - s.base) & (align - 1)
	if s.writing {
		s.buf = slices.Grow(s.buf, pad+n)[:s.pos+pad+n]
		clear(s.buf[s.pos : s.pos+pad])
	} else if len(s.buf)-s.pos < pad+n {
		s.fail(fmt.Sprintf("%d bytes needed, %d left", pad+n, len(s.buf)-s.pos))
		return nil
	}
	start := s.pos + pad
	s.pos = start + n
	return s.buf[start:s.pos:s.pos]
}

func (s *Stream) uint32(p []byte) uint32 {
	if s.big {
		return binary.BigEndian.Uint32(p)
	}
	return binary.LittleEndian.Uint32(p)
}

func (s *Stream) uint64(p []byte) uint64 {
	if s.big {
		return binary.BigEndian.Uint64(p)
	}
	return binary.LittleEndian.Uint64(p)
}

// Uint8 visits a uint8, byte or char.
func (s *Stream) Uint8(v *uint8) {
	p := s.next(1, 1)
	switch {
	case p == nil:
	case s.writing:
		p[0] = *v
	default:
		*v = p[0]
	}
}

// Bool visits a bool. Any byte but zero reads as true.
func (s *Stream) Bool(v *bool) {
	p := s.next(1, 1)
	switch {
	case p == nil:
	case s.writing:
		p[0] = 0
		if *v {
			p[0] = 1
		}
	default:
		*v = p[0] != 0
	}
}

// Uint32 visits a uint32.
func (s *Stream) Uint32(v *uint32) {
	p := s.next(4, 4)
	switch {
	case p == nil:
	case s.writing:
		binary.LittleEndian.PutUint32(p, *v)
	default:
		*v = s.uint32(p)
	}
}

// Int32 visits an int32.
func (s *Stream) Int32(v *int32) {
	u := uint32(*v)
	s.Uint32(&u)
	*v = int32(u)
}

// Uint64 visits a uint64.
func (s *Stream) Uint64(v *uint64) {
	p := s.next(8, 8)
	switch {
	case p == nil:
	case s.writing:
		binary.LittleEndian.PutUint64(p, *v)
	default:
		*v = s.uint64(p)
	}
}

// Int64 visits an int64.
func (s *Stream) Int64(v *int64) {
	u := uint64(*v)
	s.Uint64(&u)
	*v = int64(u)
}

// Float64 visits a float64. Every bit pattern passes, NaN included.
func (s *Stream) Float64(v *float64) {
	p := s.next(8, 8)
	switch {
	case p == nil:
	case s.writing:
		binary.LittleEndian.PutUint64(p, math.Float64bits(*v))
	default:
		*v = math.Float64frombits(s.uint64(p))
	}
}

// String visits a string: its length with the terminating NUL, the bytes, the
// NUL. A length of zero, which some writers give an empty string, reads as
// empty. What is in the string is not looked at. When reading, the string in *v
// is kept if it is the same.
func (s *Stream) String(v *string) {
	if s.writing {
		n := s.length(len(*v)+1, 1, 1)
		if p := s.next(n, 1); p != nil {
			copy(p, *v)
			p[n-1] = 0
		}
		return
	}
	n := s.length(0, 1, 1)
	p := s.next(n, 1)
	switch {
	case p == nil:
	case n == 0:
		*v = ""
	case p[n-1] != 0:
		s.pos--
		s.fail("string without a terminating NUL")
	case *v != string(p[:n-1]):
		*v = string(p[:n-1])
	}
}

// BoundedString visits a string of at most bound bytes.
func (s *Stream) BoundedString(v *string, bound int) {
	s.String(v)
	if len(*v) > bound {
		s.fail(fmt.Sprintf("string of %d bytes in a field bounded to %d", len(*v), bound))
	}
}
