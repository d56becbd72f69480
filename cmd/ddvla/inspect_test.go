package main

import (
	"bytes"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/policy/bundle"
)

// inspect returns what is printed, with single spaces.
func inspect(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var stdout bytes.Buffer
	err := runInspect(t.Context(), args, &stdout, io.Discard)
	return strings.Join(strings.Fields(stdout.String()), " "), err
}

func TestInspect(t *testing.T) {
	dir := testbundle.Copy(t, func(m *bundle.Manifest) {
		m.Cameras[1].PreResize = &bundle.Resize{Width: 256, Height: 256, Filter: bundle.Bicubic}
		m.Cameras[2].Rotation, m.Cameras[2].JPEGQuality, m.Cameras[2].CropArea = 180, 0, 1
	})
	text, err := inspect(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`policy "tiny-reach", manifest version 1`,
		"parameters in float32; 4 layers of width 128, 4 heads",
		"attention bidirectional; probabilities over the action vocabulary",
		"stop 2, pad 1024, mask 1025; bin k of 256 is 1023 - k",
		"SigLIP pixels mean [0.5 0.5 0.5], std [0.5 0.5 0.5]",
		"camera 1 wrist_left: bicubic to 256x256, JPEG quality 95, lanczos3 to 64x64, centre crop of 0.9 of the area",
		"camera 2 wrist_right: turned by 180 degrees, lanczos3 to 64x64 ",
		"chunk 8 rows of 14 at 20 Hz, 0.4 s",
		"action 6 left_gripper, joint, m; gripper in metres, closed 0 m, open 0.07 m",
		"option action-rate 20",
		"input images uint8[B,3,64,64,3]",
		"output logits float32[B,112,256]",
		"of weights and about",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if n := strings.Count(text, "as written"); n != 5 {
		t.Errorf("%d files are as written, want 5", n)
	}
	if strings.Contains(text, "lm_head") {
		t.Error("tensors are listed without --tensors")
	}
	if text, err = inspect(t, "--tensors", dir); err != nil || !strings.Contains(text, "language_model.lm_head.weight float32 [128 256] 131072 policy.onnx.data:") {
		t.Errorf("%v:\n%s", err, text)
	}
}

// All files that are wrong are named, and what can be said about the rest is.
func TestInspectNamesWhatIsWrong(t *testing.T) {
	dir := testbundle.Copy(t, func(*bundle.Manifest) {})
	if err := os.WriteFile(filepath.Join(dir, bundle.GraphFile), []byte("<html>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, bundle.TokenizerFile)); err != nil {
		t.Fatal(err)
	}
	text, err := inspect(t, dir)
	if !errors.Is(err, bundle.ErrHash) || !errors.Is(err, bundle.ErrMissingFile) || !strings.Contains(err.Error(), "2 of 5 files") ||
		strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{"policy.onnx: not an ONNX model", "MISSING", "WRONG", "step.onnx: ", "chunk 8 rows"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	var usage usageError
	if _, err := inspect(t); !errors.As(err, &usage) {
		t.Errorf("no bundle: %v", err)
	}
	if _, err := inspect(t, filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing bundle: %v", err)
	}
}

// Bins that are not uniform are told of, in their column.
func TestInspectTellsOfBinsOfOnesOwn(t *testing.T) {
	dir := testbundle.Copy(t, func(m *bundle.Manifest) {
		edges := []float64{-1}
		for k := range 256 {
			edges = append(edges, -1+2*math.Pow(float64(k+1)/256, 2))
		}
		m.Action.BinEdges = make([][]float64, len(m.Action.Dims))
		m.Action.BinEdges[2] = edges
	})
	status, stdout, stderr := call(t, "inspect", dir)
	if status != 0 {
		t.Fatal(stderr)
	}
	// (1/256)^2 and 1 - (255/256)^2 of the range.
	if want := "bins of its own, 3.1e-05 to 0.016 wide"; strings.Count(stdout, want) != 1 || !strings.Contains(stdout, "left_joint3, joint, rad; "+want) {
		t.Errorf("no %q in\n%s", want, stdout)
	}
}
