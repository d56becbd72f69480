package decode

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// logitsOf gives logits whose softmax is p, and the same in every round.
func logitsOf(p ...[]float64) LogitsFunc {
	return rounds(p)
}

// rounds gives logits whose softmax is p[round][position*bins...].
func rounds(p ...[][]float64) LogitsFunc {
	return func(_ context.Context, round int, _ []int64, out *Logits) error {
		at := 0
		for _, position := range p[min(round, len(p)-1)] {
			for _, v := range position {
				out.Values[at] = float32(math.Log(v))
				at++
			}
		}
		return nil
	}
}

// plain is greedy decoding of one row in the given rounds with nothing but the
// schedule.
func plain(t *testing.T, T, positions, bins int, maskedAfter ...int64) *Inputs {
	t.Helper()
	in := inputsOf(t, Params{Preset: Greedy, Rounds: T, Threshold: []float64{0}}, []int{positions}, positions, bins)
	copy(in.MaskedAfter, maskedAfter)
	return in
}

func trace(t *testing.T, logits LogitsFunc, in *Inputs) [][]int64 {
	t.Helper()
	res, err := Decode(context.Background(), logits, in)
	if err != nil {
		t.Fatal(err)
	}
	return slices.Collect(slices.Chunk(res.TraceBins, in.Batch*in.Positions))
}

func wantTrace(t *testing.T, have [][]int64, want ...[]int64) {
	t.Helper()
	if !slices.EqualFunc(have, want, slices.Equal) {
		t.Errorf("have %v, want %v", have, want)
	}
}

func TestMostConfidentPositionsAreCommittedFirst(t *testing.T) {
	logits := logitsOf([]float64{0.5, 0.3, 0.2}, []float64{0.1, 0.1, 0.8}, []float64{0.1, 0.7, 0.2})
	wantTrace(t, trace(t, logits, plain(t, 3, 3, 3, 2, 1)), []int64{-1, 2, -1}, []int64{-1, 2, 1}, []int64{0, 2, 1})
}

func TestLowestBinAndEarlierPositionWinTies(t *testing.T) {
	same := []float64{0.4, 0.4, 0.2}
	wantTrace(t, trace(t, logitsOf(same, same, same), plain(t, 3, 3, 3, 2, 1)), []int64{0, -1, -1}, []int64{0, 0, -1}, []int64{0, 0, 0})
}

func TestScores(t *testing.T) {
	// Position 0 has the larger maximum, position 1 the larger gap.
	logits := logitsOf([]float64{0.5, 0.45, 0.05}, []float64{0.48, 0.26, 0.26})
	for score, want := range map[int64][]int64{ScoreCandidate: {0, -1}, ScoreMaximum: {0, -1}, ScoreGap: {-1, 0}} {
		in := plain(t, 2, 2, 3, 1)
		in.Score = score
		wantTrace(t, trace(t, logits, in), want, []int64{0, 0})
	}
	// A sampled candidate ranks by its own probability, or by the maximum.
	for score, want := range map[int64][]int64{ScoreCandidate: {-1, 0}, ScoreMaximum: {2, -1}} {
		in := plain(t, 2, 2, 3, 1)
		in.Score = score
		in.TokenTemperature[0] = 1
		in.TokenNoise = Array{Shape: []int{1, 1, 2, 3}, Data: []float32{0, 0, 9, 0, 0, 0}}
		if have := trace(t, logits, in); !slices.Equal(have[0], want) {
			t.Errorf("score %d: %v, want %v", score, have[0], want)
		}
	}
}

func TestThresholdMasksCommittedTokensAgain(t *testing.T) {
	sure, unsure := []float64{0.8, 0.2}, []float64{0.4, 0.6}
	logits := rounds([][]float64{sure, {0.7, 0.3}, {0.6, 0.4}}, [][]float64{unsure, {0.7, 0.3}, {0.6, 0.4}}, [][]float64{unsure, {0.7, 0.3}, {0.6, 0.4}})
	in := plain(t, 4, 3, 2, 2, 1, 1)
	in.Threshold = []float32{0, 0.5, 0.5, 0.5}
	// Position 0 falls below one half in round 1, is masked again beyond the
	// scheduled one, and takes the other bin in round 2.
	wantTrace(t, trace(t, logits, in), []int64{0, -1, -1}, []int64{-1, 0, -1}, []int64{1, 0, -1}, []int64{1, 0, 0})
}

func TestDropThresholdComparesWithTheCommittingRound(t *testing.T) {
	logits := rounds([][]float64{{0.9, 0.1}, {0.5, 0.5}}, [][]float64{{0.8, 0.2}, {0.5, 0.5}}, [][]float64{{0.6, 0.4}, {0.5, 0.5}})
	in := plain(t, 4, 2, 2, 1, 1, 1)
	in.DropThreshold = []float32{0.2, 0.2, 0.2, 0.2}
	// 0.9 to 0.8 is less than the allowed fall, 0.9 to 0.6 more.
	wantTrace(t, trace(t, logits, in), []int64{0, -1}, []int64{0, -1}, []int64{-1, -1}, []int64{0, 0})
}

func TestWarmStartMayBeMaskedAgainAndGivenTokensNever(t *testing.T) {
	logits := logitsOf([]float64{0.3, 0.7}, []float64{0.3, 0.7}, []float64{0.2, 0.8})
	in := plain(t, 3, 3, 2, 1, 1)
	in.Initial = []int64{0, 0, -1}
	in.Known = []int64{-1, 0, -1}
	in.InitialConfidence = []float32{0.9, 0.9, 0}
	in.DropThreshold = []float32{0.5, 0.5, 0.5}
	// The initial 0 was committed at 0.9 and has 0.3 now.
	wantTrace(t, trace(t, logits, in), []int64{-1, 0, -1}, []int64{-1, 0, 1}, []int64{1, 0, 1})
	in.InitialConfidence[0] = 0.5
	wantTrace(t, trace(t, logits, in), []int64{0, 0, -1}, []int64{0, 0, -1}, []int64{0, 0, 1})
}

func TestThresholdsThemselvesAreEnough(t *testing.T) {
	logits := logitsOf([]float64{0.5, 0.5}, []float64{0.4, 0.6})
	in := plain(t, 3, 2, 2, 1, 1)
	in.Initial[0], in.InitialConfidence[0] = 0, 0.75
	in.Threshold = []float32{0.5, 0.5, 0.5}
	in.DropThreshold = []float32{0.25, 0.25, 0.25}
	wantTrace(t, trace(t, logits, in), []int64{0, -1}, []int64{0, -1}, []int64{0, 1})
}

func TestScheduleNeverReachesLockedAndGivenPositions(t *testing.T) {
	low, high := []float64{0.5, 0.3, 0.2}, []float64{0.1, 0.8, 0.1}
	in := plain(t, 2, 4, 3, 3)
	in.Initial = []int64{2, -1, -1, 2}
	wantTrace(t, trace(t, logitsOf(low, low, high, low), in), []int64{2, -1, -1, 2}, []int64{2, 0, 1, 2})
	// A given position with the lowest score does not use up the one place.
	in = plain(t, 2, 3, 3, 1)
	in.Known[0] = 2
	in.CommittedBias[0] = 0
	wantTrace(t, trace(t, logitsOf(low, low, high), in), []int64{2, -1, 1}, []int64{2, 0, 1})
}

func TestCommittedTokensCompeteWhereTheBiasIsFinite(t *testing.T) {
	// Position 0 holds a bin that another one beats: its gap is negative,
	// however large its probability is beside that of position 1.
	logits := logitsOf([]float64{0.42, 0.55, 0.03}, []float64{0.4, 0.3, 0.3}, []float64{0.8, 0.1, 0.1})
	in := plain(t, 2, 3, 3, 1)
	in.Initial[0] = 0
	in.CommittedBias[0] = 0
	in.Score = ScoreGap
	wantTrace(t, trace(t, logits, in), []int64{-1, 0, 0}, []int64{1, 0, 0})
	in.Score = ScoreCandidate
	wantTrace(t, trace(t, logits, in), []int64{0, -1, 0}, []int64{0, 0, 0})
	in.CommittedBias[0] = -0.2 // log(0.42) - 0.2 is below log(0.4)
	wantTrace(t, trace(t, logits, in), []int64{-1, 0, 0}, []int64{1, 0, 0})
}

func TestCommitConfidenceOverridesTheSchedule(t *testing.T) {
	logits := logitsOf([]float64{0.9, 0.1}, []float64{0.96, 0.04}, []float64{0.6, 0.4})
	in := plain(t, 5, 3, 2, 3, 3, 1, 1)
	in.CommitConfidence = []float32{0.95, 0.9, 2, 2, 2}
	wantTrace(t, trace(t, logits, in)[:2], []int64{-1, 0, -1}, []int64{0, 0, -1})
}

func TestEndsAsSoonAsNothingIsMasked(t *testing.T) {
	logits := logitsOf([]float64{0.9, 0.1}, []float64{0.8, 0.2})
	if have := trace(t, logits, plain(t, 12, 2, 2, 1, 0)); len(have) != 2 {
		t.Errorf("ran %d rounds", len(have))
	}
	in := plain(t, 12, 2, 2)
	in.Known = []int64{1, 1}
	res, err := Decode(context.Background(), logits, in)
	if err != nil {
		t.Fatal(err)
	}
	if res.Rounds != 1 || !slices.Equal(res.Bins, []int64{1, 1}) || math.Abs(float64(res.Confidence[0])-0.1) > 1e-6 {
		t.Errorf("nothing to do: %+v", res)
	}
}

func TestMeanAveragesTheNeighbours(t *testing.T) {
	in := plain(t, 1, 1, 5)
	in.MeanWindow = 1
	res, err := Decode(context.Background(), logitsOf([]float64{0.1, 0.2, 0.4, 0.2, 0.1}), in)
	if err != nil {
		t.Fatal(err)
	}
	// Centres of five bins: -0.75, -0.25, 0.25, 0.75, 0.75.
	if want := (0.2*-0.25 + 0.4*0.25 + 0.2*0.75) / 0.8; math.Abs(float64(res.Mean[0])-want) > 1e-6 {
		t.Errorf("mean %g, want %g", res.Mean[0], want)
	}
	in.MeanWindow = 0
	if res, _ = Decode(context.Background(), logitsOf([]float64{0.1, 0.2, 0.4, 0.2, 0.1}), in); res.Mean[0] != 0.25 {
		t.Errorf("the bin's centre is %g", res.Mean[0])
	}
}

func TestCentresAreThoseOfOpenVLA(t *testing.T) {
	// Actions that a published OpenVLA log gives for its tokens, and the last
	// bin, which has no centre of its own.
	centres := Centres(256)
	for bin, want := range map[int]float32{161: 0.26666667, 115: -0.09411765, 171: 0.34509804, 127: 0, 255: centres[254]} {
		if d := centres[bin] - want; d > 1e-7 || d < -1e-7 {
			t.Errorf("bin %d is %g, want %g", bin, centres[bin], want)
		}
	}
}

func TestMarginIsTheClosestDecision(t *testing.T) {
	logits := logitsOf([]float64{0.7, 0.3}, []float64{0.6, 0.4})
	res, err := Decode(context.Background(), logits, plain(t, 2, 2, 2, 1))
	if err != nil {
		t.Fatal(err)
	}
	// Draw log(0.6/0.4), cut log(0.7/0.6), thresholds 0.6 and more: the cut.
	if want := math.Log(0.7 / 0.6); math.Abs(float64(res.TraceMargin[0])-want) > 1e-6 {
		t.Errorf("margin %g, want %g", res.TraceMargin[0], want)
	}
}

// randomDecoding draws a decoding with the properties that tests rely on.
func randomDecoding(t *rapid.T, p Params) (*Inputs, []float32) {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
	positions, bins := rapid.IntRange(1, 30).Draw(t, "L"), rapid.IntRange(2, 20).Draw(t, "K")
	masked := []int{}
	for range rapid.IntRange(1, 3).Draw(t, "B") {
		masked = append(masked, rapid.IntRange(0, positions).Draw(t, "masked"))
	}
	in, err := p.Inputs(masked, positions, bins, NewNoise(rng.Uint64()))
	if err != nil {
		t.Fatal(err)
	}
	for b, n := range masked {
		for i, at := range rng.Perm(positions) {
			if i >= n {
				in.Known[b*positions+at] = int64(rng.IntN(bins))
			}
		}
	}
	table := make([]float32, in.Rounds*len(in.Known)*bins)
	for i := range table {
		table[i] = float32(2 * rng.NormFloat64())
	}
	return in, table
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Preset: rapid.SampledFrom(Presets()).Draw(t, "preset"), Rounds: rapid.IntRange(1, 16).Draw(t, "T")}
		remasks := p.Preset != Official
		if rapid.Bool().Draw(t, "locked") && p.Preset != OfficialRemask {
			p.Threshold, remasks = []float64{0}, false
		}
		in, table := randomDecoding(t, p)
		res, err := Decode(context.Background(), given(table), in)
		if err != nil {
			t.Fatal(err)
		}
		if again, _ := Decode(context.Background(), given(table), in); !slices.Equal(again.TraceBins, res.TraceBins) {
			t.Fatal("one seed gave two decodings")
		}
		size := in.Batch * in.Positions
		for i, known := range in.Known {
			b := i / in.Positions
			for round := range res.Rounds {
				bin := res.TraceBins[round*size+i]
				if known >= 0 && bin != known {
					t.Fatalf("given position %d changed in round %d", i, round)
				}
				if round > 0 {
					if before := res.TraceBins[(round-1)*size+i]; before >= 0 && bin >= 0 && bin != before {
						t.Fatalf("position %d went from %d to %d in round %d", i, before, bin, round)
					} else if before >= 0 && bin < 0 && !remasks {
						t.Fatalf("position %d was masked again in round %d", i, round)
					}
				}
			}
			if res.Bins[i] < 0 {
				t.Fatalf("position %d of row %d is masked at the end", i, b)
			}
		}
		if remasks {
			return
		}
		for round := range res.Rounds - 1 {
			for b := range in.Batch {
				masked := 0
				for _, bin := range res.TraceBins[round*size+b*in.Positions:][:in.Positions] {
					if bin < 0 {
						masked++
					}
				}
				if want := int(in.MaskedAfter[round*in.Batch+b]); masked != want {
					t.Fatalf("round %d, row %d leaves %d masked, scheduled are %d", round, b, masked, want)
				}
			}
		}
	})
}

// TestRowsAreIndependent: a row decodes in a batch as it does alone, and its
// trace repeats once it is done.
func TestRowsAreIndependent(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Preset: rapid.SampledFrom([]Preset{Greedy, Paper}).Draw(t, "preset"), Rounds: rapid.IntRange(1, 8).Draw(t, "T"), TokenTemperature: []float64{0}}
		in, table := randomDecoding(t, p)
		all, err := Decode(context.Background(), given(table), in)
		if err != nil {
			t.Fatal(err)
		}
		L := in.Positions
		for b := range in.Batch {
			one := *in
			one.Batch = 1
			one.Known, one.Initial = in.Known[b*L:][:L], in.Initial[b*L:][:L]
			one.InitialConfidence = in.InitialConfidence[b*L:][:L]
			one.MaskedAfter = nil
			var own []float32
			for round := range in.Rounds {
				one.MaskedAfter = append(one.MaskedAfter, in.MaskedAfter[round*in.Batch+b])
				own = append(own, table[(round*in.Batch+b)*L*in.Bins:][:L*in.Bins]...)
			}
			alone, err := Decode(context.Background(), given(own), &one)
			if err != nil {
				t.Fatal(err)
			}
			for round := range all.Rounds {
				r := min(round, alone.Rounds-1)
				at := round*in.Batch*L + b*L
				if !slices.Equal(all.TraceBins[at:][:L], alone.TraceBins[r*L:][:L]) ||
					!slices.Equal(all.TraceConfidence[at:][:L], alone.TraceConfidence[r*L:][:L]) {
					t.Fatalf("row %d differs in round %d from itself alone", b, round)
				}
			}
			if !slices.Equal(all.Mean[b*L:][:L], alone.Mean) {
				t.Fatalf("row %d has another mean alone", b)
			}
		}
	})
}

// TestSampledTokensFollowTheSoftmax is a chi-square test at fixed seeds: the
// limits are the 99.9 % points for seven degrees of freedom.
func TestSampledTokensFollowTheSoftmax(t *testing.T) {
	const positions, bins = 20000, 8
	logits := []float64{0.3, -1, 0.8, 0, 1.5, -0.4, 0.1, -2}
	for _, temperature := range []float64{0.5, 1, 1.7} {
		in := inputsOf(t, Params{Preset: Official, Rounds: 1, TokenTemperature: []float64{temperature}}, []int{positions}, positions, bins)
		res, err := Decode(context.Background(), func(_ context.Context, _ int, _ []int64, out *Logits) error {
			for i := range out.Values {
				out.Values[i] = float32(logits[i%bins])
			}
			return nil
		}, in)
		if err != nil {
			t.Fatal(err)
		}
		var counts, p [bins]float64
		for _, bin := range res.Bins {
			counts[bin]++
		}
		var total, chi2 float64
		for k, x := range logits {
			p[k] = math.Exp(x / temperature)
			total += p[k]
		}
		for k := range p {
			want := positions * p[k] / total
			chi2 += (counts[k] - want) * (counts[k] - want) / want
		}
		if chi2 > 24.32 {
			t.Errorf("temperature %g: chi-square %g, counts %v", temperature, chi2, counts)
		}
	}
}

func TestInputErrorsNameTheInput(t *testing.T) {
	nan := float32(math.NaN())
	for field, spoil := range map[string]func(in *Inputs){
		"rounds":             func(in *Inputs) { in.Rounds = 65 },
		"shape":              func(in *Inputs) { in.Bins = 1 },
		"known":              func(in *Inputs) { in.Known[1] = 4 },
		"initial":            func(in *Inputs) { in.Initial = in.Initial[1:] },
		"initial_confidence": func(in *Inputs) { in.Initial[0], in.InitialConfidence[0] = 1, nan },
		"masked_after":       func(in *Inputs) { in.MaskedAfter[0] = -1 },
		"token_temperature":  func(in *Inputs) { in.TokenTemperature[1] = nan },
		"choice_temperature": func(in *Inputs) { in.ChoiceTemperature[1] = inf32 },
		"committed_bias":     func(in *Inputs) { in.CommittedBias = nil },
		"threshold":          func(in *Inputs) { in.Threshold[0] = nan },
		"drop_threshold":     func(in *Inputs) { in.DropThreshold[0] = nan },
		"commit_confidence":  func(in *Inputs) { in.CommitConfidence[0] = nan },
		"token_noise":        func(in *Inputs) { in.TokenNoise.Data = []float32{inf32} },
		"choice_noise":       func(in *Inputs) { in.ChoiceNoise.Shape = []int{3, 1, 1} },
		"recompute_prefix":   func(in *Inputs) { in.RecomputePrefix = make([]bool, 3) },
		"score":              func(in *Inputs) { in.Score = 3 },
		"mean_window":        func(in *Inputs) { in.MeanWindow = -1 },
		"centres":            func(in *Inputs) { in.Centres = nil },
	} {
		in := plain(t, 2, 3, 4)
		spoil(in)
		_, err := Decode(context.Background(), logitsOf(), in)
		var fe *FieldError
		if !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	for name, f := range map[string]func() error{
		"negative count": func() error { _, err := DefaultParams().Inputs([]int{-1}, 3, 4, NewNoise(0)); return err },
		"no rows":        func() error { _, err := DefaultParams().Inputs(nil, 3, 4, NewNoise(0)); return err },
	} {
		var fe *FieldError
		if err := f(); !errors.As(err, &fe) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBrokenNetworksAreRefused(t *testing.T) {
	for name, x := range map[string]float32{"NaN": float32(math.NaN()), "+Inf": inf32} {
		logits := func(_ context.Context, round int, _ []int64, out *Logits) error {
			out.Values[round*5] = x
			return nil
		}
		_, err := Decode(context.Background(), logits, plain(t, 2, 2, 4, 1))
		var le *LogitsError
		if !errors.As(err, &le) || le.Round != 0 || le.Position != 0 {
			t.Errorf("%s: %v", name, err)
		}
	}
	failed := errors.New("no device")
	if _, err := Decode(context.Background(), func(context.Context, int, []int64, *Logits) error { return failed }, plain(t, 2, 2, 4)); !errors.Is(err, failed) {
		t.Errorf("network's error: %v", err)
	}
	short := func(_ context.Context, _ int, _ []int64, out *Logits) error { out.Values = nil; return nil }
	if _, err := Decode(context.Background(), short, plain(t, 2, 2, 4)); err == nil {
		t.Error("no logits were taken")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Decode(ctx, logitsOf(), plain(t, 2, 2, 4)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestConfidenceThatCannotBe(t *testing.T) {
	in := plain(t, 1, 4, 3)
	in.Known[2], in.Initial[3] = 1, 1
	if err := CheckConfidence([]float32{0.5, 1, 0, 0}, in); err != nil {
		t.Errorf("given and warm-started positions may have none: %v", err)
	}
	for position, c := range map[int]float32{0: 0, 1: float32(math.NaN()), 2: 1.5, 3: -0.1} {
		confidence := []float32{0.5, 0.5, 0.5, 0.5}
		confidence[position] = c
		err := CheckConfidence(confidence, in)
		var ce *ConfidenceError
		if !errors.As(err, &ce) || ce.Position != position || !errors.Is(err, ErrConfidence) {
			t.Errorf("position %d, %g: %v", position, c, err)
		}
	}
	if err := CheckConfidence(nil, in); err == nil {
		t.Error("no confidences were taken")
	}
}

// BenchmarkRound is one round of the Go decoder at the size of a chunk of eight
// rows of two arms.
func BenchmarkRound(b *testing.B) {
	for _, preset := range []Preset{Greedy, Paper, Official} {
		b.Run(string(preset), func(b *testing.B) {
			const positions, bins = 112, 256
			in, err := Params{Preset: preset, Rounds: 12}.Inputs([]int{positions}, positions, bins, NewNoise(1))
			if err != nil {
				b.Fatal(err)
			}
			rng := rand.New(rand.NewPCG(1, 1))
			logits := make([]float32, 12*positions*bins)
			for i := range logits {
				logits[i] = float32(rng.NormFloat64())
			}
			rounds := 0
			for b.Loop() {
				res, err := Decode(context.Background(), given(logits), in)
				if err != nil {
					b.Fatal(err)
				}
				rounds += res.Rounds
			}
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(rounds), "us/round")
		})
	}
}

// TestPaddedIsTheSameDecoding: padded to more rounds, a decoding is the same bit
// for bit. Last rounds that would mask, were they not the last, are drawn too.
func TestPaddedIsTheSameDecoding(t *testing.T) {
	early, late := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Preset: rapid.SampledFrom(Presets()).Draw(t, "preset"), Rounds: rapid.IntRange(1, 8).Draw(t, "T")}
		if rapid.Bool().Draw(t, "strict") {
			p.Threshold, p.DropThreshold = []float64{0.9}, []float64{0}
		}
		in, table := randomDecoding(t, p)
		last := in.MaskedAfter[(in.Rounds-1)*in.Batch:]
		for b := range last {
			last[b] = int64(rapid.IntRange(0, in.Positions).Draw(t, "masked at the end"))
		}
		more := in.Rounds + rapid.IntRange(0, 5).Draw(t, "more")
		before := *in
		before.MaskedAfter, before.Threshold = slices.Clone(in.MaskedAfter), slices.Clone(in.Threshold)
		before.DropThreshold = slices.Clone(in.DropThreshold)
		padded, err := in.Padded(more)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(*in, before) {
			t.Fatal("the inputs were changed")
		}
		if padded.Rounds != more {
			t.Fatalf("%d rounds, want %d", padded.Rounds, more)
		}
		want, err := Decode(context.Background(), given(table), in)
		if err != nil {
			t.Fatal(err)
		}
		have, err := Decode(context.Background(), given(table), padded)
		if err != nil {
			t.Fatal(err)
		}
		have.TraceMargin, want.TraceMargin = nil, nil // the padded last round still ranks
		if !reflect.DeepEqual(have, want) {
			t.Fatalf("padded to %d rounds: %+v, want %+v", more, have, want)
		}
		if want.Rounds < in.Rounds {
			early++
		} else if more > in.Rounds {
			late++
		}
	})
	if early == 0 || late == 0 {
		t.Errorf("%d decodings ended early, %d in the last of fewer rounds", early, late)
	}
}

func TestPaddedRefusesFewerRounds(t *testing.T) {
	var fe *FieldError
	if _, err := plain(t, 5, 3, 4).Padded(4); !errors.As(err, &fe) || fe.Field != "rounds" ||
		!strings.Contains(err.Error(), "is 5, but the policy's graph has 4 rounds and no Loop; set at most 4, or export the checkpoint with --unroll 5") {
		t.Errorf("got %v", err)
	}
	p := DefaultParams()
	for unrolled, ok := range map[int]bool{0: true, 11: false, 12: true, 13: true} {
		if err := p.ValidateFor(Graphs{Unrolled: unrolled}); (err == nil) != ok || !ok && (!errors.As(err, &fe) || fe.Field != "rounds") {
			t.Errorf("12 rounds with %d unrolled: %v", unrolled, err)
		}
	}
	p.Preset = "fast"
	if err := p.ValidateFor(Graphs{}); !errors.As(err, &fe) || fe.Field != "preset" {
		t.Errorf("got %v", err)
	}
}
