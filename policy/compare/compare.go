// Package compare puts decoders side by side: what they make of the same
// observations on the same weights, how many passes of the network and how long
// they take, how far they agree with each other, and how far their chunks are from
// what was recorded.
package compare

import (
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/policy/decode"
)

// Decoder is one way to decode.
type Decoder struct {
	Name    string
	Meaning string // a phrase
	// Params are unread where LeftToRight is set.
	Params decode.Params
	// LeftToRight is decode.LeftToRight on the step graph, a pass for each token.
	LeftToRight bool
}

// randomChoice is a temperature of the choice at which log-scores, none of which
// is below log(1e-20), do not count beside the noise: positions are committed in
// random order.
const randomChoice = 1e6

// Decoders lists what is compared, in T rounds where that is a choice. The first
// is what the others' tokens and values are compared with. Those with a refresh are
// for policies that can (bundle.Model.Refresh).
func Decoders(rounds int) []Decoder {
	zero := 0
	of := func(preset decode.Preset, rounds int) decode.Params {
		return decode.Params{Preset: preset, Rounds: rounds}
	}
	greedy, parallel, random, adaptive := of(decode.Greedy, rounds), of(decode.Greedy, 1), of(decode.Greedy, rounds), of(decode.Greedy, rounds)
	parallel.MeanWindow = &zero
	random.ChoiceTemperature, random.Threshold = []float64{randomChoice}, []float64{0}
	adaptive.CommitConfidence = []float64{0.95}
	refresh := func(r int) decode.Params {
		p := of(decode.Greedy, rounds)
		p.Refresh = r
		return p
	}
	warm := of(decode.Greedy, rounds)
	warm.WarmStart = true
	return []Decoder{
		{Name: "greedy", Meaning: "most probable bins, most confident positions first, absolute threshold", Params: greedy},
		{Name: "paper", Meaning: "arXiv 2508.20072: tempered sampling, maximum score, absolute threshold", Params: of(decode.Paper, rounds)},
		{Name: "official", Meaning: "released code: sampling, noise on the choice of positions", Params: of(decode.Official, rounds)},
		{Name: "official-remask", Meaning: "released code with use_remask", Params: of(decode.OfficialRemask, rounds)},
		{Name: "adaptive", Meaning: "greedy; what is 0.95 sure is committed whatever the schedule", Params: adaptive},
		{Name: "warm-start", Meaning: "greedy; begins with what is left of its last chunk, where observations are about whole rows apart", Params: warm},
		{Name: "random-order", Meaning: "greedy; positions in random order, none masked again", Params: random},
		{Name: "parallel", Meaning: "one pass, most probable bins (OpenVLA-OFT discrete)", Params: parallel},
		{Name: "autoregressive", Meaning: "one pass a token, left to right, most probable bins (OpenVLA)", LeftToRight: true},
		{Name: "refresh-2", Meaning: "greedy; what stands before the actions computed in every second round", Params: refresh(2)},
		{Name: "refresh-4", Meaning: "greedy; likewise in every fourth", Params: refresh(4)},
	}
}

// Dim is a column of the chunks.
type Dim struct {
	Name string `json:"name"`
	Unit string `json:"unit"`
}

// Sample is what one decoder made of one observation.
type Sample struct {
	Passes int           // of the network, or tokens one after the other
	Took   time.Duration // for the passes
	Bins   []int64       // L; nil where there are none, as with an L1 head
	Values []float64     // the chunk, rows of the dimensions
}

// Comparison gathers samples. Make it with New.
type Comparison struct {
	decoders []Decoder
	dims     []Dim
	count    int
	tokens   int // compared in each pair
	passes   []int
	took     [][]float64  // seconds
	equal    [][]int      // tokens, by pair
	errors   [][]distance // from what was recorded, by decoder and dimension
	apart    [][]distance // from the first decoder, likewise
}

// distance is that of values from others.
type distance struct {
	count        int
	sum, largest float64
}

func (e *distance) add(o distance) {
	e.count += o.count
	e.sum += o.sum
	e.largest = max(e.largest, o.largest)
}

func (e distance) mean() float64 {
	if e.count == 0 {
		return math.NaN()
	}
	return e.sum / float64(e.count)
}

// New compares decoders on chunks with the given columns.
func New(decoders []Decoder, dims []Dim) *Comparison {
	n := len(decoders)
	c := &Comparison{decoders: decoders, dims: dims, passes: make([]int, n), took: make([][]float64, n), equal: make([][]int, n), errors: make([][]distance, n), apart: make([][]distance, n)}
	for i := range decoders {
		c.equal[i] = make([]int, n)
		c.errors[i], c.apart[i] = make([]distance, len(dims)), make([]distance, len(dims))
	}
	return c
}

// Add takes what each decoder, in their order, made of one observation, and the
// recorded actions in the chunk's shape, NaN where none is known.
func (c *Comparison) Add(samples []Sample, actions []float64) {
	c.count++
	c.tokens += len(samples[0].Bins)
	for i, s := range samples {
		c.passes[i] += s.Passes
		c.took[i] = append(c.took[i], s.Took.Seconds())
		for j, other := range samples {
			for k, bin := range s.Bins {
				if other.Bins[k] == bin {
					c.equal[i][j]++
				}
			}
		}
		for k, v := range s.Values {
			if len(samples) > 1 {
				d := math.Abs(v - samples[0].Values[k])
				c.apart[i][k%len(c.dims)].add(distance{1, d, d})
			}
			if !math.IsNaN(actions[k]) {
				d := math.Abs(v - actions[k])
				c.errors[i][k%len(c.dims)].add(distance{1, d, d})
			}
		}
	}
}

// Table is the outcome of a comparison. Shares are 0..1; what there is nothing of
// is left out.
type Table struct {
	Observations int   `json:"observations"`
	Tokens       int   `json:"tokens"` // of each decoder, over all observations
	Dims         []Dim `json:"dims"`
	Rows         []Row `json:"decoders"`
	// Agreement is the share of equal tokens of each pair, by their order.
	Agreement [][]float64 `json:"agreement,omitempty"`
}

// Row is one decoder's.
type Row struct {
	Name    string  `json:"name"`
	Meaning string  `json:"meaning"`
	Passes  float64 `json:"passes"` // mean
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	// Equal is the share of tokens that are the first decoder's.
	Equal *float64 `json:"equal,omitempty"`
	// Apart are the absolute differences from the first decoder's values, over all
	// dimensions of a unit; none where there is one decoder.
	Apart []UnitError `json:"apart,omitempty"`
	// Errors are the absolute differences from the recorded actions, over all
	// dimensions of a unit, and ByDim over each dimension.
	Errors []UnitError `json:"errors,omitempty"`
	ByDim  []DimError  `json:"errors_by_dim,omitempty"`
}

// UnitError is over all dimensions of a unit, in it.
type UnitError struct {
	Unit    string  `json:"unit"`
	Mean    float64 `json:"mae"`
	Largest float64 `json:"max"`
	Count   int     `json:"values"`
}

// DimError is over one dimension, in its unit.
type DimError struct {
	Name    string  `json:"name"`
	Mean    float64 `json:"mae"`
	Largest float64 `json:"max"`
	Count   int     `json:"values"`
}

// Table sums up.
func (c *Comparison) Table() *Table {
	t := &Table{Observations: c.count, Tokens: c.tokens, Dims: c.dims}
	for i, d := range c.decoders {
		took := slices.Sorted(slices.Values(c.took[i]))
		row := Row{Name: d.Name, Meaning: d.Meaning}
		if c.count > 0 {
			row.Passes = float64(c.passes[i]) / float64(c.count)
			row.P50 = 1e3 * stat.Quantile(0.5, stat.Empirical, took, nil)
			row.P95 = 1e3 * stat.Quantile(0.95, stat.Empirical, took, nil)
		}
		if c.tokens > 0 {
			agreement := make([]float64, len(c.decoders))
			for j := range agreement {
				agreement[j] = float64(c.equal[i][j]) / float64(c.tokens)
			}
			t.Agreement = append(t.Agreement, agreement)
			row.Equal = &agreement[0]
		}
		c.sumErrors(i, &row)
		t.Rows = append(t.Rows, row)
	}
	return t
}

func (c *Comparison) sumErrors(i int, row *Row) {
	for k, e := range c.errors[i] {
		if e.count > 0 {
			row.ByDim = append(row.ByDim, DimError{c.dims[k].Name, e.mean(), e.largest, e.count})
		}
	}
	row.Errors, row.Apart = c.byUnit(c.errors[i]), c.byUnit(c.apart[i])
}

// byUnit sums up distances in each dimension.
func (c *Comparison) byUnit(distances []distance) (list []UnitError) {
	units := map[string]*distance{}
	var order []string
	for k, e := range distances {
		if e.count == 0 {
			continue
		}
		unit := c.dims[k].Unit
		if units[unit] == nil {
			units[unit] = &distance{}
			order = append(order, unit)
		}
		units[unit].add(e)
	}
	for _, unit := range order {
		e := units[unit]
		list = append(list, UnitError{unit, e.mean(), e.largest, e.count})
	}
	return list
}
