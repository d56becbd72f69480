package node

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/urdf"
)

func TestCommandsHaveExactlyTheDriversForm(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(time.Second)
	for a := range arms {
		all := r.commands(a)
		if len(all) != 50 {
			t.Fatalf("%s arm: %d commands in a second, want 50", arms[a], len(all))
		}
		for i, m := range all {
			if !slices.Equal(m.Name, []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"}) {
				t.Fatalf("names %q", m.Name)
			}
			if len(m.Position) != armJoints || len(m.Velocity) != 0 || len(m.Effort) != 0 {
				t.Fatalf("%d positions, %d velocities, %d efforts", len(m.Position), len(m.Velocity), len(m.Effort))
			}
			if i > 0 && m.Header.Stamp.Time().Sub(all[i-1].Header.Stamp.Time()) != 20*time.Millisecond {
				t.Fatalf("command %d is stamped %v after %v", i, m.Header.Stamp.Time(), all[i-1].Header.Stamp.Time())
			}
		}
	}
}

// Drivers that go by name move a joint that they miss to zero, so that the names
// are those of the driver, all seven in each command, and nothing else changes.
func TestCommandsNameTheJointsAsTheDriverDoes(t *testing.T) {
	positions := map[string][]float64{}
	for names, last := range map[string]string{"joint1..6,gripper": "gripper", "joint1..7": "joint7"} {
		r := newRig(t, given("command.joint_names", param.String(names)))
		r.enable()
		r.run(200 * time.Millisecond)
		for a := range arms {
			all := r.commands(a)
			if len(all) == 0 {
				t.Fatal("no command")
			}
			for _, m := range all {
				if !slices.Equal(m.Name, []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6", last}) {
					t.Fatalf("%s: names %q", names, m.Name)
				}
				positions[names] = append(positions[names], m.Position...)
			}
		}
	}
	if !slices.Equal(positions["joint1..7"], positions["joint1..6,gripper"]) {
		t.Error("the names change the positions")
	}
	if _, err := startRig(t, testbundle.Dir(t), given("command.joint_names", param.String("joint0..6"))); err == nil || !strings.Contains(err.Error(), "joint1..7") {
		t.Errorf("names that no driver knows: %v", err)
	}
}

// The drivers read velocity[6] as a speed in percent and effort[6] as a force.
func TestSpeedAndGripperEffortGoIntoTheSeventhEntryOnly(t *testing.T) {
	r := newRig(t, given("command.speed_percent", param.Double(30)), given("command.gripper_effort", param.Double(1.5)))
	r.enable()
	r.run(100 * time.Millisecond)
	all := r.commands(1)
	if len(all) == 0 {
		t.Fatal("no command")
	}
	for _, m := range all {
		if !slices.Equal(m.Velocity, []float64{0, 0, 0, 0, 0, 0, 30}) || !slices.Equal(m.Effort, []float64{0, 0, 0, 0, 0, 0, 1.5}) {
			t.Fatalf("velocity %v, effort %v", m.Velocity, m.Effort)
		}
	}
}

func TestCommandsStayWithinTheDescriptionsLimits(t *testing.T) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t)
	r.enable()
	start := [2][]float64{slices.Clone(r.pose[0]), slices.Clone(r.pose[1])}
	r.run(2 * time.Second)
	moved := 0.0
	for a, prefix := range []string{"fl_", "fr_"} {
		before := start[a]
		for _, m := range r.commands(a) {
			for j, p := range m.Position {
				lower, upper, speed := 0.0, 0.07, 0.1
				if j < armJoints-1 {
					joint, err := robot.Joint(prefix + m.Name[j])
					if err != nil {
						t.Fatal(err)
					}
					lower, upper, speed = joint.Lower, joint.Upper, min(1, joint.Velocity)
				}
				step := math.Abs(p - before[j])
				if p < lower || p > upper || step > speed*0.02+1e-9 {
					t.Fatalf("%s %s: %v after %v; limits %v to %v, %v per second", arms[a], m.Name[j], p, before[j], lower, upper, speed)
				}
				moved += step
			}
			before = m.Position
		}
	}
	if moved == 0 {
		t.Error("the arms did not move")
	}
}

func TestNothingIsSentBeforeEnable(t *testing.T) {
	r := newRig(t)
	r.run(time.Second)
	if n := len(r.commands(0)) + len(r.commands(1)); n != 0 {
		t.Errorf("%d commands", n)
	}
	if n := len(r.chunks()); n < 9 || n > 10 {
		t.Errorf("%d chunks for observers in a second, want 9 or 10", n)
	}
	if m := r.status("safety").Message; m != "disabled; call ~/enable" {
		t.Errorf("arms say %q", m)
	}
}

func TestStartEnabledWaitsForJointStates(t *testing.T) {
	r := newRig(t, given("start_enabled", param.Bool(true)))
	silent := true
	r.joints = func(int, *msgs.JointState) bool { return !silent }
	r.run(200 * time.Millisecond)
	if n := len(r.commands(0)); n != 0 {
		t.Fatalf("%d commands without joint states", n)
	}
	silent = false
	r.run(500 * time.Millisecond)
	if n := len(r.commands(0)); n < 20 {
		t.Errorf("%d commands", n)
	}
	// Once is enough: what an operator stopped stays stopped.
	r.node.executor.Estop(r.now)
	r.run(500 * time.Millisecond)
	if m := r.node.executor.Status().Mode; m != control.Estopped {
		t.Errorf("the arms are %v", m)
	}
}

func TestChunkTellsObserversWhatAndWhen(t *testing.T) {
	r := newRig(t)
	// Every camera has its own delay; the chunk's stamp is the oldest picture's.
	delay := map[string]time.Duration{"head": 0, "wrist_left": 30 * time.Millisecond, "wrist_right": 10 * time.Millisecond}
	var stamps []time.Time
	r.picture = func(camera string, m *msgs.Image) bool {
		m.Header.Stamp = msgs.TimeOf(r.now.Add(-delay[camera]))
		if camera == "wrist_left" {
			stamps = append(stamps, r.now.Add(-delay[camera]))
		}
		return true
	}
	r.run(500 * time.Millisecond)
	chunks := r.chunks()
	if len(chunks) != len(stamps) {
		t.Fatalf("%d chunks of %d sets of pictures", len(chunks), len(stamps))
	}
	dims := r.node.policy.Manifest().Action.Dims
	for i, m := range chunks {
		if !m.Header.Stamp.Time().Equal(stamps[i]) {
			t.Errorf("chunk %d is stamped %v, its oldest picture %v", i, m.Header.Stamp.Time(), stamps[i])
		}
		if len(m.JointNames) != 14 || len(m.Points) != 8 {
			t.Fatalf("%d names, %d points", len(m.JointNames), len(m.Points))
		}
		for d := range dims {
			if m.JointNames[d] != dims[d].Name {
				t.Errorf("name %d is %q, want %q", d, m.JointNames[d], dims[d].Name)
			}
		}
		for k, p := range m.Points {
			if want := msgs.DurationOf(time.Duration(k+1) * 50 * time.Millisecond); p.TimeFromStart != want || len(p.Positions) != 14 {
				t.Errorf("point %d: %d positions, due after %v, want %v", k, len(p.Positions), p.TimeFromStart, want)
			}
		}
	}
}

func TestDisableBringsTheArmsToRestAndThenSendsNothing(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(time.Second)
	if out := r.trigger("/ddvla/disable"); !out.Success {
		t.Fatal(out.Message)
	}
	r.run(2 * time.Second)
	all := r.commands(0)
	last, before := all[len(all)-1], all[len(all)-2]
	if !slices.Equal(last.Position, before.Position) {
		t.Errorf("the last command still moves: %v after %v", last.Position, before.Position)
	}
	if quiet := r.now.Sub(last.Header.Stamp.Time()); quiet < 500*time.Millisecond {
		t.Errorf("commands until %v before the end", quiet)
	}
	if m := r.node.executor.Status().Mode; m != control.Disabled {
		t.Errorf("the arms are %v", m)
	}
}

func TestEstopLatchesUntilEnable(t *testing.T) {
	for name, stop := range map[string]func(*rig){
		"service": func(r *rig) { r.trigger("/ddvla/estop") },
		"topic": func(r *rig) {
			r.feed("/ddvla/estop", &msgs.Bool{Data: false}) // a released button says nothing
			if m := r.node.executor.Status().Code; m == control.Estop {
				r.t.Error("stopped by false")
			}
			r.feed("/ddvla/estop", &msgs.Bool{Data: true})
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.enable()
			r.run(time.Second)
			stop(r)
			r.run(time.Second)
			before := slices.Clone(r.pose[0])
			r.instruct("reach the blue cube")
			r.run(time.Second)
			if !slices.Equal(r.pose[0], before) {
				t.Errorf("moved to %v from %v", r.pose[0], before)
			}
			s := r.status("safety")
			if s.Level != msgs.DiagnosticError || statusValue(s, "mode") != "estopped" {
				t.Errorf("arms: level %d, %s", s.Level, statusValue(s, "mode"))
			}
			if n := len(r.logged(control.Estop.Sentence())); n != 1 {
				t.Errorf("told %d times", n)
			}
			if out := r.trigger("/ddvla/enable"); !out.Success {
				t.Fatal(out.Message)
			}
			r.run(500 * time.Millisecond)
			if m := r.node.executor.Status().Mode; m != control.Moving {
				t.Errorf("after enable the arms are %v", m)
			}
		})
	}
}

func TestEnableIsRefusedWithoutJointStates(t *testing.T) {
	r := newRig(t)
	r.joints = func(arm int, _ *msgs.JointState) bool { return arm == 0 }
	r.run(100 * time.Millisecond)
	out := r.trigger("/ddvla/enable")
	if missing, ok := contains(out.Message, `arm "right"`, "no joint feedback", "driver"); out.Success || !ok {
		t.Errorf("answered %v %q, which lacks %q", out.Success, out.Message, missing)
	}
	r.run(time.Second)
	if n := len(r.commands(0)) + len(r.commands(1)); n != 0 {
		t.Errorf("%d commands", n)
	}
}

func TestResetHaltsUntilTheNextChunk(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(time.Second)
	taken := r.node.executor.Status().Counters.Chunks
	if out := r.trigger("/ddvla/reset"); !out.Success {
		t.Fatal(out.Message)
	}
	if s := r.node.executor.Status(); s.Code != control.Flushed {
		t.Errorf("after reset: %v", s.Code)
	}
	r.run(500 * time.Millisecond)
	if s := r.node.executor.Status(); s.Mode != control.Moving || s.Counters.Chunks <= taken {
		t.Errorf("half a second later the arms are %v after %d chunks", s.Mode, s.Counters.Chunks)
	}
}

// deaf is a publisher that nobody hears.
type deaf struct{ ros.Publisher }

func (deaf) Publish([]byte) error { return nil }

func TestTickAndSendDoNotAllocate(t *testing.T) {
	busNode, err := local.NewBus().Node(ros.Options{Name: "ddvla"})
	if err != nil {
		t.Fatal(err)
	}
	defer busNode.Close()
	local, err := busNode.Advertise("/master/joint_left", "sensor_msgs/msg/JointState", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	for name, publisher := range map[string]ros.Publisher{"nobody": deaf{}, "local bus": local} {
		t.Run(name, func(t *testing.T) {
			n, tick := movingNode(t, publisher)
			if allocs := testing.AllocsPerRun(200, tick); allocs != 0 {
				t.Errorf("%v allocations per tick", allocs)
			}
			if m := n.executor.Status().Mode; m != control.Moving {
				t.Errorf("the arms are %v", m)
			}
		})
	}
}

// movingNode is the part of a node that acts, with arms that are always moving;
// tick is what happens once per period.
func movingNode(t testing.TB, publisher ros.Publisher) (n *Node, tick func()) {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	layout, err := limits(robot, 1, 4, 50, 0.07, control.GripperRule{})
	if err != nil {
		t.Fatal(err)
	}
	n = &Node{targets: [2]ros.Publisher{publisher, publisher}}
	if n.executor, err = control.New(control.DefaultConfig(layout)); err != nil {
		t.Fatal(err)
	}
	n.act.init(Settings{SpeedPercent: 50, GripperEffort: 1})
	now := time.Unix(1000, 0)
	pose := make([]float64, armJoints)
	feel := func() {
		n.executor.Observed(now, now)
		for a := range arms {
			copy(pose, n.act.messages[a].Position)
			if err := n.executor.Feedback(a, pose, now, now); err != nil {
				t.Fatal(err)
			}
		}
	}
	feel()
	if err := n.executor.Enable(now); err != nil {
		t.Fatal(err)
	}
	// Joint 1 swings slowly.
	const rows = 1 << 9
	values := make([]float64, rows*2*armJoints)
	for k := range rows {
		values[k*2*armJoints] = 0.5 * math.Sin(float64(k)/20)
	}
	plan := func() {
		code := n.executor.Replace(control.Trajectory{Stamp: now, Rate: 20, Epoch: n.executor.Epoch(), Values: values}, now)
		if code.Drops() {
			t.Fatal(code)
		}
	}
	plan()
	end := now.Add(rows * 45 * time.Millisecond)
	return n, func() {
		now = now.Add(20 * time.Millisecond)
		feel()
		if now.After(end) {
			plan()
			end = now.Add(rows * 45 * time.Millisecond)
		}
		c, ok := n.executor.Tick(now)
		if !ok {
			t.Fatal("nothing to send")
		}
		n.send(c)
	}
}
