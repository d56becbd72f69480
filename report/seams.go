package report

import (
	"math"
	"time"
)

// seamSum adds up where chunks follow each other, of one dimension.
type seamSum struct {
	count, overlaps int
	jump, overlap   float64
	max             float64
	at              Figure
}

// join adds the seam between two consecutive chunks, and returns its largest jump over
// the joints that turn, NaN without any. A gap of more than a chunk is no seam: the
// arms came to rest there.
func (j *Judge) join(old, next *Chunk) float64 {
	n, last := len(j.setup.Dims), j.setup.Horizon-1
	largest := math.NaN()
	first := j.due(next, 0)
	if first.Sub(j.due(old, last)) > j.due(old, last).Sub(old.Stamp) || next.Stamp.Before(old.Stamp) {
		return largest
	}
	for d, dim := range j.setup.Dims {
		s := &j.seams[d]
		sum, overlap := 0.0, 0
		for row := range j.setup.Horizon {
			was, within := j.valueAt(old, d, j.due(next, row))
			far := math.Abs(next.Values[row*n+d] - was)
			if row == 0 {
				s.count++
				s.jump += far
				if far > s.max || s.count == 1 {
					s.max, s.at = far, j.at(first)
				}
				if dim.turns() && !(far <= largest) {
					largest = far
				}
			}
			if within {
				sum, overlap = sum+far, overlap+1
			}
		}
		if overlap > 0 {
			s.overlaps++
			s.overlap += sum / float64(overlap)
		}
	}
	if !math.IsNaN(largest) {
		j.largest = append(j.largest, largest)
	}
	return largest
}

// valueAt is what a chunk says of a dimension at a time, evenly between its rows, its first
// row before that and its last one behind, where within is false.
func (j *Judge) valueAt(c *Chunk, dim int, at time.Time) (v float64, within bool) {
	n, last := len(j.setup.Dims), j.setup.Horizon-1
	x := at.Sub(c.Stamp).Seconds()*j.setup.ActionRate - 1 // in rows
	// Times are whole nanoseconds, rows are not.
	const rounding = 1e-6
	switch {
	case x <= 0:
		return c.Values[dim], x >= -rounding
	case x >= float64(last):
		return c.Values[last*n+dim], x <= float64(last)+rounding
	}
	k := int(x)
	share := x - float64(k)
	return (1-share)*c.Values[k*n+dim] + share*c.Values[(k+1)*n+dim], true
}

func (s *seamSum) seams() Seams {
	r := Seams{Count: s.count, Jump: unknown(), MaxJump: unknown(), MaxAt: unknown(), Overlap: unknown()}
	if s.count > 0 {
		r.Jump, r.MaxJump, r.MaxAt = Figure(s.jump/float64(s.count)), Figure(s.max), s.at
	}
	if s.overlaps > 0 {
		r.Overlap = Figure(s.overlap / float64(s.overlaps))
	}
	return r
}

// gripperSum adds up one gripper's.
type gripperSum struct {
	dim       int
	threshold float64
	confusion [2][2]int

	predicted, was switches
}

// state is 1 for open.
func state(v, threshold float64) int {
	if v > threshold {
		return 1
	}
	return 0
}

// switches follows a gripper between open and closed.
type switches struct {
	begun            bool
	state            int
	changed          time.Time // last; zero before the first
	changes, flicker int
}

func (s *switches) see(state int, at time.Time) {
	if s.begun && state != s.state {
		if !s.changed.IsZero() && at.Sub(s.changed) <= flickerTime {
			s.flicker++
		}
		s.changes++
		s.changed = at
	}
	s.begun, s.state = true, state
}

// execute follows the rows of a chunk that are due until the next one was observed, at
// least its first: what would be executed if inference took no time.
func (j *Judge) execute(g *gripperSum, c, next *Chunk) {
	n := len(j.setup.Dims)
	for row := range j.setup.Horizon {
		due := j.due(c, row)
		if row > 0 && next != nil && due.After(next.Stamp) {
			return
		}
		g.predicted.see(state(c.Values[row*n+g.dim], g.threshold), due)
		if v := j.recorded(g.dim, due); !math.IsNaN(v) {
			g.was.see(state(v, g.threshold), due)
		}
	}
}

func (g *gripperSum) gripper(name string, recorded bool) Gripper {
	r := Gripper{
		Name: name, Threshold: g.threshold, Confusion: g.confusion, Accuracy: unknown(),
		Changes: g.predicted.changes, Flicker: g.predicted.flicker,
	}
	right := g.confusion[0][0] + g.confusion[1][1]
	if all := right + g.confusion[0][1] + g.confusion[1][0]; all > 0 {
		r.Accuracy = Figure(float64(right) / float64(all))
	}
	if recorded && g.was.begun {
		r.RecordedChanges = &g.was.changes
	}
	return r
}
