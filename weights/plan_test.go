package weights

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

// What the plan says is what an export then does.
func TestPlanIsWhatIsDone(t *testing.T) {
	for _, s := range references(t)[:3] {
		parent := t.TempDir()
		o := s.options(filepath.Join(parent, "bundle"))
		p, err := MakePlan(o)
		if err != nil {
			t.Fatal(err)
		}
		if entries, err := os.ReadDir(parent); err != nil || len(entries) > 0 {
			t.Fatalf("%s: the plan wrote %v (%v)", s.name, entries, err)
		}
		var done, total, reports int64
		o.Progress = func(d, all int64) {
			if d < done || d > all || reports > 0 && all != total {
				t.Errorf("%s: progress from %d of %d to %d of %d", s.name, done, total, d, all)
			}
			done, total = d, all
			reports++
		}
		if err := Export(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if done != total || reports < 5 {
			t.Errorf("%s: progress ended at %d of %d after %d reports", s.name, done, total, reports)
		}
		b, err := bundle.Open(o.Out)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(b.Path(bundle.WeightsFile))
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() != p.StoreBytes {
			t.Errorf("%s: %d bytes were planned, %d written", s.name, p.StoreBytes, info.Size())
		}
		m := b.Manifest
		m.Files, m.Source.Files = map[string]string{}, map[string]string{}
		planned := p.Manifest
		planned.Files = map[string]string{}
		if !reflect.DeepEqual(planned, m) {
			t.Errorf("%s: manifest\n%+v, want\n%+v", s.name, planned, m)
		}
		parameters := int64(0)
		for _, planned := range p.Tensors {
			parameters += planned.StoredBytes / 4
		}
		if parameters != m.Model.Parameters {
			t.Errorf("%s: %d parameters were planned, %d written", s.name, parameters, m.Model.Parameters)
		}
	}
}

// The forms of a few tensors, and the dead ones: the towers' last blocks and
// norms and SigLIP's pooling head (MODEL.md 4).
func TestPlannedForms(t *testing.T) {
	p, err := MakePlan(references(t)[0].options(""))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"language_model.model.embed_tokens.weight":            "BF16 [1088 40] as stored [1088 40] 87040 174080",
		"language_model.lm_head.weight":                       "BF16 [1088 40] rows of the head [40 256] 87040 40960",
		"language_model.model.layers.2.mlp.up_proj.weight":    "BF16 [56 40] transposed [40 56] 4480 8960",
		"vision_backbone.featurizer.patch_embed.proj.weight":  "BF16 [24 3 7 7] pixels first [147 24] 7056 14112",
		"proprio_projector.fc1.weight":                        "BF16 [40 5] transposed [5 40] 400 800",
		"vision_backbone.fused_featurizer.attn_pool.q.weight": "BF16 [36 36] dead [] 2592 0",
	}
	dead := 0
	for _, e := range p.Tensors {
		got := fmt.Sprintf("%s %v %s %v %d %d", e.DType, e.Shape, e.Form, e.Stored, e.Bytes, e.StoredBytes)
		if w, ok := want[e.Name]; ok && got != w {
			t.Errorf("%s: %s, want %s", e.Name, got, w)
		}
		delete(want, e.Name)
		isDead := false
		for _, prefix := range []string{"featurizer.blocks.2.", "featurizer.norm.", "fused_featurizer.blocks.3.", "fused_featurizer.norm.", "fused_featurizer.attn_pool."} {
			isDead = isDead || strings.HasPrefix(e.Name, "vision_backbone."+prefix)
		}
		if e.Dead() != isDead {
			t.Errorf("%s: dead is %v", e.Name, e.Dead())
		}
		if isDead {
			dead++
		}
		if e.File == "" {
			t.Errorf("%s is in no file", e.Name)
		}
	}
	if len(want) > 0 || dead != 14+2+12+2+13 {
		t.Errorf("%d dead, not found: %v", dead, want)
	}
}
