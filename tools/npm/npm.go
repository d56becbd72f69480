// Package npm lets Go tests run an independent JavaScript implementation beside
// ours: Foxglove's CDR, rosmsg and MCAP packages, YAML. package.json names them;
// set-up installs them into .deps/npm at the repository's root.
package npm

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Run runs a CommonJS script with Node, feeds it stdin and returns its standard
// output. A failing script fails the test with what it printed on standard
// error.
func Run(t testing.TB, stdin []byte, script string, args ...string) []byte {
	t.Helper()
	modules := filepath.Join(root(t), ".deps", "npm", "node_modules")
	if _, err := os.Stat(modules); err != nil {
		t.Fatalf("no npm packages at %s: run make setup-test", modules)
	}
	cmd := exec.Command("node", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	cmd.Stdin = bytes.NewReader(stdin)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("node %s: %v\n%s", script, err, msg.String())
	}
	return out.Bytes()
}

// root finds the repository's root: tests run in their package's folder, below
// the one with go.mod.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if filepath.Dir(dir) == dir {
			t.Fatal("no go.mod above the test's folder")
		}
		dir = filepath.Dir(dir)
	}
}
