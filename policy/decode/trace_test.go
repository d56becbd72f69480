package decode

import (
	"context"
	"math"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestTraceByHand: position 0 is committed in round 0, falls below one half in
// round 1, is masked again and takes its other bin in round 2; position 1 is
// warm-started, position 3 given.
func TestTraceByHand(t *testing.T) {
	logits := rounds(
		[][]float64{{0.8, 0.2}, {0.7, 0.3}, {0.6, 0.4}, {0.9, 0.1}},
		[][]float64{{0.4, 0.6}, {0.7, 0.3}, {0.65, 0.35}, {0.9, 0.1}},
		[][]float64{{0.4, 0.6}, {0.75, 0.25}, {0.6, 0.4}, {0.9, 0.1}},
	)
	in := plain(t, 4, 4, 2, 1, 0, 0)
	in.Initial[1], in.InitialConfidence[1] = 0, 0.5
	in.Known[3] = 1
	in.Threshold = []float32{0, 0.5, 0.5, 0.5}
	res, err := Decode(context.Background(), logits, in)
	if err != nil {
		t.Fatal(err)
	}
	trace := TraceOf(in, res, 0)
	if err := trace.Validate(); err != nil {
		t.Fatal(err)
	}
	if trace.Rounds() != 3 {
		t.Fatalf("%d rounds", trace.Rounds())
	}
	changes := [][]Change{{Commits, Keeps, StaysMasked, Keeps}, {Remasks, Keeps, Commits, Keeps}, {Commits, Keeps, Keeps, Keeps}}
	summaries := []RoundSummary{
		{Committed: 1, Masked: 1, Least: 0.1, LeastAt: 3},
		{Committed: 1, Remasked: 1, Masked: 1, Least: 0.1, LeastAt: 3},
		{Committed: 1, Least: 0.1, LeastAt: 3},
	}
	for round, want := range changes {
		for i, c := range want {
			if have := trace.Change(round, i); have != c {
				t.Errorf("round %d, position %d: change %d, want %d", round, i, have, c)
			}
		}
		have, want := trace.Summary(round), summaries[round]
		if math.Abs(float64(have.Least-want.Least)) > 1e-6 {
			t.Errorf("round %d: least %g, want %g", round, have.Least, want.Least)
		}
		have.Least = want.Least
		if have != want {
			t.Errorf("round %d: %+v, want %+v", round, have, want)
		}
	}
	for _, c := range []struct {
		round, position int
		want            float32 // -1 masked
	}{{-1, 0, -1}, {-1, 1, 0.5}, {-1, 3, 1}, {0, 0, 0.8}, {1, 0, -1}, {2, 0, 0.6}, {2, 1, 0.5}, {2, 2, 0.65}, {2, 3, 1}} {
		have, ok := trace.CommittedAt(c.round, c.position)
		if ok != (c.want >= 0) || ok && math.Abs(float64(have-c.want)) > 1e-6 {
			t.Errorf("after round %d position %d was committed at %g, %v, want %g", c.round, c.position, have, ok, c.want)
		}
	}
	if want := []int64{1, 0, 0, 1}; !slices.Equal(trace.Final(), want) {
		t.Errorf("ends with %v", trace.Final())
	}
}

// TestTraceSumsUp: of any row of any decoding the trace is valid, and what was
// committed less what was masked again is what started masked.
func TestTraceSumsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Params{Preset: rapid.SampledFrom(Presets()).Draw(t, "preset"), Rounds: rapid.IntRange(1, 16).Draw(t, "T")}
		in, table := randomDecoding(t, p)
		res, err := Decode(context.Background(), given(table), in)
		if err != nil {
			t.Fatal(err)
		}
		for b := range in.Batch {
			trace := TraceOf(in, res, b)
			if err := trace.Validate(); err != nil {
				t.Fatal(err)
			}
			open := in.Masked(b)
			for round := range trace.Rounds() {
				s := trace.Summary(round)
				if open += s.Remasked - s.Committed; open != s.Masked {
					t.Fatalf("row %d, round %d: %+v, but %d are open", b, round, s, open)
				}
			}
			if open != 0 || !slices.Equal(trace.Final(), res.Bins[b*in.Positions:][:in.Positions]) {
				t.Fatalf("row %d: %d open at the end", b, open)
			}
		}
	})
}

func TestTracesThatCannotBe(t *testing.T) {
	nan := float32(math.NaN())
	for want, trace := range map[string]*Trace{
		"0 positions":                        {},
		"3 bins":                             {Positions: 2, Bins: []int64{-1, -1, 0}, Confidence: make([]float32, 3)},
		"0 rounds":                           {Positions: 2, Bins: []int64{-1, -1}, Confidence: make([]float32, 2)},
		"65 rounds":                          {Positions: 1, Bins: make([]int64, 66), Confidence: make([]float32, 66)},
		"position 1 holds bin -2 after 1":    {Positions: 2, Bins: []int64{-1, -1, 0, -2}, Confidence: make([]float32, 4)},
		"position 0 has confidence NaN":      {Positions: 1, Bins: []int64{-1, 0}, Confidence: []float32{0, nan}},
		"position 0 has confidence 1.5":      {Positions: 1, Bins: []int64{-1, 0}, Confidence: []float32{0, 1.5}},
		"from bin 3 to 4 in round 1 without": {Positions: 1, Bins: []int64{3, 4}, Confidence: []float32{0, 0}},
		"position 1 is masked at the end":    {Positions: 2, Bins: []int64{-1, -1, 5, -1}, Confidence: make([]float32, 4)},
	} {
		if err := trace.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
