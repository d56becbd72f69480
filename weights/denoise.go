package weights

import (
	"fmt"
	"math"

	pb "github.com/advancedclimatesystems/gonnx/onnx"

	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights/onnx"
)

// float64Type is where sums of exponentials and logarithms are taken before
// they are rounded to float32, as package decode does, so that neither the
// order of a sum nor the vector width of a processor decides which token wins.
const float64Type = onnx.Type(pb.TensorProto_DOUBLE)

// denoiser adds the decoding rounds of package decode to a graph: one ONNX Loop
// whose body evaluates the network and then commits and masks tokens, or that
// body a number of times, one after the other. Every step has its twin in
// policy/decode/round.go.
type denoiser struct {
	slots, bins int // L, K
	// centres are the values of the bins of each slot, shape L,K; nil for uniform
	// ones, decode.Centres.
	centres []float32
	// unrolled is how many rounds stand one after the other; 0 is a Loop.
	unrolled int
	// wide is the type of sums, exponentials and logarithms: float64Type, or
	// Float32 for runtimes that have no other.
	wide onnx.Type
	// logits adds one evaluation of the network to the body: logits [B, L, K]
	// for tokens [B, L] (bins, or -1 where masked), and the softmax denominator
	// [B, L] in logarithm where it covers more than those K, else the zero
	// Value. round counts from 0.
	logits func(body *onnx.Graph, round, tokens onnx.Value) (logits, logDenominator onnx.Value)
	// carried, where it is not nil, stands for logits. It takes a Loop.
	carried *carried
}

// carried is a network that hands values of its own from round to round.
type carried struct {
	start []onnx.Value // before the first round
	elem  onnx.Type    // of each
	// before and after are the shape of each on its way into a round and out of it.
	before, after []onnx.Dim
	// logits is denoiser.logits with the values of the round before; it returns
	// those for the next.
	logits func(body *onnx.Graph, round, tokens onnx.Value, before []onnx.Value) (logits, logDenominator onnx.Value, next []onnx.Value)
}

// rows is the state between rounds.
type rows struct {
	tokens      onnx.Value // [B, L]
	committedAt onnx.Value // [B, L]: c of the round that committed each
	confidence  onnx.Value // [B, L]: c of the last live round of each row
	p           onnx.Value // [B, L, K] of that round
	carried     []onnx.Value
}

// controls are the graph inputs that set up the rounds, see decode.Inputs.
type controls struct {
	known, initial, initialConfidence, maskedAfter     onnx.Value
	tokenTemperature, choiceTemperature, committedBias onnx.Value
	threshold, dropThreshold, tokenNoise, choiceNoise  onnx.Value
	score, commitConfidence, meanWindow                onnx.Value
	given                                              onnx.Value // [B, L] bool
	rounds, lastRound                                  onnx.Value // T [1] and T-1, a scalar
	bin, distance, later                               onnx.Value // k and K-k for each bin; [L, L]: column stands after row
}

func (d denoiser) inputs(g *onnx.Graph) *controls {
	batch, rounds, slots, one := onnx.Symbol("B"), d.rounds("T"), onnx.Size(d.slots), onnx.Size(1)
	perRound := func(name string) onnx.Value { return g.Input(name, onnx.Float32, rounds) }
	c := &controls{
		known:             g.Input("known", onnx.Int64, batch, slots),
		initial:           g.Input("initial", onnx.Int64, batch, slots),
		initialConfidence: g.Input("initial_confidence", onnx.Float32, batch, slots),
		maskedAfter:       g.Input("masked_after", onnx.Int64, rounds, batch),
		tokenTemperature:  perRound("token_temperature"),
		choiceTemperature: perRound("choice_temperature"),
		committedBias:     perRound("committed_bias"),
		threshold:         perRound("threshold"),
		dropThreshold:     perRound("drop_threshold"),
		tokenNoise: g.Input("token_noise", onnx.Float32, onnx.Symbol("token_noise_T"), onnx.Symbol("token_noise_B"),
			onnx.Symbol("token_noise_L"), onnx.Symbol("token_noise_K")),
		choiceNoise: g.Input("choice_noise", onnx.Float32, onnx.Symbol("choice_noise_T"), onnx.Symbol("choice_noise_B"),
			onnx.Symbol("choice_noise_L")),
		score:            g.Input("score", onnx.Int64, one),
		commitConfidence: perRound("commit_confidence"),
		meanWindow:       g.Input("mean_window", onnx.Int64, one),
	}
	c.given = g.GreaterOrEqual(c.known, g.Int(0))
	c.rounds = g.ShapeOf(c.tokenTemperature, 0, 1)
	c.lastRound = g.Squeeze(g.Sub(c.rounds, g.Ints(1)), 0)
	d.count(g, c)
	slot := counting(g, d.slots)
	c.later = g.Greater(g.Unsqueeze(slot, 0), g.Unsqueeze(slot, 1))
	return c
}

// count fills the bins' numbers.
func (d denoiser) count(g *onnx.Graph, c *controls) {
	c.bin = counting(g, d.bins)
	c.distance = g.Cast(g.Sub(g.Int(int64(d.bins)), c.bin), onnx.Float32)
}

func counting(g *onnx.Graph, n int) onnx.Value {
	v := make([]int64, n)
	for i := range v {
		v[i] = int64(i)
	}
	return g.Ints(v...)
}

// rounds is a dimension with one entry per round; it has the given name where
// a run decides.
func (d denoiser) rounds(name string) onnx.Dim {
	if d.unrolled > 0 {
		return onnx.Size(d.unrolled)
	}
	return onnx.Symbol(name)
}

// build adds the inputs, the rounds and the outputs.
func (d denoiser) build(g *onnx.Graph) {
	at := g.Scope("decode")
	c := d.inputs(g)
	start := at.Where(c.given, c.known, c.initial)
	blank := at.Mul(at.Cast(start, onnx.Float32), at.Float(0)) // [B, L]
	state := rows{tokens: start, committedAt: c.initialConfidence, confidence: blank, p: at.Add(at.Unsqueeze(blank, 2), d.zeros(at))}
	if d.carried != nil {
		state.carried = d.carried.start
	}
	decode := d.loop
	if d.unrolled > 0 {
		decode = d.unroll
	}
	end, ran, traceBins, traceConfidence := decode(at, c, state)

	batch, slots, rounds := onnx.Symbol("B"), onnx.Size(d.slots), d.rounds("rounds")
	g.Output("bins", end.tokens, onnx.Int64, batch, slots)
	g.Output("confidence", end.confidence, onnx.Float32, batch, slots)
	g.Output("mean", d.mean(at.Scope("mean"), c, end.tokens, end.p), onnx.Float32, batch, slots)
	g.Output("rounds", ran, onnx.Int64, onnx.Size(1))
	g.Output("trace_bins", traceBins, onnx.Int64, rounds, batch, slots)
	g.Output("trace_confidence", traceConfidence, onnx.Float32, rounds, batch, slots)
}

// loop runs the rounds in a Loop, which ends when no row has a mask.
func (d denoiser) loop(g *onnx.Graph, c *controls, s rows) (end rows, ran, traceBins, traceConfidence onnx.Value) {
	state := append([]onnx.Value{s.tokens, s.committedAt, s.confidence, s.p}, s.carried...)
	out := g.Loop(c.rounds, g.Bool(true), state, d.body(g.Body("round"), c))
	trace := out[len(state):]
	return rows{tokens: out[0], committedAt: out[1], confidence: out[2], p: out[3]}, g.ShapeOf(trace[0], 0, 1), trace[0], trace[1]
}

// unroll lays the rounds out one after the other. All of them run: those after
// the Loop's end find no mask and change nothing. ran is what the Loop would
// have run.
func (d denoiser) unroll(g *onnx.Graph, c *controls, s rows) (end rows, ran, traceBins, traceConfidence onnx.Value) {
	ran = g.Int(1)
	var bins, confidence []onnx.Value
	for t := range d.unrolled {
		at := g.Scope(fmt.Sprint("round", t))
		var masked onnx.Value
		s, masked = d.round(at, c, at.Int(int64(t)), s)
		if t < d.unrolled-1 {
			ran = at.Add(ran, at.Cast(masked, onnx.Int64))
		}
		bins = append(bins, at.Unsqueeze(s.tokens, 0))
		confidence = append(confidence, at.Unsqueeze(s.confidence, 0))
	}
	return s, g.Unsqueeze(ran, 0), g.Concat(0, bins...), g.Concat(0, confidence...)
}

func (d denoiser) zeros(g *onnx.Graph) onnx.Value { return g.Floats(make([]float32, d.bins)...) }

// body builds the body of the loop.
func (d denoiser) body(g *onnx.Graph, c *controls) *onnx.Graph {
	batch, slots := onnx.Symbol("B"), onnx.Size(d.slots)
	round := g.Input("index", onnx.Int64)
	g.Input("continue", onnx.Bool)
	s := rows{
		tokens:      g.Input("tokens", onnx.Int64, batch, slots),
		committedAt: g.Input("committed_at", onnx.Float32, batch, slots),
		confidence:  g.Input("confidence", onnx.Float32, batch, slots),
		p:           g.Input("p", onnx.Float32, batch, slots, onnx.Size(d.bins)),
	}
	if d.carried != nil {
		for i := range d.carried.start {
			s.carried = append(s.carried, g.Input(fmt.Sprint("carried", i), d.carried.elem, d.carried.before...))
		}
	}
	next, masked := d.round(g, c, round, s)
	g.Output("go_on", masked, onnx.Bool)
	g.Output("tokens_out", next.tokens, onnx.Int64, batch, slots)
	g.Output("committed_at_out", next.committedAt, onnx.Float32, batch, slots)
	g.Output("confidence_out", next.confidence, onnx.Float32, batch, slots)
	g.Output("p_out", next.p, onnx.Float32, batch, slots, onnx.Size(d.bins))
	for i, v := range next.carried {
		g.Output(fmt.Sprintf("carried%d_out", i), v, d.carried.elem, d.carried.after...)
	}
	g.Output("trace_bins", next.tokens, onnx.Int64, batch, slots)
	g.Output("trace_confidence", next.confidence, onnx.Float32, batch, slots)
	return g
}

// round adds one round, counted from 0, and says whether any row has a mask
// after it.
func (d denoiser) round(g *onnx.Graph, c *controls, round onnx.Value, s rows) (next rows, anyMasked onnx.Value) {
	masked := g.Less(s.tokens, g.Int(0))
	live := anyOf(g, masked, true, 1) // [B, 1]
	notLast := g.Less(round, c.lastRound)
	var logits, denominator onnx.Value
	if d.carried == nil {
		logits, denominator = d.logits(g, round, s.tokens)
	} else {
		logits, denominator, next.carried = d.carried.logits(g, round, s.tokens, s.carried)
	}
	p := d.probabilities(g.Scope("softmax"), logits, denominator)
	candidate := g.Where(masked, d.draw(g.Scope("draw"), c, round, logits), s.tokens)
	chance := pick(g, p, candidate)

	// Ranking: the lowest sums are masked, then what fell in confidence.
	sum := d.sums(g.Scope("sum"), c, round, masked, candidate, chance, p)
	lowest := d.lowest(g.Scope("rank"), c, round, sum)
	unsure := g.Less(chance, g.Gather(c.commitConfidence, round, 0))
	revoked := g.Or(
		g.Less(chance, g.Gather(c.threshold, round, 0)),
		g.Less(chance, g.Sub(s.committedAt, g.Gather(c.dropThreshold, round, 0))))
	revoked = g.And(revoked, g.Not(g.Or(masked, c.given)))
	remasked := g.And(g.Or(g.And(lowest, unsure), revoked), g.And(live, notLast))
	next.tokens = g.Where(remasked, g.Int(-1), candidate)

	newly := g.And(masked, g.Not(remasked))
	stillMasked := g.Less(next.tokens, g.Int(0))
	// A row without masked positions is frozen, but for its first confidence.
	fresh := g.Or(live, g.Equal(round, g.Int(0)))
	next.confidence = g.Where(fresh, chance, s.confidence)
	next.committedAt = g.Where(newly, chance, s.committedAt)
	next.p = g.Where(g.Unsqueeze(fresh, 2), p, s.p)
	return next, anyOf(g, stillMasked, false, 0, 1)
}

// probabilities is the softmax over the bins.
func (d denoiser) probabilities(g *onnx.Graph, logits, denominator onnx.Value) onnx.Value {
	if denominator != (onnx.Value{}) {
		return rounded(g, d.wide, g.Exp, g.Min(g.Sub(logits, g.Unsqueeze(denominator, 2)), g.Float(0)))
	}
	e := rounded(g, d.wide, g.Exp, g.Sub(logits, g.ReduceMax(logits, true, -1)))
	return g.Div(e, total(g, d.wide, e, true))
}

// draw is Gumbel-Max sampling: the bin with the largest logit plus scaled
// noise.
func (d denoiser) draw(g *onnx.Graph, c *controls, round, logits onnx.Value) onnx.Value {
	return d.largest(g, c, g.Add(logits, scaledNoise(g, c.tokenTemperature, c.tokenNoise, round)))
}

// scaledNoise is a round's noise times its temperature, 0 at temperature 0.
func scaledNoise(g *onnx.Graph, temperatures, noise, round onnx.Value) onnx.Value {
	temperature := g.Gather(temperatures, round, 0)
	scaled := g.Mul(temperature, ofRound(g, noise, round))
	return g.Where(g.Greater(temperature, g.Float(0)), scaled, g.Float(0))
}

// largest is ArgMax over the bins with the lowest bin on a tie, which ArgMax
// leaves to the provider: of the bins that hold the maximum, the one that is
// farthest from K. Where none does (NaN), it is some bin.
func (d denoiser) largest(g *onnx.Graph, c *controls, x onnx.Value) onnx.Value {
	top := g.Cast(g.Equal(x, g.ReduceMax(x, true, -1)), onnx.Float32)
	distance := g.Cast(g.ReduceMax(g.Mul(top, c.distance), false, -1), onnx.Int64)
	return g.Sub(g.Int(int64(d.bins)), g.Max(distance, g.Int(1)))
}

// sums is what positions are ranked by; given ones get +inf.
func (d denoiser) sums(g *onnx.Graph, c *controls, round, masked, candidate, chance, p onnx.Value) onnx.Value {
	// The maximum and the gap of a masked position look at its most probable
	// bin, those of a committed one at its own.
	best := g.Where(masked, d.largest(g, c, p), candidate)
	maximum := pick(g, p, best)
	others := g.Where(g.Equal(c.bin, g.Unsqueeze(best, 2)), g.Float(0), p)
	gap := g.Sub(maximum, g.ReduceMax(others, false, -1))
	score := g.Where(g.Equal(c.score, g.Int(decode.ScoreCandidate)), chance,
		g.Where(g.Equal(c.score, g.Int(decode.ScoreMaximum)), maximum, gap))

	sum := rounded(g, d.wide, g.Log, g.Add(g.Max(score, g.Float(0)), g.Float(1e-20)))
	sum = g.Add(sum, scaledNoise(g, c.choiceTemperature, c.choiceNoise, round))
	sum = g.Where(masked, sum, g.Add(sum, g.Gather(c.committedBias, round, 0)))
	return g.Where(c.given, g.Float(float32(math.Inf(1))), sum)
}

// lowest marks the masked_after positions with the lowest sums, the later of
// two equal ones first, by comparing all pairs: the order that TopK gives ties
// differs by provider.
func (d denoiser) lowest(g *onnx.Graph, c *controls, round, sum onnx.Value) onnx.Value {
	mine, other := g.Unsqueeze(sum, 2), g.Unsqueeze(sum, 1)
	lower := g.Or(g.Less(other, mine), g.And(g.Equal(other, mine), c.later))
	rank := g.ReduceSum(g.Cast(lower, onnx.Float32), false, 2) // exact: counts below 2^24
	count := g.Cast(g.Unsqueeze(g.Gather(c.maskedAfter, round, 0), 1), onnx.Float32)
	return g.And(g.Less(rank, count), g.Less(sum, g.Float(float32(math.Inf(1)))))
}

// mean averages the bins' values around the chosen ones.
func (d denoiser) mean(g *onnx.Graph, c *controls, tokens, p onnx.Value) onnx.Value {
	var centres, centre onnx.Value
	if d.centres == nil {
		centres = g.Floats(decode.Centres(d.bins)...)
		centre = g.Gather(centres, tokens, 0)
	} else {
		// One long list for all slots: the bins of slot l begin at l K.
		first := make([]int64, d.slots)
		for l := range first {
			first[l] = int64(l * d.bins)
		}
		centres = g.FloatTensor([]int64{int64(d.slots), int64(d.bins)}, d.centres)
		centre = g.Gather(g.Reshape(centres, g.Ints(-1)), g.Add(tokens, g.Ints(first...)), 0)
	}
	offset := g.Sub(centres, g.Unsqueeze(centre, 2))
	near := g.LessOrEqual(g.Abs(g.Sub(c.bin, g.Unsqueeze(tokens, 2))), c.meanWindow)
	weight := total(g, d.wide, g.Where(near, p, g.Float(0)), false)
	moment := total(g, d.wide, g.Where(near, g.Mul(p, offset), g.Float(0)), false)
	return g.Add(centre, g.Div(moment, g.Max(weight, g.Float(1e-20))))
}

// pick takes one bin's entry of x [B, L, K] for each of bins [B, L].
func pick(g *onnx.Graph, x, bins onnx.Value) onnx.Value {
	return g.Squeeze(g.GatherElements(x, g.Unsqueeze(bins, 2), 2), 2)
}

// ofRound takes a round's part of an array whose first dimension is T or 1.
func ofRound(g *onnx.Graph, x, round onnx.Value) onnx.Value {
	last := g.Squeeze(g.Sub(g.ShapeOf(x, 0, 1), g.Ints(1)), 0)
	return g.Gather(x, g.Min(round, last), 0)
}

// rounded applies f to float32 x in the type wide and rounds.
func rounded(g *onnx.Graph, wide onnx.Type, f func(onnx.Value) onnx.Value, x onnx.Value) onnx.Value {
	if wide == onnx.Float32 {
		return f(x)
	}
	return g.Cast(f(g.Cast(x, wide)), onnx.Float32)
}

// total sums float32 x over the last axis in the type wide and rounds.
func total(g *onnx.Graph, wide onnx.Type, x onnx.Value, keep bool) onnx.Value {
	return rounded(g, wide, func(x onnx.Value) onnx.Value { return g.ReduceSum(x, keep, -1) }, x)
}

// anyOf reports whether x holds anywhere along axes.
func anyOf(g *onnx.Graph, x onnx.Value, keep bool, axes ...int64) onnx.Value {
	return g.Greater(g.ReduceSum(g.Cast(x, onnx.Int32), keep, axes...), g.Cast(g.Int(0), onnx.Int32))
}
