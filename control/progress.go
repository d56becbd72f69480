package control

import (
	"sort"
	"time"
)

// progress is the measure that chunks are executed by: the seconds of plan that
// the arms have gone through. It stands while they stand and runs slower than
// the clock where the path is slowed, so that a new chunk skips the rows that
// were really executed since its observation, and no others. It remembers its
// past, by which the stamps of observations are looked up.
type progress struct {
	total float64
	at    []time.Time // a ring, rising
	value []float64
	first int
	n     int
	full  bool          // something was forgotten
	apart time.Duration // entries closer than this are merged
}

// newProgress remembers at least the given time.
func newProgress(memory time.Duration) progress {
	const entries = 512
	return progress{at: make([]time.Time, entries), value: make([]float64, entries), apart: 2 * memory / entries}
}

// advance adds d seconds of plan, reached at now.
func (p *progress) advance(now time.Time, d float64) {
	p.total += d
	if p.n >= 2 && p.time(p.n-1).Sub(p.time(p.n-2)) < p.apart {
		p.n-- // the newest gives way to one a little newer
	}
	p.mark(now)
}

// mark records where things stand at now, where motion begins or ends.
func (p *progress) mark(now time.Time) {
	if p.n > 0 && !now.After(p.time(p.n-1)) {
		p.value[p.index(p.n-1)] = p.total
		return
	}
	if p.n == len(p.at) {
		p.first, p.n, p.full = (p.first+1)%len(p.at), p.n-1, true
	}
	p.at[p.index(p.n)], p.value[p.index(p.n)] = now, p.total
	p.n++
}

func (p *progress) index(i int) int      { return (p.first + i) % len(p.at) }
func (p *progress) time(i int) time.Time { return p.at[p.index(i)] }

// when returns the progress at a time, between records in proportion. Before
// the oldest the arms are taken to have been moving if records were forgotten.
func (p *progress) when(t time.Time) float64 {
	i := sort.Search(p.n, func(i int) bool { return p.time(i).After(t) })
	switch {
	case i == p.n:
		return p.total
	case i == 0 && p.full:
		return p.value[p.index(0)] - p.time(0).Sub(t).Seconds()
	case i == 0:
		return p.value[p.index(0)]
	}
	from, to := p.value[p.index(i-1)], p.value[p.index(i)]
	share := t.Sub(p.time(i-1)).Seconds() / p.time(i).Sub(p.time(i-1)).Seconds()
	return from + share*(to-from)
}

// clear forgets the past, after a jump of the clock.
func (p *progress) clear() { p.first, p.n, p.full = 0, 0, false }

// seconds converts to a Duration.
func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
