package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/ros"
)

const (
	// lookAgain is how often the graph is looked at for topics that have come.
	lookAgain = 100 * time.Millisecond
	// unheardAfter is how long topics may stay away before that is said.
	unheardAfter = 5 * time.Second
	// recordDepth is how many messages of a topic may wait for its callback, which only
	// copies them: a stall of a third of a second at 200 Hz.
	recordDepth = 64
)

// tape records topics of a graph. Its methods are for one goroutine; callbacks only
// copy messages into the recorder's queue.
type tape struct {
	node     ros.Node
	log      *zap.Logger
	recorder *bag.Recorder
	wanted   [][]string // each with what stands in for it; of no use where all are
	all      bool
	tracks   map[string]*recordedTopic // by topic
	order    []string                  // of tracks, as they came
	stderr   io.Writer

	told    uint64                // messages dropped when that was told last
	untimed atomic.Uint64         // messages that came while /clock said 0
	odd     atomic.Pointer[error] // why the first message that could not be recorded was not
	oddTold bool
}

func newTape(rn ros.Node, log *zap.Logger, wanted [][]string, all bool, stderr io.Writer) *tape {
	return &tape{node: rn, log: log, wanted: wanted, all: all, tracks: map[string]*recordedTopic{}, stderr: stderr}
}

// failed takes what the recorder says of what it could not write; run tells it.
func (t *tape) failed(err error) { t.odd.Store(&err) }

// recordedTopic is a topic that is recorded.
type recordedTopic struct {
	typ     string
	qos     ros.QoS
	sub     ros.Subscription // nil where it cannot be listened to
	heard   atomic.Uint64
	earlier uint64 // lost by subscriptions before sub
}

// lost counts the messages that did not come through to the recorder's queue.
func (k *recordedTopic) lost() uint64 {
	n := k.earlier
	if k.sub != nil {
		n += k.sub.Lost() + k.sub.Dropped()
	}
	return n
}

// run records until ctx ends, or until writing fails, which closing the recorder tells.
func (t *tape) run(ctx context.Context) error {
	graph, ok := t.node.(ros.Grapher)
	if !ok {
		return errors.New("this back end cannot tell which topics there are")
	}
	defer func() {
		for _, k := range t.tracks {
			if k.sub != nil {
				k.earlier = k.lost()
				_ = k.sub.Close() // of a node that is closed next
				k.sub = nil
			}
		}
	}()
	ticker := time.NewTicker(lookAgain)
	defer ticker.Stop()
	begin, told := time.Now(), false
	for {
		// With use_sim_time there is no time to record with before the first /clock.
		timed := !t.node.Now().IsZero()
		if timed {
			nodes, err := graph.Graph()
			if err != nil {
				return err
			}
			t.look(nodes)
		}
		if !told && time.Since(begin) > unheardAfter {
			told = true
			t.tellMissing(timed)
		}
		dropped := t.recorder.Dropped() // those before a failure, if there is none below
		if t.recorder.Failure() != nil {
			return nil
		}
		t.tellLosses(dropped)
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tellMissing warns of what keeps topics away.
func (t *tape) tellMissing(timed bool) {
	if !timed {
		t.log.Warn("nobody publishes /clock so far, which use_sim_time waits for")
	} else if missing := t.missing(); len(missing) > 0 {
		t.log.Warn("nobody publishes " + strings.Join(missing, ", ") + " so far")
	}
}

// tellLosses warns of messages that were not recorded, which ends nothing.
func (t *tape) tellLosses(dropped uint64) {
	if err := t.odd.Load(); err != nil && !t.oddTold {
		t.log.Warn("a message is not recorded", zap.Error(*err))
		t.oddTold = true
	} else if dropped > t.told {
		t.log.Warn("messages are dropped: "+t.whyDropped(), zap.Uint64("dropped", dropped))
	}
	t.told = dropped
}

// whyDropped is what the recorder dropped messages for.
func (t *tape) whyDropped() string {
	switch {
	case t.recorder.Failure() != nil:
		return "writing failed"
	case t.odd.Load() != nil:
		return "some cannot be recorded, or the disk is too slow"
	}
	return "the disk is too slow"
}

// look subscribes to topics that are wanted and published.
func (t *tape) look(nodes []ros.GraphNode) {
	offered := map[string][]ros.Endpoint{}
	for _, n := range nodes {
		if n.Name == t.node.Name() {
			continue
		}
		for _, e := range n.Publishes {
			offered[e.Name] = append(offered[e.Name], e)
		}
	}
	if t.all {
		var names []string
		for name := range offered {
			if !strings.Contains(name, "/_") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		for _, name := range names {
			t.take(name, offered[name])
		}
		return
	}
	for _, alternatives := range t.wanted {
		if i := slices.IndexFunc(alternatives, func(name string) bool { return t.tracks[name] != nil }); i >= 0 {
			alternatives = alternatives[i : i+1]
		}
		for _, name := range alternatives {
			if ends := offered[name]; len(ends) > 0 {
				t.take(name, ends)
				break
			}
		}
	}
}

// take records a topic that ends publish, or listens anew where a publisher came that
// offers less than is asked for.
func (t *tape) take(name string, ends []ros.Endpoint) {
	qos := requestFor(ends)
	k := t.tracks[name]
	switch {
	case k == nil:
		if !t.recorder.AddTopic(bag.Topic{Name: name, Type: ends[0].Type, QoS: offeredQoS(ends)}) {
			return // no room now: the next time
		}
		k = &recordedTopic{typ: ends[0].Type}
		t.tracks[name] = k
		t.order = append(t.order, name)
	case k.sub == nil, ros.Incompatible(qos, k.qos) == "":
		return
	default:
		k.earlier = k.lost()
		_ = k.sub.Close() // another takes its place
		k.sub = nil
	}
	k.qos = qos
	sub, err := t.node.Subscribe(name, k.typ, qos, func(raw []byte, _ time.Time) {
		now := t.node.Now()
		if now.IsZero() {
			t.untimed.Add(1)
			return
		}
		k.heard.Add(1)
		t.recorder.Record(name, now, raw)
	})
	if err != nil {
		t.log.Warn("a topic is not recorded", zap.String("topic", name), zap.Error(err))
		return
	}
	k.sub = sub
	fmt.Fprintf(t.stderr, "recording %s (%s), %s, %s\n", name, k.typ, qos.Reliability, qos.Durability)
}

// missing lists the wanted topics that nobody has published.
func (t *tape) missing() (names []string) {
	for _, alternatives := range t.wanted {
		if !slices.ContainsFunc(alternatives, func(name string) bool { return t.tracks[name] != nil }) {
			names = append(names, alternatives[0])
		}
	}
	return names
}

// requestFor asks for what all publishers of a topic offer, as rosbag2 does
// (Rosbag2QoS::adapt_request_to_offers): reliable if all are, latched if all are.
func requestFor(ends []ros.Endpoint) ros.QoS {
	qos := ros.QoS{Depth: recordDepth}
	for _, e := range ends {
		if e.QoS.Reliability == ros.BestEffort {
			qos.Reliability = ros.BestEffort
		}
	}
	if !slices.ContainsFunc(ends, func(e ros.Endpoint) bool { return e.QoS.Durability != ros.TransientLocal }) {
		qos.Durability = ros.TransientLocal
	}
	return qos
}

// offeredQoS is what a bag says of a topic's publishers, by the numbers of rmw/types.h;
// `ros2 bag play` offers the same again.
func offeredQoS(ends []ros.Endpoint) string {
	var text strings.Builder
	for _, e := range ends {
		history, reliability, durability := 1, 1, 2
		if e.QoS.History == ros.KeepAll {
			history = 2
		}
		if e.QoS.Reliability == ros.BestEffort {
			reliability = 2
		}
		if e.QoS.Durability == ros.TransientLocal {
			durability = 1
		}
		fmt.Fprintf(&text, "- history: %d\n  depth: %d\n  reliability: %d\n  durability: %d\n  liveliness: 1\n", history, e.QoS.Depth, reliability, durability)
	}
	return text.String()
}
