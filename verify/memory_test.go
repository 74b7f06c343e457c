package verify_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/semaphore"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// Windows are taken from a Memory, if there is one, and given back. A blob for
// which nothing is left is given up, which says nothing about it.
func TestWindowMemory(t *testing.T) {
	t.Parallel()
	large := frame(0, window(23), raw(p1)) // 8 MiB
	for _, tt := range []struct {
		is   string
		blob []byte
		room int64
		want verify.Problem
	}{
		{"zstd, and there is room for its window", large, 8 << 20, verify.None},
		{"zstd, and there is less", large, 8<<20 - 1, verify.GivenUp},
		{"zstd of two frames, of which the second has the larger window", cat(zs(p1), large), 8<<20 - 1, verify.GivenUp},
		{"zstd of ten frames, one after the other", bytes.Repeat(large, 10), 8 << 20, verify.None},
		{"bzip2, which always takes the same", verifytest.Bzip2(p1), 4 << 20, verify.None},
		{"gzip, which has no window to speak of", gz(p1), 0, verify.None},
	} {
		room := semaphore.NewWeighted(tt.room)
		h := verify.NewHasher(verify.Limits{Memory: room})
		if n, err := h.Write(tt.blob); n != len(tt.blob) || err != nil {
			t.Fatalf("%s: wrote %d, %v", tt.is, n, err)
		}
		fact := h.Sum()
		if fact.Problem != tt.want || tt.want != verify.None && fact.Final() {
			t.Errorf("%s: got %q (%s), want %q", tt.is, fact.Problem, fact.Reason, tt.want)
		}
		if !room.TryAcquire(tt.room) {
			t.Errorf("%s: not all was given back", tt.is)
		}
	}
}

// Blobs that are slow to decode need the slow lane, and give it back; others do not.
func TestSlowLane(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		is   string
		blob []byte
		slow bool
	}{
		{"gzip", gz(p1), false},
		{"zstd", zs(p1), false},
		{"no encoding", p1, false},
		{"bzip2", bz(p1), true},
		{"xz", xzd(p1), true},
		{"zstd with a window of 128 MiB", frame(0, window(27), raw(p1)), false},
		{"zstd with a window of 256 MiB", frame(0, window(28), raw(p1)), true},
		{"zstd with a window of 256 MiB in its second frame", cat(zs(p1), frame(0, window(28), raw(p2))), true},
		{"xz that is damaged", short(xzd(p1), 9), true},
	} {
		lane := semaphore.NewWeighted(1)
		sum := func() verify.Fact {
			f, err := verify.Hash(bytes.NewReader(test.blob), verify.Limits{Slow: lane}, verify.Pushed, time.Unix(0, 0))
			if err != nil {
				t.Fatal(err)
			}
			return f
		}
		if f := sum(); f.Problem == verify.GivenUp {
			t.Errorf("%s: given up in a lane that is free", test.is)
		}
		if !lane.TryAcquire(1) {
			t.Fatalf("%s: the lane is not given back", test.is)
		}
		if f := sum(); (f.Problem == verify.GivenUp) != test.slow || test.slow && f.Digest != digest.FromBytes(test.blob) {
			t.Errorf("%s: got %q (%s) in a lane that is taken, want given up: %t", test.is, f.Problem, f.Reason, test.slow)
		}
	}
}
