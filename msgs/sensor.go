package msgs

// Image is a sensor_msgs/msg/Image: uncompressed pixels, row after row.
type Image struct {
	Header      Header
	Height      uint32 // rows
	Width       uint32 // columns
	Encoding    string // such as "rgb8" or "bgr8"
	IsBigendian uint8
	Step        uint32 // bytes per row, padding included
	Data        []byte // Step * Height bytes; aliases the decoded data
}

func (*Image) ROSType() string { return "sensor_msgs/msg/Image" }

func (m *Image) CDR(s *Stream) {
	m.Header.CDR(s)
	s.Uint32(&m.Height)
	s.Uint32(&m.Width)
	s.String(&m.Encoding)
	s.Uint8(&m.IsBigendian)
	s.Uint32(&m.Step)
	s.Bytes(&m.Data)
}

// CompressedImage is a sensor_msgs/msg/CompressedImage.
type CompressedImage struct {
	Header Header
	Format string // "jpeg", "png", or with details "rgb8; jpeg compressed bgr8"
	Data   []byte // the image file; aliases the decoded data
}

func (*CompressedImage) ROSType() string { return "sensor_msgs/msg/CompressedImage" }

func (m *CompressedImage) CDR(s *Stream) {
	m.Header.CDR(s)
	s.String(&m.Format)
	s.Bytes(&m.Data)
}

// JointState is a sensor_msgs/msg/JointState. The message's rule is that each of
// Position, Velocity and Effort is empty or as long as Name; drivers break it.
type JointState struct {
	Header   Header
	Name     []string
	Position []float64 // rad or m
	Velocity []float64 // rad/s or m/s
	Effort   []float64 // Nm or N
}

func (*JointState) ROSType() string { return "sensor_msgs/msg/JointState" }

func (m *JointState) CDR(s *Stream) {
	m.Header.CDR(s)
	s.Strings(&m.Name)
	s.Float64s(&m.Position)
	s.Float64s(&m.Velocity)
	s.Float64s(&m.Effort)
}

// CameraInfo is a sensor_msgs/msg/CameraInfo: a camera's calibration.
type CameraInfo struct {
	Header          Header
	Height          uint32 // rows of the calibrated image
	Width           uint32
	DistortionModel string      // "plumb_bob", "rational_polynomial", "equidistant"
	D               []float64   // distortion parameters of that model
	K               [9]float64  // intrinsic matrix, row-major 3x3
	R               [9]float64  // rectification matrix, row-major 3x3
	P               [12]float64 // projection matrix, row-major 3x4
	BinningX        uint32      // 0 means 1
	BinningY        uint32
	ROI             RegionOfInterest
}

func (*CameraInfo) ROSType() string { return "sensor_msgs/msg/CameraInfo" }

func (m *CameraInfo) CDR(s *Stream) {
	m.Header.CDR(s)
	s.Uint32(&m.Height)
	s.Uint32(&m.Width)
	s.String(&m.DistortionModel)
	s.Float64s(&m.D)
	s.Float64Array(m.K[:])
	s.Float64Array(m.R[:])
	s.Float64Array(m.P[:])
	s.Uint32(&m.BinningX)
	s.Uint32(&m.BinningY)
	m.ROI.CDR(s)
}

// RegionOfInterest is a sensor_msgs/msg/RegionOfInterest, in pixels of the full
// image; all zero means the whole of it.
type RegionOfInterest struct {
	XOffset   uint32
	YOffset   uint32
	Height    uint32
	Width     uint32
	DoRectify bool
}

func (*RegionOfInterest) ROSType() string { return "sensor_msgs/msg/RegionOfInterest" }

func (m *RegionOfInterest) CDR(s *Stream) {
	s.Uint32(&m.XOffset)
	s.Uint32(&m.YOffset)
	s.Uint32(&m.Height)
	s.Uint32(&m.Width)
	s.Bool(&m.DoRectify)
}
