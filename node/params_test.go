package node

import (
	"math"
	"reflect"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/ros/param"
)

// Decoding parameters are checked together, while the node runs: what does not
// fit the others changes nothing.
func TestDecodingParametersAreCheckedTogether(t *testing.T) {
	m := &bundle.Manifest{Decode: bundle.Decode{Preset: "greedy", Rounds: 12}}
	set, err := param.New(Parameters(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := set.Check(func(v param.Values) error { _, err := LiveFrom(v, m); return err }); err != nil {
		t.Fatal(err)
	}
	give := func(name string, v param.Value) param.Assignment {
		return param.Assignment{Name: "decode." + name, Value: v}
	}
	three := param.Doubles(0.5, 0.25, 0)
	for _, step := range []struct {
		changes []param.Assignment
		wrong   string // "" is taken
	}{
		{[]param.Assignment{give("schedule", param.String("cubic"))}, ""},
		{[]param.Assignment{give("schedule", param.String("sqrt"))}, "one of , cosine, linear, square, cubic, constant"},
		{[]param.Assignment{give("rounds", param.Int(65))}, "0 to 64"},
		{[]param.Assignment{give("rounds", param.Int(64))}, ""},
		{[]param.Assignment{give("schedule", param.String("")), give("schedule_table", three)}, "schedule_table: has 3 values, must be one per round (64)"},
		{[]param.Assignment{give("rounds", param.Int(3)), give("schedule_table", three)}, `schedule is "cubic" too`},
		{[]param.Assignment{give("rounds", param.Int(3)), give("schedule", param.String("")), give("schedule_table", three)}, ""},
		{[]param.Assignment{give("schedule_table", param.Doubles(0.5, 0.75, 0))}, "must not rise"},
		{[]param.Assignment{give("schedule_table", param.Doubles()), give("schedule", param.String("linear"))}, ""},
	} {
		before := set.Values()
		err := set.Apply(step.changes...)
		if step.wrong == "" && err != nil || step.wrong != "" && (err == nil || !strings.Contains(err.Error(), step.wrong)) {
			t.Fatalf("%v: %v, want %q", step.changes, err, step.wrong)
		}
		if after := set.Values(); err != nil && (after.Int("decode.rounds") != before.Int("decode.rounds") ||
			after.String("decode.schedule") != before.String("decode.schedule") || len(after.Doubles("decode.schedule_table")) != len(before.Doubles("decode.schedule_table"))) {
			t.Fatalf("%v was refused and changed something", step.changes)
		}
	}
	live, err := LiveFrom(set.Values(), m)
	if err != nil || live.Decode.Schedule != decode.Linear || live.Decode.ScheduleTable != nil || live.Decode.Rounds != 3 {
		t.Errorf("%+v, %v", live.Decode, err)
	}
}

// Each decoding parameter reaches the decoder under its own name.
func TestDecodingParametersReachTheDecoder(t *testing.T) {
	m := &bundle.Manifest{Decode: bundle.Decode{Preset: "official", Rounds: 7}, Model: bundle.Model{Refresh: true}}
	set, err := param.New(Parameters(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	window := 4
	check := func(want decode.Params) {
		t.Helper()
		if live, err := LiveFrom(set.Values(), m); err != nil || !reflect.DeepEqual(live.Decode, want) {
			t.Errorf("%+v, %v, want %+v", live.Decode, err, want)
		}
	}
	check(decode.Params{Preset: decode.Official, Rounds: 7, Refresh: 1})
	for name, v := range map[string]param.Value{
		"preset": param.String("paper"), "rounds": param.Int(2), "schedule": param.String("square"), "score": param.String("gap"),
		"token_temperature": param.Doubles(0.25), "choice_temperature": param.Doubles(0.5, 0.75), "committed_bias": param.Doubles(math.Inf(1)),
		"threshold": param.Doubles(0.125), "drop_threshold": param.Doubles(0.375), "commit_confidence": param.Doubles(0.95), "mean_window": param.Int(4),
		"refresh": param.Int(3),
	} {
		if err := set.Apply(param.Assignment{Name: "decode." + name, Value: v}); err != nil {
			t.Fatal(err)
		}
	}
	check(decode.Params{
		Preset: decode.Paper, Rounds: 2, Schedule: decode.Square, Score: "gap",
		TokenTemperature: []float64{0.25}, ChoiceTemperature: []float64{0.5, 0.75}, CommittedBias: []float64{math.Inf(1)},
		Threshold: []float64{0.125}, DropThreshold: []float64{0.375}, CommitConfidence: []float64{0.95}, MeanWindow: &window,
		Refresh: 3,
	})
}
