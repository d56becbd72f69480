package doctor

import (
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"
)

// most is how many samples of a topic are kept; beyond, every second one is let go,
// so that memory does not grow with a recording.
const most = 1 << 14

// thinned keeps an even choice of at most most values of a stream. The zero value is
// ready.
type thinned[T any] struct {
	values []T
	every  int // values that one kept stands for
	seen   int
}

func (t *thinned[T]) add(v T) {
	t.every = max(t.every, 1)
	if t.seen%t.every == 0 {
		if len(t.values) == most {
			for i := range most / 2 {
				t.values[i] = t.values[2*i]
			}
			t.values = t.values[:most/2]
			t.every *= 2
		}
		if t.seen%t.every == 0 {
			t.values = append(t.values, v)
		}
	}
	t.seen++
}

// timing is when the messages of a topic came. The zero value is ready.
type timing struct {
	count       int
	first, last time.Time // received
	gap         time.Duration
	ages        thinned[float64] // s from the stamp to the reception
	unstamped   int
}

func (t *timing) tick(stamp, received time.Time) {
	if t.count > 0 {
		t.gap = max(t.gap, received.Sub(t.last))
	} else {
		t.first = received
	}
	t.last = received
	t.count++
	if stamp.IsZero() || stamp.UnixNano() == 0 {
		t.unstamped++
		return
	}
	t.ages.add(received.Sub(stamp).Seconds())
}

// TimingReport is when messages of a topic came.
type TimingReport struct {
	Count int     `json:"count"`
	Rate  float64 `json:"rate"`    // Hz
	Gap   float64 `json:"gap"`     // the longest between two messages, s
	Age   float64 `json:"age"`     // median time from stamp to reception, s
	AgeHi float64 `json:"age_p95"` // of which one in twenty is older, s
	// Unstamped counts messages without a stamp.
	Unstamped int `json:"unstamped,omitempty"`
}

func (t *timing) report() TimingReport {
	r := TimingReport{Count: t.count, Gap: t.gap.Seconds(), Unstamped: t.unstamped}
	if d := t.last.Sub(t.first).Seconds(); t.count > 1 && d > 0 {
		r.Rate = float64(t.count-1) / d
	}
	r.Age, r.AgeHi = quantile(0.5, t.ages.values), quantile(0.95, t.ages.values)
	return r
}

// quantile is an empirical one, 0 of nothing.
func quantile(p float64, values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return stat.Quantile(p, stat.Empirical, sorted, nil)
}
