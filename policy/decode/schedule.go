package decode

import "math"

// Schedule names how many positions stay masked from round to round. With n
// positions masked at the start, r = (t+1)/T after round t, and float64
// throughout, n times the function's share are left, rounded down; the last
// round leaves none. Cosine, Square and Cubic commit few tokens at first, while
// little is known, and ever more towards the end (concave functions, as MaskGIT,
// arXiv 2202.04200, section 3.3, calls them; Cosine is its choice and that of
// arXiv 2508.20072); Linear commits evenly.
type Schedule string

// Schedules.
const (
	// Cosine leaves cos(pi/2 r).
	Cosine Schedule = "cosine"
	// Linear leaves 1 - r.
	Linear Schedule = "linear"
	// Square leaves 1 - r^2.
	Square Schedule = "square"
	// Cubic leaves 1 - r^3.
	Cubic Schedule = "cubic"
	// Constant commits the same number of positions in every round, the least
	// that is enough: ceil(n/T). The last one takes what is left, and comes
	// before round T where fewer do (49 positions in 12 rounds: nine rounds of
	// five and one of four).
	Constant Schedule = "constant"
)

// Schedules lists the schedules.
func Schedules() []Schedule { return []Schedule{Cosine, Linear, Square, Cubic, Constant} }

// maskedAfter is how many of the n positions that start masked are still masked
// after round t: of the table, of the schedule or of the preset.
func (p Params) maskedAfter(t, n int) int {
	if t == p.Rounds-1 {
		return 0
	}
	r := float64(t+1) / float64(p.Rounds)
	switch {
	case len(p.ScheduleTable) > 0:
		return share(n, p.ScheduleTable[t])
	case p.Schedule == "" && (p.Preset == Official || p.Preset == OfficialRemask):
		return officialCosine(t, p.Rounds, n)
	case p.Schedule == Linear:
		return share(n, 1-r)
	case p.Schedule == Square:
		return share(n, 1-r*r)
	case p.Schedule == Cubic:
		return share(n, 1-r*r*r)
	case p.Schedule == Constant:
		each := (n + p.Rounds - 1) / p.Rounds
		return max(0, n-(t+1)*each)
	default:
		return share(n, math.Cos(math.Pi/2*r))
	}
}

// share is n times x rounded down; the small term keeps cos(pi/3) from losing a
// position to rounding.
func share(n int, x float64) int { return min(n, int(math.Floor(float64(n)*x+1e-9))) }

// officialCosine is the schedule of the released code, which computes in
// float32 (cos(fp32(pi/2)*fp32(8/12)) is 0.49999997 there, and a position is
// lost where n is even) and leaves at least one position masked and commits at
// least one.
func officialCosine(t, rounds, n int) int {
	if n == 0 {
		return 0
	}
	r := float32(t+1) / float32(rounds)
	c := float32(math.Cos(float64(halfPi32 * r)))
	m := int(math.Floor(float64(float32(n) * c)))
	return max(1, min(m, n-1))
}
