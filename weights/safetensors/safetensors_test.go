package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
)

func file(header string, data int) []byte {
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(raw, header...), make([]byte, data)...)
}

func open(raw []byte) (*Reader, error) { return New("test", bytes.NewReader(raw), int64(len(raw))) }

// hostile holds files that must be refused, named as in the reference
// implementation's own list where it has the case.
var hostile = []struct {
	name, text string
	raw        []byte
}{
	{"empty", "too short", nil},
	{"header_too_small", "too short", []byte{1, 2, 3}},
	{"header_too_large", "at most 100000000", append([]byte("\xff\xff\xff\xff\xff\xff\xff\xff"), make([]byte, 64)...)},
	{"header_just_too_large", "at most 100000000", binary.LittleEndian.AppendUint64(nil, maxHeader+1)},
	{"invalid_header_length", "in a file of", append(binary.LittleEndian.AppendUint64(nil, 60), make([]byte, 20)...)},
	{"header_length_without_header", "in a file of", binary.LittleEndian.AppendUint64(nil, maxHeader)},
	{"no_header", "start with {", file("", 0)},
	{"non_utf8", "not UTF-8", file("{\"\xff\":1}", 0)},
	{"not_json", "unexpected EOF", file("{", 0)},
	{"not_an_object", "start with {", file("[]", 0)},
	{"whitespace_before", "start with {", file(" {}", 0)},
	{"trailing_object", "goes on", file("{}{}", 0)},
	{"trailing_text", "goes on", file("{}x", 0)},
	{"metadata_incomplete_buffer", "has 3 bytes", file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 3)},
	{"extra_data", "end at 4", file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 5)},
	{"data_without_tensors", "end at 0", file(`{}`, 1)},
	{"hole", "hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}}`, 3)},
	{"hole_at_start", "hole", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}}`, 2)},
	{"overlap", "inside the one before", file(`{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3)},
	{"json_attack", "inside the one before", file(attack(), 4)},
	{"duplicate_name", "occurs twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1)},
	{"duplicate_key", "occurs twice", file(`{"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1)},
	{"duplicate_by_escape", "occurs twice", file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"\u0061":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}`, 1)},
	{"validation_overflow", "overflows", file(`{"t":{"dtype":"F32","shape":[2305843009213693952,8],"data_offsets":[0,0]}}`, 0)},
	{"size_beyond_int64", "not a size", file(`{"t":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,0]}}`, 0)},
	{"negative_size", "not a size", file(`{"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4)},
	{"fraction", "not a size", file(`{"t":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}}`, 4)},
	{"reversed_offsets", "beginning and an end", file(`{"t":{"dtype":"F32","shape":[0],"data_offsets":[4,0]}}`, 4)},
	{"three_offsets", "beginning and an end", file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, 4)},
	{"out_of_range", "the file has 4 bytes", file(`{"t":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}`, 4)},
	{"size_mismatch", "needs 8 bytes", file(`{"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4)},
	{"unknown_dtype", `"F33" is unknown`, file(`{"t":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, 4)},
	{"unknown_key", "not a key", file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4)},
	{"no_dtype", `no "dtype"`, file(`{"t":{"shape":[1],"data_offsets":[0,4]}}`, 4)},
	{"no_shape", `no "shape"`, file(`{"t":{"dtype":"F32","data_offsets":[0,4]}}`, 4)},
	{"no_offsets", `no "data_offsets"`, file(`{"t":{"dtype":"F32","shape":[1]}}`, 4)},
	{"tensor_is_a_number", "is expected", file(`{"t":1}`, 0)},
	{"metadata_not_text", "not a string", file(`{"__metadata__":{"a":1}}`, 0)},
	{"deep", "is expected", file(`{"t":`+strings.Repeat("[", 9000), 0)},
}

// attack is many tensors over the same bytes: a small file that says it holds
// gigabytes.
func attack() string {
	var entries []string
	for i := range 100 {
		entries = append(entries, fmt.Sprintf(`"t%d":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`, i))
	}
	return "{" + strings.Join(entries, ",") + "}"
}

func TestHostileFilesAreRefused(t *testing.T) {
	for _, c := range hostile {
		t.Run(c.name, func(t *testing.T) {
			_, err := open(c.raw)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v, want %q", err, c.text)
			}
		})
	}
}

func TestUnusualFilesAreRead(t *testing.T) {
	for name, raw := range map[string][]byte{
		"no_tensors":        file("{}", 0),
		"whitespace_padded": file(`{"t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}     `, 4),
		"zero_sized":        file(`{"t":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]},"u":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 8),
		"scalar":            file(`{"t":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}`, 4),
		"metadata":          file(`{"__metadata__":{"format":"pt"}}`, 0),
		"unaligned":         file(`{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"t":{"dtype":"F32","shape":[1],"data_offsets":[1,5]}}`, 5),
	} {
		r, err := open(raw)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, n := range r.Names() {
			tensor, _ := r.Tensor(n)
			if tensor.DType == F32 {
				if err := tensor.Read(make([]float32, tensor.Elements()), 0); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
	}
}

func TestReadRefuses(t *testing.T) {
	r, err := open(file(`{"i":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"f":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}`, 8+8))
	if err != nil {
		t.Fatal(err)
	}
	integer, _ := r.Tensor("i")
	if err := integer.Read(make([]float32, 1), 0); err == nil || !strings.Contains(err.Error(), "I64") {
		t.Errorf("got %v", err)
	}
	float, _ := r.Tensor("f")
	for _, c := range []struct{ n, first int64 }{{3, 0}, {2, 1}, {1, -1}, {1, 2}} {
		if float.Read(make([]float32, c.n), c.first) == nil {
			t.Errorf("read %d values from %d of 2", c.n, c.first)
		}
	}
}

// PyTorch converts every half and bfloat16 number there is; ours must agree bit
// by bit (NaN as NaN).
func TestConversionAgreesWithPyTorch(t *testing.T) {
	want := pytest.Run(t, nil, "testdata/convert.py")
	if len(want) != 2*65536*4 {
		t.Fatalf("the script wrote %d bytes", len(want))
	}
	for i, d := range []DType{F16, BF16} {
		raw := file(fmt.Sprintf(`{"t":{"dtype":%q,"shape":[65536],"data_offsets":[0,131072]}}`, d), 0)
		for v := range 65536 {
			raw = binary.LittleEndian.AppendUint16(raw, uint16(v))
		}
		r, err := open(raw)
		if err != nil {
			t.Fatal(err)
		}
		tensor, _ := r.Tensor("t")
		got := make([]float32, 65536)
		if err := tensor.Read(got[:1000], 0); err != nil {
			t.Fatal(err)
		}
		if err := tensor.Read(got[1000:], 1000); err != nil {
			t.Fatal(err)
		}
		for v, g := range got {
			w := math.Float32frombits(binary.LittleEndian.Uint32(want[4*(65536*i+v):]))
			if math.Float32bits(g) != math.Float32bits(w) && !(g != g && w != w) {
				t.Fatalf("%s %#x: got %g, want %g", d, v, g, w)
			}
		}
	}
}

// shards is two files of one tensor each and the given index beside them.
func shards(t *testing.T, index string) string {
	t.Helper()
	dir := t.TempDir()
	for name, raw := range map[string][]byte{
		"1.safetensors": file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
		"2.safetensors": file(`{"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4),
		"3.safetensors": file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8),
		indexFile:       []byte(index),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestShards(t *testing.T) {
	r, err := OpenDir(os.DirFS(shards(t, `{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`)))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(r.Names(), r.Files()); got != "[a b] [model.safetensors.index.json 1.safetensors 2.safetensors]" {
		t.Error(got)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

// Weights beside an index that says nothing of them are not passed over.
func TestWeightsBesideTheIndexAreRefused(t *testing.T) {
	dir := shards(t, `{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`)
	raw := file(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4)
	if err := os.WriteFile(filepath.Join(dir, singleFile), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenDir(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), "there are both model.safetensors and model.safetensors.index.json") || !strings.Contains(err.Error(), "move out") {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, indexFile), []byte(`{"weight_map":{"a":"model.safetensors"}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	r, err := OpenDir(os.DirFS(dir))
	if err != nil {
		t.Fatalf("an index that names it: %v", err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestHostileIndexesAreRefused(t *testing.T) {
	for _, c := range []struct{ text, index string }{
		{`tensor "b" of 2.safetensors is listed in "1.safetensors"`, `{"weight_map":{"a":"1.safetensors","b":"1.safetensors","c":"2.safetensors"}}`},
		{`tensor "a" of 3.safetensors is listed in "1.safetensors"`, `{"weight_map":{"a":"1.safetensors","b":"3.safetensors"}}`},
		{`tensor "b" of 3.safetensors is not listed`, `{"weight_map":{"a":"3.safetensors"}}`},
		{`"c" is not in 2.safetensors`, `{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"2.safetensors"}}`},
		{`"a" occurs twice`, `{"weight_map":{"a":"1.safetensors","b":"2.safetensors","a":"2.safetensors"}}`},
		{`"weight_map" occurs twice`, `{"weight_map":{"a":"1.safetensors"},"weight_map":{"b":"2.safetensors"}}`},
		{"not the name of a file", `{"weight_map":{"a":"../1.safetensors"}}`},
		{"not the name of a file", `{"weight_map":{"a":"/etc/passwd"}}`},
		{"not the name of a file", `{"weight_map":{"a":"x/1.safetensors"}}`},
		{"not the name of a file", `{"weight_map":{"a":"."}}`},
		{"not the name of a file", `{"weight_map":{"a":".."}}`},
		{"not the name of a file", `{"weight_map":{"a":""}}`},
		{"invalid argument", `{"weight_map":{"a":"x\u0000"}}`},
		{"not a regular file", `{"weight_map":{"a":"directory"}}`},
		{"at most 100000000", `{"weight_map":{"a":"model.safetensors.index.json"}}`},
		{"no such file", `{"weight_map":{"a":"1.safetensors","z":"9.safetensors"}}`},
		{"no weight_map", `{}`},
		{"no weight_map", `{"weight_map":{}}`},
		{"not a string", `{"weight_map":{"a":1}}`},
		{"is expected", `{"weight_map":[]}`},
		{"is expected", `[]`},
		{"not UTF-8", "{\"weight_map\":{\"a\":\"\xff\"}}"},
		{"goes on", `{"weight_map":{"a":"1.safetensors"}}{}`},
		{"unexpected EOF", `{"weight_map":{"a":`},
		{"unexpected EOF", ``},
		{"larger than", strings.Repeat(" ", maxIndex+1)},
	} {
		t.Run(c.text, func(t *testing.T) {
			dir := shards(t, c.index)
			if err := os.Mkdir(filepath.Join(dir, "directory"), 0o755); err != nil {
				t.Fatal(err)
			}
			if _, err := OpenDir(os.DirFS(dir)); err == nil || !strings.Contains(err.Error(), c.text) {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := OpenDir(os.DirFS(t.TempDir())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A named pipe where a file should be does not hold up its reader.
func TestPipesAreNotOpened(t *testing.T) {
	for _, name := range []string{singleFile, indexFile} {
		dir := t.TempDir()
		if err := syscall.Mkfifo(filepath.Join(dir, name), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenDir(os.DirFS(dir)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Whatever is accepted can be read within the file.
func FuzzHeader(f *testing.F) {
	for _, c := range hostile {
		f.Add(c.raw)
	}
	f.Add(file(`{"t":{"dtype":"F32","shape":[2,0],"data_offsets":[0,0]},"u":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}`, 4))
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := open(raw)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		total := int64(0)
		for _, name := range r.Names() {
			tensor, _ := r.Tensor(name)
			total += tensor.end - tensor.begin
			if _, ok := converters[tensor.DType]; ok {
				if err := tensor.Read(make([]float32, tensor.Elements()), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
		if total > int64(len(raw)) {
			t.Fatalf("%d bytes of tensors in a file of %d", total, len(raw))
		}
	})
}

// A map that is accepted says what encoding/json reads in it.
func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"metadata":{"total_size":8},"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}`))
	f.Add([]byte(`{"weight_map":{"a":"1","a":"2"}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := parseIndex(raw)
		if err != nil {
			return
		}
		var want struct {
			Map map[string]string `json:"weight_map"`
		}
		// The field's name matches without regard to case, which parseIndex does not allow.
		if bytes.Contains(bytes.ToLower(raw), []byte(`"weight_map"`)) && bytes.Count(bytes.ToLower(raw), []byte("weight_map")) == 1 {
			if err := json.Unmarshal(raw, &want); err != nil || !maps.Equal(got, want.Map) {
				t.Fatalf("got %v, want %v (%v)", got, want.Map, err)
			}
		}
	})
}
