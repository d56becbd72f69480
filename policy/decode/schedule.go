package decode

import "math"

// maskedAfter is how many of the n positions that start masked are still masked
// after round t: the schedule of the preset, or the table of Params.
func (p Params) maskedAfter(t, n int) int {
	switch {
	case t == p.Rounds-1:
		return 0
	case len(p.Schedule) > 0:
		return share(n, p.Schedule[t])
	case p.Preset == Official || p.Preset == OfficialRemask:
		return officialCosine(t, p.Rounds, n)
	default:
		return share(n, math.Cos(math.Pi/2*float64(t+1)/float64(p.Rounds)))
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
