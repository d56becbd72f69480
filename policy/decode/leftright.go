package decode

import (
	"context"
	"fmt"
)

// LeftToRight decodes position by position, as an autoregressive policy (OpenVLA)
// does: the pass for position i evaluates the network with positions 0..i-1 in place
// and the rest masked, and draws position i with the token temperature and noise of
// round 0; at temperature 0 it takes the most probable bin, the lowest on a tie.
// Each position that is not given in every row costs a pass, which logits is told
// the number of. The inputs are those of preset Autoregressive; of others only
// Known, TokenTemperature, TokenNoise and Centres are read. Policies whose attention
// is bidirectional or prefix were trained on chunks that are masked at random, or all
// over, not from left to right: what they say in this order tells little of what an
// autoregressive policy would.
//
// Rounds counts the passes, Confidence is that of each position's own pass (0 where
// it was given), and Mean the bin's centre. There is no trace, but TraceMargin, of
// shape L,B: the closest decision of each row up to and including each position.
// Errors are those of Decode.
func LeftToRight(ctx context.Context, logits LogitsFunc, in *Inputs) (*Result, error) {
	if err := in.Validate(); err != nil {
		return nil, err
	}
	n := in.Positions
	only := *in // no position is committed before its turn
	only.Initial = filled(len(in.Known), int64(-1))
	rows := make([]row, in.Batch)
	for b := range rows {
		rows[b].start(&only, b)
	}
	res := &Result{}
	tokens, values := make([]int64, in.Batch*n), make([]float32, in.Batch*n*in.Bins)
	for i := range n {
		masked := false
		for b := range rows {
			copy(tokens[b*n:], rows[b].bins)
			masked = masked || rows[b].bins[i] < 0
		}
		if masked {
			if err := ctx.Err(); err != nil {
				return nil, fmt.Errorf("decode position %d: %w", i, err)
			}
			out := Logits{Values: values}
			if err := logits(ctx, res.Rounds, tokens, &out); err != nil {
				return nil, fmt.Errorf("decode position %d: %w", i, err)
			}
			if len(out.Values) != len(values) || out.LogDenominator != nil && len(out.LogDenominator) != len(tokens) {
				return nil, fmt.Errorf("decode position %d: %d logits and %d denominators, want %d and 0 or %d", i, len(out.Values), len(out.LogDenominator), len(values), len(tokens))
			}
			for b := range rows {
				if err := rows[b].fill(&only, res.Rounds, b, i, out); err != nil {
					return nil, fmt.Errorf("decode: %w", err)
				}
			}
			res.Rounds++
		}
		for b := range rows {
			res.TraceMargin = append(res.TraceMargin, rows[b].margin)
		}
	}
	for b := range rows {
		res.Bins = append(res.Bins, rows[b].bins...)
		res.Confidence = append(res.Confidence, rows[b].confidence...)
		for i, bin := range rows[b].bins {
			res.Mean = append(res.Mean, in.CentresAt(i)[bin])
		}
	}
	return res, nil
}

// fill draws one masked position of row b from its pass.
func (r *row) fill(in *Inputs, pass, b, i int, out Logits) error {
	if r.bins[i] >= 0 {
		return nil
	}
	if err := r.softmax(in, pass, b, out, true); err != nil {
		return err
	}
	r.bins[i] = r.draw(in, 0, b, i, out.Values[(b*in.Positions+i)*in.Bins:][:in.Bins])
	r.confidence[i] = r.p[i*in.Bins+int(r.bins[i])]
	return nil
}
