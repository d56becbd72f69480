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
	"syscall"
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
		{"export", "turn a checkpoint into a policy bundle", runExport},
		{"sim", "publish a simulated robot's cameras and joints", runSim},
		{"demo", "node and simulated robot together, with a summary", runDemo},
		{"params", "list the node's parameters", runParams},
		{"version", "print the version and what it was built with", runVersion},
	}
}

func main() {
	// The first SIGINT or SIGTERM asks for an orderly end: decelerate, hold,
	// flush. A second one ends the process at once.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run returns the exit status: 0, 1 for a failure, 2 for wrong usage.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		usage(stderr)
		return 2
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		usage(stdout)
		return 0
	}
	for _, c := range commands() {
		if c.name != args[0] {
			continue
		}
		err := c.run(ctx, args[1:], stdout, stderr)
		var wrong usageError
		switch {
		case err == nil, errors.Is(err, flag.ErrHelp):
			return 0
		case errors.As(err, &wrong):
			fmt.Fprintf(stderr, "ddvla %s: %v\n", c.name, err)
			return 2
		default:
			fmt.Fprintf(stderr, "ddvla %s: %v\n", c.name, err)
			return 1
		}
	}
	fmt.Fprintf(stderr, "ddvla: there is no subcommand %q\n", args[0])
	usage(stderr)
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

// parse parses args with flags and refuses positional arguments beyond most.
func parse(flags *flag.FlagSet, args []string, most int) error {
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usageError{err}
	}
	if flags.NArg() > most {
		return usageError{fmt.Errorf("unexpected argument %q", flags.Arg(most))}
	}
	return nil
}

func runVersion(_ context.Context, _ []string, stdout, _ io.Writer) error {
	fmt.Fprintf(stdout, "ddvla %s, %s %s/%s\n", version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
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
