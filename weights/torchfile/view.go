package torchfile

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/ddvla/ddvla/weights/safetensors"
)

// view is a tensor: values of a storage, from offset on, shape[i] of them in steps
// of stride[i] along each axis. All are within the storage and no two the same.
type view struct {
	*storage
	offset        int64
	shape, stride []int64
}

// newView checks the arguments of torch._utils._rebuild_tensor_v2: storage, offset,
// size, stride, requires_grad, hooks and, in newer versions, metadata.
func newView(args tuple) (*view, error) {
	if len(args) != 6 && len(args) != 7 {
		return nil, fmt.Errorf("%d arguments instead of 6 or 7", len(args))
	}
	s, ok := args[0].(*storage)
	offset, isInt := args[1].(int64)
	shape, isShape := ints(args[2])
	stride, isStride := ints(args[3])
	switch {
	case !ok || !isInt || !isShape || !isStride || !isKind[bool](args[4]) || !noHooks(args[5]):
		return nil, fmt.Errorf("its arguments are not (storage, offset, size, stride, requires_grad, no hooks): %w", errCode)
	case len(args) == 7 && args[6] != nil && !noHooks(args[6]):
		// Marks a tensor as a negated or conjugate view: its values are not those stored.
		return nil, errors.New("it has metadata (a view that is negated?); save a clone of it")
	case len(shape) != len(stride):
		return nil, fmt.Errorf("size %v and stride %v differ in length", shape, stride)
	}
	return &view{s, offset, shape, stride}, checkBounds(s.count, offset, shape, stride)
}

// checkBounds makes sure that all values lie in 0..count-1, without an overflow on
// the way, and that no two of them are the same.
func checkBounds(count, offset int64, shape, stride []int64) error {
	if offset < 0 || offset > count {
		return fmt.Errorf("offset %d in a storage of %d values", offset, count)
	}
	var axes []int
	empty := false
	for i, n := range shape {
		if n < 0 || stride[i] < 0 {
			return fmt.Errorf("size %v or stride %v is negative", shape, stride)
		}
		empty = empty || n == 0
		if n > 1 {
			axes = append(axes, i)
		}
	}
	if empty {
		return nil
	}
	slices.SortFunc(axes, func(a, b int) int { return cmp.Compare(stride[a], stride[b]) })
	last := int64(0) // of the axes so far, from offset on
	for _, i := range axes {
		if stride[i] <= last {
			return fmt.Errorf("values of size %v and stride %v overlap (an expanded tensor? save a clone of it)", shape, stride)
		}
		if shape[i]-1 > (count-last)/stride[i] {
			last = count
			break
		}
		last += (shape[i] - 1) * stride[i]
	}
	if last >= count-offset {
		return fmt.Errorf("size %v and stride %v from %d on go beyond a storage of %d values", shape, stride, offset, count)
	}
	return nil
}

func ints(v any) ([]int64, bool) {
	t, ok := v.(tuple)
	if !ok || len(t) > maxRank {
		return nil, false
	}
	list := make([]int64, len(t))
	for i, v := range t {
		if list[i], ok = v.(int64); !ok {
			return nil, false
		}
	}
	return list, true
}

// contiguous reports whether the values lie row-major without gaps.
func (v *view) contiguous() bool {
	step := int64(1)
	for i := len(v.shape) - 1; i >= 0; i-- {
		if v.shape[i] == 0 {
			return true
		}
		if v.shape[i] > 1 && v.stride[i] != step {
			return false
		}
		step *= v.shape[i]
	}
	return true
}

func (v *view) tensor(file, name string, r io.ReaderAt) (safetensors.Tensor, error) {
	begin := v.begin + v.offset*v.width
	if v.contiguous() {
		return safetensors.NewTensor(file, name, v.dtype, v.shape, r, begin)
	}
	g := &gatherer{r: r, view: v, start: begin, values: 1}
	for _, n := range v.shape {
		g.values *= n
	}
	return safetensors.NewTensor(file, name, v.dtype, v.shape, g, 0)
}

// gatherer is the bytes of a view that is not contiguous, row-major.
type gatherer struct {
	r io.ReaderAt
	*view
	start, values int64 // the first byte in r, how many values
}

const (
	gatherValues = 1 << 18  // put in order at a time
	gatherGap    = 4 << 10  // bytes that are read rather than jumped over
	gatherWindow = 64 << 10 // bytes read at a time
)

// ReadAt implements io.ReaderAt.
func (g *gatherer) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, errors.New("negative offset")
	}
	for n < len(p) {
		first := off / g.width
		if first >= g.values {
			return n, io.EOF
		}
		skip := off % g.width
		need := (skip + int64(len(p)-n) + g.width - 1) / g.width
		part, err := g.gather(first, min(need, g.values-first, gatherValues))
		if err != nil {
			return n, err
		}
		k := copy(p[n:], part[skip:])
		n, off = n+k, off+int64(k)
	}
	return n, nil
}

// gather returns count values from first on. It reads them in the order of the file,
// since they may be far apart.
func (g *gatherer) gather(first, count int64) ([]byte, error) {
	// A value's place in the storage and, in the low bits, among those returned.
	places := make([]int64, count)
	index := make([]int64, len(g.shape))
	at := int64(0)
	for i, rest := len(g.shape)-1, first; i >= 0; i-- {
		index[i] = rest % g.shape[i]
		rest /= g.shape[i]
		at += index[i] * g.stride[i]
	}
	for k := range places {
		places[k] = at*gatherValues + int64(k)
		for i := len(index) - 1; i >= 0; i-- {
			index[i]++
			at += g.stride[i]
			if index[i] < g.shape[i] {
				break
			}
			at -= index[i] * g.stride[i]
			index[i] = 0
		}
	}
	slices.Sort(places)
	out := make([]byte, count*g.width)
	window := make([]byte, gatherWindow)
	from := func(i int) int64 { return places[i] / gatherValues * g.width }
	for len(places) > 0 {
		n, start := 1, from(0)
		for n < len(places) && from(n)-from(n-1) <= gatherGap && from(n)+g.width-start <= gatherWindow {
			n++
		}
		part := window[:from(n-1)+g.width-start]
		if k, err := g.r.ReadAt(part, g.start+start); err != nil && !(errors.Is(err, io.EOF) && k == len(part)) {
			return nil, err
		}
		for i, p := range places[:n] {
			copy(out[p%gatherValues*g.width:][:g.width], part[from(i)-start:])
		}
		places = places[n:]
	}
	return out, nil
}
