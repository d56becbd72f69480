package control

import (
	"context"
	"time"
)

// maxShutdown bounds how long Run goes on after its context ended.
const maxShutdown = 900 * time.Millisecond

// Run calls Tick(now()) at every tick and hands the commands to send, until ctx
// ends; ticks should come every Period, from a time.Ticker for instance. Then it
// stops the arms at the maximum deceleration, sends the hold pose and returns,
// within a second even if the ticks or the clock have stopped. send must not
// block and must not keep the command's slices.
func (e *Executor) Run(ctx context.Context, ticks <-chan time.Time, now func() time.Time, send func(Command)) {
	e.loop(ticks, ctx.Done(), now, send, func() bool { return true })
	e.Shutdown(now())
	ended, cancel := context.WithTimeout(context.Background(), maxShutdown)
	defer cancel()
	e.loop(ticks, ended.Done(), now, send, e.sending)
}

// loop ticks until done is closed or while says no.
func (e *Executor) loop(ticks <-chan time.Time, done <-chan struct{}, now func() time.Time, send func(Command), while func() bool) {
	for while() {
		select {
		case <-done:
			return
		case _, ok := <-ticks:
			if !ok {
				ticks = nil // wait for done
				continue
			}
			if c, ok := e.Tick(now()); ok {
				send(c)
			}
		}
	}
}

// sending reports whether Tick may still have something to send.
func (e *Executor) sending() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.phase != silent
}
