package weights

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/weights/onnx"
	"github.com/ddvla/ddvla/weights/safetensors"
)

// ErrTensors says that a checkpoint's tensors are not those of the architecture
// that its config.json describes.
var ErrTensors = errors.New("tensors do not fit the architecture")

// entry is one tensor of a checkpoint and how it goes into the graph.
type entry struct {
	name  string
	shape []int64
	as    form
}

// form is the layout of a tensor in the graph.
type form int

const (
	dead        form = iota // in every published checkpoint, read by no inference
	asStored                // unchanged
	transposed              // [out, in] to [in, out], the right-hand side of MatMul
	patchKernel             // [dim, 3, p, p] to [p*p*3, dim], for pixels in rows of RGB
	actionHead              // rows V-1, V-2, ... V-K as columns 0..K-1: [hidden, K]
)

// linear lists a torch.nn.Linear.
func linear(name string, in, out int, bias bool) []entry {
	list := []entry{{name + ".weight", []int64{int64(out), int64(in)}, transposed}}
	if bias {
		list = append(list, entry{name + ".bias", []int64{int64(out)}, asStored})
	}
	return list
}

// layerNorm lists a torch.nn.LayerNorm.
func layerNorm(name string, dim int) []entry {
	return []entry{{name + ".weight", []int64{int64(dim)}, asStored}, {name + ".bias", []int64{int64(dim)}, asStored}}
}

func unused(list []entry) []entry {
	for i := range list {
		list[i].as = dead
	}
	return list
}

// tensorSource is the tensors of a checkpoint, by the names of the inventory.
type tensorSource map[string]safetensors.Tensor

// add takes the tensors of r with prefix put before their names.
func (s tensorSource) add(r *safetensors.Reader, prefix string) error {
	for _, name := range r.Names() {
		if _, ok := s[prefix+name]; ok {
			return fmt.Errorf("%w: %s is in two files", ErrTensors, prefix+name)
		}
		s[prefix+name], _ = r.Tensor(name)
	}
	return nil
}

// compare lists every tensor that is missing, left over or of another shape.
func (s tensorSource) compare(inventory []entry) error {
	var faults []string
	known := make(map[string]bool, len(inventory))
	for _, e := range inventory {
		known[e.name] = true
		t, ok := s[e.name]
		switch {
		case !ok:
			faults = append(faults, fmt.Sprintf("missing   %s %v", e.name, e.shape))
		case !slices.Equal(t.Shape, e.shape):
			faults = append(faults, fmt.Sprintf("shape     %s is %v, expected %v", e.name, t.Shape, e.shape))
		}
	}
	for name, t := range s {
		if !known[name] {
			faults = append(faults, fmt.Sprintf("left over %s %v", name, t.Shape))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults)
	return fmt.Errorf("%w:\n  %s", ErrTensors, strings.Join(faults, "\n  "))
}

// write streams all live tensors of the inventory into the store.
func (s tensorSource) write(ctx context.Context, inventory []entry, tokens tokenIDs, store *onnx.Store) error {
	var values, turned []float32
	for _, e := range inventory {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.as == dead {
			continue
		}
		t, first, shape := s[e.name], int64(0), e.shape
		if e.as == actionHead {
			bins := int64(tokens.bins)
			first, shape = (tokens.base-bins)*shape[1], []int64{bins, shape[1]}
		}
		n := shape[0]
		for _, d := range shape[1:] {
			n *= d
		}
		values = resize(values, n)
		if err := t.Read(values, first); err != nil {
			return err
		}
		out := values
		switch e.as {
		case transposed:
			turned = resize(turned, n)
			transpose(turned, values, int(shape[0]), int(shape[1]), false)
			out, shape = turned, []int64{shape[1], shape[0]}
		case actionHead:
			turned = resize(turned, n)
			transpose(turned, values, int(shape[0]), int(shape[1]), true)
			out, shape = turned, []int64{shape[1], shape[0]}
		case patchKernel:
			turned = resize(turned, n)
			pixels := int(shape[2] * shape[3])
			pixelsFirst(turned, values, int(shape[0]), pixels)
			out, shape = turned, []int64{int64(3 * pixels), shape[0]}
		}
		if err := store.Add(e.name, shape, out); err != nil {
			return err
		}
	}
	return nil
}

func resize(buffer []float32, n int64) []float32 {
	if int64(cap(buffer)) < n {
		return make([]float32, n)
	}
	return buffer[:n]
}

// transpose turns rows x columns; with reverse the last row becomes column 0.
func transpose(dst, src []float32, rows, columns int, reverse bool) {
	// Square blocks keep both sides in cache.
	const block = 32
	for r0 := 0; r0 < rows; r0 += block {
		for c0 := 0; c0 < columns; c0 += block {
			for r := r0; r < min(r0+block, rows); r++ {
				to := r
				if reverse {
					to = rows - 1 - r
				}
				for c := c0; c < min(c0+block, columns); c++ {
					dst[c*rows+to] = src[r*columns+c]
				}
			}
		}
	}
}

// pixelsFirst turns a kernel [dim, 3, pixels] to [pixels, 3, dim].
func pixelsFirst(dst, src []float32, dim, pixels int) {
	for d := range dim {
		for c := range 3 {
			for p := range pixels {
				dst[(p*3+c)*dim+d] = src[(d*3+c)*pixels+p]
			}
		}
	}
}
