package node

import (
	"slices"
	"sync"
	"time"
)

// Stage is a part of the way from a snapshot to a published chunk.
type Stage int

// Stages, in the order they run.
const (
	StageObserve    Stage = iota // copying the newest messages
	StagePreprocess              // pixels to model input, tokens, proprio, noise
	StageInference               // the graph
	StageDecode                  // bins to robot units, checks
	StagePublish                 // chunk to the executor and onto its topic
	StageChunk                   // all of the above
	StageAge                     // observation stamp to chunk published
	numStages
)

// String returns the name used in diagnostics and reports.
func (s Stage) String() string {
	return [...]string{"observe", "preprocess", "inference", "decode", "publish", "chunk", "observation age"}[s]
}

// Percentiles summarises the samples of a stage.
type Percentiles struct {
	Count              int
	P50, P95, P99, Max time.Duration
}

// latencyWindow is how many of the newest samples percentiles are taken over:
// 100 s at 10 Hz.
const latencyWindow = 1000

// latencies keeps the newest samples of every stage. The zero value is ready.
type latencies struct {
	mu      sync.Mutex
	samples [numStages][]float64 // ring of seconds
	next    [numStages]int
	total   [numStages]int
}

func (l *latencies) add(s Stage, d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.samples[s]) < latencyWindow {
		l.samples[s] = append(l.samples[s], d.Seconds())
	} else {
		l.samples[s][l.next[s]] = d.Seconds()
		l.next[s] = (l.next[s] + 1) % latencyWindow
	}
	l.total[s]++
}

// percentiles returns the empirical percentiles of a stage.
func (l *latencies) percentiles(s Stage) Percentiles {
	l.mu.Lock()
	x := slices.Clone(l.samples[s])
	total := l.total[s]
	l.mu.Unlock()
	return percentiles(x, total)
}
