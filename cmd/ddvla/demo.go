package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// runDemo is `ddvla demo`: the node in this process, a simulated robot in
// another one, DDS between them, a bag of everything, and a summary.
func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("ddvla demo", flag.ContinueOnError)
	flags.SetOutput(stderr)
	d := demo{stdout: stdout, stderr: stderr}
	flags.StringVar(&d.bundle, "bundle", "", "policy bundle `directory`")
	flags.StringVar(&d.out, "out", "", "`directory` for the bag and the report")
	flags.Uint64Var(&d.seed, "seed", 1, "draws what lies on the table")
	flags.IntVar(&d.instructions, "instructions", 4, "how many instructions are given")
	flags.DurationVar(&d.each, "each", 5*time.Second, "how long each is given")
	flags.BoolVar(&d.raw, "raw", false, "uncompressed pictures (83 MB/s, and as much in the bag)")
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0); err != nil {
		return err
	}
	if d.bundle == "" || d.out == "" {
		return usageError{errors.New("--bundle and --out are needed; `make demo` gives both")}
	}
	return d.run(ctx, rosArgs)
}

type demo struct {
	bundle, out    string
	seed           uint64
	instructions   int
	each           time.Duration
	raw            bool
	stdout, stderr io.Writer
}

func (d *demo) run(ctx context.Context, args *param.Args) error {
	recording := filepath.Join(d.out, "bag")
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return err
	}
	if err := os.RemoveAll(recording); err != nil {
		return err
	}
	if err := private(); err != nil {
		return err
	}
	extra := []param.Assignment{
		{Name: "policy", Value: param.String(d.bundle)},
		{Name: "record", Value: param.String(recording)},
	}
	if !d.raw {
		for name, topic := range node.CameraTopics() {
			extra = append(extra, param.Assignment{Name: "cameras." + name + ".topic", Value: param.String(topic + "/compressed")})
		}
	}
	c, err := configureNode(args, extra...)
	if err != nil {
		return err
	}
	log := consoleLogger(d.stderr, c.level.String())
	c.options.Logger = log
	report, err := d.play(ctx, c, log)
	if report != nil {
		fmt.Fprintln(d.stdout)
		err = errors.Join(err, report.Write(d.stdout))
	}
	return err
}

// private keeps the demo off other robots' network: the loopback interface only,
// and a domain of its own unless the user chose one.
func private() error {
	if os.Getenv("ROS_DOMAIN_ID") == "" {
		if err := os.Setenv("ROS_DOMAIN_ID", strconv.Itoa(10+os.Getpid()%90)); err != nil {
			return err
		}
	}
	return os.Setenv("ROS_LOCALHOST_ONLY", "1")
}

// play runs node and robot for the time that the instructions take. The node is
// stopped first, so that it brings the arms to rest on a robot that is there.
func (d *demo) play(ctx context.Context, c *configuration, log *zap.Logger) (report *node.Report, err error) {
	rn, err := backend("cyclone").node(ctx, c.options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	n, err := c.start(ctx, rn, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, n.Close()) }()

	robot, stopRobot := context.WithCancel(ctx)
	defer stopRobot()
	gone := make(chan error, 1)
	go func() { gone <- d.robot(robot) }()

	running, stopNode := context.WithCancel(ctx)
	defer stopNode()
	group, running := errgroup.WithContext(running)
	group.Go(func() error { return n.Run(running) })
	group.Go(func() error {
		defer stopNode()
		if err := d.operator(running, log); err != nil {
			return err
		}
		select {
		case <-running.Done():
		case err := <-gone:
			gone <- err
			return errors.Join(errors.New("the simulated robot ended early"), err)
		case <-time.After(time.Duration(d.instructions) * d.each):
		}
		return nil
	})
	err = group.Wait()
	result := n.Report()
	stopRobot()
	err = errors.Join(err, <-gone)
	switch {
	case err != nil:
	case result.Chunks == 0:
		err = errors.New("the policy made no chunk; the log above says why")
	case result.Control.Counters.Commands == 0:
		err = errors.New("the arms were sent no command; the log above says why")
	}
	return &result, err
}

// robot is the second process.
func (d *demo) robot(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"sim", "--backend", "cyclone", "--wait", "--stay", "--seed", strconv.FormatUint(d.seed, 10),
		"--draw", strconv.Itoa(d.instructions), "--each", d.each.String(), "--report", filepath.Join(d.out, "robot.json")}
	if !d.raw {
		args = append(args, "--compressed")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Run(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("simulated robot: %w", err)
	}
	return nil
}

// operator enables the arms, as a person would with `ros2 service call`. The
// robot may still be starting, so it asks until they are.
func (d *demo) operator(ctx context.Context, log *zap.Logger) (err error) {
	options := ros.Options{Name: "operator", Logger: log}
	if err := options.FromEnvironment(os.LookupEnv); err != nil {
		return err
	}
	rn, err := backend("cyclone").node(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	client, err := ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](rn, "/ddvla/enable")
	if err != nil {
		return err
	}
	for {
		reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](ctx, client, &msgs.TriggerRequest{})
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case reply.Success:
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(200 * time.Millisecond):
		}
	}
}
