package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Files that agree, whichever of them are there, give the mask that they name.
func TestMaskFromAnyFile(t *testing.T) {
	for name, text := range map[string]string{
		"config.json":        "",
		addedTokensFile:      `{"<mask>": 1026, "<PAD>": 1024}`,
		tokenizerConfigFile:  `{"mask_token": "<mask>", "added_tokens_decoder": {"1026": {"content": "<mask>"}, "7": {"content": "x"}}}`,
		fastTokenizerFile:    `{"added_tokens": [{"id": 1026, "content": "<mask>"}, {"id": 0, "content": "<unk>"}]}`,
		"none, so a default": "",
	} {
		t.Run(name, func(t *testing.T) {
			s := copied(t, 2)
			want := int64(1026)
			switch {
			case name == "config.json":
				edit(t, filepath.Join(s.dir, name), map[string]any{"mask_token_id": want})
			case text == "":
				want = 1025
				fallthrough
			default:
				edit(t, filepath.Join(s.dir, "config.json"), map[string]any{"mask_token_id": nil})
			}
			if text != "" {
				put(t, s.dir, name, text)
				put(t, s.dir, specialTokensFile, `{"mask_token": {"content": "<mask>", "lstrip": false}}`)
			}
			p, err := MakePlan(s.options(""))
			if err != nil {
				t.Fatal(err)
			}
			if p.Manifest.Tokens.Mask != want {
				t.Errorf("mask %d, want %d", p.Manifest.Tokens.Mask, want)
			}
		})
	}
}

// Stock OpenVLA has its statistics in config.json only; the bundle gets the same
// numbers as a file.
func TestStatisticsFromConfig(t *testing.T) {
	s := copied(t, 2)
	path := filepath.Join(s.dir, bundle.StatisticsFile)
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var want any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(s.dir, configFile), map[string]any{"norm_stats": want})
	both := s.export(t)
	if got, err := os.ReadFile(both.Path(bundle.StatisticsFile)); err != nil || !bytes.Equal(got, raw) {
		t.Errorf("with both, %s is not the checkpoint's (%v)", bundle.StatisticsFile, err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b := s.export(t)
	if raw, err = os.ReadFile(b.Path(bundle.StatisticsFile)); err != nil {
		t.Fatal(err)
	}
	var got any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	a, _ := json.Marshal(got)
	if c, _ := json.Marshal(want); !bytes.Equal(a, c) {
		t.Errorf("got %s, want %s", a, c)
	}
	if _, ok := b.Manifest.Source.Files[bundle.StatisticsFile]; ok {
		t.Errorf("%s is said to have been read", bundle.StatisticsFile)
	}
}

// No file of a checkpoint is read through a link that leads out of it.
func TestLinksOutOfTheCheckpoint(t *testing.T) {
	for _, name := range []string{
		configFile, preprocessorFile, addedTokensFile, "model.safetensors", "model.safetensors.index.json",
		proprioPart + ".safetensors", bundle.TokenizerFile, bundle.StatisticsFile,
	} {
		t.Run(name, func(t *testing.T) {
			s := copied(t, 2)
			outside := filepath.Join(t.TempDir(), "secret")
			path := filepath.Join(s.dir, name)
			if err := os.Rename(path, outside); err != nil {
				// A file that this checkpoint lacks.
				put(t, filepath.Dir(outside), "secret", "{}")
			}
			if err := os.Symlink(outside, path); err != nil {
				t.Fatal(err)
			}
			err := Export(t.Context(), s.options(filepath.Join(t.TempDir(), "bundle")))
			if err == nil || !strings.Contains(err.Error(), name+" is a link to "+outside) {
				t.Errorf("got %v", err)
			}
			if err := os.Remove(outside); err != nil {
				t.Fatal(err)
			}
			_, err = MakePlan(s.options(""))
			if err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "or missing") {
				t.Errorf("a link to nowhere: %v", err)
			}
		})
	}
}

// Links within the checkpoint are followed, and those of the hub's cache, where
// every file is one.
func TestLinksWithinTheCheckpoint(t *testing.T) {
	s := copied(t, 2)
	want := files(t, s.export(t).Dir)
	cache := filepath.Join(t.TempDir(), "models--x--y")
	snapshot, blobs := filepath.Join(cache, "snapshots", "abc"), filepath.Join(cache, "blobs")
	for _, dir := range []string{snapshot, blobs} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, raw := range files(t, s.dir) {
		put(t, blobs, "blob-"+name, string(raw))
		if err := os.Symlink("../../blobs/blob-"+name, filepath.Join(snapshot, name)); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(snapshot, link); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{snapshot, link} {
		linked := s
		linked.dir = dir
		got := files(t, linked.export(t).Dir)
		for name := range want {
			if name != bundle.ManifestFile && !bytes.Equal(got[name], want[name]) {
				t.Errorf("%s: %s differs", dir, name)
			}
		}
	}
	// Out of the model's folder is out.
	put(t, filepath.Dir(cache), "config.json", "{}")
	if err := os.Remove(filepath.Join(snapshot, configFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../../config.json", filepath.Join(snapshot, configFile)); err != nil {
		t.Fatal(err)
	}
	linked := s
	linked.dir = snapshot
	if _, err := MakePlan(linked.options("")); err == nil || !strings.Contains(err.Error(), "is a link to") {
		t.Errorf("got %v", err)
	}
}

func TestPipesAreNotOpened(t *testing.T) {
	s := copied(t, 2)
	path := filepath.Join(s.dir, addedTokensFile)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := MakePlan(s.options("")); err == nil || !strings.Contains(err.Error(), addedTokensFile+" is not a regular file") {
		t.Errorf("got %v", err)
	}
}
