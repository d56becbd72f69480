package report

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// missing is what is printed of a number that is not known.
const missing = "–"

// number prints a figure with digits behind the point.
func number(digits int, f Figure) string {
	if !f.Known() {
		return missing
	}
	return strconv.FormatFloat(float64(f), 'f', digits, 64)
}

// percent prints a share of 0 to 1.
func percent(f Figure) string {
	if !f.Known() {
		return missing
	}
	return number(1, 100*f) + " %"
}

// degrees prints rad so that a person sees it.
func degrees(f Figure) string {
	if !f.Known() {
		return missing
	}
	return number(2, f*180/math.Pi) + "°"
}

// bar is how much of its cell a figure fills beside the largest, as CSS takes it.
func bar(f, most Figure) string {
	if !f.Known() || !(most > 0) {
		return "0%"
	}
	return number(1, 100*max(0, min(1, max(f, -f)/most))) + "%"
}

// quantity prints a metric in its unit.
func quantity(f Figure, unit string) string {
	if !f.Known() {
		return missing
	}
	return fmt.Sprintf("%.4g", float64(f)) + space(unit)
}

// duration prints how long the recording is.
func (r *Report) duration() time.Duration { return r.End.Sub(r.Begin).Round(10 * time.Millisecond) }
