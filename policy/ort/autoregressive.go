package ort

import (
	"context"
	"errors"
	"fmt"

	pb "github.com/advancedclimatesystems/gonnx/onnx"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Autoregressive is a loaded autoregressive.onnx: a whole chunk from left to right
// in one call, as decode.LeftToRight defines it, each token computed once over the
// keys and values of those before it. Runs must not overlap.
type Autoregressive struct {
	manifest *bundle.Manifest
	session  *session
	names    []string
}

// autoregressivePorts is the signature of autoregressive.onnx.
func autoregressivePorts(m *bundle.Manifest) (inputs, outputs []port) {
	l := int64(m.Action.Tokens())
	inputs = append(observationPorts(m),
		port{name: "known", elem: pb.TensorProto_INT64, dims: []int64{free, l}},
		port{name: "token_temperature", elem: pb.TensorProto_FLOAT, dims: []int64{1}},
		port{name: "token_noise", elem: pb.TensorProto_FLOAT, dims: []int64{1, free, free, free}},
	)
	outputs = []port{
		{name: "bins", elem: pb.TensorProto_INT64, dims: []int64{free, l}},
		{name: "confidence", elem: pb.TensorProto_FLOAT, dims: []int64{free, l}},
	}
	return inputs, outputs
}

// Autoregressive loads the bundle's graph for decoding from left to right, which
// bundles with causal attention have.
func (r *Runtime) Autoregressive(b *bundle.Bundle) (*Autoregressive, error) {
	if !b.Manifest.HasAutoregressive() {
		return nil, fmt.Errorf("bundle %s: it has no %s, which only policies of tokens with causal attention have", b.Dir, bundle.AutoregressiveFile)
	}
	if err := r.checkPrecision(b); err != nil {
		return nil, err
	}
	wantIn, wantOut := autoregressivePorts(&b.Manifest)
	in, out, err := checkGraph(b, bundle.AutoregressiveFile, wantIn, wantOut)
	if err != nil {
		return nil, err
	}
	a := &Autoregressive{manifest: &b.Manifest, names: in}
	err = r.load(b.Path(bundle.AutoregressiveFile), bundle.AutoregressiveFile, in, out, &a.session, func(ctx context.Context) error {
		_, err := a.Run(ctx, probeInputs(&b.Manifest))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.Dir, err)
	}
	return a, nil
}

// Close frees the graph.
func (a *Autoregressive) Close() error { return a.session.close() }

// Run decodes a batch from inputs of preset decode.Autoregressive; they have one
// round. The result is that of decode.LeftToRight, without margins, and Rounds counts
// all tokens: each is computed, given or not. When ctx ends, the running graph is
// terminated and ctx's error returned. The inputs are read only until Run returns.
func (a *Autoregressive) Run(ctx context.Context, in *FusedInputs) (*FusedOutputs, error) {
	d, m := in.Inputs, a.manifest
	if d == nil {
		return nil, errors.New("onnxruntime: no decoding inputs; make them with decode.Params.Inputs")
	}
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("onnxruntime: %w", err)
	}
	if d.Rounds != 1 || d.Positions != m.Action.Tokens() || d.Bins != m.Tokens.Bins {
		return nil, fmt.Errorf("onnxruntime: decoding inputs are for %d rounds, %d positions and %d bins; from left to right the model has 1, %d and %d",
			d.Rounds, d.Positions, d.Bins, m.Action.Tokens(), m.Tokens.Bins)
	}
	for i, name := range a.names {
		s := &a.session.inputs[i]
		var err error
		switch name {
		case "known":
			err = fill(s, d.Known, int64(d.Batch), int64(d.Positions))
		case "token_temperature":
			err = fill(s, d.TokenTemperature, 1)
		case "token_noise":
			err = fill(s, d.TokenNoise.Data, dims(d.TokenNoise)...)
		default:
			err = in.Observation.fill(s, name, m, d.Batch)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := a.session.execute(ctx); err != nil {
		return nil, err
	}
	out := &FusedOutputs{Rounds: d.Positions}
	var errs [2]error
	out.Bins, _, errs[0] = take(a.session, 0, out.Bins)
	out.Confidence, _, errs[1] = take(a.session, 1, out.Confidence)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	if size := d.Batch * d.Positions; len(out.Bins) != size || len(out.Confidence) != size {
		return nil, fmt.Errorf("onnxruntime: %s: %w: outputs are %d bins and %d confidences, want %d", a.session.name, ErrGraph, len(out.Bins), len(out.Confidence), size)
	}
	for i, bin := range out.Bins {
		if bin < 0 || bin >= int64(d.Bins) {
			return nil, fmt.Errorf("onnxruntime: %s: %w: token %d is bin %d of %d", a.session.name, ErrGraph, i, bin, d.Bins)
		}
		out.Mean = append(out.Mean, d.CentresAt(i % d.Positions)[bin])
	}
	return out, nil
}
