package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights"
)

// runExport is `ddvla export`.
func runExport(ctx context.Context, args []string, stdout, _ io.Writer) error {
	o := weights.Defaults()
	o.Exporter = "ddvla export " + buildVersion()
	flags := newFlags("export", "--checkpoint DIR --out BUNDLE --action-rate HZ [FLAGS]\n"+
		"Turns a checkpoint in the published OpenVLA-OFT layout into a policy bundle.")
	flags.StringVar(&o.Checkpoint, "checkpoint", "", "checkpoint `directory`: safetensors, config.json, tokenizer.model, dataset_statistics.json")
	flags.StringVar(&o.Out, "out", "", "bundle `directory` to make; it must not exist")
	flags.Float64Var(&o.ActionRate, "action-rate", 0, "rate of a chunk's rows in `Hz`; mandatory")
	flags.StringVar(&o.Name, "name", "", "`name` of the policy (default the checkpoint directory's)")
	cameras := flags.String("cameras", strings.Join(o.Cameras, ","), "`names` of the cameras in model order")
	flags.IntVar(&o.Recipe.Rotation, "rotate", 0, "turn pictures by 0 or 180 `degrees`")
	flags.IntVar(&o.Recipe.JPEGQuality, "jpeg-quality", o.Recipe.JPEGQuality, "`quality` of the JPEG round trip of training pictures, 0 for none")
	flags.Float64Var(&o.Recipe.CropArea, "crop-area", o.Recipe.CropArea, "`share` of the area that the centre crop keeps, 1 for no crop")
	flags.IntVar(&o.Chunk, "chunk", o.Chunk, "`rows` of a chunk")
	flags.StringVar(&o.UnnormKey, "unnorm-key", "", "data set's `key` in dataset_statistics.json (default the only one)")
	normalization := flags.String("normalization", string(o.Normalization), "statistics behind the bins: `bounds or bounds_q99`")
	flags.StringVar(&o.PromptTemplate, "prompt-template", o.PromptTemplate, "`text` with {instruction} in it")
	flags.IntVar(&o.MaxPromptTokens, "max-prompt-tokens", o.MaxPromptTokens, "longest prompt in `tokens`")
	flags.StringVar(&o.Decode.Preset, "preset", o.Decode.Preset, "decoding `preset`: greedy, paper, official or official-remask")
	flags.IntVar(&o.Decode.Rounds, "rounds", o.Decode.Rounds, "decoding `rounds`")
	if err := parse(flags, args, 0, stdout); err != nil {
		return err
	}
	o.Cameras = strings.Split(*cameras, ",")
	o.Normalization = bundle.Normalization(*normalization)
	if err := weights.Export(ctx, o); errors.Is(err, weights.ErrOption) {
		return usageError{err}
	} else if err != nil {
		return err
	}
	b, err := bundle.Open(o.Out)
	if err != nil {
		return err
	}
	m := &b.Manifest
	fmt.Fprintf(stdout, "%s: policy %q, %d parameters, %d cameras of %d pixels, chunks of %d x %d at %g Hz\n",
		o.Out, m.Name, m.Model.Parameters, len(m.Cameras), m.Model.ImageSize, m.Action.Chunk, len(m.Action.Dims), m.Action.Rate)
	return nil
}
