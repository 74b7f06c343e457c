package main

import (
	"bufio"
	"errors"
	"fmt"
	"html/template"
	"io"
	"os"
	"path/filepath"
	"strings"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/scan"
)

// A scanPage is the report of a scan as a page of its own, to be mailed.
type scanPage struct {
	path  string
	write func(scan.Summary) error

	rows    []pageRow
	dropped int // rows that did not fit
}

// A pageRow is a line of the page's table.
type pageRow struct {
	Repository, Tag string
	False           bool
	scanRow
}

// maxPageRows bounds a page, to a few MiB.
const maxPageRows = 10_000

// newScanPage returns an empty page. It looks before a long scan whether the page
// can be written after it.
func newScanPage(path string) (*scanPage, error) {
	p := &scanPage{path: path}
	var format func(io.Writer, scan.Summary) error
	switch filepath.Ext(path) {
	case ".md":
		format = p.markdown
	case ".html":
		format = p.html
	default:
		return nil, fmt.Errorf("--report: %q must end in .md or .html", path)
	}
	if _, err := os.Stat(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	p.write = func(sum scan.Summary) error {
		err := writeWhole(path, func(w io.Writer) error { return format(w, sum) })
		if err != nil {
			return fmt.Errorf("--report: %w", err)
		}
		return nil
	}
	return p, nil
}

// add takes what is to be said about a result.
func (p *scanPage) add(r scan.Result) {
	if r.Outcome != scan.False && r.Outcome != scan.Undecided {
		return
	}
	for _, row := range scanRows(r, false) {
		if len(p.rows) == maxPageRows {
			p.dropped++
			continue
		}
		row.Platform, row.Layer, row.Message = dash(row.Platform), dash(row.Layer), show.Printable(row.Message)
		p.rows = append(p.rows, pageRow{dash(r.Repository), dash(r.Tag), r.Outcome == scan.False, row})
	}
}

// writeWhole writes a file that is whole or not there.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	w := bufio.NewWriter(f)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return os.Rename(f.Name(), path)
}

// A pageNumber is a number of the page's summary.
type pageNumber struct{ What, Value string }

func pageNumbers(s scan.Summary) []pageNumber {
	n := func(what string, n int64) pageNumber { return pageNumber{what, fmt.Sprint(n)} }
	all := []pageNumber{
		n("false", s.False), n("undecided", s.Undecided), n("right", s.Right),
		n("repositories", s.Repositories), n("tags", s.Tags), n("manifests", s.Manifests), n("known from earlier", s.Known),
	}
	if s.Skipped > 0 {
		all = append(all, n("tags of older images, not looked at", s.Skipped))
	}
	if s.ToRead != nil {
		return append(all, n("layers to read", s.ToRead.Layers), pageNumber{"bytes to read", show.Size(s.ToRead.Bytes)})
	}
	return append(all, n("layers read", s.Read.Layers), pageNumber{"bytes read", show.Size(s.Read.Bytes)}, pageNumber{"time", seconds(s.Seconds)})
}

// pageVerdict is what the page says in one sentence.
func pageVerdict(s scan.Summary) string {
	text := "All images are right."
	switch {
	case s.ToRead != nil:
		text = "A dry run: no image was judged."
	case s.False == 1:
		text = "One tag names a false image."
	case s.False > 1:
		text = fmt.Sprintf("%d tags name false images.", s.False)
	case s.Tags == 0:
		text = "No image was looked at."
	case !s.Complete:
		text = "No false image was found so far."
	case s.Undecided > 0:
		text = "No image is false, as far as they could be judged."
	}
	if !s.Complete {
		text += " The scan was ended before its end: there may be more."
	}
	return text
}

const pageTemplate = `<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Scan of {{.Summary.Registry}}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; margin: 2em auto; max-width: 72em; padding: 0 1em; color: #1b1f24; background: #fff }
table { border-collapse: collapse } th, td { text-align: left; vertical-align: top; padding: .3em .8em .3em 0; border-bottom: 1px solid #d8dee4 }
td { overflow-wrap: anywhere } .false { color: #b3261e; font-weight: 600 } .undecided { color: #7a5200 }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1em } dd { margin: 0 }
</style>
<h1>Scan of {{.Summary.Registry}}</h1>
<p>{{.Began}}</p>
<p><strong>{{.Verdict}}</strong></p>
<dl>{{range .Numbers}}<dt>{{.What}}</dt><dd>{{.Value}}</dd>
{{end}}</dl>
{{if .Rows}}<h2>What is wrong</h2>
<table>
<tr><th>Repository</th><th>Tag</th><th>Platform</th><th>Layer</th><th>Cause</th><th>Message</th></tr>
{{range .Rows}}<tr><td>{{.Repository}}</td><td>{{.Tag}}</td><td>{{.Platform}}</td><td>{{.Layer}}</td><td class="{{if .False}}false{{else}}undecided{{end}}">{{.Cause}}</td><td>{{.Message}}</td></tr>
{{end}}</table>
{{end}}{{if .Dropped}}<p>And {{.Dropped}} more.</p>
{{end}}</html>
`

func began(s scan.Summary) string { return s.StartedAt.Format("2 January 2006, 15:04 MST") }

func (p *scanPage) html(w io.Writer, s scan.Summary) error {
	t, err := template.New("page").Parse(pageTemplate)
	if err != nil {
		return err
	}
	return t.Execute(w, map[string]any{"Summary": s, "Began": began(s), "Verdict": pageVerdict(s), "Numbers": pageNumbers(s),
		"Rows": p.rows, "Dropped": p.dropped})
}

func (p *scanPage) markdown(w io.Writer, s scan.Summary) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Scan of %s\n\n%s\n\n**%s**\n\n", inMarkdown(s.Registry), began(s), pageVerdict(s))
	for _, n := range pageNumbers(s) {
		fmt.Fprintf(&b, "- %s: %s\n", n.What, n.Value)
	}
	if len(p.rows) > 0 {
		b.WriteString("\n## What is wrong\n\n| Repository | Tag | Platform | Layer | Cause | Message |\n|---|---|---|---|---|---|\n")
	}
	if _, err := io.WriteString(w, b.String()); err != nil {
		return err
	}
	for _, r := range p.rows {
		_, err := fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %s |\n", inMarkdown(r.Repository), inMarkdown(r.Tag), inMarkdown(r.Platform),
			r.Layer, inMarkdown(r.Cause), inMarkdown(r.Message))
		if err != nil {
			return err
		}
	}
	if p.dropped > 0 {
		_, err := fmt.Fprintf(w, "\nAnd %d more.\n", p.dropped)
		return err
	}
	return nil
}

// inMarkdown returns text that means itself in a table of Markdown (CommonMark,
// "Backslash escapes").
func inMarkdown(text string) string {
	var b strings.Builder
	for _, r := range show.Printable(text) {
		if strings.ContainsRune("\\`*_{}[]<>()#!|~&", r) {
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
