package weights

import (
	"fmt"
	"math"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// refresher evaluates a network whose tokens all see each other so that rounds
// may leave the prefix as it was: all that stands before the last real prompt
// token. Exactly it changes with the action tokens, in every layer but the first.
// In a round that does not recompute it, its keys and values in every layer are
// those of the last round that did, and only the action block runs.
//
// Both kinds of round are the same nodes over more or fewer rows, which slices
// choose, and every row attends to what was kept and to all rows of its round; before
// a round that recomputes nothing is kept. An If with a branch for each kind would
// have every linear layer twice, and with it the memory of weights that a runtime
// rearranges.
type refresher struct {
	network   *network
	sequence  *sequence
	recompute onnx.Value // [T] bool, recompute_prefix
	lastRound onnx.Value // T-1, a scalar
	length    onnx.Value // [1]: tokens before the slots, pads included
	before    onnx.Value // [B, 1 + length, hidden]: the last real prompt token, then all before the slots
	tokens    int        // of the action block
	cos, sin  onnx.Value // [B, 1, tokens + S, headSize]: of the block, then of the sequence
	columns   onnx.Value // [1]: what the block sees, length + tokens
	bias      onnx.Value // [B, 1, 1, columns + S]: of the block, then of the sequence
	blockRows onnx.Value // [L, 1]: where the block's logits are read
}

// refreshes reports whether rounds of the fused graph, unrolled of them or in a
// Loop, can leave the prefix as it was. Unrolled ones cannot: which of them
// recompute is an input, and sizes that depend on it are what runtimes without a
// Loop do not take.
func (n *network) refreshes(unrolled int) bool {
	return n.attention == bundle.Bidirectional && n.head == nil && unrolled == 0
}

// refresher adds the graph input recompute_prefix and what all rounds share.
func (n *network) refresher(g *onnx.Graph, s *sequence) *refresher {
	r := &refresher{
		network: n, sequence: s, tokens: n.slots + 2,
		recompute: g.Input("recompute_prefix", onnx.Bool, onnx.Symbol("T")),
	}
	g = g.Scope("refresh")
	r.lastRound = g.Squeeze(g.Sub(g.ShapeOf(r.recompute, 0, 1), g.Ints(1)), 0)
	r.length = g.ShapeOf(s.before, 1, 2)
	last := g.Slice(s.rows, g.Ints(0), g.Ints(1), 1) // [B, 1, 1], its column
	r.before = g.Concat(1, g.GatherND(s.before, last, 1), s.before)
	both := func(ofRows, ofAll onnx.Value) onnx.Value {
		tail := g.Slice(ofAll, r.length, g.Ints(math.MaxInt64), 2) // the slots and the stop
		return g.Concat(2, g.Slice(ofRows, g.Ints(0), g.Ints(1), 2), tail, ofAll)
	}
	r.cos, r.sin = both(s.rowCos, s.cos), both(s.rowSin, s.sin)

	// The block has the last prompt token itself; its column in the prefix is seen
	// by no token, as if it were a pad.
	r.columns = g.Add(r.length, g.Ints(int64(r.tokens)))
	column := g.Range(g.Int(0), g.Squeeze(r.columns, 0), g.Int(1))
	unseen := g.And(g.GreaterOrEqual(column, g.Squeeze(last, 2)), g.Less(column, r.length)) // [B, columns]
	hidden := g.Where(g.Unsqueeze(unseen, 1, 2), g.Float(float32(math.Inf(-1))), g.Float(0))
	r.bias = g.Concat(3, hidden, s.bias)
	r.blockRows = g.Unsqueeze(counting(g, n.slots), 1)
	return r
}

// carried are the keys and the values of each layer that a round hands to the
// next: none before a round that recomputes them.
func (r *refresher) carried(g *onnx.Graph, wide onnx.Type) *carried {
	l := r.network.llama
	at := g.In(r.network.types.language).Scope("refresh")
	none := l.split(at, at.Slice(r.sequence.before, at.Ints(0), at.Ints(0), 1))
	shape := func(tokens string) []onnx.Dim {
		return []onnx.Dim{onnx.Symbol("B"), onnx.Size(l.heads), onnx.Symbol(tokens), onnx.Size(l.headSize())}
	}
	c := &carried{
		elem: r.network.types.language, before: shape("kept_before"), after: shape("kept_after"),
		logits: func(body *onnx.Graph, round, tokens onnx.Value, kept []onnx.Value) (logits, logDenominator onnx.Value, next []onnx.Value) {
			logits, next = r.logits(body, round, tokens, kept)
			logits, logDenominator = r.network.ofBins(body, logits, wide)
			return logits, logDenominator, next
		},
	}
	for range l.layers {
		c.start = append(c.start, none, none)
	}
	return c
}

// logits is one round: the head's logits [B, L, K or V], and what to keep.
func (r *refresher) logits(g *onnx.Graph, round, tokens onnx.Value, kept []onnx.Value) (logits onnx.Value, next []onnx.Value) {
	n, s, c := r.network, r.sequence, g.Scope("refresh")
	whole := c.Or(c.Equal(round, c.Int(0)), c.Gather(r.recompute, round, 0))
	following := c.Min(c.Add(round, c.Int(1)), r.lastRound)
	unread := c.Or(c.GreaterOrEqual(round, r.lastRound), c.Gather(r.recompute, following, 0))
	keep := c.Where(unread, c.Ints(0), r.length)
	// chosen is the first part of x along an axis, of the given size, or the rest.
	chosen := func(x, size onnx.Value, axis int64) onnx.Value {
		return c.Slice(x, c.Where(whole, size, c.Ints(0)), c.Where(whole, c.Ints(math.MaxInt64), size), axis)
	}
	block := c.Ints(int64(r.tokens))
	cos, sin, bias := chosen(r.cos, block, 2), chosen(r.sin, block, 2), chosen(r.bias, r.columns, 3)
	rows := c.Where(whole, s.rows, r.blockRows)

	at := g.In(n.types.language)
	slots := at.WeightRows(embedName, n.ids(g, tokens))
	x := at.Concat(1, chosen(r.before, c.Ints(1), 1), slots, s.stop)
	l, at := n.llama, at.Scope("llama")
	for i := range l.layers {
		layer := at.Scope(fmt.Sprint(i))
		normed := layer.Narrow(l.norm(layer, x, layerName(i)+"input_layernorm.weight"))
		own := l.keyValue(layer, i, normed, cos, sin)
		all := keyValue{layer.Concat(2, kept[2*i], own.key), layer.Concat(2, kept[2*i+1], own.value)}
		for _, v := range []onnx.Value{all.key, all.value} {
			next = append(next, layer.Slice(v, layer.Ints(0), keep, 2))
		}
		queries, cos, sin := normed, cos, sin
		if i == l.layers-1 {
			x, queries = layer.GatherND(x, rows, 1), layer.GatherND(normed, rows, 1)
			cos, sin = s.rowCos, s.rowSin
		}
		x = l.layer(layer, i, x, queries, cos, sin, bias, all)
	}
	return l.head(at, x), next
}
