package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy/bundle"
)

// What a node refuses is told in one line, without the usage and not twice; that
// nothing is published is tested in package node.
func TestNodeThatCannotStartSaysSoOnce(t *testing.T) {
	domain(t)
	spoiled := testbundle.Copy(t, func(*bundle.Manifest) {})
	if err := os.WriteFile(filepath.Join(spoiled, bundle.StatisticsFile), []byte("{}"), 0o644); err != nil {
		t.Fatal(err)
	}
	good := "policy:=" + testbundle.Dir(t)
	for name, c := range map[string]struct {
		names []string
		args  []string
	}{
		"no bundle":   {[]string{"/nowhere", "ddvla export"}, []string{"-p", "policy:=/nowhere"}},
		"wrong hash":  {[]string{spoiled, bundle.StatisticsFile, "sha256", "export the bundle anew"}, []string{"-p", "policy:=" + spoiled}},
		"no library":  {[]string{"/nowhere/libonnxruntime.so", "make setup", "runtime.library"}, []string{"-p", good, "-p", "runtime.library:=/nowhere/libonnxruntime.so"}},
		"bad setting": {[]string{"/nowhere/robot.urdf"}, []string{"-p", good, "-p", "urdf:=/nowhere/robot.urdf"}},
	} {
		t.Run(name, func(t *testing.T) {
			// Logs would be more lines; errors are told all the same.
			refused(t, 1, c.names, append([]string{"node", "--ros-args", "--log-level", "error"}, c.args...)...)
			refused(t, 1, c.names, append([]string{"node", "--ros-args", "--disable-stdout-logs", "--disable-rosout-logs"}, c.args...)...)
		})
	}
}
