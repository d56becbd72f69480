package ros2cli

import (
	"testing"
)

const trigger = "std_srvs/srv/Trigger"

// services calls all that a person calls.
func services(r *rig, t *testing.T) {
	r.robot(t)
	r.node(t)
	r.shows(t, []string{
		"/ddvla/enable [std_srvs/srv/Trigger]\n", "/ddvla/disable [std_srvs/srv/Trigger]\n", "/ddvla/estop [std_srvs/srv/Trigger]\n",
		"/ddvla/reset [std_srvs/srv/Trigger]\n", "/ddvla/get_parameters [rcl_interfaces/srv/GetParameters]\n",
		"/ddvla/get_parameter_types [rcl_interfaces/srv/GetParameterTypes]\n",
		"/ddvla/set_parameters_atomically [rcl_interfaces/srv/SetParametersAtomically]\n",
	}, "service", "list", "-t")
	r.shows(t, []string{trigger + "\n"}, "service", "type", "/ddvla/enable")
	r.shows(t, []string{"/ddvla/enable\n", "/ddvla/reset\n"}, "service", "find", trigger)
	mode := func(want string) {
		t.Helper()
		r.shows(t, []string{"key: mode\n", "value: " + want + "\n"}, "topic", "echo", "--once", "--full-length", "/diagnostics")
	}
	mode("disabled")
	r.shows(t, []string{"success=True, message='enabled: the arms follow the policy'"}, "service", "call", "/ddvla/enable", trigger)
	r.shows(t, []string{"success=True, message='reset: waiting for a new chunk'"}, "service", "call", "/ddvla/reset", trigger)
	r.shows(t, []string{"success=True, message='stopped: call ~/enable to go on'"}, "service", "call", "/ddvla/estop", trigger)
	mode("estopped")
	r.shows(t, []string{"success=True"}, "service", "call", "/ddvla/enable", trigger)
	r.shows(t, []string{"success=True, message='disabled: the arms come to rest'"}, "service", "call", "/ddvla/disable", trigger)
	mode("disabled")
	// Without a robot the node refuses, and says why.
	alone := r.node(t, "-r", "__ns:=/alone", "-p", "arms.left.state_topic:=/nobody")
	r.shows(t, []string{"success=False, message='"}, "service", "call", "/alone/ddvla/enable", trigger)
	alone.says("service refused")
}
