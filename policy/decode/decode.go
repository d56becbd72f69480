// Package decode is the readable definition of how action chunks are unmasked:
// the rounds of a discrete diffusion decoder (arXiv 2508.20072 and its released
// code), the presets that set them up and the noise they draw on.
//
// Params (a preset and its overrides, settable while a node runs) become Inputs
// (the arrays that the fused graph of a bundle takes, named as its inputs are).
// policy/ort runs them through that graph; Decode runs them here, one call of
// the network per round, and must give the same tokens. All arithmetic that
// decides anything is float32; exponentials, their sums and logarithms are
// taken in float64 and rounded once, so that they do not depend on the order of
// a sum or on a processor's approximation.
package decode

import (
	"context"
	"fmt"
	"math"
	"slices"
)

// Logits is what the network says about every position, for one round.
type Logits struct {
	// Values has shape B,L,K: one logit for each action bin.
	Values []float32
	// LogDenominator has shape B,L: the logarithm of the softmax denominator
	// where that covers more than the K bins (bundles exported with the full
	// vocabulary); nil where it covers just them.
	LogDenominator []float32
}

// LogitsFunc evaluates the network on tokens (shape B,L: bins, or -1 where
// masked) and fills out. out.Values has its length already;
// out.LogDenominator is nil and may be set. Neither is kept.
type LogitsFunc func(ctx context.Context, round int, tokens []int64, out *Logits) error

// Result is one decoded batch.
type Result struct {
	// Rounds is the number of rounds that ran, 1..T.
	Rounds int
	// Bins has shape B,L: the chosen bins.
	Bins []int64
	// Confidence has shape B,L: the probability of each position's bin in the
	// last round in which its row had a mask.
	Confidence []float32
	// Mean has shape B,L: the normalised action in [-1, 1], averaged over
	// MeanWindow bins on each side of the chosen one.
	Mean []float32
	// TraceBins has shape Rounds,B,L: the state after each round, -1 masked.
	TraceBins []int64
	// TraceConfidence has shape Rounds,B,L.
	TraceConfidence []float32
	// TraceMargin has shape Rounds,B: how close the closest decision of the row
	// was up to and including that round. A decoder whose logits differ by
	// rounding may decide otherwise where this is tiny. Decode alone gives it;
	// the graph leaves it nil.
	TraceMargin []float32
}

// LogitsError says that the network gave logits no softmax can be taken of.
type LogitsError struct {
	Round, Row, Position int
	Value                float32
}

func (e *LogitsError) Error() string {
	return fmt.Sprintf("logits of round %d, row %d, position %d hold %g; the weights or the input of the network are broken", e.Round, e.Row, e.Position, e.Value)
}

// Decode unmasks a batch, calling logits once per round. It is exact: a network
// evaluated anew in every round, whatever in.RecomputePrefix says. Errors are
// those of in.Validate, of logits, of ctx, or a *LogitsError.
func Decode(ctx context.Context, logits LogitsFunc, in *Inputs) (*Result, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	rows := make([]row, in.Batch)
	for b := range rows {
		rows[b].start(in, b)
	}
	size := in.Batch * in.Positions
	tokens := make([]int64, size)
	values := make([]float32, size*in.Bins)
	res := &Result{}
	for t := 0; ; t++ {
		for b := range rows {
			copy(tokens[b*in.Positions:], rows[b].bins)
		}
		out := Logits{Values: values}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("decode round %d: %w", t, err)
		}
		if err := logits(ctx, t, tokens, &out); err != nil {
			return nil, fmt.Errorf("decode round %d: %w", t, err)
		}
		if len(out.Values) != len(values) || out.LogDenominator != nil && len(out.LogDenominator) != size {
			return nil, fmt.Errorf("decode round %d: %d logits and %d denominators, want %d and 0 or %d", t, len(out.Values), len(out.LogDenominator), len(values), size)
		}
		masked := false
		for b := range rows {
			r := &rows[b]
			if err := r.round(in, t, b, out); err != nil {
				return nil, fmt.Errorf("decode: %w", err)
			}
			masked = masked || r.masked()
			res.TraceBins = append(res.TraceBins, r.bins...)
			res.TraceConfidence = append(res.TraceConfidence, r.confidence...)
			res.TraceMargin = append(res.TraceMargin, r.margin)
		}
		res.Rounds = t + 1
		if !masked || t == in.Rounds-1 {
			break
		}
	}
	for b := range rows {
		r := &rows[b]
		res.Bins = append(res.Bins, r.bins...)
		res.Confidence = append(res.Confidence, r.confidence...)
		res.Mean = append(res.Mean, r.means(in)...)
	}
	return res, nil
}

// Centres returns the values of k uniform bins in [-1, 1]: the middles of the
// k-1 gaps between k even edges, the last one used twice (the action tokeniser
// of OpenVLA: 256 edges, 255 centres, indices clipped to 254). k is at least 2.
func Centres(k int) []float32 {
	edge := func(i int) float64 { return -1 + 2*float64(i)/float64(k-1) }
	centres := make([]float32, k)
	for i := range centres {
		j := min(i, k-2)
		centres[i] = float32((edge(j) + edge(j+1)) / 2)
	}
	return centres
}

// CentresOf returns the values of the bins of every position of a chunk of rows
// rows, shape L,K: of column d the middles between its edges, K+1 values, or
// Centres(bins) where it has none. Nil where no column has edges.
func CentresOf(edges [][]float64, rows, bins int) []float32 {
	var row []float32
	some := false
	for _, list := range edges {
		if len(list) == 0 {
			row = append(row, Centres(bins)...)
			continue
		}
		some = true
		for k, e := range list[1:] {
			row = append(row, float32((list[k]+e)/2))
		}
	}
	if !some {
		return nil
	}
	return slices.Repeat(row, rows)
}

// exp32, log32 are correctly rounded but for one case in 2^28 or so.
func exp32(x float32) float32 { return float32(math.Exp(float64(x))) }
func log32(x float32) float32 { return float32(math.Log(float64(x))) }

var inf32 = float32(math.Inf(1))
