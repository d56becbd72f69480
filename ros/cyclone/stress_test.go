package cyclone

import (
	"testing"

	"github.com/ddvla/ddvla/ros/rostest"
)

func TestPeersKilledAndStartedAgain(t *testing.T) {
	// How long the dead count as alive: 10 s otherwise, in which all of them would be killed. So some are given up
	// while others come, and there are as many dead ones at a time early and late.
	t.Setenv("CYCLONEDDS_URI", "<CycloneDDS><Domain><Discovery><LeaseDuration>1s</LeaseDuration></Discovery></Domain></CycloneDDS>")
	rostest.Restarts(t, NewNode, restarts)
}

// Without multicast Cyclone tries ten processes a machine by default, which is few for a robot.
func TestManyProcessesFindEachOther(t *testing.T) { rostest.Crowd(t, NewNode, crowd) }
