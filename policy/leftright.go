package policy

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ddvla/ddvla/policy/decode"
)

// OpenStep loads the bundle's step.onnx, the weights a second time, for
// InferLeftToRight. A policy with an L1 head has none.
func (p *Policy) OpenStep() error {
	if p.step != nil {
		return nil
	}
	var err error
	p.step, err = p.runtime.Step(p.bundle)
	return err
}

// InferLeftToRight is Infer with the tokens decoded one after the other
// (decode.LeftToRight, most probable bins): a pass over everything for each, on the
// graph of OpenStep, which must have been called. It must not run at the same time as
// Infer. Preset decode.Autoregressive gives the same in much less time where the
// attention is causal; with any other the policy was not trained to be decoded so. It
// always starts cold.
func (p *Policy) InferLeftToRight(ctx context.Context, o *Observation) (*Result, error) {
	if p.step == nil {
		return nil, errors.New("inference from left to right needs step.onnx; call OpenStep before")
	}
	start := time.Now()
	r := &Result{}
	if err := p.observe(o, r); err != nil {
		return nil, err
	}
	prepared := time.Now()
	r.Timings.Preprocess = prepared.Sub(start)
	m := p.Manifest()
	known, err := p.known(o)
	if err != nil {
		return nil, err
	}
	in, err := decode.Params{Preset: decode.Autoregressive, Rounds: 1}.Inputs([]int{len(known)}, len(known), m.Tokens.Bins, decode.NewNoise(0))
	if err != nil {
		return nil, err
	}
	if p.centres != nil {
		in.Centres = p.centres
	}
	copy(in.Known, known)
	out, err := decode.LeftToRight(ctx, p.step.Logits(&p.inputs.Observation), in)
	if err != nil {
		return nil, fmt.Errorf("inference: %w", err)
	}
	inferred := time.Now()
	r.Timings.Inference = inferred.Sub(prepared)
	if r.Chunk, err = p.codec.Chunk(out.Mean); err != nil {
		return nil, err
	}
	r.Chunk.Stamp, r.Chunk.Confidence = o.Stamp, out.Confidence
	r.Rounds, r.Bins = out.Rounds, out.Bins
	r.Timings.Decode = time.Since(inferred)
	return r, r.Chunk.Validate()
}
