package torchfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"testing"
)

// with is a state_dict of one tensor in storage "0" of 6 float32.
func with(offset int64, size, stride string) string {
	return state(text("w"), rebuilt(stored("torch\nFloatStorage", "0", 6), offset, size, stride))
}

// in is a state_dict of what these bytes leave on the stack.
func in(value string) string { return state(text("w"), value) }

const proto = "\x80\x02"

// pickles holds what must be refused as data.pkl beside storages "0" of 24 bytes
// and "1" of 4, and a part of the error.
var pickles = []struct{ name, want, raw string }{
	// Code.
	{"os.system", `"os.system": a state_dict of tensors has no such thing, the file may hold code`, in("cos\nsystem\n" + tupleOf(text("touch /tmp/x")) + "R")},
	{"eval", `"builtins.eval"`, in("cbuiltins\neval\n" + tupleOf(text("1")) + "R")},
	{"eval_by_stack", `"builtins.eval"`, in("\x8c\x08builtins\x8c\x04eval\x93")},
	{"never_called", `"builtins.exec"`, in("cbuiltins\nexec\n")},
	{"before_the_dict", `"os.system"`, proto + "cos\nsystem\n0}."},
	{"torch.load", `"torch.load"`, in("ctorch\nload\n")},
	{"other_rebuild", `"torch._utils._rebuild_tensor"`, in("ctorch._utils\n_rebuild_tensor\n")},
	{"carriage_return", `"collections.OrderedDict\r"`, in("ccollections\nOrderedDict\r\n)R")},
	{"dotted_name", `"torch.storage.UntypedStorage.from_file"`, in("\x8c\x0dtorch.storage\x8c\x18UntypedStorage.from_file\x93")},
	{"module_in_the_name", `"torch.storage.UntypedStorage"`, in("\x8c\x05torch\x8c\x16storage.UntypedStorage\x93")},
	{"stack_global_of_numbers", "STACK_GLOBAL of an integer and a text", in("K\x01" + text("a") + "\x93")},
	{"reduce_text", "REDUCE calls a text", in(text("os.system") + ")R")},
	{"reduce_storage_class", "REDUCE calls torch.FloatStorage", in("ctorch\nFloatStorage\n" + tupleOf(number(1<<40)) + "R")},
	{"reduce_without_tuple", "OrderedDict with a text", in("ccollections\nOrderedDict\n" + text("x") + "R")},
	{"OrderedDict_of_items", "OrderedDict with arguments", in("ccollections\nOrderedDict\n" + tupleOf(")") + "R")},
	{"INST", "(INST)", in("(ios\nsystem\n")},
	{"OBJ", "(OBJ)", in("(ccollections\nOrderedDict\no")},
	{"NEWOBJ", "(NEWOBJ)", in("ccollections\nOrderedDict\n)\x81")},
	{"NEWOBJ_EX", "(NEWOBJ_EX)", in("ccollections\nOrderedDict\n)}\x92")},
	{"EXT1", "(EXT1)", in("\x82\x01")},
	{"EXT2", "(EXT2)", in("\x83\x01\x00")},
	{"EXT4", "(EXT4)", in("\x84\x01\x00\x00\x00")},
	{"PERSID", "(PERSID)", in("Pstorage\n")},
	{"DUP", "(DUP)", in("N2")},
	{"unknown_instruction", "0xff (unknown)", in("\xff")},
	{"build_tensor", "BUILD of a tensor", in(six + "}b")},
	{"build_plain_dict", "BUILD of a dict", in("}}" + text("_metadata") + "}sb")},
	{"build_other_state", "BUILD of a dict", in(ordered + "}" + text("__class__") + "}sb")},
	{"build_more_state", "BUILD of a dict", in(ordered + "}" + text("_metadata") + "}s" + text("x") + "}sb")},
	{"build_metadata_of_tensor", "BUILD of a dict", in(ordered + "}" + text("_metadata") + six + "sb")},
	{"build_tuple", "BUILD of a dict", in(ordered + "N" + "}\x86b")},
	{"hooks", "no hooks", in("ctorch._utils\n_rebuild_parameter\n" + tupleOf(six, "\x88", "}"+text("a")+"Ns") + "R")},
	{"tensor_hooks", "no hooks", in("ctorch._utils\n_rebuild_tensor_v2\n" + tupleOf(stored("torch\nFloatStorage", "0", 6), number(0), numbers(6), numbers(1), "\x89", "}"+text("a")+"Ns") + "R")},
	{"negated", "negated", in("ctorch._utils\n_rebuild_tensor_v2\n" + tupleOf(stored("torch\nFloatStorage", "0", 6), number(0), numbers(6), numbers(1), "\x89", ordered, "}"+text("neg")+"\x88s") + "R")},
	{"too_few_arguments", "1 arguments", in("ctorch._utils\n_rebuild_tensor_v2\n" + tupleOf(six) + "R")},
	{"other_arguments", "arguments are not", in("ctorch._utils\n_rebuild_tensor_v2\n" + tupleOf("N", "N", "N", "N", "N", "N") + "R")},
	{"parameter_of_text", "a parameter", in("ctorch._utils\n_rebuild_parameter\n" + tupleOf(text("x"), "\x88", ordered) + "R")},

	// Persistent ids.
	{"module_id", "persistent id", in(tupleOf(text("module"), "ctorch\nFloatStorage\n", text("0"), text("cpu"), number(6)) + "Q")},
	{"id_of_a_function", "persistent id", in(tupleOf(text("storage"), "ctorch._utils\n_rebuild_tensor_v2\n", text("0"), text("cpu"), number(6)) + "Q")},
	{"id_of_tuples", "persistent id", in(tupleOf(")", ")", ")", ")", ")") + "Q")},
	{"short_id", "persistent id", in(")Q")},
	{"id_none", "persistent id", in("NQ")},
	{"missing_storage", "a/data/7 is missing", in(stored("torch\nFloatStorage", "7", 6))},
	{"storage_outside", "a/data/../version is missing", in(stored("torch\nFloatStorage", "../version", 6))},
	{"storage_size", "5 values of F32 has 24 bytes", in(stored("torch\nFloatStorage", "0", 5))},
	{"storage_negative", "has 24 bytes", in(stored("torch\nFloatStorage", "0", -6))},
	{"storage_overflow", "has 24 bytes", in(stored("torch\nFloatStorage", "0", 1<<62+6))},
	{"storage_odd", "has 4 bytes", in(stored("torch\nDoubleStorage", "1", 0))},
	{"storage_of_two_types", `storage "0" is 6 values of F32`, state(text("a"), six, text("b"), rebuilt(stored("torch\nIntStorage", "0", 6), 0, numbers(6), numbers(1)))},

	// Tensors beyond their storage.
	{"size_negative", "negative", with(0, numbers(-1), numbers(1))},
	{"stride_negative", "negative", with(5, numbers(2), numbers(-1))},
	{"offset_negative", "offset -1", with(-1, numbers(2), numbers(1))},
	{"offset_negative_32_bits", "offset -1", in("ctorch._utils\n_rebuild_tensor_v2\n" + tupleOf(stored("torch\nFloatStorage", "0", 6), "J\xff\xff\xff\xff", ")", ")", "\x89", ordered) + "R")},
	{"offset_beyond", "offset 7", with(7, numbers(0), numbers(1))},
	{"scalar_beyond", "beyond a storage of 6", with(6, ")", ")")},
	{"size_beyond", "beyond a storage of 6", with(0, numbers(7), numbers(1))},
	{"offset_and_size_beyond", "beyond a storage of 6", with(1, numbers(2, 3), numbers(3, 1))},
	{"offset_largest", "offset", with(1<<63-1, numbers(2), numbers(1))},
	{"stride_beyond", "beyond a storage of 6", with(0, numbers(2, 3), numbers(4, 1))},
	{"stride_largest", "beyond a storage of 6", with(0, numbers(3), numbers(1<<63-1))},
	{"product_overflows", "beyond a storage of 6", with(0, numbers(1<<32, 1<<32), numbers(1<<32, 1))},
	{"product_overflows_to_0", "beyond a storage of 6", with(0, numbers(1<<62, 4), numbers(4, 1))},
	{"empty_overflows", "overflows", with(0, numbers(1<<62, 1<<62, 0), numbers(1, 1, 1))},
	{"expanded", "overlap", with(0, numbers(1<<40), numbers(0))},
	{"sliding", "overlap", with(0, numbers(3, 3), numbers(1, 1))},
	{"interleaved", "overlap", with(0, numbers(2, 3), numbers(2, 1))},
	{"lengths_differ", "differ in length", with(0, numbers(2, 3), numbers(1))},
	{"rank", "arguments are not", with(0, numbers(make([]int64, 33)...), numbers(make([]int64, 33)...))},
	{"size_of_texts", "arguments are not", with(0, tupleOf(text("a")), numbers(1))},

	// Machine.
	{"empty", "ends early", ""},
	{"protocol_0", "not as a pickle", "(dp0\n."},
	{"protocol_1", "not as a pickle", "\x80\x01}."},
	{"protocol_6", "not as a pickle", "\x80\x06}."},
	{"protocol_twice", "(PROTO)", proto + proto + "}."},
	{"no_stop", "ends early", proto + "}"},
	{"stop_at_once", "0 values", proto + "."},
	{"two_values", "2 values", proto + "}}."},
	{"mark_left", "1 marks", proto + "}(."},
	{"bytes_after_stop", "stops at byte 3 of 6", proto + "}.}."},
	{"empty_stack", "stack is empty", proto + "R"},
	{"below_the_mark", "stack is empty", proto + "}" + text("a") + "(Ns."},
	{"no_mark", "no mark", proto + "}u."},
	{"tuple_without_mark", "no mark", proto + "t."},
	{"odd_items", "1 names and values", proto + "}(Nu."},
	{"items_of_a_tuple", "in a tuple", proto + ")" + text("a") + "Ns."},
	{"items_of_nothing", "stack is empty", proto + "(Nu."},
	{"name_twice", `"w" occurs twice`, state(text("w"), six, text("w"), six)},
	{"name_twice_in_two", `"w" occurs twice`, proto + "}" + text("w") + six + "s" + text("w") + six + "s."},
	{"name_is_none", "key of a dict is None", proto + "}NNs."},
	{"memo_not_put", "memo 0 of 0", in("h\x00")},
	{"memo_not_put_long", "memo 4294967295 of 0", in("j\xff\xff\xff\xff")},
	{"memo_gap", "memo 1 is put before 0", in("Nq\x01")},
	{"memo_huge", "memo 4294967295 is put", in("Nr\xff\xff\xff\xff")},
	{"memo_of_nothing", "stack is empty", proto + "\x94}."},
	{"integer_huge", "integer of 255 bytes", in("\x8a\xff" + strings.Repeat("\xff", 255))},
	{"integer_empty", "integer of 0 bytes", in("\x8a\x00")},
	{"text_huge", "text of 4294967295 bytes", in("X\xff\xff\xff\xff")},
	{"text_too_long", "text of 4097 bytes", in("X\x01\x10\x00\x00" + strings.Repeat("a", 4097))},
	{"text_beyond_the_end", "ends early", proto + "\x8c\xffabc"},
	{"text_not_utf8", "not UTF-8", in("\x8c\x02\xed\xa0")},
	{"frame_huge", "goes beyond the end", "\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff}."},
	{"frame_beyond_the_end", "goes beyond the end", "\x80\x04\x95\x03\x00\x00\x00\x00\x00\x00\x00}."},
	{"global_without_end", "without an end", proto + "c" + strings.Repeat("a", 5000)},
	{"marks", "more than 64 open marks", in(strings.Repeat("(", 1000))},
	{"stack", "more than 16384 values", in(strings.Repeat("N", 100_000))},
	{"deep_tuples", "a tuple, not a dict", proto + ")" + strings.Repeat("\x85", 1_000_000) + "."},
	{"deep_dicts", `"a" is a dict`, proto + strings.Repeat("}"+text("a"), 8000) + "N" + strings.Repeat("s", 8000) + "."},
	{"circle", `"a" is a dict`, proto + "}q\x00" + text("a") + "h\x00s."},
	{"doubling", "arguments are not", with(0, ")q\x00"+strings.Repeat("h\x00\x86q\x00", 60), numbers(1))},
	{"doubling_dict", `"w" is a tuple`, in("}\x94" + strings.Repeat("\x94h\x00\x86", 60))},
}

func TestHostilePicklesAreRefused(t *testing.T) {
	for _, c := range pickles {
		t.Run(c.name, func(t *testing.T) {
			raw := around(t, c.raw)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := open(raw)
			runtime.ReadMemStats(&after)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			// What a file says of sizes is not believed before it is checked.
			if used, most := after.TotalAlloc-before.TotalAlloc, uint64(1<<20+100*len(raw)); used > most {
				t.Errorf("%d bytes allocated for a file of %d", used, len(raw))
			}
		})
	}
}

func TestHostileArchivesAreRefused(t *testing.T) {
	good := in(six)
	data, version := file{"a/data/0", strings.Repeat("x", 24)}, file{"a/version", "3\n"}
	pickle := file{"a/data.pkl", good}
	entry := func(h zip.FileHeader, with ...file) []byte {
		var out bytes.Buffer
		w := zip.NewWriter(&out)
		e, err := w.CreateHeader(&h)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(e, good); err != nil {
			t.Fatal(err)
		}
		for _, f := range with {
			e, err := w.CreateHeader(&zip.FileHeader{Name: f.name})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(e, f.data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	// directory changes 4 bytes of the entry's record in the zip directory.
	directory := func(raw []byte, name string, at int, change func(uint32) uint32) []byte {
		i := bytes.LastIndex(raw, []byte(name)) - 46 + at
		binary.LittleEndian.PutUint32(raw[i:], change(binary.LittleEndian.Uint32(raw[i:])))
		return raw
	}
	both := around(t, state(text("a"), six, text("b"), rebuilt(stored("torch\nFloatStorage", "1", 1), 0, ")", ")")))
	first := bytes.LastIndex(both, []byte("a/data/0")) - 46 + 42
	larger := func(n uint32) uint32 { return n + 4096 }
	long := strings.Repeat("n", 60_000)
	var many []file
	for i := range 150 {
		many = append(many, file{fmt.Sprint(long, i), ""})
	}
	for _, c := range []struct {
		name, want string
		raw        []byte
	}{
		{"empty", "not a zip file", nil},
		{"text", "not a zip file", []byte("<html>")},
		{"lfs", "git lfs pull", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")},
		{"legacy_pickle", "before 1.6", []byte("\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")},
		{"legacy_tar", "before 1.6", append(append(make([]byte, 257), "ustar"...), make([]byte, 300)...)},
		{"start_only", "cut short", []byte("PK\x03\x04")},
		{"no_pickle", "without <archive>/data.pkl", pack(t, data, version)},
		{"pickle_without_archive", "without <archive>/data.pkl", pack(t, file{"data.pkl", good}, data, version)},
		{"pickle_deeper", "without <archive>/data.pkl", pack(t, file{"a/b/data.pkl", good}, data, version)},
		{"two_pickles", "has both", pack(t, pickle, file{"b/data.pkl", good}, data, version)},
		{"pickle_twice", "occurs twice", pack(t, pickle, pickle, data, version)},
		{"storage_twice", "occurs twice", pack(t, pickle, data, data, version)},
		{"no_version", "a/version is missing", pack(t, pickle, data)},
		{"version_0", `version "0"`, pack(t, pickle, data, file{"a/version", "0"})},
		{"version_11", `version "11\n"`, pack(t, pickle, data, file{"a/version", "11\n"})},
		{"version_text", `version "three"`, pack(t, pickle, data, file{"a/version", "three"})},
		{"version_long", "at most 16", pack(t, pickle, data, file{"a/version", strings.Repeat("3", 17)})},
		{"big_endian", `byte order "big"`, pack(t, pickle, data, version, file{"a/byteorder", "big"})},
		{"script", "TorchScript", pack(t, pickle, data, version, file{"a/constants.pkl", ""})},
		{"storage_missing", "a/data/0 is missing", pack(t, pickle, version)},
		{"storage_of_another_archive", "a/data/0 is missing", pack(t, pickle, version, file{"b/data/0", data.data})},
		{"compressed", "compressed or encrypted", entry(zip.FileHeader{Name: "a/data.pkl", Method: zip.Deflate}, data, version)},
		{"compressed_as_long", "compressed or encrypted", directory(entry(zip.FileHeader{Name: "a/data.pkl"}, data, version), "a/data.pkl", 10, func(n uint32) uint32 { return n | 93 })},
		{"encrypted", "compressed or encrypted", entry(zip.FileHeader{Name: "a/data.pkl", Flags: 1}, data, version)},
		{"sizes_differ", "compressed or encrypted", directory(around(t, good), "a/data/0", 24, larger)},
		{"beyond_the_file", "beyond the file", directory(directory(around(t, good), "a/data/0", 24, larger), "a/data/0", 20, larger)},
		{"overlap", "overlap", directory(bytes.Clone(both), "a/data/1", 42, func(uint32) uint32 { return binary.LittleEndian.Uint32(both[first:]) })},
		{"no_header_there", "a/data/0", directory(around(t, good), "a/data/0", 42, func(n uint32) uint32 { return n + 1 })},
		{"large_pickle", "at most 4194304", pack(t, file{"a/data.pkl", strings.Repeat("N", maxPickle+1)}, data, version)},
		{"large_directory", "larger than 8388608", pack(t, append(many, pickle, data, version)...)},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := open(c.raw)
			if !errors.Is(err, ErrFormat) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %.500v, want %q", err, c.want)
			}
		})
	}
	// The same files without a fault are read.
	for _, raw := range [][]byte{
		both, entry(zip.FileHeader{Name: "a/data.pkl"}, data, version),
		pack(t, pickle, data, version, file{"a/byteorder", "little"}, file{"a/.data/serialization_id", "1"}),
	} {
		if r, err := open(raw); err != nil || len(r.Names()) == 0 {
			t.Error(err)
		} else if err := readAll(r); err != nil {
			t.Error(err)
		}
	}
}

// sound is a state_dict as PyTorch writes it: an OrderedDict with _metadata, views,
// a parameter, memo.
var sound = "\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(" +
	text("module.fc1.weight") + "q\x02" + six +
	text("module.fc1.bias") + "ctorch._utils\n_rebuild_parameter\n" + tupleOf(
	rebuilt(stored("torch\nFloatStorage", "0", 6), 1, numbers(2, 2), numbers(1, 2)), "\x88", "h\x00)R") + "R" +
	text("module.steps") + rebuilt(stored("torch\nShortStorage", "1", 2), 1, ")", ")") +
	"u}" + text("_metadata") + "h\x00)R" + text("") + "}" + text("version") + "K\x01sssb."

func TestCutShortAnywhere(t *testing.T) {
	raw := around(t, sound)
	if r, err := open(raw); err != nil || fmt.Sprint(r.Names()) != "[fc1.bias fc1.weight steps]" {
		t.Fatal(err)
	}
	for n := range raw {
		if _, err := open(raw[:n]); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes of %d: %v", n, len(raw), err)
		}
	}
	for n := range sound {
		if _, err := open(around(t, sound[:n])); !errors.Is(err, ErrFormat) {
			t.Fatalf("%d bytes of %d of the pickle: %v", n, len(sound), err)
		}
	}
}

// check refuses a file as ErrFormat or reads all of it.
func check(t *testing.T, raw []byte) {
	t.Helper()
	r, err := open(raw)
	if err != nil {
		if !errors.Is(err, ErrFormat) {
			t.Fatalf("untyped error %v", err)
		}
		return
	}
	for _, name := range r.Names() {
		if tensor, _ := r.Tensor(name); tensor.Bytes() > int64(len(raw)) {
			t.Fatalf("%q has %d bytes, the file %d", name, tensor.Bytes(), len(raw))
		}
	}
	if err := readAll(r); err != nil {
		t.Fatal(err)
	}
}

// Whatever byte is damaged, what is accepted can be read within the file.
func TestDamagedAnywhere(t *testing.T) {
	raw := around(t, sound)
	for i, b := range raw {
		for _, other := range []byte{b ^ 1, b ^ 0x80, 0, 0xff, '.', '('} {
			raw[i] = other
			check(t, raw)
		}
		raw[i] = b
	}
}

func FuzzPickle(f *testing.F) {
	for _, c := range pickles {
		if len(c.raw) < 10_000 {
			f.Add([]byte(c.raw))
		}
	}
	f.Add([]byte(sound))
	f.Fuzz(func(t *testing.T, pickle []byte) { check(t, around(t, string(pickle))) })
}

func FuzzFile(f *testing.F) {
	f.Add(around(f, sound))
	f.Add(around(f, in(six)))
	f.Add(pack(f, file{"a/data.pkl", state()}, file{"a/version", "3"}, file{"a/byteorder", "little"}))
	f.Fuzz(func(t *testing.T, raw []byte) { check(t, raw) })
}
