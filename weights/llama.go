package weights

import (
	"fmt"
	"math"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

const (
	embedName  = "language_model.model.embed_tokens.weight"
	headName   = "language_model.lm_head.weight"
	finalNorm  = "language_model.model.norm.weight"
	layersName = "language_model.model.layers."
	cosName    = "rope.cos"
	sinName    = "rope.sin"
)

// llama is Llama 2. Which tokens see which is for its caller: all that are no
// padding see each other in openvla-oft's fork of transformers (logits); prefix
// and block are for the kinds in which what stands before the action tokens does
// not see them.
type llama struct {
	rows         int // of embed_tokens and lm_head, padding rows included
	hidden       int
	layers       int
	heads        int
	intermediate int
	epsilon      float32
	ropeTheta    float64
	maxPositions int
	headless     bool // an action head reads the normed hidden states
	// quantised says how the linear layers are stored, nil where they are no integers.
	quantised *quantisation
}

// tokenIDs are the ids that the graph itself puts into the sequence.
type tokenIDs struct {
	base int64 // V: bin k is id V-1-k
	bins int
	mask int64
	stop int64
	pad  int64 // not in the graph: any id does, since pads are not attended to
	// vocabulary is what the head covers.
	vocabulary bundle.Vocabulary
}

// headRows is the number of logits that the head computes of each token.
func (t tokenIDs) headRows() int64 {
	if t.vocabulary == bundle.FullVocabulary {
		return t.base
	}
	return int64(t.bins)
}

func (l *llama) headSize() int { return l.hidden / l.heads }

func (l *llama) inventory() []entry {
	rows, d := int64(l.rows), int64(l.hidden)
	list := []entry{{embedName, []int64{rows, d}, asStored}}
	for i := range l.layers {
		p := fmt.Sprintf("%s%d.", layersName, i)
		list = append(list, entry{p + "input_layernorm.weight", []int64{d}, exact})
		for _, name := range []string{"q_proj", "k_proj", "v_proj", "o_proj"} {
			list = append(list, l.linear(p+"self_attn."+name, l.hidden, l.hidden))
		}
		list = append(list, entry{p + "post_attention_layernorm.weight", []int64{d}, exact})
		list = append(list,
			l.linear(p+"mlp.gate_proj", l.hidden, l.intermediate),
			l.linear(p+"mlp.up_proj", l.hidden, l.intermediate),
			l.linear(p+"mlp.down_proj", l.intermediate, l.hidden))
	}
	head := entry{headName, []int64{rows, d}, headRows}
	if l.headless {
		head.as = dead
	}
	return append(list, entry{finalNorm, []int64{d}, exact}, head)
}

// linear is the weight of a linear layer, which none of a Llama has a bias beside.
func (l *llama) linear(name string, in, out int) entry {
	e := linear(name, in, out, false)[0]
	if l.quantised != nil {
		e.as = inBlocks
	}
	return e
}

// apply is a linear layer.
func (l *llama) apply(g *onnx.Graph, x onnx.Value, name string, in, out int) onnx.Value {
	if l.quantised == nil {
		return linearOp(g, x, name, false)
	}
	return l.quantised.product(g, x, name+".weight", in, out)
}

// ropeShape is that of each of the two tables of positions.
func (l *llama) ropeShape() []int64 { return []int64{int64(l.maxPositions), int64(l.headSize())} }

// writeRope adds the tables that rotate takes, computed
// in float32 as transformers does.
func (l *llama) writeRope(store *onnx.Store) error {
	size := l.headSize()
	half := size / 2
	cos, sin := make([]float32, l.maxPositions*size), make([]float32, l.maxPositions*size)
	for i := range half {
		exponent := float32(2*i) / float32(size)
		frequency := 1 / float32(math.Pow(l.ropeTheta, float64(exponent)))
		for p := range l.maxPositions {
			angle := float64(float32(p) * frequency)
			c, s := float32(math.Cos(angle)), float32(math.Sin(angle))
			cos[p*size+i], cos[p*size+half+i] = c, c
			sin[p*size+i], sin[p*size+half+i] = -s, s
		}
	}
	dims := l.ropeShape()
	if err := store.Add(cosName, dims, cos); err != nil {
		return err
	}
	return store.Add(sinName, dims, sin)
}

// keyValue is what other tokens attend to in one layer: [B, heads, tokens, size].
type keyValue struct{ key, value onnx.Value }

// logits runs the layers over x [B, S, hidden] and returns the head's logits
// [B, L, K or V], headless the normed hidden states [B, L, hidden], at the rows of
// s, both in float32. In the last layer only those rows are
// computed; all tokens are still attended to.
func (l *llama) logits(g *onnx.Graph, x onnx.Value, s *sequence) onnx.Value {
	for i := range l.layers {
		at := g.Scope(fmt.Sprint(i))
		normed := at.Narrow(l.norm(at, x, layerName(i)+"input_layernorm.weight"))
		queries, cos, sin := normed, s.cos, s.sin
		if i == l.layers-1 {
			x, queries = at.GatherND(x, s.rows, 1), at.GatherND(normed, s.rows, 1)
			cos, sin = s.rowCos, s.rowSin
		}
		x = l.layer(at, i, x, queries, cos, sin, s.bias, l.keyValue(at, i, normed, s.cos, s.sin))
	}
	return l.head(g, x)
}

// prefix runs the layers over tokens x that do not see the action block, and
// returns what the block attends to in each layer.
func (l *llama) prefix(g *onnx.Graph, x onnx.Value, s *sequence) []keyValue {
	seen := make([]keyValue, l.layers)
	for i := range seen {
		at := g.Scope(fmt.Sprint(i))
		normed := at.Narrow(l.norm(at, x, layerName(i)+"input_layernorm.weight"))
		seen[i] = l.keyValue(at, i, normed, s.cos, s.sin)
		if i < l.layers-1 {
			x = l.layer(at, i, x, normed, s.cos, s.sin, s.bias, seen[i])
		}
	}
	return seen
}

// block runs the layers over the action block x [B, tokens, hidden], which sees
// the prefix and itself as far as b allows, and returns the logits [B, L, K or
// V] of its first L tokens.
func (l *llama) block(g *onnx.Graph, x onnx.Value, b *actionBlock, slots int) onnx.Value {
	for i := range l.layers {
		at := g.Scope(fmt.Sprint(i))
		normed := at.Narrow(l.norm(at, x, layerName(i)+"input_layernorm.weight"))
		queries, cos, sin := normed, b.cos, b.sin
		if i == l.layers-1 && b.tokens > slots {
			rows := func(v onnx.Value, axis int64) onnx.Value {
				return at.Slice(v, at.Ints(0), at.Ints(int64(slots)), axis)
			}
			x, queries, cos, sin = rows(x, 1), rows(normed, 1), rows(b.cos, 2), rows(b.sin, 2)
		}
		own := l.keyValue(at, i, normed, b.cos, b.sin)
		all := keyValue{at.Concat(2, b.prefix[i].key, own.key), at.Concat(2, b.prefix[i].value, own.value)}
		x = l.layer(at, i, x, queries, cos, sin, b.bias, all)
	}
	return l.head(g, x)
}

func layerName(i int) string { return fmt.Sprintf("%s%d.", layersName, i) }

// keyValue is what a layer lets others attend to of its normalised input.
func (l *llama) keyValue(g *onnx.Graph, layer int, normed, cos, sin onnx.Value) keyValue {
	p := layerName(layer) + "self_attn."
	return keyValue{
		rotate(g, l.split(g, l.apply(g, normed, p+"k_proj", l.hidden, l.hidden)), cos, sin, l.headSize()),
		l.split(g, l.apply(g, normed, p+"v_proj", l.hidden, l.hidden)),
	}
}

// layer is the rest of a layer for the rows x, whose normalised form is queries.
func (l *llama) layer(g *onnx.Graph, layer int, x, queries, cos, sin, bias onnx.Value, seen keyValue) onnx.Value {
	q := l.query(g, layer, queries, cos, sin)
	return l.attended(g, layer, x, attend(g.Scope("attention"), q, seen.key, seen.value, bias, l.heads, l.headSize()))
}

// query is what a layer looks with of its normalised input.
func (l *llama) query(g *onnx.Graph, layer int, normed, cos, sin onnx.Value) onnx.Value {
	return rotate(g, l.split(g, l.apply(g, normed, layerName(layer)+"self_attn.q_proj", l.hidden, l.hidden)), cos, sin, l.headSize())
}

// attended is what of a layer follows its attention, mixed [B, tokens, hidden].
func (l *llama) attended(g *onnx.Graph, layer int, x, mixed onnx.Value) onnx.Value {
	p := layerName(layer)
	x = g.Add(x, l.apply(g, mixed, p+"self_attn.o_proj", l.hidden, l.hidden))
	return g.Add(x, l.mlp(g.Scope("mlp"), g.Narrow(l.norm(g, x, p+"post_attention_layernorm.weight")), p+"mlp."))
}

func (l *llama) head(g *onnx.Graph, x onnx.Value) onnx.Value {
	g = g.Scope("head")
	x = l.norm(g, x, finalNorm)
	if l.headless {
		return x
	}
	g = g.In(onnx.Float32)
	return g.MatMul(x, g.Weight(headName))
}

// norm is RMSNorm in float32, in the order of operations that ONNX Runtime
// recognises.
func (l *llama) norm(g *onnx.Graph, x onnx.Value, weight string) onnx.Value {
	x, g = g.Wide(x), g.In(onnx.Float32)
	mean := g.ReduceMean(g.Pow(x, g.Float(2)), true, -1)
	return g.Mul(g.Div(x, g.Sqrt(g.Add(mean, g.Float(l.epsilon)))), g.Weight(weight))
}

func (l *llama) mlp(g *onnx.Graph, x onnx.Value, p string) onnx.Value {
	gate := l.apply(g, x, p+"gate_proj", l.hidden, l.intermediate)
	gate = g.Mul(gate, g.Sigmoid(gate))
	up := l.apply(g, x, p+"up_proj", l.hidden, l.intermediate)
	return l.apply(g, g.Mul(gate, up), p+"down_proj", l.intermediate, l.hidden)
}

// split turns [B, tokens, hidden] into [B, heads, tokens, size].
func (l *llama) split(g *onnx.Graph, x onnx.Value) onnx.Value {
	return g.Transpose(g.Reshape(x, g.Ints(0, 0, int64(l.heads), int64(l.headSize()))), 0, 2, 1, 3)
}

// rotate applies RoPE in Hugging Face's layout: dimension i turns with
// i+size/2. sin has its first half negated.
func rotate(g *onnx.Graph, x, cos, sin onnx.Value, size int) onnx.Value {
	g = g.Scope("rope")
	half := g.Split(x, -1, int64(size/2), int64(size/2))
	return g.Add(g.Mul(x, cos), g.Mul(g.Concat(-1, half[1], half[0]), sin))
}
