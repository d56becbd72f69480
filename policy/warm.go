package policy

import (
	"fmt"
	"math"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
)

// warmTolerance is how far, in rows, the time between two observations may be
// from a whole number of rows for a warm start. It takes any number of frames of
// a 30 Hz camera at 20 rows a second. The tokens are then that much of a row off,
// which the model may mend by masking them again.
const warmTolerance = 0.35

// CheckDecode refuses (with a *decode.FieldError) decoding parameters that cannot
// be used, or not with the policy that m describes.
func CheckDecode(p decode.Params, m *bundle.Manifest) error {
	if p.WarmStart && m.Model.Head == bundle.L1Head {
		return &decode.FieldError{Field: "warm_start", Reason: "is set, but the policy has an L1 head, which gives a chunk's values in one pass; leave it off"}
	}
	return p.ValidateFor(decode.GraphsOf(m))
}

// warmStart is what a decoding begins with.
type warmStart struct {
	bins       []int64   // L; -1 starts masked
	confidence []float32 // L
	tokens     int       // not -1
}

// startWarm shifts o.Previous by the rows that were due between its observation
// and o, by their stamps and the rate of the rows, rounded to whole rows. What is
// beyond the end of that chunk starts masked, and so does what had less than the
// least confidence; given positions are left out. cold says why nothing can be
// begun with: no or another instruction's chunk, a shift of less than a row or
// not near a whole one, no row left, or nothing left to decode.
func startWarm(o *Observation, prompt string, a bundle.Action, least float64, known []int64) (w *warmStart, cold string) {
	was := o.Previous
	switch {
	case was == nil || was.Bins == nil || was.Chunk == nil || len(was.Chunk.Confidence) != len(known) || len(was.Bins) != len(known):
		return nil, "no chunk before"
	case was.Prompt != prompt:
		return nil, "another instruction"
	}
	passed := o.Stamp.Sub(was.Chunk.Stamp)
	rows := passed.Seconds() * a.Rate
	shift := math.Round(rows)
	switch {
	case passed <= 0:
		return nil, fmt.Sprintf("observed %v before the last chunk's", -passed)
	case math.Abs(rows-shift) > warmTolerance:
		return nil, fmt.Sprintf("%.2f rows passed, which is not near a whole number", rows)
	case shift < 1:
		return nil, fmt.Sprintf("%.2f rows passed, less than one", rows)
	case shift >= float64(a.Chunk):
		return nil, fmt.Sprintf("%v passed, the last chunk has no row left", passed.Round(time.Millisecond))
	}
	executed := int(shift) * len(a.Dims)
	w = &warmStart{bins: make([]int64, len(known)), confidence: make([]float32, len(known))}
	masked := 0
	for i := range w.bins {
		w.bins[i] = -1
		if known[i] >= 0 {
			continue
		}
		if from := i + executed; from < len(known) && float64(was.Chunk.Confidence[from]) >= least {
			w.bins[i], w.confidence[i] = was.Bins[from], was.Chunk.Confidence[from]
			w.tokens++
		} else {
			masked++
		}
	}
	switch {
	case w.tokens == 0:
		return nil, fmt.Sprintf("no token of the last chunk has a confidence of %g", least)
	case masked == 0:
		// The decoder ends as soon as nothing is masked, so nothing would be decided.
		return nil, "nothing would be left to decode"
	}
	return w, ""
}
