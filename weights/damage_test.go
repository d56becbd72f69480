package weights

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
)

// prepared is a quantised export of a sample up to its trial, and the directory
// with what the trial reads.
func prepared(t *testing.T, s *sample, change func(o *Options)) *trial {
	t.Helper()
	o := s.options("")
	change(&o)
	j, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.checkpoint.Close(); err != nil {
		t.Fatal(err)
	}
	trial, err := j.newTrial(&o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := trial.runtime.Close(); err != nil {
			t.Error(err)
		}
	})
	return trial
}

// What an export reports is what its bundle and a float32 bundle of the same
// checkpoint differ by on the made observations; half the tokens of each second
// row are known.
func TestDamageIsThatOfTheBundle(t *testing.T) {
	runtime := openRuntime(t)
	for _, q := range []quantised{
		{0, precisionInt4, 32, true, bundle.Prefix}, {1, precisionInt8, 64, false, bundle.Bidirectional},
	} {
		s := references(t)[q.sample]
		b := s.exportWith(t, q.change)
		d := b.Manifest.Damage
		plain := s.exportWith(t, func(o *Options) { o.Attention = q.attention })
		if d == nil || plain.Manifest.Damage != nil {
			t.Fatalf("%s: damage %v, of float32 %v", q, d, plain.Manifest.Damage)
		}
		trial := prepared(t, &s, q.change)
		var all [2][]float32
		for i, b := range []*bundle.Bundle{b, plain} {
			step, err := runtime.Step(b)
			if err != nil {
				t.Fatal(err)
			}
			for j := range trial.samples {
				var got decode.Logits
				if err := step.Logits(&trial.samples[j].observation)(t.Context(), 0, trial.samples[j].tokens, &got); err != nil {
					t.Fatal(err)
				}
				all[i] = append(all[i], got.Values...)
			}
			if err := step.Close(); err != nil {
				t.Fatal(err)
			}
		}
		largest := largestDifference(all[0], all[1])
		if math.Abs(d.OutputLargest-largest) > 1e-3*largest || !(d.OutputMean > 0.02*largest && d.OutputMean < largest) {
			t.Errorf("%s: largest %g, mean %g; between the bundles %g", q, d.OutputLargest, d.OutputMean, largest)
		}
		slots := s.chunk * s.dims
		masked, equal := 0, 0
		var tokens []int64
		for _, s := range trial.samples {
			tokens = append(tokens, s.tokens...)
		}
		for at, token := range tokens {
			if token >= 0 {
				continue
			}
			masked++
			best := [2]int{}
			for i := range all {
				for k, v := range all[i][256*at : 256*(at+1)] {
					if v > all[i][256*at+best[i]] {
						best[i] = k
					}
				}
			}
			if best[0] == best[1] {
				equal++
			}
		}
		if want := len(trial.samples) * (2*slots - slots/2); masked != want || d.Tokens != want || d.Observations != 8 {
			t.Errorf("%s: %d tokens of %d observations, masked are %d, want %d", q, d.Tokens, d.Observations, masked, want)
		}
		if share := float64(equal) / float64(masked); math.Abs(d.TokensEqual-share) > 1e-4 || share == 1 && q.precision == precisionInt4 {
			t.Errorf("%s: %g of the tokens are equal, want %g", q, d.TokensEqual, share)
		}
		if left := files(t, b.Dir); len(left) != len(b.Manifest.Files)+1 {
			t.Errorf("%s: the bundle has %d files, its manifest %d", q, len(left), len(b.Manifest.Files))
		}
	}
}

// The action difference is in robot units: ten bins are ten bins' width of the
// data set's range, and a known token is not predicted. A network compared with itself has none.
func TestDamageInRobotUnits(t *testing.T) {
	s := references(t)[2] // one token a chunk, rows of one
	trial := prepared(t, &s, func(o *Options) { o.Precision = precisionInt8 })
	peak := func(bin int, height float32) []float32 {
		logits := make([]float32, 2*256)
		logits[bin], logits[256+30] = height, 1
		return logits
	}
	trial.samples[1].tokens[1] = 7
	trial.want = [][]float32{peak(10, 3), peak(40, 3)}
	none, err := trial.compare(trial.want)
	if err != nil || none.OutputLargest != 0 || none.OutputMean != 0 || none.TokensEqual != 1 || none.Tokens != 3 || none.Actions[0].Largest != 0 {
		t.Errorf("compared with itself: %+v, %v", none, err)
	}
	known := peak(40, 3.5)
	known[256+30], known[256+200] = 0, 1
	d, err := trial.compare([][]float32{peak(20, 3), known})
	if err != nil {
		t.Fatal(err)
	}
	var statistics map[string]struct {
		Action struct{ Q01, Q99 []float64 }
	}
	if err := readJSON(os.DirFS(s.dir), bundle.StatisticsFile, &statistics); err != nil {
		t.Fatal(err)
	}
	a := statistics["random"].Action
	want := 10 * 2. / 255 * (a.Q99[0] - a.Q01[0]) / 2
	if got := d.Actions[0]; math.Abs(got.Largest-want) > 1e-3*want || got.Name != "joint1" || got.Unit != "rad" {
		t.Errorf("%+v, want a difference of %g", got, want)
	}
	if d.OutputLargest != 3 || math.Abs(d.OutputMean-8.5/1024) > 1e-5 || d.TokensEqual != 0.6667 {
		t.Errorf("%+v", d)
	}
	if _, err := trial.compare([][]float32{peak(20, float32(math.NaN())), peak(40, 3)}); err == nil || !strings.Contains(err.Error(), "observation 1 of 2: output 20 is NaN") {
		t.Errorf("NaN: %v", err)
	}
}

// With an L1 head the actions themselves are compared.
func TestDamageOfL1Head(t *testing.T) {
	s := headed(t, 1)
	d := s.exportWith(t, func(o *Options) { o.Precision = precisionInt4 }).Manifest.Damage
	if d == nil || d.Tokens != 0 || !(d.OutputMean > 0 && d.OutputMean < d.OutputLargest) || len(d.Actions) != s.dims || !(d.Actions[s.dims-1].Largest > 0) {
		t.Errorf("damage %+v", d)
	}
}

// Without ONNX Runtime the bundle is made all the same, and a line says why its
// damage is not known.
func TestDamageThatIsNotMeasured(t *testing.T) {
	s := references(t)[2]
	t.Setenv("DDVLA_ORT_LIBRARY", filepath.Join(t.TempDir(), "none.so"))
	var notes []string
	b := s.exportWith(t, func(o *Options) {
		o.Precision, o.Note = precisionInt4, func(line string) {
			if strings.HasPrefix(line, "the damage") {
				notes = append(notes, line)
			}
		}
	})
	if b.Manifest.Damage != nil || len(notes) != 1 || !strings.HasPrefix(notes[0], "the damage of int4 is not measured, nor whether float16 holds its numbers: onnxruntime: ONNX Runtime library not found") ||
		strings.Contains(notes[0], "\n") {
		t.Errorf("damage %v, notes %q", b.Manifest.Damage, notes)
	}
}
