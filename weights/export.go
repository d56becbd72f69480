// Package weights turns a checkpoint directory in the layout that OpenVLA-OFT
// and Discrete Diffusion VLA publish into a policy bundle: the network and its
// denoising loop as ONNX graphs (weights/onnx), the weights streamed out of
// safetensors and PyTorch files (weights/safetensors, weights/torchfile), and the
// manifest (policy/bundle).
// It needs no PyTorch. A checkpoint's files are untrusted: links out of its
// directory are not followed (folder.go), and files that contradict each other
// stop the export.
//
// The architecture is a file per part: dinov2.go and siglip.go over vit.go,
// projector.go, film.go, llama.go, head.go, joined in sequence.go; denoise.go is the
// decoding loop around it, autoregressive.go that of causal networks from left to right. Integer weights of the Llama are in quantise.go. A LoRA adapter is merged as the weights are read (lora.go), and
// what openvla-oft saves beside the safetensors is found in side.go. `ddvla export`
// is Export on the command line.
package weights

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/text"
	"github.com/ddvla/ddvla/weights/onnx"
)

// Export reads the checkpoint and writes the bundle. The bundle appears whole
// or, on an error or when ctx ends, not at all. The same input gives the same
// bytes. Errors name the option or the checkpoint, and the file or tensor in it.
func Export(ctx context.Context, o Options) error {
	if err := o.validate(); err != nil {
		return err
	}
	if o.Out == "" {
		return fmt.Errorf("%w out is not given", ErrOption)
	}
	j, err := prepare(o)
	if err != nil {
		return err
	}
	if err := errors.Join(j.export(ctx, o), j.checkpoint.Close()); err != nil {
		return fmt.Errorf("%s: %w", o.Checkpoint, err)
	}
	return nil
}

// job is an export of which all has been checked that can be before the weights
// are read.
type job struct {
	checkpoint *checkpoint
	network    *network
	manifest   bundle.Manifest
	// What a run makes of the tokenizer's file, and of the statistics.
	vocabulary []byte
	tokenizer  *text.Tokenizer
	codec      *action.Codec
}

func prepare(o Options) (*job, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c, err := openCheckpoint(o.Checkpoint)
	if err != nil {
		return nil, err
	}
	j := &job{checkpoint: c}
	if j.network, err = c.network(&o); err == nil {
		j.manifest, err = o.manifest(c, j.network)
	}
	if err == nil {
		j.network.centres = decode.CentresOf(j.manifest.Action.BinEdges, o.Chunk, j.network.tokens.bins)
		err = j.checkFiles()
	}
	if err == nil && c.vision != nil {
		j.manifest.Source.Options["film"], err = c.mergeVision(j.network)
	}
	if err == nil && o.LoRA != "" {
		var a *adapter
		var modules int
		if a, modules, err = c.merge(o.LoRA, j.network); err == nil {
			j.manifest.Source.Options["lora"] = fmt.Sprintf("%d modules, r %d, lora_alpha %g, scale %g", modules, a.config.Rank, a.config.Alpha, a.config.scale())
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", o.Checkpoint, err), c.Close())
	}
	return j, nil
}

// checkFiles refuses what no run would open, as a run does: a tokenizer that does not
// fit the configuration's ids, statistics that are no bounds.
func (j *job) checkFiles() (err error) {
	if j.vocabulary, err = readFile(j.checkpoint.folder, bundle.TokenizerFile, maxTokenizer); err != nil {
		return err
	}
	if j.tokenizer, err = text.New(j.vocabulary, j.manifest.Prompt, j.manifest.Tokens); err != nil {
		return fmt.Errorf("%w: %s %w; the manifest's ids are those of %s, so take all files from one checkpoint", ErrConfig, bundle.TokenizerFile, err, configFile)
	}
	j.codec, err = action.Parse(j.checkpoint.statistics, &j.manifest)
	return err
}

func (j *job) export(ctx context.Context, o Options) error {
	work := &meter{ctx: ctx, report: o.Progress, total: j.network.storeBytes()}
	for _, f := range j.checkpoint.files {
		info, err := f.folder.Stat(f.name)
		if err != nil {
			return err
		}
		work.total += info.Size()
	}
	return writeDir(ctx, o.Out, func(dir string) (err error) {
		m := j.manifest
		m.Files = map[string]string{}
		write := func(name string, raw []byte) error {
			m.Files[name] = hexSum(sha256.Sum256(raw))
			return os.WriteFile(filepath.Join(dir, name), raw, 0o644)
		}
		if err := write(bundle.TokenizerFile, j.vocabulary); err != nil {
			return err
		}
		if err := write(bundle.StatisticsFile, j.checkpoint.statistics); err != nil {
			return err
		}
		var trial *trial
		if !j.network.plain() {
			if trial, err = j.newTrial(&o); err == nil {
				defer func() { err = errors.Join(err, trial.runtime.Close()) }()
				work.total += trial.plain.inFloat32().storeBytes() + j.network.storeBytes()
			} else if len(o.Observations) > 0 {
				return err
			} else {
				o.note("the damage of %s is not measured%s: %v", m.Model.Precision, j.network.unchecked(), err)
			}
		}
		for _, f := range j.checkpoint.files {
			if m.Source.Files[f.label], err = hashFile(f.folder, f.name, work.reader); err != nil {
				return err
			}
		}
		if trial != nil {
			if err := trial.reference(j, dir, work); err != nil {
				return fmt.Errorf("float32, to compare with: %w", err)
			}
		}
		store, sum, err := j.writeWeights(j.network, filepath.Join(dir, bundle.WeightsFile), work)
		if err != nil {
			return err
		}
		m.Files[bundle.WeightsFile] = sum
		graphs := map[string]*onnx.Graph{}
		if j.network.head != nil {
			graphs[bundle.GraphFile] = j.network.valuesGraph(store)
		} else {
			graphs[bundle.GraphFile], graphs[bundle.StepFile] = j.network.policyGraph(store, m.Model.Unrolled), j.network.stepGraph(store)
		}
		if j.network.hasAutoregressive() {
			graphs[bundle.AutoregressiveFile] = j.network.autoregressiveGraph(store)
		}
		for name, g := range graphs {
			raw, err := g.Marshal("ddvla")
			if err != nil {
				return err
			}
			if err := write(name, raw); err != nil {
				return err
			}
		}
		if trial != nil {
			if m.Damage, err = trial.damage(dir, store, work); err != nil {
				return fmt.Errorf("%s: %w", m.Model.Precision, err)
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		return bundle.WriteManifest(dir, m)
	})
}

// writeWeights writes the weights once, for both graphs, and returns their hash.
func (j *job) writeWeights(n *network, path string, work *meter) (*onnx.Store, string, error) {
	h := sha256.New()
	store, err := j.writeSome(n, path, work, h, func(string) bool { return true })
	if err == nil {
		err = syncFile(path)
	}
	return store, hex.EncodeToString(h.Sum(nil)), err
}

// syncFile returns when a file is on the disk.
func syncFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writeSome writes the wanted weights to a file, and to also.
func (j *job) writeSome(n *network, path string, work *meter, also io.Writer, wanted func(name string) bool) (*onnx.Store, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriterSize(work.writer(io.MultiWriter(f, also)), 1<<20)
	store := onnx.NewStore(filepath.Base(path), w)
	err = j.checkpoint.tensors.write(work.ctx, n, store, wanted)
	if err == nil && (wanted(cosName) || wanted(sinName)) {
		err = n.llama.writeRope(store)
	}
	if err == nil {
		// After an error, Flush would return the same one again.
		err = w.Flush()
	}
	return store, errors.Join(err, f.Close())
}

func hexSum(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:]) }

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
