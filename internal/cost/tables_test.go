package cost

import (
	"flag"
	"io"
	"os"
	"strings"
	"testing"
)

// -update rewrites docs/performance.md:
//
//	go test ./internal/cost -run Performance -update
var update = flag.Bool("update", false, "rewrite the tables of docs/performance.md")

// The tables in the document are those that this package computes.
func TestPerformanceDocument(t *testing.T) {
	var tables, measured strings.Builder
	if err := Tables(&tables); err != nil {
		t.Fatal(err)
	}
	file, err := os.Open("testdata/h100.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	list, err := ReadMeasurements(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := Measured(&measured, Devices()[2], list); err != nil {
		t.Fatal(err)
	}
	documented(t, "roofline", tables.String())
	documented(t, "gpu", measured.String())
}

// documented checks what stands between two marks of the document.
func documented(t *testing.T, mark, want string) {
	t.Helper()
	doc, begin, end := "../../docs/performance.md", "<!-- "+mark+" -->\n", "<!-- /"+mark+" -->\n"
	page, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q ... %q", doc, begin, end)
	}
	if *update {
		if err := os.WriteFile(doc, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want {
		t.Errorf("%s is older than this package; run this test with -update", doc)
	}
}

// No 16-bit stage was quicker than the maker's rates allow; what has no bound, or other sizes, is refused.
func TestMeasured(t *testing.T) {
	file, err := os.Open("testdata/h100.json")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	list, err := ReadMeasurements(file)
	if err != nil {
		t.Fatal(err)
	}
	d, rows := Devices()[2], 0
	for _, m := range list {
		for _, r := range m.Rows {
			if bound := d.bounds()[r.Stage]; m.Dtype != "fp32" && r.Mode != linear && r.P50 < bound/milli {
				t.Errorf("%s, %s, %s: %g ms, bound %g s", m.Dtype, r.Stage, r.Mode, r.P50, bound)
			}
			rows++
		}
	}
	if rows == 0 {
		t.Error("no rows")
	}
	list[0].Rows[0].Stage = "lunch"
	if err := Measured(io.Discard, d, list); err == nil || !strings.Contains(err.Error(), "lunch") {
		t.Errorf("an unknown stage: %v", err)
	}
	for _, broken := range []string{`[{"sizes": {"cameras": 2}}]`, `{`} {
		if _, err := ReadMeasurements(strings.NewReader(broken)); err == nil {
			t.Errorf("%s was read", broken)
		}
	}
}

// A bound falls with more rounds, cheaper ways and faster devices, and mostRounds is where it crosses.
func TestBoundsAreInOrder(t *testing.T) {
	m := Robot()
	for _, d := range Devices() {
		for _, p := range Precisions() {
			for _, w := range Ways() {
				n := d.mostRounds(m, w, p, 0.1)
				if n > 0 && d.Chunk(m, w, n, p) > 0.1 || n < 64 && d.Chunk(m, w, n+1, p) <= 0.1 {
					t.Errorf("%s, %s, %s: %d rounds", d.Name, p.Name, w.Name, n)
				}
			}
			if exact, refresh, prefix := d.Chunk(m, Exact(), 12, p), d.Chunk(m, Refresh(4), 12, p), d.Chunk(m, Prefix(), 12, p); refresh > exact || prefix > exact {
				t.Errorf("%s, %s: exact %g, refresh %g, prefix %g", d.Name, p.Name, exact, refresh, prefix)
			}
		}
	}
	// 7B: two operations for each weight of the layers and each token, and attention, which is some
	// percent of it at this length.
	plain := 2 * 6.476e9 * float64(m.Sequence())
	if f := m.Pass().FLOPs; f < 0.95*plain || f > 1.1*plain {
		t.Errorf("a pass is %g operations, weights alone %g", f, plain)
	}
}
