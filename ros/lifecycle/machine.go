// Package lifecycle makes a program a managed node, as `ros2 lifecycle` and ROS's launch files know them: the
// state machine unconfigured, inactive, active, finalized, its five services and ~/transition_event, over
// any [ros.Node]. What the transitions do is the program's: it gives [Callbacks]. It may also cause
// transitions itself, with [Machine.Change], as a program that starts without an operator does.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// ErrTransition says that the present state has no such transition.
var ErrTransition = errors.New("no such transition")

// Callbacks do what the transitions stand for, one at a time, each on the goroutine of who asked. The
// context ends with that of Serve and where the caller gives up. An error sends the node back where it
// came from and reaches the log and the caller; a callback that fails must leave nothing behind. Nil
// callbacks do nothing.
type Callbacks struct {
	Configure  func(context.Context) error // unconfigured to inactive
	Activate   func(context.Context) error // inactive to active
	Deactivate func(context.Context) error // active to inactive
	CleanUp    func(context.Context) error // inactive to unconfigured
	// Shutdown is given the state it leaves, and ends in finalized whatever it returns.
	Shutdown func(ctx context.Context, from State) error
}

// A Machine is one node's state. All methods may be called from any goroutine.
type Machine struct {
	node      ros.Node
	callbacks Callbacks
	log       *zap.Logger
	ctx       context.Context // of Serve
	events    *ros.TypedPublisher[msgs.TransitionEvent, *msgs.TransitionEvent]
	servers   []ros.Server

	mu    sync.Mutex
	state State
	idle  chan struct{} // closed while no transition is under way
}

// Serve answers the lifecycle services of a node, which starts unconfigured. ctx bounds the callbacks.
// Close ends the services.
func Serve(ctx context.Context, n ros.Node, callbacks Callbacks, log *zap.Logger) (m *Machine, err error) {
	m = &Machine{node: n, callbacks: callbacks, log: log, ctx: ctx, state: Unconfigured, idle: make(chan struct{})}
	close(m.idle)
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("lifecycle: %w", err), m.Close())
			m = nil
		}
	}()
	// rcl_lifecycle's publisher has the default QoS.
	if m.events, err = ros.Advertise[msgs.TransitionEvent](n, "~/transition_event", ros.DefaultQoS()); err != nil {
		return m, err
	}
	for _, serve := range []func() (ros.Server, error){
		func() (ros.Server, error) { return ros.Serve(n, "~/change_state", m.changeState) },
		func() (ros.Server, error) { return ros.Serve(n, "~/get_state", m.getState) },
		func() (ros.Server, error) { return ros.Serve(n, "~/get_available_states", m.availableStates) },
		func() (ros.Server, error) { return ros.Serve(n, "~/get_available_transitions", m.availableTransitions) },
		func() (ros.Server, error) { return ros.Serve(n, "~/get_transition_graph", m.transitionGraph) },
	} {
		s, err := serve()
		if err != nil {
			return m, err
		}
		m.servers = append(m.servers, s)
	}
	return m, nil
}

// Close ends the services and waits for a transition that an operator caused; it changes no state.
func (m *Machine) Close() error {
	var errs []error
	for _, s := range m.servers {
		errs = append(errs, s.Close())
	}
	if m.events != nil {
		errs = append(errs, m.events.Close())
	}
	return errors.Join(errs...)
}

// State is the present state, one of a transition while that is under way.
func (m *Machine) State() State {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state
}

// Change makes a transition and returns when it has ended, with the callback's error where it failed, or
// an [ErrTransition] where the present state has none of that name or another is under way.
func (m *Machine) Change(ctx context.Context, t Transition) error {
	m.mu.Lock()
	return m.change(ctx, t)
}

// Finish shuts down once no transition is under way, where that has not been done. It
// gives up with ctx's error while another one lasts; the callback does not end with ctx.
func (m *Machine) Finish(ctx context.Context) error {
	for {
		m.mu.Lock()
		idle := m.idle
		select {
		case <-idle:
			if m.state == Finalized {
				m.mu.Unlock()
				return nil
			}
			return m.change(context.WithoutCancel(ctx), Shutdown)
		default:
		}
		m.mu.Unlock()
		select {
		case <-idle:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change is Change with m.mu held, which it unlocks.
func (m *Machine) change(ctx context.Context, t Transition) error {
	begin, ok := find(m.state, string(t))
	if !ok {
		err := fmt.Errorf("lifecycle: %w: %q from state %s; possible are %s", ErrTransition, t, m.state, possible(m.state))
		m.mu.Unlock()
		return err
	}
	m.state, m.idle = begin.to, make(chan struct{})
	m.publish(begin) // before others can see the state, so that events are in order
	m.mu.Unlock()

	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(m.ctx, cancel)
	err := m.call(ctx, t, begin.from)
	stop()
	cancel()

	label := success
	if err != nil {
		label = failure
	}
	end, _ := find(begin.to, label) // every transition state has both
	m.mu.Lock()
	m.state = end.to
	m.publish(end)
	close(m.idle)
	m.mu.Unlock()
	if err != nil {
		return fmt.Errorf("lifecycle: %s: %w", t, err)
	}
	return nil
}

// possible lists what may be asked for in a state.
func possible(s State) string {
	var labels []string
	for _, e := range leaving(s) {
		if !strings.HasPrefix(e.label, "transition_") {
			labels = append(labels, e.label)
		}
	}
	switch {
	case len(labels) > 0:
		return strings.Join(labels, ", ")
	case s == Finalized:
		return "none"
	}
	return "none until this one ends"
}

func (m *Machine) call(ctx context.Context, t Transition, from State) error {
	var callback func(context.Context) error
	switch t {
	case Configure:
		callback = m.callbacks.Configure
	case Activate:
		callback = m.callbacks.Activate
	case Deactivate:
		callback = m.callbacks.Deactivate
	case CleanUp:
		callback = m.callbacks.CleanUp
	case Shutdown:
		if m.callbacks.Shutdown != nil {
			return m.callbacks.Shutdown(ctx, from)
		}
	}
	if callback == nil {
		return nil
	}
	return callback(ctx)
}

// publish tells of an edge that was taken.
func (m *Machine) publish(e edge) {
	d := e.message()
	event := msgs.TransitionEvent{Transition: d.Transition, StartState: d.StartState, GoalState: d.GoalState}
	if now := m.node.Now(); !now.IsZero() {
		event.Timestamp = uint64(now.UnixNano())
	}
	if err := m.events.Publish(&event); err != nil && !errors.Is(err, ros.ErrClosed) {
		m.log.Warn("transition event was not sent", zap.Error(err))
	}
}

// changeState is ~/change_state. A label counts before a number, as in rclcpp_lifecycle.
func (m *Machine) changeState(ctx context.Context, r *msgs.ChangeStateRequest) (*msgs.ChangeStateResponse, error) {
	label := r.Transition.Label
	if label == "" {
		for _, e := range leaving(m.State()) {
			if e.id == r.Transition.ID {
				label = e.label
			}
		}
	}
	var err error
	switch Transition(label) {
	case Configure, Activate, Deactivate, CleanUp, Shutdown:
		err = m.Change(ctx, Transition(label))
	default:
		// The others are for the machine itself: an operator could only spoil a transition that is under way.
		state := m.State()
		err = fmt.Errorf("lifecycle: %w: number %d, label %q from state %s; possible are %s",
			ErrTransition, r.Transition.ID, r.Transition.Label, state, possible(state))
	}
	if err != nil {
		m.log.Error("transition refused or failed", zap.Error(err))
	}
	return &msgs.ChangeStateResponse{Success: err == nil}, nil
}

func (m *Machine) getState(context.Context, *msgs.GetStateRequest) (*msgs.GetStateResponse, error) {
	return &msgs.GetStateResponse{CurrentState: m.State().message()}, nil
}

func (m *Machine) availableStates(context.Context, *msgs.GetAvailableStatesRequest) (*msgs.GetAvailableStatesResponse, error) {
	var out msgs.GetAvailableStatesResponse
	for _, s := range states() {
		out.AvailableStates = append(out.AvailableStates, s.message())
	}
	return &out, nil
}

func (m *Machine) availableTransitions(context.Context, *msgs.GetAvailableTransitionsRequest) (*msgs.GetAvailableTransitionsResponse, error) {
	return &msgs.GetAvailableTransitionsResponse{AvailableTransitions: descriptions(leaving(m.State()))}, nil
}

func (m *Machine) transitionGraph(context.Context, *msgs.GetAvailableTransitionsRequest) (*msgs.GetAvailableTransitionsResponse, error) {
	return &msgs.GetAvailableTransitionsResponse{AvailableTransitions: descriptions(edges())}, nil
}
