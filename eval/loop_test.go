package eval

import (
	"bytes"
	"context"
	"image/jpeg"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

func newArms(t testing.TB) *sim.Arms {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	return arms
}

// settings are a node's, with a bundle or without one.
func settings(t testing.TB, dir string, given ...param.Assignment) node.Settings {
	t.Helper()
	set, err := param.New(node.Parameters(nil), append([]param.Assignment{
		{Name: "policy", Value: param.String(dir)}, {Name: "runtime.threads", Value: param.Int(1)}, {Name: "decode.rounds", Value: param.Int(4)},
	}, given...))
	if err != nil {
		t.Fatal(err)
	}
	m := &bundle.Manifest{Decode: bundle.Decode{Preset: "greedy", Rounds: 1}}
	if dir != "" {
		if m, err = bundle.ReadManifest(dir); err != nil {
			t.Fatal(err)
		}
	}
	names, err := ros.NewNames(ros.Options{Name: "ddvla"})
	if err != nil {
		t.Fatal(err)
	}
	s, err := node.SettingsFrom(set.Values(), m, names)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parameter(name string, v param.Value) param.Assignment {
	return param.Assignment{Name: name, Value: v}
}

// loopOf is a loop as `ddvla eval run` makes it.
func loopOf(s node.Settings) *Loop { return &Loop{Control: s.Control, Every: 200 * time.Millisecond} }

func episode(t testing.TB, task string, seed uint64) *Episode {
	t.Helper()
	e, err := NewEpisode(newArms(t), Key{task, "none", seed})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// play runs n episodes of a task and returns their records.
func play(t *testing.T, l *Loop, a Actor, task string, n int) (records []Record, successes int) {
	t.Helper()
	for seed := range uint64(n) {
		r, _, err := l.Run(t.Context(), a, episode(t, task, 1000+seed), seed)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s %d: %q %q: %v after %.2f s, %s %s", task, 1000+seed, r.Instruction, r.Told, r.Success, r.Time, r.Why, r.Error)
		if r.Success {
			successes++
		}
		records = append(records, r)
	}
	return records, successes
}

func openModel(t testing.TB, s node.Settings, o ModelOptions) *Model {
	t.Helper()
	m, err := OpenModel(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

// The expert does what is asked behind the robot's own executor, and something else
// where it is told that; arms that hold still do nothing.
func TestBaselinesAreTheEndsOfTheScale(t *testing.T) {
	l := loopOf(settings(t, ""))
	for _, task := range Tasks() {
		if _, n := play(t, l, NewExpert(), task, 4); n != 4 {
			t.Errorf("%s: the expert succeeds in %d of 4", task, n)
		}
		if records, n := play(t, l, NewStill(), task, 4); n != 0 || records[0].Why != "time is over" {
			t.Errorf("%s: standing still succeeds in %d of 4: %+v", task, n, records[0])
		}
		wrong := *l
		wrong.WrongInstructions = true
		if records, n := play(t, &wrong, NewExpert(), task, 4); n != 0 || records[0].Told == "" {
			t.Errorf("%s: with wrong instructions the expert succeeds in %d of 4: %+v", task, n, records[0])
		}
	}
}

// The executor's grippers are slower than the simulation's, and what thinks late sees
// old worlds: an expert that lifts, lets go or leaves before the fingers are there fails
// here, the more the longer a task is.
func TestExpertWaitsForGrippersThroughLatency(t *testing.T) {
	const n = 30
	for _, latency := range []time.Duration{0, 100 * time.Millisecond} {
		l := loopOf(settings(t, ""))
		l.Latency.Fixed = latency
		for _, task := range []string{"stack", "handover"} {
			if _, done := play(t, l, NewExpert(), task, n); done < n {
				t.Errorf("%s, latency %v: %d of %d", task, latency, done, n)
			}
		}
	}
}

// The committed policy does what it is told, by rounds and in one pass, and what it is
// told wrongly is not what is judged.
func TestPolicyInClosedLoop(t *testing.T) {
	const n = 4
	s := settings(t, testbundle.Dir(t))
	m, l := openModel(t, s, ModelOptions{}), loopOf(s)
	records, done := play(t, l, m, TinyReach, n)
	if done < n-1 {
		t.Errorf("%d of %d", done, n)
	}
	for _, r := range records {
		// Every 200 ms one, from the beginning on; chunks of 4 rounds.
		if want := int(math.Ceil(r.Time/0.2 - 1e-9)); r.Chunks < want-1 || r.Chunks > want+1 || r.Rounds != 4*r.Chunks || r.Failed != 0 {
			t.Errorf("%d chunks, %d rounds in %.2f s, %d failed", r.Chunks, r.Rounds, r.Time, r.Failed)
		}
	}
	wrong := *l
	wrong.WrongInstructions = true
	if _, done := play(t, &wrong, m, TinyReach, n); done > 1 {
		t.Errorf("told of another cube: %d of %d at the first one", done, n)
	}
}

// Whatever ran before on the same policy, an episode's seed decides it.
func TestEpisodesRepeat(t *testing.T) {
	s := settings(t, testbundle.Dir(t), parameter("decode.preset", param.String("official")), parameter("motion.hand_over", param.String("infill")))
	m, l := openModel(t, s, ModelOptions{}), loopOf(s)
	l.Latency.Fixed = 100 * time.Millisecond
	l.Frames = 4
	run := func(seed, noise uint64) (Record, []byte) {
		r, strip, err := l.Run(t.Context(), m, episode(t, TinyReach, seed), noise)
		if err != nil {
			t.Fatal(err)
		}
		r.Timing = Timing{}
		return r, strip
	}
	first, strip := run(1000, 1)
	other, _ := run(1001, 1)
	again, same := run(1000, 1)
	if !reflect.DeepEqual(first, again) || !bytes.Equal(strip, same) {
		t.Errorf("%+v, then %+v", first, again)
	}
	if noisy, _ := run(1000, 2); reflect.DeepEqual(first, noisy) || reflect.DeepEqual(first, other) {
		t.Errorf("another noise or scene changes nothing: %+v", first)
	}
}

// stamped notes when it is asked and moves one joint.
type stamped struct {
	asked []time.Duration
	value func(m *Moment, row int) float64
}

func (s *stamped) Begin(*Episode, uint64) error { return nil }

func (s *stamped) Act(_ context.Context, m *Moment) (Thought, error) {
	s.asked = append(s.asked, m.Now.Sub(epoch0()))
	t := control.Trajectory{Stamp: m.Now, Rate: 20, Epoch: m.Epoch}
	for row := range 8 {
		pose := slices.Clone(m.Joints)
		pose[0] = s.value(m, row)
		t.Values = append(t.Values, pose...)
	}
	return Thought{Trajectory: t, Took: 30 * time.Millisecond}, nil
}

// Latency is time in the world: a chunk moves the arms that much later, no other one is
// begun meanwhile, and a measured one is what the machine took.
func TestLatencyIsChargedToTheWorld(t *testing.T) {
	for _, c := range []struct {
		latency string
		ready   time.Duration   // when the first chunk reaches the executor
		asked   []time.Duration // when chunks are begun
	}{
		{"0", 0, []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}},
		{"100ms", 100 * time.Millisecond, []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}},
		{"250ms", 250 * time.Millisecond, []time.Duration{0, 250 * time.Millisecond, 500 * time.Millisecond}},
		{"measured", 30 * time.Millisecond, []time.Duration{0, 200 * time.Millisecond, 400 * time.Millisecond}},
	} {
		t.Run(c.latency, func(t *testing.T) {
			l := loopOf(settings(t, ""))
			var err error
			if l.Latency, err = ParseLatency(c.latency); err != nil {
				t.Fatal(err)
			}
			if l.Latency.String() != c.latency {
				t.Errorf("%s is %s", c.latency, l.Latency)
			}
			e := episode(t, TinyReach, 1)
			e.Limit = 600 * time.Millisecond
			begin := e.World.State()[0]
			moved := time.Duration(-1)
			e.Success = func() bool {
				if moved < 0 && e.World.State()[0] != begin {
					moved = e.World.Now()
				}
				return false
			}
			a := &stamped{value: func(m *Moment, row int) float64 { return begin + 0.04*float64(row+1) }}
			if _, _, err := l.Run(t.Context(), a, e, 1); err != nil {
				t.Fatal(err)
			}
			if len(a.asked) < 3 || !slices.Equal(a.asked[:3], c.asked) {
				t.Errorf("asked at %v, want %v", a.asked, c.asked)
			}
			// The first command of all is the pose as it is, and Success sees the world a
			// command later.
			if moved < c.ready || moved > c.ready+80*time.Millisecond {
				t.Errorf("the arm moves at %v, its chunk is there at %v", moved, c.ready)
			}
		})
	}
	for _, text := range []string{"", "1", "-1s", "11s", "soon"} {
		if l, err := ParseLatency(text); err == nil {
			t.Errorf("%q is %v", text, l)
		}
	}
}

// What a policy asks for beyond all limits stops the arms as on the robot, which ends
// the episode and says why; its pictures stand beside each other.
func TestAStopEndsTheEpisode(t *testing.T) {
	l := loopOf(settings(t, ""))
	l.Frames = 5
	e := episode(t, "lift", 1)
	a := &stamped{value: func(m *Moment, row int) float64 {
		if m.Now.Sub(epoch0()) < 5*time.Second {
			return m.Joints[0]
		}
		return 7
	}}
	r, strip, err := l.Run(t.Context(), a, e, 1)
	if err != nil {
		t.Fatal(err)
	}
	if r.Success || r.Why != "stopped: position_limit" || !strings.HasPrefix(r.Error, "left/joint1") || r.Time < 5 || r.Time > 5.3 {
		t.Errorf("%+v", r)
	}
	// Of five pictures from the beginning to the limit of 10 s three were taken.
	c, err := jpeg.DecodeConfig(bytes.NewReader(strip))
	if err != nil || e.Limit != 10*time.Second || c.Width != 3*framePitch || c.Height != FrameHeight {
		t.Errorf("%d x %d of %v, %v", c.Width, c.Height, e.Limit, err)
	}
}

// broken cannot think after a while.
type broken struct{ stamped }

func (b *broken) Act(ctx context.Context, m *Moment) (Thought, error) {
	if len(b.asked) == 2 {
		return Thought{}, context.DeadlineExceeded
	}
	return b.stamped.Act(ctx, m)
}

// An inference that fails is none, and is told: the arms halt where the last chunk ends.
func TestAFailedInferenceIsCounted(t *testing.T) {
	l := loopOf(settings(t, ""))
	b := &broken{stamped{value: func(m *Moment, row int) float64 { return m.Joints[0] }}}
	r, _, err := l.Run(t.Context(), b, episode(t, TinyReach, 1), 1)
	if err != nil || r.Chunks != 2 || r.Failed < 20 || r.Error != context.DeadlineExceeded.Error() || r.Codes["chunk_ended"] != 1 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestParsing(t *testing.T) {
	all, err := ParseTasks("all")
	if err != nil || slices.Contains(all, TinyReach) || len(all) != len(sim.Tasks()) {
		t.Errorf("all are %v, %v", all, err)
	}
	if some, err := ParseTasks("lift,tiny-reach,lift"); err != nil || !slices.Equal(some, []string{"lift", TinyReach}) {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := ParseTasks("lift,juggle"); err == nil || !strings.Contains(err.Error(), "juggle") {
		t.Error(err)
	}
	if some, err := ParsePerturbations("none,vision,light+camera,all"); err != nil || len(some) != 4 {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := ParsePerturbations("none,"); err == nil {
		t.Error("no name at all is a perturbation")
	}
	if _, err := ParsePerturbations("none,dark"); err == nil || !strings.Contains(err.Error(), "dark") {
		t.Error(err)
	}
	for _, p := range Perturbations() {
		e, err := NewEpisode(newArms(t), Key{"lift", p, 3})
		if err != nil || e.Instruction == "" || e.Wrong == "" || e.Instruction == e.Wrong {
			t.Errorf("%s: %+v, %v", p, e, err)
		}
	}
	if _, err := NewEpisode(newArms(t), Key{TinyReach, "light", 3}); err == nil {
		t.Error("tiny-reach has a light")
	}
}
