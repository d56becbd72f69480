package weights

import (
	"context"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	onnxruntime "github.com/yalue/onnxruntime_go"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// tableGraph is the decoder d without a network: logits come from an input, one
// table [T, B, L, K] per run, and with full so does the softmax denominator.
func tableGraph(t testing.TB, d denoiser, full bool) string {
	t.Helper()
	g := onnx.New("decode", nil)
	dims := []onnx.Dim{onnx.Symbol("T"), onnx.Symbol("B"), onnx.Size(d.slots), onnx.Size(d.bins)}
	table := g.Input("table", onnx.Float32, dims...)
	denominators := onnx.Value{}
	if full {
		denominators = g.Input("denominators", onnx.Float32, dims[:3]...)
	}
	d.logits = func(body *onnx.Graph, round, _ onnx.Value) (onnx.Value, onnx.Value) {
		x := body.Gather(table, round, 0)
		if full {
			return x, body.Gather(denominators, round, 0)
		}
		return x, onnx.Value{}
	}
	d.build(g)
	raw, err := g.Marshal("test")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "decode.onnx")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tableSession runs a tableGraph.
type tableSession struct {
	handle *onnxruntime.DynamicAdvancedSession
	full   bool
}

func newTableSession(t testing.TB, d denoiser, full bool) *tableSession {
	t.Helper()
	names := []string{
		"table", "known", "initial", "initial_confidence", "masked_after", "token_temperature", "choice_temperature",
		"committed_bias", "threshold", "drop_threshold", "token_noise", "choice_noise", "score", "commit_confidence", "mean_window",
	}
	if full {
		names = append(names, "denominators")
	}
	options, err := onnxruntime.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer options.Destroy()
	if err := options.SetIntraOpNumThreads(1); err != nil {
		t.Fatal(err)
	}
	handle, err := onnxruntime.NewDynamicAdvancedSession(tableGraph(t, d, full), names,
		[]string{"bins", "confidence", "mean", "rounds", "trace_bins", "trace_confidence"}, options)
	if err != nil {
		t.Fatal(err)
	}
	return &tableSession{handle: handle, full: full}
}

func tensor[T onnxruntime.TensorData](t testing.TB, data []T, dims ...int) onnxruntime.Value {
	shape := make(onnxruntime.Shape, len(dims))
	for i, n := range dims {
		shape[i] = int64(n)
	}
	v, err := onnxruntime.NewTensor(shape, data)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// table is given logits for every round.
type table struct {
	logits, denominators []float32
}

func (s *tableSession) run(t testing.TB, in *decode.Inputs, given table) *decode.Result {
	t.Helper()
	T, B, L := in.Rounds, in.Batch, in.Positions
	inputs := []onnxruntime.Value{
		tensor(t, given.logits, T, B, L, in.Bins), tensor(t, in.Known, B, L), tensor(t, in.Initial, B, L),
		tensor(t, in.InitialConfidence, B, L), tensor(t, in.MaskedAfter, T, B), tensor(t, in.TokenTemperature, T),
		tensor(t, in.ChoiceTemperature, T), tensor(t, in.CommittedBias, T), tensor(t, in.Threshold, T),
		tensor(t, in.DropThreshold, T), tensor(t, in.TokenNoise.Data, in.TokenNoise.Shape...),
		tensor(t, in.ChoiceNoise.Data, in.ChoiceNoise.Shape...), tensor(t, []int64{in.Score}, 1),
		tensor(t, in.CommitConfidence, T), tensor(t, []int64{in.MeanWindow}, 1),
	}
	if s.full {
		inputs = append(inputs, tensor(t, given.denominators, T, B, L))
	}
	outputs := make([]onnxruntime.Value, 6)
	if err := s.handle.Run(inputs, outputs); err != nil {
		t.Fatal(err)
	}
	res := &decode.Result{
		Bins:            slices.Clone(outputs[0].(*onnxruntime.Tensor[int64]).GetData()),
		Confidence:      slices.Clone(outputs[1].(*onnxruntime.Tensor[float32]).GetData()),
		Mean:            slices.Clone(outputs[2].(*onnxruntime.Tensor[float32]).GetData()),
		Rounds:          int(outputs[3].(*onnxruntime.Tensor[int64]).GetData()[0]),
		TraceBins:       slices.Clone(outputs[4].(*onnxruntime.Tensor[int64]).GetData()),
		TraceConfidence: slices.Clone(outputs[5].(*onnxruntime.Tensor[float32]).GetData()),
	}
	for _, v := range append(inputs, outputs...) {
		if err := v.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	return res
}

// decoder is the table for the Go decoder.
func (given table) decoder(in *decode.Inputs) decode.LogitsFunc {
	size := in.Batch * in.Positions
	return func(_ context.Context, round int, _ []int64, out *decode.Logits) error {
		copy(out.Values, given.logits[round*size*in.Bins:])
		if given.denominators != nil {
			out.LogDenominator = given.denominators[round*size:][:size]
		}
		return nil
	}
}

// drawCase draws one decoding of at most most rounds with any options. Half of the time logits, noise
// and thresholds are multiples of a half or so, which makes ties of every kind.
func drawCase(t *rapid.T, slots, bins, most int, full bool) (*decode.Inputs, table) {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	T, B := rapid.IntRange(1, most).Draw(t, "T"), rapid.IntRange(1, 3).Draw(t, "B")
	coarse := rapid.Bool().Draw(t, "coarse")
	number := func(scale float64) float32 {
		x := rng.NormFloat64() * scale
		if coarse {
			x = math.Round(2*x) / 2
		}
		return float32(x)
	}
	masked := make([]int, B)
	for b := range masked {
		masked[b] = rapid.IntRange(0, slots).Draw(t, "masked")
	}
	p := decode.Params{
		Preset: rapid.SampledFrom(decode.Presets()).Draw(t, "preset"), Rounds: T,
		Schedule: rapid.SampledFrom(append(decode.Schedules(), "")).Draw(t, "schedule"),
	}
	if rapid.IntRange(0, 3).Draw(t, "table") == 0 {
		p.Schedule = ""
		for range T - 1 {
			p.ScheduleTable = append(p.ScheduleTable, rng.Float64())
		}
		slices.Sort(p.ScheduleTable)
		slices.Reverse(p.ScheduleTable)
		p.ScheduleTable = append(p.ScheduleTable, 0)
	}
	in, err := p.Inputs(masked, slots, bins, decode.NewNoise(rng.Uint64()))
	if err != nil {
		t.Fatal(err)
	}
	anything := rapid.Bool().Draw(t, "anything")
	for b, n := range masked {
		for i, at := range rng.Perm(slots) {
			at += b * slots
			bin := int64(rng.IntN(bins))
			switch {
			case i < n:
			case rng.IntN(2) == 0:
				in.Known[at] = bin
				in.Initial[at] = int64(rng.IntN(bins+1)) - 1 // known wins
			default:
				in.Initial[at] = bin
			}
			in.InitialConfidence[at] = rng.Float32()
			if coarse {
				in.InitialConfidence[at] = float32(math.Round(4*rng.Float64()) / 4)
			}
		}
	}
	if anything {
		in.Score = int64(rng.IntN(3))
		in.MeanWindow = int64(rng.IntN(bins))
		for i := range in.MaskedAfter {
			in.MaskedAfter[i] = int64(rng.IntN(slots + 1))
		}
		some := func(dst []float32, values ...float32) {
			for i := range dst {
				dst[i] = values[rng.IntN(len(values))]
			}
		}
		inf := float32(math.Inf(1))
		some(in.TokenTemperature, 0, 0, 0.5, 1, 2)
		some(in.ChoiceTemperature, 0, 0, 0.5, 1, 2)
		some(in.CommittedBias, inf, inf, 0, -1, 1, -inf)
		some(in.Threshold, 0, 0.25, 0.5, 1, rng.Float32())
		some(in.DropThreshold, inf, inf, 0, 0.25, rng.Float32())
		some(in.CommitConfidence, 2, 2, 1, 0.5, 0.25, 0, rng.Float32())
		noise := func(dims ...int) decode.Array {
			size := 1
			for d := range dims {
				if rng.IntN(2) == 0 {
					dims[d] = 1
				}
				size *= dims[d]
			}
			a := decode.Array{Shape: dims, Data: make([]float32, size)}
			for i := range a.Data {
				a.Data[i] = number(1)
			}
			return a
		}
		in.TokenNoise, in.ChoiceNoise = noise(T, B, slots, bins), noise(T, B, slots)
	}
	given := table{logits: make([]float32, T*B*slots*bins)}
	scale := rapid.SampledFrom([]float64{0, 1, 4, 60}).Draw(t, "scale")
	for i := range given.logits {
		given.logits[i] = number(scale)
	}
	if full {
		given.denominators = make([]float32, T*B*slots)
		for i := range given.denominators {
			var sum float64
			for _, x := range given.logits[i*bins:][:bins] {
				sum += math.Exp(float64(x))
			}
			given.denominators[i] = float32(math.Log(sum + rng.Float64()))
		}
	}
	return in, given
}

// drawCentres draws bins of its own for some of the columns of slots positions, or
// none at all.
func drawCentres(t *rapid.T, slots, bins int) []float32 {
	columns := 1
	for _, n := range []int{2, 3} {
		if slots%n == 0 {
			columns = n
		}
	}
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "edges"), 0))
	edges := make([][]float64, columns)
	for d := range edges {
		if rng.IntN(3) == 0 {
			continue
		}
		for range bins - 1 {
			edges[d] = append(edges[d], 2*rng.Float64()-1)
		}
		slices.Sort(edges[d])
		edges[d] = slices.Concat([]float64{-1}, edges[d], []float64{1})
	}
	return decode.CentresOf(edges, slots/columns, bins)
}

// TestGraphEqualsGoDecoder: on given logits the loop gives the tokens of
// decode.Decode in every round, whatever the options, in 1 to 64 rounds.
func TestGraphEqualsGoDecoder(t *testing.T) {
	openRuntime(t)
	long := 0 // decodings that run more than 32 rounds
	rapid.Check(t, func(rt *rapid.T) {
		slots, bins := rapid.IntRange(1, 24).Draw(rt, "L"), rapid.IntRange(2, 40).Draw(rt, "K")
		full := rapid.Bool().Draw(rt, "full")
		centres := drawCentres(rt, slots, bins)
		s := newTableSession(t, denoiser{slots: slots, bins: bins, centres: centres, wide: float64Type}, full)
		defer s.handle.Destroy()
		for range 10 {
			in, given := drawCase(rt, slots, bins, rapid.SampledFrom([]int{8, decode.MaxRounds}).Draw(rt, "most"), full)
			if centres != nil {
				in.Centres = centres
			}
			want, err := decode.Decode(context.Background(), given.decoder(in), in)
			if err != nil {
				rt.Fatal(err)
			}
			sameDecoding(rt, in, s.run(t, in, given), want, 2e-7)
			if want.Rounds > 32 {
				long++
			}
		}
	})
	if long == 0 {
		t.Error("no decoding runs more than 32 rounds")
	}
}

// sameDecoding wants the same tokens in every round, and numbers no further
// apart than tolerance.
func sameDecoding(t *rapid.T, in *decode.Inputs, have, want *decode.Result, tolerance float64) {
	if have.Rounds != want.Rounds {
		t.Fatalf("the graph ran %d rounds, the decoder %d", have.Rounds, want.Rounds)
	}
	size := in.Batch * in.Positions
	for i := range want.TraceBins {
		if have.TraceBins[i] != want.TraceBins[i] {
			round := i / size
			row := i % size / in.Positions
			t.Fatalf("round %d, row %d, position %d: bin %d in the graph, %d in the decoder (margin %g)",
				round, row, i%in.Positions, have.TraceBins[i], want.TraceBins[i], want.TraceMargin[round*in.Batch+row])
		}
	}
	if !slices.Equal(have.Bins, want.Bins) {
		t.Fatalf("bins %v, want %v", have.Bins, want.Bins)
	}
	for _, v := range []struct {
		name       string
		have, want []float32
	}{
		{"confidence", have.Confidence, want.Confidence}, {"mean", have.Mean, want.Mean},
		{"trace_confidence", have.TraceConfidence, want.TraceConfidence},
	} {
		for i := range v.want {
			if d := math.Abs(float64(v.have[i] - v.want[i])); !(d <= tolerance) {
				t.Fatalf("%s %d: %g in the graph, %g in the decoder", v.name, i, v.have[i], v.want[i])
			}
		}
	}
}

func openRuntime(t testing.TB) *ort.Runtime {
	t.Helper()
	r, err := ort.Open(ort.Config{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

// BenchmarkRounds is the loop without a network, at the size of a chunk of
// eight rows of two arms: what decoding adds to each round in the graph.
func BenchmarkRounds(b *testing.B) {
	openRuntime(b)
	const slots, bins, T = 112, 256, 12
	s := newTableSession(b, denoiser{slots: slots, bins: bins, wide: float64Type}, false)
	defer s.handle.Destroy()
	for _, preset := range []decode.Preset{decode.Greedy, decode.Official} {
		b.Run(string(preset), func(b *testing.B) {
			in, err := decode.Params{Preset: preset, Rounds: T, Threshold: []float64{0}}.Inputs([]int{slots}, slots, bins, decode.NewNoise(1))
			if err != nil {
				b.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 1))
			given := table{logits: make([]float32, T*slots*bins)}
			for i := range given.logits {
				given.logits[i] = float32(rng.NormFloat64())
			}
			for b.Loop() {
				s.run(b, in, given)
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N)/T, "us/round")
		})
	}
}
