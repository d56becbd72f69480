package onnx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pb "github.com/advancedclimatesystems/gonnx/onnx"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/internal/pytest"
)

// counting builds a Loop that uses what Graph offers: a weight, constants and
// values of the graph around the body, scanned outputs.
func counting(store *Store) *Graph {
	g := New("counting", store)
	x := g.Input("x", Float32, Symbol("B"), Size(3))
	trips := g.Input("trips", Int64, Size(1))
	scaled := g.Sized(g.MatMul(x, g.Scope("dense").Weight("w")), Symbol("B"), Size(2))
	body := g.Body("round")
	body.Input("i", Int64)
	body.Input("go", Bool)
	state := body.Input("state", Float32, Symbol("B"), Size(2))
	next := body.Sized(body.Add(state, scaled), Symbol("B"), Size(2))
	large := body.Greater(body.ReduceMax(next, false, 0, 1), body.Float(100))
	kept := body.Where(large, body.Mul(next, body.Float(0.5)), next)
	body.Output("continue", body.Bool(true), Bool)
	body.Output("state_out", kept, Float32, Symbol("B"), Size(2))
	body.Output("seen", kept, Float32, Symbol("B"), Size(2))
	out := g.Loop(g.Reshape(trips, g.Ints()), Value{}, []Value{scaled}, body)
	g.Output("last", out[0], Float32, Symbol("B"), Size(2))
	g.Output("all", out[1], Float32, Symbol("T"), Symbol("B"), Size(2))
	return g
}

func TestCheckerAcceptsTheModel(t *testing.T) {
	dir := t.TempDir()
	var data bytes.Buffer
	store := NewStore("weights.data", &data)
	if err := store.Add("unused", []int64{1}, []float32{7}); err != nil {
		t.Fatal(err)
	}
	if err := store.Add("w", []int64{3, 2}, []float32{1, 2, 3, 4, 5, 6}); err != nil {
		t.Fatal(err)
	}
	raw, err := counting(store).Marshal("test")
	if err != nil {
		t.Fatal(err)
	}
	again, err := counting(store).Marshal("test")
	if err != nil || !bytes.Equal(raw, again) {
		t.Fatalf("the same calls gave other bytes (%v)", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "m.onnx"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "weights.data"), data.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out := pytest.Run(t, nil, "testdata/check.py", filepath.Join(dir, "m.onnx"))
	// The script loads the weight through the external data entry and prints it.
	if got, want := strings.TrimSpace(string(out)), "ir 8 opset 17 w [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestMarshalNamesTheMistake(t *testing.T) {
	store := NewStore("d", &bytes.Buffer{})
	for want, build := range map[string]func(g *Graph){
		"not a value of this graph": func(g *Graph) { g.Abs(New("other", nil).Float(1)) },
		"a size is given to \"\"":   func(g *Graph) { g.Sized(Value{}, Size(1)) },
		"used twice":                func(g *Graph) { g.Input("x", Float32); g.Input("x", Float32) },
		"not in the store":          func(g *Graph) { g.Weight("absent") },
		"was given 2 values":        func(g *Graph) { g.FloatTensor([]int64{3}, []float32{1, 2}) },
		"has 0 inputs":              func(g *Graph) { g.Loop(g.Int(1), Value{}, nil, g.Body("b")) },
		"was not started by": func(g *Graph) {
			b := New("other", nil).Body("b")
			b.Input("i", Int64)
			b.Input("c", Bool)
			b.Output("c_out", b.Bool(true), Bool)
			g.Loop(g.Int(1), Value{}, nil, b)
		},
	} {
		g := New("g", store)
		build(g)
		g.Abs(g.Float(1)) // a later, correct call does not hide the first mistake
		if _, err := g.Marshal("test"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if _, err := New("g", nil).Body("b").Marshal("test"); err == nil {
		t.Error("a body was marshalled as a model")
	}
	// A value of a body is not visible outside it.
	g := New("g", nil)
	inner := g.Body("b").Input("x", Float32)
	g.Abs(inner)
	if _, err := g.Marshal("test"); err == nil {
		t.Error("a value of a body was used outside it")
	}
}

// Tensors of any size come back from where the entries say, aligned and apart.
func TestStoreKeepsWhatWasAdded(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var data bytes.Buffer
		store := NewStore("d", &data)
		tensors := rapid.SliceOfN(rapid.SliceOfN(rapid.Float32(), 0, 40), 0, 6).Draw(t, "tensors")
		for i, values := range tensors {
			if err := store.Add(string(rune('a'+i)), []int64{int64(len(values))}, values); err != nil {
				t.Fatal(err)
			}
		}
		for i, values := range tensors {
			at := store.tensors[string(rune('a'+i))]
			if at.offset%alignment != 0 || at.length != int64(4*len(values)) {
				t.Fatalf("tensor %d lies at %d, %d bytes", i, at.offset, at.length)
			}
			for j, v := range values {
				raw := binary.LittleEndian.Uint32(data.Bytes()[at.offset+int64(4*j):])
				if raw != math.Float32bits(v) {
					t.Fatalf("tensor %d value %d is %x", i, j, raw)
				}
			}
		}
	})
}

func TestStoreRefuses(t *testing.T) {
	store := NewStore("d", &bytes.Buffer{})
	if err := store.Add("x", []int64{2}, []float32{1, 2}); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		store.Add("x", []int64{1}, []float32{1}),
		store.Add("y", []int64{3}, []float32{1}),
		store.Add("z", []int64{-1}, nil),
		store.Add("huge", []int64{1 << 40, 1 << 40}, nil),
		store.Add("nan", []int64{2}, []float32{1, float32(math.NaN())}),
		store.AddAs("nan16", Float16, []int64{1}, []float32{float32(math.NaN())}),
		store.AddAs("nanb", BFloat16, []int64{1}, []float32{float32(math.NaN())}),
		store.Add("inf", []int64{1}, []float32{float32(math.Inf(-1))}),
	} {
		if err == nil {
			t.Error("accepted")
		}
	}
}

// full is a disk that takes n bytes.
type full struct{ n int }

func (w *full) Write(p []byte) (int, error) {
	if len(p) > w.n {
		return w.n, errors.New("no space left on device")
	}
	w.n -= len(p)
	return len(p), nil
}

func TestStorePassesOnWriteErrors(t *testing.T) {
	store := NewStore("d", &full{n: 70})
	if err := store.Add("fits", []int64{1}, []float32{1}); err != nil {
		t.Fatal(err)
	}
	for _, n := range []int64{1, 2} { // the padding fits, then not even that
		err := store.Add("more", []int64{3}, []float32{1, 2, 3})
		if _, added := store.tensors["more"]; err == nil || !strings.Contains(err.Error(), `"more": no space`) || added {
			t.Errorf("%d: got %v", n, err)
		}
	}
}

func TestDescribeRefuses(t *testing.T) {
	dir := t.TempDir()
	external := func(change func(w *pb.TensorProto)) []byte {
		w := &pb.TensorProto{
			Name: "w", DataType: int32(Float32), Dims: []int64{3}, DataLocation: pb.TensorProto_EXTERNAL,
			ExternalData: []*pb.StringStringEntryProto{{Key: "location", Value: "d"}, {Key: "offset", Value: "0"}, {Key: "length", Value: "12"}},
		}
		change(w)
		raw, err := proto.Marshal(&pb.ModelProto{Graph: &pb.GraphProto{Initializer: []*pb.TensorProto{w}}})
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	for want, raw := range map[string][]byte{
		"not an ONNX model":   []byte("<html>"),
		"holds no graph":      {},
		"float32[-1]":         external(func(w *pb.TensorProto) { w.Dims = []int64{-1} }),
		"float32[1073741824":  external(func(w *pb.TensorProto) { w.Dims = []int64{1 << 30, 1 << 30, 1 << 30} }),
		"string[3]":           external(func(w *pb.TensorProto) { w.DataType = int32(pb.TensorProto_STRING) }),
		"at 0, 8 bytes":       external(func(w *pb.TensorProto) { w.ExternalData[2].Value = "8" }),
		`offset "x"`:          external(func(w *pb.TensorProto) { w.ExternalData[1].Value = "x" }),
		`at -4, 12 bytes`:     external(func(w *pb.TensorProto) { w.ExternalData[1].Value = "-4" }),
		`lies in "" at 0, 12`: external(func(w *pb.TensorProto) { w.ExternalData[0].Value = "" }),
	} {
		path := filepath.Join(dir, "m.onnx")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := Describe(path); !errors.Is(err, ErrModel) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if d, err := describe(external(func(*pb.TensorProto) {})); err != nil || d.Tensors[0].Bytes != 12 {
		t.Errorf("got %+v (%v)", d, err)
	}
	if _, err := Describe(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	// A file too large for protobuf is not read.
	path := filepath.Join(dir, "m.onnx")
	if err := os.Truncate(path, maxModel); err != nil {
		t.Fatal(err)
	}
	if _, err := Describe(path); !errors.Is(err, ErrModel) {
		t.Errorf("got %v", err)
	}
}

func FuzzDescribe(f *testing.F) {
	store := NewStore("d", &bytes.Buffer{})
	if err := store.Add("w", []int64{3, 2}, make([]float32, 6)); err != nil {
		f.Fatal(err)
	}
	raw, err := counting(store).Marshal("test")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, err := describe(raw)
		if err != nil {
			return
		}
		for _, w := range d.Tensors {
			if w.Bytes < 0 || w.Offset < 0 {
				t.Fatalf("%+v", w)
			}
		}
	})
}
