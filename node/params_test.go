package node

import (
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
