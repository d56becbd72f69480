package node

import (
	"context"
	"errors"
	"math"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/param"
)

func TestNewInstructionEndsTheMotionForTheOldOne(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(time.Second)
	old := r.node.executor.Epoch()
	r.instruct("reach the blue cube")
	if s := r.node.executor.Status(); s.Code != control.Flushed || s.Epoch == old {
		t.Errorf("the arms are %v (%v), epoch %d after %d", s.Mode, s.Code, s.Epoch, old)
	}
	r.instruct("reach the blue cube") // said again
	r.run(500 * time.Millisecond)
	if s := r.node.executor.Status(); s.Mode != control.Moving {
		t.Errorf("half a second later the arms are %v (%v)", s.Mode, s.Code)
	}
}

// After a jump of the clock backwards by less than what is kept, joint states of
// both times would lie at the same stamps.
func TestPicturesAreNotPairedWithJointStatesOfAnotherTime(t *testing.T) {
	o := watched()
	start := time.Unix(1000, 0)
	feel := func(stamp time.Time, pose float64) {
		m := msgs.JointState{Header: msgs.Header{Stamp: msgs.TimeOf(stamp)}, Name: numbered(0, armJoints), Position: slices.Repeat([]float64{pose}, armJoints)}
		for a := range arms {
			if _, _, err := o.joints[a].receive(marshal(t, &m), stamp); err != nil {
				t.Fatal(err)
			}
		}
	}
	for i := range 50 {
		feel(start.Add(time.Duration(i)*10*time.Millisecond), 1)
	}
	for i := range 6 {
		feel(start.Add(200*time.Millisecond+time.Duration(i)*20*time.Millisecond), 2)
	}
	now := start.Add(300 * time.Millisecond)
	for i := range 2 {
		o.seeAt(t, i, start.Add(250*time.Millisecond))
	}
	var s snapshot
	if err := o.snapshot(&s, now, time.Second, time.Second); err != nil {
		t.Fatal(err)
	}
	if s.Proprio[0] != 2 || s.Proprio[1] != 2 {
		t.Errorf("robot state %v is of before the jump", s.Proprio)
	}
}

func TestDroppedChunksAreToldWithTheReason(t *testing.T) {
	r := newRig(t, given("max_skew", param.Double(0.3)))
	r.picture = func(_ string, m *msgs.Image) bool {
		m.Header.Stamp = msgs.TimeOf(r.now.Add(150 * time.Millisecond))
		return true
	}
	r.enable()
	r.run(time.Second)
	if s := r.node.executor.Status(); s.Counters.ByCode[control.DroppedFuture] < 8 {
		t.Fatalf("counts %v", s.Counters.ByCode)
	}
	if told := r.logged(control.DroppedFuture.Sentence()); len(told) != 1 {
		t.Errorf("told %d times: %q", len(told), told)
	}
	if s := r.status("safety"); s.Level != msgs.DiagnosticWarn || !strings.Contains(s.Message, control.DroppedFuture.Sentence()) {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
}

// What the observer can use and the executor cannot is told like other refusals.
func TestJointStatesThatTheExecutorRefusesAreTold(t *testing.T) {
	r := newRig(t)
	r.joints = func(_ int, m *msgs.JointState) bool {
		m.Header.Stamp = msgs.TimeOf(r.now.Add(150 * time.Millisecond))
		return true
	}
	r.run(500 * time.Millisecond)
	if told := r.logged("joint state refused"); len(told) != 2 || !strings.Contains(told[0], "ahead of the clock") {
		t.Errorf("told %q", told)
	}
	if s := r.status("joints"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "ahead of the clock") || statusValue(s, "left.refused") == "0" {
		t.Errorf("joints: level %d, %q", s.Level, s.Message)
	}
	if out := r.trigger("/ddvla/enable"); out.Success || !strings.Contains(out.Message, "ahead of the clock") {
		t.Errorf("enable: %v %q", out.Success, out.Message)
	}
}

// Two publishers on one topic, one of them wrong, must not fill the log.
func TestRefusalsThatAlternateWithGoodMessagesAreToldOnceASecond(t *testing.T) {
	r := newRig(t)
	r.joints = func(arm int, m *msgs.JointState) bool {
		if r.frames%2 == 0 {
			m.Name[3] = "elbow"
		}
		return arm == 0
	}
	r.run(2900 * time.Millisecond)
	if told := r.logged("joint state refused"); len(told) != 3 {
		t.Errorf("told %d times in three seconds", len(told))
	}
}

func TestAnotherReasonForNoChunkIsToldToo(t *testing.T) {
	r := newRig(t, given("instruction", param.String("")))
	r.picture = func(camera string, _ *msgs.Image) bool { return camera != "wrist_left" }
	think := func(d time.Duration) {
		for end := r.now.Add(d); r.now.Before(end); {
			r.run(100 * time.Millisecond)
			if err := r.node.thinkOnce(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	think(1500 * time.Millisecond)
	r.instruct("reach the red cube")
	think(3 * time.Second)
	if told := r.logged("no chunk"); len(told) != 2 || !strings.Contains(told[0], "no instruction") || !strings.Contains(told[1], "wrist_left") {
		t.Errorf("told %q", told)
	}
	r.picture = func(camera string, _ *msgs.Image) bool { return r.now.Before(time.Unix(1006, 0)) }
	think(4 * time.Second)
	if told := r.logged("no chunk"); len(told) != 3 || !strings.Contains(told[2], "silent for") {
		t.Errorf("told %q", told)
	}
}

func TestEstopThatCannotBeReadStops(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(500 * time.Millisecond)
	if err := r.ros.Feed("/ddvla/estop", "std_msgs/msg/Bool", []byte{0, 1, 0, 0}, r.now); err != nil {
		t.Fatal(err)
	}
	if c := r.node.executor.Status().Code; c != control.Estop {
		t.Errorf("the arms say %v", c)
	}
}

func TestWhyStartEnabledDoesNotEnableIsTold(t *testing.T) {
	r := newRig(t, given("start_enabled", param.Bool(true)))
	r.joints = func(arm int, m *msgs.JointState) bool {
		m.Position[1] = 57 // degrees
		return true
	}
	r.run(3 * time.Second)
	if s := r.status("safety"); s.Level != msgs.DiagnosticWarn || !strings.Contains(s.Message, "check its unit") {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
	if told := r.logs.FilterMessage("not enabled yet").All(); len(told) != 2 { // before and after joint states came
		t.Errorf("told %v", told)
	}
}

// broken is a publisher that cannot send.
type broken struct{ ros.Publisher }

func (broken) Publish([]byte) error { return errors.New("no route") }

func TestCommandsThatCannotBeSentAreTold(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.node.targets[1] = broken{r.node.targets[1]}
	r.run(500 * time.Millisecond)
	if told := r.logged("publishing failed"); len(told) != 1 || !strings.Contains(told[0], commandTopic(1)) {
		t.Errorf("told %q", told)
	}
	if s := r.status("executor"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "no route") || statusValue(s, "publish_failures") == "0" {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
}

// The services of parameters live longer than the node.
func TestParameterThatChangesAfterCloseDoesNothing(t *testing.T) {
	r := newRig(t)
	live := r.node.currentLive()
	if err := r.node.Close(); err != nil {
		t.Fatal(err)
	}
	if err := r.node.SetLive(live); err != nil {
		t.Error(err)
	}
}

func TestDisableIsNoFault(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(time.Second)
	r.trigger("/ddvla/disable")
	r.run(2 * time.Second)
	if s := r.status("safety"); s.Level != msgs.DiagnosticOK || s.Message != "disabled; call ~/enable" {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
	if told := r.logged(control.Disabling.Sentence()); len(told) != 0 {
		t.Errorf("told as a fault: %q", told)
	}
}

func TestInferenceThatDoesNotEndIsTold(t *testing.T) {
	r := newRig(t)
	r.run(120 * time.Millisecond)
	r.node.setBusy(r.now.Add(-10*time.Second), nil)
	during := r.status("policy")
	r.node.setBusy(time.Time{}, nil)
	if during.Level != msgs.DiagnosticWarn || !strings.Contains(during.Message, "inference has been running for 10") {
		t.Errorf("policy: level %d, %q", during.Level, during.Message)
	}
	if s := r.status("policy"); s.Level != msgs.DiagnosticOK {
		t.Errorf("afterwards: level %d, %q", s.Level, s.Message)
	}
}

// A second chunk of the same pictures would only be dropped.
func TestOneObservationGivesOneChunk(t *testing.T) {
	r := newRig(t)
	r.run(500 * time.Millisecond)
	think := func() int {
		before := len(r.chunks())
		if err := r.node.thinkOnce(t.Context()); err != nil {
			t.Fatal(err)
		}
		return len(r.chunks()) - before
	}
	think() // of pictures that may have come in since
	if n := think(); n != 0 {
		t.Errorf("%d chunks of pictures that gave one already", n)
	}
	r.trigger("/ddvla/reset")
	if n := think(); n != 1 {
		t.Errorf("%d chunks after reset", n)
	}
}

// With simulated time, messages may come before the first /clock.
func TestMessagesBeforeTheFirstClockDoNoHarm(t *testing.T) {
	r := newRig(t, given("record", param.String(filepath.Join(t.TempDir(), "bag"))))
	r.ros.SetTime(time.Time{})
	for a := range arms {
		r.feedJoints(a)
	}
	for _, topic := range []string{headTopic, leftTopic, rightTopic} {
		r.feed(topic, smallPicture(r.now))
	}
	if err := r.node.thinkOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := r.status("policy"); s.Level != msgs.DiagnosticWarn || !strings.Contains(s.Message, "/clock") {
		t.Errorf("policy: level %d, %q", s.Level, s.Message)
	}
	if told := r.logged("refused"); len(told) != 0 {
		t.Errorf("told %q", told)
	}
	r.ros.SetTime(r.now)
	r.run(500 * time.Millisecond)
	if err := r.node.Close(); err != nil {
		t.Error(err)
	}
	if told := r.logged("recording ended"); len(told) != 0 {
		t.Errorf("told %q", told)
	}
}

// QoS that does not fit is silence on the wire; DDS tells only who asks.
func TestPublishersThatQoSKeepsAwayAreTold(t *testing.T) {
	bus := local.NewBus()
	var nodes [2]ros.Node
	for i, name := range []string{"ddvla", "robot"} {
		var err error
		if nodes[i], err = bus.Node(ros.Options{Name: name}); err != nil {
			t.Fatal(err)
		}
		defer nodes[i].Close()
	}
	s, _, _, err := settings(parameters(testbundle.Dir(t), []param.Assignment{given("instruction", param.String(""))})...)
	if err != nil {
		t.Fatal(err)
	}
	n, err := New(t.Context(), nodes[0], s, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	n.Activate()
	if _, err := nodes[1].Advertise(instructedTopic, "std_msgs/msg/String", ros.SensorDataQoS()); err != nil {
		t.Fatal(err)
	}
	if err := n.thinkOnce(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s := n.policyStatus(nodes[0].Now()); !strings.HasSuffix(s.Message, "; 1 publisher refused by QoS: /robot offers best_effort, this subscription requests reliable") {
		t.Errorf("policy: %q", s.Message)
	}
	if s := n.executorStatus(nodes[0].Now()); s.Level != msgs.DiagnosticWarn || !strings.Contains(s.Message, commandTopic(0)) {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
	q := ros.DefaultQoS()
	q.Durability = ros.TransientLocal
	if _, err := nodes[1].Subscribe(commandTopic(0), "sensor_msgs/msg/JointState", q, func([]byte, time.Time) {}); err != nil {
		t.Fatal(err)
	}
	if s := n.executorStatus(nodes[0].Now()); !strings.HasSuffix(s.Message, "; 1 subscription refused by QoS: /robot requests transient_local, this publisher offers volatile") {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
}

func TestWhatAnOperatorStoppedIsNotStartedEnabled(t *testing.T) {
	for name, stop := range map[string]func(*rig){
		"estop":       func(r *rig) { r.trigger("/ddvla/estop") },
		"estop topic": func(r *rig) { r.feed("/ddvla/estop", &msgs.Bool{Data: true}) },
		"disable":     func(r *rig) { r.trigger("/ddvla/disable") },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, given("start_enabled", param.Bool(true)))
			there := false
			r.joints = func(int, *msgs.JointState) bool { return there }
			r.run(100 * time.Millisecond)
			stop(r)
			there = true
			r.run(500 * time.Millisecond)
			if n := len(r.commands(0)); n != 0 {
				t.Errorf("%d commands", n)
			}
			if out := r.trigger("/ddvla/enable"); !out.Success {
				t.Error(out.Message)
			}
		})
	}
}

// Without a clock that goes on there are no ticks, so that nothing decelerates:
// the drivers hold the last command, and that is said.
func TestClockThatStandsIsTold(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(500 * time.Millisecond)
	const sentence = "time stands still"
	r.node.everySecond(r.now)
	if told := r.logged(sentence); len(told) != 0 {
		t.Errorf("told %q of a clock that goes", told)
	}
	sent := len(r.commands(0))
	for range 3 {
		r.node.everySecond(r.now)
		r.step(t.Context())
	}
	if told := r.logged(sentence); len(told) != 1 {
		t.Errorf("told %d times", len(told))
	}
	if s := r.status("safety"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, sentence) {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
	if n := len(r.commands(0)); n != sent {
		t.Errorf("%d commands meanwhile", n-sent)
	}
	r.run(500 * time.Millisecond)
	r.node.everySecond(r.now)
	if s := r.status("safety"); s.Level != msgs.DiagnosticOK {
		t.Errorf("arms: level %d, %q", s.Level, s.Message)
	}
	if told := r.logs.FilterMessage("time goes on").Len(); told != 1 {
		t.Errorf("told %d times that it goes on", told)
	}
}

func TestEndOfTheProgramIsToldAlsoWhereTheArmsCannotBeBroughtToRest(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(500 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.node.Run(ctx); err != nil { // the clock stands
		t.Fatal(err)
	}
	if n := r.logs.FilterMessage(control.ShuttingDown.Sentence()).Len(); n != 1 {
		t.Errorf("told %d times that the program ends", n)
	}
	if told := r.logged("before the arms came to rest"); len(told) != 1 {
		t.Errorf("told %q", told)
	}
	if out := r.trigger("/ddvla/enable"); out.Success {
		t.Error("enabled what nobody ticks")
	}
}

// A chunk of an L1 head has no confidences: none is told, least of all NaN.
func TestAChunkWithoutConfidencesTellsNone(t *testing.T) {
	r := newRig(t)
	for _, confidence := range [][]float32{nil, {0.5, 0.7}} {
		r.node.account(&policy.Result{Chunk: &action.Chunk{Stamp: r.now, Confidence: confidence}}, time.Now(), 0, 0, 10)
		var told []string
		for _, v := range r.node.policyStatus(r.now).Values {
			if v.Key == "confidence" {
				told = append(told, v.Value)
			}
		}
		if want := len(confidence) / 2; len(told) != want || want == 1 && told[0] != "0.600" {
			t.Errorf("confidences %v are told as %q", confidence, told)
		}
	}
}

// Once an operator has enabled the arms, start_enabled has no more to do: it would
// clear the stop that came meanwhile.
func TestStartEnabledDoesNotClearAStop(t *testing.T) {
	r := newRig(t, given("start_enabled", param.Bool(true)))
	for a := range r.pose {
		r.feedJoints(a)
	}
	if err := r.node.Enable(); err != nil {
		t.Fatal(err)
	}
	r.feed("/puppet/arm_status_left", &msgs.PiperStatusMsg{CtrlMode: 1, ArmStatus: 7}) // a collision
	r.now = r.now.Add(20 * time.Millisecond)
	r.ros.SetTime(r.now)
	r.node.executor.Tick(r.now)
	r.feed("/puppet/arm_status_left", &msgs.PiperStatusMsg{CtrlMode: 1})
	r.run(time.Second)
	if s := r.node.executor.Status(); s.Code != control.DriverFault || len(r.commands(0)) != 0 {
		t.Errorf("after a driver's fault the arms are %s, %s, with %d commands", s.Mode, s.Code, len(r.commands(0)))
	}
}

// While the arms come to rest for deactivate, and in the moments after, nobody enables
// them: they would be left enabled in a node that observes nothing.
func TestNobodyEnablesArmsThatAreBeingDeactivated(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(500 * time.Millisecond)
	left := make(chan struct{})
	go func() { r.node.Deactivate(t.Context()); close(left) }()
	for r.node.executor.Status().Mode == control.Moving {
		runtime.Gosched()
	}
	for range 100 { // two seconds: it comes to rest, and is silent
		r.run(20 * time.Millisecond)
		if err := r.node.Enable(); err == nil {
			t.Fatal("enabled")
		}
	}
	<-left
	if m := r.node.executor.Status().Mode; m != control.Disabled {
		t.Errorf("an inactive node's arms are %s", m)
	}
	r.node.Activate()
	r.enable()
}

// Arms that a fault kept from setting out are sent nothing; ~/status says which it was,
// as /diagnostics does.
func TestStatusTellsTheFaultOfArmsThatAreSentNothing(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.feed("/puppet/arm_status_left", &msgs.PiperStatusMsg{CtrlMode: 1, ArmStatus: 7})
	r.run(time.Second)
	if s := r.node.executor.Status(); s.Mode != control.Disabled || s.Code != control.DriverFault {
		t.Fatalf("the arms are %s, %s", s.Mode, s.Code)
	}
	r.node.publishStatus()
	all := published[msgs.DiagnosticArray](r, "/ddvla/status")
	if s := all[len(all)-1].Status[0]; s.Level != msgs.DiagnosticError || s.Message != control.DriverFault.Sentence() {
		t.Errorf("level %d: %s", s.Level, s.Message)
	}
}

// Thinking begins at the rate, or as soon as it can, or when a chunk is wanted; and
// where that is long, a reset meanwhile is not slept through.
func TestWhenToThinkAgain(t *testing.T) {
	began := time.Unix(100, 0)
	const period = 100 * time.Millisecond
	for name, c := range map[string]struct{ now, wanted, want time.Duration }{
		"at the rate":               {20 * time.Millisecond, 0, period},
		"late":                      {1200 * time.Millisecond, 0, 1200 * time.Millisecond},
		"wanted before it is due":   {20 * time.Millisecond, 30 * time.Millisecond, period},
		"wanted a little later":     {20 * time.Millisecond, 90 * time.Millisecond, 110 * time.Millisecond},
		"wanted in eight seconds":   {20 * time.Millisecond, 8 * time.Second, 120 * time.Millisecond},
		"late, and wanted in eight": {1200 * time.Millisecond, 8 * time.Second, 1300 * time.Millisecond},
	} {
		if got := thinkAt(began, began.Add(c.now), period, c.wanted).Sub(began); got != c.want {
			t.Errorf("%s: after %v, want %v", name, got, c.want)
		}
	}
}

// What the network gives that is no number stops the arms; pictures that cannot be read
// and the like only make no chunk.
func TestNumbersThatAreNoneStopTheArms(t *testing.T) {
	r := newRig(t)
	values := make([]float32, r.node.policy.Manifest().Action.Tokens())
	values[9] = float32(math.NaN())
	_, regression := r.node.policy.Codec().ChunkFromRegression(values)
	_, mean := r.node.policy.Codec().Chunk(values)
	for name, c := range map[string]struct {
		err   error
		stops bool
	}{
		"confidence":       {&decode.ConfidenceError{Position: 3*14 + 9, Confidence: float32(math.NaN())}, true},
		"an L1 head's":     {regression, true},
		"means of bins":    {mean, true},
		"a broken picture": {errors.New("inference: the picture is broken"), false},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.enable()
			r.run(500 * time.Millisecond)
			r.node.inferenceFailed(c.err)
			r.run(time.Second)
			s := r.node.executor.Status()
			if stopped := s.Mode == control.Held && s.Code == control.NonFinite; stopped != c.stops {
				t.Errorf("%s, %s", s.Mode, s.Code)
			}
			if told := r.logged(control.NonFinite.Sentence()); len(told) == 0 == c.stops {
				t.Errorf("told %q", told)
			}
		})
	}
}
