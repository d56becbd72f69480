package weights

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// headPrefix stands before the names of the action head's own file.
const headPrefix = headPart + "."

// l1Epsilon is torch's default for LayerNorm.
const l1Epsilon = 1e-5

// l1Head predicts actions by regression from the hidden states of all slots of a
// row of the chunk (openvla-oft prismatic/models/action_heads.py,
// L1RegressionActionHead): a linear layer, residual layers and a linear layer,
// each after a LayerNorm.
type l1Head struct {
	in    int // A * hidden
	inner int
	depth int
	rows  int // H
	dims  int // A
}

// newHead reads the sizes of the action head, nil where the policy's actions are
// tokens.
func (c *checkpoint) newHead(o *Options, hidden int) (*l1Head, error) {
	found := slices.ContainsFunc(slices.Collect(maps.Keys(c.tensors)), func(name string) bool { return strings.HasPrefix(name, headPrefix) })
	switch {
	case o.Head == "tokens" || o.Head == "" && !found:
		maps.DeleteFunc(c.tensors, func(name string, _ diskTensor) bool { return strings.HasPrefix(name, headPrefix) })
		return nil, nil
	case !found:
		return nil, fmt.Errorf("%w head is l1, but the checkpoint has no %s--*.pt", ErrOption, headPart)
	}
	if dims := c.tensors.dim(headPrefix+"model.fc2.weight", 0); dims != 0 && dims != len(o.ActionDims) {
		return nil, fmt.Errorf("%w action-dims has %d entries, the checkpoint's action head predicts %d; %s",
			ErrOption, len(o.ActionDims), dims, fittingLayouts("action-dims", dims, func(l Layout) int { return len(l.Action) }))
	}
	return &l1Head{
		in: hidden * len(o.ActionDims), inner: c.tensors.dim(headPrefix+"model.fc1.weight", 0),
		depth: c.tensors.depth(headPrefix + "model.mlp_resnet_blocks."), rows: o.Chunk, dims: len(o.ActionDims),
	}, nil
}

func (h *l1Head) inventory() []entry {
	const p = headPrefix + "model."
	list := layerNorm(p+"layer_norm1", h.in)
	list = append(list, linear(p+"fc1", h.in, h.inner, true)...)
	for i := range h.depth {
		b := fmt.Sprintf("%smlp_resnet_blocks.%d.ffn.", p, i)
		list = append(list, layerNorm(b+"0", h.inner)...)
		list = append(list, linear(b+"1", h.inner, h.inner, true)...)
	}
	list = append(list, layerNorm(p+"layer_norm2", h.inner)...)
	return append(list, linear(p+"fc2", h.inner, h.dims, true)...)
}

// build takes the slots' hidden states [B, L, hidden] and returns the chunk's
// values [B, L], float32 both, normalised; nothing bounds them to -1..1.
func (h *l1Head) build(g *onnx.Graph, x onnx.Value) onnx.Value {
	const p = headPrefix + "model."
	norm := func(x onnx.Value, name string) onnx.Value { return normOp(g, x, name, l1Epsilon) }
	relu := func(x onnx.Value) onnx.Value { return g.Op("Relu", []onnx.Value{x}) }
	x = g.Reshape(g.Narrow(x), g.Ints(-1, int64(h.rows), int64(h.in)))
	x = relu(linearOp(g, norm(x, p+"layer_norm1"), p+"fc1", true))
	for i := range h.depth {
		b := fmt.Sprintf("%smlp_resnet_blocks.%d.ffn.", p, i)
		x = g.Add(x, relu(linearOp(g, norm(x, b+"0"), b+"1", true)))
	}
	x = linearOp(g, norm(x, p+"layer_norm2"), p+"fc2", true)
	return g.Reshape(g.Wide(x), g.Ints(-1, int64(h.rows*h.dims)))
}

// valuesGraph is a policy whose chunk comes out of an action head in one pass.
// The slots hold zeros instead of tokens.
func (n *network) valuesGraph(store *onnx.Store) *onnx.Graph {
	g := onnx.New("policy", store)
	g.Output("values", n.values(g, n.observe(g)), onnx.Float32, onnx.Symbol("B"), onnx.Size(n.slots))
	return g
}

func (n *network) values(g *onnx.Graph, o observation) onnx.Value {
	s := n.encode(g, o)
	shape := g.Concat(0, g.ShapeOf(o.promptIDs, 0, 1), g.Ints(int64(n.slots), int64(n.llama.hidden)))
	at := g.In(n.types.language)
	slots := g.Expand(at.Float(0), shape)
	hidden := n.llama.logits(at.Scope("llama"), g.Concat(1, s.before, slots, s.stop), s)
	return n.head.build(at.Scope("action_head"), hidden)
}

// checkHead refuses what the head was not trained with, or does not do.
func (n *network) checkHead(o *Options) error {
	if n.head != nil && o.Unroll > 0 {
		return fmt.Errorf("%w unroll is %d, but a policy with an L1 head decodes nothing in rounds; leave it out, or export the tokens with --head tokens", ErrOption, o.Unroll)
	}
	if n.head != nil && n.attention != bundle.Bidirectional {
		return fmt.Errorf("%w attention is %s, but a policy with an L1 head has bidirectional attention", ErrOption, n.attention)
	}
	return nil
}
