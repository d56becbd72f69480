package urdf

import (
	"fmt"
	"math"
)

// Capsule is a link's collision shape: all points within Radius of the segment
// from A to B, which are in the link's frame. Lengths are in metres; A equals B
// for a sphere.
type Capsule struct {
	Link   string
	A, B   [3]float64
	Radius float64
}

// maxShape bounds a collision shape in metres: larger numbers are millimetres.
const maxShape = 10

type xmlCollision struct {
	Origin struct {
		XYZ string `xml:"xyz,attr"`
		RPY string `xml:"rpy,attr"`
	} `xml:"origin"`
	Geometry struct {
		Cylinder *struct {
			Radius string `xml:"radius,attr"`
			Length string `xml:"length,attr"`
		} `xml:"cylinder"`
		Sphere *struct {
			Radius string `xml:"radius,attr"`
		} `xml:"sphere"`
		Box  *struct{} `xml:"box"`
		Mesh *struct{} `xml:"mesh"`
	} `xml:"geometry"`
}

// parseCollision returns the capsule of a <collision>; of a cylinder it is the
// one around its axis, which reaches a radius beyond either flat end. kind
// names the geometry where it is one that no capsule is made of.
func parseCollision(link string, x *xmlCollision) (c Capsule, kind string, err error) {
	c.Link = link
	g := &x.Geometry
	shapes := 0
	for _, present := range []bool{g.Cylinder != nil, g.Sphere != nil, g.Box != nil, g.Mesh != nil} {
		if present {
			shapes++
		}
	}
	if shapes != 1 {
		return c, "", fmt.Errorf("%w: <geometry> holds %d shapes, want one cylinder, sphere, box or mesh", ErrSyntax, shapes)
	}
	xyz, err := triple("origin xyz", x.Origin.XYZ, [3]float64{})
	if err != nil {
		return c, "", err
	}
	rpy, err := triple("origin rpy", x.Origin.RPY, [3]float64{})
	if err != nil {
		return c, "", err
	}
	origin := FromRPY(xyz, rpy)
	length := 0.0
	switch {
	case g.Box != nil:
		return c, "box", nil
	case g.Mesh != nil:
		return c, "mesh", nil
	case g.Sphere != nil:
		c.Radius, err = measure("sphere radius", g.Sphere.Radius)
	default:
		if c.Radius, err = measure("cylinder radius", g.Cylinder.Radius); err == nil {
			length, err = measure("cylinder length", g.Cylinder.Length)
		}
	}
	if err != nil {
		return c, "", err
	}
	c.A = origin.Apply([3]float64{0, 0, -length / 2})
	c.B = origin.Apply([3]float64{0, 0, length / 2})
	for _, v := range [...]float64{c.A[0], c.A[1], c.A[2], c.B[0], c.B[1], c.B[2]} {
		if math.Abs(v) > maxShape {
			return c, "", fmt.Errorf("%w: reaches %g m from the link's frame, at most %d; lengths are in metres", ErrShape, v, maxShape)
		}
	}
	return c, "", nil
}

// measure parses a length that must be positive and plausible.
func measure(what, text string) (float64, error) {
	v, err := number(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	if !(v > 0 && v <= maxShape) {
		return 0, fmt.Errorf("%w: %s is %g, must be above 0 and at most %d m", ErrShape, what, v, maxShape)
	}
	return v, nil
}
