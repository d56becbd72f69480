// Package testbundle gives tests a real policy bundle: the committed checkpoint
// policies/tiny-reach, exported once per test binary. What that policy predicts
// changes whenever it is trained again, so tests may rely on its shapes only.
package testbundle

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// once exports on first use and keeps the directory for the tests that follow;
// it lies in the system's temporary directory, which the system clears.
var once = sync.OnceValues(export)

// Dir returns the directory of the bundle, which must not be changed; Copy is
// for tests that change theirs.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := once()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// Copy returns a bundle of the test's own with a changed manifest, whose hashes
// fit its files.
func Copy(t testing.TB, change func(m *bundle.Manifest)) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(Dir(t))); err != nil {
		t.Fatal(err)
	}
	m, err := bundle.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for name := range m.Files {
		names = append(names, name)
	}
	change(m)
	if err := bundle.Write(dir, *m, names...); err != nil {
		t.Fatal(err)
	}
	return dir
}

// With returns a bundle of the test's own, exported with changed options.
func With(t testing.TB, change func(o *weights.Options)) string {
	t.Helper()
	dir, err := exportTo(t.TempDir(), change)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

func export() (string, error) {
	parent, err := os.MkdirTemp("", "ddvla-testbundle-")
	if err != nil {
		return "", err
	}
	return exportTo(parent, func(*weights.Options) {})
}

func exportTo(parent string, change func(o *weights.Options)) (string, error) {
	checkpoint, err := find("policies/tiny-reach")
	if err != nil {
		return "", err
	}
	o := weights.Defaults()
	o.Checkpoint, o.Out = checkpoint, filepath.Join(parent, "tiny-reach")
	o.ActionRate = 20
	change(&o)
	return o.Out, weights.Export(context.Background(), o)
}

// find looks for a path of the repository from the working directory upwards.
func find(path string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		candidate := filepath.Join(dir, path)
		if _, err := os.Stat(candidate); err == nil {
			return candidate, nil
		} else if !errors.Is(err, os.ErrNotExist) || dir == filepath.Dir(dir) {
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}
