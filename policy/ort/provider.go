package ort

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/ddvla/ddvla/policy/bundle"
)

// ErrProvider says that the execution provider asked for cannot be had.
var ErrProvider = errors.New("execution provider cannot be used")

// checkPrecision refuses a network that the provider has no kernels for.
func (r *Runtime) checkPrecision(b *bundle.Bundle) error {
	if r.config.Provider == CPU && b.Manifest.Model.HasBFloat16() {
		return fmt.Errorf("bundle %s: %w: it computes in bfloat16, for which ONNX Runtime's CPU provider has no kernels; set runtime.provider to cuda, or export without bf16 in --precision, --activations and --vision-precision",
			b.Dir, ErrProvider)
	}
	return nil
}

// Check tells whether the configured provider can be had and computes what the bundle
// has, without loading a graph.
func (r *Runtime) Check(b *bundle.Bundle) error {
	if err := r.checkPrecision(b); err != nil {
		return err
	}
	o, err := r.options()
	if err != nil {
		return err
	}
	return o.Destroy()
}

// appendProvider adds the configured provider. TensorRT leaves what it cannot
// do to CUDA, which is therefore appended too.
func (r *Runtime) appendProvider(o *onnxruntime.SessionOptions) error {
	var err error
	switch r.config.Provider {
	case CUDA:
		err = r.appendCUDA(o)
	case TensorRT:
		if err = r.appendTensorRT(o); err == nil {
			err = r.appendCUDA(o)
		}
	}
	if err != nil {
		return fmt.Errorf("onnxruntime: %w: %s: %w; install the GPU build of ONNX Runtime %s with the CUDA libraries it names where %s lies, or choose the provider cpu (a node's runtime.provider)",
			ErrProvider, r.config.Provider, err, r.library.version, r.library.path)
	}
	return nil
}

func (r *Runtime) appendCUDA(o *onnxruntime.SessionOptions) error {
	p, err := onnxruntime.NewCUDAProviderOptions()
	if err != nil {
		return err
	}
	err = p.Update(cudaOptions(r.config.Device))
	if err == nil {
		err = o.AppendExecutionProviderCUDA(p)
	}
	return errors.Join(err, p.Destroy())
}

// cudaOptions are the settings of the CUDA provider. By default it rounds the factors
// of float32 matrix products to the 11 significant bits of TensorFloat-32
// (github.com/microsoft/onnxruntime, pull request 19357), which are those of float16:
// what the manifest calls float32, the head's logits above all, would not be.
func cudaOptions(device int) map[string]string {
	return map[string]string{"device_id": strconv.Itoa(device), "use_tf32": "0"}
}

func (r *Runtime) appendTensorRT(o *onnxruntime.SessionOptions) error {
	p, err := onnxruntime.NewTensorRTProviderOptions()
	if err != nil {
		return err
	}
	options, err := tensorRTOptions(r.config)
	if err == nil {
		err = p.Update(options)
	}
	if err == nil {
		err = o.AppendExecutionProviderTensorRT(p)
	}
	return errors.Join(err, p.Destroy())
}

// tensorRTOptions are the settings of the TensorRT provider, whose cache directory
// they make. Names are those of ONNX Runtime's documentation of the provider.
func tensorRTOptions(c Config) (map[string]string, error) {
	cache := c.EngineCache
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return nil, fmt.Errorf("no directory to keep engines in: %w; set runtime.engine_cache", err)
		}
		cache = filepath.Join(user, "ddvla", "tensorrt")
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return nil, fmt.Errorf("runtime.engine_cache: %w", err)
	}
	options := map[string]string{
		"device_id":               strconv.Itoa(c.Device),
		"trt_engine_cache_enable": "1", "trt_engine_cache_path": cache,
		"trt_timing_cache_enable": "1", "trt_timing_cache_path": cache,
	}
	if c.EngineHash != "" {
		options["trt_engine_cache_prefix"] = c.EngineHash
	}
	return options, nil
}
