package cost

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Measurement is what train/bench.py writes of one run of it.
type Measurement struct {
	Machine string
	Torch   string
	Dtype   string // bf16, fp16 or fp32
	Sizes   struct{ Cameras, Batch, Prompt, Slots, Proprio int }
	// Ceilings are what the card reached in a large copy, bytes read and written, and in a large product.
	Ceilings struct {
		Copy    float64 `json:"copy_gb_s"`
		Product float64 `json:"product_tflops"`
	}
	Rows []struct {
		Stage, Mode string
		P50, P95    float64 // milliseconds
	}
}

// ReadMeasurements reads a list of them.
func ReadMeasurements(r io.Reader) ([]Measurement, error) {
	var list []Measurement
	if err := json.NewDecoder(r).Decode(&list); err != nil {
		return nil, fmt.Errorf("measurements of train/bench.py: %w", err)
	}
	m := Robot()
	for i := range list {
		if s := list[i].Sizes; s.Cameras != m.Images || s.Batch != 1 || s.Prompt != m.Prompt || s.Slots != m.Slots || s.Proprio != m.Proprio {
			return nil, fmt.Errorf("measurement %d of %d is of %+v, the bounds are of %+v", i+1, len(list), s, m)
		}
	}
	return list, nil
}

// device is what the card itself reached, with the 16-bit rate in place of the maker's.
func (m *Measurement) device() Device {
	return Device{Bandwidth: m.Ceilings.Copy * giga, FP16: m.Ceilings.Product * tera}
}

// bench.py's names of the ways to run a stage.
const (
	compiled = "compiled"
	inParts  = "graph, attention in parts"
	linear   = "graph, linear layers alone"
)

// bounds are the least seconds on d of each stage and each chunk by the names that bench.py gives them.
func (d Device) bounds() map[string]float64 {
	m, p := Robot(), Precisions()[0]
	all := map[string]float64{
		"vision and projectors": d.Seconds(m.Vision(), p),
		"exact round":           d.Seconds(m.Pass(), p),
		"prefix once":           d.Seconds(m.PrefixPass(), p),
		"round of the block":    d.Seconds(m.BlockPass(), p),
	}
	for _, w := range Ways() {
		for rounds := range 64 {
			all[fmt.Sprintf("%s, T = %d", w.Name, rounds+1)] = d.Chunk(m, w, rounds+1, p)
		}
	}
	return all
}

// Measured writes tables of what was measured on one kind of card beside its bounds. Where runs have the same row the
// first one's counts.
func Measured(w io.Writer, d Device, list []Measurement) error {
	var out strings.Builder
	t := table{&out}
	first := func(dtype, stage, mode string) string {
		for _, m := range list {
			for _, r := range m.Rows {
				if m.Dtype == dtype && r.Stage == stage && r.Mode == mode {
					return fmt.Sprintf("%.1f / %.1f", r.P50, r.P95)
				}
			}
		}
		return ""
	}
	// shares are of the compiled stage: of the maker's bound, and of the one at the rates that its own run reached.
	shares := func(dtype, stage string) (ofBound, ofCeilings, rate string) {
		for _, m := range list {
			for _, r := range m.Rows {
				if m.Dtype == dtype && r.Stage == stage && r.Mode == compiled {
					own := m.device()
					return percentOf(d.bounds()[stage] / milli / r.P50), percentOf(own.bounds()[stage] / milli / r.P50), fmt.Sprintf("%.1f", 1/milli/r.P50)
				}
			}
		}
		return "", "", ""
	}
	stages, chunks := map[string][]string{}, map[string][]string{}
	for _, m := range list {
		for _, r := range m.Rows {
			into := stages
			if strings.Contains(r.Stage, "T = ") {
				into = chunks
			}
			if _, known := d.bounds()[r.Stage]; !known {
				return fmt.Errorf("no bound of %q", r.Stage)
			}
			if !slices.Contains(into[m.Dtype], r.Stage) {
				into[m.Dtype] = append(into[m.Dtype], r.Stage)
			}
		}
	}
	bound := func(dtype, stage string) string {
		if dtype == "fp32" {
			return "" // Device has no such rate
		}
		return fmt.Sprintf("%.1f", d.bounds()[stage]/milli)
	}
	types := []string{"bf16", "fp16", "fp32"}
	t.head("type", "stage", "bound", "eager", "graph", "compiled", "share of the bound", "... at the rates that the card reached", "linear layers alone", "attention in parts")
	for _, dtype := range types {
		for _, s := range stages[dtype] {
			ofBound, ofCeilings, _ := shares(dtype, s)
			t.line(dtype, s, bound(dtype, s), first(dtype, s, "eager"), first(dtype, s, "graph"), first(dtype, s, compiled), ofBound, ofCeilings, first(dtype, s, linear), first(dtype, s, inParts))
		}
	}
	fmt.Fprintln(&out)
	t.head("type", "chunk", "bound", "eager", "graph", "compiled", "compiled, chunks/s", "share of the bound", "... at the rates that the card reached")
	for _, dtype := range types {
		for _, s := range chunks[dtype] {
			ofBound, ofCeilings, rate := shares(dtype, s)
			t.line(dtype, s, bound(dtype, s), first(dtype, s, "eager"), first(dtype, s, "graph"), first(dtype, s, compiled), rate, ofBound, ofCeilings)
		}
	}
	_, err := io.WriteString(w, out.String())
	return err
}
