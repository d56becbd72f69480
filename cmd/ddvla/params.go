package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros/param"
)

// runParams is `ddvla params`: the table of parameters, for the README and for
// params files, so that neither can drift from the code.
func runParams(_ context.Context, args []string, stdout, _ io.Writer) error {
	flags := newFlags("params", "[--format FORMAT]")
	format := flags.String("format", "markdown", "`markdown`, or yaml for a params file")
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	switch *format {
	case "markdown":
		fmt.Fprintln(stdout, "| parameter | type | default | range | live | meaning |\n|---|---|---|---|---|---|")
		for _, d := range node.Parameters(nil) {
			fmt.Fprintf(stdout, "| `%s` | %s | %s | %s | %s | %s |\n",
				d.Name, d.Default.Kind(), code(d.Default.String()), allowed(d), map[bool]string{false: "yes"}[d.ReadOnly], d.Meaning)
		}
	case "yaml":
		fmt.Fprintln(stdout, "# Every parameter of the node with its default: `ddvla params --format yaml`.")
		fmt.Fprintln(stdout, "/**:\n  ros__parameters:")
		for _, d := range node.Parameters(nil) {
			fmt.Fprintf(stdout, "    # %s", d.Meaning)
			if a := allowed(d); a != "" {
				fmt.Fprintf(stdout, " (%s)", a)
			}
			line := fmt.Sprintf("%s: %s", d.Name, d.Default)
			if d.Default.Kind() == param.KindDoubles {
				// An empty list has no type in a params file.
				line = "# " + line
			}
			fmt.Fprintf(stdout, "\n    %s\n", line)
		}
	default:
		return usageError{fmt.Errorf("--format is %q, must be markdown or yaml", *format)}
	}
	return nil
}

func code(s string) string {
	if s == "" || s == `""` {
		return ""
	}
	return "`" + s + "`"
}

// allowed says what a parameter may be, with its unit.
func allowed(d param.Descriptor) string {
	var parts []string
	if d.Range != nil {
		parts = append(parts, d.Range.String())
	}
	if d.OneOf != nil {
		var names []string
		for _, s := range d.OneOf {
			if s != "" {
				names = append(names, s)
			}
		}
		parts = append(parts, strings.Join(names, ", "))
	}
	if d.Unit != "" {
		parts = append(parts, d.Unit)
	}
	return strings.Join(parts, " ")
}
