package cost

import (
	"flag"
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
	const doc, begin, end = "../../docs/performance.md", "<!-- roofline -->\n", "<!-- /roofline -->\n"
	page, err := os.ReadFile(doc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	have, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no %q ... %q", doc, begin, end)
	}
	var want strings.Builder
	if err := Tables(&want); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(doc, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if have != want.String() {
		t.Errorf("%s is older than this package; run this test with -update", doc)
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
