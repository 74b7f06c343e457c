package indextest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/index"
)

// Wrong returns a wrong blob that no other i has, of any algorithm.
func Wrong(i int) verify.WrongBlob {
	w := verify.WrongBlob{Digest: Digest("wrong", i), Actual: Digest("actual", i), SeenAt: time.Unix(1_790_000_000-int64(i), 0).UTC()}
	for j, a := range []digest.Algorithm{digest.SHA512, digest.SHA384} {
		if i%3 == j {
			w.Digest, w.Actual = a.FromString(w.Digest.String()), a.FromString(w.Actual.String())
		}
	}
	return w
}

func testWrong(t *testing.T, s index.Store) {
	ctx := context.Background()
	var sha256, all []verify.WrongBlob
	for i := range 9 {
		notWrong(t, s, Wrong(i).Digest)
		markWrong(t, s, Wrong(i))
		wrong(t, s, Wrong(i))
		all = append(all, Wrong(i))
		if i%3 == 2 {
			sha256 = append(sha256, Wrong(i))
		}
	}
	if got := wrongBlobs(t, s, 100); len(got) != len(all) {
		t.Errorf("%d wrong blobs, want %d", len(got), len(all))
	}
	first := wrongBlobs(t, s, 3) // SHA-256 comes first
	for i, w := range first {
		if w.Digest.Algorithm() != digest.SHA256 || i > 0 && w.Digest <= first[i-1].Digest {
			t.Errorf("wrong blobs are not in order: %v", first)
		}
	}
	if len(first) != len(sha256) {
		t.Errorf("%d of 3 wrong blobs", len(first))
	}

	again := Wrong(0)
	again.Actual, again.SeenAt = digest.SHA512.FromString("worse"), again.SeenAt.Add(time.Hour)
	markWrong(t, s, again)
	wrong(t, s, again)

	for i := range 9 {
		for range 2 {
			if err := s.ClearWrong(ctx, Wrong(i).Digest); err != nil {
				t.Errorf("ClearWrong: %v", err)
			}
			notWrong(t, s, Wrong(i).Digest)
		}
	}
	if got := wrongBlobs(t, s, 100); len(got) != 0 {
		t.Errorf("all are cleared, and there are %v", got)
	}
}

func testNotWrong(t *testing.T, s index.Store) {
	w := Wrong(2)
	for _, tt := range []struct {
		why string
		w   verify.WrongBlob
	}{
		{"no digest", verify.WrongBlob{Actual: w.Actual}},
		{"no actual digest", verify.WrongBlob{Digest: w.Digest}},
		{"the digest that was asked for", verify.WrongBlob{Digest: w.Digest, Actual: w.Digest}},
		{"a digest of another algorithm", verify.WrongBlob{Digest: w.Digest, Actual: Wrong(0).Actual}},
		{"a digest in upper case", verify.WrongBlob{Digest: "sha256:" + digest.Digest(strings.ToUpper(w.Digest.Encoded())), Actual: w.Actual}},
		{"a digest cut short", verify.WrongBlob{Digest: w.Digest[:70], Actual: w.Actual}},
	} {
		if err := s.MarkWrong(context.Background(), tt.w); err == nil {
			t.Errorf("MarkWrong with %s: no error", tt.why)
		}
		notWrong(t, s, tt.w.Digest)
		if err := s.ClearWrong(context.Background(), tt.w.Digest); err != nil {
			t.Errorf("ClearWrong with %s: %v", tt.why, err)
		}
	}
}

func markWrong(t *testing.T, s index.Store, w verify.WrongBlob) {
	t.Helper()
	if err := s.MarkWrong(context.Background(), w); err != nil {
		t.Errorf("MarkWrong: %v", err)
	}
}

func wrong(t *testing.T, s index.Store, want verify.WrongBlob) {
	t.Helper()
	got, err := s.WrongBlob(context.Background(), want.Digest)
	if diff := gocmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("WrongBlob(%s): %v (-want +got):\n%s", want.Digest, err, diff)
	}
}

func notWrong(t *testing.T, s index.Store, dgst digest.Digest) {
	t.Helper()
	if w, err := s.WrongBlob(context.Background(), dgst); !errors.Is(err, verify.ErrUnknown) {
		t.Errorf("WrongBlob(%q) = %v, %v; want ErrUnknown", dgst, w, err)
	}
}

func wrongBlobs(t *testing.T, s index.Store, n int) []verify.WrongBlob {
	t.Helper()
	list, err := s.WrongBlobs(context.Background(), n)
	if err != nil || list == nil {
		t.Fatalf("WrongBlobs(%d) = %v, %v; want some or an empty slice", n, list, err)
	}
	return list
}
