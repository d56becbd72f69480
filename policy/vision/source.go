package vision

import "fmt"

// Raw is an uncompressed picture as a camera sends it, with the fields of
// sensor_msgs/msg/Image. Data is only read, and only during the call.
type Raw struct {
	// Encoding is a name of sensor_msgs/image_encodings.hpp: rgb8, bgr8, rgba8,
	// bgra8, mono8, yuv422_yuy2 (also yuyv), yuv422 (also uyvy).
	Encoding string
	// Width and Height in pixels.
	Width, Height int
	// Step is the length of a row in bytes, padding included.
	Step int
	// Data holds Step*Height bytes.
	Data []byte
}

// colours are the encodings that name a colour or grey picture without doubt;
// "8UC3" and the like do not tell the order of the channels.
const colours = "rgb8, bgr8, rgba8, bgra8, mono8, yuv422_yuy2 (yuyv), yuv422 (uyvy)"

// layout is how pixels lie in memory: groups of unit pixels in bytes bytes.
type layout struct{ unit, bytes int }

func layoutOf(encoding string) (layout, bool) {
	switch encoding {
	case "rgb8", "bgr8":
		return layout{1, 3}, true
	case "rgba8", "bgra8":
		return layout{1, 4}, true
	case "mono8":
		return layout{1, 1}, true
	case "yuv422_yuy2", "yuyv", "yuv422", "uyvy":
		return layout{2, 4}, true
	}
	return layout{}, false
}

// convertRow turns one row of a known encoding into packed RGB.
func convertRow(encoding string, dst, src []byte) {
	switch encoding {
	case "rgb8":
		copy(dst, src)
	case "bgr8":
		pick(dst, src, 3, 2, 1, 0)
	case "rgba8":
		pick(dst, src, 4, 0, 1, 2)
	case "bgra8":
		pick(dst, src, 4, 2, 1, 0)
	case "mono8":
		pick(dst, src, 1, 0, 0, 0)
	case "yuv422_yuy2", "yuyv":
		yuv422(dst, src, 0, 1, 2, 3)
	case "yuv422", "uyvy":
		yuv422(dst, src, 1, 0, 3, 2)
	}
}

// Validate reports whether the picture can be read: a known encoding, and a step
// and data that fit its size. It looks at no pixel.
func (r Raw) Validate() error {
	_, err := r.row()
	return err
}

// row returns the length of a row's pixels in bytes, or why the picture cannot
// be read.
func (r Raw) row() (int, error) {
	e, ok := layoutOf(r.Encoding)
	if !ok {
		return 0, fmt.Errorf("%w encoding %q (step %d) is not a colour picture's that this program reads; have the camera send one of %s", ErrImage, r.Encoding, r.Step, colours)
	}
	if err := checkSize(r.Width, r.Height); err != nil {
		return 0, err
	}
	if r.Width%e.unit != 0 {
		return 0, fmt.Errorf("%w encoding %q comes in groups of %d pixels, the width is %d", ErrImage, r.Encoding, e.unit, r.Width)
	}
	row := r.Width / e.unit * e.bytes
	if r.Step < row {
		return 0, fmt.Errorf("%w step is %d bytes, but %d pixels of %s take %d", ErrImage, r.Step, r.Width, r.Encoding, row)
	}
	if len(r.Data)/r.Height != r.Step || len(r.Data)%r.Height != 0 {
		return 0, fmt.Errorf("%w has %d bytes, but height %d times step %d is %d (encoding %s)", ErrImage, len(r.Data), r.Height, r.Step, r.Height*r.Step, r.Encoding)
	}
	return row, nil
}

// pixels returns r as packed RGB: r.Data itself where it already is, else
// converted into buf.
func (r Raw) pixels(buf *Pixels) (Pixels, error) {
	row, err := r.row()
	if err != nil {
		return Pixels{}, err
	}
	if r.Encoding == "rgb8" && r.Step == row {
		return Pixels{Width: r.Width, Height: r.Height, RGB: r.Data}, nil
	}
	buf.resize(r.Width, r.Height)
	for y := range r.Height {
		convertRow(r.Encoding, buf.RGB[y*3*r.Width:(y+1)*3*r.Width], r.Data[y*r.Step:][:row])
	}
	return *buf, nil
}

// pick takes three of the n bytes of each pixel.
func pick(dst, src []byte, n, r, g, b int) {
	for i := 0; i+2 < len(dst); i += 3 {
		s := src[:n]
		dst[i], dst[i+1], dst[i+2] = s[r], s[g], s[b]
		src = src[n:]
	}
}

// yuv422 converts pairs of pixels that share their chroma, by ITU-R BT.601 with
// the video range (Y 16..235), in fixed point with 20 bits.
func yuv422(dst, src []byte, y0, u, y1, v int) {
	const bits, half = 20, 1 << 19
	const (
		luma   = 1220542 // 255/219
		redV   = 1673527 // 1.596
		greenU = -409993 // -0.391
		greenV = -852492 // -0.813
		blueU  = 2116026 // 2.018
	)
	for i := 0; i+5 < len(dst); i += 6 {
		s := src[:4]
		cu, cv := int(s[u])-128, int(s[v])-128
		r, g, b := half+redV*cv, half+greenU*cu+greenV*cv, half+blueU*cu
		a, z := luma*max(int(s[y0])-16, 0), luma*max(int(s[y1])-16, 0)
		dst[i], dst[i+1], dst[i+2] = clamp8((a+r)>>bits), clamp8((a+g)>>bits), clamp8((a+b)>>bits)
		dst[i+3], dst[i+4], dst[i+5] = clamp8((z+r)>>bits), clamp8((z+g)>>bits), clamp8((z+b)>>bits)
		src = src[4:]
	}
}

func clamp8(v int) byte { return byte(min(max(v, 0), 255)) }
