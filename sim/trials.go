package sim

import (
	"fmt"
	"time"
)

// TaskResult is what became of one episode on topics.
type TaskResult struct {
	Task        string
	Seed        uint64
	Instruction string
	// Success says whether it was done in time, and Took after how long, in
	// simulated time; where it was not, Took is how long was tried.
	Success bool
	Took    time.Duration
}

// String is one line for a person.
func (r TaskResult) String() string {
	verdict := "not done"
	if r.Success {
		verdict = "done"
	}
	return fmt.Sprintf("%s, seed %d, %q: %s after %.1f s", r.Task, r.Seed, r.Instruction, verdict, r.Took.Seconds())
}

// trials gives the episodes of a Process one after the other. The arms stay where
// they are between two, as on a robot whose table is laid anew, or are taken home
// before; those of a demonstration are brought there, outside of what is marked.
type trials struct {
	arms  *Arms
	conf  *Config
	tasks []Task
	home  *homing // nil: the arms stay

	index   int // of the episode under way
	skipped int // scenes that were done as they were laid
	episode *Episode
	expert  *Demonstrator
	spoken  time.Duration // since the instruction was last said
	silent  bool          // it is not said yet
	given   time.Duration // since the episode's clock started
	success bool
	after   time.Duration // since success
	leaving bool          // it is over, and the arms are on their way home
	done    []TaskResult
}

func newTrials(arms *Arms, conf *Config) (*trials, error) {
	t := &trials{arms: arms, conf: conf}
	if conf.Task == AllTasks {
		t.tasks = Tasks()
	} else {
		task, err := TaskNamed(conf.Task)
		if err != nil {
			return nil, err
		}
		t.tasks = []Task{task}
	}
	return t, t.begin(0, Home())
}

// begin lays the table of episode i with the arms in a posture. A scene in which
// they need do nothing, being where the one before left them, is no scene: the next
// seed takes its place.
func (t *trials) begin(i int, q State) error {
	task := t.tasks[i%len(t.tasks)]
	var e *Episode
	for n := 0; ; n, t.skipped = n+1, t.skipped+1 {
		var err error
		if e, err = NewEpisode(t.arms, task, t.conf.Seed+uint64(i+t.skipped), t.conf.Perturbation); err != nil {
			return err
		}
		e.World.Place(q)
		if n == maxSkipped || !doneAsItIs(e) {
			break
		}
	}
	e.World.SetServo(t.conf.Servo)
	t.index, t.episode, t.expert = i, e, e.Expert()
	t.spoken, t.given, t.success, t.after, t.leaving = repeat, 0, false, 0, false
	return nil
}

// maxSkipped bounds the search for a scene; of those of a task one in thirty is
// skipped at most.
const maxSkipped = 100

// doneAsItIs tells whether the task is done with arms that stay where they are.
func doneAsItIs(e *Episode) bool {
	w := e.World.Clone()
	w.Step(servoStep)
	return e.SuccessIn(w)
}

// advance lets dt pass, which the episode's world has already done. It returns
// what is to be said and what to be marked now, if anything, and whether all
// episodes are over. While waiting, the clock stands.
func (t *trials) advance(dt time.Duration, waiting bool) (say, mark string, done bool, err error) {
	if t.index >= t.conf.Episodes {
		return "", "", !t.conf.Stay, nil
	}
	if t.leaving {
		if !t.home.over(dt, t.episode.World) {
			return "", "", false, nil
		}
		return "", "", false, t.begin(t.index, t.episode.World.servo.Position)
	}
	if t.spoken += dt; t.spoken >= repeat && !t.silent {
		t.spoken, say = 0, t.episode.Instruction
	}
	if waiting {
		return say, "", false, nil
	}
	if t.given == 0 {
		mark = MarkStart
	}
	t.given += dt
	switch {
	case t.success:
		if t.after += dt; t.after < t.conf.Pause {
			return say, mark, false, nil
		}
	case mark == "" && t.episode.Success(): // a mark at a time
		t.success = true
		t.done = append(t.done, t.result())
		return say, MarkSuccess, false, nil
	case t.given < t.episode.Limit:
		return say, mark, false, nil
	default:
		t.done = append(t.done, t.result())
		mark = MarkFailure
	}
	if t.index++; t.index >= t.conf.Episodes {
		return "", mark, !t.conf.Stay, nil
	}
	if t.home != nil {
		t.leaving, t.given = true, 0
		t.home.begin()
		return "", mark, false, nil
	}
	from := t.episode.World.servo.Position
	if t.conf.Demonstrate {
		from = Home()
	}
	return "", mark, false, t.begin(t.index, from)
}

func (t *trials) result() TaskResult {
	return TaskResult{
		Task: t.episode.Task.Name, Seed: t.episode.Seed, Instruction: t.episode.Instruction,
		Success: t.success, Took: t.given,
	}
}

// results returns those of the finished episodes and of the one under way.
func (t *trials) results() []TaskResult {
	out := append([]TaskResult(nil), t.done...)
	if t.index < t.conf.Episodes && !t.success && t.given > 0 {
		out = append(out, t.result())
	}
	return out
}
