package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros/param"
)

// Launch files are Python, say of each argument what it is for, ask for none
// that has a sensible default, and set only parameters that the node has. `make
// colcon` runs them through ros2 launch, where ROS 2 is sourced.
func TestLaunchFilesExplainTheirArguments(t *testing.T) {
	files, err := filepath.Glob("../../launch/*.launch.py")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	var found map[string]struct {
		Arguments  [][3]*string
		Parameters []string
	}
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/launch.py", files...), &found); err != nil {
		t.Fatal(err)
	}
	set, err := param.New(node.Parameters(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	required := map[string][]string{
		"cobot_magic.launch.py": {"policy"},
		"simulation.launch.py":  {"policy"},
		"replay.launch.py":      {"policy", "bag"},
	}
	for file, want := range required {
		f, ok := found[file]
		if !ok {
			t.Errorf("there is no launch/%s", file)
			continue
		}
		var names, asked []string
		for _, a := range f.Arguments {
			names = append(names, *a[0])
			if a[1] == nil || *a[1] == "" {
				t.Errorf("%s: %s has no description", file, *a[0])
			}
			if a[2] == nil {
				asked = append(asked, *a[0])
			}
		}
		if !slices.Equal(asked, want) {
			t.Errorf("%s asks for %q, want %q", file, asked, want)
		}
		for _, name := range f.Parameters {
			if set.Values().Get(name).Kind() == param.KindNone {
				t.Errorf("%s sets %s, which is no parameter of the node", file, name)
			}
		}
		if file != "cobot_magic.launch.py" {
			continue
		}
		if len(f.Parameters) < 5 {
			t.Errorf("parameters %q", f.Parameters)
		}
		for _, name := range []string{"policy", "profile", "params_file", "namespace", "log_level", "use_sim_time", "backend", "provider", "record", "instruction", "respawn"} {
			if !slices.Contains(names, name) {
				t.Errorf("%s has no argument %s", file, name)
			}
		}
	}
	if len(found) != len(required) {
		t.Errorf("%d launch files, %d are known here", len(found), len(required))
	}
}

// What a bag holds of commands reaches no driver, whichever profile it was recorded with, and neither do the node's.
func TestReplayLaunchRenamesCommands(t *testing.T) {
	mine := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(mine, []byte("/**:\n  ros__parameters:\n    arms.left.command_topic: left/cmd\n    arms.left.state_topic: /joint_states_l\n    base: {topic: ~/base}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var renamed struct{ Node, Bag map[string]string }
	raw := pytest.Run(t, nil, "testdata/replay_launch.py", "../../launch/replay.launch.py", "bag:=/bags/monday", "policy:=/models/mine", "player:=ros2",
		"namespace:=robot", "params_file:="+mine)
	if err := json.Unmarshal(raw, &renamed); err != nil {
		t.Fatal(err)
	}
	for _, topic := range []string{
		"/master/joint_left", "/master/joint_right", "/joint_left_states", "/joint_right_states", // aloha, rdt
		"/joint_states_r", "/left/control/joint_states", "/right/control/joint_states", // openpi, agx
		"/robot/left/cmd", "/robot/ddvla/base", "/robot/ddvla/left/joint_trajectory",
	} {
		if renamed.Node[topic] != "/replay"+topic || renamed.Bag[topic] != "/recorded"+topic {
			t.Errorf("%s is %q of the node, %q of the bag", topic, renamed.Node[topic], renamed.Bag[topic])
		}
	}
	for topic := range renamed.Bag {
		if strings.HasPrefix(topic, "/puppet") || strings.HasPrefix(topic, "/camera") || topic == "/joint_states_l" {
			t.Errorf("the node hears no %s", topic)
		}
	}
}
