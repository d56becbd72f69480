package param

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/ros"
)

// The types are those that rcl_yaml_param_parser gives.
func TestScalarTypes(t *testing.T) {
	for in, want := range map[string]Value{
		"1": Int(1), "-7": Int(-7), "+3": Int(3), "0x1F": Int(31), "1.0": Double(1), "1e3": Double(1000), ".5": Double(0.5), "1.": Double(1),
		"true": Bool(true), "Off": Bool(false), "yes": Bool(true), "tRue": String("tRue"), "1_000": String("1_000"),
		".inf": Double(math.Inf(1)), "-.inf": Double(math.Inf(-1)), ".nan": Double(math.NaN()), "inf": Double(math.Inf(1)), "-Infinity": Double(math.Inf(-1)), "nan": Double(math.NaN()), "info": String("info"), "--inf": String("--inf"),
		"hello world": String("hello world"), `"1"`: String("1"), `'true'`: String("true"), `""`: String(""), "!!str 5": String("5"),
		"/camera_f/color": String("/camera_f/color"), "1.2.3": String("1.2.3"),
		"[1, 2]": Ints(1, 2), "[1.0, 2.5]": Doubles(1, 2.5), "[a, '1']": Strings("a", "1"), "[true, no]": Bools(true, false), "[]": Strings([]string{}...),
	} {
		got, err := parseValue(in)
		if err != nil || !got.Equal(want) {
			t.Errorf("%s: %v (%v), %v, want %v", in, got, got.kind, err, want)
		}
	}
	for in, want := range map[string]string{
		"": "empty", "~": "empty", "null": "empty", "[1, 2.0]": "one type", "[[1]]": "lists in lists", "{a: 1}": "mapping",
		"99999999999999999999": "64 bits", "1e999": "double", "[1": "did not find",
	} {
		if _, err := parseValue(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", in, err, want)
		}
	}
}

const file = `
/**:
  ros__parameters:
    use_sim_time: true
    rate: 5.0
/robot:
  ddvla:
    ros__parameters:
      cameras:
        head: {topic: /a, rows: [3, 4]}
      cameras.left.topic: "7"
ddvla:
  ros__parameters: {rate: 6.0}
/*/ddvla:
  ros__parameters: {one: 1}
/robot/**/other:
  ros__parameters: {two: 2}
`

func files(name string) ([]byte, error) {
	if name != "params.yaml" {
		return nil, fmt.Errorf("open %s: %w", name, os.ErrNotExist)
	}
	return []byte(file), nil
}

func TestParamsFileByNode(t *testing.T) {
	a, _, err := ParseArgs([]string{"--ros-args", "--params-file", "params.yaml"}, files)
	if err != nil {
		t.Fatal(err)
	}
	common := []string{"use_sim_time=true", "rate=5.0"}
	for node, want := range map[string][]string{
		"/robot/ddvla":   {"use_sim_time=true", "rate=5.0", "cameras.head.topic=/a", "cameras.head.rows=[3, 4]", `cameras.left.topic="7"`, "one=1"},
		"/ddvla":         {"use_sim_time=true", "rate=5.0", "rate=6.0"},
		"/a/b/ddvla":     common,
		"/robot/other":   {"use_sim_time=true", "rate=5.0", "two=2"},
		"/robot/x/other": {"use_sim_time=true", "rate=5.0", "two=2"},
		"/robots/other":  common,
	} {
		var got []string
		for _, x := range a.For(node) {
			got = append(got, x.Name+"="+x.Value.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %q\nwant %q", node, got, want)
		}
	}
}

func TestParamsFileMistakesNameTheLine(t *testing.T) {
	for in, want := range map[string]string{
		"a: {b: 1}":                              "line 1: \"b\": there must be ros__parameters",
		"ros__parameters: {a: 1}":                "below a node's name",
		"- a":                                    "starts with node names",
		"a:\n  ros__parameters:\n    b: [1, x]":  "line 3: parameter \"b\"",
		"a:\n  ros__parameters: {b: }":           "line 2: parameter \"b\": value is empty",
		"a:\n  ros__parameters: 5":               "must be a mapping",
		"a b:\n  ros__parameters: {b: 1}":        "neither a name",
		"a: {ros__parameters: {x: &q 1, y: *q}":  "did not find",
		"a: {ros__parameters: {x: &q 1, y: *q}}": "aliases",
		"a: {ros__parameters: {'': 1}}":          "empty",
		"\t":                                     "cannot start any token",
	} {
		if _, err := parseFile([]byte(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v does not say %q", in, err, want)
		}
	}
	for _, in := range []string{"", "# nothing\n", "a:\n  ros__parameters:\n"} {
		if rules, err := parseFile([]byte(in)); err != nil || len(rules) != 0 {
			t.Errorf("%q: %v, %v", in, rules, err)
		}
	}
}

func TestArgs(t *testing.T) {
	a, rest, err := ParseArgs(strings.Fields("node -v --ros-args -r __node:=vla -r __ns:=/robot -r cam:=/camera_f -p rate:=3.0 "+
		"--params-file params.yaml -p vla:rate:=4.0 -p other:rate:=9.0 --log-level warn --log-level vla:=DEBUG "+
		"--disable-rosout-logs -- extra --ros-args -p seed:=7 --"), files)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(rest, []string{"node", "-v", "extra"}) {
		t.Errorf("rest %q", rest)
	}
	names, err := ros.NewNames(ros.Options{Name: "ddvla", Remaps: a.Remaps})
	if err != nil || names.FullyQualified() != "/robot/vla" {
		t.Fatalf("%v, %v", names, err)
	}
	var rates []string
	for _, x := range a.For("/robot/vla") {
		if x.Name == "rate" || x.Name == "seed" {
			rates = append(rates, x.Value.String())
		}
	}
	if want := []string{"3.0", "5.0", "4.0", "7"}; !slices.Equal(rates, want) {
		t.Errorf("%q, want %q", rates, want)
	}
	if a.LogLevel("vla") != "debug" || a.LogLevel("vla.executor") != "debug" || a.LogLevel("robot.vla") != "warn" || a.LogLevel("x") != "warn" || !a.NoRosout || a.NoStdout {
		t.Errorf("%+v", a)
	}
}

func TestArgsMistakesAreNamed(t *testing.T) {
	for in, want := range map[string]string{
		"-p":                          "-p is the last argument",
		"-p rate":                     "name:=value",
		"-p rate:=":                   "empty",
		"-p a..b:=1":                  "empty part",
		"-p x-y:rate:=1":              "no node name",
		"-p :rate:=1":                 "no node name",
		"-r a":                        "from:=to",
		"-r a:=b-c":                   "character '-'",
		"--params-file nowhere":       "open nowhere",
		"--log-level loud":            "debug, info",
		"--frobnicate":                "--frobnicate",
		"-e /x":                       "not supported",
		"--params-file params.yaml x": "unknown ROS argument \"x\"",
	} {
		_, _, err := ParseArgs(append([]string{"--ros-args"}, strings.Fields(in)...), files)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v does not say %q", in, err, want)
		}
	}
}

// What String writes, -p reads back.
func TestValuesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z0-9+.-]{0,6}`))
		v := rapid.OneOf(
			rapid.Map(rapid.Bool(), Bool), rapid.Map(rapid.Int64(), Int), rapid.Map(rapid.Float64(), Double),
			rapid.Map(text, String),
			rapid.Map(rapid.SliceOfN(rapid.Int64(), 1, 4), func(v []int64) Value { return Ints(v...) }),
			rapid.Map(rapid.SliceOfN(rapid.Float64(), 1, 4), func(v []float64) Value { return Doubles(v...) }),
			rapid.Map(rapid.SliceOfN(text, 1, 4), func(v []string) Value { return Strings(v...) }),
		).Draw(t, "value")
		got, err := parseValue(v.String())
		if err != nil || !got.Equal(v) {
			t.Fatalf("%v (%s) came back as %v (%s): %v", v, v.kind, got, got.kind, err)
		}
	})
}

// Node patterns agree with a plain definition of the two wildcards.
func TestNodePatterns(t *testing.T) {
	part := rapid.SampledFrom([]string{"a", "b", "ab"})
	rapid.Check(t, func(t *rapid.T) {
		node := rapid.SliceOfN(part, 1, 4).Draw(t, "node")
		pattern := rapid.SliceOfN(rapid.OneOf(part, rapid.SampledFrom([]string{"*", "**"})), 1, 4).Draw(t, "pattern")
		var fits func(p, n []string) bool
		fits = func(p, n []string) bool {
			switch {
			case len(p) == 0:
				return len(n) == 0
			case p[0] == "**":
				return fits(p[1:], n) || len(n) > 0 && fits(p, n[1:])
			case len(n) == 0:
				return false
			}
			return (p[0] == "*" || p[0] == n[0]) && fits(p[1:], n[1:])
		}
		re, err := nodePattern("/" + strings.Join(pattern, "/"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := re.MatchString("/"+strings.Join(node, "/")), fits(pattern, node); got != want {
			t.Fatalf("%v on %v: %v, want %v", pattern, node, got, want)
		}
	})
}

func FuzzParamsFile(f *testing.F) {
	f.Add([]byte(file))
	f.Add([]byte("a: {ros__parameters: {x: &q [1], y: *q}}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		rules, err := parseFile(data)
		if err != nil {
			return
		}
		for _, r := range rules {
			if _, err := nodePattern(r.node); err != nil {
				t.Fatal(err)
			}
			for _, a := range r.assignments {
				if err := validName(a.Name); err != nil || a.Value.kind == KindNone {
					t.Fatalf("%+v %v", a, err)
				}
			}
		}
	})
}

func FuzzArgs(f *testing.F) {
	f.Add("x\x00--ros-args\x00-p\x00a:b:=[1, 2]\x00-r\x00n:rostopic://a:=~/b\x00--\x00y")
	f.Add("--ros-args\x00--log-level\x00a:=warn\x00--params-file\x00params.yaml")
	f.Fuzz(func(t *testing.T, line string) {
		a, rest, err := ParseArgs(strings.Split(line, "\x00"), files)
		if err != nil {
			return
		}
		if len(rest) > strings.Count(line, "\x00")+1 {
			t.Fatal("more arguments out than in")
		}
		a.For("/robot/ddvla")
		for _, r := range a.Remaps {
			back, err := ros.ParseRemap(r.String())
			if err != nil || back != r {
				t.Fatalf("%+v came back as %+v: %v", r, back, err)
			}
		}
	})
}
