package weights

import (
	"github.com/ddvla/ddvla/weights/onnx"
)

// stepGraph is one round of the network: observation and tokens in, logits out.
func (n *network) stepGraph(store *onnx.Store) *onnx.Graph {
	g := onnx.New("step", store)
	o := n.observe(g)
	batch, slots := onnx.Symbol("B"), onnx.Size(n.slots)
	tokens := g.Input("tokens", onnx.Int64, batch, slots)
	logits, denominator := n.logits(g, n.encode(g, o), tokens, float64Type)
	g.Output("logits", logits, onnx.Float32, batch, slots, onnx.Size(n.tokens.bins))
	if denominator != (onnx.Value{}) {
		g.Output("log_denominator", denominator, onnx.Float32, batch, slots)
	}
	return g
}

// policyGraph is a whole chunk: the sequence once, then the denoising rounds,
// unrolled of them laid out or, where that is 0, in a Loop. Laid out they hold
// what TensorRT takes: it converts float64 to float32, and a Loop whose trace has
// as many rows as rounds ran it does not run (onnx-tensorrt, docs/operators.md).
func (n *network) policyGraph(store *onnx.Store, unrolled int) *onnx.Graph {
	wide := float64Type
	if unrolled > 0 {
		wide = onnx.Float32
	}
	g := onnx.New("policy", store)
	s := n.encode(g, n.observe(g))
	d := denoiser{
		slots: n.slots, bins: n.tokens.bins, centres: n.centres, unrolled: unrolled, wide: wide,
		logits: func(body *onnx.Graph, _, tokens onnx.Value) (onnx.Value, onnx.Value) {
			return n.logits(body, s, tokens, wide)
		},
	}
	if n.refreshes(unrolled) {
		d.carried = n.refresher(g, s).carried(g, wide)
	}
	d.build(g)
	return g
}
