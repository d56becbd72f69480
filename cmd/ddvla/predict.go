package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/node"
	model "github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros/param"
)

// runPredict is `ddvla predict`: one observation from files, one chunk in robot
// units. It takes the node's parameters, so that it decodes as the node would.
func runPredict(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("predict", "--bundle DIR --image [NAME=]FILE ... --instruction TEXT [--state STATE] [--out PNG] [--trace PNG] [FLAGS] [--ros-args -p NAME:=VALUE]\n"+
		"Decodes one action chunk from pictures, an instruction and the robot's state, and prints it in robot units.\n"+
		"Example: ddvla predict --bundle /models/mine --image head=head.jpg --image wrist_left=left.jpg --image wrist_right=right.jpg \\\n"+
		"           --instruction \"reach the red cube\" --state state.json --out chunk.png")
	var images []string
	flags.Func("image", "a camera's picture, JPEG or PNG: `[NAME=]FILE`, once for each camera; without names in the order that `ddvla inspect` lists (a file whose name holds = is ./FILE)",
		func(text string) error {
			images = append(images, text)
			return nil
		})
	var fixed []string
	flags.Func("given", "a value that is given, `NAME[@ROW]=VALUE` in the chunk's units, in all rows or in one from 1; the rest is decoded around it", func(text string) error {
		fixed = append(fixed, text)
		return nil
	})
	dir := flags.String("bundle", "", "the policy bundle's `directory`")
	instruction := flags.String("instruction", "", "what to do, in `words`")
	given := parameterFlags(flags, map[string]string{
		"seed": "seed", "decode.preset": "preset", "decode.rounds": "rounds", "decode.schedule": "schedule", "decode.refresh": "refresh",
		"runtime.library": "library", "runtime.provider": "provider", "runtime.device": "device", "runtime.threads": "threads",
	})
	state := flags.String("state", "", "the robot's `state`: numbers with commas between in the bundle's proprio order and units, or a JSON file, or - for JSON from standard input, {\"left_joint1\": 0.1, ...}")
	out := flags.String("out", "", "draw the chunk to this `PNG` file, which is replaced")
	traced := flags.String("trace", "", "print how the chunk was decoded, round by round, and draw it to this `PNG` file, which is replaced")
	size := flags.String("size", "", "the drawing's size in pixels, `WIDTHxHEIGHT` (default by the number of dimensions)")
	asJSON := flags.Bool("json", false, "print JSON")

	_, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	if err := parse(flags, rest, 0, stdout); err != nil {
		return err
	}
	if *dir == "" {
		return usageError{errors.New("no bundle; --bundle names the directory that `ddvla export` wrote")}
	}
	*given = append(*given, "-p", "policy:="+param.String(*dir).String())
	if *instruction != "" {
		*given = append(*given, "-p", "instruction:="+param.String(*instruction).String())
	}
	// The flags come last, so that they count where a params file says otherwise.
	rosArgs, _, err := param.ParseArgs(slices.Concat(args, []string{"--ros-args"}, *given), os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	c, err := configure(rosArgs)
	if err != nil {
		return err
	}
	if c.settings.Instruction == "" {
		return usageError{errors.New("no instruction; say what to do: --instruction \"reach the red cube\"")}
	}
	// All that can be wrong with the command line, before minutes of loading.
	o := model.Observation{Stamp: time.Now(), Instruction: c.settings.Instruction}
	if o.Images, err = readImages(c.manifest, images); err != nil {
		return err
	}
	p := &prediction{Bundle: c.settings.Policy, Policy: c.manifest.Name, Instruction: o.Instruction, Seed: c.settings.Seed, Warnings: []string{}}
	for _, name := range c.set.Undeclared() {
		p.warn("unknown parameter %s ignored; `ddvla params` lists them", name)
	}
	if o.Proprio, err = p.readState(c, *state); err != nil {
		return err
	}
	width, height, err := drawingSize(c.manifest, *size)
	if err != nil {
		return usageError{err}
	}
	if *out != "" {
		if err := checkOut("--out", *out); err != nil {
			return usageError{err}
		}
	}
	if o.Known, err = p.readGiven(c.manifest, fixed); err != nil {
		return err
	}
	if *traced != "" {
		if c.manifest.Model.Head == bundle.L1Head {
			return usageError{fmt.Errorf("--trace: %w", node.ErrNotDecoded)}
		}
		if c.settings.Live.Decode.Preset == decode.Autoregressive {
			return usageError{fmt.Errorf("--trace: %w", node.ErrNoRounds)}
		}
		if err := checkOut("--trace", *traced); err != nil {
			return usageError{err}
		}
	}
	if err := p.infer(ctx, c, &o, stderr); err != nil {
		return err
	}
	if *asJSON {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", " ")
		err = encoder.Encode(p)
	} else {
		err = p.print(stdout)
	}
	if err != nil {
		return err
	}
	told := stdout
	if *asJSON {
		told = io.Discard
	}
	if *traced != "" {
		if err := p.trace.print(told); err != nil {
			return err
		}
		if err := p.trace.drawTo(*traced, told); err != nil {
			return err
		}
	}
	if *out == "" {
		return nil
	}
	if err := writePicture(*out, p.draw(width, height)); err != nil {
		return err
	}
	_, err = fmt.Fprintf(told, "drawing     %s, %dx%d\n", *out, width, height)
	return err
}

// parameterFlags adds a flag for each of the node's parameters that names has,
// by parameter. After parsing, the result holds them as ROS arguments, which
// check them as the node's are.
func parameterFlags(flags *flag.FlagSet, names map[string]string) *[]string {
	given := &[]string{}
	for _, d := range node.Parameters(nil) {
		name, ok := names[d.Name]
		if !ok {
			continue
		}
		usage := "the parameter `" + d.Name + "`: " + d.Meaning
		if a := allowed(d); a != "" {
			usage += " (" + a + ")"
		}
		flags.Func(name, usage, func(text string) error {
			if d.Default.Kind() == param.KindString {
				text = param.String(text).String() // quoted where YAML would take it for something else
			}
			*given = append(*given, "-p", d.Name+":="+text)
			return nil
		})
	}
	return given
}

// readImages reads the cameras' pictures in the manifest's order and tries each
// one's recipe on it.
func readImages(m *bundle.Manifest, given []string) ([]model.Image, error) {
	var cameras []string
	for _, c := range m.Cameras {
		cameras = append(cameras, c.Name)
	}
	wrong := func(format string, args ...any) error {
		return usageError{fmt.Errorf("--image: %s; the model takes %s", fmt.Sprintf(format, args...), strings.Join(cameras, ", "))}
	}
	files := make([]string, len(cameras))
	named := 0
	for i, text := range given {
		name, file, ok := strings.Cut(text, "=")
		if !ok || strings.Contains(name, "/") {
			if i < len(files) {
				files[i] = text
			}
			continue
		}
		named++
		at := slices.Index(cameras, name)
		switch {
		case at < 0:
			return nil, wrong("there is no camera %q", name)
		case named <= i:
			continue // a mix, refused below
		case files[at] != "":
			return nil, wrong("camera %q is given twice", name)
		case file == "":
			return nil, wrong("camera %q has no file", name)
		}
		files[at] = file
	}
	switch {
	case named > 0 && named < len(given):
		return nil, wrong("%d of %d have a camera's name; give all with NAME= or none", named, len(given))
	case named == 0 && len(given) != len(files):
		return nil, wrong("%d pictures, want %d, in this order or as NAME=FILE", len(given), len(files))
	}
	if missing := slices.Index(files, ""); missing >= 0 {
		return nil, wrong("no picture of camera %q", cameras[missing])
	}
	images := make([]model.Image, len(files))
	scratch := make([]byte, 3*m.Model.ImageSize*m.Model.ImageSize)
	for i, file := range files {
		data, err := vision.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("camera %q: %w", cameras[i], err)
		}
		pipeline, err := vision.New(m.Cameras[i])
		if err != nil {
			return nil, err
		}
		if err := pipeline.Compressed(data, scratch); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		images[i].Compressed = data
	}
	return images, nil
}

// prediction is what predict tells, and its JSON form. All numbers are in robot
// units; Values and Confidence have a row for each of Times.
type prediction struct {
	Policy      string             `json:"policy"`
	Bundle      string             `json:"bundle"`
	Instruction string             `json:"instruction"`
	Prompt      string             `json:"prompt"`           // as tokenised
	Head        bundle.Head        `json:"head,omitempty"`   // l1: nothing is decoded
	Preset      string             `json:"preset,omitempty"` // none with an L1 head
	MaxRounds   int                `json:"max_rounds"`
	Rounds      int                `json:"rounds"` // that ran
	Seed        int64              `json:"seed"`
	State       map[string]float64 `json:"state,omitempty"`
	Given       []string           `json:"given,omitempty"` // as --given says them
	ActionRate  float64            `json:"action_rate"`     // Hz
	Dims        []predictedDim     `json:"dims"`
	Times       []float64          `json:"times"` // s after the observation
	Values      [][]float64        `json:"values"`
	Confidence  [][]float32        `json:"confidence,omitempty"` // 0..1; none where the chunk has none
	Mean        float64            `json:"confidence_mean,omitempty"`
	Seconds     struct {
		Load       float64 `json:"load"`
		Preprocess float64 `json:"preprocess"`
		Inference  float64 `json:"inference"`
		Decode     float64 `json:"decode"`
	} `json:"seconds"`
	Warnings []string `json:"warnings"`

	trace *chunkTrace // nil with an L1 head
}

// predictedDim is a column of the chunk. Low and High are the least and the
// greatest value that the bins can say: the statistics' bounds, less half a bin,
// and for a gripper after its rule. With an L1 head they are the bounds themselves,
// beyond which it may go.
type predictedDim struct {
	Name  string       `json:"name"`
	Arm   string       `json:"arm"`
	Space bundle.Space `json:"space"`
	Unit  string       `json:"unit"`
	Low   float64      `json:"low"`
	High  float64      `json:"high"`
	// Start is where the joint is now; nil where the state does not tell.
	Start   *float64 `json:"start,omitempty"`
	gripper bool
}

// shownUnit tells changes from positions; a gripper's value is an opening.
func (d predictedDim) shownUnit() string {
	if d.Space == bundle.Joint || d.gripper {
		return d.Unit
	}
	return d.Unit + "/row"
}

func (p *prediction) warn(format string, args ...any) {
	p.Warnings = append(p.Warnings, fmt.Sprintf(format, args...))
}

// infer loads the policy and decodes a chunk.
func (p *prediction) infer(ctx context.Context, c *configuration, o *model.Observation, stderr io.Writer) (err error) {
	level := "warn"
	if asked := c.logLevel(); asked != "" {
		level = asked
	}
	log := consoleLogger(stderr, level)
	runtime := c.settings.Runtime
	runtime.Logger = log
	began := time.Now()
	pol, err := model.Open(ctx, c.settings.Policy, model.Options{
		Runtime: runtime, Decode: &c.settings.Live.Decode, Seed: uint64(c.settings.Seed),
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, pol.Close()) }()
	p.Seconds.Load = time.Since(began).Seconds()
	r, err := pol.Infer(ctx, o)
	if err != nil {
		return err
	}
	return p.take(pol, r)
}

// take fills p from a result.
func (p *prediction) take(pol *model.Policy, r *model.Result) error {
	m := pol.Manifest()
	if err := p.describe(m, pol.Codec()); err != nil {
		return err
	}
	d := pol.Decode()
	p.Prompt, p.Head, p.Preset, p.MaxRounds, p.Rounds = r.Prompt, m.Model.Head, string(d.Preset), d.Rounds, r.Rounds
	if p.Head == bundle.L1Head {
		p.Preset, p.MaxRounds = "", r.Rounds
	} else if d.Preset == decode.Autoregressive {
		p.MaxRounds = r.Rounds
	}
	p.Seconds.Preprocess = r.Timings.Preprocess.Seconds()
	p.Seconds.Inference = r.Timings.Inference.Seconds()
	p.Seconds.Decode = r.Timings.Decode.Seconds()
	c := r.Chunk
	p.ActionRate = c.Rate
	for t := range c.Rows() {
		p.Times = append(p.Times, float64(t+1)/c.Rate)
		p.Values = append(p.Values, c.At(t))
	}
	if c.Confidence != nil {
		all := make([]float64, len(c.Confidence))
		for i, x := range c.Confidence {
			all[i] = float64(x)
		}
		p.Mean = stat.Mean(all, nil)
		p.Confidence = slices.Collect(slices.Chunk(c.Confidence, c.Dims))
	}
	if r.Trace != nil {
		p.trace = &chunkTrace{title: "decoding of \"" + r.Prompt + "\"", names: c.Names, trace: r.Trace}
	}
	if p.Head == bundle.L1Head {
		p.warnBeyond()
	} else {
		p.warnEdges(m.Tokens.Bins)
	}
	return nil
}

// describe fills the columns; their ranges are what the lowest and the highest
// bin decode to or, with an L1 head, -1 and 1.
func (p *prediction) describe(m *bundle.Manifest, codec *action.Codec) error {
	ends := make([]*action.Chunk, 2)
	for i := range ends {
		var err error
		if n := m.Action.Tokens(); m.Model.Head == bundle.L1Head {
			ends[i], err = codec.ChunkFromRegression(slices.Repeat([]float32{float32(2*i - 1)}, n))
		} else {
			ends[i], err = codec.ChunkFromBins(slices.Repeat([]int64{int64(i * (m.Tokens.Bins - 1))}, n))
		}
		if err != nil {
			return err
		}
	}
	units := map[string]string{}
	if m.Proprio != nil {
		for _, d := range m.Proprio.Dims {
			units[d.Name] = d.Unit
		}
	}
	for i, d := range m.Action.Dims {
		a, b := ends[0].Values[i], ends[1].Values[i]
		dim := predictedDim{Name: d.Name, Arm: d.Arm, Space: d.Space, Unit: d.Unit, Low: min(a, b), High: max(a, b)}
		if d.Gripper != nil {
			dim.gripper, dim.Unit = true, "m" // after its rule
		}
		if now, ok := p.State[d.Name]; ok && d.Space == bundle.Joint && units[d.Name] == dim.Unit {
			dim.Start = &now
		}
		p.Dims = append(p.Dims, dim)
	}
	return nil
}

// warnEdges names the columns with values in the first or last bin, where the
// model may have wanted to go further than it can say. Grippers are left out:
// theirs is to be open or closed.
func (p *prediction) warnEdges(bins int) {
	for i, d := range p.Dims {
		if d.gripper || d.High <= d.Low {
			continue
		}
		half := (d.High - d.Low) / float64(bins-2) / 2
		for _, bound := range []float64{d.Low, d.High} {
			if rows := p.rowsWhere(i, func(v float64) bool { return math.Abs(v-bound) <= half }); rows != "" {
				p.warn("%s is at the edge of what the statistics let the model say (%.4f %s) in %s", d.Name, bound, d.Unit, rows)
			}
		}
	}
}

// warnBeyond names the columns in which an L1 head, which nothing bounds, goes
// further than the data set did.
func (p *prediction) warnBeyond() {
	for i, d := range p.Dims {
		if d.gripper {
			continue
		}
		// A float32 of the network cannot hit the bounds exactly.
		slack := 1e-6 * max(math.Abs(d.Low), math.Abs(d.High))
		if rows := p.rowsWhere(i, func(v float64) bool { return v < d.Low-slack || v > d.High+slack }); rows != "" {
			p.warn("%s is outside the statistics' %.4f to %.4f %s in %s", d.Name, d.Low, d.High, d.Unit, rows)
		}
	}
}

// rowsWhere says in which rows a column's value is so, or nothing.
func (p *prediction) rowsWhere(column int, is func(v float64) bool) string {
	rows, first := 0, 0.0
	for t, row := range p.Values {
		if !is(row[column]) {
			continue
		}
		if rows++; rows == 1 {
			first = p.Times[t]
		}
	}
	if rows == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d rows, first at %.3f s", rows, len(p.Values), first)
}

// readGiven turns what --given says into bins, in the chunk's shape, or nil where
// nothing is given.
func (p *prediction) readGiven(m *bundle.Manifest, given []string) ([]int64, error) {
	if len(given) == 0 {
		return nil, nil
	}
	if m.Model.Head == bundle.L1Head {
		return nil, usageError{fmt.Errorf("--given: %w", node.ErrNotDecoded)}
	}
	codec, err := action.New(&bundle.Bundle{Dir: p.Bundle, Manifest: *m})
	if err != nil {
		return nil, err
	}
	dims := len(m.Action.Dims)
	known := slices.Repeat([]int64{-1}, m.Action.Tokens())
	for _, text := range given {
		wrong := func(format string, args ...any) error {
			return usageError{fmt.Errorf("--given %s: %s", text, fmt.Sprintf(format, args...))}
		}
		place, number, ok := strings.Cut(text, "=")
		value, err := strconv.ParseFloat(number, 64)
		if !ok || err != nil {
			return nil, wrong("must be NAME=VALUE or NAME@ROW=VALUE with a number")
		}
		name, rowText, one := strings.Cut(place, "@")
		column := slices.IndexFunc(m.Action.Dims, func(d bundle.ActionDim) bool { return d.Name == name })
		if column < 0 {
			return nil, wrong("the chunk has no %q; `ddvla inspect` lists its dimensions", name)
		}
		first, last := 0, m.Action.Chunk-1
		if one {
			row, err := strconv.Atoi(rowText)
			if err != nil || row < 1 || row > m.Action.Chunk {
				return nil, wrong("the row must be 1..%d", m.Action.Chunk)
			}
			first, last = row-1, row-1
		}
		bin, err := codec.BinOf(column, value)
		if err != nil {
			return nil, wrong("%v", err)
		}
		for row := first; row <= last; row++ {
			if at := row*dims + column; known[at] < 0 {
				known[at] = bin
			} else {
				return nil, wrong("row %d of it is given twice", row+1)
			}
		}
	}
	p.Given = append([]string(nil), given...)
	return known, nil
}

// readState returns the model's robot state from --state, or nil where it takes
// none.
func (p *prediction) readState(c *configuration, text string) ([]float64, error) {
	m := c.manifest
	if m.Proprio == nil {
		if text != "" {
			p.warn("the model takes no robot state; --state is ignored")
		}
		return nil, nil
	}
	var names, expected []string
	for _, d := range m.Proprio.Dims {
		names = append(names, d.Name)
		expected = append(expected, d.Name+" "+d.Unit)
	}
	state, err := parseState(text, names)
	if err == nil {
		err = checkState(m.Proprio.Dims, state, c.settings.Control)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("--state: %w; the model takes %s", err, strings.Join(expected, ", "))}
	}
	p.State = map[string]float64{}
	for i, name := range names {
		p.State[name] = state[i]
	}
	return state, p.warnClipped(m, state)
}

// parseState reads what was given for --state, in the order of names.
func parseState(text string, names []string) ([]float64, error) {
	if text == "" {
		return nil, errors.New("is needed")
	}
	_, err := strconv.ParseFloat(text, 64)
	if err != nil && (text == "-" || strings.HasSuffix(text, ".json") || !strings.Contains(text, ",")) {
		return readStateFile(text, names)
	}
	fields := strings.Split(text, ",")
	if len(fields) != len(names) {
		return nil, fmt.Errorf("%d numbers, want %d", len(fields), len(names))
	}
	state := make([]float64, len(names))
	for i, field := range fields {
		if state[i], err = strconv.ParseFloat(strings.TrimSpace(field), 64); err != nil {
			return nil, fmt.Errorf("%s is %q, which is no number", names[i], field)
		}
	}
	return state, nil
}

// readStateFile reads a JSON object of names and numbers.
func readStateFile(path string, names []string) ([]float64, error) {
	in, from := os.Stdin, "standard input"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, from = f, path
	}
	values, err := readNumbers(in)
	if err != nil {
		return nil, fmt.Errorf("%s is no JSON object of names and numbers: %w", from, err)
	}
	state := make([]float64, len(names))
	var missing []string
	for i, name := range names {
		v, ok := values[name]
		if !ok {
			missing = append(missing, name)
		}
		state[i] = v
		delete(values, name)
	}
	switch {
	case len(missing) > 0 && len(values) > 0:
		return nil, fmt.Errorf("%s lacks %s and has %s too many", from, strings.Join(missing, ", "), strings.Join(sortedNames(values), ", "))
	case len(missing) > 0:
		return nil, fmt.Errorf("%s lacks %s", from, strings.Join(missing, ", "))
	case len(values) > 0:
		return nil, fmt.Errorf("%s has %s too many", from, strings.Join(sortedNames(values), ", "))
	}
	return state, nil
}

// readNumbers reads one flat JSON object. Package json alone would take null for
// zero and the last of two values.
func readNumbers(r io.Reader) (map[string]float64, error) {
	decoder := json.NewDecoder(r)
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	if token != json.Delim('{') {
		return nil, fmt.Errorf("it begins with %v", token)
	}
	values := map[string]float64{}
	for decoder.More() {
		key, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		name, ok := key.(string)
		if !ok {
			return nil, fmt.Errorf("%v is no name", key)
		}
		value, err := decoder.Token()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		v, ok := value.(float64)
		if !ok {
			return nil, fmt.Errorf("%s is %v", name, value)
		}
		if _, twice := values[name]; twice {
			return nil, fmt.Errorf("%s is there twice", name)
		}
		values[name] = v
	}
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows it")
	}
	return values, nil
}

// checkState refuses what no robot reports: numbers that are not finite, and
// joints of the Cobot Magic further beyond their limits than the node lets a
// target be (degrees for radians, millimetres for metres).
func checkState(dims []bundle.ProprioDim, state []float64, c control.Config) error {
	limits := map[string]control.Joint{}
	for _, arm := range c.Layout {
		for _, joint := range arm.Joints {
			limits[arm.Name+"_"+joint.Name] = joint
		}
	}
	for i, d := range dims {
		v := state[i]
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return fmt.Errorf("%s is %v", d.Name, v)
		}
		joint, ok := limits[d.Name]
		if !ok {
			continue
		}
		slack, hint := c.LimitStop, "are these degrees?"
		if joint.Gripper {
			slack, hint = c.GripperLimitStop, "are these millimetres?"
		}
		if v < joint.Limits.Lower-slack || v > joint.Limits.Upper+slack {
			return fmt.Errorf("%s is %g %s, out of its range of %.4g to %.4g (%s)", d.Name, v, d.Unit, joint.Limits.Lower, joint.Limits.Upper, hint)
		}
	}
	return nil
}

// warnClipped names the entries of the state that the model sees clipped.
func (p *prediction) warnClipped(m *bundle.Manifest, state []float64) error {
	s, err := action.LoadStatistics(filepath.Join(p.Bundle, bundle.StatisticsFile), m.Action.UnnormKey)
	if err != nil {
		return err
	}
	if s.Proprio == nil {
		return nil // model.Open refuses it
	}
	low, high := s.Proprio.Q01, s.Proprio.Q99
	if m.Action.Normalization == bundle.Bounds {
		low, high = s.Proprio.Min, s.Proprio.Max
	}
	for i, d := range m.Proprio.Dims {
		if i < min(len(low), len(high)) && (state[i] < low[i] || state[i] > high[i]) {
			p.warn("state %s is %.4f %s, outside the statistics' %.4f to %.4f; the model sees it clipped", d.Name, state[i], d.Unit, low[i], high[i])
		}
	}
	return nil
}

// print writes the prediction for people: what was done, then a table for each
// arm, whose columns would not fit a terminal side by side.
func (p *prediction) print(w io.Writer) error {
	line := func(name, format string, args ...any) {
		fmt.Fprintf(w, "%-11s %s\n", name, fmt.Sprintf(format, args...))
	}
	line("policy", "%q in %s", p.Policy, p.Bundle)
	line("prompt", "%q", p.Prompt)
	if p.Head == bundle.L1Head {
		line("decoding", "none: the L1 head gives values in one pass")
	} else if p.Preset == string(decode.Autoregressive) {
		line("decoding", "%s, %d tokens from left to right, seed %d", p.Preset, p.Rounds, p.Seed)
	} else {
		line("decoding", "%s, %d of at most %d rounds, seed %d", p.Preset, p.Rounds, p.MaxRounds, p.Seed)
	}
	if len(p.Given) > 0 {
		line("given", "%s", strings.Join(p.Given, ", "))
	}
	line("chunk", "%d rows of %d at %g Hz", len(p.Values), len(p.Dims), p.ActionRate)
	if p.Confidence != nil {
		least, row, column := p.leastConfidence()
		line("confidence", "mean %.3f, least %.3f (%s at %.3f s)", p.Mean, least, p.Dims[column].Name, p.Times[row])
	}
	line("took", "load %.1f s; preprocess %.1f ms, inference %.1f ms (the first, which also warms up), decode %.1f ms",
		p.Seconds.Load, 1e3*p.Seconds.Preprocess, 1e3*p.Seconds.Inference, 1e3*p.Seconds.Decode)
	for _, text := range p.Warnings {
		line("warning", "%s", text)
	}
	for _, columns := range byArm(p.Dims) {
		if err := p.printTable(w, columns); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

func (p *prediction) leastConfidence() (least float32, row, column int) {
	least = p.Confidence[0][0]
	for t, confidences := range p.Confidence {
		for i, c := range confidences {
			if c < least {
				least, row, column = c, t, i
			}
		}
	}
	return least, row, column
}

func (p *prediction) printTable(w io.Writer, columns []int) error {
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	row := func(first string, cell func(d predictedDim, i int) string) {
		fmt.Fprint(table, first, "\t")
		for _, i := range columns {
			fmt.Fprint(table, cell(p.Dims[i], i), "\t")
		}
		fmt.Fprintln(table)
	}
	row("time", func(d predictedDim, _ int) string { return d.Name })
	row("s", func(d predictedDim, _ int) string { return d.shownUnit() })
	if slices.ContainsFunc(columns, func(i int) bool { return p.Dims[i].Start != nil }) {
		row("now", func(d predictedDim, _ int) string {
			if d.Start == nil {
				return "-"
			}
			return fmt.Sprintf("%.4f", *d.Start)
		})
	}
	for t, values := range p.Values {
		row(fmt.Sprintf("%.3f", p.Times[t]), func(_ predictedDim, i int) string { return fmt.Sprintf("%.4f", values[i]) })
	}
	return table.Flush()
}

// byArm groups columns by their arm, in the order in which arms appear.
func byArm(dims []predictedDim) [][]int {
	var arms []string
	var groups [][]int
	for i, d := range dims {
		at := slices.Index(arms, d.Arm)
		if at < 0 {
			at = len(arms)
			arms, groups = append(arms, d.Arm), append(groups, nil)
		}
		groups[at] = append(groups[at], i)
	}
	return groups
}
