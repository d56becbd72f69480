package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ddvla/ddvla/internal/testbundle"
	model "github.com/ddvla/ddvla/policy"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/sim"
	"github.com/ddvla/ddvla/urdf"
	"github.com/ddvla/ddvla/weights"
)

// scene is a simulated robot's observation as files: head and right wrist as
// PNG, left wrist as JPEG.
type scene struct {
	dir    string
	images []string // paths in model order
	state  sim.State
}

func newScene(t *testing.T) scene {
	t.Helper()
	robot, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	arms, err := sim.NewArms(robot)
	if err != nil {
		t.Fatal(err)
	}
	const width, height = 160, 120
	s := scene{dir: t.TempDir(), state: sim.Home()}
	renderer := sim.NewRenderer(arms, width, height)
	for c, name := range []string{"head.png", "left.jpg", "right.png"} {
		pixels := make([]byte, renderer.Size())
		if err := renderer.Render(&s.state, sim.SceneOf(1), sim.CameraID(c), pixels); err != nil {
			t.Fatal(err)
		}
		var file []byte
		if strings.HasSuffix(name, ".jpg") {
			if file, err = vision.EncodeJPEG(nil, vision.Pixels{Width: width, Height: height, RGB: pixels}, 90); err != nil {
				t.Fatal(err)
			}
		} else {
			img := image.NewNRGBA(image.Rect(0, 0, width, height))
			for i := range width * height {
				copy(img.Pix[4*i:], pixels[3*i:3*i+3])
				img.Pix[4*i+3] = 0xff
			}
			var out bytes.Buffer
			if err := png.Encode(&out, img); err != nil {
				t.Fatal(err)
			}
			file = out.Bytes()
		}
		s.images = append(s.images, s.write(t, name, file))
	}
	return s
}

func (s scene) write(t *testing.T, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// numbers is the state as --state takes it.
func (s scene) numbers() string {
	var list []string
	for _, v := range s.state {
		list = append(list, fmt.Sprint(v))
	}
	return strings.Join(list, ",")
}

// names are the joints of the state, as the bundle calls them.
func (s scene) names() []string {
	var names []string
	for _, arm := range []string{"left", "right"} {
		for j := 1; j <= 6; j++ {
			names = append(names, fmt.Sprintf("%s_joint%d", arm, j))
		}
		names = append(names, arm+"_gripper")
	}
	return names
}

// args is a command line with pictures in the model's order; more follows.
func (s scene) args(bundle string, more ...string) []string {
	args := []string{"predict", "--bundle", bundle, "--instruction", "reach the red cube", "--rounds", "3"}
	for _, path := range s.images {
		args = append(args, "--image", path)
	}
	return append(args, more...)
}

// infer is what the policy itself says of the scene.
func (s scene) infer(t *testing.T, preset decode.Preset, seed uint64) *model.Result {
	t.Helper()
	p, err := model.Open(t.Context(), testbundle.Dir(t), model.Options{Decode: &decode.Params{Preset: preset, Rounds: 3}, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	o := model.Observation{Stamp: time.Unix(1, 0), Instruction: "reach the red cube", Proprio: s.state[:]}
	for _, path := range s.images {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o.Images = append(o.Images, model.Image{Compressed: data})
	}
	r, err := p.Infer(t.Context(), &o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// predicted is what users of --json read.
type predicted struct {
	Policy, Instruction, Prompt, Preset string
	Head                                string
	Rounds                              int
	MaxRounds                           int     `json:"max_rounds"`
	Rate                                float64 `json:"action_rate"`
	State                               map[string]float64
	Dims                                []struct {
		Name, Arm, Space, Unit string
		Low, High              float64
		Start                  *float64
	}
	Times      []float64
	Values     [][]float64
	Confidence [][]float32
	Mean       float64 `json:"confidence_mean"`
	Seconds    map[string]float64
	Warnings   []string
}

func predictJSON(t *testing.T, args ...string) predicted {
	t.Helper()
	status, stdout, stderr := call(t, append(args, "--json")...)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	var p predicted
	if err := json.Unmarshal([]byte(stdout), &p); err != nil {
		t.Fatalf("%v in\n%s", err, stdout)
	}
	return p
}

func TestPredictPrintsWhatThePolicySays(t *testing.T) {
	s := newScene(t)
	want := s.infer(t, decode.Greedy, 1)
	status, stdout, stderr := call(t, s.args(testbundle.Dir(t), "--state", s.numbers())...)
	if status != 0 || stderr != "" {
		t.Fatalf("status %d: %s", status, stderr)
	}
	rows := map[string][][]string{} // by first field: a table for each arm
	for line := range strings.Lines(stdout) {
		if f := strings.Fields(line); len(f) > 0 {
			rows[f[0]] = append(rows[f[0]], f[1:])
		}
	}
	// Both tables' rows of a name, side by side.
	row := func(name string) []string { return slices.Concat(rows[name]...) }
	if got := row("time"); !slices.Equal(got, want.Chunk.Names) {
		t.Errorf("columns %q", got)
	}
	if got, want := strings.Join(row("s"), " "), strings.Repeat("rad rad rad rad rad rad m ", 2); got+" " != want {
		t.Errorf("units %q", got)
	}
	var now []string
	for _, v := range s.state {
		now = append(now, fmt.Sprintf("%.4f", v))
	}
	if !slices.Equal(row("now"), now) {
		t.Errorf("state %q, want %q", row("now"), now)
	}
	for r := range want.Chunk.Rows() {
		var values []string
		for _, v := range want.Chunk.At(r) {
			values = append(values, fmt.Sprintf("%.4f", v))
		}
		if name := fmt.Sprintf("%.3f", float64(r+1)/20); !slices.Equal(row(name), values) {
			t.Errorf("at %s s %q, want %q", name, row(name), values)
		}
	}
	sum := 0.0
	for _, c := range want.Chunk.Confidence {
		sum += float64(c)
	}
	for _, text := range []string{
		fmt.Sprintf("prompt      %q\n", want.Prompt),
		fmt.Sprintf("greedy, %d of at most 3 rounds, seed 1", want.Rounds),
		"8 rows of 14 at 20 Hz",
		fmt.Sprintf("mean %.3f, least %.3f (", sum/float64(len(want.Chunk.Confidence)), slices.Min(want.Chunk.Confidence)),
	} {
		if !strings.Contains(stdout, text) {
			t.Errorf("no %q in\n%s", text, stdout)
		}
	}
}

// Pictures by name, the state as JSON and the node's own parameters give what
// pictures in order, numbers and flags give; JSON holds the numbers unrounded.
func TestPredictJSON(t *testing.T) {
	s := newScene(t)
	want := s.infer(t, decode.Official, 7)
	values := map[string]float64{}
	for i, name := range s.names() {
		values[name] = s.state[i]
	}
	data, err := json.Marshal(values)
	if err != nil {
		t.Fatal(err)
	}
	file := s.write(t, "state.json", data)
	named := []string{"predict", "--bundle", testbundle.Dir(t), "--state", file,
		"--image", "wrist_right=" + s.images[2], "--image", "head=" + s.images[0], "--image", "wrist_left=" + s.images[1],
		"--ros-args", "-p", "instruction:=reach the red cube", "-p", "decode.preset:=official", "-p", "decode.rounds:=3", "-p", "seed:=7", "--"}
	t.Run("files by name", func(t *testing.T) {
		p := predictJSON(t, named...)
		if !slices.Equal(slices.Concat(p.Values...), want.Chunk.Values) || !slices.Equal(slices.Concat(p.Confidence...), want.Chunk.Confidence) {
			t.Errorf("got %v, want %v", p.Values, want.Chunk.Values)
		}
		if p.Prompt != want.Prompt || p.Rounds != want.Rounds || p.MaxRounds != 3 || p.Preset != "official" || p.Rate != 20 || p.Policy != "tiny-reach" {
			t.Errorf("%+v", p)
		}
		if !slices.Equal(p.Times, []float64{0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4}) {
			t.Errorf("times %v", p.Times)
		}
		if !maps.Equal(p.State, values) {
			t.Errorf("state %v", p.State)
		}
		for i, d := range p.Dims {
			if d.Name != want.Chunk.Names[i] || d.Start == nil || *d.Start != s.state[i] || d.Space != "joint" {
				t.Errorf("dimension %d: %+v", i, d)
			}
			for _, row := range p.Values {
				if row[i] < d.Low-1e-6 || row[i] > d.High+1e-6 {
					t.Errorf("%s: %g is outside %g to %g", d.Name, row[i], d.Low, d.High)
				}
			}
		}
	})
	t.Run("standard input", func(t *testing.T) {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		defer func(in *os.File) { os.Stdin = in }(os.Stdin)
		os.Stdin = f
		// A flag counts where the parameter says otherwise.
		p := predictJSON(t, s.args(testbundle.Dir(t), "--state", "-", "--preset", "official", "--seed", "7", "--ros-args", "-p", "seed:=8", "--")...)
		if !slices.Equal(slices.Concat(p.Values...), want.Chunk.Values) {
			t.Errorf("got %v, want %v", p.Values, want.Chunk.Values)
		}
	})
}

// A change has no place to start from, and a gripper is told in metres of opening,
// whatever its column holds.
func TestPredictTellsSpacesApart(t *testing.T) {
	s := newScene(t)
	dir := testbundle.Copy(t, func(m *bundle.Manifest) {
		m.Action.Dims[0].Space = bundle.JointDelta
		m.Action.Dims[13].Unit = "1"
		m.Action.Dims[13].Gripper = &bundle.Gripper{Mode: bundle.GripperBinary, Open: 0.06, Close: 0.01, Threshold: 0.04, Invert: true}
	})
	p := predictJSON(t, s.args(dir, "--state", s.numbers())...)
	delta, joint, gripper := p.Dims[0], p.Dims[1], p.Dims[13]
	if delta.Space != "joint_delta" || delta.Start != nil || joint.Start == nil || gripper.Start == nil {
		t.Errorf("%+v, %+v, %+v", delta, joint, gripper)
	}
	if gripper.Unit != "m" || gripper.Low != 0.01 || gripper.High != 0.06 {
		t.Errorf("%+v", gripper)
	}
	for _, row := range p.Values {
		if v := row[13]; v != 0.01 && v != 0.06 {
			t.Errorf("gripper at %g", v)
		}
	}
	_, stdout, _ := call(t, s.args(dir, "--state", s.numbers())...)
	for line := range strings.Lines(stdout) {
		if f := strings.Fields(line); len(f) == 8 && f[0] == "s" {
			if f[1] != "rad/row" || f[2] != "rad" {
				t.Errorf("units %q", f)
			}
			return
		}
	}
	t.Errorf("no units in\n%s", stdout)
}

func TestPredictDraws(t *testing.T) {
	s := newScene(t)
	out := s.write(t, "chunk.png", []byte("what was there before"))
	for size, want := range map[string]image.Point{"": {1520, 1355}, "900x800": {900, 800}} {
		args := s.args(testbundle.Dir(t), "--state", s.numbers(), "--out", out)
		if size != "" {
			args = append(args, "--size", size)
		}
		status, stdout, stderr := call(t, args...)
		if status != 0 || stderr != "" || !strings.Contains(stdout, fmt.Sprintf("drawing     %s, %dx%d\n", out, want.X, want.Y)) {
			t.Fatalf("status %d: %s\n%s", status, stderr, stdout)
		}
		f, err := os.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		img, err := png.Decode(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if img.Bounds().Size() != want {
			t.Errorf("%v, want %v", img.Bounds(), want)
		}
		// A curve and a state now in each of the two arms' seven panels.
		for c, drawn := range map[string]color.Color{"curve": curveColour(), "state": startColour(), "band": bandColour()} {
			for arm := range 2 {
				for panel := range 7 {
					const head = 90
					height := (want.Y - head) / 7
					box := image.Rect(0, 0, want.X/2, height).Add(image.Pt(arm*want.X/2, head+panel*height))
					if n := count(img, box, drawn); n < 10 {
						t.Errorf("%s: arm %d, panel %d: %d pixels of the %s", size, arm, panel, n, c)
					}
				}
			}
		}
		if n := count(img, img.Bounds(), color.White); n < want.X*want.Y/10 {
			t.Errorf("%s: %d white pixels", size, n)
		}
	}
	if left, err := filepath.Glob(filepath.Join(s.dir, ".chunk*")); err != nil || len(left) > 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}

// One arm that is told changes, whose place now is not known, and a dimension that
// never moves.
func TestPredictDrawsChanges(t *testing.T) {
	p := prediction{
		Instruction: "push \n" + strings.Repeat("the very long word ", 30),
		Dims: []predictedDim{
			{Name: "dx", Arm: "right", Space: bundle.EEDelta, Unit: "m", Low: -0.01, High: 0.01},
			{Name: "still", Arm: "right", Space: bundle.EEDelta, Unit: "1", Low: 2, High: 2},
		},
		Times:  []float64{1},
		Values: [][]float64{{0.02, 2}},
	}
	var text bytes.Buffer
	if err := p.print(&text); err != nil || !strings.Contains(text.String(), "m/row") || strings.Contains(text.String(), "confidence") {
		t.Errorf("%v in\n%s", err, text.String())
	}
	const width, height = 400, 400
	img := p.draw(width, height)
	if size := img.Bounds().Size(); size != (image.Point{X: width, Y: height}) {
		t.Errorf("size %v", size)
	}
	for panel := range 2 {
		box := image.Rect(0, 90, width, 245).Add(image.Pt(0, 155*panel))
		if n := count(img, box, curveColour()); n < 4 {
			t.Errorf("panel %d: %d pixels of the curve", panel, n)
		}
	}
	if n := count(img, img.Bounds(), startColour()); n > 0 {
		t.Errorf("%d pixels of a state that is not known", n)
	}
}

// count is how many pixels in a box have a colour.
func count(img image.Image, box image.Rectangle, c color.Color) int {
	want := color.RGBAModel.Convert(c)
	n := 0
	for y := box.Min.Y; y < box.Max.Y; y++ {
		for x := box.Min.X; x < box.Max.X; x++ {
			if color.RGBAModel.Convert(img.At(x, y)) == want {
				n++
			}
		}
	}
	return n
}

func TestPredictRefuses(t *testing.T) {
	s := newScene(t)
	dir := testbundle.Dir(t)
	state := s.numbers()
	list := "left_joint1 rad, left_joint2 rad"
	good := func(more ...string) []string { return s.args(dir, append([]string{"--state", state}, more...)...) }
	images := func(list ...string) []string {
		args := []string{"predict", "--bundle", dir, "--instruction", "wait", "--state", state}
		for _, text := range list {
			args = append(args, "--image", text)
		}
		return args
	}
	with := func(i int, v string) string {
		fields := strings.Split(state, ",")
		fields[i] = v
		return strings.Join(fields, ",")
	}
	file := func(text string) string {
		return s.write(t, fmt.Sprintf("state%d.json", len(text)), []byte(text))
	}
	head, left, right := s.images[0], s.images[1], s.images[2]
	cut := s.write(t, "cut.jpg", []byte{0xff, 0xd8, 0xff, 0xe0})
	for name, c := range map[string]struct {
		status int
		names  []string
		args   []string
	}{
		"no bundle":         {2, []string{"no bundle", "--bundle"}, []string{"predict", "--image", head}},
		"no such bundle":    {1, []string{"nowhere"}, []string{"predict", "--bundle", "nowhere"}},
		"no instruction":    {2, []string{"--instruction"}, []string{"predict", "--bundle", dir}},
		"no pictures":       {2, []string{"0 pictures, want 3", "head, wrist_left, wrist_right"}, images()},
		"a picture less":    {2, []string{"2 pictures, want 3"}, images(head, left)},
		"a mix":             {2, []string{"1 of 3", "head, wrist_left"}, images("head="+head, left, right)},
		"a mix, name last":  {2, []string{"1 of 3", "head, wrist_left"}, images(head, left, "wrist_right="+right)},
		"no such camera":    {2, []string{`no camera "chest"`, "head, wrist_left"}, images("chest="+head, "wrist_left="+left, "wrist_right="+right)},
		"a camera twice":    {2, []string{`"head" is given twice`}, images("head="+head, "head="+left, "wrist_right="+right)},
		"a camera less":     {2, []string{`no picture of camera "wrist_left"`}, images("head="+head, "wrist_right="+right)},
		"no file":           {2, []string{`"head" has no file`}, images("head=", "wrist_left="+left, "wrist_right="+right)},
		"no such picture":   {1, []string{`camera "wrist_left"`, "none.png"}, images(head, "none.png", right)},
		"a cut picture":     {1, []string{cut, `camera "wrist_right"`, "JPEG"}, images(head, left, cut)},
		"no picture":        {1, []string{"state", `camera "head"`}, images(file("{}"), left, right)},
		"no state":          {2, []string{"--state: is needed", list}, s.args(dir)},
		"a number less":     {2, []string{"13 numbers, want 14", list}, s.args(dir, "--state", state[strings.Index(state, ",")+1:])},
		"a number more":     {2, []string{"15 numbers, want 14", list}, s.args(dir, "--state", state+",1")},
		"one number":        {2, []string{"1 numbers, want 14", list}, s.args(dir, "--state", "0.5")},
		"no number":         {2, []string{`left_joint3 is "x"`, list}, s.args(dir, "--state", with(2, "x"))},
		"NaN":               {2, []string{"left_joint2 is NaN", list}, s.args(dir, "--state", with(1, "nan"))},
		"infinite":          {2, []string{"right_gripper is +Inf", list}, s.args(dir, "--state", with(13, "inf"))},
		"degrees":           {2, []string{"right_joint2 is 45 rad", "degrees", list}, s.args(dir, "--state", with(8, "45"))},
		"negative degrees":  {2, []string{"left_joint1 is -90 rad", "degrees", list}, s.args(dir, "--state", with(0, "-90"))},
		"millimetres":       {2, []string{"left_gripper is 70 m", "millimetres", list}, s.args(dir, "--state", with(6, "70"))},
		"no such state":     {2, []string{"none.json", list}, s.args(dir, "--state", "none.json")},
		"no JSON":           {2, []string{"no JSON object", list}, s.args(dir, "--state", file("[1, 2]"))},
		"empty JSON":        {2, []string{"lacks left_joint1, left_joint2", list}, s.args(dir, "--state", file("{ }"))},
		"null":              {2, []string{"left_joint1 is <nil>", list}, s.args(dir, "--state", file(`{"left_joint1": null}`))},
		"a list of numbers": {2, []string{"left_joint1 is [", list}, s.args(dir, "--state", file(`{"left_joint1": [0.1]}`))},
		"a name twice":      {2, []string{"left_joint1 is there twice", list}, s.args(dir, "--state", file(`{"left_joint1": 0, "left_joint1": 1}`))},
		"unknown names":     {2, []string{"lacks left_joint1", "has torso too many", list}, s.args(dir, "--state", file(`{"torso": 0.25}`))},
		"a name more":       {2, []string{"has torso too many", list}, s.args(dir, "--state", file(`{"torso": 0, "`+strings.Join(s.names(), `": 0, "`)+`": 0}`))},
		"two objects":       {2, []string{"something follows", list}, s.args(dir, "--state", file(`{"torso": 0.25} {}`))},
		"out is a directory": {2, []string{"is a directory"}, good("--out", func() string {
			d := filepath.Join(s.dir, "d.png")
			if err := os.Mkdir(d, 0o755); err != nil {
				t.Fatal(err)
			}
			return d
		}())},
		"out is no PNG":      {2, []string{"chunk.jpg", ".png"}, good("--out", "chunk.jpg")},
		"out is nowhere":     {2, []string{"nowhere"}, good("--out", "nowhere/chunk.png")},
		"out is in a file":   {2, []string{"--out"}, good("--out", head+"/chunk.png")},
		"size is no size":    {2, []string{"--size", "WIDTHxHEIGHT"}, good("--size", "800")},
		"size with a tail":   {2, []string{"--size", "WIDTHxHEIGHT"}, good("--size", "800x800x8")},
		"size is too small":  {2, []string{"--size", "520x760"}, good("--size", "400x800")},
		"size is too large":  {2, []string{"--size", "8192"}, good("--size", "90000x800")},
		"rounds":             {2, []string{"decode.rounds", "0 to 64"}, good("--rounds", "65")},
		"refresh":            {2, []string{"decode.refresh", "1 to 64"}, good("--refresh", "0")},
		"schedule":           {2, []string{"decode.schedule", "cosine, linear, square, cubic, constant"}, good("--schedule", "sqrt")},
		"preset":             {2, []string{"decode.preset", "greedy, paper"}, good("--preset", "clever")},
		"provider":           {2, []string{"runtime.provider", "cpu, cuda"}, good("--provider", "tpu")},
		"device":             {2, []string{"runtime.device", "0 to 63"}, good("--device", "64")},
		"threads":            {2, []string{"runtime.threads", "0 to 1024"}, good("--threads", "-1")},
		"seed":               {2, []string{`"seed" is an integer`}, good("--seed", "lucky")},
		"library":            {1, []string{"nowhere"}, good("--library", "nowhere")},
		"a long instruction": {1, []string{"tokens"}, good("--instruction", strings.Repeat("reach ", 100))},
	} {
		t.Run(name, func(t *testing.T) { refused(t, c.status, c.names, c.args...) })
	}
}

// A model without a robot state needs none; one that is given is told of.
func TestPredictTellsOfTheState(t *testing.T) {
	s := newScene(t)
	c := &configuration{manifest: &bundle.Manifest{}}
	var p prediction
	if state, err := p.readState(c, ""); state != nil || err != nil || len(p.Warnings) != 0 {
		t.Errorf("%v, %v, %v", state, err, p.Warnings)
	}
	if state, err := p.readState(c, "1,2"); state != nil || err != nil || len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "--state is ignored") {
		t.Errorf("%v, %v, %v", state, err, p.Warnings)
	}
	// Within the joint's limits, where no demonstration went.
	s.state[7] = -2
	got := predictJSON(t, s.args(testbundle.Dir(t), "--state", s.numbers())...)
	if !slices.ContainsFunc(got.Warnings, func(w string) bool {
		return strings.Contains(w, "right_joint1 is -2.0000 rad") && strings.Contains(w, "clipped")
	}) {
		t.Errorf("warnings %q", got.Warnings)
	}
}

func TestPredictWarnsAtTheEdges(t *testing.T) {
	p := prediction{
		Dims: []predictedDim{
			{Name: "inside", Unit: "rad", Low: -1, High: 1},
			{Name: "low", Unit: "rad", Low: -1, High: 1},
			{Name: "both", Unit: "m", Low: 0, High: 0.254},
			{Name: "constant", Unit: "rad", Low: 2, High: 2},
			{Name: "gripper", Unit: "m", Low: 0, High: 0.07, gripper: true},
		},
		Times: []float64{0.1, 0.2, 0.3},
		// Half a bin of "both" is 0.5 mm.
		Values: [][]float64{
			{0.99, 0, 0.0006, 2, 0},
			{-0.99, -1, 0.0004, 2, 0},
			{0.5, -0.999, 0.254, 2, 0},
		},
	}
	p.warnEdges(256)
	want := []string{
		"low is at the edge of what the statistics let the model say (-1.0000 rad) in 2 of 3 rows, first at 0.200 s",
		"both is at the edge of what the statistics let the model say (0.0000 m) in 1 of 3 rows, first at 0.200 s",
		"both is at the edge of what the statistics let the model say (0.2540 m) in 1 of 3 rows, first at 0.300 s",
	}
	if !slices.Equal(p.Warnings, want) {
		t.Errorf("got %q", p.Warnings)
	}
}

// An L1 head has the statistics' bounds as its range and may go beyond, which is
// told; nothing is said of a decoding that there is not.
func TestPredictWithAnL1Head(t *testing.T) {
	raw, err := os.ReadFile("../../policies/tiny-reach/dataset_statistics.json")
	if err != nil {
		t.Fatal(err)
	}
	var sets map[string]struct {
		Action struct{ Q01, Q99 []float64 }
	}
	if err := json.Unmarshal(raw, &sets); err != nil {
		t.Fatal(err)
	}
	bounds := sets["cobot_magic_reach"].Action
	row := []float32{-1, 1, -0.999, 0.999, 0, 0, 0, 1.25, -3, 0, 0, 0, 0, 2}
	s := newScene(t)
	dir := testbundle.L1(t, row)
	png := filepath.Join(t.TempDir(), "chunk.png")
	args := s.args(dir, "--state", s.numbers(), "--out", png)
	p := predictJSON(t, args...)
	if p.Head != "l1" || p.Preset != "" || p.Rounds != 1 || p.MaxRounds != 1 || p.Confidence != nil {
		t.Errorf("head %q, preset %q, rounds %d of %d, confidence %v", p.Head, p.Preset, p.Rounds, p.MaxRounds, p.Confidence)
	}
	for i, d := range p.Dims {
		low, high := bounds.Q01[i], bounds.Q99[i]
		if i%7 == 6 {
			low, high = max(low, 0), min(high, 0.07)
		}
		if math.Abs(d.Low-low) > 2e-8 || math.Abs(d.High-high) > 2e-8 {
			t.Errorf("%s: %.9g to %.9g, want %.9g to %.9g", d.Name, d.Low, d.High, low, high)
		}
	}
	var outside []string
	for _, w := range p.Warnings {
		if !strings.HasPrefix(w, "state ") {
			outside = append(outside, w)
		}
	}
	want := []string{
		fmt.Sprintf("right_joint1 is outside the statistics' %.4f to %.4f rad in 8 of 8 rows, first at 0.050 s", bounds.Q01[7], bounds.Q99[7]),
		fmt.Sprintf("right_joint2 is outside the statistics' %.4f to %.4f rad in 8 of 8 rows, first at 0.050 s", bounds.Q01[8], bounds.Q99[8]),
	}
	if !slices.Equal(outside, want) {
		t.Errorf("warnings %q", outside)
	}
	status, stdout, stderr := call(t, args...)
	if status != 0 || !strings.Contains(stdout, "decoding    none: the L1 head gives values in one pass\n") || strings.Contains(stdout, "seed") || strings.Contains(stdout, "greedy") {
		t.Errorf("status %d, %s\n%s", status, stderr, stdout)
	}
	if info, err := os.Stat(png); err != nil || info.Size() == 0 {
		t.Errorf("no drawing: %v", err)
	}
}

// A drawing that cannot be finished leaves what was there, and nothing else.
func TestPredictKeepsWhatWasThere(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "chunk.png")
	if err := os.Mkdir(target, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := writePicture(target, image.NewGray(image.Rect(0, 0, 2, 2))); err == nil || !strings.Contains(err.Error(), "drawing") {
		t.Errorf("over a directory: %v", err)
	}
	if err := writePicture(filepath.Join(dir, "empty.png"), image.NewGray(image.Rect(0, 0, 0, 0))); err == nil {
		t.Error("an empty picture was written")
	}
	if err := writePicture(filepath.Join(dir, "none", "chunk.png"), image.NewGray(image.Rect(0, 0, 2, 2))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("into no directory: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "chunk.png" {
		t.Errorf("%v, %v", entries, err)
	}
}

func TestPredictTicksAreRoundAndLabelled(t *testing.T) {
	for _, c := range []struct {
		low, high float64
		most      int
		want      string
	}{
		{-0.008, 0.408, 8, "0.0 0.1 0.2 0.3 0.4"},
		{-1.1, 0.25, 4, "-1.0 -0.5 0.0"},
		{0.011, 0.069, 4, "0.02 0.04 0.06"},
		{0, 2.55, 8, "0.0 0.5 1.0 1.5 2.0 2.5"},
		{-1200, 3100, 4, "0 2000"},
		{-0.0015, 0.0005, 4, "-0.0015 -0.0010 -0.0005 0.0000 0.0005"},
	} {
		var labels []string
		for _, tick := range (labelledTicks{c.most}).Ticks(c.low, c.high) {
			if tick.Value < c.low || tick.Value > c.high {
				t.Errorf("tick at %g, outside %g to %g", tick.Value, c.low, c.high)
			}
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != c.want {
			t.Errorf("%g to %g: %s, want %s", c.low, c.high, got, c.want)
		}
	}
}

// From left to right there are tokens and no rounds: none to trace, and none is told.
func TestPredictFromLeftToRight(t *testing.T) {
	s := newScene(t)
	dir := testbundle.With(t, func(o *weights.Options) { o.Attention = bundle.Causal })
	png := filepath.Join(t.TempDir(), "chunk.png")
	args := s.args(dir, "--state", s.numbers(), "--preset", "autoregressive", "--out", png)
	p := predictJSON(t, args...)
	if p.Preset != "autoregressive" || p.Rounds != 112 || p.MaxRounds != 112 || p.Confidence == nil {
		t.Errorf("preset %q, rounds %d of %d, confidence %v", p.Preset, p.Rounds, p.MaxRounds, p.Confidence)
	}
	status, stdout, stderr := call(t, args...)
	if status != 0 || !strings.Contains(stdout, "decoding    autoregressive, 112 tokens from left to right, seed 1\n") {
		t.Errorf("status %d, %s\n%s", status, stderr, stdout)
	}
	if info, err := os.Stat(png); err != nil || info.Size() == 0 {
		t.Errorf("no drawing: %v", err)
	}
	refused(t, 2, []string{"--trace", "left to right"}, append(args, "--trace", filepath.Join(t.TempDir(), "trace.png"))...)
	refused(t, 1, []string{"decode.*", "mean_window", "autoregressive"}, append(args, "--ros-args", "-p", "decode.mean_window:=1")...)
	refused(t, 1, []string{"preset", "causal attention"}, s.args(testbundle.Dir(t), "--state", s.numbers(), "--preset", "autoregressive")...)
}
