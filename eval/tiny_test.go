package eval

import (
	"path/filepath"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// policies/tiny, exported with its export.args, does most of what it is told on scenes
// that no demonstration had, in a few rounds, and not what it is not told. How often, of
// 50 scenes a task, is in its README.
func TestCommittedPolicyDoesItsTasks(t *testing.T) {
	o := weights.Defaults()
	o.Checkpoint, o.Out = "../policies/tiny", filepath.Join(t.TempDir(), "tiny")
	o.ActionRate, o.Normalization, o.Recipe.CropArea, o.Recipe.JPEGQuality = 20, bundle.Bounds, 1, 0
	if err := weights.Export(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	s := settings(t, o.Out)
	m, l := openModel(t, s, ModelOptions{}), loopOf(s)
	wrong := *l
	wrong.WrongInstructions = true
	const n = 3
	all, done, misled := 0, 0, 0
	tasks, err := ParseTasks("all")
	if err != nil {
		t.Fatal(err)
	}
	for _, task := range tasks {
		_, k := play(t, l, m, task, n)
		all, done = all+n, done+k
		_, k = play(t, &wrong, m, task, 1)
		misled += k
	}
	if done < all*3/4 {
		t.Errorf("%d of %d", done, all)
	}
	if misled > 2 {
		t.Errorf("told something else, %d of %d did the task all the same", misled, len(tasks))
	}
}
