package cyclone

import (
	"bytes"
	"context"
	"encoding/binary"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
)

// Bytes that Publish would refuse, as a foreign writer might send them within one process.
func TestMalformedSamplesAreCounted(t *testing.T) {
	n := newTestNode(t, "n", rostest.Domain(t))
	got := make(chan int, 10)
	s, err := n.Subscribe("x", "std_msgs/msg/String", ros.DefaultQoS(), func(raw []byte, _ time.Time) { got <- len(raw) })
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.Advertise("x", "std_msgs/msg/String", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	w := p.(*publisher).w
	for _, raw := range [][]byte{{0}, {0, 1, 0}, {0, 3, 0, 0}, {0, 7, 0, 0, 1}, {1, 0, 0, 0}, {0, 1, 0, 0, 9}} {
		if err := w.write(raw, nil); err != nil {
			t.Fatal(err)
		}
	}
	if n := rostest.Receive(t, "the good sample", got); n != 5 || s.Malformed() != 5 {
		t.Errorf("%d bytes delivered and %d malformed, want 5 and 5", n, s.Malformed())
	}
}

func TestWireNames(t *testing.T) {
	for typ, want := range map[string]string{
		"std_msgs/msg/String":                        "std_msgs::msg::dds_::String_",
		"rmw_dds_common/msg/ParticipantEntitiesInfo": "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_",
	} {
		if got, err := wireType(typ, "msg", ""); err != nil || got != want || rosType(got) != typ {
			t.Errorf("%s: %q, %v, back %q", typ, got, err, rosType(got))
		}
	}
	if got, err := wireType("std_srvs/srv/Trigger", "srv", "_Request"); err != nil || got != "std_srvs::srv::dds_::Trigger_Request_" {
		t.Errorf("%q, %v", got, err)
	}
	if got := rosType("some::idl::Type"); got != "some::idl::Type" {
		t.Errorf("a type that is not of ROS became %q", got)
	}
}

func TestConfiguration(t *testing.T) {
	const mine = "<CycloneDDS><Domain><General><AllowMulticast>spdp</AllowMulticast></General></Domain></CycloneDDS>"
	for _, c := range []struct {
		localhost, multicast bool
		has, hasNot          string
	}{
		{false, false, "<MaxAutoParticipantIndex>119<", "127.0.0.1"},
		{true, true, `<NetworkInterface address="127.0.0.1"/>`, "AllowMulticast>false"},
		{true, false, "<AllowMulticast>false<", "spdp<"},
	} {
		got := configuration(c.localhost, c.multicast, "")
		if !strings.Contains(got, c.has) || strings.Contains(got, c.hasNot) {
			t.Errorf("%+v: %s", c, got)
		}
		if with := configuration(c.localhost, c.multicast, mine); with != got+","+mine {
			t.Errorf("CYCLONEDDS_URI is not last: %s", with)
		}
	}
}

func TestSmallKernelBuffersAreTold(t *testing.T) {
	if got := adviseBuffer("212992\n"); !strings.Contains(got, "212992 bytes") || !strings.Contains(got, "sysctl -w net.core.rmem_max=16777216") {
		t.Errorf("%q", got)
	}
	for _, fine := range []string{"4194304\n", "", "?"} {
		if got := adviseBuffer(fine); got != "" {
			t.Errorf("%q: %q", fine, got)
		}
	}
}

func TestNodeIsRefusedWithAReason(t *testing.T) {
	domain := rostest.Domain(t)
	n := newTestNode(t, "n", domain)
	_ = n
	for want, o := range map[string]ros.Options{
		"ROS_DOMAIN_ID":  {Name: "n", DomainID: 233, LocalhostOnly: true},
		"node name":      {Name: "", DomainID: domain, LocalhostOnly: true},
		"localhost only": {Name: "n", DomainID: domain},
	} {
		if n, err := NewNode(context.Background(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
			if n != nil {
				n.Close()
			}
		}
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewNode(ended, ros.Options{Name: "n", DomainID: domain, LocalhostOnly: true}); err == nil {
		t.Error("a node was made with an ended context")
	}
	t.Chdir(t.TempDir()) // Cyclone writes a log where it runs
	t.Setenv("CYCLONEDDS_URI", "<CycloneDDS><Nonsense/></CycloneDDS>")
	if _, err := NewNode(context.Background(), ros.Options{Name: "n", DomainID: rostest.Domain(t), LocalhostOnly: true}); err == nil ||
		!strings.Contains(err.Error(), "CYCLONEDDS_URI") {
		t.Errorf("wrong CYCLONEDDS_URI: %v", err)
	}
}

// Opening and closing leaves no goroutine, and the domain can be opened anew.
func TestCloseLeavesNothing(t *testing.T) {
	domain := rostest.Domain(t)
	before := runtime.NumGoroutine()
	for range 5 {
		n, err := NewNode(context.Background(), ros.Options{Name: "n", DomainID: domain, LocalhostOnly: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Subscribe("x", "std_msgs/msg/String", ros.DefaultQoS(), func([]byte, time.Time) {}); err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	rostest.Wait(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

func TestServiceHeader(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := header{rapid.Uint64().Draw(t, "client"), rapid.Int64().Draw(t, "sequence")}
		body := append([]byte{0, byte(rapid.IntRange(0, 1).Draw(t, "little")), 0, 0}, rapid.SliceOf(rapid.Byte()).Draw(t, "body")...)
		head, err := joinHeader(h, body)
		if err != nil {
			t.Fatal(err)
		}
		got, back, err := splitHeader(append(head[:], body[4:]...))
		if err != nil || got != h || !bytes.Equal(back, body) {
			t.Fatalf("%+v % x came back as %+v % x: %v", h, body, got, back, err)
		}
	})
	// The layout of rmw_cyclonedds: uint64 client, int64 sequence, in the byte order of the encapsulation.
	head, err := joinHeader(header{0x0102030405060708, 9}, []byte{0, 1, 0, 0})
	if want := []byte{0, 1, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0}; err != nil || !bytes.Equal(head[:], want) {
		t.Errorf("% x, %v", head, err)
	}
}

func FuzzServiceHeader(f *testing.F) {
	f.Add([]byte{0, 1, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, body, err := splitHeader(raw)
		if err != nil {
			return
		}
		head, err := joinHeader(h, body)
		if err != nil || !bytes.Equal(append(head[:], body[4:]...), raw) {
			t.Fatalf("% x became % x, % x: %v", raw, head, body, err)
		}
	})
}

// A client whose request is found before its reader of replies gets the reply all the same, and the next
// call does not wait for it.
func TestReplyWaitsForItsClient(t *testing.T) {
	domain := rostest.Domain(t)
	n := newTestNode(t, "n", domain).(*node)
	const typ = "std_srvs/srv/Trigger"
	handled := make(chan struct{}, 10)
	if _, err := n.Serve("/go", typ, func(_ context.Context, request []byte) ([]byte, error) {
		handled <- struct{}{}
		return request, nil
	}); err != nil {
		t.Fatal(err)
	}
	e, err := n.serviceEnds("/go", typ)
	if err != nil {
		t.Fatal(err)
	}
	const id = "clientid=1;"
	w, err := newWriter(n.participant, e.request, e.requestType, serviceQoS(), id)
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	want := header{12, 34}
	body := []byte{0, 1, 0, 0, 7}
	head, err := joinHeader(want, body)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.write(head[:], body[encapsulation:]); err != nil {
		t.Fatal(err)
	}
	rostest.Receive(t, "the request is handled", handled)

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := n.Client("/go", typ)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Call(ctx, body); err != nil {
		t.Fatal(err)
	}

	got := make(chan []byte, 10)
	r, err := newReader(n.participant, e.reply, e.replyType, serviceQoS(), 10, id, func(m message) { got <- bytes.Clone(m.data) })
	if err != nil {
		t.Fatal(err)
	}
	defer r.close()
	h, reply, err := splitHeader(rostest.Receive(t, "the reply", got))
	if err != nil || h != want || !bytes.HasPrefix(reply, body) {
		t.Errorf("reply %+v % x, %v, want %+v % x", h, reply, err, want, body)
	}
}

// A server that closes does not wait for clients that do not come.
func TestCloseLeavesLateRepliesBehind(t *testing.T) {
	n := newTestNode(t, "n", rostest.Domain(t)).(*node)
	handled := make(chan struct{}, 10)
	s, err := n.Serve("/go", "std_srvs/srv/Trigger", func(_ context.Context, request []byte) ([]byte, error) {
		handled <- struct{}{}
		return request, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := n.serviceEnds("/go", "std_srvs/srv/Trigger")
	if err != nil {
		t.Fatal(err)
	}
	w, err := newWriter(n.participant, e.request, e.requestType, serviceQoS(), "clientid=1;")
	if err != nil {
		t.Fatal(err)
	}
	defer w.close()
	for range 3 {
		if err := w.write([]byte{0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 9}, nil); err != nil {
			t.Fatal(err)
		}
		rostest.Receive(t, "the request is handled", handled)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if left := s.(*server).waiting.Load(); left != 0 {
		t.Errorf("%d replies still wait", left)
	}
}

// Participants that came and went are forgotten, also by a node that nobody asks for the graph.
func TestDiscoveryForgetsThoseThatLeft(t *testing.T) {
	n := newTestNode(t, "n", rostest.Domain(t)).(*node)
	for i := range 1000 {
		info := msgs.ParticipantEntitiesInfo{NodeEntitiesInfoSeq: []msgs.NodeEntitiesInfo{{NodeNamespace: "/", NodeName: "gone"}}}
		binary.LittleEndian.PutUint32(info.Gid.Data[:], uint32(i))
		raw, err := msgs.Marshal(&info)
		if err != nil {
			t.Fatal(err)
		}
		n.discovery.receive(message{data: raw})
	}
	n.discovery.mu.Lock()
	kept := len(n.discovery.others)
	n.discovery.mu.Unlock()
	if kept > 50 {
		t.Errorf("%d of 1000 participants that are not there are remembered", kept)
	}
	rostest.Wait(t, "the node itself is known", func() bool {
		g, err := n.Graph()
		if err != nil {
			t.Fatal(err)
		}
		return len(g) == 1 && g[0].Name == "/n"
	})
}

func TestPublishDoesNotAllocate(t *testing.T) {
	n := newTestNode(t, "n", rostest.Domain(t))
	var got atomic.Int64
	if _, err := n.Subscribe("joints", "sensor_msgs/msg/JointState", ros.DefaultQoS(), func([]byte, time.Time) { got.Add(1) }); err != nil {
		t.Fatal(err)
	}
	p, err := ros.Advertise[msgs.JointState](n, "joints", ros.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	m := jointState()
	allocs := testing.AllocsPerRun(200, func() {
		if err := p.Publish(m); err != nil {
			t.Fatal(err)
		}
	})
	if allocs != 0 {
		t.Errorf("%v allocations per message published and received", allocs)
	}
	rostest.Wait(t, "messages are received", func() bool { return got.Load() > 0 })
}

func jointState() *msgs.JointState {
	return &msgs.JointState{
		Name:     []string{"joint1", "joint2", "joint3", "joint4", "joint5", "joint6", "gripper"},
		Position: make([]float64, 7),
	}
}

func BenchmarkPublishJointState(b *testing.B) {
	n := newTestNode(b, "n", rostest.Domain(b))
	p, err := ros.Advertise[msgs.JointState](n, "joints", ros.DefaultQoS())
	if err != nil {
		b.Fatal(err)
	}
	m := jointState()
	b.ReportAllocs()
	for b.Loop() {
		if err := p.Publish(m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkImage640x480 measures from Publish to the callback, one image at a time: in this process, and
// to another process and back.
func BenchmarkImage640x480(b *testing.B) {
	for _, there := range []bool{false, true} {
		name := map[bool]string{false: "in process", true: "to a process and back"}[there]
		b.Run(name, func(b *testing.B) {
			domain := rostest.Domain(b)
			out, in := "images", "images"
			if there {
				rostest.StartEcho(b, NewNode, domain, "/images", "sensor_msgs/msg/Image", ros.SensorDataQoS())
				in = "images_back"
			}
			sender, receiver := newTestNode(b, "sender", domain), newTestNode(b, "receiver", domain)
			raw := make([]byte, 4+640*480*3+60)
			raw[1] = 1
			arrived := make(chan uint64, 1)
			s, err := receiver.Subscribe(in, "sensor_msgs/msg/Image", ros.SensorDataQoS(), func(raw []byte, _ time.Time) {
				arrived <- binary.LittleEndian.Uint64(raw[8:])
			})
			if err != nil {
				b.Fatal(err)
			}
			p, err := sender.Advertise(out, "sensor_msgs/msg/Image", ros.DefaultQoS())
			if err != nil {
				b.Fatal(err)
			}
			rostest.Wait(b, "match", func() bool { return p.MatchedSubscriptions() == 1 && s.MatchedPublishers() == 1 })
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for i := uint64(0); b.Loop(); i++ {
				binary.LittleEndian.PutUint64(raw[8:], i)
				if err := p.Publish(raw); err != nil {
					b.Fatal(err)
				}
				select {
				case got := <-arrived:
					if got != i {
						b.Fatalf("image %d arrived, want %d", got, i)
					}
				case <-time.After(10 * time.Second):
					b.Fatal("an image was lost")
				}
			}
		})
	}
}
