package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/cyclone"
)

// patient publishes statuses in the domain, as a node does once a second, until
// the test is over.
func patient(t *testing.T, domain int, statuses ...msgs.DiagnosticStatus) {
	t.Helper()
	n, err := cyclone.NewNode(t.Context(), ros.Options{Name: "patient", DomainID: domain, LocalhostOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	pub, err := ros.Advertise[msgs.DiagnosticArray](n, "/diagnostics", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			if err := pub.Publish(&msgs.DiagnosticArray{Status: statuses}); err != nil {
				t.Error(err)
				return
			}
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestHealthIsWhatTheNodeSaysOfItself(t *testing.T) {
	status := func(level byte, name, message string) msgs.DiagnosticStatus {
		return msgs.DiagnosticStatus{Level: level, Name: name, Message: message}
	}
	well := status(msgs.DiagnosticOK, "ddvla: policy", "ok")
	for name, c := range map[string]struct {
		said  []msgs.DiagnosticStatus
		wrong []string // none is healthy
		shown []string
	}{
		"well":              {[]msgs.DiagnosticStatus{well}, nil, []string{"ok  ddvla: policy  ok"}},
		"a warning":         {[]msgs.DiagnosticStatus{well, status(msgs.DiagnosticWarn, "ddvla: arms", "disabled; call ~/enable")}, nil, []string{"warn  ddvla: arms"}},
		"never heard":       {[]msgs.DiagnosticStatus{status(msgs.DiagnosticStale, "ddvla: cameras", "head: nothing received")}, nil, []string{"stale  ddvla: cameras"}},
		"errors":            {[]msgs.DiagnosticStatus{well, status(msgs.DiagnosticError, "ddvla: joints", "left: silent"), status(msgs.DiagnosticError, "ddvla: arms", "stopped")}, []string{"ddvla: joints: left: silent", "ddvla: arms: stopped"}, nil},
		"another's error":   {[]msgs.DiagnosticStatus{status(msgs.DiagnosticError, "camera_driver: usb", "gone"), well, status(msgs.DiagnosticError, "ddvla2: arms", "stopped")}, nil, []string{"ok  ddvla: policy"}},
		"another node only": {[]msgs.DiagnosticStatus{status(msgs.DiagnosticOK, "ddvla2: policy", "ok"), status(msgs.DiagnosticOK, "robot/ddvla: policy", "ok")}, []string{"nothing heard of the node /ddvla"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			patient(t, domain(t), c.said...)
			timeout := "1m" // more than enough, and not waited for
			if len(c.wrong) > 0 && strings.HasPrefix(c.wrong[0], "nothing") {
				timeout = "1s"
			}
			code, stdout, stderr := call(t, "health", "--timeout", timeout)
			if want := min(len(c.wrong), 1); code != want {
				t.Errorf("status %d, want %d: %s", code, want, stderr)
			}
			for _, w := range c.wrong {
				if !strings.Contains(stderr, w) || strings.Count(stderr, "\n") != 1 {
					t.Errorf("%q is no line that says %q", stderr, w)
				}
			}
			for _, s := range c.shown {
				if !strings.Contains(stdout, s) {
					t.Errorf("%q does not show %q", stdout, s)
				}
			}
		})
	}
}

// A node in a namespace, and one that is not there.
func TestHealthOfANodeByName(t *testing.T) {
	id := domain(t)
	refused(t, 1, []string{"/robot/ddvla", "within 50ms", "publishers there: 0", fmt.Sprintf("domain %d", id)}, "health", "--node", "/robot/ddvla", "--timeout", "50ms")
	refused(t, 2, []string{"--timeout"}, "health", "--timeout", "0s")
	patient(t, id, msgs.DiagnosticStatus{Name: "robot/ddvla: arms", Message: "ok"})
	if code, stdout, stderr := call(t, "health", "--node", "/robot/ddvla", "--timeout", "1m"); code != 0 || !strings.Contains(stdout, "robot/ddvla: arms") {
		t.Errorf("status %d, %q, %q", code, stdout, stderr)
	}
}
