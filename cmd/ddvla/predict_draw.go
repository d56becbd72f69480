package main

import (
	"errors"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"

	"github.com/ddvla/ddvla/policy/bundle"
	"github.com/ddvla/ddvla/policy/decode"
)

// drawingLimit bounds a drawing's sides in pixels.
const drawingLimit = 8192

// drawingSize is the size in pixels that was asked for, as WIDTHxHEIGHT, or one
// in which the model's panels are easily read.
func drawingSize(m *bundle.Manifest, asked string) (width, height int, err error) {
	var dims []predictedDim
	for _, d := range m.Action.Dims {
		dims = append(dims, predictedDim{Arm: d.Arm})
	}
	columns, rows := 0, 0
	for _, group := range byArm(dims) {
		columns++
		rows = max(rows, len(group))
	}
	if asked == "" {
		return min(760*columns, drawingLimit), min(130+175*rows, drawingLimit), nil
	}
	if n, err := fmt.Sscanf(asked+"\n", "%dx%d\n", &width, &height); err != nil || n != 2 {
		return 0, 0, fmt.Errorf("--size is %q, must be WIDTHxHEIGHT in pixels, such as 1600x1200", asked)
	}
	// Less leaves no room for curves between the labels.
	leastWidth, leastHeight := 260*columns, 130+90*rows
	if width < leastWidth || height < leastHeight || width > drawingLimit || height > drawingLimit {
		return 0, 0, fmt.Errorf("--size is %q, must be between %dx%d, to be readable, and %dx%d", asked, leastWidth, leastHeight, drawingLimit, drawingLimit)
	}
	return width, height, nil
}

// draw returns the chunk as small multiples: a column for each arm, a panel for
// each dimension with its curve over the chunk, where the joint is now, and what
// the statistics let the model say as a band.
func (p *prediction) draw(width, height int) image.Image {
	const dpi = 96
	picture := vgimg.NewWith(vgimg.UseWH(vg.Length(width)/dpi*vg.Inch, vg.Length(height)/dpi*vg.Inch), vgimg.UseDPI(dpi))
	canvas := draw.New(picture)
	groups := byArm(p.Dims)
	rows := 0
	for _, group := range groups {
		rows = max(rows, len(group))
	}
	panels := make([][]*plot.Plot, rows)
	for r := range panels {
		panels[r] = make([]*plot.Plot, len(groups))
		for c, group := range groups {
			if r < len(group) {
				panels[r][c] = p.panel(group[r], r == len(group)-1, min(max(height/rows/35, 2), 5))
			}
		}
	}
	const head = 62
	p.drawHead(draw.Crop(canvas, 14, -14, canvas.Max.Y-canvas.Min.Y-head, -10))
	tiles := draw.Tiles{Rows: rows, Cols: len(groups), PadX: 22, PadY: 6}
	body := draw.Crop(canvas, 10, -14, 8, -head)
	for r, row := range plot.Align(panels, tiles, body) {
		for c, at := range row {
			if panels[r][c] != nil {
				panels[r][c].Draw(at)
			}
		}
	}
	return picture.Image()
}

// The drawing's colours.
func curveColour() color.Color { return color.RGBA{R: 0x1f, G: 0x5f, B: 0xa8, A: 0xff} }
func startColour() color.Color { return color.RGBA{R: 0xc8, G: 0x50, B: 0x10, A: 0xff} }
func bandColour() color.Color  { return color.RGBA{R: 0xe6, G: 0xee, B: 0xf6, A: 0xff} }
func gridColour() color.Color  { return color.RGBA{R: 0xc9, G: 0xd0, B: 0xd8, A: 0xff} }

// panel is one dimension's; last is the lowest of its column, which carries the
// time axis's labels, and ticks is for how many there is room on the other axis.
func (p *prediction) panel(i int, last bool, ticks int) *plot.Plot {
	d := p.Dims[i]
	fig := plot.New()
	fig.BackgroundColor = nil
	sans(&fig.Title.TextStyle, 11)
	for _, axis := range []*plot.Axis{&fig.X, &fig.Y} {
		sans(&axis.Label.TextStyle, 10)
		sans(&axis.Tick.Label, 9)
		axis.LineStyle.Color, axis.Tick.LineStyle.Color = gridColour(), gridColour()
		axis.Padding = 0
	}
	fig.Title.Text = d.Name
	fig.Title.Padding = 3
	fig.Y.Label.Text = d.shownUnit()
	if last {
		fig.X.Label.Text = "time from observation (s)"
	} else {
		// The grid goes on to the panel that has the labels.
		fig.X.Tick.Length, fig.X.Tick.Label.Font.Size, fig.X.Tick.Label.Color = 0, 1, color.Transparent
	}

	end := p.Times[len(p.Times)-1]
	low, high := d.Low, d.High
	curve := make(plotter.XYs, len(p.Times))
	for t, at := range p.Times {
		curve[t] = plotter.XY{X: at, Y: p.Values[t][i]}
		low, high = min(low, curve[t].Y), max(high, curve[t].Y)
	}
	if d.Start != nil {
		low, high = min(low, *d.Start), max(high, *d.Start)
	}
	// A constant dimension has a range too.
	margin := max(0.06*(high-low), 1e-3)
	fig.Y.Min, fig.Y.Max = low-margin, high+margin
	fig.X.Min, fig.X.Max = -0.02*end, 1.02*end
	fig.X.Tick.Marker, fig.Y.Tick.Marker = labelledTicks{8}, labelledTicks{ticks}

	band, line, dots, start, lead := marks(curve, d)
	band.XYs[0][0].X, band.XYs[0][3].X = fig.X.Min, fig.X.Min
	band.XYs[0][1].X, band.XYs[0][2].X = fig.X.Max, fig.X.Max
	grid := plotter.NewGrid()
	grid.Horizontal.Color, grid.Vertical.Color = gridColour(), gridColour()
	grid.Horizontal.Width, grid.Vertical.Width = 0.4, 0.4
	fig.Add(band, grid)
	if d.Start != nil {
		fig.Add(lead)
	}
	fig.Add(line, dots)
	if d.Start != nil {
		fig.Add(start)
	}
	// Add widens the axes to the data.
	fig.Y.Min, fig.Y.Max = low-margin, high+margin
	fig.X.Min, fig.X.Max = -0.02*end, 1.02*end
	return fig
}

// marks are a panel's parts, which the legend shows too. The band's corners lie
// at time 0 until the panel moves them to its edges.
func marks(curve plotter.XYs, d predictedDim) (band *plotter.Polygon, line *plotter.Line, dots, start *plotter.Scatter, lead *plotter.Line) {
	band = &plotter.Polygon{XYs: []plotter.XYs{{{Y: d.Low}, {Y: d.Low}, {Y: d.High}, {Y: d.High}}}, Color: bandColour()}
	band.LineStyle.Width = 0
	line = &plotter.Line{XYs: curve, LineStyle: draw.LineStyle{Color: curveColour(), Width: 1.4}}
	dots = &plotter.Scatter{XYs: curve, GlyphStyle: draw.GlyphStyle{Color: curveColour(), Radius: 2, Shape: draw.CircleGlyph{}}}
	at := plotter.XY{}
	if d.Start != nil {
		at.Y = *d.Start
	}
	start = &plotter.Scatter{XYs: plotter.XYs{at}, GlyphStyle: draw.GlyphStyle{Color: startColour(), Radius: 3.2, Shape: draw.CircleGlyph{}}}
	lead = &plotter.Line{XYs: plotter.XYs{at, curve[0]}, LineStyle: draw.LineStyle{Color: startColour(), Width: 1, Dashes: []vg.Length{3, 2}}}
	return band, line, dots, start, lead
}

// drawHead writes what was asked of which policy, and the legend.
func (p *prediction) drawHead(c draw.Canvas) {
	legend := plot.NewLegend()
	sans(&legend.TextStyle, 9)
	legend.Top, legend.ThumbnailWidth, legend.Padding = true, 22, 2
	band, line, dots, start, lead := marks(plotter.XYs{{}}, predictedDim{})
	legend.Add("chunk", line, dots)
	for _, d := range p.Dims {
		if d.Start != nil {
			legend.Add("state now", lead, start)
			break
		}
	}
	legend.Add("range of the statistics", band)
	legend.Draw(c)

	var style text.Style
	sans(&style, 13)
	style.YAlign = text.YTop
	room := c.Max.X - c.Min.X - legend.Rectangle(c).Size().X - 10
	at := vg.Point{X: c.Min.X, Y: c.Max.Y}
	c.FillText(style, at, fit(strings.Join(strings.Fields(p.Instruction), " "), style, room))
	sans(&style, 10)
	at.Y -= 20
	how := fmt.Sprintf("%s, %s, %d rounds", p.Policy, p.Preset, p.Rounds)
	switch {
	case p.Head == bundle.L1Head:
		how = p.Policy + ", L1 head"
	case p.Preset == string(decode.Autoregressive):
		how = p.Policy + ", left to right"
	}
	if p.Confidence != nil {
		how += fmt.Sprintf(", mean confidence %.2f", p.Mean)
	}
	c.FillText(style, at, fit(how, style, room))
	at.Y -= 15
	c.FillText(style, at, fit(fmt.Sprintf("%d rows at %g Hz", len(p.Times), p.ActionRate), style, room))
}

// sans sets a style to the plot library's own sans-serif font.
func sans(s *text.Style, points float64) {
	s.Font = plot.DefaultFont
	s.Font.Variant = "Sans"
	s.Font.Size = vg.Points(points)
	s.Color = color.Gray{Y: 0x26}
	s.Handler = plot.DefaultTextHandler
}

// fit shortens a line to a width.
func fit(line string, style text.Style, width vg.Length) string {
	if style.Width(line) <= width {
		return line
	}
	runes := []rune(line)
	for len(runes) > 0 && style.Width(string(runes)+"...") > width {
		runes = runes[:len(runes)-1]
	}
	return string(runes) + "..."
}

// labelledTicks are round numbers, all labelled, at most most of them.
type labelledTicks struct{ most int }

// Ticks implements plot.Ticker.
func (l labelledTicks) Ticks(low, high float64) []plot.Tick {
	raw := (high - low) / float64(l.most)
	decade := math.Pow(10, math.Floor(math.Log10(raw)))
	step := 10 * decade
	for _, round := range []float64{1, 2, 5} {
		if round*decade >= raw {
			step = round * decade
			break
		}
	}
	decimals := max(0, int(-math.Floor(math.Log10(step)+1e-9)))
	var ticks []plot.Tick
	for k := math.Ceil(low / step); k*step <= high; k++ {
		v := k * step
		if k == 0 {
			v = 0 // not -0
		}
		ticks = append(ticks, plot.Tick{Value: v, Label: strconv.FormatFloat(v, 'f', decimals, 64)})
	}
	return ticks
}

// checkOut refuses a place, given by a flag, where no picture can be put.
func checkOut(flag, path string) error {
	if !strings.EqualFold(filepath.Ext(path), ".png") {
		return fmt.Errorf("%s is %q, must end in .png", flag, path)
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		dir := filepath.Dir(path)
		if info, err = os.Stat(dir); err == nil && !info.IsDir() {
			err = fmt.Errorf("%s is no directory", dir)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", flag, err)
		}
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w", flag, err)
	case info.IsDir():
		return fmt.Errorf("%s is %q, which is a directory; name a file in it", flag, path)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is %q, which is no regular file", flag, path)
	}
	return nil
}

// writePicture writes a PNG, whole or not at all.
func writePicture(path string, img image.Image) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("drawing: %w", err)
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("drawing: %w", errors.Join(err, os.Remove(f.Name())))
		}
	}()
	err = png.Encode(f, img)
	if err == nil {
		err = f.Chmod(0o644) // CreateTemp's is for the owner alone
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
