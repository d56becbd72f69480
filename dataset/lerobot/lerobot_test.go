package lerobot

import (
	"context"
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
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/tools/npm"
)

const size = 8

// made is a data set of two cameras with episodes of these lengths.
func made(t *testing.T, rate float64, lengths ...int) *dataset.Reader {
	t.Helper()
	return madeWith(t, dataset.Info{Name: "made", Rate: rate, Size: size}, lengths...)
}

func madeWith(t *testing.T, info dataset.Info, lengths ...int) *dataset.Reader {
	t.Helper()
	for _, name := range []string{"head", "wrist_left"} {
		info.Cameras = append(info.Cameras, bundle.Camera{Name: name, Resize: bundle.Resize{Width: size, Height: size, Filter: bundle.Lanczos3}, CropArea: 1})
	}
	for _, name := range []string{"left_joint1", "left_joint2", "left_gripper"} {
		info.Action = append(info.Action, bundle.ActionDim{Name: name, Space: bundle.Joint, Arm: "left", Unit: "rad"})
	}
	info.Proprio = []bundle.ProprioDim{{Name: "left_joint1", Arm: "left", Unit: "rad"}, {Name: "left_joint2", Arm: "left", Unit: "rad"}}
	dir := filepath.Join(t.TempDir(), "made")
	w, err := dataset.Create(dir, info)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(5, 6))
	images := make([]byte, info.ImageBytes())
	for i, n := range lengths {
		if err := w.BeginEpisode(); err != nil {
			t.Fatal(err)
		}
		for frame := range n {
			for k := range images {
				images[k] = byte(rng.IntN(200))
			}
			pictures := images
			if !info.Pictured(frame) {
				pictures = nil
			}
			if err := w.Frame(pictures, []float64{rng.NormFloat64(), 0}, []float64{rng.NormFloat64(), rng.Float64(), -3}); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.EndEpisode(dataset.Episode{Instruction: []string{"take it", "décrochez-le"}[i%2]}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := dataset.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// frameRow is a frame as hyparquet reads it.
type frameRow struct {
	Action    []float32 `json:"action"`
	State     []float32 `json:"observation.state"`
	Head      picture   `json:"observation.images.head"`
	Wrist     picture   `json:"observation.images.wrist_left"`
	Timestamp float64   `json:"timestamp"`
	Frame     int       `json:"frame_index"`
	Episode   int       `json:"episode_index"`
	Index     int       `json:"index"`
	Task      int       `json:"task_index"`
}

type picture struct {
	Bytes string `json:"bytes"`
	Path  string `json:"path"`
}

// parquetFile is one file as hyparquet reads it.
type parquetFile struct {
	Rows   []json.RawMessage
	Groups []int
	Keys   map[string]string
	Schema [][]any
}

func rowsOf[T any](t *testing.T, f parquetFile) (rows []T) {
	t.Helper()
	for _, raw := range f.Rows {
		var row T
		if err := json.Unmarshal(raw, &row); err != nil {
			t.Fatalf("%v: %s", err, raw)
		}
		rows = append(rows, row)
	}
	return rows
}

func readJSON(t *testing.T, path string, to any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(raw, to)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hyparquet reads what was written, Pillow the pictures in it, and NumPy computes the
// same statistics.
func TestAnotherReaderFindsTheSame(t *testing.T) {
	lengths := []int{5, 30, 2}
	r := made(t, 20, lengths...)
	dir := filepath.Join(t.TempDir(), "out")
	if err := Write(t.Context(), r, dir, "cobot_magic"); err != nil {
		t.Fatal(err)
	}
	var files map[string]parquetFile
	if err := json.Unmarshal(npm.Run(t, nil, "testdata/read.cjs", dir), &files); err != nil {
		t.Fatal(err)
	}
	data := files["data/chunk-000/file-000.parquet"]
	if !slices.Equal(data.Groups, lengths) {
		t.Errorf("row groups of %v frames, want the episodes' %v", data.Groups, lengths)
	}
	frames := rowsOf[frameRow](t, data)
	if len(frames) != 37 {
		t.Fatalf("%d frames", len(frames))
	}
	proprio, action, images := make([]float32, 2), make([]float32, 3), make([]byte, 2*3*size*size)
	cameras := [2][]string{}
	var sums [2][]string
	for i, f := range frames {
		if err := errors.Join(r.Proprio(i, proprio), r.Action(i, action), r.Images(i, images)); err != nil {
			t.Fatal(err)
		}
		e, err := r.EpisodeOf(i)
		if err != nil {
			t.Fatal(err)
		}
		want := frameRow{Action: action, State: proprio, Timestamp: float64(float32(float64(i-e.Start) / 20)), Frame: i - e.Start, Episode: e.Episode, Index: i, Task: e.Episode % 2}
		want.Head, want.Wrist = f.Head, f.Wrist
		if fmt.Sprint(f) != fmt.Sprint(want) {
			t.Errorf("frame %d is %+v, want %+v", i, f, want)
		}
		for k, p := range []picture{f.Head, f.Wrist} {
			cameras[k] = append(cameras[k], p.Bytes)
			sum := sha256.Sum256(images[k*len(images)/2 : (k+1)*len(images)/2])
			sums[k] = append(sums[k], hex.EncodeToString(sum[:]))
			if path, err := pathOf(p.Path); err != nil || path != fmt.Sprintf("frame-%06d.png", i-e.Start) {
				t.Errorf("frame %d: path %q (%v)", i, p.Path, err)
			}
		}
	}
	stdin, err := json.Marshal(map[string]any{"cameras": cameras})
	if err != nil {
		t.Fatal(err)
	}
	var seen []struct {
		Stats  map[string][][][]float64
		Sha256 []string
	}
	if err := json.Unmarshal(pytest.Run(t, stdin, "testdata/stats.py"), &seen); err != nil {
		t.Fatal(err)
	}
	var stats map[string]map[string]json.RawMessage
	readJSON(t, filepath.Join(dir, statsFile), &stats)
	for k, key := range []string{"observation.images.head", "observation.images.wrist_left"} {
		if !slices.Equal(seen[k].Sha256, sums[k]) {
			t.Errorf("%s: Pillow sees other pixels", key)
		}
		for name, want := range seen[k].Stats {
			var got [][][]float64
			if err := json.Unmarshal(stats[key][name], &got); err != nil {
				t.Fatalf("%s %s: %v", key, name, err)
			}
			for c := range want {
				if len(got) != 3 || math.Abs(got[c][0][0]-want[c][0][0]) > 1e-9 {
					t.Errorf("%s %s is %v, want %v", key, name, got, want)
				}
			}
		}
		if string(compact(t, stats[key]["count"])) != "[37]" {
			t.Errorf("%s: count %s", key, stats[key]["count"])
		}
	}
	own, err := r.Statistics()
	if err != nil {
		t.Fatal(err)
	}
	for key, c := range map[string]*dataset.Columns{actionKey: &own.Action, stateKey: &own.Proprio.Columns} {
		for name, want := range map[string][]float64{"min": c.Min, "max": c.Max, "mean": c.Mean, "std": c.Std, "q01": c.Q01, "q99": c.Q99} {
			var got []float64
			if err := json.Unmarshal(stats[key][name], &got); err != nil || !slices.Equal(got, want) {
				t.Errorf("%s %s is %v (%v), want %v", key, name, got, err, want)
			}
		}
		var order [3][]float64
		for i, name := range []string{"q10", "q50", "q90"} {
			if err := json.Unmarshal(stats[key][name], &order[i]); err != nil || len(order[i]) != len(c.Min) {
				t.Fatalf("%s %s: %s (%v)", key, name, stats[key][name], err)
			}
		}
		for d := range c.Min {
			if !(c.Q01[d] <= order[0][d] && order[0][d] <= order[1][d] && order[1][d] <= order[2][d] && order[2][d] <= c.Q99[d]) {
				t.Errorf("%s: quantiles of dimension %d are %v", key, d, order)
			}
		}
	}

	tasks := rowsOf[struct {
		Index int    `json:"task_index"`
		Task  string `json:"task"`
	}](t, files[tasksFile])
	if fmt.Sprint(tasks) != "[{0 take it} {1 décrochez-le}]" {
		t.Errorf("tasks %v", tasks)
	}
	var pandas struct {
		Index []string `json:"index_columns"`
	}
	if err := json.Unmarshal([]byte(files[tasksFile].Keys["pandas"]), &pandas); err != nil || !slices.Equal(pandas.Index, []string{"task"}) {
		t.Errorf("pandas metadata %q (%v)", files[tasksFile].Keys["pandas"], err)
	}
	var episodes []string
	for _, raw := range files[episodeFile].Rows {
		episodes = append(episodes, string(sorted(t, raw)))
	}
	for i, want := range []string{
		`{"data/chunk_index":0,"data/file_index":0,"dataset_from_index":0,"dataset_to_index":5,"episode_index":0,"length":5,"meta/episodes/chunk_index":0,"meta/episodes/file_index":0,"tasks":["take it"]}`,
		`{"data/chunk_index":0,"data/file_index":0,"dataset_from_index":5,"dataset_to_index":35,"episode_index":1,"length":30,"meta/episodes/chunk_index":0,"meta/episodes/file_index":0,"tasks":["décrochez-le"]}`,
		`{"data/chunk_index":0,"data/file_index":0,"dataset_from_index":35,"dataset_to_index":37,"episode_index":2,"length":2,"meta/episodes/chunk_index":0,"meta/episodes/file_index":0,"tasks":["take it"]}`,
	} {
		if i >= len(episodes) || episodes[i] != want {
			t.Errorf("episodes %v, want %s", episodes, want)
		}
	}
	var info struct {
		Version  string `json:"codebase_version"`
		FPS      int    `json:"fps"`
		Episodes int    `json:"total_episodes"`
		Frames   int    `json:"total_frames"`
		Tasks    int    `json:"total_tasks"`
		Robot    string `json:"robot_type"`
		Data     string `json:"data_path"`
		Features map[string]feature
		Splits   map[string]string
	}
	readJSON(t, filepath.Join(dir, infoFile), &info)
	if info.Version != "v3.0" || info.FPS != 20 || info.Episodes != 3 || info.Frames != 37 || info.Tasks != 2 || info.Robot != "cobot_magic" || info.Splits["train"] != "0:3" {
		t.Errorf("%+v", info)
	}
	// Each feature is a column, of its kind, and each column a feature.
	var columns []string
	for _, s := range data.Schema[1:] {
		if name := s[0].(string); info.Features[name].Type != "" {
			columns = append(columns, name)
		}
	}
	if len(columns) != 9 || len(info.Features) != 9 {
		t.Errorf("columns %q, features %v", columns, info.Features)
	}
	if f := info.Features["observation.images.head"]; f.Type != "image" || !slices.Equal(f.Shape, []int{size, size, 3}) {
		t.Errorf("%+v", f)
	}
	if f := info.Features["action"]; f.Type != "float32" || !slices.Equal(f.Names, []string{"left_joint1", "left_joint2", "left_gripper"}) {
		t.Errorf("%+v", f)
	}
}

// pathOf is a string that hyparquet may give as bytes.
func pathOf(text string) (string, error) {
	if strings.HasSuffix(text, ".png") {
		return text, nil
	}
	var raw []byte
	err := json.Unmarshal([]byte(`"`+text+`"`), &raw)
	return string(raw), err
}

// sorted is an object with its keys in order.
func sorted(t *testing.T, raw json.RawMessage) []byte {
	t.Helper()
	var all map[string]any
	if err := json.Unmarshal(raw, &all); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func compact(t *testing.T, raw json.RawMessage) []byte {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestWriteRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "out")
	if err := Write(t.Context(), made(t, 12.5, 3), dir, ""); err == nil || !strings.Contains(err.Error(), "12.5 Hz") {
		t.Errorf("%v", err)
	}
	if err := Write(t.Context(), madeWith(t, dataset.Info{Name: "made", Rate: 20, Size: size, PictureStride: 2}, 3), dir, ""); err == nil || !strings.Contains(err.Error(), "every 2-th frame") {
		t.Errorf("%v", err)
	}
	r := made(t, 20, 3)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Write(ctx, r, dir, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
	if err := Write(t.Context(), r, dir, ""); err != nil {
		t.Fatal(err)
	}
	if err := Write(t.Context(), r, dir, ""); !errors.Is(err, fs.ErrExist) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, infoFile)); err != nil {
		t.Error(err)
	}
}
