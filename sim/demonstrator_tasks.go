package sim

import (
	"math"

	"gonum.org/v1/gonum/spatial/r3"
)

// reach goes above a thing and stays there.
func (a *act) reach(g Goal) {
	s := a.sideOf(g.Object)
	a.move(s, a.over(s, hoverPoint(&a.w.Objects[g.Object]), 0.04, 0), GripperOpen)
}

// lift takes a thing and holds it up before the shoulder.
func (a *act) lift(g Goal) {
	s := a.sideOf(g.Object)
	if a.hold(s, g.Object, gripPoint(&a.w.Objects[g.Object], s)) {
		p := r3.Vec{X: 0.50, Y: 0.18, Z: TableHeight + 0.20}
		if s == Right {
			p.Y = -p.Y
		}
		a.move(s, a.over(s, p, 0, 0), squeeze)
	}
}

// press comes down on a bell with closed fingers and stays.
func (a *act) press(g Goal) {
	s := a.sideOf(g.Object)
	o := &a.w.Objects[g.Object]
	p := vec(o.Pose.P)
	p.Z += bellHeight - bellTravel + fingerTip
	a.move(s, a.over(s, p, approachHeight, 0), 0)
}

// put takes a thing and puts it on another.
func (a *act) put(g Goal) {
	o := &a.w.Objects[g.Object]
	if placed(a.w, g) {
		a.leave(Left, o)
		a.leave(Right, o)
		return
	}
	s := a.sideOf(g.Object)
	if a.hold(s, g.Object, gripPoint(o, s)) {
		a.place(s, g)
	}
}

// gripPoint is where a tool takes an object: its middle, or the end of a bar
// that is on the arm's side, so that both can hold it.
func gripPoint(o *Object, s Side) r3.Vec {
	c := o.Centre()
	if o.Kind != BarKind {
		return c
	}
	axis := rotate(&o.Pose, r3.Vec{X: 1})
	end := math.Copysign(barGrip, axis.Y)
	if s == Right {
		end = -end
	}
	return r3.Add(c, r3.Scale(end, axis))
}

// barGrip is how far from a bar's middle it is taken, metres.
const barGrip = 0.105

// hold takes object i at p unless the gripper has it: it says whether it has. A
// gripper that has another thing first puts that down.
func (a *act) hold(s Side, i int, p r3.Vec) bool {
	switch held := a.w.held[s]; {
	case held == i:
		return true
	case held >= 0:
		down := a.tool(s)
		down.Z -= a.w.Objects[held].bottom() - TableHeight - placeDrop
		a.move(s, down, squeeze+(GripperOpen-squeeze)*a.nearness(s, down, 0))
		return false
	}
	above := p
	above.Z += a.widen(s, &a.w.Objects[i])
	a.move(s, a.over(s, above, approachHeight, 0), GripperOpen+(squeeze-GripperOpen)*a.nearness(s, p, 0))
	return false
}

// widen is how much higher than an object a gripper goes that is too narrow to go
// around it: there it opens.
func (a *act) widen(s Side, o *Object) float64 {
	return 4 * max(0, o.Width()-0.003-*a.q.Gripper(s))
}

// place carries what a gripper holds to the target and lets it go.
func (a *act) place(s Side, g Goal) {
	o, on := &a.w.Objects[g.Object], &a.w.Objects[g.Target]
	to := r3.Vec{X: on.Pose.P[0], Y: on.Pose.P[1], Z: on.top() + placeDrop}
	from := o.Centre()
	from.Z = o.bottom()
	p := r3.Add(to, r3.Sub(a.tool(s), from))
	slack := placeSlack(on.Kind)
	a.move(s, a.over(s, p, approachHeight, slack), squeeze+(GripperOpen-squeeze)*a.nearness(s, p, slack))
}

// placeSlack is how far in metres beside the middle of a target a thing is as good as
// over it: what it is put on is that large, and a policy that must see the last
// centimetre before it lowers what it holds never does.
func placeSlack(on Kind) float64 {
	switch on {
	case TrayKind:
		return 0.030
	case MatKind:
		return 0.025
	case CoasterKind:
		return 0.020
	}
	return 0.010
}

// meeting is where both arms hold the bar: where its middle is then.
func meeting() r3.Vec { return r3.Vec{X: 0.54, Y: 0, Z: TableHeight + 0.14} }

// handOverRise is how far in metres both arms raise the bar before one lets go.
const handOverRise = 0.04

// handOver takes the bar with the arm on its side, gives it to the other in the
// middle if its place is there, and puts it down.
func (a *act) handOver(g Goal) {
	o, on := &a.w.Objects[g.Object], &a.w.Objects[g.Target]
	receiver := sideAt(on.Pose.P[1])
	giver := 1 - receiver
	switch {
	case placed(a.w, g):
		a.leave(receiver, o)
	case a.w.held[receiver] == g.Object && a.w.held[giver] == g.Object:
		// They raise it together before the giver opens, so that whether the receiver
		// has it is seen before and not guessed at.
		raised := o.Centre().Z - meeting().Z
		up := r3.Vec{Z: 1.2*handOverRise - raised}
		a.move(receiver, r3.Add(gripPoint(o, receiver), up), squeeze)
		a.move(giver, r3.Add(a.tool(giver), up), squeeze+(GripperOpen-squeeze)*ramp(raised, 0.6*handOverRise, 0.9*handOverRise))
	case a.w.held[receiver] == g.Object:
		a.place(receiver, g)
		a.stay(receiver, ramp(a.away(giver, o), leaveNear/2, leaveNear))
		a.leave(giver, o)
	case a.w.held[giver] == g.Object:
		at := o.Centre()
		a.move(giver, a.over(giver, r3.Add(meeting(), r3.Sub(a.tool(giver), at)), 0, 0), squeeze)
		// The receiver waits above where the bar will be, and comes down as it
		// arrives.
		end := gripPoint(o, receiver)
		there := ramp(-r3.Norm(r3.Sub(at, meeting())), -0.07, -0.03)
		wait := meeting()
		wait.Y += barGrip
		if receiver == Right {
			wait.Y -= 2 * barGrip
		}
		p := r3.Add(wait, r3.Scale(there, r3.Sub(end, wait)))
		p.Z += 0.07 * (1 - there)
		p.Z += a.widen(receiver, o)
		a.move(receiver, a.over(receiver, p, 0, 0), GripperOpen+(squeeze-GripperOpen)*there*a.around(receiver, o, end))
	default:
		s := a.sideOf(g.Object)
		a.hold(s, g.Object, gripPoint(o, s))
	}
}

// around is nearness for a hand that takes a bar's end out of another hand: where
// along the bar matters less than that it is between the fingers.
func (a *act) around(s Side, bar *Object, end r3.Vec) float64 {
	d := r3.Sub(a.tool(s), end)
	axis := rotate(&bar.Pose, r3.Vec{X: 1})
	along := r3.Dot(d, axis)
	across := r3.Dot(d, r3.Unit(r3.Vec{X: axis.Y, Y: -axis.X}))
	return ramp(-r3.Norm(r3.Vec{X: 0.4 * along, Y: 0.7 * across, Z: 0.8 * d.Z})-a.twist(s), -graspFar, -graspNear)
}

// leave takes an arm home that may have just let an object go: it waits until the
// fingers are well off it, however long they take, and goes up before it goes away.
func (a *act) leave(s Side, o *Object) {
	x, away := a.tool(s), a.away(s, o)
	home := a.goal
	a.move(s, r3.Vec{X: x.X, Y: x.Y, Z: x.Z + leaveHeight}, GripperOpen)
	var share [2]float64
	share[s] = ramp(away, leaveNear, leaveFar)
	a.goal = blend(a.goal, home, share)
	opened := ramp(*a.q.Gripper(s)-o.Width(), leaveOpen, leaveOpen+0.008)
	a.stay(s, 1-ramp(-away, -leaveNear, -leaveNear/2)*(1-opened))
}

// away is how far a tool is in metres from where it takes an object.
func (a *act) away(s Side, o *Object) float64 { return r3.Norm(r3.Sub(a.tool(s), gripPoint(o, s))) }

// stay keeps an arm where it is, all of it at 0, nothing at 1.
func (a *act) stay(s Side, share float64) {
	from, to := a.q.Joints(s), a.goal.Joints(s)
	for i := range to {
		to[i] += (1 - share) * (from[i] - to[i])
	}
}
