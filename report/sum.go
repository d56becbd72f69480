package report

import (
	"math"
	"time"
)

// Report sums up. The judge must not be used after it.
func (j *Judge) Report(run Run, conditions []Condition) *Report {
	r := &Report{
		Version: Version, Setup: j.setup, Chunks: j.chunks, Commands: run.Commands, Failed: run.Failed, Superseded: run.Superseded, Ended: run.Ended,
		Instructions: j.instructions, Latency: run.Stages, Counts: run.Counts, Decoding: j.decoding.decoding(),
		Events: j.events, EventsLeft: j.eventsLeft + int(run.EventsLost),
		Moments: j.moments.seen, MomentsShown: len(j.moments.kept),
	}
	for i := range r.Counts {
		c := &r.Counts[i]
		c.Share = unknown()
		if c.Kind == Limit && run.Commands > 0 {
			c.Share = Figure(float64(c.Count) / float64(run.Commands))
		}
	}
	n := len(j.setup.Dims)
	for d, dim := range j.setup.Dims {
		g := Joint{Name: dim.Name, Arm: dim.Arm, Unit: dim.Unit, Direction: j.directions[d].value(), Seams: j.seams[d].seams()}
		var sum errorSum
		for row := range j.setup.Horizon {
			e := &j.errors[row*n+d]
			sum.merge(*e)
			g.ByStep = append(g.ByStep, e.errors().MAE)
		}
		g.Errors = sum.errors()
		q := j.demands[d]
		g.Beyond, g.Furthest, g.Fast, g.Fastest = q.beyond, Figure(q.furthest), q.fast, Figure(q.fastest)
		r.Joints = append(r.Joints, g)
	}
	for row := range j.setup.Horizon {
		var sum errorSum
		for d, dim := range j.setup.Dims {
			if dim.turns() {
				sum.merge(j.errors[row*n+d])
			}
		}
		r.Steps = append(r.Steps, sum.errors())
	}
	for _, g := range j.grippers {
		if j.previous != nil {
			j.execute(g, j.previous, nil)
		}
		r.Grippers = append(r.Grippers, g.gripper(j.setup.Dims[g.dim].Name, j.setup.Recorded))
	}
	r.fill(j)
	for _, c := range conditions {
		r.Conditions = append(r.Conditions, c.hold(r))
	}
	r.judge(j)
	r.series = j.gather()
	return r
}

// series is what the page draws besides the report.
type series struct {
	Chunks   []drawn   `json:"chunks"`
	Seen     int       `json:"chunks_seen"`
	Recorded curves    `json:"recorded"`
	Moments  []picture `json:"moments"`
}

// drawn is a chunk on the time line.
type drawn struct {
	T           Figure     `json:"t"`
	Values      [][]Figure `json:"v"` // by dimension
	Error       Figure     `json:"e"`
	Jump        Figure     `json:"j"`
	Instruction int        `json:"i"`
}

// curves are the recorded actions, evenly in time.
type curves struct {
	Begin  Figure     `json:"t"`
	Step   Figure     `json:"step"`
	Values [][]Figure `json:"v"`
}

// picture is what the cameras saw at a moment.
type picture struct {
	T        Figure    `json:"t"`
	Pictures []Picture `json:"pictures"`
	Rounds   *Map      `json:"rounds"`
}

func (j *Judge) gather() series {
	n := len(j.setup.Dims)
	s := series{Seen: j.shown.seen}
	for _, c := range j.shown.kept {
		d := drawn{T: c.t, Error: Figure(c.err), Jump: Figure(c.jump), Instruction: c.instruction, Values: make([][]Figure, n)}
		for i, v := range c.values {
			d.Values[i%n] = append(d.Values[i%n], drawable(v))
		}
		s.Chunks = append(s.Chunks, d)
	}
	for _, m := range j.moments.kept {
		s.Moments = append(s.Moments, picture{m.t, m.pictures, m.rounds})
	}
	span := j.setup.End.Sub(j.setup.Begin)
	if !j.setup.Recorded || span <= 0 {
		return s
	}
	// No finer than a fourth of a row, which would show nothing more.
	step := max(span/pointsShown, time.Duration(float64(time.Second)/j.setup.ActionRate/4))
	s.Recorded = curves{Step: Figure(step.Seconds()), Values: make([][]Figure, n)}
	for d := range j.setup.Dims {
		for at := j.setup.Begin; !at.After(j.setup.End); at = at.Add(step) {
			s.Recorded.Values[d] = append(s.Recorded.Values[d], drawable(j.recorded(d, at)))
		}
	}
	return s
}

// drawable is a number as precise as a curve shows it.
func drawable(v float64) Figure { return Figure(math.Round(v*1e4) / 1e4) }

// MomentsLeft is how many chunks have no pictures in the report's file.
func (r *Report) MomentsLeft() int { return r.Moments - r.MomentsShown }
