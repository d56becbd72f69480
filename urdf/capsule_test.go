package urdf_test

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/urdf"
)

// segmentDistance is how far p is from the capsule's surface, negative inside.
func segmentDistance(c urdf.Capsule, p [3]float64) float64 {
	best := math.Inf(1)
	const steps = 2000
	for i := range steps + 1 {
		s := float64(i) / steps
		at := [3]float64{}
		for k := range 3 {
			at[k] = c.A[k] + s*(c.B[k]-c.A[k])
		}
		best = min(best, distance(at, p))
	}
	return best - c.Radius
}

// Every movable link of both arms has a shape, the two arms have the same, and
// the axes of the kinematics run inside it: a shape that was drawn in another
// frame would miss them.
func TestCobotMagicCapsulesHoldTheirAxes(t *testing.T) {
	r, err := urdf.CobotMagic()
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Unshaped) != 0 {
		t.Errorf("links without capsules: %v", r.Unshaped)
	}
	of := map[string][]urdf.Capsule{}
	for _, c := range r.Capsules {
		of[c.Link] = append(of[c.Link], c)
	}
	for _, side := range []string{"fl_", "fr_"} {
		for _, link := range []string{"base_link", "link1", "link2", "link3", "link4", "link5", "link6", "gripper_base", "link7", "link8"} {
			if len(of[side+link]) == 0 {
				t.Errorf("%s%s has no capsule", side, link)
			}
			for i, c := range of[side+link] {
				other := of["fl_"+link][i]
				if other.A != c.A || other.B != c.B || other.Radius != c.Radius {
					t.Errorf("%s%s differs between the arms: %v and %v", side, link, c, other)
				}
			}
		}
		// Points on the axes, in each link's frame: where the next joint sits.
		for link, p := range map[string][3]float64{
			"link1": {}, "link2": {0.28503, 0, 0}, "link3": {-0.021984, -0.225, 0},
			"link4": {}, "link5": {8.8e-5, -0.091, 0}, "link6": {0, 0, 0.0358},
			"gripper_base": {0, 0, 0.066}, "link7": {0, 0, 0}, "link8": {0, 0, 0},
		} {
			if !insideAny(of[side+link], p) {
				t.Errorf("%v of %s%s lies outside its capsules", p, side, link)
			}
		}
	}
}

func insideAny(capsules []urdf.Capsule, p [3]float64) bool {
	for _, c := range capsules {
		if segmentDistance(c, p) <= 1e-9 {
			return true
		}
	}
	return false
}

func TestParseCollision(t *testing.T) {
	link := func(collision string) string {
		return `<robot name="r"><link name="a">` + collision + `</link></robot>`
	}
	r, err := urdf.Parse(strings.NewReader(link(
		`<collision><origin xyz="1 2 3" rpy="0 1.5707963267948966 0"/><geometry><cylinder radius="0.1" length="0.4"/></geometry></collision>` +
			`<collision><geometry><sphere radius="0.2"/></geometry></collision>` +
			`<collision><geometry><mesh filename="x.stl"/></geometry></collision>`)))
	if err != nil {
		t.Fatal(err)
	}
	want := []urdf.Capsule{
		{Link: "a", A: [3]float64{0.8, 2, 3}, B: [3]float64{1.2, 2, 3}, Radius: 0.1},
		{Link: "a", Radius: 0.2},
	}
	if len(r.Capsules) != len(want) || r.Unshaped["a"] != "mesh" {
		t.Fatalf("capsules %v, unshaped %v", r.Capsules, r.Unshaped)
	}
	for i, c := range r.Capsules {
		if distance(c.A, want[i].A) > 1e-12 || distance(c.B, want[i].B) > 1e-12 || c.Radius != want[i].Radius || c.Link != "a" {
			t.Errorf("capsule %v, want %v", c, want[i])
		}
	}
	geometry := func(g string) string { return link(`<collision><geometry>` + g + `</geometry></collision>`) }
	for name, c := range map[string]struct {
		text string
		is   error
		says string
	}{
		"no shape":        {geometry(""), urdf.ErrSyntax, "0 shapes"},
		"two shapes":      {geometry(`<sphere radius="1"/><box size="1 1 1"/>`), urdf.ErrSyntax, "2 shapes"},
		"radius 0":        {geometry(`<sphere radius="0"/>`), urdf.ErrShape, "radius"},
		"radius negative": {geometry(`<cylinder radius="-1" length="1"/>`), urdf.ErrShape, "cylinder radius"},
		"radius missing":  {geometry(`<sphere/>`), urdf.ErrSyntax, "sphere radius"},
		"radius NaN":      {geometry(`<sphere radius="nan"/>`), urdf.ErrNonFinite, "sphere radius"},
		"length 0":        {geometry(`<cylinder radius="1" length="0"/>`), urdf.ErrShape, "cylinder length"},
		"millimetres":     {geometry(`<cylinder radius="60" length="300"/>`), urdf.ErrShape, "60"},
		"far away":        {link(`<collision><origin xyz="0 285 0"/><geometry><sphere radius="1"/></geometry></collision>`), urdf.ErrShape, "285"},
		"origin":          {link(`<collision><origin xyz="0 0"/><geometry><sphere radius="1"/></geometry></collision>`), urdf.ErrSyntax, "origin xyz"},
	} {
		if _, err := urdf.Parse(strings.NewReader(c.text)); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `"a"`) {
			t.Errorf("%s: %v; want %v naming %s of link \"a\"", name, err, c.is, c.says)
		}
	}
}
