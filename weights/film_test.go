package weights

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/ort"
)

const savedVision = "vision_backbone--150000_checkpoint.pt"

// filmed is a sample's checkpoint with the towers that PyTorch saved.
func filmed(t *testing.T, number int) sample {
	t.Helper()
	s := copied(t, number)
	place(t, filepath.Join(s.results+"-film", savedVision), filepath.Join(s.dir, savedVision))
	return s
}

func (r reference) compare(t *testing.T, runtime *ort.Runtime, s *sample, b *bundle.Bundle, want string, others ...string) {
	t.Helper()
	step, err := runtime.Step(b)
	if err != nil {
		t.Fatal(err)
	}
	defer step.Close()
	var got decode.Logits
	if err := step.Logits(r.observation(s))(t.Context(), 0, integers(r["tokens"]), &got); err != nil {
		t.Fatal(err)
	}
	d := largestDifference(got.Values, r[want])
	t.Logf("%s: %d logits, largest difference %.2g, standard deviation %.2g", want, len(got.Values), d, deviation(r[want]))
	if !(d < 1e-4) {
		t.Errorf("logits differ by %g", d)
	}
	for _, name := range others {
		if d := largestDifference(got.Values, r["logits."+name]); !(d > 1e-2) {
			t.Errorf("%s goes unnoticed, difference %g", name, d)
		}
	}
}

// The graph with FiLM gives the logits of the PyTorch modules that scale and
// shift, with LoRA beside their layers, of prompts of different lengths, and the
// comparison notices each fault that it could have.
func TestFiLMAgreesWithPyTorch(t *testing.T) {
	runtime := openRuntime(t)
	faults := []string{"plain", "one", "late", "swapped", "pads", "no_stop", "no_bos", "first_row", "lora", "no_conv", "base", "scale"}
	for number := range 2 {
		s := filmed(t, number)
		r := s.load(t, "film.safetensors")
		if lengths := integers(r["prompt_length"]); lengths[0] == lengths[1] {
			t.Errorf("prompts of %v tokens: no pads, so they show nothing", lengths)
		}
		r.compare(t, runtime, &s, s.export(t), "logits", faults...)
	}
	// The adapter's own configuration, where finetune.py left it, has the scale.
	s := filmed(t, 1)
	if err := os.Mkdir(filepath.Join(s.dir, "lora_adapter"), 0o755); err != nil {
		t.Fatal(err)
	}
	place(t, filepath.Join(s.results+"-adapter", adapterConfigFile), filepath.Join(s.dir, oftAdapterConfig))
	r := s.load(t, "film.safetensors")
	r["logits.default"] = r["logits"]
	b := s.export(t)
	r.compare(t, runtime, &s, b, "logits.config", "default")
	fused, err := runtime.Fused(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := fused.Close(); err != nil {
		t.Error(err)
	}
	if len(b.Manifest.Source.Files[oftAdapterConfig]) != 64 {
		t.Errorf("%s is not among %v", oftAdapterConfig, b.Manifest.Source.Files)
	}
}

func TestFiLMInManifestAndPlan(t *testing.T) {
	s := filmed(t, 0)
	p, err := MakePlan(s.options(""))
	if err != nil {
		t.Fatal(err)
	}
	// 3 and 4 blocks of 4 linear layers, 2 convolutions, 5 linear layers in the pool.
	want := savedVision + ": LoRA of 35 modules, r 20, lora_alpha 16 (min(r, 16) as finetune.py sets it), scale 0.8"
	if got := p.Manifest.Source.Options["film"]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	conditioned := 0
	for _, e := range p.Tensors {
		if tower := strings.HasPrefix(e.Name, visionPart+"."); tower != (e.File == savedVision) {
			t.Errorf("%s is read from %s", e.Name, e.File)
		}
		if strings.HasSuffix(e.Name, ".scale.weight") && !e.Dead() {
			conditioned++
		}
	}
	if conditioned != 5 {
		t.Errorf("%d blocks with FiLM run, want 2 and 3", conditioned)
	}
	plain := references(t)[0]
	without, err := MakePlan(plain.options(""))
	if err != nil || without.Manifest.Source.Options["film"] != "" {
		t.Errorf("%v, %v", err, without.Manifest.Source.Options)
	}
}

// FiLM adds to the published sizes what openvla-oft's documentation says.
func TestInventoryWithFiLM(t *testing.T) {
	n := openVLA()
	_, before := count(n.inventory())
	n.dino.language, n.siglip.language = 4096, 4096
	if _, after := count(n.inventory()); after-before != 456_241_920 {
		t.Errorf("%d parameters of FiLM", after-before)
	}
}

// What the wrappers add to a name may be there or not.
func TestVisionNames(t *testing.T) {
	for name, want := range map[string]string{
		"vision_backbone.featurizer.blocks.2.block.attn.qkv.base_layer.weight":    "vision_backbone.featurizer.blocks.2.attn.qkv.weight",
		"featurizer.blocks.2.attn.qkv.weight":                                     "vision_backbone.featurizer.blocks.2.attn.qkv.weight",
		"vision_backbone.vision_backbone.featurizer.blocks.2.shift.bias":          "vision_backbone.featurizer.blocks.2.shift.bias",
		"vision_backbone.fused_featurizer.patch_embed.proj.lora_A.default.weight": "vision_backbone.fused_featurizer.patch_embed.proj.lora_A.weight",
		"vision_backbone.fused_featurizer.blocks.0.block.mlp.fc1.lora_B.weight":   "vision_backbone.fused_featurizer.blocks.0.mlp.fc1.lora_B.weight",
		"vision_backbone.fused_featurizer.attn_pool.block.default":                "vision_backbone.fused_featurizer.attn_pool.block.default",
		"default":          "vision_backbone.default",
		"":                 "vision_backbone.",
		"vision_backbone.": "vision_backbone.",
	} {
		if got := visionName(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

func TestFiLMRefuses(t *testing.T) {
	renameIn := func(old, now string) func(t *testing.T, s *sample) {
		return func(t *testing.T, s *sample) {
			path := filepath.Join(s.dir, savedVision)
			raw, err := os.ReadFile(path)
			if err != nil || len(old) != len(now) || strings.Count(string(raw), old) != 1 {
				t.Fatal(err, old, strings.Count(string(raw), old))
			}
			put(t, s.dir, savedVision, strings.Replace(string(raw), old, now, 1))
		}
	}
	const block = "vision_backbone.featurizer.blocks.0."
	for _, c := range []struct {
		want   string
		is     error
		damage func(t *testing.T, s *sample)
	}{
		{"missing   vision_backbone.featurizer.blocks.0.scale.weight [24 40]", ErrTensors, renameIn(block+"scale.weight", block+"scabe.weight")},
		{"left over vision_backbone.featurizer.blocks.0.scabe.weight [24 40]", ErrTensors, renameIn(block+"scale.weight", block+"scabe.weight")},
		{"missing   vision_backbone.featurizer.blocks.0.attn.proj.bias", ErrTensors,
			renameIn(block+"block.attn.proj.base_layer.bias", block+"block.attn.prog.base_layer.bias")},
		{"has " + block + "block.attn.proj.base_layer.weight without its lora_A", ErrTensors,
			renameIn(block+"block.attn.proj.lora_A.default.weight", block+"block.attn.prog.lora_A.default.weight")},
		{"missing   the other half of", ErrLoRA, renameIn(block+"block.attn.proj.lora_B.default.weight", block+"block.attn.prog.lora_B.default.weight")},
		{"which are the same tensor", ErrTensors, renameIn(block+"scale.weight", block+"norm2.weight")},
		{"2 files hold the vision backbone", ErrTensors, func(t *testing.T, s *sample) {
			place(t, filepath.Join(s.dir, savedVision), filepath.Join(s.dir, "vision_backbone--latest_checkpoint.pt"))
		}},
		{"lora_adapter/adapter_config.json says r 5, the LoRA in " + savedVision + " has 20", ErrLoRA, func(t *testing.T, s *sample) {
			if err := os.Mkdir(filepath.Join(s.dir, "lora_adapter"), 0o755); err != nil {
				t.Fatal(err)
			}
			place(t, filepath.Join(s.results+"-adapter", adapterConfigFile), filepath.Join(s.dir, oftAdapterConfig))
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			s := filmed(t, 0)
			c.damage(t, &s)
			if _, err := MakePlan(s.options("")); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v", err)
			}
		})
	}
	s := filmed(t, 0)
	o := s.options("")
	o.LoRA = s.results + "-adapter"
	if _, err := MakePlan(o); !errors.Is(err, ErrLoRA) || !strings.Contains(err.Error(), "the towers' part of the same training") {
		t.Errorf("got %v", err)
	}
}
