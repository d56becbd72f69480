package weights

import (
	"fmt"
	"math"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// hasAutoregressive reports whether the tokens can be decoded from left to right with
// keys and values that are kept: what a token sees must not depend on those after it.
func (n *network) hasAutoregressive() bool {
	return n.attention == bundle.Causal && n.head == nil
}

// autoregressiveGraph is a whole chunk, decoded as decode.LeftToRight does, the way
// OpenVLA generates its actions: the prefix once, then a Loop of a step for each
// token, which computes that token alone over the keys and values of what stands
// before it. Of a network with causal attention this is exact.
func (n *network) autoregressiveGraph(store *onnx.Store) *onnx.Graph {
	g := onnx.New("autoregressive", store)
	o := n.observe(g)
	batch, slots, one := onnx.Symbol("B"), onnx.Size(n.slots), onnx.Size(1)
	d := decodeStep{
		network:     n,
		known:       g.Input("known", onnx.Int64, batch, slots),
		temperature: g.Input("token_temperature", onnx.Float32, one),
		noise: g.Input("token_noise", onnx.Float32, one, onnx.Symbol("token_noise_B"), onnx.Symbol("token_noise_L"),
			onnx.Symbol("token_noise_K")),
	}
	s := n.encode(g, o)
	d.block = s.block
	at := g.Scope("decode")
	d.columns = at.ShapeOf(s.block.prefix[0].key, 2, 3)
	// All rows of the block see the same of the prefix.
	row := at.Slice(s.block.bias, at.Ints(0), at.Ints(1), 2)
	d.bias = at.Slice(row, at.Ints(0), d.columns, 3)
	d.temperature, d.noise = at.Squeeze(d.temperature, 0), at.Squeeze(d.noise, 0)

	lang := at.In(n.types.language)
	state := []onnx.Value{s.block.last}
	for i, seen := range s.block.prefix {
		// Keys are kept as the product takes them, so that no step transposes the prefix.
		seen.key = lang.Transpose(seen.key, 0, 1, 3, 2)
		d.prefix = append(d.prefix, seen)
		none := at.Scope(fmt.Sprint(i))
		state = append(state, none.Slice(seen.key, at.Ints(0), at.Ints(0), 3), none.Slice(seen.value, at.Ints(0), at.Ints(0), 2))
	}
	out := at.Loop(at.Ints(int64(n.slots)), at.Bool(true), state, d.body(at.Body("step")))
	bins, confidence := out[len(state)], out[len(state)+1]
	g.Output("bins", at.Transpose(bins, 1, 0), onnx.Int64, batch, slots)
	g.Output("confidence", at.Transpose(confidence, 1, 0), onnx.Float32, batch, slots)
	return g
}

// decodeStep adds the step of one token; its values are those of the graph around.
type decodeStep struct {
	*network
	known              onnx.Value // [B, L]
	temperature, noise onnx.Value // a scalar; [B or 1, L or 1, K or 1]
	block              *actionBlock
	prefix             []keyValue // of each layer: keys [B, heads, size, S], values [B, heads, S, size]
	bias               onnx.Value // [B, 1, 1, S]
	columns            onnx.Value // S, [1]
}

// body carries the token before, embedded, and the keys and values of the block so
// far, which grow by one token a step.
func (d *decodeStep) body(g *onnx.Graph) *onnx.Graph {
	l, at := d.llama, g.In(d.types.language)
	batch, one, heads, size := onnx.Symbol("B"), onnx.Size(1), onnx.Size(l.heads), onnx.Size(l.headSize())
	past, present, hidden := onnx.Symbol("past"), onnx.Symbol("present"), onnx.Size(l.hidden)
	step := g.Input("index", onnx.Int64)
	g.Input("continue", onnx.Bool)
	x := g.Input("token", at.Type(), batch, one, hidden)
	seen := make([]keyValue, l.layers)
	for i := range seen {
		seen[i].key = g.Input(fmt.Sprintf("key%d", i), at.Type(), batch, heads, size, past)
		seen[i].value = g.Input(fmt.Sprintf("value%d", i), at.Type(), batch, heads, past, size)
	}
	here := g.Unsqueeze(step, 0)
	cos, sin := g.Gather(d.block.cos, here, 2), g.Gather(d.block.sin, here, 2)
	for i := range seen {
		x = d.layer(at.Scope(fmt.Sprint("llama/", i)), i, x, cos, sin, &seen[i])
	}
	logits, denominator := d.ofBins(g, l.head(at.Scope("llama"), x), float64Type)
	token, confidence := d.choose(g, step, logits, denominator)
	id := g.Sub(g.Int(d.tokens.base-1), token)
	next := at.WeightRows(embedName, id)

	g.Output("go_on", g.Bool(true), onnx.Bool)
	g.Output("token_out", next, at.Type(), batch, one, hidden)
	for i, kv := range seen {
		g.Output(fmt.Sprintf("key%d_out", i), kv.key, at.Type(), batch, heads, size, present)
		g.Output(fmt.Sprintf("value%d_out", i), kv.value, at.Type(), batch, heads, present, size)
	}
	g.Output("bin", g.Squeeze(token, 1), onnx.Int64, batch)
	g.Output("confidence", g.Squeeze(confidence, 1), onnx.Float32, batch)
	return g
}

// layer runs a layer over one token x [B, 1, hidden], which sees the prefix and what
// seen holds of the block; its own key and value are added to that.
func (d *decodeStep) layer(g *onnx.Graph, i int, x, cos, sin onnx.Value, seen *keyValue) onnx.Value {
	l := d.llama
	normed := g.Narrow(l.norm(g, x, layerName(i)+"input_layernorm.weight"))
	own := l.keyValue(g, i, normed, cos, sin)
	seen.key = g.Concat(3, seen.key, g.Transpose(own.key, 0, 1, 3, 2))
	seen.value = g.Concat(2, seen.value, own.value)
	q := l.query(g, i, normed, cos, sin)
	return l.attended(g, i, x, d.attend(g.Scope("attention"), q, d.prefix[i], *seen))
}

// attend is the function attend over a prefix and a block that stay apart: joining
// them would copy the prefix in every step. Their keys are transposed.
func (d *decodeStep) attend(g *onnx.Graph, q onnx.Value, prefix, block keyValue) onnx.Value {
	l, full := d.llama, g.In(onnx.Float32)
	q = g.Mul(q, g.Float(inverseRoot(l.headSize())))
	scores := full.Concat(-1, full.Add(g.Wide(g.MatMul(q, prefix.key)), d.bias), g.Wide(g.MatMul(q, block.key)))
	share := g.Narrow(full.Softmax(scores, -1))
	mixed := g.Add(
		g.MatMul(g.Slice(share, g.Ints(0), d.columns, 3), prefix.value),
		g.MatMul(g.Slice(share, d.columns, g.Ints(math.MaxInt64), 3), block.value))
	return g.Reshape(g.Transpose(mixed, 0, 2, 1, 3), g.Ints(0, 0, int64(l.hidden)))
}

// choose takes a step's token [B, 1] from logits [B, 1, K], as round does a masked
// position's candidate, and its probability [B, 1]; a given one has none, 0.
func (d *decodeStep) choose(g *onnx.Graph, step, logits, denominator onnx.Value) (token, confidence onnx.Value) {
	rounds := denoiser{slots: 1, bins: d.tokens.bins, wide: float64Type}
	p := rounds.probabilities(g.Scope("softmax"), logits, denominator)
	last := g.Squeeze(g.Sub(g.ShapeOf(d.noise, 1, 2), g.Ints(1)), 0)
	noise := g.Unsqueeze(g.Gather(d.noise, g.Min(step, last), 1), 1) // [B or 1, 1, K or 1]
	noise = g.Where(g.Greater(d.temperature, g.Float(0)), g.Mul(d.temperature, noise), g.Float(0))
	var c controls
	rounds.count(g, &c)
	drawn := rounds.largest(g.Scope("draw"), &c, g.Add(logits, noise))

	known := g.Unsqueeze(g.Gather(d.known, step, 1), 1)
	given := g.GreaterOrEqual(known, g.Int(0))
	return g.Where(given, known, drawn), g.Where(given, g.Float(0), pick(g, p, drawn))
}
