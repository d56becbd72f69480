package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/playback"
)

// runReplay is `ddvla replay`: a recorded bag through the node, in process. It
// writes a bag with the chunks, commands and diagnostics that came of it.
func runReplay(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("ddvla replay", flag.ContinueOnError)
	flags.SetOutput(stderr)
	out := flags.String("out", "", "bag `directory` to write (default the input's name with _replay)")
	every := flags.Int("every", 1, "make a chunk from every `n`-th complete set of pictures")
	realtime := flags.Bool("realtime", false, "at the recording's speed instead of as fast as possible")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "usage: ddvla replay BAG [--out DIR] [--every N] [--realtime] --ros-args -p policy:=BUNDLE [-p NAME:=VALUE] [-r FROM:=TO]")
		flags.PrintDefaults()
	}
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	var path string
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		path, rest = rest[0], rest[1:]
	}
	if err := parse(flags, rest, 1); err != nil {
		return err
	}
	if path == "" {
		path = flags.Arg(0)
	}
	switch {
	case path == "":
		flags.Usage()
		return usageError{errors.New("no bag given")}
	case *every < 1:
		return usageError{fmt.Errorf("--every is %d, must be at least 1", *every)}
	case *out == "":
		*out = strings.TrimSuffix(filepath.Clean(path), ".mcap") + "_replay"
	}
	reader, err := bag.Open(path)
	if err != nil {
		return err
	}
	r := replay{reader: reader, every: *every, realtime: *realtime, level: "warn", stderr: stderr}
	report, err := r.run(ctx, rosArgs, *out)
	if report != nil {
		if err := report.Write(stdout); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "replay     %s\n", *out)
	}
	return err
}

// replay feeds one bag through a node.
type replay struct {
	reader   *bag.Reader
	every    int
	realtime bool
	level    string
	stderr   io.Writer
}

// run returns a report also where the bag turned out to be damaged half way.
func (r *replay) run(ctx context.Context, args *param.Args, out string) (report *node.Report, err error) {
	// Nothing follows the commands in a recording, so the following error says
	// nothing there.
	extra := append([]param.Assignment{
		{Name: "start_enabled", Value: param.Bool(true)},
		{Name: "limits.following_tolerance", Value: param.Double(math.Inf(1))},
	}, r.compressedCameras()...)
	args.Remaps = append(args.Remaps, r.instructionRemap()...)
	c, err := configureNode(args, extra...)
	if err != nil {
		return nil, err
	}
	log := consoleLogger(r.stderr, r.level)
	if level := args.LogLevel("ddvla"); level != "" {
		log = consoleLogger(r.stderr, level)
	}
	c.options.Logger = log

	writer, err := bag.Create(out, bag.Options{})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, writer.Close()) }()
	rn, err := playback.New(c.options, func(topic, typ string, _ ros.QoS, raw []byte, now time.Time) error {
		if now.IsZero() {
			return nil // published while loading
		}
		if err := writer.AddTopic(bag.Topic{Name: topic, Type: typ}); err != nil {
			return err
		}
		return writer.Write(topic, now, raw)
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	n, err := c.start(ctx, rn, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	if err := r.check(n.Inputs()); err != nil {
		return nil, err
	}
	err = r.feed(ctx, rn, n, log)
	result := n.Report()
	return &result, err
}

// feed plays the bag. The clock of the node is the recording's.
func (r *replay) feed(ctx context.Context, rn *playback.Node, n *node.Node, log *zap.Logger) error {
	var first, began time.Time
	for m, err := range r.reader.Messages(ctx) {
		if err != nil {
			return err
		}
		if !rn.Subscribed(m.Topic) {
			continue
		}
		if first.IsZero() {
			first, began = m.Time, time.Now()
		}
		if r.realtime {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Until(began.Add(m.Time.Sub(first)))):
			}
		}
		if err := n.Step(ctx, m.Time, r.every, rn.SetTime); err != nil {
			return err
		}
		if err := rn.Feed(m.Topic, m.Type, m.Data, m.Time); err != nil {
			return err
		}
	}
	if first.IsZero() {
		log.Warn("the bag holds no message of the node's topics")
	}
	return nil
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

// check reports inputs of the node that the bag lacks, with what it has.
func (r *replay) check(inputs []string) error {
	var missing, have []string
	for _, topic := range inputs {
		if !r.has(topic) {
			missing = append(missing, topic)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	for _, t := range r.reader.Topics() {
		have = append(have, t.Name+" ("+t.Type+")")
	}
	return fmt.Errorf("the bag lacks %s; it has %s; remap the topics (-r FROM:=TO) or set cameras.*.topic and arms.*.state_topic",
		strings.Join(missing, ", "), strings.Join(have, ", "))
}
