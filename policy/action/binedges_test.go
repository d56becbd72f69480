package action

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/policy/decode"
)

// drawEdges draws the edges of k bins.
func drawEdges(t *rapid.T, k int) []float64 {
	widths := rapid.SliceOfN(rapid.Float64Range(0.01, 1), k, k).Draw(t, "widths")
	edges, total := []float64{-1}, 0.0
	for _, w := range widths {
		total += w
	}
	sum := 0.0
	for _, w := range widths[1:] {
		sum += w
		edges = append(edges, -1+2*sum/total)
	}
	return append(edges, 1)
}

// Whatever the bins, a value comes back to within half its own bin, a bin comes
// back as itself, also by BinOf, and the decoder's numbers for the bins are the
// codec's.
func TestBinsOfOnesOwnComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := manifest()
		m.Tokens.Bins = rapid.IntRange(2, 256).Draw(t, "K")
		k := m.Tokens.Bins
		m.Action.BinEdges = [][]float64{drawEdges(t, k), nil, drawEdges(t, k)}
		s, err := parseStatistics([]byte(goodStatistics), "table")
		if err != nil {
			t.Fatal(err)
		}
		m.Action.Dims[2].Gripper = nil
		c, err := newCodec(m, s)
		if err != nil {
			t.Fatal(err)
		}
		values := rapid.SliceOfN(rapid.Float64Range(-1.2, 1.2), 6, 6).Draw(t, "values")
		for i, x := range values {
			values[i] = c.action.robot(i%3, x)
		}
		bins, err := c.Encode(values, nil)
		if err != nil {
			t.Fatal(err)
		}
		chunk, err := c.ChunkFromBins(bins)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			x, y := min(max(c.action.model(i%3, v), -1), 1), c.action.model(i%3, chunk.Values[i])
			if half := c.Bins(i%3).Width(int(bins[i])) / 2; math.Abs(x-y) > half*(1+1e-9)+1e-8 {
				t.Fatalf("%v comes back as %v, half of bin %d is %v", x, y, bins[i], half)
			}
		}
		centres := decode.CentresOf(m.Action.BinEdges, m.Action.Chunk, k)
		for bin := range k {
			all := slices.Repeat([]int64{int64(bin)}, 6)
			chunk, err := c.ChunkFromBins(all)
			if err != nil {
				t.Fatal(err)
			}
			again, err := c.Encode(chunk.Values, nil)
			if err != nil {
				t.Fatal(err)
			}
			for i := range again {
				want := int64(bin)
				if i%3 == 1 {
					want = int64(min(bin, k-2)) // the last two of the published ones are the same
				}
				if again[i] != want {
					t.Fatalf("bin %d of column %d comes back as %d", bin, i%3, again[i])
				}
				if back, err := c.BinOf(i%3, chunk.Values[i]); err != nil || back != want {
					t.Fatalf("bin %d of column %d is found as %d, %v", bin, i%3, back, err)
				}
				if d := float64(centres[i*k+bin]) - c.Bins(i%3).Centre(bin); math.Abs(d) > 1e-7 {
					t.Fatalf("bin %d of position %d is %g in the decoder, %g in the codec", bin, i, centres[i*k+bin], c.Bins(i%3).Centre(bin))
				}
			}
		}
	})
}

// A value further out than half the outermost bin is no bin's, however wide others
// are.
func TestBinOfBeyondBinsOfOnesOwn(t *testing.T) {
	m := manifest()
	m.Tokens.Bins = 4
	m.Action.BinEdges = [][]float64{{-1, -0.9, 0.5, 0.8, 1}, nil, nil}
	c, err := newCodec(m, statistics(t, goodStatistics))
	if err != nil {
		t.Fatal(err)
	}
	// left_joint1 is -2 to 2: its bins say -1.9, -0.4, 1.3 and 1.8.
	for v, want := range map[float64]int64{-1.99: 0, -1.2: 0, -1.1: 1, 0: 1, 0.5: 2, 1.99: 3} {
		if bin, err := c.BinOf(0, v); err != nil || bin != want {
			t.Errorf("%g is bin %d, %v, want %d", v, bin, err, want)
		}
	}
	for _, v := range []float64{-2.02, 2.02} {
		if bin, err := c.BinOf(0, v); err == nil {
			t.Errorf("%g is bin %d", v, bin)
		}
	}
}
