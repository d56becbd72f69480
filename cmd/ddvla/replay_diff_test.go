package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
)

// recordedLive is the recording of a node that runs freely in a process of its own,
// beside a simulated robot in another: sampling, with a warm start, and after a change of
// parameters by infilling. It ends by the signal.
func recordedLive(t *testing.T, end syscall.Signal) string {
	t.Helper()
	person := newCaller(t, domain(t))
	inferences := make(chan *node.Inference, 1000)
	if _, err := ros.Subscribe(person.node, inferenceTopic, ros.QoS{Depth: 1000}, func(m *msgs.String, _ time.Time) {
		i, err := node.ReadInference(&msgs.String{Data: strings.Clone(m.Data)})
		if err != nil {
			t.Error(err)
			return
		}
		inferences <- i
	}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "recording")
	robot := start(t, "sim", "--camera-rate", "10")
	n := start(t, append([]string{"node"}, policy(t, "-p", "record:="+dir, "-p", "decode.preset:=official", "-p", "decode.rounds:=3", "-p", "decode.warm_start:=true",
		"-p", "instruction:=reach the red cube", "-p", "seed:=5",
		// A machine that is busy with other tests must not stop the arms.
		"-p", "limits.feedback_timeout:=5.0", "-p", "limits.observation_timeout:=5.0", "-p", "max_age:=5.0", "-p", "max_skew:=1.0")...)...)
	person.enable()
	// until waits for some inferences of a kind.
	until := func(what string, is func(i *node.Inference) bool) {
		for seen, others := 0, 0; seen < 4; {
			select {
			case i := <-inferences:
				if i.Outcome == node.OutcomeChunk && is(i) {
					seen++
				} else if others++; others%20 == 0 {
					person.enable() // the arms were stopped all the same
				}
			case <-person.ctx.Done():
				t.Fatalf("no inference is %s:\n%s", what, n.stderr)
			}
		}
	}
	until("warm", func(i *node.Inference) bool { return i.Warm > 0 })
	for _, r := range ask[msgs.SetParametersRequest, msgs.SetParametersResponse](person, "set_parameters", &msgs.SetParametersRequest{Parameters: []msgs.Parameter{
		{Name: "motion.hand_over", Value: msgs.ParameterValue{Type: msgs.ParameterString, StringValue: "infill"}},
		{Name: "decode.rounds", Value: msgs.ParameterValue{Type: msgs.ParameterInteger, IntegerValue: 2}},
	}}).Results {
		if !r.Successful {
			t.Fatal(r.Reason)
		}
	}
	until("infilled", func(i *node.Inference) bool { return i.Decode.Rounds == 2 && slices.Max(append(i.Known, -1)) >= 0 })
	if err := n.end(end); (err == nil) != (end != syscall.SIGKILL) {
		t.Fatalf("the node ended by %v:\n%s", err, n.stderr)
	}
	if err := robot.end(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	return dir
}

// repeatedOf is how many chunks a diff says it made, and how many were the same.
func repeatedOf(t *testing.T, stdout string) (all, same int) {
	t.Helper()
	m := regexp.MustCompile(`(?m)^repeated +(\d+), the same to the byte: (\d+)$`).FindStringSubmatch(stdout)
	if m == nil {
		t.Fatalf("it does not say how many were repeated:\n%s", stdout)
	}
	all, _ = strconv.Atoi(m[1])
	same, _ = strconv.Atoi(m[2])
	return all, same
}

// says checks what a text says.
func says(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("it does not say %q:\n%s", p, text)
		}
	}
}

// changedBag copies a bag; change may change a message, or with false leave it out.
func changedBag(t *testing.T, path string, change func(m *bag.Message) bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "changed")
	r, err := bag.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := bag.Create(dir, bag.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for m, err := range r.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Data = bytes.Clone(m.Data); !change(m) {
			continue
		}
		if err := w.AddTopic(bag.Topic{Name: m.Topic, Type: m.Type}); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(m.Topic, m.Time, m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

// A free-running node's chunks are made again to the byte from its recording, whose
// parameters say with what; and where anything is another, what and where is told.
func TestReplayDiff(t *testing.T) {
	dir := recordedLive(t, syscall.SIGINT)
	status, stdout, stderr := call(t, "replay", dir, "--diff")
	if status != 0 || stderr != "" {
		t.Fatalf("status %d: %s\n%s", status, stderr, stdout)
	}
	all, same := repeatedOf(t, stdout)
	if all < 8 || same != all {
		t.Errorf("%d of %d chunks are the same", same, all)
	}
	for _, no := range []string{"missing", "differs", "first"} {
		if strings.Contains(stdout, no) {
			t.Errorf("it says %q:\n%s", no, stdout)
		}
	}
	// The instruction was a parameter, and is in the recording all the same.
	status, _, stderr = call(t, "replay", dir, "--diff", "--every", "5", "--ros-args", "-p", "decode.round:=1")
	if status != 0 || stderr != "ddvla replay: unknown parameter decode.round ignored; `ddvla params` lists them\n" {
		t.Errorf("with a misspelt parameter: status %d, %q", status, stderr)
	}
	status, stdout, stderr = call(t, "replay", dir, "--every", "5", "--out", filepath.Join(t.TempDir(), "out"), "--ros-args", "-p", "policy:="+testbundle.Dir(t))
	if status != 0 {
		t.Errorf("plain replay: status %d: %s\n%s", status, stderr, stdout)
	}
	status, stdout, stderr = call(t, "dataset", dir, "--out", filepath.Join(t.TempDir(), "set"), "--size", "16", "--rate", "10", "--shortest", "0s")
	if status != 0 || !strings.Contains(stdout, "reach the red cube") {
		t.Errorf("dataset: status %d: %s\n%s", status, stderr, stdout)
	}
	pictures := func(topic string) bool { return strings.HasPrefix(topic, "/camera") }
	hashes := copied(t, dir, func(topic string) bool { return !pictures(topic) })
	only := copied(t, dir, pictures)
	reader, err := bag.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	// The picture that the first chunk was made from, and when chunks were begun.
	var picture node.PictureRef
	first, using := "", 0 // inferences with that picture
	var times []time.Duration
	for _, m := range contents(t, dir)[inferenceTopic] {
		i, err := node.ReadInference(decoded(t, m, &msgs.String{}))
		if err != nil {
			t.Fatal(err)
		}
		if i.Outcome != node.OutcomeChunk {
			continue
		}
		if len(times) == 0 {
			picture, first = i.Pictures[0], fmt.Sprintf("inference %d", i.Number)
		}
		if i.Pictures[0] == picture {
			using++
		}
		times = append(times, time.Unix(0, i.Time).Sub(reader.Start()))
	}
	isPicture := func(m *bag.Message) bool {
		if m.Topic != picture.Topic {
			return false
		}
		var i msgs.Image
		if err := msgs.Unmarshal(m.Data, &i); err != nil {
			t.Fatal(err)
		}
		return i.Header.Stamp.Time().UnixNano() == picture.Stamp
	}
	black := changedBag(t, dir, func(m *bag.Message) bool {
		if isPicture(m) {
			clear(m.Data[len(m.Data)/2:])
		}
		return true
	})
	without := changedBag(t, dir, func(m *bag.Message) bool { return !isPicture(m) })
	moved := changedBag(t, dir, func(m *bag.Message) bool {
		if m.Topic == stateTopics[1] {
			var j msgs.JointState
			err := msgs.Unmarshal(m.Data, &j)
			j.Position[2] -= 0.5
			if err == nil {
				m.Data, err = msgs.Marshal(&j)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		return true
	})
	unstated := copied(t, dir, func(topic string) bool { return topic != stateTopics[0] })
	renamed := testbundle.Copy(t, func(m *bundle.Manifest) { m.Name = "another" })
	row := regexp.MustCompile(`(?m)^ +row \d+, (left|right)_\w+: recorded \S+ \(bin \d+\), now \S+ \(bin \d+\)$`)
	for name, c := range map[string]struct {
		args   []string
		status int
		all    int // repeated
		same   int // -1: fewer than all; -2: what the sums of this machine give, the status with it
		says   []string
	}{
		"every third":             {[]string{dir, "--diff", "--every", "3"}, 0, (all + 2) / 3, (all + 2) / 3, nil},
		"pictures elsewhere":      {[]string{hashes, "--diff", "--images", only}, 0, all, all, nil},
		"states from the records": {[]string{unstated, "--diff"}, 0, all, all, nil},
		"a picture is missing":    {[]string{without, "--diff"}, 3, all - using, all - using, []string{"missing    " + first + ": the picture of ", " on " + picture.Topic + " is not in the bag"}},
		"another picture":         {[]string{black, "--diff"}, 3, all, -1, []string{first + ", ", "pictures     camera head: recorded with SHA-256 ", "state        the same", "instruction  the same", "parameters   the same"}},
		"another state":           {[]string{moved, "--diff"}, 3, all, -1, []string{"state        right_joint3: recorded ", "pictures     the same"}},
		"other parameters":        {[]string{dir, "--diff", "--ros-args", "-p", "decode.preset:=greedy"}, 3, all, -1, []string{`parameters   decode.preset: recorded "official", now "greedy"`, "state        the same"}},
		"another seed":            {[]string{dir, "--diff", "--ros-args", "-p", "seed:=6"}, 3, all, -1, []string{"differs    seed: recorded 5, now 6"}},
		"another instruction":     {[]string{dir, "--diff", "--instruction", "press the bell"}, 3, all, -1, []string{`instruction  recorded "reach the red cube", now "press the bell"`}},
		"another bundle":          {[]string{dir, "--diff", "--ros-args", "-p", "policy:=" + renamed}, 0, all, all, []string{"differs    bundle: recorded tiny-reach (policy.json ", "now another ("}},
		"other threads":           {[]string{dir, "--diff", "--ros-args", "-p", "runtime.threads:=2"}, 0, all, -2, []string{"differs    runtime.threads: recorded 1, now 2"}},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := call(t, append([]string{"replay"}, c.args...)...)
			made, equal := repeatedOf(t, stdout)
			if c.same == -2 {
				status = c.status // whether sums come out the same is not this test's affair
			}
			if status != c.status || c.all >= 0 && made != c.all || c.same >= 0 && equal != c.same || c.same == -1 && equal >= made {
				t.Errorf("status %d, %d of %d the same: %s\n%s", status, equal, made, stderr, stdout)
			}
			says(t, stdout, c.says...)
			if name == "a picture is missing" {
				says(t, stderr, fmt.Sprintf("%d of %d inferences cannot be made again", using, all))
			} else if c.status == 3 {
				says(t, stdout, "s after the bag's beginning, of the observation of ", " values differ, by up to ")
				says(t, stderr, "chunks are not the recorded ones")
				if !row.MatchString(stdout) {
					t.Errorf("it does not say where:\n%s", stdout)
				}
			}
		})
	}
	// From the third chunk to the sixth only.
	status, stdout, _ = call(t, "replay", dir, "--diff", "--from", (times[2] - time.Millisecond).String(), "--to", (times[5] + time.Millisecond).String())
	if part, equal := repeatedOf(t, stdout); status != 0 || part != 4 || equal != part {
		t.Errorf("status %d, %d of %d chunks\n%s", status, equal, part, stdout)
	}
	for name, c := range map[string]struct {
		status int
		args   []string
		says   []string
	}{
		"hashes only":     {1, []string{hashes, "--diff"}, []string{"only the hashes", "record_images", headTopic, "--images BAG"}},
		"other pictures":  {1, []string{hashes, "--diff", "--images", filepath.Join(bags, "compressed_db3")}, []string{"no pictures on " + headTopic, "--images BAG"}},
		"no inferences":   {1, []string{filepath.Join(bags, "raw_mcap"), "--diff"}, []string{inferenceTopic, "record:=DIR", "without --diff"}},
		"a window behind": {1, []string{dir, "--diff", "--from", "1h"}, []string{"--from 1h0m0s is behind the end"}},
		"empty window":    {2, []string{dir, "--diff", "--from", "2", "--to", "1"}, []string{"--to 1s is not behind --from 2s"}},
		"an output":       {2, []string{dir, "--diff", "--out", "x"}, []string{"--diff compares and writes nothing"}},
		"images alone":    {2, []string{dir, "--images", only}, []string{"--images is for --diff"}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.status, c.says, append([]string{"replay"}, c.args...)...) })
	}
}

// In lock-step chunks may be of one stamp: one is compared with its own, also where some
// are left out.
func TestReplayDiffOfChunksOfOneStamp(t *testing.T) {
	thinned := thinnedLeft(t, 4)
	out := filepath.Join(t.TempDir(), "out")
	args := policy(t, append(sampled(), "-p", "max_skew:=1.0", "-p", "max_age:=1.0")...)
	if status, _, stderr := call(t, append([]string{"replay", thinned, "--out", out}, args...)...); status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	inferences, stamps := contents(t, out)[inferenceTopic], map[int64]bool{}
	for _, m := range inferences {
		i, err := node.ReadInference(decoded(t, m, &msgs.String{}))
		if err != nil {
			t.Fatal(err)
		}
		stamps[i.Stamp] = true
	}
	if len(inferences) != 5 || len(stamps) != 4 {
		t.Fatalf("%d inferences of %d stamps", len(inferences), len(stamps))
	}
	for _, c := range []struct {
		flags []string
		all   int
	}{{nil, 5}, {[]string{"--every", "2"}, 3}} {
		status, stdout, stderr := call(t, append(append([]string{"replay", out, "--diff", "--images", thinned}, c.flags...), args...)...)
		if all, same := repeatedOf(t, stdout); status != 0 || all != c.all || same != all {
			t.Errorf("%q: status %d, %d of %d are the same: %s\n%s", c.flags, status, same, all, stderr, stdout)
		}
	}
	// Those before --from and behind --to, too.
	var all []*recordedInference
	var chunks []*msgs.JointTrajectory
	for k := range int64(4) {
		all = append(all, &recordedInference{Inference: &node.Inference{Outcome: node.OutcomeChunk, Stamp: 7, Time: 10 * k}})
		chunks = append(chunks, &msgs.JointTrajectory{})
	}
	d := differ{every: 1, part: &window{begin: time.Unix(0, 10), end: time.Unix(0, 20)}, counts: map[string]int{}}
	if err := d.pair(all, map[int64][]*msgs.JointTrajectory{7: slices.Clone(chunks)}); err != nil {
		t.Fatal(err)
	}
	if len(d.inferences) != 2 || d.inferences[0].chunk != chunks[1] || d.inferences[1].chunk != chunks[2] {
		t.Errorf("the second and the third of four in one stamp do not have the second and the third chunk")
	}
}

// A recording of a node that was killed is good for all but its last moments.
func TestReplayDiffOfAKilledNode(t *testing.T) {
	dir := recordedLive(t, syscall.SIGKILL)
	status, stdout, stderr := call(t, "replay", dir, "--diff")
	all, same := repeatedOf(t, stdout)
	if status != 1 || all < 6 || same != all || !strings.Contains(stderr, "truncated") {
		t.Errorf("status %d, %d of %d are the same: %s\n%s", status, same, all, stderr, stdout)
	}
}
