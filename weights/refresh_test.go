package weights

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
)

// refreshed is a decoding by the fused graph.
type refreshed struct {
	about   string
	refresh int
	o       ort.Observation
	in      *decode.Inputs
	have    *ort.FusedOutputs
}

// decodeRefreshed decodes T rounds of a bundle with each refresh, batches of one row and of three
// with padded prompts.
func decodeRefreshed(t *testing.T, runtime *ort.Runtime, b *bundle.Bundle, T int, refreshes []int) (list []*refreshed) {
	t.Helper()
	fused, err := runtime.Fused(b)
	if err != nil {
		t.Fatal(err)
	}
	defer fused.Close()
	m := &b.Manifest
	rng := rand.New(rand.NewPCG(uint64(T), 8))
	noise := decode.NewNoise(23)
	presets := decode.Presets()
	for _, refresh := range refreshes {
		for _, batch := range []int{1, 3} {
			p := decode.Params{Preset: presets[len(list)%len(presets)], Rounds: T, Refresh: refresh}
			l := m.Action.Tokens()
			in, err := p.Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, noise)
			if err != nil {
				t.Fatal(err)
			}
			in.RecomputePrefix[0] = batch > 1 // it is not read
			for _, a := range []*decode.Array{&in.TokenNoise, &in.ChoiceNoise} {
				a.Shape, a.Data = slices.Clone(a.Shape), slices.Clone(a.Data) // theirs are used again
			}
			at := rng.IntN(l)
			in.Initial[at], in.InitialConfidence[at] = rng.Int64N(int64(in.Bins)), 0.5
			r := &refreshed{about: fmt.Sprintf("%s, refresh %d, %d rows", p.Preset, refresh, batch), refresh: refresh, o: observe(rng, m, batch), in: in}
			if r.have, err = fused.Run(t.Context(), &ort.FusedInputs{Observation: r.o, Inputs: in}); err != nil {
				t.Fatal(err)
			}
			if err := decode.CheckConfidence(r.have.Confidence, in); err != nil {
				t.Errorf("%s: %v", r.about, err)
			}
			list = append(list, r)
		}
	}
	return list
}

// before are the tokens before each round that ran, [rounds][B][L].
func (r *refreshed) before() (rounds [][][]int64) {
	row := make([]int64, len(r.in.Known))
	for i := range row {
		row[i] = max(r.in.Known[i], r.in.Initial[i])
	}
	all := append(row, r.have.TraceBins[:len(r.have.TraceBins)-len(row)]...)
	for tokens := range slices.Chunk(all, len(row)) {
		rounds = append(rounds, slices.Collect(slices.Chunk(tokens, r.in.Positions)))
	}
	return rounds
}

// job is a case of testdata/refresh.py.
func (r *refreshed) job() map[string]any {
	split := func(n int) int { return n / r.in.Batch }
	var images [][]int
	for picture := range slices.Chunk(r.o.Images, split(len(r.o.Images))) {
		row := make([]int, len(picture))
		for i, v := range picture {
			row[i] = int(v)
		}
		images = append(images, row)
	}
	c := map[string]any{
		"images": images, "prompt_ids": slices.Collect(slices.Chunk(r.o.PromptIDs, split(len(r.o.PromptIDs)))),
		"prompt_length": r.o.PromptLength, "recompute": r.in.RecomputePrefix, "tokens": r.before(),
	}
	if len(r.o.Proprio) > 0 {
		c["proprio"] = slices.Collect(slices.Chunk(r.o.Proprio, split(len(r.o.Proprio))))
	}
	return c
}

// decoded is what the Go decoder makes of logits of each round.
func (r *refreshed) decoded(t *testing.T, logits []float32) *decode.Result {
	t.Helper()
	size := len(r.in.Known) * r.in.Bins
	res, err := decode.Decode(t.Context(), func(_ context.Context, round int, _ []int64, out *decode.Logits) error {
		if (round+1)*size > len(logits) {
			return errors.New("the graph ended before")
		}
		copy(out.Values, logits[round*size:])
		return nil
	}, r.in)
	if err != nil {
		t.Fatalf("%s: %v", r.about, err)
	}
	return res
}

// pyTorchRefreshed are the logits of decodings by testdata/refresh.py.
func pyTorchRefreshed(t *testing.T, s *sample, list []*refreshed) reference {
	t.Helper()
	train, err := filepath.Abs("../train")
	if err != nil {
		t.Fatal(err)
	}
	there := *s
	there.results = t.TempDir()
	var cases []map[string]any
	for _, r := range list {
		cases = append(cases, r.job())
	}
	stdin, err := json.Marshal([]any{map[string]any{
		"checkpoint": s.dir, "images": s.images, "slots": s.chunk * s.dims, "cases": cases, "out": filepath.Join(there.results, "logits.safetensors"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	pytest.Run(t, stdin, "testdata/refresh.py", train)
	return there.load(t, "logits.safetensors")
}

// TestRefreshAgreesWithPyTorch: rounds that leave the prefix as it was give the tokens that
// the Go decoder makes of the PyTorch network's logits, whose keys and values
// of the prefix are kept from the last round that recomputed it, but after a near
// tie. Neither a prefix that is recomputed in all rounds nor one that never is
// gives the same, but in a model of one layer, where no token is seen that has
// seen the action tokens.
func TestRefreshAgreesWithPyTorch(t *testing.T) {
	const T = 6
	runtime := openRuntime(t)
	all := references(t)
	decodes, differing := 0, 0
	for _, at := range []int{0, 1, 2, 4} {
		s, refreshes := all[at], []int{1, 2, 3, T}
		if at == 4 {
			refreshes = []int{2} // the trained one, which takes longer
		}
		t.Run(s.name, func(t *testing.T) {
			b := s.export(t)
			list := decodeRefreshed(t, runtime, b, T, refreshes)
			want := pyTorchRefreshed(t, &s, list)
			deep := b.Manifest.Model.Layers > 1
			for i, r := range list {
				decodes++
				reference := r.decoded(t, want[fmt.Sprint(i)])
				if same, margin := sameTokens(r.in, r.have, reference); !same {
					differing++
					if !(margin < 1e-4) {
						t.Errorf("%s: tokens differ at margin %g", r.about, margin)
					}
					continue
				}
				d := max(largestDifference(r.have.TraceConfidence, reference.TraceConfidence), largestDifference(r.have.Mean, reference.Mean))
				if !(d < 2e-5) {
					t.Errorf("%s: confidences or means differ by %g", r.about, d)
				}
				for kind, alike := range map[string]bool{
					"exact": !deep || r.refresh == 1 || r.have.Rounds == 1,
					"stale": !deep || r.refresh >= r.have.Rounds,
				} {
					other := largestDifference(want[fmt.Sprint(i)], want[fmt.Sprintf("%d.%s", i, kind)])
					if alike != (other < 1e-4) || !alike && !(other > 1e-2) {
						t.Errorf("%s, %d rounds: the logits differ by %g from those of a prefix that is %s", r.about, r.have.Rounds, other, kind)
					}
				}
				t.Logf("%s, %d rounds: confidences and means differ by %.2g", r.about, r.have.Rounds, d)
			}
		})
	}
	if differing > 1 {
		t.Errorf("%d of %d decodes differ", differing, decodes)
	}
}

// TestRefreshOneIsTheExactGraph: recomputing in every round is, to the bit, the
// graph without recompute_prefix, also with integer weights and the full
// vocabulary. In float16 it need not be: ONNX Runtime's CPU provider computes in
// float32 and rounds where no other node of its own follows.
func TestRefreshOneIsTheExactGraph(t *testing.T) {
	runtime := openRuntime(t)
	all := references(t)
	for _, run := range []struct {
		sample     int
		vocabulary bundle.Vocabulary
		precision  string
	}{
		{0, bundle.ActionVocabulary, precisionFP32}, {1, bundle.FullVocabulary, precisionFP32}, {2, bundle.ActionVocabulary, precisionFP32},
		{4, bundle.ActionVocabulary, precisionFP32}, {1, bundle.ActionVocabulary, precisionInt8},
	} {
		s := all[run.sample]
		t.Run(fmt.Sprint(s.name, ", ", run.vocabulary, ", ", run.precision), func(t *testing.T) {
			o := s.options(filepath.Join(t.TempDir(), "bundle"))
			o.Vocabulary, o.Precision = run.vocabulary, run.precision
			b := exported(t, o)
			exact := decodeRefreshed(t, runtime, b, 5, []int{1, 1})
			for i, want := range decodeRefreshed(t, runtime, withoutRefresh(t, b, o), 5, []int{1, 1}) {
				have, want := exact[i].have, want.have
				if !slices.Equal(have.TraceBins, want.TraceBins) || !slices.Equal(have.TraceConfidence, want.TraceConfidence) ||
					!slices.Equal(have.Bins, want.Bins) || !slices.Equal(have.Mean, want.Mean) || have.Rounds != want.Rounds {
					t.Errorf("%s: not the same bits", exact[i].about)
				}
			}
		})
	}
}

// TestRefreshOfOtherTypes: keys and values are kept in the language model's type. What the
// type does to the probabilities of tokens is less than what exact decoding does.
func TestRefreshOfOtherTypes(t *testing.T) {
	const T = 4
	runtime := openRuntime(t)
	s := references(t)[0]
	for _, change := range []func(o *Options){
		func(o *Options) { o.Precision = precisionFP16 },
		func(o *Options) { o.Precision = precisionInt8 },
		func(o *Options) { o.Precision, o.Activations = precisionInt8, precisionFP16 },
	} {
		b := s.exportWith(t, change)
		name := fmt.Sprint(b.Manifest.Model.Precision, " ", b.Manifest.Model.Activations)
		list := decodeRefreshed(t, runtime, b, T, []int{2, T})
		want := pyTorchRefreshed(t, &s, list)
		for i, r := range list {
			ours, exact := r.off(want[fmt.Sprint(i)]), r.off(want[fmt.Sprintf("%d.exact", i)])
			t.Logf("%s, %s, %d rounds: probabilities are off by %.2g, from exact ones by %.2g", name, r.about, r.have.Rounds, ours, exact)
			if !(ours < exact/4) {
				t.Errorf("%s, %s: probabilities are off by %g, from exact ones by %g", name, r.about, ours, exact)
			}
		}
	}
}

// off is the root mean square distance of the confidences of tokens that are
// committed from what logits of each round give them.
func (r *refreshed) off(logits []float32) float64 {
	var differences []float64
	for round, rows := range r.before() {
		for row, tokens := range rows {
			if !slices.Contains(tokens, -1) {
				continue // the confidences are of a round before
			}
			for position := range tokens {
				at := (round*r.in.Batch+row)*r.in.Positions + position
				if bin := r.have.TraceBins[at]; bin >= 0 {
					of, sum := logits[at*r.in.Bins:][:r.in.Bins], 0.0
					for _, x := range of {
						sum += math.Exp(float64(x - of[bin]))
					}
					differences = append(differences, float64(r.have.TraceConfidence[at])-1/sum)
				}
			}
		}
	}
	return rms(differences)
}
