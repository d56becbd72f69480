package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
)

// columns are a data set's statistics of actions or states, as far as they make
// robot units of bins.
type columns struct {
	Min  []float64 `json:"min"`
	Max  []float64 `json:"max"`
	Q01  []float64 `json:"q01"`
	Q99  []float64 `json:"q99"`
	Mask []bool    `json:"mask"`
	// BinEdges are those of bundle.Action, where training chose bins of its own;
	// files of openvla-oft have none.
	BinEdges [][]float64 `json:"bin_edges"`
}

// bounds are those that the normalisation uses.
func (c columns) bounds(n bundle.Normalization) (low, high []float64) {
	if n == bundle.Bounds {
		return c.Min, c.Max
	}
	return c.Q01, c.Q99
}

// normalised reports whether column i is; all are where there is no mask.
func (c columns) normalised(i int) bool { return i >= len(c.Mask) || c.Mask[i] }

type dataset struct {
	Action  columns `json:"action"`
	Proprio columns `json:"proprio"`
}

// readStatistics reads dataset_statistics.json and keeps its bytes for the
// bundle. Stock OpenVLA checkpoints lack it and have the same as norm_stats in
// config.json; a checkpoint that has both must not contradict itself about key.
func (c *checkpoint) readStatistics(o *Options, n *network) (key string, set dataset, err error) {
	var sets, inConfig map[string]dataset
	where := bundle.StatisticsFile
	if len(c.config.NormStats) > 0 {
		if err := json.Unmarshal(c.config.NormStats, &inConfig); err != nil {
			return "", set, fmt.Errorf("%w: %s norm_stats: %w", ErrConfig, configFile, err)
		}
	}
	c.statistics, err = readFile(c.folder, bundle.StatisticsFile, action.MaxStatistics)
	switch {
	case err == nil:
		if err := json.Unmarshal(c.statistics, &sets); err != nil {
			return "", set, fmt.Errorf("%s: %w", bundle.StatisticsFile, err)
		}
		c.reads(bundle.StatisticsFile)
	case errors.Is(err, fs.ErrNotExist) && len(inConfig) > 0:
		sets, c.statistics, where = inConfig, c.config.NormStats, configFile+" norm_stats"
	default:
		return "", set, err
	}
	keys := make([]string, 0, len(sets))
	for k := range sets {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	if key = o.UnnormKey; key == "" && len(keys) == 1 {
		key = keys[0]
	}
	set, ok := sets[key]
	if !ok {
		return "", set, fmt.Errorf("%w unnorm-key is %q, %s has %q", ErrOption, key, where, keys)
	}
	if other, ok := inConfig[key]; ok {
		if err := set.compare(&other, key, o, n); err != nil {
			return "", set, err
		}
	}
	return key, set, nil
}

// compare refuses a config.json that contradicts dataset_statistics.json. A config.json
// that does not tell of the state, or of bins, does not.
func (set *dataset) compare(inConfig *dataset, key string, o *Options, n *network) error {
	if err := compareColumns(key, "actions", set.Action, inConfig.Action, o.Normalization); err != nil {
		return err
	}
	if edges := inConfig.Action.BinEdges; edges != nil && !slices.EqualFunc(edges, set.Action.BinEdges, slices.Equal[[]float64]) {
		return fmt.Errorf("%w: the files disagree about the actions of %q: %s norm_stats has other bin_edges than %s; remove the wrong one", ErrConfig, key, configFile, bundle.StatisticsFile)
	}
	if n.proprio == nil || !inConfig.Proprio.told(o.Normalization) {
		return nil
	}
	return compareColumns(key, "states", set.Proprio, inConfig.Proprio, o.Normalization)
}

// compareColumns names the first number in which dataset_statistics.json and
// config.json differ about the given part.
func compareColumns(key, part string, file, inConfig columns, n bundle.Normalization) error {
	differ := func(what string, i int, a, b any) error {
		return fmt.Errorf("%w: the files disagree about the %s of %q: %s says %s[%d] is %v, %s norm_stats says %v; remove the wrong one",
			ErrConfig, part, key, bundle.StatisticsFile, what, i, a, configFile, b)
	}
	lowA, highA := file.bounds(n)
	lowB, highB := inConfig.bounds(n)
	for _, v := range []struct {
		name string
		a, b []float64
	}{{"low", lowA, lowB}, {"high", highA, highB}} {
		if len(v.a) != len(v.b) {
			return fmt.Errorf("%w: the files disagree about the %s of %q: %s has %d dimensions, %s norm_stats %d; remove the wrong one",
				ErrConfig, part, key, bundle.StatisticsFile, len(v.a), configFile, len(v.b))
		}
		for i := range v.a {
			if v.a[i] != v.b[i] {
				return differ(v.name, i, v.a[i], v.b[i])
			}
		}
	}
	for i := range lowA {
		if a, b := file.normalised(i), inConfig.normalised(i); a != b {
			return differ("mask", i, a, b)
		}
	}
	return nil
}

// check compares the statistics with the dimensions.
func (set *dataset) check(o *Options, key string, n *network) error {
	if err := set.Action.check(o, key, "action", len(o.ActionDims), func(l Layout) int { return len(l.Action) }); err != nil {
		return err
	}
	low, high := set.Action.bounds(o.Normalization)
	for i, d := range o.ActionDims {
		l, h := low[i], high[i]
		if !set.Action.normalised(i) {
			l, h = -1, 1 // what tokens say is what the data set has
		}
		if doubt := gripperDoubt(d, l, h); doubt != "" {
			o.note("%s", doubt)
		}
	}
	if n.proprio == nil {
		return set.withoutState(o, key)
	}
	proprio := func(l Layout) int { return len(l.Proprio) }
	if n.proprio.dims != len(o.ProprioDims) {
		return fmt.Errorf("%w proprio-dims has %d entries, the checkpoint's proprio projector takes %d; %s",
			ErrOption, len(o.ProprioDims), n.proprio.dims, fittingLayouts("proprio-dims", n.proprio.dims, proprio))
	}
	return set.Proprio.check(o, key, "proprio", n.proprio.dims, proprio)
}

// withoutState looks for signs that a checkpoint without a proprio projector has lost
// it: a policy that was trained with its state goes wrong without it.
func (set *dataset) withoutState(o *Options, key string) error {
	const projector = proprioPart + "--*.pt or " + proprioPart + ".safetensors"
	if _, given := o.given["proprio-dims"]; given {
		return fmt.Errorf("%w proprio-dims is given, but the checkpoint has no %s, so the policy takes no robot state; put the file beside the weights, or leave the option out", ErrOption, projector)
	}
	if set.Proprio.told(o.Normalization) {
		o.note("the statistics of %q have a robot state, but the checkpoint has no %s: the policy takes none; if it was trained with one, put the file beside the weights", key, projector)
	}
	return nil
}

// told reports whether there are bounds. OpenVLA writes zeros for the state of data that
// it read without one (prismatic/vla/datasets/rlds/utils/data_utils.py).
func (c columns) told(n bundle.Normalization) bool {
	low, high := c.bounds(n)
	return slices.ContainsFunc(slices.Concat(low, high), func(v float64) bool { return v != 0 })
}

// check compares the lengths with the number of dimensions of a part, action or
// proprio, of which a layout has count.
func (c columns) check(o *Options, key, part string, dims int, count func(Layout) int) error {
	low, high := c.bounds(o.Normalization)
	if len(low) != len(high) {
		return fmt.Errorf("%w: the %s statistics of %q have %d lower and %d upper bounds (%s)", ErrConfig, part, key, len(low), len(high), o.Normalization)
	}
	if len(low) == 0 {
		return fmt.Errorf("%w: the %s statistics of %q have no bounds for %s; --normalization chooses others", ErrConfig, part, key, o.Normalization)
	}
	if len(low) != dims {
		return fmt.Errorf("%w: the statistics of %q have %d %s dimensions, the layout %d; %s",
			ErrConfig, key, len(low), part, dims, fittingLayouts(part+"-dims", len(low), count))
	}
	if len(c.Mask) > 0 && len(c.Mask) != dims {
		return fmt.Errorf("%w: the statistics of %q have a mask of %d for %d %s dimensions", ErrConfig, key, len(c.Mask), dims, part)
	}
	return nil
}

// fittingLayouts says what to give for an option so that there are dims
// dimensions, of which a layout has count.
func fittingLayouts(option string, dims int, count func(Layout) int) string {
	names := layoutNames(func(l Layout) bool { return count(l) == dims })
	if names == "" {
		return fmt.Sprintf("no layout has %d, so give --%s a JSON file", dims, option)
	}
	return fmt.Sprintf("of %d are: %s; give one with --%s, or a JSON file", dims, names, option)
}
