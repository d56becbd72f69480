// Package cost counts what a chunk of an OpenVLA-like policy costs: floating-point
// operations, weights and numbers moved, from the sizes of its parts. Roofline turns
// these into the least time that a device needs.
//
// A product of [m, k] and [k, n] is 2mkn operations. Normalisations, softmaxes and other
// operations on single numbers are not counted, and are thought of as part of the product
// before them.
package cost

import (
	"fmt"
	"slices"
)

// Tower is a vision transformer that runs once for each image.
type Tower struct {
	Tokens       int // of one image, class and register tokens included
	Width, Inner int // of the residual stream, and inside the two layers of a block
	Blocks       int // that run
}

// Model is the sizes of a network and of what it is given.
type Model struct {
	Images      int
	Patches     int // tokens of an image in the language model
	PatchValues int // numbers in a patch: 3 for each of its pixels
	Towers      []Tower
	// ProjectorInner is the width of the projector's first layer.
	ProjectorInner int
	// Hidden, Intermediate, Layers and Heads are the Llama's.
	Hidden, Intermediate, Layers, Heads int
	// Proprio is the length of the robot's state, 0 for a model without.
	Proprio int
	// Prompt is its ids, from BOS to the empty token.
	Prompt int
	// Slots is L, the action tokens of a chunk.
	Slots int
	// Logits is the rows of lm_head that are computed, one a bin.
	Logits int
}

// OpenVLA is the 7B network (DINOv2-L with registers, SigLIP-SO400M, Llama 2 7B) with some
// images of 224 pixels, a state of some numbers and some action tokens.
func OpenVLA(images, proprio, prompt, slots int) Model {
	return Model{
		Images: images, Patches: 256, PatchValues: 3 * 14 * 14,
		Towers:         []Tower{{Tokens: 261, Width: 1024, Inner: 4096, Blocks: 23}, {Tokens: 256, Width: 1152, Inner: 4304, Blocks: 26}},
		ProjectorInner: 8704, Hidden: 4096, Intermediate: 11008, Layers: 32, Heads: 32,
		Proprio: proprio, Prompt: prompt, Slots: slots, Logits: 256,
	}
}

// Before is the number of tokens before the action slots: BOS, patches, state, prompt.
func (m Model) Before() int {
	n := m.Images*m.Patches + m.Prompt
	if m.Proprio > 0 {
		n++
	}
	return n
}

// Sequence is the number of all tokens, the stop included.
func (m Model) Sequence() int { return m.Before() + m.Slots + 1 }

// Block is the number of tokens of a round that reuses the prefix: the last token of the
// prompt, the slots and the stop.
func (m Model) Block() int { return m.Slots + 2 }

// Cost is that of some part of a chunk.
type Cost struct {
	// FLOPs are operations of matrix products, two for each product of numbers.
	FLOPs float64
	// Linear are weights of the Llama's linear layers that are read, which integers may
	// stand for; Head those of lm_head, float32; Other all else.
	Linear, Head, Other float64
	// Values are numbers that the products read and write beside weights, attention as
	// one operation: queries, keys and values in, their mixture out.
	Values float64
	// Scores are the entries of the language model's attention matrices, which stay on the chip
	// where attention is one operation.
	Scores float64
}

func (c Cost) plus(o Cost) Cost {
	return Cost{c.FLOPs + o.FLOPs, c.Linear + o.Linear, c.Head + o.Head, c.Other + o.Other, c.Values + o.Values, c.Scores + o.Scores}
}

func (c Cost) times(n int) Cost {
	f := float64(n)
	return Cost{f * c.FLOPs, f * c.Linear, f * c.Head, f * c.Other, f * c.Values, f * c.Scores}
}

// product adds that of [rows, in] with a weight [in, out], and returns the weight's size.
func (c *Cost) product(rows, in, out int) float64 {
	c.FLOPs += 2 * float64(rows) * float64(in) * float64(out)
	c.Values += float64(rows) * float64(in+out)
	return float64(in) * float64(out)
}

// attention adds that of queries to keys, in all heads together of a width.
func (c *Cost) attention(queries, keys, width int) {
	c.FLOPs += 4 * float64(queries) * float64(keys) * float64(width)
	c.Values += float64(2*queries+2*keys) * float64(width)
}

// Vision is the towers and projectors, once a chunk.
func (m Model) Vision() Cost {
	var c Cost
	wide := 0
	for _, t := range m.Towers {
		wide += t.Width
		c.Other += c.product(m.Images*m.Patches, m.PatchValues, t.Width)
		for range t.Blocks {
			rows := m.Images * t.Tokens
			c.Other += c.product(rows, t.Width, 3*t.Width)
			for range m.Images {
				c.attention(t.Tokens, t.Tokens, t.Width)
			}
			c.Other += c.product(rows, t.Width, t.Width) + c.product(rows, t.Width, t.Inner) + c.product(rows, t.Inner, t.Width)
		}
	}
	rows := m.Images * m.Patches
	c.Other += c.product(rows, wide, m.ProjectorInner) + c.product(rows, m.ProjectorInner, m.Hidden) + c.product(rows, m.Hidden, m.Hidden)
	if m.Proprio > 0 {
		c.Other += c.product(1, m.Proprio, m.Hidden) + c.product(1, m.Hidden, m.Hidden)
	}
	return c
}

// layer is a layer of the Llama whose keys and values are made of some tokens, and all else of some rows of these, which see
// some keys.
func (m Model) layer(tokens, rows, keys int) Cost {
	var c Cost
	for range 2 { // keys, values
		c.Linear += c.product(tokens, m.Hidden, m.Hidden)
	}
	if rows == 0 {
		return c
	}
	for range 2 { // queries, output
		c.Linear += c.product(rows, m.Hidden, m.Hidden)
	}
	c.attention(rows, keys, m.Hidden)
	c.Scores += float64(m.Heads) * float64(rows) * float64(keys)
	for range 2 { // gate, up
		c.Linear += c.product(rows, m.Hidden, m.Intermediate)
	}
	c.Linear += c.product(rows, m.Intermediate, m.Hidden)
	return c
}

// pass is all layers and the head; in the last layer only the rows of the logits are
// computed.
func (m Model) pass(tokens, keys int) Cost {
	c := m.layer(tokens, tokens, keys).times(m.Layers - 1).plus(m.layer(tokens, m.Slots, keys))
	c.Head += c.product(m.Slots, m.Hidden, m.Logits)
	return c
}

// Pass is a round that computes the whole sequence.
func (m Model) Pass() Cost { return m.pass(m.Sequence(), m.Sequence()) }

// PrefixPass is the keys and values of a prefix that does not see the action block.
func (m Model) PrefixPass() Cost {
	p := m.Before()
	return m.layer(p, p, p).times(m.Layers - 1).plus(m.layer(p, 0, 0))
}

// BlockPass is a round that computes the action block alone.
func (m Model) BlockPass() Cost { return m.pass(m.Block(), m.Before()+m.Block()) }

// Way is how the rounds of a chunk are computed.
type Way struct {
	Name string
	// Stages of a chunk of T rounds, in order.
	Stages func(m Model, rounds int) []Cost
}

// Chunk is the cost of all stages.
func (w Way) Chunk(m Model, rounds int) Cost {
	var sum Cost
	for _, stage := range w.Stages(m, rounds) {
		sum = sum.plus(stage)
	}
	return sum
}

// Exact computes the whole sequence in each round, vision once.
func Exact() Way {
	return Way{"exact", func(m Model, rounds int) []Cost {
		return append([]Cost{m.Vision()}, slices.Repeat([]Cost{m.Pass()}, rounds)...)
	}}
}

// Stateless computes all in each round, vision too.
func Stateless() Way {
	return Way{"stateless", func(m Model, rounds int) []Cost {
		return slices.Repeat([]Cost{m.Vision(), m.Pass()}, rounds)
	}}
}

// Refresh computes the whole sequence in round 0 and every r-th round after it, in the others the
// action block.
func Refresh(r int) Way {
	return Way{fmt.Sprintf("refresh %d", r), func(m Model, rounds int) []Cost {
		stages := []Cost{m.Vision()}
		for t := range rounds {
			if t%r == 0 {
				stages = append(stages, m.Pass())
			} else {
				stages = append(stages, m.BlockPass())
			}
		}
		return stages
	}}
}

// Prefix is attention prefix: the prefix once, then the action block in each round.
func Prefix() Way {
	return Way{"prefix", func(m Model, rounds int) []Cost {
		return append([]Cost{m.Vision(), m.PrefixPass()}, slices.Repeat([]Cost{m.BlockPass()}, rounds)...)
	}}
}
