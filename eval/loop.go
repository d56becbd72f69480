package eval

import (
	"context"
	"errors"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/sim"
)

// step is the simulation's: the joint servo's, and how often the drivers tell where
// the joints are (200 Hz).
const step = 5 * time.Millisecond

// Loop runs episodes on a simulated clock: the world steps at 200 Hz and its joints are
// fed back; commands go to it at the executor's rate; chunks are asked for every Every,
// and reach the executor when their latency is over.
type Loop struct {
	// Control sets up the executor, as on the robot; Runs at the same time need a
	// Guard each.
	Control control.Config
	// Every is the least time between two observations.
	Every time.Duration
	// Latency is charged between an observation and its chunk, rounded up to 5 ms. No
	// other chunk is begun meanwhile, as one model computes one after the other.
	Latency Latency
	// WrongInstructions tells the arms to do something else than what is judged.
	WrongInstructions bool
	// Servo is what the drives add; its noise is drawn from the episode's own seed.
	Servo sim.ServoOptions
	// Frames is how many pictures the strip of a failure has, 0 for none.
	Frames int
}

// epoch0 is when every episode begins by the executor's clock.
func epoch0() time.Time { return time.Unix(1_700_000_000, 0) }

// thinking is a chunk that the world does not know of yet.
type thinking struct {
	thought Thought
	ready   time.Duration // since the episode's begin
}

// run is one episode under way.
type run struct {
	*Loop
	actor    Actor
	episode  *Episode
	executor *control.Executor
	record   Record
	strip    *strip

	instruction string
	begun       time.Duration // of the newest observation
	thinking    *thinking
	took        []float64 // s, of every chunk
}

// Run runs an episode to its end. The error is of ctx or of the program's own making:
// what goes wrong in the episode itself makes it a failed one. The strip of pictures,
// a JPEG, is there for failures.
func (l *Loop) Run(ctx context.Context, a Actor, e *Episode, seed uint64) (Record, []byte, error) {
	r := &run{Loop: l, actor: a, episode: e, instruction: e.Instruction}
	if l.WrongInstructions {
		r.instruction = e.Wrong
	}
	var err error
	if r.executor, err = control.New(l.Control); err != nil {
		return Record{}, nil, err
	}
	if err := a.Begin(e, seed); err != nil {
		return Record{}, nil, err
	}
	if l.Servo != (sim.ServoOptions{}) {
		servo := l.Servo
		servo.Seed = seed
		e.World.SetServo(servo)
	}
	if l.Frames > 0 {
		r.strip = newStrip(e, l.Frames)
	}
	began := time.Now()
	if err := r.live(ctx); err != nil {
		return Record{}, nil, err
	}
	r.sum(time.Since(began))
	if r.record.Success || r.strip == nil {
		return r.record, nil, nil
	}
	jpeg, err := r.strip.encode()
	return r.record, jpeg, err
}

// now is the executor's clock.
func (r *run) now() time.Time { return epoch0().Add(r.episode.World.Now()) }

// live steps the world until the task is done, its time over, or the arms stopped for
// good.
func (r *run) live(ctx context.Context) error {
	period, start := r.executor.Period(), r.episode.World.Now()
	tick := start + period // when the next command is due
	for {
		at := r.episode.World.Now()
		if err := r.feed(); err != nil {
			return err
		}
		if at == start {
			if err := r.executor.Enable(r.now()); err != nil {
				r.record.Why = err.Error()
				return nil
			}
		}
		if r.strip != nil {
			if err := r.strip.see(at); err != nil {
				return err
			}
		}
		if err := r.think(ctx); err != nil {
			return err
		}
		if at >= tick {
			tick += period
			if c, ok := r.executor.Tick(r.now()); ok {
				r.episode.World.Command(sim.State(c.Positions))
			}
			if s := r.executor.Status(); s.Code.Latched() {
				r.record.Why = "stopped: " + s.Code.String()
				r.explain(s.Code)
				return nil
			}
			if r.episode.Success() {
				r.record.Success = true
				return nil
			}
		}
		if at >= r.episode.Limit {
			r.record.Why = "time is over"
			return nil
		}
		r.episode.World.Step(step)
	}
}

// explain keeps what the executor told of a stop.
func (r *run) explain(code control.Code) {
	for _, event := range r.executor.Events(nil) {
		if event.Code == code {
			r.record.Error = event.String()
		}
	}
}

// feed tells the executor where the joints are, and that there are pictures.
func (r *run) feed() error {
	q, now := r.episode.World.State(), r.now()
	for arm := range r.Control.Layout {
		if err := r.executor.Feedback(arm, r.Control.Layout.Of(arm, q[:]), now, now); err != nil {
			return err
		}
	}
	r.executor.Observed(now, now)
	return nil
}

// think hands over the chunk that is ready and begins the next one when it is due.
func (r *run) think(ctx context.Context) error {
	at := r.episode.World.Now()
	if r.thinking != nil && at >= r.thinking.ready {
		r.handOver()
	}
	now := r.now()
	due := r.record.Chunks+r.record.Failed == 0 || at-r.begun >= r.Every
	if r.thinking != nil || !due || r.executor.NextInference(now).After(now) {
		return nil
	}
	r.begun = at
	q := r.episode.World.State()
	thought, err := r.actor.Act(ctx, &Moment{
		Episode: r.episode, Instruction: r.instruction, Wrong: r.WrongInstructions, Now: now, Joints: q[:],
		Executor: r.executor, Epoch: r.executor.Epoch(), Latency: r.expected(),
	})
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		r.record.Failed++
		r.record.Error = err.Error()
		return nil
	}
	r.record.Chunks++
	r.record.Rounds += thought.Rounds
	r.took = append(r.took, thought.Took.Seconds())
	latency := r.Latency.Fixed
	if r.Latency.Measured {
		latency = thought.Took
	}
	r.thinking = &thinking{thought, at + latency}
	if latency == 0 {
		r.handOver()
	}
	return nil
}

// handOver gives the executor the chunk, as a node does.
func (r *run) handOver() {
	t := r.thinking.thought
	r.thinking = nil
	if t.Refused != nil {
		r.record.Error = t.Refused.Error()
	}
	if errors.Is(t.Refused, control.ErrImplausible) {
		r.executor.Refuse(control.Implausible, r.now())
		return
	}
	r.executor.Replace(t.Trajectory, r.now())
}

// expected is how long a chunk will take in the world: with measured latencies what
// 95 % of this episode's took, as a node reckons.
func (r *run) expected() time.Duration {
	if !r.Latency.Measured {
		return r.Latency.Fixed
	}
	if len(r.took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.took))
	return time.Duration(stat.Quantile(0.95, stat.Empirical, sorted, nil) * float64(time.Second))
}

// sum completes the record.
func (r *run) sum(took time.Duration) {
	c := &r.record
	c.Instruction, c.Told = r.episode.Instruction, ""
	if r.instruction != c.Instruction {
		c.Told = r.instruction
	}
	c.Time = r.episode.World.Now().Seconds()
	counters := r.executor.Status().Counters
	for code := range control.Codes() {
		n, code := counters.ByCode[code], control.Code(code)
		if n == 0 || code == control.OK || code == control.Enabled || code == control.Waiting {
			continue
		}
		if c.Codes == nil {
			c.Codes = map[string]uint64{}
		}
		c.Codes[code.String()] = n
	}
	c.Timing = Timing{Took: took.Seconds()}
	if len(r.took) > 0 {
		sorted := slices.Sorted(slices.Values(r.took))
		c.Timing.P50 = 1e3 * stat.Quantile(0.5, stat.Empirical, sorted, nil)
		c.Timing.P95 = 1e3 * stat.Quantile(0.95, stat.Empirical, sorted, nil)
	}
}
