package control

import (
	"fmt"
	"math"
	"slices"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/ddvla/ddvla/urdf"
)

// Convert writes to out the joint positions that a chunk asks for, row after
// row of len(Dims) values, 1/rate seconds apart. from is the pose (Layout.Dims()
// positions) at the observation that the chunk answers to: the measured one, as
// data sets have it, or the commanded one. Deltas start there. hold is the pose
// commanded now, where joints without columns stay.
//
// Absolute joints go through as they are, also beyond limits: the Executor
// judges them. Integrated joint deltas end at the limits and turn back there at
// once. A tool follows its deltas by inverse kinematics from row to row; where
// it cannot, the next row goes on from where it came to, so that nothing winds
// up, and out.Arms says why.
//
// An error names the row and the column. out then holds NaN throughout, so
// that an Executor given it all the same stops.
func (m *Mapper) Convert(chunk []float64, rate float64, from, hold []float64, out *Mapped) error {
	columns, dims := len(m.cfg.Dims), len(m.bounds)
	rows := len(chunk) / columns
	out.Values = slices.Grow(out.Values[:0], rows*dims)[:rows*dims]
	out.Arms = slices.Grow(out.Arms[:0], rows*len(m.arms))[:rows*len(m.arms)]
	out.Base, out.BaseLimited = out.Base[:0], 0
	err := m.convert(chunk, rate, from, hold, out)
	if err != nil {
		for i := range out.Values {
			out.Values[i] = math.NaN()
		}
		clear(out.Base)
		return fmt.Errorf("control: %w", err)
	}
	return nil
}

func (m *Mapper) convert(chunk []float64, rate float64, from, hold []float64, out *Mapped) error {
	columns, dims := len(m.cfg.Dims), len(m.bounds)
	switch {
	case len(chunk) == 0 || len(chunk)%columns != 0:
		return fmt.Errorf("a chunk of %d values has no whole rows of %d columns", len(chunk), columns)
	case len(from) != dims || len(hold) != dims:
		return fmt.Errorf("poses of %d and %d positions; the robot has %d joints", len(from), len(hold), dims)
	case !(rate > 0) || math.IsInf(rate, 0):
		return fmt.Errorf("the rate of a chunk is %v Hz", rate)
	}
	if i := notFinite(chunk); i >= 0 {
		return fmt.Errorf("row %d of %q is %v: %w", i/columns, m.cfg.Dims[i%columns].Name, chunk[i], ErrNonFinite)
	}
	for _, pose := range [2][]float64{from, hold} {
		if j := notFinite(pose); j >= 0 {
			return fmt.Errorf("position %d (%s) of the pose is %v: %w", j, m.bounds[j].Name, pose[j], ErrNonFinite)
		}
	}
	for a := range m.arms {
		m.arms[a].begin(from)
	}
	before := from
	for r := range len(out.Values) / dims {
		row, to := chunk[r*columns:(r+1)*columns], out.Values[r*dims:(r+1)*dims]
		for a := range m.arms {
			result, err := m.arm(&m.arms[a], row, 1/rate, from, before, hold, to)
			if err != nil {
				return fmt.Errorf("row %d, arm %q: %w", r, m.cfg.Layout[a].Name, err)
			}
			out.Arms[r*len(m.arms)+a] = result
		}
		if m.base[0] >= 0 || m.base[1] >= 0 {
			var t Twist
			for i, b := range [2]struct {
				to    *float64
				limit float64
			}{{&t.Linear, m.cfg.BaseLinear}, {&t.Angular, m.cfg.BaseAngular}} {
				if m.base[i] >= 0 {
					v := row[m.base[i]]
					if *b.to = math.Min(math.Max(v, -b.limit), b.limit); *b.to != v {
						out.BaseLimited++
					}
				}
			}
			out.Base = append(out.Base, t)
		}
		before = to
	}
	return nil
}

// begin remembers where the tool is at the observation.
func (a *mappedArm) begin(from []float64) {
	if a.space != armTool {
		return
	}
	for i, j := range a.chained {
		a.joints[i] = from[j]
	}
	a.start = a.ik.chain.Forward(a.joints)
	a.before = a.start
}

// arm writes one arm's part of a row to the pose to. before is the row before,
// or from, the pose at the observation.
func (m *Mapper) arm(a *mappedArm, row []float64, dt float64, from, before, hold, to []float64) (IKResult, error) {
	result := IKResult{Joint: -1}
	for i, c := range a.columns {
		j := a.lo + i
		switch {
		case c < 0:
			to[j] = hold[j]
		case a.opening[i] || a.space == armJoints:
			to[j] = row[c]
		default:
			start := before[j]
			if m.cfg.FromStart {
				start = from[j]
			}
			// A pose measured a little beyond a limit may stay or move in.
			l := &m.bounds[j].Limits
			want := start + row[c]
			to[j] = math.Min(math.Max(want, math.Min(l.Lower, before[j])), math.Max(l.Upper, before[j]))
			if to[j] != want {
				result.Fit, result.Joint = AtLimit, i
			}
		}
	}
	if a.space != armTool {
		return result, nil
	}
	target := m.target(a, row)
	d := r3.Norm(r3.Sub(vec(target.P), vec(a.before.P)))
	turn := target.AngleTo(a.before)
	if !(d <= m.cfg.MaxSpeed*dt && turn <= m.cfg.MaxTurn*dt) {
		return result, fmt.Errorf("%.3g m and %.3g rad in %.3g s: %w", d, turn, dt, ErrImplausible)
	}
	result = a.ik.Follow(target, dt, a.joints)
	a.before = target
	if result.Fit != Reached && !m.cfg.FromStart {
		a.before = a.ik.chain.Forward(a.joints)
	}
	for i, j := range a.chained {
		to[j] = a.joints[i]
	}
	return result, nil
}

// target returns where a row wants an arm's tool.
func (m *Mapper) target(a *mappedArm, row []float64) urdf.Transform {
	var linear, angular [3]float64
	for i := range 3 {
		if c := a.tool.linear[i]; c >= 0 {
			linear[i] = m.cfg.MetresPerUnit * row[c]
		}
		if c := a.tool.angular[i]; c >= 0 {
			angular[i] = m.cfg.RadiansPerUnit * row[c]
		}
	}
	turn := urdf.FromRotationVector(angular)
	if a.tool.rpy {
		turn = urdf.FromRPY([3]float64{}, angular)
	}
	start := a.before
	if m.cfg.FromStart {
		start = a.start
	}
	if m.cfg.ToolFrame {
		turn.P = linear
		return start.Mul(turn)
	}
	out := turn.Mul(urdf.Transform{R: start.R})
	for i := range out.P {
		out.P[i] = start.P[i] + linear[i]
	}
	return out
}
