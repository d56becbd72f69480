package decode

import (
	"reflect"
	"strings"
	"testing"
)

// A warm start has the masked tokens' share of the rounds, and lists that go round
// by round end as they would have.
func TestWarmRounds(t *testing.T) {
	for _, c := range []struct{ rounds, asked, masked, free, want int }{
		{12, 0, 28, 112, 3}, {12, 0, 29, 112, 4}, {12, 0, 1, 112, 2}, {12, 0, 112, 112, 12}, {4, 0, 28, 112, 2},
		{1, 0, 28, 112, 1}, {2, 0, 1, 112, 2}, {12, 7, 28, 112, 7}, {12, 12, 28, 112, 12}, {12, 1, 28, 112, 1}, {12, 0, 10, 20, 6},
	} {
		p := Params{Preset: Greedy, Rounds: c.rounds, WarmStart: true, WarmStartRounds: c.asked}
		if have := p.Warm(c.masked, c.free); have.Rounds != c.want || have.Validate() != nil {
			t.Errorf("%+v: %d rounds, %v", c, have.Rounds, have.Validate())
		}
	}
	p := Params{
		Preset: Paper, Rounds: 4, WarmStart: true, WarmStartRounds: 2,
		Threshold: []float64{0.1, 0.2, 0.3, 0.4}, CommittedBias: []float64{5}, ScheduleTable: []float64{0.9, 0.8, 0.2, 0},
	}
	have := p.Warm(1, 4)
	if err := have.Validate(); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(have.Threshold, []float64{0.3, 0.4}) || !reflect.DeepEqual(have.CommittedBias, []float64{5}) ||
		!reflect.DeepEqual(have.ScheduleTable, []float64{0.25, 0}) {
		t.Errorf("%+v", have)
	}
	if !reflect.DeepEqual(p.Threshold, []float64{0.1, 0.2, 0.3, 0.4}) || p.Rounds != 4 {
		t.Errorf("the parameters changed: %+v", p)
	}
	p.ScheduleTable = []float64{0.5, 0, 0, 0} // nothing is left before
	if have := p.Warm(1, 4); have.Validate() != nil || have.ScheduleTable[0] != 0 {
		t.Errorf("%+v", have)
	}
}

func TestWarmStartsThatCannotBe(t *testing.T) {
	for want, change := range map[string]func(p *Params){
		"warm_start_confidence: is 1.5": func(p *Params) { p.WarmStartConfidence = 1.5 },
		"warm_start_confidence: is -1":  func(p *Params) { p.WarmStartConfidence = -1 },
		"warm_start_rounds: is 13":      func(p *Params) { p.WarmStartRounds = 13 },
		"warm_start_rounds: is -1":      func(p *Params) { p.WarmStartRounds = -1 },
	} {
		p := DefaultParams()
		change(&p)
		if err := p.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}
