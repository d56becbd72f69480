// Package dataset writes and reads demonstrations on disk, the form in which they
// go from bags (`ddvla dataset`) and the simulator (`ddvla sim demos`) to the
// trainer (train/ddvla/dataset.py). A data set is a directory:
//
//	dataset.json             [Info]: sizes, rate, cameras with their image recipes, dimensions
//	episodes.jsonl           [Episode], one a line, in the order of their frames
//	images.u8                [pictures, cameras, size, size, 3], RGB; pictures are frames, unless Info.PictureStride is set
//	proprio.f32              [frames, proprio dimensions], rad and m, not normalised
//	action.f32               [frames, action dimensions], rad and m, not normalised
//	dataset_statistics.json  [Statistics] under the data set's name, as openvla-oft writes it
//
// Arrays are raw and little endian, for memory maps. Pictures went through the
// camera's whole recipe but its crop: trainers crop at random, evaluation the centre.
// Row t of action.f32 is what was commanded for the time one frame after t, so that
// the sample of frame t is its pictures, its proprio, the episode's instruction and
// actions t to t+H-1, the episode's last one repeated beyond its end ([Reader.Chunk]).
//
// dataset.json is written last, by a rename: a directory without it is what an
// interrupted run left, and no data set.
package dataset

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
)

// Schema is the version of the directory's form.
const Schema = 1

// The files of a data set.
const (
	InfoFile       = "dataset.json"
	EpisodesFile   = "episodes.jsonl"
	ImagesFile     = "images.u8"
	ProprioFile    = "proprio.f32"
	ActionFile     = "action.f32"
	StatisticsFile = "dataset_statistics.json"
)

// ErrDataset is what every error about a data set's contents wraps.
var ErrDataset = errors.New("data set")

// ErrNoPictures is what reading the pictures of a frame without any wraps.
var ErrNoPictures = errors.New("no pictures")

// What a data set may have at most, so that sizes read from a file cannot overflow.
const (
	maxFrames  = 1 << 30
	maxCameras = 16
	maxSize    = 4096
	maxDims    = 256
	maxInfo    = 4 << 20 // bytes of dataset.json
	maxLine    = 1 << 20 // bytes of a line of episodes.jsonl
)

// Info is dataset.json.
type Info struct {
	Schema int `json:"schema"`
	// Name is the data set's key in dataset_statistics.json, and so in checkpoints.
	Name string `json:"name"`
	// Rate in Hz is of frames and so of actions.
	Rate float64 `json:"rate"`
	// Frames and Episodes are counted by the Writer.
	Frames   int `json:"frames"`
	Episodes int `json:"episodes"`
	// Size is the side of all pictures in pixels.
	Size int `json:"size"`
	// PictureStride is set where not all frames have pictures: those at multiples of
	// it from an episode's first frame have. Training is then on these alone, while
	// the frames between give the chunks their rows. 0 and 1 are all frames.
	PictureStride int `json:"picture_stride,omitempty"`
	// Cameras are in the order of images.u8, each with its whole recipe, as in a
	// bundle's manifest; Resize is to Size x Size.
	Cameras []bundle.Camera `json:"cameras"`
	// Action and Proprio are the columns of action.f32 and proprio.f32, as in a
	// bundle's manifest. Proprio may be empty.
	Action  []bundle.ActionDim  `json:"action"`
	Proprio []bundle.ProprioDim `json:"proprio"`
	// Start is the state, in Proprio's order and units, in which a task is to be
	// begun. Where it is empty, that is the median of the episodes' first states; a
	// generator whose episodes are also of moments amid a task says it here.
	Start  []float64 `json:"start,omitempty"`
	MadeBy MadeBy    `json:"made_by"`
}

// MadeBy records what wrote a data set and how.
type MadeBy struct {
	// Program and version.
	Program string `json:"program"`
	// Options that changed the result, by name.
	Options map[string]string `json:"options,omitempty"`
}

// Episode is one line of episodes.jsonl.
type Episode struct {
	// Episode counts from 0; Start is the episode's first frame and Length its frames,
	// at least 1. The Writer sets these three.
	Episode int `json:"episode"`
	Start   int `json:"start"`
	Length  int `json:"length"`
	// Instruction is what was asked for, not empty; Paraphrases say the same in other words.
	Instruction string   `json:"instruction"`
	Paraphrases []string `json:"paraphrases,omitempty"`
	// Task names what was to be done, where there is a name.
	Task string `json:"task"`
	// Success is nil where nobody told.
	Success *bool `json:"success"`
	// Source is the bag or the seed that the episode came from.
	Source string `json:"source"`
	// Goal is what the source knows of the goal, any JSON.
	Goal json.RawMessage `json:"goal,omitempty"`
}

// ImageBytes is the size of one frame of images.u8.
func (i *Info) ImageBytes() int { return len(i.Cameras) * 3 * i.Size * i.Size }

// stride is PictureStride as a number to divide by.
func (i *Info) stride() int { return max(i.PictureStride, 1) }

// pictures is how many frames of an episode of so many have pictures.
func (i *Info) pictures(length int) int { return (length + i.stride() - 1) / i.stride() }

// Pictured says whether frame t of an episode, counted from 0, has pictures.
func (i *Info) Pictured(t int) bool { return t%i.stride() == 0 }

// Pipelines returns each camera's recipe without its crop: what brings a camera's
// picture to the form of images.u8.
func (i *Info) Pipelines() ([]*vision.Pipeline, error) {
	var pipelines []*vision.Pipeline
	for _, camera := range i.Cameras {
		camera.CropArea = 1
		p, err := vision.New(camera)
		if err != nil {
			return nil, err
		}
		pipelines = append(pipelines, p)
	}
	return pipelines, nil
}

// Validate names the first field that does not hold.
func (i *Info) Validate() error {
	switch {
	case i.Schema != Schema:
		return fmt.Errorf("%w: schema is %d, this program reads %d", ErrDataset, i.Schema, Schema)
	case i.Name == "":
		return fmt.Errorf("%w: name is empty", ErrDataset)
	case !(i.Rate > 0 && i.Rate <= 1000):
		return fmt.Errorf("%w: rate is %g Hz, must be above 0 and at most 1000", ErrDataset, i.Rate)
	case i.Frames < 0 || i.Frames > maxFrames:
		return fmt.Errorf("%w: frames is %d, must be 0 to %d", ErrDataset, i.Frames, maxFrames)
	case i.Episodes < 0 || i.Episodes > i.Frames:
		return fmt.Errorf("%w: episodes is %d, must be 0 to the %d frames", ErrDataset, i.Episodes, i.Frames)
	case i.Size < 1 || i.Size > maxSize:
		return fmt.Errorf("%w: size is %d pixels, must be 1 to %d", ErrDataset, i.Size, maxSize)
	case i.PictureStride < 0 || i.PictureStride > maxFrames:
		return fmt.Errorf("%w: picture_stride is %d, must be 0 to %d", ErrDataset, i.PictureStride, maxFrames)
	case len(i.Cameras) < 1 || len(i.Cameras) > maxCameras:
		return fmt.Errorf("%w: cameras has %d entries, must have 1 to %d", ErrDataset, len(i.Cameras), maxCameras)
	case len(i.Action) < 1 || len(i.Action) > maxDims:
		return fmt.Errorf("%w: action has %d entries, must have 1 to %d", ErrDataset, len(i.Action), maxDims)
	case len(i.Proprio) > maxDims:
		return fmt.Errorf("%w: proprio has %d entries, may have %d", ErrDataset, len(i.Proprio), maxDims)
	case len(i.Start) > 0 && len(i.Start) != len(i.Proprio):
		return fmt.Errorf("%w: start has %d values, proprio %d entries", ErrDataset, len(i.Start), len(i.Proprio))
	}
	for k, c := range i.Cameras {
		if c.Resize.Width != i.Size || c.Resize.Height != i.Size {
			return fmt.Errorf("%w: camera %q: resize is to %dx%d, size is %d", ErrDataset, c.Name, c.Resize.Width, c.Resize.Height, i.Size)
		}
		if c.Name == "" || slices.ContainsFunc(i.Cameras[:k], func(o bundle.Camera) bool { return o.Name == c.Name }) {
			return fmt.Errorf("%w: camera %d: name %q is empty or taken", ErrDataset, k, c.Name)
		}
		if _, err := vision.New(c); err != nil {
			return fmt.Errorf("%w: %w", ErrDataset, err)
		}
	}
	for what, names := range map[string][]string{"action": i.actionNames(), "proprio": i.proprioNames()} {
		for k, name := range names {
			if name == "" || slices.Contains(names[:k], name) {
				return fmt.Errorf("%w: %s dimension %d: name %q is empty or taken", ErrDataset, what, k, name)
			}
		}
	}
	return nil
}

func (i *Info) actionNames() []string {
	var names []string
	for _, d := range i.Action {
		names = append(names, d.Name)
	}
	return names
}

func (i *Info) proprioNames() []string {
	var names []string
	for _, d := range i.Proprio {
		names = append(names, d.Name)
	}
	return names
}

// array is one of the raw files of a data set.
type array struct {
	file string
	row  int64 // bytes of a frame
}

// arrays are images, proprio and action.
func (i *Info) arrays() [3]array {
	return [3]array{
		{ImagesFile, int64(i.ImageBytes())},
		{ProprioFile, 4 * int64(len(i.Proprio))},
		{ActionFile, 4 * int64(len(i.Action))},
	}
}

func parseInfo(raw []byte) (*Info, error) {
	i := &Info{}
	if err := json.Unmarshal(raw, i); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDataset, err)
	}
	return i, i.Validate()
}

// parseEpisodes reads episodes.jsonl, whose episodes must fill info's frames.
func parseEpisodes(r io.Reader, info *Info) ([]Episode, error) {
	var episodes []Episode
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxLine)
	next := 0
	for lines.Scan() {
		line := bytes.TrimSpace(lines.Bytes())
		if len(line) == 0 {
			continue
		}
		var e Episode
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("%w: %s: line %d: %w", ErrDataset, EpisodesFile, len(episodes)+1, err)
		}
		if err := e.validate(); err != nil {
			return nil, fmt.Errorf("%w: %s: line %d: %w", ErrDataset, EpisodesFile, len(episodes)+1, err)
		}
		switch {
		case e.Episode != len(episodes):
			return nil, fmt.Errorf("%w: %s: line %d is of episode %d", ErrDataset, EpisodesFile, len(episodes)+1, e.Episode)
		case e.Start != next:
			return nil, fmt.Errorf("%w: %s: episode %d starts at frame %d, the one before ends at %d", ErrDataset, EpisodesFile, e.Episode, e.Start, next)
		case e.Length < 1 || e.Length > info.Frames-next:
			return nil, fmt.Errorf("%w: %s: episode %d has %d frames, there are %d from its start", ErrDataset, EpisodesFile, e.Episode, e.Length, info.Frames-next)
		}
		next += e.Length
		episodes = append(episodes, e)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%w: %s: line %d: %w", ErrDataset, EpisodesFile, len(episodes)+1, err)
	}
	if len(episodes) != info.Episodes || next != info.Frames {
		return nil, fmt.Errorf("%w: %s has %d episodes with %d frames, %s says %d with %d", ErrDataset, EpisodesFile, len(episodes), next, InfoFile, info.Episodes, info.Frames)
	}
	return episodes, nil
}

func (e *Episode) validate() error {
	if strings.TrimSpace(e.Instruction) == "" {
		return errors.New("an episode without an instruction")
	}
	return nil
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
