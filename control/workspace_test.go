package control_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// tableTop is the height of the simulator's table, m.
const tableTop = 0.72

func guardConfig(t testing.TB) control.GuardConfig {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	cfg := control.DefaultGuardConfig(robot, twoArms(t))
	for _, side := range []string{"fl_", "fr_"} {
		mount, err := control.MountOf(robot, side+"base_link")
		if err != nil {
			t.Fatal(err)
		}
		cfg.Arms = append(cfg.Arms, control.ArmMount{Base: side + "base_link", Tool: side + "tool0", Mount: mount})
	}
	cfg.Planes = []control.Plane{{Name: "table", Normal: [3]float64{0, 0, 1}, Offset: tableTop}}
	return cfg
}

func newGuard(t testing.TB, change func(*control.GuardConfig)) *control.Guard {
	t.Helper()
	cfg := guardConfig(t)
	if change != nil {
		change(&cfg)
	}
	g, err := control.NewGuard(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// drawBoth draws a pose of both arms within their limits.
func drawBoth(rng *rand.Rand, layout control.Layout) []float64 {
	var q []float64
	for _, a := range layout {
		for _, j := range a.Joints {
			q = append(q, j.Limits.Lower+rng.Float64()*(j.Limits.Upper-j.Limits.Lower))
		}
	}
	return q
}

func of(t testing.TB, list []control.Clearance, b string) []control.Clearance {
	t.Helper()
	var out []control.Clearance
	for _, c := range list {
		if strings.HasPrefix(c.B, b) {
			out = append(out, c)
		}
	}
	if len(out) == 0 {
		t.Fatalf("nothing about %q in %v", b, list)
	}
	return out
}

// Where clients of this robot start (ROS clients of pi0, kai0 and openpi, the
// simulator, all zeros), nothing touches, and by more than the margins.
func TestHomePosesAreClear(t *testing.T) {
	g := newGuard(t, nil)
	for name, arm := range map[string][]float64{
		"zero":          {0, 0, 0, 0, 0, 0, 0.08},
		"simulator":     {0, 0.3, -0.6, 0, 1.1, 0, 0.02},
		"pi0 left":      {-0.001, 0.306, -0.394, 0.005, 0.514, 0.086, -0.003},
		"pi0 right":     {0.076, 0.357, -0.389, -0.071, 0.558, 0.015, -0.0025},
		"kai0":          {0, 0.32, -0.36, 0, 0.24, 0, 0.07},
		"openpi-agilex": {0.089, -0.0027, -0.0022, 0.058, 0.372, 0.0135, 0.0001},
		"working":       {0, 1.35, -1.15, 0, 1.1, 0, 0.06},
	} {
		pose := append(slices.Clone(arm), arm...)
		if out := g.Outside(pose); out != 0 {
			t.Errorf("%s: %g m outside: %+v", name, out, g.Clearances(pose, nil))
		}
	}
}

// The guard lets the simulator's expert do its work above the table, at its
// pace, from home to every cube: it does not stop what is meant to happen.
func TestGuardLetsTheExpertWork(t *testing.T) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	g := newGuard(t, func(c *control.GuardConfig) { c.Planes[0].Offset = sim.TableHeight })
	nearest := math.Inf(1)
	for seed := range uint64(50) {
		scene := sim.NewScene(sim.NewRand(seed, 7))
		expert, err := sim.NewExpert(arms, scene)
		if err != nil {
			t.Fatal(err)
		}
		for _, cube := range scene.Cubes {
			goal, _ := expert.Goal(cube.Colour)
			q := sim.Home()
			const dt = 0.02
			for range 250 {
				next := sim.Advance(q, goal, dt)
				v := next
				for i := range v {
					v[i] = (next[i] - q[i]) / dt
				}
				if worst, refused := g.Refuses(q[:], next[:], v[:]); refused {
					t.Fatalf("seed %d, %s cube: %+v", seed, cube.Colour, worst)
				}
				q = next
			}
			for _, c := range g.Clearances(q[:], nil) {
				nearest = min(nearest, c.Distance)
			}
		}
	}
	t.Logf("the nearest that anything came at a goal: %.3f m", nearest)
}

// cloud is points along the axis of a capsule in body_Link.
type cloud struct {
	link   string
	radius float64
	points [][3]float64
}

// clouds returns an arm's capsules, placed by chains of their own and not by the
// guard's tree.
func clouds(t testing.TB, robot *urdf.Robot, prefix string, arm []float64) []cloud {
	t.Helper()
	var out []cloud
	for _, c := range robot.Capsules {
		if camera := "camera_" + prefix[1:2] + "_link"; !strings.HasPrefix(c.Link, prefix) && c.Link != camera {
			continue
		}
		chain, err := robot.Chain(robot.Root, c.Link)
		if err != nil {
			t.Fatal(err)
		}
		q := slices.Clone(arm[:min(6, len(chain.Joints))])
		if len(chain.Joints) == 7 { // a finger: joint7 is 0 to 0.035, joint8 -0.035 to 0
			half := arm[6] / 2
			if chain.Joints[6].Upper == 0 {
				half = -half
			}
			q = append(q, half)
		}
		frame := chain.Forward(q)
		const n = 40
		shape := cloud{link: c.Link, radius: c.Radius}
		for i := range n + 1 {
			s := float64(i) / n
			p := [3]float64{}
			for k := range p {
				p[k] = c.A[k] + s*(c.B[k]-c.A[k])
			}
			shape.points = append(shape.points, frame.Apply(p))
		}
		out = append(out, shape)
	}
	return out
}

// At random poses of both arms the guard's clearances are those of points
// sampled along every capsule: between the arms, to the table, within an arm.
func TestClearancesBySampling(t *testing.T) {
	cfg := guardConfig(t)
	g := newGuard(t, nil)
	rng := rand.New(rand.NewPCG(13, 1))
	touching := 0
	for range 150 {
		q := drawBoth(rng, cfg.Layout)
		shapes := [2][]cloud{clouds(t, cfg.Robot, "fl_", q[:7]), clouds(t, cfg.Robot, "fr_", q[7:])}
		// Points are at most 0.28/40 apart along an axis: that much too far at most.
		const coarse = 0.28 / 40
		check := func(what string, got control.Clearance, sampled float64) {
			if got.Distance > sampled+1e-9 || got.Distance < sampled-coarse {
				t.Fatalf("%s: %+v, sampled %.4f, at %v", what, got, sampled, q)
			}
		}
		pairs := func(a, b []cloud, take func(a, b cloud) bool) float64 {
			best := math.Inf(1)
			for _, x := range a {
				for _, y := range b {
					if !take(x, y) {
						continue
					}
					for _, p := range x.points {
						for _, r := range y.points {
							d := math.Sqrt((p[0]-r[0])*(p[0]-r[0]) + (p[1]-r[1])*(p[1]-r[1]) + (p[2]-r[2])*(p[2]-r[2]))
							best = min(best, d-x.radius-y.radius)
						}
					}
				}
			}
			return best
		}
		ends := func(c cloud, list ...string) bool {
			return slices.ContainsFunc(list, func(s string) bool { return strings.HasSuffix(c.link, s) })
		}
		list := g.Clearances(q, nil)
		if len(list) != 5 {
			t.Fatalf("%+v", list)
		}
		for a := range shapes {
			check("itself", list[2*a], pairs(shapes[a], shapes[a], func(x, y cloud) bool {
				far := ends(x, "link4", "link5", "link6", "gripper_base", "link7", "link8") || strings.HasPrefix(x.link, "camera")
				return far && ends(y, "base_link", "link1", "link2") || ends(x, "link3") && ends(y, "base_link")
			}))
			lowest := math.Inf(1)
			for _, s := range shapes[a] {
				if ends(s, "base_link", "link1") {
					continue
				}
				for _, p := range s.points {
					lowest = min(lowest, p[2]-s.radius-tableTop)
				}
			}
			check("table", list[2*a+1], lowest)
		}
		both := pairs(shapes[0], shapes[1], func(cloud, cloud) bool { return true })
		check("arms", list[4], both)
		if both < 0 {
			touching++
		}
	}
	t.Logf("the arms overlap in %d of 150 random poses", touching)
	if touching == 0 {
		t.Error("no pose tried the arms against each other")
	}
}

// Following only steps that Leaves allows, whatever is asked, never makes any
// clearance worse that falls short; and from a pose outside a way back exists.
func TestGuardedWalkStaysInside(t *testing.T) {
	cfg := guardConfig(t)
	g := newGuard(t, func(c *control.GuardConfig) {
		c.Boxes = []control.Box{{Name: "post", Pose: urdf.FromRPY([3]float64{0.5, 0, 0.9}, [3]float64{0, 0, 0.5}), Half: [3]float64{0.03, 0.05, 0.2}, Margin: 0.02}}
		for a := range c.Arms {
			c.Arms[a].Regions = []control.Region{{Min: [3]float64{0.3, -0.6, 0.7}, Max: [3]float64{0.8, 0.6, 1.2}}, {Min: [3]float64{0.2, -0.4, 0.9}, Max: [3]float64{0.6, 0.4, 1.4}}}
		}
	})
	taken, refused := 0, map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 2))
		q := both()
		if rapid.Bool().Draw(t, "anywhere") {
			q = drawBoth(rng, cfg.Layout)
		}
		before := g.Clearances(q, nil)
		goal := drawBoth(rng, cfg.Layout)
		for k := range 120 {
			if k%30 == 0 {
				goal = drawBoth(rng, cfg.Layout)
			}
			next := slices.Clone(q)
			for j := range next {
				next[j] += 0.03 * (goal[j] - next[j])
			}
			worst, leaves := g.Leaves(q, next)
			if leaves {
				refused[worst.B]++
				if !(worst.Distance < worst.Margin) {
					t.Fatalf("refused for %+v", worst)
				}
				goal = drawBoth(rng, cfg.Layout)
				continue
			}
			taken++
			after := g.Clearances(next, nil)
			for i := range after {
				if after[i].Outside() > before[i].Outside() {
					t.Fatalf("allowed from %+v to %+v", before[i], after[i])
				}
			}
			q, before = next, after
		}
	})
	t.Logf("%d steps allowed, refused %v", taken, refused)
	if taken == 0 || refused["table"] == 0 || refused["workspace"] == 0 || refused["post"] == 0 {
		t.Errorf("%d allowed, refused %v", taken, refused)
	}
}

// The tool goes down to the table: allowed down to it, then not; up again it may.
func TestGuardStopsAtTheTable(t *testing.T) {
	g := newGuard(t, nil)
	k, _ := newIK(t, "fl_tool0", nil)
	q := both()
	down := func(q []float64, dz float64) []float64 {
		next := slices.Clone(q)
		target := k.Chain().Forward(q[:6])
		target.P[2] += dz
		k.Solve(target, next[:6])
		return next
	}
	var worst control.Clearance
	leaves := false
	for range 400 {
		next := down(q, -0.001)
		if worst, leaves = g.Leaves(q, next); leaves {
			break
		}
		q = next
	}
	tip := k.Chain().Forward(q[:6]).P[2] + 0.775 - tableTop
	t.Logf("stopped by %+v with tool0 %.4f m above the table", worst, tip)
	if !leaves || worst.B != "table" || !strings.HasPrefix(worst.A, "fl_link") || tip < 0 || tip > 0.03 {
		t.Fatalf("%+v, tool0 %g m above the table", worst, tip)
	}
	low := down(q, -0.02) // pushed under it
	if _, leaves := g.Leaves(low, down(low, -0.001)); !leaves {
		t.Error("may go further down")
	}
	if worst, leaves := g.Leaves(low, down(low, 0.001)); leaves {
		t.Errorf("may not go up again: %+v", worst)
	}
	// That arm does not cover for the other, in neither form of the question.
	other := slices.Clone(low)
	copy(other[7:], low[:7])
	if worst, leaves := g.Leaves(low, other); !leaves || !strings.HasPrefix(worst.A, "fr_") {
		t.Errorf("the right arm may follow the left: %+v", worst)
	}
	if !(g.Outside(other) > g.Outside(low)) || !(g.Outside(low) > 0) || g.Outside(q) != 0 {
		t.Errorf("outside by %g, %g with both, %g before", g.Outside(low), g.Outside(other), g.Outside(q))
	}
}

// Two tools brought together are stopped at the margin; how far apart the arms
// are mounted counts.
func TestGuardKeepsArmsApart(t *testing.T) {
	for _, spacing := range []float64{0.6, 0.5} {
		g := newGuard(t, func(c *control.GuardConfig) {
			c.Arms[0].Mount.P[1], c.Arms[1].Mount.P[1] = spacing/2, -spacing/2
		})
		q, turned := both(), 0.0
		var worst control.Clearance
		for leaves := false; !leaves && turned < 1.5; {
			next := slices.Clone(q)
			next[0], next[7] = -turned, turned
			if worst, leaves = g.Leaves(q, next); !leaves {
				q = next
				turned += 0.002
			}
		}
		all := g.Clearances(q, nil)
		arms := all[len(all)-1]
		t.Logf("%.1f m apart: stopped at joint1 = %.3f rad by %+v, before that %.4f m", spacing, turned, worst, arms.Distance)
		if turned >= 1.5 || arms.Distance < 0.02 || arms.Distance > 0.024 || strings.HasPrefix(worst.B, "table") {
			t.Errorf("%+v after %+v", worst, arms)
		}
	}
}

func TestGuardRefusesPosesThatAreNotFinite(t *testing.T) {
	g := newGuard(t, nil)
	for i := range both() {
		for _, v := range []float64{math.NaN(), math.Inf(1)} {
			bad := both()
			bad[i] = v
			if out := g.Outside(bad); !math.IsInf(out, 1) {
				t.Errorf("position %d is %v: %g m outside", i, v, out)
			}
			if _, leaves := g.Leaves(both(), bad); !leaves {
				t.Errorf("position %d may become %v", i, v)
			}
		}
	}
	// A pose that was not finite excuses nothing.
	under := both()
	under[1] = 2.6
	if _, leaves := g.Leaves(both(), under); !leaves {
		t.Fatal("the pose is not outside")
	}
	was := slices.Clone(under)
	was[1] = math.NaN()
	if _, leaves := g.Leaves(was, under); !leaves {
		t.Error("allowed after NaN")
	}
}

// Arms that brake come to rest where Rest says.
func TestRestIsWhereBrakingEnds(t *testing.T) {
	layout := twoArms(t)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 3))
		q, v := both(), make([]float64, 14)
		joint := func(i int) control.Joint { return layout[i/7].Joints[i%7] }
		for i := range v {
			v[i] = joint(i).Limits.Velocity * (2*rng.Float64() - 1)
		}
		rest := make([]float64, 14)
		layout.Rest(q, v, rest)
		const dt = 1e-4
		for i := range q {
			at, speed, l := q[i], v[i], joint(i).Limits
			for math.Abs(speed) > 1e-9 {
				next := math.Copysign(max(0, math.Abs(speed)-l.Acceleration*dt), speed)
				at += (speed + next) / 2 * dt
				speed = next
			}
			if at = min(max(at, l.Lower), l.Upper); math.Abs(at-rest[i]) > 1e-4 {
				t.Fatalf("joint %d at %g moving at %g rests at %g, braking ends at %g", i, q[i], v[i], rest[i], at)
			}
		}
	})
}

// Refuses asks about the next pose and about its rest.
func TestGuardRefusesWhatCannotStopInTime(t *testing.T) {
	layout := twoArms(t)
	g, other := newGuard(t, nil), newGuard(t, nil)
	early := 0
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 5))
		was := drawBoth(rng, layout)
		next, v, rest := slices.Clone(was), make([]float64, 14), make([]float64, 14)
		for i := range v {
			v[i] = layout[i/7].Joints[i%7].Limits.Velocity * (2*rng.Float64() - 1)
			next[i] += 0.02 * v[i]
		}
		layout.Rest(next, v, rest)
		_, now := other.Leaves(was, next)
		_, later := other.Leaves(was, rest)
		if _, refused := g.Refuses(was, next, v); refused != (now || later) {
			t.Fatalf("refused %v; the next pose leaves: %v, its rest: %v", refused, now, later)
		}
		if later && !now {
			early++
		}
		clear(v)
		if _, refused := g.Refuses(was, was, v); refused {
			t.Fatal("may not stand still")
		}
	})
	if early == 0 {
		t.Error("never refused early")
	}
}

func TestNewGuardNamesWhatIsWrong(t *testing.T) {
	parse := func(change func(string) string) *urdf.Robot {
		arm := `<robot name="r"><link name="body"/><link name="base"><collision><geometry><sphere radius="0.1"/></geometry></collision></link>` +
			`<link name="link1"><collision><geometry><sphere radius="0.1"/></geometry></collision></link><link name="tool"/>` +
			`<joint name="mount" type="fixed"><parent link="body"/><child link="base"/></joint>` +
			`<joint name="one" type="revolute"><parent link="base"/><child link="link1"/><limit lower="-1" upper="1" velocity="1"/></joint>` +
			`<joint name="tip" type="fixed"><parent link="link1"/><child link="tool"/></joint></robot>`
		robot, err := urdf.Parse(strings.NewReader(change(arm)))
		if err != nil {
			t.Fatal(err)
		}
		return robot
	}
	same := func(s string) string { return s }
	layout := control.Layout{{Name: "left", Joints: []control.Joint{{Name: "one", Limits: control.RevoluteLimits(-1, 1)}}}}
	good := func() control.GuardConfig {
		return control.DefaultGuardConfig(parse(same), layout, control.ArmMount{Base: "base", Tool: "tool", Mount: urdf.Identity()})
	}
	if _, err := control.NewGuard(good()); err != nil {
		t.Fatal(err)
	}
	for says, change := range map[string]func(*control.GuardConfig){
		"no robot description": func(c *control.GuardConfig) { c.Robot = nil },
		"no arms":              func(c *control.GuardConfig) { c.Layout = nil },
		"0 mounts for 1 arms":  func(c *control.GuardConfig) { c.Arms = nil },
		`"nowhere"`:            func(c *control.GuardConfig) { c.Arms[0].Base = "nowhere" },
		`tool "body"`:          func(c *control.GuardConfig) { c.Arms[0].Tool = "body" },
		`mount of "base"`:      func(c *control.GuardConfig) { c.Arms[0].Mount = urdf.Transform{} },
		"workspace":            func(c *control.GuardConfig) { c.Arms[0].Regions = []control.Region{{Max: [3]float64{1, 1, 0}}} },
		"margins are -1":       func(c *control.GuardConfig) { c.ArmMargin = -1 },
		`plane "table"`:        func(c *control.GuardConfig) { c.Planes = []control.Plane{{Name: "table"}} },
		`box "post"`:           func(c *control.GuardConfig) { c.Boxes = []control.Box{{Name: "post", Pose: urdf.Identity()}} },
		`"link1" has no collision`: func(c *control.GuardConfig) {
			c.Robot = parse(func(s string) string {
				return strings.Replace(s, `<link name="link1"><collision><geometry><sphere radius="0.1"/></geometry></collision></link>`, `<link name="link1"/>`, 1)
			})
		},
		"is a mesh": func(c *control.GuardConfig) {
			c.Robot = parse(func(s string) string { return strings.Replace(s, `<sphere radius="0.1"/>`, `<mesh filename="a"/>`, 1) })
		},
		"slides": func(c *control.GuardConfig) {
			c.Robot = parse(func(s string) string { return strings.Replace(s, `"revolute"`, `"prismatic"`, 1) })
		},
		"one more than": func(c *control.GuardConfig) {
			c.Robot = parse(func(s string) string {
				return strings.Replace(s, `name="tip" type="fixed">`, `name="tip" type="continuous">`, 1)
			})
		},
		"0 joints turn": func(c *control.GuardConfig) {
			c.Robot = parse(func(s string) string { return strings.Replace(s, `"revolute"`, `"fixed"`, 1) })
		},
	} {
		cfg := good()
		change(&cfg)
		if _, err := control.NewGuard(cfg); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%v; want it to say %s", err, says)
		}
	}
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := control.MountOf(robot, "fl_link3"); err == nil || !strings.Contains(err.Error(), "fl_joint1") {
		t.Error(err)
	}
	if _, err := control.MountOf(robot, "nowhere"); err == nil {
		t.Error("a mount of a link that is not there")
	}
}

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
		g.Refuses(was, next, was)
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

// What an Executor asks at each tick: two poses.
func BenchmarkRefuses(b *testing.B) {
	g := newGuard(b, nil)
	was, next, v := both(), both(), make([]float64, 14)
	next[1] += 0.01
	b.ReportAllocs()
	for b.Loop() {
		g.Refuses(was, next, v)
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
	executor.Workspace = guard.Outside

	now := []float64{0, 1.35, -1.15, 0, 1.1, 0, 0.06, 0, 1.35, -1.15, 0, 1.1, 0, 0.06}
	next := append([]float64(nil), now...)
	next[1] = 2.2 // the left arm bends down
	if worst, leaves := guard.Leaves(now, next); leaves {
		fmt.Printf("%s would be %.0f mm from %s\n", worst.A, 1e3*worst.Distance, worst.B)
	}
	// Output: fl_link8 would be -21 mm from table
}

// An Executor that asks the guard is stopped at the table. Asked about the next
// pose only it brakes beyond it; asked about where braking from there ends as
// well (Rest) it comes to rest above, and the arm may go up again after Enable.
func TestExecutorStopsAtTheTable(t *testing.T) {
	for name, ahead := range map[string]bool{"the next pose": false, "the next pose and its rest": true} {
		g := newGuard(t, nil)
		layout := twoArms(t)
		velocity, rest := make([]float64, 14), make([]float64, 14)
		cfg := control.DefaultConfig(layout)
		cfg.Workspace = func(next []float64) float64 {
			if !ahead {
				return g.Outside(next)
			}
			layout.Rest(next, velocity, rest)
			return g.Outside(next) + g.Outside(rest)
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
					copy(velocity, c.Velocities)
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
