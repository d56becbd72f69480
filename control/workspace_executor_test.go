package control_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/urdf"
)

func TestGuardAllocatesNothing(t *testing.T) {
	g := newGuard(t, func(c *control.GuardConfig) {
		c.Boxes = []control.Box{{Name: "post", Pose: urdf.Identity(), Half: [3]float64{0.1, 0.1, 1}}}
	})
	was, next := both(), both()
	next[1] = 2.4
	g.Leaves(was, next)
	if n := testing.AllocsPerRun(50, func() {
		g.Leaves(was, next)
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func benchmarkLeaves(b *testing.B, was []float64, change func(*control.GuardConfig)) {
	g := newGuard(b, change)
	next := slices.Clone(was)
	next[1] += 0.01
	b.ReportAllocs()
	for b.Loop() {
		g.Leaves(was, next)
	}
}

// What an Executor asks twice at each tick.
func BenchmarkLeaves(b *testing.B) { benchmarkLeaves(b, both(), nil) }

// The arms close together, where bounds cut little short, and boxes around.
func BenchmarkLeavesCrowded(b *testing.B) {
	q := both()
	q[0], q[7] = -0.5, 0.5
	benchmarkLeaves(b, q, func(c *control.GuardConfig) {
		c.Boxes = []control.Box{
			{Name: "post", Pose: urdf.FromRPY([3]float64{0.2, 0, 1}, [3]float64{}), Half: [3]float64{0.05, 0.05, 0.5}},
			{Name: "body", Pose: urdf.FromRPY([3]float64{-0.1, 0, 0.4}, [3]float64{}), Half: [3]float64{0.3, 0.3, 0.35}},
		}
	})
}

func ExampleGuard() {
	robot, err := urdf.CobotMagic()
	if err != nil {
		panic(err)
	}
	layout := control.Layout{}
	for _, side := range [][2]string{{"left", "fl_joint"}, {"right", "fr_joint"}} {
		arm := control.Arm{Name: side[0]}
		for i := 1; i <= 6; i++ {
			j, err := robot.Joint(fmt.Sprint(side[1], i))
			if err != nil {
				panic(err)
			}
			arm.Joints = append(arm.Joints, control.Joint{Name: fmt.Sprint("joint", i), Limits: control.RevoluteLimits(j.Lower, j.Upper)})
		}
		arm.Joints = append(arm.Joints, control.Joint{Name: "gripper", Gripper: true, Limits: control.GripperLimits(0.07)})
		layout = append(layout, arm)
	}
	cfg := control.DefaultGuardConfig(robot, layout)
	for _, side := range []string{"fl_", "fr_"} {
		mount, err := control.MountOf(robot, side+"base_link") // or as measured on the robot
		if err != nil {
			panic(err)
		}
		cfg.Arms = append(cfg.Arms, control.ArmMount{
			Base: side + "base_link", Tool: side + "tool0", Mount: mount,
			Regions: []control.Region{{Min: [3]float64{0.2, -0.6, 0.72}, Max: [3]float64{0.9, 0.6, 1.3}}},
		})
	}
	cfg.Planes = []control.Plane{{Name: "table", Normal: [3]float64{0, 0, 1}, Offset: 0.72}}
	guard, err := control.NewGuard(cfg)
	if err != nil {
		panic(err)
	}
	executor := control.DefaultConfig(layout)
	executor.Guard = guard

	now := []float64{0, 1.35, -1.15, 0, 1.1, 0, 0.06, 0, 1.35, -1.15, 0, 1.1, 0, 0.06}
	next := append([]float64(nil), now...)
	next[1] = 2.2 // the left arm bends down
	if worst, leaves := guard.Leaves(now, next); leaves {
		fmt.Printf("%s would be %.0f mm from %s\n", worst.A, 1e3*worst.Distance, worst.B)
	}
	// Output: fl_link8 would be -21 mm from table
}

// guarded is an Executor of both arms with the guard and a table, in simulated time.
type guarded struct {
	t        *testing.T
	e        *control.Executor
	table    *control.Guard // apart from the Executor's own
	now      time.Time
	measured []float64
}

func newGuarded(t *testing.T, pose []float64) *guarded {
	t.Helper()
	cfg := control.DefaultConfig(twoArms(t))
	cfg.Guard = newGuard(t, nil)
	e, err := control.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return &guarded{t: t, e: e, table: newGuard(t, nil), now: time.Unix(1_700_000_000, 0), measured: slices.Clone(pose)}
}

// run lets the arms follow their commands and returns the last one.
func (r *guarded) run(seconds float64) (c control.Command) {
	r.t.Helper()
	for range int(seconds / r.e.Period().Seconds()) {
		r.now = r.now.Add(r.e.Period())
		for a := range 2 {
			if err := r.e.Feedback(a, r.measured[7*a:7*a+7], r.now, r.now); err != nil {
				r.t.Fatal(err)
			}
		}
		r.e.Observed(r.now, r.now)
		if command, sent := r.e.Tick(r.now); sent {
			c = command
			copy(r.measured, c.Positions)
		}
	}
	return c
}

func (r *guarded) enable() {
	r.t.Helper()
	r.run(0.1)
	if err := r.e.Enable(r.now); err != nil {
		r.t.Fatal(err)
	}
	r.run(0.1)
}

// lean gives a chunk in which the left arm's joint2 goes forward and down by dq a row
// of 50 ms.
func (r *guarded) lean(dq float64) {
	r.t.Helper()
	trajectory := control.Trajectory{Stamp: r.now, Rate: 20, Epoch: r.e.Epoch()}
	for k := range 40 {
		q := slices.Clone(r.measured)
		q[1] += dq * float64(k+1)
		trajectory.Values = append(trajectory.Values, q...)
	}
	if code := r.e.Replace(trajectory, r.now); code != control.OK {
		r.t.Fatalf("chunk: %v", code)
	}
}

// above returns how far the left arm is above the table, m.
func (r *guarded) above() float64 {
	return of(r.t, r.table.Clearances(r.measured, nil), "table")[0].Distance
}

// The arms come to rest above the table, and may go up again after Enable.
func TestExecutorStopsAtTheTable(t *testing.T) {
	r := newGuarded(t, both())
	r.enable()
	r.lean(0.05)
	c := r.run(2)
	height := r.above()
	t.Logf("%v, at rest %.1f mm above the table", c.Code, 1e3*height)
	if c.Code != control.OutsideWorkspace || height < 0 || height > 0.02 {
		t.Errorf("%v %v m above the table", c.Code, height)
	}
	r.enable()
	r.lean(-0.02)
	if c = r.run(1); c.Code != control.OK || r.above() < height+0.05 {
		t.Errorf("on the way up: %v %v m above the table", c.Code, r.above())
	}
}

// Arms that were enabled outside, here with the hand below the table, may go back in,
// but no further out.
func TestWorkspaceStopsOnlyOnTheWayOut(t *testing.T) {
	low := both()
	low[1] += 1
	r := newGuarded(t, low)
	if r.above() > -0.05 {
		t.Fatalf("%v m above the table, not below", r.above())
	}
	r.enable()
	r.lean(0.02)
	if c := r.run(0.5); c.Code != control.OutsideWorkspace || !slices.Equal(r.measured, low) {
		t.Errorf("on the way further down: %v, moved by %v", c.Code, r.measured[1]-low[1])
	}
	r.enable()
	r.lean(-0.02)
	if c := r.run(0.5); c.Mode != control.Moving || r.measured[1] > low[1]-0.05 {
		t.Errorf("on the way up: %v by %v, moved by %v", c.Mode, c.Code, r.measured[1]-low[1])
	}
}

func TestHomeStopsAtTheWorkspace(t *testing.T) {
	r := newGuarded(t, both())
	r.enable()
	low := both()
	low[1] += 1
	if err := r.e.Home(low, r.now); err != nil {
		t.Fatal(err)
	}
	if c := r.run(8); c.Code != control.OutsideWorkspace || c.Mode != control.Held || r.above() < 0 || r.above() > 0.02 {
		t.Errorf("%v by %v, %v m above the table", c.Mode, c.Code, r.above())
	}
}

// Arms that begin outside their position limits are not driven into the table either: the
// guard foresees them at rest where they will be, not where the limits are. Of 3,000
// random ways home these are the ones that tell.
func TestHomeFromOutsideTheLimitsStopsAtTheTable(t *testing.T) {
	for _, way := range [][2][6]float64{
		{{-1.44341675, 0.83635283, 0.28784956, 0.94959807, -0.13563037, -1.42466714}, {-1.80183706, 2.57955112, -0.10928613, 0.17131507, 0.02680527, -1.52572322}},
		{{0.97476931, 2.22214767, -1.44877662, -2.12843205, -0.22388561, 0.91408717}, {2.41071228, 2.89695246, -1.42089130, -0.71601405, -0.38615143, 1.37155997}},
		{{-0.01143792, 3.34103212, -0.13247809, 0.42388389, 0.67891869, -1.71407552}, {0.84832606, 1.96805006, -2.22577339, 0.82767959, 1.00746175, 0.44666746}},
		{{-0.44192102, 2.91840322, -2.95060219, 0.10675455, 1.63868634, -0.43917769}, {-0.81867328, 2.61528939, -1.29521614, -1.64100990, -0.39816814, -1.48435545}},
		{{-0.06943390, 2.33825031, -1.47019033, -1.98371404, -0.72006059, 0.46697240}, {-2.47365057, 3.08846261, -0.91811140, -1.27683682, -1.03658233, 2.02067855}},
	} {
		outside, low := both(), both()
		copy(outside, way[0][:])
		copy(low, way[1][:])
		r := newGuarded(t, outside)
		r.enable()
		if err := r.e.Home(low, r.now); err != nil {
			t.Fatal(err)
		}
		if c := r.run(2); c.Code != control.OutsideWorkspace || r.above() < -1e-4 {
			t.Errorf("from %v: %v, at rest %.1f mm above the table", way[0], c.Code, 1e3*r.above())
		}
	}
}
