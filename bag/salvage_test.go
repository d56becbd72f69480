package bag

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// salvage walks a damaged bag, holds what comes against the whole one's messages,
// and returns how many there were.
func salvage(t *testing.T, path string, whole []record) (int, *DamagedError) {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	at, read := 0, 0
	for m, err := range r.Messages(t.Context()) {
		if err != nil {
			var damage *DamagedError
			if !errors.As(err, &damage) {
				t.Fatal(err)
			}
			if damage.Read != uint64(read) {
				t.Errorf("%d messages came, %v", read, err)
			}
			return read, damage
		}
		// In the order of the whole bag, with gaps.
		for at < len(whole) && !(whole[at].Topic == m.Topic && whole[at].Time == m.Time.UnixNano() && bytes.Equal(whole[at].Data, m.Data)) {
			at++
		}
		if at == len(whole) {
			t.Fatalf("message %d, %s at %v, is none of the whole bag, or comes late", read, m.Topic, m.Time)
		}
		at++
		read++
	}
	return read, nil
}

func TestDamagedSQLiteIsReadAsFarAsItGoes(t *testing.T) {
	const name, file = "compressed_db3", "compressed_db3_0.db3"
	content := read(t, filepath.Join(bags, name, file))
	whole := all(t, filepath.Join(bags, name))
	metadata := read(t, filepath.Join(bags, name, metadataFile))
	for _, percent := range []int{5, 20, 50, 80, 99} {
		size := len(content) * percent / 100
		dir := write(t, map[string]string{metadataFile: metadata, file: content[:size]})
		n, damage := salvage(t, dir, whole)
		if damage == nil || !errors.Is(damage, ErrTruncated) || damage.Lost != int64(len(whole)-n) {
			t.Fatalf("%d %%: %v", percent, damage)
		}
		for _, say := range []string{file, fmt.Sprintf("%d messages read, %d lost", n, len(whole)-n), fmt.Sprintf("%d of %d bytes are there", size, len(content)), "copy the file again", ".recover"} {
			if !strings.Contains(damage.Error(), say) {
				t.Errorf("%q is not in %v", say, damage)
			}
		}
		// Messages lie in the order of time, so as many as bytes.
		if share := n * 100 / len(whole); share < percent-10 || share > percent+10 {
			t.Errorf("%d %% of the bytes, %d %% of the messages", percent, share)
		}
		// Without metadata.yaml nobody knows how many there were.
		if err := os.Remove(filepath.Join(dir, metadataFile)); err != nil {
			t.Fatal(err)
		}
		if again, damage := salvage(t, dir, whole); again != n || damage == nil || damage.Lost != -1 || !strings.Contains(damage.Error(), "how many are lost nothing tells") {
			t.Errorf("%d %% without metadata: %d, %v", percent, again, damage)
		}
	}
	// A hole, as of a bad block: rows on both sides are there.
	holed := []byte(content)
	middle := len(holed) / 2 &^ 4095
	copy(holed[middle:], make([]byte, 64<<10))
	dir := write(t, map[string]string{metadataFile: metadata, file: string(holed)})
	n, damage := salvage(t, dir, whole)
	if damage == nil || !errors.Is(damage, ErrCorrupt) || damage.Lost != int64(len(whole)-n) || n < len(whole)*9/10 {
		t.Errorf("hole: %d of %d messages, %v", n, len(whole), damage)
	}
}

func TestHoleInMCAPLosesWhatLiesInIt(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	makeBag(t, dir, "zstd")
	whole := all(t, dir)
	path := filepath.Join(dir, "b_0.mcap")
	s, err := openStorage(path)
	if err != nil {
		t.Fatal(err)
	}
	chunks := s.(*mcapFile).chunks
	content := read(t, path)
	// Of the second chunk to the fourth nothing is left, and the index is gone too.
	holed := []byte(content[:len(content)-100])
	copy(holed[chunks[1].offset:chunks[4].offset], make([]byte, chunks[4].offset-chunks[1].offset))
	if err := os.WriteFile(path, holed, 0o644); err != nil {
		t.Fatal(err)
	}
	inside := 0
	l := chunkLoader{index: s.(*mcapFile), file: open(t, write(t, map[string]string{"whole": content})+"/whole")}
	for _, ref := range chunks[1:4] {
		inside += len(l.load(ref).entries)
	}
	n, damage := salvage(t, dir, whole)
	if damage == nil || !errors.Is(damage, ErrCorrupt) || damage.Offset != chunks[1].offset || n != len(whole)-inside || damage.Lost != int64(inside) {
		t.Errorf("%d of %d messages, %d lay in the hole: %v", n, len(whole), inside, damage)
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// Without an index, the records behind a chunk that cannot be read tell how many
// messages it had.
func TestLostMessagesOfAChunkAreCountedWithoutStatistics(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	makeBag(t, dir, "lz4")
	whole := all(t, dir)
	path := filepath.Join(dir, "b_0.mcap")
	s, err := openStorage(path)
	if err != nil {
		t.Fatal(err)
	}
	ref := s.(*mcapFile).chunks[2]
	content := []byte(read(t, path))
	content[ref.offset+int64(ref.length)-20] ^= 1 // in the compressed data
	content[len(content)-30] ^= 1                 // in the footer: the summary's checksum
	if err := os.WriteFile(path, content, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, metadataFile)); err != nil {
		t.Fatal(err)
	}
	n, damage := salvage(t, dir, whole)
	if damage == nil || n == len(whole) || damage.Lost != int64(len(whole)-n) || damage.Offset != ref.offset {
		t.Errorf("%d of %d messages: %v", n, len(whole), damage)
	}
	if !strings.Contains(damage.Error(), "mcap recover b_0.mcap") {
		t.Errorf("no mend: %v", damage)
	}
}
