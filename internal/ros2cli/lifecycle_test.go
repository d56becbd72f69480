package ros2cli

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/ros/rostest"
)

// lifecycle takes the node through its states.
func lifecycle(r *rig, t *testing.T) {
	r.robot(t)
	n := r.node(t)
	if said := r.shows(t, []string{"/ddvla/enable\n"}, "service", "list"); !strings.Contains(said, "/ddvla/change_state\n") {
		t.Fatal("the node serves no lifecycle")
	}
	r.shows(t, []string{"/ddvla\n"}, "lifecycle", "nodes")
	r.shows(t, []string{"active [3]\n"}, "lifecycle", "get", "/ddvla")
	r.shows(t, []string{"- deactivate [4]\n", "Start: active\n", "Goal: deactivating\n"}, "lifecycle", "list", "/ddvla")
	r.shows(t, []string{"- configure [1]\n", "- cleanup [2]\n", "- activate [3]\n", "Start: unconfigured\n"}, "lifecycle", "list", "--all", "/ddvla")
	events := r.start(t, "ros2", "topic", "echo", "--full-length", "/ddvla/transition_event")
	r.shows(t, []string{"Subscription count: 1\n"}, "topic", "info", "/ddvla/transition_event")
	var passed []string
	for _, step := range []struct{ transition, state string }{
		{"deactivate", "inactive [2]"}, {"activate", "active [3]"}, {"deactivate", "inactive [2]"},
		{"cleanup", "unconfigured [1]"}, {"configure", "inactive [2]"}, {"activate", "active [3]"},
	} {
		r.shows(t, []string{"Transitioning successful\n"}, "lifecycle", "set", "/ddvla", step.transition)
		r.shows(t, []string{step.state + "\n"}, "lifecycle", "get", "/ddvla")
		label, _, _ := strings.Cut(step.state, " ")
		passed = append(passed, label)
	}
	rostest.Wait(t, "all states are told on the topic", func() bool { return told(events.output(), passed) })
	events.quit()
	said, status := r.run(t, "ros2", "lifecycle", "set", "/ddvla", "configure")
	t.Logf("$ ros2 lifecycle set /ddvla configure\n%s", said)
	if status == 0 || !strings.Contains(said, "Unknown transition requested") {
		t.Errorf("an active node was configured: status %d", status)
	}
	// Active again, it works again. Its end is final, and brings the arms to rest first.
	r.shows(t, []string{"success=True"}, "service", "call", "/ddvla/enable", trigger)
	r.shows(t, []string{"Transitioning successful\n"}, "lifecycle", "set", "/ddvla", "shutdown")
	r.shows(t, []string{"finalized [4]\n"}, "lifecycle", "get", "/ddvla")
	n.says("shutting_down")
}

// lifecycleOfRclcpp compares every answer in every state with that of a node of rclcpp_lifecycle.
func lifecycleOfRclcpp(r *rig, t *testing.T) {
	if _, status := r.run(t, "ros2", "pkg", "prefix", "ros2lifecycle_test_fixtures"); status != 0 {
		t.Skip("skipped: this needs a lifecycle node of rclcpp, that of ros2lifecycle_test_fixtures")
	}
	r.start(t, "ros2", "run", "ros2lifecycle_test_fixtures", "simple_lifecycle_node", "--ros-args", "-r", "__node:=theirs")
	p := r.start(t, r.ddvla, "node", "--backend", r.backend, "--ros-args", "-r", "__node:=ours", "-p", "policy:="+r.bundle, "-p", "autostart:=false")
	r.shows(t, []string{"/ours\n", "/theirs\n"}, "lifecycle", "nodes")
	answers := func(node, transition string) string {
		ask := func(args ...string) string {
			said, status := r.run(t, append([]string{"ros2"}, args...)...)
			// Cyclone's remark on the loopback interface, which begins with a time, and what takes a while now
			// and then.
			said = regexp.MustCompile(`(?m)^(\d+\.\d+ \[\d+\].*|waiting for service.*)\n`).ReplaceAllString(said, "")
			return fmt.Sprintf("%v: %d\n%s", args[1], status, strings.ReplaceAll(said, node, "/NODE"))
		}
		return ask("lifecycle", "get", node) + ask("lifecycle", "list", node) + ask("lifecycle", "list", "--all", node) +
			ask("service", "call", node+"/get_available_states", "lifecycle_msgs/srv/GetAvailableStates") +
			ask("service", "call", node+"/get_available_transitions", "lifecycle_msgs/srv/GetAvailableTransitions") +
			ask("service", "call", node+"/get_transition_graph", "lifecycle_msgs/srv/GetAvailableTransitions") +
			ask("lifecycle", "set", node, transition)
	}
	for _, transition := range []string{"configure", "activate", "cleanup", "deactivate", "cleanup", "shutdown", "configure"} {
		ours, theirs := answers("/ours", transition), answers("/theirs", transition)
		if ours != theirs {
			t.Errorf("up to %s ours says\n%s\nand rclcpp's\n%s", transition, ours, theirs)
			continue
		}
		t.Logf("up to %s both say the same %d lines", transition, strings.Count(ours, "\n"))
	}
	if !p.running() {
		t.Error("a node that was shut down ended; it is there to be asked")
	}
}

// told tells whether the goals of the transitions in an echo of transition_event pass through the states in
// this order.
func told(echo string, states []string) bool {
	for _, m := range regexp.MustCompile(`goal_state:\n  id: \d+\n  label: (\w+)\n`).FindAllStringSubmatch(echo, -1) {
		if len(states) > 0 && m[1] == states[0] {
			states = states[1:]
		}
	}
	return len(states) == 0
}
