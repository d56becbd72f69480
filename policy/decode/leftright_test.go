package decode

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

// leftToRight makes the inputs of rows whose given bins are known.
func leftToRight(t *testing.T, p Params, known []int64, batch, bins int) *Inputs {
	t.Helper()
	p.Preset, p.Rounds = Autoregressive, 12
	positions := len(known) / batch
	in := inputsOf(t, p, slices.Repeat([]int{positions}, batch), positions, bins)
	copy(in.Known, known)
	return in
}

// TestLeftToRightSeesWhatIsBefore: the network's answer for a position is its
// left neighbour's bin and one more, and counts the masks.
func TestLeftToRightSeesWhatIsBefore(t *testing.T) {
	const bins = 8
	var seen [][]int64
	chain := func(_ context.Context, pass int, tokens []int64, out *Logits) error {
		if pass != len(seen) {
			t.Errorf("pass %d is called %d", len(seen), pass)
		}
		seen = append(seen, slices.Clone(tokens))
		clear(out.Values)
		for i := range tokens {
			next := int64(0)
			if i > 0 && tokens[i-1] >= 0 {
				next = tokens[i-1] + 1
			}
			out.Values[i*bins+int(next)] = 2
		}
		return nil
	}
	in := leftToRight(t, Params{}, []int64{-1, -1, 5, -1, -1}, 1, bins)
	res, err := LeftToRight(context.Background(), chain, in)
	if err != nil {
		t.Fatal(err)
	}
	if want := []int64{0, 1, 5, 6, 7}; !slices.Equal(res.Bins, want) || res.Rounds != 4 {
		t.Errorf("%v in %d passes, want %v in 4", res.Bins, res.Rounds, want)
	}
	want := [][]int64{{-1, -1, 5, -1, -1}, {0, -1, 5, -1, -1}, {0, 1, 5, -1, -1}, {0, 1, 5, 6, -1}}
	if !slices.EqualFunc(seen, want, slices.Equal) {
		t.Errorf("the network saw %v, want %v", seen, want)
	}
	p := math.Exp(2) / (math.Exp(2) + bins - 1)
	for i, c := range res.Confidence {
		if want := map[bool]float64{true: 0, false: p}[i == 2]; math.Abs(float64(c)-want) > 1e-6 {
			t.Errorf("confidence of position %d is %g, want %g", i, c, want)
		}
		if res.Mean[i] != Centres(bins)[res.Bins[i]] {
			t.Errorf("position %d means %g", i, res.Mean[i])
		}
	}
}

func TestLeftToRightRefuses(t *testing.T) {
	nan := func(_ context.Context, _ int, _ []int64, out *Logits) error {
		out.Values[0] = float32(math.NaN())
		return nil
	}
	var bad *LogitsError
	one := leftToRight(t, Params{}, []int64{-1}, 1, 4)
	if _, err := LeftToRight(context.Background(), nan, one); !errors.As(err, &bad) {
		t.Errorf("NaN logits: %v", err)
	}
	short := func(_ context.Context, _ int, _ []int64, out *Logits) error { out.Values = nil; return nil }
	if _, err := LeftToRight(context.Background(), short, one); err == nil {
		t.Error("no logits were taken")
	}
	var field *FieldError
	if _, err := LeftToRight(context.Background(), nan, leftToRight(t, Params{}, []int64{4}, 1, 4)); !errors.As(err, &field) || field.Field != "known" {
		t.Errorf("bin 4 of 4: %v", err)
	}
	broken := errors.New("broken")
	failing := func(context.Context, int, []int64, *Logits) error { return broken }
	if _, err := LeftToRight(context.Background(), failing, one); !errors.Is(err, broken) {
		t.Errorf("failing network: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := LeftToRight(ctx, failing, one); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}

// TestLeftToRightRowsAreIndependent: a row of a batch is decoded as it is alone, and
// margins are those of the closest decision so far.
func TestLeftToRightRowsAreIndependent(t *testing.T) {
	const bins, n = 6, 5
	network := func(_ context.Context, _ int, tokens []int64, out *Logits) error {
		for at := range tokens {
			sum := int64(at % n)
			for _, bin := range tokens[at/n*n : at] {
				sum = 3*sum + bin
			}
			for k := range bins {
				out.Values[at*bins+k] = float32(math.Sin(float64(sum*7 + int64(k*k))))
			}
		}
		return nil
	}
	known := []int64{-1, 2, -1, -1, 0, -1, -1, -1, 5, -1, 1, 1, 1, 1, 1}
	for _, temperature := range [][]float64{nil, {0.8}} {
		in := leftToRight(t, Params{TokenTemperature: temperature}, known, 3, bins)
		all, err := LeftToRight(context.Background(), network, in)
		if err != nil {
			t.Fatal(err)
		}
		if all.Rounds != 5 || len(all.TraceMargin) != 15 || all.TraceMargin[14] != inf32 {
			t.Errorf("%d passes, margins %v", all.Rounds, all.TraceMargin)
		}
		for b := range 3 {
			one := leftToRight(t, Params{}, known[b*n:][:n], 1, bins)
			one.TokenTemperature = in.TokenTemperature
			one.TokenNoise = Array{Shape: []int{1, 1, 1, 1}, Data: in.TokenNoise.Data}
			if temperature != nil {
				one.TokenNoise = Array{Shape: []int{1, 1, n, bins}, Data: in.TokenNoise.Data[b*n*bins:][:n*bins]}
			}
			alone, err := LeftToRight(context.Background(), network, one)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(alone.Bins, all.Bins[b*n:][:n]) || !slices.Equal(alone.Confidence, all.Confidence[b*n:][:n]) {
				t.Errorf("row %d: %v alone, %v among others", b, alone.Bins, all.Bins[b*n:][:n])
			}
			for i := range n {
				if alone.TraceMargin[i] != all.TraceMargin[i*3+b] || i > 0 && alone.TraceMargin[i] > alone.TraceMargin[i-1] {
					t.Errorf("row %d: margins %v, among others %v", b, alone.TraceMargin, all.TraceMargin)
				}
			}
		}
	}
}

// TestLeftToRightSamplesTheChain is a chi-square test at a fixed seed of pairs of
// tokens: the second's distribution depends on the first. The limits are the 99.9 %
// points for fifteen degrees of freedom.
func TestLeftToRightSamplesTheChain(t *testing.T) {
	const bins, chunks = 4, 20000
	logits := func(before int64, k int) float64 { return math.Cos(float64(3*before + 2*int64(k)*before + int64(k))) }
	network := func(_ context.Context, _ int, tokens []int64, out *Logits) error {
		for at := range tokens {
			before := int64(-1)
			if at%2 == 1 {
				before = tokens[at-1]
			}
			for k := range bins {
				out.Values[at*bins+k] = float32(logits(before, k))
			}
		}
		return nil
	}
	for _, temperature := range []float64{0.6, 1, 2} {
		p := Params{Preset: Autoregressive, Rounds: 1, TokenTemperature: []float64{temperature}}
		in, err := p.Inputs(slices.Repeat([]int{2}, chunks), 2, bins, NewNoise(2))
		if err != nil {
			t.Fatal(err)
		}
		res, err := LeftToRight(context.Background(), network, in)
		if err != nil {
			t.Fatal(err)
		}
		var counts [bins][bins]float64
		for c := range chunks {
			counts[res.Bins[2*c]][res.Bins[2*c+1]]++
		}
		shares := func(before int64) []float64 {
			p, total := make([]float64, bins), 0.0
			for k := range p {
				p[k] = math.Exp(logits(before, k) / temperature)
				total += p[k]
			}
			for k := range p {
				p[k] /= total
			}
			return p
		}
		chi2 := 0.0
		for i, first := range shares(-1) {
			for j, second := range shares(int64(i)) {
				want := chunks * first * second
				chi2 += (counts[i][j] - want) * (counts[i][j] - want) / want
			}
		}
		if chi2 > 37.70 {
			t.Errorf("temperature %g: chi-square %g, counts %v", temperature, chi2, counts)
		}
	}
}

func TestAutoregressiveReadsOneTemperature(t *testing.T) {
	zero := 0
	for field, p := range map[string]Params{
		"schedule":           {Schedule: Linear},
		"schedule_table":     {ScheduleTable: []float64{0.5, 0}},
		"score":              {Score: "gap"},
		"token_temperature":  {TokenTemperature: []float64{1, 1}},
		"choice_temperature": {ChoiceTemperature: []float64{1}},
		"committed_bias":     {CommittedBias: []float64{0}},
		"threshold":          {Threshold: []float64{0.5}},
		"drop_threshold":     {DropThreshold: []float64{0.5}},
		"commit_confidence":  {CommitConfidence: []float64{0.9}},
		"mean_window":        {MeanWindow: &zero},
	} {
		p.Preset, p.Rounds = Autoregressive, 2
		var fe *FieldError
		if err := p.ValidateFor(Graphs{Autoregressive: true}); !errors.As(err, &fe) || fe.Field != field {
			t.Errorf("%s: %v", field, err)
		}
	}
	p := Params{Preset: Autoregressive, Rounds: 12, TokenTemperature: []float64{0.7}}
	for unrolled := range 2 { // however many rounds another graph has
		if err := p.ValidateFor(Graphs{Unrolled: unrolled, Autoregressive: true}); err != nil {
			t.Error(err)
		}
	}
	var fe *FieldError
	if err := p.ValidateFor(Graphs{}); !errors.As(err, &fe) || fe.Field != "preset" {
		t.Errorf("without a graph: %v", err)
	}
	n := NewNoise(3)
	n.Draw(p, 1, 5, 4)
	in, err := p.Inputs([]int{5}, 5, 4, n)
	if err != nil {
		t.Fatal(err)
	}
	if in.Rounds != 1 || !slices.Equal(in.TokenTemperature, []float32{0.7}) || !slices.Equal(in.TokenNoise.Shape, []int{1, 1, 5, 4}) || len(in.ChoiceNoise.Data) != 1 {
		t.Errorf("%+v", in)
	}
	p.TokenTemperature = nil
	if in, err = p.Inputs([]int{5}, 5, 4, n); err != nil || in.TokenTemperature[0] != 0 || len(in.TokenNoise.Data) != 1 {
		t.Errorf("greedy: %v, %+v", err, in)
	}
}
