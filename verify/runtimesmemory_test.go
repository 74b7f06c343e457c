package verify_test

import (
	"bytes"
	"io"
	"runtime"
	"testing"
	"time"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// TestMemory holds that what a blob claims, and how long it is, does not
// decide how much memory is taken. It counts all that was ever allocated, so
// nothing else may run meanwhile.
func TestMemory(t *testing.T) {
	times := 1_000_000
	if raceEnabled {
		times = 50_000
	}
	huge := xzBlock{content: p1, dictionary: 40} // 4 GiB - 1
	many := make([]xzBlock, 1000)
	for i := range many {
		many[i] = xzBlock{content: []byte("a"), data: cat(storedChunk(1, []byte("a")), []byte{0}), dictionary: 28} // 64 MiB
	}
	member := gz(noise(50))
	piece := zs(noise(30))
	for _, test := range []struct {
		is   string
		blob io.Reader
		most uint64 // MiB
		want verify.Problem
	}{
		{"an ordinary gzip layer", bytes.NewReader(gz(big)), 2, verify.None},
		{"xz that asks for a dictionary of 4 GiB", bytes.NewReader(xzStream(checkCRC64, huge)), 2, verify.Limit},
		{"that in the second block", bytes.NewReader(xzStream(checkCRC64, xzBlock{content: p1}, huge)), 2, verify.Limit},
		{"that in the second stream", bytes.NewReader(cat(xzd(p1), xzStream(checkCRC64, huge))), 2, verify.Limit},
		{"that behind a list with a number that is too long", bytes.NewReader(cat(
			xzListed(xzList([]byte{0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0}, xzBlock{content: p1}.record(checkCRC64))),
			xzStream(checkCRC64, huge))), 2, verify.Corrupt},
		{"that in a chunk that counts to another", bytes.NewReader(hiddenBlock(huge)), 2, verify.Corrupt},
		{"1000 blocks of xz with a byte and a dictionary of 64 MiB each", bytes.NewReader(xzStream(checkNone, many...)), 20, verify.None},
		{"many blocks of xz without content", repeat(xzBlock{}.bytes(checkNone), times/10+20_000, xzHead(checkNone)), 1200, verify.Corrupt},
		{"five bzip2 streams of 200 KB", repeat(bz(big), 5, nil), 8, verify.None},
		{"many bzip2 streams without content", repeat(bz(nil), times/10, nil), 8, verify.None},
		{"many small gzip members", repeat(member, times/4, nil), 8, verify.None},
		{"many empty gzip members", repeat(gz(nil), times, nil), 2, verify.None},
		{"many small zstd frames", repeat(piece, times/4, nil), 20, verify.None},
		{"many empty zstd frames", repeat(zs(nil), times, nil), 20, verify.None},
		{"many skippable frames of 32 bytes", repeat(verifytest.ZstdSkippable(make([]byte, 24)), times, nil), 128, verify.None},
		{"zstd that asks for a window of 3.75 TiB", bytes.NewReader(frame(0, []byte{0xff}, raw(p1))), 2, verify.Limit},
	} {
		t.Run(test.is, func(t *testing.T) {
			checkMemory(t, test.blob, test.most, test.want)
		})
	}
}

// TestMemoryFlood hashes 10 million empty skippable frames of zstd. The decoder
// allocates a few bytes for each, and keeps none.
func TestMemoryFlood(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("hashes 80 MB")
	}
	checkMemory(t, repeat(verifytest.ZstdSkippable(nil), 10_000_000, nil), 300, verify.None)
}

func checkMemory(t *testing.T, blob io.Reader, most uint64, want verify.Problem) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	f, err := verify.Hash(blob, verify.Limits{}, verify.Fetched, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if got := (after.TotalAlloc - before.TotalAlloc) >> 20; got > most {
		t.Errorf("allocated %d MiB, want at most %d", got, most)
	}
	if f.Problem != want {
		t.Errorf("got problem %q (%s), want %q", f.Problem, f.Reason, want)
	}
}

// repeat reads head, and then unit so many times.
func repeat(unit []byte, times int, head []byte) io.Reader {
	chunk := bytes.Repeat(unit, max(1, 64<<10/len(unit)))
	per := len(chunk) / len(unit)
	parts := []io.Reader{bytes.NewReader(head)}
	return io.MultiReader(append(parts, &repeated{chunk: chunk, left: int64(times/per)*int64(len(chunk)) + int64(times%per*len(unit))})...)
}

// repeated reads a chunk again and again.
type repeated struct {
	chunk []byte
	at    int
	left  int64
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), r.left)], r.chunk[r.at:])
	r.at = (r.at + n) % len(r.chunk)
	r.left -= int64(n)
	return n, nil
}

// hiddenBlock returns a stream whose first block has a chunk that counts what
// follows it as its own: to a decoder that does not use up its chunks, the end
// of the block, and then another block.
func hiddenBlock(b xzBlock) []byte {
	chunk := short(lzma2Of(p1), 1)
	hidden := cat(make([]byte, 1+(4-(len(chunk)+1)%4)%4), b.bytes(checkNone))
	chunk[4] += byte(len(hidden)) // the carry is not of interest
	return cat(xzHead(checkNone), xzBlock{}.header(), chunk, hidden, xzEnd(checkNone, xzBlock{content: p1}, b))
}
