package bag

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"slices"

	"github.com/foxglove/mcap/go/mcap"
)

// The layout that is read here, beside what mcap's parsers know, is that of the
// MCAP specification, https://mcap.dev/spec: records of a one-byte opcode, an
// eight-byte length and that many bytes.
const (
	recordHeaderSize = 1 + 8
	footerSize       = recordHeaderSize + 8 + 8 + 4
	messageFixedSize = 2 + 4 + 8 + 8 // before a message's data
	// maxSummarySize bounds the memory for a file's index: a day of chunks is about
	// 10 MB.
	maxSummarySize = 256 << 20
	// maxChunkSize bounds the memory for one chunk, uncompressed.
	maxChunkSize = 1 << 30
	// maxWindow bounds the memory for uncompressing with zstd: that of its level 22.
	maxWindow = 128 << 20
	// bareRun is how many bytes of messages outside chunks are taken as one chunk.
	bareRun = 1 << 20
)

// mcapMagic is what an MCAP file begins and ends with.
func mcapMagic() []byte { return mcap.Magic }

// mcapFile is a file's index: read from its summary, or made by a scan.
type mcapFile struct {
	path     string
	size     int64
	schemas  map[uint16]*mcap.Schema
	channels map[uint16]*mcap.Channel
	chunks   []chunkRef // by the time of their first message
	sum      summary
	damage   *DamagedError // what a scan found; Read is not set
}

// chunkRef is where a chunk lies: a chunk record, or a run of records outside of
// chunks, which is read as if it were one.
type chunkRef struct {
	offset, length int64 // of the records, headers included
	start          uint64
	bare           bool
	cut            bool // the file ends within it
}

// openMCAP reads the index of f, or makes one.
func openMCAP(f *os.File) (*mcapFile, error) {
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := &mcapFile{path: f.Name(), size: stat.Size()}
	m.reset()
	counts, err := m.readSummary(f)
	if err != nil {
		// Whatever is wrong with the summary, the data before it may be whole.
		m.reset()
		if counts, err = m.scan(f); err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(m.chunks, func(a, b chunkRef) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	for id, c := range m.channels {
		m.sum.topics = append(m.sum.topics, m.topic(c, counts[id]))
	}
	m.sum.path = m.path
	return m, nil
}

func (m *mcapFile) reset() {
	m.schemas = map[uint16]*mcap.Schema{}
	m.channels = map[uint16]*mcap.Channel{}
	m.chunks = nil
	m.sum = summary{}
}

func (m *mcapFile) summary() *summary { return &m.sum }

func (m *mcapFile) topic(c *mcap.Channel, count uint64) Topic {
	t := Topic{Name: c.Topic, Count: count, Format: c.MessageEncoding, QoS: c.Metadata["offered_qos_profiles"]}
	if s := m.schemas[c.SchemaID]; s != nil {
		t.Type = s.Name
		if s.Encoding == "ros2msg" {
			t.Definition = string(s.Data)
		}
	}
	return t
}

func (m *mcapFile) see(start, end uint64) {
	if s := fromNanoseconds(start); m.sum.start.IsZero() || s.Before(m.sum.start) {
		m.sum.start = s
	}
	if e := fromNanoseconds(end); m.sum.end.IsZero() || e.After(m.sum.end) {
		m.sum.end = e
	}
}

// readSummary fills the index from the summary section at the file's end, and
// returns the number of messages by channel. An error means that there is none
// that can be relied on.
func (m *mcapFile) readSummary(f *os.File) (map[uint16]uint64, error) {
	tail := make([]byte, footerSize+len(mcap.Magic))
	if m.size < int64(len(tail)+len(mcap.Magic)) {
		return nil, errors.New("too short for a footer")
	}
	if _, err := f.ReadAt(tail, m.size-int64(len(tail))); err != nil {
		return nil, err
	}
	if mcap.OpCode(tail[0]) != mcap.OpFooter || !bytes.HasSuffix(tail, mcap.Magic) {
		return nil, errors.New("no footer")
	}
	footer, err := mcap.ParseFooter(tail[recordHeaderSize:footerSize])
	if err != nil {
		return nil, err
	}
	start, end := footer.SummaryStart, uint64(m.size)-uint64(len(tail))
	if start < uint64(len(mcap.Magic)) || start > end || end-start > maxSummarySize {
		return nil, errors.New("no summary")
	}
	section := make([]byte, end-start)
	if _, err := f.ReadAt(section, int64(start)); err != nil {
		return nil, err
	}
	sum := crc32.NewIEEE()
	sum.Write(section)
	sum.Write(tail[:footerSize-4])
	if footer.SummaryCRC != 0 && footer.SummaryCRC != sum.Sum32() {
		return nil, errors.New("summary with a wrong checksum")
	}
	var statistics *mcap.Statistics
	if err := eachRecord(section, func(op mcap.OpCode, _ int, body []byte) error {
		switch op {
		case mcap.OpStatistics:
			statistics, err = mcap.ParseStatistics(body)
			return err
		case mcap.OpChunkIndex:
			return m.addChunkIndex(body)
		}
		return m.define(op, body)
	}); err != nil {
		return nil, err
	}
	if statistics == nil || int(statistics.ChunkCount) != len(m.chunks) || statistics.MessageCount > 0 && len(m.chunks) == 0 {
		return nil, errors.New("no complete index")
	}
	if statistics.MessageCount > 0 {
		m.see(statistics.MessageStartTime, statistics.MessageEndTime)
	}
	return statistics.ChannelMessageCounts, nil
}

func (m *mcapFile) addChunkIndex(body []byte) error {
	c, err := mcap.ParseChunkIndex(body)
	if err != nil {
		return err
	}
	if c.ChunkStartOffset > uint64(m.size) || c.ChunkLength > uint64(m.size)-c.ChunkStartOffset {
		return errors.New("a chunk beyond the file's end")
	}
	m.chunks = append(m.chunks, chunkRef{offset: int64(c.ChunkStartOffset), length: int64(c.ChunkLength), start: c.MessageStartTime})
	return nil
}

// define takes a schema or channel record into the index.
func (m *mcapFile) define(op mcap.OpCode, body []byte) error {
	switch op {
	case mcap.OpSchema:
		s, err := mcap.ParseSchema(body)
		if err != nil {
			return err
		}
		m.schemas[s.ID] = &mcap.Schema{ID: s.ID, Name: s.Name, Encoding: s.Encoding, Data: bytes.Clone(s.Data)}
	case mcap.OpChannel:
		c, err := mcap.ParseChannel(body)
		if err != nil {
			return err
		}
		m.channels[c.ID] = c
	}
	return nil
}

// scan makes an index by going through the whole file, and notes where it stops
// making sense.
func (m *mcapFile) scan(f *os.File) (map[uint16]uint64, error) {
	counts := map[uint16]uint64{}
	loader := chunkLoader{index: m, file: f}
	add := func(ref chunkRef) error {
		chunk := loader.load(ref)
		if chunk.err != nil && !errors.Is(chunk.err, ErrTruncated) && !errors.Is(chunk.err, ErrCorrupt) {
			return chunk.err // the disk's, not the data's
		}
		if len(chunk.entries) > 0 {
			// entries are in the order of time
			ref.start = chunk.entries[0].time
			m.see(ref.start, chunk.entries[len(chunk.entries)-1].time)
			m.chunks = append(m.chunks, ref)
		}
		for _, e := range chunk.entries {
			counts[e.channel]++
		}
		if chunk.err != nil {
			m.note(ref.offset, chunk.err)
		}
		loader.recycle(chunk)
		return nil
	}
	bare := chunkRef{bare: true}
	flush := func() error {
		if bare.length == 0 {
			return nil
		}
		ref := bare
		bare = chunkRef{bare: true}
		return add(ref)
	}
	header := make([]byte, recordHeaderSize)
	offset := int64(len(mcap.Magic))
	for {
		if _, err := f.ReadAt(header, offset); err == io.EOF {
			m.note(offset, fmt.Errorf("%w: the file ends before its footer", ErrTruncated))
			return counts, flush()
		} else if err != nil {
			return nil, err
		}
		op, length := mcap.OpCode(header[0]), binary.LittleEndian.Uint64(header[1:])
		left := m.size - offset - recordHeaderSize
		ref := chunkRef{offset: offset, length: recordHeaderSize + int64(min(length, uint64(left))), cut: length > uint64(left)}
		switch op {
		case mcap.OpDataEnd, mcap.OpFooter:
			return counts, flush()
		case mcap.OpReserved:
			m.note(offset, fmt.Errorf("%w: no MCAP record here", ErrCorrupt))
			return counts, flush()
		case mcap.OpChunk:
			if err := flush(); err != nil {
				return nil, err
			}
			if err := add(ref); err != nil {
				return nil, err
			}
		case mcap.OpSchema, mcap.OpChannel, mcap.OpMessage:
			if ref.cut {
				break
			}
			if bare.length == 0 {
				bare.offset = offset
			}
			// Other records may lie between; they are skipped when the run is read.
			bare.length = offset + ref.length - bare.offset
			if bare.length >= bareRun {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
		if ref.cut {
			m.note(offset, fmt.Errorf("%w: the file ends within a %s record", ErrTruncated, op))
			return counts, flush()
		}
		offset += ref.length
	}
}

// note keeps the first damage.
func (m *mcapFile) note(offset int64, err error) {
	if m.damage == nil {
		m.damage = &DamagedError{File: m.path, Offset: offset, Err: err}
	}
}

// eachRecord walks the records in data. Its errors are ErrCorrupt, or the
// visitor's.
func eachRecord(data []byte, visit func(op mcap.OpCode, offset int, body []byte) error) error {
	for offset := 0; offset < len(data); {
		rest := data[offset:]
		if len(rest) < recordHeaderSize {
			return fmt.Errorf("%w: %d bytes of a record", ErrCorrupt, len(rest))
		}
		op, length := mcap.OpCode(rest[0]), binary.LittleEndian.Uint64(rest[1:])
		rest = rest[recordHeaderSize:]
		if length > uint64(len(rest)) {
			return fmt.Errorf("%w: a %s record of %d bytes, %d left", ErrCorrupt, op, length, len(rest))
		}
		if err := visit(op, offset, rest[:length]); err != nil {
			return fmt.Errorf("%w: %s record: %w", ErrCorrupt, op, err)
		}
		offset += recordHeaderSize + int(length)
	}
	return nil
}

func (m *mcapFile) messages(ctx context.Context) (cursor, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	c := &mcapCursor{file: f, loader: chunkLoader{index: m, file: f}, waiting: m.chunks}
	if m.damage != nil {
		damage := *m.damage
		c.damage = &damage
	}
	return c, nil
}
