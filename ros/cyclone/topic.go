package cyclone

// #include "wire.h"
import "C"

import (
	"fmt"
	"sync"
	"time"

	"github.com/ddvla/ddvla/ros"
)

// A publisher's lock lets Publish run while nobody closes.
type publisher struct {
	node *node
	name string
	typ  string
	qos  ros.QoS
	w    writer

	mu     sync.RWMutex
	closed bool
	once   sync.Once
}

func (n *node) Advertise(topic, typ string, qos ros.QoS) (ros.Publisher, error) {
	name, wire, err := n.endpoint(topic, typ, qos)
	if err != nil {
		return nil, err
	}
	p := &publisher{node: n, name: name, typ: typ, qos: qos}
	err = n.make(func() (part, error) {
		p.w, err = newWriter(n.participant, topicPrefix+name, wire, qos, "")
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("cyclone: advertise %s: %w", name, err)
	}
	return p, nil
}

// endpoint checks what Advertise and Subscribe are given.
func (n *node) endpoint(topic, typ string, qos ros.QoS) (name, wire string, err error) {
	if name, err = n.names.Topic(topic); err == nil {
		if wire, err = wireType(typ, "msg", ""); err == nil {
			err = qos.Validate()
		}
	}
	if err != nil {
		return "", "", fmt.Errorf("cyclone: topic %q: %w", topic, err)
	}
	return name, wire, nil
}

func (p *publisher) Publish(raw []byte) error {
	if err := ros.CheckCDR(raw); err != nil {
		return fmt.Errorf("cyclone: publish %s: %w", p.name, err)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return fmt.Errorf("cyclone: publish %s: %w", p.name, ros.ErrClosed)
	}
	if err := p.w.write(raw, nil); err != nil {
		return fmt.Errorf("cyclone: publish %s: %w", p.name, err)
	}
	return nil
}

func (p *publisher) announce(on bool) error {
	return p.node.discovery.announce(on, []writer{p.w}, nil)
}

func (p *publisher) MatchedSubscriptions() int { return p.w.matched() }

func (p *publisher) Mismatch() ros.Mismatch {
	var s C.dds_offered_incompatible_qos_status_t
	if C.dds_get_offered_incompatible_qos_status(p.w.entity, &s) != C.DDS_RETCODE_OK || s.total_count == 0 {
		return ros.Mismatch{}
	}
	m := ros.Mismatch{Count: int(s.total_count), Policy: policyName(s.last_policy_id)}
	return p.node.explain(m, p.name, p.typ, p.qos)
}

func (p *publisher) Close() error {
	var err error
	p.once.Do(func() {
		p.mu.Lock()
		p.closed = true
		p.mu.Unlock()
		err = p.announce(false)
		p.w.close()
		p.node.forget(p)
	})
	return err
}

func (w writer) matched() int {
	var s C.dds_publication_matched_status_t
	if C.dds_get_publication_matched_status(w.entity, &s) != C.DDS_RETCODE_OK {
		return 0 // closed
	}
	return int(s.current_count)
}

type subscription struct {
	node      *node
	name, typ string
	qos       ros.QoS
	r         *reader
	once      sync.Once
}

func (n *node) Subscribe(topic, typ string, qos ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	name, wire, err := n.endpoint(topic, typ, qos)
	if err != nil {
		return nil, err
	}
	s := &subscription{node: n, name: name, typ: typ, qos: qos}
	err = n.make(func() (part, error) {
		s.r, err = newReader(n.participant, topicPrefix+name, wire, qos, qos.Queue(), "", func(m message) { cb(m.data, m.stamp) })
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("cyclone: subscribe %s: %w", name, err)
	}
	return s, nil
}

func (s *subscription) announce(on bool) error {
	return s.node.discovery.announce(on, nil, []*reader{s.r})
}

func (s *subscription) MatchedPublishers() int { return s.r.matched() }

func (s *subscription) Mismatch() ros.Mismatch {
	var c C.dds_requested_incompatible_qos_status_t
	if C.dds_get_requested_incompatible_qos_status(s.r.entity, &c) != C.DDS_RETCODE_OK || c.total_count == 0 {
		return ros.Mismatch{}
	}
	m := ros.Mismatch{Count: int(c.total_count), Policy: policyName(c.last_policy_id), Publishers: true}
	return s.node.explain(m, s.name, s.typ, s.qos)
}

func (s *subscription) Dropped() uint64   { return uint64(s.r.counts().dropped) }
func (s *subscription) Malformed() uint64 { return uint64(s.r.counts().malformed) }
func (s *subscription) Lost() uint64      { return uint64(s.r.counts().lost) }

func (s *subscription) Close() error {
	var err error
	s.once.Do(func() {
		err = s.announce(false)
		s.r.close()
		s.node.forget(s)
	})
	return err
}

func (r *reader) matched() int {
	var s C.dds_subscription_matched_status_t
	if C.dds_get_subscription_matched_status(r.entity, &s) != C.DDS_RETCODE_OK {
		return 0 // closed
	}
	return int(s.current_count)
}
