// Package pytest lets Go tests run an independent Python implementation beside
// ours: PyTorch for the network, Pillow and NumPy for images, SentencePiece for
// text. The modules are Debian's (python3-torch and so on), which a Python of
// another origin on PATH does not see, so the interpreter is looked for first.
package pytest

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Interpreter returns the Python to use: $DDVLA_PYTHON, else /usr/bin/python3,
// else python3 from PATH.
func Interpreter() string {
	if p := os.Getenv("DDVLA_PYTHON"); p != "" {
		return p
	}
	if _, err := os.Stat("/usr/bin/python3"); err == nil {
		return "/usr/bin/python3"
	}
	return "python3"
}

// Run runs script with args, feeds it stdin and returns its standard output.
// A failing script fails the test with what it printed on standard error. One that
// hangs is ended after half of the time that the tests have left, and tells by that
// where it and the processes that it started were.
func Run(t testing.TB, stdin []byte, script string, args ...string) []byte {
	t.Helper()
	ctx := t.Context()
	if d, ok := t.(interface{ Deadline() (time.Time, bool) }); ok {
		if end, ok := d.Deadline(); ok {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, time.Until(end)/2)
			defer cancel()
		}
	}
	cmd := exec.CommandContext(ctx, Interpreter(), append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1", "PYTHONFAULTHANDLER=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGABRT) } // of which faulthandler tells
	cmd.WaitDelay = 5 * time.Second                                                      // for what holds the pipes open
	cmd.Stdin = bytes.NewReader(stdin)
	var out, msg bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &msg
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v (set-up installs its modules: make setup-test)\n%s", cmd.Path, script, err, msg.String())
	}
	return out.Bytes()
}
