package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"strings"
	"time"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/sim"
)

// runSim is `ddvla sim`: a simulated Cobot Magic at a table, as a process of its
// own on the ROS graph.
func runSim(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	if len(args) > 0 && args[0] == "demos" {
		return runSimDemos(ctx, args[1:], stdout, stderr)
	}
	flags := newFlags("sim", "[demos] [FLAGS]")
	config := sim.DefaultConfig()
	flags.Uint64Var(&config.Seed, "seed", config.Seed, "draws what lies on the table")
	flags.BoolVar(&config.Compressed, "compressed", false, "publish JPEG pictures on .../compressed")
	flags.Float64Var(&config.CameraRate, "camera-rate", config.CameraRate, "pictures per second of each camera")
	flags.Float64Var(&config.JointRate, "joint-rate", config.JointRate, "joint states per second of each arm")
	flags.StringVar(&config.InstructionTopic, "instruction-topic", config.InstructionTopic, "where instructions go")
	flags.StringVar(&config.EpisodeTopic, "episode-topic", "", "where marks of a task's episodes go (default beside the instructions, .../episode)")
	flags.DurationVar(&config.Servo.Delay, "servo-delay", 0, "how long a command is on its way to the drives")
	flags.Float64Var(&config.Servo.Noise, "joint-noise", 0, "standard deviation of measured joints in radians")
	flags.StringVar(&config.Task, "task", "", "ask for this task, or all in turn, and mark the episodes: "+taskNames())
	flags.IntVar(&config.Episodes, "episodes", config.Episodes, "scenes of the task to lay one after the other")
	perturbation := flags.String("perturb", "none", "with a task: what differs from demonstrations, of "+strings.Join(sim.Perturbations(), ", ")+", joined by +; vision is all that only cameras see")
	flags.StringVar(&config.HomeService, "home-service", "", "with a task: call this std_srvs/Trigger between scenes and lay the next table when the arms are at rest")
	flags.StringVar(&config.EnableService, "enable-service", "", "call this std_srvs/Trigger until the arms are enabled, and again before they are taken home")
	flags.DurationVar(&config.Pause, "pause", config.Pause, "with a task: time after success before the next scene")
	flags.BoolVar(&config.Demonstrate, "demonstrate", false, "with a task: have the scripted expert do it, on the command topics")
	say := flags.String("instructions", "", "instructions to give one after the other, separated by semicolons")
	draw := flags.Int("draw", 0, "draw this many instructions instead")
	each := flags.Duration("each", 4*time.Second, "how long each instruction is given")
	flags.BoolVar(&config.WaitForCommand, "wait", false, "start the instructions' clock with the first command; with --demonstrate, when somebody, as `ddvla record` does, listens to all topics")
	flags.BoolVar(&config.Stay, "stay", false, "keep the last instruction, or go on after the last episode, until stopped")
	report := flags.String("report", "", "write what was reached to this file, as JSON")
	backend := backendFlag(flags)
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	if *draw < 0 {
		return usageError{fmt.Errorf("--draw is %d, must be 0 or more", *draw)}
	}
	for text := range strings.SplitSeq(*say, ";") {
		if text = strings.TrimSpace(text); text != "" {
			config.Schedule = append(config.Schedule, sim.Step{Instruction: text, Duration: *each})
		}
	}
	if *draw > 0 {
		config.Schedule = append(config.Schedule, sim.NewSchedule(config.Seed, sim.SceneOf(config.Seed), *draw, *each)...)
	}
	if n := len(config.Schedule); n > 0 && config.Stay {
		config.Schedule[n-1].Duration = math.MaxInt64
	}
	if config.Task != "" && config.Task != sim.AllTasks {
		if _, err := sim.TaskNamed(config.Task); err != nil {
			return usageError{fmt.Errorf("--task: %w", err)}
		}
	}
	if config.Task != "" && len(config.Schedule) > 0 {
		return usageError{errors.New("--task brings its own instructions; leave out --instructions and --draw")}
	}
	var bad error
	if config.Perturbation, bad = sim.ParsePerturbation(*perturbation); bad != nil {
		return usageError{fmt.Errorf("--perturb: %w", bad)}
	}
	if config.Task == "" && (config.Demonstrate || config.Perturbation != sim.Perturbation{}) {
		return usageError{errors.New("--demonstrate and --perturb need a --task")}
	}
	if config.EpisodeTopic == "" {
		config.EpisodeTopic = path.Join(path.Dir(config.InstructionTopic), "episode")
	}
	config.Logger = consoleLogger(stderr, "warn")

	options := ros.Options{Name: "cobot_magic_sim", Logger: config.Logger}
	if err := options.FromEnvironment(os.LookupEnv); err != nil {
		return err
	}
	node, err := backend.node(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, node.Close()) }()
	others, err := watchStates(node, options.DomainID, config.StateTopics[:])
	if err != nil {
		return err
	}
	if err := others.look(ctx); err != nil {
		return err
	}
	if config.Demonstrate {
		// It hears no more of them itself: --wait counts who listens.
		if err := others.Close(); err != nil {
			return err
		}
	} else {
		config.Alone = func() error { return others.alone(1) }
	}
	process, err := sim.NewProcess(node, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.Close()) }()
	if config.Task == "" {
		fmt.Fprintf(stdout, "scene %d:", config.Seed)
	} else {
		fmt.Fprintf(stdout, "task %s, %d episodes from seed %d on", config.Task, config.Episodes, config.Seed)
	}
	for _, c := range process.Scene().Cubes {
		fmt.Fprintf(stdout, " a %s cube on the %s", c.Colour, c.Side())
	}
	fmt.Fprintln(stdout)
	result, err := process.Run(ctx)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, result)
	if *report == "" {
		return nil
	}
	raw, err := json.MarshalIndent(result, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(*report, append(raw, '\n'), 0o644)
}

// taskNames lists the simulator's tasks.
func taskNames() string {
	names := []string{sim.AllTasks}
	for _, t := range sim.Tasks() {
		names = append(names, t.Name)
	}
	return strings.Join(names, ", ")
}
