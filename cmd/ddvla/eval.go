package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/node"
	model "github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/compare"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/ros/param"
)

// runEval is `ddvla eval`, whose first argument says what is measured.
func runEval(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	const kinds = "run, tables, decode and bins"
	switch {
	case len(args) == 0:
		return usageError{errors.New("what? there are " + kinds + "; `ddvla eval run -h` and `ddvla eval decode -h` explain")}
	case args[0] == "run":
		return runEvalRun(ctx, args[1:], stdout, stderr)
	case args[0] == "tables":
		return runEvalTables(ctx, args[1:], stdout, stderr)
	case args[0] == "decode":
		return runEvalDecode(ctx, args[1:], stdout, stderr)
	case args[0] == "bins":
		return runEvalBins(ctx, args[1:], stdout, stderr)
	case strings.HasPrefix(args[0], "-"):
		return parse(newFlags("eval", "run|tables|decode|bins [FLAGS]\nMeasures policies: run in closed loop in the simulator, tables likewise many of them, decode and bins on a recorded bag; `ddvla eval run -h` explains one."), args, 0, stdout)
	}
	return usageError{fmt.Errorf("there is no %q to evaluate, only %s", args[0], kinds)}
}

// evalDecode is what `ddvla eval decode` was asked for.
type evalDecode struct {
	bag, only    string
	every, limit int
	json         bool
}

// runEvalDecode is `ddvla eval decode`: decoders side by side on a recording.
func runEvalDecode(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("eval decode", "--bundle DIR --bag BAG [FLAGS] [--ros-args -p NAME:=VALUE -r FROM:=TO]\n"+
		"Decodes the observations of a bag in every way there is, on the same weights, and prints a table: passes, latency, agreement,\n"+
		"and the distance from the recorded commands (arms.*.command_topic) where the bag has them. Parameters decode.* other than rounds\n"+
		"add a line of their own.")
	dir := flags.String("bundle", "", "the policy bundle's `directory`")
	var e evalDecode
	flags.StringVar(&e.bag, "bag", "", "the recorded `bag`")
	flags.IntVar(&e.every, "every", 1, "take every `n`-th complete set of pictures")
	flags.IntVar(&e.limit, "limit", 0, "at most `n` observations; 0 is all")
	flags.StringVar(&e.only, "decoders", "", "only these, `names` with commas between; greedy, which others are compared with, is always there")
	flags.BoolVar(&e.json, "json", false, "print JSON instead of Markdown")
	given := parameterFlags(flags, map[string]string{
		"seed": "seed", "decode.rounds": "rounds", "instruction": "instruction",
		"runtime.library": "library", "runtime.provider": "provider", "runtime.device": "device", "runtime.threads": "threads",
	})
	_, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	switch {
	case *dir == "":
		return usageError{errors.New("no bundle; --bundle names the directory that `ddvla export` wrote")}
	case e.bag == "":
		return usageError{errors.New("no bag; --bag names a recording")}
	case e.every < 1:
		return usageError{fmt.Errorf("--every is %d, must be at least 1", e.every)}
	case e.limit < 0:
		return usageError{fmt.Errorf("--limit is %d, must not be negative", e.limit)}
	}
	*given = append(*given, "-p", "policy:="+param.String(*dir).String())
	rosArgs, _, err := param.ParseArgs(slices.Concat(args, []string{"--ros-args"}, *given), os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	result, err := e.run(ctx, rosArgs, stderr)
	if err != nil {
		return err
	}
	if e.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", " ")
		return encoder.Encode(result)
	}
	fmt.Fprintf(stdout, "Policy %q on %s: %d observations, %d tokens; T = %d, seed %d. Times are of the network's passes, provider %s on %d CPUs.\n\n",
		result.Policy, e.bag, result.Observations, result.Tokens, result.Rounds, result.Seed, result.Provider, result.CPUs)
	return result.Markdown(stdout)
}

// evaluation is the table and what it was made with, and its JSON form.
type evaluation struct {
	Policy   string `json:"policy"`
	Bundle   string `json:"bundle"`
	Bag      string `json:"bag"`
	Rounds   int    `json:"rounds"`
	Seed     int64  `json:"seed"`
	Provider string `json:"provider"`
	Threads  int    `json:"threads"` // as the parameter: 0 is one per core
	CPUs     int    `json:"cpus"`
	*compare.Table
}

func (e *evalDecode) run(ctx context.Context, args *param.Args, stderr io.Writer) (result *evaluation, err error) {
	reader, err := bag.Open(e.bag)
	if err != nil {
		return nil, err
	}
	r := replay{reader: reader}
	args.Remaps = append(args.Remaps, r.instructionRemap()...)
	c, err := configure(args, r.compressedCameras()...)
	if err != nil {
		return nil, err
	}
	if err := r.check(c); err != nil {
		return nil, err
	}
	decoders, err := e.decoders(c)
	if err != nil {
		return nil, usageError{err}
	}
	level := "warn"
	if asked := c.logLevel(); asked != "" {
		level = asked
	}
	log := consoleLogger(stderr, level)
	for _, name := range c.set.Undeclared() {
		fmt.Fprintf(stderr, "ddvla eval: unknown parameter %s ignored; `ddvla params` lists them\n", name)
	}
	recording, err := node.OpenRecording(ctx, reader, c.options, c.settings, c.manifest)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, recording.Close()) }()
	library := c.settings.Runtime
	library.Logger = log
	pol, err := model.Open(ctx, c.settings.Policy, model.Options{Runtime: library, Seed: uint64(c.settings.Seed)})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, pol.Close()) }()
	for _, d := range decoders {
		if d.LeftToRight {
			if err := pol.OpenStep(); err != nil {
				return nil, err
			}
		}
	}
	table, err := e.compare(ctx, pol, recording, decoders)
	if err != nil {
		return nil, err
	}
	return &evaluation{
		Policy: c.manifest.Name, Bundle: c.settings.Policy, Bag: e.bag, Rounds: c.settings.Live.Decode.Rounds, Seed: c.settings.Seed,
		Provider: string(library.Provider), Threads: library.Threads, CPUs: runtime.NumCPU(), Table: table,
	}, nil
}

// decoders are those that were asked for. A policy with an L1 head has one way.
func (e *evalDecode) decoders(c *configuration) ([]compare.Decoder, error) {
	if c.manifest.Model.Head == bundle.L1Head {
		if e.only != "" {
			return nil, fmt.Errorf("--decoders: %w", node.ErrNotDecoded)
		}
		return []compare.Decoder{{Name: "l1", Meaning: "regression in one pass (OpenVLA-OFT)"}}, nil
	}
	params := c.settings.Live.Decode
	all := decodersFor(c.manifest, params.Rounds)
	names := make([]string, len(all))
	for i, d := range all {
		names[i] = d.Name
	}
	chosen := all
	if e.only != "" {
		asked := strings.Split(e.only, ",")
		for _, name := range asked {
			if !slices.Contains(names, name) {
				return nil, fmt.Errorf("--decoders: there is no %q, only %s", name, strings.Join(names, ", "))
			}
		}
		chosen = all[:1:1]
		for _, d := range all[1:] {
			if slices.Contains(asked, d.Name) {
				chosen = append(chosen, d)
			}
		}
	}
	if !reflect.DeepEqual(params, decode.Params{Preset: decode.Preset(c.manifest.Decode.Preset), Rounds: params.Rounds, Refresh: 1}) {
		chosen = append(chosen, compare.Decoder{Name: "parameters", Meaning: "what the parameters decode.* say", Params: params})
	}
	return chosen, nil
}

// decodersFor are the decoders that a bundle of tokens can be run with.
func decodersFor(m *bundle.Manifest, rounds int) []compare.Decoder {
	all := compare.Decoders(rounds)
	if !m.Model.Refresh {
		all = slices.DeleteFunc(all, func(d compare.Decoder) bool { return d.Params.Refresh > 1 })
	}
	for i, d := range all {
		switch {
		case !d.LeftToRight:
		case m.HasAutoregressive():
			// The graph that keeps keys and values gives the same tokens sooner.
			all[i].LeftToRight, all[i].Params = false, decode.Params{Preset: decode.Autoregressive, Rounds: 1}
			all[i].Meaning += "; keys and values kept"
		case m.Model.Attention != bundle.Causal:
			all[i].Meaning += fmt.Sprintf("; not trained for, attention is %s", m.Model.Attention)
		}
	}
	return all
}

// compare runs every decoder on every observation, one after the other, so that
// whatever else the machine does befalls all of them.
func (e *evalDecode) compare(ctx context.Context, pol *model.Policy, recording *node.Recording, decoders []compare.Decoder) (*compare.Table, error) {
	m := pol.Manifest()
	var dims []compare.Dim
	for _, d := range m.Action.Dims {
		unit := d.Unit
		if d.Gripper != nil {
			unit = "m" // after its rule
		}
		dims = append(dims, compare.Dim{Name: d.Name, Unit: unit})
	}
	c := compare.New(decoders, dims)
	count := 0
	last := make([]*model.Result, len(decoders)) // each decoder's own, for a warm start
	for o, err := range recording.Observations(ctx, e.every) {
		if err != nil {
			return nil, err
		}
		// The first time kernels are chosen and memory is taken.
		warm := count == 0
		samples := make([]compare.Sample, len(decoders))
		var actions []float64
		for i, d := range decoders {
			o.Previous = last[i]
			if warm && !d.LeftToRight {
				if _, err := infer(ctx, pol, d, o); err != nil {
					return nil, fmt.Errorf("decoder %s: %w", d.Name, err)
				}
			}
			r, err := infer(ctx, pol, d, o)
			if err != nil {
				return nil, fmt.Errorf("decoder %s: %w", d.Name, err)
			}
			last[i] = r
			samples[i] = compare.Sample{Passes: r.Rounds, Took: r.Timings.Inference, Bins: r.Bins, Values: r.Chunk.Values}
			if i == 0 {
				actions = recordedActions(recording, m, r)
			}
		}
		c.Add(samples, actions)
		if count++; count == e.limit {
			break
		}
	}
	return c.Table(), nil
}

func infer(ctx context.Context, pol *model.Policy, d compare.Decoder, o *model.Observation) (*model.Result, error) {
	if d.LeftToRight {
		return pol.InferLeftToRight(ctx, o)
	}
	if pol.Manifest().Model.Head != bundle.L1Head {
		if err := pol.SetDecode(d.Params); err != nil {
			return nil, err
		}
	}
	return pol.Infer(ctx, o)
}

// recordedActions are the recorded commands at the times of a chunk's rows, in its shape;
// NaN where there is none, and for dimensions that are no joint positions.
func recordedActions(recording *node.Recording, m *bundle.Manifest, r *model.Result) []float64 {
	actions := make([]float64, len(r.Chunk.Values))
	for i := range actions {
		actions[i] = math.NaN()
		d := m.Action.Dims[i%r.Chunk.Dims]
		if d.Space != bundle.Joint {
			continue
		}
		if v, ok := recording.Action(d.Name, r.Chunk.Time(i/r.Chunk.Dims)); ok {
			actions[i] = v
		}
	}
	return actions
}
