package bundle

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// valid is a manifest that holds, as small as one can be.
func valid() Manifest {
	return Manifest{
		SchemaVersion: SchemaVersion,
		Name:          "test",
		Model: Model{
			Hidden: 8, Layers: 1, Heads: 2, ImageSize: 32, PatchesPerImage: 4, MaxSequence: 64,
			Attention: Bidirectional, Vocabulary: ActionVocabulary, Precision: "float32",
		},
		Tokens: Tokens{BOS: 1, Empty: 5, Stop: 2, Pad: 40, Mask: 41, ActionTokenBase: 40, Bins: 16},
		Prompt: Prompt{Template: "do {instruction}", MaxTokens: 10},
		Cameras: []Camera{{
			Name: "head", JPEGQuality: 95, CropArea: 0.9, Resize: Resize{Width: 32, Height: 32, Filter: Lanczos3},
		}},
		Action: Action{
			Chunk: 2, Rate: 20, Normalization: BoundsQ99, UnnormKey: "k",
			Dims: []ActionDim{
				{Name: "left_joint1", Space: Joint, Arm: "left", Unit: "rad"},
				{Name: "left_gripper", Space: Joint, Arm: "left", Unit: "m", Gripper: &Gripper{Mode: GripperMetres, Open: 0.07}},
			},
		},
		Proprio: &Proprio{Dims: []ProprioDim{{Name: "left_joint1", Arm: "left", Unit: "rad"}}},
		Decode:  Decode{Preset: "greedy", Rounds: 12},
	}
}

func writeBundle(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	names := []string{GraphFile, TokenizerFile, StatisticsFile, WeightsFile}
	for _, name := range names {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(name), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := Write(dir, valid(), names...); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestWhatWasWrittenOpens(t *testing.T) {
	dir := writeBundle(t)
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Manifest.SequenceLength(10); got != 4+1+10+4+1 {
		t.Errorf("sequence length %d, want 20", got)
	}
	if len(b.Manifest.Files) != 4 {
		t.Errorf("files %v", b.Manifest.Files)
	}
}

func TestOpenNamesTheFileAtFault(t *testing.T) {
	for _, c := range []struct {
		name   string
		damage func(dir string) error
		want   error
		text   string
	}{
		{"missing directory", os.RemoveAll, os.ErrNotExist, "ddvla export"},
		{"missing manifest", func(d string) error { return os.Remove(filepath.Join(d, ManifestFile)) }, ErrMissingFile, ManifestFile},
		{"missing weights", func(d string) error { return os.Remove(filepath.Join(d, WeightsFile)) }, ErrMissingFile, WeightsFile},
		{"changed graph", func(d string) error { return os.WriteFile(filepath.Join(d, GraphFile), []byte("x"), 0o644) }, ErrHash, GraphFile},
		{"truncated manifest", func(d string) error { return os.Truncate(filepath.Join(d, ManifestFile), 100) }, ErrManifest, ManifestFile},
		{"huge manifest", func(d string) error { return os.Truncate(filepath.Join(d, ManifestFile), maxManifest+1) }, ErrManifest, ManifestFile},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := writeBundle(t)
			if err := c.damage(dir); err != nil {
				t.Fatal(err)
			}
			_, err := Open(dir)
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) || !strings.Contains(err.Error(), dir) {
				t.Errorf("got %v, want %v naming %s", err, c.want, c.text)
			}
		})
	}
}

func TestOpenRefusesUnknownFields(t *testing.T) {
	dir := writeBundle(t)
	path := filepath.Join(dir, ManifestFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	raw = []byte(strings.Replace(string(raw), `"name": "test"`, `"nome": "test"`, 1))
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(dir); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), "nome") {
		t.Errorf("got %v, want the unknown field named", err)
	}
}

func TestOpenRefusesWhatFollowsTheManifest(t *testing.T) {
	for _, more := range []string{"{}", "x", "}", "\n\n{\"name\": \"other\"}"} {
		dir := writeBundle(t)
		f, err := os.OpenFile(filepath.Join(dir, ManifestFile), os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(more); err != nil || f.Close() != nil {
			t.Fatal(err)
		}
		if _, err := Open(dir); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), "something follows") {
			t.Errorf("%q: got %v", more, err)
		}
	}
}

// Each change makes the manifest wrong in one field, and the error names it.
func TestValidateNamesTheField(t *testing.T) {
	for want, change := range map[string]func(*Manifest){
		"schema_version":        func(m *Manifest) { m.SchemaVersion = 2 },
		"model.hidden":          func(m *Manifest) { m.Model.Hidden = 0 },
		"model.attention":       func(m *Manifest) { m.Model.Attention = "some" },
		"model.head is \"l2\"":  func(m *Manifest) { m.Model.Head = "l2" },
		"model.head is l1":      func(m *Manifest) { m.Model.Head, m.Model.Attention = L1Head, Causal },
		"model.precision":       func(m *Manifest) { m.Model.Precision = "int3" },
		"quantisation is not":   func(m *Manifest) { m.Model.Precision = Int4 },
		"quantisation is given": func(m *Manifest) { m.Model.Quantisation = &Quantisation{BlockSize: 32} },
		"model.unrolled is -1":  func(m *Manifest) { m.Model.Unrolled = -1 },
		"model.unrolled is 65":  func(m *Manifest) { m.Model.Unrolled = 65 },
		"model.unrolled is 9":   func(m *Manifest) { m.Model.Unrolled, m.Model.Head = 9, L1Head },
		"decode.rounds is 12":   func(m *Manifest) { m.Model.Unrolled = 11 },
		"model.refresh is true": func(m *Manifest) { m.Model.Refresh, m.Model.Attention = true, Prefix },
		"true, which needs":     func(m *Manifest) { m.Model.Refresh, m.Model.Unrolled = true, 12 },
		"quantisation.block_size": func(m *Manifest) {
			m.Model.Precision, m.Model.Quantisation = Int8, &Quantisation{BlockSize: 48}
		},
		"model.vocabulary":         func(m *Manifest) { m.Model.Vocabulary = "" },
		"model.max_sequence":       func(m *Manifest) { m.Model.MaxSequence = 19 },
		"tokens.bins":              func(m *Manifest) { m.Tokens.Bins = 1 },
		"tokens.action_token_base": func(m *Manifest) { m.Tokens.ActionTokenBase = 15 },
		"tokens.mask":              func(m *Manifest) { m.Tokens.Mask = 30 },
		"tokens.bos":               func(m *Manifest) { m.Tokens.BOS = -1 },
		"prompt.template":          func(m *Manifest) { m.Prompt.Template = "do" },
		"prompt.max_tokens":        func(m *Manifest) { m.Prompt.MaxTokens = 1 },
		"cameras":                  func(m *Manifest) { m.Cameras = nil },
		`"head" resize`:            func(m *Manifest) { m.Cameras[0].Resize.Width = 31 },
		`"head" rotation`:          func(m *Manifest) { m.Cameras[0].Rotation = 90 },
		`"head" jpeg_quality`:      func(m *Manifest) { m.Cameras[0].JPEGQuality = 101 },
		`"head" crop_area`:         func(m *Manifest) { m.Cameras[0].CropArea = 0 },
		`"head" pre_resize`:        func(m *Manifest) { m.Cameras[0].PreResize = &Resize{Width: 1, Height: 1, Filter: "x"} },
		`"head" name is used`:      func(m *Manifest) { m.Cameras = append(m.Cameras, m.Cameras[0]) },
		"action.chunk":             func(m *Manifest) { m.Action.Chunk = 0 },
		"action.action_rate":       func(m *Manifest) { m.Action.Rate = 0 },
		"action.action_rate is 0.04 Hz, must be 0.1 to 1000":   func(m *Manifest) { m.Action.Rate = 0.04 },
		"action.action_rate is 2000":                           func(m *Manifest) { m.Action.Rate = 2000 },
		"gripper.offset is -3 m":                               func(m *Manifest) { m.Action.Dims[1].Gripper.Offset = -3 },
		"action.normalization":                                 func(m *Manifest) { m.Action.Normalization = "q99" },
		"action.unnorm_key":                                    func(m *Manifest) { m.Action.UnnormKey = "" },
		`"left_joint1" space`:                                  func(m *Manifest) { m.Action.Dims[0].Space = "pose" },
		`"left_joint1" arm`:                                    func(m *Manifest) { m.Action.Dims[0].Arm = "middle" },
		`"left_joint1" unit is`:                                func(m *Manifest) { m.Action.Dims[0].Unit = "deg" },
		`"left_gripper" gripper`:                               func(m *Manifest) { m.Action.Dims[1].Gripper.Open = 0 },
		`"left_gripper" name`:                                  func(m *Manifest) { m.Action.Dims = append(m.Action.Dims, m.Action.Dims[1]) },
		"bin_edges has 1 lists":                                func(m *Manifest) { m.Action.BinEdges = [][]float64{{}} },
		"bin_edges[1] (left_gripper) has 3 values, must be 17": func(m *Manifest) { m.Action.BinEdges = [][]float64{{}, {-1, 0, 1}} },
		"bin_edges[0] (left_joint1) goes from -1 to 0.5":       func(m *Manifest) { m.Action.BinEdges = [][]float64{edges(m, 16, 0.5), nil} },
		"bin_edges[0] (left_joint1) has 1 after 1 at 16":       func(m *Manifest) { m.Action.BinEdges = [][]float64{edges(m, 15, 1), nil} },
		"bin_edges[0] (left_joint1) has NaN after":             func(m *Manifest) { m.Action.BinEdges = [][]float64{edges(m, 3, math.NaN()), nil} },
		"bin_edges is given, but model.head": func(m *Manifest) {
			m.Model.Head, m.Model.Attention, m.Action.BinEdges = L1Head, Bidirectional, [][]float64{nil, nil}
		},
		"tokens.bins is 1000000000000, must be 2..65536": func(m *Manifest) { m.Tokens.Bins = 1e12 },
		"tokens.bins is 4611686018427387904":             func(m *Manifest) { m.Tokens.Bins, m.Tokens.ActionTokenBase = 1<<62, 1<<62 },
		"action_token_base is 4611686018427387904":       func(m *Manifest) { m.Tokens.ActionTokenBase = 1 << 62 },
		"model.max_sequence is 4611686018427387904":      func(m *Manifest) { m.Model.MaxSequence = 1 << 62 },
		"patches_per_image is 9223372036854775807":       func(m *Manifest) { m.Model.PatchesPerImage = math.MaxInt },
		"model.layers is 1048577":                        func(m *Manifest) { m.Model.Layers = 1<<20 + 1 },
		"prompt.max_tokens is 65, must be 2..64":         func(m *Manifest) { m.Prompt.MaxTokens = 65 },
		"action.chunk is 33, must be at most 32":         func(m *Manifest) { m.Action.Chunk = 33 },
		"action.chunk is 4611686018427387904":            func(m *Manifest) { m.Action.Chunk = 1 << 62 },
		"proprio.dims":                                   func(m *Manifest) { m.Proprio.Dims = nil },
		`dims[0] "left_joint1" u`:                        func(m *Manifest) { m.Proprio.Dims[0].Unit = "mm" },
		`dims[0] "left_joint1" a`:                        func(m *Manifest) { m.Proprio.Dims[0].Arm = "" },
		`dims[0] "1" name must be`:                       func(m *Manifest) { m.Proprio.Dims[0].Name = "1" },
		`dims[1] "left_joint1" n`:                        func(m *Manifest) { m.Proprio.Dims = append(m.Proprio.Dims, m.Proprio.Dims[0]) },
		"decode.rounds":                                  func(m *Manifest) { m.Decode.Rounds = 65 },
		"decode.preset":                                  func(m *Manifest) { m.Decode.Preset = "" },
		"files":                                          func(m *Manifest) { m.Files["../x"] = strings.Repeat("0", 64) },
	} {
		t.Run(want, func(t *testing.T) {
			m := valid()
			m.Files = map[string]string{}
			for _, f := range []string{GraphFile, TokenizerFile, StatisticsFile} {
				m.Files[f] = strings.Repeat("0", 64)
			}
			m.Model.Unrolled = 12 // as many as decode.rounds
			if err := m.Validate(); err != nil {
				t.Fatalf("with 12 rounds unrolled: %v", err)
			}
			m.Model.Unrolled = 0
			if err := m.Validate(); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			change(&m)
			if err := m.Validate(); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// edges are even ones, of which one is changed.
func edges(m *Manifest, at int, to float64) []float64 {
	list := make([]float64, m.Tokens.Bins+1)
	for i := range list {
		list[i] = -1 + 2*float64(i)/float64(m.Tokens.Bins)
	}
	list[at] = to
	return list
}

// Bins of one's own for one dimension, and the published ones for the other.
func TestBinEdgesOfSomeDimensions(t *testing.T) {
	m := valid()
	m.Files = map[string]string{}
	for _, f := range []string{GraphFile, TokenizerFile, StatisticsFile} {
		m.Files[f] = strings.Repeat("0", 64)
	}
	m.Action.BinEdges = [][]float64{edges(&m, 3, -0.7), nil}
	if err := m.Validate(); err != nil {
		t.Error(err)
	}
}

func FuzzManifest(f *testing.F) {
	raw, err := json.Marshal(valid())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(`{"cameras":[{}],"action":{"dims":[{"gripper":{}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Manifest
		if json.Unmarshal(data, &m) == nil {
			_ = m.Validate() // must not panic
		}
	})
}
