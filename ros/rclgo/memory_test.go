//go:build rclgo

package rclgo

import (
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
)

// TestMemoryStaysFlat sends so much through topics and services that a leak shows: rclgo's typed paths lose
// 32 bytes for each string of a message.
func TestMemoryStaysFlat(t *testing.T) {
	n, err := NewNode(context.Background(), ros.Options{Name: "n", DomainID: rostest.Domain(t), LocalhostOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	// The allocators' noise is below 1 MiB. This is 16 bytes of each message, or half the text of each call.
	const slack = 3 << 20
	for _, c := range []struct {
		name  string
		times int
		start func(*testing.T, ros.Node) (once func())
	}{
		{"messages", 200_000, messages},
		{"calls", 20_000, calls},
	} {
		t.Run(c.name, func(t *testing.T) {
			once := c.start(t, n)
			for range c.times / 5 { // until all pools have their size
				once()
			}
			before := resident(t)
			for range c.times {
				once()
			}
			if grown := resident(t) - before; grown > slack {
				t.Errorf("%d times took %d bytes of memory", c.times, grown)
			}
		})
	}
}

// messages sends a message to a subscription of the same node; no more are under way than it keeps.
func messages(t *testing.T, n ros.Node) func() {
	const ahead = 100
	var sent, got atomic.Int64
	qos := ros.QoS{Depth: 2 * ahead}
	if _, err := ros.Subscribe(n, "talk", qos, func(*msgs.String, time.Time) { got.Add(1) }); err != nil {
		t.Fatal(err)
	}
	p, err := ros.Advertise[msgs.String](n, "talk", qos)
	if err != nil {
		t.Fatal(err)
	}
	rostest.Wait(t, "match", func() bool { return p.MatchedSubscriptions() == 1 })
	return func() {
		if sent.Add(1)%ahead == 0 {
			rostest.Wait(t, "messages", func() bool { return got.Load() >= sent.Load()-ahead })
		}
		if err := p.Publish(&msgs.String{Data: "a string that is longer than short strings are"}); err != nil {
			t.Fatal(err)
		}
	}
}

// calls calls a service of the same node.
func calls(t *testing.T, n ros.Node) func() {
	text := strings.Repeat("x", 300)
	if _, err := ros.Serve(n, "go", func(context.Context, *msgs.TriggerRequest) (*msgs.TriggerResponse, error) {
		return &msgs.TriggerResponse{Success: true, Message: text}, nil
	}); err != nil {
		t.Fatal(err)
	}
	c, err := ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](n, "go")
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		r, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](context.Background(), c, &msgs.TriggerRequest{})
		if err != nil || r.Message != text {
			t.Fatalf("%v, %v", r, err)
		}
	}
}

// resident is the memory that the process holds, C's and Go's, in bytes.
func resident(t *testing.T) int {
	t.Helper()
	debug.FreeOSMemory()
	statm, err := os.ReadFile("/proc/self/statm") // proc(5): size and resident, in pages
	if err != nil {
		t.Fatal(err)
	}
	pages, err := strconv.Atoi(strings.Fields(string(statm))[1])
	if err != nil {
		t.Fatal(err)
	}
	return pages * os.Getpagesize()
}
