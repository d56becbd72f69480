package control_test

import (
	"fmt"
	"math"
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
		g.Outside(next)
		g.Leaves(was, next)
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

func benchmarkOutside(b *testing.B, q []float64, change func(*control.GuardConfig)) {
	g := newGuard(b, change)
	b.ReportAllocs()
	for b.Loop() {
		g.Outside(q)
	}
}

func BenchmarkOutside(b *testing.B) { benchmarkOutside(b, both(), nil) }

// What an Executor asks twice at each tick.
func BenchmarkLeaves(b *testing.B) {
	g := newGuard(b, nil)
	was, next := both(), both()
	next[1] += 0.01
	b.ReportAllocs()
	for b.Loop() {
		g.Leaves(was, next)
	}
}

// The arms close together, where bounds cut little short, and boxes around.
func BenchmarkOutsideCrowded(b *testing.B) {
	q := both()
	q[0], q[7] = -0.5, 0.5
	benchmarkOutside(b, q, func(c *control.GuardConfig) {
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

// An Executor with the guard comes to rest above the table, and the arm may go up
// again after Enable. One that is asked about the next pose only brakes beyond it.
func TestExecutorStopsAtTheTable(t *testing.T) {
	for name, ahead := range map[string]bool{"the next pose": false, "the next pose and its rest": true} {
		g := newGuard(t, nil)
		layout := twoArms(t)
		cfg := control.DefaultConfig(layout)
		if ahead {
			cfg.Guard = newGuard(t, nil)
		} else {
			cfg.Workspace = newGuard(t, nil).Outside
		}
		e, err := control.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Unix(1_700_000_000, 0)
		measured := both()
		run := func(seconds float64) (c control.Command) {
			for range int(seconds * cfg.CommandRate) {
				now = now.Add(e.Period())
				for a := range layout {
					if err := e.Feedback(a, measured[7*a:7*a+7], now, now); err != nil {
						t.Fatal(err)
					}
				}
				e.Observed(now, now)
				if command, sent := e.Tick(now); sent {
					c = command
					copy(measured, c.Positions)
				}
			}
			return c
		}
		give := func(dq float64) {
			trajectory := control.Trajectory{Stamp: now, Rate: 20, Epoch: e.Epoch()}
			for k := range 40 {
				q := slices.Clone(measured)
				q[1] += dq * float64(k+1) // joint2 leans the arm forward and down
				trajectory.Values = append(trajectory.Values, q...)
			}
			if code := e.Replace(trajectory, now); code != control.OK {
				t.Fatalf("%s: chunk: %v", name, code)
			}
		}
		enable := func() {
			run(0.1)
			if err := e.Enable(now); err != nil {
				t.Fatal(err)
			}
			run(0.1)
		}
		enable()
		give(0.05)
		c := run(2)
		table := of(t, g.Clearances(measured, nil), "table")[0]
		t.Logf("asked about %s: %v, at rest %.1f mm above the table", name, c.Code, 1e3*table.Distance)
		if c.Code != control.OutsideWorkspace || (table.Distance >= 0) != ahead || math.Abs(table.Distance) > 0.1 {
			t.Errorf("%s: %v at %+v", name, c.Code, table)
		}
		enable()
		give(-0.02)
		c = run(1)
		if after := of(t, g.Clearances(measured, nil), "table")[0]; c.Code != control.OK || after.Distance < table.Distance+0.05 {
			t.Errorf("%s: on the way up: %v at %+v", name, c.Code, after)
		}
	}
}
