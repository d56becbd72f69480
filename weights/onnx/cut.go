package onnx

import (
	"fmt"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	"google.golang.org/protobuf/proto"
)

// Part is a run of a graph's nodes that is a model of its own, so that a network
// can be run whose weights do not fit into memory.
type Part struct {
	// Inputs are values of earlier parts or of the graph's inputs, Outputs those that
	// later parts or the graph's outputs need, Weights the Store's tensors it uses.
	Inputs, Outputs, Weights []string

	graph  *Graph
	nodes  []*pb.NodeProto
	consts []*pb.TensorProto
}

// Cut divides the main graph, in the order of its nodes, into parts that use
// tensors of at most limit bytes, or one node. It has no Loop; the cuts are
// before nodes that use a tensor of the Store.
func (g *Graph) Cut(limit int64) ([]Part, error) {
	m := g.scope.model
	if m.err != nil {
		return nil, m.err
	}
	tensors := map[string]*pb.TensorProto{}
	for _, t := range m.root.proto.Initializer {
		tensors[t.GetName()] = t
	}
	// needed is how many nodes of later parts, or outputs, still read a value.
	needed := map[string]int{}
	for _, v := range m.root.proto.Output {
		needed[v.GetName()]++
	}
	for _, n := range m.root.proto.Node {
		for _, a := range n.GetAttribute() {
			if a.GetG() != nil {
				return nil, fmt.Errorf("onnx: graph %q cannot be cut: %s has a body", m.root.proto.Name, n.GetName())
			}
		}
		for _, in := range n.GetInput() {
			needed[in]++
		}
	}
	var parts []Part
	nodes := m.root.proto.Node
	for len(nodes) > 0 {
		p := Part{graph: g}
		used, made := map[string]bool{}, map[string]bool{}
		bytes := int64(0)
		for ; len(nodes) > 0; nodes = nodes[1:] {
			more := int64(0)
			for _, in := range nodes[0].GetInput() {
				if t := tensors[in]; t != nil && !used[in] && t.GetDataLocation() == pb.TensorProto_EXTERNAL {
					more += m.loaded(m.store.tensors[in])
				}
			}
			if more > 0 && bytes+more > limit && len(p.nodes) > 0 {
				break
			}
			bytes += more
			for _, in := range nodes[0].GetInput() {
				needed[in]--
				if in == "" || used[in] || made[in] {
					continue
				}
				used[in] = true
				switch t := tensors[in]; {
				case t == nil:
					p.Inputs = append(p.Inputs, in)
				case t.GetDataLocation() == pb.TensorProto_EXTERNAL:
					p.Weights = append(p.Weights, in)
				default:
					p.consts = append(p.consts, t)
				}
			}
			for _, out := range nodes[0].GetOutput() {
				made[out] = true
			}
			p.nodes = append(p.nodes, nodes[0])
		}
		for _, n := range p.nodes {
			for _, out := range n.GetOutput() {
				if needed[out] > 0 {
					p.Outputs = append(p.Outputs, out)
				}
			}
		}
		parts = append(parts, p)
	}
	return parts, nil
}

// loaded is what a stored tensor needs in memory. A Rounded graph casts halves to
// float32, which ONNX Runtime does once, when it loads them.
func (m *model) loaded(t stored) int64 {
	if m.arithmetic == Rounded && (t.elem == Float16 || t.elem == BFloat16) {
		return 3 * t.length
	}
	return t.length
}

// Marshal returns the part as a model whose weights are in store. types are those
// of its inputs.
func (p *Part) Marshal(producer string, store *Store, types map[string]Type) ([]byte, error) {
	graph := &pb.GraphProto{Name: p.graph.scope.model.root.proto.Name, Node: p.nodes}
	graph.Initializer = append(graph.Initializer, p.consts...)
	for _, name := range p.Weights {
		t, ok := store.tensors[name]
		if !ok {
			return nil, fmt.Errorf("onnx: weight %q is not in the store", name)
		}
		graph.Initializer = append(graph.Initializer, t.proto(name, store.location))
	}
	for _, name := range p.Inputs {
		graph.Input = append(graph.Input, &pb.ValueInfoProto{Name: name, Type: &pb.TypeProto{
			Value: &pb.TypeProto_TensorType{TensorType: &pb.TypeProto_Tensor{ElemType: int32(types[name])}},
		}})
	}
	// Types of outputs are inferred.
	for _, name := range p.Outputs {
		graph.Output = append(graph.Output, &pb.ValueInfoProto{Name: name})
	}
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(p.graph.scope.model.proto(producer, graph))
	if err != nil {
		return nil, fmt.Errorf("onnx: part of graph %q: %w", graph.Name, err)
	}
	return raw, nil
}
