package cyclone

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
)

// buildPeer makes a program of testdata with Debian's idlc (cyclonedds-tools) and the C compiler.
func buildPeer(t *testing.T, program string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"ros.idl", program + ".c"} {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "cc"
	}
	for _, args := range [][]string{
		{"idlc", "-x", "final", "ros.idl"},
		{compiler, "-o", program, program + ".c", "ros.c", "-I.", "-lddsc"},
	} {
		cmd := exec.Command(args[0], args[1:]...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s (Debian packages cyclonedds-tools and cyclonedds-dev): %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return filepath.Join(dir, program)
}

// peerCommand is a program that joins a domain on the loopback interface.
func peerCommand(t *testing.T, binary string, domain int, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(binary, args...)
	cmd.Dir = t.TempDir() // for the log that Cyclone writes where it runs
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "CYCLONEDDS_URI="+fmt.Sprintf(
		`<CycloneDDS><Domain Id="%d"><General><Interfaces><NetworkInterface address="127.0.0.1"/></Interfaces>`+
			`</General><Tracing><Verbosity>severe</Verbosity></Tracing></Domain></CycloneDDS>`, domain))
	return cmd
}

// startPeer runs the peer to its end.
func startPeer(t *testing.T, binary string, domain int, args ...string) (ended chan error, output *strings.Builder) {
	t.Helper()
	cmd := peerCommand(t, binary, domain, args...)
	output = &strings.Builder{}
	cmd.Stdout = output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill() })
	return ended, output
}

func newTestNode(t testing.TB, name string, domain int) ros.Node {
	t.Helper()
	n, err := NewNode(context.Background(), ros.Options{Name: name, DomainID: domain, LocalhostOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// std_msgs/msg/String goes both ways between this package and a C program that knows the type from IDL.
func TestIndependentPeer(t *testing.T) {
	binary, domain := buildPeer(t, "peer"), rostest.Domain(t)
	n := newTestNode(t, "n", domain)
	got := make(chan string, 1000)
	if _, err := ros.Subscribe(n, "chatter", ros.QoS{Depth: 100}, func(m *msgs.String, _ time.Time) { got <- m.Data }); err != nil {
		t.Fatal(err)
	}
	back, err := ros.Advertise[msgs.String](n, "back", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	ended, output := startPeer(t, binary, domain)
	var first, second int
	if _, err := fmt.Sscanf(rostest.Receive(t, "message from C", got), "c %d", &first); err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Sscanf(rostest.Receive(t, "next message from C", got), "c %d", &second); err != nil || second != first+1 {
		t.Errorf("messages %d and %d, %v", first, second, err)
	}
	var end error
	rostest.Wait(t, "end of the C peer", func() bool {
		if err := back.Publish(&msgs.String{Data: "go"}); err != nil { // again: it may not have found this writer yet
			t.Fatal(err)
		}
		select {
		case end = <-ended:
			return true
		default:
			return false
		}
	})
	if end != nil || output.String() != "go\n" {
		t.Errorf("the C peer ended with %v and read %q", end, output)
	}
}

// A writer of another representation than XCDR1 does not match, so its bytes never arrive.
func TestPeerWithAnotherRepresentation(t *testing.T) {
	binary, domain := buildPeer(t, "peer"), rostest.Domain(t)
	n := newTestNode(t, "n", domain)
	s, err := n.Subscribe("chatter", "std_msgs/msg/String", ros.DefaultQoS(), func([]byte, time.Time) { t.Error("XCDR2 was delivered") })
	if err != nil {
		t.Fatal(err)
	}
	startPeer(t, binary, domain, "bad")
	rostest.Wait(t, "the mismatch is told", func() bool { return s.Mismatch().Count == 1 })
	if said, want := s.Mismatch().String(), "1 publisher refused by QoS: it does not fit by its data representation"; said != want {
		t.Errorf("%q, want %q", said, want)
	}
}
