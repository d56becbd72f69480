// Package testbundle gives tests a real policy bundle: the committed checkpoint
// policies/tiny-reach, exported once per test binary. What that policy predicts
// changes whenever it is trained again, so tests may rely on its shapes only.
package testbundle

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
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

// Statistics is Copy with other statistics: change gets q01, q99, min and max of all
// dimensions of each part, "action" and "proprio".
func Statistics(t testing.TB, change func(part string, columns map[string][]float64)) string {
	t.Helper()
	dir := Copy(t, func(*bundle.Manifest) {})
	path := filepath.Join(dir, bundle.StatisticsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	for _, set := range all {
		for _, part := range []string{"action", "proprio"} {
			var columns map[string]json.RawMessage
			if err := json.Unmarshal(set[part], &columns); err != nil {
				t.Fatal(err)
			}
			numbers := map[string][]float64{}
			for _, key := range []string{"q01", "q99", "min", "max"} {
				var v []float64
				if err := json.Unmarshal(columns[key], &v); err != nil {
					t.Fatal(err)
				}
				numbers[key] = v
			}
			change(part, numbers)
			for key := range numbers {
				if columns[key], err = json.Marshal(numbers[key]); err != nil {
					t.Fatal(err)
				}
			}
			if set[part], err = json.Marshal(columns); err != nil {
				t.Fatal(err)
			}
		}
	}
	if raw, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	Rehash(t, dir)
	return dir
}

// Rehash makes a bundle whole again whose files were changed.
func Rehash(t testing.TB, dir string) {
	t.Helper()
	m, err := bundle.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := bundle.Write(dir, *m, m.FileNames()...); err != nil {
		t.Fatal(err)
	}
}

// L1 returns a new bundle of the same network with an L1 head that says row,
// normalised, for every row of a chunk: one value for each action dimension.
func L1(t testing.TB, row []float32) string {
	t.Helper()
	checkpoint, err := find("policies/tiny-reach")
	if err != nil {
		t.Fatal(err)
	}
	o := weights.Defaults()
	o.Checkpoint, o.Out, o.ActionRate = t.TempDir(), filepath.Join(t.TempDir(), "bundle"), 20
	if err := os.CopyFS(o.Checkpoint, os.DirFS(checkpoint)); err != nil {
		t.Fatal(err)
	}
	constantHead(t, filepath.Join(o.Checkpoint, "action_head.safetensors"), row)
	if err := weights.Export(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	return o.Out
}

// constantHead is an L1 head for tiny-reach in the safetensors format: all is
// zero but the last biases, so every row of a chunk is these.
func constantHead(t testing.TB, path string, row []float32) {
	t.Helper()
	const hidden, inner = 128, 8
	in, dims := int64(hidden*len(row)), int64(len(row))
	header, size := map[string]any{}, 0
	add := func(name string, shape ...int64) {
		begin, n := size, int64(4)
		for _, d := range shape {
			n *= d
		}
		size += int(n)
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{begin, size}}
	}
	add("model.layer_norm1.weight", in)
	add("model.layer_norm1.bias", in)
	add("model.fc1.weight", inner, in)
	add("model.fc1.bias", inner)
	add("model.layer_norm2.weight", inner)
	add("model.layer_norm2.bias", inner)
	add("model.fc2.weight", dims, inner)
	add("model.fc2.bias", dims)
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	raw = append(raw, text...)
	raw = append(raw, make([]byte, size-4*len(row))...)
	for _, v := range row {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
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
