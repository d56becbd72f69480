// Package onnx builds ONNX models (opset 17, IR 8) as readable Go: a Graph
// hands out Values, every operator is a method that takes and returns them, and
// big tensors go through a Store to one external data file. MatMulNBits alone is
// ONNX Runtime's own (domain com.microsoft, version 1). The protobuf types
// come from github.com/advancedclimatesystems/gonnx.
//
// Names are deterministic: the same calls in the same order give the same
// bytes. Misuse (a value of another graph, a name used twice) does not panic;
// the first mistake is kept and comes back from Marshal.
package onnx

import (
	"fmt"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
)

// Type is the element type of a tensor.
type Type int32

// Element types.
const (
	Float32  = Type(pb.TensorProto_FLOAT)
	Float16  = Type(pb.TensorProto_FLOAT16)
	BFloat16 = Type(pb.TensorProto_BFLOAT16)
	Uint8    = Type(pb.TensorProto_UINT8)
	Int32    = Type(pb.TensorProto_INT32)
	Int64    = Type(pb.TensorProto_INT64)
	Bool     = Type(pb.TensorProto_BOOL)
)

// Value is the result of an operator, a graph input, a constant or a weight. The
// zero Value stands for an optional input that is not given.
type Value struct {
	name  string
	owner *scope
}

// Name returns the value's name in the model.
func (v Value) Name() string { return v.name }

// Dim is one dimension of an input or output: a size, or a name for one that is
// known only at run time.
type Dim struct {
	symbol string
	size   int64
}

// Size returns a fixed dimension.
func Size(n int) Dim { return Dim{size: int64(n)} }

// Symbol returns a dimension that is known at run time; equal names mean equal
// sizes.
func Symbol(name string) Dim { return Dim{symbol: name} }

// Graph is a graph under construction: the main graph or the body of a Loop. A body may use every value of the graphs around it.
type Graph struct {
	scope  *scope
	prefix string
	float  Type // that it computes in
}

// scope is the state of one GraphProto.
type scope struct {
	model  *model
	parent *scope
	proto  *pb.GraphProto
}

// model is what all graphs of one ModelProto share.
type model struct {
	root     *scope
	store    *Store
	names    map[string]bool
	counters map[string]int
	consts   map[string]Value
	weights  map[string]Value
	contrib  bool // it has operators of ONNX Runtime's own
	err      error

	arithmetic Arithmetic
	watched    []Watched
	largest    []Value // of each watched one, [1]
}

// New starts a main graph whose weights lie in store, which several models may
// share. A nil store is for graphs without weights.
func New(name string, store *Store) *Graph {
	m := &model{
		store: store, names: map[string]bool{}, counters: map[string]int{},
		consts: map[string]Value{}, weights: map[string]Value{},
	}
	m.root = &scope{model: m, proto: &pb.GraphProto{Name: name}}
	return &Graph{scope: m.root, float: Float32}
}

// Scope returns the same graph with part put before the names of what is added
// through it, so that a reader of the model (and a profile) sees where a node
// comes from.
func (g *Graph) Scope(part string) *Graph {
	return &Graph{scope: g.scope, prefix: g.prefix + part + "/", float: g.float}
}

// Body starts a subgraph for Loop.
func (g *Graph) Body(name string) *Graph {
	s := &scope{model: g.scope.model, parent: g.scope, proto: &pb.GraphProto{Name: g.prefix + name}}
	return &Graph{scope: s, prefix: g.prefix + name + "/", float: g.float}
}

// Input adds a graph input. Inputs of the main graph keep their name, those of
// a body get its prefix.
func (g *Graph) Input(name string, t Type, dims ...Dim) Value {
	v := g.named(g.outer(name))
	g.scope.proto.Input = append(g.scope.proto.Input, valueInfo(v.name, t, dims))
	return v
}

// Output declares v as the next output of the graph, under the given name as
// Input does.
func (g *Graph) Output(name string, v Value, t Type, dims ...Dim) {
	out := g.named(g.outer(name))
	g.add("Identity", []Value{v}, []Value{out}, nil)
	g.scope.proto.Output = append(g.scope.proto.Output, valueInfo(out.name, t, dims))
}

func (g *Graph) outer(name string) string {
	if g.scope.parent == nil {
		return name
	}
	return g.prefix + name
}

// Sized says what shape a value of the graph's type has, and returns it. ONNX's shape
// inference does not add symbols, so behind a Concat it knows no size; runtimes that
// do not know that two sizes are the same do not use memory again, and ONNX Runtime
// takes a time that grows with the square of their number to find that out.
func (g *Graph) Sized(v Value, dims ...Dim) Value {
	if !g.scope.sees(v.owner) {
		g.fail("a size is given to %q, which is not a value of this graph or one around it", v.name)
		return v
	}
	v.owner.proto.ValueInfo = append(v.owner.proto.ValueInfo, valueInfo(v.name, g.held(), dims))
	return v
}

// Op adds a node with one output. Operators without a method of their own are
// added through it.
func (g *Graph) Op(op string, inputs []Value, attrs ...Attr) Value {
	return g.Multi(op, 1, inputs, attrs...)[0]
}

// Multi adds a node with several outputs.
func (g *Graph) Multi(op string, outputs int, inputs []Value, attrs ...Attr) []Value {
	if outputs < 1 {
		g.fail("%s in %q has no outputs", op, g.prefix)
		outputs = 1
	}
	out := make([]Value, outputs)
	for i := range out {
		out[i] = g.fresh(op)
	}
	g.add(op, inputs, out, attrs)
	if computes(op) {
		out[0] = g.result(out[0])
	}
	return out
}

// Loop adds a Loop of at most trips rounds that ends when the body's first
// output is false. The body's inputs are (iteration, condition, state...), its
// outputs (condition, state..., scanned...); Loop returns the last state and
// then each scanned output stacked over the rounds. cond may be the zero Value.
func (g *Graph) Loop(trips, cond Value, state []Value, body *Graph) []Value {
	outputs := len(body.scope.proto.Output) - 1
	if body.scope.parent != g.scope {
		g.fail("loop body %q was not started by this graph", body.scope.proto.Name)
	}
	if want := len(state) + 2; len(body.scope.proto.Input) != want || outputs < len(state) {
		g.fail("loop body %q has %d inputs and %d outputs, for %d state values it needs %d and more than %d",
			body.scope.proto.Name, len(body.scope.proto.Input), outputs+1, len(state), want, len(state))
		outputs = max(outputs, len(state))
	}
	inputs := append([]Value{trips, cond}, state...)
	return g.Multi("Loop", outputs, inputs, Attr{subgraphAttr("body", body)})
}

func (g *Graph) add(op string, inputs, outputs []Value, attrs []Attr) *pb.NodeProto {
	node := &pb.NodeProto{OpType: op, Name: outputs[0].name}
	for i, v := range inputs {
		if v.name != "" && !g.scope.sees(v.owner) {
			g.fail("input %d of %s is %q, which is not a value of this graph or one around it", i, node.Name, v.name)
		}
		node.Input = append(node.Input, v.name)
	}
	for _, v := range outputs {
		node.Output = append(node.Output, v.name)
	}
	for _, a := range attrs {
		node.Attribute = append(node.Attribute, a.proto)
	}
	g.scope.proto.Node = append(g.scope.proto.Node, node)
	return node
}

// fresh names the output of an operator: prefix, operator, number.
func (g *Graph) fresh(op string) Value {
	key := g.prefix + op
	n := g.scope.model.counters[key]
	g.scope.model.counters[key]++
	return g.named(fmt.Sprintf("%s_%d", key, n))
}

func (g *Graph) named(name string) Value {
	if g.scope.model.names[name] {
		g.fail("the name %q is used twice", name)
	}
	g.scope.model.names[name] = true
	return Value{name: name, owner: g.scope}
}

func (g *Graph) fail(format string, args ...any) {
	if g.scope.model.err == nil {
		g.scope.model.err = fmt.Errorf("onnx: graph %q: %s", g.scope.model.root.proto.Name, fmt.Sprintf(format, args...))
	}
}

func (s *scope) sees(owner *scope) bool {
	for ; s != nil; s = s.parent {
		if s == owner {
			return true
		}
	}
	return false
}

func valueInfo(name string, t Type, dims []Dim) *pb.ValueInfoProto {
	shape := &pb.TensorShapeProto{}
	for _, d := range dims {
		dim := &pb.TensorShapeProto_Dimension{}
		if d.symbol != "" {
			dim.Value = &pb.TensorShapeProto_Dimension_DimParam{DimParam: d.symbol}
		} else {
			dim.Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: d.size}
		}
		shape.Dim = append(shape.Dim, dim)
	}
	return &pb.ValueInfoProto{
		Name: name,
		Type: &pb.TypeProto{Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: int32(t), Shape: shape}}},
	}
}
