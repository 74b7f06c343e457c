package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"unicode/utf8"

	"diffgate/verify"
)

// MaxExportLine is how many bytes a line of an export may have. No record takes
// a quarter of it.
const MaxExportLine = 16 << 10

// ErrCut is returned for an export that is not whole. What came before its end
// is as good as the rest.
var ErrCut = errors.New("the export was cut")

// countKey is the only key of the last line.
const countKey = "count"

// An ExportWriter writes facts as GET /v2/_diffids streams them when asked for
// application/x-ndjson: a Record on each line, and {"count":N} on the last. It is
// for one goroutine.
type ExportWriter struct {
	w     io.Writer
	count int64
}

// NewExportWriter returns a writer of one export. It makes a small write for
// each fact: w should have a buffer.
func NewExportWriter(w io.Writer) *ExportWriter { return &ExportWriter{w: w} }

// Write writes one fact.
func (e *ExportWriter) Write(f verify.Fact) error {
	e.count++
	return writeLine(e.w, NewRecord(f))
}

// Close writes the last line, without which the export is cut. It does not close
// the underlying writer.
func (e *ExportWriter) Close() error {
	return writeLine(e.w, map[string]int64{countKey: e.count})
}

func writeLine(w io.Writer, v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = w.Write(append(line, '\n'))
	return err
}

// An ExportReader reads what an ExportWriter, or the proxy, has written. It is
// strict: each line must say all that a record says and nothing else, so that
// nothing is guessed or lost. It holds one line in memory and is for one goroutine.
type ExportReader struct {
	r    *bufio.Reader
	line int   // number of the last one, from 1
	read int64 // facts
	err  error // of all further calls
}

// NewExportReader returns a reader of one export.
func NewExportReader(r io.Reader) *ExportReader {
	return &ExportReader{r: bufio.NewReaderSize(r, MaxExportLine+1)}
}

// Next returns the next fact. It returns io.EOF behind a last line that is right,
// an error that wraps [ErrCut] when there is none or it counts other than was
// read, and another for a line that is no record. All name the line. Whether the
// fact makes sense is for the store that it is put in to say.
func (e *ExportReader) Next() (verify.Fact, error) {
	if e.err != nil {
		return verify.Fact{}, e.err
	}
	f, err := e.next()
	if err != nil && err != io.EOF {
		err = fmt.Errorf("line %d: %w", e.line, err)
	}
	e.err = err
	return f, err
}

func (e *ExportReader) next() (f verify.Fact, err error) {
	line, err := e.nextLine()
	if err == io.EOF {
		return f, fmt.Errorf("%w: it ends after %d records without their count", ErrCut, e.read)
	}
	if err != nil {
		return f, err
	}
	keys, err := keysOf(line)
	if err != nil {
		return f, err
	}
	if keys[countKey] {
		return f, e.end(line)
	}
	if f, err = parseRecord(line, keys); err != nil {
		return verify.Fact{}, err
	}
	e.read++
	return f, nil
}

// nextLine returns the next line without its end, or io.EOF.
func (e *ExportReader) nextLine() ([]byte, error) {
	e.line++
	line, err := e.r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return nil, fmt.Errorf("longer than %d bytes", MaxExportLine)
	case err == io.EOF && len(line) > 0: // a last line may lack its end
		return line, nil
	case err != nil:
		return nil, err
	}
	return line[:len(line)-1], nil
}

// end returns io.EOF if line is a right last line and the last.
func (e *ExportReader) end(line []byte) error {
	var last struct {
		Count *int64 `json:"count"`
	}
	if err := decode(line, &last); err != nil {
		return err
	}
	if *last.Count != e.read {
		return fmt.Errorf("%w: %d records are counted, %d were read", ErrCut, *last.Count, e.read)
	}
	_, err := e.nextLine()
	if err == nil {
		err = errors.New("more follows the count, which ends an export")
	}
	return err
}

// parseRecord returns the fact that a line with these keys says.
func parseRecord(line []byte, keys map[string]bool) (verify.Fact, error) {
	var r Record
	if err := decode(line, &r); err != nil {
		return verify.Fact{}, err
	}
	f, err := r.Fact()
	if err != nil {
		return f, err
	}
	again, err := json.Marshal(NewRecord(f))
	if err != nil {
		return f, err
	}
	want, err := keysOf(again)
	if err != nil {
		return f, err
	}
	for _, key := range slices.Sorted(maps.Keys(want)) {
		if !keys[key] || key == "source" && f.Source == 0 {
			return f, fmt.Errorf("%s is missing", key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if !want[key] {
			return f, fmt.Errorf("%q does not belong in this record", key)
		}
	}
	return f, nil
}

// decode reads the JSON object in a line into v, which must have all its keys.
func decode(line []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if e, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return fmt.Errorf("%s: a %s, want %s", e.Field, e.Value, e.Type)
	}
	return err
}

// keysOf returns the keys of the JSON object that a line is, each of which occurs
// once and has a value. encoding/json alone takes the last of two, and null for
// nothing said.
func keysOf(line []byte) (map[string]bool, error) {
	if !utf8.Valid(line) {
		return nil, errors.New("not UTF-8")
	}
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("not a JSON object")
	}
	keys := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
		key, _ := t.(string) // as it is that of an object
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil, fmt.Errorf("not a JSON object: %w", err)
		}
		switch {
		case keys[key]:
			return nil, fmt.Errorf("%q occurs twice", key)
		case string(value) == "null":
			return nil, fmt.Errorf("%q has no value", key)
		}
		keys[key] = true
	}
	if _, err := d.Token(); err != nil {
		return nil, errors.New("not a whole JSON object")
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("more than a JSON object")
	}
	return keys, nil
}
