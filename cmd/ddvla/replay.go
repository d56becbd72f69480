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
	"strings"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/playback"
)

// runReplay is `ddvla replay`: a recorded bag through the node, in process. It
// writes a bag with the chunks, their traces, the commands and diagnostics that
// came of it. With --diff it makes the recorded inferences again instead, each from what
// it was made from, and compares their chunks.
func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("replay", "BAG [--out DIR] [--every N] [--speed X] [--from T] [--to T] [--instruction TEXT] [--report FILE.html] [--json FILE] [--fail-on METRIC>NUMBER]... --ros-args -p policy:=BUNDLE [-p NAME:=VALUE] [-r FROM:=TO]\n"+
		"       ddvla replay BAG --diff [--images BAG] [--every N] [--from T] [--to T] [--instruction TEXT] [--ros-args -p NAME:=VALUE]")
	out := flags.String("out", "", "bag `directory` to write (default the input's name with _replay)")
	every := flags.Int("every", 1, "make a chunk from every `n`-th complete set of pictures, with --diff every n-th chunk again; -p lock_step:=N chooses sets by stamps alone")
	realtime := flags.Bool("realtime", false, "at the recording's speed: --speed 1")
	speed := flags.Float64("speed", 0, "so many `times` the recording's speed; 0 is as fast as possible. The node's clock is the recording's at any speed")
	part := windowFlags(flags)
	instruction := flags.String("instruction", "", "do `this` instead of what the recording says")
	diff := flags.Bool("diff", false, "make the chunks of a node that recorded (parameter record) again, from the same observations with the same noise, tokens and parameters, and compare them byte for byte; status 3 where one differs or cannot be made again")
	images := flags.String("images", "", "with --diff, another `bag` of the same run that has the pictures, where the node recorded only their hashes")
	judged := judgedFlags(flags)
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	path, err := parseBag(flags, rest, stdout)
	if err != nil {
		return err
	}
	switch {
	case *speed < 0 || *realtime && *speed != 0:
		return usageError{fmt.Errorf("--speed is %v, must be at least 0, and --realtime is --speed 1", *speed)}
	case *realtime:
		*speed = 1
	}
	switch {
	case *images != "" && !*diff:
		return usageError{errors.New("--images is for --diff; without it the bag itself must have the pictures")}
	case *diff && (*out != "" || *speed != 0 || judged.wanted()):
		return usageError{errors.New("--diff compares and writes nothing: it goes with --images, --every, --from, --to and --instruction only")}
	case *every < 1:
		return usageError{fmt.Errorf("--every is %d, must be at least 1", *every)}
	case *out == "":
		*out = strings.TrimSuffix(strings.TrimSuffix(filepath.Clean(path), ".mcap"), ".db3") + "_replay"
	}
	reader, err := bag.Open(path)
	if err != nil {
		return err
	}
	if err := part.in(reader); err != nil {
		return err
	}
	if *diff {
		d := differ{path: path, reader: reader, images: *images, every: *every, part: part, instruction: *instruction, stderr: stderr}
		return d.run(ctx, rosArgs, stdout)
	}
	r := replay{
		path: path, reader: reader, out: *out, every: *every, speed: *speed, part: part, instruction: *instruction, judged: judged, stderr: stderr,
	}
	report, err := r.run(ctx, rosArgs)
	if report != nil {
		if err := report.Write(stdout); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "replay     %s: %d messages\n", *out, r.written)
		err = errors.Join(err, judged.finish(report, r.ended, stdout))
	}
	return err
}

// tellUnknown tells of parameters of the command line that no node has: misspelt ones,
// most likely. A recording's own may be of another version.
func (c *configuration) tellUnknown(w io.Writer, command string) {
	unknown := c.set.Undeclared()
	for _, a := range c.args.For(c.names.FullyQualified()) {
		if slices.Contains(unknown, a.Name) {
			fmt.Fprintf(w, "ddvla %s: unknown parameter %s ignored; `ddvla params` lists them\n", command, a.Name)
		}
	}
}

// replay feeds one bag through a node.
type replay struct {
	path        string
	reader      *bag.Reader
	out         string
	every       int
	speed       float64 // 0 is as fast as possible
	part        *window
	instruction string // instead of the recorded ones, or empty
	judged      *judged
	stderr      io.Writer

	ended   error // why the recording, or its part, was not fed to its end
	written int   // messages in out
	failed  error // the first failure to write one
}

// run returns a report as soon as the node was fed anything, also where the bag
// turned out to be damaged half way or the user interrupted.
func (r *replay) run(ctx context.Context, args *param.Args) (report *node.Report, err error) {
	// Nothing follows the commands in a recording, so the following error says
	// nothing there, and no arm has to fit the statistics. Traces cost nothing where nobody waits.
	extra := append([]param.Assignment{
		{Name: "start_enabled", Value: param.Bool(true)},
		{Name: "check_statistics", Value: param.Bool(false)},
		{Name: "limits.following_tolerance", Value: param.Double(math.Inf(1))},
		{Name: "decode.trace", Value: param.Bool(true)},
	}, r.compressedCameras()...)
	args.Remaps = append(args.Remaps, r.instructionRemap()...)
	c, err := configure(args, extra...)
	if err != nil {
		return nil, err
	}
	if r.instruction != "" {
		c.settings.Instruction = r.instruction
	}
	if c.settings.LockStep > 0 && r.every != 1 {
		return nil, usageError{errors.New("--every and -p lock_step both say which pictures count; give one of them")}
	}
	// Nor does what the drivers said of arms that another hand led; params files of
	// robots name their topics.
	c.settings.Drivers = [2]string{}
	// Before minutes of loading.
	if err := r.check(c); err != nil {
		return nil, err
	}
	if err := r.judged.begin(ctx, r, c); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.judged.close()) }()
	level := "warn"
	if given := c.logLevel(); given != "" {
		level = given
	}
	log := r.judged.hear(consoleLogger(r.stderr, level))
	c.options.Logger = log

	writer, err := bag.Create(r.out, bag.Options{})
	if err != nil {
		return nil, fmt.Errorf("%w; --out names another directory", err)
	}
	defer func() {
		err = errors.Join(err, writer.Close())
		if err != nil && r.written == 0 {
			// An empty bag would only be in the way of the next try.
			err = errors.Join(err, os.RemoveAll(r.out))
		}
	}()
	rn, err := playback.New(c.options, func(topic, typ string, _ ros.QoS, raw []byte, now time.Time) error {
		if now.IsZero() {
			return nil // published while loading
		}
		r.judged.published(topic, raw)
		err := writer.AddTopic(bag.Topic{Name: topic, Type: typ})
		if err == nil {
			err = writer.Write(topic, now, raw)
		}
		if err == nil {
			r.written++
		} else if r.failed == nil {
			r.failed = err
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	r.judged.now = rn.Now
	n, err := c.start(ctx, rn, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	fed, err := r.feed(ctx, rn, n, c)
	r.ended = err
	if !fed {
		if err == nil {
			err = errors.New("the bag holds no message of the node's topics")
		}
		return nil, err
	}
	result := n.Report()
	switch {
	case errors.Is(err, context.Canceled) && r.written > 0:
		err = fmt.Errorf("%w; %s holds what came of the messages before", err, r.out)
	case err == nil && result.Chunks == 0:
		err = errors.New("the policy made no chunk; the log above says why")
	}
	return &result, err
}

// feed plays the bag. The clock of the node is the recording's. It tells whether
// the bag had anything for the node.
func (r *replay) feed(ctx context.Context, rn *playback.Node, n *node.Node, c *configuration) (fed bool, err error) {
	instructions, err := c.names.Topic("~/instruction")
	if err != nil {
		return false, err
	}
	var pace pace
	var last time.Time
	var told *bag.Message // the last instruction before the window
	deliver := func(m *bag.Message, at time.Time) error {
		if err := n.Step(ctx, at, r.every, rn.SetTime); err != nil {
			return err
		}
		r.judged.recorded(m)
		// What is published is the result, so that a full disk ends the replay.
		if r.failed != nil {
			return r.failed
		}
		fed, last = true, at
		return rn.Feed(m.Topic, m.Type, m.Data, at)
	}
	for m, err := range r.reader.Messages(ctx) {
		if err != nil {
			return fed, err
		}
		if !rn.Subscribed(m.Topic) || r.instruction != "" && m.Topic == instructions {
			continue
		}
		if r.part.before(m.Time) {
			if m.Topic == instructions {
				told = &bag.Message{Topic: m.Topic, Type: m.Type, Data: slices.Clone(m.Data)}
			}
			continue
		}
		if r.part.behind(m.Time) {
			break
		}
		if err := pace.wait(ctx, m.Time, r.speed); err != nil {
			return fed, err
		}
		if told != nil {
			if err := deliver(told, m.Time); err != nil {
				return fed, err
			}
			told = nil
		}
		if err := deliver(m, m.Time); err != nil {
			return fed, err
		}
	}
	if fed && c.settings.LockStep > 0 {
		// What the last message completed.
		if err := n.Step(ctx, last, r.every, rn.SetTime); err != nil {
			return fed, err
		}
	}
	return fed, r.failed
}

// compressedCameras chooses the compressed topic of each camera of which the bag
// has only that.
func (r *replay) compressedCameras() []param.Assignment {
	var extra []param.Assignment
	for name, topic := range node.CameraTopics() {
		if !r.has(topic) && r.has(topic+"/compressed") {
			extra = append(extra, param.Assignment{Name: "cameras." + name + ".topic", Value: param.String(topic + "/compressed")})
		}
	}
	return extra
}

// instructionRemap takes instructions from /instruction, as AgileX's recorder
// names it, where the bag has that and not the node's own topic.
func (r *replay) instructionRemap() []ros.Remap {
	if r.has("/ddvla/instruction") || !r.has("/instruction") {
		return nil
	}
	rule, err := ros.ParseRemap("~/instruction:=/instruction")
	if err != nil {
		return nil
	}
	return []ros.Remap{rule}
}

func (r *replay) has(topic string) bool {
	return slices.ContainsFunc(r.reader.Topics(), func(t bag.Topic) bool { return t.Name == topic })
}

// says reports whether a topic of the bag has a message.
func (r *replay) says(topic string) bool {
	return slices.ContainsFunc(r.reader.Topics(), func(t bag.Topic) bool { return t.Name == topic && t.Count > 0 })
}

// check reports what the node needs and the bag lacks, with what the bag has.
func (r *replay) check(c *configuration) error {
	inputs, err := c.settings.Inputs(c.names)
	if err != nil {
		return err
	}
	instruction, err := c.names.Topic("~/instruction")
	if err != nil {
		return err
	}
	var missing, have []string
	for topic := range inputs {
		if !r.has(topic) {
			missing = append(missing, topic)
		}
	}
	slices.Sort(missing)
	mend := "remap the topics (-r FROM:=TO) or set cameras.*.topic and arms.*.state_topic"
	if len(missing) == 0 && c.settings.Instruction == "" && !r.says(instruction) {
		missing = []string{instruction}
		mend = "remap it (-r '~/instruction:=TOPIC') or give an instruction (-p instruction:='TEXT')"
	}
	for _, t := range r.reader.Topics() {
		if want, ok := inputs[t.Name]; ok && t.Type != want {
			return fmt.Errorf("the bag's %s is a %s, the node expects a %s there; remap the topics (-r FROM:=TO); names of compressed pictures' topics end in /compressed",
				t.Name, t.Type, want)
		}
		have = append(have, t.Name+" ("+t.Type+")")
		if t.Count == 0 {
			have[len(have)-1] += " without a message"
		}
	}
	switch {
	case len(missing) == 0:
		return nil
	case len(have) == 0:
		have = []string{"no topics at all"}
	}
	return fmt.Errorf("the bag lacks %s; it has %s; %s", strings.Join(missing, ", "), strings.Join(have, ", "), mend)
}
