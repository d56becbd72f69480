// Package inbox is the queue between whoever delivers messages and a subscription's callback, for back
// ends written in Go: it holds the newest messages, drops older ones and counts them.
package inbox

import "sync"

// A Box holds up to a fixed number of messages for one reader.
type Box[T any] struct {
	mu       sync.Mutex
	wake     sync.Cond // on mu
	ring     []T       // grows up to capacity
	capacity int
	first    int
	length   int
	dropped  uint64
	closed   bool
	ended    chan struct{} // closed when Run has returned
}

// New makes a box for the newest capacity messages.
func New[T any](capacity int) *Box[T] {
	b := &Box[T]{capacity: capacity, ended: make(chan struct{})}
	b.wake.L = &b.mu
	return b
}

// Put adds a message and, when there is no room, drops the oldest. It never waits for the reader.
func (b *Box[T]) Put(m T) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	if b.length == b.capacity {
		b.pop()
		b.dropped++
	}
	if b.length == len(b.ring) {
		grown := make([]T, min(max(4, 2*b.length), b.capacity))
		for i := range b.length {
			grown[i] = b.ring[(b.first+i)%len(b.ring)]
		}
		b.ring, b.first = grown, 0
	}
	b.ring[(b.first+b.length)%len(b.ring)] = m
	b.length++
	b.wake.Signal()
}

func (b *Box[T]) pop() T {
	var none T
	m := b.ring[b.first]
	b.ring[b.first] = none
	b.first = (b.first + 1) % len(b.ring)
	b.length--
	return m
}

// Run calls cb with each message until the box closes. It must be called once, on the reader's goroutine.
func (b *Box[T]) Run(cb func(T)) {
	defer close(b.ended)
	for {
		b.mu.Lock()
		for b.length == 0 && !b.closed {
			b.wake.Wait()
		}
		if b.closed {
			b.mu.Unlock()
			return
		}
		m := b.pop()
		b.mu.Unlock()
		cb(m)
	}
}

// Dropped counts the messages that had to make room.
func (b *Box[T]) Dropped() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dropped
}

// Closed tells whether Close was called.
func (b *Box[T]) Closed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.closed
}

// Close ends Run and waits for it; what still lay in the box is gone.
func (b *Box[T]) Close() {
	b.mu.Lock()
	b.closed = true
	b.wake.Signal()
	b.mu.Unlock()
	<-b.ended
}
