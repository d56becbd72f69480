package policy_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/decode"
)

// A warm start begins with the tail of the chunk before, as many rows further on
// as the stamps say, rounded; with what is left of it, the rows after its end
// masked, and without what was unsure or is given.
func TestWarmStartBeginsWithTheTailOfTheChunkBefore(t *testing.T) {
	p := open(t, decode.Greedy, 1)
	params := decode.Params{Preset: decode.Greedy, Rounds: 8, WarmStart: true}
	set := func() {
		t.Helper()
		if err := p.SetDecode(params); err != nil {
			t.Fatal(err)
		}
	}
	set()
	m := p.Manifest()
	dims, n := len(m.Action.Dims), m.Action.Tokens()
	o := observe(m)
	first, err := p.Infer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if first.Warm != 0 || first.Cold == "" {
		t.Errorf("the first chunk began with %d tokens, %q", first.Warm, first.Cold)
	}
	began := o.Stamp
	row := time.Duration(float64(time.Second) / m.Action.Rate)
	sorted := slices.Sorted(slices.Values(first.Chunk.Confidence))
	for _, c := range []struct {
		name   string
		after  time.Duration
		rows   int
		least  float64
		given  bool
		rounds int // at most
	}{
		{name: "one row", after: row, rows: 1, rounds: 2},
		{name: "two and a bit", after: 2*row + row/4, rows: 2, rounds: 2},
		{name: "nearly four", after: 4*row - row/4, rows: 4, rounds: 4},
		{name: "all but one", after: row * time.Duration(m.Action.Chunk-1), rows: m.Action.Chunk - 1, rounds: 7},
		{name: "the sure half", after: row, rows: 1, least: float64(sorted[n/2]), rounds: 8},
		{name: "with given ones", after: 2 * row, rows: 2, given: true, rounds: 3},
	} {
		params.WarmStartConfidence = c.least
		set()
		o.Stamp, o.Previous, o.Known = began.Add(c.after), first, nil
		if c.given {
			o.Known = slices.Repeat([]int64{-1}, n)
			for i := 0; i < n; i += 3 {
				o.Known[i] = 7
			}
		}
		r, err := p.Infer(t.Context(), o)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		warm := 0
		for i, bin := range r.Trace.Bins[:n] {
			from := i + c.rows*dims
			want, confidence := int64(-1), float32(0)
			switch {
			case c.given && o.Known[i] >= 0:
				want, confidence = 7, 1
			case from < n && float64(first.Chunk.Confidence[from]) >= c.least:
				want, confidence = first.Bins[from], first.Chunk.Confidence[from]
				warm++
			}
			if bin != want || r.Trace.Confidence[i] != confidence {
				t.Fatalf("%s: position %d begins with bin %d (%g), want %d (%g)", c.name, i, bin, r.Trace.Confidence[i], want, confidence)
			}
		}
		if r.Warm != warm || r.Cold != "" || warm == 0 || r.Rounds > c.rounds {
			t.Errorf("%s: began with %d tokens (%q), want %d; %d rounds, at most %d", c.name, r.Warm, r.Cold, warm, r.Rounds, c.rounds)
		}
	}
}

// What does not belong to this moment's motion is not begun with, and then the
// chunk is the one that a cold start gives.
func TestWarmStartsOnlyWhereItCan(t *testing.T) {
	p := open(t, decode.Greedy, 1)
	m := p.Manifest()
	o := observe(m)
	began := o.Stamp
	row := time.Duration(float64(time.Second) / m.Action.Rate)
	first, err := p.Infer(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	params := decode.Params{Preset: decode.Greedy, Rounds: 4}
	other := *first
	other.Prompt = "another"
	bare := *first
	bare.Bins = nil
	n := m.Action.Tokens()
	unsure, chunk := *first, *first.Chunk
	chunk.Confidence = slices.Repeat([]float32{0.5}, n)
	unsure.Chunk = &chunk
	for name, c := range map[string]struct {
		previous *policy.Result
		after    time.Duration
		least    float64
		known    int // rows from the end
		why      string
	}{
		"none":            {nil, row, 0, 0, "no chunk before"},
		"no tokens":       {&bare, row, 0, 0, "no chunk before"},
		"new instruction": {&other, row, 0, 0, "another instruction"},
		"same picture":    {first, 0, 0, 0, "before"},
		"clock back":      {first, -row, 0, 0, "before"},
		"too soon":        {first, row / 4, 0, 0, "less than one"},
		"between rows":    {first, row * 3 / 2, 0, 0, "1.50 rows passed"},
		"too late":        {first, row * time.Duration(m.Action.Chunk), 0, 0, "no row left"},
		"unsure":          {&unsure, row, 0.6, 0, "confidence of 0.6"},
		"all given":       {first, row, 0, 1, "nothing would be left"},
	} {
		t.Run(name, func(t *testing.T) {
			var cold []int64
			for _, warm := range []bool{false, true} {
				params.WarmStart, params.WarmStartConfidence = warm, c.least
				if err := p.SetDecode(params); err != nil {
					t.Fatal(err)
				}
				o.Stamp, o.Previous, o.Known = began.Add(c.after), c.previous, slices.Repeat([]int64{-1}, n)
				for i := n - c.known*len(m.Action.Dims); i < n; i++ {
					o.Known[i] = 9
				}
				r, err := p.Infer(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if !warm {
					cold = r.Bins
					continue
				}
				if r.Warm != 0 || !strings.Contains(r.Cold, c.why) || !slices.Equal(r.Bins, cold) {
					t.Errorf("%d tokens, %q, want %q; as cold %v", r.Warm, r.Cold, c.why, slices.Equal(r.Bins, cold))
				}
			}
		})
	}
}

func TestL1HeadsStartNothingWarm(t *testing.T) {
	p := regression(t, make([]float32, 14))
	err := p.SetDecode(decode.Params{Preset: decode.Greedy, Rounds: 1, WarmStart: true})
	if err == nil || !strings.Contains(err.Error(), "warm_start") || !strings.Contains(err.Error(), "L1 head") {
		t.Errorf("got %v", err)
	}
}
