//go:build rclgo

package rclgo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tiiuae/rclgo/pkg/rclgo"
	"github.com/tiiuae/rclgo/pkg/rclgo/types"
	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/internal/inbox"
)

// profile maps QoS; what package ros does not have is left to the middleware's default.
func profile(q ros.QoS) rclgo.QosProfile {
	p := rclgo.NewDefaultQosProfile()
	p.Depth = q.Depth
	if q.History == ros.KeepAll {
		p.History = rclgo.HistoryKeepAll
	}
	if q.Reliability == ros.BestEffort {
		p.Reliability = rclgo.ReliabilityBestEffort
	}
	if q.Durability == ros.TransientLocal {
		p.Durability = rclgo.DurabilityTransientLocal
	}
	p.Deadline, p.Lifespan = q.Deadline, q.Lifespan // 0 is unspecified in both
	return p
}

// messageSupport loads the type support of a message from its package's C library.
func messageSupport(typ string) (types.MessageTypeSupport, error) {
	pkg, name, err := ros.SplitType(typ, "msg")
	if err != nil {
		return nil, err
	}
	ts, err := rclgo.LoadDynamicMessageTypeSupport(pkg, name)
	if err != nil {
		return nil, fmt.Errorf("type %s: %w; is its package installed and on LD_LIBRARY_PATH?", typ, brief(err))
	}
	return ts, nil
}

// A publisher's lock lets Publish run while nobody closes.
type publisher struct {
	node    *node
	name    string
	pub     *rclgo.Publisher
	refused refusals

	mu     sync.RWMutex
	closed bool
}

func (n *node) Advertise(topic, typ string, qos ros.QoS) (ros.Publisher, error) {
	p := &publisher{node: n, name: topic}
	err := n.make(func() (part, error) {
		full, ts, err := check(n, topic, typ, qos)
		if err != nil {
			return nil, err
		}
		p.refused = refusals{node: n, topic: full, typ: typ, ours: qos, peers: n.node.GetSubscriptionsInfoByTopic}
		p.pub, err = n.node.NewPublisher(topic, ts, &rclgo.PublisherOptions{Qos: profile(qos)})
		return p, brief(err)
	})
	if err != nil {
		return nil, fmt.Errorf("rclgo: advertise %q: %w", topic, err)
	}
	return p, nil
}

// check looks at what Advertise and Subscribe are given, resolves the name and loads the type.
func check(n *node, topic, typ string, qos ros.QoS) (full string, ts types.MessageTypeSupport, err error) {
	if full, err = n.names.Topic(topic); err != nil {
		return "", nil, err
	}
	if err := qos.Validate(); err != nil {
		return "", nil, err
	}
	ts, err = messageSupport(typ)
	return full, ts, err
}

func (p *publisher) Publish(raw []byte) error {
	if err := ros.CheckCDR(raw); err != nil {
		return fmt.Errorf("rclgo: publish %s: %w", p.name, err)
	}
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return fmt.Errorf("rclgo: publish %s: %w", p.name, ros.ErrClosed)
	}
	if err := p.pub.PublishSerialized(raw); err != nil {
		return fmt.Errorf("rclgo: publish %s: %w", p.name, brief(err))
	}
	return nil
}

func (p *publisher) MatchedSubscriptions() int {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if p.closed {
		return 0
	}
	count, err := p.pub.GetSubscriptionCount()
	if err != nil {
		return 0
	}
	return count
}

func (p *publisher) Mismatch() ros.Mismatch { return p.refused.now() }

func (p *publisher) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	p.closed = true
	return p.node.unmake(p, p.pub.Close)
}

// A waiter runs a wait set of its own for one entity.
type waiter struct {
	set    *rclgo.WaitSet
	cancel context.CancelFunc
	ended  chan struct{}
}

// startWaiter is called with the node's lock held, as rclgo's contexts are not synchronised.
func (n *node) startWaiter(add func(*rclgo.WaitSet), what string) (*waiter, error) {
	set, err := n.rcl.NewWaitSet()
	if err != nil {
		return nil, brief(err)
	}
	add(set)
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiter{set: set, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(w.ended)
		if err := set.Run(ctx); err != nil && ctx.Err() == nil {
			n.log.Error("waiting for messages ended", zap.String("for", what), zap.Error(brief(err)))
		}
	}()
	return w, nil
}

// stop ends the goroutine and returns when it has ended. The set itself is closed under the node's lock.
func (w *waiter) stop() {
	w.cancel()
	<-w.ended
}

type subscription struct {
	node      *node
	sub       *rclgo.Subscription
	wait      *waiter
	box       *inbox.Box[message]
	refused   refusals
	malformed atomic.Uint64

	mu     sync.Mutex // held while sub is asked, not while Close waits: a callback may ask too
	closed bool
	once   sync.Once
}

// readerCache is the least history of a subscription inside the middleware. A wait set's goroutine empties
// it into the inbox, which drops by the depth that was asked for and counts; the middleware does not count.
const readerCache = 256

type message struct {
	raw   []byte
	stamp time.Time
}

func (n *node) Subscribe(topic, typ string, qos ros.QoS, cb func([]byte, time.Time)) (ros.Subscription, error) {
	s := &subscription{node: n}
	err := n.make(func() (part, error) {
		full, ts, err := check(n, topic, typ, qos)
		if err != nil {
			return nil, err
		}
		s.refused = refusals{node: n, topic: full, typ: typ, ours: qos, peers: n.node.GetPublishersInfoByTopic,
			last: ros.Mismatch{Publishers: true}}
		s.box = inbox.New[message](qos.Queue())
		reader := profile(qos)
		reader.Depth = max(reader.Depth, readerCache)
		s.sub, err = n.node.NewSubscription(topic, ts, &rclgo.SubscriptionOptions{Qos: reader}, s.take)
		if err != nil {
			return nil, brief(err)
		}
		s.wait, err = n.startWaiter(func(w *rclgo.WaitSet) { w.AddSubscriptions(s.sub) }, "topic "+topic)
		if err != nil {
			return nil, errors.Join(err, brief(s.sub.Close()))
		}
		go s.box.Run(func(m message) { cb(m.raw, m.stamp) })
		return s, nil
	})
	if err != nil {
		return nil, fmt.Errorf("rclgo: subscribe %q: %w", topic, err)
	}
	return s, nil
}

// take moves one message into the box, on the wait set's goroutine.
func (s *subscription) take(sub *rclgo.Subscription) {
	raw, info, err := sub.TakeSerializedMessage()
	var none *rclgo.SubscriptionTakeFailed
	switch {
	case errors.As(err, &none): // Cyclone wakes readers when a publisher leaves; info is nil then
	case err != nil:
		s.node.log.Warn("message not taken", zap.String("topic", sub.TopicName), zap.Error(brief(err)))
	case ros.CheckCDR(raw) != nil:
		s.malformed.Add(1)
	default:
		s.box.Put(message{raw, info.SourceTimestamp})
	}
}

func (s *subscription) MatchedPublishers() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0
	}
	count, err := s.sub.GetPublisherCount()
	if err != nil {
		return 0
	}
	return count
}

func (s *subscription) Mismatch() ros.Mismatch { return s.refused.now() }

func (s *subscription) Dropped() uint64   { return s.box.Dropped() }
func (s *subscription) Malformed() uint64 { return s.malformed.Load() }

// Lost is 0: rclgo does not pass on the numbers that publishers give their messages.
func (s *subscription) Lost() uint64 { return 0 }

func (s *subscription) Close() error {
	var err error
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		s.wait.stop()
		s.box.Close()
		err = s.node.unmake(s, func() error { return errors.Join(s.wait.set.Close(), s.sub.Close()) })
	})
	return err
}
