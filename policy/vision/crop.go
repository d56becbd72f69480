package vision

/*
#cgo noescape ddvla_bilinear
#cgo nocallback ddvla_bilinear
#include "kernels.h"
*/
import "C"

import "math"

// bilinear is the centre crop that follows training with random crops: the
// middle share of the area, scaled back to the full size as
// tf.image.crop_and_resize does (bilinear, not antialiased), then
// tf.image.convert_image_dtype to uint8. Source of the steps: openvla-oft,
// center_crop_image in experiments/robot/openvla_utils.py.
type bilinear struct {
	width, height int
	x, y          samples
	lines         []float32
}

// samples are the positions on one axis, between the whole indices low and high.
type samples struct {
	low, high []int32
	share     []float32 // of high
}

func newBilinear(width, height int, area float64) *bilinear {
	side := float32(math.Sqrt(float64(float32(area))))
	return &bilinear{
		width: width, height: height,
		x: cropSamples(width, side), y: cropSamples(height, side),
		lines: make([]float32, 3*padded(3*width)),
	}
}

func cropSamples(n int, side float32) samples {
	first := (1 - side) / 2
	last := first + side
	end := float32(n - 1)
	s := samples{low: make([]int32, n), high: make([]int32, n), share: make([]float32, n)}
	for i := range n {
		at := float32(0.5*(first+last)) * end // of a single sample
		if n > 1 {
			step := float32((last-first)*end) / end
			at = float32(first*end) + float32(float32(i)*step)
		}
		low := float32(math.Floor(float64(at)))
		s.low[i], s.high[i] = int32(low), min(int32(math.Ceil(float64(at))), int32(n-1))
		s.share[i] = at - low
	}
	return s
}

func (b *bilinear) run(src, dst []byte) {
	C.ddvla_bilinear(u8(src), C.int(b.width),
		C.int(b.width), i32(b.x.low), i32(b.x.high), f32(b.x.share),
		C.int(b.height), i32(b.y.low), i32(b.y.high), f32(b.y.share),
		f32(b.lines), u8(dst))
}
