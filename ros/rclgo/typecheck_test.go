package rclgo

import (
	"errors"
	"fmt"
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// upstream is where packages are checked from source, with their cgo, instead of being compiled.
const upstream = "github.com/tiiuae/rclgo/"

// A checker type-checks packages that need ROS 2 headers on a machine without them: everything in C is
// taken as given (go/types' FakeImportC), everything in Go is checked.
type checker struct {
	fset    *token.FileSet
	context build.Context
	dirs    map[string]string // of packages below upstream
	exports types.Importer    // of all others
	done    map[string]*types.Package
}

// newChecker asks the go command for what the package in each dir imports, directly or not.
func newChecker(t *testing.T, dirs ...string) *checker {
	t.Helper()
	c := &checker{fset: token.NewFileSet(), context: build.Default, dirs: make(map[string]string), done: make(map[string]*types.Package)}
	c.context.BuildTags = []string{"rclgo"}
	c.context.CgoEnabled = true
	for path, dir := range goList(t, "{{.ImportPath}}\t{{.Dir}}", "-tags=rclgo", "-deps", "-e", ".") {
		if strings.HasPrefix(path, upstream) {
			c.dirs[path] = dir
			dirs = append(dirs, dir)
		}
	}
	if len(c.dirs) == 0 {
		t.Fatal("the go command knows no package of rclgo")
	}
	others := make(map[string]bool)
	for _, dir := range dirs {
		for _, f := range c.parse(t, dir) {
			for _, spec := range f.Imports {
				if path, err := strconv.Unquote(spec.Path.Value); err == nil && path != "C" && path != "unsafe" && !strings.HasPrefix(path, upstream) {
					others[path] = true
				}
			}
		}
	}
	args := []string{"-export", "-deps"}
	for path := range others {
		args = append(args, path)
	}
	files := goList(t, "{{.ImportPath}}\t{{.Export}}", args...)
	c.exports = importer.ForCompiler(c.fset, "gc", func(path string) (io.ReadCloser, error) {
		if files[path] == "" {
			return nil, fmt.Errorf("no export data of %s", path)
		}
		return os.Open(files[path])
	})
	return c
}

// goList returns what go list prints, as key and value separated by a tab.
func goList(t *testing.T, format string, args ...string) map[string]string {
	t.Helper()
	cmd := exec.Command("go", append([]string{"list", "-f", format}, args...)...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, &stderr)
	}
	list := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t"); ok {
			list[key] = value
		}
	}
	return list
}

// parse reads the files of dir that are compiled with the tag.
func (c *checker) parse(t *testing.T, dir string) (files []*ast.File) {
	t.Helper()
	p, err := c.context.ImportDir(dir, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range append(slices.Clone(p.GoFiles), p.CgoFiles...) {
		f, err := parser.ParseFile(c.fset, filepath.Join(dir, name), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// check returns the type errors of the package in dir, or with declarations only of those.
func (c *checker) check(t *testing.T, path, dir string, declarations bool) (pkg *types.Package, errs []error) {
	t.Helper()
	config := types.Config{
		FakeImportC:      true,
		IgnoreFuncBodies: declarations,
		Importer:         importerFunc(func(path string) (*types.Package, error) { return c.load(t, path) }),
		Error:            func(err error) { errs = append(errs, err) },
	}
	pkg, _ = config.Check(path, c.fset, c.parse(t, dir), nil)
	return pkg, errs
}

func (c *checker) load(t *testing.T, path string) (*types.Package, error) {
	dir, ours := c.dirs[path]
	if !ours {
		return c.exports.Import(path)
	}
	if pkg := c.done[path]; pkg != nil {
		return pkg, nil
	}
	// Upstream's function bodies look into C structs, of which nothing is known here.
	pkg, errs := c.check(t, path, dir, true)
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c.done[path] = pkg
	return pkg, nil
}

type importerFunc func(string) (*types.Package, error)

func (f importerFunc) Import(path string) (*types.Package, error) { return f(path) }

func TestAdapterTypeChecksAgainstRclgo(t *testing.T) {
	_, errs := newChecker(t, ".").check(t, "github.com/ddvla/ddvla/ros/rclgo", ".", false)
	for _, err := range errs {
		t.Error(err)
	}
}

func TestTypeCheckSeesMistakes(t *testing.T) {
	dir := filepath.Join("testdata", "broken")
	_, errs := newChecker(t, dir).check(t, "broken", dir, false)
	want := []string{
		"wrong type for method Close",
		"not enough arguments in call to n.NewPublisher",
		"n.Vanish undefined",
		"cannot use rclgo.Spin(context.Background()) (value of interface type error) as string value",
	}
	for _, w := range want {
		if !slices.ContainsFunc(errs, func(err error) bool { return strings.Contains(err.Error(), w) }) {
			t.Errorf("no error says %q", w)
		}
	}
	if len(errs) != len(want) {
		t.Errorf("%d errors, want %d: %v", len(errs), len(want), errors.Join(errs...))
	}
}
