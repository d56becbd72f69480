package local

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/internal/inbox"
)

// refusals counts peers that QoS keeps away.
type refusals struct {
	mu sync.Mutex
	m  ros.Mismatch
}

// refuse notes the last one; m's Count does not matter.
func (r *refusals) refuse(m ros.Mismatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	m.Count = r.m.Count + 1
	r.m = m
}

// Mismatch is described at ros.Publisher.
func (r *refusals) Mismatch() ros.Mismatch {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m
}

type publisher struct {
	refusals
	node      *node
	name, typ string
	qos       ros.QoS

	mu     sync.Mutex // held while a message goes out, so that all subscriptions see one order
	closed bool
	subs   map[*subscription]struct{}
	kept   []sample // for latecomers, transient local only
}

func (p *publisher) Publish(raw []byte) error {
	if err := ros.CheckCDR(raw); err != nil {
		return fmt.Errorf("local: publish %s: %w", p.name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return fmt.Errorf("local: publish %s: %w", p.name, ros.ErrClosed)
	}
	if len(p.subs) == 0 && p.qos.Durability == ros.Volatile {
		return nil
	}
	s := sample{append(make([]byte, 0, len(raw)), raw...), time.Now()}
	if p.qos.Durability == ros.TransientLocal {
		if len(p.kept) == p.qos.Queue() {
			copy(p.kept, p.kept[1:])
			p.kept = p.kept[:len(p.kept)-1]
		}
		p.kept = append(p.kept, s)
	}
	for sub := range p.subs {
		sub.put(s, p.qos)
	}
	return nil
}

// add matches a subscription and gives a transient-local one what was kept.
func (p *publisher) add(s *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.subs[s] = struct{}{}
	if s.qos.Durability == ros.TransientLocal {
		for _, k := range p.kept {
			s.put(k, p.qos)
		}
	}
}

func (p *publisher) remove(s *subscription) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subs, s)
}

// readers returns the matched subscriptions of a closed publisher.
func (p *publisher) readers() map[*subscription]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	subs := p.subs
	p.subs = nil
	return subs
}

func (p *publisher) isClosed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.closed
}

func (p *publisher) MatchedSubscriptions() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.subs)
}

func (p *publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	p.mu.Unlock()
	p.node.bus.detachPublisher(p)
	p.node.disown(p)
	return nil
}

type subscription struct {
	refusals
	node      *node
	name, typ string
	qos       ros.QoS
	matched   atomic.Int64
	box       *inbox.Box[waiting]
	once      sync.Once
}

// waiting is a message in the box with its writer's QoS, for the lifespan.
type waiting struct {
	sample
	offered ros.QoS
}

func newSubscription(n *node, name, typ string, qos ros.QoS) *subscription {
	return &subscription{node: n, name: name, typ: typ, qos: qos, box: inbox.New[waiting](qos.Queue())}
}

func (s *subscription) put(m sample, offered ros.QoS) { s.box.Put(waiting{m, offered}) }

// run hands out messages until the subscription closes.
func (s *subscription) run(cb func([]byte, time.Time)) {
	s.box.Run(func(m waiting) {
		if !m.expired(m.offered, time.Now()) {
			cb(m.raw, m.stamp)
		}
	})
}

func (s *subscription) isClosed() bool         { return s.box.Closed() }
func (s *subscription) MatchedPublishers() int { return int(s.matched.Load()) }
func (s *subscription) Dropped() uint64        { return s.box.Dropped() }
func (s *subscription) Malformed() uint64      { return 0 } // Publish lets none in
func (s *subscription) Lost() uint64           { return 0 } // there is no network

func (s *subscription) Close() error {
	s.once.Do(func() {
		s.box.Close()
		s.node.bus.detachSubscription(s)
		s.matched.Store(0)
		s.node.disown(s)
	})
	return nil
}
