package weights

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/internal/cost"
	"github.com/ddvla/ddvla/internal/machine"
	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
)

// What `make bench` sets: without -speed.full the tables are made of a network too small to say
// anything, to see that they can be made.
var (
	speedFull  = flag.Bool("speed.full", false, "measure a network of some size in TestSpeed and print the tables")
	speedTurns = flag.Int("speed.turns", 6, "turns of TestSpeed with -speed.full")
)

// speedSize is what TestSpeed measures.
type speedSize struct {
	args    []string // of train/make_random.py
	turns   int
	rounds  int // T
	batches []int
	// images and chunks of the growth table
	images, chunks []int
}

func speedSizes() speedSize {
	if !*speedFull {
		return speedSize{turns: 2, rounds: 4, batches: []int{1, 2}, images: []int{1, 3}, chunks: []int{1, 2},
			args: []string{"--proprio", "14", "--images", "3", "--dims", "14", "--slots", "28", "--registers", "4", "--logit-std", "4"}}
	}
	return speedSize{turns: *speedTurns, rounds: 12, batches: []int{1, 4, 16}, images: []int{1, 2, 3}, chunks: []int{4, 8, 16},
		args: []string{"--proprio", "14", "--images", "3", "--dims", "14", "--slots", "112", "--registers", "4", "--logit-std", "4",
			"--image", "104", "--patch", "8", "--hidden", "384", "--heads", "6", "--layers", "3", "--intermediate", "1024",
			"--dino-dim", "192", "--dino-heads", "3", "--dino-depth", "5", "--dino-mlp", "768",
			"--siglip-dim", "192", "--siglip-heads", "3", "--siglip-depth", "5", "--siglip-mlp", "768"}}
}

// speedPrompt is the number of ids of the prompt, none of them a pad: a robot has one instruction.
const speedPrompt = 21

// candidate is one way to decode the same observation.
type candidate struct {
	name  string
	run   func(ctx context.Context) (outcome, error)
	flops float64 // of the matrix products of a chunk that uses all its rounds; 0 where not counted
}

// outcome is a chunk and, where another process made it, what that measured.
type outcome struct {
	bins         []int64
	rounds       int
	seconds, cpu float64
}

// timing is what turns gave: seconds by turn, on the clock and of all processors together, and the
// last outcome.
type timing struct {
	seconds, cpu []float64
	outcome      outcome
}

func (t timing) median() float64 {
	return stat.Quantile(0.5, stat.LinInterp, slices.Sorted(slices.Values(t.seconds)), nil)
}

// best is the quickest turn: what else the machine does only adds.
func (t timing) best() float64 { return slices.Min(t.seconds) }

// takeTurns runs every candidate once to warm up and then turn by turn, so that what else the machine
// does befalls all alike.
func takeTurns(ctx context.Context, candidates []candidate, turns int) ([]timing, error) {
	out := make([]timing, len(candidates))
	for turn := range turns + 1 {
		for i, c := range candidates {
			start, worked := time.Now(), processorTime()
			o, err := c.run(ctx)
			if o.seconds == 0 {
				o.seconds, o.cpu = time.Since(start).Seconds(), processorTime()-worked
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.name, err)
			}
			out[i].outcome = o
			if turn > 0 {
				out[i].seconds, out[i].cpu = append(out[i].seconds, o.seconds), append(out[i].cpu, o.cpu)
			}
		}
	}
	return out, nil
}

// processorTime is the seconds that this process has computed on all processors. Threads of ONNX Runtime that wait
// sleep (package ort), so these are work; unlike those of the clock they are not longer where
// others compute too.
func processorTime() float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return math.NaN()
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano()).Seconds()
}

// ratio is how many times as fast b is as a: the median over turns, each of which compares its own, and
// its quartiles.
func ratio(a, b []float64) (median, low, high float64) {
	list := make([]float64, len(a))
	for i := range list {
		list[i] = a[i] / b[i]
	}
	slices.Sort(list)
	q := func(p float64) float64 { return stat.Quantile(p, stat.LinInterp, list, nil) }
	return q(0.5), q(0.25), q(0.75)
}

func equalShare(a, b []int64) float64 {
	n := 0
	for i := range a {
		if i < len(b) && a[i] == b[i] {
			n++
		}
	}
	return float64(n) / float64(max(len(a), 1))
}

// fit solves y = sum of c_k x_k by least squares of the relative errors, and returns the root of
// their mean square and the largest.
func fit(x [][]float64, y []float64) (c []float64, rms, largest float64, err error) {
	a, b := mat.NewDense(len(y), len(x[0]), nil), mat.NewVecDense(len(y), nil)
	for i, row := range x {
		for k, v := range row {
			a.Set(i, k, v/y[i])
		}
		b.SetVec(i, 1)
	}
	var solved, fitted mat.VecDense
	if err := solved.SolveVec(a, b); err != nil {
		return nil, 0, 0, fmt.Errorf("least squares: %w", err)
	}
	fitted.MulVec(a, &solved)
	for i := range y {
		e := math.Abs(fitted.AtVec(i) - 1)
		rms, largest = rms+e*e, max(largest, e)
	}
	return solved.RawVector().Data, math.Sqrt(rms / float64(len(y))), largest, nil
}

// costs are the sizes of a network for package cost.
func (n *network) costs(prompt int) cost.Model {
	m := cost.Model{
		Images: n.images, Patches: n.dino.patches(), PatchValues: 3 * n.dino.patch * n.dino.patch,
		ProjectorInner: n.projector.inner, Hidden: n.llama.hidden, Intermediate: n.llama.intermediate, Layers: n.llama.layers, Heads: n.llama.heads,
		Prompt: prompt, Slots: n.slots, Logits: int(n.tokens.headRows()),
	}
	if n.proprio != nil {
		m.Proprio = n.proprio.dims
	}
	for _, v := range []*vit{n.dino, n.siglip} {
		m.Towers = append(m.Towers, cost.Tower{Tokens: v.patches() + v.prefixTokens(), Width: v.dim, Inner: v.mlp, Blocks: v.depth - 1})
	}
	return m
}

// speed is the setting of TestSpeed.
type speed struct {
	testing.TB
	size    speedSize
	sample  sample
	runtime *ort.Runtime
	threads int
	w       io.Writer
}

// options are those of a bundle of the same checkpoint.
func (s *speed) options(change func(o *Options)) Options {
	o := s.sample.options(filepath.Join(s.TempDir(), "bundle"))
	change(&o)
	return o
}

func (s *speed) costs(o Options) cost.Model {
	j, err := prepare(o)
	if err != nil {
		s.Fatal(err)
	}
	defer j.checkpoint.Close()
	return j.network.costs(speedPrompt)
}

// bundle exports and loads.
func (s *speed) bundle(change func(o *Options)) (*bundle.Bundle, *ort.Fused, cost.Model) {
	s.Helper()
	o := s.options(change)
	b := exported(s, o)
	fused, err := s.runtime.Fused(b)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := fused.Close(); err != nil {
			s.Error(err)
		}
	})
	return b, fused, s.costs(o)
}

// observation is one that all runs of a shape share.
func (s *speed) observation(m *bundle.Manifest, batch int) *ort.Observation {
	rng := rand.New(rand.NewPCG(11, 12))
	side := m.Model.ImageSize
	o := &ort.Observation{Images: make([]byte, len(m.Cameras)*side*side*3)}
	for i := range o.Images {
		o.Images[i] = byte(rng.IntN(256))
	}
	o.PromptIDs = append(o.PromptIDs, m.Tokens.BOS)
	for range speedPrompt - 1 {
		o.PromptIDs = append(o.PromptIDs, 3+rng.Int64N(m.Tokens.ActionTokenBase-int64(m.Tokens.Bins)-3))
	}
	for range m.Proprio.Dims {
		o.Proprio = append(o.Proprio, 2*rng.Float32()-1)
	}
	o.Images, o.PromptIDs, o.Proprio = slices.Repeat(o.Images, batch), slices.Repeat(o.PromptIDs, batch), slices.Repeat(o.Proprio, batch)
	return o
}

// inputs are those of preset greedy.
func (s *speed) inputs(m *bundle.Manifest, p decode.Params, batch int) *decode.Inputs {
	p.Preset = decode.Greedy
	l := m.Action.Tokens()
	in, err := p.Inputs(slices.Repeat([]int{l}, batch), l, m.Tokens.Bins, decode.NewNoise(1))
	if err != nil {
		s.Fatal(err)
	}
	return in
}

func outcomeOf(r *decode.Result, err error) (outcome, error) {
	if err != nil {
		return outcome{}, err
	}
	return outcome{bins: r.Bins, rounds: r.Rounds}, nil
}

// fused is a candidate in the fused graph.
func (s *speed) fused(name string, b *bundle.Bundle, graph *ort.Fused, p decode.Params, batch int, flops float64) candidate {
	o, in := s.observation(&b.Manifest, batch), s.inputs(&b.Manifest, p, batch)
	return candidate{name: name, flops: flops, run: func(ctx context.Context) (outcome, error) {
		return outcomeOf(graph.Run(ctx, &ort.FusedInputs{Observation: *o, Inputs: in}))
	}}
}

// baselines are (ii), (i) and (iii).
func (s *speed) baselines(b *bundle.Bundle, m cost.Model) ([]candidate, *torchPeer) {
	T := s.size.rounds
	o, in := s.observation(&b.Manifest, 1), s.inputs(&b.Manifest, decode.Params{Rounds: T}, 1)
	step, err := s.runtime.Step(b)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() {
		if err := step.Close(); err != nil {
			s.Error(err)
		}
	})
	two := newSplit(s, s.runtime, s.options(func(*Options) {}))
	torch := newTorchPeer(s, &s.sample, s.threads, T, o)
	return []candidate{
		{"(ii) vision once, a language-model call per round", func(ctx context.Context) (outcome, error) { return outcomeOf(two.decode(ctx, o, in)) }, cost.Exact().Chunk(m, T).FLOPs},
		{"(i) stateless call per round", func(ctx context.Context) (outcome, error) { return outcomeOf(decode.Decode(ctx, step.Logits(o), in)) }, cost.Stateless().Chunk(m, T).FLOPs},
		{"(iii) PyTorch " + torch.version, func(context.Context) (outcome, error) { return torch.run(T) }, cost.Exact().Chunk(m, T).FLOPs},
	}, torch
}

// table is the ways to decode against (ii).
func (s *speed) table() (candidates []candidate, times []timing) {
	T := s.size.rounds
	exact, graph, m := s.bundle(func(*Options) {})
	prefix, prefixGraph, _ := s.bundle(func(o *Options) { o.Attention = bundle.Prefix })
	quantised := func(precision string) func(o *Options) {
		return func(o *Options) { o.Precision, o.VisionPrecision = precision, precisionFP32 }
	}
	int8, int8Graph, _ := s.bundle(quantised(precisionInt8))
	int4, int4Graph, _ := s.bundle(quantised(precisionInt4))
	baselines, torch := s.baselines(exact, m)
	chunk := func(w cost.Way, rounds int) float64 { return w.Chunk(m, rounds).FLOPs }
	// What is compared with (ii) stands next to it, the slow baselines last.
	candidates = append(baselines[:1:1],
		s.fused("fused, exact", exact, graph, decode.Params{Rounds: T}, 1, chunk(cost.Exact(), T)),
		s.fused("fused, attention prefix", prefix, prefixGraph, decode.Params{Rounds: T}, 1, chunk(cost.Prefix(), T)),
		s.fused("fused, refresh 2", exact, graph, decode.Params{Rounds: T, Refresh: 2}, 1, chunk(cost.Refresh(2), T)),
		s.fused("fused, refresh 4", exact, graph, decode.Params{Rounds: T, Refresh: 4}, 1, chunk(cost.Refresh(4), T)),
		s.fused("fused, exact, int8", int8, int8Graph, decode.Params{Rounds: T}, 1, chunk(cost.Exact(), T)),
		s.fused("fused, exact, int4", int4, int4Graph, decode.Params{Rounds: T}, 1, chunk(cost.Exact(), T)),
		s.fused("fused, exact, commit_confidence 0.95", exact, graph, decode.Params{Rounds: T, CommitConfidence: []float64{0.95}}, 1, 0),
	)
	for _, rounds := range []int{8, 4, 1} {
		if rounds < T {
			candidates = append(candidates,
				s.fused(fmt.Sprintf("fused, exact, T = %d", rounds), exact, graph, decode.Params{Rounds: rounds}, 1, chunk(cost.Exact(), rounds)),
				s.fused(fmt.Sprintf("fused, attention prefix, T = %d", rounds), prefix, prefixGraph, decode.Params{Rounds: rounds}, 1, chunk(cost.Prefix(), rounds)))
		}
	}
	candidates = append(candidates, baselines[1:]...)
	times, err := takeTurns(s.Context(), candidates, s.size.turns)
	if err != nil {
		s.Fatal(err)
	}
	s.checkCosts(torch, m)
	fmt.Fprintf(s.w, "Three cameras, %d tokens before an action block of %d, T = %d, batch 1; %d turns: medians of the ratios in each turn. Work is the ratio of the processors' time, which "+
		"others that compute on this machine do not lengthen; the share is its of the ratio of FLOPs.\n\n", m.Before(), m.Block(), T, s.size.turns)
	fmt.Fprintln(s.w, "| decoding | rounds | against (ii) | quartiles | quickest turns | work | by FLOPs | share of it | tokens as (ii) | ms |")
	fmt.Fprintln(s.w, "|---|---|---|---|---|---|---|---|---|---|")
	for i, c := range candidates {
		r, low, high := ratio(times[0].seconds, times[i].seconds)
		work, _, _ := ratio(times[0].cpu, times[i].cpu)
		flops, share := "", ""
		if c.flops > 0 {
			f := candidates[0].flops / c.flops
			flops, share = fmt.Sprintf("%.2f", f), fmt.Sprintf("%.2f", work/f)
		}
		fmt.Fprintf(s.w, "| %s | %d | %.2f | %.2f to %.2f | %.2f | %.2f | %s | %s | %.0f %% | %.0f |\n", c.name, times[i].outcome.rounds, r, low, high, times[0].best()/times[i].best(), work, flops, share,
			100*equalShare(times[i].outcome.bins, times[0].outcome.bins), 1e3*times[i].median())
	}
	return candidates, times
}

// checkCosts compares the cost function with what PyTorch counts.
func (s *speed) checkCosts(torch *torchPeer, m cost.Model) {
	vision, pass, err := torch.flops()
	if err != nil {
		s.Fatal(err)
	}
	for name, pair := range map[string][2]float64{"vision": {m.Vision().FLOPs, vision}, "a pass": {m.Pass().FLOPs, pass}} {
		if !(math.Abs(pair[0]/pair[1]-1) < 1e-9) {
			s.Errorf("%s costs %g by package cost, %g by PyTorch's count", name, pair[0], pair[1])
		}
	}
}

// batches is the time of a chunk in batches, against one alone.
func (s *speed) batches() {
	rounds := min(4, s.size.rounds)
	exact, graph, _ := s.bundle(func(*Options) {})
	prefix, prefixGraph, _ := s.bundle(func(o *Options) { o.Attention = bundle.Prefix })
	var candidates []candidate
	for _, batch := range s.size.batches {
		candidates = append(candidates,
			s.fused("exact", exact, graph, decode.Params{Rounds: rounds}, batch, 0),
			s.fused("attention prefix", prefix, prefixGraph, decode.Params{Rounds: rounds}, batch, 0))
	}
	times, err := takeTurns(s.Context(), candidates, max(2, s.size.turns/2))
	if err != nil {
		s.Fatal(err)
	}
	fmt.Fprint(s.w, "\nHow many rounds commit_confidence saves depends on the policy; random weights are seldom sure. `ddvla eval decode` measures it on a recording.\n")
	fmt.Fprintf(s.w, "\nBatches, T = %d: chunks per second of work against batch 1.\n\n| batch | exact | attention prefix |\n|---|---|---|\n", rounds)
	for i, batch := range s.size.batches {
		var cells [2]float64
		for k := range cells {
			r, _, _ := ratio(times[k].cpu, times[2*i+k].cpu)
			cells[k] = r * float64(batch)
		}
		fmt.Fprintf(s.w, "| %d | %.2f | %.2f |\n", batch, cells[0], cells[1])
	}
}

// grown is a shape of the growth table.
type grown struct {
	images, chunk int
	model         cost.Model
	round, rest   [2]float64 // seconds of a round and of all else: exact, prefix
}

// growth measures cameras and chunk lengths and fits models to a round.
func (s *speed) growth() {
	const few, many = 1, 5 // rounds; their difference is four rounds
	var shapes []grown
	var candidates []candidate
	for _, images := range s.size.images {
		for _, chunk := range s.size.chunks {
			for _, attention := range []bundle.Attention{bundle.Bidirectional, bundle.Prefix} {
				b, graph, m := s.bundle(func(o *Options) {
					o.Cameras, o.Chunk, o.Attention = o.Cameras[:images], chunk, attention
				})
				for _, rounds := range []int{few, many} {
					candidates = append(candidates, s.fused(fmt.Sprint(images, chunk, attention, rounds), b, graph, decode.Params{Rounds: rounds}, 1, 0))
				}
				if attention == bundle.Prefix {
					shapes = append(shapes, grown{images: images, chunk: chunk, model: m})
				}
			}
		}
	}
	times, err := takeTurns(s.Context(), candidates, s.size.turns)
	if err != nil {
		s.Fatal(err)
	}
	fmt.Fprint(s.w, "\nGrowth: milliseconds of a round, and of vision and all else that happens once: the processors' time over the threads, of the quickest turns.\n\n"+
		"| cameras | rows of a chunk | tokens | block | round, exact | once, exact | round, prefix | once, prefix |\n|---|---|---|---|---|---|---|---|\n")
	for i := range shapes {
		g := &shapes[i]
		for k := range 2 {
			short, long := slices.Min(times[4*i+2*k].cpu)/float64(s.threads), slices.Min(times[4*i+2*k+1].cpu)/float64(s.threads)
			g.round[k] = (long - short) / (many - few)
			g.rest[k] = short - g.round[k]
		}
		fmt.Fprintf(s.w, "| %d | %d | %d | %d | %.2f | %.2f | %.2f | %.2f |\n", g.images, g.chunk, g.model.Sequence(), g.model.Block(),
			1e3*g.round[0], 1e3*g.rest[0], 1e3*g.round[1], 1e3*g.rest[1])
	}
	fmt.Fprintln(s.w)
	s.fitted(shapes, "a round, exact", "tokens", "tokens^2", func(g grown) (float64, []float64) {
		n := float64(g.model.Sequence())
		return g.round[0], []float64{1, n, n * n}
	})
	s.fitted(shapes, "a round, prefix", "block", "block*all", func(g grown) (float64, []float64) {
		q := float64(g.model.Block())
		return g.round[1], []float64{1, q, q * (q + float64(g.model.Before()))}
	})
}

// fitted prints a model of a time and how far it is off.
func (s *speed) fitted(shapes []grown, what, linear, square string, of func(g grown) (float64, []float64)) {
	var x [][]float64
	var y []float64
	for _, g := range shapes {
		seconds, row := of(g)
		if !(seconds > 0) {
			fmt.Fprintf(s.w, "%s: no model, a round of %d cameras and %d rows took no longer than none.\n", what, g.images, g.chunk)
			return
		}
		x, y = append(x, row), append(y, seconds)
	}
	c, rms, largest, err := fit(x, y)
	if err != nil {
		s.Fatal(err)
	}
	fmt.Fprintf(s.w, "%s: %.3g ms + %.3g µs x %s + %.3g ns x %s; residual %.1f %% (root mean square), %.1f %% at most, over %d shapes.\n\n",
		what, 1e3*c[0], 1e6*c[1], linear, 1e9*c[2], square, 100*rms, 100*largest, len(y))
}

// TestSpeed makes the tables of `make bench`. Of the tiny network, which it takes without -speed.full, it
// checks that they are whole and that the ways that should give the same tokens do.
func TestSpeed(t *testing.T) {
	s := &speed{TB: t, size: speedSizes(), threads: 1}
	var out strings.Builder
	s.w = &out
	if *speedFull {
		s.threads = runtime.NumCPU()
		s.w = os.Stdout
	}
	dir := filepath.Join(t.TempDir(), "checkpoint")
	pytest.Run(t, nil, "../train/make_random.py", append([]string{"--out", dir, "--seed", "8", "--dtype", "f32"}, s.size.args...)...)
	s.sample = sample{images: 3, chunk: s.size.chunks[1], dims: 14, proprio: 14, dir: dir}
	var err error
	if s.runtime, err = ort.Open(ort.Config{Threads: s.threads}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.runtime.Close(); err != nil {
			t.Error(err)
		}
	}()
	// What is loaded is closed before the runtime.
	t.Run("tables", func(t *testing.T) {
		s.TB = t
		fmt.Fprintf(s.w, "%s; %d threads, ONNX Runtime %s, CPU provider, float32 but where it says int8 or int4; random weights.\n\n", machine.CPU(), s.threads, s.runtime.Version())
		candidates, times := s.table()
		for i, c := range candidates {
			if len(times[i].seconds) != s.size.turns || !(times[i].median() > 0) {
				t.Errorf("%s: %v", c.name, times[i].seconds)
			}
			// The same network, rounds and weights; a near tie may fall otherwise.
			same := strings.HasPrefix(c.name, "(") || c.name == "fused, exact"
			if share := equalShare(times[i].outcome.bins, times[0].outcome.bins); same && share < 0.9 {
				t.Errorf("%s: %g of the tokens are those of %s", c.name, share, candidates[0].name)
			}
		}
		s.batches()
		s.growth()
	})
	if *speedFull {
		return
	}
	lines := strings.Count(out.String(), "\n| ")
	// Each table has a head; T = 1 alone is less than four rounds, in two ways.
	if want := 1 + 12 + 1 + 2 + 1 + 4; lines != want {
		t.Errorf("%d lines of tables, want %d:\n%s", lines, want, out.String())
	}
	if strings.Contains(out.String(), "NaN") || strings.Contains(out.String(), "Inf") {
		t.Errorf("no numbers:\n%s", out.String())
	}
}

func TestFitFindsTheModel(t *testing.T) {
	var x [][]float64
	var y []float64
	for _, n := range []float64{3, 5, 8, 13, 40} {
		x = append(x, []float64{1, n, n * n})
		y = append(y, 7+0.5*n+0.01*n*n)
	}
	c, rms, largest, err := fit(x, y)
	if err != nil || math.Abs(c[0]-7) > 1e-9 || math.Abs(c[1]-0.5) > 1e-9 || math.Abs(c[2]-0.01) > 1e-9 || rms > 1e-12 || largest > 1e-12 {
		t.Errorf("%v, residuals %g and %g, %v", c, rms, largest, err)
	}
	y[2] *= 1.1
	if _, rms, largest, err = fit(x, y); err != nil || rms < 0.01 || largest < rms || largest > 0.1 {
		t.Errorf("one of five off by a tenth: residuals %g and %g, %v", rms, largest, err)
	}
	if _, _, _, err = fit([][]float64{{1, 2}, {2, 4}}, []float64{1, 2}); err == nil {
		t.Error("two unknowns from one equation")
	}
}

// The ratio of turns holds when both get slower together.
func TestRatioIsOfTurns(t *testing.T) {
	a, b := []float64{2, 20, 4, 6}, []float64{1, 10, 2, 2}
	if r, low, high := ratio(a, b); r != 2 || low != 2 || high < 2 {
		t.Errorf("%g, %g to %g", r, low, high)
	}
}

// Candidates are warmed up once and then take turns; an error names its candidate.
func TestTakeTurns(t *testing.T) {
	var order strings.Builder
	of := func(name string) candidate {
		return candidate{name: name, run: func(context.Context) (outcome, error) {
			order.WriteString(name)
			return outcome{[]int64{1}, 3, 0.5, 0.7}, nil
		}}
	}
	times, err := takeTurns(t.Context(), []candidate{of("a"), of("b")}, 2)
	if err != nil || order.String() != "ababab" || len(times[1].seconds) != 2 || times[0].median() != 0.5 || times[0].outcome.rounds != 3 || times[1].cpu[1] != 0.7 {
		t.Errorf("%q, %+v, %v", order.String(), times, err)
	}
	broken := errors.New("broken")
	_, err = takeTurns(t.Context(), []candidate{{name: "c", run: func(context.Context) (outcome, error) { return outcome{}, broken }}}, 1)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "c: ") {
		t.Errorf("%v", err)
	}
}

// The weights that package cost counts in OpenVLA-7B are those of its inventory.
func TestCostCountsTheWeightsOfOpenVLA(t *testing.T) {
	n := openVLA()
	m := n.costs(speedPrompt)
	if want := cost.OpenVLA(3, 14, speedPrompt, 350); fmt.Sprint(m) != fmt.Sprint(want) {
		t.Errorf("%+v, want %+v", want, m)
	}
	var linear, other, head float64
	for _, e := range n.inventory() {
		size := float64(product(e.shape))
		switch {
		case e.as == dead || len(e.shape) < 2 || strings.HasSuffix(e.name, "pos_embed") || strings.HasSuffix(e.name, "_token") || e.name == embedName:
			// Vectors are no products, embeddings are looked up.
		case e.name == headName:
			head += float64(n.tokens.bins) * float64(e.shape[1])
		case strings.HasPrefix(e.name, layersName):
			linear += size
		default:
			other += size
		}
	}
	c := m.Vision()
	pass := m.Pass()
	if c.Other != other || pass.Linear != linear || pass.Head != head {
		t.Errorf("weights: vision %g, layers %g, head %g; by the inventory %g, %g, %g", c.Other, pass.Linear, pass.Head, other, linear, head)
	}
}
