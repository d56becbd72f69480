package bag

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/foxglove/mcap/go/mcap"

	"github.com/ddvla/ddvla/msgs"
)

// Options say how a bag is written. The zero value is a good choice.
type Options struct {
	// Compression of chunks: "zstd", "lz4" or "" for none, which is what rosbag2 does
	// by default and what costs the least time.
	Compression string
	// ChunkSize in bytes is how much is collected in memory before it is written, and
	// so how much a crash loses; 0 means 768 KiB, as in rosbag2.
	ChunkSize int64
}

// Validate names the field that is wrong.
func (o Options) Validate() error {
	switch o.Compression {
	case "", "zstd", "lz4":
	default:
		return fmt.Errorf("bag options: Compression %q is none of \"zstd\", \"lz4\" and \"\"", o.Compression)
	}
	if o.ChunkSize < 0 || o.ChunkSize > maxChunkSize {
		return fmt.Errorf("bag options: ChunkSize %d is not between 0 and %d", o.ChunkSize, maxChunkSize)
	}
	return nil
}

// Writer writes a bag directory with MCAP storage, as `ros2 bag play` of Humble
// and later reads it. It is for one goroutine; see [Recorder].
//
// What was written before an error, or before the process is killed, stays
// readable: chunks go to the file whole, and a metadata.yaml with the topics comes
// before the first message, so that `ros2 bag play` takes what there is. Its
// counts and duration come last.
type Writer struct {
	dir    string
	file   writableFile
	mcap   *mcap.Writer
	good   int64 // bytes of the file that are whole records
	failed error
	closed bool
	topics map[string]*writtenTopic
	order  []*writtenTopic
	types  map[string]uint16 // schema by ROS type
	named  int               // of order, those that metadata.yaml has
	info   fileInfo
	first  int64
	last   int64
	record mcap.Message
}

// writableFile is an *os.File, or in tests one on a disk that fills up.
type writableFile interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

type writtenTopic struct {
	Topic
	channel  uint16
	sequence uint32
}

// Create makes the directory dir, which must not exist or be empty, and a bag in
// it.
func Create(dir string, options Options) (*Writer, error) {
	if err := options.Validate(); err != nil {
		return nil, fmt.Errorf("bag %s: %w", dir, err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("bag: %w", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("bag: %w", err)
	}
	if len(entries) > 0 {
		return nil, fmt.Errorf("bag %s: %w: the directory is not empty; choose another one or remove it", dir, fs.ErrExist)
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("bag: %w", err)
	}
	name := filepath.Base(absolute) + "_0.mcap"
	f, err := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return nil, fmt.Errorf("bag: %w", err)
	}
	w, err := newWriter(dir, f, options)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("bag %s: %w", dir, err)
	}
	w.info.Path = name
	return w, nil
}

func newWriter(dir string, f writableFile, options Options) (*Writer, error) {
	if options.ChunkSize == 0 {
		options.ChunkSize = 768 << 10
	}
	m, err := mcap.NewWriter(f, &mcap.WriterOptions{
		IncludeCRC:  true,
		Chunked:     true,
		ChunkSize:   options.ChunkSize,
		Compression: mcap.CompressionFormat(options.Compression),
	})
	if err != nil {
		return nil, err
	}
	if err := m.WriteHeader(&mcap.Header{Profile: "ros2", Library: "ddvla"}); err != nil {
		return nil, err
	}
	return &Writer{
		dir: dir, file: f, mcap: m, good: int64(m.Offset()),
		topics: map[string]*writtenTopic{}, types: map[string]uint16{},
		first: math.MaxInt64,
	}, nil
}

// AddTopic makes a topic known; it must come before the topic's messages. Adding
// the same one again does nothing. QoS is written as Humble reads it, from any
// version; what it lacks is the system's default. Without a Definition, that of package msgs is
// written; a type that is unknown there is written without one, which playing
// back does not need but some viewers do.
func (w *Writer) AddTopic(t Topic) error {
	if err := w.usable(); err != nil {
		return err
	}
	if t.Name == "" || t.Type == "" {
		return fmt.Errorf("bag %s: topic %q of type %q: both must be given", w.dir, t.Name, t.Type)
	}
	if known := w.topics[t.Name]; known != nil {
		if known.Type != t.Type {
			return fmt.Errorf("bag %s: topic %s is a %s already, not a %s", w.dir, t.Name, known.Type, t.Type)
		}
		return nil
	}
	if len(w.order) == math.MaxUint16 {
		return fmt.Errorf("bag %s: topic %s: MCAP holds at most %d", w.dir, t.Name, math.MaxUint16)
	}
	qos, err := humbleQoS(t.QoS)
	if err != nil {
		return fmt.Errorf("bag %s: topic %s: %w", w.dir, t.Name, err)
	}
	t.QoS = qos
	if t.Format == "" {
		t.Format = "cdr"
	}
	encoding := "ros2msg"
	if t.Definition == "" {
		var known bool
		if t.Definition, known = msgs.Definition(t.Type); !known {
			encoding = "" // MCAP's way to say that there is no definition
		}
	}
	t.Count = 0
	schema, ok := w.types[t.Type]
	if !ok {
		schema = uint16(len(w.types) + 1)
		if err := w.done(w.mcap.WriteSchema(&mcap.Schema{ID: schema, Name: t.Type, Encoding: encoding, Data: []byte(t.Definition)})); err != nil {
			return err
		}
		w.types[t.Type] = schema
	}
	added := &writtenTopic{Topic: t, channel: uint16(len(w.order) + 1)}
	if err := w.done(w.mcap.WriteChannel(&mcap.Channel{
		ID: added.channel, SchemaID: schema, Topic: t.Name, MessageEncoding: t.Format,
		Metadata: map[string]string{"offered_qos_profiles": t.QoS},
	})); err != nil {
		return err
	}
	w.topics[t.Name] = added
	w.order = append(w.order, added)
	return nil
}

// Write adds a message, received at stamp, which must lie between 1970 and 2262.
// It does not keep data. Messages may come in any order, but readers are faster
// if it is roughly that of time.
func (w *Writer) Write(topic string, stamp time.Time, data []byte) error {
	if err := w.usable(); err != nil {
		return err
	}
	t := w.topics[topic]
	if t == nil {
		return fmt.Errorf("bag %s: topic %s was not added", w.dir, topic)
	}
	if year := stamp.Year(); year < 1970 || year >= 2262 {
		return fmt.Errorf("bag %s: topic %s: time %v is not between 1970 and 2262", w.dir, topic, stamp)
	}
	ns := stamp.UnixNano()
	w.record = mcap.Message{ChannelID: t.channel, Sequence: t.sequence, LogTime: uint64(ns), PublishTime: uint64(ns), Data: data}
	err := w.done(w.mcap.WriteMessage(&w.record))
	w.record.Data = nil
	if err != nil {
		return err
	}
	t.sequence++
	t.Count++
	w.info.Count++
	w.first, w.last = min(w.first, ns), max(w.last, ns)
	if w.named < len(w.order) {
		w.named = len(w.order)
		if err := writeMetadata(w.dir, w.unfinished()); err != nil {
			w.failed = fmt.Errorf("bag %s: %w", w.dir, err)
			return w.failed
		}
	}
	return nil
}

// Close writes what is left in memory, the file's index and metadata.yaml. After
// an error it cuts the file behind its last whole record instead of writing an
// index; [Open] then finds by a scan what is there.
func (w *Writer) Close() error {
	if w.closed {
		return nil
	}
	var err error
	if w.failed == nil {
		err = w.done(w.mcap.Close())
	}
	w.closed = true
	if w.failed != nil {
		err = errors.Join(err, w.file.Truncate(w.good))
	}
	err = errors.Join(err, w.file.Sync(), w.file.Close())
	if metadata := writeMetadata(w.dir, w.metadata()); metadata != nil {
		err = errors.Join(err, fmt.Errorf("bag %s: %w", w.dir, metadata))
	}
	return err
}

// usable refuses work after Close or a failure, which it repeats.
func (w *Writer) usable() error {
	if w.closed {
		return fmt.Errorf("bag %s: %w", w.dir, fs.ErrClosed)
	}
	return w.failed
}

// done ends an operation on the file: it remembers how far the file is good, or
// the first failure.
func (w *Writer) done(err error) error {
	if err != nil {
		w.failed = fmt.Errorf("bag %s: %w", w.dir, err)
		return w.failed
	}
	w.good = int64(w.mcap.Offset())
	return nil
}

// unfinished is the metadata of a bag that is being written: it counts nothing.
func (w *Writer) unfinished() *bagInfo {
	info := w.metadata()
	info.Duration, info.MessageCount, info.Files = nanoseconds{}, 0, []fileInfo{}
	for i := range info.Topics {
		info.Topics[i].Count = 0
	}
	return info
}

func (w *Writer) metadata() *bagInfo {
	if w.info.Count > 0 {
		w.info.Start.Nanoseconds = w.first
		w.info.Duration.Nanoseconds = w.last - w.first
	}
	info := &bagInfo{
		Version: metadataVersion, Storage: "mcap",
		Start: w.info.Start, Duration: w.info.Duration, MessageCount: w.info.Count,
		Topics: []topicCount{}, Paths: []string{w.info.Path}, Files: []fileInfo{w.info},
	}
	for _, t := range w.order {
		info.Topics = append(info.Topics, topicCount{
			Topic: topicInfo{Name: t.Name, Type: t.Type, Format: t.Format, QoS: qosProfiles(t.QoS)},
			Count: t.Count,
		})
	}
	return info
}
