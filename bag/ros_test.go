package bag

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"hash"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/msgs"
)

const bags = "../testdata/bags"

// fact is what ROS 2's own reader says about a topic.
type fact struct {
	Count uint64
	SHA   string
	First int64
	Last  int64
}

func facts(t testing.TB, name string) map[string]fact {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(bags, name+".facts.json"))
	if err != nil {
		t.Fatal(err)
	}
	var all map[string]fact
	if err := json.Unmarshal(text, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// observe walks a bag and gathers the same facts.
func observe(t testing.TB, r *Reader) (map[string]fact, error) {
	t.Helper()
	all := map[string]fact{}
	sums := map[string]hash.Hash{}
	var last time.Time
	var failed error
	for m, err := range r.Messages(context.Background()) {
		if err != nil {
			failed = err
			break
		}
		if m.Time.Before(last) {
			t.Fatalf("%s at %v comes after %v", m.Topic, m.Time, last)
		}
		last = m.Time
		f, ok := all[m.Topic]
		if !ok {
			f.First = m.Time.UnixNano()
			sums[m.Topic] = sha256.New()
		}
		f.Count++
		f.Last = m.Time.UnixNano()
		sums[m.Topic].Write(m.Data)
		all[m.Topic] = f
	}
	for name, sum := range sums {
		f := all[name]
		f.SHA = hex.EncodeToString(sum.Sum(nil))
		all[name] = f
	}
	return all, failed
}

func compare(t testing.TB, got, want map[string]fact) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("%d topics, want %d", len(got), len(want))
	}
	for name, w := range want {
		if got[name] != w {
			t.Errorf("%s: %+v, want %+v", name, got[name], w)
		}
	}
}

func TestBagsOfROSReadAsROSReadsThem(t *testing.T) {
	for _, name := range []string{"compressed_mcap", "compressed_db3", "raw_mcap"} {
		want := facts(t, name)
		inside, err := filepath.Glob(filepath.Join(bags, name, name+"_0.*"))
		if err != nil || len(inside) != 1 {
			t.Fatal(inside, err)
		}
		for _, path := range []string{filepath.Join(bags, name), inside[0]} {
			r, err := Open(path)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // a walk can be repeated
				got, err := observe(t, r)
				if err != nil {
					t.Fatal(err)
				}
				compare(t, got, want)
			}
			for _, topic := range r.Topics() {
				if w, ok := want[topic.Name]; !ok || topic.Count != w.Count || topic.Format != "cdr" {
					t.Errorf("%s: topic %+v, want %d messages", path, topic, w.Count)
				}
			}
			if len(r.Topics()) != len(want) {
				t.Errorf("%s: %d topics, want %d", path, len(r.Topics()), len(want))
			}
			if got := r.Start(); got.UnixNano() != 1700000000000000000 {
				t.Errorf("%s starts at %v", path, got)
			}
		}
	}
}

func TestMessagesOfROSDecode(t *testing.T) {
	r, err := Open(filepath.Join(bags, "raw_mcap"))
	if err != nil {
		t.Fatal(err)
	}
	var image msgs.Image
	var joints msgs.JointState
	images := 0
	for m, err := range r.Messages(context.Background()) {
		if err != nil {
			t.Fatal(err)
		}
		switch m.Type {
		case image.ROSType():
			if err := msgs.Unmarshal(m.Data, &image); err != nil {
				t.Fatal(err)
			}
			if len(image.Data) != int(image.Step*image.Height) || image.Step < 3*image.Width {
				t.Errorf("%s: %dx%d, step %d, %d bytes", m.Topic, image.Width, image.Height, image.Step, len(image.Data))
			}
			images++
		case joints.ROSType():
			if err := msgs.Unmarshal(m.Data, &joints); err != nil {
				t.Fatal(err)
			}
			if len(joints.Name) != 7 || len(joints.Position) != 7 {
				t.Errorf("%s: %v at %v", m.Topic, joints.Name, joints.Position)
			}
		}
	}
	if images != 15 {
		t.Errorf("%d images, want 15", images)
	}
}

// bareDefinition drops what ROS's definitions have beyond ours: comments,
// constants, empty lines.
func bareDefinition(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		fields := strings.Fields(line)
		isConstant := len(fields) > 1 && strings.Contains(line, "=") && !strings.Contains(line, "<=") && !strings.HasPrefix(line, "====")
		if len(fields) > 0 && !isConstant {
			lines = append(lines, strings.Join(fields, " "))
		}
	}
	return strings.Join(lines, "\n")
}

func TestDefinitionsAreThoseOfROS(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"raw_mcap", "compressed_mcap"} {
		r, err := Open(filepath.Join(bags, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range r.Topics() {
			ours, ok := msgs.Definition(topic.Type)
			if !ok {
				t.Fatalf("no type %s", topic.Type)
			}
			if got, want := bareDefinition(ours), bareDefinition(topic.Definition); got != want {
				t.Errorf("%s is\n%s\nwant\n%s", topic.Type, got, want)
			}
			seen[topic.Type] = true
		}
	}
	if len(seen) != 4 {
		t.Errorf("only %d types seen", len(seen))
	}
}

func TestCopyOfABagOfROSIsTheSame(t *testing.T) {
	for _, compression := range []string{"", "zstd", "lz4"} {
		r, err := Open(filepath.Join(bags, "compressed_db3"))
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join(t.TempDir(), "copy")
		w, err := Create(dir, Options{Compression: compression})
		if err != nil {
			t.Fatal(err)
		}
		for _, topic := range r.Topics() {
			if err := w.AddTopic(topic); err != nil {
				t.Fatal(err)
			}
		}
		for m, err := range r.Messages(context.Background()) {
			if err != nil {
				t.Fatal(err)
			}
			if err := w.Write(m.Topic, m.Time, m.Data); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		again, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		got, err := observe(t, again)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got, facts(t, "compressed_db3"))
	}
}
