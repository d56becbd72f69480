package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/eval"
	"github.com/ddvla/ddvla/policy/bundle"
)

// evalTables is what `ddvla eval tables` was asked for.
type evalTables struct {
	plan, out   string
	jobs        int
	list, quiet bool
	extra       []string // arguments of every run that come after the plan's

	tables *eval.TablePlan
	runs   []*tableRun
	cells  map[[3]int]*tableCell
}

// tableRun is a run that one or more cells are taken from.
type tableRun struct {
	*evalRun
	dir     string
	names   []string // of its cells
	results *eval.Results
	failed  error
}

type tableCell struct {
	run          *tableRun
	perturbation string
	missing      string // why there is no run
}

// Files that `ddvla eval tables` writes.
const (
	tablesFile = "tables.md"
	runsFolder = "runs"
)

// runEvalTables is `ddvla eval tables`: many runs, as a plan lists them, and the tables
// that they give.
func runEvalTables(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	flags := newFlags("eval tables", "--plan FILE --out DIR [FLAGS] [-- ARGUMENTS]\n"+
		"Makes the runs of a plan, each as `ddvla eval run` does, and prints the tables that they give (docs/eval.md). What is done already is not\n"+
		"done again, so that an interrupted one goes on, and a bundle that is not there yet can be added later. ARGUMENTS go to all runs.")
	t := evalTables{}
	flags.StringVar(&t.plan, "plan", "", "JSON `file` that lists tables, rows and columns")
	flags.StringVar(&t.out, "out", "", "`directory` of the runs and the tables")
	flags.IntVar(&t.jobs, "jobs", runtime.NumCPU(), "`n` worker processes at a time")
	flags.BoolVar(&t.list, "list", false, "list the runs and how much of each is done, and run none")
	flags.BoolVar(&t.quiet, "quiet", false, "print no progress")
	if i := slices.Index(args, "--"); i >= 0 {
		args, t.extra = args[:i], args[i+1:]
	}
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	switch {
	case t.plan == "":
		return usageError{errors.New("no plan; --plan names a JSON file")}
	case t.out == "":
		return usageError{errors.New("no directory; --out names one")}
	case t.jobs < 1:
		return usageError{fmt.Errorf("--jobs is %d, must be at least 1", t.jobs)}
	}
	if err := t.read(); err != nil {
		return err
	}
	if t.list {
		return t.print(stdout)
	}
	err := t.run(ctx, stderr)
	if ctx.Err() != nil {
		return err
	}
	var text bytes.Buffer
	if err := t.tables.Markdown(&text, t.cell); err != nil {
		return err
	}
	path := filepath.Join(t.out, tablesFile)
	if failed := os.WriteFile(path, text.Bytes(), 0o644); failed != nil {
		return errors.Join(err, failed)
	}
	_, failed := stdout.Write(text.Bytes())
	return errors.Join(err, failed)
}

// read takes the plan and finds the runs that its cells need: cells that differ in the
// perturbation alone share one.
func (t *evalTables) read() error {
	text, err := os.ReadFile(t.plan)
	if err != nil {
		return err
	}
	if t.tables, err = eval.ReadTablePlan(text); err != nil {
		return usageError{fmt.Errorf("%s: %w", t.plan, err)}
	}
	t.cells = map[[3]int]*tableCell{}
	for i, table := range t.tables.Tables {
		for row := range table.Rows {
			for column := range table.Columns {
				name := fmt.Sprintf("%s: %s, %s", table.Title, table.Rows[row].Name, table.Columns[column].Name)
				cell, err := t.add(name, slices.Concat(t.tables.CellArgs(i, row, column), t.extra))
				if err != nil {
					return fmt.Errorf("%s: %s: %w", t.plan, name, err)
				}
				t.cells[[3]int{i, row, column}] = cell
			}
		}
	}
	return nil
}

// add finds or makes the run of a cell.
func (t *evalTables) add(name string, args []string) (*tableCell, error) {
	e := &evalRun{}
	err := e.read(slices.Concat([]string{"--out", t.out}, args), io.Discard, io.Discard)
	switch {
	case errors.Is(err, fs.ErrNotExist) && e.bundle != "" && notThere(filepath.Join(e.bundle, bundle.ManifestFile)):
		return &tableCell{missing: err.Error()}, nil
	case err != nil:
		return nil, err
	case len(e.unknown) > 0:
		return nil, usageError{fmt.Errorf("there is no parameter %s; `ddvla params` lists them", strings.Join(e.unknown, ", "))}
	case len(e.plan.Perturbations) != 1:
		return nil, usageError{fmt.Errorf("--perturb names %d of them; a cell has one", len(e.plan.Perturbations))}
	}
	perturbation := e.plan.Perturbations[0]
	for _, r := range t.runs {
		if len(r.setup.Differences(e.setup)) == 0 && slices.Equal(r.plan.Tasks, e.plan.Tasks) && r.plan.Episodes == e.plan.Episodes && r.plan.Seed == e.plan.Seed && r.strips == e.strips {
			if !slices.Contains(r.plan.Perturbations, perturbation) {
				r.plan.Perturbations = append(r.plan.Perturbations, perturbation)
			}
			r.names = append(r.names, name)
			return &tableCell{run: r, perturbation: perturbation}, nil
		}
	}
	setup, err := json.Marshal(e.setup)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(setup)
	r := &tableRun{evalRun: e, names: []string{name}, dir: filepath.Join(t.out, runsFolder, e.setup.Policy+"-"+hex.EncodeToString(sum[:6]))}
	t.runs = append(t.runs, r)
	return &tableCell{run: r, perturbation: perturbation}, nil
}

func notThere(path string) bool {
	_, err := os.Stat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// run makes the runs one after the other. One that fails does not keep the others from
// being made.
func (t *evalTables) run(ctx context.Context, stderr io.Writer) error {
	var errs []error
	for i, r := range t.runs {
		progress := newProgress(stderr)
		run := eval.Run{Setup: r.setup, Plan: r.plan, Dir: r.dir, Jobs: t.jobs, Start: r.start}
		if !t.quiet {
			fmt.Fprintf(stderr, "run %d of %d, %s: %s\n", i+1, len(t.runs), filepath.Base(r.dir), strings.Join(r.names, "; "))
			run.Progress = progress.tell
		}
		r.results, r.failed = run.Do(ctx)
		progress.end()
		if ctx.Err() != nil {
			return r.failed
		}
		if r.failed != nil {
			errs = append(errs, fmt.Errorf("%s: %w", filepath.Base(r.dir), r.failed))
		}
	}
	return errors.Join(errs...)
}

// cell is what the tables show.
func (t *evalTables) cell(table, row, column int) eval.TableCell {
	c := t.cells[[3]int{table, row, column}]
	switch {
	case c.run == nil:
		return eval.TableCell{Missing: c.missing}
	case c.run.results == nil:
		return eval.TableCell{Missing: c.run.failed.Error()}
	}
	return eval.TableCell{Results: c.run.results, Perturbation: c.perturbation}
}

// print lists the runs.
func (t *evalTables) print(w io.Writer) error {
	var b strings.Builder
	for _, r := range t.runs {
		done, err := eval.Done(r.dir, r.setup, r.plan)
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%s: %d of %d episodes done; for %s\n", r.dir, done, len(r.plan.Keys()), strings.Join(r.names, "; "))
	}
	for i, table := range t.tables.Tables {
		for row := range table.Rows {
			for column := range table.Columns {
				if c := t.cells[[3]int{i, row, column}]; c.run == nil {
					fmt.Fprintf(&b, "not yet: %s: %s, %s: %s\n", table.Title, table.Rows[row].Name, table.Columns[column].Name, c.missing)
				}
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}
