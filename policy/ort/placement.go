package ort

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
)

// Assignment says which provider ran a node.
type Assignment struct {
	Node     string
	Op       string
	Provider string
}

// ErrPlacement says that a GPU provider left heavy work to the CPU.
var ErrPlacement = errors.New("matrix product left to the CPU")

const cpuProvider = "CPUExecutionProvider"

// load makes the session of a graph. With a GPU provider it first loads the
// graph with ONNX Runtime's profiler on, lets probe run it once, and reads from
// the profile where each node ran, bodies of loops included: the binding has no
// other way to ask. It logs the nodes left to the CPU and refuses the graph if a
// matrix product is among them.
func (r *Runtime) load(path, name string, in, out []string, s **session, probe func(context.Context) error) error {
	if r.config.Provider != CPU {
		assigned, err := r.placement(path, name, in, out, s, probe)
		if err != nil {
			return err
		}
		left, err := leftToCPU(assigned)
		for _, a := range left {
			r.config.Logger.Info("node left to the CPU", zap.String("graph", name), zap.String("node", a.Node), zap.String("op", a.Op))
		}
		if err != nil {
			return fmt.Errorf("onnxruntime: %s with provider %s: %w", name, r.config.Provider, err)
		}
	}
	options, err := r.options()
	if err != nil {
		return err
	}
	*s, err = newSession(path, name, in, out, options)
	return errors.Join(err, options.Destroy())
}

// placement runs the graph once under the profiler.
func (r *Runtime) placement(path, name string, in, out []string, s **session, probe func(context.Context) error) (_ []Assignment, err error) {
	dir, err := os.MkdirTemp("", "ddvla-profile-")
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: profile: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	options, err := r.options()
	if err != nil {
		return nil, err
	}
	err = options.EnableProfiling(filepath.Join(dir, "p"))
	if err == nil {
		*s, err = newSession(path, name, in, out, options)
	}
	if err = errors.Join(err, options.Destroy()); err != nil {
		return nil, err
	}
	// The profile is complete when its session is closed.
	if err := errors.Join(probe(context.Background()), (*s).close()); err != nil {
		return nil, fmt.Errorf("trying the graph: %w", err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(files) != 1 {
		return nil, fmt.Errorf("onnxruntime: %s: the profiler left %d files: %w", name, len(files), err)
	}
	raw, err := os.ReadFile(files[0])
	if err != nil {
		return nil, fmt.Errorf("onnxruntime: %s: profile: %w", name, err)
	}
	return parseProfile(raw)
}

// parseProfile reads which provider ran which node from a profile of ONNX
// Runtime: a list of events in the Chrome trace format.
func parseProfile(raw []byte) ([]Assignment, error) {
	var events []struct {
		Category string `json:"cat"`
		Name     string `json:"name"`
		Args     struct {
			Op       string `json:"op_name"`
			Provider string `json:"provider"`
		} `json:"args"`
	}
	if err := json.Unmarshal(raw, &events); err != nil {
		return nil, fmt.Errorf("onnxruntime: profile: %w", err)
	}
	var list []Assignment
	seen := map[Assignment]bool{}
	for _, e := range events {
		if e.Category != "Node" || e.Args.Provider == "" {
			continue
		}
		a := Assignment{Node: strings.TrimSuffix(e.Name, "_kernel_time"), Op: e.Args.Op, Provider: e.Args.Provider}
		if !seen[a] {
			seen[a] = true
			list = append(list, a)
		}
	}
	if len(list) == 0 {
		return nil, errors.New("onnxruntime: the profile names no nodes")
	}
	return list, nil
}

// leftToCPU picks the nodes that ran on the CPU and refuses matrix products.
// Shapes and indices are left there on purpose.
func leftToCPU(assigned []Assignment) ([]Assignment, error) {
	var left []Assignment
	var products []string
	for _, a := range assigned {
		if a.Provider != cpuProvider {
			continue
		}
		left = append(left, a)
		if isMatrixProduct(a.Op) {
			products = append(products, fmt.Sprintf("%s (%s)", a.Node, a.Op))
		}
	}
	if len(products) == 0 {
		return left, nil
	}
	shown := products[:min(len(products), 8)]
	return left, fmt.Errorf("%w: %d nodes: %s; use a provider library that has these operators, or choose the provider cpu (a node's runtime.provider)",
		ErrPlacement, len(products), strings.Join(shown, ", "))
}

func isMatrixProduct(op string) bool {
	return strings.Contains(op, "MatMul") || strings.Contains(op, "Gemm") || strings.Contains(op, "Attention") ||
		slices.Contains([]string{"Conv", "FusedConv", "QLinearConv", "ConvInteger", "Einsum"}, op)
}
