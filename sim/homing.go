package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

const (
	// still is how long no joint moves faster than slow until the arms count as at
	// rest. One that halts before it sets out for home stands still for less.
	still = 500 * time.Millisecond
	slow  = 0.01 // rad/s, and m/s of grippers

	// homeTries is how often the home service is called in vain.
	homeTries = 10
)

// homing is how far the arms are on their way home between two episodes.
type homing struct {
	client ros.Client    // nil: the arms stay where they are
	asked  chan struct{} // holds one request to call the service
	called bool          // a call was answered with success, or all tries were in vain
	rest   time.Duration // that the arms have been at rest since

	reply time.Duration // how long a call may take
	again time.Duration // until the next one after a refusal
}

// begin asks for a way home.
func (h *homing) begin() {
	h.called, h.rest = false, 0
	h.asked <- struct{}{}
}

// over tells, after dt more, whether the arms are there.
func (h *homing) over(dt time.Duration, w *World) bool {
	if !h.called {
		return false
	}
	h.rest += dt
	v := w.Velocity()
	for _, u := range v {
		if u > slow || u < -slow {
			h.rest = 0
		}
	}
	return h.rest >= still
}

// callHome calls the home service whenever it is asked for, until ctx ends.
func (p *Process) callHome(ctx context.Context) error {
	if p.homing.client == nil {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.homing.asked:
			if err := p.sendHome(ctx); err != nil {
				return err
			}
		}
	}
}

// errNotAlone is what Config.Alone said.
var errNotAlone = errors.New("sim: the arms are not enabled")

// enable calls the enable service, where there is one and no other robot would move.
func (p *Process) enable(ctx context.Context) error {
	if p.enabling == nil {
		return nil
	}
	if p.conf.Alone != nil {
		if err := p.conf.Alone(); err != nil {
			return fmt.Errorf("%w: %w", errNotAlone, err)
		}
	}
	return p.trigger(ctx, p.enabling)
}

// enableFirst calls the enable service until it consents, which it does not while the
// policy is being loaded. A reason that lasts is told.
func (p *Process) enableFirst(ctx context.Context) error {
	told := ""
	for begin, again := time.Now(), p.homing.again; ; {
		err := p.enable(ctx)
		if err == nil || errors.Is(err, errNotAlone) {
			return err
		}
		if time.Since(begin) > waitQuietly {
			if again = 4 * p.homing.again; err.Error() != told && ctx.Err() == nil {
				told = err.Error()
				p.log.Warn("the arms are not enabled yet", zap.String("service", p.conf.EnableService), zap.Error(err))
			}
		}
		if !wait(ctx, again) {
			return nil
		}
	}
}

// waitQuietly is how long the arms may take to be enabled before that is told.
const waitQuietly = 5 * time.Second

// sendHome calls the home service until it consents. A guard may have stopped the arms,
// so they are enabled before. Where a service refuses or nobody serves it, the next table
// is laid all the same: an evaluation must not hang on it.
func (p *Process) sendHome(ctx context.Context) error {
	var err error
	for range homeTries {
		if err = p.enable(ctx); err == nil {
			// At once: the policy would go on meanwhile, to where it was stopped.
			err = p.trigger(ctx, p.homing.client)
		}
		if errors.Is(err, errNotAlone) {
			return err
		}
		if err == nil || !wait(ctx, p.homing.again) {
			break
		}
	}
	if err != nil && ctx.Err() == nil {
		p.log.Warn("the arms are not taken home; the next scene begins where they are", zap.String("service", p.conf.HomeService), zap.Error(err))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.homing.called = true
	return nil
}

// trigger calls a std_srvs/Trigger.
func (p *Process) trigger(ctx context.Context, service ros.Client) error {
	ctx, cancel := context.WithTimeout(ctx, p.homing.reply)
	defer cancel()
	reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](ctx, service, &msgs.TriggerRequest{})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no reply within %v", p.homing.reply)
	case err != nil:
		return err
	case !reply.Success:
		return errors.New(reply.Message)
	}
	return nil
}

// wait tells whether d went by before ctx ended.
func wait(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
