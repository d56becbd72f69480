package ort

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Model is a loaded graph that is no bundle's, such as a part of a network that is
// run piece by piece (onnx.Part). Runs must not overlap.
type Model struct{ session *session }

// Model loads the model file at path. Its weights are used where they lie in
// their file, and are not rearranged for speed, which would copy them.
func (r *Runtime) Model(path string, inputs, outputs []string) (*Model, error) {
	return r.model(path, inputs, outputs, "1")
}

// PackedModel is Model with the weights rearranged for speed, as those of a bundle's graphs
// are: for a model that runs many times.
func (r *Runtime) PackedModel(path string, inputs, outputs []string) (*Model, error) {
	return r.model(path, inputs, outputs, "0")
}

func (r *Runtime) model(path string, inputs, outputs []string, disablePrepacking string) (*Model, error) {
	options, err := r.options()
	if err != nil {
		return nil, err
	}
	m := &Model{}
	err = options.AddSessionConfigEntry("session.disable_prepacking", disablePrepacking)
	if err == nil {
		m.session, err = newSession(path, filepath.Base(path), inputs, outputs, options)
	}
	if err = errors.Join(err, options.Destroy()); err != nil {
		return nil, err
	}
	return m, nil
}

// Run returns the outputs for inputs in the order of Model; they are the caller's,
// to Destroy.
func (m *Model) Run(ctx context.Context, inputs []onnxruntime.Value) ([]onnxruntime.Value, error) {
	if err := m.session.executeOn(ctx, inputs); err != nil {
		return nil, err
	}
	out := make([]onnxruntime.Value, len(m.session.outputs))
	copy(out, m.session.outputs)
	clear(m.session.outputs)
	return out, nil
}

// Close frees the graph.
func (m *Model) Close() error { return m.session.close() }

// lengths are those of the prompts.
func (o *Observation) lengths(batch int) []int64 {
	if o.PromptLength != nil {
		return o.PromptLength
	}
	return slices.Repeat([]int64{int64(len(o.PromptIDs) / batch)}, batch)
}

// Tensors are a step graph's inputs for tokens, rows of L bins or -1; nil for the
// graph of an L1 head, which takes none. They are the caller's, to Destroy.
func (o *Observation) Tensors(m *bundle.Manifest, batch int, tokens []int64) (_ map[string]onnxruntime.Value, err error) {
	values := map[string]onnxruntime.Value{}
	defer func() {
		if err != nil {
			for _, v := range values {
				err = errors.Join(err, v.Destroy())
			}
		}
	}()
	add := func(name string, v onnxruntime.Value, e error) {
		if e == nil {
			values[name] = v
		} else if err == nil {
			err = fmt.Errorf("onnxruntime: input %s: %w", name, e)
		}
	}
	b, side := int64(batch), int64(m.Model.ImageSize)
	images, e := onnxruntime.NewTensor(onnxruntime.NewShape(b, int64(len(m.Cameras)), side, side, 3), o.Images)
	add("images", images, e)
	ids, e := onnxruntime.NewTensor(onnxruntime.NewShape(b, int64(len(o.PromptIDs)/batch)), o.PromptIDs)
	add("prompt_ids", ids, e)
	lengths, e := onnxruntime.NewTensor(onnxruntime.NewShape(b), o.lengths(batch))
	add("prompt_length", lengths, e)
	if m.Proprio != nil {
		proprio, e := onnxruntime.NewTensor(onnxruntime.NewShape(b, int64(len(m.Proprio.Dims))), o.Proprio)
		add("proprio", proprio, e)
	}
	if tokens != nil {
		t, e := onnxruntime.NewTensor(onnxruntime.NewShape(b, int64(len(tokens)/batch)), tokens)
		add("tokens", t, e)
	}
	return values, err
}
