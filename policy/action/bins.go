package action

import "sort"

// Bins is the uniform quantisation of [-1, 1] behind the action tokens
// (ActionTokenizer in openvla's prismatic/vla/action_tokenizer.py): K edges, so
// K - 1 intervals with a centre each, and K token ids, of which only exactly +1
// uses the last; it decodes like the one before.
type Bins struct {
	edges, centres []float64
}

// NewBins returns the quantisation with k >= 2 edges.
func NewBins(k int) Bins {
	b := Bins{edges: make([]float64, k), centres: make([]float64, k-1)}
	step := 2 / float64(k-1)
	for i := range b.edges {
		b.edges[i] = float64(float64(i)*step) - 1
	}
	b.edges[k-1] = 1
	for i := range b.centres {
		b.centres[i] = (b.edges[i] + b.edges[i+1]) / 2
	}
	return b
}

// Len returns K, the number of bins that a token can name.
func (b Bins) Len() int { return len(b.edges) }

// Centre returns the value in (-1, 1) that bin k of 0..K-1 stands for.
func (b Bins) Centre(k int) float64 { return b.centres[min(k, len(b.centres)-1)] }

// Of returns the bin of x, which is clipped to [-1, 1]: the number of edges at
// or below it, less one.
func (b Bins) Of(x float64) int {
	x = min(max(x, -1), 1)
	return sort.Search(len(b.edges), func(i int) bool { return b.edges[i] > x }) - 1
}
