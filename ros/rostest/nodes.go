package rostest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ddvla/ddvla/ros"
)

func restart(f *fixture) {
	for _, kill := range []bool{false, true} {
		if !kill || f.process {
			restartPeer(f, kill)
		}
	}
}

// restartPeer ends the peer in good order, or kills it, and starts it anew.
func restartPeer(f *fixture, kill bool) {
	s := script{Echo: []endpoint{{Topic: "talk", Type: stringType, QoS: ros.DefaultQoS()}}, Triggers: []string{"/go"}}
	n := f.node("n")
	back := make(chan int, 100)
	sub := f.subscribe(n, "talk_back", ros.DefaultQoS(), func(raw []byte, _ time.Time) { back <- numberOf(raw) })
	pub := f.advertise(n, "talk", ros.DefaultQoS())
	c := f.client(n, "/go")
	for i := range 3 {
		p := f.peer(s)
		// A killed peer counts as matched until its lease ends, and a request may go to it alone, so only
		// answers tell that the new peer is there.
		again := time.NewTicker(50 * time.Millisecond)
		Wait(f, "echo", func() bool {
			select {
			case got := <-back:
				if got > i {
					f.Fatalf("echo %d, want %d", got, i)
				}
				return got == i
			case <-again.C:
				f.publish(pub, numbered(i, 0))
			}
			return false
		})
		again.Stop()
		f.reach(c)
		if kill {
			p.kill()
			continue
		}
		p.stop()
		Wait(f, "the match ends", func() bool { return pub.MatchedSubscriptions() == 0 && sub.MatchedPublishers() == 0 })
		f.publish(pub, numbered(99, 0)) // to nobody
	}
	for _, part := range []interface{ Close() error }{pub, sub, c, n} {
		if err := part.Close(); err != nil {
			f.Error(err)
		}
	}
}

func simTime(f *fixture) {
	clock := func(sec, nanosec byte) []byte { return []byte{0, 1, 0, 0, sec, 0, 0, 0, nanosec, 0, 0, 0} }
	const clockType = "rosgraph_msgs/msg/Clock"
	n := f.node("n")
	if d := time.Since(n.Now()); d < 0 || d > time.Minute {
		f.Errorf("the wall clock is off by %v", d)
	}
	if err := n.UseSimTime(true); err != nil {
		f.Fatal(err)
	}
	if !n.Now().IsZero() {
		f.Errorf("time %v before the first /clock", n.Now())
	}
	p, err := f.node("clock").Advertise("/clock", clockType, ros.DefaultQoS())
	if err != nil {
		f.Fatal(err)
	}
	Wait(f, "/clock is heard", func() bool { return p.MatchedSubscriptions() == 1 })
	for _, sec := range []byte{20, 5} { // it may jump back
		Wait(f, "the time comes", func() bool {
			f.publish(p, clock(sec, 7)) // best effort, so again
			return n.Now().Equal(time.Unix(int64(sec), 7))
		})
	}
	for _, on := range []bool{true, false} { // again, then off
		if err := n.UseSimTime(on); err != nil {
			f.Fatal(err)
		}
	}
	if d := time.Since(n.Now()); d < 0 || d > time.Minute {
		f.Errorf("the wall clock is off by %v", d)
	}
	if err := p.Close(); err != nil {
		f.Error(err)
	}
	if err := n.UseSimTime(true); err != nil || !n.Now().IsZero() {
		f.Errorf("after simulated time was turned on again: %v, %v", n.Now(), err)
	}
}

func graph(f *fixture) {
	f.peer(script{
		Publish:  []endpoint{{Topic: "~/out", Type: "sensor_msgs/msg/Image", QoS: ros.SensorDataQoS()}},
		Take:     []endpoint{{Topic: "/in", Type: stringType, QoS: ros.LatchedQoS()}},
		Triggers: []string{"~/go"},
	})
	n := f.node("n")
	f.client(n, "peer/go")
	g, ok := n.(ros.Grapher)
	if !ok {
		f.Fatal("the node cannot tell the graph")
	}
	find := func(ends []ros.Endpoint, name, typ string, fits func(ros.QoS) bool) bool {
		return slices.ContainsFunc(ends, func(e ros.Endpoint) bool { return e.Name == name && e.Type == typ && fits(e.QoS) })
	}
	any := func(ros.QoS) bool { return true }
	sensorData := func(q ros.QoS) bool {
		q.Depth = max(q.Depth, ros.SensorDataQoS().Depth) // which not all middlewares tell
		return q == ros.SensorDataQoS()
	}
	Wait(f, "graph", func() bool {
		nodes, err := g.Graph()
		if err != nil {
			f.Fatal(err)
		}
		if len(nodes) != 2 || nodes[0].Name != "/rostest/n" || nodes[1].Name != "/rostest/peer" {
			return false
		}
		p := nodes[1]
		return find(p.Publishes, "/rostest/peer/out", "sensor_msgs/msg/Image", sensorData) &&
			find(p.Subscribes, "/in", stringType, func(q ros.QoS) bool { return q.Durability == ros.TransientLocal }) &&
			find(p.Serves, "/rostest/peer/go", triggerType, any) && find(nodes[0].Calls, "/rostest/peer/go", triggerType, any)
	})
}

func names(f *fixture) {
	o := f.options("n")
	for _, r := range []string{"talk:=/elsewhere/talk", "other:talk:=/wrong", "n:__node:=m", "rosservice://go:=stay", "rostopic://go:=away"} {
		rule, err := ros.ParseRemap(r)
		if err != nil {
			f.Fatal(err)
		}
		o.Remaps = append(o.Remaps, rule)
	}
	n, err := f.backend(context.Background(), o)
	if err != nil {
		f.Fatal(err)
	}
	defer n.Close()
	if n.Name() != "/rostest/m" {
		f.Errorf("name %q", n.Name())
	}
	for in, want := range map[string]string{"talk": "/elsewhere/talk", "~/x": "/rostest/m/x", "/abs": "/abs", "rel": "/rostest/rel", "go": "/rostest/away"} {
		if got, err := n.Resolve(in); err != nil || got != want {
			f.Errorf("%s resolves to %q, %v, want %q", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "a b", "/a//b", "1a", "a/", "~x"} {
		if _, err := n.Resolve(bad); err == nil {
			f.Errorf("%q is no name", bad)
		}
		if _, err := n.Advertise(bad, stringType, ros.DefaultQoS()); err == nil {
			f.Errorf("%q was advertised", bad)
		}
	}
	f.peer(script{Echo: []endpoint{{Topic: "/elsewhere/talk", Type: stringType, QoS: ros.DefaultQoS()}}, Triggers: []string{"/rostest/stay"}})
	p := f.advertise(n, "talk", ros.DefaultQoS())
	Wait(f, "match under the new name", func() bool { return p.MatchedSubscriptions() == 1 })
	c := f.client(n, "go")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := c.WaitForService(ctx); err != nil {
		f.Error(err)
	}
	o.Name = "no-name"
	if n, err := f.backend(context.Background(), ros.Options{Name: "no-name", DomainID: f.domain, LocalhostOnly: true}); err == nil {
		n.Close()
		f.Error("a node got the name no-name")
	}
}

func closeWhilePublishing(f *fixture) {
	f.peer(script{
		Echo: []endpoint{{Topic: "talk", Type: stringType, QoS: ros.DefaultQoS()}}, Triggers: []string{"/go"},
	})
	for range 5 {
		n, err := f.backend(context.Background(), f.options("n"))
		if err != nil {
			f.Fatal(err)
		}
		var closed atomic.Bool
		var called atomic.Int64
		f.subscribe(n, "talk_back", ros.DefaultQoS(), func([]byte, time.Time) {
			if closed.Load() {
				f.Error("a callback ran after Close")
			}
			called.Add(1)
		})
		p := f.advertise(n, "talk", ros.DefaultQoS())
		c := f.client(n, "/go")
		var wg sync.WaitGroup
		for range 3 {
			wg.Add(2)
			go func() {
				defer wg.Done()
				for {
					if err := p.Publish(numbered(1, 100)); errors.Is(err, ros.ErrClosed) {
						return
					} else if err != nil {
						f.Error(err)
						return
					}
				}
			}()
			go func() {
				defer wg.Done()
				for {
					if _, err := c.Call(context.Background(), triggerRequest); errors.Is(err, ros.ErrClosed) {
						return
					} else if err != nil {
						f.Error(err)
						return
					}
				}
			}()
		}
		Wait(f, "messages come back", func() bool { return called.Load() > 10 })
		if err := n.Close(); err != nil {
			f.Error(err)
		}
		closed.Store(true)
		wg.Wait()
	}
}

// closeTwiceAtOnce closes a subscription whose callback runs, and its node meanwhile.
func closeTwiceAtOnce(f *fixture) {
	n, err := f.backend(context.Background(), f.options("n"))
	if err != nil {
		f.Fatal(err)
	}
	entered, leave := make(chan struct{}, 1), make(chan struct{})
	var left atomic.Bool
	s := f.subscribe(n, "talk", ros.LatchedQoS(), func([]byte, time.Time) {
		entered <- struct{}{}
		<-leave
		left.Store(true)
	})
	f.publish(f.advertise(n, "talk", ros.LatchedQoS()), numbered(1, 0))
	Receive(f, "the callback runs", entered)
	ended := make(chan error, 2)
	end := func(what string, c interface{ Close() error }) {
		err := c.Close()
		if !left.Load() {
			err = errors.Join(err, fmt.Errorf("the %s was closed while its callback ran", what))
		}
		ended <- err
	}
	go end("subscription", s)
	time.Sleep(10 * time.Millisecond) // likely enough, so that the first is under way
	go end("node", n)
	time.Sleep(10 * time.Millisecond) // a Close that does not wait has time to return
	close(leave)
	for range 2 {
		if err := Receive(f, "Close returns", ended); err != nil {
			f.Error(err)
		}
	}
}

func closeWhileCallbackCalls(f *fixture) {
	for range 5 { // whichever part is closed first
		n, err := f.backend(context.Background(), f.options("n"))
		if err != nil {
			f.Fatal(err)
		}
		absent := f.client(n, "/absent")
		entered, result, ended := make(chan struct{}, 1), make(chan error, 1), make(chan error, 1)
		f.subscribe(n, "talk", ros.LatchedQoS(), func([]byte, time.Time) {
			entered <- struct{}{}
			_, err := absent.Call(context.Background(), triggerRequest)
			result <- err
		})
		f.publish(f.advertise(n, "talk", ros.LatchedQoS()), numbered(1, 0))
		Receive(f, "the callback runs", entered)
		go func() { ended <- n.Close() }()
		if err := Receive(f, "Close returns", ended); err != nil {
			f.Error(err)
		}
		if err := Receive(f, "the call ends", result); !errors.Is(err, ros.ErrClosed) {
			f.Errorf("the call ended with %v", err)
		}
	}
}

func afterClose(f *fixture) {
	n, err := f.backend(context.Background(), f.options("n"))
	if err != nil {
		f.Fatal(err)
	}
	s := f.subscribe(n, "talk", ros.DefaultQoS(), func([]byte, time.Time) {})
	p := f.advertise(n, "talk", ros.DefaultQoS())
	c := f.client(n, "go")
	v := f.serve(n, "go", func(context.Context, []byte) ([]byte, error) { return nil, nil })
	for range 2 {
		if err := n.Close(); err != nil {
			f.Error(err)
		}
	}
	if s.MatchedPublishers() != 0 || p.MatchedSubscriptions() != 0 {
		f.Error("matched after Close")
	}
	for what, call := range map[string]func() error{
		"Publish":        func() error { return p.Publish(numbered(1, 0)) },
		"Call":           func() error { _, err := c.Call(context.Background(), triggerRequest); return err },
		"WaitForService": func() error { return c.WaitForService(context.Background()) },
		"Advertise":      func() error { _, err := n.Advertise("x", stringType, ros.DefaultQoS()); return err },
		"Subscribe": func() error {
			_, err := n.Subscribe("x", stringType, ros.DefaultQoS(), func([]byte, time.Time) {})
			return err
		},
		"Serve":      func() error { _, err := n.Serve("x", triggerType, nil); return err },
		"Client":     func() error { _, err := n.Client("x", triggerType); return err },
		"UseSimTime": func() error { return n.UseSimTime(true) },
	} {
		if err := call(); !errors.Is(err, ros.ErrClosed) {
			f.Errorf("%s after Close: %v", what, err)
		}
	}
	for _, part := range []interface{ Close() error }{s, p, c, v} {
		if err := part.Close(); err != nil {
			f.Error(err)
		}
	}
}

func manyNodes(f *fixture) {
	const count = 12 // more than Cyclone allows on a machine by default
	var got [count]atomic.Int64
	nodes := make([]ros.Node, count)
	for i := range nodes {
		nodes[i] = f.node(fmt.Sprintf("n%d", i))
		f.subscribe(nodes[i], "all", ros.QoS{Durability: ros.TransientLocal, Depth: count}, func([]byte, time.Time) { got[i].Add(1) })
		f.publish(f.advertise(nodes[i], "all", ros.LatchedQoS()), numbered(i, 0))
	}
	for i := range nodes {
		Wait(f, fmt.Sprintf("node %d hears all", i), func() bool { return got[i].Load() == count })
	}
	Wait(f, "the graph shows all", func() bool {
		g, err := nodes[count-1].(ros.Grapher).Graph()
		if err != nil {
			f.Fatal(err)
		}
		return len(g) == count && len(g[0].Publishes) > 0
	})
}
