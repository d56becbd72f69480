package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

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
// collector's and allocators' noise may reach, while one picture kept of a hundred would be 54 of a minute's 5400,
// and 64 bytes kept of each message 17 MiB after ten minutes.
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
	c, err := ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](s.ros, "/ddvla/enable")
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
		reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](ctx, c, &msgs.TriggerRequest{})
		if err != nil {
			s.Fatal(err)
		}
		if reply.Success {
			return
		}
		<-again.C
	}
}

// measure lets the load run and looks at the node's process once a second.
func (s *soak) measure() {
	second := time.NewTicker(time.Second)
	defer second.Stop()
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

// judge prints the table and says what must not be.
func (s *soak) judge(before, after map[string]soakTotals) {
	var out strings.Builder
	took := s.ended.Sub(s.began)
	fmt.Fprintf(&out, "%v at full load, %s, net.core.rmem_max %s\n\n", took.Round(time.Second), machine.CPU(), kernelLimit())
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "topic\tsent\tper s\ttaken\trefused\tmalformed\tdropped\tlost in the network\t\n")
	var volume float64
	for _, w := range s.watched {
		n := after[w.topic].minus(before[w.topic])
		perSecond := float64(s.sent[w.topic]) / took.Seconds()
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%d\t%d\t%d\t%d\t%d\t\n", w.topic, n.sent, perSecond, n.taken, n.refused, n.malformed, n.dropped, n.lost)
		volume += perSecond * float64(w.bytes)
		if n.unseen() != 0 {
			s.Errorf("topic %s: %d of %d messages are accounted for nowhere", w.topic, n.unseen(), n.sent)
		}
		if n.refused != 0 || n.malformed != 0 {
			s.Errorf("topic %s: %d good messages refused, %d called malformed", w.topic, n.refused, n.malformed)
		}
		if n.taken == 0 {
			s.Errorf("topic %s: nothing came", w.topic)
		}
	}
	if err := table.Flush(); err != nil {
		s.Fatal(err)
	}
	fmt.Fprintf(&out, "\npictures   %.1f MB/s sent\n", volume/1e6)
	s.judgeCommands(&out)
	last := s.last.values
	fmt.Fprintf(&out, "           the arms were %s (%s) when the load ended\n", last["mode"], last["code"])
	for _, key := range slices.Sorted(maps.Keys(last)) {
		if code, ok := strings.CutPrefix(key, "count."); ok {
			fmt.Fprintf(&out, "           %s x %s\n", last[key], code)
		}
	}
	fmt.Fprintf(&out, "chunks     %s, %s per second; a chunk takes %s\n", last["chunks"], last["chunk_rate"], last["latency.chunk"])
	s.judgeMemory(&out)
	if testing.Verbose() {
		fmt.Println(out.String())
	}
}

// judgeCommands compares the commands sent and received and reports their jitter, which is the machine's and no
// promise.
func (s *soak) judgeCommands(out io.Writer) {
	sent := s.latest().number("commands")
	if sent == 0 {
		s.Error("no command was sent")
	}
	for arm, c := range s.commands {
		c.mu.Lock()
		times, stamps := c.times, c.sent
		c.mu.Unlock()
		got := uint64(len(times))
		dropped, lost := c.heard.Dropped(), c.heard.Lost()
		fmt.Fprintf(out, "commands   %s: %d sent, %d received, %d dropped, %d lost\n", commandTopics[arm], sent, got, dropped, lost)
		if got+dropped+lost != sent {
			s.Errorf("%s: %d of %d commands are accounted for nowhere", commandTopics[arm], int64(sent-got-dropped-lost), sent)
		}
		fmt.Fprintf(out, "           period at the receiver %s\n           between stamps %s\n", s.periods(times), s.periods(stamps))
	}
}

// periods are percentiles of the times between events at full load.
func (s *soak) periods(times []time.Time) string {
	var gaps []float64
	for i := range times[1:] {
		if times[i].After(s.began) && times[i+1].Before(s.ended) {
			gaps = append(gaps, times[i+1].Sub(times[i]).Seconds()*1e3)
		}
	}
	if len(gaps) == 0 {
		return "unknown"
	}
	slices.Sort(gaps)
	at := func(p float64) float64 { return gaps[int(p*float64(len(gaps)-1))] }
	return fmt.Sprintf("p1 %.2f, p50 %.2f, p99 %.2f, p99.9 %.2f, max %.2f ms", at(0.01), at(0.5), at(0.99), at(0.999), at(1))
}

// judgeMemory compares the medians of the second and the last quarter: the first is for buffers to reach their
// size. A median leaves out where in its cycle the collector just is. The race detector keeps memory of its own, so
// nothing is asked of it then.
func (s *soak) judgeMemory(out io.Writer) {
	quarter := len(s.usage) / 4
	if quarter == 0 {
		s.Fatalf("only %d looks at the node's process; make -soak.duration longer", len(s.usage))
	}
	median := func(part []soakUsage) soakUsage {
		pick := func(f func(soakUsage) int64) int64 {
			var all []int64
			for _, u := range part {
				all = append(all, f(u))
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		return soakUsage{pick(func(u soakUsage) int64 { return u.resident }),
			int(pick(func(u soakUsage) int64 { return int64(u.files) })), int(pick(func(u soakUsage) int64 { return int64(u.threads) }))}
	}
	warm, end := median(s.usage[quarter:2*quarter]), median(s.usage[len(s.usage)-quarter:])
	const mib = 1 << 20
	fmt.Fprintf(out, "memory     %.1f MiB resident in the second quarter, %.1f MiB in the last (medians): %+.1f MiB\n",
		float64(warm.resident)/mib, float64(end.resident)/mib, float64(end.resident-warm.resident)/mib)
	fmt.Fprintf(out, "           %d and %d file descriptors, %d and %d threads\n", warm.files, end.files, warm.threads, end.threads)
	if grown := end.resident - warm.resident; grown > soakSlack && !raced {
		s.Errorf("the node's memory grew by %d bytes, more than %d", grown, soakSlack)
	}
	if end.files > warm.files {
		s.Errorf("%d file descriptors became %d", warm.files, end.files)
	}
}

// kernelLimit is the largest socket buffer that the kernel gives.
func kernelLimit() string {
	text, err := os.ReadFile("/proc/sys/net/core/rmem_max")
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(text))
}
