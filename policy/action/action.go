// Package action stands between the model's tokens and the robot's units: the
// bins of the action tokens, the data set's statistics, the gripper rule, the
// robot state on its way in and the chunk on its way out.
//
// A [Codec] is made from a bundle, which it refuses where the statistics do not
// fit the manifest. The units are those of the training data (rad and m on the
// Cobot Magic); limits are not looked at here but in package control.
package action

import (
	"fmt"
	"math"
	"slices"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Codec converts for one bundle. It is safe for concurrent use.
type Codec struct {
	rows, dims   int
	rate         float64
	names        []string
	grippers     []*bundle.Gripper // nil where a column is no gripper
	bins         []Bins            // by column
	action       scale
	proprio      scale
	proprioNames []string
	start        []float64 // nil where the statistics have none
}

// New reads the statistics of b and checks them against its manifest.
func New(b *bundle.Bundle) (*Codec, error) {
	s, err := LoadStatistics(b.Path(bundle.StatisticsFile), b.Manifest.Action.UnnormKey)
	if err != nil {
		return nil, err
	}
	c, err := newCodec(&b.Manifest, s)
	if err != nil {
		return nil, fmt.Errorf("%w %s, data set %q: %w", ErrStatistics, b.Path(bundle.StatisticsFile), b.Manifest.Action.UnnormKey, err)
	}
	return c, nil
}

// Parse is [New] for the bytes of a statistics file of which no bundle is made yet.
func Parse(raw []byte, m *bundle.Manifest) (*Codec, error) {
	s, err := parseStatistics(raw, m.Action.UnnormKey)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatistics, err)
	}
	c, err := newCodec(m, s)
	if err != nil {
		return nil, fmt.Errorf("%w of data set %q: %w", ErrStatistics, m.Action.UnnormKey, err)
	}
	return c, nil
}

func newCodec(m *bundle.Manifest, s *Statistics) (*Codec, error) {
	c := &Codec{rows: m.Action.Chunk, dims: len(m.Action.Dims), rate: m.Action.Rate}
	uniform := NewBins(m.Tokens.Bins)
	for i, d := range m.Action.Dims {
		bins := uniform
		if e := m.Action.BinEdges; i < len(e) && len(e[i]) > 0 {
			bins = NewBinsOf(e[i])
		}
		c.bins = append(c.bins, bins)
		c.names = append(c.names, d.Name)
		c.grippers = append(c.grippers, d.Gripper)
	}
	var err error
	if c.action, err = s.Action.scale("action", m.Action.Normalization, c.names); err != nil {
		return nil, err
	}
	if m.Proprio == nil {
		return c, nil
	}
	for _, d := range m.Proprio.Dims {
		c.proprioNames = append(c.proprioNames, d.Name)
	}
	if s.Proprio == nil {
		return nil, fmt.Errorf("no proprio statistics, but the manifest's proprio.dims names %d", len(c.proprioNames))
	}
	if c.proprio, err = s.Proprio.scale("proprio", m.Action.Normalization, c.proprioNames); err != nil {
		return nil, err
	}
	c.start = s.Proprio.Start
	return c, s.Proprio.check(c.proprioNames)
}

// Bins returns the quantisation of a column's action tokens.
func (c *Codec) Bins(column int) Bins { return c.bins[column] }

// Chunk turns the graph's `mean` or any other rows*dims values in [-1, 1] into
// a chunk; Stamp and Confidence are the caller's to fill. A value that is not
// finite or lies outside is an error: nothing the model can say gives it.
func (c *Codec) Chunk(values []float32) (*Chunk, error) {
	const rounding = 1e-5 // of a weighted mean of centres in float32
	return c.chunk(len(values), func(i int) (float64, error) {
		v := float64(values[i])
		if !(math.Abs(v) <= 1+rounding) {
			return 0, fmt.Errorf("is %v, must be in [-1, 1]", values[i])
		}
		return v, nil
	})
}

// ChunkFromRegression is [Codec.Chunk] for the values of an L1 head. It may say
// more than the training data's bounds, as in OpenVLA-OFT, which does not clip.
func (c *Codec) ChunkFromRegression(values []float32) (*Chunk, error) {
	return c.chunk(len(values), func(i int) (float64, error) {
		if v := float64(values[i]); finite(v) {
			return v, nil
		}
		return 0, fmt.Errorf("is %v", values[i])
	})
}

// ChunkFromBins is [Codec.Chunk] for the centres of bins.
func (c *Codec) ChunkFromBins(bins []int64) (*Chunk, error) {
	return c.chunk(len(bins), func(i int) (float64, error) {
		b := c.bins[i%c.dims]
		if bins[i] < 0 || bins[i] >= int64(b.Len()) {
			return 0, fmt.Errorf("is bin %d, must be in 0..%d", bins[i], b.Len()-1)
		}
		return b.Centre(int(bins[i])), nil
	})
}

// BinOf returns the bin whose value in the given column of a chunk is nearest to v,
// in robot units and after the gripper rule: the inverse of [Codec.ChunkFromBins].
// Of the bins that a gripper rule makes one value of, it is that of the data set's own
// open or closed gripper, which is what the network was trained on; of other equals
// the lowest. A value that lies beyond what the bins say by more than half a bin is an
// error.
func (c *Codec) BinOf(column int, v float64) (int64, error) {
	b := c.bins[column]
	best, distance := 0, math.Inf(1)
	low, high := math.Inf(1), math.Inf(-1)
	for k := range b.Len() {
		said := c.robot(column, b.Centre(k))
		low, high = min(low, said), max(high, said)
		if d := math.Abs(said - v); d < distance {
			best, distance = k, d
		}
	}
	half := 0.0
	if span := b.Centre(b.Len()-1) - b.Centre(0); span > 0 {
		half = (high - low) * b.Width(best) / span / 2
	}
	if !(distance <= half*(1+1e-9)) && !(v >= low && v <= high) {
		return 0, fmt.Errorf("%s is %g, the bins say %.4g to %.4g", c.names[column], v, low, high)
	}
	if c.grippers[column] != nil {
		best = c.trained(column, best)
	}
	return int64(best), nil
}

// trained returns which of the bins that say the same as bin k is that of the data
// set's least or largest value, or k where none or both are.
func (c *Codec) trained(column, k int) int {
	b := c.bins[column]
	said := c.robot(column, b.Centre(k))
	least, most := b.Of(c.action.model(column, c.action.low[column])), b.Of(c.action.model(column, c.action.high[column]))
	same := func(bin int) bool { return c.robot(column, b.Centre(bin)) == said }
	switch {
	case same(least) && !same(most):
		return least
	case same(most) && !same(least):
		return most
	}
	return k
}

// robot turns a normalised value of a column into robot units.
func (c *Codec) robot(column int, v float64) float64 {
	v = c.action.robot(column, v)
	if g := c.grippers[column]; g != nil {
		v = opening(g, v)
	}
	return v
}

func (c *Codec) chunk(n int, value func(i int) (float64, error)) (*Chunk, error) {
	if n != c.rows*c.dims {
		return nil, fmt.Errorf("action chunk of %d values, the model's has %d rows of %d", n, c.rows, c.dims)
	}
	out := &Chunk{Rate: c.rate, Names: c.names, Dims: c.dims, Values: make([]float64, n)}
	for i := range n {
		v, err := value(i)
		if err != nil {
			return nil, fmt.Errorf("%w: row %d of %q %w", ErrChunk, i/c.dims, c.names[i%c.dims], err)
		}
		out.Values[i] = c.robot(i%c.dims, v)
	}
	return out, nil
}

// Encode appends to dst the bin of each value of whole rows in the data set's
// units, as train/ tokenises them. (OpenVLA-OFT does it alike but for dimensions that
// never change, which are its middle bin, here bin 0.) It is the inverse of
// [Codec.ChunkFromBins] to half a bin, gripper columns aside: those are taken as
// the data set has them, before the gripper rule.
func (c *Codec) Encode(values []float64, dst []int64) ([]int64, error) {
	if len(values)%c.dims != 0 {
		return dst, fmt.Errorf("%d action values are no whole rows of %d", len(values), c.dims)
	}
	for i, v := range values {
		if !finite(v) {
			return dst, fmt.Errorf("action %q in row %d is %v", c.names[i%c.dims], i/c.dims, v)
		}
		dst = append(dst, int64(c.bins[i%c.dims].Of(c.action.model(i%c.dims, v))))
	}
	return dst, nil
}

// Span returns how much of the data set's units the range -1 to 1 of a column is.
func (c *Codec) Span(column int) float64 {
	return c.action.robot(column, 1) - c.action.robot(column, -1)
}

// Normalised appends to dst whole rows of values in the data set's units, scaled to
// [-1, 1] and clipped to it, as [Codec.Encode] sees them.
func (c *Codec) Normalised(values, dst []float64) ([]float64, error) {
	if len(values)%c.dims != 0 {
		return dst, fmt.Errorf("%d action values are no whole rows of %d", len(values), c.dims)
	}
	for i, v := range values {
		if !finite(v) {
			return dst, fmt.Errorf("action %q in row %d is %v", c.names[i%c.dims], i/c.dims, v)
		}
		dst = append(dst, c.action.model(i%c.dims, v))
	}
	return dst, nil
}

// StartPose returns the robot state, in the manifest's order and robot units, in which
// a task is to be begun: where the demonstrations began, or, where the statistics do
// not tell, the middle between the bounds that states are normalised by, a pose amid
// those of the training data. It is empty where the model takes no state.
func (c *Codec) StartPose() []float64 {
	if len(c.start) > 0 {
		return slices.Clone(c.start)
	}
	middle := make([]float64, len(c.proprioNames))
	for i := range middle {
		middle[i] = c.proprio.robot(i, 0)
	}
	return middle
}

// NormaliseProprio appends to dst the robot state in the manifest's order,
// scaled to [-1, 1] and clipped to it.
func (c *Codec) NormaliseProprio(state []float64, dst []float32) ([]float32, error) {
	if len(state) != len(c.proprioNames) {
		return dst, fmt.Errorf("robot state has %d values, the model takes %d", len(state), len(c.proprioNames))
	}
	for i, v := range state {
		if !finite(v) {
			return dst, fmt.Errorf("robot state %q is %v", c.proprioNames[i], v)
		}
		dst = append(dst, float32(c.proprio.model(i, v)))
	}
	return dst, nil
}
