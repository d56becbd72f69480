package msgs

// GetParametersRequest is the request of rcl_interfaces/srv/GetParameters.
type GetParametersRequest struct{ Names []string }

func (*GetParametersRequest) ROSType() string { return "rcl_interfaces/srv/GetParameters_Request" }

func (m *GetParametersRequest) CDR(s *Stream) { s.Strings(&m.Names) }

// GetParametersResponse is the response of rcl_interfaces/srv/GetParameters: one
// value per name, or none at all if a name is not known.
type GetParametersResponse struct{ Values []ParameterValue }

func (*GetParametersResponse) ROSType() string { return "rcl_interfaces/srv/GetParameters_Response" }

func (m *GetParametersResponse) CDR(s *Stream) { Sequence(s, &m.Values, parameterValueSize) }

// GetParameterTypesRequest is the request of
// rcl_interfaces/srv/GetParameterTypes.
type GetParameterTypesRequest struct{ Names []string }

func (*GetParameterTypesRequest) ROSType() string {
	return "rcl_interfaces/srv/GetParameterTypes_Request"
}

func (m *GetParameterTypesRequest) CDR(s *Stream) { s.Strings(&m.Names) }

// GetParameterTypesResponse is the response of
// rcl_interfaces/srv/GetParameterTypes.
type GetParameterTypesResponse struct {
	Types []uint8 // ParameterNotSet and so on; aliases the decoded data
}

func (*GetParameterTypesResponse) ROSType() string {
	return "rcl_interfaces/srv/GetParameterTypes_Response"
}

func (m *GetParameterTypesResponse) CDR(s *Stream) { s.Bytes(&m.Types) }

// SetParametersRequest is the request of rcl_interfaces/srv/SetParameters.
type SetParametersRequest struct{ Parameters []Parameter }

func (*SetParametersRequest) ROSType() string { return "rcl_interfaces/srv/SetParameters_Request" }

func (m *SetParametersRequest) CDR(s *Stream) { Sequence(s, &m.Parameters, parameterSize) }

// SetParametersResponse is the response of rcl_interfaces/srv/SetParameters: one
// result per parameter.
type SetParametersResponse struct{ Results []SetParametersResult }

func (*SetParametersResponse) ROSType() string { return "rcl_interfaces/srv/SetParameters_Response" }

func (m *SetParametersResponse) CDR(s *Stream) { Sequence(s, &m.Results, parameterResultSize) }

// SetParametersAtomicallyRequest is the request of
// rcl_interfaces/srv/SetParametersAtomically.
type SetParametersAtomicallyRequest struct{ Parameters []Parameter }

func (*SetParametersAtomicallyRequest) ROSType() string {
	return "rcl_interfaces/srv/SetParametersAtomically_Request"
}

func (m *SetParametersAtomicallyRequest) CDR(s *Stream) { Sequence(s, &m.Parameters, parameterSize) }

// SetParametersAtomicallyResponse is the response of
// rcl_interfaces/srv/SetParametersAtomically.
type SetParametersAtomicallyResponse struct{ Result SetParametersResult }

func (*SetParametersAtomicallyResponse) ROSType() string {
	return "rcl_interfaces/srv/SetParametersAtomically_Response"
}

func (m *SetParametersAtomicallyResponse) CDR(s *Stream) { m.Result.CDR(s) }

// ListParametersRequest is the request of rcl_interfaces/srv/ListParameters.
type ListParametersRequest struct {
	Prefixes []string // empty lists all
	Depth    uint64   // levels of names below a prefix; 0 is unlimited
}

func (*ListParametersRequest) ROSType() string { return "rcl_interfaces/srv/ListParameters_Request" }

func (m *ListParametersRequest) CDR(s *Stream) {
	s.Strings(&m.Prefixes)
	s.Uint64(&m.Depth)
}

// ListParametersResponse is the response of rcl_interfaces/srv/ListParameters.
type ListParametersResponse struct{ Result ListParametersResult }

func (*ListParametersResponse) ROSType() string { return "rcl_interfaces/srv/ListParameters_Response" }

func (m *ListParametersResponse) CDR(s *Stream) { m.Result.CDR(s) }

// DescribeParametersRequest is the request of
// rcl_interfaces/srv/DescribeParameters.
type DescribeParametersRequest struct{ Names []string }

func (*DescribeParametersRequest) ROSType() string {
	return "rcl_interfaces/srv/DescribeParameters_Request"
}

func (m *DescribeParametersRequest) CDR(s *Stream) { s.Strings(&m.Names) }

// DescribeParametersResponse is the response of
// rcl_interfaces/srv/DescribeParameters.
type DescribeParametersResponse struct{ Descriptors []ParameterDescriptor }

func (*DescribeParametersResponse) ROSType() string {
	return "rcl_interfaces/srv/DescribeParameters_Response"
}

func (m *DescribeParametersResponse) CDR(s *Stream) {
	Sequence(s, &m.Descriptors, parameterDescriptorSize)
}
