package bag

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"
	"unsafe"

	"github.com/foxglove/mcap/go/mcap"
)

// chunk is a chunk in memory, or the next messages of one.
type chunk struct {
	ref     chunkRef
	records []byte // uncompressed
	entries []entry
	at      int   // the next entry
	err     error // what is wrong with it behind the entries; ErrTruncated or ErrCorrupt unless the disk failed

	short   bool   // not all of the chunk:
	skipped int    // messages of the chunk before the entries
	more    bool   // the chunk has messages behind the entries
	then    uint64 // the time of the first of those

	buffer []byte // what records lie in
	pause  *pausedChunk
}

// entry is a message in a chunk.
type entry struct {
	time       uint64
	start, end uint32 // of its data in records
	channel    uint16
}

func (c *chunk) head() entry { return c.entries[c.at] }

// before says whether c's next message comes before that of other.
func (c *chunk) before(other *chunk) bool {
	return c.ref.before(c.head().time, other.ref, other.head().time)
}

// rest returns the time of the next message, if there is one.
func (c *chunk) rest() (uint64, bool) {
	if c.at < len(c.entries) {
		return c.head().time, true
	}
	return c.then, c.more
}

// size is the memory that c takes.
func (c *chunk) size() int {
	return cap(c.buffer) + cap(c.entries)*int(unsafe.Sizeof(entry{}))
}

// chunkLoader reads chunks into memory that it uses again.
type chunkLoader struct {
	index    *mcapFile
	file     *os.File
	buffer   []byte // for what is compressed
	source   bytes.Reader
	free     []*chunk
	short    []*chunk // free ones that were shortened
	decoders uncompressor
}

// recycle takes the memory of a chunk back, as much as is soon used again: two
// chunks where they follow each other, some short ones where many overlap.
func (l *chunkLoader) recycle(c *chunk) {
	switch {
	case c.short && len(l.short) < 16:
		l.short = append(l.short, c)
	case !c.short && len(l.free) < 2:
		l.free = append(l.free, c)
	}
}

func (l *chunkLoader) close() { l.decoders.close() }

// load reads the chunk at ref and lists its messages in the order of time.
func (l *chunkLoader) load(ref chunkRef) *chunk {
	var c *chunk
	if n := len(l.free); n > 0 {
		c, l.free = l.free[n-1], l.free[:n-1]
		*c = chunk{ref: ref, buffer: c.buffer, entries: c.entries[:0]}
	} else {
		c = &chunk{ref: ref}
	}
	if ref.length > maxChunkSize {
		c.err = fmt.Errorf("%w: a chunk of %d bytes, read are up to %d", ErrCorrupt, ref.length, maxChunkSize)
		return c
	}
	l.buffer = slices.Grow(l.buffer[:0], int(ref.length))[:ref.length] // not more than the file has
	if _, err := l.file.ReadAt(l.buffer, ref.offset); err == io.EOF {
		c.err = fmt.Errorf("%w: the file ends within a chunk", ErrTruncated)
		return c
	} else if err != nil {
		c.err = err
		return c
	}
	if ref.bare {
		l.adopt(c, l.buffer)
	} else {
		c.err = l.unpack(c, ref.cut)
	}
	if err := l.list(c); err != nil && c.err == nil {
		c.err = err
	}
	if !slices.IsSortedFunc(c.entries, byTime) {
		slices.SortStableFunc(c.entries, byTime)
	}
	return c
}

func byTime(a, b entry) int { return cmp.Compare(a.time, b.time) }

// adopt makes a part of the loader's buffer c's records without copying them.
func (l *chunkLoader) adopt(c *chunk, records []byte) {
	c.records = records
	c.buffer, l.buffer = l.buffer, c.buffer
}

// shorten keeps of a chunk's next messages those that come before the first of
// next, and beyond them what fits into size bytes; at least one.
func (l *chunkLoader) shorten(c *chunk, size int, next chunkRef) *chunk {
	if c.size() <= size {
		return c
	}
	keep, bytes := 0, 0
	for _, e := range c.entries[c.at:] {
		more := int(e.end-e.start) + int(unsafe.Sizeof(e))
		if keep > 0 && bytes+more > size && !c.ref.before(e.time, next, next.start) {
			break
		}
		keep++
		bytes += more
	}
	if keep == len(c.entries)-c.at && c.at == 0 {
		return c
	}
	short := l.takeShort(bytes, size)
	*short = chunk{ref: c.ref, pause: c.pause, err: c.err, short: true, skipped: c.at, buffer: short.buffer, entries: slices.Grow(short.entries[:0], keep)[:keep]}
	for i, e := range c.entries[c.at:][:keep] {
		start := uint32(len(short.buffer))
		short.buffer = append(short.buffer, c.records[e.start:e.end]...)
		short.entries[i] = entry{time: e.time, start: start, end: uint32(len(short.buffer)), channel: e.channel}
	}
	short.records = short.buffer
	c.at += keep
	short.then, short.more = c.rest()
	l.recycle(c)
	return short
}

// takeShort returns a free short chunk with an empty buffer of at least the given
// bytes, and not much more.
func (l *chunkLoader) takeShort(bytes, size int) *chunk {
	for len(l.short) > 0 {
		c := l.short[len(l.short)-1]
		l.short = l.short[:len(l.short)-1]
		if room := cap(c.buffer); room >= bytes && room <= 2*max(bytes, size) {
			c.buffer = c.buffer[:0]
			return c
		}
	}
	return &chunk{buffer: make([]byte, 0, max(bytes, size))}
}

// unpack uncompresses the chunk record in the loader's buffer into c.records, as
// far as it goes.
func (l *chunkLoader) unpack(c *chunk, cut bool) error {
	const fixed = recordHeaderSize + 8 + 8 + 8 + 4 + 4
	record := l.buffer
	short := func() error {
		if cut {
			return fmt.Errorf("%w: the file ends within a chunk", ErrTruncated)
		}
		return fmt.Errorf("%w: chunk record of %d bytes", ErrCorrupt, len(record))
	}
	if len(record) < fixed || mcap.OpCode(record[0]) != mcap.OpChunk {
		return short()
	}
	size := binary.LittleEndian.Uint64(record[recordHeaderSize+16:])
	sum := binary.LittleEndian.Uint32(record[recordHeaderSize+24:])
	nameLength := binary.LittleEndian.Uint32(record[recordHeaderSize+28:])
	rest := record[fixed:]
	if uint64(nameLength)+8 > uint64(len(rest)) {
		return short()
	}
	format := string(rest[:nameLength])
	length := binary.LittleEndian.Uint64(rest[nameLength:])
	rest = rest[nameLength+8:]
	if length > uint64(len(rest)) {
		if !cut {
			return short()
		}
		length = uint64(len(rest))
	}
	if size > maxChunkSize {
		return fmt.Errorf("%w: a chunk of %d bytes, read are up to %d", ErrCorrupt, size, maxChunkSize)
	}
	var err error
	if format == formatNone {
		l.adopt(c, rest[:min(size, length)])
		if size > length {
			err = io.EOF
		}
	} else {
		err = l.uncompress(c, format, rest[:length], int64(size))
	}
	switch {
	case cut:
		return short() // the file ends, what there is of it is good
	case err == nil && (sum == 0 || sum == crc32.ChecksumIEEE(c.records)):
		return nil
	case err == nil:
		err = fmt.Errorf("%w: chunk with a wrong checksum", ErrCorrupt)
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		err = fmt.Errorf("%w: chunk holds %d of %d bytes", ErrCorrupt, len(c.records), size)
	default:
		err = fmt.Errorf("%w: chunk: %w", ErrCorrupt, err)
	}
	if sum != 0 {
		// Any of it may be wrong, and a wrong joint angle is worse than none.
		c.records = nil
	}
	return err
}

func (l *chunkLoader) uncompress(c *chunk, format string, data []byte, size int64) error {
	l.source.Reset(data)
	source, err := l.decoders.reader(format, &l.source)
	if err != nil {
		return err // that of an unknown compression is damage too, of this chunk
	}
	// What the file says is believed as far as its data may hold that much; beyond,
	// the memory grows with what is really there.
	believed := int(min(size, 64*int64(len(data))))
	c.buffer = slices.Grow(c.buffer[:0], believed)[:believed]
	n, err := io.ReadFull(source, c.buffer)
	c.buffer = c.buffer[:n]
	if err == nil && int64(n) < size {
		out := bytes.NewBuffer(c.buffer)
		_, err = io.CopyN(out, source, size-int64(n))
		c.buffer = out.Bytes()
	}
	c.records = c.buffer
	return err
}

// list finds the messages in a chunk, and takes its schemas and channels into
// the index.
func (l *chunkLoader) list(c *chunk) error {
	unknown := 0
	err := eachRecord(c.records, func(op mcap.OpCode, offset int, body []byte) error {
		if op != mcap.OpMessage {
			return l.index.define(op, body)
		}
		if len(body) < messageFixedSize {
			return io.ErrUnexpectedEOF
		}
		channel := binary.LittleEndian.Uint16(body)
		if l.index.channels[channel] == nil {
			unknown++
			return nil
		}
		start := offset + recordHeaderSize + messageFixedSize
		c.entries = append(c.entries, entry{
			time:    binary.LittleEndian.Uint64(body[6:]),
			start:   uint32(start),
			end:     uint32(offset + recordHeaderSize + len(body)),
			channel: channel,
		})
		return nil
	})
	if err == nil && unknown > 0 {
		err = fmt.Errorf("%w: %d messages of channels that are not defined", ErrCorrupt, unknown)
	}
	return err
}
