package control

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// page reads docs/safety.md.
func page(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "docs", "safety.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// parsed returns the syntax of a package's test files.
func parsed(t *testing.T, name string) []*ast.File {
	t.Helper()
	names, err := filepath.Glob(filepath.Join("..", name, "*_test.go"))
	if err != nil || len(names) == 0 {
		t.Fatalf("package %s has no tests: %v", name, err)
	}
	var files []*ast.File
	for _, n := range names {
		f, err := parser.ParseFile(token.NewFileSet(), n, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

func TestEveryPromiseHasItsTests(t *testing.T) {
	tests := map[string]bool{}
	for name, dir := range map[string]string{"control": "control", "node": "node", "ddvla": "cmd/ddvla"} {
		for _, f := range parsed(t, dir) {
			for _, d := range f.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
					tests[name+"."+fn.Name.Name] = true
				}
			}
		}
	}
	row := regexp.MustCompile(`(?m)^\| (\d+) \| (.+) \| (.+) \|$`)
	named := regexp.MustCompile("`(\\w+\\.Test\\w+)`")
	rows := row.FindAllStringSubmatch(page(t), -1)
	if len(rows) < 30 {
		t.Fatalf("only %d promises found", len(rows))
	}
	for i, r := range rows {
		if r[1] != fmt.Sprint(i+1) {
			t.Errorf("promise %d is numbered %s", i+1, r[1])
		}
		if len(named.FindAllString(r[3], -1)) == 0 {
			t.Errorf("promise %s has no test: %s", r[1], r[2])
		}
	}
	for _, m := range named.FindAllStringSubmatch(page(t), -1) {
		if !tests[m[1]] {
			t.Errorf("docs/safety.md names %s, which is not there", m[1])
		}
	}
}

// What the judge of the scenarios calls a promise is one of the page's, in italics,
// and the other way round.
func TestTheJudgeKnowsThePromises(t *testing.T) {
	judged := map[string]bool{}
	for _, f := range parsed(t, "control") {
		ast.Inspect(f, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if fn, ok := call.Fun.(*ast.SelectorExpr); ok && fn.Sel.Name == "fault" && len(call.Args) > 1 {
				if name, ok := call.Args[0].(*ast.BasicLit); ok {
					judged[strings.Trim(name.Value, `"`)] = true
				}
			}
			return true
		})
	}
	told := map[string]bool{}
	table := regexp.MustCompile(`(?m)^\| \d+ \|.*$`)
	italics := regexp.MustCompile(`\*([a-z][^*]+)\*`)
	for _, line := range table.FindAllString(page(t), -1) {
		for _, m := range italics.FindAllStringSubmatch(line, -1) {
			told[m[1]] = true
		}
	}
	if len(judged) < 20 {
		t.Fatalf("only %d promises of the judge found", len(judged))
	}
	for p := range judged {
		if !told[p] {
			t.Errorf("the judge holds commands against %q, which docs/safety.md does not promise", p)
		}
	}
	for p := range told {
		if !judged[p] {
			t.Errorf("docs/safety.md says that the judge knows %q", p)
		}
	}
}

// kind is what follows from a code.
func kind(c Code) string {
	switch {
	case c.Halts():
		return "halt"
	case c.Latched():
		return "stop"
	case c.Drops():
		return "drop"
	case c >= ClampedPosition && c <= LimitedBrake:
		return "limit"
	}
	return "news"
}

func TestTheSafetyPageListsEveryCode(t *testing.T) {
	var table strings.Builder
	table.WriteString("| code | | |\n|---|---|---|\n")
	for c := range Code(Codes()) {
		fmt.Fprintf(&table, "| `%v` | %s | %s |\n", c, kind(c), c.Sentence())
	}
	if !strings.Contains(page(t), table.String()) {
		t.Errorf("docs/safety.md does not hold the codes as they are:\n\n%s", table.String())
	}
}

// Nothing that drives arms knows the names by which a driver's power is cut: the
// enable_flag and enable_srv of piper_single_ctrl, and what they lead to.
func TestNothingInTheProgramDisablesADriver(t *testing.T) {
	read := 0
	for _, dir := range []string{"control", "node", "ros", "msgs", "cmd", "launch", "params"} {
		err := filepath.WalkDir(filepath.Join("..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			switch filepath.Ext(path) {
			case ".go", ".py", ".yaml", ".xml":
			default:
				return nil
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			read++
			for _, name := range []string{"enable_flag", "enable_srv", "DisableArm", "disable_arm", "enable_agx_arm"} {
				if strings.Contains(string(b), name) {
					t.Errorf("%s speaks of %s", path, name)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if read < 100 {
		t.Fatalf("only %d files were read", read)
	}
}

func TestWithoutLimitsThereIsNoExecutor(t *testing.T) {
	if _, err := New(Config{}); err == nil {
		t.Error("made of nothing")
	}
	if _, err := New(DefaultConfig(nil)); err == nil {
		t.Error("made without arms")
	}
	for name, change := range map[string]func(*Limits){
		"position":     func(l *Limits) { l.Lower, l.Upper = 0, 0 },
		"velocity":     func(l *Limits) { l.Velocity = 0 },
		"acceleration": func(l *Limits) { l.Acceleration = 0 },
		"deceleration": func(l *Limits) { l.Deceleration = 0 },
		"jerk":         func(l *Limits) { l.Jerk = 0 },
		"step":         func(l *Limits) { l.Step = 0 },
		"all":          func(l *Limits) { *l = Limits{} },
	} {
		c := DefaultConfig(cobotMagic())
		change(&c.Layout[1].Joints[4].Limits)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), "joint5") {
			t.Errorf("without %s: %v", name, err)
		}
	}
}
