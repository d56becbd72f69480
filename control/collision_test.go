package control

import (
	"math"
	"math/rand/v2"
	"testing"

	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/spatial/r3"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/urdf"
)

func between(a, b r3.Vec, s float64) r3.Vec { return r3.Add(a, r3.Scale(s, r3.Sub(b, a))) }

// segments draws pairs of segments of all sizes, some of them points, some
// parallel, some crossing.
func segments(t *rapid.T) (a, b, c, d r3.Vec) {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	point := func() r3.Vec { return r3.Vec{X: rng.NormFloat64(), Y: rng.NormFloat64(), Z: rng.NormFloat64()} }
	a, b, c, d = point(), point(), point(), point()
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		b = a
	case 1:
		d = c
	case 2:
		b, d = a, c
	case 3: // parallel
		d = r3.Add(c, r3.Scale(rng.NormFloat64(), r3.Sub(b, a)))
	case 4: // nearly so
		d = r3.Add(r3.Add(c, r3.Sub(b, a)), r3.Scale(1e-7, point()))
	case 5: // crossing
		m := between(a, b, rng.Float64())
		d = between(c, m, 1+rng.Float64())
	}
	return a, b, c, d
}

// No pair of sampled points is nearer than the distance, and the nearest is as
// near as the sampling allows.
func TestSegmentDistanceBySampling(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := segments(t)
		got := segmentDistance(a, b, c, d)
		const n = 100
		best := math.Inf(1)
		for i := range n + 1 {
			p := between(a, b, float64(i)/n)
			for j := range n + 1 {
				best = min(best, r3.Norm(r3.Sub(p, between(c, d, float64(j)/n))))
			}
		}
		step := (r3.Norm(r3.Sub(b, a)) + r3.Norm(r3.Sub(d, c))) / (2 * n)
		if got > best+1e-6 || got < best-step-1e-9 {
			t.Fatalf("%g, the nearest samples are %g apart, steps %g", got, best, step)
		}
		if other := segmentDistance(d, c, b, a); math.Abs(other-got) > 1e-6 {
			t.Fatalf("%g, the other way round %g", got, other)
		}
	})
}

// gonum's Nelder-Mead over the two places on the segments finds the same.
func TestSegmentDistanceByOptimiser(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := segments(t)
		best := math.Inf(1)
		for _, start := range [][]float64{{1.5, 1.5}, {0.5, 2.5}} {
			found, err := optimize.Minimize(optimize.Problem{Func: func(x []float64) float64 {
				s, u := 0.5-0.5*math.Cos(x[0]), 0.5-0.5*math.Cos(x[1])
				return r3.Norm2(r3.Sub(between(a, b, s), between(c, d, u)))
			}}, start, nil, &optimize.NelderMead{})
			if err != nil {
				t.Fatal(err)
			}
			best = min(best, math.Sqrt(found.F))
		}
		if got := segmentDistance(a, b, c, d); got > best+1e-6 || got < best-1e-3 {
			t.Fatalf("%g, Nelder-Mead %g", got, best)
		}
	})
}

// The signed distance from a box is what points sampled along the segment and
// clamped to the box give; a bound that ends the search early is a bound.
func TestSegmentFromBox(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := segments(t)
		half := r3.Vec{X: 0.1 + math.Abs(c.X), Y: 0.1 + math.Abs(c.Y), Z: 0.1 + math.Abs(c.Z)}
		pose := urdf.FromRPY([3]float64{d.X, d.Y, d.Z}, [3]float64{c.X, d.Y, c.Z})
		inverse := pose.Inverse()
		s := newSegment(a, b, 0.05)
		const n = 4000
		best := math.Inf(1)
		for i := range n + 1 {
			at := between(a, b, float64(i)/n)
			p := inverse.Apply([3]float64{at.X, at.Y, at.Z})
			h := [3]float64{half.X, half.Y, half.Z}
			outside, depth := 0.0, math.Inf(1)
			for k := range p {
				e := p[k] - math.Min(math.Max(p[k], -h[k]), h[k])
				outside += e * e
				depth = min(depth, h[k]-math.Abs(p[k]))
			}
			if outside > 0 {
				best = min(best, math.Sqrt(outside))
			} else {
				best = min(best, -depth)
			}
		}
		step := r3.Norm(r3.Sub(b, a)) / n
		got := s.fromBox(&inverse, half, math.Inf(1)) + s.radius
		if got > best+1e-4 || got < best-step-1e-9 {
			t.Fatalf("%g, sampled %g", got, best)
		}
		enough := rapid.Float64Range(-1, 3).Draw(t, "enough")
		if bound := s.fromBox(&inverse, half, enough) + s.radius; bound > got+1e-9 || got < enough-s.radius && math.Abs(bound-got) > 1e-9 {
			t.Fatalf("%g where %g was enough; the distance is %g", bound, enough, got)
		}
	})
}

// Apart never says more than there is.
func TestApartIsABound(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c, d := segments(t)
		s, o := newSegment(a, b, 0.3), newSegment(c, d, 0.1)
		if s.apart(&o) > s.distance(&o)+1e-9 {
			t.Fatalf("at least %g apart, distance %g", s.apart(&o), s.distance(&o))
		}
	})
}

// The pairs of one arm that are not checked need none: they overlap in every pose,
// next to their joint, or in none.
func TestUncheckedPairsTouchAlwaysOrNever(t *testing.T) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arm := cobotMagic()[0]
	b, err := newArmBody(robot, &arm, &ArmMount{Base: "fl_base_link", Tool: "fl_tool0", Mount: urdf.Identity()}, 0)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(17, 1))
	const poses = 3000
	touching := map[[2]string]int{}
	for range poses {
		q := make([]float64, len(arm.Joints))
		for i, j := range arm.Joints {
			q[i] = j.Limits.Lower + rng.Float64()*(j.Limits.Upper-j.Limits.Lower)
		}
		b.move(q)
		now := map[[2]string]bool{}
		for i := range b.segments {
			for k := range b.segments {
				// Links that no joint moves against each other, fingers apart, are one body.
				if b.moved[i] > b.moved[k] && !foldsOnto(b.moved[i], b.moved[k]) && b.segments[i].distance(&b.segments[k]) < 0 {
					now[[2]string{b.capsules[i].Link, b.capsules[k].Link}] = true
				}
			}
		}
		for pair := range now {
			touching[pair]++
		}
	}
	for pair, n := range touching {
		if n != poses {
			t.Errorf("%v overlap in %d of %d poses and are not checked", pair, n, poses)
		}
	}
	if len(touching) == 0 {
		t.Error("no pair was looked at")
	}
}

func BenchmarkSegmentDistance(b *testing.B) {
	p := [4]r3.Vec{{X: 0.1, Y: 0.2}, {X: 0.4, Z: 0.3}, {Y: -0.5, Z: 0.2}, {X: 0.2, Y: -0.2, Z: 0.1}}
	for b.Loop() {
		segmentDistance(p[0], p[1], p[2], p[3])
	}
}
