package node

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros/param"
)

func TestAStartPoseBeyondTheLimitsIsRefusedAtStart(t *testing.T) {
	for name, pose := range map[string][]float64{
		"joint2":  {0, 4, -0.8, 0, 0.3, 0, 0.05},
		"joint3":  {0, 0.6, math.NaN(), 0, 0.3, 0, 0.05},
		"gripper": {0, 0.6, -0.8, 0, 0.3, 0, 50}, // in mm
	} {
		refused(t, testbundle.Dir(t), nil, []string{"home.right", name, "limits"}, given("home.right", param.Doubles(pose...)))
	}
}

// A call of ~/home that is refused ends nothing and forgets nothing.
func TestAHomeThatIsRefusedChangesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		before func(r *rig)
		says   string
	}{
		"impossible pose": {func(r *rig) { r.node.settings.Home[1] = []float64{0, 4, -0.8, 0, 0, 0, 0} }, "home.right"},
		"stopped":         {func(r *rig) { r.trigger("/ddvla/estop") }, "enable"},
		"deadman": {func(r *rig) {
			r.joints = func(int, *msgs.JointState) bool { r.feed("/deadman", &msgs.Bool{}); return true }
			r.run(2 * time.Second)
		}, "/deadman says that it is released"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, given("deadman.topic", param.String("/deadman")))
			r.joints = func(int, *msgs.JointState) bool { r.feed("/deadman", &msgs.Bool{Data: true}); return true }
			r.enable()
			r.run(time.Second)
			if m := r.node.executor.Status().Mode; m != control.Moving {
				t.Fatalf("the arms are %s", m)
			}
			c.before(r)
			was := r.node.executor.Status()
			if reply := r.trigger("/ddvla/home"); reply.Success || !strings.Contains(reply.Message, c.says) {
				t.Errorf("%+v", reply)
			}
			is := r.node.executor.Status()
			if is.Mode != was.Mode || is.Code != was.Code || is.Epoch != was.Epoch || r.node.observer.current() == "" {
				t.Errorf("%s, %s, epoch %d, %q; before it was %s, %s, %d", is.Mode, is.Code, is.Epoch, r.node.observer.current(), was.Mode, was.Code, was.Epoch)
			}
		})
	}
}
