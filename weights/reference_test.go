package weights

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/ort"
	"github.com/ddvla/ddvla/weights/safetensors"
)

// sample is a checkpoint and what a run of the PyTorch network on it gave:
// random ones of odd sizes, and the trained one of this repository.
type sample struct {
	name        string
	images      int
	chunk, dims int
	proprio     int
	args        []string // of train/make_random.py
	trained     string   // instead: the checkpoint's directory
	cases       []sampleCase
	lora        *loraSample
	film        *filmSample
	head        *headSample
	dir         string // of the checkpoint
	results     string // directory of the reference's files
}

type sampleCase struct {
	batch, prompt int
	mutations     []string
}

// loraSample is a random adapter, made for the sample.
type loraSample struct {
	Rank   int     `json:"r"`
	Alpha  float64 `json:"alpha"`
	RSLoRA bool    `json:"rslora"`
	DType  string  `json:"dtype"`
}

// filmSample is random towers with FiLM and LoRA (r 0: none), made for the sample.
type filmSample struct {
	Rank        int    `json:"r"`
	DType       string `json:"dtype"`
	Distributed bool   `json:"distributed"` // names start with "module."
}

// headSample is a random L1 action head, made for the sample.
type headSample struct {
	Inner int `json:"inner"` // width
	Depth int `json:"depth"` // residual layers
}

// mutations are the deliberate faults of the reference (train/ddvla/model.py)
// that the comparison must notice.
func mutations(except ...string) []string {
	all := []string{"no_registers", "no_layerscale", "no_proprio", "no_shift", "rope_interleaved", "last_block",
		"mask_row", "image_order", "causal", "vision_norm", "bin_order"}
	kept := all[:0]
	for _, m := range all {
		if !bytes.Contains([]byte(fmt.Sprint(except)), []byte(m)) {
			kept = append(kept, m)
		}
	}
	return kept
}

func samples() []sample {
	return []sample{
		{
			name: "three images", images: 3, chunk: 3, dims: 7, proprio: 5,
			args:  []string{"--seed", "1", "--dtype", "bf16", "--shards", "3", "--images", "3", "--registers", "4", "--logit-std", "1.5"},
			cases: []sampleCase{{3, 7, mutations()}, {1, 12, mutations()}, {1, 2, nil}},
			lora:  &loraSample{Rank: 5, Alpha: 8, DType: "bf16"},
			film:  &filmSample{Rank: 20, DType: "bf16"},
			head:  &headSample{Inner: 35, Depth: 2},
		},
		{
			name: "one image", images: 1, chunk: 5, dims: 3, proprio: 4,
			args: []string{"--seed", "2", "--dtype", "f32", "--images", "1", "--image", "45", "--patch", "9", "--slots", "15", "--dims", "3",
				"--proprio", "4", "--hidden", "66", "--heads", "3", "--layers", "2", "--intermediate", "70", "--vocab", "1100", "--eps", "1e-5",
				"--dino-dim", "30", "--dino-heads", "5", "--dino-depth", "4", "--dino-mlp", "22", "--registers", "5",
				"--siglip-dim", "21", "--siglip-heads", "3", "--siglip-depth", "3", "--siglip-mlp", "50", "--logit-std", "1.5"},
			cases: []sampleCase{{1, 5, mutations("image_order")}, {3, 9, mutations("image_order")}},
			lora:  &loraSample{Rank: 3, Alpha: 2.5, RSLoRA: true, DType: "f32"},
			film:  &filmSample{Rank: 3, DType: "f32", Distributed: true},
			head:  &headSample{Inner: 50, Depth: 3},
		},
		{
			name: "no proprio", images: 2, chunk: 1, dims: 1, proprio: 0,
			args: []string{"--seed", "3", "--dtype", "f16", "--images", "2", "--slots", "1", "--dims", "1", "--proprio", "0",
				"--layers", "1", "--registers", "3", "--dino-depth", "2", "--siglip-depth", "2", "--logit-std", "1.5"},
			cases: []sampleCase{{3, 4, mutations("no_proprio")}, {1, 11, mutations("no_proprio")}},
		},
		{
			name: "tiny reach", images: 3, chunk: 8, dims: 14, proprio: 14,
			args:  []string{"--seed", "4", "--tiny-reach", "--logit-std", "1.2"},
			cases: []sampleCase{{1, 21, nil}},
		},
		{
			name: "trained tiny reach", images: 3, chunk: 8, dims: 14, proprio: 14, trained: "../policies/tiny-reach",
			cases: []sampleCase{{2, 21, []string{"no_shift", "image_order", "no_proprio"}}},
		},
	}
}

// made runs the reference once for all tests of the package.
var made struct {
	sync.Once
	dir     string
	samples []sample
}

func TestMain(m *testing.M) {
	if step := os.Getenv("DDVLA_SCALE_STEP"); step != "" {
		if err := scaleChild(step); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if made.dir != "" {
		if err := os.RemoveAll(made.dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	os.Exit(code)
}

func references(t testing.TB) []sample {
	t.Helper()
	made.Do(func() {
		var err error
		if made.dir, err = os.MkdirTemp("", "ddvla-weights-"); err != nil {
			t.Fatal(err)
		}
		type job struct {
			Dir     string           `json:"dir"`
			Args    []string         `json:"args"`
			Trained string           `json:"trained"`
			Images  int              `json:"images"`
			Slots   int              `json:"slots"`
			Cases   []map[string]any `json:"cases"`
			LoRA    *loraSample      `json:"lora"`
			FiLM    *filmSample      `json:"film"`
			Head    *headSample      `json:"head"`
		}
		var jobs []job
		list := samples()
		for i := range list {
			s := &list[i]
			s.results = filepath.Join(made.dir, fmt.Sprint(i))
			s.dir = s.results
			if s.trained != "" {
				s.dir = s.trained
			}
			j := job{Dir: s.results, Args: s.args, Trained: s.trained, Images: s.images, Slots: s.chunk * s.dims, LoRA: s.lora, FiLM: s.film, Head: s.head}
			for _, c := range s.cases {
				j.Cases = append(j.Cases, map[string]any{"batch": c.batch, "prompt": c.prompt, "mutations": append([]string{}, c.mutations...)})
			}
			jobs = append(jobs, j)
		}
		stdin, err := json.Marshal(jobs)
		if err != nil {
			t.Fatal(err)
		}
		train, err := filepath.Abs("../train")
		if err != nil {
			t.Fatal(err)
		}
		pytest.Run(t, stdin, "testdata/reference.py", train)
		made.samples = list
	})
	if made.samples == nil {
		t.Fatal("the reference failed in another test")
	}
	return made.samples
}

// options exports the sample to out.
func (s *sample) options(out string) Options {
	o := Defaults()
	o.Checkpoint, o.Out, o.ActionRate, o.Chunk = s.dir, out, 20, s.chunk
	o.Cameras = []string{"head", "wrist_left", "wrist_right"}[:s.images]
	o.ActionDims, o.ProprioDims = nil, nil
	for i := range s.dims {
		o.ActionDims = append(o.ActionDims, bundle.ActionDim{Name: fmt.Sprintf("joint%d", i+1), Space: bundle.Joint, Arm: "left", Unit: "rad"})
	}
	for i := range s.proprio {
		o.ProprioDims = append(o.ProprioDims, bundle.ProprioDim{Name: fmt.Sprintf("joint%d", i+1), Arm: "left", Unit: "rad"})
	}
	return o
}

func (s *sample) export(t testing.TB) *bundle.Bundle {
	t.Helper()
	return exported(t, s.options(filepath.Join(t.TempDir(), "bundle")))
}

func exported(t testing.TB, o Options) *bundle.Bundle {
	t.Helper()
	if err := Export(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	b, err := bundle.Open(o.Out)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// reference is one case: inputs and logits by name.
type reference map[string][]float32

func (s *sample) reference(t *testing.T, number int) reference {
	t.Helper()
	return s.load(t, fmt.Sprintf("case-%d.safetensors", number))
}

func (s *sample) load(t *testing.T, file string) reference {
	t.Helper()
	r, err := safetensors.Open(os.DirFS(s.results), file)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	all := reference{}
	for _, name := range r.Names() {
		tensor, _ := r.Tensor(name)
		all[name] = make([]float32, tensor.Elements())
		if err := tensor.Read(all[name], 0); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func (r reference) observation(s *sample) *ort.Observation {
	o := &ort.Observation{PromptIDs: integers(r["prompt_ids"]), PromptLength: integers(r["prompt_length"])}
	for _, v := range r["images"] {
		o.Images = append(o.Images, byte(v))
	}
	if s.proprio > 0 {
		o.Proprio = r["proprio"]
	}
	return o
}

func integers(v []float32) []int64 {
	out := make([]int64, len(v))
	for i, x := range v {
		out[i] = int64(x)
	}
	return out
}

// largestDifference is +inf where a value is not finite.
func largestDifference(a, b []float32) float64 {
	if len(a) != len(b) {
		return math.Inf(1)
	}
	largest := 0.0
	for i := range a {
		d := math.Abs(float64(a[i]) - float64(b[i]))
		if !(d <= largest) {
			largest = d
		}
		if math.IsNaN(d) {
			return math.Inf(1)
		}
	}
	return largest
}

func deviation(v []float32) float64 {
	sum, squares := 0.0, 0.0
	for _, x := range v {
		sum += float64(x)
		squares += float64(x) * float64(x)
	}
	n := float64(len(v))
	return math.Sqrt(squares/n - sum*sum/n/n)
}
