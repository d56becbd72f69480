package policy_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
)

// regression opens a policy whose head predicts row everywhere.
func regression(t *testing.T, row []float32) *policy.Policy {
	t.Helper()
	return opened(t, testbundle.L1(t, row))
}

func opened(t *testing.T, dir string) *policy.Policy {
	t.Helper()
	p, err := policy.Open(t.Context(), dir, policy.Options{})
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
		p := opened(t, spoilt(t, 9, float32(bad)))
		if _, err := p.Infer(t.Context(), observe(p.Manifest())); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q is %v", "right_joint3", bad)) {
			t.Errorf("got %v", err)
		}
	}
}

// spoilt is a bundle whose head predicts a number that no export writes in one column.
func spoilt(t *testing.T, column int, bad float32) string {
	t.Helper()
	const mark = 0.123456789 // is nowhere else in the weights
	row := make([]float32, 14)
	row[column] = mark
	dir := testbundle.L1(t, row)
	path := filepath.Join(dir, bundle.WeightsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	bits := func(v float32) []byte { return binary.LittleEndian.AppendUint32(nil, math.Float32bits(v)) }
	if bytes.Count(raw, bits(mark)) != 1 {
		t.Fatal("the head's number is not in the weights once")
	}
	if err := os.WriteFile(path, bytes.Replace(raw, bits(mark), bits(bad), 1), 0o600); err != nil {
		t.Fatal(err)
	}
	testbundle.Rehash(t, dir)
	return dir
}
