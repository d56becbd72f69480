package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zaptest "go.uber.org/zap/zaptest/observer"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/lifecycle"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/sim"
)

// desk is a managed node, a simulated robot and an operator on one bus.
type desk struct {
	t        *testing.T
	ctx      context.Context
	managed  *Managed
	operator ros.Node
	logs     *zaptest.ObservedLogs

	mu          sync.Mutex
	diagnostics []msgs.DiagnosticArray
	status      []msgs.DiagnosticArray
	commands    int
	last        []float64 // of the left arm
	changed     chan struct{}
}

// newDesk makes a managed node that Run has not been called on.
func newDesk(t *testing.T, settings func() (Settings, error)) *desk {
	t.Helper()
	bus := local.NewBus()
	d := &desk{t: t, changed: make(chan struct{}, 1)}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	d.ctx = ctx
	node := func(name string) ros.Node {
		n, err := bus.Node(ros.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := n.Close(); err != nil {
				t.Error(err)
			}
		})
		return n
	}
	d.operator = node("operator")
	conf := sim.DefaultConfig()
	conf.JointRate, conf.CameraRate = 100, 10 // less for a machine that tests other packages meanwhile
	robot, err := sim.NewProcess(node("robot"), conf)
	if err != nil {
		t.Fatal(err)
	}
	stopped, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	group.Go(func() {
		if _, err := robot.Run(stopped); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { stop(); group.Wait(); robot.Close() })

	hear := func(topic string, keep *[]msgs.DiagnosticArray) {
		if _, err := d.operator.Subscribe(topic, "diagnostic_msgs/msg/DiagnosticArray", ros.QoS{Depth: 1000}, func(raw []byte, _ time.Time) {
			var m msgs.DiagnosticArray
			if err := msgs.Unmarshal(slices.Clone(raw), &m); err != nil {
				t.Error(err)
			}
			d.note(func() { *keep = append(*keep, m) })
		}); err != nil {
			t.Fatal(err)
		}
	}
	hear("/diagnostics", &d.diagnostics)
	hear("/ddvla/status", &d.status)
	if _, err := ros.Subscribe(d.operator, commandTopic(0), ros.QoS{Depth: 1000}, func(m *msgs.JointState, _ time.Time) {
		d.note(func() { d.commands++; d.last = slices.Clone(m.Position) })
	}); err != nil {
		t.Fatal(err)
	}
	core, logs := zaptest.New(zapcore.InfoLevel)
	d.logs = logs
	if d.managed, err = Manage(ctx, node("ddvla"), settings, zap.New(core)); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *desk) note(f func()) {
	d.mu.Lock()
	f()
	d.mu.Unlock()
	select {
	case d.changed <- struct{}{}:
	default:
	}
}

// run runs the node until the test ends it with the function returned, which gives
// Run's error.
func (d *desk) run(autostart bool) (end func() error) {
	ctx, cancel := context.WithCancel(d.ctx)
	done := make(chan error, 1)
	go func() { done <- d.managed.Run(ctx, autostart) }()
	end = sync.OnceValue(func() error { cancel(); return <-done })
	d.t.Cleanup(func() { _ = end() })
	return end
}

// until waits for something to become true, which it looks at after each message.
func (d *desk) until(what string, holds func() bool) {
	d.t.Helper()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		d.mu.Lock()
		ok := holds()
		d.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-d.changed:
		case <-look.C:
		case <-d.ctx.Done():
			d.t.Fatalf("waited in vain for %s; the node is %s", what, d.managed.State())
		}
	}
}

// set asks for a transition, as `ros2 lifecycle set` does.
func (d *desk) set(label lifecycle.Transition) bool {
	d.t.Helper()
	c, err := d.operator.Client("/ddvla/change_state", "lifecycle_msgs/srv/ChangeState")
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	reply, err := ros.Call[msgs.ChangeStateRequest, msgs.ChangeStateResponse](d.ctx, c, &msgs.ChangeStateRequest{Transition: msgs.Transition{Label: string(label)}})
	if err != nil {
		d.t.Fatal(err)
	}
	return reply.Success
}

// trigger calls a service of the node.
func (d *desk) trigger(service string) *msgs.TriggerResponse {
	d.t.Helper()
	c, err := ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](d.operator, service)
	if err != nil {
		d.t.Fatal(err)
	}
	defer c.Close()
	reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](d.ctx, c, &msgs.TriggerRequest{})
	if err != nil {
		d.t.Fatal(err)
	}
	return reply
}

// enable enables the arms as soon as the node agrees.
func (d *desk) enable() {
	d.t.Helper()
	d.until("the arms to be enabled", func() bool {
		d.mu.Unlock()
		defer d.mu.Lock()
		return d.trigger("/ddvla/enable").Success
	})
}

// newest returns the newest status of a part, and whether there is one.
func newest(all []msgs.DiagnosticArray, part string) (msgs.DiagnosticStatus, bool) {
	if len(all) > 0 {
		for _, s := range all[len(all)-1].Status {
			if s.Name == "ddvla: "+part {
				return s, true
			}
		}
	}
	return msgs.DiagnosticStatus{}, false
}

func testSettings(t *testing.T, extra ...param.Assignment) Settings {
	t.Helper()
	s, _, _, err := settings(parameters(testbundle.Dir(t), extra)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The operator takes the node through its life twice: nothing moves unless it is
// active and enabled, deactivate brings the arms to rest and ends commands, cleanup
// frees the policy.
func TestLifecycleOfTheNode(t *testing.T) {
	s := testSettings(t)
	d := newDesk(t, func() (Settings, error) { return s, nil })
	end := d.run(false)
	d.until("diagnostics of a node without policy", func() bool {
		s, ok := newest(d.diagnostics, "policy")
		return ok && s.Level == msgs.DiagnosticOK && s.Message == "unconfigured"
	})
	for range 2 {
		if !d.set(lifecycle.Configure) || d.managed.State() != lifecycle.Inactive {
			t.Fatalf("configured: the state is %s", d.managed.State())
		}
		if r := d.trigger("/ddvla/enable"); r.Success || !strings.Contains(r.Message, "inactive") {
			t.Errorf("an inactive node was enabled: %+v", r)
		}
		d.until("diagnostics of an inactive node", func() bool {
			s, ok := newest(d.diagnostics, "safety")
			return ok && s.Message == inactive
		})
		if !d.set(lifecycle.Activate) {
			t.Fatal("not activated")
		}
		d.enable()
		before := d.managed.current().Report().Chunks
		d.until("motion", func() bool {
			n := d.managed.current()
			return n.Report().Chunks > before+2 && n.executor.Status().Mode == control.Moving
		})
		if !d.set(lifecycle.Deactivate) || d.managed.State() != lifecycle.Inactive {
			t.Fatalf("deactivated: the state is %s", d.managed.State())
		}
		n := d.managed.current()
		if m := n.executor.Status().Mode; m != control.Disabled {
			t.Errorf("after deactivate the arms are %s", m)
		}
		if n.thinking() || n.active.Load() {
			t.Error("after deactivate the node still thinks")
		}
		commands, chunks := n.executor.Status().Counters.Commands, n.Report().Chunks
		d.mu.Lock()
		seen := len(d.diagnostics)
		d.mu.Unlock()
		d.until("two seconds to pass", func() bool { return len(d.diagnostics) >= seen+2 })
		if c := n.executor.Status().Counters.Commands; c != commands || n.Report().Chunks != chunks {
			t.Errorf("%d commands and %d chunks of an inactive node", c-commands, n.Report().Chunks-chunks)
		}
		if !d.set(lifecycle.CleanUp) || d.managed.current() != nil {
			t.Error("cleanup left a node")
		}
	}
	if d.set(lifecycle.Activate) {
		t.Error("an unconfigured node was activated")
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	if d.managed.State() != lifecycle.Finalized {
		t.Errorf("in the end the state is %s", d.managed.State())
	}
}

// With autostart nobody has to do anything; the end of the program brings arms that
// move to rest.
func TestAutostartAndOrderlyEnd(t *testing.T) {
	s := testSettings(t, given("start_enabled", param.Bool(true)))
	d := newDesk(t, func() (Settings, error) { return s, nil })
	end := d.run(true)
	d.until("motion", func() bool {
		n := d.managed.current()
		return n != nil && n.executor.Status().Mode == control.Moving && d.commands > 20
	})
	d.until("all five parts to be told of", func() bool {
		for _, part := range []string{"cameras", "joints", "policy", "executor", "safety"} {
			if _, ok := newest(d.diagnostics, part); !ok {
				return false
			}
		}
		return true
	})
	d.mu.Lock()
	policy, _ := newest(d.diagnostics, "policy")
	status, ok := newest(d.status, "status")
	d.mu.Unlock()
	for _, key := range []string{"loading.loading the graph", "loading.warming up", "latency.inference", "rounds", "confidence"} {
		if statusValue(policy, key) == "" {
			t.Errorf("diagnostics do not tell %q: %v", key, policy.Values)
		}
	}
	if !ok || statusValue(status, "instruction") != "reach the red cube" || statusValue(status, "mode") == "" {
		t.Errorf("status %+v", status)
	}
	if err := end(); err != nil {
		t.Fatal(err)
	}
	for _, code := range []control.Code{control.ShuttingDown, control.Silent} {
		if d.logs.FilterMessage(code.Sentence()).Len() != 1 {
			t.Errorf("the log does not say: %s", code.Sentence())
		}
	}
}

// start_enabled is for the start of the program: what an operator stopped and took
// through its life is not enabled again by itself.
func TestStartEnabledIsForTheFirstLifeOnly(t *testing.T) {
	s := testSettings(t, given("start_enabled", param.Bool(true)))
	d := newDesk(t, func() (Settings, error) { return s, nil })
	d.run(true)
	enabled := func() bool {
		n := d.managed.current()
		return n != nil && n.executor.Status().Mode != control.Disabled
	}
	d.until("the arms to be enabled", enabled)
	if !d.trigger("/ddvla/estop").Success {
		t.Fatal("no e-stop")
	}
	for _, step := range []lifecycle.Transition{lifecycle.Deactivate, lifecycle.CleanUp, lifecycle.Configure, lifecycle.Activate} {
		if !d.set(step) {
			t.Fatal(step)
		}
	}
	d.mu.Lock()
	seen := len(d.diagnostics)
	d.mu.Unlock()
	d.until("three seconds to pass", func() bool { return len(d.diagnostics) >= seen+3 })
	if enabled() {
		t.Error("the arms were enabled again after an e-stop")
	}
}

// A node that is configured again records into a bag of its own: the one before stays.
func TestEveryLifeHasItsRecording(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bag")
	s := testSettings(t, given("record", param.String(dir)))
	d := newDesk(t, func() (Settings, error) { return s, nil })
	d.run(false)
	for range 2 {
		for _, step := range []lifecycle.Transition{lifecycle.Configure, lifecycle.CleanUp} {
			if !d.set(step) {
				t.Fatalf("%s: %v", step, d.logs.FilterMessage("transition refused or failed").All())
			}
		}
	}
	for _, path := range []string{dir, dir + "_2"} {
		if _, err := bag.Open(path); err != nil {
			t.Error(err)
		}
	}
}

// A bundle that cannot be loaded ends a program that starts by itself; one that
// waits for its operator tells why on diagnostics, and can be configured once the
// fault is mended.
func TestConfigureThatFails(t *testing.T) {
	dir := testbundle.Copy(t, func(*bundle.Manifest) {})
	file := filepath.Join(dir, bundle.StatisticsFile)
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s, _, _, err := settings(parameters(dir, nil)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(slices.Clone(good), '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
	auto := newDesk(t, func() (Settings, error) { return s, nil })
	if err := auto.managed.Run(auto.ctx, true); !errors.Is(err, bundle.ErrHash) {
		t.Errorf("autostart: %v", err)
	}

	d := newDesk(t, func() (Settings, error) { return s, nil })
	d.run(false)
	if d.set(lifecycle.Configure) || d.managed.State() != lifecycle.Unconfigured {
		t.Fatalf("configured; the state is %s", d.managed.State())
	}
	d.until("the reason on diagnostics", func() bool {
		s, ok := newest(d.diagnostics, "policy")
		return ok && s.Level == msgs.DiagnosticError && strings.Contains(s.Message, bundle.StatisticsFile)
	})
	if err := os.WriteFile(file, good, 0o644); err != nil {
		t.Fatal(err)
	}
	if !d.set(lifecycle.Configure) {
		t.Fatal("not configured after the file was mended")
	}
}

// Live settings that change while there is no node are those of the next one.
func TestLiveSettingsOfTheNextNode(t *testing.T) {
	var mu sync.Mutex
	s := testSettings(t)
	d := newDesk(t, func() (Settings, error) {
		mu.Lock()
		defer mu.Unlock()
		return s, nil
	})
	d.run(false)
	mu.Lock()
	s.Live.Decode.Rounds = 3
	mu.Unlock()
	if err := d.managed.SetLive(s.Live); err != nil {
		t.Fatal(err)
	}
	if !d.set(lifecycle.Configure) {
		t.Fatal("not configured")
	}
	if got := d.managed.current().currentLive().Decode.Rounds; got != 3 {
		t.Errorf("%d rounds, want 3", got)
	}
}

// What throws the chunk away that is being made also ends its inference.
func TestInferenceThatNobodyWantsIsTerminated(t *testing.T) {
	for name, throw := range map[string]func(d *desk){
		"reset":   func(d *desk) { d.trigger("/ddvla/reset") },
		"disable": func(d *desk) { d.trigger("/ddvla/disable") },
		"estop":   func(d *desk) { d.trigger("/ddvla/estop") },
		"a new instruction": func(d *desk) {
			p, err := ros.Advertise[msgs.String](d.operator, instructedTopic, ros.DefaultQoS())
			if err != nil {
				d.t.Fatal(err)
			}
			defer p.Close()
			for _, text := range []string{"reach the blue cube", "reach the red cube"} {
				if err := p.Publish(&msgs.String{Data: text}); err != nil {
					d.t.Fatal(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			// Rounds enough that most of the time an inference is running.
			s := testSettings(t, given("decode.rounds", param.Int(64)), given("decode.threshold", param.Doubles(2)))
			d := newDesk(t, func() (Settings, error) { return s, nil })
			d.run(true)
			d.until("a node", func() bool { return d.managed.State() == lifecycle.Active })
			n := d.managed.current()
			for n.Report().Terminated == 0 {
				d.until("an inference", func() bool {
					n.mu.Lock()
					defer n.mu.Unlock()
					return n.cancel != nil || n.stats.terminated > 0
				})
				throw(d)
			}
			if r := n.Report(); r.Superseded < r.Terminated || r.Failed != 0 {
				t.Errorf("%d superseded, %d terminated, %d failed", r.Superseded, r.Terminated, r.Failed)
			}
			before := n.Report().Chunks
			d.until("the next chunk", func() bool { return n.Report().Chunks > before })
		})
	}
}

// QoS overrides reach the topics, as rclcpp's parameters name them.
func TestQoSOverridesReachTheTopics(t *testing.T) {
	s := testSettings(t,
		given("qos_overrides./camera_f/color/image_raw.subscription.reliability", param.String("reliable")),
		given("qos_overrides./camera_f/color/image_raw.subscription.depth", param.Int(2)),
		given("qos_overrides./master/joint_left.publisher.durability", param.String("transient_local")),
		given("qos_overrides./diagnostics.publisher.lifespan", param.Int(3e9)),
		given("qos_overrides./ddvla/instruction.subscription.deadline", param.Int(5e9)),
		given("qos_overrides./puppet/arm_status_left.subscription.depth", param.Int(3)),
		given("deadman.topic", param.String("/deadman")),
		given("qos_overrides./deadman.subscription.reliability", param.String("reliable")),
	)
	d := newDesk(t, func() (Settings, error) { return s, nil })
	d.run(false)
	if !d.set(lifecycle.Configure) {
		t.Fatal("not configured")
	}
	graph, err := d.operator.(ros.Grapher).Graph()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]ros.QoS{}
	for _, g := range graph {
		if g.Name != "/ddvla" {
			continue
		}
		for _, e := range g.Publishes {
			got[e.Name+".publisher"] = e.QoS
		}
		for _, e := range g.Subscribes {
			got[e.Name+".subscription"] = e.QoS
		}
	}
	for key, want := range map[string]ros.QoS{
		"/camera_f/color/image_raw.subscription": {Reliability: ros.Reliable, Depth: 2},
		"/camera_l/color/image_raw.subscription": ros.SensorDataQoS(),
		"/master/joint_left.publisher":           {Durability: ros.TransientLocal, Depth: 10},
		"/diagnostics.publisher":                 {Depth: 10, Lifespan: 3 * time.Second},
		"/ddvla/instruction.subscription":        {Depth: 10, Deadline: 5 * time.Second},
		"/ddvla/status.publisher":                ros.LatchedQoS(),
		"/puppet/arm_status_left.subscription":   {Reliability: ros.BestEffort, Depth: 3},
		"/deadman.subscription":                  {Reliability: ros.Reliable, Depth: 5},
	} {
		if got[key] != want {
			t.Errorf("%s: %v, want %v", key, got[key], want)
		}
	}
	if _, _, _, err := settings(parameters(testbundle.Dir(t), []param.Assignment{
		given("qos_overrides./diagnostics.publisher.reliability", param.String("sometimes")),
	})...); err == nil || !strings.Contains(err.Error(), "reliable, best_effort") {
		t.Errorf("a policy that there is not: %v", err)
	}
}

// Deactivate returns when the last word on a chunk is said: after it nothing is
// published of what was begun before.
func TestDeactivateWaitsForWhatIsThought(t *testing.T) {
	n := newRig(t).node
	if !n.begins() {
		t.Fatal("an active node does not begin")
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Deactivate(t.Context())
	}()
	select {
	case <-done:
		t.Error("deactivated in the middle of a thought")
	case <-time.After(20 * n.executor.Period()):
	}
	n.ends()
	<-done
	if n.begins() {
		t.Error("an inactive node begins")
	}
}
