package control

import (
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var (
	proofScenarios = flag.Int("proof.scenarios", 10000, "random scenarios of TestNoScenarioBreaksAPromise; a tenth with -short, a thirtieth with -race")
	proofSeed      = flag.Uint64("proof.seed", 1, "seed of the first scenario; one more for each")
)

// TestNoScenarioBreaksAPromise drives simulated arms through random scenarios in
// which cameras stop, clocks jump, inference takes 5 s or fails, chunks are
// adversarial, messages come late, twice, out of order or never, the process
// pauses, parameters change, joints are blocked, drivers deaf, and people press
// everything; and holds each command against the promises of docs/safety.md. A
// failure prints its seed: run it again with
//
//	go test ./control -run NoScenario -args -proof.scenarios 1 -proof.seed SEED
func TestNoScenarioBreaksAPromise(t *testing.T) {
	n := *proofScenarios
	if testing.Short() {
		n /= 10
	}
	if raced {
		n /= 30
	}
	var total tally
	var mu sync.Mutex
	var next atomic.Uint64
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			var mine tally
			for i := next.Add(1) - 1; i < uint64(n) && mine.broken < 3; i = next.Add(1) - 1 {
				seed := *proofSeed + i
				faults := play(seed, sabotage{}, &mine)
				if len(faults) > 0 {
					mine.broken++
					t.Errorf("seed %d:\n\t%s", seed, strings.Join(faults, "\n\t"))
				}
			}
			mu.Lock()
			total.add(&mine)
			mu.Unlock()
		})
	}
	workers.Wait()
	t.Logf("%d scenarios from seed %d: %v", n, *proofSeed, total)
	if n >= 1000 {
		total.demand(t)
	}
}

// tally counts what happened in scenarios, so that a proof of nothing shows.
type tally struct {
	broken, commands, moving int
	chunks, dropped          int
	enabled, refused         int
	codes                    [codeCount]uint64
	seconds                  float64
}

func (a *tally) add(b *tally) {
	a.commands += b.commands
	a.moving += b.moving
	a.chunks += b.chunks
	a.dropped += b.dropped
	a.seconds += b.seconds
	a.enabled += b.enabled
	a.refused += b.refused
	for c := range a.codes {
		a.codes[c] += b.codes[c]
	}
}

// String tells it in a line.
func (a tally) String() string {
	return fmt.Sprintf("%.0f s, %d commands, %d of them following a chunk, %d chunks taken, %d dropped, enabled %d times, refused %d",
		a.seconds, a.commands, a.moving, a.chunks, a.dropped, a.enabled, a.refused)
}

// demand fails where scenarios did not get to everything.
func (a *tally) demand(t *testing.T) {
	if a.moving < a.commands/10 {
		t.Errorf("only %d of %d commands follow a chunk", a.moving, a.commands)
	}
	for c := Waiting; c < codeCount; c++ {
		switch c {
		case Waiting, DroppedShape, OutsideWorkspace, DryRun, LimitedStep, Implausible:
		default:
			if a.codes[c] == 0 {
				t.Errorf("%v never happened", c)
			}
		}
	}
}
