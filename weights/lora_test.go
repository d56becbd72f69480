package weights

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/decode"
)

// The graph with a merged adapter gives the logits of the PyTorch network that
// applies it beside its layers, and the comparison notices a wrong scale and
// each group of modules that goes without.
func TestMergedLoRAAgreesWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	for _, s := range references(t)[:2] {
		t.Run(s.name, func(t *testing.T) {
			o := s.options(filepath.Join(t.TempDir(), "bundle"))
			o.LoRA = s.results + "-adapter"
			step, err := runtime.Step(exported(t, o))
			if err != nil {
				t.Fatal(err)
			}
			defer step.Close()
			want := s.load(t, "lora.safetensors")
			var got decode.Logits
			if err := step.Logits(want.observation(&s))(t.Context(), 0, integers(want["tokens"]), &got); err != nil {
				t.Fatal(err)
			}
			d := largestDifference(got.Values, want["logits"])
			t.Logf("%d logits, largest difference %.2g, standard deviation %.2g", len(got.Values), d, deviation(want["logits"]))
			// PyTorch sums in another order on processors with wider vectors: up to 1.01e-4 was seen.
			if !(d < 2e-4) {
				t.Errorf("logits differ by %g", d)
			}
			for _, mutation := range []string{"alpha", "rslora", "no_conv", "no_head", "no_llama", "no_vision"} {
				if d := largestDifference(got.Values, want["logits."+mutation]); !(d > 1e-2) {
					t.Errorf("%s goes unnoticed, difference %g", mutation, d)
				}
			}
		})
	}
}

func TestLoRAInManifestAndPlan(t *testing.T) {
	s := references(t)[0]
	o := s.options(filepath.Join(t.TempDir(), "bundle"))
	o.LoRA = s.results + "-adapter"
	m := exported(t, o).Manifest
	// 3 x 7 + lm_head; 3 x 4 and a convolution; 4 x 4, a convolution and 5 in the pool; 3 in the projector.
	if got := m.Source.Options["lora"]; got != "60 modules, r 5, lora_alpha 8, scale 1.6" {
		t.Error(got)
	}
	for _, name := range []string{"lora/adapter_config.json", "lora/adapter_model.safetensors"} {
		if len(m.Source.Files[name]) != 64 {
			t.Errorf("%s is not among %v", name, m.Source.Files)
		}
	}
	p, err := MakePlan(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range p.Tensors {
		if adapted := len(e.Shape) != 1 && strings.HasSuffix(e.Name, ".weight") && e.Name != embedName && !strings.HasPrefix(e.Name, proprioPrefix); adapted != (e.Rank == 5) {
			t.Errorf("%s has rank %d", e.Name, e.Rank)
		}
	}
}

func TestLoRARefuses(t *testing.T) {
	const down, up = "base_model.model.projector.fc2.lora_A.weight", "base_model.model.projector.fc2.lora_B.weight"
	set := func(key string, v any) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) { edit(t, filepath.Join(dir, adapterConfigFile), map[string]any{key: v}) }
	}
	rename := func(old, now string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			path := filepath.Join(dir, adapterFile)
			raw, err := os.ReadFile(path)
			if err != nil || len(old) != len(now) || strings.Count(string(raw), old) != 1 {
				t.Fatal(err, old)
			}
			put(t, dir, adapterFile, strings.Replace(string(raw), old, now, 1))
		}
	}
	for _, c := range []struct {
		want   string
		is     error
		damage func(t *testing.T, dir string)
	}{
		{`peft_type is "LOHA"`, ErrLoRA, set("peft_type", "LOHA")},
		{`peft_type is "IA3"`, ErrLoRA, set("peft_type", "IA3")},
		{"use_dora is true: DoRA is not merged", ErrLoRA, set("use_dora", true)},
		{"modules_to_save is", ErrLoRA, set("modules_to_save", []string{"lm_head"})},
		{"rank_pattern is", ErrLoRA, set("rank_pattern", map[string]int{"fc1": 4})},
		{"alpha_pattern is", ErrLoRA, set("alpha_pattern", map[string]int{"fc1": 4})},
		{"fan_in_fan_out is true", ErrLoRA, set("fan_in_fan_out", true)},
		{`init_lora_weights is "pissa_niter_4"`, ErrLoRA, set("init_lora_weights", "pissa_niter_4")},
		{`bias is "all"`, ErrLoRA, set("bias", "all")},
		{"r is 0", ErrLoRA, set("r", 0)},
		{"lora_alpha is 0", ErrLoRA, set("lora_alpha", nil)},
		{"expected [6 240] and [40 6] (r is 6)", ErrLoRA, set("r", 6)},
		{"adapter_config.json: ", nil, set("r", "five")},
		{"type      " + down + " is I16 and " + up + " BF16, expected F32, F16 or BF16", ErrLoRA, rename(down+`":{"dtype":"BF16"`, down+`":{"dtype":"I16" `)},
		{"missing   the other half of " + up, ErrLoRA, rename(down, strings.Replace(down, "fc2", "fc4", 1))},
		{"left over " + strings.Replace(down, "fc2", "fc4", 1), ErrLoRA, rename(down, strings.Replace(down, "fc2", "fc4", 1))},
		{"left over base_model.model.projector.fc2.lora_C.weight", ErrLoRA, rename(up, strings.Replace(up, "lora_B", "lora_C", 1))},
		{"does not start with base_model.model.", ErrLoRA, rename(up, strings.Replace(up, "base_model.model", "case_model.model", 1))},
		{"projector.fc2.lora_A.weight, .lora_B.weight: target_modules names the module", ErrLoRA, func(t *testing.T, dir string) {
			rename(down, strings.Replace(down, "fc2", "fc4", 1))(t, dir)
			rename(up, strings.Replace(up, "fc2", "fc4", 1))(t, dir)
		}},
		{"adapter_config.json", fs.ErrNotExist, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, adapterConfigFile)) }},
		{"adapter_model.safetensors", fs.ErrNotExist, func(t *testing.T, dir string) { remove(t, filepath.Join(dir, adapterFile)) }},
	} {
		t.Run(c.want, func(t *testing.T) {
			s := references(t)[0]
			o := s.options("")
			o.LoRA = t.TempDir()
			if err := os.CopyFS(o.LoRA, os.DirFS(s.results+"-adapter")); err != nil {
				t.Fatal(err)
			}
			c.damage(t, o.LoRA)
			if _, err := MakePlan(o); err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// finetune.py leaves the adapter in the directory of the weights that it merged
// it into.
func TestAdapterInsideTheCheckpointIsRefused(t *testing.T) {
	s := copied(t, 0)
	adapter := filepath.Join(s.dir, "lora_adapter")
	if err := os.CopyFS(adapter, os.DirFS(s.results+"-adapter")); err != nil {
		t.Fatal(err)
	}
	o := s.options("")
	o.LoRA = adapter
	if _, err := MakePlan(o); !errors.Is(err, ErrLoRA) || !strings.Contains(err.Error(), "hold it already") {
		t.Errorf("got %v", err)
	}
}

// Whatever the configuration says, it is refused or has a usable scale.
func FuzzAdapterConfig(f *testing.F) {
	f.Add([]byte(`{"peft_type":"LORA","r":5,"lora_alpha":8,"target_modules":["q"]}`))
	f.Add([]byte(`{"peft_type":"LORA","r":5,"lora_alpha":8,"use_rslora":true,"target_modules":".*","layers_to_transform":[1]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var a adapter
		if json.Unmarshal(raw, &a.raw) != nil || json.Unmarshal(raw, &a.config) != nil || a.check() != nil {
			return
		}
		if s := a.config.scale(); s != s {
			t.Fatalf("scale %g", s)
		}
		a.targets("language_model.lm_head")
	})
}

func remove(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
}
