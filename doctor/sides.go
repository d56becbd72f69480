package doctor

import (
	"math"
	"strings"

	"gonum.org/v1/gonum/stat"
)

// sideOf tells which side a name of a camera, topic or frame is of: 0 left, 1 right,
// -1 neither or both.
func sideOf(name string) int {
	found := [2]bool{}
	for _, word := range strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '_' || r == '/' || r == '-' || r == '.' }) {
		found[0] = found[0] || word == "l" || strings.HasPrefix(word, "left")
		found[1] = found[1] || word == "r" || strings.HasPrefix(word, "right")
	}
	switch found {
	case [2]bool{true, false}:
		return 0
	case [2]bool{false, true}:
		return 1
	}
	return -1
}

// sidesOfCameras compares the model's names with those of topics and frames, and what
// wrist cameras see with what the arms do.
func (c *Case) sidesOfCameras(r *Report) {
	l := c.Listener
	var wrists [2]int
	for i := range wrists {
		wrists[i] = -1
	}
	for i, e := range l.cameras {
		side := sideOf(e.camera.Name)
		if side >= 0 {
			wrists[side] = i
		}
		for what, name := range map[string]string{"topic": e.topic, "frame": e.frame} {
			other := sideOf(name)
			switch {
			case other < 0 || e.usable == 0:
			case side >= 0 && other != side:
				r.add(Warning, "camera-side", e.camera.Name, "cover one lens and look at the contact sheet; exchange the cameras' topics (cameras.*.topic) if they are wrong",
					"camera %q hears the %s %q, by its name the %s one's", e.camera.Name, what, name, sides[other])
			case side < 0:
				r.add(Warning, "camera-side", e.camera.Name, "cover one lens and look at the contact sheet",
					"camera %q hears the %s %q, by its name a wrist camera's", e.camera.Name, what, name)
			}
		}
	}
	if wrists[0] >= 0 && wrists[1] >= 0 {
		c.wrists(r, wrists)
	}
}

const (
	// leastLooks is how many pairs of looks a correlation needs.
	leastLooks = 20
	// leastWay is how far each arm must have moved, in rad, all joints added.
	leastWay = 1.0
)

// wrists compares when the pictures of the wrist cameras change with when each arm
// moves.
func (c *Case) wrists(r *Report, cameras [2]int) {
	var change, way [2][]float64
	var total [2]float64
	looks := c.Listener.looks
	for i := 1; i < len(looks); i++ {
		a, b := &looks[i-1], &looks[i]
		if !a.whole || !b.whole || math.IsNaN(b.change[cameras[0]]) || math.IsNaN(b.change[cameras[1]]) {
			continue
		}
		for s := range sides {
			w := travel(a, b, s)
			change[s] = append(change[s], b.change[cameras[s]])
			way[s] = append(way[s], w)
			total[s] += w
		}
	}
	if len(way[0]) < leastLooks || total[0] < leastWay || total[1] < leastWay {
		return
	}
	together := func(camera, arm int) float64 { return correlation(change[camera], way[arm]) }
	straight, crossed := together(0, 0)+together(1, 1), together(0, 1)+together(1, 0)
	if crossed > 0.6 && crossed-straight > 0.8 {
		l := c.Listener
		r.add(Error, "cameras-swapped", "wrist cameras", "exchange cameras.*.topic of the two, or the arms' topics if those are the wrong ones: cover one lens and look at the contact sheet",
			"the picture of camera %q changes when the right arm moves, that of %q when the left one does (correlation %.2f crossed, %.2f straight): cameras or arms are exchanged",
			l.cameras[cameras[0]].camera.Name, l.cameras[cameras[1]].camera.Name, crossed/2, straight/2)
	}
}

// correlation is Pearson's, 0 where one of the two does not vary.
func correlation(x, y []float64) float64 {
	if len(x) < 2 {
		return 0
	}
	if v := stat.Correlation(x, y, nil); !math.IsNaN(v) {
		return v
	}
	return 0
}
