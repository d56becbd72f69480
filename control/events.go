package control

import (
	"fmt"
	"time"
)

// Event is something the operator should be told: a code, where it applies the
// joint, and the number against the limit it was held to.
type Event struct {
	Time  time.Time
	Code  Code
	Joint string  // "left/joint2", or an arm's name, or empty
	Value float64 // meaning and unit as the code says
	Limit float64
}

// String gives the sentence with the joint and the numbers.
func (e Event) String() string {
	s := e.Code.Sentence()
	if e.Joint != "" {
		s = e.Joint + ": " + s
	}
	if e.Value != 0 || e.Limit != 0 {
		s += fmt.Sprintf(" (value %.4g, limit %.4g)", e.Value, e.Limit)
	}
	return s
}

// Counters are running totals since New.
type Counters struct {
	Commands    uint64            // commands given out by Tick
	Chunks      uint64            // chunks taken
	RowsSkipped uint64            // rows of taken chunks that were already in the past
	EventsLost  uint64            // events that nobody fetched in time
	ByCode      [codeCount]uint64 // how often each code happened
}

// Dropped returns the number of chunks that were not taken, for any reason.
func (c Counters) Dropped() uint64 {
	var n uint64
	for k := DroppedNotEnabled; k <= DroppedHoming; k++ {
		n += c.ByCode[k]
	}
	return n
}

// eventRing keeps the newest events until they are fetched.
type eventRing struct {
	ring  [64]Event
	first int
	count int
}

// add stores e and reports whether an older event had to go for it.
func (r *eventRing) add(e Event) (lost bool) {
	if r.count == len(r.ring) {
		r.first = (r.first + 1) % len(r.ring)
		r.count--
		lost = true
	}
	r.ring[(r.first+r.count)%len(r.ring)] = e
	r.count++
	return lost
}

// take appends the stored events to dst, oldest first, and empties the ring.
func (r *eventRing) take(dst []Event) []Event {
	for ; r.count > 0; r.count-- {
		dst = append(dst, r.ring[r.first])
		r.first = (r.first + 1) % len(r.ring)
	}
	return dst
}
