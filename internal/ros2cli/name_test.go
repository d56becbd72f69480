package ros2cli

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// names moves the node, and its topics and services, to other names.
func names(r *rig, t *testing.T) {
	n := r.node(t, "-r", "__ns:=/robot", "-r", "__node:=brain", "-r", "~/instruction:=/say", "-r", "/camera_f/color/image_raw:=head",
		"-r", "rosservice://~/estop:=/stop", "-r", "ddvla:~/action_chunk:=/elsewhere", "--log-level", "debug")
	r.shows(t, []string{"/robot/brain\n"}, "node", "list")
	r.until(t, func(said string) error {
		for _, want := range []struct{ section, entry string }{
			{"Subscribers:", "/say: std_msgs/msg/String"},
			{"Subscribers:", "/robot/head: sensor_msgs/msg/Image"},
			{"Subscribers:", "/robot/brain/estop: std_msgs/msg/Bool"},
			{"Publishers:", "/robot/brain/action_chunk: trajectory_msgs/msg/JointTrajectory"},
			{"Service Servers:", "/stop: std_srvs/srv/Trigger"},
			{"Service Servers:", "/robot/brain/enable: std_srvs/srv/Trigger"},
			{"Service Servers:", "/robot/brain/get_parameters: rcl_interfaces/srv/GetParameters"},
		} {
			if !strings.Contains(section(said, want.section), "    "+want.entry+"\n") {
				return fmt.Errorf("no %q under %s", want.entry, want.section)
			}
		}
		return nil
	}, "node", "info", "/robot/brain")
	r.ros2(t, "topic", "pub", "--once", "/say", "std_msgs/msg/String", "{data: reach for the green cube}")
	n.says("reach for the green cube")
	r.shows(t, []string{"success=True"}, "service", "call", "/stop", trigger)
	r.shows(t, []string{"Double value is: 10.0\n"}, "param", "get", "/robot/brain", "rate")
	r.shows(t, []string{"name: robot.brain\n"}, "topic", "echo", "--once", "--full-length", "/rosout")
}

// signals ends the node while it moves the arms, in each of the ways that it is ended in.
func signals(r *rig, t *testing.T) {
	r.robot(t)
	for _, signals := range [][]syscall.Signal{
		{syscall.SIGINT}, {syscall.SIGTERM},
		{syscall.SIGTERM, syscall.SIGINT}, // to the group, and passed on by who is in it
	} {
		n := r.node(t, "-p", "instruction:=reach for the red cube")
		r.shows(t, []string{"success=True"}, "service", "call", "/ddvla/enable", trigger)
		r.shows(t, []string{"position:\n"}, "topic", "echo", "--once", "/master/joint_left")
		logs := r.start(t, "ros2", "topic", "echo", "--full-length", "/rosout")
		logs.says("name: ddvla\n") // rosout is transient local
		if status := n.signal(signals...); status != 0 {
			t.Errorf("status %d after %v", status, signals)
		}
		said := n.output()
		if !strings.Contains(said, "shutting_down") || strings.Contains(said, "before the arms came to rest") {
			t.Errorf("the log does not tell that the arms came to rest:\n%s", said)
		}
		t.Logf("after %v:\n%s", signals, said[strings.Index(said, "enabled"):])
		logs.says("shutting_down") // the last words reach /rosout, too
		logs.quit()
		// It leaves at once, instead of being missed when its lease ends.
		r.until(t, func(said string) error {
			if strings.Contains(said, "/ddvla\n") {
				return fmt.Errorf("the node is still listed")
			}
			return nil
		}, "node", "list")
	}
}

// simulatedTime has ros2 set the clock.
func simulatedTime(r *rig, t *testing.T) {
	n := r.node(t, "-p", "use_sim_time:=true")
	r.shows(t, []string{"Boolean value is: True\n"}, "param", "get", "/ddvla", "use_sim_time")
	clock := func(sec int) {
		p := r.start(t, "ros2", "topic", "pub", "--rate", "20", "/clock", "rosgraph_msgs/msg/Clock", fmt.Sprintf("{clock: {sec: %d, nanosec: 0}}", sec))
		// Diagnostics are stamped with the time that the node has.
		r.shows(t, []string{fmt.Sprintf("    sec: %d\n", sec), "time stands still"}, "topic", "echo", "--once", "--full-length", "/diagnostics")
		p.quit()
	}
	clock(1000)
	clock(500)
	n.says("the clock went backwards")
	r.shows(t, []string{"Set parameter successful\n"}, "param", "set", "/ddvla", "use_sim_time", "false")
	r.until(t, func(said string) error {
		if strings.Contains(said, "    sec: 500\n") {
			return fmt.Errorf("the node still follows /clock")
		}
		return nil
	}, "topic", "echo", "--once", "--full-length", "/diagnostics")
}
