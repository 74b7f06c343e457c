package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/api"
)

// The formats of -o.
const (
	formatTable = string(show.Table)
	formatJSON  = string(show.JSON)
	formatLines = string(show.JSONL)
)

// An indexOutput is how a command of index prints.
type indexOutput struct {
	formats []string // that there are
	format  string
	noTrunc bool
}

// add gives a command the flag -o with some formats, the first of which is the
// default.
func (o *indexOutput) add(cmd *cobra.Command, formats ...string) {
	o.formats = formats
	cmd.Flags().StringVarP(&o.format, "output", "o", formats[0], "print as `FORMAT`: "+strings.Join(formats, ", "))
}

// addRecords is add for a command that prints records.
func (o *indexOutput) addRecords(cmd *cobra.Command) {
	o.add(cmd, formatTable, formatJSON, formatLines)
	cmd.Flags().BoolVar(&o.noTrunc, "no-trunc", false, "print whole digests on a terminal too")
}

// check refuses a format that the command does not have.
func (o *indexOutput) check() error {
	if !slices.Contains(o.formats, o.format) {
		return fmt.Errorf("--output %q is not one of %s", o.format, strings.Join(o.formats, ", "))
	}
	return nil
}

// figures prints the fields of a struct: as JSON, or under the same words.
func (o *indexOutput) figures(w io.Writer, v any) error {
	if o.format == formatJSON {
		return json.NewEncoder(w).Encode(v)
	}
	var names, values []string
	fields := reflect.ValueOf(v)
	for i := range fields.NumField() {
		names = append(names, strings.ToUpper(fields.Type().Field(i).Tag.Get("json")))
		values = append(values, fmt.Sprint(fields.Field(i)))
	}
	table := newTable(w)
	fmt.Fprintf(table, "%s\n%s\n", strings.Join(names, "\t"), strings.Join(values, "\t"))
	return table.Flush()
}

func newTable(w io.Writer) *tabwriter.Writer { return tabwriter.NewWriter(w, 0, 0, 2, ' ', 0) }

// A recordWriter prints records one by one, and at the end the digests that were
// asked for and are unknown.
type recordWriter interface {
	write(api.Record) error
	close(unknown []string) error
}

// records returns a writer of the format that was asked for.
func (o *indexOutput) records(w io.Writer) recordWriter {
	b := bufio.NewWriter(w)
	switch o.format {
	case formatJSON:
		return &jsonRecords{w: b}
	case formatLines:
		return &lineRecords{w: b}
	}
	return &tableRecords{w: b, short: show.IsTerminal(w) && !o.noTrunc}
}

// lineRecords prints a record a line.
type lineRecords struct{ w *bufio.Writer }

func (l *lineRecords) write(r api.Record) error { return json.NewEncoder(l.w).Encode(r) }
func (l *lineRecords) close([]string) error     { return l.w.Flush() }

// jsonRecords prints an api.Page, which may be longer than memory.
type jsonRecords struct {
	w     *bufio.Writer
	begun bool
}

func (j *jsonRecords) write(r api.Record) error {
	before := ",\n"
	if !j.begun {
		before, j.begun = `{"diffids":[`, true
	}
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(j.w, "%s%s", before, body)
	return err
}

func (j *jsonRecords) close(unknown []string) error {
	if !j.begun {
		fmt.Fprint(j.w, `{"diffids":[`)
	}
	fmt.Fprint(j.w, "]")
	if len(unknown) > 0 {
		body, err := json.Marshal(unknown)
		if err != nil {
			return err
		}
		fmt.Fprintf(j.w, `,"unknown":%s`, body)
	}
	fmt.Fprintln(j.w, "}")
	return j.w.Flush() // which returns the error of each
}

// tableRecords prints a table. What is unknown is for the command to say.
type tableRecords struct {
	w     *bufio.Writer
	table *tabwriter.Writer
	rows  int
	short bool // digests
}

func (t *tableRecords) write(r api.Record) error {
	if t.table == nil {
		t.table = newTable(t.w)
		fmt.Fprintln(t.table, "DIGEST\tSIZE\tENCODING\tDIFF_ID\tUNPACKED\tSOURCE\tVERIFIED_AT\tNOTES")
	}
	unpacked := "-"
	if r.UnpackedSize != nil {
		unpacked = fmt.Sprint(*r.UnpackedSize)
	}
	notes := r.Quirks
	if r.Problem != "" {
		notes = append([]string{r.Problem}, notes...)
	}
	_, err := fmt.Fprintf(t.table, "%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\n", t.digest(r.Digest), r.Size, r.Encoding, t.digest(r.DiffID),
		unpacked, r.Source, r.VerifiedAt.Format(time.RFC3339), cmp.Or(strings.Join(notes, ","), "-"))
	// The table waits in memory for its widest cell: of a long one, each page has
	// widths of its own.
	if t.rows++; t.rows%indexPage == 0 {
		return t.table.Flush()
	}
	return err
}

// digest returns a digest as a cell, short as docker's if it is for people.
func (t *tableRecords) digest(d digest.Digest) string {
	return dash(show.Style{Short: t.short}.Digest(d.String()))
}

func (t *tableRecords) close([]string) error {
	if t.table != nil {
		if err := t.table.Flush(); err != nil {
			return err
		}
	}
	return t.w.Flush()
}
