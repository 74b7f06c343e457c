package indextest

import (
	"context"
	"errors"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
)

func testLinks(t *testing.T, s index.Store) {
	for i := range 10 {
		f := Fact(i)
		unknown(t, s, Name(i))
		if i%3 == 0 { // the fact may come first, or the link
			put(t, s, f)
			unknown(t, s, Name(i))
		}
		link(t, s, Name(i), f.Digest)
		if i%3 != 0 {
			unknown(t, s, Name(i))
			put(t, s, f)
		}
		link(t, s, Name(i), f.Digest)
		link(t, s, Name(100+i), f.Digest) // a blob may have several
		for _, name := range []digest.Digest{Name(i), Name(100 + i), f.Digest} {
			if diff := gocmp.Diff(f, get(t, s, name)); diff != "" {
				t.Errorf("fact under %s (-put +got):\n%s", name, diff)
			}
		}
	}

	final := Fact(21)
	limited := final
	limited.Problem, limited.Reason, limited.Unpacked = verify.Limit, "over 1 TiB", ""
	link(t, s, Name(21), final.Digest)
	for _, f := range []verify.Fact{limited, final} {
		put(t, s, f)
		if diff := gocmp.Diff(f, get(t, s, Name(21))); diff != "" {
			t.Errorf("fact under another name (-put +got):\n%s", diff)
		}
	}
}

func testLinksNeverChange(t *testing.T, s index.Store) {
	facts := []verify.Fact{Fact(0), Fact(7)}
	for i, name := range []digest.Digest{Name(0), Name(1)} { // SHA-512, SHA-384
		put(t, s, facts...)
		link(t, s, name, facts[i].Digest)
		for _, other := range []digest.Digest{facts[1-i].Digest, Digest("nobody", 0)} {
			if err := s.Link(context.Background(), name, other); !errors.Is(err, verify.ErrConflict) {
				t.Errorf("Link of a name to another blob: %v, want ErrConflict", err)
			}
		}
		if diff := gocmp.Diff(facts[i], get(t, s, name)); diff != "" {
			t.Errorf("fact under the name (-first +got):\n%s", diff)
		}
	}
}

func testForeignLinks(t *testing.T, s index.Store) {
	blob := put(t, s, Fact(0))[0].Digest
	long, short := Name(0), Name(1)
	for _, tt := range []struct {
		why        string
		name, dgst digest.Digest
	}{
		{"no name", "", blob},
		{"a SHA-256 name", Digest("name", 0), blob},
		{"the blob's own name", blob, blob},
		{"a name of an unknown algorithm", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", blob},
		{"digits without an algorithm", digest.Digest(long.Encoded()), blob},
		{"a name cut short", long[:len(long)-1], blob},
		{"a name that is too long", short + "0", blob},
		{"SHA-384 digits called SHA-512", "sha512:" + digest.Digest(short.Encoded()), blob},
		{"SHA-512 digits called SHA-384", "sha384:" + digest.Digest(long.Encoded()), blob},
		{"a name in upper case", "sha512:" + digest.Digest(strings.ToUpper(long.Encoded())), blob},
		{"a name with digits that are none", "sha512:" + digest.Digest(strings.Repeat("g", 128)), blob},
		{"no blob", long, ""},
		{"a blob under another name", long, short},
		{"a blob in upper case", long, "sha256:" + digest.Digest(strings.ToUpper(blob.Encoded()))},
		{"a blob cut short", long, blob[:70]},
	} {
		if err := s.Link(context.Background(), tt.name, tt.dgst); err == nil || errors.Is(err, verify.ErrConflict) {
			t.Errorf("Link with %s: %v, want an error that is no conflict", tt.why, err)
		}
		if tt.name != blob {
			unknown(t, s, tt.name)
		}
	}
	link(t, s, long, blob)
	for _, d := range []digest.Digest{long[:len(long)-1], long + "0", "sha512:" + digest.Digest(strings.ToUpper(long.Encoded())), "sha384:" + digest.Digest(long.Encoded())} {
		unknown(t, s, d)
	}
}

func link(t *testing.T, s index.Store, name, dgst digest.Digest) {
	t.Helper()
	if err := s.Link(context.Background(), name, dgst); err != nil {
		t.Errorf("Link: %v", err)
	}
}
