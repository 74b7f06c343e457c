package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"golang.org/x/term"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/scan"
)

// A scanOutput prints results as they come: JSON lines at once, a table in pieces,
// so that a registry of any size fits.
//
// The JSON is an object with results, a list of scan.Result, and summary, a
// scan.Summary. As lines it is one scan.Result on each, and in the end an object
// with summary alone.
type scanOutput struct {
	w      io.Writer
	style  show.Style
	format show.Format
	dryRun bool
	all    bool

	rows    *show.Rows
	pending int // rows that are not written yet
	written int // results
}

// maxRows is how many rows of a table are kept to be aligned.
const maxRows = 1000

func newScanOutput(w io.Writer, f *scanFlags) *scanOutput {
	return &scanOutput{w: w, style: show.StyleFor(w, f.noTrunc), format: f.format, dryRun: f.dryRun, all: f.all}
}

func (o *scanOutput) result(r scan.Result) error {
	o.written++
	switch o.format {
	case show.JSONL:
		return show.WriteLine(o.w, r)
	case show.JSON:
		before := ",\n"
		if o.written == 1 {
			before = "{\"results\":[\n"
		}
		if _, err := io.WriteString(o.w, before); err != nil {
			return err
		}
		return show.WriteLine(o.w, r)
	}
	if o.rows == nil {
		o.rows = &show.Rows{Header: []string{"REPOSITORY", "TAG", "PLATFORM", "LAYER", "CAUSE", "MESSAGE"}}
		if o.dryRun {
			o.rows.Header = []string{"REPOSITORY", "TAG", "LAYERS", "BYTES", "MESSAGE"}
		}
	}
	for _, row := range scanRows(r, o.all) {
		o.add(r, row)
	}
	if o.pending >= maxRows {
		return o.flush()
	}
	return nil
}

func (o *scanOutput) add(r scan.Result, row scanRow) {
	o.pending++
	if !o.dryRun {
		o.rows.Add(dash(r.Repository), dash(r.Tag), dash(row.Platform), dash(row.Layer), show.Cell{Text: row.Cause, Color: row.color}, row.Message)
		return
	}
	layers, bytes := "-", "-"
	if r.ToRead != nil {
		layers, bytes = strconv.FormatInt(r.ToRead.Layers, 10), show.Size(r.ToRead.Bytes)
	}
	o.rows.Add(dash(r.Repository), dash(r.Tag), layers, bytes, dash(r.Error))
}

func (o *scanOutput) flush() error {
	rows := o.rows
	o.rows, o.pending = nil, 0
	return rows.Write(o.w, o.style)
}

// end prints what is left.
func (o *scanOutput) end(sum scan.Summary) error {
	switch o.format {
	case show.JSONL:
		return show.WriteLine(o.w, map[string]scan.Summary{"summary": sum})
	case show.JSON:
		before := "],\n\"summary\":"
		if o.written == 0 {
			before = "{\"results\":[],\n\"summary\":"
		}
		if _, err := io.WriteString(o.w, before); err != nil {
			return err
		}
		if err := show.WriteLine(o.w, sum); err != nil {
			return err
		}
		_, err := io.WriteString(o.w, "}\n")
		return err
	}
	if o.pending == 0 {
		return nil
	}
	return o.flush()
}

// A scanRow is one thing to say about a result.
type scanRow struct {
	Platform string
	Layer    string // from 1, as messages have it
	Cause    string
	Message  string

	color show.Color
}

// scanRows returns what there is to say about a result, with all also what some
// runtimes dislike.
func scanRows(r scan.Result, all bool) (rows []scanRow) {
	color := show.Yellow
	if r.Outcome == scan.False {
		color = show.Red
	}
	for _, f := range r.Findings {
		if f.NotPortable() && !all {
			continue
		}
		row := scanRow{Platform: f.Platform, Cause: f.What(), Message: f.Message, color: color}
		if f.Layer != nil {
			row.Layer = strconv.Itoa(*f.Layer + 1)
		}
		rows = append(rows, row)
	}
	switch {
	case len(rows) > 0:
		return rows
	case r.Outcome == scan.Right:
		return []scanRow{{Platform: r.Platform, Cause: "-", Message: string(r.Verdict)}}
	}
	return []scanRow{{Platform: r.Platform, Cause: string(r.Outcome), Message: r.Error, color: color}}
}

// summaryLine says in one line what came of a scan.
func summaryLine(s scan.Summary) string {
	head := "scanned"
	if !s.Complete {
		head = "not finished: scanned"
	}
	line := fmt.Sprintf("%s %d repositories, %d tags", head, s.Repositories, s.Tags)
	if s.Skipped > 0 {
		line += fmt.Sprintf(" (%d too old)", s.Skipped)
	}
	line += fmt.Sprintf(", %d manifests", s.Manifests)
	if s.Known > 0 {
		line += fmt.Sprintf(" (%d known)", s.Known)
	}
	if s.ToRead != nil {
		return fmt.Sprintf("%s: %d layers to read, %s; %d undecided", line, s.ToRead.Layers, show.Size(s.ToRead.Bytes), s.Undecided)
	}
	line += fmt.Sprintf(": %d right, %d false, %d undecided", s.Right, s.False, s.Undecided)
	if s.Diffgate {
		return fmt.Sprintf("%s; Diffgate read the layers; %s", line, seconds(s.Seconds))
	}
	return fmt.Sprintf("%s; read %d layers, %s in %s", line, s.Read.Layers, show.Size(s.Read.Bytes), seconds(s.Seconds))
}

func seconds(s float64) string {
	d := time.Duration(s * float64(time.Second))
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// A scanStatus tells of progress: a line that is drawn anew on a terminal, lines
// of a log elsewhere.
type scanStatus struct {
	w        io.Writer
	interval time.Duration
	terminal bool
	width    int
	drawn    bool
}

// How often progress is told.
const (
	drawEach = time.Second
	logEach  = 10 * time.Second
)

func newScanStatus(w io.Writer, interval time.Duration) *scanStatus {
	s := &scanStatus{w: w, interval: logEach}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		s.terminal, s.interval = true, drawEach
		s.width = show.StyleFor(w, false).Width
	}
	if interval > 0 {
		s.interval = interval
	}
	return s
}

func (s *scanStatus) progress(p scan.Progress) {
	line := progressLine(p)
	if !s.terminal {
		fmt.Fprintln(s.w, line)
		return
	}
	if s.width > 1 && len(line) >= s.width {
		line = line[:s.width-1] // a longer one would scroll
	}
	fmt.Fprintf(s.w, "\r%s\x1b[K", line)
	s.drawn = true
}

// clear makes room for other lines.
func (s *scanStatus) clear() {
	if s.drawn {
		fmt.Fprint(s.w, "\r\x1b[K")
		s.drawn = false
	}
}

// progressLine says how far a scan has come, in ASCII.
func progressLine(p scan.Progress) string {
	line := strconv.FormatInt(p.Repositories, 10)
	if p.Total > 0 {
		line += "/" + strconv.FormatInt(p.Total, 10)
	}
	line += fmt.Sprintf(" repositories, %d manifests, ", p.Manifests)
	if p.ToRead != nil {
		line += fmt.Sprintf("%d layers to read, %s", p.ToRead.Layers, show.Size(p.ToRead.Bytes))
	} else {
		line += fmt.Sprintf("%d layers, %s, %s/s, %d false, %d undecided", p.Read.Layers, show.Size(p.Read.Bytes), show.Size(int64(p.Rate)), p.False, p.Undecided)
	}
	line += ", " + seconds(p.Seconds)
	if p.Left > 0 {
		line += ", about " + p.Left.Round(time.Second).String() + " left"
	}
	return line
}
