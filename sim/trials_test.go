package sim

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
)

// On topics, in lock step: the expert does every task, its commands are on the
// command topics, and the report says so.
func TestTasksAreDemonstratedOnTopics(t *testing.T) {
	c := DefaultConfig()
	c.Task, c.Demonstrate = AllTasks, true
	c.Episodes, c.Pause = len(Tasks()), 500*time.Millisecond
	bus := local.NewBus()
	listener := newNode(t, bus, "listener")
	said, commanded := make(chan string, 1), make(chan int, 1) // the first of each
	subscribe[msgs.String](t, listener, c.InstructionTopic, func(m *msgs.String, _ time.Time) {
		select {
		case said <- m.Data:
		default:
		}
	})
	subscribe[msgs.JointState](t, listener, c.CommandTopics[Right], func(m *msgs.JointState, _ time.Time) {
		select {
		case commanded <- len(m.Position):
		default:
		}
	})
	marks := make(chan string, 2*len(Tasks()))
	subscribe[msgs.String](t, listener, c.EpisodeTopic, func(m *msgs.String, _ time.Time) { marks <- strings.Clone(m.Data) })
	p := newProcess(t, newNode(t, bus, "robot"), c)
	const tick = 10 * time.Millisecond
	ticks := 0
	for done := false; !done; ticks++ {
		var err error
		if done, err = p.motion(tick); err != nil {
			t.Fatal(err)
		}
		if !p.demo.started && !done {
			// Only with its pictures does a scene begin.
			if p.trials.given > 0 || p.world.State() != Home() {
				t.Fatalf("episode %d runs before its pictures are out, or not from home", p.trials.index)
			}
			if err := p.pictures(); err != nil {
				t.Fatal(err)
			}
		}
		if ticks > 20000 {
			t.Fatal("no end after 200 s")
		}
	}
	r := p.Report()
	if len(r.Tasks) != len(Tasks()) || r.Succeeded() != len(r.Tasks) {
		t.Errorf("%s", r)
	}
	for i, result := range r.Tasks {
		if result.Task != Tasks()[i].Name || result.Seed != uint64(i) {
			t.Errorf("result %d: %s", i, result)
		}
	}
	for range Tasks() {
		if start, end := <-marks, <-marks; start != MarkStart || end != MarkSuccess {
			t.Errorf("an episode is marked %q and %q", start, end)
		}
	}
	if n := <-commanded; n != armDims {
		t.Errorf("a command of %d positions", n)
	}
	if text := <-said; text != r.Tasks[0].Instruction {
		t.Errorf("first said %q, first result is of %q", text, r.Tasks[0].Instruction)
	}
	if !strings.Contains(r.String(), "done 7 of 7;") {
		t.Errorf("report: %s", r)
	}
}

// With the arms where the scene before left them, some tables would be done as they
// are laid: those are not given.
func TestAScenePresentsSomethingToDo(t *testing.T) {
	arms := testArms(t)
	c := DefaultConfig()
	c.Task, c.Episodes = "reach", 300
	trials, err := newTrials(arms, &c)
	if err != nil {
		t.Fatal(err)
	}
	w, expert := trials.episode.World, trials.episode.Expert()
	for range 20 * time.Second / RowTime {
		w.Command(expert.Act(w))
		w.Step(RowTime)
	}
	if !trials.episode.Success() {
		t.Fatal("the expert has not reached")
	}
	left := w.servo.Position
	for i := range c.Episodes {
		if err := trials.begin(i, left); err != nil {
			t.Fatal(err)
		}
		if trials.episode.World.Step(servoStep); trials.episode.Success() {
			t.Fatalf("episode %d, seed %d, is done before it begins", i, trials.episode.Seed)
		}
	}
	if trials.skipped < 3 {
		t.Errorf("of %d scenes %d would have been done; this test says little", c.Episodes, trials.skipped)
	}
}

func subscribe[T any, M ros.MessageOf[T]](t *testing.T, n ros.Node, topic string, f func(*T, time.Time)) {
	t.Helper()
	sub, err := ros.Subscribe[T, M](n, topic, ros.DefaultQoS(), f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
	})
}

// A demonstration that waits for a recorder stands still until every topic is
// listened to, says its instruction to who is there, and marks the start then.
func TestDemonstrationWaitsForARecorder(t *testing.T) {
	c := DefaultConfig()
	c.Task, c.Demonstrate, c.WaitForCommand = "reach", true, true
	bus := local.NewBus()
	p := newProcess(t, newNode(t, bus, "robot"), c)
	wait := func() {
		t.Helper()
		for range 20 {
			if done, err := p.motion(100 * time.Millisecond); done || err != nil {
				t.Fatal(done, err)
			}
			if err := p.pictures(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if wait(); p.demo.started || p.trials.given > 0 || p.commands > 0 {
		t.Fatal("it has begun and nobody listens")
	}
	topics := p.unheard()
	if len(topics) != Cameras+6 {
		t.Fatalf("it waits for %q", topics)
	}
	listener := newNode(t, bus, "recorder")
	heard := make(chan string, 100)
	for _, topic := range topics[:Cameras] {
		if _, err := ros.Subscribe(listener, topic, ros.SensorDataQoS(), func(*msgs.Image, time.Time) {}); err != nil {
			t.Fatal(err)
		}
	}
	for _, topic := range topics[Cameras : Cameras+4] {
		subscribe[msgs.JointState](t, listener, topic, func(*msgs.JointState, time.Time) {})
	}
	subscribe[msgs.String](t, listener, c.EpisodeTopic, func(m *msgs.String, _ time.Time) { heard <- "mark " + m.Data })
	if wait(); p.demo.started || len(heard) > 0 {
		t.Fatalf("it has begun and nobody hears the instruction")
	}
	said := make(chan struct{}, 100)
	subscribe[msgs.String](t, listener, c.InstructionTopic, func(*msgs.String, time.Time) {
		said <- struct{}{}
	})
	if wait(); !p.demo.started || p.trials.given == 0 {
		t.Error("it does not begin")
	}
	<-said
	if mark := <-heard; mark != "mark "+MarkStart {
		t.Errorf("the first mark is %q", mark)
	}
}

// Nobody commands: the time passes, nothing is done, and while it waits for a
// command the clock stands.
func TestTaskWithoutAPolicyIsNotDone(t *testing.T) {
	c := DefaultConfig()
	c.Task, c.Episodes, c.WaitForCommand = "bell", 2, true
	p := newProcess(t, newNode(t, local.NewBus(), "robot"), c)
	for range 2000 {
		if done, err := p.motion(10 * time.Millisecond); err != nil || done {
			t.Fatalf("done while waiting (%v)", err)
		}
	}
	p.conf.WaitForCommand = false
	n := 0
	for done := false; !done; n++ {
		var err error
		if done, err = p.motion(10 * time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	r := p.Report()
	if len(r.Tasks) != 2 || r.Succeeded() != 0 || r.Tasks[0].Took < bellTask().Limit {
		t.Errorf("%s", r)
	}
	if want := 2 * int(bellTask().Limit/(10*time.Millisecond)); n < want || n > want+4 {
		t.Errorf("%d ticks, want %d", n, want)
	}
}

func TestTaskConfigNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"juggle":        func(c *Config) { c.Task = "juggle" },
		"Demonstrate":   func(c *Config) { c.Demonstrate = true },
		"Schedule":      func(c *Config) { c.Task, c.Schedule = "bell", []Step{{"x", time.Second}} },
		"Episodes":      func(c *Config) { c.Task, c.Episodes = "bell", 0 },
		"Pause":         func(c *Config) { c.Pause = -1 },
		"HomeService":   func(c *Config) { c.Task, c.Demonstrate, c.HomeService = "bell", true, "/home" },
		"EnableService": func(c *Config) { c.Task, c.Demonstrate, c.EnableService = "bell", true, "/enable" },
		"Servo.Delay":   func(c *Config) { c.Servo.Delay = -1 },
		"Servo.Noise":   func(c *Config) { c.Servo.Noise = 2 },
		"no such task":  func(c *Config) { c.Task = "Bell" },
	} {
		c := DefaultConfig()
		change(&c)
		p, err := NewProcess(newNode(t, local.NewBus(), "robot"), c)
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error that names %s, have %v", want, err)
		}
	}
}

// Between two scenes the home service is called, and the next table is laid when the
// arms are at rest; a refused call is repeated.
func TestHomeBetweenScenes(t *testing.T) {
	c := DefaultConfig()
	c.Task, c.Episodes, c.Pause, c.HomeService = "reach", 2, 100*time.Millisecond, "/policy/home"
	c.CameraRate = 1
	bus := local.NewBus()
	p := newProcess(t, newNode(t, bus, "robot"), c)
	peer := newNode(t, bus, "policy")
	var expert atomic.Bool // acts; else the arms go home
	expert.Store(true)
	calls := 0
	_, err := ros.Serve[msgs.TriggerRequest, msgs.TriggerResponse](peer, c.HomeService, func(context.Context, *msgs.TriggerRequest) (*msgs.TriggerResponse, error) {
		if calls++; calls == 1 {
			return &msgs.TriggerResponse{Message: "not now"}, nil
		}
		expert.Store(false)
		return &msgs.TriggerResponse{Success: true}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	marks := make(chan string, 8)
	subscribe[msgs.String](t, peer, c.EpisodeTopic, func(m *msgs.String, _ time.Time) {
		if marks <- strings.Clone(m.Data); m.Data == MarkStart {
			expert.Store(true)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	var report Report
	group.Go(func() (err error) {
		defer cancel()
		report, err = p.Run(ctx)
		return err
	})
	var left State // where the arms were last between the scenes
	group.Go(func() error {
		return every(ctx, 20, func(time.Duration) (bool, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.trials.leaving {
				left = p.world.State()
			}
			q := Home()
			if expert.Load() {
				q = p.trials.expert.Act(p.world)
			}
			p.commands += 2
			p.world.Command(q)
			return false, nil
		})
	})
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(report.Tasks) != 2 || report.Succeeded() != 2 || calls != 2 {
		t.Errorf("%s; the service was called %d times, want 2", report, calls)
	}
	home := Home()
	for j := range home {
		if d := left[j] - home[j]; d > 0.005 || d < -0.005 {
			t.Errorf("the second scene is laid with %s %.3f away from home", Names()[j], d)
		}
	}
	for _, want := range []string{MarkStart, MarkSuccess, MarkStart, MarkSuccess} {
		if got := <-marks; got != want {
			t.Errorf("marked %q, want %q", got, want)
		}
	}
}

// stepped takes a process through all of its episodes, in no time.
func stepped(t *testing.T, p *Process) {
	t.Helper()
	for done, ticks := false, 0; !done; ticks++ {
		var err error
		if done, err = p.motion(10 * time.Millisecond); err != nil || ticks > 1e6 {
			t.Fatal("no end", err)
		}
		if len(p.homing.asked) > 0 {
			<-p.homing.asked
			if err := p.sendHome(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// The arms are enabled once the policy lets them, and again right before they are sent
// home, but never where another robot would move with them.
func TestArmsAreEnabled(t *testing.T) {
	c := DefaultConfig()
	c.Task, c.Episodes, c.HomeService, c.EnableService = "bell", 2, "/policy/home", "/policy/enable"
	bus := local.NewBus()
	p := newProcess(t, newNode(t, bus, "robot"), c)
	p.homing.again = time.Millisecond
	var calls []string // one service at a time
	policy := newNode(t, bus, "policy")
	for name, refusals := range map[string]int{c.EnableService: 2, c.HomeService: 0} {
		_, err := ros.Serve[msgs.TriggerRequest, msgs.TriggerResponse](policy, name, func(context.Context, *msgs.TriggerRequest) (*msgs.TriggerResponse, error) {
			calls = append(calls, name)
			refusals--
			return &msgs.TriggerResponse{Success: refusals < 0}, nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	other := errors.New("another robot")
	p.conf.Alone = func() error { return other }
	if _, err := p.Run(t.Context()); !errors.Is(err, other) || len(calls) > 0 {
		t.Fatalf("with another robot: %v, calls %q", err, calls)
	}
	p.conf.Alone = func() error { return nil }
	if err := p.enableFirst(t.Context()); err != nil {
		t.Fatal(err)
	}
	stepped(t, p)
	if want := []string{c.EnableService, c.EnableService, c.EnableService, c.EnableService, c.HomeService}; !slices.Equal(calls, want) {
		t.Errorf("calls %q, want %q", calls, want)
	}
}

// The service that nobody serves, or that always refuses, does not hold up the episodes:
// the next scene begins where the arms are.
func TestHomeThatIsRefused(t *testing.T) {
	for _, served := range []bool{false, true} {
		c := DefaultConfig()
		c.Task, c.Episodes, c.HomeService = "bell", 2, "/policy/home"
		bus := local.NewBus()
		core, logged := observer.New(zap.WarnLevel)
		c.Logger = zap.New(core)
		p := newProcess(t, newNode(t, bus, "robot"), c)
		p.homing.reply, p.homing.again = 10*time.Millisecond, time.Millisecond
		if served {
			_, err := ros.Serve[msgs.TriggerRequest, msgs.TriggerResponse](newNode(t, bus, "policy"), c.HomeService, func(context.Context, *msgs.TriggerRequest) (*msgs.TriggerResponse, error) {
				return &msgs.TriggerResponse{Message: "the arms are disabled"}, nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		stepped(t, p)
		if r := p.Report(); len(r.Tasks) != 2 || r.Succeeded() != 0 {
			t.Errorf("%s", r)
		}
		want := map[bool]string{false: "no reply within 10ms", true: "the arms are disabled"}[served]
		if all := logged.All(); len(all) != 1 || all[0].ContextMap()["error"] != want || all[0].ContextMap()["service"] != c.HomeService {
			t.Errorf("logged %+v, want %q", all, want)
		}
	}
}
