package policy

import (
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Engines are kept apart by what the graph and its weights are, and by nothing else.
func TestEngineHashIsThatOfGraphAndWeights(t *testing.T) {
	files := func(change func(map[string]string)) string {
		f := map[string]string{bundle.GraphFile: "aa", bundle.WeightsFile: "bb", bundle.TokenizerFile: "cc"}
		change(f)
		return engineHash(&bundle.Manifest{Files: f})
	}
	base := files(func(map[string]string) {})
	if got := files(func(f map[string]string) { f[bundle.TokenizerFile] = "dd" }); got != base {
		t.Error("the tokenizer makes a difference")
	}
	for _, name := range []string{bundle.GraphFile, bundle.WeightsFile} {
		if got := files(func(f map[string]string) { f[name] = "dd" }); got == base {
			t.Errorf("%s makes no difference", name)
		}
	}
}
