package eval

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// What Setup.Instructions may be.
const (
	RightInstructions = "right"
	WrongInstructions = "wrong"
)

// Files of a run's directory that are written when it is over.
const (
	ResultsFile  = "results.json"
	MarkdownFile = "results.md"
	PageFile     = "results.html"
	TimingsFile  = "timings.json"
)

// Run is a run of episodes into a directory.
type Run struct {
	Setup Setup
	Plan  Plan
	// Dir is begun, or gone on with.
	Dir string
	// Jobs is how many workers there are at a time.
	Jobs int
	// Start starts one.
	Start func(context.Context) (Worker, error)
	// Progress is told how far it is; nil is not.
	Progress func(Progress)
}

// Progress is how far a run is.
type Progress struct {
	Done, Total int // episodes, with those of earlier processes
	Successes   int
	Took        time.Duration // of this process
	Left        time.Duration // expected, 0 before the first episode is done
}

// ErrLost says that episodes could not be run.
var ErrLost = errors.New("episodes could not be run")

// Do runs the episodes that the directory has not got and writes the results there. An
// interrupted run leaves what is done, and Do goes on from it. With ErrLost there are
// results all the same.
func (r *Run) Do(ctx context.Context) (_ *Results, err error) {
	store, err := OpenStore(r.Dir, r.Setup)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	all := r.Plan.Keys()
	var open []Key
	p := Progress{Total: len(all)}
	for _, k := range all {
		if record, ok := store.Record(k); ok {
			p.Done++
			if record.Success {
				p.Successes++
			}
		} else {
			open = append(open, k)
		}
	}
	began, before := time.Now(), p.Done
	tell := func() {
		if r.Progress != nil {
			r.Progress(p)
		}
	}
	tell()
	lost, err := Pool(ctx, open, r.Jobs, r.Start, func(reply Reply) error {
		if err := store.Add(reply.Record, reply.Strip); err != nil {
			return err
		}
		p.Done++
		if reply.Record.Success {
			p.Successes++
		}
		p.Took = time.Since(began)
		p.Left = p.Took / time.Duration(p.Done-before) * time.Duration(p.Total-p.Done)
		tell()
		return nil
	})
	if err != nil {
		return nil, err
	}
	results := NewResults(r.Setup, r.Plan, store, lost)
	if err := results.write(r.Dir); err != nil {
		return nil, err
	}
	if len(lost) > 0 {
		return results, fmt.Errorf("%d %w; the first one: %s, %s, seed %d: %s; the same command tries them again", len(lost), ErrLost, lost[0].Task, lost[0].Perturbation, lost[0].Seed, lost[0].Reason)
	}
	return results, nil
}

// write puts all forms of the results into a directory.
func (r *Results) write(dir string) error {
	for _, f := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{ResultsFile, r.WriteJSON}, {MarkdownFile, r.Markdown}, {TimingsFile, r.writeTimings},
		{PageFile, func(w io.Writer) error { return r.WriteHTML(w, os.DirFS(dir)) }},
	} {
		if err := writeWith(filepath.Join(dir, f.name), f.write); err != nil {
			return err
		}
	}
	return nil
}

// Done counts the episodes of a plan that a directory has, which need not be there. It
// changes nothing, and an evaluation may be writing there.
func Done(dir string, setup Setup, plan Plan) (n int, err error) {
	path := filepath.Join(dir, JournalFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(text) == 0 {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := check(dir, setup); err != nil {
		return 0, err
	}
	records, _, err := parse(path, text)
	for _, k := range plan.Keys() {
		if _, ok := records[k]; ok {
			n++
		}
	}
	return n, err
}
