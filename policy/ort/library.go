package ort

/*
#cgo LDFLAGS: -ldl
#include <dlfcn.h>
#include <stdlib.h>
#include <stdint.h>

// The two functions every libonnxruntime has had since 1.0, behind its one
// exported symbol.
typedef struct {
	const void *(*get_api)(uint32_t version);
	const char *(*version)(void);
} api_base;

static const char *library_version(void *symbol) {
	const api_base *base = ((const api_base *(*)(void))symbol)();
	return base ? base->version() : 0;
}
*/
import "C"

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"unsafe"
)

// minimumAPI is the ORT_API_VERSION of the binding (onnxruntime_go v1.27.0);
// ONNX Runtime 1.N offers the versions up to N.
const minimumAPI = 24

// testedVersion is what the project's set-up installs.
const testedVersion = "1.30.0"

// LibraryVariable names the library in the environment of the process.
const LibraryVariable = "DDVLA_ORT_LIBRARY"

var (
	// ErrLibraryNotFound says that there is no ONNX Runtime where Open looks.
	ErrLibraryNotFound = errors.New("ONNX Runtime library not found")
	// ErrLibraryVersion says that the ONNX Runtime found is too old.
	ErrLibraryVersion = errors.New("wrong ONNX Runtime version")
)

type library struct{ path, version string }

// fileNames are what a library is called, best first.
func fileNames() []string { return []string{"libonnxruntime.so", "libonnxruntime.so.1"} }

const libraryMend = "run `make setup`, or name libonnxruntime.so in $" + LibraryVariable + " or the parameter runtime.library"

// search is where a library may lie.
type search struct {
	explicit, variable      string // final if not empty
	executable, workingPath string
	// probe loads the library at a path or, for a bare name, wherever the
	// system's loader finds it.
	probe func(path string) (library, error)
}

// newSearch searches as Open describes.
func newSearch(explicit string) search {
	s := search{explicit: explicit, variable: os.Getenv(LibraryVariable), probe: probe}
	// A process without either directory has no libraries there.
	s.executable, _ = os.Executable()
	s.workingPath, _ = os.Getwd()
	return s
}

// find probes the first library there is.
func (s search) find() (library, error) {
	places, final := s.places()
	for _, path := range places {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			return s.probe(path)
		}
	}
	if !final {
		for _, name := range fileNames() {
			if lib, err := s.probe(name); err == nil || errors.Is(err, ErrLibraryVersion) {
				return lib, err
			}
			places = append(places, name+" (system's loader)")
		}
	}
	return library{}, fmt.Errorf("onnxruntime: %w; looked for it at %s; %s", ErrLibraryNotFound, strings.Join(places, ", "), libraryMend)
}

// places lists the files to look at, in order; final if there is nowhere else.
func (s search) places() (list []string, final bool) {
	for _, path := range []string{s.explicit, s.variable} {
		if path == "" {
			continue
		}
		path = filepath.Clean(path)
		if !filepath.IsAbs(path) {
			path = filepath.Join(s.workingPath, path)
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			return inDirectory(path), true
		}
		return []string{path}, true
	}
	if s.executable != "" {
		dir := filepath.Dir(s.executable)
		list = append(list, inDirectory(dir)...)
		list = append(list, inDirectory(filepath.Join(filepath.Dir(dir), "lib"))...)
	}
	for dir := s.workingPath; dir != ""; dir = filepath.Dir(dir) {
		list = append(list, inDirectory(filepath.Join(dir, ".deps", "onnxruntime"))...)
		if dir == filepath.Dir(dir) {
			break
		}
	}
	return list, false
}

func inDirectory(dir string) []string {
	var list []string
	for _, name := range fileNames() {
		list = append(list, filepath.Join(dir, name))
	}
	return list
}

// probe loads the library and asks its version, before the binding does: the
// binding's own error for an old library is a number. The library stays loaded,
// since threads of its own may outlive the last session.
func probe(path string) (library, error) {
	// dlerror tells of its own thread's failure only.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	name, symbol := C.CString(path), C.CString("OrtGetApiBase")
	defer C.free(unsafe.Pointer(name))
	defer C.free(unsafe.Pointer(symbol))
	handle := C.dlopen(name, C.RTLD_NOW|C.RTLD_LOCAL)
	if handle == nil {
		return library{}, fmt.Errorf("onnxruntime: library %s cannot be loaded: %s; %s", path, C.GoString(C.dlerror()), libraryMend)
	}
	get := C.dlsym(handle, symbol)
	if get == nil {
		C.dlclose(handle)
		return library{}, fmt.Errorf("onnxruntime: %s has no OrtGetApiBase, it is not ONNX Runtime; %s", path, libraryMend)
	}
	version := C.library_version(get)
	if version == nil {
		C.dlclose(handle)
		return library{}, fmt.Errorf("onnxruntime: %s does not tell its version; %s", path, libraryMend)
	}
	lib := library{path: path, version: C.GoString(version)}
	if err := lib.check(); err != nil {
		C.dlclose(handle)
		return library{}, err
	}
	return lib, nil
}

// check refuses a library that does not offer the API the binding asks for.
func (l library) check() error {
	major, rest, _ := strings.Cut(l.version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	if n, err := strconv.Atoi(minor); major != "1" || err != nil || n < minimumAPI {
		return fmt.Errorf("onnxruntime: %w: %s is version %q, this program needs 1.%d or newer (%s is tested); %s",
			ErrLibraryVersion, l.path, l.version, minimumAPI, testedVersion, libraryMend)
	}
	return nil
}
