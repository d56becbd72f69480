// Package torchfile reads the tensors of a state_dict that torch.save wrote, such
// as the side files of OpenVLA-OFT (proprio_projector--*_checkpoint.pt and so on),
// without Python and without running anything of the file.
//
// The format (PyTorch 1.6 and later) is a zip archive of entries that are stored,
// not compressed: <archive>/data.pkl, a pickle of the dict whose tensors name
// their storages; <archive>/data/<key>, the bytes of each storage;
// <archive>/version and, from PyTorch 2.1 on, <archive>/byteorder. A pickle is a
// program; the few instructions and globals that a dict of tensors needs are
// interpreted here, everything else is refused by name.
//
// Only a flat dict from names to tensors is taken. A training checkpoint such as
// {"model": {...}, "step": 5} is refused, with the key that is no tensor: which of
// its parts are the weights is for a person to say. Where all names start with
// "module.", as DistributedDataParallel leaves them, it is taken off once; names
// that differed still do. A file where only some do is left as it is.
//
// The archive's checksums are not compared: PyTorch can be told not to write them.
package torchfile

import (
	"archive/zip"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/weights/safetensors"
)

// ErrFormat marks a file that is not a state_dict of tensors as torch.save writes
// it, or that holds more than that.
var ErrFormat = errors.New("not a PyTorch state_dict that can be read")

const (
	// maxFile bounds the file, and with it the list of entries that archive/zip makes
	// room for. The largest side file, a FiLM vision backbone in float32, has 5 GB.
	maxFile = 16 << 30
	// maxDirectory bounds what is read of the zip directory; an entry takes about 100 bytes.
	maxDirectory = 8 << 20
	// maxPickle bounds data.pkl; a tensor takes about 150 bytes, a 7B model has 982.
	maxPickle = 4 << 20
)

// Reader gives access to the tensors of one file.
type Reader struct {
	tensors map[string]safetensors.Tensor
	file    string
	closer  io.Closer
}

// New reads the directory and the pickle of a file of the given size in bytes. name
// stands for it in errors.
func New(name string, r io.ReaderAt, size int64) (*Reader, error) {
	tensors, err := read(name, r, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", name, ErrFormat, err)
	}
	return &Reader{tensors: tensors, file: name}, nil
}

// Open opens one file of fsys, which must give files that are an io.ReaderAt, as
// those of os are; Close it after use.
func Open(fsys fs.FS, name string) (*Reader, error) {
	// Opening a named pipe would wait for a writer.
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: not a regular file", name, ErrFormat)
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	at, ok := f.(io.ReaderAt)
	if !ok {
		return nil, errors.Join(fmt.Errorf("%s: %T cannot be read at an offset", name, f), f.Close())
	}
	r, err := New(name, at, info.Size())
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r.closer = f
	return r, nil
}

// Close closes the file.
func (r *Reader) Close() error {
	if r.closer == nil {
		return nil
	}
	err := r.closer.Close()
	r.closer = nil
	return err
}

// Names returns the tensors' names, sorted.
func (r *Reader) Names() []string { return slices.Sorted(maps.Keys(r.tensors)) }

// Tensor returns a tensor by name. One that is not contiguous in the file, such as
// a transposed view, is put in order while it is read.
func (r *Reader) Tensor(name string) (safetensors.Tensor, bool) {
	t, ok := r.tensors[name]
	return t, ok
}

// Files returns the path of the file.
func (r *Reader) Files() []string { return []string{r.file} }

func read(file string, r io.ReaderAt, size int64) (map[string]safetensors.Tensor, error) {
	a, err := openArchive(r, size)
	if err != nil {
		return nil, err
	}
	pickle, err := a.small("data.pkl", maxPickle)
	if err != nil {
		return nil, err
	}
	top, err := unpickle(pickle, a.storage)
	if err != nil {
		return nil, fmt.Errorf("data.pkl: %w", err)
	}
	if err := a.checkOverlap(); err != nil {
		return nil, err
	}
	state, ok := top.(*dict)
	if !ok {
		return nil, fmt.Errorf("it holds %s, not a dict of tensors", kind(top))
	}
	const ddp = "module."
	strip := true
	for _, name := range slices.Sorted(maps.Keys(state.items)) {
		if value := state.items[name]; !isKind[*view](value) {
			return nil, fmt.Errorf("%q is %s, not a tensor; save the dict of tensors alone: torch.save(model.state_dict(), path)", name, kind(value))
		}
		strip = strip && strings.HasPrefix(name, ddp)
	}
	tensors := make(map[string]safetensors.Tensor, len(state.items))
	for name, value := range state.items {
		if strip {
			name = strings.TrimPrefix(name, ddp)
		}
		if tensors[name], err = value.(*view).tensor(file, name, r); err != nil {
			return nil, err
		}
	}
	return tensors, nil
}

// storage is one data/<key> entry: count values of a type, from the byte begin on.
type storage struct {
	element
	begin, count int64
}

// archive is a zip file of which only stored entries are read.
type archive struct {
	r        io.ReaderAt
	size     int64
	prefix   string
	entries  map[string]*zip.File
	storages map[string]*storage
	used     []span
}

// span is where an entry's bytes lie.
type span struct {
	name       string
	begin, end int64
}

func openArchive(r io.ReaderAt, size int64) (*archive, error) {
	if err := checkStart(r, size); err != nil {
		return nil, err
	}
	z, err := zip.NewReader(&metered{r, maxDirectory}, size)
	if err != nil {
		return nil, fmt.Errorf("the zip directory (a download that was cut short?): %w", err)
	}
	a := &archive{r: r, size: size, entries: make(map[string]*zip.File, len(z.File)), storages: map[string]*storage{}}
	for _, f := range z.File {
		if a.entries[f.Name] != nil {
			return nil, fmt.Errorf("the entry %q occurs twice", f.Name)
		}
		a.entries[f.Name] = f
		if archive, ok := strings.CutSuffix(f.Name, "data.pkl"); ok && strings.Count(archive, "/") == 1 && strings.HasSuffix(archive, "/") {
			if a.prefix != "" {
				return nil, fmt.Errorf("it has both %sdata.pkl and %s", a.prefix, f.Name)
			}
			a.prefix = archive
		}
	}
	if a.prefix == "" {
		return nil, errors.New("a zip file without <archive>/data.pkl")
	}
	if a.entries[a.prefix+"constants.pkl"] != nil {
		return nil, errors.New("a TorchScript archive, which holds code; save its tensors: torch.save(torch.jit.load(path).state_dict(), out)")
	}
	raw, err := a.small("version", 16)
	if err != nil {
		return nil, err
	}
	// The versions that PyTorch's own reader takes.
	if v, err := strconv.Atoi(strings.TrimSpace(string(raw))); err != nil || v < 1 || v > 10 {
		return nil, fmt.Errorf("version %q; 1 to 10 are known", raw)
	}
	if a.entries[a.prefix+"byteorder"] != nil {
		raw, err := a.small("byteorder", 16)
		if err != nil {
			return nil, err
		}
		if string(raw) != "little" {
			return nil, fmt.Errorf("byte order %q, only little is read; save it again on a little-endian machine", raw)
		}
	}
	return a, nil
}

// checkStart tells the usual other files by their first bytes.
func checkStart(r io.ReaderAt, size int64) error {
	if size > maxFile {
		return fmt.Errorf("%d bytes, at most %d are read", size, int64(maxFile))
	}
	start := make([]byte, min(size, 512))
	if _, err := r.ReadAt(start, 0); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case bytes.HasPrefix(start, []byte("PK\x03\x04")):
		return nil
	case bytes.HasPrefix(start, []byte("version https://git-lfs")):
		return errors.New("a Git LFS pointer instead of the file; fetch it: git lfs pull")
	case bytes.HasPrefix(start, []byte{0x80}) || len(start) > 262 && string(start[257:262]) == "ustar":
		return errors.New("written in the format of PyTorch before 1.6; save it again with a newer one: " +
			"torch.save(torch.load(path, map_location='cpu', weights_only=True), path)")
	}
	return errors.New("not a zip file")
}

// metered ends the reading of a zip directory that would fill the memory.
type metered struct {
	r    io.ReaderAt
	left int
}

func (m *metered) ReadAt(p []byte, off int64) (int, error) {
	if m.left -= len(p); m.left < 0 {
		return 0, fmt.Errorf("it is larger than %d bytes", maxDirectory)
	}
	return m.r.ReadAt(p, off)
}

// entry finds <archive>/<name> and notes that its bytes are used.
func (a *archive) entry(name string) (begin, size int64, err error) {
	f := a.entries[a.prefix+name]
	if f == nil {
		return 0, 0, fmt.Errorf("the entry %s%s is missing", a.prefix, name)
	}
	if f.Method != zip.Store || f.Flags&1 != 0 || f.CompressedSize64 != f.UncompressedSize64 {
		return 0, 0, fmt.Errorf("the entry %s is compressed or encrypted, torch.save only stores", f.Name)
	}
	if begin, err = f.DataOffset(); err != nil {
		return 0, 0, fmt.Errorf("the entry %s: %w", f.Name, err)
	}
	if begin < 0 || begin > a.size || f.UncompressedSize64 > uint64(a.size-begin) {
		return 0, 0, fmt.Errorf("the entry %s of %d bytes goes beyond the file", f.Name, f.UncompressedSize64)
	}
	size = int64(f.UncompressedSize64)
	a.used = append(a.used, span{f.Name, begin, begin + size})
	return begin, size, nil
}

// small reads an entry whole.
func (a *archive) small(name string, most int64) ([]byte, error) {
	begin, size, err := a.entry(name)
	if err != nil {
		return nil, err
	}
	if size > most {
		return nil, fmt.Errorf("the entry %s%s has %d bytes, at most %d are read", a.prefix, name, size, most)
	}
	raw := make([]byte, size)
	if _, err := a.r.ReadAt(raw, begin); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("the entry %s%s: %w", a.prefix, name, err)
	}
	return raw, nil
}

// storage finds the entry of a storage, which must be just large enough.
func (a *archive) storage(of element, key string, count int64) (*storage, error) {
	if s := a.storages[key]; s != nil {
		if s.element != of || s.count != count {
			return nil, fmt.Errorf("storage %q is %d values of %s and %d of %s", key, s.count, s.dtype, count, of.dtype)
		}
		return s, nil
	}
	begin, size, err := a.entry("data/" + key)
	if err != nil {
		return nil, err
	}
	if size%of.width != 0 || size/of.width != count {
		return nil, fmt.Errorf("storage %q of %d values of %s has %d bytes", key, count, of.dtype, size)
	}
	a.storages[key] = &storage{of, begin, count}
	return a.storages[key], nil
}

// checkOverlap makes sure that no bytes belong to two entries.
func (a *archive) checkOverlap() error {
	slices.SortFunc(a.used, func(x, y span) int { return cmp.Or(cmp.Compare(x.begin, y.begin), cmp.Compare(x.end, y.end)) })
	for i, s := range a.used {
		if i > 0 && s.begin < a.used[i-1].end {
			return fmt.Errorf("the entries %s and %s overlap", a.used[i-1].name, s.name)
		}
	}
	return nil
}
