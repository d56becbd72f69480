package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// argumentsFile is where a trainer leaves the flags that a checkpoint is exported with.
const argumentsFile = "export.args"

// assumptions says which defaults stand for what no file of a checkpoint tells: a
// wrong one gives a policy that moves the arms plausibly, to wrong places.
func assumptions(flags *flag.FlagSet, o *weights.Options, layout string) (notes []string) {
	given := map[string]bool{}
	flags.Visit(func(f *flag.Flag) { given[f.Name] = true })
	if !given["normalization"] {
		notes = append(notes, fmt.Sprintf("--normalization is not given, so %s is assumed; no file tells it (OpenVLA-OFT: bounds_q99 for LIBERO and Bridge, bounds for ALOHA)", o.Normalization))
	}
	if !given["chunk"] {
		notes = append(notes, fmt.Sprintf("--chunk is not given, so %d rows are assumed; no file tells it (OpenVLA-OFT: 8 for LIBERO, 5 for Bridge, 25 for ALOHA)", o.Chunk))
	}
	if layout == "aloha" && !given["pre-resize"] {
		notes = append(notes, "--pre-resize is not given, so pictures go to the model's size at once; OpenVLA-OFT's ALOHA data went through --pre-resize 256x256 first (--pre-resize none if yours did not)")
	}
	path := filepath.Join(cmp.Or(o.LoRA, o.Checkpoint), argumentsFile) // an adapter has those of its training
	if _, err := os.Stat(path); err == nil && len(notes) > 0 {
		notes = append(notes, fmt.Sprintf("%s has flags for this checkpoint, which are not read by themselves: add $(cat %s)", path, path))
	}
	return notes
}

// parsePreResize reads WIDTHxHEIGHT[,FILTER], or none. The manifest's checks say
// whether the size and the filter can be.
func parsePreResize(text string) (*bundle.Resize, error) {
	if text == "none" {
		return nil, nil
	}
	size, filter, filtered := strings.Cut(text, ",")
	if !filtered {
		filter = string(bundle.Bicubic)
	}
	width, height, _ := strings.Cut(size, "x")
	w, errW := strconv.Atoi(width)
	h, errH := strconv.Atoi(height)
	if errW != nil || errH != nil {
		return nil, fmt.Errorf("--pre-resize is %q, must be WIDTHxHEIGHT, such as 256x256, with ,lanczos3 behind it for another filter than bicubic, or none", text)
	}
	return &bundle.Resize{Width: w, Height: h, Filter: bundle.Filter(filter)}, nil
}
