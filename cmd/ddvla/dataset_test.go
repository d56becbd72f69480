package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// datasetOf runs `ddvla dataset` and opens what it wrote.
func datasetOf(t *testing.T, args ...string) (*dataset.Reader, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "set")
	status, stdout, stderr := call(t, append([]string{"dataset", "--out", out}, args...)...)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	r, err := dataset.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r, stdout
}

// stage is a simulated robot whose messages go into a bag, in simulated time.
type stage struct {
	t       *testing.T
	world   *sim.World
	goal    sim.State
	painter *sim.Renderer
	writer  *bag.Writer
	start   time.Time
	picture []byte

	// What there was, by time since the start.
	states, commands map[time.Duration]sim.State
	frames           map[time.Duration][sim.Cameras][]byte // as the data set has them
	recipe           []*vision.Pipeline
}

const stageRate = 20 // Hz, of pictures and of the data set

// newStage begins a bag; size is of the data set's pictures.
func newStage(t *testing.T, dir string, seed uint64, size int) *stage {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	scene := sim.SceneOf(seed)
	expert, err := sim.NewExpert(arms, scene)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{
		t: t, world: sim.NewWorld(arms, scene), painter: sim.NewRenderer(arms, sim.PictureWidth, sim.PictureHeight), start: time.Unix(1700000000, 0),
		states: map[time.Duration]sim.State{}, commands: map[time.Duration]sim.State{}, frames: map[time.Duration][sim.Cameras][]byte{},
	}
	s.goal, _ = expert.Goal(scene.Cubes[0].Colour)
	s.picture = make([]byte, s.painter.Size())
	for id := range sim.CameraID(sim.Cameras) {
		p, err := vision.New(bundle.Camera{Name: id.String(), JPEGQuality: 95, Resize: bundle.Resize{Width: size, Height: size, Filter: bundle.Lanczos3}, CropArea: 1})
		if err != nil {
			t.Fatal(err)
		}
		s.recipe = append(s.recipe, p)
	}
	if s.writer, err = bag.Create(dir, bag.Options{}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *stage) say(topic string, m msgs.Message) {
	s.t.Helper()
	raw, err := msgs.Marshal(m)
	if err == nil {
		err = s.writer.AddTopic(bag.Topic{Name: topic, Type: m.ROSType()})
	}
	if err == nil {
		err = s.writer.Write(topic, s.start.Add(s.world.Now()), raw)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *stage) joints(topics [2]string, q sim.State) {
	for _, side := range []sim.Side{sim.Left, sim.Right} {
		m := &msgs.JointState{Header: msgs.Header{Stamp: msgs.TimeOf(s.start.Add(s.world.Now()))}, Position: q[7*int(side) : 7*int(side)+7]}
		for k := range m.Position {
			m.Name = append(m.Name, fmt.Sprintf("joint%d", k))
		}
		s.say(topics[side], m)
	}
}

// act lets the expert work for so long: commands and states at 100 Hz, pictures at
// stageRate.
func (s *stage) act(length time.Duration) {
	s.t.Helper()
	const step = 10 * time.Millisecond
	for end := s.world.Now() + length; s.world.Now() < end; s.world.Step(step) {
		now := s.world.Now()
		command := sim.Advance(s.world.State(), s.goal, 0.1)
		s.world.Command(command)
		s.states[now], s.commands[now] = s.world.State(), command
		s.joints(stateTopics, s.world.State())
		s.joints(commandTopics, command)
		if now%(time.Second/stageRate) != 0 {
			continue
		}
		header := msgs.Header{Stamp: msgs.TimeOf(s.start.Add(now))}
		var frames [sim.Cameras][]byte
		for id, topic := range sim.DefaultConfig().CameraTopics {
			q := s.world.State()
			if err := s.painter.Render(&q, s.world.Scene, sim.CameraID(id), s.picture); err != nil {
				s.t.Fatal(err)
			}
			m := &msgs.Image{Header: header, Width: sim.PictureWidth, Height: sim.PictureHeight, Encoding: "rgb8", Step: 3 * sim.PictureWidth, Data: s.picture}
			s.say(topic, m)
			w, h := s.recipe[id].Size()
			frames[id] = make([]byte, 3*w*h)
			if err := s.recipe[id].Raw(vision.Raw{Encoding: m.Encoding, Width: int(m.Width), Height: int(m.Height), Step: int(m.Step), Data: m.Data}, frames[id]); err != nil {
				s.t.Fatal(err)
			}
		}
		s.frames[now] = frames
	}
}

func (s *stage) close() {
	s.t.Helper()
	if err := s.writer.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// checkEpisode compares an episode with what there was from a time on.
func (s *stage) checkEpisode(r *dataset.Reader, e dataset.Episode, from time.Duration, actions map[time.Duration]sim.State) {
	s.t.Helper()
	const frame = time.Second / stageRate
	info := r.Info()
	images, proprio, action := make([]byte, info.ImageBytes()), make([]float32, len(info.Proprio)), make([]float32, len(info.Action))
	for i := range e.Length {
		if err := errors.Join(r.Images(e.Start+i, images), r.Proprio(e.Start+i, proprio), r.Action(e.Start+i, action)); err != nil {
			s.t.Fatal(err)
		}
		at := from + time.Duration(i)*frame
		there := s.frames[at]
		if !bytes.Equal(images, slices.Concat(there[:]...)) {
			s.t.Fatalf("frame %d (%v): other pictures", i, at)
		}
		state, then := s.states[at], actions[at+frame]
		for k := range state {
			if proprio[k] != float32(state[k]) || math.Abs(float64(action[k])-then[k]) > 1e-6 {
				s.t.Fatalf("frame %d (%v): %s is at %g and goes to %g, want %g and %g", i, at, info.Action[k].Name, proprio[k], action[k], state[k], then[k])
			}
		}
	}
}

// What the simulator showed, measured and was commanded is what the data set has,
// after the way through a bag: to the pixel, and to float32.
func TestSimulatorToBagToDataset(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bag")
	s := newStage(t, dir, 3, 64)
	say := func(topic, text string) { s.say(topic, &msgs.String{Data: text}) }
	say("/ddvla/instruction", "reach the red cube")
	s.act(100 * time.Millisecond)
	say("/ddvla/episode", "start")
	s.act(time.Second) // 0.1 to 1.1
	say("/ddvla/episode", "success")
	s.act(300 * time.Millisecond)
	say("/ddvla/instruction", "reach the blue cube")
	s.act(500 * time.Millisecond) // 1.4 to 1.9
	say("/ddvla/episode", "Failure")
	s.act(100 * time.Millisecond)
	s.close()

	args := []string{dir, "--size", "64", "--rate", "20", "--shortest", "400ms", "--name", "demos"}
	r, stdout := datasetOf(t, args...)
	episodes := r.Episodes()
	if len(episodes) != 2 {
		t.Fatalf("%d episodes\n%s", len(episodes), stdout)
	}
	yes, no := true, false
	for i, want := range []struct {
		instruction string
		from        time.Duration
		length      int
		success     *bool
	}{{"reach the red cube", 100 * time.Millisecond, 20, &yes}, {"reach the blue cube", 1400 * time.Millisecond, 10, &no}} {
		e := episodes[i]
		if e.Instruction != want.instruction || e.Length != want.length || e.Success == nil || *e.Success != *want.success || e.Source != dir {
			t.Errorf("episode %+v, want %+v", e, want)
		}
		s.checkEpisode(r, e, want.from, s.commands)
	}
	for _, part := range []string{`(ddvla): "demos", 2 episodes, 30 frames`, "outside the marked episodes", `instruction "reach the red cube" has 1 episodes`, "right_joint6"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the report does not say %q:\n%s", part, stdout)
		}
	}

	// Where the joints were one frame later; and without the failure.
	r, _ = datasetOf(t, append(args, "--actions", "next_state", "--drop-failures")...)
	if n := len(r.Episodes()); n != 1 {
		t.Fatalf("%d episodes", n)
	}
	s.checkEpisode(r, r.Episodes()[0], 100*time.Millisecond, s.states)
	if s, err := r.Statistics(); err != nil || s.NumTransitions != 20 || s.NumTrajectories != 1 {
		t.Errorf("%+v, %v", s, err)
	}
}

// The other layout has the same frames; dataset/lerobot looks at it closely.
func TestDatasetForLeRobot(t *testing.T) {
	out := filepath.Join(t.TempDir(), "set")
	args := []string{"dataset", filepath.Join(bags, "compressed_mcap"), "--out", out, "--size", "16", "--rate", "10", "--layout", "lerobot"}
	status, stdout, stderr := call(t, args...)
	if status != 0 || !strings.Contains(stdout, "set (lerobot)") {
		t.Fatalf("status %d: %s%s", status, stdout, stderr)
	}
	raw, err := os.ReadFile(filepath.Join(out, "meta", "info.json"))
	if err != nil {
		t.Fatal(err)
	}
	plain, _ := datasetOf(t, filepath.Join(bags, "compressed_mcap"), "--size", "16", "--rate", "10")
	if want := fmt.Sprintf(`"total_frames": %d`, plain.Info().Frames); !strings.Contains(string(raw), want) {
		t.Errorf("%s\nwant %s", raw, want)
	}
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil || len(entries) != 1 {
		t.Errorf("beside it lies %v (%v)", entries, err)
	}
	refused(t, 1, []string{out, "not empty"}, args...)
	refused(t, 1, []string{"12.5 Hz", "--rate"}, "dataset", filepath.Join(bags, "compressed_mcap"), "--out", out+"2", "--size", "16", "--rate", "12.5", "--layout", "lerobot")
	refused(t, 2, []string{"--layout", "rlds"}, "dataset", filepath.Join(bags, "compressed_mcap"), "--out", out+"2", "--size", "16", "--rate", "10", "--layout", "rlds")
}

// The bags that ROS wrote, with what a bundle says of cameras and rate.
func TestDatasetOfBagsThatROSWrote(t *testing.T) {
	names := []string{"compressed_db3", "compressed_mcap", "raw_mcap"}
	var args []string
	for _, name := range names {
		args = append(args, filepath.Join(bags, name))
	}
	r, stdout := datasetOf(t, append(args, "--bundle", testbundle.Dir(t), "--shortest", "0")...)
	info := r.Info()
	m, err := bundle.ReadManifest(testbundle.Dir(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.Rate != m.Action.Rate || info.Size != m.Model.ImageSize || !slices.Equal(info.Cameras, m.Cameras) || len(info.Action) != len(m.Action.Dims) {
		t.Errorf("%+v", info)
	}
	// Cameras send 10 pictures a second for 0.5 or 3 s, two instructions in each bag.
	episodes := r.Episodes()
	if len(episodes) != 6 {
		t.Fatalf("%d episodes\n%s", len(episodes), stdout)
	}
	for i, e := range episodes {
		want := []string{"place the cup on the coaster", "press the bell"}[i%2]
		if e.Instruction != want || e.Source != args[i/2] || e.Success != nil {
			t.Errorf("episode %d: %+v", i, e)
		}
	}
	if !strings.Contains(stdout, "send less often than --rate 20 asks for") {
		t.Errorf("nothing is said of the pictures that repeat:\n%s", stdout)
	}
}

// AgileX's recorder writes compressed pictures under the raw topics' names, one bag an
// episode, and no instruction.
func TestDatasetOfAgileXRecordings(t *testing.T) {
	from := filepath.Join(bags, "compressed_mcap")
	var dirs []string
	for i := range 2 {
		dir := filepath.Join(t.TempDir(), fmt.Sprintf("episode%d", i))
		dirs = append(dirs, dir)
		retold(t, from, dir, func(m *bag.Message) bool {
			m.Topic = strings.TrimSuffix(m.Topic, "/compressed")
			return m.Topic != "/instruction"
		})
	}
	args := append(slices.Clone(dirs), "--size", "32", "--rate", "10")
	refused(t, 1, []string{dirs[0], "no instruction"}, append([]string{"dataset", dirs[0], "--out", filepath.Join(t.TempDir(), "set")}, args[2:]...)...)
	for _, wrong := range [][]string{{"--instruction", dirs[1] + "x=stack the cups"}, {"--instruction", "press", "--instruction", "the bell"}} {
		refused(t, 2, []string{wrong[len(wrong)-1]}, slices.Concat([]string{"dataset"}, args, []string{"--out", filepath.Join(t.TempDir(), "set")}, wrong)...)
	}
	r, _ := datasetOf(t, append(args, "--instruction", "press the bell", "--instruction", dirs[1]+"/=stack the cups")...)
	var got []string
	for _, e := range r.Episodes() {
		got = append(got, e.Instruction)
	}
	if want := []string{"press the bell", "stack the cups"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// retold copies the messages of a bag that keep lets through, changed.
func retold(t *testing.T, from, to string, keep func(m *bag.Message) bool) {
	t.Helper()
	r, err := bag.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	w, err := bag.Create(to, bag.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range r.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		copied := *m
		if !keep(&copied) {
			continue
		}
		if err := errors.Join(w.AddTopic(bag.Topic{Name: copied.Topic, Type: copied.Type}), w.Write(copied.Topic, copied.Time, copied.Data)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// Topics are remapped and set as the node's are.
func TestDatasetTakesTheNodesParameters(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "bag")
	retold(t, filepath.Join(bags, "compressed_mcap"), dir, func(m *bag.Message) bool {
		switch m.Topic {
		case "/instruction":
			m.Topic = "/say"
		case commandTopics[0]:
			m.Topic = "/leader/left"
		case "/camera_f/color/image_raw/compressed":
			m.Topic = "/head/compressed"
		}
		return true
	})
	params := filepath.Join(t.TempDir(), "robot.yaml")
	if err := os.WriteFile(params, []byte("/**:\n  ros__parameters:\n    arms.left.command_topic: /leader/left\n    gripper.driver_scale: 10.0\n    policy: /nowhere\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	plain, _ := datasetOf(t, filepath.Join(bags, "compressed_mcap"), "--size", "16", "--rate", "10")
	args := []string{dir, "--size", "16", "--rate", "10", "--ros-args", "-r", "~/instruction:=/say", "--params-file", params, "-p", "cameras.head.topic:=/head/compressed"}
	r, _ := datasetOf(t, args...)
	a, err := plain.Statistics()
	if err != nil {
		t.Fatal(err)
	}
	b, err := r.Statistics()
	if err != nil {
		t.Fatal(err)
	}
	if r.Info().Frames != plain.Info().Frames || a.Action.Mean[0] != b.Action.Mean[0] || math.Abs(a.Action.Mean[6]-10*b.Action.Mean[6]) > 1e-6 {
		t.Errorf("%d frames, means %g and %g; want %d, %g and a tenth of %g", r.Info().Frames, b.Action.Mean[0], b.Action.Mean[6], plain.Info().Frames, a.Action.Mean[0], a.Action.Mean[6])
	}
}

// Wrong input gets one error with the bag, the topic and what to do, and leaves nothing.
func TestDatasetRefuses(t *testing.T) {
	raw := filepath.Join(bags, "raw_mcap")
	out := filepath.Join(t.TempDir(), "set")
	with := func(args ...string) []string { return append([]string{"dataset", raw, "--out", out}, args...) }
	sized := func(args ...string) []string {
		return with(append([]string{"--size", "16", "--rate", "10"}, args...)...)
	}
	for _, c := range []struct {
		status int
		names  []string
		args   []string
	}{
		{2, []string{"no bag"}, []string{"dataset", "--out", out}},
		{2, []string{"--out"}, []string{"dataset", raw, "--size", "16"}},
		{2, []string{"--size", "--bundle"}, with()},
		{2, []string{"--rate"}, with("--size", "16")},
		{2, []string{"--bundle", "--size"}, with("--size", "16", "--bundle", "x")},
		{2, []string{"--actions", "positions"}, sized("--actions", "positions")},
		{2, []string{"--cameras", "torso"}, sized("--cameras", "head,torso")},
		{2, []string{"--trim"}, sized("--trim", "7")},
		{2, []string{"twice"}, sized(raw + "/")},
		{1, []string{"nowhere"}, append([]string{"dataset", "nowhere"}, sized()[2:]...)},
		{1, []string{raw, "1000 Hz", "200"}, sized("--rate", "1000")},
		{1, []string{raw, "/master/elsewhere", "arms.left.command_topic", "next_state"}, sized("--ros-args", "-p", "arms.left.command_topic:=/master/elsewhere")},
		{1, []string{raw, "/camera_f/elsewhere", "cameras.head.topic"}, sized("--ros-args", "-p", "cameras.head.topic:=/camera_f/elsewhere")},
		{1, []string{raw, "no episode", "shorter"}, sized("--shortest", "1h")},
		{1, []string{raw, "/puppet/joint_left", "marks"}, sized("--ros-args", "-r", "~/episode:=/puppet/joint_left")},
		{1, []string{raw, "/instruction", "place the cup", "start"}, sized("--instruction", "stack the cups", "--ros-args", "-r", "~/instruction:=/other", "-r", "~/episode:=/instruction")},
	} {
		refused(t, c.status, c.names, c.args...)
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("%v left %s behind", c.args, out)
		}
	}
	// What is there stays.
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	mine := filepath.Join(out, "notes.txt")
	if err := os.WriteFile(mine, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	refused(t, 1, []string{out, "not empty"}, sized()...)
	if text, err := os.ReadFile(mine); err != nil || string(text) != "mine" {
		t.Errorf("%q, %v", text, err)
	}
}

// A bag that was cut off is used as far as it goes, and the report says so.
func TestDatasetOfADamagedBag(t *testing.T) {
	dir, _ := cut(t, "compressed_mcap", ".mcap")
	whole, _ := datasetOf(t, filepath.Join(bags, "compressed_mcap"), "--size", "16", "--rate", "10", "--shortest", "0")
	r, stdout := datasetOf(t, dir, "--size", "16", "--rate", "10", "--shortest", "0")
	if n := r.Info().Frames; n < 1 || n >= whole.Info().Frames {
		t.Errorf("%d frames, %d of the whole bag", n, whole.Info().Frames)
	}
	if !strings.Contains(stdout, "damaged, used as far as it goes") || !strings.Contains(stdout, dir) {
		t.Errorf("the damage is not told:\n%s", stdout)
	}
}

// stopAfter ends a context when the reader of the bag asks for the n-th time.
type stopAfter struct {
	context.Context
	left int
}

func (c *stopAfter) Err() error {
	if c.left--; c.left < 0 {
		return context.Canceled
	}
	return nil
}

// Interrupted anywhere, it leaves nothing.
func TestDatasetInterrupted(t *testing.T) {
	for _, n := range []int{0, 3, 300, 700} {
		out := filepath.Join(t.TempDir(), "set")
		ctx := &stopAfter{t.Context(), n}
		var stdout, stderr bytes.Buffer
		err := runDataset(ctx, []string{filepath.Join(bags, "compressed_mcap"), "--out", out, "--size", "16", "--rate", "10"}, &stdout, &stderr)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after %d messages: %v", n, err)
		}
		if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("after %d messages: %v", n, err)
		}
	}
}

// Ranges that cannot be right are told.
func TestDatasetWarnings(t *testing.T) {
	info := dataset.Info{
		Action: []bundle.ActionDim{{Name: "left_joint1", Unit: "rad"}, {Name: "left_joint2", Unit: "rad"}, {Name: "left_gripper", Unit: "m"}, {Name: "right_gripper", Unit: "m"}},
	}
	columns := dataset.Columns{
		Min: []float64{-90, 0.5, 0, -0.002}, Q01: []float64{-80, 0.5, 1, 0}, Mean: []float64{0, 0.5, 30, 0.02},
		Q99: []float64{80, 0.50001, 65, 0.069}, Max: []float64{95, 0.5002, 70, 0.07},
	}
	got := dimensionWarnings(info, &dataset.Statistics{Action: columns})
	for i, want := range []string{"left_joint1 is -90 to 95, more than a turn", "left_joint2 is constant", "left_gripper is 0 to 70, which is no opening in m"} {
		if i >= len(got) || !strings.Contains(got[i], want) {
			t.Fatalf("%q, want %q", got, want)
		}
	}
	if len(got) != 3 {
		t.Errorf("%q", got)
	}
}
