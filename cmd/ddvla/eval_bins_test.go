package main

import (
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// The recorded commands come back within half a bin, closer from bins that were
// made for them, and a bundle that has these loses as little.
func TestEvalBins(t *testing.T) {
	out := filepath.Join(t.TempDir(), "edges.json")
	table := func(dir string, more ...string) (own, uniform, fitted []float64) {
		t.Helper()
		status, stdout, stderr := call(t, append([]string{"eval", "bins", "--bundle", dir, "--bag", filepath.Join(bags, "raw_mcap")}, more...)...)
		if status != 0 {
			t.Fatal(stderr)
		}
		for _, line := range strings.Split(stdout, "\n") {
			if !strings.HasPrefix(line, "| left_") && !strings.HasPrefix(line, "| right_") {
				continue
			}
			var name, unit string
			var mean, largest [3]float64
			var values, beyond int
			if _, err := fmt.Sscanf(strings.ReplaceAll(strings.ReplaceAll(line, "|", ""), "/", ""), "%s %s %g %g %g %g %g %g %d %d",
				&name, &unit, &mean[0], &largest[0], &mean[1], &largest[1], &mean[2], &largest[2], &values, &beyond); err != nil {
				t.Fatalf("%v: %s", err, line)
			}
			if values+beyond == 0 || mean[1] > largest[1] {
				t.Errorf("%s", line)
			}
			own, uniform, fitted = append(own, mean[0]), append(uniform, mean[1]), append(fitted, mean[2])
			if bound := math.Max(halfBin(t, dir, len(own)-1), 1e-6); largest[1] > bound*1.001 {
				t.Errorf("%s: half a bin is %g", line, bound)
			}
		}
		if len(own) != 14 {
			t.Fatalf("%d dimensions in\n%s", len(own), stdout)
		}
		return own, uniform, fitted
	}
	own, uniform, fitted := table(testbundle.Dir(t), "--out", out)
	sum := func(list []float64) (s float64) {
		for _, v := range list {
			s += v
		}
		return s
	}
	for i := range own {
		if own[i] != uniform[i] {
			t.Errorf("dimension %d: %g with the policy's uniform bins, %g with uniform ones", i, own[i], uniform[i])
		}
	}
	if !(sum(fitted) < sum(uniform)) {
		t.Errorf("fitted bins lose %g, uniform ones %g", sum(fitted), sum(uniform))
	}
	edges, err := weights.ReadBinEdges(out)
	if err != nil {
		t.Fatal(err)
	}
	plan := []string{"export", "--checkpoint", "../../policies/tiny-reach", "--action-rate", "20", "--plan", "--bin-edges"}
	if status, _, stderr := call(t, append(plan, out)...); status != 0 {
		t.Error(stderr)
	}
	refused(t, 1, []string{"bin-edges", "nowhere.json"}, append(plan, "nowhere.json")...)
	own, _, fitted = table(testbundle.Copy(t, func(m *bundle.Manifest) { m.Action.BinEdges = edges }))
	for i := range own {
		if math.Abs(own[i]-fitted[i]) > 1e-6 {
			t.Errorf("dimension %d: %g with the bundle's bins, %g with the same made again", i, own[i], fitted[i])
		}
	}
}

// halfBin is half a uniform bin of a dimension.
func halfBin(t *testing.T, dir string, dimension int) float64 {
	t.Helper()
	m, err := bundle.ReadManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	c, err := action.New(&bundle.Bundle{Dir: dir, Manifest: *m})
	if err != nil {
		t.Fatal(err)
	}
	return c.Span(dimension) / 255 / 2
}

func TestEvalBinsRefusals(t *testing.T) {
	dir, raw := testbundle.Dir(t), filepath.Join(bags, "raw_mcap")
	head := testbundle.Copy(t, func(m *bundle.Manifest) { m.Model.Head = bundle.L1Head })
	deltas := testbundle.Copy(t, func(m *bundle.Manifest) { m.Action.Dims[3].Space = bundle.JointDelta })
	for name, c := range map[string]struct {
		status int
		names  []string
		args   []string
	}{
		"no bundle":   {2, []string{"--bundle"}, []string{"--bag", raw}},
		"no bag":      {2, []string{"--bag"}, []string{"--bundle", dir}},
		"another fit": {2, []string{`"best"`, "quantiles"}, []string{"--bundle", dir, "--bag", raw, "--fit", "best"}},
		"every 0":     {2, []string{"--every is 0"}, []string{"--bundle", dir, "--bag", raw, "--every", "0"}},
		"L1 head":     {1, []string{"L1 head", "no bins"}, []string{"--bundle", head, "--bag", raw}},
		"deltas":      {1, []string{"left_joint4", "joint_delta"}, []string{"--bundle", deltas, "--bag", raw}},
		"no commands": {1, []string{"no recorded command"}, []string{"--bundle", dir, "--bag", copied(t, raw, func(topic string) bool { return !strings.HasPrefix(topic, "/master/") })}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.status, c.names, append([]string{"eval", "bins"}, c.args...)...) })
	}
}
