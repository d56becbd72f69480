package main

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
)

// follower is what a node in lock-step says.
type follower struct {
	mu          sync.Mutex
	told        time.Time // stamp of the head's picture of its newest inference
	inferences  int
	heard       time.Time     // when that came
	longest     time.Duration // between two of them
	instruction string
	news        chan struct{} // closed and replaced at each change
}

// follow listens to the node of c.
func follow(rn ros.Node, c *configuration) (*follower, error) {
	f := &follower{news: make(chan struct{})}
	inference, err := c.names.Topic("~/inference")
	if err != nil {
		return nil, err
	}
	status, err := c.names.Topic("~/status")
	if err != nil {
		return nil, err
	}
	if _, err := ros.Subscribe(rn, inference, node.LockStepQoS(), func(m *msgs.String, _ time.Time) {
		i, err := node.ReadInference(m)
		if err != nil {
			return
		}
		var stamp int64
		for k, p := range i.Pictures {
			if k == 0 || p.Camera == "head" {
				stamp = p.Stamp
			}
		}
		f.tell(stamp)
	}); err != nil {
		return nil, err
	}
	_, err = ros.Subscribe(rn, status, ros.LatchedQoS(), func(m *msgs.DiagnosticArray, _ time.Time) {
		for _, s := range m.Status {
			for _, v := range s.Values {
				if v.Key == "instruction" {
					text := strings.Clone(v.Value)
					f.change(func() { f.instruction = text })
				}
			}
		}
	})
	return f, err
}

func (f *follower) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
	close(f.news)
	f.news = make(chan struct{})
}

// tell notes an inference, for the head's picture of a stamp; 0 where it had none.
func (f *follower) tell(stamp int64) {
	f.change(func() {
		now := time.Now()
		if f.inferences++; f.inferences > 1 {
			f.longest = max(f.longest, now.Sub(f.heard))
		}
		f.heard = now
		if stamp != 0 {
			f.told = time.Unix(0, stamp)
		}
	})
}

func (f *follower) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inferences
}

// wait waits until something is so, and tells whether it is.
func (f *follower) wait(ctx context.Context, limit time.Duration, is func(f *follower) bool) bool {
	end := time.After(limit)
	for {
		f.mu.Lock()
		so, news := is(f), f.news
		f.mu.Unlock()
		if so {
			return true
		}
		select {
		case <-news:
		case <-end:
			return false
		case <-ctx.Done():
			return false
		}
	}
}

// quiet waits until the node has told of the last of some moments, or of nothing for so
// long. The last one may wait for messages that the bag has not: once the one before is
// told, two seconds of silence will do, or three times the longest so far.
func (f *follower) quiet(ctx context.Context, moments []time.Time, long time.Duration) error {
	last, previous := moments[len(moments)-1], moments[max(len(moments)-2, 0)]
	for {
		f.mu.Lock()
		before, silence := f.inferences, long
		if before > 0 && !f.told.Before(previous) {
			silence = min(long, max(2*time.Second, 3*f.longest))
		}
		done := !f.told.Before(last)
		f.mu.Unlock()
		if done {
			return nil
		}
		if !f.wait(ctx, silence, func(f *follower) bool { return f.inferences > before }) {
			return ctx.Err()
		}
	}
}
