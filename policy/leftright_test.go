package policy_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/decode"
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
