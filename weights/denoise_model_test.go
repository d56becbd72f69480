package weights

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
)

// observe draws a random observation for batch rows, with padded prompts.
func observe(rng *rand.Rand, m *bundle.Manifest, batch int) ort.Observation {
	side := m.Model.ImageSize
	o := ort.Observation{Images: make([]byte, batch*len(m.Cameras)*side*side*3)}
	for i := range o.Images {
		o.Images[i] = byte(rng.IntN(256))
	}
	longest := 3 + rng.IntN(6)
	for range batch {
		length := longest - rng.IntN(2)
		o.PromptLength = append(o.PromptLength, int64(length))
		for i := range longest {
			id := m.Tokens.BOS
			switch {
			case i >= length:
				id = m.Tokens.Pad
			case i > 0:
				id = 3 + rng.Int64N(m.Tokens.ActionTokenBase-int64(m.Tokens.Bins)-3)
			}
			o.PromptIDs = append(o.PromptIDs, id)
		}
		if m.Proprio != nil {
			for range m.Proprio.Dims {
				o.Proprio = append(o.Proprio, 2*rng.Float32()-1)
			}
		}
	}
	return o
}

// loaded is a sample's two graphs.
func loaded(t testing.TB, runtime *ort.Runtime, b *bundle.Bundle) (*ort.Fused, *ort.Step) {
	t.Helper()
	fused, err := runtime.Fused(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { fused.Close() })
	step, err := runtime.Step(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { step.Close() })
	return fused, step
}

// TestFusedGraphEqualsGoDecoderOverStepGraph: on the model the two graphs'
// logits differ by rounding, so the tokens are equal, or differ first where the
// decision was closer than 1e-4, in at most one decode of a hundred.
func TestFusedGraphEqualsGoDecoderOverStepGraph(t *testing.T) {
	runtime := openRuntime(t)
	all := references(t)
	for _, run := range []struct {
		sample     int
		attention  bundle.Attention
		vocabulary bundle.Vocabulary
		decodes    int // of each preset
	}{
		{0, bundle.Bidirectional, bundle.ActionVocabulary, 18}, {2, bundle.Bidirectional, bundle.ActionVocabulary, 5},
		{3, bundle.Bidirectional, bundle.ActionVocabulary, 1}, {0, bundle.Bidirectional, bundle.FullVocabulary, 4},
		{0, bundle.Prefix, bundle.ActionVocabulary, 5}, {0, bundle.Causal, bundle.FullVocabulary, 5},
		{2, bundle.Prefix, bundle.ActionVocabulary, 2}, {2, bundle.Causal, bundle.ActionVocabulary, 2},
	} {
		s := all[run.sample]
		t.Run(fmt.Sprint(s.name, ", ", run.attention, ", ", run.vocabulary), func(t *testing.T) {
			b := s.exportWith(t, func(o *Options) { o.Attention, o.Vocabulary = run.attention, run.vocabulary })
			fused, step := loaded(t, runtime, b)
			m := &b.Manifest
			rng := rand.New(rand.NewPCG(uint64(run.sample), 5))
			noise := decode.NewNoise(17)
			decodes, differing := 0, 0
			for _, preset := range decode.Presets() {
				for i := range run.decodes {
					batch := 1
					if run.decodes > 1 {
						batch += rng.IntN(2)
					}
					l := m.Action.Tokens()
					p := decode.Params{Preset: preset, Rounds: 1 + rng.IntN(8)}
					if i%2 == 1 {
						p.Schedule = decode.Schedules()[rng.IntN(len(decode.Schedules()))]
					}
					if i == 2 && run.sample == 0 {
						p.Rounds = decode.MaxRounds
					}
					in, err := p.Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, noise)
					if err != nil {
						t.Fatal(err)
					}
					if rng.IntN(4) == 0 {
						in.Known[rng.IntN(l)] = rng.Int64N(int64(in.Bins))
						at := rng.IntN(l)
						in.Initial[at], in.InitialConfidence[at] = rng.Int64N(int64(in.Bins)), 0.5
					}
					o := observe(rng, m, batch)
					have, err := fused.Run(t.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
					if err != nil {
						t.Fatal(err)
					}
					want, err := decode.Decode(t.Context(), step.Logits(&o), in)
					if err != nil {
						t.Fatal(err)
					}
					decodes++
					if same, margin := sameTokens(in, have, want); !same {
						differing++
						if !(margin < 1e-4) {
							t.Errorf("%s, T = %d: tokens differ at margin %g", preset, p.Rounds, margin)
						}
					} else if d := largestDifference(have.Mean, want.Mean); !(d < 1e-4) {
						t.Errorf("%s, T = %d: means differ by %g", preset, p.Rounds, d)
					} else if err := decode.CheckConfidence(have.Confidence, in); err != nil {
						t.Errorf("%s, T = %d: %v", preset, p.Rounds, err)
					}
				}
			}
			t.Logf("%d decodes, %d differ where the margin was below 1e-4", decodes, differing)
			if differing > max(1, decodes/100) {
				t.Errorf("%d of %d decodes differ", differing, decodes)
			}
		})
	}
}

// sameTokens compares two traces; margin is the closest decision of the row up
// to the first difference.
func sameTokens(in *decode.Inputs, have, want *decode.Result) (same bool, margin float32) {
	size := in.Batch * in.Positions
	for i := range min(len(have.TraceBins), len(want.TraceBins)) {
		if have.TraceBins[i] != want.TraceBins[i] {
			return false, want.TraceMargin[i/size*in.Batch+i%size/in.Positions]
		}
	}
	return have.Rounds == want.Rounds && slices.Equal(have.Bins, want.Bins), 1
}

// A decode repeats bit for bit from its seed.
func TestFusedGraphRepeats(t *testing.T) {
	runtime := openRuntime(t)
	s := references(t)[0]
	b := s.export(t)
	fused, _ := loaded(t, runtime, b)
	o := observe(rand.New(rand.NewPCG(1, 1)), &b.Manifest, 1)
	var results []*ort.FusedOutputs
	for range 2 {
		l := b.Manifest.Action.Tokens()
		in, err := decode.Params{Preset: decode.Official, Rounds: 12}.Inputs([]int{l}, l, b.Manifest.Tokens.Bins, decode.NewNoise(3))
		if err != nil {
			t.Fatal(err)
		}
		out, err := fused.Run(t.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, out)
	}
	a, c := results[0], results[1]
	if !slices.Equal(a.TraceBins, c.TraceBins) || !slices.Equal(a.TraceConfidence, c.TraceConfidence) || !slices.Equal(a.Mean, c.Mean) {
		t.Error("one seed gave two chunks")
	}
}

// BenchmarkFused compares one fused call with the same decoding done by one
// session call per round, everything recomputed in each, turn by turn in one
// run: medians, and their ratio.
func BenchmarkFused(b *testing.B) {
	runtime := openRuntime(b)
	out := references(b)[3].export(b)
	fused, step := loaded(b, runtime, out)
	m := &out.Manifest
	l := m.Action.Tokens()
	o := observe(rand.New(rand.NewPCG(1, 1)), m, 1)
	in, err := decode.Params{Preset: decode.Greedy, Rounds: 12, Threshold: []float64{0}}.Inputs([]int{l}, l, m.Tokens.Bins, decode.NewNoise(1))
	if err != nil {
		b.Fatal(err)
	}
	var inGraph, inGo []time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := fused.Run(b.Context(), &ort.FusedInputs{Observation: o, Inputs: in}); err != nil {
			b.Fatal(err)
		}
		between := time.Now()
		if _, err := decode.Decode(b.Context(), step.Logits(&o), in); err != nil {
			b.Fatal(err)
		}
		inGraph, inGo = append(inGraph, between.Sub(start)), append(inGo, time.Since(between))
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds()
	}
	b.ReportMetric(1e3*median(inGraph), "fused-ms/chunk")
	b.ReportMetric(1e3*median(inGo), "stepwise-ms/chunk")
	b.ReportMetric(median(inGo)/median(inGraph), "ratio")
	b.ReportMetric(0, "ns/op")
}
