package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// runExport is `ddvla export`.
func runExport(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o := weights.Defaults()
	o.Exporter = "ddvla export " + buildVersion()
	flags := newFlags("export", "--checkpoint DIR --out BUNDLE --action-rate HZ [FLAGS]\n"+
		"Turns a checkpoint in the published OpenVLA-OFT layout into a policy bundle.")
	flags.StringVar(&o.Checkpoint, "checkpoint", "", "checkpoint `directory`: safetensors, config.json, tokenizer.model, dataset_statistics.json, and --STEP_checkpoint.pt of proprio_projector, vision_backbone (FiLM) and action_head (L1)")
	flags.StringVar(&o.Out, "out", "", "bundle `directory` to make; it must not exist")
	flags.StringVar(&o.LoRA, "lora", "", "`directory` of a PEFT LoRA adapter to merge into the checkpoint, which must be its base")
	plan := flags.Bool("plan", false, "print what would be done, tensor by tensor, and write nothing")
	flags.Float64Var(&o.ActionRate, "action-rate", 0, "rate of a chunk's rows in `Hz`; mandatory")
	flags.StringVar(&o.Name, "name", "", "`name` of the policy (default the checkpoint directory's)")
	cameras := flags.String("cameras", strings.Join(o.Cameras, ","), "`names` of the cameras in model order")
	flags.IntVar(&o.Recipe.Rotation, "rotate", 0, "turn pictures by 0 or 180 `degrees`")
	preResize := flags.String("pre-resize", "none", "`size` that pictures had been brought to before training, WIDTHxHEIGHT, with ,lanczos3 behind it for another filter than bicubic; OpenVLA-OFT's ALOHA: 256x256")
	flags.IntVar(&o.Recipe.JPEGQuality, "jpeg-quality", o.Recipe.JPEGQuality, "`quality` of the JPEG round trip of training pictures, 0 for none")
	flags.Float64Var(&o.Recipe.CropArea, "crop-area", o.Recipe.CropArea, "`share` of the area that the centre crop keeps, 1 for no crop")
	flags.IntVar(&o.Chunk, "chunk", o.Chunk, "`rows` of a chunk, as the model was trained; no file tells it")
	var layouts []string
	for _, l := range weights.Layouts() {
		layouts = append(layouts, fmt.Sprintf("  %s, %d and %d: %s", l.Name, len(l.Action), len(l.Proprio), l.Meaning))
	}
	actionDims := flags.String("action-dims", weights.Layouts()[0].Name, "what a chunk's columns mean: a `layout`, or a JSON file with a list of the manifest's entries of action.dims; with columns and entries of the state the layouts are\n"+strings.Join(layouts, "\n"))
	proprioDims := flags.String("proprio-dims", "", "what the robot state's entries mean: a `layout`, or a JSON file with a list of the manifest's entries of proprio.dims (default those of --action-dims)")
	gripper := flags.String("gripper", "", "changes the `rule` of all gripper columns, FIELD=VALUE with commas between: mode=metres, normalised (0..1) or binary; open, close, offset in metres; threshold of mode binary; invert where larger values close. Example: mode=binary,open=0.07,close=0,threshold=0.5")
	attention := flags.String("attention", "", "which tokens see which: `kind` bidirectional, prefix or causal, as the model was trained (default what config.json says, or bidirectional)")
	vocabulary := flags.String("vocabulary", string(o.Vocabulary), "what probabilities are taken over: `action or full`, the bins or all words too, as the released code does")
	flags.StringVar(&o.Head, "head", "", "what chunks come out of: `tokens or l1`, the language model or its action_head--STEP_checkpoint.pt (default l1 where there is one)")
	flags.StringVar(&o.Precision, "precision", o.Precision, "`type` of the weights and of what is computed: fp32, fp16 or bf16 (normalisations, softmax and lm_head stay fp32); int8 or int4 for the language model's linear layers")
	flags.StringVar(&o.VisionPrecision, "vision-precision", "", "`type` of the vision towers and the projector: fp32, fp16 or bf16 (default that of --precision, or fp16 with int8 and int4)")
	flags.StringVar(&o.Activations, "activations", "", "`type` in which a language model with int8 or int4 weights computes: fp32, fp16 or bf16 (default fp32)")
	observations := flags.String("observations", "", "JSON `file` to measure the damage of the precision on, [{\"images\": [\"head.jpg\", ...], \"instruction\": \"...\", \"state\": [...]}, ...] (default made ones); of a 7B model each takes minutes")
	flags.IntVar(&o.BlockSize, "block-size", o.BlockSize, "`weights` that share a scale with int8 and int4: 32, 64 or 128 (default 32)")
	flags.BoolVar(&o.Asymmetric, "asymmetric", false, "give each block of int8 or int4 weights a zero point of its own")
	flags.IntVar(&o.Unroll, "unroll", 0, "lay out so many decoding `rounds` one after the other, for runtimes that take no Loop, If or float64, such as TensorRT; no run can have more (default a Loop)")
	flags.StringVar(&o.UnnormKey, "unnorm-key", "", "data set's `key` in dataset_statistics.json (default the only one)")
	binEdges := flags.String("bin-edges", "", "JSON `file` with the edges of the bins that the model was trained with, normalised: for each action dimension a list of K+1 values that rise from -1 to 1, or an empty one for uniform bins (default action.bin_edges in dataset_statistics.json, or uniform bins)")
	normalization := flags.String("normalization", string(o.Normalization), "statistics behind the bins, as the model was trained: `bounds or bounds_q99`; no file tells it")
	flags.StringVar(&o.PromptTemplate, "prompt-template", o.PromptTemplate, "`text` with {instruction} in it")
	flags.IntVar(&o.MaxPromptTokens, "max-prompt-tokens", o.MaxPromptTokens, "longest prompt in `tokens`")
	flags.StringVar(&o.Decode.Preset, "preset", o.Decode.Preset, "decoding `preset`: greedy, paper, official, official-remask or, with causal attention, autoregressive")
	flags.IntVar(&o.Decode.Rounds, "rounds", o.Decode.Rounds, "decoding `rounds`")
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	o.Cameras = strings.Split(*cameras, ",")
	o.Attention = bundle.Attention(*attention)
	o.Vocabulary = bundle.Vocabulary(*vocabulary)
	o.Normalization = bundle.Normalization(*normalization)
	if err := o.SetColumns(*actionDims, *proprioDims, *gripper); err != nil {
		return usageError{err}
	}
	var err error
	if o.Recipe.PreResize, err = parsePreResize(*preResize); err != nil {
		return usageError{err}
	}
	if *binEdges != "" {
		if o.BinEdges, err = weights.ReadBinEdges(*binEdges); err != nil {
			return fmt.Errorf("bin-edges: %w", err)
		}
	}
	if *observations != "" {
		if o.Observations, err = weights.ReadObservations(*observations); err != nil {
			return fmt.Errorf("observations: %w", err)
		}
	}
	var notes []string
	o.Note = func(line string) { notes = append(notes, line) }
	printNotes := func(err error) {
		if err == nil {
			notes = append(notes, assumptions(flags, &o, *actionDims)...)
		}
		for _, line := range notes {
			fmt.Fprintf(stderr, "export: %s\n", line)
		}
	}
	if *plan {
		p, err := weights.MakePlan(o)
		printNotes(err)
		if err != nil {
			return exportError(err)
		}
		return printPlan(stdout, p)
	}
	progress := newProgressLine(stderr)
	o.Progress = progress.report
	err = weights.Export(ctx, o)
	progress.end()
	printNotes(err)
	if err != nil {
		return exportError(err)
	}
	m, err := bundle.ReadManifest(o.Out)
	if err != nil {
		return err
	}
	fmt.Fprintf(stdout, "%s: policy %q, %d parameters, %d cameras of %d pixels, chunks of %d x %d at %g Hz\n",
		o.Out, m.Name, m.Model.Parameters, len(m.Cameras), m.Model.ImageSize, m.Action.Chunk, len(m.Action.Dims), m.Action.Rate)
	return printDamage(stdout, m)
}

// printDamage tells what the precision did, where that was measured.
func printDamage(w io.Writer, m *bundle.Manifest) error {
	d := m.Damage
	if d == nil {
		return nil
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	whose := "made"
	if d.Given {
		whose = "given"
	}
	fmt.Fprintf(out, "\ndamage of %s against float32, one pass each of %d %s observations\n", precision(&m.Model), d.Observations, whose)
	name := "normalised actions"
	if m.Model.Head != bundle.L1Head {
		name = "logits"
		fmt.Fprintf(out, "tokens\t%.4g %% of %d equal\n", 100*d.TokensEqual, d.Tokens)
	}
	fmt.Fprintf(out, "%s\tlargest difference %.4g, mean %.4g\n", name, d.OutputLargest, d.OutputMean)
	for _, a := range d.Actions {
		fmt.Fprintf(out, "%s\tlargest difference %.4g %s\n", a.Name, a.Largest, a.Unit)
	}
	if d.Largest != nil {
		fmt.Fprintf(out, "float16\tlargest number %.4g of 65504, in %s\n", d.Largest.Value, d.Largest.Node)
	}
	return out.Flush()
}

func exportError(err error) error {
	if errors.Is(err, weights.ErrOption) {
		return usageError{err}
	}
	return err
}

// printPlan writes a line for each tensor and the sums.
func printPlan(w io.Writer, p *weights.Plan) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "tensor\tstored as\tshape\tform\tin the graph\tbytes")
	var read, written, dropped int64
	deadTensors := 0
	for _, t := range p.Tensors {
		inGraph := "-"
		if t.Dead() {
			deadTensors++
			dropped += t.Bytes
		} else {
			inGraph = fmt.Sprintf("%s %v", t.StoredType, t.Stored)
			read += t.Bytes
			written += t.StoredBytes
		}
		form := t.Form
		if t.Rank > 0 && !t.Dead() {
			form += fmt.Sprintf(" + LoRA %d", t.Rank)
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%s\t%s\t%d\n", t.Name, t.DType, t.Shape, form, inGraph, t.StoredBytes)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	m := &p.Manifest
	fmt.Fprintf(w, "\n%d tensors of %s, of which %d are used", len(p.Tensors), size(read+dropped), len(p.Tensors)-deadTensors)
	fmt.Fprintf(w, " and %d of %s are dead: in every checkpoint, read by no inference, left out\n", deadTensors, size(dropped))
	fmt.Fprintf(w, "%d parameters, %s as %s; %s of %s with its tables\n", m.Model.Parameters, size(written), precision(&m.Model), bundle.WeightsFile, size(p.StoreBytes))
	fmt.Fprintf(w, "policy %q: %d cameras of %d pixels, chunks of %d x %d at %g Hz, %s attention, %s vocabulary, mask token %d, statistics of %q (%s)\n",
		m.Name, len(m.Cameras), m.Model.ImageSize, m.Action.Chunk, len(m.Action.Dims), m.Action.Rate, m.Model.Attention, m.Model.Vocabulary, m.Tokens.Mask,
		m.Action.UnnormKey, m.Action.Normalization)
	if lora := m.Source.Options["lora"]; lora != "" {
		fmt.Fprintf(w, "LoRA merged in float32: %s\n", lora)
	}
	if m.Model.Unrolled > 0 {
		fmt.Fprintf(w, "%s\n", unrolled(&m.Model))
	}
	if m.Model.Head == bundle.L1Head {
		fmt.Fprintln(w, "L1 head: the chunk comes out of the action head in one pass; nothing is decoded")
	}
	if film := m.Source.Options["film"]; film != "" {
		fmt.Fprintf(w, "FiLM: language conditions the vision towers of %s\n", film)
	}
	fmt.Fprintf(w, "read: %s\n", strings.Join(p.Files, " "))
	_, err := fmt.Fprintln(w, "nothing was written; leave out --plan to export")
	return err
}

// unrolled says how the rounds of a graph without a Loop stand.
func unrolled(m *bundle.Model) string {
	return fmt.Sprintf("%d rounds one after the other in the graph, without a Loop", m.Unrolled)
}

// precision says how the weights are stored.
func precision(m *bundle.Model) string {
	activations, vision := cmp.Or(m.Activations, bundle.Float32), cmp.Or(m.VisionPrecision, bundle.Float32)
	q := m.Quantisation
	if q == nil {
		if vision != m.Precision {
			return fmt.Sprintf("%s (vision %s)", m.Precision, vision)
		}
		return string(m.Precision)
	}
	symmetry := "asymmetric"
	if q.Symmetric {
		symmetry = "symmetric"
	}
	return fmt.Sprintf("%s in %s blocks of %d (linear layers of the language model; its other weights %s, vision %s)", m.Precision, symmetry, q.BlockSize, activations, vision)
}

// size is a number of bytes for people, in powers of ten.
func size(n int64) string {
	x, units := float64(n), []string{"kB", "MB", "GB", "TB"}
	if x < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	i := -1
	for x >= 999.5 && i+1 < len(units) {
		x /= 1000
		i++
	}
	return fmt.Sprintf("%.3g %s", x, units[i])
}

// progressLine tells how far a long export is: one line, redrawn, on a terminal,
// else a line every few seconds.
type progressLine struct {
	w        io.Writer
	terminal bool
	every    time.Duration
	now      func() time.Time
	last     time.Time
	lastDone int64
	rate     float64 // bytes a second, smoothed
	drawn    bool
}

func newProgressLine(w io.Writer) *progressLine {
	p := &progressLine{w: w, every: 5 * time.Second, now: time.Now, last: time.Now()}
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.terminal, p.every = true, 200*time.Millisecond
		}
	}
	return p
}

// smoothing is the time over which the rate is averaged: reading and converting
// differ in speed, so the whole run's average would mislead about what is left.
const smoothing = 8 * time.Second

func (p *progressLine) report(done, total int64) {
	now := p.now()
	elapsed := now.Sub(p.last)
	if elapsed < p.every {
		return
	}
	rate := float64(done-p.lastDone) / elapsed.Seconds()
	if p.rate == 0 {
		p.rate = rate
	} else {
		p.rate += (rate - p.rate) * (1 - math.Exp(-elapsed.Seconds()/smoothing.Seconds()))
	}
	p.last, p.lastDone = now, done
	left := "?"
	if p.rate > 0 {
		left = time.Duration(float64(total-done) / p.rate * float64(time.Second)).Round(time.Second).String()
	}
	line := fmt.Sprintf("export: %3d %% of %s, %s/s, %s left", 100*done/max(total, 1), size(total), size(int64(p.rate)), left)
	if p.terminal {
		// Erases what a longer line left behind.
		fmt.Fprintf(p.w, "\r%s\x1b[K", line)
		p.drawn = true
	} else {
		fmt.Fprintln(p.w, line)
	}
}

// end leaves the terminal's cursor on a line of its own.
func (p *progressLine) end() {
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
