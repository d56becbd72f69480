package control

import (
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// Plane bounds a half space: nothing may be below it. Points p with
// Normal·p >= Offset are on the allowed side.
type Plane struct {
	Name   string     // "table"
	Normal [3]float64 // points to the allowed side; any length but 0
	Offset float64    // m along the unit normal
	Margin float64    // the least distance, m
}

// Box is a solid obstacle: a table top, a post, the robot's own body.
type Box struct {
	Name   string
	Pose   urdf.Transform // of its centre
	Half   [3]float64     // half its size along its axes, m
	Margin float64        // the least distance, m
}

// Region is a box, along the axes of the base frame, in which a tool may be.
type Region struct{ Min, Max [3]float64 }

// segment is the axis of a capsule in the base frame.
type segment struct {
	a, b   r3.Vec
	middle r3.Vec
	reach  float64 // of the capsule from its middle: half its length and its radius
	radius float64
}

// length is r3.Norm without its care for squares that overflow, and faster.
func length(v r3.Vec) float64 { return math.Sqrt(r3.Norm2(v)) }

func newSegment(a, b r3.Vec, radius float64) segment {
	half := r3.Scale(0.5, r3.Sub(b, a))
	return segment{a: a, b: b, middle: r3.Add(a, half), reach: length(half) + radius, radius: radius}
}

// apart returns a distance that the capsules of s and o are at least apart.
func (s *segment) apart(o *segment) float64 {
	return length(r3.Sub(s.middle, o.middle)) - s.reach - o.reach
}

// distance returns how far apart the capsules of s and o are; negative, by
// how deep, where their axes are nearer than their radii.
func (s *segment) distance(o *segment) float64 {
	return segmentDistance(s.a, s.b, o.a, o.b) - s.radius - o.radius
}

// segmentDistance returns the distance of the segments ab and cd: the nearest
// points of their lines, clamped to the segments one after the other (Ericson,
// Real-Time Collision Detection, 5.1.9).
func segmentDistance(a, b, c, d r3.Vec) float64 {
	const point = 1e-18 // the square of a length in m that is none
	u, v, w := r3.Sub(b, a), r3.Sub(d, c), r3.Sub(a, c)
	uu, vv, uv, uw, vw := r3.Norm2(u), r3.Norm2(v), r3.Dot(u, v), r3.Dot(u, w), r3.Dot(v, w)
	var s, t float64 // along ab and cd, 0 to 1
	switch {
	case uu <= point && vv <= point:
	case uu <= point:
		t = clamp01(vw / vv)
	case vv <= point:
		s = clamp01(-uw / uu)
	default:
		if across := uu*vv - uv*uv; across > 1e-12*uu*vv { // else parallel: any s will do
			s = clamp01((uv*vw - uw*vv) / across)
		}
		t = (uv*s + vw) / vv
		if t < 0 || t > 1 {
			t = clamp01(t)
			s = clamp01((uv*t - uw) / uu)
		}
	}
	return length(r3.Sub(r3.Add(a, r3.Scale(s, u)), r3.Add(c, r3.Scale(t, v))))
}

func clamp01(x float64) float64 { return math.Min(math.Max(x, 0), 1) }

// above returns how far the capsule is above the plane of a unit normal.
func (s *segment) above(normal r3.Vec, offset float64) float64 {
	return math.Min(r3.Dot(normal, s.a), r3.Dot(normal, s.b)) - s.radius - offset
}

// boxDistance returns the signed distance of p from the box of half size h
// around the origin, negative inside.
func boxDistance(p, h r3.Vec) float64 {
	x, y, z := math.Abs(p.X)-h.X, math.Abs(p.Y)-h.Y, math.Abs(p.Z)-h.Z
	inside := math.Min(math.Max(x, math.Max(y, z)), 0)
	return length(r3.Vec{X: math.Max(x, 0), Y: math.Max(y, 0), Z: math.Max(z, 0)}) + inside
}

// boxSteps narrow a segment down to 4e-6 of its length.
const boxSteps = 26

// fromBox returns the signed distance of the capsule from a box of half size h
// whose frame has the base frame at inverse, or a bound of it that is no less
// than enough. Along a segment the distance from a convex body is convex, so a
// golden section search finds its least.
func (s *segment) fromBox(inverse *urdf.Transform, h r3.Vec, enough float64) float64 {
	into := func(p r3.Vec) r3.Vec { return vec(inverse.Apply([3]float64{p.X, p.Y, p.Z})) }
	if far := boxDistance(into(s.middle), h) - s.reach; far >= enough {
		return far
	}
	a, b := into(s.a), into(s.b)
	ab := r3.Sub(b, a)
	at := func(t float64) float64 { return boxDistance(r3.Add(a, r3.Scale(t, ab)), h) }
	const golden = math.Phi - 1
	lo, hi := 0.0, 1.0
	x, y := 1-golden, golden
	fx, fy := at(x), at(y)
	for range boxSteps {
		if fx <= fy {
			hi, y, fy = y, x, fx
			x = hi - golden*(hi-lo)
			fx = at(x)
		} else {
			lo, x, fx = x, y, fy
			y = lo + golden*(hi-lo)
			fy = at(y)
		}
	}
	return math.Min(math.Min(at(0), at(1)), math.Min(fx, fy)) - s.radius
}

// fromRegion returns the signed distance of p from a region, negative inside.
func fromRegion(p [3]float64, r *Region) float64 {
	var middle, half [3]float64
	for i := range p {
		middle[i] = p[i] - (r.Min[i]+r.Max[i])/2
		half[i] = (r.Max[i] - r.Min[i]) / 2
	}
	return boxDistance(vec(middle), vec(half))
}
