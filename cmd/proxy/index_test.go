package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"diffgate/cmd/proxy/show"
	"diffgate/proxy/api"
	"diffgate/verify"
	"diffgate/verify/index"
	"diffgate/verify/index/indextest"
)

// runOK runs the program, which must say nothing on stderr, and returns what it
// prints.
func runOK(t *testing.T, args ...string) string {
	t.Helper()
	var stdout, stderr bytes.Buffer
	if code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr); code != 0 || stderr.Len() > 0 {
		t.Fatalf("proxy %s: exit %d, %s", strings.Join(args, " "), code, &stderr)
	}
	return stdout.String()
}

// More facts than are read at once are printed all the same, and in order.
func TestIndexPages(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "diffids.db")
	s, err := index.OpenBolt(index.BoltConfig{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	facts := indextest.Facts(2*indexPage + 1)
	if _, err := s.PutAll(context.Background(), slices.Values(facts), nil); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var digests []string
	for _, f := range facts {
		digests = append(digests, f.Digest.String())
	}
	slices.Sort(digests)
	for _, tt := range []struct {
		n    int
		args []string
	}{
		{len(facts), []string{"export"}},
		{2*indexPage + 1, []string{"list", "-o", "jsonl"}},
		{indexPage - 1, []string{"list", "-o", "jsonl", "-n", strconv.Itoa(indexPage - 1)}},
		{indexPage, []string{"list", "-o", "jsonl", "-n", strconv.Itoa(indexPage)}},
		{indexPage + 1, []string{"list", "-o", "jsonl", "-n", strconv.Itoa(indexPage + 1)}},
		{2 * indexPage, []string{"list", "-n", strconv.Itoa(2 * indexPage)}},
		{2*indexPage - 10, []string{"list", "-o", "json", "-n", strconv.Itoa(2*indexPage - 10)}},
	} {
		out := runOK(t, append([]string{"index", "--file", path}, tt.args...)...)
		var got []string
		for line := range strings.Lines(out) {
			line = strings.TrimPrefix(line, `{"diffids":[`)
			line = strings.TrimPrefix(line, `{"digest":"`)
			if strings.HasPrefix(line, "sha256:") {
				got = append(got, line[:len("sha256:")+64])
			}
		}
		if diff := cmp.Diff(digests[:tt.n], got); diff != "" {
			t.Errorf("%v (-want +got):\n%s", tt.args, diff)
		}
	}
}

// On a terminal digests are short.
func TestTableForPeople(t *testing.T) {
	t.Parallel()
	f := verify.Fact{Digest: indextest.Digest("a", 0), Size: 3, Encoding: verify.Gzip, Unpacked: indextest.Digest("b", 0),
		UnpackedSize: 1, Parts: 1, Source: verify.Pushed, LearnedAt: time.Unix(1_790_000_000, 0).UTC()}
	var b bytes.Buffer
	out := indexOutput{format: formatTable}
	w := out.records(&b).(*tableRecords)
	w.short = true
	if err := w.write(api.NewRecord(f)); err != nil {
		t.Fatal(err)
	}
	if err := w.close(nil); err != nil {
		t.Fatal(err)
	}
	want := "DIGEST        SIZE  ENCODING  DIFF_ID       UNPACKED  SOURCE  VERIFIED_AT           NOTES\n" +
		f.Digest.Encoded()[:12] + "  3     gzip      " + f.Unpacked.Encoded()[:12] + "  1         push    2026-09-21T14:13:20Z  -\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if show.IsTerminal(file) || show.IsTerminal(&b) {
		t.Error("a file, or memory, is taken for a terminal")
	}
}
