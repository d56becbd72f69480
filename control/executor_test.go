package control

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"
)

func TestNoCommandBeforeEnable(t *testing.T) {
	r := newRig(t, nil)
	r.sense()
	r.give(r.chunk(8, 20, 0.01), DroppedNotEnabled)
	r.run(time.Second)
	if r.commands != 0 || r.e.Status().Mode != Disabled {
		t.Fatalf("%d commands, mode %v", r.commands, r.e.Status().Mode)
	}
}

func TestEnableNeedsFreshFeedbackOfEveryArm(t *testing.T) {
	r := newRig(t, nil)
	if err := r.e.Enable(r.now); err == nil || !strings.Contains(err.Error(), `"left"`) {
		t.Fatalf("enabled without feedback: %v", err)
	}
	if err := r.e.Feedback(0, home, r.now, r.now); err != nil {
		t.Fatal(err)
	}
	if err := r.e.Enable(r.now); err == nil || !strings.Contains(err.Error(), `"right"`) {
		t.Fatalf("enabled without the right arm: %v", err)
	}
	r.sense()
	r.now = r.now.Add(r.cfg.FeedbackTimeout + time.Millisecond)
	if err := r.e.Enable(r.now); err == nil {
		t.Fatal("enabled with old feedback")
	}
	r.enable()
}

func TestEnableRefusesAPoseInTheWrongUnit(t *testing.T) {
	r := newRig(t, nil)
	r.measured[3] = 45 // degrees
	r.sense()
	if err := r.e.Enable(r.now); err == nil || !strings.Contains(err.Error(), "left/joint4") {
		t.Fatalf("enabled at 45 rad: %v", err)
	}
}

func TestStartsFromTheMeasuredPoseAndHoldsIt(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.tick(r.e.Period())
	if !r.c.First || r.c.Mode != Holding || r.c.Code != Waiting {
		t.Fatalf("first command %+v", r.c)
	}
	if !slices.Equal(r.c.Positions[:7], home) {
		t.Fatalf("first command %v, measured %v", r.c.Positions, home)
	}
	r.run(time.Second)
	if r.c.First || !slices.Equal(r.c.Positions[:7], home) {
		t.Fatalf("hold moved to %v", r.c.Positions)
	}
}

func TestAStopBeforeTheFirstCommandSendsNothing(t *testing.T) {
	for name, stop := range map[string]func(*rig){
		"estop":   func(r *rig) { r.e.Estop(r.now) },
		"disable": func(r *rig) { r.e.Disable(r.now) },
		"silence": func(r *rig) { r.feedback = false; r.now = r.now.Add(time.Second) },
	} {
		r := newRig(t, nil)
		r.enable()
		stop(r)
		r.run(time.Second)
		if r.commands != 0 {
			t.Errorf("%s: %d commands", name, r.commands)
		}
	}
}

func TestFirstCommandIsClampedAgainstAStop(t *testing.T) {
	r := newRig(t, nil)
	r.measured[1], r.measured[6] = -0.0027, -0.003 // as real arms report at rest
	r.enable()
	r.tick(r.e.Period())
	if r.c.Positions[1] != 0 || r.c.Positions[6] != 0 {
		t.Fatalf("joint2 %v, gripper %v", r.c.Positions[1], r.c.Positions[6])
	}
}

func TestAnArmEnabledOutsideItsLimitsMovesBackIn(t *testing.T) {
	// Not by itself, nor when it is stopped.
	r := newRig(t, nil)
	r.measured[1] = -0.3
	r.enable()
	for _, stop := range []func(time.Time){r.e.Flush, r.e.Estop, r.e.Disable} {
		r.run(2 * time.Second)
		if r.pose()[1] != -0.3 {
			t.Fatalf("joint2 at %v, %v", r.c.Positions[1], r.c.Mode)
		}
		stop(r.now)
	}
	r.enable()
	if err := r.e.Home(slices.Concat(home, home), r.now); err != nil {
		t.Fatal(err)
	}
	if r.run(8 * time.Second); r.c.Positions[1] != home[1] {
		t.Fatalf("home from outside ends at %v", r.c.Positions[1])
	}

	r = newRig(t, func(c *Config) { c.Layout[0].Joints[1].Limits.Velocity = 0.3 })
	r.measured[1] = -0.3
	r.enable()
	for range 20 { // a policy that follows the pose it sees
		c := r.chunk(8, 20, 0)
		for k := range 8 {
			c.Values[k*14+1] = r.measured[1] + 0.01*float64(k+1)
		}
		r.give(c, OK)
		r.run(100 * time.Millisecond)
		if r.e.Status().Mode != Moving {
			t.Fatalf("stopped by %v on the way back, at %v", r.e.Status().Code, r.c.Positions[1])
		}
	}
	if r.c.Positions[1] < 0 {
		t.Fatalf("joint2 still at %v", r.c.Positions[1])
	}
}

func TestAChunkIsFollowedByItsClock(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	c := r.chunk(20, 20, 0.01) // 0.2 rad/s, well within all limits
	r.give(c, OK)
	r.run(500 * time.Millisecond)
	want := home[0] + 0.01*10 // row 9 is due after 10 periods
	if got := r.c.Positions[0]; math.Abs(got-want) > 1e-4 {
		t.Fatalf("joint1 at %v, planned %v", got, want)
	}
	if s := r.e.Status(); s.Mode != Moving || s.Code != OK || (s.Left-500*time.Millisecond).Abs() > time.Microsecond || s.Pace != 1 {
		t.Fatalf("status %+v", s)
	}
}

func TestSilenceDeceleratesWithinOnePeriodThenHolds(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  func(*rig)
		code Code
		wait time.Duration
		mode Mode
	}{
		{"cameras", func(r *rig) { r.cameras = false }, ObservationStale, 500 * time.Millisecond, Holding},
		{"joints", func(r *rig) { r.feedback = false }, FeedbackStale, 200 * time.Millisecond, Held},
		{"policy", func(r *rig) {}, ChunkEnded, 800 * time.Millisecond, Holding},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.enable()
			r.give(r.chunk(16, 20, 0.02), OK)
			r.run(c.wait / 2)
			cut := c.wait
			if c.code == ChunkEnded {
				cut -= c.wait / 2
			}
			c.cut(r)
			r.run(cut)
			if r.c.Mode != Moving {
				t.Fatalf("%v by %v before its time", r.c.Mode, r.c.Code)
			}
			velocity, accel := r.moving()
			r.tick(r.e.Period())
			if r.c.Mode != Stopping || r.c.Code != c.code || !r.brakes(velocity, accel) {
				t.Fatalf("%v by %v, accelerating at %v after %v", r.c.Mode, r.c.Code, r.e.accel, accel)
			}
			r.run(time.Second)
			hold := r.pose()
			for j := range r.measured { // sagging does not drag the hold pose along
				r.measured[j] -= 0.02
				r.stuck[j] = true
			}
			r.run(time.Second)
			if !slices.Equal(r.pose(), hold) || r.e.Status().Mode != c.mode {
				t.Fatalf("hold moved or %v", r.e.Status().Mode)
			}
		})
	}
}

func TestAHaltEndsWithTheNextGoodChunkAndAStopDoesNot(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(4, 20, 0.02), OK)
	r.run(260 * time.Millisecond)
	if r.c.Mode != Stopping {
		t.Fatal(r.c.Mode)
	}
	r.give(r.chunk(8, 20, 0.02), OK)
	r.tick(r.e.Period())
	if r.c.Mode != Moving {
		t.Fatal(r.c.Mode)
	}
	r.feedback = false
	r.run(300 * time.Millisecond)
	r.feedback = true
	r.tick(r.e.Period())
	r.give(r.chunk(8, 20, 0.02), DroppedNotEnabled)
	r.run(time.Second)
	if r.e.Status().Mode != Held {
		t.Fatal(r.e.Status().Mode)
	}
	r.enable()
	r.give(r.chunk(8, 20, 0.02), OK)
}

func TestNothingFollowsAChunkThatIsNotFinite(t *testing.T) {
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		r := newRig(t, nil)
		r.enable()
		r.give(r.chunk(8, 20, 0.02), OK)
		r.run(100 * time.Millisecond)
		c := r.chunk(8, 20, 0.02)
		c.Values[3*14+9] = bad
		r.give(c, NonFinite)
		velocity, accel := r.moving()
		r.tick(r.e.Period())
		if r.c.Code != NonFinite || !r.brakes(velocity, accel) {
			t.Fatalf("%v, accelerating at %v after %v", r.c.Code, r.e.accel, accel)
		}
		r.give(r.chunk(8, 20, 0.02), DroppedNotEnabled)
		r.run(time.Second)
		if v := r.e.Events(nil); v[len(v)-1].Code != DroppedNotEnabled || !slices.ContainsFunc(v, func(v Event) bool { return v.Joint == "right/joint3" }) {
			t.Fatalf("events %v", v)
		}
		if r.e.Status().Mode != Held || r.count(NonFinite) != 1 {
			t.Fatal(r.e.Status())
		}
	}
}

func TestEstopWinsOnTheNextTick(t *testing.T) {
	stop := func(estop bool) (ticks int) {
		r := newRig(t, nil)
		r.enable()
		for range 3 {
			r.give(r.chunk(16, 20, 0.05), OK)
			r.run(200 * time.Millisecond)
		}
		fast := r.speed()
		velocity, accel := r.moving()
		if estop {
			r.e.Estop(r.now)
			r.give(r.chunk(16, 20, 0.05), DroppedNotEnabled)
		} else {
			r.e.Disable(r.now)
		}
		if err := r.e.Enable(r.now); err == nil {
			t.Fatal("enabled while the arms move")
		}
		r.tick(r.e.Period())
		if r.c.Mode != Stopping || estop && r.speed() >= fast || !r.brakes(velocity, accel) {
			t.Fatalf("%v at speed %v after %v", r.c.Mode, r.speed(), fast)
		}
		for ; r.speed() > 0; ticks++ {
			r.tick(r.e.Period())
		}
		return ticks
	}
	if hard, soft := stop(true), stop(false); hard >= soft {
		t.Fatalf("an e-stop takes %d ticks, Disable %d", hard, soft)
	}
}

func TestEstopIsClearedOnlyByEnable(t *testing.T) {
	r := newRig(t, nil)
	r.e.Estop(r.now) // before anything was ever sent
	r.run(time.Second)
	if r.commands != 0 || r.e.Status().Mode != Estopped {
		t.Fatalf("%d commands, %v", r.commands, r.e.Status().Mode)
	}
	r.enable()
	r.give(r.chunk(8, 20, 0.02), OK)
	r.run(100 * time.Millisecond)
	r.e.Estop(r.now)
	r.run(time.Second)
	if r.c.Mode != Estopped || !r.sent {
		t.Fatalf("%v, sent %v", r.c.Mode, r.sent)
	}
	r.e.Disable(r.now)
	r.run(time.Second)
	if r.sent || r.e.Status().Mode != Estopped || r.e.Status().Code != Estop {
		t.Fatalf("sent %v, %+v", r.sent, r.e.Status())
	}
	r.enable()
	r.tick(r.e.Period())
	if r.c.Mode != Holding {
		t.Fatal(r.c.Mode)
	}
}

func TestEstopOverridesASofterStop(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(16, 20, 0.05), OK)
	r.run(400 * time.Millisecond)
	r.e.Disable(r.now)
	r.tick(r.e.Period())
	r.e.Estop(r.now)
	r.tick(r.e.Period())
	if r.c.Code != Estop {
		t.Fatal(r.c.Code)
	}
	r.run(time.Second)
	r.e.Disable(r.now)
	if r.e.Status().Code != Estop {
		t.Fatal("a later stop hides the e-stop")
	}
}

func TestEstopOnTheWayToAHoldPoseEndsThere(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.stuck[1] = true
	r.give(r.chunk(40, 20, 0.03), OK)
	for at := r.measured[1]; r.e.phase != resting || math.Abs(r.pose()[1]-at) > 0.3; {
		if r.tick(r.e.Period()); r.e.Status().Mode == Held && r.e.arrived() {
			t.Fatal("joint2 was never on its way to where it is held up")
		}
	}
	r.tick(r.e.Period())
	r.e.Estop(r.now)
	r.run(time.Second)
	if p := r.pose()[1]; math.Abs(p-r.measured[1]) < 0.05 || r.speed() != 0 || r.e.Status().Mode != Estopped {
		t.Fatalf("joint2 at %v, %v", p, r.e.Status().Mode)
	}
}

func TestDisableHoldsAndThenIsSilent(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(16, 20, 0.02), OK)
	r.run(300 * time.Millisecond)
	r.e.Disable(r.now)
	r.run(time.Second)
	if r.sent || r.e.Status().Mode != Disabled {
		t.Fatalf("sent %v, %v", r.sent, r.e.Status().Mode)
	}
	if r.speed() != 0 || r.count(Silent) != 1 {
		t.Fatalf("last speed %v", r.speed())
	}
	for j := range r.measured { // another publisher moves the arms meanwhile
		r.measured[j] = home[j%7]
	}
	r.tick(r.e.Period())
	r.enable()
	r.tick(r.e.Period())
	if !r.c.First || !slices.Equal(r.c.Positions[:7], home) {
		t.Fatalf("enabled at %v", r.c.Positions)
	}
}

func TestFollowingErrorStopsAndHoldsWhereTheJointIs(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.stuck[2] = true
	for range 20 {
		c := r.chunk(16, 20, 0.04)
		if r.e.Replace(c, r.now) != OK {
			break
		}
		r.run(100 * time.Millisecond)
	}
	if r.count(FollowingError) != 1 {
		t.Fatalf("%+v", r.e.Status())
	}
	i := slices.IndexFunc(r.e.Events(nil), func(v Event) bool { return v.Code == FollowingError && v.Joint == "left/joint3" && v.Value > 0.25 })
	if i < 0 {
		t.Fatal("the joint is not named")
	}
	r.run(2 * time.Second)
	if got := r.pose()[2]; got != home[2] {
		t.Fatalf("holds joint3 at %v; it is stuck at %v", got, home[2])
	}
}

func TestAFollowingErrorShorterThanItsTimeDoesNotStop(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.tick(r.e.Period())
	r.stuck[2], r.measured[2] = true, home[2]+0.4
	r.run(280 * time.Millisecond)
	r.stuck[2], r.measured[2] = false, home[2]
	r.run(time.Second)
	if r.c.Mode != Holding || r.count(FollowingError) != 0 {
		t.Fatal(r.c.Mode, r.c.Code)
	}
}

func TestAGripperStoppedByWhatItGraspsIsNoFault(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FollowingTolerance = 0.01 })
	r.enable()
	r.stuck[6], r.measured[6] = true, 0.03
	for range 20 {
		c := r.chunk(8, 20, 0)
		for k := range 8 {
			c.Values[k*14+6] = -0.004 // a little more than closed
		}
		r.give(c, OK)
		r.run(100 * time.Millisecond)
	}
	if r.c.Mode != Moving || r.c.Positions[6] > 1e-9 {
		t.Fatalf("%v by %v, gripper %v", r.c.Mode, r.c.Code, r.c.Positions[6])
	}
	r.e.Estop(r.now)
	r.run(2 * time.Second)
	if r.pose()[6] > 1e-9 {
		t.Fatalf("a stop opens the gripper to %v", r.pose()[6])
	}
}

func TestAStoppedArmThatWasMovedIsNotPulledBack(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(8, 20, 0.02), OK)
	r.run(100 * time.Millisecond)
	r.feedback = false // powered off
	r.run(2 * time.Second)
	if r.sent {
		t.Fatal("still commanding an arm that does not report")
	}
	if s := r.e.Status(); !s.Silent || s.Mode != Held || r.count(Silent) != 1 {
		t.Errorf("%+v", s)
	}
	// It comes back nearby, and may be anywhere within what counts as following.
	r.measured[1] -= 0.1
	r.feedback = true
	n := r.commands
	r.run(2 * time.Second)
	r.measured[1] -= 0.4 // dropped
	r.run(2 * time.Second)
	r.e.Estop(r.now)
	r.run(time.Second)
	r.e.Disable(r.now)
	r.run(time.Second)
	if r.commands != n {
		t.Fatalf("%d commands were sent", r.commands-n)
	}
	r.enable()
	r.tick(r.e.Period())
	if !r.c.First || r.c.Positions[1] != r.measured[1] {
		t.Fatalf("enabled at %v, the arm is at %v", r.c.Positions[1], r.measured[1])
	}
	// Nor is the hold pose gone back to by who enables while the arm is near it, but was not heard.
	r.e.Estop(r.now)
	r.run(time.Second)
	r.feedback = false
	r.run(time.Second)
	r.feedback = true
	r.measured[1] += 0.1
	r.measured[6] += 0.01 // a gripper, which no following error is looked for in
	r.run(time.Second)
	r.enable()
	r.tick(r.e.Period())
	if !r.c.First || r.c.Positions[1] != r.measured[1] || r.c.Positions[6] != r.measured[6] {
		t.Fatalf("enabled at %v, the arm is at %v", r.c.Positions, r.measured)
	}
}

func TestEnableStartsWhereTheArmIsNow(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.tick(r.e.Period())
	r.e.Estop(r.now)
	r.run(time.Second)
	r.now = r.now.Add(r.e.Period()) // moved by hand between two ticks
	r.measured[1] -= 0.5
	r.enable()
	r.tick(r.e.Period())
	if !r.c.First || r.c.Positions[1] != r.measured[1] {
		t.Fatalf("enabled at %v, the arm is at %v", r.c.Positions[1], r.measured[1])
	}
}

func TestATargetJustBeyondALimitIsClampedAndDoesNotFreezeTheArm(t *testing.T) {
	r := newRig(t, nil)
	r.measured[1] = 0.1
	r.enable()
	for range 30 {
		c := r.chunk(8, 20, 0.005)
		for k := range 8 {
			c.Values[k*14+1] = -0.04
		}
		r.give(c, OK)
		r.run(100 * time.Millisecond)
	}
	if r.c.Mode != Moving || r.c.Positions[1] > 1e-9 || r.count(ClampedPosition) == 0 {
		t.Fatalf("%v by %v at %v, %d clamped", r.c.Mode, r.c.Code, r.c.Positions[1], r.count(ClampedPosition))
	}
	if got := r.c.Positions[0] - home[0]; got < 0.2 {
		t.Fatalf("the other joints moved only %v", got)
	}
}

func TestATargetFarBeyondALimitStops(t *testing.T) {
	for _, c := range []struct {
		name        string
		joint       int
		target      float64
		atOnce      bool
		stops       bool
		lasts, from time.Duration
	}{
		{"beyond tolerance for long", 1, -0.1, false, true, time.Second, 480 * time.Millisecond},
		{"beyond tolerance, briefly", 1, -0.1, false, false, 400 * time.Millisecond, 0},
		{"beyond limit_stop", 1, -0.7, true, true, 200 * time.Millisecond, 0},
		{"gripper in 0..1", 6, 1.0, true, true, 200 * time.Millisecond, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, nil)
			r.enable()
			begin := r.now
			for r.now.Sub(begin) < c.lasts && r.e.Status().Code.rank() == 0 {
				ch := r.chunk(8, 100, 0)
				for k := range 8 {
					ch.Values[k*14+c.joint] = c.target
				}
				r.give(ch, OK)
				r.run(40 * time.Millisecond)
			}
			took := r.now.Sub(begin)
			if got := r.count(PositionLimit) == 1; got != c.stops {
				t.Fatalf("stopped: %v, %+v", got, r.e.Status())
			}
			if c.atOnce && took > 50*time.Millisecond || took < c.from {
				t.Fatalf("took %v", took)
			}
		})
	}
}

// A path that is too fast for one joint is gone through more slowly by all: its
// shape stays, where clipping would let the others run ahead.
func TestAPathTooFastIsSlowedForBothArmsAndKeepsItsShape(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.tick(r.e.Period())
	start := r.pose()
	c := r.chunk(60, 20, 0)
	for k := range 60 {
		c.Values[k*14+0] += 0.15 * float64(min(k+1, 12)) / 2   // 1.5 rad/s for 0.6 s
		c.Values[k*14+3] -= 0.05 * float64(min(k+1, 12)) / 2   // a third of it
		c.Values[k*14+12] += 0.075 * float64(min(k+1, 12)) / 2 // the right arm, half of it
	}
	r.give(c, OK)
	worst, fastest := 0.0, 0.0
	for range 75 {
		r.tick(r.e.Period())
		way := r.c.Positions[0] - start[0]
		worst = max(worst, math.Abs(r.c.Positions[3]-start[3]+way/3), math.Abs(r.c.Positions[12]-start[12]-way/2))
		fastest = max(fastest, r.c.Velocities[0])
	}
	if worst > 1e-9 || fastest < 0.9 {
		t.Errorf("joints leave the line by %v; the fastest reaches %v", worst, fastest)
	}
	if r.count(LimitedVelocity) == 0 {
		t.Error("not counted")
	}
	r.run(500 * time.Millisecond)
	if got := r.c.Positions[0] - start[0]; math.Abs(got-0.9) > 1e-3 {
		t.Errorf("joint1 moved %v of 0.9", got)
	}
}

func TestAPauseOfTheProcessStartsAgainFromRest(t *testing.T) {
	r := newRig(t, func(c *Config) { c.FeedbackTimeout = 10 * time.Second; c.ObservationTimeout = 10 * time.Second })
	r.enable()
	r.give(r.chunk(100, 20, 0.01), OK)
	r.run(time.Second)
	r.tick(2 * time.Second) // the checker takes the arms to stand after this
	if r.c.Mode != Moving || r.count(TickGap) != 1 {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.run(time.Second)
}

func TestAClockThatGoesBackHaltsUntilANewChunk(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	old := r.chunk(40, 20, 0.02)
	r.give(old, OK)
	r.run(300 * time.Millisecond)
	r.tick(-time.Hour)
	if r.c.Mode != Stopping || r.c.Code != ClockJump {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.give(old, DroppedEpoch)
	r.run(500 * time.Millisecond)
	if r.c.Mode != Holding {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.give(r.chunk(40, 20, 0.02), OK)
	r.run(300 * time.Millisecond)
	if r.c.Mode != Moving {
		t.Fatal(r.c.Mode, r.c.Code)
	}
}

func TestAClockThatGoesBackDoesNotMakeOldDataFresh(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(40, 20, 0.02), OK)
	r.run(300 * time.Millisecond)
	r.feedback, r.cameras = false, false
	r.run(100 * time.Millisecond)
	r.tick(-300 * time.Millisecond)
	r.give(r.chunk(40, 20, 0.02), DroppedStale)
	r.run(80 * time.Millisecond)
	if r.count(FeedbackStale) != 0 {
		t.Fatal("stopped before its time")
	}
	r.run(40 * time.Millisecond)
	if r.count(FeedbackStale) != 1 {
		t.Fatal("joint feedback of 0.22 s ago passes for fresh")
	}
}

func TestFeedbackFromBeforeTheClockWentBackDoesNotEnable(t *testing.T) {
	r := newRig(t, nil)
	r.sense()
	r.now = r.now.Add(-time.Hour)
	if err := r.e.Enable(r.now); err == nil {
		t.Fatal("enabled with feedback from the future")
	}
	r.enable() // new feedback is not refused for being older
}

// A clock that is set back a little, while the arms are disabled, does not make old
// feedback fresh when it gets there again.
func TestFeedbackFromBeforeASmallStepBackDoesNotEnableLater(t *testing.T) {
	r := newRig(t, nil)
	r.sense()
	r.feedback = false
	r.tick(r.e.Period())
	r.tick(-time.Second)
	for range 60 {
		r.tick(r.e.Period())
		if err := r.e.Enable(r.now); err == nil && r.e.Status().Mode != Disabled {
			if age := r.now.Sub(epoch0) + time.Second; age > 250*time.Millisecond {
				t.Fatalf("enabled with feedback of %v ago", age)
			}
			r.e.Disable(r.now)
			r.run(r.e.Period())
		}
	}
}

func TestNothingIsSentWhileTheClockStands(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(40, 20, 0.02), OK)
	r.run(300 * time.Millisecond)
	for range 5 {
		if r.tick(0); r.sent {
			t.Fatal("a command without time passing")
		}
	}
}

func TestABadJointMessageIsRefusedAndDoesNotKeepTheArmAlive(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.feedback = false
	for i := range 20 {
		r.tick(r.e.Period())
		bad := slices.Clone(home)
		stamp := r.now
		switch i % 4 {
		case 0:
			bad[2] = math.NaN()
		case 1:
			bad = bad[:6]
		case 2:
			stamp = epoch0
		case 3:
			stamp = r.now.Add(time.Hour)
		}
		if err := r.e.Feedback(0, bad, stamp, r.now); err == nil {
			t.Fatalf("took %v of %v", bad, stamp)
		}
	}
	if r.count(FeedbackStale) != 1 || r.count(FeedbackRefused) != 20 {
		t.Fatalf("%+v", r.e.Status())
	}
	if err := r.e.Feedback(2, home, r.now, r.now); err == nil {
		t.Fatal("took feedback of a third arm")
	}
}

func TestEveryCodeHasItsNameAndSentence(t *testing.T) {
	names := map[string]bool{}
	for c := range Code(Codes()) {
		s := c.Sentence()
		if names[c.String()] || strings.HasPrefix(c.String(), "code_") || !strings.HasSuffix(s, ".") || strings.Count(s, ". ") > 0 {
			t.Errorf("%d: %q, %q", c, c, s)
		}
		names[c.String()] = true
	}
	if Code(200).String() != "code_200" {
		t.Error(Code(200))
	}
	e := Event{Code: FollowingError, Joint: "left/joint3", Value: 0.31, Limit: 0.25}
	if got := e.String(); !strings.HasPrefix(got, "left/joint3: A joint") || !strings.HasSuffix(got, "(value 0.31, limit 0.25)") {
		t.Error(got)
	}
}

func TestEventsKeepTheNewestAndCountTheLost(t *testing.T) {
	r := newRig(t, nil)
	for i := range 100 {
		r.e.tell(Event{Code: TickGap, Value: float64(i)})
	}
	v := r.e.Events(nil)
	if len(v) != 64 || v[0].Value != 36 || v[63].Value != 99 || r.e.Status().Counters.EventsLost != 36 {
		t.Fatalf("%d events from %v, lost %d", len(v), v[0].Value, r.e.Status().Counters.EventsLost)
	}
	if len(r.e.Events(nil)) != 0 {
		t.Fatal("events come twice")
	}
	select {
	case <-r.e.Changed():
	default:
		t.Fatal("not told")
	}
}

// Whoever wonders why the arms stand still is told about the chunks that are not
// taken, until one is.
func TestStatusTellsWhyTheNewestChunkWasDropped(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	c := r.chunk(8, 20, 0)
	c.Stamp = r.now.Add(time.Second)
	r.give(c, DroppedFuture)
	if got := r.e.Status().Dropped; got != DroppedFuture {
		t.Errorf("status says %v", got)
	}
	r.give(r.chunk(8, 20, 0), OK)
	if got := r.e.Status().Dropped; got != OK {
		t.Errorf("after a good chunk status says %v", got)
	}
}

// Feedback that comes and is refused is another fault than feedback that does
// not come, with another mend.
func TestEnableTellsThatFeedbackIsRefused(t *testing.T) {
	r := newRig(t, nil)
	r.sense()
	r.now = r.now.Add(time.Second)
	ahead := r.now.Add(time.Second)
	for a := range r.cfg.Layout {
		if err := r.e.Feedback(a, r.cfg.Layout.Of(a, r.measured), ahead, r.now); err == nil {
			t.Fatal("taken")
		}
	}
	if err := r.e.Enable(r.now); err == nil || !strings.Contains(err.Error(), "stamped 1s ahead of the clock") {
		t.Errorf("refused with %v", err)
	}
	r.enable()
}

// Nobody ticks the arms after the end; "enabled" would be a lie.
func TestNothingIsEnabledAfterShutdown(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.run(time.Second)
	r.e.Shutdown(r.now)
	r.run(time.Second)
	r.sense()
	if err := r.e.Enable(r.now); err == nil || !strings.Contains(err.Error(), "ending") {
		t.Errorf("refused with %v", err)
	}
	if m := r.e.Status().Mode; m != Disabled {
		t.Errorf("the arms are %v", m)
	}
}

// With simulated time, before the first /clock, there is no time to act at.
func TestWithoutATimeNothingIsSentOrEnabled(t *testing.T) {
	r := newRig(t, nil)
	r.sense()
	if err := r.e.Enable(time.Time{}); err == nil || !strings.Contains(err.Error(), "/clock") {
		t.Errorf("refused with %v", err)
	}
	r.enable()
	r.run(time.Second)
	if _, ok := r.e.Tick(time.Time{}); ok {
		t.Error("sent a command")
	}
}

// A simulator that starts anew while the arms are disabled leaves nothing behind:
// what was executed at times that are now in the future skips no rows.
func TestAClockThatWentBackWhileDisabledDoesNotSpoilChunks(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.give(r.chunk(40, 20, 0.01), OK)
	r.run(time.Second)
	r.e.Disable(r.now)
	r.run(2 * time.Second)
	if m := r.e.Status().Mode; m != Disabled {
		t.Fatalf("the arms are %v", m)
	}
	r.now = r.now.Add(-time.Hour)
	r.enable()
	r.tick(r.e.Period())
	r.give(r.chunk(8, 20, 0.01), OK)
}

// The wall clock can be set back while the monotonic one goes on; stamps know
// only the former.
func TestAWallClockThatIsSetBackHaltsUntilANewChunk(t *testing.T) {
	r := newRig(t, nil)
	r.now = time.Now()
	r.enable()
	r.give(r.chunk(80, 20, 0.01), OK)
	r.run(time.Second)
	const back = time.Hour
	was := r.now
	r.now = r.now.Add(-back)
	(*struct {
		wall uint64
		ext  int64 // the monotonic clock, where wall says that there is one
		loc  *time.Location
	})(unsafe.Pointer(&r.now)).ext += int64(back)
	if r.now.Sub(was) != 0 || r.now.Round(0).Sub(was.Round(0)) != -back {
		t.Fatal("package time keeps its clocks otherwise now")
	}
	r.tick(r.e.Period())
	if r.count(ClockJump) != 1 || r.c.Mode != Stopping {
		t.Fatalf("the arms are %v (%v)", r.c.Mode, r.c.Code)
	}
	r.run(time.Second)
	r.give(r.chunk(8, 20, 0.01), OK)
	r.run(200 * time.Millisecond)
	if m := r.e.Status().Mode; m != Moving {
		t.Errorf("the arms are %v", m)
	}
}
