package main

import (
	"fmt"
	"image"
	"image/color"

	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/ddvla/ddvla/doctor"
)

// contactSheet puts the cameras side by side in the model's order: the name by which
// the model calls each one and its topic, what it sends, and below what the model
// sees of it.
func contactSheet(views []doctor.View) image.Image {
	// One point of the canvas is one pixel.
	const dpi, side, margin, head, foot = vg.Inch, doctor.OriginalWidth, 16, 58, 20
	width := len(views)*(side+margin) + margin
	height := head + doctor.OriginalHeight + foot + side + foot + margin
	picture := vgimg.NewWith(vgimg.UseWH(vg.Length(width), vg.Length(height)), vgimg.UseDPI(int(dpi)))
	canvas := draw.New(picture)
	var style text.Style
	for i, v := range views {
		left, top := vg.Length(margin+i*(side+margin)), vg.Length(height)
		write := func(points float64, y vg.Length, line string) {
			sans(&style, points)
			style.YAlign = text.YTop
			canvas.FillText(style, vg.Point{X: left, Y: y}, fit(line, style, side))
		}
		write(16, top-10, v.Camera)
		write(10, top-32, v.Topic)
		top -= head
		place := func(rgb []byte, w, h int, boxHeight vg.Length) {
			box := vg.Rectangle{Min: vg.Point{X: left, Y: top - boxHeight}, Max: vg.Point{X: left + side, Y: top}}
			if rgb == nil {
				canvas.FillPolygon(color.Gray{Y: 0xdd}, []vg.Point{box.Min, {X: box.Max.X, Y: box.Min.Y}, box.Max, {X: box.Min.X, Y: box.Max.Y}})
				write(10, top-boxHeight/2, v.Reason)
				return
			}
			canvas.DrawImage(box, packed(rgb, w, h))
		}
		place(v.Original, doctor.OriginalWidth, doctor.OriginalHeight, doctor.OriginalHeight)
		top -= doctor.OriginalHeight
		write(10, top-4, "sent: "+v.Encoding)
		top -= foot
		place(v.Model, v.Width, v.Height, side)
		top -= side
		write(10, top-4, fmt.Sprintf("the model sees: %dx%d", v.Width, v.Height))
	}
	return picture.Image()
}

// packed is packed RGB as an image.
func packed(rgb []byte, width, height int) image.Image {
	img := image.NewRGBA(image.Rect(0, 0, width, height))
	for i := range width * height {
		copy(img.Pix[4*i:], rgb[3*i:3*i+3])
		img.Pix[4*i+3] = 0xff
	}
	return img
}
