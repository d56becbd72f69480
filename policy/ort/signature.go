package ort

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	"google.golang.org/protobuf/proto"

	"github.com/ddvla/ddvla/policy/bundle"
)

// ErrGraph says that a graph is not the one its manifest describes.
var ErrGraph = errors.New("graph disagrees with the manifest")

// free is a dimension that the manifest leaves open.
const free = -1

// port is an input or output of a graph.
type port struct {
	name string
	elem pb.TensorProto_DataType
	dims []int64 // free where a run decides
}

func (p port) String() string {
	dims := make([]string, len(p.dims))
	for i, n := range p.dims {
		dims[i] = strconv.FormatInt(n, 10)
		if n == free {
			dims[i] = "?"
		}
	}
	return strings.ToLower(p.elem.String()) + "[" + strings.Join(dims, ",") + "]"
}

// accepts reports whether have, from the graph, can be what p asks for: a
// dimension that either leaves open is settled when the graph runs.
func (p port) accepts(have port) bool {
	return p.elem == have.elem && slices.EqualFunc(p.dims, have.dims, func(a, b int64) bool {
		return a == b || a == free || b == free
	})
}

// observationPorts are the inputs that both graphs share.
func observationPorts(m *bundle.Manifest) []port {
	s := int64(m.Model.ImageSize)
	list := []port{
		{name: "images", elem: pb.TensorProto_UINT8, dims: []int64{free, int64(len(m.Cameras)), s, s, 3}},
		{name: "prompt_ids", elem: pb.TensorProto_INT64, dims: []int64{free, free}},
		{name: "prompt_length", elem: pb.TensorProto_INT64, dims: []int64{free}},
	}
	if m.Proprio != nil {
		list = append(list, port{name: "proprio", elem: pb.TensorProto_FLOAT, dims: []int64{free, int64(len(m.Proprio.Dims))}})
	}
	return list
}

// fusedPorts is the signature of policy.onnx.
func fusedPorts(m *bundle.Manifest) (inputs, outputs []port) {
	l, rounds := int64(m.Action.Tokens()), int64(free)
	if m.Model.Unrolled > 0 {
		rounds = int64(m.Model.Unrolled)
	}
	integer := func(name string, dims ...int64) port {
		return port{name: name, elem: pb.TensorProto_INT64, dims: dims}
	}
	number := func(name string, dims ...int64) port {
		return port{name: name, elem: pb.TensorProto_FLOAT, dims: dims}
	}
	inputs = append(observationPorts(m),
		integer("known", free, l),
		integer("initial", free, l),
		number("initial_confidence", free, l),
		integer("masked_after", rounds, free),
		number("token_temperature", rounds),
		number("choice_temperature", rounds),
		number("committed_bias", rounds),
		number("threshold", rounds),
		number("drop_threshold", rounds),
		number("token_noise", free, free, free, free),
		number("choice_noise", free, free, free),
		integer("score", 1),
		number("commit_confidence", rounds),
		integer("mean_window", 1),
	)
	if m.Model.Refresh {
		inputs = append(inputs, port{name: "recompute_prefix", elem: pb.TensorProto_BOOL, dims: []int64{rounds}})
	}
	outputs = []port{
		integer("bins", free, l), number("confidence", free, l), number("mean", free, l), integer("rounds", 1),
		integer("trace_bins", rounds, free, l), number("trace_confidence", rounds, free, l),
	}
	return inputs, outputs
}

// stepPorts is the signature of step.onnx.
func stepPorts(m *bundle.Manifest) (inputs, outputs []port) {
	l := int64(m.Action.Tokens())
	inputs = append(observationPorts(m), port{name: "tokens", elem: pb.TensorProto_INT64, dims: []int64{free, l}})
	outputs = []port{{name: "logits", elem: pb.TensorProto_FLOAT, dims: []int64{free, l, int64(m.Tokens.Bins)}}}
	if m.Model.Vocabulary == bundle.FullVocabulary {
		outputs = append(outputs, port{name: "log_denominator", elem: pb.TensorProto_FLOAT, dims: []int64{free, l}})
	}
	return inputs, outputs
}

// readSignature reads the inputs and outputs of the model file at path. The
// weights lie in another file and are not read.
func readSignature(path string) (inputs, outputs []port, err error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	var model pb.ModelProto
	if err := proto.Unmarshal(raw, &model); err != nil {
		return nil, nil, fmt.Errorf("%w: no ONNX model: %w", ErrGraph, err)
	}
	g := model.GetGraph()
	if g == nil {
		return nil, nil, fmt.Errorf("%w: the model holds no graph", ErrGraph)
	}
	// Weights may be listed among the inputs; they are not fed.
	weights := map[string]bool{}
	for _, w := range g.GetInitializer() {
		weights[w.GetName()] = true
	}
	for _, v := range g.GetInput() {
		if !weights[v.GetName()] {
			inputs = append(inputs, portOf(v))
		}
	}
	for _, v := range g.GetOutput() {
		outputs = append(outputs, portOf(v))
	}
	return inputs, outputs, nil
}

func portOf(v *pb.ValueInfoProto) port {
	t := v.GetType().GetTensorType()
	p := port{name: v.GetName(), elem: pb.TensorProto_DataType(t.GetElemType())}
	for _, d := range t.GetShape().GetDim() {
		n := int64(free)
		if _, ok := d.GetValue().(*pb.TensorShapeProto_Dimension_DimValue); ok {
			n = d.GetDimValue()
		}
		p.dims = append(p.dims, n)
	}
	return p
}

// match compares what the manifest asks for with what the graph has and returns
// the names in the order asked for.
func match(kind string, want, have []port) ([]string, error) {
	var names []string
	for _, w := range want {
		i := slices.IndexFunc(have, func(h port) bool { return h.name == w.name })
		switch {
		case i < 0:
			return nil, fmt.Errorf("%w: it has no %s %q, the manifest asks for %v", ErrGraph, kind, w.name, w)
		case !w.accepts(have[i]):
			return nil, fmt.Errorf("%w: %s %q is %v in the graph, %v by the manifest", ErrGraph, kind, w.name, have[i], w)
		}
		names = append(names, w.name)
	}
	if kind == "input" {
		for _, h := range have {
			if !slices.ContainsFunc(want, func(w port) bool { return w.name == h.name }) {
				return nil, fmt.Errorf("%w: input %q, %v, is in the graph but not in the manifest", ErrGraph, h.name, h)
			}
		}
	}
	return names, nil
}

// checkGraph compares a graph of the bundle with its signature by the manifest.
func checkGraph(b *bundle.Bundle, file string, inputs, outputs []port) (in, out []string, err error) {
	haveIn, haveOut, err := readSignature(b.Path(file))
	if err == nil {
		in, err = match("input", inputs, haveIn)
	}
	if err == nil {
		out, err = match("output", outputs, haveOut)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("bundle %s: %s: %w; export the bundle again", b.Dir, file, err)
	}
	return in, out, nil
}
