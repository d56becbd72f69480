package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/policy/vision"
)

// Observation is what a robot saw and felt, to measure a precision's damage on.
type Observation struct {
	// Images are JPEG or PNG files, one for each camera in model order.
	Images []string `json:"images"`
	// Instruction is the task in words.
	Instruction string `json:"instruction"`
	// State is the proprio in robot units; absent where the model takes none.
	State []float64 `json:"state,omitempty"`
}

// ReadObservations reads a JSON list of observations; images are named from the
// file's directory.
func ReadObservations(path string) ([]Observation, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var list []Observation
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(&list); err != nil {
		return nil, fmt.Errorf("%s: %w; want a list of {\"images\": [...], \"instruction\": \"...\", \"state\": [...]}", path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%s: something follows the list of observations", path)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s: the list of observations is empty", path)
	}
	for i := range list {
		for k, name := range list[i].Images {
			if !filepath.IsAbs(name) {
				list[i].Images[k] = filepath.Join(filepath.Dir(path), name)
			}
		}
	}
	return list, nil
}

// take makes samples of given observations.
func (t *trial) take(tokenizer *text.Tokenizer, list []Observation) error {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range list {
		o, err := t.prepare(tokenizer, &list[i])
		if err != nil {
			return fmt.Errorf("observation %d of %d: %w", i+1, len(list), err)
		}
		t.add(random, o)
	}
	return nil
}

func (t *trial) prepare(tokenizer *text.Tokenizer, given *Observation) (o ort.Observation, err error) {
	m := &t.manifest
	if len(given.Images) != len(m.Cameras) {
		return o, fmt.Errorf("%d images, the model takes %d", len(given.Images), len(m.Cameras))
	}
	if o.PromptIDs, _, err = tokenizer.Prompt(given.Instruction); err != nil {
		return o, err
	}
	size := m.Model.ImageSize * m.Model.ImageSize * 3
	o.Images = make([]byte, size*len(m.Cameras))
	for i, name := range given.Images {
		data, err := vision.ReadFile(name)
		if err != nil {
			return o, err
		}
		pipeline, err := vision.New(m.Cameras[i])
		if err != nil {
			return o, err
		}
		if err := pipeline.Compressed(data, o.Images[i*size:(i+1)*size]); err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	if m.Proprio == nil {
		if len(given.State) > 0 {
			return o, fmt.Errorf("state has %d numbers, the model takes none", len(given.State))
		}
		return o, nil
	}
	o.Proprio, err = t.codec.NormaliseProprio(given.State, nil)
	return o, err
}

// instructions of the made observations; a prompt of each must fit the policy.
var instructions = [...]string{
	"pick up the red cube", "open the drawer", "put the bowl on the plate", "close the left gripper",
	"fold the towel", "hand the cup to the right arm", "push the blue block to the left", "reach for the green cube",
}

// manyBytes of float32 weights are a large network, which is run on one made
// observation.
const manyBytes = 1_000_000_000

// invent makes samples, the same ones for every export of a network.
func (t *trial) invent(tokenizer *text.Tokenizer) error {
	random := rand.New(rand.NewPCG(1, 2))
	m := &t.manifest
	list := instructions[:]
	if t.large() {
		list = list[:1]
	}
	for _, instruction := range list {
		ids, _, err := tokenizer.Prompt(instruction)
		if err != nil {
			return err
		}
		o := ort.Observation{PromptIDs: ids}
		for range m.Cameras {
			o.Images = append(o.Images, picture(random, m.Model.ImageSize)...)
		}
		if m.Proprio != nil {
			for range m.Proprio.Dims {
				o.Proprio = append(o.Proprio, 2*random.Float32()-1)
			}
		}
		t.add(random, o)
	}
	return nil
}

// add appends an observation as a sample.
func (t *trial) add(random *rand.Rand, o ort.Observation) {
	slots := t.manifest.Action.Tokens()
	tokens := slices.Repeat([]int64{-1}, 2*slots)
	for _, i := range random.Perm(slots)[:slots/2] {
		tokens[slots+i] = random.Int64N(int64(t.manifest.Tokens.Bins))
	}
	if t.network.head != nil {
		t.samples = append(t.samples, trialSample{observation: o, rows: 1})
		return
	}
	o.Images = slices.Concat(o.Images, o.Images)
	o.PromptIDs = slices.Concat(o.PromptIDs, o.PromptIDs)
	o.Proprio = slices.Concat(o.Proprio, o.Proprio)
	t.samples = append(t.samples, trialSample{o, tokens, 2})
}

// picture is RGB in tiles of random colours with some noise: pictures have areas,
// which noise alone has not.
func picture(random *rand.Rand, side int) []byte {
	const tiles = 8
	var colours [tiles * tiles * 3]int
	for i := range colours {
		colours[i] = random.IntN(256)
	}
	pixels := make([]byte, 0, side*side*3)
	for y := range side {
		for x := range side {
			tile := y*tiles/side*tiles + x*tiles/side
			for c := range 3 {
				pixels = append(pixels, byte(min(max(colours[3*tile+c]+random.IntN(33)-16, 0), 255)))
			}
		}
	}
	return pixels
}
