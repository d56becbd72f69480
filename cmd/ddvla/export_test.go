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

func TestExportSaysWhatIsWrong(t *testing.T) {
	for want, args := range map[string][]string{
		"action-rate is 0 Hz":           {"--checkpoint", "../../policies/tiny-reach", "--out", "x"},
		"checkpoint is not given":       {"--out", "x", "--action-rate", "20"},
		`unexpected argument "x"`:       {"--action-rate", "20", "x"},
		"-chunks":                       {"--chunks", "3"},
		`dataset_statistics.json has [`: {"--checkpoint", "../../policies/tiny-reach", "--out", filepath.Join(t.TempDir(), "b"), "--action-rate", "20", "--unnorm-key", "other"},
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
	missing := filepath.Join(t.TempDir(), "none")
	err := runExport(t.Context(), []string{"--checkpoint", missing, "--out", missing + "-out", "--action-rate", "20"}, io.Discard, io.Discard)
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("a missing checkpoint: %v", err)
	}
}
