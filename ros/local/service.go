package local

import (
	"context"
	"fmt"
	"sync"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

type call struct {
	request []byte
	reply   chan []byte // one place; the server never waits for the caller
}

type server struct {
	node      *node
	name, typ string
	ctx       context.Context
	cancel    context.CancelFunc
	calls     chan call
	ended     chan struct{}
}

// pendingCalls is the number of requests that wait for a busy handler; further callers wait to be let in.
const pendingCalls = 10

func (n *node) Serve(service, typ string, handle func(context.Context, []byte) ([]byte, error)) (ros.Server, error) {
	name, err := n.service(service, typ)
	if err != nil {
		return nil, err
	}
	s := &server{node: n, name: name, typ: typ, calls: make(chan call, pendingCalls), ended: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(n.ctx)
	if err := n.own(s); err != nil {
		s.cancel()
		return nil, err
	}
	b := n.bus
	b.mu.Lock()
	key := name + " " + typ
	if b.services[key] != nil {
		b.mu.Unlock()
		n.disown(s)
		s.cancel()
		close(s.ended) // for the node, which may be closing it
		return nil, fmt.Errorf("local: service %s is already served on this bus", name)
	}
	if s.ctx.Err() == nil { // else its node closed meanwhile
		b.services[key] = s
	}
	close(b.waiting)
	b.waiting = make(chan struct{})
	b.mu.Unlock()
	go s.run(handle)
	return s, nil
}

func (n *node) service(service, typ string) (string, error) {
	name, err := n.names.Service(service)
	if err == nil {
		_, _, err = ros.SplitType(typ, "srv")
	}
	if err != nil {
		return "", fmt.Errorf("local: service %q: %w", service, err)
	}
	return name, nil
}

func (s *server) run(handle func(context.Context, []byte) ([]byte, error)) {
	defer close(s.ended)
	for {
		select {
		case <-s.ctx.Done():
			return
		case c := <-s.calls:
			reply, err := handle(s.ctx, c.request)
			if err == nil {
				err = ros.CheckCDR(reply)
			}
			if err != nil {
				s.node.log.Error("service call failed; the caller gets no reply", zap.String("service", s.name), zap.Error(err))
				continue
			}
			c.reply <- append([]byte(nil), reply...)
		}
	}
}

func (s *server) Close() error {
	b := s.node.bus
	b.mu.Lock()
	if key := s.name + " " + s.typ; b.services[key] == s {
		delete(b.services, key)
	}
	b.mu.Unlock()
	s.cancel()
	<-s.ended
	s.node.disown(s)
	return nil
}

type client struct {
	node      *node
	name, typ string
	once      sync.Once
	done      chan struct{}
}

func (n *node) Client(service, typ string) (ros.Client, error) {
	name, err := n.service(service, typ)
	if err != nil {
		return nil, err
	}
	c := &client{node: n, name: name, typ: typ, done: make(chan struct{})}
	if err := n.own(c); err != nil {
		return nil, err
	}
	return c, nil
}

// server waits for the service to be there.
func (c *client) server(ctx context.Context) (*server, error) {
	b := c.node.bus
	for {
		b.mu.Lock()
		s, waiting := b.services[c.name+" "+c.typ], b.waiting
		b.mu.Unlock()
		if s != nil {
			return s, nil
		}
		select {
		case <-waiting:
		case <-c.done:
			return nil, fmt.Errorf("local: service %s: %w", c.name, ros.ErrClosed)
		case <-c.node.ctx.Done(): // whose Close may wait for the callback that calls
			return nil, fmt.Errorf("local: service %s: %w", c.name, ros.ErrClosed)
		case <-ctx.Done():
			return nil, fmt.Errorf("local: service %s has no server: %w", c.name, ctx.Err())
		}
	}
}

func (c *client) WaitForService(ctx context.Context) error {
	_, err := c.server(ctx)
	return err
}

func (c *client) Call(ctx context.Context, request []byte) ([]byte, error) {
	if err := ros.CheckCDR(request); err != nil {
		return nil, fmt.Errorf("local: service %s: request: %w", c.name, err)
	}
	s, err := c.server(ctx)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // a request that nobody waits for must have no effect
		return nil, fmt.Errorf("local: service %s: %w", c.name, err)
	}
	k := call{append([]byte(nil), request...), make(chan []byte, 1)}
	select {
	case s.calls <- k:
	case <-s.ctx.Done():
		return nil, fmt.Errorf("local: service %s: its server closed", c.name)
	case <-c.node.ctx.Done():
		return nil, fmt.Errorf("local: service %s: %w", c.name, ros.ErrClosed)
	case <-c.done:
		return nil, fmt.Errorf("local: service %s: %w", c.name, ros.ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("local: service %s: %w", c.name, ctx.Err())
	}
	select {
	case reply := <-k.reply:
		return reply, nil
	case <-s.ended:
		select {
		case reply := <-k.reply:
			return reply, nil
		default:
			return nil, fmt.Errorf("local: service %s: its server closed", c.name)
		}
	case <-c.done:
		return nil, fmt.Errorf("local: service %s: %w", c.name, ros.ErrClosed)
	case <-c.node.ctx.Done():
		return nil, fmt.Errorf("local: service %s: %w", c.name, ros.ErrClosed)
	case <-ctx.Done():
		return nil, fmt.Errorf("local: service %s did not reply: %w", c.name, ctx.Err())
	}
}

func (c *client) Close() error {
	c.once.Do(func() { close(c.done) })
	c.node.disown(c)
	return nil
}
