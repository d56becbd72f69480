// Package node wires a policy to a robot: cameras, joint states and an
// instruction come in as ROS messages, the policy turns them into chunks, and
// package control turns those into joint commands that go out.
//
// A Node knows its back end only as a ros.Node, so the same code runs on a
// robot, on Cyclone DDS without ROS and on a recording. It runs in one of two
// ways: Run starts goroutines that think at the policy's rate and act at the
// command rate; Step, for recordings, does what is due up to a time and returns.
// Managed gives a running Node the lifecycle of ROS.
//
// A new Node is inactive: it takes no observation and moves nothing. Once it is
// active, the arms do not move until ~/enable was called (or start_enabled is
// set), and every command went through the safety filter of package control.
package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
)

// Node is the running thing. Make it with New, end it with Close.
type Node struct {
	ros      ros.Node
	log      *zap.Logger
	settings Settings
	policy   *policy.Policy
	decoding *decoding
	executor *control.Executor
	mapping  *mapping
	// statistics are the data set's of the arms' joints.
	statistics []action.JointStatistics

	columns  []int // of a chunk, for each joint of the executor's layout; nil where they are none
	base     base
	observer observer
	recorder recorder
	lock     *lockStep // nil where the newest messages are thought about
	runtime  RuntimeRecord
	loading  *loading
	active   atomic.Bool // observations are taken and thought about

	topics      topics
	chunks      ros.Publisher
	traces      ros.Publisher
	inferences  ros.Publisher
	statuses    ros.Publisher
	targets     [2]ros.Publisher
	diagnostics ros.Publisher
	instructed  ros.Subscription
	stops       struct{ reliable, any ros.Subscription } // of ~/estop
	deadman     deadman
	closers     []interface{ Close() error } // in the order they were made

	latency latencies

	mu      sync.Mutex
	live    Live
	stats   stats
	reason  string    // why no chunk is made, empty while they are
	busy    time.Time // since when an inference is running, zero when none is
	cancel  func()    // ends it, nil when none is
	ponders bool      // the policy goroutine is between begins and ends
	told    told      // of reason
	drivers [2]string // what the arms' drivers say of themselves, empty if nothing
	unsent  unsent
	leaving bool   // being deactivated
	started bool   // start_enabled has done its part
	waiting string // why it has not yet
	waited  limiter
	stands  bool // the clock does

	misheard limiter        // of the instruction's goroutine: refusals
	gaps     intervals      // between commands
	infill   infill         // of the policy goroutine
	think    snapshot       // of the policy goroutine
	thought  thought        // of the policy goroutine
	chunk    executed       // of the policy goroutine
	inferred int            // inferences so far, of the policy goroutine
	lostTold uint64         // of watch: messages that a lock-step lost
	act      commandMessage // of the executor goroutine

	trajectories trajectoryMessage // likewise
	step         stepState         // of Step
	seconds      time.Time         // of watch: the time a second ago
}

// told is what the log was told last about chunks.
type told struct {
	fault string // of notReady, empty when chunks are made
	log   limiter
}

// unsent is the newest failure to publish.
type unsent struct {
	count int
	topic string
	err   error
	at    time.Time
	log   limiter
}

// thought is the newest observation that was thought about.
type thought struct {
	stamp time.Time
	epoch uint64
}

// executed is the newest chunk that the executor took, nil where none is.
type executed struct {
	result *policy.Result
	epoch  uint64
}

// topics are the fully qualified names of what the node publishes and of its
// instruction topic.
type topics struct {
	instruction, episode, estop, deadman, chunk, trace, inference, status, diagnostics string
	targets, drivers                                                                   [2]string // drivers are empty where none is watched
}

// stats are totals since the start.
type stats struct {
	began      time.Time // first chunk
	last       time.Time // newest chunk
	chunks     int
	rounds     int
	superseded int           // thrown away because of what happened meanwhile
	terminated int           // of these, those that were ended before the graph had run
	failed     int           // inferences that gave an error
	overBudget int           // chunks that took longer than 1/rate
	confidence float64       // mean over the newest chunk, NaN where the model gives none
	latency    time.Duration // of the newest chunk, from snapshot to published
	prompt     string
	clockJumps int
}

// New loads the policy, checks it against the robot, subscribes and warms up;
// when it returns without an error the node is ready, inactive and stands still.
func New(ctx context.Context, rn ros.Node, settings Settings, log *zap.Logger) (*Node, error) {
	return load(ctx, rn, settings, log, &loading{log: log}, nil)
}

// load is New with what a managed node keeps from one life to the next: the phases
// of loading, and the publisher of diagnostics, which tells of them; nil makes one.
func load(ctx context.Context, rn ros.Node, settings Settings, log *zap.Logger, phases *loading, diagnostics ros.Publisher) (n *Node, err error) {
	n = &Node{ros: rn, log: log, settings: settings, live: settings.Live, loading: phases, diagnostics: diagnostics}
	n.infill.latency = func() time.Duration { return n.latency.percentiles(StageChunk).P95 }
	defer phases.end()
	defer func() {
		if err != nil {
			err = errors.Join(err, n.Close())
			n = nil
		}
	}()
	if settings.Policy == "" {
		return n, errors.New("parameter policy is not set: give the directory of a bundle that `ddvla export` wrote, -p policy:=DIR")
	}
	n.executor, err = control.New(settings.Control)
	if err != nil {
		return n, err
	}
	// What does not fit the robot is told before minutes of loading.
	manifest, err := bundle.ReadManifest(settings.Policy)
	if err != nil {
		return n, err
	}
	if n.mapping, err = newMapping(settings, manifest); err != nil {
		return n, fmt.Errorf("bundle %s: %w", settings.Policy, err)
	}
	if n.observer.proprio, err = proprioSources(manifest); err != nil {
		return n, fmt.Errorf("bundle %s: %w", settings.Policy, err)
	}
	n.columns = columns(manifest)
	n.policy, err = policy.Open(ctx, settings.Policy, policy.Options{
		Runtime: settings.Runtime, Decode: &settings.Live.Decode, Seed: uint64(settings.Seed), Phase: phases.begin,
	})
	if err != nil {
		return n, err
	}
	n.decoding = newDecoding(n.policy.SetDecode, n.policy.Decode(), log)
	m := n.policy.Manifest()
	if n.runtime, err = runtimeOf(settings, n.policy); err != nil {
		return n, err
	}
	if n.statistics, err = loadStatistics(settings.Policy, m); err != nil {
		return n, err
	}
	if settings.Instruction != "" {
		if err := n.policy.CheckInstruction(settings.Instruction); err != nil {
			return n, fmt.Errorf("parameter instruction: %w", err)
		}
		n.observer.setInstruction(settings.Instruction)
	}
	phases.begin("warming up")
	if err := n.policy.Warm(ctx); err != nil {
		return n, fmt.Errorf("warming up: %w", err)
	}
	phases.end()
	if err := n.connect(m); err != nil {
		return n, err
	}
	log.Info("ready",
		zap.String("policy", m.Name), zap.Int("chunk", m.Action.Chunk), zap.Float64("action_rate", m.Action.Rate),
		zap.Int("cameras", len(m.Cameras)), zap.String("preset", string(n.live.Decode.Preset)), zap.Int("rounds", n.live.Decode.Rounds))
	return n, nil
}

// columns finds, for each joint of the two arms, its column in a chunk; nil where
// chunks are no absolute positions of all of them.
func columns(m *bundle.Manifest) []int {
	at := map[string]int{}
	for i, d := range m.Action.Dims {
		if d.Space == bundle.Joint {
			at[d.Name] = i
		}
	}
	var columns []int
	for _, side := range arms {
		for j := range armJoints {
			i, ok := at[jointName(side, j)]
			if !ok {
				return nil
			}
			columns = append(columns, i)
		}
	}
	return columns
}

// connect makes the publishers, subscriptions and services. Names are resolved
// for messages and the bag only: remap rules must apply once, when the back end
// resolves them.
func (n *Node) connect(m *bundle.Manifest) error {
	if err := n.advertise(m); err != nil {
		return err
	}
	var err error
	for name, topic := range map[string]*string{"~/instruction": &n.topics.instruction, episodeTopic: &n.topics.episode, "~/estop": &n.topics.estop} {
		if *topic, err = n.ros.Resolve(name); err != nil {
			return err
		}
	}
	if err := n.observer.listen(n.ros, n.settings, m); err != nil {
		return err
	}
	if n.settings.LockStep > 0 {
		n.lock = newLockStep(n.settings.LockStep, &n.observer)
	}
	if err := n.resolveDrivers(); err != nil {
		return err
	}
	if n.settings.Record != "" {
		if err := n.recorder.open(n.settings.Record, n, n.log); err != nil {
			return err
		}
	}
	if err := n.subscribeInputs(); err != nil {
		return err
	}
	if err := n.watchDrivers(); err != nil {
		return err
	}
	return n.serve()
}

// advertise makes the publishers.
func (n *Node) advertise(m *bundle.Manifest) error {
	n.act.init(n.settings)
	n.trajectories.init(n.settings)
	diagnostics := (*msgs.DiagnosticArray)(nil).ROSType()
	target, targets := (*msgs.JointState)(nil).ROSType(), n.settings.Targets
	if n.settings.Trajectories {
		target, targets = (*msgs.JointTrajectory)(nil).ROSType(), [2]string{trajectoryTopic(0), trajectoryTopic(1)}
	}
	type advertised struct {
		name  string
		topic *string
		typ   string
		qos   ros.QoS
		pub   *ros.Publisher
	}
	publishers := []advertised{
		{"~/action_chunk", &n.topics.chunk, (*msgs.JointTrajectory)(nil).ROSType(), ros.DefaultQoS(), &n.chunks},
		{"~/decode_trace", &n.topics.trace, (*msgs.Float64MultiArray)(nil).ROSType(), ros.DefaultQoS(), &n.traces},
		{inferenceTopic, &n.topics.inference, (*msgs.String)(nil).ROSType(), ros.DefaultQoS(), &n.inferences},
		{"~/status", &n.topics.status, diagnostics, ros.LatchedQoS(), &n.statuses},
		{diagnosticsTopic, &n.topics.diagnostics, diagnostics, ros.DefaultQoS(), &n.diagnostics},
		{targets[0], &n.topics.targets[0], target, ros.DefaultQoS(), &n.targets[0]},
		{targets[1], &n.topics.targets[1], target, ros.DefaultQoS(), &n.targets[1]},
	}
	if drivesBase(m) {
		if n.settings.Base == "" {
			return errors.New("the policy drives a mobile base: set base.topic, such as /cmd_vel")
		}
		publishers = append(publishers, advertised{n.settings.Base, &n.base.topic, (*msgs.Twist)(nil).ROSType(), ros.DefaultQoS(), &n.base.pub})
	}
	for _, p := range publishers {
		var err error
		if *p.topic, err = n.ros.Resolve(p.name); err != nil {
			return err
		}
		if *p.pub != nil {
			continue // the caller's
		}
		if *p.pub, err = n.ros.Advertise(p.name, p.typ, n.settings.qos(*p.topic, publisher, p.qos)); err != nil {
			return fmt.Errorf("topic %s: %w", *p.topic, err)
		}
		n.closers = append(n.closers, *p.pub)
	}
	return nil
}

// subscribeInputs subscribes the cameras, the joint states and the instruction.
func (n *Node) subscribeInputs() error {
	var err error
	qos := n.settings.inputQoS()
	for i, c := range n.observer.cameras {
		if c.heard, err = n.subscribe(n.settings.Cameras[c.name], c.rosType(), qos, func(raw []byte, published time.Time) { n.onImage(i, raw, published) }); err != nil {
			return err
		}
	}
	for a, j := range n.observer.joints {
		if j.heard, err = n.subscribe(n.settings.States[a], (*msgs.JointState)(nil).ROSType(), qos, func(raw []byte, _ time.Time) { n.onJoints(a, raw) }); err != nil {
			return err
		}
	}
	// Reliable and volatile: what plain `ros2 topic pub` offers.
	var text msgs.String
	n.instructed, err = n.subscribe("~/instruction", text.ROSType(), ros.DefaultQoS(), func(raw []byte, published time.Time) {
		n.recorder.message(n.topics.instruction, raw)
		if err := msgs.Unmarshal(raw, &text); err != nil {
			if n.misheard.due(n.ros.Now()) {
				n.log.Error("instruction refused", zap.Error(err))
			}
			return
		}
		n.setInstruction(text.Data, published)
	})
	if err != nil || !n.recorder.on() {
		return err
	}
	// Only the recording cares.
	_, err = n.subscribe(episodeTopic, text.ROSType(), ros.DefaultQoS(), func(raw []byte, _ time.Time) {
		n.recorder.message(n.topics.episode, raw)
	})
	return err
}

func (n *Node) subscribe(topic, typ string, qos ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	full, err := n.ros.Resolve(topic)
	if err != nil {
		return nil, err
	}
	return n.hear(topic, typ, n.settings.qos(full, subscription, qos), cb)
}

// hear subscribes a topic as it is told to, whatever overrides say.
func (n *Node) hear(topic, typ string, qos ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	s, err := n.ros.Subscribe(topic, typ, qos, cb)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	n.closers = append(n.closers, s)
	return s, nil
}

// onImage takes a picture, on the subscription's goroutine.
func (n *Node) onImage(i int, raw []byte, published time.Time) {
	if !n.active.Load() {
		return
	}
	now, c := n.ros.Now(), n.observer.cameras[i]
	n.recorder.picture(c.topic, now, raw)
	stamp, tell := c.receive(raw, now)
	if tell != nil {
		n.log.Error("image refused; further ones like it are counted", zap.Error(tell))
	}
	if n.lock != nil && !stamp.IsZero() {
		n.lock.picture(i, stamp, published, raw)
	}
	if stamp, ok := n.observer.oldest(); ok {
		n.executor.Observed(stamp, now)
	}
}

// onJoints takes a joint state, on the subscription's goroutine.
func (n *Node) onJoints(arm int, raw []byte) {
	if !n.active.Load() {
		return
	}
	now := n.ros.Now()
	j := n.observer.joints[arm]
	n.recorder.heard(j.topic, now, raw)
	state, news, err := j.receive(raw, now)
	if n.lock != nil && news {
		n.lock.state(arm, state)
	}
	// Before there is a time, nobody knows how old a state is.
	if news && !now.IsZero() {
		if err = n.executor.Feedback(arm, state.positions[:], state.stamp, now); err != nil {
			err = fmt.Errorf("topic %s: %w", j.topic, err)
		}
	}
	if tell := j.settle(err, now); tell != nil {
		n.log.Error("joint state refused; further ones like it are counted", zap.Error(tell))
	}
}

// setInstruction takes a new instruction. It ends the motion for the old one, also
// where the model cannot be given the new one: the operator wanted something else.
// published is when it was.
func (n *Node) setInstruction(text string, published time.Time) {
	if err := n.policy.CheckInstruction(text); err != nil {
		n.observer.setInstruction("")
		if n.lock != nil {
			n.lock.instruct(published, "")
		}
		n.flush()
		if n.misheard.due(n.ros.Now()) {
			n.log.Error("instruction refused; the arms halt until a good one comes", zap.Error(err))
		}
		return
	}
	if n.lock != nil {
		n.lock.instruct(published, text)
	}
	// Said again, as publishers at a rate do, it changes nothing.
	if n.observer.current() == text {
		return
	}
	// In this order: the new epoch drops what was begun for the old one.
	n.observer.setInstruction(text)
	n.executor.NewInstruction(n.ros.Now())
	n.terminate()
	n.log.Info("instruction", zap.String("text", text))
	n.publishStatus()
}

// flush throws the chunk being executed away, and the one being made.
func (n *Node) flush() {
	n.executor.Flush(n.ros.Now())
	n.terminate()
}

// begins reports whether the policy goroutine may look for an observation: only while
// the node is active. After true it calls ends when the last word on what came of it is
// said, for which Deactivate waits.
func (n *Node) begins() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ponders = n.active.Load()
	return n.ponders
}

func (n *Node) ends() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.ponders = false
}

// thinking reports whether an observation is being looked for or thought about, or what
// came of it published.
func (n *Node) thinking() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ponders
}

// terminate ends the inference that is running, whose chunk nobody wants any more. In
// lock-step it goes on: what happens beside the messages changes no chunk.
func (n *Node) terminate() {
	if n.lock == nil {
		n.interrupt()
	}
}

// interrupt ends the inference that is running at the graph's next operator.
func (n *Node) interrupt() {
	n.mu.Lock()
	cancel := n.cancel
	n.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// publish sends a message and records it.
func (n *Node) publish(p ros.Publisher, topic string, m msgs.Message) {
	raw, err := msgs.Marshal(m)
	if err == nil {
		err = p.Publish(raw)
	}
	if err != nil {
		n.publishFailed(topic, err)
		return
	}
	n.recorder.message(topic, raw)
}

// Why a node does not enable the arms.
var (
	errInactive = errors.New("the node is inactive: `ros2 lifecycle set` it to activate first")
	errLeaving  = errors.New("the node is being deactivated: `ros2 lifecycle set` it to activate again first")
)

// Enable lets the arms move, where the node is active and, unless check_statistics is
// off, the policy's statistics fit them (ErrStatistics); see control.Executor.Enable.
// n.mu is held throughout, so that the node does not become inactive meanwhile.
func (n *Node) Enable() error {
	now := n.ros.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.leaving:
		return errLeaving
	case !n.active.Load():
		return errInactive
	}
	err := n.enable(now)
	if err == nil {
		// An operator has decided: a stop that comes now is not for start_enabled to clear.
		n.started, n.waiting = true, ""
	}
	return err
}

// enable is executor.Enable for arms that the policy was trained with.
func (n *Node) enable(now time.Time) error {
	if err := n.fits(); err != nil {
		return err
	}
	err := n.executor.Enable(now)
	for _, j := range n.observer.joints {
		// The executor knows stamps only, and would look for a driver that runs.
		if why := late(j, now, n.settings.Control.FeedbackTimeout); err != nil && why != "" {
			// Without the age, which changes: start_enabled tells each reason once.
			return fmt.Errorf("%s: stamped more than limits.feedback_timeout (%v) in the past; the clocks of the machines differ, or it buffers", j.what(), n.settings.Control.FeedbackTimeout)
		}
	}
	return err
}

// Activate begins to take observations and to make chunks of them. The arms stand
// still until they are enabled.
func (n *Node) Activate() {
	n.observer.reset()
	if n.lock != nil {
		n.lock.reset()
	}
	n.active.Store(true)
	n.log.Info("active: observations are taken")
}

// resting bounds how long Deactivate waits for the arms: they brake from their
// fastest in less than a second.
const resting = 5 * time.Second

// Deactivate brings the arms to rest, where they hold, and then takes no more
// observations. It returns when it is done or ctx ends, after some seconds in any
// case: a clock that stands brings nothing to rest, and sends nothing either. Run
// must be running.
func (n *Node) Deactivate(ctx context.Context) {
	n.mu.Lock()
	n.started, n.waiting, n.leaving = true, "", true
	n.mu.Unlock()
	n.executor.Disable(n.ros.Now())
	n.interrupt()
	ctx, cancel := context.WithTimeout(ctx, resting)
	defer cancel()
	look := time.NewTicker(n.executor.Period())
	defer look.Stop()
	for moving := true; moving; {
		switch n.executor.Status().Mode {
		case control.Disabled, control.Estopped:
			moving = false
			continue
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			n.log.Warn("the node is deactivated before the arms came to rest; their drivers hold the last command")
			moving = false
		}
	}
	n.mu.Lock()
	n.active.Store(false)
	n.leaving = false
	n.mu.Unlock()
	// What was begun meanwhile.
	for n.thinking() {
		n.interrupt()
		select {
		case <-look.C:
			continue
		case <-ctx.Done():
		}
		break
	}
	n.log.Info("inactive: the arms hold, observations are not taken")
}

// Close ends services, subscriptions and publishers, in this order, writes what is
// being recorded and frees the policy. Run must have returned. The ros.Node stays
// the caller's. SetLive may still be called.
func (n *Node) Close() error {
	var errs []error
	for _, c := range slices.Backward(n.closers) {
		errs = append(errs, c.Close())
	}
	n.closers = nil
	errs = append(errs, n.recorder.close())
	n.decoding.close()
	if n.policy != nil {
		errs = append(errs, n.policy.Close())
	}
	return errors.Join(errs...)
}

// SetLive changes the live settings: those of the motion at once, whatever becomes of
// the others, those of decoding from the next chunk on, or from when their graph is
// loaded.
func (n *Node) SetLive(live Live) error {
	moves := n.executor.SetLive(live.Motion)
	decodes := policy.CheckDecode(live.Decode, n.policy.Manifest())
	if decodes == nil {
		decodes = n.decoding.change(live.Decode)
	}
	n.mu.Lock()
	before := n.live
	n.live = live
	if moves != nil {
		n.live.Motion = before.Motion
	}
	if decodes != nil {
		n.live.Decode = before.Decode
	}
	n.mu.Unlock()
	n.recorder.parameters(before.Parameters, live.Parameters)
	return errors.Join(moves, decodes)
}

func (n *Node) currentLive() Live {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.live
}
