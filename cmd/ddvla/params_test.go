package main

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros/param"
)

// -update rewrites the README's table and params/cobot_magic.yaml:
//
//	go test ./cmd/ddvla -run Parameters -update
var update = flag.Bool("update", false, "rewrite the files that are made from the parameter table")

// The README's table and the params file are what the table in package node says.
func TestParametersAreDocumentedAsTheyAre(t *testing.T) {
	const readme, params = "../../README.md", "../../params/cobot_magic.yaml"
	const begin, end = "<!-- parameters -->\n", "<!-- /parameters -->\n"
	page, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	table, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q ... %q", readme, begin, end)
	}
	file, err := os.ReadFile(params)
	if err != nil {
		t.Fatal(err)
	}
	want, wantFile := printed(t, "markdown"), printed(t, "yaml")
	if *update {
		if err := os.WriteFile(readme, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(params, []byte(wantFile), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if table != want {
		t.Errorf("%s is older than the table in package node; run this test with -update", readme)
	}
	if string(file) != wantFile {
		t.Errorf("%s is older than the table in package node; run this test with -update", params)
	}
}

func printed(t *testing.T, format string) string {
	t.Helper()
	var out bytes.Buffer
	if err := runParams(context.Background(), []string{"--format", format}, &out, os.Stderr); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// The params file is one that the node itself reads, and changes nothing.
func TestParamsFileHoldsTheDefaults(t *testing.T) {
	args, _, err := param.ParseArgs([]string{"--ros-args", "--params-file", "../../params/cobot_magic.yaml"}, os.ReadFile)
	if err != nil {
		t.Fatal(err)
	}
	set, err := param.New(node.Parameters(nil), args.For("/ddvla"))
	if err != nil {
		t.Fatal(err)
	}
	if unknown := set.Undeclared(); len(unknown) > 0 {
		t.Errorf("unknown parameters %v", unknown)
	}
	for _, d := range node.Parameters(nil) {
		if got := set.Values().Get(d.Name); !got.Equal(d.Default) {
			t.Errorf("%s is %v, default %v", d.Name, got, d.Default)
		}
	}
}

// A dump has what a node started with the same arguments has: its name, the
// params files and -p in their order, and nothing of other nodes.
func TestParamsDumpIsWhatACommandLineMakes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yaml")
	if err := os.WriteFile(file, []byte("/**:\n  ros__parameters: {rate: 3.0, max_age: 1.5}\n/other:\n  ros__parameters: {seed: 9}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	line := []string{"params", "--format", "dump", "--ros-args", "-r", "__ns:=/robot", "-r", "__node:=vla", "--params-file", file, "-p", "rate:=4.0", "-p", "nonsense:=1"}
	var out, errs bytes.Buffer
	if code := run(t.Context(), line, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	text := out.String()
	for _, want := range []string{"/robot/vla:\n  ros__parameters:\n", "\n    rate: 4.0\n", "\n    max_age: 1.5\n", "\n    seed: 1\n", "\n    use_sim_time: false\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.Contains(errs.String(), "nonsense") {
		t.Errorf("stderr does not name the unknown parameter: %q", errs.String())
	}
	dump := filepath.Join(t.TempDir(), "dump.yaml")
	if err := os.WriteFile(dump, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if code := run(t.Context(), []string{"params", "--format", "dump", "--ros-args", "-r", "__ns:=/robot", "-r", "__node:=vla", "--params-file", dump}, &out, &errs); code != 0 || out.String() != text {
		t.Errorf("exit %d; a dump as params file changes\n%s\nto\n%s", code, text, out.String())
	}
	for name, wrong := range map[string][]string{
		"must be 0.1 to 100 Hz":     {"params", "--format", "dump", "--ros-args", "-p", "rate:=1000.0"},
		"no/such/bundle":            {"params", "--format", "dump", "--ros-args", "-p", "policy:=no/such/bundle"},
		"--format dump takes them":  {"params", "--ros-args", "-p", "rate:=5.0"},
		"markdown, yaml or dump":    {"params", "--format", "json"},
		`unknown ROS argument "-x"`: {"params", "--ros-args", "-x"},
	} {
		errs.Reset()
		if code := run(t.Context(), wrong, &out, &errs); code == 0 || !strings.Contains(errs.String(), name) {
			t.Errorf("%v: exit %d, %q", wrong, code, errs.String())
		}
	}
}

// Each profile in params/ is one that the node takes, says all topics and how
// commands name the joints, and nothing that is no matter of naming.
func TestProfilesSayEveryNameAndNothingElse(t *testing.T) {
	// State and command topic of the left arm, as the clients of AgileX that the
	// profiles cite have them.
	left := map[string][3]string{
		"aloha":  {"/puppet/joint_left", "/master/joint_left", "joint1..6,gripper"},
		"rdt":    {"/puppet/joint_left", "/joint_left_states", "joint1..7"},
		"openpi": {"/joint_states_single_l", "/joint_states_l", "joint1..7"},
		"agx":    {"/left/feedback/joint_states", "/left/control/joint_states", "joint1..6,gripper"},
	}
	files, err := filepath.Glob("../../params/*.yaml")
	if err != nil || len(files) != len(left)+1 {
		t.Fatalf("%q, %v; each profile needs a line in this test", files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		want, ok := left[name]
		if !ok {
			continue // cobot_magic.yaml, which has a test of its own
		}
		args, _, err := param.ParseArgs([]string{"--ros-args", "--params-file", file}, os.ReadFile)
		if err != nil {
			t.Fatal(err)
		}
		set, err := param.New(node.Parameters(nil), args.For("/any/node"))
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if unknown := set.Undeclared(); len(unknown) > 0 {
			t.Errorf("%s: unknown parameters %v", file, unknown)
		}
		var said, names []string
		for _, a := range args.For("/any/node") {
			said = append(said, a.Name)
		}
		for _, d := range node.Parameters(nil) {
			if strings.HasPrefix(d.Name, "cameras.") || strings.HasPrefix(d.Name, "arms.") && strings.HasSuffix(d.Name, "_topic") || d.Name == "command.joint_names" {
				names = append(names, d.Name)
			}
		}
		slices.Sort(said)
		slices.Sort(names)
		if !slices.Equal(said, names) {
			t.Errorf("%s says %q, want %q", file, said, names)
		}
		v := set.Values()
		if got := [3]string{v.String("arms.left.state_topic"), v.String("arms.left.command_topic"), v.String("command.joint_names")}; got != want {
			t.Errorf("%s: %q, want %q", file, got, want)
		}
		// The right arm's topics are the left one's, mirrored.
		for _, topic := range []string{"state_topic", "command_topic"} {
			l, r := v.String("arms.left."+topic), v.String("arms.right."+topic)
			mirrored := strings.Replace(l, "left", "right", 1)
			if before, ok := strings.CutSuffix(l, "_l"); ok {
				mirrored = before + "_r"
			}
			if r != mirrored || r == l {
				t.Errorf("%s: %s is %s and %s", file, topic, l, r)
			}
		}
	}
}
