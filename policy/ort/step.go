package ort

import (
	"context"
	"fmt"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
)

// Step is a loaded step.onnx: one round of the network, everything computed
// anew. It is what the Go decoder runs on. Runs must not overlap.
type Step struct {
	manifest *bundle.Manifest
	session  *session
	names    []string
}

// Step loads the bundle's step graph, which not every bundle has.
func (r *Runtime) Step(b *bundle.Bundle) (*Step, error) {
	if _, ok := b.Manifest.Files[bundle.StepFile]; !ok {
		return nil, fmt.Errorf("bundle %s: it has no %s, which only policies of tokens have; export it with one", b.Dir, bundle.StepFile)
	}
	if err := r.checkPrecision(b); err != nil {
		return nil, err
	}
	wantIn, wantOut := stepPorts(&b.Manifest)
	in, out, err := checkGraph(b, bundle.StepFile, wantIn, wantOut)
	if err != nil {
		return nil, err
	}
	s := &Step{manifest: &b.Manifest, names: in}
	err = r.load(b.Path(bundle.StepFile), bundle.StepFile, in, out, &s.session, func(ctx context.Context) error {
		o := probeObservation(&b.Manifest)
		tokens := make([]int64, b.Manifest.Action.Tokens())
		return s.run(ctx, &o, tokens)
	})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.Dir, err)
	}
	return s, nil
}

// Close frees the graph.
func (s *Step) Close() error { return s.session.close() }

// Logits returns the network's answers about one observation, for
// decode.Decode. The observation must stay as it is meanwhile.
func (s *Step) Logits(o *Observation) decode.LogitsFunc {
	return func(ctx context.Context, _ int, tokens []int64, out *decode.Logits) error {
		if err := s.run(ctx, o, tokens); err != nil {
			return err
		}
		var err error
		if out.Values, _, err = take(s.session, 0, out.Values); err != nil {
			return err
		}
		if len(s.session.outputs) > 1 {
			out.LogDenominator, _, err = take(s.session, 1, out.LogDenominator)
		}
		return err
	}
}

func (s *Step) run(ctx context.Context, o *Observation, tokens []int64) error {
	l := s.manifest.Action.Tokens()
	batch := len(tokens) / l
	if batch < 1 || batch*l != len(tokens) {
		return fmt.Errorf("onnxruntime: input tokens has %d values, want rows of %d", len(tokens), l)
	}
	for i, name := range s.names {
		var err error
		if name == "tokens" {
			err = fill(&s.session.inputs[i], tokens, int64(batch), int64(l))
		} else {
			err = o.fill(&s.session.inputs[i], name, s.manifest, batch)
		}
		if err != nil {
			return err
		}
	}
	return s.session.execute(ctx)
}
