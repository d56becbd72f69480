package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/tabwriter"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	onnxruntime "github.com/yalue/onnxruntime_go"
	"google.golang.org/protobuf/proto"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// stageTolerance bounds the difference of a stage to PyTorch, as a share of the
// stage's largest value: both add up the same float32 products in orders of their
// own. Measured: up to 1e-5.
const stageTolerance = 5e-5

// stages are the names of a graph's stages in the order in which they are
// computed. All but the logits are scopes of the graph.
func stages(m *bundle.Manifest) []string {
	names := []string{"dino", "siglip", "projector"}
	if m.Proprio != nil {
		names = append(names, "proprio")
	}
	for i := range m.Model.Layers {
		names = append(names, fmt.Sprintf("llama/%d", i))
	}
	return append(names, "logits")
}

// stageGraph is step.onnx of a bundle in whose directory it is written again with
// the last value of each stage's scope as one more output.
func stageGraph(t *testing.T, b *bundle.Bundle) (path string, outputs []string) {
	t.Helper()
	raw, err := os.ReadFile(b.Path(bundle.StepFile))
	if err != nil {
		t.Fatal(err)
	}
	var model pb.ModelProto
	if err := proto.Unmarshal(raw, &model); err != nil {
		t.Fatal(err)
	}
	g := model.GetGraph()
	for _, name := range stages(&b.Manifest) {
		if name == "logits" {
			outputs = append(outputs, name)
			continue
		}
		last := ""
		for _, node := range g.GetNode() {
			if strings.HasPrefix(node.GetOutput()[0], name+"/") {
				last = node.GetOutput()[0]
			}
		}
		if last == "" {
			t.Fatalf("no node of %s has a name that begins with %s/", bundle.StepFile, name)
		}
		outputs = append(outputs, last)
		g.Output = append(g.Output, &pb.ValueInfoProto{Name: last, Type: &pb.TypeProto{
			Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: int32(pb.TensorProto_FLOAT)}},
		}})
	}
	if raw, err = proto.Marshal(&model); err != nil {
		t.Fatal(err)
	}
	path = b.Path("stages.onnx")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return path, outputs
}

// runStages returns what the stages of a bundle give for a case of its sample.
func runStages(t *testing.T, s *sample, b *bundle.Bundle, in reference) [][]float32 {
	t.Helper()
	path, names := stageGraph(t, b)
	batch, side := len(in["prompt_length"]), b.Manifest.Model.ImageSize
	o := in.observation(s)
	ports := []string{"images", "prompt_ids", "prompt_length", "tokens"}
	inputs := []onnxruntime.Value{
		tensor(t, o.Images, batch, s.images, side, side, 3), tensor(t, o.PromptIDs, batch, len(o.PromptIDs)/batch),
		tensor(t, o.PromptLength, batch), tensor(t, integers(in["tokens"]), batch, s.chunk*s.dims),
	}
	if s.proprio > 0 {
		ports, inputs = append(ports, "proprio"), append(inputs, tensor(t, o.Proprio, batch, s.proprio))
	}
	options, err := onnxruntime.NewSessionOptions()
	if err != nil {
		t.Fatal(err)
	}
	defer options.Destroy()
	if err := options.SetIntraOpNumThreads(1); err != nil {
		t.Fatal(err)
	}
	session, err := onnxruntime.NewDynamicAdvancedSession(path, ports, names, options)
	if err != nil {
		t.Fatal(err)
	}
	defer session.Destroy()
	values := make([]onnxruntime.Value, len(names))
	if err := session.Run(inputs, values); err != nil {
		t.Fatal(err)
	}
	got := make([][]float32, len(values))
	for i, v := range values {
		got[i] = append(got[i], v.(*onnxruntime.Tensor[float32]).GetData()...)
	}
	for _, v := range append(inputs, values...) {
		if err := v.Destroy(); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// stage is the reference's value of a stage.
func (r reference) stage(t *testing.T, name string) []float32 {
	t.Helper()
	if name != "logits" {
		name = "stage." + name
	}
	if len(r[name]) == 0 {
		t.Fatalf("the reference has no %s", name)
	}
	return r[name]
}

// compareStages returns the largest difference of each stage to the reference as a
// share of the stage's largest value.
func compareStages(t *testing.T, names []string, got [][]float32, want reference) []float64 {
	t.Helper()
	shares := make([]float64, len(names))
	for i, name := range names {
		w := want.stage(t, name)
		shares[i] = largestDifference(got[i], w) / largestDifference(w, make([]float32, len(w)))
	}
	return shares
}

// Every stage of the exported network gives what PyTorch's gives. With -v the test
// prints the differences as a table.
func TestStagesAgreeWithPyTorch(t *testing.T) {
	openRuntime(t)
	var text strings.Builder
	table := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "checkpoint\timages\tbatch\tprompt\tlargest float32 difference to PyTorch, as a share of the stage's largest value")
	for _, s := range references(t) {
		b := s.export(t)
		names := stages(&b.Manifest)
		for number, c := range s.cases {
			want := s.reference(t, number)
			shares := compareStages(t, names, runStages(t, &s, b, want), want)
			fmt.Fprintf(table, "%s\t%d\t%d\t%d", s.name, s.images, c.batch, c.prompt)
			for i, name := range names {
				fmt.Fprintf(table, "\t%s %.1e", name, shares[i])
				if !(shares[i] < stageTolerance) {
					t.Errorf("%s, case %d: %s differs by %g of its largest value", s.name, number, name, shares[i])
				}
				if values := want.stage(t, name); !(deviation(values) > 0.05) {
					t.Errorf("%s, case %d: %s has a standard deviation of %g only, which shows nothing", s.name, number, name, deviation(values))
				}
			}
			fmt.Fprintln(table)
		}
	}
	if err := table.Flush(); err != nil {
		t.Fatal(err)
	}
	t.Log("\n" + text.String())
}

// A hundredth more in one tensor is noticed at the stage that it belongs to, and
// no stage before.
func TestStagesNameTheFault(t *testing.T) {
	openRuntime(t)
	s := references(t)[0]
	b := s.export(t)
	d, err := onnx.Describe(b.Path(bundle.StepFile))
	if err != nil {
		t.Fatal(err)
	}
	names := stages(&b.Manifest)
	want := s.reference(t, 1)
	for i, faulty := range []string{
		"vision_backbone.featurizer.blocks.1.attn.proj.bias", "vision_backbone.fused_featurizer.blocks.0.norm2.weight",
		"projector.fc2.bias", "proprio_projector.fc1.bias",
		layerName(0) + "self_attn.v_proj.weight", layerName(1) + "post_attention_layernorm.weight", layerName(2) + "mlp.up_proj.weight",
		headName,
	} {
		spoiled := *b
		spoiled.Dir = t.TempDir()
		if err := os.CopyFS(spoiled.Dir, os.DirFS(b.Dir)); err != nil {
			t.Fatal(err)
		}
		scale(t, spoiled.Path(bundle.WeightsFile), d, faulty, 1.01)
		for j, share := range compareStages(t, names, runStages(t, &s, &spoiled, want), want) {
			// Of the towers and the proprio projector none reads another.
			after := j > i && !(i < 2 && j < 2 || names[j] == "proprio")
			if j == i && !(share > 3*stageTolerance) || !after && j != i && !(share < stageTolerance) {
				t.Errorf("%s, a hundredth more: %s differs by %g of its largest value", faulty, names[j], share)
			}
		}
	}
}

// scale multiplies a float32 tensor in a weights file.
func scale(t *testing.T, path string, d *onnx.Description, name string, by float32) {
	t.Helper()
	for _, w := range d.Tensors {
		if w.Name != name || w.File != filepath.Base(path) {
			continue
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for at := w.Offset; at < w.Offset+w.Bytes; at += 4 {
			v := math.Float32frombits(binary.LittleEndian.Uint32(raw[at:]))
			binary.LittleEndian.PutUint32(raw[at:], math.Float32bits(v*by))
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatalf("no tensor %s", name)
}
