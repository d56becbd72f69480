package weights

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

const savedHead = "action_head--150000_checkpoint.pt"

// headed is a sample's checkpoint with the action head that PyTorch saved.
func headed(t *testing.T, number int) sample {
	t.Helper()
	s := copied(t, number)
	place(t, filepath.Join(s.side(), savedHead), filepath.Join(s.dir, savedHead))
	return s
}

// The graph with an L1 head predicts the values of the PyTorch module behind the
// PyTorch network, for prompts of different lengths, and the comparison notices
// each fault that it could have.
func TestL1HeadAgreesWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	for number := range 2 {
		s := headed(t, number)
		b := s.export(t)
		m := b.Manifest
		if m.Model.Head != bundle.L1Head || m.Decode.Rounds != 1 || slices.Contains(m.FileNames(), bundle.StepFile) {
			t.Errorf("head %q, %d rounds, files %v", m.Model.Head, m.Decode.Rounds, m.FileNames())
		}
		graph, err := runtime.Values(b)
		if err != nil {
			t.Fatal(err)
		}
		defer graph.Close()
		r := s.load(t, "head.safetensors")
		o := r.observation(&s)
		got, err := graph.Run(t.Context(), o, len(o.PromptLength))
		if err != nil {
			t.Fatal(err)
		}
		d := largestDifference(got, r["values"])
		t.Logf("%d values, largest difference %.2g, standard deviation %.2g", len(got), d, deviation(r["values"]))
		if !(d < 1e-4) {
			t.Errorf("values differ by %g", d)
		}
		for _, fault := range []string{"masks", "no_shift", "no_norm", "transposed", "no_relu", "inside", "plain", "one", "tanh"} {
			if d := largestDifference(got, r["values."+fault]); !(d > 1e-2) {
				t.Errorf("%s goes unnoticed, difference %g", fault, d)
			}
		}
		if _, err := runtime.Fused(b); err == nil || !strings.Contains(err.Error(), "has no tokens to decode") {
			t.Errorf("loaded as a policy of tokens: %v", err)
		}
		if _, err := runtime.Step(b); err == nil || !strings.Contains(err.Error(), "which only policies of tokens have") {
			t.Errorf("loaded as a policy of tokens: %v", err)
		}
	}
}

// The head is chosen by what the checkpoint has, or by its option.
func TestHeadOption(t *testing.T) {
	s := headed(t, 0)
	o := s.options(filepath.Join(t.TempDir(), "bundle"))
	o.Head = "tokens"
	plain := references(t)[0]
	got := exported(t, o)
	sameButManifest(t, got, plain.export(t))
	if got.Manifest.Model.Head != bundle.TokensHead {
		t.Errorf("head %q", got.Manifest.Model.Head)
	}
	// An adapter stands beside the head, whose layers have the names of others.
	o.Head, o.LoRA = "l1", s.results+"-adapter"
	if p, err := MakePlan(o); err != nil || p.Manifest.Model.Head != bundle.L1Head {
		t.Errorf("with an adapter: %v", err)
	}
	for want, change := range map[string]func(o *Options){
		"head is \"l2\", must be tokens or l1":                                                                              func(o *Options) { o.Head = "l2" },
		"head is l1, but the checkpoint has no action_head--*.pt":                                                           func(o *Options) { o.Checkpoint, o.Head = plain.dir, "l1" },
		"attention is prefix, but a policy with an L1 head has":                                                             func(o *Options) { o.Attention = bundle.Prefix },
		"action-dims has 8 entries, the checkpoint's action head predicts 7; of 7 are: left_arm, right_arm, libero, bridge": func(o *Options) { o.ActionDims = append(o.ActionDims, bundle.ActionDim{}) },
	} {
		o := s.options("")
		change(&o)
		if _, err := MakePlan(o); !errors.Is(err, ErrOption) && !errors.Is(err, ErrTensors) || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

// The published heads have the numbers of parameters that their files report.
func TestInventoryOfL1Head(t *testing.T) {
	for dims, want := range map[int]int64{7: 151_117_831, 14: 268_644_366} {
		h := &l1Head{in: 4096 * dims, inner: 4096, depth: 2, rows: 8, dims: dims}
		if _, got := count(h.inventory()); got != want {
			t.Errorf("%d dimensions: %d parameters, want %d", dims, got, want)
		}
	}
}
