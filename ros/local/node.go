package local

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

type node struct {
	bus    *Bus
	names  *ros.Names
	log    *zap.Logger
	clock  ros.Clock
	ctx    context.Context // ends with the node
	cancel context.CancelFunc

	mu     sync.Mutex
	closed bool
	parts  map[io.Closer]struct{} // publishers, subscriptions, servers, clients
}

func newNode(b *Bus, names *ros.Names, log *zap.Logger) *node {
	ctx, cancel := context.WithCancel(context.Background())
	return &node{bus: b, names: names, log: log, ctx: ctx, cancel: cancel, parts: make(map[io.Closer]struct{})}
}

func (n *node) Name() string                        { return n.names.FullyQualified() }
func (n *node) Resolve(name string) (string, error) { return n.names.Topic(name) }
func (n *node) Now() time.Time                      { return n.clock.Now() }
func (n *node) UseSimTime(on bool) error            { return n.clock.Follow(n, on) }
func (n *node) Graph() ([]ros.GraphNode, error)     { return n.bus.graph(), nil }

// own adds a part that Close will close.
func (n *node) own(c io.Closer) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return fmt.Errorf("local: node %s: %w", n.Name(), ros.ErrClosed)
	}
	n.parts[c] = struct{}{}
	return nil
}

func (n *node) disown(c io.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.parts, c)
}

func (n *node) endpoint(topic, typ, kind string, qos ros.QoS) (string, error) {
	name, err := n.names.Topic(topic)
	if err == nil {
		_, _, err = ros.SplitType(typ, kind)
	}
	if err == nil {
		err = qos.Validate()
	}
	if err != nil {
		return "", fmt.Errorf("local: topic %q: %w", topic, err)
	}
	return name, nil
}

func (n *node) Advertise(topic, typ string, qos ros.QoS) (ros.Publisher, error) {
	name, err := n.endpoint(topic, typ, "msg", qos)
	if err != nil {
		return nil, err
	}
	p := &publisher{node: n, name: name, typ: typ, qos: qos, subs: make(map[*subscription]struct{})}
	if err := n.own(p); err != nil {
		return nil, err
	}
	n.bus.attachPublisher(p)
	return p, nil
}

func (n *node) Subscribe(topic, typ string, qos ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	name, err := n.endpoint(topic, typ, "msg", qos)
	if err != nil {
		return nil, err
	}
	s := newSubscription(n, name, typ, qos)
	if err := n.own(s); err != nil {
		return nil, err
	}
	go s.run(cb)
	n.bus.attachSubscription(s)
	return s, nil
}

func (n *node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	parts := n.parts
	n.parts = make(map[io.Closer]struct{})
	n.mu.Unlock()
	n.cancel()
	for p := range parts {
		p.Close()
	}
	n.bus.mu.Lock()
	delete(n.bus.nodes, n)
	n.bus.mu.Unlock()
	return nil
}

func (n *node) describe() ros.GraphNode {
	g := ros.GraphNode{Name: n.Name()}
	n.mu.Lock()
	defer n.mu.Unlock()
	for p := range n.parts {
		switch p := p.(type) {
		case *publisher:
			g.Publishes = append(g.Publishes, ros.Endpoint{Name: p.name, Type: p.typ, QoS: p.qos})
		case *subscription:
			g.Subscribes = append(g.Subscribes, ros.Endpoint{Name: p.name, Type: p.typ, QoS: p.qos})
		case *server:
			g.Serves = append(g.Serves, ros.Endpoint{Name: p.name, Type: p.typ, QoS: ros.ServicesQoS()})
		case *client:
			g.Calls = append(g.Calls, ros.Endpoint{Name: p.name, Type: p.typ, QoS: ros.ServicesQoS()})
		}
	}
	g.Sort()
	return g
}
