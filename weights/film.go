package weights

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/weights/onnx"
	"github.com/ddvla/ddvla/weights/safetensors"
)

// visionPart is the vision towers of a policy with FiLM: language scales and
// shifts what they see. openvla-oft saves them whole, LoRA not merged, since the
// merged safetensors cannot hold them; theirs are then those of the base model.
const visionPart = "vision_backbone"

// oftAdapterConfig is where finetune.py keeps the adapter of the same training.
const oftAdapterConfig = "lora_adapter/" + adapterConfigFile

// filmedVision is a vision_backbone--*.pt whose LoRA is still to be merged.
type filmedVision struct {
	file  string
	lora  *adapter // nil: it has none
	alpha string   // where lora_alpha is from
}

// openVision replaces the towers by those of a FiLM file.
//
// The names in it follow from openvla-oft's code (FiLMedPrismaticVisionBackbone
// around PEFT's layers); no published file has been opened here. So what the
// wrappers add to a name (vision_backbone, block, base_layer, default) may be
// there or not, and all else is compared with the architecture.
func (c *checkpoint) openVision(name string) error {
	r, err := openTensors(c.folder, name)
	if err != nil {
		return err
	}
	towers, lora := map[string]string{}, map[string]string{}
	for _, name := range r.Names() {
		to, short := towers, visionName(name)
		if strings.Contains(short, ".lora_A.") || strings.Contains(short, ".lora_B.") {
			to, short = lora, adapterPrefix+short
		}
		if other, ok := to[short]; ok {
			err = fmt.Errorf("%w: %s has both %s and %s, which are the same tensor", ErrTensors, r.Files()[0], other, name)
			break
		}
		to[short] = name
	}
	for short, name := range towers {
		module, ok := strings.CutSuffix(short, ".weight")
		if ok && err == nil && strings.Contains(name, ".base_layer.") && lora[adapterPrefix+module+".lora_A.weight"] == "" {
			err = fmt.Errorf("%w: %s has %s without its lora_A", ErrTensors, r.Files()[0], name)
		}
	}
	c.vision = &filmedVision{file: name}
	if len(lora) > 0 && err == nil {
		err = c.openVisionLoRA(renamed{r, lora})
	}
	if err != nil {
		c.closers = append(c.closers, r)
		return err
	}
	maps.DeleteFunc(c.tensors, func(name string, _ diskTensor) bool { return strings.HasPrefix(name, visionPart+".") })
	return c.take(renamed{r, towers}, "")
}

// visionName is the name in the inventory of a tensor of a FiLM file.
func visionName(name string) string {
	for rest, ok := name, true; ok; rest, ok = strings.CutPrefix(name, visionPart+".") {
		name = rest
	}
	var kept []string
	parts := strings.Split(name, ".")
	for i, part := range parts {
		switch {
		case part == "block" && i >= 2 && parts[i-2] == "blocks":
		case part == "base_layer":
		case part == "default" && i > 0 && strings.HasPrefix(parts[i-1], "lora_"):
		default:
			kept = append(kept, part)
		}
	}
	return visionPart + "." + strings.Join(kept, ".")
}

// openVisionLoRA finds the scale of the file's LoRA. Tensors tell the rank;
// lora_alpha is in the adapter's configuration where finetune.py left it, else it
// is what finetune.py sets.
func (c *checkpoint) openVisionLoRA(r renamed) error {
	a := &adapter{tensorFile: r}
	c.vision.lora = a
	rank := int64(0)
	for _, name := range r.Names() {
		if t, _ := r.Tensor(name); strings.HasSuffix(name, ".lora_A.weight") && len(t.Shape) > 0 {
			rank = t.Shape[0]
			break
		}
	}
	found, err := readOptionalJSON(c.folder, oftAdapterConfig, &a.config)
	if err != nil {
		return err
	}
	if !found {
		a.config = adapterConfig{Rank: rank, Alpha: float64(min(rank, 16))}
		c.vision.alpha = "min(r, 16) as finetune.py sets it"
		return nil
	}
	if err := readJSON(c.folder, oftAdapterConfig, &a.raw); err != nil {
		return err
	}
	if err := a.check(); err != nil {
		return fmt.Errorf("%s: %w", oftAdapterConfig, err)
	}
	if a.config.Rank != rank {
		return fmt.Errorf("%w: %s says r %d, the LoRA in %s has %d; move the file that is of another training out of the directory",
			ErrLoRA, oftAdapterConfig, a.config.Rank, c.vision.file, rank)
	}
	// Its target modules have the names before the towers were wrapped, and
	// which of them have LoRA the base_layer in a name tells.
	a.config.Targets = nil
	c.vision.alpha = "from " + oftAdapterConfig
	c.reads(oftAdapterConfig)
	return nil
}

// mergeVision merges the file's own LoRA and says in a line what was done.
func (c *checkpoint) mergeVision(n *network) (string, error) {
	v := c.vision
	if v.lora == nil {
		return v.file, nil
	}
	modules, err := v.lora.merge(c.tensors, n.inventory())
	if err != nil {
		return "", fmt.Errorf("%s: %w", v.file, err)
	}
	return fmt.Sprintf("%s: LoRA of %d modules, r %d, lora_alpha %g (%s), scale %g",
		v.file, modules, v.lora.config.Rank, v.lora.config.Alpha, v.alpha, v.lora.config.scale()), nil
}

// renamed is a file's tensors under other names.
type renamed struct {
	tensorFile
	original map[string]string
}

func (r renamed) Names() []string { return slices.Sorted(maps.Keys(r.original)) }

func (r renamed) Tensor(name string) (safetensors.Tensor, bool) {
	return r.tensorFile.Tensor(r.original[name])
}

// language is what FiLM makes its scales and shifts of, [B*N, 1, hidden] for
// prompt [B, P, hidden] and stop [B, 1, hidden], all float32: the mean of the embeddings of all
// tokens that are no actions, BOS and the stop included (openvla-oft
// modeling_prismatic.py, film_vit_wrapper.py). Pads are left out, so that a padded
// prompt sees what it sees alone; openvla-oft runs one prompt at a time.
func (n *network) language(g *onnx.Graph, o observation, prompt, stop onnx.Value) onnx.Value {
	column := g.Range(g.Int(0), g.Squeeze(g.ShapeOf(o.promptIDs, 1, 2), 0), g.Int(1))
	pad := g.GreaterOrEqual(column, g.Unsqueeze(o.promptLength, 1)) // [B, P]
	sum := g.ReduceSum(g.Where(g.Unsqueeze(pad, 2), g.Float(0), prompt), true, 1)
	count := g.Cast(g.Add(o.promptLength, g.Int(1)), onnx.Float32)
	mean := g.Div(g.Add(sum, stop), g.Unsqueeze(count, 1, 2))
	shape := g.Concat(0, g.ShapeOf(o.promptIDs, 0, 1), g.Ints(int64(n.images), int64(n.llama.hidden)))
	return g.Reshape(g.Expand(mean, shape), g.Ints(-1, 1, int64(n.llama.hidden)))
}

// film scales and shifts x [B*N, tokens, dim] by what language [B*N, 1, hidden]
// says.
func film(g *onnx.Graph, x, language onnx.Value, p string) onnx.Value {
	gamma := linearOp(g, language, p+"scale", true)
	beta := linearOp(g, language, p+"shift", true)
	return g.Add(g.Mul(x, g.Add(gamma, g.Float(1))), beta)
}
