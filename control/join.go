package control

import (
	"math"
	"time"
)

// kept is a chunk as it came, for Ensemble.
type kept struct {
	base, period float64
	rows         int
	values       []float64
}

// maxKept bounds how many chunks Ensemble averages.
const maxKept = 64

// join applies the hand-over's rule to the rows of p, of which the one before
// place x was the last to be executed.
func (e *Executor) join(p *plan, x float64) {
	// Rows that are over still shape the way to the next one.
	first := max(int(math.Floor(x))-1, 0)
	fade := e.fade
	e.fade = false
	switch {
	case fade, e.live.HandOver == Blend:
		e.blend(p, x, first, e.live.BlendRows)
	case e.live.HandOver == Infill:
		e.blend(p, x, first, e.live.SeamRows)
	case e.live.HandOver == Ensemble:
		e.ensemble(p, first)
	}
}

// blend fades from the old plan to p over the given number of rows. Where the
// old one has ended, its last difference to the new one fades.
func (e *Executor) blend(p *plan, x float64, first, rows int) {
	if !e.old.active || rows == 0 {
		return
	}
	for j := range e.dims {
		off := e.old.value(e.old.x(e.progress.total), j, e.dims) - p.value(x, j, e.dims)
		for k := first; k < p.rows; k++ {
			// All of it at x, which lies between two rows, and none a row after the last.
			share := 1 - (float64(k)-x)/float64(rows+1)
			if share <= 0 {
				break
			}
			if at := e.old.x(p.due(k)); at >= 0 && at <= float64(e.old.rows-1)+1e-9 {
				off = e.old.value(at, j, e.dims) - p.values[k*e.dims+j]
			}
			p.values[k*e.dims+j] += share * off
		}
	}
}

// ensemble averages the rows of p with those of all chunks before it that cover
// the same time, and keeps it for the ones to come.
func (e *Executor) ensemble(p *plan, first int) {
	// What ended before the place that p is at covers nothing any more.
	live := e.kept[:0]
	var spare []float64
	for _, c := range e.kept {
		if c.base+float64(c.rows)*c.period > p.due(first) && len(live) < maxKept-1 {
			live = append(live, c)
		} else {
			spare = c.values
		}
	}
	e.kept = append(live, kept{p.base, p.period, p.rows, append(spare[:0], p.values...)})
	fall := math.Exp(-e.live.EnsembleDecay)
	for k := first; k < p.rows; k++ {
		due := p.due(k)
		for j := range e.dims {
			sum, weights, w := 0.0, 0.0, 1.0
			for i := range e.kept {
				c := &e.kept[i]
				at := (due-c.base)/c.period - 1
				if at < 0 || at > float64(c.rows-1)+1e-9 {
					continue
				}
				row := min(int(at), c.rows-1)
				v := c.values[row*e.dims+j]
				if f := at - float64(row); row+1 < c.rows {
					v += f * (c.values[(row+1)*e.dims+j] - v)
				}
				sum, weights = sum+w*v, weights+w
				w *= fall
			}
			p.values[k*e.dims+j] = sum / weights
		}
	}
}

// NewInstruction tells at time now that the policy is to do something else.
// Chunks begun before are dropped from now on. The arms halt until one that
// follows the new instruction arrives or, with Live.KeepOnInstruction, go on with
// the plan, into which that one is faded. A way home goes on.
func (e *Executor) NewInstruction(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.newEpoch()
	switch {
	case e.phase == following && e.live.KeepOnInstruction:
		e.fade = true
	case e.phase == following:
		e.halt(now, Event{Code: Flushed})
	}
}

// left returns how long the plan lasts, at the speed scale.
func (e *Executor) left() time.Duration {
	end := e.plan.due(e.plan.rows - 1)
	return max(0, seconds((end-e.progress.total)/e.scale))
}

// NextInference returns when the next inference is wanted: now, but with Sync
// when the plan will be consumed, and with OpenLoop when Live.OpenLoopRows of it
// will be executed. While it is not known yet, ask again every few commands:
// slowing postpones it.
func (e *Executor) NextInference(now time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.phase != following {
		return now
	}
	var at float64 // progress
	switch p := &e.plan; e.live.HandOver {
	case Sync:
		at = p.due(p.rows - 1)
	case OpenLoop:
		at = p.began + float64(e.live.OpenLoopRows)*p.period
	default:
		return now
	}
	total := e.progress.total + e.pace*max(0, now.Sub(e.advanced).Seconds())
	return now.Add(max(0, seconds((at-total)/max(e.pace, slowestPace*0.05))))
}
