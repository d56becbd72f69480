package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/cyclone"
)

// output collects what two processes say.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// demonstrate runs the demo until it or ctx ends.
func demonstrate(ctx context.Context, t *testing.T, out string, flags ...string) (status int, stdout, stderr string) {
	t.Helper()
	said, logged := &output{}, &output{}
	args := append([]string{"demo", "--bundle", testbundle.Dir(t), "--out", out}, flags...)
	args = append(args, "--ros-args", "-p", "decode.rounds:=1", "-p", "runtime.threads:=1")
	status = run(ctx, args, said, logged)
	return status, said.String(), logged.String()
}

// bystander is a node in the domain that calls heard for each command of an arm.
func bystander(t *testing.T, domain, arm int, heard func(*msgs.JointState)) ros.Node {
	t.Helper()
	n, err := cyclone.NewNode(t.Context(), ros.Options{Name: "bystander", DomainID: domain, LocalhostOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := ros.Subscribe(n, commandTopics[arm], ros.DefaultQoS(), func(m *msgs.JointState, _ time.Time) { heard(m) }); err != nil {
		t.Fatal(err)
	}
	return n
}

// robotReport is what the robot's process wrote when it ended in order.
func robotReport(t *testing.T, out string) (commands int) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(out, "robot.json"))
	if err != nil {
		t.Fatal(err)
	}
	var r struct{ Commands int }
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	return r.Commands
}

// Node and robot in two processes: what the node sent is in the bag and reached
// the arms. A second demo takes the place of the first one's recording.
func TestDemoDrivesARobotInAnotherProcess(t *testing.T) {
	domain(t)
	out := filepath.Join(t.TempDir(), "demo")
	for range 2 {
		status, stdout, stderr := demonstrate(t.Context(), t, out, "--instructions", "2", "--each", "500ms")
		if status != 0 {
			t.Fatalf("status %d:\n%s", status, stderr)
		}
		found := contents(t, filepath.Join(out, "bag"))
		sent := len(found[commandTopics[0]]) + len(found[commandTopics[1]])
		if got := robotReport(t, out); got == 0 || got > sent {
			t.Errorf("the robot followed %d commands, the bag has %d", got, sent)
		}
		for _, topic := range []string{chunkTopic, headTopic + "/compressed", stateTopics[0], stateTopics[1], "/ddvla/instruction"} {
			if len(found[topic]) == 0 {
				t.Errorf("nothing recorded on %s", topic)
			}
		}
		if want := fmt.Sprintf("chunks     %d,", len(found[chunkTopic])); !strings.Contains(stdout, want) {
			t.Errorf("the report does not say %q:\n%s", want, stdout)
		}
	}
}

// With a task the demo lasts until its episodes are over, and says what became of them.
// The policy was not taught the task, so that it is not done in time. Between two the arms
// are taken home. The node has names of its own, which the robot's process and the
// operator follow.
func TestDemoOfATask(t *testing.T) {
	domain(t)
	out := filepath.Join(t.TempDir(), "demo")
	status, stdout, stderr := demonstrate(t.Context(), t, out, "--task", "bell", "--seed", "3", "--episodes", "2",
		"--ros-args", "-r", "__ns:=/lab", "-r", "~/instruction:=/told", "-r", "~/enable:=/go", "-r", "~/home:=/back", "--")
	if status != 0 || !strings.Contains(stdout, "bell, seed 3, ") || !strings.Contains(stdout, "\ndone 0 of 2; ") || !regexp.MustCompile(`[12] x home_reached`).MatchString(stdout) || !strings.Contains(stderr, "episode failure") {
		t.Errorf("status %d:\n%s\n%s", status, stdout, stderr)
	}
	found := contents(t, filepath.Join(out, "bag"))
	if marks, told, commands := found["/lab/ddvla/episode"], found["/told"], found[commandTopics[0]]; len(marks) != 4 || len(told) == 0 || len(commands) == 0 {
		t.Errorf("recorded: %d marks, not start and end of two; %d instructions; %d commands", len(marks), len(told), len(commands))
	}
	refused(t, 2, []string{"--task", "juggle", "bell"}, "demo", "--bundle", "x", "--out", out, "--task", "juggle")
	refused(t, 2, []string{"--episodes is -1"}, "demo", "--bundle", "x", "--out", out, "--episodes", "-1")
}

// ctrl-C: the node comes to rest while the robot is still there, the bag is whole,
// and the robot's process ends in order.
func TestDemoInterruptedEndsInOrder(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	commands := 0
	bystander(t, domain(t), 0, func(*msgs.JointState) {
		if commands++; commands == 10 {
			interrupt()
		}
	})
	out := filepath.Join(t.TempDir(), "demo")
	status, stdout, stderr := demonstrate(ctx, t, out, "--each", "1h")
	if status != 0 || !strings.Contains(stderr, "interrupted; the bag and the report") {
		t.Errorf("status %d:\n%s", status, stderr)
	}
	if !strings.Contains(stdout, "(shutting_down)") || !strings.Contains(stdout, "chunks     ") {
		t.Errorf("no report of a node that came to rest:\n%s", stdout)
	}
	sent := contents(t, filepath.Join(out, "bag"))
	if got := robotReport(t, out); got == 0 || len(sent[commandTopics[0]]) == 0 {
		t.Errorf("the robot followed %d commands, the bag has %d for the left arm", got, len(sent[commandTopics[0]]))
	}
}

func TestDemoEndsWithItsRobot(t *testing.T) {
	domain(t)
	t.Setenv(robotVariable, "crashes")
	out := filepath.Join(t.TempDir(), "demo")
	status, _, stderr := demonstrate(t.Context(), t, out, "--each", "1h")
	if status != 1 || !strings.HasSuffix(stderr, "\nddvla demo: the simulated robot's process ended early: exit status 3\n") {
		t.Errorf("status %d:\n%s", status, stderr)
	}
	if sent := contents(t, filepath.Join(out, "bag"))[commandTopics[0]]; len(sent) != 0 {
		t.Errorf("%d commands without a robot", len(sent))
	}
}

// Somebody else's arms in the domain are not enabled, whoever they are.
func TestDemoMovesNoOtherRobot(t *testing.T) {
	id := domain(t)
	heard := &output{}
	other := bystander(t, id, 1, func(m *msgs.JointState) { fmt.Fprintln(heard, m.Position) })
	if _, err := ros.Advertise[msgs.JointState](other, stateTopics[1], ros.DefaultQoS()); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "demo")
	status, _, stderr := demonstrate(t.Context(), t, out)
	last := stderr[strings.LastIndex(strings.TrimSuffix(stderr, "\n"), "\n")+1:]
	if status != 1 || !strings.HasPrefix(last, "ddvla demo: ") || !strings.Contains(last, stateTopics[1]+fmt.Sprintf(" in ROS domain %d", id)) {
		t.Errorf("status %d:\n%s", status, stderr)
	}
	if heard.String() != "" {
		t.Errorf("the other robot was sent %s", heard)
	}
	if _, err := os.Stat(filepath.Join(out, "robot.json")); !os.IsNotExist(err) {
		t.Errorf("the simulated robot was started: %v", err)
	}
}

func TestDemoRemovesNothingThatIsNotItsOwn(t *testing.T) {
	domain(t)
	out := t.TempDir()
	recording, note := filepath.Join(out, "bag", "bag_0.mcap"), filepath.Join(out, "bag", "notes")
	if err := os.Mkdir(filepath.Join(out, "bag"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{recording, note} {
		if err := os.WriteFile(path, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// A mistake that is found before anything is made costs nothing.
	refused(t, 1, []string{"/nowhere/bundle", "ddvla export"}, "demo", "--bundle", "/nowhere/bundle", "--out", out)
	if _, err := os.Stat(recording); err != nil {
		t.Errorf("the last recording: %v", err)
	}
	try := func() {
		t.Helper()
		refused(t, 1, []string{filepath.Join(out, "bag"), "known to be a demo's", "--out"},
			"demo", "--bundle", testbundle.Dir(t), "--out", out, "--ros-args", "--log-level", "error", "-p", "decode.rounds:=1")
	}
	try()
	for _, path := range []string{recording, note} {
		if text, err := os.ReadFile(path); err != nil || string(text) != "mine" {
			t.Errorf("a file that no demo made: %q, %v", text, err)
		}
	}
	// Where a demo was before, its own recording goes, and alone.
	if err := os.WriteFile(filepath.Join(out, demoMark), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	try()
	if _, err := os.Stat(recording); err != nil {
		t.Errorf("the last demo's recording: %v", err)
	}
	if err := os.Remove(note); err != nil {
		t.Fatal(err)
	}
	if err := (&demo{out: out}).clear(filepath.Join(out, "bag")); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(recording); !os.IsNotExist(err) {
		t.Errorf("the last demo's recording: %v", err)
	}
}
