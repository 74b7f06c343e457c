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

	contents = []struct {
		name  string
		bytes []byte
	}{
		{"empty", nil}, {"P1", p1}, {"P2", p2}, {"P1a", p1a}, {"P1+P2", cat(p1, p2)},
		{"A", a}, {"A+B", cat(a, b)}, {"big", big},
		{"'a'", []byte("a")}, {"'aa'", []byte("aa")}, {"'abc'", []byte("abc")},
	}
)

// A golden row is a blob, what we say about it, and what the decoders of the
// field make of it. An upgrade of a library that changes a cell fails.
type golden struct {
	id, is string
	blob   []byte
	want   string    // encoding, then the problem, or the content and what is odd
	others [2]string // content; "E" with an error, "E:content" with one in the end
}

// allGolden returns the rows of all tables.
func allGolden() []golden {
	return slices.Concat(gzipFraming, gzipHeaders, gzipDamage, gzipTrailing, gzipDeflate, otherFormats, zstdFraming, zstdWindows, zstdDamage)
}

// A decoder reads all of a blob as some program of the field does.
type decoder func(io.Reader) ([]byte, error)

func testGolden(t *testing.T, rows []golden, names [2]string, others [2]decoder) {
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row.id] {
			t.Fatalf("two rows %s", row.id)
		}
		seen[row.id] = true
		t.Run(row.id, func(t *testing.T) {
			t.Parallel()
			if got := answer(row.blob, hash(row.blob)); got != row.want {
				t.Errorf("%s: got %s, want %s", row.is, got, row.want)
			}
			for i, decode := range others {
				if got := outcome(decode(bytes.NewReader(row.blob))); got != row.others[i] {
					t.Errorf("%s: %s reads %s, want %s", row.is, names[i], got, row.others[i])
				}
			}
		})
	}
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
		s += " " + contentOf(f)
	}
	if f.Parts != 1 {
		s += fmt.Sprintf(" parts=%d", f.Parts)
	}
	if f.Trailing != 0 {
		s += fmt.Sprintf(" trailing=%d", f.Trailing)
	}
	for i, name := range []string{"HeaderCRC", "LongName", "ReservedFlag", "TrailingZeros", "SkippableFirst"} {
		if f.Quirks&(1<<i) != 0 {
			s += " " + name
		}
	}
	return s
}

func contentOf(f verify.Fact) string {
	for _, c := range contents {
		if f.Unpacked == digest.FromBytes(c.bytes) && f.UnpackedSize == int64(len(c.bytes)) {
			return c.name
		}
	}
	return "something else"
}

// outcome puts what a decoder returned into words.
func outcome(out []byte, err error) string {
	name := "something"
	for _, c := range contents {
		if bytes.Equal(out, c.bytes) {
			name = c.name
		}
	}
	switch {
	case err == nil:
		return name
	case len(out) == 0:
		return "E"
	}
	return "E:" + name
}

func cat(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// noise returns n bytes that no encoder makes smaller.
func noise(n int) []byte {
	out := make([]byte, n)
	rand.NewChaCha8(sha256.Sum256(nil)).Read(out)
	return out
}
