// Package ort runs the graphs of a policy bundle in ONNX Runtime: the fused
// graph, which does a whole chunk in one call, and the step graph, one round of
// the network for the Go decoder in policy/decode.
//
// Open finds and loads the library, Runtime.Fused and Runtime.Step load a graph
// and compare its inputs and outputs with the bundle's manifest. A provider that
// cannot be had is an error, never a silent fall back to the CPU.
package ort

import (
	"errors"
	"fmt"
	"sync"

	onnxruntime "github.com/yalue/onnxruntime_go"
	"go.uber.org/zap"
)

// Provider is where the graph runs.
type Provider string

// Providers.
const (
	CPU      Provider = "cpu"
	CUDA     Provider = "cuda"
	TensorRT Provider = "tensorrt"
)

// Config says which library runs the graphs, where, and with how many threads.
type Config struct {
	// Library is the path of libonnxruntime.so or of the directory it lies in;
	// "" searches (see Open).
	Library string
	// Provider is cpu, cuda or tensorrt; "" is cpu.
	Provider Provider
	// Device is the number of the GPU, from 0.
	Device int
	// EngineCache is the directory in which TensorRT keeps the engines that it builds,
	// which takes minutes, for the next start; "" is ddvla/tensorrt in the user's cache
	// directory. Other providers keep none.
	EngineCache string
	// EngineHash tells the engines of one graph from those of others in EngineCache;
	// "" takes TensorRT's own name for a graph, which does not look at its weights.
	EngineHash string
	// Threads share one operator on the CPU; 0 is one per physical core.
	Threads int
	// Logger tells what was loaded and which nodes a GPU provider left to the
	// CPU; nil is silent.
	Logger *zap.Logger
}

func (c Config) validate() error {
	switch c.Provider {
	case CPU, CUDA, TensorRT:
	default:
		return fmt.Errorf("onnxruntime: provider is %q, must be cpu, cuda or tensorrt", string(c.Provider))
	}
	if c.Device < 0 {
		return fmt.Errorf("onnxruntime: device is %d, must not be negative", c.Device)
	}
	if c.Threads < 0 || c.Threads > 1024 {
		return fmt.Errorf("onnxruntime: threads is %d, must be 0..1024", c.Threads)
	}
	return nil
}

// environment is the one ONNX Runtime of this process. The library keeps its
// environment, and the binding its function table, in variables of the process,
// so their owner is one too; Runtimes count as its users.
var environment struct {
	sync.Mutex
	users   int
	library library
}

// Runtime is an open ONNX Runtime. Its methods may be called from several
// goroutines.
type Runtime struct {
	config  Config
	library library
	close   sync.Once
}

// Open loads ONNX Runtime. It is looked for, in this order: at config.Library;
// at $DDVLA_ORT_LIBRARY; beside the executable and in lib beside the
// executable's directory; in .deps/onnxruntime of the working directory and of
// those above it; where the system's loader looks. The first two, if set, are
// final. Close gives it back.
func Open(config Config) (*Runtime, error) {
	if config.Provider == "" {
		config.Provider = CPU
	}
	if config.Logger == nil {
		config.Logger = zap.NewNop()
	}
	if err := config.validate(); err != nil {
		return nil, err
	}
	environment.Lock()
	defer environment.Unlock()
	lib := environment.library
	if environment.users == 0 || config.Library != "" {
		var err error
		if lib, err = newSearch(config.Library).find(); err != nil {
			return nil, err
		}
	}
	if environment.users > 0 && lib != environment.library {
		return nil, fmt.Errorf("onnxruntime: this process already uses %s, it cannot load %s too", environment.library.path, lib.path)
	}
	if environment.users == 0 {
		onnxruntime.SetSharedLibraryPath(lib.path)
		if err := onnxruntime.InitializeEnvironment(onnxruntime.WithLogLevelFatal()); err != nil {
			return nil, fmt.Errorf("onnxruntime: library %s: %w", lib.path, err)
		}
		environment.library = lib
	}
	environment.users++
	config.Logger.Info("ONNX Runtime loaded", zap.String("library", lib.path), zap.String("version", lib.version),
		zap.String("provider", string(config.Provider)))
	return &Runtime{config: config, library: lib}, nil
}

// Version returns the version of the library, "1.30.0".
func (r *Runtime) Version() string { return r.library.version }

// Library returns the path the library was loaded from, or the name under which
// the system's loader found it.
func (r *Runtime) Library() string { return r.library.path }

// Close gives the runtime back. Sessions made with it must be closed before.
func (r *Runtime) Close() error {
	var err error
	r.close.Do(func() {
		environment.Lock()
		defer environment.Unlock()
		if environment.users--; environment.users == 0 {
			err = onnxruntime.DestroyEnvironment()
		}
	})
	if err != nil {
		return fmt.Errorf("onnxruntime: %w", err)
	}
	return nil
}

// options makes the session options of the configuration.
func (r *Runtime) options() (_ *onnxruntime.SessionOptions, err error) {
	o, err := onnxruntime.NewSessionOptions()
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: session options: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, o.Destroy())
		}
	}()
	for _, set := range []func() error{
		func() error { return o.SetIntraOpNumThreads(r.config.Threads) },
		func() error { return o.SetInterOpNumThreads(1) },
		func() error { return o.SetExecutionMode(onnxruntime.ExecutionModeSequential) },
		func() error { return o.SetGraphOptimizationLevel(onnxruntime.GraphOptimizationLevelEnableAll) },
		// A chunk repeats bit for bit from its seed.
		func() error { return o.AddSessionConfigEntry("session.use_deterministic_compute", "1") },
		// Waiting threads sleep: the cores are shared with the cameras.
		func() error { return o.AddSessionConfigEntry("session.intra_op.allow_spinning", "0") },
		func() error { return o.SetCpuMemArena(true) },
	} {
		if err := set(); err != nil {
			return nil, fmt.Errorf("onnxruntime: session options: %w", err)
		}
	}
	if err := r.appendProvider(o); err != nil {
		return nil, err
	}
	return o, nil
}
