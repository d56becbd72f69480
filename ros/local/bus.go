// Package local is the back end of package ros that stays in one process: replay, simulation and tests
// use it. A [Bus] is the graph; nodes on one bus hear each other with the QoS rules of the other back
// ends, and nothing leaves the process. A message is copied once, however many subscriptions it has.
package local

import (
	"fmt"
	"sort"
	"sync"
	"time"

	"github.com/ddvla/ddvla/ros"
)

// A Bus connects nodes of one process.
type Bus struct {
	mu       sync.Mutex
	topics   map[string]*topic
	services map[string]*server
	waiting  chan struct{} // closed and replaced when a service appears
	nodes    map[*node]struct{}
}

// NewBus returns a bus without nodes.
func NewBus() *Bus {
	return &Bus{
		topics:   make(map[string]*topic),
		services: make(map[string]*server),
		waiting:  make(chan struct{}),
		nodes:    make(map[*node]struct{}),
	}
}

// Node adds a node to the bus. DomainID and LocalhostOnly do not matter here.
func (b *Bus) Node(o ros.Options) (ros.Node, error) {
	names, err := ros.NewNames(o)
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	n := newNode(b, names, o.Log())
	b.mu.Lock()
	defer b.mu.Unlock()
	b.nodes[n] = struct{}{}
	return n, nil
}

// A topic is keyed by name and type: as in DDS, other types under the same name do not meet.
type topic struct {
	publishers    map[*publisher]struct{}
	subscriptions map[*subscription]struct{}
}

func (b *Bus) topic(name, typ string) *topic {
	key := name + " " + typ
	t := b.topics[key]
	if t == nil {
		t = &topic{make(map[*publisher]struct{}), make(map[*subscription]struct{})}
		b.topics[key] = t
	}
	return t
}

// A sample is a message on its way; its bytes are shared and never written.
type sample struct {
	raw   []byte
	stamp time.Time
}

func (s sample) expired(qos ros.QoS, now time.Time) bool {
	return qos.Lifespan > 0 && now.Sub(s.stamp) > qos.Lifespan
}

// attachPublisher makes p known and matches it with the subscriptions there are.
func (b *Bus) attachPublisher(p *publisher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.isClosed() { // its node closed meanwhile
		return
	}
	t := b.topic(p.name, p.typ)
	t.publishers[p] = struct{}{}
	for s := range t.subscriptions {
		b.match(p, s)
	}
}

// attachSubscription makes s known and hands it what transient-local publishers kept.
func (b *Bus) attachSubscription(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.isClosed() { // its node closed meanwhile
		return
	}
	t := b.topic(s.name, s.typ)
	t.subscriptions[s] = struct{}{}
	for p := range t.publishers {
		b.match(p, s)
	}
}

func (b *Bus) match(p *publisher, s *subscription) {
	if policy := ros.Incompatible(p.qos, s.qos); policy != "" {
		m := ros.Mismatch{Policy: policy, Offered: p.qos, Requested: s.qos, Peer: s.node.Name()}
		p.refuse(m)
		m.Publishers, m.Peer = true, p.node.Name()
		s.refuse(m)
		return
	}
	p.add(s)
	s.matched.Add(1)
}

func (b *Bus) detachPublisher(p *publisher) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(p.name, p.typ)
	delete(t.publishers, p)
	for s := range p.readers() {
		s.matched.Add(-1)
	}
	b.prune(p.name, p.typ, t)
}

func (b *Bus) detachSubscription(s *subscription) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t := b.topic(s.name, s.typ)
	delete(t.subscriptions, s)
	for p := range t.publishers {
		p.remove(s)
	}
	b.prune(s.name, s.typ, t)
}

func (b *Bus) prune(name, typ string, t *topic) {
	if len(t.publishers) == 0 && len(t.subscriptions) == 0 {
		delete(b.topics, name+" "+typ)
	}
}

// graph lists the bus's nodes by name.
func (b *Bus) graph() []ros.GraphNode {
	b.mu.Lock()
	nodes := make([]*node, 0, len(b.nodes))
	for n := range b.nodes {
		nodes = append(nodes, n)
	}
	b.mu.Unlock()
	out := make([]ros.GraphNode, len(nodes))
	for i, n := range nodes {
		out[i] = n.describe()
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out
}
