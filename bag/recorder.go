package bag

import (
	"fmt"
	"sync"
	"time"
)

// RecorderOptions say how much a recorder holds while the disk is busy.
type RecorderOptions struct {
	// QueueBytes is the memory for messages that wait; 0 means 64 MiB, which is about
	// 70 images of 640x480.
	QueueBytes int
	// QueueLength is how many messages may wait; 0 means 4096.
	QueueLength int
	// Failed is called from the recorder's goroutine: once when writing fails, as on
	// a full disk, from when on everything is dropped, and before that at most once
	// for a message that cannot be recorded, as its topic was not added. May be nil.
	Failed func(error)
}

// Recorder writes messages to a bag from any number of goroutines without ever
// making them wait for the disk: messages are copied into a queue of fixed
// memory, and dropped and counted when it is full. Recording does not allocate.
type Recorder struct {
	writer *Writer
	failed func(error)

	mu      sync.Mutex
	wake    sync.Cond // the oldest item is ready, or the recorder is closing
	ring    []byte    // payloads; oldest at begin, all up to end, around the ring's end
	items   []item    // a ring too
	first   int       // the oldest item
	length  int
	begin   int
	end     int
	dropped uint64
	written uint64
	stopped bool // writing has failed
	odd     bool // a message could not be recorded, and Failed knows
	closing bool
	err     error
	done    chan struct{}
}

// item is a message in the queue, or a topic to be added.
type item struct {
	topic      string
	stamp      time.Time
	start, end int    // of the payload in the ring
	ready      bool   // the payload was copied
	add        *Topic // instead of a message
}

// NewRecorder starts a recorder that writes to w, which from now on is its own:
// [Recorder.Close] closes it.
func NewRecorder(w *Writer, options RecorderOptions) (*Recorder, error) {
	if options.QueueBytes < 0 || options.QueueLength < 0 {
		return nil, fmt.Errorf("recorder: QueueBytes %d and QueueLength %d must not be negative", options.QueueBytes, options.QueueLength)
	}
	if options.QueueBytes == 0 {
		options.QueueBytes = 64 << 20
	}
	if options.QueueLength == 0 {
		options.QueueLength = 4096
	}
	r := newRecorder(w, options)
	go r.run()
	return r, nil
}

// newRecorder makes a recorder that is not running yet.
func newRecorder(w *Writer, options RecorderOptions) *Recorder {
	r := &Recorder{
		writer: w,
		failed: options.Failed,
		ring:   make([]byte, options.QueueBytes),
		items:  make([]item, options.QueueLength),
		done:   make(chan struct{}),
	}
	r.wake.L = &r.mu
	return r
}

// AddTopic makes a topic known; see [Writer.AddTopic]. It reports whether there
// was room in the queue.
func (r *Recorder) AddTopic(t Topic) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := r.reserve(0)
	if i < 0 {
		return false
	}
	// Its place in the ring, though empty, is where the free part goes on.
	it := &r.items[i]
	it.add, it.ready = &t, true
	r.wake.Signal()
	return true
}

// Record copies a message into the queue and reports whether there was room; the
// topic must have been added.
func (r *Recorder) Record(topic string, stamp time.Time, data []byte) bool {
	r.mu.Lock()
	i := r.reserve(len(data))
	if i < 0 {
		r.dropped++
		r.mu.Unlock()
		return false
	}
	it := &r.items[i]
	it.topic, it.stamp, it.add = topic, stamp, nil
	place := r.ring[it.start:it.end]
	r.mu.Unlock()

	copy(place, data) // outside the lock: others need not wait for an image

	r.mu.Lock()
	it.ready = true
	r.wake.Signal()
	r.mu.Unlock()
	return true
}

// reserve takes an item with n bytes from the queue's free part and returns its
// index, or -1 if there is no room. r.mu is held.
func (r *Recorder) reserve(n int) int {
	if r.stopped || r.closing || r.length == len(r.items) {
		return -1
	}
	if r.length == 0 {
		r.begin, r.end = 0, 0
	}
	// A payload lies in one piece. The free part is behind end up to the ring's end
	// and then before begin, or between end and begin; end never catches up with
	// begin, which would look like an empty ring.
	start := r.end
	switch {
	case r.end >= r.begin && n <= len(r.ring)-r.end:
	case r.end >= r.begin && n < r.begin:
		start = 0
	case r.end < r.begin && n < r.begin-r.end:
	default:
		return -1
	}
	r.end = start + n
	i := (r.first + r.length) % len(r.items)
	r.items[i].start, r.items[i].end, r.items[i].ready = start, start+n, false
	r.length++
	return i
}

// run writes what is in the queue until Close.
func (r *Recorder) run() {
	defer close(r.done)
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for !(r.length > 0 && r.items[r.first].ready) && !(r.closing && r.length == 0) {
			r.wake.Wait()
		}
		if r.length == 0 {
			return
		}
		r.writeOldest()
	}
}

// writeOldest writes the oldest item, which must be ready, and takes it from the queue.
// r.mu is held but for the writing.
func (r *Recorder) writeOldest() {
	it := r.items[r.first]
	stopped := r.stopped
	r.mu.Unlock()
	var err error
	switch {
	case stopped:
	case it.add != nil:
		err = r.writer.AddTopic(*it.add)
	default:
		err = r.writer.Write(it.topic, it.stamp, r.ring[it.start:it.end])
	}
	fatal := !stopped && r.writer.failed != nil
	if err != nil && r.failed != nil && (fatal || !r.odd) {
		r.odd = true
		r.failed(err)
	}
	r.mu.Lock()
	if err != nil && (fatal || r.err == nil) {
		r.err = err
	}
	r.stopped = r.stopped || fatal
	switch {
	case it.add != nil:
	case err != nil || stopped:
		r.dropped++
	default:
		r.written++
	}
	r.begin = it.end
	r.first = (r.first + 1) % len(r.items)
	r.length--
}

// Dropped returns how many messages were not recorded: the queue was full, or
// writing has failed.
func (r *Recorder) Dropped() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dropped
}

// Written returns how many messages were given to the writer.
func (r *Recorder) Written() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.written
}

// Failure is why writing ended, as on a full disk, or nil while it goes on.
func (r *Recorder) Failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.stopped {
		return nil
	}
	return r.err
}

// Close writes what is still in the queue, ends the recorder's goroutine and
// closes the bag. It returns the failure of writing, if there was one.
func (r *Recorder) Close() error {
	r.mu.Lock()
	r.closing = true
	r.wake.Broadcast()
	r.mu.Unlock()
	<-r.done
	if err := r.writer.Close(); r.err == nil {
		r.err = err
	}
	return r.err
}
