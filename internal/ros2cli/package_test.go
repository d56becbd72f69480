package ros2cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// packaged builds the ROS package, as a workspace does, and starts the node with `ros2 run` and `ros2 launch`.
func packaged(r *rig, t *testing.T) {
	if _, err := exec.LookPath("colcon"); err != nil {
		t.Skip("skipped: this needs colcon to build the ROS package")
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	install := filepath.Join(t.TempDir(), "install")
	build := []string{"colcon", "build", "--base-paths", root, "--build-base", filepath.Join(t.TempDir(), "build"), "--install-base", install,
		"--cmake-args", "-DPython3_EXECUTABLE=/usr/bin/python3"} // the Python of ROS, which another one on PATH may hide
	if r.backend == "cyclone" {
		build = append(build, "-DDDVLA_RCLGO=OFF")
	}
	said, status := r.run(t, build...)
	t.Logf("$ %s\n%s", strings.Join(build, " "), shortened(said))
	if status != 0 {
		t.Fatalf("status %d", status)
	}
	// with sources the workspace first.
	with := func(command ...string) []string {
		return append([]string{"bash", "-c", `. "$0" && exec "$@"`, filepath.Join(install, "setup.bash")}, command...)
	}

	robot := r.robot(t)
	t.Run("run", func(t *testing.T) {
		n := r.start(t, with("ros2", "run", "discrete_diffusion_vla", "ddvla", "node", "--ros-args",
			"-p", "policy:="+r.bundle, "-p", "decode.rounds:=2", "-r", "__ns:=/robot")...)
		n.says(active)
		r.shows(t, []string{"/robot/ddvla\n"}, "node", "list")
		r.interrupted(t, n)
	})
	t.Run("launch", func(t *testing.T) {
		for file, arguments := range map[string][]string{
			"cobot_magic.launch.py": {"policy", "profile", "params_file", "instruction", "autostart", "namespace", "use_sim_time", "log_level"},
			"simulation.launch.py":  {"policy", "scene", "instructions", "compressed", "namespace"},
			"replay.launch.py":      {"policy", "bag", "player", "loop"},
		} {
			said, status := r.run(t, with("ros2", "launch", "discrete_diffusion_vla", file, "--show-args")...)
			t.Logf("$ ros2 launch discrete_diffusion_vla %s --show-args\n%s", file, said)
			for _, name := range arguments {
				if status != 0 || !strings.Contains(said, "'"+name+"':\n") {
					t.Errorf("%s: status %d, no argument %q", file, status, name)
				}
			}
			if strings.Contains(said, "no description given") {
				t.Errorf("%s: an argument is not explained", file)
			}
		}
		params := filepath.Join(t.TempDir(), "mine.yaml")
		if err := os.WriteFile(params, []byte("/robot/ddvla:\n  ros__parameters:\n    rate: 4.0\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		n := r.start(t, with("ros2", "launch", "discrete_diffusion_vla", "cobot_magic.launch.py",
			"policy:="+r.bundle, "namespace:=robot", "log_level:=debug", "params_file:="+params)...)
		n.says(active)
		r.shows(t, []string{"/robot/ddvla\n"}, "node", "list")
		// From the profile, the command line and a params file that counts more than the profile.
		r.shows(t, []string{"String value is: /master/joint_left\n"}, "param", "get", "/robot/ddvla", "arms.left.command_topic")
		r.shows(t, []string{"String value is: " + r.bundle + "\n"}, "param", "get", "/robot/ddvla", "policy")
		r.shows(t, []string{"Double value is: 4.0\n"}, "param", "get", "/robot/ddvla", "rate")
		r.interrupted(t, n)
		n.says("process has finished cleanly")
	})
	robot.quit()
	// Compressed pictures, since middlewares as they come lose raw ones.
	recording, cameras := filepath.Join(t.TempDir(), "recording"), filepath.Join(t.TempDir(), "cameras.yaml")
	text := "/**:\n  ros__parameters:\n"
	for camera, topic := range compressedTopics() {
		text += "    cameras." + camera + ".topic: " + topic + "\n"
	}
	if err := os.WriteFile(cameras, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("launch simulation", func(t *testing.T) {
		n := r.start(t, with("ros2", "launch", "discrete_diffusion_vla", "simulation.launch.py", "policy:="+r.bundle, "draw:=1", "each:=2s",
			"record:="+recording, "compressed:=true", "params_file:="+cameras)...)
		n.says("The arms are enabled", "cm at the start,") // it has a robot of its own, and ends with it
		if status := n.wait(); status != 0 || strings.Count(n.output(), "process has finished cleanly") != 2 {
			t.Errorf("status %d:\n%s", status, n.output())
		}
	})
	t.Run("launch replay", func(t *testing.T) {
		n := r.start(t, with("ros2", "launch", "discrete_diffusion_vla", "replay.launch.py", "policy:="+r.bundle, "bag:="+recording, "player:=ros2",
			"params_file:="+cameras)...)
		n.says("thinking") // about recorded pictures, and with the recorded instruction
		if status := n.wait(); status != 0 || strings.Count(n.output(), "process has finished cleanly") != 2 {
			t.Errorf("status %d:\n%s", status, n.output())
		}
	})
}

// interrupted ends a node that ros2 started while it moves the arms, with ctrl-C: it must have time to bring
// them to rest.
func (r *rig) interrupted(t *testing.T, n *process) {
	t.Helper()
	r.shows(t, []string{"success=True"}, "service", "call", "/robot/ddvla/enable", trigger)
	n.interrupt(syscall.SIGINT)
	said := n.output()
	if !strings.Contains(said, "shutting_down") || strings.Contains(said, "before the arms came to rest") || strings.Contains(said, "Traceback") {
		t.Errorf("it did not end in order:\n%s", said)
	}
	_, end, _ := strings.Cut(said, "~/enable")
	t.Logf("after ctrl-C:\n%s", end)
}
