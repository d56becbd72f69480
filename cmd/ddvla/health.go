package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

// runHealth is `ddvla health`: asks a running node how it is, by what it says on
// /diagnostics once a second. For containers and monitors, which look at the
// status only.
func runHealth(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := newFlags("health", "[--node NAME] [--timeout DURATION]")
	of := flags.String("node", "/ddvla", "fully qualified `name` of the node")
	timeout := flags.Duration("timeout", 5*time.Second, "how long to wait for a word of it")
	backend := backendFlag(flags)
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	if *timeout <= 0 {
		return usageError{fmt.Errorf("--timeout is %v, must be more than 0", *timeout)}
	}
	// A name that begins with _ is hidden from `ros2 node list`.
	options := ros.Options{Name: "_ddvla_health", Logger: consoleLogger(stderr, "error")}
	if err := options.FromEnvironment(os.LookupEnv); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	node, err := backend.node(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()

	prefix := strings.TrimPrefix(*of, "/") + ": "
	heard := make(chan []msgs.DiagnosticStatus, 1)
	subscription, err := ros.Subscribe(node, "/diagnostics", ros.DefaultQoS(), func(m *msgs.DiagnosticArray, _ time.Time) {
		var own []msgs.DiagnosticStatus
		for _, s := range m.Status {
			if strings.HasPrefix(s.Name, prefix) {
				// The strings are those of a message that will be reused.
				own = append(own, msgs.DiagnosticStatus{Level: s.Level, Name: strings.Clone(s.Name), Message: strings.Clone(s.Message)})
			}
		}
		if len(own) > 0 {
			select {
			case heard <- own:
			default: // the first is enough
			}
		}
	})
	if err != nil {
		return err
	}
	select {
	case own := <-heard:
		return judge(own, stdout)
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return ctx.Err()
		}
		return fmt.Errorf("nothing heard of the node %s on /diagnostics within %v (publishers there: %d; ROS domain %d); is it running, and under that name?",
			*of, *timeout, subscription.MatchedPublishers(), options.DomainID)
	}
}

// judge prints what a node said and returns its errors. Warnings and what was
// never heard, such as cameras that are still off, do not make it ill.
func judge(own []msgs.DiagnosticStatus, stdout io.Writer) error {
	levels := map[byte]string{msgs.DiagnosticOK: "ok", msgs.DiagnosticWarn: "warn", msgs.DiagnosticError: "error", msgs.DiagnosticStale: "stale"}
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	var wrong []string
	for _, s := range own {
		fmt.Fprintf(table, "%s\t%s\t%s\n", levels[s.Level], s.Name, s.Message)
		if s.Level == msgs.DiagnosticError {
			wrong = append(wrong, s.Name+": "+s.Message)
		}
	}
	if err := table.Flush(); err != nil || len(wrong) == 0 {
		return err
	}
	return errors.New(strings.Join(wrong, "; "))
}
