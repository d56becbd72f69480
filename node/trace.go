package node

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/decode"
)

// ErrNoRounds is what ReadTrace returns for a chunk that has no rounds to show.
var ErrNoRounds = errors.New("no token was decoded in rounds: the chunk comes out of an L1 head, or was decoded from left to right (decode.preset autoregressive)")

// ErrNotDecoded says that a policy has no tokens at all.
var ErrNotDecoded = errors.New("the policy has an L1 head, which gives a chunk's values in one pass: no token was decoded in rounds")

// ErrTrace is what every other error of ReadTrace is.
var ErrTrace = errors.New("message is no decoding trace")

// The first three labels of a trace's layout. The last one is the names of the
// action dimensions, with commas between.
const (
	traceQuantity = "bin,confidence"
	traceRound    = "round"
	traceRow      = "row"
)

// TraceMessage is a chunk's trace as a standard message. Its dimensions are, from
// the outermost: the quantity (0 the bin, -1 where masked; 1 the confidence), the
// state (0 before the first round, r after the r-th), the chunk's row, and its
// column; the labels of the layout say so and name the columns. A nil trace, of
// an L1 head or a chunk decoded from left to right, has no states.
func TraceMessage(names []string, rows int, t *decode.Trace) *msgs.Float64MultiArray {
	m := &msgs.Float64MultiArray{}
	states := 0
	if t != nil {
		states = t.Rounds() + 1
		for _, bin := range t.Bins {
			m.Data = append(m.Data, float64(bin))
		}
		for _, c := range t.Confidence {
			m.Data = append(m.Data, float64(c))
		}
	}
	sizes := []int{2, states, rows, len(names)}
	stride := 1
	m.Layout.Dim = make([]msgs.MultiArrayDimension, len(sizes))
	for i, label := range []string{traceQuantity, traceRound, traceRow, strings.Join(names, ",")} {
		m.Layout.Dim[i] = msgs.MultiArrayDimension{Label: label, Size: uint32(sizes[i])}
	}
	for i := len(sizes) - 1; i >= 0; i-- {
		stride *= sizes[i]
		m.Layout.Dim[i].Stride = uint32(stride)
	}
	return m
}

// ReadTrace is the inverse of TraceMessage: the names of the chunk's columns, and
// a trace that holds (decode.Trace.Validate) and whose positions are whole rows of
// them. Errors are ErrNoRounds or ErrTrace with what is wrong.
func ReadTrace(m *msgs.Float64MultiArray) (names []string, t *decode.Trace, err error) {
	wrong := func(format string, args ...any) ([]string, *decode.Trace, error) {
		return nil, nil, fmt.Errorf("%w: %s", ErrTrace, fmt.Sprintf(format, args...))
	}
	d := m.Layout.Dim
	if len(d) != 4 || d[0].Label != traceQuantity || d[1].Label != traceRound || d[2].Label != traceRow {
		return wrong("its dimensions are not %s, %s, %s and the names of the action dimensions", traceQuantity, traceRound, traceRow)
	}
	names = strings.Split(d[3].Label, ",")
	if d[0].Size != 2 || int(d[3].Size) != len(names) || d[2].Size < 1 || m.Layout.DataOffset != 0 {
		return wrong("its layout of %d x %d x %d x %d values with offset %d does not fit its %d names", d[0].Size, d[1].Size, d[2].Size, d[3].Size, m.Layout.DataOffset, len(names))
	}
	if d[1].Size == 0 && len(m.Data) == 0 {
		return nil, nil, ErrNoRounds
	}
	// Sizes are compared by division: their product may not fit any integer.
	half := len(m.Data) / 2
	positions := uint64(d[2].Size) * uint64(d[3].Size)
	if len(m.Data)%2 != 0 || uint64(half)%positions != 0 || uint64(half)/positions != uint64(d[1].Size) {
		return wrong("it has %d values, its layout says %d x %d x %d x %d", len(m.Data), d[0].Size, d[1].Size, d[2].Size, d[3].Size)
	}
	t = &decode.Trace{Positions: int(positions), Bins: make([]int64, half), Confidence: make([]float32, half)}
	for i, v := range m.Data[:half] {
		t.Bins[i] = int64(v)
		// Also refuses NaN, whose conversion could be anything.
		if float64(t.Bins[i]) != v {
			return wrong("%g is no bin", v)
		}
	}
	for i, v := range m.Data[half:] {
		t.Confidence[i] = float32(v)
	}
	if err := t.Validate(); err != nil {
		return wrong("%v", err)
	}
	return names, t, nil
}
