package sim

import (
	"fmt"
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// Colours of what is always there, as pigments from 0 to 1.
var (
	floorColour  = [3]byte{52, 55, 60}
	plankColours = [2][3]float32{{0.72, 0.60, 0.45}, {0.68, 0.56, 0.41}}
	tableEdge    = [3]float32{0.45, 0.36, 0.26}
	shadowColour = [3]float32{0.42, 0.34, 0.25}
	shellColour  = [3]float32{0.86, 0.87, 0.89}
	jointColour  = [3]float32{0.28, 0.29, 0.32}
	fingerColour = [3]float32{0.15, 0.15, 0.17}
)

// Light: a share that comes from everywhere and a share from one direction.
const (
	ambient = 0.45
	direct  = 0.65
)

var lightDirection = r3.Unit(r3.Vec{X: -0.35, Y: 0.25, Z: 1})

const planks = 8

// prismSides is how many flat sides stand for a round one.
const prismSides = 12

// Renderer draws the scene as one of the cameras sees it. Used by one goroutine
// at a time; its buffers are reused.
type Renderer struct {
	arms   *Arms
	raster *raster

	dst    []byte
	view   urdf.Transform // body_Link in the camera's optical frame
	eye    r3.Vec
	links  []urdf.Transform
	corner []r3.Vec
}

// NewRenderer returns a renderer of width x height pictures.
func NewRenderer(arms *Arms, width, height int) *Renderer {
	return &Renderer{arms: arms, raster: newRaster(NewIntrinsics(width, height))}
}

// Size is the number of bytes of a picture: rows top down, RGB.
func (r *Renderer) Size() int { return 3 * r.raster.k.Width * r.raster.k.Height }

// Render draws what camera c sees into dst, which must hold Size bytes.
func (r *Renderer) Render(q *State, scene Scene, c CameraID, dst []byte) error {
	if len(dst) != r.Size() {
		return fmt.Errorf("sim: picture buffer holds %d bytes, want %d", len(dst), r.Size())
	}
	pose := r.arms.CameraPose(q, c)
	r.dst, r.view, r.eye = dst, pose.Inverse(), vec(pose.P)
	r.raster.clear(dst, floorColour)
	r.table()
	for _, cube := range scene.Cubes {
		r.cube(cube)
	}
	for _, s := range []Side{Left, Right} {
		r.arm(q, s)
	}
	return nil
}

func vec(p [3]float64) r3.Vec { return r3.Vec{X: p[0], Y: p[1], Z: p[2]} }

func apply(t *urdf.Transform, p r3.Vec) r3.Vec {
	return vec(t.Apply([3]float64{p.X, p.Y, p.Z}))
}

func rotate(t *urdf.Transform, p r3.Vec) r3.Vec {
	return vec(t.Rotate([3]float64{p.X, p.Y, p.Z}))
}

// face draws a convex polygon given in body_Link with its outer unit normal.
// It moves the points into the camera's frame in place.
func (r *Renderer) face(points []r3.Vec, normal r3.Vec, pigment [3]float32) {
	if r3.Dot(normal, r3.Sub(r.eye, points[0])) <= 0 {
		return
	}
	bright := float32(255 * (ambient + direct*max(0, r3.Dot(normal, lightDirection))))
	var colour [3]byte
	for i, p := range pigment {
		colour[i] = byte(min(p*bright, 255))
	}
	for i, p := range points {
		points[i] = apply(&r.view, p)
	}
	r.raster.polygon(r.dst, points, rotate(&r.view, normal), colour)
}

// table draws planks that run away from the robot, and the table's near edge.
func (r *Renderer) table() {
	const width = 2 * tableHalf / planks
	for i := range planks {
		y := -tableHalf + float64(i)*width
		r.corner = append(r.corner[:0],
			r3.Vec{X: tableNear, Y: y, Z: TableHeight}, r3.Vec{X: tableFar, Y: y, Z: TableHeight},
			r3.Vec{X: tableFar, Y: y + width, Z: TableHeight}, r3.Vec{X: tableNear, Y: y + width, Z: TableHeight})
		r.face(r.corner, r3.Vec{Z: 1}, plankColours[i%2])
	}
	const thick = 0.03
	r.corner = append(r.corner[:0],
		r3.Vec{X: tableNear, Y: -tableHalf, Z: TableHeight}, r3.Vec{X: tableNear, Y: tableHalf, Z: TableHeight},
		r3.Vec{X: tableNear, Y: tableHalf, Z: TableHeight - thick}, r3.Vec{X: tableNear, Y: -tableHalf, Z: TableHeight - thick})
	r.face(r.corner, r3.Vec{X: -1}, tableEdge)
}

func (r *Renderer) cube(c Cube) {
	const half = CubeSize / 2
	sin, cos := math.Sincos(c.Yaw)
	at := urdf.Transform{
		R: [9]float64{cos, -sin, 0, sin, cos, 0, 0, 0, 1},
		P: [3]float64{c.X, c.Y, TableHeight + half},
	}
	// A dark rim on the table stands for the shadow.
	const rim, lift = 0.007, 0.001
	r.corner = r.corner[:0]
	for _, p := range [4][2]float64{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}} {
		r.corner = append(r.corner, apply(&at, r3.Vec{X: p[0] * (half + rim), Y: p[1] * (half + rim), Z: lift - half}))
	}
	r.face(r.corner, r3.Vec{Z: 1}, shadowColour)
	r.box(&at, r3.Vec{X: half, Y: half, Z: half}, c.Colour.rgb())
}

// box draws a box centred on frame at with the given half sides.
func (r *Renderer) box(at *urdf.Transform, half r3.Vec, pigment [3]float32) {
	h := [3]float64{half.X, half.Y, half.Z}
	for axis := range 3 {
		for _, sign := range [2]float64{-1, 1} {
			u, v := (axis+1)%3, (axis+2)%3
			r.corner = r.corner[:0]
			for _, s := range [4][2]float64{{-1, -1}, {1, -1}, {1, 1}, {-1, 1}} {
				var p [3]float64
				p[axis], p[u], p[v] = sign*h[axis], s[0]*h[u], s[1]*h[v]
				r.corner = append(r.corner, vec(at.Apply(p)))
			}
			var n [3]float64
			n[axis] = sign
			r.face(r.corner, vec(at.Rotate(n)), pigment)
		}
	}
}

// cylinder draws a closed cylinder from a to b.
func (r *Renderer) cylinder(a, b r3.Vec, radius float64, pigment [3]float32) {
	along := r3.Sub(b, a)
	axis := r3.Unit(along)
	side := r3.Vec{X: 1}
	if math.Abs(axis.X) > 0.7 {
		side = r3.Vec{Y: 1}
	}
	u := r3.Unit(r3.Cross(axis, side))
	v := r3.Cross(axis, u)
	var rim, normal [prismSides]r3.Vec
	for i := range prismSides {
		sin, cos := math.Sincos(2 * math.Pi * float64(i) / prismSides)
		rim[i] = r3.Add(r3.Scale(radius*cos, u), r3.Scale(radius*sin, v))
		sin, cos = math.Sincos(2 * math.Pi * (float64(i) + 0.5) / prismSides)
		normal[i] = r3.Add(r3.Scale(cos, u), r3.Scale(sin, v))
	}
	for i := range prismSides {
		p, q := r3.Add(a, rim[i]), r3.Add(a, rim[(i+1)%prismSides])
		r.corner = append(r.corner[:0], p, q, r3.Add(q, along), r3.Add(p, along))
		r.face(r.corner, normal[i], pigment)
	}
	for _, end := range []struct{ at, normal r3.Vec }{{a, r3.Scale(-1, axis)}, {b, axis}} {
		r.corner = r.corner[:0]
		for i := range rim {
			r.corner = append(r.corner, r3.Add(end.at, rim[i]))
		}
		r.face(r.corner, end.normal, pigment)
	}
}

// arm draws an arm as cylinders between its joints and around their axes, and
// two fingers. Radii and lengths in metres follow the look of a Piper; the
// lines between them are its kinematics.
func (r *Renderer) arm(q *State, s Side) {
	r.links = r.arms.tools[s].LinkTransforms(q.Joints(s), r.links)
	// body, base, link1 .. link6, gripper base, tool
	base, link := &r.links[1], r.links[1:8]
	origin := func(i int) r3.Vec { return vec(link[i].P) }
	ahead := func(i int, z float64) r3.Vec { return apply(&link[i], r3.Vec{Z: z}) }

	r.cylinder(vec(base.P), origin(1), 0.05, jointColour)
	r.cylinder(ahead(2, -0.05), ahead(2, 0.05), 0.045, jointColour)
	r.cylinder(origin(2), origin(3), 0.035, shellColour)
	r.cylinder(ahead(3, -0.045), ahead(3, 0.045), 0.04, jointColour)
	r.cylinder(origin(3), origin(4), 0.03, shellColour)
	r.cylinder(ahead(5, -0.04), ahead(5, 0.04), 0.032, jointColour)
	r.cylinder(origin(5), origin(6), 0.028, shellColour)

	wrist := &link[6]
	palm := wrist.Mul(urdf.Transform{R: urdf.Identity().R, P: [3]float64{0, 0, 0.045}})
	r.box(&palm, r3.Vec{X: 0.025, Y: 0.05, Z: 0.035}, jointColour)
	opening := min(max(*q.Gripper(s), 0), GripperOpen)
	for _, side := range []float64{-1, 1} {
		const thick = 0.006
		finger := wrist.Mul(urdf.Transform{R: urdf.Identity().R, P: [3]float64{0, side * (opening/2 + thick), 0.11}})
		r.box(&finger, r3.Vec{X: 0.01, Y: thick, Z: 0.032}, fingerColour)
	}
}
