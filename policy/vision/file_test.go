package vision

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A device or a directory is not read, and a file too large neither.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	small, large := filepath.Join(dir, "small"), filepath.Join(dir, "large")
	if err := os.WriteFile(small, []byte("picture"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, maxFile+1); err != nil {
		t.Fatal(err)
	}
	if got, err := ReadFile(small); err != nil || !bytes.Equal(got, []byte("picture")) {
		t.Errorf("%q, %v", got, err)
	}
	for path, want := range map[string]string{"/dev/zero": "not a file", dir: "not a file", large: "a picture has at most", dir + "/none": "no such file"} {
		if _, err := ReadFile(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
