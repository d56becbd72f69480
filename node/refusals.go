package node

import "time"

// refusals counts the messages of one input that cannot be used and says which
// of them to log. The zero value is ready.
type refusals struct {
	count  uint64
	last   error // why the newest message was refused, nil after a usable one
	untold bool  // last has not been logged, nor those of its row before it
	log    limiter
}

// refuse counts a message. It returns err once in a row of refusals, so that it
// is logged, and at most once a second where good messages come in between.
func (r *refusals) refuse(err error, now time.Time) (tell error) {
	r.count++
	r.untold = r.untold || r.last == nil
	r.last = err
	if !r.untold || !r.log.due(now) {
		return nil
	}
	r.untold = false
	return err
}

// accept ends a row of refusals.
func (r *refusals) accept() { r.last, r.untold = nil, false }

// limiter keeps what is logged to one line a second. The zero value is ready.
type limiter struct{ last time.Time }

// due reports whether a line may be logged now, which it then must be.
func (l *limiter) due(now time.Time) bool {
	if !l.last.IsZero() && now.Sub(l.last).Abs() < time.Second {
		return false
	}
	l.last = now
	return true
}
