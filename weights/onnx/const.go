package onnx

import (
	"encoding/binary"
	"fmt"
	"math"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
)

// Float returns a scalar (rank 0) constant of the graph's type.
func (g *Graph) Float(v float32) Value { return g.floats(nil, []float32{v}) }

// Floats returns a vector constant of the graph's type.
func (g *Graph) Floats(v ...float32) Value { return g.floats([]int64{int64(len(v))}, v) }

func (g *Graph) floats(dims []int64, v []float32) Value {
	if !g.half() || g.scope.model.arithmetic == Exact {
		return g.constant(Float32, dims, floatBytes(v))
	}
	raw, err := floatsIn(nil, g.float, v)
	if err != nil {
		g.fail("a constant: %v", err)
	}
	c := g.constant(g.float, dims, raw)
	if g.held() == Float32 {
		return g.Cast(c, Float32)
	}
	return c
}

// Int returns an int64 scalar (rank 0) constant.
func (g *Graph) Int(v int64) Value { return g.constant(Int64, nil, intBytes([]int64{v})) }

// Ints returns an int64 vector constant.
func (g *Graph) Ints(v ...int64) Value {
	return g.constant(Int64, []int64{int64(len(v))}, intBytes(v))
}

// Bool returns a boolean scalar (rank 0) constant.
func (g *Graph) Bool(v bool) Value {
	raw := []byte{0}
	if v {
		raw[0] = 1
	}
	return g.constant(Bool, nil, raw)
}

// FloatTensor returns a constant of the graph's type and the given shape,
// row-major, kept in the model file itself. Large tensors belong into the Store.
func (g *Graph) FloatTensor(dims []int64, v []float32) Value {
	g.count(dims, len(v))
	return g.floats(dims, v)
}

// IntTensor is FloatTensor for int64.
func (g *Graph) IntTensor(dims []int64, v []int64) Value {
	g.count(dims, len(v))
	return g.constant(Int64, dims, intBytes(v))
}

// Weight returns the tensor that was added to the Store under this name; floating
// point in the graph's type.
func (g *Graph) Weight(name string) Value {
	v := g.stored(name)
	if store := g.scope.model.store; store != nil {
		switch t := store.tensors[name].elem; t {
		case Float32, Float16, BFloat16:
			if t != g.held() {
				return g.Cast(v, g.held())
			}
		}
	}
	return v
}

// WeightRows takes rows of a matrix in the Store, as Gather does along its first
// dimension, in the graph's type. Only those rows are cast.
func (g *Graph) WeightRows(name string, indices Value) Value {
	rows := g.Gather(g.stored(name), indices, 0)
	if store := g.scope.model.store; store != nil && store.tensors[name].elem != g.held() {
		return g.Cast(rows, g.held())
	}
	return rows
}

func (g *Graph) stored(name string) Value {
	m := g.scope.model
	if v, ok := m.weights[name]; ok {
		return v
	}
	root := &Graph{scope: m.root, float: Float32}
	v := root.named(name)
	m.weights[name] = v
	if m.store == nil {
		g.fail("weight %q is asked for, but the graph has no store", name)
		return v
	}
	t, ok := m.store.tensors[name]
	if !ok {
		g.fail("weight %q is not in the store", name)
		return v
	}
	m.root.proto.Initializer = append(m.root.proto.Initializer, t.proto(name, m.store.location))
	return v
}

// constant adds an initializer to the main graph, where every body sees it;
// equal constants are one.
func (g *Graph) constant(t Type, dims []int64, raw []byte) Value {
	m := g.scope.model
	key := fmt.Sprint(t, dims, string(raw))
	if v, ok := m.consts[key]; ok {
		return v
	}
	root := &Graph{scope: m.root, float: Float32}
	v := root.fresh("const")
	m.consts[key] = v
	m.root.proto.Initializer = append(m.root.proto.Initializer,
		&pb.TensorProto{Name: v.name, DataType: int32(t), Dims: dims, RawData: raw})
	return v
}

func (g *Graph) count(dims []int64, have int) {
	if n, ok := elements(dims); !ok || n != int64(have) {
		g.fail("a constant of shape %v was given %d values", dims, have)
	}
}

// elements is the product of dims; false if one is negative or it overflows.
func elements(dims []int64) (int64, bool) {
	n := int64(1)
	for _, d := range dims {
		if d < 0 || (d > 0 && n > math.MaxInt64/8/d) {
			return 0, false
		}
		n *= d
	}
	return n, true
}

func floatBytes(v []float32) []byte {
	raw, _ := floatsIn(nil, Float32, v) // every one fits
	return raw
}

// floatsIn appends values in a floating-point type, little-endian.
func floatsIn(raw []byte, t Type, v []float32) ([]byte, error) {
	for _, x := range v {
		if t == Float32 {
			raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
			continue
		}
		h, err := half(t, x)
		if err != nil {
			return nil, err
		}
		raw = binary.LittleEndian.AppendUint16(raw, h)
	}
	return raw, nil
}

func intBytes(v []int64) []byte {
	raw := make([]byte, 0, 8*len(v))
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint64(raw, uint64(x))
	}
	return raw
}
