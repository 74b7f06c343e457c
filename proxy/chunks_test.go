package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// knows returns whether the DiffID index knows a blob, and fails the test when
// it says anything wrong about it. The proxy learns nothing afterwards.
func (p *testProxy) knows(t testing.TB, blob []byte) bool {
	t.Helper()
	p.Proxy.Close()
	f, err := p.Index.Get(context.Background(), digest.FromBytes(blob))
	if errors.Is(err, verify.ErrUnknown) {
		return false
	}
	if err != nil {
		t.Fatal(err)
	}
	f.LearnedAt = time.Time{}
	if diff := cmp.Diff(factAbout(t, blob, f.Source), f); diff != "" {
		t.Errorf("the DiffID index is wrong (-want +got)\n%s", diff)
	}
	return true
}

// A step sends a part of a blob in an upload.
type step struct {
	from, to int
	header   string // Content-Range; computed when empty, none when "-"
	status   int    // of distribution v3
}

// Chunks come twice, too early, overlapping, or with nonsense in their range.
// The upstream decides what becomes of them; the DiffID index knows the blob
// that the upstream took, or does not know it.
func TestChunks(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", strings.Repeat("b", 1<<16)))
	n := len(blob)
	tests := []struct {
		name  string
		steps []step
		put   int // the answer to the PUT
		known bool
	}{
		{"in order", []step{{0, 50, "", 202}, {50, n, "", 202}}, 201, true},
		{"in order, with a unit before the range", []step{{0, 50, "bytes 0-49", 500}, {0, n, "", 202}}, 201, false},
		{"too early, then in order", []step{{50, n, "", 416}, {0, 50, "", 202}, {50, n, "", 202}}, 201, false},
		{"the first one twice", []step{{0, 50, "", 202}, {0, 50, "", 416}, {50, n, "", 202}}, 201, false},
		{"overlapping", []step{{0, 50, "", 202}, {40, n, "", 416}, {50, n, "", 202}}, 201, false},
		{"a gap", []step{{0, 50, "", 202}, {60, n, "", 416}, {50, n, "", 202}}, 201, false},
		{"a range that is longer than the chunk", []step{{0, 50, "0-59", 400}, {0, n, "", 202}}, 201, false},
		{"the end only", []step{{50, n, "-", 202}}, 400, false},
		{"twice, without ranges", []step{{0, n, "-", 202}, {0, n, "-", 202}}, 400, false},
		{"the total in the range", []step{{0, 50, fmt.Sprintf("0-49/%d", n), 500}, {0, n, "", 202}}, 201, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p := newProxy(t, newRegistry(t).URL, nil)
			next := startUpload(t, p.URL, "a")
			for _, s := range tt.steps {
				header := []string{"Content-Type", octets}
				switch s.header {
				case "-":
				case "":
					header = append(header, "Content-Range", fmt.Sprintf("%d-%d", s.from, s.to-1))
				default:
					header = append(header, "Content-Range", s.header)
				}
				a := do(t, http.MethodPatch, next, blob[s.from:s.to], header...)
				if a.Status != s.status {
					t.Fatalf("PATCH of %d-%d: got %d %s, want the registry's %d", s.from, s.to, a.Status, a.Body, s.status)
				}
				if a.Status == http.StatusAccepted {
					next = a.location(t, p.URL)
				}
			}
			a := do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil)
			if a.Status != tt.put {
				t.Errorf("PUT: got %d %s, want the registry's %d", a.Status, a.Body, tt.put)
			}
			if known := p.knows(t, blob); known != tt.known {
				t.Errorf("the DiffID index knows the blob: %t, want %t", known, tt.known)
			}
		})
	}
}

// A client that lost its connection in the middle of a PATCH asks how far it
// came and goes on from there.
func TestResume(t *testing.T) {
	t.Parallel()
	blob := append(verifytest.Gzip(verifytest.Tar("a", "b")), make([]byte, 1<<20)...)
	var busy atomic.Int32
	registry := newRegistryHandler(t, nil)
	upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		busy.Add(1)
		defer busy.Add(-1)
		registry.ServeHTTP(w, r)
	}))
	p := newProxy(t, upstream.URL, nil)
	next := startUpload(t, p.URL, "a")
	c := dialRaw(t, p.URL)
	head := rawRequest(http.MethodPatch, strings.TrimPrefix(next, p.URL), "Content-Type: "+octets, fmt.Sprintf("Content-Length: %d", len(blob)))
	if _, err := c.Write(append([]byte(head), blob[:len(blob)/2]...)); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return busy.Load() == 1 })
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() bool { return busy.Load() == 0 })
	a := do(t, http.MethodGet, next, nil)
	next = a.location(t, p.URL)
	var last int
	if _, err := fmt.Sscanf(a.Header.Get("Range"), "0-%d", &last); err != nil || last == 0 {
		t.Fatalf("the registry has the range %q", a.Header.Get("Range"))
	}
	if last >= len(blob)-1 {
		t.Fatalf("the registry has %d bytes of %d: nothing was cut", last+1, len(blob))
	}
	rest := blob[last+1:]
	next = patch(t, p.URL, next, bytes.NewReader(rest), "Content-Range", fmt.Sprintf("%d-%d", last+1, len(blob)-1))
	if a := do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), nil); a.Status != http.StatusCreated {
		t.Fatalf("PUT: got %d %s, want 201", a.Status, a.Body)
	}
	if p.knows(t, blob) {
		t.Error("the DiffID index knows a blob whose bytes did not pass in one row")
	}
}

// A session belongs to its repository, and its end is its end.
func TestForeignSession(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	half := len(blob) / 2
	p := newProxy(t, newUpstream(t, new(discarder)).URL, nil)
	next := startUpload(t, p.URL, "a")
	patch(t, p.URL, next, bytes.NewReader(blob[:half]))
	do(t, http.MethodPut, withDigest(strings.Replace(next, "/v2/a/", "/v2/b/", 1), digest.FromBytes(blob[half:])), blob[half:], "Content-Type", octets)
	do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), blob[half:], "Content-Type", octets)
	do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob[half:])), blob[half:], "Content-Type", octets)
	if diff := cmp.Diff([]digest.Digest{digest.FromBytes(blob)}, p.facts(t)); diff != "" {
		t.Errorf("learned (-want +got)\n%s", diff)
	}
}

// The tap believes the upstream's word on how far an upload has come, and no
// other.
func TestRangeOfTheUpstream(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	half := len(blob) / 2
	right := fmt.Sprintf("0-%d", half-1)
	tests := []struct {
		name, rng, location string
		known               bool
	}{
		{"as far as we saw", right, "/v2/a/blobs/uploads/u", true},
		{"elsewhere, and followed there", right, "/v2/a/blobs/uploads/moved?x=y", true},
		{"less", "0-5", "/v2/a/blobs/uploads/u", false},
		{"more", fmt.Sprintf("0-%d", half), "/v2/a/blobs/uploads/u", false},
		{"not from the start", fmt.Sprintf("1-%d", half-1), "/v2/a/blobs/uploads/u", false},
		{"nothing", "", "/v2/a/blobs/uploads/u", false},
		{"something else", "bytes", "/v2/a/blobs/uploads/u", false},
		{"no Location", right, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			upstream := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					t.Error(err)
				}
				h := w.Header()
				switch r.Method {
				case http.MethodPost:
					h.Set("Location", "/v2/a/blobs/uploads/u")
					w.WriteHeader(http.StatusAccepted)
				case http.MethodPatch:
					h.Set("Range", tt.rng)
					h.Set("Location", tt.location)
					w.WriteHeader(http.StatusAccepted)
				case http.MethodPut:
					h.Set("Docker-Content-Digest", digest.FromBytes(blob).String())
					w.WriteHeader(http.StatusCreated)
				}
			}))
			p := newProxy(t, upstream.URL, nil)
			a := do(t, http.MethodPatch, startUpload(t, p.URL, "a"), blob[:half], "Content-Type", octets)
			next := p.URL + "/v2/a/blobs/uploads/u"
			if tt.location != "" {
				next = a.location(t, p.URL)
			}
			do(t, http.MethodPut, withDigest(next, digest.FromBytes(blob)), blob[half:], "Content-Type", octets)
			if known := p.knows(t, blob); known != tt.known {
				t.Errorf("the DiffID index knows the blob: %t, want %t", known, tt.known)
			}
		})
	}
}
