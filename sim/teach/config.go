package teach

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/dataset"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/sim"
)

// Config says what to record. [DefaultConfig] has the defaults.
type Config struct {
	// Out is the directory to write, which must not exist or be empty.
	Out string
	// Name is the data set's name (default "sim").
	Name string
	// Tasks are recorded in turn; default all.
	Tasks []sim.Task
	// Episodes is how many scenes of each task are drawn (default 100). Each gives
	// 1 + Starts + Scatters + Visits recordings of an instruction, those of its
	// counterpart, and Shoves; fewer where the expert fails.
	Episodes int
	// Seed draws everything. The same configuration gives the same bytes, whatever
	// Workers is. Scenes are those of episode seeds from (Seed+1)<<32 on, which
	// leaves all smaller ones to evaluation.
	Seed uint64
	// Shoves is how many recordings start from a disturbed state of an earlier one
	// of the episode (default 3).
	Shoves int
	// Starts is how many more recordings of each instruction start at home or near
	// it (default 3). An arm is at home before a task and after it: a policy that sees it there
	// more often after one than before stays.
	Starts int
	// Scatters is how many recordings of each instruction start with the arms
	// anywhere over the table (default 5). What they should do then follows from the
	// pictures and the instruction alone: without such recordings a policy learns to
	// go on as the arms do, and does not know how to begin.
	Scatters int
	// Keep is how many frames are kept of the recordings of Starts and Scatters, and
	// half of how many of those after shoves (default 24): what follows is as in
	// other recordings.
	Keep int
	// Visits is how many recordings of each instruction start from states that a policy
	// got into, and Visitor makes that policy (default none): what the expert would do
	// where the policy has gone wrong (Ross, Gordon, Bagnell: "A Reduction of Imitation
	// Learning and Structured Prediction to No-Regret Online Learning", AISTATS 2011).
	// Half of the policy's ways begin at home and half on the expert's way. Of each
	// visited state two pictures are kept.
	// Policy is its name in the data set.
	Visits  int
	Visitor func(context.Context) (Visitor, error)
	Policy  string
	// Counterparts is the share of episodes of whose scene the counterpart is
	// recorded as well: what another instruction asks for there (default 1).
	Counterparts float64
	// Perturbation is what the scenes differ in from those without one (default
	// nothing): other light, tables and places of cameras, each scene its own. A
	// policy that has seen many takes the next ones as one of them ("domain
	// randomization"; Tobin et al., IROS 2017). Phrases are not perturbed: those of
	// Language are kept for evaluation.
	Perturbation sim.Perturbation
	// PictureStride is the data set's: every n-th frame has pictures (default
	// 8). Frames in between look alike and take most of the time and space.
	PictureStride int
	// Size is the side of the pictures (default 96).
	Size int
	// Samples is how many pixels each way are drawn for a pixel (default 2); 0 draws
	// pictures of the robot's size and puts them through the recipe of the data
	// set, which takes several times as long.
	Samples int
	// Workers make episodes at the same time (default one for each processor).
	Workers int
	// Progress may be nil; it is called after each episode with how many there are.
	Progress func(done, all, frames int)
}

// Visitor is a policy under way. It is for one goroutine.
type Visitor interface {
	// Visit does an episode, in its world, and returns clones of that as it was on the
	// way. seed draws whatever is random in the policy.
	Visit(ctx context.Context, e *sim.Episode, seed uint64) ([]*sim.World, error)
	Close() error
}

// DefaultConfig returns the defaults named at the fields.
func DefaultConfig() Config {
	return Config{
		Name: "sim", Tasks: sim.Tasks(), Episodes: 100, Shoves: 3, Starts: 3, Scatters: 5, Keep: 24, Counterparts: 1, PictureStride: 8,
		Size: 96, Samples: 2, Workers: runtime.GOMAXPROCS(0),
	}
}

// maxSize bounds pictures to about the robot's own.
const maxSize = 480

// Validate names the first field that cannot be used by its flag.
func (c *Config) Validate() error {
	switch {
	case c.Out == "":
		return errors.New("teach: --out is missing: name the directory to write to")
	case len(c.Tasks) == 0:
		return errors.New("teach: --tasks names no task")
	case c.Episodes < 1 || c.Episodes >= 1<<31:
		return fmt.Errorf("teach: --episodes is %d, must be at least 1 and below 2^31", c.Episodes)
	case c.Seed >= 1<<31:
		return fmt.Errorf("teach: --seed is %d, must be below 2^31", c.Seed)
	case c.Shoves < 0:
		return fmt.Errorf("teach: --shoves is %d, must be 0 or more", c.Shoves)
	case c.Starts < 0:
		return fmt.Errorf("teach: --starts is %d, must be 0 or more", c.Starts)
	case c.Scatters < 0:
		return fmt.Errorf("teach: --scatters is %d, must be 0 or more", c.Scatters)
	case c.Visits < 0:
		return fmt.Errorf("teach: --visits is %d, must be 0 or more", c.Visits)
	case c.Visits > 0 && c.Visitor == nil:
		return errors.New("teach: Visits without a Visitor")
	case c.Perturbation.Language:
		return fmt.Errorf("teach: --perturb is %v; the phrases of language are kept for evaluation, leave it out", c.Perturbation)
	case c.Keep < 1:
		return fmt.Errorf("teach: --keep is %d, must be at least 1", c.Keep)
	case c.PictureStride < 1 || c.PictureStride > 1000:
		return fmt.Errorf("teach: --picture-stride is %d, must be 1 to 1000", c.PictureStride)
	case !(c.Counterparts >= 0 && c.Counterparts <= 1):
		return fmt.Errorf("teach: --counterparts is %g, must be 0 to 1", c.Counterparts)
	case c.Size < 8 || c.Size > maxSize:
		return fmt.Errorf("teach: --size is %d, must be 8 to %d", c.Size, maxSize)
	case c.Samples < 0 || c.Samples > 8:
		return fmt.Errorf("teach: --samples is %d, must be 0 to 8", c.Samples)
	case c.Workers < 1:
		return fmt.Errorf("teach: --workers is %d, must be at least 1", c.Workers)
	}
	return nil
}

// info is the head of the data set.
func (c *Config) info() dataset.Info {
	info := dataset.Info{Name: c.Name, Rate: sim.ChunkRate, Size: c.Size}
	if c.PictureStride > 1 {
		info.PictureStride = c.PictureStride
	}
	for id := range sim.CameraID(sim.Cameras) {
		info.Cameras = append(info.Cameras, bundle.Camera{
			Name:     id.String(),
			Resize:   bundle.Resize{Width: c.Size, Height: c.Size, Filter: bundle.Lanczos3},
			CropArea: 1,
		})
	}
	for _, name := range sim.Names() {
		arm, _, _ := strings.Cut(name, "_")
		unit := "rad"
		var gripper *bundle.Gripper
		if strings.HasSuffix(name, "gripper") {
			unit, gripper = "m", &bundle.Gripper{Mode: bundle.GripperMetres, Open: sim.GripperOpen}
		}
		info.Action = append(info.Action, bundle.ActionDim{Name: name, Space: bundle.Joint, Arm: arm, Unit: unit, Gripper: gripper})
		info.Proprio = append(info.Proprio, bundle.ProprioDim{Name: name, Arm: arm, Unit: unit})
	}
	home := sim.Home()
	info.Start = home[:]
	var tasks []string
	for _, t := range c.Tasks {
		tasks = append(tasks, t.Name)
	}
	info.MadeBy = dataset.MadeBy{Program: "ddvla sim demos", Options: map[string]string{
		"tasks": strings.Join(tasks, ","), "episodes": strconv.Itoa(c.Episodes), "seed": strconv.FormatUint(c.Seed, 10),
		"shoves": strconv.Itoa(c.Shoves), "counterparts": strconv.FormatFloat(c.Counterparts, 'g', -1, 64),
		"starts": strconv.Itoa(c.Starts), "scatters": strconv.Itoa(c.Scatters), "keep": strconv.Itoa(c.Keep), "picture_stride": strconv.Itoa(c.PictureStride),
		"samples": strconv.Itoa(c.Samples), "visits": strconv.Itoa(c.Visits),
		"perturb": c.Perturbation.String(),
	}}
	if c.Visits > 0 {
		info.MadeBy.Options["policy"] = c.Policy
	}
	return info
}
