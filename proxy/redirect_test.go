package proxy_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
	"diffgate/verify"
	"diffgate/verify/verifytest"
)

// A registry that keeps its blobs elsewhere sends clients there. The proxy goes
// itself, so that a download is proven and learned from, whole or in part, and
// takes no credential along.
func TestDownloadsFollowRedirects(t *testing.T) {
	t.Parallel()
	blob := verifytest.Gzip(verifytest.Tar("etc/motd", strings.Repeat("hello\n", 1000)))
	dgst := digest.FromBytes(blob)
	for _, tt := range []struct {
		is     string
		method string
		header []string
		edit   func(*proxy.Config)
		status int
		body   []byte
		known  bool
	}{
		{"a whole blob", http.MethodGet, nil, nil, 200, blob, true},
		{"a part of it", http.MethodGet, []string{"Range", "bytes=10-19"}, nil, 206, blob[10:20], false},
		{"whether it is there", http.MethodHead, nil, nil, 200, nil, false},
		{"a whole blob, and redirects are passed", http.MethodGet, nil, func(c *proxy.Config) { c.PassRedirects = true }, 307, nil, false},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			storage := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, h := range []string{"Authorization", "Cookie", "X-Forwarded-For", "Referer"} {
					if v := r.Header.Get(h); v != "" {
						t.Errorf("the storage service got %s %q", h, v)
					}
				}
				w.Header().Set("Set-Cookie", "storage=1")
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(blob))
			}))
			d, reg := newDetour(t)
			redirectBlobs(d, func(dgst string) string { return storage.URL + "/" + dgst + "?signature=secret" })
			p := newProxy(t, reg.URL, tt.edit)
			got := do(t, tt.method, p.URL+"/v2/app/blobs/"+dgst.String(), nil,
				append(tt.header, "Authorization", "Bearer token", "Cookie", "session=1")...)
			if got.Status != tt.status || !bytes.Equal(got.Body, tt.body) {
				t.Errorf("got %d and %d bytes, want %d and %d", got.Status, len(got.Body), tt.status, len(tt.body))
			}
			if got.Header.Get("Set-Cookie") != "" || tt.status != 307 && got.Header.Get("Location") != "" {
				t.Errorf("got the header %v", got.Header)
			}
			for _, line := range p.Logs.All() {
				if strings.Contains(line.Message, "secret") || strings.Contains(cmp.Diff(nil, line.ContextMap()), "secret") {
					t.Errorf("the log tells the signed URL: %v", line)
				}
			}
			if p.knows(t, blob) != tt.known {
				t.Errorf("the blob is known: %t, want %t", !tt.known, tt.known)
			}
		})
	}
}

// What storage holds is proven like what the registry holds.
func TestRedirectToAWrongBlob(t *testing.T) {
	t.Parallel()
	storage := newUpstream(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("another blob")) // the reader may have enough of it
	}))
	d, reg := newDetour(t)
	redirectBlobs(d, func(dgst string) string { return storage.URL + "/" + dgst })
	p := newProxy(t, reg.URL, nil)
	res, err := client.Do(newRequest(t, http.MethodGet, p.URL+"/v2/app/blobs/"+objectDigest, nil))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := bytes.NewBuffer(nil).ReadFrom(res.Body); err == nil {
		t.Error("the client got the whole of a wrong blob")
	}
	if n := p.metric(t, "diffid_wrong_blobs_total"); n != 1 {
		t.Errorf("got %v wrong blobs counted, want 1", n)
	}
}

// A storage service that cannot be reached is an upstream that cannot.
func TestRedirectToNowhere(t *testing.T) {
	t.Parallel()
	for _, to := range []string{"http://127.0.0.1:1/x", "file:///etc/passwd", "gopher://127.0.0.1/", "http://%zz/"} {
		d, reg := newDetour(t)
		redirectBlobs(d, func(string) string { return to })
		p := newProxy(t, reg.URL, nil)
		got := do(t, http.MethodGet, p.URL+"/v2/app/blobs/"+objectDigest, nil)
		if got.Status != http.StatusBadGateway || got.codes() != "UNAVAILABLE" {
			t.Errorf("to %s: got %d %s, want 502 UNAVAILABLE", to, got.Status, got.Body)
		}
	}
}

// Blobs that came into a repository and did not pass are learned before their
// manifest comes.
func TestAhead(t *testing.T) {
	t.Parallel()
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	dgst := layer.Digest()
	on := func(c *proxy.Config) { c.Ahead = 0 }
	for _, tt := range []struct {
		is   string
		edit func(*proxy.Config)
		do   func(t *testing.T, base string)
		want bool
	}{
		{"a blob that a HEAD finds", on, func(t *testing.T, base string) {
			want(t, http.StatusOK, do(t, http.MethodHead, base+"/v2/other/blobs/"+dgst.String(), nil))
		}, true},
		{"a blob that is mounted", on, func(t *testing.T, base string) {
			want(t, http.StatusCreated, do(t, http.MethodPost, base+"/v2/app/blobs/uploads/?mount="+dgst.String()+"&from=other", nil))
		}, true},
		{"an upload of which a chunk came twice", on, func(t *testing.T, base string) {
			location := startUpload(t, base, "app")
			half := len(layer.Blob) / 2
			next := patch(t, base, location, bytes.NewReader(layer.Blob[:half]))
			again := do(t, http.MethodPatch, next, layer.Blob[:half], "Content-Type", octets, "Content-Range", fmt.Sprintf("0-%d", half-1))
			want(t, http.StatusRequestedRangeNotSatisfiable, again)
			next = patch(t, base, next, bytes.NewReader(layer.Blob[half:]))
			want(t, http.StatusCreated, do(t, http.MethodPut, withDigest(next, dgst), nil))
		}, true},
		{"a blob that a HEAD finds, and nobody wants it", func(c *proxy.Config) { c.Ahead = -1 }, func(t *testing.T, base string) {
			want(t, http.StatusOK, do(t, http.MethodHead, base+"/v2/other/blobs/"+dgst.String(), nil))
		}, false},
		{"a blob that a HEAD does not find", on, func(t *testing.T, base string) {
			want(t, http.StatusNotFound, do(t, http.MethodHead, base+"/v2/other/blobs/"+objectDigest, nil))
		}, false},
	} {
		t.Run(tt.is, func(t *testing.T) {
			t.Parallel()
			reg := newRegistry(t)
			pushBlob(t, reg.URL, "other", layer.Blob)
			p := newProxy(t, reg.URL, tt.edit)
			tt.do(t, p.URL)
			if tt.want {
				if diff := cmp.Diff(factAbout(t, layer.Blob, p.fact(t, dgst).Source), p.fact(t, dgst)); diff != "" {
					t.Errorf("fact (-want +got):\n%s", diff)
				}
			} else if p.knows(t, layer.Blob) {
				t.Error("the blob was learned")
			}
		})
	}
}

// What is known is not read again, and what is being learned is read once.
func TestAheadOnce(t *testing.T) {
	t.Parallel()
	requests := recordRequests(newRegistryHandler(t, nil))
	reg := newUpstream(t, requests)
	layer := verifytest.GzipLayer(verifytest.Tar("etc/motd", "hello\n"))
	dgst := pushBlob(t, reg.URL, "app", layer.Blob)
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Ahead = 0 })
	requests.take()
	for range 5 {
		want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+dgst.String(), nil))
	}
	p.fact(t, dgst)
	want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+dgst.String(), nil))
	p.Proxy.Close()
	reads := 0
	for _, line := range requests.take() {
		if strings.HasPrefix(line, "GET ") {
			reads++
		}
	}
	if reads != 1 {
		t.Errorf("the blob was read %d times, want once", reads)
	}
}

// A client without the right to read what it pushes loses nothing: the gate
// tries again.
func TestAheadWithoutTheRight(t *testing.T) {
	t.Parallel()
	d, reg := newDetour(t)
	img := verifytest.Honest(1)
	pushBlobs(t, reg.URL, "app", img)
	asked := make(chan struct{}, 10)
	d.answerWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlobGet(r, img.Layers[0].Digest()) {
			return false
		}
		asked <- struct{}{}
		w.WriteHeader(http.StatusUnauthorized)
		return true
	})
	p := newProxy(t, reg.URL, func(c *proxy.Config) { c.Ahead = 0 })
	want(t, http.StatusOK, do(t, http.MethodHead, p.URL+"/v2/app/blobs/"+img.Layers[0].Digest().String(), nil))
	<-asked
	d.answerWith(nil)
	want(t, http.StatusCreated, pushManifest(t, p.URL, img))
	if f := p.fact(t, img.Layers[0].Digest()); f.Source != verify.Fetched {
		t.Errorf("got a fact by %s", f.Source)
	}
}
