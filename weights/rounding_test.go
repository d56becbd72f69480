package weights

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	"google.golang.org/protobuf/proto"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

func nodeNames(t *testing.T, raw []byte) map[string]bool {
	t.Helper()
	var m pb.ModelProto
	if err := proto.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, n := range m.GetGraph().GetNode() {
		names[n.GetName()] = true
	}
	return names
}

// The float32 graph that judges a bundle rounds every number that the bundle's graph
// has in 16 bits, to that type, and no other. The
// numbers that are looked at for overflow are results of the bundle's nodes.
func TestEveryResultIsRounded(t *testing.T) {
	var jobs []map[string]string
	dir := t.TempDir()
	for _, c := range []struct {
		s      sample
		change func(o *Options)
	}{
		{references(t)[0], func(o *Options) { o.Precision, o.Vocabulary = precisionFP16, bundle.FullVocabulary }},
		{references(t)[0], func(o *Options) {
			o.Precision, o.VisionPrecision, o.Attention = precisionFP16, precisionBF16, bundle.Prefix
		}},
		{references(t)[1], func(o *Options) { o.Precision, o.Attention = precisionBF16, bundle.Causal }},
		{references(t)[0], func(o *Options) { o.Precision, o.Activations, o.Asymmetric = precisionInt4, precisionFP16, true }},
		{references(t)[4], func(o *Options) { o.Precision = precisionInt8 }},
		{headed(t, 1), func(o *Options) { o.Precision = precisionFP16 }},
		{filmed(t, 1), func(o *Options) { o.Precision, o.VisionPrecision = precisionBF16, precisionFP16 }},
	} {
		o := c.s.options("")
		c.change(&o)
		j, err := prepare(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := j.checkpoint.Close(); err != nil {
			t.Fatal(err)
		}
		store := onnx.NewStore(bundle.WeightsFile, nil)
		for _, g := range j.network.allTensors() {
			if err := store.Reserve(g.name, g.elem, g.dims); err != nil {
				t.Fatal(err)
			}
		}
		job := map[string]string{}
		native := map[string]bool{}
		for name, arithmetic := range map[string]onnx.Arithmetic{"native": onnx.Native, "rounded": onnx.Rounded} {
			g, _ := j.network.trialGraph(store, arithmetic)
			raw, err := g.Marshal("ddvla")
			if err != nil {
				t.Fatal(err)
			}
			if arithmetic == onnx.Native {
				native = nodeNames(t, raw)
			}
			job[name] = filepath.Join(dir, fmt.Sprintf("%s-%d.onnx", name, len(jobs)))
			if err := os.WriteFile(job[name], raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		jobs = append(jobs, job)
		full := onnx.NewStore(bundle.WeightsFile, nil)
		for _, g := range j.network.inFloat32().allTensors() {
			if err := full.Reserve(g.name, g.elem, g.dims); err != nil {
				t.Fatal(err)
			}
		}
		_, watched := j.network.unquantised().trialGraph(full, onnx.Exact)
		for _, w := range watched {
			name := w.Name
			if j.network.llama.quantised != nil && !native[name] {
				name = strings.Replace(name, "/MatMul_", "/MatMulNBits_", 1)
			}
			if !native[name] {
				t.Errorf("case %d: %s is watched, but the bundle has no such node", len(jobs)-1, w.Name)
			}
		}
	}
	stdin, err := json.Marshal(jobs)
	if err != nil {
		t.Fatal(err)
	}
	var reports []struct {
		Halves int
		Faults []string
	}
	if err := json.Unmarshal(pytest.Run(t, stdin, "testdata/rounding.py"), &reports); err != nil {
		t.Fatal(err)
	}
	for i, r := range reports {
		if len(r.Faults) > 0 || r.Halves < 100 {
			t.Errorf("case %d: of %d inputs of 16 bits are wrong:\n%s", i, r.Halves, strings.Join(r.Faults, "\n"))
		}
	}
}
