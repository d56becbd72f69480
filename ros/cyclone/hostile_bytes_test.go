package cyclone

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/ros/rostest"
)

// unreadable are bytes that DDS itself keeps away: no encapsulation header or a nonsensical one.
func unreadable(typ string) (all [][]byte) {
	body := example(typ)[encapsulation:]
	for _, head := range [][]byte{{0, 255, 0, 0}, {1, 0, 0, 0}, {255, 255, 255, 255}} {
		all = append(all, slices.Concat(head, body))
	}
	return append(all, []byte{0}, []byte{0, 1}, []byte{0, 1, 0})
}

// refusable are bytes that no reader of the type may take for a message that means something.
func refusable(typ string) (all [][]byte) {
	good := example(typ)
	body := good[encapsulation:]
	// Other representations: parameter lists, XCDR2.
	for _, id := range []byte{2, 3, 6, 7, 8, 9, 10, 11} {
		all = append(all, append([]byte{0, id, 0, 0}, body...))
	}
	// Cut off; the last three bytes may be padding.
	for _, part := range []float64{0, 0.1, 0.3, 0.5, 0.9} {
		all = append(all, good[:encapsulation+int(part*float64(len(body)-4))])
	}
	all = append(all, plain, slices.Concat(good, make([]byte, 8)))
	rng := rand.New(rand.NewPCG(1, 5))
	for range 20 {
		all = append(all, noise(rng, 4*(1+rng.IntN(500))))
	}
	var more []msgs.Message
	switch typ {
	case "sensor_msgs/msg/Image":
		for _, change := range []func(*msgs.Image){
			func(m *msgs.Image) { m.Height = math.MaxUint32 }, func(m *msgs.Image) { m.Width = 0 }, func(m *msgs.Image) { m.Step = 1 },
			func(m *msgs.Image) { m.Encoding = strings.Repeat("rgb8", 1<<18) }, func(m *msgs.Image) { m.Data = m.Data[1:] },
		} {
			m := picture()
			change(m)
			more = append(more, m)
		}
	case "sensor_msgs/msg/CompressedImage":
		more = append(more, &msgs.CompressedImage{Format: strings.Repeat("jpeg", 1<<18)})
	case "sensor_msgs/msg/JointState":
		for _, change := range []func(*msgs.JointState){
			func(m *msgs.JointState) { m.Position[3] = math.NaN() }, func(m *msgs.JointState) { m.Position[0] = math.Inf(1) },
			func(m *msgs.JointState) { m.Position = m.Position[:6] }, func(m *msgs.JointState) { m.Position = make([]float64, 1<<16) },
			func(m *msgs.JointState) { m.Name = nil }, func(m *msgs.JointState) { m.Name[2] = strings.Repeat("joint", 1<<18) },
			func(m *msgs.JointState) { m.Name[1] = m.Name[0] },
		} {
			m := pose()
			change(m)
			more = append(more, m)
		}
	}
	for _, m := range more {
		all = append(all, encoded(m))
	}
	return all
}

// doubtful are bytes of which some may be messages: other types', absurd numbers anywhere, noise without form, stamps
// of another age, degrees for radians, pictures of nothing.
func doubtful(typ string) (all [][]byte) {
	good := example(typ)
	rng := rand.New(rand.NewPCG(2, 5))
	for _, other := range msgs.Types() {
		all = append(all, encoded(rostest.RandomMessage(rng, other)))
	}
	for at := encapsulation; at+4 <= min(len(good), 200); at += 4 {
		for _, absurd := range []uint32{math.MaxUint32, math.MaxInt32, 1 << 20} {
			raw := slices.Clone(good)
			binary.LittleEndian.PutUint32(raw[at:], absurd)
			all = append(all, raw)
		}
	}
	for range 100 {
		raw := slices.Clone(good)
		for range 1 + rng.IntN(8) {
			raw[encapsulation+rng.IntN(len(raw)-encapsulation)] = byte(rng.Uint32())
		}
		all = append(all, raw, noise(rng, rng.IntN(100)))
	}
	huge := strings.Repeat("x", 4<<20)
	switch typ {
	case "sensor_msgs/msg/Image":
		m := picture()
		m.Header.FrameID = huge
		all = append(all, encoded(m))
	case "sensor_msgs/msg/JointState":
		m := pose()
		m.Header.FrameID = huge
		all = append(all, encoded(m))
		m = pose()
		m.Position[1] = 57
		all = append(all, encoded(m))
	case "std_msgs/msg/String":
		for _, text := range []string{huge, "", "\xff\xfe", strings.Repeat("reach ", 1000)} {
			all = append(all, encoded(&msgs.String{Data: text}))
		}
	}
	return all
}

// noise is random bytes behind the header of plain CDR.
func noise(rng *rand.Rand, size int) []byte {
	raw := make([]byte, encapsulation, encapsulation+size)
	raw[1] = byte(rng.IntN(2))
	for range size {
		raw = append(raw, byte(rng.Uint32()))
	}
	return raw
}

// example is a good message of a type, or a request of a service with its header.
func example(typ string) []byte {
	switch typ {
	case "sensor_msgs/msg/Image":
		return encoded(picture())
	case "sensor_msgs/msg/CompressedImage":
		return encoded(&msgs.CompressedImage{Header: msgs.Header{FrameID: "camera"}, Format: "jpeg", Data: make([]byte, 1000)})
	case "sensor_msgs/msg/JointState":
		return encoded(pose())
	case "std_msgs/msg/String":
		return encoded(&msgs.String{Data: "reach the red cube"})
	}
	raw := encoded(rostest.RandomMessage(rand.New(rand.NewPCG(3, 5)), typ))
	if strings.HasSuffix(typ, "_Request") {
		head, err := joinHeader(header{1, 2}, raw)
		if err == nil {
			raw = append(head[:], raw[encapsulation:]...)
		}
	}
	return raw
}

func picture() *msgs.Image {
	return &msgs.Image{Header: msgs.Header{FrameID: "camera"}, Width: 64, Height: 48, Encoding: "rgb8", Step: 3 * 64, Data: make([]byte, 3*64*48)}
}

// pose is where an arm waits.
func pose() *msgs.JointState {
	m := jointState()
	copy(m.Position, []float64{0, 0.3, -0.6, 0, 1.1, 0, 0.02})
	return m
}

// encoded is a message of this test, which can be encoded.
func encoded(m msgs.Message) []byte {
	raw, err := msgs.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("%s: %v", m.ROSType(), err))
	}
	return raw
}
