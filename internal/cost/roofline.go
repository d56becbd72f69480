package cost

// Device is what a GPU's maker says of it: dense rates, without sparsity.
type Device struct {
	Name      string
	Bandwidth float64 // of its memory, bytes a second
	FP16      float64 // products of float16 summed in float32, operations a second
	INT8      float64 // products of int8, operations a second
	Memory    float64 // bytes
	Source    string
}

// Devices are those of docs/performance.md.
func Devices() []Device {
	return []Device{
		{"RTX 4090", 1008e9, 165.2e12, 660.6e12, 24e9,
			"NVIDIA Ada GPU Architecture whitepaper, appendix A: 1008 GB/s; 165.2 TFLOPS FP16 with FP32 accumulation (330.3 with FP16); 660.6 TOPS INT8"},
		{"L40S", 864e9, 362.05e12, 733e12, 48e9,
			"NVIDIA L40S datasheet: 864 GB/s; 362.05 TFLOPS FP16; 733 TOPS INT8"},
		{"H100 SXM", 3350e9, 989.4e12, 1978.9e12, 80e9,
			"NVIDIA H100 datasheet: 3.35 TB/s; 1979 TFLOPS FP16 and 3958 TOPS INT8 with sparsity, half of it dense; digits of the Hopper whitepaper"},
		{"Jetson Thor", 273e9, 258.8e12, 517.5e12, 128e9,
			"NVIDIA Jetson Thor (T5000) datasheet: 273 GB/s; 2070 TFLOPS FP4 with sparsity. Derived, not published so: half of it dense, half of that for each doubling of the width, INT8 as FP8"},
	}
}

// Precision is how weights are stored and products taken.
type Precision struct {
	Name    string
	Linear  float64 // bytes of a weight of the Llama's linear layers, its share of a scale included
	Integer bool    // products of the Llama are of int8
}

// Precisions are those of an export, and last one that no export has: int8 products.
func Precisions() []Precision {
	const scale = 2. / 32 // a float16 for each block
	return []Precision{
		{"fp16", 2, false},
		{"int8", 1 + scale, false},
		{"int4", 0.5 + scale, false},
		{"int8 products", 1, true},
	}
}

// Bytes are those that pass the memory: weights once, activations in 16 bits.
func (c Cost) Bytes(p Precision) float64 {
	return c.Linear*p.Linear + 4*c.Head + 2*c.Other + 2*c.Values
}

// Seconds is the least time that a stage takes on a device: the longer of its operations and its bytes.
// Integer products are those of the Llama: a stage with no such weights has none.
func (d Device) Seconds(c Cost, p Precision) float64 { return max(d.compute(c, p), d.memory(c, p)) }

// ByMemory reports whether it is the bytes that take longer.
func (d Device) ByMemory(c Cost, p Precision) bool { return d.memory(c, p) > d.compute(c, p) }

func (d Device) compute(c Cost, p Precision) float64 {
	if p.Integer && c.Linear > 0 {
		return c.FLOPs / d.INT8
	}
	return c.FLOPs / d.FP16
}

func (d Device) memory(c Cost, p Precision) float64 { return c.Bytes(p) / d.Bandwidth }

// Chunk is the least time of a chunk, in seconds.
func (d Device) Chunk(m Model, w Way, rounds int, p Precision) float64 {
	sum := 0.0
	for _, stage := range w.Stages(m, rounds) {
		sum += d.Seconds(stage, p)
	}
	return sum
}
