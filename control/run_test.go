package control

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// driven runs an Executor through Run on simulated ticks, feeding it its own
// commands back, and ends its context at the given tick.
func driven(t *testing.T, rows, ticks, endAt int) (r *rig, commands []Command) {
	t.Helper()
	r = newRig(t, nil)
	r.enable()
	if rows > 0 {
		r.give(r.chunk(rows, 20, 0.05), OK)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var now atomic.Pointer[time.Time] // Run reads it on its own when ctx ends
	begin := r.now
	now.Store(&begin)
	clock, done, sent := make(chan time.Time), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		r.e.Run(ctx, clock, func() time.Time { return *now.Load() }, func(c Command) {
			r.check(c)
			copy(r.measured, c.Positions)
			c.Positions, c.Velocities = slices.Clone(c.Positions), slices.Clone(c.Velocities)
			commands = append(commands, c)
			sent <- struct{}{}
		})
	}()
	for i := range ticks {
		if i == endAt {
			cancel()
		}
		r.now = r.now.Add(r.e.Period())
		tick := r.now
		now.Store(&tick)
		r.sense()
		select {
		case clock <- r.now:
		case <-done:
			return r, commands
		}
		select { // every tick sends a command until there is nothing more to send
		case <-sent:
		case <-done:
			return r, commands
		}
	}
	t.Fatal("Run did not return")
	return nil, nil
}

func TestRunDeceleratesHoldsAndReturnsWhenItsContextEnds(t *testing.T) {
	r, commands := driven(t, 40, 200, 30)
	last := commands[len(commands)-1]
	if last.Code != ShuttingDown || slices.Max(last.Velocities) != 0 || r.e.Status().Mode != Disabled {
		t.Fatalf("last command %+v, %v", last, r.e.Status().Mode)
	}
	at := slices.IndexFunc(commands, func(c Command) bool { return c.Code == ShuttingDown })
	if took := last.Stamp.Sub(commands[at].Stamp); took > time.Second {
		t.Fatalf("took %v", took)
	}
}

func TestRunReturnsWithoutTicks(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	clock := make(chan time.Time)
	close(clock)
	r.e.Run(ctx, clock, func() time.Time { return r.now }, func(Command) {})
	if r.e.Status().Code != ShuttingDown {
		t.Fatal(r.e.Status())
	}
}

func TestRunThatNeverWasEnabledSendsNothing(t *testing.T) {
	r := newRig(t, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.e.Run(ctx, make(chan time.Time), func() time.Time { return r.now }, func(Command) {
		t.Error("sent a command")
	})
}

// busy prepares an Executor in the middle of a long chunk that keeps several
// limits at work.
func busy(t failer) *rig {
	r := newRigIn(t, nil)
	r.measured[1] = 3.1
	r.sense()
	if err := r.e.Enable(r.now); err != nil {
		t.Fatal(err)
	}
	c := r.chunk(4000, 20, 0)
	for k := range 4000 {
		for j := range 14 {
			switch {
			case j == 1:
				c.Values[k*14+j] = 3.16
			case r.e.joints[j].Gripper:
				c.Values[k*14+j] += 0.01 * float64(k%7)
			default:
				c.Values[k*14+j] += 0.1 * float64(k%7)
			}
		}
	}
	if got := r.e.Replace(c, r.now); got != OK {
		t.Fatal(got)
	}
	return r
}

// step is one period: both arms report, and a tick.
func (r *rig) step() {
	r.now = r.now.Add(r.e.Period())
	_ = r.e.Feedback(0, r.measured[:7], r.now, r.now)
	_ = r.e.Feedback(1, r.measured[7:], r.now, r.now)
	r.e.Observed(r.now, r.now)
	if c, ok := r.e.Tick(r.now); ok {
		copy(r.measured, c.Positions)
	}
}

func TestATickDoesNotAllocate(t *testing.T) {
	r := busy(t)
	if n := testing.AllocsPerRun(500, r.step); n != 0 {
		t.Fatalf("%v allocations while moving", n)
	}
	if m := r.e.Status().Mode; m != Moving {
		t.Fatal(m)
	}
	r.e.Estop(r.now)
	if n := testing.AllocsPerRun(100, r.step); n != 0 {
		t.Fatalf("%v allocations while stopping", n)
	}
}

func TestAHandOverOfTheSameSizeDoesNotAllocate(t *testing.T) {
	r := busy(t)
	c := r.chunk(8, 20, 0.01)
	if n := testing.AllocsPerRun(100, func() {
		r.step()
		c.Stamp = r.now
		if got := r.e.Replace(c, r.now); got != OK {
			t.Fatal(got)
		}
	}); n != 0 {
		t.Fatalf("%v allocations", n)
	}
}

// What a command costs while the arms follow a chunk that a new one replaces every
// fifth tick: one that agrees with it, or one that disagrees by a tenth of a rad,
// so that the way to meet it has to be looked for.
func BenchmarkTick(b *testing.B) {
	for _, c := range []struct {
		name string
		bias float64
	}{{"agreeing", 0.002}, {"disagreeing", 0.1}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRigIn(b, nil)
			r.sense()
			if err := r.e.Enable(r.now); err != nil {
				b.Fatal(err)
			}
			random := rand.New(rand.NewPCG(1, 1))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%5 == 0 {
					b.StopTimer()
					r.e.Replace(r.predicted(30, 20, c.bias, 0.002, random), r.now)
					b.StartTimer()
				}
				r.step()
			}
			if m := r.e.Status().Mode; m != Moving {
				b.Fatal(m, r.e.Status().Code)
			}
		})
	}
}

// What a hand-over of 40 rows costs by each rule, among chunks ten a second.
func BenchmarkHandOver(b *testing.B) {
	for h := Replace; h <= Infill; h++ {
		b.Run(h.String(), func(b *testing.B) {
			r := newRigIn(b, rule(h))
			r.sense()
			if err := r.e.Enable(r.now); err != nil {
				b.Fatal(err)
			}
			c := r.predicted(40, 20, 0, 0.002, rand.New(rand.NewPCG(1, 1)))
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				for range 5 {
					r.step()
				}
				c.Stamp = r.now
				b.StartTimer()
				if got := r.e.Replace(c, r.now); got != OK {
					b.Fatal(got)
				}
			}
		})
	}
}

// Every method may be called while the ticks go on.
func TestMethodsMayBeCalledFromAnyGoroutine(t *testing.T) {
	e, err := New(DefaultConfig(cobotMagic()))
	if err != nil {
		t.Fatal(err)
	}
	at := func(i int) time.Time { return epoch0.Add(time.Duration(i) * e.Period()) }
	row := slices.Concat(home, home)
	calls := []func(i int){
		func(i int) { _ = e.Feedback(0, home, at(i), at(i)) },
		func(i int) { _ = e.Feedback(1, home, at(i), at(i)) },
		func(i int) { e.Observed(at(i), at(i)) },
		func(i int) {
			e.Replace(Trajectory{Stamp: at(i), Rate: 20, Epoch: e.Epoch(), Values: row}, at(i))
		},
		func(i int) { _ = e.Enable(at(i)); e.Flush(at(i)) },
		func(i int) {
			if i%50 == 0 {
				e.Estop(at(i))
				e.Disable(at(i))
			}
		},
		func(i int) { e.Events(nil); e.Status() },
		func(i int) { e.Tick(at(i)) },
	}
	var wg sync.WaitGroup
	for _, call := range calls {
		wg.Go(func() {
			for i := range 500 {
				call(i)
			}
		})
	}
	wg.Wait()
}
