package weights

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/weights/onnx"
)

// ErrOption says that an option is missing or wrong; the error names it.
var ErrOption = errors.New("option")

// Options say what to export and everything about the robot that no file of a
// checkpoint tells. Defaults returns those of the Cobot Magic.
type Options struct {
	// Checkpoint is the directory to read, Out the bundle directory to make; it
	// must not exist.
	Checkpoint, Out string
	// LoRA is the directory of a PEFT adapter to merge, empty for none. The
	// checkpoint is then its base: the fine-tune's merged weights hold it already.
	LoRA string
	// Name of the policy; empty for the name of the checkpoint directory.
	Name string
	// Exporter is recorded in the manifest: the program and its version.
	Exporter string
	// Cameras are the names of the images in model order.
	Cameras []string
	// Recipe is how every camera's picture is prepared. Its name and size are
	// filled in from Cameras and the checkpoint.
	Recipe bundle.Camera
	// Chunk is H, the rows of a chunk.
	Chunk int
	// ActionRate is the time base of the rows in Hz; it has no default.
	ActionRate float64
	// ActionDims are the columns of a chunk; SetColumns reads them.
	ActionDims []bundle.ActionDim
	// ProprioDims are the entries of the robot state; not looked at when the
	// checkpoint has no proprio projector, but SetColumns' proprio is then refused.
	ProprioDims []bundle.ProprioDim
	// Attention is how the model was trained; empty for what config.json says
	// (key attention), or bidirectional, as all published fine-tunes of
	// openvla-oft are. A wrong one gives wrong chunks that look like right ones.
	Attention bundle.Attention
	// Vocabulary is what probabilities are taken over: the action bins, or every
	// word and bin, as the released code of Discrete Diffusion VLA does.
	Vocabulary bundle.Vocabulary
	// Head is what the chunk comes out of: "tokens", the language model's logits,
	// or "l1", the action head; empty for l1 where the checkpoint has one.
	Head string
	// UnnormKey is the data set in dataset_statistics.json; empty for the only
	// one.
	UnnormKey string
	// Normalization says which statistics bound the bins.
	Normalization bundle.Normalization
	// BinEdges are the bins that the model was trained with, as bundle.Action has
	// them; nil for those in the statistics (action.bin_edges) or, where there are
	// none, OpenVLA's uniform ones.
	BinEdges [][]float64
	// PromptTemplate holds {instruction} once.
	PromptTemplate string
	// MaxPromptTokens bounds the prompt's ids.
	MaxPromptTokens int
	// Precision of the language model's linear layers: "fp32", "fp16", "bf16", "int8" or
	// "int4".
	Precision string
	// VisionPrecision is that of the vision towers and the projector: "fp32", "fp16" or
	// "bf16"; empty for Precision's, or fp16 with int8 and int4.
	VisionPrecision string
	// Activations is the type in which a Llama with integer weights computes, and of its
	// other weights: "fp32", "fp16" or "bf16"; empty for fp32.
	Activations string
	// BlockSize is the number of integer weights that share a scale: 32, 64 or 128; 0
	// for 32. Other precisions take none.
	BlockSize int
	// Asymmetric gives each block of integer weights a zero point of its own.
	Asymmetric bool
	// Unroll is the number of decoding rounds, up to 64, to lay out one after the other
	// in policy.onnx, for runtimes that take no Loop, If or float64, such as TensorRT. All
	// of them run for every chunk, and at most so many can be asked for. 0 is a
	// Loop, which takes any number and ends early.
	Unroll int
	// Decode holds the decoding defaults.
	Decode bundle.Decode
	// Observations are what the damage of a precision is measured on; none for made
	// ones. fp32 has none to measure and takes none.
	Observations []Observation
	// Note, where it is not nil, is told in one line what an export could not do that
	// the bundle does not need, or what looks wrong and may be right.
	Note func(line string)
	// given are the options that SetColumns read, for the manifest.
	given map[string]string
	// Progress, where it is not nil, is told how many bytes of all were read and
	// written. It is called often, by the goroutine that called Export.
	Progress func(done, total int64)
}

// Defaults returns the options of a Discrete Diffusion VLA on the Cobot Magic:
// a head and two wrist cameras, absolute joint targets of both arms, pictures
// and prompt as OpenVLA-OFT prepares them. Checkpoint, Out and ActionRate are
// left to the caller.
func Defaults() Options {
	o := Options{
		Exporter:        "ddvla export",
		Cameras:         []string{"head", "wrist_left", "wrist_right"},
		Recipe:          bundle.Camera{JPEGQuality: 95, Resize: bundle.Resize{Filter: bundle.Lanczos3}, CropArea: 0.9},
		Chunk:           8,
		Vocabulary:      bundle.ActionVocabulary,
		Normalization:   bundle.BoundsQ99,
		PromptTemplate:  "In: What action should the robot take to {instruction}?\nOut:",
		MaxPromptTokens: 64,
		Precision:       precisionFP32,
		Decode:          bundle.Decode{Preset: "greedy", Rounds: 12},
	}
	layout, _ := findLayout(defaultLayout)
	o.ActionDims, o.ProprioDims = layout.Action, layout.Proprio
	return o
}

// note tells Note, where there is one.
func (o *Options) note(format string, args ...any) {
	if o.Note != nil {
		o.Note(fmt.Sprintf(format, args...))
	}
}

// validate checks what needs no checkpoint; the manifest's own checks follow
// when it is written.
func (o *Options) validate() error {
	switch {
	case o.Checkpoint == "":
		return fmt.Errorf("%w checkpoint is not given", ErrOption)
	case !(o.ActionRate >= bundle.LowestRate && o.ActionRate <= bundle.HighestRate):
		return fmt.Errorf("%w action-rate is %g Hz, must be %g to %g rows a second (a row every 0.04 s is 25); give the rate at which the training data was recorded: no file tells it, and a wrong one moves the arms at a wrong speed",
			ErrOption, o.ActionRate, bundle.LowestRate, bundle.HighestRate)
	case len(o.Cameras) == 0:
		return fmt.Errorf("%w cameras is empty", ErrOption)
	case o.Chunk < 1:
		return fmt.Errorf("%w chunk is %d, must be at least 1", ErrOption, o.Chunk)
	case !slices.Contains([]bundle.Attention{"", bundle.Bidirectional, bundle.Prefix, bundle.Causal}, o.Attention):
		return fmt.Errorf("%w attention is %q, must be bidirectional, prefix or causal", ErrOption, o.Attention)
	case o.Vocabulary != bundle.ActionVocabulary && o.Vocabulary != bundle.FullVocabulary:
		return fmt.Errorf("%w vocabulary is %q, must be action or full", ErrOption, o.Vocabulary)
	case !slices.Contains([]string{"", "tokens", "l1"}, o.Head):
		return fmt.Errorf("%w head is %q, must be tokens or l1", ErrOption, o.Head)
	case o.Unroll < 0 || o.Unroll > decode.MaxRounds:
		return fmt.Errorf("%w unroll is %d, must be 0 (a Loop) or 1..%d", ErrOption, o.Unroll, decode.MaxRounds)
	case o.Unroll > 0 && o.Decode.Rounds > o.Unroll:
		return fmt.Errorf("%w rounds is %d, but unroll is %d; give at most so many rounds, or unroll more", ErrOption, o.Decode.Rounds, o.Unroll)
	case len(o.ActionDims) == 0:
		return fmt.Errorf("%w action-dims is empty", ErrOption)
	case o.Decode.Preset != string(decode.Autoregressive) && !slices.Contains(decode.Presets(), decode.Preset(o.Decode.Preset)):
		return fmt.Errorf("%w preset is %q, must be one of %q", ErrOption, o.Decode.Preset, append(decode.Presets(), decode.Autoregressive))
	}
	return o.checkPrecision()
}

// manifest says everything about the bundle but the files' hashes.
func (o *Options) manifest(c *checkpoint, n *network) (bundle.Manifest, error) {
	if o.Decode.Preset == string(decode.Autoregressive) && !n.hasAutoregressive() {
		return bundle.Manifest{}, fmt.Errorf("%w preset is autoregressive, which is for tokens with causal attention; this model's attention is %s", ErrOption, n.attention)
	}
	key, set, err := c.readStatistics(o, n)
	if err != nil {
		return bundle.Manifest{}, err
	}
	if err := set.check(o, key, n); err != nil {
		return bundle.Manifest{}, err
	}
	edges, err := set.binEdges(o, key)
	if err != nil {
		return bundle.Manifest{}, err
	}
	empty, pieces, err := emptyToken(c.folder)
	if err != nil {
		return bundle.Manifest{}, err
	}
	c.reads(bundle.TokenizerFile)
	if int64(pieces) > n.tokens.base {
		return bundle.Manifest{}, fmt.Errorf("%w: %s has %d pieces, the model's vocabulary %d", ErrConfig, bundle.TokenizerFile, pieces, n.tokens.base)
	}
	m := bundle.Manifest{
		SchemaVersion: bundle.SchemaVersion,
		Name:          o.Name,
		Model: bundle.Model{
			Hidden: n.llama.hidden, Layers: n.llama.layers, Heads: n.llama.heads,
			ImageSize: n.dino.image, PatchesPerImage: n.dino.patches(), MaxSequence: n.llama.maxPositions,
			Attention: n.attention, Vocabulary: n.tokens.vocabulary, Precision: manifestPrecision(n.types.language),
			ImageNormalization: []bundle.ImageNormalization{{Mean: n.dino.mean, Std: n.dino.std}, {Mean: n.siglip.mean, Std: n.siglip.std}},
			NormEpsilon:        n.llama.epsilon, RopeTheta: n.llama.ropeTheta, Parameters: n.parameters(),
		},
		Tokens: bundle.Tokens{
			BOS: value(c.config.Text.BOS, 1), Empty: empty, Stop: n.tokens.stop,
			Pad: n.tokens.pad, Mask: n.tokens.mask,
			ActionTokenBase: n.tokens.base, Bins: n.tokens.bins,
		},
		Prompt: bundle.Prompt{Template: o.PromptTemplate, Lowercase: true, MaxTokens: o.MaxPromptTokens},
		Action: bundle.Action{
			Chunk: o.Chunk, Rate: o.ActionRate, Normalization: o.Normalization, UnnormKey: key, Dims: o.ActionDims, BinEdges: edges,
		},
		Decode: o.Decode,
		Source: bundle.Source{Exporter: o.Exporter, Files: map[string]string{}, Options: map[string]string{
			"action-rate": strconv.FormatFloat(o.ActionRate, 'g', -1, 64), "chunk": strconv.Itoa(o.Chunk),
			"normalization": string(o.Normalization), "unnorm-key": key, "attention": string(n.attention),
			"vocabulary": string(n.tokens.vocabulary),
		}},
	}
	maps.Copy(m.Source.Options, o.given)
	if o.Unroll > 0 {
		m.Model.Unrolled = o.Unroll
		m.Source.Options["unroll"] = strconv.Itoa(o.Unroll)
	}
	m.Model.Refresh = n.refreshes(o.Unroll)
	if n.head != nil {
		// Nothing is decoded in rounds.
		m.Model.Head, m.Decode.Rounds = bundle.L1Head, 1
		m.Source.Options["head"] = "l1"
	}
	if q := n.llama.quantised; q != nil {
		m.Model.Precision = q.precision()
		m.Model.Quantisation = &bundle.Quantisation{BlockSize: q.block, Symmetric: q.symmetric}
	}
	if n.types.language != onnx.Float32 {
		m.Model.Activations = manifestPrecision(n.types.language)
	}
	if n.types.vision != onnx.Float32 {
		m.Model.VisionPrecision = manifestPrecision(n.types.vision)
	}
	if m.Name == "" {
		absolute, err := filepath.Abs(o.Checkpoint)
		if err != nil {
			return m, err
		}
		m.Name = filepath.Base(absolute)
	}
	for _, name := range o.Cameras {
		camera := o.Recipe
		camera.Name = name
		camera.Resize.Width, camera.Resize.Height = n.dino.image, n.dino.image
		m.Cameras = append(m.Cameras, camera)
	}
	if n.proprio != nil {
		m.Proprio = &bundle.Proprio{Dims: o.ProprioDims}
	}
	return m, validateEarly(m)
}

// validateEarly finds what bundle.Write would refuse before gigabytes are
// written; only the files' hashes are not known yet.
func validateEarly(m bundle.Manifest) error {
	m.Files = map[string]string{}
	for _, name := range []string{bundle.GraphFile, bundle.TokenizerFile, bundle.StatisticsFile} {
		m.Files[name] = strings.Repeat("0", sha256.Size*2)
	}
	return m.Validate()
}
