// Command ddvla runs a discrete-diffusion VLA policy on an AgileX Cobot Magic:
// a ROS 2 node, the exporter that makes its policy bundles, replay of recorded
// bags, and a simulated robot to try them on. Each subcommand is a file here;
// what they do lies in the packages they call.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// version is set by the linker (Makefile, CMakeLists.txt).
var version = "unknown"

// command is one subcommand. run returns flag.ErrHelp where it printed its own
// usage.
type command struct {
	name, summary string
	run           func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

func commands() []command {
	return []command{
		{"node", "run the policy node on ROS 2", runNode},
		{"replay", "feed a recorded bag through the node, offline", runReplay},
		{"play", "publish what a node listens to from a recorded bag, on ROS 2", runPlay},
		{"record", "record topics into a bag, on ROS 2", runRecord},
		{"export", "turn a checkpoint into a policy bundle", runExport},
		{"inspect", "print what a bundle is and check its files", runInspect},
		{"predict", "decode one chunk from picture files, print and draw it", runPredict},
		{"dataset", "make a data set to train on from recorded bags", runDataset},
		{"eval", "judge a policy in closed loop in the simulator, or ways to decode on a bag", runEval},
		{"doctor", "look whether robot or bag, policy and machine fit", runDoctor},
		{"bench", "measure how long a policy takes on this machine", runBench},
		{"sim", "publish a simulated robot's cameras and joints", runSim},
		{"demo", "node and simulated robot together, with a summary", runDemo},
		{"health", "ask a running node how it is", runHealth},
		{"params", "list the node's parameters", runParams},
		{"version", "print the version and what it was built with", runVersion},
	}
}

// insist is the time in which further signals mean what the first one meant.
// `ros2 launch` without a terminal passes a signal on to processes that got it as
// members of its group already, and systemd and docker signal groups; the arms
// must come to rest all the same, for which the node takes a second.
const insist = 2 * time.Second

func main() {
	// The first SIGINT or SIGTERM asks for an orderly end: decelerate, hold,
	// flush. One that comes later than insist ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, func() { time.AfterFunc(insist, stop) })
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit status: 0, 1 for a failure, 2 for wrong usage, or what a
// subcommand's statusError says.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) == 1 {
			usage(stdout)
			return 0
		}
		args = []string{args[1], "-h"}
	case "-version", "--version":
		args = []string{"version"}
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		var wrong usageError
		var judged statusError
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.Is(err, context.Canceled) && ctx.Err() != nil:
			fmt.Fprintf(stderr, "ddvla %s: interrupted: %v\n", c.name, err)
			return 1
		case errors.As(err, &wrong):
			fmt.Fprintf(stderr, "ddvla %s: %v\n", c.name, err)
			return 2
		case errors.As(err, &judged):
			fmt.Fprintf(stderr, "ddvla %s: %v\n", c.name, err)
			return judged.status
		default:
			fmt.Fprintf(stderr, "ddvla %s: %v\n", c.name, err)
			return 1
		}
	}
	fmt.Fprintf(stderr, "ddvla: there is no subcommand %q; `ddvla help` lists them\n", args[0])
	return 2
}

func usage(w io.Writer) {
	fmt.Fprintln(w, "usage: ddvla SUBCOMMAND [ARGUMENTS]; `ddvla SUBCOMMAND -h` explains one")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-8s %s\n", c.name, c.summary)
	}
}

// usageError marks an error in how a subcommand was called.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

// statusError is an outcome with an exit status of its own.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

// newFlags returns the flags of a subcommand; synopsis is what follows its name
// on a command line. Nothing is printed by itself: parse prints the usage to who
// asks for it, and run prints errors, once.
func newFlags(name, synopsis string) *flag.FlagSet {
	flags := flag.NewFlagSet("ddvla "+name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Usage = func() {
		fmt.Fprintf(flags.Output(), "usage: ddvla %s %s\n", name, synopsis)
		flags.PrintDefaults()
	}
	return flags
}

// parse parses args with flags and refuses positional arguments beyond most.
func parse(flags *flag.FlagSet, args []string, most int, stdout io.Writer) error {
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		flags.SetOutput(stdout)
		flags.Usage()
		return err
	case err != nil:
		return usageError{fmt.Errorf("%w; `%s -h` lists the flags", err, flags.Name())}
	case flags.NArg() > most:
		return usageError{fmt.Errorf("unexpected argument %q; flags come before arguments, `%s -h` lists them", flags.Arg(most), flags.Name())}
	}
	return nil
}

// parseBetween is parse where arguments may come before and between the flags, which
// package flag does not allow. It returns the arguments.
func parseBetween(flags *flag.FlagSet, args []string, stdout io.Writer) (given []string, err error) {
	for len(args) > 0 {
		if args[0] == "-" || !strings.HasPrefix(args[0], "-") {
			given, args = append(given, args[0]), args[1:]
			continue
		}
		if err := parse(flags, args, len(args), stdout); err != nil {
			return nil, err
		}
		args = flags.Args()
	}
	return given, nil
}

// buildVersion is the version that was linked in, else what the go command knows.
func buildVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && version == "unknown" && info.Main.Version != "" {
		return info.Main.Version
	}
	return version
}

func runVersion(_ context.Context, args []string, stdout, _ io.Writer) error {
	if err := parse(newFlags("version", ""), args, 0, stdout); err != nil {
		return err
	}
	fmt.Fprintf(stdout, "ddvla %s, %s %s/%s\n", buildVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return nil
	}
	for _, m := range info.Deps {
		switch m.Path {
		case "github.com/yalue/onnxruntime_go", "github.com/tiiuae/rclgo", "gonum.org/v1/gonum", "go.uber.org/zap":
			fmt.Fprintf(stdout, "  %s %s\n", m.Path, m.Version)
		}
	}
	return nil
}
