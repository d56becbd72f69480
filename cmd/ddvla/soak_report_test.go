package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/ddvla/ddvla/internal/machine"
)

// judge prints the table and says what must not be.
func (s *soak) judge(before, after map[string]soakTotals) {
	var out strings.Builder
	took := s.ended.Sub(s.began)
	fmt.Fprintf(&out, "%v at full load, %s, load average %s, net.core.rmem_max %s\n\n", took.Round(time.Second), machine.CPU(),
		firstWord("/proc/loadavg"), firstWord("/proc/sys/net/core/rmem_max"))
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(table, "topic\tsent\tper s\ttaken\trefused\tmalformed\tdropped\tlost in the network\t\n")
	var volume float64
	for _, w := range s.watched {
		n := after[w.topic].minus(before[w.topic])
		perSecond := float64(s.sent[w.topic]) / took.Seconds()
		fmt.Fprintf(table, "%s\t%d\t%.1f\t%d\t%d\t%d\t%d\t%d\t\n", w.topic, n.sent, perSecond, n.taken, n.refused, n.malformed, n.dropped, n.lost)
		volume += perSecond * float64(w.bytes)
		if n.unseen() != 0 {
			s.Errorf("topic %s: %d of %d messages are accounted for nowhere", w.topic, n.unseen(), n.sent)
		}
		if n.refused != 0 || n.malformed != 0 {
			s.Errorf("topic %s: %d good messages refused, %d called malformed", w.topic, n.refused, n.malformed)
		}
		if n.taken == 0 {
			s.Errorf("topic %s: nothing came", w.topic)
		}
	}
	if err := table.Flush(); err != nil {
		s.Fatal(err)
	}
	fmt.Fprintf(&out, "\npictures   %.1f MB/s sent\n", volume/1e6)
	s.judgeCommands(&out)
	last := s.last.values
	fmt.Fprintf(&out, "           the arms were %s (%s) when the load ended\n", last["mode"], last["code"])
	for _, key := range slices.Sorted(maps.Keys(last)) {
		if code, ok := strings.CutPrefix(key, "count."); ok {
			fmt.Fprintf(&out, "           %s x %s\n", last[key], code)
		}
	}
	fmt.Fprintf(&out, "chunks     %s, %s per second; a chunk takes %s\n", last["chunks"], last["chunk_rate"], last["latency.chunk"])
	s.judgeMemory(&out)
	if testing.Verbose() {
		fmt.Println(out.String())
	}
}

// judgeCommands compares the commands sent and received and reports their jitter, which is the machine's and no
// promise.
func (s *soak) judgeCommands(out io.Writer) {
	sent := s.latest().number("commands")
	if sent == 0 {
		s.Error("no command was sent")
	}
	for arm, c := range s.commands {
		c.mu.Lock()
		times, stamps := c.times, c.sent
		c.mu.Unlock()
		got := uint64(len(times))
		dropped, lost := c.heard.Dropped(), c.heard.Lost()
		fmt.Fprintf(out, "commands   %s: %d sent, %d received, %d dropped, %d lost\n", commandTopics[arm], sent, got, dropped, lost)
		if got+dropped+lost != sent {
			s.Errorf("%s: %d of %d commands are accounted for nowhere", commandTopics[arm], int64(sent-got-dropped-lost), sent)
		}
		fmt.Fprintf(out, "           period at the receiver %s\n           between stamps %s\n", s.periods(times), s.periods(stamps))
	}
}

// periods are percentiles of the times between events at full load.
func (s *soak) periods(times []time.Time) string {
	var gaps []float64
	for i := range times[1:] {
		if times[i].After(s.began) && times[i+1].Before(s.ended) {
			gaps = append(gaps, times[i+1].Sub(times[i]).Seconds()*1e3)
		}
	}
	if len(gaps) == 0 {
		return "unknown"
	}
	slices.Sort(gaps)
	at := func(p float64) float64 { return gaps[int(p*float64(len(gaps)-1))] }
	return fmt.Sprintf("p1 %.2f, p50 %.2f, p99 %.2f, p99.9 %.2f, max %.2f ms", at(0.01), at(0.5), at(0.99), at(0.999), at(1))
}

// judgeMemory compares the medians of the second and the last quarter: the first is for buffers to reach their
// size. A median leaves out where in its cycle the collector just is. The race detector keeps memory of its own, so
// nothing is asked of it then.
func (s *soak) judgeMemory(out io.Writer) {
	quarter := len(s.usage) / 4
	if quarter == 0 {
		s.Fatalf("only %d looks at the node's process; make -soak.duration longer", len(s.usage))
	}
	median := func(part []soakUsage) soakUsage {
		pick := func(f func(soakUsage) int64) int64 {
			var all []int64
			for _, u := range part {
				all = append(all, f(u))
			}
			slices.Sort(all)
			return all[len(all)/2]
		}
		return soakUsage{pick(func(u soakUsage) int64 { return u.resident }),
			int(pick(func(u soakUsage) int64 { return int64(u.files) })), int(pick(func(u soakUsage) int64 { return int64(u.threads) }))}
	}
	warm, end := median(s.usage[quarter:2*quarter]), median(s.usage[len(s.usage)-quarter:])
	const mib = 1 << 20
	fmt.Fprintf(out, "memory     %.1f MiB resident in the second quarter, %.1f MiB in the last (medians): %+.1f MiB\n",
		float64(warm.resident)/mib, float64(end.resident)/mib, float64(end.resident-warm.resident)/mib)
	fmt.Fprintf(out, "           %d and %d file descriptors, %d and %d threads\n", warm.files, end.files, warm.threads, end.threads)
	if grown := end.resident - warm.resident; grown > soakSlack && !raced {
		s.Errorf("the node's memory grew by %d bytes, more than %d", grown, soakSlack)
	}
	if end.files > warm.files {
		s.Errorf("%d file descriptors became %d", warm.files, end.files)
	}
}

// firstWord is that of a file of Linux's.
func firstWord(path string) string {
	text, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	word, _, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	return word
}
