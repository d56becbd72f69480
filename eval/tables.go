package eval

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// TablePlan is a list of tables, each of runs of `ddvla eval run`: a line and a column
// say with which arguments. It is read from JSON, with the fields' names in lower case.
type TablePlan struct {
	// Title heads them all, Args are every run's first arguments.
	Title string   `json:"title"`
	Args  []string `json:"args"`

	Tables []Table `json:"tables"`
}

// Table is one of a TablePlan.
type Table struct {
	Title string `json:"title"`
	// Note follows the table.
	Note string `json:"note,omitempty"`
	// Args follow the plan's. Of arguments that say the same the last ones count: the
	// plan's, the table's, the column's, the row's.
	Args    []string  `json:"args,omitempty"`
	Columns []Variant `json:"columns,omitempty"` // none is one without arguments
	Rows    []Variant `json:"rows"`
	// ByTask adds a column for each task, Cost what a chunk costs, of the first column.
	ByTask bool `json:"by_task,omitempty"`
	Cost   bool `json:"cost,omitempty"`
}

// Variant is a row or a column.
type Variant struct {
	Name string   `json:"name"`
	Args []string `json:"args"`
}

// ReadTablePlan reads and checks a plan.
func ReadTablePlan(text []byte) (*TablePlan, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	p := &TablePlan{}
	if err := d.Decode(p); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after the plan")
	}
	if len(p.Tables) == 0 {
		return nil, errors.New("tables: there are none")
	}
	for i := range p.Tables {
		t := &p.Tables[i]
		if len(t.Columns) == 0 {
			t.Columns = []Variant{{Name: "success"}}
		}
		if len(t.Rows) == 0 {
			return nil, fmt.Errorf("tables[%d] %q: rows: there are none", i, t.Title)
		}
		for what, list := range map[string][]Variant{"columns": t.Columns, "rows": t.Rows} {
			for k, v := range list {
				if v.Name == "" {
					return nil, fmt.Errorf("tables[%d] %q: %s[%d] has no name", i, t.Title, what, k)
				}
			}
		}
	}
	return p, nil
}

// CellArgs are the arguments of a cell's run.
func (p *TablePlan) CellArgs(table, row, column int) (args []string) {
	t := &p.Tables[table]
	for _, part := range [][]string{p.Args, t.Args, t.Columns[column].Args, t.Rows[row].Args} {
		args = append(args, part...)
	}
	return args
}

// TableCell is the outcome of a cell's run: its Results, of which Perturbation is
// meant, or why there is none.
type TableCell struct {
	Results      *Results
	Perturbation string
	Missing      string
}

func (c TableCell) cell(task string) Cell {
	if c.Results == nil {
		return Cell{}
	}
	cell, _ := c.Results.Cell(task, c.Perturbation)
	return cell
}

// doubts are why the cell's number is not quite what it says.
func (c TableCell) doubts() (list []string) {
	mean := c.cell("")
	if all := c.Results.Episodes * len(c.Results.Tasks); mean.Episodes < all {
		list = append(list, fmt.Sprintf("only %d of %d episodes were run.", mean.Episodes, all))
	}
	if mean.Failed > 0 {
		list = append(list, fmt.Sprintf("%d inferences failed.", mean.Failed))
	}
	return list
}

// Markdown writes the tables, whose cells are cell's.
func (p *TablePlan) Markdown(w io.Writer, cell func(table, row, column int) TableCell) error {
	var b strings.Builder
	var versions []string
	fmt.Fprintf(&b, "# %s\n", p.Title)
	for i := range p.Tables {
		p.Tables[i].markdown(&b, func(row, column int) TableCell {
			c := cell(i, row, column)
			if c.Results != nil {
				for _, v := range c.Results.Versions {
					versions = once(versions, v)
				}
			}
			return c
		})
	}
	if len(versions) > 0 {
		slices.Sort(versions)
		fmt.Fprintf(&b, "\nRun by ddvla %s.\n", strings.Join(versions, ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func (t *Table) markdown(b *strings.Builder, cell func(row, column int) TableCell) {
	var tasks []string
	var missing, doubts []string
	episodes := make([]int, len(t.Columns))
	for row := range t.Rows {
		for column := range t.Columns {
			c := cell(row, column)
			if c.Results == nil {
				missing = append(missing, fmt.Sprintf("%s, %s: %s", t.Rows[row].Name, t.Columns[column].Name, c.Missing))
				continue
			}
			if len(c.Results.Tasks) > len(tasks) {
				tasks = c.Results.Tasks
			}
			episodes[column] = max(episodes[column], c.Results.Episodes)
			for _, doubt := range c.doubts() {
				doubts = append(doubts, fmt.Sprintf("%s, %s: %s", t.Rows[row].Name, t.Columns[column].Name, doubt))
			}
		}
	}
	fmt.Fprintf(b, "\n## %s\n\n", t.Title)
	head := []string{""}
	for _, c := range t.Columns {
		head = append(head, c.Name)
	}
	byTask := t.ByTask && len(tasks) > 1
	if byTask {
		head = append(head, tasks...)
	}
	if t.Cost {
		head = append(head, "passes a chunk", "ms a chunk")
	}
	writeHead(b, head)
	for row := range t.Rows {
		line := []string{t.Rows[row].Name}
		for column := range t.Columns {
			line = append(line, cell(row, column).cell("").Rate.Short())
		}
		first := cell(row, 0)
		if byTask {
			for _, task := range tasks {
				rate := first.cell(task).Rate
				line = append(line, percent(rate))
			}
		}
		if t.Cost {
			rounds, ms := first.cell("").Rounds, 0.0
			if first.Results != nil {
				for _, timing := range first.Results.Timings {
					if timing.Task == "" && timing.Perturbation == first.Perturbation {
						ms = timing.P50
					}
				}
			}
			line = append(line, figure(rounds, rounds > 0), figure(ms, ms > 0))
		}
		writeLine(b, line)
	}
	most := slices.Max(episodes)
	fmt.Fprintf(b, "\nShare of successes over all tasks, %d episodes of each", most)
	for column, n := range episodes {
		if n > 0 && n < most {
			fmt.Fprintf(b, ", %d for %s", n, t.Columns[column].Name)
		}
	}
	b.WriteString(", with Wilson's 95 % interval.")
	if byTask {
		fmt.Fprintf(b, " Single tasks: %s.", t.Columns[0].Name)
	}
	if t.Note != "" {
		b.WriteString(" " + t.Note)
	}
	b.WriteString("\n")
	for _, m := range missing {
		fmt.Fprintf(b, "\n**Not run: %s**\n", m)
	}
	for _, d := range doubts {
		fmt.Fprintf(b, "\n**%s**\n", d)
	}
}

func percent(r Rate) string {
	if r.Episodes == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %%", 100*r.Share)
}
