package node

import (
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/urdf"
)

// fastest returns the largest speed of a joint between two commands of an arm, per
// second, grippers apart.
func fastest(commands []msgs.JointState) float64 {
	speed := 0.0
	for i := 1; i < len(commands); i++ {
		dt := commands[i].Header.Stamp.Time().Sub(commands[i-1].Header.Stamp.Time()).Seconds()
		for j := range armJoints - 1 {
			speed = max(speed, math.Abs(commands[i].Position[j]-commands[i-1].Position[j])/dt)
		}
	}
	return speed
}

func TestHomeGoesSlowlyToTheStartPoseAndStaysThere(t *testing.T) {
	home := [2][]float64{{0.1, 0.6, -0.8, 0.05, 0.3, 0.1, 0.05}, {-0.1, 0.5, -0.7, 0, 0.2, 0, 0.02}}
	r := newRig(t, given("home.left", param.Doubles(home[0]...)), given("home.right", param.Doubles(home[1]...)))
	if reply := r.trigger("/ddvla/home"); reply.Success || !strings.Contains(reply.Message, "enable") {
		t.Errorf("disabled arms went home: %+v", reply)
	}
	if got := r.node.observer.current(); got == "" {
		t.Error("a home that is refused forgets the instruction")
	}
	r.enable()
	r.run(time.Second)
	before := len(r.commands(0))
	if reply := r.trigger("/ddvla/home"); !reply.Success {
		t.Fatal(reply.Message)
	}
	r.run(8 * time.Second)
	for a := range arms {
		if got := r.pose[a]; !near(got, home[a], 1e-6) {
			t.Errorf("%s arm is at %v, want %v", arms[a], got, home[a])
		}
	}
	// 0.3 of the limit of 1 rad/s, once what was going on has halted.
	if v := fastest(r.commands(0)[before+50:]); v > 0.31 {
		t.Errorf("it went home at %v rad/s", v)
	}
	r.run(2 * time.Second)
	if got := r.node.observer.current(); got != "" || !near(r.pose[0], home[0], 1e-6) {
		t.Errorf("the arms set out again, for %q", got)
	}
	r.instruct("reach the red cube")
	r.run(time.Second)
	if r.node.executor.Status().Mode != control.Moving {
		t.Errorf("after another instruction the arms are %s", r.node.executor.Status().Mode)
	}
}

// Without parameters it is where the statistics say that tasks begin, or amid the states
// that the checkpoint was trained with.
func TestStartPoseOfTheStatistics(t *testing.T) {
	r := newRig(t)
	pose, err := r.node.startPose(r.node.policy.Manifest())
	if err != nil {
		t.Fatal(err)
	}
	var middle, start []float64 // this bundle's states are in the robot's order
	dir := testbundle.Statistics(t, func(part string, columns map[string][]float64) {
		if part == "proprio" {
			for i, low := range columns["q01"] {
				middle = append(middle, (low+columns["q99"][i])/2)
				start = append(start, low)
			}
			columns["start"] = start
		}
	})
	if !near(pose, middle, 1e-8) || len(pose) != 14 {
		t.Errorf("%v, want %v", pose, middle)
	}
	if r, err = startRig(t, dir); err != nil {
		t.Fatal(err)
	}
	if pose, err = r.node.startPose(r.node.policy.Manifest()); err != nil || !near(pose, start, 0) {
		t.Errorf("%v, %v, want %v", pose, err, start)
	}
	if _, _, _, err := settings(parameters(testbundle.Dir(t), []param.Assignment{given("home.left", param.Doubles(1, 2))})...); err == nil || !strings.Contains(err.Error(), "home.left") {
		t.Errorf("a pose of two values: %v", err)
	}
}

func near(a, b []float64, tolerance float64) bool {
	return slices.EqualFunc(a, b, func(x, y float64) bool { return math.Abs(x-y) <= tolerance })
}

// What will have been executed when the chunk is ready is given to the decoder, and
// comes back as it was, to half a bin; the rest is the policy's.
func TestInfillGivesTheDecoderWhatTheArmsAreCommittedTo(t *testing.T) {
	r := newRig(t, given("motion.hand_over", param.String("infill")))
	r.enable()
	r.run(time.Second)
	if r.node.executor.Status().Mode != control.Moving {
		t.Fatal("the arms do not move")
	}
	if got := r.node.infill.latency(); got != 0 {
		t.Errorf("on a recording chunks take %v", got)
	}
	r.node.infill.latency = func() time.Duration { return 110 * time.Millisecond }
	r.run(200 * time.Millisecond)
	f := &r.node.infill
	c := f.commitment
	if c.Frozen == 0 || c.Soft == 0 {
		t.Fatalf("%d rows are frozen and %d soft", c.Frozen, c.Soft)
	}
	o := &r.node.think.Observation
	if o.Known == nil {
		t.Fatal("the decoder was given nothing")
	}
	chunks := r.chunks()
	last := chunks[len(chunks)-1]
	codec := r.node.policy.Codec()
	for row := range c.Frozen {
		for j := range 14 {
			known := o.Known[row*14+j]
			if known < 0 {
				continue // beyond what bins say
			}
			bin := codec.Bins(j).Width(int(known)) / 2 * codec.Span(j)
			if d := math.Abs(last.Points[row].Positions[j] - c.Values[row*14+j]); d > bin+1e-9 {
				t.Errorf("row %d, joint %d: the chunk is %v off what the arms are committed to, half a bin is %v", row, j, d, bin)
			}
		}
	}
	for row := c.Frozen; row < 8; row++ {
		for j := range 14 {
			i := row*14 + j
			if o.Known[i] >= 0 || row == 7 && o.Initial[i] >= 0 {
				t.Errorf("row %d, joint %d: known %d, initial %d", row, j, o.Known[i], o.Initial[i])
			}
			if o.Initial[i] >= 0 && float64(o.InitialConfidence[i]) != float64(float32(c.Confidence[row])) {
				t.Errorf("row %d: confidence %v, want %v", row, o.InitialConfidence[i], c.Confidence[row])
			}
		}
	}
	// Arms that stand are committed to nothing.
	r.trigger("/ddvla/disable")
	r.run(2 * time.Second)
	if o.Known != nil {
		t.Error("arms that stand are committed to something")
	}
}

func TestDriverThatTakesNoCommandsStopsTheArms(t *testing.T) {
	status := func(r *rig, arm int, m msgs.PiperStatusMsg) { r.feed("/puppet/arm_status_"+arms[arm], &m) }
	for name, c := range map[string]struct {
		m    msgs.PiperStatusMsg
		code control.Code
		says string
	}{
		"can":       {msgs.PiperStatusMsg{CtrlMode: 1}, control.OK, "normal"},
		"standby":   {msgs.PiperStatusMsg{CtrlMode: 0}, control.OK, "normal"},
		"teach":     {msgs.PiperStatusMsg{CtrlMode: 2}, control.DriverFault, "teach mode"},
		"collision": {msgs.PiperStatusMsg{CtrlMode: 1, ArmStatus: 7}, control.DriverFault, "collision"},
		"unknown":   {msgs.PiperStatusMsg{CtrlMode: 1, ArmStatus: 200}, control.DriverFault, "arm status 200"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			r.enable()
			r.run(500 * time.Millisecond)
			status(r, 1, c.m)
			r.run(200 * time.Millisecond)
			if got := r.node.executor.Status().Code; got != c.code {
				t.Errorf("code %s, want %s", got, c.code)
			}
			if got := statusValue(r.status("safety"), "right.driver"); got != c.says {
				t.Errorf("diagnostics say %q, want %q", got, c.says)
			}
			if c.code == control.OK {
				return
			}
			r.run(2 * time.Second)
			if reply := r.trigger("/ddvla/enable"); reply.Success || !strings.Contains(reply.Message, "right") {
				t.Errorf("enabled all the same: %+v", reply)
			}
		})
	}
	r := newRig(t)
	r.enable()
	status(r, 0, msgs.PiperStatusMsg{CtrlMode: 1})
	r.run(3 * time.Second) // and then nothing
	if got := r.node.executor.Status().Code; got != control.DriverStale {
		t.Errorf("a driver that fell silent: code %s", got)
	}
}

func TestDeadman(t *testing.T) {
	r := newRig(t, given("deadman.topic", param.String("/deadman")), given("deadman.timeout", param.Double(0.3)))
	held := true
	r.joints = func(int, *msgs.JointState) bool {
		if held {
			r.feed("/deadman", &msgs.Bool{Data: true})
		} else {
			r.feed("/deadman", &msgs.Bool{Data: false})
		}
		return true
	}
	r.enable()
	r.run(time.Second)
	if m := r.node.executor.Status().Mode; m != control.Moving {
		t.Fatalf("with the deadman held the arms are %s", m)
	}
	held = false
	r.run(2 * time.Second)
	if s := r.node.executor.Status(); s.Mode != control.Holding || s.Code != control.DeadmanReleased {
		t.Errorf("released: %s, %s", s.Mode, s.Code)
	}
	held = true
	r.run(time.Second)
	if m := r.node.executor.Status().Mode; m != control.Moving {
		t.Errorf("held again the arms are %s", m)
	}
}

func TestDryRunDoesEverythingButSend(t *testing.T) {
	r := newRig(t, given("dry_run", param.Bool(true)))
	r.enable()
	r.run(time.Second)
	if n := len(r.commands(0)) + len(r.commands(1)); n != 0 {
		t.Errorf("%d commands were sent", n)
	}
	if s := r.node.executor.Status(); s.Mode != control.Moving || s.Counters.ByCode[control.DryRun] < 40 || len(r.chunks()) == 0 {
		t.Errorf("%s, %d commands dry, %d chunks", s.Mode, s.Counters.ByCode[control.DryRun], len(r.chunks()))
	}
}

func TestSpeedScaleSlowsTheMotion(t *testing.T) {
	speed := map[float64]float64{}
	for _, scale := range []float64{1, 0.2} {
		r := newRig(t, given("motion.speed_scale", param.Double(scale)), given("limits.velocity", param.Double(0.5)))
		r.enable()
		r.run(2 * time.Second)
		speed[scale] = fastest(r.commands(0))
	}
	if !(speed[1] > 0.05) || speed[0.2] > 0.5*speed[1] || speed[0.2] > 0.5*0.2*1.001 {
		t.Errorf("at 1 the arm goes %v rad/s, at 0.2 %v", speed[1], speed[0.2])
	}
}

func TestNewInstructionMayBlend(t *testing.T) {
	for rule, want := range map[string]control.Mode{"halt": control.Stopping, "blend": control.Moving} {
		r := newRig(t, given("motion.on_instruction", param.String(rule)))
		r.enable()
		r.run(500 * time.Millisecond)
		r.instruct("reach the blue cube")
		if got := r.node.executor.Status().Mode; got != want {
			t.Errorf("%s: the arms are %s, want %s", rule, got, want)
		}
		if rule == "blend" {
			r.run(300 * time.Millisecond)
			if got := r.node.executor.Status().Mode; got != control.Moving {
				t.Errorf("and then %s", got)
			}
		}
	}
}

// A driver in other units is told and understood in them.
func TestGripperInTheDriversUnits(t *testing.T) {
	const scale, offset = -1 / 0.07, 1 // 1 is closed, 0 open
	r := newRig(t, given("gripper.driver_scale", param.Double(scale)), given("gripper.driver_offset", param.Double(offset)))
	metres := []float64{0.03, 0.01}
	for a := range r.pose {
		r.pose[a][6] = scale*metres[a] + offset
	}
	r.enable()
	r.run(40 * time.Millisecond)
	for a := range arms {
		state, _ := r.node.observer.joints[a].at(r.now)
		if got := state.positions[6]; math.Abs(got-metres[a]) > 1e-3 { // it may have moved a little
			t.Errorf("%s: understood as %v m, is %v m", arms[a], got, metres[a])
		}
		first := r.commands(a)[0].Position[6]
		if want := scale*metres[a] + offset; math.Abs(first-want) > 1e-9 {
			t.Errorf("%s: the first command is %v, want %v", arms[a], first, want)
		}
	}
	r.run(time.Second)
	for a := range arms {
		for _, c := range r.commands(a) {
			if g := c.Position[6]; g < 0-1e-9 || g > 1+1e-9 {
				t.Fatalf("%s: the gripper is told %v, beyond 0..1", arms[a], g)
			}
		}
	}
}

// For ros2_control: positions and velocities, the last at rest, and no JointState.
func TestTrajectoriesForRos2Control(t *testing.T) {
	names := []string{"left_joint1", "left_joint2", "left_joint3", "left_joint4", "left_joint5", "left_joint6"}
	r := newRig(t, given("command.output", param.String("joint_trajectory")), given("arms.left.trajectory_joints", param.Strings(names...)))
	// The controller is there at once: it follows the first point.
	follow := func() {
		for a := range arms {
			all := published[msgs.JointTrajectory](r, "/ddvla/"+arms[a]+"/joint_trajectory")
			if len(all) > 0 {
				copy(r.pose[a], all[len(all)-1].Points[0].Positions)
			}
		}
	}
	r.enable()
	for range 50 {
		r.run(20 * time.Millisecond)
		follow()
	}
	if n := len(r.commands(0)) + len(r.commands(1)); n != 0 {
		t.Errorf("%d joint states were sent besides", n)
	}
	moved := false
	for a, joints := range []int{6, 7} {
		all := published[msgs.JointTrajectory](r, "/ddvla/"+arms[a]+"/joint_trajectory")
		if len(all) != 50 {
			t.Fatalf("%s: %d trajectories in a second, want 50", arms[a], len(all))
		}
		for _, m := range all {
			if m.Header.Stamp != (msgs.Time{}) || len(m.JointNames) != joints || a == 0 && !slices.Equal(m.JointNames, names) {
				t.Fatalf("%s: stamp %v, joints %q", arms[a], m.Header.Stamp, m.JointNames)
			}
			before := time.Duration(0)
			for i, p := range m.Points {
				at := time.Duration(p.TimeFromStart.Sec)*time.Second + time.Duration(p.TimeFromStart.Nanosec)
				if at <= before || at > 300*time.Millisecond || len(p.Positions) != joints || len(p.Velocities) != joints {
					t.Fatalf("%s: point %d after %v, the one before after %v; %d positions, %d velocities", arms[a], i, at, before, len(p.Positions), len(p.Velocities))
				}
				before = at
			}
			last := m.Points[len(m.Points)-1]
			for j, v := range last.Velocities {
				if v != 0 {
					t.Fatalf("%s: the last point moves joint %d at %v", arms[a], j, v)
				}
			}
			moved = moved || !slices.Equal(m.Points[0].Positions, last.Positions)
		}
	}
	if !moved {
		t.Error("nothing moved")
	}
	if _, _, _, err := settings(parameters(testbundle.Dir(t), []param.Assignment{
		given("command.output", param.String("joint_trajectory")), given("command.jtc_horizon", param.Double(0.1)), given("limits.velocity", param.Double(3)),
	})...); err == nil || !strings.Contains(err.Error(), "jtc_horizon") {
		t.Errorf("a horizon too short for a stop: %v", err)
	}
}

// tool makes the columns of a bundle changes of the tools' poses.
func tool(m *bundle.Manifest) {
	for i := range m.Action.Dims {
		d := &m.Action.Dims[i]
		if j := i % armJoints; j < armJoints-1 {
			d.Name, d.Space = arms[i/armJoints]+"_"+[...]string{"x", "y", "z", "roll", "pitch", "yaw"}[j], bundle.EEDelta
			d.Unit = map[bool]string{true: "m", false: "rad"}[j < 3]
		}
	}
}

// constant is a bundle whose policy says the same in every row: values, in robot
// units, as columns that change makes of them.
func constant(t *testing.T, values []float64, change func(*bundle.Manifest)) string {
	t.Helper()
	codec := newRig(t).node.policy.Codec()
	middle, err := codec.ChunkFromRegression(make([]float32, 8*len(values)))
	if err != nil {
		t.Fatal(err)
	}
	row := make([]float32, len(values))
	for i, v := range values {
		row[i] = float32((v - middle.Values[i]) / (codec.Span(i) / 2))
	}
	dir := testbundle.L1(t, row)
	m, err := bundle.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	change(m)
	if err := bundle.Write(dir, *m, slices.Collect(maps.Keys(m.Files))...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// Policies in other spaces than absolute joints move the arms, within the same
// limits: here by the same small change in every row, 20 times a second.
func TestActionSpacesReachTheArms(t *testing.T) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	left, err := robot.Chain("fl_base_link", "fl_tool0")
	if err != nil {
		t.Fatal(err)
	}
	deltas := func(m *bundle.Manifest) {
		for i := range m.Action.Dims {
			if m.Action.Dims[i].Gripper == nil {
				m.Action.Dims[i].Space = bundle.JointDelta
			}
		}
	}
	for name, c := range map[string]struct {
		change func(*bundle.Manifest)
		first  float64 // of the left arm's first column, per row; the other columns are 0
		moved  func(from, to []float64) (along, aside float64)
	}{
		"joint deltas": {deltas, 0.005, func(from, to []float64) (along, aside float64) {
			for j := 1; j < 6; j++ {
				aside = max(aside, math.Abs(to[j]-from[j]))
			}
			return to[0] - from[0], aside
		}},
		"tool deltas": {tool, 0.002, func(from, to []float64) (along, aside float64) {
			a, b := left.Forward(from[:6]), left.Forward(to[:6])
			return b.P[0] - a.P[0], max(math.Abs(b.P[1]-a.P[1]), math.Abs(b.P[2]-a.P[2]))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			values := make([]float64, 14)
			values[0], values[6], values[13] = c.first, 0.03, 0.03
			r, err := startRig(t, constant(t, values, c.change))
			if err != nil {
				t.Fatal(err)
			}
			start := slices.Clone(r.pose[0])
			other := slices.Clone(r.pose[1])
			r.enable()
			r.run(1500 * time.Millisecond)
			if s := r.node.executor.Status(); s.Mode != control.Moving {
				t.Errorf("the arms are %s, %s", s.Mode, s.Code)
			}
			if v := fastest(r.commands(0)); v > 1.001 {
				t.Errorf("the arm goes %v rad/s", v)
			}
			// 20 rows a second; it takes a while to set out.
			along, aside := c.moved(start, r.pose[0])
			if most := 30 * c.first; !(along > 0.3*most && along <= 1.01*most) || aside > 0.1*along {
				t.Errorf("in a second and a half it went %v along and %v aside, at %v a row", along, aside, c.first)
			}
			if !near(r.pose[1][:6], other[:6], 2e-3) {
				t.Errorf("the other arm went from %v to %v", other, r.pose[1])
			}
		})
	}
	dir := testbundle.Copy(t, func(m *bundle.Manifest) {
		tool(m)
		for i := range m.Action.Dims {
			if m.Action.Dims[i].Gripper == nil {
				m.Action.Dims[i].Unit = "1"
			}
		}
	})
	refused(t, dir, nil, []string{"no unit", "space.metres_per_unit"})
	refused(t, dir, nil, []string{"motion.hand_over", "infill", "absolute joints"}, given("motion.hand_over", param.String("infill")),
		given("space.metres_per_unit", param.Double(0.05)), given("space.radians_per_unit", param.Double(0.5)))
}

// A tool that is to leave its box stops the arms before it does.
func TestWorkspaceStopsTheArms(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(time.Second)
	if s := r.node.executor.Status(); s.Code != control.OK {
		t.Fatalf("anywhere: %s", s.Code)
	}
	// A box around nothing that the left tool is at: everything is further outside or not.
	r = newRig(t, given("workspace.left_boxes", param.Doubles(-5, -5, -5, 5, 5, -4)))
	r.enable()
	r.run(2 * time.Second)
	if s := r.node.executor.Status(); s.Code != control.OutsideWorkspace {
		t.Errorf("a box far below: %s", s.Code)
	}
	for name, wrong := range map[string]param.Assignment{
		"workspace.left_boxes": given("workspace.left_boxes", param.Doubles(0, 0, 0)),
		"arms.right.mount":     given("arms.right.mount", param.Doubles(1)),
	} {
		if _, _, _, err := settings(parameters(testbundle.Dir(t), []param.Assignment{wrong})...); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The gripper of a trajectory is in the driver's units too, and so is its velocity.
func TestTrajectoriesHaveTheGripperInTheDriversUnits(t *testing.T) {
	const scale, offset = 0.5, 0.01
	run := func(extra ...param.Assignment) []msgs.JointTrajectory {
		r := newRig(t, append(extra, given("command.output", param.String("joint_trajectory")))...)
		if len(extra) > 0 {
			for a := range r.pose {
				r.pose[a][6] = scale*r.pose[a][6] + offset
			}
		}
		r.enable()
		r.run(200 * time.Millisecond)
		return published[msgs.JointTrajectory](r, "/ddvla/left/joint_trajectory")
	}
	metres := run()
	driver := run(given("gripper.driver_scale", param.Double(scale)), given("gripper.driver_offset", param.Double(offset)))
	if len(metres) == 0 || len(metres) != len(driver) {
		t.Fatalf("%d and %d trajectories", len(metres), len(driver))
	}
	moved := false
	for i := range metres {
		for k, p := range metres[i].Points {
			q := driver[i].Points[k]
			if math.Abs(scale*p.Positions[6]+offset-q.Positions[6]) > 1e-9 || math.Abs(scale*p.Velocities[6]-q.Velocities[6]) > 1e-9 {
				t.Fatalf("an opening of %v m at %v m/s is told as %v at %v", p.Positions[6], p.Velocities[6], q.Positions[6], q.Velocities[6])
			}
			moved = moved || p.Velocities[6] != 0
		}
	}
	if !moved {
		t.Error("the gripper did not move")
	}
}

// A deadman that says that it is released need not fall silent too.
func TestDeadmanThatIsReleasedHaltsAtOnce(t *testing.T) {
	for name, release := range map[string]func(r *rig){
		"false":      func(r *rig) { r.feed("/deadman", &msgs.Bool{Data: false}) },
		"unreadable": func(r *rig) { _ = r.ros.Feed("/deadman", "std_msgs/msg/Bool", []byte{0, 1}, r.now) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, given("deadman.topic", param.String("/deadman")), given("deadman.timeout", param.Double(60)))
			r.feed("/deadman", &msgs.Bool{Data: true})
			r.enable()
			r.run(time.Second)
			if m := r.node.executor.Status().Mode; m != control.Moving {
				t.Fatalf("with the deadman held the arms are %s", m)
			}
			release(r)
			r.run(40 * time.Millisecond)
			if s := r.node.executor.Status(); s.Code != control.DeadmanReleased {
				t.Errorf("released: %s, %s", s.Mode, s.Code)
			}
		})
	}
}

// In lock-step inference takes no time, so that what infill gives the decoder, and with
// it the chunk, does not depend on how long the machine took.
func TestInfillInLockStepDoesNotDependOnTheMachine(t *testing.T) {
	play := func(latency time.Duration) []msgs.JointTrajectory {
		r := newRig(t, given("motion.hand_over", param.String("infill")))
		for range 200 {
			r.node.latency.add(StageChunk, latency)
		}
		r.enable()
		r.run(time.Second)
		return r.chunks()
	}
	fast, slow := play(time.Millisecond), play(110*time.Millisecond)
	if len(fast) < 5 || !slices.EqualFunc(fast, slow, func(a, b msgs.JointTrajectory) bool {
		return slices.EqualFunc(a.Points, b.Points, func(a, b msgs.JointTrajectoryPoint) bool { return slices.Equal(a.Positions, b.Positions) })
	}) {
		t.Errorf("%d chunks of a fast machine differ from %d of a slow one", len(fast), len(slow))
	}
}

// A home that is refused forgets nothing, also while arms that were stopped come to rest.
func TestHomeThatIsRefusedKeepsTheInstruction(t *testing.T) {
	r := newRig(t)
	r.enable()
	r.run(500 * time.Millisecond)
	r.trigger("/ddvla/disable")
	if m := r.node.executor.Status().Mode; m != control.Stopping {
		t.Fatalf("the arms are %s", m)
	}
	if reply := r.trigger("/ddvla/home"); reply.Success || r.node.observer.current() == "" {
		t.Errorf("%+v; the instruction is %q", reply, r.node.observer.current())
	}
}

// Every way to hand over drives the arms within their limits, and asks for chunks as
// often as it says.
func TestEveryHandOverDrivesTheArms(t *testing.T) {
	chunks := map[string]uint64{}
	for _, rule := range []string{"replace", "blend", "ensemble", "infill", "sync", "open_loop"} {
		r := newRig(t, given("motion.hand_over", param.String(rule)), given("motion.open_loop_rows", param.Int(6)))
		r.enable()
		r.run(6 * time.Second)
		s := r.node.executor.Status()
		t.Logf("%s: %d chunks, %s", rule, s.Counters.Chunks, s.Mode)
		if v := fastest(r.commands(0)); s.Counters.Chunks < 2 || v == 0 || v > 1.001 {
			t.Errorf("%s: %d chunks, %v rad/s, %s", rule, s.Counters.Chunks, v, s.Code)
		}
		chunks[rule] = s.Counters.Chunks
	}
	if chunks["sync"] >= chunks["open_loop"] || chunks["open_loop"] >= chunks["replace"] {
		t.Errorf("chunks by rule: %v; sync waits longest, then open_loop", chunks)
	}
}

func TestCommandsAt200Hz(t *testing.T) {
	r := newRig(t, given("command_rate", param.Double(200)))
	r.enable()
	r.run(time.Second)
	if n := len(r.commands(0)); n < 196 || n > 200 {
		t.Errorf("%d commands in a second", n)
	}
	if v := fastest(r.commands(0)); v == 0 || v > 1.001 {
		t.Errorf("the arm goes %v rad/s", v)
	}
}

// The drivers of AgileX tell six velocities for seven joints.
func TestJointStatesWithFewerVelocitiesThanNamesAreTaken(t *testing.T) {
	r := newRig(t)
	r.joints = func(_ int, m *msgs.JointState) bool {
		m.Velocity = make([]float64, armJoints-1)
		return true
	}
	r.enable()
	r.run(500 * time.Millisecond)
	if s := r.node.executor.Status(); s.Mode != control.Moving {
		t.Errorf("the arms are %s, %s", s.Mode, s.Code)
	}
}

// A driver closes its gripper when it is enabled: the first command leaves it where it
// is then, and does not throw it open.
func TestGripperThatItsDriverClosedStaysAsItIs(t *testing.T) {
	r := newRig(t)
	for a := range r.pose {
		r.pose[a][6] = 0.06
	}
	r.run(200 * time.Millisecond)
	for a := range r.pose {
		r.pose[a][6] = 0.0
	}
	r.enable()
	r.run(20 * time.Millisecond)
	for a := range arms {
		if got := r.commands(a)[0].Position[6]; got != 0 {
			t.Errorf("%s: the first command opens the gripper to %v", arms[a], got)
		}
	}
}

// With ros2_control the states of both arms come in one message, under its names.
func TestJointStatesOfRos2Control(t *testing.T) {
	names := func(side string) (all []string) {
		for _, n := range []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6"} {
			all = append(all, side+"_"+n)
		}
		return all
	}
	r := newRig(t, given("command.output", param.String("joint_trajectory")),
		given("arms.left.trajectory_joints", param.Strings(names("left")...)), given("arms.right.trajectory_joints", param.Strings(names("right")...)))
	r.joints = func(arm int, m *msgs.JointState) bool {
		m.Name, m.Position = append(names("right"), names("left")...), append(slices.Clone(r.pose[1][:6]), r.pose[0][:6]...)
		m.Name, m.Position = append(m.Name, "lift"), append(m.Position, 0.3)
		return true
	}
	r.enable()
	for a := range arms {
		state, ok := r.node.observer.joints[a].at(r.now)
		if !ok || !slices.Equal(state.positions[:6], r.pose[a][:6]) {
			t.Errorf("%s: understood as %v, is %v", arms[a], state.positions, r.pose[a])
		}
	}
	r.run(200 * time.Millisecond)
	if n := len(published[msgs.JointTrajectory](r, "/ddvla/left/joint_trajectory")); n == 0 {
		t.Error("nothing was sent")
	}
	all := r.joints
	r.joints = func(arm int, m *msgs.JointState) bool {
		all(arm, m)
		m.Name[7] = "left_joint9"
		return true
	}
	r.run(100 * time.Millisecond)
	if told := r.logged(`no joint "left_joint2"`); len(told) == 0 {
		t.Error("a joint that is missing was not missed")
	}
}

// A policy of one arm: the other one stays where it is commanded to be.
func TestPolicyOfOneArmHoldsTheOther(t *testing.T) {
	s := testSettings(t)
	m, err := bundle.ReadManifest(s.Policy)
	if err != nil {
		t.Fatal(err)
	}
	one := *m
	one.Action.Dims = m.Action.Dims[armJoints:] // the right arm's
	g, err := newMapping(s, &one)
	if err != nil {
		t.Fatal(err)
	}
	chunk := slices.Repeat([]float64{0.1, 0.5, -0.5, 0, 0.3, 0, 0.02}, 3)
	from, hold := slices.Repeat([]float64{0.2}, 14), slices.Repeat([]float64{0.3}, 14)
	if err := g.mapper.Convert(chunk, 20, from, hold, &g.mapped); err != nil {
		t.Fatal(err)
	}
	for row := range 3 {
		values := g.mapped.Values[row*14:]
		if !slices.Equal(values[:7], hold[:7]) || !slices.Equal(values[7:14], chunk[:7]) {
			t.Errorf("row %d: %v", row, values[:14])
		}
	}
	if columns(&one) != nil {
		t.Error("infill is for policies of both arms' joints")
	}
}
