package testbundle

import (
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

func TestBundleIsWholeAndMadeOnce(t *testing.T) {
	dir := Dir(t)
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if a := b.Manifest.Action; a.Chunk != 8 || len(a.Dims) != 14 || a.Rate != 20 || len(b.Manifest.Cameras) != 3 {
		t.Errorf("chunk of %d x %d at %v Hz from %d cameras", a.Chunk, len(a.Dims), a.Rate, len(b.Manifest.Cameras))
	}
	if again := Dir(t); again != dir {
		t.Errorf("exported again to %s", again)
	}
}

func TestCopyIsChangedAndWhole(t *testing.T) {
	dir := Copy(t, func(m *bundle.Manifest) { m.Name = "other" })
	b, err := bundle.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if b.Manifest.Name != "other" || dir == Dir(t) {
		t.Errorf("%q in %s", b.Manifest.Name, dir)
	}
}
