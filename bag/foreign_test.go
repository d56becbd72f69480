package bag

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ddvla/ddvla/tools/npm"
)

// foreignMessage is a message as testdata/write.js says it wrote it.
type foreignMessage struct{ Topic, Type, Time, Data string }

// Files of another writer, of every kind that it can write, hold what it says, in
// the order of time and then of writing.
func TestForeignWritersFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	var files []struct {
		File     string
		Messages []foreignMessage
	}
	if err := json.Unmarshal(npm.Run(t, nil, "testdata/write.js", dir), &files); err != nil {
		t.Fatal(err)
	}
	if len(files) != 7 {
		t.Fatalf("%d files", len(files))
	}
	for _, f := range files {
		t.Run(f.File, func(t *testing.T) {
			slices.SortStableFunc(f.Messages, func(a, b foreignMessage) int { return cmp.Compare(a.Time, b.Time) }) // of equal length
			path := filepath.Join(dir, f.File)
			for what, path := range map[string]string{"as written": path, "packed": packedCopy(t, path)} {
				r, err := Open(path)
				if err != nil {
					t.Fatal(err)
				}
				i := 0
				for m, err := range r.Messages(t.Context()) {
					if err != nil {
						t.Fatal(err)
					}
					got := foreignMessage{m.Topic, m.Type, fmt.Sprint(m.Time.UnixNano()), hex.EncodeToString(m.Data)}
					if i >= len(f.Messages) || got != f.Messages[i] {
						t.Fatalf("%s: message %d is %+v, want %+v", what, i, got, f.Messages[min(i, len(f.Messages)-1)])
					}
					i++
				}
				if i != len(f.Messages) {
					t.Errorf("%s: %d messages, want %d", what, i, len(f.Messages))
				}
				count := uint64(0)
				for j, topic := range r.Topics() {
					count += topic.Count
					if topic.Name != fmt.Sprintf("/t%d", j) || topic.Definition != "bool data\n" || topic.QoS != fmt.Sprintf("- depth: %d\n", j) {
						t.Errorf("%s: topic %+v", what, topic)
					}
				}
				if count != uint64(len(f.Messages)) && f.File != "no_statistics.mcap" {
					t.Errorf("%s: %d messages announced", what, count)
				}
			}
		})
	}
}

func packedCopy(t *testing.T, path string) string {
	t.Helper()
	packed := filepath.Join(t.TempDir(), filepath.Base(path)+".zstd")
	if err := os.WriteFile(packed, pack(t, formatZstd, []byte(read(t, path))), 0o644); err != nil {
		t.Fatal(err)
	}
	return packed
}
