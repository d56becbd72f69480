//go:build rclgo

package rclgo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tiiuae/rclgo/pkg/rclgo"
	"github.com/tiiuae/rclgo/pkg/rclgo/types"
	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

// pendingCalls is how many requests wait in the middleware for a busy server, or replies for a client. It is
// more than the depth of the services QoS: a message that has to make room is a call that never ends.
const pendingCalls = 1000

// serviceQoS is that of both ends of a service. Depth is no part of what must match.
func serviceQoS() rclgo.QosProfile {
	q := ros.ServicesQoS()
	q.Depth = pendingCalls
	return profile(q)
}

type server struct {
	node   *node
	srv    *rclgo.Service
	wait   *waiter
	cancel context.CancelFunc
	once   sync.Once
}

func (n *node) Serve(service, typ string, handle func(context.Context, []byte) ([]byte, error)) (ros.Server, error) {
	s := &server{node: n}
	ctx, cancel := context.WithCancel(n.ctx)
	s.cancel = cancel
	err := n.make(func() (part, error) {
		if _, err := n.names.Service(service); err != nil {
			return nil, err
		}
		ts, err := loadService(typ)
		if err != nil {
			return nil, err
		}
		log := n.log.With(zap.String("service", service))
		s.srv, err = n.node.NewService(service, ts, &rclgo.ServiceOptions{Qos: serviceQoS()}, func(_ *rclgo.ServiceInfo, m types.Message, to rclgo.ServiceResponseSender) {
			if err := answer(ctx, ts, m.(*rawMessage), to, handle); err != nil {
				log.Error("service call failed; the caller gets no reply", zap.Error(err))
			}
		})
		if err != nil {
			return nil, brief(err)
		}
		s.wait, err = n.startWaiter(func(w *rclgo.WaitSet) { w.AddServices(s.srv) }, "service "+service)
		if err != nil {
			return nil, errors.Join(err, brief(s.srv.Close()))
		}
		return s, nil
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("rclgo: serve %q: %w", service, err)
	}
	return s, nil
}

func answer(ctx context.Context, ts *serviceSupport, request *rawMessage, to rclgo.ServiceResponseSender,
	handle func(context.Context, []byte) ([]byte, error)) error {
	if request.err != nil {
		return request.err
	}
	raw, err := handle(ctx, request.raw)
	if err != nil {
		return err
	}
	reply, err := ts.response.message(raw)
	if err != nil {
		return err
	}
	return brief(to.SendResponse(reply))
}

func (s *server) Close() error {
	var err error
	s.once.Do(func() {
		s.cancel()
		s.wait.stop()
		err = s.node.unmake(s, func() error { return errors.Join(s.wait.set.Close(), s.srv.Close()) })
	})
	return err
}

type client struct {
	node *node
	name string // fully qualified
	typ  string
	ts   *serviceSupport
	cli  *rclgo.Client
	wait *waiter
	once sync.Once
	ctx  context.Context // ends with the client
	end  context.CancelFunc
	busy sync.WaitGroup // calls that run
	mu   sync.Mutex     // orders busy.Add and the end of ctx
}

func (n *node) Client(service, typ string) (ros.Client, error) {
	c := &client{node: n, typ: typ}
	c.ctx, c.end = context.WithCancel(n.ctx)
	err := n.make(func() (part, error) {
		var err error
		if c.name, err = n.names.Service(service); err != nil {
			return nil, err
		}
		if c.ts, err = loadService(typ); err != nil {
			return nil, err
		}
		if c.cli, err = n.node.NewClient(service, c.ts, &rclgo.ClientOptions{Qos: serviceQoS()}); err != nil {
			return nil, brief(err)
		}
		c.wait, err = n.startWaiter(func(w *rclgo.WaitSet) { w.AddClients(c.cli) }, "replies of "+service)
		if err != nil {
			return nil, errors.Join(err, brief(c.cli.Close()))
		}
		return c, nil
	})
	if err != nil {
		c.end()
		return nil, fmt.Errorf("rclgo: client of %q: %w", service, err)
	}
	return c, nil
}

// begin keeps the client open until the returned function is called.
func (c *client) begin() (done func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, fmt.Errorf("rclgo: service %s: %w", c.name, ros.ErrClosed)
	}
	c.busy.Add(1)
	return c.busy.Done, nil
}

func (c *client) Call(ctx context.Context, raw []byte) ([]byte, error) {
	if err := c.WaitForService(ctx); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil { // a request that nobody waits for must have no effect
		return nil, fmt.Errorf("rclgo: service %s: %w", c.name, err)
	}
	done, err := c.begin()
	if err != nil {
		return nil, err
	}
	defer done()
	request, err := c.ts.request.message(raw)
	if err != nil {
		return nil, fmt.Errorf("rclgo: service %s: %w", c.name, err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.ctx, cancel)()
	reply, _, err := c.cli.Send(ctx, request)
	switch {
	case c.ctx.Err() != nil:
		return nil, fmt.Errorf("rclgo: service %s: %w", c.name, ros.ErrClosed)
	case err != nil:
		return nil, fmt.Errorf("rclgo: service %s: %w", c.name, brief(err))
	}
	m := reply.(*rawMessage)
	if m.err != nil {
		return nil, fmt.Errorf("rclgo: service %s: reply: %w", c.name, m.err)
	}
	return m.raw, nil
}

// servicePoll is how often a waiting client looks for its server: rclgo has no event for it.
const servicePoll = 20 * time.Millisecond

func (c *client) WaitForService(ctx context.Context) error {
	for {
		there, err := c.served()
		if err != nil || there {
			return err
		}
		select {
		case <-c.ctx.Done():
			return fmt.Errorf("rclgo: service %s: %w", c.name, ros.ErrClosed)
		case <-ctx.Done():
			return fmt.Errorf("rclgo: service %s has no server: %w", c.name, ctx.Err())
		case <-time.After(servicePoll):
		}
	}
}

// served looks for a server of the service in the graph.
func (c *client) served() (bool, error) {
	done, err := c.begin()
	if err != nil {
		return false, err
	}
	defer done()
	return c.node.serves(c.name, c.typ)
}

func (c *client) Close() error {
	var err error
	c.once.Do(func() {
		c.mu.Lock()
		c.end()
		c.mu.Unlock()
		c.busy.Wait()
		c.wait.stop()
		err = c.node.unmake(c, func() error { return errors.Join(c.wait.set.Close(), c.cli.Close()) })
	})
	return err
}
