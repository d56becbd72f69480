package report

import (
	"math"
	"slices"
	"testing"
	"time"

	"gonum.org/v1/gonum/floats"
	"gonum.org/v1/gonum/stat"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/policy/compare"
	"github.com/ddvla/ddvla/policy/decode"
)

func begin() time.Time { return time.Unix(1700000000, 0) }

func after(seconds float64) time.Time {
	return begin().Add(time.Duration(math.Round(seconds * 1e9)))
}

// three are two joints and a gripper, in chunks of four rows at 10 Hz.
func three() Setup {
	return Setup{
		Policy: "p", Bag: "b", Begin: begin(), End: after(10), ActionRate: 10, Horizon: 4, Budget: 0.1, Recorded: true, Stages: []string{"observe", "chunk"},
		Dims: []Dim{
			{Name: "left_joint1", Arm: "left", Unit: "rad", Range: 2, Lower: -1, Upper: 1, Velocity: 3},
			{Name: "left_joint2", Arm: "left", Unit: "rad", Range: 0.5},
			{Name: "left_gripper", Arm: "left", Unit: "m", Range: 0.07, Gripper: true, Threshold: 0.035},
		},
	}
}

func near(t *testing.T, what string, got Figure, want float64) {
	t.Helper()
	if !(math.Abs(float64(got)-want) <= 1e-9*max(1, math.Abs(want))) && !(math.IsNaN(want) && !got.Known()) {
		t.Errorf("%s is %v, want %v", what, float64(got), want)
	}
}

// Errors against two computations that share nothing with it: package compare, and
// gonum's on lists of all values.
func TestErrorsAreWhatOthersCompute(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		setup := three()
		n, h := len(setup.Dims), setup.Horizon
		value := rapid.Float64Range(-2, 2)
		// Recorded values by time, some of them not known; the observation's too.
		recorded := map[time.Time][]float64{}
		look := func(at time.Time) []float64 {
			if recorded[at] == nil {
				row := rapid.SliceOfN(value, n, n).Draw(r, "recorded")
				if rapid.IntRange(0, 4).Draw(r, "unknown") == 0 {
					row[rapid.IntRange(0, n-1).Draw(r, "which")] = math.NaN()
				}
				recorded[at] = row
			}
			return recorded[at]
		}
		j := New(setup, func(dim int, at time.Time) (float64, bool) {
			v := look(at)[dim]
			return v, !math.IsNaN(v)
		})
		var dims []compare.Dim
		for _, d := range setup.Dims {
			dims = append(dims, compare.Dim{Name: d.Name, Unit: d.Unit})
		}
		c := compare.New([]compare.Decoder{{Name: "one"}}, dims)
		// By dimension, and n for all joints that turn.
		errors, holds, predicted, motion := make([][]float64, n+1), make([][]float64, n+1), make([][]float64, n), make([][]float64, n)
		steps := make([][]float64, h)
		for k := range rapid.IntRange(1, 6).Draw(r, "chunks") {
			chunk := Chunk{Stamp: after(float64(k) * 0.17), Values: rapid.SliceOfN(value, n*h, n*h).Draw(r, "values")}
			actions := make([]float64, n*h)
			hold := look(chunk.Stamp)
			for i := range actions {
				d, row := i%n, i/n
				want := look(chunk.Stamp.Add(time.Duration(row+1) * 100 * time.Millisecond))[d]
				actions[i] = want
				if math.IsNaN(want) {
					continue
				}
				lists := []int{d}
				if d < 2 {
					lists = append(lists, n)
					steps[row] = append(steps[row], math.Abs(chunk.Values[i]-want))
				}
				for _, l := range lists {
					errors[l] = append(errors[l], chunk.Values[i]-want)
					if !math.IsNaN(hold[d]) {
						holds[l] = append(holds[l], math.Abs(hold[d]-want))
					}
				}
				if !math.IsNaN(hold[d]) {
					predicted[d], motion[d] = append(predicted[d], chunk.Values[i]-hold[d]), append(motion[d], want-hold[d])
				}
			}
			j.Add(chunk)
			c.Add([]compare.Sample{{Values: chunk.Values}}, actions)
		}
		report := j.Report(Run{}, nil)
		for _, d := range c.Table().Rows[0].ByDim {
			g := report.Joints[slices.IndexFunc(report.Joints, func(g Joint) bool { return g.Name == d.Name })]
			if math.Abs(float64(g.MAE)-d.Mean) > 1e-9 || math.Abs(float64(g.Max)-d.Largest) > 1e-9 || g.Count != d.Count {
				r.Errorf("%s: %+v, package compare says %+v", d.Name, g.Errors, d)
			}
		}
		mean := func(x []float64) float64 { return stat.Mean(x, nil) } // NaN of none
		check := func(what string, got Figure, want float64) {
			if math.Abs(float64(got)-want) > 1e-9 || got.Known() == math.IsNaN(want) {
				r.Errorf("%s is %v, want %v", what, float64(got), want)
			}
		}
		for d := range n {
			g := report.Joints[d]
			check(g.Name+" bias", g.Bias, mean(errors[d]))
			check(g.Name+" rmse", g.RMSE, floats.Norm(errors[d], 2)/math.Sqrt(float64(len(errors[d]))))
			check(g.Name+" hold", g.Hold, mean(holds[d]))
			check(g.Name+" percent", g.Percent, 100*float64(g.MAE)/setup.Dims[d].Range)
			if sd := stat.PopStdDev(motion[d], nil); len(motion[d]) > 1 && min(sd, stat.PopStdDev(predicted[d], nil)) > 2*stillness {
				check(g.Name+" direction", g.Direction, stat.Correlation(predicted[d], motion[d], nil))
			}
		}
		for row := range steps {
			check("row", report.Steps[row].MAE, mean(steps[row]))
		}
		all := errors[n]
		if mae, ok := report.Metrics["mae"]; ok {
			check("mae", mae, floats.Norm(all, 1)/float64(len(all)))
			check("max_error", report.Metrics["max_error"], floats.Norm(all, math.Inf(1)))
		} else if len(all) > 0 {
			r.Error("no mae")
		}
	})
}

// Of a recording without commands nothing is claimed.
func TestWithoutRecordedCommandsErrorsAreNotKnown(t *testing.T) {
	setup := three()
	setup.Recorded, setup.Why = false, "There are none."
	j := New(setup, nil)
	j.Add(Chunk{Stamp: after(0), Values: make([]float64, 12)})
	c, err := ParseCondition("mae > 1")
	if err != nil {
		t.Fatal(err)
	}
	r := j.Report(Run{}, []Condition{c})
	for name := range r.Metrics {
		if needsRecorded(name) {
			t.Errorf("%s is %v", name, r.Metrics[name])
		}
	}
	if r.Err() == nil {
		t.Error("mae, which is not known, passes")
	}
	if err := c.Check(setup); err == nil {
		t.Error("mae is not refused beforehand")
	}
}

// Two chunks, the newer one two rows later and 0.3 higher where it begins: by hand.
func TestSeamsByHand(t *testing.T) {
	setup := three()
	j := New(setup, func(int, time.Time) (float64, bool) { return 0, false })
	rows := func(first ...float64) []float64 { // of the first joint; others are 0
		var v []float64
		for _, x := range first {
			v = append(v, x, 0, 0)
		}
		return v
	}
	j.Add(Chunk{Stamp: after(1), Values: rows(0, 0.1, 0.2, 0.3)}) // due at 1.1 to 1.4
	j.Add(Chunk{Stamp: after(1.2), Values: rows(0.5, 0.4, 0, 0)}) // at 1.3 to 1.6: 0.2 and 0.3 there
	j.Add(Chunk{Stamp: after(1.25), Values: rows(0.45, 0.2, 0, 0)})
	// Between the rows of the one before: at 1.35 that is 0.45, then 0.2, 0, 0 (its last
	// row, at 1.6, is before the fourth at 1.65).
	j.Add(Chunk{Stamp: after(9), Values: rows(5, 5, 5, 5)}) // after a rest
	r := j.Report(Run{}, nil)
	s := r.Joints[0].Seams
	if s.Count != 2 {
		t.Errorf("%d seams", s.Count)
	}
	near(t, "jump", s.Jump, (0.3+0)/2)
	near(t, "largest jump", s.MaxJump, 0.3)
	near(t, "its time", s.MaxAt, 1.3)
	near(t, "overlap", s.Overlap, ((0.3+0.1)/2+0)/2)
	near(t, "jump", r.Metrics["jump"], 0.3)
	near(t, "jump.left_joint2", r.Metrics["jump.left_joint2"], 0)
}

// Chunks that are one and the same curve, seen at different times, do not jump.
func TestChunksOfOneLineDoNotJump(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		setup := three()
		j := New(setup, func(int, time.Time) (float64, bool) { return 0, false })
		slope, at := rapid.Float64Range(-3, 3).Draw(r, "slope"), 0.0
		for range rapid.IntRange(2, 8).Draw(r, "chunks") {
			at += rapid.Float64Range(0.001, 0.3).Draw(r, "later")
			c := Chunk{Stamp: after(at), Values: make([]float64, 12)}
			for i := range c.Values {
				c.Values[i] = slope * j.due(&c, i/3).Sub(begin()).Seconds()
			}
			j.Add(c)
		}
		report := j.Report(Run{}, nil)
		for _, g := range report.Joints {
			if !(g.Seams.MaxJump < 1e-6) || g.Seams.Overlap > 1e-6 {
				r.Errorf("%s: %+v", g.Name, g.Seams)
			}
		}
	})
}

func TestGrippersByHand(t *testing.T) {
	setup := three()
	const open, shut = 0.06, 0.0
	// Recorded: closed until 1.35 s, then open.
	j := New(setup, func(dim int, at time.Time) (float64, bool) {
		if dim == 2 && at.After(after(1.35)) {
			return open, true
		}
		return shut, true
	})
	rows := func(grip ...float64) (v []float64) {
		for _, g := range grip {
			v = append(v, 0, 0, g)
		}
		return v
	}
	j.Add(Chunk{Stamp: after(1), Values: rows(shut, open, shut, open)})   // rows at 1.1 .. 1.4, of which two are executed
	j.Add(Chunk{Stamp: after(1.2), Values: rows(open, shut, open, open)}) // 1.3 .. 1.6
	j.Add(Chunk{Stamp: after(2.2), Values: rows(shut, shut, shut, shut)}) // 2.3 .. 2.6
	r := j.Report(Run{}, nil)
	g := r.Grippers[0]
	// Predicted against recorded: s/s o/s s/s o/o, o/s s/o o/o o/o, s/o four times.
	if want := [2][2]int{{2, 5}, {2, 3}}; g.Confusion != want {
		t.Errorf("confusion %v, want %v", g.Confusion, want)
	}
	near(t, "accuracy", g.Accuracy, 5.0/12)
	// s 1.1, o 1.2, o 1.3, s 1.4, o 1.5, o 1.6, s 2.3: four changes, two of them at most half a second after another.
	if g.Changes != 4 || g.Flicker != 2 || *g.RecordedChanges != 1 {
		t.Errorf("%d changes, %d flickers, %d recorded", g.Changes, g.Flicker, *g.RecordedChanges)
	}
}

func TestDemandsByHand(t *testing.T) {
	j := New(three(), func(int, time.Time) (float64, bool) { return 0, false })
	// Limits are -1, 1 and 3 rad/s, which is 0.3 a row.
	j.Add(Chunk{Stamp: after(1), Values: []float64{0.8, 0, 0, 1.0, 0, 0, 1.2, 0, 0, 0.8, 0, 0}})
	g := j.Report(Run{}, nil).Joints[0]
	if g.Beyond != 1 || g.Fast != 1 {
		t.Errorf("%+v", g)
	}
	near(t, "furthest", g.Furthest, 0.2)
	near(t, "fastest", g.Fastest, 4)
}

// How fast a column is depends on what its values are.
func TestSpeedsByHand(t *testing.T) {
	setup := three()
	setup.Recorded = false
	setup.Dims = []Dim{
		{Name: "left_joint1", Unit: "rad"},
		{Name: "left_joint2", Unit: "rad", Delta: true},
		{Name: "left_gripper", Unit: "m", Delta: true, Gripper: true, Threshold: 0.035},
		{Name: "base_x", Arm: "base", Unit: "m/s"},
		{Name: "left_joint3", Unit: "rad", Delta: true, FromStart: true},
	}
	j := New(setup, nil)
	j.Add(Chunk{Stamp: after(1), Values: []float64{
		0.5, -0.05, 0.07, -0.3, 0.04,
		0.6, 0.02, 0.06, 0.1, 0.07,
		0.4, 0.02, 0.06, 0.1, 0.09,
		0.4, 0.01, 0.06, 0.1, 0.12,
	}})
	joints := j.Report(Run{}, nil).Joints
	for i, want := range []float64{2, 0.5, 0.1, 0.3, 0.4} {
		near(t, joints[i].Name, joints[i].Fastest, want)
	}
}

// A gripper that goes the wrong way is told by its own direction, and not by that of the
// joints.
func TestDirectionOverAllLeavesGrippersOut(t *testing.T) {
	setup := three()
	way := func(at time.Time) float64 { return at.Sub(begin()).Seconds() / 10 }
	j := New(setup, func(_ int, at time.Time) (float64, bool) { return way(at), true })
	c := Chunk{Stamp: after(1)}
	for row := range setup.Horizon {
		v := way(j.due(&c, row))
		c.Values = append(c.Values, v, v, -v)
	}
	j.Add(c)
	m := j.Report(Run{}, nil).Metrics
	near(t, "direction", m["direction"], 1)
	near(t, "direction.left_gripper", m["direction.left_gripper"], -1)
}

// Six tokens in three rounds: one is given, one masked again.
func TestDecodingByHand(t *testing.T) {
	const m = -1
	trace := &decode.Trace{
		Positions: 6,
		Bins: []int64{
			7, m, m, m, m, m,
			7, 5, m, m, m, 9,
			7, m, 3, 3, m, 9,
			7, 6, 3, 3, 2, 9,
		},
		Confidence: []float32{
			1, 0, 0, 0, 0, 0,
			1, 0.5, 0.1, 0.1, 0.1, 0.75,
			1, 0.25, 0.5, 1, 0.1, 0.75,
			1, 0.5, 0.5, 1, 0.25, 0.75,
		},
	}
	if err := trace.Validate(); err != nil {
		t.Fatal(err)
	}
	s := decodingSum{dims: 3}
	one := s.add(trace)
	s.add(trace)
	d := s.decoding()
	if want := [][]int{{0, 1, 1}, {1, 0, 1}, {0, 2, 0}}; !equal(one.Committed, want) {
		t.Errorf("committed %v, want %v", one.Committed, want)
	}
	if want := [][]int{{0, 0, 0}, {0, 1, 0}, {0, 0, 0}}; !equal(one.Remasked, want) {
		t.Errorf("masked again %v, want %v", one.Remasked, want)
	}
	if one.Tokens != 2 || d.Map.Tokens != 4 || d.Chunks != 2 || d.Map.Committed[2][1] != 4 {
		t.Errorf("%+v and %+v", one, d)
	}
	near(t, "confidence", one.Confidence[2][1], (0.5+0.25)/2)
	near(t, "confidence of none", one.Confidence[0][0], math.NaN())
	near(t, "rounds", d.Rounds, 3)
	near(t, "masked again", d.Remasked, 1.0/6)
	near(t, "mean confidence", d.Confidence, (0.5+0.5+1+0.25+0.75)/5)
}

func equal(a, b [][]int) bool { return slices.EqualFunc(a, b, slices.Equal[[]int]) }

// However many items come, few are kept, evenly, the first among them, and the largest
// of what is gone stays.
func TestThinningKeepsEvenlyAndThePeaks(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		most, n := rapid.IntRange(2, 20).Draw(r, "most"), rapid.IntRange(1, 500).Draw(r, "items")
		k := thinned[*shown]{most: most, merge: mergeShown}
		peak := math.Inf(-1)
		for i := range n {
			e := rapid.Float64Range(-1, 1).Draw(r, "error")
			peak = max(peak, e)
			k.add(&shown{t: Figure(i), err: e, jump: math.NaN()})
		}
		got := math.Inf(-1)
		for i, item := range k.kept {
			got = max(got, item.err)
			if int(item.t) != i*k.stride {
				r.Fatalf("item %d is the %vth, the stride is %d", i, item.t, k.stride)
			}
		}
		if len(k.kept) > most || len(k.kept) < min(n, most/2) || got != peak || k.seen != n {
			r.Errorf("%d of %d kept, %d at most; the peak is %g, was %g", len(k.kept), n, most, got, peak)
		}
	})
}
