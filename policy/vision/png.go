package vision

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
)

func isJPEG(data []byte) bool { return bytes.HasPrefix(data, []byte("\xff\xd8\xff")) }

func isPNG(data []byte) bool { return bytes.HasPrefix(data, []byte("\x89PNG\r\n\x1a\n")) }

// decodePNG reads a PNG, which some drivers send for lossless colour; alpha is
// dropped, 16-bit samples lose their low byte; 16-bit grey, which is depth, is refused.
func decodePNG(data []byte, p *Pixels) error {
	head, err := png.DecodeConfig(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: PNG: %w", ErrImage, err)
	}
	if err := checkSize(head.Width, head.Height); err != nil {
		return fmt.Errorf("PNG: %w", err)
	}
	if head.ColorModel == color.Gray16Model {
		return fmt.Errorf("%w: PNG of 16-bit grey, as depth pictures are; choose the topic of the colour stream", ErrImage)
	}
	img, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: PNG: %w", ErrImage, err)
	}
	p.resize(head.Width, head.Height)
	i := 0
	put := func(r, g, b byte) {
		p.RGB[i], p.RGB[i+1], p.RGB[i+2] = r, g, b
		i += 3
	}
	bounds := img.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			switch m := img.(type) {
			case *image.RGBA:
				c := m.RGBAAt(x, y)
				put(c.R, c.G, c.B)
			case *image.NRGBA: // colour as stored, not multiplied by its alpha
				c := m.NRGBAAt(x, y)
				put(c.R, c.G, c.B)
			case *image.NRGBA64:
				c := m.NRGBA64At(x, y)
				put(byte(c.R>>8), byte(c.G>>8), byte(c.B>>8))
			case *image.Paletted:
				c := color.NRGBAModel.Convert(m.At(x, y)).(color.NRGBA)
				put(c.R, c.G, c.B)
			default:
				r, g, b, _ := img.At(x, y).RGBA()
				put(byte(r>>8), byte(g>>8), byte(b>>8))
			}
		}
	}
	return nil
}
