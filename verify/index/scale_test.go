//go:build unix

package index

import (
	"context"
	"encoding/binary"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
)

// scaleEnv is the number of facts that BenchmarkScale works with.
const scaleEnv = "DIFFGATE_INDEX_FACTS"

// randomDigest returns a digest that no other kind and i have, faster than
// SHA-256 does.
func randomDigest(kind byte, i int) digest.Digest {
	rng := rand.NewPCG(uint64(kind), uint64(i))
	var sum [32]byte
	for n := 0; n < len(sum); n += 8 {
		binary.LittleEndian.PutUint64(sum[n:], rng.Uint64())
	}
	return formatSHA256(sum[:])
}

// scaleFact is layer with a digest that is cheap to make.
func scaleFact(i int) verify.Fact {
	return verify.Fact{
		Digest: randomDigest('d', i), Size: 30<<20 + int64(i), Encoding: verify.Gzip,
		Unpacked: randomDigest('u', i), UnpackedSize: 90<<20 + int64(i), Parts: 1,
		Source: verify.Pushed, LearnedAt: time.Unix(1_790_000_000+int64(i), 0).UTC(),
	}
}

// A stopwatch tells elapsed time, and processor time, which does not depend as
// much on what else the machine does.
type stopwatch struct{ elapsed, cpu time.Duration }

func now() stopwatch {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return stopwatch{time.Duration(time.Now().UnixNano()), time.Duration(u.Utime.Nano() + u.Stime.Nano())}
}

func (s stopwatch) since() stopwatch {
	n := now()
	return stopwatch{n.elapsed - s.elapsed, n.cpu - s.cpu}
}

// scaleFacts yields facts from to to, and adds up the time that making them
// takes.
func scaleFacts(from, to int, making *stopwatch) iter.Seq[verify.Fact] {
	return func(yield func(verify.Fact) bool) {
		const block = 1024
		for i := from; i < to; i += block {
			start := now()
			facts := make([]verify.Fact, 0, block)
			for j := i; j < min(i+block, to); j++ {
				facts = append(facts, scaleFact(j))
			}
			took := start.since()
			making.elapsed += took.elapsed
			making.cpu += took.cpu
			for _, f := range facts {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// BenchmarkScale reports what a DiffID index of many facts costs: how fast
// PutAll fills it with digests in random order, how large it is as it has grown
// and after Compact, and how long single calls take on it when it is warm. Run
// it with -benchtime=1x and DIFFGATE_INDEX_FACTS=10000000.
func BenchmarkScale(b *testing.B) {
	n := 100_000
	if s := os.Getenv(scaleEnv); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		measureScale(b, n)
	}
}

func measureScale(b *testing.B, n int) {
	cfg := BoltConfig{Path: filepath.Join(b.TempDir(), "diffids.db")}
	s := openScale(b, cfg)
	var making stopwatch
	begin := now()
	tally, err := s.PutAll(context.Background(), scaleFacts(0, n, &making), func(err error) { b.Error(err) })
	if err != nil || tally.Stored != int64(n) {
		b.Fatalf("PutAll = %+v, %v", tally, err)
	}
	took := begin.since()
	b.ReportMetric(float64(n)/(took.elapsed-making.elapsed).Seconds(), "bulk-facts/s")
	b.ReportMetric(float64(n)/(took.cpu-making.cpu).Seconds(), "bulk-facts/cpu-s")
	b.ReportMetric(float64(usedBytes(b, s))/float64(n), "B/fact")
	measurePuts(b, s, n)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	_, after, err := Compact(context.Background(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(time.Since(start).Seconds(), "compact-s")
	b.ReportMetric(float64(after)/float64(n), "B/fact-compacted")
	start = time.Now()
	s = openScale(b, cfg)
	b.ReportMetric(float64(time.Since(start).Milliseconds()), "open-ms")
	measureGets(b, s, n)
	measurePages(b, s)
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
}

func openScale(b *testing.B, cfg BoltConfig) *Bolt {
	b.Helper()
	s, err := OpenBolt(cfg)
	if err != nil {
		b.Fatal(err)
	}
	return s
}

// measureGets reports how long one Get after the other takes of facts at random:
// of 20 rounds, the least of each figure, and the median of that of which 1 in
// 100 takes longer, as other programs compete for the processor.
func measureGets(b *testing.B, s *Bolt, n int) {
	b.Helper()
	const rounds, gets = 20, 20_000
	figures := make(map[string][]float64)
	add := func(name string, d time.Duration) {
		figures[name] = append(figures[name], float64(d.Nanoseconds())/1000)
	}
	for range rounds {
		took := make([]time.Duration, gets)
		sum := time.Duration(0)
		for i := range took {
			d := randomDigest('d', rand.IntN(n))
			start := time.Now()
			if _, err := s.Get(context.Background(), d); err != nil {
				b.Fatal(err)
			}
			took[i] = time.Since(start)
			sum += took[i]
		}
		slices.Sort(took)
		add("get-mean-us", sum/gets)
		add("get-p50-us", took[gets/2])
		add("get-p99-us", took[gets-gets/100])
		add("get-p99.9-us", took[gets-gets/1000])
	}
	for name, all := range figures {
		b.ReportMetric(slices.Min(all), name)
	}
	slices.Sort(figures["get-p99-us"])
	b.ReportMetric(figures["get-p99-us"][rounds/2], "get-p99-median-us")
}

// measurePages reports how long a page of a list takes at either end.
func measurePages(b *testing.B, s *Bolt) {
	b.Helper()
	for name, after := range map[string]digest.Digest{"list-front-ns": "", "list-end-ns": "sha256:fff"} {
		best := time.Hour
		for range 200 {
			start := time.Now()
			if _, err := s.List(context.Background(), after, 100); err != nil {
				b.Fatal(err)
			}
			best = min(best, time.Since(start))
		}
		b.ReportMetric(float64(best.Nanoseconds()), name)
	}
}

// measurePuts reports how long the slowest of 100 Puts at once takes, and in
// how many commits they are stored.
func measurePuts(b *testing.B, s *Bolt, n int) {
	b.Helper()
	const rounds, puts = 20, 100
	file, err := s.current(context.Background())
	if err != nil {
		b.Fatal(err)
	}
	before, total := file.tx, time.Duration(0)
	for round := range rounds {
		start := time.Now()
		var wg sync.WaitGroup
		for i := range puts {
			wg.Go(func() {
				if err := s.Put(context.Background(), scaleFact(n+round*puts+i)); err != nil {
					b.Error(err)
				}
			})
		}
		wg.Wait()
		total += time.Since(start)
	}
	b.ReportMetric(float64(total.Microseconds())/rounds/1000, "put100-ms")
	b.ReportMetric(float64(file.tx-before)/rounds, "put100-commits")
}
