//go:build rclgo

package rclgo

import (
	"cmp"
	"fmt"
	"os"
	"testing"

	"github.com/ddvla/ddvla/ros/cyclone"
	"github.com/ddvla/ddvla/ros/rostest"
)

// peerBackEnd names the back end of peers in other processes: "cyclone", else rclgo.
const peerBackEnd = "RCLGO_TEST_PEER"

// loopback is what Cyclone needs for more than ten participants on an interface without multicast.
const loopback = `<CycloneDDS><Domain><General><AllowMulticast>false</AllowMulticast></General><Discovery>` +
	`<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>119</MaxAutoParticipantIndex>` +
	`<Peers><Peer address="127.0.0.1"/></Peers></Discovery></Domain></CycloneDDS>`

// middleware names the one of ROS's that rclgo uses, as in ROS itself; the Cyclone one where it is not set.
const (
	middleware        = "RMW_IMPLEMENTATION"
	cycloneMiddleware = "rmw_cyclonedds_cpp"
)

// TestMain makes this binary the peer process of the suite when a test starts it as one. The tests run on
// the loopback interface in a sourced ROS 2 environment.
func TestMain(m *testing.M) {
	if os.Getenv("AMENT_PREFIX_PATH") == "" {
		fmt.Fprintln(os.Stderr, "rclgo: these tests need ROS 2; source its setup.bash first")
		os.Exit(1)
	}
	for name, value := range map[string]string{
		"ROS_LOCALHOST_ONLY": "1", middleware: cmp.Or(os.Getenv(middleware), cycloneMiddleware), "CYCLONEDDS_URI": loopback,
	} {
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, "rclgo:", err)
			os.Exit(1)
		}
	}
	if os.Getenv(peerBackEnd) == "cyclone" {
		rostest.Main(m, cyclone.NewNode)
	}
	rostest.Main(m, NewNode)
}

func TestSuite(t *testing.T) { rostest.Suite(t, NewNode, true) }

// TestSuiteTowardsCyclone has both back ends on one graph, each in the part of the one under test.
func TestSuiteTowardsCyclone(t *testing.T) {
	if rmw := os.Getenv(middleware); rmw != cycloneMiddleware {
		t.Skipf("skipped: this needs %s=%s, since services do not cross DDS vendors; it is %s", middleware, cycloneMiddleware, rmw)
	}
	t.Run("rclgo with a cyclone peer", func(t *testing.T) {
		t.Setenv(peerBackEnd, "cyclone")
		rostest.Between(t, NewNode)
	})
	t.Run("cyclone with an rclgo peer", func(t *testing.T) { rostest.Between(t, cyclone.NewNode) })
}
