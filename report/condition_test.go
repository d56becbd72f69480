package report

import (
	"errors"
	"strings"
	"testing"
)

func TestConditionsAreRead(t *testing.T) {
	for text, want := range map[string]Condition{
		"mae>0.05":                     {"mae", ">", 0.05},
		" mae_percent >= 5 ":           {"mae_percent", ">=", 5},
		"gripper_accuracy < 0.95":      {"gripper_accuracy", "<", 0.95},
		"mae.left_joint1>1e-2":         {"mae.left_joint1", ">", 0.01},
		"limits.limited_velocity != 0": {"limits.limited_velocity", "!=", 0},
		"latency_p95.inference<=80":    {"latency_p95.inference", "<=", 80},
		"skill<-1":                     {"skill", "<", -1},
		"stops==0":                     {"stops", "==", 0},
	} {
		got, err := ParseCondition(text)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
		if again, err := ParseCondition(got.String()); err != nil || again != got {
			t.Errorf("%q is read again as %+v, %v", got, again, err)
		}
	}
	for text, want := range map[string]string{
		"":                     "METRIC OP NUMBER",
		"mae":                  "METRIC OP NUMBER",
		"mae=0.1":              `"=" is no comparison`,
		"mae!0.1":              `"!" is no comparison`,
		"mea>0.1":              `no metric "mea"; there are chunks, failed, mae,`,
		">0.1":                 `no metric ""`,
		"mae>":                 `"" is no number`,
		"mae>0.1 rad":          `"0.1 rad" is no number`,
		"mae>nan":              "is no number",
		"mae>inf":              "is no number",
		"mae>>1":               `">1" is no number`,
		"mae.>1":               "a joint is missing after the dot",
		"rounds.left_joint1>1": "rounds is of nothing in particular",
		"limits.left_joint1>1": `no code "left_joint1"`,
	} {
		if _, err := ParseCondition(text); !errors.Is(err, ErrCondition) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestConditionsNameWhatThePolicyHas(t *testing.T) {
	for text, want := range map[string]string{
		"mae.left_joint1>1":      "",
		"flicker.left_gripper>1": "",
		"mae.left_joint9>1":      `no joint "left_joint9", only left_joint1, left_joint2, left_gripper`,
		"flicker.left_joint1>1":  `no gripper "left_joint1", only left_gripper`,
		"latency_p95.chunk>1":    "",
		"latency_p95.think>1":    `no stage "think", only observe, chunk`,
	} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		switch err := c.Check(three()); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", text, err)
		case want != "" && (!errors.Is(err, ErrCondition) || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// Each comparison fails where it holds, and only there.
func TestConditionsHold(t *testing.T) {
	r := &Report{Metrics: map[string]Figure{"mae": 0.5}, Counts: []Count{{Code: "limited_jerk", Kind: Limit, Count: 3}, {Code: "implausible", Kind: Stop, Count: 1}}}
	for text, failed := range map[string]bool{
		"mae>0.4": true, "mae>0.5": false, "mae>=0.5": true, "mae>=0.6": false, "mae<0.6": true, "mae<0.5": false,
		"mae<=0.5": true, "mae<=0.4": false, "mae==0.5": true, "mae==0.4": false, "mae!=0.4": true, "mae!=0.5": false,
		"limits.limited_jerk>2": true, "limits.limited_jerk>3": false, "limits.limited_step>0": false, "stops.implausible>0": true,
		"rmse>1": true, // not known
	} {
		c, err := ParseCondition(text)
		if err != nil {
			t.Fatal(err)
		}
		if o := c.hold(r); o.Failed != failed {
			t.Errorf("%s: %+v", text, o)
		}
	}
	r.Setup = three()
	r.Metrics["max_error.left_gripper"] = 0.01
	if o := (Condition{"max_error.left_gripper", ">", 1}).hold(r); o.Unit != "m" {
		t.Errorf("a gripper's error is in %q", o.Unit)
	}
	c := Condition{"mae", ">", 0.4}
	r.Conditions = []Outcome{c.hold(r), Condition{"mae", ">", 1}.hold(r)}
	if err := r.Err(); err == nil || err.Error() != "failed on mae>0.4: it is 0.5 rad" {
		t.Errorf("%v", err)
	}
}

func FuzzParseCondition(f *testing.F) {
	f.Add("mae>0.05")
	f.Add("limits.limited_velocity != 0")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseCondition(text)
		if err != nil {
			return
		}
		if again, err := ParseCondition(c.String()); err != nil || again != c {
			t.Errorf("%q is %+v, read again %+v, %v", text, c, again, err)
		}
	})
}
