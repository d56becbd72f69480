package dataset

import (
	"bufio"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// Statistics are one data set's entry of dataset_statistics.json, with the keys of
// the file that openvla-oft writes beside a checkpoint (save_dataset_statistics in
// prismatic/vla/datasets/rlds/utils/data_utils.py).
type Statistics struct {
	Action          Columns `json:"action"`
	Proprio         *States `json:"proprio,omitempty"` // nil where the data set has none
	NumTransitions  int     `json:"num_transitions"`   // frames
	NumTrajectories int     `json:"num_trajectories"`  // episodes
}

// Columns are the statistics of each dimension, in its unit, of the float32 values
// in the files. Q01 and Q99 are exact order statistics, interpolated as
// numpy.quantile does by default; there is no approximation, so their error is that
// of one float64 interpolation. Std divides by the number of frames.
type Columns struct {
	Mean []float64 `json:"mean"`
	Std  []float64 `json:"std"`
	Max  []float64 `json:"max"`
	Min  []float64 `json:"min"`
	Q01  []float64 `json:"q01"`
	Q99  []float64 `json:"q99"`
	Mask []bool    `json:"mask"` // true: the dimension is normalised, as all are
}

// States are the statistics of the robot's state, and where tasks begin.
type States struct {
	Columns
	// Start is Info.Start, or else the median of each dimension over the episodes'
	// first frames: where ~/home takes the arms. openvla-oft's files have none.
	Start []float64 `json:"start,omitempty"`
}

// statistics reads the arrays again, which are on the disk.
func (w *Writer) statistics() (*Statistics, error) {
	s := &Statistics{NumTransitions: w.info.Frames, NumTrajectories: w.info.Episodes}
	action, _, err := columnsOf(filepath.Join(w.dir, ActionFile), w.info.Frames, len(w.info.Action))
	if err != nil {
		return nil, err
	}
	s.Action = *action
	n := len(w.info.Proprio)
	if n == 0 {
		return s, nil
	}
	path := filepath.Join(w.dir, ProprioFile)
	proprio, _, err := columnsOf(path, w.info.Frames, n)
	if err != nil {
		return nil, err
	}
	s.Proprio = &States{Columns: *proprio, Start: w.info.Start}
	if len(s.Proprio.Start) == 0 {
		s.Proprio.Start, err = medianOf(path, w.starts, n)
	}
	return s, err
}

// medianOf returns the median of each dimension over the frames at the numbers
// given, at least one.
func medianOf(path string, frames []int, dims int) ([]float64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	columns := make([][]float64, dims)
	row := make([]byte, 4*dims)
	for _, frame := range frames {
		if _, err := f.ReadAt(row, int64(frame)*int64(len(row))); err != nil {
			return nil, err
		}
		for d := range columns {
			columns[d] = append(columns[d], float64(math.Float32frombits(binary.LittleEndian.Uint32(row[4*d:]))))
		}
	}
	var medians []float64
	p := placeOf(0.5, len(frames))
	for _, c := range columns {
		slices.Sort(c)
		medians = append(medians, p.between(c[p.rank], c[p.next]))
	}
	return medians, nil
}

// half is the number of values of a key's upper, and of its lower, 16 bits.
const half = 1 << 16

// column collects what two passes over a dimension's values find. The quantiles are
// found by counting: the first pass counts the upper halves of the values' sort
// keys, which tells in which half the wanted ranks lie; the second counts the lower
// halves of just those. That takes up to 0.25 MB a dimension for the first
// and 0.5 MB for each quantile, however many frames.
type column struct {
	min, max, sum, squares float64
	upper                  []uint32
	ranks                  []rank
}

// rank is a place in the sorted column, and what is known of the key there.
type rank struct {
	at    int      // from 0; in the second pass within the upper half
	upper uint32   // of the key
	lower []uint32 // counts, shared with other ranks of the same upper half
}

// columnsOf computes the statistics of a file of frames rows, at least one, and more
// quantiles, each of all dimensions.
func columnsOf(path string, frames, dims int, more ...float64) (out *Columns, quantiles [][]float64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	columns := make([]column, dims)
	for d := range columns {
		columns[d] = column{min: math.Inf(1), max: math.Inf(-1), upper: make([]uint32, half)}
	}
	if err := walk(f, frames, dims, func(d int, v float32) {
		c := &columns[d]
		c.min, c.max = min(c.min, float64(v)), max(c.max, float64(v))
		c.sum += float64(v)
		c.upper[key(v)>>16]++
	}); err != nil {
		return nil, nil, err
	}
	var places []place
	for _, q := range append([]float64{0.01, 0.99}, more...) {
		places = append(places, placeOf(q, frames))
	}
	for d := range columns {
		columns[d].locate(places)
	}
	if err := walk(f, frames, dims, func(d int, v float32) {
		c := &columns[d]
		off := float64(v) - c.sum/float64(frames)
		c.squares += off * off
		c.count(key(v))
	}); err != nil {
		return nil, nil, err
	}
	out, quantiles = &Columns{}, make([][]float64, len(places))
	for d := range columns {
		c := &columns[d]
		out.Mean = append(out.Mean, c.sum/float64(frames))
		out.Std = append(out.Std, math.Sqrt(c.squares/float64(frames)))
		out.Max = append(out.Max, c.max)
		out.Min = append(out.Min, c.min)
		out.Mask = append(out.Mask, true)
		for i, p := range places {
			quantiles[i] = append(quantiles[i], p.between(c.ranks[2*i].value(), c.ranks[2*i+1].value()))
		}
	}
	out.Q01, out.Q99 = quantiles[0], quantiles[1]
	return out, quantiles[2:], nil
}

// walk reads the file from its beginning.
func walk(f *os.File, frames, dims int, visit func(d int, v float32)) error {
	r := bufio.NewReaderSize(io.NewSectionReader(f, 0, math.MaxInt64), 1<<20)
	row := make([]byte, 4*dims)
	for range frames {
		if _, err := io.ReadFull(r, row); err != nil {
			return err
		}
		for d := range dims {
			visit(d, math.Float32frombits(binary.LittleEndian.Uint32(row[4*d:])))
		}
	}
	return nil
}

// key maps finite float32 to integers of the same order.
func key(v float32) uint32 {
	bits := math.Float32bits(v)
	if bits>>31 != 0 {
		return ^bits
	}
	return bits | 1<<31
}

func unkey(k uint32) float32 {
	if k>>31 != 0 {
		return math.Float32frombits(k &^ (1 << 31))
	}
	return math.Float32frombits(^k)
}

// locate finds the upper halves of the keys at the places.
func (c *column) locate(places []place) {
	counts := map[uint32][]uint32{}
	for _, p := range places {
		for _, at := range []int{p.rank, p.next} {
			r := rank{at: at}
			for r.at >= int(c.upper[r.upper]) {
				r.at -= int(c.upper[r.upper])
				r.upper++
			}
			if counts[r.upper] == nil {
				counts[r.upper] = make([]uint32, half)
			}
			r.lower = counts[r.upper]
			c.ranks = append(c.ranks, r)
		}
	}
}

// count takes a key of the second pass.
func (c *column) count(k uint32) {
	if i := slices.IndexFunc(c.ranks, func(r rank) bool { return r.upper == k>>16 }); i >= 0 {
		c.ranks[i].lower[k&(half-1)]++
	}
}

// value is the value at a rank, after the second pass.
func (r rank) value() float64 {
	left, lower := r.at, uint32(0)
	for left >= int(r.lower[lower]) {
		left -= int(r.lower[lower])
		lower++
	}
	return float64(unkey(r.upper<<16 | lower))
}

// place is that of a quantile among n values, between a rank and the next one:
// numpy.quantile's method "linear", q*(n-1).
type place struct {
	rank, next int
	share      float64
}

func placeOf(q float64, n int) place {
	whole, share := math.Modf(q * float64(n-1))
	return place{int(whole), min(int(whole)+1, n-1), share}
}

// between interpolates, from the nearer end as NumPy does (_lerp in
// numpy/lib/function_base.py).
func (p place) between(a, b float64) float64 {
	if p.share >= 0.5 {
		return b - float64((b-a)*(1-p.share))
	}
	return a + float64((b-a)*p.share)
}
