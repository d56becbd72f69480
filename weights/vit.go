package weights

import (
	"fmt"

	"github.com/ddvla/ddvla/weights/onnx"
)

// vitEpsilon is timm's LayerNorm epsilon in both towers.
const vitEpsilon = 1e-6

// vit is a pre-norm vision transformer as timm 0.9.10 builds it. Its features
// are the patch tokens after the last block but one, without the final norm
// (openvla-oft modeling_prismatic.py: get_intermediate_layers of depth-2).
type vit struct {
	prefix     string // of its tensors' names
	dim        int
	depth      int // blocks in the checkpoint, of which depth-1 run
	heads      int
	mlp        int
	registers  int
	classToken bool
	layerScale bool
	pool       bool // the checkpoint holds SigLIP's unused pooling head
	language   int  // width of the language that conditions it by FiLM, 0 for none
	image      int  // side in pixels
	patch      int  // side in pixels
	mean, std  [3]float32
}

// patches is the number of tokens of one image.
func (v *vit) patches() int { return (v.image / v.patch) * (v.image / v.patch) }

func (v *vit) inventory() []entry {
	d := int64(v.dim)
	list := []entry{
		{v.prefix + "pos_embed", []int64{1, int64(v.patches()), d}, asStored},
		{v.prefix + "patch_embed.proj.weight", []int64{d, 3, int64(v.patch), int64(v.patch)}, patchKernel},
		{v.prefix + "patch_embed.proj.bias", []int64{d}, asStored},
	}
	if v.classToken {
		list = append(list, entry{v.prefix + "cls_token", []int64{1, 1, d}, asStored})
	}
	if v.registers > 0 {
		list = append(list, entry{v.prefix + "reg_token", []int64{1, int64(v.registers), d}, asStored})
	}
	for i := range v.depth - 1 {
		list = append(list, v.blockInventory(i)...)
	}
	list = append(list, unused(v.blockInventory(v.depth-1))...)
	list = append(list, unused(layerNorm(v.prefix+"norm", v.dim))...)
	if v.pool {
		list = append(list, unused(v.poolInventory())...)
	}
	return list
}

func (v *vit) blockInventory(i int) []entry {
	p := fmt.Sprintf("%sblocks.%d.", v.prefix, i)
	list := layerNorm(p+"norm1", v.dim)
	list = append(list, linear(p+"attn.qkv", v.dim, 3*v.dim, true)...)
	list = append(list, linear(p+"attn.proj", v.dim, v.dim, true)...)
	list = append(list, layerNorm(p+"norm2", v.dim)...)
	list = append(list, linear(p+"mlp.fc1", v.dim, v.mlp, true)...)
	list = append(list, linear(p+"mlp.fc2", v.mlp, v.dim, true)...)
	if v.layerScale {
		list = append(list,
			entry{p + "ls1.scale_factor", []int64{int64(v.dim)}, asStored},
			entry{p + "ls2.scale_factor", []int64{int64(v.dim)}, asStored})
	}
	if v.language > 0 {
		list = append(list, linear(p+"scale", v.language, v.dim, true)...)
		list = append(list, linear(p+"shift", v.language, v.dim, true)...)
	}
	return list
}

func (v *vit) poolInventory() []entry {
	p := v.prefix + "attn_pool."
	list := []entry{{p + "latent", []int64{1, 1, int64(v.dim)}, asStored}}
	list = append(list, linear(p+"q", v.dim, v.dim, true)...)
	list = append(list, linear(p+"kv", v.dim, 2*v.dim, true)...)
	list = append(list, linear(p+"proj", v.dim, v.dim, true)...)
	list = append(list, layerNorm(p+"norm", v.dim)...)
	list = append(list, linear(p+"mlp.fc1", v.dim, v.mlp, true)...)
	return append(list, linear(p+"mlp.fc2", v.mlp, v.dim, true)...)
}

// patchPixels cuts images uint8 [B, N, S, S, 3] into float32
// [B*N, patches, patch*patch*3] in 0..1, patches row by row. A convolution
// whose stride is its width is then one matrix product.
func (v *vit) patchPixels(g *onnx.Graph, images onnx.Value) onnx.Value {
	g = g.Scope("patches")
	side, p := int64(v.image/v.patch), int64(v.patch)
	x := g.Cast(images, onnx.Float32)
	x = g.Reshape(x, g.Ints(-1, side, p, side, p, 3))
	x = g.Transpose(x, 0, 1, 3, 2, 4, 5)
	x = g.Reshape(x, g.Ints(-1, side*side, p*p*3))
	return g.Div(x, g.Float(255))
}

// features turns the pixels of patchPixels into [B*N, patches, dim] of g's type. language is
// read only with FiLM.
func (v *vit) features(g *onnx.Graph, pixels, language onnx.Value) onnx.Value {
	full := g.In(onnx.Float32)
	x := g.Narrow(full.Div(full.Sub(pixels, v.perPixel(full, v.mean)), v.perPixel(full, v.std)))
	x = linearOp(g, x, v.prefix+"patch_embed.proj", true)
	// The position of the class token is folded into it; only patches have one.
	x = g.Add(x, g.Weight(v.prefix+"pos_embed"))
	if tokens := v.prefixTokens(); tokens > 0 {
		before := make([]onnx.Value, 0, 3)
		if v.classToken {
			before = append(before, v.everyImage(g, x, "cls_token", 1))
		}
		if v.registers > 0 {
			before = append(before, v.everyImage(g, x, "reg_token", v.registers))
		}
		x = g.Concat(1, append(before, x)...)
	}
	for i := range v.depth - 1 {
		x = v.block(g.Scope(fmt.Sprint(i)), x, language, fmt.Sprintf("%sblocks.%d.", v.prefix, i))
	}
	if tokens := v.prefixTokens(); tokens > 0 {
		x = g.Slice(x, g.Ints(int64(tokens)), g.Ints(int64(tokens+v.patches())), 1)
	}
	return x
}

func (v *vit) prefixTokens() int {
	n := v.registers
	if v.classToken {
		n++
	}
	return n
}

// everyImage repeats a learned token for each image of x.
func (v *vit) everyImage(g *onnx.Graph, x onnx.Value, name string, tokens int) onnx.Value {
	shape := g.Concat(0, g.ShapeOf(x, 0, 1), g.Ints(int64(tokens), int64(v.dim)))
	return g.Expand(g.Weight(v.prefix+name), shape)
}

// perPixel repeats a value per channel for all pixels of a patch.
func (v *vit) perPixel(g *onnx.Graph, channels [3]float32) onnx.Value {
	values := make([]float32, 0, v.patch*v.patch*3)
	for range v.patch * v.patch {
		values = append(values, channels[:]...)
	}
	return g.Floats(values...)
}

func (v *vit) block(g *onnx.Graph, x, language onnx.Value, p string) onnx.Value {
	a := normOp(g, x, p+"norm1", vitEpsilon)
	a = v.attention(g.Scope("attention"), a, p+"attn.")
	if v.layerScale {
		a = g.Mul(a, g.Weight(p+"ls1.scale_factor"))
	}
	x = g.Add(x, a)
	if v.language > 0 {
		x = film(g.Scope("film"), x, language, p)
	}
	m := normOp(g, x, p+"norm2", vitEpsilon)
	m = linearOp(g, m, p+"mlp.fc1", true)
	m = linearOp(g, gelu(g, m), p+"mlp.fc2", true)
	if v.layerScale {
		m = g.Mul(m, g.Weight(p+"ls2.scale_factor"))
	}
	return g.Add(x, m)
}

func (v *vit) attention(g *onnx.Graph, x onnx.Value, p string) onnx.Value {
	size := v.dim / v.heads
	qkv := linearOp(g, x, p+"qkv", true)
	qkv = g.Reshape(qkv, g.Ints(0, 0, 3, int64(v.heads), int64(size)))
	qkv = g.Transpose(qkv, 2, 0, 3, 1, 4) // [3, B*N, heads, tokens, size]
	var part [3]onnx.Value
	for i := range part {
		part[i] = g.Gather(qkv, g.Int(int64(i)), 0)
	}
	return linearOp(g, attend(g, part[0], part[1], part[2], onnx.Value{}, v.heads, size), p+"proj", true)
}

// attend is attention over [B, heads, tokens, size], its softmax in float32; bias,
// float32, is added to the scores where it is given. It returns
// [B, tokens, heads*size].
func attend(g *onnx.Graph, q, k, v, bias onnx.Value, heads, size int) onnx.Value {
	q = g.Mul(q, g.Float(inverseRoot(size)))
	full := g.In(onnx.Float32)
	scores := g.Wide(g.MatMul(q, g.Transpose(k, 0, 1, 3, 2)))
	if bias != (onnx.Value{}) {
		scores = full.Add(scores, bias)
	}
	mixed := g.Transpose(g.MatMul(g.Narrow(full.Softmax(scores, -1)), v), 0, 2, 1, 3)
	return g.Reshape(mixed, g.Ints(0, 0, int64(heads*size)))
}

// normOp is a LayerNorm, computed in float32.
func normOp(g *onnx.Graph, x onnx.Value, name string, epsilon float32) onnx.Value {
	full := g.In(onnx.Float32)
	return g.Narrow(full.LayerNormalization(g.Wide(x), full.Weight(name+".weight"), full.Weight(name+".bias"), epsilon))
}

// linearOp is y = x W + b.
func linearOp(g *onnx.Graph, x onnx.Value, name string, bias bool) onnx.Value {
	y := g.MatMul(x, g.Weight(name+".weight"))
	if bias {
		y = g.Add(y, g.Weight(name+".bias"))
	}
	return y
}
