package cost

import (
	"math"
	"testing"
)

// tiny has sizes whose costs can be counted by hand.
func tiny() Model {
	return Model{
		Images: 2, Patches: 3, PatchValues: 5, Towers: []Tower{{Tokens: 4, Width: 2, Inner: 6, Blocks: 1}}, ProjectorInner: 7,
		Hidden: 8, Intermediate: 10, Layers: 2, Heads: 4, Proprio: 9, Prompt: 3, Slots: 5, Logits: 11,
	}
}

func TestTinyModelByHand(t *testing.T) {
	m := tiny()
	// BOS and two more of the prompt, six patches, one state; five slots, a stop.
	if m.Before() != 10 || m.Sequence() != 16 || m.Block() != 7 {
		t.Fatalf("%d before, %d, %d in the block", m.Before(), m.Sequence(), m.Block())
	}
	// Six patches; eight tokens of qkv, projection and two layers, attention in each image; projector; state.
	vision := 2.*6*5*2 + 2*8*(2*6+2*2+2*6+6*2) + 2*(4*4*4*2) + 2*6*(2*7+7*8+8*8) + 2*(9*8+8*8)
	if got := m.Vision().FLOPs; got != vision {
		t.Errorf("vision %g, want %g", got, vision)
	}
	// A whole layer of sixteen tokens; one whose keys are sixteen and rows five; the head.
	layer := func(tokens, rows, keys float64) float64 {
		return 2*tokens*2*64 + 2*rows*(2*64+3*80) + 4*rows*keys*8
	}
	for name, c := range map[string]struct {
		have Cost
		want float64
	}{
		"pass":   {m.Pass(), layer(16, 16, 16) + layer(16, 5, 16) + 2*5*8*11},
		"block":  {m.BlockPass(), layer(7, 7, 17) + layer(7, 5, 17) + 2*5*8*11},
		"prefix": {m.PrefixPass(), layer(10, 10, 10) + 2*10*2*64},
	} {
		if c.have.FLOPs != c.want {
			t.Errorf("%s: %g, want %g", name, c.have.FLOPs, c.want)
		}
	}
	if c := m.Pass(); c.Linear != 2*(4*64+3*80) || c.Head != 88 || c.Other != 0 || c.Scores != 4*(16*16+5*16) {
		t.Errorf("%+v", c)
	}
	// Keys and values of the last layer are all that is read of it.
	if c := m.PrefixPass(); c.Linear != 4*64+3*80+2*64 || c.Head != 0 {
		t.Errorf("%+v", c)
	}
}

func TestWays(t *testing.T) {
	m := tiny()
	v, pass, prefix, block := m.Vision().FLOPs, m.Pass().FLOPs, m.PrefixPass().FLOPs, m.BlockPass().FLOPs
	for _, c := range []struct {
		way  Way
		want float64
	}{
		{Exact(), v + 9*pass}, {Stateless(), 9*v + 9*pass}, {Prefix(), v + prefix + 9*block},
		{Refresh(4), v + 3*pass + 6*block}, {Refresh(1), v + 9*pass}, {Refresh(64), v + pass + 8*block},
	} {
		if got := c.way.Chunk(m, 9).FLOPs; got != c.want {
			t.Errorf("%s: %g, want %g", c.way.Name, got, c.want)
		}
	}
}

// The longer of the two times counts, stage by stage.
func TestRoofline(t *testing.T) {
	d := Device{Bandwidth: 10, FP16: 100, INT8: 200}
	fp16, products := Precisions()[0], Precisions()[3]
	heavy, wide := Cost{FLOPs: 1000, Linear: 5}, Cost{FLOPs: 100, Linear: 50}
	if d.Seconds(heavy, fp16) != 10 || d.ByMemory(heavy, fp16) || d.Seconds(wide, fp16) != 10 || !d.ByMemory(wide, fp16) {
		t.Errorf("%g, %g", d.Seconds(heavy, fp16), d.Seconds(wide, fp16))
	}
	if d.Seconds(heavy, products) != 5 || d.Seconds(Cost{FLOPs: 1000, Other: 5}, products) != 10 {
		t.Error("integer products are not those of the Llama")
	}
	both := Way{"both", func(Model, int) []Cost { return []Cost{heavy, wide} }}
	if got := d.Chunk(Model{}, both, 1, fp16); math.Abs(got-20) > 1e-9 {
		t.Errorf("a chunk takes %g s, want 20", got)
	}
	if got := (Cost{Linear: 32, Head: 1, Other: 1, Values: 1}).Bytes(Precisions()[2]); got != 32*0.5+2+4+2+2 {
		t.Errorf("%g bytes in int4", got)
	}
}
