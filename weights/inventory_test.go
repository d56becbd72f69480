package weights

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
	"pgregory.net/rapid"
)

// The configuration of openvla-7b, as far as it is read, with the padding of
// its vocabulary.
const openVLAConfig = `{
	"timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"],
	"timm_override_act_layers": [null, null],
	"image_sizes": [224, 224],
	"pad_token_id": 32000,
	"pad_to_multiple_of": 64,
	"n_action_bins": 256,
	"text_config": {"model_type": "llama", "pad_token_id": 32000, "torch_dtype": "bfloat16", "vocab_size": 32064}
}`

func openVLA() *network {
	return &network{
		dino: &vit{
			prefix: "vision_backbone.featurizer.", dim: 1024, depth: 24, heads: 16, mlp: 4096, registers: 4,
			classToken: true, layerScale: true, image: 224, patch: 14, mean: [3]float32{0, 0, 0}, std: [3]float32{1, 1, 1},
		},
		siglip: &vit{
			prefix: "vision_backbone.fused_featurizer.", dim: 1152, depth: 27, heads: 16, mlp: 4304, pool: true,
			image: 224, patch: 14, mean: [3]float32{0, 0, 0}, std: [3]float32{1, 1, 1},
		},
		projector: &projector{vision: 2176, inner: 8704, hidden: 4096},
		proprio:   &proprioProjector{dims: 14, hidden: 4096},
		llama: &llama{
			rows: 32064, hidden: 4096, layers: 32, heads: 32, intermediate: 11008, epsilon: 1e-6, ropeTheta: 10000, maxPositions: 2048,
		},
		tokens: tokenIDs{base: 32000, bins: 256, mask: 32001, stop: 2, pad: 32000, vocabulary: bundle.ActionVocabulary},
		images: 3, slots: 350, attention: bundle.Bidirectional,
		types: numberTypes{onnx.Float32, onnx.Float32},
	}
}

func count(list []entry) (tensors, parameters int64) {
	for _, e := range list {
		n := int64(1)
		for _, d := range e.shape {
			n *= d
		}
		tensors, parameters = tensors+1, parameters+n
	}
	return tensors, parameters
}

// The inventory of the published model has the numbers of tensors and
// parameters that its checkpoint reports.
func TestInventoryOfOpenVLA(t *testing.T) {
	n := openVLA()
	for name, c := range map[string]struct {
		list                []entry
		tensors, parameters int64
	}{
		"language model":    {n.llama.inventory(), 291, 6_738_939_904},
		"projector":         {n.projector.inventory(), 6, 71_385_600},
		"DINOv2":            {n.dino.inventory(), 343, 303_230_976},
		"SigLIP":            {n.siglip.inventory(), 342, 427_680_704},
		"proprio projector": {n.proprio.inventory(), 4, 16_842_752},
	} {
		if tensors, parameters := count(c.list); tensors != c.tensors || parameters != c.parameters {
			t.Errorf("%s: %d tensors, %d parameters, want %d and %d", name, tensors, parameters, c.tensors, c.parameters)
		}
	}
	// 513 tokens of two cameras and proprio on LIBERO, 769 with three.
	if n.inserted() != 769 {
		t.Errorf("%d tokens before the prompt", n.inserted())
	}
}

// From its tensors' shapes and its configuration the whole architecture
// follows.
func TestArchitectureOfOpenVLA(t *testing.T) {
	want := openVLA()
	c := checkpoint{tensors: tensorSource{}}
	for _, e := range want.inventory() {
		c.tensors[e.name] = diskTensor{shape: e.shape, dtype: "F32"}
	}
	if err := json.Unmarshal([]byte(openVLAConfig), &c.config); err != nil {
		t.Fatal(err)
	}
	images := `{"tvf_normalize_params": [{"mean": [0, 0, 0], "std": [1, 1, 1]}, {"mean": [0, 0, 0], "std": [1, 1, 1]}]}`
	if err := json.Unmarshal([]byte(images), &c.images); err != nil {
		t.Fatal(err)
	}
	o := Defaults() // three cameras, 14 dimensions
	o.Chunk = 25
	got, err := c.network(&o)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestLayouts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rows, columns := rapid.IntRange(1, 70).Draw(t, "rows"), rapid.IntRange(1, 70).Draw(t, "columns")
		src := make([]float32, rows*columns)
		for i := range src {
			src[i] = float32(i)
		}
		plain, reversed := make([]float32, len(src)), make([]float32, len(src))
		transpose(plain, src, rows, columns, false)
		transpose(reversed, src, rows, columns, true)
		for r := range rows {
			for c := range columns {
				if v := src[r*columns+c]; plain[c*rows+r] != v || reversed[c*rows+rows-1-r] != v {
					t.Fatalf("row %d, column %d of %dx%d", r, c, rows, columns)
				}
			}
		}
	})
	// Two kernels of two pixels: [dim][channel][pixel] to [pixel][channel][dim].
	got := make([]float32, 12)
	pixelsFirst(got, []float32{0, 1, 10, 11, 20, 21, 100, 101, 110, 111, 120, 121}, 2, 2)
	if want := []float32{0, 100, 10, 110, 20, 120, 1, 101, 11, 111, 21, 121}; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v", got)
	}
}
