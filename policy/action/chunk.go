package action

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// ErrChunk says that a model gave numbers of which no chunk is made.
var ErrChunk = errors.New("action chunk")

// Chunk is what the policy wants of the robot: Rows rows, 1/Rate seconds apart,
// of Dims values in robot units (rad, m, or what the manifest says).
type Chunk struct {
	// Stamp is the time of the observation that the chunk came from; row 0 is
	// meant for one period later.
	Stamp time.Time
	// Rate is the time base of the rows in Hz.
	Rate float64
	// Names are the columns, in the order of the values.
	Names []string
	// Dims is the number of columns.
	Dims int
	// Values are row after row.
	Values []float64
	// Confidence is the model's probability of each value's token, 0..1, or nil.
	Confidence []float32
}

// Rows returns the number of rows.
func (c *Chunk) Rows() int {
	if c.Dims == 0 {
		return 0
	}
	return len(c.Values) / c.Dims
}

// At returns row t of 0..Rows-1, which is part of c.
func (c *Chunk) At(t int) []float64 { return c.Values[t*c.Dims : (t+1)*c.Dims : (t+1)*c.Dims] }

// Time returns when row t is meant to be reached.
func (c *Chunk) Time(t int) time.Time {
	return c.Stamp.Add(time.Duration(float64(t+1) / c.Rate * float64(time.Second)))
}

// Validate returns an ErrChunk where a number is not finite or the lengths do not
// fit each other; such a chunk must not move an arm.
func (c *Chunk) Validate() error {
	if !(c.Rate > 0) || !finite(c.Rate) {
		return fmt.Errorf("%w: rate is %g Hz", ErrChunk, c.Rate)
	}
	if c.Dims <= 0 || len(c.Names) != c.Dims || len(c.Values) == 0 || len(c.Values)%c.Dims != 0 {
		return fmt.Errorf("%w: %d values and %d names in rows of %d", ErrChunk, len(c.Values), len(c.Names), c.Dims)
	}
	if c.Confidence != nil && len(c.Confidence) != len(c.Values) {
		return fmt.Errorf("%w: %d confidences for %d values", ErrChunk, len(c.Confidence), len(c.Values))
	}
	if i := slices.IndexFunc(c.Values, func(v float64) bool { return !finite(v) }); i >= 0 {
		return fmt.Errorf("%w: row %d of %q is %v", ErrChunk, i/c.Dims, c.Names[i%c.Dims], c.Values[i])
	}
	return nil
}
