package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ddvla/ddvla/eval"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/compare"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// evalRun is what `ddvla eval run` was asked for.
type evalRun struct {
	bundle, policy         string
	tasks, perturbations   string
	plan                   eval.Plan
	latency, instructions  string
	decoder, pictures, out string
	every, jobs, strips    int
	samples                int
	json, quiet, worker    bool

	args     []string // as given, for the workers
	settings node.Settings
	manifest *bundle.Manifest // of a baseline: what its parameters are read with
	loop     eval.Loop
	setup    eval.Setup
	size     [2]int   // of the pictures, 0 is the model's
	step     bool     // decode from left to right on step.onnx
	unknown  []string // parameters that there are not
}

// stripFrames is how many pictures a strip has.
const stripFrames = 12

// baselines are policies without a bundle.
func baselines() map[string]func() eval.Actor {
	return map[string]func() eval.Actor{"expert": eval.NewExpert, "still": eval.NewStill}
}

// runEvalRun is `ddvla eval run`: a policy in closed loop in the simulator.
func runEvalRun(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	e := &evalRun{}
	if err := e.read(args, stdout, stderr); err != nil {
		return err
	}
	if e.worker {
		return e.serve(ctx, os.Stdin, stdout)
	}
	progress := newProgress(stderr)
	run := eval.Run{Setup: e.setup, Plan: e.plan, Dir: e.out, Jobs: e.jobs, Start: e.start}
	if !e.quiet {
		run.Progress = progress.tell
	}
	results, err := run.Do(ctx)
	progress.end()
	if results != nil {
		write := results.Markdown
		if e.json {
			write = results.WriteJSON
		}
		err = errors.Join(err, write(stdout))
		if !e.quiet {
			fmt.Fprintf(stderr, "ddvla eval run: %s\n", filepath.Join(e.out, eval.PageFile))
		}
	}
	return err
}

// flags are those of `ddvla eval run`; given collects parameters.
func (e *evalRun) flags() (flags *flag.FlagSet, given *[]string) {
	flags = newFlags("eval run", "--bundle DIR --out DIR [FLAGS] [--ros-args -p NAME:=VALUE]\n"+
		"Runs a policy in closed loop in the simulator and counts successes: observations, hand-over of chunks and safety filter are the node's,\n"+
		"with its parameters. An interrupted run goes on where it was; without measured latencies the same seeds give the same results.\n"+
		"Example: ddvla eval run --bundle build/tiny-reach --tasks tiny-reach --episodes 50 --out build/eval")
	flags.StringVar(&e.bundle, "bundle", "", "the policy bundle's `directory`")
	flags.StringVar(&e.policy, "policy", "", "a `baseline` in place of a bundle: expert, the scripted one; still, arms that hold where they are")
	flags.StringVar(&e.out, "out", "", "`directory` of the results, which is begun or gone on with")
	flags.StringVar(&e.tasks, "tasks", "all", "`names` with commas between: "+strings.Join(eval.Tasks(), ", ")+"; all is all but the last one")
	flags.StringVar(&e.perturbations, "perturb", "none", "`names` with commas between: "+strings.Join(eval.Perturbations(), ", ")+"; some joined by + are one")
	flags.IntVar(&e.plan.Episodes, "episodes", 50, "`n` episodes of each task under each perturbation")
	flags.Uint64Var(&e.plan.Seed, "seed", 1000, "draws the first episode's scene; the n-th has this `seed` + n - 1")
	flags.StringVar(&e.latency, "latency", "0", "simulated `time` between an observation and its chunk, in which the arms go on: 0, measured (what inference takes here), or such as 250ms")
	flags.IntVar(&e.every, "every", 0, "`rows` of a chunk between two observations at least; 0 is half of its rows")
	flags.StringVar(&e.instructions, "instructions", eval.RightInstructions, "`which` ones the policy is told: right, or wrong ones, which ask for something else than what is judged")
	flags.StringVar(&e.decoder, "decoder", "", "decode as this `line` of `ddvla eval decode`: greedy, paper, official, parallel, autoregressive ...; decode.* other than rounds are not given then")
	flags.StringVar(&e.pictures, "pictures", "", "`WIDTHxHEIGHT` that cameras render before the bundle's image recipe; empty is the model's size")
	flags.IntVar(&e.samples, "samples", 2, "render `n` x n pixels for one, as demonstrations are")
	flags.DurationVar(&e.loop.Servo.Delay, "servo-delay", 0, "how long a command is on its way to the drives")
	flags.Float64Var(&e.loop.Servo.Noise, "joint-noise", 0, "standard deviation of measured joints in radians")
	flags.IntVar(&e.jobs, "jobs", runtime.NumCPU(), "`n` worker processes at a time, of one thread each unless runtime.threads says otherwise")
	flags.IntVar(&e.strips, "strips", 10, "keep pictures of failures among the first `n` episodes of each task and perturbation")
	flags.BoolVar(&e.json, "json", false, "print JSON instead of Markdown")
	flags.BoolVar(&e.quiet, "quiet", false, "print no progress")
	flags.BoolVar(&e.worker, "worker", false, "run as a worker process, which `ddvla eval run` starts by itself")
	given = parameterFlags(flags, map[string]string{
		"seed": "noise-seed", "decode.preset": "preset", "decode.rounds": "rounds", "decode.schedule": "schedule", "decode.score": "score",
		"decode.refresh": "refresh", "motion.hand_over": "hand-over",
		"runtime.library": "library", "runtime.provider": "provider", "runtime.device": "device", "runtime.threads": "threads",
	})
	flags.Func("p", "a parameter of the node, `NAME:=VALUE`, as after --ros-args", func(text string) error {
		*given = append(*given, "-p", text)
		return nil
	})
	return flags, given
}

// read takes the command line.
func (e *evalRun) read(args []string, stdout, stderr io.Writer) error {
	e.args = args
	flags, given := e.flags()
	_, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	if err := e.check(); err != nil {
		return usageError{err}
	}
	*given = append(*given, "-p", "policy:="+param.String(e.bundle).String())
	rosArgs, _, err := param.ParseArgs(slices.Concat(args, []string{"--ros-args"}, *given), os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	set, err := e.configure(rosArgs)
	if err != nil {
		return err
	}
	if e.unknown = set.Undeclared(); !e.worker {
		for _, name := range e.unknown {
			fmt.Fprintf(stderr, "ddvla eval run: unknown parameter %s ignored; `ddvla params` lists them\n", name)
		}
	}
	return e.describe(set)
}

// check is what flags alone can tell.
func (e *evalRun) check() (err error) {
	_, known := baselines()[e.policy]
	switch {
	case e.bundle == "" && e.policy == "":
		return errors.New("no policy; --bundle names the directory that `ddvla export` wrote, or --policy expert or still")
	case e.bundle != "" && e.policy != "":
		return errors.New("--bundle and --policy are both given; one is judged at a time")
	case e.policy != "" && !known:
		return fmt.Errorf("--policy is %q, must be expert or still", e.policy)
	case e.policy != "" && e.decoder != "":
		return errors.New("--decoder is for bundles")
	case e.out == "" && !e.worker:
		return errors.New("no directory for the results; --out names one")
	case e.plan.Episodes < 1:
		return fmt.Errorf("--episodes is %d, must be at least 1", e.plan.Episodes)
	case e.jobs < 1:
		return fmt.Errorf("--jobs is %d, must be at least 1", e.jobs)
	case e.every < 0:
		return fmt.Errorf("--every is %d, must not be negative", e.every)
	case e.samples < 1 || e.samples > 8:
		return fmt.Errorf("--samples is %d, must be 1 to 8", e.samples)
	case e.loop.Servo.Delay < 0 || e.loop.Servo.Delay > time.Second:
		return fmt.Errorf("--servo-delay is %v, must be 0 to 1s", e.loop.Servo.Delay)
	case !(e.loop.Servo.Noise >= 0 && e.loop.Servo.Noise <= 0.1):
		return fmt.Errorf("--joint-noise is %g, must be 0 to 0.1", e.loop.Servo.Noise)
	case e.strips < 0:
		return fmt.Errorf("--strips is %d, must not be negative", e.strips)
	case e.instructions != eval.RightInstructions && e.instructions != eval.WrongInstructions:
		return fmt.Errorf("--instructions is %q, must be right or wrong", e.instructions)
	}
	if e.plan.Tasks, err = eval.ParseTasks(e.tasks); err != nil {
		return fmt.Errorf("--tasks: %w", err)
	}
	if e.plan.Perturbations, err = eval.ParsePerturbations(e.perturbations); err != nil {
		return fmt.Errorf("--perturb: %w", err)
	}
	if err := e.plan.Check(); err != nil {
		return fmt.Errorf("--perturb: %w", err)
	}
	if e.loop.Latency, err = eval.ParseLatency(e.latency); err != nil {
		return fmt.Errorf("--latency: %w", err)
	}
	if e.pictures != "" {
		var end string
		if n, _ := fmt.Sscanf(e.pictures+"\n", "%dx%d%s", &e.size[0], &e.size[1], &end); n != 2 || min(e.size[0], e.size[1]) < 16 || max(e.size[0], e.size[1]) > 4096 {
			return fmt.Errorf("--pictures is %q, must be like 640x480, each 16 to 4096", e.pictures)
		}
	}
	return nil
}

// configure reads the node's parameters. A baseline's are read as if it had a bundle.
func (e *evalRun) configure(args *param.Args) (*param.Set, error) {
	if e.bundle != "" {
		c, err := configure(args)
		if err != nil {
			return nil, err
		}
		e.settings, e.manifest = c.settings, c.manifest
		return c.set, nil
	}
	names, err := ros.NewNames(ros.Options{Name: "ddvla", Remaps: args.Remaps})
	if err != nil {
		return nil, usageError{err}
	}
	set, _, err := declare(args.For(names.FullyQualified()), names)
	if err != nil {
		return nil, err
	}
	e.manifest = &bundle.Manifest{
		Action: bundle.Action{Chunk: sim.ChunkRows, Rate: sim.ChunkRate},
		Decode: bundle.Decode{Preset: string(decode.Greedy), Rounds: 1},
	}
	e.settings, err = node.SettingsFrom(set.Values(), e.manifest, names)
	return set, err
}

// describe completes the settings and says what the results depend on.
func (e *evalRun) describe(set *param.Set) error {
	s, m := &e.settings, e.manifest
	if s.Runtime.Threads == 0 {
		s.Runtime.Threads = 1 // of which there are as many as jobs
	}
	if s.Control.DryRun {
		return usageError{errors.New("dry_run is set; arms that are sent nothing do nothing")}
	}
	if e.every == 0 {
		e.every = max(m.Action.Chunk/2, 1)
	}
	// There is no operator beside the simulated arms.
	s.Control.Live.DeadmanTimeout = 0
	e.loop.Control = s.Control
	e.loop.Every = time.Duration(float64(e.every) / m.Action.Rate * float64(time.Second))
	e.loop.WrongInstructions = e.instructions == eval.WrongInstructions
	e.setup = eval.Setup{
		Schema: eval.Schema, Policy: e.policy, Decoder: e.decoder, Instructions: e.instructions, Latency: e.loop.Latency.String(), Every: e.every,
		Parameters: counting(set, m.Decode),
	}
	if servo := e.loop.Servo; servo != (sim.ServoOptions{}) {
		e.setup.Servo = fmt.Sprintf("delay %v, noise %g rad", servo.Delay, servo.Noise)
	}
	if e.bundle == "" {
		return nil
	}
	var err error
	e.setup.Policy = m.Name
	if e.setup.Bundle, err = m.Digest(); err != nil {
		return fmt.Errorf("bundle %s: %w", e.bundle, err)
	}
	if err := node.CheckBundle(*s, m); err != nil {
		return fmt.Errorf("bundle %s: %w", e.bundle, err)
	}
	size := e.size
	if e.pictures == "" {
		size = [2]int{m.Model.ImageSize, m.Model.ImageSize}
	}
	e.setup.Pictures = fmt.Sprintf("%dx%d/%d", size[0], size[1], e.samples)
	return e.decode(set)
}

// decode takes the named decoder.
func (e *evalRun) decode(set *param.Set) error {
	if e.decoder == "" {
		return nil
	}
	if e.manifest.Model.Head == bundle.L1Head {
		return usageError{fmt.Errorf("--decoder: %w", node.ErrNotDecoded)}
	}
	for _, d := range set.Table() {
		if strings.HasPrefix(d.Name, "decode.") && d.Name != "decode.rounds" && !set.Values().Get(d.Name).Equal(d.Default) {
			return usageError{fmt.Errorf("--decoder says how to decode, and so does parameter %s", d.Name)}
		}
	}
	all := decodersFor(e.manifest, e.settings.Live.Decode.Rounds)
	i := slices.IndexFunc(all, func(d compare.Decoder) bool { return d.Name == e.decoder })
	if i < 0 {
		var names []string
		for _, d := range all {
			names = append(names, d.Name)
		}
		return usageError{fmt.Errorf("--decoder: there is no %q for this bundle, only %s", e.decoder, strings.Join(names, ", "))}
	}
	e.step = all[i].LeftToRight
	if !e.step {
		e.settings.Live.Decode = all[i].Params
	}
	return nil
}

// counting are the parameters that results depend on and that are not at their
// defaults, or the bundle's.
func counting(set *param.Set, bundled bundle.Decode) map[string]string {
	defaults := map[string]param.Value{
		"decode.preset": param.String(bundled.Preset), "decode.rounds": param.Int(int64(bundled.Rounds)),
	}
	prefixes := []string{"decode.", "motion.", "limits.", "gripper.", "space.", "workspace.", "arms.left.mount", "arms.right.mount", "runtime.provider", "runtime.threads"}
	list := map[string]string{}
	for _, d := range set.Table() {
		v := set.Values().Get(d.Name)
		counts := d.Name == "seed" || d.Name == "command_rate" || d.Name == "max_chunk_age" || d.Name == "urdf" ||
			slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(d.Name, p) })
		if also, ok := defaults[d.Name]; ok && v.Equal(also) {
			continue
		}
		if counts && !v.Equal(d.Default) {
			list[d.Name] = v.String()
		}
	}
	return list
}

// start starts a worker.
func (e *evalRun) start(ctx context.Context) (eval.Worker, error) {
	// The flag comes first, before a positional end or --ros-args.
	cmd, err := eval.SelfCommand(slices.Concat([]string{"eval", "run", "--worker"}, e.args)...)
	if err != nil {
		return nil, err
	}
	cmd.Env = os.Environ()
	if _, given := os.LookupEnv("GOMAXPROCS"); !given {
		// Pictures and noise are made beside the network; more would only wait for it.
		cmd.Env = append(cmd.Env, "GOMAXPROCS=2")
	}
	return eval.StartProcess(ctx, cmd, e.setup)
}

// open loads the policy.
func (e *evalRun) open(ctx context.Context) (*eval.Model, error) {
	return eval.OpenModel(ctx, e.settings, eval.ModelOptions{Width: e.size[0], Height: e.size[1], Samples: e.samples, LeftToRight: e.step})
}

// serve is the worker.
func (e *evalRun) serve(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		return err
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		return err
	}
	var actor eval.Actor
	if e.policy != "" {
		actor = baselines()[e.policy]()
	} else {
		model, failed := e.open(ctx)
		if failed != nil {
			return failed
		}
		defer func() { err = errors.Join(err, model.Close()) }()
		actor = model
	}
	return eval.Serve(ctx, e.setup, in, out, func(ctx context.Context, k eval.Key) (eval.Reply, error) {
		episode, err := eval.NewEpisode(arms, k)
		if err != nil {
			return eval.Reply{}, err
		}
		loop := e.loop
		if k.Seed-e.plan.Seed < uint64(e.strips) {
			loop.Frames = stripFrames
		}
		// Noise of its own for each episode, whichever worker runs it.
		noise := rand.New(rand.NewPCG(uint64(e.settings.Seed), k.Seed)).Uint64()
		record, strip, err := loop.Run(ctx, actor, episode, noise)
		record.Version = buildVersion()
		return eval.Reply{Record: record, Strip: strip}, err
	})
}
