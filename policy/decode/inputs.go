package decode

import (
	"fmt"
	"math"
	"slices"
)

// MaxRounds bounds T.
const MaxRounds = 64

// maxTemperature keeps temperature times noise finite in float32.
const maxTemperature = 1e6

// Kinds of score, the values of Inputs.Score.
const (
	// ScoreCandidate ranks by the probability of the candidate.
	ScoreCandidate int64 = iota
	// ScoreMaximum ranks by the largest probability.
	ScoreMaximum
	// ScoreGap ranks by the gap of the two largest probabilities.
	ScoreGap
)

// Array is a float32 array in row-major order whose dimensions may be 1 where
// the thing it is used with has more: it broadcasts.
type Array struct {
	Shape []int
	Data  []float32
}

// at reads the element that broadcasting to (t, b, l, k) gives; k is ignored by
// arrays of three dimensions.
func (a *Array) at(index ...int) float32 {
	at := 0
	for d, n := range a.Shape {
		at *= n
		if n > 1 {
			at += index[d]
		}
	}
	return a.Data[at]
}

// Inputs is one decoding of a batch: for the Go decoder and, under the same
// names in snake case, for the fused graph. T rounds, B rows, L positions, K
// bins. All arrays are row-major; those of length T hold one value per round.
type Inputs struct {
	Rounds    int // T, 1..MaxRounds
	Batch     int // B
	Positions int // L
	Bins      int // K, at least 2

	// Known, shape B,L, is a bin that is given, or -1. Given positions are
	// never masked or changed.
	Known []int64
	// Initial, shape B,L, is a bin committed before round 0, or -1. It may be
	// masked again.
	Initial []int64
	// InitialConfidence, shape B,L, is the confidence Initial was committed
	// with; read only where Initial counts.
	InitialConfidence []float32
	// MaskedAfter, shape T,B, is how many positions stay masked after each
	// round. The last round leaves none, whatever is here.
	MaskedAfter []int64
	// TokenTemperature of Gumbel-Max sampling; 0 is argmax.
	TokenTemperature []float32
	// ChoiceTemperature scales the noise on which positions to commit.
	ChoiceTemperature []float32
	// CommittedBias is added to the ranking sum of committed positions; +inf
	// locks them.
	CommittedBias []float32
	// Threshold masks committed tokens again whose probability fell below it.
	Threshold []float32
	// DropThreshold masks committed tokens again whose probability fell by
	// more; +inf is off.
	DropThreshold []float32
	// CommitConfidence commits candidates at or above it whatever the schedule
	// says; above 1 is off.
	CommitConfidence []float32
	// TokenNoise, shape T,B,L,K (each may be 1), is standard Gumbel noise.
	TokenNoise Array
	// ChoiceNoise, shape T,B,L (each may be 1), is standard Gumbel noise.
	ChoiceNoise Array
	// RecomputePrefix are the rounds in which the graph of a bundle with
	// bidirectional attention recomputes its prefix; all true, or none, is exact.
	// That of round 0 is not read: it always does.
	RecomputePrefix []bool
	// Score is one of ScoreCandidate, ScoreMaximum and ScoreGap.
	Score int64
	// MeanWindow is how many bins on each side of the chosen one Result.Mean
	// averages over.
	MeanWindow int64

	// Centres holds the values that bins stand for, in [-1, 1]: K where they are
	// the same for every position, else shape L,K. The graph has them inside.
	Centres []float32
}

// CentresAt returns the K values of the bins of position i of 0..L-1.
func (in *Inputs) CentresAt(i int) []float32 {
	if len(in.Centres) == in.Bins {
		return in.Centres
	}
	return in.Centres[i*in.Bins:][:in.Bins]
}

// FieldError names the parameter or input that cannot be used and says why.
type FieldError struct {
	Field  string // as the graph's inputs and the node's parameters are named
	Reason string
}

func (e *FieldError) Error() string { return fmt.Sprintf("decode %s: %s", e.Field, e.Reason) }

func fieldError(field, format string, args ...any) error {
	return &FieldError{Field: field, Reason: fmt.Sprintf(format, args...)}
}

// Exact reports whether the prefix is recomputed in every round.
func (in *Inputs) Exact() bool {
	return len(in.RecomputePrefix) == 0 || !slices.Contains(in.RecomputePrefix[1:], false)
}

// Masked counts the positions of row b that start masked.
func (in *Inputs) Masked(b int) int {
	n := 0
	for i := b * in.Positions; i < (b+1)*in.Positions; i++ {
		if in.Known[i] < 0 && in.Initial[i] < 0 {
			n++
		}
	}
	return n
}

// Validate checks lengths and ranges and returns a *FieldError for the first
// input that does not hold.
func (in *Inputs) Validate() error {
	if in.Rounds < 1 || in.Rounds > MaxRounds {
		return fieldError("rounds", "is %d, must be 1..%d", in.Rounds, MaxRounds)
	}
	if in.Batch < 1 || in.Positions < 1 || in.Bins < 2 {
		return fieldError("shape", "%d rows, %d positions, %d bins; must be at least 1, 1 and 2", in.Batch, in.Positions, in.Bins)
	}
	if err := in.validateTokens(); err != nil {
		return err
	}
	if err := in.validateRounds(); err != nil {
		return err
	}
	if err := in.TokenNoise.validate("token_noise", in.Rounds, in.Batch, in.Positions, in.Bins); err != nil {
		return err
	}
	if err := in.ChoiceNoise.validate("choice_noise", in.Rounds, in.Batch, in.Positions); err != nil {
		return err
	}
	if n := len(in.RecomputePrefix); n != 0 && n != in.Rounds {
		return fieldError("recompute_prefix", "has %d values, must be one per round (%d) or none", n, in.Rounds)
	}
	if in.Score < ScoreCandidate || in.Score > ScoreGap {
		return fieldError("score", "is %d, must be 0 (candidate), 1 (maximum) or 2 (gap)", in.Score)
	}
	if in.MeanWindow < 0 || in.MeanWindow > int64(in.Bins) {
		return fieldError("mean_window", "is %d, must be 0..%d", in.MeanWindow, in.Bins)
	}
	if n := len(in.Centres); n != in.Bins && n != in.Positions*in.Bins {
		return fieldError("centres", "has %d values, must be one per bin (%d), or that for each of %d positions", n, in.Bins, in.Positions)
	}
	return nil
}

// checkUnrolled refuses more rounds than a graph without a Loop has.
func checkUnrolled(rounds, unrolled int) error {
	if unrolled > 0 && rounds > unrolled {
		return fieldError("rounds", "is %d, but the policy's graph has %d rounds and no Loop; set at most %d, or export the checkpoint with --unroll %d or without",
			rounds, unrolled, unrolled, rounds)
	}
	return nil
}

// Padded returns the inputs with which a graph that has the given number of
// rounds, and runs all of them, gives the result of in.Rounds rounds. Round
// in.Rounds-1 is told to mask nothing; those after it find no mask, so they
// change nothing, whatever their inputs are. in, which must be valid, is
// left as it is; arrays that do not change are shared. The error is a *FieldError
// where there are fewer rounds than in.Rounds.
func (in *Inputs) Padded(rounds int) (*Inputs, error) {
	if err := checkUnrolled(in.Rounds, rounds); err != nil {
		return nil, err
	}
	if rounds <= in.Rounds {
		return in, nil
	}
	out, last := *in, in.Rounds-1
	out.Rounds = rounds
	out.MaskedAfter = padded(in.MaskedAfter, rounds*in.Batch, 0)
	clear(out.MaskedAfter[last*in.Batch:])
	out.Threshold = padded(in.Threshold, rounds, 0)
	out.Threshold[last] = 0
	out.DropThreshold = padded(in.DropThreshold, rounds, inf32)
	out.DropThreshold[last] = inf32
	out.TokenTemperature = padded(in.TokenTemperature, rounds, 0)
	out.ChoiceTemperature = padded(in.ChoiceTemperature, rounds, 0)
	out.CommittedBias = padded(in.CommittedBias, rounds, 0)
	out.CommitConfidence = padded(in.CommitConfidence, rounds, 2)
	if len(in.RecomputePrefix) > 0 {
		out.RecomputePrefix = padded(in.RecomputePrefix, rounds, true)
	}
	out.TokenNoise = in.TokenNoise.padded(in.Rounds, rounds)
	out.ChoiceNoise = in.ChoiceNoise.padded(in.Rounds, rounds)
	return &out, nil
}

// padded copies values and fills up to n.
func padded[T any](values []T, n int, with T) []T {
	return append(slices.Clone(values), filled(n-len(values), with)...)
}

// padded adds zeros for the rounds from T on, unless one entry holds for all.
func (a *Array) padded(T, rounds int) Array {
	if a.Shape[0] != T || T == 1 {
		return *a
	}
	shape := slices.Clone(a.Shape)
	shape[0] = rounds
	return Array{Shape: shape, Data: padded(a.Data, len(a.Data)/T*rounds, 0)}
}

func (in *Inputs) validateTokens() error {
	size := in.Batch * in.Positions
	for _, v := range []struct {
		field string
		bins  []int64
	}{{"known", in.Known}, {"initial", in.Initial}} {
		if len(v.bins) != size {
			return fieldError(v.field, "has %d values, must be %d rows of %d", len(v.bins), in.Batch, in.Positions)
		}
		for i, bin := range v.bins {
			if bin < -1 || bin >= int64(in.Bins) {
				return fieldError(v.field, "row %d, position %d is %d, must be a bin 0..%d or -1", i/in.Positions, i%in.Positions, bin, in.Bins-1)
			}
		}
	}
	if len(in.InitialConfidence) != size {
		return fieldError("initial_confidence", "has %d values, must be %d rows of %d", len(in.InitialConfidence), in.Batch, in.Positions)
	}
	for i, c := range in.InitialConfidence {
		if in.Initial[i] >= 0 && !(c >= 0 && c <= 1) {
			return fieldError("initial_confidence", "row %d, position %d is %g, must be in [0, 1]", i/in.Positions, i%in.Positions, c)
		}
	}
	return nil
}

func (in *Inputs) validateRounds() error {
	if len(in.MaskedAfter) != in.Rounds*in.Batch {
		return fieldError("masked_after", "has %d values, must be %d rounds of %d rows", len(in.MaskedAfter), in.Rounds, in.Batch)
	}
	for i, m := range in.MaskedAfter {
		if m < 0 || m > int64(in.Positions) {
			return fieldError("masked_after", "round %d, row %d is %d, must be 0..%d", i/in.Batch, i%in.Batch, m, in.Positions)
		}
	}
	for _, v := range []struct {
		field  string
		values []float32
		ok     func(float64) bool
		want   string
	}{
		{"token_temperature", in.TokenTemperature, isTemperature, "0..1e6"},
		{"choice_temperature", in.ChoiceTemperature, isTemperature, "0..1e6"},
		{"committed_bias", in.CommittedBias, isNumber, "a number or inf"},
		{"threshold", in.Threshold, isNumber, "a number or inf"},
		{"drop_threshold", in.DropThreshold, isNumber, "a number or inf"},
		{"commit_confidence", in.CommitConfidence, isNumber, "a number or inf"},
	} {
		if len(v.values) != in.Rounds {
			return fieldError(v.field, "has %d values, must be one per round (%d)", len(v.values), in.Rounds)
		}
		for t, x := range v.values {
			if !v.ok(float64(x)) {
				return fieldError(v.field, "round %d is %g, must be %s", t, x, v.want)
			}
		}
	}
	return nil
}

func isTemperature(x float64) bool { return x >= 0 && x <= maxTemperature }
func isNumber(x float64) bool      { return !math.IsNaN(x) }

// validate checks that a can broadcast to dims and is finite.
func (a *Array) validate(field string, dims ...int) error {
	if len(a.Shape) != len(dims) {
		return fieldError(field, "has shape %v, must broadcast to %v", a.Shape, dims)
	}
	size := 1
	for d, n := range a.Shape {
		if n != 1 && n != dims[d] {
			return fieldError(field, "has shape %v, must broadcast to %v", a.Shape, dims)
		}
		size *= n
	}
	if len(a.Data) != size {
		return fieldError(field, "has %d values for shape %v", len(a.Data), a.Shape)
	}
	for i, x := range a.Data {
		if x-x != 0 {
			return fieldError(field, "value %d is %g, must be finite", i, x)
		}
	}
	return nil
}
