package cyclone

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
)

// Bytes that are no message, or none that a robot sends, on everything that the program `ddvla node` subscribes,
// from another process and below this package's own checks. It must stay up, refuse and count them, and never send
// a command, though it was told to enable the arms as soon as there are joint states. Then the robot comes and it
// must work.
func TestNodeTakesHostileBytes(t *testing.T) {
	program := filepath.Join(t.TempDir(), "ddvla")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/ddvla/ddvla/cmd/ddvla").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for name, parameters := range map[string][]string{
		"as on a robot": nil,
		"compressed pictures and simulated time": {"use_sim_time:=true", "cameras.head.topic:=/camera_f/color/image_raw/compressed",
			"cameras.wrist_left.topic:=/camera_l/color/image_raw/compressed", "cameras.wrist_right.topic:=/camera_r/color/image_raw/compressed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // it waits most of the time
			h := startVictim(t, program, parameters)
			targets := h.targets()
			silent := func(when string) {
				if n := h.commands.Load(); n != 0 {
					t.Fatalf("%d commands without a robot, %s", n, when)
				}
			}
			// Whatever comes on ~/estop stops the arms. Until then any joint states would move them.
			stop, others := pick(targets, "rt/ddvla/estop")
			h.reach(others)
			before := h.settle(others)
			h.inject(others, refusable)
			between := h.settle(others)
			silent("while waiting for joint states")
			h.inject(stop, refusable)
			// Some of these are joint states, and some are requests to enable. They must not come together: that would
			// be a robot and its operator. Where there is /clock, another time makes the states old.
			enable, others := pick(others, "rq/ddvla/enableRequest")
			clock, _ := pick(others, "rt/clock")
			h.inject(append(others, stop...), doubtful)
			h.inject(clock, doubtful)
			h.settle(others)
			h.inject(enable, doubtful)
			h.inject(targets, unreadable)
			after := h.settle(targets)
			silent("after an emergency stop")
			for _, g := range targets {
				bad, all := between[g.key].minus(before[g.key]), after[g.key].minus(before[g.key])
				t.Logf("%s (%s): %d sent, %d delivered, %d refused, %d malformed, %d dropped, %d lost", g.name, g.key, g.sent, all.taken, all.refused, all.malformed, all.dropped, all.lost)
				if g.key == "" {
					continue // an input without counters
				}
				if bad.taken != 0 {
					t.Errorf("%s: %d bad messages were taken for good ones", g.name, bad.taken)
				}
				if bad.refused == 0 || bad.malformed == 0 {
					t.Errorf("%s: %d refused and %d malformed of what is wrong in all ways", g.name, bad.refused, bad.malformed)
				}
				// A joint state that is stamped as the one before is no news to the node and not counted, and one that
				// its executor refuses is in both counts.
				if joints := g.typ == "sensor_msgs/msg/JointState"; bad.unseen != 0 || all.unseen != 0 && !joints {
					t.Errorf("%s: %d bad messages are accounted for nowhere, %d of all", g.name, bad.unseen, all.unseen)
				}
			}
			h.works()
		})
	}
}

// pick takes the target of a name out of all.
func pick(all []*target, name string) (one, others []*target) {
	for _, g := range all {
		if g.name == name {
			one = append(one, g)
		} else {
			others = append(others, g)
		}
	}
	return one, others
}

// victim is a node's process with what it says.
type victim struct {
	*testing.T
	node     *node // of this process
	cmd      *exec.Cmd
	commands atomic.Int64

	mu     sync.Mutex
	values map[string]string // of its newest diagnostics
	told   int               // how many of those came
}

func startVictim(t *testing.T, program string, parameters []string) *victim {
	t.Helper()
	domain := rostest.Domain(t)
	h := &victim{T: t, node: newTestNode(t, "attacker", domain).(*node)}
	if _, err := ros.Subscribe(h.node, "/diagnostics", ros.DefaultQoS(), func(m *msgs.DiagnosticArray, _ time.Time) {
		values := make(map[string]string)
		for _, s := range m.Status {
			for _, v := range s.Values {
				values[v.Key] = v.Value
			}
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		h.values = values
		h.told++
	}); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{"/master/joint_left", "/master/joint_right"} {
		if _, err := ros.Subscribe(h.node, topic, ros.DefaultQoS(), func(*msgs.JointState, time.Time) { h.commands.Add(1) }); err != nil {
			t.Fatal(err)
		}
	}
	args := []string{"node", "--ros-args", "--disable-rosout-logs", "-p", "policy:=" + testbundle.Dir(t), "-p", "start_enabled:=true", "-p", "instruction:=reach the red cube"}
	for _, p := range parameters {
		args = append(args, "-p", p)
	}
	h.cmd = exec.Command(program, args...)
	h.cmd.Env = append(os.Environ(), "ROS_DOMAIN_ID="+strconv.Itoa(domain), "ROS_LOCALHOST_ONLY=1", "CYCLONEDDS_URI=")
	log := &bytes.Buffer{}
	h.cmd.Stdout, h.cmd.Stderr = log, log
	if err := h.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			h.cmd.Process.Kill()
			h.cmd.Wait()
			for line := range strings.Lines(log.String()) {
				if !strings.Contains(line, "malformed packet received") { // Cyclone's own complaints
					t.Log(strings.TrimSpace(line))
				}
			}
		}
	})
	return h
}

// A target is one topic that the victim reads, and a writer to it.
type target struct {
	name, typ string // of DDS and of ROS
	key       string // what diagnostics call it; "" where they do not count it
	qos       ros.QoS
	wire      string
	w         writer
	apart     *writer // for what DDS does not deliver, while there is one
	sent      uint64
}

// targets makes a writer for each topic that the victim's node has in the graph, requests of its services and
// the graph itself included.
func (h *victim) targets() (all []*target) {
	h.Helper()
	var victim ros.GraphNode
	rostest.Wait(h, "the node is there", func() bool {
		graph, err := h.node.Graph()
		if err != nil {
			h.Fatal(err)
		}
		at := slices.IndexFunc(graph, func(g ros.GraphNode) bool { return g.Name == "/ddvla" })
		if at < 0 {
			return false
		}
		victim = graph[at]
		h.mu.Lock()
		defer h.mu.Unlock()
		// The inputs are told when the node is ready, and so is /clock. While it loads, which may take
		// longer than the first diagnostics do, there are none.
		told := 0
		for key := range h.values {
			if strings.HasSuffix(key, ".topic") {
				told++
			}
		}
		return told > 0 && len(victim.Serves) >= 10 // four of its own, six of parameters
	})
	aim := func(name, typ, wire, key string, qos ros.QoS) {
		w, err := newWriter(h.node.participant, name, wire, qos, "")
		if err != nil {
			h.Fatal(err)
		}
		h.Cleanup(w.close)
		all = append(all, &target{name: name, typ: typ, key: key, qos: qos, wire: wire, w: w})
	}
	h.mu.Lock()
	keys := make(map[string]string)
	for key, value := range h.values {
		if name, ok := strings.CutSuffix(key, ".topic"); ok {
			keys[value] = name
		}
	}
	h.mu.Unlock()
	for _, e := range victim.Subscribes {
		wire, err := wireType(e.Type, "msg", "")
		if err != nil {
			h.Fatal(err)
		}
		aim(topicPrefix+e.Name, e.Type, wire, keys[e.Name], ros.QoS{Reliability: e.QoS.Reliability, Depth: 1000})
	}
	for _, e := range victim.Serves {
		ends, err := h.node.serviceEnds(e.Name, e.Type)
		if err != nil {
			h.Fatal(err)
		}
		aim(ends.request, e.Type+"_Request", ends.requestType, "", serviceQoS())
	}
	const graph = "rmw_dds_common/msg/ParticipantEntitiesInfo"
	wire, err := wireType(graph, "msg", "")
	if err != nil {
		h.Fatal(err)
	}
	aim("ros_discovery_info", graph, wire, "", ros.LatchedQoS())
	if counted := len(slices.DeleteFunc(slices.Clone(all), func(g *target) bool { return g.key == "" })); counted != 5 {
		h.Fatalf("%d inputs are counted, want those of three cameras and two arms", counted)
	}
	return all
}

// write sends any bytes as a sample.
func (h *victim) write(g *target, raw []byte) {
	h.Helper()
	if err := g.w.write(raw, nil); err != nil {
		h.Fatalf("%s: %v", g.name, err)
	}
	g.sent++
}

// plain is a message that every type of this test refuses, whose bytes every DDS delivers.
var plain = []byte{0, 1, 0, 0, 255, 255, 255, 255}

// reach sends until the victim has found all writers.
func (h *victim) reach(targets []*target) {
	h.Helper()
	for _, g := range targets {
		rostest.Wait(h, g.name+" is matched", func() bool { return g.w.matched() > 0 })
	}
	rostest.Wait(h, "all inputs count", func() bool {
		for _, g := range targets {
			h.write(g, plain)
		}
		h.news(h.news(0) + 1)
		return !slices.ContainsFunc(targets, func(g *target) bool { return g.key != "" && h.count(g.key+".refused") == 0 })
	})
}

// news waits for so many diagnostics and returns how many there were.
func (h *victim) news(least int) (told int) {
	h.Helper()
	rostest.Wait(h, "diagnostics", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		told = h.told
		return told >= least
	})
	return told
}

func (h *victim) count(key string) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, err := strconv.ParseUint(h.values[key], 10, 64)
	if err != nil {
		h.Errorf("diagnostics say %s: %q", key, h.values[key])
	}
	return n
}

// tally is what diagnostics count of an input. unseen is what was sent and is in none of the others: what came before
// the writer was found.
type tally struct{ taken, refused, malformed, dropped, lost, unseen int64 }

func (a tally) minus(b tally) tally {
	return tally{a.taken - b.taken, a.refused - b.refused, a.malformed - b.malformed, a.dropped - b.dropped, a.lost - b.lost, a.unseen - b.unseen}
}

// settle waits until the counts are those of everything that was sent. A loss shows with the next message only.
func (h *victim) settle(targets []*target) map[string]tally {
	h.Helper()
	var last map[string]tally
	for range 10 {
		for _, g := range targets {
			h.write(g, plain)
		}
		// The second from now was begun after all that had come.
		h.news(h.news(0) + 2)
		now := make(map[string]tally)
		for _, g := range targets {
			if g.key == "" {
				continue
			}
			n := tally{taken: int64(h.count(g.key + ".messages")), refused: int64(h.count(g.key + ".refused")),
				malformed: int64(h.count(g.key + ".malformed")), dropped: int64(h.count(g.key + ".dropped")), lost: int64(h.count(g.key + ".lost"))}
			n.unseen = int64(g.sent) - n.taken - n.refused - n.malformed - n.dropped - n.lost
			now[g.key] = n
		}
		if last != nil && maps.EqualFunc(now, last, func(a, b tally) bool { return a.unseen == b.unseen }) {
			return now
		}
		last = now
	}
	h.Fatalf("the counts do not come to rest: %+v", last)
	return nil
}

// inject sends to each target what is made for its type, a little slower than the victim's smallest queue fills. What
// DDS itself keeps away would hold up all that a reliable writer sends after it, so such a one is made for it.
func (h *victim) inject(targets []*target, bytesFor func(typ string) [][]byte) {
	h.Helper()
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	all := make([][][]byte, len(targets))
	longest := 0
	for i, g := range targets {
		all[i] = bytesFor(g.typ)
		longest = max(longest, len(all[i]))
	}
	for n := range longest {
		for i, g := range targets {
			if n < len(all[i]) {
				h.send(g, all[i][n])
			}
		}
		<-pace.C
	}
	var closing sync.WaitGroup // each waits a second for what is never acknowledged
	for _, g := range targets {
		if g.apart != nil {
			closing.Go(g.apart.close)
			g.apart = nil
		}
	}
	closing.Wait()
}

func (h *victim) send(g *target, raw []byte) {
	h.Helper()
	if g.qos.Reliability == ros.BestEffort || len(raw) >= encapsulation && raw[0] == 0 && raw[1] < 12 {
		h.write(g, raw)
		return
	}
	if g.apart == nil {
		w, err := newWriter(h.node.participant, g.name, g.wire, g.qos, "")
		if err != nil {
			h.Fatal(err)
		}
		g.apart = &w
		rostest.Wait(h, g.name+" is matched", func() bool { return w.matched() > 0 })
	}
	if err := g.apart.write(raw, nil); err != nil {
		h.Fatalf("%s: %v", g.name, err)
	}
}

// works is the robot that comes at last: the node must be enabled by its service, make chunks and command both arms.
// Then it must end in good order.
func (h *victim) works() {
	h.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var robot sync.WaitGroup
	defer robot.Wait()
	defer cancel()
	robot.Go(func() { h.robot(ctx) })
	enable, err := ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](h.node, "/ddvla/enable")
	if err != nil {
		h.Fatal(err)
	}
	rostest.Wait(h, "the node is enabled", func() bool {
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](short, enable, &msgs.TriggerRequest{})
		return err == nil && reply.Success
	})
	chunks, commands := h.count("chunks"), h.commands.Load()
	rostest.Wait(h, "chunks and commands", func() bool { return h.count("chunks") > chunks && h.commands.Load() > commands+10 })
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.Fatal(err)
	}
	if err := h.cmd.Wait(); err != nil {
		h.Errorf("the node ended with %v", err)
	}
}

// robot sends what a robot sends, on whatever topics the node wants it, until ctx ends.
func (h *victim) robot(ctx context.Context) {
	clock, err := ros.Advertise[msgs.Clock](h.node, "/clock", ros.DefaultQoS())
	if err != nil {
		h.Error(err)
		return
	}
	text, err := ros.Advertise[msgs.String](h.node, "/ddvla/instruction", ros.DefaultQoS())
	if err != nil {
		h.Error(err)
		return
	}
	var jpeg []byte
	if jpeg, err = vision.EncodeJPEG(nil, vision.Pixels{Width: 64, Height: 48, RGB: make([]byte, 3*64*48)}, 90); err != nil {
		h.Error(err)
		return
	}
	var sends []func(stamp msgs.Time) error
	for _, side := range []string{"f", "l", "r"} {
		topic := "/camera_" + side + "/color/image_raw"
		raw, err := ros.Advertise[msgs.Image](h.node, topic, ros.SensorDataQoS())
		if err != nil {
			h.Error(err)
			return
		}
		compressed, err := ros.Advertise[msgs.CompressedImage](h.node, topic+"/compressed", ros.SensorDataQoS())
		if err != nil {
			h.Error(err)
			return
		}
		sends = append(sends, func(stamp msgs.Time) error {
			m := picture()
			m.Header.Stamp = stamp
			return errors.Join(raw.Publish(m), compressed.Publish(&msgs.CompressedImage{Header: m.Header, Format: "jpeg", Data: jpeg}))
		})
	}
	for _, side := range []string{"left", "right"} {
		state, err := ros.Advertise[msgs.JointState](h.node, "/puppet/joint_"+side, ros.DefaultQoS())
		if err != nil {
			h.Error(err)
			return
		}
		// Who has heard a status, as some of the attacker's bytes are, waits for the next one.
		status, err := ros.Advertise[msgs.PiperStatusMsg](h.node, "/puppet/arm_status_"+side, ros.DefaultQoS())
		if err != nil {
			h.Error(err)
			return
		}
		sends = append(sends, func(stamp msgs.Time) error {
			m := pose()
			m.Header.Stamp = stamp
			return errors.Join(state.Publish(m), status.Publish(&msgs.PiperStatusMsg{CtrlMode: 1}))
		})
	}
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		stamp := msgs.TimeOf(time.Now())
		err := errors.Join(clock.Publish(&msgs.Clock{Clock: stamp}), text.Publish(&msgs.String{Data: "reach the red cube"}))
		for _, send := range sends {
			err = errors.Join(err, send(stamp))
		}
		if err != nil {
			h.Error(err)
			return
		}
	}
}
