package action

import (
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"pgregory.net/rapid"
)

// manifest is one with three action columns (two joints and a gripper) and a
// state of two.
func manifest() *bundle.Manifest {
	return &bundle.Manifest{
		Tokens: bundle.Tokens{ActionTokenBase: 32000, Bins: 256},
		Action: bundle.Action{
			Chunk: 2, Rate: 20, Normalization: bundle.BoundsQ99, UnnormKey: "table",
			Dims: []bundle.ActionDim{
				{Name: "left_joint1"}, {Name: "left_joint2"},
				{Name: "left_gripper", Gripper: &bundle.Gripper{Mode: bundle.GripperMetres, Open: 0.07}},
			},
		},
		Proprio: &bundle.Proprio{Dims: []bundle.ProprioDim{{Name: "left_joint1"}, {Name: "left_joint2"}}},
	}
}

const goodStatistics = `{
	"table": {
		"action": {"mean": [0,0,0], "min": [-3,-3,0], "max": [3,3,1], "q01": [-2,-1,0], "q99": [2,3,0.08], "mask": [true,true,true]},
		"proprio": {"min": [-3,-3], "max": [3,3], "q01": [-1,-1], "q99": [1,1]},
		"num_transitions": 5, "num_trajectories": 1
	},
	"other": {}
}`

func statistics(t testing.TB, raw string) *Statistics {
	t.Helper()
	s, err := parseStatistics([]byte(raw), "table")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func codec(t testing.TB) *Codec {
	t.Helper()
	c, err := newCodec(manifest(), statistics(t, goodStatistics))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Published pairs of value, token id and decoded value, V = 32000; the second
// table is one logged generation of OpenVLA-7B.
func TestBinsOfOpenVLA(t *testing.T) {
	b := NewBins(256)
	for _, c := range []struct {
		value   float64
		id      int
		decoded float64
	}{
		{-1, 31999, -0.996078}, {0, 31872, 0}, {0.5, 31808, 0.501961}, {1, 31744, 0.996078},
		{-7, 31999, -0.996078}, {7, 31744, 0.996078},
	} {
		k := b.Of(c.value)
		if id := 32000 - 1 - k; id != c.id {
			t.Errorf("%g is token %d, want %d", c.value, id, c.id)
		}
		if got := b.Centre(k); math.Abs(got-c.decoded) > 5e-7 {
			t.Errorf("token %d is %g, want %g", c.id, got, c.decoded)
		}
	}
	ids := []int{31838, 31884, 31828, 31904, 31876, 31898, 31872}
	want := []float64{0.26666667, -0.09411765, 0.34509804, -0.25098039, -0.03137255, -0.20392157, 0}
	for i, id := range ids {
		if got := b.Centre(32000 - 1 - id); math.Abs(got-want[i]) > 5e-9 {
			t.Errorf("token %d is %.9g, want %.9g", id, got, want[i])
		}
	}
	if a, z := b.Centre(254), b.Centre(255); a != z {
		t.Errorf("bins 254 and 255 are %g and %g, want the same", a, z)
	}
}

func TestEqualToNumPy(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	const dims, rows = 14, 200
	type job struct {
		Bins   int       `json:"bins"`
		Low    []float64 `json:"low"`
		High   []float64 `json:"high"`
		Mask   []bool    `json:"mask"`
		Raw    []float64 `json:"raw"`
		Decode []int64   `json:"decode"`
		State  []float64 `json:"state"`
	}
	for _, k := range []int{256, 64, 7, 2} {
		j := job{Bins: k}
		for i := range dims {
			low := r.NormFloat64()
			j.Low, j.High = append(j.Low, low), append(j.High, low+r.Float64()*float64(i%5))
			j.Mask = append(j.Mask, i%4 != 3)
		}
		bins := NewBins(k)
		j.Raw = append(j.Raw, bins.edges...)
		j.Raw = append(j.Raw, bins.centres...)
		for _, e := range bins.edges { // both sides of every edge
			j.Raw = append(j.Raw, math.Nextafter(e, -2), math.Nextafter(e, 2))
		}
		for range 3000 {
			j.Raw = append(j.Raw, 1.2*(2*r.Float64()-1))
		}
		for i := range rows * dims {
			j.Decode = append(j.Decode, r.Int64N(int64(k)))
			d := i % dims
			j.State = append(j.State, j.Low[d]+(1.2*r.Float64()-0.1)*(j.High[d]-j.Low[d]))
		}
		in, err := json.Marshal(j)
		if err != nil {
			t.Fatal(err)
		}
		var want struct {
			IDs     []int     `json:"ids"`
			Actions []float64 `json:"actions"`
			Scaled  []float64 `json:"scaled"`
			Digits  []int64   `json:"digits"`
		}
		if err := json.Unmarshal(pytest.Run(t, in, "testdata/reference.py"), &want); err != nil {
			t.Fatal(err)
		}
		for i, x := range j.Raw {
			if id := 32000 - 1 - bins.Of(x); id != want.IDs[i] {
				t.Errorf("%d bins: %v is token %d, NumPy has %d", k, x, id, want.IDs[i])
			}
		}
		c := &Codec{rows: rows, dims: dims, bins: slices.Repeat([]Bins{bins}, dims), names: make([]string, dims), grippers: make([]*bundle.Gripper, dims)}
		c.action = scale{low: j.Low, high: j.High, mask: j.Mask}
		c.proprio, c.proprioNames = c.action, c.names
		chunk, err := c.ChunkFromBins(j.Decode)
		if err != nil {
			t.Fatal(err)
		}
		for i, got := range chunk.Values {
			if math.Abs(got-want.Actions[i]) > 1e-15*max(1, math.Abs(got)) {
				t.Fatalf("%d bins: value %d is %v, NumPy has %v", k, i, got, want.Actions[i])
			}
		}
		digits, err := c.Encode(j.State, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range digits {
			if digits[i]+1 != want.Digits[i] {
				t.Fatalf("%d bins: state %v is bin %d, NumPy has %d", k, j.State[i], digits[i], want.Digits[i]-1)
			}
		}
		for row := range rows {
			got, err := c.NormaliseProprio(j.State[row*dims:][:dims], nil)
			if err != nil {
				t.Fatal(err)
			}
			for i, v := range got {
				if v != float32(want.Scaled[row*dims+i]) {
					t.Fatalf("%d bins: state %v is %v, NumPy has %v", k, j.State[row*dims+i], v, want.Scaled[row*dims+i])
				}
			}
		}
	}
}

func TestEncodeAndDecodeMeetToHalfABin(t *testing.T) {
	c := codec(t)
	c.grippers = make([]*bundle.Gripper, 3) // the rule is one-way
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.Float64Range(0, 1), 6, 6).Draw(t, "values")
		for i := range values {
			d := i % 3
			values[i] = c.action.low[d] + values[i]*(c.action.high[d]-c.action.low[d])
		}
		bins, err := c.Encode(values, nil)
		if err != nil {
			t.Fatal(err)
		}
		chunk, err := c.ChunkFromBins(bins)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			half := (c.action.high[i%3] - c.action.low[i%3]) / 255 / 2
			if math.Abs(chunk.Values[i]-v) > half*1.0001+1e-8 {
				t.Fatalf("%v comes back as %v, half a bin is %v", v, chunk.Values[i], half)
			}
		}
		again, err := c.Encode(chunk.Values, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range again { // bin 255 decodes to 254
			if again[i] != min(bins[i], 254) {
				t.Fatalf("bin %d comes back as %d", bins[i], again[i])
			}
		}
	})
}

// Of the bins that a gripper rule makes one, infill gives the network the one that it
// has seen.
func TestBinOfAGripperIsTheDataSetsOwn(t *testing.T) {
	for name, rule := range map[string]bundle.Gripper{
		"binary": {Mode: bundle.GripperBinary, Open: 0.07, Threshold: 0.04}, "binary, inverted": {Mode: bundle.GripperBinary, Open: 0.07, Threshold: 0.04, Invert: true},
		"metres beyond open": {Mode: bundle.GripperMetres, Open: 0.06}, "normalised": {Mode: bundle.GripperNormalised, Open: 0.07},
	} {
		for _, scaled := range []bool{true, false} {
			c := codec(t)
			c.grippers[2], c.action.mask[2] = &rule, scaled
			for _, v := range []float64{c.action.low[2], c.action.high[2]} {
				trained, err := c.Encode([]float64{0, 0, v}, nil)
				if err != nil {
					t.Fatal(err)
				}
				want := trained[2]
				if rule.Mode == bundle.GripperNormalised {
					want = min(want, 254) // no two bins but the last are the same
				}
				if bin, err := c.BinOf(2, c.robot(2, c.bins[2].Centre(int(want)))); err != nil || bin != want {
					t.Errorf("%s, scaled %t: %g is bin %d, %v; trained as %d", name, scaled, v, bin, err, want)
				}
			}
		}
	}
}

// BinOf finds the bin again that a chunk's value came of, or one of the same
// value, also behind a gripper rule, and of other values the nearest.
func TestBinOfIsTheInverseOfChunkFromBins(t *testing.T) {
	c := codec(t)
	for _, g := range []*bundle.Gripper{
		{Mode: bundle.GripperMetres, Open: 0.07}, {Mode: bundle.GripperMetres, Open: 0.07, Invert: true},
		{Mode: bundle.GripperNormalised, Open: 0.07, Invert: true}, {Mode: bundle.GripperBinary, Open: 0.07, Threshold: 0.04},
	} {
		c.grippers[2] = g
		for k := range int64(256) {
			chunk, err := c.ChunkFromBins([]int64{k, k, k, k, k, k})
			if err != nil {
				t.Fatal(err)
			}
			var again []int64
			for column := range 3 {
				bin, err := c.BinOf(column, chunk.Values[column])
				if err != nil {
					t.Fatal(err)
				}
				again = append(again, bin)
			}
			if again[0] != min(k, 254) || again[1] != min(k, 254) {
				t.Fatalf("bin %d comes back as %v", k, again)
			}
			back, err := c.ChunkFromBins(slices.Concat(again, again))
			if err != nil {
				t.Fatal(err)
			}
			if back.Values[2] != chunk.Values[2] {
				t.Fatalf("%s: bin %d is %g, comes back as %d, %g", g.Mode, k, chunk.Values[2], again[2], back.Values[2])
			}
		}
	}
	c.grippers[2] = nil
	// left_joint1 says -2 to 2 in 255 values, the outermost half a bin inside.
	width := 4.0 / 255
	for v, want := range map[float64]int64{0: 127, 0.49 * width: 127, 0.51 * width: 128, -0.51 * width: 126, 2: 254, -2: 0} {
		if bin, err := c.BinOf(0, v); err != nil || bin != want {
			t.Errorf("%g is bin %d, %v, want %d", v, bin, err, want)
		}
	}
	for _, v := range []float64{2.01, -2.01, math.Inf(1), math.NaN()} {
		if bin, err := c.BinOf(0, v); err == nil || !strings.Contains(err.Error(), "left_joint1 is") || !strings.Contains(err.Error(), "-1.992 to 1.992") {
			t.Errorf("%g is bin %d, %v", v, bin, err)
		}
	}
}

func TestChunkAndStateInRobotUnits(t *testing.T) {
	c := codec(t)
	chunk, err := c.Chunk([]float32{-1, 0, 1, 1, 1, -1})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []float64{-2, 1, 0.07, 2, 3, 0} { // 0.08 m is clamped to the open gripper
		if math.Abs(chunk.Values[i]-want) > 1e-7 {
			t.Errorf("value %d is %v, want %v", i, chunk.Values[i], want)
		}
	}
	if chunk.Rows() != 2 || chunk.Rate != 20 || !slices.Equal(chunk.At(1), chunk.Values[3:]) {
		t.Errorf("rows %d, rate %g, row 1 %v", chunk.Rows(), chunk.Rate, chunk.At(1))
	}
	chunk.Stamp = time.Unix(100, 0)
	if want := time.Unix(100, 100e6); !chunk.Time(1).Equal(want) {
		t.Errorf("row 1 is at %v, want %v", chunk.Time(1), want)
	}
	if err := chunk.Validate(); err != nil {
		t.Error(err)
	}
	state, err := c.NormaliseProprio([]float64{0.5, -9}, make([]float32, 0, 2))
	if err != nil {
		t.Fatal(err)
	}
	if math.Abs(float64(state[0])-0.5) > 1e-7 || state[1] != -1 {
		t.Errorf("state is %v, want 0.5 and -1", state)
	}
	if got := c.StartPose(); len(got) != 2 || math.Abs(got[0]) > 1e-7 || math.Abs(got[1]) > 1e-7 { // amid -1..1
		t.Errorf("the start pose is %v", got)
	}
	s := statistics(t, goodStatistics)
	s.Proprio.Start = []float64{0.75, -0.5}
	if told, err := newCodec(manifest(), s); err != nil || !slices.Equal(told.StartPose(), s.Proprio.Start) {
		t.Errorf("the start pose told is %v, %v", told.StartPose(), err)
	}
	if s.Proprio.Start[1] = math.NaN(); s.Proprio.check([]string{"a", "b"}) == nil {
		t.Error("a start pose of NaN is taken")
	}
	buffer := make([]float32, 0, 2)
	if n := testing.AllocsPerRun(10, func() { state, err = c.NormaliseProprio([]float64{0.5, 0.2}, buffer) }); n != 0 || err != nil {
		t.Errorf("NormaliseProprio allocates %v times, error %v", n, err)
	}
}

func TestUnmaskedDimensionsStayAsTheyAre(t *testing.T) {
	s := statistics(t, strings.Replace(goodStatistics, `"mask": [true,true,true]`, `"mask": [true,false,true]`, 1))
	s.Proprio.Mask = []bool{false, true}
	c, err := newCodec(manifest(), s)
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := c.Chunk([]float32{0.5, 0.5, 0, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	if chunk.Values[1] != 0.5 {
		t.Errorf("an unmasked 0.5 becomes %v", chunk.Values[1])
	}
	state, err := c.NormaliseProprio([]float64{7, 0}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if state[0] != 1 {
		t.Errorf("an unmasked state of 7 becomes %v, want it clipped to 1", state[0])
	}
}

func TestBoundsUseMinimumAndMaximum(t *testing.T) {
	m := manifest()
	m.Action.Normalization = bundle.Bounds
	c, err := newCodec(m, statistics(t, goodStatistics))
	if err != nil {
		t.Fatal(err)
	}
	chunk, err := c.Chunk([]float32{-1, 1, 0, 0, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	if chunk.Values[0] != -3 || math.Abs(chunk.Values[1]-3) > 1e-7 {
		t.Errorf("bounds give %v and %v, want -3 and 3", chunk.Values[0], chunk.Values[1])
	}
}

func TestGripperRules(t *testing.T) {
	metres := bundle.Gripper{Mode: bundle.GripperMetres, Open: 0.07, Close: 0.01}
	normal := bundle.Gripper{Mode: bundle.GripperNormalised, Open: 0.07, Close: 0.01}
	binary := bundle.Gripper{Mode: bundle.GripperBinary, Open: 0.07, Close: 0.01, Threshold: 0.5}
	inverted := func(g bundle.Gripper) bundle.Gripper { g.Invert = true; return g }
	offset := func(g bundle.Gripper, v float64) bundle.Gripper { g.Offset = v; return g }
	for _, c := range []struct {
		g     bundle.Gripper
		value float64
		want  float64
	}{
		{metres, 0.03, 0.03}, {metres, -0.003, 0.01}, {metres, 0.2, 0.07}, {inverted(metres), 0.02, 0.06},
		{offset(metres, -0.003), 0.03, 0.027}, {offset(metres, -0.003), 0.011, 0.01},
		{normal, 0, 0.01}, {normal, 0.5, 0.04}, {normal, 1, 0.07}, {normal, 1.4, 0.07}, {inverted(normal), 0.25, 0.055},
		{binary, 0.5, 0.01}, {binary, 0.51, 0.07}, {binary, -1, 0.01}, {inverted(binary), 0.9, 0.01}, {inverted(binary), 0.1, 0.07},
		{offset(binary, 0.01), 0, 0.02},
	} {
		if got := opening(&c.g, c.value); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%+v: %g opens %g m, want %g", c.g, c.value, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		g := bundle.Gripper{
			Mode:  rapid.SampledFrom([]bundle.GripperMode{bundle.GripperMetres, bundle.GripperNormalised, bundle.GripperBinary}).Draw(t, "mode"),
			Close: rapid.Float64Range(0, 0.03).Draw(t, "close"), Open: rapid.Float64Range(0.04, 0.1).Draw(t, "open"),
			Invert: rapid.Bool().Draw(t, "invert"), Offset: rapid.Float64Range(-0.1, 0.1).Draw(t, "offset"),
		}
		if got := opening(&g, rapid.Float64Range(-1e6, 1e6).Draw(t, "value")); got < g.Close || got > g.Open {
			t.Fatalf("opens %g m, outside of %g..%g", got, g.Close, g.Open)
		}
	})
}

func TestBadStatisticsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		old, new string
		want     []string
	}{
		"missing data set":    {`"table"`, `"chair"`, []string{`no data set "table"`, "chair, other", "action.unnorm_key"}},
		"no JSON":             {`{`, `[`, []string{"array"}},
		"NaN of Python":       {`"q01": [-2,`, `"q01": [NaN,`, []string{"NaN or Infinity"}},
		"infinity of Python":  {`"q01": [-2,`, `"q01": [-Infinity,`, []string{"NaN or Infinity"}},
		"wrong length":        {`"q01": [-2,-1,0]`, `"q01": [-2,-1]`, []string{"action.q01 has 2 values", "names 3", "left_gripper"}},
		"missing quantiles":   {`"q99": [2,3,0.08],`, ``, []string{"action.q99 has 0 values"}},
		"mask too long":       {`[true,true,true]`, `[true,true,true,false]`, []string{"action.mask has 4 values"}},
		"crossed":             {`"q99": [2,3,`, `"q99": [2,-3,`, []string{"action.q01[1] (left_joint2) is -1, above action.q99 with -3"}},
		"not finite":          {`"q99": [2,3,`, `"q99": [2,1e999,`, []string{"1e999"}},
		"state too short":     {`"q01": [-1,-1]`, `"q01": [-1]`, []string{"proprio.q01 has 1 values", "proprio.dims names 2"}},
		"no state statistics": {`"proprio"`, `"state"`, []string{"no proprio statistics", "proprio.dims"}},
		"start too short":     {`"q01": [-1,-1]`, `"q01": [-1,-1], "start": [0]`, []string{"proprio.start has 1 values", "proprio.dims names 2"}},
		"wrong type":          {`"q01": [-1,-1]`, `"q01": "x"`, []string{"q01"}},
	} {
		dir := t.TempDir()
		b := &bundle.Bundle{Dir: dir, Manifest: *manifest()}
		raw := strings.Replace(goodStatistics, c.old, c.new, 1)
		if raw == goodStatistics {
			t.Fatalf("%s: nothing replaced", name)
		}
		if err := os.WriteFile(filepath.Join(dir, bundle.StatisticsFile), []byte(raw), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := New(b)
		if !errors.Is(err, ErrStatistics) {
			t.Errorf("%s: error is %v", name, err)
			continue
		}
		for _, want := range append(c.want, bundle.StatisticsFile) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", name, err, want)
			}
		}
	}
	if _, err := New(&bundle.Bundle{Dir: t.TempDir()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("without a file the error is %v", err)
	}
	s := statistics(t, goodStatistics)
	s.Action.Q01[0] = math.Inf(-1)
	if _, err := newCodec(manifest(), s); err == nil || !strings.Contains(err.Error(), "action.q01[0] (left_joint1) is -Inf") {
		t.Errorf("infinite bound: %v", err)
	}
}

func TestBadNumbersAreNamed(t *testing.T) {
	c := codec(t)
	nan := float32(math.NaN())
	_, short := c.Chunk(make([]float32, 5))
	_, notANumber := c.Chunk([]float32{0, 0, 0, 0, nan, 0})
	_, beyond := c.Chunk([]float32{0, 0, 0, 0, 0, 1.01})
	_, bin := c.ChunkFromBins([]int64{0, 0, 256, 0, 0, 0})
	_, masked := c.ChunkFromBins([]int64{0, -1, 0, 0, 0, 0})
	_, state := c.NormaliseProprio([]float64{0, math.Inf(1)}, nil)
	_, length := c.NormaliseProprio([]float64{0}, nil)
	_, ragged := c.Encode([]float64{1, 2}, nil)
	_, infinite := c.Encode([]float64{1, 2, math.NaN()}, nil)
	good := func() *Chunk {
		chunk, err := c.Chunk(make([]float32, 6))
		if err != nil {
			t.Fatal(err)
		}
		return chunk
	}
	values, rate, confidence := good(), good(), good()
	values.Values[4], rate.Rate, confidence.Confidence = math.NaN(), 0, make([]float32, 5)
	for _, v := range []struct {
		err  error
		want string
	}{
		{short, "5 values, the model's has 2 rows of 3"},
		{notANumber, `row 1 of "left_joint2" is NaN`},
		{beyond, `row 1 of "left_gripper" is 1.01`},
		{bin, `"left_gripper" is bin 256`},
		{masked, `"left_joint2" is bin -1`},
		{state, `"left_joint2" is +Inf`},
		{length, "has 1 values, the model takes 2"},
		{ragged, "rows of 3"},
		{infinite, `"left_gripper" in row 0 is NaN`},
		{values.Validate(), `row 1 of "left_joint2" is NaN`},
		{rate.Validate(), "rate is 0 Hz"},
		{confidence.Validate(), "5 confidences for 6 values"},
		{(&Chunk{Rate: 1}).Validate(), "0 values"},
	} {
		if v.err == nil || !strings.Contains(v.err.Error(), v.want) {
			t.Errorf("error is %v, must say %q", v.err, v.want)
		}
	}
}

func FuzzStatistics(f *testing.F) {
	f.Add([]byte(goodStatistics))
	f.Add([]byte(`{"table":{"action":{"q01":[0,0,0],"q99":[0,0,0]},"proprio":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := parseStatistics(raw, "table")
		if err != nil {
			return
		}
		c, err := newCodec(manifest(), s)
		if err != nil {
			return
		}
		chunk, err := c.ChunkFromBins([]int64{0, 255, 7, 128, 1, 254})
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range chunk.Values {
			if math.IsNaN(v) {
				t.Fatalf("accepted statistics make value %d NaN: %s", i, raw)
			}
		}
	})
}
