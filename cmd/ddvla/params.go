package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// runParams is `ddvla params`: the table of parameters, for the README and for
// params files, so that neither can drift from the code, and what a command line
// makes of them.
func runParams(_ context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("params", "[--format FORMAT] [--ros-args -p NAME:=VALUE --params-file FILE -r FROM:=TO]")
	format := flags.String("format", "markdown", "`markdown`; yaml for a params file with every default; dump for what a node started with these ROS arguments has, as `ros2 param dump` prints it")
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	if *format != "dump" && slices.Contains(args, "--ros-args") {
		return usageError{fmt.Errorf("--format %s is the same whatever ROS arguments there are; --format dump takes them", *format)}
	}
	switch *format {
	case "markdown":
		fmt.Fprintln(stdout, "| parameter | type | unit | range | default | live | meaning |\n|---|---|---|---|---|---|---|")
		for _, d := range node.Parameters(nil) {
			fmt.Fprintf(stdout, "| `%s` | %s | %s | %s | %s | %s | %s |\n", d.Name, d.Default.Kind(), d.Unit, allowed(d),
				code(d.Default.String()), map[bool]string{false: "yes"}[d.ReadOnly], d.Meaning)
		}
	case "yaml":
		fmt.Fprintln(stdout, "# Every parameter of the node with its default: `ddvla params --format yaml`.")
		fmt.Fprintln(stdout, "# In brackets: type, unit, range, and live where it may change while the node runs.")
		fmt.Fprintln(stdout, "/**:\n  ros__parameters:")
		for _, d := range node.Parameters(nil) {
			line := fmt.Sprintf("%s: %s", d.Name, d.Default)
			if d.Default.Kind() == param.KindDoubles {
				// rcl's parser refuses a list without elements, since it has no type.
				line = "# " + line
			}
			fmt.Fprintf(stdout, "    # %s (%s)\n    %s\n", d.Meaning, remark(d), line)
		}
	case "dump":
		return dumpParams(rosArgs, stdout, stderr)
	default:
		return usageError{fmt.Errorf("--format is %q, must be markdown, yaml or dump", *format)}
	}
	return nil
}

// dumpParams writes the parameters of a node that is started with args. A policy
// among them decides which cameras there are.
func dumpParams(args *param.Args, stdout, stderr io.Writer) error {
	names, err := ros.NewNames(ros.Options{Name: "ddvla", Remaps: args.Remaps})
	if err != nil {
		return usageError{err}
	}
	set, _, err := declare(args.For(names.FullyQualified()), names)
	if err != nil {
		return err
	}
	for _, name := range set.Undeclared() {
		fmt.Fprintf(stderr, "ddvla params: unknown parameter %s ignored\n", name)
	}
	_, err = stdout.Write(param.Dump(names.FullyQualified(), set.Values()))
	return err
}

func code(s string) string {
	if s == "" || s == `""` {
		return ""
	}
	return "`" + s + "`"
}

// remark is a descriptor's type, unit, range and whether it is live, for people.
func remark(d param.Descriptor) string {
	parts := []string{d.Default.Kind().String()}
	if a := strings.TrimSpace(allowed(d) + " " + d.Unit); a != "" {
		parts = append(parts, a)
	}
	if !d.ReadOnly {
		parts = append(parts, "live")
	}
	return strings.Join(parts, "; ")
}

// allowed says what a parameter may be.
func allowed(d param.Descriptor) string {
	var parts []string
	if d.Range != nil {
		parts = append(parts, d.Range.String())
	}
	var names []string
	for _, s := range d.OneOf {
		if s != "" {
			names = append(names, s)
		}
	}
	return strings.Join(append(parts, names...), ", ")
}
