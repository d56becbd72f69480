package msgs

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
)

// sample is a message that ROS 2 Humble serialized, with its values as Python
// saw them.
type sample struct {
	Type  string
	CDR   []byte
	Value map[string]any
}

func humble(t testing.TB) []sample {
	t.Helper()
	f, err := os.Open("testdata/humble.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []sample
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Type  string
			CDR   string
			Value map[string]any
		}
		d := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		d.UseNumber()
		if err := d.Decode(&line); err != nil {
			t.Fatal(err)
		}
		data, err := base64.StdEncoding.DecodeString(line.CDR)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, sample{line.Type, data, line.Value})
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestHumbleDecodesToTheSameValuesAndEncodesToTheSameBytes(t *testing.T) {
	samples := humble(t)
	if len(samples) != 102 {
		t.Fatalf("%d samples, want 102", len(samples))
	}
	reused := map[string]Message{}
	for i, s := range samples {
		fresh, ok := New(s.Type)
		if !ok {
			t.Fatalf("line %d: no type %s", i+1, s.Type)
		}
		if reused[s.Type] == nil {
			reused[s.Type], _ = New(s.Type)
		}
		for _, m := range []Message{fresh, reused[s.Type]} {
			if err := Unmarshal(s.CDR, m); err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			sameValue(t, s.Type, reflect.ValueOf(m).Elem(), s.Value)
			got, err := Marshal(m)
			if err != nil {
				t.Fatalf("line %d: %v", i+1, err)
			}
			if !bytes.Equal(got, s.CDR) {
				t.Errorf("line %d: %s\n got %x\nwant %x", i+1, s.Type, got, s.CDR)
			}
		}
	}
}

// sameValue compares a Go value with the JSON of the same ROS value, field names
// included.
func sameValue(t *testing.T, path string, v reflect.Value, want any) {
	t.Helper()
	bad := func() { t.Errorf("%s: %v, want %v", path, v.Interface(), want) }
	switch w := want.(type) {
	case map[string]any:
		if v.Kind() != reflect.Struct {
			bad()
			return
		}
		fields := 0
		same := func(name string, field reflect.Value) {
			value, ok := w[name]
			if !ok {
				t.Errorf("%s: ROS has no field %q", path, name)
				return
			}
			fields++
			sameValue(t, path+"."+name, field, value)
		}
		for i := range v.NumField() {
			f, field := v.Type().Field(i), v.Field(i)
			if tag := f.Tag.Get("ros"); strings.Contains(tag, "%d") {
				for n := range field.Len() {
					same(fmt.Sprintf(tag, n+1), field.Index(n))
				}
				continue
			}
			same(fieldName(f.Name), field)
		}
		delete(w, "structure_needs_at_least_one_member")
		if fields != len(w) {
			t.Errorf("%s: %d fields, ROS has %d", path, fields, len(w))
		}
	case []any:
		if v.Len() != len(w) {
			bad()
			return
		}
		for i := range w {
			sameValue(t, path, v.Index(i), w[i])
		}
	case string:
		number, err := strconv.ParseFloat(w, 64)
		switch { // JavaScript makes strings of what JSON's numbers cannot hold,
		// rclpy shows a byte as a string of one Latin-1 character
		case err == nil && v.CanFloat():
			if math.Float64bits(number) != math.Float64bits(v.Float()) {
				bad()
			}
		case v.CanInt() && strconv.FormatInt(v.Int(), 10) == w:
		case v.Kind() == reflect.Uint64 && strconv.FormatUint(v.Uint(), 10) == w:
		case v.Kind() == reflect.Uint8 && string(rune(v.Uint())) == w:
		case v.Kind() == reflect.String && v.String() == w:
		default:
			bad()
		}
	case bool:
		if v.Kind() != reflect.Bool || v.Bool() != w {
			bad()
		}
	case json.Number:
		text := w.String()
		switch {
		case v.CanInt():
			var n int64
			if json.Unmarshal([]byte(text), &n) != nil || n != v.Int() {
				bad()
			}
		case v.CanUint():
			var n uint64
			if json.Unmarshal([]byte(text), &n) != nil || n != v.Uint() {
				bad()
			}
		default:
			f, err := w.Float64()
			if err != nil || math.Float64bits(f) != math.Float64bits(v.Float()) {
				bad()
			}
		}
	default:
		bad()
	}
}
