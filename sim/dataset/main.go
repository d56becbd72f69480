// Command dataset writes demonstrations of the reaching task, on which train
// fits the tiny policy:
//
//	go run ./sim/dataset --out DIR --n 20000 --seed 1
//
// Each sample is one scene, one instruction and one pose, with what the three
// cameras see and the chunk of motion that the scripted expert would make from
// there. Pictures go through the image recipe that the running policy uses. The
// same arguments give the same bytes, whatever --workers is.
//
// It writes to DIR, all numbers little endian, n samples each:
//
//	meta.json          sizes, names, seed
//	images.u8          [n, cameras, size, size, 3]
//	proprio.f32        [n, dims]                  rad, m
//	actions.f32        [n, chunk, dims]           the chunk the instruction asks for
//	alternatives.f32   [n, 3, chunk, dims]        the chunks of the other three
//	                   colours, in the order of sim.Colours without the one named;
//	                   NaN where the scene has no such cube
//	goals.f32          [n, 4, dims]               the poses that the chunks head for, in the order of
//	                   sim.Colours; NaN where the scene has no such cube
//	instructions.json  [n] texts
//	colours.json       [n] the colour named
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
)

func main() {
	var c config
	flag.StringVar(&c.out, "out", "", "directory to write to (created)")
	flag.IntVar(&c.n, "n", 20000, "number of samples")
	flag.Uint64Var(&c.seed, "seed", 1, "seed of everything that is drawn")
	flag.IntVar(&c.size, "size", 64, "side of the pictures in pixels")
	flag.IntVar(&c.workers, "workers", 1, "samples made at the same time")
	flag.Parse()
	if err := write(c); err != nil {
		fmt.Fprintln(os.Stderr, "dataset:", err)
		os.Exit(1)
	}
}

type config struct {
	out     string
	n       int
	seed    uint64
	size    int
	workers int
}

func (c config) validate() error {
	switch {
	case c.out == "":
		return errors.New("--out is missing: name the directory to write to")
	case c.n < 1:
		return fmt.Errorf("--n is %d, must be at least 1", c.n)
	case c.size < 8 || c.size > 480:
		return fmt.Errorf("--size is %d, must be 8 to 480", c.size)
	case c.workers < 1:
		return fmt.Errorf("--workers is %d, must be at least 1", c.workers)
	}
	return nil
}

// meta is meta.json.
type meta struct {
	N          int      `json:"n"`
	Cameras    []string `json:"cameras"`
	Size       int      `json:"size"`
	Chunk      int      `json:"chunk"`
	Dims       int      `json:"dims"`
	ActionRate float64  `json:"action_rate"`
	Names      []string `json:"names"`
	Colours    []string `json:"colours"`
	Seed       uint64   `json:"seed"`
	// Recipes are the cameras' image recipes, as the bundle's manifest has them.
	Recipes []bundle.Camera `json:"recipes"`
}

// batch is how many samples are made between two writes.
const batch = 32

func write(c config) error {
	if err := c.validate(); err != nil {
		return err
	}
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	robot, err := urdf.CobotMagic()
	if err != nil {
		return err
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		return err
	}
	makers := make([]*maker, c.workers)
	for i := range makers {
		if makers[i], err = newMaker(arms, c.seed, c.size); err != nil {
			return err
		}
	}
	m := meta{
		N: c.n, Size: c.size, Chunk: sim.ChunkRows, Dims: sim.Dims, ActionRate: sim.ChunkRate,
		Names: sim.Names(), Seed: c.seed, Recipes: recipes(c.size),
	}
	for id := range sim.CameraID(sim.Cameras) {
		m.Cameras = append(m.Cameras, id.String())
	}
	for _, colour := range sim.Colours() {
		m.Colours = append(m.Colours, string(colour))
	}
	out, err := newOutput(c.out)
	if err != nil {
		return err
	}
	defer out.close()

	start := time.Now()
	samples := make([]sample, batch)
	for done := 0; done < c.n; done += batch {
		now := samples[:min(batch, c.n-done)]
		var group errgroup.Group
		for w, mk := range makers {
			group.Go(func() error {
				for i := w; i < len(now); i += len(makers) {
					if err := mk.make(uint64(done+i), &now[i]); err != nil {
						return fmt.Errorf("sample %d: %w", done+i, err)
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		for i := range now {
			if err := out.append(&now[i]); err != nil {
				return err
			}
		}
		if (done/batch)%64 == 63 {
			fmt.Fprintf(os.Stderr, "%d of %d samples, %.1f ms each\n", done+len(now), c.n,
				1e3*time.Since(start).Seconds()/float64(done+len(now)))
		}
	}
	if err := out.finish(m); err != nil {
		return err
	}
	fmt.Printf("%d samples in %s, %.1f ms each\n", c.n, c.out, 1e3*time.Since(start).Seconds()/float64(c.n))
	return nil
}

// recipes is what happens to the pictures of the tiny policy: OpenVLA's recipe
// at a smaller size.
func recipes(size int) []bundle.Camera {
	out := make([]bundle.Camera, sim.Cameras)
	for i := range out {
		out[i] = bundle.Camera{
			Name:        sim.CameraID(i).String(),
			JPEGQuality: 95,
			Resize:      bundle.Resize{Width: size, Height: size, Filter: bundle.Lanczos3},
			CropArea:    0.9,
		}
	}
	return out
}

// sample is one record of the data set.
type sample struct {
	images       []byte
	state        sim.State
	chunk        sim.Chunk
	alternatives [3]sim.Chunk
	goals        [4]sim.State
	instruction  string
	colour       sim.Colour
}

// maker makes samples; it is used by one goroutine.
type maker struct {
	arms      *sim.Arms
	seed      uint64
	size      int
	renderer  *sim.Renderer
	picture   []byte
	pipelines []*vision.Pipeline
}

func newMaker(arms *sim.Arms, seed uint64, size int) (*maker, error) {
	m := &maker{arms: arms, seed: seed, size: size, renderer: sim.NewRenderer(arms, sim.PictureWidth, sim.PictureHeight)}
	m.picture = make([]byte, m.renderer.Size())
	for _, recipe := range recipes(size) {
		p, err := vision.New(recipe)
		if err != nil {
			return nil, err
		}
		m.pipelines = append(m.pipelines, p)
	}
	return m, nil
}

// make fills s with the sample of that number.
func (m *maker) make(index uint64, s *sample) error {
	rng := sim.NewRand(m.seed, index)
	scene := sim.NewScene(rng)
	expert, err := sim.NewExpert(m.arms, scene)
	if err != nil {
		return err
	}
	s.colour = scene.Cubes[rng.IntN(len(scene.Cubes))].Colour
	s.instruction = sim.Instruction(rng, s.colour)
	goal, _ := expert.Goal(s.colour)
	s.state = expert.Sample(rng, m.arms, goal)
	s.chunk = sim.Plan(s.state, goal)
	other := 0
	for i, c := range sim.Colours() {
		goal, ok := expert.Goal(c)
		if !ok {
			goal = absent()
		}
		s.goals[i] = goal
		if c == s.colour {
			continue
		}
		s.alternatives[other] = sim.Plan(s.state, goal) // NaN where the goal is
		other++
	}
	one := 3 * m.size * m.size
	s.images = append(s.images[:0], make([]byte, sim.Cameras*one)...)
	for i := range sim.Cameras {
		if err := m.renderer.Render(&s.state, scene, sim.CameraID(i), m.picture); err != nil {
			return err
		}
		raw := vision.Raw{
			Encoding: "rgb8", Width: sim.PictureWidth, Height: sim.PictureHeight,
			Step: 3 * sim.PictureWidth, Data: m.picture,
		}
		if err := m.pipelines[i].Raw(raw, s.images[i*one:(i+1)*one]); err != nil {
			return err
		}
	}
	return nil
}

func absent() (q sim.State) {
	for i := range q {
		q[i] = math.NaN()
	}
	return q
}

// output is the open files of a data set.
type output struct {
	dir                                           string
	images, proprio, actions, alternatives, goals *file
	instructions                                  []string
	colours                                       []string
	scratch                                       []byte
}

type file struct {
	*bufio.Writer
	f *os.File
}

func newOutput(dir string) (*output, error) {
	o := &output{dir: dir}
	for _, t := range []struct {
		name string
		to   **file
	}{
		{"images.u8", &o.images}, {"proprio.f32", &o.proprio},
		{"actions.f32", &o.actions}, {"alternatives.f32", &o.alternatives}, {"goals.f32", &o.goals},
	} {
		f, err := os.Create(filepath.Join(dir, t.name))
		if err != nil {
			o.close()
			return nil, err
		}
		*t.to = &file{bufio.NewWriterSize(f, 1<<20), f}
	}
	return o, nil
}

func (o *output) append(s *sample) error {
	if _, err := o.images.Write(s.images); err != nil {
		return err
	}
	if err := o.floats(o.proprio, s.state); err != nil {
		return err
	}
	if err := o.floats(o.actions, s.chunk[:]...); err != nil {
		return err
	}
	for i := range s.alternatives {
		if err := o.floats(o.alternatives, s.alternatives[i][:]...); err != nil {
			return err
		}
	}
	if err := o.floats(o.goals, s.goals[:]...); err != nil {
		return err
	}
	o.instructions = append(o.instructions, s.instruction)
	o.colours = append(o.colours, string(s.colour))
	return nil
}

func (o *output) floats(f *file, rows ...sim.State) error {
	o.scratch = o.scratch[:0]
	for i := range rows {
		for _, v := range rows[i] {
			o.scratch = binary.LittleEndian.AppendUint32(o.scratch, math.Float32bits(float32(v)))
		}
	}
	_, err := f.Write(o.scratch)
	return err
}

// finish writes what is still buffered, and meta.json last, so that an
// interrupted run is not taken for a data set.
func (o *output) finish(m meta) error {
	for _, f := range []*file{o.images, o.proprio, o.actions, o.alternatives, o.goals} {
		if err := f.Flush(); err != nil {
			return err
		}
		if err := f.f.Close(); err != nil {
			return err
		}
	}
	for _, j := range []struct {
		name  string
		value any
	}{{"instructions.json", o.instructions}, {"colours.json", o.colours}, {"meta.json", m}} {
		raw, err := json.MarshalIndent(j.value, "", " ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(o.dir, j.name), append(raw, '\n'), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// close releases the files; after finish it does nothing that matters.
func (o *output) close() {
	for _, f := range []*file{o.images, o.proprio, o.actions, o.alternatives, o.goals} {
		if f != nil {
			f.f.Close()
		}
	}
}
