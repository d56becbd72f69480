package weights

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/safetensors"
)

// copied is a sample whose files a test may change.
func copied(t *testing.T, number int) sample {
	t.Helper()
	s := references(t)[number]
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(s.dir)); err != nil {
		t.Fatal(err)
	}
	s.dir = to
	return s
}

func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		all[path], err = os.ReadFile(filepath.Join(dir, path))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestExportTwiceGivesTheSameBytes(t *testing.T) {
	s := references(t)[0]
	first, second := files(t, s.export(t).Dir), files(t, s.export(t).Dir)
	if len(first) != 6 || len(second) != len(first) {
		t.Errorf("%d and %d files, want 6", len(first), len(second))
	}
	for name := range first {
		if !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s differs", name)
		}
	}
	statistics, err := os.ReadFile(filepath.Join(s.dir, bundle.StatisticsFile))
	if err != nil || !bytes.Equal(first[bundle.StatisticsFile], statistics) {
		t.Errorf("%s was changed (%v)", bundle.StatisticsFile, err)
	}
}

// The manifest says what the checkpoint is, and where each value came from.
func TestManifest(t *testing.T) {
	s := references(t)[0]
	m := s.export(t).Manifest
	if m.Model.Hidden != 40 || m.Model.Layers != 3 || m.Model.Heads != 2 || m.Model.ImageSize != 28 || m.Model.PatchesPerImage != 16 {
		t.Errorf("model %+v", m.Model)
	}
	want := bundle.Tokens{BOS: 1, Empty: m.Tokens.Empty, Stop: 2, Pad: 1024, Mask: 1025, ActionTokenBase: 1024, Bins: 256}
	if m.Tokens != want || m.Tokens.Empty <= 2 {
		t.Errorf("tokens %+v", m.Tokens)
	}
	if m.Action.UnnormKey != "random" || m.Action.Tokens() != 21 || len(m.Proprio.Dims) != 5 {
		t.Errorf("action %+v, proprio %+v", m.Action, m.Proprio)
	}
	var read []string
	for name := range m.Source.Files {
		read = append(read, name)
	}
	slices.Sort(read)
	if got := fmt.Sprint(read); got != "[config.json dataset_statistics.json model-00001-of-00003.safetensors model-00002-of-00003.safetensors "+
		"model-00003-of-00003.safetensors model.safetensors.index.json preprocessor_config.json proprio_projector.safetensors tokenizer.model]" {
		t.Errorf("source files %s", got)
	}
}

func TestDefaultsAreTheCobotMagic(t *testing.T) {
	o := Defaults()
	var names []string
	for _, d := range o.ActionDims {
		names = append(names, d.Name)
	}
	want := "left_joint1 left_joint2 left_joint3 left_joint4 left_joint5 left_joint6 left_gripper " +
		"right_joint1 right_joint2 right_joint3 right_joint4 right_joint5 right_joint6 right_gripper"
	if got := strings.Join(names, " "); got != want || len(o.ProprioDims) != 14 || len(o.Cameras) != 3 {
		t.Errorf("%s; %d proprio, cameras %v", got, len(o.ProprioDims), o.Cameras)
	}
	if o.ActionRate != 0 {
		t.Errorf("an action rate of %g Hz was made up", o.ActionRate)
	}
}

// edit changes keys of a JSON file; a path "a.b" reaches into objects, and nil
// deletes.
func edit(t *testing.T, path string, changes map[string]any) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var root map[string]any
	if err := json.Unmarshal(raw, &root); err != nil {
		t.Fatal(err)
	}
	for key, v := range changes {
		at, parts := root, strings.Split(key, ".")
		for _, p := range parts[:len(parts)-1] {
			at = at[p].(map[string]any)
		}
		if last := parts[len(parts)-1]; v == nil {
			delete(at, last)
		} else {
			at[last] = v
		}
	}
	if raw, err = json.Marshal(root); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// Whatever is wrong is named, and nothing is left beside the bundle that was
// not made.
func TestExportRefuses(t *testing.T) {
	jsonFile := func(name string, changes map[string]any) func(t *testing.T, dir string, o *Options) {
		return func(t *testing.T, dir string, _ *Options) { edit(t, filepath.Join(dir, name), changes) }
	}
	config := func(key string, v any) func(t *testing.T, dir string, o *Options) {
		return jsonFile(configFile, map[string]any{key: v})
	}
	remove := func(name string) func(t *testing.T, dir string, o *Options) {
		return func(t *testing.T, dir string, _ *Options) {
			if err := os.Remove(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	with := func(name, text string) func(t *testing.T, dir string, o *Options) {
		return func(t *testing.T, dir string, _ *Options) { put(t, dir, name, text) }
	}
	var statistics map[string]dataset
	if err := readJSON(os.DirFS(references(t)[2].dir), bundle.StatisticsFile, &statistics); err != nil {
		t.Fatal(err)
	}
	columns := statistics["random"].Action
	// rename swaps text of the same length in the weights' header.
	rename := func(old, now string) func(t *testing.T, dir string, o *Options) {
		return func(t *testing.T, dir string, _ *Options) {
			path := filepath.Join(dir, "model.safetensors")
			raw, err := os.ReadFile(path)
			if err != nil || len(old) != len(now) || !bytes.Contains(raw, []byte(old)) {
				t.Fatal(err, old)
			}
			if err := os.WriteFile(path, bytes.Replace(raw, []byte(old), []byte(now), 1), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	option := func(change func(o *Options)) func(t *testing.T, dir string, o *Options) {
		return func(_ *testing.T, _ string, o *Options) { change(o) }
	}
	for _, c := range []struct {
		want   string
		is     error
		damage func(t *testing.T, dir string, o *Options)
	}{
		{"config.json", fs.ErrNotExist, remove(configFile)},
		{"preprocessor_config.json", fs.ErrNotExist, remove(preprocessorFile)},
		{"model.safetensors", fs.ErrNotExist, remove("model.safetensors")},
		{"tokenizer.model", fs.ErrNotExist, remove(bundle.TokenizerFile)},
		{"dataset_statistics.json", fs.ErrNotExist, remove(bundle.StatisticsFile)},
		{"there is neither model.safetensors nor", fs.ErrNotExist, func(t *testing.T, dir string, o *Options) { o.Checkpoint = emptyCheckpoint(t, dir) }},

		{"text_config.hidden_size is 41, but language_model.model.embed_tokens.weight has 40 columns", ErrConfig, config("text_config.hidden_size", 41)},
		{"text_config.num_hidden_layers is 2, but there are 1", ErrConfig, config("text_config.num_hidden_layers", 2)},
		{"text_config.intermediate_size is 57", ErrConfig, config("text_config.intermediate_size", 57)},
		{"text_config.num_attention_heads is 7", ErrConfig, config("text_config.num_attention_heads", 7)},
		{"text_config.num_key_value_heads is 1", ErrConfig, config("text_config.num_key_value_heads", 1)},
		{"text_config.hidden_act", ErrConfig, config("text_config.hidden_act", "gelu")},
		{"text_config.rope_scaling", ErrConfig, config("text_config.rope_scaling", map[string]any{"type": "linear"})},
		{"text_config.rms_norm_eps", ErrConfig, config("text_config.rms_norm_eps", 0)},
		{"text_config.rope_theta", ErrConfig, config("text_config.rope_theta", 0)},
		{"text_config.max_position_embeddings", ErrConfig, config("text_config.max_position_embeddings", 1<<40)},
		{"text_config.tie_word_embeddings", ErrConfig, config("text_config.tie_word_embeddings", true)},
		{"text_config.attention_bias", ErrConfig, config("text_config.attention_bias", true)},
		{"text_config.vocab_size is 32064", ErrConfig, config("text_config.vocab_size", 32064)},
		{"text_config.eos_token_id is 1000", ErrConfig, config("text_config.eos_token_id", 1000)},
		{"pad_to_multiple_of", ErrConfig, config("pad_to_multiple_of", nil)},
		{"n_action_bins", ErrConfig, config("n_action_bins", 1)},
		{"mask_token_id is 1023", ErrConfig, config("mask_token_id", 1023)},
		{"mask_token_id is 1000", ErrConfig, func(t *testing.T, dir string, _ *Options) {
			edit(t, filepath.Join(dir, configFile), map[string]any{"mask_token_id": nil})
			put(t, dir, addedTokensFile, `{"<mask>": 1000}`)
		}},
		{"config.json mask_token_id says 1025, added_tokens.json <mask> says 1030", ErrConfig, with(addedTokensFile, `{"<mask>": 1030}`)},
		{"config.json mask_token_id says 1025, tokenizer_config.json [M] says 1026", ErrConfig,
			with(tokenizerConfigFile, `{"mask_token": {"content": "[M]"}, "added_tokens_decoder": {"1025": {"content": "<mask>"}, "1026": {"content": "[M]"}}}`)},
		{"config.json mask_token_id says 1025, tokenizer.json <mask> says 1030", ErrConfig,
			with(fastTokenizerFile, `{"added_tokens": [{"id": 1030, "content": "<mask>"}]}`)},
		{`special_tokens_map.json says "<mask>", tokenizer_config.json says "[M]"`, ErrConfig, func(t *testing.T, dir string, _ *Options) {
			put(t, dir, specialTokensFile, `{"mask_token": "<mask>"}`)
			put(t, dir, tokenizerConfigFile, `{"mask_token": "[M]"}`)
		}},
		{"text_config.pad_token_id says 1024, config.json pad_token_id says 1024, added_tokens.json <PAD> says 1027", ErrConfig, with(addedTokensFile, `{"<PAD>": 1027}`)},
		{"a token \"x\", which is no number", ErrConfig, with(tokenizerConfigFile, `{"added_tokens_decoder": {"x": {}}}`)},
		{"added_tokens.json: ", nil, with(addedTokensFile, `{"<mask>": "1025"}`)},
		{"the files disagree about the actions of \"random\": dataset_statistics.json says high[0] is", ErrConfig,
			config("norm_stats", map[string]any{"random": map[string]any{"action": map[string]any{"q01": columns.Q01, "q99": []float64{0.5}}}})},
		{"dataset_statistics.json says mask[0] is true, config.json norm_stats says false", ErrConfig,
			config("norm_stats", map[string]any{"random": map[string]any{"action": map[string]any{"q01": columns.Q01, "q99": columns.Q99, "mask": []bool{false}}}})},
		{"dataset_statistics.json has 1 dimensions, config.json norm_stats 2", ErrConfig,
			config("norm_stats", map[string]any{"random": map[string]any{"action": map[string]any{"q01": []float64{0, 0}}}})},
		{"norm_stats", ErrConfig, config("norm_stats", []int{1})},
		{"mask_token_id is 1088", ErrConfig, config("mask_token_id", 1088)},
		{"timm_model_ids and image_sizes", ErrConfig, config("timm_model_ids", []string{"x"})},
		{"timm_model_args[0].num_heads is 0", ErrConfig, config("timm_model_args", nil)},
		{"timm_model_args[1].num_heads is 5", ErrConfig, config("timm_model_args", []map[string]int{{"num_heads": 3}, {"num_heads": 5}})},
		{"the last one tells which block", ErrTensors, config("timm_model_ids", []string{dinoID, siglipID})},
		{"image_sizes[0] is 30", ErrConfig, config("image_sizes", []int{30, 30})},
		{"must be alike", ErrConfig, config("image_sizes", []int{28, 21})},
		{"pos_embed is [1 16 24], expected [1 25 24]", ErrTensors, func(t *testing.T, dir string, _ *Options) {
			edit(t, filepath.Join(dir, configFile), map[string]any{"image_sizes": []int{35, 35}})
			edit(t, filepath.Join(dir, preprocessorFile), map[string]any{"input_sizes": nil})
		}},
		{"config.json image_sizes[1] is 28, preprocessor_config.json input_sizes[1] is [3 28 35]", ErrConfig,
			jsonFile(preprocessorFile, map[string]any{"input_sizes": [][]int{{3, 28, 28}, {3, 28, 35}}})},
		{"tvf_normalize_params has 0 entries", ErrConfig, jsonFile(preprocessorFile, map[string]any{"tvf_normalize_params": nil})},
		{"tvf_normalize_params[0] needs three means", ErrConfig, jsonFile(preprocessorFile, map[string]any{"tvf_normalize_params": []any{
			map[string]any{"mean": []int{0, 0, 0}, "std": []int{1, 0, 1}}, map[string]any{}}})},

		{"missing   language_model.model.norm.weight [40]", ErrTensors, rename("language_model.model.norm.weight", "language_model.model.norm.height")},
		{"left over language_model.model.norm.height [40]", ErrTensors, rename("language_model.model.norm.weight", "language_model.model.norm.height")},
		{"missing   vision_backbone.featurizer.norm.bias", ErrTensors, rename("featurizer.norm.bias", "featurizer.norm.dias")},
		{"layers.0.mlp.up_proj.weight is [40 56], expected [56 40]", ErrTensors, func(t *testing.T, dir string, _ *Options) {
			swapShape(t, dir, "language_model.model.layers.0.mlp.up_proj.weight")
		}},
		{"not a valid safetensors file", safetensors.ErrFormat, rename(`{"__metadata__"`, `["__metadata__"`)},

		{"unnorm-key is \"other\", dataset_statistics.json has [\"random\"]", ErrOption, option(func(o *Options) { o.UnnormKey = "other" })},
		{"have 1 action dimensions, the layout 2; no layout has 1, so give --action-dims a JSON file", ErrConfig, option(func(o *Options) { o.ActionDims = append(o.ActionDims, bundle.ActionDim{Name: "extra"}) })},
		{"mask of 3 for 1 action", ErrConfig, jsonFile(bundle.StatisticsFile, map[string]any{"random.action.mask": []bool{true, true, true}})},
		{"type      language_model.model.norm.weight is I16, expected F32, F16 or BF16", ErrTensors, rename(`model.norm.weight":{"dtype":"F16"`, `model.norm.weight":{"dtype":"I16"`)},
		{`weight "language_model.model.norm.weight": a value is NaN`, nil, func(t *testing.T, dir string, _ *Options) {
			notANumber(t, dir, "language_model.model.norm.weight")
		}},
		{"tokenizer.model has EOS 2, but tokens.stop of the manifest is 3; the manifest's ids are those of config.json", ErrConfig, config("text_config.eos_token_id", 3)},
		{"tokenizer.model has BOS 1, but tokens.bos of the manifest is 3", ErrConfig, config("text_config.bos_token_id", 3)},
		{"action.q01[0] (joint1) is 2, above action.q99 with 1", action.ErrStatistics, jsonFile(bundle.StatisticsFile, map[string]any{"random.action.q01": []int{2}, "random.action.q99": []int{1}})},
		{"dataset_statistics.json: larger than", nil, func(t *testing.T, dir string, _ *Options) {
			if err := os.Truncate(filepath.Join(dir, bundle.StatisticsFile), action.MaxStatistics+1); err != nil {
				t.Fatal(err)
			}
		}},
		{"proprio-dims is given, but the checkpoint has no proprio_projector--*.pt or proprio_projector.safetensors", ErrOption, option(func(o *Options) {
			dims := o.ActionDims
			if err := o.SetColumns("cobot_magic", "cobot_magic", ""); err != nil {
				t.Fatal(err)
			}
			o.ActionDims = dims
		})},
		{"action-rate is 0 Hz", ErrOption, option(func(o *Options) { o.ActionRate = 0 })},
		{"checkpoint is not given", ErrOption, option(func(o *Options) { o.Checkpoint = "" })},
		{"out is not given", ErrOption, option(func(o *Options) { o.Out = "" })},
		{"vocabulary is \"words\"", ErrOption, option(func(o *Options) { o.Vocabulary = "words" })},
		{"attention is \"both\"", ErrOption, option(func(o *Options) { o.Attention = "both" })},
		{"attention is causal, but config.json says that the model was trained with prefix", ErrOption, func(t *testing.T, dir string, o *Options) {
			edit(t, filepath.Join(dir, configFile), map[string]any{"attention": "prefix"})
			o.Attention = bundle.Causal
		}},
		{"config.json attention is \"some\"", ErrConfig, config("attention", "some")},
		{"cameras is empty", ErrOption, option(func(o *Options) { o.Cameras = nil })},
		{"chunk is 0", ErrOption, option(func(o *Options) { o.Chunk = 0 })},
		{"action-dims is empty", ErrOption, option(func(o *Options) { o.ActionDims = nil })},
		{"preset is \"fast\"", ErrOption, option(func(o *Options) { o.Decode.Preset = "fast" })},
		{"action.normalization", bundle.ErrManifest, option(func(o *Options) { o.Normalization = "q99" })},
		{"action.chunk is 4611686018427387904, must be at most 2048", bundle.ErrManifest, option(func(o *Options) { o.Chunk = 1 << 62 })},
		{"action.chunk is 4611686018427387904, must be at most 2048", bundle.ErrManifest, option(func(o *Options) {
			o.Chunk, o.BinEdges = 1<<62, [][]float64{{-1, 1}}
		})},
		{"action.chunk is 9223372036854775807, must be at most 2048", bundle.ErrManifest, option(func(o *Options) { o.Chunk = math.MaxInt })},
		{"prompt.max_tokens is 9223372036854775807", bundle.ErrManifest, option(func(o *Options) { o.MaxPromptTokens = math.MaxInt })},
		{"name is used twice", bundle.ErrManifest, option(func(o *Options) { o.Cameras = []string{"a", "a"} })},
		{"prompt.template", bundle.ErrManifest, option(func(o *Options) { o.PromptTemplate = "x" })},
		{"model.max_sequence", bundle.ErrManifest, config("text_config.max_position_embeddings", 60)},
		{"file already exists", fs.ErrExist, option(func(o *Options) { o.Out = o.Checkpoint })},
		{"none of its", nil, func(t *testing.T, dir string, _ *Options) {
			if err := os.WriteFile(filepath.Join(dir, bundle.TokenizerFile), []byte{10, 3, 10, 1, 'x'}, 0o644); err != nil {
				t.Fatal(err)
			}
		}},
		{"is not a SentencePiece model", nil, func(t *testing.T, dir string, _ *Options) {
			if err := os.WriteFile(filepath.Join(dir, bundle.TokenizerFile), []byte("<html>"), 0o644); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			s := copied(t, 2)
			parent := t.TempDir()
			o := s.options(filepath.Join(parent, "bundle"))
			c.damage(t, s.dir, &o)
			err := Export(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v", err)
			}
			if left := files(t, parent); len(left) > 0 {
				t.Errorf("left %d files", len(left))
			}
			if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
				t.Errorf("left %v (%v)", entries, err)
			}
		})
	}
}

// What may be a part of the checkpoint that was lost is told, and only then.
func TestExportTellsWhatMayBeMissing(t *testing.T) {
	const mask, state = "no file of the checkpoint names a mask token, so 1025 is taken", `the statistics of "random" have a robot state, but the checkpoint has no proprio_projector`
	noted := func(s sample, change func(o *Options)) (notes string) {
		t.Helper()
		o := s.options("")
		o.Note = func(line string) { notes += line + "\n" }
		change(&o)
		if _, err := MakePlan(o); err != nil {
			t.Fatal(err)
		}
		return notes
	}
	nothing := func(*Options) {}
	if got := noted(references(t)[0], nothing); got != "" {
		t.Errorf("a whole checkpoint: noted %q", got)
	}
	s := copied(t, 2)
	if got := noted(s, nothing); !strings.Contains(got, state) || strings.Contains(got, mask) {
		t.Errorf("no projector: noted %q", got)
	}
	edit(t, filepath.Join(s.dir, bundle.StatisticsFile), map[string]any{"random.proprio.q01": make([]int, 5), "random.proprio.q99": make([]int, 5)})
	if got := noted(s, nothing); got != "" {
		t.Errorf("zeros, as OpenVLA writes of data without a state: noted %q", got)
	}
	edit(t, filepath.Join(s.dir, bundle.StatisticsFile), map[string]any{"random.proprio": nil})
	if got := noted(s, nothing); got != "" {
		t.Errorf("no state at all: noted %q", got)
	}
	edit(t, filepath.Join(s.dir, configFile), map[string]any{"mask_token_id": nil})
	if got := noted(s, nothing); !strings.Contains(got, mask) {
		t.Errorf("no mask: noted %q", got)
	}
	if got := noted(s, func(o *Options) { o.Attention = bundle.Causal }); got != "" {
		t.Errorf("no mask, causal: noted %q", got)
	}
	put(t, s.dir, addedTokensFile, `{"<mask>": 1025}`)
	if got := noted(s, nothing); got != "" {
		t.Errorf("a mask in %s: noted %q", addedTokensFile, got)
	}
}

func put(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What a run would refuse of the state's statistics, the export and its plan do.
func TestStatisticsThatNoRunOpensAreRefused(t *testing.T) {
	for want, changes := range map[string]map[string]any{
		"proprio.start has 1 values, but the manifest's proprio.dims names 5": {"random.proprio.start": []int{0}},
		"proprio.q01[1] (joint2) is 0, above proprio.q99 with -1":             {"random.proprio.q01": make([]int, 5), "random.proprio.q99": []int{0, -1, 0, 0, 0}},
	} {
		s := copied(t, 0)
		edit(t, filepath.Join(s.dir, bundle.StatisticsFile), changes)
		o := s.options(filepath.Join(t.TempDir(), "bundle"))
		_, err := MakePlan(o)
		for _, err := range []error{err, Export(t.Context(), o)} {
			if !errors.Is(err, action.ErrStatistics) || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	}
}

// All that config.json says of the data set is compared, the state as far as the model
// takes one.
func TestStatisticsInTwoFilesAreCompared(t *testing.T) {
	s := copied(t, 0)
	stated := func(change func(set map[string]any)) {
		var sets map[string]map[string]any
		if err := readJSON(os.DirFS(s.dir), bundle.StatisticsFile, &sets); err != nil {
			t.Fatal(err)
		}
		change(sets["random"])
		edit(t, filepath.Join(s.dir, configFile), map[string]any{"norm_stats": sets})
	}
	part := func(set map[string]any, name string) map[string]any { return set[name].(map[string]any) }
	for _, c := range []struct {
		want   string
		change func(set map[string]any)
	}{
		{"", func(map[string]any) {}},
		{"", func(set map[string]any) { delete(set, "proprio") }},
		{"", func(set map[string]any) { // as OpenVLA writes of data without a state
			part(set, "proprio")["q01"], part(set, "proprio")["q99"] = make([]int, 7), make([]int, 7)
		}},
		{"", func(set map[string]any) { part(set, "proprio")["min"] = []int{-9, -9, -9, -9, -9} }}, // not what bounds_q99 reads
		{`disagree about the states of "random": dataset_statistics.json says low[0] is`, func(set map[string]any) { part(set, "proprio")["q01"] = []int{-9, -9, -9, -9, -9} }},
		{`disagree about the states of "random": dataset_statistics.json has 5 dimensions, config.json norm_stats 4`, func(set map[string]any) { part(set, "proprio")["q99"] = []int{9, 9, 9, 9} }},
		{"config.json norm_stats has other bin_edges than dataset_statistics.json", func(set map[string]any) {
			part(set, "action")["bin_edges"] = [][]float64{{-1, 0, 1}, {}, {}, {}, {}, {}, {}}
		}},
	} {
		stated(c.change)
		_, err := MakePlan(s.options(""))
		if c.want == "" && err != nil || c.want != "" && (!errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("got %v, want %q", err, c.want)
		}
	}
}

// notANumber puts a NaN into a float16 tensor of the weights.
func notANumber(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, "model.safetensors")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	length := binary.LittleEndian.Uint64(raw)
	var header map[string]struct {
		Offsets []uint64 `json:"data_offsets"`
	}
	if err := json.Unmarshal(raw[8:8+length], &header); err != nil || header[name].Offsets == nil {
		t.Fatal(err, header[name])
	}
	binary.LittleEndian.PutUint16(raw[8+length+header[name].Offsets[1]-2:], 0x7e00)
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// swapShape turns a matrix's shape around in the header of the weights.
func swapShape(t *testing.T, dir, name string) {
	t.Helper()
	path := filepath.Join(dir, "model.safetensors")
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(raw, []byte(`"`+name+`"`))
	shape := bytes.Index(raw[at:], []byte("[56,40]"))
	if at < 0 || shape < 0 {
		t.Fatalf("%s is not in %s", name, path)
	}
	copy(raw[at+shape:], "[40,56]")
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// emptyCheckpoint has the configuration of dir and no weights.
func emptyCheckpoint(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	for _, name := range []string{configFile, preprocessorFile} {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(to, name), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return to
}

// doneAfter ends on the n-th look at it, so that an export is interrupted at
// each place where it can be.
type doneAfter struct {
	context.Context
	looks *int
}

func (c doneAfter) Err() error {
	if *c.looks--; *c.looks < 0 {
		return context.Canceled
	}
	return nil
}

func TestInterruptedExportLeavesNothing(t *testing.T) {
	for precision, step := range map[string]int{precisionFP32: 17, precisionInt4: 41} {
		interrupted(t, precision, step)
	}
}

func interrupted(t *testing.T, precision string, step int) {
	s := references(t)[2]
	for looks := 0; ; looks += step {
		parent := t.TempDir()
		left := looks
		o := s.options(filepath.Join(parent, "bundle"))
		o.Precision = precision
		err := Export(doneAfter{t.Context(), &left}, o)
		entries, readErr := os.ReadDir(parent)
		if readErr != nil {
			t.Fatal(readErr)
		}
		if err == nil {
			if looks < 60 || len(entries) != 1 {
				t.Errorf("done after %d looks, wrote %v", looks, entries)
			}
			return
		}
		if !errors.Is(err, context.Canceled) || len(entries) != 0 || strings.Contains(err.Error(), "\n") {
			t.Fatalf("after %d looks: %v, left %v", looks, err, entries)
		}
	}
}

func FuzzFindPiece(f *testing.F) {
	f.Add([]byte{10, 5, 10, 3, 0xe2, 0x96, 0x81})
	f.Add([]byte{10, 3, 10, 1, 'x', 0x12, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		id, pieces, ok := findPiece(raw, emptyPiece)
		if ok && id >= int64(pieces) || id < -1 {
			t.Fatalf("piece %d of %d", id, pieces)
		}
	})
}

// Whatever config.json says, the architecture is refused or fits the tensors.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"timm_model_ids":["a","b"],"timm_model_args":[{"num_heads":1},{"num_heads":1}],"image_sizes":[4,4],"pad_to_multiple_of":64}`))
	f.Add([]byte(`{"image_sizes":[-1,1e9],"text_config":{"num_attention_heads":0,"rope_theta":null}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c := checkpoint{tensors: tensorSource{}}
		if json.Unmarshal(raw, &c.config) != nil {
			return
		}
		for name, shape := range map[string][]int64{
			embedName: {128, 8}, layersName + "0.mlp.gate_proj.weight": {12, 8}, "projector.fc1.weight": {4, 4},
			"vision_backbone.featurizer.pos_embed": {1, 4, 6}, "vision_backbone.featurizer.patch_embed.proj.weight": {6, 3, 2, 2},
			"vision_backbone.featurizer.blocks.1.mlp.fc1.weight": {5, 6}, "vision_backbone.featurizer.blocks.0.mlp.fc1.weight": {5, 6},
		} {
			c.tensors[name] = diskTensor{shape: shape, dtype: "F32"}
		}
		if _, err := c.network(&Options{Chunk: 4, Cameras: []string{"head"}, ActionDims: make([]bundle.ActionDim, 1)}); err == nil {
			t.Fatal("a network without most of its tensors was accepted")
		}
	})
}
