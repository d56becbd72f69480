package msgs

// Header is a std_msgs/msg/Header: when a message's content was measured, and
// the coordinate frame it is in.
type Header struct {
	Stamp   Time
	FrameID string
}

func (*Header) ROSType() string { return "std_msgs/msg/Header" }

func (h *Header) CDR(s *Stream) {
	h.Stamp.CDR(s)
	s.String(&h.FrameID)
}

// String is a std_msgs/msg/String.
type String struct{ Data string }

func (*String) ROSType() string { return "std_msgs/msg/String" }

func (m *String) CDR(s *Stream) { s.String(&m.Data) }

// Bool is a std_msgs/msg/Bool.
type Bool struct{ Data bool }

func (*Bool) ROSType() string { return "std_msgs/msg/Bool" }

func (m *Bool) CDR(s *Stream) { s.Bool(&m.Data) }

// Float64MultiArray is a std_msgs/msg/Float64MultiArray.
type Float64MultiArray struct {
	Layout MultiArrayLayout
	Data   []float64
}

func (*Float64MultiArray) ROSType() string { return "std_msgs/msg/Float64MultiArray" }

func (m *Float64MultiArray) CDR(s *Stream) {
	m.Layout.CDR(s)
	s.Float64s(&m.Data)
}

// MultiArrayLayout is a std_msgs/msg/MultiArrayLayout.
type MultiArrayLayout struct {
	Dim        []MultiArrayDimension // outermost first
	DataOffset uint32                // elements before the first one that counts
}

func (*MultiArrayLayout) ROSType() string { return "std_msgs/msg/MultiArrayLayout" }

func (m *MultiArrayLayout) CDR(s *Stream) {
	Sequence(s, &m.Dim, 12)
	s.Uint32(&m.DataOffset)
}

// MultiArrayDimension is a std_msgs/msg/MultiArrayDimension.
type MultiArrayDimension struct {
	Label  string
	Size   uint32 // elements along this dimension
	Stride uint32 // elements in this and all inner dimensions
}

func (*MultiArrayDimension) ROSType() string { return "std_msgs/msg/MultiArrayDimension" }

func (m *MultiArrayDimension) CDR(s *Stream) {
	s.String(&m.Label)
	s.Uint32(&m.Size)
	s.Uint32(&m.Stride)
}

// Clock is a rosgraph_msgs/msg/Clock: the time of a simulation or of a bag that
// is played, on topic /clock.
type Clock struct{ Clock Time }

func (*Clock) ROSType() string { return "rosgraph_msgs/msg/Clock" }

func (m *Clock) CDR(s *Stream) { m.Clock.CDR(s) }
