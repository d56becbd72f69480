package node

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros/param"
)

// badPictures are messages that no picture can be read from, and what the error
// names.
func badPictures() map[string]struct {
	spoil func(m *msgs.Image)
	names []string
} {
	return map[string]struct {
		spoil func(m *msgs.Image)
		names []string
	}{
		"unknown encoding":           {func(m *msgs.Image) { m.Encoding = "bayer_rggb8" }, []string{`"bayer_rggb8"`, "rgb8, bgr8"}},
		"depth":                      {func(m *msgs.Image) { m.Encoding = "16UC1" }, []string{`"16UC1"`, "rgb8, bgr8"}},
		"step below the width":       {func(m *msgs.Image) { m.Step = 3*m.Width - 1 }, []string{"step is 95 bytes", "take 96"}},
		"step that does not fit":     {func(m *msgs.Image) { m.Step++ }, []string{"height 32 times step 97"}},
		"height that does not fit":   {func(m *msgs.Image) { m.Height-- }, []string{"height 31 times step 96"}},
		"no pixels":                  {func(m *msgs.Image) { m.Width, m.Height, m.Step, m.Data = 0, 0, 0, nil }, []string{"0"}},
		"a size no machine can hold": {func(m *msgs.Image) { m.Width, m.Height = math.MaxUint32, math.MaxUint32 }, []string{"4294967295"}},
	}
}

func TestPictureThatCannotBeReadIsRefusedOnceWithItsName(t *testing.T) {
	for name, c := range badPictures() {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.picture = func(camera string, m *msgs.Image) bool {
				if camera == "wrist_left" {
					c.spoil(m)
				}
				return true
			}
			r.enable()
			start := slices.Clone(r.pose[0])
			r.run(time.Second)
			told := r.logged("image refused")
			if len(told) != 1 {
				t.Fatalf("told %d times: %q", len(told), told)
			}
			if missing, ok := contains(told[0], append(c.names, `camera "wrist_left"`, leftTopic)...); !ok {
				t.Errorf("%s\ndoes not name %s", told[0], missing)
			}
			if n := len(r.chunks()); n != 0 {
				t.Errorf("%d chunks", n)
			}
			for _, m := range r.commands(0) {
				if !slices.Equal(m.Position, start) {
					t.Fatalf("commanded %v, the arm was at %v", m.Position, start)
				}
			}
			if s := r.status("cameras"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "wrist_left") || statusValue(s, "wrist_left.refused") != "11" {
				t.Errorf("cameras: level %d, %q, %s refused", s.Level, s.Message, statusValue(s, "wrist_left.refused"))
			}
		})
	}
}

func TestGoodPictureAfterABadOneIsUsedAndTheNextBadOneTold(t *testing.T) {
	r := newRig(t)
	bad := true
	r.picture = func(_ string, m *msgs.Image) bool {
		if bad {
			m.Encoding = "?"
		}
		return true
	}
	r.run(time.Second)
	bad = false
	r.run(time.Second)
	if n := len(r.chunks()); n != 10 {
		t.Errorf("%d chunks in the second of good pictures", n)
	}
	bad = true
	r.run(time.Second)
	if n := len(r.logged("image refused")); n != 6 {
		t.Errorf("told %d times, want once for each of 3 cameras and both rows of bad pictures", n)
	}
}

func TestTruncatedJPEGGivesNoChunk(t *testing.T) {
	photograph, err := os.ReadFile("../policy/vision/testdata/head.jpg")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t,
		given("cameras.head.topic", param.String(headTopic+"/compressed")),
		given("cameras.wrist_left.topic", param.String(leftTopic+"/compressed")),
		given("cameras.wrist_right.topic", param.String(rightTopic+"/compressed")))
	length := len(photograph) / 2
	r.send = func(now time.Time) {
		for _, topic := range []string{headTopic, leftTopic, rightTopic} {
			data := photograph
			if topic == rightTopic {
				data = data[:length]
			}
			r.feed(topic+"/compressed", &msgs.CompressedImage{Header: msgs.Header{Stamp: msgs.TimeOf(now)}, Format: "jpeg", Data: data})
		}
	}
	r.enable()
	start := slices.Clone(r.pose[0])
	r.run(300 * time.Millisecond)
	told := r.logged("inference failed")
	if len(told) != 1 {
		t.Fatalf("told %d times: %q", len(told), told)
	}
	if missing, ok := contains(told[0], `camera "wrist_right"`, "JPEG"); !ok {
		t.Errorf("%s\ndoes not name %s", told[0], missing)
	}
	if len(r.chunks()) != 0 || !slices.Equal(r.pose[0], start) {
		t.Errorf("%d chunks; the arm went from %v to %v", len(r.chunks()), start, r.pose[0])
	}
	if s := r.status("policy"); s.Level != msgs.DiagnosticWarn || !strings.Contains(s.Message, "wrist_right") || statusValue(s, "failed") == "0" {
		t.Errorf("policy: level %d, %q, %s failed", s.Level, s.Message, statusValue(s, "failed"))
	}
	length = 0
	r.run(200 * time.Millisecond)
	if told := r.logged("image refused"); len(told) != 1 || !strings.Contains(told[0], "the compressed image is empty") {
		t.Errorf("an empty stream: told %q", told)
	}
	length = len(photograph)
	r.run(300 * time.Millisecond)
	if len(r.chunks()) == 0 {
		t.Error("no chunk from whole pictures")
	}
}

func TestJointMessageThatCannotBeUsedIsRefusedAndMovesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(m *msgs.JointState)
		names []string
	}{
		"missing name":        {func(m *msgs.JointState) { m.Name = m.Name[:6] }, []string{"6 names for 7 positions"}},
		"unknown name":        {func(m *msgs.JointState) { m.Name[3] = "elbow" }, []string{"elbow", "joint1..joint7"}},
		"name twice":          {func(m *msgs.JointState) { m.Name[3] = "joint2" }, []string{"joint2", "joint1..joint7"}},
		"number beyond range": {func(m *msgs.JointState) { m.Name[6] = "joint9" }, []string{"joint9"}},
		"gripper besides":     {func(m *msgs.JointState) { m.Name[1] = "gripper" }, []string{"gripper"}},
		"no names":            {func(m *msgs.JointState) { m.Name = nil }, []string{"0 names"}},
		"NaN":                 {func(m *msgs.JointState) { m.Position[4] = math.NaN() }, []string{`joint "joint4"`, "NaN"}},
		"infinity":            {func(m *msgs.JointState) { m.Position[6] = math.Inf(-1) }, []string{`joint "joint6"`, "-Inf"}},
		"too short":           {func(m *msgs.JointState) { m.Name, m.Position = m.Name[:6], m.Position[:6] }, []string{"6 positions, want 7"}},
		"too long":            {func(m *msgs.JointState) { m.Position = append(m.Position, 0) }, []string{"8 positions, want 7"}},
		"empty":               {func(m *msgs.JointState) { m.Name, m.Position = nil, nil }, []string{"0 positions, want 7"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.joints = func(arm int, m *msgs.JointState) bool {
				if arm == 1 {
					c.spoil(m)
				}
				return true
			}
			r.run(300 * time.Millisecond)
			told := r.logged("joint state refused")
			if len(told) != 1 {
				t.Fatalf("told %d times: %q", len(told), told)
			}
			if missing, ok := contains(told[0], append(c.names, `arm "right"`, stateTopic(1))...); !ok {
				t.Errorf("%s\ndoes not name %s", told[0], missing)
			}
			if out := r.trigger("/ddvla/enable"); out.Success {
				t.Error("enabled")
			}
			r.run(100 * time.Millisecond)
			if n := len(r.commands(0)) + len(r.commands(1)) + len(r.chunks()); n != 0 {
				t.Errorf("%d commands and chunks", n)
			}
			if s := r.status("joints"); s.Level != msgs.DiagnosticError || statusValue(s, "right.refused") == "0" || statusValue(s, "left.refused") != "0" {
				t.Errorf("joints: level %d, %s and %s refused", s.Level, statusValue(s, "left.refused"), statusValue(s, "right.refused"))
			}
		})
	}
}

func TestCameraThatStopsHaltsTheArmsInTime(t *testing.T) {
	// A plan lasts 0.4 s here, so that the halt has this cause.
	const timeout = 200 * time.Millisecond
	r := newRig(t, given("limits.observation_timeout", param.Double(timeout.Seconds())))
	var last time.Time
	lost := false
	r.picture = func(camera string, m *msgs.Image) bool {
		if camera != "wrist_left" {
			return true
		}
		if !lost {
			last = r.now
		}
		return !lost
	}
	r.enable()
	r.run(time.Second)
	if m := r.node.executor.Status().Mode; m != control.Moving {
		t.Fatalf("the arms are %v", m)
	}
	lost = true
	var halted time.Time
	for halted.IsZero() {
		r.run(20 * time.Millisecond)
		if r.node.executor.Status().Code == control.ObservationStale {
			halted = r.now
		} else if r.now.Sub(last) > 2*time.Second {
			t.Fatalf("two seconds later the arms are %v", r.node.executor.Status().Mode)
		}
	}
	if late := halted.Sub(last) - timeout; late <= 0 || late > 20*time.Millisecond {
		t.Errorf("halted %v after the timeout, want at most one period", late)
	}
	if told := r.logged(control.ObservationStale.Sentence()); len(told) != 1 || !strings.Contains(told[0], `camera "wrist_left" (topic `+leftTopic) {
		t.Errorf("told %q", told)
	}
	r.run(time.Second)
	if s := r.status("cameras"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "wrist_left: silent") {
		t.Errorf("cameras: level %d, %q", s.Level, s.Message)
	}
	rest := slices.Clone(r.pose[0])
	r.run(time.Second)
	if !slices.Equal(r.pose[0], rest) {
		t.Error("the arm still moves")
	}
	// A halt ends by itself.
	lost = false
	r.run(500 * time.Millisecond)
	if m := r.node.executor.Status().Mode; m != control.Moving {
		t.Errorf("with all cameras back the arms are %v", m)
	}
}

func TestJointsThatStopNeedEnable(t *testing.T) {
	r := newRig(t)
	lost := false
	r.joints = func(arm int, _ *msgs.JointState) bool { return arm != 1 || !lost }
	r.enable()
	r.run(time.Second)
	lost = true
	r.run(time.Second)
	if s := r.node.executor.Status(); s.Code != control.FeedbackStale {
		t.Fatalf("the arms are %v (%v)", s.Mode, s.Code)
	}
	if s := r.status("joints"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "right: silent") {
		t.Errorf("joints: level %d, %q", s.Level, s.Message)
	}
	if told := r.logged(control.FeedbackStale.Sentence()); len(told) != 1 || !strings.Contains(told[0], "right") {
		t.Errorf("told %q", told)
	}
	rest := slices.Clone(r.pose[0])
	lost = false
	r.run(time.Second)
	if !slices.Equal(r.pose[0], rest) || r.node.executor.Status().Mode == control.Moving {
		t.Error("the arms moved on without enable")
	}
	if out := r.trigger("/ddvla/enable"); !out.Success {
		t.Fatal(out.Message)
	}
	r.run(500 * time.Millisecond)
	if m := r.node.executor.Status().Mode; m != control.Moving {
		t.Errorf("after enable the arms are %v", m)
	}
}

func TestInstructionTheModelCannotBeGivenHaltsTheArms(t *testing.T) {
	for name, c := range map[string]struct{ text, names string }{
		"empty":       {"", "instruction is empty"},
		"white space": {" \n\t ", "instruction is empty"},
		"too long":    {strings.Repeat("reach the red cube ", 100), "instruction is too long"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.enable()
			r.run(500 * time.Millisecond)
			r.instruct(c.text)
			if told := r.logged("instruction refused"); len(told) != 1 || !strings.Contains(told[0], c.names) {
				t.Errorf("told %q", told)
			}
			chunks := len(r.chunks())
			r.run(time.Second)
			rest := slices.Clone(r.pose[0])
			r.run(500 * time.Millisecond)
			if s := r.node.executor.Status(); s.Code != control.Flushed || !slices.Equal(r.pose[0], rest) {
				t.Errorf("the arms are %v (%v)", s.Mode, s.Code)
			}
			if n := len(r.chunks()); n != chunks {
				t.Errorf("%d chunks for no instruction", n-chunks)
			}
			if s := r.status("policy"); s.Level != msgs.DiagnosticWarn || !strings.Contains(s.Message, "no instruction") {
				t.Errorf("policy: level %d, %q", s.Level, s.Message)
			}
			r.instruct("reach the green cube")
			r.run(500 * time.Millisecond)
			if m := r.node.executor.Status().Mode; m != control.Moving {
				t.Errorf("with a good instruction the arms are %v", m)
			}
		})
	}
}

func TestNothingHappensWithoutAnInstruction(t *testing.T) {
	r := newRig(t, given("instruction", param.String("")))
	r.enable()
	r.run(time.Second)
	if n := len(r.chunks()); n != 0 {
		t.Errorf("%d chunks", n)
	}
	if s := r.node.executor.Status(); s.Mode != control.Holding || s.Code != control.Waiting {
		t.Errorf("the arms are %v (%v)", s.Mode, s.Code)
	}
}

// Bytes that are no message of the type leave everything as it was.
func TestDamagedBytesAreRefused(t *testing.T) {
	r := newRig(t)
	r.run(200 * time.Millisecond)
	for topic, typ := range map[string]string{
		headTopic: "sensor_msgs/msg/Image", stateTopic(0): "sensor_msgs/msg/JointState", instructedTopic: "std_msgs/msg/String",
	} {
		for _, raw := range [][]byte{nil, {0, 1}, {0, 1, 0, 0, 255, 255, 255, 255}, {9, 9, 9, 9}} {
			if err := r.ros.Feed(topic, typ, raw, r.now); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := len(r.logged("refused")); got < 3 {
		t.Errorf("told %d times", got)
	}
	before := len(r.chunks())
	r.run(300 * time.Millisecond)
	if len(r.chunks()) == before {
		t.Error("no chunk afterwards")
	}
}

// A driver or camera whose clock lags sends all the same: nobody is to look for one that
// does not run.
func TestInputsWhoseClockLagsAreNotCalledSilent(t *testing.T) {
	const lag = 3 * time.Second
	lags := "stamped 3.0"
	t.Run("camera", func(t *testing.T) {
		r := newRig(t)
		r.picture = func(camera string, m *msgs.Image) bool {
			if camera == "wrist_left" {
				m.Header.Stamp = msgs.TimeOf(r.now.Add(-lag))
			}
			return true
		}
		r.enable()
		r.run(time.Second)
		if s := r.status("cameras"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "wrist_left: "+lags) {
			t.Errorf("cameras: level %d, %q", s.Level, s.Message)
		}
		if told := r.logged(`camera "wrist_left" (topic ` + leftTopic + "): " + lags); len(told) != 1 || !strings.Contains(told[0], "the clocks of the machines differ") {
			t.Errorf("told %q", told)
		}
		r.send = func(time.Time) {} // and now it is
		r.run(time.Second)
		if s := r.status("cameras"); !strings.Contains(s.Message, "silent for") {
			t.Errorf("cameras: %q", s.Message)
		}
	})
	t.Run("arm", func(t *testing.T) {
		r := newRig(t)
		lagging := true
		r.joints = func(arm int, m *msgs.JointState) bool {
			if lagging && arm == 1 {
				m.Header.Stamp = msgs.TimeOf(r.now.Add(-lag))
			}
			return true
		}
		r.run(time.Second)
		out := r.trigger("/ddvla/enable")
		if missing, ok := contains(out.Message, `arm "right"`, "limits.feedback_timeout", "in the past; the clocks of the machines differ"); out.Success || !ok {
			t.Errorf("answered %v %q, which lacks %q", out.Success, out.Message, missing)
		}
		if s := r.status("joints"); s.Level != msgs.DiagnosticError || !strings.Contains(s.Message, "right: "+lags) {
			t.Errorf("joints: level %d, %q", s.Level, s.Message)
		}
		lagging = false
		r.enable()
		r.run(time.Second)
		lagging = true
		r.run(time.Second)
		if s := r.node.executor.Status(); s.Code != control.FeedbackStale {
			t.Errorf("code %s", s.Code)
		}
	})
}
