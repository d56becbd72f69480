package control_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/stat"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/urdf"
)

func armChain(t testing.TB, tip string) *urdf.Chain {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	chain, err := robot.Chain("fl_base_link", tip)
	if err != nil {
		t.Fatal(err)
	}
	return chain
}

func newIK(t testing.TB, tip string, change func(*control.IKConfig)) (*control.IK, control.IKConfig) {
	t.Helper()
	chain := armChain(t, tip)
	cfg := control.DefaultIKConfig(chain)
	if change != nil {
		change(&cfg)
	}
	k, err := control.NewIK(chain, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return k, cfg
}

// working is a pose above the table, far from singularities and limits.
func working() []float64 { return []float64{0, 1.35, -1.15, 0, 1.1, 0} }

// drawPose draws joint positions within the limits.
func drawPose(rng *rand.Rand, cfg *control.IKConfig) []float64 {
	q := make([]float64, len(cfg.Lower))
	for i := range q {
		q[i] = cfg.Lower[i] + rng.Float64()*(cfg.Upper[i]-cfg.Lower[i])
	}
	return q
}

// off returns how far the tool at q is from target, computed without the IK.
func off(chain *urdf.Chain, q []float64, target urdf.Transform) (position, rotation float64) {
	tip := chain.Forward(q)
	return math.Hypot(math.Hypot(tip.P[0]-target.P[0], tip.P[1]-target.P[1]), tip.P[2]-target.P[2]), tip.AngleTo(target)
}

func within(q []float64, cfg *control.IKConfig) bool {
	for i, v := range q {
		if !(v >= cfg.Lower[i] && v <= cfg.Upper[i]) {
			return false
		}
	}
	return true
}

// Reachable poses, ten thousand each of near and far, of which the solver is told the tool's frame
// only. What it says of its result is checked against the forward kinematics.
func TestIKRoundTrip(t *testing.T) {
	for _, tip := range []string{"fl_tool0", "fl_link6"} {
		for _, start := range []struct {
			name  string
			poses int
			reach float64 // from the solution, rad each joint; 0: the working pose
			floor float64 // of the share that is reached
		}{
			{"near (0.05 rad)", 2_000, 0.05, 1},
			{"near (0.2 rad)", 10_000, 0.2, 0.996},
			{"near (0.5 rad)", 2_000, 0.5, 0.96},
			{"far (one working pose)", 10_000, 0, 0.64},
		} {
			poses := float64(start.poses)
			if tip == "fl_link6" && start.reach != 0.2 {
				continue
			}
			t.Run(tip+" from "+start.name, func(t *testing.T) {
				t.Parallel()
				k, cfg := newIK(t, tip, nil)
				rng := rand.New(rand.NewPCG(7, 1))
				fits := map[control.Fit]int{}
				var position, rotation, steps []float64
				nearly := 0.0 // within 1 mm and 0.01 rad
				for range start.poses {
					want := drawPose(rng, &cfg)
					q := working()
					if start.reach > 0 {
						for i := range q {
							q[i] = min(max(want[i]+start.reach*(2*rng.Float64()-1), cfg.Lower[i]), cfg.Upper[i])
						}
					}
					target := k.Chain().Forward(want)
					result := k.Solve(target, q)
					p, r := off(k.Chain(), q, target)
					if math.Abs(p-result.Position) > 1e-9 || math.Abs(r-result.Rotation) > 1e-7 {
						t.Fatalf("says %+v, is %g m and %g rad off", result, p, r)
					}
					if !within(q, &cfg) {
						t.Fatalf("%v is beyond the limits", q)
					}
					if reached := p <= cfg.PositionTolerance && r <= cfg.RotationTolerance; reached != (result.Fit == control.Reached) {
						t.Fatalf("says %v, is %g m and %g rad off", result.Fit, p, r)
					}
					fits[result.Fit]++
					steps = append(steps, float64(result.Iterations))
					if result.Fit == control.Reached {
						position, rotation = append(position, p), append(rotation, r)
					}
					if p < 1e-3 && r < 0.01 {
						nearly++
					}
				}
				slices.Sort(position)
				slices.Sort(rotation)
				share := float64(fits[control.Reached]) / poses
				t.Logf("%s from %s: %.2f %% reached (%.2f %% within 1 mm and 0.01 rad) %v; residual median %.1e m %.1e rad, largest %.1e m %.1e rad; %.1f steps",
					tip, start.name, 100*share, 100*nearly/poses, fits,
					stat.Quantile(0.5, stat.Empirical, position, nil), stat.Quantile(0.5, stat.Empirical, rotation, nil),
					position[len(position)-1], rotation[len(rotation)-1], stat.Mean(steps, nil))
				if share < start.floor {
					t.Errorf("%.2f %% reached, want %.2f", 100*share, 100*start.floor)
				}
			})
		}
	}
}

// What a single descent from afar misses lies on another branch: starts drawn
// at random find it, so it is the way that is missing and not the solution.
func TestIKFromFarMissesOnlyBranches(t *testing.T) {
	const poses, starts = 1000, 30
	k, cfg := newIK(t, "fl_tool0", nil)
	rng := rand.New(rand.NewPCG(7, 2))
	first, any := 0, 0
	for range poses {
		target := k.Chain().Forward(drawPose(rng, &cfg))
		q := working()
		for s := range starts {
			if k.Solve(target, q).Fit == control.Reached {
				any++
				if s == 0 {
					first++
				}
				break
			}
			q = drawPose(rng, &cfg)
		}
	}
	t.Logf("%d of %d poses reached from the working pose, %d with up to %d random starts", first, poses, any, starts)
	if any < poses*995/1000 {
		t.Errorf("%d of %d poses reached", any, poses)
	}
}

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

// A target out of reach: the arm comes as near as any optimiser does, says how
// far off it is, and stays there when asked again.
func TestIKOutOfReach(t *testing.T) {
	k, cfg := newIK(t, "fl_tool0", func(c *control.IKConfig) { c.RotationLength = 0 })
	chain := k.Chain()
	for _, p := range [][3]float64{{0.9, 0.1, 0.3}, {0.6, 0.6, 0.4}, {0.1, 0, 1.2}, {0.7, -0.5, 0}} {
		target := urdf.Identity()
		target.P = p
		q := working()
		result := k.Solve(target, q)
		if result.Fit == control.Reached {
			t.Fatalf("%v: %+v", p, result)
		}
		// gonum's Nelder-Mead over the same box, folded back at its edges.
		fold := func(x []float64) []float64 {
			out := make([]float64, len(x))
			for i, v := range x {
				out[i] = cfg.Lower[i] + (cfg.Upper[i]-cfg.Lower[i])*(0.5-0.5*math.Cos(v))
			}
			return out
		}
		best := math.Inf(1)
		for _, x0 := range [][]float64{{1.5, 1.3, 1.5, 1.5, 1.5, 1.5}, {1.5, 2, 2.5, 1.5, 1, 1.5}, {2, 1, 2, 1.5, 2, 1.5}} {
			found, err := optimize.Minimize(optimize.Problem{Func: func(x []float64) float64 {
				d, _ := off(chain, fold(x), target)
				return d
			}}, x0, &optimize.Settings{FuncEvaluations: 20000}, &optimize.NelderMead{})
			if err != nil {
				t.Fatal(err)
			}
			best = min(best, found.F)
		}
		t.Logf("%v: %v, %.4f m off; Nelder-Mead %.4f m", p, result.Fit, result.Position, best)
		if result.Position > best+1e-3 {
			t.Errorf("%v: %.4f m off, %.4f is possible", p, result.Position, best)
		}
		before := slices.Clone(q)
		if k.Solve(target, q); chebyshev(q, before) > 1e-2 {
			t.Errorf("%v: moved on from %v to %v", p, before, q)
		}
	}
}

func chebyshev(a, b []float64) float64 {
	d := 0.0
	for i := range a {
		d = max(d, math.Abs(a[i]-b[i]))
	}
	return d
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

// A tool whose roll is free comes with its z axis where it should be.
func TestIKFreeRoll(t *testing.T) {
	k, cfg := newIK(t, "fl_tool0", func(c *control.IKConfig) { c.FreeRoll = true })
	rng := rand.New(rand.NewPCG(7, 5))
	reached := 0
	for range 1000 {
		want := drawPose(rng, &cfg)
		q := slices.Clone(want)
		for i := range q {
			q[i] = min(max(q[i]+0.2*(2*rng.Float64()-1), cfg.Lower[i]), cfg.Upper[i])
		}
		target := k.Chain().Forward(want).Mul(urdf.FromRotationVector([3]float64{0, 0, 6 * rng.Float64()}))
		if k.Solve(target, q).Fit != control.Reached {
			continue
		}
		reached++
		tip := k.Chain().Forward(q)
		z := tip.R[2]*target.R[2] + tip.R[5]*target.R[5] + tip.R[8]*target.R[8]
		if p, _ := off(k.Chain(), q, target); p > 1e-4 || z < math.Cos(1e-3) {
			t.Fatalf("%g m off, z axes at %g", p, math.Acos(z))
		}
	}
	if reached < 990 {
		t.Errorf("%d of 1000 reached", reached)
	}
}

func TestIKRefusesNumbersThatAreNotFinite(t *testing.T) {
	k, _ := newIK(t, "fl_tool0", nil)
	good := k.Chain().Forward(working())
	for name, call := range map[string]func(q []float64) control.IKResult{
		"position": func(q []float64) control.IKResult { b := good; b.P[1] = math.NaN(); return k.Solve(b, q) },
		"rotation": func(q []float64) control.IKResult { b := good; b.R[4] = math.Inf(1); return k.Follow(b, 0.1, q) },
		"time":     func(q []float64) control.IKResult { return k.Follow(good, math.NaN(), q) },
		"no time":  func(q []float64) control.IKResult { return k.Follow(good, 0, q) },
		"joints":   func(q []float64) control.IKResult { q[2] = math.NaN(); return k.Solve(good, q) },
	} {
		q := working()
		result := call(q)
		if result.Fit != control.Unreachable || !math.IsInf(result.Position, 1) {
			t.Errorf("%s: %+v", name, result)
		}
		if name != "joints" && !slices.Equal(q, working()) {
			t.Errorf("%s: joints went to %v", name, q)
		}
	}
}

func TestIKConfigNamesWhatIsWrong(t *testing.T) {
	chain := armChain(t, "fl_tool0")
	for field, change := range map[string]func(*control.IKConfig){
		"joint 3":            func(c *control.IKConfig) { c.Lower[2] = 1 },
		"joint 2":            func(c *control.IKConfig) { c.Velocity[1] = 0 },
		"6 joints":           func(c *control.IKConfig) { c.Upper = c.Upper[:3] },
		"posture":            func(c *control.IKConfig) { c.PostureWeight = 1 },
		"rotation_length":    func(c *control.IKConfig) { c.RotationLength = -1 },
		"position_tolerance": func(c *control.IKConfig) { c.PositionTolerance = 0 },
		"singular":           func(c *control.IKConfig) { c.Singular = math.NaN() },
		"max_damping":        func(c *control.IKConfig) { c.MaxDamping = math.Inf(1) },
		"slowest":            func(c *control.IKConfig) { c.Slowest = 2 },
		"iterations":         func(c *control.IKConfig) { c.Iterations = 0 },
	} {
		cfg := control.DefaultIKConfig(chain)
		change(&cfg)
		if _, err := control.NewIK(chain, cfg); err == nil || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
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

func BenchmarkSolveFar(b *testing.B) {
	k, cfg := newIK(b, "fl_tool0", nil)
	rng := rand.New(rand.NewPCG(1, 1))
	var targets []urdf.Transform
	for range 100 {
		targets = append(targets, k.Chain().Forward(drawPose(rng, &cfg)))
	}
	q, i, steps := make([]float64, 6), 0, 0
	b.ReportAllocs()
	for b.Loop() {
		copy(q, working())
		steps += k.Solve(targets[i%len(targets)], q).Iterations
		i++
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
