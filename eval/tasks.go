package eval

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/sim"
)

// Tasks names what there is to do: the simulator's tasks, which are all that "all"
// stands for, and TinyReach.
func Tasks() (names []string) {
	for _, t := range sim.Tasks() {
		names = append(names, t.Name)
	}
	return append(names, TinyReach)
}

// ParseTasks reads names with commas between, or "all".
func ParseTasks(text string) ([]string, error) {
	known := Tasks()
	if text == "all" {
		return known[:len(known)-1], nil
	}
	var list []string
	for name := range strings.SplitSeq(text, ",") {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("there is no task %q, only %s", name, strings.Join(known, ", "))
		}
		list = once(list, name)
	}
	return list, nil
}

// Perturbations names how a world may differ from those of demonstrations: not at all,
// in one thing, in all that cameras see, or in everything.
func Perturbations() []string {
	return slices.Concat([]string{sim.Perturbation{}.String()}, sim.Perturbations(), []string{sim.Vision, "all"})
}

// ParsePerturbations reads names with commas between; names joined by "+" are one
// perturbation.
func ParsePerturbations(text string) ([]string, error) {
	var list []string
	for name := range strings.SplitSeq(text, ",") {
		if _, err := sim.ParsePerturbation(name); err != nil || name == "" {
			return nil, fmt.Errorf("there is no perturbation %q, only %s, or some joined by +", name, strings.Join(Perturbations(), ", "))
		}
		list = once(list, name)
	}
	return list, nil
}

func once(list []string, name string) []string {
	if slices.Contains(list, name) {
		return list
	}
	return append(list, name)
}

// Check names what there is not: a task under a perturbation that it does not know.
func (p Plan) Check() error {
	for _, name := range p.Perturbations {
		if name != (sim.Perturbation{}).String() && slices.Contains(p.Tasks, TinyReach) {
			return fmt.Errorf("task %s has no perturbation %s", TinyReach, name)
		}
	}
	return nil
}

// NewEpisode draws the scene and the words of an episode.
func NewEpisode(arms *sim.Arms, k Key) (*Episode, error) {
	p, err := sim.ParsePerturbation(k.Perturbation)
	if err != nil {
		return nil, err
	}
	if k.Task == TinyReach {
		if p != (sim.Perturbation{}) {
			return nil, fmt.Errorf("task %s has no perturbation %s", k.Task, k.Perturbation)
		}
		return tinyReach(arms, k.Seed)
	}
	task, err := sim.TaskNamed(k.Task)
	if err != nil {
		return nil, err
	}
	e, err := sim.NewEpisode(arms, task, k.Seed, p)
	if err != nil {
		return nil, err
	}
	return EpisodeOf(e), nil
}

// EpisodeOf is an episode of the simulator, in its own world.
func EpisodeOf(e *sim.Episode) *Episode {
	right, wrong := e.Expert(), e.WrongExpert()
	return &Episode{
		World: e.World, Instruction: e.Instruction, Wrong: e.Wrong, Limit: e.Limit, Success: e.Success,
		Expert: func(other bool) sim.Chunk {
			if other {
				return wrong.Chunk(e.World)
			}
			return right.Chunk(e.World)
		},
		Painter: func(width, height, samples int) Painter {
			r := sim.NewSmoothRenderer(e.World.Arms, width, height, samples)
			return func(c sim.CameraID, dst []byte) error { return r.RenderWorld(e.World, &e.Look, c, dst) }
		},
	}
}
