package verify_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.uber.org/goleak"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The contents that the golden tables know by name.
var (
	p1  = verifytest.Tar("p1.txt", strings.Repeat("All happy families are alike.\n", 40))
	p2  = verifytest.Tar("p2.txt", "Call me Ishmael.\n")
	p1a = p1[:len(p1)/2]
	p1b = p1[len(p1)/2:]
	a   = verifytest.TarWithoutEnd("hello.txt", "hello\n")
	b   = verifytest.Tar("evil.txt", "evil\n")
	big = noise(200_000)

	names = map[digest.Digest]string{
		digest.FromBytes(nil): "empty", digest.FromBytes(p1): "P1", digest.FromBytes(p2): "P2",
		digest.FromBytes(p1a): "P1a", digest.FromBytes(cat(p1, p2)): "P1+P2",
		digest.FromBytes(a): "A", digest.FromBytes(cat(a, b)): "A+B", digest.FromBytes(cat(a, make([]byte, 1024))): "A+end", digest.FromBytes(big): "big",
		digest.FromString("a"): "'a'", digest.FromString("aa"): "'aa'", digest.FromString("abc"): "'abc'",
		"sha256:a6d72ac7690f53be6ae46ba88506bd97302a093f7108472bd9efc3cefda06484": "zeros", // 256 MiB of them
	}
)

// A golden row is a blob, what we say about it, and what the decoders of the
// field make of it. An upgrade of one that changes a cell fails.
//
// The cells were measured with Go 1.26, klauspost/compress 1.20, pgzip 1.3,
// ulikunitz/xz 0.5.17, pigz 2.6, igzip 2.30, gzip 1.12, zstd 1.5.4, xz 5.4.1
// and bzip2 1.0.8. pigz 2.8 and igzip 2.32 read the rows G, N and X alike.
type golden struct {
	id, is string
	blob   []byte
	want   string // encoding, then the problem, or the content and what is odd
	cells  string // one word for each column of the table, or one for all that read alike
}

// A table is the rows that some decoders of the field are tried on.
type table struct {
	encoding verify.Encoding // for which a runtime would choose these decoders
	columns  []column
	rows     []golden
}

// tables returns the golden tables.
func tables() []table {
	return []table{
		{verify.Gzip, gzipColumns, slices.Concat(gzipFraming, gzipHeaders, gzipDamage, gzipTrailing, gzipDeflate, gzipFields, otherFormats)},
		{verify.Zstd, zstdColumns, slices.Concat(zstdFraming, zstdWindows, zstdDamage, zstdOthers)},
		{verify.XZ, xzColumns, slices.Concat(xzFraming, xzPadding, xzDamage, xzFilters)},
		{verify.Bzip2, bzip2Columns, bzip2Rows},
	}
}

// allGolden returns the rows of all tables.
func allGolden() []golden {
	var all []golden
	for _, t := range tables() {
		all = append(all, t.rows...)
	}
	return all
}

// A column is a decoder of the field: a function, or a program that is run
// with the blob as its input.
type column struct {
	name    string
	decode  decoder
	program []string
	aside   bool // no runtime uses it: it may refuse what we accept
}

// A decoder writes the content of the blob in r to w as some program of the
// field does.
type decoder func(w io.Writer, r io.Reader) error

// cell returns what the row says of a column.
func (row golden) cell(i int) string {
	words := strings.Fields(row.cells)
	if len(words) == 1 {
		return words[0]
	}
	return words[i]
}

func (row golden) accepted() bool {
	return !strings.HasSuffix(row.want, " corrupt") && !strings.HasSuffix(row.want, " ambiguous") &&
		!strings.HasSuffix(row.want, " limit") && !strings.HasSuffix(row.want, " unsupported")
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for _, table := range tables() {
		seen := map[string]bool{}
		for _, row := range table.rows {
			if seen[row.id] {
				t.Fatalf("two rows %s", row.id)
			}
			seen[row.id] = true
			t.Run(row.id, func(t *testing.T) {
				t.Parallel()
				table.check(t, row)
			})
		}
	}
}

// check holds a row against ourselves and the columns that are functions.
func (table table) check(t *testing.T, row golden) {
	t.Helper()
	if got := answer(row.blob, hash(row.blob)); got != row.want {
		t.Errorf("%s: got %s, want %s", row.is, got, row.want)
	}
	if n := len(strings.Fields(row.cells)); n != 1 && n != len(table.columns) {
		t.Fatalf("%s: %d cells for %d columns", row.is, n, len(table.columns))
	}
	for i, c := range table.columns {
		if c.decode == nil {
			continue
		}
		if got := outcome(decoded(c.decode, row.blob)); got != row.cell(i) {
			t.Errorf("%s: %s reads %s, want %s", row.is, c.name, got, row.cell(i))
		}
	}
}

// TestGoldenClaim holds what this package is for over every row: where two
// decoders read different bytes we refuse; what we accept, each decoder reads
// as we do or refuses; what we accept without a quirk, each reads that a runtime uses.
func TestGoldenClaim(t *testing.T) {
	t.Parallel()
	for _, table := range tables() {
		for _, row := range table.rows {
			if strings.HasPrefix(row.want, table.encoding.String()+" ") {
				table.checkClaim(t, row)
			}
		}
	}
}

func (table table) checkClaim(t *testing.T, row golden) {
	t.Helper()
	words := strings.Fields(row.want)
	contents := map[string]bool{}
	for i, c := range table.columns {
		got := row.cell(i)
		failed := got == "E" || strings.HasPrefix(got, "E:")
		if !failed {
			contents[got] = true
		}
		switch {
		case !row.accepted():
		case !failed && got != words[1]:
			t.Errorf("%s, %s: %s reads %s and we accept it as %s", row.id, row.is, c.name, got, words[1])
		case failed && !c.aside && !hasQuirk(words[2:]):
			t.Errorf("%s, %s: %s refuses it and we accept it without a quirk", row.id, row.is, c.name)
		}
	}
	if len(contents) > 1 && row.accepted() {
		t.Errorf("%s, %s: decoders read %v and we accept it", row.id, row.is, contents)
	}
}

// TestGoldenBombs is a table of what unpacks to 256 MiB.
func TestGoldenBombs(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("decodes 256 MiB by every decoder")
	}
	const size = 256 << 20
	for _, table := range []table{
		{verify.Gzip, gzipColumns, []golden{{"B01", "zeros, a thousandth of them stored", gz(make([]byte, size)), "gzip zeros", "zeros"}}},
		{verify.Zstd, zstdColumns, []golden{{"B02", "blocks of one byte, repeated", verifytest.ZstdZeros(size), "zstd zeros", "zeros"}}},
	} {
		for _, row := range table.rows {
			table.check(t, row)
			table.checkClaim(t, row)
			for i, c := range table.columns {
				if c.program != nil {
					t.Run(c.name, func(t *testing.T) {
						need(t, c.program[0])
						c.checkProgram(t, row, row.cell(i))
					})
				}
			}
		}
	}
}

var quirks = []string{"HeaderCRC", "LongName", "ReservedFlag", "TrailingZeros", "SkippableFirst", "NotTar", "LargeWindow"}

func hasQuirk(words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return slices.Contains(quirks, w) })
}

// hash returns the fact about a blob under the default limits.
func hash(blob []byte) verify.Fact {
	f, err := verify.Hash(bytes.NewReader(blob), verify.Limits{}, verify.Pushed, time.Unix(0, 0))
	if err != nil {
		panic(err) // a bytes.Reader has no errors
	}
	return f
}

// answer puts a fact about a blob into words.
func answer(blob []byte, f verify.Fact) string {
	if f.Digest != digest.FromBytes(blob) || f.Size != int64(len(blob)) {
		return "a fact about other bytes"
	}
	if f.Problem != verify.None {
		if f.Unpacked != "" || f.Reason == "" || len(f.Reason) > verify.MaxReason {
			return fmt.Sprintf("a contradiction: %+v", f)
		}
		return fmt.Sprintf("%s %s", f.Encoding, f.Problem)
	}
	s := f.Encoding.String()
	if f.Encoding != verify.Identity {
		s += " " + nameOf(f.Unpacked)
	}
	if f.Parts != 1 {
		s += fmt.Sprintf(" parts=%d", f.Parts)
	}
	if f.Trailing != 0 {
		s += fmt.Sprintf(" trailing=%d", f.Trailing)
	}
	for i, name := range quirks {
		if f.Quirks&(1<<i) != 0 {
			s += " " + name
		}
	}
	return s
}

// nameOf returns the name of a content, or the start of its digest.
func nameOf(content digest.Digest) string {
	if name, ok := names[content]; ok {
		return name
	}
	return content.Encoded()[:6]
}

// decoded returns the digest of what a decoder makes of a blob, also when it ends
// with an error.
func decoded(decode decoder, blob []byte) (digest.Digest, error) {
	h := sha256.New()
	err := decode(h, bytes.NewReader(blob))
	return digest.NewDigest(digest.SHA256, h), err
}

// outcome puts what a decoder made of a blob into words: the content; "E" for
// an error; "E:content" for one after some content.
func outcome(content digest.Digest, err error) string {
	switch name := nameOf(content); {
	case err == nil:
		return name
	case name == "empty":
		return "E"
	default:
		return "E:" + name
	}
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// noise returns n bytes that no encoder makes smaller.
func noise(n int) []byte {
	out := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256(nil)).Read(out)
	return out
}
