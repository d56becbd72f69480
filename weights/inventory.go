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
	exact                   // unchanged, and float32 whatever the precision: of normalisations
	transposed              // [out, in] to [in, out], the right-hand side of MatMul
	patchKernel             // [dim, 3, p, p] to [p*p*3, dim], for pixels in rows of RGB
	inBlocks                // [out, in], its rows quantised in blocks (quantise.go)
	headRows                // rows V-1, V-2, ... as columns, the K bins first: [hidden, K or V]
)

// stored returns the part of a tensor that goes into the graph, rows first and
// on, and its shape there; quantised it is in several tensors (graphTensors), and the
// shape is that of the matrix.
func (e entry) stored(tokens tokenIDs) (first int64, part, shape []int64) {
	s := e.shape
	switch e.as {
	case transposed:
		return 0, s, []int64{s[1], s[0]}
	case patchKernel:
		return 0, s, []int64{3 * s[2] * s[3], s[0]}
	case headRows:
		rows := tokens.headRows()
		return tokens.base - rows, []int64{rows, s[1]}, []int64{s[1], rows}
	}
	return 0, s, s
}

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
	return []entry{{name + ".weight", []int64{int64(dim)}, exact}, {name + ".bias", []int64{int64(dim)}, exact}}
}

func unused(list []entry) []entry {
	for i := range list {
		list[i].as = dead
	}
	return list
}

// diskTensor is one tensor of a checkpoint; nothing is read until read is called, which
// converts len(dst) values from the one at index first (row-major).
type diskTensor struct {
	shape       []int64
	dtype, file string
	bytes       int64
	rank        int64 // of the LoRA that is merged into it, else 0
	read        func(dst []float32, first int64) error
}

// tensorSource is the tensors of a checkpoint, by the names of the inventory.
type tensorSource map[string]diskTensor

// compare lists every tensor that is missing, left over, of another shape, or of a
// type that is not read.
func (s tensorSource) compare(inventory []entry) error {
	var faults []string
	known := make(map[string]bool, len(inventory))
	for _, e := range inventory {
		known[e.name] = true
		t, ok := s[e.name]
		switch {
		case !ok:
			faults = append(faults, fmt.Sprintf("missing   %s %v", e.name, e.shape))
		case !slices.Equal(t.shape, e.shape):
			faults = append(faults, fmt.Sprintf("shape     %s is %v, expected %v", e.name, t.shape, e.shape))
		case e.as != dead && !safetensors.DType(t.dtype).Converts():
			faults = append(faults, fmt.Sprintf("type      %s is %s, expected F32, F16 or BF16", e.name, t.dtype))
		}
	}
	for name, t := range s {
		if !known[name] {
			faults = append(faults, fmt.Sprintf("left over %s %v", name, t.shape))
		}
	}
	if len(faults) == 0 {
		return nil
	}
	slices.Sort(faults)
	return fmt.Errorf("%w:\n  %s", ErrTensors, strings.Join(faults, "\n  "))
}

// write streams the live tensors of the network that are wanted into the store.
func (s tensorSource) write(ctx context.Context, n *network, store *onnx.Store, wanted func(name string) bool) error {
	var values, turned []float32
	for _, e := range n.inventory() {
		if err := ctx.Err(); err != nil {
			return err
		}
		if e.as == dead || !wanted(e.name) {
			continue
		}
		row, part, shape := e.stored(n.tokens)
		if e.as == asStored || e.as == exact {
			if err := store.Stream(e.name, n.elem(e), shape, s[e.name].read); err != nil {
				return err
			}
			continue
		}
		count := product(part)
		values = resize(values, count)
		if err := s[e.name].read(values, row*product(part[1:])); err != nil {
			return err
		}
		if e.as == inBlocks {
			if err := n.llama.quantised.add(store, e, values, n.types.language); err != nil {
				return err
			}
			continue
		}
		turned = resize(turned, count)
		out := turned
		switch e.as {
		case transposed, headRows:
			transpose(out, values, int(part[0]), int(part[1]), e.as == headRows)
		case patchKernel:
			pixelsFirst(out, values, int(part[0]), int(part[2]*part[3]))
		}
		if err := store.AddAs(e.name, n.elem(e), shape, out); err != nil {
			return err
		}
	}
	return nil
}

func product(shape []int64) int64 {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	return n
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
