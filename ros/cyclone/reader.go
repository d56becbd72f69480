package cyclone

// #include "wire.h"
import "C"

import (
	"fmt"
	"os"
	"sync"
	"time"
	"unsafe"

	"github.com/ddvla/ddvla/ros"
)

// readerCache is the least history of a DDS reader. The inbox empties it on every arrival, so it only
// holds what several delivering threads put there at the same instant.
const readerCache = 16

// A reader is a DDS topic, a reader of it with its inbox, and the goroutine that empties the inbox.
type reader struct {
	topic, entity C.dds_entity_t
	box           *C.struct_inbox
	event         *os.File

	mu     sync.Mutex
	closed bool
	final  C.struct_inbox_totals // once closed
	ended  chan struct{}
}

// message is what a reader hands out; data are valid until the callback returns.
type message struct {
	data   []byte
	stamp  time.Time
	writer uint64 // instance handle of the publication
}

// newReader creates a topic, its reader and the goroutine that calls cb for each message. queue is the
// number of messages that wait for a busy cb.
func newReader(participant C.dds_entity_t, topic, typ string, qos ros.QoS, queue int, userData string, cb func(message)) (*reader, error) {
	t, _, err := newTopic(participant, topic, typ)
	if err != nil {
		return nil, err
	}
	r := &reader{topic: t, ended: make(chan struct{})}
	if r.box = C.inbox_create(C.uint32_t(min(queue, 1<<30))); r.box == nil {
		C.dds_delete(t)
		return nil, fmt.Errorf("create reader of %s: out of memory or file descriptors", topic)
	}
	q := newQoS(qos, userData, readerCache)
	defer C.dds_delete_qos(q)
	r.entity = C.inbox_attach(r.box, participant, t, q)
	// The file is not blocking, so the runtime's poller waits for it and no thread does.
	r.event = os.NewFile(uintptr(C.inbox_event(r.box)), "inbox of "+topic)
	if r.entity < 0 {
		r.event.Close()
		C.inbox_destroy(r.box)
		C.dds_delete(t)
		return nil, fmt.Errorf("create reader of %s: %w", topic, codeError(r.entity))
	}
	go r.run(cb)
	return r, nil
}

// run waits for messages until close closes the event file.
func (r *reader) run(cb func(message)) {
	defer close(r.ended)
	var m C.struct_inbox_message
	defer C.inbox_release(&m)
	var counter [8]byte
	for {
		if _, err := r.event.Read(counter[:]); err != nil {
			return // os.ErrClosed; eventfd(2) knows no other error for a read that may wait
		}
		for bool(C.inbox_next(r.box, &m)) {
			cb(message{
				data:   unsafe.Slice((*byte)(unsafe.Pointer(m.data)), int(m.size)),
				stamp:  time.Unix(0, int64(m.stamp)),
				writer: uint64(m.writer),
			})
			if r.isClosed() {
				return
			}
		}
	}
}

func (r *reader) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// counts are the totals of messages that were not handed out.
func (r *reader) counts() C.struct_inbox_totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return r.final
	}
	return C.inbox_counts(r.box)
}

// close deletes the reader and joins its goroutine; a second close waits for the first.
func (r *reader) close() {
	r.mu.Lock()
	first := !r.closed
	if first {
		r.closed, r.final = true, C.inbox_counts(r.box)
	}
	r.mu.Unlock()
	if !first {
		<-r.ended
		return
	}
	C.dds_delete(r.entity) // returns when no listener runs any more
	r.event.Close()
	<-r.ended
	C.inbox_destroy(r.box)
	C.dds_delete(r.topic)
}
