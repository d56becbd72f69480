package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// ahead is how many moments of a lock-step may be on their way to a node: enough that
// those of other topics which they wait for are not held back, and far less than the
// node keeps.
const ahead = 8

// runPlay is `ddvla play`: what a node listens to, from a recorded bag, onto a ROS
// graph. Nothing else of the bag is published: no command reaches an arm.
func runPlay(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	flags := newFlags("play", "BAG [--speed X] [--from T] [--to T] [--instruction TEXT] [--clock] [--backend cyclone|rclgo] --ros-args -p policy:=BUNDLE [the node's other ROS arguments]")
	backend := backendFlag(flags)
	speed := flags.Float64("speed", 1, "so many `times` the recording's speed; 0 is as fast as it goes")
	part := windowFlags(flags)
	instruction := flags.String("instruction", "", "give `this` instruction instead of the recorded ones")
	clock := flags.Bool("clock", false, "publish the recording's time on /clock, for a node with -p use_sim_time:=true")
	wait := flags.Duration("wait", 30*time.Second, "how `long` to wait for the node to subscribe, and in lock-step for what it says")
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	path, err := parseBag(flags, rest, stdout)
	if err != nil {
		return err
	}
	if *speed < 0 {
		return usageError{fmt.Errorf("--speed is %v, must be at least 0", *speed)}
	}
	reader, err := bag.Open(path)
	if err != nil {
		return err
	}
	if err := part.in(reader); err != nil {
		return err
	}
	p := &player{reader: reader, speed: *speed, part: part, instruction: *instruction, clock: *clock, wait: *wait, stderr: stderr}
	c, err := p.configure(rosArgs)
	if err != nil {
		return err
	}
	c.tellUnknown(stderr, "play")
	// A name that begins with _ is hidden from `ros2 node list`.
	options := ros.Options{Name: "_ddvla_play", Logger: consoleLogger(stderr, "error")}
	if err := options.FromEnvironment(os.LookupEnv); err != nil {
		return err
	}
	rn, err := backend.node(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	if err := p.connect(ctx, rn, c); err != nil {
		return err
	}
	err = p.play(ctx)
	fmt.Fprintf(stdout, "played %d messages of %s", p.played, path)
	if p.node != nil {
		fmt.Fprintf(stdout, "; the node told of %d inferences", p.node.count())
	}
	fmt.Fprintln(stdout)
	return err
}

// player plays one bag.
type player struct {
	reader      *bag.Reader
	speed       float64
	part        *window
	instruction string
	clock       bool
	wait        time.Duration
	stderr      io.Writer

	topics       map[string]string // of the graph, by those of the bag
	types        map[string]string // by those of the graph
	instructions string            // topic of the bag, or empty
	spoken       string            // topic of the graph
	head         string            // topic of the bag: that of the head camera
	every        int               // of the node's lock-step, or 0

	publishers map[string]ros.Publisher // by topic of the bag
	speaker    ros.Publisher            // of instructions
	time       *ros.TypedPublisher[msgs.Clock, *msgs.Clock]
	node       *follower // in lock-step, else nil
	played     int
	heads      int
	moments    []time.Time
}

// configure finds out what a node of the given ROS arguments listens to.
func (p *player) configure(args *param.Args) (*configuration, error) {
	r := replay{reader: p.reader}
	c, err := configure(args, r.compressedCameras()...)
	if err != nil {
		return nil, err
	}
	if p.spoken, err = c.names.Topic("~/instruction"); err != nil {
		return nil, err
	}
	// AgileX's recorder has instructions on /instruction.
	for _, topic := range []string{"/instruction", p.spoken} {
		if r.has(topic) {
			p.instructions = topic
		}
	}
	checked := *c
	if p.instruction != "" || p.instructions != "" {
		checked.settings.Instruction = "is given"
	}
	if err := r.check(&checked); err != nil {
		return nil, err
	}
	if p.types, err = c.settings.Inputs(c.names); err != nil {
		return nil, err
	}
	p.topics = map[string]string{}
	for topic := range p.types {
		p.topics[topic] = topic
	}
	p.every = c.settings.LockStep
	camera := c.manifest.Cameras[0].Name
	for _, m := range c.manifest.Cameras {
		if m.Name == "head" {
			camera = m.Name
		}
	}
	p.head, err = c.names.Topic(c.settings.Cameras[camera])
	return c, err
}

// connect makes the publishers and waits for the node's subscriptions.
func (p *player) connect(ctx context.Context, rn ros.Node, c *configuration) (err error) {
	p.publishers = map[string]ros.Publisher{}
	for from, to := range p.topics {
		if p.publishers[from], err = rn.Advertise(to, p.types[to], node.LockStepQoS()); err != nil {
			return fmt.Errorf("topic %s: %w", to, err)
		}
	}
	if p.instruction != "" || p.instructions != "" {
		if p.speaker, err = rn.Advertise(p.spoken, (*msgs.String)(nil).ROSType(), node.LockStepQoS()); err != nil {
			return fmt.Errorf("topic %s: %w", p.spoken, err)
		}
	}
	if p.clock {
		if p.time, err = ros.Advertise[msgs.Clock](rn, "/clock", ros.ClockQoS()); err != nil {
			return err
		}
	}
	if p.every > 0 {
		if p.node, err = follow(rn, c); err != nil {
			return err
		}
	}
	return p.matched(ctx, rn, c.names.FullyQualified())
}

// matched waits until the node of a name listens to everything. It is reliable from then
// on: what is written while the node does not know the writer yet is sent again.
func (p *player) matched(ctx context.Context, rn ros.Node, name string) error {
	look, end := time.NewTicker(10*time.Millisecond), time.After(p.wait)
	defer look.Stop()
	for {
		unheard, err := p.unheard(rn, name)
		if err != nil || len(unheard) == 0 {
			return err
		}
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		case <-end:
			return fmt.Errorf("%s has not subscribed to %s within %v; is the node running, with the same ROS arguments, in this ROS domain?", name, strings.Join(unheard, ", "), p.wait)
		}
	}
}

// unheard lists the topics to which the node of a name does not listen yet. Others may: a
// recorder, a viewer. Where the back end cannot tell who listens, any does.
func (p *player) unheard(rn ros.Node, name string) (topics []string, err error) {
	publishers := map[string]ros.Publisher{}
	for from, pub := range p.publishers {
		publishers[p.topics[from]] = pub
	}
	if p.speaker != nil {
		publishers[p.spoken] = p.speaker
	}
	for topic, pub := range publishers {
		if pub.MatchedSubscriptions() == 0 {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	graph, ok := rn.(ros.Grapher)
	if len(topics) > 0 || !ok {
		return topics, nil
	}
	nodes, err := graph.Graph()
	if err != nil {
		return nil, err
	}
	for topic := range publishers {
		if !slices.ContainsFunc(nodes, func(n ros.GraphNode) bool {
			return n.Name == name && slices.ContainsFunc(n.Subscribes, func(e ros.Endpoint) bool { return e.Name == topic })
		}) {
			topics = append(topics, topic)
		}
	}
	slices.Sort(topics)
	return topics, nil
}

// play publishes the messages in their order.
func (p *player) play(ctx context.Context) error {
	var pace pace
	said := p.instruction
	for m, err := range p.reader.Messages(ctx) {
		if err != nil {
			return err
		}
		input, spoken := p.publishers[m.Topic], m.Topic == p.instructions && p.instruction == ""
		if input == nil && !spoken {
			continue
		}
		if p.part.before(m.Time) {
			if spoken {
				if said, err = words(m); err != nil {
					return err
				}
			}
			continue
		}
		if p.part.behind(m.Time) {
			break
		}
		if err := pace.wait(ctx, m.Time, p.speed); err != nil {
			return err
		}
		if p.time != nil {
			if err := p.time.Publish(&msgs.Clock{Clock: msgs.TimeOf(m.Time)}); err != nil {
				return err
			}
		}
		// From before the window, or instead of what was recorded.
		if said != "" {
			if err := p.say(ctx, said); err != nil {
				return err
			}
			said = ""
		}
		if spoken {
			now, err := words(m)
			if err == nil {
				err = p.say(ctx, now)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := p.inStep(ctx, m); err != nil {
			return err
		}
		if err := input.Publish(m.Data); err != nil {
			return err
		}
		p.played++
	}
	if p.node != nil && len(p.moments) > 0 {
		return p.node.quiet(ctx, p.moments, p.wait)
	}
	return nil
}

// inStep holds a picture back from a node in lock-step that is too far behind.
func (p *player) inStep(ctx context.Context, m *bag.Message) error {
	if p.node == nil || m.Topic != p.head {
		return nil
	}
	if p.heads++; (p.heads-1)%p.every != 0 {
		return nil
	}
	stamp, err := stampOf(m)
	if err != nil {
		return nil // the node refuses it, too
	}
	if len(p.moments) == ahead {
		first := p.moments[0]
		p.moments = append(p.moments[:0], p.moments[1:]...)
		if !p.node.wait(ctx, p.wait, func(f *follower) bool { return !f.told.Before(first) }) {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return fmt.Errorf("the node has not told of the picture of %s within %v; does it run with lock_step:=%d, and do all of its inputs come?", first.UTC().Format(time.RFC3339Nano), p.wait, p.every)
		}
	}
	p.moments = append(p.moments, stamp)
	return nil
}

// say publishes an instruction. A node in lock-step is given the time to take it: DDS
// keeps no order between topics.
func (p *player) say(ctx context.Context, text string) error {
	raw, err := msgs.Marshal(&msgs.String{Data: text})
	if err == nil {
		err = p.speaker.Publish(raw)
	}
	if err != nil {
		return err
	}
	p.played++
	if p.node != nil && !p.node.wait(ctx, 3*time.Second, func(f *follower) bool { return f.instruction == text }) {
		fmt.Fprintf(p.stderr, "ddvla play: the node does not say on ~/status that it took the instruction %q\n", text)
	}
	return ctx.Err()
}

func words(m *bag.Message) (string, error) {
	var s msgs.String
	if err := msgs.Unmarshal(m.Data, &s); err != nil {
		return "", fmt.Errorf("topic %s: %w", m.Topic, err)
	}
	return strings.Clone(s.Data), nil
}

// stampOf is the stamp of a message's header, or when it was received where that has none.
func stampOf(m *bag.Message) (time.Time, error) {
	var header *msgs.Header
	var err error
	switch m.Type {
	case (*msgs.Image)(nil).ROSType():
		var i msgs.Image
		err, header = msgs.Unmarshal(m.Data, &i), &i.Header
	case (*msgs.CompressedImage)(nil).ROSType():
		var i msgs.CompressedImage
		err, header = msgs.Unmarshal(m.Data, &i), &i.Header
	case (*msgs.JointState)(nil).ROSType():
		var j msgs.JointState
		err, header = msgs.Unmarshal(m.Data, &j), &j.Header
	default:
		return time.Time{}, fmt.Errorf("topic %s: a %s has no stamp", m.Topic, m.Type)
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("topic %s: %w", m.Topic, err)
	}
	if at := header.Stamp.Time(); !at.IsZero() {
		return at, nil
	}
	return m.Time, nil
}
