package onnx

// The operators that the exporter uses, named as in the ONNX specification.
// Where an argument of opset 17 is an input (axes of ReduceSum) or an attribute
// (axes of ReduceMax) does not show here.

// Arithmetic with broadcasting.

func (g *Graph) Add(a, b Value) Value { return g.Op("Add", []Value{a, b}) }
func (g *Graph) Sub(a, b Value) Value { return g.Op("Sub", []Value{a, b}) }
func (g *Graph) Mul(a, b Value) Value { return g.Op("Mul", []Value{a, b}) }
func (g *Graph) Div(a, b Value) Value { return g.Op("Div", []Value{a, b}) }
func (g *Graph) Pow(a, b Value) Value { return g.Op("Pow", []Value{a, b}) }
func (g *Graph) Max(a, b Value) Value { return g.Op("Max", []Value{a, b}) }
func (g *Graph) Min(a, b Value) Value { return g.Op("Min", []Value{a, b}) }

// Element by element.

func (g *Graph) Exp(a Value) Value     { return g.Op("Exp", []Value{a}) }
func (g *Graph) Log(a Value) Value     { return g.Op("Log", []Value{a}) }
func (g *Graph) Sqrt(a Value) Value    { return g.Op("Sqrt", []Value{a}) }
func (g *Graph) Erf(a Value) Value     { return g.Op("Erf", []Value{a}) }
func (g *Graph) Abs(a Value) Value     { return g.Op("Abs", []Value{a}) }
func (g *Graph) Sigmoid(a Value) Value { return g.Op("Sigmoid", []Value{a}) }

// Cast converts the element type.
func (g *Graph) Cast(a Value, t Type) Value {
	return g.Op("Cast", []Value{a}, AttrInt("to", int(t)))
}

// Comparison and logic; all give booleans.

func (g *Graph) Equal(a, b Value) Value          { return g.Op("Equal", []Value{a, b}) }
func (g *Graph) Less(a, b Value) Value           { return g.Op("Less", []Value{a, b}) }
func (g *Graph) LessOrEqual(a, b Value) Value    { return g.Op("LessOrEqual", []Value{a, b}) }
func (g *Graph) Greater(a, b Value) Value        { return g.Op("Greater", []Value{a, b}) }
func (g *Graph) GreaterOrEqual(a, b Value) Value { return g.Op("GreaterOrEqual", []Value{a, b}) }
func (g *Graph) And(a, b Value) Value            { return g.Op("And", []Value{a, b}) }
func (g *Graph) Or(a, b Value) Value             { return g.Op("Or", []Value{a, b}) }
func (g *Graph) Not(a Value) Value               { return g.Op("Not", []Value{a}) }

// Where selects a where cond holds and b elsewhere, with broadcasting.
func (g *Graph) Where(cond, a, b Value) Value { return g.Op("Where", []Value{cond, a, b}) }

// MatMul multiplies the last two dimensions; the others broadcast.
func (g *Graph) MatMul(a, b Value) Value { return g.Op("MatMul", []Value{a, b}) }

// MatMulNBits is a [.., k] times the transpose of a matrix [n, k] whose rows are
// quantised in blocks: (code - zero point) * scale (ONNX Runtime,
// docs/ContribOperators.md). b is uint8 [n, blocks, block*bits/8], the first code
// in the low bits; scales [n, blocks] of a's type; zeroPoints uint8 [n,
// ceil(blocks*bits/8)], packed as b is, or the zero Value for half the range. bits is 4
// or 8. The product is computed in float32: activations are not quantised.
func (g *Graph) MatMulNBits(a, b, scales, zeroPoints Value, k, n, bits, block int) Value {
	inputs := []Value{a, b, scales}
	if zeroPoints != (Value{}) {
		inputs = append(inputs, zeroPoints)
	}
	out := g.fresh("MatMulNBits")
	node := g.add("MatMulNBits", inputs, []Value{out}, []Attr{
		AttrInt("K", k), AttrInt("N", n), AttrInt("bits", bits), AttrInt("block_size", block),
		AttrInt("accuracy_level", 1), // float32
	})
	node.Domain = contribDomain
	g.scope.model.contrib = true
	return g.result(out)
}

// Softmax along one axis.
func (g *Graph) Softmax(a Value, axis int) Value {
	return g.Op("Softmax", []Value{a}, AttrInt("axis", axis))
}

// LayerNormalization over the last axis.
func (g *Graph) LayerNormalization(a, scale, bias Value, epsilon float32) Value {
	return g.Op("LayerNormalization", []Value{a, scale, bias}, AttrInt("axis", -1), AttrFloat("epsilon", epsilon))
}

// Shape and order.

// Identity passes a on under another name.
func (g *Graph) Identity(a Value) Value { return g.Op("Identity", []Value{a}) }

// ShapeOf returns the dimensions start..end-1 of a's shape (negative counts from
// the end).
func (g *Graph) ShapeOf(a Value, start, end int) Value {
	return g.Op("Shape", []Value{a}, AttrInt("start", start), AttrInt("end", end))
}

// Reshape to shape, an int64 vector; 0 keeps a dimension, one may be -1.
func (g *Graph) Reshape(a, shape Value) Value { return g.Op("Reshape", []Value{a, shape}) }

// Transpose permutes the dimensions.
func (g *Graph) Transpose(a Value, perm ...int) Value {
	return g.Op("Transpose", []Value{a}, AttrInts("perm", perm...))
}

// Expand broadcasts to shape, an int64 vector.
func (g *Graph) Expand(a, shape Value) Value { return g.Op("Expand", []Value{a, shape}) }

// Unsqueeze inserts dimensions of size one at axes of the result.
func (g *Graph) Unsqueeze(a Value, axes ...int64) Value {
	return g.Op("Unsqueeze", []Value{a, g.Ints(axes...)})
}

// Squeeze removes dimensions of size one.
func (g *Graph) Squeeze(a Value, axes ...int64) Value {
	return g.Op("Squeeze", []Value{a, g.Ints(axes...)})
}

// Concat joins values along axis.
func (g *Graph) Concat(axis int, values ...Value) Value {
	return g.Op("Concat", values, AttrInt("axis", axis))
}

// Split cuts a along axis into parts of the given sizes.
func (g *Graph) Split(a Value, axis int, sizes ...int64) []Value {
	return g.Multi("Split", len(sizes), []Value{a, g.Ints(sizes...)}, AttrInt("axis", axis))
}

// Slice takes start..end-1 along one axis; start and end are int64 vectors of
// one element, negative from the end.
func (g *Graph) Slice(a, start, end Value, axis int64) Value {
	return g.Op("Slice", []Value{a, start, end, g.Ints(axis)})
}

// Gather takes the entries of indices along axis; their shape replaces it.
func (g *Graph) Gather(a, indices Value, axis int) Value {
	return g.Op("Gather", []Value{a, indices}, AttrInt("axis", axis))
}

// GatherElements takes one entry of a along axis for each entry of indices.
func (g *Graph) GatherElements(a, indices Value, axis int) Value {
	return g.Op("GatherElements", []Value{a, indices}, AttrInt("axis", axis))
}

// GatherND takes the slices of a that the last dimension of indices addresses,
// behind the leading batch dimensions that both share.
func (g *Graph) GatherND(a, indices Value, batch int) Value {
	return g.Op("GatherND", []Value{a, indices}, AttrInt("batch_dims", batch))
}

// Range counts from start to limit (exclusive) in steps of delta, all scalars.
func (g *Graph) Range(start, limit, delta Value) Value {
	return g.Op("Range", []Value{start, limit, delta})
}

// Reductions; the axis stays with size one where keep is set.

func (g *Graph) ReduceSum(a Value, keep bool, axes ...int64) Value {
	return g.Op("ReduceSum", []Value{a, g.Ints(axes...)}, keepDims(keep))
}

func (g *Graph) ReduceMean(a Value, keep bool, axes ...int) Value {
	return g.Op("ReduceMean", []Value{a}, AttrInts("axes", axes...), keepDims(keep))
}

func (g *Graph) ReduceMax(a Value, keep bool, axes ...int) Value {
	return g.Op("ReduceMax", []Value{a}, AttrInts("axes", axes...), keepDims(keep))
}

func keepDims(keep bool) Attr {
	a := AttrInt("keepdims", 0)
	if keep {
		a.proto.I = 1
	}
	return a
}
