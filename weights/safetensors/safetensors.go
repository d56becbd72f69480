// Package safetensors reads checkpoint weights: one model.safetensors, or the
// shards that a model.safetensors.index.json names. Headers are read whole and
// checked before anything is allocated from what they say; tensors are read one
// at a time, as float32.
//
// The format is an 8-byte little-endian header length, a JSON header and the
// tensors' bytes, without gaps (huggingface/safetensors).
package safetensors

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
)

// ErrFormat marks a file that is not a valid safetensors file or index.
var ErrFormat = errors.New("not a valid safetensors file")

const (
	// maxHeader is the limit of the reference implementation.
	maxHeader = 100_000_000
	// maxIndex bounds the index; a 7B model's has about 90 kB.
	maxIndex = 16 << 20

	singleFile = "model.safetensors"
	indexFile  = "model.safetensors.index.json"
)

// Reader gives access to the tensors of one or more files.
type Reader struct {
	tensors map[string]Tensor
	files   []string
	closers []io.Closer
}

// New reads the header of one file of the given size in bytes. name stands for
// it in errors.
func New(name string, r io.ReaderAt, size int64) (*Reader, error) {
	tensors, err := readHeader(name, r, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return &Reader{tensors: tensors, files: []string{name}}, nil
}

// Open opens one file of fsys; Close it after use. Its tensors are read at
// random, so fsys must give files that are an io.ReaderAt, as those of os are.
func Open(fsys fs.FS, name string) (*Reader, error) {
	f, size, err := openRegular(fsys, name)
	if err != nil {
		return nil, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: %T cannot be read at an offset", name, f), f.Close())
	}
	r, err := New(name, at, size)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closers = []io.Closer{f}
	return r, nil
}

// openRegular looks before it opens: opening a named pipe waits for a writer.
func openRegular(fsys fs.FS, name string) (fs.File, int64, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("%s: %w: not a regular file", name, ErrFormat)
	}
	f, err := fsys.Open(name)
	return f, info.Size(), err
}

// OpenDir opens the weights of a checkpoint directory. Where there is an index, it and
// the shards must list the same tensors, and weights beside it that it does not name
// are refused, since they may be the newer ones. Which links the names may follow is
// for fsys to say.
func OpenDir(fsys fs.FS) (*Reader, error) {
	index, err := readIndex(fsys)
	if errors.Is(err, fs.ErrNotExist) {
		r, err := Open(fsys, singleFile)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("there is neither %s nor %s: %w", singleFile, indexFile, err)
		}
		return r, err
	} else if err != nil {
		return nil, err
	}
	named := slices.Contains(slices.Collect(maps.Values(index)), singleFile)
	if _, err := fs.Stat(fsys, singleFile); !errors.Is(err, fs.ErrNotExist) && !named {
		return nil, fmt.Errorf("there are both %s and %s, which does not name it; move out the one that is not of this checkpoint", singleFile, indexFile)
	}
	return openShards(fsys, index)
}

func openShards(fsys fs.FS, index map[string]string) (_ *Reader, err error) {
	r := &Reader{tensors: make(map[string]Tensor, len(index)), files: []string{indexFile}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	shards := map[string]bool{}
	for _, shard := range index {
		shards[shard] = true
	}
	for _, shard := range sorted(shards) {
		if !fs.ValidPath(shard) || path.Base(shard) != shard || shard == "." {
			return nil, fmt.Errorf("%s: %w: %q is not the name of a file beside it", indexFile, ErrFormat, shard)
		}
		part, err := Open(fsys, shard)
		if err != nil {
			return nil, fmt.Errorf("%s names it: %w", indexFile, err)
		}
		r.closers = append(r.closers, part.closers...)
		r.files = append(r.files, part.files...)
		for _, name := range part.Names() {
			switch listed, ok := index[name]; {
			case !ok:
				return nil, fmt.Errorf("%s: %w: tensor %q of %s is not listed", indexFile, ErrFormat, name, shard)
			case listed != shard:
				return nil, fmt.Errorf("%s: %w: tensor %q of %s is listed in %q", indexFile, ErrFormat, name, shard, listed)
			}
			r.tensors[name] = part.tensors[name]
		}
	}
	for _, name := range sorted(index) {
		if _, ok := r.tensors[name]; !ok {
			return nil, fmt.Errorf("%s: %w: tensor %q is not in %s", indexFile, ErrFormat, name, index[name])
		}
	}
	return r, nil
}

// readIndex reads which shard holds which tensor. A tensor that is listed twice
// is refused.
func readIndex(fsys fs.FS) (map[string]string, error) {
	f, _, err := openRegular(fsys, indexFile)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxIndex {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", indexFile, ErrFormat, maxIndex)
	}
	index, err := parseIndex(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", indexFile, ErrFormat, err)
	}
	return index, nil
}

// Close closes the files.
func (r *Reader) Close() error {
	var errs []error
	for _, c := range r.closers {
		errs = append(errs, c.Close())
	}
	r.closers = nil
	return errors.Join(errs...)
}

// Names returns the tensors' names, sorted.
func (r *Reader) Names() []string { return sorted(r.tensors) }

// Tensor returns a tensor by name.
func (r *Reader) Tensor(name string) (Tensor, bool) {
	t, ok := r.tensors[name]
	return t, ok
}

// Files returns the names of the files that were opened, the index first.
func (r *Reader) Files() []string { return slices.Clone(r.files) }

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// readHeader checks the length fields against the file before it reads.
func readHeader(name string, r io.ReaderAt, size int64) (map[string]Tensor, error) {
	var prefix [8]byte
	if size < int64(len(prefix)) {
		return nil, fmt.Errorf("%w: %d bytes, too short for a header length", ErrFormat, size)
	}
	if _, err := r.ReadAt(prefix[:], 0); err != nil {
		return nil, fmt.Errorf("header length: %w", err)
	}
	length := binary.LittleEndian.Uint64(prefix[:])
	if length > maxHeader {
		return nil, fmt.Errorf("%w: a header of %d bytes, at most %d are read", ErrFormat, length, maxHeader)
	}
	start := int64(len(prefix)) + int64(length)
	if start > size {
		return nil, fmt.Errorf("%w: a header of %d bytes in a file of %d", ErrFormat, length, size)
	}
	raw := make([]byte, length)
	if _, err := r.ReadAt(raw, int64(len(prefix))); err != nil && !(errors.Is(err, io.EOF) && start == size) {
		return nil, fmt.Errorf("header: %w", err)
	}
	tensors, err := parseHeader(raw, size-start)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	for key, t := range tensors {
		t.File, t.r = name, r
		t.begin += start
		t.end += start
		tensors[key] = t
	}
	return tensors, nil
}
