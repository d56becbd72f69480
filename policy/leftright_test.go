package policy_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights"
)

// TestInferLeftToRight: position 0 is what one pass over nothing but masks says,
// and the whole is another chunk than the parallel one's.
func TestInferLeftToRight(t *testing.T) {
	p := open(t, decode.Greedy, 1)
	if err := p.SetDecode(decode.Params{Preset: decode.Greedy, Rounds: 1}); err != nil {
		t.Fatal(err)
	}
	o := observe(p.Manifest())
	if _, err := p.InferLeftToRight(t.Context(), o); err == nil || !strings.Contains(err.Error(), "OpenStep") {
		t.Errorf("without step.onnx: %v", err)
	}
	for range 2 { // the second does nothing
		if err := p.OpenStep(); err != nil {
			t.Fatal(err)
		}
	}
	parallel, err := p.Infer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	have, err := p.InferLeftToRight(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	n := p.Manifest().Action.Tokens()
	if have.Rounds != n || len(have.Bins) != n || have.Trace != nil || have.Prompt != parallel.Prompt || !have.Chunk.Stamp.Equal(o.Stamp) {
		t.Errorf("%d passes for %d bins of %d, trace %v, prompt %q", have.Rounds, len(have.Bins), n, have.Trace, have.Prompt)
	}
	if have.Bins[0] != parallel.Bins[0] {
		t.Errorf("position 0 is bin %d, in parallel %d", have.Bins[0], parallel.Bins[0])
	}
	want, err := p.Codec().ChunkFromBins(have.Bins)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range want.Values {
		if d := have.Chunk.Values[i] - v; d > 1e-6 || d < -1e-6 {
			t.Fatalf("value %d is %g, the centre of its bin %g", i, have.Chunk.Values[i], v)
		}
	}
	if again, err := p.InferLeftToRight(t.Context(), o); err != nil || !slices.Equal(again.Bins, have.Bins) {
		t.Errorf("another chunk the second time: %v", err)
	}
}

// TestAutoregressivePreset: a causal bundle decodes from left to right as
// InferLeftToRight does on the step graph, keeps given tokens, samples at
// a temperature and goes back to rounds; which preset it was opened with does not matter.
func TestAutoregressivePreset(t *testing.T) {
	causal := testbundle.With(t, func(o *weights.Options) {
		o.Attention, o.Decode.Preset = bundle.Causal, string(decode.Autoregressive)
	})
	openWith := func(params *decode.Params) *policy.Policy {
		p, err := policy.Open(t.Context(), causal, policy.Options{Decode: params, Seed: 5})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := p.Close(); err != nil {
				t.Error(err)
			}
		})
		return p
	}
	p := openWith(nil)
	if p.Decode().Preset != decode.Autoregressive {
		t.Fatalf("decodes with %+v", p.Decode())
	}
	if err := p.OpenStep(); err != nil {
		t.Fatal(err)
	}
	o := observe(p.Manifest())
	n := p.Manifest().Action.Tokens()
	o.Known = slices.Repeat([]int64{-1}, n)
	o.Known[3], o.Known[n-1] = 200, 7
	have, err := p.Infer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want, err := p.InferLeftToRight(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(have.Bins, want.Bins) || !slices.Equal(have.Chunk.Values, want.Chunk.Values) || have.Bins[3] != 200 || have.Bins[n-1] != 7 {
		t.Errorf("bins %v, on the step graph %v", have.Bins, want.Bins)
	}
	if have.Rounds != n || have.Trace != nil || have.Prompt != want.Prompt {
		t.Errorf("%d tokens in %v, trace %v", have.Rounds, have.Timings.Inference, have.Trace)
	}

	// Sampled chunks differ from each other and repeat from the seed, whatever came between.
	o.Known = nil
	sampled := decode.Params{Preset: decode.Autoregressive, Rounds: 12, TokenTemperature: []float64{1}}
	rounds := decode.Params{Preset: decode.Greedy, Rounds: 2}
	var runs [2][]*policy.Result
	for i, p := range []*policy.Policy{p, openWith(&rounds)} {
		if i == 1 { // as many chunks as the other has had
			if r, err := p.Infer(t.Context(), o); err != nil || r.Trace == nil || r.Rounds > 2 {
				t.Errorf("in rounds: %v, %+v", err, r)
			}
		}
		for _, params := range []decode.Params{sampled, rounds, sampled} {
			if err := p.SetDecode(params); err != nil {
				t.Fatal(err)
			}
			r, err := p.Infer(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if (r.Trace == nil) != (params.Preset == decode.Autoregressive) {
				t.Errorf("%s: trace %v", params.Preset, r.Trace)
			}
			runs[i] = append(runs[i], r)
		}
	}
	for i, r := range runs[0] {
		if !slices.Equal(r.Bins, runs[1][i].Bins) {
			t.Errorf("chunk %d is another one in the second run", i)
		}
	}
	if slices.Equal(runs[0][0].Bins, runs[0][2].Bins) || slices.Equal(runs[0][0].Bins, runs[0][1].Bins) {
		t.Error("two sampled chunks, or one and that of rounds, are the same")
	}
}

func TestAutoregressivePresetNeedsCausalAttention(t *testing.T) {
	var field *decode.FieldError
	params := decode.Params{Preset: decode.Autoregressive, Rounds: 12}
	if _, err := policy.Open(t.Context(), testbundle.Dir(t), policy.Options{Decode: &params}); !errors.As(err, &field) || field.Field != "preset" {
		t.Errorf("opened: %v", err)
	}
	p := open(t, decode.Greedy, 1)
	if err := p.SetDecode(params); !errors.As(err, &field) || field.Field != "preset" || !strings.Contains(err.Error(), "causal attention") {
		t.Errorf("set: %v", err)
	}
	if p.Decode().Preset != decode.Greedy {
		t.Errorf("decodes with %+v after a refusal", p.Decode())
	}
}
