package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights/onnx"
)

// quantised is an export of a sample with integer weights.
type quantised struct {
	sample     int
	precision  string
	block      int
	asymmetric bool
	attention  bundle.Attention
}

func (q quantised) String() string {
	return fmt.Sprintf("%d %s block %d asymmetric %v %s", q.sample, q.precision, q.block, q.asymmetric, q.attention)
}

func (q quantised) change(o *Options) {
	o.Precision, o.BlockSize, o.Asymmetric, o.Attention = q.precision, q.block, q.asymmetric, q.attention
	o.VisionPrecision = precisionFP32 // so that only the integers differ
}

// mutations are the wrong readings of the integers that must show.
func (q quantised) mutations() []string {
	list := []string{"zero", "original"}
	if q.precision == precisionInt8 {
		// The logits with 8 bits are as close to the checkpoint's as rounding is.
		list = list[:1]
	}
	if q.precision == precisionInt4 {
		list = append(list, "nibbles")
	}
	if q.asymmetric {
		list = append(list, "zero_default")
		if q.precision == precisionInt4 {
			list = append(list, "zero_nibbles")
		}
	}
	return list
}

// The quantised graph gives the logits of the PyTorch network that has the
// weights which NumPy makes of the bundle's integers; rows are no multiples of a
// block and have odd numbers of blocks. The weights are as close to the
// checkpoint's as the codes allow, and the comparison notices wrong readings of
// the codes.
func TestQuantisedWeightsAgreeWithPyTorch(t *testing.T) {
	list := []quantised{
		{0, precisionInt4, 32, true, bundle.Prefix}, {0, precisionInt8, 32, false, bundle.Causal}, {4, precisionInt4, 128, false, bundle.Bidirectional},
		{4, precisionInt8, 32, true, bundle.Bidirectional},
	}
	for _, precision := range []string{precisionInt4, precisionInt8} {
		for _, block := range []int{32, 64, 128} {
			for _, asymmetric := range []bool{false, true} {
				list = append(list, quantised{1, precision, block, asymmetric, bundle.Bidirectional})
			}
		}
	}
	runtime := openRuntime(t)
	train, err := filepath.Abs("../train")
	if err != nil {
		t.Fatal(err)
	}
	var jobs []map[string]any
	var bundles []*bundle.Bundle
	dir := t.TempDir()
	for i, q := range list {
		s := references(t)[q.sample]
		bundles = append(bundles, s.exportWith(t, q.change))
		jobs = append(jobs, map[string]any{
			"checkpoint": s.dir, "bundle": bundles[i].Dir, "images": s.images, "slots": s.chunk * s.dims, "attention": q.attention,
			"case": filepath.Join(s.results, "case-0.safetensors"), "mutations": q.mutations(), "out": filepath.Join(dir, fmt.Sprintf("%d.safetensors", i)),
		})
	}
	stdin, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var reports []struct {
		Weights, Padding int
		Error, Inside    float64
	}
	if err := json.Unmarshal(pytest.Run(t, stdin, "testdata/quantised.py", train), &reports); err != nil {
		t.Fatal(err)
	}
	for i, q := range list {
		t.Run(q.String(), func(t *testing.T) {
			s := references(t)[q.sample]
			r, layers := reports[i], bundles[i].Manifest.Model.Layers
			if r.Weights != 7*layers || r.Padding != 0 {
				t.Errorf("%d quantised weights in %d layers, padding is off by %d codes", r.Weights, layers, r.Padding)
			}
			// Rounding is by half a step; a zero point is rounded itself, and symmetric blocks
			// have one code less on the side that is nearer to 0.
			if !(r.Error <= 1.0001) || !(r.Inside <= 0.5001) || !(r.Error > 0.4) {
				t.Errorf("a weight is wrong by %g scales, one that a code can reach by %g", r.Error, r.Inside)
			}
			step, err := runtime.Step(bundles[i])
			if err != nil {
				t.Fatal(err)
			}
			defer step.Close()
			in := s.reference(t, 0)
			var got decode.Logits
			if err := step.Logits(in.observation(&s))(t.Context(), 0, integers(in["tokens"]), &got); err != nil {
				t.Fatal(err)
			}
			s.results = dir
			want := s.load(t, fmt.Sprintf("%d.safetensors", i))
			d := largestDifference(got.Values, want["logits"])
			t.Logf("largest difference %.2g", d)
			if !(d < 1e-3) {
				t.Errorf("logits differ by %g", d)
			}
			for _, mutation := range q.mutations() {
				if d := largestDifference(got.Values, want["logits."+mutation]); !(d > 1e-2) {
					t.Errorf("%s goes unnoticed, difference %g", mutation, d)
				}
			}
		})
	}
}

// Small rows by hand: codes, the low nibble first, padding at the zero point, and
// a zero point for each block.
func TestQuantisedBytes(t *testing.T) {
	row := make([]float32, 33)
	row[0], row[1], row[2], row[31], row[32] = -8, 7, 3.4, 1, 5
	half := func(first, last byte) []byte {
		b := bytes.Repeat([]byte{first}, 16)
		b[15] = last
		return b
	}
	four := append(half(0x88, 0x98), half(0x88, 0x88)...)
	four[0], four[1], four[16] = 0xf0, 0x8b, 0x80
	eight := bytes.Repeat([]byte{128}, 64)
	eight[0], eight[1], eight[2], eight[31], eight[32] = 0, 240, 182, 144, 0
	// Block 0 covers -8..7 by ones, block 1 covers 0..5 by thirds.
	own := append(half(0x88, 0x98), half(0, 0)...)
	own[0], own[1], own[16] = 0xf0, 0x8b, 0x0f
	for _, c := range []struct {
		q      quantisation
		codes  []byte
		scales []float32
		zeros  []byte
	}{
		{quantisation{4, 32, true}, four, []float32{1, -0.625}, nil},
		{quantisation{8, 32, true}, eight, []float32{0.0625, -5.0 / 128}, nil},
		{quantisation{4, 32, false}, own, []float32{1, 1.0 / 3}, []byte{0x08}},
	} {
		codes, scales, zeros, err := c.q.quantise(row, len(row), onnx.Float32)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(codes, c.codes) || !slices.Equal(scales, c.scales) || !bytes.Equal(zeros, c.zeros) {
			t.Errorf("%+v:\n%x %v %x, want\n%x %v %x", c.q, codes, scales, zeros, c.codes, c.scales, c.zeros)
		}
	}
	// Zeros, and values whose scale is no number: both stand for 0.
	tiny := make([]float32, 64)
	tiny[40] = math.SmallestNonzeroFloat32
	for _, q := range []quantisation{{4, 32, true}, {8, 32, false}} {
		codes, scales, _, err := q.quantise(tiny, len(tiny), onnx.Float32)
		if err != nil || scales[0] != 0 || scales[1] != 0 || len(slices.Compact(codes)) != 1 {
			t.Errorf("%+v of almost nothing: %v %v", q, scales, err)
		}
	}
	for _, v := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		q := quantisation{4, 32, true}
		if _, _, _, err := q.quantise([]float32{1, 2, 3, float32(v)}, 2, onnx.Float32); err == nil || !strings.Contains(err.Error(), "row 1: a weight is") {
			t.Errorf("%g: %v", v, err)
		}
	}
}

// Integer weights in the loop's body are the step graph's: the first round of the
// fused graph has the confidences of its logits.
func TestBothGraphsHoldTheSameIntegers(t *testing.T) {
	runtime := openRuntime(t)
	for _, q := range []quantised{{1, precisionInt4, 32, true, bundle.Bidirectional}, {0, precisionInt8, 32, true, bundle.Prefix}} {
		s := references(t)[q.sample]
		fused, step := loaded(t, runtime, s.exportWith(t, q.change))
		sameFirstRound(t, fmt.Sprint(q), &s, fused, step)
	}
}

// A quantised export is planned and repeated as others are, its manifest says
// what it is, ONNX's checker accepts its graphs, and only the Llama's linear
// layers are integers.
func TestQuantisedExport(t *testing.T) {
	q := quantised{1, precisionInt4, 64, true, bundle.Bidirectional}
	s := references(t)[q.sample]
	var done, total int64
	first := s.exportWith(t, q.change)
	second := s.exportWith(t, func(o *Options) {
		q.change(o)
		o.Progress = func(d, all int64) { done, total = d, all }
	})
	if done != total {
		t.Errorf("progress ended at %d of %d", done, total)
	}
	want := files(t, first.Dir)
	for name, raw := range files(t, second.Dir) {
		if !bytes.Equal(raw, want[name]) {
			t.Errorf("%s differs", name)
		}
	}
	m := first.Manifest.Model
	if m.Precision != bundle.Int4 || *m.Quantisation != (bundle.Quantisation{BlockSize: 64}) {
		t.Errorf("manifest %s %+v", m.Precision, m.Quantisation)
	}
	o := s.options("")
	q.change(&o)
	p, err := MakePlan(o)
	if err != nil {
		t.Fatal(err)
	}
	if n := int64(len(want[bundle.WeightsFile])); n != p.StoreBytes || m.Parameters != p.Manifest.Model.Parameters {
		t.Errorf("%d bytes were planned, %d written", p.StoreBytes, n)
	}
	plain, err := MakePlan(s.options(""))
	if err != nil {
		t.Fatal(err)
	}
	if m.Parameters != plain.Manifest.Model.Parameters {
		t.Errorf("%d parameters, %d as float32", m.Parameters, plain.Manifest.Model.Parameters)
	}
	g, err := onnx.Describe(first.Path(bundle.GraphFile))
	if err != nil {
		t.Fatal(err)
	}
	integers := 0
	for _, w := range g.Tensors {
		if w.Type == "uint8" {
			integers++
			if !strings.HasPrefix(w.Name, layersName) || !strings.Contains(w.Name, "_proj.weight") {
				t.Errorf("%s is %s", w.Name, w.Type)
			}
		}
	}
	if integers != 2*7*m.Layers {
		t.Errorf("%d integer tensors, want codes and zero points of 7 weights in %d layers", integers, m.Layers)
	}
	for _, e := range p.Tensors {
		if e.Name == layersName+"0.mlp.down_proj.weight" {
			// 66 rows of 70: 2 blocks of 32 bytes, 2 scales, 1 byte of zero points.
			if got := fmt.Sprint(e.Form, e.StoredType, e.Stored, e.StoredBytes); got != fmt.Sprint("in blocks", "INT4", []int64{66, 70}, 66*(64+8+1)) {
				t.Errorf("planned %s", got)
			}
		}
	}
	var reports []struct{ Operators []string }
	paths := []string{first.Path(bundle.GraphFile), first.Path(bundle.StepFile)}
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/check.py", paths...), &reports); err != nil {
		t.Fatal(err)
	}
	for i, r := range reports {
		if !slices.Contains(r.Operators, "MatMulNBits") {
			t.Errorf("%s has no MatMulNBits", paths[i])
		}
	}
}

func TestQuantisedExportRefuses(t *testing.T) {
	s := references(t)[2]
	for want, change := range map[string]func(o *Options){
		`precision is "fp8"`:           func(o *Options) { o.Precision = "fp8" },
		"block-size is 48":             func(o *Options) { o.Precision, o.BlockSize = precisionInt4, 48 },
		"asymmetric is given":          func(o *Options) { o.Asymmetric = true },
		"block-size is given":          func(o *Options) { o.Precision, o.BlockSize = precisionFP16, 32 },
		"observations are given":       func(o *Options) { o.Observations = []Observation{{}} },
		`vision-precision is "int8"`:   func(o *Options) { o.VisionPrecision = precisionInt8 },
		`activations is "int8"`:        func(o *Options) { o.Precision, o.Activations = precisionInt4, precisionInt8 },
		"activations is fp32, but the": func(o *Options) { o.Precision, o.Activations = precisionBF16, precisionFP32 },
	} {
		o := s.options(filepath.Join(t.TempDir(), "bundle"))
		change(&o)
		if err := Export(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := os.Stat(o.Out); err == nil {
			t.Errorf("%s: a bundle was written", want)
		}
	}
}
