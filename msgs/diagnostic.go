package msgs

// The levels of a [DiagnosticStatus].
const (
	DiagnosticOK    = 0
	DiagnosticWarn  = 1
	DiagnosticError = 2
	DiagnosticStale = 3
)

// DiagnosticArray is a diagnostic_msgs/msg/DiagnosticArray, as published on
// /diagnostics.
type DiagnosticArray struct {
	Header Header
	Status []DiagnosticStatus
}

func (*DiagnosticArray) ROSType() string { return "diagnostic_msgs/msg/DiagnosticArray" }

func (m *DiagnosticArray) CDR(s *Stream) {
	m.Header.CDR(s)
	Sequence(s, &m.Status, 17)
}

// DiagnosticStatus is a diagnostic_msgs/msg/DiagnosticStatus.
type DiagnosticStatus struct {
	Level      uint8 `ros:"byte"` // DiagnosticOK and so on
	Name       string
	Message    string
	HardwareID string
	Values     []KeyValue
}

func (*DiagnosticStatus) ROSType() string { return "diagnostic_msgs/msg/DiagnosticStatus" }

func (m *DiagnosticStatus) CDR(s *Stream) {
	s.Uint8(&m.Level)
	s.String(&m.Name)
	s.String(&m.Message)
	s.String(&m.HardwareID)
	Sequence(s, &m.Values, 8)
}

// KeyValue is a diagnostic_msgs/msg/KeyValue.
type KeyValue struct {
	Key   string
	Value string
}

func (*KeyValue) ROSType() string { return "diagnostic_msgs/msg/KeyValue" }

func (m *KeyValue) CDR(s *Stream) {
	s.String(&m.Key)
	s.String(&m.Value)
}
