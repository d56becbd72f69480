package weights

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
)

func loadAutoregressive(t testing.TB, runtime *ort.Runtime, b *bundle.Bundle) *ort.Autoregressive {
	t.Helper()
	a, err := runtime.Autoregressive(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

// autoregressiveInputs are those of rows in which nothing is given.
func autoregressiveInputs(t testing.TB, m *bundle.Manifest, batch int, noise *decode.Noise, temperature ...float64) *decode.Inputs {
	t.Helper()
	l := m.Action.Tokens()
	in, err := decode.Params{Preset: decode.Autoregressive, Rounds: 1, TokenTemperature: temperature}.
		Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, noise)
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The tokens of the graph that keeps keys and values are those of the PyTorch network
// that runs the whole sequence under a causal mask for each, but after a near tie. The
// comparison notices that the attention is causal.
func TestAutoregressiveAgreesWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	compared, near, other := 0, 0, 0
	for _, s := range references(t)[:3] {
		b := s.exportKind(t, bundle.Causal)
		a := loadAutoregressive(t, runtime, b)
		for number, c := range s.cases {
			want := s.reference(t, number)
			bins, gaps, bidirectional := integers(want["autoregressive"]), want["autoregressive.gaps"], integers(want["autoregressive.bidirectional"])
			in := autoregressiveInputs(t, &b.Manifest, c.batch, decode.NewNoise(0))
			have, err := a.Run(t.Context(), &ort.FusedInputs{Observation: *want.observation(&s), Inputs: in})
			if err != nil {
				t.Fatal(err)
			}
			l := in.Positions
			if len(bins) != c.batch*l {
				t.Fatalf("%d tokens of %d rows", len(bins), c.batch)
			}
			for row := range c.batch {
				for at := row * l; at < (row+1)*l; at++ {
					compared++
					if bidirectional[at] != bins[at] {
						other++
					}
					if have.Bins[at] == bins[at] {
						continue
					}
					if near++; !(gaps[at] < 1e-4) {
						t.Errorf("%s, case %d, row %d: token %d is %d, in PyTorch %d by %g", s.name, number, row, at-row*l, have.Bins[at], bins[at], gaps[at])
					}
					break // what follows has seen another token
				}
			}
		}
	}
	t.Logf("%d tokens compared, %d near ties, %d others with bidirectional attention", compared, near, other)
	if near > 2 || other < compared/4 {
		t.Error("too many near ties, or attention makes no difference")
	}
}

// The graph that keeps keys and values gives the tokens of the Go decoder, which
// computes everything anew for each token on step.onnx: with padded prompts, given
// tokens, at any temperature, with either vocabulary, of weights in integers or half
// width too. Where rounding differs, they are equal or first different at a margin
// below 1e-4, as those of the fused graph.
func TestAutoregressiveEqualsGoDecoderOverStepGraph(t *testing.T) {
	runtime := openRuntime(t)
	all := references(t)
	for _, run := range []struct {
		sample     int
		vocabulary bundle.Vocabulary
		precision  string
		decodes    int
	}{
		{0, bundle.ActionVocabulary, precisionFP32, 12}, {1, bundle.FullVocabulary, precisionFP32, 6}, {2, bundle.ActionVocabulary, precisionFP32, 6},
		{4, bundle.ActionVocabulary, precisionFP32, 1}, {1, bundle.ActionVocabulary, precisionInt8, 6}, {1, bundle.FullVocabulary, precisionInt4, 4},
		{0, bundle.ActionVocabulary, precisionFP16, 6},
	} {
		s := all[run.sample]
		t.Run(fmt.Sprint(s.name, ", ", run.vocabulary, ", ", run.precision), func(t *testing.T) {
			b := s.exportWith(t, func(o *Options) {
				o.Attention, o.Vocabulary, o.Precision = bundle.Causal, run.vocabulary, run.precision
			})
			a := loadAutoregressive(t, runtime, b)
			_, step := loaded(t, runtime, b)
			m := &b.Manifest
			// Sums of 16 bits round otherwise in another order.
			limit := float32(1e-4)
			if run.precision == precisionFP16 {
				limit = 2e-2
			}
			rng := rand.New(rand.NewPCG(uint64(run.sample), 7))
			noise := decode.NewNoise(23)
			differing, tokens := 0, 0
			for i := range run.decodes {
				batch := 1 + rng.IntN(3)
				in := autoregressiveInputs(t, m, batch, noise, []float64{0, 1, 0.5}[i%3])
				if i%2 == 1 {
					for range in.Positions / 3 {
						in.Known[rng.IntN(len(in.Known))] = rng.Int64N(int64(in.Bins))
					}
				}
				o := observe(rng, m, batch)
				have, err := a.Run(t.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
				if err != nil {
					t.Fatal(err)
				}
				want, err := decode.LeftToRight(t.Context(), step.Logits(&o), in)
				if err != nil {
					t.Fatal(err)
				}
				if err := decode.CheckConfidence(have.Confidence, in); err != nil {
					t.Error(err)
				}
				for row := range batch {
					for k := range in.Positions {
						at := row*in.Positions + k
						tokens++
						if have.Bins[at] != want.Bins[at] {
							if differing++; !(want.TraceMargin[k*batch+row] < limit) {
								t.Errorf("decode %d, row %d: token %d is %d, want %d (margin %g)", i, row, k, have.Bins[at], want.Bins[at], want.TraceMargin[k*batch+row])
							}
							break
						}
						if d := have.Confidence[at] - want.Confidence[at]; !(max(d, -d) < limit) || have.Mean[at] != want.Mean[at] {
							t.Errorf("decode %d, row %d: token %d has confidence %g and mean %g, want %g and %g",
								i, row, k, have.Confidence[at], have.Mean[at], want.Confidence[at], want.Mean[at])
						}
					}
				}
			}
			t.Logf("%d decodes, %d tokens, %d rows differ after a near tie", run.decodes, tokens, differing)
			if differing > 1 && run.precision != precisionFP16 || differing > run.decodes {
				t.Errorf("%d rows of %d decodes differ", differing, run.decodes)
			}
		})
	}
}

// The ONNX project's own checker, with full shape inference, accepts the graph of
// every kind of weights, which holds all of them, and bundles of other attention and
// those with an L1 head have none.
func TestCheckerAcceptsTheAutoregressiveGraph(t *testing.T) {
	all := references(t)
	var paths []string
	var bundles []*bundle.Bundle
	for i, change := range []func(o *Options){
		func(*Options) {}, quantised{precision: precisionInt4, block: 32}.change, func(*Options) {},
		func(o *Options) { o.Precision = precisionFP16 }, func(o *Options) { o.Precision, o.Vocabulary = precisionBF16, bundle.FullVocabulary },
	} {
		b := all[i%3].exportWith(t, func(o *Options) { change(o); o.Attention = bundle.Causal })
		bundles, paths = append(bundles, b), append(paths, b.Path(bundle.AutoregressiveFile))
	}
	var reports []struct {
		Inputs, Outputs, Operators []string
		Ports, Tensors             []string
		Opset, IR, Weights         int64
		Nodes                      int
	}
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/check.py", paths...), &reports); err != nil {
		t.Fatal(err)
	}
	for i, r := range reports {
		m := bundles[i].Manifest
		if i != 1 && r.Weights != m.Model.Parameters {
			t.Errorf("%d: %d parameters of %d", i, r.Weights, m.Model.Parameters)
		}
		describedAsByONNX(t, paths[i], r.Ports, r.Tensors, r.Nodes, r.Opset, r.IR)
		if r.Opset != 17 || r.IR != 8 || !slices.Contains(r.Operators, "Loop") || slices.Contains(r.Operators, "ArgMax") || slices.Contains(r.Operators, "TopK") {
			t.Errorf("%d: opset %d, IR %d, operators %q", i, r.Opset, r.IR, r.Operators)
		}
	}
	want := "[images prompt_ids prompt_length proprio known token_temperature token_noise] [bins confidence]"
	if got := fmt.Sprint(reports[0].Inputs, reports[0].Outputs); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	runtime := openRuntime(t)
	l1 := headed(t, 1)
	for _, b := range []*bundle.Bundle{all[0].export(t), all[0].exportKind(t, bundle.Prefix), l1.export(t)} {
		if _, err := runtime.Autoregressive(b); b.Manifest.HasAutoregressive() || err == nil || !strings.Contains(err.Error(), bundle.AutoregressiveFile) {
			t.Errorf("%s, head %q: %v", b.Manifest.Model.Attention, b.Manifest.Model.Head, err)
		}
	}
}

// BenchmarkAutoregressive compares a chunk of the trained checkpoint from left to
// right in the graph that keeps keys and values, with one call of the step graph for
// each token, turn by turn in one run: medians and their ratio. The fused graph in
// twelve rounds stands beside them.
func BenchmarkAutoregressive(b *testing.B) {
	runtime := openRuntime(b)
	s := samples()[4]
	s.dir = s.trained
	out := s.exportWith(b, func(o *Options) { o.Attention = bundle.Causal })
	a := loadAutoregressive(b, runtime, out)
	fused, step := loaded(b, runtime, out)
	m := &out.Manifest
	o := observe(rand.New(rand.NewPCG(1, 1)), m, 1)
	in := autoregressiveInputs(b, m, 1, decode.NewNoise(1))
	l := m.Action.Tokens()
	rounds, err := decode.Params{Preset: decode.Greedy, Rounds: 12, Threshold: []float64{0}}.Inputs([]int{l}, l, m.Tokens.Bins, decode.NewNoise(1))
	if err != nil {
		b.Fatal(err)
	}
	ways := []func() error{
		func() error { _, err := a.Run(b.Context(), &ort.FusedInputs{Observation: o, Inputs: in}); return err },
		func() error { _, err := decode.LeftToRight(b.Context(), step.Logits(&o), in); return err },
		func() error {
			_, err := fused.Run(b.Context(), &ort.FusedInputs{Observation: o, Inputs: rounds})
			return err
		},
	}
	took := make([][]time.Duration, len(ways))
	for b.Loop() {
		for i, way := range ways {
			start := time.Now()
			if err := way(); err != nil {
				b.Fatal(err)
			}
			took[i] = append(took[i], time.Since(start))
		}
	}
	median := func(i int) float64 {
		slices.Sort(took[i])
		return 1e3 * took[i][len(took[i])/2].Seconds()
	}
	b.ReportMetric(median(0), "cached-ms/chunk")
	b.ReportMetric(median(1), "stepwise-ms/chunk")
	b.ReportMetric(median(1)/median(0), "ratio")
	b.ReportMetric(median(2), "12-rounds-ms/chunk")
	b.ReportMetric(0, "ns/op")
}
