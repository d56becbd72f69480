package rostest

import (
	"bytes"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros"
)

func wholeAndInOrder(f *fixture) {
	deep := ros.QoS{Depth: 1000}
	peer := f.peer(script{Echo: []endpoint{{Topic: "talk", Type: stringType, QoS: deep}}})
	n := f.node("n")
	type got struct {
		raw   []byte
		stamp time.Time
	}
	back := make(chan got, 1000)
	s := f.subscribe(n, "talk_back", deep, func(raw []byte, stamp time.Time) { back <- got{slices.Clone(raw), stamp} })
	p := f.advertise(n, "talk", deep)
	Wait(f, "both directions are matched", func() bool { return p.MatchedSubscriptions() == 1 && s.MatchedPublishers() == 1 })
	peer.found(1, 1)
	const image = 640*480*3 + 100
	sizes := []int{0, 1, 2, 3, 4, 1300, 1500, 15000, 65536, 66000, image, image}
	for len(sizes) < 300 {
		sizes = append(sizes, len(sizes)%7)
	}
	began := time.Now()
	for i, size := range sizes {
		f.publish(p, numbered(i, size))
	}
	var last time.Time
	for i, size := range sizes {
		g := Receive(f, fmt.Sprintf("message %d of %d bytes", i, size), back)
		want := numbered(i, size)
		// RTPS pads to a multiple of four, which CDR readers must expect.
		if !bytes.HasPrefix(g.raw, want) || len(g.raw)-len(want) > 3 {
			f.Fatalf("message %d of %d bytes came back as %.40q... of %d", i, len(want), g.raw, len(g.raw))
		}
		if g.stamp.Before(began.Add(-time.Millisecond)) || g.stamp.Before(last) || g.stamp.After(time.Now().Add(time.Millisecond)) {
			f.Errorf("message %d is stamped %v, after one of %v", i, g.stamp, last)
		}
		last = g.stamp
	}
	if s.Dropped() != 0 || s.Malformed() != 0 {
		f.Errorf("%d dropped, %d malformed", s.Dropped(), s.Malformed())
	}
}

func qosMatrix(f *fixture) {
	var kinds []ros.QoS
	for _, r := range []ros.Reliability{ros.Reliable, ros.BestEffort} {
		for _, d := range []ros.Durability{ros.Volatile, ros.TransientLocal} {
			kinds = append(kinds, ros.QoS{Reliability: r, Durability: d, Depth: 10})
		}
	}
	for _, deadline := range []time.Duration{10 * time.Second, 20 * time.Second} {
		kinds = append(kinds, ros.QoS{Depth: 10, Deadline: deadline})
	}
	var s script
	topic := func(o, r int) string { return fmt.Sprintf("offer%d_request%d", o, r) }
	for o, offered := range kinds {
		for r, requested := range kinds {
			s.Publish = append(s.Publish, endpoint{Topic: topic(o, r), Type: stringType, QoS: offered})
			s.Echo = append(s.Echo, endpoint{Topic: topic(o, r) + "_in", Type: stringType, QoS: requested})
		}
	}
	p := f.peer(s)
	n := f.node("n")
	type pair struct {
		offered, requested ros.QoS
		sub                ros.Subscription // of what the peer publishes
		pub                ros.Publisher    // to the peer's subscription
	}
	var pairs []pair
	for o, offered := range kinds {
		for r, requested := range kinds {
			pairs = append(pairs, pair{offered, requested,
				f.subscribe(n, topic(o, r), requested, func([]byte, time.Time) {}),
				f.advertise(n, topic(o, r)+"_in", offered)})
		}
	}
	for i, c := range pairs {
		policy := ros.Incompatible(c.offered, c.requested)
		if policy == "" {
			Wait(f, fmt.Sprintf("match of (%v) with (%v)", c.offered, c.requested), func() bool {
				return c.sub.MatchedPublishers() == 1 && c.pub.MatchedSubscriptions() == 1
			})
			if c.sub.Mismatch().Count != 0 || c.pub.Mismatch().Count != 0 {
				f.Errorf("(%v) with (%v): %v, %v", c.offered, c.requested, c.sub.Mismatch(), c.pub.Mismatch())
			}
			continue
		}
		Wait(f, fmt.Sprintf("mismatch of (%v) with (%v) is told", c.offered, c.requested), func() bool {
			return c.sub.Mismatch().Count == 1 && c.pub.Mismatch().Count == 1
		})
		// The node that an endpoint belongs to is told apart from the endpoint itself.
		Wait(f, "the peer is named", func() bool { return c.sub.Mismatch().Peer != "" && c.pub.Mismatch().Peer != "" })
		for side, m := range map[bool]ros.Mismatch{true: c.sub.Mismatch(), false: c.pub.Mismatch()} {
			if m.Count != 1 || m.Publishers != side || m.Policy != policy || m.Peer != "/rostest/peer" ||
				!sameRules(m.Offered, c.offered) || !sameRules(m.Requested, c.requested) {
				f.Errorf("(%v) with (%v) is told as %+v: %v", c.offered, c.requested, m, m)
			}
		}
		Wait(f, "the peer knows too", func() bool { return p.ask().Refused[i].Policy == policy })
		if c.sub.MatchedPublishers() != 0 || c.pub.MatchedSubscriptions() != 0 {
			f.Errorf("(%v) with (%v) matched", c.offered, c.requested)
		}
	}
	// Data flow only between those that match.
	matching := 0
	for _, c := range pairs {
		if ros.Incompatible(c.offered, c.requested) == "" {
			matching++
		}
	}
	p.found(matching, matching)
	for _, c := range pairs {
		f.publish(c.pub, numbered(1, 0))
	}
	Wait(f, "all matching topics carry data", func() bool { return p.ask().Echoed == int64(matching) })
}

// sameRules tells whether two QoS are the same to those who decide on a match.
func sameRules(a, b ros.QoS) bool {
	return a.Reliability == b.Reliability && a.Durability == b.Durability && a.Deadline == b.Deadline
}

func latecomers(f *fixture) {
	latched := ros.QoS{Durability: ros.TransientLocal, Depth: 3}
	volatile := ros.QoS{Depth: 3}
	f.peer(script{Publish: []endpoint{
		{Topic: "latched", Type: stringType, QoS: latched, Count: 5},
		{Topic: "large", Type: stringType, QoS: ros.LatchedQoS(), Count: 2, Size: 640 * 480 * 3},
		{Topic: "volatile", Type: stringType, QoS: volatile, Count: 5},
	}})
	n := f.node("n")
	got := make(chan int, 10)
	f.subscribe(n, "latched", ros.QoS{Durability: ros.TransientLocal, Depth: 10}, func(raw []byte, _ time.Time) { got <- numberOf(raw) })
	for want := 2; want < 5; want++ {
		if i := Receive(f, "latched message", got); i != want {
			f.Fatalf("latched message %d, want %d: the last 3 of 5", i, want)
		}
	}
	large := make(chan int, 10)
	f.subscribe(n, "large", ros.LatchedQoS(), func(raw []byte, _ time.Time) { large <- numberOf(raw) })
	if i := Receive(f, "large latched message", large); i != 1 {
		f.Fatalf("large latched message %d, want the last, 1", i)
	}
	old := make(chan int, 10)
	for _, topic := range []string{"latched", "volatile"} { // volatile asked for, volatile offered
		s := f.subscribe(n, topic, volatile, func(raw []byte, _ time.Time) { old <- numberOf(raw) })
		Wait(f, "match", func() bool { return s.MatchedPublishers() == 1 })
	}
	// What comes afterwards comes after anything old would have.
	for _, topic := range []string{"latched", "volatile"} {
		p := f.advertise(n, topic, latched)
		Wait(f, "match", func() bool { return p.MatchedSubscriptions() >= 1 })
		f.publish(p, numbered(100, 0))
		if i := Receive(f, "new message on "+topic, old); i != 100 {
			f.Errorf("%s: a volatile subscription got the old message %d", topic, i)
		}
	}
}

func busyCallback(f *fixture) {
	const depth, sent = 3, 50
	peer := f.peer(script{Echo: []endpoint{{Topic: "talk", Type: stringType, QoS: ros.QoS{Depth: sent}}}})
	n := f.node("n")
	entered, leave := make(chan struct{}, sent), make(chan struct{})
	var slow []int
	var calls atomic.Int64
	s := f.subscribe(n, "talk_back", ros.QoS{Depth: depth}, func(raw []byte, _ time.Time) {
		entered <- struct{}{}
		<-leave
		slow = append(slow, numberOf(raw))
		calls.Add(1)
	})
	fast := make(chan int, sent)
	f.subscribe(n, "talk_back", ros.QoS{Depth: sent}, func(raw []byte, _ time.Time) { fast <- numberOf(raw) })
	p := f.advertise(n, "talk", ros.QoS{Depth: sent})
	Wait(f, "match", func() bool { return p.MatchedSubscriptions() == 1 && s.MatchedPublishers() == 1 })
	peer.found(1, 2)
	f.publish(p, numbered(0, 0))
	Receive(f, "first callback", entered)
	for i := 1; i < sent; i++ {
		f.publish(p, numbered(i, 0))
	}
	for i := range sent {
		if got := Receive(f, "message for the fast callback", fast); got != i {
			f.Fatalf("fast callback got %d, want %d", got, i)
		}
	}
	Wait(f, "drops are counted", func() bool { return s.Dropped() == sent-1-depth })
	close(leave)
	Wait(f, "the waiting messages are delivered", func() bool { return calls.Load() == 1+depth })
	if want := []int{0, sent - 3, sent - 2, sent - 1}; !slices.Equal(slow, want) {
		f.Errorf("slow callback got %v, want %v", slow, want)
	}
}

func malformed(f *fixture) {
	p := f.peer(script{Take: []endpoint{{Topic: "talk", Type: stringType, QoS: ros.DefaultQoS()}}})
	n := f.node("n")
	var decoded atomic.Int64
	s, err := ros.Subscribe(n, "talk", ros.DefaultQoS(), func(*msgs.String, time.Time) { decoded.Add(1) })
	if err != nil {
		f.Fatal(err)
	}
	pub := f.advertise(n, "talk", ros.DefaultQoS())
	Wait(f, "match", func() bool { return pub.MatchedSubscriptions() == 2 })
	p.found(1, 0)
	for _, bad := range [][]byte{nil, {0}, {0, 1, 0}, {0, 3, 0, 0, 1, 2, 3, 4}, {1, 1, 0, 0}, {0xff, 0xff, 0xff, 0xff, 0xff}} {
		if pub.Publish(bad) == nil {
			f.Errorf("% x was published as CDR", bad)
		}
	}
	f.publish(pub, []byte{0, 1, 0, 0, 255, 255, 255, 255, 0}) // a string longer than the message
	f.publish(pub, []byte{0, 1, 0, 0})
	f.publish(pub, numbered(1, 0))
	f.publish(pub, []byte{0, 0, 0, 0, 0, 0, 0, 1, 0}) // big endian
	Wait(f, "the good messages come", func() bool { return decoded.Load() == 2 })
	if s.Malformed() != 2 || s.Dropped() != 0 {
		f.Errorf("%d malformed, %d dropped, want 2 and 0", s.Malformed(), s.Dropped())
	}
	Wait(f, "the peer gets all that look like CDR", func() bool { return p.ask().Taken == 4 })
	for _, typ := range []string{"", "String", "std_msgs/String", "std_msgs/srv/String", "std_msgs/msg/"} {
		if _, err := n.Advertise("x", typ, ros.DefaultQoS()); err == nil {
			f.Errorf("type %q was accepted", typ)
		}
	}
	if _, err := n.Subscribe("x", stringType, ros.QoS{}, func([]byte, time.Time) {}); err == nil {
		f.Error("a QoS of depth 0 was accepted")
	}
}

func lifespan(f *fixture) {
	short := ros.QoS{Durability: ros.TransientLocal, Depth: 10000, Lifespan: 100 * time.Millisecond}
	peer := f.peer(script{Echo: []endpoint{{Topic: "news", Type: stringType, QoS: short}}})
	n := f.node("n")
	p := f.advertise(n, "news", short)
	Wait(f, "match", func() bool { return p.MatchedSubscriptions() == 1 })
	peer.found(1, 0)
	const old, fresh = 1, 100
	Wait(f, "the peer publishes", func() bool {
		f.publish(p, numbered(old, 0)) // again: on a busy machine it may expire on its way
		return peer.ask().Echoed > 0
	})
	// A late subscription that hears the publisher must, in the end, not hear of old times first. The depth is
	// never used up, so it is not what makes the old message go.
	Wait(f, "the old message expires", func() bool {
		got := make(chan int, short.Depth)
		s := f.subscribe(n, "news_back", ros.QoS{Durability: ros.TransientLocal, Depth: short.Depth}, func(raw []byte, _ time.Time) { got <- numberOf(raw) })
		defer s.Close()
		first := 0
		Wait(f, "a message", func() bool {
			f.publish(p, numbered(fresh, 0))
			select {
			case first = <-got:
				return true
			case <-time.After(10 * time.Millisecond):
				return false
			}
		})
		return first == fresh
	})
}

// stopped stops the process of a reliable subscriber and publishes far more than any buffer holds, until it
// is given up.
func stopped(f *fixture) {
	for i, qos := range []ros.QoS{
		{Depth: 10}, {Durability: ros.TransientLocal, Depth: 10},
	} {
		topic := fmt.Sprintf("images%d", i) // not the last one's, whose dead reader is not given up yet
		p := f.peer(script{Take: []endpoint{{Topic: topic, Type: stringType, QoS: qos}}})
		n := f.node("n")
		pub := f.advertise(n, topic, qos)
		Wait(f, "match", func() bool { return pub.MatchedSubscriptions() == 1 })
		if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			f.Fatal(err)
		}
		image := numbered(0, 640*480*3)
		done := make(chan int, 1)
		go func() {
			sent := 0
			defer func() { done <- sent }()
			for ; sent < 300 && pub.MatchedSubscriptions() == 1; sent++ { // 276 MB
				if err := pub.Publish(image); err != nil {
					f.Error(err)
					return
				}
			}
		}()
		// A Publish that waits for the stopped process waits until that is given up.
		if sent := Receive(f, "images are published to a stopped process", done); sent < 3*qos.Depth {
			f.Errorf("the stopped process was given up after %d images", sent)
		}
		if err := p.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			f.Fatal(err)
		}
		p.kill()
		if err := pub.Close(); err != nil {
			f.Error(err)
		}
	}
}
