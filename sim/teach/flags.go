package teach

import (
	"context"
	"flag"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ddvla/ddvla/sim"
)

// Flags adds the fields of c to a flag set, their values being the defaults. The
// function it returns completes c after parsing.
func (c *Config) Flags(flags *flag.FlagSet) (complete func() error) {
	tasks := flags.String("tasks", "all", "tasks to record, separated by commas")
	flags.StringVar(&c.Out, "out", c.Out, "directory to write to")
	flags.StringVar(&c.Name, "name", c.Name, "name of the data set")
	flags.IntVar(&c.Episodes, "episodes", c.Episodes, "scenes of each task")
	flags.Uint64Var(&c.Seed, "seed", c.Seed, "draws everything")
	flags.IntVar(&c.Shoves, "shoves", c.Shoves, "further recordings of a scene that start from a disturbed state")
	flags.IntVar(&c.Starts, "starts", c.Starts, "more recordings of each instruction that start at home or near it")
	flags.IntVar(&c.Scatters, "scatters", c.Scatters, "recordings of each instruction that start with the arms anywhere over the table")
	flags.IntVar(&c.Keep, "keep", c.Keep, "frames kept of the recordings of --starts and --scatters; twice as many of those after shoves")
	flags.IntVar(&c.PictureStride, "picture-stride", c.PictureStride, "every n-th frame has pictures and is a sample")
	flags.Float64Var(&c.Counterparts, "counterparts", c.Counterparts, "share of scenes in which another instruction is followed as well")
	perturbation := flags.String("perturb", c.Perturbation.String(), "what scenes differ in, each in its own way: "+
		strings.Join(sim.Perturbations()[1:], ", ")+", joined by +; vision is light+texture+camera")
	flags.IntVar(&c.Size, "size", c.Size, "side of the pictures in pixels")
	flags.IntVar(&c.Samples, "samples", c.Samples, "pixels drawn each way for one; 0 draws the robot's pictures and resizes them")
	flags.IntVar(&c.Workers, "workers", c.Workers, "scenes at the same time")
	return func() (err error) {
		if c.Perturbation, err = sim.ParsePerturbation(*perturbation); err != nil {
			return fmt.Errorf("--perturb: %w", err)
		}
		if *tasks == "all" {
			return nil
		}
		c.Tasks = nil
		for name := range strings.SplitSeq(*tasks, ",") {
			task, err := sim.TaskNamed(strings.TrimSpace(name))
			if err != nil {
				return fmt.Errorf("--tasks: %w", err)
			}
			c.Tasks = append(c.Tasks, task)
		}
		return nil
	}
}

// Report runs c and tells about it: progress every few seconds on progress, what
// was written on out.
func Report(ctx context.Context, c Config, out, progress io.Writer) error {
	start := time.Now()
	last := start
	c.Progress = func(done, all, frames int) {
		if now := time.Now(); now.Sub(last) > 5*time.Second {
			last = now
			fmt.Fprintf(progress, "%d of %d scenes, %d frames, %.0f frames a second\n", done, all, frames, float64(frames)/now.Sub(start).Seconds())
		}
	}
	sum, err := Run(ctx, c)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%d recordings with %d frames of %d scenes in %s, %.0f frames a second; %d scenes gave none, for the expert failed\n",
		sum.Recordings, sum.Frames, len(c.Tasks)*c.Episodes, c.Out, float64(sum.Frames)/time.Since(start).Seconds(), sum.Failed)
	return err
}
