package msgs

// TriggerRequest is the request of std_srvs/srv/Trigger.
type TriggerRequest struct{}

func (*TriggerRequest) ROSType() string { return "std_srvs/srv/Trigger_Request" }

func (*TriggerRequest) CDR(s *Stream) { s.empty() }

// TriggerResponse is the response of std_srvs/srv/Trigger.
type TriggerResponse struct {
	Success bool
	Message string // for people
}

func (*TriggerResponse) ROSType() string { return "std_srvs/srv/Trigger_Response" }

func (m *TriggerResponse) CDR(s *Stream) {
	s.Bool(&m.Success)
	s.String(&m.Message)
}

// SetBoolRequest is the request of std_srvs/srv/SetBool.
type SetBoolRequest struct{ Data bool }

func (*SetBoolRequest) ROSType() string { return "std_srvs/srv/SetBool_Request" }

func (m *SetBoolRequest) CDR(s *Stream) { s.Bool(&m.Data) }

// SetBoolResponse is the response of std_srvs/srv/SetBool.
type SetBoolResponse struct {
	Success bool
	Message string // for people
}

func (*SetBoolResponse) ROSType() string { return "std_srvs/srv/SetBool_Response" }

func (m *SetBoolResponse) CDR(s *Stream) {
	s.Bool(&m.Success)
	s.String(&m.Message)
}

// EmptyRequest is the request of std_srvs/srv/Empty.
type EmptyRequest struct{}

func (*EmptyRequest) ROSType() string { return "std_srvs/srv/Empty_Request" }

func (*EmptyRequest) CDR(s *Stream) { s.empty() }

// EmptyResponse is the response of std_srvs/srv/Empty.
type EmptyResponse struct{}

func (*EmptyResponse) ROSType() string { return "std_srvs/srv/Empty_Response" }

func (*EmptyResponse) CDR(s *Stream) { s.empty() }

// empty visits a message without fields. IDL knows no such structure, so ROS 2
// gives it one member, the byte structure_needs_at_least_one_member. A reader
// does without it, as some writers send none.
func (s *Stream) empty() {
	if s.writing || s.pos < len(s.buf) {
		var member uint8
		s.Uint8(&member)
	}
}
