package rostest

import (
	"context"
	"testing"
	"time"

	"github.com/ddvla/ddvla/ros"
)

// Suite runs everything that package ros promises against one back end. With processes, each promise is
// also kept towards a peer in another process, for which the package's TestMain must call [Main].
func Suite(t *testing.T, b Backend, processes bool) {
	peers := map[string]bool{"peer in this process": false}
	if processes {
		peers["peer in another process"] = true
	}
	for name, process := range peers {
		t.Run(name, func(t *testing.T) {
			promises(t, b, process)
		})
	}
	if processes {
		t.Run("a stopped subscriber does not hold up the publisher", func(t *testing.T) {
			stopped(&fixture{T: t, backend: b, process: true, domain: Domain(t)})
		})
	}
	t.Run("many nodes see each other", func(t *testing.T) { manyNodes(&fixture{T: t, backend: b, domain: Domain(t)}) })
}

// Between runs what [Suite] runs against a peer in another process. That may be of another back end: the
// package's TestMain hands the one it wants to [Main].
func Between(t *testing.T, b Backend) {
	promises(t, b, true)
}

func promises(t *testing.T, b Backend, process bool) {
	for _, c := range []struct {
		name string
		run  func(*fixture)
	}{
		{"messages arrive whole and in order", wholeAndInOrder},
		{"every type crosses whole", everyType},
		{"every service crosses whole", everyService},
		{"QoS decides who matches and says why not", qosMatrix},
		{"latecomers get what QoS promises", latecomers},
		{"a busy callback drops by depth and counts", busyCallback},
		{"malformed messages are counted and not delivered", malformed},
		{"services answer", services},
		{"services: many callers at once", concurrentCalls},
		{"services: no server, no reply, an error", serviceFailures},
		{"a peer that comes back is found again", restart},
		{"simulated time follows /clock", simTime},
		{"messages expire with their lifespan", lifespan},
		{"the graph shows nodes and endpoints", graph},
		{"names are expanded and remapped", names},
		{"closing while publishing", closeWhilePublishing},
		{"closing a node waits for what closes", closeTwiceAtOnce},
		{"closing a node ends what its callbacks call", closeWhileCallbackCalls},
		{"everything returns ErrClosed after Close", afterClose},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.run(&fixture{T: t, backend: b, process: process, domain: Domain(t)})
		})
	}
}

// A fixture is one test's domain, node factory and kind of peer.
type fixture struct {
	*testing.T
	backend Backend
	process bool
	domain  int
}

func (f *fixture) options(name string) ros.Options {
	return ros.Options{Name: name, Namespace: "/rostest", DomainID: f.domain, LocalhostOnly: true}
}

func (f *fixture) node(name string) ros.Node {
	f.Helper()
	n, err := f.backend(context.Background(), f.options(name))
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	})
	return n
}

func (f *fixture) peer(s script) *peer {
	f.Helper()
	if s.Options.Name == "" {
		s.Options = f.options("peer")
	}
	return s.start(f, f.backend, f.process)
}

func (f *fixture) subscribe(n ros.Node, topic string, qos ros.QoS, cb func([]byte, time.Time)) ros.Subscription {
	f.Helper()
	s, err := n.Subscribe(topic, stringType, qos, cb)
	if err != nil {
		f.Fatal(err)
	}
	return s
}

func (f *fixture) advertise(n ros.Node, topic string, qos ros.QoS) ros.Publisher {
	f.Helper()
	p, err := n.Advertise(topic, stringType, qos)
	if err != nil {
		f.Fatal(err)
	}
	return p
}

func (f *fixture) publish(p ros.Publisher, raw []byte) {
	f.Helper()
	if err := p.Publish(raw); err != nil {
		f.Fatal(err)
	}
}

const (
	stringType  = "std_msgs/msg/String"
	triggerType = "std_srvs/srv/Trigger"
)

// triggerRequest is an empty request: one byte, since a DDS type must have a member.
var triggerRequest = []byte{0, 1, 0, 0, 0}
