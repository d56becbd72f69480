package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// Files of a run's directory.
const (
	SetupFile   = "run.json"       // the Setup
	JournalFile = "episodes.jsonl" // a Record a line, in the order they were done
	stripFolder = "strips"         // pictures of failures
)

// ErrOtherSetup says that a directory holds a run of another configuration.
var ErrOtherSetup = errors.New("holds a run of another configuration")

// Store keeps the Records of a run in a directory, each as soon as it is there, so
// that a run that was killed goes on where it was. It is for one goroutine, and for
// one process at a time.
type Store struct {
	dir     string
	journal *os.File
	records map[Key]Record
}

// OpenStore begins a directory or goes on with the one of the same setup; it refuses,
// with ErrOtherSetup and the differences, that of another. Close it.
func OpenStore(dir string, setup Setup) (*Store, error) {
	if err := os.MkdirAll(filepath.Join(dir, stripFolder), 0o755); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, JournalFile)
	journal, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	s := &Store{dir: dir, journal: journal}
	if err := s.begin(path, setup); err != nil {
		return nil, errors.Join(err, journal.Close())
	}
	return s, nil
}

func (s *Store) begin(path string, setup Setup) error {
	// The kernel lets go of it however the process ends.
	if err := syscall.Flock(int(s.journal.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return fmt.Errorf("%s: another evaluation writes there: %w", s.dir, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if len(text) == 0 { // nothing was run, with whatever setup
		setup, err := json.MarshalIndent(setup, "", " ")
		if err != nil {
			return err
		}
		s.records = map[Key]Record{}
		return writeFile(filepath.Join(s.dir, SetupFile), append(setup, '\n'))
	}
	if err := check(s.dir, setup); err != nil {
		return err
	}
	var whole int
	if s.records, whole, err = parse(path, text); err != nil {
		return err
	}
	if whole < len(text) {
		return s.journal.Truncate(int64(whole))
	}
	return nil
}

// check compares the setup that the directory's episodes were run with.
func check(dir string, setup Setup) error {
	path := filepath.Join(dir, SetupFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %s has episodes, but %s, which says how they were run, is not there: choose another directory", dir, JournalFile, SetupFile)
	}
	if err != nil {
		return err
	}
	var was Setup
	if err := json.Unmarshal(text, &was); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if d := was.Differences(setup); len(d) > 0 {
		return fmt.Errorf("%s %w: %s; choose another directory", dir, ErrOtherSetup, strings.Join(d, "; "))
	}
	return nil
}

// parse takes in the journal. What a killed process left of its last line, beyond
// whole, does not count.
func parse(path string, text []byte) (records map[Key]Record, whole int, err error) {
	records = map[Key]Record{}
	whole = bytes.LastIndexByte(text, '\n') + 1
	number := 0
	for line := range bytes.Lines(text[:whole]) {
		number++
		var r Record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, 0, fmt.Errorf("%s line %d: %w; delete that line and its episode runs again", path, number, err)
		}
		if _, ok := records[r.Key]; !ok {
			records[r.Key] = r
		}
	}
	return records, whole, nil
}

// Record returns what became of an episode, if it was run.
func (s *Store) Record(k Key) (Record, bool) {
	r, ok := s.records[k]
	return r, ok
}

// Add keeps a record and the strip of its pictures, nil where it has none.
func (s *Store) Add(r Record, strip []byte) error {
	if len(strip) > 0 {
		r.Strip = fmt.Sprintf("%s/%s-%s-%d.jpg", stripFolder, r.Task, r.Perturbation, r.Seed)
		if err := writeFile(filepath.Join(s.dir, r.Strip), strip); err != nil {
			return err
		}
	}
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if _, err := s.journal.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("%s: %w", s.journal.Name(), err)
	}
	s.records[r.Key] = r
	return nil
}

// Close lets another process go on with the directory.
func (s *Store) Close() error { return s.journal.Close() }

// writeFile replaces a file as a whole or not at all.
func writeFile(path string, data []byte) error {
	return writeWith(path, func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

func writeWith(path string, write func(io.Writer) error) (err error) {
	f, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.Rename(f.Name(), path)
}
