package decode

import (
	"context"
	"fmt"
)

// LeftToRight decodes one row position by position, as an autoregressive policy
// (OpenVLA) does: pass i evaluates the network with positions 0..i-1 in place and
// the rest masked, and takes the most probable bin of position i, the lowest on a
// tie. known has shape L: a bin that is given, or -1; each of the others costs a
// pass, which logits is told the number of. centres are as Inputs.Centres, nil for
// uniform bins. Of a policy whose attention is not
// causal this is an approximation that it was not trained for.
//
// The result has no trace; Rounds counts the passes, Confidence is that of each
// position's own pass (0 where it was given), and Mean the bin's centre. Errors
// are those of Decode.
func LeftToRight(ctx context.Context, logits LogitsFunc, known []int64, bins int, centres []float32) (*Result, error) {
	n := len(known)
	in, err := Params{Preset: Greedy, Rounds: 1}.Inputs([]int{n}, n, bins, NewNoise(0))
	if err != nil {
		return nil, err
	}
	copy(in.Known, known)
	in.MeanWindow = 0
	if centres != nil {
		in.Centres = centres
	}
	if err := in.Validate(); err != nil {
		return nil, err
	}
	var r row
	r.start(in, 0)
	res := &Result{}
	values := make([]float32, n*bins)
	for i := range r.bins {
		if r.given[i] {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("decode position %d: %w", i, err)
		}
		out := Logits{Values: values}
		if err := logits(ctx, res.Rounds, r.bins, &out); err != nil {
			return nil, fmt.Errorf("decode position %d: %w", i, err)
		}
		if len(out.Values) != len(values) || out.LogDenominator != nil && len(out.LogDenominator) != n {
			return nil, fmt.Errorf("decode position %d: %d logits and %d denominators, want %d and 0 or %d", i, len(out.Values), len(out.LogDenominator), len(values), n)
		}
		if err := r.softmax(in, res.Rounds, 0, out, true); err != nil {
			return nil, fmt.Errorf("decode: %w", err)
		}
		r.bins[i] = r.draw(in, 0, 0, i, out.Values[i*bins:][:bins])
		r.confidence[i] = r.p[i*bins+int(r.bins[i])]
		res.Rounds++
	}
	res.Bins, res.Confidence, res.Mean = r.bins, r.confidence, r.means(in)
	return res, nil
}
