package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// runRecord is `ddvla record`: topics into a bag, as `ros2 bag record` does, for
// machines without ROS, and by default those that a demonstration needs.
func runRecord(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := newFlags("record", "BAG [TOPIC... | --all] [FLAGS] [--ros-args -p NAME:=VALUE --params-file FILE -r FROM:=TO]\n"+
		"Records topics into a new bag until ctrl-C, each with the QoS that its publishers offer.\n"+
		"Without topics: the cameras (raw, or where only that is published .../compressed), joint states and commands of both arms by the node's\n"+
		"parameters, and ~/instruction and ~/episode: what `ddvla dataset` makes demonstrations of.\n"+
		"Example: ddvla record monday --max-size 4000 --ros-args --params-file params/aloha.yaml")
	backend := backendFlag(flags)
	all := flags.Bool("all", false, "record every topic that is published, but hidden ones")
	length := flags.Duration("for", 0, "end after so `long`; 0 records until ctrl-C")
	var options bag.Options
	size := flags.Float64("max-size", 0, "begin another file of the bag after so many `MB`; 0 keeps one")
	flags.DurationVar(&options.MaxFileDuration, "max-duration", 0, "begin another file of the bag after so `long`; 0 keeps one")
	flags.StringVar(&options.Compression, "compression", "", "of the bag: zstd or lz4; none costs the least time")
	queue := flags.Int("queue", 64, "`MiB` of memory for messages that wait for the disk; beyond, they are dropped and counted")
	// A robot's params file may name a policy that is not on the machine that records.
	rosArgs, rest, err := param.ParseArgs(slices.Concat(args, []string{"--ros-args", "-p", "policy:=''"}), os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	given, err := parseBetween(flags, rest, stdout)
	if err != nil {
		return err
	}
	options.MaxFileSize = int64(*size * 1e6)
	switch {
	case len(given) == 0:
		return usageError{errors.New("no bag given; `ddvla record -h` shows where it goes")}
	case *all && len(given) > 1:
		return usageError{errors.New("--all and topics exclude each other")}
	case *length < 0:
		return usageError{fmt.Errorf("--for is %v, must be 0 or more", *length)}
	case !(*size >= 0 && *size <= 1e9):
		return usageError{fmt.Errorf("--max-size is %g MB, must be 0 or more", *size)}
	case *queue < 1 || *queue > 1<<16:
		return usageError{fmt.Errorf("--queue is %d MiB, must be 1 to 65536", *queue)}
	}
	if err := options.Validate(); err != nil {
		return usageError{err}
	}
	wanted, c, err := wantedTopics(rosArgs, given[1:], *all)
	if err != nil {
		return err
	}
	c.tellUnknown(stderr, "record")

	// A name that begins with _ is hidden from `ros2 node list`.
	conf := ros.Options{Name: "_ddvla_record", Namespace: c.names.Namespace(), Logger: consoleLogger(stderr, "warn")}
	if err := conf.FromEnvironment(os.LookupEnv); err != nil {
		return err
	}
	rn, err := backend.node(ctx, conf)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	if c.set.Values().Bool(param.SimTime) {
		if err := rn.UseSimTime(true); err != nil {
			return err
		}
	}
	fresh := notThere(given[0])
	writer, err := bag.Create(given[0], options)
	if err != nil {
		return err
	}
	t := newTape(rn, conf.Logger, wanted, *all, stderr)
	t.recorder, err = bag.NewRecorder(writer, bag.RecorderOptions{QueueBytes: *queue << 20, Failed: t.failed})
	if err != nil {
		return errors.Join(err, writer.Close())
	}
	if *length > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, *length)
		defer stop()
	}
	begin := time.Now()
	err = errors.Join(t.run(ctx), t.recorder.Close(), t.report(stdout, given[0], time.Since(begin)))
	if t.recorder.Written() == 0 && fresh {
		// An empty bag would only be in the way of the next try.
		err = errors.Join(err, os.RemoveAll(given[0]))
	}
	return err
}

// wantedTopics are the topics to record, each with what stands in for it where only
// that is published, and the node's configuration.
func wantedTopics(args *param.Args, given []string, all bool) (wanted [][]string, c *configuration, err error) {
	c, err = configureFor((&collection{cameras: []string{"head", "wrist_left", "wrist_right"}, size: 224, rate: 20}).manifest(), args)
	if err != nil {
		return nil, nil, err
	}
	if all {
		return nil, c, nil
	}
	resolve := func(topic string) (string, error) {
		full, err := c.names.Topic(topic)
		if err != nil {
			err = usageError{err}
		}
		return full, err
	}
	if len(given) > 0 {
		for _, topic := range given {
			full, err := resolve(topic)
			if err != nil {
				return nil, nil, err
			}
			wanted = append(wanted, []string{full})
		}
		return wanted, c, nil
	}
	inputs, err := c.settings.Inputs(c.names)
	if err != nil {
		return nil, nil, err
	}
	for topic, typ := range inputs {
		if typ == (*msgs.Image)(nil).ROSType() {
			wanted = append(wanted, []string{topic, topic + "/compressed"})
			continue
		}
		wanted = append(wanted, []string{topic})
	}
	for _, topic := range append(c.settings.Targets[:], "~/instruction", "~/episode") {
		full, err := resolve(topic)
		if err != nil {
			return nil, nil, err
		}
		wanted = append(wanted, []string{full})
	}
	slices.SortFunc(wanted, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return wanted, c, nil
}

// report tells what the bag has. A bag without a message is an error.
func (t *tape) report(w io.Writer, dir string, length time.Duration) error {
	written, dropped := t.recorder.Written(), t.recorder.Dropped()
	fmt.Fprintf(w, "%s: %d messages in %.1f s", dir, written, length.Seconds())
	if dropped > 0 {
		fmt.Fprintf(w, ", %d DROPPED: %s", dropped, t.whyDropped())
	}
	if n := t.untimed.Load(); n > 0 {
		fmt.Fprintf(w, ", %d NOT RECORDED: /clock said 0", n)
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, name := range t.order {
		k := t.tracks[name]
		fmt.Fprintf(table, "  %s\t%s\t%d", name, k.typ, k.heard.Load())
		if lost := k.lost(); lost > 0 {
			fmt.Fprintf(table, "\t%d LOST on the way", lost)
		}
		fmt.Fprintln(table)
	}
	for _, name := range t.missing() {
		fmt.Fprintf(table, "  %s\tnobody published it\n", name)
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if written == 0 {
		return errors.New("nothing was heard; do ROS_DOMAIN_ID, ROS_LOCALHOST_ONLY and the topics' names fit the robot's? `ddvla params` lists the parameters of the names")
	}
	return nil
}
