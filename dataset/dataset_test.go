package dataset

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
)

// tinyInfo is of a data set with two cameras of 4x4 pixels, three actions and two
// values of proprio.
func tinyInfo() Info {
	info := Info{Name: "tiny", Rate: 20, Size: 4, MadeBy: MadeBy{Program: "test"}}
	for _, name := range []string{"head", "wrist"} {
		info.Cameras = append(info.Cameras, bundle.Camera{Name: name, JPEGQuality: 95, Resize: bundle.Resize{Width: 4, Height: 4, Filter: bundle.Lanczos3}, CropArea: 0.9})
	}
	for _, name := range []string{"left_joint1", "left_joint2", "left_gripper"} {
		info.Action = append(info.Action, bundle.ActionDim{Name: name, Space: bundle.Joint, Arm: "left", Unit: "rad"})
	}
	for _, d := range info.Action[:2] {
		info.Proprio = append(info.Proprio, bundle.ProprioDim{Name: d.Name, Arm: d.Arm, Unit: d.Unit})
	}
	return info
}

// frame is one frame of the tiny data set.
type frame struct {
	images          []byte
	proprio, action []float64
}

func randomFrame(rng *rand.Rand, info *Info) frame {
	f := frame{images: make([]byte, info.ImageBytes())}
	for i := range f.images {
		f.images[i] = byte(rng.Uint32())
	}
	for range info.Proprio {
		f.proprio = append(f.proprio, float64(float32(rng.NormFloat64())))
	}
	for range info.Action {
		f.action = append(f.action, float64(float32(rng.NormFloat64()*math.Exp(4*rng.NormFloat64()))))
	}
	return f
}

// write makes a data set of episodes of these lengths and returns its frames.
func write(t *testing.T, dir string, info Info, seed uint64, lengths ...int) []frame {
	t.Helper()
	w, err := Create(dir, info)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	var frames []frame
	for i, n := range lengths {
		frames = append(frames, writeEpisode(t, w, rng, n, Episode{Instruction: fmt.Sprintf("do %d", i), Source: fmt.Sprintf("seed %d", seed)})...)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Abandon(); err != nil {
		t.Fatal(err)
	}
	return frames
}

func writeEpisode(t *testing.T, w *Writer, rng *rand.Rand, n int, e Episode) (frames []frame) {
	t.Helper()
	if err := w.BeginEpisode(); err != nil {
		t.Fatal(err)
	}
	info := w.Info()
	for i := range n {
		f := randomFrame(rng, &info)
		if !info.Pictured(i) {
			f.images = nil
		}
		frames = append(frames, f)
		if err := w.Frame(f.images, f.proprio, f.action); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.EndEpisode(e); err != nil {
		t.Fatal(err)
	}
	return frames
}

func open(t *testing.T, dir string) *Reader {
	t.Helper()
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// What was written is read, frame by frame.
func checkFrames(t *testing.T, r *Reader, frames []frame) {
	t.Helper()
	info := r.Info()
	if info.Frames != len(frames) {
		t.Fatalf("%d frames, wrote %d", info.Frames, len(frames))
	}
	images, proprio, action := make([]byte, info.ImageBytes()), make([]float32, len(info.Proprio)), make([]float32, len(info.Action))
	for i, f := range frames {
		err := r.Images(i, images)
		if f.images == nil {
			if !errors.Is(err, ErrNoPictures) || !errors.Is(err, ErrDataset) {
				t.Fatalf("frame %d has no pictures: %v", i, err)
			}
			images, err = nil, nil
		}
		if err := errors.Join(err, r.Proprio(i, proprio), r.Action(i, action)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(images, f.images) || !slices.Equal(widened(proprio), f.proprio) || !slices.Equal(widened(action), f.action) {
			t.Fatalf("frame %d is not what was written", i)
		}
		images = make([]byte, info.ImageBytes())
	}
}

func widened(v []float32) []float64 {
	out := make([]float64, len(v))
	for i := range v {
		out[i] = float64(v[i])
	}
	return out
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	yes := true
	w, err := Create(dir, tinyInfo())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	first := Episode{Instruction: "reach it", Paraphrases: []string{"touch it"}, Task: "reach", Success: &yes, Source: "bag", Goal: json.RawMessage(`{"cube":1}`)}
	frames := writeEpisode(t, w, rng, 3, first)
	// What is discarded leaves nothing, wherever it began in the buffers.
	if err := w.BeginEpisode(); err != nil {
		t.Fatal(err)
	}
	for range 4000 {
		f := randomFrame(rng, &w.info)
		if err := w.Frame(f.images, f.proprio, f.action); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.DiscardEpisode(); err != nil {
		t.Fatal(err)
	}
	frames = append(frames, writeEpisode(t, w, rng, 2, Episode{Instruction: "leave it"})...)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r := open(t, dir)
	checkFrames(t, r, frames)
	first.Length = 3
	want := []Episode{first, {Episode: 1, Start: 3, Length: 2, Instruction: "leave it"}}
	if got := r.Episodes(); !reflect.DeepEqual(got, want) {
		t.Errorf("episodes %+v, want %+v", got, want)
	}
	for i, want := range []int{0, 0, 0, 1, 1} {
		if e, err := r.EpisodeOf(i); err != nil || e.Episode != want {
			t.Errorf("frame %d is of episode %d (%v), want %d", i, e.Episode, err, want)
		}
	}
	for _, i := range []int{-1, 5} {
		if _, err := r.EpisodeOf(i); !errors.Is(err, ErrDataset) {
			t.Errorf("frame %d: %v", i, err)
		}
		if err := r.Images(i, make([]byte, w.info.ImageBytes())); !errors.Is(err, ErrDataset) {
			t.Errorf("frame %d: %v", i, err)
		}
	}
}

// train/ddvla/dataset.py reads the same, and NumPy's statistics are those written.
func TestPythonReadsTheSame(t *testing.T) {
	const rows = 8
	plain := tinyInfo()
	blind := tinyInfo()
	blind.Proprio = nil
	sparse, one := tinyInfo(), tinyInfo()
	sparse.PictureStride, one.PictureStride = 3, 1
	told := tinyInfo()
	told.Start = make([]float64, len(told.Proprio))
	told.Start[0] = 0.25
	for name, c := range map[string]struct {
		info    Info
		lengths []int
	}{
		"several episodes": {plain, []int{5, 1, 212, 40}},
		"one frame":        {plain, []int{1}},
		"no proprio":       {blind, []int{9, 10}},
		"every third":      {sparse, []int{7, 1, 3, 4, 9}},
		"a stride of one":  {one, []int{4, 2}},
		"a start told":     {told, []int{4, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "set")
			write(t, dir, c.info, 7, c.lengths...)
			r := open(t, dir)
			info := r.Info()
			var python struct {
				Samples []struct {
					Images           string
					Proprio, Actions []float64
					Instruction      string
				}
				Episodes       []Episode
				Name           string
				Written, Numpy *Statistics
			}
			if err := json.Unmarshal(pytest.Run(t, nil, "testdata/read.py", "../train", dir, strconv.Itoa(rows)), &python); err != nil {
				t.Fatal(err)
			}
			if len(python.Samples) != info.Frames || python.Name != info.Name {
				t.Fatalf("Python reads %d frames of %q, want %d of %q", len(python.Samples), python.Name, info.Frames, info.Name)
			}
			if !reflect.DeepEqual(python.Episodes, r.Episodes()) {
				t.Errorf("Python's episodes %+v, want %+v", python.Episodes, r.Episodes())
			}
			images, proprio, chunk := make([]byte, info.ImageBytes()), make([]float32, len(info.Proprio)), make([]float32, rows*len(info.Action))
			for i, s := range python.Samples {
				pictured := true
				err := r.Images(i, images)
				if errors.Is(err, ErrNoPictures) {
					pictured, err = false, nil
				}
				if err := errors.Join(err, r.Proprio(i, proprio), r.Chunk(i, chunk)); err != nil {
					t.Fatal(err)
				}
				want := ""
				if sum := sha256.Sum256(images); pictured {
					want = hex.EncodeToString(sum[:])
				}
				e, err := r.EpisodeOf(i)
				if err != nil || pictured != info.Pictured(i-e.Start) || s.Images != want || !slices.Equal(s.Proprio, widened(proprio)) || !slices.Equal(s.Actions, widened(chunk)) || s.Instruction != e.Instruction {
					t.Fatalf("frame %d differs (%v)", i, err)
				}
			}
			statistics, err := r.Statistics()
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(statistics, python.Written) {
				t.Errorf("statistics %+v, Python reads %+v", statistics, python.Written)
			}
			checkStatistics(t, statistics, python.Numpy)
		})
	}
}

// checkStatistics compares with NumPy's: order statistics to the bit, sums to what
// the order of adding leaves.
func checkStatistics(t *testing.T, got, want *Statistics) {
	t.Helper()
	if got.NumTransitions != want.NumTransitions || got.NumTrajectories != want.NumTrajectories {
		t.Errorf("%d transitions, %d trajectories, want %d, %d", got.NumTransitions, got.NumTrajectories, want.NumTransitions, want.NumTrajectories)
	}
	if (got.Proprio == nil) != (want.Proprio == nil) {
		t.Fatalf("proprio %v, want %v", got.Proprio, want.Proprio)
	}
	pairs := [][2]*Columns{{&got.Action, &want.Action}}
	if got.Proprio != nil {
		pairs = append(pairs, [2]*Columns{&got.Proprio.Columns, &want.Proprio.Columns})
		if !slices.Equal(got.Proprio.Start, want.Proprio.Start) {
			t.Errorf("start %v, want %v", got.Proprio.Start, want.Proprio.Start)
		}
	}
	for _, p := range pairs {
		if !slices.Equal(p[0].Min, p[1].Min) || !slices.Equal(p[0].Max, p[1].Max) || !slices.Equal(p[0].Q01, p[1].Q01) || !slices.Equal(p[0].Q99, p[1].Q99) || !slices.Equal(p[0].Mask, p[1].Mask) {
			t.Errorf("min, max, quantiles or mask:\n%+v\nwant\n%+v", p[0], p[1])
		}
		for i := range p[1].Mean {
			scale := max(p[1].Max[i]-p[1].Min[i], math.Abs(p[1].Mean[i]))
			if math.Abs(p[0].Mean[i]-p[1].Mean[i]) > 1e-12*scale || math.Abs(p[0].Std[i]-p[1].Std[i]) > 1e-12*scale {
				t.Errorf("dimension %d: mean %g, std %g, want %g, %g", i, p[0].Mean[i], p[0].Std[i], p[1].Mean[i], p[1].Std[i])
			}
		}
	}
}

// Quantiles by counting are those of a sort, whatever the values.
func TestQuantilesAreThoseOfASort(t *testing.T) {
	path := filepath.Join(t.TempDir(), "column.f32")
	rapid.Check(t, func(t *rapid.T) {
		value := rapid.OneOf(
			rapid.Float32().Filter(func(v float32) bool { return finite(float64(v)) }),
			rapid.SampledFrom([]float32{0, float32(math.Copysign(0, -1)), 1, -1, 1.0000001}),
		)
		values := rapid.SliceOfN(value, 1, 300).Draw(t, "values")
		var raw bytes.Buffer
		sorted := make([]float64, len(values))
		for i, v := range values {
			sorted[i] = float64(v)
			bits := math.Float32bits(v)
			raw.Write([]byte{byte(bits), byte(bits >> 8), byte(bits >> 16), byte(bits >> 24)})
		}
		sort.Float64s(sorted)
		if err := os.WriteFile(path, raw.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		at := rapid.Float64Range(0, 1).Draw(t, "quantile")
		c, more, err := columnsOf(path, len(values), 1, at, 0, 1)
		if err != nil {
			t.Fatal(err)
		}
		for _, q := range []struct{ at, got float64 }{{0.01, c.Q01[0]}, {0.99, c.Q99[0]}, {at, more[0][0]}, {0, more[1][0]}, {1, more[2][0]}} {
			below := int(q.at * float64(len(values)-1))
			above := min(below+1, len(values)-1)
			share := q.at*float64(len(values)-1) - float64(below)
			want := sorted[below]*(1-share) + sorted[above]*share
			if math.Abs(q.got-want) > 1e-12*(math.Abs(sorted[below])+math.Abs(sorted[above])) {
				t.Fatalf("quantile %g is %g, want %g", q.at, q.got, want)
			}
		}
		if c.Min[0] != sorted[0] || c.Max[0] != sorted[len(sorted)-1] {
			t.Fatalf("%g to %g, want %g to %g", c.Min[0], c.Max[0], sorted[0], sorted[len(sorted)-1])
		}
	})
}

// An interrupted run leaves no data set, and nothing that stood there is lost.
func TestUnfinishedIsNoDataSet(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	w, err := Create(dir, tinyInfo())
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	writeEpisode(t, w, rng, 3, Episode{Instruction: "go"})
	// As a process that was killed leaves it.
	if _, err := Open(dir); !errors.Is(err, ErrDataset) || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("an unfinished data set: %v", err)
	}
	if _, err := Create(dir, tinyInfo()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over an unfinished data set: %v", err)
	}
	if err := w.Abandon(); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Abandon: %v", err)
	}
	frames := write(t, dir, tinyInfo(), 1, 3)
	if _, err := Create(dir, tinyInfo()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a data set: %v", err)
	}
	checkFrames(t, open(t, dir), frames)
}

// fullDisk has room for so many bytes in all its files.
type fullDisk struct{ left int64 }

type fullFile struct {
	*os.File
	disk *fullDisk
}

var errFull = errors.New("no space left on device")

func (f fullFile) Write(p []byte) (int, error) {
	if f.disk.left -= int64(len(p)); f.disk.left < 0 {
		return 0, errFull
	}
	return f.File.Write(p)
}

func TestFullDiskLeavesNothing(t *testing.T) {
	for _, room := range []int64{0, 1000, 1 << 19} {
		dir := filepath.Join(t.TempDir(), "set")
		disk := &fullDisk{room}
		w, err := create(dir, tinyInfo(), func(path string) (file, error) {
			f, err := os.Create(path)
			return fullFile{f, disk}, err
		})
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 1))
		err = w.BeginEpisode()
		for i := 0; i < 8000 && err == nil; i++ {
			f := randomFrame(rng, &w.info)
			err = w.Frame(f.images, f.proprio, f.action)
		}
		if err == nil {
			err = w.EndEpisode(Episode{Instruction: "go"})
		}
		if err == nil {
			err = w.Close()
		}
		if !errors.Is(err, errFull) {
			t.Errorf("room for %d bytes: %v", room, err)
		}
		if again := w.Close(); !errors.Is(again, errFull) {
			t.Errorf("a failed data set was closed: %v", again)
		}
		if _, err := Open(dir); err == nil {
			t.Error("a failed data set can be opened")
		}
		if err := w.Abandon(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left behind: %v", err)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	info := tinyInfo()
	good := randomFrame(rand.New(rand.NewPCG(1, 1)), &info)
	for name, c := range map[string]struct {
		do   func(w *Writer) error
		says string
	}{
		"no episode":    {func(w *Writer) error { return w.Close() }, "no episode"},
		"frame outside": {func(w *Writer) error { return w.Frame(good.images, good.proprio, good.action) }, "BeginEpisode"},
		"close inside":  {func(w *Writer) error { return errors.Join(w.BeginEpisode(), w.Close()) }, "EndEpisode"},
		"begin inside":  {func(w *Writer) error { return errors.Join(w.BeginEpisode(), w.BeginEpisode()) }, "EndEpisode"},
		"empty episode": {func(w *Writer) error { return errors.Join(w.BeginEpisode(), w.EndEpisode(Episode{Instruction: "a"})) }, "no frame"},
		"short pictures": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images[1:], good.proprio, good.action))
		}, "95 bytes of pictures, want 96"},
		"negative truncation": {func(w *Writer) error { return errors.Join(w.BeginEpisode(), w.TruncateEpisode(-1)) }, "-1 frames"},
		"truncation beyond": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images, good.proprio, good.action), w.TruncateEpisode(2))
		}, "2 frames of an episode that has 1"},
		"short action": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images, good.proprio, good.action[1:]))
		}, "2 values of action, want 3"},
		"not a number": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images, []float64{0, math.NaN()}, good.action))
		}, `proprio dimension "left_joint2" is NaN`},
		"too large": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images, good.proprio, []float64{0, 1e39, 0}))
		}, `action dimension "left_joint2" is 1e+39`},
		"no instruction": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images, good.proprio, good.action), w.EndEpisode(Episode{Instruction: " "}))
		}, "instruction"},
		"bad goal": {func(w *Writer) error {
			return errors.Join(w.BeginEpisode(), w.Frame(good.images, good.proprio, good.action), w.EndEpisode(Episode{Instruction: "a", Goal: json.RawMessage("{")}))
		}, "JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "set")
			w, err := Create(dir, info)
			if err != nil {
				t.Fatal(err)
			}
			err = c.do(w)
			if !errors.Is(err, ErrDataset) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), dir) {
				t.Errorf("%v, want %q", err, c.says)
			}
			if err := w.Close(); err == nil {
				t.Error("closed all the same")
			}
			if err := w.Abandon(); err != nil {
				t.Error(err)
			}
		})
	}
	for name, change := range map[string]func(i *Info){
		"name": func(i *Info) { i.Name = "" }, "stride": func(i *Info) { i.PictureStride = -1 }, "rate": func(i *Info) { i.Rate = math.NaN() }, "size": func(i *Info) { i.Size = 5 },
		"cameras": func(i *Info) { i.Cameras = nil }, "camera": func(i *Info) { i.Cameras[1].Name = "head" }, "quality": func(i *Info) { i.Cameras[0].JPEGQuality = 101 },
		"action": func(i *Info) { i.Action = nil }, "dimension": func(i *Info) { i.Action[0].Name = "left_joint2" }, "proprio": func(i *Info) { i.Proprio[0].Name = "" }, "start": func(i *Info) { i.Start = []float64{1} },
	} {
		info := tinyInfo()
		change(&info)
		if _, err := Create(filepath.Join(t.TempDir(), "set"), info); !errors.Is(err, ErrDataset) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Joined, parts are what one Writer would have written.
func TestJoin(t *testing.T) {
	dir := t.TempDir()
	first := write(t, filepath.Join(dir, "a"), tinyInfo(), 1, 3, 4)
	second := write(t, filepath.Join(dir, "b"), tinyInfo(), 2, 5)
	out := filepath.Join(dir, "out")
	if err := Join(t.Context(), out, "joined", MadeBy{Program: "join"}, filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	r := open(t, out)
	checkFrames(t, r, append(first, second...))
	var got []string
	for _, e := range r.Episodes() {
		got = append(got, fmt.Sprintf("%d %d %d %s, %s", e.Episode, e.Start, e.Length, e.Instruction, e.Source))
	}
	want := []string{"0 0 3 do 0, seed 1", "1 3 4 do 1, seed 1", "2 7 5 do 0, seed 2"}
	if !slices.Equal(got, want) {
		t.Errorf("episodes %q, want %q", got, want)
	}
	if s, err := r.Statistics(); err != nil || s.NumTransitions != 12 || s.NumTrajectories != 3 {
		t.Errorf("statistics %+v, %v", s, err)
	}
	other := tinyInfo()
	other.Rate = 30
	write(t, filepath.Join(dir, "c"), other, 1, 2)
	bad := filepath.Join(dir, "bad")
	if err := Join(t.Context(), bad, "joined", MadeBy{}, filepath.Join(dir, "a"), filepath.Join(dir, "c")); !errors.Is(err, ErrDataset) {
		t.Errorf("parts of different rates: %v", err)
	}
	if _, err := os.Stat(bad); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}

// With a stride, pictures and numbers stay together whatever is written, cut and thrown
// away: what is read is what a list of the frames that were kept says.
func TestPicturesOfEveryNthFrame(t *testing.T) {
	root, n := t.TempDir(), 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		dir := filepath.Join(root, strconv.Itoa(n))
		info := tinyInfo()
		info.PictureStride = rapid.IntRange(0, 5).Draw(rt, "stride")
		w, err := Create(dir, info)
		if err != nil {
			rt.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(uint64(n), 1))
		var kept []frame
		episodes := 0
		for k := range rapid.IntRange(1, 4).Draw(rt, "episodes") {
			if err := w.BeginEpisode(); err != nil {
				rt.Fatal(err)
			}
			var episode []frame
			for range rapid.IntRange(1, 3).Draw(rt, "parts") {
				for range rapid.IntRange(1, 8).Draw(rt, "frames") {
					f := randomFrame(rng, &info)
					if stride := max(info.PictureStride, 1); len(episode)%stride != 0 {
						f.images = nil
					}
					episode = append(episode, f)
					if err := w.Frame(f.images, f.proprio, f.action); err != nil {
						rt.Fatal(err)
					}
				}
				left := rapid.IntRange(1, len(episode)).Draw(rt, "left")
				if err := w.TruncateEpisode(left); err != nil {
					rt.Fatal(err)
				}
				episode = episode[:left]
			}
			if k > 0 && rapid.Bool().Draw(rt, "discard") {
				if err := w.DiscardEpisode(); err != nil {
					rt.Fatal(err)
				}
				continue
			}
			if err := w.EndEpisode(Episode{Instruction: "do it"}); err != nil {
				rt.Fatal(err)
			}
			kept, episodes = append(kept, episode...), episodes+1
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		r := open(t, dir)
		if got := len(r.Episodes()); got != episodes {
			rt.Fatalf("%d episodes, %d were kept", got, episodes)
		}
		checkFrames(t, r, kept)
		// What is joined is the same, twice.
		both := dir + "-both"
		if err := Join(t.Context(), both, "both", MadeBy{}, dir, dir); err != nil {
			rt.Fatal(err)
		}
		joined := open(t, both)
		if joined.Info().PictureStride != info.PictureStride {
			rt.Fatalf("joined with a stride of %d, not %d", joined.Info().PictureStride, info.PictureStride)
		}
		checkFrames(t, joined, append(slices.Clone(kept), kept...))
	})
}

// Frames have the pictures that the stride says, and no others.
func TestStrideRefuses(t *testing.T) {
	info := tinyInfo()
	info.PictureStride = 2
	good := randomFrame(rand.New(rand.NewPCG(1, 1)), &info)
	for says, do := range map[string]func(w *Writer) error{
		"0 bytes of pictures, want 96": func(w *Writer) error { return w.Frame(nil, good.proprio, good.action) },
		"frame 1 of an episode has 96 bytes of pictures, want 0": func(w *Writer) error {
			return errors.Join(w.Frame(good.images, good.proprio, good.action), w.Frame(good.images, good.proprio, good.action))
		},
	} {
		w, err := Create(filepath.Join(t.TempDir(), "set"), info)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.BeginEpisode(), do(w)); !errors.Is(err, ErrDataset) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v, want %q", err, says)
		}
		if err := w.Abandon(); err != nil {
			t.Error(err)
		}
	}

	dir := t.TempDir()
	every, second, plain, first := filepath.Join(dir, "every"), filepath.Join(dir, "second"), filepath.Join(dir, "plain"), filepath.Join(dir, "first")
	one := tinyInfo()
	one.PictureStride = 1
	write(t, every, one, 1, 3)
	write(t, second, info, 1, 3)
	write(t, plain, tinyInfo(), 1, 3)
	if err := Join(t.Context(), filepath.Join(dir, "out"), "out", MadeBy{}, every, second); !errors.Is(err, ErrDataset) || !strings.Contains(err.Error(), "picture_stride") {
		t.Errorf("strides of 1 and 2 joined: %v", err)
	}
	// 0 and 1 say the same.
	if err := Join(t.Context(), first, "out", MadeBy{}, every, plain); err != nil {
		t.Errorf("strides of 1 and 0: %v", err)
	}

	// Episodes of 3 and 4 frames have 4 pictures; 7 or 3 do not fit.
	for _, pictures := range []int{3, 7} {
		bad := filepath.Join(t.TempDir(), "bad")
		write(t, bad, info, 1, 3, 4)
		if err := os.Truncate(filepath.Join(bad, ImagesFile), int64(pictures*info.ImageBytes())); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(bad); !errors.Is(err, ErrDataset) || !strings.Contains(err.Error(), "4 frames with pictures take 384") {
			t.Errorf("%d pictures: %v", pictures, err)
		}
	}
}

// Files that were cut, or changed, are refused.
func TestOpenRefusesDamage(t *testing.T) {
	for name, damage := range map[string]func(dir string) error{
		"cut pictures": func(dir string) error { return os.Truncate(filepath.Join(dir, ImagesFile), 100) },
		"cut actions":  func(dir string) error { return os.Truncate(filepath.Join(dir, ActionFile), 4) },
		"no proprio":   func(dir string) error { return os.Remove(filepath.Join(dir, ProprioFile)) },
		"cut episodes": func(dir string) error { return os.Truncate(filepath.Join(dir, EpisodesFile), 20) },
		"no episodes":  func(dir string) error { return os.Truncate(filepath.Join(dir, EpisodesFile), 0) },
		"other schema": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, InfoFile), []byte(`{"schema": 2}`), 0o644)
		},
		"no JSON": func(dir string) error { return os.WriteFile(filepath.Join(dir, InfoFile), []byte("}"), 0o644) },
	} {
		dir := filepath.Join(t.TempDir(), "set")
		write(t, dir, tinyInfo(), 1, 3, 4)
		if err := damage(dir); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrDataset) || !strings.Contains(err.Error(), dir) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzJSON: what is accepted of the two JSON files holds together.
func FuzzJSON(f *testing.F) {
	info := tinyInfo()
	info.Schema, info.Frames, info.Episodes = Schema, 3, 2
	raw, err := json.Marshal(info)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw, []byte(`{"episode":0,"start":0,"length":1,"instruction":"a"}`+"\n"+`{"episode":1,"start":1,"length":2,"instruction":"b","success":true}`))
	f.Add(raw, []byte(`{"episode":0,"start":0,"length":-9223372036854775808,"instruction":"a"}`))
	f.Add([]byte(`{"schema":1,"frames":9223372036854775807}`), []byte(``))
	f.Fuzz(func(t *testing.T, raw, lines []byte) {
		info, err := parseInfo(raw)
		if err != nil {
			return
		}
		if info.ImageBytes() <= 0 {
			t.Fatalf("frames of %d bytes", info.ImageBytes())
		}
		episodes, err := parseEpisodes(bytes.NewReader(lines), info)
		if err != nil {
			return
		}
		next := 0
		for i, e := range episodes {
			if e.Episode != i || e.Start != next || e.Length < 1 || e.Instruction == "" {
				t.Fatalf("episode %d: %+v", i, e)
			}
			next += e.Length
		}
		if next != info.Frames || len(episodes) != info.Episodes {
			t.Fatalf("%d episodes, %d frames: %+v", len(episodes), next, info)
		}
	})
}
