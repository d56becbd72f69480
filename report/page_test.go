package report

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/browsertest"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/vision"
)

// hostile would run, were it not escaped.
const hostile = `lift </script><script>throw "ran"</script> <img src=x onerror="throw 1"> & "it's" 100%`

// sample is a report of n chunks, ten a second, of which a picture of each is another
// grey.
func sample(t *testing.T, n int) *Report {
	t.Helper()
	setup := three()
	setup.Bag, setup.End = hostile, after(float64(n)/10+1)
	setup.Settings = map[string]string{"decode.rounds": "2"}
	j := New(setup, func(dim int, at time.Time) (float64, bool) { return math.Sin(at.Sub(begin()).Seconds()) * 0.05, true })
	random := rand.New(rand.NewPCG(1, 2))
	var pictures Pictures
	for k := range n {
		c := Chunk{Stamp: after(float64(k) / 10), Instruction: hostile}
		if k >= n/2 {
			c.Instruction = "the second half"
		}
		for range 12 {
			c.Values = append(c.Values, random.Float64()*0.1)
		}
		c.Trace = &decode.Trace{Positions: 12, Bins: make([]int64, 36), Confidence: make([]float32, 36)}
		for i := range 12 {
			c.Trace.Bins[i], c.Trace.Bins[12+i] = -1, -1
			if i%2 == 0 {
				c.Trace.Bins[12+i] = 3
			}
			c.Trace.Bins[24+i], c.Trace.Confidence[12+i], c.Trace.Confidence[24+i] = 3, 0.5, 0.9
		}
		if j.Wants() {
			raw := vision.Raw{Encoding: "mono8", Width: 8, Height: 6, Step: 8, Data: bytes.Repeat([]byte{byte(k)}, 48)}
			p, err := pictures.Raw("head", c.Stamp, raw)
			if err != nil {
				t.Fatal(err)
			}
			c.Pictures = []Picture{p}
		}
		j.Add(c)
	}
	j.Tell(Event{Time: after(0.3), Code: "limited_jerk", Sentence: hostile, Joint: "left/joint1", Value: Figure(math.Inf(1))})
	c, err := ParseCondition("mae>0.001")
	if err != nil {
		t.Fatal(err)
	}
	return j.Report(Run{
		Commands: 100, Counts: []Count{{Code: "limited_jerk", Sentence: "s", Kind: Limit, Count: 3}},
		Stages: []Stage{{Name: "chunk", Count: n, P50: 50, P95: 60, P99: 70, Max: 80}},
	}, []Condition{c})
}

func write(t *testing.T, r *Report) string {
	t.Helper()
	var b bytes.Buffer
	if err := r.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// ink counts the pixels of a canvas that are drawn on.
const ink = `(id => {
	const c = document.querySelector(id), d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
	let n = 0;
	for (let i = 3; i < d.length; i += 4) if (d[i] > 0) n++;
	return n;
})`

// In a browser, light and dark, the page draws, its slider moves pictures, curves and
// instruction, it loads nothing, and nothing goes wrong.
func TestPageInABrowser(t *testing.T) {
	path := write(t, sample(t, 40))
	for name, dark := range map[string]bool{"light": false, "dark": true} {
		t.Run(name, func(t *testing.T) {
			p := browsertest.Open(t, path, "", dark)
			text := func(id string) string {
				return browsertest.Eval[string](p, `document.getElementById("`+id+`").textContent`)
			}
			number := func(expression string) float64 { return browsertest.Eval[float64](p, expression) }
			if got := browsertest.Eval[string](p, `document.documentElement.dataset.theme`); got != name {
				t.Errorf("the theme is %s", got)
			}
			brightness := number(`getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0) / 3`)
			if (brightness > 128) == dark {
				t.Errorf("the background's brightness is %g", brightness)
			}
			for _, canvas := range []string{"#strip", "#horizon", "#curves .curve:nth-child(1) canvas"} {
				if n := number(ink + `("` + canvas + `")`); n < 500 {
					t.Errorf("%s has %g pixels that are drawn on", canvas, n)
				}
			}
			if n := number(`document.querySelectorAll("#curves canvas").length`); n != 3 {
				t.Errorf("%g curves of 3 dimensions", n)
			}
			// Two rounds, in each of which half of all tokens of each dimension are committed.
			if n := number(`document.querySelectorAll("#decode-map rect.committed").length`); n != 6 {
				t.Errorf("%g cells with something committed", n)
			}
			state := func() [4]string {
				return [4]string{
					text("clock"), text("instruction"),
					browsertest.Eval[string](p, `document.querySelector("#pictures img").src`),
					browsertest.Eval[string](p, `document.querySelector("#curves canvas").toDataURL()`),
				}
			}
			before := state()
			if before[0] != "0.00 of 5.00 s" || before[1] != "“"+hostile+"”" {
				t.Errorf("at first %q, %q", before[0], before[1])
			}
			p.Press("#slider", 25)
			then := state()
			if then[0] != "2.50 of 5.00 s" || then[1] != "“the second half”" || then[2] == before[2] || then[3] == before[3] {
				t.Errorf("then %q, %q; picture stays: %v, curve stays: %v", then[0], then[1], then[2] == before[2], then[3] == before[3])
			}
			// The picture is chunk 25's: grey 25, as the browser decodes it.
			if grey := number(`(() => {
				const img = document.querySelector("#pictures img"), c = document.createElement("canvas").getContext("2d");
				c.drawImage(img, 0, 0); return c.getImageData(3, 3, 1, 1).data[0];
			})()`); math.Abs(grey-25) > 2 {
				t.Errorf("the picture is %g", grey)
			}
			p.Click("#back")
			if got := text("clock"); got != "2.40 of 5.00 s" {
				t.Errorf("back at %q", got)
			}
			p.Click(".events a.goto")
			if got := text("clock"); got != "0.30 of 5.00 s" {
				t.Errorf("the event is at %q", got)
			}
			p.Click("#theme")
			if got := browsertest.Eval[string](p, `document.documentElement.dataset.theme`); got == name {
				t.Error("the button does not change the theme")
			}
			if got := text("verdicts"); !strings.Contains(got, "Fails on mae>0.001") {
				t.Errorf("verdicts are %q", got)
			}
			if got := browsertest.Eval[string](p, `document.querySelector("h1").textContent`); !strings.Contains(got, hostile) {
				t.Errorf("the heading is %q", got)
			}
			if n := number(`document.scripts.length`); n != 2 {
				t.Errorf("%g scripts, 2 are its own", n)
			}
			for _, m := range p.Messages() {
				t.Errorf("the console says %s", m)
			}
			for _, address := range p.Requests() {
				if !strings.HasPrefix(address, "file://"+path) && !strings.HasPrefix(address, "data:image/jpeg;base64,") {
					t.Errorf("it asks for %.80s", address)
				}
			}
		})
	}
	t.Run("at a time", func(t *testing.T) {
		p := browsertest.Open(t, path, "t=1.52", false)
		if got := browsertest.Eval[string](p, `document.getElementById("clock").textContent`); got != "1.50 of 5.00 s" {
			t.Errorf("it begins at %q", got)
		}
	})
}

// What the test of the page trusts: the console's messages are seen.
func TestBrowserTellsErrors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(path, []byte(`<script>console.warn("a warning"); throw new Error("an error")</script>`), 0o644); err != nil {
		t.Fatal(err)
	}
	said := strings.Join(browsertest.Open(t, path, "", false).Messages(), "\n")
	if !strings.Contains(said, "a warning") || !strings.Contains(said, "an error") {
		t.Errorf("it says %q", said)
	}
}

// A recording without anything makes a page too.
func TestPageOfNothing(t *testing.T) {
	setup := three()
	setup.Recorded, setup.Why = false, "There are no commands."
	p := browsertest.Open(t, write(t, New(setup, nil).Report(Run{}, nil)), "", false)
	if m := p.Messages(); len(m) > 0 {
		t.Errorf("the console says %q", m)
	}
	if got := browsertest.Eval[string](p, `document.body.textContent`); !strings.Contains(got, "There are no commands.") || !strings.Contains(got, "There are no pictures.") {
		t.Error("it does not say what there is not")
	}
}

// An hour's page is not much larger than a minute's, and says what it left out.
func TestPageIsBounded(t *testing.T) {
	size := func(n int) (int, string) {
		text, err := os.ReadFile(write(t, sample(t, n)))
		if err != nil {
			t.Fatal(err)
		}
		return len(text), string(text)
	}
	minute, _ := size(600)
	hour, text := size(36000)
	if hour > 2*minute {
		t.Errorf("%d bytes for a minute, %d for an hour", minute, hour)
	}
	if !strings.Contains(text, "of 36000 chunks are in this file, scaled down; ") {
		t.Error("it does not say how many pictures were left out")
	}
}

// Pictures are bounded in bytes as well.
func TestPicturesAreBounded(t *testing.T) {
	j := New(three(), func(int, time.Time) (float64, bool) { return 0, false })
	noise := bytes.Repeat([]byte{1}, picturesRoom/20)
	for k := range 200 {
		c := Chunk{Stamp: after(float64(k)), Values: make([]float64, 12)}
		if j.Wants() {
			c.Pictures = []Picture{{Camera: "head", JPEG: noise}}
		}
		j.Add(c)
	}
	r := j.Report(Run{}, nil)
	bytes := 0
	for _, m := range r.series.Moments {
		for _, p := range m.Pictures {
			bytes += len(p.JPEG)
		}
	}
	if bytes > picturesRoom || bytes < picturesRoom/4 || r.Moments != 200 || r.MomentsShown != len(r.series.Moments) {
		t.Errorf("%d bytes in %d of %d moments", bytes, r.MomentsShown, r.Moments)
	}
}

// JSON has null for what is not known, and is what a machine reads.
func TestJSON(t *testing.T) {
	r := sample(t, 12)
	r.Joints[1].Direction = unknown()
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Version int
		Chunks  int
		Metrics map[string]float64
		Joints  []struct {
			Name      string
			MAE       *float64
			Direction *float64
		}
		Conditions []struct{ Failed bool }
		Verdicts   []struct{ Level, Text string }
	}
	if err := json.Unmarshal(b.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if read.Version != Version || read.Chunks != 12 || len(read.Joints) != 3 || read.Joints[1].Direction != nil || read.Joints[1].MAE == nil ||
		math.Abs(read.Metrics["mae"]-float64(r.Metrics["mae"])) > 1e-6 || len(read.Conditions) != 1 || !read.Conditions[0].Failed || read.Verdicts[0].Level != "bad" {
		t.Errorf("%+v", read)
	}
}

// A camera's picture keeps its shape and is no larger than is shown.
func TestPicturesAreScaled(t *testing.T) {
	var p Pictures
	for _, c := range []struct{ w, h, toW, toH int }{{640, 480, 320, 240}, {480, 640, 240, 320}, {1280, 720, 320, 180}, {64, 48, 64, 48}, {2000, 2, 320, 1}} {
		raw := vision.Raw{Encoding: "rgb8", Width: c.w, Height: c.h, Step: 3 * c.w, Data: bytes.Repeat([]byte{200, 100, 50}, c.w*c.h)}
		got, err := p.Raw("head", begin(), raw)
		if err != nil {
			t.Fatal(err)
		}
		var decoded vision.Pixels
		if err := vision.DecodeJPEG(got.JPEG, &decoded); err != nil {
			t.Fatal(err)
		}
		if decoded.Width != c.toW || decoded.Height != c.toH || got.Width != c.toW || got.Height != c.toH {
			t.Errorf("%d x %d becomes %d x %d, want %d x %d", c.w, c.h, decoded.Width, decoded.Height, c.toW, c.toH)
		}
		if d := decoded.RGB; math.Abs(float64(d[0])-200)+math.Abs(float64(d[1])-100)+math.Abs(float64(d[2])-50) > 12 {
			t.Errorf("its colour is %v", d[:3])
		}
		again, err := p.Compressed("head", begin(), got.JPEG)
		if err != nil || again.Width != c.toW || again.Height != c.toH {
			t.Errorf("compressed: %d x %d, %v", again.Width, again.Height, err)
		}
	}
	if _, err := p.Compressed("head", begin(), []byte("no picture")); err == nil {
		t.Error("what is no picture is taken for one")
	}
	if _, err := p.Raw("head", begin(), vision.Raw{Encoding: "rgb8"}); err == nil {
		t.Error("nothing is taken for a picture")
	}
}
