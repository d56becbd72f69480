package param

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/internal/pytest"
)

// python starts testdata/dump.py, which does with PyYAML what ros2 param dump does.
func python(t *testing.T) func(node string, values map[string]Value) (string, error) {
	cmd := exec.Command(pytest.Interpreter(), "testdata/dump.py")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("testdata/dump.py: %v (set-up installs python3-yaml: make setup-test)", err)
		}
	})
	to, from := json.NewEncoder(in), json.NewDecoder(bufio.NewReader(out))
	return func(node string, values map[string]Value) (string, error) {
		parameters := []any{}
		for name, v := range values {
			parameters = append(parameters, []any{name, v.kind.String(), plainJSON(v)})
		}
		if err := to.Encode([]any{node, parameters}); err != nil {
			return "", err
		}
		var text string
		err := from.Decode(&text)
		return text, err
	}
}

// plainJSON is a value as testdata/dump.py takes it.
func plainJSON(v Value) any {
	double := func(f float64) any { return strconv.FormatFloat(f, 'g', -1, 64) }
	switch v.kind {
	case KindBool:
		return v.b
	case KindInt:
		return fmt.Sprint(v.i)
	case KindDouble:
		return double(v.f)
	case KindString:
		return v.s
	case KindBytes:
		return each(v.bytes, func(b byte) any { return fmt.Sprint(b) })
	case KindBools:
		return each(v.bools, func(b bool) any { return b })
	case KindInts:
		return each(v.ints, func(i int64) any { return fmt.Sprint(i) })
	case KindDoubles:
		return each(v.doubles, double)
	case KindStrings:
		return each(v.strings, func(s string) any { return s })
	}
	return nil
}

func each[T any](list []T, f func(T) any) []any {
	out := make([]any, len(list))
	for i := range list {
		out[i] = f(list[i])
	}
	return out
}

// A dump is what ros2 param dump prints, to the byte, whatever the values are.
func TestDumpIsThatOfROS(t *testing.T) {
	ask := python(t)
	// Words that YAML reads as other things, indicators, spaces, line breaks and what is escaped.
	odds := []string{"", "~", "null", "on", "y", "No", "true", "<<", "=", "1", "-7", "0x1F", "017", "0b1", "1_000", "12:30", "12:30.5",
		"1.5", ".5", "1.", "1e5", "1.e+5", "1.0e5", ".inf", "-.Inf", ".nan", "2024-01-02", "2024-1-2 3:04:05.6 -07:00", "2024-01-02T03:04:05Z", "---", "...x", "-", "- a", "-a", "?", "? a", "?a",
		":", "a:", "a: b", "a:b", ":a", "#", "a #b", "a#b", "!x", "&x", "*x", "@x", "`x", "%x", "{a}", "[a]", "a, b", "it's", "'", "''", "say \"x\"", "back\\slash",
		" a", "a ", "a  b", "a\nb", "\na", "a\n", "a\n\nb", "a \nb", "a\n b", "\n", " ", "\t", "\a\x1b\x00", "é", "rad/s²", "\u0085", "\u00a0", "\u2028", "\ufeff", "☃", "😀", "/puppet/joint_left"}
	same := func(node string, v Values) error {
		want, err := ask(node, v.m)
		if got := string(Dump(node, v)); err == nil && got != want {
			err = fmt.Errorf("\n got %q\nwant %q", got, want)
		}
		return err
	}
	for _, s := range odds { // alone, and across the end of a line
		for _, before := range []string{"", strings.Repeat("word ", 14) + "123", strings.Repeat("wide ü ", 8) + "1"} {
			for i := range 4 {
				long := before + strings.Repeat("-", i) + s + " and more"
				if err := same("/ddvla", Values{map[string]Value{"a.b": Strings(s, long), "c": String(long)}}); err != nil {
					t.Error(err)
				}
			}
		}
	}
	odd := rapid.SampledFrom(odds)
	words := rapid.Map(rapid.SliceOfN(rapid.OneOf(odd, rapid.StringMatching(`[a-z0-9]{1,30}`)), 1, 12), func(w []string) string { return strings.Join(w, " ") })
	text := rapid.OneOf(odd, words, rapid.String(), rapid.StringOfN(rapid.RuneFrom([]rune("ab '\"\\:#\n-é😀")), 0, 120, -1))
	double := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 1, 1e-4, 1e-5, 9.99e-5, 1e15, 1e16, 123456789012345678, 1.5e300, 5e-324, math.Inf(1), math.Inf(-1), math.NaN(), 0.1, 1000000}))
	value := rapid.OneOf(
		rapid.Just(Value{}), rapid.Map(rapid.Bool(), Bool), rapid.Map(rapid.Int64(), Int), rapid.Map(double, Double), rapid.Map(text, String), rapid.Map(text, String),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 3), func(v []byte) Value { return Bytes(v...) }),
		rapid.Map(rapid.SliceOfN(rapid.Bool(), 0, 3), func(v []bool) Value { return Bools(v...) }),
		rapid.Map(rapid.SliceOfN(rapid.Int64(), 0, 3), func(v []int64) Value { return Ints(v...) }),
		rapid.Map(rapid.SliceOfN(double, 0, 3), func(v []float64) Value { return Doubles(v...) }),
		rapid.Map(rapid.SliceOfN(text, 0, 3), func(v []string) Value { return Strings(v...) }),
	)
	part := rapid.OneOf(rapid.StringMatching(`[a-z_]{1,8}`), rapid.SampledFrom([]string{"on", "null", "1", "Rate", "y", "a b", "it's", "a:", strings.Repeat("long ", 20) + "name", strings.Repeat("ü ", 50) + "x"}))
	name := rapid.Map(rapid.SliceOfN(part, 1, 4), func(p []string) string { return strings.Join(p, ".") })
	rapid.Check(t, func(t *rapid.T) {
		v := Values{m: map[string]Value{}}
		for _, n := range rapid.SliceOfN(name, 0, 6).Draw(t, "names") {
			if clash := slices.ContainsFunc(slices.Collect(maps.Keys(v.m)), func(o string) bool {
				return strings.HasPrefix(o, n+".") || strings.HasPrefix(n, o+".")
			}); !clash { // a value that is a level too ends ros2 param dump
				v.m[n] = value.Draw(t, "value of "+n)
			}
		}
		node := rapid.SampledFrom([]string{"/ddvla", "/robot/ddvla", "/a/b/c_1"}).Draw(t, "node")
		if err := same(node, v); err != nil {
			t.Fatal(err)
		}
	})
}

// A dump is a params file, for the node it came from and no other.
func TestDumpIsAParamsFile(t *testing.T) {
	table := []Descriptor{{Name: "a.text", Default: String("it's")}, {Name: "a.number", Default: Double(1e-7)}, {Name: "b", Default: Doubles()},
		{Name: "c.d.e", Default: Ints(1, -2)}, {Name: "flag", Default: Bool(true)}, {Name: "n", Default: Int(3)}}
	set, err := New(table, nil)
	if err != nil {
		t.Fatal(err)
	}
	dump := Dump("/robot/ddvla", set.Values())
	args, _, err := ParseArgs([]string{"--ros-args", "--params-file", "dump.yaml"}, func(string) ([]byte, error) { return dump, nil })
	if err != nil {
		t.Fatal(err)
	}
	given := args.For("/robot/ddvla")
	if len(given) != len(table)+1 { // use_sim_time
		t.Errorf("%d of %d parameters:\n%s", len(given), len(table)+1, dump)
	}
	again, err := New(table, given)
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range table {
		if got := again.Values().Get(d.Name); !got.Equal(d.Default) {
			t.Errorf("%s is %v, was %v", d.Name, got, d.Default)
		}
	}
	if others := args.For("/ddvla"); len(others) > 0 {
		t.Errorf("another node takes %v", others)
	}
}
