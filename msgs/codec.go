package msgs

import (
	"fmt"
	"math"
	"sync"
)

// Message is a ROS 2 message or one half of a service.
type Message interface {
	// ROSType is the full ROS name, such as "sensor_msgs/msg/Image", and for the
	// halves of a service "std_srvs/srv/Trigger_Request".
	ROSType() string
	// CDR visits the fields in wire order. The stream decides whether a visit
	// reads or writes the field. It must not keep the stream.
	CDR(*Stream)
}

// headerSize is the length of the encapsulation header before the CDR data: two
// bytes representation identifier, two bytes options (DDSI-RTPS 2.3, 10.2).
const headerSize = 4

// maxLength is the largest number of elements or bytes that a sequence written
// here may have. DDS implementations count in int32.
const maxLength = math.MaxInt32

// Error says why bytes are not the message they should be, or why a message
// cannot be written.
type Error struct {
	Type   string // ROS type of the message
	Offset int    // byte in the data, counted from its encapsulation header
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("%s: byte %d: %s", e.Type, e.Offset, e.Reason)
}

// streams recycles the codec's state: a Stream goes through an interface method
// and would otherwise cost one allocation per message.
var streams = sync.Pool{New: func() any { return new(Stream) }}

// Marshal returns m as little-endian CDR with its encapsulation header
// 00 01 00 00.
func Marshal(m Message) ([]byte, error) {
	return AppendMarshal(nil, m)
}

// AppendMarshal appends what [Marshal] returns to dst and returns the longer
// slice. It does not allocate when dst has room. On an error dst comes back as
// it was.
func AppendMarshal(dst []byte, m Message) ([]byte, error) {
	s := streams.Get().(*Stream)
	defer s.release()
	start := len(dst)
	s.writing = true
	s.buf = append(dst, 0, 1, 0, 0)
	s.base = start + headerSize
	s.pos = s.base
	m.CDR(s)
	if s.reason != "" {
		return dst[:start], s.error(m)
	}
	return s.buf, nil
}

// Unmarshal decodes data, CDR of either byte order with its encapsulation
// header, into m.
//
// It reuses the memory that m already has: slices are kept when their capacity
// suffices and strings when their value is unchanged, so decoding one topic's
// messages into one struct soon stops allocating. Byte sequences, such as
// Image.Data, are not copied: they alias data and are valid as long as it is.
//
// No length in data is believed before the rest of data is known to hold it. On
// an error, an [*Error], m is left partly filled.
func Unmarshal(data []byte, m Message) error {
	s := streams.Get().(*Stream)
	defer s.release()
	s.buf = data
	s.base = headerSize
	s.pos = headerSize
	if s.header(); s.reason == "" {
		m.CDR(s)
	}
	if s.reason == "" {
		s.trailer()
	}
	if s.reason != "" {
		return s.error(m)
	}
	return nil
}

// header reads the encapsulation header, which tells the byte order.
func (s *Stream) header() {
	if len(s.buf) < headerSize {
		s.pos = len(s.buf)
		s.fail("data end within the encapsulation header")
		return
	}
	switch id := uint16(s.buf[0])<<8 | uint16(s.buf[1]); id {
	case 0:
		s.big = true
	case 1:
	default:
		s.pos = 0
		s.fail(fmt.Sprintf("representation %#04x is not plain CDR (0x0000 or 0x0001)", id))
	}
}

// trailer accepts the padding that RTPS adds up to the next multiple of four and
// refuses more: then the sender's definition of the type is another one.
func (s *Stream) trailer() {
	if rest := len(s.buf) - s.pos; rest > 3 {
		s.fail(fmt.Sprintf("%d bytes left over: the data was written with another definition of the type", rest))
	}
}

// error makes the stream's failure into an error that names m's type.
func (s *Stream) error(m Message) error {
	offset := s.pos
	if s.writing {
		offset -= s.base - headerSize
	}
	return &Error{Type: m.ROSType(), Offset: offset, Reason: s.reason}
}

// release forgets everything that belongs to the caller.
func (s *Stream) release() {
	*s = Stream{}
	streams.Put(s)
}
