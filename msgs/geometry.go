package msgs

// Vector3 is a geometry_msgs/msg/Vector3.
type Vector3 struct{ X, Y, Z float64 }

func (*Vector3) ROSType() string { return "geometry_msgs/msg/Vector3" }

func (m *Vector3) CDR(s *Stream) {
	s.Float64(&m.X)
	s.Float64(&m.Y)
	s.Float64(&m.Z)
}

// Point is a geometry_msgs/msg/Point, in metres.
type Point struct{ X, Y, Z float64 }

func (*Point) ROSType() string { return "geometry_msgs/msg/Point" }

func (m *Point) CDR(s *Stream) {
	s.Float64(&m.X)
	s.Float64(&m.Y)
	s.Float64(&m.Z)
}

// Quaternion is a geometry_msgs/msg/Quaternion. Its zero value is no rotation at
// all; the identity is W = 1.
type Quaternion struct{ X, Y, Z, W float64 }

func (*Quaternion) ROSType() string { return "geometry_msgs/msg/Quaternion" }

func (m *Quaternion) CDR(s *Stream) {
	s.Float64(&m.X)
	s.Float64(&m.Y)
	s.Float64(&m.Z)
	s.Float64(&m.W)
}

// Twist is a geometry_msgs/msg/Twist.
type Twist struct {
	Linear  Vector3 // m/s
	Angular Vector3 // rad/s
}

func (*Twist) ROSType() string { return "geometry_msgs/msg/Twist" }

func (m *Twist) CDR(s *Stream) {
	m.Linear.CDR(s)
	m.Angular.CDR(s)
}

// Pose is a geometry_msgs/msg/Pose.
type Pose struct {
	Position    Point
	Orientation Quaternion
}

func (*Pose) ROSType() string { return "geometry_msgs/msg/Pose" }

func (m *Pose) CDR(s *Stream) {
	m.Position.CDR(s)
	m.Orientation.CDR(s)
}

// PoseStamped is a geometry_msgs/msg/PoseStamped.
type PoseStamped struct {
	Header Header
	Pose   Pose
}

func (*PoseStamped) ROSType() string { return "geometry_msgs/msg/PoseStamped" }

func (m *PoseStamped) CDR(s *Stream) {
	m.Header.CDR(s)
	m.Pose.CDR(s)
}
