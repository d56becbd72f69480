package node

import (
	"slices"
	"sync"
	"time"

	"gonum.org/v1/gonum/stat"
)

// intervals measures how evenly commands go out: the times between them, by the
// machine's clock, of the newest thousand. The zero value is ready; tick does not
// allocate.
type intervals struct {
	mu    sync.Mutex
	last  time.Time
	ring  [1000]float64 // seconds
	count uint64
}

// pause is the longest time between two commands that counts as an interval:
// disabled arms are sent none.
const pause = time.Second

func (i *intervals) tick(now time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if d := now.Sub(i.last); !i.last.IsZero() && d < pause {
		i.ring[i.count%uint64(len(i.ring))] = d.Seconds()
		i.count++
	}
	i.last = now
}

// percentiles are empirical ones.
func (i *intervals) percentiles() Percentiles {
	i.mu.Lock()
	n := i.count
	x := slices.Clone(i.ring[:min(n, uint64(len(i.ring)))])
	i.mu.Unlock()
	return percentiles(x, int(n))
}

// percentiles sums up samples in seconds, which it sorts.
func percentiles(x []float64, count int) Percentiles {
	if len(x) == 0 {
		return Percentiles{}
	}
	slices.Sort(x)
	at := func(p float64) time.Duration {
		return time.Duration(stat.Quantile(p, stat.Empirical, x, nil) * float64(time.Second))
	}
	return Percentiles{Count: count, P50: at(0.50), P95: at(0.95), P99: at(0.99), Max: at(1)}
}
