package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros/param"
)

// evalBins is what `ddvla eval bins` was asked for.
type evalBins struct {
	bag, out string
	every    int
	power    float64
}

// runEvalBins is `ddvla eval bins`: what is lost when recorded actions become bins.
func runEvalBins(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := newFlags("eval bins", "--bundle DIR --bag BAG [FLAGS] [--ros-args -p NAME:=VALUE -r FROM:=TO]\n"+
		"Takes the recorded commands (arms.*.command_topic) at the times of the chunks' rows through the bins of a policy, and through\n"+
		"others made for them, and prints how far off they come back, mean / largest by dimension.")
	dir := flags.String("bundle", "", "the policy bundle's `directory`")
	e := evalBins{}
	flags.StringVar(&e.bag, "bag", "", "the recorded `bag`")
	flags.IntVar(&e.every, "every", 1, "take every `n`-th complete set of pictures")
	fit := flags.String("fit", "least-absolute", "`how` the other bins are made: quantiles (as many values in each), least-absolute or least-squares (error)")
	flags.StringVar(&e.out, "out", "", "write the edges of the other bins to this JSON `file`, which is replaced: to train with, and for `ddvla export --bin-edges`")
	_, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	power, known := map[string]float64{"quantiles": action.Quantiles, "least-absolute": action.LeastAbsolute, "least-squares": action.LeastSquares}[*fit]
	e.power = power
	switch {
	case *dir == "":
		return usageError{errors.New("no bundle; --bundle names the directory that `ddvla export` wrote")}
	case e.bag == "":
		return usageError{errors.New("no bag; --bag names a recording")}
	case e.every < 1:
		return usageError{fmt.Errorf("--every is %d, must be at least 1", e.every)}
	case !known:
		return usageError{fmt.Errorf("--fit is %q, must be quantiles, least-absolute or least-squares", *fit)}
	}
	rosArgs, _, err := param.ParseArgs(slices.Concat(args, []string{"--ros-args", "-p", "policy:=" + param.String(*dir).String()}), os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	m, rows, err := e.recorded(ctx, rosArgs)
	if err != nil {
		return err
	}
	return e.report(stdout, *dir, m, rows)
}

// recorded are the recorded commands, a row for each of all chunks' that has one of
// every dimension.
func (e *evalBins) recorded(ctx context.Context, args *param.Args) (m *bundle.Manifest, rows []float64, err error) {
	reader, err := bag.Open(e.bag)
	if err != nil {
		return nil, nil, err
	}
	r := replay{reader: reader}
	args.Remaps = append(args.Remaps, r.instructionRemap()...)
	c, err := configure(args, r.compressedCameras()...)
	if err != nil {
		return nil, nil, err
	}
	if err := r.check(c); err != nil {
		return nil, nil, err
	}
	m = c.manifest
	for _, d := range m.Action.Dims {
		if d.Space != bundle.Joint {
			return nil, nil, fmt.Errorf("bundle %s: dimension %q is a %s; recorded commands are joint positions", c.settings.Policy, d.Name, d.Space)
		}
	}
	if m.Model.Head == bundle.L1Head {
		return nil, nil, fmt.Errorf("bundle %s: the policy has an L1 head, which has no bins", c.settings.Policy)
	}
	recording, err := node.OpenRecording(ctx, reader, c.options, c.settings, m)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, recording.Close()) }()
	for o, err := range recording.Observations(ctx, e.every) {
		if err != nil {
			return nil, nil, err
		}
		chunk := action.Chunk{Stamp: o.Stamp, Rate: m.Action.Rate}
		for t := range m.Action.Chunk {
			row := make([]float64, 0, len(m.Action.Dims))
			for _, d := range m.Action.Dims {
				if v, ok := recording.Action(d.Name, chunk.Time(t)); ok {
					row = append(row, v)
				}
			}
			if len(row) == len(m.Action.Dims) {
				rows = append(rows, row...)
			}
		}
	}
	if len(rows) == 0 {
		return nil, nil, fmt.Errorf("%s: no recorded command of all dimensions at the time of any chunk's row", e.bag)
	}
	return m, rows, nil
}

// asCommanded reports whether commands of a dimension are in the data set's units.
func asCommanded(d bundle.ActionDim) bool {
	g := d.Gripper
	return g == nil || g.Mode == bundle.GripperMetres && !g.Invert && g.Offset == 0
}

// report prints the table and writes the edges.
func (e *evalBins) report(stdout io.Writer, dir string, m *bundle.Manifest, rows []float64) error {
	codec, err := action.New(&bundle.Bundle{Dir: dir, Manifest: *m})
	if err != nil {
		return err
	}
	exact, err := codec.Normalised(rows, nil)
	if err != nil {
		return err
	}
	dims := len(m.Action.Dims)
	edges := make([][]float64, dims)
	for d, dim := range m.Action.Dims {
		if !asCommanded(dim) {
			continue
		}
		column := make([]float64, 0, len(exact)/dims)
		for i := d; i < len(exact); i += dims {
			column = append(column, exact[i])
		}
		edges[d] = action.FitEdges(column, m.Tokens.Bins, e.power)
	}
	fmt.Fprintf(stdout, "%d recorded rows of %s through %d bins: how far off they come back, mean / largest. Values beyond the statistics' bounds are counted, and left out.\n\n",
		len(rows)/dims, e.bag, m.Tokens.Bins)
	fmt.Fprint(stdout, "| dimension | policy's bins | uniform bins | fitted bins | values | beyond |\n|---|---|---|---|---|---|\n")
	uniform := action.NewBins(m.Tokens.Bins)
	for d, dim := range m.Action.Dims {
		if !asCommanded(dim) {
			fmt.Fprintf(stdout, "| %s: its gripper rule does not go backwards; left uniform | | | | | |\n", dim.Name)
			continue
		}
		list := []action.Bins{codec.Bins(d), uniform, action.NewBinsOf(edges[d])}
		sum, largest := make([]float64, len(list)), make([]float64, len(list))
		count, beyond := 0, 0
		for i := d; i < len(exact); i += dims {
			if math.Abs(exact[i]) == 1 {
				beyond++
				continue
			}
			count++
			for k, b := range list {
				off := math.Abs(codec.Span(d) / 2 * (b.Centre(b.Of(exact[i])) - exact[i]))
				sum[k] += off
				largest[k] = max(largest[k], off)
			}
		}
		fmt.Fprintf(stdout, "| %s %s", dim.Name, dim.Unit)
		for k := range list {
			fmt.Fprintf(stdout, " | %.6f / %.6f", sum[k]/float64(max(count, 1)), largest[k])
		}
		fmt.Fprintf(stdout, " | %d | %d |\n", count, beyond)
	}
	if e.out == "" {
		return nil
	}
	raw, err := json.Marshal(edges)
	if err != nil {
		return err
	}
	if err := os.WriteFile(e.out, append(raw, '\n'), 0o644); err != nil {
		return err
	}
	_, err = fmt.Fprintf(stdout, "\n%s: edges of the fitted bins; a network must be trained with them\n", e.out)
	return err
}
