package node

import (
	"context"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/control"
)

// Run thinks and acts until ctx ends. Then it decelerates the arms, holds them,
// and returns within a second, or as soon as the graph that runs can be ended.
func (n *Node) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		if n.lock != nil {
			return n.thinkInLockStep(ctx)
		}
		return n.thinkAtRate(ctx)
	})
	group.Go(func() error {
		ticker := time.NewTicker(n.executor.Period())
		defer ticker.Stop()
		n.executor.Run(ctx, ticker.C, n.ros.Now, n.send)
		return nil
	})
	if n.base.pub != nil {
		group.Go(func() error { n.driveBase(ctx); return nil })
	}
	group.Go(func() error { n.watch(ctx); return nil })
	err := group.Wait()
	// The stop that ends the process is told too.
	n.tellEvents()
	if m := n.executor.Status().Mode; m != control.Disabled && m != control.Estopped {
		n.log.Warn("the program ends before the arms came to rest; their drivers hold the last command", zap.Stringer("mode", m))
	}
	n.publishDiagnostics()
	return err
}

// watch tells the executor's events as they come and does what is due once a
// second.
func (n *Node) watch(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	n.seconds = n.ros.Now().Round(0)
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.executor.Changed():
			n.tellEvents()
			n.publishStatus()
		case <-second.C:
			n.everySecond(n.ros.Now().Round(0))
		}
	}
}

// everySecond looks at the clock, enables where start_enabled asks for it and
// publishes diagnostics. It is called once a second, with the time as stamps know
// it: without the monotonic clock, which does not go back.
func (n *Node) everySecond(now time.Time) {
	if now.Before(n.seconds) {
		n.clockJumped(n.seconds, now)
	}
	stands := now.Equal(n.seconds)
	n.seconds = now
	n.mu.Lock()
	changed := stands != n.stands
	n.stands = stands
	n.mu.Unlock()
	switch {
	case changed && stands:
		n.log.Warn(n.clockFault(now))
	case changed:
		n.log.Info("time goes on")
	}
	n.startEnabled()
	if n.lock != nil {
		n.watchLockStep()
	}
	n.publishDiagnostics()
	n.publishStatus()
}

// clockFault says what is wrong with the clock, or nothing. It is only ever wrong
// with simulated time.
func (n *Node) clockFault(now time.Time) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case now.IsZero():
		return noTime
	case n.stands:
		return "time stands still: /clock is silent, or the simulator pauses; no command is sent, and the drivers hold the last one"
	}
	return ""
}

// startEnabled enables once, when start_enabled asks for it and the joint states
// are there. n.mu is held throughout, so that what an operator stops meanwhile
// stays stopped.
func (n *Node) startEnabled() {
	now := n.ros.Now()
	n.mu.Lock()
	if !n.settings.StartEnabled || n.started || !n.active.Load() {
		n.mu.Unlock()
		return
	}
	err, tell := n.enable(now), false
	if err == nil {
		n.started, n.waiting = true, ""
	} else if reason := err.Error(); reason != n.waiting && n.waited.due(now) {
		n.waiting, tell = reason, true
	}
	n.mu.Unlock()
	if tell {
		n.log.Info("not enabled yet", zap.Error(err))
	}
}

// startDone ends what start_enabled asks for: an operator has decided.
func (n *Node) startDone() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.started, n.waiting = true, ""
}

// clockJumped forgets everything stamped before a jump backwards.
func (n *Node) clockJumped(from, to time.Time) {
	n.log.Warn("the clock went backwards; observations and chunks are dropped", zap.Duration("by", from.Sub(to)))
	n.observer.reset()
	n.executor.Flush(to)
	n.terminate()
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
		fields = append(fields, n.whose(e)...)
		switch {
		case fault(e.Code):
			n.log.Error(e.Code.Sentence(), fields...)
		case e.Code.Latched(), e.Code == control.Flushed, e.Code == control.Enabled, e.Code == control.Silent:
			n.log.Info(e.Code.Sentence(), fields...)
		case e.Code.Drops() && !lost(e.Code):
			n.log.Debug(e.Code.Sentence(), fields...)
		default:
			n.log.Warn(e.Code.Sentence(), fields...)
		}
	}
}

// whose names the input that an event of stale data is about, and says where its stamps
// are at fault.
func (n *Node) whose(e control.Event) (fields []zap.Field) {
	var whose input
	switch e.Code {
	case control.ObservationStale:
		_, whose = n.observer.stalest()
	case control.FeedbackStale:
		for _, j := range n.observer.joints {
			if j.arm == e.Joint {
				whose = j
			}
		}
	}
	if whose == nil {
		return nil
	}
	fields = append(fields, zap.String("input", whose.what()))
	if why := late(whose, e.Time, seconds(e.Limit)); why != "" {
		fields = append(fields, zap.String("why", why))
	}
	return fields
}

// fault reports whether a code is a stop that nobody asked for, or an e-stop.
func fault(c control.Code) bool {
	return c.Latched() && c != control.Disabling && c != control.ShuttingDown
}

// lost reports whether a code is a reason for dropping chunks that the operator
// should mend. Others belong to enabling, resetting and cameras slower than rate.
func lost(c control.Code) bool {
	switch c {
	case control.DroppedNotEnabled, control.DroppedEpoch, control.DroppedReordered, control.DroppedHoming:
		return false
	}
	return c.Drops()
}

// stepState is what Step needs to remember.
type stepState struct {
	nextTick, nextDiagnostics time.Time
	seen                      []uint64 // pictures of each camera at the last chunk
	sets                      int
}

// Step does what is due up to now, the recording's time: commands at the command
// rate, diagnostics once a second, and a chunk from every stride-th complete set
// of pictures, or in lock-step from each of its moments. On a recording inference
// takes no time, so the same messages give the same chunks and commands whatever the
// machine.
//
// advance sets the clock of the ros.Node.
func (n *Node) Step(ctx context.Context, now time.Time, stride int, advance func(time.Time)) error {
	s := &n.step
	if s.nextTick.IsZero() {
		s.nextTick, s.nextDiagnostics = now, now
		n.infill.latency = func() time.Duration { return 0 }
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
		n.drive(n.executor.Status(), s.nextTick)
		n.tellEvents()
		if !s.nextDiagnostics.After(s.nextTick) {
			n.publishDiagnostics()
			n.publishStatus()
			s.nextDiagnostics = s.nextTick.Add(time.Second)
		}
	}
	advance(now)
	n.startEnabled()
	for n.lock != nil {
		if more, err := n.thinkLockStep(ctx); err != nil || !more {
			return err
		}
	}
	if !n.observer.completeSince(s.seen) {
		return nil
	}
	n.observer.sequences(s.seen)
	if s.sets++; (s.sets-1)%stride != 0 {
		return nil
	}
	return n.thinkOnce(ctx)
}
