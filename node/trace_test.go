package node

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/ros/param"
)

const traceTopic = "/ddvla/decode_trace"

// A trace comes with each chunk once it is asked for, while the node runs; it
// ends in what the chunk says, and its rounds are those that ran.
func TestTraceIsPublishedWhereItIsAskedFor(t *testing.T) {
	r := newRig(t, given("decode.rounds", param.Int(4)), given("decode.mean_window", param.Int(0)))
	r.run(300 * time.Millisecond)
	if n := len(published[msgs.Float64MultiArray](r, traceTopic)); n != 0 || len(r.chunks()) == 0 {
		t.Fatalf("%d traces with %d chunks before they were asked for", n, len(r.chunks()))
	}
	live := r.node.currentLive()
	live.Trace = true
	if err := r.node.SetLive(live); err != nil {
		t.Fatal(err)
	}
	before := len(r.chunks())
	r.run(300 * time.Millisecond)
	chunks, traces := r.chunks()[before:], published[msgs.Float64MultiArray](r, traceTopic)
	if len(traces) != len(chunks) || len(chunks) == 0 {
		t.Fatalf("%d traces with %d chunks", len(traces), len(chunks))
	}
	for k, m := range traces {
		names, trace, err := ReadTrace(&m)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(names, chunks[k].JointNames) || trace.Positions != len(chunks[k].Points)*len(names) || trace.Rounds() < 2 || trace.Rounds() > 4 {
			t.Fatalf("trace of %d positions in %d rounds, columns %v", trace.Positions, trace.Rounds(), names)
		}
		want, err := r.node.policy.Codec().ChunkFromBins(trace.Final())
		if err != nil {
			t.Fatal(err)
		}
		for row, p := range chunks[k].Points {
			for j, v := range p.Positions {
				if math.Abs(v-want.At(row)[j]) > 1e-6 {
					t.Fatalf("chunk %d, row %d: %s is %g, its trace ends with %g", k, row, names[j], v, want.At(row)[j])
				}
			}
		}
	}
}

func traceForTests() *decode.Trace {
	return &decode.Trace{
		Positions:  4,
		Bins:       []int64{-1, -1, -1, 9, -1, 7, -1, 9, 255, 7, 0, 9},
		Confidence: []float32{0, 0, 0, 1, 0.1, 0.7, 0.2, 0.9, 0.3, 0.8, 1, 0.9},
	}
}

func TestTraceMessageAndBack(t *testing.T) {
	names, want := []string{"left_joint1", "left_gripper"}, traceForTests()
	m := TraceMessage(names, 2, want)
	for i, d := range []msgs.MultiArrayDimension{{Label: "bin,confidence", Size: 2, Stride: 24}, {Label: "round", Size: 3, Stride: 12},
		{Label: "row", Size: 2, Stride: 4}, {Label: "left_joint1,left_gripper", Size: 2, Stride: 2}} {
		if m.Layout.Dim[i] != d {
			t.Errorf("dimension %d is %+v, want %+v", i, m.Layout.Dim[i], d)
		}
	}
	// By the layout: after the second round, row 1, column 0.
	if bin, c := m.Data[2*4+2], m.Data[12+2*4+2]; bin != 0 || c != 1 {
		t.Errorf("bin %g with confidence %g", bin, c)
	}
	columns, have, err := ReadTrace(m)
	if err != nil || !slices.Equal(columns, names) || have.Positions != 4 || !slices.Equal(have.Bins, want.Bins) || !slices.Equal(have.Confidence, want.Confidence) {
		t.Errorf("%v, %+v, %v", columns, have, err)
	}
	if _, _, err := ReadTrace(TraceMessage(names, 2, nil)); !errors.Is(err, ErrNoRounds) {
		t.Errorf("without rounds: %v", err)
	}
}

func TestMessagesThatAreNoTracesAreRefused(t *testing.T) {
	for want, spoil := range map[string]func(m *msgs.Float64MultiArray){
		"its dimensions are not":        func(m *msgs.Float64MultiArray) { m.Layout.Dim = m.Layout.Dim[:3] },
		"bin,confidence, round, row":    func(m *msgs.Float64MultiArray) { m.Layout.Dim[1].Label = "time" },
		"does not fit its 2 names":      func(m *msgs.Float64MultiArray) { m.Layout.Dim[3].Size = 3 },
		"with offset 1":                 func(m *msgs.Float64MultiArray) { m.Layout.DataOffset = 1 },
		"2 x 3 x 0 x 2":                 func(m *msgs.Float64MultiArray) { m.Layout.Dim[2].Size = 0 },
		"23 values":                     func(m *msgs.Float64MultiArray) { m.Data = m.Data[1:] },
		"24 values, its layout says":    func(m *msgs.Float64MultiArray) { m.Layout.Dim[1].Size = 4294967295 },
		"0 values":                      func(m *msgs.Float64MultiArray) { m.Data = nil },
		"2 x 3 x 4294967295 x 2":        func(m *msgs.Float64MultiArray) { m.Layout.Dim[2].Size = 4294967295 },
		"0.5 is no bin":                 func(m *msgs.Float64MultiArray) { m.Data[5] = 0.5 },
		"NaN is no bin":                 func(m *msgs.Float64MultiArray) { m.Data[5] = math.NaN() },
		"+Inf is no bin":                func(m *msgs.Float64MultiArray) { m.Data[5] = math.Inf(1) },
		"position 0 is masked at the e": func(m *msgs.Float64MultiArray) { m.Data[8] = -1 },
		"confidence NaN":                func(m *msgs.Float64MultiArray) { m.Data[20] = math.NaN() },
	} {
		m := TraceMessage([]string{"a", "b"}, 2, traceForTests())
		spoil(m)
		if _, _, err := ReadTrace(m); !errors.Is(err, ErrTrace) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
