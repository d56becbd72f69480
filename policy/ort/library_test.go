package ort

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

func open(t *testing.T, c Config) *Runtime {
	t.Helper()
	r, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestLibraryIsFoundAboveTheWorkingDirectory(t *testing.T) {
	r := open(t, Config{})
	if r.Version() != testedVersion {
		t.Errorf("version %s, want %s", r.Version(), testedVersion)
	}
	if !strings.Contains(r.Library(), filepath.Join(".deps", "onnxruntime")) {
		t.Errorf("found %s", r.Library())
	}
	again := open(t, Config{Library: filepath.Dir(r.Library())})
	if again.Library() != r.Library() {
		t.Errorf("found %s by its directory", again.Library())
	}
	if err := again.Close(); err != nil {
		t.Error(err)
	}
}

func TestMissingLibraryErrorListsThePlaces(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "libonnxruntime.so")
	_, err := Open(Config{Library: missing})
	if !errors.Is(err, ErrLibraryNotFound) || !strings.Contains(err.Error(), missing) {
		t.Errorf("explicit path: %v", err)
	}
	t.Setenv(LibraryVariable, dir)
	_, err = Open(Config{})
	if !errors.Is(err, ErrLibraryNotFound) || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), missing+".1") {
		t.Errorf("variable: %v", err)
	}
	nowhere := search{
		executable: filepath.Join(dir, "bin", "ddvla"), workingPath: filepath.Join(dir, "a", "b"),
		probe: func(path string) (library, error) { return library{}, errors.New("no such library") },
	}
	_, err = nowhere.find()
	if !errors.Is(err, ErrLibraryNotFound) {
		t.Fatal(err)
	}
	for _, place := range []string{
		filepath.Join(dir, "bin", "libonnxruntime.so"), filepath.Join(dir, "lib", "libonnxruntime.so.1"),
		filepath.Join(dir, "a", "b", ".deps", "onnxruntime", "libonnxruntime.so"), filepath.Join(dir, ".deps", "onnxruntime", "libonnxruntime.so"),
		"system's loader", "make setup", LibraryVariable,
	} {
		if !strings.Contains(err.Error(), place) {
			t.Errorf("%v does not name %s", err, place)
		}
	}
}

// fakeRuntime is C that answers as an ONNX Runtime of the given version does,
// and has no function table.
func fakeRuntime(version string) string {
	return `static const void *api(unsigned v) { return 0; }
static const char *version(void) { return "` + version + `"; }
static const struct { const void *(*a)(unsigned); const char *(*v)(void); } base = { api, version };
const void *OrtGetApiBase(void) { return &base; }`
}

// fakeLibrary compiles a shared library.
func fakeLibrary(t *testing.T, source string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "libonnxruntime.so")
	cmd := exec.Command("cc", "-shared", "-fPIC", "-o", path, "-x", "c", "-")
	cmd.Stdin = strings.NewReader(source)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("cc: %v\n%s", err, out)
	}
	return path
}

func TestWrongVersionErrorNamesFileAndVersions(t *testing.T) {
	path := fakeLibrary(t, fakeRuntime("1.16.3"))
	_, err := Open(Config{Library: path})
	if !errors.Is(err, ErrLibraryVersion) {
		t.Fatal(err)
	}
	for _, part := range []string{path, `"1.16.3"`, "1.24 or newer", testedVersion} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not name %s", err, part)
		}
	}
}

func TestVersions(t *testing.T) {
	for version, ok := range map[string]bool{
		"1.24.0": true, "1.30.0": true, "1.131.2": true, "1.23.2": false, "2.30.0": false, "": false, "1": false, "1.x": false,
	} {
		if err := (library{version: version}).check(); (err == nil) != ok {
			t.Errorf("%q: %v", version, err)
		}
	}
}

func TestNotALibraryIsAnError(t *testing.T) {
	other := fakeLibrary(t, "int nothing;")
	if _, err := Open(Config{Library: other}); err == nil || !strings.Contains(err.Error(), "it is not ONNX Runtime") {
		t.Errorf("another library: %v", err)
	}
	silent := fakeLibrary(t, "const void *OrtGetApiBase(void) { return 0; }")
	if _, err := Open(Config{Library: silent}); err == nil || !strings.Contains(err.Error(), "does not tell its version") {
		t.Errorf("a library without a table: %v", err)
	}
	text := filepath.Join(t.TempDir(), "libonnxruntime.so")
	if err := os.WriteFile(text, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Library: text}); err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("a text file: %v", err)
	}
}

// TestMinimumAPIIsTheBindings: the version asked for at run time is in the
// binding's header.
func TestMinimumAPIIsTheBindings(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Fatal(err)
	}
	header, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "onnxruntime_c_api.h"))
	if err != nil {
		t.Fatal(err)
	}
	have := regexp.MustCompile(`(?m)^#define ORT_API_VERSION (\d+)`).FindSubmatch(header)
	if have == nil || string(have[1]) != "24" || minimumAPI != 24 {
		t.Errorf("the binding asks for API %s, this package for %d", have, minimumAPI)
	}
}

func TestOneLibraryAProcess(t *testing.T) {
	r := open(t, Config{})
	other := fakeLibrary(t, fakeRuntime(testedVersion))
	if _, err := Open(Config{Library: other}); err == nil || !strings.Contains(err.Error(), r.Library()) {
		t.Errorf("a second library: %v", err)
	}
}

func TestConfigErrorsNameTheField(t *testing.T) {
	for part, c := range map[string]Config{
		"provider": {Provider: "gpu"}, "device": {Device: -1}, "threads": {Threads: -1},
	} {
		if _, err := Open(c); err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %v", part, err)
		}
	}
}

// Without a GPU no run can tell TensorFloat-32 from float32, so the setting is looked at.
func TestCUDAComputesInFloat32(t *testing.T) {
	if o := cudaOptions(3); o["use_tf32"] != "0" || o["device_id"] != "3" {
		t.Errorf("%v", o)
	}
}

func TestEnginesAreKeptUnderTheBundlesHash(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "engines")
	o, err := tensorRTOptions(Config{Device: 2, EngineCache: dir, EngineHash: "abc"})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"device_id": "2", "trt_engine_cache_enable": "1", "trt_engine_cache_path": dir, "trt_engine_cache_prefix": "abc",
		"trt_timing_cache_enable": "1", "trt_timing_cache_path": dir,
	} {
		if o[name] != want {
			t.Errorf("%s is %q, want %q", name, o[name], want)
		}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		t.Errorf("the directory was not made: %v", err)
	}
	t.Setenv("XDG_CACHE_HOME", filepath.Dir(dir))
	if o, err = tensorRTOptions(Config{}); err != nil || o["trt_engine_cache_path"] != filepath.Join(filepath.Dir(dir), "ddvla", "tensorrt") {
		t.Errorf("the default is %q, %v", o["trt_engine_cache_path"], err)
	}
	if _, ok := o["trt_engine_cache_prefix"]; ok {
		t.Error("an empty hash is given")
	}
	file := filepath.Join(filepath.Dir(dir), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := tensorRTOptions(Config{EngineCache: file}); err == nil || !strings.Contains(err.Error(), "runtime.engine_cache") {
		t.Errorf("a file as directory: %v", err)
	}
}

func TestProviderThatCannotBeHadIsFatal(t *testing.T) {
	for _, p := range []Provider{CUDA, TensorRT} {
		r := open(t, Config{Provider: p})
		_, err := r.options()
		if !errors.Is(err, ErrProvider) || !strings.Contains(err.Error(), string(p)) || !strings.Contains(err.Error(), "provider cpu (a node's runtime.provider)") {
			t.Errorf("%s: %v", p, err)
		}
	}
}

// Check tells without a graph what loading one would.
func TestCheckTellsWhatLoadingWould(t *testing.T) {
	float32s, bfloat16s := &bundle.Bundle{}, &bundle.Bundle{Manifest: bundle.Manifest{Model: bundle.Model{Precision: bundle.BFloat16}}}
	cpu := open(t, Config{})
	if err := cpu.Check(float32s); err != nil {
		t.Error(err)
	}
	if err := cpu.Check(bfloat16s); !errors.Is(err, ErrProvider) || !strings.Contains(err.Error(), "bfloat16") {
		t.Errorf("bfloat16 on the CPU: %v", err)
	}
	if err := open(t, Config{Provider: CUDA}).Check(float32s); !errors.Is(err, ErrProvider) {
		t.Errorf("CUDA without its library: %v", err)
	}
}
