package vision

/*
#cgo pkg-config: libturbojpeg
#cgo noescape ddvla_jpeg_size
#cgo nocallback ddvla_jpeg_size
#cgo noescape ddvla_jpeg_decode
#cgo nocallback ddvla_jpeg_decode
#cgo noescape ddvla_jpeg_encode
#cgo nocallback ddvla_jpeg_encode
#include <string.h>
#include <turbojpeg.h>

typedef struct { char text[256]; } ddvla_message;

// libturbojpeg keeps what it has to say of a damaged stream per thread, so it
// is fetched before the call returns to Go, which may go on in another thread.
static int ddvla_jpeg_result(tjhandle h, int failed, ddvla_message *m) {
	if (failed) strncpy(m->text, tjGetErrorStr2(h), sizeof m->text - 1);
	return failed;
}

typedef struct { int width, height; } ddvla_size;

// Width 0 stands for a header that cannot be read.
static ddvla_size ddvla_jpeg_size(tjhandle h, const unsigned char *data, unsigned long n, ddvla_message *m) {
	ddvla_size s = {0, 0};
	int subsampling, colours;
	if (ddvla_jpeg_result(h, tjDecompressHeader3(h, data, n, &s.width, &s.height, &subsampling, &colours), m)) s.width = 0;
	return s;
}

// The integer DCT and smooth ("fancy") chroma upsampling are what libjpeg does
// unless told otherwise, so Pillow and TensorFlow give the same pixels.
static int ddvla_jpeg_decode(tjhandle h, const unsigned char *data, unsigned long n, unsigned char *rgb, int width, int height, ddvla_message *m) {
	return ddvla_jpeg_result(h, tjDecompress2(h, data, n, rgb, width, 3 * width, height, TJPF_RGB, TJFLAG_ACCURATEDCT | TJFLAG_LIMITSCANS), m);
}

// Returns the length of the stream in out, 0 on error.
static unsigned long ddvla_jpeg_encode(tjhandle h, const unsigned char *rgb, int width, int height, unsigned char *out, unsigned long room, int quality, ddvla_message *m) {
	int failed = tjCompress2(h, rgb, width, 3 * width, height, TJPF_RGB, &out, &room, TJSAMP_420, quality, TJFLAG_ACCURATEDCT | TJFLAG_NOREALLOC);
	return ddvla_jpeg_result(h, failed, m) ? 0 : room;
}
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unsafe"
)

// ErrImage is what every error about the bytes of a picture wraps.
var ErrImage = errors.New("image")

// maxPixels bounds the size that a header may claim before anything is
// allocated for it.
const maxPixels = 64 << 20

// maxSide does the same for thin pictures: resizing works on whole rows and columns.
const maxSide = 1 << 14

// Pixels is a picture of 8-bit RGB, packed, rows from top to bottom.
type Pixels struct {
	Width, Height int
	RGB           []byte // 3*Width*Height bytes
}

// resize makes p a picture of w by h, with undefined content, in the buffer it
// has where that is large enough.
func (p *Pixels) resize(w, h int) {
	p.Width, p.Height = w, h
	p.RGB = slices.Grow(p.RGB[:0], 3*w*h)[:3*w*h]
}

// EncodeJPEG writes p to dst, overwriting what is there, as a baseline JPEG with
// 4:2:0 chroma, and returns the stream: the bytes that Pillow and TensorFlow
// write at that quality (1..100). It does not allocate where dst is as large as
// the stream may become, so pass the last result again.
func EncodeJPEG(dst []byte, p Pixels, quality int) ([]byte, error) {
	if quality < 1 || quality > 100 {
		return nil, fmt.Errorf("JPEG quality %d is not in 1..100", quality)
	}
	if err := checkSize(p.Width, p.Height); err != nil {
		return nil, fmt.Errorf("to JPEG: %w", err)
	}
	if len(p.RGB) != 3*p.Width*p.Height {
		return nil, fmt.Errorf("%w of %dx%d needs %d bytes of RGB, has %d", ErrImage, p.Width, p.Height, 3*p.Width*p.Height, len(p.RGB))
	}
	h := C.tjInitCompress()
	if h == nil {
		return nil, errors.New("libturbojpeg: no memory for a compressor")
	}
	defer C.tjDestroy(h)
	room := int(C.tjBufSize(C.int(p.Width), C.int(p.Height), C.TJSAMP_420))
	dst = slices.Grow(dst[:0], room)[:room]
	var message C.ddvla_message
	n := C.ddvla_jpeg_encode(h, bytePtr(p.RGB), C.int(p.Width), C.int(p.Height), bytePtr(dst), C.ulong(room), C.int(quality), &message)
	if n == 0 {
		return nil, fmt.Errorf("%w %dx%d to JPEG: %s", ErrImage, p.Width, p.Height, said(message))
	}
	return dst[:n], nil
}

// DecodeJPEG reads a JPEG stream (baseline or progressive, colour or grey) into
// p, whose buffer it reuses. A damaged or truncated stream is an error, since the
// grey area that decoders leave would be taken for the scene; so is a header
// that claims more than 64 megapixels.
func DecodeJPEG(data []byte, p *Pixels) error {
	if len(data) == 0 {
		return fmt.Errorf("%w: JPEG of 0 bytes", ErrImage)
	}
	h := C.tjInitDecompress()
	if h == nil {
		return errors.New("libturbojpeg: no memory for a decompressor")
	}
	defer C.tjDestroy(h)
	var message C.ddvla_message
	size := C.ddvla_jpeg_size(h, bytePtr(data), C.ulong(len(data)), &message)
	if size.width == 0 {
		return fmt.Errorf("%w: JPEG of %d bytes: %s", ErrImage, len(data), said(message))
	}
	width, height := int(size.width), int(size.height)
	if err := checkSize(width, height); err != nil {
		return fmt.Errorf("JPEG: %w", err)
	}
	p.resize(width, height)
	if C.ddvla_jpeg_decode(h, bytePtr(data), C.ulong(len(data)), bytePtr(p.RGB), size.width, size.height, &message) != 0 {
		return fmt.Errorf("%w: JPEG of %dx%d in %d bytes: %s", ErrImage, width, height, len(data), said(message))
	}
	return nil
}

func checkSize(width, height int) error {
	if width <= 0 || height <= 0 {
		return fmt.Errorf("%w is %dx%d, which has no pixels", ErrImage, width, height)
	}
	if width > maxPixels/height {
		return fmt.Errorf("%w is %dx%d, the limit is %d megapixels", ErrImage, width, height, maxPixels>>20)
	}
	if max(width, height) > maxSide {
		return fmt.Errorf("%w is %dx%d, the limit is %d pixels a side", ErrImage, width, height, maxSide)
	}
	return nil
}

// said reads a message without letting it escape to the heap, where each call
// would put one.
func said(m C.ddvla_message) string {
	text := unsafe.Slice((*byte)(unsafe.Pointer(&m.text)), len(m.text))
	if end := bytes.IndexByte(text, 0); end >= 0 {
		text = text[:end]
	}
	return string(text)
}

func bytePtr(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }
