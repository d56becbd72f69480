package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/dataset/lerobot"
	"github.com/ddvla/ddvla/node"
	model "github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/weights"
)

// The layouts of `ddvla dataset`.
const (
	layoutOwn     = "ddvla"
	layoutLeRobot = "lerobot"
)

// collection is what `ddvla dataset` was asked for.
type collection struct {
	bags         []string
	out, name    string
	layout       string
	robot        string // type of it, which LeRobot writes down
	bundle       string
	size         int
	cameras      []string
	rate         float64
	source       node.ActionSource
	cuts         dataset.Cuts
	instructions []string          // [BAG=]TEXT
	texts        map[string]string // these, by a bag's cleaned path; empty is for all
	rosArgs      []string
	stderr       io.Writer

	info     dataset.Info
	episodes []dataset.Episode
	writer   *dataset.Writer
	cutter   *dataset.Cutter
	stages   []*vision.Pipeline // of the cameras
	images   []byte
	seen     time.Time // when the newest pictures are of
	taken    int       // observations
	repeated int       // of them with the same pictures as the one before
	outcomes []outcome
}

// outcome is what became of one bag.
type outcome struct {
	bag      string
	episodes int
	frames   int
	lag      time.Duration
	warnings []string
}

// runDataset is `ddvla dataset`: recorded bags as a data set to train on.
func runDataset(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("dataset", "BAG... --out DIR (--bundle DIR | --size PIXELS --rate HZ) [FLAGS] [--ros-args -p NAME:=VALUE --params-file FILE -r FROM:=TO]\n"+
		"Cuts recorded bags into episodes, brings pictures, joints and actions to one rate, and writes what train/ reads, with statistics.\n"+
		"A new instruction, a mark on ~/episode (std_msgs/String: start, success, failure or discard), a gap and the end of a bag end an episode.\n"+
		"Example: ddvla dataset bags/* --out cups --size 224 --rate 20 --instruction \"put the cup on the coaster\"")
	c := collection{stderr: stderr}
	flags.StringVar(&c.out, "out", "", "the `directory` to write, which must not exist or be empty")
	flags.StringVar(&c.name, "name", "", "the data set's `name`, its key in dataset_statistics.json (default that of the directory)")
	flags.StringVar(&c.layout, "layout", layoutOwn, "the `form`: ddvla, which train/ reads, or lerobot (LeRobot's dataset version 3.0)")
	flags.StringVar(&c.robot, "robot-type", "cobot_magic", "the `type` of the robot, which LeRobot's layout notes down")
	flags.StringVar(&c.bundle, "bundle", "", "take cameras, image recipe, rate and dimensions of this policy bundle's `directory`")
	flags.IntVar(&c.size, "size", 0, "without a bundle: the side of the pictures in `pixels`")
	cameras := flags.String("cameras", "head,wrist_left,wrist_right", "without a bundle: the cameras' `names`, in the model's order")
	flags.Float64Var(&c.rate, "rate", 0, "frames a second, and so the action rate, in `Hz` (default the bundle's)")
	source := flags.String("actions", string(node.Commands), "`what` counts as actions: commands (arms.*.command_topic) or next_state (the joints measured one frame later)")
	flags.DurationVar(&c.cuts.Gap, "gap", 250*time.Millisecond, "the longest time without an observation that is bridged by the one before; a longer one ends the episode")
	flags.Float64Var(&c.cuts.Trim, "trim", 0, "drop the standstill before an episode's first and behind its last motion: actions that stay within so many `rad` (grippers: a tenth in m); 0 keeps it")
	flags.DurationVar(&c.cuts.Shortest, "shortest", time.Second, "drop shorter episodes")
	flags.BoolVar(&c.cuts.DropFailures, "drop-failures", false, "drop episodes that are marked as failures, in place of writing success false")
	flags.Func("instruction", "the instruction until a bag tells one: `[BAG=]TEXT`, for all bags or for one", func(text string) error {
		c.instructions = append(c.instructions, text)
		return nil
	})
	_, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	c.rosArgs = args
	if c.bags, err = parseBetween(flags, rest, stdout); err != nil {
		return err
	}
	c.source = node.ActionSource(*source)
	c.cameras = strings.Split(*cameras, ",")
	if err := c.validate(); err != nil {
		return usageError{err}
	}
	statistics, err := c.write(ctx)
	if err != nil {
		return err
	}
	return c.report(stdout, statistics)
}

func (c *collection) validate() error {
	switch {
	case len(c.bags) == 0:
		return errors.New("no bag given; `ddvla dataset -h` shows where they go")
	case c.out == "":
		return errors.New("--out is missing; it names the directory to write")
	case c.bundle != "" && c.size != 0:
		return errors.New("--bundle and --size exclude each other: a bundle says the size")
	case c.bundle == "" && (c.size < 8 || c.size > 4096):
		return fmt.Errorf("--size is %d pixels, must be 8 to 4096; or --bundle names a policy whose recipe is to be taken", c.size)
	case c.bundle == "" && c.rate == 0:
		return errors.New("--rate is missing: it is the time base of the actions, so it has no default")
	case c.layout != layoutOwn && c.layout != layoutLeRobot:
		return fmt.Errorf("--layout is %q, must be %s or %s", c.layout, layoutOwn, layoutLeRobot)
	case c.source != node.Commands && c.source != node.NextState:
		return fmt.Errorf("--actions is %q, must be %s or %s", c.source, node.Commands, node.NextState)
	}
	if c.name == "" {
		absolute, err := filepath.Abs(c.out)
		if err != nil {
			return err
		}
		c.name = filepath.Base(absolute)
	}
	for _, name := range c.cameras {
		if _, ok := node.CameraTopics()[name]; !ok {
			return fmt.Errorf("--cameras: there is no camera %q; there are head, wrist_left and wrist_right; other sets come from a bundle", name)
		}
	}
	seen := map[string]bool{}
	for _, path := range c.bags {
		if clean := filepath.Clean(path); seen[clean] {
			return fmt.Errorf("bag %s is given twice", path)
		} else {
			seen[clean] = true
		}
	}
	if err := c.cuts.Validate(); err != nil {
		return fmt.Errorf("--%w", err)
	}
	c.texts = map[string]string{}
	for _, given := range c.instructions {
		of, text, err := instructionOf(given, seen)
		if err != nil {
			return err
		}
		if _, twice := c.texts[of]; twice {
			return fmt.Errorf("--instruction %q: there is one for the same bags already", given)
		}
		c.texts[of] = text
	}
	return nil
}

// instructionOf takes apart [BAG=]TEXT: of is the cleaned path of one of bags, or empty for
// all of them. Paths may have an = of their own.
func instructionOf(given string, bags map[string]bool) (of, text string, err error) {
	for i, r := range given {
		if path := filepath.Clean(given[:i]); r == '=' && i > 0 && bags[path] {
			return path, given[i+1:], nil
		}
	}
	path, _, named := strings.Cut(given, "=")
	if named {
		beside, _ := filepath.Split(path)
		if !notThere(path) || beside != "" && !notThere(beside) {
			return "", "", fmt.Errorf("--instruction %q is for %s, which is none of the bags", given, path)
		}
	}
	return "", given, nil
}

// instruction is what a bag starts with, empty where nothing was given.
func (c *collection) instruction(path string) string {
	if text, ok := c.texts[filepath.Clean(path)]; ok {
		return text
	}
	return c.texts[""]
}

// manifest stands in for a bundle's: all joints of the robot, and pictures as OpenVLA's.
func (c *collection) manifest() *bundle.Manifest {
	m := &bundle.Manifest{Decode: bundle.Decode{Preset: "greedy", Rounds: 1}, Proprio: &bundle.Proprio{}}
	for _, name := range c.cameras {
		camera := weights.Defaults().Recipe
		camera.Name, camera.Resize.Width, camera.Resize.Height = name, c.size, c.size
		m.Cameras = append(m.Cameras, camera)
	}
	m.Action.Rate = c.rate
	for _, name := range node.ArmJoints() {
		arm, joint, _ := strings.Cut(name, "_")
		d := bundle.ActionDim{Name: name, Space: bundle.Joint, Arm: arm, Unit: "rad"}
		if joint == "gripper" {
			d.Unit = "m"
			d.Gripper = &bundle.Gripper{Mode: bundle.GripperMetres, Open: gripperOpen}
		}
		m.Action.Dims = append(m.Action.Dims, d)
		m.Proprio.Dims = append(m.Proprio.Dims, bundle.ProprioDim{Name: name, Arm: arm, Unit: d.Unit})
	}
	return m
}

// gripperOpen is the opening in m of a Piper's gripper, as its SDK has it.
const gripperOpen = 0.07

// configure reads the node's parameters for one bag.
func (c *collection) configure(path string, reader *bag.Reader) (*configuration, error) {
	// Without a bundle none counts, whatever a robot's params file says.
	extra := []string{"--ros-args", "-p", "policy:=" + param.String(c.bundle).String()}
	if text := c.instruction(path); text != "" {
		extra = append(extra, "-p", "instruction:="+param.String(text).String())
	}
	args, _, err := param.ParseArgs(slices.Concat(c.rosArgs, extra), os.ReadFile)
	if err != nil {
		return nil, usageError{err}
	}
	r := replay{reader: reader}
	args.Remaps = append(args.Remaps, r.instructionRemap()...)
	return configureFor(c.manifest(), args, r.compressedCameras()...)
}

// write makes the data set and returns its statistics.
func (c *collection) write(ctx context.Context) (statistics *dataset.Statistics, err error) {
	defer func() {
		if c.writer != nil {
			// What is unfinished goes.
			err = errors.Join(err, c.writer.Abandon())
		}
	}()
	for _, path := range c.bags {
		if err := c.add(ctx, path); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if c.cutter.Outcome().Episodes == 0 {
		return nil, fmt.Errorf("no episode in %s: %s; `ddvla doctor BAG` looks closer", strings.Join(c.bags, ", "), c.why())
	}
	if err := c.writer.Close(); err != nil {
		return nil, err
	}
	r, err := dataset.Open(c.target())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c.info, c.episodes = r.Info(), r.Episodes()
	if c.layout == layoutLeRobot {
		// What it is made from goes either way.
		defer func() { err = errors.Join(err, os.RemoveAll(c.target())) }()
		if err := lerobot.Write(ctx, r, c.out, c.robot); err != nil {
			return nil, err
		}
	}
	return r.Statistics()
}

// target is where frames are written: LeRobot's layout is made from ours, which lies
// beside it for so long.
func (c *collection) target() string {
	if c.layout == layoutLeRobot {
		return filepath.Clean(c.out) + ".frames"
	}
	return c.out
}

// add takes a bag.
func (c *collection) add(ctx context.Context, path string) (err error) {
	reader, err := bag.Open(path)
	if err != nil {
		return err
	}
	conf, err := c.configure(path, reader)
	if err != nil {
		return err
	}
	if err := c.begin(conf.manifest); err != nil {
		return err
	}
	marks, err := conf.names.Topic("~/episode")
	if err != nil {
		return err
	}
	d, err := node.OpenDemonstration(ctx, reader, conf.options, conf.settings, conf.manifest, c.source, c.info.Rate, "~/episode")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	before := c.cutter.Outcome()
	if err := c.cutter.Begin(path, slices.ContainsFunc(reader.Topics(), func(t bag.Topic) bool { return t.Name == marks && t.Count > 0 })); err != nil {
		return err
	}
	o := outcome{bag: path, lag: d.Lag()}
	reasons := map[string]string{}
	for m, err := range d.Moments(ctx) {
		var damage *bag.DamagedError
		if errors.As(err, &damage) {
			o.warnings = append(o.warnings, fmt.Sprintf("damaged, used as far as it goes: %v", err))
			break
		}
		if err == nil {
			err = c.take(m, marks, reasons)
		}
		if err != nil {
			return err
		}
	}
	if err := c.cutter.End(); err != nil {
		return err
	}
	now := c.cutter.Outcome()
	o.episodes, o.frames = now.Episodes-before.Episodes, now.Frames-before.Frames
	if stray := now.Stray - before.Stray; stray > 0 {
		o.warnings = append(o.warnings, fmt.Sprintf("%d marks on %s where no episode was open", stray, marks))
	}
	for whose, why := range d.Refused() {
		o.warnings = append(o.warnings, whose+": "+why)
	}
	if o.episodes == 0 {
		// The faults in the words of their first moments.
		for fault, reason := range reasons {
			if fault == "no instruction" {
				reason += "; --instruction gives one, -r '~/instruction:=TOPIC' listens elsewhere"
			}
			o.warnings = append(o.warnings, "no episode: "+reason)
		}
	}
	slices.Sort(o.warnings)
	c.outcomes = append(c.outcomes, o)
	if len(c.bags) > 1 {
		fmt.Fprintf(c.stderr, "%s: %d episodes, %d frames\n", path, o.episodes, o.frames)
	}
	return nil
}

// take gives a moment to the cutter.
func (c *collection) take(m *node.Moment, marks string, reasons map[string]string) error {
	switch {
	case m.Pause:
		return c.cutter.End()
	case m.Mark != "":
		if err := c.cutter.Mark(dataset.Mark(strings.ToLower(strings.TrimSpace(m.Mark)))); err != nil {
			return fmt.Errorf("topic %s: %w; -r '~/episode:=TOPIC' listens elsewhere", marks, err)
		}
		return nil
	case m.Observation == nil || len(m.Action) == 0:
		if reasons[m.Fault] == "" {
			reasons[m.Fault] = m.Reason
		}
		return c.cutter.Missing(m.Fault, m.Action)
	}
	c.taken++
	if m.Observation.Stamp.Equal(c.seen) {
		c.repeated++
	}
	c.seen = m.Observation.Stamp
	if err := c.see(m.Observation.Images); err != nil {
		// A picture that a camera broke costs its frame only.
		if reasons["picture cannot be decoded"] == "" {
			reasons["picture cannot be decoded"] = err.Error()
		}
		return c.cutter.Missing("picture cannot be decoded", m.Action)
	}
	return c.cutter.Frame(c.images, m.Observation.Proprio, m.Action, m.Observation.Instruction)
}

// see brings the pictures of all cameras to the form of the data set, side by side.
func (c *collection) see(pictures []model.Image) error {
	one := 3 * c.info.Size * c.info.Size
	var group errgroup.Group
	for i, p := range c.stages {
		group.Go(func() error {
			dst := c.images[i*one : (i+1)*one]
			if pictures[i].Compressed != nil {
				return p.Compressed(pictures[i].Compressed, dst)
			}
			return p.Raw(pictures[i].Raw, dst)
		})
	}
	return group.Wait()
}

// begin makes the data set, once the first bag has told what it looks like.
func (c *collection) begin(m *bundle.Manifest) error {
	if c.writer != nil {
		return nil
	}
	c.info = dataset.Info{
		Name: c.name, Rate: m.Action.Rate, Cameras: m.Cameras, Action: m.Action.Dims, Size: m.Cameras[0].Resize.Width,
		MadeBy: dataset.MadeBy{Program: "ddvla dataset " + buildVersion(), Options: map[string]string{
			"actions": string(c.source), "gap": c.cuts.Gap.String(), "trim": strconv.FormatFloat(c.cuts.Trim, 'g', -1, 64),
			"shortest": c.cuts.Shortest.String(), "drop-failures": strconv.FormatBool(c.cuts.DropFailures),
		}},
	}
	if c.rate != 0 {
		c.info.Rate = c.rate
	}
	if m.Proprio != nil {
		c.info.Proprio = m.Proprio.Dims
	}
	var err error
	if c.stages, err = c.info.Pipelines(); err != nil {
		return err
	}
	if c.layout == layoutLeRobot {
		if c.info.Rate != math.Trunc(c.info.Rate) {
			return fmt.Errorf("the rate is %g Hz, but LeRobot's are whole numbers; --rate chooses another", c.info.Rate)
		}
		if entries, err := os.ReadDir(c.out); err == nil && len(entries) > 0 {
			return fmt.Errorf("--out: %s is not empty; choose another directory or remove it", c.out)
		}
	}
	if c.writer, err = dataset.Create(c.target(), c.info); err != nil {
		return err
	}
	c.images = make([]byte, c.info.ImageBytes())
	c.cutter, err = dataset.NewCutter(c.writer, c.cuts)
	return err
}
