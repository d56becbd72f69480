package vision

import (
	"bytes"
	"encoding/binary"
	"errors"
	"image"
	"image/png"
	"strings"
	"testing"

	"github.com/ddvla/ddvla/policy/bundle"
)

func TestBadPicturesAreNamed(t *testing.T) {
	p, err := New(recipe(64, 95))
	if err != nil {
		t.Fatal(err)
	}
	photo := photographs(t)["head"]
	huge := bytes.Clone(photo)
	at := bytes.Index(huge, []byte{0xff, 0xc0}) // start of frame: length, precision, height, width
	binary.BigEndian.PutUint16(huge[at+5:], 65500)
	binary.BigEndian.PutUint16(huge[at+7:], 65500)
	damaged := bytes.Clone(photo)
	copy(damaged[len(damaged)/2:], make([]byte, 4000))
	var depth bytes.Buffer
	if err := png.Encode(&depth, image.NewGray16(image.Rect(0, 0, 8, 8))); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 480*1920)
	dst := make([]byte, 3*64*64)
	for name, c := range map[string]struct {
		err  error
		want []string
	}{
		"unknown encoding":     {p.Raw(Raw{"16UC1", 640, 480, 1280, data}, dst), []string{"16UC1", "rgb8, bgr8", "step 1280"}},
		"ambiguous encoding":   {p.Raw(Raw{"8UC3", 640, 480, 1920, data}, dst), []string{"8UC3"}},
		"no encoding":          {p.Raw(Raw{"", 640, 480, 1920, data}, dst), []string{`encoding ""`}},
		"step below width":     {p.Raw(Raw{"rgb8", 640, 480, 1919, data}, dst), []string{"step is 1919", "640 pixels of rgb8 take 1920"}},
		"step beyond data":     {p.Raw(Raw{"bgr8", 640, 480, 1924, data}, dst), []string{"921600 bytes", "480 times step 1924", "bgr8"}},
		"height beyond data":   {p.Raw(Raw{"rgb8", 640, 481, 1920, data}, dst), []string{"height 481 times step 1920"}},
		"height below data":    {p.Raw(Raw{"rgb8", 640, 479, 1920, data}, dst), []string{"height 479 times step 1920"}},
		"no data":              {p.Raw(Raw{"rgb8", 640, 480, 1920, nil}, dst), []string{"0 bytes"}},
		"no pixels":            {p.Raw(Raw{"rgb8", 0, 480, 1920, data}, dst), []string{"0x480"}},
		"negative":             {p.Raw(Raw{"rgb8", 640, -480, 1920, data}, dst), []string{"640x-480"}},
		"product overflows":    {p.Raw(Raw{"rgb8", 1 << 32, 1 << 32, 1 << 40, data}, dst), []string{"megapixels"}},
		"odd width of pairs":   {p.Raw(Raw{"yuyv", 641, 480, 1920, data}, dst), []string{"groups of 2", "641"}},
		"little room":          {p.Raw(Raw{"rgb8", 640, 480, 1920, data}, dst[:5]), []string{"room for 5 bytes", "12288"}},
		"empty JPEG":           {p.JPEG(nil, dst), []string{"0 bytes"}},
		"truncated JPEG":       {p.JPEG(photo[:len(photo)-200], dst), []string{"640x480", "remature end"}},
		"damaged JPEG":         {p.JPEG(damaged, dst), []string{"640x480", "orrupt"}},
		"JPEG header only":     {p.JPEG(photo[:100], dst), []string{"100 bytes"}},
		"JPEG of 4 gigapixels": {p.JPEG(huge, dst), []string{"65500x65500", "64 megapixels"}},
		"neither JPEG nor PNG": {p.Compressed([]byte("RIFF and so on"), dst), []string{"52 49 46 46", "neither JPEG nor PNG"}},
		"nothing":              {p.Compressed(nil, dst), []string{"0 bytes"}},
		"thin":                 {p.Raw(Raw{"mono8", 1, 1 << 26, 1, nil}, dst), []string{"1x67108864", "16384 pixels a side"}},
		"depth as PNG":         {p.Compressed(depth.Bytes(), dst), []string{"16-bit grey", "depth"}},
		"PNG header only":      {p.Compressed([]byte("\x89PNG\r\n\x1a\n"), dst), []string{"PNG"}},
	} {
		if c.err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		if name != "little room" && !errors.Is(c.err, ErrImage) {
			t.Errorf("%s: %v does not wrap ErrImage", name, c.err)
		}
		for _, want := range append(c.want, `camera "head"`) {
			if !strings.Contains(c.err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", name, c.err, want)
			}
		}
	}
	if err := p.JPEG(photo, dst); err != nil {
		t.Errorf("after the bad ones a good picture fails: %v", err)
	}
}

func TestBadRecipesAreNamed(t *testing.T) {
	for want, change := range map[string]func(*bundle.Camera){
		"rotation is 90":      func(c *bundle.Camera) { c.Rotation = 90 },
		"JPEG quality is 101": func(c *bundle.Camera) { c.JPEGQuality = 101 },
		"crop area is 0":      func(c *bundle.Camera) { c.CropArea = 0 },
		`filter is "area"`:    func(c *bundle.Camera) { c.Resize.Filter = "area" },
		"0x5":                 func(c *bundle.Camera) { c.PreResize = &bundle.Resize{Height: 5, Filter: bundle.Bicubic} },
	} {
		cam := recipe(64, 95)
		change(&cam)
		if _, err := New(cam); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, must say %q", err, want)
		}
	}
	if _, err := EncodeJPEG(nil, Pixels{Width: 2, Height: 2, RGB: make([]byte, 11)}, 95); err == nil {
		t.Error("EncodeJPEG takes a picture with too few bytes")
	}
	if _, err := EncodeJPEG(nil, Pixels{Width: 2, Height: 2, RGB: make([]byte, 12)}, 0); err == nil {
		t.Error("EncodeJPEG takes quality 0")
	}
}

func TestPicturesCostNoAllocation(t *testing.T) {
	stream := photographs(t)["head"]
	picture := decoded(t, stream)
	cam := recipe(224, 95)
	cam.Rotation = 180
	cam.PreResize = &bundle.Resize{Width: 256, Height: 256, Filter: bundle.Bicubic}
	for _, cam := range []bundle.Camera{recipe(224, 95), recipe(64, 0), cam} {
		p, err := New(cam)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 3*cam.Resize.Width*cam.Resize.Height)
		for _, encoding := range []string{"rgb8", "bgr8"} {
			raw := Raw{Encoding: encoding, Width: 640, Height: 480, Step: 1920, Data: picture.RGB}
			if n := testing.AllocsPerRun(3, func() { err = errors.Join(err, p.Raw(raw, dst)) }); n != 0 {
				t.Errorf("%s: %v allocations a picture", encoding, n)
			}
		}
		if n := testing.AllocsPerRun(3, func() { err = errors.Join(err, p.JPEG(stream, dst)) }); n != 0 {
			t.Errorf("JPEG: %v allocations a picture", n)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzCompressed(f *testing.F) {
	for _, stream := range photographs(f) {
		f.Add(stream[:3000])
	}
	small, err := EncodeJPEG(nil, scene(f, 33, 17), 95)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(small)
	f.Add([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x02\x00\x00\x00\x90wS\xde"))
	p, err := New(recipe(16, 95))
	if err != nil {
		f.Fatal(err)
	}
	dst := make([]byte, 3*16*16)
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := p.Compressed(data, dst); err != nil && !errors.Is(err, ErrImage) {
			t.Errorf("error %v does not wrap ErrImage", err)
		}
	})
}

func FuzzRaw(f *testing.F) {
	for _, encoding := range []string{"rgb8", "bgr8", "rgba8", "bgra8", "mono8", "yuyv", "uyvy", "yuv422", "16UC1"} {
		f.Add(encoding, 2, 3, 9, make([]byte, 27))
		f.Add(encoding, 1<<40, 1<<24, 1<<62, []byte{1})
	}
	p, err := New(recipe(16, 0))
	if err != nil {
		f.Fatal(err)
	}
	dst := make([]byte, 3*16*16)
	f.Fuzz(func(t *testing.T, encoding string, width, height, step int, data []byte) {
		if err := p.Raw(Raw{encoding, width, height, step, data}, dst); err != nil && !errors.Is(err, ErrImage) {
			t.Errorf("error %v does not wrap ErrImage", err)
		}
	})
}
