package rostest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ddvla/ddvla/ros"
)

// A Backend makes nodes of the back end under test; a call from another process must reach the same graph
// when the options are equal.
type Backend func(ctx context.Context, o ros.Options) (ros.Node, error)

// A script is what a peer does: a node that echoes, publishes, serves.
type script struct {
	Options  ros.Options
	Echo     []endpoint // publishes on topic + "_back" what comes on the topic
	Publish  []endpoint // publishes Count messages, numbered from 0, as soon as it runs
	Take     []endpoint // subscribes and counts
	Triggers []string   // services of std_srvs/srv/Trigger; "<name>" answers its own name
	Recode   []endpoint // as Echo, but what is published was decoded and encoded again
	Answer   []endpoint // services whose replies are random; see randomReply
}

type endpoint struct {
	Topic, Type string
	QoS         ros.QoS
	Count, Size int
}

// peerVariable carries the script to a process that is a peer.
const peerVariable = "ROSTEST_PEER"

// Main is a back end's TestMain: it makes the test binary a peer when a test started it as one.
func Main(m *testing.M, b Backend) {
	s := os.Getenv(peerVariable)
	if s == "" {
		os.Exit(m.Run())
	}
	var sc script
	err := json.Unmarshal([]byte(s), &sc)
	if err == nil {
		err = sc.run(b, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "peer:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does what the script says, tells "ready", and ends when in does. Each line of in is answered by one
// line with the report so far.
func (s script) run(b Backend, in io.Reader, out io.Writer) (err error) {
	n, err := b(context.Background(), s.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	var r report
	var publishers, echoes []ros.Publisher
	var subscriptions []ros.Subscription
	subscribe := func(e endpoint, cb func([]byte, time.Time)) error {
		sub, err := n.Subscribe(e.Topic, e.Type, e.QoS, cb)
		subscriptions = append(subscriptions, sub)
		return err
	}
	for _, e := range slices.Concat(s.Echo, s.Recode) {
		back, err := n.Advertise(e.Topic+"_back", e.Type, e.QoS)
		if err != nil {
			return err
		}
		echoes = append(echoes, back)
		again := slices.Contains(s.Recode, e)
		if err := subscribe(e, func(raw []byte, _ time.Time) {
			if again {
				raw = recoded(e.Type, raw)
			}
			if back.Publish(raw) == nil {
				r.Echoed.Add(1)
			}
		}); err != nil {
			return err
		}
	}
	for _, e := range s.Take {
		if err := subscribe(e, func([]byte, time.Time) { r.Taken.Add(1) }); err != nil {
			return err
		}
	}
	for _, name := range s.Triggers {
		if _, err := n.Serve(name, "std_srvs/srv/Trigger", func(context.Context, []byte) ([]byte, error) {
			return triggerReply(name), nil
		}); err != nil {
			return err
		}
	}
	for _, e := range s.Answer {
		if _, err := n.Serve(e.Topic, e.Type, func(_ context.Context, request []byte) ([]byte, error) {
			return randomReply(e.Type, recoded(e.Type+"_Request", request))
		}); err != nil {
			return err
		}
	}
	for _, e := range s.Publish {
		p, err := n.Advertise(e.Topic, e.Type, e.QoS)
		if err != nil {
			return err
		}
		publishers = append(publishers, p)
		for i := range e.Count {
			if err := p.Publish(numbered(i, e.Size)); err != nil {
				return err
			}
		}
	}
	if _, err := fmt.Fprintln(out, "ready"); err != nil {
		return err
	}
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var now answer
		now.Echoed, now.Taken = r.Echoed.Load(), r.Taken.Load()
		for _, p := range publishers {
			now.Refused = append(now.Refused, p.Mismatch())
		}
		for _, p := range append(publishers, echoes...) {
			now.Subscriptions += p.MatchedSubscriptions()
		}
		for _, s := range subscriptions {
			now.Publishers += s.MatchedPublishers()
		}
		if g, ok := n.(ros.Grapher); ok && lines.Text() == askGraph {
			nodes, err := g.Graph()
			if err != nil {
				return err
			}
			now.Nodes = len(nodes)
		}
		line, err := json.Marshal(now)
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintf(out, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

type report struct{ Echoed, Taken atomic.Int64 }

type answer struct {
	Echoed, Taken             int64
	Publishers, Subscriptions int            // that the peer has found for its own
	Nodes                     int            // that it sees in the graph, where it was asked for that
	Refused                   []ros.Mismatch // of its publishers, in the order of the script
}

// numbered is a std_msgs/msg/String-shaped message of at least size bytes that carries i.
func numbered(i, size int) []byte {
	text := fmt.Sprintf("%d:", i)
	if pad := size - len(text) - 9; pad > 0 {
		text += string(bytes.Repeat([]byte{'x'}, pad))
	}
	return stringCDR(text)
}

func numberOf(raw []byte) (i int) {
	if _, err := fmt.Sscanf(string(raw[8:]), "%d:", &i); err != nil {
		return -1
	}
	return i
}

// stringCDR is a string as std_msgs/msg/String has it.
func stringCDR(s string) []byte {
	raw := []byte{0, 1, 0, 0, 0, 0, 0, 0}
	n := len(s) + 1
	raw[4], raw[5], raw[6], raw[7] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	return append(append(raw, s...), 0)
}

// triggerReply is a std_srvs/srv/Trigger reply: success and a message.
func triggerReply(s string) []byte {
	body := stringCDR(s)
	return append([]byte{0, 1, 0, 0, 1, 0, 0, 0}, body[4:]...)
}

// A peer is a running script.
type peer struct {
	t     testing.TB
	in    io.WriteCloser
	out   *bufio.Reader
	cmd   *exec.Cmd  // of another process, else nil
	ended chan error // of this process
}

// start runs a script in this process or another and waits until it is ready.
func (s script) start(t testing.TB, b Backend, process bool) *peer {
	t.Helper()
	p := &peer{t: t}
	if process {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		p.cmd = exec.Command(os.Args[0])
		// The race detector would sleep a second at the end of each peer.
		p.cmd.Env = append(os.Environ(), peerVariable+"="+string(text), "GORACE=atexit_sleep_ms=0")
		p.cmd.Stderr = os.Stderr
		if p.in, err = p.cmd.StdinPipe(); err != nil {
			t.Fatal(err)
		}
		out, err := p.cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		p.out = bufio.NewReader(out)
		if err := p.cmd.Start(); err != nil {
			t.Fatal(err)
		}
	} else {
		inR, inW := io.Pipe()
		outR, outW := io.Pipe()
		p.in, p.out, p.ended = inW, bufio.NewReader(outR), make(chan error, 1)
		go func() {
			err := s.run(b, inR, outW)
			outW.CloseWithError(fmt.Errorf("peer ended: %w", errors.Join(io.EOF, err)))
			p.ended <- err
		}()
	}
	t.Cleanup(p.stop)
	if line, err := p.out.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("peer said %q, %v", line, err)
	}
	return p
}

// What a peer is asked: for a report, or for one with the number of nodes, which takes back ends long to tell.
const (
	askReport = "report"
	askGraph  = "graph"
)

// ask returns the peer's report.
func (p *peer) ask() answer { return p.question(askReport) }

func (p *peer) question(q string) answer {
	p.t.Helper()
	if _, err := io.WriteString(p.in, q+"\n"); err != nil {
		p.t.Fatal(err)
	}
	line, err := p.out.ReadString('\n')
	if err != nil {
		p.t.Fatal(err)
	}
	var a answer
	if err := json.Unmarshal([]byte(line), &a); err != nil {
		p.t.Fatal(err)
	}
	return a
}

// found waits until the peer, too, is matched with so many publishers and subscriptions. Discovery ends on
// one side before the other, and a volatile reader gets nothing that was sent in between.
func (p *peer) found(publishers, subscriptions int) {
	p.t.Helper()
	Wait(p.t, fmt.Sprintf("the peer finds %d publishers and %d subscriptions", publishers, subscriptions), func() bool {
		a := p.ask()
		return a.Publishers == publishers && a.Subscriptions == subscriptions
	})
}

// stop ends the peer in good order; a second stop does nothing.
func (p *peer) stop() {
	if p.in == nil {
		return
	}
	p.in.Close()
	p.in = nil
	var err error
	if p.cmd != nil {
		err = p.cmd.Wait()
	} else {
		err = <-p.ended
	}
	if err != nil {
		p.t.Errorf("peer: %v", err)
	}
}

// kill ends a peer process without warning.
func (p *peer) kill() {
	p.in.Close()
	p.in = nil
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Error(err)
	}
	p.cmd.Wait()            // says that it was killed
	p.cmd, p.out = nil, nil // the test's clean-up keeps p
}

// StartEcho runs a process that publishes on topic + "_back" what it hears on topic, until the test ends.
// The package's TestMain must call [Main].
func StartEcho(t testing.TB, b Backend, domain int, topic, typ string, qos ros.QoS) {
	t.Helper()
	script{
		Options: ros.Options{Name: "echo", DomainID: domain, LocalhostOnly: true},
		Echo:    []endpoint{{Topic: topic, Type: typ, QoS: qos}},
	}.start(t, b, true)
}
