package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPercentile(t *testing.T) {
	for _, tt := range []struct {
		v       []float64
		p, want float64
	}{
		{nil, 50, 0},
		{[]float64{7}, 99, 7},
		{[]float64{3, 1, 2}, 50, 2},
		{[]float64{4, 1, 2, 3}, 50, 2.5},
		{[]float64{0, 10}, 99, 9.9},
	} {
		if got := percentile(tt.v, tt.p); got != tt.want {
			t.Errorf("percentile %v of %v is %v, want %v", tt.p, tt.v, got, tt.want)
		}
	}
}

func TestCell(t *testing.T) {
	for _, tt := range []struct {
		c    any
		want string
	}{
		{"a|b", `a\|b`}, {3, "3"}, {0.0, "0"}, {0.01, "0.0100"}, {1.0, "1.00"}, {12.34, "12.3"}, {123.4, "123"}, {20000.0, "20000"},
	} {
		if got := cell(tt.c); got != tt.want {
			t.Errorf("cell of %v is %q, want %q", tt.c, got, tt.want)
		}
	}
}

// What people wrote round the markers of a page stays, however often it is
// written.
func TestWriteTo(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("before\n"+beginMarker+"old\n"+endMarker+"after\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	var r report
	r.add(table{Title: "Speed", Columns: []string{"a"}, Rows: [][]any{{1.5}}})
	r.goal("g", 2, 1, true)
	r.plot(plot{File: "p.svg", Title: "a & b", Mark: 1, Groups: []group{{"g", []bar{{"b", 2}, {"c", 0}}}}})
	var first []byte
	for range 2 {
		if err := r.writeTo(page); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if first != nil && !bytes.Equal(got, first) {
			t.Errorf("written again, the page is\n%s\nbefore it was\n%s", got, first)
		}
		first = got
	}
	for _, want := range []string{"before\n", "\nafter\n", "| 1.50 |", "| g | 2.00 | at most 1.00 | missed |", "(p.svg)"} {
		if !strings.Contains(string(first), want) {
			t.Errorf("the page lacks %q:\n%s", want, first)
		}
	}
	if strings.Contains(string(first), "old") {
		t.Errorf("the page has what was between the markers:\n%s", first)
	}
	wellFormed(t, filepath.Join(filepath.Dir(page), "p.svg"))
}

// wellFormed insists on XML whose lines can be seen.
func wellFormed(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		line, ok := token.(xml.StartElement)
		if !ok || line.Name.Local != "line" {
			continue
		}
		at := map[string]string{}
		for _, a := range line.Attr {
			at[a.Name.Local] = a.Value
		}
		if at["y1"] == at["y2"] {
			t.Errorf("%s: a line has no length: %v", path, at)
		}
	}
}

func TestWriteToPageWithoutMarkers(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	if err := os.WriteFile(page, []byte("prose\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := new(report).writeTo(page); err == nil {
		t.Error("a page without markers was written to")
	}
}
