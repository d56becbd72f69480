package doctor

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros"
)

// Pictures of the contact sheet as the camera sends them are made this wide and high.
const (
	OriginalWidth  = 320
	OriginalHeight = 240
)

// eye is what was heard of one camera.
type eye struct {
	camera     bundle.Camera
	topic      string
	compressed bool
	heard      ros.Subscription
	peers      peers

	timing        timing
	usable        int // pictures that could be read so far
	refused       int
	refusal       error
	stamp         time.Time // of the newest usable one
	encoding      string    // "rgb8", or a compressed picture's format
	frame         string
	width, height int // 0 where a compressed picture was not looked at yet
	newest        []byte

	recipe, plain  *vision.Pipeline
	original       []byte // the newest that was looked at, OriginalWidth x OriginalHeight
	view, before   []byte // what the model sees of it, and of the look before
	looks          int
	failed         error      // of the newest look
	colour         [3]float64 // mean red, green, blue, summed over looks
	spread         float64    // standard deviation of the brightness, likewise
	changed        int        // looks that differ from the one before
	image          msgs.Image
	compressedNews msgs.CompressedImage
}

func newEye(c bundle.Camera, topic string) (*eye, error) {
	e := &eye{camera: c, topic: topic, compressed: strings.HasSuffix(topic, "/compressed")}
	var err error
	if e.recipe, err = vision.New(c); err != nil {
		return nil, err
	}
	e.plain, err = vision.New(bundle.Camera{Name: c.Name, CropArea: 1,
		Resize: bundle.Resize{Width: OriginalWidth, Height: OriginalHeight, Filter: bundle.Bicubic}})
	return e, err
}

// rosType is the topic's message type, by its name as in the node.
func (e *eye) rosType() string {
	if e.compressed {
		return (*msgs.CompressedImage)(nil).ROSType()
	}
	return (*msgs.Image)(nil).ROSType()
}

// receive takes a message and tells whether it is a picture that a node would use.
func (e *eye) receive(raw []byte, received time.Time) bool {
	stamp, err := e.parse(raw)
	if err != nil {
		e.refused++
		e.refusal = err
		return false
	}
	e.timing.tick(stamp, received)
	if stamp.IsZero() {
		stamp = received
	}
	e.stamp = stamp
	e.newest = clone(e.newest, raw)
	e.usable++
	return true
}

// parse reads a message's header and layout; e.image or e.compressedNews alias raw
// afterwards.
func (e *eye) parse(raw []byte) (time.Time, error) {
	if e.compressed {
		m := &e.compressedNews
		if err := msgs.Unmarshal(raw, m); err != nil {
			return time.Time{}, err
		}
		if e.encoding != m.Format {
			e.encoding = strings.Clone(m.Format)
		}
		if e.frame != m.Header.FrameID {
			e.frame = strings.Clone(m.Header.FrameID)
		}
		if len(m.Data) == 0 {
			return time.Time{}, fmt.Errorf("the compressed image is empty (format %q)", m.Format)
		}
		return m.Header.Stamp.Time(), nil
	}
	m := &e.image
	if err := msgs.Unmarshal(raw, m); err != nil {
		return time.Time{}, err
	}
	if e.encoding != m.Encoding {
		e.encoding = strings.Clone(m.Encoding)
	}
	if e.frame != m.Header.FrameID {
		e.frame = strings.Clone(m.Header.FrameID)
	}
	e.width, e.height = int(m.Width), int(m.Height)
	return m.Header.Stamp.Time(), pixels(m).Validate()
}

func pixels(m *msgs.Image) vision.Raw {
	return vision.Raw{Encoding: m.Encoding, Width: int(m.Width), Height: int(m.Height), Step: int(m.Step), Data: m.Data}
}

// look puts the newest picture through the model's recipe and returns how much it
// differs from the look before: the mean difference of a byte, NaN where there is no
// look before.
func (e *eye) look() float64 {
	if e.view == nil {
		w, h := e.recipe.Size()
		e.view, e.before, e.original = make([]byte, 3*w*h), make([]byte, 3*w*h), make([]byte, 3*OriginalWidth*OriginalHeight)
	}
	e.view, e.before = e.before, e.view
	if e.failed = e.paint(); e.failed != nil {
		return math.NaN()
	}
	e.looks++
	var sum [3]float64
	var light, squares, change float64
	for i := 0; i+2 < len(e.view); i += 3 {
		for c := range sum {
			sum[c] += float64(e.view[i+c])
			change += math.Abs(float64(e.view[i+c]) - float64(e.before[i+c]))
		}
		// ITU-R BT.601's luma.
		y := 0.299*float64(e.view[i]) + 0.587*float64(e.view[i+1]) + 0.114*float64(e.view[i+2])
		light += y
		squares += y * y
	}
	n := float64(len(e.view) / 3)
	for c := range sum {
		e.colour[c] += sum[c] / n
	}
	e.spread += math.Sqrt(max(0, squares/n-light/n*light/n))
	if e.looks == 1 {
		return math.NaN()
	}
	if change > 0 {
		e.changed++
	}
	return change / (3 * n)
}

// paint fills view and original from the newest message.
func (e *eye) paint() error {
	if _, err := e.parse(e.newest); err != nil {
		return err
	}
	if e.compressed {
		data := e.compressedNews.Data
		if err := e.recipe.Compressed(data, e.view); err != nil {
			return err
		}
		return e.plain.Compressed(data, e.original)
	}
	if err := e.recipe.Raw(pixels(&e.image), e.view); err != nil {
		return err
	}
	return e.plain.Raw(pixels(&e.image), e.original)
}

// A View is one camera of the contact sheet.
type View struct {
	Camera, Topic, Encoding string
	// Original is what the camera sends, brought to OriginalWidth x OriginalHeight, and
	// Model what the model sees of it, Width x Height: packed RGB. Both are nil where
	// there is no picture; Reason says why.
	Original, Model []byte
	Width, Height   int
	Reason          string
}

// Views are the newest pictures that were looked at, in the model's order.
func (l *Listener) Views() []View {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []View
	for _, e := range l.cameras {
		v := View{Camera: e.camera.Name, Topic: e.topic, Encoding: e.encoding}
		v.Width, v.Height = e.recipe.Size()
		// A camera may be there although the set was never complete.
		if e.looks == 0 && e.usable > 0 {
			e.look()
		}
		switch {
		case e.looks > 0 && e.failed == nil:
			v.Original, v.Model = clone(nil, e.original), clone(nil, e.view)
		case e.failed != nil:
			v.Reason = e.failed.Error()
		case e.refusal != nil:
			v.Reason = e.refusal.Error()
		case e.topic == "":
			v.Reason = "no topic"
		default:
			v.Reason = "nothing received"
		}
		out = append(out, v)
	}
	return out
}
