package proxy_test

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"diffgate/proxy"
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
	if err == nil { // so small an answer may be cut before its header is out
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err == nil {
			t.Error("the client got the whole of a wrong blob")
		}
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

// Bytes to be hashed are asked for as they are: by a client's pull, by the proxy
// itself, and of a storage service.
func TestBlobsAreAskedForPlain(t *testing.T) {
	t.Parallel()
	blob := repeated(1000)
	path := "/v2/a/blobs/" + digest.FromBytes(blob).String()
	asked := make(chan string, 10)
	note := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Method + " " + strings.Join(r.Header.Values("Accept-Encoding"), ",")
			next.ServeHTTP(w, r)
		})
	}
	storage := newUpstream(t, note(serveBytes(blob, true)))
	registry := newUpstream(t, note(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, storage.URL, http.StatusTemporaryRedirect)
	})))
	for _, tt := range []struct {
		who, path string
		want      []string
	}{
		{"a client", path, []string{"GET identity", "GET identity"}},
		{"the proxy", "/v2/a/_diffids/blobs/" + digest.FromBytes(blob).String() + "?fetch=true",
			[]string{"HEAD identity", "HEAD identity", "GET identity", "GET identity"}},
	} {
		p := newProxy(t, registry.URL, nil)
		if a := do(t, http.MethodGet, p.URL+tt.path, nil, "Accept-Encoding", "gzip"); a.Status != http.StatusOK {
			t.Errorf("%s: got %d %s", tt.who, a.Status, a.Body)
		}
		var got []string
		for range tt.want {
			got = append(got, <-asked)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.who, diff)
		}
	}
}
