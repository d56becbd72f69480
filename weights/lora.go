package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas32"
)

// ErrLoRA says that an adapter is of a kind that is not merged, or not one of
// this checkpoint.
var ErrLoRA = errors.New("adapter")

const (
	adapterConfigFile = "adapter_config.json"
	adapterFile       = "adapter_model.safetensors"
	// adapterBinary is what PEFT writes with safe_serialization=False, as older versions did.
	adapterBinary = "adapter_model.bin"
	// adapterPrefix stands before the names of the modules in an adapter.
	adapterPrefix = "base_model.model."
)

// adapterConfig is what is read of adapter_config.json (PEFT's LoraConfig).
type adapterConfig struct {
	Kind    string          `json:"peft_type"`
	Rank    int64           `json:"r"`
	Alpha   float64         `json:"lora_alpha"`
	RSLoRA  bool            `json:"use_rslora"`
	Bias    string          `json:"bias"`
	Init    json.RawMessage `json:"init_lora_weights"`
	Targets json.RawMessage `json:"target_modules"`
}

// unsupported are keys of adapter_config.json that change what a merge is, each
// with the name of its kind. They are absent, null, false or empty in an
// ordinary LoRA.
var unsupported = []struct{ key, kind string }{
	{"use_dora", "DoRA"}, {"use_qalora", "QALoRA"}, {"alora_invocation_tokens", "aLoRA"}, {"arrow_config", "Arrow"},
	{"fan_in_fan_out", "transposed weights"}, {"lora_bias", "LoRA with biases"},
	{"rank_pattern", "ranks by module"}, {"alpha_pattern", "alphas by module"},
	{"modules_to_save", "whole modules beside LoRA"}, {"trainable_token_indices", "trained tokens beside LoRA"},
	{"target_parameters", "LoRA on bare parameters"}, {"layer_replication", "replicated layers"},
}

// adapter is an opened LoRA adapter.
type adapter struct {
	config adapterConfig
	raw    map[string]json.RawMessage // of adapter_config.json
	tensorFile
	folder *folder
}

// openAdapter opens a directory that PEFT's save_pretrained wrote.
func openAdapter(dir string) (_ *adapter, err error) {
	a := &adapter{}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("adapter %s: %w", dir, err), a.Close())
		}
	}()
	if a.folder, err = openFolder(dir); err != nil {
		return nil, err
	}
	if err := readJSON(a.folder, adapterConfigFile, &a.raw); err != nil {
		return nil, err
	}
	if err := readJSON(a.folder, adapterConfigFile, &a.config); err != nil {
		return nil, err
	}
	if err := a.check(); err != nil {
		return nil, err
	}
	name := adapterFile
	if _, err := a.folder.Stat(adapterBinary); err == nil {
		if _, err := a.folder.Stat(adapterFile); err == nil {
			return nil, fmt.Errorf("%w: it has both %s and %s; move one out of the directory", ErrLoRA, adapterFile, adapterBinary)
		}
		name = adapterBinary
	}
	a.tensorFile, err = openTensors(a.folder, name)
	return a, err
}

// Close closes the files.
func (a *adapter) Close() error {
	var errs []error
	if a.tensorFile != nil {
		errs = append(errs, a.tensorFile.Close())
	}
	if a.folder != nil {
		errs = append(errs, a.folder.Close())
	}
	return errors.Join(errs...)
}

func (a *adapter) check() error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s %s", ErrLoRA, adapterConfigFile, fmt.Sprintf(format, args...))
	}
	c := a.config
	if c.Kind != "LORA" {
		return refuse("peft_type is %q; only LORA is merged", c.Kind)
	}
	for _, u := range unsupported {
		switch v := string(a.raw[u.key]); v {
		case "", "null", "false", "{}", "[]":
		default:
			return refuse("%s is %.200s: %s is not merged; merge it with PEFT and export the merged checkpoint", u.key, v, u.kind)
		}
	}
	switch v := string(c.Init); v {
	case "", "null", "true", "false", `"gaussian"`, `"eva"`, `"orthogonal"`:
	default:
		// PiSSA and its like change the base weights when they are set up.
		return refuse("init_lora_weights is %.200s, which changes the base weights; merge it with PEFT and export the merged checkpoint", v)
	}
	switch {
	case c.Bias != "" && c.Bias != "none":
		return refuse("bias is %q; biases trained beside LoRA are not merged, merge with PEFT and export the merged checkpoint", c.Bias)
	case c.Rank < 1 || c.Rank > 1<<16:
		return refuse("r is %d", c.Rank)
	case math.IsNaN(c.Alpha) || math.IsInf(c.Alpha, 0) || c.Alpha == 0:
		return refuse("lora_alpha is %g", c.Alpha)
	}
	return nil
}

// scale is what the product of B and A is multiplied with.
func (c *adapterConfig) scale() float32 {
	if c.RSLoRA {
		return float32(c.Alpha / math.Sqrt(float64(c.Rank)))
	}
	return float32(c.Alpha / float64(c.Rank))
}

// targets reports whether the adapter was set up for a module, by PEFT's rule:
// the whole name or its end after a dot. A pattern (one string) is not
// evaluated, and neither is a choice of layers: then it is false for all.
func (a *adapter) targets(module string) bool {
	for _, key := range []string{"layers_to_transform", "layers_pattern", "exclude_modules"} {
		if v := string(a.raw[key]); v != "" && v != "null" && v != "[]" {
			return false
		}
	}
	var names []string
	if json.Unmarshal(a.config.Targets, &names) != nil {
		return false
	}
	return slices.ContainsFunc(names, func(name string) bool { return module == name || strings.HasSuffix(module, "."+name) })
}

// pair is the two tensors of one module: A [rank, in] and B [out, rank], with
// the sizes of a kernel behind them where the module is a convolution.
type pair struct{ a, b string }

// merge adds the adapter to the tensors that it was trained for: they read as
// W + scale B A, summed in float32. inventory is that of the base model. It
// returns the number of modules.
func (a *adapter) merge(s tensorSource, inventory []entry) (int, error) {
	var faults []string
	modules := map[string]pair{}
	for _, name := range a.Names() {
		t, _ := a.Tensor(name)
		module, isA := strings.CutSuffix(name, ".lora_A.weight")
		if !isA {
			var isB bool
			if module, isB = strings.CutSuffix(name, ".lora_B.weight"); !isB {
				faults = append(faults, fmt.Sprintf("left over %s %v", name, t.Shape))
				continue
			}
		}
		module, ok := strings.CutPrefix(module, adapterPrefix)
		if !ok {
			faults = append(faults, fmt.Sprintf("left over %s %v: the name does not start with %s", name, t.Shape, adapterPrefix))
			continue
		}
		p := modules[module]
		if isA {
			p.a = name
		} else {
			p.b = name
		}
		modules[module] = p
	}
	merged := 0
	for _, e := range inventory {
		module, ok := strings.CutSuffix(e.name, ".weight")
		if !ok || !e.adaptable() {
			continue
		}
		p, ok := modules[module]
		if !ok {
			if a.targets(module) {
				faults = append(faults, fmt.Sprintf("missing   %s%s.lora_A.weight, .lora_B.weight: target_modules names the module", adapterPrefix, module))
			}
			continue
		}
		delete(modules, module)
		t, err := a.sum(s[e.name], e, p)
		if err != nil {
			faults = append(faults, err.Error())
			continue
		}
		s[e.name] = t
		merged++
	}
	for module, p := range modules {
		for _, name := range []string{p.a, p.b} {
			if name != "" {
				t, _ := a.Tensor(name)
				faults = append(faults, fmt.Sprintf("left over %s %v: the model has no linear layer or patch embedding %s", name, t.Shape, module))
			}
		}
	}
	if len(faults) > 0 {
		slices.Sort(faults)
		return 0, fmt.Errorf("%w: its tensors do not fit the checkpoint:\n  %s", ErrLoRA, strings.Join(faults, "\n  "))
	}
	if merged == 0 {
		return 0, fmt.Errorf("%w: %s has no tensors", ErrLoRA, strings.Join(a.Files(), ", "))
	}
	return merged, nil
}

// adaptable reports whether e is the weight of a linear layer or a convolution of
// the model that PEFT wraps, which the proprio projector and the action head stand
// beside.
func (e entry) adaptable() bool {
	beside := strings.HasPrefix(e.name, proprioPrefix) || strings.HasPrefix(e.name, headPrefix)
	return e.name != embedName && !beside && (len(e.shape) == 2 || len(e.shape) == 4)
}

// sum is the base tensor of an entry plus its part of the adapter.
func (a *adapter) sum(base diskTensor, e entry, p pair) (diskTensor, error) {
	if p.a == "" || p.b == "" {
		return base, fmt.Errorf("missing   the other half of %s%s", p.a, p.b)
	}
	up, _ := a.Tensor(p.b)
	down, _ := a.Tensor(p.a)
	rank, out, in := a.config.Rank, e.shape[0], product(e.shape[1:])
	shapeA, shapeB := append([]int64{rank}, e.shape[1:]...), []int64{out, rank}
	if len(e.shape) == 4 {
		shapeB = append(shapeB, 1, 1)
	}
	if !slices.Equal(down.Shape, shapeA) || !slices.Equal(up.Shape, shapeB) {
		return base, fmt.Errorf("shape     %s is %v and %s %v, expected %v and %v (r is %d)", p.a, down.Shape, p.b, up.Shape, shapeA, shapeB, rank)
	}
	if !down.DType.Converts() || !up.DType.Converts() {
		return base, fmt.Errorf("type      %s is %s and %s %s, expected F32, F16 or BF16", p.a, down.DType, p.b, up.DType)
	}
	scale, read := a.config.scale(), base.read
	base.rank = rank
	base.read = func(dst []float32, first int64) error {
		if err := read(dst, first); err != nil {
			return err
		}
		rows := int64(len(dst)) / in
		if first%in != 0 || rows*in != int64(len(dst)) {
			return fmt.Errorf("%s: values %d..%d are no whole rows", e.name, first, first+int64(len(dst)))
		}
		// LoRA's products are small beside the weights: they are read each time.
		b, d := make([]float32, rows*rank), make([]float32, rank*in)
		if err := up.Read(b, first/in*rank); err != nil {
			return err
		}
		if err := down.Read(d, 0); err != nil {
			return err
		}
		blas32.Gemm(blas.NoTrans, blas.NoTrans, scale, matrix(rows, rank, b), matrix(rank, in, d), 1, matrix(rows, in, dst))
		return nil
	}
	return base, nil
}

func matrix(rows, columns int64, values []float32) blas32.General {
	return blas32.General{Rows: int(rows), Cols: int(columns), Stride: int(columns), Data: values}
}
