package teach

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

func newArms(t testing.TB) *sim.Arms {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	return arms
}

func small(t *testing.T, name string, workers int) Config {
	c := DefaultConfig()
	c.Out = filepath.Join(t.TempDir(), name)
	c.Episodes, c.Size, c.Samples, c.Workers = 2, 16, 1, workers
	c.Tasks = nil
	for _, task := range sim.Tasks() {
		if task.Name == "lift" || task.Name == "cup" {
			c.Tasks = append(c.Tasks, task)
		}
	}
	return c
}

// One data set comes of a configuration, however many workers make it, and
// another of another seed.
func TestWorkersChangeNothing(t *testing.T) {
	one, three, other := small(t, "one", 1), small(t, "three", 3), small(t, "other", 2)
	other.Seed = 1
	for _, c := range []Config{one, three, other} {
		if _, err := Run(context.Background(), c); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{
		dataset.InfoFile, dataset.EpisodesFile, dataset.ImagesFile, dataset.ProprioFile, dataset.ActionFile, dataset.StatisticsFile,
	} {
		read := func(c Config) []byte {
			raw, err := os.ReadFile(filepath.Join(c.Out, name))
			if err != nil {
				t.Fatal(err)
			}
			return raw
		}
		if !bytes.Equal(read(one), read(three)) {
			t.Errorf("%s depends on the number of workers", name)
		}
		if bytes.Equal(read(one), read(other)) {
			t.Errorf("%s does not depend on the seed", name)
		}
	}
}

// Another look of the same scenes changes pictures and nothing else.
func TestPerturbationIsSeenOnly(t *testing.T) {
	plain, other := small(t, "plain", 2), small(t, "other", 2)
	other.Perturbation = sim.Perturbation{Light: true, Texture: true, Camera: true}
	for _, c := range []Config{plain, other} {
		if _, err := Run(t.Context(), c); err != nil {
			t.Fatal(err)
		}
	}
	for name, same := range map[string]bool{
		dataset.EpisodesFile: true, dataset.ProprioFile: true, dataset.ActionFile: true, dataset.StatisticsFile: true,
		dataset.ImagesFile: false, dataset.InfoFile: false,
	} {
		var raw [2][]byte
		for i, c := range []Config{plain, other} {
			var err error
			if raw[i], err = os.ReadFile(filepath.Join(c.Out, name)); err != nil {
				t.Fatal(err)
			}
		}
		if bytes.Equal(raw[0], raw[1]) != same {
			t.Errorf("%s: the same %v, want %v", name, !same, same)
		}
	}
	other.Perturbation.Language = true
	if err := other.Validate(); err == nil || !strings.Contains(err.Error(), "language") {
		t.Errorf("held-out phrases are demonstrated: %v", err)
	}
}

// What is recorded is what the expert commands: a world that starts from a
// recorded one and follows the recorded actions sees the recorded states and does
// the task. Pictures are of the world that the states are of.
func TestRecordingsDoTheTask(t *testing.T) {
	c := small(t, "x", 2)
	c.Shoves, c.Starts, c.Scatters, c.Counterparts, c.Keep = 2, 1, 2, 1, 1000
	arms := newArms(t)
	for _, task := range sim.Tasks() {
		rs, err := (&maker{conf: &c, arms: arms}).demonstrate(t.Context(), task, 0, sim.NewRand(3, 3))
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) != 10 {
			t.Errorf("%s: %d recordings, want four of each instruction and two after shoves", task.Name, len(rs))
		}
		for k, r := range rs {
			w := r.worlds[0].Clone()
			for i, command := range r.commands {
				if w.State() != r.worlds[i].State() {
					t.Fatalf("%s, recording %d: the state of frame %d is another when its actions are followed", task.Name, k, i)
				}
				w.Command(command)
				w.Step(sim.RowTime)
			}
			if !r.episode.SuccessIn(w) {
				t.Errorf("%s, recording %d (%q) does not do the task", task.Name, k, r.instruction)
			}
			if !contains(r.episode.Paraphrases, r.instruction) {
				t.Errorf("%s: %q is not among the paraphrases", task.Name, r.instruction)
			}
		}
	}
}

func contains(all []string, one string) bool {
	for _, s := range all {
		if s == one {
			return true
		}
	}
	return false
}

// The files hold the frames: proprio and action of every frame are those of a
// world drawn as its picture shows it.
func TestFilesHoldTheRecordings(t *testing.T) {
	c := small(t, "x", 2)
	c.Tasks, c.Episodes = c.Tasks[:1], 1
	sum, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	m, err := newMaker(t.Context(), &c, newArms(t))
	if err != nil {
		t.Fatal(err)
	}
	b, err := m.make(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	images, err := os.ReadFile(filepath.Join(c.Out, dataset.ImagesFile))
	if err != nil || !bytes.Equal(images, b.images) {
		t.Errorf("%s: other pictures (%v)", dataset.ImagesFile, err)
	}
	raw, err := os.ReadFile(filepath.Join(c.Out, dataset.ProprioFile))
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, r := range b.recordings {
		for _, w := range r.worlds {
			for _, v := range w.State() {
				if got := math.Float32frombits(binary.LittleEndian.Uint32(raw[4*at:])); got != float32(v) {
					t.Fatalf("value %d of %s is %g, want %g", at, dataset.ProprioFile, got, v)
				}
				at++
			}
		}
	}
	if 4*at != len(raw) || sum.Frames != at/sim.Dims || sum.Recordings != len(b.recordings) {
		t.Errorf("%d values in %d bytes; %+v", at, len(raw), sum)
	}
}

// Pictures drawn at their size with several samples a pixel are near those that
// the recipe makes of the robot's pictures, which a policy sees.
func TestSmoothPicturesAreNearTheRecipe(t *testing.T) {
	arms := newArms(t)
	c := DefaultConfig()
	smooth, err := newMaker(t.Context(), &c, arms)
	if err != nil {
		t.Fatal(err)
	}
	c.Samples = 0
	exact, err := newMaker(t.Context(), &c, arms)
	if err != nil {
		t.Fatal(err)
	}
	var sum, n float64
	a, b := make([]byte, 3*c.Size*c.Size), make([]byte, 3*c.Size*c.Size)
	for _, task := range sim.Tasks() {
		rs, err := (&maker{conf: &c, arms: arms}).demonstrate(t.Context(), task, 1, sim.NewRand(4, 4))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range rs[0].worlds[20:21] {
			for id := range sim.CameraID(sim.Cameras) {
				for m, dst := range map[*maker][]byte{smooth: a, exact: b} {
					if err := m.draw(w, &rs[0].episode.Look, id, dst); err != nil {
						t.Fatal(err)
					}
				}
				for i := range a {
					sum += math.Abs(float64(a[i]) - float64(b[i]))
					n++
				}
			}
		}
	}
	t.Logf("mean difference %.2f of 255", sum/n)
	if sum/n > 4 {
		t.Errorf("mean difference %.2f of 255", sum/n)
	}
}

func TestConfigNamesWhatIsWrong(t *testing.T) {
	good := DefaultConfig()
	good.Out = "x"
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for flag, change := range map[string]func(*Config){
		"--out":          func(c *Config) { c.Out = "" },
		"--tasks":        func(c *Config) { c.Tasks = nil },
		"--episodes":     func(c *Config) { c.Episodes = 0 },
		"--seed":         func(c *Config) { c.Seed = 1 << 31 },
		"--shoves":       func(c *Config) { c.Shoves = -1 },
		"--counterparts": func(c *Config) { c.Counterparts = math.NaN() },
		"--size":         func(c *Config) { c.Size = 1 },
		"--samples":      func(c *Config) { c.Samples = 9 },
		"--workers":      func(c *Config) { c.Workers = 0 },
	} {
		c := good
		change(&c)
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), flag) {
			t.Errorf("want an error that names %s, have %v", flag, err)
		}
	}
}

// An interrupted run leaves nothing that looks like a data set.
func TestInterruptedRunLeavesNoDataSet(t *testing.T) {
	c := small(t, "x", 2)
	c.Episodes = 1000
	ctx, cancel := context.WithCancel(context.Background())
	c.Progress = func(done, _, _ int) {
		if done == 3 {
			cancel()
		}
	}
	if _, err := Run(ctx, c); !errors.Is(err, context.Canceled) {
		t.Fatalf("want context.Canceled, have %v", err)
	}
	if _, err := os.Stat(c.Out); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

// BenchmarkEpisode is one scene of all tasks in turn, frames of 96 x 96 with three
// cameras; frames/s is of one core.
func BenchmarkEpisode(b *testing.B) {
	c := DefaultConfig()
	m, err := newMaker(b.Context(), &c, newArms(b))
	if err != nil {
		b.Fatal(err)
	}
	frames := 0
	n := 0
	for b.Loop() {
		batch, err := m.make(b.Context(), n)
		if err != nil {
			b.Fatal(err)
		}
		n++
		frames += len(batch.images) / batch.frameBytes
	}
	b.ReportMetric(float64(frames)/b.Elapsed().Seconds(), "frames/s")
}

// wanderer is a policy that goes anywhere. It counts where it began: at the start and
// under way.
type wanderer struct{ closed, first, later *atomic.Int32 }

func (v wanderer) Visit(_ context.Context, e *sim.Episode, seed uint64) (worlds []*sim.World, err error) {
	if e.World.Now() == 0 {
		v.first.Add(1)
	} else {
		v.later.Add(1)
	}
	rng := sim.NewRand(seed, 1)
	for range 5 {
		e.World.Scatter(rng)
		worlds = append(worlds, e.World.Clone())
	}
	return worlds, nil
}

func (v wanderer) Close() error {
	v.closed.Add(1)
	return nil
}

// Where a policy has got to the expert goes on, for two pictures, and a data set of
// that is the same however many workers make it.
func TestRecordingsStartWhereAPolicyHasGot(t *testing.T) {
	plain, visited := small(t, "plain", 1), [2]Config{small(t, "one", 1), small(t, "three", 3)}
	before, err := Run(t.Context(), plain)
	if err != nil {
		t.Fatal(err)
	}
	var images [2][]byte
	for i := range visited {
		c := &visited[i]
		var closed, first, later atomic.Int32
		c.Visits, c.Visitor = 3, func(context.Context) (Visitor, error) { return wanderer{&closed, &first, &later}, nil }
		after, err := Run(t.Context(), *c)
		if err != nil {
			t.Fatal(err)
		}
		// Two scenes of two tasks, two instructions each; some states are beyond the expert.
		most := before.Recordings + 2*2*2*c.Visits
		if after.Recordings > most || after.Recordings < most-8 || int(closed.Load()) != c.Workers {
			t.Errorf("%d recordings, without visits %d; %d of %d visitors closed", after.Recordings, before.Recordings, closed.Load(), c.Workers)
		}
		if n, m := first.Load(), later.Load(); n == 0 || m == 0 || n+m != 2*2*2 {
			t.Errorf("%d ways begin at the start and %d later", n, m)
		}
		if images[i], err = os.ReadFile(filepath.Join(c.Out, dataset.ImagesFile)); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(images[0], images[1]) {
		t.Error("pictures depend on the number of workers")
	}
	plain.Visits = 1
	if err := plain.Validate(); err == nil {
		t.Error("visits without a visitor")
	}
}
