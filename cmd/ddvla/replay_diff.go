package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
)

// statusDiffers is the exit status of `ddvla replay --diff` where a chunk is not the
// recorded one, or cannot be made again from a whole recording.
const statusDiffers = 3

// clockSlack is how much later in a bag than an inference began the messages may be that it
// was made from: clocks of recorders and simulations differ a little.
const clockSlack = 5 * time.Second

// differ makes the inferences of a recording again and compares their chunks.
type differ struct {
	path        string
	reader      *bag.Reader
	images      string // bag with the pictures, or empty
	every       int
	part        *window
	instruction string
	stderr      io.Writer

	topics     map[string]string // full names of ~/inference and ~/action_chunk
	parameters []param.Assignment
	inferences []*recordedInference
	counts     map[string]int // of all inferences of the window, by outcome

	repeater *node.Repeater
	changes  node.Changes
	repeated int
	missing  []string // inferences that cannot be made again, and why
	differs  []*chunkDifference
	damage   error // of the bag: what is before it counts
}

// recordedInference is one with the chunk that came of it and the messages it was made
// from, as far as they were found.
type recordedInference struct {
	*node.Inference
	chunk     *msgs.JointTrajectory
	materials node.Materials
	done      bool
}

func (d *differ) run(ctx context.Context, args *param.Args, stdout io.Writer) (err error) {
	names, err := ros.NewNames(ros.Options{Name: "ddvla", Remaps: args.Remaps})
	if err != nil {
		return usageError{err}
	}
	if err := d.read(ctx, names); err != nil {
		return err
	}
	c, err := configure(args, d.asRecorded()...)
	if err != nil {
		return err
	}
	c.tellUnknown(d.stderr, "replay")
	seed := d.inferences[0].Seed
	given := args.For(names.FullyQualified())
	for _, a := range given {
		if strings.HasPrefix(a.Name, "decode.") && !slices.Contains(c.set.Undeclared(), a.Name) {
			params := c.settings.Live.Decode
			d.changes.Decode = &params
		}
		if a.Name == "seed" {
			seed = c.settings.Seed
		}
	}
	d.changes.Instruction = d.instruction
	if err := d.pictures(); err != nil {
		return err
	}
	if d.repeater, err = node.OpenRepeater(ctx, c.settings, c.manifest, seed); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.repeater.Close()) }()
	if err := d.walk(ctx); err != nil {
		return err
	}
	return errors.Join(d.tell(stdout, seed), d.damage)
}

// read reads what was recorded of the inferences, the chunks and the parameters.
func (d *differ) read(ctx context.Context, names *ros.Names) error {
	d.topics, d.counts = map[string]string{}, map[string]int{}
	for _, name := range []string{"~/inference", "~/action_chunk"} {
		topic, err := names.Topic(name)
		if err != nil {
			return err
		}
		d.topics[name] = topic
		if r := (replay{reader: d.reader}); !r.has(topic) {
			return fmt.Errorf("the bag %s has no %s, on which a node tells what its chunks were made from; record with -p record:=DIR or `ros2 bag record` that topic, name the node's topics as they were (-r __ns:=...), or replay without --diff", d.path, topic)
		}
	}
	chunks := map[int64][]*msgs.JointTrajectory{}
	var all []*recordedInference
	for m, err := range d.reader.Messages(ctx) {
		if d.damaged(err) {
			break
		}
		if err != nil {
			return err
		}
		switch m.Topic {
		case d.topics["~/action_chunk"]:
			var chunk msgs.JointTrajectory
			if err := msgs.Unmarshal(slices.Clone(m.Data), &chunk); err != nil {
				return fmt.Errorf("topic %s: %w", m.Topic, err)
			}
			stamp := chunk.Header.Stamp.Time().UnixNano()
			chunks[stamp] = append(chunks[stamp], &chunk)
		case d.topics["~/inference"]:
			var text msgs.String
			if err := msgs.Unmarshal(slices.Clone(m.Data), &text); err != nil {
				return fmt.Errorf("topic %s: %w", m.Topic, err)
			}
			i, err := node.ReadInference(&text)
			if err != nil {
				return fmt.Errorf("topic %s: %w", m.Topic, err)
			}
			all = append(all, &recordedInference{Inference: i})
		case "/parameter_events":
			if err := d.parameterEvent(m, names.FullyQualified()); err != nil {
				return err
			}
		}
	}
	return d.pair(all, chunks)
}

// damaged notes that a bag ends before its end, as one of a node that was killed.
func (d *differ) damaged(err error) bool {
	var damage *bag.DamagedError
	if !errors.As(err, &damage) {
		return false
	}
	d.damage = err
	return true
}

// parameterEvent takes the node's first parameters: those that may change later, each
// inference has itself.
func (d *differ) parameterEvent(m *bag.Message, of string) error {
	var e msgs.ParameterEvent
	if err := msgs.Unmarshal(slices.Clone(m.Data), &e); err != nil {
		return fmt.Errorf("topic %s: %w", m.Topic, err)
	}
	if e.Node != of || len(d.parameters) > 0 || len(e.NewParameters) == 0 {
		return nil
	}
	var err error
	if d.parameters, err = param.Told(&e); err != nil {
		return fmt.Errorf("topic %s: %w", m.Topic, err)
	}
	return nil
}

// pair finds the chunk of each inference, and chooses those of the window.
func (d *differ) pair(all []*recordedInference, chunks map[int64][]*msgs.JointTrajectory) error {
	chosen := 0
	for _, i := range all {
		// In lock-step several are of one stamp, and each takes its own chunk, also those
		// that are not chosen.
		if list := chunks[i.Stamp]; i.Outcome == node.OutcomeChunk && len(list) > 0 {
			i.chunk, chunks[i.Stamp] = list[0], list[1:]
		}
		if at := time.Unix(0, i.Time); d.part.before(at) || d.part.behind(at) {
			continue
		}
		d.counts[i.Outcome]++
		if i.Outcome != node.OutcomeChunk {
			continue
		}
		if chosen++; (chosen-1)%d.every != 0 {
			continue
		}
		if i.chunk == nil {
			d.missing = append(d.missing, fmt.Sprintf("inference %d: its chunk is not in the bag", i.Number))
			continue
		}
		i.materials.Pictures = make([][]byte, len(i.Pictures))
		d.inferences = append(d.inferences, i)
	}
	if len(d.inferences) == 0 {
		return fmt.Errorf("the bag has no inference of which a chunk came in this part of it; there are %s", d.outcomes())
	}
	if first := d.inferences[0]; slices.ContainsFunc(d.inferences, func(i *recordedInference) bool { return i.Seed != first.Seed || i.Runtime != first.Runtime }) {
		return errors.New("the bag has inferences of more than one node or policy; choose those of one with --from and --to")
	}
	return nil
}

// asRecorded are the node's parameters that say what was recorded. What belongs to that
// machine or moves something does not.
func (d *differ) asRecorded() []param.Assignment {
	return slices.DeleteFunc(slices.Clone(d.parameters), func(a param.Assignment) bool {
		switch a.Name {
		case "record", "record_images", "start_enabled", "autostart", "runtime.library", "runtime.engine_cache", param.SimTime:
			return true
		}
		return strings.HasPrefix(a.Name, "qos_overrides.")
	})
}

// pictures refuses a recording whose pictures are not there, before a policy is loaded.
func (d *differ) pictures() error {
	r := replay{reader: d.reader}
	where := d.path
	if d.images != "" {
		reader, err := bag.Open(d.images)
		if err != nil {
			return fmt.Errorf("--images: %w", err)
		}
		r.reader, where = reader, d.images
	}
	var lacking []string
	hashed := true
	for _, p := range d.inferences[0].Pictures {
		if !r.has(p.Topic) {
			lacking = append(lacking, p.Topic)
		}
		hashed = hashed && p.SHA256 != ""
	}
	switch {
	case len(lacking) == 0:
		return nil
	case d.images == "" && hashed:
		return fmt.Errorf("the bag %s has only the hashes of the pictures (record_images:=hash), not %s; give a bag of the same run that has them: --images BAG", where, strings.Join(lacking, ", "))
	}
	return fmt.Errorf("the bag %s has no pictures on %s; give a bag of the same run that has them: --images BAG", where, strings.Join(lacking, ", "))
}

// want is a place for a message among an inference's materials.
type want struct {
	of      *recordedInference
	picture int // or -1
	arm     int
}

// key is what a message is found by.
type key struct {
	topic string
	stamp int64
}

// walk goes through the bags and makes each inference again once all of its messages are
// there.
func (d *differ) walk(ctx context.Context) error {
	wants := map[key][]want{}
	for _, i := range d.inferences {
		for k, p := range i.Pictures {
			wants[key{p.Topic, p.Stamp}] = append(wants[key{p.Topic, p.Stamp}], want{i, k, 0})
		}
		for a, s := range i.States {
			wants[key{s.Topic, s.Stamp}] = append(wants[key{s.Topic, s.Stamp}], want{i, -1, a})
		}
	}
	// States are small: with the pictures in another bag they are all read before.
	if err := d.gather(ctx, d.reader, wants, d.images == ""); err != nil {
		return err
	}
	if d.images != "" {
		reader, err := bag.Open(d.images)
		if err != nil {
			return err
		}
		if err := d.gather(ctx, reader, wants, false); err != nil {
			return err
		}
	}
	for _, i := range d.inferences {
		if err := d.again(ctx, i, true); err != nil {
			return err
		}
	}
	return nil
}

// gather takes the messages that are wanted from a bag. With ends, an inference is not
// waited for beyond the time when it was made.
func (d *differ) gather(ctx context.Context, reader *bag.Reader, wants map[key][]want, ends bool) error {
	topics := map[string]bool{}
	for k := range wants {
		topics[k.topic] = true
	}
	next := 0 // inferences before it are done
	for m, err := range reader.Messages(ctx) {
		if d.damaged(err) {
			break
		}
		if err != nil {
			return err
		}
		if !topics[m.Topic] {
			continue
		}
		for ; ends && next < len(d.inferences) && m.Time.After(time.Unix(0, d.inferences[next].Time).Add(clockSlack)); next++ {
			if err := d.again(ctx, d.inferences[next], true); err != nil {
				return err
			}
		}
		stamp, err := stampOf(m)
		if err != nil {
			continue // no node took it
		}
		var data []byte
		for _, w := range wants[key{m.Topic, stamp.UnixNano()}] {
			if w.of.done {
				continue
			}
			if data == nil {
				data = slices.Clone(m.Data)
			}
			// Of two with the same stamp the first: a node takes copies for no news.
			if w.picture < 0 && w.of.materials.States[w.arm] == nil {
				w.of.materials.States[w.arm] = data
			}
			if w.picture >= 0 && w.of.materials.Pictures[w.picture] == nil {
				w.of.materials.Pictures[w.picture] = data
			}
			if err := d.again(ctx, w.of, false); err != nil {
				return err
			}
		}
	}
	return nil
}

// again makes an inference again that has all of its messages. Where it is the last
// chance, states that are missing are those that the record has.
func (d *differ) again(ctx context.Context, i *recordedInference, last bool) error {
	if i.done {
		return nil
	}
	missing := slices.IndexFunc(i.materials.Pictures, func(raw []byte) bool { return raw == nil })
	states := slices.ContainsFunc(i.materials.States[:], func(raw []byte) bool { return raw == nil })
	if !last && (missing >= 0 || states) {
		return nil
	}
	i.done = true
	defer func() { i.materials = node.Materials{} }()
	if missing >= 0 {
		p := i.Pictures[missing]
		d.missing = append(d.missing, fmt.Sprintf("inference %d: the picture of %s on %s is not in the bag", i.Number, time.Unix(0, p.Stamp).UTC().Format(time.RFC3339Nano), p.Topic))
		return nil
	}
	now, err := d.repeater.Repeat(ctx, i.Inference, i.materials, d.changes)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return fmt.Errorf("inference %d, of which the node made a chunk, fails here: %w", i.Number, err)
	}
	d.repeated++
	same, err := sameBytes(i.chunk, now.Chunk)
	if err != nil || same {
		return err
	}
	d.differs = append(d.differs, compareChunks(i, now))
	return nil
}
