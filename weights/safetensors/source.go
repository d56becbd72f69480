package safetensors

import (
	"fmt"
	"io"
	"math"
	"slices"
)

// NewTensor describes a tensor of another format, whose values lie row-major and
// little-endian in r from the byte begin on, so that it is read like one of a
// safetensors file. file and name stand for it in errors.
func NewTensor(file, name string, dtype DType, shape []int64, r io.ReaderAt, begin int64) (Tensor, error) {
	t := Tensor{DType: dtype, Shape: slices.Clone(shape), name: name, File: file, r: r, begin: begin}
	bytes, ok := dtype.size()
	if !ok {
		return t, fmt.Errorf("%s: tensor %q: dtype %q is unknown", file, name, dtype)
	}
	for _, d := range shape {
		if d < 0 || d > 0 && bytes > (math.MaxInt64-begin)/d {
			return t, fmt.Errorf("%s: tensor %q: shape %v is negative or overflows", file, name, shape)
		}
		bytes *= d
	}
	t.end = begin + bytes
	return t, nil
}

// Raw returns the tensor's bytes as they are stored: row-major, little-endian.
func (t Tensor) Raw() *io.SectionReader { return io.NewSectionReader(t.r, t.begin, t.end-t.begin) }
