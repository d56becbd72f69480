package node

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/ddvla/ddvla/control"
)

// Report is what happened since the node became ready.
type Report struct {
	Chunks     int
	ChunkRate  float64 // per second, first to newest
	ActionRate float64 // rows per second that those chunks hold: ChunkRate times H
	Horizon    int     // H
	MeanRounds float64
	Superseded int // chunks thrown away: a new instruction, Enable, a reset or a clock jump meanwhile
	Terminated int // of these, the inferences that were ended before the graph had run
	Failed     int // inferences that failed
	OverBudget int // chunks that took longer than 1/rate
	Latency    [numStages]Percentiles

	Control       control.Status
	CameraRates   map[string]float64 // Hz
	CameraRefused map[string]uint64
	JointRates    map[string]float64
	Recorded      uint64 // messages written to the bag
	NotRecorded   uint64 // messages that the recorder could not keep up with
	Bag           string // directory, empty when nothing is recorded
}

// Report sums up. It may be called at any time before Close.
func (n *Node) Report() Report {
	now := n.ros.Now()
	n.mu.Lock()
	s := n.stats
	n.mu.Unlock()
	r := Report{
		Chunks: s.chunks, Horizon: n.policy.Manifest().Action.Chunk, Superseded: s.superseded, Terminated: s.terminated,
		Failed: s.failed, OverBudget: s.overBudget, Control: n.executor.Status(), Bag: n.settings.Record,
		CameraRates: map[string]float64{}, CameraRefused: map[string]uint64{}, JointRates: map[string]float64{},
	}
	if s.chunks > 0 {
		r.MeanRounds = float64(s.rounds) / float64(s.chunks)
	}
	if d := s.last.Sub(s.began).Seconds(); s.chunks > 1 && d > 0 {
		r.ChunkRate = float64(s.chunks-1) / d
		r.ActionRate = r.ChunkRate * float64(r.Horizon)
	}
	for stage := range numStages {
		r.Latency[stage] = n.latency.percentiles(stage)
	}
	for _, c := range n.observer.cameras {
		c.mu.Lock()
		r.CameraRates[c.name], r.CameraRefused[c.name] = c.rate.hertz(now), c.refusals.count
		c.mu.Unlock()
	}
	for _, j := range n.observer.joints {
		if j != nil {
			j.mu.Lock()
			r.JointRates[j.arm] = j.rate.hertz(now)
			j.mu.Unlock()
		}
	}
	r.Recorded, r.NotRecorded = n.recorder.counts()
	return r
}

// Write prints the report for a person.
func (r Report) Write(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "chunks     %d, %.2f per second (%.1f actions per second at %d actions a chunk), %.2f rounds a chunk\n",
		r.Chunks, r.ChunkRate, r.ActionRate, r.Horizon, r.MeanRounds)
	if r.Superseded+r.Failed+r.OverBudget > 0 {
		fmt.Fprintf(w, "           %d superseded by an instruction, enable or reset, %d failed, %d took longer than the period\n", r.Superseded, r.Failed, r.OverBudget)
	}
	fmt.Fprintf(w, "commands   %d, the arms are %s (%s)\n", r.Control.Counters.Commands, r.Control.Mode, r.Control.Code)
	for code := control.Code(1); int(code) < control.Codes(); code++ {
		if c := r.Control.Counters.ByCode[code]; c > 0 {
			fmt.Fprintf(w, "           %d x %s\n", c, code)
		}
	}
	for _, name := range sortedNames(r.CameraRates) {
		fmt.Fprintf(w, "camera     %s %.1f Hz, %d refused\n", name, r.CameraRates[name], r.CameraRefused[name])
	}
	for _, name := range sortedNames(r.JointRates) {
		fmt.Fprintf(w, "joints     %s %.0f Hz\n", name, r.JointRates[name])
	}
	fmt.Fprintln(w, "latency (ms)")
	fmt.Fprintf(t, "stage\tp50\tp95\tp99\tmax\t\n")
	for stage := range numStages {
		p := r.Latency[stage]
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t\n", stage, ms(p.P50), ms(p.P95), ms(p.P99), ms(p.Max))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if r.Bag != "" {
		fmt.Fprintf(w, "bag        %s: %d messages, %d dropped\n", r.Bag, r.Recorded, r.NotRecorded)
	}
	return nil
}

func sortedNames(m map[string]float64) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
