package dataset

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// Cuts say where episodes begin and end.
type Cuts struct {
	// Gap is how long a run of ticks without an observation may be that is bridged with
	// the observation before it; a longer one ends the episode. s, 0 bridges nothing.
	Gap time.Duration
	// Trim, where it is not 0, drops what lies before the first and behind the last
	// motion of an episode: as long as no action differs by more than so many rad, and a
	// tenth of it in m, from the episode's first, or last. One frame of rest is kept.
	Trim float64
	// Shortest is the length below which an episode is dropped.
	Shortest time.Duration
	// DropFailures drops episodes that were marked as failures.
	DropFailures bool
}

// Validate names the field that is wrong.
func (c Cuts) Validate() error {
	switch {
	case c.Gap < 0:
		return fmt.Errorf("gap is %v, must be at least 0", c.Gap)
	case !(c.Trim >= 0 && c.Trim <= 1):
		return fmt.Errorf("trim is %g rad, must be 0 to 1", c.Trim)
	case c.Shortest < 0:
		return fmt.Errorf("shortest is %v, must be at least 0", c.Shortest)
	}
	return nil
}

// Mark is an operator's word on the episode that is being recorded.
type Mark string

// Marks. Frames behind the end of a marked episode belong to none, until the next
// Start or another instruction. Where gaps or pauses have cut what is marked in
// pieces, an episode each, a mark says it of all of them.
const (
	Start   Mark = "start"   // begins an episode, and ends the one before
	Success Mark = "success" // ends it, as a success
	Failure Mark = "failure" // ends it, as a failure
	Discard Mark = "discard" // ends it, and drops it
)

// Reasons why frames are dropped, besides those that [Cutter.Tick] is told.
const (
	DroppedOutside  = "outside the marked episodes"
	DroppedStill    = "standing still before or after an episode's motion"
	DroppedShort    = "in an episode shorter than --shortest"
	DroppedFailure  = "in an episode marked as failure"
	DroppedDiscards = "in an episode marked to discard"
)

// stillness is the motion that counts as none in Outcome.Still, as Cuts.Trim.
const stillness = 0.01

// Outcome counts what became of the ticks.
type Outcome struct {
	// Episodes and Frames were written.
	Episodes, Frames int
	// Dropped are frames by reason.
	Dropped map[string]int
	// Bridged frames of them, not counting Trim, have the observation of one before.
	Bridged int
	// Still frames were written though nothing moved before them in their episode, or
	// after them.
	Still int
	// Stray marks came where no episode was open.
	Stray int
}

// Cutter writes what comes tick by tick to a Writer, as episodes. A new instruction
// begins a new one, and so do marks and longer gaps. Of the open episode it keeps the
// actions in memory.
type Cutter struct {
	w         *Writer
	cuts      Cuts
	tolerance []float64 // of each action, for Trim 1
	out       Outcome

	source  string
	outside bool    // until the next Start or another instruction
	part    Outcome // of the pieces since, of which the next mark says how they went
	open    bool    // with a frame at least, which may not be written yet
	current Episode
	// The newest frame: of it the next ones are bridged, and it is the rest before the
	// first motion. It is written, unless the episode has not begun to move.
	images  []byte
	proprio []float64
	bridged int // frames of the open episode
	waiting int // frames before the motion, none of them written; the newest one above
	actions [][]float64
	held    [][]float64 // actions of the ticks without an observation since
	lost    []string    // why each of those
}

// NewCutter returns a Cutter that writes to w, which stays the caller's.
func NewCutter(w *Writer, cuts Cuts) (*Cutter, error) {
	if err := cuts.Validate(); err != nil {
		return nil, err
	}
	c := &Cutter{w: w, cuts: cuts, out: Outcome{Dropped: map[string]int{}}}
	for _, d := range w.info.Action {
		tolerance := 1.0
		if d.Unit == "m" {
			tolerance = 0.1
		}
		c.tolerance = append(c.tolerance, tolerance)
	}
	return c, nil
}

// Outcome returns the counts so far.
func (c *Cutter) Outcome() Outcome {
	out := c.out
	out.add(c.part)
	out.Dropped = map[string]int{}
	for why, n := range c.out.Dropped {
		out.Dropped[why] = n
	}
	return out
}

// add counts what was written.
func (o *Outcome) add(more Outcome) {
	o.Episodes += more.Episodes
	o.Frames += more.Frames
	o.Bridged += more.Bridged
	o.Still += more.Still
}

// Begin goes on with another source, after an End. Where it has marks, nothing belongs
// to an episode before the first Start, or a second instruction.
func (c *Cutter) Begin(source string, marked bool) error {
	c.source, c.outside, c.current = source, marked, Episode{}
	return c.settle(nil)
}

// Frame takes the next tick. Nothing of it is kept.
func (c *Cutter) Frame(images []byte, proprio, action []float64, instruction string) error {
	if instruction != c.current.Instruction {
		if err := c.finish(nil); err != nil {
			return err
		}
		// Of a marked source the first instruction begins nothing where a Start does; one
		// that follows another does.
		if c.current.Instruction != "" {
			c.outside = false
		}
		c.current.Instruction = instruction
	}
	if c.outside {
		c.out.Dropped[DroppedOutside]++
		return nil
	}
	if err := c.bridge(); err != nil {
		return err
	}
	if !c.open {
		if err := c.w.BeginEpisode(); err != nil {
			return err
		}
		c.open, c.bridged, c.waiting, c.actions = true, 0, 0, c.actions[:0]
	}
	return c.add(images, proprio, action)
}

// bridge writes the ticks without an observation.
func (c *Cutter) bridge() error {
	held := c.held
	c.held, c.lost = nil, nil
	for _, action := range held {
		c.bridged++
		if err := c.add(c.images, c.proprio, action); err != nil {
			return err
		}
	}
	return nil
}

// add writes a frame of the open episode, or keeps it while nothing has moved.
func (c *Cutter) add(images []byte, proprio, action []float64) error {
	c.actions = append(c.actions, slices.Clone(action))
	n := len(c.actions)
	keep := func() {
		c.images = append(c.images[:0], images...)
		c.proprio = append(c.proprio[:0], proprio...)
	}
	if c.cuts.Trim > 0 && c.waiting == n-1 {
		if n == 1 || !c.moved(c.cuts.Trim, action, c.actions[0]) {
			c.waiting++
			keep()
			return nil
		}
		// The last frame at rest comes first.
		if err := c.w.Frame(c.images, c.proprio, c.actions[n-2]); err != nil {
			return err
		}
	}
	keep()
	return c.w.Frame(images, proprio, action)
}

// moved reports whether an action differs from another by more than trim.
func (c *Cutter) moved(trim float64, a, b []float64) bool {
	for k := range a {
		if math.Abs(a[k]-b[k]) > trim*c.tolerance[k] {
			return true
		}
	}
	return false
}

// Missing takes a tick without an observation, and why. action is empty where that is
// not known either.
func (c *Cutter) Missing(why string, action []float64) error {
	if c.open && len(action) > 0 && len(c.held) < int(c.cuts.Gap.Seconds()*c.w.info.Rate+1e-9) {
		c.held, c.lost = append(c.held, slices.Clone(action)), append(c.lost, why)
		return nil
	}
	if err := c.End(); err != nil {
		return err
	}
	if c.outside {
		why = DroppedOutside
	}
	c.out.Dropped[why]++
	return nil
}

// Mark takes a mark.
func (c *Cutter) Mark(m Mark) error {
	switch m {
	case Start:
		c.outside = false
		return c.finish(nil)
	case Success, Failure, Discard:
	default:
		return fmt.Errorf("mark %q is none of %s, %s, %s and %s", m, Start, Success, Failure, Discard)
	}
	c.outside = true
	if !c.open && c.part.Episodes == 0 {
		c.out.Stray++
	}
	switch {
	case m == Discard:
		return c.discard(DroppedDiscards)
	case m == Failure && c.cuts.DropFailures:
		return c.discard(DroppedFailure)
	}
	success := m == Success
	return c.finish(&success)
}

// finish ends the open episode, the last piece of what was marked.
func (c *Cutter) finish(success *bool) error {
	if err := c.End(); err != nil {
		return err
	}
	return c.settle(success)
}

// settle keeps the pieces of what was marked.
func (c *Cutter) settle(success *bool) error {
	c.out.add(c.part)
	c.part = Outcome{}
	return c.w.SettlePieces(success)
}

// discard forgets the open episode and the pieces of what was marked.
func (c *Cutter) discard(why string) error {
	if c.open {
		if err := c.drop(why); err != nil {
			return err
		}
	}
	frames, err := c.w.DiscardPieces()
	if frames > 0 {
		c.out.Dropped[why] += frames
	}
	c.part = Outcome{}
	return err
}

// End ends the open episode, if any: the time or the source does not go on.
func (c *Cutter) End() error {
	c.unhold()
	if !c.open {
		return nil
	}
	n := len(c.actions)
	first, end := 0, n
	if c.cuts.Trim > 0 {
		if c.waiting == n {
			return c.drop(DroppedStill)
		}
		first, end = c.waiting-1, n-c.still(c.cuts.Trim, true)
		c.out.Dropped[DroppedStill] += n - (end - first)
		if err := c.w.TruncateEpisode(end - first); err != nil {
			return err
		}
	}
	if float64(end-first) < c.cuts.Shortest.Seconds()*c.w.info.Rate-1e-9 {
		c.actions = c.actions[first:end]
		return c.drop(DroppedShort)
	}
	c.actions = c.actions[first:end]
	c.part.Still += min(c.still(stillness, false)+c.still(stillness, true), len(c.actions))
	c.open = false
	episode := c.current
	episode.Source = c.source
	c.part.Episodes++
	c.part.Frames += end - first
	c.part.Bridged += c.bridged
	return c.w.EndPiece(episode)
}

// unhold drops the ticks without an observation that no frame came after.
func (c *Cutter) unhold() {
	for _, why := range c.lost {
		c.out.Dropped[why]++
	}
	c.held, c.lost = nil, nil
}

// still counts the frames before the first motion, or after the last one, without the
// one frame of rest next to it.
func (c *Cutter) still(trim float64, after bool) int {
	n := len(c.actions)
	for i := range n {
		a, rest := c.actions[i], c.actions[0]
		if after {
			a, rest = c.actions[n-1-i], c.actions[n-1]
		}
		if c.moved(trim, a, rest) {
			return max(i-1, 0)
		}
	}
	return n
}

// drop forgets the open episode.
func (c *Cutter) drop(why string) error {
	c.unhold()
	c.out.Dropped[why] += len(c.actions)
	c.open = false
	return c.w.DiscardEpisode()
}
