package report

import "math"

// What is shown of a long recording: chunks over the time line, moments with their
// pictures and the bytes that those take together, and points of a recorded curve.
const (
	chunksShown  = 400
	momentsShown = 60
	picturesRoom = 6 << 20
	pointsShown  = 1600
)

// thinned keeps every stride-th item, evenly over all that come, however many. The
// stride doubles whenever there are too many.
type thinned[T any] struct {
	most  int
	size  func(T) int // in bytes, which count against room; nil: none do
	room  int
	merge func(kept, gone T) // what of an item that goes stays with the one before

	stride, seen int
	kept         []T
}

// wants tells whether the next item will be kept, at least for a while.
func (t *thinned[T]) wants() bool { return t.stride == 0 || t.seen%t.stride == 0 }

func (t *thinned[T]) add(item T) {
	t.stride = max(t.stride, 1)
	if t.wants() {
		t.kept = append(t.kept, item)
	} else if t.merge != nil {
		t.merge(t.kept[len(t.kept)-1], item)
	}
	t.seen++
	for len(t.kept) > 1 && t.tooMany() {
		t.halve()
	}
}

func (t *thinned[T]) tooMany() bool {
	if len(t.kept) > t.most {
		return true
	}
	bytes := 0
	if t.size != nil {
		for _, item := range t.kept {
			bytes += t.size(item)
		}
	}
	return bytes > t.room
}

// halve drops every second item.
func (t *thinned[T]) halve() {
	t.stride *= 2
	n := 0
	for i, item := range t.kept {
		if i%2 == 0 {
			t.kept[n] = item
			n++
		} else if t.merge != nil {
			t.merge(t.kept[n-1], item)
		}
	}
	clear(t.kept[n:])
	t.kept = t.kept[:n]
}

// shown is a chunk on the time line.
type shown struct {
	t           Figure
	values      []float64
	err, jump   float64 // the largest of those left out too
	instruction int
}

func mergeShown(kept, gone *shown) {
	kept.err, kept.jump = larger(kept.err, gone.err), larger(kept.jump, gone.jump)
}

// larger of two numbers, either of which may be NaN.
func larger(a, b float64) float64 {
	if b > a || math.IsNaN(a) {
		return b
	}
	return a
}

// moment is what the cameras saw when a chunk was made, and how it was decoded.
type moment struct {
	t        Figure
	pictures []Picture
	rounds   *Map
}

func (m *moment) bytes() int {
	n := 0
	for _, p := range m.pictures {
		n += len(p.JPEG)
	}
	return n
}
