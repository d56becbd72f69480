package sim

import (
	"math"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// CameraID is one of the robot's cameras.
type CameraID int

// Cameras, in the order of the policy's images.
const (
	Head CameraID = iota
	WristLeft
	WristRight
)

// Cameras is how many there are.
const Cameras = 3

// String returns the name by which manifests and parameters call the camera.
func (c CameraID) String() string { return [...]string{"head", "wrist_left", "wrist_right"}[c] }

// The picture of the real cameras: 640x480, about 60 degrees wide.
const (
	PictureWidth  = 640
	PictureHeight = 480
	fieldOfView   = 60 * math.Pi / 180
)

// Intrinsics is a pinhole camera without distortion, in pixels; (0, 0) is the
// outer corner of the first pixel, so that its centre is (0.5, 0.5).
type Intrinsics struct {
	Width, Height  int
	FX, FY, CX, CY float64
}

// NewIntrinsics returns the cameras' picture scaled to a size. A size of
// another shape squeezes the picture, it does not cut it.
func NewIntrinsics(width, height int) Intrinsics {
	focal := PictureWidth / 2 / math.Tan(fieldOfView/2)
	return Intrinsics{
		Width: width, Height: height,
		FX: focal * float64(width) / PictureWidth, CX: float64(width) / 2,
		FY: focal * float64(height) / PictureHeight, CY: float64(height) / 2,
	}
}

// Project returns where a point of the optical frame (x right, y down, z into
// the picture, metres) appears; ok is false for points behind the camera.
func (k Intrinsics) Project(p r3.Vec) (u, v float64, ok bool) {
	if p.Z <= nearPlane {
		return 0, 0, false
	}
	return k.FX*p.X/p.Z + k.CX, k.FY*p.Y/p.Z + k.CY, true
}

// CameraPose returns a camera's optical frame in body_Link.
func (a *Arms) CameraPose(q *State, c CameraID) urdf.Transform {
	switch c {
	case WristLeft, WristRight:
		s := Side(c - WristLeft)
		// fX_tool0 is fixed to link6, so the way back is a constant.
		return a.Tool(q, s).Mul(a.wrists[s])
	default:
		return a.head
	}
}
