package main

import (
	"fmt"
	"image"
	"image/color"
	"strconv"

	"gonum.org/v1/plot/palette"
	"gonum.org/v1/plot/palette/moreland"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/ddvla/ddvla/policy/decode"
)

// traceLayout is where the cells of a trace's picture lie, in pixels: a line for
// each position, those of one action dimension together in the order of the
// chunk's rows, and a column for each round, after one for the start where not
// all was masked then.
type traceLayout struct {
	dims, rows, columns int
	left, top           int // of the first cell
	width, height       int // of a cell
}

// traceGap lies between the cells of two dimensions.
const traceGap = 4

func (c *chunkTrace) layout() (traceLayout, error) {
	l := traceLayout{dims: len(c.names), rows: c.rows(), columns: c.trace.Rounds(), top: 92, width: 26}
	if c.started() > 0 {
		l.columns++
	}
	var style text.Style
	sans(&style, 11)
	for _, name := range c.names {
		l.left = max(l.left, int(style.Width(name))+50)
	}
	// Lines as high as reads well, lower where there are many.
	l.height = min(max(1500/c.trace.Positions, 5), 14)
	if l.size().Y > drawingLimit || l.size().X > drawingLimit {
		return l, fmt.Errorf("a trace of %d tokens in %d dimensions is too large to draw", c.trace.Positions, l.dims)
	}
	return l, nil
}

// cell is where a position's cell of a column lies.
func (l traceLayout) cell(column, position int) image.Rectangle {
	row, dim := position/l.dims, position%l.dims
	x := l.left + column*l.width
	y := l.top + dim*(l.rows*l.height+traceGap) + row*l.height
	return image.Rect(x, y, x+l.width, y+l.height)
}

// size of the picture, whose legend needs some width.
func (l traceLayout) size() image.Point {
	last := l.cell(l.columns-1, l.dims*l.rows-1).Max
	return image.Pt(max(last.X+16, 620), last.Y+14)
}

// confidenceColours go from red, doubtful, to blue, sure.
func confidenceColours() palette.ColorMap {
	m := moreland.SmoothBlueRed()
	m.SetMin(0)
	m.SetMax(1)
	return palette.Reverse(m)
}

// What is masked is white, which no confidence is; the lines between cells are
// grey.
func maskedColour() color.Color  { return color.White }
func betweenColour() color.Color { return color.Gray{Y: 0xd2} }
func markColour() color.Color    { return color.Gray{Y: 0x10} }

// traceCanvas draws in pixels, from the upper left corner.
type traceCanvas struct {
	draw.Canvas
	height  int
	colours palette.ColorMap
}

func (c *traceCanvas) at(x, y float64) vg.Point {
	return vg.Point{X: vg.Length(x), Y: vg.Length(float64(c.height) - y)}
}

func (c *traceCanvas) fill(r image.Rectangle, colour color.Color) {
	x0, y0, x1, y1 := float64(r.Min.X), float64(r.Min.Y), float64(r.Max.X), float64(r.Max.Y)
	c.FillPolygon(colour, []vg.Point{c.at(x0, y0), c.at(x1, y0), c.at(x1, y1), c.at(x0, y1)})
}

// confident fills a cell with the colour of a confidence.
func (c *traceCanvas) confident(r image.Rectangle, confidence float32) {
	colour, err := c.colours.At(min(max(float64(confidence), 0), 1))
	if err != nil {
		colour = markColour() // none is outside the map
	}
	c.fill(r, colour)
}

// dot marks a cell whose position was committed, cross one that was masked again.
func (c *traceCanvas) dot(r image.Rectangle) {
	middle := c.at(float64(r.Min.X+r.Max.X)/2, float64(r.Min.Y+r.Max.Y)/2)
	radius := vg.Length(min(max(float64(r.Dy())/5, 1.2), 2.5))
	c.DrawGlyph(draw.GlyphStyle{Color: markColour(), Radius: radius, Shape: draw.CircleGlyph{}}, middle)
}

func (c *traceCanvas) cross(r image.Rectangle) {
	x, y := float64(r.Min.X+r.Max.X)/2, float64(r.Min.Y+r.Max.Y)/2
	arm := float64(r.Dy())/2 - 1
	style := draw.LineStyle{Color: markColour(), Width: 1.5}
	for _, slope := range []float64{-1, 1} {
		from, to := c.at(x-arm, y-slope*arm), c.at(x+arm, y+slope*arm)
		c.StrokeLine2(style, from.X, from.Y, to.X, to.Y)
	}
}

// label writes a text whose anchor is the middle of its right end, its left end
// or its centre.
func (c *traceCanvas) label(points float64, x, y float64, align text.XAlignment, line string) {
	var style text.Style
	sans(&style, points)
	style.XAlign, style.YAlign = align, text.YCenter
	c.FillText(style, c.at(x, y), line)
}

// draw returns the picture of the trace.
func (c *chunkTrace) draw() (image.Image, error) {
	l, err := c.layout()
	if err != nil {
		return nil, err
	}
	size := l.size()
	// At 72 dots an inch a point is a pixel.
	picture := vgimg.NewWith(vgimg.UseWH(vg.Length(size.X), vg.Length(size.Y)), vgimg.UseDPI(72))
	canvas := &traceCanvas{Canvas: draw.New(picture), height: size.Y, colours: confidenceColours()}
	c.drawHead(canvas, l)
	for dim, name := range c.names {
		group := l.cell(0, dim).Union(l.cell(l.columns-1, (l.rows-1)*l.dims+dim))
		canvas.fill(group.Inset(-1), betweenColour())
		canvas.label(11, 10, float64(group.Min.Y+group.Max.Y)/2, text.XLeft, name)
		c.labelRows(canvas, l, dim)
	}
	first := c.trace.Rounds() - l.columns // -1 with a column for the start
	for column := range l.columns {
		round := first + column
		name := strconv.Itoa(round + 1)
		if round < 0 {
			name = "start"
		}
		cell := l.cell(column, 0)
		canvas.label(9, float64(cell.Min.X+cell.Max.X)/2, float64(l.top-8), text.XCenter, name)
		for i := range c.trace.Positions {
			c.drawCell(canvas, l.cell(column, i), round, i)
		}
	}
	return picture.Image(), nil
}

// drawCell draws what a round did to a position; round -1 is the start.
func (c *chunkTrace) drawCell(canvas *traceCanvas, cell image.Rectangle, round, position int) {
	// A line stays between cells, unless they are very low.
	cell.Max.X--
	if cell.Dy() > 5 {
		cell.Max.Y--
	}
	confidence, committed := c.trace.CommittedAt(round, position)
	if !committed {
		canvas.fill(cell, maskedColour())
	} else {
		canvas.confident(cell, confidence)
	}
	if round < 0 {
		return
	}
	switch c.trace.Change(round, position) {
	case decode.Commits:
		canvas.dot(cell)
	case decode.Remasks:
		canvas.cross(cell)
	}
}

// labelRows numbers the lines of a dimension: all where there is room, else the
// first and the last.
func (c *chunkTrace) labelRows(canvas *traceCanvas, l traceLayout, dim int) {
	for row := range l.rows {
		if l.height < 9 && row != 0 && (row != l.rows-1 || l.rows*l.height < 18) {
			continue
		}
		cell := l.cell(0, row*l.dims+dim)
		canvas.label(8, float64(l.left-6), float64(cell.Min.Y+cell.Max.Y)/2, text.XRight, strconv.Itoa(row+1))
	}
}

// drawHead writes which chunk it is, and the legend.
func (c *chunkTrace) drawHead(canvas *traceCanvas, l traceLayout) {
	var style text.Style
	sans(&style, 12)
	room := vg.Length(l.size().X - 20)
	canvas.label(12, 10, 16, text.XLeft, fit(c.title, style, room))
	sans(&style, 10)
	canvas.label(10, 10, 34, text.XLeft, fit(fmt.Sprintf("%d tokens, %d rows of %d; columns are the %d rounds, lines the chunk's rows of each dimension",
		c.trace.Positions, c.rows(), len(c.names), c.trace.Rounds()), style, room))
	const y = 54
	x := 10
	box := func() image.Rectangle { return image.Rect(x, y-7, x+24, y+7) }
	say := func(line string) {
		canvas.label(10, float64(x), y, text.XLeft, line)
		x += int(style.Width(line)) + 14
	}
	say("committed with confidence 0")
	x -= 8
	for i := range 100 {
		canvas.confident(image.Rect(x+i, y-7, x+i+1, y+7), (float32(i)+0.5)/100)
	}
	x += 106
	say("1")
	canvas.confident(box(), 0.9)
	canvas.dot(box())
	x += 30
	say("in this round")
	canvas.fill(box().Inset(-1), betweenColour())
	canvas.fill(box(), maskedColour())
	x += 30
	say("masked")
	canvas.fill(box().Inset(-1), betweenColour())
	canvas.fill(box(), maskedColour())
	canvas.cross(box())
	x += 30
	say("masked again")
}
