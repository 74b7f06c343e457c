package verify_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// BenchmarkHasher reads a layer of 64 MiB that shrinks to a third. MB/s is of
// the stored bytes, decodedMB/s of what they decode to.
func BenchmarkHasher(b *testing.B) {
	tar := verifytest.Tar("usr/lib/libexample.so", prose(64<<20))
	for _, bm := range []struct {
		encoding string
		blob     []byte
	}{
		{"identity", tar},
		{"gzip", verifytest.Gzip(tar)}, // level 6
		{"zstd", verifytest.Zstd(tar)},
	} {
		b.Run(bm.encoding, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(bm.blob)))
			for b.Loop() {
				f, err := verify.Hash(bytes.NewReader(bm.blob), verify.Limits{}, verify.Fetched, time.Time{})
				if err != nil || f.UnpackedSize != int64(len(tar)) {
					b.Fatalf("got %d bytes, error %v; want %d bytes", f.UnpackedSize, err, len(tar))
				}
			}
			decoded := float64(len(tar)) * float64(b.N) / 1e6
			b.ReportMetric(decoded/b.Elapsed().Seconds(), "decodedMB/s")
		})
	}
}

// prose returns about n bytes of made-up words, of which some come more often
// than others.
func prose(n int) string {
	random := rand.New(rand.NewPCG(1, 2))
	words := make([]string, 5000)
	for i := range words {
		words[i] = fmt.Sprintf("%x", random.Uint64N(1<<(8+i%40)))
	}
	var buf bytes.Buffer
	for buf.Len() < n {
		buf.WriteString(words[int(random.ExpFloat64()*500)%len(words)])
		buf.WriteByte(' ')
	}
	return buf.String()
}
