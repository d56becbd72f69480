package action

import (
	"math"
	"math/rand/v2"
	"testing"
)

// Of even values, or none, come even bins; of others bins that hold shares of
// them, and for least squares a smaller squared error than even ones have.
func TestFittedBins(t *testing.T) {
	for name, values := range map[string][]float64{"none": nil, "even": evenly(64 * 100)} {
		for _, power := range []float64{Quantiles, LeastAbsolute, LeastSquares} {
			for i, e := range FitEdges(values, 64, power) {
				if want := -1 + 2*float64(i)/64; math.Abs(e-want) > 1e-9 {
					t.Fatalf("%s, power %g: edge %d is %g, want %g", name, power, i, e, want)
				}
			}
		}
	}
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float64, 200_000)
	for i := range values {
		values[i] = rng.NormFloat64() * 0.2 // some are beyond
	}
	const k = 64
	var errors []float64
	for _, b := range []Bins{NewBinsOf(FitEdges(nil, k, 1)), NewBinsOf(FitEdges(values, k, LeastSquares)), NewBinsOf(FitEdges(values, k, Quantiles))} {
		sum := 0.0
		for _, x := range values {
			sum += math.Pow(b.Centre(b.Of(x))-x, 2)
		}
		errors = append(errors, sum)
	}
	if !(errors[1] < 0.6*errors[0] && errors[1] < errors[2]) {
		t.Errorf("squared errors: even %g, least squares %g, quantiles %g", errors[0], errors[1], errors[2])
	}
	// Nine tenths of the values and a tenth of the length, in each bin.
	b := NewBinsOf(FitEdges(values, k, Quantiles))
	count := make([]int, k)
	for _, x := range values {
		count[b.Of(x)]++
	}
	for i, n := range count {
		if share := 0.9*float64(n)/float64(len(values)) + 0.1*b.Width(i)/2; math.Abs(share-1.0/k) > 2e-3 {
			t.Errorf("bin %d holds %g, want %g", i, share, 1.0/k)
		}
	}
}

// However many values are the same, edges rise by what a manifest wants.
func TestFittedBinsOfOneValue(t *testing.T) {
	for _, x := range []float64{-1, -0.3, 0, 0.7, 1, 5} {
		for _, k := range []int{2, 255, 256} {
			edges := FitEdges([]float64{x, x, x}, k, Quantiles)
			if len(edges) != k+1 || edges[0] != -1 || edges[k] != 1 {
				t.Fatalf("%d edges from %g to %g", len(edges), edges[0], edges[len(edges)-1])
			}
			for i, e := range edges[1:] {
				if !(e-edges[i] >= 1e-6) {
					t.Fatalf("%g in %d bins: %g after %g", x, k, e, edges[i])
				}
			}
		}
	}
}

func evenly(n int) []float64 {
	values := make([]float64, n)
	for i := range values {
		values[i] = -1 + (2*float64(i)+1)/float64(n)
	}
	return values
}
