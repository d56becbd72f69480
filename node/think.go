package node

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"
	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/action"
)

// thinkOnce makes one chunk from the newest observation, gives it to the
// executor and publishes it. Where there is no observation, or the inference
// fails, it notes why and returns; only ctx's end is an error.
func (n *Node) thinkOnce(ctx context.Context) error {
	if !n.begins() {
		return nil
	}
	defer n.ends()
	b := begun{live: n.currentLive(), start: time.Now(), now: n.ros.Now()}
	// The next chunk may not be wanted yet (motion.hand_over sync and open_loop).
	if n.executor.NextInference(b.now).After(b.now) {
		return nil
	}
	// The epoch comes first: what begins a new one after this drops the chunk.
	b.epoch = n.executor.Epoch()
	if err := n.observer.snapshot(&n.think, b.now, b.live.MaxAge, b.live.MaxSkew); err != nil {
		n.refused(err)
		return nil
	}
	// Of cameras slower than rate: a second chunk would only be dropped, and the
	// next pictures would have to wait for it.
	if n.thought.epoch == b.epoch && n.thought.stamp.Equal(n.think.Stamp) {
		return nil
	}
	n.thought = thought{n.think.Stamp, b.epoch}
	b.observed = time.Since(b.start)

	// Only arms that follow the last chunk have executed the rows that a warm start
	// leaves away: not after a stop, a halt, an enable or a reset.
	n.think.Previous = nil
	if n.chunk.epoch == b.epoch && n.executor.Status().Mode == control.Moving {
		n.think.Previous = n.chunk.result
	}
	n.chunk = executed{}
	n.condition(&n.think.Observation, b.epoch, b.now)
	return n.makeChunk(ctx, b)
}

// begun is an inference whose observation is in n.think.
type begun struct {
	live     Live
	start    time.Time     // by the machine's clock
	now      time.Time     // by the node's
	observed time.Duration // to the observation
	epoch    uint64        // of the executor
	withheld error         // a notReady where the arms must not follow what comes of it
}

// refused notes why there is no observation.
func (n *Node) refused(err error) {
	var why notReady
	errors.As(err, &why)
	n.idle(why.fault, why.reason)
}

// makeChunk makes a chunk of the observation, gives it to the executor, publishes it and
// tells what it was made from. Only ctx's end is an error.
func (n *Node) makeChunk(ctx context.Context, b begun) error {
	o, record := &n.think.Observation, n.describe(&n.think, b.now)
	inferring, cancel := context.WithCancel(ctx)
	n.setBusy(b.now, cancel)
	result, err := n.policy.Infer(inferring, o)
	n.setBusy(time.Time{}, nil)
	terminated := inferring.Err() != nil
	cancel()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil && terminated:
		n.mu.Lock()
		n.stats.superseded++
		n.stats.terminated++
		n.mu.Unlock()
		n.tellInference(record, OutcomeTerminated, "")
		return nil
	case err != nil:
		n.inferenceFailed(err)
		n.tellInference(record, OutcomeFailed, err.Error())
		return nil
	}
	record.decoded(o, result)
	// A new instruction, Enable, a reset or a jump of the clock came in between. In
	// lock-step it is the executor alone that drops it.
	if n.lock == nil && n.executor.Epoch() != b.epoch {
		n.mu.Lock()
		n.stats.superseded++
		n.mu.Unlock()
		n.tellInference(record, OutcomeSuperseded, "")
		return nil
	}

	publishing := time.Now()
	outcome, reason := OutcomeChunk, ""
	if b.withheld != nil {
		n.refused(b.withheld)
		reason = b.withheld.Error()
	} else if err := n.give(result, b.epoch); err != nil {
		reason = err.Error()
		if n.lock == nil {
			outcome = OutcomeNotDriven
		}
	}
	if n.lock != nil {
		n.chunk = executed{result, b.epoch} // whatever the arms do
	}
	if outcome == OutcomeChunk {
		n.publish(n.chunks, n.topics.chunk, chunkMessage(result.Chunk))
		n.tellTrace(result, b.live.Trace)
	}
	published := time.Since(publishing)
	record.timed(b, result, published)
	if reason == "" || b.withheld != nil {
		n.account(result, b.start, b.observed, published, b.live.Rate)
	}
	if reason == "" {
		n.goesOn(result.Prompt)
		n.publishStatus()
	}
	n.tellInference(record, outcome, reason)
	return nil
}

// inferenceFailed notes why there is no chunk, and stops the arms where the network gave
// no usable numbers: what it says next is no better.
func (n *Node) inferenceFailed(err error) {
	n.mu.Lock()
	n.stats.failed++
	n.mu.Unlock()
	n.idle("inference failed", "inference failed: "+err.Error())
	if noNumbers(err) {
		n.executor.Refuse(control.NonFinite, n.ros.Now())
	}
}

// noNumbers reports whether an inference failed by what the network gave, not by what it
// was given. An L1 head has no confidences: its values themselves are refused.
func noNumbers(err error) bool {
	return errors.Is(err, policy.ErrConfidence) || errors.Is(err, action.ErrChunk)
}

// tellTrace records how a chunk was decoded, and publishes it where that is wanted.
func (n *Node) tellTrace(r *policy.Result, publish bool) {
	if !publish && !n.recorder.on() {
		return
	}
	m := TraceMessage(r.Chunk.Names, r.Chunk.Rows(), r.Trace)
	if publish {
		n.publish(n.traces, n.topics.trace, m)
	} else if raw, err := msgs.Marshal(m); err == nil {
		n.recorder.message(n.topics.trace, raw)
	}
}

// give gives a chunk to the executor, which tells as an event why it drops one. The error
// is one of a chunk that nothing can be driven by, and the arms stop for it.
func (n *Node) give(result *policy.Result, epoch uint64) error {
	trajectory, err := n.trajectory(result.Chunk, &n.think.states, epoch)
	switch {
	case err != nil:
		n.mu.Lock()
		n.stats.failed++
		n.mu.Unlock()
		n.idle("chunk cannot be driven", "chunk cannot be driven: "+err.Error())
		if errors.Is(err, control.ErrImplausible) {
			n.executor.Refuse(control.Implausible, n.ros.Now())
		} else {
			n.executor.Replace(trajectory, n.ros.Now()) // which stops for NaN
		}
	case n.executor.Replace(trajectory, n.ros.Now()) == control.OK:
		n.chunk = executed{result, epoch}
		n.base.take(n.mapping.mapped.Base, result.Chunk.Stamp, result.Chunk.Rate)
	}
	return err
}

// account adds a chunk to the statistics.
func (n *Node) account(r *policy.Result, start time.Time, observed, published time.Duration, rate float64) {
	total := time.Since(start)
	n.latency.add(StageObserve, observed)
	n.latency.add(StagePreprocess, r.Timings.Preprocess)
	n.latency.add(StageInference, r.Timings.Inference)
	n.latency.add(StageDecode, r.Timings.Decode)
	n.latency.add(StagePublish, published)
	n.latency.add(StageChunk, total)
	now := n.ros.Now()
	n.latency.add(StageAge, now.Sub(r.Chunk.Stamp))

	confidence := make([]float64, len(r.Chunk.Confidence))
	for i, c := range r.Chunk.Confidence {
		confidence[i] = float64(c)
	}
	n.mu.Lock()
	s := &n.stats
	if s.chunks == 0 {
		s.began = now
	}
	s.chunks++
	s.last, s.latency = now, total
	s.rounds += r.Rounds
	s.confidence = stat.Mean(confidence, nil)
	s.prompt = r.Prompt
	if total.Seconds() > 1/rate {
		s.overBudget++
	}
	n.mu.Unlock()
}

// goesOn notes that nothing is in the way of chunks any more, and logs it once.
func (n *Node) goesOn(prompt string) {
	now := n.ros.Now()
	n.mu.Lock()
	n.reason = ""
	tell := n.told.news("", now)
	n.mu.Unlock()
	if tell {
		n.log.Info("thinking", zap.String("prompt", prompt))
	}
}

// news reports whether to log a fault now, or with an empty one its end: where it
// is another than was logged last, and once a second where they alternate.
func (t *told) news(fault string, now time.Time) bool {
	if fault == t.fault || !t.log.due(now) {
		return false
	}
	t.fault = fault
	return true
}

// idle notes why no chunk is made, and logs it when the fault is a new one.
func (n *Node) idle(fault, reason string) {
	now := n.ros.Now()
	n.mu.Lock()
	n.reason = reason
	tell := n.told.news(fault, now)
	n.mu.Unlock()
	if tell {
		n.log.Warn("no chunk", zap.String("reason", reason))
	}
}

// setBusy notes since when an inference is running, and what ends it.
func (n *Node) setBusy(since time.Time, cancel func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.busy, n.cancel = since, cancel
}

// publishFailed counts a failure to publish, and logs one a second: publishing
// happens at the command rate.
func (n *Node) publishFailed(topic string, err error) {
	now := n.ros.Now()
	n.mu.Lock()
	u := &n.unsent
	u.count++
	u.topic, u.err, u.at = topic, err, now
	tell := u.log.due(now)
	n.mu.Unlock()
	if tell {
		n.log.Error("publishing failed; further failures are counted", zap.String("topic", topic), zap.Error(err))
	}
}

// chunkMessage is the chunk for observers: the observation's stamp, and row k
// due (k+1)/rate after it.
func chunkMessage(c *action.Chunk) *msgs.JointTrajectory {
	m := &msgs.JointTrajectory{Header: msgs.Header{Stamp: msgs.TimeOf(c.Stamp)}, JointNames: c.Names}
	for t := range c.Rows() {
		m.Points = append(m.Points, msgs.JointTrajectoryPoint{
			Positions:     c.At(t),
			TimeFromStart: msgs.DurationOf(c.Time(t).Sub(c.Stamp)),
		})
	}
	return m
}

// thinkAtRate makes chunks until ctx ends: the next one starts 1/rate after the
// last one was due, or as soon as it can when that took longer.
func (n *Node) thinkAtRate(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	next := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		if err := n.thinkOnce(ctx); errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return nil
		} else if err != nil {
			return err
		}
		period := seconds(1 / n.currentLive().Rate)
		now := n.ros.Now()
		next = thinkAt(next, time.Now(), period, n.executor.NextInference(now).Sub(now))
		timer.Reset(time.Until(next))
	}
}

// thinkAt is when to make a chunk, or to ask whether one is wanted, after one that was
// due at last: a period after that, or now if that is over. Where the next one is only
// wanted later, it is then, and asked for once a period until then: commands may slow,
// and what throws the chunk being executed away wants another one at once.
func thinkAt(last, now time.Time, period, wanted time.Duration) time.Time {
	next := last.Add(period)
	if next.Before(now) {
		next = now // what was missed is not made up for
	}
	if now.Add(wanted).After(next) {
		next = now.Add(min(wanted, period))
	}
	return next
}
