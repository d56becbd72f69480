package vision

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/ddvla/ddvla/internal/pytest"
	"github.com/ddvla/ddvla/policy/bundle"
	"pgregory.net/rapid"
)

func photographs(t testing.TB) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, name := range []string{"head", "left", "right"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".jpg"))
		if err != nil {
			t.Fatal(err)
		}
		out[name] = data
	}
	return out
}

func reference(t testing.TB, in []byte, operation string, width, height int, args ...string) []byte {
	t.Helper()
	all := append([]string{operation, strconv.Itoa(width), strconv.Itoa(height)}, args...)
	return pytest.Run(t, in, "testdata/reference.py", all...)
}

func decoded(t testing.TB, stream []byte) Pixels {
	t.Helper()
	var p Pixels
	if err := DecodeJPEG(stream, &p); err != nil {
		t.Fatal(err)
	}
	return p
}

// scene cuts a picture of any size out of a photograph.
func scene(t testing.TB, width, height int) Pixels {
	photo := decoded(t, photographs(t)["head"])
	p := Pixels{Width: width, Height: height}
	for y := range height {
		row := photo.RGB[(y%photo.Height)*3*photo.Width:]
		p.RGB = append(p.RGB, row[:3*width]...)
	}
	return p
}

// compare fails where the pictures differ by more than most, or at more than
// share of the samples.
func compare(t *testing.T, got, want []byte, most int, share float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d bytes, the reference has %d", len(got), len(want))
	}
	differ, worst := 0, 0
	for i := range got {
		if d := int(got[i]) - int(want[i]); d != 0 {
			differ++
			worst = max(worst, d, -d)
		}
	}
	t.Logf("%d of %d samples differ, by at most %d", differ, len(got), worst)
	if worst > most || float64(differ) > share*float64(len(got)) {
		t.Errorf("%d of %d samples differ, by up to %d; allowed: a share of %g, by %d", differ, len(got), worst, share, most)
	}
}

// The share of samples that may round the other way where the reference adds the
// same float32 products in another order.
const rounding = 1e-3

func TestLanczosIsTensorFlows(t *testing.T) {
	for _, c := range []struct{ w, h, outW, outH int }{
		{640, 480, 224, 224}, {640, 480, 64, 64}, {256, 256, 224, 224}, {333, 479, 224, 224},
		{97, 61, 224, 224}, // enlarged
		{640, 400, 100, 37}, {5, 3, 16, 16}, {1, 1, 8, 8},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			in := scene(t, c.w, c.h)
			r := resampler{target: bundle.Resize{Width: c.outW, Height: c.outH, Filter: bundle.Lanczos3}}
			got := make([]byte, 3*c.outW*c.outH)
			r.run(in, got)
			size := []string{strconv.Itoa(c.outW), strconv.Itoa(c.outH)}
			compare(t, got, reference(t, in.RGB, "tf_lanczos", c.w, c.h, size...), 1, rounding)
			if c.outW == 64 || c.w == 97 {
				return
			}
			// The same kernel by other people, with float64 weights.
			compare(t, got, reference(t, in.RGB, "pillow_lanczos", c.w, c.h, size...), 1, rounding)
		})
	}
}

func TestBicubicIsPillows(t *testing.T) {
	for _, c := range []struct{ w, h, outW, outH int }{
		{640, 480, 256, 256}, {640, 480, 640, 256}, {640, 480, 256, 480}, {97, 61, 224, 224}, {333, 479, 77, 500}, {2, 1, 9, 9},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			in := scene(t, c.w, c.h)
			r := resampler{target: bundle.Resize{Width: c.outW, Height: c.outH, Filter: bundle.Bicubic}}
			got := make([]byte, 3*c.outW*c.outH)
			r.run(in, got)
			compare(t, got, reference(t, in.RGB, "pillow_bicubic", c.w, c.h, strconv.Itoa(c.outW), strconv.Itoa(c.outH)), 0, 0)
		})
	}
}

func TestCentreCropIsTensorFlows(t *testing.T) {
	for _, c := range []struct {
		side int
		area float64
	}{{224, 0.9}, {64, 0.9}, {224, 0.5}, {17, 0.81}, {224, 0.999}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			in := scene(t, c.side, c.side)
			got := make([]byte, len(in.RGB))
			newBilinear(c.side, c.side, c.area).run(in.RGB, got)
			compare(t, got, reference(t, in.RGB, "crop", c.side, c.side, fmt.Sprint(c.area)), 1, rounding)
		})
	}
}

func TestJPEGIsPillowsToTheByte(t *testing.T) {
	for name, stream := range photographs(t) {
		p := decoded(t, stream)
		compare(t, p.RGB, reference(t, stream, "decode", 0, 0), 0, 0)
		qualities := []int{95}
		if name == "head" {
			qualities = []int{95, 50}
		}
		for _, quality := range qualities {
			got, err := EncodeJPEG(nil, p, quality)
			if err != nil {
				t.Fatal(err)
			}
			want := reference(t, p.RGB, "encode", p.Width, p.Height, strconv.Itoa(quality))
			if !bytes.Equal(got, want) {
				t.Errorf("%s: quality %d: %d bytes of JPEG differ from Pillow's %d", name, quality, len(got), len(want))
			}
			compare(t, decoded(t, got).RGB, reference(t, want, "decode", 0, 0), 0, 0)
		}
	}
	odd := scene(t, 333, 217) // blocks that hang over the border
	got, err := EncodeJPEG(nil, odd, 95)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, decoded(t, got).RGB, reference(t, reference(t, odd.RGB, "encode", 333, 217, "95"), "decode", 0, 0), 0, 0)
}

func TestWholeRecipeOnPhotographs(t *testing.T) {
	aloha := recipe(224, 95)
	aloha.PreResize = &bundle.Resize{Width: 256, Height: 256, Filter: bundle.Bicubic}
	libero := recipe(224, 95)
	libero.Rotation = 180
	plain := recipe(64, 0)
	plain.CropArea = 1
	for name, stream := range photographs(t) {
		cams := []bundle.Camera{recipe(224, 95)}
		if name == "head" {
			cams = append(cams, recipe(64, 95), aloha, libero, plain)
		}
		for _, cam := range cams {
			p, err := New(cam)
			if err != nil {
				t.Fatal(err)
			}
			got := make([]byte, 3*cam.Resize.Width*cam.Resize.Height)
			if err := p.Compressed(stream, got); err != nil {
				t.Fatal(err)
			}
			pre := 0
			if cam.PreResize != nil {
				pre = cam.PreResize.Width
			}
			want := reference(t, stream, "recipe", 0, 0, strconv.Itoa(cam.Rotation), strconv.Itoa(pre),
				strconv.Itoa(cam.JPEGQuality), strconv.Itoa(cam.Resize.Width), fmt.Sprint(cam.CropArea))
			t.Logf("%s, rotation %d, pre-resize %d, quality %d, size %d", name, cam.Rotation, pre, cam.JPEGQuality, cam.Resize.Width)
			compare(t, got, want, 1, rounding)
		}
	}
}

func TestEncodingsGiveTheSamePicture(t *testing.T) {
	photo := scene(t, 200, 120)
	want := make([]byte, 3*64*64)
	run := func(t *testing.T, raw Raw) []byte {
		t.Helper()
		p, err := New(recipe(64, 0))
		if err != nil {
			t.Fatal(err)
		}
		got := bytes.Repeat([]byte{7}, 3*64*64)
		before := bytes.Clone(raw.Data)
		if err := p.Raw(raw, got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(before, raw.Data) {
			t.Error("the camera's bytes were changed")
		}
		return got
	}
	copy(want, run(t, Raw{"rgb8", 200, 120, 600, photo.RGB}))
	for _, c := range []struct {
		encoding string
		pixel    func(r, g, b byte) []byte
	}{
		{"rgb8", func(r, g, b byte) []byte { return []byte{r, g, b} }},
		{"bgr8", func(r, g, b byte) []byte { return []byte{b, g, r} }},
		{"rgba8", func(r, g, b byte) []byte { return []byte{r, g, b, 9} }},
		{"bgra8", func(r, g, b byte) []byte { return []byte{b, g, r, 9} }},
	} {
		for _, padding := range []int{0, 5} {
			raw := Raw{Encoding: c.encoding, Width: 200, Height: 120}
			for i := 0; i < len(photo.RGB); i += 3 {
				raw.Data = append(raw.Data, c.pixel(photo.RGB[i], photo.RGB[i+1], photo.RGB[i+2])...)
				if (i/3+1)%200 == 0 {
					raw.Data = append(raw.Data, make([]byte, padding)...)
				}
			}
			raw.Step = len(raw.Data) / 120
			if !bytes.Equal(run(t, raw), want) {
				t.Errorf("%s with %d bytes of padding gives another picture", c.encoding, padding)
			}
		}
	}
	var buf bytes.Buffer
	img := image.NewNRGBA(image.Rect(0, 0, 200, 120))
	for i := 0; i < len(photo.RGB); i += 3 {
		img.SetNRGBA(i/3%200, i/3/200, color.NRGBA{photo.RGB[i], photo.RGB[i+1], photo.RGB[i+2], 200})
	}
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	p, err := New(recipe(64, 0))
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := p.Compressed(buf.Bytes(), got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("PNG gives another picture")
	}
}

// Colours of a palette come as they are stored, however transparent.
func TestPNGWithATransparentPalette(t *testing.T) {
	img := image.NewPaletted(image.Rect(0, 0, 3, 1), color.Palette{
		color.NRGBA{200, 100, 50, 255}, color.NRGBA{10, 220, 30, 128}, color.NRGBA{40, 50, 60, 1},
	})
	copy(img.Pix, []byte{0, 1, 2})
	var buf bytes.Buffer
	if err := png.Encode(&buf, img); err != nil {
		t.Fatal(err)
	}
	var p Pixels
	if err := decodePNG(buf.Bytes(), &p); err != nil {
		t.Fatal(err)
	}
	if want := []byte{200, 100, 50, 10, 220, 30, 40, 50, 60}; !bytes.Equal(p.RGB, want) {
		t.Errorf("%v, want %v", p.RGB, want)
	}
}

func TestGreyAndYUV(t *testing.T) {
	photo := scene(t, 640, 100)
	for _, c := range []struct {
		encoding string
		order    []string // where Y0, U, Y1, V lie
	}{{"yuv422_yuy2", []string{"0", "1", "2", "3"}}, {"uyvy", []string{"1", "0", "3", "2"}}} {
		raw := Raw{Encoding: c.encoding, Width: 640, Height: 100, Step: 1280, Data: photo.RGB[:128000]}
		var buf Pixels
		got, err := raw.pixels(&buf)
		if err != nil {
			t.Fatal(err)
		}
		compare(t, got.RGB, reference(t, raw.Data, "yuv", 640, 100, c.order...), 1, 0.05)
	}
	var buf Pixels
	got, err := Raw{Encoding: "mono8", Width: 3, Height: 2, Step: 4, Data: []byte{1, 2, 3, 0, 4, 5, 6, 0}}.pixels(&buf)
	if err != nil {
		t.Fatal(err)
	}
	if want := []byte{1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5, 5, 6, 6, 6}; !bytes.Equal(got.RGB, want) {
		t.Errorf("mono8 gives %v, want %v", got.RGB, want)
	}
}

// A constant picture stays that constant at any size and under any recipe
// without JPEG.
func TestConstantPicturesStay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w, h := rapid.IntRange(1, 90).Draw(t, "w"), rapid.IntRange(1, 90).Draw(t, "h")
		size := rapid.IntRange(1, 90).Draw(t, "size")
		level := rapid.Byte().Draw(t, "level")
		cam := recipe(size, 0)
		cam.CropArea = rapid.Float64Range(0.05, 1).Draw(t, "area")
		cam.Rotation = rapid.SampledFrom([]int{0, 180}).Draw(t, "rotation")
		cam.Resize.Filter = rapid.SampledFrom([]bundle.Filter{bundle.Lanczos3, bundle.Bicubic}).Draw(t, "filter")
		if rapid.Bool().Draw(t, "pre") {
			cam.PreResize = &bundle.Resize{Width: rapid.IntRange(1, 90).Draw(t, "pw"), Height: 31, Filter: bundle.Bicubic}
		}
		p, err := New(cam)
		if err != nil {
			t.Fatal(err)
		}
		dst := make([]byte, 3*size*size)
		raw := Raw{Encoding: "rgb8", Width: w, Height: h, Step: 3 * w, Data: bytes.Repeat([]byte{level}, 3*w*h)}
		if err := p.Raw(raw, dst); err != nil {
			t.Fatal(err)
		}
		for i, v := range dst {
			if v != level {
				t.Fatalf("sample %d is %d, want %d everywhere", i, v, level)
			}
		}
	})
}
