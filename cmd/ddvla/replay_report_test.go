package main

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/internal/browsertest"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
)

// judgement is what the tests read of a report's JSON.
type judgement struct {
	Chunks, Commands int
	Metrics          map[string]float64
	Conditions       []struct {
		Condition string
		Failed    bool
	}
	Joints []struct {
		Name string
		MAE  *float64
		Max  *float64
	}
	Decoding struct {
		Chunks int
		Rounds float64 `json:"mean_rounds"`
		Map    struct{ Tokens int }
	}
	Instructions []struct{ Text string }
	Counts       []struct {
		Code  string
		Count int
	}
	Events []struct{ Code string }
}

// A replay's report says what the chunks in its bag and the commands in the recording
// say, and is looked at in a browser.
func TestReplayReports(t *testing.T) {
	for _, name := range []string{"raw_mcap", "compressed_db3"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			page, numbers := filepath.Join(dir, "r.html"), filepath.Join(dir, "r.json")
			found, stdout := replayed(t, filepath.Join(bags, name), []string{"--report", page, "--json", numbers, "--fail-on", "mae>10", "--fail-on", "stops>0"})
			for _, path := range []string{page, numbers} {
				if !strings.Contains(stdout, "report     "+path+"\n") {
					t.Errorf("the output does not name %s:\n%s", path, stdout)
				}
			}
			var r judgement
			parsed(t, numbers, &r)
			chunks := found[chunkTopic]
			if r.Chunks != len(chunks) || r.Commands != len(found[commandTopics[0]]) || r.Decoding.Chunks != len(chunks) || r.Decoding.Rounds != 1 || r.Decoding.Map.Tokens != 8*len(chunks) {
				t.Errorf("%d chunks, %d commands, decoding %+v", r.Chunks, r.Commands, r.Decoding)
			}
			if len(r.Conditions) != 2 || r.Conditions[0].Failed || r.Conditions[1].Failed {
				t.Errorf("conditions %+v", r.Conditions)
			}
			if len(r.Instructions) != 2 || r.Instructions[0].Text == "" || r.Instructions[0].Text == r.Instructions[1].Text {
				t.Errorf("instructions %+v", r.Instructions)
			}
			for _, c := range r.Counts {
				if !strings.Contains(stdout, fmt.Sprintf("           %d x %s\n", c.Count, c.Code)) {
					t.Errorf("%d x %s is not what the node counted:\n%s", c.Count, c.Code, stdout)
				}
			}
			if len(r.Events) == 0 || r.Events[0].Code != "enabled" {
				t.Errorf("events %+v", r.Events)
			}
			checkErrors(t, r, chunks, contents(t, filepath.Join(bags, name)))

			p := browsertest.Open(t, page, "", false)
			read := func(expression string) float64 { return browsertest.Eval[float64](p, expression) }
			if n := read(`document.querySelectorAll("#curves canvas").length`); n != 14 {
				t.Errorf("%g curves", n)
			}
			if n := read(`[...document.querySelectorAll("#pictures img")].filter(i => i.complete && i.naturalWidth > 0).length`); n != 3 {
				t.Errorf("%g pictures of 3 cameras", n)
			}
			if n := read(`Number(document.getElementById("slider").max) + 1`); int(n) != len(chunks) {
				t.Errorf("the slider has %g places for %d chunks", n, len(chunks))
			}
			said := func() string {
				return browsertest.Eval[string](p, `document.getElementById("instruction").textContent`)
			}
			if got := said(); got != "“"+r.Instructions[0].Text+"”" {
				t.Errorf("the instruction is %s", got)
			}
			p.Press("#slider", len(chunks))
			if got := said(); got != "“"+r.Instructions[1].Text+"”" {
				t.Errorf("at the end it is %s", got)
			}
			if m := p.Messages(); len(m) > 0 {
				t.Errorf("the console says %q", m)
			}
		})
	}
}

// checkErrors computes a joint's errors from the messages themselves.
func checkErrors(t *testing.T, r judgement, chunks []recorded, original map[string][]recorded) {
	t.Helper()
	type command struct {
		at time.Time
		v  [7]float64
	}
	var commands [2][]command
	for a, topic := range commandTopics {
		for _, raw := range original[topic] {
			m := decoded(t, raw, &msgs.JointState{})
			commands[a] = append(commands[a], command{m.Header.Stamp.Time(), [7]float64(m.Position)})
		}
	}
	at := func(dim int, when time.Time) float64 {
		list := commands[dim/7]
		for i := 1; i < len(list); i++ {
			a, b := list[i-1], list[i]
			if !when.Before(a.at) && !when.After(b.at) {
				f := when.Sub(a.at).Seconds() / b.at.Sub(a.at).Seconds()
				return (1-f)*a.v[dim%7] + f*b.v[dim%7]
			}
		}
		return math.NaN()
	}
	var all float64
	var turning int
	for dim, joint := range r.Joints {
		sum, largest, n := 0.0, 0.0, 0
		for _, raw := range chunks {
			m := decoded(t, raw, &msgs.JointTrajectory{})
			for _, p := range m.Points {
				due := m.Header.Stamp.Time().Add(time.Duration(p.TimeFromStart.Sec)*time.Second + time.Duration(p.TimeFromStart.Nanosec))
				if want := at(dim, due); !math.IsNaN(want) {
					e := math.Abs(p.Positions[dim] - want)
					sum, largest, n = sum+e, max(largest, e), n+1
				}
			}
		}
		if n == 0 || joint.MAE == nil {
			t.Fatalf("%s: %d rows with a recorded command", joint.Name, n)
		}
		// JSON has six digits.
		if math.Abs(*joint.MAE-sum/float64(n)) > 1e-5*largest || math.Abs(*joint.Max-largest) > 1e-5*largest {
			t.Errorf("%s: MAE %g and largest %g, want %g and %g", joint.Name, *joint.MAE, *joint.Max, sum/float64(n), largest)
		}
		if dim%7 != 6 {
			all, turning = all+sum, turning+n
		}
	}
	if want := all / float64(turning); math.Abs(r.Metrics["mae"]-want) > 1e-5*want {
		t.Errorf("mae %g, want %g", r.Metrics["mae"], want)
	}
}

func TestReplayFailsOnConditions(t *testing.T) {
	whole := filepath.Join(bags, "raw_mcap")
	out := filepath.Join(t.TempDir(), "out")
	status, stdout, stderr := call(t, append([]string{"replay", whole, "--out", out, "--fail-on", "chunks<6", "--fail-on", "chunks>6"}, policy(t)...)...)
	if status != 1 || stderr != "ddvla replay: failed on chunks<6: it is 5\n" || !strings.Contains(stdout, "chunks     5,") {
		t.Errorf("status %d, stderr %q, stdout %q", status, stderr, stdout)
	}
	if n := len(contents(t, out)[chunkTopic]); n != 5 {
		t.Errorf("%d chunks in the bag", n)
	}
}

// What cannot be judged is told before anything is loaded: the bag and the bundle of
// these are not even there.
func TestReplayRefusesConditionsFirst(t *testing.T) {
	for condition, want := range map[string]string{
		"mea>1":              `no metric "mea"; there are chunks,`,
		"mae":                "METRIC OP NUMBER",
		"mae>much":           `"much" is no number`,
		"limits.left_arm>0":  `no code "left_arm"`,
		"rounds.inference>1": "of nothing in particular",
	} {
		refused(t, 2, []string{want, "-fail-on"}, "replay", "/nowhere/bag", "--fail-on", condition, "--ros-args", "-p", "policy:=/nowhere/bundle")
	}
	// Before the graph is loaded, which this bundle has not.
	broken := testbundle.Copy(t, func(*bundle.Manifest) {})
	if err := os.Remove(filepath.Join(broken, bundle.WeightsFile)); err != nil {
		t.Fatal(err)
	}
	whole := filepath.Join(bags, "raw_mcap")
	silent := copied(t, whole, func(topic string) bool { return !strings.HasPrefix(topic, "/master") })
	for name, c := range map[string]struct {
		status int
		bag    string
		flags  []string
		want   []string
	}{
		"joint":       {2, whole, []string{"--fail-on", "mae.left_joint7>1"}, []string{"--fail-on", `no joint "left_joint7", only left_joint1,`}},
		"stage":       {2, whole, []string{"--fail-on", "latency_p95.network>1"}, []string{"--fail-on", `no stage "network", only observe, preprocess,`}},
		"no commands": {2, silent, []string{"--fail-on", "mae>1"}, []string{"--fail-on", "no commands", "/master/joint_left"}},
		"no folder":   {1, whole, []string{"--report", "/nowhere/r.html"}, []string{"--report", "/nowhere"}},
	} {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "out")
			args := append([]string{"replay", c.bag, "--out", out}, c.flags...)
			refused(t, c.status, c.want, append(args, "--ros-args", "-p", "policy:="+broken)...)
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("%s is left over: %v", out, err)
			}
		})
	}
}

// Without recorded commands, and of a bag that ends in damage, there is a report of the rest: of the latter
// with the errors against the commands before the damage.
func TestReplayReportsWhatThereIs(t *testing.T) {
	damaged, _ := cut(t, "raw_mcap", ".mcap")
	for name, c := range map[string]struct {
		bag    string
		status int
		says   string
		part   []string
	}{
		"no commands": {copied(t, filepath.Join(bags, "raw_mcap"), func(topic string) bool { return !strings.HasPrefix(topic, "/master") }), 0, "there is no /master/joint_left and no /master/joint_right", nil},
		"damaged":     {damaged, 1, "Chunks over recorded commands", nil},
		"a part":      {filepath.Join(bags, "raw_mcap"), 0, "Chunks over recorded commands", []string{"--from", "0.1", "--to", "0.4"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			page, numbers := filepath.Join(dir, "r.html"), filepath.Join(dir, "r.json")
			status, _, stderr := call(t, slices.Concat([]string{"replay", c.bag, "--out", filepath.Join(dir, "out"), "--report", page, "--json", numbers}, c.part, policy(t))...)
			if status != c.status {
				t.Fatalf("status %d: %s", status, stderr)
			}
			raw, err := os.ReadFile(numbers)
			if err != nil {
				t.Fatal(err)
			}
			var judged struct {
				Recorded   bool
				Metrics    map[string]float64
				Ended      string `json:"ended_early"`
				Begin, End time.Time
			}
			if err := json.Unmarshal(raw, &judged); err != nil {
				t.Fatal(err)
			}
			if _, told := judged.Metrics["mae"]; told != judged.Recorded || told == (name == "no commands") {
				t.Errorf("commands are there: %v; an error is told: %v", judged.Recorded, told)
			}
			if length := judged.End.Sub(judged.Begin); c.part != nil && length != 300*time.Millisecond {
				t.Errorf("the report is of %v", length)
			}
			text, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if early := strings.Contains(string(text), "the replay ended early"); early != (c.status != 0) || early != (judged.Ended != "") {
				t.Errorf("it ended early: %t, %q", early, judged.Ended)
			}
			if !strings.Contains(string(text), c.says) {
				t.Errorf("the report does not say %q", c.says)
			}
		})
	}
}

// thinnedLeft is a bag of which the left camera has only every n-th picture.
func thinnedLeft(t *testing.T, n int) string {
	t.Helper()
	left := 0
	return changedBag(t, filepath.Join(bags, "raw_mcap"), func(m *bag.Message) bool {
		if m.Topic != "/camera_l/color/image_raw" {
			return true
		}
		left++
		return left%n == 1
	})
}

// In lock-step one message may complete several moments: each of their chunks is judged,
// for its own instruction and with its own pictures.
func TestReplayReportsEveryMoment(t *testing.T) {
	thinned := thinnedLeft(t, 3)
	dir := t.TempDir()
	page, numbers := filepath.Join(dir, "r.html"), filepath.Join(dir, "r.json")
	found, _ := replayed(t, thinned, []string{"--report", page, "--json", numbers}, "-p", "lock_step:=1", "-p", "max_skew:=1.0", "-p", "max_age:=1.0")
	var r judgement
	parsed(t, numbers, &r)
	if n := len(found[chunkTopic]); n < 4 || r.Chunks != n || r.Decoding.Chunks != n {
		t.Errorf("%d chunks are judged and %d decoded of %d", r.Chunks, r.Decoding.Chunks, n)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, embedded, _ := strings.Cut(string(text), `<script id="data" type="application/json">`)
	embedded, _, _ = strings.Cut(embedded, "</script>")
	var shown struct {
		Moments []struct {
			Pictures []struct {
				Camera string
				T      float64
			}
		}
		Instructions []struct{ Text string }
	}
	if err := json.Unmarshal([]byte(embedded), &shown); err != nil {
		t.Fatal(err)
	}
	reader, err := bag.Open(thinned)
	if err != nil {
		t.Fatal(err)
	}
	k := 0
	var instructions []string
	for _, m := range found[inferenceTopic] {
		i, err := node.ReadInference(decoded(t, m, &msgs.String{}))
		if err != nil {
			t.Fatal(err)
		}
		if i.Outcome != node.OutcomeChunk {
			continue
		}
		if n := len(instructions); n == 0 || instructions[n-1] != i.Instruction {
			instructions = append(instructions, i.Instruction)
		}
		if k == len(shown.Moments) || len(shown.Moments[k].Pictures) != len(i.Pictures) {
			t.Fatalf("moment %d of %d has not %d pictures", k, len(shown.Moments), len(i.Pictures))
		}
		for c, p := range shown.Moments[k].Pictures {
			want := time.Unix(0, i.Pictures[c].Stamp).Sub(reader.Start()).Seconds()
			if p.Camera != i.Pictures[c].Camera || math.Abs(p.T-want) > 1e-6 {
				t.Errorf("moment %d shows the picture of %s at %g s, made from that of %s at %g s", k, p.Camera, p.T, i.Pictures[c].Camera, want)
			}
		}
		k++
	}
	if k != len(shown.Moments) {
		t.Errorf("%d moments are shown of %d", len(shown.Moments), k)
	}
	var said []string
	for _, i := range shown.Instructions {
		said = append(said, i.Text)
	}
	if !slices.Equal(said, instructions) {
		t.Errorf("instructions %q, want %q", said, instructions)
	}
}

// A report changes nothing of the replay.
func TestReportChangesNoChunk(t *testing.T) {
	path := filepath.Join(bags, "raw_mcap")
	without, _ := replayed(t, path, nil)
	with, _ := replayed(t, path, []string{"--report", filepath.Join(t.TempDir(), "r.html")})
	for _, topic := range []string{chunkTopic, traceTopic, commandTopics[0], commandTopics[1]} {
		if len(with[topic]) != len(without[topic]) {
			t.Fatalf("%d messages on %s, %d without", len(with[topic]), topic, len(without[topic]))
		}
		for i, m := range without[topic] {
			if string(m.data) != string(with[topic][i].data) {
				t.Errorf("message %d on %s differs", i, topic)
			}
		}
	}
}
