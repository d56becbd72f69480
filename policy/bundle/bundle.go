package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Errors that a caller may decide on; all are wrapped with the bundle's
// directory and the file or field at fault.
var (
	// ErrMissingFile says that a file the manifest lists is not there.
	ErrMissingFile = errors.New("file is missing")
	// ErrHash says that a file is not the one the manifest was written for.
	ErrHash = errors.New("sha256 differs from the manifest")
	// ErrManifest says that the manifest is no valid one.
	ErrManifest = errors.New("manifest")
)

// maxManifest bounds policy.json; real ones are a few kilobytes.
const maxManifest = 4 << 20

// Bundle is an opened, verified bundle directory.
type Bundle struct {
	Dir      string
	Manifest Manifest
}

// Path returns the path of a file of the bundle.
func (b *Bundle) Path(name string) string { return filepath.Join(b.Dir, name) }

// Open reads policy.json in dir, validates it and compares every listed file
// with its sha256. Nothing is kept open.
func Open(dir string) (*Bundle, error) {
	b, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	return b, nil
}

// ReadManifest reads and validates policy.json in dir without looking at the
// other files, whose hashes take a while for a model of many gigabytes.
func ReadManifest(dir string) (*Manifest, error) {
	b, err := openManifest(dir)
	if err != nil {
		return nil, fmt.Errorf("bundle %s: %w", dir, err)
	}
	return &b.Manifest, nil
}

func open(dir string) (*Bundle, error) {
	b, err := openManifest(dir)
	if err != nil {
		return nil, err
	}
	for _, name := range b.Manifest.FileNames() {
		if err := CheckFile(dir, name, b.Manifest.Files[name]); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// FileNames returns the names of the files that the manifest lists, sorted.
func (m *Manifest) FileNames() []string { return sortedKeys(m.Files) }

// HasAutoregressive reports whether the bundle has a graph for decoding from left to
// right.
func (m *Manifest) HasAutoregressive() bool {
	_, ok := m.Files[AutoregressiveFile]
	return ok
}

// CheckFile compares a file of the bundle in dir with the sha256 that the
// manifest has of it.
func CheckFile(dir, name, want string) error {
	have, err := hashFile(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%s: %w; copy the whole directory again or export it anew", name, ErrMissingFile)
	case err != nil:
		return err
	case have != want:
		return fmt.Errorf("%s: %w: want %s, have %s; copy the file again or export the bundle anew", name, ErrHash, want, have)
	}
	return nil
}

func openManifest(dir string) (*Bundle, error) {
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("%w; give the directory that `ddvla export` wrote", err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("%w: not a directory; give the directory that `ddvla export` wrote", ErrManifest)
	}
	raw, err := readBounded(filepath.Join(dir, ManifestFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w; a checkpoint becomes a bundle with `ddvla export`", ManifestFile, ErrMissingFile)
	} else if err != nil {
		return nil, err
	}
	b := &Bundle{Dir: dir}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&b.Manifest); err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrManifest, ManifestFile, err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w %s: something follows its closing brace; copy the file again or export the bundle anew", ErrManifest, ManifestFile)
	}
	if err := b.Manifest.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", ManifestFile, err)
	}
	return b, nil
}

// Write fills m.Files with the hashes of names, which already lie in dir, and
// goes on as WriteManifest.
func Write(dir string, m Manifest, names ...string) error {
	m.Files = make(map[string]string, len(names))
	for _, name := range names {
		sum, err := hashFile(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("bundle %s: %w", dir, err)
		}
		m.Files[name] = sum
	}
	return WriteManifest(dir, m)
}

// WriteManifest validates m, whose Files are the hashes of what lies in dir, and
// writes policy.json, last, so that an interrupted export leaves no bundle.
func WriteManifest(dir string, m Manifest) error {
	m.SchemaVersion = SchemaVersion
	if err := m.Validate(); err != nil {
		return fmt.Errorf("bundle %s: %w", dir, err)
	}
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("bundle %s: %w", dir, err)
	}
	if err := os.WriteFile(filepath.Join(dir, ManifestFile), append(raw, '\n'), 0o644); err != nil {
		return fmt.Errorf("bundle %s: %w", dir, err)
	}
	return nil
}

// Digest is a sha256, in hex, of the manifest, which has those of all files, but for
// the program that wrote it: bundles with the same one do the same.
func (m Manifest) Digest() (string, error) {
	m.Source.Exporter = ""
	raw, err := json.Marshal(m)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:]), nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxManifest+1))
	if err != nil {
		return nil, err
	}
	if len(raw) > maxManifest {
		return nil, fmt.Errorf("%w %s: larger than %d bytes", ErrManifest, path, maxManifest)
	}
	return raw, nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// localName reports whether name stays inside the bundle's directory.
func localName(name string) bool {
	return filepath.IsLocal(name) && !strings.ContainsRune(name, filepath.Separator)
}
