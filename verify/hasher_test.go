package verify_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"math/rand/v2"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

func TestHash(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 23, 6, 26, 18, 999, time.FixedZone("", 3600))
	blob := gz(p1)
	got, err := verify.Hash(bytes.NewReader(blob), verify.Limits{}, verify.Fetched, at)
	if err != nil {
		t.Fatal(err)
	}
	want := verify.Fact{
		Digest:       digest.FromBytes(blob),
		Size:         int64(len(blob)),
		Encoding:     verify.Gzip,
		Unpacked:     digest.FromBytes(p1),
		UnpackedSize: int64(len(p1)),
		Parts:        1,
		Source:       verify.Fetched,
		LearnedAt:    time.Date(2026, 11, 23, 5, 26, 18, 0, time.UTC),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("fact (-want +got):\n%s", diff)
	}

	broken := errors.New("connection reset")
	if _, err := verify.Hash(io.MultiReader(bytes.NewReader(blob), iotest.ErrReader(broken)), verify.Limits{}, verify.Fetched, at); err != broken {
		t.Errorf("a reader that fails: got error %v, want %v", err, broken)
	}
}

// A fact does not depend on how the bytes were cut on their way.
func TestHasherPieces(t *testing.T) {
	t.Parallel()
	long := verifytest.Tar("noise", string(noise(300_000)), "text", string(bytes.Repeat(p1, 200)))
	blobs := [][]byte{{'x'}, long, gz(long), zs(long), short(gz(long), 4), short(zs(long), 4), cat(zs(long), skippable), cat(gz(long), make([]byte, 300_000))}
	for _, row := range allGolden() {
		blobs = append(blobs, row.blob)
	}
	random := rand.New(rand.NewPCG(1, 2))
	pieces := map[string]func() int{
		"single bytes": func() int { return 1 },
		"primes":       func() int { return 251 },
		"chunks":       func() int { return 64 << 10 },
		"chunks and 1": func() int { return 64<<10 + 1 },
		"random":       func() int { return random.IntN(100_000) },
	}
	for _, blob := range blobs {
		want := sum(blob, func() int { return len(blob) })
		for name, size := range pieces {
			if name == "single bytes" && len(blob) > 5_000 {
				continue
			}
			if diff := cmp.Diff(want, sum(blob, size)); diff != "" {
				t.Errorf("%s of %d bytes: in %s (-whole +pieces):\n%s", want.Encoding, len(blob), name, diff)
			}
		}
	}
}

func sum(blob []byte, size func() int) verify.Fact {
	h := verify.NewHasher(verify.Limits{})
	for len(blob) > 0 {
		n := min(size(), len(blob))
		h.Write(blob[:n])
		blob = blob[n:]
	}
	return h.Sum()
}

// Close ends the decoder wherever it stands. TestMain sees that no goroutine
// is left.
func TestHasherClose(t *testing.T) {
	t.Parallel()
	for _, blob := range [][]byte{p1, gz(p1), zs(p1), cat(skippable, zs(p1)), cat(gz(p1), garbage), gz(big), zs(big)} {
		for n := 0; n <= len(blob); n += 1 + len(blob)/200 {
			h := verify.NewHasher(verify.Limits{})
			h.Write(blob[:n])
			h.Close()
			h.Close()
			h.Write(blob[n:])
			f := h.Sum()
			if f.Digest != digest.FromBytes(blob) || f.Size != int64(len(blob)) {
				t.Fatalf("Sum after Close: got %s of %d bytes, want %s of %d", f.Digest, f.Size, digest.FromBytes(blob), len(blob))
			}
			if f.Final() && f.Encoding != verify.Identity && f.Problem == verify.None {
				t.Fatalf("Sum after Close at %d of %d bytes claims to know the content: %+v", n, len(blob), f)
			}
		}
	}
}

// A decoder that has seen enough does not keep the digest from being right.
func TestHasherDecoderEndsEarly(t *testing.T) {
	t.Parallel()
	for _, head := range [][]byte{
		p1, // identity: nothing to decode
		member{Method: 7}.Bytes(),
		zs(p1)[:5],
		[]byte("BZh9"),
		verifytest.TarOrGzip(p2),
	} {
		h := verify.NewHasher(verify.Limits{})
		blob := cat(head, make([]byte, 1<<20))
		for piece := range len(blob) / 1000 {
			h.Write(blob[piece*1000 : (piece+1)*1000])
		}
		h.Write(blob[len(blob)/1000*1000:])
		if h.Digest() != digest.FromBytes(blob) || h.Size() != int64(len(blob)) {
			t.Errorf("before Sum: got %s of %d bytes, want %s of %d", h.Digest(), h.Size(), digest.FromBytes(blob), len(blob))
		}
		f := h.Sum()
		h.Close()
		if diff := cmp.Diff(f, h.Sum()); diff != "" {
			t.Errorf("second Sum (-first +second):\n%s", diff)
		}
		if f.Digest != digest.FromBytes(blob) || f.Size != int64(len(blob)) {
			t.Errorf("got %s of %d bytes, want %s of %d", f.Digest, f.Size, digest.FromBytes(blob), len(blob))
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	size := int64(len(p1))
	for _, test := range []struct {
		is     string
		blob   []byte
		limits verify.Limits
		want   string
	}{
		{"content as large as allowed", gz(p1), verify.Limits{Unpacked: size}, ""},
		{"content larger than allowed", gz(p1), verify.Limits{Unpacked: size - 1}, "it unpacks to more than limits.unpacked (3071 bytes)"},
		{"members that are larger together", verifytest.GzipMembers(p1a, p1b), verify.Limits{Unpacked: size - 1}, "it unpacks to more than limits.unpacked (3071 bytes)"},
		{"zstd content as large as allowed", zs(p1), verify.Limits{Unpacked: size}, ""},
		{"zstd content larger than allowed", zs(p1), verify.Limits{Unpacked: size - 1}, "it unpacks to more than limits.unpacked (3071 bytes)"},
		{"zstd frames that are larger together", verifytest.ZstdFrames(p1a, p1b), verify.Limits{Unpacked: size - 1}, "it unpacks to more than limits.unpacked (3071 bytes)"},
		{"zstd bomb: 32 GiB in 1 MiB", verifytest.ZstdZeros(32 << 30), verify.Limits{Unpacked: 1 << 20}, "it unpacks to more than limits.unpacked (1048576 bytes)"},
		{"gzip bomb: 8 MiB in 8 KiB", gz(make([]byte, 8<<20)), verify.Limits{Unpacked: 1 << 20}, "it unpacks to more than limits.unpacked (1048576 bytes)"},
		{"64 MiB of zeros in 2 KiB, which is far over the ratio and under a GiB", verifytest.ZstdZeros(64 << 20), verify.Limits{Ratio: 10}, ""},
		{"window as large as allowed", frame(0, window(20), raw(p1)), verify.Limits{Window: 1 << 20}, ""},
		{"window larger than allowed", frame(0, window(21), raw(p1)), verify.Limits{Window: 1 << 20}, "its zstd window is larger than limits.window (1048576 bytes)"},
		{"window limit that no decoder can keep", zs(p1), verify.Limits{Window: 1}, "zstd: WithMaxWindowSize must be at least 1KB, 1024 bytes"},
		{"uncompressed bytes have no limit", p1, verify.Limits{Unpacked: 1, Ratio: 1, Window: 1}, ""},
	} {
		t.Run(test.is, func(t *testing.T) {
			t.Parallel()
			f, err := verify.Hash(bytes.NewReader(test.blob), test.limits, verify.Pushed, time.Now())
			if err != nil {
				t.Fatal(err)
			}
			if f.Reason != test.want {
				t.Errorf("got reason %q, want %q", f.Reason, test.want)
			}
			if over := f.Problem == verify.Limit; over != (test.want != "") || over == f.Final() {
				t.Errorf("got problem %q, final %v", f.Problem, f.Final())
			}
			if want := digest.FromBytes(test.blob); f.Digest != want {
				t.Errorf("got digest %s, want %s", f.Digest, want)
			}
		})
	}
}

// The length in a gzip trailer counts modulo 2^32 (RFC 1952, section 2.3.1).
func TestGzipOver4GiB(t *testing.T) {
	t.Parallel()
	if testing.Short() || raceEnabled {
		t.Skip("decodes 4 GiB")
	}
	const size = 1<<32 + 1
	h := verify.NewHasher(verify.Limits{})
	defer h.Close()
	w, err := gzip.NewWriterLevel(h, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for n := int64(size); n > 0; n -= int64(len(zeros)) {
		if _, err := w.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if f := h.Sum(); f.Problem != verify.None || f.UnpackedSize != size {
		t.Errorf("got problem %q and %d bytes, want none and %d", f.Problem, f.UnpackedSize, int64(size))
	}
}
