package weights

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	onnxruntime "github.com/yalue/onnxruntime_go"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/onnx"
)

// visionGraph is all of the sequence that no action token changes: "before" [B, tokens before
// the slots, hidden].
func (n *network) visionGraph(store *onnx.Store) *onnx.Graph {
	g := onnx.New("vision", store)
	s := n.encode(g, n.observe(g))
	g.Output("before", s.before, onnx.Float32, onnx.Symbol("B"), onnx.Symbol("N"), onnx.Size(n.llama.hidden))
	return g
}

// languageGraph is one pass of the language model over what visionGraph gives and tokens.
func (n *network) languageGraph(store *onnx.Store) *onnx.Graph {
	g := onnx.New("language", store)
	batch, slots, hidden := onnx.Symbol("B"), onnx.Size(n.slots), int64(n.llama.hidden)
	before := g.Input("before", onnx.Float32, batch, onnx.Symbol("N"), onnx.Size(n.llama.hidden))
	o := observation{
		promptIDs:    g.Input("prompt_ids", onnx.Int64, batch, onnx.Symbol("P")),
		promptLength: g.Input("prompt_length", onnx.Int64, batch),
	}
	tokens := g.Input("tokens", onnx.Int64, batch, slots)
	stop := g.Gather(g.Weight(embedName), g.IntTensor([]int64{1, 1}, []int64{n.tokens.stop}), 0)
	s := &sequence{before: before, stop: g.Expand(stop, g.Concat(0, g.ShapeOf(o.promptIDs, 0, 1), g.Ints(1, hidden)))}
	n.place(g.Scope("positions"), o, s)
	logits, _ := n.logits(g, s, tokens, float64Type)
	g.Output("logits", logits, onnx.Float32, batch, slots, onnx.Size(n.tokens.bins))
	return g
}

// split is a policy as two graphs, vision once and then the language model once a round: what
// the released algorithm becomes with this runtime, whose binding keeps no tensors on a device
// between two calls. The decoding between is package decode's.
type split struct {
	manifest         *bundle.Manifest
	vision, language *ort.Model
}

func newSplit(t testing.TB, runtime *ort.Runtime, o Options) *split {
	t.Helper()
	j, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	defer j.checkpoint.Close()
	dir := t.TempDir()
	store, _, err := j.writeWeights(j.network, filepath.Join(dir, bundle.WeightsFile), &meter{ctx: t.Context()})
	if err != nil {
		t.Fatal(err)
	}
	load := func(name string, g *onnx.Graph, in, out []string) *ort.Model {
		raw, err := g.Marshal("ddvla")
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := runtime.PackedModel(path, in, out)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
		return m
	}
	s := &split{manifest: &j.manifest}
	s.vision = load("vision.onnx", j.network.visionGraph(store), []string{"images", "prompt_ids", "prompt_length", "proprio"}, []string{"before"})
	s.language = load("language.onnx", j.network.languageGraph(store), []string{"before", "prompt_ids", "prompt_length", "tokens"}, []string{"logits"})
	return s
}

func (s *split) decode(ctx context.Context, o *ort.Observation, in *decode.Inputs) (res *decode.Result, err error) {
	tokens := slices.Repeat([]int64{-1}, in.Batch*in.Positions)
	values, err := o.Tensors(s.manifest, in.Batch, tokens)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, v := range values {
			err = errors.Join(err, v.Destroy())
		}
	}()
	out, err := s.vision.Run(ctx, []onnxruntime.Value{values["images"], values["prompt_ids"], values["prompt_length"], values["proprio"]})
	if err != nil {
		return nil, err
	}
	values["before"] = out[0]
	return decode.Decode(ctx, func(ctx context.Context, _ int, now []int64, logits *decode.Logits) error {
		copy(tokens, now) // the tensor lies on it
		out, err := s.language.Run(ctx, []onnxruntime.Value{values["before"], values["prompt_ids"], values["prompt_length"], values["tokens"]})
		if err != nil {
			return err
		}
		copy(logits.Values, out[0].(*onnxruntime.Tensor[float32]).GetData())
		return out[0].Destroy()
	}, in)
}

// torchPeer is a Python process with the PyTorch network.
type torchPeer struct {
	in      io.WriteCloser
	out     *bufio.Reader
	version string
}

func newTorchPeer(t testing.TB, s *sample, threads, rounds int, o *ort.Observation) *torchPeer {
	t.Helper()
	train, err := filepath.Abs("../train")
	if err != nil {
		t.Fatal(err)
	}
	// Ended with the test's context at the latest.
	cmd := exec.CommandContext(t.Context(), pytest.Interpreter(), "testdata/speed.py", train)
	// Waiting threads sleep, as ONNX Runtime's do here: with a core that is not free, spinning ones take several times as
	// long.
	cmd.Env = append(os.Environ(), fmt.Sprintf("OMP_NUM_THREADS=%d", threads), fmt.Sprintf("OPENBLAS_NUM_THREADS=%d", threads),
		"OMP_WAIT_POLICY=PASSIVE", "PYTHONDONTWRITEBYTECODE=1")
	cmd.Stderr = os.Stderr
	p := &torchPeer{}
	out, err := cmd.StdoutPipe()
	if err == nil {
		p.out = bufio.NewReader(out)
		p.in, err = cmd.StdinPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.in.Close(), cmd.Wait()); err != nil && t.Context().Err() == nil {
			t.Error(err)
		}
	})
	var hello struct{ Torch string }
	err = p.ask(map[string]any{
		"checkpoint": s.dir, "images": s.images, "slots": s.chunk * s.dims, "threads": threads, "rounds": rounds,
		"pixels": base64.StdEncoding.EncodeToString(o.Images), "prompt_ids": o.PromptIDs, "proprio": o.Proprio,
	}, &hello)
	if err != nil {
		t.Fatal(err)
	}
	p.version = hello.Torch
	return p
}

func (p *torchPeer) ask(question, answer any) error {
	raw, err := json.Marshal(question)
	if err != nil {
		return err
	}
	if _, err := p.in.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("PyTorch: %w", err)
	}
	line, err := p.out.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("PyTorch: %w", err)
	}
	return json.Unmarshal(line, answer)
}

// run decodes a chunk.
func (p *torchPeer) run(rounds int) (outcome, error) {
	var a struct {
		Seconds, CPU float64
		Bins         []int64
	}
	err := p.ask(map[string]string{"do": "run"}, &a)
	return outcome{bins: a.Bins, rounds: rounds, seconds: a.Seconds, cpu: a.CPU}, err
}

// flops are those that PyTorch counts in the vision part and in a pass.
func (p *torchPeer) flops() (vision, pass float64, err error) {
	var a struct{ Vision, Pass float64 }
	err = p.ask(map[string]string{"do": "flops"}, &a)
	return a.Vision, a.Pass, err
}
