package eval

import (
	_ "embed"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/ddvla/ddvla/control"
	"github.com/ddvla/ddvla/report"
)

//go:embed page/page.html
var pageText string

//go:embed page/page.css
var pageStyle string

//go:embed page/page.js
var pageScript string

// pageStrips is how many strips the page shows of a task under a perturbation.
const pageStrips = 3

// page is what the template is given. Style and script are this program's own files;
// everything else the template escapes.
type page struct {
	*Results
	Style, OwnStyle template.CSS
	Script          template.JS
	Conditions      string
	Verdicts        []verdict
	Tiles           []tile
	Forest          forest
	Table           []tableRow
	Curves          []curves
	Reasons         []reason
	Strips          []stripFigure
	StripsLeft      int
	Codes           []codeRow
}

type verdict struct{ Level, Text string }

type tile struct{ Name, Value, More string }

type tableRow struct {
	Task  string
	Cells []Cell
}

type reason struct {
	Task, Perturbation, Why string
	Count                   int
}

type codeRow struct {
	Code, Kind, Sentence string
	Count                uint64
	Each                 float64
}

type stripFigure struct {
	Record
	Image                 template.URL
	Frames, Width, Height int
}

// WriteHTML writes the results for a person: one file, light or dark as the reader's
// system is, which loads nothing. dir is the run's, with the strips.
func (r *Results) WriteHTML(w io.Writer, dir fs.FS) error {
	t, err := template.New("page").Funcs(template.FuncMap{
		"bar":    func(share float64) string { return fmt.Sprintf("%.1f%%", 100*share) },
		"figure": func(v float64) string { return figure(v, v != 0) },
		"seconds": func(v float64, n int) string {
			if n == 0 {
				return "–"
			}
			return fmt.Sprintf("%.1f s", v)
		},
		"colour": colour,
	}).Parse(pageText)
	if err != nil {
		return fmt.Errorf("results page: %w", err)
	}
	p := page{
		Results: r, Style: report.Style(), OwnStyle: template.CSS(pageStyle), Script: template.JS(pageScript),
		Conditions: r.conditions(), Verdicts: r.verdicts(), Tiles: r.tiles(), Forest: r.forest(), Curves: r.curves(), Codes: r.codes(),
	}
	for _, task := range r.shown() {
		row := tableRow{Task: taskTitle(task)}
		for _, perturbation := range r.Perturbations {
			c, _ := r.Cell(task, perturbation)
			row.Cells = append(row.Cells, c)
		}
		p.Table = append(p.Table, row)
	}
	for _, c := range r.Cells {
		for _, why := range slices.Sorted(maps.Keys(c.Why)) {
			p.Reasons = append(p.Reasons, reason{c.Task, c.Perturbation, why, c.Why[why]})
		}
	}
	if p.Strips, p.StripsLeft, err = r.strips(dir); err != nil {
		return err
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("results page: %w", err)
	}
	return nil
}

// colour is the class of a perturbation.
func colour(i int) int { return i % 6 }

// shown are the tasks, and all of them together where there are several.
func (r *Results) shown() []string {
	if len(r.Tasks) == 1 {
		return r.Tasks
	}
	return append(slices.Clone(r.Tasks), "")
}

func taskTitle(task string) string {
	if task == "" {
		return "all"
	}
	return task
}

// verdicts are what a reader has to know before the numbers.
func (r *Results) verdicts() (list []verdict) {
	if r.Missing > 0 {
		list = append(list, verdict{"warn", fmt.Sprintf("%d episodes were not run yet.", r.Missing)})
	}
	for _, l := range r.Lost {
		list = append(list, verdict{"bad", fmt.Sprintf("Not run: %s, %s, seed %d: %s", l.Task, l.Perturbation, l.Seed, l.Reason)})
	}
	if len(r.Versions) > 1 {
		list = append(list, verdict{"warn", "The episodes were run by several versions of the program: " + strings.Join(r.Versions, ", ") + "."})
	}
	if r.Setup.Instructions == WrongInstructions {
		list = append(list, verdict{"note", "The arms were told to do something else: a success here is one that the instruction did not ask for."})
	}
	for _, c := range r.Means {
		if c.Failed > 0 {
			list = append(list, verdict{"bad", fmt.Sprintf("%s: %d inferences failed.", c.Perturbation, c.Failed)})
		}
	}
	return list
}

func (r *Results) tiles() (list []tile) {
	for _, c := range r.Means {
		list = append(list, tile{"Success, " + c.Perturbation, fmt.Sprintf("%.0f %%", 100*c.Share), fmt.Sprintf("%d of %d, %.0f to %.0f %%", c.Successes, c.Episodes, 100*c.Low, 100*c.High)})
	}
	first := r.Means[0]
	list = append(list, tile{"Passes a chunk", figure(first.Rounds, first.Rounds > 0), figure(first.Chunks, true) + " chunks an episode"})
	for _, t := range r.Timings {
		if t.Task == "" && t.P50 > 0 {
			list = append(list, tile{"A chunk", figure(t.P50, true) + " ms", "95 %: " + figure(t.P95, true) + " ms, on this machine"})
			break
		}
	}
	return list
}

// codes sums up what the executor told of.
func (r *Results) codes() (list []codeRow) {
	episodes := 0
	sum := map[string]uint64{}
	for _, c := range r.Means {
		episodes += c.Episodes
		for code, n := range c.Codes {
			sum[code] += n
		}
	}
	for code := range control.Codes() {
		code := control.Code(code)
		n := sum[code.String()]
		if n == 0 {
			continue
		}
		row := codeRow{Code: code.String(), Sentence: code.Sentence(), Count: n, Each: float64(n) / float64(episodes)}
		if code.Latched() {
			row.Kind = "stop"
		} else if code.Halts() || code.Drops() {
			row.Kind = "limit"
		}
		list = append(list, row)
	}
	return list
}

// strips are the first failures' of every cell.
func (r *Results) strips(dir fs.FS) (list []stripFigure, left int, err error) {
	taken := map[Key]int{}
	for _, record := range r.Records {
		if record.Strip == "" {
			continue
		}
		cell := record.Key
		cell.Seed = 0
		if taken[cell]++; taken[cell] > pageStrips {
			left++
			continue
		}
		jpeg, err := fs.ReadFile(dir, record.Strip)
		if errors.Is(err, fs.ErrNotExist) {
			continue // thrown away to save space
		}
		if err != nil {
			return nil, 0, err
		}
		f := stripFigure{Record: record, Image: template.URL("data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(jpeg))}
		if f.Width, f.Height, err = sizeOf(jpeg); err != nil {
			return nil, 0, fmt.Errorf("%s: %w", record.Strip, err)
		}
		f.Frames = f.Width / framePitch
		list = append(list, f)
	}
	return list, left, nil
}
