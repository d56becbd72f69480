package sim

import (
	"math"

	"gonum.org/v1/gonum/spatial/r3"
)

// Pace of a Demonstrator, in the form of [Advance]: it moves each arm on a line
// in joint space towards a waypoint that itself depends on where things are.
const (
	demoPace = 0.8 // rad/s, of the joint with the longest way
	demoEase = 0.2 // rad
	// demoLead is how far ahead in seconds a command is: the servo, which closes
	// an error at servoGain, then moves at about demoPace.
	demoLead = 0.075
	// demoGrip is the pace of grippers, m/s: below the 0.1 that the node allows
	// them by default, so that a chunk does not count on a grip that its arms will
	// not have yet.
	demoGrip = 0.08
)

// Heights and distances of a Demonstrator's ways, metres.
const (
	approachHeight = 0.10 // above where it is going while away from it
	coneInner      = 0.012
	coneOuter      = 0.07 // within these distances the way comes down
	riseBegin      = 0.04 // this far below its way an arm only rises
	riseEnd        = 0.01

	graspNear = 0.010 // the gripper is fully closed, or open, this near the place
	graspFar  = 0.020 // and begins to be so here

	twistLever = 0.05 // that a radian of a tool's yaw is worth

	placeDrop = 0.004 // an object is let go this far above what it is put on

	squeeze      = 0.015 // commanded opening of a gripper that holds
	retreatAbove = 0.13  // height over the table from which an arm goes home

	leaveOpen   = 0.010 // an arm stays at what it let go until its gripper is this much wider
	leaveHeight = 0.07  // it goes up by so much, as far as
	leaveNear   = 0.04  // this far away, and home from
	leaveFar    = 0.07  // here on
)

// Demonstrator does a task as it should be done. What it commands is a
// continuous function of the world alone, without clock or memory, and of
// nothing that cameras and joints do not show, so that a policy without memory
// can learn it and shoves do not confuse it. Immutable.
type Demonstrator struct {
	arms *Arms
	goal Goal
}

// NewDemonstrator returns one that does what goal says.
func NewDemonstrator(arms *Arms, goal Goal) *Demonstrator { return &Demonstrator{arms, goal} }

// Act returns what to command now, for the next 1/ChunkRate seconds.
func (d *Demonstrator) Act(w *World) State {
	q := w.State()
	a := &act{w: w, q: q, goal: Home()}
	if d.goal.Task == "handover" {
		// Fingers close across a bar that lies along y, from both ends.
		a.yaw = [2]float64{Left: -math.Pi / 2, Right: math.Pi / 2}
	}
	for _, s := range []Side{Left, Right} {
		a.home(s)
	}
	switch d.goal.Task {
	case "reach":
		a.reach(d.goal)
	case "lift":
		a.lift(d.goal)
	case "bell":
		a.press(d.goal)
	case "cup", "sort", "stack":
		a.put(d.goal)
	case "handover":
		a.handOver(d.goal)
	}
	return a.command()
}

// Chunk returns the commands of the next ChunkRows/ChunkRate seconds: what Act
// says while a clone of the world follows it.
func (d *Demonstrator) Chunk(w *World) Chunk {
	var out Chunk
	c := w.Clone()
	for k := range out {
		out[k] = d.Act(c)
		c.Command(out[k])
		c.Step(RowTime)
	}
	return out
}

// act is one decision.
type act struct {
	w    *World
	q    State
	goal State // joints to move to; openings to command

	yaw [2]float64 // of the tools; see planarArm.solve
}

// command returns the posture a little on the way to the goal.
func (a *act) command() State {
	out := a.goal
	for _, s := range []Side{Left, Right} {
		from, to, at := a.q.Joints(s), a.goal.Joints(s), out.Joints(s)
		way := 0.0
		for i := range from {
			way = max(way, math.Abs(to[i]-from[i]))
		}
		left := remaining(way, demoPace, demoEase, demoLead)
		for i := range from {
			at[i] = to[i] - (to[i]-from[i])*left
		}
		open, want := *a.q.Gripper(s), out.Gripper(s)
		*want = open + min(max(*want-open, -demoGrip*demoLead), demoGrip*demoLead)
	}
	return out
}

func (a *act) tool(s Side) r3.Vec { return vec(a.w.tools[s].P) }

// move sends one tool to a point, its gripper to an opening.
func (a *act) move(s Side, p r3.Vec, opening float64) {
	p.X = min(max(p.X, 0.38), 0.70)
	p.Y = min(max(p.Y, -0.36), 0.36)
	p.Z = max(p.Z, TableHeight+fingerTip)
	q, _ := a.w.Arms.planar[s].solve(p, a.yaw[s])
	copy(a.goal.Joints(s), q[:])
	*a.goal.Gripper(s) = opening
}

// ramp rises linearly from 0 at a to 1 at b.
func ramp(x, a, b float64) float64 { return min(max((x-a)/(b-a), 0), 1) }

// over is the waypoint on the way to p: at the height of a cone that stands on
// p, and above where the tool is now while that is below the cone. Within slack
// metres of p the tool is as good as over it.
func (a *act) over(s Side, p r3.Vec, height, slack float64) r3.Vec {
	x := a.tool(s)
	off := max(0, math.Hypot(p.X-x.X, p.Y-x.Y)-slack)
	cone := p.Z + height*ramp(off+a.twist(s), coneInner, coneOuter)
	share := ramp(x.Z, cone-riseBegin, cone-riseEnd)
	return r3.Vec{X: x.X + share*(p.X-x.X), Y: x.Y + share*(p.Y-x.Y), Z: cone}
}

// nearness is 1 at a point, and slack metres beside it, and 0 away from it.
func (a *act) nearness(s Side, p r3.Vec, slack float64) float64 {
	d := r3.Sub(a.tool(s), p)
	off := math.Hypot(max(0, math.Hypot(d.X, d.Y)-slack), d.Z)
	return ramp(-off-a.twist(s), -graspFar, -graspNear)
}

// twist is how far joint 6 has still to turn a tool that is to have a yaw, as a
// distance: a gripper that is not yet across a bar is not yet there.
func (a *act) twist(s Side) float64 {
	if a.yaw[s] == 0 {
		return 0
	}
	sin, cos := math.Sincos(a.yaw[s])
	r := &a.w.tools[s].R
	return twistLever * math.Abs(math.Atan2(r[1]*cos+r[4]*sin, r[4]*cos-r[1]*sin))
}

// home brings an arm home: up first, where it is low above the table.
func (a *act) home(s Side) {
	x := a.tool(s)
	share := max(ramp(x.Z, TableHeight+retreatAbove-0.05, TableHeight+retreatAbove), ramp(-x.X, -0.40, -0.38))
	home := Home()
	up := home
	q, _ := a.w.Arms.planar[s].solve(r3.Vec{X: x.X, Y: x.Y, Z: TableHeight + retreatAbove + 0.03}, a.yaw[s])
	copy(up.Joints(s), q[:])
	*up.Gripper(s) = GripperOpen
	u := [2]float64{}
	u[s] = share
	between := blend(up, home, u)
	copy(a.goal.Joints(s), between.Joints(s))
	*a.goal.Gripper(s) = *between.Gripper(s)
	if a.w.held[s] >= 0 {
		*a.goal.Gripper(s) = GripperOpen
	}
}

// sideOf is the arm for a thing: the one that holds it, else the one on its side.
func (a *act) sideOf(i int) Side {
	if s := a.w.owner(i); s >= 0 {
		return s
	}
	return sideAt(a.w.Objects[i].Pose.P[1])
}
