package ort

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime"

	onnxruntime "github.com/yalue/onnxruntime_go"
)

// session is a loaded graph with its tensors. Runs must not overlap.
type session struct {
	name    string
	handle  *onnxruntime.DynamicAdvancedSession
	run     *onnxruntime.RunOptions
	inputs  []slot
	outputs []onnxruntime.Value
}

// newSession loads the graph at path; weights are found beside it.
func newSession(path, name string, inputs, outputs []string, options *onnxruntime.SessionOptions) (*session, error) {
	s := &session{name: name, inputs: make([]slot, len(inputs)), outputs: make([]onnxruntime.Value, len(outputs))}
	var err error
	if s.handle, err = onnxruntime.NewDynamicAdvancedSession(path, inputs, outputs, options); err != nil {
		return nil, fmt.Errorf("onnxruntime: %s: %w", path, err)
	}
	if s.run, err = onnxruntime.NewRunOptions(); err != nil {
		return nil, errors.Join(fmt.Errorf("onnxruntime: run options: %w", err), s.close())
	}
	return s, nil
}

func (s *session) close() error {
	var errs []error
	for i := range s.inputs {
		errs = append(errs, s.inputs[i].free())
	}
	errs = append(errs, s.dropOutputs())
	if s.run != nil {
		errs = append(errs, s.run.Destroy())
	}
	if s.handle != nil {
		errs = append(errs, s.handle.Destroy())
	}
	s.handle, s.run = nil, nil
	return errors.Join(errs...)
}

func (s *session) dropOutputs() error {
	var errs []error
	for i, v := range s.outputs {
		if v != nil {
			errs = append(errs, v.Destroy())
			s.outputs[i] = nil
		}
	}
	return errors.Join(errs...)
}

// execute runs the graph on the slots; when ctx ends first, the graph is
// terminated at its next node and ctx's error returned. Outputs are made anew.
func (s *session) execute(ctx context.Context) error {
	values := make([]onnxruntime.Value, len(s.inputs))
	for i := range s.inputs {
		values[i] = s.inputs[i].value
	}
	return s.executeOn(ctx, values)
}

// executeOn is execute on other values than the slots'.
func (s *session) executeOn(ctx context.Context, values []onnxruntime.Value) error {
	if s.handle == nil {
		return fmt.Errorf("onnxruntime: %s is closed", s.name)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("onnxruntime: %s: %w", s.name, err)
	}
	if err := s.dropOutputs(); err != nil {
		return fmt.Errorf("onnxruntime: %s: %w", s.name, err)
	}
	terminated := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { terminated <- s.run.Terminate() })
	err := s.handle.RunWithOptions(values, s.outputs, s.run)
	if !stop() {
		err = errors.Join(err, <-terminated, s.run.UnsetTerminate())
		if ctx.Err() != nil && err != nil {
			return fmt.Errorf("onnxruntime: %s: %w", s.name, ctx.Err())
		}
	}
	if err != nil {
		// An output that the binding could not make is a nil pointer in an interface.
		for i, v := range s.outputs {
			if v != nil && reflect.ValueOf(v).IsNil() {
				s.outputs[i] = nil
			}
		}
		return fmt.Errorf("onnxruntime: %s: %w", s.name, err)
	}
	return nil
}

// slot is an input whose tensor and buffer are used again while its shape stays
// the same.
type slot struct {
	value  onnxruntime.Value
	shape  onnxruntime.Shape
	data   any // []T that the tensor lies on
	pinned runtime.Pinner
}

func (s *slot) free() error {
	if s.value == nil {
		return nil
	}
	err := s.value.Destroy()
	s.value = nil
	s.pinned.Unpin()
	return err
}

// fill copies data into the slot, whose tensor gets the given shape.
func fill[T onnxruntime.TensorData](s *slot, data []T, dims ...int64) error {
	return s.set(dims, func() (err error) {
		buffer, _ := s.data.([]T)
		if cap(buffer) < len(data) {
			buffer = make([]T, len(data))
		}
		buffer = buffer[:len(data)]
		s.data = buffer
		s.pinned.Pin(&buffer[0])
		s.value, err = onnxruntime.NewTensor(s.shape, buffer)
		return err
	}, func() { copy(s.data.([]T), data) })
}

// fillBool is fill for booleans, which the binding knows as bytes.
func fillBool(s *slot, data []bool, dims ...int64) error {
	return s.set(dims, func() (err error) {
		buffer := make([]byte, len(data))
		s.data = buffer
		s.pinned.Pin(&buffer[0])
		s.value, err = onnxruntime.NewCustomDataTensor(s.shape, buffer, onnxruntime.TensorElementDataTypeBool)
		return err
	}, func() {
		buffer := s.data.([]byte)
		for i, v := range data {
			buffer[i] = 0
			if v {
				buffer[i] = 1
			}
		}
	})
}

// set makes a tensor where the shape changed, then copies.
func (s *slot) set(dims []int64, make func() error, copy func()) error {
	if s.value == nil || !s.shape.Equals(dims) {
		if err := s.free(); err != nil {
			return fmt.Errorf("onnxruntime: %w", err)
		}
		s.shape = append(onnxruntime.Shape(nil), dims...)
		if err := make(); err != nil {
			s.value = nil
			s.pinned.Unpin()
			return fmt.Errorf("onnxruntime: tensor %v: %w", dims, err)
		}
	}
	copy()
	return nil
}

// take copies output i into dst's memory and returns it with its shape.
func take[T onnxruntime.TensorData](s *session, i int, dst []T) ([]T, onnxruntime.Shape, error) {
	t, ok := s.outputs[i].(*onnxruntime.Tensor[T])
	if !ok {
		return nil, nil, fmt.Errorf("onnxruntime: %s: output %d is %T", s.name, i, s.outputs[i])
	}
	return append(dst[:0], t.GetData()...), t.GetShape(), nil
}
