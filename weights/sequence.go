package weights

import (
	"math"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// network is the whole policy network of one checkpoint.
//
// Its sequence is [BOS] [patches of each image] [proprio] [prompt] [pads]
// [L action slots] [stop], and the token before a slot predicts it: the last
// real prompt token slot 0, slot i-1 slot i (openvla-oft
// modeling_prismatic.py).
type network struct {
	dino, siglip *vit
	projector    *projector
	proprio      *proprioProjector // nil: the model takes none
	llama        *llama
	tokens       tokenIDs
	images       int // N
	slots        int // L
	attention    bundle.Attention
	head         *l1Head // nil: actions are tokens
	types        numberTypes
	centres      []float32 // [L, K] values of bins that are not uniform, else nil
}

func (n *network) inventory() []entry {
	list := append(n.dino.inventory(), n.siglip.inventory()...)
	list = append(list, n.projector.inventory()...)
	if n.proprio != nil {
		list = append(list, n.proprio.inventory()...)
	}
	if n.head != nil {
		list = append(list, n.head.inventory()...)
	}
	return append(list, n.llama.inventory()...)
}

// filmed reports whether language conditions the vision towers.
func (n *network) filmed() bool { return n.dino.language > 0 }

// observation is the graph inputs that describe the world.
type observation struct{ images, promptIDs, promptLength, proprio onnx.Value }

func (n *network) observe(g *onnx.Graph) observation {
	batch, side := onnx.Symbol("B"), onnx.Size(n.dino.image)
	o := observation{
		images:       g.Input("images", onnx.Uint8, batch, onnx.Size(n.images), side, side, onnx.Size(3)),
		promptIDs:    g.Input("prompt_ids", onnx.Int64, batch, onnx.Symbol("P")),
		promptLength: g.Input("prompt_length", onnx.Int64, batch),
	}
	if n.proprio != nil {
		o.proprio = g.Input("proprio", onnx.Float32, batch, onnx.Size(n.proprio.dims))
	}
	return o
}

// inserted is the number of tokens between BOS and the prompt.
func (n *network) inserted() int {
	count := n.images * n.dino.patches()
	if n.proprio != nil {
		count++
	}
	return count
}

// sequence is everything of the language model's input that no action token
// changes; a chunk computes it once. S is the sequence length. With attention
// that keeps the prefix blind to the action tokens, cos, sin and bias are those
// of the prefix, S its length, and block holds the rest.
type sequence struct {
	before         onnx.Value // [B, tokens before the slots, hidden]
	stop           onnx.Value // [B, 1, hidden]
	cos, sin       onnx.Value // [B, 1, S, headSize]
	rows           onnx.Value // [B, L, 1]: where each slot's logits are read
	rowCos, rowSin onnx.Value // [B, 1, L, headSize]
	bias           onnx.Value // [B, 1, 1 or S, S]: 0, or -inf where it is not seen
	block          *actionBlock
}

// actionBlock is the last real prompt token, the slots and the stop: what is
// computed in every round where nothing before sees it. Causally the last slot
// and the stop are left out, since no logits are read there or after.
type actionBlock struct {
	tokens   int
	prefix   []keyValue // of each layer
	last     onnx.Value // [B, 1, hidden]: the last real prompt token
	cos, sin onnx.Value // [B, 1, tokens, headSize]
	bias     onnx.Value // [B, 1, 1 or tokens, S + tokens]
}

// encode computes the sequence from an observation.
func (n *network) encode(g *onnx.Graph, o observation) *sequence {
	hidden := int64(n.llama.hidden)
	lang, sight := g.In(n.types.language), g.In(n.types.vision)
	prompt := lang.WeightRows(embedName, o.promptIDs)
	stop := lang.WeightRows(embedName, g.IntTensor([]int64{1, 1}, []int64{n.tokens.stop}))
	stop = g.Expand(stop, g.Concat(0, g.ShapeOf(o.promptIDs, 0, 1), g.Ints(1, hidden)))

	var language onnx.Value
	if n.filmed() {
		language = sight.Narrow(n.language(g.Scope("language"), o, lang.Wide(prompt), lang.Wide(stop)))
	}
	pixels := n.dino.patchPixels(g.Scope("vision"), o.images)
	vision := g.Concat(-1,
		n.dino.features(sight.Scope("dino"), pixels, language),
		n.siglip.features(sight.Scope("siglip"), pixels, language))
	vision = n.projector.build(sight.Scope("projector"), vision)
	if n.types.vision != n.types.language {
		vision = lang.Narrow(sight.Wide(vision))
	}
	vision = g.Reshape(vision, g.Ints(-1, int64(n.images*n.dino.patches()), hidden))

	bos := g.Slice(prompt, g.Ints(0), g.Ints(1), 1)
	rest := g.Slice(prompt, g.Ints(1), g.Ints(math.MaxInt64), 1)
	parts := []onnx.Value{bos, vision}
	if n.proprio != nil {
		parts = append(parts, n.proprio.build(lang.Scope("proprio"), o.proprio))
	}

	s := &sequence{before: g.Concat(1, append(parts, rest)...), stop: stop}
	if n.attention == bundle.Bidirectional {
		n.place(g.Scope("positions"), o, s)
	} else {
		n.divide(g.Scope("positions"), o, s)
		s.block.prefix = n.llama.prefix(lang.Scope("prefix"), s.before, s)
	}
	return s
}

// divide is place for a prefix that does not see the action block. The last real
// prompt token belongs to the block; its column in the prefix is seen by no
// token, as if it were a pad.
func (n *network) divide(g *onnx.Graph, o observation, s *sequence) {
	b := &actionBlock{tokens: n.slots + 2}
	if n.attention == bundle.Causal {
		b.tokens = n.slots
	}
	s.block = b
	at := g.In(n.types.language)
	inserted := int64(n.inserted())
	last := g.Add(g.Unsqueeze(o.promptLength, 1), g.Int(inserted-1))              // [B, 1], its column and position
	length := g.Squeeze(g.Add(g.ShapeOf(o.promptIDs, 1, 2), g.Ints(inserted)), 0) // S
	column := g.Range(g.Int(0), length, g.Int(1))                                 // [S]
	own := counting(g, b.tokens)

	unseen := g.Unsqueeze(g.GreaterOrEqual(column, last), 1, 2) // [B, 1, 1, S]
	all := g.Range(g.Int(0), g.Add(length, g.Int(int64(b.tokens))), g.Int(1))
	blockUnseen := g.And(g.GreaterOrEqual(all, last), g.Less(all, length))
	blockUnseen = g.Unsqueeze(blockUnseen, 1, 2) // [B, 1, 1, S + tokens]
	if n.attention == bundle.Causal {
		unseen = g.Or(unseen, g.Greater(column, g.Unsqueeze(column, 1)))
		blockUnseen = g.Or(blockUnseen, g.Greater(g.Sub(all, length), g.Unsqueeze(own, 1)))
	}
	hide := func(unseen onnx.Value) onnx.Value {
		return g.Where(unseen, g.Float(float32(math.Inf(-1))), g.Float(0))
	}
	s.bias, b.bias = hide(unseen), hide(blockUnseen)

	// After the last use of a scalar: where a graph is cut (onnx.Graph.Cut), before a
	// weight, only tensors with dimensions can be handed on.
	position := g.Add(last, own) // [B, tokens]
	s.cos = at.Narrow(g.Unsqueeze(g.Gather(g.Weight(cosName), column, 0), 0, 1))
	s.sin = at.Narrow(g.Unsqueeze(g.Gather(g.Weight(sinName), column, 0), 0, 1))
	b.cos = at.Narrow(g.Unsqueeze(g.Gather(g.Weight(cosName), position, 0), 1))
	b.sin = at.Narrow(g.Unsqueeze(g.Gather(g.Weight(sinName), position, 0), 1))
	b.last = g.GatherND(s.before, g.Unsqueeze(last, 2), 1)
}

// place computes what depends on the prompts' lengths: pads are no columns of
// the attention and take no positions, so a padded prompt gives the logits of
// the same prompt without pads.
func (n *network) place(g *onnx.Graph, o observation, s *sequence) {
	at := g.In(n.types.language)
	inserted, slots := int64(n.inserted()), int64(n.slots)
	length := g.Unsqueeze(o.promptLength, 1)                                // [B, 1]
	first := g.Add(g.ShapeOf(o.promptIDs, 1, 2), g.Ints(inserted))          // [1], the column of slot 0
	end := g.Add(length, g.Int(inserted))                                   // [B, 1], one past the last real prompt token
	size := g.Squeeze(g.Add(first, g.Ints(slots+1)), 0)                     // S
	column := g.Range(g.Int(0), size, g.Int(1))                             // [S]
	inPrompt := g.Less(column, first)                                       // [S]
	pad := g.And(inPrompt, g.GreaterOrEqual(column, end))                   // [B, S]
	position := g.Where(inPrompt, column, g.Sub(column, g.Sub(first, end))) // [B, S]
	batch, all, one, headSize := onnx.Symbol("B"), onnx.Symbol("S"), onnx.Size(1), onnx.Size(n.llama.headSize())
	s.bias = g.Sized(g.Unsqueeze(g.Where(pad, g.Float(float32(math.Inf(-1))), g.Float(0)), 1, 2), batch, one, one, all)
	s.cos = at.Sized(at.Narrow(g.Unsqueeze(g.Gather(g.Weight(cosName), position, 0), 1)), batch, one, all, headSize)
	s.sin = at.Sized(at.Narrow(g.Unsqueeze(g.Gather(g.Weight(sinName), position, 0), 1)), batch, one, all, headSize)

	following := make([]int64, slots-1)
	for i := range following {
		following[i] = int64(i)
	}
	last := g.Sub(end, g.Int(1)) // [B, 1]
	parts := []onnx.Value{last}
	if slots > 1 {
		row := g.Add(g.IntTensor([]int64{1, slots - 1}, following), first)
		shape := g.Concat(0, g.ShapeOf(o.promptIDs, 0, 1), g.Ints(slots-1))
		parts = append(parts, g.Expand(row, shape))
	}
	rows := g.Concat(1, parts...) // [B, L]
	s.rows = g.Unsqueeze(rows, 2)
	rowPosition := g.GatherElements(position, rows, 1)
	s.rowCos = at.Narrow(g.Unsqueeze(g.Gather(g.Weight(cosName), rowPosition, 0), 1))
	s.rowSin = at.Narrow(g.Unsqueeze(g.Gather(g.Weight(sinName), rowPosition, 0), 1))
}

// logits returns float32 [B, L, K] for tokens [B, L], bins or -1 where masked,
// and with the full vocabulary the logarithm [B, L] of the softmax denominator
// over it, whose sum is taken in the type wide.
func (n *network) logits(g *onnx.Graph, s *sequence, tokens onnx.Value, wide onnx.Type) (logits, logDenominator onnx.Value) {
	return n.ofBins(g, n.allLogits(g, s, tokens), wide)
}

// ofBins takes the logits of the bins [B, L, K] out of the head's, and with the full
// vocabulary the logarithm of the denominator [B, L].
func (n *network) ofBins(g *onnx.Graph, logits onnx.Value, wide onnx.Type) (ofBins, logDenominator onnx.Value) {
	if n.tokens.vocabulary != bundle.FullVocabulary {
		return logits, onnx.Value{}
	}
	g = g.Scope("vocabulary")
	largest := g.ReduceMax(logits, true, -1)
	sum := total(g, wide, g.Exp(g.Sub(logits, largest)), false)
	logDenominator = g.Add(g.Squeeze(largest, 2), rounded(g, wide, g.Log, sum))
	return g.Slice(logits, g.Ints(0), g.Ints(int64(n.tokens.bins)), 2), logDenominator
}

// ids are the vocabulary's, of bins or -1 where masked.
func (n *network) ids(g *onnx.Graph, tokens onnx.Value) onnx.Value {
	masked := g.Less(tokens, g.Int(0))
	return g.Where(masked, g.Int(n.tokens.mask), g.Sub(g.Int(n.tokens.base-1), tokens))
}

func (n *network) allLogits(g *onnx.Graph, s *sequence, tokens onnx.Value) onnx.Value {
	ids := n.ids(g, tokens)
	if n.attention != bundle.Bidirectional {
		return n.blockLogits(g, s, ids)
	}
	at := g.In(n.types.language)
	slots := at.WeightRows(embedName, ids)
	x := at.Sized(g.Concat(1, s.before, slots, s.stop), onnx.Symbol("B"), onnx.Symbol("S"), onnx.Size(n.llama.hidden))
	return n.llama.logits(at.Scope("llama"), x, s)
}

func (n *network) blockLogits(g *onnx.Graph, s *sequence, ids onnx.Value) onnx.Value {
	at := g.In(n.types.language)
	parts := []onnx.Value{s.block.last}
	if n.attention == bundle.Causal {
		ids = g.Slice(ids, g.Ints(0), g.Ints(int64(n.slots-1)), 1)
	}
	if n.slots > 1 || n.attention != bundle.Causal {
		parts = append(parts, at.WeightRows(embedName, ids))
	}
	if n.attention != bundle.Causal {
		parts = append(parts, s.stop)
	}
	return n.llama.block(at.Scope("llama"), g.Concat(1, parts...), s.block, n.slots)
}
