// Package show prints what the commands found: tables for people, JSON for
// programs. Colours, short digests and cut columns are for terminals alone;
// what goes into a pipe or file is whole and plain.
package show

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/docker/go-units"
	"golang.org/x/term"
)

// A Format is how a command prints its result.
type Format string

// The formats.
const (
	Table Format = "table" // for people
	JSON  Format = "json"  // one document
	JSONL Format = "jsonl" // a document on each line, as soon as it is known
)

// String implements pflag.Value.
func (f *Format) String() string { return string(*f) }

// Set implements pflag.Value.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case Table, JSON, JSONL:
		*f = Format(s)
		return nil
	}
	return fmt.Errorf("want table, json or jsonl")
}

// Type implements pflag.Value.
func (f *Format) Type() string { return "format" }

// A Style is how text is shown at some place.
type Style struct {
	Short bool // digests are cut to 12 digits, and the last column to Width
	Color bool
	Width int // of the terminal, in columns; 0 when there is none
}

// StyleFor returns the style for what is written to w. Colours are for terminals
// where neither NO_COLOR (no-color.org) nor TERM=dumb is set.
func StyleFor(w io.Writer, noTrunc bool) Style {
	f, ok := w.(*os.File)
	if !ok || !IsTerminal(w) {
		return Style{}
	}
	s := Style{Short: !noTrunc, Color: os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.Width = width
	}
	return s
}

// IsTerminal reports whether what is written to w is seen by somebody at once.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// shortDigits is what docker cuts digests to.
const shortDigits = 12

// Digest returns a digest as docker shows it: 12 digits without the algorithm, or
// all of it.
func (s Style) Digest(d string) string {
	_, hex, ok := strings.Cut(d, ":")
	if !s.Short || !ok || len(hex) <= shortDigits {
		return d
	}
	return hex[:shortDigits]
}

// A Color is one of the terminal's.
type Color int

// The colours.
const (
	Plain  Color = 0
	Red    Color = 31
	Green  Color = 32
	Yellow Color = 33
)

// Paint returns text in a colour where there are colours.
func (s Style) Paint(c Color, text string) string {
	if !s.Color || c == Plain {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", c, text)
}

// A Cell is one field of a table.
type Cell struct {
	Text  string
	Color Color
}

// Rows are the lines of a table under their header.
type Rows struct {
	Header []string
	rows   [][]Cell
}

// Add adds a line, which has as many cells as the header. A cell is a string or a
// Cell.
func (r *Rows) Add(cells ...any) {
	row := make([]Cell, len(cells))
	for i, c := range cells {
		if cell, ok := c.(Cell); ok {
			row[i] = cell
			continue
		}
		row[i] = Cell{Text: fmt.Sprint(c)}
	}
	r.rows = append(r.rows, row)
}

// Write writes the table: columns two spaces apart, the last one cut at the
// terminal's edge. Control characters, which could come from a registry, are
// written as "?".
func (r *Rows) Write(w io.Writer, s Style) error {
	rows := make([][]Cell, 0, len(r.rows)+1)
	header := make([]Cell, len(r.Header))
	for i, h := range r.Header {
		header[i].Text = h
	}
	rows = append(append(rows, header), r.rows...)
	widths := make([]int, len(r.Header))
	for _, row := range rows {
		for i := range row {
			row[i].Text = Printable(row[i].Text)
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(w, line(row, widths, s)); err != nil {
			return err
		}
	}
	return nil
}

func line(row []Cell, widths []int, s Style) string {
	var b strings.Builder
	used := 0
	for i, c := range row {
		if i == len(row)-1 {
			b.WriteString(s.Paint(c.Color, cut(c.Text, s, used)))
			break
		}
		b.WriteString(s.Paint(c.Color, c.Text))
		b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)+2))
		used += widths[i] + 2
	}
	return strings.TrimRight(b.String(), " ")
}

// least is how much of the last column is left however narrow the terminal is.
const least = 16

func cut(text string, s Style, used int) string {
	room := max(s.Width-used, least)
	if runes := []rune(text); s.Short && s.Width > 0 && len(runes) > room {
		return string(runes[:room-1]) + "…"
	}
	return text
}

// Printable returns text without control characters, which a terminal would
// obey, and without what is not UTF-8.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n':
			return ' '
		case r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError || r >= 0x202a && r <= 0x202e || r >= 0x2066 && r <= 0x2069:
			return '?'
		}
		return r
	}, text)
}

// WriteJSON writes v as a document that people can read too.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// WriteLine writes v as JSON on one line.
func WriteLine(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Size returns a number of bytes as docker shows it: "28.2MB".
func Size(n int64) string { return units.HumanSizeWithPrecision(float64(n), 3) }
