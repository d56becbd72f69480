package urdf_test

import (
	"bytes"
	"errors"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/urdf"
)

func TestCobotMagicLimits(t *testing.T) {
	r, err := urdf.Load("cobot_magic.urdf")
	if err != nil {
		t.Fatal(err)
	}
	want := [][2]float64{{-2.618, 2.618}, {0, 3.14}, {-2.967, 0}, {-1.745, 1.745}, {-1.22, 1.22}, {-2.0944, 2.0944}}
	for _, side := range []string{"fl", "fr"} {
		c, err := r.Chain("body_Link", side+"_tool0")
		if err != nil {
			t.Fatal(err)
		}
		if len(c.Joints) != 6 {
			t.Fatalf("%s: %d joints", side, len(c.Joints))
		}
		for i, j := range c.Joints {
			if j.Name != side+"_joint"+string(rune('1'+i)) || j.Lower != want[i][0] || j.Upper != want[i][1] || j.Velocity != 3 {
				t.Errorf("%s joint %d: %+v", side, i+1, j)
			}
		}
		finger, err := r.Joint(side + "_joint7")
		if err != nil || finger.Type != urdf.Prismatic || finger.Upper != 0.035 {
			t.Errorf("finger %+v: %v", finger, err)
		}
	}
	if r.Root != "body_Link" {
		t.Errorf("root %q", r.Root)
	}
}

// description wraps links a, b, c and the joints given.
func description(joints string) string {
	return `<robot name="r"><link name="a"/><link name="b"/><link name="c"/>` + joints + `</robot>`
}

func joint(name, typ, parent, child, rest string) string {
	return `<joint name="` + name + `" type="` + typ + `"><parent link="` + parent + `"/><child link="` + child + `"/>` + rest + `</joint>`
}

func TestParseNamesWhatIsWrong(t *testing.T) {
	const limit = `<limit lower="-1" upper="1" velocity="1"/>`
	second := joint("two", "fixed", "b", "c", "")
	for name, c := range map[string]struct {
		text string
		is   error
		says string
	}{
		"not XML":             {"hello", urdf.ErrSyntax, ""},
		"other document":      {"<sdf/>", urdf.ErrSyntax, "sdf"},
		"no links":            {"<robot/>", urdf.ErrTree, "have 0"},
		"missing limit":       {description(joint("one", "revolute", "a", "b", "") + second), urdf.ErrMissingLimit, `"one"`},
		"missing upper":       {description(joint("one", "revolute", "a", "b", `<limit lower="0" velocity="1"/>`) + second), urdf.ErrMissingLimit, "upper"},
		"missing velocity":    {description(joint("one", "prismatic", "a", "b", `<limit lower="0" upper="1"/>`) + second), urdf.ErrMissingLimit, "velocity"},
		"limits swapped":      {description(joint("one", "revolute", "a", "b", `<limit lower="1" upper="0" velocity="1"/>`) + second), urdf.ErrLimit, "lower 1"},
		"velocity 0":          {description(joint("one", "revolute", "a", "b", `<limit lower="0" upper="1" velocity="0"/>`) + second), urdf.ErrLimit, "velocity"},
		"limit NaN":           {description(joint("one", "revolute", "a", "b", `<limit lower="nan" upper="1" velocity="1"/>`) + second), urdf.ErrNonFinite, "lower"},
		"limit infinite":      {description(joint("one", "revolute", "a", "b", `<limit lower="0" upper="inf" velocity="1"/>`) + second), urdf.ErrNonFinite, "upper"},
		"origin out of range": {description(joint("one", "fixed", "a", "b", `<origin xyz="1e999 0 0"/>`) + second), urdf.ErrNonFinite, "origin xyz"},
		"origin too short":    {description(joint("one", "fixed", "a", "b", `<origin rpy="0 0"/>`) + second), urdf.ErrSyntax, "origin rpy"},
		"no number":           {description(joint("one", "fixed", "a", "b", `<origin rpy="0 0 x"/>`) + second), urdf.ErrSyntax, `"x"`},
		"axis of length 0":    {description(joint("one", "revolute", "a", "b", limit+`<axis xyz="0 0 0"/>`) + second), urdf.ErrSyntax, "axis"},
		"unknown parent":      {description(joint("one", "fixed", "z", "b", "") + second), urdf.ErrUnknownLink, `parent "z"`},
		"unknown child":       {description(joint("one", "fixed", "a", "z", "") + second), urdf.ErrUnknownLink, `child "z"`},
		"two parents":         {description(joint("one", "fixed", "a", "c", "") + second), urdf.ErrTree, `"one"`},
		"two roots":           {description(second), urdf.ErrTree, "have 2"},
		"loop":                {description(joint("one", "fixed", "c", "b", "") + second), urdf.ErrTree, `"b"`},
		"no root":             {description(joint("one", "fixed", "c", "b", "") + second + joint("three", "fixed", "b", "a", "")), urdf.ErrTree, ""},
		"joint name twice":    {description(joint("two", "fixed", "a", "b", "") + second), urdf.ErrDuplicate, `"two"`},
		"link name twice":     {`<robot><link name="a"/><link name="a"/></robot>`, urdf.ErrDuplicate, `"a"`},
		"planar joint":        {description(joint("one", "planar", "a", "b", limit) + second), urdf.ErrJointType, "planar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := urdf.Parse(strings.NewReader(c.text))
			if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want %v naming %s", err, c.is, c.says)
			}
		})
	}
	if _, err := urdf.Parse(strings.NewReader(description(joint("one", "continuous", "a", "b", "") + second))); err != nil {
		t.Errorf("continuous joint without limit: %v", err)
	}
}

func TestChainNamesWhatIsWrong(t *testing.T) {
	r, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Chain("body_Link", "nowhere"); !errors.Is(err, urdf.ErrUnknownLink) || !strings.Contains(err.Error(), `"nowhere"`) {
		t.Error(err)
	}
	if _, err := r.Chain("fl_base_link", "fr_link6"); !errors.Is(err, urdf.ErrTree) {
		t.Error(err)
	}
	if _, err := r.Joint("nothing"); !errors.Is(err, urdf.ErrUnknownJoint) {
		t.Error(err)
	}
	if _, err := urdf.Load("nowhere.urdf"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func FuzzParse(f *testing.F) {
	raw, err := os.ReadFile("cobot_magic.urdf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(description(joint("one", "continuous", "a", "b", "") + joint("two", "prismatic", "b", "c", `<limit lower="0" upper="1" velocity="1"/>`))))
	f.Add([]byte(description(joint("one", "fixed", "c", "b", "") + joint("two", "fixed", "b", "c", ""))))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := urdf.Parse(bytes.NewReader(data))
		if err != nil {
			return
		}
		// What was accepted can be computed with: every link has a chain and
		// finite kinematics unless the lengths themselves overflow.
		for _, l := range r.Links {
			c, err := r.Chain(r.Root, l)
			if err != nil {
				t.Fatalf("accepted, but %v", err)
			}
			for _, j := range c.Joints {
				if math.IsNaN(j.Lower) || j.Lower > j.Upper || !(j.Velocity > 0) {
					t.Fatalf("accepted joint %+v", j)
				}
			}
			c.Forward(make([]float64, len(c.Joints)))
		}
	})
}
