package weights

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// nearTie is how close a decision must have been that sums in float32 may take
// otherwise.
const nearTie = 1e-5

// TestUnrolledGraphEqualsGoDecoder: on given logits any number of rounds up to
// the unrolled one gives the tokens of decode.Decode in every round, whatever
// the options, and NaN in the rounds after changes nothing. With sums in
// float64 no token differs; in float32, as they are exported, none but after a
// near tie.
func TestUnrolledGraphEqualsGoDecoder(t *testing.T) {
	openRuntime(t)
	for name, wide := range map[string]onnx.Type{"float64": float64Type, "float32": onnx.Float32} {
		t.Run(name, func(t *testing.T) {
			fewer, all, differing := 0, 0, 0
			rapid.Check(t, func(rt *rapid.T) {
				slots, bins := rapid.IntRange(1, 24).Draw(rt, "L"), rapid.IntRange(2, 40).Draw(rt, "K")
				full, unrolled := rapid.Bool().Draw(rt, "full"), rapid.IntRange(1, 4).Draw(rt, "unrolled")
				centres := drawCentres(rt, slots, bins)
				s := newTableSession(t, denoiser{slots: slots, bins: bins, centres: centres, unrolled: unrolled, wide: wide}, full)
				defer s.handle.Destroy()
				for range 10 {
					in, given := drawCase(rt, slots, bins, unrolled, full)
					if centres != nil {
						in.Centres = centres
					}
					want, err := decode.Decode(context.Background(), given.decoder(in), in)
					if err != nil {
						rt.Fatal(err)
					}
					have := runUnrolled(t, rt, s, in, given, unrolled)
					all++
					if in.Rounds < unrolled {
						fewer++
					}
					if wide == float64Type {
						sameDecoding(rt, in, have, want, 2e-7)
					} else if same, margin := sameTokens(in, have, want); same {
						sameDecoding(rt, in, have, want, 2e-6)
					} else if differing++; !(margin < nearTie) {
						rt.Fatalf("tokens differ at margin %g", margin)
					}
				}
			})
			t.Logf("%d decodings, %d of fewer rounds than unrolled, %d differ after a near tie", all, fewer, differing)
			if fewer < all/4 || differing > all/20 {
				t.Error("fewer rounds are too few of them, or too many differ")
			}
		})
	}
}

// runUnrolled pads a decoding to the graph's rounds, with NaN for logits, and cuts
// the trace to the rounds that ran; those after must repeat the last one.
func runUnrolled(t *testing.T, rt *rapid.T, s *tableSession, in *decode.Inputs, given table, unrolled int) *decode.Result {
	padded, err := in.Padded(unrolled)
	if err != nil {
		rt.Fatal(err)
	}
	nan := []float32{float32(math.NaN())}
	more := unrolled - in.Rounds
	given.logits = append(slices.Clone(given.logits), slices.Repeat(nan, len(given.logits)/in.Rounds*more)...)
	given.denominators = append(slices.Clone(given.denominators), slices.Repeat(nan, len(given.denominators)/in.Rounds*more)...)
	res := s.run(t, padded, given)
	size := in.Batch * in.Positions
	if len(res.TraceBins) != unrolled*size || len(res.TraceConfidence) != unrolled*size || res.Rounds < 1 || res.Rounds > in.Rounds {
		rt.Fatalf("%d rounds of %d, a trace of %d and %d", res.Rounds, in.Rounds, len(res.TraceBins), len(res.TraceConfidence))
	}
	for round := res.Rounds - 1; round < unrolled; round++ {
		if !slices.Equal(res.TraceBins[round*size:][:size], res.Bins) || !slices.Equal(res.TraceConfidence[round*size:][:size], res.Confidence) {
			rt.Fatalf("round %d, after the last of %d, changed something", round, res.Rounds)
		}
	}
	res.TraceBins, res.TraceConfidence = res.TraceBins[:res.Rounds*size], res.TraceConfidence[:res.Rounds*size]
	return res
}

// TestUnrolledPolicyEqualsTheLoop: on the model the graph without a Loop gives the
// chunks of the one with it and of the Go decoder over the step graph, for any
// number of rounds up to its own, but for near ties as with the Loop.
func TestUnrolledPolicyEqualsTheLoop(t *testing.T) {
	const unrolled = 5
	runtime := openRuntime(t)
	all := references(t)
	for _, run := range []struct {
		sample     int
		attention  bundle.Attention
		vocabulary bundle.Vocabulary
		precision  string
	}{
		{0, bundle.Bidirectional, bundle.ActionVocabulary, precisionFP32}, {0, bundle.Causal, bundle.FullVocabulary, precisionFP32},
		{2, bundle.Prefix, bundle.ActionVocabulary, precisionFP32}, {1, bundle.Bidirectional, bundle.FullVocabulary, precisionInt8},
		{4, bundle.Bidirectional, bundle.ActionVocabulary, precisionFP32},
	} {
		s := all[run.sample]
		t.Run(fmt.Sprint(s.name, ", ", run.attention, ", ", run.vocabulary, ", ", run.precision), func(t *testing.T) {
			export := func(rounds int) *bundle.Bundle {
				return s.exportWith(t, func(o *Options) {
					o.Attention, o.Vocabulary, o.Precision, o.Unroll, o.Decode.Rounds = run.attention, run.vocabulary, run.precision, rounds, unrolled
				})
			}
			b := export(0)
			loop, step := loaded(t, runtime, b)
			flat, err := runtime.Fused(export(unrolled))
			if err != nil {
				t.Fatal(err)
			}
			defer flat.Close()
			m := &b.Manifest
			rng := rand.New(rand.NewPCG(uint64(run.sample), 6))
			noise := decode.NewNoise(19)
			decodes, differing, early := 0, 0, 0
			for _, preset := range decode.Presets() {
				for _, rounds := range []int{1, 3, unrolled} {
					for _, batch := range []int{1, 3} {
						l := m.Action.Tokens()
						in, err := decode.Params{Preset: preset, Rounds: rounds}.Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, noise)
						if err != nil {
							t.Fatal(err)
						}
						if batch > 1 {
							in.Known[rng.IntN(l)] = rng.Int64N(int64(in.Bins))
							at := rng.IntN(l)
							in.Initial[at], in.InitialConfidence[at] = rng.Int64N(int64(in.Bins)), 0.5
							// The last row starts without a mask.
							for i := (batch - 1) * l; i < batch*l; i++ {
								in.Known[i] = rng.Int64N(int64(in.Bins))
							}
						}
						if rng.IntN(2) == 0 {
							for i := range in.CommitConfidence {
								in.CommitConfidence[i] = 0.001
							}
						}
						o := observe(rng, m, batch)
						have, err := flat.Run(t.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
						if err != nil {
							t.Fatal(err)
						}
						looped, err := loop.Run(t.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
						if err != nil {
							t.Fatal(err)
						}
						want, err := decode.Decode(t.Context(), step.Logits(&o), in)
						if err != nil {
							t.Fatal(err)
						}
						decodes++
						if want.Rounds < rounds {
							early++
						}
						// The Go decoder's margins hold for both.
						looped.TraceMargin = want.TraceMargin
						for name, other := range map[string]*decode.Result{"loop": looped, "Go decoder": want} {
							if same, margin := sameTokens(in, have, other); !same {
								differing++
								if !(margin < 1e-4) {
									t.Errorf("%s, %d rounds, %d rows: tokens differ from the %s at margin %g", preset, rounds, batch, name, margin)
								}
							} else if d := max(largestDifference(have.Mean, other.Mean), largestDifference(have.TraceConfidence, other.TraceConfidence)); !(d < 1e-4) {
								t.Errorf("%s, %d rounds, %d rows: means or confidences differ by %g from the %s", preset, rounds, batch, d, name)
							}
						}
						if err := decode.CheckConfidence(have.Confidence, in); err != nil {
							t.Errorf("%s, %d rounds: %v", preset, rounds, err)
						}
					}
				}
			}
			t.Logf("%d decodes, %d ended early, %d comparisons differ where the margin was below 1e-4", decodes, early, differing)
			if differing > 2 {
				t.Errorf("%d of %d comparisons differ", differing, 2*decodes)
			}
			if early == 0 {
				t.Error("no decode ended early")
			}
		})
	}
}

// TestUnrolledGraphHoldsNoLoop: the graph has nothing that runtimes without Loop,
// If and float64 refuse, by ONNX's own type inference, which finds all of that in
// the graph with the Loop. Its per-round inputs and traces have a fixed size.
func TestUnrolledGraphHoldsNoLoop(t *testing.T) {
	all := references(t)
	var bundles []*bundle.Bundle
	add := func(s sample, change func(o *Options)) {
		bundles = append(bundles, s.exportWith(t, change))
	}
	unroll := func(o *Options) { o.Unroll, o.Decode.Rounds = 4, 3 }
	add(all[0], func(*Options) {})
	add(all[1], func(o *Options) { unroll(o); o.Precision = precisionInt8 })
	add(all[0], unroll)
	add(all[2], func(o *Options) { unroll(o); o.Attention = bundle.Prefix })
	add(all[0], func(o *Options) { unroll(o); o.Attention, o.Vocabulary = bundle.Causal, bundle.FullVocabulary })
	add(filmed(t, 0), unroll)
	var paths []string
	for _, b := range bundles {
		paths = append(paths, b.Path(bundle.GraphFile))
	}
	var reports []struct {
		Operators, Domains, Types, Ports []string
		Unsized                          int
	}
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/check.py", paths...), &reports); err != nil {
		t.Fatal(err)
	}
	if r := reports[0]; !slices.Contains(r.Operators, "Loop") || !slices.Contains(r.Types, "DOUBLE") || bundles[0].Manifest.Model.Unrolled != 0 {
		t.Errorf("with a Loop: operators %v, types %v", r.Operators, r.Types)
	}
	if r := reports[1]; !slices.Contains(r.Domains, "com.microsoft") {
		t.Errorf("with integers: domains %q", r.Domains)
	}
	for i, r := range reports[1:] {
		for _, op := range []string{"Loop", "If", "Scan"} {
			if slices.Contains(r.Operators, op) {
				t.Errorf("%s holds %s", paths[i+1], op)
			}
		}
		if i > 0 && (fmt.Sprint(r.Domains) != "[]" || fmt.Sprint(r.Types) != "[BOOL FLOAT INT32 INT64 UINT8]") {
			t.Errorf("%s has operators of %q and types %v", paths[i+1], r.Domains, r.Types)
		}
		m := bundles[i+1].Manifest
		if m.Model.Unrolled != 4 || m.Decode.Rounds != 3 || m.Source.Options["unroll"] != "4" {
			t.Errorf("manifest: %d unrolled, %d rounds, options %v", m.Model.Unrolled, m.Decode.Rounds, m.Source.Options)
		}
		for _, want := range []string{
			"masked_after int64[4,B]", "token_temperature float32[4]", "commit_confidence float32[4]",
			fmt.Sprintf("trace_bins int64[4,B,%d]", m.Action.Tokens()), fmt.Sprintf("trace_confidence float32[4,B,%d]", m.Action.Tokens()),
		} {
			if !slices.Contains(r.Ports, want) {
				t.Errorf("no %s in %q", want, r.Ports)
			}
		}
	}
	// ONNX Runtime plans memory by the names of sizes; without them it takes minutes to
	// load many rounds. With a prefix the keys of a layer still have no name.
	if r := reports[2]; r.Unsized != 0 || reports[3].Unsized == 0 {
		t.Errorf("%d values of a size without a name, %d with a prefix", r.Unsized, reports[3].Unsized)
	}
	// All else of the bundle is that of the Loop.
	for _, name := range []string{bundle.StepFile, bundle.WeightsFile} {
		loop, err := os.ReadFile(bundles[0].Path(name))
		if err != nil {
			t.Fatal(err)
		}
		flat, err := os.ReadFile(bundles[2].Path(name))
		if err != nil || !bytes.Equal(loop, flat) {
			t.Errorf("%s differs (%v)", name, err)
		}
	}
}

func TestUnrollRefuses(t *testing.T) {
	s := headed(t, 0)
	for want, change := range map[string]func(o *Options){
		"unroll is -1, must be 0":        func(o *Options) { o.Unroll = -1 },
		"unroll is 65, must be 0":        func(o *Options) { o.Unroll = 65 },
		"rounds is 12, but unroll is 11": func(o *Options) { o.Unroll = 11 },
		"unroll is 12, but a policy with an L1 head decodes nothing in rounds": func(o *Options) { o.Unroll = 12 },
	} {
		o := s.options(filepath.Join(t.TempDir(), "bundle"))
		change(&o)
		if err := Export(t.Context(), o); !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(o.Out); err == nil {
			t.Errorf("%s: a bundle was written", want)
		}
	}
}

// BenchmarkUnrolled compares a chunk of policies/tiny-reach in the graph with the
// Loop and in the one without, turn by turn in one run: medians of all twelve
// rounds and, where the Loop ends early, of a decoding that needs few.
func BenchmarkUnrolled(b *testing.B) {
	runtime := openRuntime(b)
	s := samples()[4]
	s.dir = s.trained
	const T = 12
	var graphs [2]*ort.Fused
	var m *bundle.Manifest
	var load [2]time.Duration
	for i := range graphs {
		out := s.exportWith(b, func(o *Options) { o.Unroll = T * i })
		start := time.Now()
		var err error
		if graphs[i], err = runtime.Fused(out); err != nil {
			b.Fatal(err)
		}
		load[i] = time.Since(start)
		defer graphs[i].Close()
		m = &out.Manifest
	}
	l := m.Action.Tokens()
	o := observe(rand.New(rand.NewPCG(1, 1)), m, 1)
	for _, c := range []struct {
		name string
		p    decode.Params
	}{
		{"all rounds", decode.Params{Preset: decode.Official, Rounds: T}},
		{"early end", decode.Params{Preset: decode.Greedy, Rounds: T, Threshold: []float64{0}, CommitConfidence: []float64{0}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			in, err := c.p.Inputs([]int{l}, l, m.Tokens.Bins, decode.NewNoise(1))
			if err != nil {
				b.Fatal(err)
			}
			var took [2][]time.Duration
			rounds := 0
			for b.Loop() {
				for i, g := range graphs {
					start := time.Now()
					r, err := g.Run(b.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
					if err != nil {
						b.Fatal(err)
					}
					took[i], rounds = append(took[i], time.Since(start)), r.Rounds
				}
			}
			median := func(d []time.Duration) float64 {
				slices.Sort(d)
				return 1e3 * d[len(d)/2].Seconds()
			}
			b.ReportMetric(median(took[0]), "loop-ms/chunk")
			b.ReportMetric(median(took[1]), "unrolled-ms/chunk")
			b.ReportMetric(1e3*load[0].Seconds(), "loop-ms/load")
			b.ReportMetric(1e3*load[1].Seconds(), "unrolled-ms/load")
			b.ReportMetric(float64(rounds), "rounds")
			b.ReportMetric(0, "ns/op")
		})
	}
}
