package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// However the tap lost its place in an upload, the blob is fetched and learned
// before its manifest comes.
func TestAheadOfWhatWasLost(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("etc/motd", "hello\n"))
	half, dgst := len(blob)/2, digest.FromBytes(blob)
	finish := func(t *testing.T, base, location string) {
		t.Helper()
		want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(location, dgst), blob[half:], "Content-Type", octets))
	}
	for _, tt := range []struct {
		is  string
		run func(t *testing.T, d *detour, p *testProxy, upstream string) *testProxy // that learns the blob
	}{
		{"the client went away, and came again", func(t *testing.T, d *detour, p *testProxy, _ string) *testProxy {
			location := startUpload(t, p.URL, "app")
			ended := make(chan struct{})
			d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
				d.answerWith(nil)
				d.next.ServeHTTP(w, r)
				close(ended)
				return true
			})
			c := dialRaw(t, p.URL)
			head := rawRequest(http.MethodPatch, strings.TrimPrefix(location, p.URL), "Content-Type: "+octets, fmt.Sprintf("Content-Length: %d", len(blob)))
			if _, err := io.WriteString(c, head+string(blob[:half])); err != nil {
				t.Fatal(err)
			}
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			<-ended
			a := want(t, http.StatusNoContent, do(t, http.MethodGet, location, nil))
			var last int
			if _, err := fmt.Sscanf(a.Header.Get("Range"), "0-%d", &last); err != nil {
				t.Fatal(err)
			}
			from := last + 1
			if last == 0 { // none, or one; the registry says the same
				from = 0
			}
			want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(a.location(t, p.URL), dgst), blob[from:], "Content-Type", octets))
			return p
		}},
		{"the proxy was started again between two chunks", func(t *testing.T, _ *detour, p *testProxy, upstream string) *testProxy {
			next := patch(t, p.URL, startUpload(t, p.URL, "app"), bytes.NewReader(blob[:half]))
			again := newProxy(t, upstream, func(c *proxy.Config) { c.Ahead = 0 })
			finish(t, again.URL, strings.Replace(next, p.URL, again.URL, 1))
			return again
		}},
		{"too many others were followed", func(t *testing.T, _ *detour, p *testProxy, _ string) *testProxy {
			next := patch(t, p.URL, startUpload(t, p.URL, "app"), bytes.NewReader(blob[:half]))
			startUpload(t, p.URL, "app")
			finish(t, p.URL, next)
			return p
		}},
		{"the registry confirms another blob, which it holds", func(t *testing.T, d *detour, p *testProxy, upstream string) *testProxy {
			pushBlob(t, upstream, "app", blob)
			location := startUpload(t, p.URL, "app")
			d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method != http.MethodPut {
					return false
				}
				_, _ = io.Copy(io.Discard, r.Body)
				w.Header().Set("Docker-Content-Digest", dgst.String())
				w.WriteHeader(http.StatusCreated)
				return true
			})
			want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(location, dgst), []byte("another"), "Content-Type", octets))
			return p
		}},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			d, reg := newDetour(t)
			p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Ahead, c.Sessions = 0, 1 })
			p = tt.run(t, d, p, reg.URL)
			if diff := cmp.Diff(factAbout(t, blob, verify.Fetched), p.fact(t, dgst)); diff != "" {
				t.Errorf("fact (-want +got):\n%s", diff)
			}
			wantFacts(t, p, []digest.Digest{dgst})
		})
	}
}

// What finds no room in the queue is counted, and left to the gate.
func TestAheadDropped(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	var paths []string
	for i := range 4 {
		paths = append(paths, "/v2/app/blobs/"+pushBlob(t, reg.URL, "app", fmt.Append(nil, i)).String())
	}
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Ahead = 1 })
	reading, goOn := make(chan struct{}, len(paths)), make(chan struct{})
	d.answerWith(func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodGet {
			reading <- struct{}{}
			<-goOn
		}
		return false
	})
	want(t, http.StatusOK, do(t, http.MethodHead, p.URL+paths[0], nil))
	<-reading // so the queue is empty
	for i, path := range paths[1:] {
		want(t, http.StatusOK, do(t, http.MethodHead, p.URL+path, nil))
		if n := p.metric(t, "diffid_ahead_dropped_total"); n != float64(i) {
			t.Errorf("%v blobs of %d were dropped, want %d", n, i+2, i)
		}
	}
	close(goOn)
	for i := range 2 {
		p.fact(t, digest.FromBytes(fmt.Append(nil, i)))
	}
	if known := p.facts(t); len(known) != 2 {
		t.Errorf("the DiffID index learned %v, want the first and the one that waited", known)
	}
}

// A mount that the registry does not make begins an upload, and nothing else.
func TestMountThatIsNone(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	p := newProxy(t, newUpstream(t, requests).URL, func(c *proxy.Config) { c.Ahead = 0 })
	blob := verifytest.Gzip(verifytest.Tar("a", "b"))
	dgst := digest.FromBytes(blob)
	a := want(t, http.StatusAccepted, do(t, http.MethodPost, p.URL+"/v2/app/blobs/uploads/?from=other&mount="+dgst.String(), nil))
	if diff := cmp.Diff([]string{"POST /v2/app/blobs/uploads/?from=other&mount=" + dgst.String() + " len=0"}, requests.take()); diff != "" {
		t.Errorf("upstream requests (-want +got)\n%s", diff)
	}
	if _, err := p.Index.Get(t.Context(), dgst); err == nil {
		t.Error("the DiffID index knows a blob that nobody sent")
	}
	want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(a.location(t, p.URL), dgst), blob, "Content-Type", octets))
	if diff := cmp.Diff(factAbout(t, blob, verify.Pushed), p.fact(t, dgst)); diff != "" {
		t.Errorf("fact (-want +got)\n%s", diff)
	}
	for _, line := range requests.take() {
		if strings.HasPrefix(line, "GET ") {
			t.Errorf("the proxy asked %s", line)
		}
	}
}

// A registry that confirms another SHA-256 digest than that of the bytes that
// it was sent is counted.
func TestConfirmationOfAnotherBlob(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		is        string
		confirmed digest.Digest
		counted   float64
	}{
		{"the blob", digest.FromString("blob"), 0},
		{"another blob", digest.FromString("another"), 1},
		{"another algorithm, which is not compared", digest.SHA512.FromString("blob"), 0},
	} {
		upstream := newUpstream(t, &discarder{answer: func(h http.Header, _ *int) { h.Set("Docker-Content-Digest", tt.confirmed.String()) }})
		p := newProxy(t, upstream.URL, nil)
		do(t, http.MethodPut, withDigest(startUpload(t, p.URL, "a"), digest.FromString("blob")), []byte("blob"), "Content-Type", octets)
		if n := p.metric(t, "diffid_blobs_hashed_total", "direction", "push", "result", "digest_mismatch"); n != tt.counted {
			t.Errorf("%s: counted %v, want %v", tt.is, n, tt.counted)
		}
	}
}
