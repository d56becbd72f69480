package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddvla/ddvla/eval"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy/bundle"
)

// closedLoop runs `ddvla eval run` and reads the results.
func closedLoop(t *testing.T, out string, args ...string) eval.Results {
	t.Helper()
	status, stdout, stderr := call(t, append([]string{"eval", "run", "--out", out, "--json", "--jobs", "2"}, args...)...)
	if status != 0 {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var r eval.Results
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		t.Fatalf("%v:\n%s", err, stdout)
	}
	return r
}

func fileText(t *testing.T, parts ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(parts...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The committed policy does its task in worker processes, and its results are the same
// to the byte by one of them as by two; told wrongly it does something else.
func TestEvalRun(t *testing.T) {
	policy := []string{"--bundle", testbundle.Dir(t), "--tasks", "tiny-reach", "--episodes", "4", "--rounds", "3", "--preset", "official", "-p", "decode.token_temperature:=[0.2]"}
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	r := closedLoop(t, one, append(policy, "--jobs", "1")...)
	closedLoop(t, two, policy...)
	c, _ := r.Cell("tiny-reach", "none")
	if c.Episodes != 4 || c.Successes < 3 || c.Rounds != 3 || r.Setup.Policy != "tiny-reach" || r.Setup.Every != 4 || r.Setup.Pictures != "64x64/2" || len(r.Versions) != 1 {
		t.Errorf("%+v, %+v", c, r.Setup)
	}
	want := map[string]string{"decode.rounds": "3", "decode.preset": "official", "decode.token_temperature": "[0.2]"}
	if got, err := json.Marshal(r.Setup.Parameters); err != nil || len(r.Setup.Parameters) != len(want) || r.Setup.Parameters["decode.rounds"] != "3" || r.Setup.Parameters["decode.preset"] != "official" {
		t.Errorf("%s, %v", got, err)
	}
	for _, name := range []string{eval.ResultsFile, eval.MarkdownFile} {
		if a, b := fileText(t, one, name), fileText(t, two, name); a != b {
			t.Errorf("%s differs:\n%s\n%s", name, a, b)
		}
	}
	for _, name := range []string{eval.PageFile, eval.TimingsFile, eval.SetupFile} {
		if fileText(t, one, name) == "" {
			t.Errorf("%s is empty", name)
		}
	}
	// It is all there already: nothing is run, and other ways are refused.
	before := fileText(t, one, eval.JournalFile)
	closedLoop(t, one, append(policy, "--quiet")...)
	if fileText(t, one, eval.JournalFile) != before {
		t.Error("episodes were run again")
	}
	refused(t, 1, []string{one, "latency", "instructions", "wrong"}, append([]string{"eval", "run", "--out", one, "--latency", "100ms", "--instructions", "wrong"}, policy...)...)
	wrong := closedLoop(t, filepath.Join(t.TempDir(), "wrong"), append(policy, "--instructions", "wrong")...)
	if c, _ := wrong.Cell("", "none"); c.Successes > 1 {
		t.Errorf("with wrong instructions %d of 4", c.Successes)
	}
}

// Every way to decode of the paper's table runs, with the passes that it needs.
func TestEvalRunDecoders(t *testing.T) {
	l1 := testbundle.L1(t, make([]float32, 14))
	for name, c := range map[string]struct {
		args   []string
		rounds float64
	}{
		"parallel":       {[]string{"--decoder", "parallel"}, 1},
		"paper":          {[]string{"--decoder", "paper", "--rounds", "2"}, 2},
		"autoregressive": {[]string{"--decoder", "autoregressive", "--every", "40"}, 112},
		"refresh":        {[]string{"--rounds", "3", "--refresh", "3"}, 3},
		"hand-over":      {[]string{"--rounds", "2", "--hand-over", "infill", "--latency", "100ms"}, 2},
		"l1":             {[]string{"--bundle", l1}, 1},
		"large pictures": {[]string{"--rounds", "1", "--pictures", "160x120", "--samples", "1", "--servo-delay", "20ms", "--joint-noise", "0.001"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			args := append([]string{"--bundle", testbundle.Dir(t), "--tasks", "tiny-reach", "--episodes", "1"}, c.args...)
			r := closedLoop(t, t.TempDir(), args...)
			if cell, _ := r.Cell("", "none"); cell.Episodes != 1 || cell.Rounds != c.rounds || cell.Failed != 0 || cell.Chunks < 3 {
				t.Errorf("%+v", cell)
			}
		})
	}
}

// A robot's params file asks for an operator, of whom there is none beside simulated arms.
func TestEvalRunNeedsNoOperator(t *testing.T) {
	r := closedLoop(t, t.TempDir(), "--policy", "expert", "--tasks", "reach", "--episodes", "1", "-p", "deadman.topic:=/deadman")
	if c, _ := r.Cell("", "none"); c.Successes != 1 {
		t.Errorf("%+v", c)
	}
}

// An interrupt ends the run with what is done, and the same command goes on.
func TestEvalRunGoesOn(t *testing.T) {
	out := t.TempDir()
	args := []string{"eval", "run", "--bundle", testbundle.Dir(t), "--tasks", "tiny-reach", "--episodes", "60", "--rounds", "1", "--jobs", "1", "--out", out}
	p := start(t, args...)
	journal := filepath.Join(out, eval.JournalFile)
	lines := func() int {
		text, err := os.ReadFile(journal)
		if err != nil {
			return 0
		}
		return bytes.Count(text, []byte("\n"))
	}
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for lines() < 2 {
		select {
		case <-deadline.Done():
			t.Fatalf("nothing is done:\n%s", p.stderr)
		case <-time.After(10 * time.Millisecond):
		}
	}
	if err := p.end(syscall.SIGINT); err == nil || !strings.Contains(p.stderr.String(), "interrupted") {
		t.Errorf("%v, saying %s", err, p.stderr)
	}
	n := lines()
	if n < 2 || n >= 60 {
		t.Fatalf("%d episodes are done", n)
	}
	begun := fileText(t, journal)
	// The bundle is exported again by another version of the program, with the same files.
	again := testbundle.Copy(t, func(m *bundle.Manifest) { m.Source.Exporter += " later" })
	r := closedLoop(t, out, "--bundle", again, "--tasks", "tiny-reach", "--episodes", "8", "--rounds", "1")
	if len(r.Records) != 8 || r.Missing != 0 || !strings.HasPrefix(fileText(t, journal), begun) {
		t.Errorf("%d records, %d missing", len(r.Records), r.Missing)
	}
}

// A plan's tables are printed, runs that cells share are made once, and a bundle that
// is not there yet is told and can come later.
func TestEvalTables(t *testing.T) {
	out, later := t.TempDir(), filepath.Join(t.TempDir(), "bundle")
	plan := filepath.Join(t.TempDir(), "plan.json")
	text, err := json.Marshal(map[string]any{
		"title": "Baselines", "args": []string{"--tasks", "lift,reach", "--episodes", "2"},
		"tables": []any{
			map[string]any{"title": "First", "by_task": true, "columns": []any{
				map[string]any{"name": "none", "args": []string{"--perturb", "none"}}, map[string]any{"name": "light", "args": []string{"--perturb", "light"}},
			}, "rows": []any{
				map[string]any{"name": "expert", "args": []string{"--policy", "expert"}}, map[string]any{"name": "still", "args": []string{"--policy", "still"}},
				map[string]any{"name": "learned", "args": []string{"--bundle", later, "--tasks", "reach"}},
			}},
			map[string]any{"title": "Second", "rows": []any{map[string]any{"name": "again", "args": []string{"--policy", "expert"}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(plan, text, 0o644); err != nil {
		t.Fatal(err)
	}
	tables := func(more ...string) string {
		t.Helper()
		status, stdout, stderr := call(t, append([]string{"eval", "tables", "--plan", plan, "--out", out, "--jobs", "2", "--quiet"}, more...)...)
		if status != 0 {
			t.Fatal(stderr)
		}
		return stdout
	}
	if list := tables("--list"); strings.Count(list, "0 of 8 episodes done") != 2 || strings.Count(list, "not yet: First: learned") != 2 {
		t.Errorf("%s", list)
	}
	first := tables()
	for _, want := range []string{"| expert | 100 % (51–100) | 100 % (51–100) | 100 % | 100 % |", "| still | 0 % (0–49) | 0 % (0–49) | 0 % | 0 % |", "| learned | – | – |", "Not run: learned", "| again | 100 %"} {
		if !strings.Contains(first, want) {
			t.Errorf("%q is not in:\n%s", want, first)
		}
	}
	if first != fileText(t, out, tablesFile) {
		t.Error("the file is another")
	}
	if list := tables("--list"); strings.Count(list, "8 of 8 episodes done") != 2 {
		t.Errorf("%s", list)
	}
	// Another file that is not there is no bundle to come.
	status, _, stderr := call(t, "eval", "tables", "--plan", plan, "--out", out, "--quiet", "--", "--ros-args", "--params-file", "typo.yaml")
	if status != 2 || !strings.Contains(stderr, "typo.yaml") || fileText(t, out, tablesFile) != first {
		t.Errorf("status %d, %s", status, stderr)
	}
	if err := os.CopyFS(later, os.DirFS(testbundle.Dir(t))); err != nil {
		t.Fatal(err)
	}
	if all := tables("--", "--rounds", "1"); strings.Contains(all, "Not run") || strings.Contains(all, "| learned | – |") {
		t.Errorf("%s", all)
	}
}

// Where no terminal is, the progress is a line at the beginning and one at the end.
func TestEvalProgress(t *testing.T) {
	var b bytes.Buffer
	p := newProgress(&b)
	for done := range 4 {
		p.tell(eval.Progress{Done: done, Total: 3, Successes: done / 2, Left: time.Duration(3-done) * time.Minute})
	}
	p.end()
	if want := "0 of 3 episodes, about 3m0s left\n3 of 3 episodes, 33 % successes\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// The committed plan asks for what there is: only its bundles may be missing.
func TestCommittedTables(t *testing.T) {
	plan, err := filepath.Abs("../../policies/tables.json")
	if err != nil {
		t.Fatal(err)
	}
	read := func() (missing []string) {
		e := evalTables{plan: plan, out: "out", tables: nil}
		if err := e.read(); err != nil {
			t.Fatal(err)
		}
		for _, c := range e.cells {
			if c.run == nil {
				missing = append(missing, c.missing)
			}
		}
		return missing
	}
	t.Chdir(t.TempDir())
	if err := os.Mkdir("build", 0o755); err != nil {
		t.Fatal(err)
	}
	bundles := map[string]bool{}
	for missing := read(); len(missing) > 0; missing = read() {
		i := strings.Index(missing[0], "build/")
		if i < 0 {
			t.Fatal(missing[0])
		}
		name := strings.TrimRight(strings.Fields(missing[0][i:])[0], ":;")
		if bundles[name] {
			t.Fatalf("%s is there: %s", name, missing[0])
		}
		bundles[name] = true
		if err := os.Symlink(testbundle.Dir(t), name); err != nil {
			t.Fatal(err)
		}
	}
	if len(bundles) < 4 {
		t.Errorf("its bundles are %v", bundles)
	}
}

func TestEvalRunRefusesWhatIsWrong(t *testing.T) {
	dir, out := testbundle.Dir(t), t.TempDir()
	ok := []string{"eval", "run", "--out", out}
	with := func(args ...string) []string { return append(append([]string{}, ok...), args...) }
	refused(t, 2, []string{"--bundle", "--policy"}, ok...)
	refused(t, 2, []string{"--out"}, "eval", "run", "--policy", "still")
	refused(t, 2, []string{"both"}, with("--bundle", dir, "--policy", "still")...)
	refused(t, 2, []string{"--policy", `"best"`}, with("--policy", "best")...)
	refused(t, 2, []string{"--tasks", "juggle", "lift"}, with("--policy", "still", "--tasks", "juggle")...)
	refused(t, 2, []string{"--perturb", "dark", "vision"}, with("--policy", "still", "--perturb", "dark")...)
	refused(t, 2, []string{"--latency", "soon"}, with("--policy", "still", "--latency", "soon")...)
	refused(t, 2, []string{"--instructions", "none"}, with("--policy", "still", "--instructions", "none")...)
	refused(t, 2, []string{"--episodes"}, with("--policy", "still", "--episodes", "0")...)
	refused(t, 2, []string{"--pictures", "640"}, with("--bundle", dir, "--pictures", "640")...)
	refused(t, 2, []string{"--decoder", "best", "greedy"}, with("--bundle", dir, "--decoder", "best")...)
	refused(t, 2, []string{"--decoder", "decode.preset"}, with("--bundle", dir, "--decoder", "paper", "--preset", "greedy")...)
	refused(t, 2, []string{"dry_run"}, with("--policy", "still", "-p", "dry_run:=true")...)
	refused(t, 2, []string{"tiny-reach", "light"}, with("--policy", "still", "--tasks", "lift,tiny-reach", "--perturb", "none,light")...)
	refused(t, 2, []string{"--plan"}, "eval", "tables", "--out", out)
	refused(t, 2, []string{"tables.json", "parameter motion.speed_scal"}, "eval", "tables", "--plan", "../../policies/tables.json", "--out", out, "--", "-p", "motion.speed_scal:=0.2")
	refused(t, 2, []string{"tables", "run", `"plan"`}, "eval", "plan")
	refused(t, 1, []string{"camera", `"back"`}, with("--bundle", testbundle.Copy(t, func(m *bundle.Manifest) { m.Cameras[0].Name = "back" }), "--quiet", "--tasks", "tiny-reach")...)
}
