package control_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/optimize"
	"gonum.org/v1/gonum/stat"

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
			if tip == "fl_link6" {
				if start.reach != 0.2 {
					continue
				}
				start.poses = 2_000
			}
			poses := float64(start.poses)
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
