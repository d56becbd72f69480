package decode

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// anyDecoding draws one decoding of a batch with any options: every preset and
// schedule, 1 to 64 rounds, given and warm-started tokens, scores, temperatures,
// biases and thresholds.
func anyDecoding(t *rapid.T) (*Inputs, []float32) {
	rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	p := Params{
		Preset: rapid.SampledFrom(Presets()).Draw(t, "preset"), Rounds: rapid.IntRange(1, MaxRounds).Draw(t, "T"),
		Schedule: rapid.SampledFrom(append(Schedules(), "")).Draw(t, "schedule"),
		Score:    rapid.SampledFrom([]string{"", "candidate", "maximum", "gap"}).Draw(t, "score"),
	}
	if rapid.Bool().Draw(t, "thresholds") {
		p.Threshold = []float64{rapid.SampledFrom([]float64{0, 0.1, 0.3, 0.9}).Draw(t, "threshold")}
		p.DropThreshold = []float64{rapid.SampledFrom([]float64{math.Inf(1), 0, 0.2}).Draw(t, "drop threshold")}
		p.CommitConfidence = []float64{rapid.SampledFrom([]float64{2, 0.5, 0.3}).Draw(t, "commit confidence")}
		p.CommittedBias = []float64{rapid.SampledFrom([]float64{math.Inf(1), 0, -1}).Draw(t, "bias")}
	}
	positions, bins := rapid.IntRange(1, 30).Draw(t, "L"), rapid.IntRange(2, 20).Draw(t, "K")
	var masked []int
	for range rapid.IntRange(1, 3).Draw(t, "B") {
		masked = append(masked, rapid.IntRange(0, positions).Draw(t, "masked"))
	}
	in, err := p.Inputs(masked, positions, bins, NewNoise(rng.Uint64()))
	if err != nil {
		t.Fatal(err)
	}
	for b, n := range masked {
		for i, at := range rng.Perm(positions) {
			at += b * positions
			switch {
			case i < n:
			case rng.IntN(2) == 0:
				in.Known[at] = int64(rng.IntN(bins))
			default:
				in.Initial[at], in.InitialConfidence[at] = int64(rng.IntN(bins)), rng.Float32()
			}
		}
	}
	table := make([]float32, in.Rounds*len(in.Known)*bins)
	for i := range table {
		table[i] = float32(2 * rng.NormFloat64())
	}
	return in, table
}

// TestEveryRoundKeepsItsPromises follows the trace of any decoding. A given token
// never changes. A committed one keeps its bin or goes back to the mask, which it
// does only where the ranking reaches it (a finite bias) or a threshold sends it
// there. A round leaves masked at most what the schedule says (of those that are
// ranked: neither given nor locked) and what the thresholds send back, and at
// least the one without the confident candidates, and the other: without
// thresholds, exactly as scheduled.
func TestEveryRoundKeepsItsPromises(t *testing.T) {
	more, fewer, exactly := 0, 0, 0
	rapid.Check(t, func(t *rapid.T) {
		in, table := anyDecoding(t)
		res, err := Decode(context.Background(), given(table), in)
		if err != nil {
			t.Fatal(err)
		}
		for b := range in.Batch {
			trace := TraceOf(in, res, b)
			if err := trace.Validate(); err != nil {
				t.Fatal(err)
			}
			for round := range res.Rounds {
				before := trace.Bins[round*in.Positions:][:in.Positions]
				after := trace.Bins[(round+1)*in.Positions:][:in.Positions]
				confidence := trace.Confidence[(round+1)*in.Positions:][:in.Positions]
				live, last := false, round == in.Rounds-1
				for _, bin := range before {
					live = live || bin < 0
				}
				// Positions that the thresholds send back, that are ranked, of these the
				// confident ones, and that stay masked.
				revoked, ranked, confident, masked := 0, 0, 0, 0
				for i, bin := range before {
					given := in.Known[b*in.Positions+i] >= 0
					if given && after[i] != in.Known[b*in.Positions+i] {
						t.Fatalf("row %d, round %d: given position %d holds %d", b, round, i, after[i])
					}
					if !live && after[i] != bin {
						t.Fatalf("row %d, round %d: position %d of a finished row changed", b, round, i)
					}
					if after[i] < 0 {
						masked++
					}
					c, falls := confidence[i], false
					if bin >= 0 && !given {
						committed, _ := trace.CommittedAt(round-1, i)
						falls = c < in.Threshold[round] || c < committed-in.DropThreshold[round]
					}
					sure := c >= in.CommitConfidence[round]
					locked := bin >= 0 && math.IsInf(float64(in.CommittedBias[round]), 1)
					if !given && !locked {
						ranked++
						if sure {
							confident++
						}
					}
					switch {
					case falls:
						revoked++
						if live && !last && after[i] >= 0 {
							t.Fatalf("row %d, round %d: position %d stays, which a threshold masks again", b, round, i)
						}
					case (locked || sure) && bin >= 0 && after[i] != bin:
						t.Fatalf("row %d, round %d: position %d was masked again, nothing does that", b, round, i)
					case sure && bin < 0 && after[i] < 0:
						t.Fatalf("row %d, round %d: position %d stays masked, its candidate is sure", b, round, i)
					}
				}
				scheduled := min(int(in.MaskedAfter[round*in.Batch+b]), ranked)
				switch {
				case !live || last:
					if masked != 0 {
						t.Fatalf("row %d, round %d leaves %d masked, must leave none", b, round, masked)
					}
				case masked > scheduled+revoked:
					t.Fatalf("row %d, round %d leaves %d masked, more than the scheduled %d and %d sent back", b, round, masked, scheduled, revoked)
				case masked < max(revoked, scheduled-confident):
					t.Fatalf("row %d, round %d leaves %d masked, fewer than the scheduled %d without %d confident ones, or the %d sent back", b, round, masked, scheduled, confident, revoked)
				case masked > scheduled:
					more++
				case masked < scheduled:
					fewer++
				default:
					exactly++
				}
			}
		}
	})
	t.Logf("%d rounds leave more than scheduled, %d fewer, %d as many", more, fewer, exactly)
	if more == 0 || fewer == 0 || exactly == 0 {
		t.Error("none of a kind")
	}
}
