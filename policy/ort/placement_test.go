package ort

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

// TestPlacementSeesNodesInsideLoops profiles a real run. On this provider every
// node is on the CPU, so the graph must be refused for its matrix product.
func TestPlacementSeesNodesInsideLoops(t *testing.T) {
	r := open(t, Config{Threads: 1})
	m := manifest()
	inputs, outputs := fusedPorts(&m)
	b := inBundle(t, m, bundle.GraphFile, simpleFused(t, inputs))
	in, out, err := checkGraph(b, bundle.GraphFile, inputs, outputs)
	if err != nil {
		t.Fatal(err)
	}
	f := &Fused{manifest: &m, names: in}
	assigned, err := r.placement(b.Path(bundle.GraphFile), bundle.GraphFile, in, out, &f.session, func(ctx context.Context) error {
		probe := probeInputs(&m)
		probe.Threshold[0] = 1 // the loop's rounds
		_, err := f.Run(ctx, probe)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(assigned, Assignment{Node: "work/MatMul_0", Op: "MatMul", Provider: cpuProvider}) {
		t.Errorf("the loop's product is not among %v", assigned)
	}
	left, err := leftToCPU(assigned)
	if !errors.Is(err, ErrPlacement) || !strings.Contains(err.Error(), "work/MatMul_0") || len(left) != len(assigned) {
		t.Errorf("%d of %d nodes left, %v", len(left), len(assigned), err)
	}
}

func TestShapesMayStayOnTheCPUButProductsMayNot(t *testing.T) {
	raw, err := os.ReadFile("testdata/cuda.json")
	if err != nil {
		t.Fatal(err)
	}
	assigned, err := parseProfile(raw)
	if err != nil {
		t.Fatal(err)
	}
	left, err := leftToCPU(assigned)
	if err != nil {
		t.Fatal(err)
	}
	if want := []Assignment{{"positions/Shape_0", "Shape", cpuProvider}, {"positions/Gather_2", "Gather", cpuProvider}}; !slices.Equal(left, want) {
		t.Errorf("left %v, want %v", left, want)
	}
	for _, op := range []string{"MatMul", "FusedMatMul", "MatMulNBits", "MatMulInteger", "DynamicQuantizeMatMul", "QLinearMatMul", "Gemm", "FusedGemm",
		"Conv", "FusedConv", "Attention", "MultiHeadAttention", "Einsum"} {
		_, err := leftToCPU(append(assigned, Assignment{"llama/x", op, cpuProvider}))
		if !errors.Is(err, ErrPlacement) || !strings.Contains(err.Error(), "llama/x ("+op+")") {
			t.Errorf("%s: %v", op, err)
		}
	}
	if _, err := leftToCPU([]Assignment{{"llama/x", "MatMul", "CUDAExecutionProvider"}}); err != nil {
		t.Error(err)
	}
}

func TestProfilesThatSayNothingAreErrors(t *testing.T) {
	for _, raw := range []string{"", "[]", "{}", `[{"cat":"Session","name":"model_loading_uri"}]`} {
		if _, err := parseProfile([]byte(raw)); err == nil {
			t.Errorf("%q was taken", raw)
		}
	}
}

func FuzzProfile(f *testing.F) {
	raw, err := os.ReadFile("testdata/cuda.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		assigned, err := parseProfile(raw)
		if err == nil && len(assigned) == 0 {
			t.Error("no nodes, no error")
		}
		_, _ = leftToCPU(assigned)
	})
}
