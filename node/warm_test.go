package node

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/ros/param"
)

// begun are, of each chunk so far, the tokens that it began with.
func (r *rig) begun() []int {
	r.t.Helper()
	var all []int
	for _, m := range published[msgs.Float64MultiArray](r, traceTopic) {
		_, trace, err := ReadTrace(&m)
		if err != nil {
			r.t.Fatal(err)
		}
		n := 0
		for _, bin := range trace.Bins[:trace.Positions] {
			if bin >= 0 {
				n++
			}
		}
		all = append(all, n)
	}
	return all
}

// While the arms follow, a chunk begins with what two executed rows leave of the
// last one; without a warm start, before enable, and first after a new
// instruction, a reset, or a stop and the enable after it, with nothing.
func TestChunksBeginWarmOnlyWhileTheArmsFollow(t *testing.T) {
	r := newRig(t, given("decode.rounds", param.Int(3)), given("decode.trace", param.Bool(true)))
	r.run(300 * time.Millisecond)
	live := r.node.currentLive()
	live.Decode.WarmStart = true
	if err := r.node.SetLive(live); err != nil {
		t.Fatal(err)
	}
	r.run(300 * time.Millisecond)
	for i, n := range r.begun() {
		if n != 0 {
			t.Fatalf("chunk %d before enable began with %d tokens", i, n)
		}
	}
	tokens := r.node.policy.Manifest().Action.Tokens() * 6 / 8 // two of eight rows are over
	for _, c := range []struct {
		name string
		do   func()
		cold int // chunks
	}{
		{"enable", func() {
			if err := r.node.Enable(); err != nil {
				t.Fatal(err)
			}
		}, 1},
		{"instruction", func() { r.instruct("reach the blue cube") }, 1},
		{"reset", func() { r.trigger("/ddvla/reset") }, 1},
		{"stop and enable", func() {
			before := len(r.begun())
			r.trigger("/ddvla/estop")
			r.run(500 * time.Millisecond)
			if all := r.begun()[before:]; slices.Max(all) != 0 {
				t.Errorf("stopped arms' chunks begin with %v tokens", all)
			}
			if answer := r.trigger("/ddvla/enable"); !answer.Success {
				t.Fatal(answer.Message)
			}
		}, 1},
	} {
		c.do()
		before := len(r.begun())
		r.run(500 * time.Millisecond)
		after := r.begun()[before:]
		if len(after) < c.cold+2 {
			t.Fatalf("%s: %d chunks", c.name, len(after))
		}
		for i, n := range after {
			if want := tokens; i < c.cold && n != 0 || i >= c.cold && n != want {
				t.Errorf("%s: chunks begin with %v tokens, want %d after %d with none", c.name, after, want, c.cold)
				break
			}
		}
	}
}

func TestWarmStartParameters(t *testing.T) {
	dir := testbundle.Dir(t)
	s, _, _, err := settings(parameters(dir, []param.Assignment{
		given("decode.warm_start", param.Bool(true)), given("decode.warm_start_confidence", param.Double(0.25)),
		given("decode.rounds", param.Int(5)), given("decode.warm_start_rounds", param.Int(2)),
	})...)
	if err != nil {
		t.Fatal(err)
	}
	if d := s.Live.Decode; !d.WarmStart || d.WarmStartConfidence != 0.25 || d.WarmStartRounds != 2 {
		t.Errorf("%+v", d)
	}
	if d := decode.DefaultParams(); d.WarmStart {
		t.Error("it is on by default")
	}
	head := testbundle.Copy(t, func(m *bundle.Manifest) { m.Model.Head, m.Decode.Rounds = bundle.L1Head, 1 })
	for _, c := range []struct {
		want string
		with []param.Assignment
	}{
		{"warm_start: is set, but the policy has an L1 head", parameters(head, []param.Assignment{given("decode.warm_start", param.Bool(true))})},
		{"warm_start_rounds: is 2", parameters(dir, []param.Assignment{given("decode.warm_start_rounds", param.Int(2))})},
	} {
		if _, _, _, err := settings(c.with...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
}
