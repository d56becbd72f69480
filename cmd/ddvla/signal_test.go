package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/ddvla/ddvla/ros/rostest"
)

// A ctrl-C that is told twice, by the terminal and by ros2 launch, is one: the
// process comes to its end in order, which its report shows.
func TestInterruptsThatComeTogetherAreOne(t *testing.T) {
	report := filepath.Join(t.TempDir(), "report.json")
	cmd := exec.Command(os.Args[0], "sim", "--report", report)
	cmd.Env = append(os.Environ(), fmt.Sprint("ROS_DOMAIN_ID=", rostest.Domain(t)), "ROS_LOCALHOST_ONLY=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	for _, step := range []string{"running", "ending"} { // it says what is on the table, then what was reached
		if line, err := lines.ReadString('\n'); err != nil {
			t.Fatalf("%s: %q, %v", step, line, err)
		}
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the process ended by %v", err)
	}
	if _, err := os.Stat(report); err != nil {
		t.Error(err)
	}
}
