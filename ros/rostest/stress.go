package rostest

import (
	"fmt"
	"os"
	"runtime/debug"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/machine"
	"github.com/ddvla/ddvla/ros"
)

// Restarts kills a peer process without warning and starts it anew, so many times. It must be found again each time,
// by topic and by service, while those before it still count as alive; and in the end nothing of them may be left:
// no match, no node in the graph, no file and no memory. The package's TestMain must call [Main].
func Restarts(t *testing.T, b Backend, times int) {
	f := &fixture{T: t, backend: b, process: true, domain: Domain(t)}
	s := script{Echo: []endpoint{{Topic: "talk", Type: stringType, QoS: ros.DefaultQoS()}}, Triggers: []string{"/go"}}
	n := f.node("n")
	back := make(chan int, 1000)
	sub := f.subscribe(n, "talk_back", ros.DefaultQoS(), func(raw []byte, _ time.Time) { back <- numberOf(raw) })
	pub := f.advertise(n, "talk", ros.DefaultQoS())
	c := f.client(n, "/go")
	alone := func() {
		t.Helper()
		Wait(f, "the killed peers are given up", func() bool { return pub.MatchedSubscriptions() == 0 && sub.MatchedPublishers() == 0 })
		Wait(f, "the graph forgets them", func() bool {
			g, err := n.(ros.Grapher).Graph()
			if err != nil {
				f.Fatal(err)
			}
			return len(g) == 1 && g[0].Name == n.Name()
		})
	}
	again := func(i int) {
		t.Helper()
		p := f.peer(s)
		every := time.NewTicker(20 * time.Millisecond)
		defer every.Stop()
		Wait(f, fmt.Sprintf("the echo of peer %d", i), func() bool {
			select {
			case got := <-back:
				return got == i
			case <-every.C:
				f.publish(pub, numbered(i, 0))
			}
			return false
		})
		f.reach(c)
		p.kill()
	}
	// Buffers and tables reach their size with as many dead peers at once as there will be.
	warm := times / 4
	for i := range warm {
		again(i)
	}
	alone()
	before := holds(t)
	for i := warm; i < times; i++ {
		again(i)
	}
	alone()
	after := holds(t)
	t.Logf("%d peers killed: %.1f MiB resident and %d files after %d, %.1f MiB and %d in the end",
		times, float64(before.memory)/(1<<20), before.files, warm, float64(after.memory)/(1<<20), after.files)
	if after.files > before.files {
		t.Errorf("%d open files became %d", before.files, after.files)
	}
	// A peer of this kind was measured to cost 34 kB while it is known, so half of one kept shows. Nothing is asked of
	// memory where the race detector keeps its own.
	const each = 16 << 10
	if grown := after.memory - before.memory; grown > int64(times-warm)*each && !raced {
		t.Errorf("memory grew by %d bytes, more than %d for each peer", grown, each)
	}
}

// holding is what this process holds of the system.
type holding struct {
	memory int64
	files  int
}

func holds(t *testing.T) holding {
	t.Helper()
	debug.FreeOSMemory()
	m, err := machine.ProcessMemory()
	if err != nil {
		t.Fatal(err)
	}
	files, err := machine.OpenFiles(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	return holding{m.Resident, files}
}

// Crowd starts so many processes, each a participant with a node of its own. Each must hear from all, and see all in
// the graph. The package's TestMain must call [Main].
func Crowd(t *testing.T, b Backend, processes int) {
	f := &fixture{T: t, backend: b, process: true, domain: Domain(t)}
	latched := ros.QoS{Durability: ros.TransientLocal, Depth: processes}
	peers := make([]*peer, processes)
	for i := range peers {
		s := script{
			Options: f.options(fmt.Sprintf("peer%d", i)),
			Publish: []endpoint{{Topic: "all", Type: stringType, QoS: ros.LatchedQoS(), Count: 1}},
			Take:    []endpoint{{Topic: "all", Type: stringType, QoS: latched}},
		}
		peers[i] = f.peer(s)
	}
	for i, p := range peers {
		Wait(f, fmt.Sprintf("peer %d hears all and sees all", i), func() bool {
			a := p.question(askGraph)
			return a.Taken == int64(processes) && a.Publishers == processes && a.Subscriptions == processes && a.Nodes == processes
		})
	}
}
