package local_test

import (
	"context"
	"sync"
	"testing"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/rostest"
)

func TestSuite(t *testing.T) {
	// The suite asks for a node by domain; here a domain is a bus.
	var mu sync.Mutex
	buses := make(map[int]*local.Bus)
	rostest.Suite(t, func(_ context.Context, o ros.Options) (ros.Node, error) {
		mu.Lock()
		defer mu.Unlock()
		if buses[o.DomainID] == nil {
			buses[o.DomainID] = local.NewBus()
		}
		return buses[o.DomainID].Node(o)
	}, false)
}
