package verify_test

import (
	"bytes"
	stdflate "compress/flate"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
	"github.com/klauspost/pgzip"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// fuzzLimits keep a bomb from taking the time of the fuzzer.
var fuzzLimits = verify.Limits{Unpacked: 4 << 20, Window: 8 << 20}

// FuzzHasher holds that the same bytes give the same fact however they are cut,
// and that what a Hasher decodes, other decoders decode alike or refuse.
func FuzzHasher(f *testing.F) {
	for _, row := range allGolden() {
		if len(row.blob) < 10_000 {
			f.Add(row.blob, uint16(len(row.blob)/2))
		}
	}
	f.Fuzz(func(t *testing.T, blob []byte, at uint16) {
		cut := min(int(at), len(blob))
		h := verify.NewHasher(fuzzLimits)
		h.Write(blob[:cut])
		h.Write(blob[cut:])
		fact := h.Sum()
		whole, err := verify.Hash(bytes.NewReader(blob), fuzzLimits, 0, time.Time{})
		if err != nil {
			t.Fatal(err)
		}
		if !whole.Agrees(fact) || whole.Reason != fact.Reason {
			t.Fatalf("cut at %d (-whole +cut):\n%s", cut, cmp.Diff(whole, fact))
		}
		if fact.Digest != digest.FromBytes(blob) || fact.Size != int64(len(blob)) {
			t.Fatalf("got %s of %d bytes, want %s of %d", fact.Digest, fact.Size, digest.FromBytes(blob), len(blob))
		}
		if fact.Problem == verify.None || fact.Encoding == verify.Zstd || fact.Encoding == verify.Bzip2 {
			checkFact(t, fact, blob)
		}
	})
}

// fuzzDecoders are the decoders of the field that run in a process, made for
// many small blobs.
var fuzzDecoders = map[verify.Encoding][]decoder{
	verify.Gzip: {stdGunzip, gunzip, func(w io.Writer, r io.Reader) error {
		z, err := pgzip.NewReaderN(r, 64<<10, 2)
		if err != nil {
			return err
		}
		defer z.Close()
		return copyReads(w, z)
	}},
	verify.Zstd: {unzstd(zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderMaxWindow(uint64(fuzzLimits.Window)), zstd.WithDecoderMaxMemory(uint64(fuzzLimits.Window)))},
	verify.XZ:    {unxz},
	verify.Bzip2: {bzip2Columns[0].decode},
}

// checkFact holds a fact against other decoders. They may refuse what we accept
// only for one of its quirks; of zstd and bzip2, which all runtimes decode with
// the same library, they accept what we refuse only if it is a tar as well or
// over a limit.
func checkFact(t *testing.T, fact verify.Fact, blob []byte) {
	if fact.Problem == verify.Ambiguous || fact.Problem == verify.Limit {
		return
	}
	for _, decode := range fuzzDecoders[fact.Encoding] {
		content, err := decoded(decode, blob)
		switch {
		case err == nil && fact.Problem != verify.None:
			t.Fatalf("refused (%s), and accepted elsewhere as %s", fact.Reason, content)
		case err == nil && content != fact.Unpacked:
			t.Fatalf("accepted as %s, and read as %s", fact.Unpacked, content)
		case err != nil && fact.Problem == verify.None && fact.Quirks == 0:
			t.Fatalf("accepted without a quirk, and refused elsewhere: %v", err)
		}
	}
}

// FuzzDeflate holds that the two DEFLATE decoders of Go accept the same streams
// and read the same there, and that we accept those in a gzip member with right
// sums, which a fuzzer of whole blobs hardly finds.
func FuzzDeflate(f *testing.F) {
	for _, row := range gzipDeflate {
		f.Add(row.blob[10 : len(row.blob)-8])
	}
	for _, content := range [][]byte{p1, big[:300]} {
		f.Add(stored(content))
		f.Add(gz(content)[10:])
		f.Add(flushed(content[:50]))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		in := bytes.NewReader(data)
		content, err := inflate(flate.NewReader(in))
		used := len(data) - in.Len()
		in.Reset(data)
		other, otherErr := inflate(stdflate.NewReader(in))
		switch n := len(data) - in.Len(); {
		case err != nil && otherErr != nil:
			return
		case err != nil || otherErr != nil || !bytes.Equal(content, other) || n != used:
			t.Fatalf("klauspost reads %d bytes from %d, %v; compress/flate %d from %d, %v", len(content), used, err, len(other), n, otherErr)
		}
		blob := member{Content: content, Deflate: data[:used]}.Bytes()
		fact, err := verify.Hash(bytes.NewReader(blob), fuzzLimits, 0, time.Time{})
		if err != nil || fact.Problem != verify.None {
			t.Fatalf("refused: %s, %v", fact.Reason, err)
		}
		checkFact(t, fact, blob)
	})
}

// inflate reads up to 1 MiB; more is an error.
func inflate(r io.Reader) ([]byte, error) {
	const most = 1 << 20
	out, err := io.ReadAll(io.LimitReader(r, most))
	if err == nil && len(out) == most {
		err = errors.New("too long")
	}
	return out, err
}
