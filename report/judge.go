package report

import (
	"math"
	"time"
)

// flickerTime is how soon a gripper's change must be taken back to be a flicker.
const flickerTime = 500 * time.Millisecond

// eventsKept bounds the list of events.
const eventsKept = 200

// Judge gathers what a replay gives. Make it with New; it is for one goroutine.
type Judge struct {
	setup   Setup
	actions Actions

	chunks       int
	instructions []Instruction
	errors       []errorSum // by row, then dimension
	directions   []correlation
	demands      []demand
	seams        []seamSum
	largest      []float64 // the largest jump of each seam over the joints that turn
	grippers     []*gripperSum
	previous     *Chunk
	decoding     decodingSum
	events       []Event
	eventsLeft   int
	shown        thinned[*shown]
	moments      thinned[*moment]
}

// New returns a judge. actions is not asked where setup.Recorded is false.
func New(setup Setup, actions Actions) *Judge {
	n := len(setup.Dims)
	j := &Judge{
		setup: setup, actions: actions,
		errors: make([]errorSum, setup.Horizon*n), directions: make([]correlation, n),
		demands: make([]demand, n), seams: make([]seamSum, n),
		decoding: decodingSum{dims: n},
		shown:    thinned[*shown]{most: chunksShown, merge: mergeShown},
		moments:  thinned[*moment]{most: momentsShown, size: (*moment).bytes, room: picturesRoom},
	}
	for i, d := range setup.Dims {
		if d.Gripper {
			j.grippers = append(j.grippers, &gripperSum{dim: i, threshold: d.Threshold})
		}
	}
	return j
}

// at is a time as the report tells it.
func (j *Judge) at(t time.Time) Figure { return Figure(t.Sub(j.setup.Begin).Seconds()) }

// due is when a chunk's row is.
func (j *Judge) due(c *Chunk, row int) time.Time {
	return c.Stamp.Add(time.Duration(float64(row+1) / j.setup.ActionRate * float64(time.Second)))
}

// recorded is a recorded action, NaN where there is none.
func (j *Judge) recorded(dim int, at time.Time) float64 {
	if j.setup.Recorded {
		if v, ok := j.actions(dim, at); ok {
			return v
		}
	}
	return math.NaN()
}

// Wants tells whether pictures of the next chunk would be kept, so that others need
// not be made.
func (j *Judge) Wants() bool { return j.moments.wants() }

// Add takes the next chunk, in the order they were made. The judge keeps it.
func (j *Judge) Add(c Chunk) {
	n := len(j.setup.Dims)
	if len(c.Values) != j.setup.Horizon*n {
		return // no chunk of this policy
	}
	j.chunks++
	if k := len(j.instructions); k == 0 || j.instructions[k-1].Text != c.Instruction {
		j.instructions = append(j.instructions, Instruction{j.at(c.Stamp), c.Instruction})
	}
	mean := j.compare(&c)
	jump := math.NaN()
	if j.previous != nil {
		jump = j.join(j.previous, &c)
		for _, g := range j.grippers {
			j.execute(g, j.previous, &c)
		}
	}
	var rounds *Map
	if c.Trace != nil {
		rounds = j.decoding.add(c.Trace)
	}
	j.shown.add(&shown{t: j.at(c.Stamp), values: c.Values, err: mean, jump: jump, instruction: len(j.instructions) - 1})
	m := &moment{t: j.at(c.Stamp), rounds: rounds}
	for _, p := range c.Pictures {
		p.At = j.at(p.Stamp)
		m.pictures = append(m.pictures, p)
	}
	j.moments.add(m)
	c.Pictures, c.Trace = nil, nil
	j.previous = &c
}

// Tell takes an event.
func (j *Judge) Tell(e Event) {
	if len(j.events) == eventsKept {
		j.eventsLeft++
		return
	}
	e.At = j.at(e.Time)
	j.events = append(j.events, e)
}

// compare adds a chunk's errors, and what it demands of the arms. It returns the mean
// absolute error over the joints that turn.
func (j *Judge) compare(c *Chunk) float64 {
	n := len(j.setup.Dims)
	var all errorSum
	for d, dim := range j.setup.Dims {
		hold := j.recorded(d, c.Stamp)
		var gripper *gripperSum
		for _, g := range j.grippers {
			if g.dim == d {
				gripper = g
			}
		}
		for row := range j.setup.Horizon {
			v, want := c.Values[row*n+d], j.recorded(d, j.due(c, row))
			j.demands[d].row(v, dim)
			switch {
			case dim.speeds():
				j.demands[d].step(math.Abs(v), dim)
			case dim.Delta && !dim.Gripper && (row == 0 || !dim.FromStart):
				j.demands[d].step(math.Abs(v)*j.setup.ActionRate, dim)
			case row > 0:
				j.demands[d].step(math.Abs(v-c.Values[(row-1)*n+d])*j.setup.ActionRate, dim)
			}
			if math.IsNaN(want) {
				continue
			}
			var e errorSum
			e.add(v, want, hold, dim.Range)
			j.errors[row*n+d].merge(e)
			if dim.turns() {
				all.merge(e)
			}
			if !math.IsNaN(hold) {
				j.directions[d].add(v-hold, want-hold)
			}
			if gripper != nil {
				gripper.confusion[state(v, dim.Threshold)][state(want, dim.Threshold)]++
			}
		}
	}
	return float64(all.errors().MAE)
}

// errorSum adds up errors.
type errorSum struct {
	count            int
	absolute, square float64
	signed, max      float64
	percent          float64
	percents, holds  int
	hold             float64
}

func (s *errorSum) add(predicted, recorded, hold, span float64) {
	e := predicted - recorded
	s.merge(errorSum{count: 1, absolute: math.Abs(e), square: e * e, signed: e, max: math.Abs(e)})
	if span > 0 {
		s.percents++
		s.percent += 100 * math.Abs(e) / span
	}
	if !math.IsNaN(hold) {
		s.holds++
		s.hold += math.Abs(hold - recorded)
	}
}

func (s *errorSum) merge(o errorSum) {
	s.count += o.count
	s.absolute += o.absolute
	s.square += o.square
	s.signed += o.signed
	s.max = max(s.max, o.max)
	s.percent += o.percent
	s.percents += o.percents
	s.holds += o.holds
	s.hold += o.hold
}

func (s *errorSum) errors() Errors {
	e := Errors{Count: s.count, MAE: unknown(), RMSE: unknown(), Max: unknown(), Bias: unknown(), Percent: unknown(), Hold: unknown()}
	if s.count > 0 {
		n := float64(s.count)
		e.MAE, e.RMSE, e.Max, e.Bias = Figure(s.absolute/n), Figure(math.Sqrt(s.square/n)), Figure(s.max), Figure(s.signed/n)
	}
	if s.percents > 0 {
		e.Percent = Figure(s.percent / float64(s.percents))
	}
	if s.holds > 0 {
		e.Hold = Figure(s.hold / float64(s.holds))
	}
	return e
}

// correlation is Pearson's, of pairs.
type correlation struct{ n, x, y, xx, yy, xy float64 }

func (c *correlation) add(x, y float64) {
	c.n++
	c.x += x
	c.y += y
	c.xx += x * x
	c.yy += y * y
	c.xy += x * y
}

// stillness is a standard deviation of motions, rad or m, below which they have no
// direction that would mean anything.
const stillness = 1e-3

func (c *correlation) value() Figure {
	if c.n < 2 {
		return unknown()
	}
	vx, vy := c.xx/c.n-c.x/c.n*c.x/c.n, c.yy/c.n-c.y/c.n*c.y/c.n
	if !(vx > stillness*stillness) || !(vy > stillness*stillness) {
		return unknown()
	}
	return Figure((c.xy/c.n - c.x/c.n*c.y/c.n) / math.Sqrt(vx*vy))
}

// demand is what chunks ask of a joint beyond its limits.
type demand struct {
	beyond, fast      int
	furthest, fastest float64
}

func (d *demand) row(v float64, dim Dim) {
	if !(dim.Upper > dim.Lower) {
		return
	}
	// Of a target at the limit itself rounding may make one beyond it.
	const rounding = 1e-9
	if far := max(dim.Lower-v, v-dim.Upper); far > rounding {
		d.beyond++
		d.furthest = max(d.furthest, far)
	}
}

func (d *demand) step(speed float64, dim Dim) {
	d.fastest = max(d.fastest, speed)
	if dim.Velocity > 0 && speed > dim.Velocity*(1+1e-9) {
		d.fast++
	}
}
