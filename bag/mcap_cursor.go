package bag

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/foxglove/mcap/go/mcap"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// mcapCursor walks a file's messages in the order of time. Chunks may overlap in
// time: all those are in memory that the time has reached and whose last message
// it has not, for a recording usually one or two.
type mcapCursor struct {
	file    *os.File
	loader  chunkLoader
	waiting []chunkRef
	loaded  []*chunk // in the order they were loaded
	given   *chunk   // whose message the caller has
	read    uint64
	damage  *DamagedError
}

func (c *mcapCursor) next(m *Message) error {
	if c.given != nil && c.given.at == len(c.given.entries) {
		c.loaded = slices.DeleteFunc(c.loaded, func(other *chunk) bool { return other == c.given })
		c.loader.recycle(c.given)
	}
	c.given = nil
	for {
		var first *chunk
		for _, loaded := range c.loaded {
			if first == nil || loaded.head().time < first.head().time {
				first = loaded
			}
		}
		if len(c.waiting) > 0 && (first == nil || c.waiting[0].start <= first.head().time) {
			if err := c.load(); err != nil {
				return err
			}
			continue
		}
		switch {
		case first != nil:
			c.give(m, first)
			return nil
		case c.damage != nil:
			damage := *c.damage
			damage.Read = c.read
			return &damage
		}
		return io.EOF
	}
}

// load takes the next waiting chunk into memory. Damage ends the chunk, not the
// walk.
func (c *mcapCursor) load() error {
	ref := c.waiting[0]
	c.waiting = c.waiting[1:]
	loaded := c.loader.load(ref)
	if err := loaded.err; err != nil {
		if !errors.Is(err, ErrTruncated) && !errors.Is(err, ErrCorrupt) {
			return fmt.Errorf("%s: %w", c.file.Name(), err)
		}
		if c.damage == nil {
			c.damage = &DamagedError{File: c.file.Name(), Offset: ref.offset, Err: err}
		}
	}
	if len(loaded.entries) == 0 {
		c.loader.recycle(loaded)
		return nil
	}
	c.loaded = append(c.loaded, loaded)
	return nil
}

func (c *mcapCursor) give(m *Message, from *chunk) {
	e := from.head()
	from.at++
	c.given = from
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

// chunk is a chunk in memory.
type chunk struct {
	records []byte // uncompressed
	entries []entry
	at      int   // the next entry
	err     error // what is wrong with it behind the entries; ErrTruncated or ErrCorrupt unless the disk failed
}

// entry is a message in a chunk.
type entry struct {
	time       uint64
	channel    uint16
	start, end int // of its data in records
}

func (c *chunk) head() entry { return c.entries[c.at] }

// chunkLoader reads chunks into memory that it uses again.
type chunkLoader struct {
	index      *mcapFile
	file       *os.File
	compressed []byte
	free       []*chunk
	zstd       *zstd.Decoder
	lz4        *lz4.Reader
}

func (l *chunkLoader) recycle(c *chunk) { l.free = append(l.free, c) }

func (l *chunkLoader) close() {
	if l.zstd != nil {
		l.zstd.Close()
	}
}

// load reads the chunk at ref and lists its messages in the order of time.
func (l *chunkLoader) load(ref chunkRef) *chunk {
	c := &chunk{}
	if n := len(l.free); n > 0 {
		c, l.free = l.free[n-1], l.free[:n-1]
		*c = chunk{records: c.records[:0], entries: c.entries[:0]}
	}
	if ref.length > maxChunkSize {
		c.err = fmt.Errorf("%w: a chunk of %d bytes, read are up to %d", ErrCorrupt, ref.length, maxChunkSize)
		return c
	}
	into := &l.compressed
	if ref.bare {
		into = &c.records
	}
	*into = slices.Grow((*into)[:0], int(ref.length))[:ref.length]
	if _, err := l.file.ReadAt(*into, ref.offset); err == io.EOF {
		c.err = fmt.Errorf("%w: the file ends within a chunk", ErrTruncated)
		return c
	} else if err != nil {
		c.err = err
		return c
	}
	if !ref.bare {
		c.err = l.unpack(c, l.compressed, ref.cut)
	}
	if err := l.list(c); err != nil && c.err == nil {
		c.err = err
	}
	slices.SortStableFunc(c.entries, func(a, b entry) int {
		switch {
		case a.time < b.time:
			return -1
		case a.time > b.time:
			return 1
		}
		return 0
	})
	return c
}

// unpack uncompresses a chunk record into c.records, as far as it goes.
func (l *chunkLoader) unpack(c *chunk, record []byte, cut bool) error {
	const fixed = recordHeaderSize + 8 + 8 + 8 + 4 + 4
	short := fmt.Errorf("%w: chunk record of %d bytes", ErrCorrupt, len(record))
	if cut {
		short = fmt.Errorf("%w: the file ends within a chunk", ErrTruncated)
	}
	if len(record) < fixed || mcap.OpCode(record[0]) != mcap.OpChunk {
		return short
	}
	size := binary.LittleEndian.Uint64(record[recordHeaderSize+16:])
	sum := binary.LittleEndian.Uint32(record[recordHeaderSize+24:])
	nameLength := binary.LittleEndian.Uint32(record[recordHeaderSize+28:])
	rest := record[fixed:]
	if uint64(nameLength)+8 > uint64(len(rest)) {
		return short
	}
	name := mcap.CompressionFormat(rest[:nameLength])
	length := binary.LittleEndian.Uint64(rest[nameLength:])
	rest = rest[nameLength+8:]
	if length > uint64(len(rest)) {
		if !cut {
			return short
		}
		length = uint64(len(rest))
	}
	if size > maxChunkSize {
		return fmt.Errorf("%w: a chunk of %d bytes, read are up to %d", ErrCorrupt, size, maxChunkSize)
	}
	source, err := l.uncompressor(name, bytes.NewReader(rest[:length]))
	if err != nil {
		return err
	}
	// The memory grows with what is really there, not with what the file says.
	out := bytes.NewBuffer(c.records[:0])
	_, err = io.CopyN(out, source, int64(size))
	c.records = out.Bytes()
	switch {
	case cut:
		return short
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return fmt.Errorf("%w: chunk holds %d of %d bytes", ErrCorrupt, len(c.records), size)
	case err != nil:
		return fmt.Errorf("%w: chunk: %w", ErrCorrupt, err)
	case sum != 0 && sum != crc32.ChecksumIEEE(c.records):
		return fmt.Errorf("%w: chunk with a wrong checksum", ErrCorrupt)
	}
	return nil
}

func (l *chunkLoader) uncompressor(name mcap.CompressionFormat, source io.Reader) (io.Reader, error) {
	switch name {
	case mcap.CompressionNone:
		return source, nil
	case mcap.CompressionZSTD:
		if l.zstd == nil {
			decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxChunkSize), zstd.WithDecoderMaxWindow(maxWindow))
			if err != nil {
				return nil, err
			}
			l.zstd = decoder
		}
		if err := l.zstd.Reset(source); err != nil {
			return nil, fmt.Errorf("%w: chunk: %w", ErrCorrupt, err)
		}
		return l.zstd, nil
	case mcap.CompressionLZ4:
		if l.lz4 == nil {
			l.lz4 = lz4.NewReader(nil)
		}
		l.lz4.Reset(source)
		return l.lz4, nil
	}
	return nil, fmt.Errorf("%w: chunk with unknown compression %q", ErrCorrupt, string(name))
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
			channel: channel,
			start:   start,
			end:     offset + recordHeaderSize + len(body),
		})
		return nil
	})
	if err == nil && unknown > 0 {
		err = fmt.Errorf("%w: %d messages of channels that are not defined", ErrCorrupt, unknown)
	}
	return err
}
