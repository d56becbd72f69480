package msgs

// PiperStatusMsg is a piper_msgs/msg/PiperStatusMsg, what AgileX's drivers say of
// an arm. It is not part of ROS: a graph of the rclgo back end has it where
// piper_msgs is installed.
type PiperStatusMsg struct {
	CtrlMode      uint8 // 0 standby, 1 CAN, 2 teach
	ArmStatus     uint8 // 0 normal; see piper_sdk, arm_feedback_status.py
	ModeFeedback  uint8
	TeachStatus   uint8
	MotionStatus  uint8
	TrajectoryNum uint8
	ErrCode       int64
	AngleLimit    [6]bool `ros:"joint_%d_angle_limit"`
	Communication [6]bool `ros:"communication_status_joint_%d"`
}

func (*PiperStatusMsg) ROSType() string { return "piper_msgs/msg/PiperStatusMsg" }

func (m *PiperStatusMsg) CDR(s *Stream) {
	for _, v := range []*uint8{&m.CtrlMode, &m.ArmStatus, &m.ModeFeedback, &m.TeachStatus, &m.MotionStatus, &m.TrajectoryNum} {
		s.Uint8(v)
	}
	s.Int64(&m.ErrCode)
	for i := range m.AngleLimit {
		s.Bool(&m.AngleLimit[i])
	}
	for i := range m.Communication {
		s.Bool(&m.Communication[i])
	}
}
