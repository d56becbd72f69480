package urdf_test

import (
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/urdf"
)

// The exponential map is gonum's matrix exponential of the skew matrix, and the
// logarithm undoes it at every angle up to pi.
func TestRotationVector(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		axis := [3]float64{}
		norm := 0.0
		for norm < 0.1 {
			for i := range axis {
				axis[i] = rapid.Float64Range(-1, 1).Draw(t, "axis")
			}
			norm = math.Hypot(math.Hypot(axis[0], axis[1]), axis[2])
			if norm < 0.1 {
				axis[0], norm = 1, math.Hypot(1, math.Hypot(axis[1], axis[2]))
			}
		}
		angle := rapid.OneOf(
			rapid.Float64Range(0, math.Pi),
			rapid.Map(rapid.Float64Range(-14, 0), func(e float64) float64 { return math.Pow(10, e) }),
			rapid.Map(rapid.Float64Range(-14, 0), func(e float64) float64 { return math.Pi - math.Pow(10, e) }),
		).Draw(t, "angle")
		w := [3]float64{axis[0] / norm * angle, axis[1] / norm * angle, axis[2] / norm * angle}
		got := urdf.FromRotationVector(w)
		var want mat.Dense
		want.Exp(mat.NewDense(3, 3, []float64{0, -w[2], w[1], w[2], 0, -w[0], -w[1], w[0], 0}))
		if !mat.EqualApprox(mat.NewDense(3, 3, got.R[:]), &want, 1e-13) {
			t.Fatalf("rotation by %v is %v, want %v", w, got.R, mat.Formatted(&want))
		}
		back := got.RotationVector()
		// Close to pi the opposite axis is as good.
		opposite := [3]float64{-back[0], -back[1], -back[2]}
		if d := min(distance(back, w), math.Abs(math.Pi-angle)*2+distance(opposite, w)); d > 1e-12 {
			t.Fatalf("logarithm of the rotation by %v is %v", w, back)
		}
	})
}
