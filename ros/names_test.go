package ros

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func mustRemap(t *testing.T, rules ...string) (out []Remap) {
	t.Helper()
	for _, s := range rules {
		r, err := ParseRemap(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func TestNamesExpandAsInROS(t *testing.T) {
	n, err := NewNames(Options{Name: "vla", Namespace: "robot/left"})
	if err != nil {
		t.Fatal(err)
	}
	if n.FullyQualified() != "/robot/left/vla" || n.Namespace() != "/robot/left" || n.Node() != "vla" {
		t.Errorf("%q %q %q", n.FullyQualified(), n.Namespace(), n.Node())
	}
	for in, want := range map[string]string{
		"a": "/robot/left/a", "a/b": "/robot/left/a/b", "/a": "/a", "~": "/robot/left/vla", "~/a/b": "/robot/left/vla/a/b",
		"{ns}/a": "/robot/left/a", "{namespace}/{node}": "/robot/left/vla", "x{node}/y": "/robot/left/xvla/y", "/{node}": "/vla", "_a1": "/robot/left/_a1",
	} {
		if got, err := n.Topic(in); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
	root, err := NewNames(Options{Name: "vla"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := root.Topic("~/a"); err != nil || got != "/vla/a" || root.FullyQualified() != "/vla" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestInvalidNamesAreRefusedWithAReason(t *testing.T) {
	n, err := NewNames(Options{Name: "vla"})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"": "empty", "/": "slash", "a/": "ends with a slash", "a//b": "two slashes", "1a": "digit", "a/2": "digit", "a-b": "'-'", "a b": "' '", "é": "not allowed",
		"~a": "followed by a slash", "a~": "'~'", "{x}": "unknown substitution", "{node": "not closed", "node}": "'}'",
		strings.Repeat("a", 300): "at most 247",
	} {
		if got, err := n.Topic(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %q, error %v does not say %q", in, got, err, want)
		}
	}
	for _, o := range []Options{{}, {Name: "a/b"}, {Name: "1"}, {Name: "a", Namespace: "/x/"}, {Name: "a", Namespace: "x//y"}, {Name: strings.Repeat("a", 256)}} {
		if n, err := NewNames(o); err == nil {
			t.Errorf("%+v became %q", o, n.FullyQualified())
		}
	}
}

func TestRemapRules(t *testing.T) {
	rules := []string{"cam:=/camera_f", "/camera_f:=/chained", "other:joint:=/wrong", "vla:joint:=~/j", "rostopic://go:=topic", "rosservice://go:=service",
		"~/state:=/state", "cam:=/second"}
	n, err := NewNames(Options{Name: "vla", Namespace: "/r", Remaps: mustRemap(t, rules...)})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string][2]string{
		"cam":       {"/camera_f", "/camera_f"}, // the first rule, and rules do not chain
		"/r/cam":    {"/camera_f", "/camera_f"}, // names are compared fully qualified
		"/camera_f": {"/chained", "/chained"},
		"joint":     {"/r/vla/j", "/r/vla/j"},
		"go":        {"/r/topic", "/r/service"},
		"~/state":   {"/state", "/state"},
		"state":     {"/r/state", "/r/state"},
	} {
		topic, err := n.Topic(in)
		service, err2 := n.Service(in)
		if err != nil || err2 != nil || topic != want[0] || service != want[1] {
			t.Errorf("%s: %q %q, %v %v, want %q", in, topic, service, err, err2, want)
		}
	}
	n, err = NewNames(Options{Name: "vla", Namespace: "/r", Remaps: mustRemap(t, "x:__node:=no", "vla:__node:=new", "__name:=late", "vla:__ns:=/no", "new:__ns:=/q", "cam:=a")})
	if err != nil || n.FullyQualified() != "/q/new" {
		t.Fatalf("%+v, %v", n, err)
	}
	if got, err := n.Topic("cam"); err != nil || got != "/q/a" {
		t.Errorf("%q, %v", got, err)
	}
	for in, want := range map[string]string{
		"a": ":=", "a:=": "empty", ":=b": "empty", "a:=b c": "' '", "a-b:c:=d": "node name", "__node:=a/b": "slash", "__ns:=rel": "start with a slash", "a:b:c:=d": "':'",
	} {
		if r, err := ParseRemap(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %+v, error %v does not say %q", in, r, err, want)
		}
	}
}

// word draws one part of a name.
func word(t *rapid.T, label string) string {
	return rapid.StringMatching(`[a-zA-Z_][a-zA-Z0-9_]{0,8}`).Draw(t, label)
}

func TestNameProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n, err := NewNames(Options{Name: word(t, "node"), Namespace: "/" + word(t, "ns")})
		if err != nil {
			t.Fatal(err)
		}
		prefix := rapid.SampledFrom([]string{"", "/", "~/", "{ns}/", "{node}/"}).Draw(t, "prefix")
		name := prefix + word(t, "a") + "/" + word(t, "b")
		full, err := n.Topic(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := ValidateFullName(full); err != nil {
			t.Fatalf("%s became %s: %v", name, full, err)
		}
		if again, err := n.Topic(full); err != nil || again != full {
			t.Fatalf("%s is not stable: %s, %v", full, again, err)
		}
		// A rule from any spelling of a name applies to all spellings.
		to := "/" + word(t, "to")
		r := Remap{From: name, To: to}
		back, err := ParseRemap(r.String())
		if err != nil || back != r {
			t.Fatalf("%v came back as %v: %v", r, back, err)
		}
		m, err := NewNames(Options{Name: n.Node(), Namespace: n.Namespace(), Remaps: []Remap{back}})
		if err != nil {
			t.Fatal(err)
		}
		for _, spelling := range []string{name, full} {
			if got, err := m.Topic(spelling); err != nil || got != to {
				t.Fatalf("%s became %s, %v, want %s", spelling, got, err, to)
			}
		}
	})
}

// Whatever is accepted is a name that rmw accepts, and whatever is refused has a reason.
func FuzzNames(f *testing.F) {
	for _, s := range []string{"~/a", "{ns}/b", "/a/b", "a:=b", "n:rostopic://a:=~"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		n, err := NewNames(Options{Name: "n", Namespace: "/x"})
		if err != nil {
			t.Fatal(err)
		}
		if full, err := n.Topic(s); err == nil {
			if err := ValidateFullName(full); err != nil {
				t.Fatalf("%q became %q: %v", s, full, err)
			}
		}
		if r, err := ParseRemap(s); err == nil {
			if back, err := ParseRemap(r.String()); err != nil || back != r {
				t.Fatalf("%q: %+v came back as %+v: %v", s, r, back, err)
			}
			if n, err := NewNames(Options{Name: "n", Remaps: []Remap{r}}); err == nil {
				n.Topic("a")
			}
		}
	})
}

func TestIncompatibleNamesThePolicy(t *testing.T) {
	reliable, best := QoS{Depth: 1}, QoS{Reliability: BestEffort, Depth: 1}
	latched := LatchedQoS()
	for _, c := range []struct {
		offered, requested QoS
		want               string
	}{
		{reliable, best, ""}, {best, reliable, PolicyReliability}, {latched, reliable, ""}, {reliable, latched, PolicyDurability},
		{reliable, QoS{Depth: 1, Deadline: 1}, PolicyDeadline}, {QoS{Depth: 1, Deadline: 1}, reliable, ""}, {SensorDataQoS(), SensorDataQoS(), ""},
	} {
		if got := Incompatible(c.offered, c.requested); got != c.want {
			t.Errorf("(%v) with (%v): %q, want %q", c.offered, c.requested, got, c.want)
		}
	}
}

func TestEnvironment(t *testing.T) {
	look := func(env map[string]string) func(string) (string, bool) {
		return func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	}
	var o Options
	if err := o.FromEnvironment(look(map[string]string{"ROS_DOMAIN_ID": "42", "ROS_LOCALHOST_ONLY": "1"})); err != nil || o.DomainID != 42 || !o.LocalhostOnly {
		t.Errorf("%+v, %v", o, err)
	}
	if err := o.FromEnvironment(look(nil)); err != nil || o.DomainID != 42 {
		t.Errorf("%+v, %v", o, err)
	}
	for text, want := range map[string]int{"010": 8, "0x1F": 31} { // as C's strtoul has it
		if err := o.FromEnvironment(look(map[string]string{"ROS_DOMAIN_ID": text})); err != nil || o.DomainID != want {
			t.Errorf("%s is domain %d, %v", text, o.DomainID, err)
		}
	}
	for _, bad := range []string{"x", "-1", "233"} {
		if err := o.FromEnvironment(look(map[string]string{"ROS_DOMAIN_ID": bad})); err == nil {
			t.Errorf("domain %q was accepted", bad)
		}
	}
}

func TestClockTime(t *testing.T) {
	for _, c := range []struct {
		raw  []byte
		want int64
		ok   bool
	}{
		{[]byte{0, 1, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}, 2e9 + 3, true},
		{[]byte{0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3}, 2e9 + 3, true},
		{[]byte{0, 1, 0, 0, 2, 0, 0, 0}, 0, false},
		{[]byte{0, 2, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0}, 0, false},
	} {
		if got, ok := clockTime(c.raw); got != c.want || ok != c.ok {
			t.Errorf("% x: %d %v", c.raw, got, ok)
		}
	}
}
