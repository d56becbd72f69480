package decode

// minWarmRounds leaves a warm start a round in which a token that the model is
// no longer sure of can be masked again: the last round masks nothing.
const minWarmRounds = 2

// Warm returns the parameters of a decoding that starts warm: of free positions
// that are not given, masked start masked and the others hold a token of the
// chunk before (Inputs.Initial). It has fewer rounds: WarmStartRounds, or where
// that is 0 the masked positions' share of Rounds, rounded up, but two at least
// (and Rounds at most). All else is as for a decoding of that many rounds, so
// schedules start from the masked positions and reach 0 in the last round. Of
// lists with one value per round the last ones are taken; those of a
// ScheduleTable are divided by the share that the rounds before them leave.
func (p Params) Warm(masked, free int) Params {
	T := p.WarmStartRounds
	if T == 0 {
		T = min(p.Rounds, max(minWarmRounds, (p.Rounds*masked+free-1)/max(free, 1)))
	}
	skipped := p.Rounds - T
	if skipped == 0 {
		return p
	}
	p.Rounds, p.WarmStartRounds = T, 0
	for _, list := range []*[]float64{
		&p.TokenTemperature, &p.ChoiceTemperature, &p.CommittedBias, &p.Threshold, &p.DropThreshold, &p.CommitConfidence,
	} {
		if len(*list) > 1 {
			*list = (*list)[skipped:]
		}
	}
	if table := p.ScheduleTable; len(table) > 0 {
		p.ScheduleTable = make([]float64, T)
		for t, share := range table[skipped:] {
			if before := table[skipped-1]; before > 0 {
				p.ScheduleTable[t] = share / before
			}
		}
	}
	return p
}

func (p Params) validateWarm() error {
	if c := p.WarmStartConfidence; !(c >= 0 && c <= 1) {
		return fieldError("warm_start_confidence", "is %g, must be in [0, 1]", c)
	}
	if n := p.WarmStartRounds; n < 0 || n > p.Rounds {
		return fieldError("warm_start_rounds", "is %d, must be 0 (as many as the tokens to decode ask for) or 1..%d, the rounds of every other chunk", n, p.Rounds)
	}
	return nil
}
