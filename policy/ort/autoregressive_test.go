package ort

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights/onnx"
)

// simpleAutoregressive has the signature of an autoregressive graph and no network:
// what is not given gets the number of prompt ids as its bin, its confidence is the
// token temperature.
func simpleAutoregressive(t *testing.T, inputs []port) []byte {
	t.Helper()
	g := onnx.New("simple", nil)
	in := declare(g, inputs)
	bins := g.Where(g.Less(in["known"], g.Int(0)), g.ShapeOf(in["prompt_ids"], 1, 2), in["known"])
	confidence := g.Add(g.Mul(g.Cast(bins, onnx.Float32), g.Float(0)), in["token_temperature"])
	dims := []onnx.Dim{onnx.Symbol("B"), onnx.Size(6)}
	g.Output("bins", bins, onnx.Int64, dims...)
	g.Output("confidence", confidence, onnx.Float32, dims...)
	return marshal(t, g)
}

func TestAutoregressiveTakesInputsOfOneRound(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	m.Files[bundle.AutoregressiveFile] = ""
	ports, _ := autoregressivePorts(&m)
	raw := simpleAutoregressive(t, ports)
	a, err := r.Autoregressive(inBundle(t, m, bundle.AutoregressiveFile, raw))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	for _, batch := range []int{1, 3, 1} {
		in := fusedInputs(t, &m, batch, 5, 7, decode.Autoregressive)
		in.TokenTemperature[0] = 0.25
		in.Known[2] = 1
		out, err := a.Run(t.Context(), in)
		if err != nil {
			t.Fatal(err)
		}
		want := slices.Repeat([]int64{5}, 6*batch)
		want[2] = 1
		if !slices.Equal(out.Bins, want) || !slices.Equal(out.Confidence, slices.Repeat([]float32{0.25}, 6*batch)) || out.Rounds != 6 ||
			len(out.Mean) != 6*batch || out.Mean[2] != in.Centres[1] || out.Mean[0] != in.Centres[5] {
			t.Errorf("%d rows: %+v", batch, out)
		}
	}
	for want, spoil := range map[string]func(in *FusedInputs){
		"no decoding inputs": func(in *FusedInputs) { in.Inputs = nil },
		"2 rounds":           func(in *FusedInputs) { *in = *fusedInputs(t, &m, 1, 5, 2, decode.Greedy) },
		"known":              func(in *FusedInputs) { in.Known[0] = 8 },
		"images":             func(in *FusedInputs) { in.Images = in.Images[1:] },
		"is bin 9 of 8":      func(in *FusedInputs) { in.PromptIDs = make([]int64, 9) },
	} {
		in := fusedInputs(t, &m, 1, 5, 1, decode.Autoregressive)
		spoil(in)
		if _, err := a.Run(t.Context(), in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := a.Run(ctx, fusedInputs(t, &m, 1, 5, 1, decode.Autoregressive)); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}

	without := slices.DeleteFunc(slices.Clone(ports), func(p port) bool { return p.name == "token_noise" })
	if _, err := r.Autoregressive(inBundle(t, m, bundle.AutoregressiveFile, simpleAutoregressive(t, without))); !errors.Is(err, ErrGraph) || !strings.Contains(err.Error(), `"token_noise"`) {
		t.Errorf("a missing input: %v", err)
	}
	if _, err := r.Autoregressive(inBundle(t, manifest(), bundle.AutoregressiveFile, raw)); err == nil || !strings.Contains(err.Error(), "causal attention") {
		t.Errorf("a file that the manifest does not list: %v", err)
	}
}
