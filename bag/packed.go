package bag

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// packedFile is a storage file that was compressed whole, as rosbag2 does with
// compression_mode FILE. Neither storage can be read from the middle of a
// stream, so that it is unpacked into the directory for temporary files (the
// environment's TMPDIR) while it is opened and while it is walked.
type packedFile struct {
	path string
	sum  summary
}

func openPacked(path string) (*packedFile, error) {
	plain, err := unpackFile(context.Background(), path)
	if err != nil {
		return nil, err
	}
	defer plain.remove()
	inner, err := openPlain(plain.path)
	if err != nil {
		return nil, plain.rename(err)
	}
	f := &packedFile{path: path, sum: *inner.summary()}
	f.sum.path = path
	return f, nil
}

func (f *packedFile) summary() *summary { return &f.sum }

func (f *packedFile) messages(ctx context.Context, memory int) (cursor, error) {
	plain, err := unpackFile(ctx, f.path)
	if err != nil {
		return nil, err
	}
	// The cursor has the file open; without a name it goes when the process does,
	// however that ends.
	defer plain.remove()
	inner, err := openPlain(plain.path)
	if err != nil {
		return nil, plain.rename(err)
	}
	c, err := inner.messages(ctx, memory)
	if err != nil {
		return nil, plain.rename(err)
	}
	return &packedCursor{cursor: c, plain: plain}, nil
}

// packedCursor walks an unpacked file.
type packedCursor struct {
	cursor
	plain *unpackedFile
	read  uint64
}

func (c *packedCursor) next(m *Message) error {
	err := c.cursor.next(m)
	switch {
	case err == nil:
		c.read++
		return nil
	case err == io.EOF && c.plain.damage != nil:
		return &DamagedError{File: c.plain.packed, Offset: -1, Read: c.read, Err: c.plain.damage}
	case err == io.EOF:
		return err
	}
	return c.plain.rename(err)
}

// unpackedFile is what a compressed file holds, as a temporary file.
type unpackedFile struct {
	packed string
	path   string
	damage error // why that is not all
}

func (u *unpackedFile) remove() { os.RemoveAll(filepath.Dir(u.path)) }

// rename makes damage of the temporary file that of the compressed one.
func (u *unpackedFile) rename(err error) error {
	var damage *DamagedError
	if !errors.As(err, &damage) {
		return fmt.Errorf("%s, unpacked: %w", filepath.Base(u.packed), err)
	}
	renamed := *damage
	renamed.File, renamed.Offset = u.packed, -1
	if u.damage != nil {
		renamed.Err = fmt.Errorf("%w; %w", u.damage, damage.Err)
	}
	return &renamed
}

// unpackFile writes what the file at path holds, as far as it goes, into a
// temporary file.
func unpackFile(ctx context.Context, path string) (_ *unpackedFile, err error) {
	source, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer source.Close()
	begin := make([]byte, 4)
	if _, err := io.ReadFull(source, begin); err != nil {
		return nil, err
	}
	if _, err := source.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	var decoders uncompressor
	defer decoders.close()
	reader, err := decoders.reader(packed(begin), &cancelled{ctx, source})
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "ddvla-bag-")
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", filepath.Base(path), err)
	}
	u := &unpackedFile{packed: path, path: filepath.Join(dir, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))}
	defer func() {
		if err != nil {
			u.remove()
		}
	}()
	out, err := os.Create(u.path)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	disk := &failing{Writer: out}
	_, err = io.CopyBuffer(disk, struct{ io.Reader }{reader}, make([]byte, 1<<20))
	switch {
	case disk.err != nil:
		return nil, fmt.Errorf("unpacking %s needs room in %s; set TMPDIR to a directory that has it: %w", filepath.Base(path), os.TempDir(), disk.err)
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, io.ErrUnexpectedEOF):
		u.damage = fmt.Errorf("%w: the file ends within its compressed data", ErrTruncated)
	case err != nil:
		u.damage = fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	return u, nil
}

// cancelled is a reader that ends with its context.
type cancelled struct {
	ctx context.Context
	io.Reader
}

func (c *cancelled) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.Reader.Read(p)
}

// failing remembers why writing failed.
type failing struct {
	io.Writer
	err error
}

func (f *failing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	f.err = err
	return n, err
}

// packedMessages is a storage file whose messages were compressed one by one, as
// rosbag2 does with compression_mode MESSAGE.
type packedMessages struct {
	storage
	// format of every message; empty where no metadata.yaml tells, which a recorder
	// that was killed leaves: then what begins as compressed is, as no CDR does.
	format string
}

func (f packedMessages) messages(ctx context.Context, memory int) (cursor, error) {
	c, err := f.storage.messages(ctx, memory)
	if err != nil {
		return nil, err
	}
	return &unpackingCursor{cursor: c, file: f.summary().path, format: f.format}, nil
}

// unpackingCursor uncompresses the messages of another cursor.
type unpackingCursor struct {
	cursor
	file     string
	format   string
	decoders uncompressor
	data     []byte
	read     uint64
	damage   *DamagedError
}

func (c *unpackingCursor) next(m *Message) error {
	for {
		if err := c.cursor.next(m); err != nil {
			return c.end(err)
		}
		format := packed(m.Data)
		if c.format == formatNone && format == formatNone {
			c.read++
			return nil
		}
		err := c.unpack(format, m.Data)
		switch {
		case err == nil:
			m.Data = c.data
		case c.format == formatNone: // it only looked like it
		default:
			if c.damage == nil {
				c.damage = &DamagedError{File: c.file, Offset: -1, Err: fmt.Errorf("%w: message on %s at %v: %w", ErrCorrupt, m.Topic, m.Time, err)}
			}
			continue
		}
		c.read++
		return nil
	}
}

// end adds to how the walk ended what this cursor has seen.
func (c *unpackingCursor) end(err error) error {
	var damage *DamagedError
	switch {
	case errors.As(err, &damage):
		damage.Read = c.read
		return err
	case err == io.EOF && c.damage != nil:
		c.damage.Read = c.read
		return c.damage
	}
	return err
}

// unpack uncompresses one message into c.data.
func (c *unpackingCursor) unpack(format string, packed []byte) error {
	if format == formatNone {
		return fmt.Errorf("begins neither as zstd nor as lz4, metadata.yaml says %s", c.format)
	}
	var err error
	c.data, err = c.decoders.all(format, packed, c.data[:0])
	return err
}

func (c *unpackingCursor) close() error {
	c.decoders.close()
	return c.cursor.close()
}
