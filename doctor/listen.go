package doctor

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/ros"
)

// Topics are the fully qualified names of what a node would hear, and of where it
// would send commands.
type Topics struct {
	Cameras     []string  // in the manifest's order, "" where one has none
	States      [2]string // left, right
	Commands    [2]string // what other programs send there is heard too
	Instruction string
}

// TopicsOf resolves the topics of a node with the given settings and names.
func TopicsOf(settings node.Settings, m *bundle.Manifest, names *ros.Names) (t Topics, err error) {
	resolve := func(topic, parameter string) string {
		if topic == "" || err != nil {
			return ""
		}
		full, failed := names.Topic(topic)
		if failed != nil {
			err = fmt.Errorf("%s: %w", parameter, failed)
		}
		return full
	}
	for _, c := range m.Cameras {
		t.Cameras = append(t.Cameras, resolve(settings.Cameras[c.Name], "cameras."+c.Name+".topic"))
	}
	for a, side := range sides {
		t.States[a] = resolve(settings.States[a], "arms."+side+".state_topic")
		t.Commands[a] = resolve(settings.Targets[a], "arms."+side+".command_topic")
	}
	t.Instruction = resolve("~/instruction", "~/instruction")
	return t, err
}

// sides are the arms in the order in which everything is kept.
var sides = [2]string{"left", "right"}

// armJoints is the number of values of an arm: six joints and the gripper.
const armJoints = 7

const (
	// lookPeriod is the time between two sets of pictures that are looked at.
	lookPeriod = 200 * time.Millisecond
	// mostLooks bounds them: two minutes' worth.
	mostLooks = 600
	// history is how many joint states are kept to pair with a picture, as a node does.
	history = 100
	// mostInstructions bounds the different instructions that are kept.
	mostInstructions = 64
)

// Listener keeps what it hears, in bounded memory.
type Listener struct {
	settings node.Settings
	manifest *bundle.Manifest
	topics   Topics
	closers  []ros.Subscription

	mu           sync.Mutex
	cameras      []*eye
	states       [2]*arm
	commands     [2]*arm
	instructions []string
	misheard     error // of the newest instruction that could not be read
	sets         sets
	looks        []look
	now          func() time.Time
}

// sample is where an arm was.
type sample struct {
	stamp     time.Time
	positions [armJoints]float64 // rad, m
}

// arm is what was heard on a topic of joint states.
type arm struct {
	topic     string
	reader    *node.JointReader
	heard     ros.Subscription
	peers     peers
	timing    timing
	names     []string // of the newest message, in its order
	refused   int
	refusal   error
	samples   thinned[sample]
	recent    [history]sample
	positions int // states so far that could be read
}

// Listen subscribes to the topics on rn. Close ends it. What it hears is kept from
// now on.
func Listen(rn ros.Node, settings node.Settings, m *bundle.Manifest, topics Topics) (l *Listener, err error) {
	l = &Listener{settings: settings, manifest: m, topics: topics, now: rn.Now}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.Close())
		}
	}()
	l.sets.spread = make([]thinned[float64], len(m.Cameras))
	for i, c := range m.Cameras {
		e, err := newEye(c, topics.Cameras[i])
		if err != nil {
			return l, err
		}
		l.cameras = append(l.cameras, e)
	}
	for a := range sides {
		for _, part := range []struct {
			at    **arm
			topic string
		}{{&l.states[a], topics.States[a]}, {&l.commands[a], topics.Commands[a]}} {
			*part.at = &arm{topic: part.topic}
			if (*part.at).reader, err = node.NewJointReader(settings, a); err != nil {
				return l, err
			}
		}
	}
	// All is there before the first message comes.
	for _, e := range l.cameras {
		if e.heard, err = l.subscribe(rn, e.topic, e.rosType(), ros.SensorDataQoS(), func(raw []byte) { l.seen(e, raw) }); err != nil {
			return l, err
		}
	}
	for _, a := range []*arm{l.states[0], l.states[1], l.commands[0], l.commands[1]} {
		if a.heard, err = l.subscribe(rn, a.topic, (*msgs.JointState)(nil).ROSType(), ros.SensorDataQoS(), func(raw []byte) { l.felt(a, raw) }); err != nil {
			return l, err
		}
	}
	_, err = l.subscribe(rn, topics.Instruction, (*msgs.String)(nil).ROSType(), ros.DefaultQoS(), l.told)
	return l, err
}

// subscribe calls cb, one at a time, with what comes on a topic; "" is none.
func (l *Listener) subscribe(rn ros.Node, topic, typ string, qos ros.QoS, cb func(raw []byte)) (ros.Subscription, error) {
	if topic == "" {
		return nil, nil
	}
	// A node's own choice, so that peers that QoS keeps from it are kept from here.
	if chosen, ok := l.settings.QoS[topic+".subscription"]; ok {
		qos = chosen
	}
	s, err := rn.Subscribe(topic, typ, qos, func(raw []byte, _ time.Time) {
		l.mu.Lock()
		defer l.mu.Unlock()
		cb(raw)
	})
	if err != nil {
		return nil, fmt.Errorf("topic %s: %w", topic, err)
	}
	l.closers = append(l.closers, s)
	return s, nil
}

// Peers notes who reaches the subscriptions, which tell it only while they are open.
func (l *Listener) Peers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	note := func(s ros.Subscription, p *peers) {
		if s != nil {
			*p = peers{s.MatchedPublishers(), s.Mismatch(), s.Lost(), s.Malformed()}
		}
	}
	for _, e := range l.cameras {
		note(e.heard, &e.peers)
	}
	for a := range sides {
		note(l.states[a].heard, &l.states[a].peers)
	}
}

// peers is what a subscription knows of publishers.
type peers struct {
	matched         int
	mismatch        ros.Mismatch
	lost, malformed uint64
}

// span is when the first and the last message of a camera or arm came. A recording may
// have others long before, as those of a node that loads its policy. l.mu is held.
func (l *Listener) span() (first, last time.Time) {
	see := func(t *timing) {
		if t.count == 0 {
			return
		}
		if first.IsZero() || t.first.Before(first) {
			first = t.first
		}
		if t.last.After(last) {
			last = t.last
		}
	}
	for _, e := range l.cameras {
		see(&e.timing)
	}
	for _, a := range l.states {
		see(&a.timing)
	}
	return first, last
}

// Close ends the subscriptions. What was heard stays.
func (l *Listener) Close() error {
	var errs []error
	for _, s := range l.closers {
		errs = append(errs, s.Close())
	}
	l.closers = nil
	return errors.Join(errs...)
}

// told takes an instruction.
func (l *Listener) told(raw []byte) {
	var m msgs.String
	if err := msgs.Unmarshal(raw, &m); err != nil {
		l.misheard = err
		return
	}
	for _, known := range l.instructions {
		if known == m.Data {
			return
		}
	}
	if len(l.instructions) < mostInstructions {
		l.instructions = append(l.instructions, strings.Clone(m.Data))
	}
}

// felt takes a joint state.
func (l *Listener) felt(a *arm, raw []byte) {
	received := l.now()
	var m msgs.JointState
	if err := msgs.Unmarshal(raw, &m); err != nil {
		a.refused++
		a.refusal = err
		return
	}
	a.timing.tick(m.Header.Stamp.Time(), received)
	a.names = a.names[:0]
	for _, name := range m.Name {
		a.names = append(a.names, strings.Clone(name))
	}
	stamp, positions, err := a.reader.Read(raw, received)
	if err != nil {
		a.refused++
		a.refusal = err
		return
	}
	s := sample{stamp, positions}
	a.samples.add(s)
	a.recent[a.positions%history] = s
	a.positions++
}

// at is the state nearest to a time among the newest.
func (a *arm) at(t time.Time) (sample, bool) {
	var best sample
	for i := range min(a.positions, history) {
		s := a.recent[i]
		if i == 0 || s.stamp.Sub(t).Abs() < best.stamp.Sub(t).Abs() {
			best = s
		}
	}
	return best, a.positions > 0
}

// sets are complete sets of pictures: one of every camera since the set before.
type sets struct {
	count  int
	spread []thinned[float64] // by camera: s ahead of the set's oldest picture
	apart  int                // with a picture further ahead than max_skew
	joints [2]thinned[float64]
	lonely [2]int // without a joint state within max_skew
	seen   []int
	looked time.Time // when the last look was
}

// seen takes a picture and, where it completes a set, looks at the set.
func (l *Listener) seen(e *eye, raw []byte) {
	received := l.now()
	if !e.receive(raw, received) {
		return
	}
	s := &l.sets
	if s.seen == nil {
		s.seen = make([]int, len(l.cameras))
	}
	var oldest time.Time
	for i, c := range l.cameras {
		if c.usable <= s.seen[i] {
			return
		}
		if i == 0 || c.stamp.Before(oldest) {
			oldest = c.stamp
		}
	}
	apart := false
	for i, c := range l.cameras {
		s.seen[i] = c.usable
		ahead := c.stamp.Sub(oldest)
		s.spread[i].add(ahead.Seconds())
		apart = apart || ahead > l.settings.Live.MaxSkew
	}
	s.count++
	if apart {
		s.apart++
	}
	var pose [2]sample
	whole := true
	for a, arm := range l.states {
		var ok bool
		if pose[a], ok = arm.at(oldest); !ok {
			whole = false
			continue
		}
		off := pose[a].stamp.Sub(oldest).Abs()
		s.joints[a].add(off.Seconds())
		if off > l.settings.Live.MaxSkew {
			s.lonely[a]++
		}
	}
	if received.Sub(s.looked).Abs() < lookPeriod || len(l.looks) == mostLooks {
		return
	}
	s.looked = received
	k := look{stamp: oldest, whole: whole}
	for a := range pose {
		k.pose[a] = pose[a].positions
	}
	for _, c := range l.cameras {
		k.change = append(k.change, c.look())
	}
	l.looks = append(l.looks, k)
}

// look is what changed between two sets of pictures.
type look struct {
	stamp  time.Time
	whole  bool // both arms' poses are known
	pose   [2][armJoints]float64
	change []float64 // by camera: mean difference to the look before, 0..255; NaN where there is none
}

// clone is bytes.Clone into memory that is reused.
func clone(dst, src []byte) []byte { return append(dst[:0], src...) }

// same tells whether two pictures are byte for byte the same.
func same(a, b []byte) bool { return len(a) > 0 && bytes.Equal(a, b) }
