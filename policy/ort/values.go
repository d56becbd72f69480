package ort

import (
	"context"
	"fmt"

	pb "github.com/advancedclimatesystems/gonnx/onnx"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Values is a loaded policy.onnx of a bundle with an L1 head: a whole chunk in
// one pass, as numbers. Runs must not overlap.
type Values struct {
	manifest *bundle.Manifest
	session  *session
	names    []string
	values   []float32
}

// Values loads the bundle's graph, as Fused does that of a policy of tokens.
func (r *Runtime) Values(b *bundle.Bundle) (*Values, error) {
	if err := r.checkPrecision(b); err != nil {
		return nil, err
	}
	want := []port{{name: "values", elem: pb.TensorProto_FLOAT, dims: []int64{free, int64(b.Manifest.Action.Tokens())}}}
	in, out, err := checkGraph(b, bundle.GraphFile, observationPorts(&b.Manifest), want)
	if err != nil {
		return nil, err
	}
	v := &Values{manifest: &b.Manifest, names: in}
	err = r.load(b.Path(bundle.GraphFile), bundle.GraphFile, in, out, &v.session, func(ctx context.Context) error {
		o := probeObservation(&b.Manifest)
		_, err := v.Run(ctx, &o, 1)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", b.Dir, err)
	}
	return v, nil
}

// Close frees the graph.
func (v *Values) Close() error { return v.session.close() }

// Run predicts chunks [batch, L], normalised; they are good until the next Run.
// When ctx ends, the running graph is terminated and ctx's error returned.
func (v *Values) Run(ctx context.Context, o *Observation, batch int) ([]float32, error) {
	for i, name := range v.names {
		if err := o.fill(&v.session.inputs[i], name, v.manifest, batch); err != nil {
			return nil, err
		}
	}
	if err := v.session.execute(ctx); err != nil {
		return nil, err
	}
	var err error
	if v.values, _, err = take(v.session, 0, v.values); err != nil {
		return nil, err
	}
	if want := batch * v.manifest.Action.Tokens(); len(v.values) != want {
		return nil, fmt.Errorf("onnxruntime: %s: %w: %d values, want %d", v.session.name, ErrGraph, len(v.values), want)
	}
	return v.values, nil
}
