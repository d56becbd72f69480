package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// runInspect is `ddvla inspect`.
func runInspect(ctx context.Context, args []string, stdout, _ io.Writer) error {
	flags := newFlags("inspect", "[--tensors] BUNDLE | --trace BAG [--chunk N] [--out PNG]\n"+
		"Prints what a policy bundle is, and checks its files against their hashes. With --trace: how a chunk of a bag was decoded, round by round.")
	tensors := flags.Bool("tensors", false, "list every weight with its shape, type and place")
	var trace traceFlags
	flags.StringVar(&trace.bag, "trace", "", "a `bag` that `ddvla replay` wrote, or a node with the parameter decode.trace")
	flags.IntVar(&trace.chunk, "chunk", 1, "which chunk of the bag, `1...`")
	flags.StringVar(&trace.topic, "topic", "", "the traces' `topic`, where the bag has more than one")
	flags.StringVar(&trace.out, "out", "", "draw the trace to this `PNG` file, which is replaced: when each token was committed, how sure, and which were masked again")
	if err := parse(flags, args, 1, stdout); err != nil {
		return err
	}
	if err := trace.check(flags.Arg(0), *tensors); err != nil {
		return usageError{err}
	}
	if trace.bag != "" {
		return inspectTrace(ctx, stdout, trace.bag, trace.topic, trace.chunk, trace.out)
	}
	if flags.NArg() != 1 {
		return usageError{errors.New("which bundle? give its directory; `ddvla inspect -h` explains")}
	}
	dir := flags.Arg(0)
	m, err := bundle.ReadManifest(dir)
	if err != nil {
		return err
	}
	printManifest(stdout, m)
	if err := printDamage(stdout, m); err != nil {
		return err
	}
	var fused *onnx.Description
	for _, name := range m.FileNames() {
		if !strings.HasSuffix(name, ".onnx") {
			continue
		}
		g, err := onnx.Describe(filepath.Join(dir, name))
		if err != nil {
			// The rest can still be told; the hashes decide what is wrong.
			fmt.Fprintf(stdout, "\n%v\n", err)
			continue
		}
		printGraph(stdout, name, g)
		if name == bundle.GraphFile {
			fused = g
		}
	}
	if fused != nil {
		printMemory(stdout, m, fused)
		if *tensors {
			printTensors(stdout, fused)
		}
	}
	return printFiles(ctx, stdout, dir, m)
}

func printManifest(w io.Writer, m *bundle.Manifest) {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, format string, args ...any) {
		fmt.Fprintf(out, "%s\t%s\n", name, fmt.Sprintf(format, args...))
	}
	a, d := m.Action, m.Model
	line("policy", "%q, manifest version %d", m.Name, m.SchemaVersion)
	line("model", "%d parameters in %s; %d layers of width %d, %d heads", d.Parameters, precision(&d), d.Layers, d.Hidden, d.Heads)
	line("attention", "%s; probabilities over the %s vocabulary", d.Attention, d.Vocabulary)
	line("sequence", "%d tokens with a prompt of %d, at most %d", m.SequenceLength(m.Prompt.MaxTokens), m.Prompt.MaxTokens, d.MaxSequence)
	if d.NormEpsilon > 0 {
		line("constants", "norm epsilon %g, RoPE theta %g", d.NormEpsilon, d.RopeTheta)
	}
	for i, n := range d.ImageNormalization {
		line([]string{"DINOv2 pixels", "SigLIP pixels"}[min(i, 1)], "mean %v, std %v", n.Mean, n.Std)
	}
	t := m.Tokens
	line("tokens", "BOS %d, empty %d, stop %d, pad %d, mask %d; bin k of %d is %d - k", t.BOS, t.Empty, t.Stop, t.Pad, t.Mask, t.Bins, t.ActionTokenBase-1)
	line("prompt", "%q, lower case %v", m.Prompt.Template, m.Prompt.Lowercase)
	for i, c := range m.Cameras {
		line(fmt.Sprintf("camera %d", i), "%s: %s", c.Name, recipe(c))
	}
	line("chunk", "%d rows of %d at %g Hz, %g s", a.Chunk, len(a.Dims), a.Rate, float64(a.Chunk)/a.Rate)
	line("statistics", "%q, %s", a.UnnormKey, a.Normalization)
	for i, c := range a.Dims {
		line(fmt.Sprintf("action %d", i), "%s, %s, %s%s%s", c.Name, strings.ReplaceAll(string(c.Space), "_", " "), c.Unit, gripper(c.Gripper), binWidths(a.BinEdges, i))
	}
	if m.Proprio == nil {
		line("proprio", "none")
	} else {
		names := make([]string, len(m.Proprio.Dims))
		for i, p := range m.Proprio.Dims {
			names[i] = p.Name + " " + p.Unit
		}
		line("proprio", "%s", strings.Join(names, ", "))
	}
	if m.Model.Head == bundle.L1Head {
		line("decoding", "none: the head gives values in one pass")
	} else {
		line("decoding", "%s, %d rounds", m.Decode.Preset, m.Decode.Rounds)
	}
	if d.Refresh {
		line("refresh", "1 (exact) to 64: rounds that a computation of the prefix serves")
	}
	if d.Unrolled > 0 {
		line("unrolled", "%s", unrolled(&d))
	}
	line("exported by", "%s", m.Source.Exporter)
	for _, key := range sortedNames(m.Source.Options) {
		line("  option "+key, "%s", m.Source.Options[key])
	}
	for _, name := range sortedNames(m.Source.Files) {
		line("  from "+name, "%s", m.Source.Files[name])
	}
	out.Flush()
}

func recipe(c bundle.Camera) string {
	var steps []string
	if c.Rotation != 0 {
		steps = append(steps, fmt.Sprintf("turned by %d degrees", c.Rotation))
	}
	if p := c.PreResize; p != nil {
		steps = append(steps, fmt.Sprintf("%s to %dx%d", p.Filter, p.Width, p.Height))
	}
	if c.JPEGQuality > 0 {
		steps = append(steps, fmt.Sprintf("JPEG quality %d", c.JPEGQuality))
	}
	steps = append(steps, fmt.Sprintf("%s to %dx%d", c.Resize.Filter, c.Resize.Width, c.Resize.Height))
	if c.CropArea < 1 {
		steps = append(steps, fmt.Sprintf("centre crop of %g of the area", c.CropArea))
	}
	return strings.Join(steps, ", ")
}

func gripper(g *bundle.Gripper) string {
	if g == nil {
		return ""
	}
	text := fmt.Sprintf("; gripper in %s, closed %g m, open %g m", g.Mode, g.Close, g.Open)
	if g.Invert {
		text += ", larger closes"
	}
	return text
}

// binWidths tells of bins that are not uniform.
func binWidths(edges [][]float64, column int) string {
	if column >= len(edges) || len(edges[column]) == 0 {
		return ""
	}
	narrow, wide := math.Inf(1), 0.0
	list := edges[column]
	for k, e := range list[1:] {
		narrow, wide = min(narrow, e-list[k]), max(wide, e-list[k])
	}
	return fmt.Sprintf("; bins of its own, %.2g to %.2g wide where -1 to 1 is the range", narrow, wide)
}

func printGraph(w io.Writer, name string, g *onnx.Description) {
	fmt.Fprintf(w, "\n%s: %d nodes, opset %d, IR %d\n", name, g.Nodes, g.Opset, g.IR)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range g.Inputs {
		fmt.Fprintf(out, "  input\t%s\t%s\n", p.Name, p)
	}
	for _, p := range g.Outputs {
		fmt.Fprintf(out, "  output\t%s\t%s\n", p.Name, p)
	}
	out.Flush()
}

func printTensors(w io.Writer, g *onnx.Description) {
	fmt.Fprintln(w)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "weight\ttype\tshape\tbytes\tat")
	for _, t := range g.Tensors {
		if t.File != "" {
			fmt.Fprintf(out, "%s\t%s\t%v\t%d\t%s:%d\n", t.Name, t.Type, t.Dims, t.Bytes, t.File, t.Offset)
		}
	}
	out.Flush()
}

func printMemory(w io.Writer, m *bundle.Manifest, g *onnx.Description) {
	stored := storedBytes(g)
	running := runningBytes(m, g)
	fmt.Fprintf(w, "\nmemory: %s of weights and about %s while it runs, so about %s on the device, besides the runtime's own (CUDA's is some hundred MB)\n",
		size(stored), size(running), size(stored+running))
}

// runningBytes estimates what one run needs beside the weights: the activations
// of the widest layer, of a tower (all cameras at once) or the language model,
// the noise and, where it is kept, what the prefix is attended by. A run on the
// CPU of 36 million parameters, three cameras and 350 action tokens took 1.15
// times the sum of both with bidirectional attention, 0.86 times with prefix.
func runningBytes(m *bundle.Manifest, g *onnx.Description) int64 {
	dims := map[string][]int64{}
	for _, t := range g.Tensors {
		dims[t.Name] = t.Dims
	}
	columns := func(name string) int64 {
		switch d := dims[name]; len(d) {
		case 2:
			return d[1]
		case 3: // quantised: [columns, blocks, bytes]
			return d[0]
		}
		return 0
	}
	s, hidden, slots := int64(m.SequenceLength(m.Prompt.MaxTokens)), int64(m.Model.Hidden), int64(m.Action.Tokens())
	inner := columns("language_model.model.layers.0.mlp.gate_proj.weight")
	// Scores before and after softmax; queries, keys, values before and after RoPE.
	attention := 2*int64(m.Model.Heads)*s*s + 8*s*hidden
	widest := max(attention, s*(3*inner+2*hidden))
	for _, tower := range []string{"featurizer", "fused_featurizer"} {
		prefix := "vision_backbone." + tower + ".blocks.0."
		qkv := dims[prefix+"attn.qkv.weight"]
		if len(qkv) != 2 {
			continue
		}
		images, tokens, width := int64(len(m.Cameras)), int64(m.Model.PatchesPerImage)+8, qkv[0]
		// Both published towers have heads of about 64.
		heads := max(width/64, 1)
		attention := images * (2*heads*tokens*tokens + 8*tokens*width)
		widest = max(widest, attention, images*tokens*(3*columns(prefix+"mlp.fc1.weight")+2*width))
	}
	kept := s * hidden
	if m.Model.Attention != bundle.Bidirectional {
		kept += 2 * int64(m.Model.Layers) * s * hidden
	}
	noise := int64(m.Decode.Rounds) * slots * int64(m.Tokens.Bins)
	// float32; probabilities are summed in float64.
	vocabulary := columns("language_model.lm_head.weight")
	return 4*(widest+kept+noise) + 20*slots*vocabulary
}

// printFiles checks every file and names all that are wrong.
func printFiles(ctx context.Context, w io.Writer, dir string, m *bundle.Manifest) error {
	fmt.Fprintln(w)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	var wrong []error
	for _, name := range m.FileNames() {
		if err := ctx.Err(); err != nil {
			return err
		}
		state, bytes := "as written", "-"
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil {
			bytes = size(info.Size())
		}
		if err := bundle.CheckFile(dir, name, m.Files[name]); err != nil {
			wrong = append(wrong, err)
			state = "WRONG"
			if errors.Is(err, bundle.ErrMissingFile) {
				state = "MISSING"
			}
		}
		fmt.Fprintf(out, "%s\t%s\tsha256 %s\t%s\n", name, bytes, m.Files[name], state)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	if len(wrong) > 0 {
		return fmt.Errorf("bundle %s: %d of %d files are wrong: %w", dir, len(wrong), len(m.Files), joined(wrong))
	}
	return nil
}

// joined is errors.Join in one line.
func joined(list []error) error {
	err := list[0]
	for _, next := range list[1:] {
		err = fmt.Errorf("%w; %w", err, next)
	}
	return err
}

func sortedNames[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
