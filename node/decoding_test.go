package node

import (
	"errors"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/decode"
)

// Whoever slows the arms is heard, whatever becomes of decoding.
func TestMotionChangesWhereDecodingDoesNot(t *testing.T) {
	r := newRig(t)
	live := r.node.currentLive()
	live.Decode.Rounds, live.Motion.SpeedScale = 99, 0.1
	if err := r.node.SetLive(live); err == nil {
		t.Error("99 rounds were taken")
	}
	if now := r.node.executor.Live().SpeedScale; now != 0.1 || r.node.currentLive().Motion.SpeedScale != 0.1 {
		t.Errorf("the speed scale is %v", now)
	}
	live.Decode.Rounds, live.Motion.SpeedScale = 3, 7
	if err := r.node.SetLive(live); err == nil {
		t.Error("a speed scale of 7 was taken")
	}
	if got := r.node.policy.Decode().Rounds; got != 3 || r.node.currentLive().Decode.Rounds != 3 {
		t.Errorf("%d rounds", got)
	}
}

// A graph that takes long to load, or cannot be, is waited for by nobody, and told.
func TestMotionChangesWhileAGraphLoads(t *testing.T) {
	r := newRig(t)
	set, begun, finish := r.node.decoding.set, make(chan decode.Params, 10), make(chan error)
	r.node.decoding.set = func(p decode.Params) error {
		begun <- p
		return <-finish
	}
	r.node.decoding.loaded = map[bool]bool{} // as for another preset's
	change := func(rounds int, scale float64) {
		t.Helper()
		live := r.node.currentLive()
		live.Decode.Rounds, live.Motion.SpeedScale = rounds, scale
		if err := r.node.SetLive(live); err != nil {
			t.Fatal(err)
		}
		if now := r.node.executor.Live().SpeedScale; now != scale {
			t.Errorf("the speed scale is %v, want %v", now, scale)
		}
	}
	change(5, 0.5)
	if got := (<-begun).Rounds; got != 5 {
		t.Errorf("%d rounds are loaded", got)
	}
	change(6, 0.2)
	change(7, 0.2)
	change(7, 0.1)
	finish <- nil
	if got := (<-begun).Rounds; got != 7 { // 6 is nobody's wish any more
		t.Errorf("%d rounds are loaded next", got)
	}
	finish <- errors.New("no memory")
	r.node.decoding.loader.Wait()
	if s := r.status("policy"); s.Level != msgs.DiagnosticWarn || statusValue(s, "decode") != "not in force: no memory" {
		t.Errorf("level %d, %q", s.Level, s.Message)
	}
	// It is not tried again for what has nothing to do with it.
	change(7, 0.3)
	if len(begun) != 0 {
		t.Error("loaded again")
	}
	r.node.decoding.set = set
	change(1, 0.3)
	if err := r.node.decoding.fault(); err != nil || r.node.policy.Decode().Rounds != 1 {
		t.Errorf("%v, %d rounds", err, r.node.policy.Decode().Rounds)
	}
}

// A node that ends frees no graph that is being loaded.
func TestClosingWaitsForTheGraph(t *testing.T) {
	begun, finish := make(chan bool), make(chan error)
	d := newDecoding(func(decode.Params) error { begun <- true; return <-finish }, decode.Params{Preset: decode.Greedy}, zap.NewNop())
	if err := d.change(decode.Params{Preset: decode.Autoregressive}); err != nil {
		t.Fatal(err)
	}
	<-begun
	ended := make(chan struct{})
	go func() { d.close(); close(ended) }()
	select {
	case <-ended:
		t.Error("did not wait")
	case <-time.After(20 * time.Millisecond):
	}
	finish <- nil
	<-ended
}
