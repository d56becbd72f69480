package ros

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ddvla/ddvla/msgs"
)

// A MessageOf is a pointer to T that is a message. It lets the helpers below be called with T alone, as
// in Subscribe[msgs.Image](...).
type MessageOf[T any] interface {
	*T
	msgs.Message
}

// Subscribe calls cb with every message of the topic, decoded. The message and everything it refers to
// belong to the subscription and are valid until cb returns: copy what is kept. Messages that do not
// decode are counted in Malformed.
func Subscribe[T any, M MessageOf[T]](n Node, topic string, qos QoS, cb func(m *T, stamp time.Time)) (Subscription, error) {
	m := M(new(T))
	malformed := new(atomic.Uint64)
	sub, err := n.Subscribe(topic, m.ROSType(), qos, func(raw []byte, stamp time.Time) {
		if err := msgs.Unmarshal(raw, m); err != nil {
			malformed.Add(1)
			return
		}
		cb(m, stamp)
	})
	if err != nil {
		return nil, err
	}
	return &typedSubscription{Subscription: sub, malformed: malformed}, nil
}

// typedSubscription adds the messages that did not decode to those the back end refused.
type typedSubscription struct {
	Subscription
	malformed *atomic.Uint64
}

func (s *typedSubscription) Malformed() uint64 {
	return s.Subscription.Malformed() + s.malformed.Load()
}

// Advertise creates a publisher of messages of type T.
func Advertise[T any, M MessageOf[T]](n Node, topic string, qos QoS) (*TypedPublisher[T, M], error) {
	p, err := n.Advertise(topic, M(new(T)).ROSType(), qos)
	if err != nil {
		return nil, err
	}
	return &TypedPublisher[T, M]{pub: p}, nil
}

// A TypedPublisher sends messages of type T. It is made by [Advertise] and safe for concurrent use.
type TypedPublisher[T any, M MessageOf[T]] struct {
	pub Publisher
	mu  sync.Mutex
	buf []byte // reused, so that publishing does not allocate
}

// Publish encodes and sends m, which may be reused when it returns. It never waits for a peer.
func (p *TypedPublisher[T, M]) Publish(m *T) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	buf, err := msgs.AppendMarshal(p.buf[:0], M(m))
	if err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	p.buf = buf
	return p.pub.Publish(buf)
}

// MatchedSubscriptions is described at [Publisher].
func (p *TypedPublisher[T, M]) MatchedSubscriptions() int { return p.pub.MatchedSubscriptions() }

// Mismatch is described at [Publisher].
func (p *TypedPublisher[T, M]) Mismatch() Mismatch { return p.pub.Mismatch() }

// Close ends the publisher.
func (p *TypedPublisher[T, M]) Close() error { return p.pub.Close() }

// Serve answers a service whose halves are Req and Resp. The request is valid until handle returns. An
// error of handle is logged and the caller gets no reply; see [Node].
func Serve[Req, Resp any, Q MessageOf[Req], P MessageOf[Resp]](n Node, service string, handle func(ctx context.Context, request *Req) (*Resp, error)) (Server, error) {
	typ, err := serviceType(Q(new(Req)), P(new(Resp)))
	if err != nil {
		return nil, err
	}
	return n.Serve(service, typ, func(ctx context.Context, raw []byte) ([]byte, error) {
		request := Q(new(Req))
		if err := msgs.Unmarshal(raw, request); err != nil {
			return nil, fmt.Errorf("request: %w", err)
		}
		reply, err := handle(ctx, (*Req)(request))
		if err != nil {
			return nil, err
		}
		return msgs.Marshal(P(reply))
	})
}

// NewClient creates a client of a service whose halves are Req and Resp; use it with [Call].
func NewClient[Req, Resp any, Q MessageOf[Req], P MessageOf[Resp]](n Node, service string) (Client, error) {
	typ, err := serviceType(Q(new(Req)), P(new(Resp)))
	if err != nil {
		return nil, err
	}
	return n.Client(service, typ)
}

// Call sends a request through c and waits for the reply until ctx ends.
func Call[Req, Resp any, Q MessageOf[Req], P MessageOf[Resp]](ctx context.Context, c Client, request *Req) (*Resp, error) {
	raw, err := msgs.Marshal(Q(request))
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if raw, err = c.Call(ctx, raw); err != nil {
		return nil, err
	}
	reply := P(new(Resp))
	if err := msgs.Unmarshal(raw, reply); err != nil {
		return nil, fmt.Errorf("reply: %w", err)
	}
	return (*Resp)(reply), nil
}

// serviceType is what two halves have in common: "std_srvs/srv/Trigger".
func serviceType(request, reply msgs.Message) (string, error) {
	typ, ok := strings.CutSuffix(request.ROSType(), "_Request")
	if other, ok2 := strings.CutSuffix(reply.ROSType(), "_Response"); !ok || !ok2 || typ != other {
		return "", fmt.Errorf("%s and %s are not the halves of one service", request.ROSType(), reply.ROSType())
	}
	return typ, nil
}
