package lifecycle

import "github.com/ddvla/ddvla/msgs"

// State is a state of a managed node, numbered as lifecycle_msgs/msg/State.
type State uint8

// The primary states, in which a node stays, and the states of the transitions between them.
const (
	Unknown      State = msgs.StateUnknown
	Unconfigured State = msgs.StateUnconfigured
	Inactive     State = msgs.StateInactive
	Active       State = msgs.StateActive
	Finalized    State = msgs.StateFinalized

	Configuring     State = 10
	CleaningUp      State = 11
	ShuttingDown    State = 12
	Activating      State = 13
	Deactivating    State = 14
	ErrorProcessing State = 15
)

// states lists all of them in the order in which rcl_lifecycle registers them.
func states() []State {
	return []State{Unknown, Unconfigured, Inactive, Active, Finalized,
		Configuring, CleaningUp, ShuttingDown, Activating, Deactivating, ErrorProcessing}
}

// String is the label that rcl_lifecycle gives the state: "inactive".
func (s State) String() string {
	switch s {
	case Unconfigured:
		return "unconfigured"
	case Inactive:
		return "inactive"
	case Active:
		return "active"
	case Finalized:
		return "finalized"
	case Configuring:
		return "configuring"
	case CleaningUp:
		return "cleaningup"
	case ShuttingDown:
		return "shuttingdown"
	case Activating:
		return "activating"
	case Deactivating:
		return "deactivating"
	case ErrorProcessing:
		return "errorprocessing"
	}
	return "unknown"
}

// message is the state as ROS sends it.
func (s State) message() msgs.State { return msgs.State{ID: uint8(s), Label: s.String()} }

// A Transition is what an operator asks for, by its label.
type Transition string

// The transitions that may be asked for. Shutdown has a number for each state it leaves.
const (
	Configure  Transition = "configure"
	CleanUp    Transition = "cleanup"
	Activate   Transition = "activate"
	Deactivate Transition = "deactivate"
	Shutdown   Transition = "shutdown"
)

// Labels of how a transition's callback ended.
const (
	success = "transition_success"
	failure = "transition_failure"
	failed  = "transition_error"
)

// edge is a line of the state machine.
type edge struct {
	id       uint8 // of lifecycle_msgs/msg/Transition
	label    string
	from, to State
}

// edges is the default state machine of ROS 2 (rcl_lifecycle/src/default_state_machine.c of Humble, with
// its numbers and labels, in the order in which it registers them).
func edges() []edge {
	return []edge{
		{1, string(Configure), Unconfigured, Configuring},
		{10, success, Configuring, Inactive},
		{11, failure, Configuring, Unconfigured},
		{12, failed, Configuring, ErrorProcessing},
		{2, string(CleanUp), Inactive, CleaningUp},
		{20, success, CleaningUp, Unconfigured},
		{21, failure, CleaningUp, Inactive},
		{22, failed, CleaningUp, ErrorProcessing},
		{3, string(Activate), Inactive, Activating},
		{30, success, Activating, Active},
		{31, failure, Activating, Inactive},
		{32, failed, Activating, ErrorProcessing},
		{4, string(Deactivate), Active, Deactivating},
		{40, success, Deactivating, Inactive},
		{41, failure, Deactivating, Active},
		{42, failed, Deactivating, ErrorProcessing},
		{5, string(Shutdown), Unconfigured, ShuttingDown},
		{6, string(Shutdown), Inactive, ShuttingDown},
		{7, string(Shutdown), Active, ShuttingDown},
		{50, success, ShuttingDown, Finalized},
		{51, failure, ShuttingDown, Finalized},
		{52, failed, ShuttingDown, ErrorProcessing},
		{60, success, ErrorProcessing, Unconfigured},
		{61, failure, ErrorProcessing, Finalized},
		{62, failed, ErrorProcessing, Finalized},
	}
}

// leaving are the edges that leave a state.
func leaving(s State) []edge {
	var out []edge
	for _, e := range edges() {
		if e.from == s {
			out = append(out, e)
		}
	}
	return out
}

// find returns the edge with a label that leaves a state.
func find(s State, label string) (edge, bool) {
	for _, e := range leaving(s) {
		if e.label == label {
			return e, true
		}
	}
	return edge{}, false
}

// message is the edge as ROS sends it.
func (e edge) message() msgs.TransitionDescription {
	return msgs.TransitionDescription{
		Transition: msgs.Transition{ID: e.id, Label: e.label},
		StartState: e.from.message(), GoalState: e.to.message(),
	}
}

func descriptions(edges []edge) []msgs.TransitionDescription {
	out := make([]msgs.TransitionDescription, len(edges))
	for i, e := range edges {
		out[i] = e.message()
	}
	return out
}
