// Package playback is a ros.Node whose topics are a recording: the caller feeds
// it message after message and sets its clock, and callbacks run inside Feed, on
// the caller's goroutine. Nothing happens between two calls, so the same
// messages give the same results, as fast as they can be computed. `ddvla
// replay` runs the node of package node on it, unchanged.
package playback

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ddvla/ddvla/ros"
)

// Sink receives what the node publishes, at the node's time.
type Sink func(topic, typ string, qos ros.QoS, raw []byte, now time.Time) error

// Node is a node on a recording. Feed, SetTime and Call must not run at the same
// time as each other; publishing is free of that rule.
type Node struct {
	names *ros.Names
	sink  Sink

	mu            sync.Mutex
	now           time.Time
	closed        bool
	subscriptions map[string][]*subscription
	services      map[string]*server
}

var _ ros.Node = (*Node)(nil)

// New returns a node with the time unset. sink may be nil.
func New(options ros.Options, sink Sink) (*Node, error) {
	names, err := ros.NewNames(options)
	if err != nil {
		return nil, err
	}
	return &Node{
		names: names, sink: sink,
		subscriptions: map[string][]*subscription{},
		services:      map[string]*server{},
	}, nil
}

// SetTime moves the node's clock.
func (n *Node) SetTime(now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.now = now
}

// Feed delivers a recorded message to the topic's subscriptions and returns when
// their callbacks have. A subscription of another type than the recording's is
// an error: its callback could only misread the bytes.
func (n *Node) Feed(topic, typ string, raw []byte, stamp time.Time) error {
	n.mu.Lock()
	subscriptions := n.subscriptions[topic]
	n.mu.Unlock()
	for _, s := range subscriptions {
		if s.isClosed() { // by a callback before it
			continue
		}
		if s.typ != typ {
			return fmt.Errorf("topic %s: recorded as %s, the node expects %s; remap the topic of that type", topic, typ, s.typ)
		}
		s.cb(raw, stamp)
	}
	return nil
}

// Subscribed tells whether the node listens to a topic.
func (n *Node) Subscribed(topic string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.subscriptions[topic]) > 0
}

// Call calls one of the node's services.
func (n *Node) Call(ctx context.Context, service string, request []byte) ([]byte, error) {
	n.mu.Lock()
	s := n.services[service]
	n.mu.Unlock()
	if s == nil {
		return nil, fmt.Errorf("service %s: not served here", service)
	}
	return s.handle(ctx, request)
}

// Name implements ros.Node.
func (n *Node) Name() string { return n.names.FullyQualified() }

// Resolve implements ros.Node.
func (n *Node) Resolve(name string) (string, error) { return n.names.Topic(name) }

// Subscribe implements ros.Node.
func (n *Node) Subscribe(topic, typ string, _ ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	name, err := n.names.Topic(topic)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ros.ErrClosed
	}
	s := &subscription{node: n, topic: name, typ: typ, cb: cb}
	// A new slice each time: Feed ranges over the old one without the lock.
	n.subscriptions[name] = append(append([]*subscription(nil), n.subscriptions[name]...), s)
	return s, nil
}

// Advertise implements ros.Node.
func (n *Node) Advertise(topic, typ string, qos ros.QoS) (ros.Publisher, error) {
	name, err := n.names.Topic(topic)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ros.ErrClosed
	}
	return &publisher{node: n, topic: name, typ: typ, qos: qos}, nil
}

// Serve implements ros.Node.
func (n *Node) Serve(service, _ string, handle func(context.Context, []byte) ([]byte, error)) (ros.Server, error) {
	name, err := n.names.Service(service)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, ros.ErrClosed
	}
	s := &server{node: n, name: name, handle: handle}
	n.services[name] = s
	return s, nil
}

// errNoClients says that a recording answers no calls.
var errNoClients = errors.New("a recording has no services to call")

// Client implements ros.Node; there is nobody to call in a recording.
func (n *Node) Client(string, string) (ros.Client, error) { return nil, errNoClients }

// Now implements ros.Node: the time last set.
func (n *Node) Now() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.now
}

// UseSimTime implements ros.Node. The clock is the recording's either way.
func (n *Node) UseSimTime(bool) error { return nil }

// Close implements ros.Node.
func (n *Node) Close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closed = true
	clear(n.subscriptions)
	clear(n.services)
	return nil
}

type subscription struct {
	node       *Node
	topic, typ string
	cb         func([]byte, time.Time)
	closed     bool // under the node's lock
}

func (*subscription) MatchedPublishers() int { return 1 }
func (*subscription) Mismatch() ros.Mismatch { return ros.Mismatch{} }
func (*subscription) Dropped() uint64        { return 0 }
func (*subscription) Malformed() uint64      { return 0 }
func (*subscription) Lost() uint64           { return 0 }

func (s *subscription) isClosed() bool {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	return s.closed || s.node.closed
}

func (s *subscription) Close() error {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	s.closed = true
	var rest []*subscription
	for _, o := range s.node.subscriptions[s.topic] {
		if o != s {
			rest = append(rest, o)
		}
	}
	s.node.subscriptions[s.topic] = rest
	return nil
}

type publisher struct {
	node       *Node
	topic, typ string
	qos        ros.QoS
}

func (p *publisher) Publish(raw []byte) error {
	p.node.mu.Lock()
	now, closed := p.node.now, p.node.closed
	p.node.mu.Unlock()
	switch {
	case closed:
		return ros.ErrClosed
	case p.node.sink == nil:
		return nil
	}
	return p.node.sink(p.topic, p.typ, p.qos, raw, now)
}

func (*publisher) MatchedSubscriptions() int { return 1 }
func (*publisher) Mismatch() ros.Mismatch    { return ros.Mismatch{} }
func (*publisher) Close() error              { return nil }

type server struct {
	node   *Node
	name   string
	handle func(context.Context, []byte) ([]byte, error)
}

func (s *server) Close() error {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	delete(s.node.services, s.name)
	return nil
}
