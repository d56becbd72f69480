package control

import (
	"fmt"
	"math"
	"time"
)

// HandOver is how a new chunk takes over from the one in execution.
type HandOver uint8

// The hand-overs. All of them drop the rows that were already executed since the
// chunk's observation, and join the seam within the limits.
const (
	// Replace executes the new chunk as it is.
	Replace HandOver = iota
	// Blend fades from the old chunk to the new one over Live.BlendRows rows.
	Blend
	// Ensemble executes the weighted mean of all chunks since the last halt that cover
	// a time, the oldest with weight 1, the i-th after it with exp(-k i): temporal
	// ensembling of ACT (arXiv 2304.13705, section IV-B, where k is m).
	Ensemble
	// Infill is for chunks whose first rows were given to the decoder by Commit:
	// what quantisation leaves at the seam, half a bin, fades over Live.SeamRows.
	Infill
	// Sync asks for the next chunk when the plan is consumed; the arms stand while
	// it is made.
	Sync
	// OpenLoop asks for the next chunk once Live.OpenLoopRows rows are executed;
	// the rest of the plan goes on while it is made.
	OpenLoop
)

var handOvers = [...]string{"replace", "blend", "ensemble", "infill", "sync", "open_loop"}

// String returns the name that ParseHandOver takes.
func (h HandOver) String() string {
	if int(h) < len(handOvers) {
		return handOvers[h]
	}
	return fmt.Sprintf("hand_over_%d", uint8(h))
}

// ParseHandOver is the inverse of String.
func ParseHandOver(name string) (HandOver, error) {
	for h, n := range handOvers {
		if n == name {
			return HandOver(h), nil
		}
	}
	return 0, fmt.Errorf("control: hand_over %q is none of %v", name, handOvers)
}

// Live is the part of the configuration that SetLive changes while the arms
// move, without a jump.
type Live struct {
	HandOver HandOver // default Replace
	// BlendRows is over how many rows Blend fades; 1 to 1000, default 4.
	BlendRows int
	// EnsembleDecay is k of Ensemble, per chunk: 0 weighs all alike, a negative
	// one prefers new chunks; -10 to 10, default 0.01 as in ACT.
	EnsembleDecay float64
	// SeamRows is over how many rows Infill fades; 0 to 1000, default 3.
	SeamRows int
	// SoftConfidence is the confidence of the first soft row of a Commitment, from
	// where it falls to 0 after the last; 0 to 1, default 0.9.
	SoftConfidence float64
	// OpenLoopRows is how many rows OpenLoop executes before it asks for the next
	// chunk; 1 to 1000, default 8.
	OpenLoopRows int
	// KeepOnInstruction lets a new instruction keep the plan, until the first chunk
	// that follows it is faded in over BlendRows; default false: the arms halt.
	KeepOnInstruction bool
	// Interpolation between rows, default Cubic.
	Interpolation Interpolation
	// SpeedScale slows all motion along its path, 0.05 to 1, default 1. First runs
	// of a policy want 0.2 to 0.5.
	SpeedScale float64
	// HomeSpeed is SpeedScale for Home, 0.05 to 1, default 0.3.
	HomeSpeed float64
	// DeadmanTimeout, if positive, is how long the arms may move after a call of
	// Deadman; default 0: none is needed.
	DeadmanTimeout time.Duration
}

// DefaultLive returns the defaults named at the fields.
func DefaultLive() Live {
	return Live{
		BlendRows: 4, EnsembleDecay: 0.01, SeamRows: 3, SoftConfidence: 0.9, OpenLoopRows: 8,
		SpeedScale: 1, HomeSpeed: 0.3,
	}
}

// Validate names the first field that cannot be right.
func (l Live) Validate() error {
	for _, f := range [...]struct {
		name          string
		value, lo, hi float64
	}{
		{"hand_over", float64(l.HandOver), 0, float64(OpenLoop)},
		{"interpolation", float64(l.Interpolation), 0, float64(Quintic)},
		{"blend_rows", float64(l.BlendRows), 1, 1000}, {"seam_rows", float64(l.SeamRows), 0, 1000},
		{"open_loop_rows", float64(l.OpenLoopRows), 1, 1000},
		{"ensemble_decay", l.EnsembleDecay, -10, 10}, {"soft_confidence", l.SoftConfidence, 0, 1},
		{"speed_scale", l.SpeedScale, 0.05, 1}, {"home_speed", l.HomeSpeed, 0.05, 1},
		{"deadman_timeout", l.DeadmanTimeout.Seconds(), 0, 60},
	} {
		if math.IsNaN(f.value) || f.value < f.lo || f.value > f.hi {
			return fmt.Errorf("control: %s is %v; it must be %v to %v", f.name, f.value, f.lo, f.hi)
		}
	}
	return nil
}

// SetLive changes the live configuration from the next tick and hand-over on.
// Arms that move approach a new speed scale within half a second.
func (e *Executor) SetLive(live Live) error {
	if err := live.Validate(); err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live = live
	return nil
}

// Live returns the live configuration.
func (e *Executor) Live() Live {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.live
}
