package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/ddvla/ddvla/policy/bundle"
)

// ReadBinEdges reads Options.BinEdges from a JSON file: a list for each action
// dimension, of the edges of its bins or empty. What the edges must be is checked
// with the manifest.
func ReadBinEdges(path string) ([][]float64, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var edges [][]float64
	if err := json.Unmarshal(raw, &edges); err != nil {
		return nil, fmt.Errorf("%s: %w; it must be a list of lists of numbers", path, err)
	}
	if edges == nil {
		return nil, errors.New(path + ": null, it must be a list of lists of numbers")
	}
	return edges, nil
}

// binEdges are those of the options or the statistics, which must not differ.
func (set *dataset) binEdges(o *Options, key string) ([][]float64, error) {
	given, file := o.BinEdges, set.Action.BinEdges
	if given == nil {
		return file, nil
	}
	if file != nil && !slices.EqualFunc(given, file, slices.Equal[[]float64]) {
		return nil, fmt.Errorf("%w bin-edges gives other edges than %s has for %q (action.bin_edges); leave it out, or remove those of the file", ErrOption, bundle.StatisticsFile, key)
	}
	return given, nil
}
