package eval

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// Markdown writes the success rates for people: a line for each task, a column for each
// perturbation, and what failures came of.
func (r *Results) Markdown(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s.\n\n", r.Setup.Policy, r.conditions())
	head := append([]string{"task"}, r.Perturbations...)
	writeHead(&b, append(head, "mean time s", "passes a chunk"))
	for _, task := range append(slices.Clone(r.Tasks), "") {
		if task == "" && len(r.Tasks) == 1 {
			continue
		}
		cells := []string{task}
		if task == "" {
			cells[0] = "all"
		}
		for _, p := range r.Perturbations {
			c, _ := r.Cell(task, p)
			cells = append(cells, c.Rate.String())
		}
		first, _ := r.Cell(task, r.Perturbations[0])
		writeLine(&b, append(cells, figure(first.Time, first.Successes > 0), figure(first.Rounds, first.Rounds > 0)))
	}
	fmt.Fprintf(&b, "\nSuccesses of %d episodes each, seeds %d to %d, with Wilson's 95 %% interval.\n", r.Episodes, r.Seed, r.Seed+uint64(r.Episodes)-1)
	if why := r.failures(); why != "" {
		fmt.Fprintf(&b, "Failures: %s.\n", why)
	}
	for _, v := range r.verdicts() {
		if v.Level == "note" { // said above
			continue
		}
		fmt.Fprintf(&b, "\n**%s**\n", v.Text)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// conditions say how the episodes were run.
func (r *Results) conditions() string {
	s := r.Setup
	parts := []string{fmt.Sprintf("an observation every %d rows", s.Every), "latency " + s.Latency}
	if s.Decoder != "" {
		parts = append(parts, "decoder "+s.Decoder)
	}
	if s.Instructions != RightInstructions {
		parts = append(parts, s.Instructions+" instructions")
	}
	if s.Servo != "" {
		parts = append(parts, "drives with "+s.Servo)
	}
	if s.Pictures != "" {
		parts = append(parts, "pictures "+s.Pictures)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Parameters)) {
		parts = append(parts, name+" "+s.Parameters[name])
	}
	return strings.Join(parts, ", ")
}

// failures count the reasons over all cells.
func (r *Results) failures() string {
	sum := map[string]int{}
	for _, c := range r.Means {
		for why, n := range c.Why {
			sum[why] += n
		}
	}
	var list []string
	for _, why := range slices.Sorted(maps.Keys(sum)) {
		list = append(list, fmt.Sprintf("%d %s", sum[why], why))
	}
	return strings.Join(list, ", ")
}

// String is the share with its interval, in percent, "82 % (69–90), 41 of 50".
func (r Rate) String() string {
	if r.Episodes == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %% (%.0f–%.0f), %d of %d", 100*r.Share, 100*r.Low, 100*r.High, r.Successes, r.Episodes)
}

// Short is String without the counts.
func (r Rate) Short() string {
	if r.Episodes == 0 {
		return "–"
	}
	return fmt.Sprintf("%.0f %% (%.0f–%.0f)", 100*r.Share, 100*r.Low, 100*r.High)
}

func figure(v float64, known bool) string {
	if !known {
		return "–"
	}
	return fmt.Sprintf("%.3g", v)
}

func writeHead(b *strings.Builder, cells []string) {
	writeLine(b, cells)
	b.WriteString(strings.Repeat("|---", len(cells)) + "|\n")
}

func writeLine(b *strings.Builder, cells []string) {
	b.WriteString("| " + strings.Join(cells, " | ") + " |\n")
}
