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
	} {
		if got, ok := Definition(rosType); !ok || got != want {
			t.Errorf("%s is defined as\n%s\nwant\n%s", rosType, got, want)
		}
	}
	if _, ok := Definition("std_msgs/msg/Nothing"); ok {
		t.Error("an unknown type has a definition")
	}
}
