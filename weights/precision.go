package weights

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// numberTypes are the types in which parts of the network are stored and computed.
// Normalisations, softmaxes, GELUs, positions and lm_head are float32 in any of
// them: logits of 16 bits would tie.
type numberTypes struct {
	vision   onnx.Type // of the towers and the projector
	language onnx.Type // of all else; linear layers of the Llama may be integers
}

// halves are the precisions of 16 bits and that of 32.
var halves = map[string]onnx.Type{precisionFP32: onnx.Float32, precisionFP16: onnx.Float16, precisionBF16: onnx.BFloat16}

// typeNames are those of safetensors.
var typeNames = map[onnx.Type]string{onnx.Float32: "F32", onnx.Float16: "F16", onnx.BFloat16: "BF16"}

// types are those of checked options.
func (o *Options) types() numberTypes {
	t := numberTypes{vision: halves[o.VisionPrecision], language: halves[o.Activations]}
	integer := halves[o.Precision] == 0
	if o.Activations == "" {
		t.language = onnx.Float32
		if !integer {
			t.language = halves[o.Precision]
		}
	}
	if o.VisionPrecision == "" {
		t.vision = t.language
		if integer {
			t.vision = onnx.Float16
		}
	}
	return t
}

// checkPrecision refuses what cannot be combined.
func (o *Options) checkPrecision() error {
	known := []string{precisionFP32, precisionFP16, precisionBF16}
	integer := halves[o.Precision] == 0
	switch {
	case integer && o.Precision != precisionInt8 && o.Precision != precisionInt4:
		return fmt.Errorf("%w precision is %q, must be fp32, fp16, bf16, int8 or int4", ErrOption, o.Precision)
	case o.VisionPrecision != "" && !slices.Contains(known, o.VisionPrecision):
		return fmt.Errorf("%w vision-precision is %q, must be fp32, fp16 or bf16", ErrOption, o.VisionPrecision)
	case o.Activations != "" && !slices.Contains(known, o.Activations):
		return fmt.Errorf("%w activations is %q, must be fp32, fp16 or bf16", ErrOption, o.Activations)
	case o.Activations != "" && !integer && o.Activations != o.Precision:
		return fmt.Errorf("%w activations is %s, but the precision is %s, in which it computes too; it is for int8 and int4", ErrOption, o.Activations, o.Precision)
	case o.BlockSize != 0 && o.BlockSize != 32 && o.BlockSize != 64 && o.BlockSize != 128:
		return fmt.Errorf("%w block-size is %d, must be 32, 64 or 128", ErrOption, o.BlockSize)
	case o.BlockSize != 0 && !integer:
		return fmt.Errorf("%w block-size is given, but the precision is %s; it is for int8 and int4", ErrOption, o.Precision)
	case o.Asymmetric && !integer:
		return fmt.Errorf("%w asymmetric is given, but the precision is %s; it is for int8 and int4", ErrOption, o.Precision)
	case len(o.Observations) > 0 && !integer && o.types() == numberTypes{onnx.Float32, onnx.Float32}:
		return fmt.Errorf("%w observations are given, but all is fp32, which does no damage to measure on them; leave them out or choose another precision", ErrOption)
	}
	return nil
}

// manifestPrecision is a type as the manifest has it.
func manifestPrecision(t onnx.Type) bundle.Precision {
	switch t {
	case onnx.Float16:
		return bundle.Float16
	case onnx.BFloat16:
		return bundle.BFloat16
	}
	return bundle.Float32
}

// elem is the type of an entry in the weights file where it is no integer.
func (n *network) elem(e entry) onnx.Type {
	switch {
	case e.as == exact || e.as == headRows:
		return onnx.Float32
	case strings.HasPrefix(e.name, visionPart+".") || strings.HasPrefix(e.name, "projector."):
		return n.types.vision
	}
	return n.types.language
}

// unchecked says what else is not known where the damage is not: nothing, or whether
// numbers are too large for float16.
func (n *network) unchecked() string {
	if n.types.vision == onnx.Float16 || n.types.language == onnx.Float16 {
		return ", nor whether float16 holds its numbers"
	}
	return ""
}

// plain reports whether all is float32.
func (n *network) plain() bool {
	return n.types == numberTypes{onnx.Float32, onnx.Float32} && n.llama.quantised == nil
}
