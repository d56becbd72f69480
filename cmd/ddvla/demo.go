package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/sim"
)

// runDemo is `ddvla demo`: the node in this process, a simulated robot in
// another one, DDS between them, a bag of everything, and a summary.
func runDemo(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("demo", "--bundle DIR --out DIR [FLAGS] [--ros-args -p NAME:=VALUE]")
	d := demo{stdout: stdout, stderr: stderr}
	flags.StringVar(&d.bundle, "bundle", "", "policy bundle `directory`")
	flags.StringVar(&d.out, "out", "", "`directory` for the bag and the report")
	flags.Uint64Var(&d.seed, "seed", 1, "draws what lies on the table")
	flags.StringVar(&d.task, "task", "", "have a task done, or all in turn, in place of reaching for cubes that nothing touches: "+taskNames())
	flags.IntVar(&d.episodes, "episodes", 0, "with a task: how many scenes; 0 is one, or one of each task")
	flags.IntVar(&d.instructions, "instructions", 4, "without a task: how many instructions are given")
	flags.DurationVar(&d.each, "each", 5*time.Second, "how long each is given")
	flags.BoolVar(&d.raw, "raw", false, "uncompressed pictures (83 MB/s, and as much in the bag)")
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	switch {
	case d.bundle == "" || d.out == "":
		return usageError{errors.New("--bundle and --out are needed; `make demo` gives both")}
	case d.episodes < 0:
		return usageError{fmt.Errorf("--episodes is %d, must be 0 or more", d.episodes)}
	case d.instructions < 1:
		return usageError{fmt.Errorf("--instructions is %d, must be at least 1", d.instructions)}
	case d.each <= 0:
		return usageError{fmt.Errorf("--each is %v, must be above 0", d.each)}
	}
	if d.task != "" && d.task != sim.AllTasks {
		if _, err := sim.TaskNamed(d.task); err != nil {
			return usageError{fmt.Errorf("--task: %w", err)}
		}
	}
	if d.episodes == 0 {
		d.episodes = 1
		if d.task == sim.AllTasks {
			d.episodes = len(sim.Tasks())
		}
	}
	return d.run(ctx, rosArgs)
}

type demo struct {
	bundle, out    string
	seed           uint64
	task           string // "": cubes are reached for
	episodes       int
	instructions   int
	each           time.Duration
	raw            bool
	stdout, stderr io.Writer
}

func (d *demo) run(ctx context.Context, args *param.Args) error {
	if err := private(); err != nil {
		return err
	}
	recording := filepath.Join(d.out, "bag")
	extra := []param.Assignment{
		{Name: "policy", Value: param.String(d.bundle)},
		{Name: "record", Value: param.String(recording)},
	}
	if !d.raw {
		for name, topic := range node.CameraTopics() {
			extra = append(extra, param.Assignment{Name: "cameras." + name + ".topic", Value: param.String(topic + "/compressed")})
		}
	}
	c, err := configure(args, extra...)
	if err != nil {
		return err
	}
	if err := d.clear(recording); err != nil {
		return err
	}
	log := consoleLogger(d.stderr, c.level.String())
	c.options.Logger = log
	report, err := d.play(ctx, c, log)
	if report != nil {
		err = errors.Join(err, report.Write(d.stdout))
	}
	return err
}

// demoMark is the file that says that the recording beside it may be replaced.
const demoMark = ".ddvla-demo"

// clear makes room for a demo: what the last one left goes, and nothing else that may lie
// there.
func (d *demo) clear(recording string) error {
	mark := filepath.Join(d.out, demoMark)
	left := []string{filepath.Join(recording, "bag_0.mcap"), filepath.Join(recording, "metadata.yaml"), d.robotReport()}
	var found []string
	if !notThere(d.robotReport()) {
		found = append(found, d.robotReport())
	}
	entries, err := os.ReadDir(recording)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, e := range entries {
		found = append(found, filepath.Join(recording, e.Name()))
	}
	for _, path := range found {
		if notThere(mark) || !slices.Contains(left, path) {
			return fmt.Errorf("%s is there, and not known to be a demo's; remove it, or name another directory with --out", path)
		}
	}
	for _, path := range left {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.MkdirAll(d.out, 0o755); err != nil {
		return err
	}
	return os.WriteFile(mark, nil, 0o644)
}

// robotReport is the file in which the robot says what was reached.
func (d *demo) robotReport() string { return filepath.Join(d.out, "robot.json") }

// private keeps the demo off other robots' network: the loopback interface only,
// whatever CYCLONEDDS_URI says, and a domain of its own unless the user chose one.
func private() error {
	if os.Getenv("ROS_DOMAIN_ID") == "" {
		if err := os.Setenv("ROS_DOMAIN_ID", strconv.Itoa(10+os.Getpid()%90)); err != nil {
			return err
		}
	}
	return errors.Join(os.Setenv("ROS_LOCALHOST_ONLY", "1"), os.Unsetenv("CYCLONEDDS_URI"))
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
	person, err := newOperator(ctx, c, log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, person.Close()) }()
	if err := errors.Join(person.others.look(ctx), ctx.Err()); err != nil {
		return nil, err
	}

	stopping, stopNode := context.WithCancel(ctx)
	defer stopNode()
	robot, stopRobot := context.WithCancel(context.WithoutCancel(ctx))
	defer stopRobot()
	gone := make(chan error, 1)
	go func() {
		gone <- d.robot(robot, person)
		stopNode()
	}()
	group, running := errgroup.WithContext(stopping)
	group.Go(func() error { return n.Run(running) })
	group.Go(func() error {
		defer stopNode()
		if err := person.enable(running); err != nil {
			return err
		}
		if d.task != "" {
			return person.watch(running, d.episodes, log)
		}
		select {
		case <-running.Done():
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
	case ctx.Err() != nil:
		log.Info("interrupted; the bag and the report hold what was done until then")
	case result.Chunks == 0:
		err = errors.New("the policy made no chunk; the log above says why")
	case result.Control.Counters.Commands == 0:
		err = errors.New("the arms were sent no command; the log above says why")
	}
	return &result, err
}

// robot is the second process, which gives its instructions where the node listens, and
// has the arms taken home between scenes. That it ends before ctx does is an error.
func (d *demo) robot(ctx context.Context, person *operator) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	args := []string{"sim", "--backend", "cyclone", "--wait", "--stay", "--seed", strconv.FormatUint(d.seed, 10),
		"--instruction-topic", person.instructions, "--episode-topic", person.episodes, "--report", d.robotReport()}
	if d.task != "" {
		args = append(args, "--task", d.task, "--episodes", strconv.Itoa(d.episodes), "--home-service", person.homing, "--enable-service", person.enabling)
	} else {
		args = append(args, "--draw", strconv.Itoa(d.instructions), "--each", d.each.String())
	}
	if !d.raw {
		args = append(args, "--compressed")
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Stdout, cmd.Stderr = d.stdout, d.stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	// A terminal's ctrl-C goes to its whole process group; in one of its own the
	// robot stays until the node has stopped. It ends with this process in any case:
	// Linux counts the thread that started it as the parent, which must stay, too.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	err = cmd.Run()
	if ctx.Err() != nil {
		return nil
	}
	if err == nil {
		err = errors.New(cmd.ProcessState.String())
	}
	return fmt.Errorf("the simulated robot's process ended early: %w", err)
}

// operator is the person: looks whether the way is clear, enables the arms, as with
// `ros2 service call`, and watches what becomes of a task's episodes.
type operator struct {
	ros.Node
	// instructions and episodes are the topics of what the arms are to do and what became of
	// it, enabling and homing are the services that let the arms move and take them home.
	instructions, episodes, enabling, homing string

	enabler ros.Client
	marks   chan string // of episodes
	others  *neighbours
}

func newOperator(ctx context.Context, c *configuration, log *zap.Logger) (_ *operator, err error) {
	options := ros.Options{Name: "operator", Logger: log}
	if err := options.FromEnvironment(os.LookupEnv); err != nil {
		return nil, err
	}
	// More than a task's episodes have between two looks at it.
	o := &operator{marks: make(chan string, 64)}
	for name, topic := range map[string]*string{"~/instruction": &o.instructions, "~/episode": &o.episodes} {
		if *topic, err = c.names.Topic(name); err != nil {
			return nil, err
		}
	}
	for name, service := range map[string]*string{"~/enable": &o.enabling, "~/home": &o.homing} {
		if *service, err = c.names.Service(name); err != nil {
			return nil, err
		}
	}
	if o.Node, err = backend("cyclone").node(ctx, options); err != nil {
		return nil, err
	}
	if o.enabler, err = ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](o, o.enabling); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	if o.others, err = watchStates(o, options.DomainID, c.settings.States[:]); err != nil {
		return nil, errors.Join(err, o.Close())
	}
	_, err = ros.Subscribe(o.Node, o.episodes, ros.DefaultQoS(), func(m *msgs.String, _ time.Time) {
		select {
		case o.marks <- m.Data:
		default:
		}
	})
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return o, nil
}

// watch returns when so many episodes are over, or ctx is.
func (o *operator) watch(ctx context.Context, episodes int, log *zap.Logger) error {
	for over := 0; over < episodes; {
		var mark string
		select {
		case <-ctx.Done():
			return nil
		case mark = <-o.marks:
		}
		if mark == sim.MarkStart {
			continue
		}
		over++
		log.Info("episode "+mark, zap.Int("episode", over), zap.Int("of", episodes))
	}
	return nil
}

// discovery is how long DDS is given to find who is there already. On the
// loopback interface it takes some milliseconds.
const discovery = time.Second

// neighbours are other robots in the domain, which demo and simulator move by name: their
// drivers would follow the same commands.
type neighbours struct {
	domain int
	states map[string]ros.Subscription // by topic; only for who publishes there
}

// watchStates subscribes to joint states until n is closed.
func watchStates(n ros.Node, domain int, topics []string) (*neighbours, error) {
	o := &neighbours{domain: domain, states: map[string]ros.Subscription{}}
	for _, topic := range topics {
		s, err := n.Subscribe(topic, (*msgs.JointState)(nil).ROSType(), ros.SensorDataQoS(), func([]byte, time.Time) {})
		if err != nil {
			return nil, err
		}
		o.states[topic] = s
	}
	return o, nil
}

// Close ends the subscriptions.
func (o *neighbours) Close() (err error) {
	for _, s := range o.states {
		err = errors.Join(err, s.Close())
	}
	return err
}

// look refuses a domain with a robot in it, unless ctx ends.
func (o *neighbours) look(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-time.After(discovery):
		return o.alone(0)
	}
}

// alone refuses arms with more than most publishers of their joint states.
func (o *neighbours) alone(most int) error {
	for topic, s := range o.states {
		if s.MatchedPublishers() > most {
			return fmt.Errorf("another robot, simulation or recording publishes %s in ROS domain %d, and a simulation moves no arms but its own; choose a free domain with ROS_DOMAIN_ID",
				topic, o.domain)
		}
	}
	return nil
}

// enable enables the arms. The robot may still be starting, or the arms not be at rest, so
// it asks until they are enabled or ctx ends.
func (o *operator) enable(ctx context.Context) error {
	for {
		if err := o.others.alone(1); err != nil {
			return err
		}
		reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](ctx, o.enabler, &msgs.TriggerRequest{})
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
