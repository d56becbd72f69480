package bag

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
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
	offset int64  // of the first record, its header included
	start  uint64 // time of the first message
	length uint32 // of the records, headers included; math.MaxUint32 for all above
	bare   bool
	cut    bool // the file ends within it
}

func newChunkRef(offset int64, length uint64) chunkRef {
	return chunkRef{offset: offset, length: uint32(min(length, math.MaxUint32))}
}

// before says whether a message of r at time comes before one of other.
func (r chunkRef) before(time uint64, other chunkRef, otherTime uint64) bool {
	return cmp.Or(cmp.Compare(time, otherTime), cmp.Compare(r.offset, other.offset)) < 0
}

// openMCAP reads the index of a file, or makes one.
func openMCAP(path string) (*mcapFile, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, err
	}
	m := &mcapFile{path: path, size: stat.Size()}
	m.reset()
	counts, err := m.readSummary(f)
	if err != nil {
		// Whatever is wrong with the summary, the data before it may be whole.
		m.reset()
		if counts, err = m.scan(f); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(m.chunks, func(a, b chunkRef) int {
		return cmp.Or(cmp.Compare(a.start, b.start), cmp.Compare(a.offset, b.offset))
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
	m.sum = summary{total: -1}
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
	sum := crc32.NewIEEE()
	section := bufio.NewReaderSize(io.TeeReader(io.NewSectionReader(f, int64(start), int64(end-start)), sum), 64<<10)
	var statistics *mcap.Statistics
	if err := streamRecords(section, end-start, func(op mcap.OpCode, body []byte) error {
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
	sum.Write(tail[:footerSize-4])
	if footer.SummaryCRC != 0 && footer.SummaryCRC != sum.Sum32() {
		return nil, errors.New("summary with a wrong checksum")
	}
	if statistics == nil || int(statistics.ChunkCount) != len(m.chunks) || statistics.MessageCount > 0 && len(m.chunks) == 0 ||
		// Channels that only the chunks define would be unknown to a chunk that comes
		// first in time and not in the file.
		int(statistics.ChannelCount) > len(m.channels) || int(statistics.SchemaCount) > len(m.schemas) {
		return nil, errors.New("no complete index")
	}
	m.sum.total = int64(min(statistics.MessageCount, math.MaxInt64))
	if statistics.MessageCount > 0 {
		m.sum.see(statistics.MessageStartTime, statistics.MessageEndTime)
	}
	return statistics.ChannelMessageCounts, nil
}

func (m *mcapFile) addChunkIndex(body []byte) error {
	// Its first fields, which is all of it that is needed here and in a large file
	// much less than mcap's parser gives.
	if len(body) < 8+8+8+8 {
		return io.ErrUnexpectedEOF
	}
	start, offset, length := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[16:]), binary.LittleEndian.Uint64(body[24:])
	if offset > uint64(m.size) || length > uint64(m.size)-offset {
		return errors.New("a chunk beyond the file's end")
	}
	ref := newChunkRef(int64(offset), length)
	ref.start = start
	m.chunks = append(m.chunks, ref)
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

// streamRecords walks the records in the next size bytes of r without having them
// all in memory. A body is valid during the visit.
func streamRecords(r io.Reader, size uint64, visit func(op mcap.OpCode, body []byte) error) error {
	var header [recordHeaderSize]byte
	var body []byte
	for size > 0 {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return err
		}
		length := binary.LittleEndian.Uint64(header[1:])
		if size < recordHeaderSize || length > size-recordHeaderSize {
			return errors.New("a record beyond the summary's end")
		}
		size -= recordHeaderSize + length
		body = slices.Grow(body[:0], int(length))[:length]
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		if err := visit(mcap.OpCode(header[0]), body); err != nil {
			return err
		}
	}
	return nil
}

func (m *mcapFile) messages(ctx context.Context, memory int) (cursor, error) {
	f, err := os.Open(m.path)
	if err != nil {
		return nil, err
	}
	c := &mcapCursor{file: f, loader: chunkLoader{index: m, file: f}, limit: memory, fresh: m.chunks}
	if m.damage != nil {
		damage := *m.damage
		c.damage = &damage
	}
	return c, nil
}
