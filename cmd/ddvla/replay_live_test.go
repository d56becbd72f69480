package main

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/local"
	"github.com/ddvla/ddvla/ros/rostest"
)

// sampled are parameters with which every chunk depends on the noise of its number and on
// the chunk before: one that is left out or made twice changes all that follow.
func sampled() []string {
	return []string{"-p", "lock_step:=1", "-p", "decode.preset:=official", "-p", "decode.rounds:=3", "-p", "decode.warm_start:=true"}
}

// The same recording gives the same chunks, to the byte: through the bag reader in
// process, twice, and through DDS, from a process that plays it to a node in another, at
// its own speed and as fast as it goes.
func TestReplayIsLive(t *testing.T) {
	const bagName = "raw_mcap"
	path := filepath.Join(bags, bagName)
	want := chunksOf(replayedOnly(t, path, nil, sampled()...))
	if len(want) != facts(t, bagName)[headTopic].Count {
		t.Fatalf("%d chunks", len(want))
	}
	warm := 0
	for _, m := range replayedOnly(t, path, nil, sampled()...)[inferenceTopic] {
		i, err := node.ReadInference(decoded(t, m, &msgs.String{}))
		if err != nil {
			t.Fatal(err)
		}
		if i.Warm > 0 {
			warm++
		}
	}
	if warm == 0 {
		t.Error("no chunk begins with the one before")
	}
	distinct := map[string]bool{}
	for _, c := range want {
		distinct[string(c)] = true
	}
	if len(distinct) != len(want) {
		t.Error("chunks are the same among themselves")
	}
	if again := chunksOf(replayedOnly(t, path, []string{"--speed", "2"}, sampled()...)); !slices.EqualFunc(again, want, bytes.Equal) {
		t.Error("the second replay differs from the first")
	}
	for _, speed := range []string{"1", "0"} {
		t.Run("speed "+speed, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "recording")
			live, said := played(t, path, len(want), []string{"--speed", speed}, append(sampled(), "-p", "record:="+dir)...)
			if len(live) != len(want) {
				t.Fatalf("%d chunks over DDS, %d in process\n%s", len(live), len(want), said)
			}
			for i := range want {
				if !bytes.Equal(live[i], want[i]) {
					t.Errorf("chunk %d over DDS differs from that in process", i)
				}
			}
			if s := fmt.Sprintf("told of %d inferences", len(want)); !strings.Contains(said, s) {
				t.Errorf("the player does not say %q: %s", s, said)
			}
			// What the node recorded of it is the same once more.
			status, stdout, stderr := call(t, "replay", dir, "--diff")
			if all, same := repeatedOf(t, stdout); status != 0 || all != len(want) || same != all {
				t.Errorf("status %d, %d of %d are the same: %s", status, same, all, stderr)
			}
		})
	}
}

func replayedOnly(t *testing.T, path string, flags []string, more ...string) map[string][]recorded {
	t.Helper()
	found, _ := replayed(t, path, flags, more...)
	return found
}

func chunksOf(found map[string][]recorded) (chunks [][]byte) {
	for _, m := range found[chunkTopic] {
		chunks = append(chunks, m.data)
	}
	return chunks
}

// played plays a bag to a node in a process of its own, and returns the chunks that it
// published once there are as many as are wanted, and what the player said. Both end.
func played(t *testing.T, path string, want int, flags []string, more ...string) (chunks [][]byte, said string) {
	t.Helper()
	person := newCaller(t, domain(t))
	var mu sync.Mutex
	all := make(chan struct{})
	if _, err := person.node.Subscribe(chunkTopic, (*msgs.JointTrajectory)(nil).ROSType(), ros.QoS{Depth: 1000}, func(raw []byte, _ time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if chunks = append(chunks, bytes.Clone(raw)); len(chunks) == want {
			close(all)
		}
	}); err != nil {
		t.Fatal(err)
	}
	n := start(t, append([]string{"node"}, policy(t, more...)...)...)
	for person.state() != "active" {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-person.ctx.Done():
			t.Fatalf("the node is not active:\n%s", n.stderr)
		}
	}
	args := append([]string{"play", path}, append(flags, policy(t, more...)...)...)
	player := start(t, args...)
	if err := <-player.ended; err != nil {
		t.Fatalf("%v\n%s", err, player.stderr)
	}
	select {
	case <-all:
	case <-person.ctx.Done():
		t.Errorf("the node says\n%s", n.stderr)
	}
	if err := n.end(syscall.SIGINT); err != nil {
		t.Errorf("the node ended by %v:\n%s", err, n.stderr)
	}
	mu.Lock()
	defer mu.Unlock()
	return slices.Clone(chunks), player.stdout.String()
}

// What is played last stays until a node has told of it, however slow that is. Time is synctest's, so nothing sleeps.
func TestPlayWaitsForASlowNode(t *testing.T) {
	moments := []time.Time{time.Unix(1, 0), time.Unix(2, 0), time.Unix(3, 0)}
	for _, c := range []struct {
		pace  time.Duration // of the node
		tells int           // of the moments: the last may wait for what never comes
		takes time.Duration
	}{
		{20 * time.Second, 3, 60 * time.Second}, {5 * time.Second, 2, 25 * time.Second}, {20 * time.Second, 2, 70 * time.Second},
		{time.Millisecond, 2, 2*time.Second + 2*time.Millisecond}, {time.Millisecond, 1, 30*time.Second + time.Millisecond}, {0, 0, 30 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &follower{news: make(chan struct{})}
			go func() {
				for _, m := range moments[:c.tells] {
					time.Sleep(c.pace)
					f.tell(m.UnixNano())
				}
			}()
			begin := time.Now()
			if err := f.quiet(t.Context(), moments, 30*time.Second); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begin); took != c.takes {
				t.Errorf("%d moments told, one every %v: it waits %v, want %v", c.tells, c.pace, took, c.takes)
			}
		})
	}
}

// A part of a recording begins with the instruction from before it, at any speed.
func TestReplayOfAPart(t *testing.T) {
	path := filepath.Join(bags, "raw_mcap")
	whole := replayedOnly(t, path, nil)[inferenceTopic]
	texts := func(messages []recorded) (list []string) {
		for _, m := range messages {
			i, err := node.ReadInference(decoded(t, m, &msgs.String{}))
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, i.Instruction)
		}
		return list
	}
	all := texts(whole)
	if len(all) != 5 || all[0] == all[4] {
		t.Fatalf("the whole bag has %q", all)
	}
	for _, c := range []struct {
		flags []string
		want  []string
	}{
		{[]string{"--from", "0.15"}, all[2:]},
		{[]string{"--to", "350ms"}, all[:4]},
		{[]string{"--from", "150ms", "--to", "0.35", "--speed", "3"}, all[2:4]},
		{[]string{"--instruction", "press the bell twice", "--every", "2"}, slices.Repeat([]string{"press the bell twice"}, 3)},
	} {
		if got := texts(replayedOnly(t, path, c.flags)[inferenceTopic]); !slices.Equal(got, c.want) {
			t.Errorf("%q: chunks for %q, want %q", c.flags, got, c.want)
		}
	}
}

// Faster than the recording was is sooner over, and what comes out is the same.
func TestReplayAtASpeed(t *testing.T) {
	path := filepath.Join(bags, "raw_mcap")
	length := time.Duration(facts(t, "raw_mcap")[stateTopics[0]].Last - facts(t, "raw_mcap")[headTopic].First)
	want := chunksOf(replayedOnly(t, path, nil))
	for _, speed := range []float64{1, 4} {
		began := time.Now()
		got := chunksOf(replayedOnly(t, path, []string{"--speed", fmt.Sprint(speed)}))
		if took := time.Since(began); took < time.Duration(float64(length)/speed)-time.Millisecond {
			t.Errorf("at speed %v it took %v, the bag is %v long", speed, took, length)
		}
		if !slices.EqualFunc(got, want, bytes.Equal) {
			t.Errorf("at speed %v the chunks differ", speed)
		}
	}
}

func TestPlayRefuses(t *testing.T) {
	domain(t)
	whole := filepath.Join(bags, "raw_mcap")
	for name, c := range map[string]struct {
		status int
		says   []string
		args   []string
	}{
		"nobody listens": {1, []string{headTopic, stateTopics[0], "/ddvla/instruction", "is the node running"}, []string{whole, "--wait", "100ms"}},
		"no bag":         {2, []string{"no bag given; `ddvla play -h`"}, nil},
		"a speed":        {2, []string{"--speed is -1, must be at least 0"}, []string{whole, "--speed", "-1"}},
		"no cameras":     {1, []string{"lacks " + headTopic, "cameras.*.topic"}, []string{copied(t, whole, func(topic string) bool { return !strings.HasPrefix(topic, "/camera") })}},
		"no words":       {1, []string{"lacks /ddvla/instruction", "give an instruction"}, []string{copied(t, whole, func(topic string) bool { return topic != "/instruction" })}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, c.status, c.says, append([]string{"play"}, append(c.args, policy(t)...)...)...)
		})
	}
	_, _, stderr := call(t, append([]string{"play", whole, "--wait", "1ms"}, policy(t, "-p", "decode.round:=1")...)...)
	says(t, stderr, "ddvla play: unknown parameter decode.round ignored; `ddvla params` lists them\n")
}

// A recorder or a viewer that listens is not the node.
func TestPlayWaitsForTheNodeAndNoOther(t *testing.T) {
	bus := local.NewBus()
	rn := speaker(t, bus, "_ddvla_play")
	p := &player{wait: 50 * time.Millisecond, topics: map[string]string{"/recorded": headTopic}, publishers: map[string]ros.Publisher{}}
	var err error
	if p.publishers["/recorded"], err = rn.Advertise(headTopic, (*msgs.Image)(nil).ROSType(), node.LockStepQoS()); err != nil {
		t.Fatal(err)
	}
	listen := func(name string) {
		t.Helper()
		n := speaker(t, bus, name)
		if _, err := n.Subscribe(headTopic, (*msgs.Image)(nil).ROSType(), node.LockStepQoS(), func([]byte, time.Time) {}); err != nil {
			t.Fatal(err)
		}
		rostest.Wait(t, "it is matched", func() bool {
			nodes, err := n.(ros.Grapher).Graph()
			return err == nil && slices.ContainsFunc(nodes, func(g ros.GraphNode) bool { return g.Name == n.Name() && len(g.Subscribes) > 0 })
		})
	}
	for _, name := range []string{"", "recorder"} {
		if name != "" {
			listen(name)
		}
		if err := p.matched(t.Context(), rn, "/ddvla"); err == nil || !strings.Contains(err.Error(), "/ddvla has not subscribed to "+headTopic) {
			t.Errorf("with %q there: %v", name, err)
		}
	}
	listen("ddvla")
	p.wait = time.Minute
	if err := p.matched(t.Context(), rn, "/ddvla"); err != nil {
		t.Error(err)
	}
}

// What is played to a node that runs freely, with the recording's clock, is observed
// like a robot: there are chunks, and none of the recorded commands.
func TestPlayToAFreeNode(t *testing.T) {
	path := filepath.Join(bags, "raw_mcap")
	chunks, said := played(t, path, 1, []string{"--clock", "--speed", "0.5", "--instruction", "press the bell"}, "-p", "use_sim_time:=true", "-p", "max_skew:=1.0")
	if len(chunks) == 0 {
		t.Error("no chunk")
	}
	// Five sets of pictures, 25 states of each arm, one instruction.
	if want := "played 66 messages"; !strings.Contains(said, want) || strings.Contains(said, "inferences") {
		t.Errorf("the player says %q, not %q", said, want)
	}
}
