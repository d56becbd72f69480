package weights

import (
	"math"

	"github.com/ddvla/ddvla/weights/onnx"
)

// projector brings the two towers' features, joined, to the language model's
// width: three linear layers with GELU between them (fused-gelu-mlp).
type projector struct{ vision, inner, hidden int }

func (p *projector) inventory() []entry {
	list := linear("projector.fc1", p.vision, p.inner, true)
	list = append(list, linear("projector.fc2", p.inner, p.hidden, true)...)
	return append(list, linear("projector.fc3", p.hidden, p.hidden, true)...)
}

func (p *projector) build(g *onnx.Graph, x onnx.Value) onnx.Value {
	x = gelu(g, linearOp(g, x, "projector.fc1", true))
	x = gelu(g, linearOp(g, x, "projector.fc2", true))
	return linearOp(g, x, "projector.fc3", true)
}

// proprioPrefix stands before the names of the proprio projector's own file.
const proprioPrefix = "proprio_projector."

// proprioProjector makes one token of the robot's normalised state
// (openvla-oft prismatic/models/projectors.py).
type proprioProjector struct{ dims, hidden int }

func (p *proprioProjector) inventory() []entry {
	return append(linear(proprioPrefix+"fc1", p.dims, p.hidden, true), linear(proprioPrefix+"fc2", p.hidden, p.hidden, true)...)
}

// build takes [B, dims], float32, and returns [B, 1, hidden].
func (p *proprioProjector) build(g *onnx.Graph, x onnx.Value) onnx.Value {
	x = g.Narrow(g.Unsqueeze(x, 1))
	return linearOp(g, gelu(g, linearOp(g, x, proprioPrefix+"fc1", true)), proprioPrefix+"fc2", true)
}

// gelu is the exact GELU, in the order of operations that ONNX Runtime
// recognises and runs as one. It is computed in float32: 1 + erf(x) of a negative x
// would lose its digits in a half-width type.
func gelu(g *onnx.Graph, x onnx.Value) onnx.Value {
	x, full := g.Wide(x), g.In(onnx.Float32)
	e := full.Add(full.Erf(full.Div(x, full.Float(math.Sqrt2))), full.Float(1))
	return g.Narrow(full.Mul(full.Mul(x, e), full.Float(0.5)))
}

func inverseRoot(n int) float32 { return float32(1 / math.Sqrt(float64(n))) }
