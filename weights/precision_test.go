package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// oneTrial is an export of a sample up to its weights, with a case of the sample instead of
// observations.
type oneTrial struct {
	*trial
	job   *job
	dir   string
	store *onnx.Store
}

func newOneTrial(t *testing.T, s *sample, number int, change func(o *Options)) *oneTrial {
	t.Helper()
	o := s.options("")
	change(&o)
	j, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	one := &oneTrial{job: j, dir: t.TempDir()}
	if one.trial, err = j.newTrial(&o); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(one.runtime.Close(), j.checkpoint.Close()); err != nil {
			t.Error(err)
		}
	})
	in := s.reference(t, number)
	one.samples = []trialSample{{*in.observation(s), integers(in["tokens"]), s.cases[number].batch}}
	if one.store, _, err = j.writeWeights(j.network, filepath.Join(one.dir, bundle.WeightsFile), &meter{ctx: t.Context()}); err != nil {
		t.Fatal(err)
	}
	return one
}

// logits runs the case in parts of at most limit bytes.
func (one *oneTrial) logits(t *testing.T, arithmetic onnx.Arithmetic, limit int64) []float32 {
	t.Helper()
	graph, _ := one.network.trialGraph(one.store, arithmetic)
	run := pieces{
		trial: one.trial, graph: graph, dir: one.dir, work: &meter{ctx: t.Context()}, limit: limit, together: manyTogether,
		weights: func(*onnx.Part) (*onnx.Store, error) { return one.store, nil },
	}
	results, err := run.all()
	if err != nil {
		t.Fatal(err)
	}
	return results[0][0]
}

func minus(a, b []float32) []float64 {
	d := make([]float64, len(a))
	for i := range a {
		d[i] = float64(a[i]) - float64(b[i])
	}
	return d
}

func rms(a []float64) float64 {
	sum := 0.0
	for _, x := range a {
		sum += x * x
	}
	return math.Sqrt(sum / float64(len(a)))
}

// The float32 graph that rounds every result errs by as much as the PyTorch network
// does that rounds what each function returns. They do not round at quite the same
// places, so the errors themselves differ. bfloat16 errs eight times as much as float16.
func TestRoundedGraphErrsAsPyTorchDoes(t *testing.T) {
	type kind struct{ vision, language string }
	kinds := []kind{{precisionFP16, precisionFP16}, {precisionBF16, precisionBF16}, {precisionFP16, precisionFP32}, {precisionFP32, precisionBF16}}
	train, err := filepath.Abs("../train")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var jobs []map[string]any
	list := []int{0, 1, 4}
	for _, at := range list {
		s := references(t)[at]
		for _, k := range kinds {
			jobs = append(jobs, map[string]any{
				"checkpoint": s.dir, "images": s.images, "slots": s.chunk * s.dims, "case": filepath.Join(s.results, "case-0.safetensors"),
				"vision": k.vision, "language": k.language, "out": filepath.Join(dir, fmt.Sprintf("%d.safetensors", len(jobs))),
			})
		}
	}
	stdin, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	pytest.Run(t, stdin, "testdata/precision.py", train)
	number := 0
	for _, at := range list {
		s := references(t)[at]
		exact := s.reference(t, 0)["logits"]
		for _, k := range kinds {
			there := s
			there.results = dir
			want := there.load(t, fmt.Sprintf("%d.safetensors", number))["logits"]
			number++
			got := newOneTrial(t, &s, 0, func(o *Options) {
				o.Precision, o.VisionPrecision = k.language, k.vision
			}).logits(t, onnx.Rounded, pieceBytes)
			ours, theirs, between := rms(minus(got, exact)), rms(minus(want, exact)), rms(minus(got, want))
			t.Logf("%s, vision %s, language %s: the graph is off by %.3g, PyTorch by %.3g, from each other %.3g", s.name, k.vision, k.language, ours, theirs, between)
			if !(ours > 0.6*theirs && ours < 1.6*theirs) {
				t.Errorf("the errors differ in size")
			}
		}
	}
}

// A network that is run part after part gives what it gives whole.
func TestPiecesGiveTheSame(t *testing.T) {
	for _, kind := range []bundle.Attention{bundle.Bidirectional, bundle.Prefix, bundle.Causal} {
		s := references(t)[0]
		one := newOneTrial(t, &s, 0, func(o *Options) { o.Precision, o.Attention = precisionFP16, kind })
		graph, _ := one.network.trialGraph(one.store, onnx.Rounded)
		parts, err := graph.Cut(3000)
		if err != nil || len(parts) < 20 {
			t.Fatalf("%d parts, %v", len(parts), err)
		}
		whole, cut := one.logits(t, onnx.Exact, pieceBytes), one.logits(t, onnx.Exact, 3000)
		if d := largestDifference(whole, cut); !(d < 1e-4) || len(whole) == 0 {
			t.Errorf("%s: in %d parts the logits differ by %g", kind, len(parts), d)
		}
		if left := files(t, one.dir); len(left) != 1 {
			t.Errorf("%s: the parts left %d files", kind, len(left)-1)
		}
	}
}

// Few samples at a time give what all at once give, in their order, and never more of
// them are under way.
func TestSamplesInGroupsGiveTheSame(t *testing.T) {
	s := references(t)[2]
	one := newOneTrial(t, &s, 0, func(o *Options) { o.Precision = precisionFP16 })
	made := prepared(t, &s, func(o *Options) { o.Precision = precisionFP16 })
	one.samples = made.samples[:7]
	run := func(together int) (results [][2][]float32) {
		graph, _ := one.network.trialGraph(one.store, onnx.Exact)
		parts, err := graph.Cut(50_000)
		if err != nil || len(parts) < 3 {
			t.Fatalf("%d parts, %v", len(parts), err)
		}
		loaded, work := 0, &meter{ctx: t.Context()}
		r := pieces{
			trial: one.trial, graph: graph, dir: one.dir, work: work, limit: 50_000, together: together, bytes: 1001,
			weights: func(*onnx.Part) (*onnx.Store, error) { loaded++; return one.store, nil },
		}
		if results, err = r.all(); err != nil {
			t.Fatal(err)
		}
		if want := len(parts) * ((7 + together - 1) / together); loaded != want || work.done != 1001 || len(results) != 7 {
			t.Errorf("%d together: %d parts loaded, want %d; %d of 1001 bytes counted, %d results", together, loaded, want, work.done, len(results))
		}
		return results
	}
	if all, few := run(8), run(2); !reflect.DeepEqual(all, few) {
		t.Error("two at a time give other results")
	}
	if got := made.together(); got != manyTogether {
		t.Errorf("%d of a small network together", got)
	}
	large := *made
	large.plain, large.network = openVLA(), openVLA()
	if got := large.together(); got != fewTogether {
		t.Errorf("%d of 7B together", got)
	}
}

// Numbers beyond float16 stop the export, and the error names the layer in which
// they arise first; bfloat16 holds them.
func TestOverflowIsNamed(t *testing.T) {
	for _, c := range []struct {
		tensor string
		by     float32
		want   string
	}{
		{layerName(1) + "mlp.up_proj.weight", 1e5, "llama/1/mlp/MatMul_1 reaches"},
		{layerName(0) + "self_attn.q_proj.weight", 1e6, "llama/0/MatMul_2 reaches"},
		{"vision_backbone.fused_featurizer.blocks.1.mlp.fc2.weight", 1e6, "siglip/1/MatMul_1 reaches"},
	} {
		for _, precision := range []string{precisionFP16, precisionBF16} {
			s := references(t)[1]
			one := newOneTrial(t, &s, 0, func(o *Options) { o.Precision = precision })
			tensor := one.job.checkpoint.tensors[c.tensor]
			read := tensor.read
			tensor.read = func(dst []float32, first int64) error {
				err := read(dst, first)
				for i := range dst {
					dst[i] *= c.by
				}
				return err
			}
			one.job.checkpoint.tensors[c.tensor] = tensor
			err := one.reference(one.job, one.dir, &meter{ctx: t.Context()})
			if precision == precisionBF16 {
				if err != nil {
					t.Errorf("%s in bf16: %v", c.tensor, err)
				}
				continue
			}
			if !errors.Is(err, ErrOverflow) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v", c.tensor, err)
			}
		}
	}
}

// A weight that float16 cannot hold is named.
func TestWeightBeyondFloat16(t *testing.T) {
	s := references(t)[1]
	o := s.options("")
	o.Precision = precisionFP16
	j, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.checkpoint.Close()
	name := layerName(1) + "mlp.up_proj.weight"
	tensor := j.checkpoint.tensors[name]
	tensor.read = func(dst []float32, first int64) error {
		dst[5] = -70000
		return nil
	}
	j.checkpoint.tensors[name] = tensor
	_, _, err = j.writeWeights(j.network, filepath.Join(t.TempDir(), bundle.WeightsFile), &meter{ctx: t.Context()})
	if err == nil || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), "-70000 is beyond float16") {
		t.Error(err)
	}
}

// A float16 bundle runs on the CPU provider, both graphs alike, near the float32
// bundle; what it stores is half as large, and its damage says float16. With int4 the
// vision is float16 unless asked.
func TestHalfBundleRuns(t *testing.T) {
	runtime := openRuntime(t)
	s := references(t)[0]
	want := s.reference(t, 0)
	for _, c := range []struct {
		change              func(o *Options)
		activations, vision bundle.Precision
		near                float64
	}{
		{func(o *Options) { o.Precision = precisionFP16 }, bundle.Float16, bundle.Float16, 0.2},
		{func(o *Options) { o.Precision, o.Attention = precisionFP16, bundle.Prefix }, bundle.Float16, bundle.Float16, 10},
		{func(o *Options) { o.Precision, o.VisionPrecision = precisionFP16, precisionFP32 }, bundle.Float16, "", 0.2},
		{func(o *Options) { o.Precision = precisionInt8 }, "", bundle.Float16, 1},
		{func(o *Options) { o.Precision, o.Activations = precisionInt4, precisionFP16 }, bundle.Float16, bundle.Float16, 10},
	} {
		b := s.exportWith(t, c.change)
		m := b.Manifest.Model
		if m.Activations != c.activations || m.VisionPrecision != c.vision {
			t.Errorf("the manifest says activations %q, vision %q", m.Activations, m.VisionPrecision)
		}
		if d := b.Manifest.Damage; d == nil || d.Largest == nil || !(d.Largest.Value > 1) || !(d.OutputMean > 0) {
			t.Errorf("damage %+v", d)
		}
		step, err := runtime.Step(b)
		if err != nil {
			t.Fatal(err)
		}
		var got decode.Logits
		err = step.Logits(want.observation(&s))(t.Context(), 0, integers(want["tokens"]), &got)
		if err := errors.Join(err, step.Close()); err != nil {
			t.Fatal(err)
		}
		name := "logits"
		if m.Attention != bundle.Bidirectional {
			name += "." + string(m.Attention)
		}
		d := largestDifference(got.Values, want[name])
		t.Logf("%s, activations %q, vision %q: largest difference %.3g", m.Precision, m.Activations, m.VisionPrecision, d)
		if !(d > 1e-4 && d < c.near) {
			t.Errorf("%s: logits differ by %g", m.Precision, d)
		}
		fused, err := runtime.Fused(b)
		if err != nil {
			t.Fatal(err)
		}
		if err := fused.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// The CPU provider cannot run bfloat16, and the error says so rather than ONNX
// Runtime's.
func TestBFloat16IsForCUDA(t *testing.T) {
	runtime := openRuntime(t)
	s := references(t)[2]
	b := s.exportWith(t, func(o *Options) { o.Precision = precisionBF16 })
	if b.Manifest.Model.Precision != bundle.BFloat16 || b.Manifest.Damage == nil || b.Manifest.Damage.Largest != nil {
		t.Errorf("%+v, damage %+v", b.Manifest.Model, b.Manifest.Damage)
	}
	for _, load := range []func() error{
		func() error { _, err := runtime.Fused(b); return err },
		func() error { _, err := runtime.Step(b); return err },
	} {
		if err := load(); !errors.Is(err, ort.ErrProvider) || !strings.Contains(err.Error(), "CPU provider has no kernels") || !strings.Contains(err.Error(), "export without bf16 in") {
			t.Error(err)
		}
	}
}

// Given observations are measured on: pictures, words and state; a wrong one stops
// the export before the weights are read.
func TestDamageOnGivenObservations(t *testing.T) {
	s := references(t)[4]
	dir := t.TempDir()
	picture := image.NewRGBA(image.Rect(0, 0, 64, 48))
	for i := range picture.Pix {
		picture.Pix[i] = byte(i * 7)
	}
	var raw bytes.Buffer
	if err := png.Encode(&raw, picture); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "a.png"), raw.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	state := strings.Repeat("0, ", 13) + "0"
	write := func(text string) string {
		path := filepath.Join(dir, "observations.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good := `[{"images": ["a.png", "a.png", "a.png"], "instruction": "reach for the red cube", "state": [` + state + `]}]`
	list, err := ReadObservations(write(good))
	if err != nil {
		t.Fatal(err)
	}
	d := s.exportWith(t, func(o *Options) { o.Precision, o.Observations = precisionFP16, list }).Manifest.Damage
	if d == nil || !d.Given || d.Observations != 1 || d.Tokens != 112+56 || !(d.OutputMean > 0) {
		t.Errorf("%+v", d)
	}
	for text, want := range map[string]string{
		"[]":                      "is empty",
		good + good:               "something follows",
		`[{"image": ["a.png"]}]`:  "unknown field",
		`{"images": []}`:          "want a list of",
		`[{"images": ["a.png"]}]`: "1 images, the model takes 3",
		strings.Replace(good, "a.png", "b.png", 1):             "b.png: no such file",
		strings.Replace(good, "0, ", "", 1):                    "13",
		strings.Replace(good, "reach for the red cube", "", 1): "instruction",
	} {
		list, err := ReadObservations(write(text))
		if err == nil {
			o := s.options(filepath.Join(t.TempDir(), "bundle"))
			o.Precision, o.Observations = precisionFP16, list
			err = Export(t.Context(), o)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
