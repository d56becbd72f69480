package weights

import (
	"fmt"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// Plan is what an export would do.
type Plan struct {
	// Manifest is the bundle's, without the hashes of files.
	Manifest bundle.Manifest
	// Files that are read, by name; the adapter's are under lora/.
	Files []string
	// Tensors of the checkpoint, in the order in which they are written.
	Tensors []PlannedTensor
	// StoreBytes is the size of the bundle's weights file, tables and padding
	// included.
	StoreBytes int64
}

// PlannedTensor is one tensor of the checkpoint and what becomes of it.
type PlannedTensor struct {
	Name, File, DType string
	Shape             []int64
	// Form says how it is laid out in the graph: "as stored", "transposed",
	// "pixels first" (patch kernels), "rows of the head" (those of the bins, or of
	// all words and bins, reversed and transposed), "in blocks" (quantised), or
	// "dead" where no inference reads it and it is left out.
	Form string
	// Stored is its shape in the graph, nil where it is dead, StoredType what its values are
	// there: "F32", "F16", "BF16", "INT8" or "INT4". The bytes of integers include their scales and zero
	// points.
	Stored     []int64
	StoredType string
	// Rank of the LoRA adapter that is merged into it, 0 for none.
	Rank int64
	// Bytes it has in the checkpoint and in the graph.
	Bytes, StoredBytes int64
}

// Dead reports whether the tensor is left out.
func (t *PlannedTensor) Dead() bool { return t.Stored == nil }

var formNames = map[form]string{
	dead: "dead", asStored: "as stored", exact: "as stored", transposed: "transposed", patchKernel: "pixels first", headRows: "rows of the head", inBlocks: "in blocks",
}

// MakePlan checks all that Export checks before it reads weights, and writes
// nothing. Out may be empty.
func MakePlan(o Options) (*Plan, error) {
	j, err := prepare(o)
	if err != nil {
		return nil, err
	}
	p := &Plan{Manifest: j.manifest, StoreBytes: j.network.storeBytes()}
	for _, f := range j.checkpoint.files {
		p.Files = append(p.Files, f.label)
	}
	for _, e := range j.network.inventory() {
		t := j.checkpoint.tensors[e.name]
		planned := PlannedTensor{
			Name: e.name, File: t.file, DType: t.dtype, Shape: t.shape, Form: formNames[e.as], Rank: t.rank, Bytes: t.bytes,
		}
		if e.as != dead {
			_, _, planned.Stored = e.stored(j.network.tokens)
			planned.StoredType = typeNames[j.network.elem(e)]
			if e.as == inBlocks {
				planned.StoredType = strings.ToUpper(string(j.manifest.Model.Precision))
			}
			for _, part := range j.network.graphTensors(e) {
				planned.StoredBytes += part.bytes()
			}
		}
		p.Tensors = append(p.Tensors, planned)
	}
	if err := j.checkpoint.Close(); err != nil {
		return nil, fmt.Errorf("export %s: %w", o.Checkpoint, err)
	}
	return p, nil
}

// parameters counts the values that both graphs share; the tables of positions
// are computed, not learned.
func (n *network) parameters() int64 {
	count := int64(0)
	for _, e := range n.inventory() {
		if e.as != dead {
			_, _, shape := e.stored(n.tokens)
			count += product(shape)
		}
	}
	return count
}

// storeBytes is the size of the weights file.
func (n *network) storeBytes() int64 {
	size := int64(0)
	for _, t := range n.allTensors() {
		size = onnx.Align(size) + t.bytes()
	}
	return size
}

// allTensors are those of the weights file, in order.
func (n *network) allTensors() (list []graphTensor) {
	for _, e := range n.inventory() {
		list = append(list, n.graphTensors(e)...)
	}
	rope := n.llama.ropeShape()
	return append(list, graphTensor{cosName, onnx.Float32, rope}, graphTensor{sinName, onnx.Float32, rope})
}
