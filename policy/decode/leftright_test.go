package decode

import (
	"context"
	"errors"
	"math"
	"slices"
	"testing"
)

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
	res, err := LeftToRight(context.Background(), chain, []int64{-1, -1, 5, -1, -1}, bins, nil)
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
	if _, err := LeftToRight(context.Background(), nan, []int64{-1}, 4, nil); !errors.As(err, &bad) {
		t.Errorf("NaN logits: %v", err)
	}
	var field *FieldError
	if _, err := LeftToRight(context.Background(), nan, []int64{4}, 4, nil); !errors.As(err, &field) || field.Field != "known" {
		t.Errorf("bin 4 of 4: %v", err)
	}
	if _, err := LeftToRight(context.Background(), nan, nil, 4, nil); !errors.As(err, &field) {
		t.Errorf("no positions: %v", err)
	}
	broken := errors.New("broken")
	failing := func(context.Context, int, []int64, *Logits) error { return broken }
	if _, err := LeftToRight(context.Background(), failing, []int64{-1}, 4, nil); !errors.Is(err, broken) {
		t.Errorf("failing network: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := LeftToRight(ctx, failing, []int64{-1}, 4, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
}
