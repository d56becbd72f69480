// Package vision brings a camera's picture to the bytes that the policy was
// trained on: decoded from what the camera sends, turned, resized, put through
// the JPEG round trip of the training data, cropped.
//
// Every camera has its own recipe in the bundle's manifest and its own
// [Pipeline]; the two normalisations of the vision towers are in the graph. The
// kernels follow TensorFlow and Pillow to the rounding, since the policy has
// only ever seen pictures that went through those. Nothing here knows of ROS:
// callers hand over encodings and bytes.
package vision

import (
	"fmt"
	"slices"

	"github.com/ddvla/ddvla/policy/bundle"
)

// Pipeline is one camera's way from the picture it sends to the model's input.
// It owns its buffers, so a picture of the size of the one before costs no
// allocation; it is not for concurrent use.
type Pipeline struct {
	cam        bundle.Camera
	pre, final *resampler // nil: none
	crop       *bilinear  // nil: none

	source, turned, resized, decoded, uncropped Pixels
	stream                                      []byte
}

// New returns the pipeline of a camera of a validated manifest.
func New(cam bundle.Camera) (*Pipeline, error) {
	p := &Pipeline{cam: cam, final: &resampler{target: cam.Resize}}
	if r := cam.Rotation; r != 0 && r != 180 {
		return nil, fmt.Errorf("camera %q: rotation is %d, must be 0 or 180", cam.Name, r)
	}
	if q := cam.JPEGQuality; q < 0 || q > 100 {
		return nil, fmt.Errorf("camera %q: JPEG quality is %d, must be 0 (none) or 1..100", cam.Name, q)
	}
	targets := []bundle.Resize{cam.Resize}
	if cam.PreResize != nil {
		targets = append(targets, *cam.PreResize)
		p.pre = &resampler{target: *cam.PreResize}
	}
	for _, r := range targets {
		if r.Filter != bundle.Lanczos3 && r.Filter != bundle.Bicubic {
			return nil, fmt.Errorf("camera %q: filter is %q, must be %s or %s", cam.Name, r.Filter, bundle.Lanczos3, bundle.Bicubic)
		}
		if err := checkSize(r.Width, r.Height); err != nil {
			return nil, fmt.Errorf("camera %q: resized %w", cam.Name, err)
		}
	}
	switch a := cam.CropArea; {
	case !(a > 0 && a <= 1):
		return nil, fmt.Errorf("camera %q: crop area is %g, must be in (0, 1]", cam.Name, a)
	case a < 1:
		p.crop = newBilinear(cam.Resize.Width, cam.Resize.Height, a)
	}
	return p, nil
}

// Size returns the width and height in pixels of what the pipeline writes.
func (p *Pipeline) Size() (width, height int) { return p.cam.Resize.Width, p.cam.Resize.Height }

// Raw takes an uncompressed picture and writes the model's input to dst: packed
// RGB of exactly 3*width*height bytes of [Pipeline.Size].
func (p *Pipeline) Raw(src Raw, dst []byte) error {
	in, err := src.pixels(&p.source)
	if err != nil {
		return fmt.Errorf("camera %q: %w", p.cam.Name, err)
	}
	return p.run(in, dst)
}

// JPEG is [Pipeline.Raw] for a JPEG stream.
func (p *Pipeline) JPEG(data, dst []byte) error {
	if err := DecodeJPEG(data, &p.source); err != nil {
		return fmt.Errorf("camera %q: %w", p.cam.Name, err)
	}
	return p.run(p.source, dst)
}

// Compressed is [Pipeline.Raw] for a stream that is JPEG or PNG, told apart by
// its first bytes; the format field of ROS messages is written too freely to
// rely on. PNG allocates.
func (p *Pipeline) Compressed(data, dst []byte) error {
	switch {
	case isJPEG(data):
		return p.JPEG(data, dst)
	case isPNG(data):
		if err := decodePNG(data, &p.source); err != nil {
			return fmt.Errorf("camera %q: %w", p.cam.Name, err)
		}
		return p.run(p.source, dst)
	}
	return fmt.Errorf("camera %q: %w of %d bytes starts with % x: neither JPEG nor PNG", p.cam.Name, ErrImage, len(data), data[:min(len(data), 4)])
}

// run applies the recipe to in, which may lie in p.source or belong to the
// caller and is not changed.
func (p *Pipeline) run(in Pixels, dst []byte) error {
	if want := 3 * p.cam.Resize.Width * p.cam.Resize.Height; len(dst) != want {
		return fmt.Errorf("camera %q: room for %d bytes, the model's image has %d", p.cam.Name, len(dst), want)
	}
	if p.cam.Rotation == 180 {
		p.turned.resize(in.Width, in.Height)
		turn(p.turned.RGB, in.RGB)
		in = p.turned
	}
	if p.pre != nil {
		p.resized.resize(p.pre.target.Width, p.pre.target.Height)
		p.pre.run(in, p.resized.RGB)
		in = p.resized
	}
	if q := p.cam.JPEGQuality; q > 0 {
		var err error
		if p.stream, err = EncodeJPEG(p.stream, in, q); err != nil {
			return fmt.Errorf("camera %q: %w", p.cam.Name, err)
		}
		if err := DecodeJPEG(p.stream, &p.decoded); err != nil {
			return fmt.Errorf("camera %q: %w", p.cam.Name, err)
		}
		in = p.decoded
	}
	if p.crop == nil {
		p.final.run(in, dst)
		return nil
	}
	p.uncropped.resize(p.cam.Resize.Width, p.cam.Resize.Height)
	p.final.run(in, p.uncropped.RGB)
	p.crop.run(p.uncropped.RGB, dst)
	return nil
}

// turn copies packed pixels from src to dst in reverse order: a rotation by 180
// degrees.
func turn(dst, src []byte) {
	for i, at := 0, len(src)-3; at >= 0; i, at = i+3, at-3 {
		d, s := dst[at:at+3:at+3], src[i:i+3:i+3]
		d[0], d[1], d[2] = s[0], s[1], s[2]
	}
}

// resampler resizes to a fixed target and keeps the weights for the size of the
// picture before.
type resampler struct {
	target        bundle.Resize
	width, height int // the source size that the weights are for

	floatX, floatY floatWeights
	lines          []float32
	fixedX, fixedY fixedWeights
	rows           []byte // between the two fixed-point passes
}

func (r *resampler) run(in Pixels, dst []byte) {
	w, h := r.target.Width, r.target.Height
	if in.Width == w && in.Height == h {
		copy(dst, in.RGB)
		return
	}
	if in.Width != r.width || in.Height != r.height {
		r.width, r.height = in.Width, in.Height
		if r.target.Filter == bundle.Bicubic {
			r.fixedX, r.fixedY = bicubicWeights(in.Width, w), bicubicWeights(in.Height, h)
			r.rows = slices.Grow(r.rows[:0], 3*w*in.Height)[:3*w*in.Height]
		} else {
			r.floatX, r.floatY = lanczosWeights(in.Width, w), lanczosWeights(in.Height, h)
			r.lines = make([]float32, (1+r.floatY.span)*padded(3*in.Width))
		}
	}
	if r.target.Filter == bundle.Bicubic {
		resizeFixed(in, r, dst)
	} else {
		resizeFloat(in, r, dst)
	}
}
