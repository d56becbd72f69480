package cyclone

// #include "wire.h"
import "C"

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

// header is what rmw_cyclonedds puts before the fields of a request and a reply, behind the CDR
// encapsulation: which client asked, and its running number. Its 16 bytes keep the alignment of what
// follows.
type header struct {
	client   uint64
	sequence int64
}

const (
	encapsulation = 4
	headerSize    = 16
)

// splitHeader takes the header out of a service's message; body is a copy, again with encapsulation.
func splitHeader(raw []byte) (h header, body []byte, err error) {
	if len(raw) < encapsulation+headerSize {
		return h, nil, fmt.Errorf("%d bytes are too few for the service header", len(raw))
	}
	if err := ros.CheckCDR(raw); err != nil {
		return h, nil, err
	}
	order := byteOrder(raw)
	h.client = order.Uint64(raw[encapsulation:])
	h.sequence = int64(order.Uint64(raw[encapsulation+8:]))
	body = make([]byte, 0, len(raw)-headerSize)
	body = append(body, raw[:encapsulation]...)
	return h, append(body, raw[encapsulation+headerSize:]...), nil
}

// joinHeader is the start of a service's message: the body's encapsulation, then the header in its byte
// order. The rest is body[encapsulation:].
func joinHeader(h header, body []byte) ([encapsulation + headerSize]byte, error) {
	var out [encapsulation + headerSize]byte
	if err := ros.CheckCDR(body); err != nil {
		return out, err
	}
	order := byteOrder(body)
	copy(out[:], body[:encapsulation])
	order.PutUint64(out[encapsulation:], h.client)
	order.PutUint64(out[encapsulation+8:], uint64(h.sequence))
	return out, nil
}

func byteOrder(raw []byte) binary.ByteOrder {
	if raw[1] == 0 {
		return binary.BigEndian
	}
	return binary.LittleEndian
}

// serviceEnds are the DDS names and types of a service.
type serviceEnds struct {
	name                   string
	request, reply         string
	requestType, replyType string
}

func (n *node) serviceEnds(service, typ string) (e serviceEnds, err error) {
	if e.name, err = n.names.Service(service); err == nil {
		if e.requestType, err = wireType(typ, "srv", "_Request"); err == nil {
			e.replyType, err = wireType(typ, "srv", "_Response")
		}
	}
	if err != nil {
		return e, fmt.Errorf("cyclone: service %q: %w", service, err)
	}
	e.request = requestPrefix + e.name + requestSuffix
	e.reply = replyPrefix + e.name + replySuffix
	return e, nil
}

// newID is a random value of the user data "clientid=" and "serviceid=" in rmw's form.
func (n *node) newID(key string) (string, error) {
	g, err := gid(n.participant)
	if err != nil {
		return "", err
	}
	n.ids++
	binary.BigEndian.PutUint32(g.Data[12:], n.ids) // the participant's own entity number is the same for all
	s := key + "="
	for i, b := range g.Data[:16] {
		if i > 0 {
			s += "."
		}
		s += fmt.Sprintf("%x", b)
	}
	return s + ";", nil
}

// pendingCalls is the number of requests and replies that are kept for a peer that is busy or has not
// acknowledged them. It is more than the depth of the services QoS: a message that has to make room is a call
// that never returns.
const pendingCalls = 1000

// serviceQoS is that of the four ends of a service. Depth is no part of what must match.
func serviceQoS() ros.QoS {
	q := ros.ServicesQoS()
	q.Depth = pendingCalls
	return q
}

type server struct {
	node    *node
	name    string
	replies writer
	r       *reader
	cancel  context.CancelFunc
	once    sync.Once
	late    sync.WaitGroup // replies that wait for their client
	waiting atomic.Int64   // how many
}

func (n *node) Serve(service, typ string, handle func(context.Context, []byte) ([]byte, error)) (ros.Server, error) {
	e, err := n.serviceEnds(service, typ)
	if err != nil {
		return nil, err
	}
	s := &server{node: n, name: e.name}
	ctx, cancel := context.WithCancel(n.ctx)
	s.cancel = cancel
	err = n.make(func() (part, error) {
		id, err := n.newID("serviceid")
		if err != nil {
			return nil, err
		}
		if s.replies, err = newWriter(n.participant, e.reply, e.replyType, serviceQoS(), id); err != nil {
			return nil, err
		}
		var requests C.dds_entity_t
		ready := make(chan struct{}) // the first request may come before the reader's handle does
		s.r, err = newReader(n.participant, e.request, e.requestType, serviceQoS(), pendingCalls, id, func(m message) {
			<-ready
			s.answer(ctx, requests, m, handle)
		})
		if err != nil {
			s.replies.close()
			return nil, err
		}
		requests = s.r.entity
		close(ready)
		return s, nil
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cyclone: serve %s: %w", e.name, err)
	}
	return s, nil
}

func (s *server) announce(on bool) error {
	return s.node.discovery.announce(on, []writer{s.replies}, []*reader{s.r})
}

func (s *server) answer(ctx context.Context, requests C.dds_entity_t, m message, handle func(context.Context, []byte) ([]byte, error)) {
	log := s.node.log.With(zap.String("service", s.name))
	h, request, err := splitHeader(m.data)
	if err != nil {
		log.Warn("malformed service request", zap.Error(err))
		return
	}
	reply, err := handle(ctx, request)
	if err != nil {
		log.Error("service call failed; the caller gets no reply", zap.Error(err))
		return
	}
	head, err := joinHeader(h, reply)
	if err != nil {
		log.Error("service call gave an invalid reply", zap.Error(err))
		return
	}
	send := func() {
		if err := s.replies.write(head[:], reply[encapsulation:]); err != nil {
			log.Error("service reply was not sent", zap.Error(err))
		}
	}
	if s.clientState(requests, m.writer) == C.PEER_READY {
		send()
		return
	}
	if s.waiting.Add(1) > pendingCalls {
		s.waiting.Add(-1)
		log.Warn("too many callers cannot get their reply; one is left without")
		return
	}
	reply = bytes.Clone(reply) // the handler may reuse it in the next call
	s.late.Go(func() {
		defer s.waiting.Add(-1)
		if s.waitForClient(ctx, requests, m.writer) {
			send()
		} else {
			log.Warn("the caller left before it could get the reply")
		}
	})
}

// Discovery may show a client's request before its reader of replies, and where packets are lost or machines
// are slow, long before. The reply waits for the reader, aside, so that the next call does not. (rmw_cyclonedds
// waits 100 ms and the call is lost.)
const (
	clientPatience = 10 * time.Second // until a peer that went silent is given up
	clientPoll     = 5 * time.Millisecond
)

func (s *server) clientState(requests C.dds_entity_t, publication uint64) uint32 {
	return C.graph_client_state(requests, s.replies.entity, C.uint64_t(publication))
}

// waitForClient tells whether the client that wrote through publication can get its reply.
func (s *server) waitForClient(ctx context.Context, requests C.dds_entity_t, publication uint64) bool {
	ctx, cancel := context.WithTimeout(ctx, clientPatience)
	defer cancel()
	poll := time.NewTicker(clientPoll)
	defer poll.Stop()
	for {
		switch s.clientState(requests, publication) {
		case C.PEER_READY:
			return true
		case C.PEER_GONE:
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-poll.C:
		}
	}
}

func (s *server) Close() error {
	var err error
	s.once.Do(func() {
		s.cancel()
		err = s.announce(false)
		s.r.close()
		s.late.Wait()
		s.replies.close()
		s.node.forget(s)
	})
	return err
}

type client struct {
	node     *node
	name     string
	requests writer
	r        *reader
	id       uint64
	done     chan struct{}
	once     sync.Once

	mu       sync.RWMutex // held for reading while a request is written
	closed   bool
	pendMu   sync.Mutex
	sequence int64
	pending  map[int64]chan []byte
}

func (n *node) Client(service, typ string) (ros.Client, error) {
	e, err := n.serviceEnds(service, typ)
	if err != nil {
		return nil, err
	}
	c := &client{node: n, name: e.name, done: make(chan struct{}), pending: make(map[int64]chan []byte)}
	err = n.make(func() (part, error) {
		id, err := n.newID("clientid")
		if err != nil {
			return nil, err
		}
		if c.requests, err = newWriter(n.participant, e.request, e.requestType, serviceQoS(), id); err != nil {
			return nil, err
		}
		var handle C.dds_instance_handle_t
		if rc := C.dds_get_instance_handle(c.requests.entity, &handle); rc != C.DDS_RETCODE_OK {
			c.requests.close()
			return nil, codeError(rc)
		}
		c.id = uint64(handle)
		if c.r, err = newReader(n.participant, e.reply, e.replyType, serviceQoS(), pendingCalls, id, c.receive); err != nil {
			c.requests.close()
			return nil, err
		}
		return c, nil
	})
	if err != nil {
		return nil, fmt.Errorf("cyclone: client of %s: %w", e.name, err)
	}
	return c, nil
}

func (c *client) announce(on bool) error {
	return c.node.discovery.announce(on, []writer{c.requests}, []*reader{c.r})
}

// receive gets the replies to all clients of the service and picks its own.
func (c *client) receive(m message) {
	h, reply, err := splitHeader(m.data)
	if err != nil {
		c.node.log.Warn("malformed service reply", zap.String("service", c.name), zap.Error(err))
		return
	}
	if h.client != c.id {
		return
	}
	c.pendMu.Lock()
	defer c.pendMu.Unlock()
	if to := c.pending[h.sequence]; to != nil {
		delete(c.pending, h.sequence)
		to <- reply // has room for the only reply
	}
}

func (c *client) Call(ctx context.Context, request []byte) ([]byte, error) {
	if err := c.WaitForService(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // a request that nobody waits for must have no effect
		return nil, fmt.Errorf("cyclone: service %s: %w", c.name, err)
	}
	select {
	case <-c.node.closing:
		return nil, fmt.Errorf("cyclone: service %s: %w", c.name, ros.ErrClosed)
	default:
	}
	to := make(chan []byte, 1)
	c.pendMu.Lock()
	c.sequence++
	sequence := c.sequence
	c.pending[sequence] = to
	c.pendMu.Unlock()
	defer func() {
		c.pendMu.Lock()
		delete(c.pending, sequence)
		c.pendMu.Unlock()
	}()
	if err := c.send(header{c.id, sequence}, request); err != nil {
		return nil, fmt.Errorf("cyclone: service %s: %w", c.name, err)
	}
	select {
	case reply := <-to:
		return reply, nil
	case <-c.done:
		return nil, fmt.Errorf("cyclone: service %s: %w", c.name, ros.ErrClosed)
	case <-c.node.closing: // and may wait for the callback that calls
		return nil, fmt.Errorf("cyclone: service %s: %w", c.name, ros.ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("cyclone: service %s did not reply: %w", c.name, ctx.Err())
	}
}

func (c *client) send(h header, request []byte) error {
	head, err := joinHeader(h, request)
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return ros.ErrClosed
	}
	return c.requests.write(head[:], request[encapsulation:])
}

// servicePoll is how often a waiting client looks whether discovery has found a server.
const servicePoll = 5 * time.Millisecond

func (c *client) WaitForService(ctx context.Context) error {
	for {
		c.mu.RLock()
		closed := c.closed
		ready := !closed && bool(C.graph_server_ready(c.requests.entity, c.r.entity))
		c.mu.RUnlock()
		switch {
		case closed:
			return fmt.Errorf("cyclone: service %s: %w", c.name, ros.ErrClosed)
		case ready:
			return nil
		}
		select {
		case <-c.done:
		case <-c.node.closing:
			return fmt.Errorf("cyclone: service %s: %w", c.name, ros.ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("cyclone: service %s has no server: %w", c.name, ctx.Err())
		case <-time.After(servicePoll):
		}
	}
}

func (c *client) Close() error {
	var err error
	c.once.Do(func() {
		close(c.done)
		c.mu.Lock()
		c.closed = true
		c.mu.Unlock()
		err = c.announce(false)
		c.r.close()
		c.requests.close()
		c.node.forget(c)
	})
	return err
}
