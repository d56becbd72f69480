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
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
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

// Open opens one file; Close it after use.
func Open(path string) (*Reader, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s: %w: not a regular file", path, ErrFormat)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := New(path, f, info.Size())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closers = []io.Closer{f}
	return r, nil
}

// OpenDir opens the weights of a checkpoint directory. Where there is an index,
// it decides; it and the shards must list the same tensors.
func OpenDir(dir string) (*Reader, error) {
	index, err := readIndex(filepath.Join(dir, indexFile))
	if errors.Is(err, fs.ErrNotExist) {
		r, err := Open(filepath.Join(dir, singleFile))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("%s has neither %s nor %s: %w", dir, singleFile, indexFile, err)
		}
		return r, err
	} else if err != nil {
		return nil, err
	}
	return openShards(dir, index)
}

func openShards(dir string, index map[string]string) (_ *Reader, err error) {
	r := &Reader{tensors: make(map[string]Tensor, len(index)), files: []string{filepath.Join(dir, indexFile)}}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close())
		}
	}()
	var shards []string
	for _, shard := range index {
		if !slices.Contains(shards, shard) {
			shards = append(shards, shard)
		}
	}
	slices.Sort(shards)
	for _, shard := range shards {
		if filepath.Base(shard) != shard || !filepath.IsLocal(shard) {
			return nil, fmt.Errorf("%s: %w: %q is not the name of a file beside it", r.files[0], ErrFormat, shard)
		}
		part, err := Open(filepath.Join(dir, shard))
		if err != nil {
			return nil, fmt.Errorf("%s names it: %w", r.files[0], err)
		}
		r.closers = append(r.closers, part.closers...)
		r.files = append(r.files, part.files...)
		for name, t := range part.tensors {
			if index[name] != shard {
				return nil, fmt.Errorf("%s: %w: tensor %q of %s is listed in %q", r.files[0], ErrFormat, name, shard, index[name])
			}
			r.tensors[name] = t
		}
	}
	for _, name := range sorted(index) {
		if _, ok := r.tensors[name]; !ok {
			return nil, fmt.Errorf("%s: %w: tensor %q is not in %s", r.files[0], ErrFormat, name, index[name])
		}
	}
	return r, nil
}

func readIndex(path string) (map[string]string, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxIndex {
		return nil, fmt.Errorf("%s: %w: larger than %d bytes", path, ErrFormat, maxIndex)
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(raw, &index); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrFormat, err)
	}
	if len(index.WeightMap) == 0 {
		return nil, fmt.Errorf("%s: %w: it has no weight_map", path, ErrFormat)
	}
	return index.WeightMap, nil
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

// Files returns the paths of the files that were opened, the index first.
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
		t.file, t.r = name, r
		t.begin += start
		t.end += start
		tensors[key] = t
	}
	return tensors, nil
}
