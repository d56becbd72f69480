package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/ddvla/ddvla/internal/pytest"
)

// found is what the first group of a pattern matches in a file of the project.
func found(t *testing.T, file, pattern string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../..", file))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?m)" + pattern).FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s: nothing matches %s", file, pattern)
	}
	return string(m[1])
}

// The image has the versions that everything else is built and tested with.
func TestDockerfileHasTheVersionsOfTheRest(t *testing.T) {
	if image, setup := found(t, "Dockerfile", `^ARG ORT_VERSION=(\S+)$`), found(t, "tools/setup", `^ort_version=(\S+)$`); image != setup {
		t.Errorf("the Dockerfile has ONNX Runtime %s, tools/setup %s", image, setup)
	}
	if image, module := found(t, "Dockerfile", `^ARG GO_VERSION=(\S+)$`), found(t, "go.mod", `^go (\S+)$`); !strings.HasPrefix(module, image+".") {
		t.Errorf("the Dockerfile has Go %s, go.mod asks for %s", image, module)
	}
}

// ros2 bag opens the bags that ddvla records, which are MCAP.
func TestThePackageNeedsWhatItsBagsNeed(t *testing.T) {
	found(t, "package.xml", `<exec_depend>(rosbag2_storage_mcap)</exec_depend>`)
}

// tools/portable takes no directory that has something else in it, and paths from where the user is.
func TestPortable(t *testing.T) {
	script, err := filepath.Abs("../../tools/portable")
	if err != nil {
		t.Fatal(err)
	}
	root, user := t.TempDir(), t.TempDir()
	for _, dir := range []string{filepath.Join(root, "tools"), filepath.Join(root, "bin"), filepath.Join(user, "bundle"), filepath.Join(user, "prefix", "bin")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(mode os.FileMode, text string, path ...string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(path...), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	put(0o755, string(text), root, "tools", "portable")
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	put(0o755, string(shell), root, "bin", "ddvla") // any program that is linked
	put(0o644, "ort", user, "ort.so")
	put(0o644, "{}", user, "bundle", "policy.json")
	put(0o644, "mine", user, "prefix", "bin", "tool")
	run := func(args ...string) error {
		cmd := exec.Command(filepath.Join(root, "tools", "portable"), args...)
		cmd.Dir, cmd.Env = user, append(os.Environ(), "DDVLA_ORT_LIBRARY=ort.so")
		out, err := cmd.CombinedOutput()
		t.Logf("%s", out)
		return err
	}
	if err := run("prefix"); err == nil || fileText(t, user, "prefix", "bin", "tool") != "mine" {
		t.Errorf("a directory with other things: %v", err)
	}
	for range 2 { // also over what it has made
		if err := run("out", "bundle"); err != nil {
			t.Fatal(err)
		}
		if got := fileText(t, user, "out", "bin", "libonnxruntime.so.1") + fileText(t, user, "out", "bundles", "bundle", "policy.json"); got != "ort{}" {
			t.Errorf("%q", got)
		}
	}
	// What is to be copied from there would be gone before.
	if err := run("out", filepath.Join("out", "bundles", "bundle")); err == nil || fileText(t, user, "out", "bundles", "bundle", "policy.json") != "{}" {
		t.Errorf("onto itself: %v", err)
	}
}

// What compose.yaml starts exists and takes the arguments that it is given.
func TestComposeStartsWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../../compose.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var project struct {
		Services map[string]struct {
			Image   string
			Command any
		}
	}
	if err := yaml.Unmarshal(text, &project); err != nil {
		t.Fatal(err)
	}
	launches := 0
	for name, s := range project.Services {
		var command []string
		list, _ := s.Command.([]any)
		for _, word := range list {
			command = append(command, word.(string))
		}
		switch {
		case s.Image != "ddvla":
		case len(command) > 4 && command[0] == "ros2":
			launches++
			if got := strings.Join(command[:3], " "); got != "ros2 launch discrete_diffusion_vla" {
				t.Errorf("%s: %s", name, got)
			}
			declared := declaredArguments(t, command[3])
			for _, a := range command[4:] {
				argument, value, ok := strings.Cut(a, ":=")
				if !ok || !declared[argument] {
					t.Errorf("%s: %s takes no %s", name, command[3], a)
				}
				// ros2 launch refuses "name:=".
				if ifUnset := regexp.MustCompile(`\$\{\w+:-(.*?)\}`).ReplaceAllString(value, "$1"); ifUnset == "" {
					t.Errorf("%s: %s has no value where the variable is not set", name, a)
				}
			}
		case len(command) > 0 && command[0] == "ddvla":
			known := false
			for _, c := range commands() {
				known = known || c.name == command[1]
			}
			if !known {
				t.Errorf("%s: there is no ddvla %s", name, command[1])
			}
		default:
			t.Errorf("%s: command %q", name, command)
		}
	}
	if launches < 2 {
		t.Errorf("%d services launch something", launches)
	}
}

// declaredArguments are those of a launch file and of the ones that it includes.
func declaredArguments(t *testing.T, file string) map[string]bool {
	t.Helper()
	var read map[string]struct{ Arguments [][3]*string }
	if err := json.Unmarshal(pytest.Run(t, nil, "testdata/launch.py", "../../launch/"+file, "../../launch/cobot_magic.launch.py"), &read); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for _, f := range read {
		for _, a := range f.Arguments {
			names[*a[0]] = true
		}
	}
	return names
}
