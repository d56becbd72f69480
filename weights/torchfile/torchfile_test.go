package torchfile

import (
	"archive/zip"
	"bytes"
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
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/weights/safetensors"
)

// Pieces of a pickle of protocol 2.

func text(s string) string { return fmt.Sprintf("X%c\x00\x00\x00%s", len(s), s) }

func number(n int64) string {
	b := []byte{0x8a, 8}
	for range 8 {
		b = append(b, byte(n))
		n >>= 8
	}
	return string(b)
}

func tupleOf(parts ...string) string { return "(" + strings.Join(parts, "") + "t" }

func numbers(list ...int64) string {
	parts := make([]string, len(list))
	for i, n := range list {
		parts[i] = number(n)
	}
	return tupleOf(parts...)
}

const ordered = "ccollections\nOrderedDict\n)R"

func stored(class, key string, count int64) string {
	return tupleOf(text("storage"), "c"+class+"\n", text(key), text("cpu"), number(count)) + "Q"
}

func rebuilt(storage string, offset int64, size, stride string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n" + tupleOf(storage, number(offset), size, stride, "\x89", ordered) + "R"
}

// six is a tensor of [2, 3] in storage "0".
var six = rebuilt(stored("torch\nFloatStorage", "0", 6), 0, numbers(2, 3), numbers(3, 1))

// state is a pickled dict of names and values.
func state(pairs ...string) string { return "\x80\x02}(" + strings.Join(pairs, "") + "u." }

type file struct {
	name, data string
}

// pack makes a zip file of stored entries.
func pack(t testing.TB, files ...file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := zip.NewWriter(&out)
	for _, f := range files {
		e, err := w.CreateHeader(&zip.FileHeader{Name: f.name, Method: zip.Store})
		if err == nil {
			_, err = io.WriteString(e, f.data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// around packs a pickle with the storages "0" of 24 bytes and "1" of 4.
func around(t testing.TB, pickle string) []byte {
	return pack(t, file{"a/data.pkl", pickle}, file{"a/data/0", "abcdefghijklmnopqrstuvwx"}, file{"a/data/1", "ABCD"}, file{"a/version", "3\n"})
}

func open(raw []byte) (*Reader, error) { return New("test.pt", bytes.NewReader(raw), int64(len(raw))) }

// readAll reads every tensor, as whoever opens a file does.
func readAll(r *Reader) error {
	for _, name := range r.Names() {
		tensor, _ := r.Tensor(name)
		raw, err := io.ReadAll(tensor.Raw())
		if err != nil || int64(len(raw)) != tensor.Bytes() {
			return fmt.Errorf("%q: %d bytes of %d: %w", name, len(raw), tensor.Bytes(), err)
		}
	}
	return nil
}

// saved runs a script that fills a folder.
func saved(t testing.TB, script string) string {
	t.Helper()
	dir := t.TempDir()
	pytest.Run(t, nil, script, dir)
	return dir
}

// Whatever torch.save writes, all values are PyTorch's own.
func TestTensorsAreThoseOfPyTorch(t *testing.T) {
	dir := saved(t, "testdata/save.py")
	said, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil || len(said) != 12 {
		t.Fatalf("%d files, %v", len(said), err)
	}
	for _, path := range said {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var want map[string][3]any
			if err := json.Unmarshal(raw, &want); err != nil {
				t.Fatal(err)
			}
			r, err := Open(os.DirFS(dir), name+".pt")
			if err != nil {
				t.Fatal(err)
			}
			if got := r.Names(); len(got) != len(want) || !slices.IsSorted(got) {
				t.Errorf("names %q, want %d sorted", got, len(want))
			}
			for name, w := range want {
				tensor, ok := r.Tensor(name)
				if !ok {
					t.Errorf("%q is missing", name)
					continue
				}
				raw, err := io.ReadAll(tensor.Raw())
				if err != nil {
					t.Error(err)
				}
				got := fmt.Sprint(tensor.DType, tensor.Shape, hex.EncodeToString(raw))
				if w := fmt.Sprint(w[0], w[1], w[2]); got != w {
					t.Errorf("%q: got %.200s, want %.200s", name, got, w)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A view that is out of order in the file is converted like any other tensor.
func TestViewsAreConverted(t *testing.T) {
	data := make([]byte, 0, 24)
	for v := range 6 {
		data = append(data, 0, byte(v), 0x80+byte(v), 0x3f) // 1 + v/128 + a bit
	}
	raw := pack(t, file{"a/data.pkl", state(
		text("plain"), six,
		text("turned"), rebuilt(stored("torch\nFloatStorage", "0", 6), 0, numbers(3, 2), numbers(1, 3)),
	)}, file{"a/data/0", string(data)}, file{"a/version", "3"})
	r, err := open(raw)
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := r.Tensor("plain")
	turned, _ := r.Tensor("turned")
	a, b := make([]float32, 6), make([]float32, 4)
	if err := errors.Join(plain.Read(a, 0), turned.Read(b, 1)); err != nil {
		t.Fatal(err)
	}
	if want := []float32{a[3], a[1], a[4], a[2]}; !slices.Equal(b, want) || a[0] == a[1] {
		t.Errorf("got %v of %v, want %v", b, a, want)
	}
	if got := turned.File + fmt.Sprint(r.Files()); got != "test.pt[test.pt]" {
		t.Error(got)
	}
}

func TestRefusesWhatTorchSavesOfOtherThings(t *testing.T) {
	dir := saved(t, "testdata/hostile.py")
	code := "may hold code"
	for name, want := range map[string][]string{
		"code":         {`"posix.system"`, code},
		"eval":         {`"__builtin__.eval"`, code},
		"exec":         {`"__builtin__.exec"`, code},
		"getattr":      {`"__builtin__.getattr"`, code},
		"in-hooks":     {`"__builtin__.eval"`, code},
		"object":       {`"__main__.Thing"`, code},
		"whole-module": {`"torch.nn.modules.linear.Linear"`, code},
		"complex":      {`"torch.ComplexFloatStorage"`},
		"quantised":    {`"torch._utils._rebuild_qtensor"`},
		"sparse":       {`"torch._utils._rebuild_sparse_tensor"`},
		"rate":         {"BINFLOAT"},
		"list":         {"EMPTY_LIST"},
		"training":     {`"model" is a dict`, "model.state_dict()"},
		"step":         {`"step" is an integer`},
		"tensor":       {"a tensor, not a dict of tensors"},
		"integer-key":  {"a key of a dict is an integer"},
		"storage":      {`"w" is a storage`},
		"expanded":     {"overlap", "clone"},
		"torchscript":  {"TorchScript", "state_dict()"},
		"legacy":       {"before 1.6", "torch.save"},
	} {
		_, err := Open(os.DirFS(dir), name+".pt")
		if !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) || !strings.HasPrefix(err.Error(), name+".pt: ") {
				t.Errorf("%s: got %v, want %q", name, err, w)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "ran")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("code was run: %v", err)
	}
}

func TestFilesThatAreNone(t *testing.T) {
	dir := t.TempDir()
	if _, err := Open(os.DirFS(dir), "none.pt"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := Open(os.DirFS(filepath.Dir(dir)), filepath.Base(dir)); !errors.Is(err, ErrFormat) {
		t.Error(err)
	}
	if _, err := New("huge.pt", bytes.NewReader(nil), maxFile+1); !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), "at most") {
		t.Error(err)
	}
}

// Any way to slice and permute a tensor, read from anywhere in pieces of any size,
// gives what walking its indices gives.
func TestViewsReadAnywhere(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]int64{1, 2, 4, 8}).Draw(t, "width")
		axes := rapid.IntRange(0, 4).Draw(t, "axes")
		// Axes from the inside out, each with gaps, then shuffled.
		shape, stride, step := make([]int64, axes), make([]int64, axes), int64(1)
		order := rapid.Permutation([]int{0, 1, 2, 3}[:axes]).Draw(t, "order")
		for _, axis := range order {
			step *= rapid.Int64Range(1, 3).Draw(t, "gap")
			shape[axis] = rapid.Int64Range(1, 6).Draw(t, "size")
			stride[axis], step = step, step*shape[axis]
		}
		offset := rapid.Int64Range(0, 3).Draw(t, "offset")
		data := make([]byte, (offset+step)*width)
		for i := range data {
			data[i] = byte(i*7 + i/256)
		}
		var want []byte
		var walk func(axis int, at int64)
		walk = func(axis int, at int64) {
			if axis == axes {
				want = append(want, data[at*width:(at+1)*width]...)
				return
			}
			for i := range shape[axis] {
				walk(axis+1, at+i*stride[axis])
			}
		}
		walk(0, offset)

		if err := checkBounds(offset+step, offset, shape, stride); err != nil {
			t.Fatal(err)
		}
		dtype := map[int64]safetensors.DType{1: "U8", 2: "I16", 4: "I32", 8: "I64"}[width]
		v := &view{&storage{element{dtype, width}, 0, offset + step}, offset, shape, stride}
		tensor, err := v.tensor("file", "name", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		raw := tensor.Raw()
		if raw.Size() != int64(len(want)) {
			t.Fatalf("%d bytes, want %d", raw.Size(), len(want))
		}
		from := rapid.IntRange(0, len(want)).Draw(t, "from")
		got := make([]byte, rapid.IntRange(0, len(want)-from+3).Draw(t, "length"))
		n, err := raw.ReadAt(got, int64(from))
		if short := n < len(got); short && !errors.Is(err, io.EOF) || !short && len(got) > 0 && err != nil || n != min(len(got), len(want)-from) {
			t.Fatalf("read %d of %d from %d of %d: %v", n, len(got), from, len(want), err)
		}
		if !bytes.Equal(got[:n], want[from:from+n]) {
			t.Fatalf("got % x, want % x", got[:n], want[from:from+n])
		}
	})
}

// Entries beyond 4 GB take zip's 64-bit fields.
func TestLargerThan4GB(t *testing.T) {
	const count = 1<<30 + 3
	f, err := os.Create(filepath.Join(t.TempDir(), "large.pt"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := zip.NewWriter(sparse{f})
	add := func(name string, size uint64, parts ...[]byte) {
		e, err := w.CreateRaw(&zip.FileHeader{Name: name, Method: zip.Store, CompressedSize64: size, UncompressedSize64: size})
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range parts {
			if _, err := e.Write(p); err != nil {
				t.Fatal(err)
			}
		}
	}
	pickle := state(text("large"), rebuilt(stored("torch\nFloatStorage", "0", count), 0, numbers(count), numbers(1)),
		text("small"), rebuilt(stored("torch\nFloatStorage", "1", 1), 0, ")", ")"))
	add("a/data.pkl", uint64(len(pickle)), []byte(pickle))
	parts := [][]byte{{0, 0, 0x80, 0x3f}}
	zeros := make([]byte, 64<<20)
	for range 64 {
		parts = append(parts, zeros)
	}
	add("a/data/0", 4*count, append(parts, []byte{0, 0, 0, 0x40, 0, 0, 0x40, 0x40})...)
	add("a/data/1", 4, []byte{0, 0, 0x80, 0x40})
	add("a/version", 1, []byte("3"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	r, err := New("large.pt", f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	large, _ := r.Tensor("large")
	small, _ := r.Tensor("small")
	got := make([]float32, 6)
	if err := errors.Join(large.Read(got[:2], 0), large.Read(got[2:5], count-3), small.Read(got[5:], 0)); err != nil {
		t.Fatal(err)
	}
	if want := []float32{1, 0, 0, 2, 3, 4}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// sparse leaves a hole in the file for large pieces, which are zeros.
type sparse struct{ f *os.File }

func (s sparse) Write(p []byte) (int, error) {
	if len(p) < 1<<20 {
		return s.f.Write(p)
	}
	_, err := s.f.Seek(int64(len(p)), io.SeekCurrent)
	return len(p), err
}

// PyTorch reads an untyped storage as bytes.
func TestUntypedStorageIsBytes(t *testing.T) {
	for _, module := range []string{"torch", "torch.storage"} {
		r, err := open(around(t, state(text("a"), rebuilt(stored(module+"\nUntypedStorage", "0", 24), 1, numbers(3), numbers(2)))))
		if err != nil {
			t.Fatal(err)
		}
		tensor, _ := r.Tensor("a")
		if raw, err := io.ReadAll(tensor.Raw()); err != nil || string(raw) != "bdf" || tensor.DType != "U8" {
			t.Errorf("%s: %q, %v", tensor.DType, raw, err)
		}
	}
}

// A 4096 x 4096 matrix of float32, the proprio projector's second layer.
func BenchmarkRead(b *testing.B) {
	const n = 4096
	storage := stored("torch\nFloatStorage", "0", n*n)
	data := strings.Repeat("\x00\x00\x80\x3f\x00\x00\x00\x40", n*n/2)
	raw := pack(b, file{"a/data.pkl", state(
		text("contiguous"), rebuilt(storage, 0, numbers(n, n), numbers(n, 1)),
		text("transposed"), rebuilt(storage, 0, numbers(n, n), numbers(1, n)),
	)}, file{"a/data/0", data}, file{"a/version", "3"})
	dir := b.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "m.pt"), raw, 0o644); err != nil {
		b.Fatal(err)
	}
	r, err := Open(os.DirFS(dir), "m.pt")
	if err != nil {
		b.Fatal(err)
	}
	defer r.Close()
	dst := make([]float32, n*n)
	for _, name := range r.Names() {
		tensor, _ := r.Tensor(name)
		b.Run(name, func(b *testing.B) {
			b.SetBytes(tensor.Bytes())
			b.ReportAllocs()
			for b.Loop() {
				if err := tensor.Read(dst, 0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
