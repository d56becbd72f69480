package ort

import (
	"context"
	"errors"
	"fmt"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
)

// Observation is what the network sees. B rows, N cameras of S x S pixels, P
// prompt ids, Dp entries of state.
type Observation struct {
	// Images has shape B,N,S,S,3: RGB at the model's size.
	Images []byte
	// PromptIDs has shape B,P: from BOS to the trailing empty token, padded on
	// the right.
	PromptIDs []int64
	// PromptLength has shape B: ids of each row without its pads; nil where
	// nothing is padded.
	PromptLength []int64
	// Proprio has shape B,Dp, normalised; not looked at when the model takes
	// none.
	Proprio []float32
}

// FusedInputs is all that decoding a batch of chunks takes.
type FusedInputs struct {
	Observation
	*decode.Inputs
}

// FusedOutputs is what decoding gives, without margins.
type FusedOutputs = decode.Result

// Fused is a loaded policy.onnx: a whole chunk in one call. Runs must not
// overlap.
type Fused struct {
	manifest *bundle.Manifest
	session  *session
	names    []string
}

// Fused loads the bundle's fused graph. With a GPU provider it loads it twice:
// once to see, by a run in one round, where each node runs.
func (r *Runtime) Fused(b *bundle.Bundle) (*Fused, error) {
	if b.Manifest.Model.Head != bundle.TokensHead {
		return nil, fmt.Errorf("bundle %s: %w: a policy with head %s has no tokens to decode; load it with Values", b.Dir, ErrGraph, b.Manifest.Model.Head)
	}
	if err := r.checkPrecision(b); err != nil {
		return nil, err
	}
	wantIn, wantOut := fusedPorts(&b.Manifest)
	in, out, err := checkGraph(b, bundle.GraphFile, wantIn, wantOut)
	if err != nil {
		return nil, err
	}
	f := &Fused{manifest: &b.Manifest, names: in}
	err = r.load(b.Path(bundle.GraphFile), bundle.GraphFile, in, out, &f.session, func(ctx context.Context) error {
		_, err := f.Run(ctx, probeInputs(&b.Manifest))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.Dir, err)
	}
	return f, nil
}

// Close frees the graph.
func (f *Fused) Close() error { return f.session.close() }

// Run decodes a batch. A graph without a Loop takes at most its number of rounds
// (a *decode.FieldError names it) and runs all of them. When ctx ends, the running graph is terminated and ctx's
// error returned. The inputs are read only until Run returns.
func (f *Fused) Run(ctx context.Context, in *FusedInputs) (*FusedOutputs, error) {
	if in.Inputs == nil {
		return nil, errors.New("onnxruntime: no decoding inputs; make them with decode.Params.Inputs")
	}
	d := in.Inputs
	if err := d.Validate(); err != nil {
		return nil, fmt.Errorf("onnxruntime: %w", err)
	}
	m := f.manifest
	if d.Positions != m.Action.Tokens() || d.Bins != m.Tokens.Bins {
		return nil, fmt.Errorf("onnxruntime: decoding inputs are for %d positions and %d bins, the model has %d and %d", d.Positions, d.Bins, m.Action.Tokens(), m.Tokens.Bins)
	}
	if !m.Model.Refresh && !d.Exact() {
		return nil, fmt.Errorf("onnxruntime: %w", &decode.FieldError{Field: "recompute_prefix", Reason: "has rounds that do not, but the policy's graph recomputes its prefix in all of them"})
	}
	if m.Model.Unrolled > 0 {
		var err error
		if d, err = d.Padded(m.Model.Unrolled); err != nil {
			return nil, fmt.Errorf("onnxruntime: %w", err)
		}
	}
	t, b, l := int64(d.Rounds), int64(d.Batch), int64(d.Positions)
	for i, name := range f.names {
		s := &f.session.inputs[i]
		var err error
		switch name {
		case "known":
			err = fill(s, d.Known, b, l)
		case "initial":
			err = fill(s, d.Initial, b, l)
		case "initial_confidence":
			err = fill(s, d.InitialConfidence, b, l)
		case "masked_after":
			err = fill(s, d.MaskedAfter, t, b)
		case "token_temperature":
			err = fill(s, d.TokenTemperature, t)
		case "choice_temperature":
			err = fill(s, d.ChoiceTemperature, t)
		case "committed_bias":
			err = fill(s, d.CommittedBias, t)
		case "threshold":
			err = fill(s, d.Threshold, t)
		case "drop_threshold":
			err = fill(s, d.DropThreshold, t)
		case "commit_confidence":
			err = fill(s, d.CommitConfidence, t)
		case "token_noise":
			err = fill(s, d.TokenNoise.Data, dims(d.TokenNoise)...)
		case "choice_noise":
			err = fill(s, d.ChoiceNoise.Data, dims(d.ChoiceNoise)...)
		case "score":
			err = fill(s, []int64{d.Score}, 1)
		case "mean_window":
			err = fill(s, []int64{d.MeanWindow}, 1)
		case "recompute_prefix":
			recompute := d.RecomputePrefix
			if len(recompute) == 0 {
				recompute = make([]bool, t)
				for i := range recompute {
					recompute[i] = true
				}
			}
			err = fillBool(s, recompute, t)
		default:
			err = in.Observation.fill(s, name, m, d.Batch)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := f.session.execute(ctx); err != nil {
		return nil, err
	}
	return f.outputs(in.Inputs)
}

func (f *Fused) outputs(d *decode.Inputs) (*FusedOutputs, error) {
	var out FusedOutputs
	var rounds []int64
	var errs [6]error
	out.Bins, _, errs[0] = take(f.session, 0, out.Bins)
	out.Confidence, _, errs[1] = take(f.session, 1, out.Confidence)
	out.Mean, _, errs[2] = take(f.session, 2, out.Mean)
	rounds, _, errs[3] = take(f.session, 3, rounds)
	out.TraceBins, _, errs[4] = take(f.session, 4, out.TraceBins)
	out.TraceConfidence, _, errs[5] = take(f.session, 5, out.TraceConfidence)
	if err := errors.Join(errs[:]...); err != nil {
		return nil, err
	}
	size := d.Batch * d.Positions
	if len(rounds) == 1 {
		out.Rounds = int(rounds[0])
	}
	traced := out.Rounds
	if u := f.manifest.Model.Unrolled; u > 0 {
		traced = u
	}
	if out.Rounds < 1 || out.Rounds > d.Rounds || len(out.Bins) != size || len(out.Confidence) != size || len(out.Mean) != size ||
		len(out.TraceBins) != traced*size || len(out.TraceConfidence) != traced*size {
		return nil, fmt.Errorf("onnxruntime: %s: %w: outputs are %d bins and %d trace bins in rounds %v, want %d bins a round in 1..%d rounds",
			f.session.name, ErrGraph, len(out.Bins), len(out.TraceBins), rounds, size, d.Rounds)
	}
	// Rounds after the end repeat it.
	out.TraceBins, out.TraceConfidence = out.TraceBins[:out.Rounds*size], out.TraceConfidence[:out.Rounds*size]
	return &out, nil
}

// fill sets one of the inputs that the network itself takes.
func (o *Observation) fill(s *slot, name string, m *bundle.Manifest, batch int) error {
	b := int64(batch)
	switch name {
	case "images":
		n, side := int64(len(m.Cameras)), int64(m.Model.ImageSize)
		if want := b * n * side * side * 3; int64(len(o.Images)) != want {
			return fmt.Errorf("onnxruntime: input images has %d bytes, want %d: %d rows of %d cameras of %dx%d RGB", len(o.Images), want, b, n, side, side)
		}
		return fill(s, o.Images, b, n, side, side, 3)
	case "prompt_ids":
		p := len(o.PromptIDs) / batch
		if p < 2 || p > m.Prompt.MaxTokens || p*batch != len(o.PromptIDs) {
			return fmt.Errorf("onnxruntime: input prompt_ids has %d ids in %d rows, want 2..%d in each", len(o.PromptIDs), batch, m.Prompt.MaxTokens)
		}
		for i, id := range o.PromptIDs {
			if id < 0 {
				return fmt.Errorf("onnxruntime: input prompt_ids row %d, position %d is %d, must not be negative", i/p, i%p, id)
			}
		}
		return fill(s, o.PromptIDs, b, int64(p))
	case "prompt_length":
		lengths, p := o.lengths(batch), int64(len(o.PromptIDs)/batch)
		if len(lengths) != batch {
			return fmt.Errorf("onnxruntime: input prompt_length has %d values, want one for each of %d rows", len(lengths), batch)
		}
		for i, n := range lengths {
			if n < 2 || n > p {
				return fmt.Errorf("onnxruntime: input prompt_length row %d is %d, must be 2..%d", i, n, p)
			}
		}
		return fill(s, lengths, b)
	case "proprio":
		n := int64(len(m.Proprio.Dims))
		if int64(len(o.Proprio)) != b*n {
			return fmt.Errorf("onnxruntime: input proprio has %d values, want %d rows of %d", len(o.Proprio), b, n)
		}
		return fill(s, o.Proprio, b, n)
	}
	return fmt.Errorf("onnxruntime: %w: input %q", ErrGraph, name)
}

func dims(a decode.Array) []int64 {
	d := make([]int64, len(a.Shape))
	for i, n := range a.Shape {
		d[i] = int64(n)
	}
	return d
}

// probeInputs is a smallest run: black pictures, the shortest prompt, one round.
func probeInputs(m *bundle.Manifest) *FusedInputs {
	l, k := m.Action.Tokens(), m.Tokens.Bins
	in := &FusedInputs{Observation: probeObservation(m)}
	// The parameters are constants that hold, so there is no error.
	in.Inputs, _ = decode.Params{Preset: decode.Greedy, Rounds: 1}.Inputs([]int{l}, l, k, decode.NewNoise(0))
	return in
}

func probeObservation(m *bundle.Manifest) Observation {
	side := m.Model.ImageSize
	o := Observation{
		Images:    make([]byte, len(m.Cameras)*side*side*3),
		PromptIDs: []int64{m.Tokens.BOS, m.Tokens.Empty},
	}
	if m.Proprio != nil {
		o.Proprio = make([]float32, len(m.Proprio.Dims))
	}
	return o
}
