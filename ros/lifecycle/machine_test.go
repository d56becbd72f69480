package lifecycle

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/rostest"
)

// operator is what `ros2 lifecycle` does, from a node of its own.
type operator struct {
	t                              testing.TB
	change, state, states, offered ros.Client
	graph                          ros.Client
	events                         chan msgs.TransitionEvent
}

// start serves a machine on one node of a bus and gives an operator on another.
func start(t testing.TB, callbacks Callbacks) (*Machine, *operator) {
	t.Helper()
	bus := local.NewBus()
	robot, err := bus.Node(ros.Options{Name: "ddvla"})
	if err != nil {
		t.Fatal(err)
	}
	desk, err := bus.Node(ros.Options{Name: "desk"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { robot.Close(); desk.Close() })
	o := &operator{t: t, events: make(chan msgs.TransitionEvent, 1000)}
	if _, err := ros.Subscribe(desk, "/ddvla/transition_event", ros.QoS{Depth: 1000}, func(m *msgs.TransitionEvent, _ time.Time) { o.events <- *m }); err != nil {
		t.Fatal(err)
	}
	m, err := Serve(t.Context(), robot, callbacks, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	for service, c := range map[string]*ros.Client{"change_state": &o.change, "get_state": &o.state, "get_available_states": &o.states,
		"get_available_transitions": &o.offered, "get_transition_graph": &o.graph} {
		typ := map[string]string{"change_state": "ChangeState", "get_state": "GetState", "get_available_states": "GetAvailableStates",
			"get_available_transitions": "GetAvailableTransitions", "get_transition_graph": "GetAvailableTransitions"}[service]
		if *c, err = desk.Client("/ddvla/"+service, "lifecycle_msgs/srv/"+typ); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m, o
}

func call[Q, P any, MQ ros.MessageOf[Q], MP ros.MessageOf[P]](o *operator, c ros.Client, request *Q) *P {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reply, err := ros.Call[Q, P, MQ, MP](ctx, c, request)
	if err != nil {
		o.t.Fatal(err)
	}
	return reply
}

func (o *operator) set(id uint8, label string) bool {
	o.t.Helper()
	return call[msgs.ChangeStateRequest, msgs.ChangeStateResponse](o, o.change, &msgs.ChangeStateRequest{Transition: msgs.Transition{ID: id, Label: label}}).Success
}

func (o *operator) get() string {
	o.t.Helper()
	return call[msgs.GetStateRequest, msgs.GetStateResponse](o, o.state, &msgs.GetStateRequest{}).CurrentState.Label
}

func (o *operator) available() (labels []string) {
	o.t.Helper()
	for _, d := range call[msgs.GetAvailableTransitionsRequest, msgs.GetAvailableTransitionsResponse](o, o.offered, &msgs.GetAvailableTransitionsRequest{}).AvailableTransitions {
		labels = append(labels, d.Transition.Label)
	}
	return labels
}

// An operator takes the node through all of its states, by label or by number, and each callback runs once.
func TestOperatorTakesTheNodeThroughItsStates(t *testing.T) {
	var done []string
	note := func(what string) func(context.Context) error {
		return func(context.Context) error { done = append(done, what); return nil }
	}
	_, o := start(t, Callbacks{
		Configure: note("load"), Activate: note("open"), Deactivate: note("hold"), CleanUp: note("free"),
		Shutdown: func(_ context.Context, from State) error { done = append(done, "end from "+from.String()); return nil },
	})
	for _, step := range []struct {
		id    uint8
		label string
		state string
		then  []string
	}{
		{0, "", "unconfigured", []string{"configure", "shutdown"}},
		{0, "configure", "inactive", []string{"cleanup", "activate", "shutdown"}},
		{3, "", "active", []string{"deactivate", "shutdown"}},
		{99, "deactivate", "inactive", []string{"cleanup", "activate", "shutdown"}}, // the label counts
		{2, "", "unconfigured", []string{"configure", "shutdown"}},
		{1, "", "inactive", []string{"cleanup", "activate", "shutdown"}},
		{6, "", "finalized", nil},
	} {
		if step.id != 0 || step.label != "" {
			if !o.set(step.id, step.label) {
				t.Fatalf("%d %q was refused", step.id, step.label)
			}
		}
		if got := o.get(); got != step.state {
			t.Fatalf("after %d %q the state is %s, want %s", step.id, step.label, got, step.state)
		}
		if got := o.available(); !slices.Equal(got, step.then) {
			t.Errorf("in state %s there are %v, want %v", step.state, got, step.then)
		}
	}
	if want := []string{"load", "open", "hold", "free", "load", "end from inactive"}; !slices.Equal(done, want) {
		t.Errorf("callbacks %v, want %v", done, want)
	}
	// Two events each: into the transition's state and out of it.
	first := rostest.Receive(t, "event", o.events)
	second := rostest.Receive(t, "event", o.events)
	if first.Transition != (msgs.Transition{ID: 1, Label: "configure"}) || first.StartState.Label != "unconfigured" || first.GoalState != (msgs.State{ID: 10, Label: "configuring"}) || first.Timestamp == 0 {
		t.Errorf("first event %+v", first)
	}
	if second.Transition != (msgs.Transition{ID: 10, Label: "transition_success"}) || second.GoalState != (msgs.State{ID: 2, Label: "inactive"}) {
		t.Errorf("second event %+v", second)
	}
}

// A callback that fails leaves the node where it was, and the reason reaches who asked inside the program.
func TestFailedTransitionLeavesTheStateAsItWas(t *testing.T) {
	broken := errors.New("no weights")
	fail := func(context.Context) error { return broken }
	m, o := start(t, Callbacks{Configure: fail})
	if o.set(0, "configure") || o.get() != "unconfigured" {
		t.Errorf("configure succeeded or the state is %s", o.get())
	}
	if err := m.Change(t.Context(), Configure); !errors.Is(err, broken) || !strings.Contains(err.Error(), "configure") {
		t.Errorf("error %v", err)
	}
	if err := m.Change(t.Context(), Activate); !errors.Is(err, ErrTransition) || !strings.Contains(err.Error(), "configure, shutdown") {
		t.Errorf("activate from unconfigured: %v", err)
	}
	if o.set(10, "") || o.set(0, "transition_success") || o.get() != "unconfigured" {
		t.Error("a transition that is for the machine itself was taken from an operator")
	}
}

// While a transition is under way the state is its own, and everything else is refused.
func TestOneTransitionAtATime(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	m, o := start(t, Callbacks{Configure: func(ctx context.Context) error {
		close(entered)
		select {
		case <-leave:
		case <-ctx.Done():
		}
		return ctx.Err()
	}})
	var group sync.WaitGroup
	group.Go(func() {
		if err := m.Change(context.Background(), Configure); err != nil {
			t.Error(err)
		}
	})
	<-entered
	if got := o.get(); got != "configuring" {
		t.Errorf("the state is %s", got)
	}
	if err := m.Change(t.Context(), Shutdown); !errors.Is(err, ErrTransition) || !strings.Contains(err.Error(), "until this one ends") {
		t.Errorf("shutdown meanwhile: %v", err)
	}
	close(leave)
	group.Wait()
	if m.State() != Inactive {
		t.Errorf("the state is %s", m.State())
	}
}

// The graph is what ROS tells of itself: every state has its number and label.
func TestGraphAndStatesAreComplete(t *testing.T) {
	_, o := start(t, Callbacks{})
	graph := call[msgs.GetAvailableTransitionsRequest, msgs.GetAvailableTransitionsResponse](o, o.graph, &msgs.GetAvailableTransitionsRequest{}).AvailableTransitions
	known := call[msgs.GetAvailableStatesRequest, msgs.GetAvailableStatesResponse](o, o.states, &msgs.GetAvailableStatesRequest{}).AvailableStates
	if len(graph) != 25 || len(known) != 11 {
		t.Errorf("%d transitions and %d states, rcl_lifecycle has 25 and 11", len(graph), len(known))
	}
	ids := map[uint8]bool{}
	for _, d := range graph {
		if ids[d.Transition.ID] {
			t.Errorf("number %d twice", d.Transition.ID)
		}
		ids[d.Transition.ID] = true
		for _, s := range []msgs.State{d.StartState, d.GoalState} {
			if !slices.Contains(known, s) {
				t.Errorf("transition %d: state %v is not listed", d.Transition.ID, s)
			}
		}
	}
}

// Whatever is asked for, the state follows the picture of the design document
// (design.ros2.org/articles/node_lifecycle.html): this model knows only that.
func TestAnySequenceFollowsTheDesign(t *testing.T) {
	next := map[string]map[Transition]string{
		"unconfigured": {Configure: "inactive", Shutdown: "finalized"},
		"inactive":     {Activate: "active", CleanUp: "unconfigured", Shutdown: "finalized"},
		"active":       {Deactivate: "inactive", Shutdown: "finalized"},
		"finalized":    {},
	}
	rapid.Check(t, func(rt *rapid.T) {
		fails := false
		callback := func(context.Context) error {
			if fails {
				return errors.New("broken")
			}
			return nil
		}
		m := &Machine{callbacks: Callbacks{Configure: callback, Activate: callback, Deactivate: callback, CleanUp: callback}, ctx: t.Context(), state: Unconfigured}
		bus := local.NewBus()
		node, err := bus.Node(ros.Options{Name: "ddvla"})
		if err != nil {
			rt.Fatal(err)
		}
		defer node.Close()
		m.node = node
		if m.events, err = ros.Advertise[msgs.TransitionEvent](node, "~/transition_event", ros.DefaultQoS()); err != nil {
			rt.Fatal(err)
		}
		state := "unconfigured"
		for range rapid.IntRange(1, 20).Draw(rt, "length") {
			asked := rapid.SampledFrom([]Transition{Configure, Activate, Deactivate, CleanUp, Shutdown}).Draw(rt, "transition")
			fails = rapid.Bool().Draw(rt, "fails")
			err := m.Change(t.Context(), asked)
			want, possible := next[state][asked]
			switch {
			case !possible:
				if !errors.Is(err, ErrTransition) {
					rt.Fatalf("%s from %s: %v", asked, state, err)
				}
			case fails && asked != Shutdown:
				if err == nil || errors.Is(err, ErrTransition) {
					rt.Fatalf("%s from %s failed: %v", asked, state, err)
				}
			default:
				if err != nil {
					rt.Fatal(err)
				}
				state = want
			}
			if got := m.State().String(); got != state {
				rt.Fatalf("after %s the state is %s, want %s", asked, got, state)
			}
		}
	})
}

// Finish ends in finalized also where another transition follows at once on the one
// that it waits for, as activate does on configure where a node starts by itself; it
// calls the callback of a shutdown once.
func TestFinishIsNotRefusedForAnotherTransition(t *testing.T) {
	for range 50 {
		ended, loading, load := 0, make(chan struct{}), make(chan struct{})
		m, o := start(t, Callbacks{
			Configure: func(context.Context) error { close(loading); <-load; return nil },
			Activate: func(context.Context) error {
				for range 1000 {
					runtime.Gosched()
				}
				return nil
			},
			Shutdown: func(context.Context, State) error { ended++; return nil },
		})
		var group sync.WaitGroup
		group.Go(func() {
			if err := m.Change(t.Context(), Configure); err != nil {
				t.Error(err)
			}
			_ = m.Change(t.Context(), Activate) // or Finish was first
		})
		<-loading
		group.Go(func() { close(load) })
		if err := m.Finish(t.Context()); err != nil {
			t.Fatal(err)
		}
		group.Wait()
		if ended != 1 || m.State() != Finalized {
			t.Fatalf("shutdown was called %d times, the state is %s", ended, m.State())
		}
		if err := m.Finish(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
		// Each event goes on from where the one before led to.
		for state := Unconfigured.String(); state != Finalized.String(); {
			e := rostest.Receive(t, "event", o.events)
			if e.StartState.Label != state {
				t.Fatalf("event %+v comes in state %s", e, state)
			}
			state = e.GoalState.Label
		}
	}
	// One that does not end is not waited for longer than the context lasts.
	m, _ := start(t, Callbacks{Configure: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }})
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() { _ = m.Change(ctx, Configure) })
	for m.State() != Configuring {
		runtime.Gosched()
	}
	gone, giveUp := context.WithCancel(t.Context())
	giveUp()
	if err := m.Finish(gone); !errors.Is(err, context.Canceled) {
		t.Errorf("a transition that does not end: %v", err)
	}
	cancel()
	group.Wait()
}
