package weights

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/weights/onnx"
)

// What `make scale` sets: with -scale.layers 32 the test is the whole of OpenVLA-7B,
// and needs some 50 GB of disk.
var (
	scaleLayers  = flag.Int("scale.layers", 2, "layers of the Llama in TestScale; 32 is OpenVLA-7B, towers included")
	scaleDir     = flag.String("scale.dir", "", "directory in which TestScale makes its checkpoint and bundles, and keeps the checkpoint")
	scaleCameras = flag.Int("scale.cameras", 1, "cameras in TestScale")
	scaleExports = flag.String("scale.exports", "int4", "precisions that TestScale exports")
	scaleRounds  = flag.Int("scale.rounds", 1, "decoding rounds of the chunk that TestScale runs")
)

// scaled is OpenVLA-7B with its widths and fewer layers; narrow where the race
// detector, which a whole width keeps busy for minutes, would find no more.
func scaled(layers, cameras int) *network {
	n := openVLA()
	n.llama.layers, n.images, n.slots = layers, cameras, 8*14
	if layers != 32 {
		n.dino.depth, n.siglip.depth = layers+1, layers+1 // the last one is dead
	}
	for _, width := range []*int{
		&n.dino.dim, &n.dino.mlp, &n.dino.heads, &n.siglip.dim, &n.siglip.mlp, &n.siglip.heads,
		&n.projector.vision, &n.projector.inner, &n.projector.hidden, &n.proprio.hidden, &n.llama.hidden, &n.llama.intermediate,
	} {
		*width /= scaleDivisor
	}
	return n
}

// writeScaled makes a checkpoint of random bfloat16 weights, shard by shard.
func writeScaled(dir string, n *network) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for _, name := range []string{bundle.TokenizerFile, bundle.StatisticsFile} {
		raw, err := os.ReadFile(filepath.Join("../policies/tiny-reach", name))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), raw, 0o600)
		}
		if err != nil {
			return err
		}
	}
	config := openVLAConfig
	if n.llama.layers != 32 {
		config = strings.Replace(config, `"timm_model_ids": ["vit_large_patch14_reg4_dinov2.lvd142m", "vit_so400m_patch14_siglip_224"]`,
			fmt.Sprintf(`"timm_model_ids": ["cut short", "cut short"], "timm_model_args": [{"num_heads": %d}, {"num_heads": %d}]`, n.dino.heads, n.siglip.heads), 1)
	}
	preprocessor := `{"tvf_normalize_params": [{"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}, {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}]}`
	for name, text := range map[string]string{configFile: config, preprocessorFile: preprocessor} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return err
		}
	}
	type place struct {
		DType   string   `json:"dtype"`
		Shape   []int64  `json:"shape"`
		Offsets [2]int64 `json:"data_offsets"`
	}
	const shardBytes = 5_000_000_000
	var shards [][]entry
	size := int64(shardBytes)
	for _, e := range n.inventory() {
		if size+2*product(e.shape) > shardBytes {
			shards, size = append(shards, nil), 0
		}
		size += 2 * product(e.shape)
		shards[len(shards)-1] = append(shards[len(shards)-1], e)
	}
	index := struct {
		Metadata struct{}          `json:"metadata"`
		WeightID map[string]string `json:"weight_map"`
	}{WeightID: map[string]string{}}
	for i, list := range shards {
		name := fmt.Sprintf("model-%05d-of-%05d.safetensors", i+1, len(shards))
		header, at := map[string]place{}, int64(0)
		for _, e := range list {
			header[e.name] = place{"BF16", e.shape, [2]int64{at, at + 2*product(e.shape)}}
			at += 2 * product(e.shape)
			index.WeightID[e.name] = name
		}
		if err := writeShard(filepath.Join(dir, name), header, list, uint64(i)); err != nil {
			return err
		}
	}
	raw, err := json.Marshal(index)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), raw, 0o600)
}

func writeShard(path string, header any, list []entry, seed uint64) error {
	raw, err := json.Marshal(header)
	if err != nil {
		return err
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	if _, err := w.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(raw)))); err != nil {
		return err
	}
	if _, err := w.Write(raw); err != nil {
		return err
	}
	random := rand.New(rand.NewPCG(7, seed))
	for _, e := range list {
		// Norms are ones; other weights keep the size of what they multiply, and those
		// that add to the residual stream are smaller.
		std, mean := 0.02, 0.0
		switch {
		case e.as == exact && strings.HasSuffix(e.name, "weight"):
			std, mean = 0.1, 1
		case len(e.shape) >= 2:
			std = math.Sqrt(float64(e.shape[0]) / float64(product(e.shape)))
		}
		if strings.HasSuffix(e.name, "o_proj.weight") || strings.HasSuffix(e.name, "down_proj.weight") {
			std /= 8
		}
		// A table of 64 Ki values, read from a random place for every row, is as good as
		// random and a hundred times as fast.
		table := make([]byte, 0, 1<<17)
		for range 1 << 16 {
			bits := math.Float32bits(float32(mean + std*random.NormFloat64()))
			table = binary.LittleEndian.AppendUint16(table, uint16(bits>>16))
		}
		for left := 2 * product(e.shape); left > 0; {
			from := 2 * random.IntN(1<<15)
			n := min(left, 1<<13)
			if _, err := w.Write(table[from : from+int(n)]); err != nil {
				return err
			}
			left -= n
		}
	}
	return w.Flush()
}

// inChild runs one step of the scale test in a process of its own, so that its
// memory is known, and returns that in bytes.
func inChild(t *testing.T, step, from, to string) (memory int64, took time.Duration) {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "DDVLA_SCALE_STEP="+step, "DDVLA_SCALE_FROM="+from, "DDVLA_SCALE_TO="+to,
		fmt.Sprint("DDVLA_SCALE_CAMERAS=", *scaleCameras), fmt.Sprint("DDVLA_SCALE_ROUNDS=", *scaleRounds))
	start := time.Now()
	out, err := c.CombinedOutput()
	took = time.Since(start)
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		t.Log(line)
	}
	if err != nil {
		t.Fatalf("%s: %v", step, err)
	}
	return c.ProcessState.SysUsage().(*syscall.Rusage).Maxrss * 1024, took
}

// scaleChild is a step in its process; TestMain calls it.
func scaleChild(step string) error {
	from, to := os.Getenv("DDVLA_SCALE_FROM"), os.Getenv("DDVLA_SCALE_TO")
	if step == "run" {
		return scaleRun(from)
	}
	o := Defaults()
	o.Checkpoint, o.Out, o.ActionRate, o.Precision = from, to, 20, step
	var cameras int
	if _, err := fmt.Sscan(os.Getenv("DDVLA_SCALE_CAMERAS"), &cameras); err != nil {
		return err
	}
	o.Cameras = o.Cameras[:cameras]
	o.Note = func(line string) { fmt.Println(line) }
	if err := Export(context.Background(), o); err != nil {
		return err
	}
	m, err := bundle.ReadManifest(to)
	if err == nil && m.Damage != nil {
		d := m.Damage
		fmt.Printf("%.4g %% of %d tokens equal, logits differ by %.3g at most, %.3g in the mean; largest number in float16 %+v\n",
			100*d.TokensEqual, d.Tokens, d.OutputLargest, d.OutputMean, *d.Largest)
	}
	return err
}

// scaleRun decodes chunks of grey pictures.
func scaleRun(dir string) (err error) {
	ctx, start := context.Background(), time.Now()
	p, err := policy.Open(ctx, dir, policy.Options{Runtime: ort.Config{}})
	if err != nil {
		return err
	}
	loaded := time.Since(start)
	m := p.Manifest()
	grey := image.NewGray(image.Rect(0, 0, 224, 224))
	for i := range grey.Pix {
		grey.Pix[i] = byte(i)
	}
	o := policy.Observation{Instruction: "reach for the red cube", Proprio: make([]float64, len(m.Proprio.Dims))}
	for range m.Cameras {
		o.Images = append(o.Images, policy.Image{Raw: vision.Raw{Data: grey.Pix, Width: 224, Height: 224, Step: 224, Encoding: "mono8"}})
	}
	params := p.Decode()
	if _, err := fmt.Sscan(os.Getenv("DDVLA_SCALE_ROUNDS"), &params.Rounds); err != nil {
		return err
	}
	if err := p.SetDecode(params); err != nil {
		return err
	}
	start = time.Now()
	r, err := p.Infer(ctx, &o)
	if err != nil {
		return err
	}
	fmt.Printf("loaded in %.1f s; a chunk of %d values in %d rounds took %.1f s\n", loaded.Seconds(), len(r.Chunk.Values), r.Rounds, time.Since(start).Seconds())
	return p.Close()
}

// A checkpoint with the widths of OpenVLA-7B is exported with its damage measured, in
// less memory than its weights have, and runs. A flag makes it the whole of it.
func TestScale(t *testing.T) {
	dir := *scaleDir
	if dir == "" {
		dir = t.TempDir()
	}
	n := scaled(*scaleLayers, *scaleCameras)
	checkpoint := filepath.Join(dir, fmt.Sprintf("checkpoint-%d", *scaleLayers))
	if _, err := os.Stat(checkpoint); err != nil {
		start := time.Now()
		if err := writeScaled(checkpoint+".partial", n); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(checkpoint+".partial", checkpoint); err != nil {
			t.Fatal(err)
		}
		t.Logf("checkpoint of %d tensors, %.3g GB, written in %.0f s", len(n.inventory()), gigabytes(t, checkpoint), time.Since(start).Seconds())
	}
	for _, precision := range strings.Split(*scaleExports, ",") {
		out := filepath.Join(dir, "bundle-"+precision)
		memory, took := inChild(t, precision, checkpoint, out)
		t.Logf("%s: exported in %.0f s with %.2f GB resident; the bundle has %.3g GB", precision, took.Seconds(), float64(memory)/1e9, gigabytes(t, out))
		if memory > 2_000_000_000 {
			t.Errorf("%s: the export needed %.2f GB of memory, want less than 2", precision, float64(memory)/1e9)
		}
		b, err := bundle.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		if b.Manifest.Model.Hidden != 4096/scaleDivisor || b.Manifest.Model.Layers != *scaleLayers || b.Manifest.Damage == nil && precision != precisionFP32 {
			t.Errorf("%+v", b.Manifest.Model)
		}
		described, err := onnx.Describe(b.Path(bundle.GraphFile))
		if err != nil || len(described.Tensors) < 100 {
			t.Errorf("%d tensors, %v", len(described.Tensors), err)
		}
		if *scaleRounds > 0 && !b.Manifest.Model.HasBFloat16() {
			memory, took = inChild(t, "run", out, "")
			t.Logf("%s: ran in %.0f s with %.2f GB resident", precision, took.Seconds(), float64(memory)/1e9)
		}
		if err := os.RemoveAll(out); err != nil {
			t.Fatal(err)
		}
	}
}

func gigabytes(t *testing.T, dir string) float64 {
	t.Helper()
	size := int64(0)
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		info, err := e.Info()
		if err != nil {
			t.Fatal(err)
		}
		size += info.Size()
	}
	return float64(size) / 1e9
}
