package onnx

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	"google.golang.org/protobuf/proto"
)

// ErrModel says that a file is no ONNX model.
var ErrModel = errors.New("not an ONNX model")

// Description is what a model file says about itself. Weights in other files are
// not read.
type Description struct {
	Opset, IR       int64
	Inputs, Outputs []Port
	// Tensors are the weights and constants, in the order of the file.
	Tensors []Tensor
	// Nodes counts the operators, those of loop bodies and branches included.
	Nodes int
}

// Port is an input or output. A dimension is a number, or a name where a run
// decides.
type Port struct {
	Name, Type string
	Dims       []string
}

// String writes float32[B,4].
func (p Port) String() string { return p.Type + "[" + strings.Join(p.Dims, ",") + "]" }

// Tensor is a weight or a constant.
type Tensor struct {
	Name, Type string
	Dims       []int64
	// File is where its bytes lie beside the model, empty for the model itself.
	File          string
	Offset, Bytes int64
}

// typeNames are those of Go and NumPy.
var typeNames = map[pb.TensorProto_DataType]string{
	pb.TensorProto_FLOAT: "float32", pb.TensorProto_DOUBLE: "float64", pb.TensorProto_FLOAT16: "float16", pb.TensorProto_BFLOAT16: "bfloat16",
}

func typeName(t pb.TensorProto_DataType) string {
	if name, ok := typeNames[t]; ok {
		return name
	}
	return strings.ToLower(t.String())
}

// typeSizes are bytes of an element.
var typeSizes = map[pb.TensorProto_DataType]int64{
	pb.TensorProto_FLOAT: 4, pb.TensorProto_DOUBLE: 8, pb.TensorProto_FLOAT16: 2, pb.TensorProto_BFLOAT16: 2,
	pb.TensorProto_UINT8: 1, pb.TensorProto_INT8: 1, pb.TensorProto_BOOL: 1, pb.TensorProto_INT32: 4, pb.TensorProto_INT64: 8,
}

// Describe reads a model file.
func Describe(path string) (*Description, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Size() >= maxModel {
		return nil, fmt.Errorf("%s: %w: %d bytes, a model file holds less than %d", path, ErrModel, info.Size(), maxModel)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d, err := describe(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

func describe(raw []byte) (*Description, error) {
	var m pb.ModelProto
	if err := proto.Unmarshal(raw, &m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrModel, err)
	}
	g := m.GetGraph()
	if g == nil {
		return nil, fmt.Errorf("%w: it holds no graph", ErrModel)
	}
	d := &Description{IR: m.GetIrVersion(), Nodes: countNodes(g)}
	for _, o := range m.GetOpsetImport() {
		if o.GetDomain() == "" {
			d.Opset = o.GetVersion()
		}
	}
	weights := map[string]bool{}
	for _, t := range g.GetInitializer() {
		weights[t.GetName()] = true
		described, err := describeTensor(t)
		if err != nil {
			return nil, err
		}
		d.Tensors = append(d.Tensors, described)
	}
	for _, v := range g.GetInput() {
		// Weights may be listed among the inputs; they are not fed.
		if !weights[v.GetName()] {
			d.Inputs = append(d.Inputs, describePort(v))
		}
	}
	for _, v := range g.GetOutput() {
		d.Outputs = append(d.Outputs, describePort(v))
	}
	return d, nil
}

func countNodes(g *pb.GraphProto) int {
	n := len(g.GetNode())
	for _, node := range g.GetNode() {
		for _, a := range node.GetAttribute() {
			if a.GetG() != nil {
				n += countNodes(a.GetG())
			}
		}
	}
	return n
}

func describePort(v *pb.ValueInfoProto) Port {
	t := v.GetType().GetTensorType()
	p := Port{Name: v.GetName(), Type: typeName(pb.TensorProto_DataType(t.GetElemType()))}
	for _, d := range t.GetShape().GetDim() {
		switch x := d.GetValue().(type) {
		case *pb.TensorShapeProto_Dimension_DimValue:
			p.Dims = append(p.Dims, strconv.FormatInt(x.DimValue, 10))
		case *pb.TensorShapeProto_Dimension_DimParam:
			p.Dims = append(p.Dims, x.DimParam)
		default:
			p.Dims = append(p.Dims, "?")
		}
	}
	return p
}

func describeTensor(t *pb.TensorProto) (Tensor, error) {
	kind := pb.TensorProto_DataType(t.GetDataType())
	d := Tensor{Name: t.GetName(), Type: typeName(kind), Dims: t.GetDims()}
	n, ok := elements(d.Dims)
	size, known := typeSizes[kind]
	if !ok || !known {
		return d, fmt.Errorf("%w: tensor %q is %s%v", ErrModel, d.Name, d.Type, d.Dims)
	}
	d.Bytes = n * size
	if t.GetDataLocation() != pb.TensorProto_EXTERNAL {
		return d, nil
	}
	length := d.Bytes
	for _, e := range t.GetExternalData() {
		var err error
		switch e.GetKey() {
		case "location":
			d.File = e.GetValue()
		case "offset":
			d.Offset, err = strconv.ParseInt(e.GetValue(), 10, 64)
		case "length":
			length, err = strconv.ParseInt(e.GetValue(), 10, 64)
		}
		if err != nil {
			return d, fmt.Errorf("%w: tensor %q: %s %q", ErrModel, d.Name, e.GetKey(), e.GetValue())
		}
	}
	if d.File == "" || d.Offset < 0 || length != d.Bytes {
		return d, fmt.Errorf("%w: tensor %q of %d bytes lies in %q at %d, %d bytes", ErrModel, d.Name, d.Bytes, d.File, d.Offset, length)
	}
	return d, nil
}
