package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// DType is an element type as the header spells it.
type DType string

// Element types that Read converts.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

func (d DType) size() (int64, bool) {
	switch d {
	case "BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2":
		return 1, true
	case F16, BF16, "I16", "U16":
		return 2, true
	case F32, "I32", "U32":
		return 4, true
	case "F64", "I64", "U64":
		return 8, true
	}
	return 0, false
}

// Converts reports whether Read takes values of this type.
func (d DType) Converts() bool { return converters[d] != nil }

// Tensor says where a tensor lies; nothing is read until Read.
type Tensor struct {
	DType DType
	Shape []int64
	// File is the name of the file that holds it.
	File       string
	name       string
	r          io.ReaderAt
	begin, end int64 // bytes of the file
}

// Elements returns the number of values.
func (t Tensor) Elements() int64 {
	size, _ := t.DType.size()
	return (t.end - t.begin) / size
}

// Bytes returns its size in the file.
func (t Tensor) Bytes() int64 { return t.end - t.begin }

// chunk is how many bytes are read and converted at a time.
const chunk = 1 << 20

// Read converts len(dst) values, from the one at index first (row-major), to
// float32. BF16 and F16 convert exactly.
func (t Tensor) Read(dst []float32, first int64) error {
	if first < 0 || first+int64(len(dst)) > t.Elements() {
		return fmt.Errorf("%s: tensor %q: values %d..%d of %d", t.File, t.name, first, first+int64(len(dst)), t.Elements())
	}
	size, _ := t.DType.size()
	convert, ok := converters[t.DType]
	if !ok {
		return fmt.Errorf("%s: tensor %q is %s; weights are F32, F16 or BF16", t.File, t.name, t.DType)
	}
	raw := make([]byte, min(chunk, int64(len(dst))*size))
	at := t.begin + first*size
	for len(dst) > 0 {
		n := min(len(dst), len(raw)/int(size))
		part := raw[:n*int(size)]
		if k, err := t.r.ReadAt(part, at); err != nil && !(errors.Is(err, io.EOF) && k == len(part)) {
			return fmt.Errorf("%s: tensor %q: %w", t.File, t.name, err)
		}
		convert(dst[:n], part)
		dst, at = dst[n:], at+int64(len(part))
	}
	return nil
}

var converters = map[DType]func(dst []float32, raw []byte){
	F32: func(dst []float32, raw []byte) {
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	},
	BF16: func(dst []float32, raw []byte) {
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
	},
	F16: func(dst []float32, raw []byte) {
		for i := range dst {
			dst[i] = fromHalf(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	},
}

// fromHalf widens an IEEE 754 binary16 number; subnormals become normal.
func fromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent, fraction := uint32(h>>10&0x1f), uint32(h&0x3ff)
	switch exponent {
	case 0x1f: // infinity, NaN
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	case 0:
		v := float32(fraction) * (1.0 / (1 << 24))
		if sign != 0 {
			v = -v
		}
		return v
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
