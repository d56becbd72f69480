package doctor

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Print writes the report for a person.
func (r *Report) Print(out io.Writer) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %.1f s; policy %q (%s)\n", r.Source, r.Seconds, r.Policy, r.Bundle)

	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\ncamera\ttopic\tencoding\tsize\tmodel sees\trate\tlongest gap\tage, p95\tframe")
	for _, c := range r.Cameras {
		size := "-"
		if c.Width > 0 {
			size = fmt.Sprintf("%dx%d", c.Width, c.Height)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%dx%d\t%.1f Hz\t%s\t%s, %s\t%s\n", c.Name, c.Topic, c.Encoding, size, c.ModelWidth, c.ModelHeight,
			c.Rate, duration(c.Gap), duration(c.Age), duration(c.AgeHi), c.Frame)
	}
	w.Flush()
	fmt.Fprintf(&b, "%s of pictures; one in twenty is apart by more than", count(r.Sets.Count, "complete set"))
	for i, c := range r.Cameras {
		if i > 0 {
			b.WriteString(",")
		}
		fmt.Fprintf(&b, " %s %s", c.Name, duration(r.Sets.Spread[c.Name]))
	}
	fmt.Fprintf(&b, "; from the joint states: left %s, right %s\n", duration(r.Sets.Joints["left"]), duration(r.Sets.Joints["right"]))

	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\narm\ttopic\trate\tlongest gap\tage, p95\tnames\tcommands heard")
	for _, a := range r.Arms {
		fmt.Fprintf(w, "%s\t%s\t%.1f Hz\t%s\t%s, %s\t%s\t%d on %s\n", a.Arm, a.Topic, a.Rate, duration(a.Gap), duration(a.Age), duration(a.AgeHi),
			strings.Join(a.Names, " "), a.Commands, a.CommandTopic)
	}
	w.Flush()
	w = tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\njoint\tunit\tleast\tmedian\tmost\tdata q01\tq99\toutside\t")
	for _, a := range r.Arms {
		for _, j := range a.Joints {
			q01, q99, outside := "-", "-", "-"
			if j.Q01 != nil {
				q01, q99, outside = fmt.Sprintf("%.3f", *j.Q01), fmt.Sprintf("%.3f", *j.Q99), fmt.Sprintf("%.0f %%", 100**j.Outside)
			}
			fmt.Fprintf(w, "%s\t%s\t%.3f\t%.3f\t%.3f\t%s\t%s\t%s\t\n", j.Name, j.Unit, j.Low, j.Median, j.High, q01, q99, outside)
		}
	}
	w.Flush()

	for _, p := range r.Prompts {
		fmt.Fprintf(&b, "\ninstruction %q\n  prompt %q\n  %s:", p.Instruction, p.Prompt, count(len(p.Tokens), "token"))
		for _, t := range p.Tokens {
			fmt.Fprintf(&b, " %d:%s", t.ID, shown(t.Piece))
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "\nchunk: %d rows of %d at %g Hz, %s; at most %g a second, commands at %g Hz; told %s\n",
		r.Chunk.Rows, len(r.Chunk.Columns), r.Chunk.ActionRate, duration(r.Chunk.Seconds), r.Chunk.Rate, r.Chunk.CommandRate, count(len(r.Chunk.Proprio), "joint"))
	if m := r.Machine; m != nil {
		fmt.Fprintf(&b, "machine: ONNX Runtime %s (%s), provider %s; about %s needed, %s of %s free (%s)\n",
			orUnknown(m.Version), orUnknown(m.Library), m.Provider, gigabytes(m.NeededBytes), gigabytes(m.FreeBytes), gigabytes(m.TotalBytes), m.Device)
		if m.ChunkTime > 0 {
			fmt.Fprintf(&b, "a chunk took %s, loading %s\n", duration(m.ChunkTime), duration(m.LoadSeconds))
		}
	}
	for _, t := range r.Topics {
		fmt.Fprintf(&b, "%s: from %s; to %s", t.Topic, orNobody(t.Publishers), orNobody(t.Subscribers))
		if t.Lost > 0 {
			fmt.Fprintf(&b, "; %d lost", t.Lost)
		}
		b.WriteString("\n")
	}

	b.WriteString("\n")
	for _, f := range r.Findings {
		stop := "."
		if strings.HasSuffix(f.Sentence, "?") {
			stop = ""
		}
		fmt.Fprintf(&b, "%-7s  %s: %s%s\n", strings.ToUpper(f.Severity.String()), f.Code, f.Sentence, stop)
		if f.Mend != "" {
			fmt.Fprintf(&b, "         -> %s\n", f.Mend)
		}
	}
	fmt.Fprintf(&b, "%s, %s, %s\n", count(r.Counts["error"], "error"), count(r.Counts["warning"], "warning"), count(r.Counts["note"], "note"))
	_, err := io.WriteString(out, b.String())
	return err
}

// shown is a piece with what breaks lines escaped.
func shown(piece string) string {
	if piece == "" {
		return "?"
	}
	return strings.ReplaceAll(piece, "\n", `\n`)
}

func orUnknown(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

func orNobody(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}
