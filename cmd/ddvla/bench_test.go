package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights"
)

// benched runs `ddvla bench` and reads its JSON strictly.
func benched(t *testing.T, dir string, more ...string) (r benchReport, stdout string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "bench.json")
	status, stdout, stderr := call(t, append([]string{"bench", "--bundle", dir, "--threads", "1", "--count", "3", "--limit", "0s", "--json", file}, more...)...)
	if status != 0 {
		t.Fatal(stderr)
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(raw)))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v:\n%s", err, raw)
	}
	return r, stdout
}

// names are the lines', and all of them hold what any measurement does.
func names(t *testing.T, r benchReport) (list []string) {
	t.Helper()
	for _, l := range r.Lines {
		list = append(list, l.Name)
		if l.Count != 3 || l.P50 < 0 || l.P90 < l.P50 || l.P99 < l.P90 {
			t.Errorf("%+v", l)
		}
		if l.Batch > 0 && (!(l.P50 > 0) || l.Actions < 7.9*l.Chunks || l.Actions > 8.1*l.Chunks) {
			t.Errorf("%+v: a chunk has eight actions", l)
		}
	}
	return list
}

const (
	pictureLine = "3 pictures of 640x480 at the same time"
	stepLine    = "step graph: one round, vision too"
)

// Every line is there, with the rounds that it says, and people get the same figures.
func TestBench(t *testing.T) {
	r, stdout := benched(t, testbundle.Dir(t))
	want := []string{"chunk, T = 12", "of which pictures, prompt, state, noise", "of which the graph", "of which robot units and checks",
		"chunk, T = 8", "chunk, T = 4", "chunk, T = 2", "chunk, T = 1", "chunk, T = 12, refresh 4", "chunk, T = 12, commit_confidence 0.95",
		"the graph alone, T = 12, batch 1", "the graph alone, T = 12, batch 4", "the graph alone, T = 12, batch 16", stepLine, pictureLine, "tokenizer"}
	if have := names(t, r); !slices.Equal(have, want) {
		t.Fatalf("lines %q, want %q", have, want)
	}
	for _, l := range r.Lines {
		fixed := l.T > 0 && !strings.Contains(l.Name, "commit_confidence")
		if fixed && l.Rounds != l.T || l.Rounds > l.T {
			t.Errorf("%s: %d rounds", l.Name, l.Rounds)
		}
	}
	// The parts of a chunk are less than all of it, their sum about it.
	whole, graph := r.Lines[0], r.Lines[2]
	if !(graph.P50 > 0 && graph.P50 < whole.P50) {
		t.Errorf("a chunk takes %g ms, its graph %g", whole.P50, graph.P50)
	}
	if r.Policy != "tiny-reach" || r.Chunk != 8 || r.Threads != 1 || r.Provider != ort.CPU || r.Runtime == "" || r.CPU == "" || r.CUDAGraphs != "none on the CPU" ||
		r.Sequence != 1+3*16+1+(r.Prompt-1)+112+1 || r.Prompt < 10 {
		t.Errorf("%+v", r)
	}
	if !(r.Load.Policy > r.Load.Verify && r.Load.Verify > 0 && r.Load.Step > 0) || r.Memory.Resident < 1<<20 || r.Memory.Peak < r.Memory.Resident || r.Memory.Device != 0 {
		t.Errorf("load %+v, memory %+v", r.Load, r.Memory)
	}
	for _, line := range []string{"| what | rounds | runs | p50 ms | p90 ms | p99 ms | chunks/s | actions/s |\n|---|", "| chunk, T = 12 | 12 | 3 | ", "1 threads", "provider cpu",
		"loading: ", ", of which hashing its files ", "up to 3 runs to warm up", "memory: ", "CUDA graphs: none on the CPU"} {
		if !strings.Contains(stdout, line) {
			t.Errorf("no %q in\n%s", line, stdout)
		}
	}
	if have := strings.Count(stdout, "\n| "); have != 1+len(want) {
		t.Errorf("%d lines in\n%s", have, stdout)
	}
}

// An L1 head has one pass and no step graph.
func TestBenchL1(t *testing.T) {
	r, _ := benched(t, testbundle.L1(t, make([]float32, 14)))
	want := []string{"chunk, one pass", "of which pictures, prompt, state, noise", "of which the graph", "of which robot units and checks",
		"the graph alone, batch 1", "the graph alone, batch 4", "the graph alone, batch 16", pictureLine, "tokenizer"}
	if have := names(t, r); !slices.Equal(have, want) || r.Load.Step != 0 || r.Lines[0].Rounds != 1 {
		t.Errorf("lines %q, want %q", have, want)
	}
}

// A causal bundle is measured as it is decoded, from left to right, too.
func TestBenchFromLeftToRight(t *testing.T) {
	r, _ := benched(t, testbundle.With(t, func(o *weights.Options) {
		o.Attention, o.Decode.Preset = bundle.Causal, string(decode.Autoregressive)
	}), "--instruction", "go")
	list := names(t, r)
	at := slices.Index(list, "chunk, preset autoregressive")
	if at < 0 || r.Lines[at].Rounds != 112 || r.Lines[at].T != 0 || !(r.Lines[at].Chunks > 0) || !slices.Contains(list, "chunk, T = 12") {
		t.Fatalf("lines %+v", r.Lines)
	}
	if r.Lines[0].Rounds != 12 {
		t.Errorf("the first line has %d rounds", r.Lines[0].Rounds)
	}
}

// A file that cannot be written is told before anything is measured, and one that can is
// as it was until then.
func TestBenchTriesItsFileFirst(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none", "bench.json")
	status, _, stderr := call(t, "bench", "--bundle", testbundle.Dir(t), "--json", file)
	if status != 1 || !strings.Contains(stderr, "--json: ") || !strings.Contains(stderr, file) || strings.Contains(stderr, "chunk, T") {
		t.Errorf("status %d: %s", status, stderr)
	}
	old := filepath.Join(t.TempDir(), "old.json")
	if err := os.WriteFile(old, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	fresh := old + ".new"
	if err := errors.Join(checkWritable(old), checkWritable(fresh)); err != nil {
		t.Fatal(err)
	}
	if raw, err := os.ReadFile(old); err != nil || string(raw) != "old" {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := os.Stat(fresh); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s was left (%v)", fresh, err)
	}
}

// A graph without a Loop is not asked for more rounds than it has.
func TestBenchUnrolled(t *testing.T) {
	r, stdout := benched(t, testbundle.With(t, func(o *weights.Options) { o.Unroll, o.Decode.Rounds = 4, 4 }), "--instruction", "go")
	list := names(t, r)
	for _, want := range []string{"chunk, T = 4", "chunk, T = 2", "chunk, T = 4, commit_confidence 0.95", "the graph alone, T = 4, batch 16"} {
		if !slices.Contains(list, want) {
			t.Errorf("no %q in %q", want, list)
		}
	}
	if slices.Contains(list, "chunk, T = 8") || slices.Contains(list, "chunk, T = 4, refresh 4") || !strings.Contains(stdout, "unrolled: all 4 rounds") {
		t.Errorf("lines %q\n%s", list, stdout)
	}
}

// --json - prints JSON and no table.
func TestBenchPrintsJSON(t *testing.T) {
	status, stdout, stderr := call(t, "bench", "--bundle", testbundle.L1(t, make([]float32, 14)), "--threads", "1", "--count", "3", "--limit", "0s", "--json", "-")
	var r benchReport
	if status != 0 || json.Unmarshal([]byte(stdout), &r) != nil || len(r.Lines) == 0 {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
}

func TestPercentile(t *testing.T) {
	var times []time.Duration
	for i := 100; i > 0; i-- {
		times = append(times, time.Duration(i))
	}
	for share, want := range map[float64]time.Duration{0.5: 50, 0.9: 90, 0.99: 99, 1: 100} {
		if got := percentile(times, share); got != want {
			t.Errorf("%g of 1..100 are not above %d, want %d", share, got, want)
		}
	}
	if times[0] != 100 {
		t.Error("the times were sorted in place")
	}
	// Of few, the high ones are the largest.
	few := []time.Duration{7, 3, 5}
	if percentile(few, 0.5) != 5 || percentile(few, 0.9) != 7 || percentile(few, 0.99) != 7 || percentile(nil, 0.5) != 0 {
		t.Error("percentiles of three or none")
	}
}

func TestDeviceMemory(t *testing.T) {
	if n, err := deviceMemory("11, 100\n12, 7\n12, 3\n", 12); err != nil || n != 10<<20 {
		t.Errorf("%d, %v", n, err)
	}
	for _, bad := range []string{"", "11, 100\n", "12, [N/A]\n", "12\n"} {
		if n, err := deviceMemory(bad, 12); err == nil {
			t.Errorf("%q gave %d", bad, n)
		}
	}
}

func TestCUDAGraphs(t *testing.T) {
	loop, unrolled := cudaGraphs(ort.CUDA, 0), cudaGraphs(ort.TensorRT, 12)
	if !strings.Contains(loop, "Loop") || !strings.Contains(loop, "CPU's only") || strings.Contains(unrolled, "Loop") || !strings.Contains(unrolled, "CPU's only") {
		t.Errorf("%s\n%s", loop, unrolled)
	}
}

func TestBenchRefusals(t *testing.T) {
	dir := testbundle.Dir(t)
	for name, c := range map[string]struct {
		status int
		names  []string
		args   []string
	}{
		"no bundle":      {2, []string{"--bundle"}, nil},
		"no such bundle": {1, []string{"nowhere"}, []string{"--bundle", "nowhere"}},
		"provider":       {1, []string{`"rocm"`, "cpu, cuda or tensorrt"}, []string{"--bundle", dir, "--provider", "rocm"}},
		"no CUDA":        {1, []string{"cuda", "provider cpu"}, []string{"--bundle", dir, "--provider", "cuda"}},
		"threads":        {1, []string{"threads is -1"}, []string{"--bundle", dir, "--threads", "-1"}},
		"device":         {1, []string{"device is -1"}, []string{"--bundle", dir, "--device", "-1"}},
		"count":          {2, []string{"--count is 2", "at least 3"}, []string{"--bundle", dir, "--count", "2"}},
		"limit":          {2, []string{"--limit is -1s"}, []string{"--bundle", dir, "--limit", "-1s"}},
		"instruction":    {2, []string{"--instruction"}, []string{"--bundle", dir, "--instruction", strings.Repeat("long ", 200)}},
		"argument":       {2, []string{`"more"`}, []string{"--bundle", dir, "more"}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.status, c.names, append([]string{"bench"}, c.args...)...) })
	}
}
