package ros2cli

import (
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
	build := []string{"colcon", "build", "--base-paths", root, "--build-base", filepath.Join(t.TempDir(), "build"), "--install-base", install}
	if r.backend == "cyclone" {
		build = append(build, "--cmake-args", "-DDDVLA_RCLGO=OFF")
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

	r.robot(t)
	t.Run("run", func(t *testing.T) {
		n := r.start(t, with("ros2", "run", "discrete_diffusion_vla", "ddvla", "node", "--ros-args",
			"-p", "policy:="+r.bundle, "-p", "decode.rounds:=2", "-r", "__ns:=/robot")...)
		n.says("ready")
		r.shows(t, []string{"/robot/ddvla\n"}, "node", "list")
		r.interrupted(t, n)
	})
	t.Run("launch", func(t *testing.T) {
		args, status := r.run(t, with("ros2", "launch", "discrete_diffusion_vla", "cobot_magic.launch.py", "--show-args")...)
		t.Logf("$ ros2 launch discrete_diffusion_vla cobot_magic.launch.py --show-args\n%s", args)
		for _, want := range []string{"'policy':\n        Directory of the policy bundle", "'params_file':\n", "'namespace':\n", "'use_sim_time':\n", "'log_level':\n"} {
			if status != 0 || !strings.Contains(args, want) {
				t.Errorf("status %d, %q is not explained", status, want)
			}
		}
		n := r.start(t, with("ros2", "launch", "discrete_diffusion_vla", "cobot_magic.launch.py",
			"policy:="+r.bundle, "namespace:=robot", "log_level:=debug")...)
		n.says("ready")
		r.shows(t, []string{"/robot/ddvla\n"}, "node", "list")
		// From the params file, the launch file and the command line.
		r.shows(t, []string{"Double value is: 10.0\n"}, "param", "get", "/robot/ddvla", "rate")
		r.shows(t, []string{"share/discrete_diffusion_vla/urdf/cobot_magic.urdf\n"}, "param", "get", "/robot/ddvla", "urdf")
		r.shows(t, []string{"String value is: " + r.bundle + "\n"}, "param", "get", "/robot/ddvla", "policy")
		r.interrupted(t, n)
		n.says("process has finished cleanly")
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
