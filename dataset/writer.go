package dataset

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Writer writes a data set, frame after frame, in memory that does not grow with
// it. It is for one goroutine: who makes episodes in parallel gives them to it one
// after the other, or writes several data sets and joins them ([Join]).
//
// The first error is kept and returned by all that follows. What is unfinished
// Abandon removes; after a Close without error it does nothing, so it can be
// deferred.
type Writer struct {
	dir    string
	made   bool // dir was
	info   Info
	arrays [3]*stream // as Info.arrays
	lines  *stream
	begun  int   // first frame of the episode that is open, -1 for none
	starts []int // first frames of all ended episodes
	// pieces are the newest episodes, whose lines are not written yet.
	pieces []Episode
	// pictures are those of all ended episodes.
	pictures int
	failed   error
	ended    bool
}

// stream is a file that is written from its beginning to its end.
type stream struct {
	*bufio.Writer
	file file
}

// file is an *os.File, or in tests one on a disk that fills up.
type file interface {
	io.WriteSeeker
	io.Closer
	Sync() error
	Truncate(size int64) error
}

// errNoEpisode and errOpenEpisode are calls out of order.
var (
	errNoEpisode   = errors.New("no episode is open; BeginEpisode comes first")
	errOpenEpisode = errors.New("an episode is open; EndEpisode or DiscardEpisode comes first")
)

// Create makes the directory dir, which must not exist or be empty, and an empty
// data set in it. Schema, Frames and Episodes of info need not be set.
func Create(dir string, info Info) (*Writer, error) {
	return create(dir, info, func(path string) (file, error) {
		return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	})
}

func create(dir string, info Info, open func(path string) (file, error)) (*Writer, error) {
	info.Schema, info.Frames, info.Episodes = Schema, 0, 0
	if info.Proprio == nil {
		info.Proprio = []bundle.ProprioDim{} // [] in JSON
	}
	if err := info.Validate(); err != nil {
		return nil, err
	}
	_, err := os.Stat(dir)
	made := errors.Is(err, fs.ErrNotExist)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDataset, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDataset, err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("%w %s: %w: the directory is not empty; choose another one or remove it", ErrDataset, dir, fs.ErrExist)
	}
	w := &Writer{dir: dir, made: made, info: info, begun: -1}
	for k, a := range info.arrays() {
		if w.arrays[k], err = newStream(filepath.Join(dir, a.file), open); err != nil {
			return nil, errors.Join(w.wrap(err), w.Abandon())
		}
	}
	if w.lines, err = newStream(filepath.Join(dir, EpisodesFile), open); err != nil {
		return nil, errors.Join(w.wrap(err), w.Abandon())
	}
	return w, nil
}

func newStream(path string, open func(string) (file, error)) (*stream, error) {
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	return &stream{bufio.NewWriterSize(f, 1<<18), f}, nil
}

func (w *Writer) wrap(err error) error {
	if err == nil || errors.Is(err, ErrDataset) {
		return err
	}
	return fmt.Errorf("%w %s: %w", ErrDataset, w.dir, err)
}

// fail keeps the first error.
func (w *Writer) fail(err error) error {
	if w.failed == nil {
		w.failed = w.wrap(err)
	}
	return w.failed
}

// usable reports what speaks against a call that needs an open episode, or none.
func (w *Writer) usable(open bool) error {
	switch {
	case w.failed != nil:
		return w.failed
	case w.ended:
		return w.fail(fs.ErrClosed)
	case open && w.begun < 0:
		return w.fail(errNoEpisode)
	case !open && w.begun >= 0:
		return w.fail(errOpenEpisode)
	}
	return nil
}

// Info returns what is written so far.
func (w *Writer) Info() Info { return w.info }

// BeginEpisode opens an episode.
func (w *Writer) BeginEpisode() error {
	if err := w.usable(false); err != nil {
		return err
	}
	w.begun = w.info.Frames
	return nil
}

// Frame writes the next frame of the open episode: the pictures of all cameras, one
// after the other ([Info.ImageBytes] bytes), and the values of Info.Proprio and
// Info.Action in robot units. Frames without pictures (Info.PictureStride) have no
// images. Nothing of it is kept.
func (w *Writer) Frame(images []byte, proprio, action []float64) error {
	if err := w.usable(true); err != nil {
		return err
	}
	want := 0
	if w.info.Pictured(w.info.Frames - w.begun) {
		want = w.info.ImageBytes()
	}
	switch {
	case len(images) != want:
		return w.fail(fmt.Errorf("frame %d of an episode has %d bytes of pictures, want %d", w.info.Frames-w.begun, len(images), want))
	case w.info.Frames == maxFrames:
		return w.fail(fmt.Errorf("more than %d frames", maxFrames))
	}
	if err := row(w.arrays[1], "proprio", w.info.proprioNames, proprio, len(w.info.Proprio)); err != nil {
		return w.fail(err)
	}
	if err := row(w.arrays[2], "action", w.info.actionNames, action, len(w.info.Action)); err != nil {
		return w.fail(err)
	}
	if _, err := w.arrays[0].Write(images); err != nil {
		return w.fail(err)
	}
	w.info.Frames++
	return nil
}

// row writes values as float32.
func row(s *stream, what string, names func() []string, values []float64, want int) error {
	if len(values) != want {
		return fmt.Errorf("a frame has %d values of %s, want %d", len(values), what, want)
	}
	var bytes [4]byte
	for k, v := range values {
		narrow := float32(v)
		if !finite(float64(narrow)) {
			return fmt.Errorf("%s dimension %q is %g", what, names()[k], v)
		}
		binary.LittleEndian.PutUint32(bytes[:], math.Float32bits(narrow))
		if _, err := s.Write(bytes[:]); err != nil {
			return err
		}
	}
	return nil
}

// EndEpisode ends the open episode, which must have a frame. Of e, Episode, Start and
// Length are set here.
func (w *Writer) EndEpisode(e Episode) error {
	if err := w.EndPiece(e); err != nil {
		return err
	}
	return w.SettlePieces(nil)
}

// EndPiece ends the open episode as EndEpisode does, as a piece of something of which
// it is not known yet how it went, or whether it counts: SettlePieces and
// DiscardPieces say so of all pieces since the last one. Until then it is in memory.
func (w *Writer) EndPiece(e Episode) error {
	if err := w.usable(true); err != nil {
		return err
	}
	e.Episode, e.Start, e.Length = w.info.Episodes, w.begun, w.info.Frames-w.begun
	if e.Length == 0 {
		return w.fail(fmt.Errorf("episode %d has no frame", e.Episode))
	}
	if err := e.validate(); err != nil {
		return w.fail(err)
	}
	w.pieces = append(w.pieces, e)
	w.info.Episodes++
	w.starts = append(w.starts, e.Start)
	w.pictures += w.info.pictures(e.Length)
	w.begun = -1
	return nil
}

// SettlePieces keeps the pieces, where success is not nil with that as their Success.
// No episode may be open.
func (w *Writer) SettlePieces(success *bool) error {
	if err := w.usable(false); err != nil {
		return err
	}
	for _, e := range w.pieces {
		if success != nil {
			e.Success = success
		}
		line, err := json.Marshal(e)
		if err != nil {
			return w.fail(err)
		}
		if len(line) >= maxLine {
			return w.fail(fmt.Errorf("episode %d takes a line of %d bytes, may take %d", e.Episode, len(line), maxLine-1))
		}
		if _, err := w.lines.Write(append(line, '\n')); err != nil {
			return w.fail(err)
		}
	}
	w.pieces = w.pieces[:0]
	return nil
}

// DiscardPieces forgets them and returns how many frames they had. No episode may be
// open.
func (w *Writer) DiscardPieces() (frames int, err error) {
	if err := w.usable(false); err != nil || len(w.pieces) == 0 {
		return 0, err
	}
	for _, e := range w.pieces {
		frames += e.Length
		w.pictures -= w.info.pictures(e.Length)
	}
	w.info.Episodes -= len(w.pieces)
	w.starts = w.starts[:w.info.Episodes]
	w.begun = w.pieces[0].Start
	w.pieces = w.pieces[:0]
	return frames, w.DiscardEpisode()
}

// DiscardEpisode forgets the open episode.
func (w *Writer) DiscardEpisode() error {
	if err := w.TruncateEpisode(0); err != nil {
		return err
	}
	w.begun = -1
	return nil
}

// TruncateEpisode keeps the first frames of the open episode, at most as many as it has.
func (w *Writer) TruncateEpisode(frames int) error {
	if err := w.usable(true); err != nil {
		return err
	}
	if frames < 0 || frames > w.info.Frames-w.begun {
		return w.fail(fmt.Errorf("%d frames of an episode that has %d", frames, w.info.Frames-w.begun))
	}
	kept := w.begun + frames
	for k, a := range w.info.arrays() {
		s, end := w.arrays[k], a.row*int64(kept)
		if k == 0 {
			end = a.row * int64(w.pictures+w.info.pictures(frames))
		}
		if err := s.Flush(); err != nil {
			return w.fail(err)
		}
		if err := s.file.Truncate(end); err != nil {
			return w.fail(err)
		}
		if _, err := s.file.Seek(end, io.SeekStart); err != nil {
			return w.fail(err)
		}
	}
	w.info.Frames = kept
	return nil
}

// Close computes the statistics and makes the directory a data set. It must have an
// episode.
func (w *Writer) Close() error {
	if err := w.SettlePieces(nil); err != nil {
		return err
	}
	if w.info.Episodes == 0 {
		return w.fail(errors.New("no episode; an empty data set trains nothing"))
	}
	for _, s := range append(w.arrays[:], w.lines) {
		if err := errors.Join(s.Flush(), s.file.Sync()); err != nil {
			return w.fail(err)
		}
	}
	statistics, err := w.statistics()
	if err != nil {
		return w.fail(err)
	}
	if err := writeJSON(filepath.Join(w.dir, StatisticsFile), map[string]*Statistics{w.info.Name: statistics}); err != nil {
		return w.fail(err)
	}
	// Last: without it there is no data set.
	if err := writeJSON(filepath.Join(w.dir, InfoFile), w.info); err != nil {
		return w.fail(err)
	}
	w.ended = true
	return w.wrap(w.closeFiles())
}

func (w *Writer) closeFiles() error {
	var errs []error
	for _, s := range append(w.arrays[:], w.lines) {
		if s != nil {
			errs = append(errs, s.file.Close())
		}
	}
	return errors.Join(errs...)
}

// Abandon removes the files of a data set that was not closed, and the directory
// where Create made it.
func (w *Writer) Abandon() error {
	if w.ended {
		return nil
	}
	w.ended = true
	errs := []error{w.closeFiles()}
	names := []string{InfoFile, StatisticsFile, EpisodesFile, ImagesFile, ProprioFile, ActionFile}
	for _, name := range names {
		for _, path := range []string{filepath.Join(w.dir, name), filepath.Join(w.dir, name+partial)} {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	if w.made {
		errs = append(errs, os.Remove(w.dir))
	}
	return w.wrap(errors.Join(errs...))
}

// partial is what the name of a file ends in that is not whole yet.
const partial = ".partial"

// writeJSON writes a file that is whole or not there, and on the disk.
func writeJSON(path string, value any) error {
	raw, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+partial, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+partial, path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
