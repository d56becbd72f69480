package decode

import (
	"fmt"
	"slices"
)

// Trace is what became of one chunk's positions: a state before the first round
// and one after each round that ran.
type Trace struct {
	// Positions is L.
	Positions int
	// Bins has shape Rounds+1,L: the bin of a committed position, -1 of a masked
	// one.
	Bins []int64
	// Confidence has shape Rounds+1,L, each 0..1: before the first round 1 where
	// a bin was given, its initial confidence where it was warm-started and 0
	// where it was masked; then Result.TraceConfidence, that of the round's
	// candidate where the position stayed masked.
	Confidence []float32
}

// TraceOf returns the trace of row b of a batch. in are the inputs that res came
// of.
func TraceOf(in *Inputs, res *Result, b int) *Trace {
	n := in.Positions
	t := &Trace{
		Positions: n, Bins: make([]int64, 0, (res.Rounds+1)*n), Confidence: make([]float32, 0, (res.Rounds+1)*n),
	}
	for at := b * n; at < (b+1)*n; at++ {
		bin, confidence := int64(-1), float32(0)
		switch {
		case in.Known[at] >= 0:
			bin, confidence = in.Known[at], 1
		case in.Initial[at] >= 0:
			bin, confidence = in.Initial[at], in.InitialConfidence[at]
		}
		t.Bins, t.Confidence = append(t.Bins, bin), append(t.Confidence, confidence)
	}
	for round := range res.Rounds {
		at := (round*in.Batch + b) * n
		t.Bins = append(t.Bins, res.TraceBins[at:at+n]...)
		t.Confidence = append(t.Confidence, res.TraceConfidence[at:at+n]...)
	}
	return t
}

// Validate checks a trace that comes from elsewhere: shapes, ranges, that a
// committed bin only changes by way of the mask, and that nothing is masked at
// the end.
func (t *Trace) Validate() error {
	n := t.Positions
	if n < 1 || len(t.Bins)%n != 0 || len(t.Confidence) != len(t.Bins) {
		return fmt.Errorf("%d bins and %d confidences of %d positions", len(t.Bins), len(t.Confidence), n)
	}
	if r := t.Rounds(); r < 1 || r > MaxRounds {
		return fmt.Errorf("%d rounds, must be 1..%d", r, MaxRounds)
	}
	for at, bin := range t.Bins {
		round, i := at/n, at%n // round 0 is the state before the first
		switch c := t.Confidence[at]; {
		case bin < -1:
			return fmt.Errorf("position %d holds bin %d after %d rounds", i, bin, round)
		case !(c >= 0 && c <= 1):
			return fmt.Errorf("position %d has confidence %g after %d rounds", i, c, round)
		case round > 0 && bin >= 0 && t.Bins[at-n] >= 0 && t.Bins[at-n] != bin:
			return fmt.Errorf("position %d goes from bin %d to %d in round %d without a mask between", i, t.Bins[at-n], bin, round)
		case bin < 0 && round == t.Rounds():
			return fmt.Errorf("position %d is masked at the end", i)
		}
	}
	return nil
}

// Rounds is how many rounds ran.
func (t *Trace) Rounds() int { return len(t.Bins)/t.Positions - 1 }

// Change is what a round does to a position.
type Change uint8

// Changes.
const (
	StaysMasked Change = iota
	Commits
	Keeps
	Remasks // a committed position goes back to the mask
)

// Change says what round 0..Rounds()-1 did to a position.
func (t *Trace) Change(round, position int) Change {
	before, after := t.Bins[round*t.Positions+position], t.Bins[(round+1)*t.Positions+position]
	switch {
	case before < 0 && after < 0:
		return StaysMasked
	case before < 0:
		return Commits
	case after < 0:
		return Remasks
	}
	return Keeps
}

// CommittedAt is the confidence with which a position that is committed after a
// round became so: in that round, an earlier one or before the first. ok is false
// where it is masked. round is -1..Rounds()-1, -1 the state before the first.
func (t *Trace) CommittedAt(round, position int) (confidence float32, ok bool) {
	at := (round+1)*t.Positions + position
	if t.Bins[at] < 0 {
		return 0, false
	}
	for at >= t.Positions && t.Bins[at-t.Positions] >= 0 {
		at -= t.Positions
	}
	return t.Confidence[at], true
}

// RoundSummary counts what one round did.
type RoundSummary struct {
	Committed, Remasked int // in this round
	Masked              int // after it
	// Least is the lowest confidence, in this round, of a position that is
	// committed after it, and LeastAt the first position that has it; -1 where
	// all are masked.
	Least   float32
	LeastAt int
}

// Summary sums up round 0..Rounds()-1.
func (t *Trace) Summary(round int) RoundSummary {
	s := RoundSummary{LeastAt: -1}
	confidence := t.Confidence[(round+1)*t.Positions:][:t.Positions]
	for i, c := range confidence {
		change := t.Change(round, i)
		switch change {
		case Commits:
			s.Committed++
		case Remasks:
			s.Remasked++
			s.Masked++
		case StaysMasked:
			s.Masked++
		}
		if (change == Commits || change == Keeps) && (s.LeastAt < 0 || c < s.Least) {
			s.Least, s.LeastAt = c, i
		}
	}
	return s
}

// Final is the decoded chunk's bins, of shape L.
func (t *Trace) Final() []int64 { return slices.Clone(t.Bins[len(t.Bins)-t.Positions:]) }
