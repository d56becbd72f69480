package eval

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

const somePlan = `{"title": "Tables", "args": ["--episodes", "6"], "tables": [
	{"title": "First", "note": "A note.", "by_task": true, "cost": true, "args": ["--seed", "1"],
	 "columns": [{"name": "as demonstrated", "args": ["--perturb", "none"]}, {"name": "light", "args": ["--perturb", "light+camera"]}],
	 "rows": [{"name": "one", "args": ["--rounds", "4"]}, {"name": "two", "args": []}]},
	{"title": "Second", "rows": [{"name": "one", "args": []}]}]}`

func TestTables(t *testing.T) {
	p, err := ReadTablePlan([]byte(somePlan))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.CellArgs(0, 0, 1); !slices.Equal(got, []string{"--episodes", "6", "--seed", "1", "--perturb", "light+camera", "--rounds", "4"}) {
		t.Errorf("%q", got)
	}
	r, _ := sampleResults(t)
	doubtful := *r
	doubtful.Means = slices.Clone(r.Means)
	doubtful.Means[0].Failed = 2
	fewer := *r
	fewer.Episodes, fewer.Tasks = 4, fewer.Tasks[:1]
	var b bytes.Buffer
	if err := p.Markdown(&b, func(table, row, column int) TableCell {
		if row == 1 {
			return TableCell{Missing: "no bundle"}
		}
		if table == 1 {
			return TableCell{Results: &doubtful, Perturbation: r.Perturbations[0]}
		}
		if column == 1 {
			return TableCell{Results: &fewer, Perturbation: r.Perturbations[column]}
		}
		return TableCell{Results: r, Perturbation: r.Perturbations[column]}
	}); err != nil {
		t.Fatal(err)
	}
	want := `# Tables

## First

|  | as demonstrated | light | lift | sort | passes a chunk | ms a chunk |
|---|---|---|---|---|---|---|
| one | 27 % (10–57) | 25 % (9–53) | 0 % | 60 % | 4 | 50 |
| two | – | – | – | – | – | – |

Share of successes over all tasks, 6 episodes of each, 4 for light, with Wilson's 95 % interval. Single tasks: as demonstrated. A note.

**Not run: two, as demonstrated: no bundle**

**Not run: two, light: no bundle**

**one, as demonstrated: only 11 of 12 episodes were run.**

## Second

|  | success |
|---|---|
| one | 27 % (10–57) |

Share of successes over all tasks, 6 episodes of each, with Wilson's 95 % interval.

**one, success: only 11 of 12 episodes were run.**

**one, success: 2 inferences failed.**

Run by ddvla 1.
`
	if b.String() != want {
		t.Errorf("%s", &b)
	}
}

func TestPlansThatAreWrongAreRefused(t *testing.T) {
	for text, name := range map[string]string{
		`{`: "EOF", `{"tables": []}`: "tables", `{"tabels": []}`: "tabels",
		`{"tables": [{"title": "x"}]}`:                                                                "rows",
		`{"tables": [{"title": "x", "rows": [{"args": []}]}]}`:                                        "no name",
		`{"tables": [{"title": "x", "rows": [{"name": "a", "args": "--x"}]}]}`:                        "args",
		`{"tables": [{"title": "x", "rows": [{"name": "a"}], "columns": [{"args": ["--seed"]}]}]}`:    "columns[0]",
		`{"tables": [{"title": "x", "rows": [{"name": "a"}]}]} {"tables": [{"title": "y"}]}`:          "more",
		`{"tables": [{"title": "x", "rows": [{"name": "a", "bundle": "build/tiny", "args": null}]}]}`: "bundle",
	} {
		if _, err := ReadTablePlan([]byte(text)); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
