package msgs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestEveryTypeSurvivesEncodingAndDecoding(t *testing.T) {
	for _, rosType := range Types() {
		gen := random(rosType, unicodeText())
		reused, _ := New(rosType)
		rapid.Check(t, func(t *rapid.T) {
			m := gen.Draw(t, "message")
			data, err := Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			fresh, _ := New(rosType)
			for _, decoded := range []Message{fresh, reused} {
				if err := Unmarshal(data, decoded); err != nil {
					t.Fatal(err)
				}
				again, err := Marshal(decoded)
				if err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(again, data) {
					t.Fatalf("%s: %x became %x", rosType, data, again)
				}
			}
			// Appended behind other bytes, alignment still counts from the header.
			prefix := rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "prefix")
			appended, err := AppendMarshal(bytes.Clone(prefix), m)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(appended[len(prefix):], data) {
				t.Fatalf("%s appended to %d bytes: %x, want %x", rosType, len(prefix), appended[len(prefix):], data)
			}
			// Every shorter prefix is an error, never a shorter message, save for the
			// byte of a message without fields.
			cut := rapid.IntRange(0, len(data)-1).Draw(t, "cut")
			partial, _ := New(rosType)
			if err := Unmarshal(data[:cut], partial); err == nil && reflect.TypeOf(m).Elem().NumField() > 0 {
				t.Fatalf("%s: %d of %d bytes decode", rosType, cut, len(data))
			}
		})
	}
}

// The sizes that sequences of messages are checked with must not exceed what an
// element really takes at least, or good messages would be refused; and a tight
// size is what bounds the memory that a hostile length gets.
func TestLeastSizesAreExact(t *testing.T) {
	leastSizes := map[string]int{
		"std_msgs/msg/MultiArrayDimension":         12,
		"trajectory_msgs/msg/JointTrajectoryPoint": 24,
		"diagnostic_msgs/msg/DiagnosticStatus":     17,
		"diagnostic_msgs/msg/KeyValue":             8,
		"rcl_interfaces/msg/ParameterValue":        parameterValueSize,
		"rcl_interfaces/msg/Parameter":             parameterSize,
		"rcl_interfaces/msg/ParameterDescriptor":   parameterDescriptorSize,
		"rcl_interfaces/msg/SetParametersResult":   parameterResultSize,
		"rcl_interfaces/msg/FloatingPointRange":    parameterRangeSize,
		"rcl_interfaces/msg/IntegerRange":          parameterRangeSize,
		"rmw_dds_common/msg/Gid":                   24,
		"rmw_dds_common/msg/NodeEntitiesInfo":      16,
		"lifecycle_msgs/msg/State":                 5,
		"lifecycle_msgs/msg/TransitionDescription": 15,
	}
	var size func(v reflect.Value) int
	size = func(v reflect.Value) int {
		switch v.Kind() {
		case reflect.String, reflect.Slice:
			return 4
		case reflect.Struct:
			n := 0
			for i := range v.NumField() {
				n += size(v.Field(i))
			}
			return n
		case reflect.Array:
			return v.Len() * int(v.Type().Elem().Size())
		}
		return int(v.Type().Size())
	}
	for rosType, want := range leastSizes {
		m, _ := New(rosType)
		if got := size(reflect.ValueOf(m).Elem()); got != want {
			t.Errorf("%s takes %d bytes, its sequences are checked with %d", rosType, got, want)
		}
	}
	for _, rosType := range Types() {
		m, _ := New(rosType)
		v := reflect.ValueOf(m).Elem()
		for i := range v.NumField() {
			if v.Field(i).Kind() != reflect.Slice {
				continue
			}
			if e := messageOf(v.Field(i).Type()); e != nil && leastSizes[e.ROSType()] == 0 {
				t.Errorf("%s has a sequence of %s, which is not in this test", rosType, e.ROSType())
			}
		}
	}
}

func TestHostileLengthsAreRefusedBeforeAllocating(t *testing.T) {
	for _, length := range []uint32{1 << 20, math.MaxInt32, math.MaxUint32} {
		for _, order := range []binary.AppendByteOrder{binary.LittleEndian, binary.BigEndian} {
			for _, rosType := range []string{
				"std_msgs/msg/String", "rcl_interfaces/srv/GetParameters_Request", "rcl_interfaces/srv/GetParameters_Response",
				"rcl_interfaces/srv/GetParameterTypes_Response", "rcl_interfaces/srv/SetParameters_Request",
				"std_msgs/msg/Float64MultiArray", "lifecycle_msgs/srv/GetAvailableTransitions_Response",
			} {
				data := []byte{0, 1, 0, 0}
				if order == binary.AppendByteOrder(binary.BigEndian) {
					data[1] = 0
				}
				data = append(order.AppendUint32(data, length), make([]byte, 100)...)
				m, _ := New(rosType)
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				err := Unmarshal(data, m)
				runtime.ReadMemStats(&after)
				if n := after.TotalAlloc - before.TotalAlloc; n > 1<<16 {
					t.Errorf("%s of length %d: %d bytes allocated", rosType, length, n)
				}
				var e *Error
				if !errors.As(err, &e) {
					t.Fatalf("%s of length %d: %v", rosType, length, err)
				}
				if e.Type != rosType || e.Offset != 4 || !strings.Contains(e.Reason, "length") {
					t.Errorf("%v", err)
				}
			}
		}
	}
}

func TestBadDataIsNamed(t *testing.T) {
	for _, c := range []struct {
		name, data string
		into       Message
		want       string
	}{
		{"no data", "", new(Bool), "std_msgs/msg/Bool: byte 0: data end within the encapsulation header"},
		{"three bytes", "\x00\x01\x00", new(Bool), "std_msgs/msg/Bool: byte 3: data end within the encapsulation header"},
		{"XCDR2", "\x00\x07\x00\x00\x01", new(Bool), "std_msgs/msg/Bool: byte 0: representation 0x0007 is not plain CDR (0x0000 or 0x0001)"},
		{"header only", "\x00\x01\x00\x00", new(Bool), "std_msgs/msg/Bool: byte 4: 1 bytes needed, 0 left"},
		{"no NUL", "\x00\x01\x00\x00\x02\x00\x00\x00ab", new(String), "std_msgs/msg/String: byte 9: string without a terminating NUL"},
		{"too long", "\x00\x01\x00\x00\x01\x00\x00\x00\x00", new(Bool), "std_msgs/msg/Bool: byte 5: 4 bytes left over: the data was written with another definition of the type"},
		{"bound", "\x00\x01\x00\x00" + strings.Repeat("\x00", 20) + "\x02\x00\x00\x00" + strings.Repeat("\x00", 60), new(ParameterDescriptor), "2 elements in a sequence bounded to 1"},
		{"bounded string", "\x00\x01\x00\x00\x2d\x01\x00\x00" + strings.Repeat("a", 300) + "\x00" + strings.Repeat("\x00", 60), new(NodeEntitiesInfo), "string of 300 bytes in a field bounded to 256"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Unmarshal([]byte(c.data), c.into)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestUnmarshalAcceptsWhatOthersWrite(t *testing.T) {
	var text String
	if err := Unmarshal([]byte("\x00\x01\x00\x00\x00\x00\x00\x00"), &text); err != nil || text.Data != "" {
		t.Errorf("string of length 0: %q, %v", text.Data, err)
	}
	if err := Unmarshal([]byte("\x00\x01\x00\x03\x02\x00\x00\x00a\x00\x00\x00"), &text); err != nil || text.Data != "a" {
		t.Errorf("padding behind the message: %q, %v", text.Data, err)
	}
	if err := Unmarshal([]byte("\x00\x01\x00\x00"), new(TriggerRequest)); err != nil {
		t.Errorf("message without fields and without its byte: %v", err)
	}
}

func TestMarshalReportsWhatCannotBeWritten(t *testing.T) {
	dst := []byte("before")
	got, err := AppendMarshal(dst, &ParameterDescriptor{IntegerRange: make([]IntegerRange, 2)})
	var e *Error
	if !errors.As(err, &e) || e.Type != "rcl_interfaces/msg/ParameterDescriptor" {
		t.Errorf("two ranges: %v", err)
	}
	if string(got) != "before" {
		t.Errorf("AppendMarshal returned %q with its error", got)
	}
}

func TestBytesAliasTheDataAndNothingElseDoes(t *testing.T) {
	data, err := Marshal(&Image{Header: Header{FrameID: "camera"}, Encoding: "rgb8", Data: []byte{1, 2, 3}})
	if err != nil {
		t.Fatal(err)
	}
	var m Image
	if err := Unmarshal(data, &m); err != nil {
		t.Fatal(err)
	}
	clear(data)
	if !bytes.Equal(m.Data, []byte{0, 0, 0}) {
		t.Errorf("Data is a copy: %v", m.Data)
	}
	if m.Encoding != "rgb8" || m.Header.FrameID != "camera" {
		t.Errorf("strings changed with the data: %q %q", m.Encoding, m.Header.FrameID)
	}
	if cap(m.Data) != len(m.Data) {
		t.Error("an append to Data would write into the data behind it")
	}
}

// vga is an image as a camera sends it.
func vga() *Image {
	return &Image{
		Header: Header{Stamp: Time{Sec: 1700000000}, FrameID: "camera_f_color_optical_frame"},
		Height: 480, Width: 640, Encoding: "rgb8", Step: 3 * 640, Data: make([]byte, 3*640*480),
	}
}

func joints() *JointState {
	return &JointState{
		Header:   Header{Stamp: Time{Sec: 1700000000}},
		Name:     []string{"joint0", "joint1", "joint2", "joint3", "joint4", "joint5", "joint6"},
		Position: make([]float64, 7), Velocity: make([]float64, 7), Effort: make([]float64, 7),
	}
}

func trajectory() *JointTrajectory {
	m := &JointTrajectory{JointNames: joints().Name}
	for i := range 8 {
		m.Points = append(m.Points, JointTrajectoryPoint{Positions: make([]float64, 7), TimeFromStart: DurationOf(time.Duration(i) * 50 * time.Millisecond)})
	}
	return m
}

func TestCodecDoesNotAllocate(t *testing.T) {
	for _, m := range []Message{vga(), joints(), trajectory()} {
		data, err := Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		into, _ := New(m.ROSType())
		if n := testing.AllocsPerRun(100, func() {
			if err := Unmarshal(data, into); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("decoding a %s: %v allocations", m.ROSType(), n)
		}
		buf := make([]byte, 0, len(data))
		if n := testing.AllocsPerRun(100, func() {
			if _, err := AppendMarshal(buf, m); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("encoding a %s: %v allocations", m.ROSType(), n)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	for _, m := range []Message{vga(), joints(), trajectory()} {
		data, err := Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		into, _ := New(m.ROSType())
		b.Run(reflect.TypeOf(m).Elem().Name(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := Unmarshal(data, into); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkAppendMarshal(b *testing.B) {
	for _, m := range []Message{vga(), joints(), trajectory()} {
		data, err := Marshal(m)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(reflect.TypeOf(m).Elem().Name(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := AppendMarshal(data[:0], m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Whatever bytes come, no type panics, and what decodes is a message: it encodes
// and decodes to itself.
func FuzzUnmarshal(f *testing.F) {
	names := Types()
	index := map[string]int{}
	for i, name := range names {
		index[name] = i
	}
	for _, s := range humble(f) {
		f.Add(uint8(index[s.Type]), s.CDR)
	}
	f.Add(uint8(index["std_msgs/msg/String"]), []byte("\x00\x00\x00\x00\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		rosType := names[int(which)%len(names)]
		m, _ := New(rosType)
		if err := Unmarshal(data, m); err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Type != rosType || e.Offset < 0 || e.Offset > len(data) {
				t.Fatalf("unclear error %v", err)
			}
			return
		}
		once, err := Marshal(m)
		if err != nil {
			t.Fatalf("decodes but does not encode: %v", err)
		}
		again, _ := New(rosType)
		if err := Unmarshal(once, again); err != nil {
			t.Fatalf("does not decode its own encoding: %v", err)
		}
		twice, err := Marshal(again)
		if err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("%x became %x (%v)", once, twice, err)
		}
	})
}
