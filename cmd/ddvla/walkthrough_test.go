package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/sim"
)

// From a bag to a policy in closed loop, by docs/walkthrough.md's script at toy scale:
// what each step leaves is what the next one and the reader count on. What the policy
// does after four steps of training means nothing.
func TestWalkthrough(t *testing.T) {
	if raced {
		t.Skip("under the race detector the simulator draws 8 pictures a second, which `ddvla doctor` rightly refuses")
	}
	const episodes, judged = 2, 1
	domain(t)
	out := filepath.Join(t.TempDir(), "walk")
	walk := func() ([]byte, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join("tools", "walkthrough"))
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), mainVariable+"=1", "DDVLA="+os.Args[0], "DDVLA_PYTHON="+pytest.Interpreter(), "OUT="+out, "BASE=none",
			"TASK=bell", "EPISODES="+strconv.Itoa(episodes), "STEPS=4", "BATCH=4", "JUDGED="+strconv.Itoa(judged), "OMP_NUM_THREADS=1", "PYTHONDONTWRITEBYTECODE=1")
		return cmd.CombinedOutput()
	}
	said, err := walk()
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}

	var demonstrated sim.Report
	parsed(t, filepath.Join(out, "demonstrated.json"), &demonstrated)
	r, err := bag.Open(filepath.Join(out, "bag"))
	if err != nil {
		t.Fatal(err)
	}
	var marks []string
	for m, err := range r.Messages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if m.Topic == "/ddvla/episode" {
			var mark msgs.String
			if err := msgs.Unmarshal(m.Data, &mark); err != nil {
				t.Fatal(err)
			}
			marks = append(marks, strings.Clone(mark.Data))
		}
	}
	if want := []string{"start", "success", "start", "success"}; !slices.Equal(marks, want) || demonstrated.Succeeded() != episodes {
		t.Errorf("marks %q; %s", marks, demonstrated)
	}
	conf := sim.DefaultConfig()
	for _, topic := range append(append(conf.StateTopics[:], conf.CommandTopics[:]...), conf.CameraTopics[0]+"/compressed", conf.CameraTopics[1]+"/compressed", conf.CameraTopics[2]+"/compressed", conf.InstructionTopic) {
		if !slices.ContainsFunc(r.Topics(), func(t bag.Topic) bool { return t.Name == topic && t.Count > 0 }) {
			t.Errorf("the bag has nothing of %s", topic)
		}
	}

	set, err := dataset.Open(filepath.Join(out, "data"))
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if info := set.Info(); info.Rate != 20 || info.Size != 96 {
		t.Errorf("%+v", info)
	}
	done := 0
	for _, e := range set.Episodes() {
		i := slices.IndexFunc(demonstrated.Tasks, func(r sim.TaskResult) bool { return r.Instruction == e.Instruction })
		if i < 0 {
			t.Errorf("nobody demonstrated %+v", e)
			continue
		}
		// A frame every 50 ms, but where this machine stood still.
		if told := demonstrated.Tasks[i]; e.Length < 10 || e.Length > int(told.Took.Seconds()*20)+2 {
			t.Errorf("episode %+v of %s", e, told)
		}
		if e.Success != nil && *e.Success {
			done++
		}
	}
	// Of a machine that stood still near an episode's end, the rest is too short to be kept.
	if done < 1 || done > episodes {
		t.Errorf("%d episodes end with success, of %d: %+v", done, episodes, set.Episodes())
	}

	b, err := bundle.Open(filepath.Join(out, "bundle"))
	if err != nil {
		t.Fatal(err)
	}
	if m := b.Manifest; m.Action.Rate != 20 || m.Cameras[0].Resize.Width != 96 || m.Action.Chunk != 8 {
		t.Errorf("%+v", m)
	}
	for _, name := range []string{"checkpoint/curves.html", "sheet.png", "report.html", "replayed", "eval/results.html"} {
		if _, err := os.Stat(filepath.Join(out, name)); err != nil {
			t.Error(err)
		}
	}
	var results struct {
		Cells []struct {
			Task     string
			Episodes int
			Chunks   int
		}
	}
	parsed(t, filepath.Join(out, "eval", "results.json"), &results)
	if c := results.Cells; len(c) != 1 || c[0].Task != "bell" || c[0].Episodes != judged || c[0].Chunks == 0 {
		t.Errorf("results %+v", results)
	}

	// Nothing that is there is overwritten.
	if said, err := walk(); err == nil || !strings.Contains(string(said), "is there already") {
		t.Errorf("%v: %s", err, said)
	}
}

// `make train-three` at toy scale: what it leaves is judged before and after, and a
// second call finds all of it done, one of other tasks is refused. What the policy does after six steps means nothing.
func TestThreeTasks(t *testing.T) {
	out := filepath.Join(t.TempDir(), "three")
	teach := func(tasks string, more ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), filepath.Join("train", "three_tasks.sh"))
		cmd.Dir = filepath.Join("..", "..")
		cmd.Env = append(os.Environ(), mainVariable+"=1", "DDVLA="+os.Args[0], "DDVLA_PYTHON="+pytest.Interpreter(), "OUT="+out,
			"TASKS="+tasks, "STEPS=3", "SCENES=1", "EPISODES=1", "BATCH=2", "CORES=1", "PYTHONDONTWRITEBYTECODE=1")
		cmd.Env = append(cmd.Env, more...)
		said, err := cmd.CombinedOutput()
		return string(said), err
	}
	// What is refused leaves nothing that a right call would stumble over.
	if said, err := teach("reach,bell", "BASE=nowhere"); err == nil || !strings.Contains(said, "nowhere, which has no export.args") {
		t.Errorf("no checkpoint to start from: %v, %s", err, said)
	}
	if said, err := teach("reach,bell", "SIZE=64"); err == nil || !strings.Contains(said, "SIZE is 64, BASE policies/tiny takes pictures of 96 pixels") {
		t.Errorf("pictures of another size than the checkpoint's: %v, %s", err, said)
	}
	if said, err := teach("juggle"); err == nil || !strings.Contains(said, `no task "juggle"`) {
		t.Errorf("no such task: %v, %s", err, said)
	}
	if said, err := teach("reach,bell"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	for _, name := range []string{"demos", "visits"} {
		set, err := dataset.Open(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if o := set.Info().MadeBy.Options; o["perturb"] != "light+texture+camera" || o["tasks"] != "reach,bell" {
			t.Errorf("%s: %v", name, o)
		}
		set.Close()
	}
	for _, name := range []string{"before", "after"} {
		var results struct {
			Cells []struct {
				Task, Perturbation string
				Episodes, Chunks   int
			}
		}
		parsed(t, filepath.Join(out, "eval-"+name, "results.json"), &results)
		c := results.Cells
		if len(c) != 2 || c[0].Task != "reach" || c[1].Task != "bell" || c[0].Perturbation != "vision" || c[0].Episodes != 1 || c[0].Chunks == 0 {
			t.Errorf("%s: %+v", name, results)
		}
	}
	weights := func(checkpoint string) string {
		raw, err := os.ReadFile(filepath.Join(checkpoint, "model.safetensors"))
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	after := weights(filepath.Join(out, "after"))
	if after == weights(filepath.Join(out, "first")) || after == weights(filepath.Join("..", "..", "policies", "tiny")) {
		t.Error("nothing was learned")
	}
	if said, err := teach("reach,bell"); err != nil || weights(filepath.Join(out, "after")) != after {
		t.Errorf("what is done is done again, or %v\n%s", err, said)
	}
	if said, err := teach("lift"); err == nil || !strings.Contains(said, "name another OUT") {
		t.Errorf("other tasks in the same directory: %v, %s", err, said)
	}
}

func parsed(t *testing.T, name string, into any) {
	t.Helper()
	raw, err := os.ReadFile(name)
	if err == nil {
		err = json.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}
