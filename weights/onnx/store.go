package onnx

import (
	"fmt"
	"io"
	"strconv"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
)

// alignment of tensors in the data file: a cache line, so that a runtime may
// map the file and use the weights where they lie.
const alignment = 64

// Align returns the offset at which the Store puts a tensor after one that ends
// at end.
func Align(end int64) int64 { return end + (-end & (alignment - 1)) }

// Store streams weights, one after the other, into the external data file that
// one or more models refer to. Nothing is kept in memory but where they lie.
type Store struct {
	location string
	w        io.Writer
	offset   int64
	tensors  map[string]stored
	buffer   []byte
}

// stored is where a tensor lies.
type stored struct {
	elem           Type
	dims           []int64
	offset, length int64
}

// NewStore writes to w, which will lie beside the models as the file location.
func NewStore(location string, w io.Writer) *Store {
	return &Store{location: location, w: w, tensors: map[string]stored{}, buffer: make([]byte, 0, 64<<10)}
}

// Add writes a row-major float32 tensor under a name that is not used yet.
func (s *Store) Add(name string, dims []int64, values []float32) error {
	return s.AddAs(name, Float32, dims, values)
}

// AddAs is Add for a tensor of elem, Float32, Float16 or BFloat16. Values are rounded
// to the nearest; one that elem cannot hold, or that is not finite, is an error.
func (s *Store) AddAs(name string, elem Type, dims []int64, values []float32) error {
	t, err := s.begin(name, elem, dims, len(values))
	if err != nil {
		return err
	}
	if err := s.floats(elem, values); err != nil {
		return fmt.Errorf("onnx: weight %q: %w", name, err)
	}
	s.tensors[name] = t
	return nil
}

// Stream is AddAs for values that read gives piece by piece: len(dst) of them from the
// one at index first.
func (s *Store) Stream(name string, elem Type, dims []int64, read func(dst []float32, first int64) error) error {
	total, ok := elements(dims)
	if !ok {
		return fmt.Errorf("onnx: weight %q has shape %v", name, dims)
	}
	t, err := s.begin(name, elem, dims, int(total))
	if err != nil {
		return err
	}
	piece := make([]float32, min(total, 1<<20))
	for first := int64(0); first < total; first += int64(len(piece)) {
		piece = piece[:min(int64(len(piece)), total-first)]
		if err := read(piece, first); err != nil {
			return err
		}
		if err := s.floats(elem, piece); err != nil {
			return fmt.Errorf("onnx: weight %q: %w", name, err)
		}
	}
	s.tensors[name] = t
	return nil
}

// floats writes values as elem; of a network with one that is no number, all results
// are none.
func (s *Store) floats(elem Type, values []float32) error {
	for _, v := range values {
		if v-v != 0 {
			return fmt.Errorf("a value is %g, must be finite; the weights are broken", v)
		}
	}
	for len(values) > 0 {
		n := min(len(values), cap(s.buffer)/elem.Size())
		raw, err := floatsIn(s.buffer[:0], elem, values[:n])
		if err == nil {
			err = s.write(raw)
		}
		if err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// Reserve takes a place for a tensor as if it had been added, without values: for
// a graph whose parts get stores of their own (Cut).
func (s *Store) Reserve(name string, elem Type, dims []int64) error {
	n, ok := elements(dims)
	if _, used := s.tensors[name]; used || !ok {
		return fmt.Errorf("onnx: weight %q of shape %v cannot be reserved", name, dims)
	}
	s.offset = Align(s.offset)
	s.tensors[name] = stored{elem: elem, dims: append([]int64(nil), dims...), offset: s.offset, length: n * int64(elem.Size())}
	s.offset += n * int64(elem.Size())
	return nil
}

// Size is that of one element in bytes.
func (t Type) Size() int { return int(typeSizes[pb.TensorProto_DataType(t)]) }

// AddBytes writes a row-major uint8 tensor under a name that is not used yet.
func (s *Store) AddBytes(name string, dims []int64, values []byte) error {
	t, err := s.begin(name, Uint8, dims, len(values))
	if err != nil {
		return err
	}
	if err := s.write(values); err != nil {
		return fmt.Errorf("onnx: weight %q: %w", name, err)
	}
	s.tensors[name] = t
	return nil
}

// begin aligns the file for a tensor of n values, and says where it will lie.
func (s *Store) begin(name string, elem Type, dims []int64, n int) (stored, error) {
	if _, ok := s.tensors[name]; ok {
		return stored{}, fmt.Errorf("onnx: weight %q is added twice", name)
	}
	if want, ok := elements(dims); !ok || want != int64(n) {
		return stored{}, fmt.Errorf("onnx: weight %q of shape %v has %d values", name, dims, n)
	}
	if pad := Align(s.offset) - s.offset; pad > 0 {
		if err := s.write(make([]byte, pad)); err != nil {
			return stored{}, fmt.Errorf("onnx: weight %q: %w", name, err)
		}
	}
	return stored{elem: elem, dims: append([]int64(nil), dims...), offset: s.offset, length: int64(elem.Size()) * int64(n)}, nil
}

func (s *Store) write(raw []byte) error {
	n, err := s.w.Write(raw)
	s.offset += int64(n)
	return err
}

func (t stored) proto(name, location string) *pb.TensorProto {
	return &pb.TensorProto{
		Name: name, DataType: int32(t.elem), Dims: t.dims, DataLocation: pb.TensorProto_EXTERNAL,
		ExternalData: []*pb.StringStringEntryProto{
			{Key: "location", Value: location},
			{Key: "offset", Value: strconv.FormatInt(t.offset, 10)},
			{Key: "length", Value: strconv.FormatInt(t.length, 10)},
		},
	}
}
