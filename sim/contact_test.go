package sim

import (
	"math"
	"reflect"
	"testing"
	"time"

	"gonum.org/v1/gonum/spatial/r2"
	"gonum.org/v1/gonum/spatial/r3"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/urdf"
)

func testArms(t testing.TB) *Arms {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	return arms
}

// clumsy draws commands that run into things: postures with a tool anywhere low
// over the table or wherever an object is, grippers at any opening.
func clumsy(t *rapid.T, w *World) State {
	q := Home()
	for _, s := range []Side{Left, Right} {
		p := r3.Vec{
			X: rapid.Float64Range(0.40, 0.68).Draw(t, "x"), Y: rapid.Float64Range(-0.1, 0.35).Draw(t, "y"),
			Z: TableHeight + rapid.Float64Range(-0.02, 0.15).Draw(t, "z"),
		}
		if s == Right {
			p.Y = -p.Y
		}
		if i := rapid.IntRange(-2, len(w.Objects)-1).Draw(t, "object"); i >= 0 {
			c := w.Objects[i].Centre()
			p.X, p.Y = c.X, c.Y
		}
		joints, _ := w.Arms.planar[s].solve(p, 0)
		copy(q.Joints(s), joints[:])
		*q.Gripper(s) = rapid.SampledFrom([]float64{0, 0.02, 0.045, 0.06, GripperOpen}).Draw(t, "opening")
	}
	return q
}

func drawEpisode(t *rapid.T, arms *Arms) *Episode {
	tasks := Tasks()
	task := tasks[rapid.IntRange(0, len(tasks)-1).Draw(t, "task")]
	p := Perturbation{Distractors: rapid.Bool().Draw(t, "distractors")}
	e, err := NewEpisode(arms, task, rapid.Uint64Range(0, 1<<20).Draw(t, "seed"), p)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// Whatever the arms do, objects stay above the table and on it, and what is not
// touched comes to rest without standing in anything.
func TestObjectsStayApartAndOnTheTable(t *testing.T) {
	arms := testArms(t)
	rapid.Check(t, func(t *rapid.T) {
		w := drawEpisode(t, arms).World
		for range rapid.IntRange(1, 12).Draw(t, "commands") {
			w.Command(clumsy(t, w))
			for range 60 {
				w.Step(servoStep)
				for i := range w.Objects {
					checkOnTable(t, w, i)
				}
			}
		}
		for _, open := range []State{w.State(), Home()} {
			*open.Gripper(Left), *open.Gripper(Right) = GripperOpen, GripperOpen
			w.Command(open)
			w.Step(time.Second)
		}
		for i := range w.Objects {
			if w.Objects[i].fall != 0 || w.owner(i) >= 0 {
				t.Fatalf("the %s does not rest", w.Objects[i].Kind)
			}
			checkApart(t, w, i)
		}
	})
}

func checkOnTable(t *rapid.T, w *World, i int) {
	o := &w.Objects[i]
	if low := o.bottom() - TableHeight; !(low > -1e-9) {
		t.Fatalf("the %s is %.2f mm below the table", o.Kind, -1e3*low)
	}
	c := o.Centre()
	if w.owner(i) < 0 && !(c.X > tableNear && c.X < tableFar && math.Abs(c.Y) < tableHalf) {
		t.Fatalf("the %s is beside the table, at (%.2f, %.2f)", o.Kind, c.X, c.Y)
	}
}

// checkApart compares with the mean of points inside both outlines rather than
// with the separating axes that contact uses.
func checkApart(t *rapid.T, w *World, i int) {
	const tolerance = 0.004
	a := &w.Objects[i]
	for j := range w.Objects[:i] {
		b := &w.Objects[j]
		if min(a.top(), b.top())-max(a.bottom(), b.bottom()) <= overlap+1e-9 {
			continue
		}
		// A disc of radius tolerance/2 that fits into both would be seen.
		var pa, pb outline
		pa.of(a)
		pb.of(b)
		const steps = 40
		for u := range steps {
			for v := range steps {
				h := a.Half()
				p := flat(apply(&a.Pose, r3.Vec{X: h.X * (2*float64(u)/(steps-1) - 1), Y: h.Y * (2*float64(v)/(steps-1) - 1)}))
				if inside(&pa, p) > tolerance/2 && inside(&pb, p) > tolerance/2 {
					t.Fatalf("%s %d at %.3f and %s %d at %.3f stand in each other", a.Kind, i, a.Pose.P, b.Kind, j, b.Pose.P)
				}
			}
		}
	}
}

// inside is how far a point is from the nearest side, negative outside.
func inside(o *outline, p r2.Vec) float64 {
	least := math.Inf(1)
	for i := range o.n {
		a, b := o.corners[i], o.corners[(i+1)%o.n]
		side := r2.Sub(b, a)
		least = min(least, r2.Cross(side, r2.Sub(p, a))/r2.Norm(side))
	}
	return least
}

// The same commands give the same world; a clone goes the way of its original and
// leaves it alone.
func TestWorldIsDeterministicAndClones(t *testing.T) {
	arms := testArms(t)
	rapid.Check(t, func(t *rapid.T) {
		e := drawEpisode(t, arms)
		w, again := e.World, e.World.Clone()
		if rapid.Bool().Draw(t, "drives") {
			o := ServoOptions{Delay: 70 * time.Millisecond, Noise: 0.01, Seed: 5}
			w.SetServo(o)
			again.SetServo(o)
		}
		var later *World
		n := rapid.IntRange(1, 8).Draw(t, "commands")
		for k := range n {
			if k == n/2 {
				later = w.Clone()
			}
			q := clumsy(t, w)
			for _, v := range []*World{w, again, later} {
				if v != nil {
					v.Command(q)
					v.Step(150 * time.Millisecond)
				}
			}
		}
		for what, v := range map[string]*World{"run again": again, "cloned on the way": later} {
			if v.now != w.now && what == "run again" || v.State() != w.State() || v.held != w.held || !reflect.DeepEqual(v.Objects, w.Objects) {
				t.Fatalf("%s: the worlds differ", what)
			}
		}
	})
}

// Two rectangles are parted by moving one the way that apart says, and by nothing
// much shorter.
func TestApartParts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		draw := func(name string) *outline {
			o := &outline{}
			m := r2.Vec{X: rapid.Float64Range(-0.05, 0.05).Draw(t, name+" x"), Y: rapid.Float64Range(-0.05, 0.05).Draw(t, name+" y")}
			if rapid.Bool().Draw(t, name+" round") {
				o.circle(m, rapid.Float64Range(0.01, 0.05).Draw(t, name+" radius"))
				return o
			}
			sin, cos := math.Sincos(rapid.Float64Range(-3, 3).Draw(t, name+" yaw"))
			o.rectangle(m, r2.Vec{X: cos, Y: sin}, rapid.Float64Range(0.01, 0.08).Draw(t, name+" half"), rapid.Float64Range(0.01, 0.08).Draw(t, name+" side"))
			return o
		}
		a, b := draw("a"), draw("b")
		way := apart(a, b)
		shifted := func(share float64) *outline {
			o := *b
			for i := range o.n {
				o.corners[i] = r2.Add(o.corners[i], r2.Scale(share, way))
			}
			o.middle = r2.Add(o.middle, r2.Scale(share, way))
			return &o
		}
		if left := r2.Norm(apart(a, shifted(1+1e-9))); left > 1e-6 {
			t.Fatalf("moved by %v, still %g in each other", way, left)
		}
		if n := r2.Norm(way); n > 1e-3 && r2.Norm(apart(a, shifted(0.8))) == 0 {
			t.Fatalf("0.8 of %v was enough", way)
		}
		if back := r2.Norm(apart(b, a)); math.Abs(back-r2.Norm(way)) > 1e-9 {
			t.Fatalf("%g one way, %g the other", r2.Norm(way), back)
		}
	})
}

// A cube between closing fingers is held, measured by its width, goes where the
// tool goes, and falls when they open.
func TestGripHoldsAndLetsGo(t *testing.T) {
	arms := testArms(t)
	for _, off := range []float64{0, 0.008, -0.008} {
		cube := NewObject(CubeKind, "red", 0.52, 0.18, 0)
		w := NewTableWorld(arms, []Object{cube})
		to := func(z, opening float64, dt time.Duration) {
			q := Home()
			j, ok := arms.planar[Left].solve(r3.Vec{X: 0.52, Y: 0.18 + off, Z: TableHeight + z}, 0)
			if !ok {
				t.Fatal("out of reach")
			}
			copy(q.Joints(Left), j[:])
			*q.Gripper(Left) = opening
			w.Command(q)
			w.Step(dt)
		}
		to(0.15, GripperOpen, 2*time.Second)
		to(0.025, GripperOpen, time.Second)
		if _, ok := w.Held(Left); ok {
			t.Fatal("held by an open gripper")
		}
		to(0.025, 0.01, time.Second)
		if i, ok := w.Held(Left); !ok || i != 0 {
			t.Fatal("closing did not take the cube")
		}
		q := w.State()
		if g := *q.Gripper(Left); math.Abs(g-BlockSize) > 1e-9 {
			t.Errorf("the gripper measures %g around a cube of %g", g, BlockSize)
		}
		before, tool := w.Objects[0].Centre(), vec(w.tools[Left].P)
		to(0.15, 0.01, time.Second)
		rise, rose := r3.Sub(vec(w.tools[Left].P), tool), r3.Sub(w.Objects[0].Centre(), before)
		if r3.Norm(r3.Sub(rise, rose)) > 1e-3 || rose.Z < 0.1 {
			t.Errorf("the tool moved by %.3f, the cube by %.3f", rise, rose)
		}
		// From its bottom, 12.5 cm up, 9.81 m/s^2 take 160 ms.
		to(0.15, GripperOpen, 100*time.Millisecond)
		if z := w.Objects[0].bottom() - TableHeight; z < 0.05 {
			t.Errorf("after at most 0.1 s the cube is at %.3f m", z)
		}
		to(0.15, GripperOpen, 400*time.Millisecond)
		if z := w.Objects[0].bottom() - TableHeight; math.Abs(z) > 1e-9 {
			t.Errorf("the cube lies %.3f m above the table", z)
		}
	}
}

// What stands on a cube rides with it, and what is pushed moves with the finger.
func TestRidingAndPushing(t *testing.T) {
	arms := testArms(t)
	low, high := NewObject(CubeKind, "red", 0.52, 0.18, 0), NewObject(CubeKind, "blue", 0.525, 0.18, 0)
	high.Pose.P[2] += BlockSize + 0.01
	w := NewTableWorld(arms, []Object{low, high})
	w.Step(500 * time.Millisecond)
	if z := w.Objects[1].bottom() - TableHeight; math.Abs(z-BlockSize) > 1e-9 || w.Objects[1].on != 0 {
		t.Fatalf("the upper cube is %.4f m up", z)
	}
	q := Home()
	put := func(y float64) {
		j, _ := arms.planar[Left].solve(r3.Vec{X: 0.52, Y: y, Z: TableHeight + 0.02}, 0)
		copy(q.Joints(Left), j[:])
		*q.Gripper(Left) = 0
		w.Command(q)
		w.Step(1500 * time.Millisecond)
	}
	put(0.28)
	if y := w.Objects[0].Pose.P[1]; math.Abs(y-0.18) > 1e-9 {
		t.Fatalf("moved untouched, to y = %.3f", y)
	}
	put(0.19) // the fingers' outer face at 0.19 - 0.012
	want := 0.19 - 2*fingerThick - BlockSize/2
	for i, name := range []string{"pushed", "riding"} {
		if y := w.Objects[i].Pose.P[1]; math.Abs(y-want) > 0.004 {
			t.Errorf("the %s cube is at y = %.3f, want %.3f", name, y, want)
		}
	}
}

// toEnd moves one hand to its end of the bar, off metres beside it.
func toEnd(t *testing.T, w *World, q *State, s Side, off r3.Vec, opening float64) {
	t.Helper()
	p := r3.Add(gripPoint(&w.Objects[0], s), off)
	j, ok := w.Arms.planar[s].solve(p, [2]float64{-math.Pi / 2, math.Pi / 2}[s])
	if !ok {
		t.Fatal("out of reach")
	}
	copy(q.Joints(s), j[:])
	*q.Gripper(s) = opening
	w.Command(*q)
	w.Step(3 * time.Second)
}

// Of two hands that have a bar, the second keeps it while it is about where it was,
// and loses it when it goes away: the first has it as before.
func TestTheSecondHandDoesNotHoldFromAfar(t *testing.T) {
	for _, c := range []struct {
		off   r3.Vec
		keeps bool
	}{
		{r3.Vec{X: 0.01}, true},
		{r3.Vec{Y: 0.01, Z: 0.015}, true},
		{r3.Vec{X: 0.03}, false},
		{r3.Vec{X: -0.03}, false},
		{r3.Vec{Y: -0.05}, false}, // beyond its end
		{r3.Vec{Z: 0.04}, false},
	} {
		w := NewTableWorld(testArms(t), []Object{NewObject(BarKind, "", 0.54, 0.02, math.Pi/2)})
		q := Home()
		for _, s := range []Side{Left, Right} {
			toEnd(t, w, &q, s, r3.Vec{}, GripperOpen)
			toEnd(t, w, &q, s, r3.Vec{}, 0.01)
		}
		if w.held != [2]int{0, 0} {
			t.Fatalf("held %v, not by both", w.held)
		}
		before := w.Objects[0].Pose
		toEnd(t, w, &q, Right, c.off, 0.01)
		if _, ok := w.Held(Right); ok != c.keeps {
			t.Errorf("%v off its end the right hand holds the bar: %v", c.off, ok)
		}
		if _, ok := w.Held(Left); !ok || w.Objects[0].Pose != before {
			t.Errorf("%v: the left hand does not have the bar as it was", c.off)
		}
	}
}

// A hand that closes on what the other holds takes it where it is, if only a little
// beside its middle; alone with it, it brings it there.
func TestTwoHandsOnABar(t *testing.T) {
	arms := testArms(t)
	for _, c := range []struct {
		off   float64
		takes bool
	}{{0, true}, {0.005, true}, {-0.006, true}, {0.011, false}} {
		w := NewTableWorld(arms, []Object{NewObject(BarKind, "", 0.54, 0.02, math.Pi/2)})
		q := Home()
		toEnd(t, w, &q, Left, r3.Vec{}, GripperOpen)
		toEnd(t, w, &q, Left, r3.Vec{}, 0.01)
		if _, ok := w.Held(Left); !ok {
			t.Fatal("the left hand has no bar")
		}
		before := w.Objects[0].Pose
		toEnd(t, w, &q, Right, r3.Vec{X: c.off}, GripperOpen)
		toEnd(t, w, &q, Right, r3.Vec{X: c.off}, 0.01)
		if _, ok := w.Held(Right); ok != c.takes {
			t.Fatalf("%.0f mm beside the middle the right hand takes it: %v", 1e3*c.off, ok)
		}
		if w.Objects[0].Pose != before {
			t.Errorf("the right hand moves what the left one holds")
		}
		if !c.takes {
			continue
		}
		*q.Gripper(Left) = GripperOpen
		w.Command(q)
		w.Step(time.Second)
		if w.owner(0) != Right {
			t.Fatalf("the bar is with %v", w.owner(0))
		}
		inverse := w.tools[Right].Inverse()
		if across := apply(&inverse, w.Objects[0].Centre()).Y; math.Abs(across) > gripReach+1e-9 {
			t.Errorf("the bar is %.1f mm beside the middle of the right hand", 1e3*across)
		}
	}
}
