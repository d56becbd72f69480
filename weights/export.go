// Package weights turns a checkpoint directory in the layout that OpenVLA-OFT
// and Discrete Diffusion VLA publish into a policy bundle: the network and its
// denoising loop as ONNX graphs (weights/onnx), the weights streamed out of
// safetensors files (weights/safetensors), and the manifest (policy/bundle).
// It needs no PyTorch.
//
// The architecture is a file per part: dinov2.go and siglip.go over vit.go,
// projector.go, llama.go, joined in sequence.go; denoise.go is the decoding
// loop around it. `ddvla export` is Export on the command line.
package weights

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/weights/onnx"
)

// Export reads the checkpoint and writes the bundle. The bundle appears whole
// or, on an error or when ctx ends, not at all. The same input gives the same
// bytes.
func Export(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if err := export(ctx, o); err != nil {
		return fmt.Errorf("export %s: %w", o.Checkpoint, err)
	}
	return nil
}

func export(ctx context.Context, o Options) (err error) {
	c, err := openCheckpoint(o.Checkpoint)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	n, err := c.network(len(o.Cameras), o.Chunk*len(o.ActionDims))
	if err != nil {
		return err
	}
	m, err := o.manifest(ctx, c, n)
	if err != nil {
		return err
	}
	return writeDir(ctx, o.Out, func(dir string) error {
		if err := n.writeGraphs(ctx, c.tensors, dir, &m); err != nil {
			return err
		}
		for _, name := range []string{bundle.TokenizerFile, bundle.StatisticsFile} {
			if err := copyFile(filepath.Join(dir, name), filepath.Join(o.Checkpoint, name)); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return bundle.Write(dir, m, bundle.GraphFile, bundle.StepFile, bundle.WeightsFile, bundle.TokenizerFile, bundle.StatisticsFile)
	})
}

// writeGraphs writes the weights once, for both graphs.
func (n *network) writeGraphs(ctx context.Context, tensors tensorSource, dir string, m *bundle.Manifest) error {
	f, err := os.Create(filepath.Join(dir, bundle.WeightsFile))
	if err != nil {
		return err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	store := onnx.NewStore(bundle.WeightsFile, w)
	err = tensors.write(ctx, n.inventory(), n.tokens, store)
	if err == nil {
		// The tables are computed, not learned.
		m.Model.Parameters = store.Elements()
		err = n.llama.writeRope(store)
	}
	if err := errors.Join(err, w.Flush(), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := writeGraph(filepath.Join(dir, bundle.StepFile), n.stepGraph(store)); err != nil {
		return err
	}
	return writeGraph(filepath.Join(dir, bundle.GraphFile), n.policyGraph(store))
}

func writeGraph(path string, g *onnx.Graph) error {
	raw, err := g.Marshal("ddvla")
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o644)
}

// writeDir fills a directory beside out and renames it when write succeeded.
func writeDir(ctx context.Context, out string, write func(dir string) error) (err error) {
	out = filepath.Clean(out)
	if _, err := os.Lstat(out); err == nil {
		return fmt.Errorf("%s: %w; remove it or choose another name", out, os.ErrExist)
	}
	parent := filepath.Dir(out)
	if err := os.MkdirAll(parent, 0o755); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(parent, "."+filepath.Base(out)+".partial-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	if err := write(dir); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// MkdirTemp makes a private directory; a bundle is readable as other files.
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	return os.Rename(dir, out)
}

func copyFile(to, from string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, raw, 0o644)
}
