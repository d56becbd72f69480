package policy_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// constantHead is an L1 head for tiny-reach in the safetensors format: all is
// zero but the last biases, so every row of a chunk is these.
func constantHead(t *testing.T, path string, row []float32) {
	t.Helper()
	const hidden, inner = 128, 8
	in, dims := int64(hidden*len(row)), int64(len(row))
	header, size := map[string]any{}, 0
	add := func(name string, shape ...int64) {
		begin, n := size, int64(4)
		for _, d := range shape {
			n *= d
		}
		size += int(n)
		header[name] = map[string]any{"dtype": "F32", "shape": shape, "data_offsets": []int{begin, size}}
	}
	add("model.layer_norm1.weight", in)
	add("model.layer_norm1.bias", in)
	add("model.fc1.weight", inner, in)
	add("model.fc1.bias", inner)
	add("model.layer_norm2.weight", inner)
	add("model.layer_norm2.bias", inner)
	add("model.fc2.weight", dims, inner)
	add("model.fc2.bias", dims)
	text, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	raw := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	raw = append(raw, text...)
	raw = append(raw, make([]byte, size-4*len(row))...)
	for _, v := range row {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(v))
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// regression opens a policy whose head predicts row everywhere.
func regression(t *testing.T, row []float32) *policy.Policy {
	t.Helper()
	o := weights.Defaults()
	o.Checkpoint, o.Out, o.ActionRate = t.TempDir(), filepath.Join(t.TempDir(), "bundle"), 20
	if err := os.CopyFS(o.Checkpoint, os.DirFS("../policies/tiny-reach")); err != nil {
		t.Fatal(err)
	}
	constantHead(t, filepath.Join(o.Checkpoint, "action_head.safetensors"), row)
	if err := weights.Export(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Open(t.Context(), o.Out, policy.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// What an L1 head says is brought to robot units, beyond the statistics' bounds
// too, in one pass and without a confidence.
func TestL1HeadGivesChunks(t *testing.T) {
	row := make([]float32, 14)
	for i := range row {
		row[i] = float32(i)*0.2 - 1.3 // -1.3..1.3
	}
	p := regression(t, row)
	m := p.Manifest()
	if m.Model.Head != bundle.L1Head {
		t.Fatalf("head %q", m.Model.Head)
	}
	o := observe(m)
	for range 2 {
		r, err := p.Infer(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		c := r.Chunk
		if r.Rounds != 1 || c.Confidence != nil || !c.Stamp.Equal(o.Stamp) || c.Rows() != m.Action.Chunk || c.Dims != 14 || r.Prompt == "" {
			t.Errorf("%d rounds, confidences %v, %d rows of %d, prompt %q", r.Rounds, c.Confidence, c.Rows(), c.Dims, r.Prompt)
		}
		stats := jointBounds(t)
		for i := range 14 {
			if m.Action.Dims[i].Gripper != nil {
				continue
			}
			low, high := stats[0][i], stats[1][i]
			want := 0.5*(float64(row[i])+1)*(high-low+1e-8) + low
			for h := range c.Rows() {
				if got := c.At(h)[i]; !(math.Abs(got-want) < 1e-6) {
					t.Errorf("row %d, %s is %g, want %g", h, c.Names[i], got, want)
				}
			}
		}
	}
	if err := p.Warm(t.Context()); err != nil {
		t.Error(err)
	}
}

// jointBounds are q01 and q99 of tiny-reach's actions.
func jointBounds(t *testing.T) [2][]float64 {
	t.Helper()
	raw, err := os.ReadFile("../policies/tiny-reach/" + bundle.StatisticsFile)
	if err != nil {
		t.Fatal(err)
	}
	var sets map[string]struct {
		Action struct{ Q01, Q99 []float64 }
	}
	if err := json.Unmarshal(raw, &sets); err != nil {
		t.Fatal(err)
	}
	for _, set := range sets {
		return [2][]float64{set.Action.Q01, set.Action.Q99}
	}
	t.Fatal("no statistics")
	return [2][]float64{}
}

// NaN of the network is no chunk.
func TestL1HeadRefusesNaN(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1)} {
		row := make([]float32, 14)
		row[9] = float32(bad)
		p := regression(t, row)
		if _, err := p.Infer(t.Context(), observe(p.Manifest())); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is %v", "right_joint3", bad)) {
			t.Errorf("got %v", err)
		}
	}
}
