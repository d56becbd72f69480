// Package bundle reads and writes the policy bundle: the directory that holds
// everything a run needs (graph, weights, tokenizer, statistics) and the
// manifest policy.json, which says everything that a run must not guess.
//
// weights writes bundles; policy, node and the command line read them. Open
// checks the files against their hashes and the manifest against itself;
// whether the graph's shapes agree with it is checked where the graph is
// loaded (policy/ort), and whether the statistics do, in policy/action.
package bundle

// SchemaVersion is the manifest version that this package writes and reads.
const SchemaVersion = 1

// File names inside a bundle directory.
const (
	ManifestFile = "policy.json"
	GraphFile    = "policy.onnx"
	StepFile     = "step.onnx"
	// AutoregressiveFile is there where the attention is causal and actions are tokens.
	AutoregressiveFile = "autoregressive.onnx"
	WeightsFile        = "policy.onnx.data"
	TokenizerFile      = "tokenizer.model"
	StatisticsFile     = "dataset_statistics.json"
)

// Manifest is policy.json. All lengths are in metres, angles in radians, rates
// in hertz, pixels where named so.
type Manifest struct {
	// SchemaVersion must equal the package's SchemaVersion.
	SchemaVersion int `json:"schema_version"`
	// Name of the policy, for logs and reports.
	Name string `json:"name"`
	// Files maps each other file of the bundle to its sha256 in hex.
	Files map[string]string `json:"files"`

	Model   Model    `json:"model"`
	Tokens  Tokens   `json:"tokens"`
	Prompt  Prompt   `json:"prompt"`
	Cameras []Camera `json:"cameras"` // in model order
	Action  Action   `json:"action"`
	Proprio *Proprio `json:"proprio,omitempty"` // nil: the model takes none
	Decode  Decode   `json:"decode"`
	Source  Source   `json:"source"`
	// Damage is what the precision did, nil where it was not measured.
	Damage *Damage `json:"damage,omitempty"`
}

// Damage compares the network with the same one in float32. Both are computed in
// float32, every result rounded to the type it has in the bundle. The numbers are
// those of the machine that exported.
type Damage struct {
	// Observations is how many there were. Made ones are the same in each export: random
	// pictures and proprio, plain instructions. Half of the tokens are known in
	// every second row.
	Observations int `json:"observations"`
	// Given is set where the observations were not made.
	Given bool `json:"given,omitempty"`
	// Tokens counts the masked positions that were predicted, TokensEqual is the share
	// of them with the same most probable bin; 0 with an L1 head.
	Tokens      int     `json:"tokens,omitempty"`
	TokensEqual float64 `json:"tokens_equal,omitempty"`
	// OutputLargest and OutputMean are of the absolute difference of all logits, or
	// with an L1 head of the normalised actions.
	OutputLargest float64 `json:"output_largest"`
	OutputMean    float64 `json:"output_mean"`
	// Actions has the largest difference of each column of the chunks that one pass
	// predicts.
	Actions []ActionDamage `json:"actions"`
	// Largest is the largest number, in float32, that the bundle holds in float16, which ends
	// at 65504; nil where it holds none.
	Largest *LargestNumber `json:"largest,omitempty"`
}

// LargestNumber is a magnitude and the node of the graph whose result it is; MatMul_0
// where the graph has MatMulNBits_0, since it is looked for before weights are integers.
type LargestNumber struct {
	Node  string  `json:"node"`
	Value float64 `json:"value"`
}

// ActionDamage is of one column of a chunk, in its unit.
type ActionDamage struct {
	Name    string  `json:"name"`
	Unit    string  `json:"unit"`
	Largest float64 `json:"largest"`
}

// Model holds the dimensions of the network.
type Model struct {
	// Hidden, Layers and Heads are the language model's.
	Hidden int `json:"hidden"`
	Layers int `json:"layers"`
	Heads  int `json:"heads"`
	// ImageSize is the side of the square model input in pixels.
	ImageSize int `json:"image_size"`
	// PatchesPerImage is the number of vision tokens of one camera.
	PatchesPerImage int `json:"patches_per_image"`
	// MaxSequence is the longest sequence the position table covers.
	MaxSequence int `json:"max_sequence"`
	// Attention is how the language model's tokens see each other.
	Attention Attention `json:"attention"`
	// Vocabulary is what the softmax of the logits runs over.
	Vocabulary Vocabulary `json:"vocabulary"`
	// Head is what the chunk comes out of.
	Head Head `json:"head,omitempty"`
	// Unrolled is the number of decoding rounds that stand one after the other in
	// policy.onnx, whose per-round inputs have that many entries and whose traces
	// that many rows; a run may ask for fewer (decode.Inputs.Padded). 0: they are in a
	// Loop, as many as a run asks for.
	Unrolled int `json:"unrolled,omitempty"`
	// Refresh is set where policy.onnx takes recompute_prefix: with bidirectional
	// attention and a Loop, rounds may leave keys and values of the prefix as they were.
	Refresh bool `json:"refresh,omitempty"`
	// Precision of the language model's linear layers.
	Precision Precision `json:"precision"`
	// Activations is the type in which the language model computes and its other
	// weights are stored, VisionPrecision that of the vision towers and the projector;
	// empty is float32. Normalisations, softmaxes and the head are always float32.
	Activations     Precision `json:"activations,omitempty"`
	VisionPrecision Precision `json:"vision_precision,omitempty"`
	// Quantisation says how integer weights are stored; nil where there are none.
	Quantisation *Quantisation `json:"quantisation,omitempty"`
	// ImageNormalization is what the graph applies to pixels in 0..1 for each
	// vision tower, as the checkpoint has it.
	ImageNormalization []ImageNormalization `json:"image_normalization,omitempty"`
	// NormEpsilon and RopeTheta are the language model's, from the checkpoint or,
	// where it does not say, transformers' defaults.
	NormEpsilon float32 `json:"norm_epsilon,omitempty"`
	RopeTheta   float64 `json:"rope_theta,omitempty"`
	// Parameters counts the weights the graph holds.
	Parameters int64 `json:"parameters"`
}

// Precision is how weights are stored.
type Precision string

// Precisions.
const (
	Float32  Precision = "float32"
	Float16  Precision = "float16"
	BFloat16 Precision = "bfloat16"
	Int8     Precision = "int8"
	Int4     Precision = "int4"
)

// Quantisation is of rows of a matrix [out, in], in blocks along in: an integer
// stands for (integer - zero point) * scale.
type Quantisation struct {
	// BlockSize is the number of weights that share a scale: 32, 64 or 128.
	BlockSize int `json:"block_size"`
	// Symmetric blocks have the middle of the integers as zero point, others one of
	// their own.
	Symmetric bool `json:"symmetric"`
}

// ImageNormalization is (pixel - Mean) / Std of red, green and blue.
type ImageNormalization struct {
	Mean [3]float32 `json:"mean"`
	Std  [3]float32 `json:"std"`
}

// Attention is the attention kind of a bundle.
type Attention string

// Attention kinds.
const (
	// Bidirectional lets every token see every token (OpenVLA-OFT's fork of
	// transformers, and Discrete Diffusion VLA's released code).
	Bidirectional Attention = "bidirectional"
	// Prefix keeps vision, proprio and prompt blind to the action block.
	Prefix Attention = "prefix"
	// Causal is stock OpenVLA.
	Causal Attention = "causal"
)

// Head is what a chunk comes out of.
type Head string

// Heads.
const (
	// TokensHead is the language model's own: action tokens, unmasked in rounds.
	TokensHead Head = ""
	// L1Head is a regression in one pass (OpenVLA-OFT): policy.onnx takes the
	// observation alone and has one output, values, float32 [B, chunk * dims],
	// normalised and not bounded. There is no step.onnx; Tokens.Mask, Bins,
	// Vocabulary and Decode mean nothing.
	L1Head Head = "l1"
)

// Vocabulary says what the softmax denominator covers.
type Vocabulary string

// Vocabularies.
const (
	// ActionVocabulary is the K action bins only.
	ActionVocabulary Vocabulary = "action"
	// FullVocabulary is every id below the action token base.
	FullVocabulary Vocabulary = "full"
)

// Tokens are the ids that give the sequence its structure.
type Tokens struct {
	BOS   int64 `json:"bos"`
	Empty int64 `json:"empty"` // the lone word-boundary piece after the colon
	Stop  int64 `json:"stop"`
	Pad   int64 `json:"pad"`
	Mask  int64 `json:"mask"`
	// ActionTokenBase is V: bin k of 0..Bins-1 is token id V-1-k.
	ActionTokenBase int64 `json:"action_token_base"`
	// Bins is K, the number of action bins.
	Bins int `json:"bins"`
}

// Prompt says how an instruction becomes text.
type Prompt struct {
	// Template holds "{instruction}" once.
	Template string `json:"template"`
	// Lowercase folds the instruction before it is put into the template.
	Lowercase bool `json:"lowercase"`
	// MaxTokens bounds the prompt's ids, BOS and the empty token included.
	MaxTokens int `json:"max_tokens"`
}

// Camera is one image input with its whole recipe, applied in field order.
type Camera struct {
	// Name is what params and topics call it: "head", "wrist_left", ...
	Name string `json:"name"`
	// Rotation turns the picture by 0 or 180 degrees (LIBERO is stored upside
	// down).
	Rotation int `json:"rotation"`
	// PreResize brings the picture to the size it was recorded at for training
	// (OpenVLA-OFT's ALOHA: bicubic to 256x256); nil for none.
	PreResize *Resize `json:"pre_resize,omitempty"`
	// JPEGQuality is the quality of the JPEG round trip that training images
	// went through (1..100, 4:2:0), 0 for none.
	JPEGQuality int `json:"jpeg_quality"`
	// Resize brings the picture to the model's size.
	Resize Resize `json:"resize"`
	// CropArea is the share of the area that the centre crop keeps before it is
	// scaled back (0.9 where training used random crops of that scale), 1 for
	// no crop.
	CropArea float64 `json:"crop_area"`
}

// Resize is a target size in pixels and a filter.
type Resize struct {
	Width  int    `json:"width"`
	Height int    `json:"height"`
	Filter Filter `json:"filter"`
}

// Filter is an antialiased resampling kernel.
type Filter string

// Filters.
const (
	Lanczos3 Filter = "lanczos3" // tf.image.resize(..., "lanczos3", antialias=True)
	Bicubic  Filter = "bicubic"  // Pillow's BICUBIC
)

// Rates of a chunk's rows in Hz that can be executed, by package control.
const (
	LowestRate  = 0.1
	HighestRate = 1000.0
)

// Action describes a chunk.
type Action struct {
	// Chunk is H, the rows of a chunk.
	Chunk int `json:"chunk"`
	// Rate is the time base of the rows in Hz. It is nowhere in a checkpoint
	// and a wrong one moves an arm at the wrong speed, so it has no default.
	Rate float64 `json:"action_rate"`
	// Normalization says which statistics bound the bins.
	Normalization Normalization `json:"normalization"`
	// UnnormKey is the data set's key in dataset_statistics.json.
	UnnormKey string `json:"unnorm_key"`
	// Dims are the columns of a chunk, in model order.
	Dims []ActionDim `json:"dims"`
	// BinEdges are the edges of the bins that the model was trained with, in
	// normalised units: for each of Dims K+1 values that rise from -1 to 1 for K
	// bins (Tokens.Bins), each of which stands for its middle, or none for the
	// uniform bins of OpenVLA. Nil: all are uniform.
	BinEdges [][]float64 `json:"bin_edges,omitempty"`
}

// Normalization names the statistics that map [-1, 1] to robot units.
type Normalization string

// Normalizations.
const (
	Bounds    Normalization = "bounds"     // min..max
	BoundsQ99 Normalization = "bounds_q99" // q01..q99
)

// ActionDim is one column of a chunk.
type ActionDim struct {
	// Name is unique within the chunk, for example "left_joint1".
	Name string `json:"name"`
	// Space is what the number means.
	Space Space `json:"space"`
	// Arm is "left", "right" or "base".
	Arm string `json:"arm"`
	// Unit is "rad", "m", "rad/s", "m/s" or "1".
	Unit string `json:"unit"`
	// Gripper is set on gripper columns.
	Gripper *Gripper `json:"gripper,omitempty"`
}

// Space is the meaning of an action column.
type Space string

// Spaces.
const (
	Joint      Space = "joint"       // absolute joint position
	JointDelta Space = "joint_delta" // change of a joint position per row
	EEDelta    Space = "ee_delta"    // change of tool0's pose per row
)

// Gripper says how a gripper column becomes an opening in metres.
type Gripper struct {
	// Mode is how the column is encoded.
	Mode GripperMode `json:"mode"`
	// Open and Close are the openings in metres that 1 and 0 (after Invert)
	// stand for; in mode metres they only clamp.
	Open  float64 `json:"open"`
	Close float64 `json:"close"`
	// Threshold splits a binary column, before Invert.
	Threshold float64 `json:"threshold,omitempty"`
	// Invert is set where larger values close.
	Invert bool `json:"invert,omitempty"`
	// Offset in metres is added last, before clamping.
	Offset float64 `json:"offset,omitempty"`
}

// GripperMode is the encoding of a gripper column.
type GripperMode string

// Gripper modes.
const (
	GripperMetres     GripperMode = "metres"
	GripperNormalised GripperMode = "normalised" // 0..1
	GripperBinary     GripperMode = "binary"
)

// Proprio describes the robot state that the model is given.
type Proprio struct {
	// Dims are the entries in model order.
	Dims []ProprioDim `json:"dims"`
}

// ProprioDim is one entry of the robot state; its fields are as those of
// [ActionDim].
type ProprioDim struct {
	Name string `json:"name"`
	Arm  string `json:"arm"`
	Unit string `json:"unit"`
}

// Decode holds the defaults of the decoding parameters.
type Decode struct {
	// Preset is "greedy", "paper", "official", "official-remask" or, where the bundle
	// has AutoregressiveFile, "autoregressive".
	Preset string `json:"preset"`
	// Rounds is T, at most Model.Unrolled where that is not 0.
	Rounds int `json:"rounds"`
}

// Source records what a bundle was made from and how.
type Source struct {
	// Exporter is the program and version that wrote the bundle.
	Exporter string `json:"exporter"`
	// Files maps each file that was read to its sha256 in hex.
	Files map[string]string `json:"files"`
	// Options are the exporter's arguments that changed the result.
	Options map[string]string `json:"options,omitempty"`
}

// HasBFloat16 reports whether some of the network computes in bfloat16.
func (m Model) HasBFloat16() bool {
	return m.Precision == BFloat16 || m.Activations == BFloat16 || m.VisionPrecision == BFloat16
}

// Tokens returns L, the tokens of a chunk: its rows times its dimensions.
func (a Action) Tokens() int { return a.Chunk * len(a.Dims) }
