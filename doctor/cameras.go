package doctor

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/stat"
)

// CameraReport is what was heard of one camera of the model.
type CameraReport struct {
	Name     string `json:"name"`
	Topic    string `json:"topic"`
	Type     string `json:"type"`
	Encoding string `json:"encoding"` // or a compressed picture's format
	Frame    string `json:"frame_id"`
	Width    int    `json:"width,omitempty"` // as sent; 0 where pictures are compressed
	Height   int    `json:"height,omitempty"`
	// ModelWidth and ModelHeight are what the model sees.
	ModelWidth  int `json:"model_width"`
	ModelHeight int `json:"model_height"`
	TimingReport
	Refused int `json:"refused,omitempty"`
	// Colour is the mean red, green and blue that the model sees, 0 to 255.
	Colour [3]float64 `json:"colour"`
}

// SetsReport is how pictures and joint states come together.
type SetsReport struct {
	Count int `json:"count"` // complete sets of pictures
	// Spread is, by camera, how far its picture is ahead of the set's oldest: the value
	// that one in twenty sets exceeds, s.
	Spread map[string]float64 `json:"spread"`
	// Joints is the same for the distance of the nearest joint state, by arm.
	Joints map[string]float64 `json:"joints"`
	// Apart counts sets that max_skew refuses.
	Apart int `json:"apart"`
}

// cameras judges the pictures.
func (c *Case) cameras(r *Report) {
	l := c.Listener
	for i, e := range l.cameras {
		report := CameraReport{
			Name: e.camera.Name, Topic: e.topic, Type: e.rosType(), Encoding: e.encoding, Frame: e.frame, Width: e.width, Height: e.height,
			TimingReport: e.timing.report(), Refused: e.refused,
		}
		report.ModelWidth, report.ModelHeight = e.recipe.Size()
		for k := range report.Colour {
			report.Colour[k] = math.Round(e.colour[k] / float64(max(e.looks, 1)))
		}
		r.Cameras = append(r.Cameras, report)
		c.camera(r, e, &report)
		for _, other := range l.cameras[:i] {
			// One topic for two is refused with the parameters.
			if w, h := e.recipe.Size(); e.looks > 0 && len(other.view) == 3*w*h && same(e.view, other.view) {
				r.add(Error, "camera-twice", e.camera.Name, "find out which camera publishes on both topics: cover one lens and look at the contact sheet again",
					"cameras %q and %q (%s and %s) send the same picture", other.camera.Name, e.camera.Name, other.topic, e.topic)
			}
		}
	}
	c.encodings(r)
	c.colours(r)
	c.skews(r)
	c.sidesOfCameras(r)
}

// camera judges one camera by itself.
func (c *Case) camera(r *Report, e *eye, report *CameraReport) {
	name, parameter := e.camera.Name, "cameras."+e.camera.Name+".topic"
	switch {
	case e.topic == "":
		r.add(Error, "camera-no-topic", name, "set "+parameter, "the model's camera %q has no topic", name)
		return
	case e.usable == 0 && e.refusal != nil:
		r.add(Error, "camera-unreadable", name, "have the driver send what is named, or choose another topic ("+parameter+")",
			"no picture of camera %q on %s can be used: %v", name, e.topic, e.refusal)
		return
	case e.usable == 0:
		r.add(Error, "camera-silent", name, c.mendSilence(parameter, e.topic, e.rosType()),
			"camera %q: nothing came on %s (%s)", name, e.topic, e.rosType())
		return
	case e.refused > 0:
		r.add(Warning, "camera-refused", name, "look at the driver's log; the node skips such pictures",
			"%d of %d pictures of camera %q cannot be used, the last because: %v", e.refused, e.refused+e.usable, name, e.refusal)
	}
	c.timing(r, "camera", fmt.Sprintf("camera %q", name), name, &e.timing, c.Settings.Control.ObservationTimeout,
		"halt the arms (limits.observation_timeout)")
	if report.Count > 1 && report.Rate < 0.9*c.Settings.Live.Rate {
		r.add(Warning, "camera-slow", name, "raise the camera's rate, or set rate to what the cameras give",
			"camera %q sends %.1f pictures a second, fewer than the %g chunks that rate asks for", name, report.Rate, c.Settings.Live.Rate)
	}
	if e.failed != nil {
		r.add(Error, "camera-unreadable", name, "look at what the driver sends", "the newest picture of camera %q cannot be decoded: %v", name, e.failed)
	}
	if e.looks == 0 {
		return
	}
	light := 0.299*report.Colour[0] + 0.587*report.Colour[1] + 0.114*report.Colour[2]
	if spread := e.spread / float64(e.looks); light < 8 || light > 247 || spread < 3 {
		r.add(Warning, "camera-blank", name, "take the cap off, look at exposure and at the contact sheet",
			"camera %q sends pictures of one colour (brightness %.0f of 255, varying by %.1f)", name, light, spread)
	}
	if e.width > 0 && (e.width < report.ModelWidth || e.height < report.ModelHeight) {
		r.add(Warning, "camera-small", name, "have the camera send larger pictures",
			"camera %q sends %dx%d pixels, the model sees %dx%d: pictures are enlarged", name, e.width, e.height, report.ModelWidth, report.ModelHeight)
	}
	if e.encoding == "mono8" {
		r.add(Warning, "camera-grey", name, "choose the colour stream", "camera %q sends grey pictures", name)
	}
	if moved := c.moved(sideOf(name)); e.looks >= 10 && e.changed == 0 && moved > 0.3 {
		r.add(Warning, "camera-frozen", name, "restart the camera's driver",
			"%d pictures of camera %q are all the same, though joints moved by %.1f rad in all", e.looks, name, moved)
	}
}

// moved is how far the joints of the arm that carries a camera moved between looks, in
// rad; of both arms where side is -1. A wrist camera may see nothing of the other arm.
func (c *Case) moved(side int) (way float64) {
	for i, k := range c.Listener.looks {
		for arm := range sides {
			if i > 0 && (side < 0 || side == arm) {
				way += travel(&c.Listener.looks[i-1], &k, arm)
			}
		}
	}
	return way
}

// travel is how far the joints of an arm moved between two looks, in rad; 0 where a
// pose is unknown.
func travel(a, b *look, arm int) (way float64) {
	if !a.whole || !b.whole {
		return 0
	}
	for j := range armJoints - 1 {
		way += math.Abs(b.pose[arm][j] - a.pose[arm][j])
	}
	return way
}

// joining is how far apart a recorder may come to the topics: those of ROS and of this
// program look for them ten times a second, and peers take a while to find each other.
const joining = 500 * time.Millisecond

// timing judges when messages come; what longer silence does is said by effect.
func (c *Case) timing(r *Report, code, what, about string, t *timing, silence time.Duration, effect string) {
	report, maxAge := t.report(), c.Settings.Live.MaxAge.Seconds()
	if report.Gap > silence.Seconds() {
		r.add(Warning, code+"-gap", about, "find out what held them up: USB bandwidth, a busy machine, the network",
			"%s was silent for %.2f s once; more than %.2f s %s", what, report.Gap, silence.Seconds(), effect)
	}
	switch {
	case report.Unstamped == report.Count:
		r.add(Warning, code+"-unstamped", about, "have the driver stamp its messages; until then the time of reception is taken",
			"messages of %s carry no stamp", what)
	case report.Age > maxAge:
		r.add(Error, code+"-old", about, "synchronise the clocks (chrony, PTP), or with a simulator's time set use_sim_time; max_age bounds it",
			"messages of %s are %s old when they come, the node takes none older than %.2f s", what, duration(report.Age), maxAge)
	case report.Age < -0.02:
		r.add(worse(report.Age < -maxAge), code+"-ahead", about, "synchronise the clocks of the machines (chrony, PTP)",
			"messages of %s are stamped %s in the future", what, duration(-report.Age))
	case report.AgeHi > maxAge/2:
		r.add(Warning, code+"-late", about, "find out what holds them up; max_age refuses older ones",
			"one in twenty messages of %s is older than %s when it comes; max_age is %.2f s", what, duration(report.AgeHi), maxAge)
	}
	if c.Live {
		if age := c.Now.Sub(t.last).Seconds(); age > maxAge {
			r.add(Error, code+"-stopped", about, "look at its driver", "%s has been silent for %.1f s", what, age)
		}
		return
	}
	// Gaps are between messages; a recording has an end on either side, too.
	first, last := c.Listener.span()
	if late := t.first.Sub(first); late > silence+joining {
		r.add(Warning, code+"-begins-late", about, "begin to record when all drivers run; if they did, look at this one",
			"%s began %s after the first camera or arm; more than %.2f s without it %s", what, duration(late.Seconds()), silence.Seconds(), effect)
	}
	if early := last.Sub(t.last); early > silence {
		r.add(Warning, code+"-stopped", about, "look at its driver and its cable, and record again",
			"%s was silent for the last %s of the recording; more than %.2f s %s", what, duration(early.Seconds()), silence.Seconds(), effect)
	}
}

// worse is Error where it is so, else Warning.
func worse(so bool) Severity {
	if so {
		return Error
	}
	return Warning
}

// duration is a time in seconds in the unit that reads best.
func duration(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(100 * time.Millisecond).String()
}

// encodings compares what raw cameras call their channels.
func (c *Case) encodings(r *Report) {
	var named []string
	kinds := map[string]bool{}
	for _, e := range c.Listener.cameras {
		if e.usable > 0 && !e.compressed {
			named = append(named, fmt.Sprintf("%s %s", e.camera.Name, e.encoding))
			kinds[e.encoding] = true
		}
	}
	if len(kinds) > 1 {
		r.add(Warning, "camera-encodings", "cameras", "look whether red things are red in the contact sheet; if not, have that driver send what it says",
			"the cameras' encodings differ (%s); each is honoured, but a driver may name the order of its channels wrongly", strings.Join(named, ", "))
	}
}

const (
	// tint is how far apart the mean red minus blue of one camera is from the others',
	// of 255, to be suspicious, and untinted how near it must be with them exchanged.
	tint, untinted = 25, 10
)

// colours looks for a camera with red and blue exchanged: seen so, its mean colour is
// that of the other cameras, which look at the same table.
func (c *Case) colours(r *Report) {
	var warmth []float64
	var eyes []*eye
	for _, e := range c.Listener.cameras {
		if e.looks > 0 {
			eyes = append(eyes, e)
			warmth = append(warmth, (e.colour[0]-e.colour[2])/float64(e.looks))
		}
	}
	if len(eyes) < 3 {
		return
	}
	for i, e := range eyes {
		others := stat.Mean(slices.Concat(warmth[:i], warmth[i+1:]), nil)
		if math.Abs(warmth[i]-others) > tint && math.Abs(-warmth[i]-others) < untinted {
			r.add(Warning, "camera-colours", e.camera.Name, "look whether red things are red in the contact sheet; if not, the driver's encoding names the wrong order",
				"red and blue of camera %q (%s) seem exchanged: its pictures are %s than the others', and like them the other way round",
				e.camera.Name, e.encoding, map[bool]string{true: "bluer", false: "redder"}[warmth[i] < others])
		}
	}
}

// skews judges how far pictures and joint states of one observation are apart.
func (c *Case) skews(r *Report) {
	l, s := c.Listener, &c.Listener.sets
	r.Sets = SetsReport{Count: s.count, Spread: map[string]float64{}, Joints: map[string]float64{}, Apart: s.apart}
	limit := c.Settings.Live.MaxSkew
	for i, e := range l.cameras {
		r.Sets.Spread[e.camera.Name] = quantile(0.95, s.spread[i].values)
	}
	for a, side := range sides {
		r.Sets.Joints[side] = quantile(0.95, s.joints[a].values)
	}
	if s.count == 0 {
		return // a camera is silent
	}
	if share := float64(s.apart) / float64(s.count); share > 0.02 {
		var ahead []string
		for _, e := range l.cameras {
			if spread := r.Sets.Spread[e.camera.Name]; spread > limit.Seconds() {
				ahead = append(ahead, fmt.Sprintf("%q by %s", e.camera.Name, duration(spread)))
			}
		}
		r.add(worse(share > 0.5), "camera-skew", "cameras",
			"compare the cameras' ages: one driver stamps late or buffers; synchronise clocks and rates, or raise max_skew if the scene is slow",
			"%.0f %% of the sets of pictures are further apart than max_skew %v and make no observation; ahead of the oldest: %s",
			100*share, limit, strings.Join(ahead, ", "))
	}
	for a, side := range sides {
		if share := float64(s.lonely[a]) / float64(s.count); share > 0.02 && l.states[a].positions > 0 {
			r.add(worse(share > 0.5), "arm-skew", side, "synchronise the clocks of cameras and arms, or raise the rate of the joint states",
				"%.0f %% of the sets of pictures have no joint state of the %s arm within max_skew %v (typically %s away)",
				100*share, side, limit, duration(quantile(0.5, s.joints[a].values)))
		}
	}
}

// mendSilence says what to do about a topic on which nothing came.
func (c *Case) mendSilence(parameter, topic, typ string) string {
	var same []string
	for _, t := range c.Have {
		if t.Type == typ && t.Name != topic {
			same = append(same, t.Name)
		}
	}
	mend := "start its driver, or set " + parameter
	if !c.Live {
		mend = "record it, or set " + parameter
	}
	if len(same) > 0 {
		slices.Sort(same)
		mend += " to one of " + strings.Join(slices.Compact(same), ", ")
	}
	return mend
}
