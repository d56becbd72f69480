package weights

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// folder is a directory of downloaded files. It is an fs.FS that follows links
// only to what was downloaded with them, so that a checkpoint cannot make the
// exporter read, and copy into a bundle, another file of the machine. Pipes and
// devices are not opened.
type folder struct {
	dir  string
	root *os.Root
	at   string // of dir within root
}

// openFolder opens dir, which may itself be a link. Links inside it lead to
// files inside it; in a cache of the Hugging Face hub, whose snapshots are links
// to blobs of the same model (models--NAME/snapshots/REVISION and
// models--NAME/blobs), they lead to files of that model.
func openFolder(dir string) (*folder, error) {
	f := &folder{dir: dir, at: "."}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return nil, err
	}
	if resolved, err = filepath.Abs(resolved); err != nil {
		return nil, err
	}
	if snapshots := filepath.Dir(resolved); filepath.Base(snapshots) == "snapshots" {
		model := filepath.Dir(snapshots)
		if info, err := os.Stat(filepath.Join(model, "blobs")); err == nil && info.IsDir() {
			f.at = path.Join("snapshots", filepath.Base(resolved))
			resolved = model
		}
	}
	f.root, err = os.OpenRoot(resolved)
	return f, err
}

// within reports whether the directory inner lies in outer or is outer.
func within(outer, inner string) (bool, error) {
	var paths [2]string
	for i, dir := range []string{outer, inner} {
		resolved, err := filepath.EvalSymlinks(dir)
		if err != nil {
			return false, err
		}
		if paths[i], err = filepath.Abs(resolved); err != nil {
			return false, err
		}
	}
	relative, err := filepath.Rel(paths[0], paths[1])
	return err == nil && filepath.IsLocal(relative), nil
}

func (f *folder) Close() error { return f.root.Close() }

// Stat implements fs.StatFS.
func (f *folder) Stat(name string) (fs.FileInfo, error) {
	info, err := f.root.Stat(path.Join(f.at, name))
	return info, f.explain(name, err)
}

// Open implements fs.FS.
func (f *folder) Open(name string) (fs.File, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrInvalid}
	}
	info, err := f.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	file, err := f.root.Open(path.Join(f.at, name))
	return file, f.explain(name, err)
}

// ReadDir implements fs.ReadDirFS.
func (f *folder) ReadDir(name string) ([]fs.DirEntry, error) {
	return fs.ReadDir(f.root.FS(), path.Join(f.at, name))
}

// explain names the target of a link that was not followed. That is never
// fs.ErrNotExist: a file that may be missing is not missing where a link to
// nowhere stands.
func (f *folder) explain(name string, err error) error {
	if err == nil {
		return nil
	}
	if target, linkErr := f.root.Readlink(path.Join(f.at, name)); linkErr == nil {
		return fmt.Errorf("%s is a link to %s, which is outside of the checkpoint or missing; put a copy of the file in its place (%v)", name, target, err)
	}
	var wrapped *fs.PathError
	if errors.As(err, &wrapped) {
		return &fs.PathError{Op: "open", Path: name, Err: wrapped.Err}
	}
	return err
}

// readFile reads a file of at most limit bytes.
func readFile(fsys fs.FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("%s: larger than %d bytes", name, limit)
	}
	return raw, nil
}

// maxJSON bounds the JSON files of a checkpoint, of which tokenizer.json of Llama has
// 2 MB. dataset_statistics.json, with below 1 MB for the largest data mixtures, has
// the bound of those that run the bundle, action.MaxStatistics.
const maxJSON = 32 << 20

func readJSON(fsys fs.FS, name string, into any) error {
	raw, err := readFile(fsys, name, maxJSON)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// readOptionalJSON reports whether the file is there.
func readOptionalJSON(fsys fs.FS, name string, into any) (bool, error) {
	err := readJSON(fsys, name, into)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// hashFile returns the sha256 of a file in hex. What is read goes through
// through, which may count it or end it with an error.
func hashFile(fsys fs.FS, name string, through func(io.Reader) io.Reader) (string, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, through(f)); err != nil {
		return "", fmt.Errorf("%s: %w", name, err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
