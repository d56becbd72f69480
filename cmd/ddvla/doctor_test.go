package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/doctor"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/cyclone"
)

// examined runs `ddvla doctor --json` and returns what it says and its status.
func examined(t *testing.T, args ...string) (r doctor.Report, status int) {
	t.Helper()
	status, stdout, stderr := call(t, append([]string{"doctor"}, args...)...)
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("status %d, %v: %s\n%s", status, err, stdout, stderr)
	}
	return r, status
}

// codes are those of the findings that are at least as severe.
func codes(r doctor.Report, least doctor.Severity) (out []string) {
	for _, f := range r.Findings {
		if f.Severity >= least {
			out = append(out, f.Code)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Bags that ROS wrote, of another task than the policy's: nothing is wrong with them,
// and what differs is told. Counts and rates are those that ROS counted.
func TestDoctorOnBagsOfROS(t *testing.T) {
	for name, want := range map[string][]string{
		"raw_mcap": {"camera-encodings", "joint-outside"}, "compressed_mcap": {"joint-outside"}, "compressed_db3": {"joint-outside"},
	} {
		t.Run(name, func(t *testing.T) {
			r, status := examined(t, filepath.Join(bags, name), "--json", "--ros-args", "-p", "policy:="+testbundle.Dir(t))
			if got := codes(r, doctor.Warning); status != doctorWarned || !slices.Equal(got, want) {
				t.Errorf("status %d, found %q, want %q", status, got, want)
			}
			f := facts(t, name)
			for _, c := range r.Cameras {
				if n := f[c.Topic].Count; n != c.Count || n != r.Sets.Count || math.Abs(c.Rate-10) > 0.01 {
					t.Errorf("%s: %d pictures at %.2f Hz, %d sets; ROS counts %d", c.Topic, c.Count, c.Rate, r.Sets.Count, n)
				}
			}
			for _, a := range r.Arms {
				if n := f[a.Topic].Count; n != a.Count || math.Abs(a.Rate-50) > 0.01 || a.Commands != f[a.CommandTopic].Count {
					t.Errorf("%s: %d states at %.2f Hz and %d commands; ROS counts %d and %d", a.Topic, a.Count, a.Rate, a.Commands, n, f[a.CommandTopic].Count)
				}
			}
			if len(r.Prompts) != 2 || r.Prompts[1].Instruction != "press the bell" {
				t.Errorf("prompts %+v", r.Prompts)
			}
		})
	}
}

// The contact sheet shows each camera's own picture, as sent and as the model sees
// it, in the model's order.
func TestDoctorDrawsAContactSheet(t *testing.T) {
	out := filepath.Join(t.TempDir(), "sheet.png")
	status, stdout, stderr := call(t, "doctor", "--sheet", out, filepath.Join(bags, "raw_mcap"), "--ros-args", "-p", "policy:="+testbundle.Dir(t))
	if status != doctorWarned || !strings.Contains(stdout, out) {
		t.Fatalf("status %d: %s %s", status, stdout, stderr)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	sheet, err := png.Decode(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	recorded := contents(t, filepath.Join(bags, "raw_mcap"))
	seen := map[[3]int]bool{}
	for i, topic := range []string{headTopic, "/camera_l/color/image_raw", "/camera_r/color/image_raw"} {
		m := decoded(t, recorded[topic][len(recorded[topic])-1], &msgs.Image{})
		var want [3]float64
		for k := 0; k+2 < len(m.Data); k += 3 {
			for c := range want {
				want[c] += float64(m.Data[k+c]) / float64(len(m.Data)/3)
			}
		}
		if m.Encoding == "bgr8" {
			want[0], want[2] = want[2], want[0]
		}
		left := 16 + i*(doctor.OriginalWidth+16)
		for what, box := range map[string]image.Rectangle{
			"sent": image.Rect(left, 58, left+320, 58+240), "seen by the model": image.Rect(left, 318, left+320, 318+320),
		} {
			got := meanColour(sheet, box)
			for c := range want {
				// The model's centre crop leaves some of the picture out.
				if math.Abs(got[c]-want[c]) > 20 {
					t.Errorf("%s, %s: mean colour %.0f, of the picture %.0f", topic, what, got, want)
					break
				}
			}
		}
		seen[[3]int{int(want[0]) / 20, int(want[1]) / 20, int(want[2]) / 20}] = true
	}
	if len(seen) != 3 {
		t.Error("the bag's pictures are too much alike to tell cameras apart")
	}
}

func meanColour(img image.Image, box image.Rectangle) (mean [3]float64) {
	n := float64(box.Dx() * box.Dy())
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			r, g, b, _ := img.At(x, y).RGBA()
			mean[0] += float64(r>>8) / n
			mean[1] += float64(g>>8) / n
			mean[2] += float64(b>>8) / n
		}
	}
	return mean
}

func TestDoctorTimesAChunkWhereAsked(t *testing.T) {
	r, _ := examined(t, "--load", "--json", filepath.Join(bags, "raw_mcap"), "--ros-args", "-p", "policy:="+testbundle.Dir(t), "-p", "decode.rounds:=1")
	if m := r.Machine; m.ChunkTime <= 0 || m.LoadSeconds <= 0 || m.NeededBytes < 9e6 || m.FreeBytes == 0 || m.Version == "" {
		t.Errorf("%+v", m)
	}
}

func TestDoctorRefusesWhatItCannotDo(t *testing.T) {
	dir, bag := testbundle.Dir(t), filepath.Join(bags, "raw_mcap")
	refused(t, 2, []string{"policy"}, "doctor", bag)
	refused(t, 2, []string{"--sheet", ".png"}, "doctor", bag, "--sheet", "x.jpg", "--ros-args", "-p", "policy:="+dir)
	refused(t, 2, []string{"--duration"}, "doctor", "--duration", "0s", "--ros-args", "-p", "policy:="+dir)
	refused(t, 1, []string{"no/such/bag"}, "doctor", "no/such/bag", "--ros-args", "-p", "policy:="+dir)
	refused(t, 1, []string{"--known"}, "doctor", bag, "--known", "no/such/file", "--ros-args", "-p", "policy:="+dir)
}

// What is wrong with the bundle, the topics and the runtime is a finding, each with
// what the bag has instead.
func TestDoctorTellsWhatIsWrongWithTheSurroundings(t *testing.T) {
	bag := filepath.Join(bags, "raw_mcap")
	whole := testbundle.Dir(t)
	spoilt := testbundle.Copy(t, func(*bundle.Manifest) {})
	if err := os.WriteFile(filepath.Join(spoilt, bundle.TokenizerFile), []byte("no model"), 0o644); err != nil {
		t.Fatal(err)
	}
	gap := testbundle.Copy(t, func(m *bundle.Manifest) { m.Proprio.Dims[0].Unit = "1" })
	for name, c := range map[string]struct {
		args  []string
		code  string
		words []string
	}{
		"a topic that the bag has not": {[]string{"-p", "policy:=" + whole, "-p", "cameras.head.topic:=/camera/color/image_raw"},
			"camera-silent", []string{"/camera/color/image_raw", "/camera_f/color/image_raw"}},
		"a topic of another type": {[]string{"-p", "policy:=" + whole, "-p", "arms.left.state_topic:=/camera_l/color/image_raw"},
			"topic-type", []string{"sensor_msgs/msg/Image", "sensor_msgs/msg/JointState"}},
		"no runtime":              {[]string{"-p", "policy:=" + whole, "-p", "runtime.library:=/no/such/library.so"}, "runtime", []string{"/no/such/library.so"}},
		"no GPU":                  {[]string{"-p", "policy:=" + whole, "-p", "runtime.provider:=cuda"}, "runtime", []string{"cuda"}},
		"a broken file":           {[]string{"-p", "policy:=" + spoilt}, "bundle-file", []string{bundle.TokenizerFile}},
		"a state in another unit": {[]string{"-p", "policy:=" + gap}, "bundle-robot", []string{"left_joint1", `"rad"`}},
	} {
		t.Run(name, func(t *testing.T) {
			r, status := examined(t, append([]string{bag, "--json", "--ros-args"}, c.args...)...)
			if status != doctorFailed {
				t.Errorf("status %d", status)
			}
			at := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.Code == c.code })
			if at < 0 {
				t.Fatalf("found %q, want %q", codes(r, doctor.Note), c.code)
			}
			f := r.Findings[at]
			if missing := slices.IndexFunc(c.words, func(w string) bool { return !strings.Contains(f.Sentence+f.Mend, w) }); missing >= 0 {
				t.Errorf("%s -> %s\ndoes not say %q", f.Sentence, f.Mend, c.words[missing])
			}
			if f.Severity != doctor.Error || f.Mend == "" {
				t.Errorf("%+v", f)
			}
		})
	}
}

// until runs the doctor on the live graph until it finds what it must, which may need
// a while on a busy machine.
func until(t *testing.T, what string, found func(doctor.Report) bool, args ...string) doctor.Report {
	t.Helper()
	var r doctor.Report
	for deadline := time.Now().Add(2 * time.Minute); ; {
		r, _ = examined(t, append([]string{"--duration", "3s", "--json", "--ros-args", "-p", "policy:=" + testbundle.Dir(t)}, args...)...)
		if found(r) {
			return r
		}
		if time.Now().After(deadline) {
			text, _ := json.MarshalIndent(r.Findings, "", " ")
			t.Fatalf("never: %s\n%s", what, text)
		}
	}
}

// ofMachine are findings about how busy this machine is and how it is set up.
func ofMachine(code string) bool {
	for _, suffix := range []string{"-gap", "-slow", "-late", "-skew", "-lost", "-stopped", "-old"} {
		if strings.HasSuffix(code, suffix) {
			return true
		}
	}
	return code == "receive-buffer"
}

// The simulated robot over DDS is found healthy; who publishes is told; and a
// stranger on a command topic and QoS that does not fit are found.
func TestDoctorOnALiveRobot(t *testing.T) {
	id := domain(t)
	start(t, "sim", "--camera-rate", "15", "--draw", "1", "--stay", "--wait") // repeats the instruction until a command comes
	r := until(t, "a healthy robot", func(r doctor.Report) bool {
		return !slices.ContainsFunc(codes(r, doctor.Warning), func(code string) bool { return !ofMachine(code) }) &&
			len(r.Prompts) == 1 && r.Sets.Count > 0
	})
	if r.Source != "live" || !strings.Contains(r.Prompts[0].Prompt, r.Prompts[0].Instruction) {
		t.Errorf("%s, %+v", r.Source, r.Prompts)
	}
	if len(r.Topics) != 8 { // three cameras, two arms, their commands, the instruction
		t.Fatalf("%d topics", len(r.Topics))
	}
	for _, topic := range r.Topics {
		ends := topic.Publishers
		if strings.HasPrefix(topic.Topic, "/master/") {
			ends = topic.Subscribers
		}
		if len(ends) != 1 || !strings.HasPrefix(ends[0], "/cobot_magic_sim (") {
			t.Errorf("at %s: %q", topic.Topic, ends)
		}
	}

	stranger, err := cyclone.NewNode(t.Context(), ros.Options{Name: "leader_arm", DomainID: id, LocalhostOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := ros.Advertise[msgs.JointState](stranger, commandTopics[0], ros.DefaultQoS()); err != nil {
		t.Fatal(err)
	}
	r = until(t, "a stranger and QoS that does not fit", func(r doctor.Report) bool {
		found := codes(r, doctor.Error)
		return slices.Contains(found, "command-stranger") && slices.Contains(found, "qos") && slices.Contains(found, "camera-silent")
	}, "-p", fmt.Sprintf("qos_overrides.%s.subscription.reliability:=reliable", headTopic))
	for _, f := range r.Findings {
		if f.Code == "command-stranger" && !strings.Contains(f.Sentence, "/leader_arm") || f.Code == "qos" && !strings.Contains(f.Sentence, "best_effort") {
			t.Errorf("%s", f.Sentence)
		}
	}
}

// docs/bringup.md names subcommands, parameters, services, profiles and findings that
// there are.
func TestBringupNamesWhatThereIs(t *testing.T) {
	raw, err := os.ReadFile("../../docs/bringup.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(raw)
	subcommands, parameters := map[string]bool{}, map[string]bool{}
	for _, c := range commands() {
		subcommands[c.name] = true
	}
	for _, d := range node.Parameters(nil) {
		parameters[d.Name] = true
	}
	each := func(pattern string, check func(name string)) {
		t.Helper()
		found := regexp.MustCompile(pattern).FindAllStringSubmatch(page, -1)
		if len(found) == 0 {
			t.Errorf("the page has no %q", pattern)
		}
		for _, f := range found {
			check(f[1])
		}
	}
	each("(?m)^ddvla ([a-z]+)", func(name string) {
		if !subcommands[name] {
			t.Errorf("there is no subcommand %q", name)
		}
	})
	each(`(?:-p |param set /ddvla )([a-z_.]+)(?::=| )`, func(name string) {
		if !parameters[name] {
			t.Errorf("there is no parameter %q", name)
		}
	})
	each("`((?:arms|cameras|gripper|home|limits|motion|workspace)\\.[a-z_.]+)`", func(name string) {
		if !parameters[name] {
			t.Errorf("there is no parameter %q", name)
		}
	})
	each(`service call (/ddvla/[a-z]+)`, func(name string) {
		if !slices.Contains([]string{"/ddvla/enable", "/ddvla/disable", "/ddvla/home", "/ddvla/estop", "/ddvla/reset"}, name) {
			t.Errorf("there is no service %q", name)
		}
	})
	each(`--params-file (\S+)`, func(name string) {
		if _, err := os.Stat(filepath.Join("../..", name)); err != nil {
			t.Error(err)
		}
	})
	source := ""
	files, err := filepath.Glob("../../doctor/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasSuffix(file, "_test.go") {
			source += string(raw)
		}
	}
	each("`((?:camera|arm|arms|cameras|joint|gripper|statistics|instruction|command)-[a-z-]+)`", func(code string) {
		// Codes about timing are put together.
		kind, what, _ := strings.Cut(code, "-")
		if !strings.Contains(source, `"`+code+`"`) && !strings.Contains(source, `code+"-`+what+`"`) {
			t.Errorf("there is no finding %q (%s)", code, kind)
		}
	})
}
