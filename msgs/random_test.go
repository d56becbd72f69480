package msgs

import (
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestNewKnowsEveryTypeByItsName(t *testing.T) {
	names := Types()
	if !slices.IsSorted(names) {
		t.Error("Types is not sorted")
	}
	source, err := os.ReadFile("registry.go")
	if err != nil {
		t.Fatal(err)
	}
	if known := strings.Count(string(source), "\tcase \""); known != len(names) {
		t.Errorf("New knows %d types, Types lists %d", known, len(names))
	}
	for _, name := range names {
		m, ok := New(name)
		if !ok {
			t.Errorf("no type %s", name)
			continue
		}
		if m.ROSType() != name {
			t.Errorf("New(%q) is a %s", name, m.ROSType())
		}
	}
	if m, ok := New("std_msgs/msg/Nothing"); ok || m != nil {
		t.Error("New makes a message of an unknown type")
	}
}

// random draws a message of a type, with the given strings in it. NaN is the
// usual one, so that other languages can hold it.
func random(rosType string, text *rapid.Generator[string]) *rapid.Generator[Message] {
	return rapid.Custom(func(t *rapid.T) Message {
		m, ok := New(rosType)
		if !ok {
			t.Fatalf("no type %s", rosType)
		}
		rapid.Bool().Draw(t, "") // rapid wants a draw for messages without fields too
		fill(t, reflect.ValueOf(m).Elem(), "", text)
		return m
	})
}

// unicodeText draws UTF-8. A byte order mark at the start is dropped by
// JavaScript's decoder.
func unicodeText() *rapid.Generator[string] {
	return rapid.Map(rapid.StringN(-1, -1, 64), func(s string) string {
		return strings.TrimLeft(s, "\ufeff")
	})
}

func asciiText() *rapid.Generator[string] { return rapid.StringMatching(`[ -~]{0,64}`) }

func fill(t *rapid.T, v reflect.Value, tag reflect.StructTag, text *rapid.Generator[string]) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), v.Type().Field(i).Tag, text)
		}
	case reflect.Slice:
		most := 4
		if strings.HasSuffix(tag.Get("ros"), "[<=1]") {
			most = 1
		}
		n := rapid.IntRange(0, most).Draw(t, "length")
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			fill(t, v.Index(i), "", text)
		}
	case reflect.Array:
		for i := range v.Len() {
			fill(t, v.Index(i), "", text)
		}
	case reflect.String:
		v.SetString(text.Draw(t, "string"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int32:
		v.SetInt(int64(rapid.Int32().Draw(t, "int32")))
	case reflect.Int64:
		v.SetInt(rapid.Int64().Draw(t, "int64"))
	case reflect.Uint8:
		v.SetUint(uint64(rapid.Byte().Draw(t, "uint8")))
	case reflect.Uint32:
		v.SetUint(uint64(rapid.Uint32().Draw(t, "uint32")))
	case reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint64"))
	case reflect.Float64:
		v.SetFloat(rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{
			0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 5e-324,
		})).Draw(t, "float64"))
	default:
		t.Fatalf("no random %s", v.Type())
	}
}
