package main

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/bag"
	"github.com/ddvla/ddvla/internal/testbundle"
	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/node"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
)

// handTrace has two rows of two dimensions and three rounds. Position 3 is given;
// 0 is committed in round 0 and kept, 1 committed in round 0, masked again in
// round 1 and committed in round 2, 2 committed in round 2.
func handTrace() *chunkTrace {
	return &chunkTrace{title: "by hand", names: []string{"left_joint1", "left_gripper"}, trace: &decode.Trace{
		Positions:  4,
		Bins:       []int64{-1, -1, -1, 9, 5, 6, -1, 9, 5, -1, -1, 9, 5, 7, 8, 9},
		Confidence: []float32{0, 0, 0, 1, 0.9, 0.25, 0.1, 0.5, 0.8, 0.2, 0.1, 0.5, 0.7, 0.95, 0, 0.5},
	}}
}

func TestTraceTable(t *testing.T) {
	var out strings.Builder
	if err := handTrace().print(&out); err != nil {
		t.Fatal(err)
	}
	want := `by hand tokens 4, 2 rows of 2; 3 rounds start 1 tokens given or kept from before
		round committed re-masked masked least confidence
		1 2 0 1 0.250 (left_gripper row 1)
		2 0 1 2 0.500 (left_gripper row 2)
		3 2 0 0 0.000 (left_joint1 row 2)`
	if have := strings.Join(strings.Fields(out.String()), " "); have != strings.Join(strings.Fields(want), " ") {
		t.Errorf("printed\n%s", out.String())
	}
}

// pixel returns a pixel's parts, 0..255.
func pixel(img image.Image, x, y int) (r, g, b int) {
	c := color.NRGBAModel.Convert(img.At(x, y)).(color.NRGBA)
	return int(c.R), int(c.G), int(c.B)
}

func TestTracePicture(t *testing.T) {
	c := handTrace()
	img, err := c.draw()
	if err != nil {
		t.Fatal(err)
	}
	l, err := c.layout()
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds().Size() != l.size() || img.Bounds().Min != (image.Point{}) {
		t.Errorf("%v, want %v", img.Bounds(), l.size())
	}
	// A dimension's rows lie together: left_joint1 are positions 0 and 2.
	if above, below, next := l.cell(0, 0), l.cell(0, 2), l.cell(0, 1); below.Min.Y != above.Max.Y || next.Min.Y != below.Max.Y+traceGap {
		t.Errorf("cells %v, %v, %v", above, below, next)
	}
	// Each cell, the start first: w white, r red, b blue; with . a dot in the
	// middle, with x a cross.
	for position, line := range []string{"w b. b b", "w r. wx b.", "w w w r.", "b b b b"} {
		for column, want := range strings.Fields(line) {
			cell := l.cell(column, position)
			// Between the middle and the left edge no mark reaches.
			r, g, b := pixel(img, cell.Min.X+3, (cell.Min.Y+cell.Max.Y)/2)
			have := "?"
			switch {
			case r == 255 && g == 255 && b == 255:
				have = "w"
			case r > b+50:
				have = "r"
			case b > r+50:
				have = "b"
			}
			middle := image.Pt((cell.Min.X+cell.Max.X-1)/2, (cell.Min.Y+cell.Max.Y-1)/2)
			if mr, mg, mb := pixel(img, middle.X, middle.Y); mr+mg+mb < 150 {
				// A cross has arms, a dot has none.
				if ar, ag, ab := pixel(img, middle.X+4, middle.Y+4); ar+ag+ab < 150 {
					have += "x"
				} else {
					have += "."
				}
			}
			if have != want {
				t.Errorf("position %d, column %d: %s (%d, %d, %d), want %s", position, column, have, r, g, b, want)
			}
		}
	}
	// Surer is bluer, in the cells as in the legend.
	colours, last := confidenceColours(), -1e9
	for _, confidence := range []float64{0, 0.25, 0.5, 0.75, 1} {
		colour, err := colours.At(confidence)
		if err != nil {
			t.Fatal(err)
		}
		r, _, b, _ := colour.RGBA()
		if blue := float64(b) - float64(r); blue <= last {
			t.Errorf("%g is no bluer than less", confidence)
		} else {
			last = blue
		}
	}
}

// Chunks of any size that a model has can be drawn, and larger ones are refused.
func TestTracePicturesOfAllSizes(t *testing.T) {
	of := func(rows, dims, rounds int) *chunkTrace {
		c := &chunkTrace{title: strings.Repeat("long ", 100), trace: &decode.Trace{Positions: rows * dims}}
		for d := range dims {
			c.names = append(c.names, fmt.Sprintf("dimension_%d", d))
		}
		c.trace.Bins = make([]int64, (rounds+1)*rows*dims)
		c.trace.Confidence = make([]float32, len(c.trace.Bins))
		return c
	}
	for _, c := range []*chunkTrace{of(1, 1, 1), of(25, 14, 12), of(50, 14, 1), of(8, 7, 64)} {
		img, err := c.draw()
		if err != nil {
			t.Fatal(err)
		}
		if size := img.Bounds().Size(); size.X < 600 || size.X > drawingLimit || size.Y > drawingLimit {
			t.Errorf("%d positions: %v", c.trace.Positions, size)
		}
	}
	if _, err := of(200, 14, 1).draw(); err == nil || !strings.Contains(err.Error(), "2800 tokens") {
		t.Errorf("of 2800 tokens: %v", err)
	}
}

// The whole way: a bag is replayed, and its chunks' traces are printed and drawn
// as they lie in the bag.
func TestInspectShowsTheTraceOfAReplay(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	status, _, stderr := call(t, append([]string{"replay", filepath.Join(bags, "raw_mcap"), "--out", out},
		policy(t, "-p", "decode.rounds:=4", "-p", "decode.preset:=paper")...)...)
	if status != 0 {
		t.Fatal(stderr)
	}
	traces := contents(t, out)[traceTopic]
	if len(traces) < 2 {
		t.Fatalf("%d traces", len(traces))
	}
	for number := 1; number <= len(traces); number += len(traces) - 1 {
		picture := filepath.Join(t.TempDir(), "trace.png")
		status, stdout, stderr := call(t, "inspect", "--trace", out, "--chunk", fmt.Sprint(number), "--out", picture)
		if status != 0 {
			t.Fatal(stderr)
		}
		text := strings.Join(strings.Fields(stdout), " ")
		_, trace, err := node.ReadTrace(decoded(t, traces[number-1], &msgs.Float64MultiArray{}))
		if err != nil {
			t.Fatal(err)
		}
		wants := []string{fmt.Sprintf("chunk %d on %s,", number, traceTopic), fmt.Sprintf("tokens 112, 8 rows of 14; %d rounds", trace.Rounds())}
		for round := range trace.Rounds() {
			s := trace.Summary(round)
			wants = append(wants, fmt.Sprintf(" %d %d %d %d %.3f (", round+1, s.Committed, s.Remasked, s.Masked, s.Least))
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("no %q in\n%s", want, stdout)
			}
		}
		checkTracePicture(t, picture, stdout)
	}
}

// checkTracePicture looks whether a PNG is there in the size that was told.
func checkTracePicture(t *testing.T, path, stdout string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	config, err := png.DecodeConfig(f)
	if err != nil {
		t.Fatal(err)
	}
	if want := fmt.Sprintf("drawing %s, %dx%d\n", path, config.Width, config.Height); !strings.Contains(stdout, want) {
		t.Errorf("no %q in\n%s", want, stdout)
	}
}

// traceBag writes a bag with messages on topics.
func traceBag(t *testing.T, messages map[string]msgs.Message) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "bag")
	w, err := bag.Create(dir, bag.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for topic, m := range messages {
		raw, err := msgs.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.AddTopic(bag.Topic{Name: topic, Type: m.ROSType()}); err != nil {
			t.Fatal(err)
		}
		if err := w.Write(topic, time.Unix(100, 0), raw); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestInspectTraceRefusals(t *testing.T) {
	c := handTrace()
	good := node.TraceMessage(c.names, 2, c.trace)
	spoiled := node.TraceMessage(c.names, 2, c.trace)
	spoiled.Data[0] = 0.5
	one := traceBag(t, map[string]msgs.Message{"/a/decode_trace": good, "/b/other": good})
	two := traceBag(t, map[string]msgs.Message{"/a/decode_trace": good, "/b/decode_trace": good})
	bad := traceBag(t, map[string]msgs.Message{"/ddvla/decode_trace": spoiled})
	head := traceBag(t, map[string]msgs.Message{"/ddvla/decode_trace": node.TraceMessage(c.names, 2, nil)})
	text := traceBag(t, map[string]msgs.Message{"/ddvla/decode_trace": &msgs.String{Data: "hello"}})
	raw := filepath.Join(bags, "raw_mcap")
	for name, c := range map[string]struct {
		status int
		names  []string
		args   []string
	}{
		"no bag":            {1, []string{"nowhere"}, []string{"--trace", "nowhere"}},
		"no traces":         {1, []string{raw, "decode_trace", "ddvla replay", "decode.trace"}, []string{"--trace", raw}},
		"another type":      {1, []string{"there is no topic .../decode_trace"}, []string{"--trace", text}},
		"topic's type":      {1, []string{"/ddvla/decode_trace is a std_msgs/msg/String", "Float64MultiArray"}, []string{"--trace", text, "--topic", "/ddvla/decode_trace"}},
		"no such topic":     {1, []string{"there is no topic /c"}, []string{"--trace", one, "--topic", "/c"}},
		"two topics":        {2, []string{"/a/decode_trace and /b/decode_trace", "--topic"}, []string{"--trace", two}},
		"no such chunk":     {1, []string{"no chunk 2", "1..1"}, []string{"--trace", one, "--chunk", "2"}},
		"chunk 0":           {2, []string{"--chunk is 0"}, []string{"--trace", one, "--chunk", "0"}},
		"malformed":         {1, []string{bad, "chunk 1 on /ddvla/decode_trace", "is no decoding trace", "0.5 is no bin"}, []string{"--trace", bad}},
		"L1 head":           {1, []string{head, "L1 head", "no token was decoded in rounds"}, []string{"--trace", head}},
		"out is no PNG":     {2, []string{"trace.jpg", ".png"}, []string{"--trace", one, "--out", "trace.jpg"}},
		"with a bundle":     {2, []string{"leave out the bundle"}, []string{"--trace", one, "bundle"}},
		"with tensors":      {2, []string{"--tensors"}, []string{"--tensors", "--trace", one}},
		"chunk of a bundle": {2, []string{"--trace"}, []string{"--chunk", "2", testbundle.Dir(t)}},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.status, c.names, append([]string{"inspect"}, c.args...)...) })
	}
	for _, args := range [][]string{{"--trace", one}, {"--trace", two, "--topic", "/b/decode_trace"}, {"--trace", one, "--topic", "/b/other"}} {
		if status, stdout, stderr := call(t, append([]string{"inspect"}, args...)...); status != 0 || !strings.Contains(stdout, "3 rounds") {
			t.Errorf("%v: %s", args, stderr)
		}
	}
}

func TestPredictShowsItsTrace(t *testing.T) {
	s := newScene(t)
	picture := filepath.Join(s.dir, "trace.png")
	status, stdout, stderr := call(t, s.args(testbundle.Dir(t), "--state", s.numbers(), "--schedule", "constant", "--trace", picture,
		"--ros-args", "-p", "decode.threshold:=[0.0]")...)
	if status != 0 {
		t.Fatal(stderr)
	}
	checkTracePicture(t, picture, stdout)
	// ceil(112/3) in each round, and nothing masked again.
	text := strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{"tokens 112, 8 rows of 14; 3 rounds", " 1 38 0 74 ", " 2 38 0 36 ", " 3 36 0 0 "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	head := testbundle.Copy(t, func(m *bundle.Manifest) { m.Model.Head = bundle.L1Head })
	refused(t, 2, []string{"--trace", "L1 head"}, s.args(head, "--state", s.numbers(), "--trace", picture)...)
	refused(t, 2, []string{"--trace", "trace.gif"}, s.args(testbundle.Dir(t), "--state", s.numbers(), "--trace", "trace.gif")...)
}

// Given values come back to half a bin, the trace begins with them, and the rest
// is decoded in as many rounds.
func TestPredictFillsInAroundWhatIsGiven(t *testing.T) {
	s := newScene(t)
	// left_joint1's row 3 alone, the right gripper's opening in all rows.
	args := s.args(testbundle.Dir(t), "--state", s.numbers(), "--given", "right_gripper=0.03", "--given", "left_joint1@3=0.1", "--schedule", "constant")
	p := predictJSON(t, args...)
	for row, values := range p.Values {
		for i, d := range p.Dims {
			half := (d.High-d.Low)/254/2 + 1e-6
			switch {
			case d.Name == "right_gripper" && math.Abs(values[i]-0.03) > half:
				t.Errorf("row %d: the right gripper is at %g", row, values[i])
			case d.Name == "left_joint1" && row == 2 && math.Abs(values[i]-0.1) > half:
				t.Errorf("row %d: left_joint1 is at %g", row, values[i])
			}
		}
	}
	status, stdout, stderr := call(t, append(args, "--trace", filepath.Join(s.dir, "trace.png"), "--ros-args", "-p", "decode.threshold:=[0.0]")...)
	if status != 0 {
		t.Fatal(stderr)
	}
	text := strings.Join(strings.Fields(stdout), " ")
	for _, want := range []string{"given right_gripper=0.03, left_joint1@3=0.1", "start 9 tokens given", " 1 35 0 68 ", " 3 33 0 0 "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, stdout)
		}
	}
	head := testbundle.Copy(t, func(m *bundle.Manifest) { m.Model.Head = bundle.L1Head })
	refused(t, 2, []string{"--given", "L1 head"}, s.args(head, "--state", s.numbers(), "--given", "left_joint1=0")...)
	for _, c := range []struct{ given, want string }{
		{"left_joint1", "NAME=VALUE"}, {"left_joint1=far", "a number"}, {"torso=1", `"torso"`}, {"left_joint1@0=0", "1..8"},
		{"left_joint1@9=0", "1..8"}, {"left_joint1@x=0", "1..8"}, {"left_joint1=7", "left_joint1 is 7, the bins say"}, {"left_joint1=NaN", "left_joint1 is NaN"},
	} {
		refused(t, 2, []string{"--given " + c.given, c.want}, s.args(testbundle.Dir(t), "--state", s.numbers(), "--given", c.given)...)
	}
	refused(t, 2, []string{"row 3", "twice"}, s.args(testbundle.Dir(t), "--state", s.numbers(), "--given", "left_joint1=0", "--given", "left_joint1@3=0")...)
}
