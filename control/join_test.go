package control

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy/action"
)

// rule sets a hand-over in a rig's configuration.
func rule(h HandOver) func(*Config) {
	return func(c *Config) { c.Live.HandOver = h }
}

// wave is a smooth motion of every joint of the arms, s after the start.
func wave(joint int, s float64) float64 {
	p := home[joint%7]
	if joint%7 != 6 {
		p += 0.25 * (1 - math.Cos((0.9+0.1*float64(joint%7))*s))
	}
	return p
}

// predicted is a chunk of the wave, as a policy makes it from an observation: off
// by an error of its own that it keeps (bias) and one of every value (noise).
func (r *rig) predicted(rows int, rate, bias, noise float64, random *rand.Rand) Trajectory {
	t := Trajectory{Stamp: r.now, Rate: rate, Epoch: r.e.Epoch()}
	off := make([]float64, len(r.e.joints))
	for j := range off {
		off[j] = bias * random.NormFloat64()
	}
	for k := range rows {
		s := r.now.Sub(epoch0).Seconds() + float64(k+1)/rate
		for j := range off {
			p := wave(j, s)
			if !r.e.joints[j].Gripper {
				p += off[j] + noise*random.NormFloat64()
			}
			t.Values = append(t.Values, p)
		}
	}
	return t
}

// ramp is a chunk that moves joint1 by step a row, from where the plan is.
func (r *rig) ramp(rows int, from, step float64) Trajectory {
	t := r.chunk(rows, 20, 0)
	for k := range rows {
		t.Values[k*14] = from + step*float64(k+1)
	}
	return t
}

func TestBlendFadesFromTheOldChunkToTheNew(t *testing.T) {
	r := newRig(t, rule(Blend))
	r.enable()
	r.give(r.ramp(40, home[0], 0.01), OK)
	r.run(time.Second)
	// The new one is 0.05 rad off and half as fast, and knows that 20 rows are over.
	c := r.ramp(40, home[0]+0.25, 0.005)
	old := r.e.plan
	values := append([]float64(nil), old.values...)
	r.give(c, OK)
	p := &r.e.plan
	x := p.x(r.e.progress.total)
	for k := range 10 {
		// Row k of the new chunk is due with row k+20 of the old one.
		share := max(0, 1-(float64(k)-x)/5)
		want := share*values[(k+20)*14] + (1-share)*c.Values[k*14]
		if got := p.values[k*14]; math.Abs(got-want) > 1e-6 {
			t.Errorf("row %d, at %v, is %v, want %v: old %v, new %v", k, x, got, want, values[(k+20)*14], c.Values[k*14])
		}
	}
	r.run(time.Second)
}

func TestEnsembleIsACTsWeightedMean(t *testing.T) {
	const decay = 0.3
	r := newRig(t, func(c *Config) { c.Live.HandOver, c.Live.EnsembleDecay = Ensemble, decay })
	r.enable()
	start := r.now
	var chunks []Trajectory
	for i := range 6 {
		c := r.ramp(30, home[0]+0.005*float64(i*i), 0.004)
		chunks = append(chunks, c)
		r.give(c, OK)
		r.run(100 * time.Millisecond)
	}
	// By the paper, for the time of each row of the newest: the oldest chunk first.
	p := &r.e.plan
	newest := chunks[5]
	for k := 2; k < 30; k++ {
		due := newest.Stamp.Sub(start).Seconds() + float64(k+1)/20
		sum, weights, i := 0.0, 0.0, 0
		for _, c := range chunks {
			row := math.Round((due-c.Stamp.Sub(start).Seconds())*20) - 1
			if row < 0 || row > 29 {
				continue
			}
			w := math.Exp(-decay * float64(i))
			sum, weights, i = sum+w*c.Values[int(row)*14], weights+w, i+1
		}
		// The first chunk began a tick late, at the first command.
		if got, want := p.values[k*14], sum/weights; math.Abs(got-want) > 1e-3 {
			t.Errorf("row %d of %d chunks: %v, want %v", k, i, got, want)
		}
	}
	r.e.Flush(r.now)
	if len(r.e.kept) != 0 {
		t.Error("chunks from before a reset are kept")
	}
}

// After a halt nobody means the chunks from before it any more, however long their
// rows would last: progress stands while the arms do.
func TestEnsembleForgetsWhatWasBeforeAHalt(t *testing.T) {
	r := newRig(t, rule(Ensemble))
	r.enable()
	r.give(r.chunk(40, 20, 0.02), OK)
	r.run(300 * time.Millisecond)
	r.cameras = false
	r.run(time.Minute)
	stands := r.pose()
	r.cameras = true
	r.tick(r.e.Period())
	r.give(r.chunk(8, 20, 0), OK)
	r.run(300 * time.Millisecond)
	for j, p := range r.pose() {
		if math.Abs(p-stands[j]) > 1e-6 {
			t.Errorf("%s went on from %v to %v", r.e.names[j], stands[j], p)
		}
	}
}

func TestEnsembleKeepsABoundedNumberOfChunks(t *testing.T) {
	r := newRig(t, rule(Ensemble))
	r.enable()
	for range 300 {
		r.give(r.ramp(100, home[0], 0.001), OK)
		r.run(20 * time.Millisecond)
	}
	if n := len(r.e.kept); n > maxKept {
		t.Errorf("%d chunks are kept", n)
	}
}

func TestANewInstructionHaltsOrFadesByParameter(t *testing.T) {
	for _, keep := range []bool{false, true} {
		r := newRig(t, func(c *Config) { c.Live.KeepOnInstruction = keep })
		r.enable()
		r.give(r.ramp(60, home[0], 0.01), OK)
		r.run(500 * time.Millisecond)
		before := r.ramp(60, home[0], 0.01) // of the old instruction, still being made
		r.e.NewInstruction(r.now)
		r.give(before, DroppedEpoch)
		r.tick(r.e.Period())
		if keep != (r.c.Mode == Moving) || !keep && r.c.Code != Flushed {
			t.Fatalf("keep %v: %v by %v", keep, r.c.Mode, r.c.Code)
		}
		r.run(300 * time.Millisecond)
		old := append([]float64(nil), r.e.plan.values...)
		r.give(r.ramp(60, r.pose()[0]+0.06, 0.01), OK)
		if p := &r.e.plan; keep && math.Abs(p.values[0]-old[16*14]) > 0.02 {
			t.Errorf("row 0 is %v, of the old chunk %v: not faded", p.values[0], old[16*14])
		}
		r.run(500 * time.Millisecond)
		// Only once: the next one is taken as it is.
		c := r.ramp(60, r.pose()[0], 0.01)
		r.give(c, OK)
		if got := r.e.plan.values[0]; got != c.Values[0] {
			t.Errorf("keep %v: row 0 is %v, not %v", keep, got, c.Values[0])
		}
	}
}

func TestSyncAsksForTheNextChunkWhenThePlanIsConsumed(t *testing.T) {
	r := newRig(t, rule(Sync))
	r.enable()
	if at := r.e.NextInference(r.now); !at.Equal(r.now) {
		t.Fatalf("at rest wanted in %v", at.Sub(r.now))
	}
	for range 3 {
		r.give(r.ramp(10, r.pose()[0], 0.01), OK)
		r.run(200 * time.Millisecond)
		if in := r.e.NextInference(r.now).Sub(r.now); (in - 300*time.Millisecond).Abs() > 25*time.Millisecond {
			t.Fatalf("after 0.2 of 0.5 s wanted in %v", in)
		}
		r.run(320 * time.Millisecond)
		if in := r.e.NextInference(r.now).Sub(r.now); in != 0 || r.c.Mode == Moving {
			t.Fatalf("%v, wanted in %v", r.c.Mode, in)
		}
		r.run(400 * time.Millisecond) // inference
	}
}

func TestOpenLoopAsksForTheNextChunkAfterItsRows(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Live.HandOver, c.Live.OpenLoopRows = OpenLoop, 6 })
	r.enable()
	r.give(r.ramp(16, home[0], 0.01), OK)
	r.run(100 * time.Millisecond)
	if in := r.e.NextInference(r.now).Sub(r.now); (in - 200*time.Millisecond).Abs() > 25*time.Millisecond {
		t.Fatalf("after 2 of 6 rows wanted in %v", in)
	}
	r.run(220 * time.Millisecond)
	if in := r.e.NextInference(r.now).Sub(r.now); in != 0 {
		t.Fatalf("after 6 rows wanted in %v", in)
	}
	// The rest goes on during inference.
	c := r.ramp(16, home[0]+0.06, 0.01)
	r.run(300 * time.Millisecond)
	if r.c.Mode != Moving {
		t.Fatal(r.c.Mode)
	}
	r.give(c, OK)
	// Of the new one, 6 rows are executed again before it asks.
	if in := r.e.NextInference(r.now).Sub(r.now); (in - 300*time.Millisecond).Abs() > 75*time.Millisecond {
		t.Fatalf("of a new chunk wanted in %v", in)
	}
}

func TestEveryOtherRuleWantsTheNextChunkAtOnce(t *testing.T) {
	for _, h := range []HandOver{Replace, Blend, Ensemble, Infill} {
		r := newRig(t, rule(h))
		r.enable()
		r.give(r.ramp(40, home[0], 0.01), OK)
		r.run(200 * time.Millisecond)
		if at := r.e.NextInference(r.now); !at.Equal(r.now) {
			t.Errorf("%v: wanted in %v", h, at.Sub(r.now))
		}
	}
}

func TestCommitTellsWhichRowsWillBeExecuted(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Live.HandOver, c.CommandRate = Infill, 100 })
	r.enable()
	var c Commitment
	r.e.Commit(&c, r.now, r.now, 300*time.Millisecond, 20, 30)
	if c.Frozen != 0 || c.Soft != 0 {
		t.Fatalf("standing arms are committed to %+v", c)
	}
	r.give(r.ramp(40, home[0], 0.01), OK) // 2 s
	r.run(time.Second)
	r.e.Commit(&c, r.now, r.now, 310*time.Millisecond, 20, 30)
	if c.Frozen != 7 || c.Soft != 13 || len(c.Values) != 20*14 || len(c.Confidence) != 20 || c.Epoch != r.e.Epoch() {
		t.Fatalf("%d frozen, %d soft, %d values", c.Frozen, c.Soft, len(c.Values))
	}
	for k := range 20 {
		if got, want := c.Values[k*14], home[0]+0.01*float64(20+k+1); math.Abs(got-want) > 1e-6 {
			t.Errorf("row %d is %v, planned %v", k, got, want)
		}
		switch want := 0.9 * (1 - float64(k-7)/13); {
		case k < 7 && c.Confidence[k] != 1, k >= 7 && math.Abs(c.Confidence[k]-want) > 1e-12:
			t.Errorf("row %d has confidence %v", k, c.Confidence[k])
		}
	}
	// They come true.
	begin := r.now
	for k := range 7 {
		r.run(50 * time.Millisecond)
		if got := r.pose()[0]; math.Abs(got-c.Values[k*14]) > 1e-3 {
			t.Errorf("%v after the observation the arm is at %v, committed was %v", r.now.Sub(begin), got, c.Values[k*14])
		}
	}
	// An expectation longer than the plan freezes what there is, not more.
	r.e.Commit(&c, r.now, r.now, 10*time.Second, 20, 30)
	if c.Frozen != 13 || c.Soft != 0 {
		t.Errorf("%d frozen, %d soft of 13 rows left", c.Frozen, c.Soft)
	}
	r.e.Commit(&c, r.now, r.now, 10*time.Second, 20, 4)
	if c.Frozen != 4 {
		t.Errorf("%d frozen of a chunk of 4", c.Frozen)
	}
	// A slowed arm executes less of it.
	live := r.e.Live()
	live.SpeedScale = 0.5
	_ = r.e.SetLive(live)
	r.run(300 * time.Millisecond)
	r.e.Commit(&c, r.now, r.now, 200*time.Millisecond, 20, 30)
	if c.Frozen != 2 {
		t.Errorf("%d rows frozen for 0.2 s at half speed", c.Frozen)
	}
}

// The rows that a decoder was given come back as the centres of their bins. What
// that leaves at the seam, up to half a bin, is measured here with the bins of
// OpenVLA over a joint's range, and fades.
func TestTheHalfBinAtTheSeamIsBlendedOut(t *testing.T) {
	bins := action.NewBins(256)
	const low, high = -1.6, 1.7 // of the statistics, rad
	quantised := func(v float64) float64 {
		return low + (bins.Centre(bins.Of(2*(v-low)/(high-low)-1))+1)/2*(high-low)
	}
	half := (high - low) / 255 / 2
	measure := func(seamRows int) (jump float64, r *rig) {
		r = newRig(t, func(c *Config) { c.Live.HandOver, c.Live.SeamRows = Infill, seamRows })
		r.enable()
		random := rand.New(rand.NewPCG(1, 2))
		r.give(r.predicted(30, 20, 0, 0, random), OK)
		r.run(500 * time.Millisecond)
		var c Commitment
		for range 20 {
			r.e.Commit(&c, r.now, r.now, 400*time.Millisecond, 20, 30)
			next := r.predicted(30, 20, 0, 0, random)
			for i := range c.Frozen * 14 { // a decoder keeps what it is given
				if i%7 != 6 {
					next.Values[i] = quantised(c.Values[i])
				}
			}
			r.run(200 * time.Millisecond)
			before := r.e.plan.place(r.e.plan.x(r.e.progress.total), Cubic)
			was := make([]float64, 14)
			for j := range was {
				was[j] = r.e.plan.state(&before, j, 14, false).p
			}
			r.give(next, OK)
			after := r.e.plan.place(r.e.plan.x(r.e.progress.total), Cubic)
			for j := range was {
				if j%7 != 6 {
					jump = max(jump, math.Abs(r.e.plan.state(&after, j, 14, false).p-was[j]))
				}
			}
			r.run(100 * time.Millisecond)
		}
		return jump, r
	}
	plain, _ := measure(0)
	faded, r := measure(3)
	t.Logf("half a bin is %.4f rad; the path jumps by %.4f rad at the seam, with 3 rows to fade by %.4f", half, plain, faded)
	if plain < half/2 || plain > half*1.3 {
		t.Errorf("without fading the seam shows %v rad; half a bin is %v", plain, half)
	}
	if faded > 1e-9 {
		t.Errorf("fading leaves %v of %v rad", faded, plain)
	}
	if m := r.e.Status().Mode; m != Moving {
		t.Error(m)
	}
}

func TestASlowModelWithEnoughRowsDrivesWithoutAHalt(t *testing.T) {
	// 2.56 s of motion, a chunk every 1.2 s, from what was seen 1.2 s ago.
	const rate, rows = 25.0, 64
	for h := Replace; h <= Infill; h++ {
		r := newRig(t, rule(h))
		r.enable()
		random := rand.New(rand.NewPCG(3, 4))
		r.give(r.predicted(rows, rate, 0.01, 0.002, random), OK)
		r.run(1200 * time.Millisecond)
		var halts, commands int
		for range 10 {
			c := r.predicted(rows, rate, 0.01, 0.002, random)
			for range 60 {
				r.tick(r.e.Period()) // the checker looks at position, speed, acceleration and jerk
				if commands++; r.c.Mode != Moving {
					halts++
				}
			}
			r.give(c, OK)
		}
		off := 0.0
		for j, p := range r.pose() {
			off = max(off, math.Abs(p-wave(j, r.now.Sub(epoch0).Seconds())))
		}
		if halts > 0 || off > 0.1 {
			t.Errorf("%v: %d of %d commands stand, %v rad from the motion at the end", h, halts, commands, off)
		}
	}
}

// A disagreement at every hand-over, both ways, stays within the limits by every
// rule; the checker looks.
func TestChunksThatDisagreeAreJoinedWithinTheLimitsByEveryRule(t *testing.T) {
	for h := Replace; h <= OpenLoop; h++ {
		for kind := Cubic; kind <= Quintic; kind++ {
			t.Run(fmt.Sprint(h, kind), func(t *testing.T) {
				r := newRig(t, func(c *Config) { c.Live.HandOver, c.Live.Interpolation = h, kind })
				r.enable()
				random := rand.New(rand.NewPCG(uint64(h), 5))
				for range 30 {
					r.give(r.predicted(30, 20, 0.1, 0.02, random), OK)
					r.run(100 * time.Millisecond)
				}
				if r.c.Mode != Moving {
					t.Fatal(r.c.Mode, r.c.Code)
				}
			})
		}
	}
}
