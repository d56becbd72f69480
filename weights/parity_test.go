package weights

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// The exported graph gives the logits of the PyTorch network, and the
// comparison notices each part of the architecture.
func TestLogitsAgreeWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	for _, s := range references(t) {
		t.Run(s.name, func(t *testing.T) {
			step, err := runtime.Step(s.export(t))
			if err != nil {
				t.Fatal(err)
			}
			defer step.Close()
			for number, c := range s.cases {
				want := s.reference(t, number)
				var got decode.Logits
				if err := step.Logits(want.observation(&s))(t.Context(), 0, integers(want["tokens"]), &got); err != nil {
					t.Fatal(err)
				}
				if std := deviation(want["logits"]); std < 1 {
					t.Errorf("case %d: logits have a standard deviation of %g only", number, std)
				}
				d := largestDifference(got.Values, want["logits"])
				t.Logf("batch %d, prompt %d: %d logits, largest difference %.2g", c.batch, c.prompt, len(got.Values), d)
				if !(d < 1e-4) {
					t.Errorf("case %d: logits differ by %g", number, d)
				}
				for _, mutation := range c.mutations {
					if d := largestDifference(got.Values, want["logits."+mutation]); !(d > 1e-2) {
						t.Errorf("case %d: %s goes unnoticed, difference %g", number, mutation, d)
					}
				}
			}
		})
	}
}

// kinds are the attention kinds beside the one that all other tests have.
var kinds = []bundle.Attention{bundle.Prefix, bundle.Causal}

func (s *sample) exportWith(t testing.TB, change func(o *Options)) *bundle.Bundle {
	t.Helper()
	o := s.options(filepath.Join(t.TempDir(), "bundle"))
	change(&o)
	return exported(t, o)
}

func (s *sample) exportKind(t testing.TB, kind bundle.Attention) *bundle.Bundle {
	t.Helper()
	b := s.exportWith(t, func(o *Options) { o.Attention = kind })
	if b.Manifest.Model.Attention != kind {
		t.Errorf("the manifest says %q, want %q", b.Manifest.Model.Attention, kind)
	}
	return b
}

// The graphs of the other attention kinds, which compute the prefix apart, give
// the logits of the PyTorch network, which runs the whole sequence under a mask;
// prompts are padded in some rows. The comparison notices another kind's logits
// and a slot's logits that are read at the slot itself.
func TestAttentionKindsAgreeWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	for _, s := range references(t)[:3] {
		for _, kind := range kinds {
			t.Run(s.name+" "+string(kind), func(t *testing.T) {
				b := s.exportKind(t, kind)
				step, err := runtime.Step(b)
				if err != nil {
					t.Fatal(err)
				}
				defer step.Close()
				for number, c := range s.cases {
					want := s.reference(t, number)
					var got decode.Logits
					if err := step.Logits(want.observation(&s))(t.Context(), 0, integers(want["tokens"]), &got); err != nil {
						t.Fatal(err)
					}
					d := largestDifference(got.Values, want["logits."+string(kind)])
					t.Logf("batch %d, prompt %d: %d logits, largest difference %.2g", c.batch, c.prompt, len(got.Values), d)
					if !(d < 1e-4) {
						t.Errorf("case %d: logits differ by %g", number, d)
					}
					for _, other := range []string{"logits", "logits.prefix", "logits.causal", "logits." + string(kind) + ".no_shift"} {
						if other == "logits."+string(kind) {
							continue
						}
						if other == "logits" && kind == bundle.Prefix && b.Manifest.Model.Layers == 1 {
							// The prefix that does not see the block is read by nothing but another layer.
							continue
						}
						if d := largestDifference(got.Values, want[other]); !(d > 1e-2) {
							t.Errorf("case %d: %s goes unnoticed, difference %g", number, other, d)
						}
					}
				}
			})
		}
	}
}

// With the full vocabulary the logits are the same, and their denominator covers
// every word and bin and no padding row.
func TestFullVocabularyAgreesWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	for _, s := range references(t)[:3] {
		step, err := runtime.Step(s.exportWith(t, func(o *Options) { o.Vocabulary = bundle.FullVocabulary }))
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		for number := range s.cases {
			want := s.reference(t, number)
			var got decode.Logits
			if err := step.Logits(want.observation(&s))(t.Context(), 0, integers(want["tokens"]), &got); err != nil {
				t.Fatal(err)
			}
			if d := largestDifference(got.Values, want["logits"]); !(d < 1e-4) {
				t.Errorf("%s, case %d: logits differ by %g", s.name, number, d)
			}
			if d := largestDifference(got.LogDenominator, want["log_denominator"]); !(d < 1e-4) {
				t.Errorf("%s, case %d: denominators differ by %g", s.name, number, d)
			}
			if d := largestDifference(got.LogDenominator, want["log_denominator.padding"]); !(d > 1e-2) {
				t.Errorf("%s, case %d: padding rows go unnoticed, difference %g", s.name, number, d)
			}
		}
	}
}

// The last prompt token belongs to the block: with prefix attention the first
// action's logits depend on the last action's token, causally on none but those
// before.
func TestLastPromptTokenSeesTheBlock(t *testing.T) {
	runtime := openRuntime(t)
	s := references(t)[0]
	for _, kind := range kinds {
		step, err := runtime.Step(s.exportKind(t, kind))
		if err != nil {
			t.Fatal(err)
		}
		defer step.Close()
		o := s.reference(t, 1).observation(&s)
		slots := s.chunk * s.dims
		tokens := slices.Repeat([]int64{-1}, slots)
		var before, after decode.Logits
		if err := step.Logits(o)(t.Context(), 0, tokens, &before); err != nil {
			t.Fatal(err)
		}
		first := slices.Clone(before.Values[:256])
		tokens[slots-1] = 9
		if err := step.Logits(o)(t.Context(), 0, tokens, &after); err != nil {
			t.Fatal(err)
		}
		d := largestDifference(first, after.Values[:256])
		if kind == bundle.Prefix && !(d > 1e-3) || kind == bundle.Causal && d != 0 {
			t.Errorf("%s: the first logits change by %g", kind, d)
		}
	}
}

// Pads change nothing: a prompt in a batch with longer ones gives the logits
// that it gives alone, whatever ids the pads are.
func TestPadsAreNotSeen(t *testing.T) {
	runtime := openRuntime(t)
	for _, kind := range append(kinds, bundle.Bidirectional) {
		t.Run(string(kind), func(t *testing.T) { padsAreNotSeen(t, runtime, kind) })
	}
}

func padsAreNotSeen(t *testing.T, runtime *ort.Runtime, kind bundle.Attention) {
	s := references(t)[0]
	step, err := runtime.Step(s.exportKind(t, kind))
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	r := s.reference(t, 0)
	whole, tokens := r.observation(&s), integers(r["tokens"])
	batch, slots := len(whole.PromptLength), s.chunk*s.dims
	prompt, image := len(whole.PromptIDs)/batch, len(whole.Images)/batch
	for i := range whole.PromptIDs {
		if int64(i%prompt) >= whole.PromptLength[i/prompt] {
			whole.PromptIDs[i] = int64(3 + i)
		}
	}
	var together decode.Logits
	if err := step.Logits(whole)(t.Context(), 0, tokens, &together); err != nil {
		t.Fatal(err)
	}
	for b := range batch {
		length := int(whole.PromptLength[b])
		if b > 0 && length == prompt {
			t.Errorf("row %d has no pads, so it shows nothing", b)
		}
		alone := &ort.Observation{
			Images:    whole.Images[b*image : (b+1)*image],
			PromptIDs: whole.PromptIDs[b*prompt : b*prompt+length],
			Proprio:   whole.Proprio[b*s.proprio : (b+1)*s.proprio],
		}
		var got decode.Logits
		if err := step.Logits(alone)(t.Context(), 0, tokens[b*slots:(b+1)*slots], &got); err != nil {
			t.Fatal(err)
		}
		size := slots * 256
		if d := largestDifference(got.Values, together.Values[b*size:(b+1)*size]); !(d < 2e-5) {
			t.Errorf("row %d: padding changes the logits by %g", b, d)
		}
	}
}

// Both graphs hold the same network: the first round of the fused one has the
// confidences that the step graph's logits give.
func TestBothGraphsHoldTheSameNetwork(t *testing.T) {
	runtime := openRuntime(t)
	for _, i := range []int{0, 1, 2} {
		s := references(t)[i]
		fused, step := loaded(t, runtime, s.export(t))
		sameFirstRound(t, s.name, &s, fused, step)
	}
}

// sameFirstRound compares the confidences after one round of both graphs.
func sameFirstRound(t *testing.T, name string, s *sample, fused *ort.Fused, step *ort.Step) {
	t.Helper()
	o := s.reference(t, 0).observation(s)
	batch, slots := len(o.PromptLength), s.chunk*s.dims
	in, err := decode.Params{Preset: decode.Greedy, Rounds: 1}.Inputs(slices.Repeat([]int{slots}, batch), slots, 256, decode.NewNoise(7))
	if err != nil {
		t.Fatal(err)
	}
	want, err := decode.Decode(t.Context(), step.Logits(o), in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := fused.Run(t.Context(), &ort.FusedInputs{Observation: *o, Inputs: in})
	if err != nil {
		t.Fatal(err)
	}
	if d := largestDifference(got.Confidence, want.Confidence); !(d < 1e-5) {
		t.Errorf("%s: confidences differ by %g", name, d)
	}
}

// The ONNX project's own checker, with full shape inference, accepts what is
// written, and both graphs refer to every weight in the one data file.
func TestCheckerAcceptsTheGraphs(t *testing.T) {
	var paths []string
	var bundles []*bundle.Bundle
	for _, s := range references(t)[:3] {
		for _, kind := range append([]bundle.Attention{bundle.Bidirectional}, kinds...) {
			b := s.exportKind(t, kind)
			bundles = append(bundles, b)
			paths = append(paths, b.Path(bundle.StepFile), b.Path(bundle.GraphFile))
		}
	}
	full := references(t)[0].exportWith(t, func(o *Options) { o.Vocabulary = bundle.FullVocabulary })
	s := filmed(t, 0)
	list := []*bundle.Bundle{full, s.export(t)}
	for _, change := range []func(o *Options){
		func(o *Options) { o.Precision = precisionFP16 },
		func(o *Options) { o.Precision, o.Attention = precisionBF16, bundle.Prefix },
	} {
		list = append(list, references(t)[1].exportWith(t, change), s.exportWith(t, change))
	}
	for _, b := range list {
		bundles = append(bundles, b)
		paths = append(paths, b.Path(bundle.StepFile), b.Path(bundle.GraphFile))
	}
	l1 := headed(t, 1)
	bundles = append(bundles, l1.export(t))
	paths = append(paths, bundles[len(bundles)-1].Path(bundle.GraphFile))
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
		m := bundles[i/2].Manifest
		if r.Opset != 17 || r.IR != 8 || r.Weights != m.Model.Parameters {
			t.Errorf("%s: opset %d, IR %d, %d parameters of %d", paths[i], r.Opset, r.IR, r.Weights, m.Model.Parameters)
		}
		describedAsByONNX(t, paths[i], r.Ports, r.Tensors, r.Nodes, r.Opset, r.IR)
		if slices.Contains(r.Operators, "TopK") {
			t.Errorf("%s uses TopK, whose order of equal values differs by provider", paths[i])
		}
	}
	want := "[images prompt_ids prompt_length proprio tokens] [logits]"
	if got := fmt.Sprint(reports[0].Inputs, reports[0].Outputs); got != want {
		t.Errorf("step graph: %s, want %s", got, want)
	}
	want = "[images prompt_ids prompt_length proprio tokens] [logits log_denominator]"
	if got := fmt.Sprint(reports[18].Inputs, reports[18].Outputs); got != want {
		t.Errorf("step graph with the full vocabulary: %s, want %s", got, want)
	}
	want = "[images prompt_ids prompt_length recompute_prefix known initial initial_confidence masked_after token_temperature choice_temperature " +
		"committed_bias threshold drop_threshold token_noise choice_noise score commit_confidence mean_window] " +
		"[bins confidence mean rounds trace_bins trace_confidence]"
	if got := fmt.Sprint(reports[13].Inputs, reports[13].Outputs); got != want {
		t.Errorf("fused graph without proprio: %s, want %s", got, want)
	}
}

// describedAsByONNX compares onnx.Describe with what Python's onnx read.
func describedAsByONNX(t *testing.T, path string, ports, tensors []string, nodes int, opset, ir int64) {
	t.Helper()
	d, err := onnx.Describe(path)
	if err != nil {
		t.Fatal(err)
	}
	var gotPorts, gotTensors []string
	for _, p := range append(d.Inputs, d.Outputs...) {
		gotPorts = append(gotPorts, p.Name+" "+p.String())
	}
	for _, w := range d.Tensors {
		place := fmt.Sprint(w.Bytes)
		if w.File != "" {
			place = fmt.Sprintf("%s:%d", w.File, w.Offset)
		}
		gotTensors = append(gotTensors, fmt.Sprintf("%s [%s] %s", w.Name, strings.Trim(strings.ReplaceAll(fmt.Sprint(w.Dims), " ", ", "), "[]"), place))
	}
	if !slices.Equal(gotPorts, ports) {
		t.Errorf("%s: ports %q, onnx says %q", path, gotPorts, ports)
	}
	if !slices.Equal(gotTensors, tensors) {
		t.Errorf("%s: tensors %q, onnx says %q", path, gotTensors, tensors)
	}
	if d.Nodes != nodes || d.Opset != opset || d.IR != ir {
		t.Errorf("%s: %d nodes, opset %d, IR %d; onnx says %d, %d, %d", path, d.Nodes, d.Opset, d.IR, nodes, opset, ir)
	}
}
