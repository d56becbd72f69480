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
	logits, denominator := n.logits(g, n.encode(g, o), tokens)
	g.Output("logits", logits, onnx.Float32, batch, slots, onnx.Size(n.tokens.bins))
	if denominator != (onnx.Value{}) {
		g.Output("log_denominator", denominator, onnx.Float32, batch, slots)
	}
	return g
}

// policyGraph is a whole chunk: the sequence once, then the denoising rounds.
func (n *network) policyGraph(store *onnx.Store) *onnx.Graph {
	g := onnx.New("policy", store)
	s := n.encode(g, n.observe(g))
	denoiser{
		slots: n.slots, bins: n.tokens.bins,
		logits: func(body *onnx.Graph, _, tokens onnx.Value) (onnx.Value, onnx.Value) {
			return n.logits(body, s, tokens)
		},
	}.build(g)
	return g
}
