package msgs

// New returns an empty message of a ROS type, or false for a type that this
// package does not have.
func New(rosType string) (Message, bool) {
	switch rosType {
	case "builtin_interfaces/msg/Duration":
		return new(Duration), true
	case "builtin_interfaces/msg/Time":
		return new(Time), true
	case "diagnostic_msgs/msg/DiagnosticArray":
		return new(DiagnosticArray), true
	case "diagnostic_msgs/msg/DiagnosticStatus":
		return new(DiagnosticStatus), true
	case "diagnostic_msgs/msg/KeyValue":
		return new(KeyValue), true
	case "geometry_msgs/msg/Point":
		return new(Point), true
	case "geometry_msgs/msg/Pose":
		return new(Pose), true
	case "geometry_msgs/msg/PoseStamped":
		return new(PoseStamped), true
	case "geometry_msgs/msg/Quaternion":
		return new(Quaternion), true
	case "geometry_msgs/msg/Twist":
		return new(Twist), true
	case "geometry_msgs/msg/Vector3":
		return new(Vector3), true
	case "lifecycle_msgs/msg/State":
		return new(State), true
	case "lifecycle_msgs/msg/Transition":
		return new(Transition), true
	case "lifecycle_msgs/msg/TransitionDescription":
		return new(TransitionDescription), true
	case "lifecycle_msgs/msg/TransitionEvent":
		return new(TransitionEvent), true
	case "lifecycle_msgs/srv/ChangeState_Request":
		return new(ChangeStateRequest), true
	case "lifecycle_msgs/srv/ChangeState_Response":
		return new(ChangeStateResponse), true
	case "lifecycle_msgs/srv/GetAvailableStates_Request":
		return new(GetAvailableStatesRequest), true
	case "lifecycle_msgs/srv/GetAvailableStates_Response":
		return new(GetAvailableStatesResponse), true
	case "lifecycle_msgs/srv/GetAvailableTransitions_Request":
		return new(GetAvailableTransitionsRequest), true
	case "lifecycle_msgs/srv/GetAvailableTransitions_Response":
		return new(GetAvailableTransitionsResponse), true
	case "lifecycle_msgs/srv/GetState_Request":
		return new(GetStateRequest), true
	case "lifecycle_msgs/srv/GetState_Response":
		return new(GetStateResponse), true
	case "rcl_interfaces/msg/FloatingPointRange":
		return new(FloatingPointRange), true
	case "rcl_interfaces/msg/IntegerRange":
		return new(IntegerRange), true
	case "rcl_interfaces/msg/ListParametersResult":
		return new(ListParametersResult), true
	case "rcl_interfaces/msg/Log":
		return new(Log), true
	case "rcl_interfaces/msg/Parameter":
		return new(Parameter), true
	case "rcl_interfaces/msg/ParameterDescriptor":
		return new(ParameterDescriptor), true
	case "rcl_interfaces/msg/ParameterEvent":
		return new(ParameterEvent), true
	case "rcl_interfaces/msg/ParameterValue":
		return new(ParameterValue), true
	case "rcl_interfaces/msg/SetParametersResult":
		return new(SetParametersResult), true
	case "rcl_interfaces/srv/DescribeParameters_Request":
		return new(DescribeParametersRequest), true
	case "rcl_interfaces/srv/DescribeParameters_Response":
		return new(DescribeParametersResponse), true
	case "rcl_interfaces/srv/GetParameterTypes_Request":
		return new(GetParameterTypesRequest), true
	case "rcl_interfaces/srv/GetParameterTypes_Response":
		return new(GetParameterTypesResponse), true
	case "rcl_interfaces/srv/GetParameters_Request":
		return new(GetParametersRequest), true
	case "rcl_interfaces/srv/GetParameters_Response":
		return new(GetParametersResponse), true
	case "rcl_interfaces/srv/ListParameters_Request":
		return new(ListParametersRequest), true
	case "rcl_interfaces/srv/ListParameters_Response":
		return new(ListParametersResponse), true
	case "rcl_interfaces/srv/SetParametersAtomically_Request":
		return new(SetParametersAtomicallyRequest), true
	case "rcl_interfaces/srv/SetParametersAtomically_Response":
		return new(SetParametersAtomicallyResponse), true
	case "rcl_interfaces/srv/SetParameters_Request":
		return new(SetParametersRequest), true
	case "rcl_interfaces/srv/SetParameters_Response":
		return new(SetParametersResponse), true
	case "rmw_dds_common/msg/Gid":
		return new(Gid), true
	case "rmw_dds_common/msg/NodeEntitiesInfo":
		return new(NodeEntitiesInfo), true
	case "rmw_dds_common/msg/ParticipantEntitiesInfo":
		return new(ParticipantEntitiesInfo), true
	case "rosgraph_msgs/msg/Clock":
		return new(Clock), true
	case "sensor_msgs/msg/CameraInfo":
		return new(CameraInfo), true
	case "sensor_msgs/msg/CompressedImage":
		return new(CompressedImage), true
	case "sensor_msgs/msg/Image":
		return new(Image), true
	case "sensor_msgs/msg/JointState":
		return new(JointState), true
	case "sensor_msgs/msg/RegionOfInterest":
		return new(RegionOfInterest), true
	case "std_msgs/msg/Bool":
		return new(Bool), true
	case "std_msgs/msg/Float64MultiArray":
		return new(Float64MultiArray), true
	case "std_msgs/msg/Header":
		return new(Header), true
	case "std_msgs/msg/MultiArrayDimension":
		return new(MultiArrayDimension), true
	case "std_msgs/msg/MultiArrayLayout":
		return new(MultiArrayLayout), true
	case "std_msgs/msg/String":
		return new(String), true
	case "std_srvs/srv/Empty_Request":
		return new(EmptyRequest), true
	case "std_srvs/srv/Empty_Response":
		return new(EmptyResponse), true
	case "std_srvs/srv/SetBool_Request":
		return new(SetBoolRequest), true
	case "std_srvs/srv/SetBool_Response":
		return new(SetBoolResponse), true
	case "std_srvs/srv/Trigger_Request":
		return new(TriggerRequest), true
	case "std_srvs/srv/Trigger_Response":
		return new(TriggerResponse), true
	case "trajectory_msgs/msg/JointTrajectory":
		return new(JointTrajectory), true
	case "trajectory_msgs/msg/JointTrajectoryPoint":
		return new(JointTrajectoryPoint), true
	}
	return nil, false
}

// Types lists the ROS types that [New] knows, sorted; services as their two halves, "..._Request" and
// "..._Response".
func Types() []string {
	return []string{
		"builtin_interfaces/msg/Duration",
		"builtin_interfaces/msg/Time",
		"diagnostic_msgs/msg/DiagnosticArray",
		"diagnostic_msgs/msg/DiagnosticStatus",
		"diagnostic_msgs/msg/KeyValue",
		"geometry_msgs/msg/Point",
		"geometry_msgs/msg/Pose",
		"geometry_msgs/msg/PoseStamped",
		"geometry_msgs/msg/Quaternion",
		"geometry_msgs/msg/Twist",
		"geometry_msgs/msg/Vector3",
		"lifecycle_msgs/msg/State",
		"lifecycle_msgs/msg/Transition",
		"lifecycle_msgs/msg/TransitionDescription",
		"lifecycle_msgs/msg/TransitionEvent",
		"lifecycle_msgs/srv/ChangeState_Request",
		"lifecycle_msgs/srv/ChangeState_Response",
		"lifecycle_msgs/srv/GetAvailableStates_Request",
		"lifecycle_msgs/srv/GetAvailableStates_Response",
		"lifecycle_msgs/srv/GetAvailableTransitions_Request",
		"lifecycle_msgs/srv/GetAvailableTransitions_Response",
		"lifecycle_msgs/srv/GetState_Request",
		"lifecycle_msgs/srv/GetState_Response",
		"rcl_interfaces/msg/FloatingPointRange",
		"rcl_interfaces/msg/IntegerRange",
		"rcl_interfaces/msg/ListParametersResult",
		"rcl_interfaces/msg/Log",
		"rcl_interfaces/msg/Parameter",
		"rcl_interfaces/msg/ParameterDescriptor",
		"rcl_interfaces/msg/ParameterEvent",
		"rcl_interfaces/msg/ParameterValue",
		"rcl_interfaces/msg/SetParametersResult",
		"rcl_interfaces/srv/DescribeParameters_Request",
		"rcl_interfaces/srv/DescribeParameters_Response",
		"rcl_interfaces/srv/GetParameterTypes_Request",
		"rcl_interfaces/srv/GetParameterTypes_Response",
		"rcl_interfaces/srv/GetParameters_Request",
		"rcl_interfaces/srv/GetParameters_Response",
		"rcl_interfaces/srv/ListParameters_Request",
		"rcl_interfaces/srv/ListParameters_Response",
		"rcl_interfaces/srv/SetParametersAtomically_Request",
		"rcl_interfaces/srv/SetParametersAtomically_Response",
		"rcl_interfaces/srv/SetParameters_Request",
		"rcl_interfaces/srv/SetParameters_Response",
		"rmw_dds_common/msg/Gid",
		"rmw_dds_common/msg/NodeEntitiesInfo",
		"rmw_dds_common/msg/ParticipantEntitiesInfo",
		"rosgraph_msgs/msg/Clock",
		"sensor_msgs/msg/CameraInfo",
		"sensor_msgs/msg/CompressedImage",
		"sensor_msgs/msg/Image",
		"sensor_msgs/msg/JointState",
		"sensor_msgs/msg/RegionOfInterest",
		"std_msgs/msg/Bool",
		"std_msgs/msg/Float64MultiArray",
		"std_msgs/msg/Header",
		"std_msgs/msg/MultiArrayDimension",
		"std_msgs/msg/MultiArrayLayout",
		"std_msgs/msg/String",
		"std_srvs/srv/Empty_Request",
		"std_srvs/srv/Empty_Response",
		"std_srvs/srv/SetBool_Request",
		"std_srvs/srv/SetBool_Response",
		"std_srvs/srv/Trigger_Request",
		"std_srvs/srv/Trigger_Response",
		"trajectory_msgs/msg/JointTrajectory",
		"trajectory_msgs/msg/JointTrajectoryPoint",
	}
}
