package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/cyclone"
	"github.com/ddvla/ddvla/ros/rostest"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// faultRobot is a Cobot Magic on topics, with its operator, for a node that faults are done to. Its arms follow the
// newest command as drivers do, as fast as sim.Servo's limits of velocity and acceleration let them, and it writes
// down what it measured, showed and heard.
type faultRobot struct {
	*testing.T
	domain  int
	ros     ros.Node
	random  *rand.Rand
	scene   sim.Scene
	painter *sim.Renderer

	states  [2]*ros.TypedPublisher[msgs.JointState, *msgs.JointState]
	cameras [sim.Cameras]*ros.TypedPublisher[msgs.Image, *msgs.Image]
	clock   *ros.TypedPublisher[msgs.Clock, *msgs.Clock] // nil where time is the machine's
	say     *ros.TypedPublisher[msgs.String, *msgs.String]
	heard   []ros.Subscription
	joint   msgs.JointState
	picture msgs.Image

	mu      sync.Mutex
	past    history
	servo   *sim.Servo
	now     time.Time     // simulated
	elapsed time.Duration // since the start, in which the clock does not jump
	shown   time.Duration // when the last pictures were sent
	steps   int
	epoch   int
	stands  bool
	blind   [sim.Cameras]bool
	numb    [2]bool
	status  map[string]string // of the node, newest
	told    time.Time         // when that came
	fastest [2]float64        // of a joint and of a gripper, measured
	hardest [2]float64
}

// How the robot works. Its pictures are small and few, so that a busy machine has time for faults.
const (
	faultWidth, faultHeight = 160, 120
	faultStep               = 10 * time.Millisecond // of simulated time
	faultStates             = 5 * time.Millisecond  // between joint states else
	faultPictures           = 100 * time.Millisecond
)

func newFaultRobot(t *testing.T, seed uint64, simulated bool) *faultRobot {
	t.Helper()
	r := &faultRobot{T: t, domain: rostest.Domain(t), random: rand.New(rand.NewPCG(seed, 7)), scene: sim.SceneOf(seed)}
	model, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(model)
	if err != nil {
		t.Fatal(err)
	}
	r.servo = sim.NewServo(arms, sim.Home())
	r.painter = sim.NewRenderer(arms, faultWidth, faultHeight)
	r.past.simulated, r.now = simulated, time.Unix(1_000_000, 0)
	if r.ros, err = cyclone.NewNode(context.Background(), ros.Options{Name: "robot", DomainID: r.domain, LocalhostOnly: true}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.ros.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(r.advertise(), r.listen()); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var living sync.WaitGroup
	living.Go(func() {
		if err := r.live(ended); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { close(ended); living.Wait() })
	return r
}

func (r *faultRobot) advertise() (err error) {
	names := sim.DefaultConfig()
	for a := range r.states {
		if r.states[a], err = ros.Advertise[msgs.JointState](r.ros, names.StateTopics[a], ros.DefaultQoS()); err != nil {
			return err
		}
	}
	for c := range r.cameras {
		if r.cameras[c], err = ros.Advertise[msgs.Image](r.ros, names.CameraTopics[c], ros.SensorDataQoS()); err != nil {
			return err
		}
	}
	if r.past.simulated {
		if r.clock, err = ros.Advertise[msgs.Clock](r.ros, "/clock", ros.DefaultQoS()); err != nil {
			return err
		}
	}
	r.say, err = ros.Advertise[msgs.String](r.ros, names.InstructionTopic, ros.DefaultQoS())
	for j := range 7 {
		r.joint.Name = append(r.joint.Name, fmt.Sprintf("joint%d", j))
	}
	r.joint.Effort = make([]float64, 7)
	r.picture = msgs.Image{Width: faultWidth, Height: faultHeight, Encoding: "rgb8", Step: 3 * faultWidth, Data: make([]byte, r.painter.Size())}
	return err
}

// listen takes commands, of which none may get lost in a test process that gets no turn for a while.
func (r *faultRobot) listen() error {
	hear := func(s ros.Subscription, err error) error {
		r.heard = append(r.heard, s)
		return err
	}
	var errs []error
	for a, topic := range commandTopics {
		errs = append(errs, hear(ros.Subscribe(r.ros, topic, ros.QoS{Depth: 10000}, func(m *msgs.JointState, _ time.Time) {
			s := setpoint{names: slices.Clone(m.Name), p: slices.Clone(m.Position), others: len(m.Velocity) + len(m.Effort),
				stamp: m.Header.Stamp.Time(), received: time.Now()}
			r.mu.Lock()
			defer r.mu.Unlock()
			r.past.sent[a] = append(r.past.sent[a], s)
			if len(s.p) == 7 {
				r.servo.CommandArm(sim.Side(a), [7]float64(s.p))
			}
		})))
	}
	errs = append(errs, hear(ros.Subscribe(r.ros, "/ddvla/action_chunk", ros.QoS{Depth: 1000}, func(m *msgs.JointTrajectory, _ time.Time) {
		r.mu.Lock()
		defer r.mu.Unlock()
		last := m.Points[len(m.Points)-1].TimeFromStart
		r.past.chunks = append(r.past.chunks, thought{m.Header.Stamp.Time(), time.Now(), last.Duration()})
	})))
	errs = append(errs, hear(ros.Subscribe(r.ros, "/ddvla/status", ros.LatchedQoS(), func(m *msgs.DiagnosticArray, _ time.Time) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.status, r.told = map[string]string{"message": m.Status[0].Message}, time.Now()
		for _, v := range m.Status[0].Values {
			r.status[v.Key] = v.Value
		}
	})))
	return errors.Join(errs...)
}

// live lets time pass until ended is closed.
func (r *faultRobot) live(ended <-chan struct{}) error {
	period := faultStates
	if r.past.simulated {
		period = faultStep
	}
	ticker := time.NewTicker(period)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ended:
			return nil
		case <-ticker.C:
		}
		now := time.Now()
		if err := r.step(now, now.Sub(last)); err != nil {
			return err
		}
		last = now
	}
}

// step moves the arms on and says what the robot then says.
func (r *faultRobot) step(at time.Time, dt time.Duration) error {
	r.mu.Lock()
	if r.past.simulated {
		if r.stands {
			r.steps++
			r.mu.Unlock()
			return nil
		}
		dt = faultStep
		r.now = r.now.Add(dt)
		at = r.now
	}
	r.elapsed += dt
	r.move(dt)
	q, v := r.servo.Position, r.servo.Velocity
	blind, numb := r.blind, r.numb
	show := r.elapsed-r.shown >= faultPictures
	if show {
		r.shown = r.elapsed
	}
	published := time.Now()
	if r.past.simulated {
		r.past.clock = append(r.past.clock, beat{at, published, r.elapsed.Seconds(), r.epoch})
	}
	r.past.felt = append(r.past.felt, felt{at.Round(0), published, q, numb})
	if show && blind == [sim.Cameras]bool{} {
		r.past.looks = append(r.past.looks, look{at.Round(0), published})
	}
	r.steps++
	r.mu.Unlock()

	if r.clock != nil {
		if err := r.clock.Publish(&msgs.Clock{Clock: msgs.TimeOf(at)}); err != nil {
			return err
		}
	}
	for a, publisher := range r.states {
		r.joint.Header.Stamp = msgs.TimeOf(at)
		r.joint.Position, r.joint.Velocity = q[7*a:7*a+7], v[7*a:7*a+7]
		if numb[a] {
			continue
		}
		if err := publisher.Publish(&r.joint); err != nil {
			return err
		}
	}
	for c := range r.cameras {
		if !show || blind[c] {
			continue
		}
		r.picture.Header.Stamp = msgs.TimeOf(at)
		if err := r.painter.Render(&q, r.scene, sim.CameraID(c), r.picture.Data); err != nil {
			return err
		}
		if err := r.cameras[c].Publish(&r.picture); err != nil {
			return err
		}
	}
	return nil
}

// move lets the drivers work and notes how fast they made the arms.
func (r *faultRobot) move(dt time.Duration) {
	for ; dt > 0; dt -= faultStates {
		step, was := min(dt, faultStates).Seconds(), r.servo.Velocity
		r.servo.Step(step)
		for j, v := range r.servo.Velocity {
			kind := 0
			if j%7 == 6 {
				kind = 1
			}
			r.fastest[kind] = max(r.fastest[kind], math.Abs(v))
			r.hardest[kind] = max(r.hardest[kind], math.Abs(v-was[j])/step)
		}
	}
}

// jump makes the simulated clock jump. It never shows the same time twice, so that each stamp is of one moment.
func (r *faultRobot) jump(by time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if by < 0 {
		r.epoch++
	}
	r.now = r.now.Add(by)
	for unique := false; !unique; {
		unique = true
		for _, b := range r.past.clock {
			if b.value.Sub(r.now)%faultStep == 0 {
				r.now, unique = r.now.Add(time.Nanosecond), false
				break
			}
		}
	}
}

// set changes what the robot does.
func (r *faultRobot) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

// wait waits for something of the robot's, with r.mu held while it asks.
func (r *faultRobot) wait(what string, done func() bool) {
	r.Helper()
	rostest.Wait(r, what, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return done()
	})
}

// pass lets the robot make some steps.
func (r *faultRobot) pass(steps int) {
	r.Helper()
	until := -1
	r.wait("the robot lives", func() bool {
		if until < 0 {
			until = r.steps + steps
		}
		return r.steps >= until
	})
}

// begin starts a node's process.
func (r *faultRobot) begin(args ...string) *process {
	r.Helper()
	p := &process{t: r.T, cmd: exec.Command(os.Args[0], append([]string{"node", "--ros-args", "--log-level", "warn"}, args...)...), stderr: &output{}, ended: make(chan error, 1)}
	p.cmd.Env = append(os.Environ(), fmt.Sprint("ROS_DOMAIN_ID=", r.domain), "ROS_LOCALHOST_ONLY=1", "CYCLONEDDS_URI=", "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = p.stderr
	r.set(func() { r.past.lives = append(r.past.lives, life{span: span{from: time.Now()}}) })
	if err := p.cmd.Start(); err != nil {
		r.Fatal(err)
	}
	go func() { p.ended <- p.cmd.Wait() }()
	r.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if r.Failed() {
			r.mu.Lock()
			r.Logf("the node's status, %v ago: %v", time.Since(r.told).Round(time.Millisecond), r.status)
			r.mu.Unlock()
			r.Logf("the node logged:\n%s", p.stderr)
		}
	})
	return p
}

// kill ends it as the kernel would.
func (r *faultRobot) kill(p *process) {
	r.Helper()
	if err := p.end(syscall.SIGKILL); err == nil || err.Error() != "signal: killed" {
		r.Fatalf("the process ended by itself: %v\n%s", err, p.stderr)
	}
	r.set(func() { r.past.lives[len(r.past.lives)-1].to = time.Now() })
}

// stop stops it, all its threads, until resume.
func (r *faultRobot) stop(p *process) {
	r.Helper()
	pid := p.cmd.Process.Pid
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		r.Fatal(err)
	}
	rostest.Wait(r, "the process is stopped", func() bool {
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil {
			return false
		}
		for _, thread := range threads {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, thread.Name()))
			if err != nil || !strings.Contains(string(stat), ") T ") {
				return false
			}
		}
		return true
	})
	r.set(func() {
		l := &r.past.lives[len(r.past.lives)-1]
		l.stops = append(l.stops, span{from: time.Now()})
	})
}

func (r *faultRobot) resume(p *process) {
	r.Helper()
	r.set(func() {
		l := &r.past.lives[len(r.past.lives)-1]
		l.stops[len(l.stops)-1].to = time.Now()
	})
	if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGCONT); err != nil {
		r.Fatal(err)
	}
}

// up waits until the node that was started last says that it is active.
func (r *faultRobot) up(p *process) {
	r.Helper()
	r.wait("the node is active", func() bool {
		select {
		case err := <-p.ended:
			r.Fatalf("the node ended: %v\n%s", err, p.stderr)
		default:
		}
		return r.told.After(r.past.lives[len(r.past.lives)-1].from) && strings.HasPrefix(r.status["message"], "disabled")
	})
}

// enable calls the service once. It may answer late or not at all where the process is stopped, dead or slow.
func (r *faultRobot) enable() (granted bool) {
	r.Helper()
	client, err := ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](r.ros, "/ddvla/enable")
	if err != nil {
		r.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	var i int
	r.set(func() {
		i = len(r.past.asked)
		r.past.asked = append(r.past.asked, span{from: time.Now()})
	})
	reply, err := ros.Call[msgs.TriggerRequest, msgs.TriggerResponse](ctx, client, &msgs.TriggerRequest{})
	if err != nil {
		return false
	}
	r.set(func() { r.past.asked[i].to = time.Now() })
	return reply.Success
}

// driven waits until the arms move, and enables them as often as that takes.
func (r *faultRobot) driven() {
	r.Helper()
	var from, thoughts, pressed int
	r.set(func() { from, thoughts, pressed = len(r.past.sent[0]), len(r.past.chunks), r.steps-1000 })
	rostest.Wait(r, "the arms are commanded to move", func() bool {
		r.mu.Lock()
		moved := 0
		sent := &r.past.sent
		for k := from + 1; k < min(len(sent[0]), len(sent[1])); k++ {
			for a := range sent {
				for j, p := range sent[a][k].p {
					if math.Abs(p-sent[a][k-1].p[j]) > 0.002 {
						moved++
					}
				}
			}
		}
		mode, press := r.status["mode"], r.steps-pressed >= 100
		if press {
			pressed = r.steps
		}
		thought := len(r.past.chunks) >= thoughts+2 // which are told a moment after they are taken
		r.mu.Unlock()
		if moved >= 3 && thought {
			return true
		}
		if press {
			r.set(func() { r.sayOther() })
			if mode != "moving" && mode != "holding" {
				r.enable()
			}
		}
		return false
	})
}

// sayOther gives an instruction, so that the arms have somewhere to go.
func (r *faultRobot) sayOther() {
	if err := r.say.Publish(&msgs.String{Data: "reach the " + string(sim.Colours()[r.random.IntN(4)]) + " cube"}); err != nil {
		r.Error(err)
	}
}

// held waits until the arms are commanded to rest: some equal commands that came after now, or none for a second.
func (r *faultRobot) held() {
	r.Helper()
	from, last, steps := 0, -1, 0
	r.wait("the arms are commanded to rest", func() bool {
		sent := &r.past.sent
		n := min(len(sent[0]), len(sent[1]))
		switch {
		case last < 0:
			from = n
			fallthrough
		case n != last:
			last, steps = n, r.steps
		case r.steps >= steps+200:
			return true
		}
		if n < from+5 {
			return false
		}
		for a := range sent {
			for k := n - 4; k < n; k++ {
				if !slices.Equal(sent[a][k].p, sent[a][n-1].p) {
					return false
				}
			}
		}
		return true
	})
}

// parameters changes the node's.
func (r *faultRobot) parameters(changes ...msgs.Parameter) {
	r.Helper()
	client, err := ros.NewClient[msgs.SetParametersRequest, msgs.SetParametersResponse](r.ros, "/ddvla/set_parameters")
	if err != nil {
		r.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	reply, err := ros.Call[msgs.SetParametersRequest, msgs.SetParametersResponse](ctx, client, &msgs.SetParametersRequest{Parameters: changes})
	if err != nil {
		r.Fatal(err)
	}
	for i, result := range reply.Results {
		if !result.Successful {
			r.Errorf("%s: %s", changes[i].Name, result.Reason)
		}
	}
}

// judged holds what was recorded against the promises.
func (r *faultRobot) judged() *verdict {
	r.Helper()
	for _, s := range r.heard[:2] {
		if s.Lost()+s.Dropped() > 0 {
			r.Logf("%d commands got lost on the way and %d here", s.Lost(), s.Dropped())
		}
	}
	r.mu.Lock()
	past := r.past
	fastest, hardest := r.fastest, r.hardest
	r.mu.Unlock()
	v := past.judge()
	r.Logf("%v; the arms themselves reached %.2f rad/s and %.1f rad/s², the grippers %.3f m/s and %.2f m/s²", v, fastest[0], hardest[0], fastest[1], hardest[1])
	for _, f := range v.faults {
		r.Error(f)
	}
	return v
}
