// Package cyclone is the back end of package ros that speaks to a ROS 2 graph through Eclipse Cyclone
// DDS, without a ROS 2 installation. It needs Debian's cyclonedds-dev (0.10) and follows the conventions
// of rmw_cyclonedds of ROS 2 Humble: topic rt/<name> of type pkg::msg::dds_::Type_, services on rq/ and
// rr/ with a header of client and sequence number, node names on ros_discovery_info.
//
// Topics meet those of any ROS 2 middleware that speaks RTPS. Services, and with them parameters from the
// command line, need the peer to run RMW_IMPLEMENTATION=rmw_cyclonedds_cpp: others carry the service
// header elsewhere. CYCLONEDDS_URI configures Cyclone as usual.
package cyclone

// #include <stdlib.h>
// #include "wire.h"
import "C"

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

type node struct {
	names       *ros.Names
	log         *zap.Logger
	clock       ros.Clock
	domain      int
	participant C.dds_entity_t
	ctx         context.Context // ends with the node
	closing     chan struct{}   // closed when Close begins
	cancel      context.CancelFunc
	discovery   *discovery

	mu     sync.Mutex
	closed bool
	parts  map[part]struct{}
	ids    uint32 // of services and clients made so far
}

// A part is what a node makes and closes: publisher, subscription, server, client.
type part interface {
	Close() error
	announce(on bool) error // tells the graph
}

// NewNode joins a domain with one DDS participant and one ROS node. ctx bounds the node's service
// handlers, whose contexts derive from it; it does not close the node.
func NewNode(ctx context.Context, o ros.Options) (ros.Node, error) {
	names, err := ros.NewNames(o)
	if err != nil {
		return nil, fmt.Errorf("cyclone: %w", err)
	}
	if o.DomainID < 0 || o.DomainID > ros.MaxDomainID {
		return nil, fmt.Errorf("cyclone: domain %d is outside 0..%d; see ROS_DOMAIN_ID", o.DomainID, ros.MaxDomainID)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("cyclone: %w", err)
	}
	if err := openDomain(o.DomainID, o.LocalhostOnly, os.Getenv("CYCLONEDDS_URI"), o.Log()); err != nil {
		return nil, fmt.Errorf("cyclone: %w", err)
	}
	n := &node{names: names, log: o.Log(), domain: o.DomainID, parts: make(map[part]struct{}), closing: make(chan struct{})}
	if n.participant, err = newParticipant(o.DomainID); err != nil {
		closeDomain(o.DomainID)
		return nil, fmt.Errorf("cyclone: %w", err)
	}
	n.ctx, n.cancel = context.WithCancel(ctx)
	if n.discovery, err = newDiscovery(n.participant, names); err != nil {
		n.cancel()
		C.dds_delete(n.participant)
		closeDomain(o.DomainID)
		return nil, fmt.Errorf("cyclone: %w", err)
	}
	return n, nil
}

// newParticipant carries the user data by which ROS 2 knows a participant as one of its own.
func newParticipant(domain int) (C.dds_entity_t, error) {
	const enclave = "enclave=/;"
	qos := C.dds_create_qos()
	defer C.dds_delete_qos(qos)
	data := C.CString(enclave)
	defer C.free(unsafe.Pointer(data))
	C.dds_qset_userdata(qos, unsafe.Pointer(data), C.size_t(len(enclave)))
	p := C.dds_create_participant(C.dds_domainid_t(domain), qos, nil)
	if p < 0 {
		return 0, fmt.Errorf("join domain %d: %w; are there more than %d participants on this machine?",
			domain, codeError(p), maxParticipantIndex+1)
	}
	return p, nil
}

func (n *node) Name() string                        { return n.names.FullyQualified() }
func (n *node) Resolve(name string) (string, error) { return n.names.Topic(name) }
func (n *node) Now() time.Time                      { return n.clock.Now() }
func (n *node) UseSimTime(on bool) error            { return n.clock.Follow(n, on) }

// make runs create unless the node is closed, remembers the part for Close and tells the graph of it.
func (n *node) make(create func() (part, error)) error {
	p, err := n.create(create)
	if err != nil {
		return err
	}
	if err := p.announce(true); err != nil {
		p.Close()
		return err
	}
	return nil
}

func (n *node) create(create func() (part, error)) (part, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fmt.Errorf("node %s: %w", n.Name(), ros.ErrClosed)
	}
	p, err := create()
	if err != nil {
		return nil, err
	}
	n.parts[p] = struct{}{}
	return p, nil
}

// forget is the last thing that a part's Close does, so that the node's Close waits for one that runs.
func (n *node) forget(p part) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.parts, p)
}

func (n *node) Close() error {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return nil
	}
	n.closed = true
	close(n.closing)
	parts := n.parts
	n.parts = make(map[part]struct{})
	n.mu.Unlock()
	n.cancel()
	for p := range parts {
		p.Close()
	}
	n.discovery.close()
	C.dds_delete(n.participant)
	closeDomain(n.domain)
	return nil
}
