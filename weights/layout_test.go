package weights

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/action"
	"github.com/ddvla/ddvla/policy/bundle"
)

func TestLayoutsAreWhole(t *testing.T) {
	seen := map[string]bool{}
	for _, l := range Layouts() {
		if seen[l.Name] || l.Meaning == "" {
			t.Errorf("layout %q", l.Name)
		}
		seen[l.Name] = true
		names, grippers := map[string]bool{}, 0
		for _, d := range l.Action {
			if err := d.Validate(); err != nil || names[d.Name] {
				t.Errorf("%s, %s: %v", l.Name, d.Name, err)
			}
			names[d.Name] = true
			if d.Gripper != nil {
				grippers++
			}
		}
		if grippers != (len(l.Action) / 7) {
			t.Errorf("%s: %d grippers among %d columns", l.Name, grippers, len(l.Action))
		}
		names = map[string]bool{}
		for _, d := range l.Proprio {
			if err := d.Validate(); err != nil || names[d.Name] {
				t.Errorf("%s, state %s: %v", l.Name, d.Name, err)
			}
			names[d.Name] = true
		}
	}
}

// jsonFile writes v to a file and returns its path.
func jsonFile(t *testing.T, name string, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// A checkpoint of LIBERO's columns decodes to what openvla-oft's evaluation does
// with the same tokens: its gripper command is -sign(2g-1), and -1 opens.
func TestLIBERODecodesAsOpenVLAOFT(t *testing.T) {
	s := copied(t, 0)
	edit(t, filepath.Join(s.dir, bundle.StatisticsFile), map[string]any{
		"random.action.q01":  []float64{-0.75, -0.5, -0.9, -0.1, -0.2, -0.3, 0},
		"random.action.q99":  []float64{0.9375, 0.5, 0.9, 0.1, 0.2, 0.3, 1},
		"random.action.mask": []bool{true, true, true, true, true, true, false},
	})
	var state []bundle.ProprioDim
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		state = append(state, bundle.ProprioDim{Name: name, Arm: "right", Unit: "m"})
	}
	for gripper, wantOpen := range map[string]map[int64]float64{
		// Tokens and what they say (MODEL: 31872 is 0, 31808 is 0.501961): closed at
		// -0.996 and 0, open at 0.502 and 0.996.
		"":                        {31999: 0, 31872: 0, 31808: 0.07, 31744: 0.07},
		"invert,open=0.1":         {31999: 0.1, 31872: 0.1, 31808: 0, 31744: 0},
		"threshold=0.6":           {31999: 0, 31872: 0, 31808: 0, 31744: 0.07},
		"mode=normalised,open=.2": {31999: 0, 31872: 0, 31808: 0.2 * 0.5019608, 31744: 0.2 * 0.9960784},
	} {
		o := s.options(filepath.Join(t.TempDir(), "bundle"))
		var notes []string
		o.Note = func(line string) { notes = append(notes, line) }
		if err := o.SetColumns("libero", jsonFile(t, "state.json", state), gripper); err != nil {
			t.Fatal(err)
		}
		b := exported(t, o)
		if len(notes) > 0 {
			t.Errorf("%q: noted %q", gripper, notes)
		}
		m := b.Manifest
		if g := m.Action.Dims[6]; g.Name != "gripper" || g.Gripper == nil || m.Action.Dims[0].Space != bundle.EEDelta || !reflect.DeepEqual(m.Proprio.Dims, state) {
			t.Errorf("action %+v, proprio %+v", m.Action.Dims, m.Proprio.Dims)
		}
		if got := m.Source.Options; got["action-dims"] != "libero" || got["proprio-dims"] != "state.json" || got["gripper"] != gripper {
			t.Errorf("options %q", got)
		}
		codec, err := action.New(b)
		if err != nil {
			t.Fatal(err)
		}
		for token, want := range wantOpen {
			bins := make([]int64, 21)
			for i := range bins {
				bins[i] = 31999 - token
			}
			chunk, err := codec.ChunkFromBins(bins)
			if err != nil {
				t.Fatal(err)
			}
			if got := chunk.At(2)[6]; math.Abs(got-want) > 1e-6 {
				t.Errorf("gripper %q: token %d opens %g m, want %g", gripper, token, got, want)
			}
			// 0.5 (a + 1) (0.9375 + 0.75) - 0.75
			wantX := map[int64]float64{31999: -0.746691, 31872: 0.09375, 31808: 0.517279, 31744: 0.934191}[token]
			if got := chunk.At(0)[0]; math.Abs(got-wantX) > 1e-6 {
				t.Errorf("token %d says x %g, want %g", token, got, wantX)
			}
		}
		// Training data's 0 and 1 become the tokens of the published vectors.
		bins, err := codec.Encode([]float64{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, nil)
		if err != nil || 31999-bins[6] != 31872 || 31999-bins[13] != 31744 {
			t.Errorf("0 and 1 are bins %d and %d (%v)", bins[6], bins[13], err)
		}
	}
}

// The layout's own entries in a file give the layout.
func TestColumnsFromAFile(t *testing.T) {
	for _, l := range Layouts() {
		var named, read Options
		if err := named.SetColumns(l.Name, "", ""); err != nil {
			t.Fatal(err)
		}
		if err := read.SetColumns(jsonFile(t, "action.json", l.Action), jsonFile(t, "proprio.json", l.Proprio), ""); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(named.ActionDims, l.Action) || !reflect.DeepEqual(read.ActionDims, l.Action) || !reflect.DeepEqual(read.ProprioDims, named.ProprioDims) {
			t.Errorf("%s: %+v, from the file %+v", l.Name, named, read)
		}
		if err := read.SetColumns(jsonFile(t, "action.json", l.Action), "", ""); err != nil || read.ProprioDims != nil {
			t.Errorf("%s: a file of columns alone leaves the state %v (%v)", l.Name, read.ProprioDims, err)
		}
		if err := named.SetColumns("aloha", l.Name, ""); err != nil || !reflect.DeepEqual(named.ProprioDims, l.Proprio) || len(named.ActionDims) != 14 {
			t.Errorf("the state of %s with aloha's columns: %v (%v)", l.Name, named.ProprioDims, err)
		}
	}
}

func TestGripperOptionChangesEveryGripper(t *testing.T) {
	for text, want := range map[string]bundle.Gripper{
		"":                          {Mode: "metres", Open: 0.07},
		"open=0.1":                  {Mode: "metres", Open: 0.1},
		"offset=-0.003, close=1e-2": {Mode: "metres", Open: 0.07, Close: 0.01, Offset: -0.003},
		"mode=binary,open=0.06,close=0.01,threshold=0.4,invert,offset=0.001": {Mode: "binary", Open: 0.06, Close: 0.01, Threshold: 0.4, Invert: true, Offset: 0.001},
		"mode=normalised,invert=true":                                        {Mode: "normalised", Open: 0.07, Invert: true},
	} {
		o := Defaults()
		if err := o.SetColumns("cobot_magic", "", text); err != nil {
			t.Fatal(err)
		}
		for _, i := range []int{6, 13} {
			if got := *o.ActionDims[i].Gripper; got != want {
				t.Errorf("%q: column %d has %+v, want %+v", text, i, got, want)
			}
		}
	}
	o := Defaults()
	if err := o.SetColumns("libero", "", "mode=metres"); err != nil || o.ActionDims[6].Gripper.Threshold != 0 {
		t.Errorf("a threshold is left: %+v (%v)", o.ActionDims[6].Gripper, err)
	}
	if err := o.SetColumns("libero", "", "open=0.2"); err != nil || o.ActionDims[6].Gripper.Threshold != 0.5 || o.given["gripper"] != "open=0.2" || o.given["proprio-dims"] != "" {
		t.Errorf("%+v, %q (%v)", o.ActionDims[6].Gripper, o.given, err)
	}
}

func TestColumnsRefused(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "dims.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	const good = `{"name": "a", "space": "joint", "arm": "left", "unit": "rad"}`
	for _, c := range []struct{ action, proprio, gripper, want string }{
		{"franka", "", "", `action-dims: "franka" is neither a layout (cobot_magic, aloha, left_arm, right_arm, libero, bridge) nor a file`},
		{"", "", "", `action-dims: "" is neither a layout`},
		{t.TempDir(), "", "", "is a directory"},
		{"libero", "franka", "", `proprio-dims: "franka" is neither`},
		{file(`{"dims": []}`), "", "", "dims.json is no JSON list of dimensions"},
		{file(`[` + good + `] x`), "", "", "dims.json is no JSON list"},
		{file(`[]`), "", "", "dims.json is an empty list"},
		{file(`null`), "", "", "dims.json is an empty list"},
		{file(`[` + good + `, {"name": "b", "space": "joint", "arm": "left", "units": "rad"}]`), "", "", `dims.json, entry 2 of 2: json: unknown field "units"`},
		{file(`[{"name": "b", "space": "joint", "arm": "left", "unit": "m", "gripper": {"mode": "binary", "treshold": 0.5}}]`), "", "", `entry 1 of 1: json: unknown field "treshold"`},
		{file(`[{"name": "b", "space": "joint", "arm": "left", "unit": "m", "gripper": {"mode": "shut", "open": 0.07}}]`), "", "", `entry 1 of 1, "b": gripper.mode is "shut"`},
		{file(`[` + good + `, 7]`), "", "", "entry 2 of 2: json: cannot unmarshal number"},
		{file(`[null]`), "", "", `entry 1 of 1, "": name must be`},
		{file(`[` + good + `, ` + good + `]`), "", "", `entry 2 of 2, "a": entry 1 has this name`},
		{file(strings.ReplaceAll(`[`+good+`]`, "rad", "deg")), "", "", `entry 1 of 1, "a": unit is "deg"`},
		{file(strings.ReplaceAll(`[`+good+`]`, `"joint"`, `"pose"`)), "", "", `entry 1 of 1, "a": space is "pose"`},
		{"libero", file(`[` + good + `]`), "", `proprio-dims: `},
		{"libero", file(`[` + good + `]`), "", `entry 1 of 1: json: unknown field "space"`},
		{"libero", file(`[{"name": "a", "arm": "left", "unit": "mm"}]`), "", `entry 1 of 1, "a": unit is "mm"`},
		{"libero", "", "width=3", `gripper: "width=3": there is no "width"; it takes mode=`},
		{"libero", "", "open=0.1,", `there is no ""`},
		{"libero", "", "open", `open is "", must be a number`},
		{"libero", "", "open=wide", `open is "wide", must be a number`},
		{"libero", "", "open=NaN", `open is "NaN", must be a number`},
		{"libero", "", "offset=1e999", `offset is "1e999", must be a number`},
		{"libero", "", "invert=2", `invert is "2", must be true or false`},
		{"libero", "", "open=0.1,open=0.2", `has open twice`},
		{"libero", "", "close=0.08", `makes "gripper" wrong: gripper close 0.08 m and open 0.07 m must hold`},
		{"libero", "", "open=70", `close 0 m and open 70 m must hold`},
		{"libero", "", "mode=open", `gripper.mode is "open"`},
		{"cobot_magic", "", "mode=binary", `mode binary needs a threshold`},
		{"cobot_magic", "", "threshold=0.5", `threshold is for mode binary, the mode is metres`},
		{file(`[` + good + `]`), "", "open=0.1", `no column of action-dims has a gripper rule`},
	} {
		o := Defaults()
		err := o.SetColumns(c.action, c.proprio, c.gripper)
		if !errors.Is(err, ErrOption) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q, %q, %q: got %v, want %q", c.action, c.proprio, c.gripper, err, c.want)
		}
		if !reflect.DeepEqual(o.ActionDims, Defaults().ActionDims) {
			t.Errorf("%q: columns were changed all the same", c.action)
		}
	}
}

// Statistics of another number of dimensions are shown beside the layout's, with
// what to give instead.
func TestDimensionsThatDiffer(t *testing.T) {
	s := references(t)[0]
	for _, c := range []struct{ action, want string }{
		{"cobot_magic", `the statistics of "random" have 7 action dimensions, the layout 14; of 7 are: left_arm, right_arm, libero, bridge; give one with --action-dims, or a JSON file`},
		{"libero", `proprio-dims has 8 entries, the checkpoint's proprio projector takes 5; no layout has 5, so give --proprio-dims a JSON file`},
	} {
		o := s.options("")
		if err := o.SetColumns(c.action, "", ""); err != nil {
			t.Fatal(err)
		}
		if _, err := MakePlan(o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.action, err, c.want)
		}
	}
}

// A rule that hardly fits the data set is told, one that fits is not.
func TestGripperDoubts(t *testing.T) {
	s := copied(t, 4)
	for _, c := range []struct {
		low, high       float64
		mask            bool
		layout, gripper string
		want            string
	}{
		{0.014, 0.064, true, "cobot_magic", "", ""},
		{0.0, 1.0, true, "cobot_magic", "", "left_gripper goes from 0 to 1 in the data set, which hardly fits its rule (metres, closed 0 m, open 0.07 m); --gripper"},
		{0.0, 1.0, true, "cobot_magic", "mode=normalised", ""},
		{0.0, 1.0, true, "aloha", "", ""},
		{0.0, 0.07, true, "aloha", "", "from 0 to 0.07 in the data set"},
		{0.0, 4.79, true, "aloha", "", "from 0 to 4.79 in the data set"},
		{0.0, 1.0, true, "aloha", "mode=binary,threshold=0.5", ""},
		{0.0, 0.07, true, "aloha", "mode=binary,threshold=0.5", "(binary at 0.5)"},
		{0.0, 0.07, true, "aloha", "mode=binary,threshold=0.03", ""},
		// Not normalised: tokens say -1..1, whatever the bounds are.
		{0.0, 0.07, false, "aloha", "mode=binary,threshold=0.5", ""},
		{0.0, 0.07, false, "cobot_magic", "", "left_gripper goes from -1 to 1"},
		// A gripper that is never moved.
		{1.0, 1.0, true, "cobot_magic", "", ""},
	} {
		path := filepath.Join(s.dir, bundle.StatisticsFile)
		set := statisticsOf(t, path, "cobot_magic_reach")
		set.Action.Q01[6], set.Action.Q99[6], set.Action.Mask[6] = c.low, c.high, c.mask
		edit(t, path, map[string]any{"cobot_magic_reach.action": set.Action})
		o := Defaults()
		o.Checkpoint, o.ActionRate = s.dir, 20
		notes := ""
		o.Note = func(line string) { notes += line + "\n" }
		if err := o.SetColumns(c.layout, "", c.gripper); err != nil {
			t.Fatal(err)
		}
		if _, err := MakePlan(o); err != nil {
			t.Fatal(err)
		}
		mine := ""
		for line := range strings.Lines(notes) {
			if strings.HasPrefix(line, "left_gripper") {
				mine += line
			}
		}
		if c.want == "" && mine != "" || !strings.Contains(mine, c.want) {
			t.Errorf("%+v: noted %q", c, mine)
		}
	}
}

func statisticsOf(t *testing.T, path, key string) dataset {
	t.Helper()
	var sets map[string]dataset
	if err := readJSON(os.DirFS(filepath.Dir(path)), filepath.Base(path), &sets); err != nil {
		t.Fatal(err)
	}
	return sets[key]
}
