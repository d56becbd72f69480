package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/report"
)

// judged is what a replay is judged by while it runs: what the node publishes and tells
// the log, and the pictures and commands of the recording. It does nothing where nobody
// asks for a judgement.
type judged struct {
	html, json string
	conditions []report.Condition

	judge     *report.Judge
	recording *node.Recording // nil without recorded commands
	now       func() time.Time

	chunkTopic, traceTopic, inferenceTopic string
	cameras                                []judgedCamera
	pictures                               report.Pictures
	chunk                                  *report.Chunk // that is not judged yet
}

// heldPictures is how many messages of a camera are kept for a chunk that is made later
// than they come, as in lock-step: a second's. One that waits for longer is shown without.
const heldPictures = 32

// judgedCamera is a camera of the recording with its newest messages.
type judgedCamera struct {
	name, topic string
	compressed  bool
	held        []heldPicture // oldest first
}

// heldPicture is a camera's message, with the stamp that the node knows it by.
type heldPicture struct {
	stamp time.Time
	raw   []byte
}

// judgedFlags adds the flags that ask for a judgement.
func judgedFlags(flags *flag.FlagSet) *judged {
	j := &judged{}
	flags.StringVar(&j.html, "report", "", "write a report to this HTML `file`, which is replaced: errors, curves, pictures, seams, decoding, limits")
	flags.StringVar(&j.json, "json", "", "write the report's numbers to this JSON `file`, which is replaced")
	flags.Func("fail-on", "fail where `METRIC>NUMBER` holds, or another of > >= < <= == !=; may be given again. Metrics:\n"+report.MetricsHelp(), func(text string) error {
		c, err := report.ParseCondition(text)
		if err == nil {
			j.conditions = append(j.conditions, c)
		}
		return err
	})
	return j
}

func (j *judged) wanted() bool { return j.html != "" || j.json != "" || len(j.conditions) > 0 }

// begin reads the recorded commands, and refuses before a policy is loaded what could
// only fail after it.
func (j *judged) begin(ctx context.Context, r *replay, c *configuration) (err error) {
	if !j.wanted() {
		return nil
	}
	for flag, path := range map[string]string{"--report": j.html, "--json": j.json} {
		if path == "" {
			continue
		}
		if info, err := os.Stat(filepath.Dir(path)); err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		} else if !info.IsDir() {
			return fmt.Errorf("%s: %s is no directory", flag, filepath.Dir(path))
		}
	}
	if err := j.names(c); err != nil {
		return err
	}
	setup := report.Setup{
		Policy: c.manifest.Name, Bundle: c.settings.Policy, Bag: filepath.Base(filepath.Clean(r.path)), Out: r.out, Made: "ddvla " + buildVersion(),
		Begin: r.part.begin, End: r.reader.End(), ActionRate: c.manifest.Action.Rate, Horizon: c.manifest.Action.Chunk,
		Budget: 1 / c.settings.Live.Rate,
		Settings: map[string]string{
			"decode.preset": string(c.settings.Live.Decode.Preset), "decode.rounds": strconv.Itoa(c.settings.Live.Decode.Rounds),
			"seed": strconv.FormatInt(c.settings.Seed, 10), "runtime.provider": string(c.settings.Runtime.Provider), "--every": strconv.Itoa(r.every),
		},
	}
	for stage := range (node.Report{}).Latency {
		setup.Stages = append(setup.Stages, stageName(stage))
	}
	if !r.part.end.IsZero() && r.part.end.Before(setup.End) {
		setup.End = r.part.end
	}
	if setup.Dims, err = judgedDims(c); err != nil {
		return err
	}
	if err := j.open(ctx, r, c, &setup); err != nil {
		return err
	}
	for _, condition := range j.conditions {
		if err := condition.Check(setup); err != nil {
			return usageError{fmt.Errorf("--fail-on: %w", err)}
		}
	}
	j.judge = report.New(setup, func(dim int, at time.Time) (float64, bool) {
		if d := c.manifest.Action.Dims[dim]; j.recording != nil && d.Space == bundle.Joint {
			return j.recording.Action(d.Name, at)
		}
		return 0, false
	})
	return nil
}

// names resolves the topics that are listened to.
func (j *judged) names(c *configuration) (err error) {
	for name, topic := range map[string]*string{"~/action_chunk": &j.chunkTopic, "~/decode_trace": &j.traceTopic, "~/inference": &j.inferenceTopic} {
		if *topic, err = c.names.Topic(name); err != nil {
			return err
		}
	}
	for _, camera := range c.manifest.Cameras {
		topic, err := c.names.Topic(c.settings.Cameras[camera.Name])
		if err != nil {
			return fmt.Errorf("cameras.%s.topic: %w", camera.Name, err)
		}
		j.cameras = append(j.cameras, judgedCamera{name: camera.Name, topic: topic, compressed: strings.HasSuffix(topic, "/compressed")})
	}
	return nil
}

// open opens the recorded commands, where there are any.
func (j *judged) open(ctx context.Context, r *replay, c *configuration, setup *report.Setup) error {
	var lacking []string
	for _, topic := range c.settings.Targets {
		name, err := c.names.Topic(topic)
		if err != nil {
			return err
		}
		if r.has(name) {
			setup.Recorded = true
		} else {
			lacking = append(lacking, name)
		}
	}
	if !setup.Recorded {
		setup.Why = "The recording has no commands: there is no " + strings.Join(lacking, " and no ") + "."
		return nil
	}
	var err error
	j.recording, err = node.OpenRecording(ctx, r.reader, c.options, c.settings, c.manifest)
	return err
}

// judgedDims are the columns of the chunks with what they are judged by.
func judgedDims(c *configuration) ([]report.Dim, error) {
	m := c.manifest
	s, err := action.LoadStatistics(filepath.Join(c.settings.Policy, bundle.StatisticsFile), m.Action.UnnormKey)
	if err != nil {
		return nil, err
	}
	low, high := s.Action.Q01, s.Action.Q99
	if m.Action.Normalization == bundle.Bounds {
		low, high = s.Action.Min, s.Action.Max
	}
	limits := map[string]control.Limits{}
	for _, arm := range c.settings.Control.Layout {
		for _, joint := range arm.Joints {
			limits[arm.Name+"_"+joint.Name] = joint.Limits
		}
	}
	var dims []report.Dim
	for i, d := range m.Action.Dims {
		dim := report.Dim{Name: d.Name, Arm: d.Arm, Unit: d.Unit, Delta: d.Space != bundle.Joint}
		dim.FromStart = dim.Delta && c.settings.Space.FromStart
		if i < len(low) && i < len(high) {
			dim.Range = high[i] - low[i]
		}
		if d.Gripper != nil {
			// After its rule.
			dim.Unit, dim.Gripper, dim.Range = "m", true, d.Gripper.Open-d.Gripper.Close
			dim.Threshold = (d.Gripper.Open + d.Gripper.Close) / 2
		}
		if l, ok := limits[d.Name]; ok && !dim.Delta {
			dim.Lower, dim.Upper, dim.Velocity = l.Lower, l.Upper, l.Velocity
		}
		dims = append(dims, dim)
	}
	return dims, nil
}

func (j *judged) close() error {
	if j.recording == nil {
		return nil
	}
	return j.recording.Close()
}

// published takes what the node said. What cannot be read there is no chunk.
func (j *judged) published(topic string, raw []byte) {
	if j.judge == nil {
		return
	}
	switch topic {
	case j.chunkTopic:
		var m msgs.JointTrajectory
		if msgs.Unmarshal(raw, &m) != nil {
			return
		}
		j.chunk = &report.Chunk{Stamp: m.Header.Stamp.Time()}
		for _, p := range m.Points {
			j.chunk.Values = append(j.chunk.Values, p.Positions...)
		}
	case j.traceTopic:
		var m msgs.Float64MultiArray
		if j.chunk == nil || msgs.Unmarshal(raw, &m) != nil {
			return
		}
		// Without rounds there is none.
		_, j.chunk.Trace, _ = node.ReadTrace(&m)
	case j.inferenceTopic:
		// The last word on a chunk. A step may make several.
		var m msgs.String
		if j.chunk == nil || msgs.Unmarshal(raw, &m) != nil {
			return
		}
		if i, err := node.ReadInference(&m); err == nil {
			j.made(i)
		}
	}
}

// made hands over a chunk, with the pictures that it was made from.
func (j *judged) made(i *node.Inference) {
	j.chunk.Instruction = i.Instruction
	if j.html != "" && j.judge.Wants() {
		for _, ref := range i.Pictures {
			for k := range j.cameras {
				if c := &j.cameras[k]; c.name == ref.Camera {
					if p, err := c.picture(time.Unix(0, ref.Stamp), &j.pictures); err == nil {
						j.chunk.Pictures = append(j.chunk.Pictures, p)
					}
				}
			}
		}
	}
	j.judge.Add(*j.chunk)
	j.chunk = nil
}

// recorded takes a message of the recording.
func (j *judged) recorded(m *bag.Message) {
	if j.judge == nil || j.html == "" {
		return
	}
	for i := range j.cameras {
		c := &j.cameras[i]
		if c.topic != m.Topic {
			continue
		}
		stamp, err := stampOf(m)
		if err != nil {
			continue // no node takes it
		}
		if len(c.held) == heldPictures {
			c.held = slices.Delete(c.held, 0, 1)
		}
		c.held = append(c.held, heldPicture{stamp, bytes.Clone(m.Data)})
	}
}

var errNotHeld = errors.New("the picture is not held any more")

// picture makes the picture of a stamp, and lets go of those before it: later chunks are
// of later ones.
func (c *judgedCamera) picture(stamp time.Time, pictures *report.Pictures) (report.Picture, error) {
	at := slices.IndexFunc(c.held, func(p heldPicture) bool { return p.stamp.Equal(stamp) })
	if at < 0 {
		return report.Picture{}, errNotHeld
	}
	c.held = slices.Delete(c.held, 0, at)
	raw := c.held[0].raw
	if c.compressed {
		var m msgs.CompressedImage
		if err := msgs.Unmarshal(raw, &m); err != nil {
			return report.Picture{}, err
		}
		return pictures.Compressed(c.name, stamp, m.Data)
	}
	var m msgs.Image
	if err := msgs.Unmarshal(raw, &m); err != nil {
		return report.Picture{}, err
	}
	return pictures.Raw(c.name, stamp, vision.Raw{
		Encoding: m.Encoding, Width: int(m.Width), Height: int(m.Height), Step: int(m.Step), Data: m.Data,
	})
}

// hear returns a logger that tells the judge of the executor's events, too, which the
// node tells the log.
func (j *judged) hear(log *zap.Logger) *zap.Logger {
	if j.judge == nil {
		return log
	}
	return zap.New(zapcore.NewTee(log.Core(), eventCore{j}))
}

// eventCore is a log's core that looks for events.
type eventCore struct{ to *judged }

// Enabled implements zapcore.Core: dropped chunks are told at the debug level.
func (eventCore) Enabled(zapcore.Level) bool { return true }

// With implements zapcore.Core. Events carry all their fields themselves.
func (c eventCore) With([]zapcore.Field) zapcore.Core { return c }

// Check implements zapcore.Core.
func (c eventCore) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return ce.AddCore(e, c)
}

// Write implements zapcore.Core.
func (c eventCore) Write(entry zapcore.Entry, fields []zapcore.Field) error {
	code, known := control.Code(0), false
	for _, f := range fields {
		if v, ok := f.Interface.(control.Code); ok {
			code, known = v, true
		}
	}
	if !known {
		return nil
	}
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	e := report.Event{Time: c.to.now(), Code: code.String(), Sentence: code.Sentence()}
	e.Joint, _ = m.Fields["joint"].(string)
	value, _ := m.Fields["value"].(float64)
	limit, _ := m.Fields["limit"].(float64)
	e.Value, e.Limit = report.Figure(value), report.Figure(limit)
	c.to.judge.Tell(e)
	return nil
}

// Sync implements zapcore.Core.
func (eventCore) Sync() error { return nil }

// stageName names a stage in a word.
func stageName(stage int) string {
	return strings.ReplaceAll(node.Stage(stage).String(), " ", "_")
}

// finish writes the report, and fails where a condition says so.
func (j *judged) finish(n *node.Report, early error, stdout io.Writer) error {
	if j.judge == nil {
		return nil
	}
	ended := ""
	switch {
	case errors.Is(early, context.Canceled):
		ended = "it was interrupted"
	case early != nil:
		ended = early.Error()
	}
	run := report.Run{
		Ended:  ended,
		Failed: n.Failed, Superseded: n.Superseded, Commands: n.Control.Counters.Commands,
		Counts: report.CountsOf(n.Control.Counters), EventsLost: n.Control.Counters.EventsLost,
	}
	for stage, p := range n.Latency {
		ms := func(d time.Duration) report.Figure { return report.Figure(1e3 * d.Seconds()) }
		run.Stages = append(run.Stages, report.Stage{Name: stageName(stage), Count: p.Count, P50: ms(p.P50), P95: ms(p.P95), P99: ms(p.P99), Max: ms(p.Max)})
	}
	r := j.judge.Report(run, j.conditions)
	for _, o := range []struct {
		path  string
		write func(io.Writer) error
	}{{j.html, r.WriteHTML}, {j.json, r.WriteJSON}} {
		if o.path == "" {
			continue
		}
		var b bytes.Buffer
		if err := o.write(&b); err != nil {
			return err
		}
		if err := os.WriteFile(o.path, b.Bytes(), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(stdout, "report     %s\n", o.path)
	}
	return r.Err()
}
