package ros2cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// graph asks who is there, and with what.
func graph(r *rig, t *testing.T) {
	r.robot(t)
	r.node(t)
	r.shows(t, []string{"/ddvla\n", "/cobot_magic_sim\n"}, "node", "list")
	r.until(t, func(said string) error {
		for _, want := range []struct{ section, entry string }{
			{"Subscribers:", "/ddvla/instruction: std_msgs/msg/String"},
			{"Subscribers:", "/ddvla/estop: std_msgs/msg/Bool"},
			{"Subscribers:", "/camera_f/color/image_raw: sensor_msgs/msg/Image"},
			{"Subscribers:", "/puppet/joint_left: sensor_msgs/msg/JointState"},
			{"Publishers:", "/ddvla/action_chunk: trajectory_msgs/msg/JointTrajectory"},
			{"Publishers:", "/diagnostics: diagnostic_msgs/msg/DiagnosticArray"},
			{"Publishers:", "/master/joint_right: sensor_msgs/msg/JointState"},
			{"Publishers:", "/parameter_events: rcl_interfaces/msg/ParameterEvent"},
			{"Publishers:", "/rosout: rcl_interfaces/msg/Log"},
			{"Service Servers:", "/ddvla/enable: std_srvs/srv/Trigger"},
			{"Service Servers:", "/ddvla/estop: std_srvs/srv/Trigger"},
			{"Service Servers:", "/ddvla/set_parameters: rcl_interfaces/srv/SetParameters"},
			{"Service Servers:", "/ddvla/describe_parameters: rcl_interfaces/srv/DescribeParameters"},
		} {
			if !strings.Contains(section(said, want.section), "    "+want.entry+"\n") {
				return fmt.Errorf("no %q under %s", want.entry, want.section)
			}
		}
		return nil
	}, "node", "info", "/ddvla")
	r.shows(t, []string{
		"/ddvla/action_chunk [trajectory_msgs/msg/JointTrajectory]\n", "/ddvla/instruction [std_msgs/msg/String]\n",
		"/diagnostics [diagnostic_msgs/msg/DiagnosticArray]\n", "/camera_l/color/image_raw [sensor_msgs/msg/Image]\n",
	}, "topic", "list", "-t")
	// A camera: the robot is reliable, the node asks for best effort.
	r.until(t, func(said string) error {
		return endpoints(said, "sensor_msgs/msg/Image", "cobot_magic_sim", "PUBLISHER", "", "ddvla", "SUBSCRIPTION", "BEST_EFFORT")
	}, "topic", "info", "-v", "/camera_f/color/image_raw")
	// Plain `ros2 topic pub` is reliable and volatile, and so is what it must reach.
	r.until(t, func(said string) error {
		if err := endpoints(said, "std_msgs/msg/String", "ddvla", "SUBSCRIPTION", "RELIABLE"); err != nil {
			return err
		}
		if !strings.Contains(section(said, "Subscription count: "), "Durability: VOLATILE") {
			return fmt.Errorf("the subscription is not volatile")
		}
		return nil
	}, "topic", "info", "-v", "/ddvla/instruction")
	// Logs come once, at rcl's own QoS.
	r.until(t, func(said string) error {
		if n := strings.Count(said, "Node name: ddvla\n"); n != 1 {
			return fmt.Errorf("the node has %d publishers of /rosout", n)
		}
		return endpoints(said, "rcl_interfaces/msg/Log", "ddvla", "PUBLISHER", "RELIABLE")
	}, "topic", "info", "-v", "/rosout")
	r.shows(t, []string{"std_msgs/msg/String\n"}, "topic", "type", "/ddvla/instruction")
	r.shows(t, []string{"/ddvla/action_chunk\n"}, "topic", "find", "trajectory_msgs/msg/JointTrajectory")
}

// section is the text between a heading and the next line that is not indented, or the next blank line but
// one: what `ros2 node info` and `ros2 topic info` set apart.
func section(said, heading string) string {
	_, rest, _ := strings.Cut(said, heading)
	next := regexp.MustCompile(`(?m)^ {0,2}(Subscribers|Publishers|Service Servers|Service Clients|Action Servers|Action Clients|Subscription count)\b`)
	if at := next.FindStringIndex(rest); at != nil {
		rest = rest[:at[0]]
	}
	return rest
}

// endpoints looks in `ros2 topic info -v` for ends of a type: node, kind and reliability of each.
func endpoints(said, typ string, ends ...string) error {
	for ; len(ends) > 0; ends = ends[3:] {
		pattern := `Node name: ` + ends[0] + `\nNode namespace: /\nTopic type: ` + regexp.QuoteMeta(typ) +
			`\n(?:.*\n)?Endpoint type: ` + ends[1] + `\nGID: .*\nQoS profile:\n  Reliability: ` + ends[2]
		if !regexp.MustCompile(pattern).MatchString(said) {
			return fmt.Errorf("no %s of %s by %s, %s", ends[1], typ, ends[0], ends[2])
		}
	}
	return nil
}

// topics speaks with the node and listens.
func topics(r *rig, t *testing.T) {
	r.robot(t)
	n := r.node(t)
	// Who publishes so that the node cannot hear it is told of.
	unheard := r.start(t, "ros2", "topic", "pub", "--qos-reliability", "best_effort", "/ddvla/instruction", "std_msgs/msg/String", "{data: in vain}")
	r.shows(t, []string{"1 publisher refused by QoS: ", " offers best_effort, this subscription requests reliable"}, "topic", "echo", "--once", "--full-length", "/diagnostics")
	unheard.quit()
	r.instruct(t, n, "reach for the red cube")
	r.shows(t, []string{"key: instruction\n", "value: reach for the red cube\n", "name: 'ddvla: cameras'\n", "name: 'ddvla: executor'\n"},
		"topic", "echo", "--once", "--full-length", "/diagnostics")
	r.shows(t, []string{"frame_id:", "joint_names:\n", "positions:\n", "time_from_start:\n"},
		"topic", "echo", "--once", "--full-length", "/ddvla/action_chunk")
	r.shows(t, []string{"name: ddvla\n", "msg: "}, "topic", "echo", "--once", "--full-length", "/rosout")
	r.shows(t, []string{"encoding: rgb8\n", "height: 480\n", "width: 640\n"}, "topic", "echo", "--once", "--no-arr", "/camera_f/color/image_raw")
	r.rate(t, "/camera_f/color/image_raw")
	r.rate(t, "/puppet/joint_left")
	r.shows(t, []string{"success=True"}, "service", "call", "/ddvla/enable", "std_srvs/srv/Trigger")
	r.rate(t, "/master/joint_left")
	r.rate(t, "/ddvla/action_chunk")
	// The button that publishes.
	r.ros2(t, "topic", "pub", "--once", "/ddvla/estop", "std_msgs/msg/Bool", "{data: true}")
	r.shows(t, []string{"value: estopped\n"}, "topic", "echo", "--once", "--full-length", "/diagnostics")
	r.bandwidth(t, "/camera_f/color/image_raw")
}

// rate logs what `ros2 topic hz` measures. The figure is for a person: a busy machine must not fail a test.
func (r *rig) rate(t *testing.T, topic string) {
	t.Helper()
	hz := measured(t, r.start(t, "ros2", "topic", "hz", topic), regexp.MustCompile(`average rate: ([0-9.]+)`))
	if hz <= 0 {
		t.Errorf("%s: %v Hz", topic, hz)
	}
	t.Logf("%s: %v Hz", topic, hz)
}

// bandwidth logs what `ros2 topic bw` measures.
func (r *rig) bandwidth(t *testing.T, topic string) {
	t.Helper()
	rate := measured(t, r.start(t, "ros2", "topic", "bw", topic), regexp.MustCompile(`([0-9.]+) [KM]?B/s from`))
	if rate <= 0 {
		t.Errorf("%s: %v", topic, rate)
	}
}

// measured waits for a command that goes on for ever to say a number, and ends it.
func measured(t *testing.T, p *process, number *regexp.Regexp) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(p.matches(number)[1], 64)
	if err != nil {
		t.Fatal(err)
	}
	p.quit()
	return f
}
