package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"os"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
)

// ErrStatistics is what every error about dataset_statistics.json wraps.
var ErrStatistics = errors.New("dataset statistics")

// MaxStatistics bounds the file in bytes; one data set takes a few kilobytes.
const MaxStatistics = 16 << 20

// Statistics are one data set's entry of dataset_statistics.json, the file that
// openvla-oft writes beside a checkpoint (save_dataset_statistics in
// prismatic/vla/datasets/rlds/utils/data_utils.py). Other keys are ignored.
type Statistics struct {
	Action  Columns `json:"action"`
	Proprio *States `json:"proprio"` // nil where the data set has none
}

// States are the statistics of the robot's state.
type States struct {
	Columns
	// Start is where the demonstrations' tasks begin, which `ddvla dataset` and
	// `ddvla sim demos` tell; nil in files of openvla-oft.
	Start []float64 `json:"start"`
}

// check compares Start with the dimensions of the manifest.
func (s *States) check(names []string) error {
	if n := len(s.Start); n != 0 && n != len(names) {
		return fmt.Errorf("proprio.start has %d values, but the manifest's proprio.dims names %d: %s", n, len(names), strings.Join(names, ", "))
	}
	for i, v := range s.Start {
		if !finite(v) {
			return fmt.Errorf("proprio.start[%d] (%s) is %v", i, names[i], v)
		}
	}
	return nil
}

// Columns are the statistics of each dimension, in the data set's units.
type Columns struct {
	Min []float64 `json:"min"`
	Max []float64 `json:"max"`
	Q01 []float64 `json:"q01"` // 1st and 99th percentile
	Q99 []float64 `json:"q99"`
	// Mask is false where a dimension was left as it is; nil means all true.
	Mask []bool `json:"mask"`
}

// LoadStatistics reads the entry of a data set from the file at path.
func LoadStatistics(path, key string) (*Statistics, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatistics, err)
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, MaxStatistics+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrStatistics, err)
	}
	s, err := parseStatistics(raw, key)
	if err != nil {
		return nil, fmt.Errorf("%w %s: %w", ErrStatistics, path, err)
	}
	return s, nil
}

func parseStatistics(raw []byte, key string) (*Statistics, error) {
	if len(raw) > MaxStatistics {
		return nil, fmt.Errorf("larger than %d bytes", MaxStatistics)
	}
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		if strings.Contains(err.Error(), "'N'") || strings.Contains(err.Error(), "'I'") {
			return nil, fmt.Errorf("%w: a NaN or Infinity that Python wrote is no JSON", err)
		}
		return nil, err
	}
	entry, ok := all[key]
	if !ok {
		return nil, fmt.Errorf("no data set %q, which manifest field action.unnorm_key names; there are: %s", key, strings.Join(slices.Sorted(maps.Keys(all)), ", "))
	}
	s := &Statistics{}
	if err := json.Unmarshal(entry, s); err != nil {
		return nil, fmt.Errorf("data set %q: %w", key, err)
	}
	return s, nil
}

// scale maps each dimension between its units and [-1, 1].
type scale struct {
	low, high []float64
	mask      []bool
}

// scale returns the map of c under a normalisation, after checking that c has
// the dimensions that the manifest names. field says which statistics they are.
func (c *Columns) scale(field string, norm bundle.Normalization, names []string) (scale, error) {
	s := scale{low: c.Q01, high: c.Q99, mask: c.Mask}
	low, high := field+".q01", field+".q99"
	if norm == bundle.Bounds {
		s.low, s.high = c.Min, c.Max
		low, high = field+".min", field+".max"
	}
	for _, v := range []struct {
		name string
		n    int
	}{{low, len(s.low)}, {high, len(s.high)}, {field + ".mask", len(s.mask)}} {
		if v.n == 0 && v.name == field+".mask" {
			continue
		}
		if v.n != len(names) {
			return scale{}, fmt.Errorf("%s has %d values, but the manifest's %s.dims names %d: %s", v.name, v.n, field, len(names), strings.Join(names, ", "))
		}
	}
	if len(s.mask) == 0 {
		s.mask = slices.Repeat([]bool{true}, len(names))
	}
	for i, name := range names {
		switch {
		case !finite(s.low[i]):
			return scale{}, fmt.Errorf("%s[%d] (%s) is %v", low, i, name, s.low[i])
		case !finite(s.high[i]):
			return scale{}, fmt.Errorf("%s[%d] (%s) is %v", high, i, name, s.high[i])
		case !finite(s.high[i] - s.low[i]):
			return scale{}, fmt.Errorf("%s[%d] (%s) is %g and %s %g: too far apart to be robot units", low, i, name, s.low[i], high, s.high[i])
		case s.low[i] > s.high[i]:
			return scale{}, fmt.Errorf("%s[%d] (%s) is %g, above %s with %g", low, i, name, s.low[i], high, s.high[i])
		}
	}
	return s, nil
}

// tiny keeps the scale of a constant dimension finite. The formulas are
// openvla-oft's: _unnormalize_actions in modeling_prismatic.py and
// normalize_proprio in experiments/robot/openvla_utils.py.
const tiny = 1e-8

// robot maps a in [-1, 1] to the units of dimension i.
func (s scale) robot(i int, a float64) float64 {
	if !s.mask[i] {
		return a
	}
	return float64(0.5*(a+1)*(s.high[i]-s.low[i]+tiny)) + s.low[i]
}

// model maps x in the units of dimension i to [-1, 1]; what lies beyond the
// bounds is clipped, also in a dimension that is not scaled.
func (s scale) model(i int, x float64) float64 {
	if s.mask[i] {
		x = 2*(x-s.low[i])/(s.high[i]-s.low[i]+tiny) - 1
	}
	return min(max(x, -1), 1)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
