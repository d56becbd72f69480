package cost

import (
	"fmt"
	"io"
	"strings"
)

// Robot is the policy of the paper's robot as far as it is known: three cameras, a state and actions of 14
// numbers, chunks of 12 rows. Which of these it had beside the rows the paper does not say.
func Robot() Model { return OpenVLA(3, 14, paperPrompt, 12*14) }

// Libero is the policy of the paper's LIBERO runs: two cameras, chunks of eight rows of seven numbers.
func Libero() Model { return OpenVLA(2, 8, paperPrompt, 8*7) }

const (
	paperPrompt = 21 // ids of a usual instruction
	robotRows   = 12
	liberoRows  = 8
	giga        = 1e9
	tera        = 1e12
	milli       = 1e-3
	// halfOfBound is the share of a roofline that well-made programs often reach; a reader's yardstick.
	halfOfBound = 0.5
	// unfusedBytes are those of a score where attention is the graph's own operators in 16 bits: the product writes 2;
	// a cast to float32 2 and 4, the bias 4 and 4, the softmax 4 and 4, the cast back 4 and 2; the next product reads 2.
	unfusedBytes = 2 + 6 + 8 + 8 + 6 + 2
)

// Ways are those of docs/performance.md.
func Ways() []Way { return []Way{Exact(), Refresh(4), Prefix()} }

// roundCounts are the T of the tables.
func roundCounts() []int { return []int{12, 8, 4, 2, 1} }

// table writes lines of Markdown.
type table struct{ w *strings.Builder }

func (t table) head(cells ...string) {
	t.line(cells...)
	fmt.Fprintln(t.w, "|"+strings.Repeat("---|", len(cells)))
}

func (t table) line(cells ...string) { fmt.Fprintln(t.w, "| "+strings.Join(cells, " | ")+" |") }

// Tables writes what is between the marks of docs/performance.md: what the tables say, then the tables, each
// after its title.
func Tables(w io.Writer) error {
	var out strings.Builder
	t := table{&out}
	for _, part := range []func(table){findings, devicesTable, stagesTable, boundsTable, chunksTable, reachTable, anchorsTable} {
		part(t)
		fmt.Fprintln(&out)
	}
	_, err := io.WriteString(w, strings.TrimSuffix(out.String(), "\n"))
	return err
}

// findings are the sentences that hold numbers.
func findings(t table) {
	fmt.Fprint(t.w, "### What they say\n\n")
	m, p, list := Robot(), Precisions(), Devices()
	gpu, hopper, thor := list[0], list[2], list[3]
	item := func(format string, args ...any) { fmt.Fprintf(t.w, "- "+format+"\n", args...) }
	intensity := func(c Cost, p Precision) float64 { return c.FLOPs / c.Bytes(p) }
	exact, block := m.Pass(), m.BlockPass()
	item("An exact round is %.1f TFLOP and does %.0f operations for each byte in fp16, far above the knee of the %s (%.0f) and the %s (%.0f): compute binds, and fewer bytes of weights (int8, int4) do not "+
		"make it faster. On %s, whose knee is at %.0f, memory binds in fp16, and integers help.", exact.FLOPs/tera, intensity(exact, p[0]), gpu.Name, gpu.FP16/gpu.Bandwidth, hopper.Name, hopper.FP16/hopper.Bandwidth, thor.Name, thor.FP16/thor.Bandwidth)
	item("A round of the action block alone (attention `prefix`, or `refresh`) is %.1f TFLOP, %.1f times less, but reads the same weights: %.0f operations a byte in fp16. Memory binds, and int8 and int4 pay: %.1f, %.1f and %.1f ms on the %s.",
		block.FLOPs/tera, exact.FLOPs/block.FLOPs, intensity(block, p[0]), hopper.Seconds(block, p[0])/milli, hopper.Seconds(block, p[1])/milli, hopper.Seconds(block, p[2])/milli, hopper.Name)
	item("Over the twelve rounds `prefix` takes %.1f times fewer operations than exact, `refresh: 4` %.1f times; at the bound of the %s in fp16 that is %.1f and %.1f times the speed.",
		Exact().Chunk(m, 12).FLOPs/Prefix().Chunk(m, 12).FLOPs, Exact().Chunk(m, 12).FLOPs/Refresh(4).Chunk(m, 12).FLOPs, gpu.Name,
		gpu.Chunk(m, Exact(), 12, p[0])/gpu.Chunk(m, Prefix(), 12, p[0]), gpu.Chunk(m, Exact(), 12, p[0])/gpu.Chunk(m, Refresh(4), 12, p[0]))
	item("Vision is once a chunk and small: %.1f TFLOP, %.0f %% of the operations of an exact chunk of twelve rounds.", m.Vision().FLOPs/tera, 100*m.Vision().FLOPs/Exact().Chunk(m, 12).FLOPs)
	chunk := gpu.Chunk(m, Exact(), 12, p[0])
	item("The published 9.69 Hz of the robot on an %s: exact, T = 12, fp16 is bounded there by %.2f chunks or %.1f actions per second. Read as actions per second the figure is %.0f %% of that bound; read as chunks per second "+
		"it would be %.1f times the bound. With these sizes it is actions per second.", gpu.Name, 1/chunk, robotRows/chunk, 100*publishedRobot*chunk/robotRows, publishedRobot*chunk)
	chunk = hopper.Chunk(Libero(), Exact(), 12, p[0])
	item("The published 14.53 Hz on an H800, taken as an %s: the bound of a chunk is %.0f ms, more than the %.0f ms that it would be as chunks, and less than the %.0f ms that it is as actions.",
		hopper.Name, chunk/milli, 1/publishedLibero/milli, liberoRows/publishedLibero/milli)
	for _, rate := range []float64{10, 30} {
		var reached []string
		for _, d := range list {
			var ways []string
			for _, w := range Ways() {
				if n := d.mostRounds(m, w, p[0], 1/rate); n > 0 {
					ways = append(ways, fmt.Sprintf("%s up to T = %d (%s of the bound)", w.Name, n, percentOf(d.Chunk(m, w, n, p[0])*rate)))
				}
			}
			if len(ways) == 0 {
				ways = []string{"none"}
			}
			reached = append(reached, d.Name+": "+strings.Join(ways, ", "))
		}
		item("%g chunks per second in fp16, all of the bound used: %s.", rate, strings.Join(reached, "; "))
	}
}

// percentOf is a share in percent.
func percentOf(share float64) string { return fmt.Sprintf("%.0f %%", 100*share) }

func devicesTable(t table) {
	fmt.Fprint(t.w, "### Devices\n\n")
	t.head("device", "memory GB/s", "fp16 TFLOPS, dense", "int8 TOPS, dense", "memory GB", "operations a byte at the knee, fp16", "source")
	for _, d := range Devices() {
		t.line(d.Name, fmt.Sprintf("%.0f", d.Bandwidth/giga), fmt.Sprintf("%.1f", d.FP16/tera), fmt.Sprintf("%.1f", d.INT8/tera),
			fmt.Sprintf("%.0f", d.Memory/giga), fmt.Sprintf("%.0f", d.FP16/d.Bandwidth), d.Source)
	}
}

// stage is a part of a chunk with its name.
type stage struct {
	name string
	cost Cost
}

func stages(m Model) []stage {
	return []stage{
		{fmt.Sprintf("vision and projectors, %d images", m.Images), m.Vision()},
		{fmt.Sprintf("prefix once, %d tokens", m.Before()), m.PrefixPass()},
		{fmt.Sprintf("exact round, %d tokens", m.Sequence()), m.Pass()},
		{fmt.Sprintf("round of the block, %d tokens", m.Block()), m.BlockPass()},
	}
}

func stagesTable(t table) {
	fmt.Fprint(t.w, "### Stages\n\n")
	t.head("stage", "TFLOP", "GB, fp16", "GB, int8", "GB, int4", "operations a byte, fp16", "int4", "GB more if attention is not one operation")
	p := Precisions()
	for _, s := range stages(Robot()) {
		cells := []string{s.name, fmt.Sprintf("%.2f", s.cost.FLOPs/tera)}
		for _, precision := range p[:3] {
			cells = append(cells, fmt.Sprintf("%.1f", s.cost.Bytes(precision)/giga))
		}
		t.line(append(cells, fmt.Sprintf("%.0f", s.cost.FLOPs/s.cost.Bytes(p[0])), fmt.Sprintf("%.0f", s.cost.FLOPs/s.cost.Bytes(p[2])),
			fmt.Sprintf("%.1f", s.cost.Scores*unfusedBytes/giga))...)
	}
}

func boundsTable(t table) {
	fmt.Fprint(t.w, "### Least time of a stage in ms, and what binds\n\n")
	head := []string{"device", "weights"}
	for _, s := range stages(Robot()) {
		head = append(head, s.name)
	}
	t.head(head...)
	for _, d := range Devices() {
		for _, p := range Precisions() {
			cells := []string{d.Name, p.Name}
			for _, s := range stages(Robot()) {
				by := "compute"
				if d.ByMemory(s.cost, p) {
					by = "memory"
				}
				cells = append(cells, fmt.Sprintf("%.1f %s", d.Seconds(s.cost, p)/milli, by))
			}
			t.line(cells...)
		}
	}
}

func chunksTable(t table) {
	fmt.Fprint(t.w, "### Chunks per second at the bound\n\n")
	head := []string{"device", "weights"}
	for _, w := range Ways() {
		for _, rounds := range roundCounts() {
			if w.Name == Refresh(4).Name && rounds == 1 {
				continue // is exact
			}
			head = append(head, fmt.Sprintf("%s, T = %d", w.Name, rounds))
		}
	}
	t.head(head...)
	m := Robot()
	for _, d := range Devices() {
		for _, p := range Precisions() {
			cells := []string{d.Name, p.Name}
			for _, w := range Ways() {
				for _, rounds := range roundCounts() {
					if w.Name == Refresh(4).Name && rounds == 1 {
						continue
					}
					cells = append(cells, fmt.Sprintf("%.3g", 1/d.Chunk(m, w, rounds, p)))
				}
			}
			t.line(cells...)
		}
	}
}

// mostRounds is the largest T of 1..64 whose chunk takes at most some seconds, 0 for none.
func (d Device) mostRounds(m Model, w Way, p Precision, seconds float64) int {
	most := 0
	for rounds := 1; rounds <= 64 && d.Chunk(m, w, rounds, p) <= seconds; rounds++ {
		most = rounds
	}
	return most
}

func reachTable(t table) {
	fmt.Fprint(t.w, "### Most rounds that reach 10 and 30 chunks per second: at the bound / at half of it\n\n")
	head := []string{"device", "weights"}
	for _, rate := range []float64{10, 30} {
		for _, w := range Ways() {
			head = append(head, fmt.Sprintf("%g/s, %s", rate, w.Name))
		}
	}
	t.head(head...)
	name := func(rounds int) string {
		switch rounds {
		case 0:
			return "none"
		case 64:
			return "64 or more"
		}
		return fmt.Sprint(rounds)
	}
	for _, d := range Devices() {
		for _, p := range Precisions() {
			cells := []string{d.Name, p.Name}
			for _, rate := range []float64{10, 30} {
				for _, w := range Ways() {
					bound, half := d.mostRounds(Robot(), w, p, 1/rate), d.mostRounds(Robot(), w, p, halfOfBound/rate)
					cells = append(cells, name(bound)+" / "+name(half))
				}
			}
			t.line(cells...)
		}
	}
}

// published are the anchors of the paper (arXiv 2508.20072, table 6 and section 4.6).
const (
	publishedLibero = 14.53 // Hz on an H800, 12 passes
	publishedRobot  = 9.69  // Hz on an RTX 4090
)

func anchorsTable(t table) {
	fmt.Fprint(t.w, "### Published speed beside the bound\n\n")
	t.head("published", "as actions: ms a chunk", "as chunks: ms a chunk", "device of the bound", "setting", "bound, ms a chunk", "bound, chunks/s", "bound, actions/s", "actions/s of the bound over the published Hz")
	line := func(name string, hz float64, rows int, d Device, m Model, w Way, rounds int, p Precision) {
		seconds := d.Chunk(m, w, rounds, p)
		t.line(name, fmt.Sprintf("%.0f", float64(rows)/hz/milli), fmt.Sprintf("%.0f", 1/hz/milli), d.Name, fmt.Sprintf("%s, T = %d, %s", w.Name, rounds, p.Name),
			fmt.Sprintf("%.0f", seconds/milli), fmt.Sprintf("%.3g", 1/seconds), fmt.Sprintf("%.1f", float64(rows)/seconds), fmt.Sprintf("%.2f", float64(rows)/seconds/hz))
	}
	devices, p := Devices(), Precisions()
	line("14.53 Hz, LIBERO, H800", publishedLibero, liberoRows, devices[2], Libero(), Exact(), 12, p[0])
	for _, d := range devices {
		for _, w := range Ways() {
			for _, rounds := range []int{12, 4} {
				line("9.69 Hz, robot, RTX 4090", publishedRobot, robotRows, d, Robot(), w, rounds, p[0])
			}
		}
	}
}
