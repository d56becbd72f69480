package msgs

// The primary states of a managed node ([State].ID).
const (
	StateUnknown      = 0
	StateUnconfigured = 1
	StateInactive     = 2
	StateActive       = 3
	StateFinalized    = 4
)

// State is a lifecycle_msgs/msg/State.
type State struct {
	ID    uint8
	Label string
}

func (*State) ROSType() string { return "lifecycle_msgs/msg/State" }

func (m *State) CDR(s *Stream) {
	s.Uint8(&m.ID)
	s.String(&m.Label)
}

// Transition is a lifecycle_msgs/msg/Transition.
type Transition struct {
	ID    uint8
	Label string
}

func (*Transition) ROSType() string { return "lifecycle_msgs/msg/Transition" }

func (m *Transition) CDR(s *Stream) {
	s.Uint8(&m.ID)
	s.String(&m.Label)
}

// TransitionDescription is a lifecycle_msgs/msg/TransitionDescription.
type TransitionDescription struct {
	Transition Transition
	StartState State
	GoalState  State
}

func (*TransitionDescription) ROSType() string { return "lifecycle_msgs/msg/TransitionDescription" }

func (m *TransitionDescription) CDR(s *Stream) {
	m.Transition.CDR(s)
	m.StartState.CDR(s)
	m.GoalState.CDR(s)
}

// TransitionEvent is a lifecycle_msgs/msg/TransitionEvent.
type TransitionEvent struct {
	Timestamp  uint64 // ns
	Transition Transition
	StartState State
	GoalState  State
}

func (*TransitionEvent) ROSType() string { return "lifecycle_msgs/msg/TransitionEvent" }

func (m *TransitionEvent) CDR(s *Stream) {
	s.Uint64(&m.Timestamp)
	m.Transition.CDR(s)
	m.StartState.CDR(s)
	m.GoalState.CDR(s)
}

// ChangeStateRequest is the request of lifecycle_msgs/srv/ChangeState.
type ChangeStateRequest struct{ Transition Transition }

func (*ChangeStateRequest) ROSType() string { return "lifecycle_msgs/srv/ChangeState_Request" }

func (m *ChangeStateRequest) CDR(s *Stream) { m.Transition.CDR(s) }

// ChangeStateResponse is the response of lifecycle_msgs/srv/ChangeState.
type ChangeStateResponse struct{ Success bool }

func (*ChangeStateResponse) ROSType() string { return "lifecycle_msgs/srv/ChangeState_Response" }

func (m *ChangeStateResponse) CDR(s *Stream) { s.Bool(&m.Success) }

// GetStateRequest is the request of lifecycle_msgs/srv/GetState.
type GetStateRequest struct{}

func (*GetStateRequest) ROSType() string { return "lifecycle_msgs/srv/GetState_Request" }

func (*GetStateRequest) CDR(s *Stream) { s.empty() }

// GetStateResponse is the response of lifecycle_msgs/srv/GetState.
type GetStateResponse struct{ CurrentState State }

func (*GetStateResponse) ROSType() string { return "lifecycle_msgs/srv/GetState_Response" }

func (m *GetStateResponse) CDR(s *Stream) { m.CurrentState.CDR(s) }

// GetAvailableStatesRequest is the request of
// lifecycle_msgs/srv/GetAvailableStates.
type GetAvailableStatesRequest struct{}

func (*GetAvailableStatesRequest) ROSType() string {
	return "lifecycle_msgs/srv/GetAvailableStates_Request"
}

func (*GetAvailableStatesRequest) CDR(s *Stream) { s.empty() }

// GetAvailableStatesResponse is the response of
// lifecycle_msgs/srv/GetAvailableStates.
type GetAvailableStatesResponse struct{ AvailableStates []State }

func (*GetAvailableStatesResponse) ROSType() string {
	return "lifecycle_msgs/srv/GetAvailableStates_Response"
}

func (m *GetAvailableStatesResponse) CDR(s *Stream) { Sequence(s, &m.AvailableStates, 5) }

// GetAvailableTransitionsRequest is the request of
// lifecycle_msgs/srv/GetAvailableTransitions.
type GetAvailableTransitionsRequest struct{}

func (*GetAvailableTransitionsRequest) ROSType() string {
	return "lifecycle_msgs/srv/GetAvailableTransitions_Request"
}

func (*GetAvailableTransitionsRequest) CDR(s *Stream) { s.empty() }

// GetAvailableTransitionsResponse is the response of
// lifecycle_msgs/srv/GetAvailableTransitions.
type GetAvailableTransitionsResponse struct{ AvailableTransitions []TransitionDescription }

func (*GetAvailableTransitionsResponse) ROSType() string {
	return "lifecycle_msgs/srv/GetAvailableTransitions_Response"
}

func (m *GetAvailableTransitionsResponse) CDR(s *Stream) {
	Sequence(s, &m.AvailableTransitions, 15)
}
