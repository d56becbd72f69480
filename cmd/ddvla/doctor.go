package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/doctor"
	model "github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/param"
	"github.com/ddvla/ddvla/ros/playback"
	"github.com/ddvla/ddvla/weights/onnx"
)

// examination is what `ddvla doctor` was asked for.
type examination struct {
	bag, sheet, known string
	duration          time.Duration
	load, json        bool
	backend           *backend
	stderr            io.Writer
}

// Exit statuses of `ddvla doctor` beside those of every subcommand.
const (
	doctorWarned = 3
	doctorFailed = 4
)

// runDoctor is `ddvla doctor`: looks whether robot or recording, bundle, machine and
// network fit each other, and moves nothing.
func runDoctor(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("doctor", "[BAG] [--sheet PNG] [--duration D] [--known FILE] [--load] [--json] --ros-args -p policy:=BUNDLE [-p NAME:=VALUE] [--params-file FILE] [-r FROM:=TO]\n"+
		"Looks whether cameras, joints, instruction, machine and network fit a policy, on a recorded bag or on the robot, and publishes nothing.\n"+
		"Exit status: 0 nothing worse than a note, 3 warnings, 4 errors, 1 it could not look, 2 wrong usage.")
	e := examination{stderr: stderr}
	flags.StringVar(&e.sheet, "sheet", "", "draw what each camera sends and what the model sees of it to this `PNG` file, which is replaced")
	flags.DurationVar(&e.duration, "duration", 5*time.Second, "how long to listen to a robot; of a bag, how much of it, 0 (its default) is all")
	flags.StringVar(&e.known, "known", "", "a `file` with the training data's instructions, one a line, to tell unseen words")
	flags.BoolVar(&e.load, "load", false, "load the policy, too, and time a chunk; a large one takes minutes")
	flags.BoolVar(&e.json, "json", false, "print JSON")
	e.backend = backendFlag(flags)
	rosArgs, rest, err := param.ParseArgs(args, os.ReadFile)
	if err != nil {
		return usageError{err}
	}
	most := 1
	if len(rest) > 0 && !strings.HasPrefix(rest[0], "-") {
		e.bag, rest, most = rest[0], rest[1:], 0
	}
	if err := parse(flags, rest, most, stdout); err != nil {
		return err
	}
	if e.bag == "" {
		e.bag = flags.Arg(0)
	}
	given := false
	flags.Visit(func(f *flag.Flag) { given = given || f.Name == "duration" })
	switch {
	case e.duration < 0 || e.duration == 0 && e.bag == "":
		return usageError{fmt.Errorf("--duration is %v, must be more than 0", e.duration)}
	case e.bag != "" && !given:
		e.duration = 0
	}
	if e.sheet != "" {
		if err := checkOut("--sheet", e.sheet); err != nil {
			return usageError{err}
		}
	}
	report, views, err := e.run(ctx, rosArgs)
	if err != nil {
		return err
	}
	if e.sheet != "" {
		if err := writePicture(e.sheet, contactSheet(views)); err != nil {
			return err
		}
	}
	if e.json {
		encoder := json.NewEncoder(stdout)
		encoder.SetIndent("", " ")
		encoder.SetEscapeHTML(false) // pieces such as <s>
		err = encoder.Encode(report)
	} else if err = report.Print(stdout); err == nil && e.sheet != "" {
		_, err = fmt.Fprintf(stdout, "contact sheet: %s\n", e.sheet)
	}
	if err != nil {
		return err
	}
	switch report.Worst() {
	case doctor.Error:
		return statusError{doctorFailed, fmt.Errorf("errors to mend before the arms move: %d", report.Counts["error"])}
	case doctor.Warning:
		return statusError{doctorWarned, fmt.Errorf("warnings to look at before the arms move: %d", report.Counts["warning"])}
	}
	return nil
}

// run listens and examines.
func (e *examination) run(ctx context.Context, args *param.Args) (report *doctor.Report, views []doctor.View, err error) {
	var reader *bag.Reader
	var extra []param.Assignment
	if e.bag != "" {
		if reader, err = bag.Open(e.bag); err != nil {
			return nil, nil, err
		}
		r := replay{reader: reader}
		extra = r.compressedCameras()
		args.Remaps = append(args.Remaps, r.instructionRemap()...)
	}
	c, err := configure(args, extra...)
	if err != nil {
		return nil, nil, err
	}
	k := &doctor.Case{Source: "live", Live: reader == nil, Settings: c.settings, Manifest: c.manifest, Node: c.names.FullyQualified()}
	for _, name := range c.set.Undeclared() {
		k.Failures = append(k.Failures, doctor.Finding{Code: "parameter-unknown", Severity: doctor.Warning, About: name,
			Sentence: fmt.Sprintf("the node has no parameter %s and ignores it", name), Mend: "`ddvla params` lists them"})
	}
	if k.Known, err = e.readKnown(); err != nil {
		return nil, nil, err
	}
	e.open(k)
	topics, err := doctor.TopicsOf(c.settings, c.manifest, c.names)
	if err != nil {
		return nil, nil, err
	}
	if reader != nil {
		k.Source = e.bag
		err = e.playBag(ctx, k, topics, reader)
	} else {
		err = e.listen(ctx, k, topics, c)
	}
	if err != nil {
		return nil, nil, err
	}
	k.Machine = e.machine(ctx, k, c)
	return doctor.Examine(k), k.Listener.Views(), nil
}

func (e *examination) readKnown() (known []string, err error) {
	if e.known == "" {
		return nil, nil
	}
	f, err := os.Open(e.known)
	if err != nil {
		return nil, fmt.Errorf("--known: %w", err)
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		if line := strings.TrimSpace(lines.Text()); line != "" {
			known = append(known, line)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("--known: %w", err)
	}
	if len(known) == 0 {
		return nil, usageError{fmt.Errorf("--known: %s holds no instruction", e.known)}
	}
	return known, nil
}

// open reads the small files of the bundle; what cannot be read is a finding.
func (e *examination) open(k *doctor.Case) {
	dir, m := k.Settings.Policy, k.Manifest
	failed := func(file string, err error) {
		if err != nil {
			k.Failures = append(k.Failures, doctor.Finding{Code: "bundle-file", Severity: doctor.Error, About: file,
				Sentence: err.Error(), Mend: "export the bundle anew, or copy the whole directory again; `ddvla inspect` checks every file"})
		}
	}
	for _, name := range m.FileNames() {
		if name == bundle.StatisticsFile || name == bundle.TokenizerFile {
			failed(name, bundle.CheckFile(dir, name, m.Files[name]))
		} else if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			failed(name, err)
		}
	}
	// The codec finds out whether they fit the manifest.
	_, err := action.New(&bundle.Bundle{Dir: dir, Manifest: *m})
	if err == nil {
		k.Statistics, err = action.LoadStatistics(filepath.Join(dir, bundle.StatisticsFile), m.Action.UnnormKey)
	}
	failed(bundle.StatisticsFile, err)
	k.Tokenizer, err = text.Open(filepath.Join(dir, bundle.TokenizerFile), m.Prompt, m.Tokens)
	failed(bundle.TokenizerFile, err)
}

// playBag feeds a recording to the listener, as much as was asked for.
func (e *examination) playBag(ctx context.Context, k *doctor.Case, topics doctor.Topics, reader *bag.Reader) (err error) {
	rn, err := playback.New(ros.Options{Name: "_ddvla_doctor"}, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	if k.Listener, err = doctor.Listen(rn, k.Settings, k.Manifest, topics); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Listener.Close()) }()
	k.Have = reader.Topics()
	var first time.Time
	wrong := map[string]bool{}
	for m, err := range reader.Messages(ctx) {
		var damaged *bag.DamagedError
		switch {
		case errors.As(err, &damaged):
			// What could be read is worth looking at.
			k.Failures = append(k.Failures, doctor.Finding{Code: "bag-damaged", Severity: doctor.Warning, About: e.bag,
				Sentence: err.Error(), Mend: "end recordings with Ctrl-C and let them finish; what could be read is judged here"})
			return nil
		case err != nil:
			return err
		}
		if first.IsZero() {
			first = m.Time
		}
		k.Listened = m.Time.Sub(first)
		if e.duration > 0 && k.Listened > e.duration {
			k.Listened = e.duration
			break
		}
		k.Now = m.Time
		rn.SetTime(m.Time)
		if wrong[m.Topic] {
			continue
		}
		if err := rn.Feed(m.Topic, m.Type, m.Data, m.Time); err != nil {
			wrong[m.Topic] = true
			k.Failures = append(k.Failures, doctor.Finding{Code: "topic-type", Severity: doctor.Error, About: m.Topic,
				Sentence: err.Error(), Mend: "choose the topic of that type; names of compressed pictures' topics end in /compressed"})
		}
	}
	return nil
}

// listen listens to a robot for a while.
func (e *examination) listen(ctx context.Context, k *doctor.Case, topics doctor.Topics, c *configuration) (err error) {
	// Names are resolved already, and remap rules must apply once. A name that begins
	// with _ is hidden from `ros2 node list`.
	options := c.options
	options.Name, options.Remaps, options.Logger = "_ddvla_doctor", nil, consoleLogger(e.stderr, "error")
	rn, err := e.backend.node(ctx, options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rn.Close()) }()
	if c.set.Values().Bool(param.SimTime) {
		if err := rn.UseSimTime(true); err != nil {
			return err
		}
	}
	if k.Listener, err = doctor.Listen(rn, k.Settings, k.Manifest, topics); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, k.Listener.Close()) }()
	began := time.Now()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(e.duration):
	}
	k.Now, k.Listened = rn.Now(), time.Since(began)
	grapher, ok := rn.(ros.Grapher)
	if !ok {
		return nil
	}
	graph, err := grapher.Graph()
	if err != nil {
		return err
	}
	for _, g := range graph {
		if g.Name == rn.Name() {
			continue
		}
		k.Graph = append(k.Graph, g)
		for _, p := range g.Publishes {
			k.Have = append(k.Have, bag.Topic{Name: p.Name, Type: p.Type})
		}
	}
	// Subscriptions tell who reaches them only while they are open.
	k.Listener.Peers()
	return nil
}

// machine looks at runtime and memory and, where asked, makes a chunk.
func (e *examination) machine(ctx context.Context, k *doctor.Case, c *configuration) *doctor.Machine {
	m := &doctor.Machine{}
	config := c.settings.Runtime
	config.Logger = consoleLogger(e.stderr, "error")
	runtime, err := ort.Open(config)
	if err == nil {
		m.Library, m.Version = runtime.Library(), runtime.Version()
		err = errors.Join(runtime.Check(&bundle.Bundle{Dir: c.settings.Policy, Manifest: *c.manifest}), runtime.Close())
	}
	m.Failure = err
	m.ReadMemory(ctx, config.Provider, config.Device)
	m.ReadReceiveBuffer()
	if g, err := onnx.Describe(filepath.Join(c.settings.Policy, bundle.GraphFile)); err != nil {
		k.Failures = append(k.Failures, doctor.Finding{Code: "bundle-file", Severity: doctor.Error, About: bundle.GraphFile,
			Sentence: err.Error(), Mend: "export the bundle anew"})
	} else {
		m.Needed = uint64(storedBytes(g) + runningBytes(c.manifest, g))
	}
	if e.load && m.Failure == nil {
		m.Load, m.Chunk, m.Failure = e.try(ctx, config, c)
	}
	return m
}

// try loads the policy and times one chunk, the second one: the first chooses kernels
// and takes memory.
func (e *examination) try(ctx context.Context, config ort.Config, c *configuration) (load, chunk float64, err error) {
	began := time.Now()
	pol, err := model.Open(ctx, c.settings.Policy, model.Options{Runtime: config, Decode: &c.settings.Live.Decode, Seed: uint64(c.settings.Seed)})
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, pol.Close()) }()
	if err := pol.Warm(ctx); err != nil {
		return 0, 0, err
	}
	load = time.Since(began).Seconds()
	began = time.Now()
	err = pol.Warm(ctx)
	return load, time.Since(began).Seconds(), err
}

// storedBytes is what the weights of a graph take.
func storedBytes(g *onnx.Description) (stored int64) {
	for _, t := range g.Tensors {
		stored += t.Bytes
	}
	return stored
}
