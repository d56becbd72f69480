package weights

import (
	"cmp"
	"fmt"
	"math"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// Precisions of Options.
const (
	precisionFP32 = "fp32"
	precisionFP16 = "fp16"
	precisionBF16 = "bf16"
	precisionInt8 = "int8"
	precisionInt4 = "int4"
)

// quantisation is how the linear layers of the language model are stored: each
// row of a weight [out, in] in blocks along in, the last one padded, a block as
// codes of some bits and a scale of the activations' type: (code - zero point) * scale.
type quantisation struct {
	bits, block int
	// symmetric blocks have the middle of the codes as zero point; others have one of
	// their own.
	symmetric bool
}

// Names of the tensors beside a quantised weight, which holds the codes.
const (
	scalesSuffix = ".scales"
	zerosSuffix  = ".zero_points"
)

// quantisation is nil for weights that are no integers.
func (o *Options) quantisation() *quantisation {
	q := &quantisation{bits: 8, block: cmp.Or(o.BlockSize, 32), symmetric: !o.Asymmetric}
	switch o.Precision {
	case precisionInt4:
		q.bits = 4
	case precisionInt8:
	default:
		return nil
	}
	return q
}

func (q *quantisation) precision() bundle.Precision {
	if q.bits == 4 {
		return bundle.Int4
	}
	return bundle.Int8
}

func (q *quantisation) blocks(in int64) int64 { return (in + int64(q.block) - 1) / int64(q.block) }

// zeroBytes are those of the packed zero points of a row.
func (q *quantisation) zeroBytes(blocks int64) int64 { return (blocks*int64(q.bits) + 7) / 8 }

// graphTensor is a tensor of the weights file.
type graphTensor struct {
	name string
	elem onnx.Type
	dims []int64
}

func (t graphTensor) bytes() int64 {
	return product(t.dims) * int64(t.elem.Size())
}

// graphTensors are what an entry becomes in the weights file, in order.
func (n *network) graphTensors(e entry) []graphTensor {
	switch e.as {
	case dead:
		return nil
	case inBlocks:
		return n.llama.quantised.tensors(e, n.types.language)
	}
	_, _, shape := e.stored(n.tokens)
	return []graphTensor{{e.name, n.elem(e), shape}}
}

func (q *quantisation) tensors(e entry, scales onnx.Type) []graphTensor {
	out, blocks := e.shape[0], q.blocks(e.shape[1])
	list := []graphTensor{
		{e.name, onnx.Uint8, []int64{out, blocks, int64(q.block * q.bits / 8)}},
		{e.name + scalesSuffix, scales, []int64{out, blocks}},
	}
	if !q.symmetric {
		list = append(list, graphTensor{e.name + zerosSuffix, onnx.Uint8, []int64{out, q.zeroBytes(blocks)}})
	}
	return list
}

// product multiplies x with the transpose of a quantised weight.
func (q *quantisation) product(g *onnx.Graph, x onnx.Value, name string, in, out int) onnx.Value {
	var zeros onnx.Value
	if !q.symmetric {
		zeros = g.Weight(name + zerosSuffix)
	}
	return g.MatMulNBits(x, g.Weight(name), g.Weight(name+scalesSuffix), zeros, in, out, q.bits, q.block)
}

// add quantises a weight and writes it, scales in the given type.
func (q *quantisation) add(store *onnx.Store, e entry, values []float32, elem onnx.Type) error {
	codes, scales, zeros, err := q.quantise(values, int(e.shape[1]), elem)
	if err != nil {
		return fmt.Errorf("%s: %w", e.name, err)
	}
	list := q.tensors(e, elem)
	if err := store.AddBytes(list[0].name, list[0].dims, codes); err != nil {
		return err
	}
	if err := store.AddAs(list[1].name, elem, list[1].dims, scales); err != nil || q.symmetric {
		return err
	}
	return store.AddBytes(list[2].name, list[2].dims, zeros)
}

// quantise turns rows of in values into codes, scales and, unless they are
// symmetric, zero points, in the layout of onnx.MatMulNBits. Scales are numbers of
// the given type, and codes are chosen for those.
func (q *quantisation) quantise(values []float32, in int, elem onnx.Type) (codes []byte, scales []float32, zeros []byte, err error) {
	rows, blocks, perBlock := len(values)/in, int(q.blocks(int64(in))), q.block*q.bits/8
	codes, scales = make([]byte, rows*blocks*perBlock), make([]float32, rows*blocks)
	zeroBytes := int(q.zeroBytes(int64(blocks)))
	if !q.symmetric {
		zeros = make([]byte, rows*zeroBytes)
	}
	for r := range rows {
		for b := range blocks {
			block := values[r*in+b*q.block : r*in+min((b+1)*q.block, in)]
			scale, zero, err := q.scale(block, elem)
			if err != nil {
				return nil, nil, nil, fmt.Errorf("row %d: %w", r, err)
			}
			at := r*blocks + b
			scales[at] = scale
			if !q.symmetric {
				q.put(zeros[r*zeroBytes:], b, zero)
			}
			packed, most := codes[at*perBlock:(at+1)*perBlock], 1<<q.bits-1
			for i := range q.block {
				code := zero // of padding: 0
				if i < len(block) && scale != 0 {
					code = min(max(zero+int(math.RoundToEven(float64(block[i])/float64(scale))), 0), most)
				}
				q.put(packed, i, code)
			}
		}
	}
	return codes, scales, zeros, nil
}

// put sets code i of bytes that are zero there.
func (q *quantisation) put(packed []byte, i, code int) {
	if q.bits == 8 {
		packed[i] = byte(code)
	} else {
		packed[i/2] |= byte(code) << (4 * (i % 2))
	}
}

// scale chooses a block's scale and zero point. Symmetric, the value furthest from 0 gets the
// lowest code, of which there is one more than on the other side of the middle, so
// the scale may be negative; otherwise the range from the least to the largest
// value, 0 included, is divided evenly. A scale of 0 is a block of zeros.
func (q *quantisation) scale(block []float32, elem onnx.Type) (scale float32, zero int, err error) {
	low, high := 0.0, 0.0
	for _, v := range block {
		x := float64(v)
		if math.IsNaN(x) || math.IsInf(x, 0) {
			return 0, 0, fmt.Errorf("a weight is %g; quantised weights must be finite", v)
		}
		low, high = min(low, x), max(high, x)
	}
	levels := 1 << q.bits
	if q.symmetric {
		furthest := low
		if high > -low {
			furthest = high
		}
		scale, err = elem.Round(float32(furthest / -float64(levels/2)))
		return scale, levels / 2, err
	}
	if scale, err = elem.Round(float32((high - low) / float64(levels-1))); err != nil {
		return 0, 0, err
	}
	if scale != 0 {
		zero = min(max(int(math.RoundToEven(-low/float64(scale))), 0), levels-1)
	}
	return scale, zero, nil
}
