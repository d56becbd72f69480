package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/decode"
)

// chunkTrace is how one chunk was decoded, with what it takes to show it.
type chunkTrace struct {
	title string   // which chunk
	names []string // of the chunk's columns
	trace *decode.Trace
}

// rows of the chunk.
func (c *chunkTrace) rows() int { return c.trace.Positions / len(c.names) }

// position names a token: "left_joint1 row 3", rows counted from 1.
func (c *chunkTrace) position(i int) string {
	return fmt.Sprintf("%s row %d", c.names[i%len(c.names)], i/len(c.names)+1)
}

// print writes the trace round by round.
func (c *chunkTrace) print(w io.Writer) error {
	t := c.trace
	fmt.Fprintln(w, c.title)
	fmt.Fprintf(w, "tokens %d, %d rows of %d; %d rounds\n", t.Positions, c.rows(), len(c.names), t.Rounds())
	if n := c.started(); n > 0 {
		fmt.Fprintf(w, "start  %d tokens given or kept from before\n", n)
	}
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(out, "round\tcommitted\tre-masked\tmasked\tleast confidence\t")
	for round := range t.Rounds() {
		s := t.Summary(round)
		least := "-"
		if s.LeastAt >= 0 {
			least = fmt.Sprintf("%.3f (%s)", s.Least, c.position(s.LeastAt))
		}
		fmt.Fprintf(out, "%d\t%d\t%d\t%d\t%s\t\n", round+1, s.Committed, s.Remasked, s.Masked, least)
	}
	return out.Flush()
}

// started counts the positions that were not masked at the start.
func (c *chunkTrace) started() int {
	n := 0
	for _, bin := range c.trace.Bins[:c.trace.Positions] {
		if bin >= 0 {
			n++
		}
	}
	return n
}

// inspectTrace is `ddvla inspect --trace`: one chunk's trace from a bag, printed
// and drawn. number counts from 1; topic may be empty where the bag has one topic
// of traces only.
func inspectTrace(ctx context.Context, w io.Writer, path, topic string, number int, out string) error {
	c, err := readTrace(ctx, path, topic, number)
	if err != nil {
		return err
	}
	if err := c.print(w); err != nil || out == "" {
		return err
	}
	return c.drawTo(out, w)
}

// drawTo draws the trace to a PNG file, and says so.
func (c *chunkTrace) drawTo(out string, w io.Writer) error {
	picture, err := c.draw()
	if err != nil {
		return err
	}
	if err := writePicture(out, picture); err != nil {
		return err
	}
	size := picture.Bounds().Size()
	_, err = fmt.Fprintf(w, "drawing %s, %dx%d\n", out, size.X, size.Y)
	return err
}

// readTrace reads the number-th trace of a bag, of which a damaged one gives all
// that lies before the damage.
func readTrace(ctx context.Context, path, topic string, number int) (*chunkTrace, error) {
	reader, err := bag.Open(path)
	if err != nil {
		return nil, err
	}
	if topic, err = traceTopicOf(reader, path, topic); err != nil {
		return nil, err
	}
	found := 0
	for m, err := range reader.Messages(ctx) {
		if err != nil {
			return nil, err
		}
		if m.Topic != topic {
			continue
		}
		if found++; found < number {
			continue
		}
		which := fmt.Sprintf("chunk %d on %s, %.3f s after the bag's start", number, topic, m.Time.Sub(reader.Start()).Seconds())
		var raw msgs.Float64MultiArray
		if err := msgs.Unmarshal(m.Data, &raw); err != nil {
			return nil, fmt.Errorf("bag %s: %s: %w", path, which, err)
		}
		names, trace, err := node.ReadTrace(&raw)
		if err != nil {
			return nil, fmt.Errorf("bag %s: %s: %w", path, which, err)
		}
		return &chunkTrace{title: which, names: names, trace: trace}, nil
	}
	if found == 0 {
		return nil, fmt.Errorf("bag %s: there is no chunk on %s; `ddvla replay` writes traces, a node does where the parameter decode.trace is on", path, topic)
	}
	return nil, fmt.Errorf("bag %s: there is no chunk %d on %s; --chunk must be 1..%d", path, number, topic, found)
}

// traceTopicOf returns the topic of traces in a bag.
func traceTopicOf(r *bag.Reader, path, asked string) (string, error) {
	var found []string
	typ := (*msgs.Float64MultiArray)(nil).ROSType()
	for _, t := range r.Topics() {
		switch {
		case t.Name == asked && t.Type != typ:
			return "", fmt.Errorf("bag %s: %s is a %s, traces are a %s", path, asked, t.Type, typ)
		case t.Name == asked:
			return asked, nil
		case asked == "" && t.Type == typ && strings.HasSuffix(t.Name, "/decode_trace"):
			found = append(found, t.Name)
		}
	}
	switch {
	case asked != "":
		return "", fmt.Errorf("bag %s: there is no topic %s", path, asked)
	case len(found) == 0:
		return "", fmt.Errorf("bag %s: there is no topic .../decode_trace; `ddvla replay` writes it, a node does where the parameter decode.trace is on", path)
	case len(found) > 1:
		return "", usageError{fmt.Errorf("the bag has traces on %s; --topic chooses one", strings.Join(found, " and "))}
	}
	return found[0], nil
}

// traceFlags are what inspect takes with --trace.
type traceFlags struct {
	bag, topic, out string
	chunk           int
}

// check refuses flags that do not go together. argument is inspect's own.
func (f traceFlags) check(argument string, tensors bool) error {
	switch {
	case f.bag == "" && (f.topic != "" || f.out != "" || f.chunk != 1):
		return errors.New("--chunk, --topic and --out go with --trace BAG")
	case f.bag == "":
		return nil
	case argument != "" || tensors:
		return errors.New("--trace BAG shows a chunk of a bag; leave out the bundle and --tensors")
	case f.chunk < 1:
		return fmt.Errorf("--chunk is %d, must be 1 or more", f.chunk)
	case f.out != "":
		return checkOut("--out", f.out)
	}
	return nil
}
