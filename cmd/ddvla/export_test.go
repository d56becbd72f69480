package main

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
)

func TestExportMakesABundle(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bundle")
	var stdout bytes.Buffer
	err := runExport(t.Context(), []string{
		"--checkpoint", "../../policies/tiny-reach", "--out", out, "--action-rate", "20", "--preset", "paper", "--rounds", "6", "--name", "reach",
	}, &stdout, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if got := stdout.String(); !strings.Contains(got, `policy "reach"`) || !strings.Contains(got, "chunks of 8 x 14 at 20 Hz") {
		t.Errorf("printed %q", got)
	}
	b, err := bundle.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if d := b.Manifest.Decode; d.Preset != "paper" || d.Rounds != 6 {
		t.Errorf("decoding defaults %+v", d)
	}
}

func TestPlanWritesNothing(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bundle")
	var stdout bytes.Buffer
	err := runExport(t.Context(), []string{"--checkpoint", "../../policies/tiny-reach", "--out", out, "--action-rate", "20", "--plan"}, &stdout, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", out, err)
	}
	text := strings.Join(strings.Fields(stdout.String()), " ")
	for _, want := range []string{
		"language_model.lm_head.weight BF16 [1088 128] rows of the head F32 [128 256] 131072",
		"vision_backbone.featurizer.norm.weight BF16 [96] dead - 0",
		"are dead: in every checkpoint, read by no inference, left out",
		"chunks of 8 x 14 at 20 Hz, bidirectional attention, action vocabulary, mask token 1025",
		"nothing was written",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
}

func TestPlanAndInspectTellTheQuantisation(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bundle")
	args := []string{"--checkpoint", "../../policies/tiny-reach", "--out", out, "--action-rate", "20", "--precision", "int4", "--block-size", "64", "--asymmetric"}
	var stdout bytes.Buffer
	if err := runExport(t.Context(), append(args, "--plan"), &stdout, io.Discard); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(stdout.String()), " ")
	for _, want := range []string{
		// 128 rows of 2 blocks: 32 bytes and a scale each, a byte of zero points.
		"layers.0.self_attn.q_proj.weight BF16 [128 128] in blocks INT4 [128 128] 9344",
		"lm_head.weight BF16 [1088 128] rows of the head F32 [128 256] 131072",
		"as int4 in asymmetric blocks of 64 (linear layers of the language model; its other weights float32, vision float16); ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, stdout.String())
		}
	}
	stdout.Reset()
	if err := runExport(t.Context(), args, &stdout, io.Discard); err != nil {
		t.Fatal(err)
	}
	exported := strings.Join(strings.Fields(stdout.String()), " ")
	text, err := inspect(t, "--tensors", out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"parameters in int4 in asymmetric blocks of 64 (linear",
		"layers.0.self_attn.q_proj.weight uint8 [128 2 32] 8192 policy.onnx.data:",
		"layers.0.self_attn.q_proj.weight.zero_points uint8 [128 1] 128 policy.onnx.data:",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, want := range []string{
		"vision float16) against float32, one pass each of 8 made observations tokens ", " % of 1344 equal logits largest difference ", " rad left_gripper largest difference ", " float16 largest number ",
	} {
		if !strings.Contains(exported, want) || !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s\nor\n%s", want, exported, text)
		}
	}
}

// The columns' options reach the manifest, and inspect shows them.
func TestExportTakesColumnsAndGrippers(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bundle")
	args := []string{"--checkpoint", "../../policies/tiny-reach", "--out", out, "--action-rate", "20", "--action-dims", "aloha", "--proprio-dims", "cobot_magic", "--gripper", "open=0.06,invert"}
	var stdout, stderr bytes.Buffer
	if err := runExport(t.Context(), args, &stdout, &stderr); err != nil {
		t.Fatal(err)
	}
	// The data set has metres.
	if got := stderr.String(); !strings.Contains(got, "export: left_gripper goes from 0.01412 to 0.06439 in the data set") {
		t.Errorf("noted %q", got)
	}
	text, err := inspect(t, out)
	if err != nil {
		t.Fatal(err)
	}
	text = strings.Join(strings.Fields(text), " ")
	for _, want := range []string{
		"right_gripper, joint, 1; gripper in normalised, closed 0 m, open 0.06 m, larger closes",
		"left_gripper m, right_joint1 rad", "option action-dims aloha", "option proprio-dims cobot_magic", "option gripper open=0.06,invert",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// What no file tells and no flag said is told, with the flag that would.
func TestExportTellsWhatItAssumes(t *testing.T) {
	noted := func(args ...string) string {
		t.Helper()
		var stderr bytes.Buffer
		if err := runExport(t.Context(), append(args, "--action-rate", "20", "--plan"), io.Discard, &stderr); err != nil {
			t.Fatal(err)
		}
		return stderr.String()
	}
	const normalization, chunk, size = "export: --normalization is not given, so bounds_q99 is assumed", "export: --chunk is not given, so 8 rows are assumed", "export: --pre-resize is not given"
	tiny := []string{"--checkpoint", "../../policies/tiny"}
	got := noted(tiny...)
	for _, want := range []string{normalization, chunk, "add $(cat ../../policies/tiny/export.args)\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
	if strings.Contains(got, size) {
		t.Errorf("noted %q", got)
	}
	raw, err := os.ReadFile("../../policies/tiny/export.args")
	if err != nil {
		t.Fatal(err)
	}
	if got := noted(append(tiny, strings.Fields(string(raw))...)...); got != "" {
		t.Errorf("with its own flags it noted %q", got)
	}
	aloha := []string{"--checkpoint", "../../policies/tiny-reach", "--action-dims", "aloha", "--normalization", "bounds_q99", "--chunk", "8"}
	if got := noted(aloha...); !strings.Contains(got, size) || strings.Contains(got, "assumed") || strings.Contains(got, "export.args") {
		t.Errorf("aloha: noted %q", got)
	}
	if got := noted(append(aloha, "--pre-resize", "none")...); strings.Contains(got, size) {
		t.Errorf("aloha without a size: noted %q", got)
	}
	var stderr bytes.Buffer
	if err := runExport(t.Context(), append(tiny, "--plan"), io.Discard, &stderr); err == nil || stderr.Len() > 0 {
		t.Errorf("what is refused noted %q (%v)", stderr.String(), err)
	}
}

// The size that pictures had for training reaches the manifest, and what is none is refused.
func TestExportTakesThePictureSizeBeforeTraining(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bundle")
	args := []string{"--checkpoint", "../../policies/tiny-reach", "--out", out, "--action-rate", "20"}
	if err := runExport(t.Context(), append(args, "--pre-resize", "256x192"), io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	m, err := bundle.ReadManifest(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range m.Cameras {
		if want := (bundle.Resize{Width: 256, Height: 192, Filter: bundle.Bicubic}); c.PreResize == nil || *c.PreResize != want {
			t.Errorf("%s: %+v, want %+v", c.Name, c.PreResize, want)
		}
	}
	if r, err := parsePreResize("64x32,lanczos3"); err != nil || *r != (bundle.Resize{Width: 64, Height: 32, Filter: bundle.Lanczos3}) {
		t.Errorf("%+v (%v)", r, err)
	}
	for _, wrong := range []string{"", "256", "256x", "axb", "256x256x3"} {
		refused(t, 2, []string{"--pre-resize is", "256x256"}, append([]string{"export", "--pre-resize", wrong}, args...)...)
	}
	for wrong, want := range map[string]string{"0x256": "size 0x256 is not a picture's", "256x256,area": `filter is "area", must be lanczos3 or bicubic`} {
		refused(t, 1, []string{"pre_resize", want}, append([]string{"export", "--plan", "--pre-resize", wrong}, args...)...)
	}
}

func TestPlanAndInspectTellTheUnrolledRounds(t *testing.T) {
	out := filepath.Join(t.TempDir(), "bundle")
	args := []string{"--checkpoint", "../../policies/tiny-reach", "--out", out, "--action-rate", "20", "--unroll", "3", "--rounds", "2"}
	const want = "3 rounds one after the other in the graph, without a Loop"
	var stdout bytes.Buffer
	if err := runExport(t.Context(), append(args, "--plan"), &stdout, io.Discard); err != nil || !strings.Contains(stdout.String(), want) {
		t.Errorf("the plan does not say %q (%v):\n%s", want, err, stdout.String())
	}
	if err := runExport(t.Context(), args, io.Discard, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := inspect(t, out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"decoding greedy, 2 rounds", "unrolled " + want, "option unroll 3", "input threshold float32[3]", "output trace_bins int64[3,B,112]"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	s := newScene(t)
	if got := predictJSON(t, s.args(out, "--state", s.numbers())...); got.MaxRounds != 3 || got.Rounds < 1 {
		t.Errorf("%d of at most %d rounds", got.Rounds, got.MaxRounds)
	}
	refused(t, 1, []string{"rounds: is 4", "has 3 rounds", "--unroll 4"}, s.args(out, "--rounds", "4", "--state", s.numbers())...)
}

func TestProgressLine(t *testing.T) {
	clock := time.Unix(0, 0)
	for _, c := range []struct {
		terminal   bool
		every      time.Duration
		want, last string
	}{
		{false, 5 * time.Second, "export:  10 % of 3 GB, 60 MB/s, 45s left\nexport:  20 % of 3 GB, 60 MB/s, 40s left\n", ""},
		{true, 5 * time.Second, "\rexport:  10 % of 3 GB, 60 MB/s, 45s left\x1b[K\rexport:  20 % of 3 GB, 60 MB/s, 40s left\x1b[K", "\r\x1b[K"},
	} {
		var out bytes.Buffer
		p := &progressLine{w: &out, terminal: c.terminal, every: c.every, last: clock, now: func() time.Time { return clock }}
		for i := range int64(11) {
			p.report(60e6*i, 3e9)
			clock = clock.Add(time.Second)
		}
		p.end()
		if got := out.String(); got != c.want+c.last {
			t.Errorf("terminal %v: %q", c.terminal, got)
		}
	}
	if p := newProgressLine(&bytes.Buffer{}); p.terminal {
		t.Error("a buffer passes for a terminal")
	}
}

func TestSizes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 999_499: "999 kB", 999_500: "1 MB", 15_082_474_368: "15.1 GB", 2e15: "2e+03 TB"} {
		if got := size(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

func TestExportSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"action-rate is 0 Hz":                       {"--checkpoint", "../../policies/tiny-reach", "--out", "x"},
		"checkpoint is not given":                   {"--out", "x", "--action-rate", "20"},
		"rounds is 12, but unroll is 8":             {"--checkpoint", "../../policies/tiny-reach", "--out", "x", "--action-rate", "20", "--unroll", "8"},
		`unexpected argument "x"`:                   {"--action-rate", "20", "x"},
		"-chunks":                                   {"--chunks", "3"},
		`action-dims: "franka" is neither a layout`: {"--checkpoint", "../../policies/tiny-reach", "--out", "x", "--action-rate", "20", "--action-dims", "franka"},
		`there is no "width"`:                       {"--checkpoint", "../../policies/tiny-reach", "--out", "x", "--action-rate", "20", "--gripper", "width=1"},
		`proprio-dims has 8 entries`:                {"--checkpoint", "../../policies/tiny-reach", "--out", "x", "--action-rate", "20", "--proprio-dims", "libero"},
		`dataset_statistics.json has [`:             {"--checkpoint", "../../policies/tiny-reach", "--out", filepath.Join(t.TempDir(), "b"), "--action-rate", "20", "--unnorm-key", "other"},
	} {
		var usage usageError
		err := runExport(t.Context(), args, io.Discard, io.Discard)
		if !errors.As(err, &usage) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v", args, err)
		}
	}
	if err := runExport(t.Context(), []string{"-h"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-h: %v", err)
	}
	// As a whole, with the subcommand once.
	refused(t, 2, []string{"ddvla export: option out is not given\n"}, "export", "--checkpoint", "../../policies/tiny-reach", "--action-rate", "20")
	refused(t, 2, []string{"ddvla export: ../../policies/tiny-reach: option unnorm-key is"}, "export", "--checkpoint", "../../policies/tiny-reach", "--out", "x", "--action-rate", "20", "--unnorm-key", "other")
	refused(t, 1, []string{"ddvla export: ../../policies/tiny-reach: ../../policies: file already exists"}, "export", "--checkpoint", "../../policies/tiny-reach", "--out", "../../policies", "--action-rate", "20")
	refused(t, 1, []string{"ddvla export: checkpoint ../none: "}, "export", "--checkpoint", "../none", "--out", "x", "--action-rate", "20")
	missing := filepath.Join(t.TempDir(), "none")
	err := runExport(t.Context(), []string{"--checkpoint", missing, "--out", missing + "-out", "--action-rate", "20"}, io.Discard, io.Discard)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) || !strings.Contains(err.Error(), "give the directory") {
		t.Errorf("a missing checkpoint: %v", err)
	}
}
