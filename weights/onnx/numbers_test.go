package onnx

import (
	"math"
	"testing"
)

// The first finite numbers that round to infinity are errors, the last that do not
// are the largest of the type; infinities stay.
func TestRoundEndsWhereTheTypeDoes(t *testing.T) {
	for _, c := range []struct {
		t             Type
		last, largest float32
	}{
		{Float16, math.Nextafter32(65520, 0), MaxFloat16},
		{BFloat16, math.Nextafter32(0x1.ffp127, 0), 0x1.fep127},
	} {
		for _, sign := range []float32{1, -1} {
			if got, err := c.t.Round(sign * c.last); err != nil || got != sign*c.largest {
				t.Errorf("type %d: %g gives %g, %v", c.t, sign*c.last, got, err)
			}
			next := sign * math.Nextafter32(c.last, math.MaxFloat32)
			if got, err := c.t.Round(next); err == nil {
				t.Errorf("type %d: %g gives %g", c.t, next, got)
			}
			infinity := sign * float32(math.Inf(1))
			if got, err := c.t.Round(infinity); err != nil || got != infinity {
				t.Errorf("type %d: infinity gives %g, %v", c.t, got, err)
			}
		}
	}
}
