package weights

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/weights/safetensors"
	"github.com/ddvla/ddvla/weights/torchfile"
)

// The parts of a policy that openvla-oft trains beside the language model and
// saves in files of their own, PART--STEP_checkpoint.pt or
// PART--latest_checkpoint.pt (vla-scripts/finetune.py); train/ writes
// PART.safetensors.
const (
	proprioPart = "proprio_projector"
	headPart    = "action_head"
	noisyPart   = "noisy_action_projector"
)

// tensorFile is the tensors of safetensors or of PyTorch files.
type tensorFile interface {
	Names() []string
	Tensor(name string) (safetensors.Tensor, bool)
	Files() []string
	Close() error
}

// openTensors opens a file by the end of its name; of PyTorch's, the prefix
// "module." that distributed training leaves is taken off all names.
func openTensors(fsys fs.FS, name string) (tensorFile, error) {
	if path.Ext(name) == ".safetensors" {
		r, err := safetensors.Open(fsys, name)
		if err != nil {
			return nil, err // not an interface around a nil pointer
		}
		return r, nil
	}
	r, err := torchfile.Open(fsys, name)
	if err != nil {
		return nil, err
	}
	return r, nil
}

// findPart returns the name of the one file that holds a part, "" where there is
// none. Which of several belongs to the weights is not guessed: a part of
// another step fits them in every shape.
func (c *checkpoint) findPart(part string) (string, error) {
	entries, err := c.folder.ReadDir(".")
	if err != nil {
		return "", err
	}
	var names []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), part)
		kind := path.Ext(e.Name())
		if ok && (rest == kind || strings.HasPrefix(rest, "--")) && (kind == ".safetensors" || kind == ".pt") {
			names = append(names, e.Name())
		}
	}
	switch len(names) {
	case 0:
		return "", nil
	case 1:
		return names[0], nil
	}
	return "", fmt.Errorf("%w: %d files hold the %s: %s; move all but the one that was saved with the weights out of the directory",
		ErrTensors, len(names), strings.ReplaceAll(part, "_", " "), strings.Join(names, ", "))
}

// openParts opens the files beside the weights.
func (c *checkpoint) openParts() error {
	name, err := c.findPart(noisyPart)
	if err != nil {
		return err
	}
	if name != "" {
		return errDiffusion(name)
	}
	if name, err = c.findPart(headPart); err != nil {
		return err
	}
	if name != "" {
		r, err := openTensors(c.folder, name)
		if err != nil {
			return err
		}
		if err := c.take(r, headPrefix); err != nil {
			return err
		}
		if slices.ContainsFunc(r.Names(), func(n string) bool { return strings.HasPrefix(n, "noise_predictor.") }) {
			return errDiffusion(name)
		}
	}
	name, err = c.findPart(visionPart)
	if err == nil && name != "" {
		err = c.openVision(name)
	}
	if err != nil {
		return err
	}
	name, err = c.findPart(proprioPart)
	if err != nil || name == "" {
		return err
	}
	r, err := openTensors(c.folder, name)
	if err != nil {
		return err
	}
	return c.take(r, proprioPrefix)
}

func errDiffusion(name string) error {
	return fmt.Errorf("%w: %s says that the policy predicts actions by diffusion of continuous values, which is not exported: "+
		"the logits of its language model are no actions; only if the file is a leftover of another training run, move it out of the directory", ErrTensors, name)
}
