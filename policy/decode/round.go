package decode

import "math"

// row is one row of the batch between rounds.
type row struct {
	bins        []int64   // the state: a bin, or -1 where masked
	given       []bool    // never masked, never changed
	committedAt []float32 // c of the round that last committed the position
	confidence  []float32 // c of the last live round
	p           []float32 // L,K probabilities of the last live round
	margin      float32   // the closest decision so far

	// Scratch of one round.
	candidate []int64
	sum       []float32 // what positions are ranked by
	lowest    []bool    // among the masked_after lowest
}

func (r *row) start(in *Inputs, b int) {
	n := in.Positions
	r.bins, r.candidate = make([]int64, n), make([]int64, n)
	r.given, r.lowest = make([]bool, n), make([]bool, n)
	r.committedAt, r.confidence, r.sum = make([]float32, n), make([]float32, n), make([]float32, n)
	r.p = make([]float32, n*in.Bins)
	r.margin = inf32
	for i := range r.bins {
		at := b*n + i
		switch {
		case in.Known[at] >= 0:
			r.bins[i], r.given[i] = in.Known[at], true
		case in.Initial[at] >= 0:
			r.bins[i], r.committedAt[i] = in.Initial[at], in.InitialConfidence[at]
		default:
			r.bins[i] = -1
		}
	}
}

func (r *row) masked() bool {
	for _, b := range r.bins {
		if b < 0 {
			return true
		}
	}
	return false
}

// round is round t for row b. A row that starts it without a mask is frozen:
// round 0 only notes its probabilities, later ones do nothing.
func (r *row) round(in *Inputs, t, b int, logits Logits) error {
	live := r.masked()
	if err := r.softmax(in, t, b, logits, live || t == 0); err != nil {
		return err
	}
	if !live && t > 0 {
		return nil
	}
	for i := range r.bins {
		x := logits.Values[(b*in.Positions+i)*in.Bins:][:in.Bins]
		r.candidate[i] = r.bins[i]
		if r.bins[i] < 0 {
			r.candidate[i] = r.draw(in, t, b, i, x)
		}
		r.confidence[i] = r.p[i*in.Bins+int(r.candidate[i])]
	}
	if !live {
		return nil
	}
	if t == in.Rounds-1 {
		for i := range r.bins {
			r.commit(i)
		}
		return nil
	}
	r.rank(in, t, b)
	for i := range r.bins {
		switch {
		case r.given[i]:
		case r.lowest[i] && !r.keeps(r.confidence[i], in.CommitConfidence[t]):
			r.bins[i] = -1
		case r.bins[i] < 0:
			r.commit(i)
		case r.revoked(in, t, i):
			r.bins[i] = -1
		}
	}
	return nil
}

// commit turns a masked position into its candidate.
func (r *row) commit(i int) {
	if r.bins[i] < 0 {
		r.bins[i], r.committedAt[i] = r.candidate[i], r.confidence[i]
	}
}

// softmax fills r.p from the logits of row b, or only checks them.
func (r *row) softmax(in *Inputs, t, b int, logits Logits, fill bool) error {
	for i := range r.bins {
		x := logits.Values[(b*in.Positions+i)*in.Bins:][:in.Bins]
		top := x[0]
		for _, v := range x {
			if v != v {
				return &LogitsError{Round: t, Row: b, Position: i, Value: v}
			}
			top = max(top, v)
		}
		if math.IsInf(float64(top), 0) {
			return &LogitsError{Round: t, Row: b, Position: i, Value: top}
		}
		if logits.LogDenominator != nil {
			top = logits.LogDenominator[b*in.Positions+i]
			if d := float64(top); math.IsNaN(d) || math.IsInf(d, 0) {
				return &LogitsError{Round: t, Row: b, Position: i, Value: top}
			}
		}
		if !fill {
			continue
		}
		p := r.p[i*in.Bins:][:in.Bins]
		var total float64
		for k, v := range x {
			p[k] = exp32(min(v-top, 0))
			total += float64(p[k])
		}
		if logits.LogDenominator == nil {
			for k := range p {
				p[k] /= float32(total)
			}
		}
	}
	return nil
}

// draw is Gumbel-Max sampling from p^(1/temperature): the bin whose logit plus
// scaled noise is largest, the lowest on a tie.
func (r *row) draw(in *Inputs, t, b, i int, x []float32) int64 {
	temperature := in.TokenTemperature[t]
	best, first, second := 0, -inf32, -inf32
	for k, v := range x {
		if temperature > 0 {
			// The conversion keeps compilers from fusing product and sum.
			v += float32(temperature * in.TokenNoise.at(t, b, i, k))
		}
		if v > first {
			best, first, second = k, v, first
		} else if v > second {
			second = v
		}
	}
	r.decided(first - second)
	return int64(best)
}

// score is what a position's rank is built from.
func (r *row) score(in *Inputs, i int) float32 {
	p := r.p[i*in.Bins:][:in.Bins]
	own := int(r.candidate[i])
	committed := r.bins[i] >= 0
	if in.Score == ScoreCandidate || in.Score == ScoreMaximum && committed {
		return p[own]
	}
	var first, second, other float32
	for k, v := range p {
		if v > first {
			first, second = v, first
		} else if v > second {
			second = v
		}
		if k != own {
			other = max(other, v)
		}
	}
	switch {
	case in.Score == ScoreMaximum:
		return first
	case committed:
		return p[own] - other
	default:
		return first - second
	}
}

// rank marks the masked_after positions with the lowest sums. Given positions
// and sums of +inf take no part; of equal sums the later position is lower.
func (r *row) rank(in *Inputs, t, b int) {
	for i := range r.bins {
		s := log32(max(r.score(in, i), 0) + 1e-20)
		if c := in.ChoiceTemperature[t]; c > 0 {
			s += float32(c * in.ChoiceNoise.at(t, b, i, 0))
		}
		if r.bins[i] >= 0 {
			s += in.CommittedBias[t]
		}
		if r.given[i] {
			s = inf32
		}
		r.sum[i] = s
	}
	cut := int(in.MaskedAfter[t*in.Batch+b])
	below, above := -inf32, inf32 // the sums beside the cut
	for i, s := range r.sum {
		lower := 0
		for j, o := range r.sum {
			if o < s || o == s && j > i {
				lower++
			}
		}
		r.lowest[i] = lower < cut && s != inf32
		if r.lowest[i] {
			below = max(below, s)
		} else {
			above = min(above, s)
		}
	}
	if above != inf32 && below != -inf32 {
		r.decided(above - below)
	}
}

// keeps reports whether a confident candidate is committed although it ranks
// low.
func (r *row) keeps(c, limit float32) bool {
	r.decided(abs32(c - limit))
	return c >= limit
}

// revoked is secondary re-masking: of a position committed before this round.
func (r *row) revoked(in *Inputs, t, i int) bool {
	c := r.confidence[i]
	fall := r.committedAt[i] - in.DropThreshold[t]
	r.decided(abs32(c - in.Threshold[t]))
	r.decided(abs32(c - fall))
	return c < in.Threshold[t] || c < fall
}

// decided notes how close a decision was.
func (r *row) decided(gap float32) { r.margin = min(r.margin, gap) }

// means is the average of the bin values around each chosen bin, weighted by
// their probabilities.
func (r *row) means(in *Inputs) []float32 {
	bins, window := in.Bins, int(in.MeanWindow)
	out := make([]float32, len(r.bins))
	for i, bin := range r.bins {
		b, centres := int(bin), in.CentresAt(i)
		p := r.p[i*bins:][:bins]
		var weight, moment float64
		for k := max(0, b-window); k <= min(bins-1, b+window); k++ {
			weight += float64(p[k])
			moment += float64(p[k] * (centres[k] - centres[b]))
		}
		out[i] = centres[b] + float32(moment)/max(float32(weight), 1e-20)
	}
	return out
}

func abs32(x float32) float32 { return max(x, -x) }
