package bag

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
)

// walkMemory is how much of chunks a walk holds in memory, in bytes; the garbage
// collector may double it. Only chunks that overlap in time come near it: two of
// rosbag2's take 1.5 MB.
const walkMemory = 24 << 20

// mcapCursor walks a file's messages in the order of time, and of equal times in
// the order of the file. Chunks may overlap in time: all those are wanted in
// memory that the time has reached and whose last message it has not, for a
// recording usually one or two.
//
// Where that is more than the cursor may hold, those whose next message comes
// last go out of memory and are read again when its time has come, and then only
// their next messages are kept. A file of chunks that all overlap is read about
// as many times as it is larger than the memory.
type mcapCursor struct {
	file   *os.File
	loader chunkLoader
	fresh  []chunkRef // not looked at yet, by their first messages
	paused pausedChunks
	loaded chunksByMessage
	given  bool // the caller has the message before the first loaded chunk's next one
	read   uint64
	damage *DamagedError

	limit int  // bytes that loaded chunks may take
	held  int  // bytes that they take
	tight bool // the limit was not enough once
	begun int  // chunks that are loaded or of which a part was given
	loads int  // since it was tight
}

// pausedChunk is a chunk that is not in memory and of which some messages were
// given already; its start is the time of the next one.
type pausedChunk struct {
	chunkRef
	given int
}

// pausedChunks is a heap by the next message.
type pausedChunks []*pausedChunk

func (q pausedChunks) Len() int           { return len(q) }
func (q pausedChunks) Less(i, j int) bool { return q[i].before(q[i].start, q[j].chunkRef, q[j].start) }
func (q pausedChunks) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *pausedChunks) Push(c any)        { *q = append(*q, c.(*pausedChunk)) }
func (q *pausedChunks) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	*q = (*q)[:last]
	return c
}

// chunksByMessage is a heap of chunks in memory by their next message.
type chunksByMessage []*chunk

func (q chunksByMessage) Len() int           { return len(q) }
func (q chunksByMessage) Less(i, j int) bool { return q[i].before(q[j]) }
func (q chunksByMessage) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *chunksByMessage) Push(c any)        { *q = append(*q, c.(*chunk)) }
func (q *chunksByMessage) Pop() any {
	last := len(*q) - 1
	c := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return c
}

func (c *mcapCursor) next(m *Message) error {
	if c.given {
		// The caller has done with it, so it may go.
		c.given = false
		if first := c.loaded[0]; first.at == len(first.entries) {
			c.drop(0)
		} else {
			heap.Fix(&c.loaded, 0)
		}
	}
	for {
		waiting, ok := c.waiting()
		if !ok || len(c.loaded) > 0 && !waiting.before(waiting.start, c.loaded[0].ref, c.loaded[0].head().time) {
			break
		}
		if err := c.load(); err != nil {
			return err
		}
	}
	switch {
	case len(c.loaded) > 0:
		c.give(m, c.loaded[0])
		return nil
	case c.damage != nil:
		damage := *c.damage
		damage.Read = c.read
		return &damage
	}
	return io.EOF
}

// waiting returns the chunk with the next message of those that are not in
// memory.
func (c *mcapCursor) waiting() (chunkRef, bool) {
	switch {
	case c.resumes():
		return c.paused[0].chunkRef, true
	case len(c.fresh) > 0:
		return c.fresh[0], true
	}
	return chunkRef{}, false
}

// resumes says whether that is a paused one.
func (c *mcapCursor) resumes() bool {
	return len(c.paused) > 0 && (len(c.fresh) == 0 || c.paused[0].before(c.paused[0].start, c.fresh[0], c.fresh[0].start))
}

// load takes the next waiting chunk into memory. Damage ends the chunk, not the
// walk.
func (c *mcapCursor) load() error {
	var w pausedChunk
	var pause *pausedChunk
	if c.resumes() {
		pause = heap.Pop(&c.paused).(*pausedChunk)
		w = *pause
	} else {
		w.chunkRef, c.fresh = c.fresh[0], c.fresh[1:]
	}
	loaded := c.loader.load(w.chunkRef)
	if err := loaded.err; err != nil {
		if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("%s: %w", c.file.Name(), err)
		}
		if c.damage == nil {
			c.damage = &DamagedError{File: c.file.Name(), Offset: w.offset, Err: err}
		}
	}
	if len(loaded.entries) <= w.given {
		c.loader.recycle(loaded)
		return nil
	}
	loaded.at, loaded.pause = w.given, pause
	if pause == nil {
		c.begun++
	}
	if c.tight {
		// Each load leaves some garbage, and the collector waits until there is as much of
		// it as of chunks.
		if c.loads++; c.loads%4096 == 0 {
			runtime.GC()
		}
	}
	for len(c.loaded) > 0 && c.held+loaded.size() > c.limit {
		c.tight = true
		c.drop(c.last())
	}
	if next, ok := c.waiting(); ok && c.tight {
		loaded = c.loader.shorten(loaded, c.limit/c.begun, next)
	}
	c.held += loaded.size()
	heap.Push(&c.loaded, loaded)
	return nil
}

// last returns the index of the loaded chunk whose next message comes last.
func (c *mcapCursor) last() int {
	last := 0
	for i, loaded := range c.loaded {
		if c.loaded[last].before(loaded) {
			last = i
		}
	}
	return last
}

// drop takes a loaded chunk out of memory; what it still has comes later.
func (c *mcapCursor) drop(index int) {
	out := heap.Remove(&c.loaded, index).(*chunk)
	c.held -= out.size()
	if start, ok := out.rest(); ok {
		if out.pause == nil {
			out.pause = new(pausedChunk)
		}
		*out.pause = pausedChunk{chunkRef: out.ref, given: out.skipped + out.at}
		out.pause.start = start
		heap.Push(&c.paused, out.pause)
	} else {
		c.begun--
	}
	c.loader.recycle(out)
}

func (c *mcapCursor) give(m *Message, from *chunk) {
	e := from.head()
	from.at++
	c.given = true
	c.read++
	channel := c.loader.index.channels[e.channel]
	m.Topic = channel.Topic
	m.Type = ""
	if s := c.loader.index.schemas[channel.SchemaID]; s != nil {
		m.Type = s.Name
	}
	m.Time = fromNanoseconds(e.time)
	m.Data = from.records[e.start:e.end:e.end]
}

func (c *mcapCursor) close() error {
	c.loader.close()
	return c.file.Close()
}
