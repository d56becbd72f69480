package msgs

// The kinds of a [ParameterValue] (rcl_interfaces/msg/ParameterType).
const (
	ParameterNotSet       = 0
	ParameterBool         = 1
	ParameterInteger      = 2
	ParameterDouble       = 3
	ParameterString       = 4
	ParameterByteArray    = 5
	ParameterBoolArray    = 6
	ParameterIntegerArray = 7
	ParameterDoubleArray  = 8
	ParameterStringArray  = 9
)

// ParameterValue is a rcl_interfaces/msg/ParameterValue: Type says which of the
// other fields counts.
type ParameterValue struct {
	Type              uint8 // ParameterNotSet and so on
	BoolValue         bool
	IntegerValue      int64
	DoubleValue       float64
	StringValue       string
	ByteArrayValue    []byte `ros:"byte[]"` // aliases the decoded data
	BoolArrayValue    []bool
	IntegerArrayValue []int64
	DoubleArrayValue  []float64
	StringArrayValue  []string
}

func (*ParameterValue) ROSType() string { return "rcl_interfaces/msg/ParameterValue" }

func (m *ParameterValue) CDR(s *Stream) {
	s.Uint8(&m.Type)
	s.Bool(&m.BoolValue)
	s.Int64(&m.IntegerValue)
	s.Float64(&m.DoubleValue)
	s.String(&m.StringValue)
	s.Bytes(&m.ByteArrayValue)
	s.Bools(&m.BoolArrayValue)
	s.Int64s(&m.IntegerArrayValue)
	s.Float64s(&m.DoubleArrayValue)
	s.Strings(&m.StringArrayValue)
}

// Least sizes on the wire, for [Sequence].
const (
	parameterValueSize      = 1 + 1 + 8 + 8 + 6*4
	parameterSize           = 4 + parameterValueSize
	parameterDescriptorSize = 4 + 1 + 4 + 4 + 1 + 1 + 4 + 4
	parameterResultSize     = 1 + 4
	parameterRangeSize      = 3 * 8
)

// Parameter is a rcl_interfaces/msg/Parameter.
type Parameter struct {
	Name  string
	Value ParameterValue
}

func (*Parameter) ROSType() string { return "rcl_interfaces/msg/Parameter" }

func (m *Parameter) CDR(s *Stream) {
	s.String(&m.Name)
	m.Value.CDR(s)
}

// FloatingPointRange is a rcl_interfaces/msg/FloatingPointRange; Step 0 allows
// every value between the bounds.
type FloatingPointRange struct {
	FromValue float64
	ToValue   float64
	Step      float64
}

func (*FloatingPointRange) ROSType() string { return "rcl_interfaces/msg/FloatingPointRange" }

func (m *FloatingPointRange) CDR(s *Stream) {
	s.Float64(&m.FromValue)
	s.Float64(&m.ToValue)
	s.Float64(&m.Step)
}

// IntegerRange is a rcl_interfaces/msg/IntegerRange; Step 0 allows every value
// between the bounds.
type IntegerRange struct {
	FromValue int64
	ToValue   int64
	Step      uint64
}

func (*IntegerRange) ROSType() string { return "rcl_interfaces/msg/IntegerRange" }

func (m *IntegerRange) CDR(s *Stream) {
	s.Int64(&m.FromValue)
	s.Int64(&m.ToValue)
	s.Uint64(&m.Step)
}

// ParameterDescriptor is a rcl_interfaces/msg/ParameterDescriptor. The two
// ranges hold at most one element each.
type ParameterDescriptor struct {
	Name                  string
	Type                  uint8 // ParameterNotSet and so on
	Description           string
	AdditionalConstraints string
	ReadOnly              bool
	DynamicTyping         bool
	FloatingPointRange    []FloatingPointRange `ros:"FloatingPointRange[<=1]"`
	IntegerRange          []IntegerRange       `ros:"IntegerRange[<=1]"`
}

func (*ParameterDescriptor) ROSType() string { return "rcl_interfaces/msg/ParameterDescriptor" }

func (m *ParameterDescriptor) CDR(s *Stream) {
	s.String(&m.Name)
	s.Uint8(&m.Type)
	s.String(&m.Description)
	s.String(&m.AdditionalConstraints)
	s.Bool(&m.ReadOnly)
	s.Bool(&m.DynamicTyping)
	BoundedSequence(s, &m.FloatingPointRange, parameterRangeSize, 1)
	BoundedSequence(s, &m.IntegerRange, parameterRangeSize, 1)
}

// ParameterEvent is a rcl_interfaces/msg/ParameterEvent, as published on
// /parameter_events.
type ParameterEvent struct {
	Stamp             Time
	Node              string // fully qualified
	NewParameters     []Parameter
	ChangedParameters []Parameter
	DeletedParameters []Parameter
}

func (*ParameterEvent) ROSType() string { return "rcl_interfaces/msg/ParameterEvent" }

func (m *ParameterEvent) CDR(s *Stream) {
	m.Stamp.CDR(s)
	s.String(&m.Node)
	Sequence(s, &m.NewParameters, parameterSize)
	Sequence(s, &m.ChangedParameters, parameterSize)
	Sequence(s, &m.DeletedParameters, parameterSize)
}

// SetParametersResult is a rcl_interfaces/msg/SetParametersResult.
type SetParametersResult struct {
	Successful bool
	Reason     string // why not
}

func (*SetParametersResult) ROSType() string { return "rcl_interfaces/msg/SetParametersResult" }

func (m *SetParametersResult) CDR(s *Stream) {
	s.Bool(&m.Successful)
	s.String(&m.Reason)
}

// ListParametersResult is a rcl_interfaces/msg/ListParametersResult.
type ListParametersResult struct {
	Names    []string
	Prefixes []string
}

func (*ListParametersResult) ROSType() string { return "rcl_interfaces/msg/ListParametersResult" }

func (m *ListParametersResult) CDR(s *Stream) {
	s.Strings(&m.Names)
	s.Strings(&m.Prefixes)
}
