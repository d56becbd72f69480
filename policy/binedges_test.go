package policy_test

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights"
)

// bent are the edges of k bins, narrow in the middle.
func bent(k int) []float64 {
	list := make([]float64, k+1)
	for i := range list {
		x := 2*float64(i)/float64(k) - 1
		list[i] = (x + 3*x*x*x) / 4
	}
	return list
}

// tinyReach are the options of an export of the committed checkpoint.
func tinyReach(t *testing.T) weights.Options {
	o := weights.Defaults()
	o.Checkpoint, o.Out, o.ActionRate = "../policies/tiny-reach", filepath.Join(t.TempDir(), "bundle"), 20
	return o
}

// With bins of its own in some columns, a policy decodes the same tokens, which
// mean the middles of these bins, given ones too; where it averages, the value
// stays between those of the window.
func TestBinEdgesGoFromTheFileIntoTheChunk(t *testing.T) {
	edges := make([][]float64, 14)
	edges[1], edges[9] = bent(256), bent(256)
	raw, err := json.Marshal(edges)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "edges.json")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	o := tinyReach(t)
	if o.BinEdges, err = weights.ReadBinEdges(path); err != nil {
		t.Fatal(err)
	}
	if err := weights.Export(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Open(t.Context(), o.Out, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	}()
	if !slices.Equal(p.Manifest().Action.BinEdges[9], bent(256)) {
		t.Fatal("the manifest has other edges")
	}
	uniform := open(t, decode.Greedy, 1)
	seen := observe(p.Manifest())
	for window := range 3 {
		params := decode.Params{Preset: decode.Greedy, Rounds: 4, MeanWindow: &window}
		seen.Known = slices.Repeat([]int64{-1}, 112)
		seen.Known[1], seen.Known[2] = 3, 3
		var got [2]*policy.Result
		for i, pol := range []*policy.Policy{p, uniform} {
			if err := pol.SetDecode(params); err != nil {
				t.Fatal(err)
			}
			if got[i], err = pol.Infer(t.Context(), seen); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(got[0].Bins, got[1].Bins) {
			t.Fatal("other tokens")
		}
		near := func(shift int64) []float64 {
			bins := slices.Clone(got[0].Bins)
			for i, bin := range bins {
				if seen.Known[i] < 0 {
					bins[i] = min(max(bin+shift, 0), 255)
				}
			}
			c, err := p.Codec().ChunkFromBins(bins)
			if err != nil {
				t.Fatal(err)
			}
			return c.Values
		}
		low, high := near(int64(-window)), near(int64(window))
		differ := 0
		for i, v := range got[0].Chunk.Values {
			if !(v >= low[i]-2e-6 && v <= high[i]+2e-6) {
				t.Fatalf("window %d, value %d is %g, its bins say %g to %g", window, i, v, low[i], high[i])
			}
			switch d := math.Abs(v - got[1].Chunk.Values[i]); {
			case i%14 == 1 || i%14 == 9:
				if d > 1e-3 {
					differ++
				}
			case d > 2e-6:
				t.Fatalf("value %d of a uniform column is %g, was %g", i, v, got[1].Chunk.Values[i])
			}
		}
		if differ == 0 {
			t.Error("bins of one's own changed nothing")
		}
	}
}

// Edges that the statistics have are taken, and must be those that are given.
func TestBinEdgesInTheStatistics(t *testing.T) {
	o := tinyReach(t)
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(o.Checkpoint)); err != nil {
		t.Fatal(err)
	}
	o.Checkpoint = dir
	path := filepath.Join(dir, bundle.StatisticsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	edges := make([][]float64, 14)
	edges[3] = bent(256)
	all["cobot_magic_reach"]["action"].(map[string]any)["bin_edges"] = edges
	if raw, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	plan, err := weights.MakePlan(o)
	if err != nil {
		t.Fatal(err)
	}
	if e := plan.Manifest.Action.BinEdges; len(e) != 14 || !slices.Equal(e[3], edges[3]) {
		t.Errorf("%d lists of edges", len(e))
	}
	o.BinEdges = edges
	if _, err := weights.MakePlan(o); err != nil {
		t.Error(err)
	}
	o.BinEdges = make([][]float64, 14)
	if _, err := weights.MakePlan(o); err == nil || !strings.Contains(err.Error(), "bin-edges gives other edges") {
		t.Errorf("other edges: %v", err)
	}
	o = tinyReach(t)
	o.BinEdges = [][]float64{{-1, 1}}
	if _, err := weights.MakePlan(o); err == nil || !strings.Contains(err.Error(), "action.bin_edges has 1 lists") {
		t.Errorf("one list: %v", err)
	}
	for text, want := range map[string]string{"null": "null", "[[1,": "list of lists", `{"a": 1}`: "list of lists"} {
		bad := filepath.Join(t.TempDir(), "edges.json")
		if err := os.WriteFile(bad, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := weights.ReadBinEdges(bad); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
