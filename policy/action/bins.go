package action

import "sort"

// Bins is a quantisation of [-1, 1] behind the action tokens. That of NewBins is
// uniform and the published one.
type Bins struct {
	k              int
	edges, centres []float64
}

// NewBins returns the uniform quantisation of ActionTokenizer (openvla's
// prismatic/vla/action_tokenizer.py): k >= 2 edges, so k - 1 intervals with a
// centre each, and k token ids, of which only exactly +1 uses the last; it decodes
// like the one before.
func NewBins(k int) Bins {
	b := Bins{k: k, edges: make([]float64, k), centres: make([]float64, k-1)}
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

// NewBinsOf returns the quantisation of [-1, 1] with one bin between each two of
// edges, which rise from -1 to 1 (bundle.Action.BinEdges); the last bin holds +1
// too.
func NewBinsOf(edges []float64) Bins {
	b := Bins{k: len(edges) - 1, edges: edges, centres: make([]float64, len(edges)-1)}
	for i := range b.centres {
		b.centres[i] = (edges[i] + edges[i+1]) / 2
	}
	return b
}

// Len returns K, the number of bins that a token can name.
func (b Bins) Len() int { return b.k }

// Width returns the width of bin k of 0..K-1.
func (b Bins) Width(k int) float64 {
	k = min(k, len(b.centres)-1)
	return b.edges[k+1] - b.edges[k]
}

// Centre returns the value in (-1, 1) that bin k of 0..K-1 stands for.
func (b Bins) Centre(k int) float64 { return b.centres[min(k, len(b.centres)-1)] }

// Of returns the bin of x, which is clipped to [-1, 1]: the number of edges at
// or below it, less one.
func (b Bins) Of(x float64) int {
	x = min(max(x, -1), 1)
	return min(sort.Search(len(b.edges), func(i int) bool { return b.edges[i] > x }), b.k) - 1
}
