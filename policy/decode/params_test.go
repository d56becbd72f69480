package decode

import (
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestOfficialScheduleIsTheReleasedOne compares with the counts that the
// released code's float32 arithmetic gives, rounds 0..11 of 12. The last entry
// is 1 there and filled in all the same; here the last round leaves none.
func TestOfficialScheduleIsTheReleasedOne(t *testing.T) {
	for n, counts := range map[int]string{
		56:  "55 54 51 48 44 39 34 27 21 14 7 1",
		21:  "20 20 19 18 16 14 12 10 8 5 2 1",
		35:  "34 33 32 30 27 24 21 17 13 9 4 1",
		84:  "83 81 77 72 66 59 51 41 32 21 10 1",
		168: "166 162 155 145 133 118 102 83 64 43 21 1",
		350: "347 338 323 303 277 247 213 174 133 90 45 1",
	} {
		var have []string
		for round := range 12 {
			have = append(have, strconv.Itoa(officialCosine(round, 12, n)))
		}
		if got := strings.Join(have, " "); got != counts {
			t.Errorf("L = %d: %s, want %s", n, got, counts)
		}
	}
	for n, want := range map[int]int{0: 0, 1: 1, 2: 1} {
		if have := officialCosine(3, 12, n); have != want {
			t.Errorf("L = %d: %d, want %d", n, have, want)
		}
	}
	p := Params{Preset: Official, Rounds: 12}
	if have := p.maskedAfter(11, 56); have != 0 {
		t.Errorf("last round leaves %d", have)
	}
}

func TestPaperScheduleIsInFloat64(t *testing.T) {
	p := Params{Preset: Paper, Rounds: 12}
	// cos(pi/3) is a hair above or below a half: 56/2 must stay 28.
	if have := p.maskedAfter(7, 56); have != 28 {
		t.Errorf("round 7 of 12 leaves %d of 56, want 28", have)
	}
	for rounds := 1; rounds <= MaxRounds; rounds++ {
		p.Rounds = rounds
		last := 112
		for round := range rounds {
			m := p.maskedAfter(round, 112)
			if m > last {
				t.Fatalf("T = %d: %d after round %d, %d before", rounds, m, round, last)
			}
			last = m
		}
		if last != 0 {
			t.Fatalf("T = %d ends with %d masked", rounds, last)
		}
	}
}

func inputsOf(t *testing.T, p Params, masked []int, positions, bins int) *Inputs {
	t.Helper()
	in, err := p.Inputs(masked, positions, bins, NewNoise(1))
	if err != nil {
		t.Fatal(err)
	}
	return in
}

func TestPresetTable(t *testing.T) {
	const T = 4
	inf := inf32
	for _, c := range []struct {
		preset                   Preset
		token, choice, bias, eta []float32
		score, window            int64
		tokenNoise, choiceNoise  int
		maskedAfter              []int64
	}{
		{Greedy, []float32{0, 0, 0, 0}, []float32{0, 0, 0, 0}, []float32{inf, inf, inf, inf}, []float32{0.125, 0.25, 0.375, 0.5}, ScoreCandidate, 2, 1, 1, []int64{9, 7, 3, 0}},
		{Paper, []float32{1, 1 - float32(1)/3, 1 - float32(2)/3, 0}, []float32{0, 0, 0, 0}, []float32{inf, inf, inf, inf}, []float32{0.125, 0.25, 0.375, 0.5}, ScoreMaximum, 0, T * 10 * 6, 1, []int64{9, 7, 3, 0}},
		{Official, []float32{1, 1, 1, 1}, []float32{0.75, 0.5, 0.25, 0}, []float32{inf, inf, inf, inf}, []float32{0, 0, 0, 0}, ScoreCandidate, 0, T * 10 * 6, T * 10, []int64{9, 7, 3, 0}},
		{OfficialRemask, []float32{1, 1, 1, 1}, []float32{0.75, 0.5, 0.25, 0}, []float32{log32(0.75), log32(0.5), log32(0.25), 0}, []float32{0, 0, 0, 0}, ScoreCandidate, 0, T * 10 * 6, T * 10, []int64{9, 7, 3, 0}},
	} {
		in := inputsOf(t, Params{Preset: c.preset, Rounds: T}, []int{10}, 10, 6)
		for _, v := range []struct {
			name       string
			have, want []float32
		}{
			{"token_temperature", in.TokenTemperature, c.token},
			{"choice_temperature", in.ChoiceTemperature, c.choice},
			{"committed_bias", in.CommittedBias, c.bias},
			{"threshold", in.Threshold, c.eta},
			{"drop_threshold", in.DropThreshold, []float32{inf, inf, inf, inf}},
			{"commit_confidence", in.CommitConfidence, []float32{2, 2, 2, 2}},
		} {
			if !slices.Equal(v.have, v.want) {
				t.Errorf("%s %s = %v, want %v", c.preset, v.name, v.have, v.want)
			}
		}
		if in.Score != c.score || in.MeanWindow != c.window {
			t.Errorf("%s: score %d, mean window %d, want %d, %d", c.preset, in.Score, in.MeanWindow, c.score, c.window)
		}
		if len(in.TokenNoise.Data) != c.tokenNoise || len(in.ChoiceNoise.Data) != c.choiceNoise {
			t.Errorf("%s draws %d token and %d choice numbers, want %d, %d", c.preset, len(in.TokenNoise.Data), len(in.ChoiceNoise.Data), c.tokenNoise, c.choiceNoise)
		}
		if !slices.Equal(in.MaskedAfter, c.maskedAfter) {
			t.Errorf("%s masked_after = %v, want %v", c.preset, in.MaskedAfter, c.maskedAfter)
		}
	}
}

func TestEveryValueIsSettableAlone(t *testing.T) {
	window := 3
	p := Params{
		Preset: Paper, Rounds: 3, Schedule: []float64{0.9, 0.2, 0}, Score: "gap",
		TokenTemperature: []float64{0.5}, ChoiceTemperature: []float64{3, 2, 1}, CommittedBias: []float64{-1},
		Threshold: []float64{0.1, 0.2, 0.3}, DropThreshold: []float64{0.25}, CommitConfidence: []float64{0.95}, MeanWindow: &window,
	}
	in := inputsOf(t, p, []int{10}, 10, 4)
	if !slices.Equal(in.MaskedAfter, []int64{9, 2, 0}) || in.Score != ScoreGap || in.MeanWindow != 3 {
		t.Errorf("masked_after %v, score %d, mean_window %d", in.MaskedAfter, in.Score, in.MeanWindow)
	}
	for _, v := range []struct{ have, want []float32 }{
		{in.TokenTemperature, []float32{0.5, 0.5, 0.5}}, {in.ChoiceTemperature, []float32{3, 2, 1}},
		{in.CommittedBias, []float32{-1, -1, -1}}, {in.Threshold, []float32{0.1, 0.2, 0.3}},
		{in.DropThreshold, []float32{0.25, 0.25, 0.25}}, {in.CommitConfidence, []float32{0.95, 0.95, 0.95}},
	} {
		if !slices.Equal(v.have, v.want) {
			t.Errorf("have %v, want %v", v.have, v.want)
		}
	}
}

func TestParamsErrorsNameTheField(t *testing.T) {
	negative := -1
	for field, p := range map[string]Params{
		"preset":             {Preset: "fast", Rounds: 12},
		"rounds":             {Preset: Greedy, Rounds: 65},
		"schedule":           {Preset: Greedy, Rounds: 2, Schedule: []float64{math.NaN(), 0}},
		"score":              {Preset: Greedy, Rounds: 2, Score: "best"},
		"token_temperature":  {Preset: Greedy, Rounds: 2, TokenTemperature: []float64{-1}},
		"choice_temperature": {Preset: Greedy, Rounds: 2, ChoiceTemperature: []float64{1, 2, 3}},
		"committed_bias":     {Preset: Greedy, Rounds: 2, CommittedBias: []float64{math.NaN()}},
		"threshold":          {Preset: Greedy, Rounds: 2, Threshold: []float64{math.NaN()}},
		"drop_threshold":     {Preset: Greedy, Rounds: 2, DropThreshold: []float64{math.NaN()}},
		"commit_confidence":  {Preset: Greedy, Rounds: 2, CommitConfidence: []float64{math.NaN()}},
		"mean_window":        {Preset: Greedy, Rounds: 2, MeanWindow: &negative},
	} {
		var fe *FieldError
		if err := p.Validate(); !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	if err := DefaultParams().Validate(); err != nil {
		t.Error(err)
	}
}

// TestNoiseRepeatsFromItsSeed: whether or not it was drawn ahead, and for which
// parameters, chunk i of a run has the same noise.
func TestNoiseRepeatsFromItsSeed(t *testing.T) {
	sampled, greedy := Params{Preset: Official, Rounds: 3}, Params{Preset: Greedy, Rounds: 4}
	var runs [3][]gumbel
	for run := range runs {
		n := NewNoise(7)
		if run == 2 {
			n = NewNoise(8)
		}
		for chunk := range 4 {
			if run == 1 {
				n.Draw([]Params{greedy, sampled}[chunk%2], 2, 5, 8)
			}
			in, err := sampled.Inputs([]int{5, 5}, 5, 8, n)
			if err != nil {
				t.Fatal(err)
			}
			runs[run] = append(runs[run], gumbel{
				Array{Data: slices.Clone(in.TokenNoise.Data)}, Array{Data: slices.Clone(in.ChoiceNoise.Data)}})
		}
	}
	for i := range runs[0] {
		if !slices.Equal(runs[0][i].token.Data, runs[1][i].token.Data) || !slices.Equal(runs[0][i].choice.Data, runs[1][i].choice.Data) {
			t.Errorf("chunk %d has other noise when it is drawn ahead", i)
		}
		if slices.Equal(runs[0][i].token.Data, runs[2][i].token.Data) {
			t.Errorf("chunk %d: two seeds, one noise", i)
		}
		if i > 0 && slices.Equal(runs[0][i].token.Data, runs[0][i-1].token.Data) {
			t.Errorf("chunks %d and %d have the same noise", i-1, i)
		}
	}
}

// TestDrawingAheadLeavesTheNoiseInUse: the graph reads one buffer while the
// other is filled.
func TestDrawingAheadLeavesTheNoiseInUse(t *testing.T) {
	p := Params{Preset: Official, Rounds: 4}
	n := NewNoise(1)
	in, err := p.Inputs([]int{28}, 28, 32, n)
	if err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(in.TokenNoise.Data)
	n.Draw(p, 1, 28, 32)
	if !slices.Equal(before, in.TokenNoise.Data) {
		t.Error("noise in use was overwritten")
	}
	if allocs := testing.AllocsPerRun(10, func() { n.Draw(p, 1, 28, 32) }); allocs > 8 {
		t.Errorf("%g allocations for a draw into used buffers", allocs)
	}
}

// TestNoiseIsGumbel compares mean and variance with Euler's constant and
// pi^2/6.
func TestNoiseIsGumbel(t *testing.T) {
	p := Params{Preset: Official, Rounds: 8}
	n := NewNoise(3).next(p, 2, 56, 256)
	for name, data := range map[string][]float32{"token": n.token.Data, "choice": n.choice.Data} {
		var sum, square float64
		for _, x := range data {
			if x-x != 0 {
				t.Fatalf("%s noise holds %g", name, x)
			}
			sum += float64(x)
			square += float64(x) * float64(x)
		}
		count := float64(len(data))
		mean := sum / count
		variance := square/count - mean*mean
		if d := 5 * 1.29 / math.Sqrt(count); math.Abs(mean-0.5772) > d || math.Abs(variance-1.6449) > 4*d {
			t.Errorf("%s noise: mean %g, variance %g", name, mean, variance)
		}
	}
}

func BenchmarkNoiseDraw(b *testing.B) {
	p := Params{Preset: Official, Rounds: 12}
	n := NewNoise(1)
	for range b.N {
		n.Draw(p, 1, 112, 256)
	}
}
