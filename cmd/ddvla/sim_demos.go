package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/ddvla/ddvla/eval"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/sim/teach"
)

// runSimDemos is `ddvla sim demos`: demonstrations of the simulator's tasks, as a
// data set to train on.
func runSimDemos(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("sim demos", "--out DIR [FLAGS]")
	config := teach.DefaultConfig()
	complete := config.Flags(flags)
	bundle := flags.String("policy", "", "a policy bundle's `directory`: recordings of what the expert does where this policy has got to")
	flags.IntVar(&config.Visits, "visits", 0, "recordings of each instruction that start where --policy has got to; 16 if not said")
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	if err := complete(); err != nil {
		return usageError{err}
	}
	switch {
	case *bundle == "" && config.Visits > 0:
		return usageError{errors.New("--visits needs a --policy")}
	case *bundle != "":
		if config.Visits == 0 {
			config.Visits = 16
		}
		// What `ddvla eval run` would do with this bundle.
		read := func(stderr io.Writer) (*evalRun, error) {
			e := &evalRun{}
			return e, e.read([]string{"--bundle", *bundle, "--out", config.Out}, io.Discard, stderr)
		}
		e, err := read(stderr)
		if err != nil {
			return err
		}
		config.Policy = e.setup.Policy + " " + e.setup.Bundle
		// Visitors go their ways at the same time, and settings hold a Guard, which
		// belongs to one goroutine.
		config.Visitor = func(ctx context.Context) (teach.Visitor, error) {
			e, err := read(io.Discard)
			if err != nil {
				return nil, err
			}
			m, err := e.open(ctx)
			if err != nil {
				return nil, err
			}
			return &visitor{Model: m, loop: e.loop}, nil
		}
	}
	if err := config.Validate(); err != nil {
		return usageError{err}
	}
	return teach.Report(ctx, config, stdout, stderr)
}

// visitor is a policy whose way through episodes is kept.
type visitor struct {
	*eval.Model
	loop   eval.Loop
	worlds []*sim.World
}

// Act keeps the world of every observation.
func (v *visitor) Act(ctx context.Context, m *eval.Moment) (eval.Thought, error) {
	v.worlds = append(v.worlds, m.Episode.World.Clone())
	return v.Model.Act(ctx, m)
}

// Visit runs the policy.
func (v *visitor) Visit(ctx context.Context, e *sim.Episode, seed uint64) ([]*sim.World, error) {
	v.worlds = nil
	r, _, err := v.loop.Run(ctx, v, eval.EpisodeOf(e), seed)
	if err == nil && r.Failed > 0 {
		err = fmt.Errorf("%d inferences failed: %s", r.Failed, r.Error)
	}
	return v.worlds, err
}
