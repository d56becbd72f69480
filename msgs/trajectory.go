package msgs

// JointTrajectory is a trajectory_msgs/msg/JointTrajectory.
type JointTrajectory struct {
	Header     Header // a zero stamp means "start now"
	JointNames []string
	Points     []JointTrajectoryPoint
}

func (*JointTrajectory) ROSType() string { return "trajectory_msgs/msg/JointTrajectory" }

func (m *JointTrajectory) CDR(s *Stream) {
	m.Header.CDR(s)
	s.Strings(&m.JointNames)
	Sequence(s, &m.Points, 24)
}

// JointTrajectoryPoint is a trajectory_msgs/msg/JointTrajectoryPoint. Each slice
// is empty or has one value per joint name.
type JointTrajectoryPoint struct {
	Positions     []float64 // rad or m
	Velocities    []float64 // rad/s or m/s
	Accelerations []float64 // rad/s^2 or m/s^2
	Effort        []float64 // Nm or N
	TimeFromStart Duration  // since the trajectory's stamp, increasing
}

func (*JointTrajectoryPoint) ROSType() string { return "trajectory_msgs/msg/JointTrajectoryPoint" }

func (m *JointTrajectoryPoint) CDR(s *Stream) {
	s.Float64s(&m.Positions)
	s.Float64s(&m.Velocities)
	s.Float64s(&m.Accelerations)
	s.Float64s(&m.Effort)
	m.TimeFromStart.CDR(s)
}
