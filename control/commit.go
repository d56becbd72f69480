package control

import (
	"math"
	"time"
)

// Commitment is what the arms will do while the next chunk is made, as rows of
// that chunk: its row k is due at the observation's stamp + (k+1)/rate. The caller
// turns the first Frozen rows into tokens that are given (`known`), and the Soft
// ones behind into tokens to begin with (`initial`): real-time chunking (arXiv
// 2506.07339), by conditioning on tokens.
type Commitment struct {
	Frozen, Soft int
	// Values holds Frozen+Soft rows of Layout.Dims() joint positions (rad, m).
	Values []float64
	// Confidence of each row: 1 where frozen, then falling to 0 after the last.
	Confidence []float64
	// Epoch that a chunk made from it belongs to.
	Epoch uint64
}

// Commit writes to dst what the arms will do until the plan ends, at time now,
// for a chunk of rows at rate that answers to the observation of the given
// stamp. latency is how long its making is expected to take from now on: a high
// percentile of what was measured, cold starts left out; a chunk that comes
// later finds more rows executed than were frozen, and is joined like any
// other. Frozen are the rows that will have been executed, or begun, by then;
// never more than the plan has left. While the arms stand nothing is frozen.
func (e *Executor) Commit(dst *Commitment, stamp, now time.Time, latency time.Duration, rate float64, rows int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	dst.Frozen, dst.Soft, dst.Epoch = 0, 0, e.epoch
	dst.Values, dst.Confidence = dst.Values[:0], dst.Confidence[:0]
	if e.phase != following || !(rate >= 0.1 && rate <= 1000) {
		return
	}
	if now.Sub(e.advanced) < e.gap {
		e.advance(now)
	}
	p, base := &e.plan, e.progress.when(stamp)
	planned := 0 // rows of the next chunk that end before the plan does
	for end := p.due(p.rows-1) + 1e-9; planned < rows && base+float64(planned+1)/rate <= end; planned++ {
		at := p.place(p.x(base+float64(planned+1)/rate), e.live.Interpolation)
		for j := range e.dims {
			m := p.state(&at, j, e.dims, e.joints[j].Gripper)
			dst.Values = append(dst.Values, e.joints[j].Limits.clamp(m.p))
		}
	}
	ready := e.progress.total + e.pace*max(0, latency.Seconds())
	dst.Frozen = min(max(int(math.Ceil((ready-base)*rate-1e-6)), 0), planned)
	dst.Soft = planned - dst.Frozen
	for range dst.Frozen {
		dst.Confidence = append(dst.Confidence, 1)
	}
	for i := range dst.Soft {
		dst.Confidence = append(dst.Confidence, e.live.SoftConfidence*(1-float64(i)/float64(dst.Soft)))
	}
}
