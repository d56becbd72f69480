package urdf

import (
	"fmt"
	"slices"

	"gonum.org/v1/gonum/mat"
)

// Chain is the path from a base link down to a tip link. It is immutable and
// its methods allocate nothing, so that it may be shared between goroutines
// and used in a control loop.
type Chain struct {
	Base, Tip string
	// Joints are the movable joints in the order of a position vector q;
	// fixed joints between them are part of the geometry only.
	Joints []Joint
	// Links are all links of the path, base first, as LinkTransforms visits them.
	Links []string

	segments []segment
}

// segment leads from one link of the path to the next.
type segment struct {
	origin Transform
	axis   [3]float64
	kind   JointType
	index  int // into q; -1 when fixed
}

// Chain returns the path from base to tip. base must be tip or lie above it.
func (r *Robot) Chain(base, tip string) (*Chain, error) {
	for _, l := range []string{base, tip} {
		if !slices.Contains(r.Links, l) {
			return nil, fmt.Errorf("urdf: robot %q: chain %s to %s: link %q: %w", r.Name, base, tip, l, ErrUnknownLink)
		}
	}
	var path []int
	for l := tip; l != base; {
		i, ok := r.parentJoint[l]
		if !ok {
			return nil, fmt.Errorf("urdf: robot %q: chain %s to %s: %w: the base is not above the tip", r.Name, base, tip, ErrTree)
		}
		path = append(path, i)
		l = r.Joints[i].Parent
	}
	slices.Reverse(path)
	c := &Chain{Base: base, Tip: tip, Links: []string{base}}
	for _, i := range path {
		j := r.Joints[i]
		s := segment{origin: j.Origin, axis: j.Axis, kind: j.Type, index: -1}
		if j.Type != Fixed {
			s.index = len(c.Joints)
			c.Joints = append(c.Joints, j)
		}
		c.segments = append(c.segments, s)
		c.Links = append(c.Links, j.Child)
	}
	return c, nil
}

// step moves frame t along one segment.
func (s *segment) step(t Transform, q []float64) Transform {
	t = t.Mul(s.origin)
	switch {
	case s.index < 0:
		return t
	case s.kind == Prismatic:
		d := q[s.index]
		t.P = t.Apply([3]float64{d * s.axis[0], d * s.axis[1], d * s.axis[2]})
		return t
	default:
		return t.Mul(Transform{R: rotationAbout(s.axis, q[s.index])})
	}
}

// check panics when q does not have one entry per joint: a mistake in the
// calling code, like an index out of range.
func (c *Chain) check(q []float64) {
	if len(q) != len(c.Joints) {
		panic(fmt.Sprintf("urdf: chain %s to %s has %d joints, q has %d entries", c.Base, c.Tip, len(c.Joints), len(q)))
	}
}

// Forward returns the tip's frame in the base's for joint positions q (rad, m).
// It panics if len(q) != len(c.Joints). Limits are not applied.
func (c *Chain) Forward(q []float64) Transform {
	c.check(q)
	t := Identity()
	for i := range c.segments {
		t = c.segments[i].step(t, q)
	}
	return t
}

// LinkTransforms appends to dst[:0] the frame of every link of c.Links in the
// base's frame and returns it; it allocates only where dst is too short. It
// panics if len(q) != len(c.Joints).
func (c *Chain) LinkTransforms(q []float64, dst []Transform) []Transform {
	c.check(q)
	t := Identity()
	dst = append(dst[:0], t)
	for i := range c.segments {
		t = c.segments[i].step(t, q)
		dst = append(dst, t)
	}
	return dst
}

// Jacobian stores the geometric Jacobian of the tip in dst, 6 rows by one
// column per joint: rows 0 to 2 are the tip's velocity, rows 3 to 5 its
// angular velocity, both in the base's frame and per unit of joint speed. It
// returns the tip's frame, as Forward does, and panics if q or dst have the
// wrong size.
func (c *Chain) Jacobian(q []float64, dst *mat.Dense) Transform {
	c.check(q)
	if rows, cols := dst.Dims(); rows != 6 || cols != len(c.Joints) {
		panic(fmt.Sprintf("urdf: chain %s to %s: Jacobian is 6x%d, dst is %dx%d", c.Base, c.Tip, len(c.Joints), rows, cols))
	}
	end := c.Forward(q)
	tip := end.P
	t := Identity()
	for i := range c.segments {
		s := &c.segments[i]
		t = s.step(t, q)
		if s.index < 0 {
			continue
		}
		// A motion about or along the axis leaves the axis where it is, so the
		// frame after the joint gives its direction as well.
		a := t.Rotate(s.axis)
		if s.kind == Prismatic {
			for k := range 3 {
				dst.Set(k, s.index, a[k])
				dst.Set(3+k, s.index, 0)
			}
			continue
		}
		r := [3]float64{tip[0] - t.P[0], tip[1] - t.P[1], tip[2] - t.P[2]}
		for k := range 3 {
			dst.Set(k, s.index, a[(k+1)%3]*r[(k+2)%3]-a[(k+2)%3]*r[(k+1)%3])
			dst.Set(3+k, s.index, a[k])
		}
	}
	return end
}
