package action

import "math"

// Powers of the density for FitEdges.
const (
	// Quantiles gives each bin the same number of values.
	Quantiles = 1.0
	// LeastAbsolute makes the mean absolute error least, where bins are narrow.
	LeastAbsolute = 1.0 / 2
	// LeastSquares makes the mean squared error least, where bins are narrow
	// (Panter and Dite, Quantization distortion in pulse-count modulation with
	// nonuniform spacing of levels, Proc. IRE 1951).
	LeastSquares = 1.0 / 3
)

const (
	// fitCells is how many cells of the histogram one bin has.
	fitCells = 16
	// fitUniform is the share of the density that is even, so that no bin is much
	// wider than where little was seen, and none is empty.
	fitUniform = 0.1
)

// FitEdges returns the edges of k >= 2 bins, k+1 values that rise from -1 to 1
// (bundle.Action.BinEdges), for normalised values like those given, of which those
// beyond [-1, 1] count at its ends. The number of bins to a length is proportional to
// a power of the density of the values, of which a tenth is taken to be even. Values
// must be finite; without any the bins are even.
func FitEdges(values []float64, k int, power float64) []float64 {
	weight := make([]float64, k*fitCells)
	for _, x := range values {
		cell := int((min(max(x, -1), 1) + 1) / 2 * float64(len(weight)))
		weight[min(cell, len(weight)-1)]++
	}
	total := 0.0
	for i, n := range weight {
		density := n/float64(max(len(values), 1))*(1-fitUniform) + fitUniform/float64(len(weight))
		weight[i] = math.Pow(density, power)
		total += weight[i]
	}
	edges, passed := []float64{-1}, 0.0
	for i, w := range weight {
		for next := total * float64(len(edges)) / float64(k); len(edges) < k && passed+w >= next; next = total * float64(len(edges)) / float64(k) {
			edges = append(edges, -1+2*(float64(i)+(next-passed)/w)/float64(len(weight)))
		}
		passed += w
	}
	return append(edges, 1)
}
