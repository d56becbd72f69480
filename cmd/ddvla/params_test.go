package main

import (
	"bytes"
	"context"
	"flag"
	"os"
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
