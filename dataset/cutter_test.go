package dataset

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/policy/bundle"
)

// cutInfo is of one camera of 2x2 pixels, a joint and a gripper at 10 Hz.
func cutInfo() Info {
	return Info{
		Name: "cut", Rate: 10, Size: 2,
		Cameras: []bundle.Camera{{Name: "head", Resize: bundle.Resize{Width: 2, Height: 2, Filter: bundle.Lanczos3}, CropArea: 1}},
		Action: []bundle.ActionDim{
			{Name: "left_joint1", Space: bundle.Joint, Arm: "left", Unit: "rad"},
			{Name: "left_gripper", Space: bundle.Joint, Arm: "left", Unit: "m"},
		},
		Proprio: []bundle.ProprioDim{{Name: "left_joint1", Arm: "left", Unit: "rad"}},
	}
}

// event is what a source tells: a tick or what comes between two.
type event struct {
	mark        Mark
	end         bool
	missing     bool
	blind       bool // missing, and no action
	instruction string
	action      [2]float64 // without it the tick's number counts
}

// written is a frame that was written: the ticks that its picture and its action are of.
type written struct{ seen, did int }

// cutUp feeds events to a Cutter and returns the episodes' frames.
func cutUp(t interface{ Fatal(...any) }, dir string, cuts Cuts, marked bool, events []event, actions bool) ([]Episode, [][]written, Outcome) {
	w, err := Create(dir, cutInfo())
	if err != nil {
		t.Fatal(err)
	}
	c, err := NewCutter(w, cuts)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Begin("bag", marked); err != nil {
		t.Fatal(err)
	}
	images, tick := make([]byte, w.info.ImageBytes()), 0
	for _, e := range events {
		action := []float64{float64(tick), 0}
		if actions {
			action = e.action[:]
		}
		if e.blind {
			action = nil
		}
		switch {
		case e.mark != "":
			err = c.Mark(e.mark)
		case e.end:
			err = c.End()
		case e.missing:
			err = c.Missing("lost", action)
			tick++
		default:
			binary.LittleEndian.PutUint16(images, uint16(tick))
			err = c.Frame(images, []float64{float64(tick)}, action, e.instruction)
			tick++
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := c.End(); err != nil {
		t.Fatal(err)
	}
	out := c.Outcome()
	total := out.Frames
	for _, n := range out.Dropped {
		total += n
	}
	if total != tick {
		t.Fatal(fmt.Sprintf("%d ticks, but %+v", tick, out))
	}
	if out.Episodes == 0 {
		if err := w.Abandon(); err != nil {
			t.Fatal(err)
		}
		return nil, nil, out
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer os.RemoveAll(dir)
	var frames [][]written
	proprio, row := make([]float32, 1), make([]float32, 2)
	for _, e := range r.Episodes() {
		var list []written
		for i := e.Start; i < e.Start+e.Length; i++ {
			if err := errors.Join(r.Images(i, images), r.Proprio(i, proprio), r.Action(i, row)); err != nil {
				t.Fatal(err)
			}
			seen := int(binary.LittleEndian.Uint16(images))
			if float32(seen) != proprio[0] {
				t.Fatal("pictures and proprio are of different ticks")
			}
			list = append(list, written{seen, int(row[0])})
		}
		frames = append(frames, list)
	}
	if len(frames) != out.Episodes {
		t.Fatal(fmt.Sprintf("%d episodes, %+v", len(frames), out))
	}
	return r.Episodes(), frames, out
}

// Whatever comes, an episode is a row of ticks without a hole, of one instruction, with
// no mark, pause or longer gap inside, and nothing that belongs to one is missing.
func TestEpisodesHoldTogether(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	const gap = 2
	rapid.Check(t, func(t *rapid.T) {
		events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
			switch rapid.IntRange(0, 19).Draw(t, "kind") {
			case 0:
				return event{mark: rapid.SampledFrom([]Mark{Start, Success, Failure, Discard}).Draw(t, "mark")}
			case 1:
				return event{end: true}
			case 2, 3, 4:
				return event{missing: true}
			case 5:
				return event{missing: true, blind: true}
			}
			return event{instruction: rapid.SampledFrom([]string{"a", "a", "a", "b"}).Draw(t, "instruction")}
		}), 0, 60).Draw(t, "events")
		marked := rapid.Bool().Draw(t, "marked")
		cuts := Cuts{Gap: gap * 100 * time.Millisecond, Shortest: time.Duration(rapid.IntRange(0, 3).Draw(t, "shortest")) * 100 * time.Millisecond}
		episodes, frames, out := cutUp(t, dir, cuts, marked, events, false)

		var ticks []event
		var before [][]event // what came before each tick
		between := []event{}
		for _, e := range events {
			if e.mark != "" || e.end {
				between = append(between, e)
				continue
			}
			ticks, before = append(ticks, e), append(before, between)
			between = []event{}
		}
		before = append(before, between)
		inside := map[int]bool{}
		bridged := 0
		for i, list := range frames {
			e := episodes[i]
			if float64(len(list)) < cuts.Shortest.Seconds()*10-1e-9 {
				t.Fatalf("episode %d has %d frames", i, len(list))
			}
			run := 0
			for k, f := range list {
				inside[f.did] = true
				if k > 0 && f.did != list[k-1].did+1 {
					t.Fatalf("episode %d jumps from tick %d to %d", i, list[k-1].did, f.did)
				}
				if k > 0 && len(before[f.did]) > 0 {
					t.Fatalf("episode %d goes on over %+v", i, before[f.did])
				}
				tick := ticks[f.did]
				if !tick.missing {
					run = 0
					if f.seen != f.did || tick.instruction != e.Instruction {
						t.Fatalf("episode %d (%s): tick %d (%s) with pictures of %d", i, e.Instruction, f.did, tick.instruction, f.seen)
					}
					continue
				}
				bridged++
				if run++; run > gap || tick.blind || k == 0 || k == len(list)-1 || f.seen != list[k-1].seen {
					t.Fatalf("episode %d bridges tick %d", i, f.did)
				}
			}
			// The next mark counts, unless another instruction comes before it.
			var want *bool
		marks:
			for next := list[len(list)-1].did + 1; ; next++ {
				for _, b := range before[next] {
					switch b.mark {
					case Start:
						break marks
					case Success, Failure:
						success := b.mark == Success
						want = &success
						break marks
					case Discard:
						t.Fatalf("episode %d is kept", i)
					}
				}
				if next == len(ticks) || !ticks[next].missing && ticks[next].instruction != e.Instruction {
					break
				}
			}
			if (want == nil) != (e.Success == nil) || want != nil && *want != *e.Success {
				t.Fatalf("episode %d: success %v, want %v", i, e.Success, want)
			}
		}
		if out.Bridged != bridged {
			t.Fatalf("%d bridged, %d counted", bridged, out.Bridged)
		}
		// Without marks and a shortest length, every observation is in an episode.
		if !marked && cuts.Shortest == 0 && !slices.ContainsFunc(events, func(e event) bool { return e.mark != "" }) {
			for i, tick := range ticks {
				if !tick.missing && !inside[i] {
					t.Fatalf("tick %d is in no episode", i)
				}
			}
		}
		// Nor is an episode cut where nothing cuts it.
		for i := 1; i < len(frames); i++ {
			a, b := frames[i-1][len(frames[i-1])-1].did, frames[i][0].did
			cut := episodes[i-1].Instruction != episodes[i].Instruction || b-a-1 > gap
			for k := a + 1; k <= b; k++ {
				cut = cut || len(before[k]) > 0 || k < b && (ticks[k].blind || !ticks[k].missing)
			}
			if !cut {
				t.Fatalf("episodes %d and %d are one", i-1, i)
			}
		}
	})
}

func TestMarks(t *testing.T) {
	frames := func(text string, n int) []event { return slices.Repeat([]event{{instruction: text}}, n) }
	mark := func(m Mark) []event { return []event{{mark: m}} }
	events := slices.Concat(
		frames("a", 3), // before the first start
		mark(Start), frames("a", 4), mark(Success),
		frames("a", 2), // putting things back
		mark(Start), frames("a", 5), mark(Failure),
		frames("a", 1), frames("b", 6), // another instruction begins one, too
		mark(Discard),
		mark(Start), frames("b", 7), mark(Start), frames("b", 2), []event{{end: true}},
		mark(Success), mark(Success), // the second of none
	)
	dir := filepath.Join(t.TempDir(), "set")
	episodes, list, out := cutUp(t, dir, Cuts{}, true, events, false)
	var got []string
	for i, e := range episodes {
		success := "-"
		if e.Success != nil {
			success = fmt.Sprint(*e.Success)
		}
		got = append(got, fmt.Sprintf("%s %d+%d %s", e.Instruction, list[i][0].did, e.Length, success))
	}
	if want := []string{"a 3+4 true", "a 9+5 false", "b 21+7 -", "b 28+2 true"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if want := map[string]int{DroppedOutside: 6, DroppedDiscards: 6}; !maps.Equal(out.Dropped, want) || out.Stray != 1 {
		t.Errorf("%+v, want %v dropped and 1 stray mark", out, want)
	}
	_, list, out = cutUp(t, dir, Cuts{DropFailures: true, Shortest: 300 * time.Millisecond}, true, events, false)
	if want := map[string]int{DroppedOutside: 6, DroppedDiscards: 6, DroppedFailure: 5, DroppedShort: 2}; len(list) != 2 || !maps.Equal(out.Dropped, want) {
		t.Errorf("%d episodes, %+v, want %v dropped", len(list), out, want)
	}
}

// A demonstration that gaps and a pause cut in pieces is still one to who marks it.
func TestMarksAreOfAllPieces(t *testing.T) {
	frames := slices.Repeat([]event{{instruction: "a"}}, 3)
	gap := slices.Repeat([]event{{missing: true, blind: true}}, 2)
	pieces := slices.Concat([]event{{mark: Start}}, frames, gap, frames, []event{{end: true}}, frames)
	before := slices.Concat([]event{{mark: Start}}, frames, []event{{mark: Success}})
	for _, c := range []struct {
		mark   Mark
		cuts   Cuts
		want   string
		reason string
	}{
		{Success, Cuts{}, "3 true, 3 true, 3 true, 3 true, 3 true, ", ""},
		{Failure, Cuts{}, "3 true, 3 false, 3 false, 3 false, 3 true, ", ""},
		{Failure, Cuts{DropFailures: true}, "3 true, 3 true, ", DroppedFailure},
		{Discard, Cuts{}, "3 true, 3 true, ", DroppedDiscards},
		// Nothing is open, but there are pieces.
		{Discard, Cuts{Shortest: 300 * time.Millisecond}, "3 true, 3 true, ", DroppedDiscards},
	} {
		events := slices.Concat(before, pieces, []event{{mark: c.mark}}, before)
		if c.cuts.Shortest > 0 {
			events = slices.Concat(before, pieces, gap, []event{{mark: c.mark}}, before)
		}
		episodes, list, out := cutUp(t, filepath.Join(t.TempDir(), "set"), c.cuts, true, events, false)
		got, dropped := "", 0
		for i, e := range episodes {
			got += fmt.Sprintf("%d %v, ", e.Length, *e.Success)
			if e.Episode != i || i == len(episodes)-1 && list[i][0].did != out.Frames+out.Dropped["lost"]+out.Dropped[c.reason]-3 {
				t.Errorf("%s: episode %+v of %v", c.mark, e, list[i])
			}
		}
		if c.reason != "" {
			dropped = 9
		}
		if got != c.want || out.Dropped[c.reason] != dropped || out.Stray != 0 {
			t.Errorf("%s: %s, %+v, want %s", c.mark, got, out, c.want)
		}
	}
}

// What Trim leaves is the episode from one frame before the first motion to one behind
// the last.
func TestTrim(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "set")
	rapid.Check(t, func(t *rapid.T) {
		// Steps of 0 to 0.02 rad and 0 to 2 mm around a trim of 0.01 rad and 1 mm.
		events := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) event {
			return event{instruction: "a", missing: rapid.IntRange(0, 9).Draw(t, "missing") == 0, action: [2]float64{
				rapid.SampledFrom([]float64{0, 0, 0, 0.005, 0.02}).Draw(t, "joint"), rapid.SampledFrom([]float64{0, 0, 0, 0.0005, 0.002}).Draw(t, "gripper"),
			}}
		}), 2, 30).Draw(t, "events")
		events[0].missing, events[len(events)-1].missing = false, false
		whole := Cuts{Gap: time.Hour}
		trimmed := whole
		trimmed.Trim = 0.01
		_, all, out := cutUp(t, dir, whole, false, events, true)
		_, part, _ := cutUp(t, dir, trimmed, false, events, true)
		differs := func(i, j int) bool {
			a, b := events[i].action, events[j].action
			return math.Abs(a[0]-b[0]) > 0.01 || math.Abs(a[1]-b[1]) > 0.001
		}
		n := len(events)
		first, last := -1, -1
		for i := range n {
			if first < 0 && differs(i, 0) {
				first = i
			}
			if differs(i, n-1) {
				last = i
			}
		}
		if first < 0 {
			if len(part) != 0 || out.Still != n {
				t.Fatalf("nothing moves, but %v is left, %d still", part, out.Still)
			}
			return
		}
		want := all[0][first-1 : min(last+2, n)]
		if len(part) != 1 || len(part[0]) != len(want) {
			t.Fatalf("%d to %d moves in %d frames: %v is left", first, last, n, part)
		}
		for i := range want {
			if part[0][i] != want[i] {
				t.Fatalf("%v is left, want %v", part[0], want)
			}
		}
		if still := n - len(want); out.Still != still {
			t.Fatalf("%d frames stand still, counted %d", still, out.Still)
		}
	})
}

func TestCutterRefuses(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "set"), cutInfo())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abandon()
	for _, cuts := range []Cuts{{Gap: -1}, {Trim: math.NaN()}, {Trim: 2}, {Shortest: -1}} {
		if _, err := NewCutter(w, cuts); err == nil {
			t.Errorf("%+v is taken", cuts)
		}
	}
	c, err := NewCutter(w, Cuts{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Mark("strat"); err == nil {
		t.Error(`a mark "strat"`)
	}
}

// A gap as long as Gap is bridged, one tick more is not, and one at the end is dropped.
func TestGap(t *testing.T) {
	frames, lost := slices.Repeat([]event{{instruction: "a"}}, 3), slices.Repeat([]event{{missing: true}}, 5)
	for _, c := range []struct {
		lost, after int
		lengths     string
		dropped     int
	}{{2, 3, "[8]", 0}, {3, 3, "[3 3]", 3}, {2, 0, "[3]", 2}, {5, 1, "[3 1]", 5}} {
		episodes, _, out := cutUp(t, filepath.Join(t.TempDir(), "set"), Cuts{Gap: 200 * time.Millisecond}, false, slices.Concat(frames, lost[:c.lost], frames[:c.after]), false)
		var lengths []int
		for _, e := range episodes {
			lengths = append(lengths, e.Length)
		}
		if fmt.Sprint(lengths) != c.lengths || out.Dropped["lost"] != c.dropped {
			t.Errorf("%d ticks lost: episodes of %v frames, want %s; %+v", c.lost, lengths, c.lengths, out)
		}
	}
}
