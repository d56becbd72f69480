package rosout

import (
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/rostest"
)

func nodes(t *testing.T) (robot, console ros.Node) {
	t.Helper()
	bus := local.NewBus()
	robot, err := bus.Node(ros.Options{Name: "ddvla", Namespace: "/robot"})
	if err != nil {
		t.Fatal(err)
	}
	console, err = bus.Node(ros.Options{Name: "console"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { robot.Close(); console.Close() })
	return robot, console
}

func TestEntriesArriveAsROSHasThem(t *testing.T) {
	robot, console := nodes(t)
	begin := time.Now().Add(-time.Second)
	if err := robot.UseSimTime(true); err != nil { // which stamps no entry, and has not come yet
		t.Fatal(err)
	}
	out, err := New(robot, zap.InfoLevel)
	if err != nil {
		t.Fatal(err)
	}
	log := zap.New(out, zap.AddCaller()).With(zap.Int("round", 3))
	log.Debug("not published")
	log.Info("ready", zap.String("bundle", "tiny"))
	log.Named("policy").Warn("slow")
	log.Error("stop", zap.Error(errors.New("joint 3")))

	// A console that comes later gets them too: /rosout is transient local.
	got := make(chan msgs.Log, 10)
	if _, err := ros.Subscribe(console, "/rosout", ros.RosoutQoS(), func(m *msgs.Log, _ time.Time) { got <- *m }); err != nil {
		t.Fatal(err)
	}
	for _, want := range []msgs.Log{
		{Level: msgs.LogInfo, Name: "robot.ddvla", Msg: "ready bundle=tiny round=3"},
		{Level: msgs.LogWarn, Name: "robot.ddvla.policy", Msg: "slow round=3"},
		{Level: msgs.LogError, Name: "robot.ddvla", Msg: "stop error=joint 3 round=3"},
	} {
		m := rostest.Receive(t, want.Msg, got)
		if m.Level != want.Level || m.Name != want.Name || m.Msg != want.Msg {
			t.Errorf("got %+v, want %+v", m, want)
		}
		if !strings.HasSuffix(m.File, "core_test.go") || m.Line == 0 || m.Stamp.Time().Before(begin) || m.Stamp.Time().After(time.Now()) {
			t.Errorf("%s: file %q line %d stamp %v", m.Msg, m.File, m.Line, m.Stamp)
		}
	}
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
	log.Error("too late")
	if out.Dropped() != 1 {
		t.Errorf("%d dropped, want the one after Close", out.Dropped())
	}
}

// A publisher that hangs must not hold up who logs.
func TestLoggingNeverWaits(t *testing.T) {
	robot, _ := nodes(t)
	out, err := New(hanging{robot, make(chan struct{})}, zap.InfoLevel)
	if err != nil {
		t.Fatal(err)
	}
	log := zap.New(out)
	for range 3 * queued {
		log.Info("flood")
	}
	if d := out.Dropped(); d < 2*queued-1 || d > 2*queued {
		t.Errorf("%d of %d dropped with a queue of %d", d, 3*queued, queued)
	}
	close(out.shared.node.(hanging).release)
	if err := out.Close(); err != nil {
		t.Fatal(err)
	}
}

type hanging struct {
	ros.Node
	release chan struct{}
}

func (h hanging) Advertise(topic, typ string, qos ros.QoS) (ros.Publisher, error) {
	p, err := h.Node.Advertise(topic, typ, qos)
	return hangingPublisher{p, h.release}, err
}

type hangingPublisher struct {
	ros.Publisher
	release chan struct{}
}

func (p hangingPublisher) Publish(raw []byte) error {
	<-p.release
	return p.Publisher.Publish(raw)
}

func TestSeverity(t *testing.T) {
	for level, want := range map[zapcore.Level]uint8{
		zap.DebugLevel: 10, zap.InfoLevel: 20, zap.WarnLevel: 30, zap.ErrorLevel: 40, zap.PanicLevel: 50, zap.FatalLevel: 50,
	} {
		if got := severity(level); got != want {
			t.Errorf("%v: %d, want %d", level, got, want)
		}
	}
}
