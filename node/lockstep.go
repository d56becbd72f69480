package node

import (
	"context"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/ros"
)

// What waits in lock-step for the messages that belong with it. Beyond it the oldest are
// lost, and counted.
const (
	mostPictures = 64 // of each camera
	mostStates   = 8192
	mostTexts    = 256
	mostSpare    = 8 // pictures whose memory is kept
)

// LockStepQoS is what a node in lock-step subscribes its inputs with: no message may be
// lost, and those of a moment may have to wait while the graph runs.
func LockStepQoS() ros.QoS { return ros.QoS{Depth: 256} }

// lockStep chooses observations by stamps alone, so that the same messages give the same
// observations however their topics overtake each other: every n-th picture of the head
// camera is a moment. With it go the picture of each other camera whose header's stamp is
// nearest to the head's, the state of each arm nearest to the oldest of these pictures,
// the earlier one of two as near, and the newest instruction that was published before
// the last of these pictures was. A moment waits until a message at or behind it has come
// from every camera and arm: each topic is in order, so nothing nearer can follow.
type lockStep struct {
	every int
	head  int           // the camera that counts, in the observer's order
	wake  chan struct{} // gets one, if it is empty, where a moment may be complete

	mu           sync.Mutex
	heads        int       // pictures of the head camera
	seen         time.Time // the newest of their stamps
	moments      []picture // every n-th of them that waits, oldest first
	cameras      [][]picture
	joints       [2][]jointState
	instructions []instructed
	arrivals     uint64
	left         time.Time // from where the head's stamps went back
	cameraTurns  []turn
	jointTurns   [2]turn
	spare        [][]byte // memory of pictures that are over
	lost         uint64
	stuck        time.Time // the oldest moment at the last call of waiting
}

// turn is where an input stands whose stamps, or the head's, went back.
type turn struct {
	early bool // they have, and the head's have not yet: nothing of it is over
	late  bool // the head's have, and the input may still bring messages from before
}

// order is when something was published, and what of the same time came first.
type order struct {
	published time.Time
	arrival   uint64
}

func (o order) after(p order) bool {
	return o.published.After(p.published) || o.published.Equal(p.published) && o.arrival > p.arrival
}

// picture is a message of a camera.
type picture struct {
	order
	stamp time.Time // of its header
	raw   []byte    // CDR
}

// instructed is an instruction, empty for none.
type instructed struct {
	order
	text string
}

// newLockStep makes a moment of every every-th picture of the camera that the policy
// calls head, or of its first one.
func newLockStep(every int, o *observer) *lockStep {
	l := &lockStep{every: every, wake: make(chan struct{}, 1), cameras: make([][]picture, len(o.cameras))}
	l.cameraTurns = make([]turn, len(o.cameras))
	for i, c := range o.cameras {
		c.stamped = true
		if c.name == "head" {
			l.head = i
		}
	}
	for _, j := range o.joints {
		j.stamped = true
	}
	l.instructions = []instructed{{text: o.current()}}
	return l
}

// reset forgets all messages, and the instructions but for the last.
func (l *lockStep) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heads, l.seen, l.moments, l.joints = 0, time.Time{}, nil, [2][]jointState{}
	clear(l.cameras)
	clear(l.cameraTurns)
	l.jointTurns = [2]turn{}
	l.instructions = []instructed{{text: l.instructions[len(l.instructions)-1].text}}
}

// picture takes one of a camera. Where stamps go back, as those of a recording that is
// played again do, what came before is over.
func (l *lockStep) picture(camera int, stamp, published time.Time, raw []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrivals++
	list := &l.cameras[camera]
	if camera == l.head {
		list = &l.moments
		if stamp.Before(l.seen) {
			l.again(stamp)
		}
		l.seen = stamp
		if l.heads++; (l.heads-1)%l.every != 0 {
			return
		}
	} else {
		back := len(*list) > 0 && stamp.Before((*list)[len(*list)-1].stamp)
		if l.over(&l.cameraTurns[camera], stamp, back) {
			return
		}
		if back {
			*list = nil
		}
	}
	if len(*list) == mostPictures {
		l.drop(list)
		l.lost++
	}
	var place []byte
	if k := len(l.spare); k > 0 {
		place, l.spare = l.spare[k-1], l.spare[:k-1]
	}
	*list = append(*list, picture{order{published, l.arrivals}, stamp, append(place[:0], raw...)})
	l.prune()
	l.signal()
}

// again forgets what came before the head's stamps went back to one, but for what inputs
// have brought that did so already. l.mu is held.
func (l *lockStep) again(stamp time.Time) {
	l.heads, l.moments = 0, nil
	l.left, l.seen = l.seen, stamp
	for c := range l.cameras {
		if !l.cameraTurns[c].early {
			l.cameras[c] = nil
		}
		l.cameraTurns[c] = turn{late: !l.cameraTurns[c].early}
	}
	for a := range l.joints {
		if !l.jointTurns[a].early {
			l.joints[a] = l.joints[a][:0]
		}
		l.jointTurns[a] = turn{late: !l.jointTurns[a].early}
	}
}

// over takes note of where an input stands with a message of a stamp, which goes back or
// not, and reports whether the message is from before the head's stamps went back: nearer
// to where they were than to where they are. l.mu is held.
func (l *lockStep) over(t *turn, stamp time.Time, back bool) bool {
	t.late = t.late && stamp.Sub(l.left).Abs() < stamp.Sub(l.seen).Abs()
	t.early = (t.early || back) && stamp.Before(l.seen)
	return t.late
}

// state takes one of an arm.
func (l *lockStep) state(arm int, s jointState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	list := l.joints[arm]
	back := len(list) > 0 && s.stamp.Before(list[len(list)-1].stamp)
	if l.over(&l.jointTurns[arm], s.stamp, back) {
		return
	}
	if back {
		list = list[:0]
	}
	if len(list) == mostStates {
		list = list[:copy(list, list[mostStates/2:])]
		l.lost += mostStates / 2
	}
	l.joints[arm] = append(list, s)
	l.signal()
}

// instruct takes an instruction, or with an empty one its end.
func (l *lockStep) instruct(published time.Time, text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.arrivals++
	if len(l.instructions) == mostTexts {
		l.instructions = l.instructions[:copy(l.instructions, l.instructions[1:])]
	}
	l.instructions = append(l.instructions, instructed{order{published, l.arrivals}, text})
}

// forget ends the instruction, whenever the pictures that come were published.
func (l *lockStep) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.instructions = []instructed{{}}
}

// signal wakes who waits for a moment. l.mu is held.
func (l *lockStep) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// drop forgets the oldest picture of a list. l.mu is held.
func (l *lockStep) drop(list *[]picture) {
	if len(l.spare) < mostSpare {
		l.spare = append(l.spare, (*list)[0].raw)
	}
	*list = append((*list)[:0], (*list)[1:]...)
}

// prune forgets what no moment can take any more: neither one that waits nor one that is
// still to come. l.mu is held.
func (l *lockStep) prune() {
	from := l.seen
	if len(l.moments) > 0 {
		from = l.moments[0].stamp
	}
	oldest := from // picture that a moment can take
	for c := range l.cameras {
		if c == l.head {
			continue
		}
		list := &l.cameras[c]
		for len(*list) > 1 && !l.cameraTurns[c].early && !(*list)[1].stamp.After(from) {
			l.drop(list)
		}
		switch {
		case len(*list) == 0:
			oldest = time.Time{} // nobody knows
		case (*list)[0].stamp.Before(oldest):
			oldest = (*list)[0].stamp
		}
	}
	for a, list := range l.joints {
		if l.jointTurns[a].early {
			continue
		}
		over := 0
		for over+1 < len(list) && !list[over+1].stamp.After(oldest) {
			over++
		}
		l.joints[a] = list[:copy(list, list[over:])]
	}
}

// nearest finds, among what has rising stamps, the one nearest to t, the earlier one of
// two as near; ok is false while a nearer one may come.
func nearest[T any](list []T, stamp func(T) time.Time, t time.Time) (found T, ok bool) {
	for i := range list {
		at := stamp(list[i])
		if at.Before(t) {
			continue
		}
		if i > 0 && t.Sub(stamp(list[i-1])) <= at.Sub(t) {
			i--
		}
		return list[i], true
	}
	return found, false
}

// chosen is what belongs with a moment.
type chosen struct {
	pictures []picture
	states   [2]jointState
}

// choose finds what belongs with the oldest moment, or says what it waits for. l.mu is
// held.
func (l *lockStep) choose(o *observer) (c chosen, lacks string) {
	m := l.moments[0]
	oldest := m.stamp
	for i, list := range l.cameras {
		p, ok := m, true
		if i != l.head {
			p, ok = nearest(list, func(p picture) time.Time { return p.stamp }, m.stamp)
		}
		if !ok {
			return c, o.cameras[i].what()
		}
		if p.stamp.Before(oldest) {
			oldest = p.stamp
		}
		c.pictures = append(c.pictures, p)
	}
	for a, list := range l.joints {
		var ok bool
		if c.states[a], ok = nearest(list, func(s jointState) time.Time { return s.stamp }, oldest); !ok {
			return c, o.joints[a].what()
		}
	}
	return c, ""
}

// take copies what belongs with the oldest moment into s, without a look at whether it
// makes an observation, and tells whether there was a moment that is complete.
func (l *lockStep) take(s *snapshot, o *observer) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.moments) == 0 {
		return false
	}
	c, lacks := l.choose(o)
	if lacks != "" {
		return false
	}
	s.init(o)
	last := c.pictures[0].order
	s.Stamp = c.pictures[0].stamp
	for i, p := range c.pictures {
		s.raw[i], s.stamps[i] = append(s.raw[i][:0], p.raw...), p.stamp
		if p.stamp.Before(s.Stamp) {
			s.Stamp = p.stamp
		}
		if p.after(last) {
			last = p.order
		}
	}
	s.states = c.states
	s.Instruction = ""
	for len(l.instructions) > 1 && !l.instructions[1].after(last) {
		l.instructions = l.instructions[:copy(l.instructions, l.instructions[1:])]
	}
	if !l.instructions[0].after(last) {
		s.Instruction = l.instructions[0].text
	}
	l.drop(&l.moments)
	l.prune()
	return true
}

// waiting says what the oldest moment waits for, where it has waited since the last call.
func (l *lockStep) waiting(o *observer) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.stuck
	l.stuck = time.Time{}
	if len(l.moments) == 0 {
		return ""
	}
	l.stuck = l.moments[0].stamp
	_, lacks := l.choose(o)
	if lacks == "" || !l.stuck.Equal(before) {
		return ""
	}
	return lacks
}

// losses are the messages of the inputs that a node in lock-step has lost, here and on
// the way.
func (n *Node) losses() uint64 {
	n.lock.mu.Lock()
	lost := n.lock.lost
	n.lock.mu.Unlock()
	for _, c := range n.observer.cameras {
		lost += c.heard.Dropped() + c.heard.Lost()
	}
	for _, j := range n.observer.joints {
		lost += j.heard.Dropped() + j.heard.Lost()
	}
	return lost
}

// watchLockStep tells of what keeps a lock-step from being one.
func (n *Node) watchLockStep() {
	if lost := n.losses(); lost > n.lostTold {
		n.lostTold = lost
		n.log.Error("messages of the inputs were lost: chunks may differ from those of a replay", zap.Uint64("messages", lost))
	}
	if lacks := n.lock.waiting(&n.observer); lacks != "" {
		n.idle("lock-step waits", fmt.Sprintf("lock_step: a picture of the head camera waits for a message at or behind its stamp from %s", lacks))
	}
}

// thinkInLockStep makes chunks of moments until ctx ends.
func (n *Node) thinkInLockStep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-n.lock.wake:
		}
		for more := true; more; {
			var err error
			if more, err = n.thinkLockStep(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
		}
	}
}

// thinkLockStep makes a chunk of the oldest moment that is complete, and tells whether
// there was one. What the arms do meanwhile changes no chunk, nor whether there is one.
func (n *Node) thinkLockStep(ctx context.Context) (more bool, err error) {
	if !n.begins() {
		return false, nil
	}
	defer n.ends()
	b := begun{live: n.currentLive(), start: time.Now(), now: n.ros.Now(), epoch: n.executor.Epoch()}
	if !n.lock.take(&n.think, &n.observer) {
		return false, nil
	}
	o := &n.think.Observation
	o.Known, o.Initial, o.InitialConfidence, o.Previous = nil, nil, nil, n.chunk.result
	n.chunk = executed{}
	if err := n.observer.complete(&n.think, b.live.MaxSkew); err != nil {
		n.refused(err)
		n.tellInference(n.describe(&n.think, b.now), OutcomeNone, err.Error())
		return true, nil
	}
	b.observed = time.Since(b.start)
	b.withheld = n.withheld(b)
	return true, n.makeChunk(ctx, b)
}

// withheld says why the arms must not follow the chunk of the observation in n.think,
// which is made all the same, or nothing. What waited in lock-step is from before: the
// operator may want something else by now, and the arms may be elsewhere. b has the epoch
// already, so that what changes after this drops the chunk.
func (n *Node) withheld(b begun) error {
	o := &n.think.Observation
	if now := n.observer.current(); now != o.Instruction {
		return notReady{"lock-step has another instruction", fmt.Sprintf("lock_step: the arms do not follow the chunk, which is for %q, not for %q", o.Instruction, now)}
	}
	if age := b.now.Sub(o.Stamp); age > b.live.MaxAge {
		return notReady{"lock-step is behind", fmt.Sprintf("lock_step: the arms do not follow the chunk, whose observation is %v old, more than max_age %v", age.Round(time.Millisecond), b.live.MaxAge)}
	}
	return nil
}
