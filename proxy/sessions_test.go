package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify/index"
)

// Of more uploads than are followed at once, the one that rested longest is
// forgotten. It goes on; only the DiffID index does not learn of it.
func TestSessionsAreBounded(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, new(discarder)).URL, func(c *proxy.Config) { c.Sessions = 2 })
	var locations []string
	for range 3 {
		locations = append(locations, startUpload(t, p.URL, "a"))
	}
	var want []digest.Digest
	for i, location := range locations {
		blob := fmt.Appendf(nil, "blob %d", i)
		a := do(t, http.MethodPut, withDigest(location, digest.FromBytes(blob)), blob)
		if a.Status != http.StatusCreated {
			t.Errorf("upload %d: got %d, want 201", i, a.Status)
		}
		if i > 0 {
			want = append(want, digest.FromBytes(blob))
		}
	}
	wantFacts(t, p, want)
}

// Nor do more hold a decoder than memory is there for: each of these has a
// window of 8 MiB.
func TestSessionsMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const uploads, window, budget = 40, 8 << 20, 128 << 20
	p := newProxy(t, newUpstream(t, new(discarder)).URL, nil)
	var next []string
	var want []digest.Digest
	for i := range uploads {
		blob := storedZstd(byte(i), 1)
		location := startUpload(t, p.URL, "a")
		next = append(next, withDigest(patch(t, p.URL, location, bytes.NewReader(blob)), digest.FromBytes(blob)))
		if i >= uploads-budget/(window+1<<20) {
			want = append(want, digest.FromBytes(blob))
		}
	}
	for i, location := range next {
		if a := do(t, http.MethodPut, location, nil); a.Status != http.StatusCreated {
			t.Errorf("upload %d: got %d, want 201", i, a.Status)
		}
	}
	known := p.facts(t)
	if len(known) >= uploads || len(known) < len(want) {
		t.Errorf("%d of %d uploads were followed, want at least the last %d and not all", len(known), uploads, len(want))
	}
	for _, dgst := range want {
		if !slices.Contains(known, dgst) {
			t.Errorf("one of the last uploads was not followed")
		}
	}
}

// storedZstd returns a zstd frame of mib mebibytes of b that are not compressed,
// with a window of 8 MiB: a decoder must have come to it when one is written.
func storedZstd(b byte, mib int) []byte {
	const size = 128 << 10
	blob := []byte{0x28, 0xb5, 0x2f, 0xfd, 0, 13 << 3}
	for i := range 8 * mib {
		h := uint32(size << 3)
		if i == 8*mib-1 {
			h |= 1
		}
		blob = append(blob, byte(h), byte(h>>8), byte(h>>16))
		blob = append(blob, bytes.Repeat([]byte{b}, size)...)
	}
	return blob
}

// wantFacts compares what the DiffID index knows, in any order.
func wantFacts(t testing.TB, p *testProxy, want []digest.Digest) {
	t.Helper()
	wanted, known := map[digest.Digest]bool{}, map[digest.Digest]bool{}
	for _, dgst := range want {
		wanted[dgst] = true
	}
	for _, dgst := range p.facts(t) {
		known[dgst] = true
	}
	if diff := cmp.Diff(wanted, known); diff != "" {
		t.Errorf("learned (-want +got)\n%s", diff)
	}
}

// A session that is used stays; it is the rest between two requests that
// counts.
func TestSessionInUseStays(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, new(discarder)).URL, func(c *proxy.Config) { c.Sessions = 2 })
	first, second := startUpload(t, p.URL, "a"), startUpload(t, p.URL, "a")
	patch(t, p.URL, first, bytes.NewReader([]byte("fir")))
	third := startUpload(t, p.URL, "a")
	for location, rest := range map[string]string{first: "st", second: "second", third: "third"} {
		whole := rest
		if location == first {
			whole = "first"
		}
		do(t, http.MethodPut, withDigest(location, digest.FromString(whole)), []byte(rest))
	}
	wantFacts(t, p, []digest.Digest{digest.FromString("first"), digest.FromString("third")})
}

// An upload that its client gave up makes room.
func TestSessionGivenUp(t *testing.T) {
	t.Parallel()
	p := newProxy(t, newUpstream(t, new(discarder)).URL, func(c *proxy.Config) { c.Sessions = 2 })
	first, second := startUpload(t, p.URL, "a"), startUpload(t, p.URL, "a")
	do(t, http.MethodDelete, second, nil)
	startUpload(t, p.URL, "a")
	do(t, http.MethodPut, withDigest(first, digest.FromString("first")), []byte("first"))
	wantFacts(t, p, []digest.Digest{digest.FromString("first")})
}

// Of uploads that a registry gives the same name none is followed.
func TestSessionsOfOneName(t *testing.T) {
	t.Parallel()
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/v2/a/blobs/uploads/u")
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusCreated)
			return
		}
		w.WriteHeader(http.StatusAccepted)
	}))
	p := newProxy(t, upstream.URL, nil)
	location := startUpload(t, p.URL, "a")
	startUpload(t, p.URL, "a")
	do(t, http.MethodPut, withDigest(location, digest.FromString("blob")), []byte("blob"))
	wantFacts(t, p, nil)
}

// A session that rests for an hour is forgotten when the next one comes.
func TestSessionsAge(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &testProxy{Index: index.NewMemory()}
		var err error
		p.Proxy, err = proxy.New(proxy.Config{
			Upstream: &url.URL{Scheme: "http", Host: "upstream"}, Index: p.Index, Transport: through(new(discarder)),
		})
		if err != nil {
			t.Fatal(err)
		}
		serve := func(method, target string, body []byte) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			p.Proxy.ServeHTTP(w, httptest.NewRequest(method, target, bytes.NewReader(body)))
			return w
		}
		start := func() string { return serve(http.MethodPost, "/v2/a/blobs/uploads/", nil).Header().Get("Location") }
		put := func(location, blob string) {
			serve(http.MethodPut, withDigest(location, digest.FromString(blob)), []byte(blob))
		}
		slow, old := start(), start()
		time.Sleep(59 * time.Minute)
		fresh := start()
		put(slow, "slow")
		time.Sleep(2 * time.Minute)
		start()
		put(old, "old")
		put(fresh, "fresh")
		wantFacts(t, p, []digest.Digest{digest.FromString("slow"), digest.FromString("fresh")})
	})
}

// Of two requests on one upload at the same time neither saw all of it.
func TestTwoRequestsOnOneSession(t *testing.T) {
	t.Parallel()
	arrived, answer := make(chan struct{}, 2), make(chan struct{})
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "/v2/a/blobs/uploads/u")
		switch r.Method {
		case http.MethodPatch:
			arrived <- struct{}{}
			<-answer
			w.Header().Set("Range", "0-5") // of both
			w.WriteHeader(http.StatusAccepted)
		case http.MethodPost:
			w.WriteHeader(http.StatusAccepted)
		default:
			w.WriteHeader(http.StatusCreated)
		}
	}))
	p := newProxy(t, upstream.URL, nil)
	location := startUpload(t, p.URL, "a")
	done := make(chan error, 2)
	for _, part := range []string{"one", "two"} {
		go func() {
			res, err := client.Do(newRequest(t, http.MethodPatch, location, bytes.NewReader([]byte(part))))
			if err == nil {
				res.Body.Close()
			}
			done <- err
		}()
	}
	<-arrived
	<-arrived
	close(answer)
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for _, whole := range []string{"onetwo", "twoone", "one", "two"} {
		do(t, http.MethodPut, withDigest(location, digest.FromString(whole)), nil)
	}
	wantFacts(t, p, nil)
}

// Uploads that are begun and never ended take little memory.
func TestAbandonedSessions(t *testing.T) {
	p := newProxy(t, newUpstream(t, new(discarder)).URL, nil)
	before := heap()
	part := append([]byte{0x1f, 0x8b, 8}, make([]byte, 997)...)
	for i := range 3000 {
		location := startUpload(t, p.URL, "a")
		if i%10 == 0 {
			patch(t, p.URL, location, bytes.NewReader(part))
		}
	}
	if grown := heap() - before; grown > 64<<20 {
		t.Errorf("3000 abandoned uploads take %d MiB", grown>>20)
	} else {
		t.Logf("3000 abandoned uploads take %d KiB", grown>>10)
	}
}

// heap returns the bytes in use, goroutines' stacks too.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}
