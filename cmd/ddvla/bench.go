package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/internal/machine"
	model "github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/policy/vision"
)

const (
	benchWarmUp  = 3
	benchLeast   = 3 // measured runs of a row, however long they take
	benchPicture = 640
)

// bench is what `ddvla bench` was asked for.
type bench struct {
	dir, instruction string
	runtime          ort.Config
	count            int
	limit            time.Duration // of a row
	progress         io.Writer
}

// runBench is `ddvla bench`: how long a bundle takes on this machine.
func runBench(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("bench", "--bundle DIR [FLAGS]\n"+
		"Measures how long a policy takes on this machine: chunks of 12 to 1 rounds from pictures to robot units, from left to right\n"+
		"where the bundle has a graph for it, batches, one round, preprocessing, loading, memory. Prints a Markdown table. Times are wall-clock; let the machine do nothing else.")
	b := bench{progress: stderr}
	flags.StringVar(&b.dir, "bundle", "", "the policy bundle's `directory`")
	flags.StringVar(&b.runtime.Library, "library", "", "ONNX Runtime's shared library or its directory; empty searches")
	provider := flags.String("provider", "cpu", "where the graph runs: cpu, cuda or tensorrt")
	flags.IntVar(&b.runtime.Device, "device", 0, "number of the GPU")
	flags.IntVar(&b.runtime.Threads, "threads", 0, "threads of one operator on the CPU; 0 is one per core")
	flags.IntVar(&b.count, "count", 50, "measured runs of each line at most, after up to "+strconv.Itoa(benchWarmUp)+" that are not")
	flags.DurationVar(&b.limit, "limit", 20*time.Second, "time for each line, after which it is done with what it has, but at least "+strconv.Itoa(benchLeast)+" runs")
	flags.StringVar(&b.instruction, "instruction", "pick up the red cube and put it into the box", "what the policy is told: a longer prompt takes longer")
	file := flags.String("json", "", "write the figures to this `FILE` too; - prints them instead of the table")
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	switch {
	case b.dir == "":
		return usageError{errors.New("no bundle; --bundle names the directory that `ddvla export` wrote")}
	case b.count < benchLeast:
		return usageError{fmt.Errorf("--count is %d, must be at least %d", b.count, benchLeast)}
	case b.limit < 0:
		return usageError{fmt.Errorf("--limit is %s, must not be negative", b.limit)}
	}
	if *file != "" && *file != "-" {
		if err := checkWritable(*file); err != nil {
			return fmt.Errorf("--json: %w", err)
		}
	}
	b.runtime.Provider = ort.Provider(*provider)
	r, err := b.run(ctx)
	if err != nil {
		return err
	}
	if *file == "" {
		return r.markdown(stdout)
	}
	raw, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	raw = append(raw, '\n')
	if *file == "-" {
		_, err = stdout.Write(raw)
		return err
	}
	return errors.Join(os.WriteFile(*file, raw, 0o644), r.markdown(stdout))
}

// checkWritable makes sure that a file can be written, before what it is to hold is
// measured for minutes. What is in it stays; one that is not there is not left behind.
func checkWritable(path string) error {
	_, missing := os.Lstat(path)
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		err = f.Close()
	}
	if err == nil && errors.Is(missing, fs.ErrNotExist) {
		err = os.Remove(path)
	}
	return err
}

// benchReport is the outcome and its JSON form. Times are in milliseconds.
type benchReport struct {
	Version    string        `json:"version"`
	Policy     string        `json:"policy"`
	Bundle     string        `json:"bundle"`
	Model      bundle.Model  `json:"model"`
	Chunk      int           `json:"chunk"` // rows
	Prompt     int           `json:"prompt_tokens"`
	Sequence   int           `json:"sequence_tokens"`
	CPU        string        `json:"cpu"`
	Runtime    string        `json:"onnxruntime"` // version
	Provider   ort.Provider  `json:"provider"`
	Device     int           `json:"device"`
	Threads    int           `json:"threads"` // as the flag: 0 is one per core
	Load       benchLoad     `json:"load_ms"`
	Memory     benchMemory   `json:"memory"`
	CUDAGraphs string        `json:"cuda_graphs"`
	WarmUp     int           `json:"warm_up"` // runs before each line at most
	Lines      []benchLine   `json:"lines"`
	took       time.Duration // for all
}

// benchLoad is the time to a policy that is ready to decode in rounds, its part in which
// files are hashed, and the loading of the step graph, 0 without one.
type benchLoad struct {
	Policy float64 `json:"policy"`
	Verify float64 `json:"verify"`
	Step   float64 `json:"step"`
}

// benchMemory is in bytes, of the loaded and warmed policy.
type benchMemory struct {
	Resident int64  `json:"resident"`
	Peak     int64  `json:"peak"`
	Device   int64  `json:"device,omitempty"` // 0 where not known
	Note     string `json:"note"`
}

// benchLine is one thing that was measured.
type benchLine struct {
	Name  string `json:"name"`
	T     int    `json:"T,omitempty"` // asked for
	Batch int    `json:"batch,omitempty"`
	// Rounds that ran in the last run.
	Rounds int     `json:"rounds,omitempty"`
	Count  int     `json:"count"`
	P50    float64 `json:"p50"`
	P90    float64 `json:"p90"`
	P99    float64 `json:"p99"`
	// Chunks and Actions, rows of chunks, per second at the median.
	Chunks  float64 `json:"chunks_per_second,omitempty"`
	Actions float64 `json:"actions_per_second,omitempty"`
}

// percentile is the least time that a share of all are not above; 0 of none.
func percentile(times []time.Duration, share float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	seconds := make([]float64, len(times))
	for i, t := range times {
		seconds[i] = float64(t)
	}
	slices.Sort(seconds)
	return time.Duration(stat.Quantile(share, stat.Empirical, seconds, nil))
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1e3 }

func newLine(name string, times []time.Duration) benchLine {
	p := func(share float64) float64 { return milliseconds(percentile(times, share)) }
	return benchLine{Name: name, Count: len(times), P50: p(0.5), P90: p(0.9), P99: p(0.99)}
}

// chunks says how many the line's runs make.
func (l benchLine) chunks(batch, rows int) benchLine {
	l.Batch = batch
	if l.P50 > 0 {
		l.Chunks = float64(batch) / l.P50 * 1e3
		l.Actions = l.Chunks * float64(rows)
	}
	return l
}

// measure runs something until it has count times or its time is over.
func (b *bench) measure(ctx context.Context, name string, run func() error) ([]time.Duration, error) {
	fmt.Fprintf(b.progress, "ddvla bench: %s\n", name)
	var times []time.Duration
	var end time.Time
	for i := 0; len(times) < b.count && (len(times) < benchLeast || time.Now().Before(end)); i++ {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		start := time.Now()
		if err := run(); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if i == 0 {
			end = start.Add(b.limit)
		}
		// A slow policy is warm after one chunk.
		if i >= benchWarmUp || i > 0 && time.Now().After(end) {
			times = append(times, time.Since(start))
		}
	}
	return times, nil
}

func (b *bench) run(ctx context.Context) (r *benchReport, err error) {
	start := time.Now()
	// The files are hashed where the policy is opened, and timed there.
	m, err := bundle.ReadManifest(b.dir)
	if err != nil {
		return nil, err
	}
	opened := &bundle.Bundle{Dir: b.dir, Manifest: *m}
	r = &benchReport{
		Version: buildVersion(), Policy: m.Name, Bundle: b.dir, Model: m.Model, Chunk: m.Action.Chunk, CPU: machine.CPU(),
		Provider: b.runtime.Provider, Device: b.runtime.Device, Threads: b.runtime.Threads, WarmUp: benchWarmUp,
		CUDAGraphs: cudaGraphs(b.runtime.Provider, m.Model.Unrolled),
	}
	tokenizer, err := text.Open(opened.Path(bundle.TokenizerFile), m.Prompt, m.Tokens)
	if err != nil {
		return nil, err
	}
	ids, _, err := tokenizer.Prompt(b.instruction)
	if err != nil {
		return nil, usageError{fmt.Errorf("--instruction: %w", err)}
	}
	r.Prompt, r.Sequence = len(ids), m.SequenceLength(len(ids))
	if err := b.policy(ctx, opened, r); err != nil {
		return nil, err
	}
	if err := b.batches(ctx, opened, ids, r); err != nil {
		return nil, err
	}
	if err := b.pieces(ctx, m, tokenizer, r); err != nil {
		return nil, err
	}
	r.took = time.Since(start)
	return r, nil
}

// rounds are the numbers of them that are measured.
func benchRounds(m *bundle.Manifest) (list []int) {
	for _, t := range []int{12, 8, 4, 2, 1} {
		if m.Model.Unrolled == 0 || t <= m.Model.Unrolled {
			list = append(list, t)
		}
	}
	return list
}

// policy measures whole chunks, as the node makes them, and their parts.
func (b *bench) policy(ctx context.Context, opened *bundle.Bundle, r *benchReport) (err error) {
	m, rounds := &opened.Manifest, benchRounds(&opened.Manifest)
	start, phases := time.Now(), 0
	// The bundle's own preset may need another graph than the first lines.
	pol, err := model.Open(ctx, b.dir, model.Options{Runtime: b.runtime, Decode: &decode.Params{Preset: decode.Greedy, Rounds: rounds[0]}, Phase: func(string) {
		if phases++; phases == 2 { // in the first one the files are hashed
			r.Load.Verify = milliseconds(time.Since(start))
		}
	}})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pol.Close()) }()
	r.Load.Policy = milliseconds(time.Since(start))
	o := &model.Observation{Stamp: time.Unix(1, 0), Instruction: b.instruction}
	if m.Proprio != nil {
		o.Proprio = make([]float64, len(m.Proprio.Dims))
	}
	for range m.Cameras {
		o.Images = append(o.Images, model.Image{Raw: picture()})
	}
	whole := func(name string, t int, params *decode.Params) error {
		if params != nil {
			if err := pol.SetDecode(*params); err != nil {
				return err
			}
		}
		var prepare, network, rest []time.Duration
		var rounds int
		times, err := b.measure(ctx, name, func() error {
			result, err := pol.Infer(ctx, o)
			if err == nil {
				rounds = result.Rounds
				prepare, network, rest = append(prepare, result.Timings.Preprocess), append(network, result.Timings.Inference), append(rest, result.Timings.Decode)
			}
			return err
		})
		if err != nil {
			return err
		}
		line := newLine(name, times).chunks(1, m.Action.Chunk)
		line.T, line.Rounds = t, rounds
		first := len(r.Lines) == 0
		r.Lines = append(r.Lines, line)
		if first {
			n := len(times)
			for _, part := range []struct {
				name  string
				times []time.Duration
			}{{"of which pictures, prompt, state, noise", prepare}, {"of which the graph", network}, {"of which robot units and checks", rest}} {
				r.Lines = append(r.Lines, newLine(part.name, part.times[len(part.times)-n:]))
			}
			return b.memory(ctx, r)
		}
		return nil
	}
	if m.Model.Head == bundle.L1Head {
		return whole("chunk, one pass", 0, nil)
	}
	for _, t := range rounds {
		if err := whole(fmt.Sprintf("chunk, T = %d", t), t, &decode.Params{Preset: decode.Greedy, Rounds: t}); err != nil {
			return err
		}
	}
	if m.Model.Refresh {
		if err := whole(fmt.Sprintf("chunk, T = %d, refresh 4", rounds[0]), rounds[0],
			&decode.Params{Preset: decode.Greedy, Rounds: rounds[0], Refresh: 4}); err != nil {
			return err
		}
	}
	if err := whole(fmt.Sprintf("chunk, T = %d, commit_confidence 0.95", rounds[0]), rounds[0],
		&decode.Params{Preset: decode.Greedy, Rounds: rounds[0], CommitConfidence: []float64{0.95}}); err != nil {
		return err
	}
	if !m.HasAutoregressive() {
		return nil
	}
	return whole("chunk, preset autoregressive", 0, &decode.Params{Preset: decode.Autoregressive, Rounds: 1})
}

// picture is a smooth one of a camera's usual size.
func picture() vision.Raw {
	const width, height = benchPicture, benchPicture * 3 / 4
	raw := vision.Raw{Encoding: "rgb8", Width: width, Height: height, Step: 3 * width, Data: make([]byte, 3*width*height)}
	for i := range raw.Data {
		x, y := float64(i/3%width)/width, float64(i/3/width)/height
		raw.Data[i] = byte(127.5 + 127.5*math.Sin(9*x+7*y*float64(1+i%3)))
	}
	return raw
}

// memory asks what the loaded policy holds.
func (b *bench) memory(ctx context.Context, r *benchReport) error {
	held, err := machine.ProcessMemory()
	if err != nil {
		return err
	}
	r.Memory.Resident, r.Memory.Peak = held.Resident, held.Peak
	if b.runtime.Provider == ort.CPU {
		r.Memory.Note = "the policy lies in the process's memory"
		return nil
	}
	r.Memory.Note = "the binding cannot ask for a GPU's memory; asked of nvidia-smi"
	out, err := exec.CommandContext(ctx, "nvidia-smi", "--query-compute-apps=pid,used_gpu_memory", "--format=csv,noheader,nounits").Output()
	if err == nil {
		r.Memory.Device, err = deviceMemory(string(out), os.Getpid())
	}
	if err != nil {
		r.Memory.Note = fmt.Sprintf("of the GPU not known: the binding cannot ask, and nvidia-smi says: %v", err)
	}
	return nil
}

// deviceMemory reads what a process holds of all GPUs from nvidia-smi's lines "pid, MiB".
func deviceMemory(lines string, pid int) (bytes int64, err error) {
	found := false
	for line := range strings.Lines(lines) {
		id, used, _ := strings.Cut(line, ",")
		if strings.TrimSpace(id) != strconv.Itoa(pid) {
			continue
		}
		mib, err := strconv.ParseInt(strings.TrimSpace(used), 10, 64)
		if err != nil {
			return 0, fmt.Errorf("process %d uses %q MiB", pid, strings.TrimSpace(used))
		}
		found, bytes = true, bytes+mib<<20
	}
	if !found {
		return 0, fmt.Errorf("process %d is not listed; inside a container its number is another one", pid)
	}
	return bytes, nil
}

// batches measures the graphs alone: several observations at once, and one round.
func (b *bench) batches(ctx context.Context, opened *bundle.Bundle, ids []int64, r *benchReport) (err error) {
	m := &opened.Manifest
	runtime, err := ort.Open(b.runtime)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, runtime.Close()) }()
	r.Runtime = runtime.Version()
	if m.Model.Head == bundle.L1Head {
		err = b.values(ctx, opened, runtime, ids, r)
	} else {
		err = b.fused(ctx, opened, runtime, ids, r)
	}
	// One graph at a time: each holds the weights.
	if _, ok := m.Files[bundle.StepFile]; !ok || err != nil {
		return err
	}
	return b.step(ctx, opened, runtime, ids, r)
}

// benchBatches are the numbers of observations that are decoded at once.
func benchBatches() []int { return []int{1, 4, 16} }

// observe is a batch of grey pictures.
func observe(m *bundle.Manifest, ids []int64, batch int) *ort.Observation {
	side := m.Model.ImageSize
	o := &ort.Observation{Images: bytes.Repeat([]byte{128}, batch*len(m.Cameras)*side*side*3), PromptIDs: slices.Repeat(ids, batch)}
	if m.Proprio != nil {
		o.Proprio = make([]float32, batch*len(m.Proprio.Dims))
	}
	return o
}

// values measures batches of a policy with an L1 head.
func (b *bench) values(ctx context.Context, opened *bundle.Bundle, runtime *ort.Runtime, ids []int64, r *benchReport) (err error) {
	graph, err := runtime.Values(opened)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, graph.Close()) }()
	for _, batch := range benchBatches() {
		o, name := observe(&opened.Manifest, ids, batch), fmt.Sprintf("the graph alone, batch %d", batch)
		times, err := b.measure(ctx, name, func() error { _, err := graph.Run(ctx, o, batch); return err })
		if err != nil {
			return err
		}
		r.Lines = append(r.Lines, newLine(name, times).chunks(batch, opened.Manifest.Action.Chunk))
	}
	return nil
}

// fused measures batches of a policy of tokens.
func (b *bench) fused(ctx context.Context, opened *bundle.Bundle, runtime *ort.Runtime, ids []int64, r *benchReport) (err error) {
	m := &opened.Manifest
	graph, err := runtime.Fused(opened)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, graph.Close()) }()
	l, t := m.Action.Tokens(), benchRounds(m)[0]
	for _, batch := range benchBatches() {
		in, err := decode.Params{Preset: decode.Greedy, Rounds: t}.Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, decode.NewNoise(0))
		if err != nil {
			return err
		}
		inputs, rounds, name := &ort.FusedInputs{Observation: *observe(m, ids, batch), Inputs: in}, 0, fmt.Sprintf("the graph alone, T = %d, batch %d", t, batch)
		times, err := b.measure(ctx, name, func() error {
			out, err := graph.Run(ctx, inputs)
			if err == nil {
				rounds = out.Rounds
			}
			return err
		})
		if err != nil {
			return err
		}
		line := newLine(name, times).chunks(batch, m.Action.Chunk)
		line.T, line.Rounds = t, rounds
		r.Lines = append(r.Lines, line)
	}
	return nil
}

// step measures one round of everything.
func (b *bench) step(ctx context.Context, opened *bundle.Bundle, runtime *ort.Runtime, ids []int64, r *benchReport) (err error) {
	start := time.Now()
	graph, err := runtime.Step(opened)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, graph.Close()) }()
	r.Load.Step = milliseconds(time.Since(start))
	tokens := slices.Repeat([]int64{-1}, opened.Manifest.Action.Tokens())
	var logits decode.Logits
	run := graph.Logits(observe(&opened.Manifest, ids, 1))
	const name = "step graph: one round, vision too"
	times, err := b.measure(ctx, name, func() error { return run(ctx, 0, tokens, &logits) })
	if err == nil {
		r.Lines = append(r.Lines, newLine(name, times))
	}
	return err
}

// pieces measures parts of the preprocessing.
func (b *bench) pieces(ctx context.Context, m *bundle.Manifest, tokenizer *text.Tokenizer, r *benchReport) error {
	raw, side := picture(), m.Model.ImageSize
	var cameras []*vision.Pipeline
	for _, c := range m.Cameras {
		p, err := vision.New(c)
		if err != nil {
			return err
		}
		cameras = append(cameras, p)
	}
	errs := make([]error, len(cameras))
	out := make([]byte, len(cameras)*side*side*3)
	for _, piece := range []struct {
		name string
		run  func() error
	}{
		{fmt.Sprintf("%d pictures of %dx%d at the same time", len(cameras), raw.Width, raw.Height), func() error {
			var wg sync.WaitGroup
			for i := range cameras {
				wg.Go(func() { errs[i] = cameras[i].Raw(raw, out[i*len(out)/len(cameras):(i+1)*len(out)/len(cameras)]) })
			}
			wg.Wait()
			return errors.Join(errs...)
		}},
		{"tokenizer", func() error { _, _, err := tokenizer.Prompt(b.instruction); return err }},
	} {
		times, err := b.measure(ctx, piece.name, piece.run)
		if err != nil {
			return err
		}
		r.Lines = append(r.Lines, newLine(piece.name, times))
	}
	return nil
}

// cudaGraphs says why none is captured. ONNX Runtime asks that all inputs and outputs lie at fixed
// addresses of the device, bound by its I/O binding, and that no node is If, Loop or Scan
// (onnxruntime.ai, CUDA Execution Provider, Using CUDA Graphs). onnxruntime_go makes its one OrtMemoryInfo with
// CreateCpuMemoryInfo, also for what its IoBinding binds.
func cudaGraphs(provider ort.Provider, unrolled int) string {
	if provider == ort.CPU {
		return "none on the CPU"
	}
	reason := fmt.Sprintf("not captured: that needs inputs and outputs in the GPU's memory, and the binding, onnxruntime_go%s, makes tensors in the CPU's only, IoBinding's too",
		moduleVersion("github.com/yalue/onnxruntime_go"))
	if unrolled == 0 {
		reason += "; and this bundle's rounds are a Loop, which no capture takes (ddvla export --unroll T has none)"
	}
	return reason
}

// moduleVersion is " v1.2.3" of what was linked, or empty.
func moduleVersion(path string) string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == path {
				return " " + m.Version
			}
		}
	}
	return ""
}

// markdown prints the table for people.
func (r *benchReport) markdown(w io.Writer) error {
	var out strings.Builder
	threads := "one thread per core"
	if r.Threads > 0 {
		threads = fmt.Sprintf("%d threads", r.Threads)
	}
	fmt.Fprintf(&out, "Policy %q (%s, attention %s, %d tokens of which the prompt has %d, chunks of %d rows) with ddvla %s\non %s; ONNX Runtime %s, provider %s",
		r.Policy, r.Model.Precision, r.Model.Attention, r.Sequence, r.Prompt, r.Chunk, r.Version, r.CPU, r.Runtime, r.Provider)
	if r.Provider == ort.CPU {
		fmt.Fprintf(&out, ", %s", threads)
	} else {
		fmt.Fprintf(&out, ", GPU %d", r.Device)
	}
	fmt.Fprintf(&out, ".\n\n| what | rounds | runs | p50 ms | p90 ms | p99 ms | chunks/s | actions/s |\n|---|---|---|---|---|---|---|---|\n")
	for _, l := range r.Lines {
		rounds, chunks, actions := "", "", ""
		if l.Rounds > 0 {
			rounds = strconv.Itoa(l.Rounds)
		}
		if l.Chunks > 0 {
			chunks, actions = fmt.Sprintf("%.3g", l.Chunks), fmt.Sprintf("%.3g", l.Actions)
		}
		fmt.Fprintf(&out, "| %s | %s | %d | %.2f | %.2f | %.2f | %s | %s |\n", l.Name, rounds, l.Count, l.P50, l.P90, l.P99, chunks, actions)
	}
	fmt.Fprintf(&out, "\nloading: %.0f ms until the policy is ready", r.Load.Policy)
	fmt.Fprintf(&out, ", of which hashing its files %.0f ms", r.Load.Verify)
	if r.Load.Step > 0 {
		fmt.Fprintf(&out, "; the step graph %.0f ms", r.Load.Step)
	}
	fmt.Fprintf(&out, "\nmemory: %s resident, %s at most", size(r.Memory.Resident), size(r.Memory.Peak))
	if r.Memory.Device > 0 {
		fmt.Fprintf(&out, ", %s on the GPU", size(r.Memory.Device))
	}
	fmt.Fprintf(&out, "; %s\nCUDA graphs: %s\n", r.Memory.Note, r.CUDAGraphs)
	if u := r.Model.Unrolled; u > 0 {
		fmt.Fprintf(&out, "unrolled: all %d rounds are computed for every chunk, however many are asked for\n", u)
	}
	fmt.Fprintf(&out, "measured in %.0f s; up to %d runs to warm up before each line, one where they take longer than --limit; a percentile of few runs is their largest\n", r.took.Seconds(), r.WarmUp)
	_, err := io.WriteString(w, out.String())
	return err
}
