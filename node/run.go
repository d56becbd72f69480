package node

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/control"
)

// Run thinks and acts until ctx ends. Then it decelerates the arms, holds them,
// and returns within a second.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return n.thinkAtRate(ctx) })
	group.Go(func() error {
		ticker := time.NewTicker(n.executor.Period())
		defer ticker.Stop()
		n.executor.Run(ctx, ticker.C, n.ros.Now, n.send)
		return nil
	})
	group.Go(func() error { return n.watch(ctx) })
	return group.Wait()
}

// watch publishes diagnostics once a second, tells the executor's events as they
// come, and notices jumps of the clock.
func (n *Node) watch(ctx context.Context) error {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	last := n.ros.Now()
	for {
		select {
		case <-ctx.Done():
			// The stop that ends the process is told too.
			n.tellEvents()
			return nil
		case <-n.executor.Changed():
			n.tellEvents()
		case <-second.C:
			now := n.ros.Now()
			if now.Before(last) {
				n.clockJumped(last, now)
			}
			last = now
			n.startEnabled()
			n.publishDiagnostics()
		}
	}
}

// startEnabled enables once, when start_enabled asks for it and the joint states
// are there.
func (n *Node) startEnabled() {
	n.mu.Lock()
	wanted := n.settings.StartEnabled && !n.enabledOnce
	n.mu.Unlock()
	if !wanted {
		return
	}
	if err := n.Enable(); err != nil {
		n.log.Debug("not enabled yet", zap.Error(err))
		return
	}
	n.mu.Lock()
	n.enabledOnce = true
	n.mu.Unlock()
}

// clockJumped forgets everything stamped before a jump backwards.
func (n *Node) clockJumped(from, to time.Time) {
	n.log.Warn("the clock went backwards; observations and chunks are dropped", zap.Duration("by", from.Sub(to)))
	n.observer.reset()
	n.executor.Flush(to)
	n.mu.Lock()
	n.stats.clockJumps++
	n.mu.Unlock()
}

// tellEvents logs what the executor has to say.
func (n *Node) tellEvents() {
	for _, e := range n.executor.Events(nil) {
		fields := []zap.Field{
			zap.Stringer("code", e.Code), zap.String("joint", e.Joint), zap.Float64("value", e.Value), zap.Float64("limit", e.Limit),
		}
		if e.Code == control.ObservationStale {
			_, whose := n.observer.stalest()
			fields = append(fields, zap.String("input", whose.what()))
		}
		switch {
		case e.Code.Latched():
			n.log.Error(e.Code.Sentence(), fields...)
		case e.Code == control.Enabled, e.Code == control.Silent, e.Code == control.Waiting:
			n.log.Info(e.Code.Sentence(), fields...)
		case e.Code.Drops():
			n.log.Debug(e.Code.Sentence(), fields...)
		default:
			n.log.Warn(e.Code.Sentence(), fields...)
		}
	}
}

// stepState is what Step needs to remember.
type stepState struct {
	nextTick, nextDiagnostics time.Time
	seen                      []uint64 // pictures of each camera at the last chunk
	sets                      int
}

// Step does what is due up to now, the recording's time: commands at the command
// rate, diagnostics once a second, and a chunk from every stride-th complete set
// of pictures. On a recording inference takes no time, so the same messages give
// the same chunks and commands whatever the machine.
//
// advance sets the clock of the ros.Node.
func (n *Node) Step(ctx context.Context, now time.Time, stride int, advance func(time.Time)) error {
	s := &n.step
	if s.nextTick.IsZero() {
		s.nextTick, s.nextDiagnostics = now, now
		s.seen = make([]uint64, len(n.observer.cameras))
	}
	// nextTick is at most a period ahead of the time of the last call.
	if now.Before(s.nextTick.Add(-2 * n.executor.Period())) {
		n.clockJumped(s.nextTick, now)
		s.nextTick, s.nextDiagnostics = now, now
		n.observer.sequences(s.seen)
	}
	for ; !s.nextTick.After(now); s.nextTick = s.nextTick.Add(n.executor.Period()) {
		advance(s.nextTick)
		if c, ok := n.executor.Tick(s.nextTick); ok {
			n.send(c)
		}
		n.tellEvents()
		if !s.nextDiagnostics.After(s.nextTick) {
			n.publishDiagnostics()
			s.nextDiagnostics = s.nextTick.Add(time.Second)
		}
	}
	advance(now)
	n.startEnabled()
	if !n.observer.completeSince(s.seen) {
		return nil
	}
	n.observer.sequences(s.seen)
	if s.sets++; (s.sets-1)%stride != 0 {
		return nil
	}
	return n.thinkOnce(ctx)
}
