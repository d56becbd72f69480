package weights

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/weights/onnx"
)

// maxReference bounds the float32 weights, in bytes, of a network that is written
// and run whole to be compared with; a network of 7B parameters would need 28 GB of
// disk and memory for it.
const maxReference = 2_000_000_000

// instructions of the made observations; a prompt of each must fit the policy.
var instructions = [...]string{
	"pick up the red cube", "open the drawer", "put the bowl on the plate", "close the left gripper",
	"fold the towel", "hand the cup to the right arm", "push the blue block to the left", "reach for the green cube",
}

// trial runs a network in float32 and quantised on the same made observations.
type trial struct {
	runtime      *ort.Runtime
	codec        *action.Codec
	manifest     bundle.Manifest
	plain        *network // the same in float32
	observations []ort.Observation
	// tokens of each observation, rows of L: all masked, and half masked.
	tokens [][]int64
	// want is what float32 gives for each observation.
	want [][]float32
}

// newTrial prepares a trial; dir holds the bundle's tokenizer and statistics. An
// error says why the damage cannot be measured.
func (j *job) newTrial(dir string) (*trial, error) {
	t := &trial{plain: j.network.unquantised(), manifest: j.manifest}
	if n := t.plain.storeBytes(); n > maxReference {
		return nil, fmt.Errorf("the weights have %.3g GB in float32, and networks of up to %.3g GB are compared", float64(n)/1e9, maxReference/1e9)
	}
	t.manifest.Files = map[string]string{bundle.GraphFile: "", bundle.StepFile: ""}
	tokenizer, err := text.Open(filepath.Join(dir, bundle.TokenizerFile), t.manifest.Prompt, t.manifest.Tokens)
	if err != nil {
		return nil, err
	}
	if err := t.observe(tokenizer); err != nil {
		return nil, err
	}
	if t.codec, err = action.New(&bundle.Bundle{Dir: dir, Manifest: t.manifest}); err != nil {
		return nil, err
	}
	if t.runtime, err = ort.Open(ort.Config{}); err != nil {
		return nil, err
	}
	return t, nil
}

// unquantised is the network with its linear layers in float32.
func (n *network) unquantised() *network {
	plain, llama := *n, *n.llama
	llama.quantised = nil
	plain.llama = &llama
	return &plain
}

// observe makes the observations, the same ones for every export of a network.
func (t *trial) observe(tokenizer *text.Tokenizer) error {
	random := rand.New(rand.NewPCG(1, 2))
	m := &t.manifest
	for _, instruction := range instructions {
		ids, _, err := tokenizer.Prompt(instruction)
		if err != nil {
			return err
		}
		o := ort.Observation{PromptIDs: ids}
		for range m.Cameras {
			o.Images = append(o.Images, picture(random, m.Model.ImageSize)...)
		}
		if m.Proprio != nil {
			for range m.Proprio.Dims {
				o.Proprio = append(o.Proprio, 2*random.Float32()-1)
			}
		}
		slots := m.Action.Tokens()
		tokens := slices.Repeat([]int64{-1}, 2*slots)
		for _, i := range random.Perm(slots)[:slots/2] {
			tokens[slots+i] = random.Int64N(int64(m.Tokens.Bins))
		}
		if m.Model.Head != bundle.L1Head {
			o.Images = slices.Concat(o.Images, o.Images)
			o.PromptIDs = slices.Concat(o.PromptIDs, o.PromptIDs)
			o.Proprio = slices.Concat(o.Proprio, o.Proprio)
		}
		t.observations, t.tokens = append(t.observations, o), append(t.tokens, tokens)
	}
	return nil
}

// picture is RGB in tiles of random colours with some noise: pictures have areas,
// which noise alone has not.
func picture(random *rand.Rand, side int) []byte {
	const tiles = 8
	var colours [tiles * tiles * 3]int
	for i := range colours {
		colours[i] = random.IntN(256)
	}
	pixels := make([]byte, 0, side*side*3)
	for y := range side {
		for x := range side {
			tile := y*tiles/side*tiles + x*tiles/side
			for c := range 3 {
				pixels = append(pixels, byte(min(max(colours[3*tile+c]+random.IntN(33)-16, 0), 255)))
			}
		}
	}
	return pixels
}

// reference writes the network in float32 below dir, runs it and removes it: two
// networks are never on disk.
func (t *trial) reference(j *job, dir string, work *meter) (err error) {
	dir = filepath.Join(dir, "float32")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	store, _, err := j.writeWeights(t.plain, filepath.Join(dir, bundle.WeightsFile), work)
	if err != nil {
		return err
	}
	name, graph := t.plain.trialGraph(store)
	raw, err := graph.Marshal("ddvla")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
		return err
	}
	t.want, err = t.run(work.ctx, dir)
	return err
}

// trialGraph is the graph of one pass.
func (n *network) trialGraph(store *onnx.Store) (name string, graph *onnx.Graph) {
	if n.head != nil {
		return bundle.GraphFile, n.valuesGraph(store)
	}
	return bundle.StepFile, n.stepGraph(store)
}

// run returns what the network in dir gives for each observation: logits [2, L, K],
// or the values of an L1 head [1, L].
func (t *trial) run(ctx context.Context, dir string) (outputs [][]float32, err error) {
	b := &bundle.Bundle{Dir: dir, Manifest: t.manifest}
	if t.manifest.Model.Head == bundle.L1Head {
		values, err := t.runtime.Values(b)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, values.Close()) }()
		for i := range t.observations {
			got, err := values.Run(ctx, &t.observations[i], 1)
			if err != nil {
				return nil, err
			}
			outputs = append(outputs, slices.Clone(got))
		}
		return outputs, nil
	}
	step, err := t.runtime.Step(b)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, step.Close()) }()
	for i := range t.observations {
		var logits decode.Logits
		if err := step.Logits(&t.observations[i])(ctx, 0, t.tokens[i], &logits); err != nil {
			return nil, err
		}
		outputs = append(outputs, logits.Values)
	}
	return outputs, nil
}

// damage runs the quantised network in dir and compares.
func (t *trial) damage(ctx context.Context, dir string) (*bundle.Damage, error) {
	got, err := t.run(ctx, dir)
	if err != nil {
		return nil, err
	}
	return t.compare(got)
}

func (t *trial) compare(got [][]float32) (*bundle.Damage, error) {
	d := &bundle.Damage{Observations: len(got)}
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
		if t.manifest.Model.Head == bundle.L1Head {
			if err := actions(d, t.codec.ChunkFromRegression, got[i], t.want[i]); err != nil {
				return nil, err
			}
			continue
		}
		ours, theirs := likeliest(got[i], t.tokens[i]), likeliest(t.want[i], t.tokens[i])
		for at, token := range t.tokens[i] {
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
