package weights

import (
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// ErrOverflow says that a network's numbers are too large for float16.
var ErrOverflow = errors.New("overflow of float16")

// trial runs a network in float32 and as the bundle has it on the same
// observations.
type trial struct {
	runtime  *ort.Runtime
	codec    *action.Codec
	manifest bundle.Manifest
	network  *network
	plain    *network // the same in float32
	given    bool
	samples  []trialSample
	// want is what float32 gives for each sample.
	want [][]float32
	// largest numbers of the float32 run that the bundle holds in a half-width type.
	watched []onnx.Watched
	largest []float32
}

// trialSample is an observation, twice for rows of tokens that are all masked and
// half masked; once for an L1 head.
type trialSample struct {
	observation ort.Observation
	tokens      []int64 // rows of L; nil with an L1 head
	rows        int
}

// newTrial prepares a trial. An error says why the damage cannot be measured.
func (j *job) newTrial(o *Options) (_ *trial, err error) {
	t := &trial{network: j.network, plain: j.network.unquantised(), manifest: j.manifest, codec: j.codec, given: len(o.Observations) > 0}
	if t.given {
		err = t.take(j.tokenizer, o.Observations)
	} else {
		err = t.invent(j.tokenizer)
	}
	if err != nil {
		return nil, err
	}
	if t.runtime, err = ort.Open(ort.Config{}); err != nil {
		return nil, err
	}
	return t, nil
}

// unquantised is the network without integers, its half-width parts still known as
// such.
func (n *network) unquantised() *network {
	plain, llama := *n, *n.llama
	llama.quantised = nil
	plain.llama = &llama
	return &plain
}

// inFloat32 is the network with all of its weights in float32.
func (n *network) inFloat32() *network {
	plain := n.unquantised()
	plain.types = numberTypes{onnx.Float32, onnx.Float32}
	return plain
}

// reference runs the network in float32. No two parts of it are in dir or in memory
// at a time.
func (t *trial) reference(j *job, dir string, work *meter) error {
	// The store has the weights' names and shapes; each part writes its own.
	store := onnx.NewStore(bundle.WeightsFile, nil)
	full := t.plain.inFloat32()
	for _, g := range full.allTensors() {
		if err := store.Reserve(g.name, g.elem, g.dims); err != nil {
			return err
		}
	}
	graph, watched := t.plain.trialGraph(store, onnx.Exact)
	run := pieces{
		trial: t, graph: graph, dir: dir, work: work, limit: pieceBytes, together: t.together(), bytes: full.storeBytes(),
		weights: func(part *onnx.Part) (*onnx.Store, error) {
			quiet := &meter{ctx: work.ctx}
			return j.writeSome(full, filepath.Join(dir, partWeights), quiet, io.Discard, func(name string) bool { return slices.Contains(part.Weights, name) })
		},
	}
	results, err := run.all()
	if err != nil {
		return err
	}
	t.watched, t.largest = watched, make([]float32, len(watched))
	for _, r := range results {
		t.want = append(t.want, r[0])
		if len(r[1]) != len(watched) {
			return fmt.Errorf("the largest of %d numbers are known, want %d", len(r[1]), len(watched))
		}
		for i, v := range r[1] {
			t.largest[i] = max(t.largest[i], v)
		}
	}
	return t.checkOverflow()
}

// together is how many samples are run at a time.
func (t *trial) together() int {
	if t.large() {
		return fewTogether
	}
	return manyTogether
}

// large reports whether the network is one of which a sample takes minutes, and much
// memory.
func (t *trial) large() bool { return t.plain.inFloat32().storeBytes() > manyBytes }

// checkOverflow refuses numbers that float16 cannot hold, and names where they arise
// first.
func (t *trial) checkOverflow() error {
	var over []int
	for i, w := range t.watched {
		if w.Type == onnx.Float16 && !(t.largest[i] < float16Overflow) {
			over = append(over, i)
		}
	}
	if len(over) == 0 {
		return nil
	}
	return fmt.Errorf("%w: %s reaches %.4g, float16 ends at %d; so do %d other results; export with bf16 or fp32 instead of fp16",
		ErrOverflow, t.watched[over[0]].Name, t.largest[over[0]], onnx.MaxFloat16, len(over)-1)
}

// float16Overflow is the least number that rounds to infinity.
const float16Overflow = 65520

// trialGraph is the graph of one pass, computed in float32: the result, and the
// largest numbers with their names.
func (n *network) trialGraph(store *onnx.Store, arithmetic onnx.Arithmetic) (*onnx.Graph, []onnx.Watched) {
	g := onnx.New("trial", store)
	g.SetArithmetic(arithmetic)
	o := n.observe(g)
	if n.head != nil {
		g.Output(trialResult, n.values(g, o), onnx.Float32)
	} else {
		tokens := g.Input("tokens", onnx.Int64)
		logits, _ := n.logits(g, n.encode(g, o), tokens, float64Type)
		g.Output(trialResult, logits, onnx.Float32)
	}
	largest, watched := g.Largest()
	g.Output(trialLargest, largest, onnx.Float32)
	return g, watched
}

const (
	trialResult  = "result"
	trialLargest = "largest"
)

// damage runs the network of the bundle in dir, whose weights are in store, and compares.
func (t *trial) damage(dir string, store *onnx.Store, work *meter) (*bundle.Damage, error) {
	graph, _ := t.network.trialGraph(store, onnx.Rounded)
	run := pieces{
		trial: t, graph: graph, dir: dir, work: work, limit: pieceBytes, together: t.together(), bytes: t.network.storeBytes(),
		weights: func(*onnx.Part) (*onnx.Store, error) { return store, work.ctx.Err() },
	}
	results, err := run.all()
	if err != nil {
		return nil, err
	}
	var got [][]float32
	for _, r := range results {
		got = append(got, r[0])
	}
	return t.compare(got)
}

func (t *trial) compare(got [][]float32) (*bundle.Damage, error) {
	d := &bundle.Damage{Observations: len(got), Given: t.given}
	for _, dim := range t.manifest.Action.Dims {
		unit := dim.Unit
		if dim.Gripper != nil {
			unit = "m" // whatever the model's own is
		}
		d.Actions = append(d.Actions, bundle.ActionDamage{Name: dim.Name, Unit: unit})
	}
	sum, count, equal := 0.0, 0, 0
	for i := range got {
		for at, v := range got[i] {
			difference := math.Abs(float64(v) - float64(t.want[i][at]))
			if math.IsNaN(difference) || math.IsInf(difference, 0) {
				return nil, fmt.Errorf("observation %d of %d: output %d is %g, in float32 %g; the weights are broken", i+1, len(got), at, v, t.want[i][at])
			}
			d.OutputLargest = max(d.OutputLargest, difference)
			sum += difference
			count++
		}
		tokens := t.samples[i].tokens
		if t.manifest.Model.Head == bundle.L1Head {
			if err := actions(d, t.codec.ChunkFromRegression, got[i], t.want[i]); err != nil {
				return nil, err
			}
			continue
		}
		ours, theirs := likeliest(got[i], tokens), likeliest(t.want[i], tokens)
		for at, token := range tokens {
			if token < 0 {
				d.Tokens++
				if ours[at] == theirs[at] {
					equal++
				}
			}
		}
		for slots := t.manifest.Action.Tokens(); len(ours) > 0; ours, theirs = ours[slots:], theirs[slots:] {
			if err := actions(d, t.codec.ChunkFromBins, ours[:slots], theirs[:slots]); err != nil {
				return nil, err
			}
		}
	}
	d.OutputMean = short(sum / float64(count))
	d.OutputLargest = short(d.OutputLargest)
	if d.Tokens > 0 {
		d.TokensEqual = short(float64(equal) / float64(d.Tokens))
	}
	for i := range d.Actions {
		d.Actions[i].Largest = short(d.Actions[i].Largest)
	}
	for i, w := range t.watched {
		if v := float64(t.largest[i]); w.Type == onnx.Float16 && (d.Largest == nil || v > d.Largest.Value) {
			d.Largest = &bundle.LargestNumber{Node: w.Name, Value: v}
		}
	}
	if d.Largest != nil {
		d.Largest.Value = short(d.Largest.Value)
	}
	return d, nil
}

// likeliest are the most probable bins where tokens are masked, and the tokens
// elsewhere.
func likeliest(logits []float32, tokens []int64) []int64 {
	bins, k := slices.Clone(tokens), len(logits)/len(tokens)
	for i, token := range tokens {
		if token < 0 {
			row := logits[i*k : (i+1)*k]
			bins[i] = int64(slices.Index(row, slices.Max(row)))
		}
	}
	return bins
}

// actions notes the largest differences of two chunks in robot units.
func actions[T any](d *bundle.Damage, chunk func([]T) (*action.Chunk, error), ours, theirs []T) error {
	a, err := chunk(ours)
	if err != nil {
		return err
	}
	b, err := chunk(theirs)
	if err != nil {
		return err
	}
	for i, v := range a.Values {
		at := &d.Actions[i%a.Dims]
		at.Largest = max(at.Largest, math.Abs(v-b.Values[i]))
	}
	return nil
}

// short rounds to what is worth writing.
func short(v float64) float64 {
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 4, 64), 64)
	return rounded
}
