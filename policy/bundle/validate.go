package bundle

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
)

// Validate checks the manifest against itself and names the first field that
// does not hold.
func (m *Manifest) Validate() error {
	if m.SchemaVersion != SchemaVersion {
		return field("schema_version", "is %d, this program reads %d; export the checkpoint with this version", m.SchemaVersion, SchemaVersion)
	}
	for _, name := range []string{GraphFile, TokenizerFile, StatisticsFile} {
		if _, ok := m.Files[name]; !ok {
			return field("files", "does not list %s", name)
		}
	}
	for _, name := range sortedKeys(m.Files) {
		if !localName(name) || name == ManifestFile {
			return field("files", "%q is not the name of a file in the bundle", name)
		}
		if !isSHA256.MatchString(m.Files[name]) {
			return field("files", "%q has no sha256 in hex", name)
		}
	}
	for _, check := range []func() error{
		m.validateModel, m.validateTokens, m.validatePrompt, m.validateCameras, m.validateAction, m.validateProprio, m.validateDecode,
	} {
		if err := check(); err != nil {
			return err
		}
	}
	if n := m.SequenceLength(m.Prompt.MaxTokens); n > m.Model.MaxSequence {
		return field("model.max_sequence", "is %d, but cameras, proprio, %d prompt tokens and the chunk need %d", m.Model.MaxSequence, m.Prompt.MaxTokens, n)
	}
	return nil
}

var isSHA256 = regexp.MustCompile(`^[0-9a-f]{64}$`)

// SequenceLength is the number of tokens the language model sees for a prompt
// of p ids (BOS and the empty token included): vision, proprio, prompt, action
// slots and stop.
func (m *Manifest) SequenceLength(p int) int {
	n := len(m.Cameras)*m.Model.PatchesPerImage + p + m.Action.Tokens() + 1
	if m.Proprio != nil {
		n++
	}
	return n
}

// Bounds of what memory is set aside for, far beyond any real policy: a manifest comes
// from outside.
const (
	// MaxSequence is of Model.MaxSequence.
	MaxSequence = 1 << 17
	maxSize     = 1 << 20
	maxBins     = 1 << 16
	maxTokenID  = 1 << 24
)

func (m *Manifest) validateModel() error {
	d := m.Model
	for _, v := range []struct {
		name    string
		n, most int
	}{
		{"hidden", d.Hidden, maxSize}, {"layers", d.Layers, maxSize}, {"heads", d.Heads, maxSize}, {"image_size", d.ImageSize, maxSize},
		{"patches_per_image", d.PatchesPerImage, MaxSequence}, {"max_sequence", d.MaxSequence, MaxSequence},
	} {
		if v.n <= 0 || v.n > v.most {
			return field("model."+v.name, "is %d, must be 1..%d", v.n, v.most)
		}
	}
	switch d.Attention {
	case Bidirectional, Prefix, Causal:
	default:
		return field("model.attention", "is %q, must be bidirectional, prefix or causal", d.Attention)
	}
	switch d.Head {
	case TokensHead:
	case L1Head:
		if d.Attention != Bidirectional {
			return field("model.head", "is l1, which needs bidirectional attention, not %s", d.Attention)
		}
	default:
		return field("model.head", "is %q, must be absent or l1", d.Head)
	}
	if d.Unrolled < 0 || d.Unrolled > 64 {
		return field("model.unrolled", "is %d, must be 0 (a Loop) or 1..64", d.Unrolled)
	}
	if d.Unrolled > 0 && d.Head == L1Head {
		return field("model.unrolled", "is %d, but model.head is l1, which decodes nothing in rounds", d.Unrolled)
	}
	if d.Refresh && (d.Attention != Bidirectional || d.Unrolled > 0) {
		return field("model.refresh", "is true, which needs model.attention bidirectional and no model.unrolled")
	}
	for _, v := range []struct {
		name string
		p    Precision
	}{{"activations", d.Activations}, {"vision_precision", d.VisionPrecision}} {
		switch v.p {
		case "", Float32, Float16, BFloat16:
		default:
			return field("model."+v.name, "is %q, must be absent, float32, float16 or bfloat16", v.p)
		}
	}
	switch d.Precision {
	case Float32, Float16, BFloat16:
		if d.Quantisation != nil {
			return field("model.quantisation", "is given, but model.precision is %s", d.Precision)
		}
		if activations := cmp.Or(d.Activations, Float32); activations != d.Precision {
			return field("model.activations", "is %s, but model.precision is %s", activations, d.Precision)
		}
	case Int8, Int4:
		if d.Quantisation == nil {
			return field("model.quantisation", "is not given, but model.precision is %s", d.Precision)
		}
		if n := d.Quantisation.BlockSize; n != 32 && n != 64 && n != 128 {
			return field("model.quantisation.block_size", "is %d, must be 32, 64 or 128", n)
		}
	default:
		return field("model.precision", "is %q, must be float32, float16, bfloat16, int8 or int4", d.Precision)
	}
	switch d.Vocabulary {
	case ActionVocabulary, FullVocabulary:
	default:
		return field("model.vocabulary", "is %q, must be action or full", d.Vocabulary)
	}
	return nil
}

func (m *Manifest) validateTokens() error {
	t := m.Tokens
	if t.Bins < 2 || t.Bins > maxBins {
		return field("tokens.bins", "is %d, must be 2..%d", t.Bins, maxBins)
	}
	if t.ActionTokenBase < int64(t.Bins) || t.ActionTokenBase > maxTokenID {
		return field("tokens.action_token_base", "is %d, must be at least the %d bins and at most %d", t.ActionTokenBase, t.Bins, maxTokenID)
	}
	first := t.ActionTokenBase - int64(t.Bins)
	for _, v := range []struct {
		name string
		id   int64
	}{{"bos", t.BOS}, {"empty", t.Empty}, {"stop", t.Stop}, {"mask", t.Mask}} {
		if v.id < 0 {
			return field("tokens."+v.name, "is %d, must not be negative", v.id)
		}
		if v.id >= first && v.id < t.ActionTokenBase {
			return field("tokens."+v.name, "is %d, which is an action token (%d..%d)", v.id, first, t.ActionTokenBase-1)
		}
	}
	return nil
}

func (m *Manifest) validatePrompt() error {
	if strings.Count(m.Prompt.Template, "{instruction}") != 1 {
		return field("prompt.template", "must hold {instruction} once, is %q", m.Prompt.Template)
	}
	if n := m.Prompt.MaxTokens; n < 2 || n > m.Model.MaxSequence {
		return field("prompt.max_tokens", "is %d, must be 2..%d (model.max_sequence)", n, m.Model.MaxSequence)
	}
	return nil
}

func (m *Manifest) validateCameras() error {
	if len(m.Cameras) == 0 {
		return field("cameras", "is empty")
	}
	seen := map[string]bool{}
	for i, c := range m.Cameras {
		at := func(name, format string, args ...any) error {
			return field(fmt.Sprintf("cameras[%d] %q %s", i, c.Name, name), format, args...)
		}
		switch {
		case !isName.MatchString(c.Name):
			return at("name", "must be letters, digits and underscores")
		case seen[c.Name]:
			return at("name", "is used twice")
		case c.Rotation != 0 && c.Rotation != 180:
			return at("rotation", "is %d, must be 0 or 180", c.Rotation)
		case c.JPEGQuality < 0 || c.JPEGQuality > 100:
			return at("jpeg_quality", "is %d, must be 0 (none) or 1..100", c.JPEGQuality)
		case !(c.CropArea > 0 && c.CropArea <= 1):
			return at("crop_area", "is %g, must be in (0, 1]", c.CropArea)
		case c.Resize.Width != m.Model.ImageSize || c.Resize.Height != m.Model.ImageSize:
			return at("resize", "is %dx%d, but model.image_size is %d", c.Resize.Width, c.Resize.Height, m.Model.ImageSize)
		}
		if err := c.Resize.validate(); err != nil {
			return at("resize", "%v", err)
		}
		if c.PreResize != nil {
			if err := c.PreResize.validate(); err != nil {
				return at("pre_resize", "%v", err)
			}
		}
		seen[c.Name] = true
	}
	return nil
}

var isName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_]*$`)

func (r Resize) validate() error {
	if r.Width <= 0 || r.Height <= 0 || r.Width > 1<<14 || r.Height > 1<<14 {
		return fmt.Errorf("size %dx%d is not a picture's", r.Width, r.Height)
	}
	if r.Filter != Lanczos3 && r.Filter != Bicubic {
		return fmt.Errorf("filter is %q, must be lanczos3 or bicubic", r.Filter)
	}
	return nil
}

func (m *Manifest) validateAction() error {
	a := m.Action
	if a.Chunk <= 0 {
		return field("action.chunk", "is %d, must be positive", a.Chunk)
	}
	if !(a.Rate >= LowestRate && a.Rate <= HighestRate) {
		return field("action.action_rate", "is %g Hz, must be %g to %g rows a second (a row every 0.04 s is 25); it is the time base the policy was trained at and has no default", a.Rate, LowestRate, HighestRate)
	}
	if a.Normalization != Bounds && a.Normalization != BoundsQ99 {
		return field("action.normalization", "is %q, must be bounds or bounds_q99", a.Normalization)
	}
	if a.UnnormKey == "" {
		return field("action.unnorm_key", "is empty")
	}
	if len(a.Dims) == 0 {
		return field("action.dims", "is empty")
	}
	if most := m.Model.MaxSequence / len(a.Dims); a.Chunk > most {
		return field("action.chunk", "is %d, must be at most %d: %d action.dims in each row have to fit into model.max_sequence", a.Chunk, most, len(a.Dims))
	}
	seen := map[string]bool{}
	for i, d := range a.Dims {
		at := fmt.Sprintf("action.dims[%d] %q", i, d.Name)
		if err := d.Validate(); err != nil {
			return field(at, "%v", err)
		}
		if seen[d.Name] {
			return field(at, "name is used twice")
		}
		seen[d.Name] = true
	}
	return m.validateBinEdges()
}

// minBinWidth keeps bins apart in float32.
const minBinWidth = 1e-6

func (m *Manifest) validateBinEdges() error {
	edges, dims := m.Action.BinEdges, m.Action.Dims
	if edges == nil {
		return nil
	}
	if m.Model.Head == L1Head {
		return field("action.bin_edges", "is given, but model.head is l1, which has no bins")
	}
	if len(edges) != len(dims) {
		return field("action.bin_edges", "has %d lists, must be one for each of the %d action.dims, empty for uniform bins", len(edges), len(dims))
	}
	for i, list := range edges {
		if len(list) == 0 {
			continue
		}
		at := fmt.Sprintf("action.bin_edges[%d] (%s)", i, dims[i].Name)
		if n := m.Tokens.Bins + 1; len(list) != n {
			return field(at, "has %d values, must be %d for %d bins, or none for uniform ones", len(list), n, m.Tokens.Bins)
		}
		if first, last := list[0], list[len(list)-1]; first != -1 || last != 1 {
			return field(at, "goes from %g to %g, must go from -1 to 1", first, last)
		}
		for k, v := range list[1:] {
			if !(v-list[k] >= minBinWidth) {
				return field(at, "has %g after %g at %d, must rise by at least %g", v, list[k], k+1, minBinWidth)
			}
		}
	}
	return nil
}

// Validate returns an error that begins with the field at fault where the column
// alone cannot be right.
func (d ActionDim) Validate() error {
	if err := validateDim(d.Name, d.Arm, d.Unit); err != nil {
		return err
	}
	if d.Space != Joint && d.Space != JointDelta && d.Space != EEDelta {
		return fmt.Errorf("space is %q, must be joint, joint_delta or ee_delta", d.Space)
	}
	g := d.Gripper
	switch {
	case g == nil:
	case g.Mode != GripperMetres && g.Mode != GripperNormalised && g.Mode != GripperBinary:
		return fmt.Errorf("gripper.mode is %q, must be metres, normalised or binary", g.Mode)
	case !(g.Close >= 0 && g.Open > g.Close && g.Open < 1):
		return fmt.Errorf("gripper close %g m and open %g m must hold 0 <= close < open < 1", g.Close, g.Open)
	case !(math.Abs(g.Offset) < g.Open-g.Close):
		return fmt.Errorf("gripper.offset is %g m, as much as the whole opening of %g m; it is in metres", g.Offset, g.Open-g.Close)
	}
	return nil
}

// Validate is [ActionDim.Validate] for an entry of the robot state.
func (d ProprioDim) Validate() error { return validateDim(d.Name, d.Arm, d.Unit) }

func validateDim(name, arm, unit string) error {
	if !isName.MatchString(name) {
		return errors.New("name must be letters, digits and underscores")
	}
	if !slices.Contains([]string{"left", "right", "base"}, arm) {
		return fmt.Errorf("arm is %q, must be left, right or base", arm)
	}
	if !slices.Contains([]string{"rad", "m", "rad/s", "m/s", "1"}, unit) {
		return fmt.Errorf("unit is %q, must be rad, m, rad/s, m/s or 1", unit)
	}
	return nil
}

func (m *Manifest) validateProprio() error {
	if m.Proprio == nil {
		return nil
	}
	if len(m.Proprio.Dims) == 0 {
		return field("proprio.dims", "is empty; leave proprio out where the model takes none")
	}
	seen := map[string]bool{}
	for i, d := range m.Proprio.Dims {
		at := fmt.Sprintf("proprio.dims[%d] %q", i, d.Name)
		if err := d.Validate(); err != nil {
			return field(at, "%v", err)
		}
		if seen[d.Name] {
			return field(at, "name is used twice")
		}
		seen[d.Name] = true
	}
	return nil
}

func (m *Manifest) validateDecode() error {
	if m.Decode.Rounds < 1 || m.Decode.Rounds > 64 {
		return field("decode.rounds", "is %d, must be 1..64", m.Decode.Rounds)
	}
	if u := m.Model.Unrolled; u > 0 && m.Decode.Rounds > u {
		return field("decode.rounds", "is %d, but the graph has %d (model.unrolled)", m.Decode.Rounds, u)
	}
	if m.Decode.Preset == "" {
		return field("decode.preset", "is empty")
	}
	return nil
}

func field(name, format string, args ...any) error {
	return fmt.Errorf("%w field %s %s", ErrManifest, name, fmt.Sprintf(format, args...))
}
