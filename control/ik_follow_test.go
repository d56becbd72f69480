package control_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/urdf"
)

// smooth draws a joint path of sines around a pose, at the given rate, in rad.
func smooth(rng *rand.Rand, cfg *control.IKConfig, centre []float64, reach, rate float64, rows int) [][]float64 {
	path := make([][]float64, rows+1)
	for r := range path {
		path[r] = make([]float64, len(centre))
	}
	for i := range centre {
		phase, hz := 2*math.Pi*rng.Float64(), 0.1+0.3*rng.Float64()
		for r := range path {
			v := centre[i] + reach*math.Sin(phase+2*math.Pi*hz*float64(r)/rate)
			path[r][i] = min(max(v, cfg.Lower[i]), cfg.Upper[i])
		}
	}
	return path
}

// Along the tool's way of a smooth joint path away from singularities, Follow
// gives that joint path back: it neither lags nor changes branch.
func TestFollowReturnsTheJointPath(t *testing.T) {
	k, cfg := newIK(t, "fl_tool0", nil)
	rng := rand.New(rand.NewPCG(7, 3))
	worst, worstTool := 0.0, 0.0
	for range 100 {
		path := smooth(rng, &cfg, working(), 0.4, 20, 60)
		q := slices.Clone(path[0])
		for _, want := range path[1:] {
			target := k.Chain().Forward(want)
			if result := k.Follow(target, 0.05, q); result.Fit != control.Reached {
				t.Fatalf("%+v", result)
			}
			p, _ := off(k.Chain(), q, target)
			worstTool = max(worstTool, p)
			for i := range q {
				worst = max(worst, math.Abs(q[i]-want[i]))
			}
		}
	}
	t.Logf("largest difference of a joint %.1e rad, of the tool %.1e m", worst, worstTool)
	if worst > 0.02 {
		t.Errorf("a joint is %g rad from its path", worst)
	}
}

// Whatever is asked: no joint is faster than its speed, none is moved beyond a
// limit, none that starts beyond moves further out, the answer is finite, and
// the same question has the same answer.
func TestFollowKeepsSpeedsAndLimits(t *testing.T) {
	k, cfg := newIK(t, "fl_tool0", nil)
	again, _ := newIK(t, "fl_tool0", nil)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 4))
		q := drawPose(rng, &cfg)
		if beyond := rapid.IntRange(0, 12).Draw(t, "beyond"); beyond < 6 {
			q[beyond] = cfg.Upper[beyond] + 0.05
		}
		from := slices.Clone(q)
		target := k.Chain().Forward(q)
		if rapid.Bool().Draw(t, "far") {
			target = k.Chain().Forward(drawPose(rng, &cfg))
		}
		for i := range target.P {
			target.P[i] += rapid.Float64Range(-0.1, 0.1).Draw(t, "shift")
		}
		dt := rapid.SampledFrom([]float64{0.005, 0.02, 0.05, 0.1, 0.33}).Draw(t, "dt")
		result := k.Follow(target, dt, q)
		for i := range q {
			if d := math.Abs(q[i] - from[i]); !(d <= cfg.Velocity[i]*dt*(1+1e-9)) {
				t.Fatalf("joint %d moved %g rad in %g s", i+1, d, dt)
			}
			if q[i] > max(cfg.Upper[i], from[i]) || q[i] < min(cfg.Lower[i], from[i]) {
				t.Fatalf("joint %d from %g to %g, limits %g to %g", i+1, from[i], q[i], cfg.Lower[i], cfg.Upper[i])
			}
		}
		if p, r := off(k.Chain(), q, target); math.Abs(p-result.Position) > 1e-9 || math.Abs(r-result.Rotation) > 1e-7 {
			t.Fatalf("says %+v, is %g m and %g rad off", result, p, r)
		}
		if second := again.Follow(target, dt, from); second != result || !slices.Equal(from, q) {
			t.Fatalf("%+v, the second time %+v", result, second)
		}
	})
}

// Through the wrist's singularity, where joint 5 is 0 and joint 4 would have to
// turn at once: the tool keeps its place and turns up, straight through or, with
// a turn sideways, past it. Joints keep their speeds, the tool its place, and the
// motion is told to be slowed.
func TestFollowThroughSingularity(t *testing.T) {
	const dt, rows = 0.02, 400
	for name, c := range map[string]struct {
		q4   float64
		turn [3]float64 // rad/s
		out  float64    // where joint 5 must have come to, rad
		fast float64    // the fastest joint, rad/s
	}{
		"through": {0.02, [3]float64{0, -0.3, 0}, -0.2, 1},
		"past":    {0.4, [3]float64{0.1, -0.3, 0.1}, 0.2, 3 + 1e-9},
	} {
		k, cfg := newIK(t, "fl_tool0", nil)
		chain := k.Chain()
		q := []float64{0, 1.35, -1.15, c.q4, 0.25, 0}
		tip := chain.Forward(q)
		singular, fastest, furthest, lowest := 0, 0.0, 0.0, q[4]
		for range rows {
			w := [3]float64{c.turn[0] * dt, c.turn[1] * dt, c.turn[2] * dt}
			target := urdf.FromRotationVector(w).Mul(chain.Forward(q))
			target.P = tip.P
			before := slices.Clone(q)
			if k.Follow(target, dt, q).Fit == control.Singular {
				singular++
			}
			p, _ := off(chain, q, tip)
			fastest, furthest, lowest = max(fastest, chebyshev(q, before)/dt), max(furthest, p), min(lowest, q[4])
		}
		t.Logf("%s: slowed in %d of %d rows, fastest joint %.2f rad/s, tool at most %.1e m off its place, joint 5 down to %.2f", name, singular, rows, fastest, furthest, lowest)
		if singular == 0 || lowest > c.out || fastest > c.fast || furthest > 1e-3 || !within(q, &cfg) {
			t.Errorf("%s: %v", name, q)
		}
	}
}

// At a joint limit the arm says which joint holds it, and leaves again at once.
func TestFollowAtJointLimit(t *testing.T) {
	k, cfg := newIK(t, "fl_tool0", nil)
	chain := k.Chain()
	q := working()
	q[5] = cfg.Upper[5] - 0.01
	turn := func(angle float64) control.IKResult {
		return k.Follow(chain.Forward(q).Mul(urdf.FromRotationVector([3]float64{0, 0, angle})), 0.05, q)
	}
	var result control.IKResult
	for range 10 {
		result = turn(0.05)
	}
	if result.Fit != control.AtLimit || result.Joint != 5 || q[5] != cfg.Upper[5] {
		t.Fatalf("%+v at %v", result, q)
	}
	if result = turn(-0.05); result.Fit != control.Reached || q[5] > cfg.Upper[5]-0.04 {
		t.Errorf("on the way back: %+v at %v", result, q)
	}
}

func TestIKAllocatesNothing(t *testing.T) {
	k, cfg := newIK(t, "fl_tool0", nil)
	target := k.Chain().Forward(working())
	target.P[0] += 0.01
	far := k.Chain().Forward(drawPose(rand.New(rand.NewPCG(1, 1)), &cfg))
	q := working()
	if n := testing.AllocsPerRun(20, func() {
		copy(q, working())
		k.Follow(target, 0.05, q)
		k.Follow(far, 0.05, q)
		k.Solve(far, q)
	}); n != 0 {
		t.Errorf("%v allocations a run", n)
	}
}

// A row of a chunk: 5 mm and 0.02 rad on.
func BenchmarkFollow(b *testing.B) {
	k, _ := newIK(b, "fl_tool0", nil)
	start := working()
	target := urdf.FromRotationVector([3]float64{0, 0.02, 0}).Mul(k.Chain().Forward(start))
	target.P = k.Chain().Forward(start).P
	target.P[0] += 0.005
	q := make([]float64, 6)
	steps := 0
	b.ReportAllocs()
	for b.Loop() {
		copy(q, start)
		steps += k.Follow(target, 0.05, q).Iterations
	}
	b.ReportMetric(float64(steps)/float64(b.N), "steps/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps), "ns/step")
}

func ExampleIK() {
	robot, err := urdf.CobotMagic()
	if err != nil {
		panic(err)
	}
	chain, err := robot.Chain("fl_base_link", "fl_tool0")
	if err != nil {
		panic(err)
	}
	ik, err := control.NewIK(chain, control.DefaultIKConfig(chain))
	if err != nil {
		panic(err)
	}
	q := []float64{0, 1.35, -1.15, 0, 1.1, 0}
	target := chain.Forward(q)
	before := target.P[2]
	target.P[2] -= 0.01 // down by a centimetre within a tenth of a second
	result := ik.Follow(target, 0.1, q)
	fmt.Printf("%v within %.1f mm, the tool went down %.1f mm\n", result.Fit, 1e3*result.Position, 1e3*(before-chain.Forward(q).P[2]))
	// Output: reached within 0.0 mm, the tool went down 10.0 mm
}
