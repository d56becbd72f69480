// Package rostest holds the suite that every back end of package ros passes, run against a peer in the
// same process and against one in another, and what tests of DDS need: a domain of their own and a way to
// wait. See [Suite].
package rostest

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Domain reserves a DDS domain for one test on this machine, so that tests and processes that run at the
// same time do not hear each other. Use it with ros.Options.LocalhostOnly.
func Domain(t testing.TB) int {
	t.Helper()
	const first, last = 1, 100 // above, the ports meet Linux's ephemeral ones
	start := rand.IntN(last)
	for i := range last {
		id := first + (start+i)%last
		f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("ros-domain-%d.lock", id)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			continue // another user's
		}
		if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
			f.Close()
			continue
		}
		t.Cleanup(func() { f.Close() })
		return id
	}
	t.Fatalf("all domains from %d to %d are in use; see %s", first, last, filepath.Join(os.TempDir(), "ros-domain-*.lock"))
	return 0
}

// patience is how long a test waits for what must happen before it fails: long, since it ends the wait
// only when something is broken.
const patience = 60 * time.Second

// Wait returns when done says so, and fails the test if that does not happen in a long time.
func Wait(t testing.TB, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// Receive takes the next value of a channel and fails the test if none comes in a long time.
func Receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited %v in vain: %s", patience, what)
		panic("unreachable")
	}
}
