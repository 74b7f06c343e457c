package index

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"diffgate/verify"
	"github.com/opencontainers/go-digest"
)

// layer returns a fact about an ordinary layer.
func layer(i int) verify.Fact {
	n := binary.AppendVarint(nil, int64(i))
	return verify.Fact{
		Digest: digest.FromBytes(append(n, 'd')), Size: 30<<20 + int64(i), Encoding: verify.Gzip,
		Unpacked: digest.FromBytes(append(n, 'u')), UnpackedSize: 90<<20 + int64(i), Parts: 1,
		Source: verify.Pushed, LearnedAt: time.Unix(1_790_000_000+int64(i), 0).UTC(),
	}
}

// putting returns what Put gives the writer to do.
func putting(f verify.Fact) *write {
	return newWrite(func(t *tables) (refused, err error) { return t.put(f) })
}

// filled returns a store with n layers, stored as the writer does when it is
// busy.
func filled(b *testing.B, n int) *Bolt {
	b.Helper()
	s, err := OpenBolt(BoltConfig{Path: filepath.Join(b.TempDir(), "diffids.db")})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	file, err := s.current(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; i < n; {
		var batch []*write
		for ; i < n && len(batch) < maxBatch; i++ {
			batch = append(batch, putting(layer(i)))
		}
		if _, err := file.apply(batch); err != nil {
			b.Fatal(err)
		}
	}
	return s
}

// BenchmarkPutParallel measures durable Puts from 100 goroutines.
func BenchmarkPutParallel(b *testing.B) {
	s := filled(b, 0)
	var next atomic.Int64
	b.SetParallelism(100 / runtime.GOMAXPROCS(0))
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := s.Put(context.Background(), layer(int(next.Add(1)))); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkPut measures one durable Put after the other.
func BenchmarkPut(b *testing.B) {
	s := filled(b, 0)
	for i := 0; b.Loop(); i++ {
		if err := s.Put(context.Background(), layer(i)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	const n = 100_000
	s := filled(b, n)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := s.Get(context.Background(), layer(i*7919%n).Digest); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkFile fills a file, and reports the bytes that a fact takes in it as
// it has grown and after compaction, and how long it takes to open. Run it
// with -benchtime=1x.
func BenchmarkFile(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("facts=%d", n), func(b *testing.B) {
			for b.Loop() {
				s := filled(b, n)
				grown := usedBytes(b, s)
				if err := s.Close(); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				again, err := OpenBolt(BoltConfig{Path: s.cfg.Path})
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms/open")
				if err := again.Close(); err != nil {
					b.Fatal(err)
				}
				_, compact, err := Compact(context.Background(), s.cfg)
				if err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(grown)/float64(n), "B/fact")
				b.ReportMetric(float64(compact)/float64(n), "B/fact-compacted")
			}
		})
	}
}

func usedBytes(b *testing.B, s *Bolt) int64 {
	b.Helper()
	stat, err := s.Stat(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	return stat.SizeBytes
}
