package urdf_test

import (
	"errors"
	"slices"
	"sync"
	"testing"

	"gonum.org/v1/gonum/mat"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/urdf"
)

// A tree's links are where the chains to them say.
func TestTreeAgreesWithChains(t *testing.T) {
	r, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := r.Tree("body_Link")
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Links) != len(r.Links) || len(tree.Joints) != 18 {
		t.Fatalf("%d links, %d joints", len(tree.Links), len(tree.Joints))
	}
	chains := make([]*urdf.Chain, len(tree.Links))
	for i, l := range tree.Links {
		chains[i] = chain(t, "body_Link", l)
	}
	rapid.Check(t, func(t *rapid.T) {
		q := pose(tree.Joints).Draw(t, "q")
		frames := tree.LinkTransforms(q, nil)
		for i, c := range chains {
			own := make([]float64, len(c.Joints))
			for k, j := range c.Joints {
				own[k] = q[slices.IndexFunc(tree.Joints, func(o urdf.Joint) bool { return o.Name == j.Name })]
			}
			if frames[i] != c.Forward(own) {
				t.Fatalf("%s: %v, its chain says %v", tree.Links[i], frames[i], c.Forward(own))
			}
		}
	})
	if _, err := r.Tree("nowhere"); !errors.Is(err, urdf.ErrUnknownLink) {
		t.Error(err)
	}
}

func TestTreeAllocatesNothing(t *testing.T) {
	r, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	tree, err := r.Tree("fl_base_link")
	if err != nil {
		t.Fatal(err)
	}
	q := make([]float64, len(tree.Joints))
	dst := make([]urdf.Transform, 0, len(tree.Links))
	if n := testing.AllocsPerRun(100, func() { dst = tree.LinkTransforms(q, dst) }); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// One Chain serves many goroutines; the race detector watches.
func TestChainIsShared(t *testing.T) {
	c := chain(t, "body_Link", "fl_tool0")
	want := c.Forward([]float64{.2, .5, -.6, .3, -.2, .4})
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			jac := mat.NewDense(6, 6, nil)
			for range 100 {
				if got := c.Jacobian([]float64{.2, .5, -.6, .3, -.2, .4}, jac); got != want {
					t.Errorf("%v, alone %v", got, want)
				}
			}
		})
	}
	group.Wait()
}

func BenchmarkTree(b *testing.B) {
	r, err := urdf.CobotMagic()
	if err != nil {
		b.Fatal(err)
	}
	tree, err := r.Tree("fl_base_link")
	if err != nil {
		b.Fatal(err)
	}
	q := make([]float64, len(tree.Joints))
	var dst []urdf.Transform
	b.ReportAllocs()
	for b.Loop() {
		dst = tree.LinkTransforms(q, dst)
	}
}
