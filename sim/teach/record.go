package teach

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/ddvla/ddvla/sim"
)

const (
	// tail is how much is recorded after success, so that policies learn to stay
	// done: of the first recording of an episode, and of those after shoves.
	tail      = 3 * time.Second
	shortTail = 400 * time.Millisecond
	// startNoise is how far the arms are from home at the start at most (rad, standard
	// deviation); grippers by gripperNoise metres.
	startNoise   = 0.04
	gripperNoise = 0.008
	// startsHome is the share of the starts that are at home and nowhere else. An arm
	// that has come home is there to a bin: were no start, a policy would take that for
	// the sign that all is done, and never begin.
	startsHome = 0.5
	// visitsLate is the share of a policy's ways that begin on the expert's.
	visitsLate = 0.5
)

// recording is an attempt of the expert, or part of one, that succeeded.
type recording struct {
	episode     *sim.Episode
	instruction string
	worlds      []*sim.World // before each command
	commands    []sim.State
	done        int // how many of the worlds come before the task is done
}

// cut shortens a recording to about so many frames, of which the last with pictures
// has a whole chunk.
func (r *recording) cut(frames, stride int) {
	pictures := max(1, (frames-sim.ChunkRows)/stride+1)
	if n := (pictures-1)*stride + sim.ChunkRows; n < len(r.worlds) {
		r.worlds, r.commands = r.worlds[:n], r.commands[:n]
	}
}

// record lets the expert do the episode from a world on. It returns nil where
// that fails.
func record(e *sim.Episode, w *sim.World, instruction string, tail time.Duration) *recording {
	expert := e.Expert()
	r := &recording{episode: e, instruction: instruction}
	end := w.Now() + e.Limit
	done := false
	for w.Now() < end {
		if !done && e.SuccessIn(w) {
			done, end = true, w.Now()+tail
			r.done = len(r.worlds)
		}
		command := expert.Act(w)
		r.worlds = append(r.worlds, w.Clone())
		r.commands = append(r.commands, command)
		w.Command(command)
		w.Step(sim.RowTime)
	}
	if !done || !e.SuccessIn(w) {
		return nil
	}
	return r
}

// demonstrate returns the recordings of scene n.
func (m *maker) demonstrate(ctx context.Context, task sim.Task, n int, rng *rand.Rand) ([]*recording, error) {
	c, arms := m.conf, m.arms
	e, err := sim.NewEpisode(arms, task, (c.Seed+1)<<32+uint64(n), c.Perturbation)
	if err != nil {
		return nil, err
	}
	episodes := []*sim.Episode{e}
	if rng.Float64() < c.Counterparts {
		other, err := e.Counterpart()
		if err != nil {
			return nil, err
		}
		episodes = append(episodes, other)
	}
	var out []*recording
	for i, e := range episodes {
		w := e.World.Clone()
		w.Place(start(rng, arms))
		first := record(e, w, e.Instruction, tail)
		if first == nil {
			continue // about one in a hundred
		}
		out = append(out, first)
		for k := range c.Starts + c.Scatters {
			w := e.World.Clone()
			if k < c.Starts {
				w.Place(start(rng, arms))
			} else {
				w.Scatter(rng)
			}
			instruction := e.Paraphrases[rng.IntN(len(e.Paraphrases))]
			if r := record(e, w, instruction, shortTail); r != nil {
				r.cut(c.Keep, c.PictureStride)
				out = append(out, r)
			}
		}
		if m.visitor != nil {
			visited, err := m.visit(ctx, e, first, rng)
			if err != nil {
				return nil, err
			}
			out = append(out, visited...)
		}
		if i > 0 {
			continue
		}
		var shoved []*recording
		family := []*recording{first}
		for range c.Shoves {
			from := family[rng.IntN(len(family))]
			w := from.worlds[rng.IntN(len(from.worlds))].Clone()
			shove(rng, e, w)
			instruction := e.Paraphrases[rng.IntN(len(e.Paraphrases))]
			if r := record(e, w, instruction, shortTail); r != nil {
				family = append(family, r)
				shoved = append(shoved, r)
			}
		}
		// Only now: later shoves start anywhere in earlier ones.
		for _, r := range shoved {
			r.cut(2*c.Keep, c.PictureStride)
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, nil
	}
	return out, nil
}

// visit has the policy do the episode, and the expert go on from some of the states
// that it got into. Half of the time it begins somewhere on the expert's way, so that
// there are states of what comes late in a task before it does well what comes early.
func (m *maker) visit(ctx context.Context, e *sim.Episode, way *recording, rng *rand.Rand) (out []*recording, err error) {
	own := *e
	if rng.Float64() < visitsLate {
		own.World = way.worlds[rng.IntN(max(1, way.done))].Clone()
	} else {
		own.World = e.World.Clone()
		own.World.Place(start(rng, m.arms))
	}
	worlds, err := m.visitor.Visit(ctx, &own, rng.Uint64())
	if err != nil {
		return nil, fmt.Errorf("the policy: %w", err)
	}
	rng.Shuffle(len(worlds), func(i, j int) { worlds[i], worlds[j] = worlds[j], worlds[i] })
	for _, w := range worlds[:min(m.conf.Visits, len(worlds))] {
		instruction := e.Paraphrases[rng.IntN(len(e.Paraphrases))]
		if r := record(e, w, instruction, shortTail); r != nil {
			r.cut(sim.ChunkRows+m.conf.PictureStride, m.conf.PictureStride)
			out = append(out, r)
		}
	}
	return out, nil
}

// start returns where the arms are before a task: at home, or up to startNoise from it.
func start(rng *rand.Rand, arms *sim.Arms) sim.State {
	share := max(0, rng.Float64()-startsHome) / (1 - startsHome)
	q := sim.Home()
	for _, s := range []sim.Side{sim.Left, sim.Right} {
		for i, j := range arms.Chain(s).Joints {
			at := &q.Joints(s)[i]
			*at = min(max(*at+share*startNoise*rng.NormFloat64(), j.Lower), j.Upper)
		}
		g := q.Gripper(s)
		*g = min(max(*g+share*gripperNoise*rng.NormFloat64(), 0), sim.GripperOpen)
	}
	return q
}

// shove disturbs a world for a part of a second: the expert goes on, its commands
// off by a constant, sometimes with the gripper opened or closed against its
// will; now and then something on the table is moved.
func shove(rng *rand.Rand, e *sim.Episode, w *sim.World) {
	expert := e.Expert()
	scale := 0.02 * math.Exp(rng.Float64()*math.Log(15)) // 0.02 to 0.3 rad
	arm := [2]float64{1, 1}
	if rng.Float64() < 0.7 { // mostly one arm; the other often is at home
		arm[rng.IntN(2)] = 0.1
	}
	var off sim.State
	for _, s := range []sim.Side{sim.Left, sim.Right} {
		for i := range off.Joints(s) {
			off.Joints(s)[i] = scale * arm[s] * rng.NormFloat64()
		}
	}
	grip := rng.Float64()
	side := sim.Side(rng.IntN(2))
	if rng.Float64() < 0.12 {
		w.Nudge(rng.IntN(len(w.Objects)), 0.03*rng.NormFloat64(), 0.03*rng.NormFloat64())
	}
	for range 2 + rng.IntN(9) {
		q := expert.Act(w)
		for i := range q {
			q[i] += off[i]
		}
		switch {
		case grip < 0.15:
			*q.Gripper(side) = sim.GripperOpen
		case grip < 0.25:
			*q.Gripper(side) = 0
		case grip < 0.4:
			*q.Gripper(side) = sim.GripperOpen * rng.Float64()
		}
		w.Command(q)
		w.Step(sim.RowTime)
	}
}

// describe is the episode's source line.
func (r *recording) describe() string {
	return fmt.Sprintf("%s seed %d", r.episode.Task.Name, r.episode.Seed)
}
