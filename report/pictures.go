package report

import (
	"bytes"
	"fmt"
	"image"
	_ "image/jpeg" // sizes of compressed pictures
	_ "image/png"
	"time"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/vision"
)

// What a picture is scaled to, and its JPEG quality.
const (
	pictureWidth   = 320 // pixels, at most
	pictureHeight  = 320
	pictureQuality = 75
)

// Pictures scales the cameras' pictures down, as they come: without the turning and
// cropping that the model's get. The zero value is ready; it is for one goroutine.
type Pictures struct {
	pipelines map[bundle.Resize]*vision.Pipeline
	rgb       []byte
}

// Raw makes a picture of an uncompressed one.
func (p *Pictures) Raw(camera string, stamp time.Time, raw vision.Raw) (Picture, error) {
	return p.make(camera, stamp, raw.Width, raw.Height, func(to *vision.Pipeline, dst []byte) error { return to.Raw(raw, dst) })
}

// Compressed makes a picture of a JPEG or PNG stream.
func (p *Pictures) Compressed(camera string, stamp time.Time, data []byte) (Picture, error) {
	c, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return Picture{}, fmt.Errorf("picture of camera %q: %w", camera, err)
	}
	return p.make(camera, stamp, c.Width, c.Height, func(to *vision.Pipeline, dst []byte) error { return to.Compressed(data, dst) })
}

func (p *Pictures) make(camera string, stamp time.Time, width, height int, scale func(*vision.Pipeline, []byte) error) (Picture, error) {
	if width < 1 || height < 1 {
		return Picture{}, fmt.Errorf("picture of camera %q: it is %d x %d", camera, width, height)
	}
	factor := min(1, float64(pictureWidth)/float64(width), float64(pictureHeight)/float64(height))
	size := bundle.Resize{
		Width: max(int(float64(width)*factor+0.5), 1), Height: max(int(float64(height)*factor+0.5), 1), Filter: bundle.Bicubic,
	}
	to := p.pipelines[size]
	if to == nil {
		var err error
		if to, err = vision.New(bundle.Camera{Name: camera, Resize: size, CropArea: 1}); err != nil {
			return Picture{}, err
		}
		if p.pipelines == nil {
			p.pipelines = map[bundle.Resize]*vision.Pipeline{}
		}
		p.pipelines[size] = to
	}
	pixels := vision.Pixels{Width: size.Width, Height: size.Height}
	if n := 3 * size.Width * size.Height; len(p.rgb) < n {
		p.rgb = make([]byte, n)
	}
	pixels.RGB = p.rgb[:3*size.Width*size.Height]
	if err := scale(to, pixels.RGB); err != nil {
		return Picture{}, err
	}
	jpeg, err := vision.EncodeJPEG(nil, pixels, pictureQuality)
	if err != nil {
		return Picture{}, fmt.Errorf("picture of camera %q: %w", camera, err)
	}
	return Picture{Camera: camera, Stamp: stamp, JPEG: bytes.Clone(jpeg), Width: size.Width, Height: size.Height}, nil
}
