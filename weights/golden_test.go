package weights

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// -update rewrites the golden hashes:
//
//	go test ./weights -run Golden -update
var update = flag.Bool("update", false, "write the golden hashes anew")

const goldenHashes = "testdata/tiny-reach.sha256"

const goldenHeader = `# Each tensor of policy.onnx.data in the bundle of policies/tiny-reach: sha256, type, shape, name.
# Made by: go test ./weights -run Golden -update
# rope.cos and rope.sin are left out: they are computed, and processors round differently.
`

// The exported tensors have the bytes that they have always had, on every machine:
// each is the checkpoint's, widened from bfloat16, which is exact, and turned
// around.
func TestGoldenTensors(t *testing.T) {
	o := Defaults()
	o.Checkpoint, o.Out, o.ActionRate = "../policies/tiny-reach", filepath.Join(t.TempDir(), "bundle"), 20
	b := exported(t, o)
	got := hashTensors(t, b)
	if *update {
		if err := os.WriteFile(goldenHashes, []byte(goldenHeader+strings.Join(got, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(goldenHashes)
	if err != nil {
		t.Fatal(err)
	}
	text, ok := strings.CutPrefix(string(raw), goldenHeader)
	if !ok {
		t.Errorf("%s does not begin with its header", goldenHashes)
	}
	want := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	for _, line := range differentLines(want, got) {
		t.Error(line)
	}
	if t.Failed() {
		t.Log("if the change is meant, run this test with -update and say why in the commit")
	}
}

// differentLines names the tensors in which two lists differ.
func differentLines(want, got []string) []string {
	at := func(lines []string) map[string]string {
		all := map[string]string{}
		for _, line := range lines {
			rest, name, _ := cutLast(line, " ")
			all[name] = rest
		}
		return all
	}
	wanted, have := at(want), at(got)
	var faults []string
	for name, line := range wanted {
		switch now, ok := have[name]; {
		case !ok:
			faults = append(faults, fmt.Sprintf("%s is not in the bundle", name))
		case now != line:
			faults = append(faults, fmt.Sprintf("%s differs: want %s, got %s", name, line, now))
		}
	}
	for name, line := range have {
		if _, ok := wanted[name]; !ok {
			faults = append(faults, fmt.Sprintf("%s is new: %s", name, line))
		}
	}
	if len(faults) == 0 && !slices.Equal(want, got) {
		faults = append(faults, "the order of the tensors differs")
	}
	slices.Sort(faults)
	return faults
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// hashTensors lists the tensors of a bundle's weights in the order of the file.
func hashTensors(t *testing.T, b *bundle.Bundle) []string {
	t.Helper()
	d, err := onnx.Describe(b.Path(bundle.GraphFile))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(b.Path(bundle.WeightsFile))
	if err != nil {
		t.Fatal(err)
	}
	var stored []onnx.Tensor
	for _, tensor := range d.Tensors {
		if tensor.File == bundle.WeightsFile {
			stored = append(stored, tensor)
		}
	}
	slices.SortFunc(stored, func(a, b onnx.Tensor) int { return int(a.Offset - b.Offset) })
	var lines []string
	end := int64(0)
	for _, tensor := range stored {
		if tensor.Offset != onnx.Align(end) {
			t.Errorf("%s begins at %d, the one before ends at %d", tensor.Name, tensor.Offset, end)
		}
		end = tensor.Offset + tensor.Bytes
		if tensor.Name != cosName && tensor.Name != sinName {
			sum := sha256.Sum256(data[tensor.Offset:end])
			lines = append(lines, fmt.Sprintf("%s %s %v %s", hexSum(sum), tensor.Type, tensor.Dims, tensor.Name))
		}
	}
	if end != int64(len(data)) {
		t.Errorf("the last tensor ends at %d of %d bytes", end, len(data))
	}
	return lines
}

// One flipped bit, another shape, a tensor too many or too few is named.
func TestGoldenTensorsNameWhatDiffers(t *testing.T) {
	good := []string{"aa float32 [2 3] x.weight", "bb float32 [3] x.bias"}
	for want, lines := range map[string][]string{
		"":                             good,
		"x.weight differs: want aa":    {"ab float32 [2 3] x.weight", good[1]},
		"x.weight differs: want aa fl": {"aa float32 [3 2] x.weight", good[1]},
		"x.bias differs: want bb floa": {good[0], "bb float16 [3] x.bias"},
		"x.bias is not in the bundle":  good[:1],
		"y is new: cc":                 append(slices.Clone(good), "cc float32 [1] y"),
		"the order of the tensors":     {good[1], good[0]},
	} {
		got := strings.Join(differentLines(good, lines), "\n")
		if (want == "") != (got == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%q: got %q", lines, got)
		}
	}
}
