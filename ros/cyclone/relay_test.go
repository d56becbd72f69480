package cyclone

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
)

// relay is testdata/relay.c at work: a C program that takes messages as C structs of idlc's, prints every field and
// writes the structs back.
type relay struct {
	*testing.T
	in    io.WriteCloser
	lines chan string // that the relay prints
	pub   ros.Publisher
	back  chan []byte
	last  string // message, printed
	end   func() error
}

// startRelay runs the relay with a QoS of its own, towards ours.
func startRelay(t *testing.T, binary string, n ros.Node, domain int, typ string, qos ros.QoS) *relay {
	t.Helper()
	cmd := peerCommand(t, binary, domain, typ, qos.Reliability.String(), qos.Durability.String())
	r := &relay{T: t, lines: make(chan string, 100), back: make(chan []byte, 100), end: cmd.Wait}
	var err error
	if r.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.lines)
		for from := bufio.NewReader(out); ; {
			line, err := from.ReadString('\n')
			if err != nil {
				return // it ended
			}
			r.lines <- strings.TrimSuffix(line, " \n")
		}
	}()
	sub, err := n.Subscribe("back", typ, qos, func(raw []byte, _ time.Time) { r.back <- bytes.Clone(raw) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sub.Close() })
	if r.pub, err = n.Advertise("there", typ, qos); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.pub.Close() })
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	rostest.Wait(t, "match", func() bool { return r.pub.MatchedSubscriptions() == 1 && sub.MatchedPublishers() == 1 })
	return r
}

// exchange sends a message until it was read and came back: once, unless it got lost or the relay did not know us
// yet. It compares what the relay printed and what it sent.
func (r *relay) exchange(m msgs.Message) {
	r.Helper()
	raw, err := msgs.Marshal(m)
	if err != nil {
		r.Fatal(err)
	}
	want := text(m)
	if want == r.last {
		return // short random messages may repeat, and would be taken for one sent twice
	}
	lost := time.NewTicker(2 * time.Second)
	defer lost.Stop()
	const tries = 30
	sent, read, back := 0, "", ""
	for again := true; read == "" || back == ""; {
		if again {
			if sent++; sent > tries {
				r.Fatalf("%s: %d times in vain", m.ROSType(), tries)
			}
			if err := r.pub.Publish(raw); err != nil {
				r.Fatal(err)
			}
		}
		again = false
		select {
		case line, ok := <-r.lines:
			if !ok {
				r.Fatal("the relay ended")
			}
			if line != r.last { // sent twice
				read = line
			}
		case came := <-r.back:
			m, _ := msgs.New(m.ROSType())
			if err := msgs.Unmarshal(came, m); err != nil {
				r.Fatalf("%s: C wrote what does not decode: %v", m.ROSType(), err)
			}
			if got := text(m); got != r.last {
				back = got
			}
		case <-lost.C:
			again = true
		}
	}
	if read != want || back != want {
		r.Fatalf("%s:\n%.2000s was sent,\n%.2000s was read and\n%.2000s written by C", m.ROSType(), want, read, back)
	}
	r.last = want
}

// stop ends the relay in good order.
func (r *relay) stop() {
	r.Helper()
	r.in.Close()
	for range r.lines { // until it has ended; Wait must not come before
	}
	if err := r.end(); err != nil {
		r.Errorf("the relay ended with %v", err)
	}
}

// text is what relay.c prints of a message.
func text(m msgs.Message) string {
	return strings.Join(fields(nil, reflect.ValueOf(m).Elem()), " ")
}

func fields(to []string, v reflect.Value) []string {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			to = fields(to, v.Field(i))
		}
	case reflect.Slice:
		to = append(to, fmt.Sprint(v.Len()))
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return append(to, fmt.Sprintf("x%x", v.Bytes()))
		}
		for i := range v.Len() {
			to = fields(to, v.Index(i))
		}
	case reflect.String:
		to = append(to, fmt.Sprintf("x%x", v.String()))
	case reflect.Float64:
		to = append(to, fmt.Sprintf("%016x", math.Float64bits(v.Float())))
	default:
		to = append(to, fmt.Sprint(v.Interface()))
	}
	return to
}

// Messages go to an independent C program and back, field by field: what it reads is what was sent, and what its own
// serialisation makes of that decodes to the same.
func TestIndependentPeerReadsAndWritesEveryField(t *testing.T) {
	binary := buildPeer(t, "relay")
	reliable := ros.DefaultQoS()
	latched := ros.QoS{Durability: ros.TransientLocal, Depth: 10}
	for i, c := range []struct {
		typ string
		qos ros.QoS
	}{
		{"std_msgs/msg/String", reliable},
		{"std_msgs/msg/String", latched},
		{"std_msgs/msg/String", ros.SensorDataQoS()},
		{"sensor_msgs/msg/JointState", reliable},
		{"sensor_msgs/msg/JointState", ros.SensorDataQoS()},
		{"sensor_msgs/msg/Image", reliable},
		{"sensor_msgs/msg/CompressedImage", reliable},
		{"trajectory_msgs/msg/JointTrajectory", reliable},
		{"diagnostic_msgs/msg/DiagnosticArray", reliable},
	} {
		t.Run(fmt.Sprintf("%s, %v, %v", c.typ, c.qos.Reliability, c.qos.Durability), func(t *testing.T) {
			domain := rostest.Domain(t)
			r := startRelay(t, binary, newTestNode(t, "n", domain), domain, c.typ, c.qos)
			rng := rand.New(rand.NewPCG(uint64(i), 4))
			for range 30 {
				r.exchange(rostest.RandomMessage(rng, c.typ))
			}
			if c.typ == "sensor_msgs/msg/Image" { // in fragments
				m := msgs.Image{Header: msgs.Header{FrameID: "camera"}, Width: 640, Height: 480, Encoding: "rgb8", Step: 3 * 640, Data: make([]byte, 3*640*480)}
				for i := range m.Data {
					m.Data[i] = byte(rng.Uint32())
				}
				r.exchange(&m)
			}
			r.stop()
		})
	}
}

// The C program's QoS decides: it is no node of ROS, so the mismatch names none.
func TestIndependentPeersQoSIsTold(t *testing.T) {
	binary, domain := buildPeer(t, "relay"), rostest.Domain(t)
	n := newTestNode(t, "n", domain)
	const typ = "std_msgs/msg/String"
	for _, c := range []struct {
		peer     []string
		pub, sub ros.QoS
		told     func(pub, sub ros.Mismatch) (got, want string)
	}{
		{[]string{"reliable", "volatile"}, ros.SensorDataQoS(), ros.DefaultQoS(), func(pub, _ ros.Mismatch) (string, string) {
			return pub.String(), "1 subscription refused by QoS: it requests reliable, this publisher offers best_effort"
		}},
		{[]string{"best_effort", "volatile"}, ros.DefaultQoS(), ros.DefaultQoS(), func(_, sub ros.Mismatch) (string, string) {
			return sub.String(), "1 publisher refused by QoS: it offers best_effort, this subscription requests reliable"
		}},
		{[]string{"reliable", "transient_local"}, ros.DefaultQoS(), ros.DefaultQoS(), func(pub, _ ros.Mismatch) (string, string) {
			return pub.String(), "1 subscription refused by QoS: it requests transient_local, this publisher offers volatile"
		}},
		{[]string{"reliable", "volatile"}, ros.LatchedQoS(), ros.LatchedQoS(), func(_, sub ros.Mismatch) (string, string) {
			return sub.String(), "1 publisher refused by QoS: it offers volatile, this subscription requests transient_local"
		}},
		{[]string{"reliable", "volatile", "lease"}, ros.DefaultQoS(), ros.DefaultQoS(), func(pub, _ ros.Mismatch) (string, string) {
			return pub.String(), "1 subscription refused by QoS: it does not fit by its liveliness"
		}},
	} {
		pub, err := n.Advertise("there", typ, c.pub)
		if err != nil {
			t.Fatal(err)
		}
		sub, err := n.Subscribe("back", typ, c.sub, func([]byte, time.Time) {})
		if err != nil {
			t.Fatal(err)
		}
		cmd := peerCommand(t, binary, domain, append([]string{typ}, c.peer...)...)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var got, want string
		rostest.Wait(t, "a match and a mismatch with the peer", func() bool {
			got, want = c.told(pub.Mismatch(), sub.Mismatch())
			return pub.MatchedSubscriptions()+sub.MatchedPublishers() == 1 && pub.Mismatch().Count+sub.Mismatch().Count == 1
		})
		if got != want {
			t.Errorf("%v: %q, want %q", c.peer, got, want)
		}
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the relay ended with %v", err)
		}
		for _, part := range []io.Closer{pub, sub} {
			if err := part.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
