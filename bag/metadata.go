package bag

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

const (
	metadataFile = "metadata.yaml"
	// metadataVersion is what ROS 2 Humble writes.
	metadataVersion = 5
	// The versions that are read: 4 (Foxy, storage files relative to the directory)
	// to 9 (Jazzy, QoS profiles as a list instead of a string).
	oldestMetadata, newestMetadata = 4, 9
	// maxMetadataSize bounds the memory for reading one: far above what thousands of
	// files and topics need.
	maxMetadataSize = 16 << 20
)

// metadata is a bag's metadata.yaml.
type metadata struct {
	Info bagInfo `yaml:"rosbag2_bagfile_information"`
}

type bagInfo struct {
	Version           int          `yaml:"version"`
	Storage           string       `yaml:"storage_identifier"`
	Duration          nanoseconds  `yaml:"duration"`
	Start             epoch        `yaml:"starting_time"`
	MessageCount      uint64       `yaml:"message_count"`
	Topics            []topicCount `yaml:"topics_with_message_count"`
	CompressionFormat string       `yaml:"compression_format"`
	CompressionMode   string       `yaml:"compression_mode"`
	Paths             []string     `yaml:"relative_file_paths"`
	Files             []fileInfo   `yaml:"files"`
}

type nanoseconds struct {
	Nanoseconds int64 `yaml:"nanoseconds"`
}

type epoch struct {
	Nanoseconds int64 `yaml:"nanoseconds_since_epoch"`
}

type topicCount struct {
	Topic topicInfo `yaml:"topic_metadata"`
	Count uint64    `yaml:"message_count"`
}

type topicInfo struct {
	Name   string      `yaml:"name"`
	Type   string      `yaml:"type"`
	Format string      `yaml:"serialization_format"`
	QoS    qosProfiles `yaml:"offered_qos_profiles"`
}

type fileInfo struct {
	Path     string      `yaml:"path"`
	Start    epoch       `yaml:"starting_time"`
	Duration nanoseconds `yaml:"duration"`
	Count    uint64      `yaml:"message_count"`
}

// qosProfiles is YAML within a YAML string up to version 8, and plain YAML from
// version 9 on; here it is always the text.
type qosProfiles string

func (q *qosProfiles) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		*q = qosProfiles(node.Value)
		return nil
	}
	if len(node.Content) == 0 {
		*q = ""
		return nil
	}
	text, err := yaml.Marshal(node)
	if err != nil {
		return err
	}
	*q = qosProfiles(text)
	return nil
}

// What compression_mode in metadata.yaml says, in lower case.
const (
	compressedNot     = "none"
	compressedFile    = "file"
	compressedMessage = "message"
)

// compression returns one of the above, or "" for a mode that is none of them.
func (i *bagInfo) compression() string {
	switch mode := strings.ToLower(i.CompressionMode); mode {
	case "":
		return compressedNot
	case compressedNot, compressedFile, compressedMessage:
		return mode
	}
	return ""
}

// count returns how many messages a file of the bag has, -1 if the metadata do
// not tell. In those of compressed files, some versions name the file as it was
// before.
func (i *bagInfo) count(path string) int64 {
	count := uint64(math.MaxUint64)
	for _, f := range i.Files {
		if f.Path == path || f.Path == strings.TrimSuffix(path, filepath.Ext(path)) {
			count = f.Count
		}
	}
	if len(i.Files) == 0 && len(i.Paths) == 1 {
		count = i.MessageCount
	}
	if count > math.MaxInt64 {
		return -1
	}
	return int64(count)
}

// readMetadata reads dir's metadata.yaml.
func readMetadata(dir string) (*bagInfo, error) {
	path := filepath.Join(dir, metadataFile)
	stat, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if stat.Size() > maxMetadataSize {
		return nil, fmt.Errorf("%s: %w: %d bytes of metadata", path, ErrCorrupt, stat.Size())
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	info, err := parseMetadata(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// A name may be cut, too; since Galactic more follows the names.
	missing := slices.ContainsFunc(info.Paths, func(name string) bool {
		_, err := os.Stat(filepath.Join(dir, name))
		return errors.Is(err, fs.ErrNotExist)
	})
	if missing && info.Version > oldestMetadata && len(info.Files) == 0 {
		return nil, fmt.Errorf("%s: %w", path, &halfWritten{"it ends in relative_file_paths, with a file that is missing"})
	}
	return info, nil
}

// halfWritten is what is wrong with a metadata.yaml that was not finished: it is empty,
// or ends within. The storage files may be whole.
type halfWritten struct{ reason string }

func (e *halfWritten) Error() string {
	return fmt.Sprintf("it is empty or half-written: %s", e.reason)
}

func (e *halfWritten) Is(target error) bool { return target == ErrCorrupt }

// parseMetadata reads the text of a metadata.yaml and checks what reading the
// bag relies on.
func parseMetadata(text []byte) (*bagInfo, error) {
	var m metadata
	if err := yaml.Unmarshal(text, &m); err != nil {
		return nil, &halfWritten{err.Error()}
	}
	info := &m.Info
	// The list of files is next to last in it.
	begun := len(bytes.TrimSpace(text)) == 0 || bytes.Contains(text, []byte("rosbag2_bagfile_information:"))
	switch {
	case begun && len(info.Paths) == 0:
		return nil, &halfWritten{"relative_file_paths names no file"}
	case info.Version == 0 && info.Storage == "":
		return nil, fmt.Errorf("%w: no rosbag2_bagfile_information", ErrNotBag)
	case info.Version < oldestMetadata || info.Version > newestMetadata:
		return nil, fmt.Errorf("%w: metadata version %d, read are %d to %d", ErrUnsupported, info.Version, oldestMetadata, newestMetadata)
	case info.Storage != "mcap" && info.Storage != "sqlite3":
		return nil, fmt.Errorf("%w: storage %q, read are mcap and sqlite3", ErrUnsupported, info.Storage)
	case info.compression() == "":
		return nil, fmt.Errorf("%w: compression_mode %q, read are file and message", ErrUnsupported, info.CompressionMode)
	case info.compression() != compressedNot && info.CompressionFormat != formatZstd && info.CompressionFormat != formatLZ4:
		return nil, fmt.Errorf("%w: compression_format %q of each %s, read are zstd and lz4; rewrite it with `ros2 bag convert`",
			ErrUnsupported, info.CompressionFormat, info.compression())
	case len(info.Paths) == 0:
		return nil, fmt.Errorf("%w: relative_file_paths names no file", ErrCorrupt)
	}
	for _, path := range info.Paths {
		if path == "" {
			return nil, &halfWritten{"relative_file_paths names a file without a name"}
		}
		if !filepath.IsLocal(path) {
			return nil, fmt.Errorf("%w: file %q lies outside the bag", ErrCorrupt, path)
		}
	}
	return info, nil
}

// writeMetadata writes dir's metadata.yaml, whole or not at all, also if the power
// goes.
func writeMetadata(dir string, info *bagInfo) error {
	text, err := yaml.Marshal(metadata{*info})
	if err != nil {
		return fmt.Errorf("metadata: %w", err)
	}
	temporary := filepath.Join(dir, "."+metadataFile)
	err = func() error {
		f, err := os.Create(temporary)
		if err != nil {
			return err
		}
		_, err = f.Write(text)
		return errors.Join(err, f.Sync(), f.Close())
	}()
	if err != nil {
		os.Remove(temporary) // may be half there, on a full disk
		return err
	}
	return os.Rename(temporary, filepath.Join(dir, metadataFile))
}

// fromNanoseconds turns a storage's time into Go's; times that its int64 cannot
// hold (after 2262) stop at the last one that it can.
func fromNanoseconds(ns uint64) time.Time {
	return time.Unix(0, int64(min(ns, math.MaxInt64))).UTC()
}
