package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/api"
	"diffgate/proxy/scan"
	"diffgate/verify"
)

// REGISTRY is a host or a URL, and nothing below it.
func TestRegistryHost(t *testing.T) {
	t.Parallel()
	for arg, want := range map[string]struct {
		host  string
		plain bool
		fails string
	}{
		"localhost:5000":           {host: "localhost:5000"},
		"registry.example.com":     {host: "registry.example.com"},
		"https://r.example.com/":   {host: "r.example.com"},
		"http://10.0.0.1:5000":     {host: "10.0.0.1:5000", plain: true},
		"[::1]:5000":               {host: "[::1]:5000"},
		"":                         {fails: `"" is not a registry; write HOST[:PORT] or its URL`},
		"ftp://r.example.com":      {fails: `"ftp://r.example.com" is not a registry; write HOST[:PORT] or its URL`},
		"https://u:p@r":            {fails: `"https://u:p@r" is not a registry; write HOST[:PORT] or its URL`},
		"r.example.com/team/app":   {fails: `"r.example.com/team/app" is more than a registry; choose its repositories with --repo`},
		"https://r.example.com?x=": {fails: `"https://r.example.com?x=" is more than a registry; choose its repositories with --repo`},
	} {
		host, plain, err := registryHost(arg)
		if host != want.host || plain != want.plain || err != nil && err.Error() != want.fails || (err == nil) != (want.fails == "") {
			t.Errorf("%q: %q, plain %t, %v", arg, host, plain, err)
		}
	}
}

// --since is a time, or how long ago.
func TestParseSince(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]string{
		"2026-01-31":                "2026-01-31T00:00:00Z",
		"2026-01-31T08:00:00+01:00": "2026-01-31T08:00:00+01:00",
		"12h":                       "2026-03-31T00:00:00Z",
		"30d":                       "2026-03-01T12:00:00Z",
		"":                          "0001-01-01T00:00:00Z",
		"yesterday":                 "",
		"-3h":                       "",
		"-3d":                       "",
		"9999999d":                  "",
	} {
		got, err := parseSince(text, now)
		if err == nil != (want != "") || err == nil && got.Format(time.RFC3339) != want {
			t.Errorf("%q: %s, %v; want %q", text, got.Format(time.RFC3339), err, want)
		}
	}
}

// some are results of each outcome.
func some() []scan.Result {
	layer := 1
	return []scan.Result{
		{Repository: "team/app", Tag: "1", Platform: "linux/arm64", Outcome: scan.False, Verdict: verify.Mismatch, Findings: []scan.Finding{{
			Platform: "linux/arm64",
			Found:    api.Found{Finding: api.Finding{Reason: verify.ReasonDiffIDMismatch, Cause: verify.CauseReversed, Layer: &layer}, Message: "diff_id mismatch in layer 2 of 3"},
		}}},
		{Repository: "fine", Tag: "latest", Platform: "linux/amd64", Outcome: scan.Right, Verdict: verify.Match},
		{Repository: "gone", Outcome: scan.Undecided, Verdict: verify.Unverified, Error: "the tags cannot be read: <b>|no|</b>\n"},
	}
}

// Of the same results each format prints what is for it. What is right is listed
// only when all is.
func TestScanOutput(t *testing.T) {
	t.Parallel()
	sum := scan.Summary{Registry: "r", Complete: true, Tags: 2, Right: 1, False: 1, Undecided: 1}
	for format, want := range map[show.Format]string{
		show.Table: `REPOSITORY  TAG     PLATFORM     LAYER  CAUSE      MESSAGE
team/app    1       linux/arm64  2      reversed   diff_id mismatch in layer 2 of 3
fine        latest  linux/amd64  -      -          match
gone        -       -            -      undecided  the tags cannot be read: <b>|no|</b>
`,
		show.JSONL: `{"repository":"team/app","tag":"1","platform":"linux/arm64","outcome":"false","verdict":"mismatch","findings":[{"reason":"diff_id_mismatch","cause":"reversed","layer":1,"message":"diff_id mismatch in layer 2 of 3","platform":"linux/arm64"}]}
{"repository":"fine","tag":"latest","platform":"linux/amd64","outcome":"right","verdict":"match"}
{"repository":"gone","outcome":"undecided","verdict":"unverified","error":"the tags cannot be read: <b>|no|</b>\n"}
{"summary":{"registry":"r","started_at":"0001-01-01T00:00:00Z","seconds":0,"complete":true,"diffgate":false,"repositories":0,"tags":2,"manifests":0,"known":0,"right":1,"false":1,"undecided":1,"skipped":0,"read":{"layers":0,"bytes":0}}}
`,
	} {
		var b bytes.Buffer
		printed(t, &b, &scanFlags{format: format, all: true}, some(), sum)
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	for _, results := range [][]scan.Result{nil, some()[:1], some()} {
		var b bytes.Buffer
		printed(t, &b, &scanFlags{format: show.JSON}, results, sum)
		var doc struct {
			Results []scan.Result
			Summary scan.Summary
		}
		if err := json.Unmarshal(b.Bytes(), &doc); err != nil || doc.Summary != sum {
			t.Errorf("%v:\n%s", err, b.Bytes())
		}
		want := 0
		for _, r := range results {
			if r.Outcome != scan.Right {
				want++
			}
		}
		if len(doc.Results) != want || doc.Results == nil {
			t.Errorf("%d results, want %d", len(doc.Results), want)
		}
	}
}

func printed(t *testing.T, b *bytes.Buffer, f *scanFlags, results []scan.Result, sum scan.Summary) {
	t.Helper()
	o := newScanOutput(b, f)
	for _, r := range results {
		if f.listed(r) {
			if err := o.result(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := o.end(sum); err != nil {
		t.Fatal(err)
	}
}

// A page says what is wrong, and what a registry says is text in it.
func TestScanPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, want := range map[string][]string{
		"page.md": {"# Scan of r\n", "**One tag names a false image.**", "- false: 1\n",
			"| team/app | 1 | linux/arm64 | 2 | reversed | diff\\_id mismatch in layer 2 of 3 |\n",
			"| gone | - | - | - | undecided | the tags cannot be read: \\<b\\>\\|no\\|\\</b\\>  |\n"},
		"page.html": {"<h1>Scan of r</h1>", "<strong>One tag names a false image.</strong>", "<dt>false</dt><dd>1</dd>",
			`<td>linux/arm64</td><td>2</td><td class="false">reversed</td><td>diff_id mismatch in layer 2 of 3</td>`,
			`<td class="undecided">undecided</td><td>the tags cannot be read: &lt;b&gt;|no|&lt;/b&gt; </td>`},
	} {
		p, err := newScanPage(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range some() {
			p.add(r)
		}
		if err := p.write(scan.Summary{Registry: "r", Complete: true, False: 1, Undecided: 1}); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(string(text), w) {
				t.Errorf("%s lacks %q:\n%s", name, w, text)
			}
		}
		if strings.Contains(string(text), "latest") {
			t.Errorf("%s tells of what is right:\n%s", name, text)
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%d files are left, want the two pages: %v", len(files), err)
	}
	for _, path := range []string{"page.txt", filepath.Join(dir, "none", "page.md")} {
		if _, err := newScanPage(path); err == nil {
			t.Errorf("%s: no error before the scan", path)
		}
	}
}

// What is false counts more than what is undecided, and that more than nothing.
func TestScanExit(t *testing.T) {
	t.Parallel()
	failed := errors.New("failed")
	for _, tt := range []struct {
		says string
		sum  scan.Summary
		err  error
		want int
	}{
		{"all is right", scan.Summary{Right: 3}, nil, 0},
		{"something is false", scan.Summary{False: 1, Undecided: 1}, nil, 1},
		{"something is undecided", scan.Summary{Undecided: 1}, nil, 2},
		{"the scan failed", scan.Summary{Right: 3}, failed, 2},
		{"the scan failed after something false", scan.Summary{False: 1}, failed, 1},
	} {
		code := 0
		var exit *exitError
		if err := scanExit(tt.sum, tt.err); errors.As(err, &exit) {
			code = exit.code
		}
		if code != tt.want {
			t.Errorf("%s: exit code %d, want %d", tt.says, code, tt.want)
		}
	}
}

// Progress is one line.
func TestProgressLine(t *testing.T) {
	t.Parallel()
	p := scan.Progress{Total: 200, Rate: 3.4e6, Left: 3 * time.Minute, Summary: scan.Summary{
		Repositories: 3, Manifests: 12, False: 1, Seconds: 80, Read: scan.Amount{Layers: 34, Bytes: 1_200_000}}}
	want := "3/200 repositories, 12 manifests, 34 layers, 1.2MB, 3.4MB/s, 1 false, 0 undecided, 1m20s, about 3m0s left"
	if diff := cmp.Diff(want, progressLine(p)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
