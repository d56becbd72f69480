package bag

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Reader reads a bag. It holds no files open between walks. It is for one
// goroutine.
type Reader struct {
	path   string
	files  []storage // in the order of their first messages
	topics []Topic
	damage *DamagedError // of metadata.yaml, nil where it is whole
}

// storage is one file of a bag.
type storage interface {
	// summary is what a look at the file, without its payloads, tells.
	summary() *summary
	// messages begins a walk in the order of receive times that holds about so many
	// bytes of messages.
	messages(ctx context.Context, memory int) (cursor, error)
}

type summary struct {
	path       string
	topics     []Topic
	start, end time.Time // of the messages; zero without any
	total      int64     // messages that the file had when it was whole, -1 where nothing tells
}

// see widens the span of the messages.
func (s *summary) see(start, end uint64) {
	if t := fromNanoseconds(start); s.start.IsZero() || t.Before(s.start) {
		s.start = t
	}
	if t := fromNanoseconds(end); s.end.IsZero() || t.After(s.end) {
		s.end = t
	}
}

// cursor is a walk through one file.
type cursor interface {
	// next reads the next message into m, whose Data is valid until the following
	// call. It returns io.EOF behind the last one, or a *DamagedError if not
	// everything could be read.
	next(m *Message) error
	close() error
}

// Open opens a bag: a rosbag2 directory, or a single .mcap or .db3 file. A
// directory without metadata.yaml, or with half of one, as a recorder that was killed
// leaves it, is read as the storage files in it.
//
// A file that is damaged, truncated or without an index is searched for what it
// still holds, and is an error only at the end of [Reader.Messages]. Files that
// were compressed whole are unpacked into os.TempDir, one after the other, while
// they are looked at and again while they are walked.
func Open(path string) (*Reader, error) {
	paths, info, damage, err := find(path)
	if err != nil {
		return nil, fmt.Errorf("bag %s: %w", path, err)
	}
	r := &Reader{path: path, damage: damage}
	for i, file := range paths {
		s, err := openStorage(file)
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s names %s, which is missing", ErrCorrupt, metadataFile, filepath.Base(file))
		}
		if err != nil {
			return nil, fmt.Errorf("bag %s: %w", path, err)
		}
		switch {
		case info == nil:
			s = packedMessages{storage: s}
		case info.compression() == compressedMessage:
			s = packedMessages{storage: s, format: info.CompressionFormat}
		}
		if sum := s.summary(); info != nil && sum.total < 0 {
			sum.total = info.count(info.Paths[i])
		}
		r.files = append(r.files, s)
	}
	slices.SortStableFunc(r.files, func(a, b storage) int { return a.summary().start.Compare(b.summary().start) })
	r.gather(info)
	return r, nil
}

// find lists a bag's storage files, and its metadata if it has some. Of metadata that are
// empty or half-written it returns the damage.
func find(path string) (paths []string, info *bagInfo, damage *DamagedError, err error) {
	stat, err := os.Stat(path)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w; give a rosbag2 directory, or a .mcap or .db3 file", err)
	}
	if !stat.IsDir() {
		return []string{path}, nil, nil, nil
	}
	info, err = readMetadata(path)
	if err == nil {
		return named(path, info), info, nil, nil
	}
	var half *halfWritten
	if !errors.As(err, &half) && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, nil, err
	}
	paths, listing := storageFiles(path)
	switch {
	case listing != nil && half != nil:
		return nil, nil, nil, err
	case listing != nil:
		return nil, nil, nil, listing
	case half != nil:
		damage = &DamagedError{File: filepath.Join(path, metadataFile), Offset: -1, Err: half}
	}
	return paths, nil, damage, nil
}

// named lists the files that a bag's metadata name.
func named(path string, info *bagInfo) (paths []string) {
	for _, name := range info.Paths {
		file := filepath.Join(path, name)
		// Foxy has the bag's name in front of those of compressed files.
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) && info.Version == oldestMetadata {
			file = filepath.Join(path, filepath.Base(name))
		}
		paths = append(paths, file)
	}
	return paths
}

// storageFiles lists the storage files in a directory.
func storageFiles(path string) ([]string, error) {
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, e := range entries {
		name := e.Name()
		if ext := filepath.Ext(name); ext == ".zstd" || ext == ".lz4" {
			name = strings.TrimSuffix(name, ext)
			// A recorder that was killed while it compressed leaves both; the compressed one
			// may be half.
			if slices.ContainsFunc(entries, func(other fs.DirEntry) bool { return other.Name() == name }) {
				continue
			}
		}
		if ext := filepath.Ext(name); !e.IsDir() && (ext == ".mcap" || ext == ".db3") {
			paths = append(paths, filepath.Join(path, e.Name()))
		}
	}
	if len(paths) == 0 {
		return nil, fmt.Errorf("%w: the directory has neither %s nor .mcap or .db3 files", ErrNotBag, metadataFile)
	}
	return paths, nil
}

// openStorage opens a file by what it begins with.
func openStorage(path string) (storage, error) {
	begin, err := beginning(path)
	if err != nil {
		return nil, err
	}
	if packed(begin) != formatNone {
		return openPacked(path)
	}
	return openPlain(path)
}

// openPlain opens a file that is not compressed.
func openPlain(path string) (storage, error) {
	begin, err := beginning(path)
	switch {
	case err != nil:
		return nil, err
	case bytes.HasPrefix(begin, mcapMagic()):
		return openMCAP(path)
	case string(begin) == "SQLite format 3\x00":
		return openSQLite(path)
	}
	return nil, fmt.Errorf("%w: %s begins neither as MCAP nor as SQLite", ErrNotBag, filepath.Base(path))
}

// beginning reads a file's first bytes, up to 16.
func beginning(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	begin := make([]byte, 16)
	n, err := io.ReadFull(f, begin)
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return nil, err
	}
	return begin[:n], nil
}

// gather adds up the topics of all files.
func (r *Reader) gather(info *bagInfo) {
	index := map[[2]string]int{}
	for _, file := range r.files {
		for _, t := range file.summary().topics {
			key := [2]string{t.Name, t.Type}
			i, ok := index[key]
			if !ok {
				i = len(r.topics)
				index[key] = i
				r.topics = append(r.topics, t)
				r.topics[i].Count = 0
			}
			r.topics[i].Count += t.Count
		}
	}
	if info != nil {
		for _, t := range info.Topics {
			if i, ok := index[[2]string{t.Topic.Name, t.Topic.Type}]; ok && r.topics[i].QoS == "" {
				r.topics[i].QoS = string(t.Topic.QoS)
			}
		}
	}
	slices.SortFunc(r.topics, func(a, b Topic) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.Type, b.Type))
	})
}

// Topics returns the bag's topics by name, those without messages included.
func (r *Reader) Topics() []Topic { return slices.Clone(r.topics) }

// Start returns the receive time of the first message, zero without any.
func (r *Reader) Start() time.Time {
	var start time.Time
	for _, file := range r.files {
		if s := file.summary().start; start.IsZero() || !s.IsZero() && s.Before(start) {
			start = s
		}
	}
	return start
}

// End returns the receive time of the last message, zero without any.
func (r *Reader) End() time.Time {
	var end time.Time
	for _, file := range r.files {
		if e := file.summary().end; e.After(end) {
			end = e
		}
	}
	return end
}

// Messages walks all messages from the beginning, in the order of their receive
// times; those of equal time in the order they are stored. The message belongs
// to the walk: it and its Data are valid until the next step.
//
// The walk ends with an error if it was cancelled or failed, or, behind the last
// message, with a [*DamagedError] for each file of which something is lost, metadata.yaml
// included.
func (r *Reader) Messages(ctx context.Context) iter.Seq2[*Message, error] {
	return func(yield func(*Message, error) bool) {
		w := walk{ctx: ctx, waiting: r.files, memory: walkMemory / r.together()}
		if r.damage != nil {
			w.damage = []error{r.damage}
		}
		defer w.close()
		for {
			m, err := w.next()
			if err == io.EOF {
				return
			}
			if err != nil {
				yield(nil, fmt.Errorf("bag %s: %w", r.path, err))
				return
			}
			if !yield(m, nil) {
				return
			}
		}
	}
}

// together returns how many files a walk has open at most.
func (r *Reader) together() int {
	most := 1
	for i, file := range r.files {
		open := 1
		for _, earlier := range r.files[:i] {
			if !earlier.summary().end.Before(file.summary().start) {
				open++
			}
		}
		most = max(most, open)
	}
	return most
}

// walk merges the files' cursors by time. A file is opened when the time has
// come for its first message, and closed behind its last.
type walk struct {
	ctx     context.Context
	waiting []storage
	memory  int     // for each file, in bytes
	heads   []*head // in the order of files
	given   *head   // whose message the caller has
	damage  []error
}

// head is an open file with its next message.
type head struct {
	cursor  cursor
	file    *summary
	message Message
}

func (w *walk) next() (*Message, error) {
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	if w.given != nil {
		if err := w.advance(w.given); err != nil {
			return nil, err
		}
		w.given = nil
	}
	for {
		first := w.first()
		if len(w.waiting) > 0 && (first == nil || !w.waiting[0].summary().start.After(first.message.Time)) {
			c, err := w.waiting[0].messages(w.ctx, w.memory)
			if err != nil {
				return nil, err
			}
			h := &head{cursor: c, file: w.waiting[0].summary()}
			w.waiting = w.waiting[1:]
			w.heads = append(w.heads, h)
			if err := w.advance(h); err != nil {
				return nil, err
			}
			continue
		}
		switch {
		case first != nil:
			w.given = first
			return &first.message, nil
		case len(w.damage) > 0:
			err := errors.Join(w.damage...)
			w.damage = nil
			return nil, err
		}
		return nil, io.EOF
	}
}

// first returns the open file whose message comes first.
func (w *walk) first() *head {
	var first *head
	for _, h := range w.heads {
		if first == nil || h.message.Time.Before(first.message.Time) {
			first = h
		}
	}
	return first
}

// advance reads a file's next message, or closes the file at its end.
func (w *walk) advance(h *head) error {
	err := h.cursor.next(&h.message)
	if err == nil {
		return nil
	}
	w.heads = slices.DeleteFunc(w.heads, func(other *head) bool { return other == h })
	if closing := h.cursor.close(); err == io.EOF {
		err = closing
	}
	var damage *DamagedError
	if errors.As(err, &damage) {
		damage.lost(h.file.total)
		w.damage = append(w.damage, err)
		return nil
	}
	return err
}

func (w *walk) close() {
	for _, h := range w.heads {
		h.cursor.close()
	}
}
