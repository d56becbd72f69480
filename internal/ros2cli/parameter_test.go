package ros2cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"
)

// parameters reads, writes and stores them.
func parameters(r *rig, t *testing.T) {
	sameDump(r, t, "-p", "instruction:='5'", "-p", "decode.drop_threshold:=[.inf, 1.0e-7]") // which are hard to write
	n := r.node(t)
	r.shows(t, []string{"/ddvla:\n", "  rate\n", "  cameras.head.topic\n", "  decode.preset\n", "  use_sim_time\n"}, "param", "list")
	r.shows(t, []string{"  limits.velocity\n"}, "param", "list", "/ddvla")
	r.shows(t, []string{"Double value is: 10.0\n"}, "param", "get", "/ddvla", "rate")
	r.shows(t, []string{"Integer value is: 2\n"}, "param", "get", "/ddvla", "decode.rounds")
	r.shows(t, []string{"Boolean value is: False\n"}, "param", "get", "/ddvla", "use_sim_time")
	r.shows(t, []string{"String value is: /camera_f/color/image_raw\n"}, "param", "get", "/ddvla", "cameras.head.topic")
	r.shows(t, []string{"Parameter name: rate\n", "Type: double\n", "Min value: 0.1\n", "Max value: 100.0\n"},
		"param", "describe", "/ddvla", "rate")
	r.shows(t, []string{"Parameter name: policy\n", "Type: string\n", "Read only: true\n"}, "param", "describe", "/ddvla", "policy")

	events := r.start(t, "ros2", "topic", "echo", "--full-length", "/parameter_events")
	r.shows(t, []string{"Subscription count: 1\n"}, "topic", "info", "/parameter_events")
	set := func(want, name, value string) {
		t.Helper()
		r.shows(t, []string{want}, "param", "set", "/ddvla", name, value)
	}
	set("Set parameter successful\n", "rate", "5.0")
	n.says("parameters changed")
	events.says("node: /ddvla\n", "changed_parameters:\n- name: rate\n", "double_value: 5.0\n")
	events.quit()
	r.shows(t, []string{"Double value is: 5.0\n"}, "param", "get", "/ddvla", "rate")
	set("Setting parameter failed: parameter \"rate\": 1000 is out of range; it must be 0.1 to 100 Hz\n", "rate", "1000.0")
	set("Setting parameter failed: parameter \"rate\" is a double and cannot become an integer: write 7.0\n", "rate", "7")
	set("Setting parameter failed: parameter \"policy\" is read-only: set it at start", "policy", "/elsewhere")
	set("Setting parameter failed: parameter \"decode.preset\": \"best\" is unknown; it must be one of", "decode.preset", "best")
	set("Setting parameter failed: parameter \"nonsense\" is not declared\n", "nonsense", "1")
	set("Set parameter successful\n", "decode.threshold", "[0.5, 0.25]")
	r.shows(t, []string{"Double values are: array('d', [0.5, 0.25])\n"}, "param", "get", "/ddvla", "decode.threshold")
	set("Set parameter successful\n", "decode.threshold", "[]")
	r.shows(t, []string{"Double value is: 5.0\n"}, "param", "get", "/ddvla", "rate") // what was refused left nothing
	dumpAndLoad(r, t, n)
}

// dumpAndLoad stores the parameters, changes them and brings them back, into the node that runs and into one
// that starts.
func dumpAndLoad(r *rig, t *testing.T, n *process) {
	path := filepath.Join(t.TempDir(), "ddvla.yaml")
	before := r.dump(t, "/ddvla", path)
	if before["rate"] != 5.0 || before["limits"].(map[string]any)["velocity"] != 1.0 {
		t.Errorf("dumped %v", before)
	}
	dumped, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// Humble's `ros2 param load` and `set` fail on empty strings, of any node: they take the YAML in them for
	// null. Files without them load.
	filled := filepath.Join(t.TempDir(), "filled.yaml")
	if err := os.WriteFile(filled, withoutEmptyStrings(t, dumped), 0o644); err != nil {
		t.Fatal(err)
	}
	r.shows(t, []string{"Set parameter successful\n"}, "param", "set", "/ddvla", "rate", "8.0")
	r.shows(t, []string{"Set parameter successful\n"}, "param", "set", "/ddvla", "decode.threshold", "[0.5, 0.25]")
	said := r.shows(t, []string{"Set parameter rate successful\n", "Set parameter cameras.head.topic successful\n", "Set parameter policy successful\n"},
		"param", "load", "/ddvla", filled)
	if strings.Contains(said, "failed") {
		t.Errorf("what was dumped does not load:\n%s", said)
	}
	if after := r.dump(t, "/ddvla", filepath.Join(t.TempDir(), "again.yaml")); !reflect.DeepEqual(after, before) {
		t.Errorf("after loading: %v\nwant %v", after, before)
	}
	// A node that starts takes all of the dump.
	if status := n.interrupt(syscall.SIGINT); status != 0 {
		t.Errorf("status %d after SIGINT", status)
	}
	r.start(t, r.ddvla, "node", "--backend", r.backend, "--ros-args", "--params-file", path).says(active)
	if after := r.dump(t, "/ddvla", filepath.Join(t.TempDir(), "again.yaml")); !reflect.DeepEqual(after, before) {
		t.Errorf("a node that starts with the dump has %v\nwant %v", after, before)
	}
}

// withoutEmptyStrings leaves parameters out that are empty strings; all else stays as it is written.
func withoutEmptyStrings(t *testing.T, file []byte) []byte {
	t.Helper()
	var doc yaml.Node
	if err := yaml.Unmarshal(file, &doc); err != nil {
		t.Fatal(err)
	}
	var prune func(n *yaml.Node) (left bool)
	prune = func(n *yaml.Node) bool {
		if n.Kind != yaml.MappingNode {
			return n.Kind != yaml.ScalarNode || n.Value != ""
		}
		var kept []*yaml.Node
		for pair := range slices.Chunk(n.Content, 2) {
			if prune(pair[1]) {
				kept = append(kept, pair...)
			}
		}
		n.Content = kept
		return len(kept) > 0
	}
	prune(doc.Content[0])
	out, err := yaml.Marshal(&doc)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// sameDump compares what ddvla says of the parameters of a command line with what ros2 says of a node that was
// started with it.
func sameDump(r *rig, t *testing.T, given ...string) {
	n := r.node(t, given...)
	path := filepath.Join(t.TempDir(), "ddvla.yaml")
	r.dump(t, "/ddvla", path)
	theirs, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(r.ddvla, append(append([]string{"params", "--format", "dump", "--ros-args"}, r.parameters()...), given...)...)
	ours, err := cmd.Output()
	if err != nil || string(ours) != string(theirs) {
		t.Errorf("%v: %v\n%s\nbut ros2 param dump says\n%s", cmd, err, ours, theirs)
	}
	if status := n.interrupt(syscall.SIGINT); status != 0 {
		t.Errorf("status %d after SIGINT", status)
	}
}

// dump stores a node's parameters in a file, as a person does, and returns them.
func (r *rig) dump(t *testing.T, node, path string) map[string]any {
	t.Helper()
	said, status := r.run(t, "bash", "-c", `ros2 param dump "$0" > "$1"`, node, path)
	text, err := os.ReadFile(path)
	t.Logf("$ ros2 param dump %s > %s\n%s%s", node, path, said, shortened(string(text)))
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v", status, err)
	}
	var file map[string]struct {
		Parameters map[string]any `yaml:"ros__parameters"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if file[node].Parameters == nil {
		t.Fatalf("no parameters of %s", node)
	}
	return file[node].Parameters
}
