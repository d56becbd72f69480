package compare

import (
	"fmt"
	"io"
	"strings"
)

// Markdown writes the table for people: one of decoders, their agreement, and
// their errors by dimension.
func (t *Table) Markdown(w io.Writer) error {
	m := markdown{w: w}
	head := []string{"decoder", "passes", "p50 ms", "p95 ms"}
	if t.Agreement != nil {
		head = append(head, "tokens as "+t.Rows[0].Name)
	}
	for _, e := range t.Rows[0].Apart {
		head = append(head, fmt.Sprintf("farthest from %s %s", t.Rows[0].Name, e.Unit))
	}
	for _, e := range t.Rows[0].Errors {
		head = append(head, "mean error "+e.Unit, "largest "+e.Unit)
	}
	m.head(append(head, "which is")...)
	for _, r := range t.Rows {
		cells := []string{r.Name, fmt.Sprintf("%.4g", r.Passes), fmt.Sprintf("%.1f", r.P50), fmt.Sprintf("%.1f", r.P95)}
		if r.Equal != nil {
			cells = append(cells, percent(*r.Equal))
		}
		for _, e := range r.Apart {
			cells = append(cells, fmt.Sprintf("%.4f", e.Largest))
		}
		for _, e := range r.Errors {
			cells = append(cells, fmt.Sprintf("%.4f", e.Mean), fmt.Sprintf("%.4f", e.Largest))
		}
		m.line(append(cells, r.Meaning)...)
	}
	if len(t.Agreement) > 1 {
		m.title("Equal tokens of each pair")
		names := []string{""}
		for _, r := range t.Rows {
			names = append(names, r.Name)
		}
		m.head(names...)
		for i, agreement := range t.Agreement {
			cells := []string{t.Rows[i].Name}
			for _, share := range agreement {
				cells = append(cells, percent(share))
			}
			m.line(cells...)
		}
	}
	if len(t.Rows[0].ByDim) > 0 {
		m.title("Distance from the recorded actions: mean / largest")
		names := []string{"dimension"}
		for _, r := range t.Rows {
			names = append(names, r.Name)
		}
		m.head(append(names, "values")...)
		for k, d := range t.Rows[0].ByDim {
			cells := []string{d.Name + " " + t.unit(d.Name)}
			for _, r := range t.Rows {
				cells = append(cells, fmt.Sprintf("%.4f / %.4f", r.ByDim[k].Mean, r.ByDim[k].Largest))
			}
			m.line(append(cells, fmt.Sprint(d.Count))...)
		}
	}
	return m.err
}

func (t *Table) unit(dim string) string {
	for _, d := range t.Dims {
		if d.Name == dim {
			return d.Unit
		}
	}
	return ""
}

func percent(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }

// markdown writes lines until one fails.
type markdown struct {
	w   io.Writer
	err error
}

func (m *markdown) print(text string) {
	if m.err == nil {
		_, m.err = io.WriteString(m.w, text)
	}
}

func (m *markdown) title(text string) { m.print("\n" + text + ":\n\n") }

func (m *markdown) head(cells ...string) {
	m.line(cells...)
	m.print(strings.Repeat("|---", len(cells)) + "|\n")
}

func (m *markdown) line(cells ...string) {
	m.print("| " + strings.Join(cells, " | ") + " |\n")
}
