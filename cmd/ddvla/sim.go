package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"time"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/sim"
)

// runSim is `ddvla sim`: a simulated Cobot Magic at a table, as a process of its
// own on the ROS graph.
func runSim(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := newFlags("sim", "[FLAGS]")
	config := sim.DefaultConfig()
	flags.Uint64Var(&config.Seed, "seed", config.Seed, "draws what lies on the table")
	flags.BoolVar(&config.Compressed, "compressed", false, "publish JPEG pictures on .../compressed")
	flags.Float64Var(&config.CameraRate, "camera-rate", config.CameraRate, "pictures per second of each camera")
	flags.Float64Var(&config.JointRate, "joint-rate", config.JointRate, "joint states per second of each arm")
	flags.StringVar(&config.InstructionTopic, "instruction-topic", config.InstructionTopic, "where instructions go")
	say := flags.String("instructions", "", "instructions to give one after the other, separated by semicolons")
	draw := flags.Int("draw", 0, "draw this many instructions instead")
	each := flags.Duration("each", 4*time.Second, "how long each instruction is given")
	flags.BoolVar(&config.WaitForCommand, "wait", false, "start the instructions' clock with the first command")
	stay := flags.Bool("stay", false, "keep the last instruction until stopped")
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
	if n := len(config.Schedule); n > 0 && *stay {
		config.Schedule[n-1].Duration = math.MaxInt64
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
	process, err := sim.NewProcess(node, config)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, process.Close()) }()
	fmt.Fprintf(stdout, "scene %d:", config.Seed)
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
