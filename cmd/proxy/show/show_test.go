package show

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const whole = "sha256:b64a1006f767aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"

// The same table in a pipe and on a terminal of 40 columns.
func TestTable(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		where string
		style Style
		want  string
	}{
		{"in a pipe all is whole and plain", Style{}, `
#  DIGEST` + strings.Repeat(" ", len(whole)-len("DIGEST")) + `  STATUS    CREATED BY
1  ` + whole + `  match     RUN apt-get install -y everything
2  short` + strings.Repeat(" ", len(whole)-len("short")) + `  mismatch  ?[31mADD
`},
		{"on a terminal digests are short and the last column is cut", Style{Short: true, Width: 48}, `
#  DIGEST        STATUS    CREATED BY
1  b64a1006f767  match     RUN apt-get install …
2  short         mismatch  ?[31mADD
`},
		{"colours do not move columns", Style{Short: true, Color: true}, `
#  DIGEST        STATUS    CREATED BY
1  b64a1006f767  [32mmatch[0m     RUN apt-get install -y everything
2  short         [31mmismatch[0m  ?[31mADD
`},
	} {
		rows := Rows{Header: []string{"#", "DIGEST", "STATUS", "CREATED BY"}}
		rows.Add(1, tt.style.Digest(whole), Cell{"match", Green}, "RUN apt-get install -y everything")
		rows.Add(2, tt.style.Digest("short"), Cell{"mismatch", Red}, "\x1b[31mADD")
		var b strings.Builder
		if err := rows.Write(&b, tt.style); err != nil {
			t.Fatal(err)
		}
		got := "\n" + strings.ReplaceAll(b.String(), "\x1b", "")
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.where, diff)
		}
	}
}

// What a registry says is text, not orders to the terminal.
func TestPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain ü 漢":                 "plain ü 漢",
		"two\nlines\there":          "two lines here",
		"\x1b]0;title\x07":          "?]0;title?",
		"c1 \u009b31m":              "c1 ?31m",
		"not \xff UTF-8":            "not ? UTF-8",
		"turned \u202e\u2066 round": "turned ?? round",
	} {
		if got := Printable(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// A terminal has colours unless its user wants none; a pipe never has.
func TestStyleForPipes(t *testing.T) {
	t.Parallel()
	if got := StyleFor(&strings.Builder{}, false); got != (Style{}) {
		t.Errorf("got %+v for no file", got)
	}
}
