package ort

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	pb "github.com/advancedclimatesystems/gonnx/onnx"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights/onnx"
)

// manifest is a model of two cameras, two rows of three dimensions and eight
// bins.
func manifest() bundle.Manifest {
	m := bundle.Manifest{
		Model:   bundle.Model{ImageSize: 4, Attention: bundle.Bidirectional, Vocabulary: bundle.FullVocabulary, Refresh: true},
		Cameras: []bundle.Camera{{Name: "head"}, {Name: "wrist"}},
		Tokens:  bundle.Tokens{BOS: 1, Empty: 7, Bins: 8},
		Prompt:  bundle.Prompt{MaxTokens: 10},
		Action:  bundle.Action{Chunk: 2, Dims: make([]bundle.ActionDim, 3)},
		Proprio: &bundle.Proprio{Dims: make([]bundle.ProprioDim, 5)},
		Files:   map[string]string{bundle.StepFile: ""},
	}
	return m
}

func declare(g *onnx.Graph, ports []port) map[string]onnx.Value {
	values := map[string]onnx.Value{}
	for _, p := range ports {
		var dims []onnx.Dim
		for i, n := range p.dims {
			d := onnx.Symbol(fmt.Sprintf("%s_%d", p.name, i))
			if n != free {
				d = onnx.Size(int(n))
			}
			dims = append(dims, d)
		}
		values[p.name] = g.Input(p.name, onnx.Type(p.elem), dims...)
	}
	return values
}

// simpleFused has the signature of a fused graph and no network: every masked
// position gets the number of prompt ids as its bin, confidence is the first
// threshold, mean the first proprio, and a loop of as many rounds as the last
// threshold says multiplies matrices before.
func simpleFused(t *testing.T, inputs []port) []byte {
	t.Helper()
	g := onnx.New("simple", nil)
	in := declare(g, inputs)
	body := g.Body("work")
	body.Input("i", onnx.Int64)
	body.Input("on", onnx.Bool)
	state := body.Input("state", onnx.Float32, onnx.Size(8), onnx.Size(8))
	body.Output("on_out", body.Bool(true), onnx.Bool)
	body.Output("state_out", body.MatMul(state, state), onnx.Float32, onnx.Size(8), onnx.Size(8))
	last := g.Gather(in["threshold"], g.Int(-1), 0)
	zero := g.Mul(g.Expand(last, g.Ints(8, 8)), g.Float(0))
	worked := g.Loop(g.Cast(last, onnx.Int64), onnx.Value{}, []onnx.Value{zero}, body)[0]
	nothing := g.ReduceSum(worked, false, 0, 1)

	known := in["known"]
	bins := g.Where(g.Less(known, g.Int(0)), g.ShapeOf(in["prompt_ids"], 1, 2), known)
	like := g.Mul(g.Cast(bins, onnx.Float32), g.Float(0))
	confidence := g.Add(like, g.Add(g.Gather(in["threshold"], g.Int(0), 0), nothing))
	mean := g.Add(like, g.Slice(in["proprio"], g.Ints(0), g.Ints(1), 1))
	var dims = []onnx.Dim{onnx.Symbol("B"), onnx.Size(6)}
	g.Output("bins", bins, onnx.Int64, dims...)
	g.Output("confidence", confidence, onnx.Float32, dims...)
	g.Output("mean", mean, onnx.Float32, dims...)
	g.Output("rounds", g.Ints(1), onnx.Int64, onnx.Size(1))
	g.Output("trace_bins", g.Unsqueeze(bins, 0), onnx.Int64, append([]onnx.Dim{onnx.Symbol("R")}, dims...)...)
	g.Output("trace_confidence", g.Unsqueeze(confidence, 0), onnx.Float32, append([]onnx.Dim{onnx.Symbol("R")}, dims...)...)
	return marshal(t, g)
}

func marshal(t *testing.T, g *onnx.Graph) []byte {
	t.Helper()
	raw, err := g.Marshal("test")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// inBundle writes a graph where a bundle has it.
func inBundle(t *testing.T, m bundle.Manifest, file string, raw []byte) *bundle.Bundle {
	t.Helper()
	b := &bundle.Bundle{Dir: t.TempDir(), Manifest: m}
	if err := os.WriteFile(b.Path(file), raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return b
}

// fusedInputs decodes batch rows with a prompt of p ids in rounds rounds.
func fusedInputs(t *testing.T, m *bundle.Manifest, batch, p, rounds int, preset decode.Preset) *FusedInputs {
	t.Helper()
	l := m.Action.Tokens()
	d, err := decode.Params{Preset: preset, Rounds: rounds}.Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, decode.NewNoise(1))
	if err != nil {
		t.Fatal(err)
	}
	for i := range d.Threshold {
		d.Threshold[i] = 0.5
	}
	in := &FusedInputs{Inputs: d, Observation: probeObservation(m)}
	in.Images = slices.Repeat(in.Images, batch)
	in.PromptIDs = make([]int64, batch*p)
	in.Proprio = make([]float32, batch*len(m.Proprio.Dims))
	for i := range in.Proprio {
		in.Proprio[i] = float32(i)
	}
	return in
}

func fused(t *testing.T, r *Runtime, b *bundle.Bundle) *Fused {
	t.Helper()
	f, err := r.Fused(b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func TestFusedRunsShapesInTurn(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	inputs, _ := fusedPorts(&m)
	f := fused(t, r, inBundle(t, m, bundle.GraphFile, simpleFused(t, inputs)))
	for _, c := range []struct {
		batch, p, rounds int
		preset           decode.Preset
	}{{1, 3, 4, decode.Greedy}, {1, 3, 4, decode.Greedy}, {2, 7, 12, decode.Official}, {1, 5, 2, decode.Paper}, {1, 3, 4, decode.Greedy}} {
		in := fusedInputs(t, &m, c.batch, c.p, c.rounds, c.preset)
		in.Known[1] = 2
		out, err := f.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		p := int64(c.p)
		if want := []int64{p, 2, p, p, p, p}; !slices.Equal(out.Bins[:6], want) || len(out.Bins) != 6*c.batch {
			t.Errorf("%+v: bins %v", c, out.Bins)
		}
		if out.Rounds != 1 || !slices.Equal(out.TraceBins, out.Bins) || out.Confidence[0] != 0.5 {
			t.Errorf("%+v: %+v", c, out)
		}
		if want := float32(5 * (c.batch - 1)); out.Mean[len(out.Mean)-1] != want {
			t.Errorf("%+v: mean of the last row %g, want %g", c, out.Mean[len(out.Mean)-1], want)
		}
	}
}

// unrolledFused has the signature of a graph of four rounds and no Loop: bins are
// the round's number, confidence its threshold, mean its masked_after, and rounds
// says how many first rounds have masked_after above 0, and one more.
func unrolledFused(t *testing.T, inputs []port) []byte {
	t.Helper()
	g := onnx.New("unrolled", nil)
	in := declare(g, inputs)
	b, l, rounds := onnx.Symbol("B"), onnx.Size(6), onnx.Size(4)
	zero := g.Mul(g.Cast(in["known"], onnx.Float32), g.Float(0)) // [B, L]
	perRound := func(v onnx.Value) onnx.Value { return g.Add(g.Unsqueeze(v, 1, 2), g.Unsqueeze(zero, 0)) }
	masked := g.Cast(in["masked_after"], onnx.Float32) // [T, B]
	after := g.ReduceMax(masked, false, 1)
	ran := g.Add(g.ReduceSum(g.Cast(g.Greater(after, g.Float(0)), onnx.Int64), true, 0), g.Ints(1))
	bins := g.Cast(perRound(g.Floats(0, 1, 2, 3)), onnx.Int64)
	g.Output("bins", g.Gather(bins, g.Int(3), 0), onnx.Int64, b, l)
	g.Output("confidence", g.Add(zero, g.Gather(in["threshold"], g.Int(-1), 0)), onnx.Float32, b, l)
	g.Output("mean", g.Add(zero, g.Gather(after, g.Int(-1), 0)), onnx.Float32, b, l)
	g.Output("rounds", ran, onnx.Int64, onnx.Size(1))
	g.Output("trace_bins", bins, onnx.Int64, rounds, b, l)
	g.Output("trace_confidence", perRound(in["threshold"]), onnx.Float32, rounds, b, l)
	return marshal(t, g)
}

// TestUnrolledGraphRunsFewerRounds: inputs are padded to the graph's rounds, the
// traces cut to those that ran, and more rounds are refused.
func TestUnrolledGraphRunsFewerRounds(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	m.Model.Unrolled = 4
	inputs, _ := fusedPorts(&m)
	f := fused(t, r, inBundle(t, m, bundle.GraphFile, unrolledFused(t, inputs)))
	for _, preset := range []decode.Preset{decode.Greedy, decode.Official} {
		for rounds := 1; rounds <= 4; rounds++ {
			in := fusedInputs(t, &m, 2, 3, rounds, preset)
			out, err := f.Run(context.Background(), in)
			if err != nil {
				t.Fatal(err)
			}
			last := float32(0.5) // of the graph's last round, which padding leaves out of use
			if rounds < 4 {
				last = 0
			}
			if out.Rounds != rounds || out.Confidence[0] != last || out.Mean[0] != 0 || out.Bins[0] != 3 {
				t.Errorf("%s, %d rounds: %+v", preset, rounds, out)
			}
			if len(out.TraceBins) != rounds*12 || len(out.TraceConfidence) != rounds*12 || out.TraceBins[rounds*12-1] != int64(rounds-1) {
				t.Errorf("%s, %d rounds: trace %v", preset, rounds, out.TraceBins)
			}
			if in.Rounds != rounds || len(in.Threshold) != rounds || in.Threshold[rounds-1] != 0.5 {
				t.Errorf("%s, %d rounds: the inputs were changed: %+v", preset, rounds, in.Inputs)
			}
		}
	}
	var fe *decode.FieldError
	if _, err := f.Run(context.Background(), fusedInputs(t, &m, 1, 3, 5, decode.Greedy)); !errors.As(err, &fe) || fe.Field != "rounds" || !strings.Contains(err.Error(), "has 4 rounds") {
		t.Errorf("5 rounds: %v", err)
	}
	m.Model.Unrolled = 5
	if _, err := r.Fused(inBundle(t, m, bundle.GraphFile, unrolledFused(t, inputs))); !errors.Is(err, ErrGraph) || !strings.Contains(err.Error(), `"masked_after" is int64[4,?] in the graph, int64[5,?] by the manifest`) {
		t.Errorf("another number of rounds: %v", err)
	}
	// A graph with a Loop gives as many rows of its trace as rounds ran.
	m.Model.Unrolled = 0
	looped, _ := fusedPorts(&m)
	m.Model.Unrolled = 5
	f = fused(t, r, inBundle(t, m, bundle.GraphFile, simpleFused(t, looped)))
	if _, err := f.Run(context.Background(), fusedInputs(t, &m, 1, 3, 2, decode.Greedy)); !errors.Is(err, ErrGraph) {
		t.Errorf("a graph with a Loop: %v", err)
	}
}

func TestUnchangedShapesReuseTensors(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	inputs, _ := fusedPorts(&m)
	f := fused(t, r, inBundle(t, m, bundle.GraphFile, simpleFused(t, inputs)))
	in := fusedInputs(t, &m, 1, 3, 4, decode.Official)
	var before []any
	for range 2 {
		if _, err := f.Run(context.Background(), in); err != nil {
			t.Fatal(err)
		}
		var now []any
		for _, s := range f.session.inputs {
			now = append(now, s.value)
		}
		if before != nil && !slices.Equal(before, now) {
			t.Error("tensors were made again")
		}
		before = now
	}
}

// TestCancelEndsARunningGraph: the graph's loop would run for days.
func TestCancelEndsARunningGraph(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	inputs, _ := fusedPorts(&m)
	f := fused(t, r, inBundle(t, m, bundle.GraphFile, simpleFused(t, inputs)))
	in := fusedInputs(t, &m, 1, 3, 1, decode.Greedy)
	in.Threshold[0] = 1e12
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if _, err := f.Run(ctx, in); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("have %v", err)
	}
	if _, err := f.Run(ctx, in); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a context that ended: %v", err)
	}
	in.Threshold[0] = 1
	if _, err := f.Run(context.Background(), in); err != nil {
		t.Errorf("the run after: %v", err)
	}
}

func TestGraphThatDisagreesWithTheManifestIsRefused(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	index := func(ports []port, name string) int {
		return slices.IndexFunc(ports, func(p port) bool { return p.name == name })
	}
	for _, c := range []struct {
		name  string
		spoil func([]port) []port
		want  []string
	}{
		{"another image size", func(p []port) []port {
			p[0].dims = []int64{free, 2, 8, 8, 3}
			return p
		}, []string{`"images"`, "uint8[?,2,8,8,3]", "uint8[?,2,4,4,3]"}},
		{"another number of cameras", func(p []port) []port {
			p[0].dims = []int64{free, 3, 4, 4, 3}
			return p
		}, []string{`"images"`, "uint8[?,3,4,4,3]", "uint8[?,2,4,4,3]"}},
		{"another type", func(p []port) []port {
			p[index(p, "threshold")].elem = pb.TensorProto_FLOAT
			p[0].elem = pb.TensorProto_FLOAT
			return p
		}, []string{`"images"`, "float[?,2,4,4,3]"}},
		{"another rank", func(p []port) []port {
			p[index(p, "choice_noise")].dims = []int64{free, free}
			return p
		}, []string{`"choice_noise"`, "float[?,?]", "float[?,?,?]"}},
		{"a missing input", func(p []port) []port {
			return slices.Delete(p, index(p, "initial"), index(p, "initial")+1)
		}, []string{`no input "initial"`, "int64[?,6]"}},
		{"an input too many", func(p []port) []port {
			return append(p, port{name: "language", elem: pb.TensorProto_FLOAT, dims: []int64{9}})
		}, []string{`"language"`, "float[9]", "not in the manifest"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inputs, _ := fusedPorts(&m)
			_, err := r.Fused(inBundle(t, m, bundle.GraphFile, simpleFused(t, c.spoil(inputs))))
			if !errors.Is(err, ErrGraph) {
				t.Fatalf("have %v", err)
			}
			for _, part := range append(c.want, bundle.GraphFile, "export the bundle again") {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("%v does not say %s", err, part)
				}
			}
		})
	}
	inputs, _ := fusedPorts(&m)
	raw := simpleFused(t, inputs)
	m.Action.Chunk = 4 // the outputs are for two rows, the symbolic inputs for any
	if _, err := r.Fused(inBundle(t, m, bundle.GraphFile, raw)); !errors.Is(err, ErrGraph) || !strings.Contains(err.Error(), `"known"`) {
		t.Errorf("another chunk: %v", err)
	}
	m = manifest()
	without := slices.DeleteFunc(inputs, func(p port) bool { return p.name == "recompute_prefix" })
	if _, err := r.Fused(inBundle(t, m, bundle.GraphFile, simpleFused(t, without))); !errors.Is(err, ErrGraph) || !strings.Contains(err.Error(), `"recompute_prefix"`) {
		t.Errorf("no recompute_prefix: %v", err)
	}
	m.Model.Refresh = false
	f := fused(t, r, inBundle(t, m, bundle.GraphFile, simpleFused(t, without)))
	in := fusedInputs(t, &m, 1, 3, 3, decode.Greedy)
	in.RecomputePrefix = []bool{false, true, true}
	if _, err := f.Run(context.Background(), in); err != nil {
		t.Errorf("exact: %v", err)
	}
	in.RecomputePrefix = []bool{true, true, false}
	var fe *decode.FieldError
	if _, err := f.Run(context.Background(), in); !errors.As(err, &fe) || fe.Field != "recompute_prefix" {
		t.Errorf("a round that does not recompute: %v", err)
	}
}

func TestBrokenFilesAreErrors(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	if _, err := r.Fused(&bundle.Bundle{Dir: t.TempDir(), Manifest: m}); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), bundle.GraphFile) {
		t.Errorf("no file: %v", err)
	}
	if _, err := r.Fused(inBundle(t, m, bundle.GraphFile, []byte("not a model"))); !errors.Is(err, ErrGraph) {
		t.Errorf("no model: %v", err)
	}
	if _, err := r.Fused(inBundle(t, m, bundle.GraphFile, nil)); !errors.Is(err, ErrGraph) {
		t.Errorf("empty file: %v", err)
	}
	var data bytes.Buffer
	store := onnx.NewStore(bundle.WeightsFile, &data)
	if err := store.Add("w", []int64{1}, []float32{1}); err != nil {
		t.Fatal(err)
	}
	inputs, _ := stepPorts(&m)
	g := onnx.New("step", store)
	like := g.Mul(g.Cast(declare(g, inputs)["tokens"], onnx.Float32), g.Weight("w"))
	g.Output("logits", g.Expand(g.Unsqueeze(like, 2), g.Ints(1, 6, 8)), onnx.Float32, onnx.Symbol("B"), onnx.Size(6), onnx.Size(8))
	g.Output("log_denominator", like, onnx.Float32, onnx.Symbol("B"), onnx.Size(6))
	b := inBundle(t, m, bundle.StepFile, marshal(t, g))
	if _, err := r.Step(b); err == nil || !strings.Contains(err.Error(), bundle.WeightsFile) {
		t.Errorf("no weights: %v", err)
	}
	if err := os.WriteFile(b.Path(bundle.WeightsFile), data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := r.Step(b); err != nil {
		t.Errorf("weights beside the graph: %v", err)
	} else if err := s.Close(); err != nil {
		t.Error(err)
	}
	m.Files = nil
	if _, err := r.Step(&bundle.Bundle{Dir: t.TempDir(), Manifest: m}); err == nil || !strings.Contains(err.Error(), bundle.StepFile) {
		t.Errorf("no step graph: %v", err)
	}
}

func TestFusedRefusesInputsThatDoNotFit(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	inputs, _ := fusedPorts(&m)
	f := fused(t, r, inBundle(t, m, bundle.GraphFile, simpleFused(t, inputs)))
	for name, spoil := range map[string]func(in *FusedInputs){
		"images":        func(in *FusedInputs) { in.Images = in.Images[1:] },
		"prompt_ids":    func(in *FusedInputs) { in.PromptIDs = make([]int64, 11) },
		"prompt_length": func(in *FusedInputs) { in.PromptLength = []int64{4} },
		"proprio":       func(in *FusedInputs) { in.Proprio = nil },
		"known":         func(in *FusedInputs) { in.Known[0] = 8 },
		"positions": func(in *FusedInputs) {
			*in.Inputs = *fusedInputs(t, &m, 1, 3, 2, decode.Greedy).Inputs
			in.Bins = 9
			in.Centres = make([]float32, 9)
		},
		"decode.Params": func(in *FusedInputs) { in.Inputs = nil },
	} {
		in := fusedInputs(t, &m, 1, 3, 2, decode.Greedy)
		spoil(in)
		if _, err := f.Run(context.Background(), in); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := f.Run(context.Background(), fusedInputs(t, &m, 1, 3, 2, decode.Greedy)); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("after Close: %v", err)
	}
}

// TestStepServesTheGoDecoder: logits and denominators of each round reach it.
func TestStepServesTheGoDecoder(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	inputs, _ := stepPorts(&m)
	g := onnx.New("step", nil)
	in := declare(g, inputs)
	// Masked positions prefer bin 5, committed ones their own.
	like := g.Where(g.Less(in["tokens"], g.Int(0)), g.Int(5), in["tokens"])
	bin := g.Ints(0, 1, 2, 3, 4, 5, 6, 7)
	logits := g.Where(g.Equal(bin, g.Unsqueeze(like, 2)), g.Float(3), g.Float(0))
	g.Output("logits", logits, onnx.Float32, onnx.Symbol("B"), onnx.Size(6), onnx.Size(8))
	g.Output("log_denominator", g.Add(g.ReduceMax(logits, false, -1), g.Float(1)), onnx.Float32, onnx.Symbol("B"), onnx.Size(6))
	s, err := r.Step(inBundle(t, m, bundle.StepFile, marshal(t, g)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := fusedInputs(t, &m, 2, 3, 4, decode.Greedy)
	f.Known[2] = 1
	out, err := decode.Decode(context.Background(), s.Logits(&f.Observation), f.Inputs)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{5, 5, 1, 5, 5, 5, 5, 5, 5, 5, 5, 5}; !slices.Equal(out.Bins, want) {
		t.Errorf("bins %v", out.Bins)
	}
	if c := out.Confidence[0]; c < 0.3678 || c > 0.3679 {
		t.Errorf("confidence %g, want 1/e", c)
	}
}

func FuzzSignature(f *testing.F) {
	g := onnx.New("g", nil)
	g.Output("y", g.Input("x", onnx.Float32, onnx.Symbol("n"), onnx.Size(3)), onnx.Float32, onnx.Size(3))
	raw, err := g.Marshal("test")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte{})
	path := filepath.Join(f.TempDir(), "m.onnx")
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		in, out, err := readSignature(path)
		if err != nil {
			return
		}
		for _, p := range append(in, out...) {
			if _, err := match("input", []port{p}, []port{p}); err != nil {
				t.Error(err)
			}
			_ = p.String()
		}
	})
}
