package report

import (
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat"
)

// metric is a number that a condition may be about.
type metric struct {
	name, unit, meaning string
	// of what it may be asked of one: "joint", "gripper", "stage" or "code", after a dot;
	// empty of nothing.
	of string
	// value gives it, of one where which is not empty.
	value func(r *Report, j *Judge, which string) Figure
}

// metrics lists what there is.
func metrics() []metric {
	errors := func(get func(Errors) Figure) func(*Report, *Judge, string) Figure {
		return func(r *Report, j *Judge, which string) Figure {
			if which == "" {
				return get(j.overall())
			}
			return r.joint(which, func(g Joint) Figure { return get(g.Errors) })
		}
	}
	latency := func(get func(Stage) Figure) func(*Report, *Judge, string) Figure {
		return func(r *Report, _ *Judge, which string) Figure {
			if which == "" {
				which = "chunk"
			}
			for _, s := range r.Latency {
				if s.Name == which && s.Count > 0 {
					return get(s)
				}
			}
			return unknown()
		}
	}
	count := func(kind Kind) func(*Report, *Judge, string) Figure {
		return func(r *Report, _ *Judge, which string) Figure {
			var n uint64
			for _, c := range r.Counts {
				if c.Kind == kind && which == "" || which != "" && c.Code == which {
					n += c.Count
				}
			}
			return Figure(n)
		}
	}
	decoding := func(get func(*Decoding) Figure) func(*Report, *Judge, string) Figure {
		return func(r *Report, _ *Judge, _ string) Figure {
			if r.Decoding == nil {
				return unknown()
			}
			return get(r.Decoding)
		}
	}
	return []metric{
		{"chunks", "", "chunks that were made", "", func(r *Report, _ *Judge, _ string) Figure { return Figure(r.Chunks) }},
		{"failed", "", "inferences that failed", "", func(r *Report, _ *Judge, _ string) Figure { return Figure(r.Failed) }},
		{"mae", "rad", "mean absolute error", "joint", errors(func(e Errors) Figure { return e.MAE })},
		{"rmse", "rad", "root of the mean square error", "joint", errors(func(e Errors) Figure { return e.RMSE })},
		{"max_error", "rad", "largest error", "joint", errors(func(e Errors) Figure { return e.Max })},
		{"bias", "rad", "mean of predicted minus recorded", "joint", errors(func(e Errors) Figure { return e.Bias })},
		{"mae_percent", "%", "mean absolute error as a share of the range of the training data", "joint", errors(func(e Errors) Figure { return e.Percent })},
		{"mae_hold", "rad", "mean absolute error of standing still", "joint", errors(func(e Errors) Figure { return e.Hold })},
		{"skill", "", "1 - mae/mae_hold: 1 is the recording, 0 no better than standing still", "joint", errors(Errors.skill)},
		{"direction", "", "correlation of predicted with recorded motion, the least of the joints that turn", "joint", func(r *Report, _ *Judge, which string) Figure {
			if which != "" {
				return r.joint(which, func(g Joint) Figure { return g.Direction })
			}
			least := unknown()
			for i, g := range r.Joints {
				if r.Dims[i].turns() && g.Direction.Known() && !(g.Direction >= least) {
					least = g.Direction
				}
			}
			return least
		}},
		{"gripper_accuracy", "", "share of rows at which a gripper is open or closed as recorded, 0 to 1", "gripper", func(r *Report, _ *Judge, which string) Figure {
			right, all := 0, 0
			for _, g := range r.Grippers {
				if which == "" || g.Name == which {
					c := g.Confusion
					right += c[0][0] + c[1][1]
					all += c[0][0] + c[1][1] + c[0][1] + c[1][0]
				}
			}
			if all == 0 {
				return unknown()
			}
			return Figure(float64(right) / float64(all))
		}},
		{"flicker", "", "changes of a gripper that are taken back within 0.5 s", "gripper", func(r *Report, _ *Judge, which string) Figure {
			n, found := 0, false
			for _, g := range r.Grippers {
				if which == "" || g.Name == which {
					n, found = n+g.Flicker, true
				}
			}
			if !found {
				return unknown()
			}
			return Figure(n)
		}},
		{"jump", "rad", "largest distance between consecutive chunks where the newer one begins", "joint", func(r *Report, j *Judge, which string) Figure {
			if which != "" {
				return r.joint(which, func(g Joint) Figure { return g.Seams.MaxJump })
			}
			return quantile(j.largest, 1)
		}},
		{"jump_p95", "rad", "the same, 95th percentile of the largest joint's", "", func(_ *Report, j *Judge, _ string) Figure { return quantile(j.largest, 0.95) }},
		{"overlap", "rad", "mean distance between consecutive chunks over the time that both cover", "joint", func(r *Report, _ *Judge, which string) Figure {
			if which != "" {
				return r.joint(which, func(g Joint) Figure { return g.Seams.Overlap })
			}
			sum, n := 0.0, 0
			for i, g := range r.Joints {
				if r.Dims[i].turns() && g.Seams.Overlap.Known() {
					sum, n = sum+float64(g.Seams.Overlap), n+1
				}
			}
			if n == 0 {
				return unknown()
			}
			return Figure(sum / float64(n))
		}},
		{"rounds", "", "rounds a chunk, mean", "", decoding(func(d *Decoding) Figure { return d.Rounds })},
		{"confidence", "", "mean probability of tokens when they were committed for the last time", "", decoding(func(d *Decoding) Figure { return d.Confidence })},
		{"remasked", "", "times that tokens were masked again, as a share of the tokens", "", decoding(func(d *Decoding) Figure { return d.Remasked })},
		{"latency_p50", "ms", "median time of a whole chunk on this machine", "stage", latency(func(s Stage) Figure { return s.P50 })},
		{"latency_p95", "ms", "the same, 95th percentile", "stage", latency(func(s Stage) Figure { return s.P95 })},
		{"latency_p99", "ms", "the same, 99th percentile", "stage", latency(func(s Stage) Figure { return s.P99 })},
		{"limits", "", "times that a command was held to a limit", "code", count(Limit)},
		{"stops", "", "times that the arms would have stopped until enabled again", "code", count(Stop)},
		{"halts", "", "times that the arms would have halted until the next chunk", "code", count(Halt)},
		{"dropped", "", "chunks that were dropped", "code", count(Drop)},
	}
}

// skill is 1 - MAE/Hold.
func (e Errors) skill() Figure {
	if !e.MAE.Known() || !(e.Hold > 0) {
		return unknown()
	}
	return 1 - e.MAE/e.Hold
}

// joint gets a figure of a joint, NaN where there is none of that name.
func (r *Report) joint(name string, get func(Joint) Figure) Figure {
	for _, g := range r.Joints {
		if g.Name == name {
			return get(g)
		}
	}
	return unknown()
}

// overall are the errors over all joints that turn and all rows.
func (j *Judge) overall() Errors {
	var sum errorSum
	for i, e := range j.errors {
		if j.setup.Dims[i%len(j.setup.Dims)].turns() {
			sum.merge(e)
		}
	}
	return sum.errors()
}

// quantile is an empirical one.
func quantile(x []float64, p float64) Figure {
	if len(x) == 0 {
		return unknown()
	}
	return Figure(stat.Quantile(p, stat.Empirical, slices.Sorted(slices.Values(x)), nil))
}

// MetricsHelp lists the metrics for a person, a line each.
func MetricsHelp() string {
	var b strings.Builder
	for _, m := range metrics() {
		name := m.name
		if m.of != "" {
			name += "[." + strings.ToUpper(m.of) + "]"
		}
		unit := ""
		if m.unit != "" {
			unit = " (" + m.unit + ")"
		}
		b.WriteString("  " + name + strings.Repeat(" ", max(28-len(name), 1)) + m.meaning + unit + "\n")
	}
	return b.String()
}

// fill computes every metric that has a value.
func (r *Report) fill(j *Judge) {
	r.Metrics = map[string]Figure{}
	set := func(m metric, which string) {
		name := m.name
		if which != "" {
			name += "." + which
		}
		if v := m.value(r, j, which); v.Known() {
			r.Metrics[name] = v
		}
	}
	for _, m := range metrics() {
		set(m, "")
		for _, which := range r.ones(m.of) {
			set(m, which)
		}
	}
}

// ones lists what a metric may be asked of here.
func (r *Report) ones(of string) (names []string) {
	switch of {
	case "joint":
		for _, d := range r.Dims {
			names = append(names, d.Name)
		}
	case "gripper":
		for _, d := range r.Dims {
			if d.Gripper {
				names = append(names, d.Name)
			}
		}
	case "stage":
		names = r.Stages
	}
	return names
}
