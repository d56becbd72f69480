package node

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	zaptest "go.uber.org/zap/zaptest/observer"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/playback"
	"github.com/ddvla/ddvla/sim"
)

// Topics of a node with default parameters.
const (
	headTopic       = "/camera_f/color/image_raw"
	leftTopic       = "/camera_l/color/image_raw"
	rightTopic      = "/camera_r/color/image_raw"
	instructedTopic = "/ddvla/instruction"
	chunkTopic      = "/ddvla/action_chunk"
)

func stateTopic(arm int) string   { return "/puppet/joint_" + arms[arm] }
func commandTopic(arm int) string { return "/master/joint_" + arms[arm] }

// message is something the node published.
type message struct {
	topic, typ string
	raw        []byte
	at         time.Time
}

// rig is a node and its robot in lock-step, without a wall clock: joint states of
// both arms come at 50 Hz, three pictures at 10 Hz, and the arms are always where
// they were commanded last. Tests change what the robot sends through its hooks.
type rig struct {
	t    testing.TB
	ros  *playback.Node
	node *Node
	set  *param.Set
	logs *zaptest.ObservedLogs

	now    time.Time
	frames int
	pose   [2][]float64
	sent   []message

	// picture and joints may change a message or, with false, lose it.
	picture func(camera string, m *msgs.Image) bool
	joints  func(arm int, m *msgs.JointState) bool
	// send, where it is set, stands for the three pictures.
	send func(now time.Time)
}

// given is a parameter of the command line.
func given(name string, value param.Value) param.Assignment {
	return param.Assignment{Name: name, Value: value}
}

// parameters are those of a test: one round is a whole chunk, only a poor one.
func parameters(dir string, extra []param.Assignment) []param.Assignment {
	return append([]param.Assignment{
		given("policy", param.String(dir)),
		given("decode.rounds", param.Int(1)),
		given("runtime.threads", param.Int(1)),
		given("instruction", param.String("reach the red cube")),
	}, extra...)
}

// settings reads parameters as the command line does.
func settings(extra ...param.Assignment) (Settings, *param.Set, *bundle.Manifest, error) {
	names, err := ros.NewNames(ros.Options{Name: "ddvla"})
	if err != nil {
		return Settings{}, nil, nil, err
	}
	set, m, err := Declare(extra, names)
	if err != nil {
		return Settings{}, nil, nil, err
	}
	s, err := SettingsFrom(set.Values(), m, names)
	return s, set, m, err
}

// newRig starts a node, or fails the test.
func newRig(t testing.TB, extra ...param.Assignment) *rig {
	t.Helper()
	r, err := startRig(t, testbundle.Dir(t), extra...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// startRig starts a node on a bundle. On an error the rig shows what was
// published until then.
func startRig(t testing.TB, dir string, extra ...param.Assignment) (*rig, error) {
	t.Helper()
	home := sim.Home()
	r := &rig{
		t: t, now: time.Unix(1000, 0),
		pose:    [2][]float64{slices.Clone(home[:armJoints]), slices.Clone(home[armJoints:])},
		picture: func(string, *msgs.Image) bool { return true },
		joints:  func(int, *msgs.JointState) bool { return true },
	}
	core, logs := zaptest.New(zapcore.DebugLevel)
	r.logs = logs
	s, set, _, err := settings(parameters(dir, extra)...)
	if err != nil {
		return r, err
	}
	r.set = set
	r.ros, err = playback.New(ros.Options{Name: "ddvla"}, func(topic, typ string, _ ros.QoS, raw []byte, now time.Time) error {
		r.sent = append(r.sent, message{topic, typ, slices.Clone(raw), now})
		for a := range r.pose {
			if topic == commandTopic(a) {
				var m msgs.JointState
				if err := msgs.Unmarshal(raw, &m); err != nil {
					return err
				}
				r.pose[a] = m.Position
			}
		}
		return nil
	})
	if err != nil {
		return r, err
	}
	r.ros.SetTime(r.now)
	r.node, err = New(t.Context(), r.ros, s, zap.New(core))
	if err != nil {
		return r, err
	}
	r.node.Activate()
	t.Cleanup(func() {
		if err := r.node.Close(); err != nil {
			t.Error(err)
		}
	})
	return r, nil
}

// run lets time pass, in steps of 20 ms.
func (r *rig) run(d time.Duration) {
	r.t.Helper()
	for end := r.now.Add(d); r.now.Before(end); r.frames++ {
		r.now = r.now.Add(20 * time.Millisecond)
		r.step(r.t.Context())
		for a := range r.pose {
			r.feedJoints(a)
		}
		if r.frames%5 != 0 {
			continue
		}
		if r.send != nil {
			r.send(r.now)
			continue
		}
		for _, camera := range []string{"head", "wrist_left", "wrist_right"} {
			if m := smallPicture(r.now); r.picture(camera, m) {
				r.feed(CameraTopics()[camera], m)
			}
		}
	}
}

// step lets the node do what is due.
func (r *rig) step(ctx context.Context) {
	r.t.Helper()
	if err := r.node.Step(ctx, r.now, 1, r.ros.SetTime); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) feedJoints(arm int) {
	r.t.Helper()
	m := &msgs.JointState{
		Header: msgs.Header{Stamp: msgs.TimeOf(r.now)}, Name: numbered(0, armJoints), Position: slices.Clone(r.pose[arm]),
	}
	if r.joints(arm, m) {
		r.feed(stateTopic(arm), m)
	}
}

// feed delivers a message.
func (r *rig) feed(topic string, m msgs.Message) {
	r.t.Helper()
	raw, err := msgs.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.ros.Feed(topic, m.ROSType(), raw, r.now); err != nil {
		r.t.Fatal(err)
	}
}

// instruct sends an instruction.
func (r *rig) instruct(text string) {
	r.t.Helper()
	r.feed(instructedTopic, &msgs.String{Data: text})
}

// enable enables as soon as there are joint states.
func (r *rig) enable() {
	r.t.Helper()
	r.run(20 * time.Millisecond)
	if err := r.node.Enable(); err != nil {
		r.t.Fatal(err)
	}
}

// trigger calls one of the node's services.
func (r *rig) trigger(service string) msgs.TriggerResponse {
	r.t.Helper()
	var out msgs.TriggerResponse
	r.call(service, &msgs.TriggerRequest{}, &out)
	return out
}

func (r *rig) call(service string, request, reply msgs.Message) {
	r.t.Helper()
	raw, err := msgs.Marshal(request)
	if err == nil {
		raw, err = r.ros.Call(r.t.Context(), service, raw)
	}
	if err == nil {
		err = msgs.Unmarshal(raw, reply)
	}
	if err != nil {
		r.t.Fatalf("%s: %v", service, err)
	}
}

// commands are those of an arm so far.
func (r *rig) commands(arm int) []msgs.JointState {
	return published[msgs.JointState](r, commandTopic(arm))
}

func (r *rig) chunks() []msgs.JointTrajectory {
	return published[msgs.JointTrajectory](r, chunkTopic)
}

// published decodes what was published on a topic.
func published[T any, M ros.MessageOf[T]](r *rig, topic string) []T {
	r.t.Helper()
	var all []T
	for _, s := range r.sent {
		if s.topic != topic {
			continue
		}
		var m T
		if err := msgs.Unmarshal(s.raw, M(&m)); err != nil {
			r.t.Fatal(err)
		}
		all = append(all, m)
	}
	return all
}

// status returns the newest diagnostic status of a part: "cameras".
func (r *rig) status(part string) msgs.DiagnosticStatus {
	r.t.Helper()
	r.node.publishDiagnostics()
	all := published[msgs.DiagnosticArray](r, "/diagnostics")
	for _, s := range all[len(all)-1].Status {
		if s.Name == "ddvla: "+part {
			return s
		}
	}
	r.t.Fatalf("no status of %s among %v", part, all[len(all)-1].Status)
	return msgs.DiagnosticStatus{}
}

func statusValue(s msgs.DiagnosticStatus, key string) string {
	for _, v := range s.Values {
		if v.Key == key {
			return v.Value
		}
	}
	return ""
}

// logged returns the errors and warnings whose message or fields hold a text.
func (r *rig) logged(text string) []string {
	var found []string
	for _, e := range r.logs.All() {
		line := e.Message
		for _, v := range e.ContextMap() {
			if s, ok := v.(string); ok {
				line += " " + s
			}
		}
		if e.Level >= zapcore.WarnLevel && strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

// numbered are the names joint<from>..., n of them.
func numbered(from, n int) []string {
	var names []string
	for i := range n {
		names = append(names, "joint"+string(rune('0'+from+i)))
	}
	return names
}

// smallPicture is a picture whose pixels depend on its stamp only.
func smallPicture(stamp time.Time) *msgs.Image {
	const side = 32
	rng := rand.New(rand.NewPCG(uint64(stamp.UnixNano()), 1))
	data := make([]byte, 3*side*side)
	for i := range data {
		data[i] = byte(rng.Uint32())
	}
	return &msgs.Image{
		Header: msgs.Header{Stamp: msgs.TimeOf(stamp)}, Width: side, Height: side, Step: 3 * side, Encoding: "rgb8", Data: data,
	}
}

// contains reports the first of some texts that another lacks.
func contains(text string, parts ...string) (missing string, ok bool) {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return p, false
		}
	}
	return "", true
}
