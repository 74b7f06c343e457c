package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/index/indextest"
)

// export returns the export of facts.
func export(t testing.TB, facts []verify.Fact) string {
	t.Helper()
	var b strings.Builder
	w := api.NewExportWriter(&b)
	for _, f := range facts {
		if err := w.Write(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// readExport returns the facts of an export and the error that ended it.
func readExport(in io.Reader) (facts []verify.Fact, err error) {
	r := api.NewExportReader(in)
	for {
		f, err := r.Next()
		if err != nil {
			_, again := r.Next()
			if !errors.Is(again, err) {
				err = fmt.Errorf("%w, and then %w", err, again)
			}
			return facts, err
		}
		facts = append(facts, f)
	}
}

func TestExport(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 100} {
		want := make([]verify.Fact, 0, n)
		for _, f := range indextest.Facts(n) {
			if f.Problem != verify.None {
				f.UnpackedSize = 0 // which a record has no room for
			}
			want = append(want, f)
		}
		text := export(t, want)
		if lines := strings.Count(text, "\n"); lines != n+1 || !strings.HasSuffix(text, fmt.Sprintf("{\"count\":%d}\n", n)) {
			t.Errorf("%d facts: %d lines, the last %q", n, lines, text[strings.LastIndex(strings.TrimSpace(text), "\n")+1:])
		}
		got, err := readExport(strings.NewReader(text))
		if diff := cmp.Diff(want, append([]verify.Fact{}, got...)); err != io.EOF || diff != "" {
			t.Errorf("%d facts: %v (-written +read):\n%s", n, err, diff)
		}
	}
}

// good is a record of an export, and corrupt one of a blob with a problem.
const (
	good    = `{"digest":"sha256:ab","size":3,"encoding":"gzip","diff_id":"sha256:cd","unpacked_size":9,"source":"push","verified_at":"2026-11-23T08:49:04Z"}`
	corrupt = `{"digest":"sha256:ab","size":3,"encoding":"gzip","problem":"corrupt","reason":"cut","source":"scan","verified_at":"2026-11-23T08:49:04Z"}`
)

func TestExportReaderIsStrict(t *testing.T) {
	t.Parallel()
	with := func(old, replacement string) string {
		return strings.Replace(good, old, replacement, 1) + "\n{\"count\":1}\n"
	}
	padding := strings.Repeat(" ", api.MaxExportLine-len(good))
	for _, tt := range []struct {
		is, export, want string
	}{
		{"An export of nothing.", "{\"count\":0}\n", "EOF"},
		{"Two records, of which one has a problem.", good + "\n" + corrupt + "\n{\"count\":2}\n", "EOF"},
		{"The order of keys is free.", `{"size":3,` + strings.Replace(good, `"size":3,`, "", 1)[1:] + "\n{\"count\":1}\n", "EOF"},
		{"The last line may lack its end.", good + "\n{\"count\":1}", "EOF"},
		{"The longest line.", with("{", "{"+padding), "EOF"},
		{"A byte more.", with("{", "{ "+padding), "line 1: longer than 16384 bytes"},
		{"No bytes.", "", "line 1: the export was cut: it ends after 0 records without their count"},
		{"No last line.", good + "\n" + corrupt + "\n", "line 3: the export was cut: it ends after 2 records without their count"},
		{"Cut in the middle of a line.", good + "\n" + corrupt[:50], "line 2: not a JSON object: unexpected EOF"},
		{"Lines are gone from the middle.", good + "\n{\"count\":3}\n", "line 2: the export was cut: 3 records are counted, 1 were read"},
		{"Lines were added.", good + "\n" + good + "\n{\"count\":1}\n", "line 3: the export was cut: 1 records are counted, 2 were read"},
		{"Two exports in one.", "{\"count\":0}\n" + good + "\n{\"count\":1}\n", "line 2: more follows the count, which ends an export"},
		{"An empty line.", good + "\n\n{\"count\":1}\n", "line 2: not a JSON object"},
		{"An empty line at the end.", "{\"count\":0}\n\n", "line 2: more follows the count, which ends an export"},
		{"Another kind of JSON.", "[]\n", "line 1: not a JSON object"},
		{"Two objects in a line.", with("}", "} {}"), "line 1: more than a JSON object"},
		{"Not UTF-8.", with("push", "\xff"), "line 1: not UTF-8"},
		{"An unknown key.", with(`"size"`, `"trusted":true,"size"`), `line 1: json: unknown field "trusted"`},
		{"A key in capitals.", with(`"size"`, `"SIZE"`), "line 1: size is missing"},
		{"A key that occurs twice.", with(`"size"`, `"size":3,"size"`), `line 1: "size" occurs twice`},
		{"A key without a value.", with(`"size":3`, `"size":null`), `line 1: "size" has no value`},
		{"A number in words.", with(`"size":3`, `"size":"3"`), "line 1: size: a string, want int64"},
		{"Evidence is missing.", with(`"source":"push",`, ""), "line 1: source is missing"},
		{"Evidence is empty.", with("push", ""), "line 1: source is missing"},
		{"The time is missing.", with(`,"verified_at":"2026-11-23T08:49:04Z"`, ""), "line 1: verified_at is missing"},
		{"A word of a later version.", with("gzip", "lz4"), `line 1: encoding: "lz4" is none of ["identity" "gzip" "zstd" "bzip2" "xz"]`},
		{"Not of a record in an export.", with(`"size"`, `"wrong_bytes":{"digest":"sha256:ef","seen_at":"2026-11-23T08:49:04Z"},"size"`),
			`line 1: "wrong_bytes" does not belong in this record`},
		{"A default that nobody writes.", with(`"size"`, `"members":1,"size"`), `line 1: "members" does not belong in this record`},
		{"A count that is no number.", "{\"count\":true}\n", "line 1: count: a bool, want int64"},
		{"A count with company.", "{\"count\":0,\"size\":3}\n", `line 1: json: unknown field "size"`},
	} {
		_, err := readExport(strings.NewReader(tt.export))
		if got := err.Error(); got != tt.want {
			t.Errorf("%s\ngot  %s\nwant %s", tt.is, got, tt.want)
		}
	}
}

// A medium that fails has not cut the export.
func TestExportReaderPassesErrors(t *testing.T) {
	t.Parallel()
	failed := errors.New("disk on fire")
	_, err := readExport(io.MultiReader(strings.NewReader(good+"\n"), failing{failed}))
	if !errors.Is(err, failed) || errors.Is(err, api.ErrCut) {
		t.Errorf("got %v, want %v", err, failed)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzExport wants of any bytes either facts that are the same after another
// round, or an error in one line that names the line.
func FuzzExport(f *testing.F) {
	f.Add([]byte(export(f, indextest.Facts(20))))
	f.Add([]byte(good + "\n" + corrupt + "\n{\"count\":2}"))
	f.Add([]byte(`{"count":0}`))
	f.Add([]byte(`{"digest":{"a":[1,{}]},"count":-1,"count":1e3}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		facts, err := readExport(bytes.NewReader(in))
		if err != io.EOF {
			if text := err.Error(); !strings.HasPrefix(text, "line ") || strings.Contains(text, "\n") {
				t.Errorf("error %q", text)
			}
			return
		}
		again, err := readExport(strings.NewReader(export(t, facts)))
		if diff := cmp.Diff(facts, again); err != io.EOF || diff != "" {
			t.Errorf("%v (-read +again):\n%s", err, diff)
		}
	})
}
