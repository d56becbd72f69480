package main

import (
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/ddvla/ddvla/dataset"
)

const (
	// fewEpisodes of an instruction are too few to learn it from alone.
	fewEpisodes = 10
	// gripperLeast and gripperMost bound an opening in m: Piper's grippers open to 0.07
	// or 0.1, and measure a few millimetres below 0.
	gripperLeast, gripperMost = -0.01, 0.12
	// constant is the span between q01 and q99 below which a dimension says nothing, and
	// a policy's noise would be scaled by it.
	constant = 1e-4
)

// report prints what was written.
func (c *collection) report(w io.Writer, s *dataset.Statistics) error {
	out := c.cutter.Outcome()
	fmt.Fprintf(w, "data set   %s (%s): %q, %d episodes, %d frames, %.2f h at %g Hz, %d cameras of %dx%d\n", c.out, c.layout, c.name, out.Episodes, out.Frames,
		float64(out.Frames)/c.info.Rate/3600, c.info.Rate, len(c.info.Cameras), c.info.Size, c.info.Size)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nbag\tepisodes\tframes\tobservations' age")
	for _, o := range c.outcomes {
		fmt.Fprintf(table, "%s\t%d\t%d\t%d ms\n", o.bag, o.episodes, o.frames, o.lag.Milliseconds())
	}
	if out.Bridged > 0 {
		fmt.Fprintf(table, "\nframes with the observation of one before\t%d\n", out.Bridged)
	}
	if len(out.Dropped) > 0 {
		fmt.Fprintln(table, "\nframes dropped\t")
		for _, why := range slices.Sorted(maps.Keys(out.Dropped)) {
			if n := out.Dropped[why]; n > 0 {
				fmt.Fprintf(table, "%s\t%d\n", why, n)
			}
		}
	}
	fmt.Fprintln(table, "\naction\tunit\tmin\tq01\tmean\tq99\tmax\tstd")
	for i, d := range c.info.Action {
		a := s.Action
		fmt.Fprintf(table, "%s\t%s\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\t%.4f\n", d.Name, d.Unit, a.Min[i], a.Q01[i], a.Mean[i], a.Q99[i], a.Max[i], a.Std[i])
	}
	if err := table.Flush(); err != nil {
		return err
	}
	warnings := c.warnings(s)
	if len(warnings) > 0 {
		fmt.Fprintln(w)
	}
	for _, warning := range warnings {
		if _, err := fmt.Fprintf(w, "warning: %s\n", warning); err != nil {
			return err
		}
	}
	return nil
}

// why tells what most frames were dropped for, where none is left.
func (c *collection) why() string {
	var parts []string
	dropped := c.cutter.Outcome().Dropped
	for _, why := range slices.Sorted(maps.Keys(dropped)) {
		if dropped[why] > 0 {
			parts = append(parts, fmt.Sprintf("%d frames dropped: %s", dropped[why], why))
		}
	}
	for _, o := range c.outcomes {
		for _, warning := range o.warnings {
			parts = append(parts, o.bag+": "+warning)
		}
	}
	if parts == nil {
		return "the bags hold no complete set of pictures"
	}
	return strings.Join(parts, "; ")
}

// warnings are what should be looked at before training.
func (c *collection) warnings(s *dataset.Statistics) []string {
	var all []string
	for _, o := range c.outcomes {
		for _, w := range o.warnings {
			all = append(all, o.bag+": "+w)
		}
	}
	all = append(all, dimensionWarnings(c.info, s)...)
	out := c.cutter.Outcome()
	if share := float64(out.Still) / float64(out.Frames); share > 0.1 {
		all = append(all, fmt.Sprintf("in %.0f %% of the frames nothing moves yet, or any more, in their episode: a policy learns to stand; --trim 0.01 drops them", 100*share))
	}
	if share := float64(c.repeated) / float64(c.taken); share > 0.1 {
		all = append(all, fmt.Sprintf("in %.0f %% of the observations the oldest picture is that of the one before: the cameras send less often than --rate %g asks for", 100*share, c.info.Rate))
	}
	counts := map[string]int{}
	for _, e := range c.episodes {
		counts[e.Instruction]++
	}
	for _, text := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[text]; n < fewEpisodes {
			all = append(all, fmt.Sprintf("instruction %q has %d episodes; with fewer than %d it is hardly learnt", text, n, fewEpisodes))
		}
		if strings.HasSuffix(text, ".") {
			all = append(all, fmt.Sprintf("instruction %q ends in a full stop; the prompt has its own punctuation, and what is asked for later must end alike", text))
		}
	}
	return all
}

// dimensionWarnings looks at the ranges.
func dimensionWarnings(info dataset.Info, s *dataset.Statistics) (all []string) {
	look := func(what, name, unit string, c *dataset.Columns, i int) {
		low, high := c.Min[i], c.Max[i]
		switch {
		case unit == "m" && (low < gripperLeast || high > gripperMost):
			all = append(all, fmt.Sprintf("%s %s is %.4g to %.4g, which is no opening in m; the drivers' unit is set by -p gripper.driver_scale:=UNITS_PER_METRE", what, name, low, high))
		case unit == "rad" && math.Max(-low, high) > 2*math.Pi:
			all = append(all, fmt.Sprintf("%s %s is %.4g to %.4g, more than a turn: is it in degrees, or another topic's?", what, name, low, high))
		case c.Q99[i]-c.Q01[i] < constant:
			all = append(all, fmt.Sprintf("%s %s is constant (%.4g): there is nothing to learn in it", what, name, c.Mean[i]))
		}
	}
	for i, d := range info.Action {
		look("action", d.Name, d.Unit, &s.Action, i)
	}
	for i, d := range info.Proprio {
		look("measured", d.Name, d.Unit, &s.Proprio.Columns, i)
	}
	return all
}
