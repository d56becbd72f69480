package node

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/rostest"
)

// onBus starts a node beside another one on a bus, where QoS counts.
func onBus(t *testing.T, extra ...param.Assignment) (n *Node, peer ros.Node) {
	t.Helper()
	bus := local.NewBus()
	var nodes [2]ros.Node
	for i, name := range []string{"ddvla", "operator"} {
		rn, err := bus.Node(ros.Options{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = rn.Close() })
		nodes[i] = rn
	}
	s, _, _, err := settings(parameters(testbundle.Dir(t), extra)...)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = New(t.Context(), nodes[0], s, zap.NewNop()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	n.Activate()
	return n, nodes[1]
}

func TestAStopIsHeardWhateverTheButtonsQoS(t *testing.T) {
	for name, qos := range map[string]ros.QoS{"reliable": ros.DefaultQoS(), "best effort": ros.SensorDataQoS(), "latched": ros.LatchedQoS()} {
		t.Run(name, func(t *testing.T) {
			n, operator := onBus(t)
			button, err := ros.Advertise[msgs.Bool](operator, "/ddvla/estop", qos)
			if err != nil {
				t.Fatal(err)
			}
			if err := button.Publish(&msgs.Bool{Data: true}); err != nil {
				t.Fatal(err)
			}
			rostest.Wait(t, "the stop", func() bool { return n.executor.Status().Mode == control.Estopped })
			if says := unheard(n); strings.Contains(says, "publish it reliably") != (name == "best effort") {
				t.Errorf("told %q", says)
			}
		})
	}
}

// unheard is what safety says of buttons.
func unheard(n *Node) string {
	var s msgs.DiagnosticStatus
	n.tellUnheard(&s, n.ros.Now())
	return s.Message
}

// keptFrom is a subscription that QoS keeps publishers from.
type keptFrom struct{ ros.Subscription }

func (keptFrom) Mismatch() ros.Mismatch {
	return ros.Mismatch{Count: 1, Publishers: true, Policy: "data representation"}
}

func TestAStopThatIsNotHeardIsAnError(t *testing.T) {
	r := newRig(t)
	if s := r.status("safety"); s.Level != msgs.DiagnosticOK {
		t.Fatalf("level %d, %q", s.Level, s.Message)
	}
	r.node.stops.any = keptFrom{r.node.stops.any}
	s := r.status("safety")
	if missing, ok := contains(s.Message, "/ddvla/estop is not heard", "1 publisher refused by QoS"); s.Level != msgs.DiagnosticError || !ok {
		t.Errorf("level %d, %q, lacks %q", s.Level, s.Message, missing)
	}
}

func TestADeadmanThatQoSKeepsAwayIsAnError(t *testing.T) {
	n, operator := onBus(t, given("deadman.topic", param.String("/deadman")), given("qos_overrides./deadman.subscription.reliability", param.String("reliable")))
	if _, err := operator.Advertise("/deadman", "std_msgs/msg/Bool", ros.SensorDataQoS()); err != nil {
		t.Fatal(err)
	}
	s := n.safetyStatus(n.ros.Now())
	if missing, ok := contains(s.Message, "the deadman is not heard", "nothing received on /deadman", "/operator offers best_effort"); s.Level != msgs.DiagnosticError || !ok {
		t.Errorf("level %d, %q, lacks %q", s.Level, s.Message, missing)
	}
}

// Arms that are enabled and wait for the deadman are not said to wait for a chunk alone.
func TestChunksDroppedForTheDeadmanAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		before func(r *rig)
		says   string
	}{
		"never heard": {func(r *rig) {}, "nothing received on /deadman"},
		"released":    {func(r *rig) { r.feed("/deadman", &msgs.Bool{}) }, "/deadman says that it is released"},
		"silent": {func(r *rig) {
			r.feed("/deadman", &msgs.Bool{Data: true})
			r.run(time.Second)
		}, "/deadman is silent for"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, given("deadman.topic", param.String("/deadman")))
			c.before(r)
			r.enable()
			r.run(time.Second)
			if e := r.node.executor.Status(); e.Dropped != control.DroppedDeadman {
				t.Fatalf("%s, %s, dropped %s", e.Mode, e.Code, e.Dropped)
			}
			all := published[msgs.DiagnosticArray](r, "/ddvla/status")
			for _, s := range []msgs.DiagnosticStatus{r.status("safety"), all[len(all)-1].Status[0]} {
				if missing, ok := contains(s.Message, "the deadman is not held", c.says); s.Level != msgs.DiagnosticWarn || !ok {
					t.Errorf("%s: level %d, %q, lacks %q", s.Name, s.Level, s.Message, missing)
				}
			}
			if n := len(r.logged("the deadman is not held")); n != 1 {
				t.Errorf("logged %d times", n)
			}
		})
	}
}
