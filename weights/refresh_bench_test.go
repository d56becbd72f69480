package weights

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// threeCameras is a network whose prefix is five times its action block: 100
// patches of each camera, chunks of 4 rows of 14.
func threeCameras() *network {
	n := openVLA()
	for _, v := range []*vit{n.dino, n.siglip} {
		v.dim, v.depth, v.mlp, v.image = 192, 4, 768, 140
	}
	n.projector = &projector{vision: 384, inner: 768, hidden: 512}
	n.proprio.hidden, n.slots = 512, 4*14
	n.llama.rows, n.llama.hidden, n.llama.layers, n.llama.heads, n.llama.intermediate = 1088, 512, 4, 8, 1376
	return n
}

// threeCamerasOptions writes a random checkpoint of it and exports that.
func threeCamerasOptions(tb testing.TB) Options {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "checkpoint")
	if err := writeScaled(dir, threeCameras()); err != nil {
		tb.Fatal(err)
	}
	config := `{"timm_model_ids": ["small", "small"], "timm_model_args": [{"num_heads": 16}, {"num_heads": 16}],
		"timm_override_act_layers": [null, null], "image_sizes": [140, 140], "pad_token_id": 1024, "mask_token_id": 1025, "pad_to_multiple_of": 64,
		"n_action_bins": 256, "text_config": {"model_type": "llama", "pad_token_id": 1024, "vocab_size": 1088, "num_attention_heads": 8}}`
	if err := os.WriteFile(filepath.Join(dir, configFile), []byte(config), 0o600); err != nil {
		tb.Fatal(err)
	}
	o := Defaults()
	o.Checkpoint, o.Out, o.ActionRate, o.Chunk = dir, filepath.Join(filepath.Dir(dir), "bundle"), 20, 4
	return o
}

// withoutRefresh is the bundle of the same options whose fused graph takes no
// recompute_prefix: everything is computed anew in every round.
func withoutRefresh(tb testing.TB, b *bundle.Bundle, o Options) *bundle.Bundle {
	tb.Helper()
	j, err := prepare(o)
	if err != nil {
		tb.Fatal(err)
	}
	defer j.checkpoint.Close()
	n := j.network
	plain := *b
	plain.Dir = tb.TempDir()
	if err := os.CopyFS(plain.Dir, os.DirFS(b.Dir)); err != nil {
		tb.Fatal(err)
	}
	store := onnx.NewStore(bundle.WeightsFile, nil)
	for _, w := range n.allTensors() {
		if err := store.Reserve(w.name, w.elem, w.dims); err != nil {
			tb.Fatal(err)
		}
	}
	g := onnx.New("policy", store)
	s := n.encode(g, n.observe(g))
	denoiser{
		slots: n.slots, bins: n.tokens.bins, wide: float64Type,
		logits: func(body *onnx.Graph, _, tokens onnx.Value) (onnx.Value, onnx.Value) {
			return n.logits(body, s, tokens, float64Type)
		},
	}.build(g)
	raw, err := g.Marshal("ddvla")
	if err != nil {
		tb.Fatal(err)
	}
	if err := os.WriteFile(plain.Path(bundle.GraphFile), raw, 0o600); err != nil {
		tb.Fatal(err)
	}
	plain.Manifest.Model.Refresh = false
	return &plain
}

// flops of a chunk's products with a prompt of p ids, two for each
// multiplication: of the vision towers, of a round that computes everything, and
// of one that computes the action block.
func (n *network) flops(p int) (vision, whole, block float64) {
	for _, v := range []*vit{n.dino, n.siglip} {
		t, d := float64(v.patches()+v.prefixTokens()), float64(v.dim)
		vision += float64(v.patches()*v.patch*v.patch*3)*d + float64(v.depth-1)*(t*(4*d*d+2*d*float64(v.mlp))+2*t*t*d)
	}
	q := n.projector
	vision += float64(n.dino.patches()) * float64(q.vision*q.inner+q.inner*q.hidden+q.hidden*q.hidden)
	vision *= float64(n.images)
	h, i, l, read := float64(n.llama.hidden), float64(n.llama.intermediate), float64(n.llama.layers), float64(n.slots)
	round := func(rows, seen float64) float64 {
		all := func(rows float64) float64 { return rows*(2*h*h+3*h*i) + 2*rows*seen*h } // but keys and values
		return (l-1)*all(rows) + all(read) + l*rows*2*h*h + read*h*float64(n.tokens.headRows())
	}
	before, own := float64(n.inserted()+p), read+2
	return 2 * vision, 2 * round(before+read+1, before+read+1), 2 * round(own, before+own)
}

// BenchmarkRefresh decodes chunks in twelve rounds with a prefix that is
// recomputed in all of them, in every second and in every fourth, turn by turn in one
// run, and with the graph that cannot leave it: medians, the ratios of times to
// exact decoding, and those of the products. Three cameras have a prefix of five
// times the action block, policies/tiny-reach has one of two thirds of it.
func BenchmarkRefresh(b *testing.B) {
	runtime := openRuntime(b)
	b.Run("three cameras", func(b *testing.B) { benchmarkRefresh(b, runtime, threeCamerasOptions(b), 4) })
	b.Run("tiny reach", func(b *testing.B) {
		o := Defaults()
		o.Checkpoint, o.Out, o.ActionRate = "../policies/tiny-reach", filepath.Join(b.TempDir(), "bundle"), 20
		benchmarkRefresh(b, runtime, o, 0.5)
	})
}

// benchmarkRefresh wants a prefix of at least so many action blocks.
func benchmarkRefresh(b *testing.B, runtime *ort.Runtime, options Options, blocks float64) {
	const rounds, prompt = 12, 20
	j, err := prepare(options)
	if err != nil {
		b.Fatal(err)
	}
	defer j.checkpoint.Close()
	n, out := j.network, exported(b, options)
	m := &out.Manifest
	l := m.Action.Tokens()
	if before := n.inserted() + prompt - 1; float64(before) < blocks*float64(l+2) {
		b.Fatalf("%d tokens before an action block of %d", before, l+2)
	}
	open := func(x *bundle.Bundle) *ort.Fused {
		f, err := runtime.Fused(x)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { f.Close() })
		return f
	}
	fused, plain := open(out), open(withoutRefresh(b, out, options))
	o := observe(rand.New(rand.NewPCG(1, 1)), m, 1)
	for len(o.PromptIDs) < prompt {
		o.PromptIDs = append(o.PromptIDs, 5)
	}
	o.PromptIDs, o.PromptLength = o.PromptIDs[:prompt], nil
	runs := []struct {
		name    string
		fused   *ort.Fused
		refresh int
	}{{"without", plain, 1}, {"exact", fused, 1}, {"refresh2", fused, 2}, {"refresh4", fused, 4}}
	took := make([][]float64, len(runs))
	turn := func(i int) float64 {
		in, err := decode.Params{Preset: decode.Greedy, Rounds: rounds, Threshold: []float64{0}, Refresh: runs[i].refresh}.
			Inputs([]int{l}, l, m.Tokens.Bins, decode.NewNoise(1))
		if err != nil {
			b.Fatal(err)
		}
		start := time.Now()
		r, err := runs[i].fused.Run(b.Context(), &ort.FusedInputs{Observation: o, Inputs: in})
		if err != nil {
			b.Fatal(err)
		}
		if r.Rounds != rounds {
			b.Fatalf("%d rounds of %d", r.Rounds, rounds)
		}
		return time.Since(start).Seconds()
	}
	for i := range runs {
		turn(i)
	}
	for first := 0; b.Loop(); first++ {
		for i := range runs {
			at := (first + i) % len(runs)
			took[at] = append(took[at], turn(at))
		}
	}
	median := func(d []float64) float64 {
		d = slices.Sorted(slices.Values(d))
		return d[len(d)/2]
	}
	// Of the turns' own ratios: what else the machine does befalls both parts.
	ratio := func(i, to int) float64 {
		var of []float64
		for at, t := range took[i] {
			of = append(of, t/took[to][at])
		}
		return median(of)
	}
	vision, whole, block := n.flops(prompt)
	for i, r := range runs {
		b.ReportMetric(1e3*median(took[i]), r.name+"-ms/chunk")
		if i == 1 {
			continue
		}
		b.ReportMetric(ratio(1, i), "exact/"+r.name)
		if i > 1 {
			full := float64((rounds + r.refresh - 1) / r.refresh)
			products := (vision + rounds*whole) / (vision + full*whole + (rounds-full)*block)
			b.ReportMetric(products, fmt.Sprintf("flops-exact/%s", r.name))
		}
	}
	b.ReportMetric(0, "ns/op")
}
