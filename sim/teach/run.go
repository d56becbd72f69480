package teach

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

// Summary is what was written.
type Summary struct {
	// Frames and Recordings (episodes of the data set) written, and Failed, the
	// scenes that gave none, since the expert did not manage them.
	Frames, Recordings, Failed int
}

// Run records the demonstrations that c describes.
func Run(ctx context.Context, c Config) (sum Summary, err error) {
	if err := c.Validate(); err != nil {
		return sum, err
	}
	robot, err := urdf.CobotMagic()
	if err != nil {
		return sum, err
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		return sum, err
	}
	writer, err := dataset.Create(c.Out, c.info())
	if err != nil {
		return sum, err
	}
	defer func() { err = errors.Join(err, writer.Abandon()) }()

	group, ctx := errgroup.WithContext(ctx)
	// Episodes are made at the same time and written in their order: queue holds
	// what is under way, oldest first.
	type made chan *batch
	queue := make(chan made, c.Workers)
	jobs := make(chan func(*maker) error)
	all := len(c.Tasks) * c.Episodes
	group.Go(func() error {
		defer close(queue)
		defer close(jobs)
		for n := range all {
			result := make(made, 1)
			job := func(m *maker) error {
				b, err := m.make(ctx, n)
				if err != nil {
					return err
				}
				result <- b
				return nil
			}
			select {
			case queue <- result:
			case <-ctx.Done():
				return ctx.Err()
			}
			select {
			case jobs <- job:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range c.Workers {
		group.Go(func() (err error) {
			m, err := newMaker(ctx, &c, arms)
			if err != nil {
				return err
			}
			defer func() { err = errors.Join(err, m.close()) }()
			for job := range jobs {
				if err := job(m); err != nil {
					return err
				}
			}
			return nil
		})
	}
	group.Go(func() error {
		done := 0
		for result := range queue {
			var b *batch
			select {
			case b = <-result:
			case <-ctx.Done():
				return ctx.Err()
			}
			if len(b.recordings) == 0 {
				sum.Failed++
			}
			if err := b.write(writer); err != nil {
				return err
			}
			done++
			sum.Frames, sum.Recordings = writer.Info().Frames, writer.Info().Episodes
			if c.Progress != nil {
				c.Progress(done, all, sum.Frames)
			}
		}
		return nil
	})
	if err := group.Wait(); err != nil {
		return sum, err
	}
	return sum, writer.Close()
}

// batch is all of one episode, ready to be written.
type batch struct {
	recordings []*recording
	images     []byte // of all frames with pictures, one after the other
	stride     int
	frameBytes int
}

// maker makes batches; it is used by one goroutine.
type maker struct {
	conf      *Config
	arms      *sim.Arms
	visitor   Visitor // nil without a policy
	renderer  *sim.Renderer
	picture   []byte // of the robot's size, where pipelines bring it to the data set's
	pipelines []*vision.Pipeline
}

func newMaker(ctx context.Context, c *Config, arms *sim.Arms) (*maker, error) {
	m := &maker{conf: c, arms: arms}
	var err error
	if c.Samples > 0 {
		m.renderer = sim.NewSmoothRenderer(arms, c.Size, c.Size, c.Samples)
	} else {
		m.renderer = sim.NewRenderer(arms, sim.PictureWidth, sim.PictureHeight)
		m.picture = make([]byte, m.renderer.Size())
		info := c.info()
		if m.pipelines, err = info.Pipelines(); err != nil {
			return nil, err
		}
	}
	if c.Visits > 0 {
		m.visitor, err = c.Visitor(ctx)
	}
	return m, err
}

func (m *maker) close() error {
	if m.visitor == nil {
		return nil
	}
	return m.visitor.Close()
}

// make records and draws episode n of all.
func (m *maker) make(ctx context.Context, n int) (*batch, error) {
	// Tasks take turns, so that a prefix of the data set has all of them.
	task := m.conf.Tasks[n%len(m.conf.Tasks)]
	const stream = 1 << 43
	recordings, err := m.demonstrate(ctx, task, n, sim.NewRand(m.conf.Seed, stream+uint64(n)))
	if err != nil {
		return nil, fmt.Errorf("task %s, scene %d: %w", task.Name, n, err)
	}
	b := &batch{recordings: recordings, frameBytes: sim.Cameras * 3 * m.conf.Size * m.conf.Size, stride: m.conf.PictureStride}
	frames := 0
	for _, r := range recordings {
		frames += (len(r.worlds) + m.conf.PictureStride - 1) / m.conf.PictureStride
	}
	b.images = make([]byte, frames*b.frameBytes)
	rest := b.images
	for _, r := range recordings {
		for t, w := range r.worlds {
			if t%m.conf.PictureStride != 0 {
				continue
			}
			for id := range sim.CameraID(sim.Cameras) {
				one := b.frameBytes / sim.Cameras
				if err := m.draw(w, &r.episode.Look, id, rest[:one:one]); err != nil {
					return nil, err
				}
				rest = rest[one:]
			}
		}
	}
	return b, nil
}

func (m *maker) draw(w *sim.World, look *sim.Look, id sim.CameraID, dst []byte) error {
	if m.pipelines == nil {
		return m.renderer.RenderWorld(w, look, id, dst)
	}
	if err := m.renderer.RenderWorld(w, look, id, m.picture); err != nil {
		return err
	}
	raw := vision.Raw{
		Encoding: "rgb8", Width: sim.PictureWidth, Height: sim.PictureHeight,
		Step: 3 * sim.PictureWidth, Data: m.picture,
	}
	return m.pipelines[id].Raw(raw, dst)
}

func (b *batch) write(w *dataset.Writer) error {
	rest := b.images
	for _, r := range b.recordings {
		if err := w.BeginEpisode(); err != nil {
			return err
		}
		for i, world := range r.worlds {
			proprio := world.State()
			var pictures []byte
			if i%b.stride == 0 {
				pictures, rest = rest[:b.frameBytes], rest[b.frameBytes:]
			}
			if err := w.Frame(pictures, proprio[:], r.commands[i][:]); err != nil {
				return err
			}
		}
		goal, err := json.Marshal(r.episode.Goal)
		if err != nil {
			return err
		}
		success := true
		err = w.EndEpisode(dataset.Episode{
			Instruction: r.instruction, Paraphrases: r.episode.Paraphrases, Task: r.episode.Task.Name,
			Success: &success, Source: r.describe(), Goal: goal,
		})
		if err != nil {
			return err
		}
	}
	return nil
}
