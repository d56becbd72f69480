package weights

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/ddvla/ddvla/weights/onnx"
)

// pieceBytes bounds the weights of a part of the network that is in memory at a
// time: an export of a large checkpoint stays below 2 GB.
const pieceBytes = 300_000_000

const (
	partGraph   = "part.onnx"
	partWeights = "part.onnx.data"
)

// What a network hands from a part to the next one stays in memory for every sample
// that is under way: 250 MB each for 7B, so few of a large network are at a time,
// though its parts are then loaded again for others.
const (
	manyTogether = 8
	fewTogether  = 2
)

// pieces runs a network on all samples of a trial, some of them at a time, part after
// part: a part is loaded, run on each of these, and freed before the next one. Between
// them only what later parts need is kept.
type pieces struct {
	trial *trial
	graph *onnx.Graph
	dir   string // of the weights; the parts are written there too and removed
	work  *meter
	bytes int64 // that all parts together are counted as
	limit int64 // of a part's weights, pieceBytes but in tests
	// together is how many samples are run at a time.
	together int
	// weights makes the part's weights and says where they lie.
	weights func(*onnx.Part) (*onnx.Store, error)
}

// all returns the result and the largest numbers of each sample.
func (r *pieces) all() (results [][2][]float32, err error) {
	parts, err := r.graph.Cut(r.limit)
	if err != nil {
		return nil, err
	}
	defer func() {
		err = errors.Join(err, os.RemoveAll(filepath.Join(r.dir, partGraph)), os.RemoveAll(filepath.Join(r.dir, partWeights)))
	}()
	groups := slices.Collect(slices.Chunk(r.trial.samples, r.together))
	runs, done := int64(len(groups)*len(parts)), int64(0)
	for _, samples := range groups {
		got, err := r.some(parts, samples, func() {
			r.work.add(int(r.bytes*(done+1)/runs - r.bytes*done/runs))
			done++
		})
		if err != nil {
			return nil, err
		}
		results = append(results, got...)
	}
	return results, nil
}

// some is all for samples that are run at a time; ran is called after each part.
func (r *pieces) some(parts []onnx.Part, samples []trialSample, ran func()) (results [][2][]float32, err error) {
	var states []map[string]onnxruntime.Value
	defer func() {
		for _, state := range states {
			for _, v := range state {
				err = errors.Join(err, v.Destroy())
			}
		}
	}()
	for i := range samples {
		s := &samples[i]
		state, err := s.observation.Tensors(&r.trial.manifest, s.rows, s.tokens)
		if err != nil {
			return nil, err
		}
		states = append(states, state)
	}
	for i := range parts {
		if err := r.part(&parts[i], states); err != nil {
			return nil, fmt.Errorf("part %d of %d: %w", i+1, len(parts), err)
		}
		ran()
		// What no later part reads is freed.
		for _, state := range states {
			for name, v := range state {
				later := slices.ContainsFunc(parts[i+1:], func(p onnx.Part) bool { return slices.Contains(p.Inputs, name) })
				if !later && name != trialResult && name != trialLargest {
					if err := v.Destroy(); err != nil {
						return nil, err
					}
					delete(state, name)
				}
			}
		}
	}
	for _, state := range states {
		var pair [2][]float32
		for k, name := range []string{trialResult, trialLargest} {
			t, ok := state[name].(*onnxruntime.Tensor[float32])
			if !ok {
				return nil, fmt.Errorf("the network gives %T as its %s", state[name], name)
			}
			pair[k] = slices.Clone(t.GetData())
		}
		results = append(results, pair)
	}
	return results, nil
}

// part runs one part on every sample's state and adds its outputs to it.
func (r *pieces) part(p *onnx.Part, states []map[string]onnxruntime.Value) (err error) {
	store, err := r.weights(p)
	if err != nil {
		return err
	}
	// What Go no longer uses makes room for what ONNX Runtime is about to load.
	debug.FreeOSMemory()
	types := map[string]onnx.Type{}
	for _, name := range p.Inputs {
		v, ok := states[0][name]
		if !ok {
			return fmt.Errorf("input %q is made by no part before", name)
		}
		types[name] = onnx.Type(v.DataType())
	}
	raw, err := p.Marshal("ddvla", store, types)
	if err != nil {
		return err
	}
	path := filepath.Join(r.dir, partGraph)
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return err
	}
	model, err := r.trial.runtime.Model(path, p.Inputs, p.Outputs)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, model.Close()) }()
	for _, state := range states {
		inputs := make([]onnxruntime.Value, len(p.Inputs))
		for i, name := range p.Inputs {
			inputs[i] = state[name]
		}
		outputs, err := model.Run(r.work.ctx, inputs)
		if err != nil {
			return err
		}
		for i, name := range p.Outputs {
			state[name] = outputs[i]
		}
	}
	return nil
}
