package doctor

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/playback"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// event is a message that a robot sends.
type event struct {
	at    time.Time // of reception
	topic string
	msg   msgs.Message
}

const (
	left, right           = "/puppet/joint_left", "/puppet/joint_right"
	leftTo, rightTo       = "/master/joint_left", "/master/joint_right"
	head, wristL, wristR  = "/camera_f/color/image_raw", "/camera_l/color/image_raw", "/camera_r/color/image_raw"
	instructed            = "/ddvla/instruction"
	pictureW, pictureH    = 160, 120
	jointPeriod           = 20 * time.Millisecond
	picturePeriod         = 5 // of jointPeriod
	phase, phases, onWire = 3 * time.Second, 4, 4 * time.Millisecond
)

// demonstration is that of one scene, recorded once.
var demonstration = sync.OnceValues(func() ([]event, error) { return demonstrate(3) })

// demonstrate is what the simulated robot sends while the scripted expert reaches
// for four cubes, with either arm in turn: 12 s, with commands as a leader arm's.
func demonstrate(seed uint64) ([]event, error) {
	robot, err := urdf.CobotMagic()
	if err != nil {
		return nil, err
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		return nil, err
	}
	scene := sim.SceneOf(seed)
	expert, err := sim.NewExpert(arms, scene)
	if err != nil {
		return nil, err
	}
	var cubes [2][]sim.Cube
	for _, c := range scene.Cubes {
		cubes[c.Side()] = append(cubes[c.Side()], c)
	}
	painter := sim.NewRenderer(arms, pictureW, pictureH)
	var events []event
	q := sim.Home()
	now := time.Unix(1700000000, 0)
	header := func(frame string) msgs.Header { return msgs.Header{Stamp: msgs.TimeOf(now), FrameID: frame} }
	joints := func(topic string, side sim.Side, q sim.State) {
		from := 7 * int(side)
		events = append(events, event{now.Add(onWire), topic, &msgs.JointState{Header: header(""), Position: slices.Clone(q[from : from+7]),
			Name: []string{"joint0", "joint1", "joint2", "joint3", "joint4", "joint5", "joint6"}}})
	}
	for p := range phases {
		side := cubes[p%2]
		if len(side) == 0 {
			side = cubes[1-p%2]
		}
		cube := side[p/2%len(side)]
		goal, _ := expert.Goal(cube.Colour)
		events = append(events, event{now.Add(onWire), instructed, &msgs.String{Data: "reach the " + string(cube.Colour) + " cube"}})
		for k := range int(phase / jointPeriod) {
			next := sim.Advance(q, goal, jointPeriod.Seconds())
			joints(left, sim.Left, q)
			joints(right, sim.Right, q)
			joints(leftTo, sim.Left, next)
			joints(rightTo, sim.Right, next)
			if k%picturePeriod == 0 {
				for c, topic := range []string{head, wristL, wristR} {
					data := make([]byte, painter.Size())
					if err := painter.Render(&q, scene, sim.CameraID(c), data); err != nil {
						return nil, err
					}
					frame := "camera_" + string("flr"[c]) + "_color_optical_frame"
					events = append(events, event{now.Add(onWire), topic, &msgs.Image{Header: header(frame), Encoding: "rgb8",
						Width: pictureW, Height: pictureH, Step: 3 * pictureW, Data: data}})
				}
			}
			q = next
			now = now.Add(jointPeriod)
		}
	}
	return events, nil
}

// fault changes copies of messages or, with false, loses them. Slices of a message
// are shared with the demonstration: a fault replaces them.
type fault func(e *event) bool

// patient is who is examined.
type patient struct {
	dir    string  // of the bundle; empty is the test bundle
	events []event // nil is the demonstration
	fault  fault
	given  []param.Assignment
	change func(*Case)
}

func (p patient) examine(t *testing.T) *Report {
	t.Helper()
	if p.dir == "" {
		p.dir = testbundle.Dir(t)
	}
	names, err := ros.NewNames(ros.Options{Name: "ddvla"})
	if err != nil {
		t.Fatal(err)
	}
	set, m, err := node.Declare(append([]param.Assignment{{Name: "policy", Value: param.String(p.dir)}}, p.given...), names)
	if err != nil {
		t.Fatal(err)
	}
	c := &Case{Source: "test", Manifest: m, Node: "/ddvla"}
	if c.Settings, err = node.SettingsFrom(set.Values(), m, names); err != nil {
		t.Fatal(err)
	}
	if c.Statistics, err = action.LoadStatistics(filepath.Join(p.dir, bundle.StatisticsFile), m.Action.UnnormKey); err != nil {
		t.Fatal(err)
	}
	if c.Tokenizer, err = text.Open(filepath.Join(p.dir, bundle.TokenizerFile), m.Prompt, m.Tokens); err != nil {
		t.Fatal(err)
	}
	topics, err := TopicsOf(c.Settings, m, names)
	if err != nil {
		t.Fatal(err)
	}
	rn, err := playback.New(ros.Options{Name: "doctor"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer rn.Close()
	if c.Listener, err = Listen(rn, c.Settings, m, topics); err != nil {
		t.Fatal(err)
	}
	defer c.Listener.Close()
	if p.events == nil {
		if p.events, err = demonstration(); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range p.events {
		switch m := e.msg.(type) {
		case *msgs.Image:
			copied := *m
			e.msg = &copied
		case *msgs.JointState:
			copied := *m
			copied.Position = slices.Clone(m.Position)
			e.msg = &copied
		case *msgs.String:
			copied := *m
			e.msg = &copied
		}
		if p.fault != nil && !p.fault(&e) {
			continue
		}
		raw, err := msgs.Marshal(e.msg)
		if err != nil {
			t.Fatal(err)
		}
		rn.SetTime(e.at)
		c.Now = e.at
		if err := rn.Feed(e.topic, e.msg.ROSType(), raw, e.at); err != nil {
			t.Fatal(err)
		}
	}
	if p.change != nil {
		p.change(c)
	}
	return Examine(c)
}

// noticed are the findings above notes, "severity code about", without what instructions say.
func noticed(r *Report) []string {
	var out []string
	for _, f := range r.Findings {
		if f.Severity > Note {
			out = append(out, f.Severity.String()+" "+f.Code+" "+f.About)
		}
	}
	slices.Sort(out)
	return out
}

// The healthy robot is found healthy, and each planted fault is found, with no
// finding but those that follow from it.
func TestPlantedFaultsAreFoundAndNothingElse(t *testing.T) {
	on := func(topic string, do func(e *event)) fault {
		return func(e *event) bool {
			if e.topic == topic {
				do(e)
			}
			return true
		}
	}
	position := func(topic string, do func(p []float64)) fault {
		return on(topic, func(e *event) { do(e.msg.(*msgs.JointState).Position) })
	}
	rename := func(names map[string]string) fault {
		return func(e *event) bool {
			if to, ok := names[e.topic]; ok {
				e.topic = to
			}
			return true
		}
	}
	picture := func(topic string, do func(m *msgs.Image)) fault {
		return on(topic, func(e *event) { do(e.msg.(*msgs.Image)) })
	}
	exchanged := func(m *msgs.Image) {
		data := slices.Clone(m.Data)
		for i := 0; i+2 < len(data); i += 3 {
			data[i], data[i+2] = data[i+2], data[i]
		}
		m.Data = data
	}
	// What a topic sends only from and until so long after the beginning.
	between := func(topic string, from, to time.Duration) fault {
		return func(e *event) bool {
			at := e.at.Sub(time.Unix(1700000000, 0))
			return e.topic != topic || at >= from && at <= to
		}
	}
	lost := func(topic string) fault { return func(e *event) bool { return e.topic != topic } }
	for name, c := range map[string]struct {
		fault fault
		given []param.Assignment
		want  []string
	}{
		"healthy": {nil, nil, nil},
		"left and right arm exchanged, commands too": {
			rename(map[string]string{left: right, right: left, leftTo: rightTo, rightTo: leftTo}), nil,
			[]string{"error arms-swapped arms", "error cameras-swapped wrist cameras"}},
		"left and right arm's states exchanged": {
			rename(map[string]string{left: right, right: left}), nil,
			[]string{"error arms-crossed left", "error arms-crossed right", "error arms-swapped arms", "error cameras-swapped wrist cameras"}},
		"wrist cameras exchanged": {
			rename(map[string]string{wristL: wristR, wristR: wristL}), nil,
			[]string{"error cameras-swapped wrist cameras", "warning camera-side wrist_left", "warning camera-side wrist_right"}},
		"wrist cameras exchanged, frames without names": {
			func(e *event) bool {
				if m, ok := e.msg.(*msgs.Image); ok {
					m.Header.FrameID = "camera"
				}
				return rename(map[string]string{wristL: wristR, wristR: wristL})(e)
			}, nil,
			[]string{"error cameras-swapped wrist cameras"}},
		"the parameters exchange the wrist cameras": {
			nil, []param.Assignment{
				{Name: "cameras.wrist_left.topic", Value: param.String(wristR)}, {Name: "cameras.wrist_right.topic", Value: param.String(wristL)}},
			[]string{"error cameras-swapped wrist cameras", "warning camera-side wrist_left", "warning camera-side wrist_right"}},
		"one camera on two topics": {func() fault {
			var newest []byte
			return func(e *event) bool {
				switch m, _ := e.msg.(*msgs.Image); e.topic {
				case wristL:
					newest = m.Data
				case wristR:
					m.Data = newest
				}
				return true
			}
		}(), nil, []string{"error camera-twice wrist_right"}},
		"a gripper in percent": {position(left, func(p []float64) { p[6] *= 100 / 0.07 }), nil, []string{"error joint-unit left_gripper"}},
		"a gripper in percent, and the parameter for it": {
			func(e *event) bool {
				if e.topic != instructed && strings.Contains(e.topic, "joint") {
					e.msg.(*msgs.JointState).Position[6] *= 100 / 0.07
				}
				return true
			}, []param.Assignment{{Name: "gripper.driver_scale", Value: param.Double(100 / 0.07)}}, nil},
		"a gripper from 0 to 1":      {position(right, func(p []float64) { p[6] /= 0.07 }), nil, []string{"error joint-unit right_gripper"}},
		"a gripper that is inverted": {position(left, func(p []float64) { p[6] = 0.07 - p[6] }), nil, []string{"error gripper-inverted left_gripper"}},
		"a joint that turns the other way": {position(left, func(p []float64) { p[0] = -p[0] }), nil,
			[]string{"error joint-sign left_joint1"}},
		"joint3 of an ARX5": {position(right, func(p []float64) { p[2] = -p[2] }), nil,
			[]string{"error joint-limits right_joint3", "error joint-sign right_joint3", "error statistics-contradict right_joint3"}},
		"degrees": {position(right, func(p []float64) {
			for j := range 6 {
				p[j] *= 57.29578
			}
		}), nil, []string{"error joint-unit right_joint1", "error joint-unit right_joint2", "error joint-unit right_joint3",
			"error joint-unit right_joint4", "error joint-unit right_joint5"}},
		"red and blue exchanged": {picture(head, exchanged), nil, []string{"warning camera-colours head"}},
		"bgr8 that is rgb8": {picture(wristL, func(m *msgs.Image) { m.Encoding = "bgr8" }), nil,
			[]string{"warning camera-colours wrist_left", "warning camera-encodings cameras"}},
		"bgr8 that is bgr8": {picture(wristL, func(m *msgs.Image) { exchanged(m); m.Encoding = "bgr8" }), nil,
			[]string{"warning camera-encodings cameras"}},
		"an encoding without an order": {picture(wristL, func(m *msgs.Image) { m.Encoding = "8UC3" }), nil, []string{"error camera-unreadable wrist_left"}},
		"a camera that stamps late": {
			picture(wristL, func(m *msgs.Image) {
				m.Header.Stamp = msgs.TimeOf(m.Header.Stamp.Time().Add(200 * time.Millisecond))
			}), nil, []string{"error camera-skew cameras", "warning camera-ahead wrist_left"}},
		"a camera that is a second late": {
			picture(head, func(m *msgs.Image) {
				m.Header.Stamp = msgs.TimeOf(m.Header.Stamp.Time().Add(-time.Second))
			}), nil, []string{"error camera-old head", "error camera-skew cameras", "warning arm-skew left", "warning arm-skew right"}},
		"an arm whose clock is behind": {
			on(left, func(e *event) {
				m := e.msg.(*msgs.JointState)
				m.Header.Stamp = msgs.TimeOf(m.Header.Stamp.Time().Add(-time.Minute))
			}), nil, []string{"error arm-old left", "error arm-skew left"}},
		"a camera that is silent":    {lost(wristR), nil, []string{"error camera-silent wrist_right"}},
		"an arm that is silent":      {lost(left), nil, []string{"error arm-silent left"}},
		"a cap on the lens":          {picture(head, func(m *msgs.Image) { m.Data = make([]byte, len(m.Data)) }), nil, []string{"warning camera-blank head", "warning camera-frozen head"}},
		"no instruction":             {lost(instructed), nil, []string{"warning instruction-none instruction"}},
		"an arm with another naming": {on(right, func(e *event) { e.msg.(*msgs.JointState).Name = make([]string, 7) }), nil, []string{"error arm-unreadable right"}},
		"an unfinished second": {func() fault {
			began := time.Unix(1700000005, 0)
			return func(e *event) bool {
				return e.topic != left || e.at.Before(began) || e.at.After(began.Add(time.Second))
			}
		}(), nil, []string{"warning arm-gap left", "warning arm-skew left"}},
		"a camera that stops":                   {between(wristL, 0, 6*time.Second), nil, []string{"warning camera-stopped wrist_left"}},
		"a camera that comes late":              {between(wristR, 4*time.Second, time.Minute), nil, []string{"warning camera-begins-late wrist_right"}},
		"an arm that stops":                     {between(left, 0, 8*time.Second), nil, []string{"warning arm-skew left", "warning arm-stopped left"}},
		"an arm that comes late":                {between(right, 2*time.Second, time.Minute), nil, []string{"warning arm-begins-late right"}},
		"a recorder that comes to an arm later": {between(right, 600*time.Millisecond, time.Minute), nil, nil},
		"a policy that cannot be told a word": {nil, []param.Assignment{{Name: "instruction", Value: param.String("Zxqwv the cube.")}},
			[]string{"warning instruction-pieces Zxqwv the cube.", "warning instruction-stop Zxqwv the cube."}},
	} {
		t.Run(name, func(t *testing.T) {
			r := patient{fault: c.fault, given: c.given}.examine(t)
			if got := noticed(r); !slices.Equal(got, c.want) {
				var out strings.Builder
				_ = r.Print(&out)
				t.Errorf("found\n  %s\nwant\n  %s\n%s", strings.Join(got, "\n  "), strings.Join(c.want, "\n  "), out.String())
			}
			for _, f := range r.Findings {
				if f.Sentence == "" || f.Severity > Note && f.Mend == "" {
					t.Errorf("%s has no sentence or no mend", f.Code)
				}
			}
			if _, err := json.Marshal(r); err != nil {
				t.Error(err)
			}
		})
	}
}

// A wrist camera that sends the same picture is frozen if its own arm moves, and not if
// only the other one does.
func TestAWristCameraIsFrozenWhereItsOwnArmMoves(t *testing.T) {
	for _, still := range []bool{false, true} {
		var view []byte
		pose := map[string][]float64{}
		got := noticed(patient{fault: func(e *event) bool {
			switch m := e.msg.(type) {
			case *msgs.Image:
				if e.topic == wristL {
					if view == nil {
						view = m.Data
					}
					m.Data = view
				}
			case *msgs.JointState:
				if still && (e.topic == left || e.topic == leftTo) {
					if pose[e.topic] == nil {
						pose[e.topic] = m.Position
					}
					m.Position = pose[e.topic]
				}
			}
			return true
		}}.examine(t))
		want := []string{"warning camera-frozen wrist_left"}
		if still {
			want = nil
		}
		if !slices.Equal(got, want) {
			t.Errorf("with an arm that is still: %v: found %q, want %q", still, got, want)
		}
	}
}

// Other scenes, some with cubes on one side only, are as healthy.
func TestHealthyRobotsAreFoundHealthy(t *testing.T) {
	for seed := range uint64(6) {
		events, err := demonstrate(seed)
		if err != nil {
			t.Fatal(err)
		}
		if got := noticed(patient{events: events}.examine(t)); len(got) > 0 {
			t.Errorf("scene %d: found %q", seed, got)
		}
	}
}

// The left arm's joint3 in statistics of simulated ARX5 arms, published with a
// checkpoint of another Cobot Magic: 0 to 1.24 rad.
func TestStatisticsOfAnotherArmModelAreFound(t *testing.T) {
	dir := testbundle.Statistics(t, func(_ string, c map[string][]float64) {
		c["q01"][2], c["q99"][2], c["min"][2], c["max"][2] = 0.01, 1.2, 0, 1.24
	})
	r := patient{dir: dir}.examine(t)
	if got, want := noticed(r), []string{"error statistics-contradict left_joint3"}; !slices.Equal(got, want) {
		t.Fatalf("found %q", got)
	}
	if f := r.Findings[0]; !strings.Contains(f.Sentence, "another arm model") || !strings.Contains(f.Sentence, "refuses to enable") {
		t.Errorf("%s", f.Sentence)
	}
}

func TestWordsThatTheTrainingDataHasNotAreNamed(t *testing.T) {
	r := patient{change: func(c *Case) {
		c.Known = []string{"Reach the red cube.", "reach the green cube", "reach the blue cube", "move to the yellow block"}
	}, fault: func(e *event) bool {
		if m, ok := e.msg.(*msgs.String); ok {
			m.Data = "hover over the red cube."
		}
		return true
	}}.examine(t)
	// The closing stop is known here.
	if got, want := noticed(r), []string{"warning instruction-unseen hover over the red cube."}; !slices.Equal(got, want) {
		t.Fatalf("found %q", got)
	}
	if s := r.Findings[0].Sentence; !strings.Contains(s, "hover, over") {
		t.Error(s)
	}
	p := r.Prompts[0]
	joined := ""
	for _, token := range p.Tokens[1 : len(p.Tokens)-1] { // between BOS and the empty token
		joined += token.Piece
	}
	joined = strings.ReplaceAll(strings.ReplaceAll(joined, "<0x0A>", "\n"), "▁", " ")
	if joined != " "+p.Prompt {
		t.Errorf("the tokens say %q, the prompt is %q", joined, p.Prompt)
	}
}

func TestMemoryIsReadFromWhatSystemsSay(t *testing.T) {
	free, total, err := parseMemory(strings.NewReader("MemTotal:       25276518 kB\nMemFree:         1 kB\nMemAvailable:   2000 kB\nHugePages_Total:       0\n"))
	if free != 2000<<10 || total != 25276518<<10 || err != nil {
		t.Errorf("%d %d %v", free, total, err)
	}
	if _, _, err := parseMemory(strings.NewReader("MemTotal: 1 kB\n")); err == nil {
		t.Error("no MemAvailable, no error")
	}
	free, total, name, err := parseGPU("79650, 81559, NVIDIA H100 80GB HBM3\n")
	if free != 79650<<20 || total != 81559<<20 || name != "NVIDIA H100 80GB HBM3" || err != nil {
		t.Errorf("%d %d %q %v", free, total, name, err)
	}
	for _, wrong := range []string{"", "No devices were found", "[N/A], 1, x"} {
		if _, _, _, err := parseGPU(wrong); err == nil {
			t.Errorf("%q is no error", wrong)
		}
	}
}

func TestMachinesThatAreTooSmallOrTooSlowAreTold(t *testing.T) {
	for name, c := range map[string]struct {
		machine Machine
		want    []string
	}{
		"enough":     {Machine{Needed: 1e9, Free: 8e9, Chunk: 0.05}, nil},
		"too little": {Machine{Needed: 9e9, Free: 8e9, Device: "RAM"}, []string{"error memory RAM"}},
		"tight":      {Machine{Needed: 7.5e9, Free: 8e9, Device: "RAM"}, []string{"warning memory RAM"}},
		"too slow":   {Machine{Chunk: 0.41}, []string{"error latency cpu"}}, // 8 rows at 20 Hz last 0.4 s
		"no runtime": {Machine{Failure: os.ErrNotExist}, []string{"error runtime cpu"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := patient{change: func(k *Case) { k.Machine = &c.machine }}.examine(t)
			if got := noticed(r); !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

// A driver that QoS would keep from the commands is found, by whichever policy.
func TestDriversThatGetNoCommandsAreTold(t *testing.T) {
	const deadline = 20 * time.Millisecond
	latched := ros.LatchedQoS()
	for name, c := range map[string]struct {
		asks  ros.QoS
		given []param.Assignment
		says  string // empty: it fits
	}{
		"the default":                    {ros.DefaultQoS(), nil, ""},
		"latched":                        {latched, nil, "/driver requests transient_local, this publisher offers volatile"},
		"a deadline":                     {ros.QoS{Depth: 1, Deadline: deadline}, nil, "/driver requests a deadline of 20ms, this publisher offers no deadline"},
		"a deadline that the node keeps": {ros.QoS{Depth: 1, Deadline: deadline}, []param.Assignment{{Name: "qos_overrides." + leftTo + ".publisher.deadline", Value: param.Int(int64(deadline))}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			ends := func(topic string, qos ros.QoS) ros.Endpoint {
				return ros.Endpoint{Name: topic, Type: (*msgs.JointState)(nil).ROSType(), QoS: qos}
			}
			r := patient{given: c.given, change: func(k *Case) {
				k.Live = true
				k.Graph = []ros.GraphNode{{Name: "/driver", Subscribes: []ros.Endpoint{ends(leftTo, c.asks), ends(rightTo, ros.DefaultQoS())}}}
			}}.examine(t)
			var want []string
			if c.says != "" {
				want = []string{"error qos " + leftTo}
			}
			if got := noticed(r); !slices.Equal(got, want) {
				t.Fatalf("found %q, want %q", got, want)
			}
			if len(want) > 0 && !strings.Contains(r.Findings[0].Sentence, c.says) {
				t.Error(r.Findings[0].Sentence)
			}
		})
	}
}

// Memory does not grow with a recording, and what is kept is an even choice.
func TestKeptSamplesAreAnEvenChoice(t *testing.T) {
	var kept thinned[int]
	for i := range 10 * most {
		kept.add(i)
	}
	if n := len(kept.values); n > most || n < most/2 {
		t.Fatalf("%d are kept", n)
	}
	step := kept.values[1] - kept.values[0]
	for i, v := range kept.values {
		if v != i*step {
			t.Fatalf("the %d-th is %d, want %d", i, v, i*step)
		}
	}
}
