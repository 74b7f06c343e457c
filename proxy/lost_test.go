package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// newForgetful starts a registry that takes the first PATCH and loses its
// answer.
func newForgetful(t *testing.T) *httptest.Server {
	t.Helper()
	var lost atomic.Bool
	d, reg := newDetour(t)
	d.answerWith(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method != http.MethodPatch || lost.Swap(true) {
			return false
		}
		d.next.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	})
	return reg
}

// The upstream took a chunk and its answer was lost. However the client goes on,
// what the DiffID index knows then is right.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", strings.Repeat("b", 1<<16)))
	half, n := len(blob)/2, len(blob)
	status := func(t *testing.T, base, location string) (next string, from int) {
		t.Helper()
		a := want(t, http.StatusNoContent, do(t, http.MethodGet, location, nil))
		if _, err := fmt.Sscanf(a.Header.Get("Range"), "0-%d", &from); err != nil {
			t.Fatal(err)
		}
		return a.location(t, base), from + 1
	}
	finish := func(t *testing.T, base, next string, from int) {
		t.Helper()
		next = patch(t, base, next, bytes.NewReader(blob[from:]), "Content-Range", fmt.Sprintf("%d-%d", from, n-1))
		want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil))
	}
	for _, tt := range []struct {
		is   string
		goOn func(t *testing.T, base, location string)
	}{
		{"asks how far it came", func(t *testing.T, base, location string) {
			next, from := status(t, base, location)
			finish(t, base, next, from)
		}},
		{"sends the chunk again, and then asks", func(t *testing.T, base, location string) {
			want(t, http.StatusRequestedRangeNotSatisfiable,
				do(t, http.MethodPatch, location, blob[:half], "Content-Type", octets, "Content-Range", fmt.Sprintf("0-%d", half-1)))
			next, from := status(t, base, location)
			finish(t, base, next, from)
		}},
		{"asks, and sends the rest with the PUT", func(t *testing.T, base, location string) {
			next, from := status(t, base, location)
			want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), blob[from:], "Content-Type", octets))
		}},
	} {
		for queue, known := range map[int]bool{-1: false, 0: true} {
			t.Run(fmt.Sprintf("%s, ahead %t", tt.is, known), func(t *testing.T) {
				t.Parallel()
				p := newProxy(t, newForgetful(t).URL, func(c *proxy.Config) { c.Ahead = queue })
				location := startUpload(t, p.URL, "a")
				want(t, http.StatusBadGateway, do(t, http.MethodPatch, location, blob[:half], "Content-Type", octets))
				tt.goOn(t, p.URL, location)
				if known {
					p.fact(t, digest.FromBytes(blob))
				}
				if got := p.knows(t, blob); got != known {
					t.Errorf("the DiffID index knows the blob: %t, want %t", got, known)
				}
			})
		}
	}
}

// A registry that appends every chunk, whatever its range: what it has in the
// end is a blob, and known as that blob.
func TestChunksThatAreAppended(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", strings.Repeat("b", 1<<16)))
	n := len(blob)
	for _, tt := range []struct {
		is     string
		pieces [][2]int
		seen   bool // in one piece, in order
	}{
		{"in order", [][2]int{{0, 50}, {50, n}}, true},
		{"the last one first", [][2]int{{50, n}, {0, 50}}, false},
		{"the first one twice", [][2]int{{0, 50}, {0, 50}, {50, n}}, false},
		{"the last one twice", [][2]int{{0, 50}, {50, n}, {50, n}}, false},
		{"overlapping", [][2]int{{0, 50}, {40, n}}, false},
		{"a gap", [][2]int{{0, 50}, {60, n}}, false},
		{"back to the start", [][2]int{{0, 50}, {60, n}, {50, 60}}, false},
	} {
		for _, queue := range []int{-1, 0} {
			t.Run(fmt.Sprintf("%s, ahead %d", tt.is, queue), func(t *testing.T) {
				t.Parallel()
				registry := newRegistryHandler(t, nil)
				upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					r.Header.Del("Content-Range") // as version 2.8 does
					registry.ServeHTTP(w, r)
				}))
				p := newProxy(t, upstream.URL, func(c *proxy.Config) { c.Ahead = queue })
				next := startUpload(t, p.URL, "a")
				var whole []byte
				for _, piece := range tt.pieces {
					part := blob[piece[0]:piece[1]]
					whole = append(whole, part...)
					next = patch(t, p.URL, next, bytes.NewReader(part), "Content-Range", fmt.Sprintf("%d-%d", piece[0], piece[1]-1))
				}
				want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(next, digest.FromBytes(whole)), nil))
				if tt.seen || queue == 0 {
					source := map[bool]verify.Source{true: verify.Pushed, false: verify.Fetched}[tt.seen]
					if diff := cmp.Diff(factAbout(t, whole, source), p.fact(t, digest.FromBytes(whole))); diff != "" {
						t.Errorf("fact (-want +got)\n%s", diff)
					}
				} else if p.knows(t, whole) {
					t.Error("the DiffID index knows a blob whose bytes did not pass in one row")
				}
				if known := p.facts(t); len(known) > 1 {
					t.Errorf("the DiffID index learned %v", known)
				}
			})
		}
	}
}

// Two clients that push the same blob to the same repository at the same time
// have an upload each, and there is one fact in the end.
func TestTwoUploadsOfOneBlob(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", strings.Repeat("b", 1<<16)))
	third := len(blob) / 3
	p := newProxy(t, newRegistry(t).URL, nil)
	next := []string{startUpload(t, p.URL, "a"), startUpload(t, p.URL, "a")}
	for _, part := range [][]byte{blob[:third], blob[third : 2*third], blob[2*third:]} {
		for i := range next {
			next[i] = patch(t, p.URL, next[i], bytes.NewReader(part))
		}
	}
	for _, location := range slices.Backward(next) {
		want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(location, digest.FromBytes(blob)), nil))
	}
	if !p.knows(t, blob) {
		t.Error("the DiffID index does not know the blob")
	}
	wantFacts(t, p, []digest.Digest{digest.FromBytes(blob)})
}
