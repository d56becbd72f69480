package compare

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy/decode"
)

// two decoders on two observations of one row of a joint and a gripper, by hand.
func two(t *testing.T) *Table {
	t.Helper()
	c := New([]Decoder{{Name: "a", Meaning: "first"}, {Name: "b", Meaning: "second"}}, []Dim{{"joint", "rad"}, {"gripper", "m"}})
	nan := math.NaN()
	c.Add([]Sample{
		{Passes: 12, Took: 10 * time.Millisecond, Bins: []int64{1, 2}, Values: []float64{0.5, 0.01}},
		{Passes: 1, Took: 2 * time.Millisecond, Bins: []int64{1, 3}, Values: []float64{0.5, 0.02}},
	}, []float64{0.4, 0.04})
	c.Add([]Sample{
		{Passes: 6, Took: 30 * time.Millisecond, Bins: []int64{7, 8}, Values: []float64{-0.5, 0.03}},
		{Passes: 1, Took: 4 * time.Millisecond, Bins: []int64{6, 9}, Values: []float64{-0.4, 0.02}},
	}, []float64{-0.8, nan})
	return c.Table()
}

func close(a, b float64) bool { return math.Abs(a-b) < 1e-9 }

func TestTableByHand(t *testing.T) {
	table := two(t)
	if table.Observations != 2 || table.Tokens != 4 {
		t.Errorf("%d observations, %d tokens", table.Observations, table.Tokens)
	}
	for i, want := range []struct {
		passes, p50, p95, equal        float64
		radMean, radMost, mMean, mMost float64
	}{
		{9, 10, 30, 1, 0.2, 0.3, 0.03, 0.03},
		{1, 2, 4, 0.25, 0.25, 0.4, 0.02, 0.02},
	} {
		r := table.Rows[i]
		if !close(r.Passes, want.passes) || !close(r.P50, want.p50) || !close(r.P95, want.p95) || !close(*r.Equal, want.equal) {
			t.Errorf("%s: %+v, equal %g", r.Name, r, *r.Equal)
		}
		rad, m := r.Errors[0], r.Errors[1]
		if rad.Unit != "rad" || m.Unit != "m" || !close(rad.Mean, want.radMean) || !close(rad.Largest, want.radMost) || rad.Count != 2 ||
			!close(m.Mean, want.mMean) || !close(m.Largest, want.mMost) || m.Count != 1 {
			t.Errorf("%s: errors %+v", r.Name, r.Errors)
		}
		if far := table.Rows[1].Apart; far[0].Unit != "rad" || !close(far[0].Mean, 0.05) || !close(far[0].Largest, 0.1) || !close(far[1].Largest, 0.01) || far[1].Count != 2 {
			t.Errorf("b is %+v from a", far)
		}
		if d := r.ByDim[0]; d.Name != "joint" || !close(d.Mean, want.radMean) || d.Count != 2 {
			t.Errorf("%s: by dimension %+v", r.Name, r.ByDim)
		}
	}
	for i, line := range [][]float64{{1, 0.25}, {0.25, 1}} {
		for j, want := range line {
			if !close(table.Agreement[i][j], want) {
				t.Errorf("agreement %v", table.Agreement)
			}
		}
	}
	var out strings.Builder
	if err := table.Markdown(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| decoder | passes | p50 ms | p95 ms | tokens as a | farthest from a rad | farthest from a m | mean error rad | largest rad | mean error m | largest m | which is |\n|---|---|",
		"| b | 1 | 2.0 | 4.0 | 25.0 % | 0.1000 | 0.0100 | 0.2500 | 0.4000 | 0.0200 | 0.0200 | second |",
		"| a | 100.0 % | 25.0 % |",
		"| joint rad | 0.2000 / 0.3000 | 0.2500 / 0.4000 | 2 |",
		"| gripper m | 0.0300 / 0.0300 | 0.0200 / 0.0200 | 1 |",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}

// What there is nothing of is left out: tokens of an L1 head, errors where
// nothing was recorded.
func TestTableOfValuesAlone(t *testing.T) {
	c := New([]Decoder{{Name: "l1"}}, []Dim{{"joint", "rad"}})
	c.Add([]Sample{{Passes: 1, Took: time.Millisecond, Values: []float64{0.5}}}, []float64{math.NaN()})
	table := c.Table()
	raw, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := table.Markdown(&out); err != nil {
		t.Fatal(err)
	}
	if text := string(raw); strings.Contains(text, "agreement") || strings.Contains(text, "errors") || strings.Contains(text, "apart") || strings.Contains(text, "equal") {
		t.Errorf("%s", text)
	}
	if want := "| decoder | passes | p50 ms | p95 ms | which is |\n|---|---|---|---|---|\n| l1 | 1 | 1.0 | 1.0 |  |\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}

// Each way to decode can be done, and what makes it special is so.
func TestDecoders(t *testing.T) {
	for _, rounds := range []int{1, 12, 64} {
		for _, d := range Decoders(rounds) {
			if d.Meaning == "" {
				t.Errorf("%s has no meaning", d.Name)
			}
			if d.LeftToRight {
				continue
			}
			in, err := d.Params.Inputs([]int{20}, 20, 8, decode.NewNoise(1))
			if err != nil {
				t.Fatalf("%s: %v", d.Name, err)
			}
			if in.Exact() != (d.Params.Refresh == 0 || rounds == 1) {
				t.Errorf("%s in %d rounds: exact %v", d.Name, rounds, in.Exact())
			}
			if want := map[bool]int{true: 1, false: rounds}[d.Name == "parallel"]; in.Rounds != want {
				t.Errorf("%s has %d rounds of %d", d.Name, in.Rounds, rounds)
			}
		}
	}
}

// Random order is the noise's alone: positions of any confidence are committed
// first equally often. 4000 decodings of ten positions, of which two are sure;
// one is committed in the first of ten rounds. Chi-square with nine degrees of
// freedom is below 27.88 in 99.9 % of such trials; the seed is fixed.
func TestRandomOrderIsRandom(t *testing.T) {
	var random decode.Params
	for _, d := range Decoders(10) {
		if d.Name == "random-order" {
			random = d.Params
		}
	}
	const positions, bins, trials = 10, 4, 4000
	logits := decode.LogitsFunc(func(_ context.Context, _ int, _ []int64, out *decode.Logits) error {
		for i := range out.Values {
			out.Values[i] = 0
			if i%bins == 0 && i/bins < 2 {
				out.Values[i] = 20
			}
		}
		return nil
	})
	noise := decode.NewNoise(5)
	var first [positions]float64
	for range trials {
		in, err := random.Inputs([]int{positions}, positions, bins, noise)
		if err != nil {
			t.Fatal(err)
		}
		in.MaskedAfter[0] = positions - 1
		res, err := decode.Decode(t.Context(), logits, in)
		if err != nil {
			t.Fatal(err)
		}
		for i, bin := range res.TraceBins[:positions] {
			if bin >= 0 {
				first[i]++
			}
		}
	}
	chi2, total := 0.0, 0.0
	for _, n := range first {
		const want = trials / positions
		chi2 += (n - want) * (n - want) / want
		total += n
	}
	if total != trials || chi2 > 27.88 {
		t.Errorf("chi-square %g, counts %v", chi2, first)
	}
}
