package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/safetensors"
)

// ErrConfig says that a checkpoint's config.json or preprocessor_config.json
// describes no network that can be exported; the error names the field.
var ErrConfig = errors.New("configuration")

// config is what is read of config.json. Pointers tell a missing key from zero;
// what the published text_config leaves out has transformers' defaults for
// LlamaConfig.
type config struct {
	TimmModelIDs  []string `json:"timm_model_ids"`
	TimmModelArgs []struct {
		NumHeads int `json:"num_heads"`
	} `json:"timm_model_args"`
	ImageSizes      []int  `json:"image_sizes"`
	PadToMultipleOf int64  `json:"pad_to_multiple_of"`
	PadTokenID      *int64 `json:"pad_token_id"`
	MaskTokenID     *int64 `json:"mask_token_id"`
	ActionBins      *int   `json:"n_action_bins"`
	Text            struct {
		VocabSize    int64           `json:"vocab_size"`
		Hidden       int             `json:"hidden_size"`
		Layers       int             `json:"num_hidden_layers"`
		Intermediate int             `json:"intermediate_size"`
		PadTokenID   *int64          `json:"pad_token_id"`
		Heads        *int            `json:"num_attention_heads"`
		KeyHeads     *int            `json:"num_key_value_heads"`
		Epsilon      *float64        `json:"rms_norm_eps"`
		RopeTheta    *float64        `json:"rope_theta"`
		RopeScaling  json.RawMessage `json:"rope_scaling"`
		MaxPositions *int            `json:"max_position_embeddings"`
		Act          *string         `json:"hidden_act"`
		Tied         bool            `json:"tie_word_embeddings"`
		Bias         bool            `json:"attention_bias"`
		EOS          *int64          `json:"eos_token_id"`
		BOS          *int64          `json:"bos_token_id"`
	} `json:"text_config"`
	// NormStats is what other checkpoints have as dataset_statistics.json.
	NormStats json.RawMessage `json:"norm_stats"`
	// Attention is our own key: the kind that a model was trained with where it
	// is not openvla-oft's.
	Attention *bundle.Attention `json:"attention"`
}

// preprocessor is what is read of preprocessor_config.json: mean and standard
// deviation of each tower's image normalisation, as stored.
type preprocessor struct {
	Normalize []struct {
		Mean []float32 `json:"mean"`
		Std  []float32 `json:"std"`
	} `json:"tvf_normalize_params"`
	InputSizes [][]int `json:"input_sizes"` // of each tower: channels, height, width
}

// checkpoint is an opened checkpoint directory.
type checkpoint struct {
	folder  *folder
	tensors tensorSource
	config  config
	images  preprocessor
	added   addedTokens
	files   []sourceFile
	vision  *filmedVision // nil: the towers are in the safetensors
	// statistics is the bundle's dataset_statistics.json.
	statistics []byte
	closers    []io.Closer
}

// sourceFile is one that an export reads.
type sourceFile struct {
	folder *folder
	name   string
	label  string // in the manifest
}

// reads notes that files of the checkpoint are read.
func (c *checkpoint) reads(names ...string) {
	for _, name := range names {
		c.files = append(c.files, sourceFile{c.folder, name, name})
	}
}

const (
	configFile       = "config.json"
	preprocessorFile = "preprocessor_config.json"
)

func openCheckpoint(dir string) (_ *checkpoint, err error) {
	c := &checkpoint{tensors: tensorSource{}}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("checkpoint %s: %w", dir, err), c.Close())
		}
	}()
	if c.folder, err = openFolder(dir); err != nil {
		return nil, fmt.Errorf("%w; give the directory that holds %s and the safetensors files", err, configFile)
	}
	c.closers = append(c.closers, c.folder)
	if err := readJSON(c.folder, configFile, &c.config); err != nil {
		return nil, err
	}
	if err := readJSON(c.folder, preprocessorFile, &c.images); err != nil {
		return nil, err
	}
	c.reads(configFile, preprocessorFile)
	if err := c.readAddedTokens(); err != nil {
		return nil, err
	}
	main, err := safetensors.OpenDir(c.folder)
	if err != nil {
		return nil, err
	}
	if err := c.take(main, ""); err != nil {
		return nil, err
	}
	return c, c.openParts()
}

// merge opens the LoRA adapter in dir and merges it. n is the base model.
//
// An adapter inside the checkpoint is refused: openvla-oft's finetune.py keeps
// it beside the weights it has been merged into, and merging it again would
// double it.
func (c *checkpoint) merge(dir string, n *network) (*adapter, int, error) {
	if inside, err := within(c.folder.dir, dir); err != nil {
		return nil, 0, fmt.Errorf("adapter: %w; give the directory that holds %s", err, adapterConfigFile)
	} else if inside {
		return nil, 0, fmt.Errorf("%w %s lies in the checkpoint, whose weights hold it already; export without it, or give its base model as the checkpoint", ErrLoRA, dir)
	}
	if c.vision != nil {
		return nil, 0, fmt.Errorf("%w %s is not merged into a checkpoint with %s, which has the towers' part of the same training; merge with finetune.py or PEFT and export the merged checkpoint",
			ErrLoRA, dir, c.vision.file)
	}
	a, err := openAdapter(dir)
	if err != nil {
		return nil, 0, err
	}
	c.closers = append(c.closers, a)
	for _, name := range append([]string{adapterConfigFile}, a.Files()...) {
		c.files = append(c.files, sourceFile{a.folder, name, "lora/" + name})
	}
	modules, err := a.merge(c.tensors, n.inventory())
	if err != nil {
		return nil, 0, fmt.Errorf("adapter %s: %w", dir, err)
	}
	return a, modules, nil
}

// take adds the tensors of r with prefix put before their names, and closes r
// with the checkpoint.
func (c *checkpoint) take(r tensorFile, prefix string) error {
	c.closers = append(c.closers, r)
	c.reads(r.Files()...)
	for _, name := range r.Names() {
		t, _ := r.Tensor(name)
		if have, ok := c.tensors[prefix+name]; ok {
			return fmt.Errorf("%w: %s is in %s and in %s", ErrTensors, prefix+name, have.file, t.File)
		}
		c.tensors[prefix+name] = diskTensor{shape: t.Shape, dtype: string(t.DType), file: t.File, bytes: t.Bytes(), read: t.Read}
	}
	return nil
}

// Close closes the files.
func (c *checkpoint) Close() error {
	var errs []error
	for _, file := range slices.Backward(c.closers) {
		errs = append(errs, file.Close())
	}
	c.closers = nil
	return errors.Join(errs...)
}

// network derives the architecture: widths and depths from tensor shapes, the
// rest from the configuration and the options.
func (c *checkpoint) network(o *Options) (*network, error) {
	attention := o.Attention
	said := value(c.config.Attention, bundle.Bidirectional)
	switch said {
	case bundle.Bidirectional, bundle.Prefix, bundle.Causal:
	default:
		return nil, fmt.Errorf("%w: %s attention is %q, must be bidirectional, prefix or causal", ErrConfig, configFile, said)
	}
	switch {
	case attention == "":
		attention = said
	case c.config.Attention != nil && attention != said:
		return nil, fmt.Errorf("%w attention is %s, but %s says that the model was trained with %s", ErrOption, attention, configFile, said)
	}
	dino, err := dinov2(c.tensors, &c.config)
	if err != nil {
		return nil, err
	}
	sig, err := siglip(c.tensors, &c.config)
	if err != nil {
		return nil, err
	}
	if dino.patch != sig.patch || dino.image != sig.image {
		return nil, fmt.Errorf("%w: the towers cut images of %d and %d pixels into patches of %d and %d; they must be alike",
			ErrConfig, dino.image, sig.image, dino.patch, sig.patch)
	}
	if len(c.images.Normalize) != 2 {
		return nil, fmt.Errorf("%w: %s tvf_normalize_params has %d entries, needs one for each of the two towers",
			ErrConfig, preprocessorFile, len(c.images.Normalize))
	}
	for i, v := range []*vit{dino, sig} {
		p := c.images.Normalize[i]
		if len(p.Mean) != 3 || len(p.Std) != 3 || !(slices.Min(p.Std) > 0) {
			return nil, fmt.Errorf("%w: %s tvf_normalize_params[%d] needs three means and three positive std", ErrConfig, preprocessorFile, i)
		}
		v.mean, v.std = [3]float32(p.Mean), [3]float32(p.Std)
		if i < len(c.images.InputSizes) && !slices.Equal(c.images.InputSizes[i], []int{3, v.image, v.image}) {
			return nil, fmt.Errorf("%w: the files disagree about the images: %s image_sizes[%d] is %d, %s input_sizes[%d] is %d; take all files from one checkpoint",
				ErrConfig, configFile, i, v.image, preprocessorFile, i, c.images.InputSizes[i])
		}
	}
	model, tokens, err := c.llama()
	if err != nil {
		return nil, err
	}
	tokens.vocabulary, model.quantised = o.Vocabulary, o.quantisation()
	// A FiLM file that lacks the tensors of FiLM lacks them by name.
	if c.vision != nil || c.tensors.has(dino.prefix+"blocks.0.scale.weight") {
		dino.language, sig.language = model.hidden, model.hidden
	}
	n := &network{
		dino: dino, siglip: sig, llama: model, tokens: tokens, types: o.types(), images: len(o.Cameras), slots: o.Chunk * len(o.ActionDims), attention: attention,
		projector: &projector{vision: dino.dim + sig.dim, inner: c.tensors.dim("projector.fc1.weight", 0), hidden: model.hidden},
	}
	if c.tensors.has(proprioPrefix + "fc1.weight") {
		n.proprio = &proprioProjector{dims: c.tensors.dim(proprioPrefix+"fc1.weight", 1), hidden: model.hidden}
	}
	if n.head, err = c.newHead(o, model.hidden); err != nil {
		return nil, err
	}
	model.headless = n.head != nil
	if err := n.checkHead(o); err != nil {
		return nil, err
	}
	if err := c.tensors.compare(n.inventory()); err != nil {
		return nil, err
	}
	if n.head == nil && attention != bundle.Causal && len(c.maskClaims()) == 0 {
		o.note("no file of the checkpoint names a mask token, so %d is taken for it, as in Discrete Diffusion VLA's configuration; a model that was not trained to unmask tokens (OpenVLA, OpenVLA-OFT) gives chunks that mean nothing", tokens.mask)
	}
	return n, nil
}

// llama reads the language model's sizes and refuses what the graph does not
// build: grouped keys, scaled RoPE, tied embeddings, biases.
func (c *checkpoint) llama() (*llama, tokenIDs, error) {
	text := c.config.Text
	l := &llama{
		rows: c.tensors.dim(embedName, 0), hidden: c.tensors.dim(embedName, 1),
		layers: c.tensors.depth(layersName), intermediate: c.tensors.dim(layersName+"0.mlp.gate_proj.weight", 0),
		heads: value(text.Heads, 32), epsilon: float32(value(text.Epsilon, 1e-6)),
		ropeTheta: value(text.RopeTheta, 10000), maxPositions: value(text.MaxPositions, 2048),
	}
	ids := tokenIDs{
		base: int64(l.rows) - c.config.PadToMultipleOf, bins: value(c.config.ActionBins, 256), stop: value(text.EOS, 2),
	}
	var err error
	if ids.mask, err = c.maskID(ids.base); err != nil {
		return nil, ids, err
	}
	if ids.pad, err = c.padID(ids.base); err != nil {
		return nil, ids, err
	}
	refuse := func(field, format string, args ...any) (*llama, tokenIDs, error) {
		return nil, ids, fmt.Errorf("%w: %s %s %s", ErrConfig, configFile, field, fmt.Sprintf(format, args...))
	}
	switch {
	case l.rows == 0 || l.layers == 0 || l.hidden == 0 || l.intermediate == 0:
		return nil, ids, fmt.Errorf("%w: there is no language model: %s or %s0.* is absent or not a matrix", ErrTensors, embedName, layersName)
	case text.VocabSize != 0 && text.VocabSize != int64(l.rows):
		return refuse("text_config.vocab_size", "is %d, but %s has %d rows", text.VocabSize, embedName, l.rows)
	case text.Hidden != 0 && text.Hidden != l.hidden:
		return refuse("text_config.hidden_size", "is %d, but %s has %d columns", text.Hidden, embedName, l.hidden)
	case text.Layers != 0 && text.Layers != l.layers:
		return refuse("text_config.num_hidden_layers", "is %d, but there are %d %s*", text.Layers, l.layers, layersName)
	case text.Intermediate != 0 && text.Intermediate != l.intermediate:
		return refuse("text_config.intermediate_size", "is %d, but %s0.mlp.gate_proj.weight has %d rows", text.Intermediate, layersName, l.intermediate)
	case l.heads <= 0 || l.hidden%(2*l.heads) != 0:
		return refuse("text_config.num_attention_heads", "is %d, which does not divide hidden %d into even parts", l.heads, l.hidden)
	case value(text.KeyHeads, l.heads) != l.heads:
		return refuse("text_config.num_key_value_heads", "is %d, must equal the %d attention heads", *text.KeyHeads, l.heads)
	case value(text.Act, "silu") != "silu":
		return refuse("text_config.hidden_act", "is %q, must be silu", *text.Act)
	case len(text.RopeScaling) > 0 && string(text.RopeScaling) != "null":
		return refuse("text_config.rope_scaling", "is %s, must be absent", text.RopeScaling)
	case text.Tied:
		return refuse("text_config.tie_word_embeddings", "is true, must be false")
	case text.Bias:
		return refuse("text_config.attention_bias", "is true, must be false")
	case !(l.epsilon > 0 && l.epsilon < 1):
		return refuse("text_config.rms_norm_eps", "is %g", l.epsilon)
	case !(l.ropeTheta >= 1 && l.ropeTheta <= 1e9):
		return refuse("text_config.rope_theta", "is %g", l.ropeTheta)
	case l.maxPositions < 1 || l.maxPositions > bundle.MaxSequence:
		return refuse("text_config.max_position_embeddings", "is %d", l.maxPositions)
	case c.config.PadToMultipleOf < 2 || ids.base < 1:
		return refuse("pad_to_multiple_of", "is %d; it is the number of padding rows at the end of the vocabulary (%d rows)", c.config.PadToMultipleOf, l.rows)
	case ids.bins < 2 || int64(ids.bins) > ids.base:
		return refuse("n_action_bins", "is %d, must be 2..%d", ids.bins, ids.base)
	case ids.mask < ids.base || ids.mask >= int64(l.rows):
		return refuse("mask_token_id", "is %d, must be one of the padding rows %d..%d; elsewhere it collides with a word or an action",
			ids.mask, ids.base, l.rows-1)
	case ids.stop < 0 || ids.stop >= ids.base-int64(ids.bins):
		return refuse("text_config.eos_token_id", "is %d, which is no word", ids.stop)
	}
	return l, ids, nil
}

// publishedViT holds what no tensor shape tells: the heads, and how many blocks
// there are in the whole tower.
var publishedViT = map[string]struct{ heads, depth int }{dinoID: {16, 24}, siglipID: {16, 27}}

// newViT reads what both towers have in common. number is the tower's place in
// config.json.
func newViT(t tensorSource, c *config, number int, prefix string) (*vit, error) {
	v := &vit{
		prefix: prefix, dim: t.dim(prefix+"pos_embed", 2), depth: t.depth(prefix + "blocks."),
		mlp: t.dim(prefix+"blocks.0.mlp.fc1.weight", 0), patch: t.dim(prefix+"patch_embed.proj.weight", 2),
	}
	if len(c.TimmModelIDs) <= number || len(c.ImageSizes) <= number {
		return nil, fmt.Errorf("%w: %s timm_model_ids and image_sizes need two entries, one for each tower", ErrConfig, configFile)
	}
	v.image = c.ImageSizes[number]
	id := c.TimmModelIDs[number]
	if known, ok := publishedViT[id]; ok {
		v.heads = known.heads
		if v.depth != known.depth {
			return nil, fmt.Errorf("%w: %s has %d blocks, %s has %d; the last one tells which block the features come from", ErrTensors, prefix, v.depth, id, known.depth)
		}
	} else if len(c.TimmModelArgs) > number {
		v.heads = c.TimmModelArgs[number].NumHeads
	}
	switch {
	case v.dim == 0 || v.mlp == 0 || v.patch == 0 || v.depth < 2:
		return nil, fmt.Errorf("%w: %s is not a vision tower: %d blocks; pos_embed, patch_embed.proj.weight and blocks.0.mlp.fc1.weight tell its sizes",
			ErrTensors, prefix, v.depth)
	case v.heads <= 0 || v.dim%v.heads != 0:
		return nil, fmt.Errorf("%w: %s timm_model_args[%d].num_heads is %d for width %d; %q is no published tower, so it must be given",
			ErrConfig, configFile, number, v.heads, v.dim, id)
	case v.image <= 0 || v.image%v.patch != 0:
		return nil, fmt.Errorf("%w: %s image_sizes[%d] is %d, not a multiple of the patches' %d pixels", ErrConfig, configFile, number, v.image, v.patch)
	}
	return v, nil
}

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func (s tensorSource) has(name string) bool { _, ok := s[name]; return ok }

// dim returns a dimension of a tensor, 0 where there is none.
func (s tensorSource) dim(name string, axis int) int {
	t, ok := s[name]
	if !ok || axis >= len(t.shape) || t.shape[axis] > 1<<30 {
		return 0
	}
	return int(t.shape[axis])
}

// depth counts the numbered modules after prefix by the highest number.
func (s tensorSource) depth(prefix string) int {
	depth := 0
	for name := range s {
		rest, ok := strings.CutPrefix(name, prefix)
		if !ok {
			continue
		}
		number, _, _ := strings.Cut(rest, ".")
		// A number beyond any real depth shows as left over, not as a huge list
		// of missing tensors.
		if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < 1000 {
			depth = max(depth, n+1)
		}
	}
	return depth
}
