package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/machine"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
	"github.com/ddvla/ddvla/sim"
)

// soakDuration is what `make soak` sets; a minute is what every run of the tests can afford.
var soakDuration = flag.Duration("soak.duration", 0, "length of TestSoak at full load (default 1 min, 10 s with the race detector)")

// soakSlack is what the node's memory may grow by between warm-up and end. It is 18 pictures, which the
// collector's and allocators' noise may reach. What is compared lies half of the time apart, in which one picture
// kept of a hundred would be 27 of a minute's, and 128 bytes kept of each message 18 MiB of ten minutes'.
const soakSlack = 16 << 20

// TestSoak puts the load of a robot on the real node, each in a process of its own: three raw cameras at 30 Hz (83
// MB/s) and two arms at 200 Hz. What is lost must have been counted, by the node itself: what the load sent is what
// the node took and refused, what its back end dropped because it was busy, and what the network lost, as the gaps
// in the publishers' numbering show. And memory and file descriptors must stay what they are.
func TestSoak(t *testing.T) {
	duration := *soakDuration
	if duration == 0 {
		if duration = time.Minute; raced {
			duration = 10 * time.Second
		}
	}
	id := domain(t)
	s := &soak{T: t, duration: duration, watched: soakTopics()}
	s.observe(id)
	s.node = startSoak(t, "node", "--ros-args", "--log-level", "warn", "-p", "policy:="+testbundle.Dir(t), "-p", "instruction:=reach the red cube")
	s.load = startSoak(t, soakLoadCommand)
	s.tell("calm")
	rostest.Wait(t, "the node hears all topics", func() bool {
		now := s.latest()
		return !slices.ContainsFunc(s.watched, func(w soakTopic) bool { return now.number(w.key+".messages") == 0 })
	})
	before := s.settle()
	s.enable()
	s.measure()
	after := s.settle()
	s.stop()
	s.judge(before, after)
}

// soakTopic is a topic of the load and what diagnostics call it.
type soakTopic struct {
	topic, key string
	rate       float64
	bytes      int
}

func soakTopics() (topics []soakTopic) {
	for c, topic := range sim.DefaultConfig().CameraTopics {
		topics = append(topics, soakTopic{topic, sim.CameraID(c).String(), soakCameraRate, 3 * sim.PictureWidth * sim.PictureHeight})
	}
	for arm, topic := range stateTopics {
		topics = append(topics, soakTopic{topic, []string{"left", "right"}[arm], soakJointRate, 0})
	}
	return topics
}

type soak struct {
	*testing.T
	duration   time.Duration
	watched    []soakTopic
	node, load *soakProcess
	ros        ros.Node
	commands   [2]*soakCommands
	enabler    ros.Client

	mu          sync.Mutex
	diagnostics soakStatus
	usage       []soakUsage // one a second, at full load
	began       time.Time
	ended       time.Time
	sent        map[string]uint64 // on each topic from began to ended
	last        soakStatus        // of that time
}

// soakProcess is the test binary as something else.
type soakProcess struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

func startSoak(t *testing.T, args ...string) *soakProcess {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &soakProcess{cmd: exec.Command(self, args...)}
	p.cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	logged := &output{}
	p.cmd.Stderr = logged
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s logged:\n%s", args[0], logged)
		}
	})
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cmd.Process.Kill() }) // for a test that failed
	return p
}

// soakStatus are the values of the node's diagnostics of one second.
type soakStatus struct {
	stamp  time.Time
	values map[string]string
}

func (s soakStatus) number(key string) uint64 {
	n, err := strconv.ParseUint(s.values[key], 10, 64)
	if err != nil {
		return 0 // not told yet
	}
	return n
}

// soakCommands are the times of one arm's commands.
type soakCommands struct {
	heard ros.Subscription
	mu    sync.Mutex
	times []time.Time // of arrival
	sent  []time.Time // their stamps
}

// soakUsage is what the node's process holds.
type soakUsage struct {
	resident int64
	files    int
	threads  int
}

// observe subscribes to what the node says.
func (s *soak) observe(domain int) {
	var err error
	s.ros, err = backend("cyclone").node(context.Background(), ros.Options{Name: "observer", DomainID: domain, LocalhostOnly: true})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := s.ros.Close(); err != nil {
			s.Error(err)
		}
	})
	if _, err = ros.Subscribe(s.ros, "/diagnostics", ros.DefaultQoS(), func(m *msgs.DiagnosticArray, _ time.Time) {
		now := soakStatus{stamp: m.Header.Stamp.Time(), values: make(map[string]string)}
		for _, part := range m.Status {
			for _, v := range part.Values {
				now.values[v.Key] = v.Value
			}
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.diagnostics = now
	}); err != nil {
		s.Fatal(err)
	}
	for arm, topic := range commandTopics {
		c := &soakCommands{}
		// Deep enough for a test process that gets no turn for a while.
		c.heard, err = ros.Subscribe(s.ros, topic, ros.QoS{Depth: 1000}, func(m *msgs.JointState, _ time.Time) {
			now := time.Now()
			c.mu.Lock()
			defer c.mu.Unlock()
			c.times, c.sent = append(c.times, now), append(c.sent, m.Header.Stamp.Time())
		})
		if err != nil {
			s.Fatal(err)
		}
		s.commands[arm] = c
	}
}

func (s *soak) latest() soakStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.diagnostics
}

// tell gives the load an order and returns what it had sent on each topic.
func (s *soak) tell(order string) (sent map[string]uint64) {
	s.Helper()
	if _, err := io.WriteString(s.load.in, order+"\n"); err != nil {
		s.Fatalf("load: %v", err)
	}
	line, err := s.load.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &sent)
	}
	if err != nil {
		s.Fatalf("load: %v", err)
	}
	return sent
}

// soakTotals are all counts of a topic at a moment when nothing is under way.
type soakTotals struct {
	sent, taken, refused, malformed, dropped, lost uint64
}

// unseen is what was sent and is not accounted for. What came before node and load had found each other is part of
// it, so it must stay the same.
func (n soakTotals) unseen() int64 {
	return int64(n.sent) - int64(n.taken+n.refused+n.malformed+n.dropped+n.lost)
}

func (n soakTotals) minus(o soakTotals) soakTotals {
	return soakTotals{n.sent - o.sent, n.taken - o.taken, n.refused - o.refused, n.malformed - o.malformed, n.dropped - o.dropped, n.lost - o.lost}
}

// settle waits until the counts are those of all that was sent. A loss shows with the next message only, so a few
// are sent in calm, until two looks agree.
func (s *soak) settle() map[string]soakTotals {
	s.Helper()
	var last map[string]soakTotals
	for range 20 {
		s.tell("calm")
		began := s.tell("count")
		rostest.Wait(s, "the load sends on all topics", func() bool {
			now := s.tell("count")
			return !slices.ContainsFunc(s.watched, func(w soakTopic) bool { return now[w.topic] < began[w.topic]+2 })
		})
		sent := s.tell("rest")
		rested := time.Now()
		// What is said a second later was counted after everything had come.
		rostest.Wait(s, "diagnostics", func() bool { return s.latest().stamp.After(rested.Add(time.Second)) })
		now, all := make(map[string]soakTotals), s.latest()
		same := last != nil
		for _, w := range s.watched {
			n := soakTotals{sent[w.topic], all.number(w.key + ".messages"), all.number(w.key + ".refused"),
				all.number(w.key + ".malformed"), all.number(w.key + ".dropped"), all.number(w.key + ".lost")}
			now[w.topic] = n
			same = same && n.unseen() == last[w.topic].unseen()
		}
		if same {
			return now
		}
		last = now
	}
	s.Fatalf("the counts do not come to rest: %+v", last)
	return nil
}

// enable lets the arms move, so that commands come.
func (s *soak) enable() {
	s.Helper()
	var err error
	s.enabler, err = ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](s.ros, "/ddvla/enable")
	if err != nil {
		s.Fatal(err)
	}
	s.tell("full")
	for _, c := range s.commands {
		rostest.Wait(s, "the node's commands are subscribed to", func() bool { return c.heard.MatchedPublishers() == 1 })
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond) // the joint states have to come first
	defer again.Stop()
	for {
		reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](ctx, s.enabler, &msgs.TriggerRequest{})
		if err != nil {
			s.Fatal(err)
		}
		if reply.Success {
			return
		}
		<-again.C
	}
}

// operate enables the arms again when they have stopped, as they must where a busy machine gives no turn to the robot
// or the node for longer than limits.feedback_timeout. It ends with ctx.
func (s *soak) operate(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-second.C:
		}
		if s.latest().values["mode"] != control.Held.String() {
			continue
		}
		short, cancel := context.WithTimeout(ctx, time.Second)
		// Refused or late, the next second is another chance; how often it worked is counted by the node.
		_, _ = ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](short, s.enabler, &msgs.TriggerRequest{})
		cancel()
	}
}

// measure lets the load run and looks at the node's process once a second.
func (s *soak) measure() {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	var operator sync.WaitGroup
	operator.Go(func() { s.operate(ctx) })
	defer operator.Wait()
	defer cancel()
	s.began = time.Now()
	from := s.tell("count")
	defer func() {
		s.last = s.latest()
		s.sent = s.tell("count")
		for topic := range s.sent {
			s.sent[topic] -= from[topic]
		}
	}()
	for s.ended = s.began; s.ended.Sub(s.began) < s.duration; s.ended = <-second.C {
		pid := s.node.cmd.Process.Pid
		memory, err := machine.MemoryOf(pid)
		if err != nil {
			s.Fatalf("the node ended: %v", err)
		}
		files, err := machine.OpenFiles(pid)
		if err != nil {
			s.Fatalf("the node ended: %v", err)
		}
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			s.Fatalf("the node ended: %v", err)
		}
		s.usage = append(s.usage, soakUsage{memory.Resident, files, len(threads)})
	}
}

// stop ends the node in good order, then the load.
func (s *soak) stop() {
	if err := s.node.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.Fatal(err)
	}
	if err := s.node.cmd.Wait(); err != nil {
		s.Errorf("the node ended with %v", err)
	}
	s.load.in.Close()
	if err := s.load.cmd.Wait(); err != nil {
		s.Errorf("the load ended with %v", err)
	}
}
