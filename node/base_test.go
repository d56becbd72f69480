package node

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/param"
)

// A chunk's base velocities are driven while it is followed and the clock goes on, and
// end at 0.
func TestBaseIsDrivenOnlyWhileTheArmsFollow(t *testing.T) {
	b := base{pub: deaf{}}
	began := time.Unix(100, 0)
	b.take([]control.Twist{{Linear: 0.1, Angular: 0.2}, {Linear: 0.2}}, began, 10)
	at := func(ms int, mode control.Mode, scale float64, dt time.Duration) control.Twist {
		v, _ := b.step(control.Status{Mode: mode}, began.Add(time.Duration(ms)*time.Millisecond), scale, dt)
		return v
	}
	for _, c := range []struct {
		ms   int
		mode control.Mode
		want control.Twist
	}{
		{-10, control.Moving, control.Twist{}},
		{50, control.Moving, control.Twist{Linear: 0.1, Angular: 0.2}},
		{150, control.Moving, control.Twist{Linear: 0.2}},
		{160, control.Stopping, control.Twist{}},
		{170, control.Holding, control.Twist{}},
		{180, control.Moving, control.Twist{Linear: 0.2}},
		{180, control.Moving, control.Twist{}}, // for ten seconds
		{210, control.Moving, control.Twist{}}, // after its end
	} {
		if got := at(c.ms, c.mode, 1, 10*time.Second); got != c.want {
			t.Errorf("after %d ms, %s: %v, want %v", c.ms, c.mode, got, c.want)
		}
	}
	// Never faster than its acceleration allows, nor at more than the speed scale.
	b.now = control.Twist{}
	if v := at(50, control.Moving, 0.5, 20*time.Millisecond); v.Linear != 0.01 || v.Angular != 0.02 {
		t.Errorf("the first step is %v", v)
	}
	if v := at(60, control.Moving, 0.5, 10*time.Second); v.Linear != 0.05 || v.Angular != 0.1 {
		t.Errorf("at half the speed it is %v", v)
	}
}

// mobile makes the right arm's columns changes of its tool's pose and velocities of a
// base.
func mobile(m *bundle.Manifest) {
	for i, name := range [...]string{"right_x", "right_y", "right_z", "right_roll", "right_pitch", "base_linear_x", "base_angular_z"} {
		d := &m.Action.Dims[armJoints+i]
		d.Name, d.Space, d.Gripper = name, bundle.EEDelta, nil
		switch {
		case i < 3:
			d.Unit = "m"
		case i < 5:
			d.Unit = "rad"
		default:
			d.Arm, d.Space, d.Unit = "base", bundle.Joint, [...]string{"m/s", "rad/s"}[i-5]
		}
	}
}

// Whatever ends the motion, and also where the arms are sent nothing more, the base
// comes to rest: the last velocity that it is told is 0.
func TestBaseComesToRestWhateverEndsTheMotion(t *testing.T) {
	values := make([]float64, 14)
	copy(values, []float64{0, 0.6, -0.8, 0, 0.3, 0, 0.03})
	values[12], values[13] = 0.15, -0.4
	dir := constant(t, values, mobile)
	for name, end := range map[string]func(*rig){
		"disable": func(r *rig) { r.trigger("/ddvla/disable") },
		"estop":   func(r *rig) { r.trigger("/ddvla/estop") },
		"reset":   func(r *rig) { r.trigger("/ddvla/reset"); r.instruct("") },
		"no joint states": func(r *rig) {
			r.joints = func(int, *msgs.JointState) bool { return false }
		},
		"no pictures": func(r *rig) {
			r.picture = func(string, *msgs.Image) bool { return false }
		},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := startRig(t, dir, given("base.topic", param.String("/cmd_vel")))
			if err != nil {
				t.Fatal(err)
			}
			r.run(100 * time.Millisecond)
			if n := len(published[msgs.Twist](r, "/cmd_vel")); n != 0 {
				t.Errorf("%d velocities before enable", n)
			}
			r.enable()
			r.run(3 * time.Second)
			if s := r.node.executor.Status(); s.Mode != control.Moving {
				t.Fatalf("the arms are %s, %s", s.Mode, s.Code)
			}
			driven := published[msgs.Twist](r, "/cmd_vel")
			if last := driven[len(driven)-1]; math.Abs(last.Linear.X-0.15) > 1e-3 || math.Abs(last.Angular.Z+0.4) > 1e-3 {
				t.Fatalf("the base is driven at %v", last)
			}
			end(r)
			r.run(3 * time.Second)
			all := published[msgs.Twist](r, "/cmd_vel")
			if last := all[len(all)-1]; last != (msgs.Twist{}) {
				t.Errorf("the last velocity that the base is told is %v", last)
			}
			for i := 1; i < len(all); i++ {
				if d := math.Abs(all[i].Linear.X - all[i-1].Linear.X); d > baseAcceleration*0.02+1e-9 {
					t.Fatalf("the base changes its speed by %v m/s in a period", d)
				}
			}
			if r.node.executor.Status().Code.Latched() && len(all) > len(driven)+80 {
				t.Errorf("%d velocities after the arms were stopped; another publisher is to take over", len(all)-len(driven))
			}
		})
	}
}

// A stop of arms that nobody enabled is no reason to talk to the base, and one of arms
// that were only for a while.
func TestBaseIsToldNothingWhereNobodyDrivesIt(t *testing.T) {
	values := make([]float64, 14)
	copy(values, []float64{0, 0.6, -0.8, 0, 0.3, 0, 0.03})
	r, err := startRig(t, constant(t, values, mobile), given("base.topic", param.String("/cmd_vel")))
	if err != nil {
		t.Fatal(err)
	}
	told := func() int { return len(published[msgs.Twist](r, "/cmd_vel")) }
	r.run(100 * time.Millisecond)
	r.trigger("/ddvla/estop")
	r.run(time.Second)
	r.trigger("/ddvla/disable")
	r.run(time.Second)
	if n := told(); n != 0 {
		t.Errorf("%d velocities before enable", n)
	}
	r.enable()
	r.run(time.Second)
	driven := told()
	r.trigger("/ddvla/estop")
	r.run(time.Second)
	if n := told() - driven; n < 40 || n > 51 {
		t.Errorf("%d velocities in the second after the stop", n)
	}
	stopped := told()
	r.run(2 * time.Second)
	if n := told() - stopped; n > 5 {
		t.Errorf("%d velocities later", n)
	}
	// Until somebody enables again.
	r.enable()
	r.run(time.Second)
	if n := told() - stopped; n < 40 {
		t.Errorf("%d velocities after another enable", n)
	}
}

// keeps is a publisher that keeps what it is given.
type keeps struct {
	ros.Publisher
	all [][]byte
}

func (k *keeps) Publish(raw []byte) error {
	k.all = append(k.all, slices.Clone(raw))
	return nil
}

// The end of the program brings the base to rest before it returns.
func TestBaseRestsAtTheEndOfTheProgram(t *testing.T) {
	rn, err := local.NewBus().Node(ros.Options{Name: "ddvla"})
	if err != nil {
		t.Fatal(err)
	}
	defer rn.Close()
	n, _ := movingNode(t, deaf{})
	told := &keeps{}
	n.ros, n.base.pub, n.base.now = rn, told, control.Twist{Linear: 0.2, Angular: -0.6}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	n.driveBase(ctx)
	var last msgs.Twist
	if len(told.all) < 30 { // 0.6 s at 50 Hz
		t.Fatalf("%d velocities", len(told.all))
	}
	if err := msgs.Unmarshal(told.all[len(told.all)-1], &last); err != nil || last != (msgs.Twist{}) {
		t.Errorf("the last velocity is %v, %v", last, err)
	}
}

// The base's velocities are in the recording, as the arms' commands are.
func TestBaseIsRecorded(t *testing.T) {
	values := make([]float64, 14)
	copy(values, []float64{0, 0.6, -0.8, 0, 0.3, 0, 0.03})
	values[12] = 0.15
	recording := filepath.Join(t.TempDir(), "bag")
	r, err := startRig(t, constant(t, values, mobile), given("base.topic", param.String("/cmd_vel")), given("record", param.String(recording)))
	if err != nil {
		t.Fatal(err)
	}
	r.enable()
	r.run(time.Second)
	sent := len(published[msgs.Twist](r, "/cmd_vel"))
	if err := r.node.recorder.close(); err != nil {
		t.Fatal(err)
	}
	reader, err := bag.Open(recording)
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range reader.Topics() {
		if topic.Name == "/cmd_vel" && topic.Count == uint64(sent) && sent > 0 {
			return
		}
	}
	t.Errorf("%d velocities were sent; the bag holds %v", sent, reader.Topics())
}
