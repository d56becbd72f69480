package sim

import (
	"math"
	"slices"

	"gonum.org/v1/gonum/spatial/r2"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// Contact is quasi-static: nothing slides on, rolls or tips. What is not held
// stands upright on what is under its middle, falls where that is further down,
// and gives way sideways to fingers, to what a gripper holds and to what it
// would otherwise stand in.
const (
	gravity = 9.81 // m/s^2
	// overlap is how far two things may share a height without being in each
	// other's way, metres.
	overlap = 0.003
	// stepUp is the height of a ledge onto which a pushed object climbs.
	stepUp = 0.01
	// pushStep is the most a finger moves an object in one step of the servo, metres.
	pushStep = 0.002

	// Fingers, as the renderer draws them: half width along the tool's x, half
	// thickness along y, and how far the tips reach beyond the tool's origin.
	fingerHalfWidth = 0.010
	fingerThick     = 0.006
	fingerTip       = 0.006
	fingerLength    = 0.06

	// A grip holds where the fingers overlap an object by so much (metres), and
	// lets go when they open beyond its width by letGo.
	gripOverlap = 0.005
	letGo       = 0.003
	// Fingers touch an object at its width and gripReach more, and are in it at
	// its width less gripDepth: too narrow to take it.
	gripReach = 0.0015
	gripDepth = 0.004
	// gripGive is how far arms give way sideways when a gripper closes on what the
	// other holds, metres.
	gripGive = 0.008
	// gripSlip is how far beside its fingers' middle a gripper keeps a thing that the
	// other moves, metres.
	gripSlip = 0.02
	// gripTurn is the largest angle between a bar and the fingers that take it, rad.
	gripTurn = 0.7
	// pressTolerance is how far from a bell's axis a finger may press it, metres.
	pressTolerance = 0.03
)

// contact moves the objects on by dt seconds after the arms moved.
func (w *World) contact(dt float64) {
	var before [16]r2.Vec
	start := before[:0]
	for i := range w.Objects {
		start = append(start, flat(vec(w.Objects[i].Pose.P)))
	}
	for _, s := range []Side{Left, Right} {
		w.grip(s)
	}
	w.carry()
	for _, s := range []Side{Left, Right} {
		w.pushWithFingers(s)
	}
	w.makeWay()
	w.settle(start, dt)
	w.press()
}

// grip opens or closes a gripper's hold.
func (w *World) grip(s Side) {
	at := int(s)*armDims + armDims - 1
	opening, target := w.servo.Position[at], w.servo.target[at]
	if i := w.held[s]; i >= 0 {
		width := w.Objects[i].Width()
		if opening > width+letGo {
			w.release(s)
		} else if opening < width {
			w.servo.Position[at], w.servo.Velocity[at] = width, 0
		}
		return
	}
	if target >= opening {
		return
	}
	for i := range w.Objects {
		o := &w.Objects[i]
		if o.Fixed() {
			continue
		}
		across, ok := w.between(s, o)
		width := o.Width()
		if !ok || opening < width-gripDepth {
			continue
		}
		// The nearer finger pushes the object to the middle.
		if excess := min(math.Abs(across)+width/2-opening/2, math.Abs(across)); excess > 0 && w.owner(i) < 0 {
			push := math.Copysign(min(excess, pushStep), across)
			y := flat(r3.Vec{X: w.tools[s].R[1], Y: w.tools[s].R[4]})
			o.Pose.P[0] -= push * y.X
			o.Pose.P[1] -= push * y.Y
			across -= push
		}
		if opening > width+gripReach {
			continue
		}
		// It keeps the fingers from closing further.
		w.servo.Position[at], w.servo.Velocity[at] = width, 0
		if give := math.Abs(across); give <= gripReach || w.owner(i) >= 0 && give <= gripGive {
			w.held[s] = i
			w.rel[s] = w.tools[s].Inverse().Mul(o.Pose)
		}
		return
	}
}

// between says whether an object is where the fingers of a gripper would take
// it, and how far its middle is from theirs along their way.
func (w *World) between(s Side, o *Object) (across float64, ok bool) {
	tool, h := &w.tools[s], o.Half()
	if o.Kind == BarKind {
		axis := rotate(&o.Pose, r3.Vec{X: 1})
		if math.Abs(axis.X*tool.R[0]+axis.Y*tool.R[3]+axis.Z*tool.R[6]) < math.Cos(gripTurn) {
			return 0, false
		}
	}
	p := w.part(s, o)
	ok = math.Abs(p.X) <= reachAlong(o) && math.Abs(p.Y) <= GripperOpen/2 && math.Abs(p.Z) <= h.Z+fingerTip-gripOverlap
	return p.Y, ok
}

// part is the middle of an object, of a bar the part nearest to a gripper, as the
// tool has it.
func (w *World) part(s Side, o *Object) r3.Vec {
	tool, middle := &w.tools[s], o.Centre()
	if o.Kind == BarKind {
		axis := rotate(&o.Pose, r3.Vec{X: 1})
		d := r3.Dot(r3.Sub(vec(tool.P), middle), axis)
		most := o.Half().X - gripOverlap - fingerHalfWidth
		middle = r3.Add(middle, r3.Scale(min(max(d, -most), most), axis))
	}
	inverse := tool.Inverse()
	return apply(&inverse, middle)
}

// reachAlong is how far along the fingers' width a part of an object may be from
// their middle for them to take it.
func reachAlong(o *Object) float64 {
	if o.Kind == BarKind {
		return fingerHalfWidth
	}
	return o.Half().X - gripOverlap + fingerHalfWidth
}

// owner is the gripper that decides where an object is, -1 for none: the first
// that took it.
func (w *World) owner(i int) Side {
	switch {
	case w.held[Left] == i && w.held[Right] == i:
		return w.first
	case w.held[Left] == i:
		return Left
	case w.held[Right] == i:
		return Right
	}
	return -1
}

// release lets an object go; it turns upright unless the other gripper has it.
func (w *World) release(s Side) {
	i := w.held[s]
	w.held[s] = -1
	o := &w.Objects[i]
	o.last = s
	if other := 1 - s; w.held[other] == i {
		w.first = other
		w.rel[other] = w.tools[other].Inverse().Mul(o.Pose)
		return
	}
	middle := o.Centre()
	o.Pose = urdf.FromRPY([3]float64{middle.X, middle.Y, middle.Z - o.Half().Z}, [3]float64{0, 0, o.Yaw()})
	o.fall = 0
}

// centre lets the fingers that have an object for themselves bring it to their
// middle.
func (w *World) centre(s Side, o *Object) {
	rel := &w.rel[s]
	across := rel.Apply([3]float64{0, 0, o.Half().Z})[1]
	if excess := math.Abs(across) - gripReach; excess > 0 {
		rel.P[1] -= math.Copysign(min(excess, pushStep), across)
	}
}

// carry moves what the grippers hold with them. The table and what stands under
// an object hold it up: it then slips in the fingers.
func (w *World) carry() {
	for _, s := range []Side{Left, Right} {
		i := w.held[s]
		if i < 0 {
			continue
		}
		if w.held[1-s] != i {
			w.first = s
		} else if w.first != s {
			continue
		}
		o := &w.Objects[i]
		was := o.bottom()
		if w.held[1-s] != i {
			w.centre(s, o)
		}
		o.Pose = w.tools[s].Mul(w.rel[s])
		o.fall, o.on = 0, -1
		floor, _ := w.support(i, max(was, o.bottom()))
		if low := floor - o.bottom(); low > 0 {
			o.Pose.P[2] += low
			w.rel[s] = w.tools[s].Inverse().Mul(o.Pose)
		}
		w.wrest(1-s, i)
	}
}

// wrest takes object i, where both grippers have it, out of the one that does not
// decide where it is, once it is no longer between that one's fingers.
func (w *World) wrest(s Side, i int) {
	if w.held[s] != i {
		return
	}
	o := &w.Objects[i]
	p, h := w.part(s, o), o.Half()
	if math.Abs(p.X) > reachAlong(o) || math.Abs(p.Y) > gripSlip || p.Z > h.Z+fingerTip || p.Z < h.Z-fingerLength {
		w.held[s] = -1
	}
}

// support returns the height of what is under the middle of object i and not
// above z by more than a step, and which object that is, -1 for the table.
func (w *World) support(i int, z float64) (height float64, on int) {
	height, on = TableHeight, -1
	middle := flat(w.Objects[i].Centre())
	var shape outline
	for j := range w.Objects {
		if j == i {
			continue
		}
		o := &w.Objects[j]
		if top := o.top(); top > height && top <= z+stepUp {
			if shape.of(o); shape.holds(middle) {
				height, on = top, j
			}
		}
	}
	return height, on
}

// movable says whether object i gives way.
func (w *World) movable(i int) bool { return !w.Objects[i].Fixed() && w.owner(i) < 0 }

// pushWithFingers moves objects out of the way of one gripper's fingers.
func (w *World) pushWithFingers(s Side) {
	tool := &w.tools[s]
	opening := w.servo.Position[int(s)*armDims+armDims-1]
	along := r2.Unit(r2.Vec{X: tool.R[0], Y: tool.R[3]})
	tip := tool.P[2] + fingerTip*tool.R[8]
	var finger, shape outline
	for i := range w.Objects {
		o := &w.Objects[i]
		if !w.movable(i) || min(o.top(), tip+fingerLength)-max(o.bottom(), tip) <= overlap {
			continue
		}
		if _, ok := w.between(s, o); ok {
			continue // grip moves it
		}
		for _, side := range [2]float64{-1, 1} {
			m := flat(apply(tool, r3.Vec{Y: side * (opening/2 + fingerThick)}))
			finger.rectangle(m, along, fingerHalfWidth, fingerThick)
			shape.of(o)
			way := apart(&finger, &shape)
			if n := r2.Norm(way); n > pushStep {
				way = r2.Scale(pushStep/n, way)
			}
			o.Pose.P[0] += way.X
			o.Pose.P[1] += way.Y
		}
	}
}

// makeWay parts objects that stand in each other.
func (w *World) makeWay() {
	var a, b outline
	for range 3 {
		for i := range w.Objects {
			for j := range w.Objects[:i] {
				p, q := &w.Objects[i], &w.Objects[j]
				mi, mj := w.movable(i), w.movable(j)
				if !mi && !mj || min(p.top(), q.top())-max(p.bottom(), q.bottom()) <= overlap {
					continue
				}
				a.of(p)
				b.of(q)
				way := apart(&a, &b)
				share := 0.5
				switch {
				case !mj:
					share = 0
				case !mi:
					share = 1
				}
				q.Pose.P[0] += share * way.X
				q.Pose.P[1] += share * way.Y
				p.Pose.P[0] -= (1 - share) * way.X
				p.Pose.P[1] -= (1 - share) * way.Y
			}
		}
	}
}

// settle lets objects ride on what moved under them, keeps them on the table and
// in their tray, and lets them fall.
func (w *World) settle(start []r2.Vec, dt float64) {
	var buffer [16]int
	order := buffer[:0]
	for i := range w.Objects {
		order = append(order, i)
	}
	slices.SortStableFunc(order, func(i, j int) int {
		switch a, b := w.Objects[i].Pose.P[2], w.Objects[j].Pose.P[2]; {
		case a < b:
			return -1
		case a > b:
			return 1
		}
		return 0
	})
	for _, i := range order {
		o := &w.Objects[i]
		if !w.movable(i) {
			continue
		}
		if o.on >= 0 {
			moved := r2.Sub(flat(vec(w.Objects[o.on].Pose.P)), start[o.on])
			o.Pose.P[0] += moved.X
			o.Pose.P[1] += moved.Y
			if under := &w.Objects[o.on]; under.Kind == TrayKind {
				room := trayHalf - 0.004 - o.Half().Y
				for k := range 2 {
					o.Pose.P[k] = min(max(o.Pose.P[k], under.Pose.P[k]-room), under.Pose.P[k]+room)
				}
			}
		}
		x, y := o.spread()
		o.Pose.P[0] = min(max(o.Pose.P[0], tableNear+x), tableFar-x)
		o.Pose.P[1] = min(max(o.Pose.P[1], -tableHalf+y), tableHalf-y)
		floor, on := w.support(i, o.Pose.P[2])
		if o.Pose.P[2] <= floor {
			o.Pose.P[2], o.fall, o.on = floor, 0, on
			continue
		}
		o.fall += gravity * dt
		if o.Pose.P[2] -= o.fall * dt; o.Pose.P[2] <= floor {
			o.Pose.P[2], o.fall, o.on = floor, 0, on
		} else {
			o.on = -1
		}
	}
}

// press moves the plungers of bells under fingers that come down on them.
func (w *World) press() {
	for i := range w.Objects {
		o := &w.Objects[i]
		if o.Kind != BellKind {
			continue
		}
		o.pressed = 0
		for s := range w.tools {
			tool := &w.tools[s]
			tip := apply(tool, r3.Vec{Z: fingerTip})
			if math.Hypot(tip.X-o.Pose.P[0], tip.Y-o.Pose.P[1]) <= pressTolerance {
				o.pressed = max(o.pressed, min(o.Pose.P[2]+bellHeight-tip.Z, bellTravel))
			}
		}
		if o.pressed >= 0.6*bellTravel {
			o.Pressed = true
		}
	}
}
