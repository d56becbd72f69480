package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/urdf"
)

// Config is what a Process publishes and where. [DefaultConfig] has the values
// of AgileX's Cobot Magic.
type Config struct {
	// Seed draws the scene; 0 is a seed like any other.
	Seed uint64
	// CameraTopics are the cameras' image topics, in the order of CameraID.
	CameraTopics [Cameras]string
	// Compressed publishes sensor_msgs/CompressedImage on the camera topics with
	// "/compressed" added, in place of sensor_msgs/Image.
	Compressed bool
	// JPEGQuality of compressed pictures, 1 to 100 (default 90, as AgileX's
	// recorder writes).
	JPEGQuality int
	// CameraRate is how many pictures a second each camera sends (default 30).
	CameraRate float64
	// JointRate is how many times a second joint states are sent and commands
	// followed (default 200).
	JointRate float64
	// StateTopics and CommandTopics are the arms' JointState topics, left first.
	StateTopics, CommandTopics [2]string
	// InstructionTopic is the std_msgs/String topic of the schedule.
	InstructionTopic string
	// Servo is the delay and noise of the arms' drives (default none).
	Servo ServoOptions
	// Task names a task of [Tasks] to ask for, or is [AllTasks] for all in turn;
	// where it is empty the table has cubes that are to be reached for, which
	// nothing touches, and Schedule applies.
	Task string
	// Episodes is how many scenes of Task are laid, from Seed on (default 1); the
	// process ends with them, or, with Stay, goes on without a further instruction
	// until it is cancelled. Start, success or failure of each is told on EpisodeTopic.
	Episodes int
	Stay     bool
	// Perturbation applies to the episodes of Task.
	Perturbation Perturbation
	// Pause is how long the arms may move on after success before the next scene
	// is laid (default 2 s).
	Pause time.Duration
	// Demonstrate has the scripted expert do Task: its commands are published on
	// CommandTopics, as teleoperation does, so that a bag records demonstrations.
	// With WaitForCommand it begins when somebody listens to everything.
	Demonstrate bool
	// HomeService is a std_srvs/Trigger service, such as the node's ~/home, that is
	// called between two episodes of Task; the next table is laid when the arms are
	// at rest. Where it is empty, the arms stay where the episode before left them.
	HomeService string
	// EnableService is a std_srvs/Trigger service, such as the node's ~/enable, that is
	// called until the arms are enabled, and again whenever they are to be taken home.
	// Where it is empty, that is somebody else's to do.
	EnableService string
	// Alone, where it is set, is asked before the arms are enabled; its error, that
	// another robot would move too, ends Run.
	Alone func() error
	// EpisodeTopic is the std_msgs/String topic of the marks of a task's episodes,
	// MarkStart, MarkSuccess and MarkFailure.
	EpisodeTopic string
	// Schedule is what to ask for, one after the other; the process ends with
	// it. Without one the process runs until it is cancelled.
	Schedule []Step
	// WaitForCommand starts the schedule's clock when the first command comes,
	// that is when a policy is up and enabled; until then the first instruction
	// is repeated.
	WaitForCommand bool
	// Logger may be nil.
	Logger *zap.Logger
}

// Step is an instruction and how long it is given.
type Step struct {
	Instruction string
	Duration    time.Duration
}

// DefaultConfig returns the profile "aloha" of AgileX's own clients: pictures
// on /camera_{f,l,r}/color/image_raw, states on /puppet, commands on /master.
func DefaultConfig() Config {
	return Config{
		CameraTopics:     [Cameras]string{"/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw"},
		JPEGQuality:      90,
		CameraRate:       30,
		JointRate:        200,
		StateTopics:      [2]string{"/puppet/joint_left", "/puppet/joint_right"},
		CommandTopics:    [2]string{"/master/joint_left", "/master/joint_right"},
		InstructionTopic: "/ddvla/instruction",
		EpisodeTopic:     "/ddvla/episode",
		Episodes:         1,
		Pause:            2 * time.Second,
	}
}

// AllTasks is the Config.Task that stands for all of them in turn.
const AllTasks = "all"

// Validate names the first field that cannot be used.
func (c Config) Validate() error {
	switch {
	case c.Compressed && (c.JPEGQuality < 1 || c.JPEGQuality > 100):
		return fmt.Errorf("sim: JPEGQuality is %d, must be 1 to 100", c.JPEGQuality)
	case !(c.CameraRate >= 0.01 && c.CameraRate <= 1000):
		return fmt.Errorf("sim: CameraRate is %g, must be 0.01 to 1000", c.CameraRate)
	case !(c.JointRate >= 0.01 && c.JointRate <= 1000):
		return fmt.Errorf("sim: JointRate is %g, must be 0.01 to 1000", c.JointRate)
	}
	switch {
	case c.Servo.Delay < 0:
		return fmt.Errorf("sim: Servo.Delay is %v, must be 0 or more", c.Servo.Delay)
	case !(c.Servo.Noise >= 0 && c.Servo.Noise <= 1):
		return fmt.Errorf("sim: Servo.Noise is %g rad, must be 0 to 1", c.Servo.Noise)
	case c.Task == "" && c.Demonstrate:
		return errors.New("sim: Demonstrate needs a Task")
	case c.Task != "" && len(c.Schedule) > 0:
		return errors.New("sim: Task brings its own instructions; leave Schedule empty")
	case c.Task != "" && c.Episodes < 1:
		return fmt.Errorf("sim: Episodes is %d, must be at least 1", c.Episodes)
	case c.HomeService != "" && (c.Task == "" || c.Demonstrate):
		return errors.New("sim: HomeService needs a Task that is not demonstrated")
	case c.EnableService != "" && c.Demonstrate:
		return errors.New("sim: EnableService is for a policy, and the expert drives; leave out Demonstrate")
	case c.Pause < 0:
		return fmt.Errorf("sim: Pause is %v, must be 0 or more", c.Pause)
	}
	for i, s := range c.Schedule {
		if s.Duration <= 0 {
			return fmt.Errorf("sim: Schedule[%d] %q lasts %v, must be above 0", i, s.Instruction, s.Duration)
		}
	}
	return nil
}

// NewSchedule draws n instructions of the given length for a scene, none for
// the same cube as the one before.
func NewSchedule(seed uint64, scene Scene, n int, each time.Duration) []Step {
	const stream = 1<<40 + 1 // apart from the scene's own draws
	rng := NewRand(seed, stream)
	var out []Step
	last := -1
	for range n {
		i := rng.IntN(len(scene.Cubes))
		if i == last {
			i = (i + 1) % len(scene.Cubes)
		}
		last = i
		out = append(out, Step{Instruction(rng, scene.Cubes[i].Colour), each})
	}
	return out
}

// SceneOf returns the scene that a seed stands for in a Process. No data set
// has it: sample numbers stay below its stream.
func SceneOf(seed uint64) Scene {
	const stream = 1 << 40
	return NewScene(NewRand(seed, stream))
}

// Process is a simulated robot on topics.
type Process struct {
	conf Config
	node ros.Node
	log  *zap.Logger

	mu       sync.Mutex // guards what commands and pictures share
	world    *World
	stopped  [Cameras]bool
	commands uint64
	rejected uint64

	script   *script
	trials   *trials       // nil without a task
	homing   homing        // between its episodes
	enabling ros.Client    // nil: somebody else enables the arms
	elapsed  time.Duration // simulated, over all episodes
	acted    time.Duration // since the expert last decided

	demo        demonstration
	masters     [2]*ros.TypedPublisher[msgs.JointState, *msgs.JointState] // of demonstrations
	marks       *ros.TypedPublisher[msgs.String, *msgs.String]            // of a task's episodes
	states      [2]*ros.TypedPublisher[msgs.JointState, *msgs.JointState]
	raw         [Cameras]*ros.TypedPublisher[msgs.Image, *msgs.Image]
	jpeg        [Cameras]*ros.TypedPublisher[msgs.CompressedImage, *msgs.CompressedImage]
	instruction *ros.TypedPublisher[msgs.String, *msgs.String]
	closers     []interface{ Close() error }

	// Each used by one of the two loops only.
	joint   msgs.JointState
	picture []byte
	stream  []byte
	painter *Renderer
	seen    World // what the cameras see, and how
	look    Look
}

// NewProcess advertises and subscribes the robot's topics on node. Close it
// even when Run was never called.
func NewProcess(node ros.Node, conf Config) (*Process, error) {
	if err := conf.Validate(); err != nil {
		return nil, err
	}
	robot, err := urdf.CobotMagic()
	if err != nil {
		return nil, err
	}
	arms, err := NewArms(robot)
	if err != nil {
		return nil, err
	}
	p := &Process{
		conf: conf, node: node, log: conf.Logger,
		world:   NewWorld(arms, SceneOf(conf.Seed)),
		painter: NewRenderer(arms, PictureWidth, PictureHeight),
	}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	if conf.Task == "" {
		p.script, err = newScript(p.world, conf.Schedule)
	} else if p.trials, err = newTrials(arms, &p.conf); err == nil {
		p.world = p.trials.episode.World
	}
	if err != nil {
		return nil, err
	}
	p.world.SetServo(conf.Servo)
	p.picture = make([]byte, p.painter.Size())
	if err := p.connect(); err != nil {
		return nil, errors.Join(fmt.Errorf("sim: %w", err), p.Close())
	}
	return p, nil
}

func (p *Process) connect() (err error) {
	for i, topic := range p.conf.CameraTopics {
		if p.conf.Compressed {
			p.jpeg[i], err = advertise[msgs.CompressedImage](p, topic+"/compressed", ros.SensorDataQoS())
		} else {
			p.raw[i], err = advertise[msgs.Image](p, topic, ros.SensorDataQoS())
		}
		if err != nil {
			return err
		}
	}
	for _, s := range []Side{Left, Right} {
		if p.states[s], err = advertise[msgs.JointState](p, p.conf.StateTopics[s], ros.DefaultQoS()); err != nil {
			return err
		}
		if p.conf.Demonstrate {
			if p.masters[s], err = advertise[msgs.JointState](p, p.conf.CommandTopics[s], ros.DefaultQoS()); err != nil {
				return err
			}
			continue // its own commands are followed as they are made
		}
		sub, err := ros.Subscribe(p.node, p.conf.CommandTopics[s], ros.DefaultQoS(), func(m *msgs.JointState, _ time.Time) {
			p.command(s, m)
		})
		if err != nil {
			return fmt.Errorf("topic %s: %w", p.conf.CommandTopics[s], err)
		}
		p.closers = append(p.closers, sub)
	}
	if p.trials != nil {
		if p.marks, err = advertise[msgs.String](p, p.conf.EpisodeTopic, ros.DefaultQoS()); err != nil {
			return err
		}
	}
	p.homing = homing{asked: make(chan struct{}, 1), reply: time.Second, again: 500 * time.Millisecond}
	if p.conf.EnableService != "" {
		if p.enabling, err = ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](p.node, p.conf.EnableService); err != nil {
			return fmt.Errorf("service %s: %w", p.conf.EnableService, err)
		}
		p.closers = append(p.closers, p.enabling)
	}
	if p.conf.HomeService != "" {
		if p.homing.client, err = ros.NewClient[msgs.TriggerRequest, msgs.TriggerResponse](p.node, p.conf.HomeService); err != nil {
			return fmt.Errorf("service %s: %w", p.conf.HomeService, err)
		}
		p.closers = append(p.closers, p.homing.client)
		p.trials.home = &p.homing
	}
	if len(p.conf.Schedule) > 0 || p.trials != nil {
		p.instruction, err = advertise[msgs.String](p, p.conf.InstructionTopic, ros.DefaultQoS())
	}
	return err
}

func advertise[T any, M ros.MessageOf[T]](p *Process, topic string, qos ros.QoS) (*ros.TypedPublisher[T, M], error) {
	pub, err := ros.Advertise[T, M](p.node, topic, qos)
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	p.closers = append(p.closers, pub)
	return pub, nil
}

// Close withdraws the topics.
func (p *Process) Close() error {
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		errs = append(errs, c.Close())
	}
	p.closers = nil
	return errors.Join(errs...)
}

// Scene returns the cubes that are to be reached for, none with a task.
func (p *Process) Scene() Scene { return p.world.Scene }

// StopCamera makes a camera fall silent, or speak again.
func (p *Process) StopCamera(c CameraID, stopped bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped[c] = stopped
}

// Run moves and publishes in real time until the schedule is done or ctx ends,
// and returns what was reached. The end of ctx is no error.
func (p *Process) Run(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer cancel() // the cameras end with the schedule
		return every(ctx, p.conf.JointRate, p.motion)
	})
	group.Go(func() error {
		return every(ctx, p.conf.CameraRate, func(time.Duration) (bool, error) { return false, p.pictures() })
	})
	group.Go(func() error { return p.enableFirst(ctx) })
	group.Go(func() error { return p.callHome(ctx) })
	err := group.Wait()
	return p.Report(), err
}

// every calls f rate times a second with the time since its last call, until f
// says that it is done. A late call is made once, not several times.
func every(ctx context.Context, rate float64, f func(dt time.Duration) (done bool, err error)) error {
	ticker := time.NewTicker(time.Duration(float64(time.Second) / rate))
	defer ticker.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-ticker.C:
			done, err := f(now.Sub(last))
			if done || err != nil {
				return err
			}
			last = now
		}
	}
}

// motion lets dt pass: servo, schedule, joint states.
func (p *Process) motion(dt time.Duration) (done bool, err error) {
	p.mu.Lock()
	var waiting bool
	var mark string
	if p.conf.Demonstrate {
		waiting = p.open(dt)
	} else {
		// The enabled node holds its pose, so commands alone do not show that it hears.
		waiting = p.conf.WaitForCommand && (p.commands == 0 || p.instruction != nil && p.instruction.MatchedSubscriptions() == 0)
	}
	if !waiting {
		p.demonstrate(dt)
	}
	p.world.Step(dt)
	p.elapsed += dt
	var say string
	if p.trials != nil {
		say, mark, done, err = p.trials.advance(dt, waiting)
		p.world = p.trials.episode.World
	} else {
		say, done = p.script.advance(dt, waiting)
	}
	position, velocity, target := p.world.State(), p.world.Velocity(), p.world.servo.target
	p.mu.Unlock()
	if err != nil {
		return false, err
	}
	if say != "" {
		if err := p.instruction.Publish(&msgs.String{Data: say}); err != nil {
			return false, fmt.Errorf("sim: instruction: %w", err)
		}
	}
	if mark != "" {
		if err := p.marks.Publish(&msgs.String{Data: mark}); err != nil {
			return false, fmt.Errorf("sim: mark of an episode: %w", err)
		}
	}
	stamp := msgs.TimeOf(p.node.Now())
	for _, s := range []Side{Left, Right} {
		p.fill(s, stamp, &position, &velocity)
		if err := p.states[s].Publish(&p.joint); err != nil {
			return false, fmt.Errorf("sim: joint state of the %s arm: %w", s, err)
		}
		if p.masters[s] == nil {
			continue
		}
		p.fill(s, stamp, &target, &State{})
		if err := p.masters[s].Publish(&p.joint); err != nil {
			return false, fmt.Errorf("sim: command of the %s arm: %w", s, err)
		}
	}
	return done, nil
}

// fill writes one arm's state as AgileX's driver does: joint0 to joint6, the
// last one the gripper's opening.
func (p *Process) fill(s Side, stamp msgs.Time, position, velocity *State) {
	m := &p.joint
	if m.Name == nil {
		for j := range armDims {
			m.Name = append(m.Name, fmt.Sprintf("joint%d", j))
		}
		m.Effort = make([]float64, armDims)
	}
	from, to := int(s)*armDims, (int(s)+1)*armDims
	m.Header.Stamp = stamp
	m.Position = append(m.Position[:0], position[from:to]...)
	m.Velocity = append(m.Velocity[:0], velocity[from:to]...)
}

// command follows a JointState as AgileX's driver does, by position; a message
// of another length is counted and ignored.
func (p *Process) command(s Side, m *msgs.JointState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(m.Position) != armDims {
		p.rejected++
		return
	}
	p.commands++
	p.world.servo.CommandArm(s, [armDims]float64(m.Position))
}

// pictures sends what the cameras see, all of the same moment.
func (p *Process) pictures() error {
	p.mu.Lock()
	p.world.copyTo(&p.seen)
	var episode *Episode
	if p.trials != nil {
		episode = p.trials.episode
		p.look = episode.Look
	}
	stopped := p.stopped
	p.mu.Unlock()
	header := msgs.Header{Stamp: msgs.TimeOf(p.node.Now())}
	for i := range CameraID(Cameras) {
		if stopped[i] {
			continue
		}
		header.FrameID = [Cameras]string{
			"camera_f_color_optical_frame", "camera_l_color_optical_frame", "camera_r_color_optical_frame",
		}[i]
		err := p.paint(i)
		if err == nil && p.conf.Compressed {
			err = p.publishJPEG(i, header)
		} else if err == nil {
			err = p.raw[i].Publish(&msgs.Image{
				Header: header, Width: PictureWidth, Height: PictureHeight,
				Encoding: "rgb8", Step: 3 * PictureWidth, Data: p.picture,
			})
		}
		if err != nil {
			return fmt.Errorf("sim: camera %s: %w", i, err)
		}
	}
	if p.conf.Demonstrate {
		p.showed(episode)
	}
	return nil
}

// paint draws what camera i sees: tasks with their look, cubes to be reached for
// as the data sets of the tiny policy show them.
func (p *Process) paint(i CameraID) error {
	if p.trials == nil {
		return p.painter.Render(&p.seen.servo.Position, p.seen.Scene, i, p.picture)
	}
	return p.painter.RenderWorld(&p.seen, &p.look, i, p.picture)
}

func (p *Process) publishJPEG(i CameraID, header msgs.Header) (err error) {
	pixels := vision.Pixels{Width: PictureWidth, Height: PictureHeight, RGB: p.picture}
	if p.stream, err = vision.EncodeJPEG(p.stream, pixels, p.conf.JPEGQuality); err != nil {
		return err
	}
	return p.jpeg[i].Publish(&msgs.CompressedImage{Header: header, Format: "jpeg", Data: p.stream})
}

// Report returns what was reached so far.
func (p *Process) Report() Report {
	p.mu.Lock()
	defer p.mu.Unlock()
	r := Report{Commands: p.commands, Rejected: p.rejected, Simulated: p.elapsed}
	if p.trials != nil {
		r.Tasks = p.trials.results()
	} else {
		r.Results = p.script.results()
	}
	return r
}
