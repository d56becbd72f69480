package node

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/lifecycle"
)

// Managed is a Node with the lifecycle of ROS, as `ros2 lifecycle` shows and
// changes it:
//
//	configure   load the policy, check it against the robot, subscribe
//	activate    take observations, make chunks; the arms wait for ~/enable
//	deactivate  bring the arms to rest, where they hold; take no observations
//	cleanup     free the policy
//	shutdown    bring the arms to rest and free the policy, for good
//
// While there is no policy it publishes diagnostics of its own, which tell what
// is being loaded and for how long.
type Managed struct {
	ros         ros.Node
	log         *zap.Logger
	settings    func() (Settings, error)
	machine     *lifecycle.Machine
	diagnostics ros.Publisher
	ended       chan struct{} // gets one where a node's Run ended by itself

	lived   bool       // a node was active; of the transitions, as is lives
	lives   int        // nodes so far
	live    sync.Mutex // held while live settings go from where they are kept to the node
	mu      sync.Mutex
	loading *loading
	failed  string // why the last configure failed, empty after one that did not
	node    *Node  // nil while unconfigured
	stop    context.CancelFunc
	running chan error // gives what the node's Run returned
}

// shutdownTime bounds how long the end of a program waits for a transition that
// is under way. Loading cannot be interrupted inside ONNX Runtime.
const shutdownTime = time.Second

// Manage serves the lifecycle of a node that is unconfigured. settings is asked for
// them at each configure. ctx ends what the transitions do; Run makes the first ones
// and the last.
func Manage(ctx context.Context, rn ros.Node, settings func() (Settings, error), log *zap.Logger) (*Managed, error) {
	m := &Managed{ros: rn, log: log, settings: settings, ended: make(chan struct{}, 1), loading: &loading{log: log}}
	var err error
	topic, err := rn.Resolve(diagnosticsTopic)
	if err != nil {
		return nil, err
	}
	now, err := settings()
	if err != nil {
		return nil, err
	}
	m.diagnostics, err = rn.Advertise(diagnosticsTopic, (*msgs.DiagnosticArray)(nil).ROSType(), now.qos(topic, publisher, ros.DefaultQoS()))
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	m.machine, err = lifecycle.Serve(ctx, rn, lifecycle.Callbacks{
		Configure:  m.configure,
		Activate:   func(context.Context) error { m.lived = true; m.current().Activate(); return nil },
		Deactivate: func(ctx context.Context) error { m.current().Deactivate(ctx); return nil },
		CleanUp:    func(context.Context) error { return m.release() },
		Shutdown:   func(context.Context, lifecycle.State) error { return m.release() },
	}, log)
	if err != nil {
		return nil, errors.Join(err, m.diagnostics.Close())
	}
	return m, nil
}

// current is the node, nil while unconfigured.
func (m *Managed) current() *Node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.node
}

// State is where the node is in its life.
func (m *Managed) State() lifecycle.State { return m.machine.State() }

// SetLive changes the live settings of the node, if there is one. Settings are
// asked for anew when another is configured.
func (m *Managed) SetLive(live Live) error {
	m.live.Lock()
	defer m.live.Unlock()
	if n := m.current(); n != nil {
		return n.SetLive(live)
	}
	return nil
}

// configure loads a node and sets it going, inactive.
func (m *Managed) configure(ctx context.Context) (err error) {
	phases := &loading{log: m.log}
	m.mu.Lock()
	m.loading = phases
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.failed = ""
		if err != nil {
			m.failed = err.Error()
		}
	}()
	settings, err := m.settings()
	if err != nil {
		return err
	}
	// Once: an e-stop must not end with the node that it was for.
	settings.StartEnabled = settings.StartEnabled && !m.lived
	if settings.Record != "" && m.lives > 0 {
		// A bag is never written over.
		settings.Record = fmt.Sprintf("%s_%d", settings.Record, m.lives+1)
	}
	n, err := load(ctx, m.ros, settings, m.log, phases, m.diagnostics)
	if err != nil {
		return err
	}
	m.lives++
	// The node's life is longer than the transition's.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() {
		done <- n.Run(running)
		if running.Err() == nil {
			m.ended <- struct{}{}
		}
	}()
	m.mu.Lock()
	m.node, m.stop, m.running = n, stop, done
	m.mu.Unlock()
	// What was changed while it was being loaded.
	m.live.Lock()
	defer m.live.Unlock()
	if settings, err = m.settings(); err == nil {
		err = n.SetLive(settings.Live)
	}
	if err != nil {
		return errors.Join(err, m.release())
	}
	return nil
}

// release brings the arms to rest and frees the node, if there is one.
func (m *Managed) release() error {
	m.mu.Lock()
	n, stop, running := m.node, m.stop, m.running
	m.node, m.loading = nil, &loading{log: m.log}
	m.mu.Unlock()
	if n == nil {
		return nil
	}
	stop()
	return errors.Join(<-running, n.Close())
}

// Run publishes diagnostics while there is no node that does, and with autostart
// first configures and activates one, whose failure is its error. When ctx ends it
// shuts down: the arms come to rest and hold, the policy is freed, within a second
// or two. An error of the node itself ends it, too.
func (m *Managed) Run(ctx context.Context, autostart bool) (err error) {
	watching, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() { m.watch(watching) })
	defer func() {
		cancel()
		group.Wait()
		err = errors.Join(err, m.shutdown())
	}()
	if autostart {
		started := make(chan error, 1)
		go func() { started <- m.start(ctx) }()
		select {
		case err := <-started:
			if err != nil {
				return err
			}
		case <-ctx.Done():
			return nil // shutdown waits, as long as it may
		}
	}
	select {
	case <-ctx.Done():
		return nil
	case <-m.ended:
		return nil // shutdown has the error
	}
}

// start configures and activates.
func (m *Managed) start(ctx context.Context) error {
	for _, t := range []lifecycle.Transition{lifecycle.Configure, lifecycle.Activate} {
		if err := m.machine.Change(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

// ErrLoading says that the program must end while ONNX Runtime loads a graph, which
// nothing can interrupt. Neither the node nor its ros.Node can be closed then; the
// process may exit, since the arms rest, or have never moved.
var ErrLoading = errors.New("ended while the policy was being loaded")

// shutdown ends the lifecycle. Where a graph is still being loaded, the arms rest, or
// have never moved, and nothing can move them: the process may end.
func (m *Managed) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), shutdownTime)
	defer cancel()
	err := m.machine.Finish(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return ErrLoading
	}
	return errors.Join(err, m.machine.Close(), m.diagnostics.Close())
}

// watch publishes diagnostics once a second while there is no node.
func (m *Managed) watch(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
			if m.current() == nil {
				m.publishDiagnostics()
			}
		}
	}
}

// publishDiagnostics tells what is being loaded, or that nothing is.
func (m *Managed) publishDiagnostics() {
	m.mu.Lock()
	phases, failed := m.loading, m.failed
	m.mu.Unlock()
	s := newStatus(m.ros, "policy")
	state := m.machine.State()
	switch now := phases.now(); {
	case now != "":
		worsen(&s, msgs.DiagnosticWarn, "loading: %s", now)
	case failed != "" && state == lifecycle.Unconfigured:
		worsen(&s, msgs.DiagnosticError, "unconfigured: %s", failed)
	default:
		s.Message = state.String()
	}
	value(&s, "lifecycle", "%s", state)
	phases.values(&s)
	raw, err := msgs.Marshal(&msgs.DiagnosticArray{Header: msgs.Header{Stamp: msgs.TimeOf(m.ros.Now())}, Status: []msgs.DiagnosticStatus{s}})
	if err == nil {
		err = m.diagnostics.Publish(raw)
	}
	if err != nil && !errors.Is(err, ros.ErrClosed) {
		m.log.Warn("diagnostics were not sent", zap.Error(err))
	}
}
