package decode

import (
	"math"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Preset names a whole way of decoding.
type Preset string

// Presets.
const (
	// Greedy takes the most probable bins, as a robot usually wants it.
	Greedy Preset = "greedy"
	// Paper is the algorithm that arXiv 2508.20072 describes.
	Paper Preset = "paper"
	// Official is the algorithm of the released code, restricted to the action
	// ids.
	Official Preset = "official"
	// OfficialRemask is the released code with use_remask: committed tokens
	// compete in the ranking, ever more likely to be masked again.
	OfficialRemask Preset = "official-remask"
	// Autoregressive decodes from left to right, as OpenVLA does: LeftToRight. It is
	// for policies with causal attention, whose graph of it keeps keys and values. It
	// decodes nothing in rounds: Rounds is unread, TokenTemperature (0 by default) may
	// be one value, and everything else must be left empty.
	Autoregressive Preset = "autoregressive"
)

// Presets lists the presets of decoding in rounds, the default first: all but
// Autoregressive.
func Presets() []Preset { return []Preset{Greedy, Paper, Official, OfficialRemask} }

// Params chooses how chunks are decoded. Every value may change between two
// chunks. The zero value of each field but Preset and Rounds leaves it to the
// preset. The lists but ScheduleTable override round by round: empty is the
// preset's own, one value holds in every round, else one value per round.
type Params struct {
	// Preset must be one of Presets, or Autoregressive.
	Preset Preset
	// Rounds is T, 1..64: more rounds commit fewer tokens at a time. The paper
	// uses 12.
	Rounds int
	// Schedule is one of Schedules; "" is the preset's: Cosine, but for Official
	// and OfficialRemask that of the released code.
	Schedule Schedule
	// ScheduleTable is a schedule of one's own, instead of Schedule: the share of
	// the positions masked at the start that is still masked after each round, T
	// values in 0..1 that never rise, the last of them 0. Empty is none.
	ScheduleTable []float64
	// Score is "candidate", "maximum" or "gap"; "" is the preset's.
	Score string
	// TokenTemperature is 0..1e6: 0 is argmax, 1 samples the softmax.
	TokenTemperature []float64
	// ChoiceTemperature is 0..1e6.
	ChoiceTemperature []float64
	// CommittedBias is a number or +Inf (locks committed tokens).
	CommittedBias []float64
	// Threshold is a probability below which committed tokens are masked again.
	Threshold []float64
	// DropThreshold is a fall in probability, +Inf for off.
	DropThreshold []float64
	// CommitConfidence is a probability, above 1 for off.
	CommitConfidence []float64
	// MeanWindow is in bins; nil is the preset's.
	MeanWindow *int
	// Refresh is how many rounds each computation of the prefix serves, 1..64: more
	// than 1 is an approximation for policies with bidirectional attention
	// (bundle.Model.Refresh). 0 is 1, exact.
	Refresh int
	// WarmStart begins a chunk with what is left of the one before; see Warm.
	WarmStart bool
	// WarmStartConfidence, 0..1, is the least confidence of a token that is taken
	// over from the chunk before; what was less sure starts masked. 0 takes all.
	WarmStartConfidence float64
	// WarmStartRounds is T of a chunk that starts warm, up to Rounds; 0 is as Warm
	// says.
	WarmStartRounds int
}

// DefaultParams is Greedy in twelve rounds.
func DefaultParams() Params { return Params{Preset: Greedy, Rounds: 12} }

// Validate returns a *FieldError for the first value that cannot be used.
func (p Params) Validate() error {
	if p.Preset != Autoregressive && !slices.Contains(Presets(), p.Preset) {
		return fieldError("preset", "is %q, must be greedy, paper, official, official-remask or autoregressive", string(p.Preset))
	}
	if p.Rounds < 1 || p.Rounds > MaxRounds {
		return fieldError("rounds", "is %d, must be 1..%d", p.Rounds, MaxRounds)
	}
	if p.Preset == Autoregressive {
		if err := p.validateAutoregressive(); err != nil {
			return err
		}
	}
	if err := p.validateSchedule(); err != nil {
		return err
	}
	if _, ok := scoreOf(p.Score); p.Score != "" && !ok {
		return fieldError("score", "is %q, must be candidate, maximum or gap", p.Score)
	}
	for _, v := range p.overrides() {
		if n := len(v.values); n > 1 && n != p.Rounds {
			return fieldError(v.field, "has %d values, must be none, one or one per round (%d)", n, p.Rounds)
		}
		for t, x := range v.values {
			if !v.ok(x) {
				return fieldError(v.field, "round %d is %g, must be %s", t, x, v.want)
			}
		}
	}
	if p.Refresh < 0 || p.Refresh > MaxRounds {
		return fieldError("refresh", "is %d, must be 1..%d", p.Refresh, MaxRounds)
	}
	if w := p.MeanWindow; w != nil && (*w < 0 || *w > 255) {
		return fieldError("mean_window", "is %d, must be 0..255", *w)
	}
	return p.validateWarm()
}

// validateAutoregressive refuses what only decoding in rounds reads.
func (p Params) validateAutoregressive() error {
	unread := func(field string) error {
		return fieldError(field, "is given, but preset autoregressive decodes nothing in rounds; leave it empty")
	}
	switch {
	case p.Schedule != "":
		return unread("schedule")
	case len(p.ScheduleTable) > 0:
		return unread("schedule_table")
	case p.Score != "":
		return unread("score")
	case p.MeanWindow != nil:
		return unread("mean_window")
	case p.Refresh > 1:
		return unread("refresh")
	case p.WarmStart:
		return unread("warm_start")
	case len(p.TokenTemperature) > 1:
		return fieldError("token_temperature", "has %d values, must be none or one with preset autoregressive", len(p.TokenTemperature))
	}
	for _, v := range p.overrides() {
		if v.field != "token_temperature" && len(v.values) > 0 {
			return unread(v.field)
		}
	}
	return nil
}

// inRounds is p with the number of rounds that it is decoded in: from left to right
// all that is drawn is drawn once.
func (p Params) inRounds() Params {
	if p.Preset == Autoregressive {
		p.Rounds = 1
	}
	return p
}

func (p Params) validateSchedule() error {
	if p.Schedule != "" && !slices.Contains(Schedules(), p.Schedule) {
		return fieldError("schedule", "is %q, must be cosine, linear, square, cubic or constant", string(p.Schedule))
	}
	n := len(p.ScheduleTable)
	if n == 0 {
		return nil
	}
	if p.Schedule != "" {
		return fieldError("schedule_table", "is given, and schedule is %q too; leave one of them empty", string(p.Schedule))
	}
	if n != p.Rounds {
		return fieldError("schedule_table", "has %d values, must be one per round (%d) or none", n, p.Rounds)
	}
	before := 1.0
	for t, x := range p.ScheduleTable {
		if !(x >= 0 && x <= 1) {
			return fieldError("schedule_table", "round %d is %g, must be in [0, 1]", t, x)
		}
		if x > before {
			return fieldError("schedule_table", "round %d is %g after %g, must not rise", t, x, before)
		}
		before = x
	}
	if before != 0 {
		return fieldError("schedule_table", "ends with %g, must end with 0: the last round leaves nothing masked", before)
	}
	return nil
}

// Graphs say what the graphs of a policy can do.
type Graphs struct {
	// Unrolled is the number of rounds of a graph without a Loop, 0 for any.
	Unrolled int
	// Refresh: rounds can leave the prefix as it was.
	Refresh bool
	// Autoregressive: there is a graph for that preset.
	Autoregressive bool
}

// GraphsOf are those of a policy that a manifest describes.
func GraphsOf(m *bundle.Manifest) Graphs {
	return Graphs{Unrolled: m.Model.Unrolled, Refresh: m.Model.Refresh, Autoregressive: m.HasAutoregressive()}
}

// ValidateFor is Validate for a policy with the given graphs.
func (p Params) ValidateFor(g Graphs) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if p.Preset == Autoregressive {
		if !g.Autoregressive {
			return fieldError("preset", "is autoregressive, but the policy has no autoregressive.onnx, which ddvla export writes for models with causal attention alone; choose another")
		}
		return nil
	}
	if p.Refresh > 1 && !g.Refresh {
		return fieldError("refresh", "is %d, but the policy's graph takes only 1; others need bidirectional attention, rounds in a Loop (no --unroll) and a bundle of this version of `ddvla export`", p.Refresh)
	}
	return checkUnrolled(p.Rounds, g.Unrolled)
}

type override struct {
	field  string
	values []float64
	ok     func(float64) bool
	want   string
}

func (p Params) overrides() []override {
	return []override{
		{"token_temperature", p.TokenTemperature, isTemperature, "0..1e6"},
		{"choice_temperature", p.ChoiceTemperature, isTemperature, "0..1e6"},
		{"committed_bias", p.CommittedBias, isNumber, "a number or inf"},
		{"threshold", p.Threshold, isNumber, "a number or inf"},
		{"drop_threshold", p.DropThreshold, isNumber, "a number or inf"},
		{"commit_confidence", p.CommitConfidence, isNumber, "a number or inf"},
	}
}

func scoreOf(name string) (int64, bool) {
	i := slices.Index([]string{"candidate", "maximum", "gap"}, strings.ToLower(name))
	return int64(i), i >= 0
}

// Inputs makes the arrays of one decoding for a batch of len(masked) rows of
// positions tokens over bins bins, with everything masked at the start: a
// caller that gives or warm-starts tokens sets Known and Initial afterwards.
// masked says how many positions of each row start masked. The noise is that of
// the next chunk; its buffers are shared, not copied, until Inputs is called
// twice more.
func (p Params) Inputs(masked []int, positions, bins int, noise *Noise) (*Inputs, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	for b, n := range masked {
		if n < 0 || n > positions {
			return nil, fieldError("masked_after", "row %d starts with %d masked positions of %d", b, n, positions)
		}
	}
	if len(masked) < 1 || positions < 1 || bins < 2 {
		return nil, fieldError("shape", "%d rows, %d positions, %d bins; must be at least 1, 1 and 2", len(masked), positions, bins)
	}
	p = p.inRounds()
	drawn := noise.next(p, len(masked), positions, bins)
	T, size := p.Rounds, len(masked)*positions
	in := &Inputs{
		Rounds: T, Batch: len(masked), Positions: positions, Bins: bins,
		Known: filled(size, int64(-1)), Initial: filled(size, int64(-1)),
		InitialConfidence: make([]float32, size),
		MaskedAfter:       make([]int64, T*len(masked)),
		TokenTemperature:  make([]float32, T),
		ChoiceTemperature: make([]float32, T),
		CommittedBias:     filled(T, inf32),
		Threshold:         make([]float32, T),
		DropThreshold:     filled(T, inf32),
		CommitConfidence:  filled(T, float32(2)),
		TokenNoise:        drawn.token,
		ChoiceNoise:       drawn.choice,
		RecomputePrefix:   make([]bool, T),
		Centres:           Centres(bins),
	}
	for t := range T {
		in.RecomputePrefix[t] = t%max(p.Refresh, 1) == 0
		for b, n := range masked {
			in.MaskedAfter[t*len(masked)+b] = int64(p.maskedAfter(t, n))
		}
		r := float32(t+1) / float32(T)
		switch p.Preset {
		case Official, OfficialRemask:
			in.TokenTemperature[t] = 1
			in.ChoiceTemperature[t] = 1 - r
			if p.Preset == OfficialRemask {
				in.CommittedBias[t] = 0 // of the last round, which reads none
				if t < T-1 {
					in.CommittedBias[t] = log32(1 - r)
				}
			}
		case Paper:
			in.Score = ScoreMaximum
			in.TokenTemperature[t] = annealed(t, T)
			in.Threshold[t] = 0.5 * r
		case Greedy:
			in.Threshold[t] = 0.5 * r
			in.MeanWindow = 2
		}
	}
	if p.Score != "" {
		in.Score, _ = scoreOf(p.Score)
	}
	if p.MeanWindow != nil {
		in.MeanWindow = int64(*p.MeanWindow)
	}
	into := [][]float32{in.TokenTemperature, in.ChoiceTemperature, in.CommittedBias, in.Threshold, in.DropThreshold, in.CommitConfidence}
	for i, v := range p.overrides() {
		spread(into[i], v.values)
	}
	return in, in.Validate()
}

// spread overrides the rounds of dst by none, one or all values of src.
func spread(dst []float32, src []float64) {
	for t := range dst {
		switch len(src) {
		case 0:
		case 1:
			dst[t] = float32(src[0])
		default:
			dst[t] = float32(src[t])
		}
	}
}

// annealed is the paper's linear decay of the token temperature from 1 to 0.
func annealed(t, T int) float32 {
	if T == 1 {
		return 0
	}
	return 1 - float32(t)/float32(T-1)
}

// draws reports whether any round reads token or choice noise.
func (p Params) draws() (token, choice bool) {
	official := p.Preset == Official || p.Preset == OfficialRemask
	token = official || p.Preset == Paper && p.Rounds > 1
	choice = official && p.Rounds > 1
	if len(p.TokenTemperature) > 0 {
		token = slices.Max(p.TokenTemperature) > 0
	}
	if len(p.ChoiceTemperature) > 0 {
		choice = slices.Max(p.ChoiceTemperature) > 0
	}
	return token, choice
}

func filled[T any](n int, v T) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}

var halfPi32 = float32(math.Pi / 2)
