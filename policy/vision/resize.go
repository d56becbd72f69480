package vision

/*
#cgo CFLAGS: -O3 -std=c11
#cgo noescape ddvla_resize_float
#cgo nocallback ddvla_resize_float
#cgo noescape ddvla_columns_fixed
#cgo nocallback ddvla_columns_fixed
#cgo noescape ddvla_rows_fixed
#cgo nocallback ddvla_rows_fixed
#include "kernels.h"
*/
import "C"

import (
	"math"
	"unsafe"
)

// spans say which source samples an output sample of one axis is made of: count
// of them from start, with weights in a table of span per output.
type spans struct {
	start, count []int32
	span         int
}

type floatWeights struct {
	spans
	weight []float32
}

type fixedWeights struct {
	spans
	weight []int32 // times 1 << fixedBits
}

// lanczosWeights are the weights of tf.image.resize(method="lanczos3",
// antialias=True), that is TensorFlow's ScaleAndTranslate kernel without a
// translation: float32 throughout, the kernel widened by the scale when the
// picture shrinks and cut at the border, weights normalised to sum 1.
func lanczosWeights(in, out int) floatWeights {
	const radius = 3
	scale := float32(out) / float32(in)
	inverse := float32(1 / float64(scale))
	widen := max(inverse, 1)
	reach := float32(radius * widen)
	w := floatWeights{spans: spans{
		start: make([]int32, out), count: make([]int32, out),
		span: min(2*int(math.Ceil(float64(reach)))+1, in),
	}}
	w.weight = make([]float32, out*w.span)
	for i := range out {
		centre := (float32(i) + 0.5) * inverse
		first := max(int(math.Ceil(float64(float32(centre-reach)-0.5))), 0)
		last := min(int(math.Floor(float64(float32(centre+reach)-0.5))), in-1)
		row := w.weight[i*w.span:]
		var sum float32
		for s := first; s <= last; s++ {
			row[s-first] = lanczos3(float32(s)+0.5-centre, 1/widen)
			sum += row[s-first]
		}
		norm := 1 / sum
		for k := range last - first + 1 {
			row[k] *= norm
		}
		w.start[i], w.count[i] = int32(first), int32(last-first+1)
	}
	return w
}

// lanczos3 is 3 sin(pi x) sin(pi x/3) / (pi x)^2 at x = distance*scale, in
// float32.
func lanczos3(distance, scale float32) float32 {
	const pi = float32(math.Pi)
	x := float32(math.Abs(float64(distance * scale)))
	switch {
	case x > 3:
		return 0
	case x <= 1e-3:
		return 1
	}
	sin := func(v float32) float32 { return float32(math.Sin(float64(v))) }
	numerator := float32(3*sin(pi*x)) * sin(float32(pi*x)/3)
	return numerator / float32(float32(pi*pi*x)*x)
}

// resizeFloat resamples and rounds half to even, as tf.round and a cast do.
func resizeFloat(in Pixels, r *resampler, dst []byte) {
	x, y := r.floatX, r.floatY
	C.ddvla_resize_float(u8(in.RGB), C.int(in.Width),
		C.int(r.target.Width), i32(x.start), i32(x.count), f32(x.weight), C.int(x.span),
		C.int(r.target.Height), i32(y.start), i32(y.count), f32(y.weight), C.int(y.span),
		f32(r.lines), u8(dst))
}

// fixedBits is the precision that Pillow leaves itself in 32 bits: 8 for the
// sample, 2 for the overshoot of a kernel with negative lobes.
const fixedBits = 32 - 8 - 2

// bicubicWeights are those of Pillow's Image.resize with BICUBIC on 8-bit
// pictures: Keys' cubic with a = -0.5, widened when the picture shrinks,
// normalised in float64, then rounded to fixed point.
func bicubicWeights(in, out int) fixedWeights {
	const radius = 2
	scale := float64(in) / float64(out)
	widen := max(scale, 1)
	reach := radius * widen
	w := fixedWeights{spans: spans{
		start: make([]int32, out), count: make([]int32, out),
		span: int(math.Ceil(reach))*2 + 1,
	}}
	w.weight = make([]int32, out*w.span)
	row := make([]float64, w.span)
	for i := range out {
		centre := (float64(i) + 0.5) * scale
		first := max(int(centre-reach+0.5), 0)
		last := min(int(centre+reach+0.5), in)
		var sum float64
		for s := first; s < last; s++ {
			row[s-first] = cubic((float64(s) - centre + 0.5) * (1 / widen))
			sum += row[s-first]
		}
		for k := range last - first {
			w.weight[i*w.span+k] = int32(math.Round(row[k] / sum * (1 << fixedBits)))
		}
		w.start[i], w.count[i] = int32(first), int32(last-first)
	}
	return w
}

func cubic(x float64) float64 {
	const a = -0.5
	switch x = math.Abs(x); {
	case x < 1:
		return ((a+2)*x-(a+3))*x*x + 1
	case x < 2:
		return (((x-5)*x+8)*x - 4) * a
	}
	return 0
}

// resizeFixed resamples columns, then rows, with 8 bits between the two; an axis
// that keeps its length is left alone.
func resizeFixed(in Pixels, r *resampler, dst []byte) {
	w, h := r.target.Width, r.target.Height
	x, y := r.fixedX, r.fixedY
	rows := in.RGB
	if in.Width != w {
		rows = r.rows
		if in.Height == h {
			rows = dst
		}
		C.ddvla_columns_fixed(u8(in.RGB), C.int(in.Width), C.int(in.Height),
			C.int(w), i32(x.start), i32(x.count), i32(x.weight), C.int(x.span), u8(rows))
	}
	if in.Height != h {
		C.ddvla_rows_fixed(u8(rows), C.int(3*w),
			C.int(h), i32(y.start), i32(y.count), i32(y.weight), C.int(y.span), u8(dst))
	}
}

// padded is the length that the kernels want of a buffer for a line of n floats.
func padded(n int) int { return (n + 4 + 31) / 32 * 32 }

func u8(s []byte) *C.uint8_t   { return (*C.uint8_t)(unsafe.Pointer(unsafe.SliceData(s))) }
func i32(s []int32) *C.int32_t { return (*C.int32_t)(unsafe.Pointer(unsafe.SliceData(s))) }
func f32(s []float32) *C.float { return (*C.float)(unsafe.Pointer(unsafe.SliceData(s))) }
