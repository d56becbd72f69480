package main

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/sim"
)

// ease goes from 0 to 1 while x does, from rest to rest.
func ease(x float64) float64 {
	x = min(max(x, 0), 1)
	return x * x * x * (10 - 15*x + 6*x*x)
}

// blameless is a history without a fault: arms that were enabled, moved from 1 s to 3 s and again from 4 s to 6 s,
// and held.
func blameless(simulated bool) *history {
	start := time.Unix(1_000_000, 0)
	at := func(s float64) time.Time { return start.Add(time.Duration(math.Round(s * 1e9))) }
	late := func(t time.Time) time.Time { return t.Add(time.Millisecond) }
	pose := func(s float64) [14]float64 {
		q := sim.Home()
		for _, begin := range []float64{1, 4} {
			x := ease((s - begin) / 2)
			q[0] += 0.5 * x
			q[8] += 0.3 * x
			q[13] += 0.02 * x
		}
		return q
	}
	h := &history{
		simulated: simulated,
		lives:     []life{{span: span{from: at(-1)}}},
		asked:     []span{{at(-0.05), at(0)}},
	}
	for k := range 701 {
		now := at(float64(k) / 100)
		q := pose(float64(k) / 100)
		h.clock = append(h.clock, beat{now, now, float64(k) / 100, 0})
		h.felt = append(h.felt, felt{stamp: now, published: now, p: q})
		if k%10 == 0 {
			h.looks = append(h.looks, look{now, now})
			if k > 80 {
				h.chunks = append(h.chunks, thought{now, late(now).Add(50 * time.Millisecond), 400 * time.Millisecond})
			}
		}
		for a := range h.sent {
			if k%2 == 0 {
				h.sent[a] = append(h.sent[a], setpoint{names: []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"},
					p: slices.Clone(q[7*a : 7*a+7]), stamp: now, received: late(now)})
			}
		}
	}
	return h
}

// The checker of real processes finds nothing in a blameless history, and in one with a fault just that fault.
func TestTheFaultCheckerNoticesEveryPlantedFault(t *testing.T) {
	for _, simulated := range []bool{false, true} {
		if v := blameless(simulated).judge(); len(v.faults) > 0 || v.commands != 351 || v.moving < 100 || v.starts != 1 {
			t.Errorf("simulated %v: %v\n%s", simulated, v, strings.Join(v.faults, "\n"))
		}
	}
	at := func(s float64) time.Time { return time.Unix(1_000_000, 0).Add(time.Duration(s * 1e9)) }
	// both changes the positions of each command from the k-th on.
	both := func(h *history, k int, change func(k int, q [][]float64)) {
		for ; k < len(h.sent[0]); k++ {
			change(k, [][]float64{h.sent[0][k].p, h.sent[1][k].p})
		}
	}
	drop := func(h *history, from, to float64) {
		for a := range h.sent {
			h.sent[a] = slices.DeleteFunc(h.sent[a], func(s setpoint) bool { return s.stamp.After(at(from)) && s.stamp.Before(at(to)) })
		}
	}
	blind := func(h *history, from float64) {
		h.looks = slices.DeleteFunc(h.looks, func(l look) bool { return l.stamp.After(at(from)) })
	}
	// delay moves all that is said after a time on.
	delay := func(h *history, after float64, by time.Duration) {
		for a := range h.sent {
			for k := range h.sent[a] {
				if s := &h.sent[a][k]; s.stamp.After(at(after)) {
					s.stamp, s.received = s.stamp.Add(by), s.received.Add(by)
				}
			}
		}
		for i := range 2000 {
			h.felt = append(h.felt, felt{at(7).Add(time.Duration(i) * time.Millisecond), at(7).Add(time.Duration(i) * time.Millisecond), h.felt[len(h.felt)-1].p, [2]bool{}})
			h.looks = append(h.looks, look{h.felt[len(h.felt)-1].stamp, h.felt[len(h.felt)-1].published})
		}
	}
	for _, c := range []struct {
		name, promise string
		simulated     bool
		spoil         func(h *history)
	}{
		{"a NaN", "commands are finite", false, func(h *history) { h.sent[0][200].p[3] = math.NaN() }},
		{"beyond a limit", "no command outside the limits", false, func(h *history) {
			both(h, 0, func(k int, q [][]float64) { q[0][1] -= 0.3 + 0.0001*float64(k) })
			for i := range h.felt {
				h.felt[i].p[1] -= 0.3
			}
		}},
		{"a gripper below its range", "no command outside the limits", false, func(h *history) {
			both(h, 0, func(k int, q [][]float64) { q[0][6] -= 0.021 * ease(float64(k-60)/100) })
		}},
		{"a jump", "no step beyond its limit", false, func(h *history) { both(h, 180, func(k int, q [][]float64) { q[1][2] += 0.2 }) }},
		{"zeros", "no step beyond its limit", false, func(h *history) { both(h, 345, func(k int, q [][]float64) { clear(q[0]) }) }},
		{"one command far off", "no velocity beyond its limit", false, func(h *history) { h.sent[0][170].p[0] += 0.03 }},
		{"too fast", "no velocity beyond its limit", false, func(h *history) {
			both(h, 0, func(k int, q [][]float64) { q[0][5] += 1.2 * ease(float64(k-50)/100) }) // 1.1 rad/s, 1.7 rad/s²
		}},
		{"too hard", "no acceleration beyond its limit", false, func(h *history) {
			both(h, 0, func(k int, q [][]float64) { q[0][5] += 0.1 * math.Sin(float64(k)/50*7) })
			for i := range h.felt {
				h.felt[i].p[5] += 0.1 * math.Sin(float64(i)/100*7)
			}
		}},
		{"a little noise", "no jerk beyond its limit", false, func(h *history) { h.sent[1][100].p[4] += 0.0003 }},
		{"other names", "commands have the driver's shape", false, func(h *history) { h.sent[0][10].names[0] = "joint0" }},
		{"a velocity", "commands have the driver's shape", false, func(h *history) { h.sent[0][10].others = 7 }},
		{"one arm only", "the arms are commanded together", false, func(h *history) { h.sent[1] = slices.Delete(h.sent[1], 50, 51) }},
		{"the other arm is left out at last", "the arms are commanded together", false, func(h *history) { h.sent[1] = h.sent[1][:300] }},
		{"not enabled", "nothing is sent before enable", false, func(h *history) { h.asked = nil }},
		{"enabled later", "nothing is sent before enable", false, func(h *history) { h.asked[0].from = at(0.5) }},
		{"enabled in another life", "nothing is sent before enable", false, func(h *history) {
			h.lives = []life{{span: span{from: at(-1), to: at(-0.02)}}, {span: span{from: at(-0.01)}}}
		}},
		{"started elsewhere", "the first command is the measured pose", false, func(h *history) {
			for i := range h.felt {
				h.felt[i].p[10] += 0.001
			}
		}},
		{"started from an old measurement", "the first command is the measured pose", false, func(h *history) {
			for i := range 101 {
				h.felt[i].silent[0] = true
			}
			drop(h, -1, 1.0)
		}},
		{"started again without enable", "no step beyond its limit", false, func(h *history) {
			both(h, 250, func(k int, q [][]float64) { q[1][4] -= 0.5 })
			for i := range h.felt {
				if i >= 490 {
					h.felt[i].p[11] -= 0.5
				}
			}
		}},
		{"sent by the dead", "a dead process sends nothing", false, func(h *history) { h.lives[0].to = at(6.5) }},
		{"sent by the stopped", "a stopped process sends nothing", false, func(h *history) { h.lives[0].stops = []span{{at(3.5), at(3.8)}} }},
		{"arms that sink", "the drivers hold the last command", false, func(h *history) {
			drop(h, 3.01, 4.03)
			h.lives[0].stops = []span{{at(3.01), at(4.03)}}
			for i := range h.felt {
				h.felt[i].p[1] -= 0.05 * ease(float64(i-320)/50)
			}
		}},
		{"gone on after a pause where it would be", "no step beyond its limit", false, func(h *history) { drop(h, 1.9, 2.3) }},
		{"gone on after a pause as fast", "no acceleration beyond its limit", false, func(h *history) { delay(h, 1.99, 500*time.Millisecond) }},
		{"blind and faster", "silence decelerates", false, func(h *history) { blind(h, 0.9) }},
		{"blind and as fast", "still moves at", false, func(h *history) { blind(h, 1.4) }},
		{"blind and not stopped", "silence ends at rest", false, func(h *history) { blind(h, 1.4) }},
		{"blind and moved again", "the hold pose stays", false, func(h *history) { blind(h, 3) }},
		{"a hold that drifts", "the hold pose stays", false, func(h *history) {
			blind(h, 2.5)
			both(h, 170, func(k int, q [][]float64) { q[0][3] += 1e-6 * float64(k-170) })
		}},
		{"numb and not stopped", "silence ends at rest", false, func(h *history) {
			for i := range h.felt {
				h.felt[i].silent[1] = i > 170
			}
		}},
		{"no chunk", "the hold pose stays", false, func(h *history) { h.chunks = nil }},
		{"the same time twice", "no command while the clock stands", true, func(h *history) {
			for a := range h.sent {
				h.sent[a][100].stamp = h.sent[a][99].stamp
			}
		}},
		{"no time of the clock", "commands are of the clock's time", true, func(h *history) {
			for a := range h.sent {
				h.sent[a][100].stamp = h.sent[a][100].stamp.Add(time.Microsecond)
			}
		}},
		{"before its time", "commands are of the clock's time", true, func(h *history) {
			for a := range h.sent {
				h.sent[a][100].received = h.sent[a][99].received
			}
		}},
		{"a chunk from before the clock went back", "silence", true, func(h *history) { goBack(h, 150, -time.Hour, false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := blameless(c.simulated)
			c.spoil(h)
			v := h.judge()
			if !slices.ContainsFunc(v.faults, func(f string) bool { return strings.Contains(f, c.promise) }) {
				t.Errorf("%q was not noticed, but\n%s\n%v", c.promise, strings.Join(v.faults, "\n"), v)
			}
		})
	}
	h := blameless(false)
	for a := range h.sent {
		s := &h.sent[a][100]
		s.stamp = s.stamp.Add(-8 * time.Millisecond) // and then the program lost the processor
	}
	if v := h.judge(); len(v.faults) > 0 || v.restamped == 0 {
		t.Errorf("one early stamp is no fault, but with %d corrections\n%s", v.restamped, strings.Join(v.faults, "\n"))
	}
	h = blameless(true)
	if goBack(h, 150, -time.Hour, true); len(h.judge().faults) > 0 {
		t.Errorf("with new chunks a clock that went back is no fault, but\n%s", strings.Join(h.judge().faults, "\n"))
	}
}

// goBack makes the clock jump at its k-th value, after which chunks come if renewed.
func goBack(h *history, k int, by time.Duration, renewed bool) {
	from := h.clock[k].value
	after := func(t time.Time) bool { return !t.Before(from) }
	for a := range h.sent {
		for i := range h.sent[a] {
			if s := &h.sent[a][i]; after(s.stamp) {
				s.stamp = s.stamp.Add(by)
			}
		}
	}
	for i := range h.clock {
		if b := &h.clock[i]; after(b.value) {
			b.value, b.epoch = b.value.Add(by), 1
		}
	}
	for i := range h.felt {
		if f := &h.felt[i]; after(f.stamp) {
			f.stamp = f.stamp.Add(by)
		}
	}
	for i := range h.looks {
		if l := &h.looks[i]; after(l.stamp) {
			l.stamp = l.stamp.Add(by)
		}
	}
	h.chunks = slices.DeleteFunc(h.chunks, func(c thought) bool { return after(c.stamp) && !renewed })
	for i := range h.chunks {
		if c := &h.chunks[i]; after(c.stamp) {
			c.stamp = c.stamp.Add(by)
		}
	}
}
