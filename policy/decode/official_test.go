package decode

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
)

// officialCase is one decoding that testdata/official.py understands.
type officialCase struct {
	Rounds      int     `json:"rounds"`
	Positions   int     `json:"positions"`
	Bins        int     `json:"bins"`
	Remask      bool    `json:"remask"`
	Logits      string  `json:"logits"`
	TokenNoise  string  `json:"token_noise"`
	ChoiceNoise string  `json:"choice_noise"`
	Start       []int64 `json:"start,omitempty"` // -1 masked; all, where there is none
	Trace       []int64 `json:"trace,omitempty"`
}

func floatsOf(t *testing.T, text string) []float32 {
	t.Helper()
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, len(raw)/4)
	for i := range v {
		v[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return v
}

func textOf(v []float32) string {
	var raw []byte
	for _, x := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(x))
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// decode runs the case with the preset and the case's noise.
func (c officialCase) decode(t *testing.T) *Result {
	t.Helper()
	p := Params{Preset: Official, Rounds: c.Rounds}
	if c.Remask {
		p.Preset = OfficialRemask
	}
	masked := c.Positions
	for _, bin := range c.Start {
		if bin >= 0 {
			masked--
		}
	}
	in := inputsOf(t, p, []int{masked}, c.Positions, c.Bins)
	copy(in.Initial, c.Start)
	in.TokenNoise = Array{Shape: []int{c.Rounds, 1, c.Positions, c.Bins}, Data: floatsOf(t, c.TokenNoise)}
	in.ChoiceNoise = Array{Shape: []int{c.Rounds, 1, c.Positions}, Data: floatsOf(t, c.ChoiceNoise)}
	res, err := Decode(context.Background(), given(floatsOf(t, c.Logits)), in)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// given is a network whose logits are a table of shape T,B,L,K.
func given(table []float32) LogitsFunc {
	return func(_ context.Context, round int, _ []int64, out *Logits) error {
		copy(out.Values, table[round*len(out.Values):])
		return nil
	}
}

func TestOfficialPresetEqualsGoldenTranscription(t *testing.T) {
	raw, err := os.ReadFile("testdata/official.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []officialCase
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	for i, c := range cases {
		if have := c.decode(t); !slices.Equal(have.TraceBins, c.Trace) {
			t.Errorf("case %d (T = %d, L = %d):\nhave %v\nwant %v", i, c.Rounds, c.Positions, have.TraceBins, c.Trace)
		}
	}
}

// TestOfficialPresetEqualsTranscriptionOnNewCases runs the NumPy transcription
// beside the decoder. NumPy's exponentials differ in the last bit, so cases
// with a decision closer than that are set aside; there must be few.
func TestOfficialPresetEqualsTranscriptionOnNewCases(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	var cases []officialCase
	for i := range 120 {
		c := officialCase{Rounds: 1 + rng.IntN(14), Positions: 2 + rng.IntN(55), Bins: 2 + rng.IntN(14), Remask: i%3 == 0}
		normal := func(n int, scale float64) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = float32(scale * rng.NormFloat64())
			}
			return v
		}
		gumbel := func(n int) []float32 {
			v := make([]float32, n)
			for i := range v {
				v[i] = float32(-math.Log(rng.ExpFloat64()))
			}
			return v
		}
		c.Logits = textOf(normal(c.Rounds*c.Positions*c.Bins, 3))
		if i%4 == 0 {
			for range c.Positions {
				c.Start = append(c.Start, int64(rng.IntN(2*c.Bins))-int64(c.Bins))
			}
			for at, bin := range c.Start {
				c.Start[at] = max(bin, -1)
			}
			c.Start[rng.IntN(c.Positions)] = -1 // something to decode
		}
		c.TokenNoise, c.ChoiceNoise = textOf(gumbel(c.Rounds*c.Positions*c.Bins)), textOf(gumbel(c.Rounds*c.Positions))
		cases = append(cases, c)
	}
	stdin, err := json.Marshal(cases)
	if err != nil {
		t.Fatal(err)
	}
	var traces [][]int64
	if err := json.Unmarshal(pytest.Run(t, stdin, "testdata/official.py"), &traces); err != nil {
		t.Fatal(err)
	}
	near := 0
	for i, c := range cases {
		have := c.decode(t)
		if slices.Equal(have.TraceBins, traces[i]) {
			continue
		}
		for at := range have.TraceBins {
			if have.TraceBins[at] != traces[i][at] {
				if margin := have.TraceMargin[at/c.Positions]; margin > 1e-5 {
					t.Errorf("case %d (T = %d, L = %d, remask %v): round %d differs at margin %g", i, c.Rounds, c.Positions, c.Remask, at/c.Positions, margin)
				}
				near++
				break
			}
		}
	}
	if near > 2 {
		t.Errorf("%d of %d cases differ", near, len(cases))
	}
}
