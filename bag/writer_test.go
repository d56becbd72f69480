package bag

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/tools/npm"
)

var epochStart = time.Unix(1700000000, 0)

// makeBag writes a small bag of strings and joint states.
func makeBag(t testing.TB, dir, compression string) {
	t.Helper()
	w, err := Create(dir, Options{Compression: compression, ChunkSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	for _, topic := range []Topic{
		{Name: "/instruction", Type: "std_msgs/msg/String", QoS: "- history: keep_last\n  depth: 1\n  reliability: reliable\n  durability: 1\n"},
		{Name: "/joints", Type: "sensor_msgs/msg/JointState"},
		{Name: "/silent", Type: "std_msgs/msg/Bool"},
	} {
		if err := w.AddTopic(topic); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 20 {
		stamp := epochStart.Add(time.Duration(i) * 10 * time.Millisecond)
		data, err := msgs.Marshal(&msgs.JointState{Name: []string{"joint1"}, Position: []float64{float64(i)}})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Write("/joints", stamp, data); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			data, err := msgs.Marshal(&msgs.String{Data: fmt.Sprintf("reach the cube %d", i)})
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write("/instruction", stamp, data); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

type record struct {
	Topic string
	Time  int64
	Data  []byte
}

func all(t testing.TB, path string) []record {
	t.Helper()
	r, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return allOf(t, r)
}

func allOf(t testing.TB, r *Reader) []record {
	t.Helper()
	var got []record
	for m, err := range r.Messages(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, record{m.Topic, m.Time.UnixNano(), bytes.Clone(m.Data)})
	}
	return got
}

// Foxglove's MCAP reader and a JavaScript YAML reader find in our bag what we
// put there, and decode it with the definitions that we put there.
func TestForeignReaderReadsOurBags(t *testing.T) {
	for _, compression := range []string{"", "zstd", "lz4"} {
		dir := filepath.Join(t.TempDir(), "ours")
		makeBag(t, dir, compression)
		var got struct {
			Metadata struct {
				Info struct {
					Version   int    `json:"version"`
					Storage   string `json:"storage_identifier"`
					Count     int    `json:"message_count"`
					StartTime struct {
						NS json.Number `json:"nanoseconds_since_epoch"`
					} `json:"starting_time"`
					Duration struct {
						NS json.Number `json:"nanoseconds"`
					} `json:"duration"`
					Paths  []string `json:"relative_file_paths"`
					Topics []struct {
						Meta struct {
							Name string `json:"name"`
							QoS  string `json:"offered_qos_profiles"`
						} `json:"topic_metadata"`
						Count int `json:"message_count"`
					} `json:"topics_with_message_count"`
				} `json:"rosbag2_bagfile_information"`
			}
			Profile  string
			Messages []struct {
				Topic, Type, Encoding, SchemaEncoding, Time string
				Value                                       map[string]any
			}
		}
		out := npm.Run(t, nil, "testdata/peer.js", dir)
		if err := json.Unmarshal(out, &got); err != nil {
			t.Fatal(err)
		}
		info := got.Metadata.Info
		if info.Version != 5 || info.Storage != "mcap" || info.Count != 22 || len(info.Paths) != 1 || info.Paths[0] != "ours_0.mcap" ||
			info.StartTime.NS != "1700000000000000000" || info.Duration.NS != "190000000" {
			t.Errorf("metadata %+v", info)
		}
		if len(info.Topics) != 3 || info.Topics[0].Count != 2 || info.Topics[1].Count != 20 || info.Topics[2].Count != 0 ||
			!strings.HasPrefix(info.Topics[0].Meta.QoS, "- history: 1\n") {
			t.Errorf("topics %+v", info.Topics)
		}
		if got.Profile != "ros2" || len(got.Messages) != 22 {
			t.Fatalf("profile %q, %d messages", got.Profile, len(got.Messages))
		}
		want := all(t, dir)
		for i, m := range got.Messages {
			if m.Encoding != "cdr" || m.SchemaEncoding != "ros2msg" || m.Topic != want[i].Topic || m.Time != fmt.Sprint(want[i].Time) {
				t.Errorf("message %d: %+v, want %s at %d", i, m, want[i].Topic, want[i].Time)
			}
		}
		first, second := got.Messages[0], got.Messages[1]
		if fmt.Sprint(first.Value["name"]) != "[joint1]" || second.Value["data"] != "reach the cube 0" {
			t.Errorf("values %v, %v", first.Value, second.Value)
		}
	}
}

// Our metadata.yaml has the keys that ROS writes, and values of the same kinds,
// at every level.
func TestMetadataHasTheFormOfROS(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "ours")
	makeBag(t, dir, "")
	var ours, theirs any
	for path, into := range map[string]*any{
		filepath.Join(dir, metadataFile):                     &ours,
		filepath.Join(bags, "compressed_mcap", metadataFile): &theirs,
	} {
		if err := yaml.Unmarshal([]byte(read(t, path)), into); err != nil {
			t.Fatal(err)
		}
	}
	var sameForm func(path string, a, b any)
	sameForm = func(path string, a, b any) {
		switch b := b.(type) {
		case map[string]any:
			a, ok := a.(map[string]any)
			if !ok || len(a) != len(b) {
				t.Errorf("%s: %v, ROS has %v", path, a, b)
			}
			for key := range b {
				sameForm(path+"."+key, a[key], b[key])
			}
		case []any:
			a, ok := a.([]any)
			if !ok || len(a) == 0 {
				t.Errorf("%s: %v, ROS has %v", path, a, b)
				return
			}
			for i := range a {
				sameForm(path, a[i], b[0])
			}
		default:
			if fmt.Sprintf("%T", a) != fmt.Sprintf("%T", b) {
				t.Errorf("%s: %T %v, ROS has %T %v", path, a, a, b, b)
			}
		}
	}
	sameForm("", ours, theirs)
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	dir := t.TempDir()
	bag := 0
	rapid.Check(t, func(t *rapid.T) {
		bag++
		path := filepath.Join(dir, fmt.Sprint(bag))
		w, err := Create(path, Options{
			Compression:     rapid.SampledFrom([]string{"", "zstd", "lz4"}).Draw(t, "compression"),
			ChunkSize:       rapid.Int64Range(0, 300).Draw(t, "chunk"),
			MaxFileSize:     rapid.SampledFrom([]int64{0, 0, 3000, 5000}).Draw(t, "size"),
			MaxFileDuration: time.Duration(rapid.SampledFrom([]int{0, 0, 30}).Draw(t, "duration")),
		})
		if err != nil {
			t.Fatal(err)
		}
		topics := rapid.IntRange(1, 4).Draw(t, "topics")
		for i := range topics {
			if err := w.AddTopic(Topic{Name: fmt.Sprintf("/t%d", i), Type: "any_msgs/msg/Any", QoS: "- depth: 7\n"}); err != nil {
				t.Fatal(err)
			}
		}
		var want []record
		for range rapid.IntRange(0, 60).Draw(t, "messages") {
			m := record{
				Topic: fmt.Sprintf("/t%d", rapid.IntRange(0, topics-1).Draw(t, "topic")),
				Time:  rapid.Int64Range(0, 50).Draw(t, "time"), // out of order, often equal
				Data:  rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "data"),
			}
			if err := w.Write(m.Topic, time.Unix(0, m.Time), m.Data); err != nil {
				t.Fatal(err)
			}
			want = append(want, m)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		r, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Topics()) != topics || !strings.Contains(r.Topics()[0].QoS, "depth: 7\n") {
			t.Fatalf("topics %+v", r.Topics())
		}
		// As a multiset, with times ascending.
		count := map[string]int{}
		for _, m := range want {
			count[fmt.Sprint(m)]++
		}
		last := int64(0)
		n := 0
		var all []record
		for m, err := range r.Messages(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, record{m.Topic, m.Time.UnixNano(), bytes.Clone(m.Data)})
			got := record{m.Topic, m.Time.UnixNano(), m.Data}
			if count[fmt.Sprint(got)]--; count[fmt.Sprint(got)] < 0 {
				t.Fatalf("unexpected %v", got)
			}
			if got.Time < last {
				t.Fatalf("%d after %d", got.Time, last)
			}
			last = got.Time
			n++
		}
		if n != len(want) {
			t.Fatalf("%d messages, want %d", n, len(want))
		}
		if len(r.files) > 1 {
			return
		}
		// With next to no memory the same comes in the same order.
		c, err := r.files[0].messages(context.Background(), rapid.IntRange(0, 2000).Draw(t, "memory"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.close()
		var m Message
		for i := range all {
			if err := c.next(&m); err != nil || !reflect.DeepEqual(all[i], record{m.Topic, m.Time.UnixNano(), bytes.Clone(m.Data)}) {
				t.Fatalf("message %d is %+v, want %+v: %v", i, m, all[i], err)
			}
		}
		if err := c.next(&m); err != io.EOF {
			t.Fatalf("behind the last message: %v", err)
		}
	})
}

func TestSplitBagsMerge(t *testing.T) {
	dir := t.TempDir()
	makeBag(t, filepath.Join(dir, "one"), "zstd")
	makeBag(t, filepath.Join(dir, "two"), "")
	both := write(t, map[string]string{
		"x_0.mcap": read(t, filepath.Join(dir, "one", "one_0.mcap")),
		"x_1.mcap": read(t, filepath.Join(dir, "two", "two_0.mcap")),
	})
	got := all(t, both)
	single := all(t, filepath.Join(dir, "one"))
	if len(got) != 2*len(single) {
		t.Fatalf("%d messages, want %d", len(got), 2*len(single))
	}
	for i := 1; i < len(got); i++ {
		if got[i].Time < got[i-1].Time {
			t.Fatalf("message %d at %d after %d", i, got[i].Time, got[i-1].Time)
		}
	}
	r, err := Open(both)
	if err != nil {
		t.Fatal(err)
	}
	if topics := r.Topics(); len(topics) != 3 || topics[1].Count != 40 {
		t.Errorf("topics %+v", topics)
	}
}

func TestWriterRefuses(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/Bool"}); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"was not added":                  w.Write("/b", epochStart, nil),
		"not between 1970 and 226":       w.Write("/a", time.Time{}, nil),
		"is a std_msgs/msg/Bool already": w.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/String"}),
		"none of [\"system_default\"":    w.AddTopic(Topic{Name: "/d", Type: "std_msgs/msg/Bool", QoS: "- history: keep\n"}),
		"no list of profiles":            w.AddTopic(Topic{Name: "/e", Type: "std_msgs/msg/Bool", QoS: "a: b"}),
		"both must be given":             w.AddTopic(Topic{Name: "/c"}),
	} {
		if err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("got %v, want %s", err, what)
		}
	}
	if err := w.Write("/a", epochStart, []byte{0, 1, 0, 0, 1}); err != nil {
		t.Errorf("a refused message ends the bag: %v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.Write("/a", epochStart, nil); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write after close: %v", err)
	}
	if _, err := Create(dir, Options{}); !errors.Is(err, os.ErrExist) {
		t.Errorf("second bag in the same directory: %v", err)
	}
	for _, o := range []Options{{Compression: "gzip"}, {ChunkSize: -1}, {MaxFileSize: -1}, {MaxFileDuration: -1}} {
		if _, err := Create(filepath.Join(t.TempDir(), "c"), o); err == nil {
			t.Errorf("options %+v pass", o)
		}
	}
}

// smallDisk is a file on a disk that has room for left more bytes.
type smallDisk struct {
	*os.File
	left int
}

func (d *smallDisk) Write(p []byte) (int, error) {
	n := min(d.left, len(p))
	d.left -= n
	if n, err := d.File.Write(p[:n]); err != nil || n < len(p) {
		return n, errors.Join(err, syscall.ENOSPC)
	}
	return n, nil
}

func newSmallDisk(t *testing.T, room int) (*Writer, string) {
	t.Helper()
	dir := t.TempDir()
	w, err := newWriter(dir, "small", Options{ChunkSize: 1000}, func(name string) (writableFile, error) {
		f, err := os.Create(filepath.Join(dir, name))
		return &smallDisk{f, room}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return w, dir
}

func TestFullDiskStopsRecordingOnceAndKeepsWhatWasWritten(t *testing.T) {
	for _, room := range []int{1200, 5000, 20000} {
		w, dir := newSmallDisk(t, room)
		var failures []error
		r, err := NewRecorder(w, RecorderOptions{QueueBytes: 1 << 20, QueueLength: 1000, Failed: func(err error) { failures = append(failures, err) }})
		if err != nil {
			t.Fatal(err)
		}
		r.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/Bool"})
		const n = 300
		for i := range n {
			r.Record("/a", epochStart.Add(time.Duration(i)), bytes.Repeat([]byte{byte(i)}, 100))
		}
		if err := r.Close(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Close: %v", err)
		}
		if err := r.Failure(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("Failure: %v", err)
		}
		if len(failures) != 1 || !errors.Is(failures[0], syscall.ENOSPC) {
			t.Errorf("reported %v", failures)
		}
		if r.Written()+r.Dropped() != n || r.Dropped() == 0 {
			t.Errorf("%d written, %d dropped of %d", r.Written(), r.Dropped(), n)
		}
		again, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for m, err := range again.Messages(context.Background()) {
			if err != nil {
				if !errors.Is(err, ErrTruncated) {
					t.Error(err)
				}
				break
			}
			if !bytes.Equal(m.Data, bytes.Repeat([]byte{byte(i)}, 100)) {
				t.Fatalf("message %d is %x", i, m.Data)
			}
			i++
		}
		// Chunks of 1000 bytes hold 7 messages of 131; the last one did not fit.
		if least := (room - 1200) / 200; i < least || i > int(r.Written()) {
			t.Errorf("room for %d bytes: %d messages read of %d written", room, i, r.Written())
		}
	}
}

// slowDisk waits for a word before the first write.
type slowDisk struct {
	*os.File
	release chan struct{}
}

func (d *slowDisk) Write(p []byte) (int, error) {
	<-d.release
	return d.File.Write(p)
}

func TestRecorderNeverWaitsAndCountsWhatItDrops(t *testing.T) {
	dir := t.TempDir()
	release := make(chan struct{}, 1000)
	for range 10 { // enough for the file's beginning
		release <- struct{}{}
	}
	w, err := newWriter(dir, "slow", Options{ChunkSize: 200}, func(name string) (writableFile, error) {
		f, err := os.Create(filepath.Join(dir, name))
		return &slowDisk{f, release}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	r, err := NewRecorder(w, RecorderOptions{QueueBytes: 1000, QueueLength: 100})
	if err != nil {
		t.Fatal(err)
	}
	r.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/Bool"})
	// The disk stands still: all of this returns though nothing is written.
	const goroutines, each = 4, 500
	accepted := make([]int, goroutines)
	var wait sync.WaitGroup
	for g := range goroutines {
		wait.Go(func() {
			for i := range each {
				if r.Record("/a", epochStart, bytes.Repeat([]byte{byte(g)}, 1+i%90)) {
					accepted[g]++
				}
			}
		})
	}
	wait.Wait()
	close(release)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, n := range accepted {
		total += n
	}
	if r.Dropped() == 0 || int(r.Written()) != total || r.Written()+r.Dropped() != goroutines*each {
		t.Errorf("%d accepted, %d written, %d dropped", total, r.Written(), r.Dropped())
	}
	got := all(t, dir)
	if len(got) != total {
		t.Errorf("%d messages in the bag, want %d", len(got), total)
	}
	for _, m := range got {
		if len(bytes.Trim(m.Data, string(m.Data[:1]))) != 0 {
			t.Fatalf("mixed up: %x", m.Data)
		}
	}
}

// The byte ring against a plain queue: whatever is accepted comes out whole and
// in order, also with topics added in between, wherever the writing has got to.
func TestRecorderQueueKeepsOrder(t *testing.T) {
	dir := t.TempDir()
	bag := 0
	rapid.Check(t, func(t *rapid.T) {
		bag++
		w, err := Create(filepath.Join(dir, fmt.Sprint(bag)), Options{ChunkSize: 1})
		if err != nil {
			t.Fatal(err)
		}
		// Its goroutine starts at the end: until then the test says when something is written.
		r := newRecorder(w, RecorderOptions{
			QueueBytes:  rapid.IntRange(1, 64).Draw(t, "bytes"),
			QueueLength: rapid.IntRange(2, 6).Draw(t, "length"),
		})
		if !r.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/Bool"}) {
			t.Fatal("no room for the topic")
		}
		var want [][]byte
		for i := range rapid.IntRange(0, 100).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"record", "record", "add", "write", "write"}).Draw(t, "step") {
			case "record":
				data := bytes.Repeat([]byte{byte(i)}, rapid.IntRange(0, 30).Draw(t, "size"))
				if r.Record("/a", time.Unix(0, int64(i)), data) {
					want = append(want, data)
				}
			case "add":
				r.AddTopic(Topic{Name: fmt.Sprintf("/%d", i), Type: "std_msgs/msg/Bool"})
			case "write":
				if r.length > 0 {
					r.mu.Lock()
					r.writeOldest()
					r.mu.Unlock()
				}
			}
		}
		go r.run()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		reader, err := Open(filepath.Join(dir, fmt.Sprint(bag)))
		if err != nil {
			t.Fatal(err)
		}
		i := 0
		for m, err := range reader.Messages(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			if i >= len(want) || !bytes.Equal(m.Data, want[i]) {
				t.Fatalf("message %d is %x", i, m.Data)
			}
			i++
		}
		if i != len(want) {
			t.Fatalf("%d messages, want %d", i, len(want))
		}
	})
}

// A topic that is added while messages wait behind and before it in the ring frees
// nothing of theirs.
func TestRecorderTopicBetweenMessagesOverwritesNone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "b")
	w, err := Create(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	r := newRecorder(w, RecorderOptions{QueueBytes: 45, QueueLength: 10})
	var want []record
	put := func(n int) bool {
		data := bytes.Repeat([]byte{byte(len(want))}, n)
		at := epochStart.Add(time.Duration(len(want)))
		if !r.Record("/a", at, data) {
			return false
		}
		want = append(want, record{Topic: "/a", Time: at.UnixNano(), Data: data})
		return true
	}
	write := func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.writeOldest()
	}
	r.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/Bool"})
	write()
	put(10)
	r.AddTopic(Topic{Name: "/b", Type: "std_msgs/msg/Bool"})
	put(30)
	write()
	put(8) // before the 30 bytes, in the place of the first
	write()
	if put(20) {
		t.Error("there is room for 20 bytes of 45 beside 30 and 8")
	}
	go r.run()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got := all(t, dir); !reflect.DeepEqual(got, want) {
		t.Errorf("the bag has %v, want %v", got, want)
	}
}

func TestRecordDoesNotAllocate(t *testing.T) {
	w, err := Create(filepath.Join(t.TempDir(), "b"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	// The goroutine that writes starts later, so that what is counted is Record's own
	// work.
	r := newRecorder(w, RecorderOptions{QueueBytes: 1 << 16, QueueLength: 1000})
	r.AddTopic(Topic{Name: "/a", Type: "std_msgs/msg/Bool"})
	data := make([]byte, 100)
	if n := testing.AllocsPerRun(500, func() {
		if !r.Record("/a", epochStart, data) {
			t.Error("no room")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
	go r.run()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if r.Written() != 501 {
		t.Errorf("%d written", r.Written())
	}
}

func BenchmarkReadMessages(b *testing.B) {
	for _, name := range []string{"compressed_mcap", "compressed_db3", "raw_mcap"} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				r, err := Open(filepath.Join(bags, name))
				if err != nil {
					b.Fatal(err)
				}
				size := int64(0)
				for m, err := range r.Messages(context.Background()) {
					if err != nil {
						b.Fatal(err)
					}
					size += int64(len(m.Data))
				}
				b.SetBytes(size)
			}
		})
	}
}
