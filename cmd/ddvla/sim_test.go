package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
	"github.com/ddvla/ddvla/sim"
)

// In real time over DDS: the expert rings the bell, which is said and reported.
func TestSimDoesATaskOnTopics(t *testing.T) {
	t.Setenv("ROS_DOMAIN_ID", strconv.Itoa(rostest.Domain(t)))
	file := filepath.Join(t.TempDir(), "report.json")
	status, stdout, stderr := call(t, "sim", "--task", "bell", "--demonstrate", "--pause", "100ms", "--camera-rate", "5", "--report", file)
	if status != 0 || !strings.Contains(stdout, "done 1 of 1") {
		t.Fatalf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var report sim.Report
	if err := json.Unmarshal(raw, &report); err != nil {
		t.Fatal(err)
	}
	if len(report.Tasks) != 1 || !report.Tasks[0].Success || report.Tasks[0].Task != "bell" || report.Tasks[0].Instruction == "" {
		t.Errorf("%s", raw)
	}
}

// Commands for the simulated arms would move a robot's, which have the same names.
func TestSimKeepsOffARobot(t *testing.T) {
	id := domain(t)
	other := bystander(t, id, 0, func(*msgs.JointState) {})
	if _, err := ros.Advertise[msgs.JointState](other, stateTopics[0], ros.DefaultQoS()); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, []string{stateTopics[0], strconv.Itoa(id), "ROS_DOMAIN_ID"}, "sim", "--task", "bell", "--demonstrate", "--camera-rate", "5")
}

// Nor are arms enabled where a robot has come meanwhile.
func TestSimEnablesNoRobotThatComesLater(t *testing.T) {
	id := domain(t)
	other := bystander(t, id, 0, func(*msgs.JointState) {})
	up := make(chan struct{}, 1)
	if _, err := ros.Subscribe(other, stateTopics[0], ros.DefaultQoS(), func(*msgs.JointState, time.Time) {
		select {
		case up <- struct{}{}:
		default:
		}
	}); err != nil {
		t.Fatal(err)
	}
	ended := make(chan string, 1)
	go func() {
		status, _, stderr := call(t, "sim", "--task", "bell", "--camera-rate", "5", "--stay", "--enable-service", "/nobody/enable")
		ended <- fmt.Sprint(status, stderr)
	}()
	rostest.Receive(t, "the simulation is up", up)
	if _, err := ros.Advertise[msgs.JointState](other, stateTopics[0], ros.DefaultQoS()); err != nil {
		t.Fatal(err)
	}
	if said := rostest.Receive(t, "the simulation ends", ended); !strings.HasPrefix(said, "1") || !strings.Contains(said, "the arms are not enabled: another robot") {
		t.Errorf("it ended with %s", said)
	}
}

func TestSimDemosWritesADataSet(t *testing.T) {
	out := filepath.Join(t.TempDir(), "demos")
	status, stdout, stderr := call(t, "sim", "demos", "--tasks", "reach", "--episodes", "1", "--shoves", "1",
		"--starts", "0", "--scatters", "0", "--counterparts", "0", "--picture-stride", "3", "--size", "16", "--samples", "1", "--out", out)
	if status != 0 || !strings.HasPrefix(stdout, "2 recordings with ") {
		t.Fatalf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	r, err := dataset.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if info := r.Info(); info.Rate != sim.ChunkRate || info.Episodes != 2 || info.PictureStride != 3 || len(info.Action) != sim.Dims {
		t.Errorf("%+v", info)
	}
}

// With a policy there are recordings that begin where it has got to.
func TestSimDemosFollowAPolicy(t *testing.T) {
	out := filepath.Join(t.TempDir(), "demos")
	args := []string{"sim", "demos", "--tasks", "reach", "--episodes", "1", "--shoves", "0", "--starts", "0", "--scatters", "0",
		"--counterparts", "0", "--size", "16", "--samples", "1", "--out", out}
	status, stdout, stderr := call(t, append(args, "--policy", testbundle.Dir(t), "--visits", "3")...)
	if status != 0 || !strings.HasPrefix(stdout, "4 recordings with ") {
		t.Fatalf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	refused(t, 2, []string{"--visits needs a --policy"}, append(args, "--visits", "3")...)
	refused(t, 1, []string{"/nowhere/bundle"}, append(args, "--policy", "/nowhere/bundle")...)
}

func TestSimUsage(t *testing.T) {
	for want, args := range map[string][]string{
		"--out is missing":                    {"sim", "demos"},
		`--tasks: sim: task "juggle"`:         {"sim", "demos", "--tasks", "juggle", "--out", "x"},
		`--perturb: sim: perturbation "wind"`: {"sim", "demos", "--perturb", "wind", "--out", "x"},
		"phrases of language are kept":        {"sim", "demos", "--perturb", "all", "--out", "x"},
		"--episodes is 0":                     {"sim", "demos", "--episodes", "0", "--out", "x"},
		`--task: sim: task "juggle"`:          {"sim", "--task", "juggle"},
		`perturbation "wind" is not known`:    {"sim", "--task", "bell", "--perturb", "wind"},
		"--task brings its own instructions":  {"sim", "--task", "bell", "--draw", "1"},
		"need a --task":                       {"sim", "--demonstrate"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) { refused(t, 2, []string{want}, args...) })
	}
}
