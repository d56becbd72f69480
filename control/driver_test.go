package control

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestADriverThatIsNotReadyIsNotEnabledAndStopsTheArms(t *testing.T) {
	r := newRig(t, nil)
	tell := func(ok bool) {
		t.Helper()
		if err := r.e.DriverStatus(1, ok, 2, "teach mode", r.now); err != nil {
			t.Fatal(err)
		}
	}
	r.sense()
	tell(false)
	if err := r.e.Enable(r.now); err == nil || !strings.Contains(err.Error(), `"right"`) || !strings.Contains(err.Error(), "teach mode") {
		t.Fatalf("enabled: %v", err)
	}
	tell(true)
	r.enable()
	r.give(r.chunk(40, 20, 0.01), OK)
	r.run(500 * time.Millisecond)
	tell(false)
	r.tick(r.e.Period())
	if r.c.Code != DriverFault || r.c.Mode != Stopping {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	if i := slices.IndexFunc(r.e.Events(nil), func(v Event) bool { return v.Code == DriverFault && v.Joint == "right" && v.Value == 2 }); i < 0 {
		t.Error("the arm and its code are not told")
	}
	r.run(time.Second)
	tell(true)
	r.run(200 * time.Millisecond)
	if m := r.e.Status().Mode; m != Held {
		t.Errorf("the arms are %v", m)
	}
	r.enable()
	if err := r.e.DriverStatus(2, true, 0, "", r.now); err == nil {
		t.Error("took the status of a third arm")
	}
}

func TestADriverThatNoLongerTellsItsStatusStopsTheArms(t *testing.T) {
	r := newRig(t, nil)
	_ = r.e.DriverStatus(0, true, 0, "normal", r.now)
	r.enable()
	r.run(r.cfg.DriverTimeout)
	if r.c.Mode != Holding {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.run(100 * time.Millisecond)
	if r.count(DriverStale) != 1 || r.e.Status().Code != DriverStale {
		t.Fatalf("%+v", r.e.Status())
	}
	if err := r.e.Enable(r.now); err == nil {
		t.Error("enabled")
	}
}

// A driver that was not enabled drops commands and says nothing. Motion too small
// for the following error shows it all the same.
func TestADriverThatIsNotEnabledIsNoticedWithoutItsStatus(t *testing.T) {
	for name, size := range map[string]float64{"large motion": 0.02, "small motion": 0.007} {
		r := newRig(t, nil)
		for j := range 7 {
			r.stuck[j] = true // the left arm's driver drops everything
		}
		r.enable()
		for i := range 40 {
			way := size
			if i%8 >= 4 {
				way = -way
			}
			if r.e.Replace(r.chunk(20, 20, way), r.now) != OK {
				break
			}
			r.run(200 * time.Millisecond)
		}
		s := r.e.Status()
		if size > 0.01 && s.Code != FollowingError || size < 0.01 && s.Code != NotMoving {
			t.Errorf("%s: %v by %v", name, s.Mode, s.Code)
		}
		if i := slices.IndexFunc(r.e.Events(nil), func(v Event) bool { return v.Code.Latched() && strings.HasPrefix(v.Joint, "left") }); i < 0 {
			t.Errorf("%s: the arm is not told", name)
		}
	}
}

func TestArmsThatHoldOrMoveAreNotTakenForDriversThatAreNotEnabled(t *testing.T) {
	r := newRig(t, nil)
	r.enable()
	r.run(5 * time.Second)
	r.give(r.chunk(400, 20, 0.001), OK)
	r.lag = 0.95 // slow to follow
	r.run(5 * time.Second)
	r.stuck[0] = true // one joint that sticks is a matter of the following error
	r.give(r.chunk(400, 20, 0.002), OK)
	r.run(2 * time.Second)
	if r.count(NotMoving) != 0 {
		t.Errorf("%+v", r.e.Status())
	}
}

// A deadman that was held before the clock went back is not held after it.
func TestADeadmanFromBeforeTheClockWentBackDoesNotHold(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Live.DeadmanTimeout = 500 * time.Millisecond })
	r.enable()
	r.e.Deadman(r.now)
	r.give(r.chunk(40, 20, 0.01), OK)
	r.run(100 * time.Millisecond)
	r.e.Deadman(r.now)
	r.tick(-80 * time.Millisecond)
	r.run(40 * time.Millisecond) // joints and pictures of the new time
	r.give(r.chunk(40, 20, 0.01), DroppedDeadman)
	r.e.Deadman(r.now)
	r.give(r.chunk(40, 20, 0.01), OK)
}

func TestWithoutTheDeadmanTheArmsHaltAndStay(t *testing.T) {
	r := newRig(t, func(c *Config) { c.Live.DeadmanTimeout = 200 * time.Millisecond })
	r.enable()
	r.give(r.chunk(40, 20, 0.01), DroppedDeadman)
	hold := func(d time.Duration) {
		for end := r.now.Add(d); r.now.Before(end); {
			r.e.Deadman(r.now)
			r.tick(r.e.Period())
		}
	}
	hold(100 * time.Millisecond)
	r.give(r.chunk(40, 20, 0.01), OK)
	hold(500 * time.Millisecond)
	if r.c.Mode != Moving {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.run(180 * time.Millisecond)
	if r.c.Mode != Moving {
		t.Fatal("halted before its time")
	}
	velocity, accel := r.moving()
	r.tick(2 * r.e.Period())
	if r.c.Mode != Stopping || r.c.Code != DeadmanReleased || !r.brakes(velocity, accel) {
		t.Fatal(r.c.Mode, r.c.Code)
	}
	r.give(r.chunk(40, 20, 0.01), DroppedDeadman)
	r.run(time.Second)
	hold(100 * time.Millisecond)
	r.give(r.chunk(40, 20, 0.01), OK) // no Enable is needed
	hold(100 * time.Millisecond)
	if r.c.Mode != Moving {
		t.Fatal(r.c.Mode, r.c.Code)
	}
}

func TestADryRunDoesEverythingButSending(t *testing.T) {
	r := newRig(t, func(c *Config) { c.DryRun = true })
	for j := range r.stuck {
		r.stuck[j] = true // nobody hears the commands
	}
	r.enable()
	r.tick(r.e.Period())
	c := r.chunk(60, 20, 0.02)
	r.give(c, OK)
	for range 100 {
		r.tick(r.e.Period())
		if r.sent && !r.c.Dry {
			t.Fatal("a command that is not marked")
		}
	}
	if got := r.pose()[0]; math.Abs(got-home[0]-0.8) > 1e-3 || r.c.Mode != Moving {
		t.Errorf("%v by %v, at %v", r.c.Mode, r.c.Code, got)
	}
	if k := r.e.Status().Counters; k.ByCode[DryRun] != k.Commands || k.Commands < 100 {
		t.Errorf("%d of %d commands counted as dry", k.ByCode[DryRun], k.Commands)
	}
	r.e.Estop(r.now)
	r.run(time.Second)
	if m := r.e.Status().Mode; m != Estopped {
		t.Error(m)
	}
}
