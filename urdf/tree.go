package urdf

import (
	"fmt"
	"slices"
)

// Tree is everything that hangs on a base link: an arm with its gripper's
// fingers and its camera, say. Like a Chain it is immutable, and its methods
// allocate nothing.
type Tree struct {
	Base string
	// Joints are the movable joints in the order of a position vector q, each
	// after those above it.
	Joints []Joint
	// Links are all links, the base first, each after its parent.
	Links []string

	segments []segment // segment i leads to Links[i+1]
	parent   []int     // the index in Links that segment i starts from
}

// Tree returns everything from base down.
func (r *Robot) Tree(base string) (*Tree, error) {
	if !slices.Contains(r.Links, base) {
		return nil, fmt.Errorf("urdf: robot %q: tree below %q: %w", r.Name, base, ErrUnknownLink)
	}
	t := &Tree{Base: base, Links: []string{base}}
	for at := 0; at < len(t.Links); at++ {
		for _, j := range r.Joints {
			if j.Parent != t.Links[at] {
				continue
			}
			s := segment{origin: j.Origin, axis: j.Axis, kind: j.Type, index: -1}
			if j.Type != Fixed {
				s.index = len(t.Joints)
				t.Joints = append(t.Joints, j)
			}
			t.segments = append(t.segments, s)
			t.parent = append(t.parent, at)
			t.Links = append(t.Links, j.Child)
		}
	}
	return t, nil
}

// LinkTransforms appends to dst[:0] the frame of every link of t.Links in the
// base's frame, for joint positions q (rad, m), and returns it; it allocates
// only where dst is too short. It panics if len(q) != len(t.Joints).
func (t *Tree) LinkTransforms(q []float64, dst []Transform) []Transform {
	if len(q) != len(t.Joints) {
		panic(fmt.Sprintf("urdf: tree below %s has %d joints, q has %d entries", t.Base, len(t.Joints), len(q)))
	}
	dst = append(dst[:0], Identity())
	for i := range t.segments {
		dst = append(dst, t.segments[i].step(dst[t.parent[i]], q))
	}
	return dst
}
