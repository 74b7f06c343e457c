package proxy_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A repeater gives out a piece again and again, and calls tick for each.
type repeater struct {
	piece []byte
	times int
	tick  func() // may be nil

	rest []byte
}

func (r *repeater) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.times == 0 {
			return 0, io.EOF
		}
		if r.tick != nil {
			r.tick()
		}
		r.rest = r.piece
		r.times--
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// hashOf returns the digest of all that r gives out.
func hashOf(t testing.TB, r io.Reader) digest.Digest {
	t.Helper()
	dgst, err := digest.FromReader(r)
	if err != nil {
		t.Fatal(err)
	}
	return dgst
}

// noise returns n bytes that nothing compresses.
func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// text returns about n bytes that compress well.
func text(n int) []byte {
	var b []byte
	for i := 0; len(b) < n; i++ {
		b = fmt.Appendf(b, "line %d of a file in a layer\n", i*i%1009)
	}
	return b
}

// A transfer takes the same little memory whatever the size of the blob.
func TestMemory(t *testing.T) { // not parallel: it measures the process
	const times, most = 256, 8 << 20
	piece := verifytest.Gzip(noise(1 << 20)) // many members in a row are a blob
	dgst := hashOf(t, &repeater{piece: piece, times: times})
	whole := func(tick func()) io.Reader { return &repeater{piece: piece, times: times, tick: tick} }

	// measure returns a function that is to be called for each piece, and one
	// that returns the most that the heap has grown by meanwhile.
	measure := func() (tick func(), grown func() int64) {
		before, peak, n := heap(), int64(0), 0
		return func() {
			if n++; n%(times/8) == 0 {
				peak = max(peak, heap()-before)
			}
		}, func() int64 { return peak }
	}

	t.Run("upload", func(t *testing.T) {
		p := newProxy(t, newUpstream(t, new(discarder)).URL, nil)
		tick, grown := measure()
		req := newRequest(t, http.MethodPut, withDigest(startUpload(t, p.URL, "a"), dgst), whole(tick))
		req.ContentLength = int64(times * len(piece))
		want(t, http.StatusCreated, send(t, req))
		if f := p.fact(t, dgst); f.Parts != times || f.Problem != verify.None {
			t.Errorf("learned %+v", f)
		}
		if grown() > most {
			t.Errorf("the heap grew by %d KiB", grown()>>10)
		}
		t.Logf("%d MiB passed; the heap grew by %d KiB", times*len(piece)>>20, grown()>>10)
	})
	t.Run("download by a slow client", func(t *testing.T) {
		upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if _, err := io.Copy(w, whole(nil)); err != nil {
				t.Error(err)
			}
		}))
		p := newProxy(t, upstream.URL, nil)
		tick, grown := measure()
		res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+dgst.String(), nil))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		buf := make([]byte, len(piece))
		for range times {
			if _, err := io.ReadFull(res.Body, buf); err != nil {
				t.Fatal(err)
			}
			tick() // the upstream waits meanwhile
		}
		if f := p.fact(t, dgst); f.Parts != times || f.Problem != verify.None {
			t.Errorf("learned %+v", f)
		}
		if grown() > most {
			t.Errorf("the heap grew by %d KiB", grown()>>10)
		}
		t.Logf("%d MiB passed; the heap grew by %d KiB", times*len(piece)>>20, grown()>>10)
	})
}

// Transfers that are slow, as those of many clients at once are, take less than
// 1 MiB each, with what client and upstream take in the same process.
func TestMemoryOfManyTransfers(t *testing.T) { // not parallel: it measures the process
	const n, most = 200, 200 << 20
	blob := repeater{piece: verifytest.Gzip(noise(64 << 10)), times: 2}
	whole := blob
	dgst := hashOf(t, &whole)
	for _, tt := range []struct {
		name string
		hold func(t *testing.T) (grown int64)
	}{
		{"uploads", func(t *testing.T) int64 {
			there := new(discarder)
			return holdUploads(t, there, n, newProxy(t, newUpstream(t, there).URL, nil).URL, dgst, blob)
		}},
		{"downloads", func(t *testing.T) int64 { return holdDownloads(t, n, dgst, blob) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			grown := tt.hold(t)
			if grown > most {
				t.Errorf("the heap grew by %d MiB, want at most %d", grown>>20, most>>20)
			}
			t.Logf("%d %s: the heap grew by %d MiB", n, tt.name, grown>>20)
		})
	}
}

// holdDownloads makes n downloads of a blob wait for each other in the middle,
// and returns by how much the heap has grown then.
func holdDownloads(t *testing.T, n int, dgst digest.Digest, blob repeater) int64 {
	t.Helper()
	var halves atomic.Int64 // of upstream and client
	goOn := make(chan struct{})
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		body, reads := blob, 0
		body.tick = func() {
			if reads++; reads == blob.times/2+1 {
				_ = http.NewResponseController(w).Flush() // the reader tells whether it came
				halves.Add(1)
				<-goOn
			}
		}
		_, _ = io.Copy(w, &body)
	}))
	p := newProxy(t, upstream.URL, nil)
	before := heap()
	var all sync.WaitGroup
	defer all.Wait()
	defer close(goOn)
	for range n {
		all.Go(func() {
			first := make([]byte, 1)
			res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/a/blobs/"+dgst.String(), nil))
			if err == nil {
				defer res.Body.Close()
				_, err = io.ReadFull(res.Body, first)
			}
			if err != nil {
				t.Error(err)
				return
			}
			halves.Add(1)
			if rest, err := io.Copy(io.Discard, res.Body); err != nil || rest != int64(blob.times*len(blob.piece)-1) {
				t.Errorf("got %d bytes more, %v", rest, err)
			}
		})
	}
	eventually(t, func() bool { return halves.Load() == int64(2*n) })
	return heap() - before
}

// BenchmarkManyUploads holds uploads in their middle, all at once, and tells
// what the heap has grown by for each: through the proxy, and straight to the
// upstream, which is what client and upstream take in the same process.
func BenchmarkManyUploads(b *testing.B) {
	const times = 64
	for name, piece := range map[string][]byte{
		"gzip": verifytest.Gzip(noise(1 << 20)),
		"zstd": storedZstd('a', 1), // whose window is 8 MiB
	} {
		dgst := hashOf(b, &repeater{piece: piece, times: times})
		for _, n := range []int{1, 50, 200} {
			there := new(discarder)
			upstream := newUpstream(b, there).URL
			for _, way := range []struct{ name, url string }{{"direct", upstream}, {"proxy", newProxy(b, upstream, nil).URL}} {
				b.Run(fmt.Sprintf("%s/%d/%s", name, n, way.name), func(b *testing.B) {
					for b.Loop() {
						grown := holdUploads(b, there, n, way.url, dgst, repeater{piece: piece, times: times})
						b.ReportMetric(float64(grown)/float64(n)/(1<<20), "MiB/transfer")
					}
				})
			}
		}
	}
}

// holdUploads makes n uploads of a blob wait for each other in the middle, and
// returns by how much the heap has grown then.
func holdUploads(b testing.TB, there *discarder, n int, base string, dgst digest.Digest, blob repeater) int64 {
	b.Helper()
	var half, all sync.WaitGroup
	half.Add(n)
	goOn := make(chan struct{})
	before, taken := heap(), there.taken.Load()
	for range n {
		body, reads := blob, 0
		body.tick = func() {
			if reads++; reads == blob.times/2+1 {
				half.Done()
				<-goOn
			}
		}
		req := newRequest(b, http.MethodPut, withDigest(startUpload(b, base, "a"), dgst), &body)
		req.ContentLength = int64(blob.times * len(blob.piece))
		all.Go(func() {
			res, err := client.Do(req)
			if err != nil {
				b.Error(err)
				return
			}
			res.Body.Close()
			if res.StatusCode != http.StatusCreated {
				b.Errorf("got %d, want 201", res.StatusCode)
			}
		})
	}
	half.Wait()
	// Some of what was sent is in buffers on the way.
	eventually(b, func() bool { return there.taken.Load()-taken >= int64(n*(blob.times/2)*len(blob.piece)/3) })
	grown := heap() - before
	close(goOn)
	all.Wait()
	return grown
}

// benchmarkBlobs are what the benchmarks transfer: about 64 MiB each.
func benchmarkBlobs() map[string]*repeater {
	gz := verifytest.Gzip(append(noise(1<<20), text(1<<20)...))
	return map[string]*repeater{
		"gzip":  {piece: gz, times: 64 << 20 / len(gz)},
		"plain": {piece: noise(1 << 20), times: 64},
	}
}

// BenchmarkUpload pushes blobs to an upstream that keeps nothing.
func BenchmarkUpload(b *testing.B) {
	for name, blob := range benchmarkBlobs() {
		dgst := hashOf(b, &repeater{piece: blob.piece, times: blob.times})
		size := int64(blob.times * len(blob.piece))
		upstream := newUpstream(b, new(discarder)).URL
		for _, way := range []struct{ name, url string }{{"direct", upstream}, {"proxy", newProxy(b, upstream, nil).URL}} {
			b.Run(name+"/"+way.name, func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					req := newRequest(b, http.MethodPut, withDigest(startUpload(b, way.url, "a"), dgst), &repeater{piece: blob.piece, times: blob.times})
					req.ContentLength = size
					want(b, http.StatusCreated, send(b, req))
				}
			})
		}
	}
}

// BenchmarkDownload pulls blobs whose upstream makes them up: one that the
// DiffID index does not know each time, and one that it does.
func BenchmarkDownload(b *testing.B) {
	for name, blob := range benchmarkBlobs() {
		whole := func() io.Reader { return &repeater{piece: blob.piece, times: blob.times} }
		dgst := hashOf(b, whole())
		size := int64(blob.times * len(blob.piece))
		upstream := newUpstream(b, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(size))
			_, _ = io.Copy(w, whole())
		})).URL
		known := newProxy(b, upstream, nil)
		ways := []struct {
			name string
			url  func(*testing.B) string
		}{
			{"direct", func(*testing.B) string { return upstream }},
			{"known", func(*testing.B) string { return known.URL }},
			{"unknown", func(b *testing.B) string { return newProxy(b, upstream, nil).URL }},
		}
		for _, way := range ways {
			b.Run(name+"/"+way.name, func(b *testing.B) {
				b.SetBytes(size)
				for b.Loop() {
					res, err := client.Do(newRequest(b, http.MethodGet, way.url(b)+"/v2/a/blobs/"+dgst.String(), nil))
					if err != nil {
						b.Fatal(err)
					}
					if n, err := io.Copy(io.Discard, res.Body); n != size || err != nil {
						b.Fatalf("got %d bytes of %d, %v", n, size, err)
					}
					res.Body.Close()
				}
			})
		}
	}
}
