package sim

import (
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// Kind is what an object is; it decides its shape.
type Kind int

// Kinds of objects. Coaster, tray, mat and bell stay where they are; the others
// can be grasped and pushed.
const (
	CubeKind Kind = iota
	CupKind
	BarKind
	CoasterKind
	TrayKind
	MatKind
	BellKind
	// CanKind is a distractor: a tin that no instruction names.
	CanKind
)

// String returns the noun.
func (k Kind) String() string {
	return [...]string{"cube", "cup", "bar", "coaster", "tray", "mat", "bell", "can"}[k]
}

// Sizes of objects in metres. The gripper opens to GripperOpen, 0.07.
const (
	BlockSize = 0.05
	cupRadius = 0.025
	cupHeight = 0.06
	// barLength leaves the two hands that hold its ends room: at barGrip from its
	// middle their cameras, which look along it at each other, are 6 cm apart.
	barLength     = 0.26
	barWidth      = 0.04
	coasterRadius = 0.055
	slabHeight    = 0.006 // of coaster, mat and the tray's floor
	trayHalf      = 0.07
	trayRim       = 0.02
	matHalfX      = 0.06
	matHalfY      = 0.14
	bellRadius    = 0.04
	bellHeight    = 0.05
	// bellTravel is how far its plunger goes down.
	bellTravel = 0.012
	canRadius  = 0.022
	canHeight  = 0.05
)

// Object is a rigid thing on the table.
type Object struct {
	Kind   Kind
	Colour Colour
	// Pose is the frame at the middle of its bottom, z up, in body_Link. At rest
	// z is vertical; in a gripper it turns with it.
	Pose urdf.Transform
	// Pressed is set once a bell was pressed and stays.
	Pressed bool

	pressed float64 // how far a bell's plunger is down, m
	fall    float64 // speed downward, m/s
	on      int     // index of the object that carries it, -1 for the table or none
	last    Side    // the gripper that let it go last, -1 for none
}

// NewObject returns an object that stands on the table at (x, y), turned by yaw.
func NewObject(kind Kind, colour Colour, x, y, yaw float64) Object {
	return Object{Kind: kind, Colour: colour, Pose: urdf.FromRPY([3]float64{x, y, TableHeight}, [3]float64{0, 0, yaw}), on: -1, last: -1}
}

// Fixed says whether the object stays where it is.
func (o *Object) Fixed() bool {
	switch o.Kind {
	case CoasterKind, TrayKind, MatKind, BellKind:
		return true
	}
	return false
}

// Half returns half the sides of the box around the object.
func (o *Object) Half() r3.Vec {
	switch o.Kind {
	case CupKind:
		return r3.Vec{X: cupRadius, Y: cupRadius, Z: cupHeight / 2}
	case BarKind:
		return r3.Vec{X: barLength / 2, Y: barWidth / 2, Z: barWidth / 2}
	case CoasterKind:
		return r3.Vec{X: coasterRadius, Y: coasterRadius, Z: slabHeight / 2}
	case TrayKind:
		return r3.Vec{X: trayHalf, Y: trayHalf, Z: slabHeight / 2}
	case MatKind:
		return r3.Vec{X: matHalfX, Y: matHalfY, Z: slabHeight / 2}
	case BellKind:
		return r3.Vec{X: bellRadius, Y: bellRadius, Z: bellHeight / 2}
	case CanKind:
		return r3.Vec{X: canRadius, Y: canRadius, Z: canHeight / 2}
	default:
		return r3.Vec{X: BlockSize / 2, Y: BlockSize / 2, Z: BlockSize / 2}
	}
}

// round says whether the object is a cylinder about its z axis.
func (o *Object) round() bool {
	switch o.Kind {
	case CupKind, CoasterKind, BellKind, CanKind:
		return true
	}
	return false
}

// Centre returns the middle of the object in body_Link.
func (o *Object) Centre() r3.Vec {
	return apply(&o.Pose, r3.Vec{Z: o.Half().Z})
}

// Width is what a gripper's opening measures while it holds the object, metres.
func (o *Object) Width() float64 { return 2 * o.Half().Y }

// bottom and top are its lowest and highest points along the vertical.
func (o *Object) bottom() float64 { return o.Centre().Z - o.extent() }
func (o *Object) top() float64    { return o.Centre().Z + o.extent() }

// extent is half the vertical size, whichever way the object is turned.
func (o *Object) extent() float64 {
	h, r := o.Half(), &o.Pose.R
	return math.Abs(r[6])*h.X + math.Abs(r[7])*h.Y + math.Abs(r[8])*h.Z
}

// Yaw is the turn about the vertical, rad.
func (o *Object) Yaw() float64 { return math.Atan2(o.Pose.R[3], o.Pose.R[0]) }
