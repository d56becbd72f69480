package msgs

import "testing"

func TestDefinition(t *testing.T) {
	const line = "================================================================================\n"
	for rosType, want := range map[string]string{
		"std_msgs/msg/String": "string data\n",
		"sensor_msgs/msg/JointState": "std_msgs/Header header\nstring[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n" +
			"\n" + line + "MSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n" +
			"\n" + line + "MSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n",
		"rmw_dds_common/msg/NodeEntitiesInfo": "string<=256 node_namespace\nstring<=256 node_name\n" +
			"rmw_dds_common/Gid[] reader_gid_seq\nrmw_dds_common/Gid[] writer_gid_seq\n" +
			"\n" + line + "MSG: rmw_dds_common/Gid\nchar[24] data\n",
		"std_srvs/srv/Trigger_Request": "",
		// AgileX's Piper_ros, src/piper_msgs/msg/PiperStatusMsg.msg.
		"piper_msgs/msg/PiperStatusMsg": "uint8 ctrl_mode\nuint8 arm_status\nuint8 mode_feedback\nuint8 teach_status\nuint8 motion_status\nuint8 trajectory_num\nint64 err_code\n" +
			"bool joint_1_angle_limit\nbool joint_2_angle_limit\nbool joint_3_angle_limit\nbool joint_4_angle_limit\nbool joint_5_angle_limit\nbool joint_6_angle_limit\n" +
			"bool communication_status_joint_1\nbool communication_status_joint_2\nbool communication_status_joint_3\n" +
			"bool communication_status_joint_4\nbool communication_status_joint_5\nbool communication_status_joint_6\n",
	} {
		if got, ok := Definition(rosType); !ok || got != want {
			t.Errorf("%s is defined as\n%s\nwant\n%s", rosType, got, want)
		}
	}
	if _, ok := Definition("std_msgs/msg/Nothing"); ok {
		t.Error("an unknown type has a definition")
	}
}
