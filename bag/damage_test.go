package bag

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/foxglove/mcap/go/mcap"
)

// write puts files into a new directory and returns it.
func write(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func read(t testing.TB, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestTruncatedMCAPIsReadAsFarAsItGoes(t *testing.T) {
	for _, name := range []string{"compressed_mcap", "raw_mcap"} {
		whole := read(t, filepath.Join(bags, name, name+"_0.mcap"))
		want := uint64(0)
		for _, f := range facts(t, name) {
			want += f.Count
		}
		previous := uint64(0)
		for _, percent := range []int{0, 1, 20, 50, 80, 99, 100} {
			size := max(len(whole)*percent/100, 20)
			if percent == 100 {
				size = len(whole) - 1 // only the closing magic is cut: nothing is lost
			}
			dir := write(t, map[string]string{"cut.mcap": whole[:size]})
			r, err := Open(filepath.Join(dir, "cut.mcap"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := observe(t, r)
			read := uint64(0)
			for _, f := range got {
				read += f.Count
			}
			if percent == 100 {
				if err != nil || read != want {
					t.Errorf("%s without its last byte: %d messages, %v", name, read, err)
				}
				continue
			}
			var damage *DamagedError
			if !errors.As(err, &damage) || !errors.Is(err, ErrTruncated) {
				t.Fatalf("%s cut to %d %%: %v", name, percent, err)
			}
			if damage.Read != read || damage.Offset <= 0 || damage.Offset > int64(size) {
				t.Errorf("%s cut to %d bytes: %d messages read, but %v", name, size, read, err)
			}
			if read < previous || read > want {
				t.Errorf("%s cut to %d %%: %d messages, %d with less", name, percent, read, previous)
			}
			// Messages are spread evenly; a few chunks at the end may be lost.
			if percent >= 20 && float64(read) < (float64(percent)/100-0.3)*float64(want) {
				t.Errorf("%s cut to %d %%: only %d of %d messages", name, percent, read, want)
			}
			previous = read
		}
	}
}

func TestFlippedByteLosesAChunkAndIsReported(t *testing.T) {
	for _, compression := range []string{"", "zstd", "lz4"} {
		dir := filepath.Join(t.TempDir(), "b")
		makeBag(t, dir, compression)
		path := filepath.Join(dir, "b_0.mcap")
		whole, err := openStorage(path)
		if err != nil {
			t.Fatal(err)
		}
		second := whole.(*mcapFile).chunks[1]
		data := []byte(read(t, path))
		data[second.offset+int64(second.length/2)] ^= 0x10
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		r, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := observe(t, r)
		var damage *DamagedError
		if !errors.As(err, &damage) || !errors.Is(err, ErrCorrupt) || damage.Offset != second.offset {
			t.Fatalf("%q: %v", compression, err)
		}
		n := uint64(0)
		for _, f := range got {
			n += f.Count
		}
		if n != damage.Read || n < 10 || n > 22 {
			t.Errorf("%q: %d messages read, %v", compression, n, err)
		}
	}
}

func TestMCAPWithoutChunksOrIndexIsRead(t *testing.T) {
	for name, options := range map[string]mcap.WriterOptions{
		"no chunks":     {},
		"no index":      {Chunked: true, ChunkSize: 300, SkipChunkIndex: true},
		"no statistics": {Chunked: true, ChunkSize: 300, SkipStatistics: true, Compression: mcap.CompressionZSTD},
		"no summary": {
			Chunked: true, ChunkSize: 300, SkipChunkIndex: true, SkipStatistics: true, SkipRepeatedSchemas: true,
			SkipRepeatedChannelInfos: true, SkipAttachmentIndex: true, SkipMetadataIndex: true, SkipSummaryOffsets: true,
		},
	} {
		var file bytes.Buffer
		w, err := mcap.NewWriter(&file, &options)
		if err != nil {
			t.Fatal(err)
		}
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check(w.WriteHeader(&mcap.Header{}))
		check(w.WriteSchema(&mcap.Schema{ID: 1, Name: "std_msgs/msg/Bool", Encoding: "ros2msg", Data: []byte("bool data\n")}))
		check(w.WriteChannel(&mcap.Channel{ID: 1, SchemaID: 1, Topic: "/a", MessageEncoding: "cdr"}))
		const n = 100
		for i := range n {
			check(w.WriteMessage(&mcap.Message{ChannelID: 1, LogTime: uint64(n - i), Data: []byte{0, 1, 0, 0, byte(i)}}))
			if i == n/2 {
				check(w.WriteMetadata(&mcap.Metadata{Name: "between", Metadata: map[string]string{"a": "b"}}))
			}
		}
		check(w.Close())
		dir := write(t, map[string]string{"a.mcap": file.String()})
		got := all(t, dir)
		if len(got) != n {
			t.Fatalf("%s: %d messages, want %d", name, len(got), n)
		}
		for i, m := range got {
			if m.Time != int64(i+1) || m.Data[4] != byte(n-1-i) {
				t.Fatalf("%s: message %d is %+v", name, i, m)
			}
		}
		r, err := Open(dir)
		check(err)
		if topics := r.Topics(); len(topics) != 1 || topics[0].Count != n || topics[0].Type != "std_msgs/msg/Bool" {
			t.Errorf("%s: topics %+v", name, topics)
		}
	}
}

func TestDirectoryWithoutMetadataIsRead(t *testing.T) {
	name := "compressed_mcap"
	dir := write(t, map[string]string{name + "_0.mcap": read(t, filepath.Join(bags, name, name+"_0.mcap"))})
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	got, err := observe(t, r)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, got, facts(t, name))
}

func TestWhatIsNoBagIsNamed(t *testing.T) {
	good := read(t, filepath.Join(bags, "compressed_db3", metadataFile))
	db3 := read(t, filepath.Join(bags, "compressed_db3", "compressed_db3_0.db3"))
	for _, c := range []struct {
		name  string
		files map[string]string
		is    error
		says  string
	}{
		{"empty directory", nil, ErrNotBag, "neither metadata.yaml nor .mcap or .db3 files"},
		{"missing file", map[string]string{metadataFile: good}, ErrCorrupt, "metadata.yaml names compressed_db3_0.db3, which is missing"},
		{"other file", map[string]string{metadataFile: good, "compressed_db3_0.db3": "hello"}, ErrNotBag, "begins neither as MCAP nor as SQLite"},
		{"empty file", map[string]string{metadataFile: good, "compressed_db3_0.db3": ""}, ErrNotBag, "begins neither as MCAP nor as SQLite"},
		{"two pages of a database", map[string]string{metadataFile: good, "compressed_db3_0.db3": db3[:2*4096]}, ErrCorrupt, "compressed_db3_0.db3: database disk image is malformed; not even its topics can be read: copy the file again"},
		{"header of a database", map[string]string{metadataFile: good, "compressed_db3_0.db3": db3[:16]}, ErrCorrupt, "compressed_db3_0.db3"},
		{"storage", map[string]string{metadataFile: strings.Replace(good, "sqlite3", "lmdb", 1)}, ErrUnsupported, `storage "lmdb"`},
		{"version", map[string]string{metadataFile: strings.Replace(good, "version: 5", "version: 99", 1)}, ErrUnsupported, "metadata version 99"},
		{"compression", map[string]string{metadataFile: strings.NewReplacer(`compression_format: ""`, "compression_format: zlib", `compression_mode: ""`, "compression_mode: FILE").Replace(good)},
			ErrUnsupported, `compression_format "zlib" of each file, read are zstd and lz4`},
		{"compression mode", map[string]string{metadataFile: strings.Replace(good, `compression_mode: ""`, "compression_mode: topic", 1)},
			ErrUnsupported, `compression_mode "topic", read are file and message`},
		{"other YAML", map[string]string{metadataFile: "a: 1\n"}, ErrNotBag, "no rosbag2_bagfile_information"},
		{"no YAML", map[string]string{metadataFile: "\t{"}, ErrCorrupt, metadataFile},
		{"path outside", map[string]string{metadataFile: strings.ReplaceAll(good, "- compressed_db3_0.db3", "- ../../etc/passwd")}, ErrCorrupt, "outside the bag"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Open(write(t, c.files))
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v: %s", err, c.is, c.says)
			}
		})
	}
	if _, err := Open(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "rosbag2 directory") {
		t.Errorf("a path that is not there: %v", err)
	}
}

// sqliteBag makes a .db3 with one topic, and returns what writes to it.
func sqliteBag(t *testing.T, pragmas ...string) (path string, exec func(query string, args ...any)) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "log.db3")
	db, err := sql.Open("sqlite3", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	db.SetMaxOpenConns(1)
	exec = func(query string, args ...any) {
		t.Helper()
		if _, err := db.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	for _, pragma := range pragmas {
		exec(pragma)
	}
	exec("CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL, offered_qos_profiles TEXT NOT NULL)")
	exec("CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL)")
	exec("INSERT INTO topics VALUES (1, '/a', 'std_msgs/msg/Bool', 'cdr', '')")
	return path, exec
}

// A recorder that was killed leaves messages in SQLite's log. Where that cannot be read, as
// in a directory that cannot be written, the bag is refused instead of read without them.
func TestMessagesInAWriteAheadLogAreNotPassedOver(t *testing.T) {
	path, exec := sqliteBag(t, "PRAGMA journal_mode=WAL", "PRAGMA wal_autocheckpoint=0")
	for i := range 5 {
		if i == 2 {
			exec("PRAGMA wal_checkpoint(TRUNCATE)")
		}
		exec("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, 'x')", i)
	}
	files := map[string]string{"log.db3": read(t, path), "log.db3-wal": read(t, path+"-wal")}
	if got := all(t, write(t, files)); len(got) != 5 {
		t.Errorf("%d of 5 messages", len(got))
	}
	// A link to itself keeps SQLite from the log as a directory does that cannot be written,
	// and root, too.
	locked := func(files map[string]string) string {
		dir := write(t, files)
		if err := os.Symlink("log.db3-shm", filepath.Join(dir, "log.db3-shm")); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	if _, err := Open(locked(files)); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "log.db3-wal") || !strings.Contains(err.Error(), "copy the bag") {
		t.Errorf("with a log that cannot be read: %v", err)
	}
	delete(files, "log.db3-wal")
	if got := all(t, locked(files)); len(got) != 2 {
		t.Errorf("without the log: %d of 2 messages", len(got))
	}
}

// A recorder with a rollback journal that was killed in the middle of a write leaves half of
// it in the file. Undoing that writes to the file, which reading a bag does not.
func TestAWriteThatWasBrokenOffIsNotRead(t *testing.T) {
	path, exec := sqliteBag(t, "PRAGMA journal_mode=DELETE")
	exec("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, 0, 'x')")
	exec("PRAGMA cache_size=1") // pages are written before the transaction ends
	exec("BEGIN")
	for i := range 1000 {
		exec("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)", i+1, make([]byte, 100))
	}
	files := map[string]string{"log.db3": read(t, path), "log.db3-journal": read(t, path+"-journal")}
	exec("ROLLBACK")
	dir := write(t, files)
	if _, err := Open(dir); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "log.db3-journal") || !strings.Contains(err.Error(), "sqlite3 log.db3") {
		t.Errorf("with a write to undo: %v", err)
	}
	if read(t, filepath.Join(dir, "log.db3")) != files["log.db3"] {
		t.Error("the file was changed")
	}
	mended, err := sql.Open("sqlite3", filepath.Join(dir, "log.db3")) // as the error says
	if err != nil {
		t.Fatal(err)
	}
	defer mended.Close()
	if _, err := mended.Exec("SELECT count(*) FROM topics"); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir); len(got) != 1 {
		t.Errorf("%d messages once it was undone, want 1", len(got))
	}
}

func TestWalkEndsWithItsContext(t *testing.T) {
	for _, name := range []string{"compressed_mcap", "compressed_db3"} {
		r, err := Open(filepath.Join(bags, name))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		n := 0
		var last error
		for _, err := range r.Messages(ctx) {
			if last = err; err != nil {
				break
			}
			if n++; n == 10 {
				cancel()
			}
		}
		cancel()
		if n != 10 || !errors.Is(last, context.Canceled) {
			t.Errorf("%s: %d messages, then %v", name, n, last)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	for _, name := range []string{"compressed_mcap", "compressed_db3"} {
		f.Add([]byte(read(f, filepath.Join(bags, name, metadataFile))))
	}
	f.Add([]byte("rosbag2_bagfile_information:\n  version: 9\n  storage_identifier: mcap\n  relative_file_paths: [a]\n  topics_with_message_count:\n  - topic_metadata:\n      offered_qos_profiles:\n      - depth: 1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		info, err := parseMetadata(text)
		if err != nil {
			return
		}
		for _, path := range info.Paths {
			if !filepath.IsLocal(path) {
				t.Errorf("path %q", path)
			}
		}
	})
}
