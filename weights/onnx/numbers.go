package onnx

import (
	"fmt"
	"math"

	"github.com/x448/float16"
)

// MaxFloat16 is the largest finite float16.
const MaxFloat16 = 65504

// Arithmetic says how the parts of a graph that have a half-width type (In) are
// computed.
type Arithmetic int

const (
	// Native computes in the type itself: the graph for a device that has it.
	Native Arithmetic = iota
	// Rounded computes in float32 and rounds every result to the type, so that any
	// provider shows what the type does to the numbers: ONNX Runtime's CPU provider
	// computes float16 nodes in float32, and has no kernels for bfloat16.
	Rounded
	// Exact computes in float32 and notes how large the results get (Largest).
	Exact
)

// SetArithmetic chooses how In computes; it is for the whole model, before any
// node is added.
func (g *Graph) SetArithmetic(a Arithmetic) { g.scope.model.arithmetic = a }

// In returns the same graph computing in t, Float32, Float16 or BFloat16: so are
// the constants of Float, Floats and FloatTensor, and a Weight that is stored
// otherwise is cast. Values of another graph go through Wide or Narrow first.
func (g *Graph) In(t Type) *Graph {
	return &Graph{scope: g.scope, prefix: g.prefix, float: t}
}

// Wide brings a value of this graph to float32.
func (g *Graph) Wide(v Value) Value {
	if g.held() == Float32 {
		return v
	}
	return g.Cast(v, Float32)
}

// Narrow brings a float32 value to this graph's type.
func (g *Graph) Narrow(v Value) Value {
	if g.held() != Float32 {
		return g.Cast(v, g.float)
	}
	return g.result(v)
}

// half reports whether the graph's type has 16 bits.
func (g *Graph) half() bool { return g.float == Float16 || g.float == BFloat16 }

// Type is the type of the graph's values, for inputs of a body that take them: that
// of In or, where arithmetic is not Native, Float32.
func (g *Graph) Type() Type { return g.held() }

// held is the type of the graph's values.
func (g *Graph) held() Type {
	if g.half() && g.scope.model.arithmetic == Native {
		return g.float
	}
	return Float32
}

// result is a float32 number that would be of the graph's type.
func (g *Graph) result(v Value) Value {
	m := g.scope.model
	if !g.half() || m.arithmetic == Native {
		return v
	}
	if m.arithmetic == Rounded {
		return g.Cast(g.Cast(v, g.float), Float32)
	}
	// In a scope of its own, so that all other nodes have the names that they have
	// in the native graph.
	at := g.Scope("largest")
	largest := at.Op("ReduceMax", []Value{at.Abs(v)}, keepDims(false))
	m.watched = append(m.watched, Watched{v.name, g.float})
	m.largest = append(m.largest, at.Unsqueeze(largest, 0))
	return v
}

// computes reports whether an operator makes new numbers out of others, rather than
// moving them.
func computes(op string) bool {
	switch op {
	case "Add", "Sub", "Mul", "Div", "Pow", "Exp", "Log", "Sqrt", "Erf", "Sigmoid", "Relu", "MatMul", "MatMulNBits",
		"Softmax", "LayerNormalization", "ReduceSum", "ReduceMean":
		return true
	}
	return false
}

// Watched is a result whose largest magnitude an Exact graph notes.
type Watched struct {
	Name string
	Type Type // that it would have
}

// Largest returns the largest magnitudes [n] of the results of an Exact graph, and
// whose they are.
func (g *Graph) Largest() (Value, []Watched) {
	m := g.scope.model
	if len(m.largest) == 0 {
		return g.FloatTensor([]int64{0}, nil), nil
	}
	return g.Concat(0, m.largest...), m.watched
}

// half converts to 16 bits, to the nearest, even on a tie.
func half(t Type, v float32) (uint16, error) {
	if t == BFloat16 {
		bits := math.Float32bits(v)
		if v != v {
			return uint16(bits>>16) | 1<<6, nil
		}
		h := uint16((bits + 0x7fff + bits>>16&1) >> 16)
		if h&0x7fff == 0x7f80 && !math.IsInf(float64(v), 0) {
			return 0, fmt.Errorf("%g is beyond bfloat16, which ends at 3.3895e38", v)
		}
		return h, nil
	}
	h := float16.Fromfloat32(v)
	if h.IsInf(0) && !math.IsInf(float64(v), 0) {
		return 0, fmt.Errorf("%g is beyond float16, which ends at %d", v, MaxFloat16)
	}
	return h.Bits(), nil
}

// Round returns the nearest number of a floating-point type, even on a tie; one that
// it cannot hold is an error.
func (t Type) Round(v float32) (float32, error) {
	if t != Float16 && t != BFloat16 {
		return v, nil
	}
	h, err := half(t, v)
	if err != nil {
		return 0, err
	}
	if t == BFloat16 {
		return math.Float32frombits(uint32(h) << 16), nil
	}
	return float16.Frombits(h).Float32(), nil
}
