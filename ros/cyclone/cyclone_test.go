package cyclone

import (
	"testing"

	"github.com/ddvla/ddvla/ros/rostest"
)

// TestMain makes this binary the peer process of the suite when a test starts it as one.
func TestMain(m *testing.M) { rostest.Main(m, NewNode) }

func TestSuite(t *testing.T) { rostest.Suite(t, NewNode, true) }
