package control

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// armBody is an arm's geometry and, after move, where it is.
type armBody struct {
	tree     *urdf.Tree
	mount    urdf.Transform
	lo       int
	turning  []int         // joints of the arm that are no grippers
	sources  []jointSource // of the tree's joints
	q        []float64
	frames   []urdf.Transform
	capsules []urdf.Capsule
	link     []int // of each capsule, in tree.Links
	segments []segment
	moved    []int // turning joints above each capsule: 0 for the base
	tool     int   // in tree.Links
	regions  []Region
}

// jointSource is where a joint of the tree has its position from.
type jointSource struct {
	index int     // in the arm's part of a pose
	scale float64 // 1, or half an opening in the finger's direction
}

func newArmBody(robot *urdf.Robot, arm *Arm, mount *ArmMount, lo int) (*armBody, error) {
	tree, err := robot.Tree(mount.Base)
	if err != nil {
		return nil, err
	}
	if !finiteTransform(&mount.Mount) || mount.Mount == (urdf.Transform{}) {
		return nil, fmt.Errorf("mount of %q is no transform", mount.Base)
	}
	b := &armBody{tree: tree, mount: mount.Mount, lo: lo, tool: -1, regions: slices.Clone(mount.Regions), q: make([]float64, len(tree.Joints))}
	if err := b.connect(arm); err != nil {
		return nil, err
	}
	for i, l := range tree.Links {
		chain, err := robot.Chain(mount.Base, l)
		if err != nil {
			return nil, err
		}
		moved := 0 // turning joints above the link
		for _, j := range chain.Joints {
			if j.Type != urdf.Prismatic {
				moved++
			}
		}
		if l == mount.Tool {
			b.tool = i
		}
		if kind := robot.Unshaped[l]; kind != "" {
			return nil, fmt.Errorf("link %q: its collision geometry is a %s; give cylinders or spheres", l, kind)
		}
		shaped := false
		for _, c := range robot.Capsules {
			if c.Link != l {
				continue
			}
			shaped = true
			b.capsules, b.link = append(b.capsules, c), append(b.link, i)
			b.moved = append(b.moved, moved)
		}
		if moving := len(chain.Joints) > 0 && chain.Joints[len(chain.Joints)-1].Child == l; moving && !shaped {
			return nil, fmt.Errorf("link %q has no collision geometry; give it a cylinder or a sphere", l)
		}
	}
	if b.tool < 0 {
		return nil, fmt.Errorf("tool %q does not hang on %q", mount.Tool, mount.Base)
	}
	for _, r := range b.regions {
		for i := range r.Min {
			if !(r.Min[i] < r.Max[i]) || math.IsInf(r.Min[i], 0) || math.IsInf(r.Max[i], 0) {
				return nil, fmt.Errorf("workspace %v to %v m: want finite numbers, each minimum below its maximum", r.Min, r.Max)
			}
		}
	}
	b.segments = make([]segment, len(b.capsules))
	return b, nil
}

// connect finds where each joint of the tree has its position from: those that
// turn are the layout's in order, those that slide are fingers, each of which
// goes half the opening from 0 towards its further limit.
func (b *armBody) connect(arm *Arm) error {
	gripper := -1
	for j, joint := range arm.Joints {
		if joint.Gripper {
			gripper = j
		} else {
			b.turning = append(b.turning, j)
		}
	}
	n := 0
	for _, j := range b.tree.Joints {
		switch {
		case j.Type == urdf.Prismatic && gripper < 0:
			return fmt.Errorf("joint %q slides, but the arm has no gripper", j.Name)
		case j.Type == urdf.Prismatic:
			scale := 0.5
			if -j.Lower > j.Upper {
				scale = -0.5
			}
			b.sources = append(b.sources, jointSource{gripper, scale})
		case n == len(b.turning):
			return fmt.Errorf("joint %q is one more than the arm's %d", j.Name, n)
		default:
			b.sources = append(b.sources, jointSource{b.turning[n], 1})
			n++
		}
	}
	if n != len(b.turning) {
		return fmt.Errorf("%d joints turn below %q; the arm has %d", n, b.tree.Base, len(b.turning))
	}
	return nil
}

// move brings the segments to where the pose has them.
func (b *armBody) move(positions []float64) {
	for i, s := range b.sources {
		b.q[i] = s.scale * positions[b.lo+s.index]
	}
	b.frames = b.tree.LinkTransforms(b.q, b.frames)
	for i := range b.frames {
		b.frames[i] = b.mount.Mul(b.frames[i])
	}
	for i := range b.capsules {
		c, at := &b.capsules[i], &b.frames[b.link[i]]
		b.segments[i] = newSegment(vec(at.Apply(c.A)), vec(at.Apply(c.B)), c.Radius)
	}
}

// foldsOnto reports whether a link with so many joints above it is checked
// against one with so many: from link4 on against base, link1 and link2, and
// link3 against the base.
func foldsOnto(moved, lower int) bool { return lower <= 2 && moved >= 4 || lower == 0 && moved == 3 }

func (b *armBody) fromItself(margin float64) Clearance {
	c := Clearance{A: b.tree.Base, B: b.tree.Base, Distance: math.Inf(1), Margin: margin}
	for i := range b.segments {
		for j := range b.segments {
			if foldsOnto(b.moved[i], b.moved[j]) {
				c.nearest(&b.segments[i], &b.segments[j], b.capsules[i].Link, b.capsules[j].Link)
			}
		}
	}
	return c
}

func (b *armBody) fromArm(o *armBody, margin float64) Clearance {
	c := Clearance{A: b.tree.Base, B: o.tree.Base, Distance: math.Inf(1), Margin: margin}
	for i := range b.segments {
		for j := range o.segments {
			c.nearest(&b.segments[i], &o.segments[j], b.capsules[i].Link, o.capsules[j].Link)
		}
	}
	return c
}

// nearest takes a pair of capsules if it is nearer than any before.
func (c *Clearance) nearest(s, o *segment, name, other string) {
	if s.apart(o) >= c.Distance {
		return
	}
	if d := s.distance(o); d < c.Distance {
		c.A, c.B, c.Distance = name, other, d
	}
}

func (b *armBody) fromPlane(p *Plane, normal r3.Vec) Clearance {
	c := Clearance{A: b.tree.Base, B: p.Name, Distance: math.Inf(1), Margin: p.Margin}
	for i := range b.segments {
		if d := b.segments[i].above(normal, p.Offset); b.moved[i] >= 2 && d < c.Distance {
			c.A, c.Distance = b.capsules[i].Link, d
		}
	}
	return c
}

func (b *armBody) fromBox(box *Box, inverse *urdf.Transform) Clearance {
	c := Clearance{A: b.tree.Base, B: box.Name, Distance: math.Inf(1), Margin: box.Margin}
	for i := range b.segments {
		if b.moved[i] < 2 {
			continue
		}
		if d := b.segments[i].fromBox(inverse, vec(box.Half), c.Distance); d < c.Distance {
			c.A, c.Distance = b.capsules[i].Link, d
		}
	}
	return c
}
