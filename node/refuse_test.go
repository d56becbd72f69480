package node

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/ros/param"
)

// refused starts a node that must not start, and checks that the error is one
// line which names what it must, and that nothing was said to anybody.
func refused(t *testing.T, dir string, is error, names []string, extra ...param.Assignment) {
	t.Helper()
	r, err := startRig(t, dir, extra...)
	if err == nil {
		t.Fatal("started")
	}
	if is != nil && !errors.Is(err, is) {
		t.Errorf("%v is no %q", err, is)
	}
	if missing, ok := contains(err.Error(), names...); !ok {
		t.Errorf("%v\ndoes not name %q", err, missing)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("more than one line:\n%v", err)
	}
	if len(r.sent) != 0 {
		t.Errorf("%d messages were published, the first on %s", len(r.sent), r.sent[0].topic)
	}
	if r.node != nil {
		t.Error("a node is left over")
	}
}

func TestBundleThatIsNotWholeIsRefused(t *testing.T) {
	same := func(*bundle.Manifest) {}
	for name, c := range map[string]struct {
		spoil func(dir string) error
		is    error
		names []string
	}{
		"missing weights": {
			func(dir string) error { return os.Remove(filepath.Join(dir, bundle.WeightsFile)) },
			bundle.ErrMissingFile, []string{bundle.WeightsFile, "export it anew"},
		},
		"missing manifest": {
			func(dir string) error { return os.Remove(filepath.Join(dir, bundle.ManifestFile)) },
			bundle.ErrMissingFile, []string{bundle.ManifestFile, "ddvla export"},
		},
		"wrong hash": {
			func(dir string) error {
				path := filepath.Join(dir, bundle.StatisticsFile)
				raw, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				return os.WriteFile(path, append(raw, '\n'), 0o644)
			},
			bundle.ErrHash, []string{bundle.StatisticsFile, "want", "have", "export the bundle anew"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := testbundle.Copy(t, same)
			if err := c.spoil(dir); err != nil {
				t.Fatal(err)
			}
			refused(t, dir, c.is, append(c.names, dir))
		})
	}
}

func TestGraphThatDisagreesWithTheManifestIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *bundle.Manifest)
		names  []string
	}{
		"shorter chunk":  {func(m *bundle.Manifest) { m.Action.Chunk = 7 }, []string{"policy.onnx", "known", "112", "98"}},
		"a camera fewer": {func(m *bundle.Manifest) { m.Cameras = m.Cameras[:2] }, []string{"policy.onnx", "images", "2", "3"}},
		"smaller pictures": {func(m *bundle.Manifest) {
			m.Model.ImageSize = 32
			for i := range m.Cameras {
				m.Cameras[i].Resize.Width, m.Cameras[i].Resize.Height = 32, 32
			}
		}, []string{"policy.onnx", "images", "32", "64"}},
		"no robot state": {func(m *bundle.Manifest) { m.Proprio = nil }, []string{"policy.onnx", "proprio"}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, testbundle.Copy(t, c.change), ort.ErrGraph, c.names)
		})
	}
}

func TestBundleForAnotherRobotIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *bundle.Manifest)
		names  []string
	}{
		"a joint this robot lacks": {
			func(m *bundle.Manifest) { m.Action.Dims[5].Name = "left_joint9" },
			[]string{`action column 5 "left_joint9"`, "no joint of that name"},
		},
		"a state in units that this robot does not tell": {
			func(m *bundle.Manifest) { m.Proprio.Dims[6].Unit = "1" },
			[]string{`"left_gripper" is in "1"`, `in "m"`},
		},
		"joints in units that this robot does not take": {
			func(m *bundle.Manifest) { m.Action.Dims[3].Unit = "1" },
			[]string{`"left_joint4" is in "1"`, `in "rad"`},
		},
		"a gripper in shares without a rule": {
			func(m *bundle.Manifest) { m.Action.Dims[6].Unit, m.Action.Dims[6].Gripper = "1", nil },
			[]string{`"left_gripper" is in "1"`, `in "m"`},
		},
		"tool deltas of which some have a unit": {
			func(m *bundle.Manifest) { tool(m); m.Action.Dims[4].Unit = "1" },
			[]string{`"left_pitch" is in "1"`, "all of them"},
		},
		"changes instead of positions": {
			func(m *bundle.Manifest) { m.Action.Dims[0].Space = bundle.JointDelta },
			[]string{"left_joint2", "all joint, all joint_delta or all ee_delta"},
		},
		"a state this robot lacks": {
			func(m *bundle.Manifest) { m.Proprio.Dims[3].Name = "torso" },
			[]string{"torso", "left_joint1..left_joint6"},
		},
		"a camera without a topic": {
			func(m *bundle.Manifest) { m.Cameras[1].Name = "chest" },
			[]string{`camera "chest"`, "cameras.chest.topic"},
		},
		"statistics of another data set": {
			func(m *bundle.Manifest) { m.Action.UnnormKey = "libero" },
			[]string{"libero", bundle.StatisticsFile},
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, testbundle.Copy(t, c.change), nil, c.names)
		})
	}
}

func TestRuntimeThatCannotBeUsedIsRefused(t *testing.T) {
	library := func(t *testing.T, source string) string {
		path := filepath.Join(t.TempDir(), "libonnxruntime.so")
		cc := exec.Command("cc", "-shared", "-fPIC", "-o", path, "-x", "c", "-")
		cc.Stdin = strings.NewReader(source)
		if out, err := cc.CombinedOutput(); err != nil {
			t.Fatalf("cc: %v\n%s", err, out)
		}
		return path
	}
	dir := t.TempDir()
	notLibrary := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(notLibrary, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	old := library(t, `static const char *version(void) { return "1.16.3"; }
static const struct { const void *(*api)(unsigned); const char *(*version)(void); } base = { 0, version };
const void *OrtGetApiBase(void) { return &base; }`)
	for name, c := range map[string]struct {
		path  string
		is    error
		names []string
	}{
		"missing":         {filepath.Join(dir, "none.so"), ort.ErrLibraryNotFound, []string{"none.so", "make setup", "runtime.library"}},
		"empty directory": {t.TempDir(), ort.ErrLibraryNotFound, []string{"libonnxruntime.so", "make setup"}},
		"no library":      {notLibrary, nil, []string{"notes.txt", "make setup"}},
		"another library": {library(t, "int nothing;"), nil, []string{"not ONNX Runtime", "make setup"}},
		"old":             {old, ort.ErrLibraryVersion, []string{old, "1.16.3", "1.24 or newer"}},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, testbundle.Dir(t), c.is, c.names, given("runtime.library", param.String(c.path)))
		})
	}
}

func TestProviderThatCannotBeHadIsRefused(t *testing.T) {
	refused(t, testbundle.Dir(t), ort.ErrProvider, []string{"cuda"}, given("runtime.provider", param.String("cuda")))
}

func TestFirstInstructionTheModelCannotBeGivenIsRefused(t *testing.T) {
	long := strings.Repeat("reach the red cube ", 100)
	refused(t, testbundle.Dir(t), text.ErrTooLong, []string{"parameter instruction"}, given("instruction", param.String(long)))
}

func TestParametersThatCannotBeRightAreRefused(t *testing.T) {
	for name, extra := range map[string][]param.Assignment{
		"decode threshold":      {given("decode.threshold", param.Doubles(0.1, 0.2))}, // two values for one round
		"no such file":          {given("urdf", param.String("/nowhere/robot.urdf"))},
		"limits.velocity":       {given("limits.velocity", param.Double(9))},
		"command_rate":          {given("command_rate", param.Double(1))},
		"limit_stop 0.1":        {given("limits.limit_stop", param.Double(0.1)), given("limits.limit_tolerance", param.Double(0.2))},
		"parameter record":      {given("record", param.String(testbundle.Dir(t)))}, // not empty
		"arms.left.state_topic": {given("arms.left.state_topic", param.String("not a topic"))},
		"cameras.head.topic":    {given("cameras.head.topic", param.String("a//b"))},
		"decode.preset":         {given("decode.preset", param.String("fast"))},
		"runtime.provider":      {given("runtime.provider", param.String("npu"))},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, testbundle.Dir(t), nil, []string{name}, extra...)
		})
	}
}
