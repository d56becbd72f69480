package node

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/ddvla/ddvla/msgs"
	"github.com/ddvla/ddvla/policy/vision"
	"github.com/ddvla/ddvla/ros"
)

// camera keeps the newest usable message of one camera topic. Its callback looks
// at the header and the layout and copies the bytes; no pixel is decoded there.
type camera struct {
	name       string // the model's name for it
	topic      string // fully qualified
	compressed bool   // sensor_msgs/msg/CompressedImage, else Image
	stamped    bool   // pictures without a stamp are refused

	heard ros.Subscription // what tells of publishers that QoS keeps away

	mu       sync.Mutex
	raw      imageMessage // of the callback, reused
	newest   []byte       // CDR of the newest usable message
	stamp    time.Time    // of its header
	sequence uint64       // usable messages so far
	refusals refusals
	rate     rate
}

// imageMessage is one of the two image messages.
type imageMessage struct {
	image      msgs.Image
	compressed msgs.CompressedImage
}

// newCamera returns the keeper for a topic; topics that end in /compressed carry
// CompressedImage, as image_transport names them.
func newCamera(name, topic string) *camera {
	return &camera{name: name, topic: topic, compressed: strings.HasSuffix(topic, "/compressed")}
}

// what names the camera to the operator.
func (c *camera) what() string { return fmt.Sprintf("camera %q (topic %s)", c.name, c.topic) }

// rosType is the topic's message type.
func (c *camera) rosType() string {
	if c.compressed {
		return (*msgs.CompressedImage)(nil).ROSType()
	}
	return (*msgs.Image)(nil).ROSType()
}

// decode unmarshals raw into m and checks what can be checked without decoding
// pixels. m aliases raw.
func (c *camera) decode(raw []byte, m *imageMessage) (stamp time.Time, err error) {
	if c.compressed {
		if err := msgs.Unmarshal(raw, &m.compressed); err != nil {
			return time.Time{}, err
		}
		if len(m.compressed.Data) == 0 {
			return time.Time{}, fmt.Errorf("the compressed image is empty (format %q)", m.compressed.Format)
		}
		return m.compressed.Header.Stamp.Time(), nil
	}
	if err := msgs.Unmarshal(raw, &m.image); err != nil {
		return time.Time{}, err
	}
	if err := pixels(&m.image).Validate(); err != nil {
		return time.Time{}, err
	}
	return m.image.Header.Stamp.Time(), nil
}

// errUnstamped refuses a message whose header has no stamp.
var errUnstamped = errors.New("the header has no stamp, by which lock_step chooses; set it in the driver")

// receive takes a message; received is the node's time. stamp is zero where it was
// refused; the error is a refusal to be told.
func (c *camera) receive(raw []byte, received time.Time) (stamp time.Time, tell error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	stamp, err := c.decode(raw, &c.raw)
	if err == nil && stamp.IsZero() && c.stamped {
		err = errUnstamped
	}
	if err != nil {
		return time.Time{}, c.refusals.refuse(fmt.Errorf("camera %q: topic %s: %w", c.name, c.topic, err), received)
	}
	c.refusals.accept()
	if stamp.IsZero() {
		stamp = received // a driver that does not stamp
	}
	c.newest = append(c.newest[:0], raw...)
	c.stamp = stamp
	c.sequence++
	c.rate.tick(received)
	return stamp, nil
}

// copyTo copies the newest message into dst, which is reused, and returns it
// with its stamp; the stamp is zero when there is none yet.
func (c *camera) copyTo(dst []byte) ([]byte, time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append(dst[:0], c.newest...), c.stamp
}

// head returns the newest stamp without the picture, and the standing refusal.
func (c *camera) head() (stamp time.Time, refusal error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp, c.refusals.last
}

// received is when the newest usable picture came.
func (c *camera) received() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rate.last
}

// clear forgets what was received: after a jump of the clock, stamps from before
// it mean nothing.
func (c *camera) clear() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.newest, c.stamp = c.newest[:0], time.Time{}
}

// pixels is how policy/vision sees an Image.
func pixels(m *msgs.Image) vision.Raw {
	return vision.Raw{
		Encoding: m.Encoding, Width: int(m.Width), Height: int(m.Height), Step: int(m.Step),
		Data: m.Data,
	}
}
