package main

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
)

// chunkDifference is a chunk that is not the recorded one.
type chunkDifference struct {
	of    *recordedInference
	now   *node.Repeated
	count int // values that differ
	// The first of them, where there is one.
	row, column int
	most        float64 // largest difference
	other       string  // what else differs, where no value does
}

// sameBytes compares two messages as they are sent.
func sameBytes(a, b msgs.Message) (bool, error) {
	rawA, err := msgs.Marshal(a)
	if err != nil {
		return false, err
	}
	rawB, err := msgs.Marshal(b)
	return string(rawA) == string(rawB), err
}

// compareChunks finds in what two chunks differ.
func compareChunks(i *recordedInference, now *node.Repeated) *chunkDifference {
	d := &chunkDifference{of: i, now: now}
	then := i.chunk
	switch {
	case !slices.Equal(then.JointNames, now.Chunk.JointNames):
		d.other = fmt.Sprintf("the columns are %q, now %q", then.JointNames, now.Chunk.JointNames)
	case len(then.Points) != len(now.Chunk.Points):
		d.other = fmt.Sprintf("there are %d rows, now %d", len(then.Points), len(now.Chunk.Points))
	default:
		d.other = "the stamps or the times of the rows differ"
	}
	for row := range min(len(then.Points), len(now.Chunk.Points)) {
		a, b := then.Points[row].Positions, now.Chunk.Points[row].Positions
		for column := range min(len(a), len(b)) {
			if math.Float64bits(a[column]) == math.Float64bits(b[column]) {
				continue
			}
			if d.count++; d.count == 1 {
				d.row, d.column = row, column
			}
			d.most = max(d.most, math.Abs(a[column]-b[column]))
		}
	}
	return d
}

// tell prints what came of it, and is an error where something differs or is missing.
func (d *differ) tell(w io.Writer, seed int64) error {
	fmt.Fprintf(w, "recorded   %s\n", d.outcomes())
	fmt.Fprintf(w, "repeated   %d, the same to the byte: %d\n", d.repeated, d.repeated-len(d.differs))
	const most = 10
	for k, why := range d.missing {
		if k == most {
			fmt.Fprintf(w, "           and %d more\n", len(d.missing)-most)
			break
		}
		fmt.Fprintf(w, "missing    %s\n", why)
	}
	for _, what := range d.inferences[0].Runtime.Differences(d.repeater.Runtime()) {
		fmt.Fprintf(w, "differs    %s\n", what)
	}
	if then := d.inferences[0].Seed; then != seed {
		fmt.Fprintf(w, "differs    seed: recorded %d, now %d\n", then, seed)
	}
	if len(d.differs) > 0 {
		first := slices.MinFunc(d.differs, func(a, b *chunkDifference) int { return a.of.Number - b.of.Number })
		first.tell(w, d.reader.Start())
		return statusError{statusDiffers, fmt.Errorf("%d of %d chunks are not the recorded ones", len(d.differs), d.repeated)}
	}
	if d.repeated == 0 {
		return errors.New("no inference can be made again from this bag")
	}
	// Of a bag that is damaged nobody expects all.
	if len(d.missing) > 0 && d.damage == nil {
		return statusError{statusDiffers, fmt.Errorf("%d of %d inferences cannot be made again, as the bag lacks messages of theirs", len(d.missing), len(d.missing)+d.repeated)}
	}
	return nil
}

// tell prints a difference and what it may come from.
func (d *chunkDifference) tell(w io.Writer, begin time.Time) {
	at := time.Unix(0, d.of.Time)
	fmt.Fprintf(w, "first      inference %d, %.3f s after the bag's beginning, of the observation of %s\n",
		d.of.Number, at.Sub(begin).Seconds(), time.Unix(0, d.of.Stamp).UTC().Format(time.RFC3339Nano))
	if d.count == 0 {
		fmt.Fprintf(w, "           %s\n", d.other)
	} else {
		columns := len(d.of.chunk.JointNames)
		then, now := d.of.chunk.Points[d.row].Positions[d.column], d.now.Chunk.Points[d.row].Positions[d.column]
		fmt.Fprintf(w, "           row %d, %s: recorded %v%s, now %v%s\n", d.row, d.of.chunk.JointNames[d.column],
			then, binOf(d.of.Bins, d.row*columns+d.column), now, binOf(d.now.Result.Bins, d.row*columns+d.column))
		fmt.Fprintf(w, "           %d of its %d values differ, by up to %.3g\n", d.count, columns*len(d.of.chunk.Points), d.most)
	}
	for _, part := range []struct {
		name string
		list []string
	}{
		{"pictures", d.now.Pictures}, {"state", d.now.States}, {"instruction", d.now.Instruction}, {"parameters", d.now.Parameters},
	} {
		if len(part.list) == 0 {
			fmt.Fprintf(w, "%-12s the same\n", part.name)
		}
		for _, what := range part.list {
			fmt.Fprintf(w, "%-12s %s\n", part.name, what)
		}
	}
}

// binOf names the bin of a token, where there are bins.
func binOf(bins []int64, at int) string {
	if at >= len(bins) {
		return ""
	}
	return fmt.Sprintf(" (bin %d)", bins[at])
}

// outcomes are the inferences by what came of them.
func (d *differ) outcomes() string {
	total := 0
	var parts []string
	for _, outcome := range []string{node.OutcomeChunk, node.OutcomeSuperseded, node.OutcomeTerminated, node.OutcomeFailed, node.OutcomeNotDriven, node.OutcomeNone} {
		if n := d.counts[outcome]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, outcome))
			total += n
		}
	}
	if total == 0 {
		return "no inferences"
	}
	return fmt.Sprintf("%d inferences: %s", total, strings.Join(parts, ", "))
}
