package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/rostest"
)

// taping is a tape of wanted topics on a bus, that records until end.
type taping struct {
	t    *testing.T
	tape *tape
	dir  string
	stop context.CancelFunc
	done chan error
}

func startTape(t *testing.T, bus *local.Bus, options bag.Options, all bool, wanted ...[]string) *taping {
	t.Helper()
	p := newTaping(t, bus, options, all, wanted...)
	p.start()
	return p
}

func newTaping(t *testing.T, bus *local.Bus, options bag.Options, all bool, wanted ...[]string) *taping {
	t.Helper()
	rn, err := bus.Node(ros.Options{Name: "_ddvla_record"})
	if err != nil {
		t.Fatal(err)
	}
	p := &taping{t: t, dir: filepath.Join(t.TempDir(), "bag"), done: make(chan error, 1)}
	w, err := bag.Create(p.dir, options)
	if err != nil {
		t.Fatal(err)
	}
	p.tape = newTape(rn, zap.NewNop(), wanted, all, io.Discard)
	if p.tape.recorder, err = bag.NewRecorder(w, bag.RecorderOptions{Failed: p.tape.failed}); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *taping) start() {
	ctx, stop := context.WithCancel(p.t.Context())
	p.stop = stop
	p.t.Cleanup(stop)
	go func() { p.done <- errors.Join(p.tape.run(ctx), p.tape.recorder.Close(), p.tape.node.Close()) }()
}

// end ends the recording and returns the messages of its topics and the topics.
func (p *taping) end() (map[string][][]byte, []bag.Topic) {
	p.t.Helper()
	p.stop()
	if err := rostest.Receive(p.t, "the tape ends", p.done); err != nil {
		p.t.Fatal(err)
	}
	r, err := bag.Open(p.dir)
	if err != nil {
		p.t.Fatal(err)
	}
	got := map[string][][]byte{}
	for m, err := range r.Messages(p.t.Context()) {
		if err != nil {
			p.t.Fatal(err)
		}
		got[m.Topic] = append(got[m.Topic], slices.Clone(m.Data))
	}
	return got, r.Topics()
}

// mouth is a publisher of strings.
type mouth struct {
	t   *testing.T
	pub *ros.TypedPublisher[msgs.String, *msgs.String]
}

func newMouth(t *testing.T, n ros.Node, topic string, qos ros.QoS) *mouth {
	t.Helper()
	pub, err := ros.Advertise[msgs.String](n, topic, qos)
	if err != nil {
		t.Fatal(err)
	}
	return &mouth{t, pub}
}

func (m *mouth) say(text string) {
	m.t.Helper()
	if err := m.pub.Publish(&msgs.String{Data: text}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mouth) matched() bool { return m.pub.MatchedSubscriptions() > 0 }

func speaker(t *testing.T, bus *local.Bus, name string) ros.Node {
	t.Helper()
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

func texts(t *testing.T, raw [][]byte) (said []string) {
	t.Helper()
	for _, r := range raw {
		var m msgs.String
		if err := msgs.Unmarshal(r, &m); err != nil {
			t.Fatal(err)
		}
		said = append(said, strings.Clone(m.Data))
	}
	return said
}

// What is published is in the bag, also of topics that come later and of latched ones
// that were said before; what is not wanted is not, and the QoS is kept.
func TestRecordFollowsTheGraph(t *testing.T) {
	bus := local.NewBus()
	n := speaker(t, bus, "robot")
	latched := newMouth(t, n, "/latched", ros.LatchedQoS())
	latched.say("before")
	best := newMouth(t, n, "/best", ros.SensorDataQoS())
	newMouth(t, n, "/unwanted", ros.DefaultQoS()).say("no")
	p := startTape(t, bus, bag.Options{}, false, []string{"/latched"}, []string{"/best"}, []string{"/later"}, []string{"/camera", "/camera/compressed"}, []string{"/never"})
	rostest.Wait(t, "the best-effort topic is listened to", best.matched)
	best.say("one")
	later := newMouth(t, n, "/later", ros.DefaultQoS())
	packed := newMouth(t, n, "/camera/compressed", ros.DefaultQoS())
	rostest.Wait(t, "topics that come later are", func() bool { return later.matched() && packed.matched() })
	later.say("two")
	packed.say("three")
	// What stands in for a topic is not joined by it.
	plain := newMouth(t, n, "/camera", ros.DefaultQoS())
	after := newMouth(t, n, "/never/mind", ros.DefaultQoS())
	rostest.Wait(t, "messages are recorded", func() bool { return p.tape.recorder.Written() == 4 })
	if plain.matched() || after.matched() {
		t.Error("a topic is listened to that is not wanted")
	}
	got, topics := p.end()
	for topic, want := range map[string]string{"/latched": "before", "/best": "one", "/later": "two", "/camera/compressed": "three"} {
		if said := texts(t, got[topic]); len(said) != 1 || said[0] != want {
			t.Errorf("%s: %q, want %q", topic, said, want)
		}
	}
	if len(topics) != 4 {
		t.Errorf("topics %+v", topics)
	}
	for _, topic := range topics {
		if topic.Name == "/best" && !strings.Contains(topic.QoS, "reliability: 2") || topic.Name == "/latched" && !strings.Contains(topic.QoS, "durability: 1") {
			t.Errorf("%s: QoS %q", topic.Name, topic.QoS)
		}
	}
	if missing := p.tape.missing(); !slices.Equal(missing, []string{"/never"}) {
		t.Errorf("missing: %q", missing)
	}
}

// A publisher that offers less than those before it is heard, too.
func TestRecordHearsWhoOffersLess(t *testing.T) {
	bus := local.NewBus()
	reliable := newMouth(t, speaker(t, bus, "one"), "/topic", ros.LatchedQoS())
	p := startTape(t, bus, bag.Options{}, true)
	rostest.Wait(t, "the first is listened to", reliable.matched)
	best := newMouth(t, speaker(t, bus, "two"), "/topic", ros.SensorDataQoS())
	rostest.Wait(t, "the second is", best.matched)
	best.say("less")
	rostest.Wait(t, "it is recorded", func() bool { return p.tape.recorder.Written() == 1 })
	if got, _ := p.end(); !slices.Equal(texts(t, got["/topic"]), []string{"less"}) {
		t.Errorf("%q", got)
	}
}

// All means what is published, but nothing hidden; and files are begun anew.
func TestRecordAllInFiles(t *testing.T) {
	bus := local.NewBus()
	n := speaker(t, bus, "robot")
	open, hidden := newMouth(t, n, "/open", ros.DefaultQoS()), newMouth(t, n, "/robot/_hidden", ros.DefaultQoS())
	p := startTape(t, bus, bag.Options{MaxFileSize: 1, ChunkSize: 1}, true)
	rostest.Wait(t, "the topic is listened to", open.matched)
	if hidden.matched() {
		t.Error("a hidden topic is listened to")
	}
	for i := range 5 {
		open.say(fmt.Sprint(i))
		rostest.Wait(t, "it is recorded", func() bool { return p.tape.recorder.Written() == uint64(i+1) })
	}
	if got, _ := p.end(); !slices.Equal(texts(t, got["/open"]), []string{"0", "1", "2", "3", "4"}) {
		t.Errorf("%q", got)
	}
	if files, err := filepath.Glob(filepath.Join(p.dir, "*.mcap")); err != nil || len(files) < 3 {
		t.Errorf("%d files (%v)", len(files), err)
	}
}

// deaf is a node whose middleware does not know one topic's type.
type deaf struct {
	ros.Node
	ros.Grapher
}

func (d deaf) Subscribe(topic, typ string, qos ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	if topic == "/foreign" {
		return nil, errors.New("no type support")
	}
	return d.Node.Subscribe(topic, typ, qos, cb)
}

// A topic that cannot be listened to costs the others nothing.
func TestRecordWithoutAType(t *testing.T) {
	bus := local.NewBus()
	n := speaker(t, bus, "robot")
	newMouth(t, n, "/foreign", ros.DefaultQoS())
	known := newMouth(t, n, "/known", ros.DefaultQoS())
	p := newTaping(t, bus, bag.Options{}, true)
	p.tape.node = deaf{p.tape.node, p.tape.node.(ros.Grapher)}
	p.start()
	rostest.Wait(t, "the other is listened to", known.matched)
	known.say("yes")
	rostest.Wait(t, "it is recorded", func() bool { return p.tape.recorder.Written() == 1 })
	if got, _ := p.end(); !slices.Equal(texts(t, got["/known"]), []string{"yes"}) {
		t.Errorf("%q", got)
	}
}

// With use_sim_time nothing is recorded before /clock tells a time, and by that time
// then.
func TestRecordBySimulatedTime(t *testing.T) {
	bus := local.NewBus()
	n := speaker(t, bus, "robot")
	said := newMouth(t, n, "/said", ros.DefaultQoS())
	clock, err := ros.Advertise[msgs.Clock](n, "/clock", ros.ClockQoS())
	if err != nil {
		t.Fatal(err)
	}
	tick := func(at time.Time) {
		t.Helper()
		if err := clock.Publish(&msgs.Clock{Clock: msgs.TimeOf(at)}); err != nil {
			t.Fatal(err)
		}
	}
	p := newTaping(t, bus, bag.Options{}, false, []string{"/said"})
	if err := p.tape.node.UseSimTime(true); err != nil {
		t.Fatal(err)
	}
	once, cancel := context.WithCancel(t.Context())
	cancel() // it ends after its first look
	if err := p.tape.run(once); err != nil || len(p.tape.tracks) > 0 {
		t.Errorf("before there is a time it records %v, %v", p.tape.tracks, err)
	}
	p.start()
	tick(time.Unix(100, 0))
	rostest.Wait(t, "the topic is listened to", said.matched)
	tick(time.Unix(0, 0))
	rostest.Wait(t, "the clock begins again", func() bool { return p.tape.node.Now().IsZero() })
	said.say("too early")
	rostest.Wait(t, "it is counted", func() bool { return p.tape.untimed.Load() == 1 })
	tick(time.Unix(200, 0))
	rostest.Wait(t, "the clock goes on", func() bool { return p.tape.node.Now().Equal(time.Unix(200, 0)) })
	said.say("in time")
	rostest.Wait(t, "it is recorded", func() bool { return p.tape.recorder.Written() == 1 })
	if got, _ := p.end(); !slices.Equal(texts(t, got["/said"]), []string{"in time"}) {
		t.Errorf("%q", got)
	}
	r, err := bag.Open(p.dir)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Start().Equal(time.Unix(200, 0)) {
		t.Errorf("it is of %v", r.Start())
	}
}

// lateClock is a node whose clock is out of all bounds at first.
type lateClock struct {
	ros.Node
	ros.Grapher
	right atomic.Bool
}

func (c *lateClock) Now() time.Time {
	if c.right.Load() {
		return time.Unix(100, 0)
	}
	return time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC)
}

// A message that cannot be recorded ends nothing, and is told.
func TestRecordGoesOnAfterAnOddMessage(t *testing.T) {
	bus := local.NewBus()
	said := newMouth(t, speaker(t, bus, "robot"), "/said", ros.DefaultQoS())
	p := newTaping(t, bus, bag.Options{}, true)
	log, told := observer.New(zap.WarnLevel)
	clock := &lateClock{Node: p.tape.node, Grapher: p.tape.node.(ros.Grapher)}
	p.tape.node, p.tape.log = clock, zap.New(log)
	p.start()
	rostest.Wait(t, "the topic is listened to", said.matched)
	said.say("odd")
	rostest.Wait(t, "it is told", func() bool { return told.Len() > 0 })
	clock.right.Store(true)
	said.say("good")
	rostest.Wait(t, "the next one is recorded", func() bool { return p.tape.recorder.Written() == 1 })
	p.stop()
	if err := rostest.Receive(t, "the tape ends", p.done); err == nil || !strings.Contains(err.Error(), "/said: time 3000-") {
		t.Errorf("the tape ends by %v", err)
	}
	for i, e := range told.All() {
		if (i == 0) != (e.Message == "a message is not recorded") || strings.HasSuffix(e.Message, ": the disk is too slow") {
			t.Errorf("it tells %q", e.Message)
		}
	}
}

// Where writing fails, that is told once, and the disk is not called slow.
func TestRecordEndsWhereWritingFails(t *testing.T) {
	bus := local.NewBus()
	said := newMouth(t, speaker(t, bus, "robot"), "/said", ros.DefaultQoS())
	p := newTaping(t, bus, bag.Options{MaxFileSize: 1, ChunkSize: 1}, true)
	log, told := observer.New(zap.WarnLevel)
	p.tape.log = zap.New(log)
	p.start()
	rostest.Wait(t, "the topic is listened to", said.matched)
	said.say("0")
	rostest.Wait(t, "it is recorded", func() bool { return p.tape.recorder.Written() == 1 })
	if err := os.RemoveAll(p.dir); err != nil { // so that the next file cannot be begun
		t.Fatal(err)
	}
	for i := range 20 {
		said.say(fmt.Sprint(i))
	}
	err := rostest.Receive(t, "the tape ends by itself", p.done)
	if err == nil || strings.Count(err.Error(), "no such file") != 1 {
		t.Errorf("it ends by %v", err)
	}
	for _, e := range told.All() {
		if strings.Contains(e.Message, "slow") {
			t.Errorf("it tells %q", e.Message)
		}
	}
	var text strings.Builder
	if err := p.tape.report(&text, p.dir, time.Second); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "DROPPED: writing failed") || strings.Contains(text.String(), "slow") {
		t.Errorf("it reports %s", &text)
	}
}

// In a process of its own: ctrl-C ends the bag whole, and the end tells what it has.
func TestRecordInterrupted(t *testing.T) {
	id := domain(t)
	dir := filepath.Join(t.TempDir(), "bag")
	p := start(t, "record", dir, "/said", "/ddvla/episode", "~/instruction")
	c := newCaller(t, id)
	m := newMouth(t, c.node, "/said", ros.DefaultQoS())
	rostest.Wait(t, "it is listened to", m.matched)
	m.say("hello")
	rostest.Wait(t, "its file is there", func() bool { _, err := os.Stat(filepath.Join(dir, "metadata.yaml")); return err == nil })
	if err := p.end(syscall.SIGINT); err != nil {
		t.Fatalf("%v\n%s", err, p.stderr)
	}
	for _, part := range []string{"1 messages in", "/said", "/ddvla/instruction", "nobody published it"} {
		if !strings.Contains(p.stdout.String(), part) {
			t.Errorf("%q is not said:\n%s", part, p.stdout)
		}
	}
	r, err := bag.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if topics := r.Topics(); len(topics) != 1 || topics[0].Count != 1 || topics[0].Type != "std_msgs/msg/String" {
		t.Errorf("%+v", topics)
	}
}

// In a process of its own: use_sim_time is the recorder's, too.
func TestRecordWithUseSimTime(t *testing.T) {
	id := domain(t)
	dir := filepath.Join(t.TempDir(), "bag")
	p := start(t, "record", dir, "/said", "--ros-args", "-p", "use_sim_time:=true")
	c := newCaller(t, id)
	m := newMouth(t, c.node, "/said", ros.DefaultQoS())
	clock, err := ros.Advertise[msgs.Clock](c.node, "/clock", ros.ClockQoS())
	if err != nil {
		t.Fatal(err)
	}
	rostest.Wait(t, "it is listened to", func() bool {
		if err := clock.Publish(&msgs.Clock{Clock: msgs.TimeOf(time.Unix(100, 0))}); err != nil {
			t.Fatal(err)
		}
		return m.matched()
	})
	m.say("hello")
	rostest.Wait(t, "its file is there", func() bool { _, err := os.Stat(filepath.Join(dir, "metadata.yaml")); return err == nil })
	if err := p.end(syscall.SIGINT); err != nil {
		t.Fatalf("%v\n%s", err, p.stderr)
	}
	r, err := bag.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Start().Equal(time.Unix(100, 0)) {
		t.Errorf("it is of %v", r.Start())
	}
}

// Without topics they are those of a demonstration, by the robot's names.
func TestRecordTopicsOfADemonstration(t *testing.T) {
	args, _, err := param.ParseArgs([]string{"--ros-args", "-r", "~/episode:=/marks", "-p", "cameras.head.topic:=/head/compressed", "-p", "arms.left.command_topic:=/leader"}, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	wanted, c, err := wantedTopics(args, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, alternatives := range wanted {
		got = append(got, strings.Join(alternatives, "|"))
	}
	want := []string{
		"/camera_l/color/image_raw|/camera_l/color/image_raw/compressed", "/camera_r/color/image_raw|/camera_r/color/image_raw/compressed",
		"/ddvla/instruction", "/head/compressed", "/leader", "/marks", "/master/joint_right", "/puppet/joint_left", "/puppet/joint_right",
	}
	if !slices.Equal(got, want) || c.names.Namespace() != "/" {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestRecordUsage(t *testing.T) {
	domain(t)
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "mine"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		status int
		names  []string
		args   []string
	}{
		{2, []string{"no bag"}, nil},
		{2, []string{"--all"}, []string{"x", "/topic", "--all"}},
		{2, []string{"--for"}, []string{"x", "--for", "-1s"}},
		{2, []string{"--max-size"}, []string{"x", "--max-size", "-1"}},
		{2, []string{"--queue"}, []string{"x", "--queue", "0"}},
		{2, []string{"Compression", "gzip"}, []string{"x", "--compression", "gzip"}},
		{2, []string{"no//name"}, []string{"x", "no//name"}},
		{1, []string{full, "not empty"}, []string{full}},
	} {
		refused(t, c.status, c.names, append([]string{"record"}, c.args...)...)
	}
	_, _, stderr := call(t, "record", filepath.Join(t.TempDir(), "bag"), "--for", "1ms", "--ros-args", "--params-file", "../../params/aloha.yaml")
	if strings.Contains(stderr, "unknown parameter") {
		t.Errorf("of a robot's params file it says %s", stderr)
	}
	again := filepath.Join(t.TempDir(), "bag")
	for range 2 { // an empty bag is not in the way
		if status, _, stderr := call(t, "record", again, "--for", "1ms"); status != 1 || !strings.Contains(stderr, "nothing was heard") {
			t.Errorf("status %d, %s", status, stderr)
		}
	}
	status, _, stderr := call(t, "record", filepath.Join(t.TempDir(), "bag"), "--for", "1ms", "--ros-args", "-p", "cameras.hed.topic:=/x")
	if status != 1 || !strings.Contains(stderr, "nothing was heard") || !strings.Contains(stderr, "unknown parameter cameras.hed.topic ignored") {
		t.Errorf("status %d: %s", status, stderr)
	}
}
