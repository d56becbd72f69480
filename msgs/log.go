package msgs

// The levels of a [Log].
const (
	LogDebug = 10
	LogInfo  = 20
	LogWarn  = 30
	LogError = 40
	LogFatal = 50
)

// Log is a rcl_interfaces/msg/Log, as published on /rosout.
type Log struct {
	Stamp    Time
	Level    uint8  // LogDebug and so on
	Name     string // of the logger
	Msg      string
	File     string // source file that logged
	Function string
	Line     uint32
}

func (*Log) ROSType() string { return "rcl_interfaces/msg/Log" }

func (m *Log) CDR(s *Stream) {
	m.Stamp.CDR(s)
	s.Uint8(&m.Level)
	s.String(&m.Name)
	s.String(&m.Msg)
	s.String(&m.File)
	s.String(&m.Function)
	s.Uint32(&m.Line)
}
