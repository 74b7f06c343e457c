package verify_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

func look(t *testing.T, blob []byte) verify.Look {
	t.Helper()
	l, err := verify.TakeLook(bytes.NewReader(blob), verify.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A second look finds the content under its other digests, in every encoding.
func TestLookWide(t *testing.T) {
	t.Parallel()
	for name, blob := range map[string][]byte{"tar": p1, "gzip": gz(p1), "zstd": zs(p1), "nothing": nil, "zeros": make([]byte, 3000)} {
		content := p1
		if blob == nil || name == "zeros" {
			content = blob
		}
		for _, a := range []digest.Algorithm{digest.SHA384, digest.SHA512} {
			if id := verify.DiffID(a.FromBytes(content)); !look(t, blob).Has(id) {
				t.Errorf("%s: %s is not found", name, id)
			}
		}
		if l := look(t, blob); l.Has(verify.DiffID(digest.FromBytes(content))) || l.Has("") {
			t.Errorf("%s: found under what is no other digest", name)
		}
	}
}

// A look finds where a hash of the tar may have ended too early, and no other
// place.
func TestLookUnpadded(t *testing.T) {
	t.Parallel()
	file := verifytest.TarWithoutEnd("a", "body")
	padded := cat(file, make([]byte, 10240-len(file)))
	l := look(t, gz(padded))
	for _, tt := range []struct {
		is      string
		content []byte
		want    bool
	}{
		{"to the last byte that is not zero", bytes.TrimRight(padded, "\x00"), true},
		{"without the end marker", file, true},
		{"with half of the end marker", cat(file, make([]byte, 512)), true},
		{"with the end marker and no more", cat(file, make([]byte, 1024)), true},
		{"to the last block", padded[:len(padded)-512], true},
		{"to its end, which is the DiffID", padded, false},
		{"to the middle of a block", cat(file, make([]byte, 100)), false},
		{"to the middle of the file", file[:514], false},
	} {
		if got := slices.Contains(l.Unpadded, verify.DiffID(digest.FromBytes(tt.content))); got != tt.want {
			t.Errorf("%s: found is %t, want %t", tt.is, got, tt.want)
		}
	}
	for n, want := range map[int]bool{0: false, 100: false, 512: true, 1536: true, 20 * 512: true, 30 * 512: false} {
		if got := slices.Contains(l.Padded, verify.DiffID(digest.FromBytes(cat(padded, make([]byte, n))))); got != want {
			t.Errorf("with %d bytes of padding more: found is %t, want %t", n, got, want)
		}
	}
	if ids := look(t, gz([]byte("no zeros"))).Unpadded; len(ids) != 0 {
		t.Errorf("content without zeros at its end: got %v", ids)
	}
	if n := len(look(t, make([]byte, 10<<20)).Unpadded); n > 300 {
		t.Errorf("10 MiB of zeros: got %d DiffIDs", n)
	}
	// Zeros within the content are no padding.
	gaps := cat([]byte("a"), make([]byte, 5000), []byte("b"), make([]byte, 512))
	if !slices.Contains(look(t, gz(gaps)).Unpadded, verify.DiffID(digest.FromBytes(gaps[:5002]))) {
		t.Error("zeros between content are not hashed")
	}
}

// A look decodes what was compressed twice.
func TestLookContent(t *testing.T) {
	t.Parallel()
	for name, blob := range map[string][]byte{"gzip of gzip": gz(gz(p1)), "gzip of zstd": gz(zs(p1)), "zstd of gzip": zs(gz(p1))} {
		if got := look(t, blob).Content; got.Unpacked != digest.FromBytes(p1) || got.Encoding == verify.Identity {
			t.Errorf("%s: got %s of %s", name, got.Encoding, got.Unpacked)
		}
	}
	if got := look(t, gz(p1)).Content; got.Encoding != verify.Identity || got.Digest != digest.FromBytes(p1) {
		t.Errorf("gzip: got %s of %s", got.Encoding, got.Digest)
	}
}

// A blob that does not decode has no content to look at.
func TestLookProblem(t *testing.T) {
	t.Parallel()
	if l, err := verify.TakeLook(bytes.NewReader(short(gz(p1), 1)), verify.Limits{}); !errors.Is(err, verify.ErrUnknown) {
		t.Errorf("cut gzip: got %+v, %v; want ErrUnknown", l, err)
	}
	broken := errors.New("broken")
	if _, err := verify.TakeLook(io.MultiReader(bytes.NewReader(gz(p1)), iotest.ErrReader(broken)), verify.Limits{}); !errors.Is(err, broken) {
		t.Errorf("got error %v, want that of the reader", err)
	}
}
