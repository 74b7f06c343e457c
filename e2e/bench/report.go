package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// A report is what a run found.
type report struct {
	About  []fact  `json:"about"`
	Goals  []goal  `json:"goals"`
	Tables []table `json:"tables"`

	plots []plot
}

// A fact is about the machine, a program or the run.
type fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A goal is a figure that was aimed at.
type goal struct {
	Name   string  `json:"name"`
	Got    float64 `json:"got"`
	Want   float64 `json:"want"`
	AtMost bool    `json:"at_most"` // else at least
}

func (g goal) met() bool {
	if g.AtMost {
		return g.Got <= g.Want
	}
	return g.Got >= g.Want
}

// A table has cells that are strings, ints or float64s.
type table struct {
	Title   string   `json:"title"`
	Note    string   `json:"note,omitempty"`
	Columns []string `json:"columns"`
	Rows    [][]any  `json:"rows"`
}

func (r *report) add(t table) { r.Tables = append(r.Tables, t) }
func (r *report) plot(p plot) { r.plots = append(r.plots, p) }
func (r *report) goal(name string, got, want float64, atMost bool) {
	r.Goals = append(r.Goals, goal{name, got, want, atMost})
}

func (r *report) markdown() string {
	var out strings.Builder
	about := table{Title: "The run", Columns: []string{"", ""}}
	for _, f := range r.About {
		about.Rows = append(about.Rows, []any{f.Name, f.Value})
	}
	about.markdown(&out)
	if len(r.Goals) > 0 {
		goals := table{Title: "Targets", Columns: []string{"", "measured", "target", ""}}
		for _, g := range r.Goals {
			bound, met := "at least ", "missed"
			if g.AtMost {
				bound = "at most "
			}
			if g.met() {
				met = "met"
			}
			goals.Rows = append(goals.Rows, []any{g.Name, g.Got, bound + cell(g.Want), met})
		}
		goals.markdown(&out)
	}
	for _, t := range r.Tables {
		t.markdown(&out)
	}
	for _, p := range r.plots {
		fmt.Fprintf(&out, "![%s](%s)\n\n", p.Title, p.File)
	}
	return strings.TrimRight(out.String(), "\n") + "\n"
}

func (t table) markdown(out *strings.Builder) {
	fmt.Fprintf(out, "### %s\n\n", t.Title)
	if t.Note != "" {
		fmt.Fprintf(out, "%s\n\n", t.Note)
	}
	out.WriteString("|")
	for _, c := range t.Columns {
		fmt.Fprintf(out, " %s |", cell(c))
	}
	out.WriteString("\n|")
	for i := range t.Columns {
		if len(t.Rows) > 0 && isNumber(t.Rows[0][i]) {
			out.WriteString("---:|")
		} else {
			out.WriteString("---|")
		}
	}
	out.WriteString("\n")
	for _, row := range t.Rows {
		out.WriteString("|")
		for _, c := range row {
			fmt.Fprintf(out, " %s |", cell(c))
		}
		out.WriteString("\n")
	}
	out.WriteString("\n")
}

func isNumber(c any) bool {
	_, isText := c.(string)
	return !isText
}

// cell words a cell; a number has at least three digits that mean something.
func cell(c any) string {
	f, ok := c.(float64)
	if !ok {
		return strings.ReplaceAll(fmt.Sprint(c), "|", `\|`)
	}
	digits := 0
	if a := math.Abs(f); a > 0 && a < 100 {
		digits = min(6, max(0, 2-int(math.Floor(math.Log10(a)+1e-9))))
	}
	return fmt.Sprintf("%.*f", digits, f)
}

func megabytes(n int64) string { return cell(float64(n)/1e6) + " MB" }

const (
	beginMarker = "<!-- bench -->\n"
	endMarker   = "<!-- /bench -->\n"
)

// writeTo puts the report between the markers of a page, and the plots beside
// the page.
func (r *report) writeTo(page string) error {
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	before, rest, found := bytes.Cut(text, []byte(beginMarker))
	_, after, ended := bytes.Cut(rest, []byte(endMarker))
	if !found || !ended {
		return fmt.Errorf("%s has no lines %q and %q", page, strings.TrimSpace(beginMarker), strings.TrimSpace(endMarker))
	}
	text = fmt.Appendf(nil, "%s%s\n%s\n%s%s", before, beginMarker, r.markdown(), endMarker, after)
	err = os.WriteFile(page, text, 0o644)
	for _, p := range r.plots {
		err = errors.Join(err, os.WriteFile(filepath.Join(filepath.Dir(page), p.File), p.svg(), 0o644))
	}
	return err
}
