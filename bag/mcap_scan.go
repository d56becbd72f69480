package bag

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/foxglove/mcap/go/mcap"
)

// scan makes an index by going through the whole file, and notes where it stops
// making sense. Behind bytes that make none it goes on with the next chunk. It
// returns the number of messages by channel.
func (m *mcapFile) scan(f *os.File) (map[uint16]uint64, error) {
	s := mcapScan{mcapFile: m, file: f, loader: chunkLoader{index: m, file: f}, counts: map[uint16]uint64{}, known: true}
	defer s.loader.close()
	err := s.run()
	s.settle()
	if s.known {
		m.sum.total = s.total
	}
	return s.counts, err
}

// mcapScan is the state of a scan.
type mcapScan struct {
	*mcapFile
	file   *os.File
	loader chunkLoader
	counts map[uint16]uint64

	bare    chunkRef // records outside chunks that are not indexed yet
	total   int64    // messages that the file has had so far
	known   bool     // nothing says that there were more
	damaged bool     // the last chunk was
	listed  int64    // messages of the last chunk that could be read
	indexed int64    // messages of the last chunk by the index records behind it
}

func (s *mcapScan) run() error {
	header := make([]byte, recordHeaderSize)
	offset := int64(len(mcap.Magic))
	for {
		if _, err := s.file.ReadAt(header, offset); err == io.EOF {
			s.known = false
			s.note(offset, fmt.Errorf("%w: the file ends before its footer", ErrTruncated))
			return s.flush()
		} else if err != nil {
			return err
		}
		op, length := mcap.OpCode(header[0]), binary.LittleEndian.Uint64(header[1:])
		left := s.size - offset - recordHeaderSize
		ref := newChunkRef(offset, recordHeaderSize+min(length, uint64(left)))
		ref.cut = length > uint64(left)
		switch op {
		case mcap.OpDataEnd, mcap.OpFooter:
			return s.flush()
		case mcap.OpChunk:
			if err := s.flush(); err != nil {
				return err
			}
			if err := s.add(ref); err != nil {
				return err
			}
		case mcap.OpMessageIndex:
			if err := s.countIndexed(offset); err != nil {
				return err
			}
		case mcap.OpSchema, mcap.OpChannel, mcap.OpMessage:
			if ref.cut {
				break
			}
			if s.bare.length == 0 {
				s.bare.offset = offset
			}
			// Other records may lie between; they are skipped when the run is read.
			s.bare = newChunkRef(s.bare.offset, uint64(offset-s.bare.offset)+recordHeaderSize+length)
			s.bare.bare = true
			if s.bare.length >= bareRun {
				if err := s.flush(); err != nil {
					return err
				}
			}
		}
		if !ref.cut && op != mcap.OpReserved {
			offset += recordHeaderSize + int64(length)
			continue
		}
		s.known = false
		if err := s.flush(); err != nil {
			return err
		}
		next, err := s.nextChunk(offset + 1)
		switch {
		case err != nil:
			return err
		case next < 0 && op == mcap.OpReserved:
			s.note(offset, fmt.Errorf("%w: no MCAP record here, nor in the %d bytes behind", ErrCorrupt, left+recordHeaderSize))
			return nil
		case next < 0:
			s.note(offset, fmt.Errorf("%w: the file ends within a %s record of %d bytes, %d are there", ErrTruncated, op, length, left))
			return nil
		}
		s.note(offset, fmt.Errorf("%w: %d bytes are no MCAP records", ErrCorrupt, next-offset))
		offset = next
	}
}

// add indexes a chunk as far as it can be read.
func (s *mcapScan) add(ref chunkRef) error {
	s.settle()
	chunk := s.loader.load(ref)
	if chunk.err != nil && !errors.Is(chunk.err, ErrTruncated) && !errors.Is(chunk.err, ErrCorrupt) {
		return chunk.err // the disk's, not the data's
	}
	if n := len(chunk.entries); n > 0 {
		// entries are in the order of time
		ref.start = chunk.entries[0].time
		s.sum.see(ref.start, chunk.entries[n-1].time)
		s.chunks = append(s.chunks, ref)
	}
	for _, e := range chunk.entries {
		s.counts[e.channel]++
	}
	s.total += int64(len(chunk.entries))
	if chunk.err != nil {
		s.note(ref.offset, chunk.err)
		s.damaged, s.listed = true, int64(len(chunk.entries))
	}
	s.loader.recycle(chunk)
	return nil
}

// settle counts what the last chunk has lost.
func (s *mcapScan) settle() {
	if s.damaged {
		if s.indexed > s.listed {
			s.total += s.indexed - s.listed
		} else {
			s.known = false
		}
	}
	s.damaged, s.indexed = false, 0
}

// countIndexed reads how many messages a message index record has.
func (s *mcapScan) countIndexed(offset int64) error {
	// A channel's number and the length of an array of times and offsets.
	var begin [2 + 4]byte
	switch _, err := s.file.ReadAt(begin[:], offset+recordHeaderSize); err {
	case nil:
		s.indexed += int64(binary.LittleEndian.Uint32(begin[2:]) / (8 + 8))
		return nil
	case io.EOF:
		return nil
	default:
		return err
	}
}

// flush indexes the records outside chunks that came so far.
func (s *mcapScan) flush() error {
	if s.bare.length == 0 {
		return nil
	}
	ref := s.bare
	s.bare = chunkRef{}
	return s.add(ref)
}

// nextChunk returns where, at offset or behind, something lies that can only be a
// whole chunk record, -1 if nothing does.
func (s *mcapScan) nextChunk(offset int64) (int64, error) {
	const most = recordHeaderSize + 8 + 8 + 8 + 4 + 4 + 4 + 8 // of the fields that are looked at
	block := make([]byte, 1<<20)
	for {
		n, err := s.file.ReadAt(block, offset)
		if err != nil && err != io.EOF {
			return 0, err
		}
		for at := 0; ; at++ {
			found := bytes.IndexByte(block[at:n], byte(mcap.OpChunk))
			if found < 0 || at+found+most > n {
				break
			}
			at += found
			if looksLikeChunk(block[at:n], s.size-offset-int64(at)) {
				return offset + int64(at), nil
			}
		}
		if err == io.EOF || n < len(block) {
			return -1, nil
		}
		offset += int64(n - most + 1)
	}
}

// looksLikeChunk checks the fields of a chunk record against each other; left is
// how many bytes the file has from there.
func looksLikeChunk(record []byte, left int64) bool {
	length := binary.LittleEndian.Uint64(record[1:])
	body := record[recordHeaderSize:]
	start, end, size := binary.LittleEndian.Uint64(body), binary.LittleEndian.Uint64(body[8:]), binary.LittleEndian.Uint64(body[16:])
	nameLength := binary.LittleEndian.Uint32(body[28:])
	if start > end || size > maxChunkSize || nameLength > 4 || length > uint64(left-recordHeaderSize) {
		return false
	}
	switch string(body[32:][:nameLength]) {
	case formatNone, formatZstd, formatLZ4:
		return binary.LittleEndian.Uint64(body[32+nameLength:])+8+8+8+4+4+uint64(nameLength)+8 == length
	}
	return false
}

// note keeps the first damage.
func (s *mcapScan) note(offset int64, err error) {
	if s.damage == nil {
		s.damage = &DamagedError{File: s.path, Offset: offset, Err: err}
	}
}
