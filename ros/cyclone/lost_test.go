package cyclone

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"

	"github.com/ddvla/ddvla/ros"
	"github.com/ddvla/ddvla/ros/rostest"
)

// A peer that loses a tenth of its packets echoes numbered messages. The numbers that are missing among those that
// came are what Lost must count, which looks at DDS's own numbers.
func TestMessagesLostInTheNetworkAreCounted(t *testing.T) {
	domain := rostest.Domain(t)
	n := newTestNode(t, "n", domain)
	// Cyclone's own means to test what loss does, of each thousand packets sent.
	t.Setenv("CYCLONEDDS_URI", "<CycloneDDS><Domain><Internal><Test><XmitLossiness>100</XmitLossiness></Test></Internal></Domain></CycloneDDS>")
	const typ, count = "std_msgs/msg/String", 2000
	rostest.StartEcho(t, NewNode, domain, "/talk", typ, ros.QoS{Depth: count})
	var mu sync.Mutex
	var got []uint32
	// Best effort, so that nothing is sent again on the way back; on the way there everything is.
	s, err := n.Subscribe("talk_back", typ, ros.QoS{Reliability: ros.BestEffort, Depth: count}, func(raw []byte, _ time.Time) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, binary.LittleEndian.Uint32(raw[8:]))
	})
	if err != nil {
		t.Fatal(err)
	}
	p, err := n.Advertise("talk", typ, ros.QoS{Depth: count})
	if err != nil {
		t.Fatal(err)
	}
	rostest.Wait(t, "match", func() bool { return p.MatchedSubscriptions() == 1 && s.MatchedPublishers() == 1 })
	for i := range uint32(count) {
		if err := p.Publish(binary.LittleEndian.AppendUint32([]byte{0, 1, 0, 0, 5, 0, 0, 0}, i)); err != nil {
			t.Fatal(err)
		}
	}
	// The last may be lost, too, so there are more until one comes.
	next := uint32(count)
	rostest.Wait(t, "the end comes", func() bool {
		if err := p.Publish(binary.LittleEndian.AppendUint32([]byte{0, 1, 0, 0, 5, 0, 0, 0}, next)); err != nil {
			t.Fatal(err)
		}
		next++
		mu.Lock()
		defer mu.Unlock()
		return len(got) > 0 && got[len(got)-1] >= count
	})
	var missing, lost uint64
	rostest.Wait(t, "as many are counted as lost as are missing", func() bool {
		mu.Lock()
		defer mu.Unlock()
		lost, missing = s.Lost(), uint64(got[len(got)-1]-got[0])+1-uint64(len(got))
		return lost == missing // what is on its way to the callback was counted already
	})
	if lost == 0 || s.Dropped() != 0 {
		t.Errorf("%d lost and %d dropped of %d messages", lost, s.Dropped(), next)
	}
	mu.Lock()
	defer mu.Unlock()
	for i, number := range got[1:] {
		if number <= got[i] {
			t.Fatalf("message %d came after %d", number, got[i])
		}
	}
}
