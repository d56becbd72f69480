package weights

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/torchfile"
)

// side is the directory of the files that PyTorch wrote for a sample.
func (s *sample) side() string { return s.results + "-side" }

func place(t *testing.T, from, to string) {
	t.Helper()
	raw, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, raw, 0o644); err != nil {
		t.Fatal(err)
	}
}

// sameButManifest compares all files of two bundles but their manifests.
func sameButManifest(t *testing.T, a, b *bundle.Bundle) {
	t.Helper()
	one, two := files(t, a.Dir), files(t, b.Dir)
	if len(one) != len(two) || len(one) != 6 {
		t.Errorf("%d and %d files", len(one), len(two))
	}
	for name := range one {
		if name != bundle.ManifestFile && !bytes.Equal(one[name], two[name]) {
			t.Errorf("%s differs", name)
		}
	}
}

const savedProprio = "proprio_projector--150000_checkpoint.pt"

// The proprio projector that PyTorch saved gives the bundle that the same one in
// safetensors gives.
func TestSavedProprioProjectorGivesTheSameBundle(t *testing.T) {
	for _, number := range []int{0, 1} {
		s := copied(t, number)
		want := s.export(t)
		remove(t, filepath.Join(s.dir, proprioPart+".safetensors"))
		if m, err := MakePlan(s.options("")); err != nil || m.Manifest.Proprio != nil {
			t.Errorf("without a projector: %v, proprio %v", err, m.Manifest.Proprio)
		}
		place(t, filepath.Join(s.side(), savedProprio), filepath.Join(s.dir, savedProprio))
		got := s.export(t)
		sameButManifest(t, got, want)
		if len(got.Manifest.Source.Files[savedProprio]) != 64 {
			t.Errorf("%s is not among %v", savedProprio, got.Manifest.Source.Files)
		}
	}
}

// So does an adapter.
func TestBinaryAdapterGivesTheSameBundle(t *testing.T) {
	for _, number := range []int{0, 1} {
		s := references(t)[number]
		adapter := s.results + "-adapter"
		want := s.exportWith(t, func(o *Options) { o.LoRA = adapter })
		dir := t.TempDir()
		place(t, filepath.Join(adapter, adapterConfigFile), filepath.Join(dir, adapterConfigFile))
		place(t, filepath.Join(s.side(), adapterBinary), filepath.Join(dir, adapterBinary))
		got := s.exportWith(t, func(o *Options) { o.LoRA = dir })
		sameButManifest(t, got, want)
		if len(got.Manifest.Source.Files["lora/"+adapterBinary]) != 64 {
			t.Errorf("%s is not among %v", adapterBinary, got.Manifest.Source.Files)
		}
		place(t, filepath.Join(adapter, adapterFile), filepath.Join(dir, adapterFile))
		o := s.options("")
		o.LoRA = dir
		if _, err := MakePlan(o); !errors.Is(err, ErrLoRA) || !strings.Contains(err.Error(), "has both "+adapterFile+" and "+adapterBinary) {
			t.Errorf("got %v", err)
		}
	}
}

func TestSideFilesRefused(t *testing.T) {
	for _, c := range []struct {
		want   string
		is     error
		damage func(t *testing.T, dir, saved string)
	}{
		{"2 files hold the proprio projector: " + savedProprio + ", proprio_projector.safetensors; move all but", ErrTensors,
			func(t *testing.T, dir, saved string) { place(t, saved, filepath.Join(dir, savedProprio)) }},
		{"2 files hold the proprio projector: proprio_projector--100000_checkpoint.pt, " + savedProprio, ErrTensors,
			func(t *testing.T, dir, saved string) {
				remove(t, filepath.Join(dir, proprioPart+".safetensors"))
				place(t, saved, filepath.Join(dir, savedProprio))
				place(t, saved, filepath.Join(dir, "proprio_projector--100000_checkpoint.pt"))
			}},
		{"proprio_projector--latest_checkpoint.pt", torchfile.ErrFormat, func(t *testing.T, dir, _ string) {
			remove(t, filepath.Join(dir, proprioPart+".safetensors"))
			put(t, dir, "proprio_projector--latest_checkpoint.pt", "PK")
		}},
		{"proprio_projector--latest_checkpoint.pt is a link to", nil, func(t *testing.T, dir, _ string) {
			remove(t, filepath.Join(dir, proprioPart+".safetensors"))
			if err := os.Symlink("nowhere", filepath.Join(dir, "proprio_projector--latest_checkpoint.pt")); err != nil {
				t.Fatal(err)
			}
		}},
		{"left over action_head.fc1.bias", ErrTensors, func(t *testing.T, dir, saved string) {
			place(t, saved, filepath.Join(dir, savedHead))
		}},
		{savedHead + " says that the policy predicts actions by diffusion", ErrTensors, func(t *testing.T, dir, saved string) {
			head := filepath.Join(filepath.Dir(saved), savedHead)
			raw, err := os.ReadFile(head)
			if err != nil {
				t.Fatal(err)
			}
			// The diffusion head's names, as long as these.
			name := "module.model.mlp_resnet_blocks.0.ffn.0.weight"
			put(t, dir, savedHead, strings.Replace(string(raw), name, "module.noise_predictor."+strings.Repeat("x", len(name)-len("module.noise_predictor.")), 1))
		}},
		{"noisy_action_projector--latest_checkpoint.pt says", ErrTensors, func(t *testing.T, dir, saved string) {
			place(t, saved, filepath.Join(dir, "noisy_action_projector--latest_checkpoint.pt"))
		}},
	} {
		t.Run(c.want, func(t *testing.T) {
			s := copied(t, 0)
			c.damage(t, s.dir, filepath.Join(s.side(), savedProprio))
			_, err := MakePlan(s.options(""))
			if err == nil || !strings.Contains(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is) || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// Names that only resemble a part's are other people's files.
func TestOtherNamesAreNoParts(t *testing.T) {
	s := copied(t, 0)
	for _, name := range []string{"proprio_projector_notes.pt", "proprio_projector--150000_checkpoint.pt.part", "old_action_head--1_checkpoint.pt"} {
		put(t, s.dir, name, "x")
	}
	if _, err := MakePlan(s.options("")); err != nil {
		t.Error(err)
	}
}
