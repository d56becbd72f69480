package sim

import (
	"context"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
)

func newNode(t *testing.T, bus *local.Bus, name string) ros.Node {
	t.Helper()
	n, err := bus.Node(ros.Options{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func newProcess(t *testing.T, n ros.Node, c Config) *Process {
	t.Helper()
	p, err := NewProcess(n, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

// order sends the expert's next poses for an instruction as a policy would.
func order(t *testing.T, p *Process, instruction string, ahead time.Duration) {
	t.Helper()
	colour, _ := NamedColour(instruction)
	expert, err := NewExpert(p.world.Arms, p.Scene())
	if err != nil {
		t.Fatal(err)
	}
	goal, ok := expert.Goal(colour)
	if !ok {
		t.Fatalf("no goal for %q", instruction)
	}
	q := Advance(p.world.State(), goal, ahead.Seconds())
	for _, s := range []Side{Left, Right} {
		p.command(s, &msgs.JointState{Position: q[int(s)*armDims : (int(s)+1)*armDims]})
	}
}

// In lock step, with the expert as the policy, every instruction is reached;
// with nobody answering, none is.
func TestScheduleIsReachedByTheExpertOnly(t *testing.T) {
	for _, expert := range []bool{true, false} {
		c := DefaultConfig()
		c.Seed = 5
		c.Schedule = NewSchedule(5, SceneOf(5), 3, 5*time.Second)
		p := newProcess(t, newNode(t, local.NewBus(), "robot"), c)
		const tick = 10 * time.Millisecond
		for done, n := false, 0; !done; n++ {
			if expert && p.script.current >= 0 {
				order(t, p, p.script.now.Instruction, 200*time.Millisecond)
			}
			var err error
			if done, err = p.motion(tick); err != nil {
				t.Fatal(err)
			}
			if n > 1600 {
				t.Fatal("the schedule has no end")
			}
		}
		report := p.Report()
		want := 0
		if expert {
			want = 3
		}
		if len(report.Results) != 3 || report.Reached() != want {
			t.Errorf("expert %v:\n%v", expert, report)
		}
		for i, r := range report.Results {
			if r.Instruction != c.Schedule[i].Instruction || r.Given != 5*time.Second || r.Nearest > r.End || r.Start < Reached {
				t.Errorf("result %d: %+v", i, r)
			}
		}
	}
}

// Until a command comes, the first instruction is repeated and its clock stands.
func TestScheduleWaitsForCommand(t *testing.T) {
	bus := local.NewBus()
	c := DefaultConfig()
	c.WaitForCommand = true
	c.Schedule = NewSchedule(c.Seed, SceneOf(c.Seed), 1, time.Second)
	p := newProcess(t, newNode(t, bus, "robot"), c)
	said := make(chan string, 100)
	if _, err := ros.Subscribe(newNode(t, bus, "listener"), c.InstructionTopic, ros.DefaultQoS(), func(m *msgs.String, _ time.Time) {
		said <- m.Data
	}); err != nil {
		t.Fatal(err)
	}
	for range 400 { // 2 s
		if done, err := p.motion(5 * time.Millisecond); done || err != nil {
			t.Fatal(done, err)
		}
	}
	for range 4 {
		if got := <-said; got != c.Schedule[0].Instruction {
			t.Errorf("said %q", got)
		}
	}
	if r := p.Report(); len(r.Results) != 0 {
		t.Errorf("clock ran: %+v", r)
	}
	order(t, p, c.Schedule[0].Instruction, time.Second)
	for n := 1; ; n++ {
		done, err := p.motion(5 * time.Millisecond)
		if err != nil {
			t.Fatal(err)
		}
		if done {
			if n != 200 {
				t.Errorf("over after %d steps of 5 ms, want 200", n)
			}
			break
		}
	}
}

func TestCommandOfWrongLengthIsIgnored(t *testing.T) {
	p := newProcess(t, newNode(t, local.NewBus(), "robot"), DefaultConfig())
	for _, n := range []int{0, 6, 8} {
		p.command(Left, &msgs.JointState{Position: make([]float64, n)})
	}
	p.command(Right, &msgs.JointState{Position: []float64{math.NaN(), 0, 0, 0, 0, 0, 0}})
	if r := p.Report(); r.Rejected != 3 || r.Commands != 1 {
		t.Errorf("%+v", r)
	}
	if _, err := p.motion(time.Second); err != nil {
		t.Fatal(err)
	}
	q, home := p.world.State(), Home()
	for i, v := range q.Joints(Left) {
		if v != home.Joints(Left)[i] {
			t.Errorf("left joint %d moved to %g", i+1, v)
		}
	}
}

// Run publishes everything over a bus, in both picture formats; a stopped
// camera is silent.
func TestRunPublishesWhatTheRobotDoes(t *testing.T) {
	for _, compressed := range []bool{false, true} {
		bus := local.NewBus()
		c := DefaultConfig()
		c.Compressed = compressed
		p := newProcess(t, newNode(t, bus, "robot"), c)
		p.StopCamera(WristRight, true)

		peer := newNode(t, bus, "peer")
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		var mu sync.Mutex
		missing := map[string]bool{}
		heard := func(what string) {
			mu.Lock()
			defer mu.Unlock()
			if delete(missing, what); len(missing) == 0 {
				cancel()
			}
		}
		want := make([]byte, p.painter.Size())
		home := Home()
		var pixels vision.Pixels
		for i, topic := range c.CameraTopics {
			if CameraID(i) != WristRight {
				missing[topic] = true
			}
			var err error
			if compressed {
				_, err = ros.Subscribe(peer, topic+"/compressed", ros.SensorDataQoS(), func(m *msgs.CompressedImage, _ time.Time) {
					mu.Lock()
					if err := vision.DecodeJPEG(m.Data, &pixels); err != nil || pixels.Width != PictureWidth || m.Format != "jpeg" {
						t.Errorf("%s: %v", topic, err)
					}
					mu.Unlock()
					heard(topic)
				})
			} else {
				_, err = ros.Subscribe(peer, topic, ros.SensorDataQoS(), func(m *msgs.Image, _ time.Time) {
					mu.Lock()
					if err := NewRenderer(p.world.Arms, PictureWidth, PictureHeight).Render(&home, p.Scene(), CameraID(i), want); err != nil {
						t.Error(err)
					}
					if string(m.Data) != string(want) || m.Encoding != "rgb8" || m.Width != PictureWidth || m.Height != PictureHeight || m.Step != 3*PictureWidth {
						t.Errorf("%s: not what the camera sees", topic)
					}
					if !strings.HasSuffix(m.Header.FrameID, "_color_optical_frame") || m.Header.Stamp == (msgs.Time{}) {
						t.Errorf("%s: header %+v", topic, m.Header)
					}
					mu.Unlock()
					heard(topic)
				})
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []Side{Left, Right} {
			missing[c.StateTopics[s]] = true
			if _, err := ros.Subscribe(peer, c.StateTopics[s], ros.DefaultQoS(), func(m *msgs.JointState, _ time.Time) {
				if len(m.Position) != 7 || len(m.Velocity) != 7 || len(m.Name) != 7 || m.Name[6] != "joint6" || m.Position[1] != 0.3 {
					t.Errorf("%s: %+v", c.StateTopics[s], m)
				}
				heard(c.StateTopics[s])
			}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := p.Run(ctx); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		if len(missing) != 0 {
			t.Errorf("compressed %v: heard nothing of %v", compressed, missing)
		}
		mu.Unlock()
	}
}

// A command over the bus moves the arm that it is for.
func TestCommandOverTheBus(t *testing.T) {
	bus := local.NewBus()
	c := DefaultConfig()
	p := newProcess(t, newNode(t, bus, "robot"), c)
	peer := newNode(t, bus, "peer")
	pub, err := ros.Advertise[msgs.JointState](peer, c.CommandTopics[Right], ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := ros.Subscribe(peer, c.StateTopics[Right], ros.DefaultQoS(), func(m *msgs.JointState, _ time.Time) {
		if err := pub.Publish(&msgs.JointState{Position: []float64{0.1, 0.4, -0.5, 0, 1, 0, 0.05}}); err != nil {
			t.Error(err)
		}
		if m.Position[0] > 0.09 && m.Position[6] > 0.04 {
			cancel()
		}
	}); err != nil {
		t.Fatal(err)
	}
	report, err := p.Run(ctx)
	if err != nil || report.Commands == 0 {
		t.Fatalf("%+v: %v", report, err)
	}
	q, home := p.world.State(), Home()
	if q.Joints(Right)[0] < 0.09 {
		t.Errorf("the right arm is at %v", q.Joints(Right))
	}
	if q.Joints(Left)[0] != home.Joints(Left)[0] {
		t.Errorf("the left arm is at %v", q.Joints(Left))
	}
}

func TestProcessNamesWhatIsWrong(t *testing.T) {
	n := newNode(t, local.NewBus(), "robot")
	for want, change := range map[string]func(*Config){
		"CameraRate":  func(c *Config) { c.CameraRate = 0 },
		"JointRate":   func(c *Config) { c.JointRate = math.NaN() },
		"JPEGQuality": func(c *Config) { c.Compressed, c.JPEGQuality = true, 0 },
		"Schedule[0]": func(c *Config) { c.Schedule = []Step{{"reach the red cube", 0}} },
		"names none":  func(c *Config) { c.Schedule = []Step{{"dance", time.Second}} },
		"bad name":    func(c *Config) { c.CameraTopics[1] = "bad name" },
		"there is no blue cube": func(c *Config) {
			c.Seed = seedWithout("blue")
			c.Schedule = []Step{{"touch the blue one", time.Second}}
		},
	} {
		c := DefaultConfig()
		change(&c)
		if _, err := NewProcess(n, c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, have %v", want, err)
		}
	}
}

func seedWithout(c Colour) uint64 {
	for seed := uint64(0); ; seed++ {
		if _, err := SceneOf(seed).Find(c); err != nil {
			return seed
		}
	}
}
